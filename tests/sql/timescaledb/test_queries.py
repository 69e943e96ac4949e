"""Queries over metrics in a database where TimescaleDB's functions are in reach."""
import datetime

import pytest

from conftest import HOSTS, SAMPLES, STEP, T0, load, value
from database import series
from test_beside import use_hypertable

UTC = datetime.timezone.utc
START = datetime.datetime.fromtimestamp(T0 / 1000, UTC)


def buckets(width_s, shift_s=0, samples=SAMPLES):
    """{(bucket, host): values in the order of time}, of samples in buckets that begin at shift_s."""
    found = {}
    for h in HOSTS:
        for i in range(samples):
            t = (T0 + i * STEP) // 1000
            begin = datetime.datetime.fromtimestamp((t - shift_s) // width_s * width_s + shift_s, UTC)
            found.setdefault((begin, h), []).append(value(h, i))
    return found


FORMS = {
    "time_bucket('5 min', time)": (300, 0),
    "time_bucket(interval '5 min', time)": (300, 0),
    "time_bucket('1 hour', time, timestamptz '2024-05-01 00:10Z')": (3600, 600),
    "time_bucket('1 hour', time, interval '10 min')": (3600, 600),
    "time_bucket('1 hour', time, '10 min'::interval)": (3600, 600),
    "time_bucket('1 hour', time, origin => '2024-05-01 00:10Z')": (3600, 600),
    "time_bucket('1 hour', time, \"offset\" => '10 min')": (3600, 600),
    "time_bucket('6 hours', time, 'Europe/Berlin')": (21600, 14400),
    "time_bucket('1 day', time)": (86400, 0),
    "date_bin('5 min', time, '2001-01-01Z')": (300, 0),
    "public.time_bucket('5 min', time)": (300, 0),
}


@pytest.mark.parametrize("bucket", FORMS)
def test_bucket_forms(db, bucket):
    expected = buckets(*FORMS[bucket])
    got = db.sql(f"SELECT {bucket}, val(host_id), count(*), min(value), max(value), avg(value), sum(value)"
                 " FROM cpu_usage GROUP BY 1, host_id")
    assert len(got) == len(expected)
    for begin, host, n, low, high, average, total in got:
        values = expected[begin, host]
        assert (n, low, high, total) == (len(values), min(values), max(values), sum(values)), (begin, host)
        assert average == pytest.approx(sum(values) / len(values), rel=1e-12)


PATHS = ["public, prom_api, prom_metric", "prom_api, prom_metric, public", "prom_metric, prom_api, pg_catalog, public"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("bucket", [b for b in FORMS if not b.startswith("public")])
def test_no_form_is_ambiguous_in_any_search_path(server, db, path, bucket):
    conn = server.connect(db.name)
    cur = conn.cursor()
    cur.execute(f"SET search_path = {path}")
    cur.execute(f"SELECT {bucket}, val(host_id), count(*) FROM cpu_usage WHERE time < '2024-05-01 06:00Z'"
                " GROUP BY 1, host_id")
    expected = {key: len(values) for key, values in buckets(*FORMS[bucket], samples=720).items()}
    assert {(begin, host): n for begin, host, n in cur.fetchall()} == expected
    conn.close()


@pytest.mark.parametrize("day, zones, samples", [
    ("2024-03-31", ["Europe/Berlin"], 138), ("2024-10-27", ["Europe/Berlin"], 150),
    ("2024-03-10", ["America/New_York"], 138), ("2024-04-06", ["Australia/Lord_Howe"], 147)])
def test_days_when_clocks_change(server, day, zones, samples):
    """Days of 23 and 25 hours: a zone's buckets are not of one width."""
    db = server.create()
    try:
        begin = datetime.datetime.fromisoformat(day).replace(tzinfo=UTC) - datetime.timedelta(days=1)
        t0 = int(begin.timestamp()) * 1000
        got = db.resolve([series("m", a=h) for h in HOSTS])
        db.block("fresh", got.metrics[0], [(got.metrics[0], s, t0 + i * 600_000, float(i))
                                           for s in got.series for i in range(3 * 144)])
        db.views()
        for zone in [*zones, "UTC"]:
            query = (f"SELECT time_bucket('1 day', time, '{zone}'), series_id, count(*), sum(value), min(time)"
                     " FROM {} GROUP BY 1, 2 ORDER BY 1, 2")
            expected = db.sql("WITH rows AS MATERIALIZED (SELECT * FROM m) " + query.format("rows"))
            assert db.sql(query.format("m")) == expected
            assert zone == "UTC" or samples in {row[2] for row in expected}
    finally:
        server.remove(db)


@pytest.mark.parametrize("keys, aggregates", [
    (["public.time_bucket('5 min', time)"], "count(*), sum(value), min(value), max(value), avg(value)"),
    (["public.time_bucket('1 hour', time, interval '10 min')", "host_id"], "count(*), max(time)"),
    (["prom_api.time_bucket('5 min', time)", "series_id"], "avg(value)"),
    (["host_id"], "public.first(value, time), public.last(value, time)"),
    (["host_id"], "prom_api.first(value, time), prom_api.last(value, time)"),
])
def test_computed_in_the_scan(db, keys, aggregates):
    """Aggregates with TimescaleDB's functions in them come out of the blocks as with ours; the answers are those
    of plain rows."""
    query = f"SELECT {', '.join(keys)}, {aggregates} FROM {{}} GROUP BY {', '.join(keys)} ORDER BY {', '.join(keys)}"
    plan = "\n".join(db.column("EXPLAIN " + query.format("cpu_usage")))
    assert "Aggregate: " in plan and "HashAggregate" not in plan and "GroupAggregate" not in plan, plan
    got = db.sql(query.format("cpu_usage"))
    rows = db.sql("WITH rows AS MATERIALIZED (SELECT * FROM cpu_usage) " + query.format("rows"))
    assert len(got) == len(rows) > 0
    for row, expected in zip(got, rows):
        for x, y in zip(row, expected):
            assert x == (pytest.approx(y, rel=1e-12) if isinstance(y, float) else y), (row, expected)


def test_first_and_last(db):
    got = db.sql("SELECT time_bucket('1 hour', time), val(host_id), first(value, time), last(value, time)"
                 " FROM cpu_usage GROUP BY 1, host_id")
    expected = buckets(3600)
    assert len(got) == len(expected)
    for begin, host, first, last in got:
        assert (first, last) == (expected[begin, host][0], expected[begin, host][-1])
    # of other types they are TimescaleDB's
    assert db.one("SELECT last(host, time) FROM (VALUES ('x', 2), ('y', 1)) v(host, time)") == "x"


def test_joins_with_a_hypertable(server):
    db = server.create()
    try:
        load(db)
        use_hypertable(db)
        db.sql("ANALYZE deploys")
        expected = sorted((f"v{h}", chr(97 + h % 3), value(chr(97 + h % 3), h * 120)) for h in range(24))
        joins = ("FROM deploys d JOIN cpu_usage c ON c.time = d.time AND val(c.host_id) = d.host",
                 "FROM cpu_usage c JOIN deploys d USING (time) WHERE c.host_id = (SELECT id FROM prom_label l"
                 " WHERE l.value = d.host)",
                 "FROM prom_series.cpu_usage s JOIN deploys d ON d.host = s.host JOIN cpu_usage c"
                 " ON c.series_id = s.series_id AND c.time = d.time",
                 "FROM deploys d CROSS JOIN LATERAL (SELECT value FROM cpu_usage c WHERE c.time = d.time"
                 " AND c.labels ? ('host' == d.host)) c")
        db.sql("CREATE TEMP VIEW prom_label AS SELECT l.id, l.value FROM _prom_catalog.label l"
               " JOIN _prom_catalog.label_key k ON k.id = l.key_id WHERE k.key = 'host'")
        for join in joins:
            for setting in ("enable_hashjoin", "enable_mergejoin", "enable_nestloop"):
                db.sql(f"SET {setting} = off")
                assert sorted(db.sql(f"SELECT d.what, d.host, c.value {join}")) == expected, (join, setting)
                db.sql(f"RESET {setting}")
        # rates around each deploy, with the hypertable's bucket as the key of the join
        got = db.sql("SELECT d.what, avg FROM (SELECT time_bucket('1 hour', time) AS b, host_id, avg(value)"
                     " FROM cpu_usage GROUP BY 1, 2) c JOIN deploys d ON time_bucket('1 hour', d.time) = b"
                     " AND val(host_id) = d.host")
        hours = buckets(3600)
        assert len(got) == 24
        for what, average in got:
            h = int(what[1:])
            values = hours[START + datetime.timedelta(hours=h), chr(97 + h % 3)]
            assert average == pytest.approx(sum(values) / len(values), rel=1e-12)
    finally:
        server.remove(db)


def test_metrics_into_a_hypertable(server):
    """INSERT ... SELECT from a metric, in one transaction with the hypertable's own rows."""
    db = server.create()
    try:
        load(db)
        db.sql("CREATE TABLE hourly (time timestamptz NOT NULL, host text, avg float8)")
        db.sql("SELECT create_hypertable('hourly', 'time')")
        db.sql("INSERT INTO hourly SELECT time_bucket('1 hour', time), val(host_id), avg(value)"
               " FROM cpu_usage GROUP BY 1, host_id")
        got = {(t, h): a for t, h, a in db.sql("SELECT * FROM hourly")}
        expected = buckets(3600)
        assert got.keys() == expected.keys()
        for key, values in expected.items():
            assert got[key] == pytest.approx(sum(values) / len(values), rel=1e-12)
    finally:
        server.remove(db)
