"""prom_info, retention and compression, as the founding document describes them."""
import re

import pytest
from conftest import DEV, PRODUCTION, insert_of

METRIC_COLUMNS = ["id", "metric_name", "table_name", "retention_period", "chunk_interval", "label_keys", "size",
                  "compression_ratio", "total_chunks", "compressed_chunks"]
ROW_BYTES = 164  # what a block's row takes beside its data
LABEL_COLUMNS = ["key", "value_column_name", "id_column_name", "values"]


def info(db, metric, columns="*"):
    cur = db.conn.cursor()
    cur.execute(f"SELECT {columns} FROM prom_info.metric WHERE metric_name = %s", (metric,))
    row, = cur.fetchall()
    return dict(zip([c.name for c in cur.description], row))


def test_columns_of_prom_info_metric(db):
    assert db.columns("prom_info.metric")[:10] == METRIC_COLUMNS


def test_example_of_prom_info_metric(later):
    rows = {r[1]: r for r in later.psql("SELECT * FROM prom_info.metric")[1:-1]}
    for metric, keys in (("cpu_usage", "{__name__,namespace,new_tag,node,region,zone}"),
                         ("cpu_total", "{__name__,namespace,node}")):
        id_, name, table, retention, interval, label_keys, size, ratio, total, compressed, *_ = rows[metric]
        assert (name, table, retention, interval, label_keys) == (metric, metric, "90 days", "08:00:00", keys)
        assert id_.isdigit() and re.fullmatch(r"\d+ (bytes|kB|MB)", size)
        assert total == "1" and compressed == ("1" if later.way == "sealed" else "0")
        assert ratio == "" or float(ratio) < 100


def test_table_name_names_the_views(own):
    """Also where the metric's own name cannot be a view's."""
    long_name = "m" * 80
    own.load((long_name, DEV, (1.0,)), ("CAPITAL \"quoted\"", DEV, (2.0,)))
    for name, value in ((long_name, 1.0), ("CAPITAL \"quoted\"", 2.0)):
        table = info(own, name)["table_name"].replace('"', '""')
        assert own.sql(f'SELECT value FROM prom_metric."{table}"') == [(value,)]
        assert own.sql(f'SELECT node FROM prom_series."{table}"') == [("pinky",)]


def stored(db, metric, table="x"):
    """Bytes of the metric's blocks, and what their rows take beside them in table and index."""
    rows, data = db.sql("""
        SELECT count(*), coalesce(sum(octet_length(data)), 0)
        FROM (SELECT metric_id, data, 'fresh' AS t FROM _prom_data.fresh
              UNION ALL SELECT metric_id, data, 'merged' FROM _prom_data.merged
              UNION ALL SELECT metric_id, data, 'block' FROM _prom_data.block) x
        JOIN _prom_catalog.metric m ON m.id = x.metric_id
        WHERE metric_name = %s AND (%s = 'x' OR t = %s)""", (metric, table, table))[0]
    return data + ROW_BYTES * rows


def test_size_is_the_space_of_the_metric(db):
    for metric in ("cpu_usage", "cpu_total"):
        assert db.one("SELECT pg_size_bytes(size) FROM prom_info.metric WHERE metric_name = %s", (metric,)) == stored(
            db, metric)


def test_compression_ratio_is_in_per_cent_and_higher_is_better(own):
    """(1 - compressed / uncompressed) * 100; uncompressed is a row per sample with its index."""
    own.way = "sealed"
    own.load(("steady", DEV, [1.0] * 400), ("noisy", DEV, [((i * 7919) % 10007) / 977 for i in range(400)]))
    ratio = {}
    for metric in ("steady", "noisy"):
        row = info(own, metric)
        assert row["after_compression_bytes"] == stored(own, metric, "block")
        ratio[metric] = float(row["compression_ratio"])
        assert ratio[metric] == pytest.approx(
            (1 - row["after_compression_bytes"] / row["before_compression_bytes"]) * 100)
    own.sql("CREATE TABLE plain (time timestamptz, value float8, series_id int8); CREATE INDEX ON plain (series_id,"
            " time)")
    own.sql("INSERT INTO plain SELECT now() + i * interval '1 s', i, 1 FROM generate_series(1, 100000) i")
    a_row = own.one("SELECT (pg_table_size('plain') + pg_indexes_size('plain')) / 100000.0")
    assert row["before_compression_bytes"] == pytest.approx(400 * float(a_row), rel=0.1)
    assert 50 < ratio["noisy"] < ratio["steady"] < 100


SIZES = [f"{form}_{part}_bytes" for form in ("uncompressed", "compressed")
         for part in ("heap", "index", "toast", "total")]
STATS = [("hypertable_name", "regclass"), ("total_chunks", "bigint"), ("number_compressed_chunks", "bigint"),
         *((name, "text") for name in SIZES)]


def test_compressed_hypertable_stats(own):
    """A row a metric that has compressed chunks, with the columns that TimescaleDB had."""
    view = "timescaledb_information.compressed_hypertable_stats"
    assert own.sql("SELECT attname::text, atttypid::regtype::text FROM pg_attribute WHERE attrelid = %s::regclass"
                   " AND attnum > 0 ORDER BY attnum", (view,)) == STATS
    own.load(("cpu_usage", DEV, [1.0] * 100), ("cpu_total", DEV, [2.0] * 10))
    assert own.sql(f"SELECT * FROM {view}") == []
    own.maintain()
    own.t0 += 20 * 3600
    own.load(("cpu_usage", DEV, (1.0,)))
    rows = {r[0].split(".")[-1]: r for r in own.sql(f"SELECT * FROM {view}")}
    assert {name: r[1:3] for name, r in rows.items()} == {"cpu_usage": (2, 1), "cpu_total": (1, 1)}
    for name, row in rows.items():
        about = info(own, name)
        assert row[6] == own.one("SELECT pg_size_pretty(%s::int8)", (about["before_compression_bytes"],))
        assert row[10] == own.one("SELECT pg_size_pretty(%s::int8)", (about["after_compression_bytes"],))
        assert info(own, name)["total_chunks"] == row[1] and info(own, name)["compressed_chunks"] == row[2]


def test_chunks_are_counted_by_chunk_interval(own):
    start = own.t0 // 28800 * 28800
    for window in range(3):
        own.t0 = start - 28800 * window + 60
        own.load(("cpu_usage", DEV, (1.0,)))
    assert (info(own, "cpu_usage")["total_chunks"], info(own, "cpu_usage")["compressed_chunks"]) == (3, 0)
    own.maintain()
    assert (info(own, "cpu_usage")["total_chunks"], info(own, "cpu_usage")["compressed_chunks"]) == (3, 3)


def test_columns_and_example_of_prom_info_label(later):
    assert later.columns("prom_info.label")[:4] == LABEL_COLUMNS
    rows = {r[0]: r[1:4] for r in later.psql("SELECT * FROM prom_info.label")[1:-1]}
    assert rows == {"__name__": ["__name__", "__name___id", "{cpu_total,cpu_usage}"],
                    "namespace": ["namespace", "namespace_id", "{dev,prod,production}"],
                    "node": ["node", "node_id", "{brain,pinky}"], "new_tag": ["new_tag", "new_tag_id", "{value}"],
                    "region": ["region", "region_id", "{East,West}"], "zone": ["zone", "zone_id", "{us-a1-east}"]}


def test_column_names_of_prom_info_label_are_those_of_the_views(own):
    """Reserved names included."""
    own.load(("cpu_usage", {"time": "t", "value": "v", "series": "s", "A b": "c", "x" * 70: "y"}, (1.0,)))
    for label, value_column, id_column in own.sql("SELECT key, value_column_name, id_column_name FROM prom_info.label"):
        if label != "__name__":
            value, = own.column(f'SELECT "{value_column}" FROM prom_series.cpu_usage')
            assert own.column(f'SELECT val("{id_column}") FROM prom_metric.cpu_usage') == [value]
            assert value == own.one("SELECT jsonb(labels)->>%s FROM cpu_usage", (label,))


# ---- retention -----------------------------------------------------------------------------------------

def aged(own, metric, *days):
    """A sample of each of these ages, in a partition of its day."""
    for d in days:
        got = own.resolve([{"__name__": metric, **DEV}])
        own.sql(insert_of("fresh", got.metrics[0], [
            (got.metrics[0], got.series[0], (own.t0 - d * 86400) * 1000, float(d))]))
    own.views()


def kept(own, metric):
    return sorted(own.column(f"SELECT value FROM {metric}"))


def test_example_of_the_default_retention(own):
    assert own.sql("SELECT set_default_retention_period(180 * INTERVAL '1 day')") == [(True,)]
    aged(own, "cpu_usage", 1, 100, 200)
    assert str(info(own, "cpu_usage", "retention_period::text")["retention_period"]) == "180 days"
    own.maintain()
    assert kept(own, "cpu_usage") == [1.0, 100.0]


def test_retention_of_90_days_without_any_setting(own):
    aged(own, "cpu_usage", 1, 80, 100)
    own.maintain()
    assert kept(own, "cpu_usage") == [1.0, 80.0]


def test_retention_of_a_metric_and_its_reset(own):
    aged(own, "cpu_usage", 1, 20, 80, 100)
    aged(own, "cpu_total", 1, 20, 80, 100)
    own.sql("SELECT _prom_catalog.set_setting('retention_grace', '0')")  # at once, not in an hour
    assert own.sql("SELECT set_metric_retention_period('cpu_usage', INTERVAL '10 days')") == [(True,)]
    assert own.sql("SELECT metric_name, retention_period::text FROM prom_info.metric ORDER BY 1") == [
        ("cpu_total", "90 days"), ("cpu_usage", "10 days")]
    own.maintain()
    assert (kept(own, "cpu_usage"), kept(own, "cpu_total")) == ([1.0], [1.0, 20.0, 80.0])
    assert own.sql("SELECT reset_metric_retention_period('cpu_usage')") == [(True,)]
    assert own.sql("SELECT DISTINCT retention_period::text FROM prom_info.metric") == [("90 days",)]
    aged(own, "cpu_usage", 20)
    own.maintain()
    assert kept(own, "cpu_usage") == [1.0, 20.0]


def test_a_metric_that_is_kept_longer(own):
    assert own.sql("SELECT set_metric_retention_period('cpu_usage', INTERVAL '300 days')") == [(True,)]
    aged(own, "cpu_usage", 1, 200, 350)
    aged(own, "cpu_total", 1, 200, 350)
    own.maintain()
    assert (kept(own, "cpu_usage"), kept(own, "cpu_total")) == ([1.0, 200.0], [1.0])


def test_the_default_is_for_metrics_older_and_newer_than_it(own):
    own.load(("cpu_usage", DEV, (1.0,)), ("cpu_total", DEV, (1.0,)))
    own.sql("SELECT set_metric_retention_period('cpu_total', INTERVAL '7 days')")
    own.sql("SELECT set_default_retention_period(INTERVAL '33 days')")
    own.load(("made_after", PRODUCTION, (1.0,)))
    assert own.sql("SELECT metric_name, retention_period::text FROM prom_info.metric ORDER BY 1") == [
        ("cpu_total", "7 days"), ("cpu_usage", "33 days"), ("made_after", "33 days")]


# ---- compression ---------------------------------------------------------------------------------------

def levels(own):
    """Samples that are not in final form, and those that are."""
    return own.sql("SELECT (SELECT coalesce(sum(n_samples), 0) FROM _prom_data.fresh)::int8 + (SELECT"
                   " coalesce(sum(n_samples), 0) FROM _prom_data.merged)::int8,"
                   " (SELECT coalesce(sum(n_samples), 0)::int8 FROM _prom_data.block)")[0]


def a_day(own, days_ago):
    """A sample every ten minutes of one day, up to now."""
    got = own.resolve([{"__name__": "cpu_usage", **DEV}])
    now = own.one("SELECT extract(epoch FROM now())::int8") // 600 * 600
    own.sql(insert_of("fresh", got.metrics[0], [
        (got.metrics[0], got.series[0], (now - days_ago * 86400 - 600 * i) * 1000, 1.0) for i in range(144)]))


def due_steps(own):
    """What the background worker does, without force; the jobs' clocks are put forward."""
    own.sql("UPDATE _prom_catalog.job SET next_run = now()")
    own.sql("CALL execute_maintenance()")


def test_chunks_are_compressed_an_hour_after_they_ended(own):
    """Windows that ended more than an hour ago, without anybody asking for it; the others are not."""
    a_day(own, 0)
    due_steps(own)
    due_steps(own)
    over = own.one("SELECT count(*) FROM cpu_usage WHERE time < date_bin('8 h', now() - interval '1 h', '2000-01-01')")
    assert over >= 80
    assert levels(own) == (144 - over, over)


def test_the_uncompressed_part_does_not_grow(own):
    """Whatever number of days is stored, at most what the newest two windows hold is uncompressed."""
    left = []
    for day in (4, 3, 2, 1, 0):
        a_day(own, day)
        due_steps(own)
        due_steps(own)
        left.append(levels(own)[0])
    assert levels(own)[1] + left[-1] == 5 * 144
    assert max(left) <= 2 * 8 * 6


def test_compression_can_be_turned_off_and_on(own):
    own.sql("SELECT set_default_compression_setting(FALSE);")
    a_day(own, 3)
    own.maintain()
    assert levels(own) == (144, 0)
    own.load(("made_after", DEV, (1.0,)))
    own.maintain()
    assert info(own, "made_after")["compressed_chunks"] == 0
    own.sql("SELECT set_default_compression_setting(TRUE)")
    own.maintain()
    assert levels(own) == (0, 145)
    assert own.one("SELECT sum(value) FROM cpu_usage") == 144
