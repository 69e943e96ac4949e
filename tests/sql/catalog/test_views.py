"""Names and views of metrics: prom_metric.<metric>, prom_series.<metric>."""
import threading
import time

import pytest

from database import series

RESERVED = ["time", "value", "series_id", "labels", "series", "ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"]


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


def test_columns_in_the_order_of_positions(db):
    db.resolve([series("cpu_usage", namespace="dev", node="pinky")])
    db.views()
    assert db.columns("prom_metric.cpu_usage") == ["time", "value", "series_id", "labels", "namespace_id", "node_id"]
    assert db.columns("prom_series.cpu_usage") == ["series_id", "labels", "namespace", "node"]
    types = dict(db.sql("SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
                        " WHERE attrelid = 'prom_metric.cpu_usage'::regclass"))
    assert types == {"time": "timestamp with time zone", "value": "double precision", "series_id": "bigint",
                     "labels": "integer[]", "namespace_id": "integer", "node_id": "integer"}
    # an older label comes later in the alphabet: appended, whatever its name
    db.resolve([series("cpu_usage", aaa="1", node="brain")])
    db.views()
    assert db.columns("prom_series.cpu_usage") == ["series_id", "labels", "namespace", "node", "aaa"]
    assert db.sql("SELECT namespace, node, aaa FROM prom_series.cpu_usage ORDER BY series_id") == [
        ("dev", "pinky", None), (None, "brain", "1")]


def test_no_labels_but_the_name(db):
    db.resolve([series("bare")])
    db.views()
    assert db.columns("prom_metric.bare") == ["time", "value", "series_id", "labels"]
    assert db.columns("prom_series.bare") == ["series_id", "labels"]
    assert db.one("SELECT count(*) FROM prom_series.bare") == 1


def test_dependent_views_survive_a_new_label(db):
    db.resolve([series("m", a="1")])
    db.views()
    db.sql("CREATE VIEW mine AS SELECT a, count(*) FROM prom_series.m GROUP BY a")
    db.resolve([series("m", b="2")])
    db.views()
    assert "b" in db.columns("prom_series.m")
    assert dict(db.sql("SELECT * FROM mine")) == {"1": 1, None: 1}


NAMES = ["CAPITAL", "no tags", 'quo"te', "semi;colon", "select", "ünïcode", "a.b", "-", "0", "x" * 61, "x" * 62, "x" * 63,
         "x" * 200, "é" * 30, "é" * 31, "é" * 32, "é" * 100, "日" * 20, "日" * 21, "日" * 22, "\U0001f600" * 15,
         "\U0001f600" * 16, "x" * 61 + "é", "x" * 60 + "é", "%I", "$$", "\\", "\n", "pg_class", "x" * 62 + "y", "x" * 62 + "z"]


def test_names_of_metrics(db):
    db.resolve([series(n, host="h") for n in NAMES])
    db.views()
    names = {n: db.names(n) for n in NAMES}
    assert len(set(names.values())) == len(NAMES)
    for metric, name in names.items():
        assert len(name.encode()) <= 62
        if len(metric.encode()) < 62:
            assert name == metric
        else:  # as much of the name as fits between whole characters, then the metric's number
            base, _, number = name.rpartition("_")
            assert metric.startswith(base) and int(number) == db.one(
                "SELECT id FROM _prom_catalog.metric WHERE metric_name = %s", (metric,))
            assert len(name.encode()) > 62 - 4
        assert db.one(f"SELECT count(*) FROM prom_series.{quoted(name)} WHERE host = 'h'") == 1
        assert db.one(f"SELECT count(*) FROM prom_metric.{quoted(name)} WHERE host_id = 1") == 0


def test_a_name_that_is_taken_by_a_cut_one(db):
    """A metric whose plain name equals the cut name of another gets a number of its own."""
    db.resolve([series("x" * 200)])
    cut = db.names("x" * 200)
    for length in (62, 61, 60):  # whatever length the cut name has, one of these metrics wants it
        db.resolve([series(cut), series(cut[:length])])
    assert db.names(cut) != cut
    assert db.one("SELECT count(*) = count(DISTINCT table_name) FROM _prom_catalog.metric")
    db.views()


def test_names_of_keys(db):
    """Reserved names get a prefix, long ones a number; no two keys share a column, in either view."""
    keys = RESERVED + ["label_time", "label_series", "foo", "foo_id", "CAPITAL", "no tags", 'quo"te', "k" * 58, "k" * 59,
                       "k" * 61, "k" * 62, "k" * 63, "k" * 200, "é" * 30, "é" * 31, "é" * 100, "oid", "__schema__"]
    db.resolve([{"__name__": "m", **{k: f"value of {k[:70]}" for k in keys}}])
    db.views()
    columns = {k: (v, i) for k, v, i in db.sql("SELECT key, value_column_name, id_column_name FROM _prom_catalog.label_key")}
    assert len({v for v, _ in columns.values()}) == len({i for _, i in columns.values()}) == len(keys) + 1
    for key in keys:
        value_column, id_column = columns[key]
        assert len(value_column.encode()) <= 62 and len(id_column.encode()) <= 62
        base = "label_" + key if key in RESERVED else key
        if len(base.encode()) < 59 and not key.startswith("label_") and key not in ("time", "series"):
            assert (value_column, id_column) == (base, base + "_id")
        assert id_column.endswith("_id")
        number = db.one("SELECT id FROM _prom_catalog.label_key WHERE key = %s", (key,))
        assert (len(base.encode()) + 3 >= 62) == (id_column.endswith(f"_{number}_id") and id_column != base + "_id") or \
            key in ("time", "label_time", "series", "label_series")
        assert value_column not in ("series_id", "labels") and id_column not in ("time", "value", "series_id", "labels")
        assert db.one(f"SELECT {quoted(value_column)} FROM prom_series.m") == f"value of {key[:70]}"
        assert db.one(f"SELECT count({quoted(id_column)}) FROM prom_metric.m") == 0
    # of `time` and `label_time` one has the plain name, the other a number
    assert {columns["time"][0] == "label_time", columns["label_time"][0] == "label_time"} == {True, False}
    shown = {k: (v, i) for k, v, i in db.sql("SELECT key, value_column_name, id_column_name FROM prom_info.label")}
    assert shown == columns


@pytest.mark.parametrize("late", RESERVED)
def test_reserved_key_that_comes_late(db, late):
    """Appending a column has rules of its own (system columns)."""
    db.resolve([series("m", a="1")])
    db.views()
    db.resolve([series("m", **{late: "2"})])
    db.views()
    assert db.columns("prom_series.m")[-1] == f"label_{late}"
    assert db.columns("prom_metric.m")[-1] == f"label_{late}_id"


def test_more_labels_than_columns(db):
    """1100 label names on one metric: the first thousand have columns, the rest is in labels."""
    wide = series("m", **{f"k{i:04}": str(i) for i in range(1100)})
    db.resolve([wide, series("ok", a="1")])
    db.views()
    assert len(db.columns("prom_metric.m")) == 4 + 1000 and len(db.columns("prom_series.m")) == 2 + 1000
    assert db.one("SELECT prom_api.jsonb(labels) FROM prom_series.m") == wide
    db.resolve([series("m", one_more="x")])
    db.views()
    assert len(db.columns("prom_metric.m")) == 4 + 1000
    assert db.one("SELECT count(*) FROM prom_series.ok WHERE a = '1'") == 1


def test_limit_and_what_is_left(db):
    db.resolve([series(f"m{i}") for i in range(25)])
    assert [db.one("SELECT _prom_catalog.make_metric_views(10)") for _ in range(4)] == [15, 5, 0, 0]
    assert db.one("SELECT count(*) FROM pg_views WHERE schemaname IN ('prom_metric', 'prom_series')") == 50


def test_one_bad_metric_does_not_stop_the_rest(db):
    db.resolve([series(f"m{i}") for i in range(5)])
    db.sql("CREATE TABLE prom_series.m2 (mine int)")
    assert db.one("SELECT _prom_catalog.make_metric_views(100)") == 1
    assert "m2" in db.one("SELECT views_error FROM _prom_catalog.metric WHERE metric_name = 'm2'")
    assert db.one("SELECT count(*) FROM pg_views WHERE schemaname = 'prom_metric'") == 4, "half a metric was made"
    db.resolve([series("later")])
    assert db.one("SELECT _prom_catalog.make_metric_views(1)") == 1, "trouble must not come before new metrics"
    assert db.columns("prom_series.later")
    db.sql("DROP TABLE prom_series.m2")
    assert db.one("SELECT _prom_catalog.make_metric_views(1)") == 0
    assert db.one("SELECT count(views_error) FROM _prom_catalog.metric") == 0


def test_no_failing_metric_stays_behind_other_failing_ones(db):
    db.resolve([series(f"m{i:02}") for i in range(30)])
    for i in range(30):
        db.sql(f"CREATE TABLE prom_metric.m{i:02} (mine int)")
    for _ in range(3):
        db.one("SELECT _prom_catalog.make_metric_views(100)")
    db.sql("DROP TABLE prom_metric.m29")
    for _ in range(60):
        if db.one("SELECT _prom_catalog.make_metric_views(10)") < 30:
            break
    assert db.columns("prom_metric.m29")[:2] == ["time", "value"]


def test_a_long_reader_is_not_waited_for(db):
    db.resolve([series("busy", a="1"), series("free", a="1")])
    db.views()
    reader = db.connect()
    reader.autocommit = False
    reader.cursor().execute("SELECT * FROM prom_series.busy")
    db.resolve([series("busy", b="1"), series("free", b="1")])
    started = time.monotonic()
    assert db.one("SELECT _prom_catalog.make_metric_views(100)") == 1
    assert time.monotonic() - started < 60
    assert "b" in db.columns("prom_series.free") and "b" not in db.columns("prom_series.busy")
    reader.rollback()
    reader.close()
    db.views()
    assert "b" in db.columns("prom_series.busy")


def test_two_makers_at_once(db):
    db.resolve([series(f"m{i}", **{f"k{i}": "v"}) for i in range(60)])
    errors = []

    def make():
        conn = db.connect()
        try:
            for _ in range(40):
                cur = conn.cursor()
                cur.execute("SELECT _prom_catalog.make_metric_views(7)")
                if cur.fetchone()[0] == 0:
                    return
        except Exception as e:
            errors.append(e)
        finally:
            conn.close()
    threads = [threading.Thread(target=make, daemon=True) for _ in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert not errors
    db.views()
    assert db.one("SELECT count(*) FROM pg_views WHERE schemaname IN ('prom_metric', 'prom_series')") == 120


def test_owner_options_and_rights(db):
    db.resolve([series("m", a="1")])
    db.views()
    for schema in ("prom_metric", "prom_series"):
        owner, options, readable, members = db.sql(
            "SELECT pg_get_userbyid(relowner), reloptions, has_table_privilege('prom_reader', oid, 'SELECT'),"
            " (SELECT count(*) FROM pg_depend WHERE objid = c.oid AND deptype = 'e') FROM pg_class c WHERE oid = %s::regclass",
            (f"{schema}.m",))[0]
        assert (owner, options, readable, members) == ("prom_admin", ["security_invoker=true"], True, 0)
    # also after a replacement
    db.resolve([series("m", b="1")])
    db.views()
    assert db.one("SELECT reloptions FROM pg_class WHERE oid = 'prom_metric.m'::regclass") == ["security_invoker=true"]


RIGHTS = """SELECT n.nspname::text, a.grantee::regrole::text, string_agg(a.privilege_type, ',' ORDER BY a.privilege_type)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(c.relacl) a
    WHERE c.relname = %s AND n.nspname LIKE 'prom\\_%%' AND a.grantee <> c.relowner GROUP BY 1, 2 ORDER BY 1, 2"""


def test_rights_are_there_whatever_the_default_is(db):
    db.resolve([series("m", a="1")])
    db.views()
    rights = db.sql(RIGHTS, ("m",))
    assert rights == [("prom_data", "prom_reader", "SELECT"), ("prom_data", "prom_writer", "INSERT"),
                      ("prom_metric", "prom_reader", "SELECT"), ("prom_series", "prom_reader", "SELECT")]
    db.sql("ALTER DEFAULT PRIVILEGES FOR ROLE prom_admin IN SCHEMA prom_metric, prom_data REVOKE SELECT ON TABLES FROM"
           " prom_reader")
    db.sql("ALTER DEFAULT PRIVILEGES FOR ROLE prom_admin IN SCHEMA prom_data REVOKE INSERT ON TABLES FROM prom_writer")
    db.resolve([series("later", a="1")])
    db.views()
    assert db.sql(RIGHTS, ("later",)) == rights


def test_views_whose_owner_is_somebody_else(db):
    """As after a restore without owners: they are replaced by whoever runs the function, and stay whose they are."""
    db.resolve([series("m", a="1")])
    db.views()
    db.sql("ALTER VIEW prom_metric.m OWNER TO postgres")
    db.resolve([series("m", b="1")])
    db.views()
    assert db.columns("prom_metric.m")[-1] == "b_id"
    assert db.one("SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = 'prom_metric.m'::regclass") == "postgres"


def test_bytes_of_the_system_catalogs(db):
    """Three views with four labels; every row is written once, but those of pg_class, where rules are noted."""
    sizes = ("SELECT relname::text, pg_total_relation_size(oid)::float8 FROM pg_class"
             " WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind = 'r'")
    metrics = 500
    db.sql("VACUUM")
    db.resolve([series(f"m_{i}_total", instance=f"host-{i % 20}", job="j", mode="m", zone="z") for i in range(metrics)])
    before = dict(db.sql(sizes))
    db.views()
    grown = {name: (size - before[name]) / metrics for name, size in db.sql(sizes)}
    assert grown["pg_type"] < 2000  # made by one role and handed over to another: 2760
    assert 15_000 < sum(grown.values()) < 21_500  # the same: 22 800


def test_found_without_a_schema(db):
    """prom_metric is on the search_path of new sessions, after what was there."""
    db.resolve([series("cpu_usage", a="1"), series("pg_class", a="1")])
    db.views()
    conn = db.connect()
    cur = conn.cursor()
    cur.execute("SHOW search_path")
    assert cur.fetchone()[0] == '"$user", public, ps_tag, prom_api, prom_metric'
    cur.execute("SELECT count(*) FROM cpu_usage WHERE a_id = 1")
    assert cur.fetchone() == (0,)
    cur.execute("SELECT relname FROM pg_class LIMIT 1")  # a metric cannot stand in for the catalog
    conn.close()


def test_search_path_keeps_what_was_set(server):
    d = server.create(extension=None)
    d.sql(f"ALTER DATABASE {d.name} SET search_path = mine, public, prom_api")
    d.close()
    conn = server.connect(d.name)
    conn.cursor().execute("CREATE EXTENSION promscale")
    conn.close()
    conn = server.connect(d.name)
    cur = conn.cursor()
    cur.execute("SHOW search_path")
    assert cur.fetchone()[0] == "mine, public, prom_api, ps_tag, prom_metric"
    conn.close()
    server.drop(d.name)
