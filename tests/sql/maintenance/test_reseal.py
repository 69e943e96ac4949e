"""Samples for windows that are sealed: after maintenance the window is as if all had come at once, what was written
first stays, and what it costs is bounded. test_oracle.py has the same at random."""

import random

import psycopg2
import pytest

from store import DAY, bits, hist
from test_races import Call, Held, wait_for_lock

STEP = 60_000
OLD = "UPDATE _prom_catalog.reseal_queue SET since = since - interval '2 hours'"


def start_of_day(store, days):
    return store.now_ms() // DAY * DAY - days * DAY


def value(series, i):
    return bits(float(series * 1000 + (i * 7919) % 97))


def written(store, samples, metric=1):
    """Flushes of some thousand samples, and a fold."""
    for at in range(0, len(samples), 5000):
        store.flush([(0, metric, s, t, b) for s, t, b in samples[at:at + 5000]])
    store.merge()


def fragments(store, table="block", metric=1):
    """How many sealed rows may hold one series, at most."""
    rows = store.sql(f"SELECT series_lo, series_hi, t_min, t_max FROM _prom_data.{table} WHERE metric_id = %s", (metric,))
    points = sorted({(r[0], r[2]) for r in rows})
    return max(sum(r[0] <= s <= r[1] and r[2] <= t <= r[3] for r in rows) for s, t in points)


def size(store, metric=1):
    return store.one("SELECT sum(octet_length(data) + 164)::int8 FROM _prom_data.block WHERE metric_id = %s", (metric,))


def queued(store):
    return store.one("SELECT count(*) FROM _prom_catalog.reseal_queue")


def reseal(store, force=False):
    if not force:
        store.sql(OLD)
    return store.row("SELECT * FROM _prom_ext.reseal_step(%s)", (force,))


def samples_of(t0, series, step=STEP, n=1440, offset=0):
    return [(s, t0 + offset + i * step, value(s, i)) for s in series for i in range(n) if offset + i * step < DAY]


@pytest.mark.parametrize("pieces", [1, 12])
def test_as_small_as_if_all_had_come_at_once(store, pieces):
    """A third of the samples of a day is late, in one piece or in many."""
    t0 = start_of_day(store, 4)
    everything = samples_of(t0, range(1, 21))
    late = [x for x in everything if (x[1] - t0) // STEP % 3 == 1]
    early = [x for x in everything if (x[1] - t0) // STEP % 3 != 1]
    written(store, [(s + 1000, t, b) for s, t, b in everything], metric=2)  # at once, for comparison
    written(store, early)
    store.seal(False)
    rng = random.Random(pieces)
    rng.shuffle(late)
    for i in range(pieces):
        written(store, sorted(late[i::pieces]))
        store.seal(False)
        assert fragments(store) <= 5
    reseal(store)
    assert queued(store) == 0 and fragments(store) == 1
    assert size(store) <= 1.03 * size(store, 2)
    assert store.visible() == {**{(0, 1, s, t): b for s, t, b in everything},
                               **{(0, 2, s + 1000, t): b for s, t, b in everything}}
    assert store.one("SELECT _prom_catalog.recount()") == 0


def test_what_was_sent_again_goes(store):
    """All samples a second time, some with another value: nothing is stored twice, and all of it is counted."""
    store.sql("INSERT INTO _prom_catalog.metric (id, metric_name, digest, table_name)"
              " VALUES (1, 'a', _prom_ext.text_digest('a'), 'a')")
    t0 = start_of_day(store, 4)
    everything = samples_of(t0, range(1, 11), n=300)
    written(store, everything)
    store.seal(False)
    small = size(store)
    again = [(s, t, bits(-1.0) if t % (5 * STEP) == 0 else b) for s, t, b in everything]
    for half in (again[::2], again[1::2]):
        written(store, half)
        store.seal(False)
    reseal(store)
    assert len(store.rows()) == len(everything)
    assert store.visible() == {(0, 1, s, t): b for s, t, b in everything}
    assert size(store) <= small + 10
    other = sum(a != b for a, b in zip(again, everything))
    assert store.row("SELECT num_samples_approx, num_duplicates, num_conflicts FROM prom_info.metric_stats") == {
        "num_samples_approx": len(everything), "num_duplicates": len(everything) - other, "num_conflicts": other}
    assert store.row("SELECT num_samples, total_chunks, compressed_chunks FROM prom_info.metric") == {
        "num_samples": len(everything), "total_chunks": 1, "compressed_chunks": 1}


def test_a_trickle_costs_little_and_leaves_few_layers(store):
    """One late sample a series, 60 times: rewriting the day each time would write 60 x 20 000 samples."""
    t0 = start_of_day(store, 4)
    early = samples_of(t0, range(1, 21), n=1000)
    truth = {(0, 1, s, t): b for s, t, b in early}
    written(store, early)
    store.seal(False)
    sealed = 0
    for i in range(60):
        late = [(s, t0 + i * STEP + 7000, value(s, i)) for s in range(1, 21)]
        truth.update({(0, 1, s, t): b for s, t, b in late})
        written(store, late)
        sealed += store.seal(False)["samples"]
        assert fragments(store) <= 5
        assert queued(store) == 1
    assert sealed < 15 * 60 * 20  # 1200 late samples
    assert reseal(store, force=False)["did"] and fragments(store) == 1
    assert store.visible() == truth
    # nothing is left to do
    assert not reseal(store, force=True)["did"]


def test_it_waits_until_nothing_more_comes(store):
    t0 = start_of_day(store, 4)
    early, late = samples_of(t0, range(1, 6), n=1000), samples_of(t0, [3], n=20, offset=5000)
    written(store, early)
    store.seal(False)
    written(store, late)
    store.seal(False)
    assert queued(store) == 1 and fragments(store) == 2
    assert not store.row("SELECT * FROM _prom_ext.reseal_step(false)")["did"]
    assert queued(store) == 1
    assert reseal(store, force=True)["did"]
    assert queued(store) == 0 and fragments(store) == 1


def test_force_joins_at_once(store):
    t0 = start_of_day(store, 4)
    written(store, samples_of(t0, range(1, 6), n=1000))
    store.force()
    written(store, samples_of(t0, [3], n=2, offset=5000))
    store.force()
    assert fragments(store) == 1 and queued(store) == 0
    assert store.one("SELECT count(*) FROM _prom_data.block WHERE metric_id = 1") == 1
    # a window that still runs is sealed in pieces, and is one again each time
    now = store.now_ms() // DAY * DAY
    for i in range(3):
        written(store, [(s, now + i * 1000, value(s, i)) for s in range(1, 4)], metric=2)
        store.force()
        assert store.one("SELECT count(*) FROM _prom_data.block WHERE metric_id = 2") == 1


def test_rows_that_nothing_is_late_for_stay(store):
    """Of a metric with many rows those are written anew whose series have late samples."""
    t0 = start_of_day(store, 4)
    rng = random.Random(3)
    early = [(s, t0 + i * STEP, bits(rng.random())) for s in range(1, 501) for i in range(100)]
    written(store, early)
    store.seal(False)
    before = {r[0]: r[1:] for r in store.sql("SELECT id, series_lo, series_hi FROM _prom_data.block")}
    assert len(before) > 5
    written(store, [(s, t0 + i * STEP + 1, bits(0.5)) for s in range(200, 210) for i in range(100)])
    store.force()
    after = {r[0] for r in store.sql("SELECT id FROM _prom_data.block")}
    gone = {i for i in before if i not in after}
    assert gone and all(lo <= 209 and hi >= 200 for lo, hi in (before[i] for i in gone))
    assert fragments(store) == 1
    assert store.visible() == {**{(0, 1, s, t): b for s, t, b in early},
                               **{(0, 1, s, t0 + i * STEP + 1): bits(0.5) for s in range(200, 210) for i in range(100)}}


def test_new_series_do_not_leave_a_row_each(store):
    t0 = start_of_day(store, 4)
    truth = {}
    for s in range(1, 31):
        samples = samples_of(t0, [s], n=50)
        truth.update({(0, 1, *x[:2]): x[2] for x in samples})
        written(store, samples)
        store.seal(False)
    assert store.count("block") <= 12
    reseal(store)
    assert store.count("block") == 1
    assert store.visible() == truth


def test_chunks_of_several_lengths(store):
    """Sealed hour by hour, then as days of 8 hours, then hours again; late samples each time."""
    t0 = start_of_day(store, 1)  # windows of yesterday are as long as chunks
    truth = {}
    for n, width in enumerate(["1 hour", "8 hours", "2 hours", "1 day"]):
        store.sql("SELECT _prom_catalog.set_setting('chunk_interval', %s)", (width,))
        samples = samples_of(t0, range(1, 5), step=300_000, n=288, offset=n * 1000)
        truth.update({(0, 1, *x[:2]): x[2] for x in samples})
        written(store, samples)
        store.seal(True)
        assert store.visible() == truth
        assert fragments(store) == 1
        assert store.one("SELECT _prom_catalog.recount()") == 0
    written(store, samples_of(t0, [2], step=300_000, n=100, offset=9))
    store.force()
    # what was sealed in hours is not joined without need, but is where late samples lie across
    assert fragments(store) == 1 and store.count("merged") == 0


def test_kinds_and_tenants_stay_apart(store):
    t0 = start_of_day(store, 4)
    truth = {}
    for n in range(3):
        for tenant in (0, 7):
            batch = [(tenant, 1, s, t0 + i * STEP + n * 500, b(i)) for s in range(1, 4) for i in range(40)
                     for b in (lambda i: bits(float(i)), lambda i: hist(i + 1))]
            store.flush(batch)
            truth.update({(*x[:4], *("H" for _ in range(x[4][0] == "H"))): x[4] for x in batch})
        store.merge()
        store.seal(n == 2)
    assert store.visible() == truth
    assert sorted(store.sql("SELECT tenant_id, kind, count(*) FROM _prom_data.block GROUP BY 1, 2")) == [
        (t, k, 1) for t in (0, 7) for k in sorted({k for (k,) in store.sql("SELECT kind FROM _prom_data.block")})]
    assert store.one("SELECT _prom_catalog.recount()") == 0


def test_far_days(store):
    t0 = start_of_day(store, 2000)
    store.sql("SELECT _prom_catalog.set_setting('retention_period', '0')")
    early, late = samples_of(t0, range(1, 6), n=500), samples_of(t0, range(1, 6), n=500, offset=7)
    written(store, early)
    store.force()
    written(store, late)
    store.force()
    assert fragments(store, "block_far") == 1 and store.count("block_far") == 1
    assert store.visible() == {(0, 1, s, t): b for s, t, b in early + late}


def damage(store, table, where):
    store.sql(f"UPDATE _prom_data.{table} SET data = set_byte(data, octet_length(data) - 1,"
              f" get_byte(data, octet_length(data) - 1) # 255) WHERE {where}")


def test_a_damaged_sealed_block_does_not_stop_late_samples(store):
    """They are sealed beside it; other metrics of the same call are joined. Repaired, it is joined, too."""
    t0 = start_of_day(store, 4)
    early, late = samples_of(t0, range(1, 4), n=100), samples_of(t0, range(1, 4), n=100, offset=7)
    conflict = (1, t0, bits(-5.0))
    for metric in (1, 2):
        written(store, early, metric)
    store.seal(False)
    damage(store, "block", "metric_id = 1")
    damaged = store.sql("SELECT id, data FROM _prom_data.block WHERE metric_id = 1")
    for metric in (1, 2):
        written(store, late + [conflict], metric)
    r = store.seal(False)
    assert r["did"] and store.count("merged") == 0
    assert store.sql("SELECT block_id, metric_id, level FROM _prom_catalog.maintenance_error") == [(damaged[0][0], 1, 2)]
    kept = store.sql("SELECT id, data FROM _prom_data.block WHERE metric_id = 1 ORDER BY id")
    assert len(kept) == 2 and bytes(kept[0][1]) == bytes(damaged[0][1])
    assert store.one("SELECT count(*) FROM _prom_data.block WHERE metric_id = 2") == 1
    store.force()  # tries again
    assert store.one("SELECT count(*) FROM _prom_data.block WHERE metric_id = 1") == 2
    damage(store, "block", f"id = {damaged[0][0]}")
    store.sql("INSERT INTO _prom_catalog.reseal_queue SELECT 1, min(date_bin('1 day', t_min, '2000-01-01 00:00+00')), min(dist_key)"
              " FROM _prom_data.block WHERE metric_id = 1 ON CONFLICT DO NOTHING")
    store.force()
    assert store.one("SELECT count(*) FROM _prom_data.block WHERE metric_id = 1") == 1
    assert store.visible() == {(0, m, s, t): b for m in (1, 2) for s, t, b in early + late}


def test_above_a_damaged_sealed_block_few_layers_lie(store):
    """What comes late is joined with what came late before; the day waits for the repair, however long that takes."""
    t0 = start_of_day(store, 4)
    early = samples_of(t0, range(1, 4), n=1000)
    truth = {(0, 1, s, t): b for s, t, b in early}
    written(store, early)
    store.seal(False)
    damage(store, "block", "true")
    for i in range(30):
        late = [(s, t0 + i * STEP + 7000, value(s, i)) for s in range(1, 4)]
        truth.update({(0, 1, s, t): b for s, t, b in late})
        written(store, late)
        store.seal(False)
        assert fragments(store) <= 5 and store.count("merged") == 0
    assert reseal(store)["failed"] == 0
    assert store.count("block") == 2 and queued(store) == 1
    store.force()
    assert store.count("block") == 2 and queued(store) == 1
    assert not store.row("SELECT * FROM _prom_ext.reseal_step(true)")["did"]
    damage(store, "block", "id = (SELECT min(id) FROM _prom_data.block)")  # repaired
    store.force()
    assert store.count("block") == 1 and queued(store) == 0
    assert store.visible() == truth


def test_many_damaged_days_do_not_keep_others_waiting(store):
    """More of them than one step looks at."""
    t0 = start_of_day(store, 4)
    metrics = range(1, 71)
    for late in (0, 7):
        store.flush([(0, m, m, t0 + i * STEP + late, bits(1.0)) for m in metrics for i in range(2 if late else 10)])
        store.merge()
        store.seal(False)
        store.seal(False)
        assert store.count("merged") == 0
        if late == 0:
            damage(store, "block", "metric_id < 70")
    assert queued(store) == 70
    store.force()
    assert store.sql("SELECT n_samples FROM _prom_data.block WHERE metric_id = 70") == [(12,)]
    assert queued(store) == 69
    assert store.one("SELECT count(*) FROM _prom_catalog.maintenance_error") == 69


def test_a_row_that_is_of_another_level_than_its_table_does_not_stop_late_samples(store):
    t0 = start_of_day(store, 4)
    early, late = samples_of(t0, range(1, 4), n=100), samples_of(t0, range(1, 4), n=100, offset=7)
    written(store, early, 1)
    store.seal(False)
    odd = store.one("UPDATE _prom_data.block SET level = 1 WHERE metric_id = 1 RETURNING id")
    written(store, late, 1)
    assert store.seal(False)["did"] and store.count("merged") == 0
    assert store.sql("SELECT block_id, metric_id, level FROM _prom_catalog.maintenance_error") == [(odd, 1, 2)]
    assert store.one("SELECT count(*) FROM _prom_data.block WHERE metric_id = 1") == 2
    store.sql("UPDATE _prom_data.block SET level = 2 WHERE metric_id = 1")
    store.sql("INSERT INTO _prom_catalog.reseal_queue SELECT 1, min(date_bin('1 day', t_min, '2000-01-01 00:00+00')), min(dist_key)"
              " FROM _prom_data.block WHERE metric_id = 1 ON CONFLICT DO NOTHING")
    store.force()
    assert store.one("SELECT count(*) FROM _prom_data.block WHERE metric_id = 1") == 1
    assert store.visible() == {(0, 1, s, t): b for s, t, b in early + late}


def test_with_compression_off_nothing_is_written_anew(store):
    t0 = start_of_day(store, 4)
    written(store, samples_of(t0, range(1, 4), n=100))
    store.seal(False)
    written(store, samples_of(t0, [1], n=2, offset=7))
    store.seal(False)
    assert queued(store) == 1
    store.sql("SELECT prom_api.set_default_compression_setting(false)")
    assert not reseal(store)["did"]
    store.force()
    assert queued(store) == 1 and fragments(store) == 2
    store.sql("SELECT prom_api.set_default_compression_setting(true)")
    store.force()
    assert queued(store) == 0 and fragments(store) == 1


def test_a_queue_of_days_that_are_gone_is_emptied(store):
    store.sql("INSERT INTO _prom_catalog.reseal_queue (metric_id, day, dist_key, since)"
              " VALUES (5, date_trunc('day', now(), 'UTC') - interval '30 days', 1, now() - interval '2 hours'),"
              " (6, '1970-01-02 00:00+00', 1, now() - interval '2 hours')")
    assert store.row("SELECT * FROM _prom_ext.reseal_step()")["windows"] == 2
    assert queued(store) == 0


# ---- in the middle of it ---------------------------------------------------------------------------


def two_layers(store, merged):
    """A sealed day with late samples of one series: sealed above it, or still merged."""
    t0 = start_of_day(store, 4)
    early, late = samples_of(t0, range(1, 4), n=400), samples_of(t0, [2], n=10, offset=7)
    late.append((2, t0, bits(-1.0)))
    written(store, early)
    store.seal(False)
    written(store, late)
    if not merged:
        store.seal(False)
    assert store.count("block") == (1 if merged else 2)
    return {(0, 1, s, t): b for s, t, b in early + late[:-1]}


STEPS = [("SELECT * FROM _prom_ext.seal_step(true)", True), ("SELECT * FROM _prom_ext.reseal_step(true)", False)]


@pytest.mark.parametrize("statement, merged", STEPS)
def test_cancelled_it_has_done_nothing(server, store, statement, merged):
    truth = two_layers(store, merged)
    before = sorted(store.rows())
    held = Held(server, store, "block")
    call = Call(server, store.database, statement)
    wait_for_lock(store, call.pid)
    store.sql("SELECT pg_cancel_backend(%s)", (call.pid,))
    assert isinstance(call.join().error, psycopg2.errors.QueryCanceled)
    held.end()
    assert sorted(store.rows()) == before and store.visible() == truth
    store.force()
    assert store.visible() == truth and store.count("block") == 1


@pytest.mark.parametrize("statement, merged", STEPS)
def test_a_sealed_row_that_vanishes_under_it_does_not_come_back(server, store, statement, merged):
    two_layers(store, merged)
    held = Held(server, store, "block")
    call = Call(server, store.database, statement)
    wait_for_lock(store, call.pid)
    held.cur.execute("DELETE FROM _prom_data.block WHERE id = %s", (held.id,))
    held.end()
    assert isinstance(call.join().error, psycopg2.errors.SerializationFailure)
    assert held.id not in {r[1] for r in store.rows()}
    left = store.visible()
    store.sql("SELECT _prom_catalog.recount()")
    store.force()
    assert store.visible() == left


def test_readers_see_all_or_nothing_of_it(server, store):
    """A snapshot that is older than the step reads the rows that it has replaced."""
    truth = two_layers(store, False)
    reader = server.connect(store.database)
    reader.autocommit = False
    with reader.cursor() as cur:
        cur.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT count(*), sum(n_samples) FROM _prom_data.block")
        seen = cur.fetchone()
        assert reseal(store, force=True)["rows_in"] == 2
        cur.execute("SELECT count(*), sum(n_samples) FROM _prom_data.block")
        assert cur.fetchone() == seen
    reader.close()
    assert store.visible() == truth
