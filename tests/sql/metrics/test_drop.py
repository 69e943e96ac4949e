"""drop_metric() and delete_series_from_metric(): what goes, what stays, and who waits for whom."""
import random
import re
import threading
import time

import psycopg2
import pytest

from conftest import HOUR
from database import series

CATALOG = ("series", "label_key_position", "label", "label_key", "metric", "dropped_metric", "setting_override",
           "state", "tenant")


def bucket(metric):
    return -(metric % 32) - 1


def error(db, text, args=None):
    with pytest.raises(psycopg2.Error) as e:
        db.sql(text, args)
    assert e.value.diag.message_hint and len(e.value.diag.message_primary) < 300
    return e.value.pgcode


def stored(db, name, at=None, tables=("block", "merged", "fresh"), **labels):
    """A metric with a sample in each of these tables: (metric, series, times)."""
    metric, s = db.make(name, **labels)
    at = at or db.now_ms() - 3 * HOUR
    for i, table in enumerate(tables):
        if table == "block":
            db.sql("SELECT _prom_catalog.ensure_partitions()")
            if not db.one("SELECT EXISTS (SELECT FROM pg_class WHERE relname = 'block_' ||"
                          " to_char(to_timestamp(%s) AT TIME ZONE 'UTC', 'YYYYMMDD'))", (at / 1000,)):
                db.partition(at)  # three hours ago may be yesterday
        db.block(table, metric, [(metric, s, at + i, float(i))], {"block": "sealed", "merged": "merged",
                                                                  "block_far": "sealed"}.get(table, "flush"))
    return metric, s, [at + i for i in range(len(tables))]


def traces(db, metric, s):
    """Where something of a metric is left."""
    found = []
    for table, column in [("_prom_data.block", "metric_id"), ("_prom_data.block_far", "metric_id"),
                          ("_prom_data.merged", "metric_id"),
                          ("_prom_data.fresh", "metric_id"), ("_prom_data.exemplar", "metric_id"),
                          ("_prom_catalog.series", "metric_id"),
                          ("_prom_catalog.label_key_position", "metric_id"),
                          ("_prom_catalog.maintenance_error", "metric_id"),
                          ("_prom_catalog.metric", "id")]:
        if db.count(table, f"{column} = %s", (metric,)):
            found.append(table)
    if db.count("_prom_catalog.series", "id = %s", (s,)):
        found.append("series")
    return found


def test_everything_goes(db):
    metric, s, times = stored(db, "m", tables=("block", "block_far", "merged", "fresh"), own="x", shared="y")
    other = stored(db, "other", shared="y", third="z")
    db.sql("SELECT _prom_catalog.insert_exemplars('{0}', ARRAY[%s], '{5}', ARRAY[%s], '{2024-01-01}', '{1}',"
           " ARRAY[jsonb '{}'])", (metric, s))
    db.sql("INSERT INTO _prom_catalog.maintenance_error VALUES (7, %s, 1, now(), 'seal', 'x')", (metric,))
    db.sql("SELECT set_metric_retention_period('m', '400 days')")
    assert db.times("m") == times and len(traces(db, metric, s)) == 10
    assert db.sql("SELECT drop_metric('m')") == [("",)]
    assert traces(db, metric, s) == []
    assert db.sql("SELECT schemaname, viewname FROM pg_views WHERE viewname = 'm'") == []
    assert db.times("other") == other[2] and len(traces(db, *other[:2])) == 7
    assert db.sql("SELECT metric_name FROM prom_info.metric") == [("other",)]
    # keys that only this metric had are gone, with their labels; so is its name
    assert sorted(db.sql("SELECT k.key, l.value FROM _prom_catalog.label l JOIN _prom_catalog.label_key k ON k.id ="
                         " l.key_id")) == [
        ("__name__", "other"), ("shared", "y"), ("third", "z")]
    assert sorted(db.column("SELECT key FROM _prom_catalog.label_key")) == ["__name__", "shared", "third"]
    assert db.one("SELECT jsonb(labels) FROM prom_series.other") == series("other", shared="y", third="z")
    assert set(db.column("SELECT table_name FROM _prom_catalog.erasure")) >= {
        "_prom_data.fresh", "_prom_data.merged", "_prom_data.block_far"}
    assert db.one("SELECT get_metric_retention_period('m')::text") == "90 days"
    db.maintain()
    assert db.times("other") == other[2]


def test_the_name_is_free_again(db):
    """What comes under the same name is a new metric, without settings, samples or columns of the old one."""
    old = stored(db, "m", own="x")
    db.sql("SELECT set_metric_chunk_interval('m', '1 hour')")
    db.sql("SELECT drop_metric('m')")
    new = stored(db, "m", tables=("fresh",), other="y")
    assert new[0] != old[0] and new[1] != old[1]
    assert db.times("m") == new[2]
    assert db.columns("prom_series.m") == ["series_id", "labels", "other"]
    assert db.one("SELECT get_metric_chunk_interval('m')::text") == "08:00:00"
    db.maintain()
    assert db.times("m") == new[2]


def test_ids_learnt_before_are_void(db):
    """A connector that flushes with what it knew is told to resolve again, and hears of the deletion."""
    before = db.resolve([series("m", a="1"), series("n", a="1")])
    cursor = db.one("SELECT next_cursor FROM _prom_catalog.feed('0')")
    db.sql("SELECT _prom_catalog.guard(%s)", (before.generation,))
    db.sql("SELECT drop_metric('m')")
    assert error(db, "SELECT _prom_catalog.guard(%s)", (before.generation,)) == "PS001"
    assert db.one("SELECT deleted FROM _prom_catalog.feed(%s)", (cursor,)) == [before.series[0]]
    after = db.resolve([series("m", a="1"), series("n", a="1")])
    assert after.series[0] != before.series[0] and after.metrics[0] != before.metrics[0]
    assert after.series[1] == before.series[1]
    db.sql("SELECT _prom_catalog.guard(%s)", (after.generation,))


def test_samples_in_shared_rows_never_come_back(db):
    """A packed row of a bucket holds two metrics; one is dropped, and its name used again, before it is folded."""
    gone, gone_s = db.make("gone", a="1")
    for i in range(31):  # the next metric of the same bucket
        db.resolve([series(f"between{i}")])
    kept, kept_s = db.make("kept", a="1")
    assert bucket(gone) == bucket(kept)
    t = db.now_ms() - 1000
    db.block("fresh", bucket(gone), [(gone, gone_s, t, 1.0), (kept, kept_s, t, 2.0)])
    assert db.times("gone") == db.times("kept") == [t]
    db.sql("SELECT drop_metric('gone')")
    assert db.count("_prom_data.samples") == 1 and db.times("kept") == [t]
    again, _ = db.make("gone", a="1")
    for _ in range(2):
        assert db.times("gone") == [] and db.times("kept") == [t]
        assert db.sql("SELECT value FROM _prom_data.samples") == [(2.0,)]
        db.maintain()
    assert db.count("_prom_data.fresh") == 0
    assert db.sql("SELECT metric_id, n_samples FROM _prom_data.block") == [(kept, 1)], "a dropped metric was folded"
    # nothing can hold them any more: the note is forgotten with the next drop
    assert db.column("SELECT id FROM _prom_catalog.dropped_metric") == [gone]
    db.sql("SELECT drop_metric('gone')")
    assert db.column("SELECT id FROM _prom_catalog.dropped_metric") == []
    assert again != gone


def test_a_row_that_cannot_be_read_keeps_the_note(db):
    """The shared row goes back to fresh as it was; the dropped metric's samples in it stay away all the same."""
    gone, gone_s = db.make("gone", a="1")
    t = db.now_ms() - 1000
    db.block("fresh", bucket(gone), [(gone, gone_s, t, 1.0)])
    db.sql("UPDATE _prom_data.fresh SET data = overlay(data PLACING '\\x00'::bytea FROM octet_length(data))")
    db.sql("SELECT drop_metric('gone')")
    db.sql("SELECT _prom_ext.merge_step()")
    assert db.count("_prom_data.fresh") == 1
    db.make("other")
    db.sql("SELECT drop_metric('other')")
    assert gone in db.column("SELECT id FROM _prom_catalog.dropped_metric")


@pytest.mark.parametrize("call", ["drop_metric(%s)", "_prom_catalog.delete_series_from_metric(%s, '{1}')"])
def test_names_that_are_refused(shared_db, call):
    assert error(shared_db, f"SELECT {call}", (None,)) == "22004"
    assert error(shared_db, f"SELECT {call}", ("",)) == "22023"
    for name in ("nobody", "x" * 10_000, 'quo"te', "__name__"):
        assert error(shared_db, f"SELECT {call}", (name,)) == "42704"


@pytest.mark.parametrize("name", ["CAPITAL", "no tags", 'quo"te', "it's", "x" * 10_000, "é" * 40, "%I", "$$",
                                  "pg_class", "\n"])
def test_odd_names(shared_db, name):
    metric, s = shared_db.make(name, **{"k" * 100: "v"})
    shared_db.make("stays")
    views = shared_db.count("pg_views", "schemaname IN ('prom_metric', 'prom_series')")
    shared_db.sql("SELECT drop_metric(%s)", (name,))
    assert traces(shared_db, metric, s) == []
    assert shared_db.count("pg_views", "schemaname IN ('prom_metric', 'prom_series')") == views - 2
    assert shared_db.count("pg_views", "schemaname = 'prom_data'") * 2 == views - 2
    assert shared_db.columns("prom_series.stays")


def test_a_metric_without_samples(db):
    db.sql("SELECT set_metric_retention_period('m', '1 day')")
    db.sql("SELECT drop_metric('m')")
    assert db.count("_prom_catalog.metric") == 0


def test_a_metric_made_for_writing(db):
    """create_metric() makes the views before there is any label."""
    db.sql("SELECT create_metric('m')")
    assert db.count("pg_views", "viewname = 'm'") == 3
    db.sql("SELECT drop_metric('m')")
    assert db.count("pg_views", "viewname = 'm'") == 0


def test_rolled_back(db):
    metric, s, times = stored(db, "m", a="1")
    before = {t: sorted(map(str, db.sql(f"SELECT * FROM _prom_catalog.{t}"))) for t in CATALOG}
    db.sql("BEGIN; SELECT drop_metric('m'); ROLLBACK")
    assert {t: sorted(map(str, db.sql(f"SELECT * FROM _prom_catalog.{t}"))) for t in CATALOG} == before
    assert db.times("m") == times


def test_views_of_users_are_in_the_way(db):
    metric, s, times = stored(db, "m", a="1")
    for schema in ("prom_metric", "prom_series"):
        db.sql(f"CREATE VIEW mine AS SELECT * FROM {schema}.m")
        with pytest.raises(psycopg2.Error) as e:
            db.sql("SELECT drop_metric('m')")
        assert e.value.pgcode == "2BP01" and "mine" in e.value.diag.message_detail and e.value.diag.message_hint
        assert db.times("m") == times
        db.sql("DROP VIEW mine")
    # what the look beforehand does not know is caught by PostgreSQL
    db.sql("CREATE FUNCTION f() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT count(*) FROM prom_metric.m; END")
    with pytest.raises(psycopg2.Error) as e:
        db.sql("SELECT drop_metric('m')")
    assert e.value.pgcode == "2BP01" and "f()" in e.value.diag.message_detail and db.times("m") == times
    assert "CASCADE" not in e.value.diag.message_hint
    db.sql("DROP FUNCTION f()")
    db.sql("SELECT drop_metric('m')")
    assert traces(db, metric, s) == []


def test_relations_of_others_stay(db):
    """Somebody has put a view of his own where the metric's should be: it is not ours to drop."""
    db.sql("CREATE VIEW prom_metric.m AS SELECT 1 AS mine")
    db.resolve([series("m", a="1")])
    db.sql("SELECT _prom_catalog.make_metric_views(10)")
    db.sql("SELECT drop_metric('m')")
    assert db.sql("SELECT * FROM prom_metric.m") == [(1,)]


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_needs_to_see_what_others_have_stored(db, level):
    db.make("m")
    db.sql(f"BEGIN ISOLATION LEVEL {level}")
    assert error(db, "SELECT drop_metric('m')") == "25001"
    db.sql("ROLLBACK")


# ---- beside others -----------------------------------------------------------------------------------


def wait_until(what, condition, seconds=90):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.005)


class Call:
    """A statement in a session of its own."""

    def __init__(self, db, statement):
        self.conn = db.connect()
        self.error = None
        self.thread = threading.Thread(target=self.run, args=(statement,), daemon=True)
        self.thread.start()

    def run(self, statement):
        try:
            self.conn.cursor().execute(statement)
        except psycopg2.Error as e:
            self.error = e

    def join(self, seconds=90):
        self.thread.join(seconds)
        assert not self.thread.is_alive()
        self.conn.close()
        return self

    def waits(self, db):
        """Returns when it has tried in vain, and pauses before it tries again."""
        wait_until("it does not wait", lambda: db.one("SELECT wait_event FROM pg_stat_activity WHERE pid = %s",
                                                      (self.conn.info.backend_pid,)) == "PgSleep")


def holding(db, text, isolation=""):
    """An open transaction that has done this."""
    conn = db.connect()
    conn.autocommit = True
    cur = conn.cursor()
    cur.execute(f"BEGIN {isolation}")
    cur.execute(text)
    return conn, cur


PROMPT_S = 5  # on a machine that has much else to do; who stands behind somebody who waits would stand there for ever


def longest(seconds, action):
    """How long the slowest of these actions took, done over and over for so long."""
    worst, until = 0, time.monotonic() + seconds
    while time.monotonic() < until:
        at = time.monotonic()
        action()
        worst = max(worst, time.monotonic() - at)
    return worst


def flush(db, cur):
    cur.execute("BEGIN; SELECT _prom_catalog.guard(_prom_catalog.generation()); COMMIT")


@pytest.mark.parametrize("hold", [
    "SELECT _prom_catalog.guard(_prom_catalog.generation())",            # a flush that hangs
    "SELECT * FROM prom_metric.m",                                       # a long reader
    "SELECT * FROM prom_series.m",
    "UPDATE _prom_catalog.metric SET retention_period = '1 day' WHERE metric_name = 'm'",
])
def test_waits_without_stopping_ingest(db, hold):
    metric, s, _ = stored(db, "m", a="1")
    stored(db, "other", a="1")
    conn, cur = holding(db, hold)
    drop = Call(db, "SELECT drop_metric('m')")
    writer = db.connect()
    flushes = writer.cursor()
    drop.waits(db)
    worst = longest(2.5, lambda: flush(db, flushes))
    assert worst < PROMPT_S, f"a flush waited {worst:.2f} s for somebody who waits"
    assert longest(0.5, lambda: db.times("other")) < PROMPT_S
    assert drop.thread.is_alive()
    cur.execute("COMMIT")
    drop.join()
    assert [n for n in drop.conn.notices if "waiting for others" in n]
    assert drop.error is None and traces(db, metric, s) == []
    conn.close()
    writer.close()


@pytest.mark.parametrize("hold", [
    "SELECT pg_advisory_xact_lock_shared(x'50524f4d00000001'::int8)", "SELECT * FROM prom_metric.m",
    "SELECT pg_advisory_xact_lock(x'50524f4d00000002'::int8)"])
def test_gives_up_in_the_end(db, hold):
    metric, s, times = stored(db, "m", a="1")
    db.sql("SELECT _prom_catalog.set_setting('lock_patience', '1 s')")
    conn, cur = holding(db, hold)
    with pytest.raises(psycopg2.Error) as e:
        db.sql("SELECT drop_metric('m')")
    assert e.value.pgcode == "55P03" and e.value.diag.message_hint
    cur.execute("ROLLBACK")
    assert db.times("m") == times
    db.sql("SELECT drop_metric('m')")
    conn.close()


def test_deleting_series_waits_in_the_same_way(db):
    metric, s, _ = stored(db, "m", a="1")
    conn, cur = holding(db, "SELECT _prom_catalog.guard(_prom_catalog.generation())")
    call = Call(db, f"SELECT _prom_catalog.delete_series_rows('{{{s}}}')")
    writer = db.connect()
    flushes = writer.cursor()
    call.waits(db)
    assert longest(1.5, lambda: flush(db, flushes)) < PROMPT_S
    assert call.thread.is_alive()
    cur.execute("COMMIT")
    assert call.join().error is None and db.count("_prom_catalog.series") == 0
    conn.close()
    writer.close()


def test_two_at_once(db):
    stored(db, "m", a="1")
    conn, cur = holding(db, "SELECT pg_advisory_xact_lock(x'50524f4d00000002'::int8)")
    calls = [Call(db, "SELECT drop_metric('m')") for _ in range(3)]
    time.sleep(0.5)
    cur.execute("COMMIT")
    codes = sorted(str(c.join().error and c.error.pgcode) for c in calls)
    assert codes == ["42704", "42704", "None"]
    conn.close()


def test_a_snapshot_from_before_keeps_its_samples(db):
    metric, s, times = stored(db, "m", a="1")
    conn, cur = holding(db, "SELECT count(*) FROM _prom_catalog.metric", "ISOLATION LEVEL REPEATABLE READ")
    db.sql("SELECT drop_metric('m')")
    db.maintain()
    for _ in range(2):
        cur.execute("SELECT (extract(epoch FROM time) * 1000)::int8, prom_api.jsonb(labels)->>'a' FROM"
                    " _prom_data.samples"
                    " WHERE metric_id = %s ORDER BY 1", (metric,))
        assert cur.fetchall() == [(t, "1") for t in times]
    conn.close()


def test_an_open_cursor_goes_on(db):
    """Declared before the drop, fetched after it, in a transaction that did not use the views."""
    metric, _, times = stored(db, "m", a="1")
    conn, cur = holding(db, f"DECLARE c CURSOR FOR SELECT (extract(epoch FROM time) * 1000)::int8 FROM"
                        f" _prom_data.samples"
                            f" WHERE metric_id = {metric} ORDER BY time")
    db.sql("SELECT drop_metric('m')")
    cur.execute("FETCH ALL FROM c")
    assert [t for t, in cur.fetchall()] == times
    conn.close()


def test_beside_maintenance_and_makers_of_views(db):
    """Metrics come and go while others fold, seal, and make views: no deadlock, nothing left behind, nothing lost."""
    stop = threading.Event()
    errors = []

    def repeat(action):
        conn = db.connect()
        cur = conn.cursor()
        try:
            while not stop.is_set():
                action(cur)
        except Exception as e:
            errors.append(e)
        finally:
            conn.close()
    workers = [threading.Thread(target=repeat, args=(lambda cur, q=q: cur.execute(q),), daemon=True) for q in (
        "SELECT _prom_catalog.make_metric_views(5)", "SELECT _prom_catalog.run_step('fold', true)",
        "SELECT _prom_catalog.run_step('seal', true)")]
    for w in workers:
        w.start()
    kept = {}
    for i in range(12):
        names = [f"m{i}_{k}" for k in range(4)]
        r = db.resolve([series(n, a="1", **{f"own{i}": "x"}) for n in names])
        t = db.now_ms()
        db.block("fresh", r.metrics[0], [(r.metrics[0], r.series[0], t, 1.0)])
        for metric, s in zip(r.metrics[1:], r.series[1:]):
            db.block("fresh", bucket(metric), [(metric, s, t, 1.0)])
        db.resolve([series(n, late="1") for n in names])
        for n in names[:3]:
            db.sql("SELECT drop_metric(%s)", (n,))
        kept[names[3]] = t
    stop.set()
    for w in workers:
        w.join(90)
        assert not w.is_alive()
    assert not errors
    db.views()
    assert sorted(db.column("SELECT viewname FROM pg_views WHERE schemaname = 'prom_metric'")) == sorted(kept)
    assert sorted(db.column("SELECT viewname FROM pg_views WHERE schemaname = 'prom_series'")) == sorted(kept)
    db.maintain()
    for name, t in kept.items():
        assert db.times(name) == [t]
    ids = db.column("SELECT id FROM _prom_catalog.metric")
    for table in ("fresh", "merged", "block"):
        assert db.count(f"_prom_data.{table}", "metric_id <> ALL (%s)", (ids,)) == 0


def test_beside_ingest(db):
    """Connectors that store and resolve as the guard tells them: what is acknowledged after a drop is there, and
    nothing from before it."""
    stop, errors, acked = threading.Event(), [], []
    drops = []

    def connector(k):
        conn = db.connect()
        cur = conn.cursor()
        ids = None
        try:
            while not stop.is_set():
                if ids is None:
                    cur.execute("SELECT generation, metric_ids[1], series_ids[1] FROM _prom_catalog.resolve_series("
                                "0, '{m}', '{__name__,k}', ARRAY['m', %s], '{1}', '{2}', '{1,2}')", (str(k),))
                    ids = cur.fetchone()
                t, began = int(time.time() * 1000), time.monotonic()
                try:
                    cur.execute("BEGIN; SELECT _prom_catalog.guard(%s)", ids[:1])
                    cur.execute("INSERT INTO _prom_data.fresh (tenant_id, metric_id, dist_key, level, kind, format,"
                                " series_lo, series_hi,"
                                " t_min, t_max, n_series, n_samples, data) SELECT 0, %s, 0, 0, 1, 1, %s, %s, now(),"
                                " now(), 1, 1, %s",
                                (ids[1], ids[2], ids[2], str(t).encode()))
                    cur.execute("COMMIT")
                    acked.append((began, ids[1], ids[2], t))
                except psycopg2.Error as e:
                    cur.execute("ROLLBACK")
                    if e.pgcode != "PS001":
                        raise
                    ids = None
        except psycopg2.Error as e:
            errors.append(e)
        finally:
            conn.close()
    threads = [threading.Thread(target=connector, args=(k,), daemon=True) for k in range(3)]
    for th in threads:
        th.start()

    def ingest_goes_on():
        n = len(acked)
        wait_until("ingest stands still", lambda: len(acked) > n + 20 or errors)

    for _ in range(8):
        ingest_goes_on()
        began = time.monotonic()
        db.sql("SELECT drop_metric('m')")
        drops.append((began, time.monotonic()))
    ingest_goes_on()
    stop.set()
    for th in threads:
        th.join(90)
        assert not th.is_alive()
    assert not errors
    left = set(db.sql("SELECT f.metric_id, f.series_lo, convert_from(f.data, 'UTF8')::int8 FROM _prom_data.fresh f"
                      " JOIN _prom_catalog.series s ON s.id = f.series_lo AND s.metric_id = f.metric_id"))
    assert db.count("_prom_data.fresh") == db.count("_prom_data.fresh",
                                                    "series_lo IN (SELECT id FROM _prom_catalog.series)")
    after = {tuple(a[1:]) for a in acked if a[0] > drops[-1][1]}
    before = {tuple(a[1:]) for a in acked if a[0] < drops[-1][0]}
    assert after and before and after <= left and not left & before


# ---- single series -----------------------------------------------------------------------------------


def test_delete_series(db):
    metric, _ = db.make("m", a="0")
    other, o = db.make("other", a="0")
    ids = db.resolve([series("m", a=str(i)) for i in range(4)]).series
    t = db.now_ms() - 1000
    db.block("fresh", metric, [(metric, s, t + k, 1.0) for s in ids for k in range(5)])
    db.block("fresh", bucket(metric), [(metric, ids[1], t + 100, 2.0), (metric, ids[2], t + 100, 2.0)])
    db.block("fresh", other, [(other, o, t, 1.0)])
    assert db.one("SELECT _prom_catalog.delete_series_from_metric('m', %s)", (ids[:2],)) == 5 + 6
    for _ in range(2):
        assert dict(db.sql("SELECT series_id, count(*) FROM m GROUP BY 1")) == {ids[2]: 6, ids[3]: 5}
        assert db.sql("SELECT count(*) FROM prom_series.m") == [(2,)]
        db.maintain()
    # ids of others, ids that nobody has, nulls, nothing: not an error, and nothing is done
    for none in ([o], [-1, 2 ** 62], [None], []):
        assert db.one("SELECT _prom_catalog.delete_series_from_metric('m', %s::int8[])", (none,)) == 0
    assert db.times("other") == [t]
    assert error(db, "SELECT _prom_catalog.delete_series_from_metric('m', NULL)") == "22004"
    assert db.resolve([series("m", a="1")]).series[0] not in ids
    assert dict(db.sql("SELECT series_id, count(*) FROM m GROUP BY 1")) == {ids[2]: 6, ids[3]: 5}


def test_deleted_series_take_their_exemplars_along(db):
    metric, s = db.make("m", a="0")
    db.sql("SELECT _prom_catalog.insert_exemplars('{0}', ARRAY[%s], '{5}', ARRAY[%s], '{2024-01-01}', '{1}',"
           " ARRAY[jsonb '{}'])", (metric, s))
    db.sql("SELECT _prom_catalog.delete_series_from_metric('m', %s)", ([s],))
    assert db.count("_prom_data.exemplar") == 0


def test_many_series(db):
    """More ids than a row of the feed holds."""
    db.sql("SELECT _prom_catalog.resolve_series(0, '{m}', '{__name__}' || array_fill('k'::text, '{20000}'),"
           " '{m}' || array_agg('v' || i), array_fill(1, '{20000}'), array_fill(2, '{20000}'),"
           " (SELECT array_agg(x ORDER BY o, x) FROM generate_series(1, 20000) o, unnest(ARRAY[1, o + 1]) x)) FROM"
           " generate_series(1, 20000) i")
    cursor = db.one("SELECT next_cursor FROM _prom_catalog.feed('0')")
    db.sql("SELECT drop_metric('m')")
    assert len(db.one("SELECT deleted FROM _prom_catalog.feed(%s)", (cursor,))) == 20000
    assert re.match(r"^\d+$", cursor) and db.count("_prom_catalog.series") == 0


def rows_read(db, relation, column, of="relid"):
    """By this session, too, up to now."""
    db.sql("SELECT pg_stat_force_next_flush()")
    tables = "pg_stat_user_indexes" if of == "indexrelid" else "pg_stat_user_tables"
    return db.one(f"SELECT {column} FROM {tables} WHERE {of} = %s::regclass", (relation,))


def test_what_others_have_is_not_read(db):
    """What a drop reads does not grow with the series, label keys and metadata of other metrics: common labels are
    seen in use by a look at few of those who use them."""
    names = [f"m{i}" for i in range(1000)]
    for part in range(0, 1000, 250):
        db.resolve([series(n, a="common", b=f"b{k}", **({"own": n} if k == 0 else {}))
                    for n in names[part:part + 250] for k in range(8)])
    db.resolve([series("gone", a="common", b="b1", own="m5", mine=str(k)) for k in range(3)])
    db.sql("SELECT prom_api.create_metric('gone')")
    db.sql("SELECT _prom_catalog.upsert_metadata(0, %s, array_fill('gauge'::text, '{1001}'), array_fill(''::text, '{1001}'),"
           " array_fill('help'::text, '{1001}'))", ([*names, "gone"],))
    db.sql("VACUUM ANALYZE")  # what waited to be added to the index is in it
    watched = [("_prom_catalog.series_labels_idx", "idx_tup_read", "indexrelid"),
               ("_prom_catalog.label_key_position", "seq_tup_read", "relid"), ("_prom_catalog.metadata", "seq_tup_read", "relid"),
               ("_prom_catalog.metric", "seq_tup_read", "relid")]
    before = [rows_read(db, *w) for w in watched]
    db.sql("SELECT drop_metric('gone')")
    read = [rows_read(db, *w) - b for w, b in zip(watched, before)]
    assert read[0] < 100 and read[1:] == [0, 0, 0], read
    assert db.column("SELECT key FROM _prom_catalog.label_key ORDER BY 1") == ["__name__", "a", "b", "own"]
    assert db.count("_prom_catalog.metadata") == 1000
    assert db.count("_prom_catalog.label") == 1000 + 1 + 8 + 1000


@pytest.mark.parametrize("common", ["a", "b", "c"])
def test_labels_of_others_stay_wherever_they_are(db, common):
    """The only other series that has a label is beside the dropped ones, or far off, or among many."""
    at = {"a": 0, "b": 2999, "c": 1500}[common]
    others = [series("other", n=str(i), **({"l": "x"} if i == at else {})) for i in range(3000)]
    db.resolve(others[:1500])
    db.resolve([series("m", l="x"), series("m", l="y"), series("m", l="x", n="7")])
    db.resolve(others[1500:])
    db.sql("SELECT drop_metric('m')")
    assert db.column("SELECT l.value FROM _prom_catalog.label l JOIN _prom_catalog.label_key k ON k.id = l.key_id"
                     " WHERE k.key = 'l'") == ["x"]
    assert db.one("SELECT count(*) FROM _prom_catalog.label l JOIN _prom_catalog.label_key k ON k.id = l.key_id"
                  " WHERE k.key = 'n'") == 3000


def test_lone_labels_are_those_that_nobody_else_has(db):
    """Against a look at all series, for any choice of series: alone, neighbours, whole metrics, nearly all."""
    rng = random.Random(5)
    db.resolve([series(f"m{i % 7}", common="c", rare=f"r{min(rng.randrange(1, 900), rng.randrange(1, 900))}", own=f"o{i}",
                       half=f"h{i // 1500}", **({"late": f"l{i % 5}"} if i > 2900 else {})) for i in range(3000)])
    ids = db.column("SELECT id FROM _prom_catalog.series ORDER BY id")
    chosen = [[i] for i in rng.sample(ids, 5)] + [ids[a:a + 50] for a in (0, 1480, 2950)] + [
        ids[:1500], ids[2900:], rng.sample(ids, 400), ids[1:], ids, ids[:1] * 3, [max(ids) + 1000], []]
    chosen += [db.column("SELECT id FROM _prom_catalog.series s WHERE s.metric_id = %s", (m,))
               for m in db.column("SELECT id FROM _prom_catalog.metric WHERE metric_name IN ('m1', 'm6')")]
    found = set()
    for some in chosen:
        expected = db.one("""
            SELECT coalesce(array_agg(l.id ORDER BY l.id), '{}') FROM _prom_catalog.label l
            JOIN _prom_catalog.label_key k ON k.id = l.key_id AND k.key <> '__name__'
            WHERE l.id IN (SELECT unnest(labels) FROM _prom_catalog.series WHERE id = ANY (%(s)s::int8[]))
              AND l.id NOT IN (SELECT unnest(labels) FROM _prom_catalog.series WHERE id <> ALL (%(s)s::int8[]))""", {"s": some})
        assert sorted(db.one("SELECT _prom_catalog.lone_labels(%s::int8[])", (some,))) == expected
        found.update(expected)
    assert len(found) > 3000
    # each look would read what waits to be added to the index: nothing does
    last = db.resolve([series("m1", own="at last")]).series
    assert db.one("SELECT cardinality(_prom_catalog.lone_labels(%s::int8[]))", (last,)) == 1
    assert db.one("SELECT gin_clean_pending_list('_prom_catalog.series_labels_idx')") == 0


def test_counts_without_the_deleted(db):
    """Whatever is computed inside blocks leaves out series that are gone, in rows of their own and in shared ones."""
    metric, _ = db.make("m", a="0")
    ids = db.resolve([series("m", a=str(i)) for i in range(3)]).series
    t = db.now_ms() - HOUR
    db.block("fresh", metric, [(metric, s, t + k, float(s)) for s in ids for k in range(4)])
    db.block("fresh", bucket(metric), [(metric, ids[0], t + 100, 9999.0), (metric, ids[1], t + 100, 1.0)])
    db.sql("SELECT _prom_catalog.delete_series_from_metric('m', %s)", ([ids[0]],))
    for _ in range(2):
        assert db.sql("SELECT count(*), count(value), max(value), max(time) < now(), sum(value) FROM m") == [
            (9, 9, float(ids[2]), True, 4.0 * ids[1] + 1.0 + 4.0 * ids[2])]
        assert db.sql("SELECT val(a_id), count(*) FROM m GROUP BY a_id ORDER BY 1") == [("1", 5), ("2", 4)]
        db.maintain()
