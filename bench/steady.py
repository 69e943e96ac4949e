#!/usr/bin/python3
"""A steady stream into a store that takes care of itself: bench_live_load -> promscale -> PostgreSQL of its own.

PostgreSQL has the extension preloaded, so that the background worker folds and seals; with checksums,
autovacuum, synchronous commit, and a checkpoint every --checkpoint seconds. Samples have the time of now. Each minute (--every)
a line: samples a second, WAL a sample, sizes of tables, dead rows, how many merged rows hold a series in
8 hours, the age of the oldest fresh row, CPU a million samples of each process, latencies of requests. --reader 20:37 holds
one snapshot open from minute 20 to 37 and asks the same of it again and again; --standby on|off streams to a standby with
or without hot_standby_feedback, --standby-reader does there what --reader does here. --wal-every N says what the log
consists of, by reading every Nth of its segments. What is run is a private copy of PostgreSQL in a temporary folder, on
loopback; everything stops by itself. Readers end, too, when it has --disk GB on disk, and the rest at half as much again.

At the end all is folded, joined and sealed by force, each by itself, and what a million samples have cost is printed by
step: the steps of the worker are told apart by their application_name, looked at twenty times a second.

--check fails (exit code 1) if a bound is broken that only a real regression breaks, and from a quarter of an hour
on if sizes or dead rows grow: the last third of the lines without a reader against the third before.
"""
import argparse
import json
import math
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests" / "sql"), str(ROOT / "bench")]
import steady_readers  # noqa: E402
import steady_wal  # noqa: E402
from ingest import free_port  # noqa: E402
from steady_cpu import Cpu, Steps, processes  # noqa: E402

CONF = """
fsync = on
listen_addresses = '127.0.0.1'
shared_buffers = 512MB
max_wal_size = 8GB
checkpoint_timeout = {checkpoint}
shared_preload_libraries = 'promscale'
promscale.database = 'promscale'
log_checkpoints = on
"""
# most merged rows that hold one and the same series, in the last 8 hours
PER_SERIES = """
SELECT coalesce(max(n), 0)::int8 FROM (
    SELECT count(*) AS n FROM (SELECT DISTINCT tenant_id, metric_id, series_lo FROM _prom_data.merged) s
    JOIN _prom_data.merged m ON m.tenant_id = s.tenant_id AND m.metric_id = s.metric_id
     AND m.series_lo <= s.series_lo AND m.series_hi >= s.series_lo AND m.t_max >= now() - interval '8 hours'
    GROUP BY s.tenant_id, s.metric_id, s.series_lo) c
"""
SIZES = """
SELECT sum(pg_table_size(c.oid)) FILTER (WHERE relname = 'fresh'),
       sum(pg_table_size(c.oid)) FILTER (WHERE relname = 'merged'),
       coalesce(sum(pg_table_size(c.oid)) FILTER (WHERE relname ~ '^block'), 0),
       sum(pg_indexes_size(c.oid)) FILTER (WHERE relname IN ('fresh', 'merged')),
       sum(pg_stat_get_dead_tuples(c.oid)) FILTER (WHERE relname = 'fresh'),
       sum(pg_stat_get_dead_tuples(c.oid)) FILTER (WHERE relname = 'merged')
FROM pg_class c WHERE relnamespace = '_prom_data'::regnamespace AND relkind = 'r'
"""
FRESH = """
SELECT coalesce(extract(epoch FROM now()) - extract(epoch FROM min(t_max)), 0)::float8, count(*),
       coalesce(sum(n_samples), 0)::int8
FROM _prom_data.fresh
"""


LSN = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::float8"
LAG = "SELECT coalesce(max(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)), 0)::float8 FROM pg_stat_replication"


def wait_ready(url, proc, log):
    deadline = time.time() + 120
    while time.time() < deadline:
        if proc.poll() is not None:
            sys.exit(f"promscale ended with {proc.returncode}: {Path(log).read_text(encoding='utf-8')[-2000:]}")
        try:
            if urllib.request.urlopen(url + "/-/ready", timeout=1).status == 200:
                return
        except OSError:
            time.sleep(0.1)
    sys.exit("promscale did not become ready")


def flush_histogram(url):
    """Cumulative counts of flush durations, by upper bound in seconds."""
    text = urllib.request.urlopen(url + "/metrics", timeout=10).read().decode()
    found = {}
    for line in text.splitlines():
        if line.startswith("promscale_ingest_stage_duration_seconds_bucket") and 'stage="flush"' in line:
            bound = line.split('le="')[1].split('"')[0]
            found[float(bound)] = float(line.rsplit(" ", 1)[1])
    return found


def quantile(before, after, q):
    """Upper bound of the bucket that holds it, in ms."""
    counts = sorted((bound, n - before.get(bound, 0)) for bound, n in after.items())
    total = counts[-1][1] if counts else 0
    for bound, n in counts:
        if total and n >= q * total:
            return bound * 1000
    return 0.0


class Run:
    COLUMNS = [("min", "{:5.1f}"), ("k/s", "{:6.0f}"), ("WAL B", "{:6.2f}"), ("fresh MB", "{:8.0f}"), ("merged", "{:7.0f}"),
               ("block", "{:6.0f}"), ("index", "{:6.0f}"), ("dead f", "{:8.0f}"), ("dead m", "{:7.0f}"),
               ("rows/series", "{:11.0f}"), ("age s", "{:6.1f}"), ("fold s", "{:6.2f}"), ("worker", "{:6.3f}"),
               ("backend", "{:7.3f}"), ("chkpt", "{:6.3f}"), ("walwr", "{:6.3f}"), ("autovac", "{:7.3f}"),
               ("connector", "{:9.3f}"), ("flush p50", "{:9.1f}"), ("p99", "{:6.1f}"), ("req p50", "{:7.1f}"),
               ("req p99", "{:7.1f}"), ("req max", "{:7.0f}"), ("disk MB", "{:7.0f}"), ("lag MB", "{:6.0f}"),
               ("query ms", "{:8.0f}"), ("readers", "{:7.0f}")]

    def __init__(self, args, server, url, connector, standby):
        self.args, self.server, self.url = args, server, url
        self.rows, self.oldest, self.lag = [], 0.0, 0.0
        self.waiting = [(*span, where, lambda of=of: of.connect("promscale")) for span, where, of in
                        ((args.reader, "primary", server), (args.standby_reader, "standby", standby)) if of is not None]
        self.readers, self.past, self.wrong = [], [], []
        self.db = server.connect("promscale")
        self.watcher = server.connect("promscale")
        stepper = server.connect("promscale")
        self.mine = {self.backend(self.db), self.backend(self.watcher), self.backend(stepper)}
        postmaster = int((server.data / "postmaster.pid").read_text(encoding="ascii").split()[0])
        self.cpu = Cpu(connector.pid, postmaster, self.mine)
        self.steps = Steps(stepper)
        self.wal = steady_wal.Wal(self.db, server, args.wal_every) if args.wal_every else None
        self.stop = threading.Event()

    @staticmethod
    def backend(conn):
        return conn.get_backend_pid()

    def one(self, text):
        with self.db.cursor() as cur:
            cur.execute(text)
            return cur.fetchone()

    def watch_age(self):
        """How old the oldest fresh row gets, looked at every second."""
        with self.watcher.cursor() as cur:
            while not self.stop.wait(1):
                cur.execute(FRESH)
                self.oldest = max(self.oldest, cur.fetchone()[0])
                cur.execute(LAG)
                self.lag = max(self.lag, cur.fetchone()[0])

    def look(self):
        return {"at": time.time(), "lsn": self.one(LSN)[0],
                "cpu": self.cpu.now(), "flush": flush_histogram(self.url), "steps": dict(self.steps.used)}

    def line(self, before, after, load, minutes):
        size = [float(x or 0) for x in self.one(SIZES)]
        million = max(load["samples"], 1) / 1e6
        cpu = {k: (after["cpu"][k] - before["cpu"][k]) / million for k in after["cpu"]}
        fold = self.one("SELECT coalesce(extract(epoch FROM last_duration), 0)::float8 FROM _prom_catalog.job WHERE name = 'fold'")
        row = {
            "min": minutes, "k/s": load["samples"] / (after["at"] - before["at"]) / 1000,
            "WAL B": (after["lsn"] - before["lsn"]) / max(load["samples"], 1),
            "fresh MB": size[0] / 1e6, "merged": size[1] / 1e6, "block": size[2] / 1e6, "index": size[3] / 1e6,
            "dead f": size[4], "dead m": size[5], "rows/series": self.one(PER_SERIES)[0], "age s": self.oldest,
            "fold s": fold[0] if fold else 0, "worker": cpu["worker"], "backend": cpu["backends"],
            "chkpt": cpu["checkpointer"], "walwr": cpu["walwriter"], "autovac": cpu["autovacuum"], "connector": cpu["connector"],
            "flush p50": quantile(before["flush"], after["flush"], 0.5),
            "p99": quantile(before["flush"], after["flush"], 0.99), "req p50": load["p50_ms"],
            "req p99": load["p99_ms"], "req max": load["max_ms"], "samples": load["samples"],
            "stored": sum(r["samples"] for r in self.rows) + load["samples"], "behind_ms": load["behind_ms"],
            "failed": load["failed"], "seconds": after["at"] - before["at"], "readers": len(self.readers),
            "joined": after["steps"].get("join", 0) - before["steps"].get("join", 0) > 0.2,
            "disk MB": steady_readers.disk_bytes(self.server.dir) / 1e6, "lag MB": self.lag / 1e6,
            "query ms": self.query_ms(),
        }
        self.oldest = self.lag = 0.0
        return row

    def save(self, rows):
        if self.args.json:
            Path(self.args.json).write_text(json.dumps(rows), encoding="utf-8")

    def query_ms(self):
        """How long it takes to see the last five minutes of a metric: the median of a few."""
        metric = self.one(steady_readers.METRIC)
        if metric is None:
            return 0.0
        took = []
        asked = urllib.parse.urlencode({"query": f"sum(count_over_time({metric[0]}[5m]))"})
        for _ in range(5):
            at = time.time()
            with urllib.request.urlopen(f"{self.url}/api/v1/query?{asked}", timeout=60) as answer:
                answer.read()
            took.append((time.time() - at) * 1000)
        return statistics.median(took)

    def show(self, row):
        print(" ".join(form.format(row[name]).rjust(len(name)) for name, form in self.COLUMNS), flush=True)

    def hold_readers(self, minutes):
        for reader in list(self.waiting):
            begin, end, where, connect = reader
            if begin <= minutes < end:
                print(f"on the {where} a snapshot is held from here to minute {end:g}", flush=True)
                self.readers.append((end, steady_readers.Reader(where, connect, self.args.ask_every)))
                self.waiting.remove(reader)
        for end, reader in list(self.readers):
            if minutes >= end:
                print(f"the snapshot on the {reader.where} is gone", flush=True)
                reader.finish()
                self.readers.remove((end, reader))
                self.past.append(reader)

    def run(self):
        a = self.args
        interval_ms = max(1, round(a.series * 1000 / a.rate))
        load = [f"{ROOT}/build/bench/bench_live_load", "--url", self.url + "/api/v1/write", "--targets",
                str(max(1, a.series // 500)), "--interval", f"{interval_ms}ms", "--duration",
                f"{int(a.minutes * 60000)}ms", "--conns", str(a.conns), "--report", f"{int(a.every * 1000)}ms"]
        print(f"{a.series} series, every {interval_ms} ms; {a.minutes:g} minutes; a checkpoint every {a.checkpoint} s")
        print(" ".join(name.rjust(len(form.format(0))) for name, form in self.COLUMNS), flush=True)
        threading.Thread(target=self.watch_age, daemon=True).start()
        self.cpu.begin()
        before = first = self.look()
        if self.wal:
            self.wal.look(first["lsn"])
        total = None
        with subprocess.Popen(load, stdout=subprocess.PIPE, text=True) as proc:
            try:
                for text in proc.stdout:
                    load_now = json.loads(text)
                    after = self.look()
                    minutes = (after["at"] - first["at"]) / 60
                    if "total" in load_now:
                        total = load_now
                        break
                    self.rows.append(self.line(before, after, load_now, minutes))
                    self.show(self.rows[-1])
                    if self.wal:
                        self.rows[-1]["wal"] = self.wal.look(after["lsn"])
                    before = after
                    self.save(self.rows)
                    full = self.rows[-1]["disk MB"] / 1000 / a.disk
                    if full > 1 and self.readers:
                        self.wrong.append(f"readers ended at minute {minutes:.1f}: {a.disk:g} GB on disk")
                    self.hold_readers(math.inf if full > 1 else minutes)
                    if full > 1.5:
                        self.wrong.append(f"ended at minute {minutes:.1f}: {full * a.disk:.1f} GB on disk")
                        total = dict(load_now, samples=sum(r["samples"] for r in self.rows))
                        break
            finally:
                proc.terminate()
        self.hold_readers(math.inf)
        self.stop.set()
        self.cpu.stop.set()
        self.whole = self.line(first, after, total, minutes)
        self.whole["age s"] = max(r["age s"] for r in self.rows)
        print("in all")
        self.show(self.whole)
        stored = self.one("SELECT sum(n)::int8 FROM (SELECT sum(n_samples) FROM _prom_data.fresh UNION ALL"
                          " SELECT sum(n_samples) FROM _prom_data.merged UNION ALL SELECT sum(n_samples) FROM"
                          " _prom_data.block) s (n)")[0]
        # of what a generator had under way when it was ended nothing is known
        self.whole["missing"] = total["samples"] - int(stored) if "total" in total else 0
        print(f"missing {self.whole['missing']}, at most {total['behind_ms']:.0f} ms behind, {total['retried']} retried, "
              f"{self.one(CHECKPOINTS)[0]} checkpoints")
        steady_readers.tell(self.rows)
        self.whole["readers wrong"] = [w for reader in self.past for w in reader.tell()]
        self.whole["wal"] = steady_wal.tell(self.rows)
        if not a.no_seal:
            self.costs(first, after, total["samples"])
        self.steps.stop.set()
        return self.whole

    def by_hand(self, step, samples_of, statements):
        """Runs statements until samples_of says that nothing is left; CPU-s and WAL a million samples."""
        pid, samples = self.backend(self.db), 0
        cpu, lsn = processes()[pid][2], self.one(LSN)[0]
        if self.wal:
            self.wal.look(lsn)
        more = True
        with self.db.cursor() as cur:
            while more:
                cur.execute(statements)
                n, more = samples_of(cur)
                samples += n
        million = samples / 1e6 or math.inf
        used = (processes()[pid][2] - cpu) / million
        end = self.one(LSN)[0]
        of = self.wal.look(end) if self.wal else {}
        images = f", {sum(v[1] for v in of.values()) / max(samples, 1):.2f} of them images of pages" if of else ""
        print(f"  {step:22} {used:6.3f}   of {samples / 1e6:.0f} M samples, WAL {(end - lsn) / max(samples, 1):.2f} B each"
              + images, flush=True)
        return used

    def costs(self, before, after, samples):
        """What maintenance costs, step by step. The worker is kept away from the end."""
        self.db.autocommit = True
        with self.db.cursor() as cur:
            cur.execute("ALTER SYSTEM SET promscale.maintenance = off")
            cur.execute("SELECT pg_reload_conf()")
            deadline = time.time() + 60
            while time.time() < deadline:
                cur.execute("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'promscale maintenance'"
                            " AND datname IS NOT NULL")
                if cur.fetchone()[0] == 0:
                    break
                time.sleep(0.1)
        used = {k: after["steps"].get(k, 0) - before["steps"].get(k, 0) for k in after["steps"]}
        worker = after["cpu"]["worker"] - before["cpu"]["worker"]
        used["beginning, ending"] = worker - sum(used.values())
        million = samples / 1e6
        print("maintenance, CPU-s per million samples: the worker beside the stream")
        for step, cpu in sorted(used.items(), key=lambda x: -x[1]):
            if cpu / million >= 0.0005:
                print(f"  {step:22} {cpu / million:6.3f}")
        print("by hand, at the end", flush=True)

        def one_row(cur):
            row = cur.fetchone()
            return int(row[0] or 0), bool(row[1])

        self.by_hand("fold, of what is left", one_row, "SELECT samples, more FROM _prom_ext.merge_step()")
        join = self.by_hand("join, of all hours", one_row,
                            "SELECT samples, hours_left > 0 FROM _prom_ext.join_step(now() + interval '2 hours')")
        with self.db.cursor() as cur:
            cur.execute("VACUUM (TRUNCATE off) _prom_data.merged")
        seal = self.by_hand("seal", one_row, "SELECT samples, more FROM _prom_ext.seal_step(true)")
        size = [float(x or 0) for x in self.one(SIZES)]
        print(f"sealed: {size[2] / 1e6:.0f} MB of tables")
        beside = (worker - used.get("join", 0)) / million
        self.whole.update(join=join, seal=seal, maintenance=beside + join + seal, steps=used)
        print(f"in all: {beside:.3f} beside the stream without join, join {join:.3f}, seal {seal:.3f}: "
              f"{beside + join + seal:.3f} CPU-s per million samples (aim: 0.12)")

    def flat(self):
        """What grows though it should not. Merged rows wait for their window's end, so theirs is what they take a sample."""
        by = steady_readers.phases(self.rows)
        rows = by["before"] if by else self.rows
        wrong = []
        if not rows or rows[-1]["min"] < 15:
            return wrong
        third = len(rows) // 3
        middle, last = rows[third:2 * third], rows[2 * third:]

        def compare(name, of, factor, slack):
            a, b = statistics.median(map(of, middle)), statistics.median(map(of, last))
            print(f"flat: {name}: {a:.3g} in the middle third, {b:.3g} in the last", flush=True)
            if b > a * factor + slack:
                wrong.append(f"{name} grows: {a:g}, then {b:g}")

        compare("fresh MB", lambda r: r["fresh MB"], 1.15, 8)
        compare("dead rows of fresh", lambda r: r["dead f"], 1.5, 20000)
        compare("dead rows of merged", lambda r: r["dead m"], 1.5, 2000)
        compare("merged and index, B a sample", lambda r: (r["merged"] + r["index"]) * 1e6 / r["stored"], 1.1, 0)
        compare("WAL B a sample", lambda r: r["WAL B"], 1.15, 0.5)
        compare("CPU-s of the worker per million samples", lambda r: r["worker"], 1.4, 0.02)
        return wrong

    def verdict(self):
        """What is wrong, with room for a machine that does other things, too."""
        w, wrong = self.whole, list(self.wrong)

        def bound(name, value, limit):
            if value > limit:
                wrong.append(f"{name}: {value:g} is more than {limit:g}")

        bound("missing samples", abs(w["missing"]), 0)
        bound("refused samples", w["failed"], 0)
        # a generator that is behind sends samples that are older than their rows
        bound("age of the oldest fresh row in s", w["age s"] - w["behind_ms"] / 1000, 60)
        bound("merged rows per series", w["rows/series"], 64)
        bound("WAL bytes per sample", w["WAL B"], 24)
        # a round that finds nothing to do costs some, too
        bound("CPU-s of the worker per million samples", w["worker"], 0.4 + 0.03 * w["seconds"] * 1e6 / w["samples"])
        return wrong + w["readers wrong"] + self.flat()


CHECKPOINTS = "SELECT checkpoints_timed + checkpoints_req FROM pg_stat_bgwriter"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--minutes", type=float, default=10)
    p.add_argument("--every", type=float, default=60, metavar="SECONDS", help="of a line")
    p.add_argument("--series", type=int, default=100_000)
    p.add_argument("--rate", type=float, default=500_000, help="samples a second")
    p.add_argument("--conns", type=int, default=4)
    p.add_argument("--checkpoint", type=int, default=120, metavar="SECONDS")
    p.add_argument("--reader", default="inf:inf", metavar="FROM:TO", help="minutes in which a snapshot is held open")
    p.add_argument("--standby", choices=("on", "off"), help="a standby; hot_standby_feedback there")
    p.add_argument("--standby-reader", default="inf:inf", metavar="FROM:TO", help="the same on the standby")
    p.add_argument("--ask-every", type=float, default=20, metavar="SECONDS", help="of a reader")
    p.add_argument("--wal-every", type=int, default=0, metavar="N", help="every Nth segment of the log is read")
    p.add_argument("--disk", type=float, default=10, metavar="GB", help="stops when there is more")
    p.add_argument("--no-seal", action="store_true", help="leave out the steps by hand at the end")
    p.add_argument("--check", action="store_true")
    p.add_argument("--json", help="write all lines there as well")
    args = p.parse_args()
    args.reader = [float(x) for x in args.reader.split(":")]
    args.standby_reader = [float(x) for x in args.standby_reader.split(":")]

    folder = Path(tempfile.mkdtemp(prefix="promscale-steady-"))
    folder.chmod(0o755)
    (folder / "tmp").mkdir()
    (folder / "tmp").chmod(0o1777)
    tempfile.tempdir = str(folder / "tmp")
    server = connector = standby = None
    subprocess.run(["make", "-s", "--no-print-directory", "-C", ROOT, "build/bench/bench_live_load"], check=True,
                   stdout=subprocess.DEVNULL)
    try:
        copy = subprocess.check_output([ROOT / "tests/tools/private-postgres", folder / "postgres"]
                                       + ([os.environ["PG_CONFIG"]] if "PG_CONFIG" in os.environ else []),
                                       text=True).strip()
        subprocess.run(["make", "-s", "--no-print-directory", "-C", ROOT, "install-extension", f"PG_CONFIG={copy}"],
                       check=True, stdout=subprocess.DEVNULL)
        os.environ["PG_CONFIG"] = copy
        from cluster import Cluster
        server = Cluster(CONF.format(checkpoint=args.checkpoint))
        server.new_database("promscale")
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        with open(folder / "connector.log", "w", encoding="utf-8") as log:
            connector = subprocess.Popen(
                [ROOT / "build/promscale", "--db.uri", f"postgresql://postgres@127.0.0.1:{server.port}/promscale",
                 "--web.listen-address", url[7:], "--self-scrape=false"], stdout=log, stderr=log)
        wait_ready(url, connector, folder / "connector.log")
        if args.standby:
            standby = steady_readers.Standby(server, args.standby == "on")
        run = Run(args, server, url, connector, standby)
        run.run()
        wrong = run.verdict() if args.check else []
        run.save(run.rows + [run.whole])
    finally:
        if connector is not None:
            connector.send_signal(signal.SIGTERM)
            try:
                connector.wait(30)
            except subprocess.TimeoutExpired:
                connector.kill()
        if standby is not None:
            standby.close()
        if server is not None:
            server.close()
        shutil.rmtree(folder, ignore_errors=True)
    for line in wrong:
        print("WRONG " + line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
