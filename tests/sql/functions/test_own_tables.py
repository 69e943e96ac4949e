"""Metric views together with a user's own tables, in every form of statement: the same over ordinary tables (plain_*,
filled from what was written) must give the same. tables.py makes them.
"""
import psycopg2
import pytest
from tables import make_tables, over, tidy, typed_connection

DAY_AGO = "now() - interval '30 hours'"
# {u}, {t}: the metric view or the ordinary table with its rows; own(series_id, name, since): the user's
READS = {
    "join_from_own": "SELECT o.name, u.time, u.value FROM own o JOIN {u} u USING (series_id)",
    "join_to_own": "SELECT o.name, u.time, u.value FROM {u} u JOIN own o USING (series_id) WHERE u.time > o.since",
    "left_join_keeps_who_has_no_samples": "SELECT o.*, u.time FROM own o LEFT JOIN {u} u ON u.series_id = o.series_id",
    "right_join_keeps_samples": "SELECT o.name, u.time FROM own o RIGHT JOIN {u} u ON u.series_id = o.series_id",
    "full_join": "SELECT o.name, u.n FROM own o FULL JOIN (SELECT series_id, count(*) AS n FROM {u} GROUP BY 1) u"
                 " ON u.series_id = o.series_id",
    "by_label_text": "SELECT p.owner, u.time, u.value FROM people p JOIN {u} u ON p.node = val(u.node_id)",
    "by_label_json": "SELECT p.owner, count(*) FROM people p JOIN {u} u ON u.labels @> jsonb_build_object('node',"
                     " p.node)"
                     " GROUP BY p.owner",
    "by_matcher_of_a_column": "SELECT p.owner, count(*) FROM known p JOIN {u} u ON u.labels ? ('node' == p.node)"
                              " GROUP BY p.owner",
    "by_regex_of_a_column": "SELECT p.owner, count(*) FROM known p JOIN {u} u ON u.labels ? ('node' ==~ p.pattern)"
                            " GROUP BY p.owner",
    "by_eq_with_json_of_a_column": "SELECT p.owner, count(*) FROM people p JOIN {t} t ON eq(t.labels, p.labels)"
                                   " GROUP BY p.owner",
    "ranges": "SELECT e.what, count(u.value), sum(u.value) FILTER (WHERE u.value < 1e9) FROM events e"
              " LEFT JOIN {u} u ON u.time >= e.starts AND u.time < e.ends GROUP BY e.what",
    "last_before": "SELECT e.what, l.* FROM events e LEFT JOIN LATERAL (SELECT time, series_id, value FROM {u} u"
                   " WHERE u.time <= e.ends ORDER BY time DESC, series_id LIMIT 1) l ON true",
    "lateral_by_series": "SELECT o.name, l.* FROM own o CROSS JOIN LATERAL (SELECT max(value), min(time) FROM {t} t"
                         " WHERE t.series_id = o.series_id AND t.time > o.since) l",
    "in_own": f"SELECT * FROM {{u}} WHERE series_id IN (SELECT series_id FROM own WHERE since > {DAY_AGO})",
    "not_in_own": "SELECT * FROM {u} WHERE series_id NOT IN (SELECT series_id FROM own WHERE series_id IS NOT NULL)",
    "not_in_with_null": "SELECT * FROM {u} WHERE series_id NOT IN (SELECT series_id FROM own)",
    "exists": "SELECT * FROM {u} u WHERE EXISTS (SELECT FROM events e WHERE u.time BETWEEN e.starts AND e.ends)",
    "not_exists": "SELECT * FROM {u} u WHERE NOT EXISTS (SELECT FROM {t} t WHERE t.time = u.time AND eq(t.labels,"
                  " u.labels))",
    "own_where_exists": "SELECT * FROM own o WHERE EXISTS (SELECT FROM {u} u WHERE u.series_id = o.series_id)",
    "scalar_subquery": "SELECT o.name, (SELECT count(*) FROM {u} u WHERE u.series_id = o.series_id) FROM own o",
    "any_array": "SELECT * FROM {u} WHERE series_id = ANY (ARRAY(SELECT series_id FROM own))",
    "time_from_own": "SELECT * FROM {u} WHERE time >= (SELECT min(starts) FROM events) AND time < (SELECT max(ends)"
                     " FROM events)",
    "three_way": "SELECT p.owner, u.time, u.value, t.value FROM people p JOIN {u} u ON val(u.node_id) = p.node"
                 " JOIN {t} t ON t.time = u.time AND eq(t.labels, u.labels)",
    "self_join": "SELECT a.time, a.series_id, b.value FROM {u} a JOIN {u} b ON b.series_id = a.series_id"
                 " AND b.time = a.time - interval '10 min'",
    "union_with_own": "SELECT series_id, time FROM {u} UNION ALL SELECT series_id, since FROM own",
    "cte_used_twice": "WITH m AS (SELECT series_id, avg(series_id) AS v FROM {u} GROUP BY 1)"
                      " SELECT * FROM m a JOIN m b USING (series_id) JOIN own USING (series_id)",
    "recursive": "WITH RECURSIVE r(t) AS (SELECT min(time) FROM {t} UNION ALL SELECT (SELECT min(time) FROM {t}"
                 " WHERE time > r.t) FROM r WHERE r.t < (SELECT min(time) FROM {t}) + interval '2 hours') SELECT *"
                 " FROM r",
    "window_over_join": "SELECT o.name, u.time, count(*) OVER (PARTITION BY o.name ORDER BY u.time, u.series_id)"
                        " FROM own o JOIN {u} u USING (series_id)",
    "tablesample_of_own": "SELECT count(*) FROM own TABLESAMPLE system (100) JOIN {u} USING (series_id)",
    "values_list": "SELECT v.x, count(*) FROM (VALUES (1), (2)) v(x), {u} u GROUP BY v.x",
    "whole_row": "SELECT (u).value, u IS NULL FROM {u} u WHERE u.series_id IN (SELECT series_id FROM own)",
    "for_update_of_own": "SELECT o.name, u.time FROM own o JOIN {u} u USING (series_id) FOR UPDATE OF o",
    "merge_sorted": "SELECT * FROM (SELECT time, series_id FROM {u} ORDER BY time, series_id LIMIT 50) a"
                    " JOIN (SELECT time, series_id AS other FROM {t} ORDER BY time, series_id LIMIT 60) b USING (time)",
}
# statement, then what is compared
WRITES = {
    "insert_select": ("INSERT INTO copy SELECT time, value, series_id FROM {u}", "SELECT * FROM copy"),
    "insert_join": ("INSERT INTO copy SELECT u.time, u.value, o.series_id FROM own o JOIN {u} u USING (series_id)",
                    "SELECT * FROM copy"),
    "create_table_as": ("CREATE TABLE made AS SELECT series_id, max(time) AS m FROM {u} GROUP BY 1", "SELECT * FROM"
        " made"),
    "select_into": ("SELECT time, series_id INTO made FROM {u} WHERE value > 10", "SELECT * FROM made"),
    "update_from": ("UPDATE own SET name = x.n::text FROM (SELECT series_id, count(*) AS n FROM {u} GROUP BY 1) x"
                    " WHERE x.series_id = own.series_id", "SELECT * FROM own"),
    "update_from_plain_join": ("UPDATE own SET since = u.time FROM {u} u WHERE u.series_id = own.series_id AND u.time ="
                               " (SELECT max(time) FROM {u} m WHERE m.series_id = own.series_id)", "SELECT * FROM own"),
    "update_subquery": ("UPDATE own SET since = (SELECT max(time) FROM {u} u WHERE u.series_id = own.series_id)",
                        "SELECT * FROM own"),
    "delete_using": ("DELETE FROM own USING {u} u WHERE u.series_id = own.series_id AND u.value > 100",
                     "SELECT * FROM own"),
    "delete_where_not_exists": ("DELETE FROM own WHERE NOT EXISTS (SELECT FROM {u} u WHERE u.series_id ="
                                " own.series_id)",
                                "SELECT * FROM own"),
    "merge": ("MERGE INTO own o USING (SELECT series_id, max(time) AS t FROM {u} GROUP BY 1) u ON u.series_id ="
              " o.series_id"
              " WHEN MATCHED THEN UPDATE SET since = u.t WHEN NOT MATCHED THEN INSERT VALUES (u.series_id, 'new', u.t)",
              "SELECT * FROM own"),
    "on_conflict": ("CREATE TABLE last (series_id int8 PRIMARY KEY, t timestamptz); INSERT INTO last SELECT series_id,"
                    " min(time) FROM {u} GROUP BY 1; INSERT INTO last SELECT series_id, max(time) FROM {u} GROUP BY 1"
                    " ON CONFLICT (series_id) DO UPDATE SET t = excluded.t", "SELECT * FROM last"),
    "returning_into_cte": ("WITH gone AS (DELETE FROM own WHERE series_id IN (SELECT series_id FROM {u}) RETURNING *)"
                           " INSERT INTO copy SELECT since, 1, series_id FROM gone", "SELECT series_id FROM copy"),
    "materialized_view": ("CREATE MATERIALIZED VIEW made AS SELECT date_trunc('hour', time) AS h, count(*) FROM {u}"
                          " GROUP BY 1;"
                          "CREATE UNIQUE INDEX ON made (h); REFRESH MATERIALIZED VIEW made;"
                          "REFRESH MATERIALIZED VIEW CONCURRENTLY made", "SELECT * FROM made"),
    "view_on_view": ("CREATE VIEW made AS SELECT time, value, val(node_id) AS node FROM {u} WHERE value > 5;"
                     "CREATE VIEW again AS SELECT node, count(*) AS n FROM made GROUP BY node", "SELECT * FROM again"),
    "view_that_checks_rights": ("CREATE VIEW made WITH (security_barrier) AS SELECT u.* FROM {u} u JOIN own o USING"
                                " (series_id)",
                                "SELECT * FROM made WHERE value > 20 AND time > " + DAY_AGO),
    "sql_function": ("CREATE FUNCTION f(s int8, since timestamptz) RETURNS TABLE (at timestamptz, v float8) LANGUAGE"
                     " sql"
                     " STABLE AS 'SELECT time, value FROM {u} WHERE series_id = s AND time > since'",
                     "SELECT o.name, f.* FROM own o, f(o.series_id, o.since) f"),
    "plpgsql_loop": ("DO $$DECLARE r record; BEGIN FOR r IN SELECT * FROM {u} ORDER BY time, series_id LOOP"
                     " IF r.value > 50 THEN INSERT INTO copy VALUES (r.time, r.value, r.series_id); END IF; END"
                     " LOOP; END$$",
                     "SELECT * FROM copy"),
    "trigger": ("CREATE FUNCTION tf() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN new.name := (SELECT count(*) FROM"
                " {u} WHERE"
                " series_id = new.series_id); RETURN new; END'; CREATE TRIGGER tt BEFORE UPDATE ON own FOR EACH ROW"
                " EXECUTE"
                " FUNCTION tf(); UPDATE own SET since = since", "SELECT * FROM own"),
    "temp_table_and_copy": ("CREATE TEMP TABLE made AS SELECT * FROM {u} WITH NO DATA; INSERT INTO made SELECT *"
                            " FROM {u}",
                            "SELECT * FROM made"),
    "prepared": ("PREPARE p(int8, timestamptz) AS SELECT time, value FROM {u} WHERE series_id = $1 AND time > $2",
                 f"EXECUTE p({{series}}, {DAY_AGO})"),
}


@pytest.fixture(scope="module")
def filled(module_db):
    make_tables(module_db)
    module_db.sql("CREATE TABLE people (owner text, node text, pattern text, labels jsonb)")
    module_db.sql("""INSERT INTO people VALUES ('ann', 'n1', '^n[12]$', '{"node": "n1", "namespace": "ns1"}'),
        ('bob', 'n2', '5', '{"node": "n2", "namespace": "ns2"}'), ('ann', 'n4', '', '{"node": "n4"}'),
        ('eve', 'x', 'x', '{}'), (NULL, NULL, NULL, NULL)""")
    # a matcher refuses a NULL pattern
    module_db.sql("CREATE VIEW known AS SELECT * FROM people WHERE node IS NOT NULL OFFSET 0")
    module_db.sql("CREATE TABLE events (what text, starts timestamptz, ends timestamptz)")
    module_db.sql("INSERT INTO events SELECT 'e' || i, now() - i * interval '7 h', now() - i * interval '7 h' +"
                  " interval '70 min' FROM generate_series(0, 8) i")
    module_db.sql("CREATE TABLE copy (time timestamptz, value float8, series_id int8); ANALYZE people; ANALYZE events")
    return module_db


def rows_of(conn, statement, u, t, before=()):
    cur = conn.cursor()
    cur.execute("BEGIN")
    try:
        for text in before:
            cur.execute(over(text, u, t, ""))
        cur.execute(over(statement, u, t, ""))
        loose = "avg(" in statement or "sum(" in statement
        return sorted((tuple(tidy(v, loose) for v in row) for row in cur.fetchall()), key=repr)
    finally:
        cur.execute("ROLLBACK; DEALLOCATE ALL")


@pytest.mark.parametrize("plans", ["", "enable_hashjoin", "enable_nestloop", "enable_mergejoin"])
@pytest.mark.parametrize("name", READS)
def test_reading(filled, name, plans):
    conn = typed_connection(filled)
    if plans:
        conn.cursor().execute(f"SET {plans} = off")
    got = rows_of(conn, READS[name], "cpu_usage", "cpu_total")
    assert got == rows_of(conn, READS[name], "plain_u", "plain_t")
    assert got or name == "not_in_with_null"
    conn.close()


@pytest.mark.parametrize("name", WRITES)
def test_writing_to_own_tables(filled, name):
    statement, check = WRITES[name]
    conn = typed_connection(filled)
    check = check.replace("{series}", str(filled.written.series["cpu_usage"][1]))
    got = rows_of(conn, check, "cpu_usage", "cpu_total", before=[statement])
    assert got == rows_of(conn, check, "plain_u", "plain_t", before=[statement])
    assert got
    conn.close()


def test_cursor_with_hold_and_backwards(filled):
    conn = typed_connection(filled)
    seen = {}
    for view in ("cpu_usage", "plain_u"):
        cur = conn.cursor()
        cur.execute(f"BEGIN; DECLARE c SCROLL CURSOR WITH HOLD FOR SELECT time, series_id FROM {view} JOIN own USING"
                    " (series_id) ORDER BY time, series_id; COMMIT")
        got = []
        for move in ("FETCH 5", "FETCH BACKWARD 3", "FETCH LAST", "FETCH ABSOLUTE 100", "FETCH RELATIVE -7",
                     "FETCH ALL"):
            cur.execute(f"{move} FROM c")
            got += cur.fetchall()
        cur.execute("CLOSE c")
        seen[view] = got
    assert seen["cpu_usage"] == seen["plain_u"] and len(seen["plain_u"]) > 100
    conn.close()


def test_statements_prepared_for_any_value(filled):
    """A generic plan, run with values of all kinds."""
    conn = typed_connection(filled)
    cur = conn.cursor()
    cur.execute("SET plan_cache_mode = force_generic_plan")
    for view, name in (("cpu_usage", "m"), ("plain_u", "p")):
        cur.execute(f"PREPARE {name}(timestamptz, timestamptz, int8[], text, float8) AS SELECT time, series_id,"
                    f" value FROM"
                    f" {view} WHERE time >= $1 AND time < $2 AND series_id = ANY ($3) AND labels ? ('node' ==~ $4)"
                    " AND value <> $5")
    some = filled.column("SELECT DISTINCT series_id FROM plain_u ORDER BY 1")
    n = 0
    for times in ("'-infinity', 'infinity'", "now() - interval '1 day', now()", "NULL, now()", "now(), '-infinity'"):
        for ids in (some, some[:1], [], [0, -1], None):
            for pattern in ("'n'", "'^n[13]'", "''"):
                results = []
                for name in ("m", "p"):
                    cur.execute(f"EXECUTE {name}({times}, %s::int8[], {pattern}, 'NaN')", (ids,))
                    results.append(sorted((tuple(tidy(v, False) for v in row) for row in cur.fetchall()), key=repr))
                assert results[0] == results[1], (times, ids, pattern)
                n += len(results[0])
    assert n > 1000
    for pattern in ("(", "["):
        with pytest.raises(psycopg2.errors.InvalidRegularExpression):
            cur.execute("EXECUTE m('-infinity', 'infinity', %s, %s, 0)", (some, pattern))
    conn.close()


def test_repeatable_read_with_own_tables(filled):
    """One state of both, while both change."""
    reader = typed_connection(filled)
    cur = reader.cursor()
    query = "SELECT count(*), count(DISTINCT o.name), sum(u.series_id) FROM own o JOIN {u} u USING (series_id)"
    cur.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    cur.execute(over(query, "cpu_usage", "", ""))
    before = cur.fetchone()
    got = filled.written.got["cpu_usage"]
    filled.sql("INSERT INTO own SELECT DISTINCT series_id, 'second', now() FROM plain_u")
    filled.block("fresh", got.metrics[0], [(got.metrics[0], s, filled.written.t0 - 60_000, 1.0) for s in got.series])
    filled.sql("SELECT _prom_ext.merge_step()")
    cur.execute(over(query, "cpu_usage", "", ""))
    assert cur.fetchone() == before
    cur.execute("COMMIT")
    cur.execute(over(query, "cpu_usage", "", ""))
    after = cur.fetchone()
    cur.execute(over(query, "plain_u", "", ""))
    plain = cur.fetchone()
    in_own = filled.one("SELECT count(*) FROM own WHERE series_id = ANY (%s)", (got.series,))
    assert after[0] == plain[0] + in_own > before[0]
    filled.sql("DELETE FROM own WHERE name = 'second'")
    reader.close()
