"""Where promscale.damaged_blocks says so, a damaged block is an error that names the row; nothing of it is shown."""

import psycopg2
import pytest

from fdw_blocks import DAY_MS, Store

T0 = 1700006400000 // DAY_MS * DAY_MS


@pytest.fixture(scope="module")
def store(server):
    server.create("damage_db")
    conn = server.connect("damage_db")
    conn.cursor().execute("SET timezone = 'UTC'; SET promscale.damaged_blocks = error")
    s = Store(conn)
    ids = s.metric(8, 10, 80)
    for table, offset in (("block", 0), ("merged", 10), ("fresh", 20), ("block_far", 30)):
        s.block(table, 8, [(8, x, T0 + (offset * 60 + k) * 1000, k / 3) for x in ids for k in range(300)])
    s.flush()
    yield s
    conn.close()


DAMAGES = {
    "cut": ("data = substr(data, 1, length(data) - 1)", "XX001"),
    "empty": ("data = ''", "XX001"),
    "flipped": ("data = set_byte(data, length(data) / 2, get_byte(data, length(data) / 2) # 16)", "XX001"),
    "longer": ("data = data || '\\x00'", "XX001"),
    "count": ("n_samples = n_samples + 1", "XX001"),
    "series": ("series_hi = series_hi + 5", "XX001"),
    "tenant": ("tenant_id = 3", "XX001"),
    "time": ("t_max = t_max + interval '1 ms'", "XX001"),
    "microseconds": ("t_max = t_max + interval '1 us'", "XX001"),
    "metric": ("metric_id = 9", None),
    "kind": ("kind = 77", ("0A000", "XX001")),
    "format": ("format = 77", ("0A000", "XX001")),
}


@pytest.mark.parametrize("table", ["block", "merged", "fresh", "block_far"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage(store, table, damage):
    change, codes = DAMAGES[damage]
    store.sql("BEGIN")
    try:
        store.sql(f"UPDATE _prom_data.{table} SET {change}")
        block_id = store.sql(f"SELECT id FROM _prom_data.{table}")[0][0]
        if codes is None:  # not the metric's row any more: simply not read
            assert store.sql("SELECT count(*) FROM _prom_data.samples WHERE metric_id = 8") == [(9000,)]
            return
        with pytest.raises(psycopg2.Error) as error:
            store.sql("SELECT count(value) FROM _prom_data.samples WHERE metric_id = 8")
        assert error.value.pgcode in codes
        if damage != "microseconds":
            assert error.value.diag.message_detail == \
                f"Block {block_id} of table _prom_data.{table} (metric_id 8)."
    finally:
        store.sql("ROLLBACK")
    assert store.sql("SELECT count(value) FROM _prom_data.samples WHERE metric_id = 8") == [(12000,)]


def test_blocks_that_are_not_needed_are_not_opened(store):
    store.sql("BEGIN")
    store.sql("UPDATE _prom_data.merged SET data = ''")
    assert store.sql("SELECT count(value) FROM _prom_data.samples WHERE metric_id = 8"
                     " AND time < timestamptz 'epoch' + %s * interval '1 s'", (T0 // 1000 + 600,)) == [(3000,)]
    store.sql("ROLLBACK")
