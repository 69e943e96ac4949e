"""Random queries over the metric views give what the same text gives over ordinary tables with the same rows.

The tables are filled from what was written, not from the views. Half of the time maintenance has folded and sealed
everything. Run longer: PROMSCALE_FUZZ_SECONDS; repeat: PROMSCALE_FUZZ_SEED.
"""
import io
import math

import psycopg2
import psycopg2.extensions
import pytest
from queries import Queries

SETTINGS = ["", "", "", "SET LOCAL enable_hashjoin = off", "SET LOCAL enable_nestloop = off",
            "SET LOCAL work_mem = '64kB'",
            "SET LOCAL enable_mergejoin = off; SET LOCAL enable_hashjoin = off", "SET LOCAL enable_hashagg = off",
            "SET LOCAL enable_sort = off", "SET LOCAL enable_material = off", "SET LOCAL cursor_tuple_fraction = 0.001",
            "SET LOCAL join_collapse_limit = 1", "SET LOCAL ROLE prom_reader",
            "SET LOCAL parallel_setup_cost = 0; SET LOCAL parallel_tuple_cost = 0;"
            "SET LOCAL min_parallel_table_scan_size = 0"]
LOOSE = ("avg(", "stddev(")


def make_tables(db):
    """plain_u, plain_t, plain_q: the oracle; own: a user's table."""
    for table, metric in (("plain_u", "cpu_usage"), ("plain_t", "cpu_total"), ("plain_q", 'a b"c')):
        id_ = db.written.metrics[metric]
        columns = db.sql("SELECT pos, id_column_name FROM _prom_catalog.label_key_position p"
                         " JOIN _prom_catalog.label_key k ON k.id = p.key_id"
                         " WHERE metric_id = %s AND key <> '__name__' ORDER BY pos", (id_,))
        db.sql("CREATE TEMP TABLE raw (series_id int8, ms int8, value float8)")
        rows = "".join(f"{s}\t{t}\t{v!r}\n" for (m, s, t), v in db.written.samples.items() if m == metric)
        db.conn.cursor().copy_expert("COPY raw FROM STDIN", io.StringIO(rows))
        ids = "".join(f', NULLIF(labels[{pos}], 0) AS "{name}"' for pos, name in columns)
        db.sql(f"CREATE TABLE {table} AS SELECT to_timestamp(ms / 1000) AS time, value, series_id, labels {ids}"
               f" FROM raw JOIN _prom_catalog.series s ON s.id = series_id; DROP TABLE raw; ANALYZE {table}")
    db.sql("CREATE TABLE own AS SELECT id AS series_id, 'name ' || id % 4 AS name,"
           " now() - id % 40 * interval '1 hour' AS since FROM _prom_catalog.series WHERE id % 3 > 0")
    db.sql("INSERT INTO own VALUES (0, 'nobody', now()), (NULL, NULL, NULL); ANALYZE own")
    db.sql("GRANT SELECT ON plain_u, plain_t, plain_q, own TO prom_reader")
    assert db.one("SELECT count(*) FROM plain_u") > 1000


def tidy(value, loose):
    """A value that can be compared: NaNs and zeros are alike, sums that depend on their order roughly."""
    if isinstance(value, float):
        if math.isnan(value):
            return "NaN"
        if loose and math.isfinite(value):
            return float(f"{value:.9g}")
        return value + 0.0
    if isinstance(value, list):
        return tuple(tidy(v, loose) for v in value)
    return repr(value) if isinstance(value, dict) else value


def outcome(conn, statement, begin, how):
    """Rows in any order, or the SQLSTATE."""
    cur = conn.cursor()
    try:
        cur.execute(begin)
        if how == "prepared":
            cur.execute(f"SET LOCAL plan_cache_mode = force_generic_plan; PREPARE p AS {statement}; EXECUTE p")
        elif how == "cursor":
            cur.execute(f"DECLARE c SCROLL CURSOR FOR {statement}; FETCH 5 FROM c; MOVE ABSOLUTE 0 FROM c;"
                        "FETCH ALL FROM c")
        else:
            cur.execute(statement)
        loose = any(word in statement for word in LOOSE)
        return sorted((tuple(tidy(v, loose) for v in row) for row in cur.fetchall()), key=repr), None
    except psycopg2.Error as e:
        return e.pgcode or str(e), e
    finally:
        cur.execute("ROLLBACK")
        if how == "prepared":
            cur.execute("DEALLOCATE ALL")


def over(text, u, t, q):
    return text.replace("{u}", u).replace("{t}", t).replace("{q}", q)


def typed_connection(db):
    """Timestamps and numerics as text: Python's own do not take infinities."""
    conn = db.connect()
    for oids in ((1184, 1114, 1082), (1185, 1115, 1182)):
        psycopg2.extensions.register_type(psycopg2.extensions.new_type(oids, "text", lambda v, c: v), conn)
    conn.cursor().execute("SET statement_timeout = '30s'; SET extra_float_digits = 1")
    return conn


def differences(db, time, share):
    """Runs queries until this share of the time is over; returns how many, and those that differ."""
    labels = db.column("SELECT id FROM _prom_catalog.label ORDER BY id")
    arrays = db.column("SELECT labels::text FROM _prom_catalog.series ORDER BY id")
    has_time_bucket = db.one("SELECT count(*) FROM pg_proc WHERE proname = 'time_bucket'") > 0
    queries = Queries(time.random, db.written, labels, arrays, has_time_bucket)
    conn, n, rows, found, errors = typed_connection(db), 0, 0, [], {}
    while time.more(share):
        text = queries.query()
        begin = "BEGIN; " + time.random.choice(SETTINGS)
        how = time.random.choice(["", "", "", "prepared", "cursor"])
        got, error = outcome(conn, over(text, "cpu_usage", "cpu_total", 'prom_metric."a b""c"'), begin, how)
        expected, _ = outcome(conn, over(text, "plain_u", "plain_t", "plain_q"), begin, how)
        n += 1
        if isinstance(expected, list):
            rows += len(expected)
        else:
            errors.setdefault(expected, text)
            errors[""] = errors.get("", 0) + 1
        if got != expected:
            found.append(f"{begin} {how}: {text}\n  got {str(got)[:400]} {error or ''}\n"
                         f"  expected {str(expected)[:400]}")
            if len(found) >= 10:
                break
    conn.close()
    assert errors.get("", 0) <= n / 20 + 1, errors  # queries that PostgreSQL refuses test nothing
    return n, rows, found


@pytest.fixture
def filled(db):
    db.conn.close()
    db.conn = db.connect()
    make_tables(db)
    return db


def test_random_queries(filled, bound):
    time = bound(40)
    n, rows, found = differences(filled, time, 0.5)
    assert not found, "\n\n".join(found)
    filled.sql("CALL prom_api.execute_maintenance(force => true)")
    more, more_rows, found = differences(filled, time, 1)
    print(f"{n + more} queries, {rows + more_rows} rows")
    assert not found, "\n\n".join(found)
    assert n > 20 and more > 20 and rows > 10 * n
