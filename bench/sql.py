#!/usr/bin/env python3
"""SQL over stored samples against a plain heap table, in one server: ratios of one run.

One metric of 5000 series with 2000 samples each (10 M) goes through the real write path and is sealed;
the same rows stand in a table (time, value, series_id) with its unique index on (series_id, time), a BRIN
index on time and a table of the series' labels. Each query runs warm on both, the answers are compared,
and the best of the runs counts (the median is in --json); the heap may use parallel workers and JIT
compilation, whichever is faster. Then all samples are sent again, and the same is measured with the duplicates in the merged rows
and, once more, after maintenance has sealed them. Besides: what a selector of 1 series among 100 000
reads, planning time with 400 days of partitions, COPY through prom_data.<metric>. Everything runs on
loopback in a temporary folder and stops by itself.
"""
import argparse
import datetime
import json
import math
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import psycopg2

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import sql_load  # noqa: E402
from ingest import ROOT, free_port, wait_ready  # noqa: E402
from sql_queries import HEAP_TABLES, queries  # noqa: E402

METRIC, OTHER, WIDE = "node_cpu_seconds_total", "node_cpu_guest_seconds_total", "kube_pod_restarts_total"


class Database:
    def __init__(self, dsn):
        self.db = psycopg2.connect(dsn)
        self.db.autocommit = True
        self.cur = self.db.cursor()
        self.pid = self.db.info.backend_pid

    def cpu_ms(self):
        """Of this connection's backend; parallel workers are others."""
        with open(f"/proc/{self.pid}/schedstat", encoding="ascii") as f:
            return int(f.read().split()[0]) / 1e6

    def sql(self, text):
        self.cur.execute(text)
        return self.cur.fetchall() if self.cur.description else []

    def one(self, text):
        return self.sql(text)[0][0]

    def timed(self, text):
        t = time.perf_counter()
        rows = self.sql(text)
        return (time.perf_counter() - t) * 1000, rows

    def explain(self, text, options="ANALYZE, TIMING OFF"):
        return self.one(f"EXPLAIN ({options}, FORMAT JSON) {text}")[0]


def nodes_of(plan):
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes_of(child)


def scans_of(plan):
    return [n for n in nodes_of(plan) if n["Node Type"] == "Foreign Scan"]


def is_pushed(plan):
    """Does no aggregate of the backend's own stand above samples as rows?"""
    def rows_below(node):
        if node["Node Type"] == "Foreign Scan":
            return node.get("Operation", "Select") == "Select" and "Relation Name" in node
        return any(rows_below(n) for n in node.get("Plans", []))
    return not any(rows_below(n) for n in nodes_of(plan) if n["Node Type"] in ("Aggregate", "Unique", "Group"))


# ---- answers ---------------------------------------------------------------------------------


def equal(a, b):
    if isinstance(a, float) or isinstance(b, float):
        a, b = float(a), float(b)
        return a == b or math.isclose(a, b, rel_tol=1e-9) or (math.isnan(a) and math.isnan(b))
    return a == b


def same_answers(ours, heap):
    """Rows in any order; keys and counts exactly, floats to 1e-9."""
    def key(row):
        return [(x is None, str(x)) for x in row if not isinstance(x, float)] + [
            (x is None, x) for x in row if isinstance(x, float)]

    if len(ours) != len(heap):
        return False
    return all(len(a) == len(b) and all(map(equal, a, b))
               for a, b in zip(sorted(ours, key=key), sorted(heap, key=key)))


# ---- measuring -------------------------------------------------------------------------------


def times(db, query, runs):
    """Best and median; a query that takes seconds has fewer runs."""
    ms, cpu = [], []
    while len(ms) < runs and (len(ms) < 2 or sum(ms) < 8000):
        before = db.cpu_ms()
        ms.append(db.timed(query)[0])
        cpu.append(db.cpu_ms() - before)
    return {"ms": min(ms), "median_ms": statistics.median(ms), "cpu_ms": min(cpu)}


def best_heap(db, forms, runs):
    """Each form of the query, with JIT and without, is run once warm; the quickest is measured."""
    trials = []
    for name, query in forms.items():
        for jit in ("off", "on"):
            db.sql(f"SET jit = {jit}")
            if jit == "off" and db.timed(query)[0] > 3 * min([t[0] for t in trials], default=math.inf):
                break
            ms, rows = db.timed(query)
            trials.append((ms, name + (", jit" if jit == "on" else ""), jit, query, rows))
    _, name, jit, query, rows = min(trials, key=lambda t: t[0])
    db.sql(f"SET jit = {jit}")
    out = {**times(db, query, runs), "form": name, "rows": rows}
    db.sql("SET max_parallel_workers_per_gather = 0")
    out["cpu_ms"] = times(db, query, 2)["cpu_ms"]  # of the query as a whole
    db.sql("RESET jit; RESET max_parallel_workers_per_gather")
    return out


def measure_heap(db, tests, runs):
    return {t["name"]: best_heap(db, t["heap"], runs) for t in tests}


def measure_ours(db, tests, heap, runs, wrong, state):
    out = {}
    for t in tests:
        rows = db.timed(t["ours"])[1]
        if not same_answers(rows, heap[t["name"]]["rows"]):
            wrong.append(f"{state}: {t['name']}")
        out[t["name"]] = {**times(db, t["ours"], runs),
                          "pushed": is_pushed(db.explain(t["ours"], "COSTS OFF")["Plan"])}
    return out


# ---- the database ----------------------------------------------------------------------------


def fold(db, limit_s=120):
    """What maintenance does with fresh rows sooner or later, and nothing else of it."""
    end = time.time() + limit_s
    while time.time() < end and db.one("SELECT outcome FROM _prom_catalog.run_step('fold', true)") != "idle":
        pass


def where_samples_are(db):
    return {table: int(db.one(f"SELECT coalesce(sum(n_samples), 0)::int8 FROM _prom_data.{table}"))
            for table in ("fresh", "merged", "block")}


def wait_views(db, names):
    end = time.time() + 60
    while time.time() < end:
        if all(db.one(f"SELECT to_regclass('prom_metric.{n}') IS NOT NULL") for n in names):
            return
        time.sleep(0.1)
    sys.exit("the views were not made in time")


def fill_heap(db):
    for statement in HEAP_TABLES.format(metric=METRIC, other=OTHER).split(";\n"):
        db.sql(statement)


def check_load(db, metric):
    """The generator's own figures, so that the two sides of a comparison cannot be wrong together."""
    count, total = db.sql(f"SELECT count(value), sum(value) FROM prom_metric.{metric.name}")[0]
    expected = math.fsum(math.fsum(v) for v in metric.values)
    if count != metric.count or not math.isclose(total, expected, rel_tol=1e-9):
        return [f"{metric.name}: {metric.count} samples with sum {expected} were sent; found {count}, {total}"]
    return []


# ---- the other figures -----------------------------------------------------------------------


def narrow_selector(db, n_series, runs):
    pod = f"pod-{n_series * 7 // 9:06}"
    query = f"SELECT time, value FROM prom_metric.{WIDE} WHERE labels ? ('pod' == '{pod}')"
    plan = db.explain(query)
    scan = scans_of(plan["Plan"])[0]
    return {"series": n_series, **times(db, query, runs), "planning_ms": plan["Planning Time"],
            "rows": scan["Actual Rows"], "estimated_rows": scan["Plan Rows"],
            "blocks_read": scan["Blocks Read"],
            "blocks": db.one("SELECT count(*) FROM _prom_data.block WHERE metric_id ="
                             f" (SELECT id FROM prom_info.metric WHERE metric_name = '{WIDE}')"),
            "series_looked_at": scan["Series Total"]}


def planning(db, end, runs):
    """Milliseconds of planning with a partition for each of 400 days."""
    db.sql("SELECT prom_api.set_default_retention_period('400 days')")
    db.sql("SELECT prom_api.create_metric('year')")
    db.sql("INSERT INTO prom_data.year (time, value, labels) SELECT now() - n * interval '1 day', n, '{}'"
           " FROM generate_series(1, 399) n")
    db.sql("CALL prom_api.execute_maintenance(force => true)")
    out = {"partitions": db.one("SELECT count(*) FROM pg_inherits WHERE inhparent = '_prom_data.block'::regclass")}
    for name, query in {
        "whole": f"SELECT avg(value) FROM {METRIC}",
        "last hour": f"SELECT avg(value) FROM {METRIC} WHERE time > '{end}'::timestamptz - interval '1 h'",
        "a year": f"SELECT time, value FROM {METRIC} WHERE time > now() - interval '1 year'",
        "by label": f"SELECT mode_id, max(value) FROM {METRIC} WHERE labels ? ('instance' ==~ '^node-001')"
                    " GROUP BY mode_id",
        "join of two metrics": f"SELECT count(*) FROM {METRIC} a JOIN {OTHER} b ON a.time = b.time"
                               " AND eq(a.labels, b.labels)",
    }.items():
        db.explain(query, "SUMMARY")
        out[name] = statistics.median(db.explain(query, "SUMMARY")["Planning Time"] for _ in range(max(runs, 5)))
    return out


def copy_rates(db, rows):
    """Rows a second of COPY into a metric through prom_data and into a heap like the one above."""
    if not db.one("SELECT EXISTS (SELECT 1 FROM pg_views WHERE schemaname = 'prom_data')"):
        return None
    ids = [r[0] for r in db.sql(f"SELECT series_id FROM prom_series.{WIDE} ORDER BY 1 LIMIT 1000")]
    start = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=20)
    stamps = [(start + datetime.timedelta(seconds=15 * i)).isoformat() for i in range(rows // len(ids))]
    with tempfile.TemporaryFile("w+") as f:
        for n, stamp in enumerate(stamps):
            f.writelines(f"{stamp}\t{(n + i % 7) / 4}\t{i}\n" for i in ids)
        out = {"rows": len(stamps) * len(ids)}
        db.sql("CREATE TABLE copied (LIKE heap INCLUDING ALL)")
        for name, target in (("ours", f"prom_data.{WIDE}"), ("heap", "copied")):
            f.seek(0)
            t = time.perf_counter()
            db.cur.copy_expert(f"COPY {target} (time, value, series_id) FROM STDIN", f)
            out[name] = out["rows"] / (time.perf_counter() - t)
    return out


# ---- the run ---------------------------------------------------------------------------------


def measure(args, host, port, dsn):
    started = time.time()
    db = Database(dsn)
    now_ms = int(time.time() * 1000)
    # two hours old, so that no maintenance sees it as future, and inside one or two days
    end_ms = now_ms - 7200_000
    labels = sql_load.nodes(args.series)
    main = sql_load.Metric(METRIC, labels, args.samples, end_ms, 1)
    other = sql_load.Metric(OTHER, labels, min(60, args.samples), end_ms, 2)
    other.times = [t[-other.n_samples:] for t in main.times]  # of the same scrapes
    wide = sql_load.Metric(WIDE, sql_load.pods(args.wide), 5, end_ms, 3)
    end = datetime.datetime.fromtimestamp(main.end_ms / 1000, datetime.timezone.utc).isoformat()
    r = {"samples": main.count, "series": args.series, "wrong": [], "ours": {}, "where": {}}

    say("sending", started)
    sql_load.send(host, port, [main, other, wide])
    wait_views(db, [METRIC, OTHER, WIDE])
    db.sql("CALL prom_api.execute_maintenance(force => true)")
    db.sql("VACUUM ANALYZE _prom_catalog.series")
    db.sql("VACUUM ANALYZE _prom_catalog.label")
    for m in (main, other, wide):
        r["wrong"] += check_load(db, m)
    say("filling the heap", started)
    fill_heap(db)
    r["heap_mb"], r["heap_index_mb"] = [x / 1e6 for x in db.sql(
        "SELECT pg_table_size('heap'), pg_indexes_size('heap')")[0]]
    r["blocks_mb"] = float(db.one("SELECT coalesce(sum(octet_length(data)), 0) FROM _prom_data.block WHERE metric_id ="
                            f" (SELECT id FROM prom_info.metric WHERE metric_name = '{METRIC}')")) / 1e6
    tests = queries(db, METRIC, OTHER, end, random.Random(4))
    say("measuring the heap", started)
    r["heap"] = measure_heap(db, tests, args.runs)

    def state(name):
        say("measuring: " + name, started)
        r["where"][name] = where_samples_are(db)
        r["ours"][name] = measure_ours(db, tests, r["heap"], args.runs, r["wrong"], name)

    state("sealed")
    r["narrow"] = narrow_selector(db, args.wide, args.runs)
    say("sending all of it again", started)
    sql_load.send(host, port, [main, other])
    fold(db)
    state("resent")
    db.sql("CALL prom_api.execute_maintenance(force => true)")
    state("resent and sealed")
    for m in (main, other):
        r["wrong"] += check_load(db, m)
    say("the rest", started)
    r["planning_ms"] = planning(db, end, args.runs)
    r["copy"] = copy_rates(db, args.copy)
    r["queries"] = [{k: t[k] for k in ("name", "ours", "heap")} for t in tests]
    for side in r["heap"].values():
        side["rows"] = len(side["rows"])
    r["seconds"] = time.time() - started
    return r


def say(what, started):
    print(f"# {time.time() - started:5.0f} s  {what}", file=sys.stderr, flush=True)


def show(r):
    states = list(r["ours"])
    print(f"{r['samples']:,} samples of {r['series']:,} series; heap {r['heap_mb']:.0f} MB and indexes"
          f" {r['heap_index_mb']:.0f} MB, blocks {r['blocks_mb']:.1f} MB")
    print("ms, best of the runs; in brackets CPU of one process")
    print(f"{'':<27}{'heap':>17}" + "".join(f"{s:>37}" for s in states))
    for name, heap in r["heap"].items():
        cells = ""
        for s in states:
            one = r["ours"][s][name]
            cells += (f"{one['ms']:>9.1f} {'(%.1f)' % one['cpu_ms']:>9}{heap['ms'] / one['ms']:>6.1f} x"
                      f" {'(%.1f x)' % (heap['cpu_ms'] / one['cpu_ms']):>10}{'' if one['pushed'] else '-':1}")
        print(f"{name:<27}{heap['ms']:>8.1f} {'(%.1f)' % heap['cpu_ms']:>8}{cells}  heap: {heap['form']}")
    n = r["narrow"]
    print(f"1 series of {n['series']:,}: {n['ms']:.2f} ms, {n['blocks_read']} of {n['blocks']} blocks read,"
          f" {n['series_looked_at']} series rows looked at, {n['rows']} rows ({n['estimated_rows']} estimated)")
    p = r["planning_ms"]
    print(f"planning, {p['partitions']} partitions, ms: "
          + ", ".join(f"{k} {v:.2f}" for k, v in p.items() if k != "partitions"))
    if r["copy"]:
        c = r["copy"]
        print(f"COPY of {c['rows']:,} rows: {c['ours']:,.0f} rows/s, heap {c['heap']:,.0f} rows/s")
    print(f"answers that differ      {len(r['wrong']):>14}   ({r['seconds']:.0f} s in all)")
    for line in r["wrong"][:10]:
        print("  " + line)


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--series", type=int, default=5000)
    p.add_argument("--samples", type=int, default=2000, help="of each series")
    p.add_argument("--wide", type=int, default=100_000, help="series of the metric for the narrow selector")
    p.add_argument("--runs", type=int, default=5, help="of each query, warm")
    p.add_argument("--copy", type=int, default=1_000_000, help="rows")
    p.add_argument("--quick", action="store_true", help="1 M samples, one run: for tests of the answers")
    p.add_argument("--json", help="write all figures there as well")
    args = p.parse_args()
    if args.quick:
        args.series, args.samples, args.wide, args.runs, args.copy = 1000, 1000, 5000, 1, 20_000

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and what was started ends, too
    folder = tempfile.mkdtemp(prefix="promscale-bench-")
    os.chmod(folder, 0o755)
    port = free_port()
    log = open(folder + "/connector.log", "w", encoding="utf-8")
    connector = subprocess.Popen(
        [ROOT + "/build/promscale", "--data-dir", folder + "/data", "--web.listen-address", f"127.0.0.1:{port}",
         "--self-scrape=false"], stdout=log, stderr=log)
    try:
        wait_ready(f"http://127.0.0.1:{port}", connector)
        dsn = subprocess.check_output([ROOT + "/build/promscale", "sql", "--data-dir", folder + "/data",
                                       "--", "-Atc", "SELECT format('host=%s port=%s dbname=%s user=%s', "
                                       "split_part(current_setting('unix_socket_directories'), ',', 1), "
                                       "current_setting('port'), current_database(), current_user)"],
                                      text=True).strip()
        result = measure(args, "127.0.0.1", port, dsn)
    finally:
        connector.send_signal(signal.SIGTERM)
        try:
            connector.wait(60)
        except subprocess.TimeoutExpired:
            connector.kill()
        shutil.rmtree(folder, ignore_errors=True)
    show(result)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as f:
            json.dump(result, f, indent=1, default=str)
    return 1 if result["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
