"""A server and, for each test, a database with two metrics of four series; sessions.py steers who does what when.

The extension must be installed where PG_CONFIG points: tests/sql/run sees to it.
"""
import pathlib
import sys
import time

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "catalog")]
from cluster import Cluster
from database import Database, series
from sessions import Session

HOUR = 3_600_000
NODES = [dict(namespace=f"ns{i % 2}", node=f"n{i}") for i in range(4)]


class Store(Database):
    """The database, what was written to it, and sessions that end with the test."""

    def __init__(self, server, name):
        super().__init__(server, name)
        self.sessions = []
        self.t0 = int(time.time()) // 3600 * HOUR - 6 * HOUR
        self.got = {name: self.resolve([series(name, **n) for n in NODES]) for name in ("cpu_usage", "cpu_total")}
        self.metric = {name: got.metrics[0] for name, got in self.got.items()}
        self.next_minute = 0
        for minutes in (60, 60):
            self.ingest(minutes)
            self.sql("SELECT _prom_ext.merge_step()")
        self.ingest(60)
        self.views()
        self.conn.close()
        self.conn = self.connect()  # now with the search_path

    def session(self, user="postgres"):
        self.sessions.append(Session(self, user))
        return self.sessions[-1]

    def ingest(self, minutes, names=("cpu_usage", "cpu_total"), value=1.0):
        """A sample a minute of each series, in one transaction: sums say how many there are."""
        self.sql("BEGIN")
        for name in names:
            self.block("fresh", self.metric[name], [
                (self.metric[name], s, self.t0 + 60_000 * (self.next_minute + i), value)
                for s in self.got[name].series for i in range(minutes)])
        self.sql("COMMIT")
        self.next_minute += minutes

    def fold(self):
        return self.sql("SELECT did, busy FROM _prom_ext.merge_step()")[0]

    def seal(self):
        self.sql("SELECT _prom_catalog.ensure_partitions()")
        return self.sql("SELECT did, busy FROM _prom_ext.seal_step(true)")[0]

    def finish(self):
        for s in self.sessions:
            s.close()
        self.close()


@pytest.fixture(scope="session")
def server():
    s = Cluster("statement_timeout = '100s'\ndeadlock_timeout = '200ms'\nlog_min_messages = warning")
    yield s
    s.close()


@pytest.fixture
def db(server):
    d = Store(server, server.new_database())
    yield d
    d.finish()
    server.drop(d.name)
