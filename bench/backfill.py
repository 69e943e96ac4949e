#!/usr/bin/env python3
"""Samples for days that are sealed, beside the same samples for days that are empty.

Three databases, each behind its own connector: `fresh` gets the samples first; `late` has as many others of the same series
and days sealed before, between whose times these lie, and gets them in any order of days; `once` gets both before
anything is sealed. CPU is that of connector and PostgreSQL with all of its processes, from the first request until
forced maintenance and its VACUUMs are done, without what was sent before. Prints what late samples cost more, and how
much larger the blocks are for it.
"""
import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import psycopg2

import ingest

DAY = 86_400_000


def programs_of(folder):
    """Where PostgreSQL's programs are: those that were asked for, or a copy with this tree's extension."""
    if "PROMSCALE_EMBEDDED_BIN_DIR" in os.environ:
        return os.environ["PROMSCALE_EMBEDDED_BIN_DIR"]
    copy = subprocess.check_output([ingest.ROOT + "/tests/tools/private-postgres", folder + "/postgres"], text=True).strip()
    subprocess.run(["make", "-s", "--no-print-directory", "-C", ingest.ROOT, "install-extension", f"PG_CONFIG={copy}"],
                   check=True, stdout=subprocess.DEVNULL)
    return os.path.dirname(copy)


class Server:
    def __init__(self, programs):
        self.folder = tempfile.mkdtemp(prefix="promscale-bench-")
        os.chmod(self.folder, 0o755)
        self.url = f"http://127.0.0.1:{ingest.free_port()}"
        program, data = ingest.ROOT + "/build/promscale", self.folder + "/data"
        with open(self.folder + "/connector.log", "w", encoding="utf-8") as log:
            self.connector = subprocess.Popen([program, "--data-dir", data, "--web.listen-address", self.url[7:],
                                               "--self-scrape=false", "--embedded.bin-dir", programs], stdout=log,
                                              stderr=log)
        try:
            ingest.wait_ready(self.url, self.connector)
            dsn = subprocess.check_output(
                [program, "sql", "--data-dir", data, "--", "-Atc",
                 "SELECT format('host=%s port=%s dbname=%s user=%s', split_part(current_setting("
                 "'unix_socket_directories'), ',', 1), current_setting('port'), current_database(), current_user)"],
                text=True).strip()
            found = subprocess.check_output(["find", self.folder, "-name", "postmaster.pid"], text=True).split()[0]
            with open(found, encoding="utf-8") as f:
                self.postmaster = int(f.readline())
            self.conn = psycopg2.connect(dsn)
            self.conn.autocommit = True
        except BaseException:
            self.close()
            raise

    def close(self):
        self.connector.send_signal(signal.SIGTERM)
        try:
            self.connector.wait(60)
        except subprocess.TimeoutExpired:
            self.connector.kill()
            self.connector.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def sql(self, text):
        with self.conn.cursor() as cur:
            cur.execute(text)
            return cur.fetchall() if cur.description else []

    def one(self, text):
        return self.sql(text)[0][0]

    def cpu(self):
        return sum(ingest.cpu(self.connector.pid, self.postmaster))

    def send(self, args, t0, days, offset_ms):
        """Samples of these days, offset_ms off the grid, a day at a time. Returns how many."""
        n = 0
        for day in days:
            done = subprocess.run(
                [ingest.ROOT + "/build/bench/bench_load", "--url", self.url + "/api/v1/write", "--targets",
                 str(args.targets), "--t0", str((t0 + day * DAY + offset_ms) // 1000), "--duration", "1d", "--interval",
                 f"{args.interval}s", "--jitter", "0", "--conns", "2"], capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(f"bench_load failed: {done.stdout}{done.stderr}")
            n += json.loads(done.stdout)["samples"]
        return n

    def maintain(self):
        self.sql("CALL prom_api.execute_maintenance(force => true)")
        time.sleep(0.2)
        for command, in self.sql("SELECT _prom_catalog.take_vacuums()"):
            self.sql(command)

    def state(self):
        """Samples that a reader finds, and bytes of sealed blocks with what a row takes beside its data."""
        names = [r[0] for r in self.sql("SELECT table_name FROM _prom_catalog.metric ORDER BY 1")]
        shown = sum(self.one(f'SELECT count(*) FROM prom_metric."{n}"') for n in names)
        size = self.one("SELECT coalesce(sum(octet_length(data) + 164), 0)::int8 FROM _prom_data.block")
        left = self.one("SELECT (SELECT count(*) FROM _prom_data.fresh) + (SELECT count(*) FROM _prom_data.merged)")
        return {"shown": shown, "bytes": size, "rows": self.one("SELECT count(*) FROM _prom_data.block"),
                "unsealed": left, "disk": self.one("SELECT sum(pg_total_relation_size(relid))::int8 FROM"
                                                   " pg_partition_tree('_prom_data.block') WHERE isleaf")}


def measured(server, args, t0, days, offset_ms):
    cpu = server.cpu()
    n = server.send(args, t0, days, offset_ms)
    sent = server.cpu()
    server.maintain()
    done = server.cpu()
    return {"samples": n, "cpu": (done - cpu) / n * 1e6, "until_sent": (sent - cpu) / n * 1e6, **server.state()}


def run(args, programs):
    t0 = int(time.time() * 1000) // DAY * DAY - (args.days + 3) * DAY
    days = list(range(args.days))
    half, results = args.interval * 500, {}
    for name in ("fresh", "late", "once"):
        server = Server(programs)
        try:
            if name == "late":
                server.send(args, t0, days, 0)
                server.maintain()
                shuffled = random.Random(1).sample(days, len(days))
                results[name] = measured(server, args, t0, shuffled, half)
            elif name == "once":
                server.sql("SELECT prom_api.set_default_compression_setting(false)")
                server.send(args, t0, days, 0)
                server.send(args, t0, days, half)
                server.sql("SELECT prom_api.set_default_compression_setting(true)")
                server.maintain()
                results[name] = server.state()
            else:
                results[name] = measured(server, args, t0, days, half)
        finally:
            server.close()
        print(f"{name}: {json.dumps(results[name])}", flush=True)
    return results


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--targets", type=int, default=4, help="of 500 series each")
    p.add_argument("--days", type=int, default=30)
    p.add_argument("--interval", type=int, default=500, help="seconds between samples of a series")
    p.add_argument("--check", type=float, metavar="RATIO", help="fail if late samples cost more than so many times fresh ones")
    args = p.parse_args()
    subprocess.run(["make", "-s", "--no-print-directory", "-C", ingest.ROOT, "build/bench/bench_load"], check=True)
    with tempfile.TemporaryDirectory(prefix="promscale-bench-") as folder:
        os.chmod(folder, 0o755)
        r = run(args, programs_of(folder))
    late, fresh, once = r["late"], r["fresh"], r["once"]
    ratio, size = late["cpu"] / fresh["cpu"], late["bytes"] / once["bytes"]
    print(f"CPU-s per million samples: {fresh['cpu']:.3f} fresh, {late['cpu']:.3f} late: {ratio:.2f} times")
    print(f"blocks: {late['bytes'] / late['shown']:.3f} bytes a sample, {once['bytes'] / once['shown']:.3f} if all had come"
          f" at once: {size:.3f} times")
    wrong = [name for name, want in (("fresh", fresh["samples"]), ("late", 2 * late["samples"]), ("once", 2 * late["samples"]))
             if r[name]["shown"] != want or r[name]["unsealed"] != 0]
    if wrong:
        print("samples are missing or not sealed: " + ", ".join(wrong))
    return 1 if wrong or (args.check and (ratio > args.check or size > 1.05)) else 0


if __name__ == "__main__":
    sys.exit(main())
