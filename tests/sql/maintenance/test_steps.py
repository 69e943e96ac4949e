"""Each step by itself: partitions, windows, damaged blocks, retention, the feed, exemplars, rights."""

import random
import time

import psycopg2
import pytest

from store import DAY, HOUR, bits


def ms(store, expression):
    return int(store.one(f"SELECT (extract(epoch FROM {expression}) * 1000)::int8"))


def day_ms(store, days):
    return ms(store, f"date_trunc('day', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' + '{days} days'")


def partitions(store):
    return [r[0] for r in store.sql("SELECT table_name FROM _prom_catalog.partitions() ORDER BY 1")]


# ---- partitions and windows ------------------------------------------------------------------------


def add_metric(store):
    store.sql("INSERT INTO _prom_catalog.metric (id, metric_name, digest, table_name)"
              " VALUES (1, 'a', _prom_ext.text_digest('a'), 'a')")


def test_partitions_ahead_and_as_needed(store):
    assert store.one("SELECT _prom_catalog.ensure_partitions()") == 0  # nothing to store yet
    add_metric(store)
    assert store.one("SELECT _prom_catalog.ensure_partitions()") == 3
    assert store.one("SELECT _prom_catalog.ensure_partitions()") == 0
    names = partitions(store)
    assert len(names) == 3
    # neither a default partition nor one that the extension owns
    assert store.sql("SELECT 1 FROM pg_class c JOIN pg_inherits i ON i.inhrelid = c.oid WHERE "
                     "pg_get_expr(c.relpartbound, c.oid) = 'DEFAULT'") == []
    assert store.sql("SELECT 1 FROM pg_depend WHERE deptype = 'e' AND objid = "
                     f"'_prom_data.{names[0]}'::regclass") == []
    # the plan of a query with a lower bound looks at one partition
    plan = "\n".join(r[0] for r in store.sql(
        "EXPLAIN SELECT * FROM _prom_data.block WHERE metric_id = 1 AND t_min >= date_trunc('day', now())"
        f" AND t_min >= '{names[0][6:]}' AND t_min < '{names[1][6:]}'"))
    assert plan.count("block_2") >= 1 and names[2] not in plan


def test_the_first_metric_gets_its_partitions_in_the_next_round(store):
    store.sql("CALL prom_api.execute_maintenance()")
    assert partitions(store) == []
    add_metric(store)
    store.sql("CALL prom_api.execute_maintenance()")
    assert len(partitions(store)) == 3


def test_partition_refuses_blocks_that_cross_midnight(store):
    add_metric(store)
    store.sql("SELECT _prom_catalog.ensure_partitions()")
    midnight = day_ms(store, 1)
    text = store.statements([(0, 1, [(1, 1, midnight - 1, bits(1.0)), (1, 1, midnight, bits(2.0))])], "block", "sealed")
    with pytest.raises(psycopg2.errors.CheckViolation):
        store.sql(text)
    with pytest.raises(psycopg2.errors.CheckViolation):
        store.sql(text.replace("_prom_data.block", "_prom_data.merged"))


def test_making_partitions_waits_for_nobody(server, store):
    add_metric(store)
    other = server.connect(store.database)
    cur = other.cursor()
    cur.execute("BEGIN; LOCK TABLE _prom_data.block IN SHARE UPDATE EXCLUSIVE MODE")
    with pytest.raises(psycopg2.errors.LockNotAvailable):
        store.sql("SELECT _prom_catalog.ensure_partitions()")
    cur.execute("COMMIT; BEGIN; SELECT count(*) FROM _prom_data.block")
    assert store.one("SELECT _prom_catalog.ensure_partitions()") == 3  # a reader is no hindrance
    other.close()


def test_times_find_their_tables(store):
    """Near days have partitions, far days do not, and no number of odd times makes many relations."""
    near, past, future = day_ms(store, -1), day_ms(store, -3000), day_ms(store, 30)
    times = [near + HOUR, past + HOUR, future + HOUR, -62_000_000_000_000, 9_000_000_000_000_000]
    times += [past + i * 37 * DAY for i in range(60)]
    samples = [(0, 1, 1, t, bits(float(i))) for i, t in enumerate(times)]
    store.flush(samples)
    before = store.one("SELECT count(*) FROM pg_class")
    store.sql("SELECT _prom_catalog.set_setting('retention_period', '0')")
    store.force()
    assert store.visible() == {tuple(k): b for *k, b in samples}
    assert store.count("merged") == 0
    assert store.sql("SELECT min(t_min), max(t_max) FROM _prom_data.block") != [(None, None)]
    assert store.n_samples("block") == 1
    assert store.n_samples("block_far") == len(samples) - 1
    assert store.one("SELECT count(*) FROM pg_class") - before <= 4 * 4  # 4 partitions: table, key, toast, its key


def test_windows_are_sealed_when_they_are_over(store):
    """Without force: only windows that ended an hour ago, by the chunk interval of setting and metric."""
    now = store.now_ms()
    window = 8 * HOUR
    current = now // window * window
    store.sql("INSERT INTO _prom_catalog.metric (id, metric_name, digest, table_name, chunk_interval, compression) VALUES"
              " (2, 'b', _prom_ext.text_digest('b'), 'b', '1 hour', NULL),"
              " (3, 'c', _prom_ext.text_digest('c'), 'c', NULL, false)")
    samples = [(0, m, m, t, bits(1.0)) for m in (1, 2, 3)
               for t in (current - window, current - 2 * window, now - 30_000, now // HOUR * HOUR - 2 * HOUR)]
    samples = list({s[:4]: s for s in samples}.values())
    store.flush(samples)
    store.merge()
    r = store.seal(force=False)
    assert r["did"] and r["failed"] == 0
    left = {(m, t) for level, _, _, m, _, t, _ in store.rows() if level == 1}
    due_1 = {t for _, m, _, t, _ in samples if m == 1 and t // window * window + window + HOUR <= now}
    due_2 = {t for _, m, _, t, _ in samples if m == 2 and t // HOUR * HOUR + 2 * HOUR <= now}
    old = day_ms(store, -1)
    expected = {(m, t) for _, m, _, t, _ in samples
                if m == 3 or t >= old and t not in (due_1 if m == 1 else due_2)}
    assert left == expected
    assert (1, now - 30_000) in left and (2, now - 30_000) in left


def test_sealed_again_when_more_comes(store):
    t = store.now_ms() - 30 * HOUR
    store.flush([(0, 1, 1, t, bits(1.0))])
    store.force()
    store.flush([(0, 1, 1, t, bits(2.0)), (0, 1, 1, t + 1, bits(3.0))])
    store.force()
    assert store.visible() == {(0, 1, 1, t): bits(1.0), (0, 1, 1, t + 1): bits(3.0)}
    assert store.count("merged") == 0


def test_merge_is_bounded_and_says_more(store):
    t = store.now_ms()
    for i in range(20):
        store.flush([(0, 1, s, t + i, bits(1.0)) for s in range(1, 200)])
    r = store.merge(1)
    assert r["did"] and r["more"] and r["rows_in"] == 1 and r["samples"] == 199
    while store.merge(2000)["more"]:
        pass
    assert store.count("fresh") == 0
    assert store.merge() == {"did": False, "busy": False, "more": False, "samples": 0, "rows_in": 0, "rows_taken": 0,
                             "rows_out": 0, "duplicates": 0, "conflicts": 0}


def test_a_clock_that_was_far_ahead(store):
    """Meanwhile samples of now were merged by days. Later ones are merged by hours again, as soon as no row of a day lies
    there; what was written first stays, and the windows are sealed."""
    today = store.now_ms() // DAY * DAY
    boundary = "SELECT (extract(epoch FROM boundary) * 1000)::int8 FROM _prom_catalog.merge_boundary"
    ahead = [(1, 1, today + i * HOUR // 2, bits(float(i))) for i in range(8)]
    store.sql(f"INSERT INTO _prom_catalog.merge_boundary VALUES (true, to_timestamp({(today + 400 * DAY) // 1000}))")
    store.sql(store.statements([(0, 1, ahead)], table="merged", form="merged"))
    store.sql("SELECT _prom_catalog.recount()")
    truth = {(0, *s[:3]): s[3] for s in ahead}
    for k, at in enumerate((today, today + DAY, today - DAY)):
        later = [(0, 1, 1, at + i * HOUR // 2, bits(-1.0 - k)) for i in range(8)]
        truth.update({s[:4]: s[4] for s in later if s[:4] not in truth})
        store.flush(later)
        store.merge()
        assert store.one(boundary) == today + DAY
        assert store.visible() == truth
    by_hour = "SELECT count(*) FROM _prom_data.merged WHERE t_min >= to_timestamp(%s) AND t_max - t_min < '1 hour'"
    assert store.one(by_hour, ((today + DAY) // 1000,)) == 4
    assert store.sql("SELECT * FROM prom_api.verify() WHERE problem ~ 'crosses|leaves its cell'") == []
    store.force()
    assert store.count("merged") == 0 and store.sql("SELECT * FROM _prom_catalog.maintenance_error") == []
    store.flush([(0, 1, 1, today + 9 * HOUR + 1, bits(9.0))])
    store.sql(f"UPDATE _prom_catalog.merge_boundary SET boundary = to_timestamp({(today + 400 * DAY) // 1000})")
    store.merge()
    assert store.one(boundary) == today - DAY  # nothing is in the way
    truth[(0, 1, 1, today + 9 * HOUR + 1)] = bits(9.0)
    assert store.visible() == truth and store.one("SELECT _prom_catalog.recount()") == 0


def test_conflicts_are_counted(store):
    t = store.now_ms()
    store.flush([(0, 1, 1, t, bits(1.0)), (0, 1, 2, t, bits(1.0))])
    store.flush([(0, 1, 1, t, bits(1.0)), (0, 1, 2, t, bits(2.0))])
    r = store.merge()
    assert (r["duplicates"], r["conflicts"]) == (1, 1)


def test_odd_values_survive(store):
    t = store.now_ms() - 20 * HOUR
    odd = ["7ff0000000000002", "7ff8000000000001", "7ff8000000000000", "fff8000000000123", "8000000000000000",
           "7ff0000000000000", "fff0000000000000", "0000000000000001", "4340000000000001", "c33fffffffffffff"]
    samples = [(0, 1, 1, t + i, b) for i, b in enumerate(odd)]
    store.flush(samples)
    store.merge()
    assert store.visible() == {tuple(k): b for *k, b in samples}
    store.force()
    assert store.visible() == {tuple(k): b for *k, b in samples}


# ---- damage ----------------------------------------------------------------------------------------


def damage(store, table, where):
    store.sql(f"UPDATE _prom_data.{table} SET data = set_byte(data, octet_length(data) - 1,"
              f" get_byte(data, octet_length(data) - 1) # 255) WHERE {where}")


def test_a_damaged_fresh_block_stops_nobody(store):
    t = store.now_ms()
    store.flush([(0, m, m, t, bits(float(m))) for m in (1, 2, 3)])
    damage(store, "fresh", "metric_id = 2")
    bad_id, bad = store.sql("SELECT id, data FROM _prom_data.fresh WHERE metric_id = 2")[0]
    r = store.merge()
    assert r["rows_in"] == 3 and r["rows_out"] == 2 and r["samples"] == 2
    assert [(i, bytes(d)) for i, d in store.sql("SELECT id, data FROM _prom_data.fresh")] == [(bad_id, bytes(bad))]
    assert store.sql("SELECT block_id, metric_id, level, step FROM _prom_catalog.maintenance_error") == [
        (bad_id, 2, 0, "merge")]
    store.flush([(0, 2, 2, t + 1, bits(5.0))])
    assert store.merge()["rows_in"] == 1  # left alone from now on
    damage(store, "fresh", "true")  # repaired
    store.force()
    assert store.visible() == {(0, 1, 1, t): bits(1.0), (0, 2, 2, t): bits(2.0), (0, 3, 3, t): bits(3.0),
                               (0, 2, 2, t + 1): bits(5.0)}


def test_a_damaged_merged_block_stops_nobody(store):
    t = store.now_ms() - 3 * HOUR
    store.flush([(0, m, m, t, bits(float(m))) for m in (1, 2, 3)])
    store.merge()
    damage(store, "merged", "metric_id = 2")
    for i in range(40):  # folds that would take the block along
        store.flush([(0, m, m, t + 1 + i, bits(float(i))) for m in (1, 2, 3)])
        store.merge()
    assert store.count("fresh") == 0
    assert store.one("SELECT max(n_samples) FROM _prom_data.merged WHERE metric_id = 1") > 1
    r = store.seal()
    assert r["did"] and r["failed"] == (0 if store.sql("SELECT 1 FROM _prom_catalog.maintenance_error "
                                                       "WHERE step = 'merge'") else 1)
    assert {m for (m,) in store.sql("SELECT DISTINCT metric_id FROM _prom_data.merged")} == {2}
    assert store.seal()["did"] is False
    assert store.n_samples("block") == 2 * 41
    damage(store, "merged", "n_samples = 1 AND t_min = (SELECT min(t_min) FROM _prom_data.merged)")
    store.force()
    seen = store.visible()
    assert len(seen) == 3 * 41 and seen[(0, 2, 2, t)] == bits(2.0)


def test_an_unknown_kind_is_kept(store):
    t = store.now_ms()
    store.flush([(0, 1, 1, t, bits(1.0))])
    store.sql("UPDATE _prom_data.fresh SET kind = 99")
    store.flush([(0, 1, 1, t + 1, bits(1.0))])
    assert store.merge()["rows_out"] == 1
    assert store.sql("SELECT kind FROM _prom_data.fresh") == [(99,)]


# ---- retention, feed, exemplars --------------------------------------------------------------------


def test_retention_drops_days_and_rows(store):
    store.sql("SELECT _prom_catalog.set_setting('retention_grace', '0')")
    store.sql("SELECT _prom_catalog.set_setting('retention_period', '10 days')")
    days = {d: day_ms(store, d) + HOUR for d in (-1, -8, -9, -12)}
    store.sql("SELECT _prom_catalog.set_setting('retention_period', '90 days')")
    far = day_ms(store, -500)
    store.flush([(0, 1, 1, t, bits(1.0)) for t in [*days.values(), far]])
    store.sql("CALL prom_api.execute_maintenance()")  # a round that is not forced: erases nothing yet
    for step in ("fold", "partitions", "seal"):
        store.sql("SELECT _prom_catalog.run_step(%s, true)", (step,))
    names = partitions(store)
    assert len(names) == 3 + 4
    assert store.count("block_far") == 1
    store.sql("SELECT _prom_catalog.set_setting('retention_period', '10 days')")
    done = {"waiting": 0, "leaving": 0, "failed": 0, "more": False, "problem": None, "left_over": None}
    assert store.row("SELECT * FROM _prom_catalog.apply_retention()") == {"partitions": 1, "rows": 0, **done, "more": True}
    assert store.row("SELECT * FROM _prom_catalog.apply_retention()") == {"partitions": 0, "rows": 1, **done}
    assert set(k[3] for k in store.visible()) == {days[-1], days[-8], days[-9]}
    assert len(partitions(store)) == 6
    assert store.row("SELECT * FROM _prom_catalog.apply_retention(true)") == {"partitions": 0, "rows": 0, **done}


def test_retention_of_single_metrics(store):
    store.sql("SELECT _prom_catalog.set_setting('retention_grace', '0')")
    store.sql("INSERT INTO _prom_catalog.metric (id, metric_name, digest, table_name, retention_period) VALUES"
              " (2, 'b', _prom_ext.text_digest('b'), 'b', '5 days'),"
              " (3, 'c', _prom_ext.text_digest('c'), 'c', '60 days'),"
              " (4, 'd', _prom_ext.text_digest('d'), 'd', '0')")
    times = {d: day_ms(store, -d) for d in (1, 7, 20, 70)}
    store.flush([(0, m, m, t, bits(1.0)) for m in (1, 2, 3, 4) for t in times.values()])
    store.sql("SELECT _prom_catalog.set_setting('retention_period', '10 days')")
    store.force()
    left = {(k[1], k[3]) for k in store.visible()}
    assert left == {(m, times[d]) for m, ds in {1: (1, 7), 2: (1,), 3: (1, 7, 20), 4: (1, 7, 20, 70)}.items() for d in ds}


def test_retention_does_not_queue_behind_a_reader(server, store):
    store.sql("SELECT _prom_catalog.set_setting('retention_grace', '0')")
    t = day_ms(store, -20)
    store.flush([(0, 1, 1, t, bits(1.0))])
    store.force()
    store.sql("SELECT _prom_catalog.set_setting('retention_period', '10 days')")
    other = server.connect(store.database)
    cur = other.cursor()
    cur.execute("BEGIN; SELECT count(*) FROM _prom_data.block")
    r = store.row("SELECT * FROM _prom_catalog.apply_retention()")
    assert (r["partitions"], r["waiting"]) == (0, 1)
    cur.execute("COMMIT")
    assert store.row("SELECT * FROM _prom_catalog.apply_retention()")["partitions"] == 1
    other.close()


def test_a_round_does_what_is_due_and_erases_nothing_at_first(store):
    store.flush([(0, 1, 1, day_ms(store, -200), bits(1.0))])
    store.sql("CALL prom_api.execute_maintenance()")
    assert store.count("fresh") == 0  # folded at once
    assert len(store.visible()) == 1  # older than the retention period, but the hour is not over
    store.sql("UPDATE _prom_catalog.job SET next_run = now() - interval '1 s' WHERE name = 'retention'")
    store.sql("CALL prom_api.execute_maintenance()")
    assert store.visible() == {}
    store.flush([(0, 1, 1, day_ms(store, 0), bits(1.0))])
    store.sql("CALL prom_api.execute_maintenance()")
    assert store.count("fresh") == 1  # not due again so soon
    store.sql("UPDATE _prom_catalog.job SET next_run = now() - interval '1 s' WHERE name = 'fold'")
    store.sql("CALL prom_api.execute_maintenance()")
    assert store.count("fresh") == 0


def test_a_failing_step_waits_longer_and_stops_no_other(store):
    store.flush([(0, 1, 1, store.now_ms(), bits(1.0))])
    store.sql("ALTER TABLE _prom_data.exemplar RENAME TO gone")
    with pytest.raises(psycopg2.Error, match="retention.*trim_exemplars"):
        store.force()
    assert store.count("fresh") == 0 and store.count("merged") == 0
    assert store.sql("SELECT name, failures FROM _prom_catalog.job WHERE failures > 0 ORDER BY 1") == [
        ("retention", 1), ("trim_exemplars", 1)]
    waits = []
    for _ in range(3):
        with pytest.raises(psycopg2.Error):
            store.force()
        waits.append(store.one("SELECT next_run - now() FROM _prom_catalog.job WHERE name = 'retention'"))
    assert waits[0] < waits[1] < waits[2]
    store.sql("ALTER TABLE _prom_data.gone RENAME TO exemplar")
    store.force()
    assert store.sql("SELECT name FROM _prom_catalog.job WHERE failures > 0") == []


def test_steps_go_on_after_a_clock_that_was_ahead(store):
    """It has told all of them to wait for hours, or for years."""
    for ahead in ("14 hours", "400 days"):
        store.flush([(0, 1, 1, store.now_ms(), bits(1.0))])
        store.sql("CALL prom_api.execute_maintenance()")
        store.sql("INSERT INTO _prom_catalog.maintenance_error (block_id, metric_id, level, t_min, step, message, noted_at)"
                  " VALUES (-1, 1, 1, now(), 'seal', 'x', now() + %s::interval) ON CONFLICT DO NOTHING", (ahead,))
        store.sql("UPDATE _prom_catalog.job SET next_run = next_run + %s::interval", (ahead,))
        store.flush([(0, 1, 1, store.now_ms(), bits(2.0))])
        store.sql("CALL prom_api.execute_maintenance()")
        assert store.count("fresh") == 0
        assert store.sql("SELECT name FROM _prom_catalog.job WHERE next_run > now() + interval '2 hours'") == []
        assert store.sql("SELECT * FROM _prom_catalog.maintenance_error") == []


def test_feed_is_trimmed_after_an_hour(store):
    def add():
        store.sql("INSERT INTO _prom_catalog.series_feed (op, first_id, series_ids) VALUES ('d', 1, '{1}')")

    def later():
        store.sql("UPDATE _prom_catalog.job SET feed_marked = feed_marked - interval '61 min' WHERE name = 'trim_feed'")

    add()
    cursor = store.one("SELECT next_cursor FROM _prom_catalog.feed('0')")
    assert store.one("SELECT _prom_catalog.trim_feed()") == 0
    add()
    assert store.one("SELECT _prom_catalog.trim_feed()") == 0  # within the hour
    later()
    assert store.one("SELECT _prom_catalog.trim_feed()") == 1  # what was there an hour ago
    assert store.one("SELECT count(*) FROM _prom_catalog.series_feed") == 1
    assert store.one("SELECT trimmed FROM _prom_catalog.feed('3')")
    assert store.row("SELECT trimmed, deleted FROM _prom_catalog.feed(%s)", (cursor,)) == {"trimmed": False, "deleted": [1]}
    later()
    store.sql("SELECT _prom_catalog.trim_feed()")
    assert store.one("SELECT count(*) FROM _prom_catalog.series_feed") == 0


def test_exemplars_are_capped(store):
    store.sql("INSERT INTO _prom_data.exemplar SELECT 0, m, 1, s, now() - i * interval '1 s', i, '{}',"
              " gen_random_uuid() FROM generate_series(1, 2) m, generate_series(1, 3) s, generate_series(1, 30) i")
    store.sql("SELECT _prom_catalog.set_setting('exemplars_per_series', '10')")
    assert store.one("SELECT _prom_catalog.trim_exemplars()") == 2 * 3 * 20
    assert store.sql("SELECT DISTINCT count(*), max(value) FROM _prom_data.exemplar GROUP BY metric_id, series_id") == [
        (10, 10.0)]


# ---- the rest --------------------------------------------------------------------------------------


def test_vacuums_are_named_once(store):
    store.sql("SELECT _prom_catalog.set_setting('retention_period', '0')")
    store.flush([(0, 1, 1, day_ms(store, -1), bits(1.0)), (0, 1, 1, day_ms(store, -900), bits(1.0))])
    store.sql("CALL prom_api.execute_maintenance()")
    assert store.count("fresh") == 0 and store.n_samples("block_far") == 1
    commands = [c for (c,) in store.sql("SELECT _prom_catalog.take_vacuums()")]
    assert commands[:2] == ["VACUUM (TRUNCATE off) _prom_data.fresh", "VACUUM (TRUNCATE off) _prom_data.merged"]
    assert len(commands) >= 3 and all("FREEZE" in c for c in commands[2:])
    for c in commands:
        store.sql(c)
    assert store.sql("SELECT _prom_catalog.take_vacuums()") == []


def test_sealed_rows_are_frozen_whoever_asked_for_a_vacuum_before(store):
    store.flush([(0, 1, 1, store.now_ms() - 3 * DAY, bits(1.0))])
    store.merge()
    store.sql("SELECT _prom_catalog.ensure_partitions()")
    day = store.one("SELECT 'block_' || to_char(now() - interval '3 days', 'YYYYMMDD')")
    store.sql("INSERT INTO _prom_catalog.vacuum_queue VALUES (%s, false)", (day,))  # as retention does
    store.seal()
    store.sql("SELECT _prom_catalog.step_retention(true)")
    asked = [q for (q,) in store.sql("SELECT _prom_catalog.take_vacuums()") if day in q]
    assert len(asked) == 1 and "FREEZE" in asked[0]


def test_no_vacuum_in_vain(store):
    """While a snapshot is kept open, what folds delete cannot be removed: no VACUUM reads it again and again. When
    the snapshot is gone VACUUM comes without a further fold."""
    def fold_and_take():
        store.flush([(0, 1, 1, store.now_ms(), bits(1.0))])
        assert store.merge()["did"]
        return take()

    def take():
        commands = [c for (c,) in store.sql("SELECT _prom_catalog.take_vacuums()")]
        for c in commands:
            store.sql(c)
        return commands

    both = [f"VACUUM (TRUNCATE off) _prom_data.{t}" for t in ("fresh", "merged")]
    dead = "SELECT count(*) FROM heap_page_items(get_raw_page('_prom_data.fresh', 0)) WHERE lp_flags = 1"
    store.sql("CREATE EXTENSION IF NOT EXISTS pageinspect")
    assert fold_and_take() == both and fold_and_take() == both
    assert store.one(dead) == 0
    reader = store.server.connect(store.database)
    reader.autocommit = False
    with reader.cursor() as cur:
        cur.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cur.execute("SELECT count(*) FROM _prom_data.fresh")
    assert fold_and_take() == both
    assert [fold_and_take() for _ in range(3)] == [[], [], []]
    assert store.one(dead) == 4
    store.sql("UPDATE _prom_catalog.vacuum_horizon SET taken_at = taken_at - interval '11 min' WHERE table_name = 'merged'")
    assert take() == both[1:]
    store.sql("SELECT _prom_catalog.want_shrink()")
    assert take() == [c.replace("off", "on, INDEX_CLEANUP on") for c in both]
    store.flush([(0, 1, 1, store.now_ms(), bits(1.0))])
    assert store.merge()["did"] and take() == []
    reader.rollback()
    assert take() == both and take() == []
    assert store.one(dead) == 0
    reader.close()


def test_a_transaction_of_another_database_holds_no_vacuum_back(store):
    """VACUUM removes what is deleted here beside it."""
    store.sql("CREATE EXTENSION IF NOT EXISTS pageinspect")
    other = store.server.connect("postgres")
    other.autocommit = False
    with other.cursor() as cur:
        cur.execute("SELECT pg_current_xact_id()")
    for _ in range(3):
        store.flush([(0, 1, 1, store.now_ms(), bits(1.0))])
        assert store.merge()["did"]
        commands = [c for (c,) in store.sql("SELECT _prom_catalog.take_vacuums()")]
        assert commands == [f"VACUUM (TRUNCATE off) _prom_data.{t}" for t in ("fresh", "merged")]
        for c in commands:
            store.sql(c)
        assert store.one("SELECT count(*) FROM heap_page_items(get_raw_page('_prom_data.fresh', 0)) WHERE lp_flags = 1") == 0
    other.close()


def test_a_transaction_of_this_database_counts_before_its_snapshot(store):
    """One that has begun to write, and waits between its statements."""
    writer = store.server.connect(store.database)
    writer.autocommit = False
    with writer.cursor() as cur:
        cur.execute("SELECT pg_current_xact_id()::xid::text")
        assert store.one("SELECT _prom_catalog.oldest_in_use()") == cur.fetchone()[0]
    writer.close()


def test_much_is_left_to_autovacuum(store):
    """Where it is on: folds wait for a VACUUM of ours. It is off here."""
    def can_wait(many):
        store.sql("SELECT pg_stat_force_next_flush()")
        return store.one("SELECT _prom_catalog.vacuum_can_wait('fresh', '3', %s)", (many,))

    assert not can_wait(2)
    store.sql("INSERT INTO _prom_catalog.vacuum_horizon VALUES ('fresh', '4', now())")
    for _ in range(5):
        store.flush([(0, 1, 1, store.now_ms(), bits(1.0))])
    store.merge()
    assert not can_wait(4)
    try:
        store.sql("ALTER TABLE _prom_data.fresh SET (autovacuum_enabled = false)")
        store.sql("ALTER SYSTEM SET autovacuum = on")
        store.sql("SELECT pg_reload_conf()")
        deadline = time.time() + 30
        while store.one("SHOW autovacuum") != "on" and time.time() < deadline:
            time.sleep(0.05)
        assert can_wait(4) and not can_wait(5)
        store.sql("UPDATE _prom_catalog.vacuum_horizon SET taken_at = now() - interval '11 min'")
        assert not can_wait(4)
    finally:
        store.sql("ALTER SYSTEM RESET autovacuum")
        store.sql("SELECT pg_reload_conf()")


@pytest.mark.parametrize("by_place", [False, True])
def test_a_fold_goes_once_through_what_was_folded_away(store, by_place):
    """Rows that an open snapshot keeps lie before those of now; only the search for the latter reads them. A file that is
    much larger than what may be taken is searched first."""
    reader = store.server.connect(store.database)
    reader.autocommit = False
    with reader.cursor() as cur:
        cur.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cur.execute("SELECT count(*) FROM _prom_data.fresh")
    for n in (3000, 3000, 5):
        store.flush([(0, m, m, store.now_ms(), bits(m / 7)) for m in range(1, n)])
        if n > 5:
            assert store.merge()["did"]
    pages = store.one("SELECT pg_relation_size('_prom_data.fresh') / 8192")
    read = ("SELECT pg_stat_get_blocks_fetched('_prom_data.fresh'::regclass)"
            " FROM (SELECT pg_stat_force_next_flush(), pg_stat_clear_snapshot()) s")
    store.one("SELECT pg_stat_force_next_flush()")
    before = store.one(read)
    assert store.merge(pages * 2048 if by_place else 1 << 25)["rows_in"] == 4
    store.one("SELECT pg_stat_force_next_flush()")
    assert pages > 100 and pages <= store.one(read) - before < pages * 1.5
    hollow = "SELECT _prom_catalog.fresh_is_hollow(%s::int8)"
    assert not store.one(hollow, (pages // 2,))  # VACUUM comes first
    reader.rollback()
    reader.close()
    store.sql("VACUUM (TRUNCATE off) _prom_data.fresh")
    assert store.one(hollow, (pages // 2,)) and not store.one(hollow, (pages,))


@pytest.mark.parametrize("max_bytes", [1 << 26, 500])
def test_a_fold_reads_fresh_as_it_lies(store, max_bytes):
    """As a whole once, and never by the index, though the last VACUUM has seen the table empty."""
    read = "SELECT seq_scan, idx_scan FROM pg_stat_xact_user_tables WHERE relid = '_prom_data.fresh'::regclass"
    store.flush([(0, m, m, store.now_ms(), bits(m / 7)) for m in range(1, 7000)])
    store.merge()
    store.sql("VACUUM (TRUNCATE off) _prom_data.fresh")
    assert store.one("SELECT pg_relation_size('_prom_data.fresh') > 524288")
    store.flush([(0, m, m, store.now_ms(), bits(m / 7)) for m in range(1, 50)])
    rows = store.count("fresh")
    with store.conn.cursor() as cur:
        cur.execute("BEGIN; " + read)
        before = cur.fetchone()
        cur.execute("SELECT rows_in, more FROM _prom_ext.merge_step(%s)", (max_bytes,))
        rows_in, more = cur.fetchone()
        cur.execute(read)
        after = cur.fetchone()
        cur.execute("COMMIT")
    assert more == (rows_in < rows) == (max_bytes == 500)
    assert (after[0] - before[0], after[1] - before[1]) == (1, 0), "scans of the table, of the index"


@pytest.mark.parametrize("max_bytes", [1 << 26, 20000])
def test_a_fold_sees_where_flushes_fill_the_beginning(store, max_bytes):
    """Free pages at the begin of the file: a flush that has not ended, whose row lies there, is neither folded nor lost;
    so with the rows of one that failed."""
    t = store.now_ms()
    store.flush([(0, m, m, t, bits(m / 7)) for m in range(1, 7000)])
    store.flush([(0, 1, 1, t + 1, bits(1.0))])
    store.sql("DELETE FROM _prom_data.fresh WHERE n_samples = 1 AND t_min < to_timestamp(%s / 1000.0)", (t + 1,))
    store.sql("VACUUM (TRUNCATE off) _prom_data.fresh")
    place = "SELECT (ctid::text::point)[0]::int FROM _prom_data.fresh ORDER BY id DESC LIMIT 1"
    last = store.one(place)
    failed, late = (store.server.connect(store.database) for _ in range(2))
    row = store.statements([(0, 1, [(1, 1, t + 1, bits(2.0)), (1, 1, t + 2, bits(2.0))])])
    for other in (failed, late):
        other.autocommit = False
        with other.cursor() as cur:
            cur.execute(row)
            cur.execute(place)
            assert cur.fetchone()[0] < last
    failed.rollback()
    r = store.merge(max_bytes)
    assert (r["rows_in"], r["more"]) == (1, False)
    assert store.visible() == {(0, 1, 1, t + 1): bits(1.0)}
    late.commit()
    truth = {(0, 1, 1, t + 1): bits(1.0), (0, 1, 1, t + 2): bits(2.0)}
    assert store.visible() == truth
    r = store.merge(max_bytes)
    assert (r["rows_in"], r["more"]) == (1, False) and store.count("fresh") == 0
    assert store.visible() == truth
    failed.close()
    late.close()


def test_many_small_rows_do_not_fill_a_large_file(store):
    """More rows than pages, and yet the file is nearly empty: what counts is their bytes."""
    for n in (6000, 600):
        store.flush([(0, m, m, store.now_ms(), bits(m / 7)) for m in range(1, n)])
        if n == 6000:
            full = store.one("SELECT count(*) FROM _prom_data.fresh")
            store.sql("SELECT pg_stat_force_next_flush()")
            pages = store.one("SELECT pg_relation_size('_prom_data.fresh') / 8192")
            assert pages < full and not store.one("SELECT _prom_catalog.fresh_is_hollow(1, 100)")
            assert store.merge()["did"]
            store.sql("VACUUM (TRUNCATE off) _prom_data.fresh")
    rows = store.one("SELECT count(*) FROM _prom_data.fresh")
    store.sql("SELECT pg_stat_force_next_flush()")
    assert pages < 4 * rows < full and store.one("SELECT _prom_catalog.fresh_is_hollow(1, 100)")


def test_a_vacuum_that_was_not_done_is_named_again(store):
    """Who took it may have died. After ten minutes, and until it is done."""
    def take():
        return [c for (c,) in store.sql("SELECT _prom_catalog.take_vacuums()")]

    def later():
        store.sql("UPDATE _prom_catalog.vacuum_taken SET taken_at = taken_at - interval '11 min'")

    store.sql("INSERT INTO _prom_catalog.vacuum_queue VALUES ('fresh', false, true), ('merged', true, false), ('gone', true, false)")
    first = take()
    assert first == ["VACUUM (TRUNCATE on, INDEX_CLEANUP on) _prom_data.fresh", "VACUUM (FREEZE, TRUNCATE off) _prom_data.merged"]
    assert take() == []
    later()
    assert take() == first
    store.sql(first[0])
    later()
    # done after it was taken, whenever that was
    assert take() == first[1:]
    store.sql(first[1])
    later()
    assert take() == []
    assert store.one("SELECT count(*) FROM _prom_catalog.vacuum_taken") == 0


def test_force_gives_space_back(store):
    t = day_ms(store, -1)
    rng = random.Random(1)
    for i in range(40):
        store.flush([(0, 1, s, t + i, bits(rng.random())) for s in range(1, 2000)])
    size = "SELECT pg_table_size('_prom_data.fresh')"
    before = store.one(size)
    store.force()
    for (c,) in store.sql("SELECT _prom_catalog.take_vacuums()"):
        store.sql(c)
    assert before > 400_000 and store.one(size) < before / 4


def test_rights(server, store):
    store.sql("CREATE ROLE care LOGIN IN ROLE prom_maintenance; CREATE ROLE look LOGIN IN ROLE prom_reader")
    try:
        store.flush([(0, 1, 1, day_ms(store, -1), bits(1.0))])
        look = server.connect(store.database, "look").cursor()
        for call in ("CALL prom_api.execute_maintenance()", "SELECT _prom_ext.merge_step()", "SELECT _prom_ext.seal_step()",
                     "SELECT _prom_catalog.apply_retention()", "SELECT _prom_catalog.take_vacuums()"):
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                look.execute(call)
        care = server.connect(store.database, "care").cursor()
        care.execute("CALL prom_api.execute_maintenance(force => true)")
        assert store.count("merged") == 0 and len(store.visible()) == 1
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            care.execute("DELETE FROM _prom_data.block")
    finally:
        look.connection.close()
        care.connection.close()
        store.sql("DROP OWNED BY care, look; DROP ROLE care, look")


def test_nothing_is_merged_while_a_dump_is_restored(store):
    """The sequence comes last; ids from before it would be lower than those of older blocks."""
    t = store.now_ms()
    store.flush([(0, 1, 1, t, bits(1.0))])
    store.sql("UPDATE _prom_data.fresh SET id = id + 1000")
    with pytest.raises(psycopg2.errors.ObjectNotInPrerequisiteState):
        store.merge()
    store.sql("SELECT setval('_prom_data.block_id_seq', 1001)")
    assert store.merge()["did"]
    store.sql("UPDATE _prom_data.merged SET id = id + 1000")
    with pytest.raises(psycopg2.errors.ObjectNotInPrerequisiteState):
        store.seal()
    store.sql("SELECT setval('_prom_data.block_id_seq', 3000)")
    assert store.seal()["windows"] == 1


def test_not_in_repeatable_read(store):
    with pytest.raises(psycopg2.errors.ActiveSqlTransaction):
        store.sql("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT _prom_ext.merge_step()")
    store.sql("ROLLBACK")


def test_with_a_publication_of_all_tables(store):
    store.sql("SELECT _prom_catalog.set_setting('retention_grace', '0')")
    """Every table that maintenance updates or deletes from has a replica identity."""
    store.sql("CREATE PUBLICATION everything FOR ALL TABLES")
    t = day_ms(store, -20)
    for i in range(18):
        store.flush([(0, m, m, t + i, bits(float(i))) for m in (1, 2)], packed=(2,))
        store.merge()
    store.force()
    assert len(store.visible()) == 36
    store.sql("SELECT _prom_catalog.set_setting('retention_period', '10 days')")
    store.force()
    assert store.visible() == {}
