"""Large statements: the shape of blocks, the memory limit, backfill over many days, dump and restore."""

import pytest

from conftest import Database

START = "'2023-01-01'::timestamptz"


def fill(db, metric, series, samples, step):
    db.sql(f"INSERT INTO prom_data.{metric} (time, value, labels) SELECT {START} + i * interval '{step}', i * s,"
           f" jsonb_build_object('s', s::text) FROM generate_series(1, {samples}) i, generate_series(1, {series}) s")


@pytest.mark.parametrize("series, samples, step, formats", [
    (1, 1, "1 s", {1}), (500, 1, "1 s", {1}), (500, 5, "1 s", {1}), (20, 500, "1 s", {2}), (1, 100000, "1 ms", {2}),
    (30000, 1, "1 s", {1})])
def test_form_of_blocks(db, series, samples, step, formats):
    db.metric("m")
    fill(db, "m", series, samples, step)
    blocks = db.blocks()
    assert {f for f, *_ in blocks} == formats
    assert sum(n for *_, n in blocks) == series * samples == db.count("m")
    assert len(blocks) <= 1 + series * samples // 10000
    assert db.one("SELECT max(octet_length(data)) FROM _prom_data.fresh") < 400_000
    assert db.one("SELECT bool_and(level = 0 AND tenant_id = 0 AND kind = 1 AND metric_id > 0) FROM _prom_data.fresh")


def test_memory_limit(db):
    """Beyond promscale.write_memory a statement is stored in several goes; nothing else changes."""
    db.metric("small")
    db.metric("large")
    query = """INSERT INTO prom_data.{} (time, value, labels)
        SELECT '2024-05-01'::timestamptz + (i % 7919) * interval '1 s', i,
               jsonb_build_object('n', (i % 977)::text, 'x', repeat('y', 50))
        FROM generate_series(1, 30000) i"""
    db.sql(query.format("large"))
    assert len(db.blocks()) < 10
    n = db.one("SELECT count(*) FROM _prom_data.fresh")
    db.sql("SET promscale.write_memory = '64kB'")
    db.sql(query.format("small"))
    assert db.one("SELECT count(*) FROM _prom_data.fresh") > n + 10
    db.sql("SET enable_nestloop = off")
    assert db.one("SELECT count(*) FROM small, large WHERE small.time = large.time AND eq(small.labels, large.labels)"
                  " AND small.value = large.value") == 30000 == db.count("small")
    assert db.one("SELECT count(*) FROM prom_series.small") == 977


def test_one_row_of_labels_beyond_the_limit(db):
    db.metric("m")
    db.sql("SET promscale.write_memory = '64kB'")
    db.sql("""INSERT INTO prom_data.m (time, value, labels)
              SELECT '2024-05-01'::timestamptz + i * interval '1 s', i,
                     jsonb_build_object('n', i::text, 'x', repeat('y', 60000))
              FROM generate_series(1, 20) i""")
    assert db.one("SELECT count(*) FROM prom_data.m WHERE length(labels->>'x') = 60000") == 20


@pytest.mark.parametrize("maintained", [False, True])
def test_reading_what_is_written_at_the_same_time(db, maintained):
    """A statement that is stored in several goes reads the metric as it was when it began."""
    db.metric("m")
    fill(db, "m", 7, 3000, "1 s")
    if maintained:
        db.sql("SELECT _prom_ext.merge_step(1 << 25)")
    db.sql("SET promscale.write_memory = '64kB'")
    db.sql("INSERT INTO prom_data.m (time, value, series_id) "
           "SELECT time + interval '1 hour', value, series_id FROM prom_data.m")
    assert db.count("m") == 42000
    assert db.one("SELECT max(time) - min(time) FROM m") == db.one("SELECT interval '1 hour 2999 s'")


def test_many_series_by_id(db):
    """Each id is looked up by its key: not by a walk over all series of the metric (which takes seconds)."""
    db.metric("m")
    fill(db, "m", 20000, 1, "1 s")
    db.sql("CREATE TABLE ids AS SELECT series_id FROM m")
    read = "SELECT sum(pg_stat_get_xact_tuples_returned(c) + pg_stat_get_xact_tuples_fetched(c))::int8 FROM (SELECT indexrelid c" \
           " FROM pg_index WHERE indrelid = '_prom_catalog.series'::regclass UNION ALL SELECT '_prom_catalog.series'::regclass) x"
    db.sql("BEGIN")
    before = db.one(read)
    db.sql(f"INSERT INTO prom_data.m (time, value, series_id) SELECT {START}, 1, series_id FROM ids")
    assert 20000 <= db.one(read) - before < 100_000
    db.sql("COMMIT")
    assert db.count("m") == 40000


def test_toasted_labels(db):
    """Labels that come out of a table, compressed and out of line."""
    db.metric("m")
    db.sql("""CREATE TABLE source (t timestamptz, v float8, l jsonb);
              INSERT INTO source SELECT '2024-05-01'::timestamptz + i * interval '1 s', i,
                  jsonb_build_object('n', (i % 3)::text, 'x',
                      (SELECT string_agg(md5((i % 3 + j)::text), '') FROM generate_series(1, 500) j))
              FROM generate_series(1, 30) i""")
    db.put("SELECT * FROM source")
    assert db.one("SELECT count(*) FROM source s JOIN prom_data.m ON s.t = m.time AND s.v = m.value"
                  " AND s.l = m.labels - '__name__'") == 30
    assert db.one("SELECT count(*) FROM prom_series.m") == 3


def test_backfill_of_400_days(db):
    """In order of time and in order of series; folded and sealed into days, nothing lost on the way."""
    db.metric("by_series")
    db.metric("by_time")
    source = (f"FROM (SELECT {START} + i * interval '37 min' AS t, sin(i) * s AS v, "
              " jsonb_build_object('s', s::text) AS l, i, s"
              " FROM generate_series(1, 15568) i, generate_series(1, 5) s) x ORDER BY ")
    db.sql("SET promscale.write_memory = '1MB'")
    db.sql(f"INSERT INTO prom_data.by_series (time, value, labels) SELECT t, v, l {source} s, i")
    db.sql(f"INSERT INTO prom_data.by_time (time, value, labels) SELECT t, v, l {source} i, s")
    assert db.one("SELECT bool_and(date_trunc('day', t_min, 'UTC') = date_trunc('day', t_max, 'UTC'))"
                  " FROM _prom_data.fresh")
    same = ("SELECT count(*) FROM prom_metric.by_series a JOIN prom_metric.by_time b ON a.time = b.time"
            " AND eq(a.labels, b.labels) WHERE a.value = b.value")
    total = 15568 * 5
    db.sql("SET enable_nestloop = off")
    before = db.samples("by_time")
    assert len(before) == total and db.one(same) == total
    while db.one("SELECT did FROM _prom_ext.merge_step(1 << 25)"):
        pass
    assert db.count("by_series") == total and db.samples("by_time") == before
    db.maintain()
    assert db.blocks() == [] and db.blocks("merged") == []
    assert db.count("by_series") == total and db.samples("by_time") == before
    assert db.one(same) == total
    assert db.one("SELECT count(*) FROM _prom_catalog.maintenance_error") == 0
    # and once more: all of it is there already
    db.sql(f"INSERT INTO prom_data.by_time (time, value, labels) SELECT t, v + 1, l {source} i, s")
    assert db.samples("by_time") == before
    db.maintain()
    assert db.samples("by_time") == before


@pytest.mark.parametrize("form", ["custom", "plain"])
def test_dump_and_restore(server, db, form):
    """The third view comes along with its triggers, and goes on working in the restored database."""
    view = db.metric('odd "m"')
    db.metric("m")
    fill(db, "m", 3, 40, "1 min")
    db.sql(f"INSERT INTO {view} (time, value, labels) VALUES ('2024-05-01', 1, '{{\"a\": \"b\"}}')")
    before = db.samples("m")
    dump = f"write.{form}"
    server.client("pg_dump", "-F", form, "-f", server.data / dump, db.name)
    restored = Database(server, server.new_database(script=None))
    try:
        if form == "custom":
            server.client("pg_restore", "--single-transaction", "--exit-on-error", "-d", restored.name,
                          server.data / dump)
        else:
            server.client("psql", "-X", "-q", "--single-transaction", "-v", "ON_ERROR_STOP=1", "-d", restored.name,
                          "-f", server.data / dump)
        restored.conn = restored.connect()
        query = ("SELECT c.relname, pg_get_userbyid(c.relowner), ARRAY(SELECT unnest(c.relacl)::text ORDER BY 1),"
                 " c.reloptions, pg_get_viewdef(c.oid),"
                 " (SELECT array_agg(pg_get_triggerdef(t.oid) ORDER BY tgname) FROM pg_trigger t WHERE tgrelid = c.oid)"
                 " FROM pg_class c WHERE relnamespace = 'prom_data'::regnamespace AND relkind = 'v' ORDER BY 1")
        rows = db.sql(query)
        assert len(rows) == 2 and all(len(r[5]) == 2 for r in rows)
        assert restored.sql(query) == rows
        assert restored.samples("m") == before
        assert restored.metric("m") == "prom_data.m"
        fill(restored, "m", 3, 80, "1 min")
        assert restored.count("m") == 240
        restored.sql(f"INSERT INTO {view} (time, value, labels) VALUES ('2024-05-02', 2, '{{\"a\": \"b\"}}')")
        assert restored.column(f"SELECT value FROM {view} ORDER BY time") == [1, 2]
        assert restored.one("SELECT count(*) FROM prom_series.m") == 3
    finally:
        restored.close()
        server.drop(restored.name)
