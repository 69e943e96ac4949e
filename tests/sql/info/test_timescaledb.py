"""timescaledb_information.compressed_hypertable_stats where TimescaleDB is absent, and out of its way where it is not."""
import pathlib
import subprocess

import psycopg2
import pytest

from cluster import PG_CONFIG
from database import series
from store import HOUR, bits

VIEW = "timescaledb_information.compressed_hypertable_stats"
SYNC = "SELECT _prom_catalog.sync_timescaledb_view()"
FOLDER = pathlib.Path(subprocess.check_output([PG_CONFIG, "--sharedir"], text=True).strip()) / "extension"
OFFERED = (FOLDER / "timescaledb.control").exists()
absent = pytest.mark.skipif(OFFERED, reason="this server offers TimescaleDB")


@pytest.fixture
def offered():
    """The server offers an extension of that name, whose script does the one thing of interest. PG_CONFIG names a private
    copy, see tests/sql/run."""
    files = {FOLDER / "timescaledb.control": "default_version = '1'\n",
             FOLDER / "timescaledb--1.sql": "CREATE SCHEMA timescaledb_information;\n"}
    for path, text in files.items():
        path.write_text(text, encoding="ascii")
        path.chmod(0o644)
    yield
    for path in files:
        path.unlink()


def exists(db):
    return db.one("SELECT to_regclass(%s) IS NOT NULL", (VIEW,))


def ask_for_it(db):
    """Also where the server offers TimescaleDB."""
    db.sql("SELECT _prom_catalog.set_setting('timescaledb_view', 'true')")
    db.sql(SYNC)
    assert exists(db)


def test_columns_and_figures(db, store):
    """As in TimescaleDB 1.x; metrics with nothing compressed are not in it."""
    ask_for_it(db)
    assert db.sql("SELECT attname, format_type(atttypid, -1) FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0"
                  " ORDER BY attnum", (VIEW,)) == [
        ("hypertable_name", "regclass"), ("total_chunks", "bigint"), ("number_compressed_chunks", "bigint")] + [
        (f"{state}_{part}_bytes", "text") for state in ("uncompressed", "compressed") for part in ("heap", "index", "toast", "total")]
    ids = db.resolve([series("a"), series("Odd name"), series("open")])
    now = store.now_ms() // (8 * HOUR) * 8 * HOUR
    for i in range(2):
        m, s = ids.metrics[i], ids.series[i]
        store.flush([(0, m, s, now - 9 * HOUR + t * 1000, bits(1.0)) for t in range(100)])
    store.force()
    store.flush([(0, ids.metrics[2], ids.series[2], now, bits(1.0)), (0, ids.metrics[0], ids.series[0], now, bits(1.0))])
    store.merge()
    db.sql("SET search_path = pg_catalog")
    rows = db.sql(f"SELECT hypertable_name::text, total_chunks, number_compressed_chunks, uncompressed_heap_bytes,"
                  f" uncompressed_index_bytes, uncompressed_toast_bytes, uncompressed_total_bytes FROM {VIEW} ORDER BY 1")
    assert [r[0].split(".", 1)[1] for r in rows] == ['"Odd name"', "a"]
    assert {r[0].split(".", 1)[0] for r in rows} <= {"prom_data", "prom_metric"}
    assert [r[1:] for r in rows] == [(1, 1, "5200 bytes", "3600 bytes", "0 bytes", "8800 bytes"),
                                     (2, 1, "5200 bytes", "3600 bytes", "0 bytes", "8800 bytes")]
    size = db.one("SELECT octet_length(data) FROM _prom_data.block WHERE metric_id = %s", (ids.metrics[0],))
    assert db.sql(f"SELECT compressed_heap_bytes, compressed_index_bytes, compressed_toast_bytes, compressed_total_bytes FROM {VIEW}"
                  " WHERE hypertable_name::text ~ 'a$'") == [("120 bytes", "44 bytes", f"{size} bytes", f"{size + 164} bytes")]


def test_readers_may_look(db):
    ask_for_it(db)
    db.sql("DROP ROLE IF EXISTS stats_reader; CREATE ROLE stats_reader IN ROLE prom_reader; SET ROLE stats_reader")
    assert db.sql(f"SELECT * FROM {VIEW}") == []
    db.sql("RESET ROLE")


def test_it_goes_with_promscale_and_is_in_no_dump(db, server):
    ask_for_it(db)
    assert "timescaledb_information" not in server.client("pg_dump", db.name).stdout
    db.sql("DROP EXTENSION promscale")
    assert db.one("SELECT to_regnamespace('timescaledb_information') IS NULL")


@absent
def test_timescaledb_can_be_installed_later(db, offered):
    """A server that begins to offer it: maintenance makes room, and keeps away from what is not ours."""
    with pytest.raises(psycopg2.Error):
        db.sql("CREATE EXTENSION timescaledb")
    db.sql("UPDATE _prom_catalog.job SET next_run = now()")
    db.sql("CALL prom_api.execute_maintenance()")
    assert not exists(db)
    db.sql("CREATE EXTENSION timescaledb")
    assert db.one(SYNC) == "not ours"
    db.sql("SELECT _prom_catalog.set_setting('timescaledb_view', 'true')")
    assert db.one(SYNC) == "not ours" and not exists(db)
    db.sql("DROP EXTENSION timescaledb")
    assert db.one(SYNC) == "made" and exists(db)
    db.sql("SELECT _prom_catalog.set_setting('timescaledb_view', 'auto')")
    assert db.one(SYNC) == "dropped" and db.one(SYNC) == "not there"


@absent
def test_where_timescaledb_is_offered_it_is_not_made(server, offered):
    """So a dump of a database with both, which installs promscale first, can be restored."""
    db = server.create()
    assert not exists(db)
    db.sql("CREATE EXTENSION timescaledb")
    dump = server.dir / "both.sql"
    dump.write_text(server.client("pg_dump", db.name).stdout, encoding="utf-8")
    restored = server.create(extension=None)
    with open(dump, encoding="utf-8") as text:
        server.client("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", restored.name, stdin=text)
    assert restored.column("SELECT extname FROM pg_extension WHERE extname IN ('promscale', 'timescaledb')"
                           " ORDER BY 1") == [
        "promscale", "timescaledb"]
    for d in (db, restored):
        d.close()


@absent
def test_it_comes_with_maintenance(db):
    """Installed where TimescaleDB was offered, which it no longer is; made by the step, it is a member all the same."""
    db.sql("SELECT _prom_catalog.set_setting('timescaledb_view', 'false')")
    assert db.one(SYNC) == "dropped" and not exists(db)
    db.sql("SELECT _prom_catalog.set_setting('timescaledb_view', 'auto'); UPDATE _prom_catalog.job SET next_run = now()")
    db.sql("CALL prom_api.execute_maintenance()")
    assert exists(db)
    assert "made" not in db.one(SYNC)
    db.sql("DROP EXTENSION promscale")
    assert db.one("SELECT to_regnamespace('timescaledb_information') IS NULL")


@absent
def test_what_people_built_upon_it_is_kept(db, offered):
    db.sql(f"CREATE VIEW public.mine AS SELECT total_chunks FROM {VIEW}")
    assert db.one(SYNC).startswith("kept: ")
    assert exists(db) and db.sql("SELECT * FROM public.mine") == []
    assert db.one("SELECT deptype FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = %s::regclass"
                  " AND refclassid = 'pg_extension'::regclass", (VIEW,)) == "e"
    db.sql("DROP VIEW public.mine")
    assert db.one(SYNC) == "dropped"


@absent
def test_somebody_elses_schema_is_left_alone(server):
    db = server.create(extension=None)
    db.sql("CREATE SCHEMA timescaledb_information; CREATE TABLE timescaledb_information.mine (); CREATE EXTENSION promscale")
    assert db.one(SYNC) == "not ours" and not exists(db)
    db.sql("DROP EXTENSION promscale")
    assert db.one("SELECT to_regclass('timescaledb_information.mine') IS NOT NULL")
    db.close()
