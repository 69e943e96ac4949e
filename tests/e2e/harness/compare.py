"""Is everything that Prometheus has stored of a span of time in the database, and nothing else?

Prometheus is asked for its raw samples, the database through the views of prom_metric and prom_series; so
neither side computes anything. Range selectors leave stale markers out; they are looked at on their own.
"""
import contextlib
import datetime
import math
import struct

STALE_MARKER = 0x7FF0000000000002


def bits(value):
    return struct.unpack("<Q", struct.pack("<d", value))[0]


def number(raw):
    return struct.unpack("<d", struct.pack("<Q", raw))[0]


def timestamp(ms):
    """A parameter for psycopg2; of an infinity, too."""
    if math.isinf(ms):
        return "infinity" if ms > 0 else "-infinity"
    return datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc) + datetime.timedelta(milliseconds=ms)


def prometheus_series(prometheus, start_ms, end_ms, selector='{__name__=~".+"}'):
    """{labels: {ms: value}} of start < time <= end."""
    raw = prometheus.raw_samples(selector, start_ms / 1000, end_ms / 1000)
    return {labels: {ms: float(text) for ms, text in samples if ms > start_ms} for labels, samples in raw.items()}


@contextlib.contextmanager
def session(db):
    """A function that asks db (a Promscale or a Cluster) on one connection, which is quicker than one each."""
    conn = db.connect()

    def ask(query, params=None):
        with conn.cursor() as cur:
            cur.execute(query, params)
            return cur.fetchall()

    try:
        yield ask
    finally:
        conn.close()


def views_missing(db):
    """Metrics whose views are not made yet; that happens in the background."""
    return [r[0] for r in db.sql("SELECT table_name FROM prom_info.metric"
                                 " WHERE to_regclass(format('prom_metric.%I', table_name)) IS NULL")]


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


def sql_metrics(ask):
    """{metric name: view name}"""
    return dict(ask("SELECT metric_name, table_name FROM prom_info.metric"))


def sql_series(db, start_ms, end_ms):
    """{labels: [(ms, bits of the value)]} of start < time <= end; labels as a sorted tuple of pairs."""
    with session(db) as ask:
        return {labels: rows for view in sql_metrics(ask).values()
                for labels, rows in series_of_view(ask, view, start_ms, end_ms).items()}


def series_of_view(ask, view, start_ms, end_ms):
    labels = {i: tuple(sorted(pairs.items()))
              for i, pairs in ask(f'SELECT series_id, jsonb(labels) FROM prom_series.{quoted(view)}')}
    assert len(set(labels.values())) == len(labels), f"two series of {view} have the same labels"
    rows = ask("SELECT series_id, (extract(epoch FROM time) * 1000)::int8, encode(float8send(value), 'hex')"
               f' FROM prom_metric.{quoted(view)} WHERE time > %s AND time <= %s', [timestamp(start_ms), timestamp(end_ms)])
    out = {}
    for series_id, ms, raw in rows:
        out.setdefault(labels[series_id], []).append((ms, int(raw, 16)))
    return out


def sql_figures(db, start_ms, end_ms):
    """{metric name: (count, sum, first ms, last ms)} as SQL's aggregates say, without stale markers."""
    with session(db) as ask:
        out = {name: ask("SELECT count(*), sum(value), (extract(epoch FROM min(time)) * 1000)::int8,"
                         f' (extract(epoch FROM max(time)) * 1000)::int8 FROM prom_metric.{quoted(view)}'
                         r" WHERE time > %s AND time <= %s AND float8send(value) <> '\x7ff0000000000002'",
                         [timestamp(start_ms), timestamp(end_ms)])[0] for name, view in sql_metrics(ask).items()}
    return {name: f for name, f in out.items() if f[0] > 0}


def figures(series):
    """The same of what Prometheus has."""
    by_name = {}
    for labels, samples in series.items():
        by_name.setdefault(dict(labels)["__name__"], []).append(samples)
    out = {}
    for name, several in by_name.items():
        values = [v for samples in several for v in samples.values()]
        total = math.fsum(values) if all(map(math.isfinite, values)) else sum(values)
        out[name] = (len(values), total, min(min(s) for s in several), max(max(s) for s in several))
    return out


def same_sum(a, b):
    return (math.isnan(a) and math.isnan(b)) or a == b or abs(a - b) <= 1e-9 * max(abs(a), abs(b))


def assert_same_figures(want, got):
    """Both as sql_figures() gives them."""
    assert sorted(want) == sorted(got), f"metrics: {sorted(set(want) ^ set(got))[:10]}"
    wrong = {name: (want[name], got[name]) for name in want
             if want[name][0] != got[name][0] or want[name][2:] != got[name][2:]
             or not same_sum(want[name][1], got[name][1])}
    assert not wrong, f"{len(wrong)} metrics differ (want, got): {dict(list(wrong.items())[:5])}"


def assert_same_series(want, got):
    """Every sample of `want` (prometheus_series) is in `got` (sql_series) with the same value, once, and
    the other way round; a stale marker counts as absent."""
    problems = []
    for labels in want.keys() | got.keys():
        expected = want.get(labels, {})
        rows = [(ms, raw) for ms, raw in got.get(labels, []) if raw != STALE_MARKER]
        found = dict(rows)
        if len(rows) != len(found):
            problems.append(f"{dict(labels)}: {len(rows) - len(found)} times are there twice")
        missing, extra = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
        if missing:
            problems.append(f"{dict(labels)}: {len(missing)} of {len(expected)} missing, {missing[0]} to {missing[-1]}")
        if extra:
            problems.append(f"{dict(labels)}: {len(extra)} that Prometheus does not have, as {extra[:3]}")
        different = [ms for ms in expected.keys() & found.keys() if not same_value(expected[ms], found[ms])]
        if different:
            ms = different[0]
            problems.append(f"{dict(labels)}: {len(different)} values differ: {ms}: {expected[ms]} {number(found[ms])}")
    assert not problems, f"{len(problems)} series differ:\n" + "\n".join(sorted(problems)[:20])


def same_value(value, raw):
    """JSON has one NaN, so any NaN (but a stale marker) is as good as another."""
    return math.isnan(number(raw)) if math.isnan(value) else bits(value) == raw
