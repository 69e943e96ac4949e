"""prom_api.verify(): says nothing of what is whole, and names all that is not."""
import random
import threading

import pytest

from conftest import T0

HIST = "{{schema:0 count:3 sum:4 buckets:[1 2]}}"
DAY = 86_400_000
INVALID = "invalid page in block {} of relation {}"


def fill(db):
    """Floats and histograms, alone and packed, in every table; two tenants."""
    db.sql("SELECT _prom_catalog.set_setting('retention_period', '0')")
    rng = random.Random(3)
    up, ids = db.metric("up", 8)
    hist, hids = db.metric("hist", 2)
    tiny, tids = db.metric("tiny", 2)
    other = db.one("SELECT _prom_catalog.tenant_id('other')")
    far = db.resolve([{"__name__": "up", "a": "v0"}], tenant=other).series
    bucket = db.one("SELECT _prom_ext.bucket(%s)", (tiny,))
    now = db.one("SELECT floor(extract(epoch FROM now()) * 1000)::int8")

    def write(t, n=30):
        db.block("fresh", up, [(up, s, t + i * 15_000, rng.random(), t - 1000) for s in ids for i in range(n)])
        db.block("fresh", up, [(up, s, t + i * 15_000, 5.0) for s in far for i in range(n)], tenant=other)
        db.block("fresh", hist, [(hist, s, t + i * 15_000, HIST) for s in hids for i in range(n)])
        db.block("fresh", bucket, [(tiny, s, t + i * 15_000, 1.0) for s in tids for i in range(3)])

    for t in (T0, T0 + 9 * 3_600_000, T0 - 3000 * DAY, now - 30 * 3_600_000, now - 3 * 3_600_000):
        write(t)
    db.sql("CALL prom_api.execute_maintenance(force => true)")
    write(now - 3_600_000)
    write(T0 + 5000)
    for _ in range(3):
        db.sql("SELECT _prom_ext.merge_step()")
    write(now - 1_800_000)
    counts = {t: db.one(f"SELECT count(*) FROM _prom_data.{t}") for t in ("fresh", "merged", "block", "block_far")}
    assert all(counts.values()), counts
    return counts


@pytest.fixture(name="store", scope="module")
def store_of_all(server):
    db = server.create()
    fill(db)
    yield db
    db.close()
    server.drop(db.name)


@pytest.fixture(autouse=True)
def no_open_transaction(request):
    yield
    if "store" in request.fixturenames:
        request.getfixturevalue("store").sql("ROLLBACK")


def verify(db, deep=True, **more):
    bounds = "".join(f", {k} => %s" for k in more)
    return db.sql(f"SELECT table_name, block_id, tenant, metric_name, t_min, t_max, n_series, n_samples, problem"
                  f" FROM prom_api.verify(deep => {deep}{bounds})", list(more.values()))


@pytest.mark.parametrize("deep", [False, True])
def test_nothing_is_said_of_what_is_whole(store, deep):
    assert verify(store, deep) == []
    assert verify(store, deep, metrics=["up", "tiny"]) == []


def test_as_the_least_of_roles(store):
    store.sql("BEGIN; SET LOCAL ROLE prom_reader")
    assert verify(store) == []
    store.sql("RESET ROLE")
    block = store.one("SELECT max(id) FROM _prom_data.block")
    store.flip("block", f"id = {block}")
    store.sql("SET LOCAL ROLE prom_reader")
    assert [r[1] for r in verify(store, False)] == [block]


CHANGES = [
    "tenant_id = tenant_id + 7", "metric_id = metric_id + 1", "metric_id = 999", "dist_key = dist_key # 1",
    "level = level # 1", "kind = 3 - kind", "kind = 9", "format = 3 - format", "format = 0",
    "series_lo = series_lo + 1", "series_lo = -5", "series_hi = series_hi - 1", "series_hi = series_hi + 1",
    "t_min = t_min + interval '1 ms'", "t_max = t_max - interval '1 ms'", "t_max = t_max - interval '1 us'",
    "n_series = n_series - 1", "n_series = n_series + 1", "n_samples = n_samples + 1", "n_samples = 0",
    "id = 1000000000", "id = -1", "data = ''", "data = data || data", "data = substr(data, 2)",
]


@pytest.mark.parametrize("table", ["fresh", "merged", "block", "block_far"])
@pytest.mark.parametrize("change", CHANGES)
def test_each_column_of_the_row(store, table, change):
    block, tenant, metric = store.sql(f"SELECT b.id, b.tenant_id, m.metric_name FROM _prom_data.{table} b JOIN"
                                      " _prom_catalog.metric m ON m.id = b.metric_id WHERE n_series > 2"
                                      " ORDER BY b.id DESC LIMIT 1")[0]
    store.sql("BEGIN")
    store.sql(f"UPDATE _prom_data.{table} SET {change} WHERE id = {block}")
    found = [r for r in verify(store, False) if r[1] is not None]
    assert found and {r[1] for r in found} == {int(change[5:]) if change.startswith("id =") else block}
    assert found[0][0].startswith(f"_prom_data.{table}") and all(r[8] for r in found)
    if "tenant" not in change and "metric" not in change:
        assert found[0][2] == "" and found[0][3] == metric


@pytest.mark.parametrize("table", ["fresh", "merged", "block", "block_far"])
def test_every_bit_of_the_data(store, table):
    """One bit of each byte, another one at each; of a block of floats, one of histograms, and a packed one."""
    rng = random.Random(table)
    seen = set()
    for block, kind, metric, length, view in store.sql(
            f"SELECT b.id, kind, metric_id, octet_length(data), m.metric_name FROM _prom_data.{table} b"
            " LEFT JOIN _prom_catalog.metric m ON m.id = b.metric_id ORDER BY octet_length(data)"):
        if (kind, metric < 0) in seen:
            continue
        seen.add((kind, metric < 0))
        store.sql(f"""CREATE FUNCTION pg_temp.flipped(bits int[]) RETURNS SETOF int LANGUAGE plpgsql AS $$
            DECLARE good CONSTANT bytea := (SELECT data FROM _prom_data.{table} WHERE id = {block}); n int8;
            BEGIN
                FOR i IN 0 .. octet_length(good) - 1 LOOP
                    UPDATE _prom_data.{table} SET data = set_byte(good, i, get_byte(good, i) # bits[i + 1]) WHERE id = {block};
                    SELECT count(*) INTO n FROM prom_api.verify(deep => true{f", metrics => '{{{view}}}'" if view else ""})
                    WHERE block_id = {block};
                    IF n = 0 THEN RETURN NEXT i; END IF;
                END LOOP;
                UPDATE _prom_data.{table} SET data = good WHERE id = {block};
            END $$""")
        step = max(length // 150, 1)  # some hundred positions of large ones
        bits = [0 if i % step else 1 << rng.randrange(8) for i in range(length)]
        bits = [b or 1 for b in bits] if step == 1 else bits
        store.sql("BEGIN")
        if step == 1:
            assert store.sql("SELECT * FROM pg_temp.flipped(%s)", (bits,)) == []
        else:
            for i in range(0, length, step):
                store.sql("SAVEPOINT a")
                store.flip(table, f"id = {block}", i, bits[i])
                assert [r for r in verify(store, True, **({"metrics": [view]} if view else {})) if r[1] == block], i
                store.sql("ROLLBACK TO a")
        store.sql("ROLLBACK")
        store.sql("DROP FUNCTION pg_temp.flipped")
    assert len(seen) >= (3 if table == "fresh" else 2)


def test_series_that_the_catalog_does_not_know(store):
    store.sql("BEGIN")
    gone = store.one("DELETE FROM _prom_catalog.series WHERE id = (SELECT min(series_lo) FROM _prom_data.block) RETURNING id")
    found = verify(store, False)
    assert found and all(f"not in the catalog, the first is {gone}" in r[8] for r in found)
    assert {r[0][:17] for r in found} >= {"_prom_data.fresh", "_prom_data.merged", "_prom_data.block_"}
    store.sql("ROLLBACK; BEGIN")
    store.sql("UPDATE _prom_catalog.series SET tenant_id = 5 WHERE id = %s", (gone,))
    assert any("of another metric or tenant" in r[8] for r in verify(store, False))


def test_a_dropped_metric_may_linger_in_shared_rows(store):
    store.sql("BEGIN")
    store.sql("SELECT prom_api.drop_metric('tiny')")
    assert verify(store) == []


def test_sets_of_series(store):
    rows = store.sql("SELECT octet_length(series_ids), metric_id, window_start, tenant_id, part_lo FROM _prom_data.presence")
    assert len(rows) > 4
    for length, *key in rows[:4]:
        where = " WHERE (metric_id, window_start, tenant_id, part_lo) = (%s, %s, %s, %s)"
        for i in range(length):
            for bit in range(8):
                store.sql("BEGIN")
                store.sql("UPDATE _prom_data.presence SET series_ids = set_byte(series_ids, %s, get_byte(series_ids, %s) # %s)"
                          + where, (i, i, 1 << bit, *key))
                assert store.one("SELECT count(*) FROM _prom_catalog.verify_catalog(NULL, NULL, NULL)"
                                 " WHERE table_name = '_prom_data.presence'") == 1, (i, bit)
                store.sql("ROLLBACK")
        for change in ("n_series = n_series + 1", "part_lo = part_lo + 1000"):
            store.sql("BEGIN")
            store.sql(f"UPDATE _prom_data.presence SET {change}" + where, key)
            assert [r[0] for r in verify(store)] == ["_prom_data.presence"]
            store.sql("ROLLBACK")
        store.sql("BEGIN")
        store.sql("DELETE FROM _prom_data.presence" + where, key)
        assert verify(store, False) == []
        assert all("lacks series" in r[8] for r in verify(store)) and verify(store)
        store.sql("ROLLBACK")


def test_figures(store):
    for change in ("merged_rows = merged_rows + 1", "sealed_samples = sealed_samples - 1", "merged_bytes = 7"):
        store.sql("BEGIN")
        store.sql(f"UPDATE _prom_catalog.metric_day SET {change} WHERE (metric_id, day, tenant_id) ="
                  " (SELECT metric_id, day, tenant_id FROM _prom_catalog.metric_day LIMIT 1)")
        assert [r[0] for r in verify(store, False)] == ["_prom_catalog.metric_day"]
        store.sql("SELECT _prom_catalog.recount()")
        assert verify(store, False) == []
        store.sql("ROLLBACK")
    store.sql("BEGIN; DELETE FROM _prom_catalog.metric_day")
    assert len(verify(store, False)) > 3


def test_views_and_partitions(store):
    store.sql("BEGIN")
    store.sql("DROP VIEW prom_metric.hist CASCADE")
    assert verify(store, False) == [], "it may be about to be made"
    store.sql("UPDATE _prom_catalog.metric SET created_at = now() - interval '1 hour' WHERE metric_name = 'hist'")
    assert [(r[3], r[8]) for r in verify(store, False)] == [("hist", "it has no view in prom_metric")]
    store.sql("ROLLBACK; BEGIN")
    day, n = store.sql("SELECT tableoid::regclass::text, count(*) FROM _prom_data.block GROUP BY 1 LIMIT 1")[0]
    store.sql(f"ALTER TABLE _prom_data.block DETACH PARTITION {day}; UPDATE _prom_catalog.metric SET views_error = 'x'"
              " WHERE metric_name = 'up'")
    found = verify(store, False)
    assert {(r[0], r[8]) for r in found if r[0] != "_prom_catalog.metric_day"} == {
        (day, "a day's table that is no partition of _prom_data.block"),
        ("_prom_catalog.metric", "its views cannot be made: x")}
    assert any(r[0] == "_prom_catalog.metric_day" for r in found) and n


def test_a_merged_block_that_leaves_its_cell(store):
    store.sql("BEGIN")
    up, sid = store.sql("SELECT metric_id, id FROM _prom_catalog.series WHERE tenant_id = 0 ORDER BY id LIMIT 1")[0]
    t = store.one("SELECT (extract(epoch FROM date_trunc('day', now(), 'UTC')) * 1000)::int8") + DAY // 2  # an hour's end
    store.block("merged", up, [(up, sid, t - 1000, 1.0), (up, sid, t + 1000, 1.0)], "merged")
    assert any("leaves its cell" in r[8] for r in verify(store, False))
    store.block("block_far", up, [(up, sid, t, 1.0), (up, sid, t + DAY, 1.0)], "sealed")
    assert any("crosses the end of a day" in r[8] and r[0] == "_prom_data.block_far" for r in verify(store, False))


def test_bounds(store):
    store.sql("BEGIN")
    for table in ("block", "block_far"):
        store.flip(table)
    everything = verify(store, False)
    some = verify(store, False, metrics=["hist"])
    assert {r[3] for r in some} == {"hist"} and 0 < len(some) < len(everything)
    lo, hi = store.sql("SELECT min(t_min), max(t_max) FROM _prom_data.block_far")[0]
    assert 0 < len(verify(store, False, start=lo, stop=hi)) < len(everything)
    assert verify(store, False, start="2090-01-01") == []
    assert store.error("SELECT * FROM prom_api.verify(ARRAY['nobody'])").pgcode


def test_a_day_that_goes_meanwhile(server):
    """Retention drops a day behind the back of a verify that has listed it: the rest is looked at and told."""
    db = server.create()
    up, ids = db.metric("up", 2)
    for t in (T0, T0 + DAY):
        db.partition(t)
        db.block("block", up, [(up, s, t + i * 15_000, 1.0) for s in ids for i in range(20)], "sealed")
    db.sql("SELECT _prom_catalog.recount_presence(), _prom_catalog.recount()")
    first, last = db.column("SELECT DISTINCT tableoid::regclass::text FROM _prom_data.block ORDER BY 1")
    db.flip("block", f"tableoid = '{last}'::regclass")
    other = server.connect(db.name)
    cur = other.cursor()
    cur.execute("BEGIN; LOCK TABLE _prom_data.merged IN ACCESS EXCLUSIVE MODE")
    told = []
    thread = threading.Thread(target=lambda: told.append(verify(db, False)), daemon=True)
    thread.start()
    thread.join(1)
    assert thread.is_alive()
    cur.execute(f"DROP TABLE {first}; COMMIT")
    thread.join(90)
    assert told and [r[0] for r in told[0] if r[1] is not None] == [last]
    other.close()
    db.close()
    server.drop(db.name)


def test_damaged_catalog(server):
    """A page of the series that PostgreSQL refuses: blocks are looked at all the same."""
    db = server.create()
    up, ids = db.metric("up", 3)
    for k in range(4):
        db.block("merged", up, [(up, s, T0 + k * 60_000 + i * 5, 1.0) for s in ids for i in range(20)], "merged")
    db.sql("SELECT _prom_catalog.recount_presence(), _prom_catalog.recount()")
    assert verify(db) == []
    db.flip("merged", "id = (SELECT max(id) FROM _prom_data.merged)")
    bad = db.one("SELECT max(id) FROM _prom_data.merged")
    where = db.one("SELECT pg_relation_filepath('_prom_catalog.series')")
    db.sql("CHECKPOINT")
    db.close()
    server.stop("fast")
    with open(server.data / where, "r+b") as f:
        f.seek(8000)
        byte = f.read(1)
        f.seek(8000)
        f.write(bytes([byte[0] ^ 1]))
    server.start()
    db.conn = server.connect(db.name)
    found = verify(db)
    assert {(r[1], r[8]) for r in found if r[1] is None} == {
        (None, f"series in the catalog cannot be read: {INVALID.format(0, where)}")}, found
    assert [r[1] for r in found if r[1] is not None] == [bad]
    db.close()
    server.drop(db.name)


def test_damaged_pages(server):
    """With checksums of pages, one page of a table and one of its TOAST table that PostgreSQL refuses: all other rows
    are looked at, and the damage is told."""
    db = server.create()
    up, ids = db.metric("up", 3)
    rng = random.Random(1)
    for k in range(120):
        n = 2000 if k % 10 == 0 else 20
        db.block("merged", up, [(up, s, T0 + k * 60_000 + i * 5, rng.random()) for s in ids for i in range(n)], "merged")
    db.sql("SELECT _prom_catalog.recount_presence(), _prom_catalog.recount()")
    assert verify(db) == []
    bad = db.one("SELECT min(id) FROM _prom_data.merged WHERE n_samples < 100 AND id % 2 = 0")
    in_page = db.column("SELECT id FROM _prom_data.merged WHERE (ctid::text::point)[0] = (SELECT (ctid::text::point)[0]"
                        " FROM _prom_data.merged WHERE id = %s)", (bad,))
    assert db.one("SELECT setting FROM pg_settings WHERE name = 'data_checksums'") == "on"
    where, page = db.sql("SELECT pg_relation_filepath('_prom_data.merged'), (ctid::text::point)[0]::int"
                         " FROM _prom_data.merged WHERE id = %s", (bad,))[0]
    toast, pages = db.sql("SELECT pg_relation_filepath(reltoastrelid), pg_relation_size(reltoastrelid) / 8192 FROM pg_class"
                          " WHERE oid = '_prom_data.merged'::regclass")[0]
    db.flip("merged", "id = (SELECT max(id) FROM _prom_data.merged)")  # and a bit, later on
    last = db.one("SELECT max(id) FROM _prom_data.merged")
    db.sql("CHECKPOINT")
    db.close()
    server.stop("fast")
    for path, at in ((where, page * 8192 + 5000), (toast, (pages - 2) * 8192 + 4000)):
        with open(server.data / path, "r+b") as f:
            f.seek(at)
            byte = f.read(1)
            f.seek(at)
            f.write(bytes([byte[0] ^ 1]))
    server.start()
    db.conn = server.connect(db.name)
    found = verify(db)
    assert [r[8] for r in found if r[0] == "_prom_catalog"] == [f"verify_figures() cannot go on: {INVALID.format(page, where)}"]
    found = [r for r in found if r[0] == "_prom_data.merged"]
    pages = [r for r in found if r[1] is None]
    assert [r[8] for r in pages] == [f"page {page} cannot be read: {INVALID.format(page, where)}"]
    assert any("invalid page" in r[8] for r in found if r[1] is not None), found
    assert last in [r[1] for r in found] and not set(in_page) & {r[1] for r in found}
    assert 3 <= len(found) <= 4, found
    db.close()
    server.drop(db.name)
