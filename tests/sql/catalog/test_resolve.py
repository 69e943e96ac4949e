"""resolve_series: text in, ids out."""
import random
import uuid

import psycopg2
import pytest

from database import array, batch_of, series, RESOLVE

UP = [series("up", job="node", instance="a"), series("up", job="node", instance="b"),
      series("up", job="prometheus"), series("http_total", job="node", code="200")]


def stored(db):
    """{series id: its labels as text, read back through positions}, __name__ included."""
    rows = db.sql("""
        SELECT s.id, s.tenant_id, k.key, l.value, m.metric_name, l.tenant_id
        FROM _prom_catalog.series s
        JOIN _prom_catalog.metric m ON m.id = s.metric_id
        JOIN _prom_catalog.label_key_position p ON p.metric_id = s.metric_id
        JOIN _prom_catalog.label_key k ON k.id = p.key_id
        JOIN _prom_catalog.label l ON l.id = s.labels[p.pos] AND l.key_id = k.id""")
    found = {}
    for sid, tenant, key, value, metric, label_tenant in rows:
        assert tenant == label_tenant
        found.setdefault(sid, {})[key] = value
        if key == "__name__":
            assert value == metric
    return found


def feed_ids(db, op="c"):
    return sorted(db.column("SELECT unnest(series_ids) FROM _prom_catalog.series_feed WHERE op = %s", (op,)))


def test_ids_lead_back_to_the_text(db):
    got = db.resolve(UP)
    assert len(set(got.series)) == len(UP) and len(set(got.metrics)) == 2
    text = stored(db)
    assert [text[i] for i in got.series] == UP
    assert feed_ids(db) == sorted(got.series)


def test_again_gives_the_same_and_writes_nothing(db):
    first = db.resolve(UP)
    before = db.sql("SELECT last_value FROM _prom_catalog.label_id_seq"), db.one("SELECT count(*) FROM _prom_catalog.series_feed")
    assert db.resolve(UP) == first
    shuffled = list(UP)
    for seed in range(5):
        random.Random(seed).shuffle(shuffled)
        got = db.resolve(shuffled)
        assert [got.series[shuffled.index(s)] for s in UP] == first.series
    assert before == (db.sql("SELECT last_value FROM _prom_catalog.label_id_seq"),
                      db.one("SELECT count(*) FROM _prom_catalog.series_feed"))


def test_new_ids_ascend_as_the_series_came(db):
    """Series of one target come together; blocks are in the order of ids and share times between neighbours."""
    batch = [series("m", instance=f"host-{t}", cpu=str(c)) for t in range(20) for c in range(10)]
    random.Random(1).shuffle(batch)
    known = db.resolve(batch[50:60]).series
    ids = db.resolve(batch).series
    assert ids[50:60] == known
    new = ids[:50] + ids[60:]
    assert new == sorted(new)
    for row, in db.sql("SELECT series_ids FROM _prom_catalog.series_feed"):
        assert row == sorted(row)


def test_partly_known_batches(db):
    first = db.resolve(UP[:2])
    got = db.resolve(UP)
    assert got.series[:2] == first.series
    assert stored(db)[got.series[3]] == UP[3]
    assert feed_ids(db) == sorted(got.series)


def test_positions_gaps_and_cut(db):
    ids = db.resolve([series("m", a="1", b="2", c="3"), series("m", a="1"), series("m", c="3")]).series
    labels = dict(db.sql("SELECT id, labels FROM _prom_catalog.series"))
    full, short, gap = (labels[i] for i in ids)
    assert len(full) == 4 and all(full)
    assert short == full[:2]
    assert gap == [full[0], 0, 0, full[3]]
    later = db.resolve([series("m", aa="0", c="3")]).series[0]
    assert db.one("SELECT labels[4:5] FROM _prom_catalog.series WHERE id = %s", (later,))[0] == full[3]
    assert db.column("SELECT k.key FROM _prom_catalog.label_key_position p JOIN _prom_catalog.label_key k ON k.id = p.key_id"
                     " ORDER BY pos") == ["__name__", "a", "b", "c", "aa"]
    assert db.one("SELECT positions FROM _prom_catalog.metric") == 5


def test_positions_in_the_order_of_keys_within_a_batch(db):
    """By bytes, upper case first; __name__ always at 1, though ! sorts before it."""
    db.resolve([series("m", node="x", namespace="y", Zone="z", **{"!": "w"})])
    assert db.column("SELECT k.key FROM _prom_catalog.label_key_position p JOIN _prom_catalog.label_key k ON k.id = p.key_id"
                     " ORDER BY pos") == ["__name__", "!", "Zone", "namespace", "node"]


def test_empty_batch(db):
    got = db.resolve([])
    assert got.metrics == [] and got.series == [] and got.generation > 0


def test_metric_without_series(db):
    got = db.resolve([], batch=[["lonely"], [], [], [], [], []])
    assert len(got.metrics) == 1 and got.series == []


def test_duplicates_within_a_batch(db):
    s = series("m", a="1", b="2")
    pairs = [("__name__", "m"), ("a", "1"), ("b", "2"), ("a", "1"), ("__name__", "m")]
    got = db.resolve([], batch=[["m", "m"], [k for k, _ in pairs], [v for _, v in pairs], [1, 2, 1], [3, 3, 3],
                                [1, 2, 3, 5, 4, 3, 1, 4, 3]])
    assert len(set(got.series)) == 1 and len(set(got.metrics)) == 1
    assert db.resolve([s]).series == got.series[:1]
    assert feed_ids(db) == got.series[:1]
    assert db.one("SELECT count(*) FROM _prom_catalog.label") == 3


def test_tenants_are_apart(db):
    """The same text, two tenants: one metric, two series, and no label in common."""
    t1, t2 = db.one("SELECT _prom_catalog.tenant_id('one')"), db.one("SELECT _prom_catalog.tenant_id('two')")
    assert len({0, t1, t2}) == 3 and db.one("SELECT _prom_catalog.tenant_id('one')") == t1
    assert db.one("SELECT _prom_catalog.tenant_id('')") == 0
    got = [db.resolve(UP, tenant=t) for t in (0, t1, t2)]
    assert got[0].metrics == got[1].metrics == got[2].metrics
    assert len(set(got[0].series + got[1].series + got[2].series)) == 3 * len(UP)
    assert db.one("SELECT count(DISTINCT digest) FROM _prom_catalog.series") == len(UP)
    text = stored(db)
    for g in got:
        assert [text[i] for i in g.series] == UP
    assert db.resolve(UP, tenant=t1).series == got[1].series


def test_digests_are_those_of_the_library(db):
    """Pinned in lib/model's unit test, too: stored identities never change."""
    ids = db.resolve([series("up", job="node")]).series
    assert db.one("SELECT digest = _prom_ext.series_digest('{job,__name__}', '{node,up}') FROM _prom_catalog.series"
                  " WHERE id = %s", (ids[0],))
    assert db.one("SELECT digest = _prom_ext.text_digest('node') FROM _prom_catalog.label WHERE value = 'node'")
    assert db.one("SELECT bool_and(digest = _prom_ext.text_digest(key)) FROM _prom_catalog.label_key")
    assert db.one("SELECT bool_and(digest = _prom_ext.text_digest(metric_name)) FROM _prom_catalog.metric")
    assert db.one("SELECT _prom_ext.label_digest('a', 'b') = _prom_ext.series_digest('{a}', '{b}')")
    assert db.one("SELECT _prom_ext.label_digest('ab', 'c') <> _prom_ext.label_digest('a', 'bc')")
    # XXH3-128 of no bytes, as published
    assert db.one("SELECT _prom_ext.text_digest('')::text") == str(uuid.UUID("99aa06d3014798d86001c324468d497f"))


@pytest.mark.parametrize("tenant_metric", [(0, 1), (0, -1), (7, 2147483647), (-1, -2147483648)])
def test_dist_key(shared_db, tenant_metric):
    tenant, metric = tenant_metric
    mask = (1 << 64) - 1
    x = ((tenant & 0xffffffff) << 32 | metric & 0xffffffff) + 0x9E3779B97F4A7C15 & mask
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & mask
    x = (x ^ x >> 27) * 0x94D049BB133111EB & mask
    x ^= x >> 31
    assert shared_db.one("SELECT _prom_ext.dist_key(%s, %s)", tenant_metric) & mask == x


GOOD = batch_of([series("m", a="1")])  # [['m'], ['__name__','a'], ['m','1'], [1], [2], [1,2]]
BAD = {
    "metric index 0": (3, [0]),
    "metric index too high": (3, [2]),
    "pair index 0": (5, [0, 2]),
    "pair index too high": (5, [1, 3]),
    "negative pair index": (5, [1, -1]),
    "count 0": (4, [0]),
    "negative count": (4, [-1]),
    "count beyond the end": (4, [3]),
    "refs left over": (5, [1, 2, 2]),
    "huge count": (4, [2147483647]),
    "counts missing": (4, []),
    "keys without values": (2, ["m"]),
    "not sorted": (5, [2, 1]),
    "key twice": (5, [1, 1]),
    "name of another metric": (0, ["other"]),
    "empty metric": (0, [""]),
    "empty value": (2, ["m", ""]),
    "empty key": (1, ["__name__", ""]),
    "null metric": (0, [None]),
    "null key": (1, ["__name__", None]),
    "null value": (2, ["m", None]),
    "null index": (5, [1, None]),
    "null count": (4, [None]),
}


@pytest.mark.parametrize("name", BAD)
def test_wrong_arguments(shared_db, name):
    batch = [list(x) for x in GOOD]
    at, items = BAD[name]
    batch[at] = items
    before = shared_db.one("SELECT count(*) FROM _prom_catalog.metric")
    with pytest.raises(psycopg2.Error) as e:
        shared_db.resolve([], batch=batch)
    assert e.value.pgcode == "22023", e.value
    assert "null" in name or "hint" in str(e.value).lower()
    assert shared_db.one("SELECT count(*) FROM _prom_catalog.metric") == before


def test_no_name(shared_db):
    with pytest.raises(psycopg2.Error) as e:
        shared_db.resolve([], batch=[["m"], ["a"], ["1"], [1], [1], [1]])
    assert e.value.pgcode == "22023" and "__name__" in str(e.value)


def test_two_dimensions(shared_db):
    with pytest.raises(psycopg2.Error) as e:
        shared_db.sql(RESOLVE, [0, "{{m},{n}}", "{}", "{}", "{}", "{}", "{}"])
    assert e.value.pgcode == "22023"


def test_null_argument_gives_null(shared_db):
    assert shared_db.sql(RESOLVE, [0, None, "{}", "{}", "{}", "{}", "{}"]) == [(None, None, None)]


@pytest.mark.parametrize("call", ["_prom_catalog.guard(1)", "_prom_catalog.resolve_series(0,'{}','{}','{}','{}','{}','{}')"])
@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_old_snapshots_are_refused(shared_db, call, level):
    conn = shared_db.connect()
    cur = conn.cursor()
    cur.execute(f"BEGIN ISOLATION LEVEL {level}")
    with pytest.raises(psycopg2.Error) as e:
        cur.execute(f"SELECT {call}")
    assert e.value.pgcode == "25001"
    conn.close()


ODD_TEXT = ["ü", "日本語" * 40, 'quo"te', "apo'strophe", "back\\slash", "{curly,comma}", " ", "\t\n\r\x01\x7f", "NULL",
            "null", "%s %I", "; DROP TABLE _prom_catalog.series;", "\U0001f600", "a" * 63, "x" * 10000]


def test_any_text(db):
    """Whatever is legal in label names and values comes back as it was."""
    batch = [{"__name__": t, t: t, "k": t} for t in ODD_TEXT]
    got = db.resolve(batch)
    text = stored(db)
    assert [text[i] for i in got.series] == batch
    assert db.resolve(batch) == got


def test_poison_values(db):
    """A 3 MB value, 700 labels on one series, 3.2 kB keys: each larger than an index entry may be."""
    big = series("m", a="v" * 3_000_000)
    wide = series("m", **{f"label_{i:04}": f"value {i} " + "w" * 50 for i in range(700)})
    long_key = {"__name__": "m", "k" * 3200: "1", "k" * 3201: "2"}
    batch = [big, wide, long_key, series("n" * 5000, a="1"), series("n" * 5001, a="1")]
    got = db.resolve(batch)
    assert len(set(got.series)) == len(batch) and len(set(got.metrics)) == 3
    text = stored(db)
    assert [text[i] for i in got.series] == batch
    assert db.resolve(batch) == got


def test_a_metric_has_a_limit_of_label_names(db):
    """8192 positions: the next one is refused, everything else of the metric goes on."""
    db.resolve([series("m", **{f"k{i}": "v" for i in range(j, j + 1000)}) for j in range(0, 8000, 1000)])
    left = 8192 - 1 - 8000
    db.resolve([series("m", **{f"l{i}": "v" for i in range(left)})])
    assert db.one("SELECT positions FROM _prom_catalog.metric") == 8192
    with pytest.raises(psycopg2.Error) as e:
        db.resolve([series("m", one_more="v")])
    assert e.value.pgcode == "54000"
    assert len(db.resolve([series("m", k7999="other"), series("other", one_more="v")]).series) == 2


@pytest.mark.parametrize("damage, code", [
    ("UPDATE _prom_catalog.label SET value = 'other' WHERE value = 'node'", "23505"),
    ("UPDATE _prom_catalog.label_key SET key = 'other' WHERE key = 'job'", "23505"),
    ("UPDATE _prom_catalog.metric SET metric_name = 'other' WHERE metric_name = 'up'", "23505"),
    ("UPDATE _prom_catalog.series SET labels = labels || 0", "23505"),
    ("UPDATE _prom_catalog.series SET labels = trim_array(labels, 1)", "23505"),
    ("UPDATE _prom_catalog.series SET labels[2] = labels[1]", "23505"),
    ("DELETE FROM _prom_catalog.state", "XX001"),
])
def test_a_hit_is_verified(db, damage, code):
    """Digests that belong to other text, as if two texts had one digest: an error, never a mix-up."""
    db.resolve(UP)
    db.sql(damage)
    with pytest.raises(psycopg2.Error) as e:
        db.resolve(UP)
    assert e.value.pgcode == code


def test_failed_call_leaves_nothing(db):
    conn = db.connect()
    conn.autocommit = False
    cur = conn.cursor()
    cur.execute(RESOLVE, [0, *map(array, batch_of(UP))])
    conn.rollback()
    conn.close()
    for table in ("metric", "label", "label_key", "label_key_position", "series", "series_feed"):
        assert db.one(f"SELECT count(*) FROM _prom_catalog.{table}") == 0
    assert [stored(db)[i] for i in db.resolve(UP).series] == UP


def test_look_ups_never_scan_a_table(db):
    """However little the statistics know: index probes only, for batches of any size."""
    many = [series(f"metric_{i % 50}", instance=f"host-{i // 50}", job=f"job-{i % 7}") for i in range(5000)]
    db.resolve(many[:10])
    db.resolve(many)
    db.close()  # a backend reports its counts when it ends
    db.conn = db.connect()
    scans = "SELECT sum(seq_scan) FROM pg_stat_user_tables WHERE relname IN ('metric','label','label_key','series')"
    before = db.one(scans)
    conn = db.connect()
    other = db.conn
    db.conn = conn
    for _ in range(8):
        db.resolve(many)
    db.resolve([series("metric_1", instance=f"new-{i}") for i in range(1000)])
    db.conn = other
    conn.close()
    assert db.one(scans) == before


def test_ten_thousand_at_once(db):
    """The size that connectors send, with every series new and then known."""
    many = [series(f"metric_{i % 100}", instance=f"host-{i // 100}", job=f"job-{i % 10}", pod=f"pod-{i}",
                   zone=f"z{i % 3}", cluster="c", mode=f"m{i % 8}", idx=str(i % 17)) for i in range(10000)]
    got = db.resolve(many)
    assert len(set(got.series)) == 10000
    assert feed_ids(db) == sorted(got.series)
    assert db.resolve(many) == got
    assert db.one("SELECT max(cardinality(series_ids)) FROM _prom_catalog.series_feed") == 8192
