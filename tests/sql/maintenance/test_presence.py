"""Which series have samples in which window: the sets that folding keeps, and what series_alive() makes of
them and of fresh rows, against a look at every stored sample."""

import random
import subprocess

import psycopg2
import pytest

from store import DAY, HOUR, TOOLS, bits
from test_oracle import METRICS, SERIES, Model

WINDOW = 8 * HOUR


def decode(data):
    """Another reader of the bytes than lib/model/ids.c."""
    data = bytes(data)
    assert data[0] == 1
    count, at, last, ids = int.from_bytes(data[5:9], "little"), 9, -1, []

    def varint():
        nonlocal at
        value, shift = 0, 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7

    while at < len(data):
        token = varint()
        first = last + 2 + (token >> 1)
        last = first + (varint() + 1 if token & 1 else 0)
        ids += range(first, last + 1)
    assert len(ids) == count
    return ids


def kept(store):
    """(tenant, metric, window) -> ids, of the table; and each part keeps to its bounds."""
    found = {}
    parts = store.sql("SELECT tenant_id, metric_id, (extract(epoch FROM window_start) * 1000)::int8, part_lo, n_series,"
                      " series_ids FROM _prom_data.presence ORDER BY 1, 2, 3, 4")
    for i, (tenant, metric, window, lo, n, data) in enumerate(parts):
        ids = decode(data)
        assert len(ids) == n and ids[0] >= lo and n <= 8192
        if i + 1 < len(parts) and parts[i + 1][:3] == (tenant, metric, window):
            assert ids[-1] < parts[i + 1][3]
        else:
            assert (tenant, metric, window) not in found or found[tenant, metric, window][-1] < ids[0]
        found.setdefault((tenant, metric, window), []).extend(ids)
    return found


def stored(store, levels=(1, 2)):
    found = {}
    for level, _, tenant, metric, series, t_ms, _ in store.rows():
        if level in levels:
            found.setdefault((tenant, metric, t_ms // WINDOW * WINDOW), set()).add(series)
    return {key: sorted(ids) for key, ids in found.items()}


def alive(store, tenant, metrics, from_ms, to_ms):
    return decode(store.one("SELECT _prom_ext.series_alive(%s, %s::int4[], to_timestamp(%s / 1000.0),"
                            " to_timestamp(%s / 1000.0))", (tenant, metrics, from_ms, to_ms)))


def check_alive(store, rng, now):
    everything = stored(store, (0, 1, 2))
    for _ in range(12):
        tenant = rng.choice([0, 7, 9])
        metrics = rng.choice([None, [], METRICS, rng.sample(METRICS, 2), [999]])
        a = now - rng.choice([0, HOUR, 9 * HOUR, 3 * DAY, 45 * DAY, 2500 * DAY]) + rng.randint(-WINDOW, WINDOW)
        b = a + rng.choice([-1, 0, 1, HOUR, WINDOW, 3 * DAY, 3000 * DAY])
        want = {s for (t, m, w), ids in everything.items() for s in ids
                if t == tenant and (metrics is None or m in metrics) and w <= b and a < w + WINDOW and a <= b}
        assert alive(store, tenant, metrics, a, b) == sorted(want)


@pytest.mark.parametrize("seed", range(4))
def test_sets_are_what_is_stored(store, seed):
    rng = random.Random(seed)
    model = Model(store, rng)
    store.sql("SELECT _prom_catalog.set_setting('retention_period', '0')")
    for step in range(60):
        model.write()
        for _ in range(rng.choice([0, 1, 1, 2])):
            model.maintain()
        if step % 6 == 0:
            assert kept(store) == stored(store)
            check_alive(store, rng, model.now)
    assert kept(store) == stored(store) != {}
    store.force()
    assert kept(store) == stored(store)
    check_alive(store, rng, model.now)


def write(store, series, t_ms, metric=1, tenant=0, packed=()):
    store.flush([(tenant, metric, s, t, bits(1.0)) for s in series for t in ([t_ms] if isinstance(t_ms, int) else t_ms)],
                packed)


def make_series(store, series, metric=1, tenant=0):
    store.sql("INSERT INTO _prom_catalog.series (id, tenant_id, metric_id, labels, digest)"
              " SELECT id, %s, %s, '{}', gen_random_uuid() FROM unnest(%s::int8[]) id", (tenant, metric, list(series)))


def test_parts_are_divided_and_stay_small(store):
    now = store.now_ms() // WINDOW * WINDOW
    everything = set()
    rng = random.Random(1)
    for _ in range(12):
        ids = rng.sample(range(1, 60_000), 3000)
        everything |= set(ids)
        write(store, ids, now)
        store.merge()
        assert kept(store) == {(0, 1, now): sorted(everything)}
    assert store.count("presence") > 3


def test_a_set_that_does_not_grow_is_not_written(store):
    now = store.now_ms() // WINDOW * WINDOW
    write(store, range(1, 100), now)
    store.merge()
    before = store.sql("SELECT ctid, xmin FROM _prom_data.presence")
    write(store, range(1, 100), now + 15_000)
    write(store, range(1, 50), [now + 30_000, now + 45_000], packed=[1])
    store.merge()
    assert store.sql("SELECT ctid, xmin FROM _prom_data.presence") == before


def test_retention_takes_sets_along(store):
    store.sql("SELECT _prom_catalog.set_setting('retention_grace', '0')")
    now = store.now_ms()
    day = now // DAY * DAY
    make_series(store, [11, 12, 13])
    make_series(store, [21], metric=2)
    store.sql("INSERT INTO _prom_catalog.metric (id, metric_name, digest, table_name, retention_period) VALUES"
              " (1, 'a', gen_random_uuid(), 'a', '36 hours'), (2, 'b', gen_random_uuid(), 'b', NULL)")
    write(store, [11], now - 60_000)
    write(store, [12], now - 6 * DAY)
    write(store, [13], [day - 2 * DAY + HOUR * h for h in range(0, 40)])
    write(store, [21], now - 6 * DAY, metric=2)
    store.merge()
    store.seal()
    assert kept(store) == stored(store)
    assert {k[:2] for k in kept(store)} == {(0, 1), (0, 2)}
    store.sql("SELECT _prom_catalog.apply_retention()")
    left = kept(store)
    assert left == stored(store)
    assert (0, 2, (now - 6 * DAY) // WINDOW * WINDOW) in left
    assert not any(12 in ids for ids in left.values())
    store.sql("SELECT _prom_catalog.set_setting('retention_period', '2 days')")
    store.sql("SELECT _prom_catalog.apply_retention()")
    assert kept(store) == stored(store)
    assert not any(k[1] == 2 for k in kept(store))


def test_deleted_series_and_lost_rows_go_when_counted(store):
    now = store.now_ms() // WINDOW * WINDOW
    make_series(store, [1, 2, 3])
    write(store, [1, 2, 3], now)
    write(store, [3], now - 3 * DAY)
    store.merge()
    store.sql("DELETE FROM _prom_catalog.series WHERE id = 2")
    store.sql("DELETE FROM _prom_data.merged WHERE t_min < now() - interval '2 days'")
    assert store.one("SELECT _prom_catalog.recount_presence()") == 2
    assert kept(store) == {(0, 1, now): [1, 3]}


def test_drop_metric_takes_sets_along(store):
    store.sql("CREATE TABLE x AS SELECT prom_api.create_metric('m')")
    store.conn.autocommit = True
    series = store.one("SELECT _prom_catalog.get_or_create_series_id('{\"__name__\": \"m\", \"a\": \"b\"}')")
    metric = store.one("SELECT metric_id FROM _prom_catalog.series WHERE id = %s", (series,))
    write(store, [series], store.now_ms(), metric=metric)
    store.merge()
    assert store.count("presence") == 1
    store.sql("SELECT prom_api.drop_metric('m')")
    assert store.count("presence") == 0


def damage(store):
    store.sql("UPDATE _prom_data.presence SET series_ids = set_byte(series_ids, 10, get_byte(series_ids, 10) # 1)")


def test_damage_is_told_and_repaired(store):
    now = store.now_ms() // WINDOW * WINDOW
    make_series(store, [5, 7, 9, 11])
    write(store, [5, 7, 9], now)
    store.merge()
    damage(store)
    with pytest.raises(psycopg2.errors.DataCorrupted, match="set of series ids is damaged"):
        alive(store, 0, None, now, now)
    assert alive(store, 0, [2], now, now) == []
    write(store, [11], now)
    store.merge()
    assert kept(store) == {(0, 1, now): [5, 7, 9, 11]}
    damage(store)
    store.sql("SELECT _prom_catalog.recount_presence(1)")
    assert kept(store) == {(0, 1, now): [5, 7, 9, 11]}


def test_a_damaged_block_takes_nothing_out_of_the_sets(store):
    now = store.now_ms() // WINDOW * WINDOW
    make_series(store, [5, 7])
    write(store, [5, 7], now)
    store.merge()
    store.sql("UPDATE _prom_data.merged SET data = set_byte(data, 40, get_byte(data, 40) # 255)")
    store.sql("SELECT _prom_catalog.recount_presence()")
    assert kept(store) == {(0, 1, now): [5, 7]}
    store.sql("UPDATE _prom_data.merged SET t_max = t_max + interval '1 us'")
    store.sql("SELECT _prom_catalog.recount_presence()")
    assert kept(store) == {(0, 1, now): [5, 7]}


def test_sets_that_a_restore_has_left_out_are_made_by_the_next_round(store):
    now = store.now_ms() // WINDOW * WINDOW
    write(store, [5, 7], now)
    make_series(store, [5, 7])
    assert not store.one("SELECT _prom_catalog.presence_is_missing()")  # nothing is folded yet
    store.merge()
    store.sql("DELETE FROM _prom_data.presence")
    assert store.one("SELECT _prom_catalog.presence_is_missing()")
    store.sql("CALL prom_api.execute_maintenance(force => true)")
    assert not store.one("SELECT _prom_catalog.presence_is_missing()")
    assert kept(store) == {(0, 1, now): [5, 7]}


def test_a_fold_after_such_a_restore_makes_them_all(store):
    """Storing goes on at once: the first sets must not be those of new samples alone."""
    now = store.now_ms() // WINDOW * WINDOW
    make_series(store, [5, 7])
    write(store, [5, 7], now - 2 * DAY)
    store.merge()
    store.sql("DELETE FROM _prom_data.presence; DELETE FROM _prom_catalog.metric_day")
    write(store, [7], now)
    store.force()
    assert kept(store) == stored(store) != {}
    assert store.one("SELECT _prom_catalog.recount()") == 0


def test_none_are_made_while_a_restore_is_under_way(store):
    """It brings its own, after the blocks; sequences come last."""
    now = store.now_ms() // WINDOW * WINDOW
    make_series(store, [5, 7])
    write(store, [5, 7], now)
    store.merge()
    last = store.one("SELECT last_value FROM _prom_data.block_id_seq")
    store.sql("DELETE FROM _prom_data.presence; DELETE FROM _prom_catalog.metric_day;"
              " ALTER SEQUENCE _prom_data.block_id_seq RESTART")
    for step in ("fold", "figures"):
        assert store.one("SELECT outcome FROM _prom_catalog.run_step(%s, true)", (step,)) in ("idle", "done")
    assert kept(store) == {} and store.one("SELECT count(*) FROM _prom_catalog.metric_day") == 0
    store.sql("SELECT setval('_prom_data.block_id_seq', %s)", (last,))
    store.force()
    assert kept(store) == stored(store) != {}


@pytest.mark.parametrize("data", ["", "01", "00" * 9, "01" + "00" * 8, "01" + "ff" * 30])
def test_hostile_bytes_are_no_set(store, data):
    with pytest.raises(psycopg2.errors.DataCorrupted):
        store.one("SELECT _prom_ext.ids_count(decode(%s, 'hex'))", (data,))


def test_rights_and_row_security_of_the_caller(server, store):
    now = store.now_ms()
    write(store, [1], now)
    write(store, [2], now, tenant=7)
    store.merge()
    write(store, [3], now)
    write(store, [4], now, tenant=7)
    store.sql("CREATE ROLE presence_nobody; CREATE ROLE presence_reader IN ROLE prom_reader")
    for table in ("presence", "fresh"):
        store.sql(f"ALTER TABLE _prom_data.{table} ENABLE ROW LEVEL SECURITY;"
                  f"CREATE POLICY p ON _prom_data.{table} USING (tenant_id = 7)")
    try:
        store.sql("SET ROLE presence_nobody")
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            alive(store, 7, None, now, now)
        store.sql("SET ROLE presence_reader")
        assert alive(store, 7, None, now, now) == [2, 4]
        assert alive(store, 0, None, now, now) == []
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            store.sql("SELECT _prom_catalog.recount_presence()")
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            store.sql("SELECT _prom_ext.recount_presence('{1}', '{2020-01-01}')")
    finally:
        store.sql("RESET ROLE")
        store.sql("DROP OWNED BY presence_nobody, presence_reader; DROP ROLE presence_nobody, presence_reader")
    assert alive(store, 0, None, now, now) == [1, 3]


def test_histograms_count_like_floats(store):
    now = store.now_ms() // WINDOW * WINDOW

    def write_histograms(series, t_ms):
        text = "".join(f"1,{series},{t},{{{{schema:0 sum:5 count:4 buckets:[1 2 1]}}}}\n" for t in t_ms)
        made = subprocess.run([TOOLS / "make_block"], input=f"block fresh flush 0 1\n{text}end\n", text=True, check=True,
                              stdout=subprocess.PIPE)
        store.sql(made.stdout)

    write(store, [4], now)
    write_histograms(6, [now - WINDOW + 5, now + 5])
    assert alive(store, 0, [1], now, now) == [4, 6]
    assert alive(store, 0, None, now - 1, now - 1) == [6]
    store.merge()
    assert kept(store) == {(0, 1, now): [4, 6], (0, 1, now - WINDOW): [6]}
    write_histograms(2, [now])
    assert alive(store, 0, None, now, now) == [2, 4, 6]
    store.merge()
    store.seal()
    make_series(store, [2, 4, 6])
    store.sql("SELECT _prom_catalog.recount_presence()")
    assert kept(store) == {(0, 1, now): [2, 4, 6], (0, 1, now - WINDOW): [6]}
