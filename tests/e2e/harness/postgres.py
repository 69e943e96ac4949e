"""A PostgreSQL cluster that the test makes itself: somebody's own database, for --db.uri."""
import os
import subprocess
from pathlib import Path

import psycopg2

from .process import SLOW, Process, free_port, wait_until

# Another PostgreSQL, with our extension installed in it (tests/tools/private-postgres makes one); the
# embedded server is then taken from there, too.
BIN_IS_CHOSEN = "PROMSCALE_TEST_PG_BIN" in os.environ
BIN = Path(os.environ.get("PROMSCALE_TEST_PG_BIN", "/usr/lib/postgresql/15/bin"))


def unprivileged():
    """Arguments for subprocess: PostgreSQL does not run as root."""
    if os.geteuid() != 0:
        return {}
    return {"user": "postgres", "group": "postgres", "extra_groups": []}


class Cluster:
    """initdb'ed with superuser postgres, trusting its socket (in a private folder) and loopback."""

    def __init__(self, folder, name="cluster", conf="", initdb_args=("--locale=C", "--encoding=UTF8")):
        self.folder = Path(folder) / name
        self.folder.mkdir(mode=0o700)
        if os.geteuid() == 0:
            import pwd
            entry = pwd.getpwnam("postgres")
            os.chown(self.folder, entry.pw_uid, entry.pw_gid)
        self.name = name
        self.data = self.folder / "pg"
        self.port = free_port()
        self.process = None
        self.starts = 0
        self.run("initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-N", *initdb_args)
        with open(self.data / "postgresql.conf", "a", encoding="utf-8") as f:
            f.write(f"\nlisten_addresses = '127.0.0.1'\nport = {self.port}\n"
                    f"unix_socket_directories = '{self.folder}'\nshared_buffers = 32MB\n{conf}\n")

    def run(self, program, *args, check=True, **kw):
        """One of PostgreSQL's programs as the cluster's user."""
        return subprocess.run([str(BIN / program), *map(str, args)], check=check, capture_output=True, text=True,
                              cwd="/", timeout=120 * SLOW, **unprivileged(), **kw)

    def start(self):
        self.starts += 1
        self.process = Process(f"{self.name}-{self.starts}", [BIN / "postgres", "-D", self.data], self.folder.parent,
                               cwd="/", **unprivileged())
        wait_until("the cluster does not start", lambda: self.run("pg_isready", "-h", self.folder, "-p", self.port,
                                                                  check=False).returncode == 0, 60)
        return self

    def stop(self, number=2):  # SIGINT: fast
        return self.process.stop(number)

    def uri(self, database="promscale", user="postgres"):
        return f"postgres://{user}@127.0.0.1:{self.port}/{database}?sslmode=disable"

    def connect(self, database="postgres", user="postgres"):
        conn = psycopg2.connect(self.uri(database, user))
        conn.autocommit = True
        return conn

    def sql(self, query, params=None, database="postgres", user="postgres"):
        conn = self.connect(database, user)
        try:
            with conn.cursor() as cur:
                cur.execute(query, params)
                return cur.fetchall() if cur.description else []
        finally:
            conn.close()

    def close(self):
        if self.process and self.process.running():
            self.process.stop(3)  # SIGQUIT: immediate
