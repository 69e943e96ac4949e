"""Metric views and series views, as the founding document describes them."""
import psycopg2
import pytest
from conftest import DEV, PRODUCTION, key


def described(db, relation):
    """Column, type, collation, nullable, default and storage, as psql's \\d+ prints them, and the title."""
    title, header, *rows = db.psql(f"\\d+ {relation}")
    assert header[:6] == ["Column", "Type", "Collation", "Nullable", "Default", "Storage"]
    return "|".join(title), [row[:6] for row in rows if len(row) >= 7 and not row[0].startswith(("View", "Options"))]


def plain(column, type_, storage="plain"):
    return [column, type_, "", "", "", storage]


METRIC_VIEW = [plain("time", "timestamp with time zone"), plain("value", "double precision"),
               plain("series_id", "bigint"), plain("labels", "integer[]", "extended"),
               plain("namespace_id", "integer"), plain("node_id", "integer")]
SERIES_VIEW = [plain("series_id", "bigint"), plain("labels", "integer[]", "extended"),
               plain("namespace", "text", "extended"), plain("node", "text", "extended")]


def test_a_metric_view_holds_all_samples_of_the_metric(db):
    rows = db.labels_of("SELECT jsonb(labels), extract(epoch FROM time)::int8, value FROM prom_metric.cpu_usage")
    assert rows == sorted([
        (key(DEV), db.t0, 0.1), (key(DEV), db.t0 + 60, 0.2),
        (key(PRODUCTION), db.t0, 0.5), (key(PRODUCTION), db.t0 + 60, 0.6)], key=repr)


def test_metric_views_are_in_prom_metric_and_named_as_the_metric(db):
    assert db.column("SELECT viewname FROM pg_views WHERE schemaname = 'prom_metric' ORDER BY 1") == [
        "cpu_total", "cpu_usage"]


def test_a_fresh_session_finds_metric_views_by_their_bare_name(db):
    fresh = db.connect()
    cur = fresh.cursor()
    cur.execute("SELECT count(*), 'cpu_usage'::regclass = 'prom_metric.cpu_usage'::regclass FROM cpu_usage")
    assert cur.fetchone() == (4, True)
    cur.execute("SELECT setting FROM pg_settings WHERE name = 'search_path'")
    path = [word.strip() for word in cur.fetchone()[0].split(",")]
    assert path[:2] == ['"$user"', "public"] and {"prom_metric", "prom_api", "ps_tag"} <= set(path)
    fresh.close()
    assert db.psql("SELECT count(*) FROM cpu_usage")[1] == ["4"]


def test_the_bare_name_is_the_metric_view_and_not_another(db):
    """The same name stands in prom_series and prom_data: what the search_path finds is the metric view."""
    assert db.one("SELECT count(*) FROM pg_class WHERE relname = 'cpu_usage'") >= 2
    assert db.columns("cpu_usage") == db.columns("prom_metric.cpu_usage") != db.columns("prom_series.cpu_usage")


def test_columns_of_a_metric_view_in_psql(db):
    assert described(db, "cpu_usage") == ('View "prom_metric.cpu_usage"', METRIC_VIEW)
    assert described(db, "prom_metric.cpu_total") == ('View "prom_metric.cpu_total"', METRIC_VIEW)


def test_a_column_for_each_label_of_the_metric_and_none_of_other_metrics(later):
    assert later.columns("cpu_usage")[:6] == [c[0] for c in METRIC_VIEW]
    assert sorted(later.columns("cpu_usage")[6:]) == ["new_tag_id", "region_id", "zone_id"]
    assert later.columns("cpu_total") == [c[0] for c in METRIC_VIEW]


def test_val_gives_the_value_of_a_label_id(db):
    assert set(db.sql("SELECT val(namespace_id), val(node_id), value FROM cpu_usage")) == {
        ("dev", "pinky", 0.1), ("dev", "pinky", 0.2), ("production", "brain", 0.5), ("production", "brain", 0.6)}


def test_jsonb_gives_all_labels_with_the_name(db):
    """The document's picture leaves __name__ out, its paragraph on eq has it: it is there."""
    assert {tuple(sorted(j.items())) for j in db.column("SELECT jsonb(labels) FROM cpu_usage")} == {
        key({"__name__": "cpu_usage", **DEV}), key({"__name__": "cpu_usage", **PRODUCTION})}


def test_labels_of_a_series_id_is_the_array_of_the_view(db):
    rows = db.sql("SELECT labels(series_id), labels FROM cpu_usage")
    assert len(rows) == 4 and all(a == b for a, b in rows)
    assert db.one("SELECT labels(-1)") is None


def test_labels_hold_the_ids_of_the_columns(db):
    assert db.sql("SELECT DISTINCT labels[2:] = ARRAY[namespace_id, node_id] FROM cpu_usage") == [(True,)]
    assert db.sql("SELECT DISTINCT val(labels[1]) FROM cpu_usage") == [("cpu_usage",)]


def test_example_of_points_with_their_labels(db):
    assert db.labels_of("SELECT\njsonb(labels) as labels,\nvalue\nFROM cpu_usage\nWHERE time < now();") == sorted([
        (key(PRODUCTION), 0.5), (key(PRODUCTION), 0.6), (key(DEV), 0.1), (key(DEV), 0.2)], key=repr)
    assert db.psql("SELECT jsonb(labels) as labels, value FROM cpu_usage WHERE time < now();")[0] == ["labels", "value"]


def test_example_of_a_rollup(db):
    rows = dict(db.sql("SELECT\nval(node_id) as node,\navg(value)\nFROM cpu_usage\nWHERE time < now()\n"
                       "GROUP BY node_id"))
    assert rows == {"brain": pytest.approx(0.55, abs=1e-15), "pinky": pytest.approx(0.15, abs=1e-15)}


def test_time_bounds_are_obeyed(db):
    assert db.column("SELECT value FROM cpu_usage WHERE time < to_timestamp(%s) ORDER BY 1", (db.t0 + 60,)) == [
        0.1, 0.5]
    assert db.sql("SELECT value FROM cpu_usage WHERE time > now()") == []


def test_columns_of_a_series_view_in_psql(db):
    assert described(db, "prom_series.cpu_usage") == ('View "prom_series.cpu_usage"', SERIES_VIEW)
    assert db.column("SELECT viewname FROM pg_views WHERE schemaname = 'prom_series' ORDER BY 1") == [
        "cpu_total", "cpu_usage"]


def test_example_of_all_series(db):
    rows = db.sql("SELECT * FROM prom_series.cpu_usage;")
    assert sorted(r[2:] for r in rows) == [("dev", "pinky"), ("production", "brain")]
    assert {r[0] for r in rows} == set(db.column("SELECT DISTINCT series_id FROM cpu_usage"))
    assert all(r[1] == db.one("SELECT labels(%s)", (r[0],)) for r in rows)


def test_series_views_have_the_text_of_each_label(later):
    names = later.columns("prom_series.cpu_usage")
    assert names[:4] == [c[0] for c in SERIES_VIEW] and sorted(names[4:]) == ["new_tag", "region", "zone"]
    assert {(r["region"], r["new_tag"], r["zone"]) for r in (dict(zip(names, row)) for row in later.sql(
        "SELECT * FROM prom_series.cpu_usage"))} == {(None, None, None), (None, "value", None), ("East", None, None),
                                                      ("West", None, None), (None, None, "us-a1-east")}


def test_an_absent_label_is_null_everywhere(later):
    """A gap in the array, and a place beyond its end: NULL in both views, one group."""
    assert sorted(later.sql("SELECT region_id IS NULL, val(region_id), count(*) FROM cpu_usage GROUP BY region_id"),
                  key=repr) == [(False, "East", 1), (False, "West", 1), (True, None, 6)]
    assert later.one("SELECT count(*) FROM cpu_usage"
                     " WHERE 0 IN (namespace_id, node_id, region_id, zone_id, new_tag_id)") == 0


def test_samples_and_their_series_appear_together_or_not_at_all(own):
    own.load(("cpu_usage", DEV, (0.1,)))
    other = own.connect()
    own.sql("BEGIN")
    got = own.resolve([{"__name__": "cpu_usage", **PRODUCTION}])
    cur = other.cursor()
    cur.execute("SELECT count(*) FROM prom_series.cpu_usage")
    assert cur.fetchone() == (1,)
    own.block("fresh", got.metrics[0], [(got.metrics[0], got.series[0], own.t0 * 1000, 0.5)])
    assert own.one("SELECT count(*) FROM cpu_usage") == 2
    cur.execute("SELECT count(*) FROM cpu_usage")
    assert cur.fetchone() == (1,)
    own.sql("ROLLBACK")
    assert own.one("SELECT count(*) FROM cpu_usage") == own.one("SELECT count(*) FROM prom_series.cpu_usage") == 1
    other.close()


def test_samples_of_the_past_are_taken(own):
    """Backfilling: of any age, after newer ones, and beside what is sealed."""
    own.way = "sealed"
    own.load(("cpu_usage", DEV, (0.1, 0.2)))
    now = own.t0
    for days in (1, 30, 365, 4000):
        own.t0 = now - days * 86400
        own.load(("cpu_usage", DEV, (float(days), 1.0)))
    # what is older than is kept at all is gone again, by retention
    assert own.column("SELECT value FROM cpu_usage ORDER BY time") == [30.0, 1.0, 1.0, 1.0, 0.1, 0.2]
    own.sql("SELECT set_default_retention_period(interval '20 years')")
    own.t0 = now - 4000 * 86400
    own.load(("cpu_usage", DEV, (4000.0, 1.0)))
    assert own.column("SELECT value FROM cpu_usage ORDER BY time")[:2] == [4000.0, 1.0]


def test_tenants_are_a_label_that_queries_may_cross(own):
    for tenant in ("a", "b"):
        own.load(("cpu_usage", {**DEV, "__tenant__": tenant}, (1.0 if tenant == "a" else 2.0,)))
    assert own.columns("cpu_usage")[4:].count("__tenant___id") == 1
    assert own.sql("SELECT val(__tenant___id), sum(value) FROM cpu_usage GROUP BY 1 ORDER BY 1") == [
        ("a", 1.0), ("b", 2.0)]
    assert own.sql("SELECT value FROM cpu_usage WHERE labels ? ('__tenant__' == 'b')") == [(2.0,)]


def test_unknown_metrics_are_unknown_relations(db):
    with pytest.raises(psycopg2.errors.UndefinedTable):
        db.sql("SELECT * FROM cpu_nothing")
