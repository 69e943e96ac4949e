"""The series of the differential test: as a script for our engine, as remote write for Prometheus.

A sample is (time in ms, value), a value a float, STALE, or a Histogram; all come from one seed.
"""
import math
import random
import struct

STEP_MS = 30_000
SAMPLES = 361  # three hours
STALE = object()
STALE_BITS = 0x7FF0000000000002
NAN_BITS = 0x7FF8000000000001  # the NaN that Prometheus writes


class Histogram:
    """Exponential, with whole numbers as counts; buckets are dense from `offset` on."""

    def __init__(self, schema, total, zero, width, offset, positive, n_offset=0, negative=()):
        self.schema, self.sum, self.zero, self.width = schema, total, zero, width
        self.offset, self.positive, self.n_offset, self.negative = offset, list(positive), n_offset, list(negative)

    @property
    def count(self):
        return self.zero + sum(self.positive) + sum(self.negative)

    def script(self):
        parts = [f"schema:{self.schema}", f"sum:{number(self.sum)}", f"count:{self.count}"]
        if self.zero or self.width:
            parts += [f"z_bucket:{self.zero}", f"z_bucket_w:{number(self.width)}"]
        if self.positive:
            parts += [f"buckets:[{' '.join(map(str, self.positive))}]", f"offset:{self.offset}"]
        if self.negative:
            parts += [f"n_buckets:[{' '.join(map(str, self.negative))}]", f"n_offset:{self.n_offset}"]
        return "{{" + " ".join(parts) + "}}"


def number(v):
    if math.isnan(v):
        return "NaN"
    return ("+Inf" if v > 0 else "-Inf") if math.isinf(v) else repr(float(v))


# ---- what there is ------------------------------------------------------------------------------------


def counter(r, step, resets=0.01):
    """Goes up by about `step`, sometimes starts again; whole numbers, so that sums are exact."""
    v, out = 0.0, []
    for _ in range(SAMPLES):
        v = 0.0 if r.random() < resets else v + r.randint(0, 2 * step)
        out.append(v)
    return out


def gauge(r, odd):
    """Halves and quarters around nothing; odd: with NaN and infinities."""
    out = []
    for _ in range(SAMPLES):
        v = r.randint(-4000, 4000) / 4
        if odd and r.random() < 0.05:
            v = r.choice([math.nan, math.inf, -math.inf, 0.0, 1e300, 1e-300])
        out.append(v)
    return out


def gaps(r, values, often):
    """Leaves samples out, one by one and for a while, some with a stale marker before."""
    out, until = [], -1
    for i, v in enumerate(values):
        if i > until and r.random() < often:
            until = i + r.choice([1, 2, 5, 12, 40])
            out.append(STALE if r.random() < 0.5 else None)
        else:
            out.append(v if i > until else None)
    return out


def classic(r, add, base, labels):
    """Cumulative buckets, count and sum."""
    bounds = ["0.1", "0.5", "1", "5", "+Inf"]
    counts = [0] * len(bounds)
    rows, total, sums = [[] for _ in bounds], [], []
    acc = 0.0
    for i in range(SAMPLES):
        for b in range(len(bounds)):
            counts[b] = 0 if i == 200 else counts[b] + r.randint(0, 5)
        acc = 0.0 if i == 200 else acc + r.randint(0, 40) / 4
        for b in range(len(bounds)):
            rows[b].append(float(sum(counts[:b + 1])))
        total.append(float(sum(counts)))
        sums.append(acc)
    for b, le in enumerate(bounds):
        add(base + "_bucket", dict(labels, le=le), rows[b])
    add(base + "_count", labels, total)
    add(base + "_sum", labels, sums)


def native(r, schema, reset_at, sided):
    counts, negative, zero, out, acc = [0] * 6, [0] * 3, 0, [], 0.0
    for i in range(SAMPLES):
        if i == reset_at:
            counts, negative, zero, acc = [0] * 6, [0] * 3, 0, 0.0
        counts = [c + r.randint(0, 4) for c in counts]
        zero += r.randint(0, 2)
        acc += r.randint(0, 100) / 4
        if sided:
            negative = [c + r.randint(0, 2) for c in negative]
        out.append(Histogram(schema, acc, zero, 0.001, -1, counts, 0, negative if sided else ()))
    return out


def make(seed):
    """[(labels, [(t_ms, value)])], by labels."""
    r = random.Random(seed)
    series = []

    def add(name, labels, values, often=0.0):
        values = gaps(r, values, often)
        samples = [(i * STEP_MS, v) for i, v in enumerate(values) if v is not None]
        series.append((dict(labels, __name__=name), samples))

    for job in ("api", "db"):
        for instance in ("a:1", "b:2", "c:3"):
            where = {"job": job, "instance": instance}
            for code in ("200", "404", "500"):
                if r.random() < 0.85:
                    add("requests_total", dict(where, code=code), counter(r, 20), r.choice([0, 0, 0.01, 0.05]))
                if r.random() < 0.7:
                    add("errors_total", dict(where, code=code), counter(r, 3, 0.02), r.choice([0, 0.02]))
            add("temperature", where, gauge(r, instance == "c:3"), r.choice([0, 0.03]))
            add("limit_bytes", where, [r.choice([100.0, 250.5])] * SAMPLES, r.choice([0, 0.03]))
            add("target_info", dict(where, version=r.choice(["1.0", "2.0"]), zone=job[0]), [1.0] * SAMPLES, 0.01)
        classic(r, add, "latency", {"job": job})
    add("alone", {}, [float(i) for i in range(SAMPLES)])
    for i, schema in enumerate((0, 1, 3)):
        add("sizes", {"job": "api", "instance": f"{'abc'[i]}:{i + 1}"}, native(r, schema, [None, 150, 222][i], i == 2),
            [0, 0.01, 0.02][i])
    return sorted(series, key=lambda s: sorted(s[0].items()))


# ---- for our engine -------------------------------------------------------------------------------------


def selector(labels):
    pairs = ",".join(f'{k}="{v}"' for k, v in sorted(labels.items()) if k != "__name__")
    return labels["__name__"] + "{" + pairs + "}"


def item(v):
    return "stale" if v is STALE else v.script() if isinstance(v, Histogram) else number(v)


def script(series):
    """As a script's load command: a position per STEP_MS."""
    lines = [f"load {STEP_MS // 1000}s"]
    for labels, samples in series:
        at = dict(samples)
        last = max(at, default=0)
        items = [item(at[t]) if t in at else "_" for t in range(0, last + 1, STEP_MS)]
        lines.append(f"  {selector(labels)} {' '.join(items)}")
    return "\n".join(lines) + "\n"


# ---- for Prometheus -------------------------------------------------------------------------------------


def zigzag(n):
    return n << 1 if n >= 0 else (-n << 1) - 1


def float_bytes(v):
    bits = STALE_BITS if v is STALE else NAN_BITS if math.isnan(v) else None
    return struct.pack("<d", v) if bits is None else struct.pack("<Q", bits)


def side(rw, spans_field, deltas_field, offset, counts):
    if not counts:
        return b""
    span = b"\x08" + rw.varint(zigzag(offset)) + b"\x10" + rw.varint(len(counts))
    deltas = [c - (counts[i - 1] if i else 0) for i, c in enumerate(counts)]
    return rw.field(spans_field, span) + rw.field(deltas_field, b"".join(rw.varint(zigzag(d)) for d in deltas))


def histogram_message(rw, t_ms, h):
    """The fields of remote write 1.0. The first bucket of a script with offset o is bucket o."""
    return (b"\x08" + rw.varint(h.count) + b"\x19" + float_bytes(h.sum) + b"\x20" + rw.varint(zigzag(h.schema))
            + b"\x29" + struct.pack("<d", h.width) + b"\x30" + rw.varint(h.zero)
            + side(rw, 8, 9, h.n_offset, h.negative) + side(rw, 11, 12, h.offset, h.positive)
            + b"\x78" + rw.varint(t_ms))


def stale_histogram(rw, t_ms):
    return b"\x08\x00\x19" + struct.pack("<Q", STALE_BITS) + b"\x20\x00\x78" + rw.varint(t_ms)


def write_request(rw, series):
    """rw: the module that encodes remote write."""
    out = []
    for labels, samples in series:
        message = b"".join(rw.field(1, rw.label(k, v)) for k, v in sorted(labels.items()))
        histograms = any(isinstance(v, Histogram) for _, v in samples)
        for t, v in samples:
            if isinstance(v, Histogram):
                message += rw.field(4, histogram_message(rw, t, v))
            elif histograms:
                message += rw.field(4, stale_histogram(rw, t))
            else:
                message += rw.field(2, b"\x09" + float_bytes(v) + b"\x10" + rw.varint(t))
        out.append(rw.field(1, message))
    return rw.snappy(b"".join(out))
