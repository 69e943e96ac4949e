"""What the planner thinks a condition lets through, against what it does."""
import pathlib
import sys

import pytest

from conftest import START

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "maintenance"))
from store import Store

HOUR = f"({START})"
CONDITIONS = [
    ("cpu", "true"),
    ("cpu", f"time >= {HOUR} AND time < {HOUR} + interval '10 min'"),
    ("cpu", f"time > {HOUR} + interval '50 min'"),
    ("cpu", f"time < {HOUR} + interval '1 min'"),
    ("cpu", "series_id = (SELECT min(series_id) FROM prom_series.cpu)"),
    ("cpu", "labels ? ('mode' == 'idle')"),
    ("cpu", "labels ? ('mode' !== 'idle')"),
    ("cpu", "labels ? ('mode' ==~ '^i')"),
    ("cpu", "labels ? ('mode' !=~ '^i')"),
    ("cpu", "labels ? ('instance' == 'node-7')"),
    ("cpu", "labels ? ('instance' !== 'node-7')"),
    ("cpu", "labels ? ('instance' ==~ '7')"),
    ("cpu", "labels ? ('nobody' !== 'has')"),
    ("cpu", "labels ? ('mode' == 'idle') OR labels ? ('mode' == 'user')"),
    ("cpu", "NOT labels ? ('mode' == 'idle')"),
    ("cpu", "labels ? ('mode' == 'idle') AND labels ? ('instance' == 'node-7')"),
    ("cpu", "labels @> '{\"mode\": \"idle\"}'::jsonb"),
    ("cpu", "labels @> '{\"mode\": \"idle\", \"instance\": \"node-7\"}'::jsonb"),
    ("cpu", "eq(labels, '{\"job\": \"node\", \"mode\": \"idle\", \"instance\": \"node-7\"}'::jsonb)"),
    ("cpu", "labels ? matcher('{\"mode\": \"idle\"}')"),
    ("cpu", "labels @> matcher('{\"mode\": \"idle\", \"instance\": \"node-7\"}')"),
    ("cpu", "mode_id IS NOT NULL"),
    ("cpu", "val(mode_id) = 'idle'"),
    ("cpu", "val(mode_id) IN ('idle', 'user')"),
    ("cpu", f"labels ? ('mode' == 'idle') AND time < {HOUR} + interval '10 min'"),
    ("pod", "true"),
    ("pod", "labels ? ('pod' == 'pod-777')"),
    ("pod", "labels ? ('instance' == 'node-42')"),
    ("pod", "labels ? ('instance' ==~ '^node-1')"),
    ("days", "true"),
    ("days", f"time >= {HOUR} - interval '3 days'"),
    ("days", f"time >= {HOUR} - interval '15 days' AND time < {HOUR} - interval '5 days'"),
    ("days", "labels ? ('n' == '5')"),
]


@pytest.mark.parametrize("metric,where", CONDITIONS)
def test_within_a_factor_of_two(fleet, metric, where):
    actual = fleet.one(f"SELECT count(*) FROM {metric} WHERE {where}")
    estimate = fleet.rows(f"SELECT * FROM {metric} WHERE {where}")
    assert actual > 0 and actual / 2 <= estimate <= actual * 2, (estimate, actual)


def test_series_id_lists(fleet):
    ids = [r[0] for r in fleet.sql("SELECT series_id FROM prom_series.cpu ORDER BY 1 LIMIT 30")]
    for n in (1, 10, 30):
        array = "{" + ",".join(map(str, ids[:n])) + "}"
        assert n * 120 <= fleet.rows(f"SELECT * FROM cpu WHERE series_id = ANY ('{array}')") <= n * 480


def test_what_nobody_has_is_little(fleet):
    for where in ("labels ? ('mode' == 'nothing')", "labels ? ('nobody' == 'has')", "labels @> '{\"a\": \"b\"}'::jsonb"):
        assert fleet.rows(f"SELECT * FROM cpu WHERE {where}") <= 480, where


def test_unknown_values_get_a_guess_and_plans_keep_no_ids(fleet):
    """A generic plan is made once; a label that comes later is found by it."""
    fleet.sql("SET plan_cache_mode = force_generic_plan")
    fleet.sql("PREPARE by_mode(text) AS SELECT count(*) FROM days WHERE labels ? ('n' == $1)")
    fleet.sql("PREPARE fixed AS SELECT count(*) FROM days WHERE labels ? ('n' == 'later')")
    try:
        assert fleet.one("EXECUTE by_mode('later')") == fleet.one("EXECUTE fixed") == 0
        fleet.sql("BEGIN")
        fleet.sql(f"INSERT INTO prom_data.days (time, value, labels) VALUES ({HOUR}, 1, '{{\"n\": \"later\"}}')")
        assert fleet.one("EXECUTE by_mode('later')") == fleet.one("EXECUTE fixed") == 1
    finally:
        fleet.sql("ROLLBACK")
        fleet.sql("DEALLOCATE ALL; RESET plan_cache_mode")


def test_bad_arguments_are_named(fleet):
    import psycopg2
    with pytest.raises(psycopg2.errors.InvalidRegularExpression):
        fleet.sql("SELECT count(*) FROM cpu WHERE labels ? ('mode' ==~ '(')")


def test_functions_of_users_are_not_called_by_the_planner(fleet):
    fleet.sql("CREATE FUNCTION pg_temp.loud(int4[]) RETURNS bool LANGUAGE plpgsql STABLE AS"
              " $$BEGIN RAISE EXCEPTION 'called'; END$$")
    fleet.sql("CREATE DOMAIN pg_temp.strict AS int4[] CHECK (pg_temp.loud(VALUE))")
    assert fleet.rows("SELECT * FROM cpu WHERE pg_temp.loud(labels)") > 0
    assert fleet.rows("SELECT * FROM cpu WHERE labels::pg_temp.strict IS NOT NULL") > 0
    assert fleet.rows("SELECT * FROM cpu WHERE pg_temp.loud(labels) AND labels ? ('mode' == 'idle')") <= 480 * 250


@pytest.mark.parametrize("metric,where", [
    ("pod", "labels ? ('pod' == 'pod-777')"), ("pod", "labels ? ('pod' !== 'pod-777')"),
    ("cpu", "labels ? ('mode' == 'idle')"), ("cpu", "labels ? ('mode' !=~ '^i')"),
    ("cpu", "labels @> '{\"mode\": \"idle\", \"instance\": \"node-7\"}'::jsonb"),
])
def test_series_of_a_metric(fleet, metric, where):
    actual = fleet.one(f"SELECT count(*) FROM prom_series.{metric} WHERE {where}")
    assert actual / 2 <= fleet.rows(f"SELECT * FROM prom_series.{metric} WHERE {where}") <= actual * 2


def test_series_of_all_metrics(fleet):
    """By the statistics of the elements of labels."""
    for where, actual in (("labels ? ('mode' == 'idle')", 250), ("labels ? ('mode' !== 'idle')", 22020),
                          ("labels ? ('pod' == 'pod-777')", 1)):
        assert actual == fleet.one(f"SELECT count(*) FROM _prom_catalog.series WHERE {where}")
        estimate = fleet.rows(f"SELECT * FROM _prom_catalog.series WHERE {where}")
        assert actual / 2 <= estimate <= max(actual * 2, 30), (where, estimate)


def test_eq_with_json_by_index(fleet):
    plan = fleet.explain("SELECT * FROM prom_series.cpu WHERE eq(labels, '{\"job\": \"node\", \"mode\": \"idle\","
                         " \"instance\": \"node-7\"}'::jsonb)", analyze=True)["Plan"]
    assert "series_labels_idx" in str(plan) and plan["Actual Rows"] == 1


def test_small_metrics_that_share_fresh_rows(fleet, server):
    """32 metrics of one bucket with 3 series each: an estimate tells them from the row they share."""
    name = server.new_database()
    store = Store(server, name)
    try:
        store.sql("SET timezone = 'UTC'")
        now = store.now_ms() // 1000 * 1000 - 3600_000
        rows = []
        for n in range(8):
            metric = f"m{n * 32}"
            pairs = [f'{{"__name__": "{metric}", "s": "{i}"}}' for i in range(3)]
            ids = [store.one("SELECT _prom_catalog.get_or_create_series_id(%s)", (p,)) for p in pairs]
            m = store.one("SELECT id FROM _prom_catalog.metric WHERE metric_name = %s", (metric,))
            rows += [(0, m, s, now + t * 15000, "3ff0000000000000") for s in ids for t in range(20)]
        by_bucket = {}
        for row in rows:
            by_bucket.setdefault(row[1] % 32, []).append(row)
        for same in by_bucket.values():
            store.flush(same, packed={r[1] for r in same})
        store.sql("CREATE TABLE placeholder ()")
        for m in {r[1] for r in rows}:
            estimate = store.one(f"EXPLAIN (FORMAT JSON) SELECT * FROM _prom_data.samples WHERE metric_id = {m}")
            assert 30 <= estimate[0]["Plan"]["Plan Rows"] <= 120
    finally:
        store.close()
        server.drop(name)


def test_row_security_hides_from_estimates(fleet):
    """Of a metric whose rows a user may not see, EXPLAIN tells him what it tells of none at all."""
    tables = ["_prom_catalog.series", "_prom_data.block", "_prom_data.merged", "_prom_data.fresh", "_prom_data.block_far"]
    fleet.sql("CREATE ROLE guest LOGIN IN ROLE prom_reader")
    hidden = fleet.id["cpu"]
    guest = fleet.server.connect(fleet.name, "guest")
    try:
        open_rows = fleet.rows("SELECT * FROM cpu", conn=guest)
        assert open_rows > 200_000
        for table in tables:
            fleet.sql(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
            fleet.sql(f"CREATE POLICY others ON {table} FOR SELECT TO guest USING (metric_id <> {hidden})")

        def estimates(metric_id):
            base = f"SELECT * FROM _prom_data.samples WHERE metric_id = {metric_id}"
            wheres = ["", " AND labels ? ('mode' == 'idle')", " AND labels ? ('mode' ==~ 'i')",
                      " AND labels ? ('instance' == 'node-7')", " AND series_id = 5", f" AND time < {HOUR}"]
            return [fleet.rows(base + w, conn=guest) for w in wheres]

        assert estimates(hidden) == estimates(1_000_000)
        assert fleet.rows("SELECT * FROM mem", conn=guest) >= 30_000
    finally:
        for table in tables:
            fleet.sql(f"DROP POLICY IF EXISTS others ON {table}")
            fleet.sql(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
        guest.close()
        fleet.sql("DROP ROLE guest")


def test_number_of_groups(fleet):
    """By series and by metric exactly; a label is taken to have a few values."""
    fleet.sql("SET promscale.enable_aggregate_pushdown = off") if fleet.sql(
        "SELECT FROM pg_settings WHERE name = 'promscale.enable_aggregate_pushdown'") else None
    try:
        assert 1000 <= fleet.rows("SELECT series_id, count(*) FROM cpu GROUP BY series_id") <= 4000
        assert 10_000 <= fleet.rows("SELECT DISTINCT series_id FROM pod") <= 40_000
        assert 1 <= fleet.rows("SELECT mode_id, count(*) FROM cpu GROUP BY mode_id") <= 200
    finally:
        fleet.sql("RESET ALL")
