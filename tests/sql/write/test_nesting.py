"""Rows belong to the statement and the subtransaction that brought them, however these nest."""
import io
import pathlib
import subprocess

import psycopg2
import pytest

from conftest import Database

T = "'2024-05-01'::timestamptz"


@pytest.fixture
def m(db):
    """A metric, and functions that write into it while somebody else's statement is under way."""
    db.metric("m")
    db.sql(f"""
        CREATE FUNCTION at(i int) RETURNS timestamptz LANGUAGE sql AS $$SELECT {T} + i * interval '1 s'$$;
        CREATE FUNCTION put(i int) RETURNS float8 LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO prom_data.m (time, value, labels) VALUES (at(1000 + i), -i, '{{"by": "put"}}');
            RETURN i;
        END $$;
        CREATE FUNCTION put_and_fail(i int) RETURNS float8 LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO prom_data.m (time, value, labels) VALUES (at(2000 + i), -i, '{{"by": "failed"}}');
            RAISE 'no';
        EXCEPTION WHEN raise_exception THEN
            RETURN i;
        END $$;
        CREATE FUNCTION fail_inside(i int) RETURNS float8 LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO prom_data.m (time, value, labels)
                SELECT at(3000 + g), 1 / (5 - g), '{{"by": "inside"}}' FROM generate_series(1, 9) g;
            RETURN 0;
        EXCEPTION WHEN division_by_zero THEN
            RETURN i;
        END $$;
        CREATE FUNCTION put_in_block(i int) RETURNS float8 LANGUAGE plpgsql AS $$
        BEGIN
            BEGIN
                INSERT INTO prom_data.m (time, value, labels) VALUES (at(4000 + i), -i, '{{"by": "block"}}');
                PERFORM fail_inside(i);
            EXCEPTION WHEN division_by_zero THEN NULL;
            END;
            RETURN i;
        END $$;
        CREATE FUNCTION nothing(i int) RETURNS float8 LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO prom_data.m (time, value, labels) SELECT at(1), 0, '{{}}' WHERE false;
            RETURN i;
        END $$;
        CREATE FUNCTION nothing_and_fail(i int) RETURNS float8 LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO prom_data.m (time, value, labels) SELECT at(1), 0, '{{}}' WHERE false;
            RAISE 'no';
        EXCEPTION WHEN raise_exception THEN
            RETURN i;
        END $$""")
    return db


def values(db, by=None):
    if by is None:
        return sorted(db.column("SELECT value FROM prom_data.m WHERE NOT labels ? 'by'::text"))
    return sorted(db.column("SELECT value FROM prom_data.m WHERE labels->>'by' = %s", (by,)))


@pytest.mark.parametrize("memory", ["64kB", "64MB"])
@pytest.mark.parametrize("function, by, inner", [
    ("put", "put", True), ("put_and_fail", "failed", False), ("fail_inside", "inside", False),
    ("put_in_block", "block", True), ("nothing", None, False), ("nothing_and_fail", None, False)])
def test_a_statement_inside_a_statement(m, function, by, inner, memory):
    m.sql(f"SET promscale.write_memory = '{memory}'")
    m.put(f"SELECT at(i), {function}(i), '{{}}' FROM generate_series(1, 600) i")
    assert values(m) == list(range(1, 601))
    if by is not None:
        assert values(m, by) == ([-i for i in range(600, 0, -1)] if inner else [])
    assert m.one("SELECT count(*) FROM m") == 600 + 600 * inner
    assert m.one("SELECT sum(n_samples) FROM _prom_data.fresh") == 600 + 600 * inner


@pytest.mark.parametrize("function, inner", [("put", 5), ("put_and_fail", 0), ("fail_inside", 0), ("put_in_block", 5)])
def test_a_statement_inside_copy(m, function, inner):
    """COPY evaluates an expression of the user's only in a view's default: of a view upon ours."""
    m.sql(f"CREATE VIEW over AS SELECT time, value, labels FROM prom_data.m;"
          f"CREATE SEQUENCE s; ALTER VIEW over ALTER value SET DEFAULT {function}(nextval('s')::int)")
    m.sql("CREATE FUNCTION pass_on() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN"
          " INSERT INTO prom_data.m (time, value, labels) VALUES (NEW.time, NEW.value, NEW.labels); RETURN NEW; END$$;"
          "CREATE TRIGGER t INSTEAD OF INSERT ON over FOR EACH ROW EXECUTE FUNCTION pass_on()")
    assert m.copy("over (time, labels)", "".join(f"2024-06-01 00:00:0{i}\t{{}}\n" for i in range(5))) == 5
    assert values(m) == [1, 2, 3, 4, 5]
    assert m.count("m") == 5 + inner
    m.sql(f"ALTER VIEW prom_data.m ALTER value SET DEFAULT {function}(nextval('s')::int)")
    assert m.copy("prom_data.m (time, labels)", "".join(f"2024-07-01 00:00:0{i}\t{{}}\n" for i in range(5))) == 5
    assert values(m) == list(range(1, 11))
    assert m.count("m") == 10 + 2 * inner


def test_savepoints(m):
    m.conn.autocommit = False
    m.put("SELECT at(i), i, '{}' FROM generate_series(1, 10) i")
    m.sql("SAVEPOINT a")
    m.put("SELECT at(100 + i), i, '{\"gone\": \"1\"}' FROM generate_series(1, 10) i")
    m.sql("SAVEPOINT b")
    m.put("SELECT at(200 + i), i, '{}' FROM generate_series(1, 10) i")
    assert m.count("m") == 30
    m.sql("ROLLBACK TO a")
    assert m.count("m") == 10
    # the label set that was rolled back is made anew
    m.put("SELECT at(300 + i), i, '{\"gone\": \"1\"}' FROM generate_series(1, 10) i")
    m.sql("SAVEPOINT c")
    with pytest.raises(psycopg2.errors.DivisionByZero):
        m.put("SELECT at(400 + i), 1 / (5 - i), '{}' FROM generate_series(1, 10) i")
    m.sql("ROLLBACK TO c")
    m.sql("RELEASE a")
    m.conn.commit()
    assert m.count("m") == 20
    assert m.one("SELECT count(*) FROM prom_data.m WHERE labels->>'gone' = '1'") == 10


def test_errors_leave_nothing(m):
    m.sql("SET promscale.write_memory = '64kB'")
    for _ in range(3):
        with pytest.raises(psycopg2.errors.DivisionByZero):
            m.put("SELECT at(i), 1 / (5000 - i), '{\"a\": \"b\"}'"
                  " FROM generate_series(1, 5001) i")
        with pytest.raises(psycopg2.errors.InvalidDatetimeFormat):
            m.copy("prom_data.m (time, value, labels)", "2024-05-01\t1\t{}\n" * 3000 + "x\t1\t{}\n")
    assert m.one("SELECT count(*) FROM _prom_data.fresh") == 0
    assert m.one("SELECT count(*) FROM prom_series.m") == 0
    m.put("VALUES (at(1), 1, '{}')")
    assert values(m) == [1]


def test_procedures_with_commits(m):
    m.sql("""CREATE PROCEDURE load() LANGUAGE plpgsql AS $$BEGIN
                 FOR i IN 1..20 LOOP
                     INSERT INTO prom_data.m (time, value, labels) 
                         SELECT at(i * 10 + g), g, '{}' FROM generate_series(1, 10) g;
                     IF i % 2 = 0 THEN COMMIT; ELSIF i % 3 = 0 THEN ROLLBACK; END IF;
                 END LOOP; END$$; """)
    m.sql("CALL load()")
    assert m.count("m") == 10 * (20 - 3)  # 3, 9 and 15 were rolled back alone


def test_returning_into_and_cursors(m):
    m.sql("""DO $$
        DECLARE t timestamptz; v float8; r record; c refcursor; n int := 0;
        BEGIN
            INSERT INTO prom_data.m (time, value, labels) VALUES (at(1), 1, '{}') RETURNING time, value INTO t, v;
            ASSERT t = at(1) AND v = 1 AND (SELECT count(*) FROM prom_data.m) = 1;
            FOR r IN INSERT INTO prom_data.m (time, value, labels)
                     SELECT at(10 + i), i, '{}' FROM generate_series(1, 10) i RETURNING value LOOP
                n := n + 1;
                EXIT WHEN n = 3;
            END LOOP;
            EXECUTE 'INSERT INTO prom_data.m (time, value, labels) VALUES (at(50), 5, ''{}'') RETURNING value' INTO v;
        END$$""")
    assert m.count("m") == 12


def test_copy_inside_a_statement(m):
    """From a file of the server: the only COPY that a function can run."""
    path = f"{m.server.data}/{m.name}.rows"
    m.sql(f"COPY (SELECT at(500 + i), i, '{{\"by\": \"copy\"}}' FROM generate_series(1, 10) i) TO '{path}';"
          f"COPY (SELECT 1 WHERE false) TO '{path}.none'")
    for name, file, fails in (("put_copy", path, False), ("fail_copy", path, True),
                              ("copy_nothing", path + ".none", True)):
        m.sql(f"""CREATE FUNCTION {name}(i int) RETURNS float8 LANGUAGE plpgsql AS $$
                  BEGIN
                      COPY prom_data.m (time, value, labels) FROM '{file}';
                      {"RAISE 'no';" if fails else ""}
                      RETURN i;
                  EXCEPTION WHEN raise_exception THEN RETURN i; END $$""")
    for name in ("fail_copy", "copy_nothing", "put_copy"):
        m.put(f"SELECT at(i), {name}(i), '{{}}' FROM generate_series(1, 20) i")
        assert values(m) == list(range(1, 21))
        assert values(m, "copy") == ([] if name != "put_copy" else list(range(1, 11)))


@pytest.mark.parametrize("kind", ["TRIGGER t AFTER INSERT ON source", "TRIGGER t BEFORE INSERT ON source",
                                  "CONSTRAINT TRIGGER t AFTER INSERT ON source DEFERRABLE INITIALLY DEFERRED"])
def test_from_triggers_of_other_tables(m, kind):
    m.sql(f"""CREATE TABLE source (i int);
        CREATE FUNCTION pass_on() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
            INSERT INTO prom_data.m (time, value, labels) VALUES (at(NEW.i), NEW.i, '{{}}'); RETURN NEW; END$$;
        CREATE {kind} FOR EACH ROW EXECUTE FUNCTION pass_on()""")
    m.sql("INSERT INTO source SELECT generate_series(1, 10)")
    assert values(m) == list(range(1, 11))
    m.sql("BEGIN; INSERT INTO source VALUES (11); SAVEPOINT a; INSERT INTO source VALUES (12); ROLLBACK TO a; COMMIT")
    assert values(m) == list(range(1, 12))


def test_series_that_the_statement_itself_deletes(m):
    """Ids that were found are not taken for good after that."""
    m.sql("""CREATE FUNCTION forget(i int) RETURNS float8 LANGUAGE plpgsql AS $$BEGIN
                 IF i = 4000 THEN
                     PERFORM _prom_catalog.delete_series_rows(ARRAY(SELECT series_id FROM prom_series.m));
                 END IF;
                 RETURN i; END$$; SET promscale.write_memory = '64kB'""")
    with pytest.raises(psycopg2.errors.SerializationFailure, match="series were deleted"):
        m.put("SELECT at(i), forget(i), '{}' FROM generate_series(1, 5000) i")
    assert m.count("m") == 0
    # stored in one go, the deletion comes before the look
    m.sql("RESET promscale.write_memory")
    m.put("SELECT at(i), forget(i), '{}' FROM generate_series(1, 5000) i")
    assert m.count("m") == 5000


def test_functions_in_sql(m):
    m.sql("""CREATE FUNCTION one(i int) RETURNS float8 LANGUAGE sql AS
                 $$INSERT INTO prom_data.m (time, value, labels) VALUES (at(i), i, '{}') RETURNING value$$;
             CREATE FUNCTION many(n int) RETURNS SETOF float8 LANGUAGE sql AS
                 $$INSERT INTO prom_data.m (time, value, labels) 
                   SELECT at(i), i, '{}' FROM generate_series(1, n) i RETURNING value$$;
             CREATE FUNCTION with_it(n int) RETURNS SETOF float8 LANGUAGE sql AS
                 $$WITH x AS (INSERT INTO prom_data.m (time, value, labels)
                              SELECT at(100 + i), i, '{}' FROM generate_series(1, n) i RETURNING value)
                   SELECT * FROM x$$""")
    assert m.one("SELECT one(50)") == 50
    assert len(m.sql("SELECT * FROM many(10) LIMIT 2")) == 2
    assert len(m.sql("SELECT with_it(10) LIMIT 2")) == 2
    assert m.count("m") == 21
    # within another INSERT, as its source
    m.put("SELECT at(200 + x::int), one(300 + x::int), '{}' FROM many(20) x")
    assert m.count("m") == 21 + 10 + 20 + 20


def test_explain(m):
    plan = m.column("EXPLAIN (ANALYZE, COSTS off, TIMING off)"
                    " INSERT INTO prom_data.m (time, value, labels) VALUES (at(1), 1, '{}')")
    assert any("promscale_write_end" in line for line in plan), plan
    m.sql("EXPLAIN INSERT INTO prom_data.m (time, value, labels) VALUES (at(2), 1, '{}')")
    assert m.count("m") == 1


def test_data_modifying_with_that_is_not_read_to_its_end(m):
    rows = m.sql("""WITH x AS (INSERT INTO prom_data.m (time, value, labels)
                               SELECT at(i), i, '{}' FROM generate_series(1, 100) i RETURNING value)
                    SELECT * FROM x LIMIT 1""")
    assert len(rows) == 1
    assert m.count("m") == 100


def test_prepare_transaction(server):
    """Two-phase commit takes the rows along."""
    other = type(server)("max_prepared_transactions = 2")
    try:
        db = Database(other, other.new_database())
        db.metric("m")
        db.sql(f"BEGIN; INSERT INTO prom_data.m (time, value, labels) VALUES ({T}, 1, '{{}}'); PREPARE TRANSACTION 'x'")
        assert db.count("m") == 0
        db.sql("COMMIT PREPARED 'x'")
        assert db.count("m") == 1
        db.close()
    finally:
        other.close()


UNFINISHED = r"""
#include "postgres.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/builtins.h"
PG_MODULE_MAGIC;
PG_FUNCTION_INFO_V1(run_some);
Datum run_some(PG_FUNCTION_ARGS)
{
    SPI_connect();
    SPI_execute(text_to_cstring(PG_GETARG_TEXT_PP(0)), false, PG_GETARG_INT32(1));
    int64 n = (int64)SPI_processed;
    SPI_finish();
    PG_RETURN_INT64(n);
}
"""


@pytest.fixture
def run_some(m, tmp_path_factory):
    """A function as procedural languages have it: runs a statement and wants the first n rows only."""
    from cluster import PG_CONFIG
    folder = pathlib.Path(m.server.dir)
    source = tmp_path_factory.mktemp("c") / "some.c"
    source.write_text(UNFINISHED, encoding="ascii")
    include = subprocess.check_output([PG_CONFIG, "--includedir-server"], text=True).strip()
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-I", include, "-o", folder / "some.so", source], check=True)
    m.sql(f"CREATE FUNCTION run_some(text, int) RETURNS int8 AS '{folder}/some.so' LANGUAGE C STRICT")
    return m


INSERT_TEN = ("INSERT INTO prom_data.m (time, value, labels) SELECT at(i), i, '{}' FROM generate_series(1, 10) i"
              " RETURNING value")


def test_what_was_said_to_be_inserted_is_not_lost_silently(run_some):
    db = run_some
    with pytest.raises(psycopg2.errors.ObjectNotInPrerequisiteState, match="3 inserted samples have not been stored"):
        db.sql("SELECT run_some(%s, 3)", (INSERT_TEN,))
    assert db.count("m") == 0
    # inside a subtransaction that fails they are gone by right
    db.sql("""CREATE FUNCTION try() RETURNS void LANGUAGE plpgsql AS $$
              BEGIN PERFORM run_some('%s', 3); RAISE 'no'; EXCEPTION WHEN raise_exception THEN NULL; END$$"""
           % INSERT_TEN.replace("'", "''"))
    db.sql("SELECT try()")
    # and inside one that is committed they are not
    db.sql("CREATE FUNCTION dare() RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM run_some('%s', 4);"
           " EXCEPTION WHEN raise_exception THEN NULL; END$$" % INSERT_TEN.replace("'", "''"))
    with pytest.raises(psycopg2.errors.ObjectNotInPrerequisiteState, match="4 inserted"):
        db.sql("SELECT dare()")
    # unless what is around it fails
    db.sql("""CREATE FUNCTION dare_and_fail() RETURNS void LANGUAGE plpgsql AS $$
              BEGIN PERFORM dare(); RAISE 'no'; EXCEPTION WHEN raise_exception THEN NULL; END$$""")
    db.sql("SELECT dare_and_fail()")
    assert db.count("m") == 0
    db.sql("SELECT run_some(%s, 0)", (INSERT_TEN,))
    assert values(db) == list(range(1, 11))


def test_lost_rows_do_not_get_into_another_statement(run_some):
    db = run_some
    db.sql("CREATE FUNCTION lose(i int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN PERFORM run_some('%s', 3); RAISE 'no';"
           " EXCEPTION WHEN raise_exception THEN RETURN i; END$$" % INSERT_TEN.replace("'", "''"))
    db.put("SELECT at(1000 + i), lose(i), '{}' FROM generate_series(1, 50) i")
    assert values(db) == list(range(1, 51))
    assert db.copy("prom_data.m (time, value, labels)", "2024-06-01\t1\t{}\n") == 1
    assert db.count("m") == 51
