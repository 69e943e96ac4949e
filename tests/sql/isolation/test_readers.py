"""Readers beside ingest, fold, seal and retention: each sees one state, none waits, none is disturbed."""
import pytest

SUMS = ("SELECT (SELECT sum(value) FROM cpu_usage), (SELECT count(*) FROM cpu_total),"
        " (SELECT sum(u.value + t.value) FROM cpu_usage u"
        "  JOIN cpu_total t ON u.time = t.time AND eq(u.labels, t.labels)),"
        " (SELECT sum(n) FROM (SELECT count(*) AS n FROM cpu_usage GROUP BY node_id) x),"
        " (SELECT count(*) FROM prom_series.cpu_usage)")
LEVELS = ["REPEATABLE READ", "SERIALIZABLE", "REPEATABLE READ READ ONLY"]
CURSORS = {
    "plain": "SELECT series_id, time, value FROM cpu_usage",
    "newest_first": "SELECT series_id, time, value FROM cpu_usage ORDER BY time DESC, series_id",
    "by_series": "SELECT series_id, time, value FROM cpu_usage ORDER BY series_id, time",
    "join": "SELECT u.series_id, u.time, t.value FROM cpu_usage u JOIN cpu_total t"
            " ON u.time = t.time AND eq(u.labels, t.labels)",
    "lateral": "SELECT s.series_id, l.time, l.value FROM prom_series.cpu_usage s,"
               " LATERAL (SELECT time, value FROM cpu_usage u WHERE u.series_id = s.series_id OFFSET 0) l",
    "grouped": "SELECT series_id, date_trunc('hour', time), sum(value) FROM cpu_usage GROUP BY 1, 2",
}


def moves(db):
    """Everything that moves samples from place to place, one after another, with VACUUM behind."""
    yield "fold", db.fold()
    yield "vacuum", db.sql("VACUUM _prom_data.fresh")
    yield "seal", db.seal()
    for table in ("merged", "block", "_prom_catalog.series"):
        yield "vacuum", db.sql(f"VACUUM {table if '.' in table else '_prom_data.' + table}")
    yield "maintenance", db.sql("CALL prom_api.execute_maintenance(force => true)")


@pytest.mark.parametrize("kind", CURSORS)
@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ"])
def test_an_open_cursor_goes_on(db, kind, level):
    expected = sorted(db.sql(CURSORS[kind]))
    reader = db.session()
    reader.sql(f"BEGIN ISOLATION LEVEL {level}; DECLARE c NO SCROLL CURSOR FOR {CURSORS[kind]}")
    rows = reader.sql("FETCH 3 FROM c")
    for _ in moves(db):
        db.ingest(5)
        rows += reader.sql("FETCH 4 FROM c")
    rows += reader.sql("FETCH ALL FROM c")
    reader.sql("COMMIT")
    assert sorted(rows) == expected
    assert len(reader.sql(CURSORS[kind])) > len(expected) or kind == "grouped"


@pytest.mark.parametrize("level", LEVELS)
def test_one_state_across_metrics_and_joins(db, level):
    """A transaction sees what it saw first, whatever is stored, moved or deleted; the next one sees all of it."""
    reader = db.session()
    reader.sql(f"BEGIN ISOLATION LEVEL {level}")
    first = reader.sql(SUMS)[0]
    assert first == (720, 720, 1440, 720, 4)
    for _ in moves(db):
        db.ingest(10)
        assert reader.sql(SUMS)[0] == first
    gone = db.got["cpu_usage"].series[0]
    assert db.one("SELECT _prom_catalog.delete_series_rows(ARRAY[%s])", (gone,)) == 1
    assert reader.sql(SUMS)[0] == first
    reader.sql("COMMIT")
    minutes = db.next_minute
    assert reader.sql(SUMS)[0] == (3 * minutes, 4 * minutes, 2 * 3 * minutes, 3 * minutes, 3)


@pytest.mark.parametrize("move", ["ingest", "fold", "seal"])
def test_one_statement_sees_one_state(db, move):
    """What commits between two scans of one statement is seen by both or by neither."""
    keeper, reader = db.session(), db.session()
    keeper.sql("SELECT pg_advisory_lock(1)")
    reader.start("SELECT (SELECT sum(value) FROM cpu_usage), pg_advisory_lock(1)::text,"
                 " (SELECT sum(value) FROM cpu_total), (SELECT count(*) FROM cpu_usage u"
                 " JOIN cpu_total t ON u.time = t.time AND eq(u.labels, t.labels))")
    reader.blocked_by(keeper)
    db.ingest(10)
    if move != "ingest":
        assert db.fold() == (True, False)
    if move == "seal":
        assert db.seal() == (True, False)
    keeper.sql("SELECT pg_advisory_unlock(1)")
    usage, _, total, joined = reader.result()[0]
    assert (usage, total, joined) == (720, 720, 720)
    assert db.sql(SUMS)[0][:2] == (760, 760)


@pytest.mark.parametrize("step, table", [("merge_step()", "fresh"), ("seal_step(true)", "merged")])
@pytest.mark.parametrize("end", ["commit", "cancel"])
def test_a_step_in_the_middle_of_its_work(db, step, table, end):
    """While a step has read but not yet committed, readers see the old state and do not wait."""
    db.sql("SELECT _prom_catalog.ensure_partitions()")
    before = db.sql(SUMS)
    keeper, step_, reader = db.session(), db.session(), db.session()
    keeper.sql(f"BEGIN; SELECT id FROM _prom_data.{table} ORDER BY id DESC LIMIT 1 FOR UPDATE")
    step_.start(f"SELECT did FROM _prom_ext.{step}")
    step_.blocked_by(keeper)
    reader.sql("SET lock_timeout = '1ms'")
    assert reader.sql(SUMS) == before
    assert reader.sql("SELECT busy FROM _prom_ext.merge_step()") == [(True,)]  # another leaves it alone
    if end == "cancel":
        step_.cancel()
        with pytest.raises(Exception, match="cancel"):
            step_.result()
    keeper.sql("ROLLBACK")
    if end == "commit":
        assert step_.result() == [(True,)]
    assert reader.sql(SUMS) == before == db.sql(SUMS)


def age(db, days=120):
    """Samples of a day long past, sealed in a partition of its own."""
    db.sql(f"SELECT set_default_retention_period(interval '{2 * days} days')")
    t = db.t0 // 86_400_000 * 86_400_000 - days * 86_400_000
    for name, got in db.got.items():
        db.block("fresh", db.metric[name], [(db.metric[name], s, t + 60_000 * i, 1.0)
                                            for s in got.series for i in range(10)])
    db.sql("CALL prom_api.execute_maintenance(force => true)")
    db.sql("SELECT set_default_retention_period(interval '90 days'), _prom_catalog.set_setting('retention_grace', '0')")
    return db.one(f"SELECT date_trunc('day', now() - interval '{days} days', 'UTC')::text")


def partitions(db):
    return db.one("SELECT count(*) FROM _prom_catalog.partitions()")


def test_retention_waits_for_who_reads_the_day(db):
    age(db)
    before, n = db.sql(SUMS), partitions(db)
    reader = db.session()
    reader.sql("BEGIN; DECLARE c CURSOR FOR SELECT value FROM cpu_usage ORDER BY series_id, time")
    rows = reader.sql("FETCH 1 FROM c")
    dropped, waiting = db.sql("SELECT partitions, waiting FROM _prom_catalog.apply_retention()")[0]
    assert (dropped, waiting > 0, partitions(db)) == (0, True, n)
    rows += reader.sql("FETCH ALL FROM c")
    reader.sql("COMMIT")
    assert len(rows) == before[0][0] == 760
    assert db.sql("SELECT partitions, waiting FROM _prom_catalog.apply_retention()")[0][1] == 0
    assert db.sql(SUMS)[0][:2] == (720, 720)


def test_retention_drops_days_under_who_has_not_read_them_yet(db):
    """The one exception to snapshots, documented in docs/maintenance.md: a dropped day is empty at once."""
    age(db)
    reader = db.session()
    reader.sql("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class")
    assert db.sql("SELECT partitions > 0, waiting FROM _prom_catalog.apply_retention()") == [(True, 0)]
    assert reader.sql(SUMS)[0][:3] == (720, 720, 1440)
    db.ingest(10)  # everything else is as ever
    assert reader.sql(SUMS)[0][:3] == (720, 720, 1440)
    reader.sql("COMMIT")


def test_retention_by_rows_is_not_seen_by_older_snapshots(db):
    """What somebody keeps of a day is moved before the day goes, and moved rows stay where they were for older snapshots."""
    age(db)
    db.sql("UPDATE _prom_catalog.metric SET retention_period = '1000 days' WHERE metric_name = 'cpu_total'")
    reader = db.session()
    reader.sql("BEGIN ISOLATION LEVEL REPEATABLE READ")
    before = reader.sql(SUMS)
    apply = "SELECT partitions, leaving, waiting FROM _prom_catalog.apply_retention()"
    later = "UPDATE _prom_catalog.leaving_day SET moved_at = moved_at - interval '61 min'"
    assert db.sql(apply) == [(0, 1, 0)]
    db.sql("VACUUM _prom_data.block")
    assert reader.sql(SUMS) == before
    db.sql(later)
    assert db.sql(apply) == [(0, 1, 0)] and reader.sql(SUMS) == before
    reader.sql("COMMIT")
    assert reader.sql(SUMS) == before  # the day is not gone yet
    assert db.sql(apply) == [(1, 0, 0)]
    assert reader.sql(SUMS)[0][:2] == (720, 760)
