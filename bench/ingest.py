#!/usr/bin/env python3
"""The standard load through the real product: bench_load -> promscale -> embedded PostgreSQL.

Prints samples per second, CPU seconds per million samples (connector, PostgreSQL and merging apart),
WAL and disk bytes per sample, peak PSS of the whole process tree, and checks count and sum of every
metric against the generator's manifest. CPU is counted from the first request until maintenance has
nothing left to do. Everything runs on loopback in a temporary folder and stops by itself.

--new-series N sends a sample of each of N series that nobody has seen, and then another one of each: new series
and known ones a second, the CPU for each, and what the connector's memory holds of a series.
"""
import argparse
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request

import psycopg2

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TICKS = os.sysconf("SC_CLK_TCK")


def free_port():
    """One that nobody listens on, below those that the kernel gives to clients."""
    while True:
        port = random.randint(20000, 32000)
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


def processes():
    """pid -> (ppid, command line, cpu seconds of the process, cpu seconds of its dead children)"""
    out = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as f:
                rest = f.read().rpartition(")")[2].split()
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                cmd = f.read().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        out[int(pid)] = (int(rest[1]), cmd, (int(rest[11]) + int(rest[12])) / TICKS,
                         (int(rest[13]) + int(rest[14])) / TICKS)
    return out


def tree(root, procs):
    members, grew = {root}, True
    while grew:
        grew = False
        for pid, (ppid, *_rest) in procs.items():
            if ppid in members and pid not in members:
                members.add(pid)
                grew = True
    return members


def cpu(connector, postmaster):
    """CPU seconds so far: connector, PostgreSQL without maintenance, maintenance.

    A round of maintenance is a process of its own, and so is an autovacuum run; the connector's backends
    live as long as it does. What dead children of the postmaster used is therefore maintenance.
    """
    procs = processes()
    mine = procs[connector][2]
    worker = rest = 0.0
    for pid in tree(postmaster, procs):
        _ppid, cmd, own, dead = procs[pid]
        if "promscale maintenance" in cmd:
            worker += own
        else:
            rest += own
            worker += dead if pid == postmaster else 0
    return mine, rest, worker


class PeakPss(threading.Thread):
    def __init__(self, *roots):
        super().__init__(daemon=True)
        self.roots, self.peak, self.done = roots, {}, threading.Event()

    def run(self):
        while not self.done.wait(0.5):
            procs, now = processes(), {}
            for root in self.roots:
                total = 0
                for pid in tree(root, procs):
                    try:
                        with open(f"/proc/{pid}/smaps_rollup") as f:
                            total += next(int(l.split()[1]) for l in f if l.startswith("Pss:"))
                    except (OSError, StopIteration):
                        pass
                now[root] = total
            if sum(now.values()) > sum(self.peak.values(), 0):
                self.peak = now


def wait_ready(url, proc):
    deadline = time.time() + 120
    while time.time() < deadline:
        if proc.poll() is not None:
            sys.exit(f"promscale ended with {proc.returncode}")
        try:
            if urllib.request.urlopen(url + "/-/ready", timeout=1).status == 200:
                return
        except OSError:
            time.sleep(0.1)
    sys.exit("promscale did not become ready")


def fsync_ms():
    tool = shutil.which("pg_test_fsync") or "/usr/lib/postgresql/15/bin/pg_test_fsync"
    with tempfile.TemporaryDirectory() as d:
        out = subprocess.run([tool, "-s", "1", "-f", d + "/x"], capture_output=True, text=True).stdout
    for line in out.splitlines():
        if line.strip().startswith("fdatasync"):
            return float(line.split()[3]) / 1000
    return None


def measure(args, url, connector, postmaster, dsn):
    db = psycopg2.connect(dsn)
    db.autocommit = True
    sql = db.cursor()

    def one(query):
        sql.execute(query)
        return sql.fetchone()[0]

    manifest = tempfile.NamedTemporaryFile("r", suffix=".manifest")
    load = [f"{ROOT}/build/bench/bench_load", "--url", url + "/api/v1/write", "--targets", str(args.targets),
            "--duration", args.duration, "--batch", str(args.batch), "--conns", str(args.conns),
            "--jitter", str(args.jitter), "--manifest", manifest.name]
    if args.rate:
        load += ["--rate", str(args.rate)]
    lsn0 = one("SELECT pg_current_wal_lsn()")
    pss = PeakPss(connector, postmaster)
    pss.start()
    proc = subprocess.Popen(load, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    first = proc.stderr.readline()  # "... built, sending"
    cpu0 = cpu(connector, postmaster)
    started = time.time()
    out, err = proc.communicate()
    if proc.returncode:
        sys.exit(f"bench_load failed: {first}{out}{err}")
    r = json.loads(out)
    cpu1 = cpu(connector, postmaster)
    while one("SELECT count(*) FROM _prom_data.fresh") > 0 and time.time() - started < 900:
        time.sleep(0.5)
    settle_s = time.time() - started - r["seconds"]
    cpu2 = cpu(connector, postmaster)
    r["wal_bytes_per_sample"] = float(one(
        f"SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '{lsn0}')")) / r["samples"]
    t = time.time()
    sql.execute("CALL prom_api.execute_maintenance(force => true)")
    r["seal_seconds"] = time.time() - t
    cpu3 = cpu(connector, postmaster)
    r["wal_bytes_per_sample_with_seal"] = float(one(
        f"SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '{lsn0}')")) / r["samples"]
    pss.done.set()
    pss.join()
    sizes = {
        "blocks": "relname ~ '^block' AND nspname = '_prom_data'",
        "fresh_and_merged": "relname IN ('fresh', 'merged') AND nspname = '_prom_data'",
        "catalog": "nspname = '_prom_catalog'",
    }
    for name, where in sizes.items():
        r[f"disk_{name}_bytes_per_sample"] = float(one(
            "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0) FROM pg_class c JOIN pg_namespace n"
            f" ON n.oid = c.relnamespace WHERE relkind = 'r' AND {where}")) / r["samples"]
    million = r["samples"] / 1e6
    r["cpu_s_per_million"] = {
        "connector": (cpu2[0] - cpu0[0]) / million,
        "postgresql": (cpu2[1] - cpu0[1]) / million,
        "merging": (cpu2[2] - cpu0[2]) / million,
        "sealing": sum(b - a for a, b in zip(cpu2, cpu3)) / million,
    }
    r["cpu_s_per_million"]["until_last_ack"] = sum(b - a for a, b in zip(cpu0, cpu1)) / million
    r["settle_seconds"] = settle_s
    r["peak_pss_mib"] = {"connector": pss.peak.get(connector, 0) / 1024,
                         "postgresql": pss.peak.get(postmaster, 0) / 1024}
    r["fsync_ms"] = fsync_ms()
    r["wrong_metrics"] = check(sql, manifest)
    return r


def send(args, url, targets, t0):
    out = subprocess.check_output(
        [f"{ROOT}/build/bench/bench_load", "--url", url + "/api/v1/write", "--targets", str(targets), "--duration", "15s",
         "--batch", str(args.batch), "--conns", str(args.conns), "--t0", str(t0)], stderr=subprocess.DEVNULL, text=True)
    return json.loads(out)


def metrics_of(url):
    """The sum of each of the connector's own metrics."""
    found = {}
    for line in urllib.request.urlopen(url + "/metrics", timeout=60).read().decode().splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            name = name.partition("{")[0]
            found[name] = found.get(name, 0) + float(value)
    return found


def resident(pid):
    """MiB now, and at most so far."""
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        found = {k: int(v.split()[0]) / 1024 for k, _, v in (line.partition(":") for line in f) if k in ("VmRSS", "VmHWM")}
    return found["VmRSS"], found["VmHWM"]


def measure_new_series(args, url, connector, postmaster):
    """Sends and prints. The first query afterwards has all of them to learn from the feed."""
    before = resident(connector)[0]
    t0 = int(time.time()) - 600
    for what, at in (("new series", t0), ("known series", t0 + 15)):
        cpu0 = cpu(connector, postmaster)
        r = send(args, url, -(-args.new_series // 500), at)
        mine, rest, worker = (b - a for a, b in zip(cpu0, cpu(connector, postmaster)))
        million = r["samples"] / 1e6
        print(f"{what:24} {r['samples_per_second']:>14,.0f}/s   {r['samples']:,} in {r['seconds']:.1f} s, p99 {r['p99_ms']:.0f} ms;"
              f" CPU-s per million: connector {mine / million:.2f}, PostgreSQL {rest / million:.2f}, maintenance"
              f" {worker / million:.2f}", flush=True)
        if at == t0:
            m, (now, most) = metrics_of(url), resident(connector)
            print(f"cache, bytes per series  {m['promscale_cache_bytes'] / m['promscale_cache_elements']:>14.0f}"
                  f"   {m['promscale_cache_elements']:,.0f} held in {m['promscale_cache_bytes'] / 2 ** 20:.0f} MiB")
            print(f"RSS of the connector MiB {now:>14.0f}   {before:.0f} before, {most:.0f} at most", flush=True)
    for what in ("first query", "second query"):
        started = time.monotonic()
        query = urllib.parse.urlencode({"query": "count(node_load_00)", "time": t0 + 30})
        urllib.request.urlopen(f"{url}/api/v1/query?{query}", timeout=600).read()
        print(f"{what:24} {(time.monotonic() - started) * 1000:>14.0f} ms")
    m, (now, most) = metrics_of(url), resident(connector)
    if m["promscale_label_index_series"]:
        print(f"index, bytes per series  {m['promscale_label_index_bytes'] / m['promscale_label_index_series']:>14.0f}"
              f"   {m['promscale_label_index_series']:,.0f} held in {m['promscale_label_index_bytes'] / 2 ** 20:.0f} MiB")
    print(f"RSS of the connector MiB {now:>14.0f}   {most:.0f} at most")


def check(sql, manifest):
    wrong = []
    for line in manifest.read().splitlines():
        name, count, total = line.split()
        sql.execute(f'SELECT count(value), sum(value) FROM prom_metric."{name}"')
        got_count, got_sum = sql.fetchone()
        if got_count != int(count) or abs(got_sum - float(total)) > 1e-9 * max(1.0, abs(float(total))):
            wrong.append(f"{name}: expected {count} samples, sum {total}; found {got_count}, {got_sum}")
    return wrong


def show(r):
    c, m = r["cpu_s_per_million"], r["peak_pss_mib"]
    print(f"samples                  {r['samples']:>14,}")
    print(f"samples/s                {r['samples_per_second']:>14,.0f}"
          f"   (p50 {r['p50_ms']:.1f} ms, p99 {r['p99_ms']:.1f} ms, fsync {r['fsync_ms'] or 0:.2f} ms)")
    total = c["connector"] + c["postgresql"] + c["merging"]
    print(f"CPU-s per million        {total:>14.3f}   connector {c['connector']:.3f}, PostgreSQL"
          f" {c['postgresql']:.3f}, merging {c['merging']:.3f}; sealing besides {c['sealing']:.3f}")
    print(f"WAL bytes per sample     {r['wal_bytes_per_sample']:>14.2f}   with sealing"
          f" {r['wal_bytes_per_sample_with_seal']:.2f}")
    print(f"disk bytes per sample    {r['disk_blocks_bytes_per_sample']:>14.3f}   blocks, sealed; fresh and"
          f" merged {r['disk_fresh_and_merged_bytes_per_sample']:.3f}, catalog"
          f" {r['disk_catalog_bytes_per_sample']:.3f}")
    print(f"peak PSS MiB             {m['connector'] + m['postgresql']:>14.0f}   connector"
          f" {m['connector']:.0f}, PostgreSQL {m['postgresql']:.0f}")
    print(f"metrics that differ      {len(r['wrong_metrics']):>14}")
    for line in r["wrong_metrics"][:10]:
        print("  " + line)


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--targets", type=int, default=100)
    p.add_argument("--duration", default="2h")
    p.add_argument("--batch", type=int, default=2000)
    p.add_argument("--conns", type=int, default=4)
    p.add_argument("--jitter", type=float, default=0.05)
    p.add_argument("--rate", type=float, default=0)
    p.add_argument("--json", help="write all figures there as well")
    p.add_argument("--new-series", type=int, metavar="N", help="measure what new series take instead")
    p.add_argument("--cache-max-bytes", default="1GB", help="with --new-series: the connector's cache")
    args = p.parse_args()

    folder = tempfile.mkdtemp(prefix="promscale-bench-")
    os.chmod(folder, 0o755)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    log = open(folder + "/connector.log", "w")
    connector = subprocess.Popen(
        [ROOT + "/build/promscale", "--data-dir", folder + "/data", "--web.listen-address", url[7:],
         "--self-scrape=false"] + (["--metrics.cache.series.max-bytes", args.cache_max_bytes] if args.new_series else []),
        stdout=log, stderr=log)
    try:
        wait_ready(url, connector)
        dsn = subprocess.check_output([ROOT + "/build/promscale", "sql", "--data-dir", folder + "/data",
                                       "--", "-Atc", "SELECT format('host=%s port=%s dbname=%s user=%s', "
                                       "split_part(current_setting('unix_socket_directories'), ',', 1), "
                                       "current_setting('port'), current_database(), current_user)"],
                                      text=True).strip()
        with open(subprocess.check_output(["find", folder, "-name", "postmaster.pid"],
                                          text=True).split()[0]) as f:
            postmaster = int(f.readline())
        if args.new_series:
            measure_new_series(args, url, connector.pid, postmaster)
            return 0
        result = measure(args, url, connector.pid, postmaster, dsn)
    finally:
        connector.send_signal(signal.SIGTERM)
        try:
            connector.wait(60)
        except subprocess.TimeoutExpired:
            connector.kill()
        shutil.rmtree(folder, ignore_errors=True)
    show(result)
    if args.json:
        with open(args.json, "w") as f:
            json.dump(result, f, indent=1)
    return 1 if result["wrong_metrics"] else 0


if __name__ == "__main__":
    sys.exit(main())
