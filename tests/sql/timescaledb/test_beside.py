"""Two extensions in one database: neither minds when the other comes, goes, or is restored."""
import time

import psycopg2
import pytest

from conftest import BOTH, HOSTS, SAMPLES, Server, load, value

ORDERS = {
    "timescaledb first": BOTH,
    "promscale first": "CREATE EXTENSION promscale; CREATE EXTENSION timescaledb",
    "timescaledb in a schema of its own":
        "CREATE SCHEMA tsdb; CREATE EXTENSION timescaledb SCHEMA tsdb; CREATE EXTENSION promscale",
    "the same, promscale first":
        "CREATE EXTENSION promscale; CREATE SCHEMA tsdb; CREATE EXTENSION timescaledb SCHEMA tsdb",
}
EXPECTED = [(h, SAMPLES, sum(value(h, i) for i in range(SAMPLES))) for h in HOSTS]
SUMS = "SELECT val(host_id), count(*), sum(value) FROM cpu_usage GROUP BY 1 ORDER BY 1"


def extensions(db):
    return db.column("SELECT extname FROM pg_extension WHERE extname IN ('promscale', 'timescaledb') ORDER BY 1")


def use_hypertable(db):
    """TimescaleDB does its work: chunks made by inserts, and found."""
    tsdb = db.one("SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = extnamespace"
                  " WHERE extname = 'timescaledb'")
    db.sql("CREATE TABLE public.deploys (time timestamptz NOT NULL, host text, what text)")
    db.sql(f"SELECT {tsdb}.create_hypertable('public.deploys', 'time', chunk_time_interval => interval '6 hours')")
    db.sql("INSERT INTO public.deploys SELECT timestamptz '2024-05-01 00:00Z' + i * interval '1 hour',"
           " chr(97 + i % 3), 'v' || i FROM generate_series(0, 23) i")
    assert db.one("SELECT count(*) FROM timescaledb_information.chunks WHERE hypertable_name = 'deploys'") == 4
    assert db.one(f"SELECT count(*) FROM {tsdb}.show_chunks('public.deploys')") == 4


def drop_hypertable(db):
    db.sql("DROP TABLE public.deploys")


@pytest.mark.parametrize("order", ORDERS)
def test_both_work(server, order):
    db = server.create(ORDERS[order])
    try:
        assert extensions(db) == ["promscale", "timescaledb"]
        load(db)
        use_hypertable(db)
        assert db.sql(SUMS) == EXPECTED
    finally:
        server.remove(db)


@pytest.mark.parametrize("order", ORDERS)
def test_timescaledb_goes(server, order):
    db = server.create(ORDERS[order])
    try:
        load(db)
        use_hypertable(db)
        drop_hypertable(db)
        before = members(db, "promscale")
        db.sql("DROP EXTENSION timescaledb")
        assert extensions(db) == ["promscale"] and members(db, "promscale") == before
        assert db.sql(SUMS) == EXPECTED
        assert db.one("SELECT metric_name FROM prom_info.metric") == "cpu_usage"
        server.remove(db)
        db = server.create("CREATE EXTENSION promscale")  # not a word of it in new databases
        assert extensions(db) == ["promscale"]
    finally:
        server.remove(db)


@pytest.mark.parametrize("order", ORDERS)
def test_promscale_goes(server, order):
    db = server.create(ORDERS[order])
    try:
        load(db)
        use_hypertable(db)
        before = members(db, "timescaledb")
        db.sql("DROP EXTENSION promscale CASCADE")
        assert extensions(db) == ["timescaledb"] and members(db, "timescaledb") == before
        assert db.one("SELECT count(*) FROM public.deploys WHERE host = 'a'") == 8
        assert db.one("SELECT count(*) FROM timescaledb_information.hypertables") == 1
    finally:
        server.remove(db)


def test_the_view_that_stands_in_for_timescaledbs(server):
    """Not made where TimescaleDB is offered; who wants it until then has it, and it gives way when told to."""
    sync = "SELECT _prom_catalog.sync_timescaledb_view()"
    there = "SELECT to_regclass('timescaledb_information.compressed_hypertable_stats') IS NOT NULL"
    setting = "SELECT _prom_catalog.set_setting('timescaledb_view', %s)"
    db = server.create("CREATE EXTENSION promscale")
    try:
        assert not db.one(there) and db.one(sync) == "not there"
        db.sql(setting, ("true",))
        assert db.one(sync) == "made" and db.one(there)
        with pytest.raises(psycopg2.errors.DuplicateSchema):
            db.sql("CREATE EXTENSION timescaledb")
        db.sql(setting, ("auto",))
        assert db.one(sync) == "dropped"
        server.reconnect(db)
        db.sql("CREATE EXTENSION timescaledb")
        before = members(db, "timescaledb")
        db.sql(setting, ("true",))
        assert db.one(sync) == "not ours" and not db.one(there) and members(db, "timescaledb") == before
    finally:
        server.remove(db)


@pytest.mark.parametrize("libraries", ["timescaledb, promscale", "promscale, timescaledb"])
def test_both_preloaded(libraries):
    """Our worker does its work in a database of both."""
    server = Server(f"{libraries}'\npromscale.maintenance_interval = '200ms")
    try:
        db = server.create(name="promscale")
        db.sql("SELECT prom_api.set_default_retention_period('100 years')")
        load(db)
        use_hypertable(db)
        db.sql("UPDATE _prom_catalog.job SET next_run = now()")
        end = time.monotonic() + 90
        while db.one("SELECT count(*) FROM _prom_data.fresh") > 0 and time.monotonic() < end:
            time.sleep(0.1)
        assert db.one("SELECT count(*) FROM _prom_data.fresh") == 0
        assert db.sql(SUMS) == EXPECTED
        assert db.one("SELECT count(*) FROM public.deploys") == 24
        db.close()
    finally:
        server.close()


def members(db, extension):
    return sorted(db.column("SELECT type || ' ' || identity FROM pg_depend d JOIN pg_extension e"
                            " ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass"
                            " CROSS JOIN pg_identify_object(classid, objid, objsubid)"
                            " WHERE e.extname = %s AND deptype = 'e'", (extension,)))


@pytest.mark.parametrize("order", ["timescaledb first", "promscale first"])
def test_dump_and_restore(server, order):
    """As TimescaleDB's documentation wants it: between its pre_restore and post_restore."""
    db = server.create(ORDERS[order])
    restored = server.create("CREATE EXTENSION timescaledb")
    try:
        load(db)
        use_hypertable(db)
        db.sql("CREATE VIEW public.mine AS SELECT d.what, c.value FROM deploys d JOIN cpu_usage c"
               " ON c.time = d.time AND val(c.host_id) = d.host")
        what = "SELECT what, value FROM public.mine ORDER BY 1, 2"
        before = db.sql(what)
        assert len(before) == 24
        dump = server.data / f"{db.name}.dump"
        server.client("pg_dump", "-F", "custom", "-f", dump, db.name)
        restored.sql("SELECT timescaledb_pre_restore()")
        server.client("pg_restore", "--exit-on-error", "-d", restored.name, dump)
        server.reconnect(restored)
        restored.sql("SELECT timescaledb_post_restore()")
        server.reconnect(restored)
        assert extensions(restored) == ["promscale", "timescaledb"]
        assert restored.sql(SUMS) == EXPECTED
        assert restored.sql(what) == before
        assert restored.one("SELECT count(*) FROM timescaledb_information.chunks"
                            " WHERE hypertable_name = 'deploys'") == 4
    finally:
        server.remove(db)
        server.remove(restored)
