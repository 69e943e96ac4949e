"""Metrics that are hard on a reader, each by a function that writes it into a Store."""

import math
import struct

from fdw_blocks import DAY_MS, bucket

T0 = 1700006400000 // DAY_MS * DAY_MS  # a midnight
STALE = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]
ODD_VALUES = [0.0, -0.0, math.inf, -math.inf, math.nan, STALE, 5e-324, 2.0**53 + 2, 1e300, 0.1]
TIME_MIN, TIME_MAX = -210866803200000, 9224318015999999


def dense(store, rng):
    """Metric 1: sealed windows of 8 h, late blocks into them, merged and fresh at the end."""
    ids = store.metric(1, 40, 100)
    for window in range(9):
        start = T0 + window * 8 * 3600000
        for lo in range(0, 40, 7):
            store.block("block", 1, [(1, s, start + k * 60000 + s, 100 * s + k)
                                     for s in ids[lo:lo + 7] for k in range(0, 480, 2)])
    for level in ("merged", "fresh"):  # late: the odd minutes of some series, and conflicts
        store.block(level, 1, [(1, s, T0 + k * 60000 + s, -k) for s in ids[3:20:4]
                               for k in rng.sample(range(480), 50)])
    end = T0 + 3 * DAY_MS
    for k in range(0, 60, 10):
        store.block("merged", 1, [(1, s, end + (k + j) * 15000 + s % 7, j / 8) for s in ids
                                  for j in range(11)])
    for k in range(60, 80):
        store.block("fresh", 1, [(1, s, end + (k + j) * 15000 + s % 7, j / 8) for s in ids
                                 for j in range(2)])


def tangled(store, rng):
    """Metric 2: blocks of all levels over the same few minutes, most samples several times."""
    ids = store.metric(2, 25, 300)
    for _ in range(80):
        table = rng.choice(["fresh", "merged", "block", "block_far"])
        some = rng.sample(ids, rng.randint(1, 25))
        samples = {}
        for _ in range(rng.randint(1, 200)):
            t = T0 + rng.randrange(0, 900) * 1000
            samples[(rng.choice(some), t)] = rng.choice(ODD_VALUES + [rng.random(), rng.randint(0, 9)])
        store.block(table, 2, [(2, s, t, v) for (s, t), v in samples.items()])


def packed(store, rng):
    """Metrics 3 and 35 share a bucket, and with it rows; 3 also has a merged block."""
    ids = store.metric(3, 6, 400) + store.metric(35, 6, 450)
    assert bucket(3) == bucket(35)
    for k in range(30):
        store.block("fresh", bucket(3),
                    [(3 if s < 450 else 35, s, T0 + k * 1000 + s % 3 + j * 400, k + j)
                     for s in rng.sample(ids, 5) for j in range(2)])
    store.block("merged", 3, [(3, s, T0 + k * 1000, -1) for s in ids[:6] for k in range(0, 30, 3)])


def far(store, rng):
    """Metric 4: the ends of time, and days before 1970."""
    ids = store.metric(4, 3, 500)
    times = [TIME_MIN, TIME_MIN + 1, -1, 0, 1, -DAY_MS, -DAY_MS - 1, 253402300800000, TIME_MAX]
    for t in times:
        store.block("block_far", 4, [(4, s, t, float(s)) for s in ids])
    store.block("fresh", 4, [(4, ids[0], t, 7.5) for t in times])
    store.block("merged", 4, [(4, ids[1], t + 1, 7.5) for t in times[:-1]])


def orphans(store, rng):
    """Metric 5: samples of series that the catalog does not know (any more)."""
    ids = store.metric(5, 4, 600)
    store.block("block", 5, [(5, s, T0 + k * 1000, k) for s in range(598, 608) for k in range(20)])
    store.block("fresh", 5, [(5, s, T0 + k * 1000, k) for s in range(590, 600) for k in range(20)])
    assert ids == [600, 601, 602, 603]


def chain(store, rng):
    """Metric 8: a backlog of fresh rows, each overlapping the next; with little work_mem it is read in slices."""
    ids = store.metric(8, 30, 800)
    for k in range(150):
        store.block("fresh", 8, [(8, s, T0 + k * 5000 + j * 1000 + s % 4 * 250, k + s / 1000)
                                 for s in ids for j in range(8)])
    store.block("fresh", 8, [(8, s, T0 + k * 10000, -5) for s in ids[::3] for k in range(75)])


EVERYTHING = (dense, tangled, packed, far, orphans, chain)


def write_everything(store, rng):
    for make in EVERYTHING:
        make(store, rng)
    store.metric(6, 3, 700)  # no samples at all
    store.flush()
    store.sql("CREATE TABLE expected AS SELECT * FROM oracle;"
              "CREATE INDEX ON expected (metric_id, time); ANALYZE expected")
