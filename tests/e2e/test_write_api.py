"""Remote write 1.0 as seen from outside: each answer, each limit, and what is stored after each of them."""
import math
import random
import struct
import time

import pytest
from harness import compare, encode, snappy, write_request
from harness.process import wait_until
from harness.remote_write import field, framed, masked_crc32c, varint

LIMITS = {
    "ingest.max-body-bytes": "200KB", "ingest.max-decompressed-bytes": "300KB", "ingest.max-series": 1000,
    "ingest.max-samples": 5000, "ingest.max-labels": 20, "ingest.max-label-name-bytes": 100,
    "ingest.max-label-value-bytes": 1000, "ingest.max-label-set-bytes": 3000, "ingest.max-exemplars": 5,
    "ingest.max-metadata": 5, "ingest.max-future": "1m",
}
NAN_WITH_PAYLOAD = 0x7FF8DEADBEEF0001
MAX_MS = 1 << 63


@pytest.fixture(scope="module")
def p(module_lab):
    """A connector with small limits; all tests write into it, each its own metrics."""
    return module_lab.promscale(args=["--self-scrape=false", *(f"--{name}={value}" for name, value in LIMITS.items())])


@pytest.fixture
def name(request):
    """A metric name of the test's own."""
    return "".join(c if c.isalnum() else "_" for c in request.node.name)


def now_ms():
    return int(time.time() * 1000)


def stored(p, name):
    """{labels without __name__ as sorted pairs: [(ms, bits)] sorted by time}, {} for an unknown metric."""
    if not p.sql("SELECT 1 FROM prom_info.metric WHERE metric_name = %s", [name]):
        return {}
    p.sql("SELECT _prom_catalog.make_metric_views()")
    with compare.session(p) as ask:
        view = compare.sql_metrics(ask)[name]
        found = compare.series_of_view(ask, view, -math.inf, math.inf)
    return {tuple(x for x in labels if x[0] != "__name__"): sorted(rows) for labels, rows in found.items()}


def growth(p, before, metric):
    return p.metrics().get(metric, 0) - before.get(metric, 0)


# ---- headers, encodings, what is no remote write at all ---------------------------------------------

SMALL = [({"__name__": "headers"}, [(1000, 1.0)])]


@pytest.mark.parametrize("headers, status", [
    ({}, 204),
    ({"Content-Type": "application/x-protobuf;proto=prometheus.WriteRequest"}, 204),
    ({"Content-Type": 'Application/X-Protobuf; proto="prometheus.WriteRequest"'}, 204),
    ({"Content-Type": ""}, 204),
    ({"Content-Encoding": ""}, 204),
    ({"Content-Encoding": "Snappy"}, 204),
    ({"X-Prometheus-Remote-Write-Version": ""}, 204),
    ({"Content-Type": "application/json"}, 415),
    ({"Content-Type": "application/x-protobuf;proto=something.Else"}, 415),
    ({"Content-Encoding": "gzip"}, 415),
    ({"Content-Encoding": "zstd"}, 415),
], ids=repr)
def test_headers(p, headers, status):
    answer = p.post_write(write_request(SMALL), headers=headers)
    assert answer.status == status
    assert bool(answer.body) == (status != 204)


def test_method(p):
    assert p.http("GET", "/api/v1/write").status == 405
    assert p.http("PUT", "/write", write_request(SMALL)).status == 405


def test_empty_requests(p):
    """Nothing to store is stored."""
    assert p.post_write(snappy(b"")).status == 204
    assert p.write([({"__name__": "no_samples"}, [])]).status == 204
    assert not p.sql("SELECT 1 FROM prom_info.metric WHERE metric_name = 'no_samples'")


CORRUPT = {
    "no body": b"",
    "not snappy": b"\xff" * 100,
    "snappy that ends early": write_request(SMALL)[:-3],
    "snappy that announces more": b"\x7f" + write_request(SMALL)[1:],
    "not protobuf": snappy(b"\x0f\xff\xff\xff"),
    "protobuf that ends early": snappy(encode(SMALL)[:-1]),
    "a length beyond the end": snappy(b"\x0a\x7f" + b"\x00" * 10),
    "an endless varint": snappy(b"\x0a" + b"\xff" * 11),
    "good, then broken": snappy(encode([({"__name__": "before_corruption"}, [(1000, 1.0)])]) + b"\x0a\x7f\x01"),
    "frames with a wrong checksum": framed(encode(SMALL))[:14] + b"\0\0\0\0" + framed(encode(SMALL))[18:],
    "frames that end early": framed(encode(SMALL))[:-20],
}


@pytest.mark.parametrize("what", CORRUPT)
def test_corrupt(p, what):
    answer = p.post_write(CORRUPT[what])
    assert answer.status == 400 and answer.body
    assert not p.sql("SELECT 1 FROM prom_info.metric WHERE metric_name = 'before_corruption'")


def test_framed_snappy(p, name):
    series = [({"__name__": name, "n": str(i)}, [(1000, float(i))]) for i in range(100)]
    assert p.post_write(framed(encode(series))).status == 204
    assert stored(p, name) == {(("n", str(i)),): [(1000, compare.bits(float(i)))] for i in range(100)}


def test_unknown_fields_are_skipped(p, name):
    body = encode([({"__name__": name}, [(1000, 1.0)])]) + field(99, b"of the future") + b"\xf8\x06\x05"
    assert p.post_write(snappy(body)).status == 204
    assert stored(p, name) == {(): [(1000, compare.bits(1.0))]}


# ---- partly bad requests: the good part is stored ----------------------------------------------------

BAD_SERIES = {  # labels, samples, what the text says
    "no name": ([("job", "x")], [(1000, 1.0)], "__name__"),
    "an empty name": ([("__name__", ""), ("job", "x")], [(1000, 1.0)], "__name__"),
    "a name twice": ([("__name__", "bad"), ("job", "x"), ("job", "y")], [(1000, 1.0)], "job"),
    "a label name not UTF-8": ([("__name__", "bad"), (b"\xff\xfe", "x")], [(1000, 1.0)], "UTF-8"),
    "a label value not UTF-8": ([("__name__", "bad"), ("x", b"\xc3\x28")], [(1000, 1.0)], "UTF-8"),
    "a surrogate": ([("__name__", "bad"), ("x", b"\xed\xa0\x80")], [(1000, 1.0)], "UTF-8"),
    "NUL in a value": ([("__name__", "bad"), ("x", "a\0b")], [(1000, 1.0)], "NUL"),
    "NUL in a name": ([("__name__", "bad"), ("a\0b", "x")], [(1000, 1.0)], "NUL"),
    "an empty label name": ([("__name__", "bad"), ("", "x")], [(1000, 1.0)], "empty"),
    "no labels": ([], [(1000, 1.0)], ""),
    "too far ahead": ([("__name__", "bad_ahead")], [(now_ms() + 3600000, 1.0)], "out of bounds"),
    "beyond timestamptz": ([("__name__", "bad_late")], [(MAX_MS - 1, 1.0)], "out of bounds"),
    "before timestamptz": ([("__name__", "bad_early")], [(-MAX_MS, 1.0)], "out of bounds"),
    "too many labels": ([("__name__", "bad"), *((f"l{i:02}", "x") for i in range(20))], [(1000, 1.0)], "labels"),
    "a long label name": ([("__name__", "bad"), ("n" * 101, "x")], [(1000, 1.0)], "100"),
    "a long label value": ([("__name__", "bad"), ("x", "v" * 1001)], [(1000, 1.0)], "1000"),
    "a large label set": ([("__name__", "bad"), *((f"l{i}", "v" * 900) for i in range(4))], [(1000, 1.0)], "3000"),
}
REASONS = {"too far ahead": "future", "beyond timestamptz": "time", "before timestamptz": "time",
           "too many labels": "label-limit", "a long label name": "label-limit", "a long label value": "label-limit",
           "a large label set": "label-limit"}


@pytest.mark.parametrize("what", BAD_SERIES)
def test_one_bad_series(p, name, what):
    labels, samples, said = BAD_SERIES[what]
    before = p.metrics()
    good = [({"__name__": name, "n": str(i)}, [(1000, float(i)), (2000, float(i))]) for i in range(3)]
    answer = p.post_write(write_request([good[0], (labels, samples), *good[1:]]))
    assert answer.status == 400
    text = answer.body.decode()
    assert said in text, text
    if dict(labels).get("__name__") and "too many" not in what and "twice" not in what:
        assert "bad" in text, "it does not name the series: " + text
    assert stored(p, name) == {(("n", str(i)),): [(1000, compare.bits(float(i))), (2000, compare.bits(float(i)))]
                               for i in range(3)}
    assert not p.sql("SELECT 1 FROM prom_info.metric WHERE starts_with(metric_name, 'bad')")
    reason = REASONS.get(what, "labels")
    assert growth(p, before, f'promscale_ingest_items_refused_total{{type="metric",reason="{reason}"}}') == 1
    assert growth(p, before, 'promscale_ingest_requests_total{type="metric",code="400"}') == 1


def test_good_samples_of_a_partly_bad_series(p, name):
    now = now_ms()
    answer = p.post_write(write_request([({"__name__": name}, [(now - 1, 1.0), (now + 3600000, 2.0), (now, 3.0)])]))
    assert answer.status == 400
    assert name in answer.body.decode()
    assert stored(p, name) == {(): [(now - 1, compare.bits(1.0)), (now, compare.bits(3.0))]}


def test_many_bad_series_make_a_short_text(p, name):
    bad = [({"__name__": f"bad_{i}", "x": "v" * 1001}, [(1000, 1.0)]) for i in range(100)]
    answer = p.post_write(write_request([*bad, ({"__name__": name}, [(1000, 1.0)])]))
    assert answer.status == 400
    assert b"bad_0" in answer.body and len(answer.body) < 8192
    assert "more" in answer.body.decode()
    assert len(stored(p, name)) == 1


def test_what_is_not_bad(p, name):
    """Unsorted labels, empty values (as absent), any UTF-8 name, samples in any order, a little ahead."""
    now = now_ms()
    p.write([([("z", "1"), ("__name__", name), ("a", ""), ("b", "2")], [(now + 30000, 1.0), (now, 2.0), (-5, 3.0)])])
    assert stored(p, name) == {(("b", "2"), ("z", "1")): [(-5, compare.bits(3.0)), (now, compare.bits(2.0)),
                                                         (now + 30000, compare.bits(1.0))]}
    odd = 'ünï. "code" {%s}' % name
    p.write([({"__name__": odd, "a.b c": "\x01\n\\"}, [(1000, 1.0)])])
    assert stored(p, odd) == {(("a.b c", "\x01\n\\"),): [(1000, compare.bits(1.0))]}


# ---- limits of a request ------------------------------------------------------------------------------

def test_body_limit(p):
    before = p.metrics()
    answer = p.post_write(write_request([({"__name__": "bad", "x": "v" * 210000}, [(1000, 1.0)])]))
    assert answer.status == 413
    assert growth(p, before, 'promscale_http_requests_refused_total{reason="too_large"}') == 1


def test_decompressed_limit(p):
    """A small body that becomes large: refused by what it announces, and by what frames add up to."""
    before = p.metrics()
    limit = 'promscale_ingest_limit_hits_total{type="metric",limit="decompressed-bytes"}'

    def run_of_a(copies):  # one byte, and then 64 of it each
        return varint(1 + 64 * copies) + b"\x00a" + b"\xfe\x01\x00" * copies

    assert p.post_write(run_of_a(6000)).status == 413
    assert growth(p, before, limit) == 1
    chunk = struct.pack("<I", masked_crc32c(b"a" * 64001)) + run_of_a(1000)
    chunk = b"\x00" + struct.pack("<I", len(chunk))[:3] + chunk
    assert p.post_write(framed(b"") + 4 * chunk).status != 413
    assert p.post_write(framed(b"") + 5 * chunk).status == 413
    assert growth(p, before, limit) == 2


def test_series_limit(p, name):
    before = p.metrics()
    series = [({"__name__": name, "n": str(i)}, [(1000, 1.0)]) for i in range(1001)]
    answer = p.post_write(write_request(series))
    assert answer.status == 413 and b"1000 series" in answer.body
    assert growth(p, before, 'promscale_ingest_limit_hits_total{type="metric",limit="series"}') == 1
    assert stored(p, name) == {}
    p.write(series[1:])
    assert len(stored(p, name)) == 1000


def test_samples_limit(p, name):
    before = p.metrics()
    samples = [(i, 1.0) for i in range(5001)]
    answer = p.post_write(write_request([({"__name__": name}, samples)]))
    assert answer.status == 413 and b"5000 samples" in answer.body
    assert growth(p, before, 'promscale_ingest_limit_hits_total{type="metric",limit="samples"}') == 1
    assert stored(p, name) == {}
    p.write([({"__name__": name}, samples[1:])])
    assert len(stored(p, name)[()]) == 5000


def test_limit_of_exemplars(p, name):
    """Exemplars never cost samples; those of the series that is beyond the limit are left out."""
    before = p.metrics()
    now = now_ms()
    p.write([({"__name__": name, "n": n}, [(now, 1.0)], [({"id": n + str(i)}, 1.0, now - i) for i in range(3)])
             for n in "abc"])
    assert len(stored(p, name)) == 3
    assert growth(p, before, 'promscale_ingest_limit_hits_total{type="metric",limit="exemplars"}') == 2
    assert exemplars(p, name) == [({"id": f"a{i}"}, 1.0, now - i) for i in range(3)]


def test_limit_of_metadata(p, name):
    before = p.metrics()
    p.write([({"__name__": name}, [(1000, 1.0)])], families=[(f"{name}_{i}", "gauge") for i in range(7)])
    assert len(stored(p, name)[()]) == 1
    assert growth(p, before, 'promscale_ingest_limit_hits_total{type="metric",limit="metadata"}') == 2
    assert len(metadata(p, name)) == 5


# ---- what is stored -----------------------------------------------------------------------------------

def exemplars(p, name):
    return p.sql("SELECT e.labels, e.value, (extract(epoch FROM e.time) * 1000)::int8 FROM _prom_data.exemplar e"
                 " JOIN _prom_catalog.metric m ON m.id = e.metric_id WHERE m.metric_name = %s ORDER BY 3 DESC", [name])


def metadata(p, name):
    """Metadata is stored beside the samples and does not delay their answer."""
    return wait_until("no metadata", lambda: p.sql(
        "SELECT metric_family, type, unit, help FROM _prom_catalog.metadata WHERE starts_with(metric_family, %s)"
        " ORDER BY 1, 2", [name]), 10)


def test_metadata(p, name):
    families = [(f"{name}_total", "counter", "How often.\nTwo lines", "seconds"), (f"{name}_x", "gaugehistogram")]
    for _ in range(2):
        p.write([], families=families)
    assert metadata(p, name) == [(f"{name}_total", "counter", "seconds", "How often.\nTwo lines"),
                                 (f"{name}_x", "gaugehistogram", "", "")]


def test_exemplars(p, name):
    now = now_ms()
    several = [({"trace_id": "abc", "span": "ü"}, 0.25, now), ({}, 7.0, now - 5)]
    for _ in range(2):  # idempotent
        p.write([({"__name__": name, "le": "1"}, [(now, 1.0)], several)])
    assert exemplars(p, name) == several
    # without a sample of its own, of a series that is new
    p.write([({"__name__": name + "_alone"}, [], [({"trace_id": "d"}, 1.0, now)])])
    assert exemplars(p, name + "_alone") == [({"trace_id": "d"}, 1.0, now)]


def test_duplicates(p, name):
    """Sent again is stored once; counted where one flush has them twice."""
    times = range(now_ms() - 86400000, now_ms() - 86390000, 1000)
    series = [({"__name__": name, "n": str(i)}, [(t, float(t)) for t in times]) for i in range(3)]
    for _ in range(3):
        p.write(series)
    before = p.metrics()
    p.write([*series, *series])
    assert growth(p, before, 'promscale_ingest_duplicates_total{type="metric",kind="sample"}') >= 30
    want = {(("n", str(i)),): [(t, compare.bits(float(t))) for t in times] for i in range(3)}
    assert stored(p, name) == want
    p.sql("CALL prom_api.execute_maintenance(force => true)")
    p.write(series)
    assert stored(p, name) == want


def test_first_value_wins(p, name):
    """Within a request, between requests, and against what is sealed."""
    t = now_ms() - 5 * 86400000
    before = p.metrics()
    p.write([({"__name__": name}, [(t, 1.0), (t, 2.0)])])
    assert growth(p, before, 'promscale_ingest_conflicts_total{type="metric",kind="sample"}') == 1
    p.write([({"__name__": name}, [(t, 3.0)])])
    assert stored(p, name) == {(): [(t, compare.bits(1.0))]}
    p.sql("CALL prom_api.execute_maintenance(force => true)")
    p.write([({"__name__": name}, [(t, 4.0)])])
    assert stored(p, name) == {(): [(t, compare.bits(1.0))]}
    p.sql("CALL prom_api.execute_maintenance(force => true)")
    assert stored(p, name) == {(): [(t, compare.bits(1.0))]}


def test_old_and_unordered_samples(p, name):
    """Any age, in any order, into sealed days too; each sample stays what it was."""
    rng = random.Random(1)
    now = now_ms()
    times = [now - 1000 * i for i in range(300)] + [now - 80 * 86400000 + 60000 * i for i in range(300)]
    rng.shuffle(times)
    want = []
    for at in range(0, len(times), 100):
        part = [(t, rng.random()) for t in times[at:at + 100]]
        p.write([({"__name__": name}, part)])
        want += [(t, compare.bits(v)) for t, v in part]
        p.sql("CALL prom_api.execute_maintenance(force => true)")
        assert stored(p, name) == {(): sorted(want)}


def test_values_to_the_bit(p, name):
    """Also after they have been merged and sealed."""
    now = now_ms()
    values = [0.0, -0.0, math.inf, -math.inf, 5e-324, 0.1, 2.0 ** 53 + 2, NAN_WITH_PAYLOAD, compare.STALE_MARKER,
              0x7FF8000000000001, 0xFFF8000000000000, 0x7FF0000000000001]
    p.write([({"__name__": name}, [(now - i, v) for i, v in enumerate(values)])])
    want = {(): sorted((now - i, v if isinstance(v, int) else compare.bits(v)) for i, v in enumerate(values))}
    assert stored(p, name) == want
    p.sql("CALL prom_api.execute_maintenance(force => true)")
    assert stored(p, name) == want
    (n,) = p.sql(f"SELECT count(*) FROM prom_metric.{name} WHERE float8send(value) = '\\x7ff8deadbeef0001'")
    assert n == (1,)
