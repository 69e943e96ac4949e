"""What runs beside maintenance, stopped in its middle: other maintenance, erasing, writers, readers; and maintenance
that is canceled or runs into a time-out, there."""
import psycopg2
import pytest
from examine import examine, examine_all, seen
from test_kills import FOLD, POINTS, RETENTION, SEAL, arm, set_up
from world import WIDE, eventually

CANCELED = [p for p in POINTS if POINTS[p][0] != RETENTION]
HALVES = ["fold, rows deleted, nothing inserted", "fold, about to commit", "seal, a window inserted",
          "seal, between two windows"]


def erase(world, where='{parity="1"}', start="-infinity", stop="infinity"):
    return f"SELECT prom_api.delete_series('{WIDE}{where}', '{start}', '{stop}')"


def forget_wide(world, parity=1):
    gone = set(world.series[WIDE][parity::2])
    world.ledger = {k: v for k, v in world.ledger.items() if k[0] not in gone}


def held_at(world, point):
    """(the session that was stopped there, the one that keeps it there)"""
    statement, where = POINTS[point]
    set_up(world, statement)
    arm(world, where)
    holder = world.close_gate()
    return world.call_to_the_point(statement), holder


def let_go(world, call, holder):
    holder.close()
    call.result()
    world.disarm()
    return call


@pytest.mark.parametrize("point", CANCELED)
def test_canceled_at_a_point(world, point):
    call, holder = held_at(world, point)
    world.sql("SELECT pg_cancel_backend(%s)", (call.pid,))
    call.result()
    let_go(world, call, holder)
    assert isinstance(call.error, psycopg2.errors.QueryCanceled)
    examine(world.sql, world.ledger)
    examine_all(world)


@pytest.mark.parametrize("point", [p for p in HALVES if "commit" not in p])
def test_timed_out_at_a_point(world, point):
    """By statement_timeout, as long as it takes to get there; whatever it interrupts before that is undone, too. (What runs
    at the commit, no time-out of PostgreSQL's ends.)"""
    statement, where = POINTS[point]
    set_up(world, statement)
    arm(world, where)
    holder = world.close_gate()
    was_there = False
    for seconds in (1, 4, 16, 64):
        call = world.call(f"SET statement_timeout = '{seconds}s'", statement)
        eventually("it ends", lambda: world.stopped(call.pid) or not call.is_alive(), seconds + 60)
        was_there = call.is_alive()
        assert isinstance(call.result().error, psycopg2.errors.QueryCanceled)
        assert "statement timeout" in str(call.error)
        if was_there:
            break
    assert was_there
    holder.close()
    world.disarm()
    examine(world.sql, world.ledger)
    examine_all(world)


@pytest.mark.parametrize("setting,code", [("statement_timeout", "57014"), ("lock_timeout", "55P03")])
@pytest.mark.parametrize("statement", [FOLD, SEAL])
def test_time_outs(world, setting, code, statement):
    """Of all lengths, while somebody holds a row that the step must delete. One that ends for want of a lock is a failure
    of the step, remembered and tried again later."""
    set_up(world, statement)
    blocker = world.connect()
    table = "fresh" if statement == FOLD else "merged"
    blocker.cursor().execute(f"BEGIN; SELECT FROM _prom_data.{table} ORDER BY id DESC LIMIT 1 FOR UPDATE")
    codes = set()
    for ms in (1, 3, 10, 30, 100):
        call = world.call(f"SET {setting} = {ms}", statement).result()
        if call.error is not None:
            codes.add(call.error.pgcode)
        else:
            assert call.rows[0][0] == "failed" and code in call.rows[0][1]
    blocker.close()
    assert codes <= {code} and (codes or setting == "lock_timeout")
    assert (world.one("SELECT coalesce(sum(failures), 0) FROM _prom_catalog.job") > 0) == (setting == "lock_timeout")
    assert seen(world.sql) == world.ledger
    examine_all(world)


@pytest.mark.parametrize("point", HALVES)
def test_two_at_one_metric(world, point):
    """The second session leaves at once, or with force waits; neither does anything twice."""
    call, holder = held_at(world, point)
    world.sql("CALL prom_api.execute_maintenance()")
    outcomes = world.column("SELECT outcome FROM unnest(ARRAY['fold', 'seal', 'partitions', 'retention']) s,"
                            " LATERAL _prom_catalog.run_step(s, true)")
    assert outcomes == ["busy"] * 4
    forced = world.call("CALL prom_api.execute_maintenance(force => true)")
    flushed = [world.now + i for i in (1000, 2000)]
    world.flush(flushed)  # writers do not wait for any of them
    assert seen(world.sql) == world.ledger
    assert forced.is_alive()
    assert let_go(world, call, holder).error is None
    assert forced.result().error is None
    examine_all(world)


@pytest.mark.parametrize("point", HALVES)
def test_erase_beside_merge(world, point):
    """Erasing waits for the step, and then erases what the step has written, too."""
    call, holder = held_at(world, point)
    eraser = world.call(erase(world))
    eventually("the eraser waits", lambda: world.one(
        "SELECT count(*) FROM pg_locks WHERE pid = %s AND NOT granted", (eraser.pid,)))
    assert seen(world.sql) == world.ledger
    assert let_go(world, call, holder).error is None
    eraser.result()
    if eraser.error is None:
        forget_wide(world)
        assert eraser.rows[0][0] > 0
    else:  # it waits for others only so long
        assert eraser.error.pgcode == "55P03"
    examine_all(world)


@pytest.mark.parametrize("table,event,each", [
    ("_prom_data.fresh", "DELETE", "STATEMENT"), ("_prom_data.merged", "INSERT", "STATEMENT"),
    ("_prom_data.block", "DELETE", "STATEMENT"), ("_prom_data.presence", "DELETE", "STATEMENT"),
    ("_prom_catalog.series", "DELETE", "STATEMENT"), ("_prom_data.merged", "DELETE", "COMMIT")])
@pytest.mark.parametrize("end", ["commit", "cancel"])
def test_merge_beside_erase(world, table, event, each, end):
    """Maintenance leaves while somebody erases; a canceled eraser has erased nothing, one that commits all of it."""
    world.fill()
    world.arm(table, event, 1, each)
    holder = world.close_gate()
    eraser = world.call_to_the_point(erase(world))
    assert world.sql("SELECT outcome FROM _prom_catalog.run_step('fold', true)") == [("busy",)]
    assert seen(world.sql) == world.ledger
    if end == "cancel":
        world.sql("SELECT pg_cancel_backend(%s)", (eraser.pid,))
        assert eraser.result().error is not None
    assert (let_go(world, eraser, holder).error is None) == (end == "commit")
    if end == "commit":
        forget_wide(world)
    examine_all(world)


def test_a_long_reader_sees_its_snapshot(world):
    """A cursor and a REPEATABLE READ transaction that stay open over everything that moves or erases samples. Who
    began later sees the later state; maintenance waits for none of them."""
    world.fill()
    reader = world.connect()
    cur = reader.cursor()
    cur.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; DECLARE c CURSOR FOR SELECT series_id,"
                " (extract(epoch FROM time) * 1000)::int8, value FROM _prom_data.samples")
    cur.execute("FETCH 10 FROM c")
    rows = cur.fetchall()
    before = dict(world.ledger)

    def ask(text):
        cur.execute(text)
        return cur.fetchall()

    for i in range(5):
        world.flush([world.now + i * 1000])
        world.force()
        cur.execute("FETCH 50 FROM c")
        rows += cur.fetchall()
        assert seen(ask) == before
        assert seen(world.sql) == world.ledger
    world.sql(erase(world))
    world.sql(f"SELECT prom_api.drop_metric('small_a')")
    forget_wide(world)
    gone = set(world.series["small_a"])
    world.ledger = {k: v for k, v in world.ledger.items() if k[0] not in gone}
    world.force()
    cur.execute("FETCH ALL FROM c")
    rows += cur.fetchall()
    assert {(s, t): v for s, t, v in rows} == before and len(rows) == len(before)
    assert seen(ask) == before
    cur.execute("COMMIT")
    reader.close()
    examine_all(world)
