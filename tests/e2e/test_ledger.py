"""kill -9 in the middle of writing, again and again: what was answered 2xx is there, exactly once.

Writers keep a ledger: which samples were sent, and which of them were acknowledged. A request that got no
answer is sent again or, now and then, given up (its samples may be there or not). Between the rounds the
connector, a backend or the postmaster is killed. In the end SQL must show every acknowledged sample once,
with its value, and nothing that was never sent; then the same after all of it has been merged and sealed.
"""
import os
import random
import signal
import threading
import time

import pytest

from harness import wait_until

SERIES = 40
METRICS = ["ledger_wide", "ledger_small_a", "ledger_small_b"]  # one in rows of its own, two packed
ROUNDS = 20


def value_of(metric, series, k):
    """Every sample has a value of its own, so that a mix-up shows."""
    return METRICS.index(metric) * 1e9 + series * 1e6 + k


def labels_of(metric, series):
    return {"__name__": metric, "job": "ledger", "writer": f"w{series % 4}", "series": str(series)}


class Writer(threading.Thread):
    """Sends the samples k = 0, 1, 2, ... of its series, in requests of a few k, on connections that break."""

    def __init__(self, promscale, number, t0_ms, stop):
        super().__init__(daemon=True)
        self.promscale, self.t0_ms, self.stop_event = promscale, t0_ms, stop
        self.rng = random.Random(number)
        self.mine = [(m, s) for m in METRICS for s in range(SERIES) if s % 4 == number
                     and (m == "ledger_wide" or s < 8)]
        self.sent, self.acked = 0, []  # samples below `sent` may be there; ranges of k that must be
        self.wrong = []

    def request(self, lo, hi):
        return [(labels_of(m, s), [(self.t0_ms + k * 1000, value_of(m, s, k)) for k in range(lo, hi)])
                for m, s in self.mine]

    def run(self):
        while not self.stop_event.is_set():
            lo, hi = self.sent, self.sent + self.rng.randint(1, 5)
            self.sent = hi
            body = self.request(lo, hi)
            give_up = self.rng.random() < 0.1
            while not self.stop_event.is_set():
                try:
                    answer = self.promscale.write(body, expect=None)
                except OSError:
                    answer = None
                if answer is not None and answer.status in (200, 204):
                    self.acked.append((lo, hi))
                    break
                if answer is not None and answer.status != 503:
                    self.wrong.append((answer.status, answer.body[:200]))
                    break
                if give_up:
                    break
                time.sleep(0.05)
            if self.rng.random() < 0.2 and self.acked:  # resend something old: harmless
                try:
                    self.promscale.write(self.request(*self.rng.choice(self.acked)), expect=None)
                except OSError:
                    pass


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
    else:
        promscale.kill_postmaster()
    wait_until("promscale comes back", promscale.is_ready, 60)
    return what


def stored(promscale, metric):
    """[(series, t_ms, value)] as SQL shows them; [] while the metric has no view."""
    if not promscale.sql("SELECT to_regclass(%s)", [f"prom_metric.{metric}"])[0][0]:
        return []
    return promscale.sql(f"SELECT val(series_label_id)::int, (extract(epoch FROM time) * 1000)::int8, value"
                         f" FROM (SELECT *, labels[label_key_position('{metric}', 'series')] AS series_label_id"
                         f" FROM prom_metric.{metric}) x")


def check(promscale, writers, t0_ms):
    for metric in METRICS:
        rows = stored(promscale, metric)
        found = {}
        for series, t_ms, value in rows:
            key = (series, (t_ms - t0_ms) // 1000)
            assert key not in found, f"{metric} {key} is there twice"
            assert value == value_of(metric, *key), f"{metric} {key} has the value {value}"
            found[key] = value
        for w in writers:
            series = [s for m, s in w.mine if m == metric]
            missing = [(s, k) for lo, hi in w.acked for k in range(lo, hi) for s in series if (s, k) not in found]
            assert not missing, f"{metric}: {len(missing)} acknowledged samples are lost, as {missing[:5]}"
            beyond = [key for key in found if key[0] in series and key[1] >= w.sent]
            assert not beyond, f"{metric}: samples that nobody sent: {beyond[:5]}"


def ledger(lab, rounds, seed):
    promscale = lab.promscale()
    rng = random.Random(seed)
    t0_ms = (int(time.time()) - 7200) * 1000
    stop = threading.Event()
    writers = [Writer(promscale, n, t0_ms, stop) for n in range(4)]
    for w in writers:
        w.start()
    wait_until("every writer has something acknowledged", lambda: all(w.acked for w in writers), 60)
    killed = {}
    for _ in range(rounds):
        what = kill_something(promscale, rng)
        killed[what] = killed.get(what, 0) + 1
    stop.set()
    for w in writers:
        w.join(120)
        assert not w.is_alive()
        assert not w.wrong, f"answered with what a client does not send again: {w.wrong[:3]}"
    wait_until("the views are made", lambda: all(stored(promscale, m) for m in METRICS), 60)
    check(promscale, writers, t0_ms)
    promscale.sql("CALL prom_api.execute_maintenance(force => true)")
    assert promscale.sql("SELECT count(*) FROM _prom_data.fresh")[0][0] == 0
    check(promscale, writers, t0_ms)
    assert sum(hi - lo for w in writers for lo, hi in w.acked) > rounds, "hardly anything was written"
    print(f"killed: {killed}, acknowledged requests: {sum(len(w.acked) for w in writers)}")


def test_acked_samples_survive_kill_9(lab):
    ledger(lab, ROUNDS, seed=int(time.time()))


@pytest.mark.soak
def test_acked_samples_survive_kill_9_for_long(lab):
    ledger(lab, int(os.environ.get("SOAK_ROUNDS", "300")), seed=int(time.time()))
