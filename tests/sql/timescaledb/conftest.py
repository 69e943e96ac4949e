"""A server that preloads TimescaleDB; databases with both extensions, and the samples that the tests read."""
import pathlib
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "catalog")]
from cluster import Cluster
from database import Database, series

T0 = 1_714_521_600_000  # 2024-05-01 00:00Z
STEP = 30_000
SAMPLES = 2880  # a day
HOSTS = ("a", "b", "c")
BOTH = "CREATE EXTENSION timescaledb; CREATE EXTENSION promscale"


def value(host, i):
    return HOSTS.index(host) * 1000.0 + i % 97


def load(db):
    """cpu_usage{host}: a day, every 30 s, in the three places where samples live."""
    got = db.resolve([series("cpu_usage", host=h, job="node") for h in HOSTS])
    metric = got.metrics[0]
    ids = dict(zip(HOSTS, got.series))
    db.partition(T0)
    for table, form, begin, end in (("block", "sealed", 0, 960), ("merged", "merged", 960, 2000),
                                    ("fresh", "flush", 2000, SAMPLES)):
        db.block(table, metric, [(metric, ids[h], T0 + i * STEP, value(h, i))
                                 for h in HOSTS for i in range(begin, end)], form)
    db.views()
    return ids


class Server(Cluster):
    def __init__(self, preload="timescaledb"):
        super().__init__(f"shared_preload_libraries = '{preload}'\ntimescaledb.telemetry_level = off\n"
                         "timezone = 'UTC'\nstatement_timeout = '100s'")

    def create(self, script=BOTH, name=None):
        """script: statements, one by one, each in a transaction of its own."""
        db = Database(self, self.new_database(name, script=None))
        for statement in filter(None, map(str.strip, (script or "").split(";"))):
            db.sql(statement)
        self.reconnect(db)
        return db

    def reconnect(self, db):
        """A fresh session: for its search_path, and because TimescaleDB can be made in no other."""
        db.conn.close()
        db.conn = self.connect(db.name)

    def remove(self, db):
        db.close()
        self.drop(db.name)


@pytest.fixture(scope="session")
def server():
    s = Server()
    yield s
    s.close()


@pytest.fixture(scope="module")
def db(server):
    """Both, with samples; not to be changed by the tests of a file."""
    d = server.create()
    load(d)
    yield d
    server.remove(d)
