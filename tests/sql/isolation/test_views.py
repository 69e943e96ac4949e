"""New label columns while views are in use."""
from database import series


def columns(db):
    return db.columns("prom_metric.cpu_usage")


def test_a_long_reader_is_not_disturbed_and_disturbs_nobody(db):
    """The column comes when the reader ends; meanwhile samples with the new label are stored and can be read."""
    reader, maker = db.session(), db.session()
    reader.sql("BEGIN; DECLARE c CURSOR FOR SELECT * FROM cpu_usage")
    rows = reader.sql("FETCH 10 FROM c")
    writer = db.session()
    writer.sql("SET lock_timeout = '1ms'")
    got = db.resolve([series("cpu_usage", rack="r1", node="n0")])
    db.block("fresh", db.metric["cpu_usage"], [(db.metric["cpu_usage"], got.series[0], db.t0, 7.0)])
    assert maker.one("SELECT _prom_catalog.make_metric_views(100)") == 1
    assert maker.one("SELECT views_error LIKE '%%lock timeout%%' FROM _prom_catalog.metric WHERE id = %s",
                     (db.metric["cpu_usage"],))
    assert "rack_id" not in columns(db)
    assert writer.sql("SELECT value, jsonb(labels)->>'rack' FROM cpu_usage"
                      " WHERE labels ? ('rack' == 'r1')") == [(7, "r1")]
    assert writer.one("SELECT count(*) FROM cpu_usage") == 721
    rows += reader.sql("FETCH ALL FROM c")
    assert len(rows) == 720 and {len(r) for r in rows} == {6}
    reader.sql("COMMIT")
    assert maker.one("SELECT _prom_catalog.make_metric_views(100)") == 0
    assert columns(db)[-1] == "rack_id" and columns(db)[:6] == [
        "time", "value", "series_id", "labels", "namespace_id", "node_id"]
    assert reader.sql("SELECT value, val(rack_id) FROM cpu_usage WHERE rack_id IS NOT NULL") == [(7, "r1")]


def test_who_comes_while_the_view_is_replaced(db):
    """A reader that comes while the replacement is not committed waits for it, then sees it; ingest does not wait."""
    maker, reader = db.session(), db.session()
    db.resolve([series("cpu_usage", rack="r1")])
    maker.sql("BEGIN; SELECT _prom_catalog.make_metric_views(100)")
    reader.start("SELECT count(*), count(rack_id) FROM cpu_usage")
    reader.blocked_by(maker)
    db.sql("SET lock_timeout = '50ms'")
    db.ingest(10)
    db.resolve([series("cpu_usage", node="n77")])
    maker.sql("COMMIT")
    assert reader.result() == [(760, 0)]


def test_prepared_statements_and_own_views_live_on(db):
    user = db.session()
    user.sql("PREPARE p AS SELECT count(*), max(node_id) FROM cpu_usage; CREATE VIEW mine AS SELECT * FROM cpu_usage")
    before = user.sql("EXECUTE p")
    for rack in ("r1", "r2"):
        db.resolve([series("cpu_usage", **{f"rack_{rack}": rack})])
        db.views()
        assert user.sql("EXECUTE p") == before
    assert len(columns(db)) == 8
    assert len(user.sql("SELECT * FROM mine LIMIT 1")[0]) == 6
    assert len(user.sql("SELECT * FROM cpu_usage LIMIT 1")[0]) == 8


def test_a_transaction_that_began_before_the_column(db):
    """Views are looked up as they are now; samples are those of the snapshot."""
    reader = db.session()
    reader.sql("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class")
    got = db.resolve([series("cpu_usage", rack="r1")])
    db.block("fresh", db.metric["cpu_usage"], [(db.metric["cpu_usage"], got.series[0], db.t0, 7.0)])
    db.views()
    assert reader.sql("SELECT count(*), count(rack_id), count(val(rack_id)) FROM cpu_usage") == [(720, 0, 0)]
    reader.sql("COMMIT")
    assert reader.sql("SELECT count(*), count(rack_id), count(val(rack_id)) FROM cpu_usage") == [(721, 1, 1)]
