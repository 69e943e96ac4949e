"""prom_info.metric and prom_info.label, and the settings that people see."""
import decimal

import psycopg2
import pytest

from database import series

HOUR = 3_600_000
T0 = 1_704_067_200_000  # 2024-01-01 00:00 UTC


def metric(db, name, columns="*"):
    return db.sql(f"SELECT {columns} FROM prom_info.metric WHERE metric_name = %s", (name,))[0]


def test_columns(shared_db):
    """The original documentation's ten first and in its order, then ours."""
    assert shared_db.columns("prom_info.metric") == [
        "id", "metric_name", "table_name", "retention_period", "chunk_interval", "label_keys", "size", "compression_ratio",
        "total_chunks", "compressed_chunks", "before_compression_bytes", "after_compression_bytes", "total_size_bytes",
        "num_series", "num_samples"]
    assert shared_db.columns("prom_info.label") == ["key", "value_column_name", "id_column_name", "values", "num_values"]


def test_a_metric_without_samples(db):
    db.resolve([series("m", node="a", namespace="b")])
    db.views()
    assert db.sql("SELECT metric_name, table_name, retention_period::text, chunk_interval::text, label_keys, size, compression_ratio,"
                  " total_chunks, compressed_chunks, num_series, num_samples FROM prom_info.metric") == [
        ("m", "m", "90 days", "08:00:00", ["__name__", "namespace", "node"], "0 bytes", None, 0, 0, 1, 0)]


def grid(metric_id, series_ids, start, step, n):
    return [(metric_id, s, start + i * step, float(i)) for s in series_ids for i in range(n)]


@pytest.fixture
def filled(db):
    """big: windows sealed, merged and fresh; far: one block of another age; tiny, wee: share a fresh row."""
    got = db.resolve([series("big", i=str(i)) for i in range(3)] + [series("far"), series("tiny"), series("wee")])
    ids = dict(db.sql("SELECT metric_name, id FROM _prom_catalog.metric"))
    # both small metrics must share a bucket
    db.sql("UPDATE _prom_catalog.metric SET id = %s WHERE id = %s", (ids["tiny"] + 3200, ids["tiny"]))
    db.sql("UPDATE _prom_catalog.metric SET id = %s WHERE id = %s", (ids["tiny"] + 6400, ids["wee"]))
    db.sql("UPDATE _prom_catalog.series SET metric_id = %s WHERE metric_id = %s", (ids["tiny"] + 3200, ids["tiny"]))
    db.sql("UPDATE _prom_catalog.series SET metric_id = %s WHERE metric_id = %s", (ids["tiny"] + 6400, ids["wee"]))
    ids["tiny"], ids["wee"] = ids["tiny"] + 3200, ids["tiny"] + 6400
    big, (far, tiny, wee) = got.series[:3], got.series[3:]
    db.partition(T0)
    db.block("block", ids["big"], grid(ids["big"], big, T0, 60_000, 480), "sealed")              # window 0
    db.block("block", ids["big"], grid(ids["big"], big, T0 + 8 * HOUR, 60_000, 480), "sealed")   # window 1
    db.block("merged", ids["big"], grid(ids["big"], big, T0 + 15 * HOUR, 60_000, 120), "merged")  # 1 and 2
    db.block("fresh", ids["big"], grid(ids["big"], big, T0 + 17 * HOUR, 15_000, 10))              # 2
    db.block("block_far", ids["far"], grid(ids["far"], [far], -4 * HOUR, 60_000, 10), "sealed")
    bucket = db.one("SELECT _prom_ext.bucket(%s)", (ids["tiny"],))
    assert bucket == db.one("SELECT _prom_ext.bucket(%s)", (ids["wee"],)) < 0
    db.block("fresh", bucket, grid(ids["tiny"], [tiny], T0, 1000, 30) + grid(ids["wee"], [wee], T0 + 9 * HOUR, 1000, 10))
    return db, ids


def test_figures_are_those_of_the_blocks(filled):
    db, ids = filled
    stored = db.one("SELECT sum(octet_length(data)) FROM (SELECT data FROM _prom_data.block WHERE metric_id = %s UNION ALL"
                    " SELECT data FROM _prom_data.merged WHERE metric_id = %s UNION ALL"
                    " SELECT data FROM _prom_data.fresh WHERE metric_id = %s) b", (ids["big"],) * 3)
    samples = 3 * (480 + 480 + 120 + 10)
    got = metric(db, "big", "total_chunks, compressed_chunks, num_series, num_samples, total_size_bytes, after_compression_bytes,"
                            " before_compression_bytes, size = pg_size_pretty(total_size_bytes), compression_ratio")
    assert got[:8] == (3, 1, 3, samples, stored, stored, samples * 24, True)
    assert got[8] == pytest.approx((1 - decimal.Decimal(stored) / (samples * 24)) * 100) and 50 < got[8] < 100
    assert metric(db, "far", "total_chunks, compressed_chunks, num_samples") == (1, 1, 10)


def test_shared_rows_are_divided(filled):
    db, ids = filled
    row = db.one("SELECT octet_length(data) FROM _prom_data.fresh WHERE metric_id < 0")
    tiny = metric(db, "tiny", "total_chunks, compressed_chunks, num_samples, total_size_bytes")
    wee = metric(db, "wee", "total_chunks, compressed_chunks, num_samples, total_size_bytes")
    assert tiny[:3] == (1, 0, 30) and wee[:3] == (1, 0, 10)
    assert abs(tiny[3] + wee[3] - row) <= 1 and abs(tiny[3] - 0.75 * row) <= 1
    assert db.sql("SELECT p.metric_id, p.n_samples, extract(epoch FROM p.t_min)::int8, extract(epoch FROM p.t_max)::int8"
                  " FROM _prom_data.fresh f, _prom_ext.block_parts(f.data) p WHERE f.metric_id < 0 ORDER BY 1") == [
        (ids["tiny"], 30, T0 // 1000, T0 // 1000 + 29),
        (ids["wee"], 10, T0 // 1000 + 9 * 3600, T0 // 1000 + 9 * 3600 + 9)]


def test_all_metrics_together_are_all_bytes(filled):
    db, _ = filled
    total = sum(db.one(f"SELECT coalesce(sum(octet_length(data)), 0) FROM _prom_data.{t}")
                for t in ("fresh", "merged", "block", "block_far"))
    assert abs(db.one("SELECT sum(total_size_bytes) FROM prom_info.metric") - total) <= 2
    assert db.one("SELECT sum(num_samples) FROM prom_info.metric") == db.one(
        "SELECT sum(n_samples) FROM (SELECT n_samples FROM _prom_data.fresh UNION ALL SELECT n_samples FROM _prom_data.merged"
        " UNION ALL SELECT n_samples FROM _prom_data.block UNION ALL SELECT n_samples FROM _prom_data.block_far) b")


def test_windows_follow_the_metrics_interval(filled):
    db, ids = filled
    db.sql("UPDATE _prom_catalog.metric SET chunk_interval = '1 hour', retention_period = '7 days' WHERE id = %s", (ids["big"],))
    # hours 0-15 are sealed, 15-16 also merged, 17 is fresh: 18 in all; 15 onwards are open
    assert metric(db, "big", "chunk_interval::text, retention_period::text, total_chunks, compressed_chunks") == (
        "01:00:00", "7 days", 18, 15)


def test_damaged_shared_row_is_an_error(db):
    db.resolve([series("m")])
    db.sql("INSERT INTO _prom_data.fresh (tenant_id, metric_id, dist_key, level, kind, format, series_lo, series_hi, t_min, t_max,"
           " n_series, n_samples, data) VALUES (0, -1, 0, 0, 1, 1, 1, 1, '2024-01-01Z', '2024-01-01Z', 1, 1, '\\xdeadbeef')")
    with pytest.raises(psycopg2.Error) as e:
        metric(db, "m")
    assert e.value.pgcode == "XX001"


def test_names_are_cheap(filled):
    """Figures that are not asked for are not counted."""
    db, _ = filled
    plan = "\n".join(db.column("EXPLAIN SELECT id, metric_name, table_name, retention_period FROM prom_info.metric"))
    assert "_prom_data" not in plan and "fresh" not in plan and "merged" not in plan, plan


def test_labels(db):
    tenant = db.one("SELECT _prom_catalog.tenant_id('t')")
    many = [series("cpu_usage", namespace="dev", node="pinky"), series("cpu_total", namespace="production", node="brain")]
    db.resolve(many)
    db.resolve(many[:1] + [series("cpu_usage", time="x")], tenant=tenant)
    assert db.sql('SELECT key, value_column_name, id_column_name, "values", num_values FROM prom_info.label') == [
        ("__name__", "__name__", "__name___id", ["cpu_total", "cpu_usage"], 2),
        ("namespace", "namespace", "namespace_id", ["dev", "production"], 2),
        ("node", "node", "node_id", ["brain", "pinky"], 2),
        ("time", "label_time", "label_time_id", ["x"], 1)]


def test_default_retention_period(db):
    assert db.one("SELECT prom_api.get_default_metric_retention_period()::text") == "90 days"
    db.sql("SET IntervalStyle = 'iso_8601'")
    assert db.one("SELECT prom_api.set_default_retention_period(180 * INTERVAL '1 day')")
    db.sql("RESET IntervalStyle")
    assert db.one("SELECT prom_api.get_default_metric_retention_period()::text") == "180 days"
    db.resolve([series("m")])
    assert metric(db, "m", "retention_period::text") == ("180 days",)
    assert db.one("SELECT _prom_catalog.setting('retention_period')") == "180 days"
    for wrong in ("0", "-1 day"):
        with pytest.raises(psycopg2.Error) as e:
            db.sql("SELECT prom_api.set_default_retention_period(%s)", (wrong,))
        assert e.value.pgcode == "22023"
    assert db.one("SELECT prom_api.get_default_metric_retention_period()::text") == "180 days"


def test_settings(db):
    assert db.one("SELECT _prom_catalog.setting('chunk_interval')") == "8 hours"
    assert db.one("SELECT _prom_catalog.setting('no such thing')") is None
    with pytest.raises(psycopg2.Error) as e:
        db.sql("SELECT _prom_catalog.set_setting('no such thing', '1')")
    assert e.value.pgcode == "22023"
