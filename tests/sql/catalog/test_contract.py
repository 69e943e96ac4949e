"""The table contract: what lets an engine that distributes tables hold ours. See docs/decisions."""
import pathlib
import re

import pytest

from database import series

ROOT = pathlib.Path(__file__).resolve().parents[3]
DATA = ["fresh", "merged", "block_far", "block_20240101"]


@pytest.fixture(scope="module")
def contract_db(shared_db):
    shared_db.sql("SELECT _prom_catalog.make_partition('2024-01-01 00:00Z')")
    return shared_db


def keys(db, table):
    return [set(k) for k in db.column(
        "SELECT ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey))"
        " FROM pg_index i WHERE i.indrelid = %s::regclass AND i.indisunique", (f"_prom_data.{table}",))]


@pytest.mark.parametrize("table", DATA)
def test_keys_of_blocks(contract_db, table):
    """Every unique key holds what rows are placed by, and the time that partitions go by; there is one."""
    assert keys(contract_db, table) == [{"metric_id", "t_min", "dist_key", "id"}]
    assert contract_db.one("SELECT count(*) FROM pg_index WHERE indrelid = %s::regclass", (f"_prom_data.{table}",)) == 1


def test_keys_of_exemplars(contract_db):
    assert keys(contract_db, "exemplar") == [{"metric_id", "series_id", "time", "dist_key", "digest"}]


def test_one_shape(contract_db):
    shapes = {tuple(contract_db.sql(
        "SELECT attname, atttypid::regtype::text, attnotnull, attstorage FROM pg_attribute"
        " WHERE attrelid = %s::regclass AND attnum > 0 ORDER BY attnum", (f"_prom_data.{t}",))) for t in DATA + ["block"]}
    assert len(shapes) == 1
    assert ("data", "bytea", True, "e") in shapes.pop()
    assert contract_db.one("SELECT pg_get_partkeydef('_prom_data.block'::regclass)") == "RANGE (t_min)"


def test_no_triggers_rules_foreign_keys_or_row_policies(contract_db):
    where = "JOIN pg_class c ON c.oid = {} JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname IN ('_prom_data', '_prom_catalog')"
    assert contract_db.one("SELECT count(*) FROM pg_trigger t " + where.format("t.tgrelid")) == 0
    assert contract_db.one("SELECT count(*) FROM pg_constraint t " + where.format("t.conrelid") + " AND t.contype = 'f'") == 0
    assert contract_db.one("SELECT count(*) FROM pg_rewrite t " + where.format("t.ev_class") + " AND c.relkind <> 'v'") == 0


def test_functions_over_blocks(contract_db):
    """Those that take a block's bytes may run anywhere: no catalog, no SPI. But for the one that guards itself against
    bytes that the server has lost: the subtransaction for that is nothing for parallel workers."""
    rows = contract_db.sql(
        "SELECT p.oid::regprocedure::text, p.provolatile, p.proisstrict, p.proparallel, l.lanname FROM pg_proc p"
        " JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang"
        " WHERE n.nspname = '_prom_ext' AND 'bytea'::regtype = ANY (p.proargtypes)")
    assert "_prom_ext.block_parts(bytea)" in [r[0] for r in rows]
    for name, *properties in rows:
        parallel = "u" if name.startswith("_prom_ext.ids_problem(") else "s"
        assert properties == ["i", True, parallel, "c"], name


def test_identities_are_immutable(contract_db):
    for name in ("text_digest(text)", "label_digest(text,text)", "series_digest(text[],text[])", "dist_key(int4,int4)",
                 "bucket(int4)", "label_set(int4[])"):
        assert contract_db.sql("SELECT provolatile, proisstrict, proparallel FROM pg_proc WHERE oid = %s::regprocedure",
                               (f"_prom_ext.{name}",)) == [("i", True, "s")]


def test_ids_use_64_bits(contract_db):
    for column in ("_prom_catalog.series.id", "_prom_data.fresh.id", "_prom_data.fresh.series_lo", "_prom_data.fresh.dist_key"):
        table, attribute = column.rsplit(".", 1)
        assert contract_db.one("SELECT atttypid::regtype::text FROM pg_attribute WHERE attrelid = %s::regclass AND attname = %s",
                               (table, attribute)) == "bigint"


def code(path):
    """Without comments."""
    text = path.read_text(encoding="utf-8")
    return re.sub(r"/\*.*?\*/" if path.suffix in (".c", ".h") else r"--[^\n]*", " ", text, flags=re.S)


C_FILES = sorted((ROOT / "extension/src").glob("*.[ch]"))
SQL_FILES = sorted((ROOT / "extension/sql").glob("*.sql"))


# What reads no rows of ours: file, what it opens.
ALLOWED = {
    "worker.c": {"table_open", "table_beginscan_catalog", "heap_getnext"},  # pg_database, in the launcher
    "fdw_estimate.c": {"table_open"},  # bounds of the partitions, for estimates only
    "wipe.c": {"relation_open", "try_relation_open"},  # free space of pages, of the tables that are here: no row is read
}


@pytest.mark.parametrize("path", C_FILES, ids=lambda p: p.name)
def test_data_is_reached_through_sql_only(path):
    """On an engine that places rows elsewhere the table at hand is an empty shell."""
    found = re.findall(r"\b(table_open|relation_open|heap_open|heap_insert|heap_delete|heap_update|heap_getnext|heap_beginscan"
                       r"|table_beginscan\w*|table_tuple_\w+|simple_heap_\w+|CatalogTuple\w+|index_open|index_beginscan|table_scan_\w+)\b",
                       code(path))
    assert set(found) <= ALLOWED.get(path.name, set())


@pytest.mark.parametrize("path", C_FILES + SQL_FILES, ids=lambda p: p.name)
def test_no_ctid_and_no_skip_locked(path):
    text = code(path)
    if path.name == "resolve_names.c":  # there it is one of the names that a label may have
        text = text.replace('"ctid"', "")
    if path.name == "verify.c":  # looks for damaged pages, and has another way where there are none
        text = text.replace("ctid OPERATOR", "")
    if path.name == "070-maintenance.sql":  # of a table of the catalog, which no engine spreads
        text = re.sub(r"(FROM _prom_catalog\.vacuum_queue f\s[^;]*?)FOR UPDATE SKIP LOCKED", r"\1", text, count=1)
    if path.name == "maint_fold.c":  # only where the rows are in a large file here
        assert "is_large_here" in text
        text = re.sub(r"min\(m\.ctid\)|AND m\.ctid >= \$3", "", text)
    if path.name == "075-compact.sql":  # about files: those of a table that has none here are too small for it
        assert "IF v_toast IS NULL OR pg_relation_size(v_table) + pg_relation_size(v_toast) < v_least THEN" in text
        text = re.sub(r"\bctid\b", "", text)
    assert not re.search(r"\bctid\b|SKIP\s+LOCKED", text, re.I)


@pytest.mark.parametrize("path", C_FILES + SQL_FILES, ids=lambda p: p.name)
def test_conflicts_on_data_name_no_key(path):
    for statement in re.findall(r"INSERT INTO _prom_data\.\w+.*?(?:;|$)", code(path), re.S):
        assert not re.search(r"ON\s+CONFLICT\s*\(", statement)
        assert not re.search(r"DO\s+UPDATE", statement)


def test_a_publication_of_all_tables_stops_nothing(db):
    """Deleting and updating under FOR ALL TABLES needs a key on every table that sees either."""
    db.sql("CREATE PUBLICATION p FOR ALL TABLES")
    ids = db.resolve([series("m", a=str(i)) for i in range(10)]).series
    db.views()
    db.resolve([series("m", b="1")])
    assert db.one("SELECT _prom_catalog.delete_series_rows(%s)", (ids[:3],)) == 3
    for i in range(12):
        db.sql("SELECT _prom_catalog.upsert_metadata(0, '{m}', '{gauge}', '{s}', ARRAY[%s])", (f"h{i}",))
    db.sql("SELECT _prom_catalog.insert_exemplars('{0}','{1}','{5}','{7}','{2024-01-01}','{1}', ARRAY[jsonb '{}'])")
    db.sql("SELECT prom_api.set_default_retention_period('1 day'), prom_api.set_default_retention_period('2 days')")
    db.sql("SELECT _prom_catalog.make_partition('2024-01-01 00:00Z')")
    metric = db.one("SELECT id FROM _prom_catalog.metric")
    for table, form in (("fresh", "flush"), ("merged", "merged"), ("block", "sealed"), ("block_far", "sealed")):
        db.block(table, metric, [(metric, ids[5], 1_704_067_200_000, 1.0)], form)
    tables = db.column("SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
                       " WHERE n.nspname IN ('_prom_catalog', '_prom_data') AND c.relkind IN ('r', 'p')")
    for table in tables:
        db.sql(f"DELETE FROM {table}")
