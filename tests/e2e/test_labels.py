"""Series, label names and values over HTTP: matchers, windows of time, limits, errors; promtool against us."""
import json
import random
import subprocess
import time
import urllib.parse
from pathlib import Path

import pytest
from harness.peers import PROMTOOL
from harness.process import wait_until

WINDOW = 8 * 3600
T = 1_700_000_000 // WINDOW * WINDOW  # the start of a window
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
LIMITED = ["results truncated due to limit"]

# name, labels, times
STORED = [
    ("up", {"job": "a", "instance": "1"}, [T, T + 30]),
    ("up", {"job": "a", "instance": "2"}, [T + WINDOW - 1]),
    ("up", {"job": "b", "instance": "1"}, [T + WINDOW]),
    ("up", {"job": "b", "instance": "3"}, [T - 1, T + 2 * WINDOW]),
    ("cpu", {"job": "a", "mode": "<user>"}, [T + 5]),
    ("cpu", {"job": "c", "mode": "idle", "a.b": "é"}, [T - 10 * WINDOW, T + 10 * WINDOW]),
    ("bytes:rate", {"job": "c", "old": "yes"}, [T - 100 * WINDOW]),
]


def labels_of(entry):
    return {"__name__": entry[0], **entry[1]}


def write(p, entries):
    p.write([(labels_of(e), [(int(t * 1000), 1.0) for t in e[2]]) for e in entries])


@pytest.fixture(scope="module", params=["fresh", "folded", "sealed"])
def p(request, module_lab):
    """The same samples, in every state that they go through."""
    it = module_lab.promscale(args=["--self-scrape=false"])
    it.sql("SELECT _prom_catalog.set_setting('retention_period', '0')")
    write(it, STORED[::2])
    write(it, STORED[1::2])
    it.sql("SELECT _prom_catalog.tenant_id('other')")
    if request.param != "fresh":
        assert it.sql("SELECT did FROM _prom_ext.merge_step()") == [(True,)]
    if request.param == "sealed":
        it.sql("CALL prom_api.execute_maintenance(force => true)")
    assert it.sql("SELECT count(*) FROM _prom_data.presence")[0][0] == (0 if request.param == "fresh" else 8)
    return it


def ask(p, path, method="GET", **params):
    """(status, envelope)"""
    form = urllib.parse.urlencode([(k.replace("match", "match[]"), v) for k, values in params.items()
                                   for v in (values if isinstance(values, list) else [values])])
    if method == "GET":
        a = p.http("GET", f"/api/v1/{path}?{form}")
    else:
        a = p.http("POST", f"/api/v1/{path}", form.encode(), FORM)
    assert a.headers["Content-Type"] == "application/json"
    return a.status, json.loads(a.body)


def good(p, path, method="GET", **params):
    status, d = ask(p, path, method, **params)
    assert status == 200 and d["status"] == "success" and list(d) == ["status", "data"], d
    return d["data"]


def test_matchers_and_order(p):
    assert good(p, "series", match="up") == [labels_of(STORED[i]) for i in (0, 2, 1, 3)]
    assert good(p, "series", match=['up{job="b"}', '{instance="1"}', 'up{job="b"}']) == [
        labels_of(STORED[i]) for i in (0, 2, 3)]
    assert good(p, "series", "POST", match=["cpu", "up{instance!~'1|2'}", "nothing"]) == [
        labels_of(STORED[i]) for i in (5, 4, 3)]
    assert good(p, "series", match="nothing") == []
    assert good(p, "labels") == ["__name__", "a.b", "instance", "job", "mode", "old"]
    assert good(p, "labels", "POST", match=["up", "bytes:rate"]) == ["__name__", "instance", "job", "old"]
    assert good(p, "label/__name__/values") == ["bytes:rate", "cpu", "up"]
    assert good(p, "label/job/values", match='{mode!=""}') == ["a", "c"]
    assert good(p, "label/job/values", match=["cpu", 'up{instance="3"}']) == ["a", "b", "c"]
    assert good(p, "label/a.b/values") == good(p, "label/U__a_2e_b/values") == ["é"]
    assert good(p, "label/a_2e_b/values") == good(p, "label/nothing/values") == []
    assert b'["\\u003cuser\\u003e","idle"]' in p.http("GET", "/api/v1/label/mode/values").body
    assert b'"mode":"<user>"' in p.http("GET", "/api/v1/series?match[]=cpu").body


def lives(entry, start, end):
    return any(start // WINDOW <= t // WINDOW <= end // WINDOW and start <= end for t in entry[2])


def test_windows(p):
    rng = random.Random(5)
    edges = [T, T + WINDOW, T - WINDOW, T + 2 * WINDOW, T - 100 * WINDOW, T + 10 * WINDOW, T - 10 * WINDOW]
    spans = [(rng.choice(edges) + rng.choice([-1, -0.001, 0, 0.001, 5]),
              rng.choice(edges) + rng.choice([-1, -0.001, 0, 0.001, 5])) for _ in range(60)]
    for a, b in spans:
        if a > b:
            a, b = b, a
        some = [e for e in STORED if lives(e, a, b)]
        span = {"start": "%.3f" % a, "end": "%.3f" % b}
        assert sorted(map(sorted, (s.items() for s in good(p, "series", match='{__name__=~".+"}', **span)))) == sorted(
            sorted(labels_of(e).items()) for e in some)
        assert good(p, "labels", **span) == sorted({k for e in some for k in labels_of(e)})
        assert good(p, "label/instance/values", **span) == sorted({e[1]["instance"] for e in some if "instance" in e[1]})
        assert good(p, "label/job/values", match=["cpu", "up{job='b'}"], **span) == sorted(
            {e[1]["job"] for e in some if e[0] == "cpu" or (e[0] == "up" and e[1]["job"] == "b")})
        assert good(p, "labels", match="cpu", **span) == sorted({k for e in some if e[0] == "cpu" for k in labels_of(e)})


def test_half_open_windows_and_none(p):
    assert good(p, "labels", start=T + 3 * WINDOW) == ["__name__", "a.b", "job", "mode"]
    assert good(p, "label/job/values", end=T - 50 * WINDOW) == ["c"]
    assert good(p, "series", match="up", start=T + 1, end=T) == []
    assert good(p, "label/job/values", start=T + 1000 * WINDOW) == []
    first, last = "-292273086-05-16T16:47:06Z", "292277025-08-18T07:12:54.999999999Z"
    assert good(p, "label/old/values", start=first, end=last) == ["yes"]
    assert good(p, "label/old/values", start="2023-01-01T00:00:00Z") == ["yes"]
    assert good(p, "label/old/values", start="2023-11-14T00:00:00Z") == []


def test_limits(p):
    everything = good(p, "series", match='{job=~".+"}')
    for n in range(1, 9):
        status, d = ask(p, "series", match='{job=~".+"}', limit=n)
        assert status == 200 and d["data"] == everything[:n] and d.get("warnings") == (LIMITED if n < 7 else None)
        status, d = ask(p, "series", match=["up", 'cpu{job="a"}', '{job="c"}'], limit=n)
        assert d["data"] == everything[:n] and d.get("warnings") == (LIMITED if n < 7 else None)
        status, d = ask(p, "labels", limit=n)
        assert d["data"] == good(p, "labels")[:n] and d.get("warnings") == (LIMITED if n < 6 else None)
        status, d = ask(p, "label/job/values", limit=n)
        assert d["data"] == ["a", "b", "c"][:n] and d.get("warnings") == (LIMITED if n < 3 else None)
    assert good(p, "series", match="up", limit=0) == everything[3:]


@pytest.mark.parametrize("path, params, text", [
    ("series", {}, "no match[] parameter provided"),
    ("series", {"match": "{}"}, 'invalid parameter "match[]": match[] must contain at least one non-empty matcher'),
    ("series", {"match": "up", "limit": "x"}, 'invalid parameter "limit": strconv.Atoi: parsing "x": invalid syntax'),
    ("series", {"match": "up", "limit": "-1"}, 'invalid parameter "limit": limit must be non-negative'),
    ("series", {"match": "up", "start": "x"},
     "invalid parameter \"start\": invalid time value for 'start': cannot parse \"x\" to a valid timestamp"),
    ("series", {"match": "up["}, 'invalid parameter "match[]": 1:3: parse error: '),
    ("labels", {"match": "up["}, "1:3: parse error: "),
    ("labels", {"match": ["up", '{a=~".*"}']}, "match[] must contain at least one non-empty matcher"),
    ("labels", {"end": "never"},
     "invalid parameter \"end\": invalid time value for 'end': cannot parse \"never\" to a valid timestamp"),
    ("label/job/values", {"match": "{"}, "1:2: parse error: "),
    ("label/%FF/values", {}, 'invalid label name: "\\xff"'),
    ("label/U__/values", {}, 'invalid label name: ""'),
])
def test_errors(p, path, params, text):
    status, d = ask(p, path, **params)
    assert (status, d["status"], d["errorType"]) == (400, "error", "bad_data")
    assert d["error"].startswith(text)


def test_methods_and_paths(p):
    assert p.http("POST", "/api/v1/label/job/values", b"", FORM).status == 405
    assert p.http("PUT", "/api/v1/series", b"", FORM).status == 405
    for path in ("label/job", "label//values", "label/job/value", "label/values"):
        assert p.http("GET", f"/api/v1/{path}").status == 404, path


def test_what_was_acknowledged_is_seen_and_what_was_deleted_is_not(lab):
    p = lab.promscale(args=["--self-scrape=false"])
    now = time.time() // WINDOW * WINDOW + 100
    for i in range(30):
        write(p, [(f"m{i}", {"x": f"v{i}"}, [now])])
        assert good(p, f"label/x/values", start=now, end=now + 1)[-1] == sorted(f"v{k}" for k in range(i + 1))[-1]
        assert good(p, "series", match=f'{{x="v{i}"}}', start=now) == [{"__name__": f"m{i}", "x": f"v{i}"}]
    wait_until("views", lambda: p.sql("SELECT count(*) FROM pg_views WHERE schemaname = 'prom_metric'")[0][0] == 30, 60)
    p.sql("SELECT prom_api.drop_metric('m7')")
    assert "v7" not in good(p, "label/x/values") and len(good(p, "label/x/values", start=now)) == 29
    p.sql("SELECT _prom_catalog.delete_series_from_metric('m8', (SELECT array_agg(series_id) FROM prom_series.m8))")
    assert "v8" not in good(p, "label/x/values", start=now, end=now) and "m8" not in good(p, "label/__name__/values")
    assert good(p, "series", match="m8") == []


def test_promtool(p):
    def run(*args):
        return subprocess.run([PROMTOOL, "query", *args], check=True, text=True, stdout=subprocess.PIPE,
                              timeout=60).stdout.splitlines()

    span = [f"--start={T}", f"--end={T + WINDOW - 1}"]
    assert run("series", "--match=up", *span, p.url) == [
        '{__name__="up", instance="1", job="a"}', '{__name__="up", instance="2", job="a"}']
    assert run("labels", *span, p.url, "job") == ["a"]
    assert run("labels", f"--start={T - 10 * WINDOW}", f"--end={T + 10 * WINDOW}", p.url, "job") == ["a", "b", "c"]


def test_the_same_as_a_prometheus(lab):
    """All that a Prometheus has scraped of itself, asked of both."""
    p = lab.promscale(args=["--self-scrape=false"])
    prometheus = lab.prometheus(remote_write=p.url + "/api/v1/write")
    wait_until("samples arrive", lambda: len(good(p, "label/__name__/values")) > 150, 60)
    prometheus.stop_scraping()

    def both(path, match=None):
        params = {"match": match} if match else {}
        return prometheus.api(path, **({"match[]": match} if match else {})), good(p, path, **params)

    def settled():
        theirs, ours = both("label/__name__/values")
        return theirs == ours

    wait_until("everything arrives", settled, 60)
    names = prometheus.api("labels")
    assert len(names) > 20
    for path, match in [("labels", None), ("labels", ["up"]), ("labels", ['{code=~"2.*"}', "up"]),
                        *[(f"label/{n}/values", m) for n in names for m in
                          (None, ['{__name__=~"prometheus_.*",handler!=""}'], ["up", '{quantile=~"0.*",le=""}'])],
                        ("series", ['{__name__=~"go_.*"}']), ("series", ["up", '{code=~"2.*"}', '{__name__="up",job!="x"}'])]:
        theirs, ours = both(path, match)
        if path == "series":  # one set is in no order there
            theirs.sort(key=lambda s: sorted(s.items()))
        assert ours == theirs, (path, match)


def test_labels_of_series_that_the_index_does_not_hold(lab):
    """Which of many unknown series are read: those with the label, or all where the label leaves out too few."""
    p = lab.promscale(args=["--self-scrape=false", "--query.index-max-bytes=1MB"])
    p.sql("SELECT prom_api.set_default_retention_period('300 years')")
    t0 = 1_700_000_000
    p.write([({"__name__": "big", "i": str(i)}, [(t0 * 1000, 1.0)]) for i in range(20000)])
    p.write([({"__name__": "some", "i": str(i), "job": "same"}, [(t0 * 1000, 1.0)]) for i in range(1200)])
    p.stop()
    p.start()

    def found(selector):
        before = p.metrics().get("promscale_label_index_asked_total", 0)
        answer = p.get("/api/v1/series?" + urllib.parse.urlencode({"match[]": selector, "start": t0, "end": t0 + 60}))
        assert answer.status == 200, answer.body
        return len(json.loads(answer.body)["data"]), p.metrics()["promscale_label_index_asked_total"] - before

    assert p.metrics()["promscale_label_index_whole"] == 0
    assert found('some{job="other"}') == (0, 0)
    assert found('some{i="7"}') == (1, 1)
    assert found('some{i=~"7|8|9", job="same"}') == (3, 2)
    assert found('some{job="same"}') == (1200, 1197)
