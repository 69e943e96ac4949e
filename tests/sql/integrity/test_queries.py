"""A damaged block costs its own samples, and every way of reading says so: scans, aggregates, newest samples,
histograms, PromQL, label requests. Never is one left out in silence."""
import random

import psycopg2
import pytest

from conftest import T0

TABLES = {"fresh": "flush", "merged": "merged", "block": "sealed", "block_far": "sealed"}
N = 40  # samples of a series in a block
HIST = "{{schema:0 count:3 sum:4 buckets:[1 2]}}"


def at(block, i=0):
    return T0 + block * 600_000 + i * 15_000


@pytest.fixture(name="store", scope="module")
def store_of_all(server):
    """up: floats, six series, in each table three blocks one after another; hist: the same of histograms, one series."""
    db = server.create()
    db.sql("SELECT _prom_catalog.set_setting('retention_period', '0')")
    up, ids = db.metric("up", 6)
    hist, hids = db.metric("hist", 1)
    db.partition(T0)
    for k, (table, form) in enumerate(TABLES.items()):
        for block in range(3 * k, 3 * k + 3):
            db.block(table, up, [(up, s, at(block, i), float(s * 1000 + i)) for s in ids for i in range(N)], form)
            db.block(table, hist, [(hist, s, at(block, i), HIST, at(block)) for s in hids for i in range(N)], form)
    db.sql("SELECT _prom_catalog.mark_histograms(ARRAY[%s])", (hist,))
    db.views()
    db.ids = {"up": up, "hist": hist}
    yield db
    db.close()
    server.drop(db.name)


@pytest.fixture(autouse=True)
def no_open_transaction(request):
    yield
    if "store" in request.fixturenames:
        request.getfixturevalue("store").sql("ROLLBACK")


def block_of(store, table, metric, nth=1):
    return store.sql(f"SELECT id, t_min, t_max FROM _prom_data.{table} WHERE metric_id = %s ORDER BY t_min",
                     (store.ids[metric],))[nth]


def warning_of(table, block, metric):
    return [f"WARNING:  block {block} of table _prom_data.{table} cannot be read, its samples are left out",
            f'DETAIL:  Metric "{metric}" (metric_id']


# statement over metric up, whole -> without one block of 6 * N samples
FLOATS = {
    "rows": "SELECT count(*) FROM (SELECT * FROM prom_metric.up OFFSET 0) x WHERE value IS NOT NULL",
    "count(*)": "SELECT count(*) FROM prom_metric.up",
    "count(value)": "SELECT count(value) FROM prom_metric.up",
    "group by series": "SELECT sum(n)::int8 FROM (SELECT series_id, count(value) n, max(value) FROM prom_metric.up GROUP BY 1) x",
    "group by time": "SELECT sum(n)::int8 FROM (SELECT date_bin('10 min', time, '2000-01-01') b, count(*) n, first(value, time),"
                     " last(value, time) FROM prom_metric.up GROUP BY b) x",
    "row quals": "SELECT count(*) FROM prom_metric.up WHERE value::int % 1 = 0",
    "table of samples": "SELECT count(value) FROM _prom_data.samples",
    "promql": "SELECT value::int8 FROM prom_api.promql('sum(count_over_time(up[1d]))', '{end}')",
}


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("what", FLOATS)
def test_floats(store, table, what):
    ask = FLOATS[what].format(end=store.one("SELECT to_timestamp(%s)", (T0 / 1000 + 86_399,)))
    whole, notices = store.warned(ask)
    assert whole == [(12 * 6 * N,)] and not notices
    block, t_min, t_max = block_of(store, table, "up")
    store.sql("BEGIN")
    store.flip(table, f"id = {block}")
    rows, notices = store.warned(ask)
    assert rows == [(11 * 6 * N,)]
    assert len(notices) == 1, notices
    for part in warning_of(table, block, "up") + [f"from {t_min:%Y-%m-%d %H:%M:%S}", f"to {t_max:%Y-%m-%d %H:%M:%S}"]:
        assert part in notices[0]
    store.sql("SET LOCAL promscale.damaged_blocks = error")
    e = store.error(ask)
    assert e.pgcode == "XX001"
    store.sql("ROLLBACK")
    assert store.sql(ask) == [(12 * 6 * N,)]


HISTOGRAMS = {
    "rows": "SELECT count(*) FROM (SELECT * FROM prom_histogram.hist OFFSET 0) x WHERE histogram IS NOT NULL",
    "start times": "SELECT count(start_time) FROM prom_histogram.hist",
    "sum": "SELECT (histogram_count(sum(histogram)) / 3)::int8 FROM prom_histogram.hist",
    "promql": "SELECT value::int8 FROM prom_api.promql('count_over_time(hist[1d])', '{end}')",
}


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("what", HISTOGRAMS)
def test_histograms(store, table, what):
    ask = HISTOGRAMS[what].format(end=store.one("SELECT to_timestamp(%s)", (T0 / 1000 + 86_399,)))
    assert store.warned(ask) == ([(12 * N,)], [])
    block = block_of(store, table, "hist")[0]
    store.sql("BEGIN")
    store.flip(table, f"id = {block}")
    rows, notices = store.warned(ask)
    assert rows == [(11 * N,)] and len(notices) == 1
    assert all(part in notices[0] for part in warning_of(table, block, "hist"))
    store.sql("ROLLBACK")


NEWEST = {
    "distinct on": "SELECT DISTINCT ON (series_id) series_id, time FROM prom_metric.up ORDER BY series_id, time DESC",
    "last": "SELECT series_id, max(time), last(value, time) FROM prom_metric.up GROUP BY series_id ORDER BY 1",
    "max(time)": "SELECT series_id, max(time) FROM prom_metric.up GROUP BY series_id ORDER BY 1",
    "histograms": "SELECT DISTINCT ON (series_id) series_id, time, histogram FROM prom_histogram.hist"
                  " ORDER BY series_id, time DESC",
}


@pytest.mark.parametrize("what", NEWEST)
def test_the_newest_sample(store, what):
    """The last block is damaged: the one before has the newest sample."""
    metric = "hist" if what == "histograms" else "up"
    whole, notices = store.warned(NEWEST[what])
    assert not notices and len(whole) == (1 if metric == "hist" else 6)
    block, _, _ = block_of(store, "block_far", metric, 2)
    before = block_of(store, "block_far", metric, 1)
    store.sql("BEGIN")
    store.flip("block_far", f"id = {block}", at="20")  # in the head, which is all that the newest samples need
    rows, notices = store.warned(NEWEST[what])
    assert [r[0] for r in rows] == [r[0] for r in whole]
    assert {r[1] for r in rows} == {before[2]}
    assert len(notices) == 1 and all(part in notices[0] for part in warning_of("block_far", block, metric))
    store.sql("ROLLBACK")


def test_instant_promql(store):
    store.sql("BEGIN")
    block, _, t_max = block_of(store, "block_far", "up", 2)
    store.flip("block_far", f"id = {block}", at="20")
    for selector, metric in (("up", "up"), ("up @ end()", "up")):
        rows, notices = store.warned("SELECT * FROM prom_api.promql(%s, %s)", (selector, t_max))
        assert not rows and len(notices) == 1 and warning_of("block_far", block, metric)[0] in notices[0]
    rows, notices = store.warned("SELECT * FROM prom_api.promql_range('up', %s, %s, interval '1 min')",
                                 (block_of(store, "block_far", "up", 1)[1], t_max))
    assert rows and len(notices) == 1
    store.sql("ROLLBACK")


def test_many_blocks_at_once(store):
    """Where open blocks do not fit into memory they are read in turns: told of once all the same."""
    store.sql("BEGIN")
    store.sql("UPDATE _prom_data.merged SET t_max = t_max WHERE false")
    up, ids = store.metric("up", 6)
    for k in range(6):  # all over the same time
        store.block("merged", up, [(up, s, at(30, i) + k, 1.0) for s in ids for i in range(N)], "merged")
    block = store.one("SELECT max(id) FROM _prom_data.merged")
    store.flip("merged", f"id = {block}")
    store.sql("SET LOCAL promscale.block_memory = '64kB'; SET LOCAL work_mem = '64kB'")
    for ask in FLOATS["count(value)"], FLOATS["rows"]:
        rows, notices = store.warned(ask)
        assert rows == [(17 * 6 * N,)] and len(notices) == 1
    store.sql("ROLLBACK")


def test_scans_that_begin_again(store):
    """A nested loop comes by many times; each block is named once."""
    store.sql("BEGIN")
    block = block_of(store, "merged", "up")[0]
    store.flip("merged", f"id = {block}")
    store.sql("SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; SET LOCAL enable_material = off")
    rows, notices = store.warned(
        "SELECT sum(n)::int8 FROM prom_series.up s, LATERAL (SELECT count(value) n FROM prom_metric.up u"
        " WHERE u.series_id = s.series_id) x")
    assert rows == [(11 * 6 * N,)] and len(notices) == 1
    rows, notices = store.warned("SELECT a.count + b.count FROM (SELECT count(value) FROM prom_metric.up) a,"
                                 " (SELECT count(*) FROM prom_metric.up) b")
    assert rows == [(2 * 11 * 6 * N,)] and len(notices) == 1
    assert len(store.warned(FLOATS["count(*)"])[1]) == 1, "the next statement is told again"
    store.sql("ROLLBACK")


def test_a_cursor(store):
    store.sql("BEGIN")
    block = block_of(store, "block", "up", 0)[0]
    store.flip("block", f"id = {block}")
    said = []
    store.sql("DECLARE c NO SCROLL CURSOR FOR SELECT * FROM prom_metric.up")
    n = 0
    while True:
        rows, notices = store.warned("FETCH 500 FROM c")
        said += notices
        n += len(rows)
        if not rows:
            break
    assert n == 11 * 6 * N and len(said) == 1
    store.sql("ROLLBACK")


def test_a_limited_number_of_warnings(db):
    up, ids = db.metric("up", 1)
    db.views()
    for k in range(25):
        db.block("merged", up, [(up, ids[0], at(k, i), 1.0) for i in range(5)], "merged")
    db.flip("merged", "id % 25 <> 7")
    rows, notices = db.warned("SELECT count(*) FROM prom_metric.up")
    assert rows == [(5,)]
    assert len(notices) == 11
    assert all("cannot be read, its samples are left out" in n for n in notices[:10])
    assert len({n.splitlines()[0] for n in notices}) == 11
    assert "more blocks cannot be read, their samples are left out: 14" in notices[10]
    # the scan lives on when the statement that met the blocks has ended: cursors, and prepared statements in a transaction
    db.sql("BEGIN; DECLARE c CURSOR FOR SELECT * FROM prom_metric.up")
    assert len(db.warned("FETCH ALL FROM c")[1]) == 11
    assert not db.warned("COMMIT")[1]
    db.sql("COMMIT")
    db.flip("merged", "id % 25 IN (7, 20)")  # now the only whole one is the twentieth
    db.sql("BEGIN; DECLARE c CURSOR FOR SELECT * FROM prom_metric.up")
    assert len(db.warned("FETCH 5 FROM c")[1]) == 10
    assert ["are left out: 9" in n for n in db.warned("CLOSE c")[1]] == [True]
    db.sql("COMMIT")
    rows, notices = db.warned("SELECT value FROM prom_api.promql('count_over_time(up[1d])', to_timestamp(%s))",
                              (T0 / 1000 + 86_399,))
    assert rows == [(5.0,)] and len(notices) == 11


def test_bytes_that_the_server_cannot_bring(db):
    """Chunks of a TOAST value are missing: the server's own error is damage like any other."""
    rng = random.Random(1)
    up, ids = db.metric("up", 2)
    db.views()
    for k, table in enumerate(("merged", "block_far")):
        for b in range(2):
            db.block(table, up, [(up, s, at(9 * k + b) + i, rng.random()) for s in ids for i in range(6000)],
                     TABLES[table])
    asks = ("SELECT count(value), count(DISTINCT series_id) FROM prom_metric.up",
            "SELECT count(*), 2 FROM (SELECT * FROM prom_metric.up OFFSET 0) x WHERE value >= 0")
    for lost, table in enumerate(("merged", "block_far"), 1):
        db.lose_chunk(f"_prom_data.{table}")
        got = db.column(f"SELECT octet_length(_prom_ext.block_bytes(data, false)) = octet_length(data)"
                        f" FROM _prom_data.{table} ORDER BY id")
        assert got == [None, True], "what connectors fetch"
        for setting in ("RESET work_mem", "SET promscale.block_memory = '64kB'; SET work_mem = '64kB'"):
            db.sql(setting)
            for ask in asks:
                rows, notices = db.warned(ask)
                assert rows == [((4 - lost) * 2 * 6000, 2)]
                assert len(notices) == lost and "(expected 1) for toast value" in notices[-1]
        db.sql("SET promscale.damaged_blocks = error")
        assert db.error(asks[0]).pgcode == "XX001"
        db.sql("RESET ALL")


def test_an_exception_block_stays_whole(db):
    """What the scan rolls back inside is its own."""
    up, ids = db.metric("up", 1)
    db.views()
    rng = random.Random(1)
    db.block("merged", up, [(up, ids[0], at(0) + i, rng.random()) for i in range(6000)], "merged")
    db.lose_chunk("_prom_data.merged")
    db.sql("CREATE TABLE kept (n int8)")
    rows, notices = db.warned("""DO $$ DECLARE n int8; BEGIN
        BEGIN
            INSERT INTO kept VALUES (1);
            SELECT count(value) INTO n FROM prom_metric.up;
            INSERT INTO kept VALUES (n);
            SET LOCAL promscale.damaged_blocks = error;
            SELECT count(value) INTO n FROM prom_metric.up;
        EXCEPTION WHEN data_corrupted THEN INSERT INTO kept VALUES (3);
        END; END $$; SELECT n FROM kept ORDER BY n""")
    assert rows == [(3,)] and len(notices) == 1
    rows, _ = db.warned("BEGIN; INSERT INTO kept SELECT count(value) FROM prom_metric.up; SAVEPOINT a;"
                        " INSERT INTO kept SELECT count(*) + 1 FROM prom_metric.up; ROLLBACK TO a; COMMIT;"
                        " SELECT n FROM kept ORDER BY n")
    assert rows == [(0,), (3,)]


ROWS = {  # a change of a column -> is it seen by whoever reads all of the metric
    "tenant_id = tenant_id + 1": True,
    "dist_key = dist_key # 1": True,
    "level = level # 1": True,
    "kind = 77": True,
    "format = format # 3": True,
    "format = 9": True,
    "series_lo = series_lo - 1": True,
    "series_hi = series_hi + 1": True,
    "series_lo = series_hi, series_hi = series_lo": True,
    "t_min = t_min - interval '1 ms'": True,
    "t_min = t_min + interval '1 us'": True,
    "t_max = t_max + interval '1 ms'": True,
    "t_max = 'infinity'": True,  # not where a constraint forbids it
    "t_max = t_min": True,
    "n_series = n_series + 1": True,
    "n_series = 0": True,
    "n_samples = -1": True,
    "n_samples = n_samples - 1": True,
    "n_samples = 2147483647": True,
    "data = ''": True,
    "data = substr(data, 1, 9)": True,
    "data = data || '\\x00'": True,
    "data = substr(data, 1, octet_length(data) - 1)": True,
    "metric_id = metric_id + 1": False,  # the row has left the metric: prom_api.verify() sees it
}


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("change", ROWS)
def test_columns_of_the_row(store, table, change):
    if table in ("merged", "block") and "infinity" in change:
        return
    block = block_of(store, table, "up")[0]
    store.sql("BEGIN")
    store.sql(f"UPDATE _prom_data.{table} SET {change} WHERE id = {block}")
    for ask in ("count(value)", "rows", "promql"):
        ask = FLOATS[ask].format(end=store.one("SELECT to_timestamp(%s)", (T0 / 1000 + 86_399,)))
        rows, notices = store.warned(ask)
        assert rows == [(11 * 6 * N,)]
        if ROWS[change]:
            assert len(notices) == 1 and f"block {block} of table _prom_data.{table} cannot be read" in notices[0]
            store.sql("SAVEPOINT a; SET LOCAL promscale.damaged_blocks = error")
            assert store.error(ask).pgcode in ("XX001", "0A000")
            store.sql("ROLLBACK TO a")
    store.sql("ROLLBACK")


def test_label_requests(db):
    """series_alive() reads the directories of fresh rows."""
    up, ids = db.metric("up", 9)
    for k, part in enumerate((ids[:3], ids[3:6:2], ids[6:])):
        db.block("fresh", up, [(up, s, at(k), 1.0) for s in part])
    ask = ("SELECT _prom_ext.ids_count(_prom_ext.series_alive(0, NULL, to_timestamp(%s), to_timestamp(%s)))",
           (T0 / 1000, T0 / 1000 + 3600))
    assert db.warned(*ask) == ([(8,)], [])
    db.sql("BEGIN")
    db.flip("fresh", f"series_lo = {ids[3]}")  # not solid: its directory has to be read
    rows, notices = db.warned(*ask)
    assert rows == [(6,)] and len(notices) == 1 and "of table _prom_data.fresh cannot be read" in notices[0]
    db.sql("SET LOCAL promscale.damaged_blocks = error")
    assert db.error(*ask).pgcode == "XX001"
    db.sql("ROLLBACK")


def test_series_of_a_damaged_block_are_not_garbage(db):
    """Whether they have samples is not known: they stay, whatever the session's setting."""
    up, ids = db.metric("up", 9)
    db.block("fresh", up, [(up, s, at(0), 1.0) for s in ids[:3]])
    db.block("fresh", up, [(up, s, at(1), 1.0) for s in ids[3:6:2]])
    idle = "SELECT _prom_catalog.idle_series(%s, 0, %s)"
    assert db.one(idle, (up, ids[-1])) == [ids[4], *ids[6:]]
    db.sql("SET promscale.damaged_blocks = warn")
    for change in ("data = set_byte(data, 20, get_byte(data, 20) # 1)", "format = 9"):
        db.sql("BEGIN")
        db.sql(f"UPDATE _prom_data.fresh SET {change} WHERE series_lo = {ids[3]}")
        assert db.one(idle, (up, ids[-1])) == []
        assert db.error("SELECT _prom_catalog.delete_idle_series(ARRAY[%s]::int8[])", (ids[5],)).pgcode in ("XX001", "0A000")
        db.sql("ROLLBACK")
    assert db.one("SHOW promscale.damaged_blocks") == "warn"


def test_explain_tells(store):
    store.sql("BEGIN")
    store.flip("merged", f"id = {block_of(store, 'merged', 'up')[0]}")
    plan, _ = store.warned("EXPLAIN (ANALYZE, COSTS OFF) SELECT count(value) FROM prom_metric.up")
    assert any("Damaged Blocks: 1" in line for line, in plan)
    store.sql("ROLLBACK")


def test_deleting_refuses(store):
    """What cannot be read cannot be written anew: deleting part of it is an error, whatever the setting."""
    store.sql("BEGIN")
    block = block_of(store, "merged", "up")[0]
    store.flip("merged", f"id = {block}")
    e = store.error("SELECT prom_api.delete_series('up{a=\"v1\"}', to_timestamp(%s), to_timestamp(%s))",
                    (at(3) / 1000, at(4, 20) / 1000))
    assert e.pgcode == "XX001"
    store.sql("ROLLBACK")


def test_the_setting(store):
    assert store.one("SHOW promscale.damaged_blocks") == "warn"
    with pytest.raises(psycopg2.errors.InvalidParameterValue):
        store.sql("SET promscale.damaged_blocks = ignore")
