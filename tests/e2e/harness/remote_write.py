"""Remote write 1.0 messages, encoded by hand so that nothing of the tested code is used.

A series is (labels, samples): labels a dict or a list of (name, value) pairs (a list may hold what is not
allowed), samples a list of (time in ms, value). Text may be str or bytes (bytes: not UTF-8 if you like).
"""
import struct


def varint(n):
    n &= (1 << 64) - 1  # negative int64: ten bytes, as protobuf has it
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def field(number, payload):
    """A length-delimited field."""
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def text(s):
    return s if isinstance(s, bytes) else s.encode()


def label(name, value):
    return field(1, text(name)) + field(2, text(value))


def double(value):
    """Bits may be given as an int to choose a NaN's payload."""
    return struct.pack("<Q", value) if isinstance(value, int) and value > 1 << 53 else struct.pack("<d", value)


def sample(t_ms, value):
    return b"\x09" + double(value) + b"\x10" + varint(t_ms)


def exemplar(labels, value, t_ms):
    pairs = labels.items() if isinstance(labels, dict) else labels
    return b"".join(field(1, label(k, v)) for k, v in pairs) + b"\x11" + double(value) + b"\x18" + varint(t_ms)


def time_series(labels, samples, exemplars=()):
    pairs = sorted(labels.items(), key=lambda p: text(p[0])) if isinstance(labels, dict) else labels
    return (b"".join(field(1, label(k, v)) for k, v in pairs)
            + b"".join(field(2, sample(t, v)) for t, v in samples)
            + b"".join(field(3, exemplar(*e)) for e in exemplars))


TYPES = {"unknown": 0, "counter": 1, "gauge": 2, "histogram": 3, "gaugehistogram": 4, "summary": 5, "info": 6,
         "stateset": 7}


def metadata(family, kind, help_text="", unit=""):
    return (b"\x08" + varint(TYPES[kind]) + field(2, text(family)) + field(4, text(help_text)) + field(5, text(unit)))


def encode(series, families=()):
    """The protobuf message. series: (labels, samples[, exemplars]); families: (name, type[, help[, unit]])."""
    return (b"".join(field(1, time_series(*s)) for s in series) + b"".join(field(3, metadata(*f)) for f in families))


def snappy(data):
    """Snappy's block format, literals only."""
    out = bytearray(varint(len(data)))
    for at in range(0, len(data), 65536):
        chunk = data[at:at + 65536]
        out += b"\xf4" + struct.pack("<H", len(chunk) - 1) + chunk
    return bytes(out)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked_crc32c(data):
    """As Snappy's framing format has it."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def framed(data, chunk_bytes=1000):
    """Snappy's framing format: chunks in turn as they are and compressed, with padding between."""
    out = bytearray(b"\xff\x06\x00\x00sNaPpY")
    for n, at in enumerate(range(0, len(data), chunk_bytes)):
        part = data[at:at + chunk_bytes]
        kind, content = (1, part) if n % 2 else (0, snappy(part))
        for k, c in ((kind, struct.pack("<I", masked_crc32c(part)) + content), (0xFE, b"padding")):
            out += bytes([k]) + struct.pack("<I", len(c))[:3] + c
    return bytes(out)


def write_request(series, families=()):
    """Body as a client sends it."""
    return snappy(encode(series, families))


HEADERS = {
    "Content-Type": "application/x-protobuf",
    "Content-Encoding": "snappy",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
    "User-Agent": "promscale-test",
}
