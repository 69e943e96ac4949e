"""Hours that are over: one merged row holds a series then. How many a query over 8 hours meets while folds go on."""

import random

import pytest

from store import DAY, HOUR, bits, hist

DEPTH = ("SELECT coalesce(max(depth), 0)::int8 FROM (SELECT sum(v.delta) OVER (PARTITION BY m.metric_id, m.kind"
         " ORDER BY v.at, v.delta DESC ROWS UNBOUNDED PRECEDING) AS depth FROM (SELECT * FROM _prom_data.merged"
         " WHERE t_max >= to_timestamp(%s / 1000.0) AND t_min <= to_timestamp(%s / 1000.0)) m,"
         " LATERAL (VALUES (series_lo, 1), (series_hi, -1)) v (at, delta)) d")


def join(store, until_ms, max_bytes=1 << 26):
    return store.row("SELECT * FROM _prom_ext.join_step(to_timestamp(%s / 1000.0), %s)", (until_ms, max_bytes))


def hours_ago(store, n):
    """The start of an hour; hours of today and yesterday are cells of their own."""
    return store.now_ms() // HOUR * HOUR - n * HOUR


@pytest.mark.parametrize("every_s", [25, 9])
def test_eight_hours_of_folds(store, every_s):
    """A fold every 25 seconds, and, as under more load, every 9; metrics of one row and packed ones; late samples now and
    then. No query over 8 hours meets more than 64 merged rows that hold a series."""
    rng = random.Random(every_s)
    begin, hours = hours_ago(store, 10), 9 if every_s == 25 else 3
    truth, now, worst, joined, taken = {}, begin, 0, begin, 0
    while now < begin + hours * HOUR:
        now += every_s * 1000 + rng.randint(-2000, 2000)
        samples = [(0, m, s, now - rng.randint(0, every_s) * 1000, bits(float(rng.randint(0, 3)))) for m in (1, 2, 34)
                   for s in (m * 10 + 1, m * 10 + 2)]
        if rng.random() < 0.02:
            samples.append((0, 1, 11, max(begin, now - rng.randint(0, 3 * HOUR)), bits(9.0)))
        store.flush(samples, packed=(2, 34))
        for *key, b in samples:
            truth.setdefault(tuple(key), b)
        taken += store.merge()["rows_taken"]
        if now - 120_000 >= joined + HOUR:
            join(store, now - 120_000)
            joined += HOUR
        if rng.random() < 0.1 or now - joined < HOUR // 20 or now - joined > HOUR + 60_000:
            worst = max(worst, store.one(DEPTH, (now - 8 * HOUR, now)))
    assert worst <= 64
    assert worst > 15  # it was looked at when many waited
    assert store.visible() == truth
    assert store.one("SELECT _prom_catalog.recount()") == 0, "figures that are wrong"


def test_days_that_fail_are_noted_each(store):
    """Without a row to blame, too: none of them is tried again at once, and the metric's other days are joined."""
    noon = store.now_ms() // DAY * DAY + DAY // 2
    for i in range(6):
        store.flush([(0, 5, 1, noon + d * DAY + i, bits(1.0)) for d in (1, 2, 3)])
        store.merge()
    store.sql("CREATE FUNCTION public.no() RETURNS trigger LANGUAGE plpgsql AS"
              " $$ BEGIN RAISE 'no' USING ERRCODE = 'XX001'; END $$")
    store.sql("CREATE TRIGGER no BEFORE INSERT ON _prom_data.merged FOR EACH ROW WHEN (new.t_min <"
              f" to_timestamp({(noon + 3 * DAY) // 1000}) - interval '1 hour') EXECUTE FUNCTION public.no()")
    assert (lambda r: (r["hours"], r["failed"]))(join(store, noon + 4 * DAY)) == (3, 2)
    assert store.sql("SELECT metric_id, level, step, (extract(epoch FROM t_min) * 1000)::int8 / %s FROM"
                     " _prom_catalog.maintenance_error ORDER BY t_min", (DAY,)) == [
        (5, 1, "join", noon // DAY + d) for d in (1, 2)]
    assert (lambda r: (r["hours"], r["failed"]))(join(store, noon + 4 * DAY)) == (0, 0)


def test_an_hour_becomes_one_row(store):
    hour = hours_ago(store, 3)
    truth = {}
    for i in range(12):
        samples = [(t, 5, s, hour + i * 60_000 + j, bits(float(i * s))) for t in (0, 7) for s in (1, 2, 3) for j in (0, 5)]
        samples += [(0, 5, 1, hour + k * 60_000, bits(-1.0)) for k in range(i)]  # conflicts: the first stays
        samples += [(0, 5, 2, hour + i * 60_000, hist(i + 1)), (0, 6, 1, hour + HOUR + i, bits(1.0))]
        store.flush(samples)
        for *key, b in samples:
            truth.setdefault((*key, "H") if b[0] == "H" else tuple(key), b)
        store.merge()
    assert store.count("merged") > 12
    assert join(store, hour + HOUR - 1)["hours"] == 0  # it is not over
    r = join(store, hour + HOUR)
    assert (r["hours"], r["failed"], r["hours_left"]) == (2, 0, 0)  # of two tenants
    assert store.visible() == truth
    assert store.sql("SELECT tenant_id, kind, count(*) FROM _prom_data.merged WHERE metric_id = 5 GROUP BY 1, 2 ORDER BY 1, 2") \
        == [(0, 1, 1), (0, 2, 1), (7, 1, 1)]
    assert join(store, hour + HOUR)["hours"] == 0
    assert store.one("SELECT _prom_catalog.recount()") == 0
    # what comes late waits beside it, and loses against what was first
    for i in range(6):
        late = [(0, 5, 3, hour + 1000 + i, bits(1.0)), (0, 5, 1, hour, bits(-5.0))]
        store.flush(late)
        truth[late[0][:4]] = late[0][4]
        store.merge()
    assert store.visible() == truth
    assert join(store, hour + HOUR)["hours"] == 1
    assert store.one("SELECT count(*) FROM _prom_data.merged WHERE metric_id = 5") == 3
    assert store.visible() == truth
    store.force()
    assert store.visible() == truth and store.count("merged") == 0


def test_many_series_are_joined_in_rows_that_do_not_overlap(store):
    hour = hours_ago(store, 4)
    rng = random.Random(3)
    truth = {}
    for part in range(6):
        samples = [(0, 9, s, hour + (part * 15 + i) * 15_000, bits(rng.random())) for s in range(1, 801) for i in range(15)]
        store.flush(samples)
        truth.update({tuple(k): b for *k, b in samples})
        store.merge()
    join(store, hour + HOUR)
    rows = store.sql("SELECT series_lo, series_hi FROM _prom_data.merged ORDER BY id")
    assert len(rows) > 3
    assert all(a[1] < b[0] for a, b in zip(rows, rows[1:]))
    assert store.visible() == truth


def test_joining_is_bounded_and_says_what_is_left(store):
    hours = [hours_ago(store, 5) + k * HOUR for k in range(3)]
    for i in range(6):
        store.flush([(0, 3, 1, h + i, bits(1.0)) for h in hours])
        store.merge()
    assert [join(store, hours[2] + HOUR, 1)["hours_left"] for _ in range(3)] == [2, 1, 0]
    assert store.count("merged") == 3


def test_a_block_that_cannot_be_read_stops_its_hour_alone(store):
    hours = [hours_ago(store, n) for n in (5, 4)]
    for i in range(6):
        store.flush([(0, m, 1, h + i, bits(1.0)) for h in hours for m in (3, 4)])
        store.merge()
    bad = store.one("SELECT max(id) FROM _prom_data.merged WHERE metric_id = 3 AND t_min < to_timestamp(%s / 1000.0)",
                    (hours[1],))
    store.sql("UPDATE _prom_data.merged SET data = set_byte(data, 40, get_byte(data, 40) # 1) WHERE id = %s", (bad,))
    before = store.sql("SELECT id, data FROM _prom_data.merged WHERE metric_id = 3 AND t_min < to_timestamp(%s / 1000.0)"
                       " ORDER BY id", (hours[1],))
    r = join(store, hours[1] + HOUR)
    assert (r["hours"], r["failed"]) == (4, 1)
    assert store.sql("SELECT block_id, step FROM _prom_catalog.maintenance_error") == [(bad, "join")]
    assert store.sql("SELECT id, data FROM _prom_data.merged WHERE metric_id = 3 AND t_min < to_timestamp(%s / 1000.0)"
                     " ORDER BY id", (hours[1],)) == before
    assert store.one("SELECT count(*) FROM _prom_data.merged WHERE metric_id = 4") == 2
    assert join(store, hours[1] + HOUR)["hours"] == 0  # left alone for now, the day's other hours, too


def test_the_step_runs_two_minutes_after_an_hour(store):
    hour = hours_ago(store, 2)
    for i in range(6):
        store.flush([(0, 3, 1, hour + i, bits(1.0))])
        store.merge()
    assert store.row("SELECT * FROM _prom_catalog.run_step('join', false)")["outcome"] == "done"
    assert store.count("merged") == 1
    minute = store.one("SELECT extract(minute FROM next_run)::int * 60 + extract(second FROM next_run)::int"
                       " FROM _prom_catalog.job WHERE name = 'join'")
    assert abs(minute - 120) <= 1
