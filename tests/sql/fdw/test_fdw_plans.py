"""What is pushed down, what EXPLAIN tells, what is locked."""

import json

import pytest

from fdw_blocks import DAY_MS, Store

T0 = 1700006400000 // DAY_MS * DAY_MS
DAYS = 60


@pytest.fixture(scope="module")
def store(server):
    server.create("plans_db")
    conn = server.connect("plans_db")
    conn.cursor().execute("SET timezone = 'UTC'")
    s = Store(conn)
    ids = s.metric(10, 100, 1000)
    for day in range(DAYS):
        for half in range(2):
            start = T0 + day * DAY_MS + half * DAY_MS // 2
            for i in range(0, 100, 25):
                s.block("block", 10, [(10, x, start + k * 1800000, k) for x in ids[i:i + 25]
                                      for k in range(24)])
    s.metric(11, 5, 2000)
    s.flush()
    s.sql("VACUUM ANALYZE")
    yield s
    conn.close()


def explain(store, query, analyze=True):
    options = "ANALYZE, TIMING OFF, FORMAT JSON" if analyze else "FORMAT JSON"
    return store.sql(f"EXPLAIN ({options}) {query}")[0][0][0]["Plan"]


def scans(plan):
    found = [plan] if plan["Node Type"] == "Foreign Scan" else []
    for child in plan.get("Plans", []):
        found += scans(child)
    return found


def scan(store, query, analyze=True):
    found = scans(explain(store, query, analyze))
    assert len(found) == 1
    return found[0]


def day(n):
    return f"(timestamptz 'epoch' + {T0 // 1000 + n * 86400} * interval '1 s')"


def test_where_quals_go(store):
    node = scan(store, f"SELECT * FROM _prom_data.samples WHERE metric_id = 10 AND time >= {day(3)}"
                f" AND time < {day(4)} AND labels[2] = 1001 AND NULLIF(labels[3], 0) IS NOT NULL"
                " AND value > 5 AND (value < 3 OR labels[2] = 1001)")
    for text in ("metric_id = 10", "time", ">=", "<"):
        assert text in node["Block Cond"]
    assert "labels[2] = 1001" in node["Series Filter"] and "NULLIF" in node["Series Filter"]
    assert "value" not in node["Series Filter"] and "value" not in node["Block Cond"]
    assert "value > " in node["Filter"] and "metric_id" not in node["Filter"]
    assert node["Series Matched"] < node["Series Total"] == 100
    assert node["Blocks Read"] <= 8


def test_explain_alone_reads_nothing(store):
    node = scan(store, "SELECT * FROM _prom_data.samples WHERE metric_id = 10", analyze=False)
    assert "Blocks Read" not in node and "Block Cond" in node
    text = "\n".join(r[0] for r in store.sql(
        "EXPLAIN (ANALYZE) SELECT count(*) FROM _prom_data.samples WHERE metric_id = 10 AND series_id = 1003"))
    assert f"Blocks: read={2 * DAYS} skipped by series={6 * DAYS}" in text
    assert "Series: matched=1 total=1" in text


def test_counts(store):
    node = scan(store, "SELECT avg(value) FROM _prom_data.samples WHERE metric_id = 10")
    assert node["Blocks Read"] == 8 * DAYS and node["Samples Decoded"] == 4800 * DAYS
    assert scan(store, "SELECT count(*) FROM _prom_data.samples WHERE metric_id = 10")["Samples Decoded"] == 0
    node = scan(store, "SELECT * FROM _prom_data.samples WHERE metric_id = 10 LIMIT 7")
    assert node["Blocks Read"] == 1 and node["Samples Decoded"] <= 24


def test_estimates(store):
    """Not exact, but of the right size where blocks say so."""
    for where, rows in (("true", 4800 * DAYS), (f"time >= {day(10)} AND time < {day(20)}", 48000),
                        ("series_id = 1001", 48 * DAYS), (f"time >= {day(59)}", 4800)):
        plan = scan(store, f"SELECT * FROM _prom_data.samples WHERE metric_id = 10 AND {where}", False)
        assert rows / 2 <= plan["Plan Rows"] <= rows * 2, where


def test_once_per_series(store):
    store.sql("""CREATE SEQUENCE calls;
                 CREATE FUNCTION seen(int4[]) RETURNS bool LANGUAGE plpgsql STABLE AS
                 $$BEGIN PERFORM nextval('calls'); RETURN $1[2] = 1002; END$$""")
    n = store.sql("SELECT count(*) FROM _prom_data.samples WHERE metric_id = 10 AND seen(labels)")[0][0]
    assert n == 25 * 48 * DAYS
    assert store.sql("SELECT last_value FROM calls")[0][0] == 100
    store.sql("ALTER FUNCTION seen VOLATILE")
    store.sql(f"SELECT count(*) FROM _prom_data.samples WHERE metric_id = 10 AND seen(labels) AND time < {day(1)}")
    assert store.sql("SELECT last_value FROM calls")[0][0] == 100 + 4800


def test_barrier_first(store):
    """A qual from outside a security barrier must not see what the barrier hides."""
    store.sql("""CREATE VIEW guarded WITH (security_barrier) AS
                 SELECT * FROM _prom_data.samples WHERE metric_id = 10 AND value = 23;
                 CREATE FUNCTION leak(int8) RETURNS bool LANGUAGE plpgsql STABLE COST 0.0001 AS
                 $$BEGIN RAISE NOTICE 'saw %', $1; RETURN true; END$$""")
    plan = explain(store, "SELECT count(*) FROM guarded WHERE leak(series_id) AND series_id = 1001", False)
    node = scans(plan)[0]
    assert "leak" not in json.dumps(node) and "leak" in json.dumps(plan)
    assert "series_id = 1001" in node["Block Cond"]  # leakproof, so it may go first


def test_joins_choose(store):
    few = explain(store, "SELECT count(*) FROM _prom_catalog.series p JOIN _prom_data.samples s"
                  " ON s.series_id = p.id WHERE s.metric_id = 10 AND p.id IN (1001, 1050)")
    inner = scans(few)[0]
    assert "series_id" in inner["Block Cond"] and inner["Actual Loops"] == 2
    assert inner["Blocks Read"] == 4 * DAYS  # each block once: 2 of 8 a day hold the two series
    store.sql("CREATE TABLE wide AS SELECT id, g FROM _prom_catalog.series, generate_series(1, 100) g;"
              " ANALYZE wide")
    many = scans(explain(store, "SELECT count(*) FROM wide p JOIN _prom_data.samples s ON s.series_id = p.id"
                         f" WHERE s.metric_id = 10 AND s.time < {day(5)}"))[0]
    assert many["Actual Loops"] == 1


def locks(store, query):
    store.sql("BEGIN")
    store.sql(query)
    n = store.sql("SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation"
                  " WHERE l.pid = pg_backend_pid() AND c.relname ~ '^block_[0-9]+$'")[0][0]
    store.sql("COMMIT")
    return n


@pytest.mark.parametrize("mode", ["auto", "force_generic_plan", "force_custom_plan"])
def test_partitions_are_pruned(store, mode):
    store.sql(f"SET plan_cache_mode = {mode}")
    query = ("SELECT count(*) FROM _prom_data.samples WHERE metric_id = 10"
             f" AND time >= {day(30)} + interval '1 h' AND time < {day(31)} + interval '2 h'")
    assert locks(store, query) == 2
    store.sql("PREPARE p(timestamptz) AS SELECT count(*) FROM _prom_data.samples"
              " WHERE metric_id = 10 AND time >= $1 AND time < $1 + interval '1 h'")
    counts = [locks(store, f"EXECUTE p({day(7)})") for _ in range(8)]
    store.sql("DEALLOCATE p; RESET plan_cache_mode")
    # the one that makes a generic plan also looks at some days elsewhere, for its estimate
    assert sorted(counts)[:-1] == [1] * 7 and counts[-1] == 1 and max(counts) <= 12


def test_jit_and_settings_stay(store):
    store.sql("SET jit = on; SET jit_above_cost = 0; SET plan_cache_mode = force_generic_plan")
    assert store.sql("SELECT count(*), sum(value) FROM _prom_data.samples WHERE metric_id = 10"
                     " AND labels[2] = 1001")[0][0] == 25 * 48 * DAYS
    assert store.sql("SELECT current_setting('jit'), current_setting('plan_cache_mode')")[0] == \
        ("on", "force_generic_plan")
    store.sql("RESET ALL; SET timezone = 'UTC'")
