"""What labels say, and matching them: val, jsonb, labels, eq, @>, and ? with its four operators."""
import re

import psycopg2
import pytest

from database import series

S = {
    "dev_pinky": series("cpu_usage", namespace="dev", node="pinky"),
    "prod_brain": series("cpu_usage", namespace="production", node="brain"),
    "tagged": series("cpu_usage", namespace="dev", new_tag="value"),
    "bare": series("cpu_usage"),
    "number": series("cpu_usage", code="200"),
    "true": series("cpu_usage", code="true"),
    "odd": series("cpu_usage", **{'k"e\'y': "it's \\ \"this\""}),
}
KEYS = list(S)


@pytest.fixture(scope="module")
def labels_db(shared_db):
    ids = shared_db.resolve(list(S.values()), tenant=0).series
    shared_db.ids = dict(zip(S, ids))
    shared_db.views()
    shared_db.close()
    shared_db.conn = shared_db.connect()  # with the search_path that the extension has set
    return shared_db


def matching(db, condition, args=None):
    rows = db.column(f"SELECT series_id FROM prom_series.cpu_usage WHERE {condition}", args)
    names = {i: n for n, i in db.ids.items()}
    found = sorted((names[i] for i in rows), key=KEYS.index)
    # the same without the index, and once per row without any table
    db.sql("SET enable_indexscan = off; SET enable_bitmapscan = off")
    assert set(rows) == set(db.column(f"SELECT series_id FROM prom_series.cpu_usage WHERE {condition}", args))
    db.sql("RESET enable_indexscan; RESET enable_bitmapscan; SET enable_seqscan = off; SET enable_indexscan = off")
    assert set(rows) == set(db.column(f"SELECT series_id FROM prom_series.cpu_usage WHERE {condition}", args))
    db.sql("RESET enable_seqscan; RESET enable_indexscan")
    return found


def but(*names):
    return [k for k in KEYS if k not in names]


@pytest.mark.parametrize("condition, expected", [
    ("labels ? ('namespace' == 'dev')", ["dev_pinky", "tagged"]),
    ("labels ? ('namespace' !== 'dev')", but("dev_pinky", "tagged")),
    ("labels ? ('namespace' ==~ 'dev|prod')", ["dev_pinky", "prod_brain", "tagged"]),
    ("labels ? ('namespace' !=~ 'dev|prod')", but("dev_pinky", "prod_brain", "tagged")),
    # keys and values that nobody has: the positive never match, the negative always
    ("labels ? ('nokey' == 'dev')", []),
    ("labels ? ('nokey' ==~ '.*')", []),
    ("labels ? ('nokey' !== 'dev')", KEYS),
    ("labels ? ('nokey' !=~ '.*')", KEYS),
    ("labels ? ('namespace' == 'novalue')", []),
    ("labels ? ('namespace' !== 'novalue')", KEYS),
    ("labels ? ('namespace' ==~ 'novalue')", []),
    ("labels ? ('namespace' !=~ 'novalue')", KEYS),
    # not anchored, case counts, dialect of PostgreSQL
    ("labels ? ('node' ==~ 'pin*')", ["dev_pinky"]),
    ("labels ? ('node' ==~ 'ink')", ["dev_pinky"]),
    ("labels ? ('node' ==~ '^ink')", []),
    ("labels ? ('node' ==~ 'PINKY')", []),
    ("labels ? ('node' ==~ '(?i)PINKY')", ["dev_pinky"]),
    ("labels ? ('node' ==~ '\\mbrain\\M')", ["prod_brain"]),
    # the empty pattern
    ("labels ? ('node' == '')", []),
    ("labels ? ('node' !== '')", KEYS),
    ("labels ? ('node' ==~ '')", ["dev_pinky", "prod_brain"]),
    ("labels ? ('node' !=~ '')", but("dev_pinky", "prod_brain")),
    # numbers and other types are compared as their json text
    ("labels ? ('code' == 200)", ["number"]),
    ("labels ? ('code' == 200.0)", []),
    ("labels ? ('code' !== 200)", but("number")),
    ("labels ? ('code' == true)", ["true"]),
    ("labels ? ('code' == '200'::varchar)", ["number"]),
    # boolean logic
    ("labels ? ('namespace' == 'dev') AND labels ? ('node' == 'pinky')", ["dev_pinky"]),
    ("labels ? ('namespace' == 'dev') OR labels ? ('node' == 'brain')", ["dev_pinky", "prod_brain", "tagged"]),
    ("NOT (labels ? ('namespace' == 'dev'))", but("dev_pinky", "tagged")),
    ("(labels ? ('namespace' == 'dev')) IS NOT TRUE", but("dev_pinky", "tagged")),
    # odd text, __name__
    ("""labels ? ('k"e''y' == 'it''s \\ "this"')""", ["odd"]),
    ("labels ? ('__name__' == 'cpu_usage')", KEYS),
    ("labels ? ('__name__' == 'cpu_total')", []),
    # containment
    ("labels @> jsonb '{\"namespace\":\"dev\", \"node\": \"pinky\"}'", ["dev_pinky"]),
    ("labels @> jsonb '{\"namespace\":\"dev\"}'", ["dev_pinky", "tagged"]),
    ("labels @> jsonb '{}'", KEYS),
    ("labels @> jsonb '{\"__name__\":\"something else\", \"node\":\"brain\"}'", ["prod_brain"]),
    ("labels @> jsonb '{\"namespace\":\"dev\", \"nokey\":\"x\"}'", []),
    ("labels @> jsonb '{\"namespace\":null}'", []),
    ("labels @> jsonb '{\"code\":200}'", ["number"]),
    ("labels @> jsonb '{\"code\":{\"a\":1}}'", []),
    # equivalence
    ("eq(labels, jsonb '{\"namespace\":\"dev\", \"node\": \"pinky\"}')", ["dev_pinky"]),
    ("eq(labels, jsonb '{\"__name__\":\"something else\", \"namespace\":\"dev\", \"new_tag\":\"value\"}')", ["tagged"]),
    ("eq(labels, jsonb '{\"namespace\":\"dev\"}')", []),
    ("eq(labels, jsonb '{\"namespace\":\"dev\", \"node\": \"pinky\", \"nokey\": \"x\"}')", []),
    ("eq(labels, jsonb '{}')", ["bare"]),
    ("eq(labels, jsonb '{\"__name__\":\"x\"}')", ["bare"]),
])
def test_conditions(labels_db, condition, expected):
    assert matching(labels_db, condition) == expected


@pytest.mark.parametrize("pattern, expected", [("dev", ["dev_pinky", "tagged"]), ("nothing", [])])
def test_typed_pattern(labels_db, pattern, expected):
    assert matching(labels_db, "labels ? ('namespace' == %s::text)", (pattern,)) == expected


def test_pattern_from_a_column(labels_db):
    rows = labels_db.sql("SELECT v, array_agg(series_id) FROM (VALUES ('dev'), ('production'), ('x')) p(v)"
                         " LEFT JOIN prom_series.cpu_usage ON labels ? ('namespace' == v) GROUP BY v")
    ids = labels_db.ids
    assert {v: sorted(i for i in r if i) for v, r in rows} == {
        "dev": sorted([ids["dev_pinky"], ids["tagged"]]), "production": [ids["prod_brain"]], "x": []}


@pytest.mark.parametrize("matcher", ["'namespace' == NULL", "NULL == 'x'", "'namespace' == NULL::int", "'namespace' !== NULL",
                                     "'namespace' ==~ NULL", "'namespace' !=~ NULL", "'n' == jsonb 'null'"])
def test_null_in_a_matcher_is_an_error(labels_db, matcher):
    for scan in ("enable_seqscan", "enable_bitmapscan"):
        with pytest.raises(psycopg2.Error) as e:
            labels_db.sql(f"SET {scan} = off; SELECT count(*) FROM prom_series.cpu_usage WHERE labels ? ({matcher})")
        assert e.value.pgcode == "23502"
        labels_db.sql(f"RESET {scan}")


def test_null_labels_give_null(labels_db):
    assert labels_db.sql("SELECT NULL::int4[] ? ('a' == 'b'), NULL::int4[] ? ('a' !=~ 'b'), NULL::int4[] @> jsonb '{}',"
                         " eq(NULL::int4[], jsonb '{}'), eq(NULL::int4[], '{1}'::int4[])") == [(None,) * 5]


@pytest.mark.parametrize("op", ["==~", "!=~"])
@pytest.mark.parametrize("key", ["namespace", "nokey"])
def test_bad_pattern(labels_db, op, key):
    with pytest.raises(psycopg2.Error) as e:
        labels_db.sql(f"SELECT count(*) FROM prom_series.cpu_usage WHERE labels ? ('{key}' {op} '(')")
    assert e.value.pgcode == "2201B"


@pytest.mark.parametrize("text, code", [
    ("labels ? 'namespace' == 'dev'", "42725"),        # the parentheses are mandatory
    ("labels @> '{\"namespace\":\"dev\"}'", "22P02"),   # without jsonb it reads as an array
    ("labels @> jsonb '[1]'", "22023"),
    ("eq(labels, jsonb '7')", "22023"),
])
def test_what_is_refused(labels_db, text, code):
    with pytest.raises(psycopg2.Error) as e:
        labels_db.sql(f"SELECT count(*) FROM prom_series.cpu_usage WHERE {text}")
    assert e.value.pgcode == code, e.value


def test_operators_of_postgresql_still_work(labels_db):
    assert labels_db.sql("SELECT jsonb '{\"a\":1}' ? 'a', jsonb '{\"a\":1}' @> '{\"a\":1}', ARRAY[1,2] @> ARRAY[1],"
                         " '{1,2}'::int4[] @> '{3}', jsonb('{\"a\":1}')") == [(True, True, True, False, {"a": 1})]


def test_matchers_are_resolved_when_executed(labels_db):
    """A prepared statement finds labels that came after it was planned, also within one transaction."""
    conn = labels_db.connect()
    conn.autocommit = False
    cur = conn.cursor()
    cur.execute("SET plan_cache_mode = force_generic_plan")
    cur.execute("PREPARE p AS SELECT count(*) FROM _prom_catalog.series WHERE labels ? ('late' ==~ '^x')")
    cur.execute("PREPARE q(text) AS SELECT count(*) FROM _prom_catalog.series WHERE labels ? ('late' == $1)")
    for n in range(3):
        cur.execute("SAVEPOINT s; SELECT _prom_catalog.resolve_series(0, '{m}', '{__name__,late}', ARRAY['m', 'x' || %s],"
                    " '{1}', '{2}', '{1,2}')", (n,))
        cur.execute("EXECUTE p")
        assert cur.fetchone() == (n + 1,)
        cur.execute("EXECUTE q(%s)", (f"x{n}",))
        assert cur.fetchone() == (1,)
        cur.execute("EXECUTE q(%s)", (f"x{n + 1}",))
        assert cur.fetchone() == (0,)
    conn.rollback()
    conn.close()


def test_memory_of_a_call_site_follows_the_snapshot(labels_db):
    """plpgsql keeps simple expressions over a transaction: what they remember must not outlive the data."""
    conn = labels_db.connect()
    conn.autocommit = False
    cur = conn.cursor()
    cur.execute("""
        CREATE FUNCTION pg_temp.f() RETURNS text LANGUAGE plpgsql AS $$
        DECLARE seen text := ''; l int4[]; v int4;
        BEGIN
            FOR i IN 1..3 LOOP
                IF i = 2 THEN
                    PERFORM _prom_catalog.resolve_series(0, '{m}', '{__name__,fresh}', '{m,yes}', '{1}', '{2}', '{1,2}');
                END IF;
                l := COALESCE((SELECT labels FROM _prom_catalog.series WHERE labels @> jsonb '{"fresh":"yes"}'), '{0}');
                v := l[cardinality(l)];
                seen := seen || (l ? ('fresh' == 'yes'))::text || COALESCE(val(v), '-') || ' ';
            END LOOP;
            RETURN seen;
        END $$""")
    cur.execute("SELECT pg_temp.f()")
    assert cur.fetchone()[0] == "false- trueyes trueyes "
    conn.rollback()
    conn.close()


def test_in_parallel_workers(labels_db):
    """Everything that is marked PARALLEL SAFE, in a worker."""
    db = labels_db
    force = db.one("SELECT name FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query')")  # 15, 16
    db.sql(f"SET {force} = on; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0;"
           " SET min_parallel_table_scan_size = 0; SET enable_indexscan = off; SET enable_bitmapscan = off")
    try:
        query = ("SELECT jsonb(labels), val(labels[2]), eq(labels, jsonb '{}'), eq(labels, labels), (labels_info(labels)).vals,"
                 " _prom_ext.series_digest((key_value_array(labels)).keys, (key_value_array(labels)).vals) = digest"
                 " FROM _prom_catalog.series WHERE metric_id = (SELECT id FROM _prom_catalog.metric WHERE metric_name = 'cpu_usage')"
                 " AND labels ? ('__name__' ==~ '.') AND labels ? ('nokey' !== 'x') AND labels @> jsonb '{}'")
        assert "Workers Planned" in "\n".join(db.column("EXPLAIN " + query))
        rows = db.sql(query)
    finally:
        for name in (force, "parallel_setup_cost", "parallel_tuple_cost", "min_parallel_table_scan_size",
                     "enable_indexscan", "enable_bitmapscan"):
            db.sql(f"RESET {name}")
    assert sorted(sorted(r[0].items()) for r in rows) == sorted(sorted(s.items()) for s in S.values())
    assert all(r[3] and r[5] for r in rows) and sum(r[2] for r in rows) == 1


def test_what_was_unknown_may_become_known(labels_db):
    conn = labels_db.connect()
    conn.autocommit = False
    cur = conn.cursor()
    cur.execute("""
        CREATE FUNCTION pg_temp.g() RETURNS text[] LANGUAGE plpgsql AS $$
        DECLARE seen text[]; v int4 := 2000000000;
        BEGIN
            FOR i IN 1..4 LOOP
                IF i = 2 THEN
                    INSERT INTO _prom_catalog.label SELECT v, 0, id, 'first', gen_random_uuid() FROM _prom_catalog.label_key LIMIT 1;
                ELSIF i = 3 THEN
                    UPDATE _prom_catalog.label SET value = 'second' WHERE id = v;
                ELSIF i = 4 THEN
                    DELETE FROM _prom_catalog.label WHERE id = v;
                END IF;
                seen[i] := val(v);
            END LOOP;
            RETURN seen;
        END $$""")
    cur.execute("SELECT pg_temp.g()")
    assert cur.fetchone()[0] == [None, "first", "second", None]
    conn.rollback()
    conn.close()


def test_index_serves_equality_and_containment(labels_db):
    db = labels_db
    db.sql("SET enable_seqscan = off")
    try:
        for condition, index in (("labels ? ('namespace' == 'dev')", True), ("labels ? ('namespace' ==~ 'd')", False),
                                 ("labels @> jsonb '{\"namespace\":\"dev\"}'", True),
                                 ("labels ? ('namespace' !== 'dev')", False), ("labels @> jsonb '{}'", False)):
            plan = "\n".join(db.column(f"EXPLAIN SELECT * FROM _prom_catalog.series WHERE {condition}"))
            assert ("series_labels_idx" in plan) == index, plan
    finally:
        db.sql("RESET enable_seqscan")


# ---- what labels say ---------------------------------------------------------------------------------


def test_val(labels_db):
    assert labels_db.sql("SELECT val(id) = value FROM _prom_catalog.label") == [(True,)] * labels_db.one(
        "SELECT count(*) FROM _prom_catalog.label")
    assert labels_db.sql("SELECT val(0), val(NULL), val(-1), val(2147483647)") == [(None,) * 4]


def test_jsonb_has_every_label(labels_db):
    for name, labels in S.items():
        assert labels_db.one("SELECT jsonb(labels) FROM prom_series.cpu_usage WHERE series_id = %s", (labels_db.ids[name],)) == labels
    assert labels_db.sql("SELECT jsonb('{}'::int4[]), jsonb('{0,0}'::int4[]), jsonb('{2147483647}'::int4[]), jsonb(NULL::int4[])") == [
        (None,) * 4]


def test_labels_of_a_series(labels_db):
    assert labels_db.one("SELECT bool_and(labels(series_id) = labels) FROM prom_series.cpu_usage")
    assert labels_db.sql("SELECT labels(-1), labels(NULL)") == [(None, None)]


def test_labels_info_and_key_value_array(labels_db):
    ids = labels_db.one("SELECT labels || 0 || 2147483647 FROM prom_series.cpu_usage WHERE series_id = %s",
                        (labels_db.ids["tagged"],))
    found, keys, vals = labels_db.sql("SELECT * FROM labels_info(%s)", (ids,))[0]
    assert dict(zip(keys, vals)) == S["tagged"] and found == [i for i in ids if i not in (0, 2147483647)]
    assert labels_db.sql("SELECT * FROM key_value_array(%s)", (ids,)) == [(keys, vals)]
    assert labels_db.sql("SELECT * FROM labels_info('{}')") == [([], [], [])]


def test_eq_between_metrics_with_other_positions(db):
    """Positions differ, one array has gaps: still the same labels."""
    db.resolve([series("a", x="1", y="2", z="3")])
    db.resolve([series("b", z="0"), series("b", x="1", z="3"), series("b", y="2", x="1", z="3"), series("a", x="1", z="3"),
                series("b"), series("a")])
    rows = db.sql("SELECT prom_api.jsonb(a.labels) - '__name__', prom_api.jsonb(b.labels) - '__name__'"
                  " FROM _prom_catalog.series a, _prom_catalog.series b"
                  " WHERE prom_api.eq(a.labels, b.labels) AND a.metric_id < b.metric_id")
    assert len(rows) == 3 and all(a == b for a, b in rows)


def test_eq_joins_can_hash(labels_db):
    """What makes the documented join fast: an equality that the planner knows."""
    plan = "\n".join(labels_db.column(
        "EXPLAIN SELECT * FROM _prom_catalog.series a JOIN _prom_catalog.series b ON eq(a.labels, b.labels)"))
    assert re.search(r"(Hash|Merge) Cond: .*label_set\(a.labels\)", plan), plan


def test_tenants_have_labels_of_their_own(db):
    """One pair, two tenants, two ids: matchers find both, eq keeps them apart."""
    t = db.one("SELECT _prom_catalog.tenant_id('t')")
    one = db.resolve([series("m", a="1", b="2")]).series[0]
    two = db.resolve([series("m", a="1", b="2")], tenant=t).series[0]
    db.sql("SET search_path = ps_tag, prom_api, public")
    for condition in ("labels ? ('a' == '1')", "labels ? ('a' ==~ '1')", "labels @> jsonb '{\"a\":\"1\",\"b\":\"2\"}'",
                      "eq(labels, jsonb '{\"a\":\"1\",\"b\":\"2\"}')"):
        assert db.column(f"SELECT id FROM _prom_catalog.series WHERE {condition} ORDER BY id") == [one, two]
        db.sql("SET enable_seqscan = off")
        assert db.column(f"SELECT id FROM _prom_catalog.series WHERE {condition} ORDER BY id") == [one, two]
        db.sql("RESET enable_seqscan")
    assert db.one("SELECT count(*) FROM _prom_catalog.series WHERE labels ? ('a' !== '1')") == 0
    assert not db.one("SELECT eq((SELECT labels FROM _prom_catalog.series WHERE id = %s),"
                      " (SELECT labels FROM _prom_catalog.series WHERE id = %s))", (one, two))


def test_many_ids_and_big_values(db):
    """A regular expression with thousands of hits, and values that outgrow what a call site may remember."""
    db.resolve([series("m", n=str(i), big=chr(97 + i % 3) * 5_000_000) if i < 9 else series("m", n=str(i)) for i in range(6000)])
    db.sql("SET search_path = ps_tag, prom_api, public")
    assert db.one("SELECT count(*) FROM _prom_catalog.series WHERE labels ? ('n' ==~ '^[0-9]+$')") == 6000
    assert db.one("SELECT count(*) FROM _prom_catalog.series WHERE labels ? ('n' ==~ '7')") == sum("7" in str(i) for i in range(6000))
    got = db.sql("SELECT val(id) = value, length(val(id)) FROM _prom_catalog.label ORDER BY length(value) DESC LIMIT 5")
    assert [ok for ok, _ in got] == [True] * 5 and got[0][1] == 5_000_000
