"""Random queries over the metric views give what the same text gives over ordinary tables with the same rows.

The tables are filled from what was written, not from the views. Half of the time maintenance has folded and sealed
everything. Run longer: PROMSCALE_FUZZ_SECONDS; repeat: PROMSCALE_FUZZ_SEED.
"""
import psycopg2
from conftest import scatter
from queries import Queries
from tables import make_tables, over, tidy, typed_connection

SETTINGS = ["", "", "", "SET LOCAL enable_hashjoin = off", "SET LOCAL enable_nestloop = off",
            "SET LOCAL work_mem = '64kB'",
            "SET LOCAL enable_mergejoin = off; SET LOCAL enable_hashjoin = off", "SET LOCAL enable_hashagg = off",
            "SET LOCAL enable_sort = off", "SET LOCAL TimeZone = 'Europe/Berlin'", "SET LOCAL hash_mem_multiplier = 1",
            "SET LOCAL TimeZone = 'America/St_Johns'", "SET LOCAL TimeZone = 'Asia/Kathmandu'",
            "SET LOCAL promscale.enable_aggregate_pushdown = off", "SET LOCAL enable_material = off", "SET LOCAL"
                " cursor_tuple_fraction = 0.001",
            "SET LOCAL join_collapse_limit = 1", "SET LOCAL ROLE prom_reader",
            "SET LOCAL parallel_setup_cost = 0; SET LOCAL parallel_tuple_cost = 0;"
            "SET LOCAL min_parallel_table_scan_size = 0"]
LOOSE = ("avg(", "stddev", "var")


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


def look_at_plan(conn, statement, plans):
    """Counts what the plan of a query has: the ways that are to be compared should all come up."""
    cur = conn.cursor()
    try:
        cur.execute("EXPLAIN (VERBOSE) " + statement)
    except psycopg2.Error:
        return
    text = "\n".join(row[0] for row in cur.fetchall())
    for what in ("Aggregate: ", "Newest Samples:", "Hash Join", "Merge Join", "Nested Loop", "InitPlan", "SubPlan"):
        plans[what] = plans.get(what, 0) + (what in text)


def differences(db, time, share):
    """Runs queries until this share of the time is over; returns how many, and those that differ."""
    labels = db.column("SELECT id FROM _prom_catalog.label ORDER BY id")
    arrays = db.column("SELECT labels::text FROM _prom_catalog.series ORDER BY id")
    has_time_bucket = db.one("SELECT count(*) FROM pg_proc WHERE proname = 'time_bucket'") > 0
    has_last = db.one("SELECT count(*) FROM pg_proc WHERE proname = 'last'") > 0
    queries = Queries(time.random, db.written, labels, arrays, has_time_bucket, has_last)
    conn, n, rows, found, errors, plans = typed_connection(db), 0, 0, [], {}, {}
    while time.more(share):
        text = queries.query()
        begin = "BEGIN; " + time.random.choice(SETTINGS)
        how = time.random.choice(["", "", "", "prepared", "cursor"])
        got, error = outcome(conn, over(text, "cpu_usage", "cpu_total", 'prom_metric."a b""c"'), begin, how)
        expected, _ = outcome(conn, over(text, "plain_u", "plain_t", "plain_q"), begin, how)
        n += 1
        if n % 10 == 0:
            look_at_plan(conn, over(text, "cpu_usage", "cpu_total", 'prom_metric."a b""c"'), plans)
        if isinstance(expected, list):
            rows += len(expected)
        else:
            errors.setdefault(expected, text)
            errors[""] = errors.get("", 0) + 1
        if got != expected:
            only = [x for x in got if x not in expected] if isinstance(got, list) else got
            missing = [x for x in expected if x not in got] if isinstance(expected, list) else expected
            found.append(f"{begin} {how}: {text}\n  got {str(only)[:400]} {error or ''}\n"
                         f"  expected {str(missing)[:400]}")
            if len(found) >= 10:
                break
    conn.close()
    print("of every tenth plan:", plans)
    assert errors.get("", 0) <= n / 20 + 1, errors  # queries that PostgreSQL refuses test nothing
    return n, rows, found


def test_random_queries(db, bound):
    time = bound(40)
    db.conn.close()
    db.conn = db.connect()
    scatter(db, time.random)
    make_tables(db)
    n, rows, found = differences(db, time, 0.5)
    assert not found, "\n\n".join(found)
    db.sql("CALL prom_api.execute_maintenance(force => true)")
    more, more_rows, found = differences(db, time, 1)
    print(f"{n + more} queries, {rows + more_rows} rows")
    assert not found, "\n\n".join(found)
    assert n > 20 and more > 20 and rows > 10 * n
