"""Writes blocks, and the same samples into an oracle table.

Store.block() is one row of a block table; rows get ascending ids in the order written. The view
oracle says what a reader must see: of equal (series, time) the sample of the higher level, then of
the lower block id; only series that the catalog knows.
"""

import io
import pathlib
import struct
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[3]
MAKE_BLOCK = ROOT / "build" / "tests" / "tools" / "make_block"
DAY_MS = 86400000

LEVELS = {"fresh": 0, "merged": 1, "block": 2, "block_far": 2}
FORMS = {"fresh": "flush", "merged": "merged", "block": "sealed", "block_far": "sealed"}


def bucket(metric_id):
    return -(metric_id % 32) - 1


def bits(value):
    return "x%016x" % struct.unpack("<Q", struct.pack("<d", value))[0]


def timestamptz(ms):
    return f"(timestamptz 'epoch' + {ms // 1000} * interval '1 s' + {ms % 1000} * interval '1 ms')"


class Store:
    def __init__(self, conn):
        self.conn = conn
        self.script = []
        self.samples = []
        self.next_block = 1
        self.sql("""
            CREATE TABLE raw (block_id int8, level int4, metric_id int4, series_id int8, t_ms int8,
                              bits text, value float8);
            CREATE VIEW oracle AS
                SELECT DISTINCT ON (r.series_id, r.t_ms) r.metric_id,
                       CASE WHEN abs(r.t_ms) < 4000000000000
                            THEN timestamptz 'epoch' + r.t_ms * interval '1 ms'
                            ELSE timestamptz 'epoch' + r.t_ms / 86400000 * interval '1 day'
                                 + r.t_ms % 86400000 * interval '1 ms' END AS time,
                       ('x' || substr(bits, 2))::bit(64)::int8 AS value_bits,
                       r.value, r.series_id, s.labels
                FROM raw r JOIN _prom_catalog.series s ON s.id = r.series_id
                ORDER BY r.series_id, r.t_ms, r.level DESC, r.block_id;
            CREATE FUNCTION bits_of(float8) RETURNS int8 LANGUAGE sql IMMUTABLE AS
                $$SELECT ('x' || encode(float8send($1), 'hex'))::bit(64)::int8$$;
        """)

    def sql(self, text, args=None):
        cur = self.conn.cursor()
        cur.execute(text, args)
        return cur.fetchall() if cur.description else None

    def metric(self, metric_id, n_series, first_series, labels=None):
        """A metric with series first_series ...; returns their ids."""
        self.sql("INSERT INTO _prom_catalog.metric (id, metric_name, digest, table_name)"
                 " VALUES (%s, %s, gen_random_uuid(), %s)",
                 (metric_id, f"m{metric_id}", f"m{metric_id}"))
        ids = list(range(first_series, first_series + n_series))
        for i, series_id in enumerate(ids):
            array = labels(i) if labels else [metric_id, 1000 + i % 4, 2000 + i % 3 if i % 5 else 0]
            self.sql("INSERT INTO _prom_catalog.series (id, tenant_id, metric_id, labels, digest)"
                     " VALUES (%s, 0, %s, %s, gen_random_uuid())", (series_id, metric_id, array))
        return ids

    def block(self, table, metric_or_bucket, samples, form=None):
        """samples: (metric_id, series_id, t_ms, value), unique in (series_id, t_ms)."""
        assert samples
        if table == "block":
            self.partition(samples[0][2])
        self.script.append(f"block {table} {form or FORMS[table]} 0 {metric_or_bucket}")
        ordered = sorted(samples, key=lambda s: (s[0], s[1], s[2]))
        self.script += [f"{m},{s},{t},{bits(v)}" for m, s, t, v in ordered]
        self.script.append("end")
        self.samples += [f"{self.next_block}\t{LEVELS[table]}\t{m}\t{s}\t{t}\t{bits(v)}\t{v!r}"
                         for m, s, t, v in samples]
        self.next_block += 1

    def partition(self, t_ms):
        day = t_ms // DAY_MS * DAY_MS
        self.sql(f"""DO $$ BEGIN
            EXECUTE format('CREATE TABLE IF NOT EXISTS _prom_data."block_%s" PARTITION OF '
                           '_prom_data.block (PRIMARY KEY (metric_id, t_min, dist_key, id), '
                           'CHECK (t_max < %L)) FOR VALUES FROM (%L) TO (%L)',
                           {day // DAY_MS}, {timestamptz(day + DAY_MS)}, {timestamptz(day)},
                           {timestamptz(day + DAY_MS)}); END $$""")

    def flush(self):
        """Sends what was gathered."""
        if not self.script:
            return
        made = subprocess.run([MAKE_BLOCK], input="\n".join(self.script) + "\n", text=True,
                              check=True, stdout=subprocess.PIPE).stdout
        cur = self.conn.cursor()
        cur.execute(made)
        if self.samples:
            cur.copy_expert("COPY raw FROM STDIN", io.StringIO("\n".join(self.samples) + "\n"))
        self.script, self.samples = [], []
