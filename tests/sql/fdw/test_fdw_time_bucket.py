"""time_bucket, against date_bin and against the calendar."""

import datetime
import random

import psycopg2
import pytest

UTC = datetime.timezone.utc


@pytest.fixture(scope="module")
def sql(server):
    server.create("bucket_db")
    server.sql("ALTER DATABASE bucket_db SET search_path = public, prom_api")
    conn = server.connect("bucket_db")

    def run(text, args=None):
        cur = conn.cursor()
        cur.execute(text, args)
        return cur.fetchall() if cur.description else None
    yield run
    conn.close()


def test_widths_of_days_and_less(sql):
    """Counted from a Monday, on both sides of it, whatever the session's zone."""
    for zone in ("UTC", "America/St_Johns", "Australia/Lord_Howe"):
        sql(f"SET timezone = '{zone}'")
        for width in ("1 us", "7 ms", "1 min", "90 min", "1 day", "1 week", "10 days 3 h", "1000 days"):
            wrong = sql("""
                WITH t AS (SELECT timestamptz '2000-01-03 00:00:00Z' + (random() - 0.5) * interval '2000 days' AS t
                           FROM generate_series(1, 300)
                           UNION SELECT timestamptz '2000-01-03 00:00:00Z' + g * interval %(w)s - e * interval '1 us'
                           FROM generate_series(-3, 3) g, generate_series(0, 1) e)
                SELECT t FROM t WHERE NOT (time_bucket(%(w)s, t) <= t
                    AND extract(epoch FROM t - time_bucket(%(w)s, t)) < extract(epoch FROM interval %(w)s)
                    AND mod(extract(epoch FROM time_bucket(%(w)s, t) - timestamptz '2000-01-03 00:00:00Z')::numeric,
                            extract(epoch FROM interval %(w)s)::numeric) = 0)""", dict(w=width))
            assert wrong == [], (zone, width)
    sql("SET timezone = 'UTC'")


def test_origin_and_offset(sql):
    assert sql("SELECT count(*) FROM (SELECT timestamptz 'epoch' + random() * interval '20000 days' AS t"
               " FROM generate_series(1, 500)) x WHERE time_bucket('11 h', t, timestamptz '2031-05-05 05:05:05.000005Z')"
               " <> date_bin('11 h', t, '2001-05-05 05:05:05.000005Z'::timestamptz"
               " + (extract(epoch FROM timestamptz '2031-05-05' - timestamptz '2001-05-05')::int8 %% 39600)"
               " * interval '1 s')", ()) == [(0,)]
    assert sql("SELECT time_bucket('1 day', t, interval '7 h')::text, time_bucket('1 day', t, interval '-30 min')::text,"
               " time_bucket('2 weeks', t::timestamp, interval '1 day')::text"
               " FROM (SELECT timestamptz '2024-05-05 03:00Z' AS t) x") == [
                   ("2024-05-04 07:00:00+00", "2024-05-04 23:30:00+00", "2024-04-23 00:00:00")]


def test_months(sql):
    rng = random.Random(5)
    for _ in range(300):
        width = rng.randrange(1, 40)
        t = datetime.datetime(rng.randrange(1, 9999), rng.randrange(1, 13), rng.randrange(1, 29), 23, 59, tzinfo=UTC)
        origin = datetime.datetime(rng.randrange(1, 9999), rng.randrange(1, 13), 17, tzinfo=UTC)
        for start, more in ((datetime.datetime(2000, 1, 1), ""), (origin, ", %(o)s::timestamptz")):
            base = start.year * 12 + start.month - 1
            months = base + (t.year * 12 + t.month - 1 - base) // width * width
            got = sql(f"SELECT extract(year FROM b) * 12 + extract(month FROM b) - 1, extract(day FROM b), b = b::date"
                      f" FROM (SELECT time_bucket(make_interval(months => %(w)s), %(t)s::timestamptz{more})"
                      " AT TIME ZONE 'UTC' AS b) x", dict(w=width, t=t, o=origin))
            if months >= 12:
                assert [int(x) for x in got[0]] == [months, 1, 1], (width, t, more)


def test_dates_and_infinities(sql):
    assert sql("SELECT time_bucket('1 week', date '2024-02-29')::text, time_bucket('3 months', date '2024-02-29')::text,"
               " time_bucket('5 days', date '2024-02-29', date '2024-02-28')::text,"
               " time_bucket('1 month', date '2024-02-29', interval '3 days')::text") == [
                   ("2024-02-26", "2024-01-01", "2024-02-28", "2024-02-04")]
    for infinity in ("infinity", "-infinity"):
        for width in ("1 h", "1 month"):
            assert sql(f"SELECT time_bucket('{width}', timestamptz '{infinity}') = '{infinity}',"
                       f" time_bucket('{width}', timestamp '{infinity}') = '{infinity}',"
                       f" time_bucket('{width}', date '{infinity}') = '{infinity}'") == [(True, True, True)]
    assert sql("SELECT time_bucket(NULL, now()), time_bucket('1 h', NULL::timestamptz)") == [(None, None)]


@pytest.mark.parametrize("call, code", [
    ("time_bucket('0', now())", "22023"), ("time_bucket('-1 h', now())", "22023"),
    ("time_bucket('-1 month', now())", "22023"), ("time_bucket('1 month 1 day', now())", "22023"),
    ("time_bucket('1 month 1 us', now())", "22023"), ("time_bucket('1 h', now(), timestamptz 'infinity')", "22023"),
    ("time_bucket('0', timestamptz 'infinity')", "22023"),
    ("time_bucket('1000 days', timestamptz '4714-11-24 00:00:01 BC')", "22008"),
    ("time_bucket('100 years', timestamptz '4714-11-24 00:00:01 BC')", "22008"),
    ("time_bucket('2000000000 days', now())", "22008"),
])
def test_refused(sql, call, code):
    with pytest.raises(psycopg2.Error) as e:
        sql(f"SET timezone = 'UTC'; SELECT {call}")
    assert e.value.pgcode == code


def test_signatures(sql):
    """Those of TimescaleDB's functions: identical ones shadow each other and are never ambiguous."""
    rows = sql("SELECT pg_get_function_arguments(p.oid), pg_get_function_result(p.oid), provolatile, proisstrict,"
               " proparallel FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace"
               " WHERE nspname = 'prom_api' AND proname = 'time_bucket'")
    assert {r[2:] for r in rows} == {("i", True, "s")} and len(rows) == 9
    for type_, name in (("timestamp with time zone",) * 2, ("timestamp without time zone",) * 2, ("date",) * 2):
        for more in ("", f", origin {type_}", ', "offset" interval'):
            assert (f"bucket_width interval, ts {type_}{more}", name) in [r[:2] for r in rows]
