"""Somebody's own database: --db.uri and --db.host, installation, upgrade, and what is refused."""
import subprocess
import time

from harness.process import BUILD, SLOW, wait_until

VERSION = subprocess.run([BUILD / "promscale", "--version"], capture_output=True, text=True,
                         check=True).stdout.split()[1].strip(",")


def database(cluster, name="promscale", options=""):
    cluster.sql(f"CREATE DATABASE {name} {options}")
    return cluster.uri(name)


def extension_version(cluster, name="promscale"):
    rows = cluster.sql("SELECT extversion FROM pg_extension WHERE extname = 'promscale'", database=name)
    return rows[0][0] if rows else None


def test_uri(lab):
    cluster = lab.cluster()
    p = lab.promscale(uri=database(cluster))
    assert extension_version(cluster) == VERSION
    assert p.stop() == 0
    assert cluster.sql("SELECT 1") == [(1,)], "the database is not promscale's to stop"
    p.start()
    assert p.stop() == 0


def test_host_and_friends(lab):
    cluster = lab.cluster()
    database(cluster)
    p = lab.promscale(uri="ignored", start=False)
    p.command = lambda: [p.program, "--db.host", cluster.folder, "--db.port", cluster.port, "--db.user", "postgres",
                         "--db.name", "promscale", "--db.ssl-mode", "disable", "--web.listen-address",
                         f"127.0.0.1:{p.port}"]
    p.start()
    assert extension_version(cluster) == VERSION
    assert p.stop() == 0


def test_two_connectors_start_at_once(lab):
    cluster = lab.cluster()
    uri = database(cluster)
    both = [lab.promscale(uri=uri, start=False) for _ in range(2)]
    for p in both:
        p.start(wait=False)
    for p in both:
        p.wait_ready()
    assert extension_version(cluster) == VERSION
    assert [p.stop() for p in both] == [0, 0]


def test_two_databases_of_one_cluster_at_once(lab):
    """Roles belong to the cluster: both installations make the same ones."""
    cluster = lab.cluster()
    both = [lab.promscale(uri=database(cluster, name), start=False) for name in ("one", "two")]
    for p in both:
        p.start(wait=False)
    for p in both:
        p.wait_ready()
    assert extension_version(cluster, "one") == extension_version(cluster, "two") == VERSION


def test_upgrades_from_an_earlier_version(lab):
    cluster = lab.cluster()
    uri = database(cluster)
    cluster.sql("CREATE EXTENSION promscale VERSION '0.0.0'", database="promscale")
    p = lab.promscale(uri=uri, args=["--startup.upgrade-extensions=false"], start=False)
    code, said = p.run_to_end()
    assert code != 0 and "0.0.0" in said and "upgrade-extensions" in said
    assert extension_version(cluster) == "0.0.0"
    p.args = []
    p.start()
    assert extension_version(cluster) == VERSION


def test_refuses_a_newer_extension(lab):
    cluster = lab.cluster()
    uri = database(cluster)
    cluster.sql("CREATE EXTENSION promscale", database="promscale")
    cluster.sql("UPDATE pg_extension SET extversion = '99.0.0' WHERE extname = 'promscale'", database="promscale")
    code, said = lab.promscale(uri=uri, start=False).run_to_end()
    assert code != 0
    assert "99.0.0" in said and VERSION in said


def test_may_be_told_not_to_install(lab):
    cluster = lab.cluster()
    uri = database(cluster)
    code, said = lab.promscale(uri=uri, args=["--startup.install-extensions=false"], start=False).run_to_end()
    assert code != 0
    assert "CREATE EXTENSION promscale" in said
    assert extension_version(cluster) is None


def test_startup_only(lab):
    cluster = lab.cluster()
    uri = database(cluster)
    code, _ = lab.promscale(uri=uri, args=["--startup.only"], start=False).run_to_end()
    assert code == 0
    assert extension_version(cluster) == VERSION


def test_refuses_other_encodings(lab):
    cluster = lab.cluster()
    uri = database(cluster, options="ENCODING 'SQL_ASCII' TEMPLATE template0")
    code, said = lab.promscale(uri=uri, start=False).run_to_end()
    assert code != 0
    assert "SQL_ASCII" in said and "UTF8" in said


def test_needs_a_superuser_once(lab):
    cluster = lab.cluster()
    cluster.sql("CREATE ROLE plain LOGIN")
    cluster.sql("CREATE DATABASE promscale OWNER plain")
    code, said = lab.promscale(uri=cluster.uri(user="plain"), start=False).run_to_end()
    assert code != 0
    assert "superuser" in said and "CREATE EXTENSION promscale" in said


def test_password_is_never_told(lab):
    cluster = lab.cluster()
    database(cluster)
    uri = cluster.uri().replace("postgres@", "postgres:open-sesame@").replace("/promscale", "/no_such_database")
    p = lab.promscale(uri=uri, args=["--db.connection-timeout", "1s"], start=False)
    p.start(wait=False)
    try:
        p.process.wait(5 / SLOW)
    except subprocess.TimeoutExpired:  # it may rather wait for the database
        p.kill()
    assert "open-sesame" not in p.out + p.err


def test_database_that_goes_and_comes(lab):
    cluster = lab.cluster()
    p = lab.promscale(uri=database(cluster))
    cluster.stop()
    wait_until("ready without a database", lambda: not p.is_ready(), 60)
    cluster.start()
    wait_until("not ready again", p.is_ready, 60 * SLOW)
    assert p.stop() == 0


def test_embedded_and_external_exclude_each_other(lab):
    p = lab.promscale(uri="postgres://nowhere/x", args=["--data-dir", lab.folder / "data"], start=False)
    code, said = p.run_to_end()
    assert code != 0
    assert "data-dir" in said


def test_maintenance_without_the_worker(lab):
    """A server that does not preload the library: the connector does what the worker would."""
    cluster = lab.cluster()
    p = lab.promscale(uri=database(cluster), args=["--self-scrape=false"])
    assert cluster.sql("SHOW shared_preload_libraries") == [("",)]
    now = int(time.time() * 1000)
    p.write([({"__name__": "cared_for", "n": str(i)}, [(now, i)]) for i in range(500)])
    wait_until("fresh blocks are not folded", lambda: p.sql("SELECT (SELECT count(*) FROM _prom_data.fresh),"
                                                            " (SELECT sum(n_samples) FROM _prom_data.merged)") == [(0, 500)], 60)
    wait_until("no view", lambda: p.sql("SELECT to_regclass('prom_metric.cared_for')") != [(None,)], 60)
    assert p.sql("SELECT count(*), sum(value) FROM prom_metric.cared_for") == [(500, 124750.0)]
    wait_until("fresh is not vacuumed", lambda: p.sql("SELECT vacuum_count > 0 FROM pg_stat_all_tables"
                                                      " WHERE relid = '_prom_data.fresh'::regclass") == [(True,)], 60)
    assert "this connector does the maintenance" in p.err
    assert p.stop() == 0


def test_the_worker_is_left_to_it(lab):
    """With the library preloaded the connector's own maintenance keeps quiet."""
    cluster = lab.cluster(conf="shared_preload_libraries = 'promscale'\npromscale.database = 'promscale'")
    p = lab.promscale(uri=database(cluster))
    wait_until("no worker", lambda: p.sql("SELECT count(*) FROM pg_stat_activity"
                                          " WHERE backend_type = 'promscale maintenance'") != [(0,)], 30)
    time.sleep(12)  # it has looked twice by then
    assert "this connector does the maintenance" not in p.err


def test_writes_see_what_others_committed(lab):
    """Whatever the database's default: who waits for a lock has to see what was done under it."""
    cluster = lab.cluster()
    uri = database(cluster)
    lab.promscale(uri=uri).stop()
    cluster.sql("ALTER DATABASE promscale SET default_transaction_isolation = 'serializable'")
    cluster.sql("""CREATE FUNCTION public.look() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF current_setting('transaction_isolation') <> 'read committed' THEN
                RAISE 'a write at isolation level %', current_setting('transaction_isolation');
            END IF;
            RETURN NULL;
        END $$""", database="promscale")
    cluster.sql("CREATE TRIGGER look BEFORE INSERT ON _prom_data.fresh EXECUTE FUNCTION public.look()", database="promscale")
    p = lab.promscale(uri=uri, args=["--self-scrape=false"])
    p.write([({"__name__": "up"}, [(int(time.time() * 1000), 1.0)])])
    assert cluster.sql("SELECT count(*) FROM _prom_data.fresh", database="promscale")[0][0] > 0
