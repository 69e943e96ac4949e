"""Rows per second of the backend's CPU through the foreign table: 9.6 M samples (5000 series, 8 h at
15 s) in sealed blocks; 1.3 M that were sent twice; 1 M in 100 flush blocks of 10 000 series. CPU seconds,
not wall time, so that other work on the machine matters little.

    PROMSCALE_LIBRARY=... /usr/bin/python3 tests/sql/fdw/fdw_bench.py [series]
"""

import os
import random
import sys

from fdw_blocks import DAY_MS, Store
from fdw_server import Server

T0 = 1700006400000 // DAY_MS * DAY_MS
ROUNDS = 10
QUERIES = [
    "SELECT count(*) FROM _prom_data.samples WHERE metric_id = 10",
    "SELECT avg(value) FROM _prom_data.samples WHERE metric_id = 10",
    "SELECT avg(value) FROM _prom_data.samples WHERE metric_id = 10 AND time >= '{from}'",
    "SELECT max(time) FROM _prom_data.samples WHERE metric_id = 10",
    "SELECT series_id, avg(value) FROM _prom_data.samples WHERE metric_id = 10 GROUP BY 1",
    "SELECT labels[2], avg(value) FROM _prom_data.samples WHERE metric_id = 10 GROUP BY 1",
    "SELECT avg(value) FROM _prom_data.samples WHERE metric_id = 10 AND series_id = 10777",
    "SELECT avg(value) FROM _prom_data.samples WHERE metric_id = 10 AND labels[2] = 1001",
    "SELECT * FROM _prom_data.samples WHERE metric_id = 10 LIMIT 10",
    "SELECT avg(value) FROM _prom_data.samples WHERE metric_id = 11",
    "SELECT count(*) FROM _prom_data.samples WHERE metric_id = 11",
    "SELECT avg(value) FROM _prom_data.samples WHERE metric_id = 12 AND series_id = 54321",
    "SELECT avg(value) FROM _prom_data.samples WHERE metric_id = 12 AND series_id IN (50001, 53000, 54321, 59999)",
    "SELECT avg(value) FROM _prom_data.samples WHERE metric_id = 12",
]


def fill(store, n_series):
    rng = random.Random(1)
    ids = store.metric(10, n_series, 10000)
    for i in range(0, n_series, 34):
        samples = []
        for s in ids[i:i + 34]:
            value, step = rng.randrange(10000), rng.choice([0, 1, 1, 5])
            for k in range(1920):
                value += rng.randrange(step + 1)
                samples.append((10, s, T0 + k * 15000 + s % 100, value / 4))
        store.block("block", 10, samples)
        store.samples = []
        if i % 340 == 0:
            store.flush()
    store.flush()


def fill_resent(store):
    """Metric 11: 680 series for 8 h, all of it sent twice."""
    rng = random.Random(2)
    ids = store.metric(11, 680, 20000)
    for i in range(0, len(ids), 34):
        samples = [(11, s, T0 + k * 15000 + s % 100, k * rng.randrange(9)) for s in ids[i:i + 34] for k in range(1920)]
        store.block("block", 11, samples)
        store.block("block", 11, samples)
        store.samples = []
        if i % 340 == 0:
            store.flush()
    store.flush()


def fill_fresh(store):
    """Metric 12: 10 000 series, 100 scrapes of all of them, each a flush block."""
    rng = random.Random(3)
    ids = store.metric(12, 10000, 50000)
    for k in range(100):
        store.block("fresh", 12, [(12, s, T0 + k * 15000 + s % 100 * 100, rng.randrange(100000) / 4) for s in ids])
        store.samples = []
        if k % 10 == 9:
            store.flush()


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main():
    n_series = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    server = Server()
    try:
        server.create("bench")
        store = Store(server.connect("bench"))
        store.sql("SET timezone = 'UTC'")
        fill(store, n_series)
        fill_resent(store)
        fill_fresh(store)
        store.sql("VACUUM ANALYZE")
        start = store.sql("SELECT (timestamptz 'epoch' + %s * interval '1 s')::text", (T0 // 1000 + 2880,))
        pid = store.conn.info.backend_pid
        for query in QUERIES:
            query = query.replace("{from}", start[0][0])
            store.sql(query)
            before = cpu_seconds(pid)
            for _ in range(ROUNDS):
                store.sql(query)
            best = max(cpu_seconds(pid) - before, 0.005) / ROUNDS
            store.sql("SET promscale.enable_aggregate_pushdown = off")  # so that the scan has all rows to count
            rows = [r[0] for r in store.sql(f"EXPLAIN (ANALYZE, TIMING OFF) {query}")]
            store.sql("RESET promscale.enable_aggregate_pushdown")
            scanned = next(int(r.split("rows=")[2].split()[0]) for r in rows if "Foreign Scan" in r)
            print(f"{best * 1000:9.1f} ms {scanned / best / 1e6:8.2f} M rows/s  {query}")
    finally:
        server.close()


if __name__ == "__main__":
    main()
