"""The connector and its embedded database: start, stop, and every way in which one of them may die."""
import os
import re
import signal
import time

import pytest
from harness.process import SLOW, alive, wait_until


def test_first_start_says_what_one_needs(lab):
    promscale = lab.promscale(fresh=True)
    out = promscale.out
    assert promscale.url in out
    assert "remote_write:" in out
    assert f"{promscale.url}/api/v1/write" in out
    assert "promscale sql" in out
    assert str(promscale.data_dir) in out
    assert re.search(r"90 ?d", out), "retention is not told"
    assert promscale.stop() == 0


def test_second_start_is_quick_and_finds_its_data(promscale):
    promscale.sql("CREATE TABLE kept (x int)")
    promscale.sql("INSERT INTO kept VALUES (42)")
    assert promscale.stop() == 0
    assert promscale.postmaster_pid() is None
    assert not (promscale.data_dir / "server").exists()
    promscale.start()
    assert promscale.ready_after_s < 3 * SLOW
    assert promscale.sql("SELECT x FROM kept") == [(42,)]


@pytest.mark.parametrize("whole_group", [True, False])
def test_interrupt_during_the_first_start(lab, whole_group):
    """Ctrl-C (to all in the terminal) or SIGTERM (to the connector) while initdb works is a clean stop."""
    p = lab.promscale(start=False, fresh=True)
    p.start(wait=False)
    wait_until("initdb does not begin", lambda: (p.data_dir / "pg.new" / "base").exists(), 30, every=0.005)
    if whole_group:
        os.killpg(os.getpgid(p.process.pid), signal.SIGINT)
    else:
        os.kill(p.process.pid, signal.SIGTERM)
    assert p.process.wait(60) == 0, p.err
    assert p.postmaster_pid() is None
    p.start()
    assert p.sql("SELECT 1") == [(1,)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stops_cleanly(promscale, number):
    postmaster = promscale.postmaster_pid()
    socket = promscale.server_file()["socket"]
    assert promscale.stop(number) == 0
    assert not alive(postmaster)
    assert not os.path.exists(socket)
    log = (promscale.data_dir / "pg.log").read_text()
    assert "database system is shut down" in log


def test_terminal_interrupt_does_not_reach_the_database(promscale):
    """Ctrl-C goes to the whole process group of the terminal: the database must not be in it."""
    assert os.getsid(promscale.postmaster_pid()) != os.getsid(promscale.process.pid)
    assert os.getpgid(promscale.postmaster_pid()) != os.getpgid(promscale.process.pid)
    postmaster = promscale.postmaster_pid()
    os.killpg(os.getpgid(promscale.process.pid), signal.SIGINT)
    assert promscale.process.wait(60) == 0
    assert not alive(postmaster)


def test_killed_connector_leaves_a_database_that_is_adopted(promscale):
    postmaster = promscale.postmaster_pid()
    promscale.kill()
    assert alive(postmaster)
    assert promscale.sql("SELECT 1") == [(1,)]
    promscale.start()
    assert promscale.postmaster_pid() == postmaster
    assert promscale.is_ready()
    assert promscale.stop() == 0
    assert not alive(postmaster)


def test_adopted_database_is_restarted_when_the_configuration_changed(promscale):
    postmaster = promscale.postmaster_pid()
    promscale.kill()
    promscale.args = ["--embedded.shared-buffers", "64MB"]
    promscale.start()
    assert promscale.postmaster_pid() != postmaster
    assert not alive(postmaster)
    assert promscale.sql("SHOW shared_buffers") == [("64MB",)]


def test_killed_postmaster_is_started_again(promscale):
    promscale.sql("CREATE TABLE kept AS SELECT 7 AS x")
    before = promscale.kill_postmaster()
    wait_until("no new postmaster", lambda: promscale.postmaster_pid() not in (None, before), 60)
    wait_until("not ready again", promscale.is_ready, 60)
    assert promscale.process.running()
    assert promscale.sql("SELECT x FROM kept") == [(7,)]


def test_killed_postmaster_with_a_busy_backend(promscale):
    """An orphaned backend that computes holds the old server's memory: the new start gets past it."""
    conn = promscale.connect()
    backend = conn.get_backend_pid()
    # never looks whether its postmaster lives
    conn.cursor().execute("SELECT 1")
    promscale.kill()
    os.kill(backend, signal.SIGSTOP)
    promscale.kill_postmaster()
    conn.close()
    promscale.start(timeout=60)
    assert not alive(backend)
    assert promscale.sql("SELECT 1") == [(1,)]


def test_killed_backend(promscale):
    """kill -9 of a backend makes the postmaster start over by itself; the connector connects again."""
    postmaster = promscale.postmaster_pid()
    conn = promscale.connect()
    os.kill(conn.get_backend_pid(), signal.SIGKILL)

    def answers():
        try:
            return promscale.sql("SELECT 1") == [(1,)] and promscale.is_ready()
        except Exception:  # while it starts over
            return False

    time.sleep(0.1)
    wait_until("the database does not answer again", answers, 60)
    assert promscale.postmaster_pid() == postmaster


def test_both_killed_at_once(promscale):
    promscale.sql("CREATE TABLE kept AS SELECT 9 AS x")
    promscale.process.kill()
    promscale.kill_postmaster()
    promscale.start()
    assert promscale.sql("SELECT x FROM kept") == [(9,)]


def test_ready_says_no_while_the_database_is_away(promscale):
    os.kill(promscale.postmaster_pid(), signal.SIGSTOP)
    try:
        for pid in promscale.backend_pids():
            os.kill(pid, signal.SIGSTOP)
        wait_until("ready although the database does not answer", lambda: not promscale.is_ready(), 60)
        assert promscale.get("/-/healthy").status == 200
    finally:
        for pid in promscale.backend_pids() + [promscale.postmaster_pid()]:
            os.kill(pid, signal.SIGCONT)
    wait_until("not ready again", promscale.is_ready, 60)
