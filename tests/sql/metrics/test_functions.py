"""label_cardinality, label_key_position, matcher and its operators, metadata, special values; and what the operators on
labels must do in every way of writing them."""
import re

import psycopg2
import pytest

from database import series

S = {
    "dev_pinky": series("cpu_usage", namespace="dev", node="pinky"),
    "prod_brain": series("cpu_usage", namespace="production", node="brain"),
    "gap": series("cpu_usage", node="pinky"),
    "tagged": series("cpu_usage", namespace="dev", zzz="1"),
    "bare": series("cpu_usage"),
    "odd": series("cpu_usage", **{"a b": "c\"d'e\\"}),
}
KEYS = list(S)
# other positions for the same labels, and some that cpu_usage does not have
T = [series("cpu_total", node="pinky"), series("cpu_total", namespace="dev", node="pinky"),
     series("cpu_total", zzz="1"),
     series("cpu_total", namespace="dev", zzz="1"), series("cpu_total")]


@pytest.fixture(scope="module")
def labels_db(shared_db):
    shared_db.ids = dict(zip(S, shared_db.resolve(list(S.values())).series))
    shared_db.resolve(T)
    shared_db.views()
    ms = 1_700_000_000_000
    metric = shared_db.one("SELECT _prom_catalog.metric_id('cpu_usage')")
    shared_db.block("fresh", metric, [(metric, s, ms, 1.0) for s in shared_db.ids.values()])
    total = shared_db.one("SELECT _prom_catalog.metric_id('cpu_total')")
    shared_db.block("fresh", total, [(total, s, ms, 10.0) for s in shared_db.column("SELECT series_id FROM"
        " prom_series.cpu_total")])
    return shared_db


def matching(db, condition, args=None):
    """The same from the series view, from the metric view (series picked by the wrapper), and by the index."""
    names = {i: n for n, i in db.ids.items()}
    found = sorted((names[i] for i in db.column(f"SELECT series_id FROM prom_series.cpu_usage WHERE {condition}",
                                                args)), key=KEYS.index)
    assert found == sorted((names[i] for i in db.column(f"SELECT series_id FROM cpu_usage WHERE {condition}", args)),
                           key=KEYS.index)
    db.sql("SET enable_seqscan = off; SET enable_indexscan = off")
    assert found == sorted((names[i] for i in db.column(f"SELECT series_id FROM prom_series.cpu_usage WHERE"
                                                        f" {condition}", args)),
                           key=KEYS.index)
    db.sql("RESET enable_seqscan; RESET enable_indexscan")
    return found


def but(*names):
    return [k for k in KEYS if k not in names]


@pytest.mark.parametrize("condition, expected", [
    ("labels @> matcher('{\"namespace\":\"dev\"}')", ["dev_pinky", "tagged"]),
    ("labels @> matcher('{\"namespace\":\"dev\",\"node\":\"pinky\"}')", ["dev_pinky"]),
    ("labels @> matcher('{\"__name__\":\"something else\",\"node\":\"pinky\"}')", ["dev_pinky", "gap"]),
    ("labels @> matcher('{\"namespace\":\"dev\",\"node\":\"nobody\"}')", []),
    ("labels @> matcher('{\"namespace\":null}')", []),
    ("labels @> matcher('{}')", KEYS),
    ("labels ? matcher('{\"namespace\":\"production\",\"node\":\"pinky\"}')", ["dev_pinky", "prod_brain", "gap"]),
    ("labels ? matcher('{\"namespace\":\"production\",\"node\":\"nobody\"}')", ["prod_brain"]),
    ("labels ? matcher('{\"node\":\"nobody\"}')", []),
    ("labels ? matcher('{}')", []),
    ("labels ? matcher('{\"namespace\":\"dev\"}')::int4[]::matcher_negative", but("dev_pinky", "tagged")),
    ("labels ? matcher('{\"node\":\"nobody\"}')::int4[]::matcher_negative", KEYS),
    ("NOT labels ? matcher('{\"namespace\":\"dev\"}')", but("dev_pinky", "tagged")),
    ("eq(labels, matcher('{\"namespace\":\"dev\",\"node\":\"pinky\"}'))", ["dev_pinky"]),
    ("eq(labels, matcher('{\"node\":\"pinky\"}'))", ["gap"]),
    ("eq(labels, matcher('{\"node\":\"pinky\",\"x\":\"nobody\"}'))", []),
    ("eq(labels, matcher('{\"__name__\":\"x\",\"node\":\"pinky\"}'))", ["gap"]),
    ("eq(labels, matcher('{}'))", ["bare"]),
    ("eq(labels, jsonb '{\"a b\":\"c\\\"d''e\\\\\"}')", ["odd"]),
    # gaps: absent is absent, whether it stands in the array or not
    ("eq(labels, jsonb '{\"node\":\"pinky\"}')", ["gap"]),
    ("eq(labels, (SELECT labels FROM prom_series.cpu_total WHERE eq(labels, jsonb '{\"node\":\"pinky\"}')))", ["gap"]),
    ("eq(labels, labels(series_id))", KEYS),
    ("CASE WHEN labels ? ('namespace' ==~ '') THEN labels ? ('namespace' =="
     " val(labels[label_key_position('cpu_usage', 'namespace')])) END",
     ["dev_pinky", "prod_brain", "tagged"]),
    ("val(labels[label_key_position('cpu_usage', 'node')]) = 'pinky'", ["dev_pinky", "gap"]),
])
def test_conditions(labels_db, condition, expected):
    assert matching(labels_db, condition) == expected


def test_matcher_says_ids(labels_db):
    ids = dict(labels_db.sql("SELECT value, id FROM _prom_catalog.label"))
    assert labels_db.sql("SELECT"
                         " matcher('{\"namespace\":\"dev\",\"node\":\"pinky\",\"x\":\"y\",\"__name__\":\"u\"}')"
                         "::int4[], matcher('{}')::int4[], matcher(NULL)::int4[], pg_typeof(matcher('{}'))::text") == [
        (sorted([-1, ids["dev"], ids["pinky"]]), [], None, "matcher_positive")]
    for wrong in ("[1]", "7", '"x"', "null", "true", "[]"):
        with pytest.raises(psycopg2.Error) as e:
            labels_db.sql("SELECT matcher(%s::jsonb)", (wrong,))
        assert e.value.pgcode == "22023"
    for domain in ("matcher_positive", "matcher_negative"):
        with pytest.raises(psycopg2.Error) as e:
            labels_db.sql(f"SELECT NULL::{domain}")
        assert e.value.pgcode == "23502"


def test_matcher_uses_the_index(labels_db):
    labels_db.sql("SET enable_seqscan = off")
    try:
        for condition in ("labels @> matcher('{\"namespace\":\"dev\"}')",
                          "labels ? matcher('{\"namespace\":\"dev\"}')"):
            plan = "\n".join(labels_db.column(f"EXPLAIN SELECT * FROM _prom_catalog.series WHERE {condition}"))
            assert "series_labels_idx" in plan and "Index Cond" in plan, plan
    finally:
        labels_db.sql("RESET enable_seqscan")


def test_a_matcher_over_tenants_is_refused(db):
    """A flat list of ids cannot say "this or that": better an error than series left out."""
    t = db.one("SELECT _prom_catalog.tenant_id('t')")
    db.resolve([series("m", a="1", b="1")])
    db.resolve([series("m", a="1", c="1")], tenant=t)
    db.sql("SET search_path = prom_api, public")
    assert len(db.one("SELECT matcher('{\"b\":\"1\",\"c\":\"1\"}')::int4[]")) == 2
    with pytest.raises(psycopg2.Error) as e:
        db.sql("SELECT matcher('{\"a\":\"1\"}')")
    assert e.value.pgcode == "0A000" and e.value.diag.message_hint
    assert db.one("SELECT count(*) FROM _prom_catalog.series WHERE labels @> jsonb '{\"a\":\"1\"}'") == 2


def test_operators_of_postgresql_keep_their_meaning(labels_db):
    assert labels_db.sql(
        "SELECT ARRAY[1,2] @> ARRAY[1], '{1,2}'::int4[] @> '{3}', ARRAY[1,2] && ARRAY[2], ARRAY['a'] @> ARRAY['a'],"
        " jsonb '{\"a\":1}' @> '{\"a\":1}', jsonb '{\"a\":1}' ? 'a', jsonb '{\"a\":1}' ?| ARRAY['b'], int4range(1,5)"
        " @> 3,"
        " ARRAY[1.5] @> ARRAY[1.5], ARRAY[1]::int8[] @> ARRAY[1]::int8[], tsquery 'a' @> tsquery 'a',"
        " labels @> labels FROM prom_series.cpu_usage LIMIT 1") == [
            (True, False, True, True, True, True, False, True, True, True, True, True)]


@pytest.mark.parametrize("condition", [
    "labels ? ($1 == $2)", "labels ? ('namespace' == $2) AND $1 = $1", "labels @> jsonb_build_object($1, $2)",
    "labels @> matcher(jsonb_build_object($1, $2))", "labels ? ($1 ==~ ('^' || $2 || '$'))",
    "NOT (labels ? ($1 !== $2))",
    "NOT (labels ? ($1 !=~ ('^' || $2 || '$')))"])
@pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan"])
@pytest.mark.parametrize("source", ["prom_series.cpu_usage", "cpu_usage"])
def test_parameters(labels_db, condition, mode, source):
    conn = labels_db.connect()
    cur = conn.cursor()
    cur.execute(f"SET plan_cache_mode = {mode}")
    cur.execute(f"PREPARE p(text, text) AS SELECT count(DISTINCT series_id) FROM {source} WHERE {condition}")
    for value, n in (("dev", 2), ("production", 1), ("x", 0), ("dev", 2)):
        cur.execute("EXECUTE p('namespace', %s)", (value,))
        assert cur.fetchone() == (n,)
    conn.close()


@pytest.mark.parametrize("text", ["'namespace' == NULL", "NULL::text ==~ 'x'", "'namespace' !=~ NULL",
                                  "'namespace' == NULL::jsonb"])
@pytest.mark.parametrize("source", ["prom_series.cpu_usage", "cpu_usage"])
def test_nulls_in_matchers(labels_db, text, source):
    with pytest.raises(psycopg2.Error) as e:
        labels_db.sql(f"SELECT count(*) FROM {source} WHERE labels ? ({text})")
    assert e.value.pgcode == "23502"


@pytest.mark.parametrize("pattern", ["(", "[", "a**", "\\", "(?z)", "x{5,2}"])
@pytest.mark.parametrize("op", ["==~", "!=~"])
@pytest.mark.parametrize("source", ["prom_series.cpu_usage", "cpu_usage", "(SELECT '{}'::int4[] AS labels) x"])
def test_bad_patterns(labels_db, source, op, pattern):
    with pytest.raises(psycopg2.Error) as e:
        labels_db.sql(f"SELECT count(*) FROM {source} WHERE labels ? ('namespace' {op} %s)", (pattern,))
    assert e.value.pgcode == "2201B"


@pytest.mark.parametrize("text, found", [
    ('{"a": 1.50}', "1.50"), ('{"a": true}', "true"), ('{"a": {"b": [1]}}', '{"b": [1]}'), ('{"a": []}', "[]"),
    ('{"a": ""}', None),
    ('{"a": "\\u00e9"}', "é"), ('{"": "x"}', None)])
def test_odd_json(db, text, found):
    """Values that are no strings are compared as json text; empty ones match nothing."""
    if found:
        db.resolve([series("m", a=found), series("m", a="else")])
    db.sql("SET search_path = prom_api, public")
    for condition in ("labels @> %s::jsonb", "labels @> matcher(%s::jsonb)", "eq(labels, %s::jsonb)",
                      "eq(labels, matcher(%s::jsonb))"):
        assert db.one(f"SELECT count(*) FROM _prom_catalog.series WHERE {condition}", (text,)) == (1 if found else 0)


def test_eq_in_all_forms(labels_db):
    pairs = labels_db.sql("SELECT jsonb(u.labels) - '__name__', jsonb(t.labels) - '__name__' FROM"
                          " prom_series.cpu_usage u"
                          " JOIN prom_series.cpu_total t ON eq(u.labels, t.labels)")
    assert sorted(map(str, pairs)) == sorted(str((p, p)) for p in (
        {"node": "pinky"}, {"node": "pinky", "namespace": "dev"}, {"zzz": "1", "namespace": "dev"}, {}))
    for array in ("{}", "{0}", "{7}", "{7,0,0}"):
        assert labels_db.one("SELECT eq(%s::int4[], '{9}'::int4[])", (array,)) is True
    assert labels_db.sql("SELECT eq('{1,5,0,6}'::int4[], '{2,6,5}'::int4[]), eq('{1,5}'::int4[], '{1,5,6}'::int4[]),"
                         " eq(NULL::int4[], '{1}'::int4[]), eq(NULL::int4[], jsonb '{}')") == [
                             (True, False, None, None)]
    with pytest.raises(psycopg2.Error) as e:
        labels_db.sql("SELECT eq(labels, '{\"node\":\"pinky\"}') FROM cpu_usage")
    assert e.value.pgcode == "42725"  # the word jsonb is needed


def test_the_documented_join_can_hash(labels_db):
    """Between two metric views: an equality of time and label sets, not a loop over pairs."""
    db = labels_db
    query = "SELECT u.value, t.value FROM cpu_usage u JOIN cpu_total t ON u.time = t.time AND eq(u.labels, t.labels)"
    assert sorted(db.sql(query)) == [(1.0, 10.0)] * 4
    db.sql("SET enable_nestloop = off")
    try:
        plan = "\n".join(db.column("EXPLAIN (COSTS off, VERBOSE) " + query))
        assert re.search(r"(Hash|Merge) Cond: .*label_set\(.*label_set\(", plan), plan
        assert sorted(db.sql(query)) == [(1.0, 10.0)] * 4
    finally:
        db.sql("RESET enable_nestloop")


ON_ARRAYS = [
    "jsonb(%s::int4[])", "labels_info(%s::int4[])", "key_value_array(%s::int4[])", "eq(%s::int4[], '{1}'::int4[])",
    "eq(%s::int4[], jsonb '{}')", "%s::int4[] ? ('namespace' == 'dev')", "%s::int4[] ? ('namespace' !=~ 'dev')",
    "%s::int4[] @> jsonb '{}'"]


@pytest.mark.parametrize("call", ON_ARRAYS)
@pytest.mark.parametrize("wrong", ["{NULL}", "{1,NULL,2}", "{{1,2},{3,4}}"])
def test_arrays_that_are_no_labels(labels_db, call, wrong):
    with pytest.raises(psycopg2.Error) as e:
        labels_db.sql(f"SELECT {call}", (wrong,))
    assert e.value.pgcode == "22023" and "labels" in e.value.diag.message_primary


@pytest.mark.parametrize("call", ON_ARRAYS)
@pytest.mark.parametrize("odd", ["{}", "{0}", "{-1}", "{2147483647,-2147483648}", "[5:6]={0,0}"])
def test_arrays_of_unknown_ids(labels_db, call, odd):
    """Nothing is known of them: NULL, nothing, or no match, but no error."""
    got = labels_db.one(f"SELECT {call}", (odd,))
    assert got in (None, True, False, "({},{},{})", "({},{})"), got
    if call.startswith("jsonb"):
        assert got is None


def test_where_an_array_begins_makes_no_difference(labels_db):
    assert labels_db.one("SELECT bool_and(jsonb(moved) = jsonb(labels) AND eq(moved, labels) AND moved @> jsonb '{}')"
                         " FROM ("
                         "SELECT labels, ('[7:' || 6 + cardinality(labels) || ']=' || labels::text)::int4[] AS moved"
                         " FROM prom_series.cpu_usage) x") is True


# ---- counting and placing labels -----------------------------------------------------------------------


def test_label_cardinality(labels_db):
    got = dict(labels_db.sql("SELECT k.key || '=' || l.value, label_cardinality(l.id) FROM _prom_catalog.label l"
                             " JOIN _prom_catalog.label_key k ON k.id = l.key_id"))
    everything = [*S.values(), *T]
    assert got == {f"{k}={v}": sum(s.get(k) == v for s in everything) for s in everything for k, v in s.items()}
    assert labels_db.sql("SELECT label_cardinality(0), label_cardinality(-1), label_cardinality(2147483647),"
                         " label_cardinality(NULL)") == [
        (0, 0, 0, None)]


def test_label_cardinality_does_not_walk_all_series(db):
    db.resolve([series("m", n=str(i), half=str(i % 2)) for i in range(20_000)])
    db.sql("ANALYZE _prom_catalog.series; SET search_path = prom_api, public")
    label = db.one("SELECT id FROM _prom_catalog.label WHERE value = '12345'")
    db.sql("SELECT label_cardinality(%s)", (label,))
    db.sql("SELECT pg_stat_force_next_flush()")
    before = db.one("SELECT pg_stat_get_tuples_returned('_prom_catalog.series'::regclass)")
    assert db.one("SELECT label_cardinality(%s)", (label,)) == 1
    db.sql("SELECT pg_stat_force_next_flush()")
    after = db.one("SELECT pg_stat_get_tuples_returned('_prom_catalog.series'::regclass)")
    assert after - before < 1000


def test_label_key_position(labels_db):
    db = labels_db
    for metric in ("cpu_usage", "cpu_total"):
        for labels, pairs in db.sql(f"SELECT labels, jsonb(labels) FROM prom_series.{metric}"):
            for key, value in pairs.items():
                at = db.one("SELECT label_key_position(%s, %s)", (metric, key))
                assert db.one("SELECT val(%s)", (labels[at - 1],)) == value
    assert db.one("SELECT label_key_position('cpu_usage', '__name__')") == 1
    assert db.sql("SELECT label_key_position('cpu_usage', 'nokey'), label_key_position('nobody', 'node'),"
                  " label_key_position('', ''),"
                  " label_key_position(NULL, 'node'), label_key_position('cpu_usage', NULL),"
                  " label_key_position(repeat('x', 10000), repeat('y', 10000))") == [(None,) * 6]


# ---- metadata ------------------------------------------------------------------------------------------


def test_metadata(db):
    for i, (family, kind, unit, text) in enumerate([("f", "gauge", "s", "first"), ("f", "counter", "s", "second"),
                                                    ("g", "gauge", "", ""),
                                                    ("G", "x", "y", "z"), ("f", "gauge", "s", "third")]):
        db.sql("SELECT _prom_catalog.upsert_metadata(0, ARRAY[%s], ARRAY[%s], ARRAY[%s], ARRAY[%s])",
               (family, kind, unit, text))
        db.sql("UPDATE _prom_catalog.metadata SET last_seen = to_timestamp(%s) WHERE help = %s", (i, text))
    db.sql("SET search_path = prom_api, public")
    assert db.sql("SELECT * FROM get_metric_metadata('f')") == [
        ("f", "gauge", "s", "third"), ("f", "counter", "s", "second"), ("f", "gauge", "s", "first")]
    assert db.sql("SELECT * FROM get_multiple_metric_metadata('{g,f,f,nobody,NULL}')") == [
        ("f", "gauge", "s", "third"), ("g", "gauge", "", "")]
    for nothing in ("get_metric_metadata('nobody')", "get_metric_metadata('')", "get_metric_metadata(NULL)",
                    "get_metric_metadata(repeat('x', 10000))", "get_multiple_metric_metadata('{}')",
                    "get_multiple_metric_metadata(NULL)"):
        assert db.sql(f"SELECT * FROM {nothing}") == []


# ---- special values ------------------------------------------------------------------------------------


SPECIAL = {"7ff0000000000002": (True, False), "7ff8000000000001": (False, True), "7ff8000000000000": (False, False),
           "fff8000000000001": (False, False), "7ff0000000000001": (False, False), "7ff0000000000000": (False, False),
           "3ff0000000000000": (False, False), "0000000000000000": (False, False), "7ff8000000000002": (False, False)}


def test_special_values(db):
    """By their bits, as they come from stored blocks, whatever NaN they are to SQL."""
    import subprocess

    from database import MAKE_BLOCK
    metric, s = db.make("m")
    now = db.now_ms()
    lines = [f"block fresh flush 0 {metric}", *(f"{metric},{s},{now + t},x{bits}" for t, bits in enumerate(SPECIAL)),
             "end"]
    db.sql(subprocess.run([MAKE_BLOCK], input="\n".join(lines) + "\n", text=True, check=True,
                          stdout=subprocess.PIPE).stdout)
    db.sql("SET search_path = prom_api, prom_metric, public")
    assert db.sql("SELECT is_stale_marker(value), is_normal_nan(value) FROM m ORDER BY time") == list(SPECIAL.values())
    assert db.sql("SELECT is_stale_marker('NaN'), is_normal_nan('NaN'), is_stale_marker(NULL),"
                  " is_normal_nan('Infinity')") == [
        (False, False, None, False)]
    db.maintain()
    assert db.sql("SELECT is_stale_marker(value), is_normal_nan(value) FROM m ORDER BY time") == list(SPECIAL.values())
