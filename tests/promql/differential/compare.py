"""Two answers as Prometheus's API gives them: are they the same?

Floats are equal within RELATIVE of each other, or of `scale` (the largest number that went into a query is not
known, but sums cancel): an absolute difference below RELATIVE * 1e-3 is none. Series are compared by labels,
except where a vector's order is what was asked for.
"""
import math
import re

RELATIVE = 1e-9
BUCKET = re.compile(r"([\[(])(\S+?),(\S+?)([\])]):(\S+?)(?=,|})")


def close(a, b):
    a, b = float(a), float(b)
    if math.isnan(a) or math.isnan(b):
        return math.isnan(a) and math.isnan(b)
    return a == b or abs(a - b) <= max(RELATIVE * max(abs(a), abs(b)), RELATIVE * 1e-3)


def histogram(h):
    """Count, sum and buckets, of Prometheus's JSON or of our text."""
    if isinstance(h, dict):
        return h["count"], h["sum"], [tuple(map(str, b)) for b in h.get("buckets", [])]
    rules = {"(]": "0", "[)": "1", "()": "2", "[]": "3"}
    count, total = re.search(r"count:(\S+?), sum:(\S+?)[,}]", h).groups()
    buckets = [(rules[a + d], lo, hi, n) for a, lo, hi, d, n in BUCKET.findall(h)]
    # the API leaves out empty buckets, and a zero bucket that holds less than nothing
    return count, total, [b for b in buckets if float(b[3]) > 0 or (float(b[3]) != 0 and b[0] != "3")]


def same_histogram(a, b):
    (ca, sa, ba), (cb, sb, bb) = histogram(a), histogram(b)
    return (close(ca, cb) and close(sa, sb) and len(ba) == len(bb)
            and all(x[0] == y[0] and all(close(p, q) for p, q in zip(x[1:], y[1:])) for x, y in zip(ba, bb)))


def points(series):
    """{time: (kind, value)}"""
    out = {}
    for kind in ("value", "values", "histogram", "histograms"):
        got = series.get(kind, [])
        for t, v in [got] if kind in ("value", "histogram") and got else got:
            out[float(t)] = (kind[0], v)
    return out


def same_points(a, b):
    pa, pb = points(a), points(b)
    if pa.keys() != pb.keys():
        times = sorted(pa.keys() ^ pb.keys())
        return f"points at {times[:5]} only in {'the first' if times[0] in pa else 'the second'}"
    for t in pa:
        (ka, va), (kb, vb) = pa[t], pb[t]
        if ka != kb or not (close(va, vb) if ka == "v" else same_histogram(va, vb)):
            return f"at {t}: {va} and {vb}"
    return None


def error_text(answer):
    """Which of several duplicates is named, and in which order, was left to chance before 3.11."""
    return re.sub(r"(found duplicate series for the match group) .* (on the)", r"\1 \2",
                  re.sub(r"\[\{.*\]", "", answer["error"]))


def difference(a, b):
    """None, or what differs between two answers (dicts with resultType, result and annotations, or error)."""
    problem = result_difference(a, b)
    notes = [set(x.get("warnings", []) + x.get("infos", [])) for x in (a, b)]
    if problem is None and "error" not in b and notes[0] != notes[1]:
        return f"notes: {notes[0]} and {notes[1]}"
    return problem


def result_difference(a, b):
    if ("error" in a) != ("error" in b):
        return f"one fails: {a.get('error')!r} and {b.get('error')!r}"
    if "error" in a:
        return None if error_text(a) == error_text(b) else f"errors: {a['error']!r} and {b['error']!r}"
    if a["resultType"] != b["resultType"]:
        return f"type {a['resultType']} and {b['resultType']}"
    if a["resultType"] in ("scalar", "string"):
        return None if close(a["result"][1], b["result"][1]) else f"{a['result']} and {b['result']}"
    sides = [{tuple(sorted(s["metric"].items())): s for s in x["result"]} for x in (a, b)]
    if len(sides[0]) != len(a["result"]) or len(sides[1]) != len(b["result"]):
        return "labels twice"
    only = sorted(sides[0].keys() ^ sides[1].keys())
    if only:
        return f"{len(only)} series, as {dict(only[0])}, only in {'the first' if only[0] in sides[0] else 'the second'}"
    for labels in sides[0]:
        problem = same_points(sides[0][labels], sides[1][labels])
        if problem:
            return f"{dict(labels)} {problem}"
    return None
