"""Readers that stay for long beside a steady stream, on the primary and on a physical standby of the same machine.

A reader holds one snapshot (REPEATABLE READ) and asks the same again every while; what it is answered may never
change. A standby without hot_standby_feedback cancels it when what its snapshot sees is removed on the primary; it then
begins anew with a new snapshot.
"""
import os
import random
import shutil
import statistics
import threading
import time

import psycopg2

# all rows of blocks, and each sample of one metric
ROWS = """
SELECT count(*), sum(n_samples), sum(hashint8(id)::int8) FROM (
    SELECT id, n_samples FROM _prom_data.fresh UNION ALL SELECT id, n_samples FROM _prom_data.merged
    UNION ALL SELECT id, n_samples FROM _prom_data.block) r
"""
METRIC = """
SELECT metric_name, format('prom_metric.%I', table_name) FROM prom_info.metric
WHERE num_series >= 20 ORDER BY num_series, 1 LIMIT 1
"""
SAMPLES = "SELECT count(*), min(time), max(time), sum(hashfloat8(value)::int8), sum(series_id) FROM {}"


class Standby:
    """Of a Cluster, beside its files; it streams from a slot."""

    def __init__(self, primary, feedback):
        self.primary, self.data = primary, primary.dir / "standby"
        self.port = random.randrange(20000, 60000)
        primary.dir.chmod(0o777)  # pg_basebackup makes the folder as the cluster's user
        primary.run("pg_basebackup", "-h", primary.data, "-p", primary.port, "-U", "postgres", "-D", self.data, "-R",
                    "-X", "stream", "-c", "fast", "-C", "-S", "standby")
        settings = {"port": self.port, "unix_socket_directories": self.data, "cluster_name": "standby",
                    "hot_standby_feedback": "on" if feedback else "off", "shared_buffers": "128MB"}
        primary.run("pg_ctl", "-D", self.data, "-l", self.data / "log", "-w", "-o",
                    " ".join(f"-c {k}={v}" for k, v in settings.items()), "start")

    def connect(self, database, user="postgres"):
        conn = psycopg2.connect(host=str(self.data), port=self.port, dbname=database, user=user)
        conn.autocommit = True
        return conn

    def close(self):
        self.primary.run("pg_ctl", "-D", self.data, "-m", "immediate", "-w", "stop", check=False)
        shutil.rmtree(self.data, ignore_errors=True)


class Reader(threading.Thread):
    """Holds snapshots until finish(), and asks every so many seconds."""

    def __init__(self, where, connect, every):
        super().__init__(daemon=True)
        self.where, self.connect, self.every = where, connect, every
        self.begun, self.done = time.time(), threading.Event()
        self.took, self.canceled, self.differs, self.error = [], [], [], None
        self.snapshots = 0
        self.start()

    @staticmethod
    def ask(cur):
        cur.execute(ROWS)
        answer = [cur.fetchone()]
        cur.execute(METRIC)
        metric = cur.fetchone()
        if metric:
            cur.execute(SAMPLES.format(metric[1]))
            answer += [metric, cur.fetchone()]
        return answer

    def hold(self):
        """One snapshot, from its begin to its end."""
        conn = self.connect()
        conn.autocommit = False
        self.snapshots += 1
        first = None
        try:
            with conn.cursor() as cur:
                cur.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                while True:
                    at = time.time()
                    answer = self.ask(cur)
                    self.took.append(time.time() - at)
                    first = first or answer
                    if answer != first:
                        self.differs.append((first, answer))
                    if self.done.wait(self.every):
                        conn.rollback()
                        return
        finally:
            conn.close()

    def run(self):
        while not self.done.is_set():
            try:
                self.hold()
            except psycopg2.OperationalError as e:  # canceled; while it was idle, its connection went, too
                self.canceled.append((time.time() - self.begun, str(e).strip().partition("\n")[0]))
                self.done.wait(1)
            except psycopg2.Error as e:
                self.error = f"{type(e).__name__}: {e}"
                return

    def finish(self):
        self.done.set()
        self.join(120)
        self.minutes = (time.time() - self.begun) / 60

    def tell(self):
        """Prints how it went; what is wrong with it."""
        took = self.took or [0.0]
        print(f"the reader of the {self.where}: {self.minutes:.1f} minutes, {self.snapshots} snapshots, asked "
              f"{len(self.took)} times, {len(self.differs)} answers differ; took {took[0]:.2f} s at first, "
              f"{took[-1]:.2f} s at last, {max(took):.2f} s at most; canceled {len(self.canceled)} times"
              + "".join(f"; after {at / 60:.1f} minutes: {text}" for at, text in self.canceled[:1]), flush=True)
        wrong = [f"the reader of the {self.where} was answered {b} after {a}" for a, b in self.differs[:1]]
        if self.error or not self.took:
            wrong.append(f"the reader of the {self.where}: {self.error or 'was never answered'}")
        return wrong


def disk_bytes(folder):
    total = 0
    for path, _folders, files in os.walk(folder):
        for name in files:
            try:
                total += os.lstat(os.path.join(path, name)).st_size
            except OSError:
                pass
    return total


def phases(rows):
    """Lines before, beside and after readers."""
    beside = [i for i, r in enumerate(rows) if r["readers"]]
    if not beside:
        return {}
    return {"before": rows[:beside[0]], "beside": [rows[i] for i in beside], "after": rows[beside[-1] + 1:]}


def tell(rows):
    """What readers cost the stream, and how it is after them."""
    by = phases(rows)
    if not by:
        return
    print("medians (and the worst) of lines before, beside and after readers")
    for name, key, form in (("fresh MB", "fresh MB", "{:.0f}"), ("merged MB", "merged", "{:.0f}"),
                            ("dead rows of fresh", "dead f", "{:.0f}"), ("oldest fresh row, s", "age s", "{:.0f}"),
                            ("worker, CPU-s per million", "worker", "{:.3f}"),
                            ("autovacuum, likewise", "autovac", "{:.3f}"),
                            ("WAL B", "WAL B", "{:.1f}"), ("flush p50, ms", "flush p50", "{:.0f}"),
                            ("flush p99, ms", "p99", "{:.0f}"), ("request p99, ms", "req p99", "{:.0f}"),
                            ("longest request, ms", "req max", "{:.0f}"),
                            ("5 minutes of a metric, ms", "query ms", "{:.0f}"),
                            ("standby behind, MB", "lag MB", "{:.0f}")):
        cells = []
        for part in by.values():
            of = [r[key] for r in part if key in r]
            cells.append(f"{form.format(statistics.median(of))} ({form.format(max(of))})" if of else "-")
        print(f"  {name:26}" + "".join(f"{c:>20}" for c in cells), flush=True)
    wal = [sum(r["WAL B"] * r["samples"] for r in part) / max(sum(r["samples"] for r in part), 1)
           for part in by.values()]
    print(f"  {'WAL B, over all lines':26}" + "".join(f"{w:>20.2f}" for w in wal))
    beside, after = by["beside"], by["after"]
    minutes = sum(r["seconds"] for r in beside) / 60
    for name, key in (("fresh", "fresh MB"), ("merged", "merged")):
        start = by["before"][-1][key] if by["before"] else beside[0][key]
        print(f"  {name}: {(beside[-1][key] - start) / minutes:.0f} MB a minute more beside them, "
              f"{beside[-1][key]:.0f} MB at their end" + (f", {after[-1][key]:.0f} MB at the end" if after else ""))
    if by["before"] and after:
        limit = max(r["age s"] for r in by["before"]) + 5
        late = [i for i, r in enumerate(after) if r["age s"] - r["behind_ms"] / 1000 > limit]
        took = sum(r["seconds"] for r in after[:late[-1] + 1]) / 60 if late else 0
        print(f"  folds are in time again {took:.1f} minutes after them"
              + (" (not to the end)" if late and late[-1] == len(after) - 1 else ""), flush=True)
