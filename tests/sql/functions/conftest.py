"""A server for hostile input: one database, filled once, with metrics in every level of storage.

The extension must be installed where PG_CONFIG points: tests/sql/run sees to it.
"""
import calendar
import datetime
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


# Values that stay exact when they are added in any order, and those that are not numbers.
ODD = [float("nan"), float("inf"), float("-inf"), 0.0, -0.0]
EXTREME = [1e308, -1e308, 5e-324, float("nan"), 0.0]


def clock_change(year, month):
    """01:00 UTC of the month's last Sunday: when Europe's clocks are set, in ms."""
    last = datetime.date(year, month + 1, 1) - datetime.timedelta(days=1)
    sunday = last - datetime.timedelta(days=(last.weekday() + 1) % 7)
    return calendar.timegm(sunday.timetuple()) * 1000 + HOUR


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
    written.bases = []
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


def scatter(db, random, n_blocks=60):
    """Writes more of the same series: blocks of any size and step that overlap each other and what is there, with
    other values, also at days when clocks are set; between them steps of maintenance."""
    written = db.written
    db.sql("SELECT prom_api.set_default_retention_period('20 years')")
    year = datetime.date.today().year - 1
    written.bases = [clock_change(year, 3) - 12 * HOUR, clock_change(year, 10) - 12 * HOUR]
    sent = []
    for _ in range(n_blocks):
        if sent and random.random() < 0.35:  # again, all of it or a part, with other values
            name, got, samples = random.choice(sent)
            low, high = random.choice([(0, 1), (0, 1), (0, 0.5), (0.5, 1), (0.2, 0.8)])
            some = samples[int(len(samples) * low):int(len(samples) * high) or 1]
            written.write(name, got, [(s, t, v if random.random() < 0.2 else float(random.randrange(-800, 8000)) / 8)
                                      for s, t, v in some])
            continue
        name = random.choice(["cpu_usage", "cpu_usage", "cpu_total"])
        got = written.got[name]
        base = random.choice([*written.bases, written.t0, written.t0])
        start = base + random.randrange(0, 40 * HOUR, random.choice([1, 1000, 600_000]))
        step = random.choice([600_000, 600_000, 60_000, 15_000, 1, 7_777])
        n = random.choice([1, 3, 20, 127, 128, 129, 300])
        several = random.sample(got.series, random.choice([1, 2, len(got.series)]))
        together = random.random() < 0.7
        samples = {}
        for s in several:
            for i in range(n):
                t = start + i * step + (0 if together else random.randrange(0, max(step // 3, 1) + 1))
                samples.setdefault((s, t), random.choice(ODD) if random.random() < 0.01 else
                                   float(random.randrange(-800, 8000)) / 8)
        sent.append((name, got, [(s, t, v) for (s, t), v in sorted(samples.items())]))
        written.write(*sent[-1])
        if random.random() < 0.3:
            db.sql("SELECT _prom_catalog.ensure_partitions()")
            db.sql(random.choice(["SELECT _prom_ext.merge_step()", "SELECT _prom_ext.merge_step()",
                                  "SELECT _prom_ext.seal_step(true)"]))


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
