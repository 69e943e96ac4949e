"""PromQL over HTTP: parameters, answers, errors, limits; what was written is seen at once; scripts through all of it."""
import http.client
import json
import sys
import threading
import time
import urllib.parse
from pathlib import Path

import pytest
from harness.process import wait_until

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "promql"))
import replay  # noqa: E402

T0 = 1_700_000_000  # s
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
def p(module_lab):
    """With samples of three series, one each 15 s for 10 minutes."""
    it = module_lab.promscale(args=["--self-scrape=false", "--metrics.promql.max-samples=200000",
                                    "--metrics.promql.query-timeout=30s"])
    it.write([({"__name__": "req_total", "code": c}, [((T0 + 15 * k) * 1000, k * m) for k in range(41)])
              for c, m in (("200", 1.0), ("500", 2.0))]
             + [({"__name__": "temp"}, [((T0 + 15 * k) * 1000, 0.1 * k) for k in range(41)])])
    return it


def ask(p, path="query", method="GET", **params):
    """(status, envelope)"""
    form = urllib.parse.urlencode(params)
    if method == "GET":
        a = p.http("GET", f"/api/v1/{path}?{form}")
    else:
        a = p.http("POST", f"/api/v1/{path}", form.encode(), FORM)
    assert a.headers["Content-Type"] == "application/json"
    return a.status, json.loads(a.body)


def good(p, path="query", method="GET", **params):
    status, d = ask(p, path, method, **params)
    assert status == 200 and d["status"] == "success", d
    return d["data"]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_instant(p, method):
    data = good(p, method=method, query="sum by (code) (rate(req_total[5m]))", time=T0 + 600)
    assert data["resultType"] == "vector"
    assert sorted((s["metric"]["code"], s["value"][0], round(float(s["value"][1]), 9)) for s in data["result"]) == [
        ("200", T0 + 600, 0.066666667), ("500", T0 + 600, 0.133333333)]
    assert good(p, method=method, query="1e3", time="2023-11-14T22:13:20.5Z") == {
        "resultType": "scalar", "result": [T0 + 0.5, "1000"]}
    assert good(p, method=method, query="'<é>'", time=0) == {"resultType": "string", "result": [0, "<é>"]}
    assert good(p, method=method, query="no_such_metric", time=T0) == {"resultType": "vector", "result": []}
    assert len(good(p, method=method, query="temp[1m]", time=T0 + 600)["result"][0]["values"]) == 4


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_range(p, method):
    data = good(p, "query_range", method, query="temp", start=T0, end=T0 + 30, step="15s")
    assert data == {"resultType": "matrix", "result": [
        {"metric": {"__name__": "temp"}, "values": [[T0, "0"], [T0 + 15, "0.1"], [T0 + 30, "0.2"]]}]}
    data = good(p, "query_range", method, query="vector(1)", start=T0, end=T0 + 1, step="0.4")
    assert [v[0] for v in data["result"][0]["values"]] == [T0, T0 + 0.4, T0 + 0.8]


def test_the_body_goes_before_the_url(p):
    a = p.http("POST", "/api/v1/query?query=1&time=7", b"query=2%2b2", FORM)
    assert json.loads(a.body)["data"]["result"] == [7, "4"]


@pytest.mark.parametrize("path, params, text", [
    ("query", {"query": "sum("}, 'invalid parameter "query": 1:5: parse error: unclosed left parenthesis'),
    ("query", {}, 'invalid parameter "query": unknown position: parse error: no expression found in input'),
    ("query", {"query": "1", "time": "soon"}, 'invalid parameter "time": invalid time value for \'time\': cannot parse'),
    ("query", {"query": "1", "timeout": "x"}, 'invalid parameter "timeout": cannot parse "x" to a valid duration'),
    ("query", {"query": "1", "limit": "-1"}, 'invalid parameter "limit": limit must be non-negative'),
    ("query", {"query": "1", "lookback_delta": "z"}, "error parsing lookback delta duration"),
    ("query", {"query": "mad_over_time(temp[5m])"}, "is not enabled"),
    ("query_range", {"query": "1", "end": 1, "step": 1}, 'invalid parameter "start": cannot parse ""'),
    ("query_range", {"query": "1", "start": 2, "end": 1, "step": 1}, "end timestamp must not be before start time"),
    ("query_range", {"query": "1", "start": 1, "end": 2, "step": 0}, "zero or negative query resolution step widths"),
    ("query_range", {"query": "1", "start": 1, "end": 2, "step": -1}, "zero or negative query resolution"),
    ("query_range", {"query": "1", "start": 0, "end": 11001, "step": 1}, "exceeded maximum resolution of 11,000 points"),
    ("query_range", {"query": "temp[5m]", "start": 0, "end": 1, "step": 1}, 'invalid expression type "range vector"'),
    ("query_range", {"query": "'a'", "start": 0, "end": 1, "step": 1}, 'invalid expression type "string"'),
])
def test_bad_parameters(p, path, params, text):
    for method in ("GET", "POST"):
        status, d = ask(p, path, method, **params)
        assert status == 400 and d["errorType"] == "bad_data" and text in d["error"], d


def test_forms_that_are_none(p):
    a = p.http("POST", "/api/v1/query", b"query=%zz", FORM)
    assert a.status == 400 and json.loads(a.body)["errorType"] == "bad_data"
    a = p.http("POST", "/api/v1/query", b"x" * (5 << 20), FORM)
    assert a.status == 413
    assert p.http("DELETE", "/api/v1/query").status == 405


def test_what_cannot_be_computed(p):
    status, d = ask(p, query="temp * on () req_total", time=T0 + 600)
    assert status == 422 and d["errorType"] == "execution" and "many-to-many matching not allowed" in d["error"]


def test_annotations(p):
    status, d = ask(p, query="rate(temp[5m])", time=T0 + 600)
    assert status == 200 and d["infos"] == [
        'PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: "temp" (1:6)']
    status, d = ask(p, query="quantile(3, temp)", time=T0 + 600)
    assert d["warnings"] == ["PromQL warning: quantile value should be between 0 and 1, got 3 (1:10)"]


def test_limit_lookback_stats(p):
    status, d = ask(p, query="req_total", time=T0 + 600, limit=1)
    assert len(d["data"]["result"]) == 1 and d["warnings"] == ["results truncated due to limit"]
    assert good(p, query="temp", time=T0 + 901)["result"] == []
    assert len(good(p, query="temp", time=T0 + 901, lookback_delta="10m")["result"]) == 1
    stats = good(p, query="sum(req_total)", time=T0 + 600, stats="true")["stats"]
    assert stats["samples"]["totalQueryableSamples"] == 2 and stats["samples"]["peakSamples"] <= 3
    assert set(stats["timings"]) == {"evalTotalTime", "resultSortTime", "queryPreparationTime", "innerEvalTime",
                                     "execQueueTime", "execTotalTime"}


def test_limits(p):
    status, d = ask(p, query="sum_over_time(vector(1)[30d:10s])", time=T0)
    assert status == 422 and "too many samples into memory" in d["error"]
    began = time.monotonic()
    status, d = ask(p, query="deriv(vector(time() ^ 1.5)[40h:1s])", path="query_range", start=T0, end=T0 + 10000, step=1,
                    timeout="200ms")
    assert status == 503 and d["errorType"] == "timeout" and "query timed out" in d["error"]
    assert time.monotonic() - began < 20


def test_a_client_that_goes(p):
    """Its query ends, and says so in the metrics."""
    def canceled():
        return p.metrics().get('promscale_query_requests_total{type="range",code="499"}', 0)

    before = canceled()
    conn = http.client.HTTPConnection("127.0.0.1", p.port)
    query = urllib.parse.urlencode({"query": "deriv(vector(time() ^ 1.5)[40h:1s])", "start": T0, "end": T0 + 10000,
                                    "step": 1})
    conn.request("GET", f"/api/v1/query_range?{query}")
    wait_until("the query does not begin", lambda: p.metrics()["promscale_query_running"] > 0)
    conn.close()
    wait_until("the query goes on", lambda: canceled() > before, 5)


def test_many_at_once(p):
    wrong = []

    def client():
        for k in range(30):
            data = good(p, query=f"sum(req_total) + {k}", time=T0 + 600)
            if data["result"][0]["value"][1] != str(120 + k):
                wrong.append(data)

    threads = [threading.Thread(target=client) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_what_one_connector_took_the_other_shows_at_once(lab):
    """A new series each time, written through one connector and asked of the other without a pause."""
    first = lab.promscale(args=["--self-scrape=false"])
    second = lab.promscale(name="second", uri=first.dsn(), args=["--self-scrape=false"])
    for k in range(60):
        writer, reader = (first, second) if k % 2 else (second, first)
        at = T0 + k
        writer.write([({"__name__": f"m{k % 7}", "n": str(k)}, [(at * 1000, float(k))])])
        assert good(reader, query=f'm{k % 7}{{n="{k}"}}', time=at)["result"][0]["value"] == [at, str(k)]
        # and a further sample of a series that is known
        writer.write([({"__name__": "known"}, [(at * 1000, float(k))])])
        assert good(reader, query="known", time=at)["result"][0]["value"] == [at, str(k)]
    first.sql("SELECT prom_api.drop_metric('known')")
    for reader in (first, second):
        assert good(reader, query="known", time=T0 + 60)["result"] == []


def test_database_away(lab):
    p = lab.promscale(args=["--self-scrape=false"])
    p.write([({"__name__": "m"}, [(T0 * 1000, 1.0)])])
    good(p, query="m", time=T0)
    p.kill_postmaster()
    status, d = ask(p, query="m", time=T0, timeout="2s")
    assert status in (200, 503), d
    if status == 503:
        assert d["errorType"] in ("unavailable", "timeout") and d["error"]
    wait_until("it does not come back", lambda: ask(p, query="m", time=T0)[0] == 200, 60)
    assert good(p, query="m", time=T0)["result"][0]["value"] == [T0, "1"]


# ---- scripts ----------------------------------------------------------------------------------------

FORMS = {"fresh": None, "merged": "SELECT _prom_ext.merge_step()", "sealed": "SELECT _prom_ext.seal_step(true)"}


@pytest.fixture(scope="module")
def asked(module_lab):
    """A connector with every feature, for samples of any age."""
    it = module_lab.promscale(name="asked", args=["--self-scrape=false", f"--enable-feature={replay.FEATURES}"])
    it.sql("SELECT prom_api.set_default_retention_period('300 years')")
    return it


def differences(p, questions, form):
    for q in questions:
        params = {"query": q["query"]}
        if q["step"] > 0:
            params.update(start=q["start"] / 1000, end=q["end"] / 1000, step=q["step"] / 1000)
        else:
            params["time"] = q["start"] / 1000
        status, d = ask(p, "query_range" if q["step"] > 0 else "query", **params)
        if "error" in q:
            if status == 200 or not d["error"].endswith(q["error"]):
                yield f"{form} line {q['line']}: {q['query']}: expected the error {q['error']}, got {d}"
        elif status != 200:
            yield f"{form} line {q['line']}: {q['query']}: {d}"
        elif replay.by_series(d["data"]) != replay.by_series(q["answer"]):
            yield f"{form} line {q['line']}: {q['query']}: expected {q['answer']}, got {d['data']}"
        elif (d.get("warnings", [])[:10] != q["answer"].get("warnings", [])[:10]
              or d.get("infos", [])[:10] != q["answer"].get("infos", [])[:10]):
            yield f"{form} line {q['line']}: {q['query']}: annotations {d.get('warnings')} {d.get('infos')}"


@pytest.mark.parametrize("script", replay.scripts(), ids=lambda s: s.stem)
def test_scripts(asked, script):
    """What a script loads, through remote write into each form of storage; what it asks, over HTTP."""
    wrong = []
    for store, questions in replay.stores(script):
        asked.sql("SELECT prom_api.drop_metric(metric_name) FROM _prom_catalog.metric")
        if store:
            asked.write([(labels, samples) for labels, samples in store if samples])
        for form, step in FORMS.items():
            if step:
                asked.sql(step)
            wrong += differences(asked, questions, form)
    assert not wrong, f"{len(wrong)} differ:\n" + "\n".join(wrong[:20])
