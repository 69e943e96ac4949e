"""Roles, and what each may do. PUBLIC may do nothing."""
import psycopg2
import pytest

from database import array, batch_of, series, RESOLVE

OURS = ("prom_api", "ps_tag", "prom_metric", "prom_series", "prom_info", "prom_data", "_prom_catalog", "_prom_data", "_prom_ext")


@pytest.fixture(scope="module")
def rights_db(shared_db):
    shared_db.resolve([series("m", a="1")])
    shared_db.views()
    shared_db.sql("SELECT _prom_catalog.make_partition('2024-01-01 00:00Z')")
    shared_db.sql("CREATE ROLE outsider LOGIN")
    for role in ("reader", "writer", "modifier", "maintenance", "admin"):
        shared_db.sql(f"CREATE ROLE user_{role} LOGIN IN ROLE prom_{role}")
    yield shared_db
    for role in ("reader", "writer", "modifier", "maintenance", "admin"):
        shared_db.sql(f"DROP ROLE user_{role}")
    shared_db.sql("DROP ROLE outsider")


def attempt(db, user, text, args=None):
    """SQLSTATE, or None if it went well; always rolled back."""
    conn = db.connect(user)
    conn.autocommit = False
    try:
        conn.cursor().execute(text, args)
        return None
    except psycopg2.Error as e:
        return e.pgcode
    finally:
        conn.rollback()
        conn.close()


DENIED = "42501"
ROLES = ["outsider", "user_reader", "user_writer", "user_modifier", "user_maintenance", "user_admin"]
READ, WRITE, MODIFY, CARE, ADMIN = set(ROLES[1:]), {"user_writer", "user_modifier", "user_admin"}, {"user_modifier", "user_admin"}, \
    {"user_maintenance", "user_admin"}, {"user_admin"}
BLOCK = ("(tenant_id, metric_id, dist_key, level, kind, format, series_lo, series_hi, t_min, t_max, n_series, n_samples, data)"
         " VALUES (0, 1, 0, 0, 1, 1, 1, 1, '2024-01-01Z', '2024-01-01Z', 1, 1, '')")


@pytest.mark.parametrize("who, text", [
    (READ, "SELECT * FROM prom_series.m"),
    (READ, "SELECT * FROM m WHERE labels ? ('a' == '1')"),
    (READ, "SELECT val(1), jsonb(labels), labels(series_id), labels_info(labels), eq(labels, jsonb '{}') FROM prom_series.m"),
    (READ, "SELECT a.* FROM prom_series.m a JOIN prom_series.m b ON eq(a.labels, b.labels) WHERE a.labels @> jsonb '{\"a\":\"1\"}'"),
    (READ, "SELECT * FROM prom_info.metric"),
    (READ, "SELECT * FROM prom_info.label"),
    (READ, "SELECT prom_api.get_default_metric_retention_period()"),
    (READ, "SELECT * FROM _prom_catalog.series, _prom_catalog.label, _prom_catalog.metric, _prom_catalog.metadata"),
    (READ, "SELECT * FROM _prom_data.fresh, _prom_data.merged, _prom_data.block, _prom_data.block_far, _prom_data.exemplar"),
    (READ, "SELECT * FROM _prom_catalog.feed('0')"),
    (READ, "SELECT * FROM _prom_catalog.follow('1:1:')"),
    (WRITE, "SELECT _prom_catalog.guard(_prom_catalog.generation())"),
    (WRITE, f"INSERT INTO _prom_data.fresh {BLOCK}"),
    (WRITE, "SELECT _prom_catalog.tenant_id('new')"),
    (WRITE, "SELECT _prom_catalog.upsert_metadata(0, '{m}', '{gauge}', '{s}', '{h}')"),
    (WRITE, "SELECT _prom_catalog.insert_exemplars('{0}','{1}','{5}','{7}','{2024-01-01}','{1}', ARRAY[jsonb '{}'])"),
    (WRITE | CARE, "SELECT _prom_catalog.make_metric_views(10)"),
    (MODIFY, "SELECT _prom_catalog.delete_series_rows('{-1}')"),
    (MODIFY, "DELETE FROM _prom_catalog.series"),
    (MODIFY, "DELETE FROM _prom_data.fresh"),
    (ADMIN, "SELECT prom_api.set_default_retention_period('1 day')"),
    (ADMIN, "CREATE VIEW prom_metric.mine AS SELECT 1"),
    (ADMIN, "DROP VIEW prom_metric.m"),
    (set(), "SELECT * FROM _prom_data.block_20240101"),
    (set(), "INSERT INTO _prom_data.block_20240101 SELECT * FROM _prom_data.fresh"),
    (set(), "TRUNCATE _prom_catalog.series"),
    (set(), "DELETE FROM _prom_catalog.metric"),
    (set(), "DELETE FROM _prom_catalog.label"),
    (set(), "CREATE TABLE _prom_data.mine (i int)"),
    (set(), "CREATE FUNCTION prom_api.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'"),
    (set(), "SELECT _prom_catalog.make_views_of(1, 'm', 1)"),
    (set(), "SELECT _prom_catalog.note_views_error(1, 'x')"),
    (set(), "ALTER TABLE _prom_data.fresh ADD COLUMN x int"),
])
@pytest.mark.parametrize("user", ROLES)
def test_matrix(rights_db, user, who, text):
    assert attempt(rights_db, user, text) in ((None,) if user in who else (DENIED, "42P01", "42883"))


@pytest.mark.parametrize("user", ROLES)
def test_resolving(rights_db, user):
    got = attempt(rights_db, user, RESOLVE, [0, *map(array, batch_of([series("new", a="2", user=user)]))])
    assert got == (None if user in WRITE else DENIED)


def test_public_may_execute_nothing(shared_db):
    assert shared_db.column("SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
                            " WHERE n.nspname = ANY (%s) AND EXISTS (SELECT FROM aclexplode(coalesce(p.proacl,"
                            " acldefault('f', p.proowner))) a WHERE a.grantee = 0)", (list(OURS),)) == []


def test_public_may_use_no_schema_and_no_relation(shared_db):
    assert shared_db.column("SELECT nspname FROM pg_namespace WHERE nspname = ANY (%s) AND EXISTS (SELECT FROM aclexplode(nspacl) a"
                            " WHERE a.grantee = 0)", (list(OURS),)) == []
    assert shared_db.column("SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,"
                            " aclexplode(c.relacl) a WHERE n.nspname = ANY (%s) AND a.grantee = 0", (list(OURS),)) == []


def test_every_function_is_safe_from_schemas_of_others(shared_db):
    """SQL and plpgsql functions set search_path, or are there to be inlined."""
    shared_db.sql("SET search_path = pg_catalog")
    assert shared_db.column(
        "SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
        " JOIN pg_language l ON l.oid = p.prolang WHERE n.nspname = ANY (%s) AND (l.lanname <> 'c' OR p.prosecdef)"
        " AND p.prokind = 'f' AND NOT coalesce(p.proconfig::text, '') LIKE '%%search_path=pg_catalog, pg_temp%%' ORDER BY 1",
        (list(OURS),)) == sorted([
            "_prom_ext.labels_match(integer[],prom_api.matcher_negative)",
            "_prom_ext.labels_match(integer[],prom_api.matcher_positive)", "prom_api.eq(integer[],integer[])",
            "prom_api.eq(integer[],prom_api.matcher_positive)", "ps_tag.equals(text,anyelement)", "ps_tag.equals(text,text)",
            "ps_tag.not_equals(text,anyelement)", "ps_tag.not_equals(text,text)", "ps_tag.regexp_matches(text,text)",
            "ps_tag.regexp_not_matches(text,text)"])


def test_every_view_reads_as_its_caller(rights_db):
    assert rights_db.column("SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
                            " WHERE n.nspname = ANY (%s) AND relkind = 'v'"
                            " AND NOT coalesce('security_invoker=true' = ANY (reloptions), false)", (list(OURS),)) == []


def test_roles_build_on_each_other(shared_db):
    for member, role in (("prom_writer", "prom_reader"), ("prom_maintenance", "prom_reader"), ("prom_modifier", "prom_writer"),
                         ("prom_admin", "prom_modifier"), ("prom_admin", "prom_maintenance")):
        assert shared_db.one("SELECT pg_has_role(%s, %s, 'USAGE')", (member, role))
    assert shared_db.one("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'prom\\_%%' AND (rolcanlogin OR rolsuper)".replace("%%", "%")) == 0
    assert shared_db.one("SELECT count(*) FROM pg_auth_members WHERE admin_option AND roleid::regrole::text LIKE 'prom\\_%'"
                         " AND member = 'postgres'::regrole") == 5


def test_a_reader_cannot_climb_through_names(db):
    """Metric and label names that try to end a statement: they are made as superuser, and stay names."""
    evil = ['x"; ALTER ROLE prom_reader SUPERUSER; --', "x'; ALTER ROLE prom_reader SUPERUSER; --", "x$$; ALTER ROLE"]
    db.resolve([{"__name__": e, e: "1"} for e in evil])
    db.views()
    assert not db.one("SELECT rolsuper FROM pg_roles WHERE rolname = 'prom_reader'")
    assert sorted(db.column("SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
                            " WHERE nspname = 'prom_series' AND relkind = 'v'")) == sorted(evil)


def test_row_security_on_series_and_blocks_holds_in_views(db):
    """What tenancy will rest on: policies of the base tables are asked for the caller, not for an owner."""
    t = db.one("SELECT _prom_catalog.tenant_id('t')")
    db.resolve([series("m", a="1"), series("m", a="2")])
    db.resolve([series("m", a="3")], tenant=t)
    db.views()
    db.sql("CREATE ROLE tenant_reader LOGIN IN ROLE prom_reader")
    for table in ("series", "label"):
        db.sql(f"ALTER TABLE _prom_catalog.{table} ENABLE ROW LEVEL SECURITY")
        db.sql(f"CREATE POLICY p ON _prom_catalog.{table} USING (tenant_id = {t})")
    conn = db.connect("tenant_reader")
    cur = conn.cursor()
    cur.execute("SELECT a, jsonb(labels)->>'a' FROM prom_series.m")
    assert cur.fetchall() == [("3", "3")]
    cur.execute("SELECT count(val(i)) FROM generate_series(1, 1000) i")
    assert cur.fetchone() == (2,), "labels of other tenants are shown"
    cur.execute("SELECT count(*) FROM prom_series.m WHERE labels ? ('a' ==~ '.')")
    assert cur.fetchone() == (1,)
    cur.execute("SELECT \"values\" FROM prom_info.label WHERE key = 'a'")
    assert cur.fetchone() == (["3"],)
    # the memory of a call site is the caller's own, also after SET ROLE within a transaction
    conn.close()
    db.sql("DROP OWNED BY tenant_reader; DROP ROLE tenant_reader")
