"""How much is opened, decoded and held: few series among many, resent samples, clusters that crowd."""

import random

import pytest

from fdw_blocks import DAY_MS, Store
from test_fdw_plans import explain, scan, scans

T0 = 1700006400000 // DAY_MS * DAY_MS
MANY, PER_BLOCK = 100000, 1000


def at(ms):
    return f"(timestamptz 'epoch' + {ms // 1000} * interval '1 s' + {ms % 1000} * interval '1 ms')"


def many_series(store):
    """Metric 20: 100 000 series, sealed in 100 rows a day, two days."""
    store.sql("INSERT INTO _prom_catalog.metric (id, metric_name, digest, table_name)"
              " VALUES (20, 'm20', gen_random_uuid(), 'm20')")
    store.sql("INSERT INTO _prom_catalog.series (id, tenant_id, metric_id, labels, digest)"
              f" SELECT 200000 + g, 0, 20, ARRAY[20, g], gen_random_uuid() FROM generate_series(0, {MANY - 1}) g")
    for day in range(2):
        for lo in range(0, MANY, PER_BLOCK):
            store.block("block", 20, [(20, 200000 + i, T0 + day * DAY_MS, i) for i in range(lo, lo + PER_BLOCK)])


def resent(store):
    """Metric 21: each series twice, the second time with other values, which lose."""
    ids = store.metric(21, 30, 1000)
    for k in range(2):
        for lo in range(0, 30, 10):
            store.block("block", 21, [(21, s, T0 + j * 15000 + s % 5, j + k) for s in ids[lo:lo + 10]
                                      for j in range(700)])
    # and a third time in part, with some that are new
    store.block("merged", 21, [(21, s, T0 + j * 15000 + s % 5 + (j % 50 == 0), -1) for s in ids[::3]
                               for j in range(400, 900)])


def crowd(store, rng):
    """Metric 22: blocks of all levels that all span everything, most samples several times."""
    ids = store.metric(22, 300, 2000)
    for k in range(24):
        table = ("fresh", "merged", "block_far")[k % 3]
        some = sorted(rng.sample(ids, 150)) + [ids[0], ids[-1]]
        store.block(table, 22, [(22, s, T0 + j * 1000, k * 1000 + j) for s in sorted(set(some))
                                for j in sorted({0, 3600} | set(rng.sample(range(3600), 12)))])
    # one series that alone is larger than a batch may be
    store.block("block_far", 22, [(22, ids[150], T0 + j * 400 + 7, j) for j in range(9000)])


def backlog(store):
    """Metric 23: fresh rows that overlap their neighbours; with little work_mem they are walked in slices."""
    ids = store.metric(23, 200, 3000)
    for k in range(60):
        store.block("fresh", 23, [(23, s, T0 + (k + j) * 15000 + s % 7, k) for s in ids for j in range(2)])


def small_rows(store):
    """Metric 24: more sealed rows in a day than a page holds, some overlapping; a year before, some more."""
    ids = store.metric(24, 26, 4000)
    for k in range(5300):
        s = ids[k * 7 % 25]
        store.block("block", 24, [(24, s, T0 + k * 10000, k), (24, s, T0 + k * 10000 + k % 4 * 6000 + 1, k)])
    for k in range(40):
        store.block("block", 24, [(24, ids[k % 26], T0 - 365 * DAY_MS + k * 10000, k)])


def large_rows(store, rng):
    """Metric 25: four sealed rows of 80 kB and more, two a day; all series in the newer one of each day."""
    ids = store.metric(25, 20, 5000)
    for day in range(2):
        for part, some in enumerate((ids[5:], ids)):
            store.block("block", 25, [(25, s, T0 + day * DAY_MS + part * DAY_MS // 2 + j * 15000 + s % 9, rng.random())
                                      for s in some for j in range(700)])


@pytest.fixture(scope="module")
def store(server):
    server.create("memory_db")
    conn = server.connect("memory_db")
    conn.cursor().execute("SET timezone = 'UTC'")
    s = Store(conn)
    many_series(s)
    resent(s)
    crowd(s, random.Random(3))
    backlog(s)
    small_rows(s)
    large_rows(s, random.Random(4))
    s.flush()
    s.sql("VACUUM ANALYZE")
    s.sql("CREATE TABLE expected AS SELECT * FROM oracle; ANALYZE expected")
    yield s
    conn.close()


def same(store, metric, where="true"):
    rows = "SELECT s.metric_id, s.time, %s AS v, s.series_id, s.labels FROM %s s WHERE s.metric_id = {} AND {}"
    ours = rows.format(metric, where) % ("bits_of(s.value)", "_prom_data.samples")
    theirs = rows.format(metric, where) % ("s.value_bits", "expected")
    extra, missing, n = store.sql(f"SELECT (SELECT count(*) FROM ({ours} EXCEPT ALL {theirs}) x),"
                                  f" (SELECT count(*) FROM ({theirs} EXCEPT ALL {ours}) x),"
                                  f" (SELECT count(*) FROM ({theirs}) x)")[0]
    assert (extra, missing) == (0, 0) and n > 0
    return n


@pytest.fixture
def little(store):
    """Memory for next to nothing."""
    store.sql("SET promscale.block_memory = '64kB'; SET work_mem = '64kB'")
    yield
    store.sql("RESET promscale.block_memory; RESET work_mem")


# ---- few of many ------------------------------------------------------------------------------

@pytest.mark.parametrize("where, series, total", [
    ("series_id = 254321", 1, 1), ("labels[2] = 54321", 1, MANY), ("series_id IN (200000, 254321, 299999)", 3, 3),
    ("labels[2] BETWEEN 54990 AND 55009", 20, MANY), ("series_id >= 299999 AND labels[2] > 0", 1, MANY)])
def test_few_of_many(store, where, series, total):
    """Only the rows whose blocks hold the series are opened."""
    node = scan(store, f"SELECT sum(value) FROM _prom_data.samples WHERE metric_id = 20 AND {where}")
    blocks = {1: 1, 3: 3, 20: 2}[series]
    assert (node["Series Matched"], node["Series Total"]) == (series, total)
    assert node["Blocks Read"] == 2 * blocks
    assert node["Blocks Read"] + node["Blocks Skipped By Series"] == 2 * MANY // PER_BLOCK
    assert node["Samples Decoded"] == 2 * series
    same(store, 20, where)


# ---- resent -----------------------------------------------------------------------------------

def test_resent_is_decoded_once(store):
    n = same(store, 21)
    assert n > 30 * 700
    node = scan(store, "SELECT sum(value) FROM _prom_data.samples WHERE metric_id = 21")
    assert node["Samples Decoded"] == n
    assert store.sql("SELECT count(*) FROM _prom_data.samples WHERE metric_id = 21") == [(n,)]
    for lo, hi in ((0, 100), (399 * 15000, 401 * 15000), (650 * 15000 + 3, 10**9), (5, 899 * 15000)):
        same(store, 21, f"time >= {at(T0 + lo)} AND time <= {at(T0 + hi)}")


def test_values_without_times(store):
    """What was not asked for is not needed to get the rest right."""
    for columns in ("sum(value)", "count(value)", "sum(value), max(time)", "max(time)", "count(*)"):
        for where in ("true", f"time > {at(T0 + 350 * 15000)}", "series_id % 3 = 1"):
            query = f"SELECT {columns} FROM {{}} s WHERE metric_id = 21 AND {where}"
            assert store.sql(query.format("_prom_data.samples")) == store.sql(query.format("expected")), query


# ---- crowds -----------------------------------------------------------------------------------

WHERES = ["true", f"time >= {at(T0 + 1000000)} AND time < {at(T0 + 1500000)}", "series_id IN (2000, 2150, 2299)",
          "labels[2] = 1001", "value > 5000", f"time = {at(T0)}", "series_id > 2290"]


@pytest.mark.parametrize("where", WHERES)
def test_crowd_gives_the_same(store, little, where):
    same(store, 22, where)


def test_crowd_is_read_in_turns(store, little):
    """More is opened than fits, each row counts once; nothing is left out however little fits."""
    rows = store.sql("SELECT sum(n) FROM (SELECT count(*) AS n FROM _prom_data.fresh WHERE metric_id = 22 UNION ALL"
                     " SELECT count(*) FROM _prom_data.merged WHERE metric_id = 22 UNION ALL"
                     " SELECT count(*) FROM _prom_data.block_far WHERE metric_id = 22) x")[0][0]
    node = scan(store, "SELECT sum(value) FROM _prom_data.samples WHERE metric_id = 22")
    assert (node["Blocks Read"], node["Blocks Skipped By Series"]) == (rows, 0)
    for limit in (1, 100, 5000):
        assert store.sql("SELECT count(*) FROM (SELECT * FROM _prom_data.samples WHERE metric_id = 22"
                         f" LIMIT {limit}) s") == [(limit,)]


def test_crowd_in_rescans(store, little):
    query = ("SELECT p.x, (SELECT sum(s.value) FROM {} s WHERE s.metric_id = 22 AND s.labels[2] = p.x"
             " AND s.time >= timestamptz 'epoch' + %d * interval '1 s' + p.x * interval '1 s')"
             " FROM generate_series(1000, 1004) p(x) ORDER BY 1" % (T0 // 1000))
    rows = store.sql(query.format("_prom_data.samples"))
    assert rows == store.sql(query.format("expected")) and len({r[1] for r in rows}) > 3


def held(store):
    """Most that the scan's memory contexts had while rows were handed out, in bytes."""
    return store.sql("SELECT max(m)::int8 FROM (SELECT (SELECT sum(total_bytes) FROM pg_backend_memory_contexts"
                     " WHERE name LIKE 'promscale%' AND s.value IS NOT NULL) AS m"
                     " FROM _prom_data.samples s WHERE metric_id = 22 AND value::int8 % 1000 = 0) x")[0][0]


def test_memory_is_bounded(store):
    store.sql("SET work_mem = '64kB'")
    try:
        alone = held(store)
        store.sql("SET promscale.block_memory = '64kB'")
        assert held(store) < alone / 2
    finally:
        store.sql("RESET promscale.block_memory; RESET work_mem")


# ---- what EXPLAIN counts ----------------------------------------------------------------------

def test_each_row_counts_once(store):
    """In slices of time a row is opened several times, or passed over in one and opened in another."""
    store.sql("SET work_mem = '64kB'")
    try:
        for where, read in (("true", 60), ("series_id IN (3000, 3199)", 60), ("series_id > 3199", 0)):
            node = scan(store, f"SELECT sum(value) FROM _prom_data.samples WHERE metric_id = 23 AND {where}")
            assert (node["Blocks Read"], node["Blocks Skipped By Series"]) == (read, 60 - read if read else 0), where
        assert same(store, 23) == 200 * 61
    finally:
        store.sql("RESET work_mem")


def test_rescans_count_kept_rows_once(store):
    """A nested loop that keeps the rows: passed over for one series, opened for another."""
    plan = explain(store, "SELECT p.id, (SELECT sum(s.value) FROM _prom_data.samples s WHERE s.metric_id = 21"
                   " AND s.series_id = p.id) FROM _prom_catalog.series p WHERE p.metric_id = 21 AND p.id % 10 < 3")
    node = scans(plan)[0]
    assert node["Actual Loops"] == 9
    assert node["Blocks Read"] + node["Blocks Skipped By Series"] == 7


# ---- pages ------------------------------------------------------------------------------------

@pytest.mark.parametrize("until", [10**9, 30000000, 5000, -1])
def test_newest_of_many_rows(store, until):
    """However the newest samples are looked for, forwards or backwards, page by page."""
    where = f"metric_id = 24 AND time <= {at(T0 + until)}"
    for query in (f"SELECT DISTINCT ON (series_id) series_id, time, value FROM {{}} WHERE {where}"
                  " ORDER BY series_id, time DESC",
                  f"SELECT series_id, max(time) FROM {{}} WHERE {where} GROUP BY 1 ORDER BY 1",
                  f"SELECT time, value FROM {{}} WHERE {where} ORDER BY time DESC LIMIT 1"):
        rows = store.sql(query.format("_prom_data.samples"))
        assert rows == store.sql(query.format("expected")) and rows, query


def test_heads_tell_the_newest(store):
    """Of a large row only the first bytes are read; where the bound cuts it, all of it."""
    query = ("SELECT DISTINCT ON (series_id) series_id, time, value FROM {} WHERE metric_id = 25 AND time <= %s"
             " ORDER BY series_id, time DESC")
    noon = T0 + DAY_MS + DAY_MS // 2
    for until, heads, read in ((T0 + 2 * DAY_MS, 1, 0), (noon - 1, 2, 0), (noon + 5000000, 0, 1), (noon + 4, 2, 1)):
        rows = store.sql((query % at(until)).format("_prom_data.samples"))
        assert rows == store.sql((query % at(until)).format("expected")) and len(rows) == 20
        node = scan(store, (query % at(until)).format("_prom_data.samples"))
        assert (node["Block Heads Read"], node["Blocks Read"]) == (heads, read), until
        assert read or node["Samples Decoded"] == 0
    text = "\n".join(r[0] for r in store.sql("EXPLAIN (ANALYZE) " + (query % at(noon - 1)).format("_prom_data.samples")))
    assert "Blocks: read=0 heads=2 skipped by series=" in text
