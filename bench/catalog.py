#!/usr/bin/env python3
"""What many metrics and series cost the catalog: no step may have a cliff.

    bench/catalog.py [--metrics 50000] [--series 1000000]

A throw-away server with PostgreSQL's own settings for locks (max_locks_per_transaction = 64), but for pg_dump of more
metrics than that has room for (docs/operations.md). Then, in this order:
new series resolved in batches of 10 000, as a connector does it; all views made; prom_info of one metric and of all;
planning a query on a metric's view, and what a session keeps of each view it has touched; an upgrade of the extension that
changes all functions and views; pg_dump of the schema with the catalog, and its restore; metrics dropped. What
names a target ends with "ok" or "MISSED". The server is that of tests/sql (PG_CONFIG says which PostgreSQL, with the extension installed).
"""
import argparse
import pathlib
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests/sql"), str(ROOT / "tests/sql/catalog")]
from cluster import Cluster  # noqa: E402
from database import RESOLVE, Database, array, batch_of  # noqa: E402
from upgrade import NEXT, next_version  # noqa: E402

BATCH = 10_000
STOCK_METRICS = 800  # pg_dump locks each of their views; the server has 40 connections
LONGEST = 1800  # seconds that a dump may take
# seconds, or as the line says; None: only shown
TARGETS = {"prom_info, one metric": 0.005, "prom_info, all": 0.5, "relations per metric": 3.0,
           "catalog, bytes per series": 350, "system catalogs per metric": 16 * 1024, "views of one metric": 3.0}


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


def cpu(db):
    """Seconds of CPU that the session's process has used: what a busy machine leaves as it is."""
    stat = pathlib.Path(f"/proc/{db.conn.info.backend_pid}/schedstat")
    return int(stat.read_text(encoding="ascii").split()[0]) / 1e9 if stat.exists() else 0.0


def best(db, text, args=None, tries=5):
    return min(timed(lambda: db.sql(text, args))[0] for _ in range(tries))


def best_of(db, report, name, text, args=None, tries=5):
    """The same as a line of the report, with CPU."""
    runs = []
    for _ in range(tries):
        before = cpu(db)
        runs.append((timed(lambda: db.sql(text, args))[0], cpu(db) - before))
    report.line(name, min(r[0] for r in runs), "s", f"  cpu {min(r[1] for r in runs) * 1000:.1f} ms")


def labels_of(i, metrics):
    host = i // metrics
    return {"__name__": f"metric_{i % metrics}_total", "instance": f"host-{host}.example.com:9100",
            "job": f"job-{host % 10}", "mode": f"m{i % 7}", "zone": f"z{host % 5}"}


def resolve(db, report, metrics, series):
    taken, before = 0.0, cpu(db)
    cur = db.conn.cursor()
    for at in range(0, series, BATCH):
        batch = [labels_of(i, metrics) for i in range(at, min(at + BATCH, series))]
        arguments = [0, *map(array, batch_of(batch))]
        taken += timed(lambda a=arguments: cur.execute(RESOLVE, a))[0]
    used = cpu(db) - before
    report.line("new series", series / taken, "/s", f"  cpu {used / series * 1e6:.0f} us each")
    size = db.one("SELECT sum(pg_total_relation_size(t::regclass))::float8 FROM unnest(ARRAY["
                  "'_prom_catalog.series', '_prom_catalog.label', '_prom_catalog.series_feed']) t")
    report.line("catalog, bytes per series", size / series, "bytes")


def sizes_of(db):
    """Rows, bytes of the table with TOAST, and of its indexes, of each system catalog."""
    return {name: sizes for name, *sizes in db.sql(
        "SELECT relname::text, reltuples::float8, (pg_total_relation_size(oid) - pg_indexes_size(oid))::float8,"
        " pg_indexes_size(oid)::float8 FROM pg_class WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind = 'r'")}


def views(db, report, metrics):
    catalogs = ("SELECT sum(pg_total_relation_size(oid))::float8 FROM pg_class"
                " WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind = 'r'")
    db.sql("ANALYZE")
    before, bytes_before, sizes_before = db.one("SELECT count(*) FROM pg_class"), db.one(catalogs), sizes_of(db)
    longest, cpu_before = 0.0, cpu(db)
    started = time.monotonic()
    while True:
        one, left = timed(lambda: db.one("SELECT _prom_catalog.make_metric_views(100)"))
        longest = max(longest, one)
        if left == 0:
            break
    taken = time.monotonic() - started
    report.line("views of one metric", taken / metrics * 1000, "ms", f"  cpu {(cpu(db) - cpu_before) / metrics * 1000:.1f} ms;"
                f" all {metrics} in {taken:.0f} s; longest transaction {longest:.2f} s")
    db.sql("ANALYZE")
    report.line("relations per metric", (db.one("SELECT count(*) FROM pg_class") - before) / metrics, "")
    report.line("system catalogs per metric", (db.one(catalogs) - bytes_before) / metrics, "bytes")
    for name, (rows, table, indexes) in sorted(sizes_of(db).items(), key=lambda kv: -sum(kv[1][1:])):
        rows, table, indexes = (max(0.0, v - b) / metrics for v, b in zip((rows, table, indexes), sizes_before[name]))
        if table + indexes > 100:
            report.line(f"  {name}", table + indexes, "bytes", f"  {rows:.1f} rows, table {table:.0f}, indexes {indexes:.0f}")


def queries(db, report):
    name = "metric_7_total"
    db.sql("VACUUM _prom_catalog.series, _prom_catalog.metric")  # as autovacuum does after so many inserts
    db.sql("SELECT * FROM prom_info.metric WHERE metric_name = %s", (name,))
    best_of(db, report, "prom_info, one metric", "SELECT * FROM prom_info.metric WHERE metric_name = %s", (name,))
    best_of(db, report, "prom_info, all", "SELECT count(*), sum(num_series), sum(num_samples) FROM prom_info.metric", tries=3)
    for view in db.column("SELECT viewname FROM pg_views WHERE schemaname = 'prom_info' AND viewname <> 'metric' ORDER BY 1"):
        report.line(f"prom_info.{view}, all", best(db, f"SELECT count(x) FROM prom_info.{view} x", tries=2), "s")
    text = f"EXPLAIN SELECT avg(value) FROM prom_metric.{name} WHERE time > now() - interval '1 h' AND labels ? ('job' == 'job-1')"
    fresh = Database(db.server, db.name)
    best_of(fresh, report, "planning, first in a session", text, tries=1)
    best_of(fresh, report, "planning, later", text)
    fresh.close()


def session(db, report, metrics):
    """What the caches of a session hold of the views that it has read."""
    touched = min(metrics, 1000)
    fresh = Database(db.server, db.name)
    memory = "SELECT sum(total_bytes)::float8 FROM pg_backend_memory_contexts"
    at = [fresh.one(memory)]
    for first in (0, touched // 2):
        for i in range(first, first + touched // 2):
            fresh.sql(f"EXPLAIN SELECT * FROM prom_metric.metric_{i}_total")
        at.append(fresh.one(memory))
    fresh.close()
    report.line("session, bytes per view read", (at[2] - at[1]) / (touched // 2), "bytes")


def upgrade(db, report, metrics):
    """To a version that replaces every function and all views: the update itself, then some of the views."""
    def update():
        db.sql(f"BEGIN; ALTER EXTENSION promscale UPDATE TO '{NEXT}'")
        locks = db.one("SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND NOT fastpath")
        db.sql("COMMIT")
        return locks
    before = cpu(db)
    with next_version():
        taken, locks = timed(update)
    report.line("upgrade", taken, "s", f"  cpu {(cpu(db) - before) * 1000:.0f} ms; {locks} locks")
    some = min(metrics, 500)
    before = cpu(db)
    taken, left = timed(lambda: [db.one("SELECT _prom_catalog.make_metric_views(100)") for _ in range(some // 100)][-1])
    done = max(metrics - left, 1)
    report.line("views of one metric, again", taken / done * 1000, "ms", f"  cpu {(cpu(db) - before) / done * 1000:.1f} ms")
    report.line("upgrade, locks", locks, "")
    db.sql("UPDATE _prom_catalog.metric SET views_positions = positions")


def drop(db, report, metrics):
    some = min(metrics // 10, 50)
    before = cpu(db)
    taken, _ = timed(lambda: [db.sql("SELECT prom_api.drop_metric(%s)", (f"metric_{metrics - 1 - i}_total",))
                              for i in range(some)])
    report.line("drop_metric", taken / some * 1000, "ms", f"  cpu {(cpu(db) - before) / some * 1000:.1f} ms")


def dump(db, report, restore):
    path = db.server.data / "dump"
    report.line("pg_dump", timed(lambda: db.server.client("pg_dump", "-Fc", "-f", path, db.name,
                                                              timeout=LONGEST))[0], "s",
                f"  {path.stat().st_size / 2 ** 20:.0f} MB, max_locks_per_transaction ="
                f" {db.one('SHOW max_locks_per_transaction')}")
    if not restore:
        return
    copy = db.server.new_database(script=None)
    report.line("pg_restore", timed(lambda: db.server.client("pg_restore", "-d", copy, "--exit-on-error", path,
                                                                 timeout=LONGEST))[0], "s")
    other = Database(db.server, copy)
    for table in ("_prom_catalog.metric", "_prom_catalog.series"):
        assert other.one(f"SELECT count(*) FROM {table}") == db.one(f"SELECT count(*) FROM {table}"), table
    other.close()


def main(arguments=None):
    p = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    p.add_argument("--metrics", type=int, default=50_000)
    p.add_argument("--series", type=int, default=1_000_000)
    p.add_argument("--no-dump", action="store_true", help="leaves out pg_dump and restore")
    p.add_argument("--no-restore", action="store_true", help="dumps, but does not restore: that takes ten times as long")
    a = p.parse_args(arguments)
    locks = 64 if a.metrics <= STOCK_METRICS else a.metrics * 4 // 40 + 64
    server = Cluster(f"statement_timeout = '600s'\nmax_locks_per_transaction = {locks}")
    report = Report()
    try:
        db = Database(server, server.new_database())
        print(f"{a.metrics} metrics, {a.series} series", flush=True)
        resolve(db, report, a.metrics, a.series)
        views(db, report, a.metrics)
        queries(db, report)
        session(db, report, a.metrics)
        upgrade(db, report, a.metrics)
        if not a.no_dump:
            dump(db, report, not a.no_restore)
        drop(db, report, a.metrics)
        db.close()
    finally:
        server.close()
    return report


if __name__ == "__main__":
    sys.exit(1 if main().missed else 0)
