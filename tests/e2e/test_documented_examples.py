"""The documented examples of the SQL surface on cpu_usage and cpu_total, as a user types them: data by remote
write, queries unqualified, in psql where the document shows psql.

Where the document contradicts itself: labels hold __name__, series_id is a bigint everywhere, json stands
in straight quotes.
"""
import re
import time

import psycopg2
import pytest

DEV = {"namespace": "dev", "node": "pinky"}
PRODUCTION = {"namespace": "production", "node": "brain"}
WINDOW_S = 8 * 3600
T0 = (int(time.time()) // WINDOW_S - 3) * WINDOW_S + 600  # a window of 8 hours that is over


def series(name, labels, *values):
    """Samples of a minute each."""
    return {"__name__": name, **labels}, [((T0 + 60 * i) * 1000, v) for i, v in enumerate(values)]


def load(p, *several):
    p.write(list(several))
    # views are made in the background every few seconds, or now
    p.sql("SELECT _prom_catalog.make_metric_views()")


@pytest.fixture(scope="module")
def db(module_lab):
    """The document's first data."""
    p = module_lab.promscale(args=["--self-scrape=false"])
    load(p, series("cpu_usage", PRODUCTION, 0.5, 0.6), series("cpu_usage", DEV, 0.1, 0.2),
         series("cpu_total", PRODUCTION, 100.0, 160.0), series("cpu_total", DEV, 10.0, 20.0))
    return p


@pytest.fixture(scope="module")
def later(module_lab):
    """The same when more labels have come: new_tag, and two regions of one node."""
    p = module_lab.promscale(args=["--self-scrape=false"])
    load(p, series("cpu_usage", PRODUCTION, 0.5), series("cpu_total", PRODUCTION, 100.0))
    load(p, series("cpu_usage", {**PRODUCTION, "new_tag": "value"}, 0.7),
         series("cpu_usage", {**DEV, "region": "East"}, 0.1), series("cpu_usage", {**DEV, "region": "West"}, 0.2),
         series("cpu_usage", {"namespace": "prod", "node": "pinky", "zone": "us-a1-east"}, 0.3))
    return p


def described(p, what):
    """[(column, type)] of psql's \\d."""
    done = p.sql_command("-At", "-c", f"\\d {what}")
    assert done.returncode == 0, done.stderr
    return [tuple(line.split("|")[:2]) for line in done.stdout.splitlines()]


def rows(p, query):
    return sorted(p.sql(query), key=repr)


def test_metric_view(db):
    assert described(db, "cpu_usage") == [
        ("time", "timestamp with time zone"), ("value", "double precision"), ("series_id", "bigint"),
        ("labels", "integer[]"), ("namespace_id", "integer"), ("node_id", "integer")]
    assert described(db, "prom_metric.cpu_usage") == described(db, "cpu_usage")


def test_series_view(db):
    assert described(db, "prom_series.cpu_usage") == [
        ("series_id", "bigint"), ("labels", "integer[]"), ("namespace", "text"), ("node", "text")]


def test_new_labels_come_last(later):
    assert [c for c, _ in described(later, "cpu_usage")][:6] == [
        "time", "value", "series_id", "labels", "namespace_id", "node_id"]
    assert {c for c, _ in described(later, "cpu_usage")[6:]} == {"new_tag_id", "region_id", "zone_id"}
    assert [c for c, _ in described(later, "prom_series.cpu_usage")][:4] == [
        "series_id", "labels", "namespace", "node"]


def test_single_points_with_their_labels(db):
    got = db.sql("SELECT jsonb(labels) as labels, value FROM cpu_usage WHERE time < now()")
    assert sorted(got, key=lambda r: r[1]) == [
        ({"__name__": "cpu_usage", **DEV}, 0.1), ({"__name__": "cpu_usage", **DEV}, 0.2),
        ({"__name__": "cpu_usage", **PRODUCTION}, 0.5), ({"__name__": "cpu_usage", **PRODUCTION}, 0.6)]


def test_rollup(db):
    got = dict(db.sql("SELECT val(node_id) as node, avg(value) FROM cpu_usage WHERE time < now() GROUP BY node_id"))
    assert got == {"brain": pytest.approx(0.55), "pinky": pytest.approx(0.15)}


def test_times(db):
    assert db.sql("SELECT extract(epoch FROM time)::int8 FROM cpu_usage WHERE value IN (0.5, 0.6) ORDER BY time") == [
        (T0,), (T0 + 60,)]


def test_all_series(db):
    got = db.sql("SELECT * FROM prom_series.cpu_usage ORDER BY namespace")
    assert [r[2:] for r in got] == [("dev", "pinky"), ("production", "brain")]
    assert all(len(r[1]) == 3 for r in got)
    # the array is the one of the metric view, and labels() finds it by the series
    assert rows(db, "SELECT DISTINCT series_id, labels FROM cpu_usage") == sorted((r[:2] for r in got), key=repr)
    assert rows(db, "SELECT series_id, labels(series_id) FROM prom_series.cpu_usage") == sorted(
        (r[:2] for r in got), key=repr)


def test_absent_labels(later):
    assert rows(later, "SELECT namespace, node, region, zone, new_tag FROM prom_series.cpu_usage") == sorted([
        ("production", "brain", None, None, None), ("production", "brain", None, None, "value"),
        ("dev", "pinky", "East", None, None), ("dev", "pinky", "West", None, None),
        ("prod", "pinky", None, "us-a1-east", None)], key=repr)
    assert rows(later, "SELECT value, val(region_id) FROM cpu_usage WHERE region_id IS NOT NULL") == [
        (0.1, "East"), (0.2, "West")]
    # one group for series that have not got the label, whether its place is a gap or beyond the end
    assert rows(later, "SELECT val(region_id), count(*) FROM cpu_usage GROUP BY region_id") == [
        ("East", 1), ("West", 1), (None, 3)]


def test_prom_info_metric(db):
    columns = [r[0] for r in db.sql("SELECT column_name FROM information_schema.columns WHERE table_schema ="
                                    " 'prom_info' AND table_name = 'metric' ORDER BY ordinal_position")]
    assert columns[:10] == ["id", "metric_name", "table_name", "retention_period", "chunk_interval", "label_keys",
                            "size", "compression_ratio", "total_chunks", "compressed_chunks"]
    db.sql("CALL prom_api.execute_maintenance(force => true)")
    got = db.sql("SELECT metric_name, table_name, retention_period::text, chunk_interval::text, label_keys,"
                 " total_chunks, compressed_chunks FROM prom_info.metric ORDER BY metric_name")
    assert got == [(m, m, "90 days", "08:00:00", ["__name__", "namespace", "node"], 1, 1)
                   for m in ("cpu_total", "cpu_usage")]
    for size, ratio, after in db.sql("SELECT size, compression_ratio, after_compression_bytes FROM prom_info.metric"):
        assert re.fullmatch(r"\d+ (bytes|kB)", size) and after > 0
        assert ratio < 100
    (bytes_of_blocks,), = db.sql("SELECT sum(octet_length(data) + 164) FROM _prom_data.block")  # 164: row and index
    assert db.sql("SELECT sum(after_compression_bytes) FROM prom_info.metric") == [(bytes_of_blocks,)]


def test_prom_info_metric_of_many_samples(module_lab):
    """The ratio is what the document means: near 100 where much is saved."""
    p = module_lab.promscale(args=["--self-scrape=false"])
    load(p, series("cpu_usage", DEV, *[0.1 * (i % 7) for i in range(400)]))
    p.sql("CALL prom_api.execute_maintenance(force => true)")
    (ratio,), = p.sql("SELECT compression_ratio FROM prom_info.metric")
    (stored,), = p.sql("SELECT sum(octet_length(data) + 164) FROM _prom_data.block")
    assert float(ratio) == pytest.approx(100 * (1 - stored / (400 * 88)))  # 88: a row per sample, with its index
    assert ratio > 80


def test_label_keys(later):
    assert dict(later.sql("SELECT metric_name, label_keys FROM prom_info.metric")) == {
        "cpu_usage": ["__name__", "namespace", "new_tag", "node", "region", "zone"],
        "cpu_total": ["__name__", "namespace", "node"]}


def test_prom_info_label(later):
    got = later.sql("SELECT key, value_column_name, id_column_name, values FROM prom_info.label ORDER BY key")
    assert got == [("__name__", "__name__", "__name___id", ["cpu_total", "cpu_usage"]),
                   ("namespace", "namespace", "namespace_id", ["dev", "prod", "production"]),
                   ("new_tag", "new_tag", "new_tag_id", ["value"]),
                   ("node", "node", "node_id", ["brain", "pinky"]),
                   ("region", "region", "region_id", ["East", "West"]),
                   ("zone", "zone", "zone_id", ["us-a1-east"])]
    assert [r[0] for r in later.sql("SELECT column_name FROM information_schema.columns WHERE table_schema ="
                                    " 'prom_info' AND table_name = 'label' ORDER BY ordinal_position")][:4] == [
        "key", "value_column_name", "id_column_name", "values"]


def test_containment(later):
    got = rows(later, """SELECT * FROM prom_series.cpu_usage u
                         WHERE labels @> jsonb '{"namespace":"dev", "node": "pinky"}'""")
    assert sorted(r[2:4] + tuple(x for x in r[4:] if x) for r in got) == [
        ("dev", "pinky", "East"), ("dev", "pinky", "West")]
    assert rows(later, """SELECT value FROM cpu_usage WHERE labels @> jsonb '{"region": "West"}'""") == [(0.2,)]
    assert len(rows(later, "SELECT * FROM cpu_usage WHERE labels @> jsonb '{}'")) == 5
    assert not rows(later, """SELECT * FROM cpu_usage WHERE labels @> jsonb '{"namespace": "nowhere"}'""")


def test_matchers_of_the_document(db):
    got = rows(db, "SELECT * FROM cpu_usage u WHERE labels ? ('namespace' == 'dev') AND labels ? ('node' == 'brain')")
    assert got == []
    got = rows(db, "SELECT value FROM cpu_usage u"
                   " WHERE labels ? ('namespace' == 'dev') AND labels ? ('node' == 'pinky')")
    assert got == [(0.1,), (0.2,)]


# Of `later`; the values say which series: 0.5 production, 0.7 with new_tag, 0.1 East, 0.2 West, 0.3 prod.
MATCHERS = {
    "labels ? ('namespace' == 'dev')": {0.1, 0.2},
    "labels ? ('namespace' !== 'dev')": {0.3, 0.5, 0.7},
    "labels ? ('namespace' ==~ 'prod')": {0.3, 0.5, 0.7},          # not anchored
    "labels ? ('namespace' ==~ '^prod$')": {0.3},
    "labels ? ('namespace' !=~ '^prod$')": {0.1, 0.2, 0.5, 0.7},
    "labels ? ('node' ==~ 'pin*')": {0.1, 0.2, 0.3},
    # the key is missing: negative matchers always match, positive ones never
    "labels ? ('region' == 'East')": {0.1},
    "labels ? ('region' !== 'East')": {0.2, 0.3, 0.5, 0.7},
    "labels ? ('region' ==~ '.*')": {0.1, 0.2},
    "labels ? ('region' !=~ 'East|West')": {0.3, 0.5, 0.7},
    "labels ? ('no_such_key' == 'x')": set(),
    "labels ? ('no_such_key' !== 'x')": {0.1, 0.2, 0.3, 0.5, 0.7},
    "labels ? ('__name__' == 'cpu_usage')": {0.1, 0.2, 0.3, 0.5, 0.7},
    "labels ? ('__name__' == 'cpu_total')": set(),
    # any boolean logic, with any other clause
    "labels ? ('region' == 'East') OR labels ? ('new_tag' == 'value')": {0.1, 0.7},
    "NOT labels ? ('node' == 'pinky') AND value > 0.6": {0.7},
    "NOT (labels ? ('node' == 'pinky') OR labels ? ('new_tag' ==~ '.'))": {0.5},
}


@pytest.mark.parametrize("matcher", MATCHERS)
def test_matcher(later, matcher):
    assert {r[0] for r in later.sql(f"SELECT value FROM cpu_usage WHERE {matcher}")} == MATCHERS[matcher]
    if "value" not in matcher.replace("'value'", ""):
        assert len(later.sql(f"SELECT * FROM prom_series.cpu_usage WHERE {matcher}")) == len(MATCHERS[matcher])


def test_matchers_need_their_parentheses(db):
    with pytest.raises(psycopg2.ProgrammingError):
        db.sql("SELECT * FROM cpu_usage WHERE labels ? 'node' == 'pinky'")


def test_eq_join(db):
    got = rows(db, """SELECT u.value, t.value, jsonb(u.labels) - '__name__', jsonb(t.labels) - '__name__'
                      FROM cpu_usage u INNER JOIN cpu_total t ON (u.time=t.time AND eq(u.labels, t.labels))
                      WHERE u.labels ? ('namespace' == 'dev') AND u.labels ? ('node' ==~ 'pin*')""")
    assert got == [(0.1, 10.0, DEV, DEV), (0.2, 20.0, DEV, DEV)]
    columns = db.sql("""SELECT * FROM cpu_usage u
                        INNER JOIN cpu_total t ON (u.time=t.time AND eq(u.labels, t.labels))""")
    assert len(columns) == 4 and len(columns[0]) == 12


def test_eq_join_with_gaps(later):
    """Arrays of two metrics differ in length and order; what counts are the labels."""
    got = rows(later, "SELECT u.value, t.value FROM cpu_usage u JOIN cpu_total t ON eq(u.labels, t.labels)")
    assert got == [(0.5, 100.0)]


def test_eq_with_json(later):
    ask = "SELECT value FROM cpu_usage WHERE eq(labels , jsonb '%s')"
    assert later.sql(ask % '{"namespace":"prod","node":"pinky","zone":"us-a1-east"}') == [(0.3,)]
    assert later.sql(ask % '{"__name__":"something else","namespace":"prod","node":"pinky","zone":"us-a1-east"}') == [
        (0.3,)]
    assert later.sql(ask % '{"namespace":"prod","node":"pinky"}') == []          # not all of its labels
    assert later.sql(ask % '{"namespace":"production","node":"brain"}') == [(0.5,)]  # a series has more: another one
    assert later.sql(ask % '{"namespace":"prod","node":"pinky","zone":"us-a1-east","x":"y"}') == []


def test_default_retention(module_lab):
    p = module_lab.promscale(args=["--self-scrape=false"])
    load(p, series("cpu_usage", DEV, 0.1))
    assert p.sql("SELECT set_default_retention_period(180 * INTERVAL '1 day')") == [(True,)]
    load(p, series("cpu_total", DEV, 0.1))
    assert p.sql("SELECT DISTINCT retention_period::text FROM prom_info.metric") == [("180 days",)]
    with pytest.raises(psycopg2.DataError):
        p.sql("SELECT set_default_retention_period(INTERVAL '-1 day')")
