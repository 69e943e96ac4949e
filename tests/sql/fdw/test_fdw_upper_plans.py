"""Which aggregations the scan takes over, what EXPLAIN says of them, and how little they read."""

import pytest

from fdw_blocks import DAY_MS, Store

T0 = 1700006400000 // DAY_MS * DAY_MS


@pytest.fixture(scope="module")
def store(server):
    server.create("upper_plans_db")
    conn = server.connect("upper_plans_db")
    conn.cursor().execute("SET timezone = 'UTC'")
    s = Store(conn)
    ids = s.metric(10, 100, 1000)
    for day in range(4):
        for i in range(0, 100, 25):
            s.block("block", 10, [(10, x, T0 + day * DAY_MS + k * 1800000, k) for x in ids[i:i + 25]
                                  for k in range(48)])
    s.flush()
    s.sql("CREATE TABLE mine AS SELECT 1000 + g AS id FROM generate_series(0, 9) g")
    yield s
    conn.close()


def explain(store, query, options="COSTS OFF"):
    return "\n".join(r[0] for r in store.sql(f"EXPLAIN ({options}) {query}"))


FROM = " FROM _prom_data.samples WHERE metric_id = 10"
PUSHED = [
    "SELECT avg(value), min(value), max(value), sum(value), count(*)" + FROM,
    "SELECT series_id, avg(value)" + FROM + " GROUP BY series_id",
    "SELECT labels, max(time)" + FROM + " GROUP BY labels",
    "SELECT NULLIF(labels[2], 0), stddev(value)" + FROM + " GROUP BY 1",
    "SELECT date_bin('1 h', time, 'epoch'), avg(value)" + FROM + " GROUP BY 1 ORDER BY 1",
    "SELECT labels[2], date_trunc('day', time), avg(value)" + FROM + " GROUP BY 1, 2",
    "SELECT labels[2], count(*) FILTER (WHERE value > 7)" + FROM + " AND value < 40 GROUP BY 1 HAVING count(*) > 2",
    "SELECT count(*)" + FROM + " AND labels[2] = 1001",
    "SELECT * FROM (SELECT series_id, avg(value) AS a" + FROM + " GROUP BY series_id) x JOIN mine m ON m.id = x.series_id",
]
NOT_PUSHED = [
    "SELECT count(DISTINCT series_id)" + FROM,
    "SELECT array_agg(value)" + FROM,
    "SELECT avg(value), bool_or(value > 3)" + FROM,
    "SELECT labels[2], count(*)" + FROM + " GROUP BY ROLLUP (labels[2])",
    "SELECT value, count(*)" + FROM + " GROUP BY value",
    "SELECT labels[2] + extract(hour FROM time), count(*)" + FROM + " GROUP BY 1",
    "SELECT random() > 2, count(*)" + FROM + " GROUP BY 1",
    "SELECT count(*) FILTER (WHERE random() < 2)" + FROM,
    "SELECT count(*) FROM _prom_data.samples s JOIN mine m ON m.id = s.series_id WHERE metric_id = 10",
    "SELECT max(series_id)" + FROM,
    "SELECT s, count(*) FROM _prom_data.samples s WHERE metric_id = 10 GROUP BY s",
    "SELECT tableoid, count(*)" + FROM + " GROUP BY 1",
    "SELECT series_id, count(*) FROM (SELECT *" + FROM + " LIMIT 10) x GROUP BY 1",
]


@pytest.mark.parametrize("query", PUSHED)
def test_pushed(store, query):
    plan = explain(store, query)
    above = plan.split("Foreign Scan")[0]
    assert "Aggregate" not in above and "Group" not in above, plan
    assert "Aggregate: " in plan or "Group Key: " in plan
    store.sql(query)


@pytest.mark.parametrize("query", NOT_PUSHED)
def test_not_pushed(store, query):
    plan = explain(store, query)
    assert "Aggregate:" not in plan and ("Aggregate" in plan or "Group" in plan), plan
    store.sql(query)


def test_setting(store):
    store.sql("SET promscale.enable_aggregate_pushdown = off")
    try:
        for query in PUSHED:
            assert "Aggregate:" not in explain(store, query)
    finally:
        store.sql("RESET promscale.enable_aggregate_pushdown")


def test_explain(store):
    # from 18 on PostgreSQL names the table before its columns as soon as there is a GROUP BY
    def bare(text):
        return text.replace("samples.", "")

    query = "SELECT labels[2] + 1, avg(value)" + FROM + " AND value < 30 AND labels[3] > 0 GROUP BY labels[2]"
    text = bare(explain(store, query, "ANALYZE, TIMING OFF"))
    for line in ("Aggregate: avg(value)", "Group Key: labels[2]", "Block Cond: (metric_id = 10)", "Blocks: read=16 ",
                 "Series Filter: (labels[3] > 0)", "Sample Filter: (value < "):
        assert line in text, text
    verbose = bare(explain(store, query, "VERBOSE, COSTS OFF"))
    assert "Output: ((labels[2]) + 1), (avg(value)), (labels[2])" in verbose, verbose
    assert '"Group Key": ["labels[2]"]' in bare(explain_json(store, query))


def explain_json(store, query):
    return str(store.sql(f"EXPLAIN (FORMAT JSON) {query}")[0][0]).replace("'", '"')


def test_count_decodes_nothing(store):
    for query in ("SELECT count(*)" + FROM, "SELECT series_id, count(value)" + FROM + " GROUP BY 1"):
        assert "Samples Decoded: 0" in explain(store, query, "ANALYZE, TIMING OFF")


def test_keys_once_per_series_and_bucket(store):
    store.sql("""CREATE SEQUENCE calls;
                 CREATE FUNCTION seen(int8) RETURNS int8 LANGUAGE plpgsql STABLE AS
                 $$BEGIN PERFORM nextval('calls'); RETURN $1; END$$;
                 CREATE FUNCTION seen(timestamptz) RETURNS timestamptz LANGUAGE plpgsql STABLE AS
                 $$BEGIN PERFORM nextval('calls'); RETURN $1; END$$""")
    n = 0
    for keys, calls in (("seen(series_id)", 100), ("seen(date_bin('12 h', time, 'epoch'))", 8),
                        ("seen(time)", 4 * 48)):
        rows = store.sql(f"SELECT {keys}, sum(value)" + FROM + " GROUP BY 1")
        n += calls
        assert len(rows) == calls and store.sql("SELECT last_value FROM calls")[0][0] == n, keys


@pytest.fixture(scope="module")
def views(server):
    """A metric as people see it: through its view, its labels by name."""
    server.create("upper_views_db", everything=True)
    server.sql("ALTER DATABASE upper_views_db SET search_path = public, ps_tag, prom_api, prom_metric")
    conn = server.connect("upper_views_db")
    s = Store(conn)
    s.sql("SET timezone = 'UTC'")
    metric, ids = s.sql("""SELECT metric_ids[1], series_ids FROM _prom_catalog.resolve_series(0, '{cpu}',
        '{__name__,job,job,zone}', '{cpu,api,db,north}', '{1,1,1}', '{2,3,2}', '{1,2,1,2,4,1,3}')""")[0]
    s.sql("SELECT _prom_catalog.make_metric_views()")
    s.block("fresh", metric, [(metric, x, T0 + k * 60000, 100.0 * n + k) for n, x in enumerate(ids) for k in range(60)])
    s.flush()
    yield s
    conn.close()


VIEW_QUERIES = [
    ("SELECT val(job_id), avg(value) FROM cpu GROUP BY job_id ORDER BY 1", [("api", 79.5), ("db", 229.5)]),
    ("SELECT val(job_id) AS job, max(value) FROM cpu GROUP BY 1 ORDER BY 1", [("api", 159.0), ("db", 259.0)]),
    ("SELECT zone_id IS NULL, count(*) FROM cpu WHERE labels ? ('job' == 'api') GROUP BY 1 ORDER BY 1",
     [(False, 60), (True, 60)]),
    ("SELECT time_bucket('30 min', time)::time::text, sum(value) FROM cpu WHERE labels ? ('job' !=~ 'a') GROUP BY"
     " time_bucket('30 min', time) ORDER BY 1", [("00:00:00", 6435.0), ("00:30:00", 7335.0)]),
    ("SELECT jsonb(labels)->>'job', last(value, time) FROM cpu GROUP BY series_id, labels ORDER BY 2",
     [("api", 59.0), ("api", 159.0), ("db", 259.0)]),
    ("SELECT count(*), sum(value), min(value), max(value) FROM cpu", [(180, 23310.0, 0.0, 259.0)]),
]


@pytest.mark.parametrize("query, rows", VIEW_QUERIES)
def test_views(views, query, rows):
    plan = explain(views, query)
    assert ("Aggregate: " in plan or "Group Key: " in plan) and "Aggregate" not in plan.split("Foreign Scan")[0], plan
    assert views.sql(query) == rows
