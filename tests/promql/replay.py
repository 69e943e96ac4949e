"""Test scripts as data for those who ask the same questions elsewhere: through HTTP, through SQL.

`build/tests/promqltest --export` (export.c) gives what a script loads and asks, and what the engine answers over
series in memory. Here: reading that, and comparing it with an answer in the API's form. Times are whole milliseconds.
"""
import json
import os
import struct
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROMQLTEST = ROOT / "build" / "tests" / "promqltest"
OURS = ROOT / "tests" / "promql" / "scripts"
FEATURES = ("promql-experimental-functions,promql-extended-range-selectors,promql-binop-fill-modifiers,"
            "promql-delayed-name-removal,use-start-timestamps")


def scripts():
    """Our own, and those of others where they are at hand."""
    others = Path(os.environ.get("PROMSCALE_CONFORMANCE", ROOT.parent / "shared" / "conformance" / "promql"))
    return sorted(OURS.glob("*.test")) + sorted(others.glob("*.test"))


def sample(t, value, start):
    """(ms, float), or with histograms (ms, float or text, start in ms)."""
    return (t, value if value.startswith("{{") else struct.unpack(">d", bytes.fromhex(value))[0], start)


def stores(script, histograms=False):
    """[(store, [question, ...])] of what can be kept anywhere: floats of series with names. store: [(labels, [(ms,
    float), ...])]. With histograms also these, as text, and start timestamps: samples are (ms, float or text, ms)."""
    out = subprocess.run([PROMQLTEST, "--export", script], check=True, stdout=subprocess.PIPE).stdout
    found, good = [], False
    for line in out.split(b"\n"):
        try:
            d = json.loads(line.decode())
        except UnicodeDecodeError:  # about labels that are no text: no PostgreSQL can keep them
            good = good and b'"store":' not in line
            continue
        except ValueError:
            assert not line
            continue
        if "store" in d:
            good = (d["plain"] or histograms) and all(s["metric"].get("__name__") for s in d["store"])
            store = [(s["metric"], [sample(*v) if histograms else sample(*v)[:2] for v in s["values"]])
                     for s in d["store"]]
            if good:
                found.append((store, []))
        elif good and "too many samples" not in d.get("error", ""):
            found[-1][1].append(d)
    return [(store, questions) for store, questions in found if questions]


def bits(text):
    """A value as it must come back; all NaNs are one."""
    return "NaN" if text == "NaN" else struct.pack(">d", float(text)).hex()


def by_series(answer):
    """{labels: [(ms, value), ...]} of an answer in the API's form."""
    kind, result = answer["resultType"], answer["result"]
    if kind == "scalar":
        return {kind: [(round(result[0] * 1000), bits(result[1]))]}
    if kind == "string":
        return {kind: result if isinstance(result, str) else result[1]}
    out = {}
    for s in result:
        points = s["values"] if "values" in s else [s["value"]] if "value" in s else []
        hists = s["histograms"] if "histograms" in s else [s["histogram"]] if "histogram" in s else []
        labels = tuple(sorted(s["metric"].items()))
        assert labels not in out, f"twice: {labels}"
        out[labels] = ([(round(t * 1000), bits(v)) for t, v in points], len(hists))
    return out
