#!/usr/bin/env python3
"""What many metrics and series cost the catalog: no step may have a cliff.

    bench/catalog.py [--metrics 50000] [--series 1000000]

A throw-away server with PostgreSQL's own settings for locks (max_locks_per_transaction = 64). Then, in this order:
new series resolved in batches of 10 000, as a connector does it; all views made; prom_info of one metric and of all;
planning a query on a metric's view; pg_dump of the schema with the catalog, and its restore. What names a target ends
with "ok" or "MISSED". The server is that of tests/sql (PG_CONFIG says which PostgreSQL, with the extension installed).
"""
import argparse
import pathlib
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests/sql"), str(ROOT / "tests/sql/catalog")]
from cluster import Cluster  # noqa: E402
from database import RESOLVE, Database, array, batch_of  # noqa: E402

BATCH = 10_000
# seconds, or as the line says; None: only shown
TARGETS = {"prom_info, one metric": 0.005, "prom_info, all": 0.5, "relations per metric": 3.0}


class Report:
    def __init__(self):
        self.missed, self.figures = [], {}

    def line(self, name, value, unit, note=""):
        target = TARGETS.get(name)
        verdict = "" if target is None else f"  target {target:g}: {'ok' if value <= target else 'MISSED'}"
        if target is not None and value > target:
            self.missed.append(name)
        self.figures[name] = value
        print(f"{name:30} {value:12.4f} {unit:10}{note}{verdict}", flush=True)


def timed(call):
    started = time.monotonic()
    result = call()
    return time.monotonic() - started, result


def best(db, text, args=None, tries=5):
    return min(timed(lambda: db.sql(text, args))[0] for _ in range(tries))


def labels_of(i, metrics):
    host = i // metrics
    return {"__name__": f"metric_{i % metrics}_total", "instance": f"host-{host}.example.com:9100",
            "job": f"job-{host % 10}", "mode": f"m{i % 7}", "zone": f"z{host % 5}"}


def resolve(db, report, metrics, series):
    taken = 0.0
    cur = db.conn.cursor()
    for at in range(0, series, BATCH):
        batch = [labels_of(i, metrics) for i in range(at, min(at + BATCH, series))]
        arguments = [0, *map(array, batch_of(batch))]
        taken += timed(lambda a=arguments: cur.execute(RESOLVE, a))[0]
    report.line("new series", series / taken, "/s")
    size = db.one("SELECT sum(pg_total_relation_size(t::regclass))::float8 FROM unnest(ARRAY["
                  "'_prom_catalog.series', '_prom_catalog.label', '_prom_catalog.series_feed']) t")
    report.line("catalog, bytes per series", size / series, "bytes")


def views(db, report, metrics):
    catalogs = ("SELECT sum(pg_total_relation_size(oid))::float8 FROM pg_class"
                " WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind = 'r'")
    before, bytes_before = db.one("SELECT count(*) FROM pg_class"), db.one(catalogs)
    longest = 0.0
    started = time.monotonic()
    while True:
        one, left = timed(lambda: db.one("SELECT _prom_catalog.make_metric_views(100)"))
        longest = max(longest, one)
        if left == 0:
            break
    taken = time.monotonic() - started
    report.line("views of one metric", taken / metrics * 1000, "ms", f"  all {metrics} in {taken:.0f} s;"
                f" longest transaction {longest:.2f} s")
    db.sql("ANALYZE")
    report.line("relations per metric", (db.one("SELECT count(*) FROM pg_class") - before) / metrics, "")
    report.line("system catalogs per metric", (db.one(catalogs) - bytes_before) / metrics, "bytes")


def queries(db, report):
    name = "metric_7_total"
    db.sql("SELECT * FROM prom_info.metric WHERE metric_name = %s", (name,))
    report.line("prom_info, one metric", best(db, "SELECT * FROM prom_info.metric WHERE metric_name = %s", (name,)), "s")
    report.line("prom_info, all", best(db, "SELECT count(*), sum(num_series), sum(num_samples) FROM prom_info.metric",
                                       tries=3), "s")
    text = f"EXPLAIN SELECT avg(value) FROM prom_metric.{name} WHERE time > now() - interval '1 h' AND labels ? ('job' == 'job-1')"
    fresh = Database(db.server, db.name)
    report.line("planning, first in a session", timed(lambda: fresh.sql(text))[0], "s")
    report.line("planning, later", best(fresh, text), "s")
    fresh.close()


def dump(db, report):
    path = db.server.data / "dump"
    report.line("pg_dump", timed(lambda: db.server.client("pg_dump", "-Fc", "-f", path, db.name))[0], "s",
                f"  {path.stat().st_size / 2 ** 20:.0f} MB, max_locks_per_transaction = 64")
    copy = db.server.new_database(script=None)
    report.line("pg_restore", timed(lambda: db.server.client("pg_restore", "-d", copy, "--exit-on-error", path))[0], "s")
    other = Database(db.server, copy)
    for table in ("_prom_catalog.metric", "_prom_catalog.series"):
        assert other.one(f"SELECT count(*) FROM {table}") == db.one(f"SELECT count(*) FROM {table}"), table
    other.close()


def main(arguments=None):
    p = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    p.add_argument("--metrics", type=int, default=50_000)
    p.add_argument("--series", type=int, default=1_000_000)
    p.add_argument("--no-dump", action="store_true", help="leaves out pg_dump and restore")
    a = p.parse_args(arguments)
    server = Cluster("statement_timeout = '600s'")
    report = Report()
    try:
        db = Database(server, server.new_database())
        print(f"{a.metrics} metrics, {a.series} series", flush=True)
        resolve(db, report, a.metrics, a.series)
        views(db, report, a.metrics)
        queries(db, report)
        if not a.no_dump:
            dump(db, report)
        db.close()
    finally:
        server.close()
    return report


if __name__ == "__main__":
    sys.exit(1 if main().missed else 0)
