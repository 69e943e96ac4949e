"""Writes flush blocks into a database and says what a reader must see there.

A sample is (tenant, metric, series, t_ms, bits): the value is handled as the 64 bits it has, in hex. Of a sample that is
a histogram it is H and a number, see hist(): floats and histograms are streams of their own, a key of a histogram in
what is seen has an H at its end.
"""

import os
import pathlib
import re
import struct
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]
TOOLS = pathlib.Path(os.environ.get("PROMSCALE_TEST_TOOLS", ROOT / "build" / "tests" / "tools"))
HOUR = 3600 * 1000
DAY = 24 * HOUR
PATIENCE_S = 90
TABLES = {"fresh": 0, "merged": 1, "block": 2, "block_far": 2}


def wait_until(what, condition, seconds=PATIENCE_S):
    """The time says when to give up on a machine that has much else to do; nothing here measures it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError(what)


def bucket(metric):
    return -(metric % 32) - 1


def hist(n):
    """The histogram number n: n observations, all in one bucket."""
    return f"H{n}"


def is_hist(b):
    return b.startswith("H")


def key_of(tenant, metric, series, t_ms, b):
    """What a reader sees once."""
    return (tenant, metric, series, t_ms) + (("H",) if is_hist(b) else ())


def written(b):
    return f"i{{{{schema:0 count:{b[1:]} sum:{b[1:]} buckets:[{b[1:]}]}}}}" if is_hist(b) else f"x{b}"


def bits(value):
    return "%016x" % struct.unpack("<Q", struct.pack("<d", value))[0]


class Store:
    def __init__(self, server, database):
        self.server = server
        self.database = database
        self.conn = server.connect(database)

    def close(self):
        self.conn.close()

    def sql(self, text, args=None):
        with self.conn.cursor() as cur:
            cur.execute(text, args)
            return cur.fetchall() if cur.description else None

    def one(self, text, args=None):
        return self.sql(text, args)[0][0]

    def row(self, text, args=None):
        """The first row as a dict."""
        with self.conn.cursor() as cur:
            cur.execute(text, args)
            return dict(zip([c.name for c in cur.description], cur.fetchone()))

    # ---- writing ---------------------------------------------------------------------------------

    def statements(self, rows, table="fresh", form="flush"):
        """rows: (tenant, metric or bucket, samples) with samples (metric, series, t_ms, bits)."""
        lines = []
        for tenant, row_metric, samples in rows:
            lines.append(f"block {table} {form} {tenant} {row_metric}")
            ordered = samples if form == "flush" else sorted(samples, key=lambda s: s[:3])
            lines += [f"{m},{s},{t},{written(b)}" for m, s, t, b in ordered]
            lines.append("end")
        return subprocess.run([TOOLS / "make_block"], input="\n".join(lines) + "\n", text=True, check=True,
                              stdout=subprocess.PIPE).stdout

    def flush(self, samples, packed=(), conn=None):
        """One transaction as a connector would write it: a row per metric; metrics in `packed` share
        a row per bucket. samples: (tenant, metric, series, t_ms, bits)."""
        rows = {}
        for tenant, metric, series, t_ms, b in samples:
            key = (tenant, bucket(metric) if metric in packed else metric, is_hist(b))
            rows.setdefault(key, []).append((metric, series, t_ms, b))
        text = self.statements([(t, m, s) for (t, m, _), s in rows.items()])
        with (conn or self.conn).cursor() as cur:
            cur.execute("BEGIN;" + text + "COMMIT")

    # ---- reading ---------------------------------------------------------------------------------

    def rows(self):
        """Every stored sample: (level, block id, tenant, metric, series, t_ms, bits)."""
        query = " UNION ALL ".join(f"SELECT '{level}/' || id || '/{table}', encode(data, 'hex') FROM _prom_data.{table}"
                                   for table, level in TABLES.items())
        lines = [f"{label} {data}" for label, data in self.sql(query)]
        if not lines:
            return []
        text = subprocess.run([TOOLS / "dump_blocks"], input="\n".join(lines) + "\n", text=True, check=True,
                              stdout=subprocess.PIPE).stdout
        found = []
        for line in text.splitlines():
            label, tenant, metric, series, t_ms, b = line.split()
            level, block_id, _ = label.split("/")
            if b.startswith("{"):
                count, total, bucket_of = re.fullmatch(r"\{count:(\d+),sum:(\d+),\(0.5,1\]:(\d+)\}", b).groups()
                assert count == total == bucket_of, b
                b = hist(count)
            found.append((int(level), int(block_id), int(tenant), int(metric), int(series), int(t_ms), b))
        return found

    def visible(self):
        """What a reader sees: of equal (series, time) and kind the higher level, then the lower block id."""
        best = {}
        for level, block_id, tenant, metric, series, t_ms, b in self.rows():
            key = key_of(tenant, metric, series, t_ms, b)
            rank = (-level, block_id)
            if key not in best or rank < best[key][0]:
                best[key] = (rank, b)
        return {key: b for key, (_, b) in best.items()}

    def count(self, table):
        return self.one(f"SELECT count(*) FROM _prom_data.{table}")

    def n_samples(self, table):
        return self.one(f"SELECT coalesce(sum(n_samples), 0)::int8 FROM _prom_data.{table}")

    def now_ms(self):
        return int(self.one("SELECT (extract(epoch FROM now()) * 1000)::int8"))

    # ---- maintenance -----------------------------------------------------------------------------

    def merge(self, max_bytes=1 << 25):
        return self.row("SELECT * FROM _prom_ext.merge_step(%s)", (max_bytes,))

    def seal(self, force=True, max_bytes=1 << 26):
        self.sql("SELECT _prom_catalog.ensure_partitions()")
        return self.row("SELECT * FROM _prom_ext.seal_step(%s, %s)", (force, max_bytes))

    def force(self):
        self.sql("CALL prom_api.execute_maintenance(force => true)")
