"""A real Prometheus with the default settings of remote write (nothing but the URL) while Promscale or its
database does not work, for longer than any deadline. Afterwards nothing is missing: every sample that
Prometheus has is in the database, with the same value. For that, no answer may have been one that
Prometheus takes as final (4xx; 429 counts as such by default).

The troubles run side by side, each with a Prometheus, a connector and a database cluster of its own.
"""
import contextlib
import os
import signal
import threading
import time

import pytest
from harness import compare
from harness.process import children, wait_until

QUIET_S = 6     # without trouble, before it and after it
STALL_S = 65    # longer than a minute, beyond the connector's --ingest.timeout (20 s)
KILLED_S = 12
STOPPED_S = 30


class Setting:
    """One Prometheus writing to one connector on one cluster."""

    def __init__(self, lab, name):
        self.cluster = lab.cluster(name=f"{name}-cluster", conf="shared_preload_libraries = 'promscale'\n"
                                   "promscale.database = 'promscale'")
        self.cluster.sql("CREATE DATABASE promscale")
        self.promscale = lab.promscale(name=f"{name}-promscale", uri=self.cluster.uri(), args=["--self-scrape=false"])
        self.prometheus = lab.prometheus(name=f"{name}-prometheus", remote_write=self.promscale.url + "/api/v1/write",
                                         targets={"promscale": f"127.0.0.1:{self.promscale.port}"},
                                         send_exemplars=False)

    def sent(self):
        """Bytes that Prometheus is done with. (samples_total would count each attempt.)"""
        return self.prometheus.remote_write_counter("bytes_total")

    def wait(self, seconds):
        until = time.monotonic() + seconds
        wait_until("time does not pass", lambda: time.monotonic() > until, seconds + 10, every=0.2)

    def check_nothing_gets_through(self):
        """The trouble is real: Prometheus tries, but gets no sample off its hands."""
        before = self.sent()
        # 0 for a moment also while it changes the number of its senders
        wait_until("Prometheus has nothing to send", lambda: self.prometheus.remote_write_counter("samples_pending") > 0, 15)
        self.wait(5)
        assert self.sent() == before

    def locked(self, seconds):
        """An operator's ALTER TABLE that waits for something: every flush waits behind it."""
        conn = self.cluster.connect("promscale")
        try:
            with conn.cursor() as cur:
                cur.execute("BEGIN; LOCK TABLE _prom_data.fresh IN ACCESS EXCLUSIVE MODE")
                self.wait(3)
                self.check_nothing_gets_through()
                self.wait(seconds - 8)
                cur.execute("COMMIT")
        finally:
            conn.close()

    def frozen(self, seconds):
        """The database's machine does not move: connections stay open, nothing is answered."""
        postmaster = self.cluster.process.pid
        # first of all the postmaster, so that no further children appear
        os.kill(postmaster, signal.SIGSTOP)
        stopped = [postmaster, *children(postmaster)]
        try:
            for pid in stopped[1:]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
            self.wait(3)
            self.check_nothing_gets_through()
            self.wait(seconds - 8)
            assert not self.promscale.is_ready()
        finally:
            for pid in stopped:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def killed(self, seconds):
        """kill -9 of the postmaster, and nobody restarts it for a while; twice."""
        for _ in range(2):
            self.cluster.process.kill()
            self.wait(1)
            self.check_nothing_gets_through()
            self.wait(seconds - 6)
            self.cluster.start()
            wait_until("the connector does not find its database again", self.promscale.is_ready, 30)
            self.wait(QUIET_S)

    def stopped(self, seconds):
        """The connector is not there."""
        assert self.promscale.stop() == 0
        self.check_nothing_gets_through()
        self.wait(seconds - 5)
        self.promscale.start()


def run(setting, trouble, seconds):
    prometheus, promscale = setting.prometheus, setting.promscale
    wait_until("nothing is written", lambda: setting.sent() > 0, 30)
    start_ms = int(time.time() * 1000)
    setting.wait(QUIET_S)
    getattr(setting, trouble)(seconds)
    before = setting.sent()
    wait_until("Prometheus does not go on sending", lambda: setting.sent() > before, 60)
    setting.wait(QUIET_S)
    end_ms = prometheus.stop_scraping()
    want = compare.prometheus_series(prometheus, start_ms, end_ms)
    n_wanted = sum(map(len, want.values()))
    assert (end_ms - start_ms) / 1000 > seconds and n_wanted > 300 * seconds, "that was not much"

    def arrived():
        return not compare.views_missing(promscale) and sum(
            f[0] for f in compare.sql_figures(promscale, start_ms, end_ms).values()) >= n_wanted

    with contextlib.suppress(AssertionError):  # what is missing is told below
        wait_until("not everything has arrived", arrived, 60, every=1)
    compare.assert_same_series(want, compare.sql_series(promscale, start_ms, end_ms))
    compare.assert_same_figures(compare.figures(want), compare.sql_figures(promscale, start_ms, end_ms))
    assert prometheus.remote_write_counter("samples_failed_total") == 0
    assert prometheus.remote_write_counter("samples_dropped_total") == 0


class Trouble(threading.Thread):
    """run() beside the others; result() raises what it raised."""

    def __init__(self, lab, name, seconds):
        super().__init__(daemon=True)
        self.lab, self.name, self.seconds, self.error = lab, name, seconds, None
        self.setting = Setting(lab, name)

    def run(self):
        try:
            run(self.setting, self.name, self.seconds)
        except BaseException as e:  # pylint: disable=broad-except
            self.error = e

    def result(self, timeout):
        self.join(timeout)
        assert not self.is_alive(), f"{self.name} does not end"
        if self.error:
            raise self.error


def troubles(lab, wanted):
    running = {name: Trouble(lab, name, seconds) for name, seconds in wanted.items()}
    for t in running.values():
        t.start()
    return running


ORDINARY = {"frozen": STALL_S, "locked": STALL_S, "killed": KILLED_S, "stopped": STOPPED_S}


@pytest.fixture(scope="module")
def all_troubles(module_lab):
    return troubles(module_lab, ORDINARY)


@pytest.mark.parametrize("name", ORDINARY)
def test_nothing_is_missing_afterwards(all_troubles, name):
    all_troubles[name].result(600)


@pytest.mark.soak
def test_nothing_is_missing_after_hours(module_lab):
    """All side by side, for SOAK_SECONDS."""
    seconds = max(STALL_S, int(os.environ.get("SOAK_SECONDS", "200")))
    running = troubles(module_lab, {**dict.fromkeys(ORDINARY, seconds), "killed": seconds // 2})  # that one is twice
    for trouble in running.values():
        trouble.result(3 * seconds + 900)
