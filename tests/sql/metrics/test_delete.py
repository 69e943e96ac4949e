"""delete_series(): samples by selector and time, out of blocks of every form, against a plain model."""
import random
import threading

import psycopg2
import pytest

from conftest import HOUR
from test_drop import bucket, error

TABLES = {"fresh": "flush", "merged": "merged", "block": "sealed", "block_far": "sealed"}


def shown(db, metric):
    return {(s, t): v for s, t, v in db.sql(
        f'SELECT series_id, (extract(epoch FROM time) * 1000)::int8, value FROM prom_metric."{metric}"')}


class Model:
    """Metrics m0 to m2, of three series each, with samples in all tables; samples[(series, t)] = value."""

    def __init__(self, db, seed):
        self.db = db
        self.rng = random.Random(seed)
        self.metrics, self.series = {}, {}
        for name in ("m0", "m1", "m2"):
            for host in "abc":
                self.metrics[name], s = db.make(name, host=host)
                self.series[s] = (name, host)
        self.start = db.now_ms() // HOUR * HOUR - 5 * HOUR
        db.sql("SELECT _prom_catalog.ensure_partitions()")
        self.samples = {}
        for _ in range(12):
            self.put()

    def put(self):
        table = self.rng.choice(list(TABLES))
        packed = table == "fresh" and self.rng.random() < 0.5
        names = self.rng.choice(list(self.metrics))
        chosen = {names} if not packed else {n for n in self.metrics
                                             if bucket(self.metrics[n]) == bucket(self.metrics[names])}
        at = self.start + self.rng.randrange(4) * HOUR
        rows = [(self.metrics[n], s, at + i * self.rng.choice((1000, 1007)), float(self.rng.randrange(1000)))
                for s, (n, _) in self.series.items() if n in chosen and self.rng.random() < 0.8
                for i in range(self.rng.randrange(1, 300))]
        rows = list({(r[1], r[2]): r for r in rows}.values())
        if not rows:
            return
        if table == "block" and not self.db.one(
                "SELECT EXISTS (SELECT FROM pg_class WHERE relname = 'block_' ||"
                " to_char(to_timestamp(%s) AT TIME ZONE 'UTC', 'YYYYMMDD'))", (at / 1000,)):
            self.db.partition(at)
        self.db.block(table, bucket(self.metrics[names]) if packed else self.metrics[names], rows, TABLES[table])

    def look(self):
        return {k: v for name in self.metrics for k, v in shown(self.db, name).items()}


def bounds(rng, samples):
    times = sorted(t for _, t in samples)
    a, b = sorted((rng.choice(times), rng.choice(times)))
    return rng.choice(((a, b), (a, a), (None, b), (a, None), (a - 1, b + 1), (times[0] - 5000, times[0] - 1)))


@pytest.mark.parametrize("seed", range(6))
def test_what_goes_and_what_stays(db, seed):
    m = Model(db, seed)
    before = m.look()
    db.sql("SELECT _prom_catalog.recount()")  # rows were put there by hand
    assert len(before) > 100
    for turn in range(4):
        if not before:
            break
        name, host = m.rng.choice(list(m.metrics)), m.rng.choice(("a", "b", "a|c"))
        start, stop = bounds(m.rng, before)
        if start is None and stop is None:
            start = 0
        erased = db.one(
            "SELECT prom_api.delete_series(%s, coalesce(to_timestamp(%s::numeric / 1000), '-infinity'),"
            " coalesce(to_timestamp(%s::numeric / 1000), 'infinity'))",
            (f'{name}{{host=~"{host}"}}', start, stop))
        gone = {k for k in before if m.series[k[0]][0] == name and m.series[k[0]][1] in host.split("|")
                and (start is None or k[1] >= start) and (stop is None or k[1] <= stop)}
        left = {k: v for k, v in before.items() if k not in gone}
        after = m.look()
        assert after == left, (turn, start, stop)  # values, too: the same writes win
        assert erased >= len(gone)  # of doubles each counts
        assert db.one("SELECT _prom_catalog.recount()") == 0  # prom_info says what is there
        if turn == 1:
            db.maintain()
            assert m.look() == left
        before = after


def test_the_first_write_still_wins(db):
    """Half of a block goes; what it kept out by its precedence stays out."""
    metric, s = db.make("m")
    at = db.now_ms() - HOUR
    db.block("merged", metric, [(metric, s, at + i, 1.0) for i in range(10)], "merged")
    db.block("fresh", metric, [(metric, s, at + i, 2.0) for i in range(20)])
    db.block("fresh", metric, [(metric, s, at + i, 3.0) for i in range(30)])
    ids = db.sql("SELECT id FROM _prom_data.fresh ORDER BY id")
    assert db.one("SELECT delete_series('m', to_timestamp(%s), to_timestamp(%s))",
                  (at / 1000, (at + 4) / 1000)) == 15
    assert shown(db, "m") == {(s, at + i): 1.0 if i < 10 else 2.0 if i < 20 else 3.0 for i in range(5, 30)}
    assert db.sql("SELECT id FROM _prom_data.fresh ORDER BY id") == ids
    db.maintain()
    assert shown(db, "m") == {(s, at + i): 1.0 if i < 10 else 2.0 if i < 20 else 3.0 for i in range(5, 30)}


def test_all_time_takes_the_series(db):
    metric, s = db.make("m", a="1")
    _, other = db.make("m", a="2")
    at = db.now_ms() - HOUR
    db.block("fresh", metric, [(metric, i, at, 1.0) for i in sorted((s, other))])
    db.sql("SELECT _prom_catalog.insert_exemplars('{0,0}', ARRAY[%s, %s], '{5,5}', ARRAY[%s, %s],"
           " '{2024-01-01,2024-01-01}', '{1,1}', ARRAY[jsonb '{}', '{}'])", (metric, metric, s, other))
    generation = db.one("SELECT _prom_catalog.generation()")
    assert db.one("SELECT delete_series(ARRAY['m{a=\"1\"}', '{a=~\"1\"}'])") == 1
    assert shown(db, "m") == {(other, at): 1.0}
    assert db.column("SELECT id FROM _prom_catalog.series WHERE metric_id = %s", (metric,)) == [other]
    assert db.column("SELECT series_id FROM _prom_data.exemplar") == [other]
    assert db.one("SELECT _prom_catalog.generation()") > generation  # ids that connectors know are void
    assert db.one("SELECT delete_series('m', now() - interval '1 day')") == 1
    assert db.column("SELECT id FROM _prom_catalog.series WHERE metric_id = %s", (metric,)) == [other]


def test_exemplars_go_by_time(db):
    metric, s = db.make("m")
    db.sql("SELECT _prom_catalog.insert_exemplars('{0,0}', ARRAY[%s, %s], '{5,5}', ARRAY[%s, %s],"
           " '{2024-01-01,2024-01-02}', '{1,1}', ARRAY[jsonb '{}', '{}'])", (metric, metric, s, s))
    db.sql("SELECT delete_series('m', '2024-01-01', '2024-01-01 12:00')")
    assert db.column("SELECT time::date::text FROM _prom_data.exemplar") == ["2024-01-02"]


def test_what_is_refused(db):
    db.make("m")
    assert error(db, "SELECT delete_series('m{')") == "42601"
    assert error(db, "SELECT delete_series('rate(m[5m])')") == "42601"
    assert error(db, "SELECT delete_series('{a=~\".*\"}')") == "22023"
    assert error(db, "SELECT delete_series('{}'::text[])") == "22023"
    with pytest.raises(psycopg2.Error) as e:
        db.sql("SELECT delete_series('m', '2024-01-02', '2024-01-01')")
    assert e.value.pgcode == "22023"
    assert db.one("SELECT delete_series('nothing_like_this')") == 0
    conn = db.connect()
    conn.autocommit = False
    cur = conn.cursor()
    cur.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    with pytest.raises(psycopg2.Error) as e:
        cur.execute("SELECT prom_api.delete_series('m')")
    assert e.value.pgcode == "25001"
    conn.close()


def test_by_role(db):
    metric, s = db.make("m")
    db.block("fresh", metric, [(metric, s, db.now_ms() - HOUR, 1.0)])
    for role, allowed in (("prom_writer", False), ("prom_reader", False), ("prom_modifier", True)):
        db.sql(f"SET ROLE {role}")
        if allowed:
            assert db.one("SELECT delete_series('m')") == 1
        else:
            with pytest.raises(psycopg2.Error) as e:
                db.sql("SELECT delete_series('m')")
            assert e.value.pgcode == "42501"
        db.sql("RESET ROLE")


def test_a_damaged_block_is_named(db):
    metric, s = db.make("m")
    db.block("fresh", metric, [(metric, s, db.now_ms() - HOUR, 1.0)])
    db.sql("UPDATE _prom_data.fresh SET data = set_byte(data, 20, get_byte(data, 20) # 1)")
    with pytest.raises(psycopg2.Error) as e:
        db.sql("SELECT delete_series('m')")
    assert e.value.pgcode == "XX001"
    assert db.count("_prom_data.fresh") == 1 and db.count("_prom_catalog.series") == 1


def test_waits_for_maintenance(db):
    metric, s = db.make("m")
    db.block("fresh", metric, [(metric, s, db.now_ms() - HOUR, 1.0)])
    busy = db.connect()
    busy.autocommit = False
    busy.cursor().execute("SELECT pg_advisory_xact_lock(x'50524f4d00000002'::int8)")
    erased = []
    thread = threading.Thread(target=lambda: erased.append(db.one("SELECT delete_series('m')")))
    thread.start()
    thread.join(1)
    assert thread.is_alive() and erased == []
    busy.rollback()
    thread.join(90)
    assert erased == [1]
    busy.close()
