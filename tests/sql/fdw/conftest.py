"""A PostgreSQL for these tests: unix socket only, own folder, killed at the end.

The SQL parts of the extension are run as they stand, with the library's path put in place of
MODULE_PATHNAME, so that no installation is needed and none is disturbed.
"""

import os
import pathlib
import pwd
import shutil
import subprocess
import tempfile

import psycopg2
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
PG_CONFIG = os.environ.get("PG_CONFIG", "/usr/lib/postgresql/15/bin/pg_config")
PARTS = ["010-schemas-and-roles", "020-catalog", "030-blocks", "050-samples"]


def pg_bin():
    return pathlib.Path(subprocess.check_output([PG_CONFIG, "--bindir"], text=True).strip())


def library():
    if "PROMSCALE_LIBRARY" in os.environ:
        return pathlib.Path(os.environ["PROMSCALE_LIBRARY"])
    version = subprocess.check_output([PG_CONFIG, "--version"], text=True).split()[1].split(".")[0]
    return ROOT / "build" / f"extension-{version}" / "promscale.so"


class Server:
    def __init__(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="fdwtest."))
        self.dir.chmod(0o755)
        self.data = self.dir / "pg"
        self.data.mkdir()
        self.as_postgres = []
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self.data, user.pw_uid, user.pw_gid)
            self.as_postgres = ["runuser", "-u", "postgres", "--"]
        # the server's user may not reach the build folder
        self.library = self.dir / "promscale.so"
        shutil.copy(library(), self.library)
        self.library.chmod(0o755)
        self.run("initdb", "-D", self.data, "-A", "trust", "-U", "postgres", "--no-locale",
                 "-E", "UTF8", "-k")
        with open(self.data / "postgresql.conf", "a") as conf:
            conf.write(f"listen_addresses=''\nunix_socket_directories='{self.data}'\n"
                       "fsync=off\nshared_buffers=64MB\nmax_connections=20\nport=54399\njit=off\n")
        self.run("pg_ctl", "-D", self.data, "-l", self.data / "log", "-w", "start")

    def run(self, program, *args):
        subprocess.run([*self.as_postgres, pg_bin() / program, *map(str, args)], check=True,
                       stdout=subprocess.DEVNULL, cwd="/")

    def connect(self, database="postgres", user="postgres"):
        conn = psycopg2.connect(host=str(self.data), port=54399, dbname=database, user=user)
        conn.autocommit = True
        return conn

    def create(self, database, everything=False):
        """everything: also catalog functions, views, maintenance; without what CREATE EXTENSION must do."""
        conn = self.connect()
        conn.cursor().execute(f"CREATE DATABASE {database}")
        conn.close()
        conn = self.connect(database)
        for path in sorted((ROOT / "extension" / "sql").glob("[0-9]*.sql")):
            if path.stem == "095-dump" or not (everything or path.stem in PARTS):
                continue
            text = path.read_text()
            conn.cursor().execute(text.replace("MODULE_PATHNAME", str(self.library)))
        conn.close()

    def stop(self):
        self.run("pg_ctl", "-D", self.data, "-m", "immediate", "-w", "stop")
        shutil.rmtree(self.dir, ignore_errors=True)


@pytest.fixture(scope="session")
def server():
    s = Server()
    yield s
    s.stop()
