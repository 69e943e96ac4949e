"""A real Prometheus answers from our data by remote read, the same as we do; promtool asks us directly.

Prometheus 2.42 asks for samples, newer ones (PROMSCALE_TEST_PROMETHEUS) for streams of chunks.
"""
import json
import math
import subprocess

import pytest
from harness.peers import PROMETHEUS, PROMTOOL, get_json
from harness.remote_read import histogram_series
from harness.remote_write import snappy

T0 = 1_700_000_000  # s
END = T0 + 3600
STALE = 0x7ff0000000000002
FORMS = {"fresh": None, "merged": "SELECT _prom_ext.merge_step()", "sealed": "SELECT _prom_ext.seal_step(true)"}


@pytest.fixture(scope="module")
def ours(module_lab):
    p = module_lab.promscale(args=["--self-scrape=false"])
    p.write([({"__name__": "req_total", "code": c, "pod": f"p{i}"},
              [((T0 + 15 * k) * 1000 + i, float((k if k < 150 else k - 150) * (i + 1))) for k in range(241)])
             for c in ("200", "500") for i in range(7)]
            + [({"__name__": "temp", "Zone": "z"}, [((T0 + 15 * k) * 1000, 20 + math.sin(k / 9)) for k in range(241) if k % 50 < 40]
                + [((T0 + 3605) * 1000, STALE)])])
    body = b""
    for i in range(3):
        body += histogram_series({"__name__": "lat", "i": str(i)}, [
            ((T0 + 15 * k) * 1000, [k + i, 2 * k] + [k // 3] * (k // 60) if k < 200 else [k - 199, 1], i - 1, 1.5 * k)
            for k in range(241)])
    assert p.post_write(snappy(body)).status in (200, 204)
    return p


@pytest.fixture(scope="module")
def prometheus(module_lab, ours):
    return module_lab.prometheus(remote_read=ours.url + "/api/v1/read", scrape_interval="1h")


@pytest.fixture(scope="module", params=list(FORMS))
def form(request, ours):
    if FORMS[request.param]:
        ours.sql(FORMS[request.param])
    return request.param


INSTANT = ["req_total", "sum by (code) (rate(req_total[5m]))", 'temp{Zone="z"}', "temp[10m]", "count(req_total) + count(temp)",
           'req_total{pod=~"p[135]",code!="200"} offset 10m', 'max_over_time({__name__=~"req_.*|temp"}[30m])', "absent(nothing)",
           'label_replace(temp, "a", "$1", "Zone", "(.*)")']
VERSION = subprocess.run([PROMETHEUS, "--version"], capture_output=True, text=True, check=False).stdout
if "version 2." not in VERSION:  # 2.42 leaves histograms out of what it is sent
    INSTANT += ["lat", "rate(lat[10m])", "histogram_quantile(0.9, sum(rate(lat[10m])))", "histogram_count(lat)", "lat[2m]"]


def close(a, b):
    """Equal but for the last digits of numbers."""
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return all(close(x, y) for x, y in zip(a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(close(a[k], b[k]) for k in a)
    if isinstance(a, str) and isinstance(b, str) and a != b:
        try:
            return math.isclose(float(a), float(b), rel_tol=1e-12)
        except ValueError:
            return False
    return a == b


def sorted_result(data):
    return sorted(data["result"], key=lambda s: sorted(s["metric"].items()))


def ask_us(ours, path, **params):
    answer = get_json(f"{ours.url}/api/v1/{path}", params)
    assert answer["status"] == "success"
    return answer["data"]


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("query", INSTANT)
def test_instant(ours, prometheus, query):
    for t in (T0 + 1800.5, END + 0.5):  # where no window of ours begins: 2.x takes samples there, 3.x does not
        theirs, mine = (sorted_result(x) for x in (prometheus.api("query", query=query, time=t),
                                                   ask_us(ours, "query", query=query, time=t)))
        assert close(theirs, mine), (theirs, mine)
        assert mine


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("query", [q for q in INSTANT if not q.endswith("]")])
def test_range(ours, prometheus, query):
    params = {"query": query, "start": T0 - 100.5, "end": END + 400, "step": 37}
    theirs, mine = sorted_result(prometheus.api("query_range", **params)), sorted_result(ask_us(ours, "query_range", **params))
    assert close(theirs, mine), (theirs, mine)
    assert mine


def test_labels_and_series(prometheus):
    """These Prometheus takes from remote read, too."""
    got = prometheus.api("series", **{"match[]": "lat", "start": T0, "end": END})
    assert sorted(got, key=str) == [{"__name__": "lat", "i": str(i)} for i in range(3)]


# ---- promtool ------------------------------------------------------------------------------------------

def promtool(*args):
    r = subprocess.run([str(PROMTOOL), "query", *map(str, args)], capture_output=True, text=True, check=False, timeout=60)
    assert r.returncode == 0, r.stderr
    return r.stdout


def test_promtool_instant(ours):
    out = promtool("instant", "--time", END, ours.url, "sum by (code) (req_total)")
    assert sorted(out.split("\n")) == ["", f'{{code="200"}} => 2493 @[{END}]', f'{{code="500"}} => 2493 @[{END}]']
    parsed = json.loads(promtool("instant", "--time", END, "-o", "json", ours.url, "count(req_total)"))
    assert parsed == [{"metric": {}, "value": [END, "14"]}]


def test_promtool_range(ours):
    out = promtool("range", "--start", T0, "--end", T0 + 30, "--step", "15s", ours.url, 'req_total{pod="p0",code="200"}')
    assert out.split("\n") == ['req_total{code="200", pod="p0"} =>', f"0 @[{T0}]", f"1 @[{T0 + 15}]", f"2 @[{T0 + 30}]", ""]


def test_promtool_series(ours):
    out = promtool("series", "--match", "lat", "--match", "temp", "--start", T0, "--end", END, ours.url)
    assert sorted(out.split("\n")) == ["", '{Zone="z", __name__="temp"}', *(f'{{__name__="lat", i="{i}"}}' for i in range(3))]


def test_promtool_labels(ours):
    when = ("--start", T0, "--end", END)
    assert promtool("labels", *when, ours.url, "pod").split() == [f"p{i}" for i in range(7)]
    assert promtool("labels", *when, "--match", "temp", ours.url, "__name__").split() == ["temp"]
    assert promtool("labels", ours.url, "pod").split() == []  # of the last minutes
