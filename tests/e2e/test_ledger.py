"""kill -9 in the middle of writing, again and again: what was answered 2xx is there, exactly once.

Writers keep a ledger: which samples were sent, and which of them were acknowledged. A request that got no
answer is sent again or, now and then, given up (its samples may be there or not). Meanwhile blocks are
merged and sealed all the time, and between the rounds the connector, a backend or the postmaster is
killed. In the end SQL must show every acknowledged sample once, with its value, and nothing that was never
sent; then the same after all of it has been merged and sealed.
"""
import os
import random
import signal
import threading
import time

import psycopg2
import pytest

from harness.process import wait_until

WRITERS = 4
SERIES = 40
# One in rows of its own, two packed, one whose series are new in each request; days apart.
METRICS = ["ledger_wide", "ledger_small_a", "ledger_small_b", "ledger_churn"]
CHURN = METRICS.index("ledger_churn")
ROUNDS = 20


def value_of(metric, series, k):
    """Every sample has a value of its own, so that a mix-up shows."""
    return metric * 1e12 + series * 1e7 + k


class Writer(threading.Thread):
    """Sends the samples k = 0, 1, 2, ... of its series, in requests of a few k, on connections that break."""

    def __init__(self, promscale, number, t0_ms, stop):
        super().__init__(daemon=True)
        self.promscale, self.number, self.t0_ms, self.stop_event = promscale, number, t0_ms, stop
        self.rng = random.Random(number)
        self.mine = [(m, s) for m in range(len(METRICS)) for s in range(SERIES)
                     if s % WRITERS == number and m != CHURN and (m == 0 or s < 8)]
        self.sent = []   # ranges of k, one a request: may be there
        self.acked = []  # of these: must be there
        self.wrong = []

    def keys(self, lo, hi):
        """(metric, series, k) of a request; its churned series are known by its first k."""
        fixed = [(m, s, k) for m, s in self.mine for k in range(lo, hi)]
        return fixed + [(CHURN, lo * WRITERS + self.number, k) for k in range(lo, hi)]

    def request(self, lo, hi):
        series = {}
        for m, s, k in self.keys(lo, hi):
            series.setdefault((m, s), []).append((self.t0_ms - m * 86400000 + k * 1000, value_of(m, s, k)))
        return [({"__name__": METRICS[m], "job": "ledger", "writer": str(self.number), "n": str(s)}, samples)
                for (m, s), samples in series.items()]

    def send(self, lo, hi):
        """The answer's status, None without an answer."""
        try:
            answer = self.promscale.write(self.request(lo, hi), expect=None)
        except OSError:
            return None
        if answer.status not in (200, 204, 503):
            self.wrong.append((answer.status, answer.body[:200]))
        return answer.status

    def run(self):
        lo = 0
        while not self.stop_event.is_set() and not self.wrong:
            hi = lo + self.rng.randint(1, 5)
            self.sent.append((lo, hi))
            give_up = self.rng.random() < 0.1
            while not self.stop_event.is_set():
                if self.send(lo, hi) in (200, 204):
                    self.acked.append((lo, hi))
                    break
                if give_up:
                    break
                time.sleep(0.05)
            if self.rng.random() < 0.2 and self.acked:
                self.send(*self.rng.choice(self.acked))  # something old once more: harmless
            lo = hi


class Maintainer(threading.Thread):
    """Merges and seals without a pause; a server that dies meanwhile is nothing special here."""

    def __init__(self, promscale, stop):
        super().__init__(daemon=True)
        self.promscale, self.stop_event, self.rounds, self.errors = promscale, stop, 0, []

    def run(self):
        while not self.stop_event.wait(0.05):
            try:
                self.promscale.sql("CALL prom_api.execute_maintenance(force => true)")
                self.rounds += 1
            except (psycopg2.OperationalError, psycopg2.InterfaceError, KeyError):
                continue  # killed, starting, or not there at all
            except psycopg2.Error as e:
                # without an SQLSTATE the server said nothing: it died (psycopg2 calls that a DatabaseError)
                if e.pgcode is not None and "other maintenance did not end" not in str(e):
                    self.errors.append(str(e))


def kill_something(promscale, rng):
    what = rng.choice(["connector", "backend", "backend", "postmaster"])
    time.sleep(rng.uniform(0.05, 0.4))
    if what == "connector":
        promscale.kill()
        time.sleep(rng.uniform(0, 0.2))
        promscale.start()
    elif what == "backend":
        pids = promscale.backend_pids("postgres: ")
        if pids:
            try:
                os.kill(rng.choice(pids), signal.SIGKILL)
            except ProcessLookupError:
                pass
    elif promscale.postmaster_pid():
        promscale.kill_postmaster()
    wait_until("promscale comes back", promscale.is_ready, 60)
    return what


def stored(promscale, metric):
    """[(writer, n, t_ms, value)] as SQL shows them."""
    return promscale.sql("SELECT val(writer_id)::int, val(n_id)::int, (extract(epoch FROM time) * 1000)::int8, value"
                         f" FROM prom_metric.{METRICS[metric]}")


def check(promscale, writers, t0_ms):
    found = set()
    for metric in range(len(METRICS)):
        for writer, n, t_ms, value in stored(promscale, metric):
            k, rest = divmod(t_ms - t0_ms + metric * 86400000, 1000)
            assert rest == 0 and value == value_of(metric, n, k), f"{METRICS[metric]} {n} {k} has the value {value}"
            assert (writer, metric, n, k) not in found, f"{METRICS[metric]} {n} {k} is there twice"
            found.add((writer, metric, n, k))
    for w in writers:
        must = {(w.number, *key) for lo, hi in w.acked for key in w.keys(lo, hi)}
        may = {(w.number, *key) for lo, hi in w.sent for key in w.keys(lo, hi)}
        missing = must - found
        assert not missing, f"{len(missing)} of {len(must)} acknowledged samples are lost: {sorted(missing)[:5]}"
        found_of_mine = {key for key in found if key[0] == w.number}
        assert found_of_mine <= may, f"samples that nobody sent: {sorted(found_of_mine - may)[:5]}"


def ledger(lab, rounds, seconds=3600.0):
    seed = int(time.time())
    print(f"seed {seed}")
    promscale = lab.promscale()
    rng = random.Random(seed)
    t0_ms = (int(time.time()) - 86400) * 1000
    stop = threading.Event()
    writers = [Writer(promscale, n, t0_ms, stop) for n in range(WRITERS)]
    maintainer = Maintainer(promscale, stop)
    try:
        for thread in (*writers, maintainer):
            thread.start()
        wait_until("every writer has something acknowledged", lambda: all(w.acked for w in writers), 60)
        killed, end = {}, time.monotonic() + seconds
        for _ in range(rounds):
            if time.monotonic() > end:
                break
            what = kill_something(promscale, rng)
            killed[what] = killed.get(what, 0) + 1
    finally:
        stop.set()
        for thread in (*writers, maintainer):
            thread.join(120)
    assert not any(thread.is_alive() for thread in (*writers, maintainer))
    assert not any(w.wrong for w in writers), f"not to be sent again: {[w.wrong for w in writers]}"
    assert not maintainer.errors, maintainer.errors[:3]
    wait_until("the views are made", lambda: all(
        promscale.sql("SELECT to_regclass(%s)", [f"prom_metric.{m}"])[0][0] for m in METRICS), 60)
    check(promscale, writers, t0_ms)
    promscale.sql("CALL prom_api.execute_maintenance(force => true)")
    assert promscale.sql("SELECT (SELECT count(*) FROM _prom_data.fresh WHERE metric_id IN (SELECT id FROM"
                         " _prom_catalog.metric WHERE starts_with(metric_name, 'ledger')))") == [(0,)]
    check(promscale, writers, t0_ms)
    acked = sum(len(w.acked) for w in writers)
    print(f"killed: {killed}, acknowledged requests: {acked}, rounds of maintenance: {maintainer.rounds}")
    assert acked > 5 * sum(killed.values()) and maintainer.rounds > 0, "hardly anything was done"


def test_acked_samples_survive_kill_9(lab):
    ledger(lab, ROUNDS)


@pytest.mark.soak
def test_acked_samples_survive_kill_9_for_long(lab):
    ledger(lab, 1_000_000, float(os.environ.get("SOAK_SECONDS", "200")))
