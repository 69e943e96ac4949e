"""promql() and promql_range(): what they give, where they may stand, who may call them, how they end."""
import math
import threading
import time

import psycopg2
import pytest

from database import series

T0 = 1_700_000_000  # s


def stored(db, table="fresh", form="flush"):
    """Two counters and a gauge, a sample each 15 s for 10 minutes, in one table."""
    names = [series("req_total", job="a", code="200"), series("req_total", job="a", code="500"), series("temp", job="a")]
    r = db.resolve(names)
    metrics = dict(zip(("req_total", "temp"), r.metrics))
    if table == "block":
        db.partition(T0 * 1000)
    for name in metrics:
        samples = []
        for i, (s, ident) in enumerate(zip(names, r.series)):
            if s["__name__"] == name:
                samples += [(metrics[name], ident, (T0 + 15 * k) * 1000, float(k * (i + 1))) for k in range(41)]
        db.block(table, metrics[name], samples, form)


@pytest.mark.parametrize("table, form", [("fresh", "flush"), ("merged", "merged"), ("block", "sealed"),
                                         ("block_far", "sealed")])
def test_instant(db, table, form):
    stored(db, table, form)
    at = T0 + 600
    assert sorted(db.promql("req_total", at), key=str) == [
        (at, 40.0, {"__name__": "req_total", "job": "a", "code": "200"}),
        (at, 80.0, {"__name__": "req_total", "job": "a", "code": "500"})]
    assert db.promql("sum(rate(req_total[5m]))", at) == [(at, pytest.approx(0.2), {})]
    assert db.promql("temp offset 5m", at) == [(at, 60.0, {"__name__": "temp", "job": "a"})]
    assert db.promql('req_total{code=~"5..", job!="b"}', at)[0][1] == 80.0
    assert db.promql('{job="a", __name__=~".*emp"}', at)[0][1] == 120.0
    assert db.promql("nothing_here", at) == []
    assert db.promql("req_total", T0 + 901) == []  # older than the lookback
    assert db.promql("2 * 3", at) == [(at, 6.0, {})]
    assert [r[0] for r in db.promql("temp[1m]", at)] == [T0 + 555, T0 + 570, T0 + 585, T0 + 600]


def test_range(db):
    stored(db)
    rows = db.promql_range("sum by (code) (req_total)", T0, T0 + 600, 300)
    assert sorted(rows, key=str) == sorted(
        [(T0 + 300.0 * k, 20.0 * k * m, {"code": c}) for k in range(3) for c, m in (("200", 1), ("500", 2))], key=str)
    rows = db.promql_range("time()", T0, T0 + 1, 0.5)
    assert [(r[0], r[1]) for r in rows] == [(T0, T0), (T0 + 0.5, T0 + 0.5), (T0 + 1, T0 + 1)]


def test_stands_wherever_a_table_does(db):
    stored(db)
    at = f"to_timestamp({T0 + 600})"
    db.sql("CREATE TABLE price (code text, eur float8); INSERT INTO price VALUES ('200', 1), ('500', 100)")
    assert db.one("SELECT sum(q.value * p.eur) FROM promql('req_total', " + at + ") q"
                  " JOIN price p ON p.code = q.labels->>'code'") == 40 + 8000
    assert db.sql("WITH hot AS (SELECT * FROM promql('temp', " + at + ")) SELECT count(*), max(value) FROM hot") == [
        (1, 120.0)]
    db.sql("CREATE VIEW latest AS SELECT labels->>'code' AS code, value FROM promql('req_total', " + at + ")")
    assert db.sql("SELECT * FROM latest ORDER BY code") == [("200", 40.0), ("500", 80.0)]
    assert db.sql("SELECT p.code, q.value FROM price p, LATERAL promql(format('req_total{code=%s}',"
                  " '\"' || p.code || '\"'), " + at + ") q ORDER BY 1") == [("200", 40.0), ("500", 80.0)]
    assert db.sql("SELECT * FROM promql(NULL)") == []


def test_values_that_are_special(db):
    metric, s = db.make("m", a="1")
    values = [math.inf, -math.inf, math.nan, -0.0]
    db.block("fresh", metric, [(metric, s, (T0 + i) * 1000, v) for i, v in enumerate(values)])
    got = [db.promql("m", T0 + i)[0][1] for i in range(4)]
    assert got[0] == math.inf and got[1] == -math.inf and math.isnan(got[2]) and math.copysign(1, got[3]) == -1


def test_sees_what_the_statement_sees(db):
    stored(db)
    at = T0 + 600
    reader = db.connect()
    reader.autocommit = False
    cur = reader.cursor()
    cur.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    count = f"SELECT count(*) FROM promql('{{job=\"a\"}}', to_timestamp({at}))"
    cur.execute(count)
    assert cur.fetchone() == (3,)
    metric, s = db.make("later", job="a")
    db.block("fresh", metric, [(metric, s, at * 1000, 1.0)])
    cur.execute(count)
    assert cur.fetchone() == (3,)
    reader.rollback()
    cur.execute(count)
    assert cur.fetchone() == (4,)
    reader.rollback()
    # and what was written before in the same transaction
    db.views()
    cur.execute(f"INSERT INTO prom_data.later VALUES (to_timestamp({at + 1}), 7, {s})")
    cur.execute(f"SELECT value FROM promql('later', to_timestamp({at + 1}))")
    assert cur.fetchone() == (7.0,)
    reader.rollback()
    cur.execute(f"SELECT value FROM promql('later', to_timestamp({at + 1}))")
    assert cur.fetchone() == (1.0,)
    reader.close()


@pytest.mark.parametrize("query, state, text", [
    ("sum(", "42601", "1:5: parse error: unclosed left parenthesis"),
    ("foo{", "42601", "parse error: unexpected end of input inside braces"),
    ("abs(m[5m])", "42601", "expected type instant vector in call to function \"abs\", got range vector"),
    ("'text'", "22023", "a PromQL query that gives a string"),
    ("label_replace(temp, 'job', '$1', 'job', '(')", None, ""),
    ('m{a=~"("}', "42601", ""),
])
def test_bad_queries(db, query, state, text):
    stored(db)
    e = db.error("SELECT * FROM promql(%s, to_timestamp(%s))", (query, T0 + 600))
    assert state is None or e.pgcode == state
    assert text in e.diag.message_primary
    if state == "42601":
        assert e.diag.message_hint and "column" in e.diag.message_detail


def test_what_cannot_be_computed(db):
    stored(db)
    e = db.error("SELECT * FROM promql('temp * on (job) req_total', to_timestamp(%s))", (T0 + 600,))
    assert e.pgcode == "22000" and "many-to-many matching not allowed" in e.diag.message_primary
    assert db.one("SELECT 1") == 1


@pytest.mark.parametrize("args, state", [
    ("'infinity', now(), '1m'", "22008"), ("now(), now() - '1 s'::interval, '1m'", "22023"),
    ("now() - '1 h'::interval, now(), '0'", "22023"), ("now() - '1 h'::interval, now(), '-1 s'", "22023"),
    ("now() - '1 h'::interval, now(), '1 month'", "22023"), ("now() - '1 h'::interval, now(), '0.1 ms'", "22023"),
    ("now() - '1 h'::interval, now(), '100 ms'", "54000")])
def test_bad_ranges(db, args, state):
    assert db.error(f"SELECT * FROM promql_range('1', {args})").pgcode == state


def test_annotations(db):
    stored(db)
    db.promql("rate(temp[5m])", T0 + 600)
    assert any("metric might not be a counter" in n and n.startswith("NOTICE") for n in db.conn.notices)
    db.promql("quantile(7, temp)", T0 + 600)
    assert any("quantile value should be between 0 and 1" in n and n.startswith("WARNING") for n in db.conn.notices)


def test_features(db):
    stored(db)
    e = db.error("SELECT * FROM promql('mad_over_time(temp[5m])', to_timestamp(%s))", (T0 + 600,))
    assert e.pgcode == "42601" and "promscale.promql_features" in e.diag.message_hint
    db.sql("SET promscale.promql_features = 'promql-experimental-functions, promql-delayed-name-removal'")
    assert db.promql("mad_over_time(temp[1m])", T0 + 600) == [(T0 + 600, 3.0, {"job": "a"})]
    e = db.error("SET promscale.promql_features = 'promql-magic'")
    assert e.pgcode == "22023" and "promql-magic" in e.diag.message_detail
    db.sql("SET promscale.promql_lookback = '10min'")
    assert len(db.promql("temp", T0 + 901)) == 1


def test_rights(db):
    stored(db)
    for role in ("reading", "nobody"):
        db.sql(f"DROP ROLE IF EXISTS {role}")
        db.sql(f"CREATE ROLE {role} LOGIN")
    db.sql("GRANT prom_reader TO reading")
    call = f"SELECT count(*) FROM prom_api.promql('req_total', to_timestamp({T0 + 600}))"
    with db.connect("reading") as conn, conn.cursor() as cur:
        cur.execute(call)
        assert cur.fetchone() == (2,)
    with db.connect("nobody") as conn, conn.cursor() as cur, pytest.raises(psycopg2.errors.InsufficientPrivilege):
        cur.execute(call)
    # row-level security on the catalog is the gate
    db.views()
    db.sql("ALTER TABLE _prom_catalog.series ENABLE ROW LEVEL SECURITY;"
           " CREATE POLICY one_of_them ON _prom_catalog.series TO reading USING (id = %s)",
           (db.one("SELECT min(series_id) FROM prom_series.req_total"),))
    with db.connect("reading") as conn, conn.cursor() as cur:
        cur.execute(call)
        assert cur.fetchone() == (1,)
    db.sql("DROP OWNED BY reading; DROP ROLE reading; DROP ROLE nobody")


def test_memory_is_bounded(db):
    ids = db.resolve([series("wide", n=str(i)) for i in range(2000)])
    metric = ids.metrics[0]
    for at in range(0, 2000, 500):
        db.block("fresh", metric, [(metric, s, (T0 + 10 * k) * 1000, k * 1.37 + s) for s in ids.series[at:at + 500]
                                   for k in range(100)])
    query = f"SELECT count(*) FROM promql_range('wide', to_timestamp({T0}), to_timestamp({T0 + 1000}), '10 s')"
    assert db.one(query) > 190_000
    db.sql("SET promscale.promql_memory = '4MB'")
    e = db.error(query)
    assert e.pgcode == "53200" and "promscale.promql_memory" in e.diag.message_hint
    db.sql("RESET promscale.promql_memory; SET promscale.promql_max_samples = 1000")
    e = db.error(query)
    assert e.pgcode == "54000" and "too many samples" in e.diag.message_primary
    db.sql("RESET promscale.promql_max_samples")
    assert db.one(query) > 190_000


SLOW = ("SELECT count(*) FROM promql_range('deriv(vector(time() ^ 1.5)[4d:1s])', now() - '1 h'::interval,"
        " now(), '1 s')")


ENDLESS_S = 30  # it takes minutes


def test_statement_timeout(db):
    db.sql("SET statement_timeout = '500ms'")
    began = time.monotonic()
    assert db.error(SLOW).pgcode == "57014"
    assert time.monotonic() - began < ENDLESS_S
    db.sql("RESET statement_timeout")
    assert db.promql("1 + 1") == [(0, 2.0, {})]


def test_cancel(db):
    other = db.connect()
    pid = db.conn.get_backend_pid()

    def cancel():
        time.sleep(0.5)
        until = time.monotonic() + 2 * ENDLESS_S
        while time.monotonic() < until:  # one that comes before the statement has begun is forgotten
            other.cursor().execute("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE pid = %s"
                                   " AND state = 'active' AND query LIKE '%%deriv%%'", (pid,))
            if over.wait(0.5):
                return

    over = threading.Event()
    canceler = threading.Thread(target=cancel)
    canceler.start()
    began = time.monotonic()
    assert db.error(SLOW).pgcode == "57014"
    assert time.monotonic() - began < ENDLESS_S
    over.set()
    canceler.join()
    other.close()
