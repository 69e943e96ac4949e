"""The views of prom_info, over rows of all tables; and the settings that people see."""
import decimal

import psycopg2
import pytest

from database import series

HOUR = 3_600_000
T0 = 1_704_067_200_000  # 2024-01-01 00:00 UTC


def metric(db, name, columns="*"):
    return db.sql(f"SELECT {columns} FROM prom_info.metric WHERE metric_name = %s", (name,))[0]


def types(db, view):
    return db.sql("SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0"
                  " ORDER BY attnum", (view,))


def test_columns(shared_db):
    """The original documentation's first and in its order, then ours."""
    assert types(shared_db, "prom_info.metric") == [
        ("id", "integer"), ("metric_name", "text"), ("table_name", "text"), ("retention_period", "interval"),
        ("chunk_interval", "interval"), ("label_keys", "text[]"), ("size", "text"), ("compression_ratio", "numeric"),
        ("total_chunks", "bigint"), ("compressed_chunks", "bigint"),
        ("compressed_interval", "interval"), ("total_interval", "interval"), ("before_compression_bytes", "bigint"),
        ("after_compression_bytes", "bigint"), ("total_size_bytes", "bigint"), ("total_size", "text"),
        ("num_series", "bigint"), ("num_samples", "bigint")]
    assert types(shared_db, "prom_info.metric_detail") == [
        ("id", "integer"), ("metric_name", "text"), ("table_name", "text"), ("label_keys", "text[]"),
        ("retention_period", "interval"), ("chunk_interval", "interval"), ("compressed_interval", "interval"),
        ("total_interval", "interval"), ("before_compression_bytes", "bigint"), ("after_compression_bytes", "bigint"),
        ("total_size_bytes", "bigint"), ("total_size", "text"), ("compression_ratio", "numeric"),
        ("total_chunks", "bigint"), ("compressed_chunks", "bigint")]
    assert types(shared_db, "prom_info.label") == [
        ("key", "text"), ("value_column_name", "name"), ("id_column_name", "name"), ("values", "text[]"), ("num_values", "integer")]
    assert types(shared_db, "prom_info.metric_stats") == [
        ("metric_name", "text"), ("num_series_approx", "bigint"), ("num_samples_approx", "bigint"),
        ("num_duplicates", "bigint"), ("num_conflicts", "bigint")]
    assert types(shared_db, "prom_info.system_stats") == [
        ("num_series_approx", "bigint"), ("num_metric", "bigint"), ("num_label_keys", "bigint"), ("num_labels", "bigint")]
    assert types(shared_db, "prom_info.exemplar") == [
        ("metric_name", "text"), ("time", "timestamp with time zone"), ("value", "double precision"),
        ("exemplar_labels", "jsonb"), ("series_id", "bigint"), ("labels", "integer[]")]


def test_views_are_the_readers_own(shared_db):
    """Rights and row policies of the reader decide, and every view has a comment."""
    views = shared_db.sql("SELECT c.relname, c.reloptions, obj_description(c.oid) IS NOT NULL FROM pg_class c"
                          " WHERE relnamespace = 'prom_info'::regnamespace AND relkind = 'v'")
    assert {v[0] for v in views} == {"metric", "metric_detail", "metric_stats", "system_stats", "label", "exemplar",
                                       "maintenance", "storage", "storage_by_metric", "storage_by_tenant", "retention",
                                       "retention_preview", "dump_locks"}
    assert all("security_invoker=true" in options and comment for _, options, comment in views)


def test_one_metric_is_found_by_its_name(db):
    """Of any length, among however many."""
    long = "x" * 60_000
    db.resolve([series(f"m{i}") for i in range(3000)] + [series(long)])
    db.sql("ANALYZE _prom_catalog.metric")
    plan = "\n".join(db.column("EXPLAIN SELECT * FROM prom_info.metric WHERE metric_name = 'm77'"))
    assert "metric_name_idx" in plan and "Seq Scan on metric" not in plan
    assert db.column("SELECT metric_name FROM prom_info.metric WHERE metric_name = %s", (long,)) == [long]


def test_exemplars(db):
    r = db.resolve([series("m", node="a"), series("m", node="b")])
    db.views()
    db.sql("SELECT _prom_catalog.insert_exemplars('{0,0}', %s, '{5,5}', %s, '{2024-01-01,2024-01-02}', '{1,2}',"
           " ARRAY[jsonb '{\"trace_id\": \"x\"}', '{}'])", (list(r.metrics) * 2, list(r.series)))
    assert db.sql("SELECT metric_name, value, exemplar_labels->>'trace_id', prom_api.jsonb(labels)->>'node'"
                  " FROM prom_info.exemplar WHERE labels OPERATOR(prom_api.?)"
                  " ('node' OPERATOR(ps_tag.==~) 'a|b') ORDER BY value") == [("m", 1.0, "x", "a"), ("m", 2.0, None, "b")]
    db.sql("SELECT prom_api.drop_metric('m')")
    assert db.sql("SELECT * FROM prom_info.exemplar") == []


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
    assert db.one("SELECT _prom_catalog.recount()") == 2  # rows came by hand: one day of big, one of far
    return db, ids


# What a row takes beside its data, and a sample as a row of its own.
ROW, SAMPLE = 164, 88


def stored(db, metric_id, tables):
    """(rows, bytes)"""
    union = " UNION ALL ".join(f"SELECT data FROM _prom_data.{t} WHERE metric_id = {metric_id}" for t in tables)
    return db.sql(f"SELECT count(*), coalesce(sum(octet_length(data)), 0)::int8 FROM ({union}) b")[0]


def test_figures_are_those_of_the_blocks(filled):
    db, ids = filled
    rows, size = stored(db, ids["big"], ["block", "merged", "fresh"])
    sealed_rows, sealed = stored(db, ids["big"], ["block"])
    got = metric(db, "big", "total_chunks, compressed_chunks, num_series, num_samples, total_size_bytes, after_compression_bytes,"
                            " before_compression_bytes, size = pg_size_pretty(total_size_bytes), total_size = size,"
                            " compressed_interval::text, total_interval::text, compression_ratio")
    assert got[:11] == (3, 1, 3, 3 * (480 + 480 + 120 + 10), size + rows * ROW, sealed + sealed_rows * ROW, 3 * 960 * SAMPLE,
                        True, True, "08:00:00", "24:00:00")
    assert got[11] == pytest.approx((1 - decimal.Decimal(sealed + sealed_rows * ROW) / (3 * 960 * SAMPLE)) * 100)
    assert 90 < got[11] < 100
    assert metric(db, "far", "total_chunks, compressed_chunks, num_samples") == (1, 1, 10)
    detail = "before_compression_bytes, after_compression_bytes, total_size, compression_ratio, total_chunks"
    assert db.sql(f"SELECT {detail} FROM prom_info.metric_detail WHERE metric_name = 'big'")[0] == metric(db, "big", detail)


def test_a_row_takes_what_we_say(db):
    """The 164 bytes beside the data, against a table full of blocks."""
    got = db.resolve([series("m")])
    db.block("fresh", got.metrics[0], grid(got.metrics[0], got.series, T0, 1000, 10))
    n = 20_000
    columns = "tenant_id, metric_id, dist_key, level, kind, format, series_lo, series_hi, t_min, t_max, n_series, n_samples, data"
    db.sql(f"INSERT INTO _prom_data.fresh ({columns}) SELECT {columns} FROM _prom_data.fresh, generate_series(2, {n})")
    db.sql("REINDEX TABLE _prom_data.fresh")
    on_disk = db.one("SELECT pg_total_relation_size('_prom_data.fresh')")
    assert metric(db, "m", "total_size_bytes")[0] == pytest.approx(on_disk, rel=0.1)


def test_a_sample_would_take_what_we_say(db):
    db.sql("CREATE TABLE public.plain (time timestamptz NOT NULL, value float8 NOT NULL, series_id int8 NOT NULL)")
    db.sql("INSERT INTO public.plain SELECT to_timestamp(i), i, i % 100 FROM generate_series(1, 50000) i")
    db.sql("CREATE UNIQUE INDEX ON public.plain (series_id, time) INCLUDE (value) WITH (fillfactor = 100)")
    assert db.one("SELECT pg_total_relation_size('public.plain')") / 50_000 == pytest.approx(SAMPLE, rel=0.1)


def test_nearly_nothing_is_not_compressed_well(db):
    """A block with one sample takes more than a row would; where nothing is compressed there is no ratio."""
    got = db.resolve([series("m")])
    db.block("merged", got.metrics[0], grid(got.metrics[0], got.series, T0, 1000, 1000), "merged")
    db.sql("SELECT _prom_catalog.recount()")
    assert metric(db, "m", "compression_ratio, before_compression_bytes, after_compression_bytes, compressed_interval::text") == (
        None, 0, 0, "00:00:00")
    db.block("block_far", got.metrics[0], grid(got.metrics[0], got.series, T0, 1000, 1), "sealed")
    db.sql("SELECT _prom_catalog.recount()")
    ratio, before, after = metric(db, "m", "compression_ratio, before_compression_bytes, after_compression_bytes")
    assert before == SAMPLE < after and ratio < 0


def test_shared_rows_are_divided(filled):
    db, ids = filled
    row = db.one("SELECT octet_length(data) FROM _prom_data.fresh WHERE metric_id < 0") + ROW
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
    total = samples = 0
    for t in ("fresh", "merged", "block", "block_far"):
        n, size, n_samples = db.sql(f"SELECT count(*), coalesce(sum(octet_length(data)), 0), coalesce(sum(n_samples), 0)"
                                    f" FROM _prom_data.{t}")[0]
        total += n * ROW + size
        samples += n_samples
    assert abs(db.one("SELECT sum(total_size_bytes) FROM prom_info.metric") - total) <= 2
    assert db.one("SELECT sum(num_samples) FROM prom_info.metric") == samples


def test_many_metrics_at_once_are_counted_as_one_by_one(db):
    """Asked for more than a few, fresh rows are read once for all."""
    got = db.resolve([series(f"m{i}", i=str(j)) for i in range(80) for j in range(2)])
    for bucket in range(-32, 0):
        own = [(m, s, T0 + n * 1000, 1.0) for m, s in zip([m for m in got.metrics for _ in (0, 1)], got.series)
               if db.one("SELECT _prom_ext.bucket(%s)", (m,)) == bucket for n in range(m % 7 + 1)]
        if own:
            db.block("fresh", bucket, own)
    for m, s in zip(got.metrics[:5], got.series[::2]):
        db.block("fresh", m, [(m, s, T0 - HOUR, 1.0)])
    columns = "id, num_samples, total_size_bytes, total_chunks"
    want = [db.sql(f"SELECT {columns} FROM prom_info.metric WHERE id = %s", (m,))[0] for m in got.metrics]
    assert sorted(want) == db.sql(f"SELECT {columns} FROM prom_info.metric ORDER BY id")
    assert [r[1] for r in want] == [2 * (m % 7 + 1) + (i < 5) for i, m in enumerate(got.metrics)]
    assert [r[3] for r in want] == [2 if i < 5 else 1 for i in range(80)]


def test_old_samples_in_one_request(db):
    """A fresh row that spans weeks counts in the chunks that it has samples for, not in those between."""
    a, b = (db.resolve([series(n)]) for n in "ab")
    for got, row in ((a, a.metrics[0]), (b, db.one("SELECT _prom_ext.bucket(%s)", (b.metrics[0],)))):
        m, s = got.metrics[0], got.series[0]
        db.block("fresh", row, [(m, s, T0 + h * HOUR, 1.0) for h in (0, 1, 30, 500, 5000)] + [(m, s, -10 * HOUR, 2.0)])
    assert db.sql("SELECT total_chunks, compressed_chunks, num_samples FROM prom_info.metric") == [(5, 0, 6)] * 2


def test_windows_follow_the_metrics_interval(filled):
    db, ids = filled
    db.sql("UPDATE _prom_catalog.metric SET chunk_interval = '1 hour', retention_period = '7 days' WHERE id = %s", (ids["big"],))
    # hours 0-15 are sealed, 15-16 also merged, 17 is fresh: 18 in all; 15 onwards are open
    assert metric(db, "big", "chunk_interval::text, retention_period::text, total_chunks, compressed_chunks") == (
        "01:00:00", "7 days", 18, 15)


def test_a_damaged_block_does_not_take_the_view_away(db):
    got = db.resolve([series("m"), series("n")])
    bucket = db.one("SELECT _prom_ext.bucket(%s)", (got.metrics[0],))
    db.block("fresh", got.metrics[0], [(got.metrics[0], got.series[0], T0, 1.0)])
    db.sql("INSERT INTO _prom_data.fresh (id, tenant_id, metric_id, dist_key, level, kind, format, series_lo, series_hi, t_min, t_max,"
           " n_series, n_samples, data) VALUES (777, 0, %s, 0, 0, 1, 1, 1, 1, '2024-01-01Z', '2024-01-01Z', 1, 1, '\\xdeadbeef')", (bucket,))
    db.conn.notices.clear()
    assert metric(db, "m", "num_samples") == (1,)
    assert [n for n in db.conn.notices if "block 777 of _prom_data.fresh is not counted" in n and n.startswith("WARNING")]
    assert db.one("SELECT count(*) FROM prom_info.metric") == 2


def test_names_are_cheap(filled):
    """Figures that are not asked for are not counted."""
    db, _ = filled
    plan = "\n".join(db.column("EXPLAIN SELECT id, metric_name, table_name, retention_period FROM prom_info.metric"))
    assert not any(word in plan for word in ("_prom_data", "fresh", "merged", "metric_day", "chunk_counts", "series")), plan


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


def test_labels_of_one_key(db):
    """Asking for a key does not gather the values of the others."""
    db.resolve([series("m", **{f"k{i}": f"v{i}" for i in range(100)})])
    db.sql("ANALYZE _prom_catalog.label, _prom_catalog.label_key")
    assert db.sql("SELECT \"values\" FROM prom_info.label WHERE key = 'k7'") == [(["v7"],)]
    plan = db.one("EXPLAIN (ANALYZE, FORMAT json) SELECT * FROM prom_info.label WHERE key = 'k7'")[0]["Plan"]

    def read(node):
        return (node["Actual Rows"] * node["Actual Loops"] if node.get("Relation Name") == "label" else 0) + sum(
            map(read, node.get("Plans", [])))
    assert read(plan) == 1, plan


def test_stats(db):
    db.resolve([series("a", i=str(i)) for i in range(5)] + [series("b", j="x")])
    assert db.sql("SELECT * FROM prom_info.system_stats") == [(6, 2, 3, 8)]
    # no views yet, no samples: figures nevertheless
    assert db.sql("SELECT * FROM prom_info.metric_stats ORDER BY 1") == [("a", 5, 0, 0, 0), ("b", 1, 0, 0, 0)]
    m = db.sql("SELECT id FROM _prom_catalog.metric WHERE metric_name = 'b'")[0][0]
    s = db.sql("SELECT id FROM _prom_catalog.series WHERE metric_id = %s", (m,))[0][0]
    db.block("fresh", m, grid(m, [s], T0, 1000, 7))
    assert db.sql("SELECT num_samples_approx FROM prom_info.metric_stats WHERE metric_name = 'b'") == [(7,)]


def test_many_series_are_estimated(db):
    """As the planner would; where a row policy is, what it shows is counted."""
    db.sql("ALTER TABLE _prom_catalog.series SET (autovacuum_enabled = off)")  # it would come in the middle of an INSERT
    db.sql("INSERT INTO _prom_catalog.series (id, tenant_id, metric_id, labels, digest)"
           " SELECT i, 0, 1, ARRAY[1, i], md5(i::text)::uuid FROM generate_series(1, 220000) i")
    db.sql("ANALYZE _prom_catalog.series")
    db.sql("INSERT INTO _prom_catalog.series (id, tenant_id, metric_id, labels, digest)"
           " SELECT i, 0, 1, ARRAY[1, i], md5(i::text)::uuid FROM generate_series(220001, 440000) i")
    assert db.one("SELECT num_series_approx FROM prom_info.system_stats") == pytest.approx(440_000, rel=0.02)
    db.sql("ALTER TABLE _prom_catalog.series ENABLE ROW LEVEL SECURITY;"
           " CREATE POLICY p ON _prom_catalog.series USING (id <= 10);"
           " DROP ROLE IF EXISTS info_reader; CREATE ROLE info_reader IN ROLE prom_reader; SET ROLE info_reader")
    assert db.one("SELECT num_series_approx FROM prom_info.system_stats") == 10
    db.sql("RESET ROLE")


def test_readers_see_all_of_it_and_no_more(filled):
    """As prom_reader; row policies on series, figures, fresh rows and labels are those of the reader."""
    db, ids = filled
    db.sql("CREATE SCHEMA IF NOT EXISTS public; DROP ROLE IF EXISTS info_reader; CREATE ROLE info_reader IN ROLE prom_reader")
    everything = "SELECT metric_name, num_series, num_samples, total_chunks FROM prom_info.metric ORDER BY 1"
    want = db.sql(everything)
    db.sql("SET ROLE info_reader")
    assert db.sql(everything) == want
    for view in ("metric", "metric_detail", "metric_stats", "system_stats", "label"):
        assert db.sql(f"SELECT * FROM prom_info.{view}")
    for forbidden in ("UPDATE _prom_catalog.metric_day SET merged_rows = 1", "SELECT _prom_catalog.recount()",
                      "SELECT _prom_catalog.forget_figures(1)", "SELECT _prom_catalog.count_conflicts(1, 1, 1)",
                      "INSERT INTO _prom_catalog.metric_conflict (metric_id, tenant_id, duplicates, conflicts) VALUES (1, 0, 1, 1)",
                      "SELECT _prom_catalog.sync_timescaledb_view()"):
        with pytest.raises(psycopg2.Error) as e:
            db.sql(forbidden)
        assert e.value.pgcode == "42501", forbidden
    db.sql("RESET ROLE")
    first = db.one("SELECT min(id) FROM _prom_catalog.series WHERE metric_id = %s", (ids["big"],))
    for table, condition in (("_prom_catalog.series", f"id = {first}"), ("_prom_catalog.metric_day", "day > '2000-01-01'"),
                             ("_prom_data.fresh", "metric_id > 0")):
        db.sql(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON {table} USING ({condition})")
    db.sql("SET ROLE info_reader")
    assert db.sql(everything) == [("big", 1, 3 * 1090, 3), ("far", 0, 0, 0), ("tiny", 0, 0, 0), ("wee", 0, 0, 0)]
    db.sql("RESET ROLE")


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
