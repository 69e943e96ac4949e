"""The views of a metric as people see them: columns, comments, absent labels, labels that come beside a reader."""
import threading
import time

import pytest

from database import series

RESERVED = ["time", "value", "series_id", "labels", "series"]


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


def columns(db, view):
    return db.sql("SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = %s::regclass"
                  " AND attnum > 0"
                  " AND NOT attisdropped ORDER BY attnum", (view,))


def test_three_views(db):
    db.make("cpu_usage", namespace="dev", node="pinky")
    assert columns(db, "prom_metric.cpu_usage") == [
        ("time", "timestamp with time zone"), ("value", "double precision"), ("series_id", "bigint"),
        ("labels", "integer[]"),
        ("namespace_id", "integer"), ("node_id", "integer")]
    assert columns(db, "prom_series.cpu_usage") == [
        ("series_id", "bigint"), ("labels", "integer[]"), ("namespace", "text"), ("node", "text")]
    assert columns(db, "prom_data.cpu_usage") == [
        ("time", "timestamp with time zone"), ("value", "double precision"), ("series_id", "bigint"),
        ("labels", "jsonb")]
    assert db.sql("SELECT n.nspname, pg_get_userbyid(relowner), reloptions FROM pg_class c JOIN pg_namespace n ON"
                  " n.oid = relnamespace"
                  " WHERE relname = 'cpu_usage' ORDER BY 1") == [
        (s, "prom_admin", ["security_invoker=true"]) for s in ("prom_data", "prom_metric", "prom_series")]
    for schema in ("prom_data", "prom_metric", "prom_series"):
        for role in ("prom_reader", "prom_writer", "prom_maintenance"):
            assert db.one("SELECT has_table_privilege(%s, %s, 'SELECT')", (role, f"{schema}.cpu_usage"))


def test_an_absent_label_is_null(db):
    """Whether there is a gap in the array or the array ends before: one group, never 0."""
    gap = db.make("m", a="1", b="2", c="3")[1]
    metric, _ = db.make("m", c="3")           # gaps at a and b
    short = db.resolve([series("m", a="1")]).series[0]  # ends before b
    late = db.make("m", a="1", zz="9")[1]
    everything = db.column("SELECT id FROM _prom_catalog.series")
    now = db.now_ms()
    db.block("fresh", metric, [(metric, s, now, 1.0) for s in everything])
    assert sorted(db.sql("SELECT val(b_id), count(*) FROM m GROUP BY b_id"), key=str) == [("2", 1), (None, 3)]
    assert sorted(db.sql("SELECT b, count(*) FROM prom_series.m GROUP BY b"), key=str) == [("2", 1), (None, 3)]
    assert db.sql("SELECT series_id FROM m WHERE zz_id IS NOT NULL") == [(late,)]
    assert db.one("SELECT count(*) FROM m WHERE a_id = 0 OR b_id = 0 OR c_id = 0 OR zz_id = 0") == 0
    assert {s for s, in db.sql("SELECT series_id FROM m WHERE c_id IS NULL AND zz_id IS NULL")} == {short}
    assert db.sql("SELECT a, b, c, zz FROM prom_series.m WHERE series_id = %s", (gap,)) == [("1", "2", "3", None)]


def comments(db, view):
    return (db.one("SELECT obj_description(%s::regclass, 'pg_class')", (view,)),
            dict(db.sql("SELECT attname, col_description(attrelid, attnum) FROM pg_attribute WHERE attrelid ="
                        " %s::regclass"
                        " AND attnum > 0 AND col_description(attrelid, attnum) IS NOT NULL", (view,))))


@pytest.mark.parametrize("metric", ["m", "it's \"odd\" $$; %s", "x" * 100, "x" * 5000])
def test_comments(db, metric):
    db.make(metric, a="1", **{"time": "2", "k" * 100: "3", "it's": "4"})
    view = quoted(db.names(metric))
    of = dict(db.sql("SELECT key, value_column_name FROM _prom_catalog.label_key"))
    ids = dict(db.sql("SELECT key, id_column_name FROM _prom_catalog.label_key"))
    keys = ["a", "time", "k" * 100, "it's"]
    assert comments(db, f"prom_series.{view}") == (f"series of metric {metric[:1000]}",
                                                   {of[k]: f"label {k}" for k in keys})
    assert comments(db, f"prom_metric.{view}") == (f"samples of metric {metric[:1000]}",
                                                   {ids[k]: f"id of label {k}" for k in keys})
    assert comments(db, f"prom_data.{view}")[0].endswith(metric[:1000])
    # a later label gets its own; what somebody has written himself stays
    db.sql(f"COMMENT ON VIEW prom_series.{view} IS 'mine'; COMMENT ON COLUMN prom_series.{view}.a IS 'mine, too'")
    db.make(metric, late="5")
    assert comments(db, f"prom_series.{view}") == ("mine", {**{of[k]: f"label {k}" for k in keys}, "a": "mine, too",
                                                            "late": "label late"})


def test_the_columns_that_are_reported_exist(db):
    """prom_info.label names the columns of reserved, equal and long keys as they really are."""
    keys = [*RESERVED, *(f"label_{k}" for k in RESERVED), "time_id", "label_time_id", "k" * 59, "k" * 60, "k" * 61,
            "k" * 62, "k" * 63,
            "k" * 64, "é" * 31 + "x", "é" * 31 + "y", "ctid", "Time", "TIME"]
    db.make("m", **{k: f"of {k}" for k in keys})
    shown = db.sql("SELECT key, value_column_name, id_column_name FROM prom_info.label WHERE key <> '__name__'")
    assert sorted(k for k, _, _ in shown) == sorted(keys)
    series_columns, metric_columns = db.columns("prom_series.m"), db.columns("prom_metric.m")
    assert len(series_columns) == len(set(series_columns)) == len(keys) + 2
    assert len(metric_columns) == len(set(metric_columns)) == len(keys) + 4
    for key, value_column, id_column in shown:
        assert value_column in series_columns[2:] and id_column in metric_columns[4:]
        assert db.one(f"SELECT {quoted(value_column)} FROM prom_series.m") == f"of {key}"


def test_what_users_have_built_lives_on(db):
    db.make("m", a="1")
    db.sql("CREATE VIEW public.all_of_it AS SELECT * FROM prom_metric.m; CREATE VIEW public.a_of_it AS SELECT a FROM"
           " prom_series.m;"
           "CREATE MATERIALIZED VIEW public.kept AS SELECT series_id, a FROM prom_series.m;"
           "CREATE FUNCTION public.f() RETURNS SETOF prom_series.m LANGUAGE sql AS 'SELECT * FROM prom_series.m'")
    assert len(db.sql("SELECT * FROM public.f()")) == 1
    db.make("m", b="2")
    db.sql("REFRESH MATERIALIZED VIEW public.kept")
    assert db.columns("public.all_of_it") == ["time", "value", "series_id", "labels", "a_id"]
    assert sorted(db.column("SELECT a FROM public.a_of_it"), key=str) == ["1", None]
    assert len(db.sql("SELECT * FROM public.kept")) == len(db.sql("SELECT * FROM public.f()")) == 2
    assert len(db.sql("SELECT * FROM public.f()")[0]) == 4


def test_a_new_label_while_somebody_reads(db):
    """The column waits for the reader. Other readers of the same view, ingest and other metrics wait for nobody."""
    db.make("busy", a="1")
    db.make("other", a="1")
    reader = db.connect()
    reader.autocommit = False
    cursor = reader.cursor()
    cursor.execute("DECLARE c CURSOR FOR SELECT * FROM prom_series.busy")
    cursor.execute("FETCH 1 FROM c")
    generation = db.resolve([series("busy", a="2", b="1"), series("other", b="1")]).generation
    stop, errors = threading.Event(), []

    def maker():
        conn = db.connect()
        try:
            while not stop.is_set():
                conn.cursor().execute("SELECT _prom_catalog.make_metric_views(100)")
        except Exception as e:
            errors.append(e)
        finally:
            conn.close()
    thread = threading.Thread(target=maker, daemon=True)
    thread.start()
    worst, until, n = {}, time.monotonic() + 3, 0
    while time.monotonic() < until:
        n += 1
        for what, action in (("read", lambda: db.sql("SELECT * FROM prom_series.busy")),
                             ("flush", lambda: db.sql("SELECT _prom_catalog.guard(%s)", (generation,))),
                             ("new series", lambda: db.resolve([series("busy", a=f"x{n}")])),
                             ("new label", lambda: n % 10 or db.resolve([series("busy", **{f"k{n}": "1"})]))):
            at = time.monotonic()
            action()
            worst[what] = max(worst.get(what, 0), time.monotonic() - at)
    assert all(t < 5 for t in worst.values()), worst  # who waited for the reader would do so for ever
    assert "b" in db.columns("prom_series.other") and "b" not in db.columns("prom_series.busy")
    cursor.execute("FETCH ALL FROM c")
    reader.commit()
    reader.close()
    until = time.monotonic() + 90
    while "b" not in db.columns("prom_series.busy") and time.monotonic() < until:
        time.sleep(0.1)
    stop.set()
    thread.join(90)
    assert not errors and "b" in db.columns("prom_series.busy")
    assert db.one("SELECT views_error FROM _prom_catalog.metric WHERE metric_name = 'busy'") is None
