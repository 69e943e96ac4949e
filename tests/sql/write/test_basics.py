"""INSERT and COPY in their ordinary forms: what is given is what is read, at once and after maintenance."""
import struct

import psycopg2
import pytest

BRAIN = '{"node": "brain"}'


def bits(value):
    return struct.pack(">d", value).hex()


def test_labels(db):
    assert db.metric("cpu_usage") == "prom_data.cpu_usage"
    db.sql("""INSERT INTO prom_data.cpu_usage (time, value, labels) VALUES
              ('2024-05-01 12:00+00', 1.5, '{"node": "brain"}'), ('2024-05-01 12:00+00', 2.5, '{"node": "pinky"}'),
              ('2024-05-01 12:01+00', 3.5, '{"node": "brain"}'), ('2024-05-01 12:01+00', 4.5, '{}')""")
    rows = db.sql("SELECT time::text, value, jsonb(labels) FROM cpu_usage ORDER BY value", conn=db.connect())
    assert [r[1] for r in rows] == [1.5, 2.5, 3.5, 4.5]
    assert rows[0][2] == {"__name__": "cpu_usage", "node": "brain"} == rows[2][2]
    assert rows[3][2] == {"__name__": "cpu_usage"}
    assert rows == db.sql("SELECT time::text, value, labels FROM prom_data.cpu_usage ORDER BY value")


def test_the_name_may_stand_in_the_labels_and_empty_means_absent(db):
    db.metric("m")
    db.sql("""INSERT INTO prom_data.m (time, value, labels) VALUES
              ('2024-05-01', 1, '{"__name__": "m", "a": "1"}'), ('2024-05-02', 2, '{"a": "1", "b": ""}'),
              ('2024-05-03', 3, '{"__name__": "", "a": "1", "c": null}'),
              ('2024-05-04', 4, '{"__name__": null, "a": "1"}')""")
    assert db.one("SELECT count(*) FROM prom_series.m") == 1
    assert db.column("SELECT value FROM m ORDER BY time") == [1, 2, 3, 4]


def test_series_id_and_both(db):
    db.metric("m")
    a, b = db.series("m", node="a"), db.series("m", node="b")
    db.sql("INSERT INTO prom_data.m (time, value, series_id) VALUES ('2024-05-01', 1, %s),"
           " ('2024-05-01', 2, %s)", (b, a))
    db.sql("INSERT INTO prom_data.m VALUES ('2024-05-02', 3, %s, '{\"node\": \"a\"}')", (a,))
    assert db.sql("SELECT series_id, value FROM m ORDER BY value") == [(b, 1), (a, 2), (a, 3)]
    with pytest.raises(psycopg2.errors.InvalidParameterValue, match="different series"):
        db.sql("INSERT INTO prom_data.m VALUES ('2024-05-02', 3, %s, '{\"node\": \"b\"}')", (a,))


def test_copy(db):
    db.metric("m")
    a = db.series("m", node="a")
    assert db.copy("prom_data.m (time, value, series_id)", f"2024-05-01\t1\t{a}\n2024-05-02\t2\t{a}\n") == 2
    assert db.copy("prom_data.m (time, value, labels)",
                   '2024-05-03\t3\t{"node": "a"}\n2024-05-04\t4\t{"node": "b"}\n') == 2
    with db.conn.cursor() as cur:
        import io
        cur.copy_expert("COPY prom_data.m (time, value, labels) FROM STDIN (FORMAT csv, HEADER)",
                        io.StringIO('time,value,labels\n2024-05-05,5,"{""node"": ""b""}"\n'))
    assert db.column("SELECT value FROM m ORDER BY time") == [1, 2, 3, 4, 5]
    assert db.column("SELECT labels->>'node' FROM prom_data.m ORDER BY time") == ["a", "a", "a", "b", "b"]


def test_copy_names_the_line(db):
    db.metric("m")
    with pytest.raises(psycopg2.errors.InvalidParameterValue) as e:
        db.copy("prom_data.m (time, value, labels)", '2024-05-03\t3\t{"node": "a"}\n2024-05-03\t3\t{"node": 1}\n')
    assert "line 2" in str(e.value)
    assert db.count("m") == 0


def test_insert_select_between_metrics_and_tables(db):
    db.metric("a")
    db.metric("b")
    db.sql("INSERT INTO prom_data.a (time, value, labels) SELECT '2024-05-01'::timestamptz + i * interval '1 s', i,"
           " jsonb_build_object('n', (i % 7)::text) FROM generate_series(1, 1000) i")
    db.sql("INSERT INTO prom_data.b (time, value, labels) SELECT time, value * 2, labels - '__name__' FROM prom_data.a")
    assert db.one("SELECT count(*) FROM a, b WHERE a.time = b.time AND eq(a.labels, b.labels)"
                  " AND b.value = a.value * 2") == 1000
    # reading from what is written: the statement sees what was there when it began
    db.sql("INSERT INTO prom_data.a (time, value, series_id) "
           "SELECT time + interval '1 day', value, series_id FROM prom_data.a")
    assert db.count("a") == 2000


def test_times_are_milliseconds(db):
    db.metric("m")
    rows = db.put("VALUES ('2024-05-01 00:00:00.123999+00', 1, '{}'),"
                  " ('1969-12-31 23:59:59.999999+00', 2, '{}'), ('2024-05-01 00:00:01+00', 3, '{}')"
                  " RETURNING (extract(epoch FROM time) * 1000000)::int8, value, series_id, labels")
    assert rows == [(1714521600123000, 1, None, {}), (-1000, 2, None, {}), (1714521601000000, 3, None, {})]
    assert [t for _, t, _ in db.samples("m")] == [-1, 1714521600123, 1714521601000]


def test_all_bits_of_values(db):
    db.metric("m")
    patterns = ["7ff0000000000002", "7ff8000000000001", "7ff8000000000000", "fff8000000000000", "7ff0000000000000",
                "fff0000000000000", "8000000000000000", "0000000000000001", "7ff4000000abcdef", "3ff0000000000000"]
    for form in range(2):
        db.sql("CREATE TEMP TABLE v AS SELECT 1.0::float8 AS x LIMIT 0")
        raw = b"".join(struct.pack(">hi8s", 1, 8, bytes.fromhex(p)) for p in patterns * (1 + 3 * form))
        with db.conn.cursor() as cur:
            import io
            cur.copy_expert("COPY v FROM STDIN (FORMAT binary)",
                            io.BytesIO(b"PGCOPY\n\xff\r\n\0" + bytes(8) + raw + b"\xff\xff"))
        db.put("SELECT '2024-05-01'::timestamptz + row_number() OVER ()"
               " * interval '1 s', x, jsonb_build_object('form', %s::text) FROM v", (form,))
        db.sql("DROP TABLE v")
    expected = patterns + patterns * 4
    assert [b for *_, b in db.samples("m")] == expected
    assert {f for f, *_ in db.blocks()} == {1, 2}
    db.maintain()
    assert [b for *_, b in db.samples("m")] == expected
    assert db.blocks() == []


def test_any_age(db):
    db.metric("m")
    db.sql("SELECT _prom_catalog.set_setting('retention_period', '6730 years')")
    times = ["4700-11-24 00:00:00+00 BC", "0001-01-01 00:00+00", "1969-12-31 23:59:59.999+00", "1970-01-01 00:00+00",
             "2024-05-01 00:00+00", "2999-01-01 00:00+00", "294276-12-31 23:59:59.999+00"]
    for t in times:
        db.put("VALUES (%s, 1, '{}')", (t,))
    db.put("SELECT x::timestamptz, 2, '{\"n\": \"2\"}' FROM unnest(%s) x", (times,))
    before = db.samples("m")
    assert len(before) == 14
    db.maintain()
    assert db.samples("m") == before
    assert db.blocks() == []
    db.put("VALUES ('4714-11-24 00:00:00+00 BC', 1, '{}')")
    assert db.one("SELECT min(time)::text FROM m") == "4714-11-24 00:00:00+00 BC"


def test_at_once_in_the_transaction_and_for_others_after_commit(db):
    db.metric("m")
    writer, other = db.connect(), db.connect()
    writer.autocommit = False
    db.put("VALUES ('2024-05-01', 1, '{}')", conn=writer)
    assert db.count("m", conn=writer) == 1
    assert db.count("m", conn=other) == 0
    assert db.one("SELECT count(*) FROM prom_series.m", conn=other) == 0
    writer.commit()
    assert db.count("m", conn=other) == 1
    db.put("VALUES ('2024-05-02', 1, '{\"new\": \"1\"}')", conn=writer)
    writer.rollback()
    assert db.count("m") == 1
    assert db.one("SELECT count(*) FROM prom_series.m") == 1
    assert db.one("SELECT count(*) FROM _prom_data.fresh") == 1
    assert db.one("SELECT count(*) FROM _prom_catalog.label_key WHERE key = 'new'") == 0


def test_two_metrics_in_one_statement(db):
    db.metric("a")
    db.metric("b")
    db.sql("""WITH x AS (INSERT INTO prom_data.a (time, value, labels)
                         SELECT '2024-05-01'::timestamptz + i * interval '1 s', i, '{}' FROM generate_series(1, 10) i
                         RETURNING time, value, labels),
                   y AS (INSERT INTO prom_data.b (time, value, labels) 
                         SELECT time, -value, labels FROM x RETURNING time),
                   z AS (INSERT INTO prom_data.a (time, value, labels) SELECT time + interval '1 day', 1, '{}' FROM y)
              SELECT count(*) FROM y""")
    assert db.count("a") == 20
    assert sorted(db.column("SELECT value FROM b")) == [-x for x in range(10, 0, -1)]


def test_prepared_and_loops(db):
    db.metric("m")
    db.sql("PREPARE p (timestamptz, float8, jsonb) AS"
           " INSERT INTO prom_data.m (time, value, labels) VALUES ($1, $2, $3)")
    for i in range(12):  # generic from the sixth on
        db.sql("EXECUTE p (%s, %s, %s)", (f"2024-05-01 00:00:{i:02}+00", i, BRAIN))
    db.sql("""DO $$BEGIN FOR i IN 1..500 LOOP
                  INSERT INTO prom_data.m (time, value, labels)
                      VALUES ('2024-06-01'::timestamptz + i * interval '1 s', i,
                              jsonb_build_object('n', (i % 3)::text));
              END LOOP; END$$""")
    assert db.count("m") == 512
    assert len(db.blocks()) == 512
    before = db.samples("m")
    db.maintain()
    assert db.samples("m") == before
    assert len(db.blocks()) == 0 and db.one("SELECT count(*) FROM _prom_data.block") + db.one(
        "SELECT count(*) FROM _prom_data.block_far") == 2


def test_loaders_names(db):
    """The functions that the original gave to loaders."""
    (metric, table, new), = db.sql("SELECT * FROM _prom_catalog.get_or_create_metric_table_name('some metric')")
    assert new and table == "some metric"
    again = db.sql("SELECT * FROM _prom_catalog.get_or_create_metric_table_name('some metric')")
    assert again == [(metric, table, False)]
    s = db.one("""SELECT _prom_catalog.get_or_create_series_id('{"__name__": "some metric", "a": "b"}')""")
    same = '{"a": "b", "c": "", "__name__": "some metric"}'
    assert db.one("SELECT _prom_catalog.get_or_create_series_id(%s)", (same,)) == s
    assert db.metric("some metric") == 'prom_data."some metric"'
    db.sql("""INSERT INTO prom_data."some metric" (time, value, series_id) VALUES ('2024-05-01', 1, %s)""", (s,))
    assert db.sql('SELECT series_id, jsonb(labels) FROM "some metric"') == [(s, {"__name__": "some metric", "a": "b"})]


@pytest.mark.parametrize("name", ["CAPITAL", 'quo"te', "x" * 300,
                                  "ünï çödé ☃" * 9, "'; DROP TABLE x; --", "time"])
def test_odd_names(db, name):
    view = db.metric(name)
    assert db.metric(name) == view
    db.sql(f"INSERT INTO {view} (time, value, labels)"
           " VALUES ('2024-05-01', 1, '{\"time\": \"1\", \"labels\": \"2\"}')")
    while db.one("SELECT _prom_catalog.make_metric_views(100)"):
        pass
    assert db.sql(f"SELECT value, labels FROM {view}") == [(1, {"__name__": name, "time": "1", "labels": "2"})]
    assert db.one("SELECT count(*) FROM _prom_catalog.metric WHERE views_error IS NOT NULL") == 0
    assert db.metric(name) == view


def test_views_keep_what_is_built_on_them(db):
    """Labels that come later change the other two views, not this one."""
    db.metric("m")
    db.sql("CREATE VIEW public.mine AS SELECT time, value, labels FROM prom_data.m")
    oid = db.one("SELECT 'prom_data.m'::regclass::oid")
    db.sql("INSERT INTO public.mine (time, value, labels) VALUES ('2024-05-01', 1, '{\"later\": \"x\"}')")
    while db.one("SELECT _prom_catalog.make_metric_views(100)"):
        pass
    assert db.sql("SELECT value, val(later_id) FROM m") == [(1, "x")]
    assert db.one("SELECT 'prom_data.m'::regclass::oid") == oid
    assert db.sql("SELECT value FROM public.mine") == [(1,)]
