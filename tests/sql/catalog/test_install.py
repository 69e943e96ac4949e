"""Installing: twice, at once, by update, and into what was there before."""
import threading

import psycopg2
import pytest

from cluster import Connection
from database import series

OURS = ["prom_api", "ps_tag", "prom_metric", "prom_series", "prom_info", "prom_data", "_prom_catalog", "_prom_data", "_prom_ext"]
LISTINGS = {
    "relations": """
        SELECT n.nspname, c.relname, c.relkind, c.relpersistence, pg_get_userbyid(c.relowner), c.reloptions, c.relacl::text,
               pg_get_viewdef(c.oid), obj_description(c.oid, 'pg_class'), c.relreplident
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = ANY (%s)""",
    "columns": """
        SELECT c.oid::regclass::text, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attstorage,
               a.attcollation::regcollation::text, pg_get_expr(d.adbin, d.adrelid), col_description(c.oid, a.attnum), a.attacl::text
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
        WHERE n.nspname = ANY (%s) AND a.attnum > 0 AND NOT a.attisdropped""",
    "constraints": """
        SELECT conrelid::regclass::text, contypid::regtype::text, conname, pg_get_constraintdef(c.oid) FROM pg_constraint c
        JOIN pg_namespace n ON n.oid = c.connamespace WHERE n.nspname = ANY (%s)""",
    "indexes": "SELECT schemaname, tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = ANY (%s)",
    "sequences": """SELECT schemaname, sequencename, data_type::text, start_value, min_value, max_value, increment_by, cycle, cache_size
        FROM pg_sequences WHERE schemaname = ANY (%s)""",
    "functions": """
        SELECT p.oid::regprocedure::text,
               CASE WHEN p.prokind = 'a' THEN (SELECT a::text FROM pg_aggregate a WHERE a.aggfnoid = p.oid)
                    ELSE pg_get_functiondef(p.oid) END, p.proacl::text, obj_description(p.oid, 'pg_proc'),
               pg_get_userbyid(p.proowner)
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = ANY (%s)""",
    "types": """SELECT t.oid::regtype::text, t.typtype, t.typnotnull, format_type(t.typbasetype, t.typtypmod), t.typacl::text
        FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE n.nspname = ANY (%s)""",
    "operators": """SELECT o.oid::regoperator::text, o.oprcode::regproc::text, o.oprrest::text, o.oprjoin::text FROM pg_operator o
        JOIN pg_namespace n ON n.oid = o.oprnamespace WHERE n.nspname = ANY (%s)""",
    "schemas": "SELECT nspname, nspacl::text FROM pg_namespace WHERE nspname = ANY (%s)",
    "members": """SELECT pg_describe_object(classid, objid, objsubid) FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
        AND d.refclassid = 'pg_extension'::regclass WHERE e.extname = 'promscale' AND deptype = 'e' AND %s::text[] IS NOT NULL""",
    "dumped": """SELECT extversion, ARRAY(SELECT unnest(extconfig)::regclass::text || ' ' || c FROM unnest(extconfig, extcondition) x(r, c)
        ORDER BY 1)::text FROM pg_extension WHERE extname = 'promscale' AND %s::text[] IS NOT NULL""",
    "settings": """SELECT setconfig::text FROM pg_db_role_setting WHERE setrole = 0 AND setdatabase =
        (SELECT oid FROM pg_database WHERE datname = current_database()) AND %s::text[] IS NOT NULL""",
}


def listing(db, text):
    db.sql("SET search_path = pg_catalog")
    return sorted(map(repr, db.sql(text, (OURS,))))


def test_update_from_the_empty_version_gives_the_same_catalog(server, db):
    old = server.create("CREATE EXTENSION promscale VERSION '0.0.0'")
    assert old.column("SELECT nspname FROM pg_namespace WHERE nspname = ANY (%s)", (OURS,)) == []
    old.sql("ALTER EXTENSION promscale UPDATE")
    for name, text in LISTINGS.items():
        assert listing(old, text) == listing(db, text), name
        assert listing(db, text), name
    for table in db.column("SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
                           " WHERE n.nspname IN ('_prom_catalog', '_prom_data') AND relkind = 'r'"
                           " AND relname NOT IN ('state', 'clock_seen')"):  # made at different moments
        assert old.sql(f"SELECT * FROM {table}") == db.sql(f"SELECT * FROM {table}"), table
    old.close()
    server.drop(old.name)


def test_everything_of_ours_is_a_member(db):
    """What the script forgets to own would stay behind after DROP EXTENSION."""
    db.sql("DROP EXTENSION promscale CASCADE")
    assert db.column("SELECT nspname FROM pg_namespace WHERE nspname = ANY (%s)", (OURS,)) == []
    db.sql("CREATE EXTENSION promscale")
    assert len(db.resolve([series("m", a="1")]).series) == 1


def test_two_databases_at_once(server):
    """Roles are the cluster's: who comes second must not fail over them."""
    names = [server.create(extension=None) for _ in range(4)]
    errors = []

    def install(d):
        try:
            d.sql("CREATE EXTENSION promscale")
        except psycopg2.Error as e:
            errors.append(e)
    threads = [threading.Thread(target=install, args=(d,)) for d in names]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert errors == []
    for d in names:
        assert len(d.resolve([series("m")]).series) == 1
        d.close()
        server.drop(d.name)


def test_two_databases_at_once_without_roles():
    """The same where the roles are not there yet."""
    from conftest import Server
    server = Server()
    try:
        test_two_databases_at_once(server)
        names = server.connect().cursor()
        names.execute("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'prom\\_%'")
        assert names.fetchone() == (5,)
    finally:
        server.close()


def test_generations_of_two_databases_differ(server, db):
    other = server.create()
    assert other.one("SELECT _prom_catalog.generation()") != db.one("SELECT _prom_catalog.generation()")
    other.close()
    server.drop(other.name)


def test_generation_counts_the_timeline(db):
    """A fail-over makes all ids that connectors know doubtful: the timeline is part of the number."""
    timeline = db.one("SELECT timeline_id FROM pg_control_checkpoint()")
    assert db.one("SELECT _prom_catalog.generation()") == db.one("SELECT generation FROM _prom_catalog.state") + (timeline << 40)


def test_no_superuser_no_installation(server):
    d = server.create(extension=None)
    d.sql("CREATE ROLE plain LOGIN")
    d.sql(f"ALTER DATABASE {d.name} OWNER TO plain")
    conn = d.connect("plain")
    with pytest.raises(psycopg2.Error) as e:
        conn.cursor().execute("CREATE EXTENSION promscale")
    assert e.value.pgcode == "42501"
    conn.close()
    d.close()
    server.drop(d.name)
    server.connect().cursor().execute("DROP ROLE plain")


def test_a_promoted_standby_has_a_generation_of_its_own(server, db):
    """Readers on a standby see the primary's generation; what was learnt before a fail-over is doubtful after it."""
    import random
    import shutil
    ids = db.resolve([series("m", a="1")]).series
    before, cursor = db.sql("SELECT generation, next_cursor::text FROM _prom_catalog.feed('0')")[0]
    data, port = server.folder("standby"), random.randrange(20000, 60000)
    server.run("pg_basebackup", "-h", server.data, "-p", server.port, "-U", "postgres", "-D", data, "-R", "-X", "stream",
               "-c", "fast")
    try:
        server.run("pg_ctl", "-D", data, "-l", data / "log", "-o", f"-c port={port} -c unix_socket_directories={data}", "-w", "start")
        conn = psycopg2.connect(host=str(data), port=port, dbname=db.name, user="postgres", connection_factory=Connection)
        conn.autocommit = True
        cur = conn.cursor()
        cur.execute("SELECT generation, trimmed, deleted FROM _prom_catalog.feed(%s::xid8)", (cursor,))
        assert cur.fetchone() == (before, False, [])
        cur.execute("SELECT prom_api.jsonb(labels), labels OPERATOR(prom_api.?) ps_tag.equals('a', '1'::text) FROM _prom_catalog.series")
        assert cur.fetchone() == (series("m", a="1"), True)
        cur.execute("SELECT pg_promote()")
        cur.execute("SELECT _prom_catalog.generation()")
        after = cur.fetchone()[0]
        assert after == before + (1 << 40)
        with pytest.raises(psycopg2.Error) as e:
            cur.execute("SELECT _prom_catalog.guard(%s)", (before,))
        assert e.value.pgcode == "PS001"
        cur.execute("SELECT _prom_catalog.guard(%s)", (after,))
        cur.execute("SELECT generation, series_ids FROM _prom_catalog.resolve_series(0, '{m}', '{__name__,a}', '{m,1}', '{1}', '{2}', '{1,2}')")
        assert cur.fetchone() == (after, ids)
        conn.close()
    finally:
        server.run("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop", check=False)
        shutil.rmtree(data, ignore_errors=True)
