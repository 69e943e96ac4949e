"""An update of the extension that changes its functions and the views of all metrics (upgrade.py): no lock a metric, no
view missing at any moment, nothing that was built on them lost.
"""
import pytest

from database import series
from upgrade import NEXT, next_version

MADE = """SELECT n.nspname || '.' || c.relname, r.xmin::text FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname IN ('prom_metric', 'prom_series', 'prom_data', 'prom_histogram')"""
TRIGGERS = "SELECT tgrelid::regclass::text, tgname, oid FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1, 2"
METRICS = 40


@pytest.fixture(name="old")
def old_database(db):
    db.resolve([series(f"m{i}", a="1", host=f"h{i}") for i in range(METRICS)])
    db.views()
    db.sql("CREATE VIEW public.built AS SELECT series_id, host FROM prom_series.m7")
    with next_version() as functions:
        assert functions > 200
        yield db


def upgrade(db):
    db.sql(f"ALTER EXTENSION promscale UPDATE TO '{NEXT}'")


def test_takes_no_lock_on_views(old):
    old.sql("BEGIN")
    upgrade(old)
    assert old.column("SELECT c.oid::regclass::text FROM pg_locks l JOIN pg_class c ON c.oid = l.relation"
                      " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE l.pid = pg_backend_pid() AND"
                      " n.nspname IN ('prom_metric', 'prom_series', 'prom_data', 'prom_histogram')") == []
    old.sql("COMMIT")
    assert old.columns("prom_series.m7") == ["series_id", "labels", "a", "host"]
    assert old.sql("SELECT count(*), min(host) FROM prom_series.m7") == [(1, "h7")]


def test_all_views_are_made_anew(old):
    before, triggers = dict(old.sql(MADE)), old.sql(TRIGGERS)
    upgrade(old)
    assert dict(old.sql(MADE)) == before
    old.views()
    after = dict(old.sql(MADE))
    assert after.keys() == before.keys() and len(after) == 3 * METRICS
    assert [v for v in after if after[v] == before[v]] == []
    assert old.sql(TRIGGERS) == triggers
    for i in range(METRICS):
        assert old.columns(f"prom_series.m{i}") == ["series_id", "labels", "a", "host", "in_next_version"]
    assert old.sql("SELECT host FROM public.built") == [("h7",)]
    old.sql("INSERT INTO prom_data.m7 (time, value, labels) VALUES (now(), 5, '{\"a\": \"1\", \"host\": \"h7\"}')")
    assert old.sql("SELECT value, prom_api.val(host_id) FROM prom_metric.m7") == [(5.0, "h7")]


def test_missing_views_come_first(old):
    upgrade(old)
    old.resolve([series("born_later", a="1"), series("m3", a="1", more="x")])
    while not old.one("SELECT to_regclass('prom_data.born_later') IS NOT NULL"):
        old.one("SELECT _prom_catalog.make_metric_views(1)")
    assert "in_next_version" not in {c for i in range(METRICS) for c in old.columns(f"prom_series.m{i}")}
    assert old.columns("prom_metric.born_later") == ["time", "value", "series_id", "labels", "a_id"]
    old.views()
    assert old.columns("prom_metric.m3")[-1] == "more_id"


def test_a_metric_whose_histograms_are_found_meanwhile(old):
    before = dict(old.sql(MADE))
    upgrade(old)
    old.sql("SELECT _prom_catalog.mark_histograms(ARRAY(SELECT id FROM _prom_catalog.metric WHERE metric_name = 'm3'))")
    old.views()
    after = dict(old.sql(MADE))
    assert after.keys() - before.keys() == {"prom_histogram.m3"} and after["prom_data.m3"] != before["prom_data.m3"]


def test_one_that_is_being_read_comes_later(old):
    upgrade(old)
    reader = old.connect()
    cur = reader.cursor()
    cur.execute("BEGIN; SELECT * FROM prom_series.m5")
    while old.one("SELECT _prom_catalog.make_metric_views(1000)") > 1:
        pass
    assert "in_next_version" not in old.columns("prom_series.m5")
    cur.execute("SELECT count(*) FROM prom_metric.m5")
    cur.execute("COMMIT")
    reader.close()
    old.views()
    assert "in_next_version" in old.columns("prom_series.m5")
