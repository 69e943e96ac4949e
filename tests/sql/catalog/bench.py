"""Series resolved per second, new and known, in batches of 10 000 with 8 labels each.

    PG_CONFIG=... /usr/bin/python3 tests/sql/catalog/bench.py [series] [sessions]

Two shapes: "shared", whose labels are shared by many series, and "unique", where each series brings a label value of
its own. CPU is the backends', so that other work on the machine matters little.
"""
import os
import sys
import threading
import time

from conftest import Server
from database import RESOLVE, array, batch_of

BATCH = 10_000


def label_set(shape, i):
    host = i // 1000
    return {"__name__": f"metric_{i % 100}", "cluster": f"c{host % 3}", "idx": f"x{i // 100 % 10}",
            "instance": f"host-{host}.example.com:9100", "job": f"job-{host % 10}", "mode": f"m{i % 7}",
            "pod": f"pod-{i if shape == 'unique' else host}", "zone": f"z{host % 5}"}


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Session(threading.Thread):
    def __init__(self, db, batches):
        super().__init__(daemon=True)
        self.conn, self.batches, self.slowest = db.connect(), batches, 0.0
        self.cpu = -cpu_seconds(self.conn.info.backend_pid)
        self.start()

    def run(self):
        cur = self.conn.cursor()
        for arguments in self.batches:
            started = time.monotonic()
            cur.execute(RESOLVE, arguments)
            self.slowest = max(self.slowest, time.monotonic() - started)
        self.cpu += cpu_seconds(self.conn.info.backend_pid)


def measure(db, what, batches, sessions):
    started = time.monotonic()
    running = [Session(db, batches[n::sessions]) for n in range(sessions)]
    for s in running:
        s.join()
    wall, n = time.monotonic() - started, len(batches) * BATCH
    print(f"{what:22} {n / wall:9.0f}/s  {sum(s.cpu for s in running) / n * 1e6:6.2f} us of CPU a series"
          f"  slowest batch {max(s.slowest for s in running) * 1000:4.0f} ms", flush=True)


def main():
    total = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    sessions = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    server = Server("shared_buffers = 512MB\nmax_wal_size = 4GB\nfsync = on")
    try:
        for shape in ("shared", "unique"):
            db = server.create()
            db.sql("ALTER SYSTEM SET autovacuum_naptime = '10s'")
            batches = [[0, *map(array, batch_of([label_set(shape, i) for i in range(at, at + BATCH)]))]
                       for at in range(0, total, BATCH)]
            measure(db, f"{shape}, new", batches, sessions)
            measure(db, f"{shape}, known", batches, sessions)
            db.close()
    finally:
        server.close()


if __name__ == "__main__":
    main()
