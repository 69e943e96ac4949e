"""A metric most of whose series are gone: who asks for a time reads the series that lived then, and the answers are
those of reading all."""
import random

import pytest

from conftest import Database

GONE, LIVE, NEW = 9000, 60, 20
NOW = 1_700_000_000  # s
DAY, HOUR = 86400, 3600
EVERYTHING = GONE + LIVE + NEW
SMALLER = 800  # gone ones of a metric that is not that large


def at(s):
    return f"to_timestamp({s})"


def insert(db, pods, times, metric="churn"):
    db.sql(f"INSERT INTO prom_data.{metric} (time, value, labels) SELECT to_timestamp(t), i + mod(t, 1000), jsonb_build_object('pod',"
           f" 'pod-' || i, 'node', 'n' || mod(i, 7)) FROM {pods} i, unnest(%s::int8[]) t", (times,))


@pytest.fixture(scope="module")
def churn(server):
    db = Database(server, server.new_database())
    db.sql("SELECT prom_api.set_default_retention_period('100 years')")
    db.sql("SELECT prom_api.create_metric('churn'), prom_api.create_metric('smaller')")
    insert(db, f"generate_series(1, {GONE})", [NOW - 3 * DAY, NOW - 3 * DAY + 8 * HOUR])
    insert(db, "generate_series(1, 50)", [NOW - 20 * DAY])
    insert(db, f"generate_series(1, {SMALLER})", [NOW - 3 * DAY], "smaller")
    db.sql("CALL prom_api.execute_maintenance(force => true)")
    insert(db, f"generate_series({GONE + 1}, {GONE + LIVE})", [NOW - 2000, NOW - 900])
    insert(db, f"generate_series({SMALLER + 1}, {SMALLER + LIVE})", [NOW - 900], "smaller")
    while db.one("SELECT did FROM _prom_ext.merge_step()"):
        pass
    # in no set yet: new ones, and one that wakes up
    insert(db, f"generate_series({GONE + LIVE + 1}, {EVERYTHING})", [NOW - 60])
    insert(db, "generate_series(17, 17)", [NOW - 45])
    db.sql("ANALYZE _prom_catalog.series")
    db.close()
    db = Database(server, db.name)
    db.sql("SET enable_seqscan = off")  # so few series are no matter
    assert db.one("SELECT count(*) FROM _prom_data.fresh") > 0 and db.one("SELECT count(*) FROM _prom_data.merged") > 0
    yield db
    db.close()


def read(db, query):
    """The rows, and how many of the catalog's series were fetched for them."""
    count = "SELECT pg_stat_get_xact_tuples_returned(c) + pg_stat_get_xact_tuples_fetched(c) FROM (SELECT indexrelid c FROM" \
            " pg_index WHERE indrelid = '_prom_catalog.series'::regclass UNION ALL SELECT '_prom_catalog.series'::regclass) x"
    db.sql("BEGIN")
    try:
        before = sum(r[0] for r in db.sql(count))
        rows = db.sql(query)
        return sorted(rows, key=str), sum(r[0] for r in db.sql(count)) - before
    finally:
        db.sql("ROLLBACK")


def without_sets(db, query):
    db.sql("BEGIN")
    try:
        db.sql("DELETE FROM _prom_data.presence")
        return sorted(db.sql(query), key=str)
    finally:
        db.sql("ROLLBACK")


QUERIES = [
    "SELECT count(*), sum(value), count(DISTINCT series_id) FROM churn WHERE time > {from_}",
    "SELECT time, value, series_id, val(pod_id) FROM churn WHERE time BETWEEN {from_} AND {to} AND labels ? ('node' == 'n3')",
    "SELECT node_id, avg(value) FROM churn WHERE time >= {from_} AND labels ? ('pod' !== 'pod-9002') GROUP BY node_id",
    "SELECT DISTINCT ON (series_id) series_id, time, value FROM churn WHERE time > {from_} ORDER BY series_id, time DESC",
    "SELECT jsonb(labels), value FROM promql('churn', {to})",
    "SELECT jsonb(labels), time, value FROM promql_range('sum by (node) (rate(churn[20m]))', {from_}, {to}, '5 min')",
    "SELECT value FROM promql('count(churn{{node!=\"n1\"}})', {to})",
]


@pytest.mark.parametrize("query", QUERIES)
def test_those_that_live_are_read(churn, query):
    text = query.format(from_=at(NOW - HOUR), to=at(NOW))
    rows, fetched = read(churn, text)
    assert rows and rows == without_sets(churn, text)
    assert fetched < EVERYTHING / 2


def test_those_of_a_smaller_metric(churn):
    text = f"SELECT jsonb(labels), value FROM promql('smaller', {at(NOW - 800)})"
    rows, fetched = read(churn, text)
    assert len(rows) == LIVE and rows == without_sets(churn, text)
    assert fetched < SMALLER


def test_of_any_time(churn):
    rng = random.Random(5)
    for _ in range(25):
        first = NOW - rng.choice([0, HOUR, DAY, 3 * DAY, 4 * DAY, 20 * DAY, 30 * DAY]) + rng.randint(-9 * HOUR, HOUR)
        to = first + rng.choice([1, HOUR, 8 * HOUR, 3 * DAY, 40 * DAY])
        query = f"SELECT count(*), sum(value), sum(series_id) FROM churn WHERE time >= {at(first)} AND time < {at(to)}"
        assert read(churn, query)[0] == without_sets(churn, query), (first, to)


def test_time_by_time(churn):
    """A scan that is begun anew for each time."""
    hours = ", ".join(f"({at(NOW - h * HOUR)})" for h in (1, 2, 72, 64, 500, 0, 481, 1))
    query = (f"SELECT h, (SELECT count(*) || ' ' || coalesce(sum(value), 0) FROM churn WHERE time >= h AND time < h + interval"
             f" '1 hour') FROM (VALUES {hours} OFFSET 0) v(h)")
    rows = read(churn, query)[0]
    assert rows == without_sets(churn, query) and len({r[1] for r in rows}) > 3


def test_a_damaged_set_costs_time_alone(churn):
    query = QUERIES[0].format(from_=at(NOW - HOUR))
    whole = churn.sql(query)
    churn.sql("BEGIN")
    churn.sql("UPDATE _prom_data.presence SET series_ids = set_byte(series_ids, 9, get_byte(series_ids, 9) # 1)")
    assert churn.sql(query) == whole
    churn.sql("ROLLBACK")


def test_who_may_not_see_all_sets(churn):
    query = QUERIES[0].format(from_=at(NOW - 21 * DAY))
    whole = churn.sql(query)
    churn.sql("BEGIN")
    churn.sql("CREATE ROLE churn_reader IN ROLE prom_reader")
    churn.sql("ALTER TABLE _prom_data.presence ENABLE ROW LEVEL SECURITY")
    churn.sql(f"CREATE POLICY old ON _prom_data.presence USING (window_start < {at(NOW - 10 * DAY)})")
    churn.sql("SET LOCAL ROLE churn_reader")
    assert churn.sql(query) == whole
    churn.sql("ROLLBACK")
    churn.sql("BEGIN")
    churn.sql("CREATE ROLE churn_reader")
    churn.sql("GRANT USAGE ON SCHEMA prom_metric, _prom_data, _prom_catalog, prom_api, ps_tag, _prom_ext TO churn_reader")
    churn.sql("GRANT SELECT ON prom_metric.churn, _prom_data.samples, _prom_data.block, _prom_data.block_far,"
              " _prom_data.merged, _prom_data.fresh, _prom_catalog.series, _prom_catalog.metric TO churn_reader")
    churn.sql("SET LOCAL ROLE churn_reader")
    assert churn.sql(query) == whole
    churn.sql("ROLLBACK")


def test_the_planner_counts_those_that_live(churn):
    """How many series there are, and what share of them a matcher leaves: of the pods that live all are named so, of
    all together few."""
    recent = f"time BETWEEN {at(NOW - HOUR)} AND {at(NOW)}"
    every = f"SELECT DISTINCT series_id FROM churn WHERE {recent}"
    named = f"SELECT * FROM churn WHERE {recent} AND labels ? ('pod' ==~ '^pod-90[0-9][0-9]$')"
    live, rows = LIVE + NEW + 1, len(churn.sql(named))
    assert live / 2 <= churn.rows(every) <= live * 2
    assert rows / 2 <= churn.rows(named) <= rows * 2
    churn.sql("BEGIN")
    churn.sql("DELETE FROM _prom_data.presence")
    assert churn.rows(named) < rows / 2
    churn.sql("ROLLBACK")
    churn.sql("BEGIN")  # of no use: as if there were none
    churn.sql("UPDATE _prom_data.presence SET series_ids = set_byte(series_ids, 9, get_byte(series_ids, 9) # 1)")
    assert churn.rows(named) < rows / 2
    churn.sql("ROLLBACK")
