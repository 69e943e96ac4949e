"""What is refused, how it is said, and who may write."""
import psycopg2
import pytest

E = psycopg2.errors
GOOD = "'2024-05-01'"


@pytest.fixture(scope="module")
def shared(server):
    d = server.create()
    d.metric("m")
    d.metric("other")
    yield d
    d.close()
    server.drop(d.name)


def insert(db, row, columns="time, value, labels", conn=None):
    db.sql(f"INSERT INTO prom_data.m ({columns}) VALUES ({row})", conn=conn)


@pytest.mark.parametrize("row, error, text", [
    ("NULL, 1, '{}'", E.NotNullViolation, '"time"'),
    (f"{GOOD}, NULL, '{{}}'", E.NotNullViolation, '"value"'),
    (f"{GOOD}, 1, NULL", E.NotNullViolation, "neither labels nor a series_id"),
    ("'infinity', 1, '{}'", E.DatetimeFieldOverflow, "time"),
    ("'-infinity', 1, '{}'", E.DatetimeFieldOverflow, "time"),
    (f"{GOOD}, 1, '[]'", E.InvalidParameterValue, "json object"),
    (f"{GOOD}, 1, '\"x\"'", E.InvalidParameterValue, "json object"),
    (f"{GOOD}, 1, 'null'", E.InvalidParameterValue, "json object"),
    (f"{GOOD}, 1, '[{{\"a\": \"b\"}}]'", E.InvalidParameterValue, "json object"),
    (f"{GOOD}, 1, '{{\"code\": 200}}'", E.InvalidParameterValue, 'label "code" is a number'),
    (f"{GOOD}, 1, '{{\"code\": true}}'", E.InvalidParameterValue, 'label "code" is true or false'),
    (f"{GOOD}, 1, '{{\"code\": {{}}}}'", E.InvalidParameterValue, 'label "code" is an array or object'),
    (f"{GOOD}, 1, '{{\"code\": [\"1\"]}}'", E.InvalidParameterValue, 'label "code" is an array or object'),
    (f"{GOOD}, 1, '{{\"\": \"x\"}}'", E.InvalidParameterValue, "label name is empty"),
    (f"{GOOD}, 1, '{{\"__name__\": \"other\"}}'", E.InvalidParameterValue, 'another metric, "other"'),
    (f"{GOOD}, 1, '{{\"__name__\": 5}}'", E.InvalidParameterValue, 'label "__name__" is a number'),
    (f"{GOOD}, 1, jsonb_build_object('a', repeat('x', 65537))", E.ProgramLimitExceeded, "65537 bytes"),
    (f"{GOOD}, 1, jsonb_build_object(repeat('x', 1025), 'a')", E.ProgramLimitExceeded, "1025 bytes"),
    (f"{GOOD}, 1, (SELECT jsonb_object_agg('l' || i, 'v') FROM generate_series(1, 500) i)",
     E.ProgramLimitExceeded, "501 labels"),
    (f"{GOOD}, 1, (SELECT jsonb_object_agg('l' || i, repeat('v', 60000)) FROM generate_series(1, 5) i)",
     E.ProgramLimitExceeded, "together"),
])
def test_rows(shared, row, error, text):
    with pytest.raises(error) as e:
        insert(shared, row)
    assert text in e.value.diag.message_primary
    assert e.value.diag.message_hint or error in (E.ProgramLimitExceeded, E.NotNullViolation)
    assert shared.one("SELECT count(*) FROM _prom_data.fresh") == 0


def test_largest_labels_fit(db):
    db.metric("m")
    insert(db, f"{GOOD}, 1, jsonb_build_object(repeat('k', 1024), repeat('x', 65536))")
    insert(db, f"{GOOD}, 2, (SELECT jsonb_object_agg('l' || i, 'v') FROM generate_series(1, 499) i)")
    assert sorted(db.column("SELECT (SELECT count(*) FROM jsonb_object_keys(labels)) FROM prom_data.m")) == [2, 500]


def test_series_ids(shared):
    mine, foreign = shared.series("m", a="1"), shared.series("other", a="1")
    tenant = shared.one("SELECT _prom_catalog.tenant_id('acme')")
    of_tenant = shared.one("SELECT series_ids[1] FROM _prom_catalog.resolve_series(%s, '{m}', '{__name__}', '{m}',"
                           " '{1}', '{1}', '{1}')", (tenant,))
    for bad in (foreign, of_tenant, 0, -5, 2 ** 63 - 1):
        with pytest.raises(E.ForeignKeyViolation, match=str(bad)) as e:
            insert(shared, f"{GOOD}, 1, {mine}), ({GOOD}, 1, {bad}", "time, value, series_id")
        assert "prom_series" in e.value.diag.message_hint
    assert shared.one("SELECT count(*) FROM _prom_data.fresh") == 0


def test_a_dropped_metric(db):
    db.metric("m")
    db.sql("ALTER TABLE _prom_catalog.metric DISABLE TRIGGER ALL; DELETE FROM _prom_catalog.metric")
    with pytest.raises(E.UndefinedObject):
        insert(db, f"{GOOD}, 1, '{{}}'")
    with pytest.raises(E.ForeignKeyViolation):
        insert(db, f"{GOOD}, 1, 1", "time, value, series_id")


def test_serializable_and_read_only(shared):
    s = shared.series("m", level="1")
    for level in ("REPEATABLE READ", "SERIALIZABLE"):
        for columns, last in (("labels", "'{}'"), ("series_id", s)):
            with pytest.raises(E.ActiveSqlTransaction, match="READ COMMITTED"):
                shared.sql(f"BEGIN ISOLATION LEVEL {level};"
                           f"INSERT INTO prom_data.m (time, value, {columns}) VALUES ({GOOD}, 1, {last})")
            shared.sql("ROLLBACK")
    with pytest.raises(E.ReadOnlySqlTransaction):
        shared.sql(f"BEGIN READ ONLY; INSERT INTO prom_data.m (time, value, labels) VALUES ({GOOD}, 1, '{{}}')")
    shared.sql("ROLLBACK")


@pytest.mark.parametrize("text, error", [
    ("UPDATE prom_data.m SET value = 1", E.FeatureNotSupported),
    ("DELETE FROM prom_data.m", E.FeatureNotSupported),
    ("TRUNCATE prom_data.m", E.WrongObjectType),
    ("INSERT INTO prom_metric.m (time, value, series_id) VALUES (now(), 1, 1)", E.FeatureNotSupported),
    ("INSERT INTO _prom_data.samples (time, value, series_id) VALUES (now(), 1, 1)", E.FeatureNotSupported),
    ("INSERT INTO prom_data.m (time, value, labels) VALUES (now(), 1, '{}') ON CONFLICT (time) DO UPDATE SET value = 1",
     (E.FeatureNotSupported, E.InvalidColumnReference)),
])
def test_other_commands(shared, text, error):
    before = shared.sql("SELECT count(*) FROM _prom_data.fresh")
    with pytest.raises(error) as e:
        shared.sql(text)
    if text.startswith("INSERT INTO prom_metric") or text.startswith("INSERT INTO _prom_data"):
        assert "prom_data" in e.value.diag.message_hint
    assert shared.sql("SELECT count(*) FROM _prom_data.fresh") == before


def test_copy_to_the_metric_view_is_refused(shared):
    with pytest.raises(E.WrongObjectType):
        shared.copy("prom_metric.m (time, value, series_id)", "2024-05-01\t1\t1\n")


def test_on_conflict_do_nothing_is_what_happens_anyway(db):
    db.metric("m")
    for value in (1, 2):
        db.put(f"VALUES ({GOOD}, %s, '{{}}') ON CONFLICT DO NOTHING", (value,))
    assert db.column("SELECT value FROM m") == [1]


def test_triggers_elsewhere(shared):
    """Whoever puts our triggers elsewhere gets an error, or samples with his own rights."""
    shared.sql("DROP TABLE IF EXISTS t; CREATE TABLE t (time timestamptz, value float8, series_id int8, labels jsonb)")
    for timing in ("BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION _prom_ext.write_row(1)",
                   "AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION _prom_ext.write_end()",
                   "BEFORE INSERT ON t FOR EACH STATEMENT EXECUTE FUNCTION _prom_ext.write_end()",
                   "BEFORE INSERT ON t FOR EACH STATEMENT EXECUTE FUNCTION _prom_ext.write_row(1)"):
        shared.sql(f"CREATE TRIGGER x {timing}")
        with pytest.raises(psycopg2.Error) as e:
            shared.sql(f"INSERT INTO t VALUES ({GOOD}, 1, 1, '{{}}')")
        assert e.value.pgcode == "39P01"
        shared.sql("DROP TRIGGER x ON t")
    shared.sql("CREATE TRIGGER x AFTER INSERT ON t FOR EACH STATEMENT EXECUTE FUNCTION _prom_ext.write_end();"
               f"INSERT INTO t VALUES ({GOOD}, 1, 1, '{{}}')")
    for columns, argument in (("time, value, series_id", "1"), ("value AS time, time AS value, series_id, labels", "1"),
                              ("*", ""), ("*", "0"), ("*", "'-1'"), ("*", "x"), ("*", "1, 2"), ("*, 1 AS more", "1")):
        shared.sql(f"CREATE VIEW v AS SELECT {columns} FROM t;"
                   "CREATE TRIGGER x INSTEAD OF INSERT ON v FOR EACH ROW"
                   f" EXECUTE FUNCTION _prom_ext.write_row({argument})")
        with pytest.raises(psycopg2.Error) as e:
            shared.sql("INSERT INTO v DEFAULT VALUES")
        assert e.value.pgcode in ("39P01", "22P02"), (columns, argument)
        shared.sql("DROP VIEW v")
    for call in ("SELECT _prom_ext.write_row()", "SELECT _prom_ext.write_end()"):
        with pytest.raises(E.TriggerProtocolViolated):
            shared.sql(call)


def test_functions(shared):
    for text, error in (("SELECT _prom_catalog.get_or_create_series_id('{\"a\": \"b\"}')", E.InvalidParameterValue),
                        ("SELECT _prom_catalog.get_or_create_series_id('[]')", E.InvalidParameterValue),
                        ("SELECT _prom_catalog.get_or_create_series_id('{\"__name__\": 1}')", E.InvalidParameterValue),
                        ("SELECT prom_api.create_metric('')", E.InvalidParameterValue),
                        ("SELECT prom_api.create_metric(repeat('x', 65537))", E.ProgramLimitExceeded),
                        ("SELECT * FROM _prom_catalog.get_or_create_metric_table_name('')", E.InvalidParameterValue)):
        with pytest.raises(error):
            shared.sql(text)
    assert shared.one("SELECT prom_api.create_metric(NULL)") is None
    assert shared.one("SELECT _prom_catalog.get_or_create_series_id(NULL)") is None
    shared.sql("SELECT prom_api.create_metric(repeat('x', 65536))")


# ---- rights --------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def users(server, shared):
    for role in ("reader", "writer", "maintenance", "modifier", "admin"):
        server.sql(f"CREATE ROLE w_{role} LOGIN; GRANT prom_{role} TO w_{role}")
    server.sql("CREATE ROLE w_nobody LOGIN")
    return shared


@pytest.mark.parametrize("user, may", [("nobody", False), ("reader", False), ("maintenance", False), ("writer", True),
                                       ("modifier", True), ("admin", True)])
def test_who_may_write(users, user, may):
    conn = users.connect(f"w_{user}")
    actions = [
        f"INSERT INTO prom_data.m (time, value, labels) VALUES ({GOOD}, 1, '{{\"who\": \"{user}\"}}')",
        f"SELECT _prom_catalog.get_or_create_series_id('{{\"__name__\": \"m\", \"who\": \"{user}2\"}}')",
        f"SELECT prom_api.create_metric('of_{user}')",
        f"SELECT * FROM _prom_catalog.get_or_create_metric_table_name('{user}2')",
    ]
    for text in actions:
        if may:
            users.sql(text, conn=conn)
        else:
            with pytest.raises(E.InsufficientPrivilege):
                users.sql(text, conn=conn)
    if may:
        assert users.copy("prom_data.m (time, value, labels)", f'2024-05-02\t1\t{{"who": "{user}"}}\n', conn=conn) == 1
        users.sql(f"INSERT INTO prom_data.of_{user} (time, value, labels) VALUES ({GOOD}, 1, '{{}}')", conn=conn)
        assert users.one(f"SELECT count(*) FROM of_{user}", conn=conn) == 1
        assert users.one("SELECT count(*) FROM prom_data.m WHERE labels->>'who' = %s", (user,), conn=conn) == 2
    else:
        with pytest.raises(E.InsufficientPrivilege):
            users.copy("prom_data.m (time, value, labels)", f'2024-05-02\t1\t{{"who": "{user}"}}\n', conn=conn)
    if user == "reader":
        assert users.one("SELECT count(*) >= 0 FROM prom_data.m", conn=conn)
    for text in ("UPDATE prom_data.m SET value = 1", "DELETE FROM prom_data.m"):
        with pytest.raises((E.InsufficientPrivilege, E.FeatureNotSupported)):
            users.sql(text, conn=conn)
    conn.close()


def test_views_belong_to_the_admin_role(users):
    rows = users.sql("SELECT relname, pg_get_userbyid(relowner), reloptions, relacl::text FROM pg_class"
                     " WHERE relnamespace = 'prom_data'::regnamespace AND relkind = 'v'")
    assert len(rows) >= 2
    for name, owner, options, acl in rows:
        assert owner == "prom_admin" and "security_invoker=true" in options, name
        assert "prom_reader=r/" in acl and "prom_writer=a/" in acl, name


def test_the_rights_are_the_callers(users):
    """INSERT on the view alone is not enough: the blocks are inserted by whoever calls."""
    users.server.sql("CREATE ROLE w_half LOGIN; GRANT prom_reader TO w_half")
    users.sql("GRANT INSERT ON prom_data.m TO w_half")
    s = users.series("m", half="1")
    conn = users.connect("w_half")
    for columns, last in (("labels", "'{}'"), ("series_id", str(s))):
        with pytest.raises(E.InsufficientPrivilege):
            users.sql(f"INSERT INTO prom_data.m (time, value, {columns}) VALUES ({GOOD}, 1, {last})", conn=conn)
    conn.close()


def test_row_level_security(users):
    """A policy on the block table is obeyed."""
    users.sql("ALTER TABLE _prom_data.fresh ENABLE ROW LEVEL SECURITY;"
              "CREATE POLICY read ON _prom_data.fresh FOR SELECT USING (true);"
              "CREATE POLICY no_writes ON _prom_data.fresh FOR INSERT WITH CHECK (current_user <> 'w_writer')")
    try:
        row = f"{GOOD}, 5, '{{\"who\": \"rls\"}}'"
        with pytest.raises(E.InsufficientPrivilege, match="row-level security"):
            insert(users, row, conn=users.connect("w_writer"))
        insert(users, row, conn=users.connect("w_modifier"))
    finally:
        users.sql("ALTER TABLE _prom_data.fresh DISABLE ROW LEVEL SECURITY; DROP POLICY no_writes ON _prom_data.fresh;"
                  "DROP POLICY read ON _prom_data.fresh")


def test_search_path_is_of_no_use(users):
    """Operators and functions of the user's own do not get between."""
    users.sql("""CREATE SCHEMA trap; GRANT USAGE ON SCHEMA trap TO PUBLIC;
        CREATE FUNCTION trap.eq(int8, int8) RETURNS bool LANGUAGE plpgsql AS 'BEGIN RAISE ''trapped''; END';
        CREATE FUNCTION trap.eq4(int4, int4) RETURNS bool LANGUAGE plpgsql AS 'BEGIN RAISE ''trapped''; END';
        CREATE OPERATOR trap.= (LEFTARG = int8, RIGHTARG = int8, FUNCTION = trap.eq);
        CREATE OPERATOR trap.= (LEFTARG = int4, RIGHTARG = int4, FUNCTION = trap.eq4);
        CREATE FUNCTION trap.unnest(int8[]) RETURNS SETOF int8 LANGUAGE plpgsql AS 'BEGIN RAISE ''trapped''; END'""")
    s = users.series("m", trap="1")
    conn = users.connect("w_writer")
    users.sql("SET search_path = trap, pg_catalog", conn=conn)
    users.sql(f"INSERT INTO prom_data.m (time, value, series_id) VALUES ('2024-06-01', 1, {s})", conn=conn)
    users.put("VALUES ('2024-06-02', 1, '{\"trap\": \"1\"}')", conn=conn)
    users.sql("SELECT prom_api.create_metric('trapped')", conn=conn)
    assert users.one("SELECT count(*) FROM prom_metric.m WHERE series_id OPERATOR(pg_catalog.=) %s", (s,)) == 2
