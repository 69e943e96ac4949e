"""What Grafana's Prometheus data source asks, in its way of asking: its back end sends queries as forms by POST, its
front end asks for labels, metadata and rules with the time range rounded to whole seconds."""
import gzip
import json
import time
import urllib.parse

import pytest

NOW = int(time.time())
FROM, TO = NOW - 3600, NOW
BACKEND = {"User-Agent": "Grafana/12.1.0", "Content-Type": "application/x-www-form-urlencoded",
           "Accept-Encoding": "gzip", "X-Grafana-Org-Id": "1", "X-Dashboard-Uid": "d", "X-Panel-Id": "2"}
FRONTEND = {"User-Agent": "Mozilla/5.0", "Accept": "application/json, text/plain, */*", "Accept-Encoding": "gzip"}


@pytest.fixture(scope="module")
def p(module_lab):
    """An hour of a scrape each 15 seconds."""
    it = module_lab.promscale(args=["--self-scrape=false"])
    times = [(FROM + 15 * k) * 1000 for k in range(240)]
    counts = [(t, 5.0 * k) for k, t in enumerate(times)]
    it.write([({"__name__": "http_requests_total", "job": job, "code": code}, counts,
               [({"trace_id": f"{job}{code}"}, 0.1, times[200])]) for job in ("api", "web") for code in ("200", "500")]
             + [({"__name__": "up", "job": job, "instance": f"{job}:80"}, [(t, 1.0) for t in times])
                for job in ("api", "web")]
             + [({"__name__": "latency_bucket", "job": "api", "le": le}, [(t, 2.0 * k) for k, t in enumerate(times)])
                for le in ("0.1", "1", "+Inf")]
             + [({"__name__": "room.temperature", "room no": "1"}, [(t, 20.0) for t in times])],
             families=[("http_requests_total", "counter", "Requests."), ("up", "gauge", "Alive."),
                       ("latency", "histogram", "Seconds.")])
    return it


def open_up(answer, status=200):
    assert answer.status == status, answer.body
    assert answer.headers["Content-Type"] == "application/json"
    body = gzip.decompress(answer.body) if answer.headers.get("Content-Encoding") == "gzip" else answer.body
    d = json.loads(body)
    if status == 200:
        assert d["status"] == "success"
    return d


def query(p, path, status=200, **form):
    """As the back end asks."""
    return open_up(p.http("POST", f"/api/v1/{path}", urllib.parse.urlencode(form), BACKEND), status)


def resource(p, path, **params):
    """As the front end asks."""
    form = urllib.parse.urlencode(params, doseq=True)
    return open_up(p.http("GET", f"/api/v1/{path}?{form}", headers=FRONTEND))["data"]


def test_save_and_test(p):
    """The button: an instant query of 1+1, and what kind of server it is."""
    got = query(p, "query", query="1+1", time=f"{NOW}.000")["data"]
    assert (got["resultType"], got["result"][1]) == ("scalar", "2")
    build = resource(p, "status/buildinfo")
    assert tuple(int(n) for n in build["version"].split(".")) >= (2, 24, 0)  # label values take match[] since then
    assert "application" not in build and "features" not in build  # these would make it a Mimir


def test_range_panel(p):
    got = query(p, "query_range", query="sum by(job) (rate(http_requests_total[1m0s]))", start=FROM, end=TO,
                step="15")["data"]
    assert got["resultType"] == "matrix"
    assert [s["metric"] for s in got["result"]] == [{"job": "api"}, {"job": "web"}]
    for s in got["result"]:
        times = [t for t, _ in s["values"]]
        assert all(isinstance(t, (int, float)) and (t - FROM) % 15 == 0 for t in times) and times == sorted(times)
        assert all(isinstance(v, str) and float(v) > 0 for _, v in s["values"])


def test_steps_and_times_with_fractions(p):
    got = query(p, "query_range", query="up", start=f"{FROM}.5", end=f"{FROM + 2}.75", step="0.25")["data"]["result"][0]
    assert [t for t, _ in got["values"]] == [FROM + 0.5 + 0.25 * k for k in range(10)]


def test_instant_panel_and_table(p):
    got = query(p, "query", query='up{job=~"api|web"}', time=TO - 30)["data"]
    assert got["resultType"] == "vector"
    assert len(got["result"]) == 2
    assert all(s.keys() == {"metric", "value"} and s["value"][0] == TO - 30 for s in got["result"])


def test_heatmap(p):
    got = query(p, "query_range", query="sum by (le) (increase(latency_bucket[5m]))", start=FROM + 600, end=TO,
                step="60")
    assert sorted(s["metric"]["le"] for s in got["data"]["result"]) == ["+Inf", "0.1", "1"]


def test_exemplars(p):
    got = query(p, "query_exemplars", query="rate(http_requests_total[1m])", start=FROM, end=TO)["data"]
    assert len(got) == 4
    for s in got:
        assert s.keys() == {"seriesLabels", "exemplars"}
        for e in s["exemplars"]:
            assert e.keys() == {"labels", "value", "timestamp"} and isinstance(e["value"], str)
            assert e["labels"]["trace_id"]
    assert query(p, "query_exemplars", query="up", start=FROM, end=TO)["data"] == []


def test_editor(p):
    """What the query builder fills its lists with."""
    span = {"start": FROM, "end": TO}
    assert resource(p, "label/__name__/values", **span, limit=40000) == ["http_requests_total", "latency_bucket",
                                                                         "room.temperature", "up"]
    assert resource(p, "label/__name__/values", **span, limit=40000, **{"match[]": '{__name__=~".*requests.*"}'}) == [
        "http_requests_total"]
    assert resource(p, "labels", **span, **{"match[]": '{__name__="http_requests_total"}'}) == [
        "__name__", "code", "job"]
    assert resource(p, "label/code/values", **span, limit=1000,
                    **{"match[]": '{__name__="http_requests_total",job="api"}'}) == ["200", "500"]
    form = urllib.parse.urlencode({**span, "match[]": "up", "limit": 40000})
    assert open_up(p.http("POST", "/api/v1/labels", form, BACKEND))["data"] == ["__name__", "instance", "job"]
    series = open_up(p.http("POST", "/api/v1/series", form, BACKEND))["data"]
    assert series == [{"__name__": "up", "instance": f"{j}:80", "job": j} for j in ("api", "web")]
    # names that are no identifiers
    assert resource(p, "label/U__room_20_no/values", **span) == ["1"]
    assert resource(p, "label/U__room_20_no/values", **span, **{"match[]": '{"room.temperature"}'}) == ["1"]


def test_variables(p):
    """label_values(metric, label), query_result(), metrics() of a dashboard's variables."""
    span = {"start": FROM, "end": TO}
    assert resource(p, "label/job/values", **span, **{"match[]": "up"}) == ["api", "web"]
    assert [s["job"] for s in resource(p, "series", **span, **{"match[]": 'up{job!=""}'})] == ["api", "web"]
    got = resource(p, "query", query="topk(1, sum by (job) (up))", time=TO - 30)
    assert got["resultType"] == "vector" and len(got["result"]) == 1


def test_help_texts(p):
    got = resource(p, "metadata", limit=5000)
    assert got["http_requests_total"] == [{"type": "counter", "unit": "", "help": "Requests."}]
    assert got["latency"][0]["type"] == "histogram"


def test_alerting(p):
    assert resource(p, "rules") == {"groups": []}
    assert resource(p, "rules", type="alert", limit_rules=40, group_limit=40) == {"groups": []}
    assert resource(p, "alerts") == {"alerts": []}


def test_errors_have_their_text(p):
    d = query(p, "query_range", 400, query="sum(", start=FROM, end=TO, step="15")
    assert (d["status"], d["errorType"]) == ("error", "bad_data") and "1:5: parse error" in d["error"]
    d = query(p, "query_range", 400, query="up", start=FROM - 10**6, end=TO, step="1")
    assert "exceeded maximum resolution of 11,000 points" in d["error"]


def test_browsers_may_ask_directly(p):
    """A data source with direct access: the browser asks first whether it may."""
    for path in ("query", "query_range", "labels", "series", "metadata", "label/job/values", "status/buildinfo",
                 "rules"):
        answer = p.http("OPTIONS", f"/api/v1/{path}", headers={
            "Origin": "http://grafana.example", "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type"})
        assert (answer.status, answer.body) == (204, b""), path
        assert answer.headers["Access-Control-Allow-Origin"] in ("*", "http://grafana.example")
        assert "POST" in answer.headers["Access-Control-Allow-Methods"]
        assert "content-type" in answer.headers["Access-Control-Allow-Headers"].lower()
    answer = p.http("GET", "/api/v1/query?query=1", headers={"Origin": "http://grafana.example"})
    assert answer.status == 200 and answer.headers["Access-Control-Allow-Origin"] in ("*", "http://grafana.example")
