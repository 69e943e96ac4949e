"""Several sessions at once: new series, deletion of series, maintenance; and statements that are cancelled."""
import threading
import time

import psycopg2
import pytest

T = "'2024-05-01'::timestamptz"
PATIENCE_S = 120


def in_threads(*functions):
    """Runs them at the same time; what they return, or the exception."""
    results = [None] * len(functions)

    def run(i):
        try:
            results[i] = functions[i]()
        except Exception as e:  # handed over
            results[i] = e

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(functions))]
    for t in threads:
        t.start()
    for t in threads:
        t.join(PATIENCE_S)
        assert not t.is_alive()
    return results


def wait_for(db, pid, event, column="wait_event_type"):
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if db.one(f"SELECT {column} FROM pg_stat_activity WHERE pid = %s", (pid,)) == event:
            return
        time.sleep(0.01)
    raise AssertionError("nobody waits")


def wait_for_lock(db, pid):
    wait_for(db, pid, "Lock")


def test_the_same_new_series_from_several_writers(db):
    db.metric("m")

    def writer(k):
        conn = db.connect()
        for i in range(10):
            for attempt in range(5):
                try:
                    db.put(f"SELECT {T} + g * interval '1 s' + {k} * interval '1 ms',"
                           f" {k}, jsonb_build_object('i', '{i}', 'g', (g % 20)::text)"
                           " FROM generate_series(1, 200) g", conn=conn)
                    break
                except (psycopg2.errors.DeadlockDetected, psycopg2.errors.SerializationFailure):
                    assert attempt < 4
        conn.close()

    assert in_threads(*[lambda k=k: writer(k) for k in range(4)]) == [None] * 4
    assert db.one("SELECT count(*) FROM prom_series.m") == 200
    assert db.count("m") == 4 * 10 * 200
    assert db.one("SELECT count(*) FROM (SELECT labels FROM prom_series.m GROUP BY labels) x") == 200


def test_two_open_transactions_with_one_new_series(db):
    """The second waits for the first, and finds its series; or makes its own if the first gives up."""
    db.metric("m")
    db.series("m", node="known")
    for end in ("COMMIT", "ROLLBACK"):
        first, second = db.connect(), db.connect()
        text = f"INSERT INTO prom_data.m (time, value, labels) VALUES ({T}, %s, '{{\"end\": \"{end}\"}}')"
        db.sql("BEGIN", conn=first)
        db.sql(text, (1,), conn=first)
        waiting = threading.Thread(target=db.sql, args=(text, (2,), second))
        waiting.start()
        wait_for_lock(db, second.info.backend_pid)
        db.sql(end, conn=first)
        waiting.join(PATIENCE_S)
        assert not waiting.is_alive()
        values = db.column("SELECT value FROM prom_data.m WHERE labels->>'end' = %s", (end,))
        assert values == [1 if end == "COMMIT" else 2]
        assert db.one("SELECT count(*) FROM prom_series.m WHERE labels @> %s::jsonb", ('{"end": "%s"}' % end,)) == 1
        first.close()
        second.close()


def test_deletion_waits_for_writers_and_writers_notice_it(db):
    """An open transaction keeps its series alive; whoever names a series that is gone gets an error."""
    db.metric("m")
    a, b = db.series("m", node="a"), db.series("m", node="b")
    writer, deleter = db.connect(), db.connect()
    by_id = "INSERT INTO prom_data.m (time, value, series_id) VALUES (%s, 1, %s)"
    db.sql("BEGIN", conn=writer)
    db.sql(by_id, ("2024-05-01", a), conn=writer)
    waiting = threading.Thread(target=db.sql, args=("SELECT _prom_catalog.delete_series_rows(%s)", ([a, b],), deleter))
    waiting.start()
    wait_for_lock(db, deleter.info.backend_pid)
    # what the transaction writes on before the deletion stays consistent
    db.sql(by_id, ("2024-05-02", b), conn=writer)
    db.put("VALUES ('2024-05-03', 1, '{\"node\": \"a\"}')", conn=writer)
    assert db.count("m", conn=writer) == 3
    db.sql("COMMIT", conn=writer)
    waiting.join(PATIENCE_S)
    assert not waiting.is_alive()
    assert db.count("m") == 0
    with pytest.raises(psycopg2.errors.ForeignKeyViolation):
        db.sql(by_id, ("2024-05-01", a), conn=writer)
    # by labels they are new series
    db.put("VALUES ('2024-05-03', 1, '{\"node\": \"a\"}')", conn=writer)
    assert db.one("SELECT series_id FROM m") not in (a, b)


def test_a_writer_that_waits_for_a_deletion_sees_it(db):
    """The look comes after the lock: ids are not taken for good from before."""
    db.metric("m")
    a = db.series("m", node="a")
    deleter, by_id, by_labels = db.connect(), db.connect(), db.connect()
    db.sql("INSERT INTO prom_data.m (time, value, series_id) VALUES ('2024-05-01', 1, %s)", (a,), conn=by_id)
    db.put("VALUES ('2024-05-01', 1, '{\"node\": \"a\"}')", conn=by_labels)
    db.sql("BEGIN", conn=deleter)
    db.sql("SELECT _prom_catalog.delete_series_rows(%s)", ([a],), conn=deleter)

    def write(conn, what, value):
        return db.sql(f"INSERT INTO prom_data.m (time, value, {what}) VALUES ('2024-05-02', 2, %s)", (value,), conn)

    def commit():
        wait_for_lock(db, by_id.info.backend_pid)
        wait_for_lock(db, by_labels.info.backend_pid)
        db.sql("COMMIT", conn=deleter)

    first, second, _ = in_threads(lambda: write(by_id, "series_id", a),
                                  lambda: write(by_labels, "labels", '{"node": "a"}'),
                                  commit)
    assert isinstance(first, psycopg2.errors.ForeignKeyViolation)
    assert second is None
    assert db.sql("SELECT value FROM m WHERE series_id <> %s", (a,)) == [(2,)]
    assert db.count("m") == 1


def test_beside_maintenance(db):
    """Nothing is lost or doubled while fresh rows are folded and sealed under the writers."""
    db.metric("m")
    stop = threading.Event()

    def writer(k):
        conn = db.connect()
        n = 0
        for i in range(25):
            db.sql("INSERT INTO prom_data.m (time, value, labels)"
                   f" SELECT {T} + (g + 100 * {i}) * interval '1 min', g,"
                   f" jsonb_build_object('k', '{k}') FROM generate_series(1, 100) g",
                   conn=conn)
            n += 100
            assert db.one("SELECT count(*) FROM prom_data.m WHERE labels->>'k' = %s", (str(k),), conn=conn) == n
        stop.set()
        return n

    def maintenance():
        conn = db.connect()
        while not stop.is_set():
            db.sql("SELECT _prom_ext.merge_step(1 << 25)", conn=conn)
            db.sql("SELECT _prom_ext.seal_step(true, 1 << 26)", conn=conn)

    assert in_threads(lambda: writer(1), lambda: writer(2), maintenance) == [2500, 2500, None]
    assert db.count("m") == 5000


def test_views_are_made_once(db):
    """create_metric from many sessions, and the background's own making of views beside it."""
    def create(_):
        conn = db.connect()
        try:
            return [db.one("SELECT prom_api.create_metric(%s)::text", (f"m{i}",), conn=conn) for i in range(8)]
        finally:
            conn.close()

    results = in_threads(*[lambda k=k: create(k) for k in range(4)])
    assert results == [[f"prom_data.m{i}" for i in range(8)]] * 4, results


def test_beside_drop_metric(db):
    """Whoever is told that a sample is stored finds it, unless the metric was dropped after that."""
    done = threading.Event()
    expected = (psycopg2.errors.UndefinedTable, psycopg2.errors.UndefinedObject, psycopg2.errors.DeadlockDetected,
                psycopg2.errors.LockNotAvailable, psycopg2.errors.UniqueViolation, psycopg2.errors.InternalError_,
                psycopg2.errors.SerializationFailure)

    def writer(k):
        conn = db.connect()
        acknowledged, refused, after, i = [], 0, 0, 0
        deadline = time.monotonic() + PATIENCE_S / 2
        while time.monotonic() < deadline:
            i += 1
            began_after = done.is_set()
            try:
                db.one("SELECT prom_api.create_metric('m')::text", conn=conn)
                db.put(f"VALUES ({T} + {i} * interval '1 s', {i}, '{{\"k\": \"{k}\"}}')", conn=conn)
            except expected:
                refused += 1
                continue
            if began_after:
                acknowledged.append(i)
                after += 1
            if after == 20:
                break
        return acknowledged

    def dropper():
        conn = db.connect()
        dropped = 0
        while dropped < 6:
            time.sleep(0.05)
            try:
                db.sql("SELECT prom_api.drop_metric('m')", conn=conn)
                dropped += 1
            except (psycopg2.errors.UndefinedObject, psycopg2.errors.UndefinedTable, *expected):
                pass
        done.set()
        return dropped

    db.metric("m")
    *written, dropped = in_threads(lambda: writer(1), lambda: writer(2), dropper)
    assert dropped == 6, written
    for k, values in enumerate(written, 1):
        assert len(values) == 20, values
        assert set(values) <= set(db.column("SELECT value FROM prom_data.m WHERE labels->>'k' = %s", (str(k),)))
    assert db.one("SELECT count(*) FROM _prom_catalog.metric") == 1
    assert db.one("SELECT count(*) FROM _prom_data.fresh WHERE metric_id NOT IN (SELECT id FROM _prom_catalog.metric)") == 0


def test_views_of_a_metric_that_was_dropped_meanwhile(db):
    with pytest.raises(psycopg2.errors.SerializationFailure, match="the metric was dropped meanwhile"):
        db.one("SELECT _prom_catalog.make_views_now(%s)", (2_000_000_000,))


def test_a_transaction_that_drops_what_it_has_written(db):
    db.metric("m")
    db.sql(f"""BEGIN;
               INSERT INTO prom_data.m (time, value, labels) VALUES ({T}, 1, '{{"a": "1"}}');
               SELECT prom_api.drop_metric('m');
               SELECT prom_api.create_metric('m');
               INSERT INTO prom_data.m (time, value, labels) VALUES ({T}, 2, '{{"a": "1"}}');
               COMMIT""")
    assert db.sql("SELECT value, labels->>'a' FROM prom_data.m") == [(2, "1")]


def test_cancelled_and_killed(db):
    db.metric("m")
    for end in ("pg_cancel_backend", "pg_terminate_backend"):
        conn = db.connect()
        pid = conn.info.backend_pid

        def slow():
            db.put(f"SELECT {T} + g * interval '1 ms',"
                   " CASE WHEN pg_sleep(0.001) IS NULL THEN 0 ELSE g END, '{}'"
                   " FROM generate_series(1, 1000000) g", conn=conn)

        def stop():
            wait_for(db, pid, "PgSleep", "wait_event")  # it is in the middle of it
            db.sql(f"SELECT {end}(%s)", (pid,))

        first, _ = in_threads(slow, stop)
        assert isinstance(first, psycopg2.Error)
    assert db.count("m") == 0
    assert db.one("SELECT count(*) FROM _prom_data.fresh") == 0
