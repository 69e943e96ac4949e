"""A server for hostile input: one database, filled once, with metrics in every level of storage.

The extension must be installed where PG_CONFIG points: tests/sql/run sees to it.
"""
import os
import pathlib
import random
import sys
import time

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "catalog")]
from cluster import Cluster
from database import Database, series

HOUR = 3_600_000
SECONDS = float(os.environ.get("PROMSCALE_FUZZ_SECONDS", "0"))
SEED = os.environ.get("PROMSCALE_FUZZ_SEED")


class Bound:
    """How long a random test goes on, and from which seed: printed, so that a failure can be repeated."""

    def __init__(self, seconds):
        self.seed = int(SEED) if SEED else random.SystemRandom().randrange(1 << 32)
        self.random = random.Random(self.seed)
        self.seconds = SECONDS or seconds
        self.start = time.monotonic()
        print(f"PROMSCALE_FUZZ_SEED={self.seed} PROMSCALE_FUZZ_SECONDS={self.seconds}")

    def more(self, share=1.0):
        """Is this share of the time not yet over?"""
        return time.monotonic() < self.start + share * self.seconds


@pytest.fixture
def bound():
    return Bound


ODD = [float("nan"), float("inf"), float("-inf"), 0.0, -0.0]
EXTREME = [1e308, -1e308, 5e-324, float("nan"), 0.0]


class Written:
    """What was written: table of oracle rows, first write first."""

    def __init__(self, db):
        self.db = db
        self.metrics = {}
        self.samples = {}

    def write(self, table, got, series_times_values, level="fresh"):
        """One block row of one metric; of equal series and time the first write is what readers see."""
        for s, t, v in series_times_values:
            self.samples.setdefault((table, s, t), v)
        self.db.block(level, got.metrics[0], [(got.metrics[0], s, t, v) for s, t, v in series_times_values])


def fill(db):
    """Three metrics whose labels differ in number and order; samples of 48 hours in fresh, merged and sealed
    blocks, some of them written twice with another value. Returns what readers must see."""
    t0 = int(time.time()) // 3600 * HOUR - 48 * HOUR
    nodes = [dict(namespace=f"ns{i % 3}", node=f"n{i}") for i in range(6)]
    written = Written(db)
    total = db.resolve([series("cpu_total", **n) for n in nodes] + [series("cpu_total")])
    usage = db.resolve([series("cpu_usage", **n, **({"zone": "z"} if i % 2 else {})) for i, n in enumerate(nodes)])
    quiet = db.resolve([series("a b\"c", x="1"), series("a b\"c", y="2")])
    written.metrics = {"cpu_total": total.metrics[0], "cpu_usage": usage.metrics[0], 'a b"c': quiet.metrics[0]}
    written.series = {"cpu_total": total.series, "cpu_usage": usage.series, 'a b"c': quiet.series}
    written.got = {"cpu_total": total, "cpu_usage": usage, 'a b"c': quiet}
    written.t0 = t0
    for step, hours in enumerate(((0, 9), (9, 40), (40, 47), (46, 48))):
        for name, got, odd in (("cpu_total", total, ODD), ("cpu_usage", usage, ODD), ('a b"c', quiet, EXTREME)):
            written.write(name, got, [
                (s, t0 + hour * HOUR + minute * 60_000,
                 odd[hour % 5] if minute == 30 and s % 5 == 0 else float(hour * 60 + minute) / 8 + s + step)
                for s in got.series for hour in range(*hours) for minute in range(0, 60, 10)
                if name == "cpu_total" or (s + minute) % 7])
        if step == 0:
            db.views()
            db.sql("CALL prom_api.execute_maintenance(force => true)")
        elif step < 3:
            db.sql("SELECT _prom_ext.merge_step()")
    db.sql("SELECT _prom_catalog.upsert_metadata(0, '{cpu_usage}', '{gauge}', '{s}', '{help}')")
    return written


@pytest.fixture(scope="session")
def server():
    s = Cluster("log_min_messages = warning\nwork_mem = 8MB\nmax_prepared_transactions = 5")
    yield s
    s.close()


def filled_database(server):
    d = Database(server, server.new_database())
    d.written = fill(d)
    yield d
    d.close()
    server.drop(d.name)


@pytest.fixture
def db(server):
    yield from filled_database(server)


@pytest.fixture(scope="module")
def module_db(server):
    """For the tests of one file."""
    yield from filled_database(server)
