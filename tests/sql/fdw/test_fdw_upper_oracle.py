"""Aggregates that the scan computes: with and without the pushdown, and over an ordinary table, the answers agree."""

import math
import random
from decimal import Decimal

import psycopg2
import psycopg2.extensions
import pytest

from fdw_blocks import Store
from fdw_samples import T0, write_everything

# times as text: Python's know no years beyond 9999
psycopg2.extensions.register_type(psycopg2.extensions.new_type((1082, 1114, 1184), "AS_TEXT", lambda v, cur: v))

ZONES = ["UTC", "UTC", "America/St_Johns", "Asia/Kathmandu"]


@pytest.fixture(scope="module")
def store(server):
    server.create("upper_db")
    server.sql("ALTER DATABASE upper_db SET search_path = public, prom_api")
    conn = server.connect("upper_db")
    conn.cursor().execute("SET timezone = 'UTC'")
    s = Store(conn)
    write_everything(s, random.Random(7))
    yield s
    conn.close()


@pytest.fixture(autouse=True)
def clean(store):
    yield
    store.sql("ROLLBACK; RESET ROLE; RESET ALL; SET timezone = 'UTC'")


def pushed(store, query):
    """Is the aggregation part of the scan?"""
    plan = "\n".join(r[0] for r in store.sql(f"EXPLAIN {query}"))
    return "Aggregate" not in plan.split("Foreign Scan")[0] and "Foreign Scan" in plan and \
        ("  Aggregate: " in plan or "  Group Key: " in plan)


def run(store, query):
    try:
        return store.sql(query), None
    except psycopg2.Error as e:
        return None, e.pgcode


def near(a, b):
    if isinstance(a, (float, Decimal)) and isinstance(b, (float, Decimal)):
        return a == b or (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, rel_tol=1e-9)
    return a == b


def order(row):
    return [(x is None, str(x)) for x in row]


def same(one, other, n_keys):
    if len(one) != len(other):
        return False
    pairs = zip(sorted(one, key=lambda r: order(r[:n_keys])), sorted(other, key=lambda r: order(r[:n_keys])))
    return all(all(near(x, y) for x, y in zip(a, b)) for a, b in pairs)


def check(store, template, n_keys, must_push=True, oracle=None):
    """The rows; {s} is the source. oracle: the query to ask where it differs (avg keeps a variance that may
    overflow, which the pushdown does not)."""
    query = template.replace("{s}", "_prom_data.samples")
    is_pushed = pushed(store, query)
    assert is_pushed or not must_push, query
    if oracle is None or not is_pushed:
        oracle = template
    got = run(store, query)
    store.sql("SET promscale.enable_aggregate_pushdown = off")
    try:
        assert not pushed(store, query)
        rows = run(store, oracle.replace("{s}", "_prom_data.samples"))
    finally:
        store.sql("RESET promscale.enable_aggregate_pushdown")
    plain = run(store, oracle.replace("{s}", "expected"))
    assert got[1] == rows[1] == plain[1], (query, got[1], rows[1], plain[1])
    if got[1] is None:
        assert same(got[0], rows[0], n_keys), (query, "rows")
        assert same(got[0], plain[0], n_keys), (query, "oracle")
    return got[0]


SERIES_KEYS = ["s.series_id", "s.labels", "s.labels[2]", "NULLIF(s.labels[3], 0)", "s.metric_id", "s.series_id % 3",
               "('g' || s.labels[2]) COLLATE \"C\"", "s.labels[9]", "(s.labels[2] > 1001)", "s.labels::text"]
TIME_KEYS = ["s.time", "date_bin('1 min', s.time, '2000-01-01')", "date_trunc('hour', s.time)",
             "date_trunc('minute', s.time)", "extract(second FROM s.time)", "s.time::date",
             "date_bin('7.5 s', s.time, '2031-02-16 20:38:40.0011')", "date_trunc('month', s.time)",
             "to_char(date_bin('5 min', s.time, '1999-12-31'), 'HH24:MI')", "date_trunc('day', s.time)",
             "extract(epoch FROM date_bin('2 min 30 s', s.time, 'epoch'))::int8", "date_bin('1 day', s.time, 'epoch')",
             "date_trunc('hour', s.time, 'Europe/Paris')", "date_trunc('week', s.time)"]
PLAIN = ["count(*)", "count(s.value)", "count(s.time)", "count(s.series_id)", "sum(s.value)", "min(s.value)",
         "max(s.value)", "min(s.time)", "max(s.time)", "min(s.value + 1)", "sum(abs(s.value))", "count(s.labels[3])",
         "count(NULLIF(s.value, 1))", "max(s.value)", "sum(s.value)"]
MOMENTS = ["stddev", "stddev_pop", "stddev_samp", "variance", "var_pop", "var_samp"]
FILTERS = ["s.labels[2] = 1001", "s.series_id % 2 = 0", "s.value > 3", "s.time < timestamptz 'epoch'",
           "s.value = 'NaN'", "s.labels[3] > 0 AND s.value < 50", "NULL", "true", "extract(second FROM s.time) < 20"]
WHERES = ["s.series_id > 110", "s.labels[2] IN (1001, 1002)", "s.value > 2", "s.value <> 'NaN'",
          "s.time >= timestamptz 'epoch' + interval '%d s'" % (T0 // 1000 + 300),
          "s.time < timestamptz 'epoch' + interval '%d s'" % (T0 // 1000 + 40000),
          "extract(minute FROM s.time)::int % 3 = 0", "s.labels[77] IS NULL", "s.series_id IN (101, 305, 310, 403)",
          "(s.value < 3 OR s.labels[2] = 1001)", "s.series_id < 5"]
METRICS = ["s.metric_id = 1", "s.metric_id = 2", "s.metric_id = 3", "s.metric_id = 5", "s.metric_id = 8",
           "s.metric_id IN (2, 3, 35, 999)", "s.metric_id = 6", "true"]


def random_aggregate(rng):
    """The aggregate and what the oracle is asked instead."""
    filtered = f" FILTER (WHERE {rng.choice(FILTERS)})" if rng.random() < 0.3 else ""
    kind = rng.randrange(12)
    if kind == 0:
        arg = rng.choice(["s.value", "s.value", "s.value * 2"])
        return (f"avg({arg}){filtered} + 0", f"sum({arg}){filtered} / count({arg}){filtered} + 0")
    if kind == 1:
        text = f"{rng.choice(MOMENTS)}(s.value){filtered}"
        return (text, text)
    text = rng.choice(PLAIN) + filtered
    if kind == 2 and "sum" not in text:
        text = f"({text})::text || '!'"
    return (text, text)


def random_query(rng):
    keys = rng.sample(SERIES_KEYS, rng.choice([0, 1, 1, 2])) + rng.sample(TIME_KEYS, rng.choice([0, 0, 1, 1, 2]))
    rng.shuffle(keys)
    pairs = [random_aggregate(rng) for _ in range(rng.randint(1, 4))]
    metric = rng.choice(METRICS)
    where = " AND ".join([metric] + rng.sample(WHERES, rng.choice([0, 0, 1, 2])))
    tail = f" FROM {{s}} s WHERE {where}"
    if keys:
        tail += " GROUP BY " + ", ".join(keys)
    if rng.random() < 0.3:
        tail += " HAVING " + rng.choice(["count(*) > 5", "max(s.value) > 100 OR count(*) < 3", "NOT min(s.value) < 0"])
    heads = ["SELECT " + ", ".join(keys + [p[i] for p in pairs]) for i in (0, 1)]
    return heads[0] + tail, heads[1] + tail, len(keys)


@pytest.mark.parametrize("seed", range(10))
def test_random_queries(store, seed):
    rng = random.Random(2000 + seed)
    store.sql(f"SET work_mem = '{rng.choice(['64kB', '4MB'])}'; SET timezone = '{ZONES[seed % 4]}'")
    found = 0
    for _ in range(20):
        query, oracle, n_keys = random_query(rng)
        found += bool(check(store, query, n_keys, must_push=False, oracle=oracle))
    assert found > 5


@pytest.mark.parametrize("keys", [[], ["s.series_id"], ["s.labels[2]"], ["date_bin('1 min', s.time, 'epoch')"],
                                  ["s.labels[2]", "date_bin('1 min', s.time, 'epoch')"], ["s.time"]])
@pytest.mark.parametrize("metric", [1, 2, 3, 5, 6, 8])
def test_each_metric(store, keys, metric):
    """All aggregates at once, with everything that each metric has in store for them."""
    store.sql("SET work_mem = '64MB'")  # where groups need several passes, rows may be cheaper
    aggregates = ["count(*)", "sum(s.value)", "min(s.value)", "max(s.value)", "min(s.time)", "max(s.time)"]
    tail = f" FROM {{s}} s WHERE s.metric_id = {metric}" + (f" GROUP BY {', '.join(keys)}" if keys else "")
    query, oracle = ("SELECT " + ", ".join(keys + aggregates + [avg]) + tail
                     for avg in ("avg(s.value) + 0", "sum(s.value) / count(s.value) + 0"))
    rows = check(store, query, len(keys), oracle=oracle)
    assert len(rows) == (0 if metric == 6 and keys else len(rows)) and (rows or metric == 6)


def test_far_times(store):
    for key in ("s.time", "date_trunc('month', s.time)", "extract(year FROM s.time)", "s.series_id"):
        check(store, f"SELECT {key}, count(*), sum(s.value), max(s.time) FROM {{s}} s WHERE s.metric_id = 4"
                     f" GROUP BY {key}", 1)
    for width in ("1 h", "1 day", "1 ms"):
        check(store, f"SELECT date_bin('{width}', s.time, 'epoch'), count(*) FROM {{s}} s"
              " WHERE s.metric_id = 4 AND s.time > '1900-01-01' GROUP BY 1", 1)


def test_many_passes(store):
    """Groups that do not fit into memory come in several passes, each once."""
    store.sql("SET work_mem = '1MB'; SET hash_mem_multiplier = 1")
    try:
        for keys in (["s.time"], ["s.series_id", "s.time"], ["s.series_id", "date_bin('1 min', s.time, 'epoch')"],
                     ["s.labels[2]", "extract(epoch FROM s.time)"]):
            query = (f"SELECT {', '.join(keys)}, count(*), sum(s.value), max(s.value) FROM {{s}} s"
                     f" WHERE s.metric_id = 1 GROUP BY {', '.join(keys)}")
            store.sql("SET enable_hashagg = off; SET enable_sort = off")
            assert len(check(store, query, len(keys))) > 1000
            plan = "\n".join(r[0] for r in store.sql("EXPLAIN (ANALYZE, TIMING OFF) "
                                                     + query.replace("{s}", "_prom_data.samples")))
            assert "Passes: " in plan
    finally:
        store.sql("RESET ALL")


SHAPES = [
    # the target list and HAVING may do anything with keys and aggregates
    ("SELECT s.labels[2], s.labels[2] + count(*), -max(s.value), 7 FROM {s} s WHERE s.metric_id = 1"
     " GROUP BY s.labels[2] HAVING sum(s.value) > 0 AND s.labels[2] <> 1001", 1),
    ("SELECT NULLIF(s.labels[3], 0) AS x, count(*) FROM {s} s WHERE s.metric_id = 1 GROUP BY 1", 1),
    ("SELECT 'x'::text, count(*) FROM {s} s WHERE s.metric_id = 1 GROUP BY 1", 1),
    ("SELECT 'x'::text, count(*) FROM {s} s WHERE s.metric_id = 6 GROUP BY 1", 1),
    ("SELECT count(*) FROM {s} s WHERE s.metric_id = 1 HAVING count(*) < 0", 0),
    ("SELECT 1 FROM {s} s WHERE s.metric_id = 6 HAVING count(*) = 0", 0),
    ("SELECT s.series_id FROM {s} s WHERE s.metric_id = 1 GROUP BY s.series_id", 1),
    ("SELECT a.k, a.n, e.id FROM (SELECT s.series_id AS k, count(*) AS n FROM {s} s WHERE s.metric_id = 1"
     " GROUP BY s.series_id) a JOIN _prom_catalog.series e ON e.id = a.k", 1),
    ("WITH a AS MATERIALIZED (SELECT s.labels[2] AS k, max(s.time) AS t FROM {s} s WHERE s.metric_id = 2"
     " GROUP BY 1) SELECT k, t FROM a UNION ALL SELECT -k, t FROM a", 1),
    ("SELECT g, (SELECT count(*) FROM {s} s WHERE s.metric_id = g AND s.value > g) FROM generate_series(0, 9) g", 1),
    ("SELECT g, x.k, x.n FROM generate_series(1, 4) g, LATERAL (SELECT s.labels[2] % g AS k, count(*) AS n,"
     " sum(g * s.value) AS v FROM {s} s WHERE s.metric_id = g GROUP BY 1) x", 2),
    ("SELECT x.k, x.n, g FROM (VALUES (1), (2), (1)) v(g) CROSS JOIN LATERAL (SELECT s.series_id AS k, count(*) AS n"
     " FROM {s} s WHERE s.metric_id = 3 GROUP BY 1 OFFSET 0) x", 3),
    ("SELECT s.labels[2], count(*), sum(count(*)) OVER (ORDER BY s.labels[2]) FROM {s} s WHERE s.metric_id = 1"
     " GROUP BY 1 ORDER BY 1 LIMIT 3", 1),
    ("SELECT generate_series(1, 2), s.labels[2], count(*) FROM {s} s WHERE s.metric_id = 1 GROUP BY s.labels[2]", 2),
    ("SELECT count(*), (SELECT max(p.id) FROM _prom_catalog.series p HAVING max(p.id) < count(s.value)) FROM {s} s"
     " WHERE s.metric_id = 1", 0),
    ("SELECT s.series_id, count(*) FROM {s} s WHERE s.metric_id = 1 AND s.series_id ="
     " (SELECT max(id) FROM _prom_catalog.series WHERE metric_id = 1) GROUP BY 1", 1),
    ("SELECT DISTINCT count(*) FROM {s} s WHERE s.metric_id = 1 GROUP BY s.series_id", 1),
]


@pytest.mark.parametrize("shape", range(len(SHAPES)))
def test_shapes(store, shape):
    query, n_keys = SHAPES[shape]
    check(store, query, n_keys, must_push=False)
    plan = "\n".join(r[0] for r in store.sql("EXPLAIN VERBOSE " + query.replace("{s}", "_prom_data.samples")))
    assert "  Aggregate: " in plan or "  Group Key: " in plan, plan


def test_sum_leaves_the_range(store):
    """As PostgreSQL: an error for a sum that overflows, none for infinities that were put in."""
    store.sql("BEGIN")
    ids = store.metric(20, 3, 30000)
    for k, values in enumerate([[1.7e308, 1.7e308, 1.0], [1.7e308, -1.7e308, -1.7e308, 1.0],
                                [math.inf, 1.7e308, 1.7e308]]):
        store.block("merged", 20, [(20, ids[k], T0 + i * 1000, v) for i, v in enumerate(values)])
    store.flush()
    store.sql("DROP TABLE expected; CREATE TABLE expected AS SELECT * FROM oracle")
    for k, s in enumerate(ids):
        for aggregate in ("sum", "avg", "stddev"):
            query = f"SELECT {aggregate}(value) FROM {{}} WHERE metric_id = 20 AND series_id = {s}"
            answers = []
            for source in ("_prom_data.samples", "expected"):
                store.sql("SAVEPOINT a")
                answers.append(run(store, query.format(source)))
                store.sql("ROLLBACK TO a")
            if aggregate == "avg" and k == 1:  # the one place where less fails
                assert answers[0][1] is None and answers[1][1] == "22003"
            else:
                assert answers[0][1] == answers[1][1], (query, answers)
                assert answers[0][1] is not None or same(answers[0][0], answers[1][0], 0), (query, answers)
                assert (answers[0][1] == "22003") == (k == 0 or (k == 1 and aggregate == "stddev"))
    store.sql("ROLLBACK")


def test_prepared(store):
    """Generic plans: values of conditions, keys, widths and filters are parameters."""
    store.sql("""PREPARE q(int4, timestamptz, interval, int4, float8) AS
        SELECT date_bin($3, time, 'epoch') AS t, labels[$4] AS k, count(*), sum(value) FILTER (WHERE value < $5)
        FROM _prom_data.samples WHERE metric_id = $1 AND time >= $2 GROUP BY 1, 2""")
    store.sql("SET plan_cache_mode = force_generic_plan")
    try:
        assert "  Group Key: date_bin($3" in "\n".join(
            r[0] for r in store.sql("EXPLAIN EXECUTE q(1, '-infinity', '1 min', 2, 7)"))
        for args in ((1, "-infinity", "1 min", 2, 7.0), (2, "2023-11-15 00:05", "20 s", 3, 0.5),
                     (1, "2023-11-16", "1 day", 77, math.inf), (5, "-infinity", "3 s", 2, None)):
            want = store.sql("SELECT date_bin(%(w)s, time, 'epoch') AS t, labels[%(k)s] AS k, count(*),"
                             " sum(value) FILTER (WHERE value < %(v)s) FROM expected WHERE metric_id = %(m)s"
                             " AND time >= %(t)s GROUP BY 1, 2",
                             dict(m=args[0], t=args[1], w=args[2], k=args[3], v=args[4]))
            assert same(store.sql("EXECUTE q(%s, %s, %s, %s, %s)", args), want, 2) and want
        with pytest.raises(psycopg2.errors.DatetimeFieldOverflow):
            store.sql("EXECUTE q(1, '-infinity', '0', 2, 7)")
    finally:
        store.sql("RESET plan_cache_mode; DEALLOCATE q")


def test_cursors_and_savepoints(store):
    """Groups in a cursor stay while the session goes on, and scroll."""
    query = "SELECT series_id, count(*), sum(value) FROM {} WHERE metric_id = 1 GROUP BY series_id ORDER BY series_id"
    want = store.sql(query.format("expected"))
    store.sql("BEGIN; DECLARE c SCROLL CURSOR FOR " + query.format("_prom_data.samples"))
    got = store.sql("FETCH 3 FROM c")
    store.sql("SAVEPOINT a; UPDATE _prom_catalog.series SET labels = '{1}'; SELECT 1")
    got += store.sql("FETCH 3 FROM c")
    store.sql("ROLLBACK TO a")
    got += store.sql("FETCH ALL FROM c")
    assert same(got, want, 1)
    assert store.sql("FETCH ABSOLUTE 2 FROM c")[0][0] == want[1][0]
    store.sql("COMMIT")


def test_row_security(store):
    """Series that a policy hides are in no group; a policy on the samples is not stepped over."""
    store.sql("CREATE ROLE upper_user; GRANT USAGE ON SCHEMA _prom_data, _prom_catalog TO upper_user;"
              "GRANT SELECT ON ALL TABLES IN SCHEMA _prom_data, _prom_catalog TO upper_user;"
              "ALTER TABLE _prom_catalog.series ENABLE ROW LEVEL SECURITY;"
              "CREATE POLICY even ON _prom_catalog.series FOR SELECT TO upper_user USING (id % 2 = 0);"
              "SET ROLE upper_user")
    try:
        query = "SELECT series_id, count(*) FROM _prom_data.samples WHERE metric_id = 1 GROUP BY 1"
        assert pushed(store, query)
        assert sorted(store.sql(query)) == sorted(
            (r for r in store.sql("RESET ROLE; SELECT series_id, count(*) FROM expected WHERE metric_id = 1"
                                  " AND series_id % 2 = 0 GROUP BY 1")))
    finally:
        store.sql("RESET ROLE; DROP POLICY even ON _prom_catalog.series;"
                  "ALTER TABLE _prom_catalog.series DISABLE ROW LEVEL SECURITY;"
                  "DROP OWNED BY upper_user; DROP ROLE upper_user")


def test_barriers(store):
    """What is behind a security barrier is not shown to a function in the query; nor what a qual excludes."""
    store.sql("""CREATE VIEW held WITH (security_barrier) AS
                     SELECT * FROM _prom_data.samples WHERE metric_id = 1 AND value > 50;
                 CREATE FUNCTION nosy(int8) RETURNS int8 LANGUAGE plpgsql STABLE COST 0.001 AS
                 $$BEGIN IF $1 < 105 THEN RAISE 'saw %', $1; END IF; RETURN $1; END$$""")
    with pytest.raises(psycopg2.errors.RaiseException):
        store.sql("SELECT nosy(series_id), count(*) FROM _prom_data.samples WHERE metric_id = 1 GROUP BY 1")
    for query in ("SELECT nosy(series_id), count(*) FROM {s} s WHERE metric_id = 1 AND series_id > 110 GROUP BY 1",
                  "SELECT nosy(series_id), count(*) FROM {s} s WHERE metric_id = 1 AND value > 10900 GROUP BY 1"):
        assert check(store, query, 1)
    store.sql("DROP VIEW held; DROP FUNCTION nosy")


# times of a bucket, by series: no two samples have the same time, so first and last are certain
NEWEST = ["last(s.value, s.time)", "max(s.time)", "last(s.value, s.time), max(s.time)"]
NEWEST_KEYS = ["s.series_id", "s.series_id, s.labels", "s.labels, s.series_id % 2, s.series_id"]
BOUNDS = ["true", "s.time < timestamptz 'epoch' + interval '%d s'" % (T0 // 1000 + 450),
          "s.time <= timestamptz 'epoch' + interval '%d s'" % (T0 // 1000 + 90000),
          "s.time >= timestamptz 'epoch' + interval '%d s'" % (T0 // 1000 + 450),
          "s.time BETWEEN timestamptz 'epoch' + interval '%d s' AND timestamptz 'epoch' + interval '%d s'"
          % (T0 // 1000 + 100, T0 // 1000 + 333),
          "s.series_id % 3 = 0", "s.series_id IN (103, 304, 402, 601)", "s.labels[2] = 1001 AND s.time < '1990-01-01'",
          "s.time > '2100-01-01'"]


@pytest.mark.parametrize("metric", [1, 2, 3, 4, 5, 6, 8, "2 OR s.metric_id = 3", "35 OR true"])
def test_newest(store, metric):
    """The newest sample of each series, read from the newest blocks, whatever overlaps there."""
    found = 0
    for bounds in BOUNDS:
        where = f"(s.metric_id = {metric}) AND {bounds}" if isinstance(metric, str) else \
            f"s.metric_id = {metric} AND {bounds}"
        for what in NEWEST:
            for keys in NEWEST_KEYS:
                query = f"SELECT {keys}, {what} FROM {{s}} s WHERE {where} GROUP BY {keys}"
                found += len(check(store, query, keys.count(",") + 1))
        query = (f"SELECT DISTINCT ON (s.series_id) s.series_id, s.time, s.value, s.labels, s.labels[2] + 1"
                 f" FROM {{s}} s WHERE {where} ORDER BY s.series_id, s.time DESC")
        found += len(check(store, query, 1, must_push=False))
        assert "Newest Samples: of each series" in "\n".join(
            r[0] for r in store.sql("EXPLAIN " + query.replace("{s}", "_prom_data.samples")))
        for query in (f"SELECT max(s.time) FROM {{s}} s WHERE {where}",
                      f"SELECT DISTINCT s.labels[2] FROM {{s}} s WHERE {where}",
                      f"SELECT s.labels[3], max(s.time), count(*) FROM {{s}} s WHERE {where} GROUP BY 1"):
            check(store, query, 1)
    assert found > 0 or metric == 6


def test_newest_not(store):
    """Where the newest sample of a series is not what is asked for."""
    for query in ("SELECT DISTINCT ON (s.series_id) s.series_id, s.time, s.value FROM {s} s WHERE s.metric_id = 1"
                  " ORDER BY s.series_id, s.time",
                  "SELECT DISTINCT ON (s.series_id) s.series_id, s.time, s.value FROM {s} s WHERE s.metric_id = 1"
                  " ORDER BY s.series_id, s.value DESC, s.time DESC",
                  "SELECT DISTINCT ON (s.series_id) s.series_id, s.time, s.value FROM {s} s WHERE s.metric_id = 1"
                  " AND s.value < 12000 ORDER BY s.series_id, s.time DESC",
                  "SELECT DISTINCT ON (s.labels[2]) s.labels[2], s.time, s.series_id FROM {s} s WHERE s.metric_id = 1"
                  " ORDER BY s.labels[2], s.time DESC, s.series_id"):
        assert check(store, query, 1, must_push=False)
        assert "Newest" not in "\n".join(
            r[0] for r in store.sql("EXPLAIN " + query.replace("{s}", "_prom_data.samples")))
    for what in ("first(s.value, s.time)", "last(s.value, s.time) FILTER (WHERE s.value < 9000)"):
        query = f"SELECT s.series_id, {what} FROM {{s}} s WHERE s.metric_id = 1 GROUP BY 1"
        assert check(store, query, 1, must_push="FILTER" not in what)


def test_first_and_last_by_bucket(store):
    store.sql("SET work_mem = '64MB'")
    for bucket in ("date_bin('10 min', s.time, 'epoch')", "time_bucket('10 min', s.time)",
                   "time_bucket('1 day', s.time, interval '7 h')", "time_bucket('1 month', s.time)",
                   "time_bucket('90 s', s.time, timestamptz '2020-01-01 00:00:33.0005')"):
        for metric in (1, 2, 8):
            assert check(store, f"SELECT s.series_id, {bucket}, first(s.value, s.time), last(s.value, s.time), count(*)"
                         f" FROM {{s}} s WHERE s.metric_id = {metric} GROUP BY 1, 2", 2)


def test_first_and_last_over_rows(store):
    """The aggregates themselves: NULLs, ties, empty input."""
    assert store.sql("SELECT first(v, t), last(v, t) FROM (VALUES (1::float8, timestamptz '2020-01-02'), (2, '2020-01-01'),"
                     " (3, NULL), (4, '2020-01-02'), (NULL, '2020-01-01')) x(v, t)") == [(2.0, 1.0)]
    assert store.sql("SELECT last(v, t), first(v, t) FROM (VALUES (1::float8, timestamptz '2020-01-02'),"
                     " (NULL, '2020-01-03'), (NULL, 'infinity'), (5, '-infinity')) x(v, t)") == [(None, 5.0)]
    assert store.sql("SELECT last(1.0, now()) FROM generate_series(1, 0)") == [(None,)]
    assert store.sql("SELECT last(3.5, NULL), first(NULL, now())") == [(None, None)]
