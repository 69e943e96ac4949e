"""One throw-away cluster for these tests (user postgres, unix socket only); each test gets a database of its
own with the extension in it. The extension must be installed where PG_CONFIG points: tests/sql/run sees to it.
"""
import itertools
import os
import pathlib
import pwd
import random
import shutil
import subprocess
import tempfile

import psycopg2
import pytest

from database import Database

ROOT = pathlib.Path(__file__).resolve().parents[3]
PG_CONFIG = os.environ.get("PG_CONFIG", "/usr/lib/postgresql/15/bin/pg_config")


class Server:
    def __init__(self, conf=""):
        self.bin = pathlib.Path(subprocess.check_output([PG_CONFIG, "--bindir"], text=True).strip())
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="catalog."))
        self.dir.chmod(0o755)
        self.data = self.dir / "pg"
        self.data.mkdir()
        self.port = random.randrange(20000, 60000)
        self.as_postgres = []
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self.data, user.pw_uid, user.pw_gid)
            self.as_postgres = ["runuser", "-u", "postgres", "--"]
        self.run("initdb", "-D", self.data, "-A", "trust", "-U", "postgres", "--no-locale", "-E", "UTF8", "-N")
        with open(self.data / "postgresql.conf", "a", encoding="utf-8") as f:
            f.write(f"listen_addresses = ''\nunix_socket_directories = '{self.data}'\nport = {self.port}\n"
                    f"fsync = off\nshared_buffers = 64MB\nmax_connections = 40\n{conf}\n")
        self.run("pg_ctl", "-D", self.data, "-l", self.data / "log", "-w", "start")
        self.names = itertools.count(1)

    def run(self, program, *args, check=True, **kw):
        """One of PostgreSQL's programs, as the cluster's user."""
        kw.setdefault("stdout", subprocess.PIPE)
        return subprocess.run([*self.as_postgres, str(self.bin / program), *map(str, args)], check=check,
                              stderr=subprocess.PIPE, text=True, cwd="/", timeout=300, **kw)

    def client(self, program, *args, **kw):
        """The same for programs that connect."""
        return self.run(program, "-h", self.data, "-p", self.port, "-U", "postgres", *args, **kw)

    def connect(self, database="postgres", user="postgres"):
        conn = psycopg2.connect(host=str(self.data), port=self.port, dbname=database, user=user)
        conn.autocommit = True
        return conn

    def create(self, extension="CREATE EXTENSION promscale"):
        name = f"t{next(self.names)}"
        conn = self.connect()
        conn.cursor().execute(f"CREATE DATABASE {name}")
        conn.close()
        if extension:
            conn = self.connect(name)
            conn.cursor().execute(extension)
            conn.close()
        return Database(self, name)

    def drop(self, name):
        conn = self.connect()
        conn.cursor().execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        conn.close()

    def close(self):
        self.run("pg_ctl", "-D", self.data, "-m", "immediate", "-w", "stop", check=False)
        shutil.rmtree(self.dir, ignore_errors=True)


@pytest.fixture(scope="session")
def server():
    s = Server()
    yield s
    s.close()


@pytest.fixture
def db(server):
    d = server.create()
    yield d
    d.close()
    server.drop(d.name)


@pytest.fixture(scope="module")
def shared_db(server):
    """For tests of one file that do not disturb each other."""
    d = server.create()
    yield d
    d.close()
    server.drop(d.name)
