"""The same question to blocks and to an ordinary table."""

import random

import pytest

from fdw_blocks import DAY_MS, Store
from fdw_samples import T0, write_everything


@pytest.fixture(scope="module")
def store(server):
    server.create("oracle_db")
    conn = server.connect("oracle_db")
    conn.cursor().execute("SET timezone = 'UTC'")
    s = Store(conn)
    write_everything(s, random.Random(7))
    yield s
    conn.close()


COLUMNS = "s.metric_id, s.time, %s AS v, s.series_id, s.labels"


def difference(store, template):
    """Rows on one side only, and rows in all; {s} is the source, {cols} its columns."""
    one, other = ((template.replace("{s}", source).replace("{cols}", COLUMNS % value))
                  for source, value in (("_prom_data.samples", "bits_of(s.value)"),
                                        ("expected", "s.value_bits")))
    return store.sql(f"""
        WITH a AS MATERIALIZED ({one}), b AS MATERIALIZED ({other})
        SELECT (SELECT count(*) FROM (TABLE a EXCEPT ALL TABLE b) x),
               (SELECT count(*) FROM (TABLE b EXCEPT ALL TABLE a) x), (SELECT count(*) FROM b)""")[0]


def test_every_metric(store):
    for metric in (1, 2, 3, 4, 5, 8, 35):
        assert difference(store, f"SELECT {{cols}} FROM {{s}} s WHERE metric_id = {metric}")[:2] == (0, 0)
    extra, missing, n = difference(store, "SELECT {cols} FROM {s} s")
    assert (extra, missing) == (0, 0) and n > 50000
    assert store.sql("SELECT count(*) FROM _prom_data.samples WHERE metric_id = 6") == [(0,)]


def test_the_oracle_is_not_trivial(store):
    """There are duplicates and conflicts between levels and inside a level, else nothing is shown."""
    rows = store.sql("""SELECT count(*) FILTER (WHERE levels > 1), count(*) FILTER (WHERE n > levels)
                        FROM (SELECT count(*) n, count(DISTINCT level) levels, count(DISTINCT bits) d
                              FROM raw GROUP BY series_id, t_ms) x WHERE d > 1""")[0]
    assert min(rows) > 500


def random_time(rng):
    base = rng.choice([T0, T0, T0 + 3 * DAY_MS, 0, T0 + DAY_MS])
    ms = base + rng.choice([0, rng.randrange(0, 900000), rng.randrange(0, 2 * DAY_MS)])
    text = f"timestamptz 'epoch' + {ms // 1000} * interval '1 s' + {ms % 1000} * interval '1 ms'"
    text += rng.choice(["", "", " + interval '300 us'", " - interval '1 us'"])
    return "(" + rng.choice([text, text, text + ")::timestamp + (interval '0'", text + ")::date - (0"]) + ")"


def random_qual(rng):
    kind = rng.randrange(16)
    series = rng.choice([rng.randrange(100, 140), rng.randrange(300, 325), rng.randrange(400, 406), 601, 805, 5])
    if kind < 5:
        return f"s.time {rng.choice(['<', '<=', '>', '>=', '>=', '<'])} {random_time(rng)}"
    return [
        f"{random_time(rng)} <= s.time",
        f"s.time = timestamptz 'epoch' + {(T0 + rng.randrange(900) * 1000) // 1000} * interval '1 s'",
        f"s.series_id = {series}",
        f"{series}::int8 = s.series_id",
        f"s.series_id = ANY ('{{{series}, {series + 1}, {series + 7}, NULL, {series}}}'::int8[])",
        f"s.series_id IN ({series}, 101, 310, 403)",
        f"s.labels[2] = {rng.randrange(1000, 1005)}",
        f"NULLIF(s.labels[3], 0) IS {rng.choice(['', 'NOT '])}NULL",
        f"(s.labels @> ARRAY[{rng.randrange(1000, 1004)}] OR s.series_id < {series})",
        "s.value > 3",
        f"(extract(minute FROM s.time)::int % 3 = 0 OR s.labels[2] = 1001)",
    ][kind - 5]


def random_metric(rng):
    return rng.choice(["s.metric_id = 1", "s.metric_id = 2", "s.metric_id = 2", "s.metric_id = 3",
                       "s.metric_id IN (2, 3, 35, 999)", "s.metric_id = 4::int8", "true",
                       "s.metric_id = ANY (ARRAY[1, 5]::int8[])", "s.metric_id < 3", "s.metric_id = 8"])


@pytest.mark.parametrize("seed", range(12))
def test_random_quals(store, seed):
    rng = random.Random(1000 + seed)
    found = 0
    store.sql(f"SET work_mem = '{rng.choice(['64kB', '256kB', '4MB'])}';"
              f" SET promscale.block_memory = '{rng.choice(['64kB', '1MB', '256MB'])}'")
    for _ in range(25):
        where = " AND ".join([random_metric(rng)] + [random_qual(rng) for _ in range(rng.randrange(4))])
        extra, missing, n = difference(store, f"SELECT {{cols}} FROM {{s}} s WHERE {where}")
        assert (extra, missing) == (0, 0), where
        found += n > 0
    store.sql("RESET work_mem; RESET promscale.block_memory")
    assert found > 3


@pytest.mark.parametrize("join", ["enable_nestloop", "enable_hashjoin", "enable_mergejoin"])
def test_joins(store, join):
    for name in ("enable_nestloop", "enable_hashjoin", "enable_mergejoin"):
        store.sql(f"SET {name} = {'on' if name == join else 'off'}")
    try:
        for query in JOINS:
            extra, missing, n = difference(store, query)
            assert (extra, missing) == (0, 0) and n > 0, query
    finally:
        store.sql("RESET ALL; SET timezone = 'UTC'")


PICK = "(SELECT id, metric_id FROM _prom_catalog.series WHERE labels[2] = 1001) p"
SPANS = ("(SELECT timestamptz 'epoch' + %d * interval '1 s' + g * interval '97 s' AS a,"
         " g * interval '11 s' AS len FROM generate_series(0, 12) g) p" % (T0 // 1000))
JOINS = [
    f"SELECT {{cols}} FROM {PICK} JOIN {{s}} s ON s.series_id = p.id WHERE s.metric_id = 2",
    f"SELECT {{cols}} FROM {PICK} JOIN {{s}} s ON s.series_id = p.id AND s.metric_id = p.metric_id",
    f"SELECT {{cols}} FROM {PICK} JOIN {{s}} s ON s.metric_id = p.metric_id WHERE s.series_id IN (301, 302, 600)",
    f"SELECT {{cols}} FROM {SPANS} JOIN {{s}} s ON s.time >= p.a AND s.time < p.a + p.len"
    " WHERE s.metric_id = 2 AND s.labels[2] = 1001",
    f"SELECT {{cols}} FROM {SPANS} JOIN {{s}} s ON s.time = p.a + interval '3 s' WHERE s.metric_id IN (2, 3)",
    f"SELECT {{cols}} FROM {SPANS}, LATERAL (SELECT * FROM {{s}} q WHERE q.metric_id = 2"
    " AND q.time >= p.a AND q.time < p.a + p.len LIMIT 100000) s",
    f"SELECT {{cols}} FROM {PICK} LEFT JOIN {{s}} s ON s.series_id = p.id AND s.time < timestamptz 'epoch'",
    f"SELECT {{cols}} FROM {{s}} s WHERE s.metric_id = 2 AND EXISTS (SELECT FROM {PICK} WHERE p.id = s.series_id"
    " AND s.labels[3] > 0)",
    "SELECT {cols} FROM {s} s WHERE s.metric_id = 2 AND s.series_id ="
    " (SELECT max(id) FROM _prom_catalog.series WHERE metric_id = 2)",
    "SELECT {cols} FROM {s} s WHERE s.metric_id = 2 AND s.labels[2] IN"
    " (SELECT labels[2] FROM _prom_catalog.series x WHERE x.id = s.series_id AND x.id % 2 = 0)",
]


def test_aggregates_and_columns(store):
    """Columns that nobody asks for are not made; what is asked for must not depend on it."""
    for what in ("count(*)", "count(s.time)", "min(s.time)", "sum(s.series_id)", "sum(s.labels[2])",
                 "count(DISTINCT s.labels)", "max(s.metric_id)"):
        for where in ("true", "s.metric_id = 1", "s.metric_id = 2 AND s.series_id < 310",
                      "s.metric_id = 2 AND s.time >= timestamptz 'epoch' + interval '%d s'" % (T0 // 1000 + 300)):
            query = f"SELECT ({what})::text FROM {{}} s WHERE {where}"
            assert store.sql(query.format("_prom_data.samples")) == store.sql(query.format("expected")), query
    rows = store.sql("SELECT s FROM _prom_data.samples s WHERE metric_id = 3 AND series_id = 400 LIMIT 1")
    assert rows[0][0].count("400") == 1 and '"{3,' in rows[0][0]


def test_prepared_statements(store):
    store.sql("PREPARE q(int4, timestamptz, timestamptz, int8[]) AS SELECT count(*), sum(series_id)"
              " FROM _prom_data.samples WHERE metric_id = $1 AND time >= $2 AND time < $3"
              " AND series_id = ANY ($4)")
    for mode in ("force_generic_plan", "force_custom_plan", "auto"):
        store.sql(f"SET plan_cache_mode = {mode}")
        for metric, first in ((1, 100), (2, 300), (2, 310), (4, 500), (1, 5)):
            args = (metric, "2023-11-15 00:01", "2023-11-17", [first, first + 1, first + 3])
            want = store.sql("SELECT count(*), sum(series_id) FROM expected WHERE metric_id = %s AND"
                             " time >= %s AND time < %s AND series_id = ANY (%s::int8[])", args)
            assert store.sql("EXECUTE q(%s, %s, %s, %s::int8[])", args) == want
    store.sql("RESET plan_cache_mode")
    assert store.sql("EXECUTE q(1, NULL, now(), '{1}')") == [(0, None)]
    assert store.sql("EXECUTE q(1, '-infinity', 'infinity', NULL)") == [(0, None)]


@pytest.mark.parametrize("qual", ["time > 'infinity'", "time >= 'infinity'", "time < '-infinity'",
                                  "time = '-infinity'", "metric_id = 4294967297", "metric_id = -4",
                                  "metric_id = ANY ('{}'::int4[])", "series_id = NULL",
                                  "metric_id = 1 AND metric_id = 2", "series_id = 100 AND series_id = 101",
                                  "time < '2020-01-01' AND time > '2020-01-02'"])
def test_nothing(store, qual):
    assert store.sql(f"SELECT count(*) FROM _prom_data.samples WHERE {qual}") == [(0,)]


@pytest.mark.parametrize("op", ["<", "<=", "=", ">=", ">"])
@pytest.mark.parametrize("offset", ["0 us", "1 us", "-1 us", "500 us", "999 us", "1 ms", "-1 ms"])
def test_bounds_are_exact(store, op, offset):
    """Around a moment that has samples, to the microsecond; before 1970, too."""
    for metric, ms in ((2, T0 + 450000), (4, -DAY_MS), (4, 0)):
        moment = f"timestamptz 'epoch' + {ms // 1000} * interval '1 s' + interval '{offset}'"
        extra, missing, n = difference(store, f"SELECT {{cols}} FROM {{s}} s WHERE s.metric_id = {metric}"
                                       f" AND s.time {op} {moment}")
        assert (extra, missing) == (0, 0)
        assert n > 0 or op == "="


def test_pages_with_ties(store):
    """More rows than a page holds, all of one moment and of three tables."""
    store.sql("BEGIN")
    ids = store.metric(9, 4200, 20000)
    for i, s in enumerate(ids):
        store.block(("fresh", "block_far", "merged")[i % 3], 9, [(9, s, T0, i), (9, s, T0 + 1000, i)])
    store.flush()
    assert store.sql("SELECT count(*), count(DISTINCT series_id), sum(value) FROM _prom_data.samples"
                     " WHERE metric_id = 9") == [(8400, 4200, 4199 * 4200)]
    plan = store.sql("EXPLAIN (ANALYZE, TIMING OFF) SELECT * FROM _prom_data.samples WHERE metric_id = 9")
    assert any("Blocks: read=4200 " in line for line, in plan)
    store.sql("ROLLBACK")


def test_series_quals_with_parameters(store):
    """Series-level quals that change from rescan to rescan, and such that do not."""
    query = ("SELECT p.x, p.y, (SELECT count(*) FROM {} s WHERE s.metric_id = 2 AND s.labels[2] = p.x"
             " AND s.time < timestamptz 'epoch' + %d * interval '1 s' + p.y * interval '1 min')"
             " FROM (SELECT 1000 + g %% 4 AS x, g / 4 AS y FROM generate_series(0, 60) g) p ORDER BY 1, 2"
             % (T0 // 1000))
    rows = store.sql(query.format("_prom_data.samples"))
    assert rows == store.sql(query.format("expected")) and len({r[2] for r in rows}) > 20


def test_small_work_mem(store):
    store.sql("SET work_mem = '64kB'")
    try:
        extra, missing, n = difference(store, "SELECT {cols} FROM {s} s WHERE s.metric_id IN (1, 2, 8)")
        assert (extra, missing) == (0, 0) and n > 0
    finally:
        store.sql("RESET work_mem")
