"""INSERT and COPY that replace what is stored: against a plain model, in every table, with exact figures."""
import datetime
import io
import random

import psycopg2
import pytest

from conftest import DAY, HOUR

E = psycopg2.errors


@pytest.fixture
def over(db):
    db.sql("SELECT create_metric('m')")
    db.sql("SET promscale.on_conflict = 'overwrite'")
    return db


def keep(db):
    db.sql("SET promscale.on_conflict = 'keep'")


def values(db):
    return [v for _, v in sorted(db.shown("m").items())]


def test_one_value(over):
    at = over.now_ms() - HOUR
    over.put("m", '{"a": "1"}', [(at, 1.0), (at + 1000, 2.0)])
    over.put("m", '{"a": "1"}', [(at + 1000, 20.0), (at + 2000, 30.0)])
    assert values(over) == [1.0, 20.0, 30.0]
    keep(over)
    over.put("m", '{"a": "1"}', [(at, 7.0)])
    assert values(over) == [1.0, 20.0, 30.0]
    over.maintain()
    assert values(over) == [1.0, 20.0, 30.0]


def test_the_last_of_a_statement(over):
    at = over.now_ms() - HOUR
    over.put("m", "{}", [(at, 1.0), (at, 2.0), (at, 3.0)])
    assert values(over) == [3.0]
    assert "a later row of this statement" in over.conn.notices[-1]
    # in several goes, too: the setting's least is about 800 rows
    over.sql("SET promscale.write_memory = '64kB'")
    n = 5000
    over.put("m", "{}", [(at + i % 2500 * 10, float(i)) for i in range(n)])
    assert values(over) == [float(i) for i in range(2500, n)]
    assert over.one("SELECT num_samples FROM prom_info.metric") == 2500


@pytest.mark.parametrize("seed", range(4))
def test_like_a_table(over, seed):
    """A dict does the same; maintenance goes on between; what prom_info says stays true."""
    rng = random.Random(seed)
    over.sql("SELECT _prom_catalog.set_setting('retention_period', '0')")
    days = [over.now_ms() // DAY * DAY - d * DAY for d in (0, 1, 3, 700)]
    model = {}
    for turn in range(12):
        replace = rng.random() < 0.6
        over.sql(f"SET promscale.on_conflict = '{'overwrite' if replace else 'keep'}'")
        a = rng.choice("abc")
        at = rng.choice(days) + rng.randrange(3) * HOUR
        step = rng.choice((1000, 15_000))
        rows = [(at + i * step, float(rng.randrange(10 ** 6))) for i in range(rng.randrange(1, 200))]
        rng.shuffle(rows)
        if rng.random() < 0.5:
            over.put("m", f'{{"a": "{a}"}}', rows)
        else:
            text = "".join(f'{datetime.datetime.fromtimestamp(t / 1000, datetime.timezone.utc)}\t{v}\t{{"a": "{a}"}}\n'
                           for t, v in rows)
            with over.conn.cursor() as cur:
                cur.copy_expert("COPY prom_data.m (time, value, labels) FROM STDIN", io.StringIO(text))
        for t, v in rows:
            if replace or (a, t) not in model:
                model[a, t] = v
        over.views()
        series = dict(over.sql("SELECT series_id, a FROM prom_series.m"))
        assert {(series[s], t): v for (s, t), v in over.shown("m").items()} == model, turn
        if turn % 3 == 1:
            over.sql("SELECT _prom_ext.merge_step()")
        elif turn % 5 == 2:
            over.maintain()
        assert over.one("SELECT _prom_catalog.recount()") == 0
    over.maintain()
    assert {(series[s], t): v for (s, t), v in over.shown("m").items()} == model
    assert over.one("SELECT sum(num_samples) FROM prom_info.metric") >= len(model)


@pytest.mark.parametrize("form", ["fresh", "merged", "sealed"])
def test_figures_are_exact_afterwards(over, form):
    at = (over.now_ms() - 2 * DAY) // DAY * DAY
    over.put("m", '{"a": "1"}', [(at + i * 1000, 1.0) for i in range(1000)])
    if form == "merged":
        over.sql("SELECT _prom_ext.merge_step()")
    elif form == "sealed":
        over.maintain()
    over.put("m", '{"a": "1"}', [(at + i * 1000, 2.0) for i in range(250, 750)])
    assert over.one("SELECT num_samples FROM prom_info.metric") == 1000
    assert over.one("SELECT coalesce(sum(duplicates + conflicts), 0) FROM _prom_catalog.metric_conflict") == 0
    over.maintain()
    assert over.one("SELECT num_samples FROM prom_info.metric") == 1000
    assert values(over) == [1.0] * 250 + [2.0] * 500 + [1.0] * 250


def test_a_histogram_gives_way(over):
    metric, s = over.make("m")
    at = over.now_ms() - HOUR
    over.block("fresh", metric, [(metric, s, at + i, "{{schema:0 count:1 sum:1 buckets:[1]}}") for i in range(2)])
    over.put("m", "{}", [(at, 6.0)])
    assert over.column("SELECT (extract(epoch FROM time) * 1000)::int8 FROM _prom_data.histograms"
                       f" WHERE metric_id = {metric}") == [at + 1]
    assert values(over) == [6.0]


def test_copy_replaces_too(over):
    at = "2026-01-01 00:00:00+00"
    over.sql("SELECT _prom_catalog.set_setting('retention_period', '0')")
    for value in (1, 2):
        with over.conn.cursor() as cur:
            cur.copy_expert("COPY prom_data.m (time, value, labels) FROM STDIN", io.StringIO(f"{at}\t{value}\t{{}}\n"))
    assert values(over) == [2.0]


def test_is_for_those_who_may_delete(over):
    at = over.now_ms() - HOUR
    over.put("m", "{}", [(at, 1.0)])
    over.sql("SET ROLE prom_writer")
    with pytest.raises(E.InsufficientPrivilege, match="prom_modifier"):
        over.put("m", "{}", [(at, 2.0)])
    keep(over)
    over.put("m", "{}", [(at, 2.0)])
    over.sql("SET promscale.on_conflict = 'overwrite'; SET ROLE prom_modifier")
    over.put("m", "{}", [(at, 3.0)])
    over.sql("RESET ROLE")
    assert values(over) == [3.0]
    with pytest.raises(E.InvalidParameterValue):
        over.sql("SET promscale.on_conflict = 'both'")


def test_rolled_back(over):
    at = over.now_ms() - HOUR
    over.put("m", "{}", [(at, 1.0)])
    over.sql("BEGIN")
    over.put("m", "{}", [(at, 2.0)])
    assert values(over) == [2.0]
    over.sql("SAVEPOINT a")
    over.put("m", "{}", [(at, 3.0)])
    assert values(over) == [3.0]
    over.sql("ROLLBACK TO a")
    assert values(over) == [2.0]
    over.sql("ROLLBACK")
    assert values(over) == [1.0]
    other = over.connect()
    over.sql("BEGIN")
    over.put("m", "{}", [(at, 4.0)])
    cur = other.cursor()
    cur.execute("SELECT value FROM prom_metric.m")
    assert cur.fetchall() == [(1.0,)]  # one transaction: others see all of it or nothing
    over.sql("COMMIT")
    cur.execute("SELECT value FROM prom_metric.m")
    assert cur.fetchall() == [(4.0,)]


def test_update_says_how(over):
    over.put("m", "{}", [(over.now_ms(), 1.0)])
    with pytest.raises(E.FeatureNotSupported) as e:
        over.sql("UPDATE prom_data.m SET value = 2")
    assert "promscale.on_conflict" in e.value.diag.message_hint


def test_row_level_security(over):
    """A policy that hides rows hides them from replacing as well: they stay as they are."""
    at = over.now_ms() - HOUR
    over.put("m", "{}", [(at, 1.0)])
    over.sql("CREATE ROLE narrow LOGIN IN ROLE prom_modifier")
    try:
        over.sql("ALTER TABLE _prom_data.fresh ENABLE ROW LEVEL SECURITY;"
                 "CREATE POLICY others ON _prom_data.fresh TO narrow USING (id > %s) WITH CHECK (true)"
                 % over.one("SELECT max(id) FROM _prom_data.fresh"))
        conn = over.connect("narrow")
        conn.cursor().execute("SET promscale.on_conflict = 'overwrite'")
        conn.cursor().execute("INSERT INTO prom_data.m (time, value, labels) VALUES (to_timestamp(%s), 2, '{}')",
                              (at / 1000,))
        conn.close()
        assert values(over) == [1.0]
    finally:
        over.sql("DROP OWNED BY narrow; DROP ROLE narrow")
