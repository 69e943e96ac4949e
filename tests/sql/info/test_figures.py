"""Figures that maintenance keeps are those of the rows: after any sequence of steps, by another computation."""
import random
from collections import defaultdict

import psycopg2
import pytest

from database import series
from store import DAY, HOUR, bits

WIDTH = 8 * HOUR
KEEPS = "SELECT _prom_catalog.set_setting('retention_period', '0'), _prom_catalog.set_setting('retention_grace', '0')"


def rows_of(db, table):
    return db.sql("SELECT metric_id, tenant_id, (extract(epoch FROM t_min) * 1000)::int8, (extract(epoch FROM t_max) * 1000)::int8,"
                  f" n_samples, octet_length(data) FROM _prom_data.{table}")


def expected_days(db):
    """metric_day as it should be, without the extension's own SQL."""
    want = defaultdict(lambda: [0] * 8)
    for table, at in (("merged", 0), ("block", 1), ("block_far", 1)):
        for metric, tenant, t_min, t_max, n, size in rows_of(db, table):
            day = t_min // DAY
            hours = sum(1 << h for h in range(24) if day * DAY + (h + 1) * HOUR > t_min and day * DAY + h * HOUR <= t_max)
            w = want[(metric, day, tenant)]
            w[at] += 1
            w[2 + at] |= hours
            w[4 + at] += n
            w[6 + at] += size
    return {k: tuple(v) for k, v in want.items()}


def kept_days(db):
    rows = db.sql("SELECT metric_id, day - date '1970-01-01', tenant_id, merged_rows, sealed_rows, merged_hours, sealed_hours,"
                  " merged_samples, sealed_samples, merged_bytes, sealed_bytes FROM _prom_catalog.metric_day")
    return {r[:3]: r[3:] for r in rows}


def check_days(db):
    assert kept_days(db) == expected_days(db)


def check_views(store, exact_chunks=True):
    """prom_info.metric against samples that were decoded outside of the extension."""
    stored = store.rows()
    samples, windows, is_open = defaultdict(int), defaultdict(set), defaultdict(set)
    for level, _, _, metric, _, t_ms, _ in stored:
        samples[metric] += 1
        windows[metric].add(t_ms // WIDTH)
        if level < 2:
            is_open[metric].add(t_ms // WIDTH)
    got = {r[0]: r[1:] for r in store.sql("SELECT id, num_samples, total_chunks, compressed_chunks FROM prom_info.metric")}
    one = {r[0]: r[1:] for i in got for r in store.sql(
        "SELECT id, num_samples, total_chunks, compressed_chunks FROM prom_info.metric WHERE id = %s", (i,))}
    assert got == one
    for metric, (n, total, closed) in got.items():
        assert n == samples[metric], metric
        if exact_chunks:
            assert (total, closed) == (len(windows[metric]), len(windows[metric] - is_open[metric])), metric
        else:
            assert len(windows[metric]) <= total and closed <= total, metric


class Writer:
    """Random flushes of real series; some metrics share rows."""

    def __init__(self, db, store, rng, anchors):
        self.store, self.rng = store, rng
        names = [f"m{i}" for i in range(6)]
        sets = [series(n, job=f"j{j}", instance=f"i{i}") for n in names for j in range(2) for i in range(3)]
        tenant = db.one("SELECT _prom_catalog.tenant_id('acme')")
        ids = {0: db.resolve(sets).series, tenant: db.resolve(sets, tenant=tenant).series}
        self.metrics = dict(db.sql("SELECT metric_name, id FROM _prom_catalog.metric"))
        self.series = [(t, self.metrics[s["__name__"]], i) for t, found in ids.items() for s, i in zip(sets, found)]
        self.now = store.now_ms()
        self.anchors = [self.now + a for a in anchors]

    def write(self, n=None):
        batch = {}
        for _ in range(n or self.rng.choice([1, 5, 40])):
            t = self.rng.choice(self.anchors) + self.rng.randint(-4, 4) * self.rng.choice([1, 60_000])
            batch.setdefault((*self.rng.choice(self.series), t), bits(float(self.rng.randint(0, 3))))
        packed = [m for m in self.metrics.values() if self.rng.random() < 0.5]
        self.store.flush([(*k, b) for k, b in batch.items()], packed)


def step(db, store, w):
    rng, kind = w.rng, w.rng.random()
    metric = rng.choice(list(w.metrics.values()))
    if kind < 0.45:
        store.merge(rng.choice([1, 400, 1 << 25]))
    elif kind < 0.75:
        store.seal(rng.random() < 0.8, rng.choice([1, 500, 1 << 26]))
    elif kind < 0.80:
        db.sql("SELECT _prom_catalog.set_setting('chunk_interval', %s)", (rng.choice(["8 hours", "1 hour", "1 day"]),))
    elif kind < 0.90:
        period = rng.choice([None, "0", "2 hours", "30 hours", "4 days"])
        db.sql("UPDATE _prom_catalog.metric SET retention_period = %s WHERE id = %s", (period, metric))
        db.sql("SELECT _prom_catalog.set_setting('retention_period', %s)", (rng.choice(["0", "5 days", "3 days", "90 days"]),))
        db.sql("SELECT * FROM _prom_catalog.apply_retention()")
    elif kind < 0.95:
        for table in ("fresh", "merged", "block", "block_far"):
            db.sql(f"DELETE FROM _prom_data.{table} WHERE metric_id = %s", (metric,))
        db.sql("SELECT _prom_catalog.forget_figures(%s)", (metric,))
    else:
        db.sql("DELETE FROM _prom_data.block WHERE id % 3 = 0")
        db.sql("DELETE FROM _prom_data.merged WHERE id %% 5 = 0 AND metric_id = %s", (metric,))
        db.sql("SELECT _prom_catalog.recount()")


@pytest.mark.parametrize("seed", range(5))
def test_figures_stay_right(db, store, seed):
    """Times of all ages: old days are merged and sealed as wholes, far ones go to block_far."""
    rng = random.Random(seed)
    w = Writer(db, store, rng, [0, 0, -HOUR, -3 * HOUR, -9 * HOUR, -26 * HOUR, -4 * DAY, -4 * DAY - 7 * HOUR, -600 * DAY, 4 * DAY])
    db.sql(KEEPS)
    for n in range(120):
        w.write()
        for _ in range(rng.choice([0, 1, 2])):
            step(db, store, w)
            check_days(db)
        if n % 30 == 0:
            db.sql("SELECT _prom_catalog.set_setting('chunk_interval', '8 hours')")
            check_views(store, exact_chunks=False)
    assert kept_days(db)
    assert db.one("SELECT _prom_catalog.recount()") == 0
    store.force()
    check_days(db)
    assert all(row[0] == 0 and row[2] == 0 for row in kept_days(db).values())


@pytest.mark.parametrize("seed", range(2))
def test_chunks_are_counted_by_their_samples(db, store, seed):
    rng = random.Random(100 + seed)
    w = Writer(db, store, rng, [0, -HOUR, -5 * HOUR, -9 * HOUR, -17 * HOUR])
    for n in range(30):
        w.write()
        rng.choice([store.merge, store.merge, store.seal, lambda: None])()
        if n % 3 == 0:
            check_views(store)
    store.force()
    check_views(store)


def test_a_failed_step_changes_no_figures(db, store):
    w = Writer(db, store, random.Random(1), [-2 * HOUR])
    w.write(40)
    store.merge()
    before = kept_days(db)
    assert before
    w.write(40)
    db.sql("CREATE FUNCTION public.no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no' USING ERRCODE = 'XX001'; END $$")
    db.sql("CREATE TRIGGER no BEFORE INSERT ON _prom_data.merged FOR EACH ROW EXECUTE FUNCTION public.no()")
    with pytest.raises(psycopg2.Error):
        store.merge()
    assert kept_days(db) == before
    db.sql("DROP TRIGGER no ON _prom_data.merged")
    store.merge()
    check_days(db)
    # a window that cannot be sealed stays merged, the others are sealed; the figures say so
    victim = w.metrics["m1"]
    store.sql("SELECT _prom_catalog.ensure_partitions()")
    # it fails late, when its sealed rows are written
    db.sql("CREATE OR REPLACE FUNCTION public.no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
           f" IF old.metric_id = {victim} THEN RAISE 'no' USING ERRCODE = 'XX001'; END IF; RETURN old; END $$")
    db.sql("CREATE TRIGGER no BEFORE DELETE ON _prom_data.merged FOR EACH ROW EXECUTE FUNCTION public.no()")
    got = store.seal()
    assert got["failed"] > 0 and got["samples"] > 0
    check_days(db)
    left = {k[0] for k, v in kept_days(db).items() if v[0] > 0}
    assert left == {victim}


def test_damaged_blocks_go_back_and_are_not_counted_twice(db, store):
    w = Writer(db, store, random.Random(2), [-2 * HOUR])
    for _ in range(3):
        w.write(40)
        store.merge()
    db.sql("UPDATE _prom_data.merged SET data = set_byte(data, octet_length(data) - 1, 255 - get_byte(data, octet_length(data) - 1))"
           " WHERE metric_id = %s", (w.metrics["m2"],))
    for _ in range(20):
        w.write(40)
        store.merge()
        check_days(db)
    assert db.one("SELECT count(*) FROM _prom_catalog.maintenance_error") > 0
    store.seal()
    check_days(db)


def test_retention_of_whole_days(db, store):
    """A dropped partition takes its figures along; what lies of that day in other tables keeps its own."""
    ids = db.resolve([series("a"), series("b")])
    now = store.now_ms()
    day = now // DAY * DAY - 10 * DAY
    db.sql(KEEPS)
    store.flush([(0, m, s, day + h * HOUR, bits(1.0)) for m, s in zip(ids.metrics, ids.series) for h in range(5)])
    store.force()
    assert {r[0] for r in rows_of(db, "block")} == set(ids.metrics)
    db.block("block_far", ids.metrics[0], [(ids.metrics[0], ids.series[0], day + 23 * HOUR + HOUR - 1, 1.0)], "sealed")
    store.flush([(0, ids.metrics[1], ids.series[1], day + 12 * HOUR, bits(1.0))])
    store.merge()
    db.sql("SELECT _prom_catalog.recount()")
    check_days(db)
    db.sql("SELECT _prom_catalog.set_setting('retention_period', '9 days')")
    # the rows of that day in other tables are young enough, as far as retention can tell
    db.sql("UPDATE _prom_data.block_far SET t_max = date_trunc('second', now()) WHERE metric_id = %s", (ids.metrics[0],))
    db.sql("ALTER TABLE _prom_data.merged DROP CONSTRAINT merged_within_a_day;"
           " UPDATE _prom_data.merged SET t_max = date_trunc('second', now())")
    db.sql("SELECT _prom_catalog.recount()")
    assert db.sql("SELECT partitions, rows FROM _prom_catalog.apply_retention()") == [(1, 0)]
    days = kept_days(db)
    assert {k[0]: v[:2] for k, v in days.items()} == {ids.metrics[0]: (0, 1), ids.metrics[1]: (1, 0)}
    assert db.one("SELECT _prom_catalog.recount()") == 0


def test_recount_repairs(db, store):
    w = Writer(db, store, random.Random(3), [-2 * HOUR, -30 * HOUR])
    w.write(40)
    store.merge()
    store.seal()
    want = kept_days(db)
    some = min(want)[0]
    wrong = sum(1 for k in want if k[0] == some)
    db.sql("UPDATE _prom_catalog.metric_day SET sealed_samples = sealed_samples + 1 WHERE metric_id = %s", (some,))
    db.sql("INSERT INTO _prom_catalog.metric_day (metric_id, day, tenant_id) VALUES (%s, '1999-01-01', 0)", (some,))
    assert db.one("SELECT _prom_catalog.recount(%s)", (some + 1,)) == 0
    assert db.one("SELECT _prom_catalog.recount(%s)", (some,)) == wrong + 1
    assert kept_days(db) == want
    with pytest.raises(psycopg2.Error) as e:
        db.sql("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT _prom_catalog.recount()")
    assert e.value.pgcode == "25001"
    db.sql("ROLLBACK")


def test_figures_that_are_missing_are_counted(db, store):
    """As after a restore of the blocks alone."""
    w = Writer(db, store, random.Random(4), [-2 * HOUR, -30 * HOUR])
    w.write(40)
    store.force()
    want = kept_days(db)
    db.sql("DELETE FROM _prom_catalog.metric_day; UPDATE _prom_catalog.job SET next_run = now()")
    db.sql("CALL prom_api.execute_maintenance()")
    assert kept_days(db) == want


def test_a_reader_counts_each_sample_once(db, store):
    """Before, during and after a fold: one snapshot, one figure."""
    ids = db.resolve([series("m", i=str(i)) for i in range(4)])
    t0 = store.now_ms() - HOUR
    for i in range(10):
        store.flush([(0, ids.metrics[0], s, t0 + i * 1000, bits(1.0)) for s in ids.series])
    old = db.connect()
    ask = "SELECT num_samples, total_chunks - compressed_chunks FROM prom_info.metric"
    cur, now = old.cursor(), db.connect().cursor()
    cur.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    cur.execute(ask)
    assert cur.fetchall()[0][0] == 40
    fold = db.connect()
    fold.autocommit = False
    working = fold.cursor()
    working.execute("SELECT samples FROM _prom_ext.merge_step()")
    assert working.fetchall() == [(40,)]
    for c in (cur, now):
        c.execute(ask)
        assert c.fetchall()[0][0] == 40
    fold.commit()
    for c in (cur, now):
        c.execute(ask)
        assert c.fetchall()[0][0] == 40
    for c in (old, now.connection, fold):
        c.close()


def test_conflicts_by_metric(db, store):
    ids = db.resolve([series("a"), series("b"), series("c")])
    metrics, (a, b, c) = ids.metrics, ids.series
    t = store.now_ms() - HOUR
    store.flush([(0, metrics[0], a, t, bits(1.0)), (0, metrics[1], b, t, bits(1.0)), (0, metrics[2], c, t, bits(1.0))])
    store.flush([(0, metrics[0], a, t, bits(2.0)), (0, metrics[1], b, t, bits(1.0))])
    store.merge()
    ask = "SELECT metric_name, num_duplicates, num_conflicts FROM prom_info.metric_stats ORDER BY 1"
    assert db.sql(ask) == [("a", 0, 1), ("b", 1, 0), ("c", 0, 0)]
    db.sql("SELECT _prom_catalog.count_conflicts(%s, 5, 7)", (metrics[2],))
    db.sql("SELECT _prom_catalog.count_conflicts(%s, 1, 1)", (metrics[2],))
    db.sql("SELECT _prom_catalog.count_conflicts(%s, 0, 0)", (metrics[2],))
    assert db.one("SELECT count(*) FROM _prom_catalog.metric_conflict") == 4
    assert db.sql(ask)[2] == ("c", 6, 8)
    # found by the seal, not by the fold: two merged rows of one window
    store.flush([(0, metrics[0], a, t, bits(3.0))])
    store.merge()
    store.seal()
    store.force()
    assert db.sql(ask)[0] == ("a", 0, 2)
    assert db.one("SELECT count(*) FROM _prom_catalog.metric_conflict") == 3
    assert db.sql(ask)[2] == ("c", 6, 8)
    with pytest.raises(psycopg2.Error) as e:
        db.sql("SELECT _prom_catalog.count_conflicts(1, -1, 0)")
    assert e.value.pgcode == "22023"
    db.sql("SELECT _prom_catalog.forget_figures(%s)", (metrics[2],))
    assert db.sql(ask)[2] == ("c", 0, 0)


def test_a_writer_that_stays_open_stops_no_fold(db, store):
    ids = db.resolve([series("a")])
    t = store.now_ms() - HOUR
    for value in (1.0, 2.0):
        store.flush([(0, ids.metrics[0], ids.series[0], t, bits(value))])
    writer = db.connect()
    writer.autocommit = False
    writer.cursor().execute("SELECT _prom_catalog.count_conflicts(%s, 1, 1)", (ids.metrics[0],))
    db.sql("SET lock_timeout = '2s'")
    store.sql("SET lock_timeout = '2s'")
    assert store.merge()["conflicts"] == 1
    assert db.one("SELECT _prom_catalog.add_up_conflicts()") == 0
    writer.commit()
    assert db.one("SELECT num_conflicts FROM prom_info.metric_stats") == 2
    assert db.one("SELECT _prom_catalog.add_up_conflicts()") == 2
    assert db.one("SELECT num_conflicts FROM prom_info.metric_stats") == 2
    writer.close()


def test_a_dropped_metric_takes_its_figures_along(db, store):
    w = Writer(db, store, random.Random(5), [-2 * HOUR, -30 * HOUR])
    for step_ in (store.merge, store.seal, store.merge):
        w.write(40)
        step_()
    db.sql("SELECT _prom_catalog.count_conflicts(%s, 1, 1)", (w.metrics["m0"],))
    db.sql("SELECT prom_api.drop_metric('m0')")
    assert w.metrics["m0"] not in {k[0] for k in kept_days(db)}
    assert db.column("SELECT metric_id FROM _prom_catalog.metric_conflict WHERE metric_id = %s", (w.metrics["m0"],)) == []
    check_days(db)
    check_views(store, exact_chunks=False)
