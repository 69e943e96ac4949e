"""prom_rate, prom_increase, prom_delta, vector_selector: against a plain computation, and against promql_range."""
import random
import struct

import psycopg2
import pytest

from test_functions import T0, stored

INVALID, DATA, LIMIT, RANGE = "22023", "22000", "54000", "22008"


def windows(low, high, step, width):
    begin = low
    while begin + width <= high:
        yield begin, begin + width
        begin += step


def rate_of(kind, samples, begin, end):
    """What the documentation says, one window at a time; times in ms, exact for what is compared."""
    seen = [(t, v) for t, v in samples if begin <= t <= end]
    if len(seen) < 2:
        return None
    (t0, first), (t1, last) = seen[0], seen[-1]
    change = last - first
    if kind != "delta":
        change += sum(a for (_, a), (_, b) in zip(seen, seen[1:]) if b < a)
    span, mean = t1 - t0, (t1 - t0) / (len(seen) - 1)
    left, right = t0 - begin, end - t1
    left = left if left < 1.1 * mean else mean / 2
    right = right if right < 1.1 * mean else mean / 2
    if kind != "delta" and change > 0 and first >= 0:
        left = min(left, span * (first / change))
    change *= (span + left + right) / span
    return change / ((end - begin) // 1000) if kind == "rate" else change


def table(db, samples, name="s"):
    """Rows (time in ms, value or None for a stale marker)."""
    db.sql(f"DROP TABLE IF EXISTS {name}; CREATE TABLE {name} (time timestamptz, value float8)")
    db.sql(f"INSERT INTO {name} SELECT to_timestamp(t / 1000.0), v FROM unnest(%s::float8[], %s::float8[]) x(t, v)",
           ([float(t) for t, _ in samples], [v for _, v in samples]))


def call(kind, low, high, step, width, source="s", order=" ORDER BY time", value="value"):
    return (f"SELECT _prom_ext.{kind}(to_timestamp({low / 1000}), to_timestamp({high / 1000}), {step}, {width},"
            f" time, {value}{order}) FROM {source}")


def same(got, expected):
    assert len(got) == len(expected)
    for i, (g, e) in enumerate(zip(got, expected)):
        assert (g is None) == (e is None), (i, g, e)
        if g is not None:
            assert g == pytest.approx(e, rel=1e-12, abs=1e-12), i


@pytest.mark.parametrize("kind", ["rate", "increase", "delta"])
@pytest.mark.parametrize("seed", range(12))
def test_rates_are_those_of_a_plain_computation(shared_db, kind, seed):
    rng = random.Random(seed)
    t, value, samples = T0 * 1000, rng.choice([0, 1000.0]), []
    for _ in range(rng.choice([3, 80, 400])):
        value = rng.uniform(0, 5) if rng.random() < 0.05 else value + rng.uniform(-3 if kind == "delta" else 0, 20)
        samples.append((t, value))
        t += rng.choice([15_000, 15_000, 15_000, 1, 40_000, 400_000])
    table(shared_db, samples)
    low, high = T0 * 1000 - rng.choice([0, 7_000, 100_000]), t + rng.choice([0, 3_000])
    step, width = rng.choice([1_000, 15_000, 60_000, 300_000]), rng.choice([15_000, 60_000, 600_000])
    got = shared_db.one(call("prom_" + kind, low, high, step, width))
    expected = [rate_of(kind, samples, *w) for w in windows(low, high, step, width)]
    assert any(e is not None for e in expected) or len(samples) == 3
    same(got, expected)


def test_edges_of_windows(shared_db):
    ms = T0 * 1000
    table(shared_db, [(ms, 1.0), (ms + 60_000, 4.0)])
    # both ends belong to the window, the last one ends at the greatest time
    assert shared_db.one(call("prom_increase", ms, ms + 60_000, 1_000, 60_000)) == [3.0]
    assert shared_db.one(call("prom_rate", ms, ms + 60_000, 1_000, 60_000)) == [0.05]
    assert shared_db.one(call("prom_delta", ms, ms + 61_999, 1_000, 60_000)) == [3.0, None]
    assert shared_db.one(call("prom_delta", ms, ms + 60_000, 1_000, 60_001)) == []
    # samples between windows are left out, but a reset there is none of theirs
    table(shared_db, [(ms + t * 1000, v) for t, v in ((0, 10), (10, 20), (15, 90), (20, 1), (30, 3))])
    assert shared_db.one(call("prom_increase", ms, ms + 30_000, 20_000, 10_000)) == [10.0, pytest.approx(2.0)]
    # far apart from its samples
    table(shared_db, [(ms, 1.0), (ms + 86_400_000, 4.0)])
    got = shared_db.one(call("prom_increase", ms, ms + 86_400_000, 100, 1_000))
    assert got == [None] * ((86_400_000 - 1_000) // 100 + 1)


def test_agree_with_promql(db):
    stored(db)
    db.views()
    # windows of PromQL leave out their begin: none of ours begins at a sample
    for kind in ("rate", "increase", "delta"):
        ours = db.sql(f"""
            SELECT labels(series_id)::text, _prom_ext.prom_{kind}(to_timestamp({T0 - 8}), to_timestamp({T0 + 592}),
                30000, 120000, time, value ORDER BY time)
            FROM prom_data.req_total WHERE time BETWEEN to_timestamp({T0 - 8}) AND to_timestamp({T0 + 592})
            GROUP BY series_id""")
        theirs = {}
        for t, v, labels in db.promql_range(f"{kind}(req_total[2m])", T0 + 112, T0 + 592, 30):
            theirs.setdefault(labels["code"], []).append(v)
        assert sorted(len(a) for _, a in ours) == sorted(map(len, theirs.values())) == [17, 17]
        assert sorted(a for _, a in ours) == [pytest.approx(v, rel=1e-12) for v in sorted(theirs.values())]
    ours = db.sql(f"""
        SELECT _prom_ext.vector_selector(to_timestamp({T0 + 3}), to_timestamp({T0 + 903}), 20000, 300000, time, value)
        FROM prom_data.temp WHERE time BETWEEN to_timestamp({T0 - 297}) AND to_timestamp({T0 + 903})""")[0][0]
    theirs = {t: v for t, v, _ in db.promql_range("temp", T0 + 3, T0 + 903, 20)}
    assert ours == [theirs.get(T0 + 3 + 20 * i) for i in range(46)] and None in ours and len(theirs) > 40


def test_nulls_and_stale_markers(db):
    ms = T0 * 1000
    table(db, [(ms, 1.0), (ms + 10_000, 2.0), (ms + 20_000, 3.0)])
    assert db.sql(call("prom_rate", ms, ms + 20_000, 10_000, 10_000, "s WHERE false")) == [(None,)]
    assert db.sql(call("vector_selector", ms, ms + 20_000, 10_000, 0, "s WHERE false")) == [(None,)]
    db.sql("INSERT INTO s VALUES (NULL, 7), (to_timestamp(%s), NULL)", (T0 + 5,))
    assert db.one(call("prom_delta", ms, ms + 20_000, 10_000, 20_000)) == [2.0]
    assert db.one(call("vector_selector", ms, ms + 20_000, 10_000, 0)) == [1.0, 2.0, 3.0]
    # a real stale marker comes from a block only
    metric, s = db.make("m", a="1")
    stale = struct.unpack("<d", struct.pack("<Q", 0x7ff0000000000002))[0]
    db.block("fresh", metric, [(metric, s, ms + 10_000 * i, v) for i, v in enumerate((1.0, stale, 5.0, stale))])
    db.views()
    assert db.one("SELECT count(*) FILTER (WHERE is_stale_marker(value)) FROM prom_data.m") == 2
    assert db.one(call("prom_delta", ms, ms + 30_000, 10_000, 20_000, "prom_data.m")) == [4.0, None]
    assert db.one(call("vector_selector", ms, ms + 40_000, 10_000, 300_000, "prom_data.m")) == [
        1.0, None, 5.0, None, None]


def selected(samples, low, high, step, lookback):
    result = []
    for at in range(low, high + 1, step) if step else [low]:
        seen = [s for s in samples if at - lookback <= s[0] <= at]
        result.append(max(seen)[1] if seen else None)
    return result


@pytest.mark.parametrize("seed", range(12))
def test_selector_is_a_plain_computation_in_any_order(shared_db, seed):
    rng = random.Random(100 + seed)
    low, step, lookback = T0 * 1000, rng.choice([0, 1_000, 15_000, 70_000]), rng.choice([0, 5_000, 300_000])
    high = low + rng.choice([0, 100_000, 1_000_000])
    times = {rng.randrange(low - lookback, high + 1) // 1000 * 1000 for _ in range(rng.choice([1, 10, 300]))}
    samples = [(t, rng.uniform(-1, 1)) for t in times if t >= low - lookback]
    rng.shuffle(samples)
    if not samples:
        samples = [(low, 1.0)]
    table(shared_db, samples)
    assert shared_db.one(call("vector_selector", low, high, step, lookback, order="")) == selected(
        samples, low, high, step, lookback)


def test_selector_in_parallel(db):
    n, ms = 200_000, T0 * 1000
    db.sql(f"CREATE TABLE s AS SELECT g, to_timestamp({T0} + i) AS time, (i * 7 + g)::float8 AS value"
           f" FROM generate_series(0, {n // 4 - 1}) i, generate_series(0, 3) g; ANALYZE s")
    db.sql("SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;"
           " SET max_parallel_workers_per_gather = 2")
    query = call("vector_selector", ms, ms + n // 4 * 1000, 7_000, 3_000, order="") + " GROUP BY g ORDER BY g"
    plan = "\n".join(db.column("EXPLAIN " + query))
    assert "Partial" in plan and "Finalize" in plan
    many = db.column(query)
    db.sql("SET max_parallel_workers_per_gather = 0")
    assert "Partial" not in "\n".join(db.column("EXPLAIN " + query))
    assert db.column(query) == many
    last = n // 4 - 1
    for g in range(4):
        assert many[g] == [i * 7.0 + g if i <= last else last * 7.0 + g for i in range(0, n // 4 + 1, 7)]


def test_as_a_window_function(shared_db):
    """The final functions leave the state as it is."""
    ms = T0 * 1000
    table(shared_db, [(ms + i * 10_000, i * i * 1.0) for i in range(5)])
    rows = shared_db.column(call("prom_delta", ms, ms + 40_000, 10_000, 20_000, order="").replace(
        ") FROM", ") OVER (ORDER BY time) FROM"))
    assert rows == [[None] * 3, [2, None, None], [4, 6, None], [4, 8, 10], [4, 8, 12]]
    rows = shared_db.column(call("vector_selector", ms, ms + 40_000, 20_000, 10_000, order="").replace(
        ") FROM", ") OVER (ORDER BY time) FROM"))
    assert rows[-1] == [0, 4, 16] and rows[0] == [0, None, None]


@pytest.mark.parametrize("query, code, text", [
    (call("prom_rate", 1000, 9000, 1000, 2000, order=" ORDER BY time DESC"), DATA, "order of time"),
    (call("prom_rate", 3000, 9000, 1000, 2000), INVALID, "before the lowest time"),
    (call("prom_delta", 1000, 4000, 1000, 2000), INVALID, "after the greatest time"),
    (call("prom_rate", 1000, 9000, 0, 2000), INVALID, "step_size must be positive"),
    (call("prom_rate", 1000, 9000, -1, 2000), INVALID, "step_size must be positive"),
    (call("prom_rate", 1000, 9000, 1000, 0), INVALID, "range must be positive"),
    (call("prom_rate", 1000, 9000, 1000, 1500), INVALID, "whole seconds"),
    (call("prom_rate", 9000, 1000, 1000, 2000), INVALID, "end that is not before"),
    (call("prom_rate", 1000, 9000, 2 ** 62, 2000), RANGE, "beyond the range"),
    (call("prom_rate", 1000, 9000, 1000, 2 ** 63 - 1), RANGE, "beyond the range"),
    (call("prom_rate", 1000, 2_000_000_000, 1, 2000), LIMIT, "more than 1000000 steps"),
    (call("prom_rate", 1000, 9000, "i * 1000", 2000), INVALID, "the same steps"),
    (call("prom_rate", 1000, 9000, 1000, 2000).replace("to_timestamp(9.0)", "'infinity'"), INVALID, "finite"),
    (call("vector_selector", 6000, 9000, 1000, 3000), INVALID, "before the lowest time"),
    (call("vector_selector", 1000, 4000, 1000, 3000), INVALID, "after the greatest time"),
    (call("vector_selector", 1000, 9000, -1, 3000), INVALID, "bucket_width must be zero or more"),
    (call("vector_selector", 1000, 9000, 1000, -1), INVALID, "lookback must be zero or more"),
    (call("vector_selector", 1000, 2_000_000_000, 1, 3000), LIMIT, "more than 1000000 steps"),
    (call("vector_selector", 9000, 1000, 1000, 3000), INVALID, "end that is not before"),
])
def test_errors(shared_db, query, code, text):
    shared_db.sql("DROP TABLE IF EXISTS s; CREATE TABLE s AS SELECT i, to_timestamp(i) AS time, i::float8 AS value"
                  " FROM generate_series(2, 6) i")
    error = shared_db.error(query)
    assert error.pgcode == code and text in str(error)


def test_rights_and_cancel(db):
    db.sql("CREATE ROLE r1 LOGIN IN ROLE prom_reader; CREATE ROLE r2 LOGIN")
    query = call("prom_delta", 1000, 9000, 1000, 2000, "(SELECT to_timestamp(2) AS time, 1::float8 AS value) s")
    select = query.replace("prom_delta", "vector_selector").replace("range", "lookback")
    try:
        reader, nobody = db.connect("r1"), db.connect("r2")
        for q in (query, select):
            reader.cursor().execute(q)
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                nobody.cursor().execute(q)
            nobody.rollback()
        reader.close()
        nobody.close()
    finally:
        db.sql("DROP ROLE r1; DROP ROLE r2")
    # resets in each of 10 000 samples, seen by each of 100 000 windows: 10^9 looks
    db.sql("SET statement_timeout = '700ms'")
    slow = call("prom_increase", T0 * 1000, T0 * 1000 + 200_000, 1, 100_000,
                f"(SELECT to_timestamp({T0} + i * 0.01) AS time, (i % 2)::float8 AS value"
                " FROM generate_series(0, 19999) i) s")
    assert db.error(slow).pgcode == "57014"
