"""The background worker: maintenance happens by itself, only where it should, and gets out of the way."""

import os
import signal
import time

import psycopg2
import pytest

from store import DAY, HOUR, Store, bits, wait_until

PRELOAD = "shared_preload_libraries = 'promscale'\npromscale.maintenance_interval = 200ms\n"
WORKER = "backend_type = 'promscale maintenance'"


@pytest.fixture
def cared(make_server):
    server = make_server(PRELOAD)
    server.sql("CREATE DATABASE promscale")
    server.sql("CREATE EXTENSION promscale", "promscale")
    store = Store(server, "promscale")
    yield store
    store.close()


def due(store, *steps):
    """The next round takes these steps. Asked again while one waits: a round under way sets the time of the next."""
    store.sql("INSERT INTO _prom_catalog.job AS j (name, next_run) SELECT unnest(%s), now() ON CONFLICT (name)"
              " DO UPDATE SET next_run = now() WHERE j.next_run > now()", (list(steps),))


def wait_for_step(store, step, what, condition):
    def done():
        if condition():
            return True
        due(store, step)
        return False

    wait_until(what, done)


def dead_rows(store):
    return store.one("SELECT sum(n_dead_tup) FROM pg_stat_user_tables WHERE relname IN ('fresh', 'merged')")


def test_it_does_all_by_itself(cared):
    store = cared
    wait_until("no launcher", lambda: store.one(f"SELECT count(*) FROM pg_stat_activity WHERE {WORKER}") >= 1)
    old = store.now_ms() // DAY * DAY - 2 * DAY
    samples = [(0, m, m, t + i, bits(float(i))) for m in (1, 2) for t in (old, store.now_ms() - 1000) for i in range(50)]
    store.flush(samples, packed=(2,))
    wait_for_step(store, "fold", "no fold", lambda: store.count("fresh") == 0)
    wait_for_step(store, "partitions", "no partitions",
                  lambda: store.one("SELECT count(*) FROM _prom_catalog.partitions()") >= 3)
    wait_for_step(store, "seal", "no seal", lambda: store.n_samples("block") == 100)
    assert store.n_samples("merged") == 100  # the window of today is not over
    wait_until("no vacuum", lambda: store.one(
        "SELECT min(vacuum_count) FROM pg_stat_user_tables WHERE relname IN ('fresh', 'merged')"
        f" OR relname = to_char(to_timestamp({old / 1000}) AT TIME ZONE 'UTC', '\"block_\"YYYYMMDD')") > 0)
    wait_until("dead rows stay", lambda: dead_rows(store) == 0)
    assert store.visible() == {tuple(k): b for *k, b in samples}
    # sealed pages are frozen at once
    name = store.one("SELECT min(relid::regclass::text) FROM pg_stat_user_tables WHERE relname LIKE 'block\\_2%%' AND n_tup_ins > 0")
    store.sql("CREATE EXTENSION pg_visibility")
    assert store.one("SELECT bool_and(all_frozen) FROM pg_visibility_map(%s::regclass)", (name,)) is True
    assert "ERROR" not in store.server.log().split("ready to accept")[-1]


def test_drop_database_is_not_blocked(cared):
    store = cared
    store.flush([(0, 1, 1, store.now_ms(), bits(1.0))])
    time.sleep(0.5)
    store.close()

    def dropped():
        try:
            store.server.sql("DROP DATABASE promscale")
            return True
        except psycopg2.errors.ObjectInUse:  # a round that takes longer than PostgreSQL waits, five seconds
            return False

    wait_until("the database cannot be dropped", dropped)
    wait_until("more than the launcher stays", lambda: store.server.sql(
        f"SELECT count(*) FROM pg_stat_activity WHERE {WORKER}") == [(1,)])
    assert "PANIC" not in store.server.log()
    store.server.sql("CREATE DATABASE promscale")  # without the extension: nothing happens
    time.sleep(0.5)
    store.server.sql("CREATE EXTENSION promscale", "promscale")
    store.conn = store.server.connect("promscale")
    wait_until("no rounds after the return", lambda: store.count("fresh") == 0
               and store.one("SELECT count(*) FROM _prom_catalog.job") > 0)


def test_one_process_does_rounds_as_long_as_somebody_is_there(cared):
    store = cared
    find = f"SELECT pid FROM pg_stat_activity WHERE {WORKER} AND datname = 'promscale'"
    seen = {}

    def rounds():
        due(store, "views")
        for pid, ended in store.sql(f"SELECT pid, (SELECT max(last_run) FROM _prom_catalog.job) FROM ({find}) w"):
            seen.setdefault(pid, set()).add(ended)
        return any(len(times) > 5 for times in seen.values())

    wait_until("a process for each round", rounds)
    other = store.server.connect("postgres")
    other.autocommit = True
    cur = other.cursor()
    store.close()

    def gone():
        cur.execute(find)
        return not cur.fetchall()

    wait_until("nobody is there but the worker, and it stays", gone)
    other.close()


def test_switch_and_reload(make_server):
    server = make_server(PRELOAD + "promscale.maintenance = off\n")
    server.sql("CREATE DATABASE promscale")
    server.sql("CREATE EXTENSION promscale", "promscale")
    store = Store(server, "promscale")
    time.sleep(1.5)
    assert store.one("SELECT count(*) FROM _prom_catalog.job") == 0
    server.sql("ALTER SYSTEM SET promscale.maintenance = on")
    server.sql("SELECT pg_reload_conf()")
    wait_until("no rounds after the reload", lambda: store.one("SELECT count(*) FROM _prom_catalog.job") > 0)
    store.close()


def test_kill_minus_nine_of_a_round(cared):
    """A round dies while it waits for a row; the server recovers, the launcher goes on, nothing is lost."""
    store = cared
    truth = {}
    server = store.server
    holder = server.connect("promscale")
    cur = holder.cursor()

    def held():
        """Holds a row: the round may have been quicker than that with those before."""
        i = len(truth)
        batch = [(0, m, m, store.now_ms() - HOUR + i, bits(float(i))) for m in (1, 2)]
        store.flush(batch)
        truth.update({tuple(k): b for *k, b in batch})
        cur.execute("ROLLBACK; BEGIN; SELECT 1 FROM _prom_data.fresh FOR UPDATE")
        return cur.fetchone()

    wait_until("no row stays long enough to be held", held)
    stuck = f"SELECT pid FROM pg_stat_activity WHERE {WORKER} AND datname = 'promscale' AND wait_event_type = 'Lock'"
    wait_for_step(store, "fold", "no round gets to the row", lambda: store.sql(stuck))
    os.kill(store.one(stuck), signal.SIGKILL)

    def down():
        try:
            cur.execute("SELECT 1")
            return False
        except psycopg2.Error:
            return True

    def up():
        try:
            store.conn = server.connect("promscale")
            return True
        except psycopg2.OperationalError:
            return False

    wait_until("the server did not notice the kill", down)
    holder.close()
    wait_until("the server does not come back", up)
    assert store.visible() == truth
    wait_for_step(store, "fold", "no fold after the crash", lambda: store.count("fresh") == 0)
    assert store.visible() == truth


def test_stops_with_the_server_and_not_on_a_standby(cared):
    server = cared.server
    cared.conn.close()
    started = time.monotonic()
    server.stop("fast")
    assert time.monotonic() - started < 60
    (server.data / "standby.signal").touch()
    os.chmod(server.data / "standby.signal", 0o644)
    server.start()
    time.sleep(1)
    assert server.sql("SELECT pg_is_in_recovery()") == [(True,)]
    assert server.sql(f"SELECT count(*) FROM pg_stat_activity WHERE {WORKER}") == [(0,)]
    cared.conn = server.connect("promscale")
