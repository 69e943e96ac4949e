"""A throw-away PostgreSQL for the suites of tests/sql: made by initdb, user postgres, a unix socket in its own
folder, nothing on disk that must survive, no autovacuum (its transactions hold back VACUUM and the feed whenever they
please). Each conftest.py makes its own kind of database in it.
"""
import itertools
import os
import pathlib
import pwd
import random
import shutil
import subprocess
import tempfile
import time

import psycopg2
import pytest

PG_CONFIG = os.environ.get("PG_CONFIG", "/usr/lib/postgresql/15/bin/pg_config")
CONF = """
listen_addresses = ''
unix_socket_directories = '{folder}'
port = {port}
fsync = off
autovacuum = off
shared_buffers = 64MB
max_connections = 40
"""


class Connection(psycopg2.extensions.connection):
    """One whose close() returns when its backend has ended: what that held (a snapshot, locks, a slot) is free then."""
    def close(self):
        idle = not self.closed and self.info.transaction_status != psycopg2.extensions.TRANSACTION_STATUS_ACTIVE
        backend = pathlib.Path(f"/proc/{self.info.backend_pid}") if idle else None
        super().close()
        deadline = time.monotonic() + 20
        while backend and backend.exists() and time.monotonic() < deadline:
            time.sleep(0.001)


def early_enough():
    """Who says "today" or "this hour" in a test means one of them: in its last seconds the next one is waited for."""
    for length, room in ((86400, 45), (3600, 8)):
        left = length - time.time() % length
        if left < room:
            time.sleep(left)


class Cluster:
    def __init__(self, conf=""):
        self.bin = pathlib.Path(subprocess.check_output([PG_CONFIG, "--bindir"], text=True).strip())
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="sql."))
        self.dir.chmod(0o755)
        self.data = self.dir / "pg"
        self.data.mkdir()
        self.port = random.randrange(20000, 60000)
        self.names = itertools.count(1)
        self.as_postgres = []
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self.data, user.pw_uid, user.pw_gid)
            self.as_postgres = ["runuser", "-u", "postgres", "--"]
        self.run("initdb", "-D", self.data, "-A", "trust", "-U", "postgres", "--no-locale", "-E", "UTF8", "-N", "-k")
        with open(self.data / "postgresql.conf", "a", encoding="utf-8") as f:
            f.write(CONF.format(folder=self.data, port=self.port) + conf + "\n")
        self.start()

    def run(self, program, *args, check=True, **kw):
        """One of PostgreSQL's programs, as the cluster's user."""
        kw.setdefault("stdout", subprocess.PIPE)
        os.environ.setdefault("PGCTLTIMEOUT", "240")  # a busy machine may need more than the usual minute
        return subprocess.run([*self.as_postgres, str(self.bin / program), *map(str, args)], check=check,
                              stderr=subprocess.PIPE, text=True, cwd="/", **{"timeout": 300, **kw})

    def client(self, program, *args, **kw):
        """The same for programs that connect."""
        return self.run(program, "-h", self.data, "-p", self.port, "-U", "postgres", *args, **kw)

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
        conn = psycopg2.connect(host=str(self.data), port=self.port, dbname=database, user=user,
                                connection_factory=Connection)
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

    def new_database(self, name=None, script="CREATE EXTENSION promscale"):
        early_enough()
        name = name or f"t{next(self.names)}"
        self.sql(f"CREATE DATABASE {name}")
        if script:
            self.sql(script, name)
        return name

    def drop(self, name):
        self.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def fixtures(make_server):
    """The fixtures server, db (one a test) and shared_db (one a file, for tests that do not disturb each other) of
    suites whose server makes databases by create()."""
    @pytest.fixture(scope="session")
    def server():
        s = make_server()
        yield s
        s.close()

    def database(server):
        d = server.create()
        yield d
        d.close()
        server.drop(d.name)

    return server, pytest.fixture(database), pytest.fixture(database, scope="module")
