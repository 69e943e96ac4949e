#!/usr/bin/python3
"""How long prom_info takes with many metrics: 10 000 of them, 200 000 series, 90 days of figures, fresh rows as before
a fold. The rows of figures are made up; everything else is real. Not a test: run it with PG_CONFIG naming a
PostgreSQL that has the extension (tests/tools/private-postgres makes one)."""
import os
import pathlib
import statistics
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
for folder in (HERE.parent, HERE.parent / "catalog", HERE.parent / "maintenance"):
    sys.path.insert(0, str(folder))
from cluster import Cluster
from database import Database, series
from store import Store, bits

METRICS, SERIES, DAYS = 10_000, 20, 90
FIGURES = """
    INSERT INTO _prom_catalog.metric_day
    SELECT m.id, current_date - d, 0, CASE WHEN d < 1 THEN 20 ELSE 0 END, 3, CASE WHEN d < 1 THEN 255 ELSE 0 END, 16777215,
           1000, 115200, 3000, 130000
    FROM generate_series(%s, 0, -1) d, _prom_catalog.metric m ORDER BY d DESC"""
ONE = ["SELECT * FROM prom_info.metric WHERE metric_name = 'metric_5000'", "SELECT * FROM prom_info.metric WHERE id = 77",
       "SELECT * FROM prom_info.metric_detail WHERE table_name = 'metric_1234'",
       "SELECT * FROM prom_info.metric_stats WHERE metric_name = 'metric_5000'",
       "SELECT * FROM prom_info.label WHERE key = 'instance'"]
ALL = ["SELECT * FROM prom_info.metric", "SELECT metric_name, total_size_bytes FROM prom_info.metric ORDER BY 2 DESC LIMIT 10",
       "SELECT metric_name FROM prom_info.metric", "SELECT * FROM prom_info.metric_stats", "SELECT * FROM prom_info.label",
       "SELECT * FROM prom_info.system_stats", "SELECT * FROM timescaledb_information.compressed_hypertable_stats"]


def fill(db, store):
    for first in range(0, METRICS, 500):
        db.resolve([series(f"metric_{m}", instance=f"i{i}", job=f"j{m % 40}") for m in range(first, first + 500)
                    for i in range(SERIES)])
    db.views() if "views" in sys.argv else None
    db.sql(FIGURES, (DAYS - 1,))
    everything = db.sql("SELECT metric_id, id FROM _prom_catalog.series ORDER BY 1, 2")
    now = store.now_ms()
    packed = set(db.column("SELECT id FROM _prom_catalog.metric"))
    for i in range(20):
        batch = [(0, m, s, now + i, bits(1.0)) for n, (m, s) in enumerate(everything) if n % 40 == i * 2]
        store.flush(batch, packed)
    db.sql("VACUUM ANALYZE")


def cpu_seconds(db):
    with open(f"/proc/{db.conn.info.backend_pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main():
    server = Cluster("shared_buffers = 256MB" if "large" in sys.argv else "")
    try:
        db = Database(server, server.new_database())
        store = Store(server, db.name)
        begun = time.monotonic()
        fill(db, store)
        print(f"made in {time.monotonic() - begun:.0f} s; metric_day takes"
              f" {db.one('SELECT pg_size_pretty(pg_total_relation_size($$_prom_catalog.metric_day$$))')},"
              f" fresh holds {store.count('fresh')} rows with {store.n_samples('fresh')} samples")
        print("   median      CPU")
        for statements, times in ((ONE, 101), (ALL, 3)):
            for text in statements:
                taken, cpu = [], cpu_seconds(db)
                for _ in range(times):
                    begun = time.monotonic()
                    n = len(db.sql(text))
                    taken.append(time.monotonic() - begun)
                cpu = (cpu_seconds(db) - cpu) / times
                print(f"{statistics.median(taken) * 1000:7.1f}  {cpu * 1000:7.1f} ms  {n:6} rows  {text}", flush=True)
    finally:
        server.close()


if __name__ == "__main__":
    main()
