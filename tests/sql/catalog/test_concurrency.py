"""Many sessions at once: one id for each series, a feed that misses nothing, and the guard."""
import random
import threading
import time

import psycopg2
import pytest

from database import batch_of, resolve_with, series

RETRY = ("40P01", "40001")


def shuffled_batch(rng, sets):
    """The same batch in another order: of series, of pairs, of metrics."""
    sets = rng.sample(sets, len(sets))
    metrics = list(dict.fromkeys(s["__name__"] for s in sets))
    pairs = list(dict.fromkeys((k, v) for s in sets for k, v in s.items()))
    rng.shuffle(metrics)
    rng.shuffle(pairs)
    return sets, batch_of(sets, pairs, metrics)


class Caller(threading.Thread):
    def __init__(self, db, number, batches):
        super().__init__(daemon=True)
        self.conn, self.number, self.batches = db.connect(), number, batches
        self.found, self.retries, self.error = {}, [], None
        self.start()

    def run(self):
        rng = random.Random(self.number)
        try:
            for sets in self.batches:
                sets, batch = shuffled_batch(rng, sets)
                while True:
                    try:
                        ids = resolve_with(self.conn, sets, batch=batch).series
                        break
                    except psycopg2.Error as e:
                        if e.pgcode not in RETRY:
                            raise
                        self.retries.append(e.pgcode)
                for s, i in zip(sets, ids):
                    key = tuple(sorted(s.items()))
                    assert self.found.setdefault(key, i) == i
        except Exception as e:  # shown by the main thread
            self.error = e


class Follower(threading.Thread):
    """Reads the feed as a connector would: by cursor, while others commit out of order."""

    def __init__(self, db):
        super().__init__(daemon=True)
        self.conn, self.seen, self.stopping, self.error = db.connect(), set(), False, None
        self.cursor = self.poll("0")
        self.start()

    def poll(self, cursor):
        cur = self.conn.cursor()
        cur.execute("SELECT pg_snapshot_xmin(s.now)::text, f.series_ids FROM (SELECT pg_current_snapshot() AS now) s"
                    " LEFT JOIN _prom_catalog.series_feed f ON f.tx >= %s::xid8 AND f.op = 'c'", (cursor,))
        rows = cur.fetchall()
        self.seen.update(i for _, ids in rows for i in ids or [])
        return rows[0][0]

    def run(self):
        try:
            while not self.stopping:
                self.cursor = self.poll(self.cursor)
            self.poll(self.cursor)
        except Exception as e:
            self.error = e


def test_overlapping_callers(db):
    """Four sessions, each with 12 batches drawn from one pool; new metrics, keys, labels and series."""
    rng = random.Random(7)
    pool = [series(f"m{i % 23}", **{f"key_{(i * 7) % 31}": f"v{i % 50}", "instance": f"i{i % 97}", "n": str(i)})
            for i in range(4000)]
    follower = Follower(db)
    batches = [rng.sample(pool, 1000) for _ in range(12)]
    callers = [Caller(db, n, rng.sample(batches, len(batches))) for n in range(4)]
    for c in callers:
        c.join(240)
        assert not c.is_alive(), "stuck"
        assert c.error is None, c.error
    follower.stopping = True
    follower.join(60)
    assert follower.error is None, follower.error

    ids = {}
    for c in callers:
        for key, i in c.found.items():
            assert ids.setdefault(key, i) == i, "two ids for one series"
    assert len(set(ids.values())) == len(ids), "one id for two series"
    assert set(db.column("SELECT id FROM _prom_catalog.series")) == set(ids.values())
    assert follower.seen == set(ids.values()), "the feed misses series, or tells of others"
    fed = db.column("SELECT unnest(series_ids) FROM _prom_catalog.series_feed")
    assert len(fed) == len(set(fed))
    for table, key in (("metric", "digest"), ("label_key", "digest"), ("label", "(tenant_id, key_id, value)")):
        assert db.one(f"SELECT count(*) - count(DISTINCT {key}) FROM _prom_catalog.{table}") == 0
    # positions: of each metric 1..n without gaps, __name__ first
    assert db.one("""SELECT count(*) FROM _prom_catalog.metric m WHERE ARRAY(
        SELECT pos FROM _prom_catalog.label_key_position p WHERE p.metric_id = m.id ORDER BY pos)
        <> ARRAY(SELECT generate_series(1, m.positions))""") == 0
    assert db.one("SELECT count(*) FROM _prom_catalog.label_key_position p JOIN _prom_catalog.label_key k"
                  " ON k.id = p.key_id WHERE (k.key = '__name__') <> (p.pos = 1)") == 0
    retries = sum(len(c.retries) for c in callers)
    assert retries <= 8, f"{retries} deadlocks in 48 calls"


def wait_until_blocked(db, conn):
    """Until that session waits for a lock."""
    pid = conn.info.backend_pid
    until = time.monotonic() + 90
    while time.monotonic() < until:
        if db.one("SELECT wait_event_type FROM pg_stat_activity WHERE pid = %s", (pid,)) == "Lock":
            return
        time.sleep(0.02)
    pytest.fail("the session does not wait")


def in_background(conn, text, args=None):
    result = []

    def work():
        try:
            cur = conn.cursor()
            cur.execute(text, args)
            result.append(cur.fetchall())
        except psycopg2.Error as e:
            result.append(e)
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread, result


def test_somebody_else_rolls_back(db):
    """A session that waits for another's insert makes the series itself if that one gives up."""
    a, b = db.connect(), db.connect()
    a.autocommit = False
    first = resolve_with(a, [series("m", x="1")])
    thread, result = in_background(b, "SELECT series_ids FROM _prom_catalog.resolve_series(0, '{m}', '{__name__,x}',"
                                      " '{m,1}', '{1}', '{2}', '{1,2}')")
    wait_until_blocked(db, b)
    a.rollback()
    thread.join(90)
    assert db.column("SELECT id FROM _prom_catalog.series") == result[0][0][0] != first.series
    for conn in (a, b):
        conn.close()


def test_somebody_else_commits(db):
    a, b = db.connect(), db.connect()
    a.autocommit = False
    first = resolve_with(a, [series("m", x="1")])
    thread, result = in_background(b, "SELECT series_ids FROM _prom_catalog.resolve_series(0, '{m}', '{__name__,x}',"
                                      " '{m,1}', '{1}', '{2}', '{1,2}')")
    wait_until_blocked(db, b)
    a.commit()
    thread.join(90)
    assert result[0][0][0] == first.series
    assert db.one("SELECT count(*) FROM _prom_catalog.series_feed") == 1
    for conn in (a, b):
        conn.close()


def test_a_waiting_call_can_be_canceled(db):
    """The wait is inside a subtransaction that catches one kind of error: not this one."""
    a, b = db.connect(), db.connect()
    a.autocommit = False
    db.resolve([series("m2", y="1")])
    a.cursor().execute("INSERT INTO _prom_catalog.label (tenant_id, key_id, value, digest) SELECT 0, id, 'new',"
                       " _prom_ext.text_digest('new') FROM _prom_catalog.label_key WHERE key = 'y'")
    thread, result = in_background(b, "SELECT _prom_catalog.resolve_series(0, '{m2}', '{__name__,y}', '{m2,new}', '{1}', '{2}',"
                                      " '{1,2}')")
    wait_until_blocked(db, b)
    db.sql("SELECT pg_cancel_backend(%s)", (b.info.backend_pid,))
    thread.join(90)
    assert isinstance(result[0], psycopg2.Error) and result[0].pgcode == "57014", result
    a.rollback()
    assert len(resolve_with(b, [series("m2", y="new")]).series) == 1
    for conn in (a, b):
        conn.close()


def test_positions_are_given_away_once(db):
    """Labels and keys exist, only this metric has not got them: the metric's row is what sessions meet at."""
    db.resolve([series("other", x="1", y="1", z="1"), series("m")])
    a, b = db.connect(), db.connect()
    a.autocommit = False
    resolve_with(a, [series("m", x="1", z="1")])
    thread, result = in_background(b, "SELECT series_ids FROM _prom_catalog.resolve_series(0, '{m}', '{__name__,x,y}',"
                                      " '{m,1,1}', '{1}', '{3}', '{1,2,3}')")
    wait_until_blocked(db, b)
    a.commit()
    thread.join(90)
    assert not isinstance(result[0], Exception), result
    assert db.sql("SELECT k.key, p.pos FROM _prom_catalog.label_key_position p JOIN _prom_catalog.label_key k ON k.id = p.key_id"
                  " JOIN _prom_catalog.metric m ON m.id = p.metric_id WHERE m.metric_name = 'm' ORDER BY pos") == [
        ("__name__", 1), ("x", 2), ("z", 3), ("y", 4)]
    assert db.one("SELECT prom_api.jsonb(labels) FROM _prom_catalog.series WHERE id = %s", (result[0][0][0][0],)) == series("m", x="1", y="1")
    for conn in (a, b):
        conn.close()


# ---- the guard ----------------------------------------------------------------------------------


def generation(db):
    return db.one("SELECT _prom_catalog.generation()")


def test_guard_holds_deletion_off(db):
    ids = db.resolve([series("m", x="1"), series("m", x="2")]).series
    flush, erase = db.connect(), db.connect()
    flush.autocommit = False
    flush.cursor().execute("SELECT _prom_catalog.guard(%s)", (generation(db),))
    thread, result = in_background(erase, "SELECT _prom_catalog.delete_series_rows(%s)", ([ids[0]],))
    wait_until_blocked(db, erase)
    assert db.one("SELECT count(*) FROM _prom_catalog.series") == 2
    flush.commit()
    thread.join(90)
    assert result == [[(1,)]]
    assert db.column("SELECT id FROM _prom_catalog.series") == [ids[1]]
    flush.close()
    erase.close()


def test_guard_looks_after_it_has_the_lock(db):
    """A flush that began to wait before a deletion was committed must see the new generation."""
    ids = db.resolve([series("m", x="1")]).series
    old = generation(db)
    flush, erase = db.connect(), db.connect()
    erase.autocommit = False
    erase.cursor().execute("SELECT _prom_catalog.delete_series_rows(%s)", (ids,))
    thread, result = in_background(flush, "SELECT _prom_catalog.guard(%s)", (old,))
    wait_until_blocked(db, flush)
    erase.commit()
    thread.join(90)
    assert isinstance(result[0], psycopg2.Error) and result[0].pgcode == "PS001", result
    assert f"catalog generation is {old + 1}, not {old}" in str(result[0])
    db.sql("SELECT _prom_catalog.guard(%s)", (old + 1,))
    flush.close()
    erase.close()


def test_guard_in_one_simple_query(db):
    """As flushes send it: a failing guard leaves nothing of the string behind it done."""
    cur = db.conn.cursor()
    with pytest.raises(psycopg2.Error) as e:
        cur.execute("BEGIN; SELECT _prom_catalog.guard(1); INSERT INTO _prom_catalog.setting_override VALUES ('x', 'y');"
                    " COMMIT")
    assert e.value.pgcode == "PS001"
    cur.execute("ROLLBACK")
    assert db.one("SELECT count(*) FROM _prom_catalog.setting_override") == 0


def test_resolving_waits_for_deletion_and_makes_new_ids(db):
    old = db.resolve([series("m", x="1")])
    erase, again = db.connect(), db.connect()
    erase.autocommit = False
    erase.cursor().execute("SELECT _prom_catalog.delete_series_rows(%s)", (old.series,))
    thread, result = in_background(again, "SELECT generation, series_ids FROM _prom_catalog.resolve_series(0, '{m}',"
                                          " '{__name__,x}', '{m,1}', '{1}', '{2}', '{1,2}')")
    wait_until_blocked(db, again)
    erase.commit()
    thread.join(90)
    new_generation, new_ids = result[0][0]
    assert new_generation == old.generation + 1 and new_ids != old.series
    erase.close()
    again.close()


# ---- the feed ------------------------------------------------------------------------------------


def feed(db, cursor):
    return db.sql("SELECT generation, next_cursor::text, trimmed, deleted FROM _prom_catalog.feed(%s::xid8)", (cursor,))[0]


def test_feed_tells_of_deletions(db):
    ids = db.resolve([series("m", x=str(i)) for i in range(5)]).series
    gen, cursor, trimmed, deleted = feed(db, "0")
    assert trimmed and deleted == [], "a cursor that is older than the feed must say so"
    assert feed(db, cursor)[2:] == (False, [])
    assert db.one("SELECT _prom_catalog.delete_series_rows(%s)", ([ids[3], ids[1], -5],)) == 2
    gen2, cursor2, trimmed, deleted = feed(db, cursor)
    assert (gen2, trimmed, deleted) == (gen + 1, False, sorted([ids[1], ids[3]]))
    assert feed(db, cursor2)[3] == [] or feed(db, cursor2)[3] == deleted
    db.sql("SELECT pg_current_xact_id()")
    assert feed(db, feed(db, cursor2)[1])[3] == []


def test_feed_waits_for_open_transactions(db):
    """The cursor stays at the oldest transaction that may still write: nothing is passed over."""
    ids = db.resolve([series("m", x=str(i)) for i in range(3)]).series
    other, db2 = db.connect(), db.connect()
    other.autocommit = False
    other.cursor().execute("SELECT pg_current_xact_id()")
    cursor = feed(db, feed(db, "0")[1])[1]
    db.sql("SELECT _prom_catalog.delete_series_rows(%s)", (ids[:1],))
    later = feed(db, cursor)
    assert later[3] == ids[:1] and int(later[1]) <= int(cursor)
    other.cursor().execute("SELECT _prom_catalog.delete_series_rows(%s)", (ids[1:2],))
    other.commit()
    assert set(feed(db, later[1])[3]) >= set(ids[1:2])
    other.close()
    db2.close()


def test_feed_of_another_server_or_trimmed(db):
    _, cursor, _, _ = feed(db, "0")
    assert feed(db, str(int(cursor) + 1_000_000))[2], "a cursor from the future is of another server"
    db.sql("UPDATE _prom_catalog.state SET feed_floor = %s::xid8", (str(int(cursor) + 1),))
    assert feed(db, cursor)[2]
    assert not feed(db, str(int(cursor) + 1))[2] or int(cursor) + 1 > int(feed(db, "0")[1])


def follow(db, cursor, cur=None):
    sql = ("SELECT generation, next_cursor::text, trimmed, created, deleted"
           " FROM _prom_catalog.follow(%s::pg_snapshot)")
    if cur is None:
        return db.sql(sql, (cursor,))[0]
    cur.execute(sql, (cursor,))
    return cur.fetchone()


def test_follow_tells_everything_once(db):
    gen, cursor, trimmed, created, deleted = follow(db, "1:1:")
    assert trimmed and created == [] and deleted == []
    ids = db.resolve([series("m", x=str(i)) for i in range(5)]).series
    gen2, cursor2, trimmed, created, deleted = follow(db, cursor)
    assert (gen2, trimmed, sorted(created), deleted) == (gen, False, sorted(ids), [])
    assert follow(db, cursor2)[2:] == (False, [], [])
    db.sql("SELECT _prom_catalog.delete_series_rows(%s)", (ids[1:3],))
    assert follow(db, cursor2)[2:] == (False, [], sorted(ids[1:3]))
    assert sorted(follow(db, cursor)[3]) == sorted(ids) and sorted(follow(db, cursor)[4]) == sorted(ids[1:3])


def test_follow_beside_open_transactions(db):
    """What commits while another transaction stays open is told once, what that one does is told later."""
    slow = db.connect()
    slow.autocommit = False
    cursor = follow(db, "1:1:")[1]
    slow.cursor().execute("SELECT pg_current_xact_id()")
    seen = []
    for i in range(4):
        ids = db.resolve([series("m", x=str(i))]).series
        _, cursor, trimmed, created, _ = follow(db, cursor)
        assert not trimmed and created == ids, "told again, or not at all"
        seen += ids
    slow.cursor().execute("SELECT _prom_catalog.delete_series_rows(%s)", (seen[:1],))
    assert follow(db, cursor)[4] == []
    slow.commit()
    assert follow(db, cursor)[4] == seen[:1]
    slow.close()


def test_follow_in_an_old_snapshot(db):
    """The answer and the cursor are of the caller's snapshot."""
    old = db.connect()
    old.autocommit = False
    old.set_session(isolation_level="REPEATABLE READ")
    cur = old.cursor()
    cursor = follow(db, "1:1:", cur)[1]
    ids = db.resolve([series("m", x="1")]).series
    _, cursor, trimmed, created, _ = follow(db, cursor, cur)
    assert not trimmed and created == []
    old.commit()
    assert follow(db, cursor, cur)[3] == ids
    old.close()


def test_follow_of_another_server_or_trimmed(db):
    cursor = follow(db, "1:1:")[1]
    xmin, xmax = (int(x) for x in cursor.split(":")[:2])
    assert follow(db, f"{xmin + 1_000_000}:{xmax + 1_000_000}:")[2], "a cursor from the future"
    db.sql("UPDATE _prom_catalog.state SET feed_floor = %s::xid8", (str(xmin + 1),))
    assert follow(db, cursor)[2:] == (True, [], [])


def test_big_deletion(db):
    n = 20000
    db.sql("INSERT INTO _prom_catalog.series (tenant_id, metric_id, labels, digest)"
           " SELECT 0, 1, '{1}', gen_random_uuid() FROM generate_series(1, %s)", (n,))
    ids = db.column("SELECT id FROM _prom_catalog.series ORDER BY id")
    cursor = feed(db, feed(db, "0")[1])[1]
    assert db.one("SELECT _prom_catalog.delete_series_rows(%s::int8[])", (ids,)) == n
    assert feed(db, cursor)[3] == ids
    assert db.one("SELECT max(cardinality(series_ids)) FROM _prom_catalog.series_feed WHERE op = 'd'") == 8192
    assert db.one("SELECT _prom_catalog.delete_series_rows(%s::int8[])", (ids,)) == 0


# ---- metadata and exemplars ------------------------------------------------------------------------


def test_metadata_variants_are_capped(db):
    for i in range(25):
        db.sql("SELECT _prom_catalog.upsert_metadata(0, '{up,up,http}', ARRAY['gauge','gauge','counter'], '{s,s,s}',"
               " ARRAY[%s, %s, 'h'])", (f"help {i}", f"help {i}"))
    helps = db.column("SELECT help FROM _prom_catalog.metadata WHERE metric_family = 'up'")
    assert sorted(helps) == sorted(f"help {i}" for i in range(15, 25))
    assert db.one("SELECT count(*) FROM _prom_catalog.metadata WHERE metric_family = 'http'") == 1
    tenant = db.one("SELECT _prom_catalog.tenant_id('t')")
    db.sql("SELECT _prom_catalog.upsert_metadata(%s, '{up}', '{gauge}', '{s}', '{mine}')", (tenant,))
    assert db.column("SELECT help FROM _prom_catalog.metadata WHERE tenant_id = %s", (tenant,)) == ["mine"]


def test_metadata_said_again_is_not_written_again(db):
    say = "SELECT _prom_catalog.upsert_metadata(0, '{up}', '{gauge}', '{}'::text[] || ''::text, '{h}')"
    db.sql(say)
    before = db.sql("SELECT xmin::text, last_seen FROM _prom_catalog.metadata")
    db.sql(say)
    assert db.sql("SELECT xmin::text, last_seen FROM _prom_catalog.metadata") == before
    db.sql("UPDATE _prom_catalog.metadata SET last_seen = last_seen - interval '2 minutes'")
    db.sql(say)
    assert db.one("SELECT last_seen > %s FROM _prom_catalog.metadata", (before[0][1],))


def test_metadata_of_any_size_and_wrong_lengths(db):
    db.sql("SELECT _prom_catalog.upsert_metadata(0, ARRAY[repeat('f', 10000)], '{gauge}', '{s}', ARRAY[repeat('h', 100000)])")
    assert db.one("SELECT length(help) FROM _prom_catalog.metadata") == 100000
    with pytest.raises(psycopg2.Error) as e:
        db.sql("SELECT _prom_catalog.upsert_metadata(0, '{up,up}', '{gauge}', '{s}', '{h}')")
    assert e.value.pgcode == "22023"


def test_metadata_from_many_sessions(db):
    def say(number):
        conn = db.connect()
        rng = random.Random(number)
        for _ in range(15):
            families = [f"f{i}" for i in range(60)]
            rng.shuffle(families)
            conn.cursor().execute("SELECT _prom_catalog.upsert_metadata(0, %s, %s, %s, %s)",
                                  (families, ["gauge"] * 60, ["s"] * 60, [f"h{rng.randrange(3)}" for _ in families]))
        conn.close()
        done.append(number)
    done = []
    threads = [threading.Thread(target=say, args=(n,), daemon=True) for n in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(120)
    assert sorted(done) == [0, 1, 2, 3]
    assert db.one("SELECT count(*) FROM _prom_catalog.metadata") == 180


def test_exemplars_are_stored_once(db):
    call = ("SELECT _prom_catalog.insert_exemplars('{0,0,0}', '{1,1,1}', '{5,5,5}', '{7,7,8}',"
            " '{2024-01-01 00:00Z,2024-01-01 00:00Z,2024-01-01 00:00Z}', '{1.5,1.5,NaN}',"
            " ARRAY['{\"trace_id\":\"a\"}', '{\"trace_id\":\"b\"}', '{}']::jsonb[])")
    assert db.one(call) == 3
    assert db.one(call) == 0
    assert db.one("SELECT count(*) FROM _prom_data.exemplar") == 3
