"""Remote write 2.0 messages, encoded by hand so that nothing of the tested code is used.

A series is a dict: labels (dict, or list of pairs), samples [(ms, value[, start ms])], histograms [bytes of
histogram()], exemplars [(labels, value, ms)], metadata (type, help, unit); all optional. Instead of labels it may
have refs, as they are to stand in the message.
"""
import struct

from .remote_write import HEADERS, TYPES, double, field, snappy, text, varint

PROTO = "application/x-protobuf;proto=io.prometheus.write.v2.Request"
HEADERS_V2 = {**HEADERS, "Content-Type": PROTO, "X-Prometheus-Remote-Write-Version": "2.0.0"}
WRITTEN = [f"X-Prometheus-Remote-Write-{what}-Written" for what in ("Samples", "Histograms", "Exemplars")]


def zigzag(n):
    return varint(n << 1 if n >= 0 else (-n << 1) - 1)


def number(n, value):
    return varint(n << 3) + varint(value)


def packed(n, items):
    return field(n, b"".join(items))


def histogram(ms, count, total, schema=0, zero=0, zero_threshold=0.0, positive=(), negative=(), bounds=(), hint=0,
              start=0, floats=False):
    """positive, negative: [(offset, [populations])] span by span."""
    out = b""
    out += b"\x11" + double(count) if floats else number(1, count)
    out += b"\x19" + double(total) + b"\x20" + zigzag(schema) + b"\x29" + double(zero_threshold)
    out += b"\x39" + double(zero) if floats else number(6, zero)
    for at, spans in ((8, negative), (11, positive)):
        for offset, populations in spans:
            out += field(at, b"\x08" + zigzag(offset) + number(2, len(populations)))
        all_of = [p for _, populations in spans for p in populations]
        if floats:
            out += packed(at + 2, [double(p) for p in all_of])
        else:
            out += packed(at + 1, [zigzag(b - a) for a, b in zip([0, *all_of], all_of)])
    out += number(14, hint) + number(15, ms)
    out += packed(16, [struct.pack("<d", b) for b in bounds]) if bounds else b""
    return out + (number(17, start) if start else b"")


def encode_v2(series, symbols=("",)):
    """The protobuf message; symbols: what the table begins with."""
    table = list(symbols)
    places = {s: i for i, s in reversed(list(enumerate(table)))}

    def ref(s):
        if s not in places:
            places[s] = len(table)
            table.append(s)
        return places[s]

    def refs(labels):
        pairs = sorted(labels.items(), key=lambda p: text(p[0])) if isinstance(labels, dict) else labels
        return [ref(s) for pair in pairs for s in pair]

    out = b""
    for s in series:
        one = packed(1, map(varint, s["refs"] if "refs" in s else refs(s.get("labels", {}))))
        for ms, value, *start in s.get("samples", ()):
            one += field(2, b"\x09" + double(value) + number(2, ms) + (number(3, start[0]) if start else b""))
        one += b"".join(field(3, h) for h in s.get("histograms", ()))
        for labels, value, ms in s.get("exemplars", ()):
            own = labels if isinstance(labels, list) and labels and isinstance(labels[0], int) else refs(labels)
            one += field(4, packed(1, map(varint, own)) + b"\x11" + double(value) + number(3, ms))
        if "metadata" in s:
            kind, help_text, unit = s["metadata"]
            one += field(5, number(1, TYPES[kind]) + number(3, ref(help_text)) + number(4, ref(unit)))
        out += field(5, one)
    return b"".join(field(4, text(s)) for s in table) + out


def post_v2(p, series, headers=None, body=None):
    """The answer of the connector p, and what it says was written: (samples, histograms, exemplars)."""
    answer = p.post_write(snappy(encode_v2(series)) if body is None else body, headers={**HEADERS_V2, **(headers or {})})
    assert all(h in answer.headers for h in WRITTEN), answer.headers
    return answer, tuple(int(answer.headers[h]) for h in WRITTEN)
