"""A flush of the connector that is stopped at a named point; then its backend, the connector or the postmaster is killed
there. A client that sends again until it gets 2xx finds each sample once."""
import os
import signal

import pytest
from examine import examine
from harness.process import alive, wait_until
from http_ledger import HttpLedger, Writing
from world import GATE, SCHEMA

POINTS = {
    "rows copied": ("ROW", ""),
    "about to commit": ("CONSTRAINT", "DEFERRABLE INITIALLY DEFERRED"),
    "committed, not acknowledged": None,
}


def arm(p, point):
    """(what a flush does there is to wait, how to see its process, how to let it go)"""
    if POINTS[point] is None:  # it waits for a standby that does not exist, with its commit in the log
        p.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        p.sql("SELECT pg_reload_conf()")
        return None
    kind, when = POINTS[point]
    p.sql(f"CREATE {'CONSTRAINT ' * (kind == 'CONSTRAINT')}TRIGGER fault_insert AFTER INSERT ON _prom_data.fresh {when}"
          " FOR EACH ROW EXECUTE FUNCTION fault.stop('1')")
    holder = p.connect()
    holder.cursor().execute(f"SELECT pg_advisory_lock({GATE})")
    return holder


def waiting(p):
    return [pid for pid, in p.sql("SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'promscale%'"
                                  " AND (wait_event = 'SyncRep' OR wait_event_type = 'Lock' AND wait_event = 'advisory')")]


def disarm(p, holder):
    if holder is not None:
        holder.close()
    p.sql("ALTER SYSTEM RESET synchronous_standby_names")
    p.sql("SELECT pg_reload_conf()")
    for name, in p.sql("SELECT tgname FROM pg_trigger WHERE tgrelid = '_prom_data.fresh'::regclass AND tgname LIKE 'fault%%'"):
        p.sql(f"DROP TRIGGER {name} ON _prom_data.fresh")


@pytest.mark.parametrize("victim,point", [("backend", p) for p in POINTS] + [
    ("connector", "about to commit"), ("connector", "committed, not acknowledged"),
    ("postmaster", "rows copied"), ("postmaster", "committed, not acknowledged")])
def test_killed_in_a_flush(lab, point, victim):
    p = lab.promscale(args=["--self-scrape=false", "--ingest.timeout=5s"])
    p.sql(SCHEMA)
    ledger = HttpLedger(p)
    assert ledger.write(10) == 204
    # a table that is made while the server is killed leaves its files behind: PostgreSQL's own affair
    wait_until("no partitions", lambda: p.sql("SELECT count(*) FROM _prom_catalog.partitions()")[0][0] >= 3, 60)
    holder = arm(p, point)
    writing = Writing(ledger)
    pid, = wait_until("no flush comes to the point", lambda: waiting(p))[:1]
    acked = dict(ledger.acked)
    if victim == "backend":
        os.kill(pid, signal.SIGKILL)
        wait_until("the backend lives on", lambda: not alive(pid))
    elif victim == "postmaster":
        p.kill_postmaster()
    else:
        p.kill()
    assert ledger.acked == acked, "acknowledged what was not"
    if victim == "connector":
        disarm(p, holder)
        p.start()
    else:
        wait_until("the server comes back", lambda: try_sql(p), 60)
        disarm(p, holder)
        wait_until("the connector does not find it", p.is_ready, 60)
    wait_until("nothing is taken any more", lambda: len(ledger.acked) > len(acked) + 1000, 60)
    writing.end()
    examine(p.sql, *ledger.keys())
    p.sql("CALL prom_api.execute_maintenance(force => true)")
    examine(p.sql, *ledger.keys())


def try_sql(p):
    try:
        return p.sql("SELECT 1")
    except Exception:  # pylint: disable=broad-except
        return None
