"""Our time_bucket, first and last against TimescaleDB's: the same answers to random questions, and errors where it has
them. test_where_we_differ has the exceptions.
"""
import random

import pytest

SEED = random.SystemRandom().randrange(1 << 32)
CASES = 4000

# The answer as text, or the class of the error
ASK = """
CREATE FUNCTION public.ask(question text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE answer text;
BEGIN
    EXECUTE 'SELECT ' || question INTO answer;
    RETURN answer;
EXCEPTION WHEN data_exception OR invalid_parameter_value OR feature_not_supported OR internal_error THEN
    RETURN 'error';
END $$
"""


def moment(rng):
    """Mostly years that people use; edges of days, months and buckets; from our year 70 on (before Christ their months
    of dates begin on any day)."""
    kind = rng.random()
    if kind < 0.6:
        us = rng.randrange(0, 60 * 365 * 86_400_000_000)  # 1970 to 2030
    elif kind < 0.9:
        us = rng.randrange(-1_900 * 365, 7_900 * 365) * 86_400_000_000
    else:
        us = rng.randrange(-1_900 * 365, 7_900 * 365) * 86_400_000_000 + rng.choice((-1, 1))
    return us


def timestamptz(rng):
    return f"(timestamptz 'epoch' + {moment(rng) / 1e6:.6f} * interval '1 s')"


def timestamp(rng):
    return timestamptz(rng) + "::timestamp"


def date(rng):
    return f"(date '1970-01-01' + {moment(rng) // 86_400_000_000})"


def of_months(rng):
    return f"interval '{rng.randrange(1, 60)} {rng.choice(('years', 'months'))}'"


def of_days(rng):
    return f"interval '{rng.randrange(1, 90)} {rng.choice(('days', 'weeks'))}'"


def of_less(rng):
    if rng.random() < 0.7:
        return f"interval '{rng.randrange(1, 90)} {rng.choice(('ms', 's', 'min', 'hours', 'us'))}'"
    return (f"interval '{rng.randrange(0, 9)} days {rng.randrange(0, 30)}:{rng.randrange(0, 60)}"
            f":07.{rng.randrange(10 ** 6):06}'")


def bad(rng):
    return "interval '" + rng.choice(("0", "-1 h", "-1 day", "-1 month", "1 month 1 day", "1 month -1 h",
                                      "-1 day 23 h")) + "'"


def width(rng):
    return rng.choice((of_months, of_days, of_less, of_less, of_less, bad if rng.random() < 0.3 else of_less))(rng)


def width_of_dates(rng):
    return rng.choice((of_months, of_days, bad if rng.random() < 0.1 else of_days))(rng)


def offset(rng):
    return rng.choice((f"interval '{rng.randrange(-100, 100)} {rng.choice(('min', 'hours', 'days', 's', 'ms'))}'",
                       f"interval '{rng.randrange(-30, 30)} {rng.choice(('months', 'years'))}'",
                       f"interval '{rng.randrange(-3, 3)} months {rng.randrange(-40, 40)} days 77 min'"))


def infinity(rng):
    return rng.choice(("timestamptz 'infinity'", "timestamptz '-infinity'"))


FORMS = {
    "timestamptz": lambda r: (width(r), timestamptz(r)),
    "timestamptz, origin": lambda r: (width(r), timestamptz(r), timestamptz(r)),
    "timestamptz, offset": lambda r: (width(r), timestamptz(r), offset(r)),
    "timestamp": lambda r: (width(r), timestamp(r)),
    "timestamp, origin": lambda r: (width(r), timestamp(r), timestamp(r)),
    "timestamp, offset": lambda r: (width(r), timestamp(r), offset(r)),
    "date": lambda r: (width_of_dates(r), date(r)),
    "date, origin": lambda r: (width_of_dates(r), date(r), date(r)),
    "date, offset": lambda r: (width_of_dates(r), date(r), offset(r)),
    "infinite": lambda r: (of_less(r), infinity(r)),
    "infinite, origin": lambda r: (of_months(r), infinity(r), timestamptz(r)),
    "infinite, offset": lambda r: (of_days(r), infinity(r), offset(r)),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_same_answers(db, form):
    rng = random.Random(f"{SEED} {form}")
    print("seed", SEED)
    db.sql("DROP FUNCTION IF EXISTS public.ask")
    db.sql(ASK)
    calls = [f"time_bucket({', '.join(FORMS[form](rng))})" for _ in range(CASES)]
    rows = db.sql("SELECT call, ask('prom_api.' || call), ask('public.' || call) FROM unnest(%s) AS call", (calls,))
    assert [row for row in rows if row[1] != row[2]] == []
    answers = sum(row[1] != "error" for row in rows)
    assert answers > CASES / 2 and (answers < CASES or form.startswith("infinite"))


@pytest.mark.parametrize("call, ours, theirs", [
    # they look at the width only if they use it
    ("interval '0', timestamptz 'infinity'", "error", "infinity"),
    # days of less than a day: theirs refuses, ours gives the day that the bucket begins on
    ("interval '36 hours', date '2000-01-05'", "2000-01-04", "error"),
])
def test_where_we_differ(db, call, ours, theirs):
    db.sql("DROP FUNCTION IF EXISTS public.ask")
    db.sql(ASK)
    got = db.sql("SELECT ask('prom_api.time_bucket(' || c || ')'), ask('public.time_bucket(' || c || ')')"
                 " FROM (SELECT %s AS c) x", (call,))
    assert got == [(ours, theirs)]


def test_an_infinite_origin(db):
    """An error; theirs reckons with it as with a number."""
    db.sql("DROP FUNCTION IF EXISTS public.ask")
    db.sql(ASK)
    call = "time_bucket('1 hour', timestamptz '2024-01-01 00:00Z', timestamptz 'infinity')"
    assert db.sql("SELECT ask('prom_api.' || %s), ask('public.' || %s)", (call, call))[0][0] == "error"


@pytest.mark.parametrize("aggregate", ["first", "last"])
def test_first_and_last(db, aggregate):
    """In every order of the rows, over metrics (where the scan may compute it) and elsewhere; NULLs as theirs."""
    for source in ("cpu_usage", "(SELECT * FROM cpu_usage ORDER BY time DESC OFFSET 0) x",
                   "(SELECT * FROM cpu_usage ORDER BY random()) x",
                   "(VALUES (1::float8, timestamptz '2024-01-01', 7), (NULL, '2025-01-01', 7), (2, NULL, 8),"
                   " (NULL, NULL, 9), (3, '2023-01-01', 7)) x(value, time, series_id)"):
        got = db.sql(f"SELECT series_id, prom_api.{aggregate}(value, time), public.{aggregate}(value, time)"
                     f" FROM {source} GROUP BY 1 ORDER BY 1")
        assert len(got) == 3
        assert [row[1] for row in got] == [row[2] for row in got], source
