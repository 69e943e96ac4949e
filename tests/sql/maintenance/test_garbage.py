"""Series without samples and labels without series disappear, and nobody loses a sample by it."""

import random
import sys
import threading
import time
from pathlib import Path

import psycopg2
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "catalog"))
from database import resolve_with, series
from store import DAY, bits


@pytest.fixture
def eager(store):
    store.sql("SELECT _prom_catalog.set_setting('series_grace', '0')")
    return store


def collect(store):
    """(series, labels) that went, of a whole round."""
    gone = [0, 0]
    for _ in range(50):
        r = store.row("SELECT * FROM _prom_catalog.collect_garbage(true)")
        gone[0] += r["series"]
        gone[1] += r["labels"]
        assert not r["waiting"]
        if not r["more"]:
            return tuple(gone)
    raise AssertionError("no end")


def ids(store):
    return [i for (i,) in store.sql("SELECT id FROM _prom_catalog.series ORDER BY id")]


def test_only_series_without_any_sample_go(eager):
    store = eager
    now = store.now_ms()
    r = resolve_with(store.conn, [series("m", i=str(i)) for i in range(8)] + [series("n", i="0")])
    m, s = r.metrics[0], r.series
    old = now - 40 * DAY
    store.flush([(0, m, s[0], now, bits(1.0)), (0, m, s[1], old, bits(1.0))])
    store.force()  # sealed: one today, one long ago
    s_after = ids(store)
    assert s_after == sorted(s[:2]), "those without samples went with the round"
    r = resolve_with(store.conn, [series("m", i=str(i)) for i in range(8)] + [series("n", i="0")])
    s = r.series
    store.flush([(0, m, s[2], old - DAY, bits(1.0))])
    store.merge()
    store.flush([(0, m, s[3], now, bits(1.0))])
    store.flush([(0, m, s[4], old, bits(1.0))], packed=[m])
    store.sql("SELECT _prom_catalog.insert_exemplars('{0}', ARRAY[%s], '{5}', ARRAY[%s], ARRAY[now()], '{1}',"
              " ARRAY[jsonb '{}'])", (m, s[5]))
    before = store.one("SELECT generation FROM _prom_catalog.state")
    cursor = store.one("SELECT next_cursor FROM _prom_catalog.feed('0')")
    assert collect(store) == (3, 3)  # i=6, i=7 of m and their labels; n with its name, whose label i=0 is m's, too
    assert ids(store) == sorted(s[:6])
    assert store.one("SELECT generation FROM _prom_catalog.state") == before + 1
    assert sorted(store.row("SELECT deleted FROM _prom_catalog.feed(%s)", (cursor,))["deleted"]) == sorted(s[6:])
    assert store.sql("SELECT value FROM _prom_catalog.label ORDER BY value") == [(v,) for v in (*"012345", "m")]
    assert store.sql("SELECT metric_name FROM _prom_catalog.metric ORDER BY 1") == [("m",), ("n",)]
    assert collect(store) == (0, 0)
    assert store.one("SELECT generation FROM _prom_catalog.state") == before + 1
    again = resolve_with(store.conn, [series("m", i="7"), series("n", i="0")])
    assert not set(again.series) & set(s) and again.metrics[0] == m


def test_young_series_are_left_alone(store):
    resolve_with(store.conn, [series("m", i="1")])
    store.force()
    assert len(ids(store)) == 1
    store.sql("UPDATE _prom_catalog.series_age SET noted_at = noted_at - interval '13 hours'")
    young = resolve_with(store.conn, [series("m", i="2")]).series
    if young[0] <= store.one("SELECT max(last_id) FROM _prom_catalog.series_age"):
        store.sql("UPDATE _prom_catalog.series_age SET last_id = %s", (young[0] - 1,))  # the id was in this session's stock
    store.force()
    assert ids(store) == young


def test_once_a_day_is_enough(eager):
    store = eager
    resolve_with(store.conn, [series("m", i="1")])
    assert store.row("SELECT * FROM _prom_catalog.collect_garbage(false)")["series"] == 1
    resolve_with(store.conn, [series("m", i="2")])
    assert store.row("SELECT * FROM _prom_catalog.collect_garbage(false)")["series"] == 0
    store.sql("UPDATE _prom_catalog.garbage_round SET begun_at = begun_at - interval '25 hours'")
    assert store.row("SELECT * FROM _prom_catalog.collect_garbage(false)")["series"] == 1
    # a round that began while the clock was ahead
    while store.row("SELECT * FROM _prom_catalog.collect_garbage(false)")["more"]:
        pass
    store.sql("UPDATE _prom_catalog.garbage_round SET begun_at = now() + interval '1 year'")
    store.sql("INSERT INTO _prom_catalog.series_age VALUES (now() + interval '1 year', 1)")
    resolve_with(store.conn, [series("m", i="3")])
    assert store.row("SELECT * FROM _prom_catalog.collect_garbage(false)")["series"] == 1
    assert store.one("SELECT max(noted_at) <= now() FROM _prom_catalog.series_age")


def test_many_series_go_in_bounded_steps(eager):
    store = eager
    for k in range(5):
        resolve_with(store.conn, [series("m", i=str(k * 5000 + i)) for i in range(5000)])
    steps = []
    while True:
        r = store.row("SELECT * FROM _prom_catalog.collect_garbage(true)")
        steps.append(r["series"])
        if not r["more"]:
            break
    assert sum(steps) == 25000 and max(steps) == 10000
    assert store.one("SELECT count(*) FROM _prom_catalog.label") == 0


def test_a_flush_under_way_keeps_its_series(server, eager):
    """A flush that holds the guard is not disturbed; the round comes back later and sees its sample."""
    store = eager
    r = resolve_with(store.conn, [series("m", i="1"), series("m", i="2")])
    other = server.connect(store.database)
    cur = other.cursor()
    cur.execute("BEGIN; SELECT _prom_catalog.guard(%s)", (r.generation,))
    cur.execute(store.statements([(0, r.metrics[0], [(r.metrics[0], r.series[0], store.now_ms(), bits(1.0))])]))
    assert store.row("SELECT series, waiting FROM _prom_catalog.collect_garbage(true)") == {"series": 0, "waiting": True}
    cur.execute("COMMIT")
    other.close()
    assert store.row("SELECT series, waiting FROM _prom_catalog.collect_garbage(true)") == {"series": 1, "waiting": False}
    assert ids(store) == [r.series[0]]


def test_damage_keeps_series(eager):
    store = eager
    r = resolve_with(store.conn, [series("m", i="1"), series("n", i="1")])
    store.flush([(0, r.metrics[0], r.series[0], store.now_ms(), bits(1.0))])
    store.sql("UPDATE _prom_data.fresh SET data = set_byte(data, octet_length(data) - 1,"
              " get_byte(data, octet_length(data) - 1) # 255)")
    store.merge()
    assert store.one("SELECT count(*) FROM _prom_catalog.maintenance_error") == 1
    collect(store)
    assert ids(store) == [r.series[0]]


def test_writers_lose_nothing_beside_it(server, eager):
    """Writers keep ids as connectors do, and resolve again when the guard says so; retention takes their samples, and
    rounds of garbage the series, at any moment. What was acknowledged belongs to a series that exists."""
    store = eager
    store.sql("SELECT _prom_catalog.set_setting('retention_period', '0')")
    names = [series("m", i=str(i)) for i in range(6)]
    stop, acked, errors, repeats = threading.Event(), [], [], []

    def write(seed):
        rng = random.Random(seed)
        conn = server.connect(store.database)
        known, generation = {}, 0
        try:
            while not stop.is_set():
                i = rng.randrange(len(names))
                t = store_now + len(acked)
                for _ in range(20):
                    if i not in known:
                        r = resolve_with(conn, [names[i]])
                        if r.generation != generation:
                            known.clear()
                        generation, known[i] = r.generation, (r.metrics[0], r.series[0])
                    metric, s = known[i]
                    text = store.statements([(0, metric, [(metric, s, t, bits(1.0))])])
                    try:
                        with conn.cursor() as cur:
                            cur.execute(f"BEGIN; SELECT _prom_catalog.guard({generation}); {text}; COMMIT")
                        acked.append((s, t))
                        break
                    except psycopg2.Error as e:
                        conn.cursor().execute("ROLLBACK")
                        if e.pgcode not in ("PS001", "40001", "40P01"):
                            raise
                        repeats.append(e.pgcode)
                        known.clear()
        except Exception as e:  # noqa: told by the test
            errors.append(e)
        finally:
            conn.close()

    store_now = store.now_ms()
    threads = [threading.Thread(target=write, args=(k,)) for k in range(2)]
    for t in threads:
        t.start()
    gone = deleted = rounds = 0
    deadline = time.monotonic() + 120
    while rounds < 60 or time.monotonic() < deadline and not (gone > 5 and deleted > 5 and "PS001" in repeats):
        rounds += 1
        store.merge()
        with store.conn.cursor() as cur:  # what retention would have taken
            cur.execute("BEGIN; SELECT pg_advisory_xact_lock(x'50524f4d00000002'::int8);"
                        " DELETE FROM _prom_data.merged RETURNING id")
            deleted += cur.rowcount
            cur.execute("SELECT _prom_catalog.recount_presence(); COMMIT")
        gone += store.row("SELECT * FROM _prom_catalog.collect_garbage(true)")["series"]
    stop.set()
    for t in threads:
        t.join()
    assert not errors and gone > 5 and deleted > 5 and "PS001" in repeats
    alive = set(ids(store))
    left = {s for _, _, _, _, s, _, _ in store.rows()}
    assert left <= alive
    store.merge()
    assert {s for _, _, _, _, s, _, _ in store.rows()} <= alive


def test_an_old_snapshot_deletes_nothing(server, eager):
    """Under a snapshot from before the guard lock a sample that has just been stored would not be seen."""
    store = eager
    r = resolve_with(store.conn, [series("m", i="0")])
    other = server.connect(store.database)
    cur = other.cursor()
    cur.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM _prom_catalog.metric")
    generation = store.one("SELECT _prom_catalog.generation()")
    text = store.statements([(0, r.metrics[0], [(r.metrics[0], r.series[0], store.now_ms(), bits(1.0))])])
    store.sql(f"BEGIN; SELECT _prom_catalog.guard({generation}); {text}; COMMIT")  # acknowledged
    try:
        cur.execute("SELECT * FROM _prom_catalog.run_step('expire_series', true)")
        cur.execute("COMMIT")
    except psycopg2.errors.ActiveSqlTransaction:
        cur.execute("ROLLBACK")
    other.close()
    assert ids(store) == r.series


def test_nothing_goes_while_nobody_knows_which_series_live(eager):
    store = eager
    r = resolve_with(store.conn, [series("m", i="0")])
    store.flush([(0, r.metrics[0], r.series[0], store.now_ms(), bits(1.0))])
    store.merge()
    store.sql("DELETE FROM _prom_data.presence")  # as if the blocks alone had been restored
    collect(store)
    assert ids(store) == r.series


def test_all_series_are_looked_at_once_for_many_labels(eager):
    """12000 labels go in three transactions; one look tells which of them are used."""
    store = eager
    for k in range(4):
        resolve_with(store.conn, [series("m", i=str(k * 3000 + i)) for i in range(3000)])
    kept = resolve_with(store.conn, [series("m", i="0", kept="1")])
    store.flush([(0, kept.metrics[0], kept.series[0], store.now_ms(), bits(1.0))])
    left = []
    while True:
        r = store.row("SELECT * FROM _prom_catalog.collect_garbage(true)")
        left.append(store.sql("SELECT count(*), count(*) FILTER (WHERE looked) FROM _prom_catalog.label_suspect")[0])
        if not r["more"]:
            break
    # a suspect that was looked at is not looked for again: the labels of a new series stay all the same
    assert (6999, 6999) in left and (1999, 1999) in left and left[-1] == (0, 0)
    assert store.one("SELECT count(*) FROM _prom_catalog.label") == 3


def test_a_label_that_is_used_again_after_the_look_stays(eager):
    store = eager
    for k in range(4):
        resolve_with(store.conn, [series("m", i=str(k * 3000 + i)) for i in range(3000)])
    while store.one("SELECT count(*) FROM _prom_catalog.label_suspect WHERE looked") == 0:
        store.sql("SELECT * FROM _prom_catalog.collect_garbage(true)")
    last = store.one("SELECT value FROM _prom_catalog.label WHERE id = (SELECT max(id) FROM _prom_catalog.label_suspect)")
    again = resolve_with(store.conn, [series("m", i=last)])
    store.flush([(0, again.metrics[0], again.series[0], store.now_ms(), bits(1.0))])
    collect(store)
    assert store.sql("SELECT value FROM _prom_catalog.label ORDER BY value") == [(last,), ("m",)]
    assert store.one("SELECT prom_api.jsonb(labels)::text FROM _prom_catalog.series") == f'{{"i": "{last}", "__name__": "m"}}'


def test_nobody_waits_for_it_where_much_is_stored(eager):
    store = eager
    r = resolve_with(store.conn, [series("m", i="1")])
    store.sql("CREATE OR REPLACE FUNCTION _prom_catalog.fold_presses() RETURNS bool LANGUAGE sql AS 'SELECT true'")
    for _ in range(2):
        assert store.row("SELECT series, waiting FROM _prom_catalog.collect_garbage(true)") == {"series": 0, "waiting": True}
    assert ids(store) == r.series
    assert store.sql("SELECT locktype FROM pg_locks WHERE locktype = 'advisory'") == []
    store.sql("CREATE OR REPLACE FUNCTION _prom_catalog.fold_presses() RETURNS bool LANGUAGE sql AS 'SELECT false'")
    assert collect(store) == (1, 2)
