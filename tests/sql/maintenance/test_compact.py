"""Files become small again: what days that were sealed again, and rows that retention has deleted, leave free in files is
given back, and nobody who reads sees that rows move."""

import random

import psycopg2
import pytest

from store import DAY, bits
from test_lost import lose_chunk
from test_oracle import Model, check
from test_reseal import start_of_day, written

STEP = 60_000


@pytest.fixture
def small(store):
    """What is worth it is less here than elsewhere, so that tests need not write so much."""
    store.sql("SELECT _prom_catalog.set_setting('compact_size', '256 kB')")
    return store


def vacuums(store):
    """All that is called for; after it nothing waits."""
    for _ in range(5):
        commands = [r[0] for r in store.sql("SELECT _prom_catalog.take_vacuums()")]
        for command in commands:
            store.sql(command)
        if not commands:
            return
    raise AssertionError("VACUUM is called for again and again")


def compact(store, force=True):
    """One run of the step, as maintenance takes it. The outcomes."""
    outcomes = []
    while not outcomes or outcomes[-1] == "more":
        got = store.row("SELECT * FROM _prom_catalog.run_step('compact', %s)", (force,))
        assert got["outcome"] in ("idle", "done", "more"), got
        outcomes.append(got["outcome"])
        assert len(outcomes) < 100
    return outcomes


def table_of(store, days):
    return store.one("SELECT 'block_' || to_char(to_timestamp(%s) AT TIME ZONE 'UTC', 'YYYYMMDD')",
                     (start_of_day(store, days) / 1000,))


def size(store, table):
    return store.one("SELECT pg_total_relation_size(%s)", (f"_prom_data.{table}",))


def small_for(live):
    """Indexes and maps have a size, too."""
    return 1.2 * live + 130_000


def contents(store, cursor=None):
    """Every sealed row: a reader of these sees all there is."""
    query = "SELECT id, tenant_id, metric_id, t_min, t_max, n_samples, md5(data) FROM _prom_data.block ORDER BY 1"
    if cursor is None:
        return store.sql(query)
    cursor.execute(query)
    return cursor.fetchall()


def noise(rng, t0, series, n=1440, offset=0, step=STEP):
    """Samples that nothing makes smaller."""
    return [(s, t0 + offset + i * step, bits(rng.random())) for s in series for i in range(n)]


def resealed(store, days=4, n_series=100):
    """A day of which a third came late, in one layer again: its first layer is garbage. As small as it could be, and as
    it is."""
    rng, t0 = random.Random(days), start_of_day(store, days)
    everything = noise(rng, t0, range(1, n_series + 1))
    truth = {(0, 1, s, t): b for s, t, b in everything}
    written(store, [x for x in everything if x[1] // STEP % 3])
    store.seal(False)
    written(store, [x for x in everything if x[1] // STEP % 3 == 0])
    store.force()
    vacuums(store)
    table = table_of(store, days)
    live = store.one(f"SELECT sum(octet_length(data))::int8 FROM _prom_data.{table}")
    return table, live, truth


def test_a_day_that_was_sealed_again_is_as_small_as_another(small):
    table, live, truth = resealed(small)
    before, rows = size(small, table), contents(small)
    assert before > 1.2 * small_for(live)
    compact(small)
    assert contents(small) == rows and size(small, table) <= 1.05 * before
    vacuums(small)
    assert size(small, table) < small_for(live)
    assert contents(small) == rows and small.visible() == truth
    assert small.one("SELECT _prom_catalog.recount()") == 0
    compact(small)
    assert small.one("SELECT count(*) FROM _prom_catalog.compaction") == 0
    assert small.one("SELECT last_detail FROM _prom_catalog.job WHERE name = 'compact'").startswith(table)


def test_a_round_does_it_by_itself(small):
    """Without force it waits for an hour without new rows."""
    table, live, _ = resealed(small)
    before = size(small, table)
    assert compact(small, False) == ["idle"]  # the step's first run is an hour after the installation
    small.sql("UPDATE _prom_catalog.job SET next_run = now() WHERE name = 'compact'")
    assert compact(small, False) == ["idle"]
    assert small.row("SELECT table_name, in_toast FROM _prom_catalog.compaction") == {
        "table_name": table, "in_toast": None}
    later = "UPDATE _prom_catalog.compaction SET next_try = now(); UPDATE _prom_catalog.job SET next_run = now()"
    written(small, noise(random.Random(1), start_of_day(small, 4), [1000], n=10))
    small.seal(False)
    small.sql(later)
    assert compact(small, False) == ["idle"]  # waits once more
    assert small.one("SELECT min(next_try - now()) > interval '59 min' FROM _prom_catalog.compaction")
    small.sql(later)
    assert len(compact(small, False)) > 1
    vacuums(small)
    assert size(small, table) < small_for(live) < before


def test_hollow_again_before_the_end_was_seen(small):
    table, live, _ = resealed(small)
    rows = contents(small)
    for _ in range(3):
        compact(small)
        vacuums(small)
        assert size(small, table) < small_for(live) and contents(small) == rows
        small.sql(f"INSERT INTO _prom_data.{table} SELECT id + 1000000, tenant_id, metric_id, dist_key, level, kind, format,"
                  f" series_lo, series_hi, t_min, t_max, n_series, n_samples, data || data FROM _prom_data.{table}")
        small.sql(f"DELETE FROM _prom_data.{table} WHERE id > 1000000")
        small.sql(f"VACUUM _prom_data.{table}")
        assert size(small, table) > 1.5 * small_for(live)


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_readers_with_a_snapshot_from_before(small, level):
    """They see what they saw, and what they keep from VACUUM goes when they have."""
    table, live, _ = resealed(small)
    rows, before = contents(small), size(small, table)
    reader = small.server.connect(small.database)
    reader.autocommit = False
    with reader.cursor() as cur:
        cur.execute(f"SET TRANSACTION ISOLATION LEVEL {level}, READ ONLY")
        assert contents(small, cur) == rows
        compact(small)
        vacuums(small)
        assert contents(small, cur) == rows and contents(small) == rows
        assert size(small, table) > 0.95 * before
    reader.close()
    assert small.one("SELECT count(*) FROM _prom_catalog.compaction WHERE in_toast IS NOT NULL") == 1
    small.sql("UPDATE _prom_catalog.compaction SET next_try = now()")
    compact(small)
    vacuums(small)
    assert size(small, table) < small_for(live) and contents(small) == rows


def test_small_rows_lie_beside_each_other(small):
    """Rows that are not in TOAST: metrics with few series, of which retention has taken every other."""
    rng, t0 = random.Random(7), start_of_day(small, 4)
    for m in range(1, 201):
        small.flush([(0, m, s, t, b) for s, t, b in noise(rng, t0, [m], n=300)])
    small.merge()
    while small.seal(False)["more"]:
        pass
    table = table_of(small, 4)
    small.sql(f"DELETE FROM _prom_data.{table} WHERE metric_id % 3 > 0")
    small.sql(f"VACUUM _prom_data.{table}")
    query = f"SELECT pg_relation_size('_prom_data.{table}')"
    rows, before = contents(small), small.one(query)
    compact(small)
    vacuums(small)
    assert small.one(query) < 0.5 * before and contents(small) == rows


def test_small_rows_beside_one_that_the_server_has_lost(small):
    """It is in TOAST, and its row among those that are moved."""
    rng, t0 = random.Random(7), start_of_day(small, 4)
    for m in range(1, 201):
        small.flush([(0, m, s, t, b) for s, t, b in noise(rng, t0, [m], n=300)])
    for m in range(201, 206):
        small.flush([(0, m, s, t, b) for s, t, b in noise(rng, t0, [m])])
    small.merge()
    while small.seal(False)["more"]:
        pass
    table = table_of(small, 4)
    small.sql(f"DELETE FROM _prom_data.{table} WHERE metric_id % 3 > 0 AND metric_id < 201")
    small.sql(f"VACUUM _prom_data.{table}")
    assert small.one(f"SELECT count(_prom_ext.toast_value(data)) FROM _prom_data.{table}") == 5
    lose_chunk(small, table)
    lost = small.one(f"SELECT id FROM _prom_data.{table} ORDER BY _prom_ext.toast_value(data) LIMIT 1")
    query = f"SELECT id, md5(data) FROM _prom_data.{table} WHERE id <> {lost} ORDER BY 1"
    rows = small.sql(query)
    place = small.one(f"SELECT ctid::text FROM _prom_data.{table} WHERE id = {lost}")
    assert small.row("SELECT in_toast FROM _prom_catalog.hollow_file(%s)", (table,)) == {"in_toast": False}
    assert compact(small)[0] == "more"
    assert small.sql(query) == rows
    assert small.one(f"SELECT ctid::text FROM _prom_data.{table} WHERE id = {lost}") == place
    last = small.one(f"SELECT max(ctid)::text FROM _prom_data.{table} WHERE id <> {lost}")
    assert int(last[1:].split(",")[0]) < int(place[1:].split(",")[0])


def test_switched_off_and_not_worth_it(small):
    table, _, _ = resealed(small)
    before = size(small, table)
    for key, value in (("compact", "false"), ("compact_size", "16 MB"), ("compact_share", "60")):
        small.sql("SELECT _prom_catalog.set_setting(%s, %s)", (key, value))
        assert compact(small) == ["idle"]
        vacuums(small)
        assert size(small, table) == before
        small.sql("DELETE FROM _prom_catalog.setting_override WHERE key = %s", (key,))
        small.sql("SELECT _prom_catalog.set_setting('compact_size', '256 kB')")
    assert compact(small)[0] == "more"


def test_a_row_that_the_server_cannot_read_keeps_its_own_place(small):
    """The first value, which is one of those to be moved when its table is turned round."""
    table, _, _ = resealed(small)
    toast = small.one("SELECT reltoastrelid FROM pg_class WHERE oid = %s::regclass", (f"_prom_data.{table}",))
    pages = small.one("SELECT pages FROM _prom_ext.file_space(%s, 2036, 0)", (toast,))
    lose_chunk(small, table)
    victim = small.one(f"SELECT id FROM _prom_data.{table} WHERE _prom_ext.toast_value(data) ="
                       f" (SELECT min(_prom_ext.toast_value(data)) FROM _prom_data.{table})")
    query = f"SELECT id, md5(data) FROM _prom_data.{table} WHERE id <> {victim} ORDER BY 1"
    rows = small.sql(query)
    assert len(rows) > 5
    got = small.row("SELECT * FROM _prom_catalog.empty_pages(%s, true, 0, %s, %s)", (table, pages, 1 << 30))
    assert got == {"fits": True, "moved": len(rows), "failed": 1}
    assert small.sql(query) == rows
    assert small.one(f"SELECT count(*) FROM _prom_data.{table} WHERE id = {victim}") == 1
    with pytest.raises(psycopg2.Error, match="chunk"):
        small.sql(f"SELECT md5(data) FROM _prom_data.{table} WHERE id = {victim}")


def test_no_room(small):
    """Others may fill what the map says is free: then nothing moves, and no file grows."""
    table, _, _ = resealed(small)
    rows, before = contents(small), size(small, table)
    small.sql("INSERT INTO _prom_catalog.compaction SELECT %s, 0, now(), true, s.pages, 1, s.pages FROM pg_class c,"
              " LATERAL _prom_ext.file_space(c.reltoastrelid, 2036, 0) s WHERE c.oid = %s::regclass",
              (table, f"_prom_data.{table}"))
    assert compact(small) == ["more", "idle"]
    assert contents(small) == rows and size(small, table) == before
    assert small.row("SELECT cut = pages AS all, next_try > now() + interval '23 h' AS later"
                     " FROM _prom_catalog.compaction") == {"all": True, "later": True}


def test_what_stops_one_table_stops_no_other(small):
    small.sql("SELECT _prom_catalog.set_setting('compact', 'false')")
    first, _, _ = resealed(small, days=5)
    second, live, _ = resealed(small, days=4)
    small.sql("SELECT _prom_catalog.set_setting('compact', 'true')")
    small.sql(f"CREATE TABLE mine (a int4, b timestamptz, c int8, d int8, FOREIGN KEY (a, b, c, d) REFERENCES"
              f" _prom_data.{first} ON DELETE RESTRICT)")
    small.sql(f"INSERT INTO mine SELECT metric_id, t_min, dist_key, id FROM _prom_data.{first}")
    before, rows = size(small, first), contents(small)
    got = small.row("SELECT * FROM _prom_catalog.run_step('compact', true)")
    assert got["outcome"] == "failed" and first in got["detail"]
    compact(small)
    vacuums(small)
    assert size(small, second) < small_for(live) and size(small, first) <= 1.05 * before and contents(small) == rows


def test_rows_move_between_all_other_steps(store):
    """All sealed rows, again and again, with late samples, folds and seals in between: what was written first stays."""
    rng = random.Random(11)
    model = Model(store, rng)
    store.sql("SELECT _prom_catalog.set_setting('retention_period', '0')")
    moved = 0
    for _ in range(60):
        model.write()
        model.maintain()
        for table, in store.sql("SELECT t FROM _prom_catalog.tables_to_compact(true) t"):
            moved += store.one("SELECT moved FROM _prom_catalog.empty_pages(%s, false, 0, 100000, 1 << 30)", (table,))
    check(model)
    store.force()
    check(model)
    assert moved > 100
    assert store.sql("SELECT * FROM _prom_catalog.maintenance_error") == []
