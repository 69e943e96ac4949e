"""Histogram samples as rows of prom_histogram.<metric>: in each form of storage, against what was written."""
import random

import pytest

from database import series

T0 = 1_600_000_000_000 // 86_400_000 * 86_400_000
FORMS = [("fresh", "flush"), ("merged", "merged"), ("block_far", "sealed")]


def hist(rng, total=None):
    """A random histogram in its canonical text; equal numbers give equal texts."""
    counts = [rng.choice([1, 2, 5, 1000]) for _ in range(rng.randrange(1, 6))]
    offset = rng.choice([0, 0, 1, -7])
    where = f" offset:{offset}" if offset else ""
    n = sum(counts)
    return (f"{{{{schema:{rng.randrange(-4, 9)} count:{n} sum:{rng.choice([n, n + 0.25, -1.5])}"
            f" buckets:[{' '.join(map(str, counts))}]{where}}}}}")


def metric_of(db, name, n=1):
    """(metric id, series ids) of a metric with n series that differ in label a."""
    r = db.resolve([series(name, a=f"v{i}") for i in range(n)])
    return r.metrics[0], r.series


def rows(db, name, where="true"):
    return db.sql(f"""SELECT series_id, (extract(epoch FROM time) * 1000)::int8, histogram::text,
                             (extract(epoch FROM start_time) * 1000)::int8
                      FROM prom_histogram."{name}" WHERE {where} ORDER BY 1, 2""")


@pytest.mark.parametrize("table,form", FORMS)
def test_what_was_written_comes_back(db, table, form):
    rng = random.Random(form)
    metric, ids = metric_of(db, "h", 5)
    samples = [(metric, s, T0 + 15_000 * i, hist(rng), T0 + rng.choice([0, 1000])) for s in ids for i in range(300)]
    db.block(table, metric, samples, form)
    db.sql("SELECT _prom_catalog.mark_histograms(ARRAY[%s])", (metric,))
    db.views()
    assert rows(db, "h") == sorted((s, t, h, start) for _, s, t, h, start in samples)
    assert db.one("SELECT count(*) FROM prom_histogram.h") == len(samples)
    assert db.one("SELECT count(DISTINCT series_id) FROM prom_histogram.h") == 5
    assert db.one("SELECT count(*) FROM prom_metric.h") == 0, "floats only"
    # bounds of time and conditions on series
    lo, hi = T0 + 15_000 * 120 + 1, T0 + 15_000 * 133
    assert rows(db, "h", f"time BETWEEN to_timestamp({lo / 1000}) AND to_timestamp({hi / 1000}) AND val(a_id) = 'v3'") == [
        (s, t, h, start) for _, s, t, h, start in samples if s == ids[3] and lo <= t <= hi]
    assert rows(db, "h", f"series_id = {ids[1]} AND histogram_count(histogram) > 1000") == [
        (s, t, h, start) for _, s, t, h, start in samples
        if s == ids[1] and float(h.split("count:")[1].split()[0]) > 1000]
    assert db.one("SELECT histogram_count(sum(histogram)) FROM prom_histogram.h") == sum(
        float(h.split("count:")[1].split()[0]) for _, _, _, h, _ in samples)


def test_first_write_wins(db):
    """Blocks of all levels that overlap in every way, floats among them: the view has the histograms, each time once."""
    rng = random.Random(5)
    metric, ids = metric_of(db, "h", 4)
    seen = {}
    floats = set()
    for table, form in [("block_far", "sealed"), ("merged", "merged"), ("fresh", "flush")]:
        for _ in range(6):
            samples = {}
            for s in rng.sample(ids, rng.randrange(1, 5)):
                for i in range(rng.randrange(0, 100), rng.randrange(100, 400), rng.choice([1, 1, 3])):
                    samples[s, T0 + 1000 * i] = hist(rng)
            db.block(table, metric, [(metric, s, t, h) for (s, t), h in samples.items()], form)
            for key, h in samples.items():
                seen.setdefault(key, h)
        at = {(rng.choice(ids), T0 + 1000 * rng.randrange(400)) for _ in range(100)}
        db.block(table, metric, [(metric, s, t, 7.0) for s, t in at], form)
        floats |= at
    db.views()
    expected = sorted((s, t, h, None) for (s, t), h in seen.items())
    assert rows(db, "h") == expected
    for memory, work in ((64, 64), (200, 64)):
        db.sql(f"SET promscale.block_memory = '{memory}kB'; SET work_mem = '{work}kB'")
        assert rows(db, "h") == expected
    db.sql("RESET promscale.block_memory; RESET work_mem")
    assert db.sql("SELECT series_id, (extract(epoch FROM time) * 1000)::int8, value FROM prom_metric.h ORDER BY 1, 2") == \
        sorted((s, t, 7.0) for s, t in floats)
    # in PromQL the float wins, wherever it is stored
    got = db.one("SELECT sum(n) FROM (SELECT count(*) FILTER (WHERE histogram IS NULL) AS n FROM promql_range("
                 f"'h', to_timestamp({T0 / 1000}), to_timestamp({T0 / 1000 + 400}), '1 s') WHERE value = 7) x")
    assert got >= len(floats)
    for s, t in sorted(seen.keys() | floats)[::37]:
        value, h = db.sql(f"SELECT value, histogram::text FROM promql('h{{a=\"v{ids.index(s)}\"}}', to_timestamp({t / 1000}))")[0]
        assert (value, h) == ((7.0, None) if (s, t) in floats else (None, seen[s, t])), (s, t)


def test_one_scan(shared_db):
    db = shared_db
    metric, ids = metric_of(db, "planned", 3)
    for i in range(3):
        db.block("block_far", metric, [(metric, s, T0 + 60_000 * (100 * i + k), "{{count:1 sum:1 buckets:[1]}}")
                                       for s in ids for k in range(100)], "sealed")
    db.sql("SELECT _prom_catalog.mark_histograms(ARRAY[%s])", (metric,))
    db.views()
    plan = "\n".join(db.column("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT histogram FROM"
                               f" prom_histogram.planned WHERE val(a_id) = 'v1' AND time >= to_timestamp({T0 / 1000 + 6000})"
                               f" AND time < to_timestamp({T0 / 1000 + 9000})"))
    assert plan.count("Foreign Scan on histograms") == 1, plan
    assert "rows=50" in plan and "Join" not in plan, plan
    assert "Blocks: read=1 skipped by series=0" in plan and "Samples Decoded: 50" in plan, plan
    assert "Series Filter: (val" in plan and "matched=1 total=3" in plan, plan


def test_no_samples_are_decoded_for_a_count(shared_db):
    db = shared_db
    metric, ids = metric_of(db, "counted")
    db.block("merged", metric, [(metric, ids[0], T0 + 1000 * i, "{{count:1 sum:1 buckets:[1]}}") for i in range(50)],
             "merged")
    db.sql("SELECT _prom_catalog.mark_histograms(ARRAY[%s])", (metric,))
    db.views()
    plan = "\n".join(db.column("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) SELECT count(*) FROM prom_histogram.counted"))
    assert "Foreign Scan on" in plan and "Samples Decoded: 0" in plan, plan


def test_limit_does_not_decode_all(shared_db):
    """Rows come stretch by stretch: a long series of wide histograms fits into little memory."""
    db = shared_db
    metric, ids = metric_of(db, "wide")
    wide = "{{count:3000 sum:1 buckets:[" + " ".join(["1"] * 3000) + "]}}"
    db.block("fresh", metric, [(metric, ids[0], T0 + 1000 * i, wide) for i in range(400)])
    db.sql("SELECT _prom_catalog.mark_histograms(ARRAY[%s])", (metric,))
    db.views()
    assert db.one("SELECT count(*) FROM prom_histogram.wide WHERE histogram_count(histogram) = 3000") == 400
    assert db.one("SELECT histogram_count(histogram) FROM prom_histogram.wide LIMIT 1") == 3000


def test_cursors_and_rescans(shared_db):
    db = shared_db
    metric, ids = metric_of(db, "again", 3)
    rng = random.Random(2)
    samples = [(metric, s, T0 + 1000 * i, hist(rng)) for s in ids for i in range(200)]
    db.block("fresh", metric, samples)
    db.sql("SELECT _prom_catalog.mark_histograms(ARRAY[%s])", (metric,))
    db.views()
    cur = db.conn.cursor()
    cur.execute("BEGIN; DECLARE c SCROLL CURSOR FOR SELECT series_id, (extract(epoch FROM time) * 1000)::int8,"
                " histogram::text FROM prom_histogram.again; FETCH 300 FROM c")
    first = cur.fetchall()
    cur.execute("MOVE ABSOLUTE 0 FROM c; FETCH ALL FROM c")
    everything = cur.fetchall()
    cur.execute("COMMIT")
    assert everything[:300] == first and sorted(everything) == sorted((s, t, h) for _, s, t, h in samples)
    got = db.sql("SELECT n, count(*), count(h.histogram) FROM generate_series(1, 3) n, LATERAL (SELECT * FROM"
                 " prom_histogram.again WHERE series_id = (ARRAY[%s, %s, %s])[n]) h GROUP BY 1 ORDER BY 1", ids)
    assert got == [(1, 200, 200), (2, 200, 200), (3, 200, 200)]


def test_newest_in_promql(shared_db):
    """An instant query wants the newest sample only: a float, a histogram, or the one before the bound."""
    db = shared_db
    metric, ids = metric_of(db, "newest", 4)
    one, two = "{{schema:0 count:1 sum:1 buckets:[1]}}", "{{schema:0 count:2 sum:2 buckets:[2]}}"
    db.block("block_far", metric, [(metric, ids[0], T0 + 1000, one), (metric, ids[1], T0 + 2000, one),
                                   (metric, ids[2], T0 + 2000, one), (metric, ids[3], T0 + 1000, one),
                                   (metric, ids[3], T0 + 90_000, two)], "sealed")
    db.block("fresh", metric, [(metric, ids[0], T0 + 2000, 3.0), (metric, ids[1], T0 + 1000, 3.0),
                               (metric, ids[2], T0 + 2000, 3.0)])
    got = db.sql(f"SELECT labels ->> 'a', value, histogram::text FROM promql('newest', to_timestamp({T0 / 1000 + 60}))"
                 " ORDER BY 1")
    assert got == [("v0", 3, None), ("v1", None, one), ("v2", 3, None), ("v3", None, one)]
    assert db.sql(f"SELECT value, histogram::text FROM promql('newest{{a=\"v3\"}}', to_timestamp({T0 / 1000 + 100}))") == [
        (None, two)]


def test_promql_has_a_budget_for_histograms(shared_db):
    db = shared_db
    metric, ids = metric_of(db, "large")
    wide = "{{count:3000 sum:1 buckets:[" + " ".join(["1"] * 3000) + "]}}"
    db.block("fresh", metric, [(metric, ids[0], T0 + 1000 * i, wide) for i in range(400)])
    db.sql("SET promscale.promql_memory = '5MB'")
    e = db.error(f"SELECT * FROM promql('rate(large[5m])', to_timestamp({T0 / 1000 + 400}))")
    db.sql("RESET promscale.promql_memory")
    assert e.pgcode == "53200" and "promscale.promql_memory" in e.diag.message_hint
    assert db.one(f"SELECT histogram_count(histogram) FROM promql('rate(large[5m])', to_timestamp({T0 / 1000 + 400}))") == 0


def test_start_timestamps_in_promql(shared_db):
    """A counter that began anew without falling is seen only by its start timestamp."""
    db = shared_db
    metric, ids = metric_of(db, "started_total")
    db.block("fresh", metric, [(metric, ids[0], T0 + 60_000 * i, 10.0 + i, T0 if i < 5 else T0 + 60_000 * 5 - 1000)
                               for i in range(10)])
    ask = f"SELECT value FROM promql('increase(started_total[10m])', to_timestamp({T0 / 1000 + 540}))"
    plain = db.one(ask)
    db.sql("SET promscale.promql_features = 'use-start-timestamps'")
    started = db.one(ask)
    db.sql("RESET promscale.promql_features")
    assert started > plain + 10


def test_damage_is_an_error(db):
    metric, ids = metric_of(db, "damaged")
    db.block("fresh", metric, [(metric, ids[0], T0 + 1000 * i, "{{count:1 sum:1 buckets:[1]}}") for i in range(50)])
    db.sql("SELECT _prom_catalog.mark_histograms(ARRAY[%s])", (metric,))
    db.views()
    n = db.one("SELECT octet_length(data) FROM _prom_data.fresh")
    db.sql("SET promscale.damaged_blocks = error")
    for at in range(0, n, 3):
        db.sql("BEGIN")
        db.sql("UPDATE _prom_data.fresh SET data = set_byte(data, %s, get_byte(data, %s) # 255)", (at, at))
        e = db.error("SELECT histogram FROM prom_histogram.damaged")
        assert e.pgcode in ("XX001", "0A000"), e
        db.sql("ROLLBACK")
    db.sql("UPDATE _prom_data.fresh SET kind = 3")
    for view in ("prom_histogram", "prom_metric"):
        assert db.error(f"SELECT * FROM {view}.damaged").pgcode in ("XX001", "0A000"), "a kind that nobody knows"


