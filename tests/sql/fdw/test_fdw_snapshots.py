"""One snapshot per statement, whatever happens meanwhile; rights of the caller; no writing."""

import io
import threading
import time

import psycopg2
import pytest

from fdw_blocks import DAY_MS, Store

T0 = 1700006400000 // DAY_MS * DAY_MS
COUNT = "SELECT count(*), sum(value) FROM _prom_data.samples WHERE metric_id = 7"


@pytest.fixture()
def store(server, request):
    name = "snap_" + "".join(c if c.isalnum() else "_" for c in request.node.name.lower())
    server.create(name)
    conn = server.connect(name)
    conn.cursor().execute("SET timezone = 'UTC'")
    s = Store(conn)
    s.name = name
    s.ids = s.metric(7, 10, 70)
    for day in range(3):
        s.block("block", 7, [(7, x, T0 + day * DAY_MS + k * 60000, 1) for x in s.ids for k in range(100)])
    fresh(s, 3 * DAY_MS)
    s.flush()
    yield s
    conn.close()


def fresh(s, offset):
    s.block("fresh", 7, [(7, x, T0 + offset + k * 1000, 1) for x in s.ids for k in range(10)])


def other(server, store):
    conn = server.connect(store.name)
    cur = conn.cursor()
    cur.execute("SET timezone = 'UTC'")
    return conn, cur


def fold(store):
    """What maintenance does: the same samples elsewhere, in one transaction."""
    store.sql("""WITH gone AS (DELETE FROM _prom_data.fresh RETURNING *)
                 INSERT INTO _prom_data.block_far SELECT * FROM gone""")
    # a block says its level itself, so the moved rows are no longer valid: only old snapshots read on


def somebody_waits(store):
    until = time.monotonic() + 90
    while store.sql("SELECT count(*) FROM pg_locks WHERE NOT granted")[0][0] == 0:
        assert time.monotonic() < until
        time.sleep(0.01)


def test_two_scans_one_statement(server, store):
    conn, cur = other(server, store)
    store.sql("SELECT pg_advisory_lock(1)")
    result = []

    def run():
        cur.execute(f"SELECT (SELECT count(*) FROM _prom_data.samples WHERE metric_id = 7),"
                    f" pg_advisory_lock(1)::text,"
                    f" (SELECT count(*) FROM _prom_data.samples WHERE metric_id = 7 AND value > 0)")
        result.append(cur.fetchone())

    thread = threading.Thread(target=run)
    thread.start()
    somebody_waits(store)
    fresh(store, 4 * DAY_MS)
    store.flush()
    store.sql("DELETE FROM _prom_data.block WHERE t_min < timestamptz 'epoch' + %s * interval '1 s'",
              (T0 // 1000 + 86400,))
    store.sql("SELECT pg_advisory_unlock(1)")
    thread.join(90)
    assert result and result[0][0] == result[0][2] == 3100
    assert store.sql(COUNT)[0][0] == 2200


@pytest.mark.parametrize("level", ["REPEATABLE READ", "REPEATABLE READ READ ONLY", "SERIALIZABLE READ ONLY"])
def test_stable_snapshot(server, store, level):
    conn, cur = other(server, store)
    cur.execute(f"BEGIN ISOLATION LEVEL {level}")
    cur.execute(COUNT)
    first = cur.fetchone()
    fresh(store, 4 * DAY_MS)
    store.flush()
    cur.execute(COUNT)
    assert cur.fetchone() == first
    fold(store)
    store.sql("VACUUM _prom_data.fresh")
    cur.execute(COUNT)
    assert cur.fetchone() == first == (3100, 3100)
    cur.execute("COMMIT")


def test_cursor_over_savepoint_rollback(server, store):
    """What a cursor reads inside a rolled back subtransaction must not be taken from it later."""
    conn, cur = other(server, store)
    cur.execute("BEGIN")
    cur.execute("DECLARE c CURSOR FOR SELECT series_id, time FROM _prom_data.samples WHERE metric_id = 7")
    rows = []
    for step in (0, 5, 100, 1000, 37, 500):
        cur.execute("SAVEPOINT s")
        if step:
            cur.execute(f"FETCH {step} FROM c")
            rows += cur.fetchall()
        if step == 100:
            with pytest.raises(psycopg2.errors.DivisionByZero):
                cur.execute("SELECT 1 / 0")
        cur.execute("ROLLBACK TO s")
    fresh(store, 4 * DAY_MS)
    store.flush()
    cur.execute("FETCH ALL FROM c")
    rows += cur.fetchall()
    cur.execute("COMMIT")
    assert len(rows) == len(set(rows)) == 3100


def test_cursor_opened_in_savepoint_with_hold(server, store):
    conn, cur = other(server, store)
    cur.execute("BEGIN; SAVEPOINT s; DECLARE c CURSOR WITH HOLD FOR"
                " SELECT value FROM _prom_data.samples WHERE metric_id = 7; FETCH 3 FROM c;"
                " RELEASE s; COMMIT")
    fold(store)
    cur.execute("FETCH ALL FROM c")
    assert len(cur.fetchall()) == 3097


def test_own_writes(server, store):
    """A statement does not see the blocks that it inserts itself; the next one does."""
    conn, cur = other(server, store)
    cur.execute("BEGIN")
    cur.execute("DELETE FROM _prom_data.block")
    cur.execute("""WITH again AS (
            INSERT INTO _prom_data.fresh (tenant_id, metric_id, dist_key, level, kind, format, series_lo,
                series_hi, t_min, t_max, n_series, n_samples, data)
            SELECT tenant_id, f.metric_id, dist_key, level, kind, format, series_lo, series_hi, t_min, t_max,
                n_series, n_samples, data FROM _prom_data.fresh f, _prom_data.samples s WHERE s.metric_id = 7
            RETURNING 1)
        SELECT (SELECT count(*) FROM again), (SELECT count(*) FROM _prom_data.samples WHERE metric_id = 7)""")
    assert cur.fetchone() == (100, 100)
    cur.execute("SELECT count(*) FROM _prom_data.fresh")
    assert cur.fetchone() == (101,)
    cur.execute(COUNT)
    assert cur.fetchone()[0] == 100
    cur.execute("ROLLBACK")
    cur.execute(COUNT)
    assert cur.fetchone()[0] == 3100


def test_for_update_of_another_table(server, store):
    """The row of the foreign table is checked again when the locked row has changed."""
    store.sql("CREATE TABLE t AS SELECT 70::int8 AS id, 0 AS n")
    conn, cur = other(server, store)
    conn2, cur2 = other(server, store)
    cur2.execute("BEGIN")
    cur2.execute("UPDATE t SET n = 1")
    result = []

    def run():
        cur.execute("SELECT t.n, s.value FROM t JOIN _prom_data.samples s ON s.series_id = t.id"
                    " WHERE s.metric_id = 7 AND s.labels[1] = 7 ORDER BY s.time LIMIT 1 FOR UPDATE OF t")
        result.extend(cur.fetchall())

    thread = threading.Thread(target=run)
    thread.start()
    somebody_waits(store)
    cur2.execute("COMMIT")
    thread.join(90)
    assert result == [(1, 1.0)]


def test_exception_blocks(store):
    store.sql("UPDATE _prom_data.fresh SET data = substr(data, 1, 40)")
    rows = store.sql("""SET promscale.damaged_blocks = error; DO $$ DECLARE n int8; BEGIN
        FOR i IN 1..20 LOOP
            BEGIN
                SELECT count(*) INTO n FROM _prom_data.samples WHERE metric_id = 7;
                RAISE 'a damaged block was read';
            EXCEPTION WHEN data_corrupted THEN NULL;
            END;
        END LOOP; END $$; RESET promscale.damaged_blocks;
        SELECT current_setting('jit')""")
    assert rows == [("off",)]
    store.sql("DELETE FROM _prom_data.fresh")
    assert store.sql(COUNT)[0][0] == 3000


def test_cancel(server, store):
    conn, cur = other(server, store)
    cur.execute("SET statement_timeout = 60")
    with pytest.raises(psycopg2.errors.QueryCanceled):
        cur.execute("SELECT count(*) FROM _prom_data.samples a, _prom_data.samples b, _prom_data.samples c"
                    " WHERE a.metric_id = 7 AND b.metric_id = 7 AND c.metric_id = 7")
    cur.execute("RESET statement_timeout")
    cur.execute(COUNT)
    assert cur.fetchone()[0] == 3100


def test_rights_of_the_caller(server, store):
    store.sql("CREATE ROLE nobody7 LOGIN; GRANT USAGE ON SCHEMA _prom_data, _prom_catalog TO nobody7;"
              " GRANT SELECT ON _prom_data.samples TO nobody7")
    conn = server.connect(store.name, "nobody7")
    cur = conn.cursor()
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        cur.execute(COUNT)
    store.sql("GRANT SELECT ON ALL TABLES IN SCHEMA _prom_data, _prom_catalog TO nobody7;"
              " REVOKE SELECT ON _prom_data.block_%s FROM nobody7" % (T0 // DAY_MS))
    cur.execute(COUNT)
    assert cur.fetchone()[0] == 3100  # the right on the parent counts, not that on partitions
    store.sql("ALTER TABLE _prom_catalog.series ENABLE ROW LEVEL SECURITY;"
              " CREATE POLICY p ON _prom_catalog.series USING (id < 75);")
    cur.execute(COUNT)
    assert cur.fetchone()[0] == 1550
    store.sql("ALTER TABLE _prom_data.block ENABLE ROW LEVEL SECURITY")
    cur.execute(COUNT)
    assert cur.fetchone()[0] == 50
    assert store.sql(COUNT)[0][0] == 3100
    # the view's owner may see everything; an invoker's view shows the caller's
    store.sql("CREATE VIEW v WITH (security_invoker) AS SELECT * FROM _prom_data.samples WHERE metric_id = 7;"
              " GRANT SELECT ON v TO nobody7")
    cur.execute("SELECT count(*) FROM v")
    assert cur.fetchone()[0] == 50
    # the same session as another role: plans are made again
    cur.execute("PREPARE q AS " + COUNT)
    cur.execute("EXECUTE q")
    assert cur.fetchone()[0] == 50
    conn.close()
    store.sql("DROP OWNED BY nobody7; DROP ROLE nobody7")


@pytest.mark.parametrize("text", [
    "INSERT INTO _prom_data.samples VALUES (7, now(), 1, 70, '{}')",
    "INSERT INTO v (time, value) VALUES (now(), 1)", "UPDATE _prom_data.samples SET value = 0",
    "UPDATE v SET value = 0", "DELETE FROM _prom_data.samples WHERE metric_id = 7", "DELETE FROM v",
    "EXPLAIN INSERT INTO v (time, value) VALUES (now(), 1)"])
def test_writing_is_refused(store, text):
    store.sql("CREATE VIEW v AS SELECT time, value, series_id, labels, NULLIF(labels[2], 0) AS x_id"
              " FROM _prom_data.samples WHERE metric_id = 7")
    with pytest.raises(psycopg2.errors.FeatureNotSupported) as error:
        store.sql(text)
    assert ("prom_data" if "INSERT" in text else "on_conflict") in error.value.diag.message_hint


def test_copy_is_refused(store):
    with pytest.raises(psycopg2.errors.FeatureNotSupported):
        store.conn.cursor().copy_expert("COPY _prom_data.samples FROM STDIN", io.StringIO(""))
    assert store.sql("SELECT is_insertable_into FROM information_schema.tables"
                     " WHERE table_name = 'samples'") == [("NO",)]


def test_shape_is_checked(store):
    store.sql("CREATE FOREIGN TABLE odd (value text) SERVER promscale")
    with pytest.raises(psycopg2.Error, match="other columns"):
        store.sql("SELECT * FROM odd")
    with pytest.raises(psycopg2.Error, match="invalid option"):
        store.sql("ALTER SERVER promscale OPTIONS (ADD host 'x')")
