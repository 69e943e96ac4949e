"""The scripts of tests/promql through SQL: what promql() and promql_range() give is what the engine gives over series in
memory, in each form of storage."""
import math
import pathlib
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
    if not store:
        return
    resolved = db.resolve([labels for labels, _ in store])
    names = list(dict.fromkeys(labels["__name__"] for labels, _ in store))
    for name, metric in zip(names, resolved.metrics):
        days = {}
        for (labels, samples), ident in zip(store, resolved.series):
            if labels["__name__"] == name:
                for t, v in samples:
                    days.setdefault(t // 86_400_000, []).append((metric, ident, t, v))
        for samples in days.values():
            db.block(table, metric, samples, form)


def shown(value):
    return "NaN" if math.isnan(value) else struct.pack(">d", value).hex()


def of_sql(db, q):
    call = ("promql_range(%s, to_timestamp(%s), to_timestamp(%s), make_interval(secs => %s))" if q["step"] > 0
            else "promql(%s, to_timestamp(%s))")
    args = [q["query"], q["start"] / 1000] + ([q["end"] / 1000, q["step"] / 1000] if q["step"] > 0 else [])
    out = {}
    for t, value, labels, histogram in db.sql(
            f"SELECT extract(epoch FROM time) * 1000, value, labels, histogram FROM {call}", args):
        points = out.setdefault(tuple(sorted(labels.items())), ([], []))
        if histogram is None:
            points[0].append((round(t), shown(value)))
        else:
            points[1].append(histogram)
    return {labels: (floats, len(hists)) for labels, (floats, hists) in out.items()}


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
    expected = replay.by_series(q["answer"])
    if kind == "scalar":
        expected = {(): (expected["scalar"], 0)}
    return None if got == expected else f"{where}: expected {expected}, got {got}"


@pytest.mark.parametrize("script", replay.scripts(), ids=lambda s: s.stem)
def test_scripts(asked, script):
    wrong, n = [], 0
    for store, questions in replay.stores(script):
        for table, form in FORMS:
            load(asked, store, table, form)
            for q in questions:
                n += 1
                wrong += filter(None, [difference(asked, q, form)])
    assert not wrong, f"{len(wrong)} of {n} differ:\n" + "\n".join(wrong[:20])


def test_there_are_many():
    assert sum(len(questions) for s in replay.scripts() for _, questions in replay.stores(s)) >= 300
