"""pg_dump and restore, --single-transaction --exit-on-error: every row, every sequence, every answer."""
import re

import pytest

from database import series

T0 = 1_704_067_200_000
SECRET_FREE = ("series_feed", "state", "job", "vacuum_queue", "vacuum_taken", "vacuum_horizon", "erasure", "retention_memory",
               "leaving_day", "retention_progress", "retention_run", "series_age", "garbage_round",
               "clock_seen", "compaction")  # see extension/sql/095-dump.sql


def fill(db):
    tenant = db.one("SELECT _prom_catalog.tenant_id('acme')")
    got = db.resolve([series("cpu_usage", namespace="dev", node=f"n{i}") for i in range(5)]
                     + [series("Ünï \"code\"", **{"odd key": "v", "time": "t"}), series("x" * 300, a="1")])
    db.resolve([series("cpu_usage", namespace="dev")], tenant=tenant)
    db.sql("SELECT _prom_catalog.delete_series_rows(%s)", (got.series[4:5],))
    db.sql("SELECT _prom_catalog.upsert_metadata(0, '{cpu_usage}', '{gauge}', '{s}', '{help}')")
    db.sql("SELECT _prom_catalog.insert_exemplars('{0}','{1}','{5}','{7}','{2024-01-01}','{1}', ARRAY[jsonb '{\"trace_id\":\"x\"}'])")
    db.sql("SELECT prom_api.set_default_retention_period('33 days')")
    db.views()
    db.sql("CREATE VIEW public.mine AS SELECT node, count(*) AS n FROM prom_series.cpu_usage GROUP BY node")
    db.partition(T0)
    metric = dict(db.sql("SELECT metric_name, id FROM _prom_catalog.metric"))["cpu_usage"]
    samples = [(metric, s, T0 + i * 1000, i + s / 8) for s in got.series[:4] for i in range(100)]
    for table, form, shift in (("block", "sealed", 0), ("block_far", "sealed", -10 ** 12), ("merged", "merged", 10 ** 8),
                               ("fresh", "flush", 2 * 10 ** 8)):
        db.block(table, metric, [(m, s, t + shift, v) for m, s, t, v in samples], form)


def tables(db):
    return db.column("SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
                     " WHERE n.nspname IN ('_prom_catalog', '_prom_data') AND c.relkind IN ('r', 'p')"
                     " AND c.relname <> ALL (%s) ORDER BY 1", (list(SECRET_FREE),))


def sequences(db):
    return db.column("SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
                     " WHERE n.nspname IN ('_prom_catalog', '_prom_data') AND c.relkind = 'S' ORDER BY 1")


def content(db):
    found = {t: sorted(db.column(f"SELECT r::text FROM {t} r")) for t in tables(db)}
    for query in ("SELECT * FROM prom_info.metric", "SELECT * FROM prom_info.label", "SELECT * FROM public.mine",
                  "SELECT * FROM prom_metric.cpu_usage", "SELECT * FROM prom_series.cpu_usage",
                  "SELECT schemaname, viewname, viewowner, definition FROM pg_views WHERE schemaname IN ('prom_metric', 'prom_series')",
                  "SELECT c.oid::regclass::text, reloptions, ARRAY(SELECT unnest(relacl)::text ORDER BY 1) FROM pg_class c"
                  " JOIN pg_namespace n ON n.oid = relnamespace"
                  " WHERE nspname IN ('prom_metric', 'prom_series', '_prom_data', '_prom_catalog', 'prom_info')",
                  "SELECT p.oid::regprocedure::text, proacl::text FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace"
                  " WHERE nspname IN ('_prom_catalog', 'prom_api', '_prom_ext', 'ps_tag')",
                  "SELECT prom_api.get_default_metric_retention_period()"):
        found[query] = sorted(map(repr, db.sql(query)))
        assert "memory at" not in "".join(found[query])
        assert found[query], query
    return found


@pytest.mark.parametrize("form", ["custom", "plain"])
def test_dump_and_restore(server, db, form, tmp_path):
    fill(db)
    last = {s: db.one(f"SELECT last_value FROM {s}") for s in sequences(db)}
    assert len(last) >= 6
    dump = server.dir / f"dump.{form}"
    server.client("pg_dump", "-F", form, "-f", server.data / dump.name, db.name)
    restored = server.create(extension=None)
    if form == "custom":
        server.client("pg_restore", "--single-transaction", "--exit-on-error", "-d", restored.name, server.data / dump.name)
    else:
        server.client("psql", "-X", "-q", "--single-transaction", "-v", "ON_ERROR_STOP=1", "-d", restored.name,
                      "-f", server.data / dump.name)
    restored.close()
    restored.conn = restored.connect()

    expected, got = content(db), content(restored)
    assert got.keys() == expected.keys()
    for what, rows in expected.items():
        assert got[what] == rows, what
    for s in sequences(db):
        assert restored.one(f"SELECT last_value FROM {s}") == last[s] and last[s] is not None, s
        assert restored.one(f"SELECT nextval('{s}')") > restored_max(restored, s), s

    # life goes on: nothing is made twice, ids do not begin again
    assert restored.one("SELECT _prom_catalog.make_metric_views(100)") == 0
    before = set(restored.column("SELECT id FROM _prom_catalog.series"))
    old = db.resolve([series("cpu_usage", namespace="dev", node="n1")]).series
    assert restored.resolve([series("cpu_usage", namespace="dev", node="n1")]).series == old
    new = restored.resolve([series("cpu_usage", namespace="dev", node="new"), series("another", a="1")]).series
    assert min(new) > max(before)
    restored.views()
    assert restored.one("SELECT count(*) FROM prom_series.another") == 1
    # ids that were learnt from the first database are not taken for good by the second
    assert restored.one("SELECT _prom_catalog.generation()") != db.one("SELECT _prom_catalog.generation()")
    assert restored.sql("SELECT trimmed FROM _prom_catalog.feed('0')") == [(True,)]
    restored.close()
    restored.conn = restored.connect()
    assert restored.one("SHOW search_path").endswith("ps_tag, prom_api, prom_metric")
    restored.close()
    server.drop(restored.name)


def restored_max(db, sequence):
    """The greatest id that was given away from this sequence and is in use."""
    owner = {"series_id_seq": "_prom_catalog.series", "label_id_seq": "_prom_catalog.label",
             "label_key_id_seq": "_prom_catalog.label_key", "metric_id_seq": "_prom_catalog.metric",
             "tenant_id_seq": "_prom_catalog.tenant"}
    name = sequence.split(".")[1]
    if name == "block_id_seq":
        return max(db.one(f"SELECT coalesce(max(id), 0) FROM _prom_data.{t}") for t in ("fresh", "merged", "block", "block_far"))
    return db.one(f"SELECT coalesce(max(id), 0) FROM {owner[name]}")


def test_every_table_and_sequence_is_marked(db):
    marked = set(db.column("SELECT unnest(extconfig)::regclass::text FROM pg_extension WHERE extname = 'promscale'"))
    all_of_them = set(db.column(
        "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname IN ('_prom_catalog', '_prom_data') AND c.relkind IN ('r', 'S')"))
    assert all_of_them - marked == {f"_prom_catalog.{t}" for t in SECRET_FREE}


def test_nothing_is_a_member_that_should_be_dumped_as_usual(db):
    fill(db)
    members = db.column("SELECT c.oid::regclass::text FROM pg_depend d JOIN pg_class c ON c.oid = d.objid"
                        " WHERE d.classid = 'pg_class'::regclass AND d.deptype = 'e'"
                        " AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'promscale')")
    assert not [m for m in members if re.match(r"prom_(metric|series)\.|_prom_data\.block_\d", m)]


def test_the_parent_is_bare(db):
    """No key, no index, no partition from the script: pg_dump would lose or double them."""
    assert db.one("SELECT count(*) FROM pg_index WHERE indrelid = '_prom_data.block'::regclass") == 0
    assert db.one("SELECT count(*) FROM pg_inherits WHERE inhparent = '_prom_data.block'::regclass") == 0


def test_whether_there_is_room_for_the_locks_is_told_before():
    """prom_info.dump_locks: where it says enough, pg_dump succeeds; where it fails, that was to be seen."""
    from conftest import Server
    small = Server("max_locks_per_transaction = 10")
    try:
        db = small.create()

        def dump():
            return small.client("pg_dump", "-Fc", "-f", small.data / "dump", db.name, check=False)

        def told():
            return db.sql("SELECT enough, needed, available, recommended FROM prom_info.dump_locks")[0]
        db.resolve([series("m0", a="1")])
        db.views()
        enough, needed, available, recommended = told()
        assert enough and needed < available < 1000 and recommended >= 10
        assert dump().returncode == 0
        if db.conn.server_version >= 160000:  # which does not lock views
            db.resolve([series(f"m{i}", a="1") for i in range(1, 800)])
            db.views()
            assert dump().returncode == 0 and told() == (True, needed, available, recommended)
            return
        done = 1
        while dump().returncode == 0:
            assert done < 2000
            db.resolve([series(f"m{i}", a="1") for i in range(done, done + 250)])
            db.views()
            done += 250
        failed = dump()
        assert "out of shared memory" in failed.stderr and "max_locks_per_transaction" in failed.stderr
        enough, needed, available, recommended = told()
        assert not enough and needed > 3 * done
        readings = dict(db.sql("SELECT family, reading FROM _prom_catalog.observe(1) WHERE family ~ 'dump_locks'"))
        assert readings == {"storage_dump_locks_needed": needed, "storage_dump_locks_available": available}
        db.close()
        with open(small.data / "postgresql.conf", "a", encoding="utf-8") as f:
            f.write(f"max_locks_per_transaction = {recommended}\n")
        small.stop("fast")
        small.start()
        assert dump().returncode == 0
    finally:
        small.close()
