"""Joins with tables of the user's: what drives, what is read, and that answers are the same as without."""
import pytest

from conftest import scans_of, types_of

JOINS = {
    # a small table asks for a few series
    "by prom_series": "SELECT rack, count(*), avg(value) FROM racks JOIN prom_series.cpu s USING (instance)"
                      " JOIN cpu m USING (series_id) GROUP BY rack",
    "by label value": "SELECT rack, count(*), avg(value) FROM racks r JOIN cpu m ON val(m.instance_id) = r.instance"
                      " GROUP BY rack",
    "exists": "SELECT count(*) FROM cpu m WHERE EXISTS (SELECT FROM racks r WHERE r.instance = val(m.instance_id))",
    "in": "SELECT count(*) FROM cpu WHERE series_id IN (SELECT series_id FROM prom_series.cpu WHERE instance = 'node-3')",
    "lateral": "SELECT d.instance, x.* FROM deployments d, LATERAL (SELECT count(*), max(value) FROM cpu m"
               " WHERE val(m.instance_id) = d.instance AND m.time >= d.ts_from AND m.time < d.ts_to) x",
    "ranges": "SELECT d.instance, count(*), max(value) FROM deployments d JOIN prom_series.cpu s USING (instance)"
              " JOIN cpu m ON m.series_id = s.series_id AND m.time >= d.ts_from AND m.time < d.ts_to GROUP BY 1",
}


@pytest.mark.parametrize("name", JOINS)
def test_a_small_table_drives(fleet, name):
    plan = fleet.explain(JOINS[name], analyze=True)["Plan"]
    scans = scans_of(plan, fleet.id["cpu"])
    assert len(scans) == 1 and "Nested Loop" in types_of(plan)
    # six instances of 250, or five of them for two minutes
    assert scans[0]["Series Matched"] <= 6 * 8 * scans[0]["Actual Loops"]
    assert scans[0]["Samples Decoded"] <= 6 * 8 * 240


@pytest.mark.parametrize("name", JOINS)
def test_the_same_rows_without_nested_loops(fleet, name):
    rows = fleet.sql(JOINS[name])
    assert len(rows) > 0 and rows[0][-1] is not None
    fleet.sql("SET enable_nestloop = off; SET enable_memoize = off")
    try:
        other = fleet.sql(JOINS[name])
    finally:
        fleet.sql("RESET ALL")
    assert sorted(map(str, rows)) == sorted(map(str, other))


def test_lists_of_series_decode_nothing_else(fleet):
    ids = [r[0] for r in fleet.sql("SELECT series_id FROM prom_series.cpu ORDER BY random() LIMIT 3")]
    array = "{" + ",".join(map(str, ids)) + "}"
    scan = scans_of(fleet.explain(f"SELECT * FROM cpu WHERE series_id = ANY ('{array}')", analyze=True)["Plan"])[0]
    assert scan["Samples Decoded"] == 720 == scan["Actual Rows"] and scan["Series Total"] == 3
    assert scan["Blocks Read"] <= 3


def test_a_large_table_is_hashed(fleet):
    plan = fleet.explain("SELECT count(*) FROM facts f JOIN cpu m USING (series_id)", analyze=True)["Plan"]
    scan = scans_of(plan, fleet.id["cpu"])[0]
    assert "Hash Join" in types_of(plan) and scan["Actual Loops"] == 1
    join = next(n for n in plan["Plans"] if n["Node Type"] == "Hash Join")
    assert join["Actual Rows"] / 2 <= join["Plan Rows"] <= join["Actual Rows"] * 2


def test_two_metrics_by_time_and_eq(fleet):
    """Each side is read once, and only what its own conditions ask for."""
    query = ("SELECT count(*), sum(a.value + b.value) FROM cpu a JOIN cpu b ON a.time = b.time AND eq(a.labels, b.labels)"
             " WHERE a.labels ? ('mode' == 'idle') AND b.labels ? ('mode' ==~ 'idle|user')")
    plan = fleet.explain(query, analyze=True)["Plan"]
    scans = scans_of(plan)
    assert {"Hash Join", "Merge Join"} & set(types_of(plan))
    assert sorted(s["Series Matched"] for s in scans) == [250, 500] and {s["Actual Loops"] for s in scans} == {1}
    assert fleet.sql(query)[0][0] == 250 * 240


def test_one_series_of_the_other_metric(fleet):
    """What the first has few of is asked of the second by its labels."""
    query = ("SELECT count(*) FROM mem a JOIN cpu b ON a.time = b.time AND b.series_id ="
             " (SELECT series_id FROM prom_series.cpu WHERE instance = 'node-9' AND mode = 'idle')"
             " WHERE a.labels ? ('instance' == 'node-9')")
    plan = fleet.explain(query, analyze=True)["Plan"]
    assert sum(s["Samples Decoded"] for s in scans_of(plan)) <= 2 * 240
    assert fleet.one(query) == 240
