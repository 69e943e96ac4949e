"""Steps that are killed, canceled, or run beside each other. The window between a step's first read
and its commit is held open by a lock on a row that the step has to delete."""

import os
import signal
import threading

import psycopg2
import pytest

from store import HOUR, PATIENCE_S, bits, hist, key_of, wait_until


class Call:
    """A statement running in a session of its own."""

    def __init__(self, server, database, statement):
        self.conn = server.connect(database)
        self.pid = self.conn.get_backend_pid()
        self.error = self.result = None
        self.thread = threading.Thread(target=self.run, args=(statement,))
        self.thread.start()

    def run(self, statement):
        try:
            with self.conn.cursor() as cur:
                cur.execute(statement)
                self.result = cur.fetchone() if cur.description else None
        except psycopg2.Error as e:
            self.error = e

    def join(self):
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive()
        self.conn.close()
        return self


def wait_for_lock(store, pid):
    wait_until("the step does not wait for the row", lambda: store.sql(
        "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'", (pid,)))


class Held:
    """A session that holds a lock on one row of a table."""

    def __init__(self, server, store, table, where="true"):
        self.conn = server.connect(store.database)
        self.cur = self.conn.cursor()
        self.cur.execute(f"BEGIN; SELECT id FROM _prom_data.{table} WHERE {where} ORDER BY id DESC LIMIT 1 FOR UPDATE")
        self.id = self.cur.fetchone()[0]

    def wait_until_dead(self):
        """After the kill of another backend the server ends all sessions before it recovers."""
        def dead():
            try:
                self.cur.execute("SELECT 1")
                return False
            except psycopg2.Error:
                return True

        wait_until("the server did not notice the kill", dead)
        self.conn.close()

    def end(self, statement="COMMIT"):
        self.cur.execute(statement)
        self.conn.close()


# metrics whose folds take along what 15 others have left (maint_cells.c)
FIRST, SECOND, PACKED = 6, 13, 20


def fill(store, merged=False):
    """Fresh rows of several metrics, the first and the packed one with histograms beside the floats; with merged: after 15
    folds, so that the next takes rows along."""
    t = store.now_ms() // HOUR * HOUR - 30 * 60_000
    samples = []
    for i in range(16 if merged else 1):
        batch = [(0, m, s, t + i * 1000, bits(float(i))) for m in (FIRST, SECOND, PACKED)
                 for s in (m * 10, m * 10 + 1)]
        batch += [(0, m, m * 10 + k, t + i * 1000, hist(i + 1)) for m in (FIRST, PACKED) for k in (0, 1)]
        store.flush(batch, packed=(PACKED,))
        samples += batch
        if merged and i < 15:
            store.merge()
    return {key_of(*sample): sample[-1] for sample in samples}


CASES = [("SELECT * FROM _prom_ext.merge_step()", "fresh", False),
         ("SELECT * FROM _prom_ext.merge_step()", "merged", True),
         ("SELECT * FROM _prom_ext.seal_step(true)", "merged", True)]


@pytest.mark.parametrize("statement,table,merged", CASES)
def test_cancel_leaves_everything(server, store, statement, table, merged):
    truth = fill(store, merged)
    store.sql("SELECT _prom_catalog.ensure_partitions()")
    before = sorted(store.rows())
    held = Held(server, store, table)
    call = Call(server, store.database, statement)
    wait_for_lock(store, call.pid)
    store.sql("SELECT pg_cancel_backend(%s)", (call.pid,))
    assert isinstance(call.join().error, psycopg2.errors.QueryCanceled)
    held.end()
    assert sorted(store.rows()) == before
    assert store.sql("SELECT * FROM _prom_catalog.maintenance_error") == []
    store.force()
    assert store.visible() == truth


@pytest.mark.parametrize("statement,table,merged", CASES)
def test_kill_minus_nine(make_server, statement, table, merged):
    from store import Store
    server = make_server("")
    store = Store(server, server.create())
    truth = fill(store, merged)
    store.sql("SELECT _prom_catalog.ensure_partitions()")
    held = Held(server, store, table)
    call = Call(server, store.database, statement)
    wait_for_lock(store, call.pid)
    os.kill(call.pid, signal.SIGKILL)
    call.join()
    held.wait_until_dead()
    store.conn.close()

    def up():
        try:
            store.conn = server.connect(store.database)
            return True
        except psycopg2.OperationalError:  # the server recovers
            return False

    wait_until("the server does not come back", up)
    assert store.visible() == truth
    store.force()
    assert store.visible() == truth
    assert store.count("fresh") == 0 and store.count("merged") == 0
    store.close()


@pytest.mark.parametrize("statement,table,merged", CASES)
def test_an_erased_row_does_not_come_back(server, store, statement, table, merged):
    """Another session deletes a block between the step's read and its delete, and commits."""
    fill(store, merged)
    store.sql("SELECT _prom_catalog.ensure_partitions()")
    held = Held(server, store, table, f"metric_id = {SECOND}")
    call = Call(server, store.database, statement)
    wait_for_lock(store, call.pid)
    gone = {key_of(*r[2:]) for r in store.rows() if r[1] == held.id}
    assert gone
    held.end(f"DELETE FROM _prom_data.{table} WHERE id = {held.id}; COMMIT")
    call.join()
    # either it failed because its input changed, or it had not read the row; never half of it
    assert call.error is None or isinstance(call.error, psycopg2.errors.SerializationFailure)
    if table == "merged":
        assert call.error is not None
    left = set(store.visible())
    assert not left & gone
    store.force()
    assert set(store.visible()) == left


def test_second_step_says_busy(server, store):
    truth = fill(store)
    held = Held(server, store, "fresh")
    call = Call(server, store.database, "SELECT * FROM _prom_ext.merge_step()")
    wait_for_lock(store, call.pid)
    assert store.merge()["busy"] is True
    assert store.seal()["busy"] is True
    assert store.sql("SELECT outcome FROM _prom_catalog.run_step('fold', true)") == [("busy",)]
    held.end()
    assert call.join().error is None
    assert store.visible() == truth


def test_many_at_once(server, store):
    """Writers, folds and forced maintenance side by side: every sample once, first write wins."""
    now = store.now_ms() // 1000 * 1000
    stop = threading.Event()
    errors = []
    truth = {}

    def write(worker):
        conn = server.connect(store.database)
        try:
            for i in range(60):
                batch = [(0, worker, worker * 100 + s, now - i * 60_000, bits(float(i))) for s in range(5)]
                store.flush(batch, packed=(worker,) if i % 2 else (), conn=conn)
                # the same again with another value, later: must lose
                store.flush([(*k, bits(-1.0)) for *k, _ in batch], conn=conn)
                truth.update({tuple(k): b for *k, b in batch})
        except Exception as e:  # noqa: BLE001 - shown below
            errors.append(e)
        conn.close()

    def maintain(statement):
        conn = server.connect(store.database)
        cur = conn.cursor()
        while not stop.is_set():
            try:
                cur.execute(statement)
            except psycopg2.Error as e:
                errors.append(e)
        conn.close()

    writers = [threading.Thread(target=write, args=(w,)) for w in (1, 2, 3)]
    carers = [threading.Thread(target=maintain, args=(s,)) for s in (
        "SELECT _prom_ext.merge_step(2000)", "SELECT _prom_ext.merge_step()", "SELECT _prom_ext.seal_step(true)",
        "CALL prom_api.execute_maintenance(force => true)")]
    for t in writers + carers:
        t.start()
    for t in writers:
        t.join()
    stop.set()
    for t in carers:
        t.join()
    assert errors == []
    store.force()
    assert store.visible() == truth
    assert store.count("fresh") == 0 and store.count("merged") == 0
    assert store.sql("SELECT * FROM _prom_catalog.maintenance_error") == []


def test_handing_out_vacuums_waits_for_no_step(server, store):
    """A step that runs holds the rows of its tables in the queue; what it deletes is vacuumed after the next round."""
    store.flush([(0, 1, 1, store.now_ms(), bits(1.0))])
    store.sql("INSERT INTO _prom_catalog.vacuum_queue VALUES ('merged', false), ('fresh', false), ('block_far', true)")
    folding = server.connect(store.database)
    with folding.cursor() as cur:
        cur.execute("BEGIN; SELECT did FROM _prom_ext.merge_step()")
        assert cur.fetchone()[0]
    other = server.connect(store.database)
    with other.cursor() as cur:
        cur.execute("SET lock_timeout = '2s'; SELECT _prom_catalog.take_vacuums()")
        assert [r[0] for r in cur.fetchall()] == ["VACUUM (FREEZE, TRUNCATE off) _prom_data.block_far"]
        folding.cursor().execute("COMMIT")
        cur.execute("SELECT _prom_catalog.take_vacuums()")
        assert [r[0] for r in cur.fetchall()] == ["VACUUM (TRUNCATE off) _prom_data.fresh",
                                                  "VACUUM (TRUNCATE off) _prom_data.merged"]
    other.close()
    folding.close()


def test_what_is_put_on_the_list_while_it_is_being_read(server, store):
    """By the step of another session, between two statements of who takes it: it is for the next one."""
    store.sql("DELETE FROM _prom_catalog.vacuum_queue")
    store.sql("INSERT INTO _prom_catalog.vacuum_taken VALUES ('gone', false, false, now())")
    holder = server.connect(store.database)
    with holder.cursor() as cur:
        cur.execute("BEGIN; SELECT 1 FROM _prom_catalog.vacuum_taken FOR UPDATE")
        call = Call(server, store.database, "SELECT _prom_catalog.take_vacuums()")
        wait_for_lock(store, call.pid)
        store.sql("INSERT INTO _prom_catalog.vacuum_queue VALUES ('merged', false, false)")
        cur.execute("COMMIT")
    holder.close()
    call.join()
    assert call.error is None and call.result is None
    assert store.sql("SELECT _prom_catalog.take_vacuums()") == [("VACUUM (TRUNCATE off) _prom_data.merged",)]
