#!/usr/bin/env python3
"""PromQL over HTTP beside a Prometheus 3: the same samples into both, then the same queries to both in turn.

Load generator and query bench are programs of others (`rwload`, `qbench`, `queries.txt`), in ../shared/bench or where
--tools says; the Prometheus is what tests/promql/differential uses (--prometheus, PROMSCALE_TEST_PROMETHEUS3,
build/peers3, fetched if need be). Without them this says so and ends. Prints a line per query: medians, CPU, the ratio
(below 1: we are quicker) and whether the answers are the same (1e-9). Ends with an error if one is not. Everything runs
on loopback, in a temporary folder, and stops by itself.
"""
import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_ready(url, process):
    for _ in range(600):
        if process.poll() is not None:
            sys.exit(f"{process.args[0]} ended with {process.returncode}")
        try:
            with urllib.request.urlopen(url + "/-/ready", timeout=2) as r:
                if r.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.1)
    sys.exit(f"{process.args[0]} does not become ready")


def find_prometheus(given):
    fetched = os.path.join(ROOT, "build/peers3/usr/bin/prometheus")
    for path in (given, os.environ.get("PROMSCALE_TEST_PROMETHEUS3"), fetched):
        if path and os.access(path, os.X_OK):
            return path
    subprocess.run([os.path.join(ROOT, "tests/promql/differential/get-prometheus")], check=False)
    return fetched if os.access(fetched, os.X_OK) else None


def tools(folder, into):
    """The programs, built in a copy."""
    if not os.path.exists(os.path.join(folder, "qbench.c")):
        return None
    shutil.copytree(folder, into)
    subprocess.run(["make", "-s", "-C", into, "rwload", "qbench"], check=True, stdout=subprocess.DEVNULL)
    return into


def start(argv, log, folder):
    return subprocess.Popen(argv, stdout=log, stderr=log, cwd=folder)


def run(args, folder, log, programs, prometheus, started):
    theirs, ours = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    print(subprocess.run([prometheus, "--version"], capture_output=True, text=True, check=True).stdout.split("\n")[0])
    started.append(start([prometheus, "--config.file=/dev/null", f"--storage.tsdb.path={folder}/prometheus",
                          f"--web.listen-address={theirs[7:]}", "--web.enable-remote-write-receiver",
                          "--storage.tsdb.retention.time=3650d"], log, folder))
    started.append(start([os.path.join(ROOT, "build/promscale"), "--data-dir", f"{folder}/promscale",
                          f"--web.listen-address={ours[7:]}", "--self-scrape=false"], log, folder))
    t0 = int(time.time()) - args.seconds
    for url, process in zip((theirs, ours), started):
        wait_ready(url, process)
        subprocess.run([f"{programs}/rwload", "--url", f"{url}/api/v1/write", "--targets", str(args.targets),
                        "--duration", f"{args.seconds}s", "--t0", str(t0), "--prebuilt"], check=True)
    time.sleep(args.settle)
    argv = [f"{programs}/qbench", "--url", theirs, "--url", ours, "--queries", args.queries or f"{programs}/queries.txt",
            "--start", str(t0), "--end", str(t0 + args.seconds), "--reps", str(args.reps), "--compare",
            "--pid", str(started[0].pid), "--pid", str(started[1].pid)]
    out = subprocess.run(argv, capture_output=True, text=True, check=False)
    print(out.stdout + out.stderr)
    return out.returncode or "queries with differences: 0" not in out.stdout


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--tools", default=os.path.join(ROOT, "..", "shared", "bench"))
    p.add_argument("--prometheus")
    p.add_argument("--queries")
    p.add_argument("--targets", type=int, default=100, help="500 series each")
    p.add_argument("--seconds", type=int, default=7200, help="simulated time, a sample each 15 s")
    p.add_argument("--reps", type=int, default=7)
    p.add_argument("--settle", type=int, default=20, help="seconds between writing and asking")
    args = p.parse_args()
    folder = tempfile.mkdtemp(prefix="promscale-bench-")
    os.chmod(folder, 0o755)
    started = []
    try:
        programs, prometheus = tools(args.tools, f"{folder}/tools"), find_prometheus(args.prometheus)
        if not programs or not prometheus:
            print(f"not run: no {'Prometheus 3' if programs else 'rwload and qbench in ' + args.tools}")
            return 0
        with open(f"{folder}/log", "w", encoding="utf-8") as log:
            return run(args, folder, log, programs, prometheus, started)
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
