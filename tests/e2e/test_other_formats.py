"""OpenTelemetry's metrics and metrics as text over HTTP: what is stored, what is refused and how it is said."""
import gzip
import json
import time
import urllib.parse
import zlib

import pytest
from harness import snappy
from harness.remote_write import framed
from otlp_message import (DELTA, exemplar, exponential_point, histogram_point, metric, point, request, resource, scope,
                          simple, summary_point)

OTLP = "/api/v1/otlp/v1/metrics"
WRITE = "/api/v1/write"
PROTOBUF = {"Content-Type": "application/x-protobuf"}
TEXT = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
OPENMETRICS = {"Content-Type": "application/openmetrics-text; version=1.0.0"}


@pytest.fixture(scope="module")
def p(module_lab):
    return module_lab.promscale(args=["--self-scrape=false", "--ingest.max-body-bytes=300KB",
                                      "--ingest.max-decompressed-bytes=1MB", "--ingest.max-series=5000"])


@pytest.fixture(scope="module")
def now():
    return int(time.time()) - 60


def ns(seconds):
    return int(seconds * 1000) * 1_000_000


def query(p, text, at):
    got = p.http("GET", "/api/v1/query?" + urllib.parse.urlencode({"query": text, "time": at}))
    assert got.status == 200, got.body
    return {tuple(sorted(r["metric"].items())): r.get("value", [0, r.get("histogram", [0, None])[1]])[1]
            for r in json.loads(got.body)["data"]["result"]}


def key(name, **labels):
    return tuple(sorted({"__name__": name, **{k.replace("__", "."): v for k, v in labels.items()}}.items()))


def api(p, path):
    got = p.http("GET", path)
    assert got.status == 200, got.body
    return json.loads(got.body)["data"]


# ---- OpenTelemetry -----------------------------------------------------------------------------------

def varint(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if data[at - 1] < 128:
            return value, at


def partial_success(body):
    """(rejected_data_points, error_message) of an ExportMetricsServiceResponse."""
    if not body:
        return 0, ""
    assert body[0] == 0x0A
    size, at = varint(body, 1)
    assert at + size == len(body) and body[at] == 0x08
    rejected, at = varint(body, at + 1)
    assert body[at] == 0x12
    size, at = varint(body, at + 1)
    assert at + size == len(body)
    return rejected, body[at:].decode()


def post(p, body, headers=None):
    return p.http("POST", OTLP, body, {**PROTOBUF, **(headers or {})})


@pytest.mark.parametrize("encoding", ["", "gzip", "identity"])
def test_all_kinds(p, now, encoding):
    service = f"shop{encoding}"
    body = simple([
        metric("http.requests", "sum", [point(7, ns(now), ns(now - 30), {"http.method": "GET"},
                                              exemplars=[exemplar(3.5, ns(now), bytes(range(16)))])], "1", "served"),
        metric("temp", "gauge", [point(21.5, ns(now))], "Cel"),
        metric("latency", "histogram", [histogram_point(ns(now), 6, [1, 2, 3], [0.1, 1.0], 4.5)], "s", "how long"),
        metric("size", "exponential", [exponential_point(ns(now), 8, 0, (0, [2, 0, 3]), (1, [2]), 1, 9.5)], "By"),
        metric("gc", "summary", [summary_point(ns(now), 4, 2.5, [(0.5, 0.25), (0.99, 2.0)])]),
    ], service_name=service, service_instance_id="i1", host_name="box")
    got = post(p, gzip.compress(body) if encoding == "gzip" else body, {"Content-Encoding": encoding})
    assert (got.status, got.body) == (200, b"") and got.headers["Content-Type"] == "application/x-protobuf"
    both = {"job": service, "instance": "i1"}
    assert query(p, f'{{job="{service}",__name__!="size_bytes"}}', now) == {
        key("http_requests_total", http_method="GET", **both): "7", key("temp_celsius", **both): "21.5",
        key("latency_seconds_bucket", le="0.1", **both): "1", key("latency_seconds_bucket", le="1", **both): "3",
        key("latency_seconds_bucket", le="+Inf", **both): "6", key("latency_seconds_count", **both): "6",
        key("latency_seconds_sum", **both): "4.5", key("gc", quantile="0.5", **both): "0.25",
        key("gc", quantile="0.99", **both): "2", key("gc_count", **both): "4", key("gc_sum", **both): "2.5",
        key("target_info", host_name="box", **both): "1"}
    [native] = query(p, f'size_bytes{{job="{service}"}}', now).values()
    assert (native["count"], native["sum"]) == ("8", "9.5")
    buckets = [[b[1], b[2], b[3]] for b in native["buckets"]]
    assert buckets == [["-4", "-2", "2"], ["-1e-128", "1e-128", "1"], ["1", "2", "2"], ["4", "8", "3"]]
    exemplars = api(p, f"/api/v1/query_exemplars?query=http_requests_total&start={now - 9}&end={now + 9}")
    assert {"labels": {"trace_id": bytes(range(16)).hex()}, "value": "3.5", "timestamp": now} in [
        e for s in exemplars if s["seriesLabels"]["job"] == service for e in s["exemplars"]]
    told = api(p, "/api/v1/metadata")
    assert told["http_requests_total"] == [{"type": "counter", "help": "served", "unit": ""}]
    assert told["latency_seconds"] == [{"type": "histogram", "help": "how long", "unit": "seconds"}]
    assert "latency_seconds_bucket" not in told


def test_a_series_that_ends(p, now):
    assert post(p, simple([metric("ends", "gauge", [point(1, ns(now)), point(None, ns(now + 10), flags=1)])])).status == 200
    assert len(query(p, "ends", now + 9)) == 1 and query(p, "ends", now + 10) == {}


def test_partly_bad_requests_are_stored_in_part(p, now):
    got = post(p, simple([
        metric("part_good", "gauge", [point(1, ns(now)), point(2, 0), point(3, ns(time.time() + 86400))]),
        metric("part_delta", "sum", [point(1, ns(now)), point(2, ns(now + 1))], temporality=DELTA),
        metric("...", "gauge", [point(1, ns(now))])]))
    rejected, words = partial_success(got.body)
    assert (got.status, rejected) == (200, 5)
    for part in ("part_good", "no time", "part_delta", "delta temporality", "no metric name", "ahead"):
        assert part in words, words
    assert query(p, '{__name__=~"part_.*"}', now + 1) == {key("part_good"): "1"}
    assert p.metrics()['promscale_ingest_items_refused_total{type="metric",reason="otlp"}'] >= 4


@pytest.mark.parametrize("body, headers, status, text", [
    (simple([]), {"Content-Type": "application/json"}, 415, "application/x-protobuf"),
    (simple([]), {"Content-Type": ""}, 415, "application/x-protobuf"),
    (simple([]), {"Content-Encoding": "snappy"}, 415, "gzip"),
    (simple([]), {"Content-Encoding": "deflate"}, 415, "gzip"),
    (b"\x0a\x7f", {}, 400, "ExportMetricsServiceRequest"),
    (b"no gzip", {"Content-Encoding": "gzip"}, 400, "gzip"),
    (gzip.compress(simple([]), mtime=0)[:-4], {"Content-Encoding": "gzip"}, 400, "gzip"),
    (zlib.compress(simple([])), {"Content-Encoding": "gzip"}, 400, "gzip"),
    (gzip.compress(bytes(5_000_000), mtime=0), {"Content-Encoding": "gzip"}, 413, "more than"),
    (bytes(400_000), {}, 413, ""),
], ids=lambda x: str(x)[:20])
def test_what_is_no_request(p, body, headers, status, text):
    got = post(p, body, headers)
    assert got.status == status and text in got.body.decode(), got.body


def test_an_empty_request_is_one(p):
    assert post(p, b"").status == 200
    assert p.http("GET", OTLP).status == 405


def test_settings(lab, now):
    p = lab.promscale(args=["--self-scrape=false", "--otlp.translation-strategy=NoTranslation", "--otlp.delta=as-is",
                            "--otlp.promote-resource-attributes=host.name, k8s.pod", "--otlp.promote-scope-metadata",
                            "--otlp.convert-histograms-to-nhcb", "--otlp.keep-identifying-resource-attributes"])
    body = request([resource([scope([
        metric("a.b", "sum", [point(5, ns(now), ns(now - 10))], "s", temporality=DELTA),
        metric("h", "histogram", [histogram_point(ns(now), 3, [1, 0, 2], [1.0, 2.0], 4.0)])], "lib", "1.0")],
        {"service.name": "s", "host.name": "box"})])
    assert post(p, body).status == 200
    labels = {"host__name": "box", "job": "s", "otel_scope_name": "lib", "otel_scope_version": "1.0"}
    assert query(p, '{"a.b"}', now) == {key("a.b", **labels): "5"}
    [native] = query(p, "h", now).values()
    assert [b[1:] for b in native["buckets"]] == [["-Inf", "1", "1"], ["2", "+Inf", "2"]]
    assert query(p, "target_info", now) == {key("target_info", host__name="box", job="s", service__name="s"): "1"}


@pytest.mark.parametrize("args, text", [
    (["--otlp.translation-strategy=notranslation"], "notranslation"),
    (["--otlp.promote-all-resource-attributes", "--otlp.promote-resource-attributes=a"], "exclude each other"),
    (["--otlp.ignore-resource-attributes=a"], "otlp.promote-all-resource-attributes"),
])
def test_settings_that_make_no_sense(lab, args, text):
    code, said = lab.promscale(args=args, start=False).run_to_end()
    assert code != 0 and text in said


def test_may_be_off(lab):
    p = lab.promscale(args=["--self-scrape=false", "--web.enable-otlp-receiver=false"])
    assert post(p, b"").status == 404


def test_is_stored_once_however_often_it_is_sent(p, now):
    body = simple([metric("again", "sum", [point(i, ns(now + i)) for i in range(5)])])
    for _ in range(3):
        assert post(p, body).status == 200
    assert query(p, "count_over_time(again_total[1m])", now + 10) == {(): "5"}


# ---- text --------------------------------------------------------------------------------------------

PAGE = """# HELP req_total Requests.
# TYPE req_total counter
req_total{code="200",path="/\\"x\\"\\n"} 3
req_total{code="500"} 4 %d
# TYPE wait histogram
wait_bucket{le="1"} 1
wait_bucket{le="+Inf"} 2
wait_sum 3
wait_count 2
{"utf.8","la bel"="v"} +Inf
"""


@pytest.mark.parametrize("encoding, pack", [("", bytes), ("gzip", gzip.compress), ("snappy", snappy), ("snappy", framed)])
def test_text(p, now, encoding, pack):
    page = (PAGE % ((now - 30) * 1000)).replace("req", f"req{pack.__name__}").encode()
    before = time.time()
    got = p.http("POST", WRITE, pack(page), {**TEXT, "Content-Encoding": encoding})
    assert (got.status, got.body) == (204, b"")
    after = time.time()
    name = f"req{pack.__name__}_total"
    assert query(p, name, after + 1) == {key(name, code="200", path='/"x"\n'): "3", key(name, code="500"): "4"}
    assert query(p, f"timestamp({name}{{code='500'}})", after + 1)[(("code", "500"),)] == str(now - 30)
    [arrived] = query(p, f"timestamp({name}{{code='200'}})", after + 1).values()
    assert before - 0.002 <= float(arrived) <= after + 0.002
    assert query(p, "wait_bucket", after + 1) == {key("wait_bucket", le="1.0"): "1", key("wait_bucket", le="+Inf"): "2"}
    assert query(p, '{"utf.8"}', after + 1) == {key("utf.8", **{"la bel": "v"}): "+Inf"}
    told = api(p, "/api/v1/metadata")
    assert told[name] == [{"type": "counter", "help": "Requests.", "unit": ""}]
    assert told["wait"] == [{"type": "histogram", "help": "", "unit": ""}]


def test_openmetrics(p, now):
    page = (f"# TYPE om_seconds counter\n# UNIT om_seconds seconds\n# HELP om_seconds Time.\n"
            f'om_seconds_total{{a="b"}} 1.5 {now}.25 # {{trace_id="x"}} 0.5 {now}\n# EOF\n').encode()
    assert p.http("POST", WRITE, page, OPENMETRICS).status == 204
    assert query(p, "om_seconds_total", now + 1) == {key("om_seconds_total", a="b"): "1.5"}
    assert query(p, "timestamp(om_seconds_total)", now + 1) == {(("a", "b"),): f"{now}.25"}
    [series] = api(p, f"/api/v1/query_exemplars?query=om_seconds_total&start={now - 9}&end={now + 9}")
    assert series["exemplars"] == [{"labels": {"trace_id": "x"}, "value": "0.5", "timestamp": now}]


@pytest.mark.parametrize("body, headers, status, text", [
    (b"good_line 1\nbad line\n", TEXT, 400, "line 2, column 5"),
    (b"good_line 1\n", OPENMETRICS, 400, "# EOF"),
    (b"good_line 1\n", {"Content-Type": "text/plain; version=2.0"}, 415, "text/plain; version=0.0.4"),
    (b"good_line 1\n", {"Content-Type": "text/html"}, 415, "text/plain"),
    (b"good_line 1\n", {**TEXT, "Content-Encoding": "zstd"}, 415, "gzip"),
    (b"good_line 1\n", {**TEXT, "Content-Encoding": "gzip"}, 400, "gzip"),
    (gzip.compress(b"# " + b"x" * 5_000_000, mtime=0), {**TEXT, "Content-Encoding": "gzip"}, 413, "more than"),
    (b"good_line 1\n" * 5001, TEXT, 413, "series"),
], ids=lambda x: str(x)[:30])
def test_text_that_is_wrong_is_refused_as_a_whole(p, body, headers, status, text):
    got = p.http("POST", WRITE, body, headers)
    assert got.status == status and text in got.body.decode(), got.body
    assert query(p, "good_line", time.time()) == {}


def test_bad_series_of_a_text_leave_the_others_alone(p):
    got = p.http("POST", WRITE, b'twice{a="1",a="2"} 1\nonce{a="1"} 2\nfar 1 99999999999999\n', TEXT)
    assert got.status == 400 and b"twice" in got.body and b"far" in got.body
    assert query(p, '{__name__=~"twice|once|far"}', time.time() + 1) == {key("once", a="1"): "2"}


def test_own_page_can_be_sent_back(p):
    page = p.http("GET", "/metrics").body
    assert b"promscale_build_info" in page
    assert p.http("POST", "/write", page, TEXT).status == 204
    n = sum(1 for line in page.splitlines() if line and not line.startswith(b"#"))
    assert query(p, 'count({__name__=~"promscale_.*|process_.*"})', time.time() + 1) == {(): str(n)}
