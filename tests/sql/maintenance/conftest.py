"""A PostgreSQL for these tests: unix socket only, own folder, killed at the end.

The extension must be installed in the PostgreSQL that PG_CONFIG names. One server for all tests; each
test has a database of its own. Tests that need another configuration start a server for themselves.
"""

import itertools
import os
import pathlib
import pwd
import shutil
import subprocess
import tempfile

import psycopg2
import pytest

from store import Store

PG_CONFIG = os.environ.get("PG_CONFIG", "/usr/lib/postgresql/15/bin/pg_config")


class Server:
    def __init__(self, conf=""):
        self.bin = pathlib.Path(subprocess.check_output([PG_CONFIG, "--bindir"], text=True).strip())
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="maint."))
        self.dir.chmod(0o755)
        self.data = self.dir / "pg"
        self.data.mkdir()
        self.as_postgres = []
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self.data, user.pw_uid, user.pw_gid)
            self.as_postgres = ["runuser", "-u", "postgres", "--"]
        self.run("initdb", "-D", self.data, "-A", "trust", "-U", "postgres", "--no-locale", "-E", "UTF8", "-k")
        with open(self.data / "postgresql.conf", "a", encoding="utf-8") as f:
            f.write(f"listen_addresses = ''\nunix_socket_directories = '{self.data}'\nport = 54388\n"
                    f"fsync = off\nshared_buffers = 64MB\nmax_connections = 30\n{conf}\n")
        self.start()
        self.names = itertools.count(1)

    def run(self, program, *args, check=True):
        return subprocess.run([*self.as_postgres, str(self.bin / program), *map(str, args)], check=check,
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd="/", timeout=120)

    def start(self):
        self.run("pg_ctl", "-D", self.data, "-l", self.data / "log", "-w", "start")

    def stop(self, mode="immediate"):
        self.run("pg_ctl", "-D", self.data, "-m", mode, "-w", "stop", check=False)

    def close(self):
        self.stop()
        shutil.rmtree(self.dir, ignore_errors=True)

    def log(self):
        return (self.data / "log").read_text(encoding="utf-8", errors="replace")

    def connect(self, database="postgres", user="postgres"):
        conn = psycopg2.connect(host=str(self.data), port=54388, dbname=database, user=user)
        conn.autocommit = True
        return conn

    def sql(self, text, database="postgres"):
        conn = self.connect(database)
        try:
            with conn.cursor() as cur:
                cur.execute(text)
                return cur.fetchall() if cur.description else None
        finally:
            conn.close()

    def create(self, extension=True):
        name = f"t{next(self.names)}"
        self.sql(f"CREATE DATABASE {name}")
        if extension:
            self.sql("CREATE EXTENSION promscale", name)
        return name


@pytest.fixture(scope="session")
def server():
    s = Server()
    yield s
    s.close()


@pytest.fixture
def store(server):
    st = Store(server, server.create())
    yield st
    st.close()


@pytest.fixture
def make_server():
    made = []

    def make(conf):
        made.append(Server(conf))
        return made[-1]

    yield make
    for s in made:
        s.close()
