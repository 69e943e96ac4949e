"""prom_info.maintenance, prom_info.storage and what connectors show of them: against the rows themselves."""

import datetime

import psycopg2
import pytest

from store import DAY, HOUR, bits


def storage(store):
    return {r[0]: r[1:] for r in store.sql("SELECT level, blocks, samples, bytes, oldest, behind FROM prom_info.storage")}


def steps(store):
    return {r[0]: r[1:] for r in store.sql("SELECT step, state, failures_in_a_row, failed_total, last_error"
                                           " FROM prom_info.maintenance")}


def counted(store, table):
    return store.sql(f"SELECT count(*), coalesce(sum(n_samples), 0)::int8, coalesce(sum(octet_length(data)), 0)::int8"
                     f" FROM _prom_data.{table}")[0]


def hour_of(t_ms):
    return datetime.datetime.fromtimestamp(t_ms // HOUR * HOUR / 1000, datetime.timezone.utc)


def add_metrics(store, n):
    store.sql("INSERT INTO _prom_catalog.metric (id, metric_name, digest, table_name)"
              f" SELECT i, 'm' || i, _prom_ext.text_digest('m' || i), 'm' || i FROM generate_series(1, {n}) i")


def test_levels_are_those_of_the_rows(store):
    add_metrics(store, 3)
    now = store.now_ms()
    old = now // DAY * DAY - 3 * DAY + 5 * HOUR + 1234
    store.flush([(0, m, m, t, bits(1.0)) for m in (1, 2, 3) for t in (old, old + HOUR, now - 1000)], packed=(3,))
    seen = storage(store)
    assert seen["fresh"][:3] == counted(store, "fresh") and seen["fresh"][1] == 9
    assert seen["fresh"][3] == store.one("SELECT min(t_min) FROM _prom_data.fresh")
    assert seen["merged"][:3] == (0, 0, 0) and seen["sealed"][:3] == (0, 0, 0)
    assert seen["merged"][3] is None
    store.sql("CALL prom_api.execute_maintenance()")
    seen = storage(store)
    assert seen["fresh"][:3] == (0, 0, 0) and seen["fresh"][4] == datetime.timedelta(0)
    assert seen["merged"][:3] == counted(store, "merged") and seen["sealed"][:3] == counted(store, "block")
    assert seen["merged"][3] == hour_of(now - 1000)
    assert seen["sealed"][3] == hour_of(old)
    by_metric = store.sql("SELECT metric_name, tenant, merged_blocks + sealed_blocks, samples, bytes"
                          " FROM prom_info.storage_by_metric ORDER BY 1")
    assert [r[0] for r in by_metric] == ["m1", "m2", "m3"] and [r[3] for r in by_metric] == [3, 3, 3]
    tenant = store.sql("SELECT tenant, metrics, merged_blocks + sealed_blocks, samples, bytes FROM prom_info.storage_by_tenant")
    assert tenant == [(by_metric[0][1], 3, sum(r[2] for r in by_metric), 9, sum(r[4] for r in by_metric))]
    assert tenant[0][4] == seen["merged"][2] + seen["sealed"][2] + 164 * (seen["merged"][0] + seen["sealed"][0])


def test_first_hours(store):
    for day, hours, want in [("2026-11-23", 1, "2026-11-23 00:00Z"), ("2026-11-23", 1 << 23, "2026-11-23 23:00Z"),
                             ("1969-12-31", 0b1100, "1969-12-31 02:00Z"), ("1901-01-01", 1 << 13, "1901-01-01 13:00Z")]:
        assert store.one("SELECT _prom_catalog.first_hour((((%s::date - '1970-01-01')::int8 << 24) | (%s::int4 & -%s::int4)))"
                         " = %s::timestamptz", (day, hours, hours, want)), (day, hours)


def test_what_waits_is_told_by_when_the_step_was_through(store):
    add_metrics(store, 1)
    store.flush([(0, 1, 1, store.now_ms() - 1000, bits(1.0))])
    store.sql("CALL prom_api.execute_maintenance()")
    store.flush([(0, 1, 1, store.now_ms(), bits(2.0))])
    store.sql("UPDATE _prom_catalog.job SET caught_up_at = now() - interval '7 min' WHERE name = 'fold'")
    assert datetime.timedelta(minutes=7) <= storage(store)["fresh"][4] < datetime.timedelta(minutes=9)
    # a fold that leaves work behind is not through
    store.flush([(0, 1, 1, store.now_ms() + i, bits(2.0)) for i in range(3)])
    store.sql("CREATE OR REPLACE FUNCTION _prom_catalog.step_fold(p_force bool, OUT outcome text, OUT detail text,"
              " OUT next_in interval, OUT left_over int8) LANGUAGE sql AS"
              " $$ SELECT 'more', 'some', interval '1 hour', NULL::int8 $$")
    store.sql("SELECT _prom_catalog.run_step('fold', true)")
    assert storage(store)["fresh"][4] >= datetime.timedelta(minutes=7)


def test_a_failing_step_is_loud(store):
    store.sql("CALL prom_api.execute_maintenance()")
    assert steps(store)["seal"] == ("ok", 0, 0, None)
    assert steps(store)["retention"][0] == "not yet run"
    store.sql("CREATE OR REPLACE FUNCTION _prom_catalog.step_seal(p_force bool, OUT outcome text, OUT detail text,"
              " OUT next_in interval, OUT left_over int8) LANGUAGE plpgsql AS"
              " $$ BEGIN RAISE EXCEPTION 'no seal today' USING ERRCODE = '57P03'; END $$")
    for i in (1, 2):
        store.sql("UPDATE _prom_catalog.job SET next_run = now()")
        store.sql("CALL prom_api.execute_maintenance()")
        seen = steps(store)
        assert seen["seal"] == ("failing", i, i, "no seal today (57P03)")
        assert seen["fold"][0] == seen["partitions"][0] == "ok"  # the others went on
    readings = {(f, tuple(l)): v for f, l, v in store.sql("SELECT family, labels, reading FROM _prom_catalog.observe(5)")}
    assert readings["maintenance_failures", ("step", "seal")] == 2
    assert readings["maintenance_failures", ("step", "fold")] == 0
    # it works again: the error stays to be read, the state is good
    store.sql("CREATE OR REPLACE FUNCTION _prom_catalog.step_seal(p_force bool, OUT outcome text, OUT detail text,"
              " OUT next_in interval, OUT left_over int8) LANGUAGE sql AS $$ SELECT 'done', 'x', NULL::interval, NULL::int8 $$")
    store.sql("UPDATE _prom_catalog.job SET next_run = now()")
    store.sql("CALL prom_api.execute_maintenance()")
    assert steps(store)["seal"] == ("ok", 0, 2, "no seal today (57P03)")


def test_a_round_that_nobody_runs_is_late(store):
    store.sql("CALL prom_api.execute_maintenance()")
    assert "late" not in [s[0] for s in steps(store).values()]
    store.sql("UPDATE _prom_catalog.job SET next_run = now() - interval '10 min', last_run = now() - interval '20 min'")
    seen = steps(store)
    assert seen["fold"][0] == seen["seal"][0] == "late"
    assert seen["views"][0] != "late"  # due in each round, says nothing


def test_readings_are_those_of_the_views(server, store):
    add_metrics(store, 4)
    now = store.now_ms()
    store.flush([(0, m, m, now - i, bits(1.0)) for m in (1, 2, 3, 4) for i in range(10 * m)])
    store.sql("CALL prom_api.execute_maintenance()")
    rows = store.sql("SELECT family, labels, reading FROM _prom_catalog.observe(2)")
    assert len({(f, tuple(l)) for f, l, _ in rows}) == len(rows) and all(v is not None for _, _, v in rows)
    readings = {(f, tuple(l)): v for f, l, v in rows}
    for level, (blocks, samples, size, _, _) in storage(store).items():
        assert readings["storage_blocks", ("level", level)] == blocks
        assert readings["storage_samples", ("level", level)] == samples
        assert readings["storage_bytes", ("level", level)] == size
    largest = [(l[1], v) for f, l, v in rows if f == "storage_metric_bytes"]
    assert len(largest) == 2 and largest == sorted(largest, key=lambda x: -x[1])
    assert readings["storage_unreadable_blocks", ()] == 0
    assert readings["storage_tenant_samples", ("tenant", store.one("SELECT name FROM _prom_catalog.tenant WHERE id = 0"))] == 100
    # a reader may ask, and nobody without a role
    conn = server.connect(store.database)
    with conn.cursor() as cur:
        cur.execute("CREATE ROLE observe_reader IN ROLE prom_reader; CREATE ROLE observe_nobody")
        cur.execute("SET ROLE observe_reader")
        cur.execute("SELECT count(*) FROM _prom_catalog.observe(2)")
        assert cur.fetchone()[0] == len(rows)
        cur.execute("SELECT * FROM prom_info.maintenance")
        cur.execute("SET ROLE observe_nobody")
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            cur.execute("SELECT count(*) FROM _prom_catalog.observe(2)")
        cur.execute("RESET ROLE")
        cur.execute("DROP ROLE observe_reader; DROP ROLE observe_nobody")
    conn.close()
