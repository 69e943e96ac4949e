"""Settings of metrics: what they refuse, what they say, and that maintenance does what they say."""
import psycopg2
import pytest

from conftest import DAY, HOUR
from database import series

SET = {"retention": "set_metric_retention_period(%s, '7 days'::interval)",
       "chunk": "set_metric_chunk_interval(%s, '2 hours'::interval)",
       "compression": "set_metric_compression_setting(%s, false)"}
GET = {"retention": "get_metric_retention_period(%s)::text", "chunk": "get_metric_chunk_interval(%s)::text",
       "compression": "_prom_catalog.get_metric_compression_setting(%s)::text"}
RESET = {"retention": "reset_metric_retention_period(%s)", "chunk": "reset_metric_chunk_interval(%s)",
         "compression": "reset_metric_compression_setting(%s)"}
DEFAULTS = {"retention": "90 days", "chunk": "08:00:00", "compression": "true"}
CHOSEN = {"retention": "7 days", "chunk": "02:00:00", "compression": "false"}
ODD_NAMES = ["CAPITAL", "no tags", 'quo"te', "it's", "x" * 10_000, "é" * 40, "%I", "$1", "\\"]


def error(db, text, args=None):
    with pytest.raises(psycopg2.Error) as e:
        db.sql(f"SELECT {text}", args)
    assert e.value.diag.message_hint, f"no hint: {e.value}"
    assert len(e.value.diag.message_primary) < 300
    return e.value.pgcode


@pytest.mark.parametrize("kind", SET)
def test_by_metric_and_by_default(db, kind):
    name = "m"
    db.make(name)
    db.make("other")
    assert db.one(f"SELECT {GET[kind]}", (name,)) == DEFAULTS[kind]
    assert db.one(f"SELECT {SET[kind]}", (name,)) is True
    assert db.one(f"SELECT {GET[kind]}", (name,)) == CHOSEN[kind]
    assert db.one(f"SELECT {GET[kind]}", ("other",)) == DEFAULTS[kind]
    assert db.one(f"SELECT {RESET[kind]}", (name,)) is True
    assert db.one(f"SELECT {GET[kind]}", (name,)) == DEFAULTS[kind]
    assert db.one(f"SELECT {RESET[kind]}", (name,)) is True  # nothing to undo is no error


@pytest.mark.parametrize("name", ODD_NAMES)
@pytest.mark.parametrize("kind", SET)
def test_a_setting_may_come_before_the_metric(shared_db, kind, name):
    db, name = shared_db, f"{name}{kind}"
    assert db.one(f"SELECT {SET[kind]}", (name,)) is True
    assert db.one(f"SELECT {GET[kind]}", (name,)) == CHOSEN[kind]
    assert db.one("SELECT count(*) FROM prom_info.metric WHERE metric_name = %s", (name,)) == 1
    made = db.one("SELECT id FROM _prom_catalog.metric WHERE metric_name = %s", (name,))
    assert db.make(name, host="a")[0] == made, "samples must find the metric that the setting made"
    assert db.one(f"SELECT {GET[kind]}", (name,)) == CHOSEN[kind]


def test_shown_and_defaults_reach_every_metric(db):
    shown = ("SELECT metric_name, retention_period::text, chunk_interval::text FROM prom_info.metric ORDER BY 1")
    db.make("a")
    db.sql("SELECT set_default_retention_period('30 days'), set_default_chunk_interval('6 hours'),"
           " set_default_compression_setting(false)")
    db.make("b")
    db.sql(f"SELECT {SET['retention']}, {SET['chunk']}, {SET['compression']}", ("b",) * 3)
    db.make("c")
    assert db.sql(shown) == [("a", "30 days", "06:00:00"), ("b", "7 days", "02:00:00"), ("c", "30 days", "06:00:00")]
    assert db.sql("SELECT get_default_metric_retention_period()::text, get_default_chunk_interval()::text,"
                  " _prom_catalog.get_default_compression_setting()") == [("30 days", "06:00:00", False)]
    db.sql("SELECT set_default_retention_period('1 month'), set_default_chunk_interval('1 hour'),"
           " set_default_compression_setting(true)")
    assert db.sql(shown) == [("a", "1 mon", "01:00:00"), ("b", "7 days", "02:00:00"), ("c", "1 mon", "01:00:00")]
    assert db.one("SELECT _prom_catalog.get_metric_compression_setting('b')") is False
    assert db.one("SELECT _prom_catalog.get_metric_compression_setting('c')") is True


def test_the_form_with_a_schema(db):
    db.make("m")
    assert db.one("SELECT set_metric_retention_period('prom_data', 'm', '3 days')")
    assert db.one("SELECT get_metric_retention_period('prom_data', 'm')::text") == "3 days"
    assert db.one("SELECT reset_metric_retention_period('prom_data', 'm')")
    assert db.one("SELECT get_metric_retention_period('m')::text") == "90 days"
    for call in ("set_metric_retention_period('public', 'm', '3 days')", "get_metric_retention_period('public', 'm')",
                 "reset_metric_retention_period('public', 'm')"):
        assert error(db, call) == "3F000"
    for call in ("set_metric_retention_period(NULL, 'm', '3 days')", "reset_metric_retention_period(NULL, 'm')"):
        assert error(db, call) == "22004"


def test_unknown_metrics(db):
    assert db.one("SELECT get_metric_retention_period('nobody')::text") == "90 days"
    assert db.one("SELECT _prom_catalog.get_metric_compression_setting('nobody')") is True
    assert error(db, "get_metric_chunk_interval('nobody')") == "42704"
    for call in RESET.values():
        assert error(db, call, ("nobody",)) == "42704"
    assert error(db, "get_metric_chunk_interval(%s)", ("x" * 10_000,)) == "42704"
    assert db.one("SELECT count(*) FROM _prom_catalog.metric") == 0, "looking or undoing must not make a metric"


@pytest.mark.parametrize("call", [*SET.values(), *RESET.values(), "set_compression_on_metric_table(%s, true)"])
def test_no_name(shared_db, call):
    assert error(shared_db, call, (None,)) == "22004"
    assert error(shared_db, call, ("",)) == "22023"


@pytest.mark.parametrize("call", [
    "set_default_retention_period(NULL)", "set_metric_retention_period('m', NULL)", "set_default_chunk_interval(NULL)",
    "set_metric_chunk_interval('m', NULL)", "set_default_compression_setting(NULL)",
    "set_metric_compression_setting('m', NULL)",
    "set_compression_on_metric_table('m', NULL)"])
def test_null_is_refused(shared_db, call):
    before = shared_db.sql("SELECT metric_name, retention_period, chunk_interval, compression FROM"
                           " _prom_catalog.metric"), \
        shared_db.sql("SELECT * FROM _prom_catalog.setting_override")
    assert error(shared_db, call) == "22004"
    assert before == (shared_db.sql("SELECT metric_name, retention_period, chunk_interval, compression FROM"
                                    " _prom_catalog.metric"),
                      shared_db.sql("SELECT * FROM _prom_catalog.setting_override"))


@pytest.mark.parametrize("call", ["set_default_retention_period(%s)", "set_metric_retention_period('m', %s)",
                                  "set_default_chunk_interval(%s)", "set_metric_chunk_interval('m', %s)"])
@pytest.mark.parametrize("wrong", ["0", "-1 hour", "-3 months", "1 month -30 days", "1 month -29 days",
                                   "1 day -1 second",
                                   "1001 years", "178000000 years"])
def test_intervals_that_are_refused(shared_db, call, wrong):
    assert error(shared_db, call, (wrong,)) == "22023"


@pytest.mark.parametrize("call", ["set_default_chunk_interval('1 second')",
                                  "set_metric_chunk_interval('m', '59 seconds')"])
def test_chunks_are_not_arbitrarily_short(shared_db, call):
    assert error(shared_db, call) == "22023"


@pytest.mark.parametrize("given, used", [("1 minute", 1), ("59 minutes", 1), ("1 hour", 1), ("90 minutes", 1),
                                         ("2 hours", 2), ("3 hours", 3),
                                         ("5 hours", 4), ("7 hours 59 minutes", 6), ("8 hours", 8), ("11 hours", 8),
                                         ("12 hours", 12),
                                         ("1 day", 24), ("36 hours", 24), ("1 month", 24), ("1000 years", 24)])
def test_chunk_widths(db, given, used):
    """What is shown is what was set; a notice tells where maintenance uses something else."""
    db.conn.notices.clear()
    db.sql("SELECT set_metric_chunk_interval('m', %s)", (given,))
    assert db.one("SELECT chunk_interval = %s::interval FROM prom_info.metric", (given,))
    assert db.one("SELECT extract(epoch FROM _prom_catalog.chunk_width(%s)) / 3600", (given,)) == used
    assert bool(db.conn.notices) == (not db.one("SELECT %s::interval = make_interval(hours => %s)", (given, used)))


def test_by_the_name_of_the_views(db):
    long = "x" * 100
    db.make(long)
    table = db.names(long)
    db.sql("SELECT set_compression_on_metric_table(%s, false)", (table,))
    assert db.one("SELECT _prom_catalog.get_metric_compression_setting(%s)", (long,)) is False
    assert error(db, "set_compression_on_metric_table(%s, false)", (long,)) == "42P01"
    assert error(db, "set_compression_on_metric_table('nobody', false)") == "42P01"


def test_a_caller_may_write_intervals_as_he_likes(db):
    for style in ("sql_standard", "iso_8601", "postgres_verbose"):
        db.sql(f"SET IntervalStyle = {style}")
        db.sql("SELECT set_default_retention_period('40 days 02:03:04'), set_default_chunk_interval('6:00')")
        assert db.sql("SELECT get_default_metric_retention_period() = '40 days 02:03:04'::interval,"
                      " get_default_chunk_interval() = '6 hours'::interval") == [(True, True)]


# ---- maintenance obeys -------------------------------------------------------------------------------


def test_retention_shorter_and_longer_than_the_default(db):
    """The default cuts at 10 days, one metric at 5 and one at 60; its reset brings the default back."""
    days = (-1, -7, -20, -70)
    for name in ("usual", "brief", "lasting"):
        db.block("fresh", *one_metric(db, name, [db.day_ms(d) for d in days]))
    db.sql("SELECT _prom_catalog.set_setting('retention_grace', '0')")
    db.sql("SELECT set_default_retention_period('10 days'), set_metric_retention_period('brief', '5 days'),"
           " set_metric_retention_period('lasting', '60 days')")
    db.maintain()
    assert db.times("usual") == [db.day_ms(-7), db.day_ms(-1)]
    assert db.times("brief") == [db.day_ms(-1)]
    assert db.times("lasting") == [db.day_ms(-20), db.day_ms(-7), db.day_ms(-1)]
    db.sql("SELECT reset_metric_retention_period('lasting'), reset_metric_retention_period('brief')")
    db.maintain()
    assert db.times("lasting") == [db.day_ms(-7), db.day_ms(-1)]
    assert db.count("_prom_catalog.job", "failures > 0") == 0


def test_retention_of_exemplars(db):
    """Exemplars go with the samples of their metric."""
    for name in ("usual", "brief", "lasting"):
        metric, s = db.make(name)
        for day in (-1, -7, -20, -70):
            db.sql("SELECT _prom_catalog.insert_exemplars('{0}', ARRAY[%s], '{5}', ARRAY[%s],"
                   " ARRAY[to_timestamp(%s)], '{1}',"
                   " ARRAY[jsonb '{}'])", (metric, s, db.day_ms(day) / 1000))
    db.sql("SELECT nextval('_prom_data.block_id_seq')")  # who never stored a block may be in the middle of a restore
    db.sql("SELECT _prom_catalog.set_setting('retention_grace', '0')")
    db.sql("SELECT set_default_retention_period('10 days'), set_metric_retention_period('brief', '5 days'),"
           " set_metric_retention_period('lasting', '60 days')")
    db.maintain()
    assert dict(db.sql("SELECT m.metric_name, count(*) FROM _prom_data.exemplar e JOIN _prom_catalog.metric m ON m.id"
                       " = e.metric_id"
                       " GROUP BY 1")) == {"usual": 2, "brief": 1, "lasting": 3}


def one_metric(db, name, times):
    """Arguments of Database.block: these times, the value a running number."""
    metric, s = db.make(name)
    return metric, [(metric, s, t, float(i)) for i, t in enumerate(times)]


def sealed_times(db, name):
    """Sealed rows of a metric: in which hours, from the start of the day, each begins and ends."""
    return db.sql("SELECT extract(hour FROM t_min AT TIME ZONE 'UTC')::int, extract(hour FROM t_max AT TIME ZONE"
                  " 'UTC')::int"
                  " FROM _prom_data.block WHERE metric_id = _prom_catalog.metric_id(%s) ORDER BY t_min", (name,))


def test_chunk_intervals_are_the_windows_that_are_sealed(db):
    """Today's samples, one an hour, sealed whole by whole window; older days are always sealed by the day."""
    start = db.now_ms() // DAY * DAY
    times = [start + h * HOUR for h in range(24) if start + h * HOUR < db.now_ms() + HOUR]
    for name in ("usual", "hours", "days"):
        db.block("fresh", *one_metric(db, name, times))
    db.sql("SELECT set_default_chunk_interval('6 hours'), set_metric_chunk_interval('hours', '90 minutes'),"
           " set_metric_chunk_interval('days', '2 days')")
    db.maintain()
    hours = len(times)
    assert sealed_times(db, "hours") == [(h, h) for h in range(hours)]
    assert sealed_times(db, "usual") == [(h, min(h + 5, hours - 1)) for h in range(0, hours, 6)]
    assert sealed_times(db, "days") == [(0, hours - 1)]
    assert db.times("usual") == db.times("hours") == db.times("days") == times


def test_a_changed_chunk_interval_holds_for_what_is_sealed_next(db):
    start = db.now_ms() // DAY * DAY
    metric, samples = one_metric(db, "m", [start, start + HOUR])
    db.block("fresh", metric, samples)
    db.sql("SELECT set_metric_chunk_interval('m', '1 hour')")
    db.maintain()
    assert sealed_times(db, "m") == [(0, 0), (1, 1)]
    db.sql("SELECT set_metric_chunk_interval('m', '4 hours')")
    db.block("fresh", metric, [(metric, samples[0][1], start + (h + 2) * HOUR, 1.0) for h in range(2)])
    db.maintain()
    assert sealed_times(db, "m") == [(0, 3)]  # what is sealed of the same window is joined
    db.sql("SELECT set_metric_chunk_interval('m', '1 hour')")
    db.block("fresh", metric, [(metric, samples[0][1], start + (h + 4) * HOUR, 1.0) for h in range(2)])
    db.maintain()
    assert sealed_times(db, "m") == [(0, 3), (4, 4), (5, 5)]
    assert db.times("m") == [start + h * HOUR for h in range(6)]


@pytest.mark.parametrize("off, on", [
    ("set_default_compression_setting(false)", "set_default_compression_setting(true)"),
    ("set_metric_compression_setting('m', false)", "set_metric_compression_setting('m', true)"),
    ("set_metric_compression_setting('m', false)", "reset_metric_compression_setting('m')"),
    ("set_compression_on_metric_table('m', false)", "set_compression_on_metric_table('m', true)"),
    ("set_default_compression_setting(false)", "set_metric_compression_setting('m', true)"),
])
def test_compression_off_and_on(db, off, on):
    """Off: nothing of the metric is sealed, answers stay. On again: sealed."""
    times = [db.day_ms(-1), db.day_ms(-1) + 1000]
    metric, samples = one_metric(db, "m", times)
    db.block("fresh", metric, samples)
    db.sql(f"SELECT {off}")
    db.maintain()
    assert (db.count("_prom_data.merged"), db.count("_prom_data.block"), db.times("m")) == (1, 0, times)
    assert db.sql("SELECT total_chunks, compressed_chunks FROM prom_info.metric") == [(1, 0)]
    db.sql(f"SELECT {on}")
    db.maintain()
    assert (db.count("_prom_data.merged"), db.count("_prom_data.block"), db.times("m")) == (0, 1, times)
    assert db.sql("SELECT total_chunks, compressed_chunks FROM prom_info.metric") == [(1, 1)]
    db.sql(f"SELECT {off}")  # what is sealed stays, and stays readable
    db.maintain()
    assert (db.count("_prom_data.merged"), db.count("_prom_data.block"), db.times("m")) == (0, 1, times)


def test_settings_beside_an_open_transaction_of_a_connector(db):
    """A setter waits for nobody who only stores samples, and nobody waits for it longer than its transaction."""
    db.make("m")
    writer = db.connect()
    writer.autocommit = False
    writer.cursor().execute("SELECT _prom_catalog.guard(_prom_catalog.generation())")
    db.sql("SET statement_timeout = '30s'")
    db.sql("SELECT set_metric_retention_period('m', '1 day'), set_metric_retention_period('new', '1 day')")
    assert db.resolve([series("m", a="1")])
    writer.rollback()
    writer.close()


def test_the_original_call_of_maintenance_only_talks(db):
    """CALL execute_maintenance(true) asks for words, as it always did, not for unfinished chunks."""
    metric, samples = one_metric(db, "m", [db.now_ms()])
    db.block("fresh", metric, samples)
    db.conn.notices.clear()
    db.sql("CALL execute_maintenance(true)")
    assert any("fold" in n for n in db.conn.notices)
    assert db.count("_prom_data.merged") == 1 and db.count("_prom_data.block") == 0
    db.sql("CALL execute_maintenance(log_verbose => false, force => true)")
    assert db.count("_prom_data.block") == 1
