"""A database with the extension, and the calls that connectors make, in Python's terms."""
import pathlib
import struct
import subprocess
from collections import namedtuple

ROOT = pathlib.Path(__file__).resolve().parents[3]
MAKE_BLOCK = ROOT / "build" / "tests" / "tools" / "make_block"

Resolved = namedtuple("Resolved", "generation metrics series")


def batch_of(series, pairs=None, metrics=None):
    """The seven arguments of resolve_series but the tenant, for label sets given as dicts."""
    metrics = metrics or list(dict.fromkeys(s["__name__"] for s in series))
    pairs = pairs or list(dict.fromkeys((k, v) for s in series for k, v in s.items()))
    at = {pair: i + 1 for i, pair in enumerate(pairs)}
    ordered = [sorted(s.items(), key=lambda kv: kv[0].encode()) for s in series]
    return [metrics, [k for k, _ in pairs], [v for _, v in pairs],
            [metrics.index(s["__name__"]) + 1 for s in series], [len(s) for s in series],
            [at[pair] for s in ordered for pair in s]]


def array(items):
    """Text of an array: psycopg2's own ARRAY[...] takes seconds to parse when it is long."""
    def one(item):
        if item is None:
            return "NULL"
        return '"' + str(item).replace("\\", "\\\\").replace('"', '\\"') + '"'
    return "{" + ",".join(map(one, items)) + "}"


RESOLVE = ("SELECT generation, metric_ids, series_ids FROM _prom_catalog.resolve_series("
           "%s, %s::text[], %s::text[], %s::text[], %s::int4[], %s::int4[], %s::int4[])")


def resolve_with(conn, series, tenant=0, batch=None):
    cur = conn.cursor()
    cur.execute(RESOLVE, [tenant, *map(array, batch or batch_of(series))])
    return Resolved(*cur.fetchone())


def insert_of(table, metric_or_bucket, samples, form="flush", tenant=0):
    """The statement that stores a row with real bytes; samples: (metric, series, t_ms, value) or (metric, series, t_ms,
    value, start_ms). Values are all floats, or all texts of histograms."""
    lines = [f"block {table} {form} {tenant} {metric_or_bucket}"]
    for metric, series_id, t_ms, value, *start in sorted(samples, key=lambda s: s[:3]):
        if not isinstance(value, str):
            value = "x%016x" % struct.unpack("<Q", struct.pack("<d", value))[0]
        at = f"{t_ms}@{start[0]}" if start else t_ms
        lines.append(f"{metric},{series_id},{at},{value}")
    return subprocess.run([MAKE_BLOCK], input="\n".join(lines) + "\nend\n", text=True, check=True,
                          stdout=subprocess.PIPE).stdout


class Database:
    def __init__(self, server, name):
        self.server = server
        self.name = name
        self.conn = server.connect(name)

    def close(self):
        self.conn.close()

    def connect(self, user="postgres"):
        return self.server.connect(self.name, user)

    def sql(self, text, args=None):
        cur = self.conn.cursor()
        cur.execute(text, args)
        return cur.fetchall() if cur.description else None

    def one(self, text, args=None):
        rows = self.sql(text, args)
        assert len(rows) == 1 and len(rows[0]) == 1, rows
        return rows[0][0]

    def column(self, text, args=None):
        return [row[0] for row in self.sql(text, args)]

    def resolve(self, series, tenant=0, batch=None):
        return resolve_with(self.conn, series, tenant, batch)

    def views(self):
        while self.one("SELECT _prom_catalog.make_metric_views(100)") > 0:
            assert not self.column("SELECT views_error FROM _prom_catalog.metric WHERE views_error IS NOT NULL")

    def names(self, metric):
        """The views' name of a metric."""
        return self.one("SELECT table_name FROM _prom_catalog.metric WHERE metric_name = %s", (metric,))

    def columns(self, view):
        return self.column("SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0"
                           " AND NOT attisdropped ORDER BY attnum", (view,))

    def block(self, table, metric_or_bucket, samples, form="flush", tenant=0):
        """A row with real bytes; samples: (metric, series, t_ms, value)."""
        self.sql(insert_of(table, metric_or_bucket, samples, form, tenant))

    def partition(self, t_ms):
        """A day of _prom_data.block, made as at run time."""
        self.sql("SELECT _prom_catalog.make_partition(date_trunc('day', to_timestamp(%s), 'UTC'))", (t_ms / 1000,))


def series(name, **labels):
    return {"__name__": name, **labels}
