"""Containment, label matchers and eq, as the founding document describes them."""
import json

import psycopg2
import pytest
from conftest import DEV, PRODUCTION, document


def values(db, where):
    """Of the metric view; of the series view the same series must pass."""
    found = sorted(db.column(f"SELECT value FROM cpu_usage u WHERE {where}"))
    if "value" not in where.replace("'value'", "") and "time" not in where:
        assert set(db.column(f"SELECT series_id FROM prom_series.cpu_usage u WHERE {where}")) == set(
            db.column(f"SELECT series_id FROM cpu_usage u WHERE {where}"))
    return found


def test_example_of_containment(later):
    names = later.columns("prom_series.cpu_usage")
    rows = [dict(zip(names, r)) for r in later.sql(
        "SELECT *\nFROM prom_series.cpu_usage u\nWHERE labels @> jsonb '{\"namespace\":\"dev\", \"node\": \"pinky\"}'")]
    assert sorted((r["namespace"], r["node"], r["region"] or "") for r in rows) == [
        ("dev", "pinky", ""), ("dev", "pinky", "East"), ("dev", "pinky", "West")]


def test_containment_selects_in_both_views(later):
    assert values(later, "labels @> jsonb '{\"namespace\":\"dev\", \"node\": \"pinky\"}'") == [0.1, 0.2, 1.0, 2.0]
    assert values(later, "labels @> jsonb '{\"region\":\"West\"}'") == [2.0]
    assert values(later, "labels @> jsonb '{\"region\":\"North\"}'") == []
    assert values(later, "NOT labels @> jsonb '{\"node\":\"pinky\"}'") == [0.5, 0.6, 0.7]


def test_example_of_matchers(later):
    later_example = "labels ? ('namespace' == 'dev') AND labels ? ('node' == 'brain')"
    assert values(later, later_example) == []
    assert values(later, "labels ? ('namespace' == 'production') AND labels ? ('node' == 'brain')") == [0.5, 0.6, 0.7]


def test_the_parentheses_are_mandatory(db):
    with pytest.raises(psycopg2.ProgrammingError):
        db.sql("SELECT * FROM cpu_usage WHERE labels ? 'namespace' == 'dev'")


# values: 0.1 0.2 dev; 0.5 0.6 production; 0.7 new_tag; 1.0 East; 2.0 West; 3.0 prod with a zone
MATCHERS = {
    "equal": ("labels ? ('namespace' == 'dev')", [0.1, 0.2, 1.0, 2.0]),
    "not_equal": ("labels ? ('namespace' !== 'dev')", [0.5, 0.6, 0.7, 3.0]),
    "regex": ("labels ? ('namespace' ==~ '^prod')", [0.5, 0.6, 0.7, 3.0]),
    "does_not_match_the_regex": ("labels ? ('namespace' !=~ '^prod')", [0.1, 0.2, 1.0, 2.0]),
    "regexes_are_not_anchored": ("labels ? ('node' ==~ 'in')", [0.1, 0.2, 0.5, 0.6, 0.7, 1.0, 2.0, 3.0]),
    "nor_are_negative_ones": ("labels ? ('node' !=~ 'rai')", [0.1, 0.2, 1.0, 2.0, 3.0]),
    "anchors_can_be_added": ("labels ? ('namespace' ==~ '^prod$')", [3.0]),
    "missing_key_equal_never": ("labels ? ('region' == 'East')", [1.0]),
    "missing_key_regex_never": ("labels ? ('region' ==~ '.*')", [1.0, 2.0]),
    "missing_key_empty_pattern_never": ("labels ? ('region' == '')", []),
    "missing_key_not_equal_always": ("labels ? ('region' !== 'East')", [0.1, 0.2, 0.5, 0.6, 0.7, 2.0, 3.0]),
    "missing_key_not_regex_always": ("labels ? ('region' !=~ '.*')", [0.1, 0.2, 0.5, 0.6, 0.7, 3.0]),
    "key_of_no_series_equal": ("labels ? ('nowhere' == 'x')", []),
    "key_of_no_series_not_equal": ("labels ? ('nowhere' !== 'x')", [0.1, 0.2, 0.5, 0.6, 0.7, 1.0, 2.0, 3.0]),
    "or": ("labels ? ('region' == 'East') OR labels ? ('new_tag' == 'value')", [0.7, 1.0]),
    "not": ("NOT labels ? ('namespace' == 'dev')", [0.5, 0.6, 0.7, 3.0]),
    "nested": ("NOT (labels ? ('namespace' == 'dev') OR labels ? ('zone' ==~ '.'))"
               " AND NOT labels ? ('new_tag' !== 'value')", [0.7]),
    "beside_other_clauses": ("labels ? ('node' == 'pinky') AND value > 0.15 AND time < now()", [0.2, 1.0, 2.0, 3.0]),
    "or_with_other_clauses": ("labels ? ('region' == 'East') OR value = 0.6", [0.6, 1.0]),
}


@pytest.mark.parametrize("name", MATCHERS)
def test_matcher(later, name):
    where, expected = MATCHERS[name]
    assert values(later, where) == expected


A = "(SELECT labels FROM prom_series.metric)"


@pytest.fixture(scope="module")
def foobar(server):
    for d in document(server, "flushed"):
        d.load(("metric", {"foo": "bar", "baz": "frob"}, (1.0,)), ("other", {"zig": "zag"}, (1.0,)))
        yield d


EQ = {
    "other_name": ('{"__name__":"something else", "foo":"bar", "baz":"frob"}', True),
    "no_name": ('{"foo":"bar", "baz":"frob"}', True),
    "same_name": ('{"__name__":"metric", "foo":"bar", "baz":"frob"}', True),
    "only_some_of_them": ('{"__name__":"metric", "foo":"bar"}', False),
    "one_more": ('{"foo":"bar", "baz":"frob", "zig":"zag"}', False),
    "another_value": ('{"foo":"bar", "baz":"zag"}', False),
    "values_swapped": ('{"foo":"frob", "baz":"bar"}', False),
    "nothing": ("{}", False),
}


@pytest.mark.parametrize("name", EQ)
def test_eq_is_equivalence_but_for_the_name(foobar, name):
    text, expected = EQ[name]
    assert foobar.one(f"SELECT eq({A}, jsonb '{text}')") is expected


def test_containment_holds_where_eq_does_not(foobar):
    part = "jsonb '{\"__name__\":\"metric\", \"foo\":\"bar\"}'"
    assert foobar.sql(f"SELECT eq({A}, {part}), {A} @> {part}") == [(False, True)]


JOIN = ("SELECT *\nFROM cpu_usage u\nINNER JOIN cpu_total t ON (u.time=t.time AND eq(u.labels, t.labels))\n"
        "WHERE u.labels ? ('namespace' == 'dev') AND u.labels ? ('node' ==~ 'pin*')")


def test_example_of_the_join(db):
    rows = db.sql(JOIN)
    assert sorted((r[1], r[7]) for r in rows) == [(0.1, 10.0), (0.2, 20.0)]
    assert all(r[0] == r[6] for r in rows) and {len(r) for r in rows} == {12}


def test_the_join_across_metrics_of_different_labels(later):
    """Arrays differ in length and have gaps; only series with equal labels meet."""
    assert sorted((r[0], r[1]) for r in later.sql(
        "SELECT u.value, t.value FROM cpu_usage u JOIN cpu_total t ON u.time = t.time AND eq(u.labels, t.labels)")) == [
        (0.1, 10.0), (0.2, 20.0), (0.5, 50.0), (0.6, 60.0)]


def test_eq_within_a_metric(later):
    assert later.one("SELECT count(*) FROM prom_series.cpu_usage a JOIN prom_series.cpu_usage b"
                     " ON eq(a.labels, b.labels)") == 6
    assert later.one("SELECT bool_and(a.series_id = b.series_id) FROM prom_series.cpu_usage a"
                     " JOIN prom_series.cpu_usage b ON eq(a.labels, b.labels)") is True


def test_example_of_eq_with_json(later):
    """With straight quotes: the curly ones of the document are not JSON."""
    assert later.column("SELECT value\nFROM cpu_usage\nWHERE eq(labels , jsonb"
                        " '{\"namespace\":\"prod\",\"node\":\"pinky\",\"zone\":\"us-a1-east\"}')") == [3.0]
    with pytest.raises(psycopg2.errors.InvalidTextRepresentation):
        later.sql("SELECT * FROM cpu_usage WHERE eq(labels , jsonb '{\u201cnamespace\u201d:\u201dprod\u201d}')")


def test_eq_needs_the_whole_object(later):
    def found(**labels):
        return sorted(later.column("SELECT value FROM cpu_usage WHERE eq(labels, %s::jsonb)", (json.dumps(labels),)))
    assert found(namespace="prod", node="pinky") == []
    assert found(**DEV) == [0.1, 0.2]
    assert found(**PRODUCTION) == [0.5, 0.6]
    assert found(**PRODUCTION, new_tag="value") == [0.7]
