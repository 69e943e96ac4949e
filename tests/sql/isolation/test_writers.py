"""Writers beside each other and beside maintenance: nothing lost, nothing twice, nothing of what was rolled back."""
import psycopg2
import pytest
from database import array, batch_of, insert_of, series

RESOLVE = ("SELECT series_ids FROM _prom_catalog.resolve_series(0, %s::text[], %s::text[], %s::text[], %s::int4[],"
           " %s::int4[], %s::int4[])")


def request(*sets):
    return RESOLVE, [array(a) for a in batch_of(list(sets))]


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
@pytest.mark.parametrize("new", ["metric", "label", "series"])
def test_two_sessions_make_the_same_series(db, new, end):
    """The second waits for the first; there is one id if it stays, and one of its own if it does not."""
    one = {"metric": series("brand_new", a="b"), "label": series("cpu_usage", rack="r1", node="n0"),
           "series": series("cpu_usage", namespace="ns1", node="n0")}[new]
    a, b = db.session(), db.session()
    a.sql("BEGIN")
    (first,), = a.one(*request(one)),
    b.start(*request(one))
    b.blocked_by(a)
    a.sql(end)
    (second,), = b.result()[0]
    assert (second == first) == (end == "COMMIT")
    assert db.one("SELECT count(*) FROM _prom_catalog.series WHERE id = ANY (ARRAY[%s, %s])", (first, second)) == 1
    assert db.resolve([one]).series == [second]
    assert db.one("SELECT jsonb(labels(%s))", (second,)) == one


def test_two_sessions_make_series_of_each_other_in_opposite_order(db):
    """No deadlock: whatever the order in a batch, rows are inserted in one order."""
    names = [series("cpu_usage", extra=f"e{i}") for i in range(30)]
    a, b = db.session(), db.session()
    a.start(*request(*names))
    b.start(*request(*reversed(names)))
    assert a.result()[0][0] == list(reversed(b.result()[0][0]))


def insertion(db, minute, value, way="connector"):
    """Stores one sample of each series of cpu_usage."""
    if way == "sql":
        return ("INSERT INTO prom_data.cpu_usage (time, value, labels)"
                f" SELECT to_timestamp({(db.t0 + minute * 60_000) // 1000}), {value}, jsonb(labels)"
                " FROM prom_series.cpu_usage;")
    metric = db.metric["cpu_usage"]
    return insert_of("fresh", metric, [(metric, s, db.t0 + minute * 60_000, value) for s in db.got["cpu_usage"].series])


@pytest.mark.parametrize("way", ["connector", "sql"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_rollback_to_a_savepoint_beside_a_fold(db, when, way):
    """Rows of a transaction that goes on are not folded, rows of a rolled back part of it never."""
    writer = db.session()
    writer.sql("BEGIN;" + insertion(db, 1000, 1.0, way) + "SAVEPOINT s;" + insertion(db, 1001, 2.0, way))
    if when == "before":
        assert db.fold() == (True, False)
    writer.sql("ROLLBACK TO s;" + insertion(db, 1002, 4.0, way))
    if when == "after":
        assert db.fold() == (True, False)
    assert db.one("SELECT count(*) FROM _prom_data.fresh") == 0
    assert db.one("SELECT sum(value) FROM cpu_usage") == 720
    writer.sql("COMMIT")
    assert db.one("SELECT sum(value) FROM cpu_usage") == 720 + 4 + 16
    db.fold()
    db.seal()
    assert db.one("SELECT sum(value) FROM cpu_usage") == 720 + 4 + 16
    assert db.one("SELECT count(*) FROM cpu_usage WHERE value = 2") == 0


@pytest.mark.parametrize("way", ["connector", "sql"])
def test_the_first_of_two_open_writers_may_commit_last(db, way):
    """The lower block id wins even when it becomes visible after the other was folded... unless the other is
    already on a higher level: then what readers have seen stays."""
    first, second = db.session(), db.session()
    first.sql("BEGIN;" + insertion(db, 2000, 1.0, way))
    second.sql("BEGIN;" + insertion(db, 2000, 5.0, way) + "COMMIT")
    where = f"WHERE time = to_timestamp({(db.t0 + 2000 * 60_000) // 1000})"
    assert db.one(f"SELECT sum(value) FROM cpu_usage {where}") == 20
    db.fold()
    first.sql("COMMIT")
    assert db.sql(f"SELECT sum(value), count(*) FROM cpu_usage {where}") == [(20, 4)]
    db.fold()
    assert db.sql(f"SELECT sum(value), count(*) FROM cpu_usage {where}") == [(20, 4)]
    db.seal()
    assert db.sql(f"SELECT sum(value), count(*) FROM cpu_usage {where}") == [(20, 4)]


@pytest.mark.parametrize("way", ["connector", "sql"])
def test_a_flush_is_guarded_against_deletions(db, way):
    """Deletion waits for writers under way; flushes with older ids are told to resolve anew."""
    generation = db.got["cpu_usage"].generation
    flush, deleter = db.session(), db.session()
    guard = f"SELECT _prom_catalog.guard({generation});" if way == "connector" else ""
    flush.sql("BEGIN;" + guard + insertion(db, 3000, 1.0, way))
    gone = db.got["cpu_usage"].series[1]
    deleter.start("SELECT _prom_catalog.delete_series_rows(%s)", ([gone],))
    flush.until(lambda: db.one("SELECT wait_event_type IS NOT NULL AND state = 'active' FROM pg_stat_activity"
                               " WHERE pid = %s", (deleter.pid,)), "the deletion waits")
    assert db.one("SELECT count(*) FROM prom_series.cpu_usage") == 4
    flush.sql("COMMIT")
    assert deleter.result() == [(1,)]
    assert db.one("SELECT count(DISTINCT series_id) FROM cpu_usage") == 3
    with pytest.raises(psycopg2.Error) as e:
        flush.sql(f"BEGIN; SELECT _prom_catalog.guard({generation})")
    assert e.value.pgcode == "PS001"


@pytest.mark.parametrize("way", ["connector", "sql"])
def test_drop_metric_beside_writers(db, way):
    """It waits for who is storing samples and lets others store meanwhile; who comes after it with older ids is told,
    and the metric is born again with nothing but the new samples."""
    generation = db.got["cpu_usage"].generation
    first, second, dropper, reader = (db.session() for _ in range(4))
    whole = f"SELECT sum(value) FROM _prom_data.samples WHERE metric_id = {db.metric['cpu_usage']}"
    reader.sql("BEGIN ISOLATION LEVEL REPEATABLE READ")
    assert reader.one(whole) == 720
    guard = f"SELECT _prom_catalog.guard({generation});" if way == "connector" else ""
    first.sql("BEGIN;" + guard + insertion(db, 4000, 1.0, way))
    dropper.start("SELECT drop_metric('cpu_usage')")
    locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = "
    dropper.until(lambda: db.one(locks + str(dropper.pid)), "the drop is at work")
    db.ingest(1, names=("cpu_total",))
    second.sql(insertion(db, 4001, 1.0, way))  # somebody else's flush of the same metric, while the drop waits
    first.sql("COMMIT")
    dropper.result()
    with pytest.raises(psycopg2.Error) as e:
        second.sql(f"BEGIN; SELECT _prom_catalog.guard({generation})")
    assert e.value.pgcode == "PS001"
    second.sql("ROLLBACK")
    assert reader.one(whole) == 720
    reader.sql("COMMIT")
    with pytest.raises(psycopg2.errors.UndefinedTable):
        reader.sql("SELECT * FROM cpu_usage")
    got = db.resolve([series("cpu_usage", namespace="ns0", node="n0")])
    assert got.metrics[0] != db.metric["cpu_usage"] and got.series[0] not in db.got["cpu_usage"].series
    db.block("fresh", got.metrics[0], [(got.metrics[0], got.series[0], db.t0, 7.0)])
    db.views()
    for _ in range(2):
        assert db.sql("SELECT value, val(node_id) FROM cpu_usage") == [(7.0, "n0")]
        assert db.one("SELECT sum(value) FROM cpu_total") == 724
        db.sql("CALL execute_maintenance(force => true)")
