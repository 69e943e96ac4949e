"""docs/sql.md: every example runs and prints what the page shows.

A block marked sql goes through psql; a block marked text right behind it is the output. PROMSCALE_DOCS=write puts
the output of this run into the page, to be read before it is committed.
"""
import os
import pathlib
import re

from database import series

ROOT = pathlib.Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs/sql.md"
T0 = 1_714_564_800_000  # 2024-05-01 12:00 UTC
EXAMPLE = re.compile(r"```sql\n(.*?)```(?:\n```text\n(.*?)```)?", re.S)


def load(db):
    """The original documentation's data: two nodes, two samples each, in two metrics; and one with native histograms, of
    two nodes, three samples each."""
    nodes = [dict(namespace="dev", node="pinky"), dict(namespace="production", node="brain")]
    for name, values in (("cpu_usage", [(0.1, 0.2), (0.5, 0.6)]), ("cpu_total", [(10, 20), (50, 60)])):
        got = db.resolve([series(name, **n) for n in nodes])
        db.block("fresh", got.metrics[0], [(got.metrics[0], s, T0 + 60_000 * i, float(v))
                                           for s, pair in zip(got.series, values) for i, v in enumerate(pair)])
    got = db.resolve([series("request_seconds", **n) for n in nodes])
    db.block("fresh", got.metrics[0], [
        (got.metrics[0], s, T0 + 60_000 * i, "{{schema:0 count:%d sum:%.1f z_bucket:%d z_bucket_w:0.001 buckets:[%d %d %d]"
         " offset:-1}}" % (10 * n, 8.5 * n, n, 2 * n, 4 * n, 3 * n), T0 - 30_000)
        for k, s in enumerate(got.series) for i in range(3) for n in [(i + 1) * (k + 1)]])
    db.sql("SELECT _prom_catalog.insert_exemplars('{0}', %s, '{0}', %s, '{2024-05-01 12:00:30+00}', '{0.73}',"
           " ARRAY[jsonb '{\"trace_id\": \"4bf92f3577b34da6\"}'])", (list(got.metrics[:1]), list(got.series[1:])))
    db.sql("SELECT _prom_catalog.upsert_metadata(0, ARRAY['cpu_usage'], ARRAY['gauge'], ARRAY[''],"
           " ARRAY['share of time that CPUs work'])")
    db.views()


def tidy(text):
    return [line.rstrip() for line in text.rstrip().splitlines()]


def test_every_example(db):
    load(db)
    page = PAGE.read_text(encoding="utf-8")
    shown, differing = [], []
    for statement, expected in EXAMPLE.findall(page):
        done = db.server.client("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", db.name, input=statement, check=False,
                                env={**os.environ, "PGTZ": "UTC"})
        assert done.returncode == 0, f"{statement}\n{done.stderr}"
        shown.append(done.stdout)
        if tidy(done.stdout) != tidy(expected):
            differing.append(f"{statement}\n--- the page\n{expected}\n--- psql\n{done.stdout}")
    db.sql("DROP ROLE grafana")
    if os.environ.get("PROMSCALE_DOCS") == "write":
        outputs = iter(shown)

        def put(match):
            text = "\n".join(tidy(next(outputs)))
            return f"```sql\n{match.group(1)}```" + (f"\n```text\n{text}\n```" if match.group(2) is not None else "")
        PAGE.write_text(EXAMPLE.sub(put, page), encoding="utf-8")
    assert len(shown) > 10
    assert not differing, "\n\n".join(differing)


def test_what_the_original_documentation_promises(db):
    """Its statements, letter by letter but for typographic quotes, on its data, with its answers."""
    nodes = [dict(namespace="dev", node="pinky"), dict(namespace="production", node="brain")]
    total = db.resolve([series("cpu_total", **n) for n in nodes])
    usage = db.resolve([series("cpu_usage", **n) for n in nodes])
    tagged = db.resolve([series("cpu_usage", new_tag="value", **nodes[0])])
    for got, values in ((usage, [(0.1, 0.2), (0.5, 0.6)]), (total, [(1.0, 2.0), (5.0, 6.0)])):
        db.block("fresh", got.metrics[0], [(got.metrics[0], s, T0 + 60_000 * i, v)
                                           for s, pair in zip(got.series, values) for i, v in enumerate(pair)])
    db.views()
    db.close()
    db.conn = db.connect()
    rows = db.sql("SELECT\njsonb(labels) as labels,\nvalue\nFROM cpu_usage\nWHERE time < now();")
    assert sorted((r["node"], r["namespace"], v) for r, v in rows) == [
        ("brain", "production", 0.5), ("brain", "production", 0.6), ("pinky", "dev", 0.1), ("pinky", "dev", 0.2)]
    rows = db.sql("SELECT\nval(node_id) as node,\navg(value)\nFROM cpu_usage\nWHERE time < now()\nGROUP BY node_id")
    assert {n: round(a, 9) for n, a in rows} == {"brain": 0.55, "pinky": 0.15}
    assert db.columns("prom_metric.cpu_usage") == ["time", "value", "series_id", "labels", "namespace_id", "node_id", "new_tag_id"]
    assert db.columns("prom_series.cpu_total") == ["series_id", "labels", "namespace", "node"]
    rows = db.sql("SELECT * FROM prom_series.cpu_usage;")
    assert {(s, n, d, t) for s, _, n, d, t in rows} == {
        (usage.series[0], "dev", "pinky", None), (usage.series[1], "production", "brain", None),
        (tagged.series[0], "dev", "pinky", "value")}
    rows = db.sql("SELECT * FROM prom_info.metric")
    assert {(name, table, str(keep), str(chunk), tuple(keys)) for _, name, table, keep, chunk, keys, *_ in rows} == {
        ("cpu_usage", "cpu_usage", "90 days, 0:00:00", "8:00:00", ("__name__", "namespace", "new_tag", "node")),
        ("cpu_total", "cpu_total", "90 days, 0:00:00", "8:00:00", ("__name__", "namespace", "node"))}
    assert {row[0]: row[1:4] for row in db.sql("SELECT * FROM prom_info.label")} == {
        "__name__": ("__name__", "__name___id", ["cpu_total", "cpu_usage"]),
        "namespace": ("namespace", "namespace_id", ["dev", "production"]),
        "node": ("node", "node_id", ["brain", "pinky"]), "new_tag": ("new_tag", "new_tag_id", ["value"])}
    rows = db.sql("SELECT *\nFROM prom_series.cpu_usage u\nWHERE labels @> jsonb '{\"namespace\":\"dev\", \"node\": \"pinky\"}'")
    assert {r[0] for r in rows} == {usage.series[0], tagged.series[0]}
    rows = db.sql("SELECT *\nFROM cpu_usage u\nWHERE labels ? ('namespace' == 'dev') AND labels ? ('node' == 'brain')")
    assert rows == []
    rows = db.sql("SELECT *\nFROM cpu_usage u\nINNER JOIN cpu_total t ON (u.time=t.time AND eq(u.labels, t.labels))\n"
                  "WHERE u.labels ? ('namespace' == 'dev') AND u.labels ? ('node' ==~ 'pin*')")
    assert sorted((r[1], r[8]) for r in rows) == [(0.1, 1.0), (0.2, 2.0)]
    assert all(r[0] == r[7] for r in rows)
    rows = db.sql("SELECT *\nFROM cpu_usage\nWHERE eq(labels , jsonb '{\"namespace\":\"prod\",\"node\":\"pinky\",\"zone\":\"us-a1-east\"}')")
    assert rows == []
    assert db.sql("SELECT set_default_retention_period(180 * INTERVAL '1 day')") == [(True,)]
    a = "(SELECT labels FROM prom_series.both)"
    db.resolve([{"__name__": "both", "foo": "bar", "baz": "frob"}])
    db.views()
    assert db.one(f"SELECT eq({a}, jsonb '{{\"__name__\":\"something else\", \"foo\":\"bar\", \"baz\":\"frob\"}}')") is True
    assert db.one(f"SELECT eq({a}, jsonb '{{\"__name__\":\"metric\", \"foo\":\"bar\"}}')") is False
