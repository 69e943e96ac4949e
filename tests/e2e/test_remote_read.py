"""Remote read: both kinds of answers from fresh, merged and sealed data, limits, bad requests, clients that leave."""
import json
import socket
import struct
import time
import urllib.parse

import pytest
from harness import remote_read as rr
from harness.process import wait_until
from harness.remote_write import field, label, sample, snappy, time_series, varint

T0 = 1_700_000_000_000  # ms
FORMS = {"fresh": None, "merged": "SELECT _prom_ext.merge_step()", "sealed": "SELECT _prom_ext.seal_step(true)"}
STALE = 0x7ff0000000000002
MIN, MAX = -(1 << 63), (1 << 63) - 1


def bits(v):
    return v if isinstance(v, int) and v > 1 << 53 else struct.unpack("<Q", struct.pack("<d", v))[0]


def label_order(series):
    return [sorted((k.encode(), v.encode()) for k, v in labels.items()) for labels, _ in series]


def written():
    """What is in the database, by the label set: several metrics, names that sort around __name__, odd values."""
    out = []
    for m in range(3):
        for i in range(40):
            labels = {"__name__": f"rr_{m}", "i": f"{(i * 7) % 40}", "job": "x" if i % 2 else "y"}
            if i % 5 == 0:
                labels["Zone"] = f"z{i % 3}"
            n = 1 if i == 3 else 300
            out.append((labels, [(T0 + 15_000 * k + (k * i * 7919) % 400, float(k * i) / 8) for k in range(n)]))
    out.append(({"__name__": "rr_odd"}, [(T0 + k * 1000, v) for k, v in enumerate(
        (float("inf"), float("-inf"), -0.0, 0.0, 5e-324, 1.7976931348623157e308, STALE, 0x7ff8000000000001, 0x7ff8dead00000000))]))
    out.append(({"__name__": "rr_far"}, [(-5_000_000_000, 1.0), (0, 2.0), (1, 3.0), (T0, 4.0), (T0 + 86_400_000 * 40, 5.0)]))
    return out


HISTOGRAM_LABELS = {"__name__": "rh_lat", "i": "1"}
HISTOGRAMS = ([(T0 + 1000 * k, [k + 1, 2, 3 * k + 1], k // 100 - 5, k / 2) for k in range(250)]
              + [(T0 + 1000 * k, [5, k], 0, 1.5, (0.5, 2.5)) for k in range(250, 300)])


def expected(series, want=lambda labels: True, start=MIN, end=MAX):
    out = [(labels, [(t, bits(v)) for t, v in samples if start <= t <= end]) for labels, samples in series if want(labels)]
    return sorted(((a, b) for a, b in out if b), key=lambda s: label_order([s]))


@pytest.fixture(scope="module")
def p(module_lab):
    it = module_lab.promscale(args=["--self-scrape=false", "--ingest.max-future=2000d", "--remote-read.sample-limit=40000"])
    it.data = written()
    it.write(it.data)
    body = rr.histogram_series(HISTOGRAM_LABELS, HISTOGRAMS) + field(
        1, time_series(HISTOGRAM_LABELS, [(T0 - 1000, 1.0), (T0 + 300_500, 2.0)]))
    assert it.post_write(snappy(body)).status == 204
    return it


@pytest.fixture(scope="module", params=list(FORMS))
def form(request, p):
    """The same in each form; they come in this order (the database may be ahead: it cares for itself)."""
    def there():
        """A step does nothing while the database takes one of its own."""
        if FORMS[request.param]:
            p.sql(FORMS[request.param])
        return min(r[0] for r in p.sql(
            "SELECT level FROM _prom_data.fresh UNION SELECT level FROM _prom_data.merged UNION SELECT level FROM"
            " _prom_data.block UNION SELECT level FROM _prom_data.block_far")) >= list(FORMS).index(request.param)

    wait_until(f"it is not {request.param}", there, 30)
    return request.param


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("chunks", [False, True])
def test_all_samples_come_back_in_order(p, chunks):
    results = rr.ask(p, [rr.query([("__name__", "rr_.*", rr.RE)], MIN, MAX)], chunks)
    assert results == [expected(p.data)]
    assert label_order(results[0]) == sorted(label_order(results[0]))


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("chunks", [False, True])
def test_queries_stand_for_themselves(p, chunks):
    start, end = T0 + 1_000_000, T0 + 2_000_017
    queries = [
        rr.query({"__name__": "rr_1", "job": "x"}, start, end),
        rr.query({"__name__": "no_such_metric"}, MIN, MAX),
        rr.query([("__name__", "rr_[02]", rr.RE), ("job", "x", rr.NEQ), ("Zone", "z[01]", rr.NRE)], T0, T0 + 15_000),
        rr.query({"__name__": "rr_odd"}, T0 + 3000, T0 + 3000),
        rr.query({"__name__": "rr_odd"}, T0 + 3001, T0 + 3999),
        rr.query({"__name__": "rr_odd"}, T0 + 3000, T0 + 2000),
        rr.query({"__name__": "rr_1", "Zone": ""}, start, end, hints=b"\x08\x05\x12\x04rate"),
    ]
    want = [
        expected(p.data, lambda x: x["__name__"] == "rr_1" and x.get("job") == "x", start, end),
        [],
        expected(p.data, lambda x: x["__name__"] in ("rr_0", "rr_2") and x.get("job") != "x"
                 and x.get("Zone") not in ("z0", "z1"), T0, T0 + 15_000),
        expected(p.data, lambda x: x["__name__"] == "rr_odd", T0 + 3000, T0 + 3000),
        [],
        [],
        expected(p.data, lambda x: x["__name__"] == "rr_1" and "Zone" not in x, start, end),
    ]
    assert rr.ask(p, queries, chunks) == want
    assert want[0] and want[2] and want[3] and want[6]


@pytest.mark.usefixtures("form")
def test_the_same_as_promql(p):
    """What is asked for as samples and what a range selector gives."""
    form = urllib.parse.urlencode({"query": "rr_2[20m]", "time": T0 / 1000 + 3000})
    said = json.loads(p.get(f"/api/v1/query?{form}").body)["data"]["result"]
    got = rr.ask(p, [rr.query({"__name__": "rr_2"}, T0 + 1_800_001, T0 + 3_000_000)])[0]
    assert sorted((sorted(s["metric"].items()), [(round(t * 1000), bits(float(v))) for t, v in s["values"]]) for s in said) == sorted(
        (sorted(labels.items()), samples) for labels, samples in got)
    assert len(got) > 30


@pytest.mark.usefixtures("form")
def test_histograms_come_back(p):
    """As they were written, beside floats of the same series; in a stream as chunks of their own kind."""
    (got, points), = rr.ask(p, [rr.query({"__name__": "rh_lat"}, MIN, MAX)])[0]
    assert got == HISTOGRAM_LABELS
    floats = [(t, v) for t, v in points if isinstance(v, int)]
    assert floats == [(T0 - 1000, bits(1.0)), (T0 + 300_500, bits(2.0))]
    want = {i[0]: {k: v for k, v in rr.fields(rr.histogram(*i)) if v} for i in HISTOGRAMS}
    assert {t: {k: v for k, v in f if v and k != 14} for t, f in points if isinstance(f, list)} == want
    (got, points), = rr.ask(p, [rr.query({"__name__": "rh_lat"}, T0, T0 + 299_000)], chunks=True)[0]
    assert got == HISTOGRAM_LABELS and {kind for kind, _ in points} == {2}
    assert sum(struct.unpack(">H", data[:2])[0] for _, data in points) == 300


def test_answers_without_anything(p):
    assert rr.ask(p, []) == []
    assert rr.ask(p, [], chunks=True) == []
    assert rr.post(p, snappy(b"")).status == 200
    assert rr.ask(p, [rr.query({"__name__": "none"}, MIN, MAX)], chunks=True) == [[]]


def test_all_series_without_matchers(p):
    got = rr.ask(p, [rr.query([], T0 - 1, T0 + 10)])[0]
    assert [s for s in got if s[0]["__name__"] != "rh_lat"] == expected(p.data, start=T0 - 1, end=T0 + 10)


def test_the_first_type_that_is_known_counts(p):
    queries = [rr.query({"__name__": "rr_odd"}, MIN, MAX)]
    for types, content_type in (((), "application/x-protobuf"), ((0, 1), "application/x-protobuf"), ((1, 0), rr.STREAM),
                                ((7, 1), rr.STREAM), ((9, 0, 1), "application/x-protobuf")):
        a = rr.post(p, rr.request(queries, types))
        assert (a.status, a.headers["Content-Type"]) == (200, content_type)
    unpacked = snappy(field(1, queries[0]) + b"\x10\x01")  # not packed
    assert rr.post(p, unpacked).headers["Content-Type"] == rr.STREAM
    assert rr.post(p, rr.request(queries, [1]), path="/read").headers["Content-Type"] == rr.STREAM


MANY = field(1, field(3, rr.matcher("a", "b"))) * 1001


@pytest.mark.parametrize("body, status, text", [
    (b"", 400, "snappy"),
    (b"\xff\xff\xff", 400, "snappy"),
    (b"no snappy at all", 400, ""),
    (varint(33 << 20) + b"\x00", 400, ""),
    (snappy(b"\x0a\x05\x08"), 400, "the read request is damaged"),
    (snappy(b"\x0a\x02\x18\x01"), 400, "wrong wire type"),
    (snappy(field(1, field(3, b"\x08\x04"))), 400, "invalid matcher type"),
    (snappy(field(1, field(3, field(2, b"\xff")))), 400, "not valid UTF-8"),
    (snappy(field(2, b"\x07\x08")), 400, "does not support any of the requested response types"),
    (snappy(MANY), 400, "more than 1000 queries"),
    (rr.request([rr.query([("a", "(", rr.RE)], 0, 1)]), 400, "missing closing )"),
    (rr.request([rr.query([("a", "(", rr.RE)], 0, 1)], [1]), 400, "missing closing )"),
])
def test_bad_requests(p, body, status, text):
    a = rr.post(p, body)
    assert a.status == status, a.body[:200]
    assert a.headers["Content-Type"].startswith("text/plain")
    assert text in a.body.decode()


def test_methods(p):
    for method in ("GET", "PUT", "DELETE"):
        a = p.http(method, "/api/v1/read")
        assert a.status == 405 and a.headers["Allow"] == "POST"


def test_the_sample_limit(lab):
    p = lab.promscale(args=["--self-scrape=false", "--remote-read.sample-limit=1000", "--remote-read.max-bytes-in-frame=1KB"])
    p.write([({"__name__": "s", "i": str(i)}, [(T0 + k, float(k)) for k in range(250)]) for i in range(5)])
    q = rr.query({"__name__": "s"}, T0, T0 + 199)
    assert sum(len(s) for _, s in rr.ask(p, [q, q])[1]) == 1000  # each query for itself
    a = rr.post(p, rr.request([q, rr.query({"__name__": "s"}, T0, T0 + 200)]))
    assert (a.status, a.body) == (400, b"exceeded sample limit (1000)\n")
    # ... which streams do not have; and small frames
    a = rr.post(p, rr.request([rr.query({"__name__": "s"}, MIN, MAX)], [1]))
    assert sum(len(s) for _, s in rr.decode_chunks(a.body, 1)[0]) == 1250
    sizes = [sum(len(c[3]) for c in chunks) for _, _, chunks in rr.frames(a.body)]
    assert len(sizes) >= 5 and max(sizes) < 2048


def backends(p):
    return p.sql("SELECT count(*) FROM pg_stat_activity WHERE state <> 'idle' AND pid <> pg_backend_pid()"
                 " AND backend_type = 'client backend' AND application_name LIKE '%query%'")[0][0]


BIG = [(T0 + k * 15_000, (k * 7919 % 1000003) / 997.0) for k in range(5000)]


def write_big(p, parts):
    """Fifty series a part, all with the same samples."""
    samples = b"".join(field(2, sample(*s)) for s in BIG)
    for part in range(parts):
        body = b"".join(field(1, field(1, label("__name__", "big")) + field(1, label("i", f"{part:02}{i:03}")) + samples)
                        for i in range(50))
        assert p.post_write(snappy(body)).status == 204


def check_big(body, parts):
    """All series in order, each whole; of some every sample."""
    want = [(t, bits(v)) for t, v in BIG]
    seen = []
    for n, (_, labels, chunks) in enumerate(rr.frames(body)):
        assert [c[1] for c in chunks] == sorted(c[1] for c in chunks)
        seen.append((labels["i"], sum(struct.unpack(">H", c[3][:2])[0] for c in chunks), chunks[0][1], chunks[-1][2]))
        if n % 40 == 0:
            assert [s for c in chunks for s in rr.decode_xor(c[3])] == want
    assert seen == [(f"{part:02}{i:03}", 5000, T0, T0 + 4999 * 15_000) for part in range(parts) for i in range(50)]


@pytest.fixture(scope="module")
def big(module_lab):
    """4.5 million samples that do not shrink: more than the sockets and buffers between us hold, and than one batch."""
    p = module_lab.promscale(args=["--self-scrape=false", "--shutdown-timeout=2s"])
    write_big(p, 18)
    p.sql(FORMS["merged"])
    p.sql(FORMS["sealed"])
    return p


def begin_stream(p):
    body = rr.request([rr.query({"__name__": "big"}, MIN, MAX)], [1])
    head = "".join(f"{k}: {v}\r\n" for k, v in rr.HEADERS.items())
    s = socket.create_connection(("127.0.0.1", p.port), timeout=30)
    s.sendall(f"POST /api/v1/read HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    assert s.recv(15) == b"HTTP/1.1 200 OK"
    return s


def test_a_large_stream_is_whole(big):
    check_big(rr.post(big, rr.request([rr.query({"__name__": "big"}, MIN, MAX)], [1])).body, 18)


def read_stream(s):
    """The rest of an answer that begin_stream() began."""
    data = bytearray()
    while part := s.recv(1 << 20):
        data += part
    at = data.index(b"\r\n\r\n") + 4
    out = bytearray()
    while True:
        end = data.index(b"\r\n", at)
        n = int(data[at:end], 16)
        out += data[end + 2:end + 2 + n]
        at = end + 4 + n
        if n == 0:
            return bytes(out)


def test_an_answer_is_of_one_moment(lab):
    """What is read meanwhile is merged, sealed and added to."""
    p = lab.promscale(args=["--self-scrape=false"])
    write_big(p, 12)
    s = begin_stream(p)
    p.write([({"__name__": "big", "i": "00000"}, [(T0 + 1, 1.0)]), ({"__name__": "big", "i": "x"}, [(T0, 1.0)])])
    before = p.sql("SELECT count(*) FROM _prom_data.fresh")[0][0]
    wait_until("nothing is merged", lambda: p.sql(FORMS["merged"]) and p.sql("SELECT count(*) FROM _prom_data.fresh")[0][0]
               < before / 2, 20)
    p.sql(FORMS["sealed"])
    check_big(read_stream(s), 12)
    s.close()


def test_a_series_longer_than_memory_for_many(lab):
    """... comes in parts."""
    p = lab.promscale(args=["--self-scrape=false"])
    n = 900_000
    for first in range(0, n, 300_000):
        samples = b"".join(field(2, sample(T0 + k * 1000, (k * 7919 % 1000003) / 997.0)) for k in range(first, first + 300_000))
        assert p.post_write(snappy(field(1, field(1, label("__name__", "long")) + samples))).status == 204
    chunks = []
    for query, labels, part in rr.frames(rr.post(p, rr.request([rr.query({}, MIN, MAX)], [1])).body):
        assert (query, labels) == (0, {"__name__": "long"})
        chunks += part
    assert sum(len(c[3]) for c in chunks) > 5 << 20
    times = [t for c in chunks for t in c[1:3]]
    assert times == sorted(times) and times[0] == T0 and times[-1] == T0 + (n - 1) * 1000
    assert sum(struct.unpack(">H", c[3][:2])[0] for c in chunks) == n
    for c in chunks[::100]:
        assert rr.decode_xor(c[3]) == [(t, bits(((t - T0) // 1000 * 7919 % 1000003) / 997.0)) for t in range(c[1], c[2] + 1, 1000)]


def test_a_client_that_leaves_ends_the_reading(big):
    s = begin_stream(big)
    time.sleep(0.5)
    assert backends(big) == 1, "it waits for its client, with its transaction"
    s.close()
    wait_until("the reading goes on", lambda: backends(big) == 0, 5, every=0.05)


def test_a_stop_ends_streams(big):
    s = begin_stream(big)
    began = time.monotonic()
    assert big.stop() == 0
    assert time.monotonic() - began < 25
    s.close()
