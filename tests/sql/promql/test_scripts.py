"""The scripts of tests/promql through SQL: what promql() and promql_range() give is what the engine gives over series in
memory, in each form of storage."""
import math
import pathlib
import re
import struct
import sys

import psycopg2
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "promql"))
import replay

FORMS = [("fresh", "flush"), ("merged", "merged"), ("block_far", "sealed")]


@pytest.fixture(scope="module")
def asked(shared_db):
    shared_db.sql(f"SET promscale.promql_features = '{replay.FEATURES}'")
    shared_db.sql("SET client_min_messages = error")
    return shared_db


def load(db, store, table, form):
    db.sql("TRUNCATE _prom_data.fresh, _prom_data.merged, _prom_data.block_far")
    db.sql("SELECT drop_metric(metric_name) FROM _prom_catalog.metric")
    store = [(labels, samples) for labels, samples in store if samples]
    if any("too wide" in str(s[1]) for _, samples in store for s in samples):
        raise AssertionError("a histogram that cannot be spelled")
    if not store:
        return
    resolved = db.resolve([labels for labels, _ in store])
    names = list(dict.fromkeys(labels["__name__"] for labels, _ in store))
    for name, metric in zip(names, resolved.metrics):
        days = {}
        for (labels, samples), ident in zip(store, resolved.series):
            if labels["__name__"] == name:
                for t, v, start in samples:
                    days.setdefault((t // 86_400_000, isinstance(v, str)), []).append((metric, ident, t, v, start))
        for samples in days.values():
            db.block(table, metric, samples, form)


def populated(text):
    """What a spelled histogram says, as a comparable value. Blocks keep no empty buckets, so that what became NaN of
    one (0 * Inf) is not there either."""
    fields = dict(re.findall(r"(\w+):(\[[^]]*\]|\S+)", text.strip("{}")))
    out = {k: v for k, v in fields.items() if not k.endswith(("buckets", "offset"))}
    for side in ("", "n_"):
        counts = fields.get(side + "buckets", "[]")[1:-1].split()
        first = int(fields.get(side + "offset", 0))
        out[side + "buckets"] = [(first + i, c) for i, c in enumerate(counts) if c not in ("0", "-0", "NaN")]
    return out


def shown(value):
    return "NaN" if math.isnan(value) else struct.pack(">d", value).hex()


def of_sql(db, q):
    call = ("promql_range(%s, to_timestamp(%s), to_timestamp(%s), make_interval(secs => %s))" if q["step"] > 0
            else "promql(%s, to_timestamp(%s))")
    args = [q["query"], q["start"] / 1000] + ([q["end"] / 1000, q["step"] / 1000] if q["step"] > 0 else [])
    out = {}
    for t, value, labels, histogram in db.sql(
            f"SELECT extract(epoch FROM time) * 1000, value, labels, histogram::text FROM {call}", args):
        points = out.setdefault(tuple(sorted(labels.items())), ([], []))
        if histogram is None:
            points[0].append((round(t), shown(value)))
        else:
            points[1].append(populated(histogram))
    return out


def of_engine(q):
    """The same of the engine's answer; histograms as they are spelled."""
    expected = replay.by_series(q["answer"])
    if q["answer"]["resultType"] == "scalar":
        return {(): (expected["scalar"], [])}
    spelled = {tuple(sorted(s["metric"].items())): [populated(t) for t in texts] for s, texts in zip(q["answer"]["result"], q["spelled"])}
    return {labels: (floats, spelled[labels]) for labels, (floats, _) in expected.items()}


def difference(db, q, form):
    where = f"{form} line {q['line']}: {q['query']}"
    kind = q.get("answer", {}).get("resultType")
    try:
        got = of_sql(db, q)
    except psycopg2.Error as e:
        if kind == "string" or "error" in q and q["error"] in e.diag.message_primary:
            return None
        return f"{where}: {e}"
    if "error" in q:
        return f"{where}: expected the error {q['error']}"
    expected = of_engine(q)
    wrong = [(labels, expected.get(labels), got.get(labels)) for labels in expected.keys() | got.keys()
             if expected.get(labels) != got.get(labels)]
    return f"{where}: (series, expected, got) {wrong[:3]}" if wrong else None


@pytest.mark.parametrize("script", replay.scripts(), ids=lambda s: s.stem)
def test_scripts(asked, script):
    wrong, n = [], 0
    for store, questions in replay.stores(script, histograms=True):
        for table, form in FORMS:
            load(asked, store, table, form)
            for q in questions:
                n += 1
                wrong += filter(None, [difference(asked, q, form)])
    assert not wrong, f"{len(wrong)} of {n} differ:\n" + "\n".join(wrong[:20])


def test_there_are_many():
    assert sum(len(questions) for s in replay.scripts() for _, questions in replay.stores(s, histograms=True)) >= 500
