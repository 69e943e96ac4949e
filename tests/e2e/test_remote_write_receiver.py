"""Remote write 2.0 as a receiver: what is taken and what is not, status and written counts of each answer, and
what can be read back. The cases are those that Prometheus's suite for receivers asks for, and the ones that the
protocol's text leaves to them.
"""
import json
import math
import time
import urllib.parse

import pytest
from harness import compare, snappy, write_request
from harness.remote_write import HEADERS, field
from harness.remote_write_v2 import HEADERS_V2, PROTO, WRITTEN, encode_v2, histogram, post_v2

STALE = 0x7FF0000000000002
NOW = int(time.time() * 1000)


@pytest.fixture(scope="module")
def p(module_lab):
    """All tests write into it, each its own metrics."""
    return module_lab.promscale(args=["--self-scrape=false", "--ingest.max-symbols=1000",
                                      "--ingest.max-histogram-buckets=50"])


@pytest.fixture
def name(request):
    return "".join(c if c.isalnum() else "_" for c in request.node.name)


def stored(p, name):
    """{labels without __name__ as sorted pairs: [(ms, bits)]}, {} for an unknown metric."""
    if not p.sql("SELECT 1 FROM prom_info.metric WHERE metric_name = %s", [name]):
        return {}
    p.sql("SELECT _prom_catalog.make_metric_views()")
    with compare.session(p) as ask:
        view = compare.sql_metrics(ask)[name]
        found = compare.series_of_view(ask, view, -math.inf, math.inf)
    return {tuple(x for x in labels if x[0] != "__name__"): sorted(rows) for labels, rows in found.items()}


def bits(value):
    return compare.bits(value) if isinstance(value, float) else value


def query(p, expr, ms):
    answer = p.get("/api/v1/query?" + urllib.parse.urlencode({"query": expr, "time": ms / 1000}))
    assert answer.status == 200, answer.body
    return json.loads(answer.body)["data"]["result"]


def instant(p, expr, ms):
    """The histogram of the only element."""
    (element,) = query(p, expr, ms)
    at, h = element["histogram"]
    assert at == ms / 1000
    return h


def flat(cases):
    return [(what, *case) for what, case in cases.items()]


GOOD = [{"labels": {"__name__": "any"}, "samples": [(NOW, 1.0)]}]


# ---- negotiation ------------------------------------------------------------------------------------

@pytest.mark.parametrize("headers, status", [
    ({"Content-Type": PROTO.replace(";", " ; ")}, 204),
    ({"Content-Type": 'application/x-protobuf; proto="io.prometheus.write.v2.Request"'}, 204),
    ({"Content-Encoding": ""}, 204),
    ({"Content-Encoding": "gzip"}, 415),
    ({"Content-Encoding": "deflate"}, 415),
    ({"Content-Encoding": "zstd"}, 415),
], ids=repr)
def test_headers(p, headers, status):
    body = snappy(encode_v2(GOOD))
    answer, written = post_v2(p, None, headers, body)
    assert answer.status == status
    assert written == ((1, 0, 0) if status == 204 else (0, 0, 0))


@pytest.mark.parametrize("content_type", ["application/json", "image/png", "text/html",
                                          "application/x-protobuf;proto=io.prometheus.write.v3.Request",
                                          "application/x-protobuf;proto="])
def test_other_media_types(p, content_type):
    answer = p.post_write(snappy(encode_v2(GOOD)), headers={**HEADERS_V2, "Content-Type": content_type})
    assert answer.status == 415 and answer.body


@pytest.mark.parametrize("what, body", {
    "nothing": b"",
    "not snappy": b"\xff" * 50,
    "cut off": snappy(encode_v2(GOOD))[:-2],
    "not protobuf": snappy(b"\x2a\x7f\x00"),
    "series cut off": snappy(encode_v2(GOOD)[:-3]),
    "first symbol not empty": snappy(encode_v2(GOOD, symbols=("x",))),
}.items(), ids=lambda x: x if isinstance(x, str) else "")
def test_corrupt(p, what, body):
    answer, written = post_v2(p, None, None, body)
    assert (answer.status, written) == (400, (0, 0, 0)) and answer.body


def test_version_1_is_taken_without_counts(p, name):
    answer = p.post_write(write_request([({"__name__": name}, [(NOW, 1.0)])]))
    assert answer.status == 204
    assert not any(h in answer.headers for h in WRITTEN)
    answer = p.post_write(b"\xff\xff")
    assert answer.status == 400
    assert not any(h in answer.headers for h in WRITTEN)


def test_clothes_of_the_other_version(p, name):
    """Fields of the two do not overlap: nothing is in such a message, and nothing is stored."""
    series = [{"labels": {"__name__": name}, "samples": [(NOW, 1.0)]}]
    assert p.post_write(snappy(encode_v2(series)), headers=HEADERS).status == 204
    answer, written = post_v2(p, None, None, write_request([({"__name__": name}, [(NOW, 1.0)])]))
    assert (answer.status, written) == (204, (0, 0, 0))
    assert not stored(p, name)


def test_a_full_queue_writes_nothing(p):
    """Over a limit of whole requests."""
    many = [{"labels": {"__name__": f"many_{i}"}, "samples": [(NOW, 1.0)]} for i in range(1001)]
    answer, written = post_v2(p, many)
    assert (answer.status, written) == (413, (0, 0, 0))
    assert "symbols" in answer.body.decode()


# ---- samples ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("what, value", {
    "float": 3.25, "zero": 0.0, "minus zero": -0.0, "NaN": 0x7FF8000000000001, "stale": STALE, "+Inf": math.inf,
    "-Inf": -math.inf, "smallest": 5e-324, "largest": 1.7976931348623157e308,
}.items(), ids=lambda x: str(x))
def test_values(p, name, what, value):
    answer, written = post_v2(p, [{"labels": {"__name__": name}, "samples": [(NOW, value)]}])
    assert (answer.status, written) == (204, (1, 0, 0))
    assert stored(p, name) == {(): [(NOW, bits(value))]}


def test_odd_texts(p, name):
    labels = {"__name__": name, "newline": "a\nb", "space": " a b ", "quote": '"\\', "utf8": "naïve 日本 🔥", "with.dot": "x",
              "ключ": "значение"}
    answer, written = post_v2(p, [{"labels": labels, "samples": [(NOW, 1.0)]}])
    assert (answer.status, written) == (204, (1, 0, 0))
    (element,) = query(p, f'{{__name__="{name}"}}', NOW)
    assert element["metric"] == labels


def test_50_series_with_the_same_symbols(p, name):
    series = [{"labels": {"__name__": name, "instance": f"i{i % 5}", "n": str(i)},
               "samples": [(NOW - 1000, float(i)), (NOW, float(-i))]} for i in range(50)]
    answer, written = post_v2(p, series)
    assert (answer.status, written) == (204, (100, 0, 0))
    got = stored(p, name)
    assert got == {(("instance", f"i{i % 5}"), ("n", str(i))): [(NOW - 1000, bits(float(i))), (NOW, bits(float(-i)))]
                   for i in range(50)}


def test_both_versions_are_one_series(p, name):
    labels = {"__name__": name, "a": "1"}
    assert p.write([(labels, [(NOW, 1.0)])]).status == 204
    assert post_v2(p, [{"labels": labels, "samples": [(NOW + 1, 2.0)]}])[1] == (1, 0, 0)
    assert post_v2(p, [{"labels": [("a", "1"), ("__name__", name), ("empty", "")], "samples": [(NOW + 2, 3.0)]}])[1] == \
        (1, 0, 0)
    assert stored(p, name) == {(("a", "1"),): [(NOW + i, bits(1.0 + i)) for i in range(3)]}


def test_sent_twice(p, name):
    series = [{"labels": {"__name__": name}, "samples": [(NOW, 1.0)], "histograms": [histogram(NOW + 1, 0, 0.0)]}]
    for _ in range(2):
        answer, written = post_v2(p, series)
        assert (answer.status, written) == (204, (1, 1, 0))
    assert stored(p, name) == {(): [(NOW, bits(1.0))]}


def test_start_timestamps(p, name):
    series = [{"labels": {"__name__": name}, "samples": [(NOW - 2000, 1.0), (NOW, 2.0, NOW - 60000)]}]
    answer, written = post_v2(p, series)
    assert (answer.status, written) == (204, (2, 0, 0))
    assert stored(p, name) == {(): [(NOW - 2000, bits(1.0)), (NOW, bits(2.0))]}


# ---- what is refused --------------------------------------------------------------------------------

@pytest.mark.parametrize("what, series", {
    "no name": {"labels": {"a": "1"}},
    "empty name": {"labels": {"__name__": "", "a": "1"}},
    "no labels": {"labels": {}},
    "a label twice": {"labels": [("__name__", "x"), ("a", "1"), ("a", "2")]},
    "a label twice with the same value": {"labels": [("__name__", "x"), ("a", "1"), ("a", "1")]},
    "an empty label name": {"labels": {"__name__": "x", "": "1"}},
    "not UTF-8": {"labels": {"__name__": "x", "a": b"\xff\xfe"}},
    "odd references": {"refs": [1, 2, 3]},
    "a reference out of range": {"refs": [1, 500]},
    "a reference beyond 32 bits": {"refs": [1, 1 << 40]},
}.items(), ids=lambda x: x if isinstance(x, str) else "")
def test_bad_labels_beside_good_ones(p, name, what, series):
    """The good ones are stored and counted, the answer is 400 and says why."""
    good = {"labels": {"__name__": name}, "samples": [(NOW, 1.0)], "histograms": [histogram(NOW + 1, 0, 0.0)]}
    bad = {**series, "samples": [(NOW, 1.0)], "histograms": [histogram(NOW + 1, 0, 0.0)]}
    answer, written = post_v2(p, [bad, good])
    assert (answer.status, written) == (400, (1, 1, 0)), answer.body.decode()
    assert answer.body.decode()
    assert stored(p, name) == {(): [(NOW, bits(1.0))]}
    answer, written = post_v2(p, [bad])
    assert (answer.status, written) == (400, (0, 0, 0))


def test_samples_of_the_future(p, name):
    ahead = int(time.time() * 1000) + 3600_000
    answer, written = post_v2(p, [{"labels": {"__name__": name}, "samples": [(NOW, 1.0), (ahead, 2.0)],
                                   "histograms": [histogram(ahead, 0, 0.0)]}])
    assert (answer.status, written) == (400, (1, 0, 0))
    assert "out of bounds" in answer.body.decode()
    assert stored(p, name) == {(): [(NOW, bits(1.0))]}


def test_all_that_is_wrong_is_told(p, name):
    series = [{"labels": {"__name__": name, "n": str(i)}, "histograms": [histogram(NOW, i + 1, 1.0)]} for i in range(20)]
    answer, written = post_v2(p, series + [{"labels": {"__name__": name}, "samples": [(NOW, 1.0)]}])
    assert (answer.status, written) == (400, (1, 0, 0))
    assert answer.body.decode().count("observation count should equal") == 5
    assert "and 15 more" in answer.body.decode()


def test_a_series_with_nothing(p, name):
    answer, written = post_v2(p, [{"labels": {"__name__": name}}])
    assert (answer.status, written) == (400, (0, 0, 0))
    assert "must contain at least one sample or histogram" in answer.body.decode()
    assert not stored(p, name)


def test_no_series(p):
    answer, written = post_v2(p, [])
    assert (answer.status, written) == (204, (0, 0, 0))


# ---- histograms -------------------------------------------------------------------------------------

def test_exponential_histogram(p, name):
    h = histogram(NOW, 12, 18.4, schema=0, zero=2, zero_threshold=0.001, positive=[(0, [1, 2]), (1, [3])],
                  negative=[(0, [4])], start=NOW - 5000)
    answer, written = post_v2(p, [{"labels": {"__name__": name}, "histograms": [h]}])
    assert (answer.status, written) == (204, (0, 1, 0))
    assert instant(p, name, NOW) == {
        "count": "12", "sum": "18.4",
        "buckets": [[1, "-1", "-0.5", "4"], [3, "-0.001", "0.001", "2"], [0, "0.5", "1", "1"], [0, "1", "2", "2"],
                    [0, "4", "8", "3"]]}
    assert p.sql("SELECT (extract(epoch FROM start_time) * 1000)::int8 FROM _prom_data.histograms"
                 " WHERE \"time\" = to_timestamp(%s / 1000.0) AND start_time IS NOT NULL", [NOW]) == [(NOW - 5000,)]


@pytest.mark.parametrize("what, h, buckets", flat({
    "positive only": (dict(count=3, total=5.0, positive=[(1, [3])]), [[0, "1", "2", "3"]]),
    "negative only": (dict(count=3, total=-5.0, negative=[(1, [3])]), [[1, "-2", "-1", "3"]]),
    "zero only": (dict(count=3, total=0.0, zero=3, zero_threshold=0.5), [[3, "-0.5", "0.5", "3"]]),
    "nothing": (dict(count=0, total=0.0), None),
    "floats": (dict(count=2.5, total=5.0, positive=[(1, [1.5, 1.0])], floats=True), [[0, "1", "2", "1.5"], [0, "2", "4", "1"]]),
    "custom": (dict(count=6, total=5.0, schema=-53, positive=[(0, [1, 2, 3])], bounds=[0.5, 10.0]),
               [[3, "-Inf", "0.5", "1"], [0, "0.5", "10", "2"], [0, "10", "+Inf", "3"]]),
    "gauge": (dict(count=3, total=5.0, positive=[(1, [3])], hint=3), [[0, "1", "2", "3"]]),
    "schema 8": (dict(count=3, total=5.0, schema=8, positive=[(256, [3])]), None),
    "schema 9": (dict(count=3, total=5.0, schema=9, positive=[(512, [3])]), None),
    "NaN was observed": (dict(count=4, total=math.nan, positive=[(1, [3])]), [[0, "1", "2", "3"]]),
}), ids=lambda x: x if isinstance(x, str) else "")
def test_kinds_of_histograms(p, name, what, h, buckets):
    answer, written = post_v2(p, [{"labels": {"__name__": name}, "histograms": [histogram(NOW, **h)]}])
    assert (answer.status, written) == (204, (0, 1, 0)), answer.body.decode()
    got = instant(p, name, NOW)
    assert float(got["count"]) == h["count"]
    assert float(got["sum"]) == h["total"] or math.isnan(h["total"])
    if "schema" in what and h["schema"] > 0:
        (rule, lower, upper, n), = got["buckets"]
        assert (rule, upper, n) == (0, "2", "3") and float(lower) == pytest.approx(2 ** (255 / 256), rel=1e-12)
    else:
        assert got.get("buckets") == buckets


def test_stale_histogram(p, name):
    series = {"labels": {"__name__": name}, "histograms": [histogram(NOW - 1000, 0, 0.0), histogram(NOW, 0, STALE)]}
    assert post_v2(p, [series])[1] == (0, 2, 0)
    assert instant(p, name, NOW - 1000)["count"] == "0"
    assert query(p, name, NOW) == []


@pytest.mark.parametrize("what, h, text", flat({
    "count too high": (dict(count=4, total=1.0, positive=[(0, [3])]), "should equal"),
    "count too low": (dict(count=2, total=1.0, positive=[(0, [3])]), "should equal"),
    "fewer than counted with NaN": (dict(count=2, total=math.nan, positive=[(0, [3])]), "at least"),
    "negative population": (dict(count=1, total=1.0, positive=[(0, [3, -2])]), "negative"),
    "negative float population": (dict(count=1.0, total=1.0, positive=[(0, [3.0, -2.0])], floats=True), "negative"),
    "negative float count": (dict(count=-1.0, total=1.0, floats=True), "negative"),
    "negative gap": (dict(count=2, total=1.0, positive=[(0, [1]), (-1, [1])]), "negative"),
    "unknown schema": (dict(count=0, total=0.0, schema=60), "schema"),
    "bounds of a wrong schema": (dict(count=0, total=0.0, schema=1, bounds=[1.0]), "custom bounds"),
    "bounds that fall": (dict(count=0, total=0.0, schema=-53, bounds=[2.0, 1.0]), "increasing"),
    "too few bounds": (dict(count=3, total=0.0, schema=-53, bounds=[1.0], positive=[(0, [1, 1, 1])]), "too few"),
    "too many buckets": (dict(count=50, total=0.0, positive=[(0, [1] * 50)]), "max-histogram-buckets"),
}), ids=lambda x: x if isinstance(x, str) else "")
def test_bad_histograms(p, name, what, h, text):
    good = histogram(NOW - 1000, 1, 1.0, positive=[(0, [1])])
    answer, written = post_v2(p, [{"labels": {"__name__": name}, "histograms": [good, histogram(NOW, **h)]}])
    assert (answer.status, written) == (400, (0, 1, 0))
    assert text in answer.body.decode()
    assert instant(p, name, NOW - 1000)["count"] == "1"


def test_histograms_by_version_1(p, name):
    """Its message is the same."""
    labels = field(1, field(1, b"__name__") + field(2, name.encode()))
    good, bad = (field(4, histogram(NOW + i, 3 + i, 5.0, positive=[(1, [3])])) for i in range(2))
    assert p.post_write(snappy(field(1, labels + good))).status == 204
    assert p.post_write(snappy(field(1, labels + bad))).status == 400
    assert instant(p, name, NOW)["buckets"] == [[0, "1", "2", "3"]]


# ---- exemplars and metadata -------------------------------------------------------------------------

def exemplars_of(p, name):
    return [tuple(row) for row in p.sql(
        "SELECT e.labels, (extract(epoch FROM e.\"time\") * 1000)::int8, e.value FROM _prom_data.exemplar e"
        " JOIN _prom_catalog.metric m ON m.id = e.metric_id WHERE m.metric_name = %s ORDER BY 2", [name])]


def test_exemplars(p, name):
    all_of = [({"trace_id": "abc"}, 1.0, NOW - 3600_000), ({"span": 'a "quoted" \\ text\n日本'}, 2.0, NOW - 1),
              ({}, 3.0, NOW)]
    answer, written = post_v2(p, [{"labels": {"__name__": name}, "samples": [(NOW, 1.0)], "exemplars": all_of}])
    assert (answer.status, written) == (204, (1, 0, 3)), answer.body.decode()
    assert exemplars_of(p, name) == [(labels, ms, value) for labels, value, ms in all_of]


def test_exemplars_of_a_histogram(p, name):
    answer, written = post_v2(p, [{"labels": {"__name__": name}, "histograms": [histogram(NOW, 0, 0.0)],
                                   "exemplars": [({"t": "1"}, 1.0, NOW)]}])
    assert (answer.status, written) == (204, (0, 1, 1))


def test_exemplars_alone(p, name):
    """Prometheus refuses these; the protocol's suite wants them taken."""
    answer, written = post_v2(p, [{"labels": {"__name__": name}, "exemplars": [({"t": "1"}, 1.0, NOW)]}])
    assert (answer.status, written) == (204, (0, 0, 1))
    assert exemplars_of(p, name) == [({"t": "1"}, NOW, 1.0)]


@pytest.mark.parametrize("refs", [[1], [1, 500]], ids=repr)
def test_exemplars_that_refer_to_nothing(p, name, refs):
    answer, written = post_v2(p, [{"labels": {"__name__": name}, "samples": [(NOW, 1.0)],
                                   "exemplars": [({"t": "1"}, 1.0, NOW), (refs, 1.0, NOW)]}])
    assert (answer.status, written) == (400, (1, 0, 1))
    assert "exemplar" in answer.body.decode()


def test_metadata(p, name):
    kinds = ["unknown", "counter", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset"]
    series = [{"labels": {"__name__": f"{name}_{kind}"}, "samples": [(NOW, 1.0)], "metadata": (kind, f"help of {kind}", "s")}
              for kind in kinds]
    for _ in range(2):  # the second time nothing of it is new
        answer, written = post_v2(p, series)
        assert (answer.status, written) == (204, (8, 0, 0))
    assert set(p.sql("SELECT metric_family, type, help, unit FROM _prom_catalog.metadata WHERE metric_family LIKE %s",
                     [name + "%"])) == {(f"{name}_{k}", k, f"help of {k}", "s") for k in kinds}


def test_metadata_is_replaced(p, name):
    for help_text in ("one", "two", "one"):
        series = {"labels": {"__name__": name}, "samples": [(NOW, 1.0)], "metadata": ("gauge", help_text, "")}
        assert post_v2(p, [series])[0].status == 204
    assert {r[0] for r in p.sql("SELECT help FROM _prom_catalog.metadata WHERE metric_family = %s", [name])} >= {"one"}


def test_metadata_alone(p, name):
    """Prometheus refuses this; the protocol's suite wants it taken."""
    answer, written = post_v2(p, [{"labels": {"__name__": name}, "metadata": ("counter", "help", "")}])
    assert (answer.status, written) == (204, (0, 0, 0))
    assert p.sql("SELECT type, help FROM _prom_catalog.metadata WHERE metric_family = %s", [name]) == [("counter", "help")]
    assert not stored(p, name)


def test_metadata_that_refers_to_nothing(p, name):
    body = encode_v2([{"labels": {"__name__": name}, "samples": [(NOW, 1.0)]}])
    bad = field(5, field(1, b"\x01\x02") + field(2, b"\x10\x05") + field(5, b"\x18\x7f"))
    answer, written = post_v2(p, None, None, snappy(body + bad))
    assert (answer.status, written) == (400, (1, 0, 0))
    assert "metadata references" in answer.body.decode()


# ---- kept ---------------------------------------------------------------------------------------------

def test_the_same_after_maintenance(p, name):
    """Floats and histograms of several series, packed and not, as they were, when merged and sealed."""
    series = [{"labels": {"__name__": f"{name}_{m}", "n": str(i)},
               "samples": [(NOW - 60000 + k * 1000, float(k)) for k in range(3)] if i % 2 else [],
               "histograms": [histogram(NOW - 60000 + k * 1000, 3 * k, float(k), positive=[(k, [k, 2 * k])])
                              for k in range(5)] if i % 2 == 0 else []}
              for m in range(3) for i in range(40)]
    answer, written = post_v2(p, series)
    assert (answer.status, written) == (204, (3 * 20 * 3, 3 * 20 * 5, 0))

    def all_of():
        return sorted((sorted(e["metric"].items()), e.get("values", []), e.get("histograms", []))
                      for e in query(p, f'{{__name__=~"{name}_.*"}}[5m]', NOW))

    before = all_of()
    assert len(before) == 120
    assert sum(len(values) + len(histograms) for _, values, histograms in before) == sum(written)
    assert len(before[0][2]) == 5
    p.sql("CALL prom_api.execute_maintenance(force => true)")
    assert {r[0] for r in p.sql("SELECT kind FROM _prom_data.block UNION SELECT kind FROM _prom_data.merged")} == {1, 2}
    assert all_of() == before
