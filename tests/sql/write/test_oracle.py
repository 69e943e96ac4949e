"""Random statements against a plain table that knows the rule: of one series and time the first sample stays."""
import io
import json
import random
import struct

import pytest

T0 = 1_714_521_600_000  # 2024-05-01
DAY = 86_400_000
SPECIAL = ["7ff0000000000002", "7ff8000000000001", "7ff8000000000000", "8000000000000000", "7ff0000000000000"]


class Oracle:
    def __init__(self, db, rng):
        self.db, self.rng = db, rng
        self.stored = {}  # (labels, t_ms) -> bits
        self.labels = [json.dumps({"n": str(i), **({"odd": "x" * i} if i % 3 else {})}, sort_keys=True)
                       for i in range(40)]
        self.ids = {}
        self.conflicts = 0

    def row(self, span):
        rng = self.rng
        t = T0 + rng.choice([rng.randrange(span), rng.randrange(20) * 1000])
        value = rng.choice([rng.randrange(5), rng.random(), 1e300 * rng.random()])
        bits = rng.choice(SPECIAL) if rng.random() < 0.05 else struct.pack(">d", value).hex()
        return rng.choice(self.labels), t, bits

    def run(self, rows, how, keep=True, conn=None):
        """Writes the rows in this order; keep=False: in a transaction that is rolled back."""
        text = []
        for labels, t, bits in rows:
            if labels not in self.ids and how == "series_id":
                self.ids[labels] = self.db.series("m", **json.loads(labels))
            key = str(self.ids[labels]) if how == "series_id" else labels.replace("\\", "\\\\")
            text.append(f"{t}\t{bits}\t{key}\n")
        db = self.db
        db.sql("BEGIN; CREATE TEMP TABLE given (t int8, bits text, k text, ord serial) ON COMMIT DROP")
        db.copy("given (t, bits, k)", "".join(text))
        db.sql(f"INSERT INTO prom_data.m (time, value, {how}) SELECT '1970-01-01Z'::timestamptz + t * interval '1 ms',"
               f" public.of_bits(bits), k::{'int8' if how == 'series_id' else 'jsonb'} FROM given ORDER BY ord")
        if not keep:
            db.sql("ROLLBACK")
            return
        db.sql("COMMIT")
        for labels, t, bits in rows:
            first = self.stored.setdefault((labels, t), bits)
            self.conflicts += first != bits

    def check(self):
        rows = self.db.sql("SELECT labels - '__name__', (extract(epoch FROM time) * 1000)::int8,"
                           " encode(float8send(value), 'hex') FROM prom_data.m")
        assert len(rows) == len(self.stored)
        assert {(json.dumps(l, sort_keys=True), t): b for l, t, b in rows} == self.stored


@pytest.mark.parametrize("seed", range(4))
def test_random_statements(db, seed):
    rng = random.Random(seed)
    db.metric("m")
    db.sql("CREATE TABLE public.values_of (bits text, x float8)")
    db.sql("CREATE FUNCTION public.of_bits(h text) RETURNS float8 LANGUAGE sql STABLE AS"
           " 'SELECT x FROM public.values_of WHERE bits = h'")
    oracle = Oracle(db, rng)
    for step in range(14):
        if rng.random() < 0.5:
            db.sql(f"SET promscale.write_memory = '{rng.choice(['64kB', '100kB', '64MB'])}'")
        rows = [oracle.row(rng.choice([60_000, DAY, 40 * DAY])) for _ in range(rng.choice([1, 7, 300, 3000]))]
        load_bits(db, {bits for *_, bits in rows})
        oracle.run(rows, rng.choice(["series_id", "labels"]), keep=rng.random() < 0.8)
        if rng.random() < 0.4:
            db.sql(rng.choice(["SELECT _prom_ext.merge_step(1 << 25)",
                               "CALL prom_api.execute_maintenance(force => true)"]))
        oracle.check()
    db.maintain()
    oracle.check()
    assert oracle.conflicts > 0


def load_bits(db, patterns):
    raw = b"".join(struct.pack(">hi16si8s", 2, 16, p.encode(), 8, bytes.fromhex(p)) for p in sorted(patterns))
    db.sql("DROP INDEX IF EXISTS public.values_idx; TRUNCATE public.values_of")
    with db.conn.cursor() as cur:
        cur.copy_expert("COPY public.values_of FROM STDIN (FORMAT binary)",
                        io.BytesIO(b"PGCOPY\n\xff\r\n\0" + bytes(8) + raw + b"\xff\xff"))
    db.sql("CREATE INDEX values_idx ON public.values_of (bits); ANALYZE public.values_of")


def first_value(db):
    return db.column("SELECT value FROM m")


@pytest.mark.parametrize("stage", ["fresh", "merged", "sealed"])
def test_the_first_write_stays_and_conflicts_are_counted(db, stage):
    """Also against what maintenance has rewritten meanwhile."""
    db.metric("m")
    put = ("INSERT INTO prom_data.m (time, value, labels)"
           " VALUES (date_trunc('hour', now() - interval '3 hours'), %s, '{}')")
    db.sql(put, (1,))
    if stage == "merged":
        db.sql("SELECT _prom_ext.merge_step(1 << 25)")
    elif stage == "sealed":
        db.maintain()
    db.sql(put, (2,))
    db.sql(put, (1,))
    assert first_value(db) == [1]
    merged = db.sql("SELECT duplicates, conflicts FROM _prom_ext.merge_step(1 << 25)")
    assert first_value(db) == [1]
    db.sql("SELECT _prom_ext.seal_step(true, 1 << 26)")
    assert first_value(db) == [1]
    # rows that are not merged with each other in one step are not compared in it
    assert merged[0][1] == 1 and merged[0][0] == (stage == "fresh")


def test_duplicates_inside_a_statement_are_told(db):
    db.metric("m")
    db.sql("""INSERT INTO prom_data.m (time, value, labels) VALUES ('2024-05-01', 1, '{}'), ('2024-05-01', 2, '{}'),
              ('2024-05-01 00:00:00.0004', 1, '{}'),
              ('2024-05-01 00:00:00.001', 3, '{}'), ('2024-05-01', 1, '{"a": "b"}')""")
    assert db.conn.notices[-1].startswith("NOTICE:  2 rows were left out")
    assert "1 of them with another value" in db.conn.notices[-1]
    counted = "SELECT num_duplicates, num_conflicts FROM prom_info.metric_stats WHERE metric_name = 'm'"
    assert db.sql(counted) == [(1, 1)]
    # and together with those that maintenance finds
    db.put("VALUES ('2024-05-01', 7, '{}'), ('2024-05-01', 8, '{}')")
    db.maintain()
    assert db.sql(counted) == [(1, 3)]
    assert db.column("SELECT value FROM m ORDER BY value") == [1, 1, 3]
    n = len(db.conn.notices)
    db.put("VALUES ('2024-05-02', 1, '{}'), ('2024-05-03', 2, '{}')")
    assert len(db.conn.notices) == n


def test_retention_is_told(db):
    """Samples that will soon be dropped are stored, and the user hears of it."""
    db.metric("m")
    insert = "INSERT INTO prom_data.m (time, value, labels) VALUES (now(), 1, '{}'), (now() - interval %s, 2, '{}')"
    db.sql("SELECT set_default_retention_period('30 days')")
    db.sql(insert, ("29 days",))
    assert not db.conn.notices
    db.sql(insert, ("31 days",))
    assert "older than 30 days will be dropped" in db.conn.notices[-1]
    assert "set_metric_retention_period" in db.conn.notices[-1]
    assert db.count("m") == 4
    db.sql("SELECT set_metric_retention_period('m', '40 days')")
    db.sql(insert, ("32 days",))
    assert len(db.conn.notices) == 1
    db.sql("SELECT set_metric_retention_period('m', '1 day')")
    db.sql(insert, ("2 days",))
    assert "older than 1 day " in db.conn.notices[-1]
    # tenants and selectors, as maintenance goes by them
    db.sql("SELECT reset_metric_retention_period('m'), prom_api.set_tenant_retention('', '3 days')")
    db.sql(insert, ("4 days",))
    assert "older than 3 days " in db.conn.notices[-1] and "without a tenant" in db.conn.notices[-1]
    db.sql("SELECT set_metric_retention_period('m', '10 days')")
    n = len(db.conn.notices)
    db.sql(insert, ("5 days",))
    assert len(db.conn.notices) == n
    db.sql("SELECT prom_api.set_retention('{env=\"dev\"}', '2 days'), prom_api.set_retention('{env=\"prod\"}', '400 days')")
    both = ("INSERT INTO prom_data.m (time, value, labels) VALUES (now(), 1, '{\"env\": \"dev\"}'),"
            " (now() - interval '3 days', 1, %s), (now() - interval '30 days', 1, '{\"env\": \"prod\"}')")
    db.sql(both, ('{"env": "test"}',))
    assert len(db.conn.notices) == n
    db.sql(both, ('{"env": "dev"}',))
    assert len(db.conn.notices) == n + 1
    assert "older than 2 days " in db.conn.notices[-1] and "set_retention()" in db.conn.notices[-1]
    db.sql("SELECT reset_retention(s) FROM unnest(ARRAY['{env=\"dev\"}', '{env=\"prod\"}']) s,"
           " set_metric_retention_period('m', '1 day'), reset_tenant_retention('')")
    db.sql("SELECT _prom_catalog.set_setting('retention_grace', '0')")  # the old period counts no longer
    db.maintain()
    assert db.one("SELECT max(now() - time) < interval '2 days' FROM m")
