"""Remote read, encoded and decoded by hand so that nothing of the tested code is used.

    ask(p, [query({"__name__": "up"}, start_ms, end_ms)], chunks=True)  ->  [[(labels, samples), ...], ...]

labels is a dict, samples a list of (time in ms, bits of the value as an int), or (time in ms, {fields}) for a
histogram in an answer of samples. Chunks of histograms are given as (encoding, bytes).
"""
import struct

from .remote_write import crc32c, field, snappy, text, time_series, varint

EQ, NEQ, RE, NRE = range(4)
SAMPLES, CHUNKS = 0, 1
HEADERS = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy", "Accept-Encoding": "snappy",
           "X-Prometheus-Remote-Read-Version": "0.1.0", "User-Agent": "promscale-test"}
STREAM = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse"


# ---- requests ---------------------------------------------------------------------------------------------

def matcher(name, value, kind=EQ):
    return b"\x08" + varint(kind) + field(2, text(name)) + field(3, text(value))


def query(matchers, start_ms, end_ms, hints=b""):
    """matchers: {name: value} or [(name, value, kind)]."""
    if isinstance(matchers, dict):
        matchers = [(k, v, EQ) for k, v in matchers.items()]
    return (b"\x08" + varint(start_ms) + b"\x10" + varint(end_ms) + b"".join(field(3, matcher(*m)) for m in matchers)
            + (field(4, hints) if hints else b""))


def request(queries, types=()):
    return snappy(b"".join(field(1, q) for q in queries)
                  + (field(2, b"".join(varint(t) for t in types)) if types else b""))


# ---- histograms to be written -----------------------------------------------------------------------------

def zigzag(n):
    return varint(n << 1 ^ n >> 63)


def histogram(t_ms, buckets, offset, total, custom=()):
    """A message: integers, positive buckets only."""
    deltas = b"".join(zigzag(b - a) for a, b in zip([0, *buckets], buckets))
    zero = 0 if custom else 2
    return (b"\x08" + varint(sum(buckets) + zero) + b"\x19" + struct.pack("<d", total) + b"\x20" + zigzag(-53 if custom else 1)
            + (b"" if custom else b"\x29" + struct.pack("<d", 0.001)) + b"\x30" + varint(zero)
            + field(11, (b"\x08" + zigzag(offset) if offset else b"") + b"\x10" + varint(len(buckets))) + field(12, deltas)
            + b"\x78" + varint(t_ms) + (field(16, struct.pack(f"<{len(custom)}d", *custom)) if custom else b""))


def histogram_series(labels, items):
    """A series of a write request; items: arguments of histogram()."""
    return field(1, time_series(labels, []) + b"".join(field(4, histogram(*i)) for i in items))


# ---- protobuf ---------------------------------------------------------------------------------------------

def read_varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def signed(n):
    return n - (1 << 64) if n >> 63 else n


def fields(data):
    at = 0
    while at < len(data):
        tag, at = read_varint(data, at)
        if tag & 7 == 0:
            value, at = read_varint(data, at)
        elif tag & 7 == 1:
            value, at = struct.unpack_from("<Q", data, at)[0], at + 8
        else:
            assert tag & 7 == 2, tag
            n, at = read_varint(data, at)
            value, at = data[at:at + n], at + n
            assert len(value) == n
        yield tag >> 3, value


def unsnappy(data):
    n, at = read_varint(data, 0)
    out = bytearray()
    while at < len(data):
        tag, at = data[at], at + 1
        length = tag >> 2
        if tag & 3 == 0:
            if length >= 60:
                size = length - 59
                length, at = int.from_bytes(data[at:at + size], "little"), at + size
            out += data[at:at + length + 1]
            at += length + 1
            continue
        if tag & 3 == 1:
            length, back, at = (length & 7) + 4, tag >> 5 << 8 | data[at], at + 1
        else:
            size = 2 if tag & 3 == 2 else 4
            length, back, at = length + 1, int.from_bytes(data[at:at + size], "little"), at + size
        while length > 0:
            part = out[-back:][:length]
            out += part
            length -= len(part)
    assert len(out) == n
    return bytes(out)


def read_labels(parts):
    pairs = []
    for part in parts:
        f = dict(fields(part))
        pairs.append((f.get(1, b"").decode(), f.get(2, b"").decode()))
    assert pairs == sorted(pairs, key=lambda p: p[0].encode()), "labels are not in order"
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


# ---- answers ----------------------------------------------------------------------------------------------

def decode_samples(body):
    results = []
    for number, result in fields(unsnappy(body)):
        assert number == 1
        series = []
        for _, one in fields(result):
            parts = list(fields(one))
            points = []
            for kind, data in parts:
                if kind == 2:
                    f = dict(fields(data))
                    points.append((signed(f.get(2, 0)), f.get(1, 0)))
                elif kind == 4:
                    f = list(fields(data))
                    points.append((signed(dict(f).get(15, 0)), f))
            series.append((read_labels([d for k, d in parts if k == 1]), points))
        results.append(series)
    return results


class Bits:
    def __init__(self, data):
        self.value = int.from_bytes(data, "big")
        self.left = len(data) * 8

    def get(self, n):
        self.left -= n
        assert self.left >= 0
        return self.value >> self.left & (1 << n) - 1

    def varint(self):
        value = shift = 0
        while True:
            byte = self.get(8)
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value


def decode_xor(data):
    """A chunk of floats as (time in ms, bits)."""
    b = Bits(data)
    out = []
    t = v = step = leading = trailing = 0
    for i in range(b.get(16)):
        if i == 0:
            t = b.varint()
            t = t >> 1 ^ -(t & 1)
            v = b.get(64)
            out.append((t, v))
            continue
        if i == 1:
            step = b.varint()
        elif b.get(1):
            width = 14 if not b.get(1) else 17 if not b.get(1) else 20 if not b.get(1) else 64
            change = b.get(width)
            step += change - (1 << width) if change > 1 << width - 1 else change
        t += step
        if b.get(1):
            if b.get(1):
                leading = b.get(5)
                width = b.get(6) or 64
                trailing = 64 - leading - width
            v ^= b.get(64 - leading - trailing) << trailing
        out.append((t, v))
    assert b.left < 8
    return out


def frames(body):
    """(query, labels, chunks) of each frame; chunks as (type, first time, last time, data)."""
    at = 0
    while at < len(body):
        n, at = read_varint(body, at)
        crc, message = struct.unpack(">I", body[at:at + 4])[0], body[at + 4:at + 4 + n]
        assert len(message) == n, "cut off"
        at += 4 + n
        if n < 5000:  # in Python it takes its time
            assert crc32c(message) == crc
        parts = list(fields(message))
        index = dict(parts).get(2, 0)
        series = [d for k, d in parts if k == 1]
        assert len(series) == 1, "one series a frame"
        parts = list(fields(series[0]))
        chunks = []
        for kind, data in parts:
            if kind == 2:
                f = dict(fields(data))
                chunks.append((f.get(3, 0), signed(f.get(1, 0)), signed(f.get(2, 0)), f.get(4, b"")))
        yield index, read_labels([d for k, d in parts if k == 1]), chunks


def decode_chunks(body, n_queries):
    results = [[] for _ in range(n_queries)]
    last = 0
    for index, labels, chunks in frames(body):
        assert index >= last, "queries out of order"
        last = index
        points = []
        for kind, first, final, data in chunks:
            if kind != 1:
                points.append((kind, data))
                continue
            part = decode_xor(data)
            assert 0 < len(part) <= 120 and (part[0][0], part[-1][0]) == (first, final)
            points += part
        if results[index] and results[index][-1][0] == labels:
            results[index][-1][1].extend(points)  # in several frames
        else:
            results[index].append((labels, points))
    return results


def post(p, body, path="/api/v1/read", **headers):
    return p.http("POST", path, body, {**HEADERS, **headers}, timeout=120)


def ask(p, queries, chunks=False):
    answer = post(p, request(queries, [CHUNKS, SAMPLES] if chunks else []))
    assert answer.status == 200, (answer.status, answer.body[:500])
    if chunks:
        assert answer.headers["Content-Type"] == STREAM and answer.headers["Content-Encoding"] is None
        return decode_chunks(answer.body, len(queries))
    assert answer.headers["Content-Type"] == "application/x-protobuf"
    assert answer.headers["Content-Encoding"] == "snappy"
    results = decode_samples(answer.body)
    assert len(results) == len(queries)
    return results
