"""Bytes that the server itself has lost: chunks of a TOAST value."""
import random

import pytest
from store import HOUR, bits


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
