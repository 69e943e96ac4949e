#!/usr/bin/env python3
"""Bytes on disk, kind by kind of data, beside VictoriaMetrics and Prometheus with the same samples.

For each kind the generator (bench_kinds_load) sends the same samples by remote write to a fresh server each; then
everything is merged as far as it goes: ours by execute_maintenance(force) and VACUUM, VictoriaMetrics by its forced
merge, Prometheus by a snapshot of its head (blocks without WAL). Bytes per sample:

  heap, TOAST, index   of the sealed blocks' partitions; blocks is their sum
  VM data, VM total    data/small + data/big, and the whole data folder with its index of labels
  Prometheus           its blocks, chunks and index

Apart: the catalog (bytes per series and per metric), WAL, and what a database without samples takes. The peers are
programs of others: BENCH_VICTORIAMETRICS and BENCH_PROMETHEUS name them; without one its columns
are empty and this says so. Everything runs on loopback in a temporary folder and stops by itself.
"""
import argparse
import glob
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

import psycopg2

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LOAD = ROOT + "/build/bench/bench_kinds_load"
PEERS = {"vm": "BENCH_VICTORIAMETRICS", "prometheus": "BENCH_PROMETHEUS"}
TARGETS = {"blocks / VM data": 0.85, "total / VM total": 1.0, "blocks / Prometheus": 0.4}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def get(url, data=None, timeout=600):
    with urllib.request.urlopen(urllib.request.Request(url, data=data), timeout=timeout) as r:
        return r.read()


class Server:
    """A program on a port of its own with a folder of its own; gone after the with block."""

    def __init__(self, folder, make_command):
        self.folder, self.port = folder, free_port()
        os.mkdir(folder)
        os.chmod(folder, 0o755)
        self.url = f"http://127.0.0.1:{self.port}"
        self.command = make_command(self.port)

    def __enter__(self):
        log = open(self.folder + ".log", "w")
        self.process = subprocess.Popen(self.command, stdout=log, stderr=log)
        deadline = time.time() + 120
        while True:
            try:
                get(self.url + "/-/ready", timeout=2)
                return self
            except OSError:
                if self.process.poll() is not None or time.time() > deadline:
                    self.__exit__()
                    sys.exit(f"{self.command[0]} does not become ready, see its last words:\n"
                             + open(log.name).read()[-2000:])
                time.sleep(0.1)

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(120)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def send(args, kind, url, conns=2):
    started = time.time()
    out = subprocess.run([LOAD, "--url", url + "/api/v1/write", "--kind", kind, "--targets", str(args.targets),
                          "--series", str(args.series), "--width", str(args.width), "--duration", args.duration,
                          "--t0", str(args.t0),
                          "--conns", str(conns)], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(out.stdout)["samples"], time.time() - started


def folder_bytes(path):
    return sum(os.lstat(os.path.join(d, f)).st_size for d, _, files in os.walk(path) for f in files)


# ---- ours ---------------------------------------------------------------------------------------

SIZES = """
SELECT sum(pg_relation_size(c.oid, 'main')) FILTER (WHERE part = 'block'),
       sum(pg_relation_size(c.reltoastrelid, 'main')) FILTER (WHERE part = 'block'),
       sum(pg_indexes_size(c.oid) + coalesce(pg_indexes_size(nullif(c.reltoastrelid, 0)), 0))
           FILTER (WHERE part = 'block'),
       sum(pg_total_relation_size(c.oid)) FILTER (WHERE part = 'open')
FROM (SELECT c.oid, c.reltoastrelid, CASE WHEN c.relname IN ('fresh', 'merged') THEN 'open'
                                          WHEN c.relname ~ '^block' THEN 'block' END AS part
      FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace = '_prom_data'::regnamespace) c
"""
SERIES_TABLES = "('series', 'label', 'series_feed')"


class Database:
    def __init__(self, server):
        data = server.folder + "/data"
        self.data = data
        dsn = subprocess.check_output(
            [ROOT + "/build/promscale", "sql", "--data-dir", data, "--", "-Atc",
             "SELECT format('host=%s port=%s dbname=%s user=%s', "
             "split_part(current_setting('unix_socket_directories'), ',', 1), "
             "current_setting('port'), current_database(), current_user)"], text=True).strip()
        self.db = psycopg2.connect(dsn)
        self.db.autocommit = True

    def rows(self, query):
        with self.db.cursor() as c:
            c.execute(query)
            return c.fetchall() if c.description else []

    def one(self, query):
        return self.rows(query)[0][0]

    def relations(self):
        """Bytes of each catalog relation, of PostgreSQL and ours, its indexes and TOAST with it."""
        return dict(self.rows(
            "SELECT n.nspname || '.' || c.relname, pg_total_relation_size(c.oid) FROM pg_class c"
            " JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE relkind = 'r' AND (nspname IN ('pg_catalog', '_prom_catalog') OR relname = 'presence')"))

    def whole(self):
        return self.one("SELECT pg_database_size(current_database())")


def vacuum_all(db):
    for (name,) in db.rows("SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND relnamespace IN "
                           "('_prom_data'::regnamespace, '_prom_catalog'::regnamespace)"):
        db.rows(f"VACUUM {name}")


def settle(db):
    """All metrics have their views, all samples are sealed, dead rows are gone."""
    deadline = time.time() + 900
    while time.time() < deadline:
        db.rows("CALL prom_api.execute_maintenance(force => true)")
        if db.one("SELECT (SELECT count(*) FROM _prom_data.fresh) + (SELECT count(*) FROM _prom_data.merged)") == 0:
            break
    vacuum_all(db)


def promscale(args, folder):
    return lambda port: [ROOT + "/build/promscale", "--data-dir", folder + "/data", "--web.listen-address",
                         f"127.0.0.1:{port}", "--self-scrape=false",
                         *(["--embedded.bin-dir", args.bin_dir] if args.bin_dir else [])]


def measure_ours(args, kind, folder):
    with Server(folder, promscale(args, folder)) as server:
        db = Database(server)
        settle(db)
        empty, empty_relations = db.whole(), db.relations()
        lsn = db.one("SELECT pg_current_wal_lsn()")
        samples, seconds = send(args, kind, server.url)
        started = time.time()
        settle(db)
        sealing = time.time() - started
        stored = db.one("SELECT sum(n_samples) FROM _prom_data.block")
        if stored != samples:
            sys.exit(f"{kind}: {samples} samples sent, {stored} stored")
        heap, toast, index, still_open = (float(x or 0) for x in db.rows(SIZES)[0])
        wal = float(db.one(f"SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '{lsn}')"))
        relations = db.relations()
        grown = {k: v - empty_relations.get(k, 0) for k, v in relations.items() if v > empty_relations.get(k, 0)}
        r = {"samples": samples, "send_s": seconds, "settle_s": sealing, "heap": heap, "toast": toast, "index": index,
             "open": still_open, "blocks": heap + toast + index, "wal": wal, "empty": empty,
             "series": db.one("SELECT count(*) FROM _prom_catalog.series"),
             "metrics": db.one("SELECT count(*) FROM _prom_catalog.metric"),
             "grown": grown, "data": float(db.one("SELECT sum(octet_length(data)) FROM _prom_data.block")),
             "rows": db.one("SELECT count(*) FROM _prom_data.block"),
             "catalog_parts": dict(db.rows(
                 "SELECT c.relname, pg_relation_size(c.oid) FROM pg_class c WHERE relkind IN ('r', 'i', 't') AND"
                 " relnamespace = '_prom_catalog'::regnamespace AND pg_relation_size(c.oid) > 0"))}
        r["of_series"] = sum(v for k, v in grown.items() if k.split(".")[1] in args.of_series)
        r["of_metrics"] = sum(grown.values()) - r["of_series"]
        r["total"] = r["blocks"] + sum(grown.values())
        db.db.close()
        return r


# ---- peers --------------------------------------------------------------------------------------

def vm_rows(url):
    """Samples by where they are, and how many merges run."""
    rows, active = {}, 0.0
    for line in get(url + "/metrics").decode().splitlines():
        name, _, value = line.rpartition(" ")
        if name.startswith('vm_rows{type="'):
            rows[name.split('"')[1]] = float(value)
        elif name.startswith('vm_active_merges{type="storage'):
            active += float(value)
    return rows, active


def measure_vm(args, kind, folder, program):
    with Server(folder, lambda port: [program, "-storageDataPath=" + folder, "-retentionPeriod=10y",
                                      f"-httpListenAddr=127.0.0.1:{port}"]) as server:
        samples, seconds = send(args, kind, server.url)
        get(server.url + "/internal/force_flush")
        merged, quiet = False, 0
        for _ in range(600):  # all rows in files, then merged, then nothing moves for a while
            time.sleep(0.5)
            rows, active = vm_rows(server.url)
            in_files = rows.get("storage/small", 0) + rows.get("storage/big", 0)
            if not merged:
                if in_files == samples and active == 0:
                    get(server.url + "/internal/force_merge")
                    merged = True
                continue
            quiet = quiet + 1 if active == 0 else 0
            if quiet == 6:
                break
        else:
            sys.exit(f"{kind}: VictoriaMetrics has {rows} of {samples} samples after five minutes")
        data = folder_bytes(folder + "/data/small") + folder_bytes(folder + "/data/big")
        return {"samples": samples, "send_s": seconds, "data": data, "total": folder_bytes(folder)}


def measure_prometheus(args, kind, folder, program):
    config = folder + ".yml"
    with open(config, "w") as f:
        f.write("global: {scrape_interval: 1h}\n")
    with Server(folder, lambda port: [program, "--config.file=" + config, "--storage.tsdb.path=" + folder + "/tsdb",
                                      "--storage.tsdb.retention.time=10y", f"--web.listen-address=127.0.0.1:{port}",
                                      "--web.enable-remote-write-receiver", "--web.enable-admin-api",
                                      "--storage.tsdb.min-block-duration=2h",
                                      "--storage.tsdb.max-block-duration=31d"]) as server:
        samples, seconds = send(args, kind, server.url, conns=1)  # two might be an hour apart: out of bounds
        get(server.url + "/api/v1/admin/tsdb/snapshot", data=b"")
        snapshot = glob.glob(folder + "/tsdb/snapshots/*")[0]
        return {"samples": samples, "send_s": seconds, "blocks": folder_bytes(snapshot)}


# ---- report -------------------------------------------------------------------------------------

def ratio(a, b):
    return a / b if a is not None and b else None


def cell(x, digits=3):
    return f"{x:9.{digits}f}" if x is not None else "        -"


def show(kind, r):
    o, vm, prometheus = r["ours"], r.get("vm"), r.get("prometheus")
    n = o["samples"]
    vm_data, vm_total = (vm["data"] / n, vm["total"] / n) if vm else (None, None)
    prom = prometheus["blocks"] / n if prometheus else None
    r["ratios"] = {"blocks / VM data": ratio(o["blocks"] / n, vm_data),
                   "total / VM total": ratio(o["total"] / n, vm_total),
                   "blocks / Prometheus": ratio(o["blocks"] / n, prom)}
    print(f"{kind:17}{n / 1e6:8.1f}" + "".join(cell(x) for x in (
        o["heap"] / n, o["toast"] / n, o["index"] / n, o["blocks"] / n, o["total"] / n, vm_data, vm_total, prom))
        + "".join(cell(x, 2) for x in r["ratios"].values()) + cell(o["wal"] / n, 1), flush=True)


def show_catalog(args, folder):
    """Of 50 000 series in 1000 metrics, where pages that are not full yet no longer count."""
    o = measure_ours(argparse.Namespace(**{**vars(args), "targets": 50, "series": 1000, "width": 1, "duration": "1m"}),
                     "counters", folder)
    print(f"\ncatalog: {o['of_series'] / o['series']:.0f} bytes a series ({o['series']} series; aim 350), "
          f"{o['of_metrics'] / o['metrics']:.0f} bytes a metric ({o['metrics']} metrics; aim 16384), "
          f"an empty database {o['empty'] / 1e6:.1f} MB")
    for name, grown in sorted(o["grown"].items(), key=lambda x: -x[1])[:16]:
        of = "series" if name.split(".")[1] in OF_SERIES else "metrics"
        print(f"  {name:45}{grown / o[of]:10.1f} bytes a {of.removesuffix('s') if of == 'metrics' else of}")
    return o


OF_SERIES = ("series", "label", "series_feed", "presence", "label_key")


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--kinds", help="comma separated; default: all")
    p.add_argument("--targets", type=int, default=10)
    p.add_argument("--series", type=int, default=120, help="of a target")
    p.add_argument("--width", type=int, default=24, help="series of a target in a metric")
    p.add_argument("--duration", default="24h")
    p.add_argument("--full", action="store_true", help="the fleet with 100 targets of 500 series")
    p.add_argument("--no-peers", action="store_true")
    p.add_argument("--bin-dir", help="of a PostgreSQL with the extension to measure, instead of the installed one")
    p.add_argument("--json", help="write all figures there as well")
    args = p.parse_args()
    args.of_series = OF_SERIES
    if args.full:
        args.targets, args.series, args.kinds = 100, 500, args.kinds or "fleet"
    # whole days, all of them over for more than an hour
    args.t0 = (int(time.time()) - 7200) // 86400 * 86400 - 86400
    kinds = args.kinds.split(",") if args.kinds else subprocess.check_output([LOAD, "--kinds"], text=True).split()
    peers = {}
    for name, variable in PEERS.items():
        program = os.environ.get(variable)
        if args.no_peers or not program:
            print(f"{name} is left out" + ("" if args.no_peers else f": {variable} names its program"))
        else:
            peers[name] = program
    top = tempfile.mkdtemp(prefix="promscale-disk-")
    os.chmod(top, 0o755)
    random.seed()
    results, failed = {}, []
    print(f"\n{'bytes per sample':17}{'million':>8}" + "".join(f"{x:>9}" for x in (
        "heap", "TOAST", "index", "blocks", "total", "VM data", "VM total", "Prom.", "/VM data", "/VM tot.", "/Prom.",
        "WAL")))
    try:
        for kind in kinds:
            r = {"ours": measure_ours(args, kind, top + "/ours")}
            if "vm" in peers:
                r["vm"] = measure_vm(args, kind, top + "/vm", peers["vm"])
            if "prometheus" in peers:
                r["prometheus"] = measure_prometheus(args, kind, top + "/prometheus", peers["prometheus"])
            results[kind] = r
            show(kind, r)
            failed += [f"{kind}: {what} is {r['ratios'][what]:.2f}, aim {aim}" for what, aim in TARGETS.items()
                       if r["ratios"][what] is not None and r["ratios"][what] > aim
                       and (args.full or what != "total / VM total")]
        results["catalog"] = {"ours": show_catalog(args, top + "/ours")}
    finally:
        shutil.rmtree(top, ignore_errors=True)
    for line in failed:
        print("over the aim: " + line)
    if args.json:
        with open(args.json, "w") as f:
            json.dump(results, f, indent=1, default=float)
    return 0


if __name__ == "__main__":
    sys.exit(main())
