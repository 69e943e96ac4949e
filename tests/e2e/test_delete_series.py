"""/api/v1/admin/tsdb/delete_series: what it deletes is gone for everybody, the rest is as it was."""
import json
import time
import urllib.parse

import pytest

PATH = "/api/v1/admin/tsdb/delete_series"


@pytest.fixture
def p(lab):
    p = lab.promscale(args=["--web.enable-admin-api"])
    p.t0 = int(time.time()) * 1000 - 3600_000
    p.write([({"__name__": "m", "host": h}, [(p.t0 + i * 1000, float(i)) for i in range(100)]) for h in "ab"]
            + [({"__name__": "other"}, [(p.t0, 1.0)])])
    return p


def delete(p, method="POST", **params):
    pairs = [(k.replace("match", "match[]"), v) for k, vs in params.items()
             for v in (vs if isinstance(vs, list) else [vs])]
    return p.http(method, PATH + "?" + urllib.parse.urlencode(pairs))


def count(p, selector):
    r = p.http("GET", "/api/v1/query?" + urllib.parse.urlencode(
        {"query": f"count_over_time({selector}[2h])", "time": p.t0 / 1000 + 3000}))
    return {tuple(sorted(e["metric"].items())): int(e["value"][1]) for e in json.loads(r.body)["data"]["result"]}


A, B = (("host", "a"),), (("host", "b"),)


@pytest.mark.parametrize("form", ["fresh", "merged", "sealed"])
def test_by_time(p, form):
    if form == "merged":
        p.sql("SELECT _prom_ext.merge_step()")
    elif form == "sealed":
        p.sql("CALL prom_api.execute_maintenance(force => true)")
    r = delete(p, match='m{host="a"}', start=p.t0 / 1000 + 10, end=p.t0 / 1000 + 19)
    assert (r.status, r.body) == (204, b"")
    assert count(p, "m") == {A: 90, B: 100}
    r = delete(p, "PUT", match=['m{host="a"}', 'm{host="b"}'], start=p.t0 / 1000 + 50)
    assert r.status == 204
    assert count(p, "m") == {A: 40, B: 50}
    assert count(p, "other") == {(): 1}
    p.write([({"__name__": "m", "host": "a"}, [(p.t0 + 60_000, 7.0)])])  # the series is as good as before
    assert count(p, "m") == {A: 41, B: 50}


def test_of_all_time(p):
    assert delete(p, match="m").status == 204
    assert count(p, "m") == {}
    r = p.http("GET", "/api/v1/series?match[]=m")
    assert json.loads(r.body)["data"] == []
    p.write([({"__name__": "m", "host": "a"}, [(p.t0, 1.0)])])  # by a connector that knew the old series
    assert count(p, "m") == {A: 1}


def test_what_is_refused(p):
    for params, text in (({}, "no match[] parameter provided"),
                         ({"match": "m{"}, 'invalid parameter "match[]": '),
                         ({"match": "rate(m[1m])"}, 'invalid parameter "match[]": '),
                         ({"match": '{a=~".*"}'}, "match[] must contain at least one non-empty matcher"),
                         ({"match": "m", "start": "x"}, 'invalid parameter "start": cannot parse "x" to a valid timestamp'),
                         ({"match": "m", "start": "5", "end": "4"}, "end timestamp must not be before start time")):
        r = delete(p, **params)
        answer = json.loads(r.body)
        assert (r.status, answer["errorType"]) == (400, "bad_data")
        assert text in answer["error"], answer
    assert p.http("GET", PATH + "?match[]=m").status == 405
    assert count(p, "m") == {A: 100, B: 100}


def test_only_where_it_is_switched_on(lab):
    p = lab.promscale()
    r = p.http("POST", PATH + "?match[]=m")
    assert r.status == 500
    assert json.loads(r.body) == {"status": "error", "errorType": "unavailable", "error": "admin APIs disabled"}
