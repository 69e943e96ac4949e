"""Erased bytes leave the files: every byte string that only erased rows had is looked for below base/."""
import random

import pytest

from conftest import DAY, HOUR

BLOCKS = "SELECT data FROM _prom_data.fresh UNION ALL SELECT data FROM _prom_data.merged" \
         " UNION ALL SELECT data FROM _prom_data.block UNION ALL SELECT data FROM _prom_data.block_far"
WINDOW = 24


def stored(db):
    return [bytes(data) for data in db.column(BLOCKS)]


def only_in(old, new):
    """Byte strings of blocks that are gone, which no block has that is there."""
    rest = b"\0".join(new)
    all_of_them = {w for data in old for i in range(0, len(data) - WINDOW, 61) for w in [data[i:i + WINDOW]]
            if len(set(w)) > 12 and w not in rest}
    return set(sorted(all_of_them)[::1 + len(all_of_them) // 40])


def fill(db, rng, at, hosts, n):
    db.sql("SELECT create_metric('m')")
    for host in hosts:
        db.put("m", f'{{"user": "{host}"}}', [(at + i * 15_000, rng.random()) for i in range(n)])
    db.views()


def level(db, form):
    """Moves what is stored to where the test wants it, and leaves nothing behind in files of the levels before."""
    if form == "merged":
        db.sql("SELECT _prom_ext.merge_step()")
    elif form in ("sealed", "far"):
        db.round(force=True)
    tables = {"fresh": "fresh", "merged": "merged", "sealed": "block", "far": "block_far"}
    counts = {t: db.count(f"_prom_data.{t}") for t in tables.values()}
    assert {t for t, n in counts.items() if n > 0} == {tables[form]}, counts


@pytest.mark.parametrize("n", [40, 4000])  # rows in the table itself, and in TOAST
@pytest.mark.parametrize("form", ["fresh", "merged", "sealed", "far"])
def test_samples(db, form, n):
    rng = random.Random(form + str(n))
    db.sql("SELECT _prom_catalog.set_setting('retention_period', '0')")
    at = (db.now_ms() - (600 * DAY if form == "far" else 2 * DAY)) // DAY * DAY
    fill(db, rng, at, ["anna-" + "x" * 20, "bert-" + "y" * 20], n)
    level(db, form)
    before = stored(db)
    bert = {k: v for k, v in db.shown("m").items()}
    cut = (at + n // 4 * 15_000, at + n // 2 * 15_000)
    anna = db.one("SELECT series_id FROM prom_series.m WHERE \"user\" ~ 'anna'")
    assert db.one("SELECT delete_series('m{user=~\"anna.*\"}', to_timestamp(%s), to_timestamp(%s))",
                  (cut[0] / 1000, cut[1] / 1000)) == n // 2 - n // 4 + 1
    left = {k: v for k, v in bert.items() if k[0] != anna or not cut[0] <= k[1] <= cut[1]}
    assert db.shown("m") == left
    needles = only_in(before, stored(db))
    assert db.found(needles), "the test would find nothing at all"
    db.round()
    assert db.found(needles) == set()
    assert db.count("_prom_catalog.erasure") == 0
    assert db.shown("m") == left
    # the rest: now the series itself, and its name with it
    assert db.found({b"anna-xxx"}) != set()
    before = stored(db)
    db.sql("SELECT delete_series('m{user=~\"anna.*\"}')")
    needles = only_in(before, stored(db)) | {b"anna-xxx"}
    db.round()
    assert db.found(needles) == set()
    assert db.found({b"bert-yyy"}) != set() and db.shown("m") == {k: v for k, v in left.items() if k[0] != anna}


def test_what_moved_before_it_was_erased(db):
    """Maintenance has copied the samples from table to table, and they were analyzed."""
    rng = random.Random(1)
    at = (db.now_ms() - 2 * DAY) // DAY * DAY
    fill(db, rng, at, ["anna-" + "x" * 20, "bert-" + "y" * 20], 30)
    before = stored(db)
    db.sql("ANALYZE")
    db.sql("SELECT _prom_ext.merge_step()")
    before += stored(db)
    db.sql("ANALYZE")
    db.round(force=True)
    before += stored(db)
    db.sql("ANALYZE")
    needles = only_in(before, [])
    assert db.found(needles)
    db.sql("SELECT delete_series('m')")
    db.round()
    assert db.found(needles | {b"anna-xxx", b"bert-yyy"}) == set()


def test_what_lay_in_block_far_before(db):
    """A day that had no partition when it was sealed first, and got one when samples were to be kept longer."""
    rng = random.Random(7)
    at = (db.now_ms() - 8 * DAY) // DAY * DAY
    db.sql("SELECT _prom_catalog.set_setting('retention_period', '3 days')")
    fill(db, rng, at, ["anna-" + "x" * 20], 60)
    db.sql("SELECT _prom_ext.merge_step()")
    db.sql("SELECT _prom_ext.seal_step(true)")
    assert db.count("_prom_data.block_far") == 1
    before = stored(db)
    db.sql("SELECT _prom_catalog.set_setting('retention_period', '0')")
    db.put("m", f'{{"user": "anna-{"x" * 20}"}}', [(at + 7, rng.random())])
    db.sql("SELECT _prom_ext.merge_step()")
    db.sql("SELECT _prom_catalog.ensure_partitions()")
    db.sql("SELECT _prom_ext.seal_step(true)")
    assert (db.count("_prom_data.block_far"), db.count("_prom_data.block")) == (0, 1)
    needles = only_in(before + stored(db), [])
    db.sql("CHECKPOINT")
    assert db.found(needles)
    db.sql("SELECT delete_series('m')")
    db.round()
    assert db.found(needles) == set()


def test_exemplars_and_labels(db):
    db.sql("SELECT create_metric('m')")
    at = db.now_ms() - HOUR
    for user in ("anna-" + "x" * 20, "bert-" + "y" * 20):
        db.put("m", f'{{"user": "{user}", "both": "common-zzzzzz"}}', [(at, 1.0)])
    db.views()
    metric = db.one("SELECT id FROM _prom_catalog.metric")
    anna, bert = db.column("SELECT series_id FROM prom_series.m ORDER BY \"user\"")
    db.sql("SELECT _prom_catalog.insert_exemplars('{0,0}', ARRAY[%s, %s], '{5,5}', ARRAY[%s, %s], '{now,now}', '{1,1}',"
           " ARRAY['{\"trace_id\": \"trace-aaaaaa\"}'::jsonb, '{\"trace_id\": \"trace-bbbbbb\"}'])",
           (metric, metric, anna, bert))
    db.sql("ANALYZE")
    gone, stays = {b"anna-xxx", b"trace-aaaaaa"}, {b"bert-yyy", b"trace-bbbbbb", b"common-zzzzzz"}
    assert {n for _, n in db.found(gone | stays)} == gone | stays
    db.sql("SELECT delete_series('m{user=~\"anna.*\"}')")
    db.round()
    assert {n for _, n in db.found(gone | stays)} == stays
    assert sorted(db.column("SELECT value FROM _prom_catalog.label")) == ["bert-" + "y" * 20, "common-zzzzzz", "m"]


def test_a_dropped_metric(db):
    at = db.now_ms() - HOUR
    for metric in ("kept", "dropped"):
        db.sql("SELECT create_metric(%s)", (metric,))
        db.put(metric, f'{{"user": "{metric}-xxxxxx", "both": "common-zzzzzz"}}', [(at, 1.0)])
    db.sql("SELECT _prom_catalog.upsert_metadata(0, '{dropped,kept}', '{gauge,gauge}', ARRAY['', ''],"
           " '{help of dropped-hhhh,help of kept-hhhh}')")
    db.sql("SELECT drop_metric('dropped')")
    db.round()
    gone, stays = {b"dropped-xxxxxx", b"help of dropped-hhhh"}, {b"kept-xxxxxx", b"help of kept-hhhh", b"common-zzzzzz"}
    assert {n for _, n in db.found(gone | stays)} == stays


def test_a_metric_that_was_sealed_before_it_was_dropped(db):
    """Its samples have passed through tables in which no row of it is left."""
    rng = random.Random(8)
    fill(db, rng, (db.now_ms() - 2 * DAY) // DAY * DAY, ["anna-" + "x" * 20, "bert-" + "y" * 20], 30)
    before = stored(db)
    db.sql("SELECT _prom_ext.merge_step()")
    before += stored(db)
    db.sql("SELECT _prom_catalog.ensure_partitions()")
    db.sql("SELECT _prom_ext.seal_step(true)")
    db.sql("VACUUM (TRUNCATE off) _prom_data.fresh, _prom_data.merged")
    assert (db.count("_prom_data.fresh"), db.count("_prom_data.merged"), db.count("_prom_data.block")) == (0, 0, 1)
    needles = only_in(before + stored(db), [])
    assert {"_prom_data.fresh", "_prom_data.merged"} < {table for table, _ in db.found(needles)}
    db.sql("SELECT drop_metric('m')")
    db.round()
    assert db.found(needles) == set()


def test_small_metrics_that_share_rows(db):
    """Samples of a dropped metric in a row that others share go at once, as the row's other samples stay."""
    ids = {}
    names = [f"m{i}" for i in range(40)]
    for name in names:
        ids[name] = db.make(name)
    bucket = db.sql("SELECT _prom_ext.bucket(id), array_agg(metric_name ORDER BY id) FROM _prom_catalog.metric"
                    " GROUP BY 1 HAVING count(*) > 1 LIMIT 1")[0]
    at = db.now_ms() - HOUR
    rng = random.Random(2)
    db.block("fresh", bucket[0], [(*ids[n], at + i, rng.random()) for n in bucket[1] for i in range(10)])
    before, first, rest = stored(db), bucket[1][0], bucket[1][1:]
    db.sql("SELECT drop_metric(%s)", (first,))
    assert all(len(db.times(n)) == 10 for n in rest)
    assert db.one("SELECT n_samples FROM _prom_data.fresh") == 10 * len(rest)
    needles = only_in(before, stored(db))
    db.round()
    assert needles and db.found(needles) == set()


def test_a_replaced_value(db):
    rng = random.Random(3)
    at = (db.now_ms() - 2 * DAY) // DAY * DAY
    fill(db, rng, at, ["anna"], 500)
    db.round(force=True)
    before = stored(db)
    db.sql("SET promscale.on_conflict = 'overwrite'")
    db.put("m", '{"user": "anna"}', [(at + i * 15_000, 1.0) for i in range(500)])
    needles = only_in(before, stored(db))
    assert db.found(needles)
    db.round()
    assert db.found(needles) == set() and set(db.shown("m").values()) == {1.0}


def test_a_snapshot_from_before_keeps_them_until_it_ends(db):
    """VACUUM may not remove what a transaction still sees: the table stays on the list, and its turn comes."""
    rng = random.Random(4)
    fill(db, rng, db.now_ms() - HOUR, ["anna"], 100)
    before = stored(db)
    reader = db.connect()
    reader.autocommit = False
    cur = reader.cursor()
    cur.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM prom_metric.m")
    assert cur.fetchone() == (100,)
    db.sql("SELECT delete_series('m')")
    db.round()
    needles = only_in(before, stored(db))
    assert db.found(needles) != set()
    assert db.one("SELECT failures FROM _prom_catalog.erasure WHERE table_name = '_prom_data.fresh'") == 1
    cur.execute("SELECT count(*) FROM prom_metric.m")
    assert cur.fetchone() == (100,)
    reader.close()
    db.sql("UPDATE _prom_catalog.erasure SET next_try = now()")
    db.round()
    assert db.found(needles) == set() and db.count("_prom_catalog.erasure") == 0


def test_what_is_erased_between_vacuum_and_wiping(db):
    """Its rows are still there when the round wipes, and the round does not know of them: another one has to come."""
    rng = random.Random(7)
    fill(db, rng, db.now_ms() - HOUR, ["anna", "bert"], 300)
    db.sql("SELECT delete_series('m{user=\"anna\"}')")
    commands = db.column("SELECT _prom_catalog.take_vacuums()")
    for command in commands:
        if "wipe" not in command:
            db.sql(command)
    before = stored(db)
    db.sql("SELECT delete_series('m{user=\"bert\"}')")
    needles = only_in(before, stored(db))
    assert db.found(needles)
    for command in commands:
        if "wipe" in command:
            db.sql(command)
    for _ in range(2):
        db.sql("UPDATE _prom_catalog.erasure SET next_try = now()")
        db.round()
    assert db.found(needles) == set() and db.count("_prom_catalog.erasure") == 0


def test_large_tables_in_several_rounds(db):
    rng = random.Random(5)
    fill(db, rng, (db.now_ms() - 2 * DAY) // DAY * DAY, ["anna"], 5000)
    before = stored(db)
    db.sql("SELECT delete_series('m')")
    for c in db.column("SELECT _prom_catalog.take_vacuums()"):
        db.sql(c if "VACUUM" in c else c.rstrip(")") + ", 3)")  # three pages a go
    assert db.count("_prom_catalog.erasure") > 0
    goes = 0
    while db.count("_prom_catalog.erasure") > 0 and goes < 2000:
        table = db.one("SELECT table_name FROM _prom_catalog.erasure LIMIT 1")
        db.sql("SELECT _prom_catalog.wipe_erased(table_name, erased_by, pg_snapshot_xmin(pg_current_snapshot()), 3)"
               " FROM _prom_catalog.erasure WHERE table_name = %s", (table,))
        goes += 1
    assert 2 < goes < 2000 and db.found(only_in(before, [])) == set()


def test_wiped_pages_survive_a_crash(db):
    rng = random.Random(6)
    fill(db, rng, db.now_ms() - HOUR, ["anna", "bert"], 300)
    before = stored(db)
    db.sql("SELECT delete_series('m{user=\"anna\"}')")
    left = db.shown("m")
    needles = only_in(before, stored(db))
    db.sql("CHECKPOINT")  # erased, not wiped yet
    assert db.found(needles)
    db.round()
    db.conn.close()
    db.server.stop("immediate")
    db.server.start()
    db.conn = db.connect()
    assert db.shown("m") == left and db.found(needles) == set()


def test_copies_of_a_transaction_that_failed(db):
    """A page that somebody reads is left out by VACUUM: what was written there and rolled back is still in it."""
    db.sql("CREATE TABLE public.t (a text)")
    db.sql("INSERT INTO public.t VALUES ('here-to-stay')")
    db.sql("BEGIN; INSERT INTO public.t VALUES ('never-was-there'); ROLLBACK")
    reader = db.connect()
    reader.autocommit = False
    cur = reader.cursor()
    cur.execute("DECLARE c CURSOR FOR SELECT a FROM public.t; FETCH 1 FROM c")
    wipe = "SELECT kept FROM _prom_ext.wipe_pages('public.t'::regclass, 0, 100, pg_snapshot_xmax(pg_current_snapshot())::text::xid8)"
    db.sql("VACUUM public.t")
    assert db.one(wipe) == 1
    reader.close()
    db.sql("VACUUM public.t")
    assert db.one(wipe) == 0
    assert {n for _, n in db.found({b"here-to-stay", b"never-was-there"})} == {b"here-to-stay"}
