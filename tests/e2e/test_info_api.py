"""The short endpoints: against a real Prometheus that was written the same samples, and on their own."""
import json
import urllib.parse

import pytest
from harness import remote_write
from harness.peers import get_json
from harness.process import wait_until

T0 = 1_767_225_600
SERIES = [({"__name__": name, "job": "api", "code": code, "instance": f"i{i % 3}"},
           [((T0 + 15 * k) * 1000, float(k)) for k in range(3)],
           [({"trace_id": f"t{i}-{k}", "span": 'a"b<é>'}, i + 0.5 * k, (T0 + 15 * k) * 1000 + i) for k in range(3)])
          for i, (name, code) in enumerate((n, c) for n in ("req_total", "req_failed_total")
                                           for c in ("200", "404", "500"))]
PLAIN = [({"__name__": "temp", "room": f"r{i}", "Ünïcode": "<&>"}, [(T0 * 1000, 1.5)]) for i in range(12)]
EXPRESSIONS = [
    "up", "1", '"a<b>&c\\n"', "-x", "(a)", "a > bool 1", "a + on (x) group_left (y) b", "a unless ignoring (z) b",
    "x[5m]", "x[5m] offset 1h", "x @ 12.5", "x @ end() offset -5m", "rate(x[5m])", "x[1h:5m]", "rate(x[5m])[1h:] @ start()",
    'x{a="b", c!="d", e=~"f.*", g!~"h|i"}', '{"a.b", "c d"="e"}', "sum by (a, b) (x)", "topk(3, x)",
    "quantile without (l) (0.5, x)", 'count_values("v", x)', 'label_replace(x, "a", "$1", "b", "(.*)")', "time()", "vector(1)", "absent(x)",
    "NaN", "+Inf", "-0x1f", "1h30m", "a and b or c", "2 ^ -1", "histogram_quantile(0.9, sum by (le) (rate(x_bucket[5m])))", "a atan2 b",
    "x[5m:1m] offset 2m",
    "sum(rate(http_requests_total{job=\"a\", instance=~\"b.*\"}[5m])) by (job, instance) / on (job) group_left ()"
    " sum(rate(http_requests_failed_total[5m])) by (job) > 0.001",
]
MARKS = "anchored", "smoothed", "offsetExpr", "rangeExpr", "stepExpr", "fillValues"


@pytest.fixture(scope="module")
def p(module_lab):
    it = module_lab.promscale(args=["--self-scrape=false"])
    it.sql("SELECT prom_api.set_default_retention_period('1000 years')")
    it.write(SERIES + PLAIN, families=[("req_total", "counter", "Requests <all>.", "requests"), ("temp", "gauge", "")])
    it.write([], families=[("req_total", "gauge", "What another sender says.")])
    return it


@pytest.fixture(scope="module")
def prometheus(module_lab):
    it = module_lab.prometheus(start=False, args=["--web.enable-remote-write-receiver",
                                                  "--enable-feature=exemplar-storage"])
    it._configure({})  # pylint: disable=protected-access
    it.start()
    version = get_json(f"{it.url}/api/v1/status/buildinfo")["data"]["version"] or "99"
    if int(version.split(".")[0]) < 3:
        pytest.skip(f"Prometheus {version} answers otherwise: PROMSCALE_TEST_PROMETHEUS=... names a later one")
    import urllib.request
    body = remote_write.write_request(SERIES + PLAIN)
    ask = urllib.request.Request(f"{it.url}/api/v1/write", data=body, headers=remote_write.HEADERS, method="POST")
    with urllib.request.urlopen(ask, timeout=30) as r:
        assert r.status in (200, 204)
    return it


def get(p, path, **params):
    return p.get(f"/api/v1/{path}?{urllib.parse.urlencode(params, doseq=True)}")


def data(p, path, **params):
    a = get(p, path, **params)
    assert a.status == 200, a.body
    assert a.headers["Content-Type"] == "application/json"
    d = json.loads(a.body)
    assert d["status"] == "success"
    return d["data"]


def theirs(prometheus, path, **params):
    """The bytes of an answer."""
    import urllib.request
    with urllib.request.urlopen(f"{prometheus.url}/api/v1/{path}?{urllib.parse.urlencode(params, doseq=True)}") as r:
        return r.status, r.read()


# ---- exemplars -------------------------------------------------------------------------------------------


EXEMPLARS = [
    {"query": "req_total"}, {"query": "rate(req_total[5m])", "start": T0, "end": T0 + 100},
    {"query": 'req_total{code="200"} / req_failed_total'},
    {"query": '{job="api"}', "start": T0 + 15, "end": T0 + 15.002},
    {"query": "temp"}, {"query": "no_such"}, {"query": "req_total", "start": T0 - 100, "end": T0 - 50},
    {"query": 'sum(req_total) + count(req_total{code=~"4.."})', "start": "2026-01-01T00:00:15Z"},
]


def test_exemplars_as_prometheus_has_them(p, prometheus):
    for params in EXEMPLARS:
        assert get(p, "query_exemplars", **params).body == theirs(prometheus, "query_exemplars", **params)[1], params


def test_exemplars(p):
    got = data(p, "query_exemplars", query='req_total{code="404"}', start=T0, end=T0 + 16)
    assert got == [{"seriesLabels": {"__name__": "req_total", "code": "404", "instance": "i1", "job": "api"},
                    "exemplars": [{"labels": {"span": 'a"b<é>', "trace_id": "t1-0"}, "value": "1",
                                   "timestamp": T0 + 0.001},
                                  {"labels": {"span": 'a"b<é>', "trace_id": "t1-1"}, "value": "1.5",
                                   "timestamp": T0 + 15.001}]}]
    assert len(data(p, "query_exemplars", query="req_total")) == 3
    assert data(p, "query_exemplars", query="temp") == []


def test_exemplars_of_no_selector(p):
    answer = get(p, "query_exemplars", query="1 + 1")
    assert (answer.status, answer.body) == (204, b"")


def test_exemplars_are_seen_at_once(p):
    for k in range(3):
        p.write([({"__name__": f"fresh_{k}"}, [(T0 * 1000, 1.0)], [({"trace_id": "x"}, 1.0, T0 * 1000)])])
        assert len(data(p, "query_exemplars", query=f"fresh_{k}")) == 1


# ---- queries as text and tree ---------------------------------------------------------------------------------


def without_marks(node):
    if isinstance(node, dict):
        return {k: without_marks(v) for k, v in node.items() if k not in MARKS}
    return [without_marks(v) for v in node] if isinstance(node, list) else node


def test_trees_as_prometheus_has_them(p, prometheus):
    for query in EXPRESSIONS:
        ours, other = get(p, "parse_query", query=query).body, theirs(prometheus, "parse_query", query=query)[1]
        if b'"anchored"' not in other:  # an older one knows less of selectors
            ours, other = (without_marks(json.loads(text)) for text in (ours, other))
        assert ours == other, query
        assert get(p, "format_query", query=query).body == theirs(prometheus, "format_query", query=query)[1], query


def test_forms(p):
    body = urllib.parse.urlencode({"query": "sum( x )"})
    answer = p.http("POST", "/api/v1/format_query", body, {"Content-Type": "application/x-www-form-urlencoded"})
    assert json.loads(answer.body) == {"status": "success", "data": "sum(x)"}


# ---- metadata ------------------------------------------------------------------------------------------------------


def test_metadata(p):
    everything = data(p, "metadata")
    assert everything.keys() == {"req_total", "temp"}
    assert everything["temp"] == [{"type": "gauge", "unit": "", "help": ""}]
    assert everything["req_total"] == [{"type": "gauge", "unit": "", "help": "What another sender says."},
                                       {"type": "counter", "unit": "requests", "help": "Requests <all>."}]
    assert b"Requests \\u003call\\u003e." in get(p, "metadata").body
    assert data(p, "metadata", metric="temp") == {"temp": everything["temp"]}
    assert data(p, "metadata", metric="other") == {}
    assert data(p, "metadata", limit=1).keys() == {"req_total"}
    assert data(p, "metadata", limit=0) == {}
    assert data(p, "metadata", limit=-1) == everything
    assert data(p, "metadata", limit_per_metric=1)["req_total"] == everything["req_total"][:1]
    assert data(p, "metadata", limit_per_metric=0) == everything


# ---- status ----------------------------------------------------------------------------------------------------------


def figures(entries):
    return sorted((e["name"], e["value"]) for e in entries)


def test_cardinality_as_prometheus_counts(p, prometheus):
    ours = data(p, "status/tsdb", limit=10000)
    other = json.loads(theirs(prometheus, "status/tsdb", limit=1000)[1])["data"]
    fresh = {e["name"] for e in ours["seriesCountByMetricName"]} - {e["name"] for e in other["seriesCountByMetricName"]}
    assert all(name.startswith("fresh_") for name in fresh)
    for what in ("seriesCountByMetricName", "seriesCountByLabelValuePair"):
        assert figures(e for e in ours[what] if e["name"].rpartition("=")[2] not in fresh) == figures(other[what])
    assert ours.keys() == other.keys() and ours["headStats"].keys() == other["headStats"].keys()
    assert ours["headStats"]["numSeries"] == other["headStats"]["numSeries"] + len(fresh)
    assert ours["headStats"]["numLabelPairs"] == other["headStats"]["numLabelPairs"] + len(fresh)
    names = dict(figures(other["labelValueCountByLabelName"]))
    names["__name__"] += len(fresh)
    assert dict(figures(ours["labelValueCountByLabelName"])) == names
    assert (ours["headStats"]["minTime"], ours["headStats"]["maxTime"]) == (T0 * 1000, (T0 + 30) * 1000)


def test_cardinality_follows_deletions(lab):
    p = lab.promscale(args=["--self-scrape=false"])
    empty = data(p, "status/tsdb")
    assert empty["headStats"] == {"numSeries": 0, "numLabelPairs": 0, "chunkCount": 0, "minTime": (1 << 63) - 1,
                                  "maxTime": -(1 << 63)}
    assert empty["seriesCountByMetricName"] == []
    p.write(SERIES + PLAIN)
    got = data(p, "status/tsdb", limit=2)
    assert got["headStats"]["numSeries"] == 18
    assert got["seriesCountByMetricName"] == [{"name": "temp", "value": 12}, {"name": "req_failed_total", "value": 3}]
    p.sql("SELECT prom_api.drop_metric('temp')")
    wait_until("dropped series are counted", lambda: data(p, "status/tsdb")["headStats"]["numSeries"] == 6, 20)
    assert {e["name"] for e in data(p, "status/tsdb")["seriesCountByMetricName"]} == {"req_total", "req_failed_total"}


def test_cardinality_counts_rows_of_days_far_off(lab):
    p = lab.promscale(args=["--self-scrape=false"])
    p.sql("SELECT prom_api.set_default_retention_period('1000 years')")
    p.sql("ALTER SYSTEM SET promscale.maintenance = off")
    p.sql("SELECT pg_reload_conf()")
    p.write([({"__name__": "old"}, [(1_500_000_000_000, 1.0)])])
    fresh = data(p, "status/tsdb")["headStats"]
    p.sql("SELECT _prom_ext.merge_step()")
    p.sql("SELECT _prom_ext.seal_step(true)")
    assert p.sql("SELECT count(*) FROM _prom_data.block_far")[0][0] > 0
    assert p.sql("SELECT count(*) FROM _prom_data.fresh")[0][0] == 0
    assert data(p, "status/tsdb")["headStats"] == fresh and fresh["chunkCount"] == 1


SHAPES = ("status/buildinfo", "status/runtimeinfo", "status/walreplay", "rules", "alerts", "alertmanagers", "targets",
          "scrape_pools", "targets/metadata", "notifications")


def test_shapes_are_those_of_prometheus(p, prometheus):
    for path in SHAPES:
        ours, other = data(p, path), json.loads(theirs(prometheus, path)[1])["data"]
        assert type(ours) is type(other), path
        if isinstance(ours, dict):
            assert list(ours) == list(other), path
            assert [type(v) for v in ours.values()] == [type(v) for v in other.values()], path
        if not path.startswith("status"):
            assert ours == other, path


def test_build(p):
    got = data(p, "status/buildinfo")
    assert tuple(map(int, got["version"].split("."))) >= (3, 0, 0)  # what Grafana compares
    assert got["revision"].startswith("promscale-")
    assert "features" not in got and "application" not in got  # else Grafana takes it for Mimir


def test_no_passwords(lab):
    c = lab.cluster()
    c.sql("CREATE ROLE me SUPERUSER LOGIN PASSWORD 'hush'")
    c.sql("CREATE DATABASE promscale")
    where = f"postgres://me:hush@127.0.0.1:{c.port}/promscale?sslmode=disable"
    p = lab.promscale(uri=where, args=["--self-scrape=false"])
    for path in ("status/config", "status/flags", "status/runtimeinfo"):
        assert b"hush" not in get(p, path).body
    flags = data(p, "status/flags")
    assert flags["db.uri"] == "<secret>"
    assert list(flags) == sorted(flags)
    assert 'db.uri: "<secret>"\n' in data(p, "status/config")["yaml"]


def test_administration_must_be_allowed(lab):
    p = lab.promscale(args=["--self-scrape=false", "--web.enable-admin-api"])
    for method in ("POST", "PUT"):
        answer = p.http(method, "/api/v1/admin/tsdb/clean_tombstones")
        assert (answer.status, answer.body) == (204, b"")
    answer = p.http("POST", "/api/v1/admin/tsdb/snapshot")
    assert answer.status == 422 and "pg_basebackup" in json.loads(answer.body)["error"]
    assert data(p, "features")["api"]["admin"] is True
