"""An ExportMetricsServiceRequest by hand: dicts to protobuf, as opentelemetry-proto numbers the fields."""
import struct


def varint(n):
    n &= (1 << 64) - 1
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes(out + bytes([n]))


def key(number, wire):
    return varint(number << 3 | wire)


def number(field, value):
    return key(field, 0) + varint(value)


def zigzag(field, value):
    return number(field, value << 1 ^ value >> 63)


def fixed(field, value):
    return key(field, 1) + struct.pack("<Q", value & (1 << 64) - 1)


def double(field, value):
    return key(field, 1) + struct.pack("<d", value)


def message(field, body):
    body = body.encode() if isinstance(body, str) else body
    return key(field, 2) + varint(len(body)) + body


def value(v):
    """An AnyValue of a Python value."""
    if v is None:
        return b""
    if isinstance(v, bool):
        return number(2, v)
    if isinstance(v, int):
        return number(3, v)
    if isinstance(v, float):
        return double(4, v)
    if isinstance(v, bytes):
        return message(7, v)
    if isinstance(v, list):
        return message(5, b"".join(message(1, value(x)) for x in v))
    if isinstance(v, dict):
        return message(6, attributes(1, v))
    return message(1, v)


def attributes(field, pairs):
    pairs = pairs.items() if isinstance(pairs, dict) else pairs
    return b"".join(message(field, message(1, k) + message(2, value(v))) for k, v in pairs)


def exemplar(value=1.0, t=0, trace=b"", span=b"", attrs=()):
    got = fixed(2, t) + attributes(7, attrs)
    if value is not None:
        got += fixed(6, value) if isinstance(value, int) else double(3, value)
    return got + (message(4, span) if span else b"") + (message(5, trace) if trace else b"")


def times(t, start, flags, flags_field):
    return fixed(3, t) + (fixed(2, start) if start else b"") + (number(flags_field, flags) if flags else b"")


def point(value, t, start=0, attrs=(), flags=0, exemplars=()):
    got = times(t, start, flags, 8) + attributes(7, attrs)
    if value is not None:
        got += fixed(6, value) if isinstance(value, int) else double(4, value)
    return got + b"".join(message(5, e) for e in exemplars)


def histogram_point(t, count, counts, bounds, sum=None, start=0, attrs=(), flags=0, exemplars=()):
    got = times(t, start, flags, 10) + attributes(9, attrs) + fixed(4, count)
    got += b"" if sum is None else double(5, sum)
    got += message(6, b"".join(struct.pack("<Q", c) for c in counts))
    got += message(7, b"".join(struct.pack("<d", b) for b in bounds))
    return got + b"".join(message(8, e) for e in exemplars)


def exponential_point(t, count, scale, positive=(0, ()), negative=(0, ()), zero=0, sum=None, start=0, attrs=(),
                      flags=0, exemplars=(), threshold=None):
    got = times(t, start, flags, 10) + attributes(1, attrs) + fixed(4, count) + zigzag(6, scale) + fixed(7, zero)
    got += b"" if sum is None else double(5, sum)
    for field, (offset, counts) in ((8, positive), (9, negative)):
        got += message(field, zigzag(1, offset) + message(2, b"".join(varint(c) for c in counts)))
    got += b"" if threshold is None else double(14, threshold)
    return got + b"".join(message(11, e) for e in exemplars)


def summary_point(t, count, sum, quantiles, start=0, attrs=(), flags=0):
    got = times(t, start, flags, 8) + attributes(7, attrs) + fixed(4, count) + double(5, sum)
    return got + b"".join(message(6, double(1, q) + double(2, v)) for q, v in quantiles)


DELTA, CUMULATIVE = 1, 2
KINDS = {"gauge": 5, "sum": 7, "histogram": 9, "exponential": 10, "summary": 11}


def metric(name, kind, points, unit="", help="", temporality=CUMULATIVE, monotonic=True):
    data = b"".join(message(1, p) for p in points)
    if kind in ("sum", "histogram", "exponential") and temporality is not None:
        data += number(2, temporality)
    if kind == "sum" and monotonic:
        data += number(3, 1)
    return message(1, name) + message(2, help) + message(3, unit) + message(KINDS[kind], data)


def scope(metrics, name="", version="", attrs=(), schema_url=""):
    about = message(1, name) + message(2, version) + attributes(3, attrs)
    return message(1, about) + b"".join(message(2, m) for m in metrics) + message(3, schema_url)


def resource(scopes, attrs=()):
    return message(1, attributes(1, attrs)) + b"".join(message(2, s) for s in scopes)


def request(resources):
    return b"".join(message(1, r) for r in resources)


def simple(metrics, **attrs):
    """One resource and one scope; keyword arguments are resource attributes with _ for the dot."""
    return request([resource([scope(metrics)], {k.replace("_", "."): v for k, v in attrs.items()})])
