"""Bytes that the server itself has lost: chunks of a TOAST value."""
import os
import random

import psycopg2
import pytest
from store import DAY, HOUR, Store, bits


def lose_chunk(store, table):
    """Of the first value, as a lost page would."""
    toast, name = store.sql("SELECT reltoastrelid::oid, reltoastrelid::regclass::text FROM pg_class"
                            " WHERE oid = %s::regclass", (f"_prom_data.{table}",))[0]
    store.sql(f"UPDATE pg_class SET relkind = 'r' WHERE oid = {toast}")  # else nobody may delete
    n = store.one(f"WITH gone AS (DELETE FROM {name} WHERE chunk_id = (SELECT min(chunk_id) FROM {name})"
                  " AND chunk_seq = 1 RETURNING 1) SELECT count(*) FROM gone")
    store.sql(f"UPDATE pg_class SET relkind = 't' WHERE oid = {toast}")
    store.sql(f"VACUUM {name}")
    assert n == 1


@pytest.mark.parametrize("table", ["fresh", "merged"])
def test_folding_goes_on(store, table):
    rng = random.Random(1)
    t = (store.now_ms() - HOUR) // HOUR * HOUR
    store.flush([(0, 1, 1, t + i, bits(rng.random())) for i in range(3000)])
    if table == "merged":
        store.merge()
    lost = store.one(f"SELECT id FROM _prom_data.{table} WHERE metric_id = 1 ORDER BY id LIMIT 1")
    lose_chunk(store, table)
    failed = 0
    for k in range(1, 20):  # folds that would take the row along
        store.flush([(0, 1, 1, t + 3000 * k + i, bits(rng.random())) for i in range(3000)] + [(0, 2, 2, t + k, bits(1.0))])
        while store.one("SELECT outcome FROM _prom_catalog.run_step('fold', true)") == "failed":
            failed += 1
            assert failed == 1
    assert failed == 1 and store.count("fresh") == (table == "fresh")
    assert store.sql("SELECT block_id, metric_id, level FROM _prom_catalog.maintenance_error") == [
        (lost, 1, 0 if table == "fresh" else 1)]
    assert store.one(f"SELECT count(*) FROM _prom_data.{table} WHERE id = {lost}") == 1


def test_a_set_of_series_that_is_lost_is_made_anew(store):
    """By the next fold that comes to it; until then those who need it hear of it."""
    rng = random.Random(5)
    t = (store.now_ms() - HOUR) // HOUR * HOUR
    ids = rng.sample(range(1, 10 ** 9), 4001)
    store.sql("INSERT INTO _prom_catalog.series SELECT i, 0, 1, '{}', gen_random_uuid() FROM unnest(%s) i", (ids,))
    store.flush([(0, 1, s, t, bits(1.0)) for s in ids[:4000]])
    assert store.merge()["did"]
    lose_chunk(store, "presence")
    alive = "SELECT _prom_ext.ids_count(_prom_ext.series_alive(0, '{1}', '-infinity', 'infinity'))"
    with pytest.raises(psycopg2.errors.DataCorrupted) as e:
        store.sql(alive)
    assert "recount_presence()" in str(e.value)
    # SQL does without, also while it plans
    assert store.one("SELECT count(*) FROM _prom_data.samples WHERE metric_id = 1 AND time > now() - interval '1 day'") == 4000
    store.flush([(0, 1, ids[4000], t, bits(1.0)), (0, 2, 7, t, bits(1.0))])
    assert store.one("SELECT outcome FROM _prom_catalog.run_step('fold', true)") == "done"
    assert store.one(alive) == 4001 and store.count("fresh") == 0


def late_and_early(store, seed):
    """Samples of a day that is over, and late ones between them: each more than a page."""
    rng = random.Random(seed)
    t = store.now_ms() // DAY * DAY - 4 * DAY
    return [[(0, m, m, t + i * 20_000 + late, bits(rng.random())) for m in (1, 2) for i in range(3000)] for late in (0, 1)]


def test_a_merged_row_that_is_lost_is_named_by_the_seal(store):
    """Its day waits, other days of its metric and other metrics do not."""
    for batch in late_and_early(store, 2):
        store.flush(batch + [(t, m, s, at - DAY, b) for t, m, s, at, b in batch])
        store.merge()
    lost = store.row("SELECT id, metric_id, t_min FROM _prom_data.merged ORDER BY id LIMIT 1")
    lose_chunk(store, "merged")
    store.seal(False)
    assert store.sql("SELECT block_id, metric_id, level, t_min FROM _prom_catalog.maintenance_error") == [
        (lost["id"], lost["metric_id"], 1, lost["t_min"])]
    assert set(store.sql("SELECT metric_id, date_bin('1 day', t_min, '2000-01-01 00:00+00') = date_bin('1 day', %s::timestamptz,"
                         " '2000-01-01 00:00+00') FROM _prom_data.merged", (lost["t_min"],))) == {(lost["metric_id"], True)}
    assert store.seal(False)["windows"] == 0


def test_late_samples_do_not_wait_for_a_sealed_row_that_is_lost(store):
    early, late = late_and_early(store, 3)
    store.flush(early)
    store.merge()
    store.seal(False)
    lost, m, table = store.sql("SELECT id, metric_id, tableoid::regclass::text FROM _prom_data.block ORDER BY id LIMIT 1")[0]
    lose_chunk(store, table.split(".")[1])
    for i in range(8):
        store.flush(late[i::8])
        store.merge()
        r = store.seal(False)
        assert r["failed"] == 0 and store.count("merged") == 0
    assert store.sql("SELECT block_id, metric_id, level FROM _prom_catalog.maintenance_error") == [(lost, m, 2)]
    assert store.one("SELECT sum(n_samples) FROM _prom_data.block WHERE metric_id = %s AND id <> %s", (m, lost)) == 3000
    store.force()
    assert dict(store.sql("SELECT metric_id, n_samples FROM _prom_data.block WHERE id <> %s", (lost,))) == {
        m: 3000, 3 - m: 6000}


def test_a_partition_that_is_lost_stops_no_other_day(make_server):
    server = make_server("")
    store = Store(server, server.create())
    early, late = late_and_early(store, 4)
    store.flush(early)
    store.merge()
    store.seal(False)
    path = server.data / store.one("SELECT pg_relation_filepath(tableoid) FROM _prom_data.block ORDER BY id LIMIT 1")
    store.flush(late + [(0, m, m, late[0][3] + DAY, bits(1.0)) for m in (1, 3)])
    store.merge()
    truth = store.visible()
    server.stop("fast")
    os.rename(path, f"{path}.gone")
    server.start()
    store = Store(server, store.database)
    r = store.seal(False)
    assert (r["windows"], r["failed"]) == (4, 2)
    assert store.sql("SELECT metric_id, step, level FROM _prom_catalog.maintenance_error ORDER BY 1") == [
        (1, "seal", 1), (2, "seal", 1)]
    assert store.seal(False)["windows"] == 0
    os.rename(f"{path}.gone", path)
    store.force()
    assert store.count("merged") == 0 and store.visible() == truth
