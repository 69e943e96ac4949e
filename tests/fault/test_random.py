"""Everything at once in random order, for long: writers, the worker, maintenance by hand, erasing, readers; and at random
moments kill -9 of any process of the server, of all of it, cancellations, time-outs. Every so often all of them pause for
the examination."""
import os
import random
import signal
import threading
import time

import psycopg2
import pytest
from cluster import Cluster
from conftest import CONF
from examine import examine, examine_all
from harness.process import alive, children
from world import DAY, HOUR, World, eventually

SECONDS = float(os.environ.get("SOAK_SECONDS", "200"))
WORKER = ("shared_preload_libraries = 'promscale'\npromscale.database = 'soak'\npromscale.maintenance_interval = 300ms\n"
          "max_connections = 60\n")
ROUND_S = 8
LINES = (0, 0, 0, 30 * DAY, 60 * DAY)  # so far back the writers write, too: each line goes forward by STEP_MS a sample
STEP_MS, ERASED_MS = 10, 300
TRY_AGAIN = ("40001", "40P01", "55P03", "57014", "PS001")


class Actor(threading.Thread):
    """Does `act` again and again on a connection of its own, which may break. Pauses while `world.pause` is set."""

    def __init__(self, world, number, act, seed):
        super().__init__(daemon=True, name=f"{act.__name__} {number}")
        self.world, self.number, self.act, self.random = world, number, act, random.Random(seed + number)
        self.conn, self.idle, self.done, self.errors = None, threading.Event(), 0, []
        self.start()

    def sql(self, text, args=None):
        cur = self.conn.cursor()
        cur.execute(text, args)
        return cur.fetchall() if cur.description else None

    def run(self):
        while not self.world.over.is_set():
            if self.world.pause.is_set():
                self.idle.set()
                time.sleep(0.02)
                continue
            self.idle.clear()
            try:
                if self.conn is None or self.conn.closed:
                    self.conn = self.world.connect()
                self.act(self)
                self.done += 1
            except psycopg2.Error as e:
                if e.pgcode is None or e.pgcode.startswith(("57P", "08", "25P03")):
                    self.conn = None  # the server has gone
                    time.sleep(0.05)
                elif e.pgcode not in TRY_AGAIN and "other maintenance did not end" not in str(e) \
                        and not all(code in str(e) for code in ("did not complete", "(55P03)")):
                    self.errors.append(f"{self.name}: {e.pgcode} {e}")
                self.roll_back()
            except Exception as e:  # pylint: disable=broad-except
                self.errors.append(f"{self.name}: {e!r}")
                self.roll_back()

    def roll_back(self):
        try:
            if self.conn is not None:
                self.conn.cursor().execute("ROLLBACK")
        except psycopg2.Error:
            self.conn = None


def write(actor):
    """A flush, sent until it is taken; now and then something old once more, with another value, which must lose."""
    world, rng = actor.world, actor.random
    with world.books:
        n = rng.choice([1, 5, 40])
        world.next_t += n * STEP_MS
        world.busy_from[actor.number] = world.next_t - n * STEP_MS
        back = rng.choice(LINES)
        times = [world.next_t - back - i * STEP_MS for i in range(n)]
    while not world.over.is_set():
        keys, text = world.statements(times)
        with world.books:
            world.maybe.update(keys)
        try:
            if actor.conn is None or actor.conn.closed:
                actor.conn = world.connect()
            actor.sql("BEGIN;" + text + "COMMIT")
            break
        except psycopg2.Error as e:
            if e.pgcode == "PS001":
                raise AssertionError("a generation that nobody has ended") from e
            actor.roll_back()
            time.sleep(0.05)
    else:
        return
    with world.books:
        world.acknowledged(keys)
    if rng.random() < 0.2:
        _, text = world.statements(times[:3], value=-1.0)
        actor.sql("BEGIN;" + text + "COMMIT")
    time.sleep(0.05)


def maintain(actor):
    actor.sql(f"SET statement_timeout = {actor.random.choice([0, 0, 0, 20, 200, 1000])}")
    actor.sql(actor.random.choice([
        "SELECT _prom_ext.merge_step()", "SELECT _prom_ext.merge_step(30000)", "SELECT _prom_ext.seal_step(true)",
        "SELECT _prom_ext.seal_step(true, 100000)", "SELECT _prom_catalog.ensure_partitions()",
        "CALL prom_api.execute_maintenance()", "CALL prom_api.execute_maintenance(force => true)",
        "SELECT _prom_catalog.make_metric_views(1)", "VACUUM _prom_data.merged", "CHECKPOINT",
        "SELECT _prom_catalog.run_step('retention', true)"]))


def erase(actor):
    """Some of all series, of a time that nobody writes any more. What it has not said to have done, it may
    have done."""
    world = actor.world
    time.sleep(actor.random.random())
    with world.books:
        line, settled = actor.random.choice(LINES), min(world.busy_from.values(), default=world.begin)
        first, last = world.begin - line, settled - line - ERASED_MS
        if last <= first:
            return
        t = actor.random.randrange(first, last)
        going = {k: v for k, v in world.ledger.items() if t <= k[1] <= t + ERASED_MS}
        for k in going:
            del world.ledger[k]
        world.maybe.update(going)
    actor.sql("SELECT prom_api.delete_series('{__name__=~\".+\"}', %s, %s)",
              (at(t), at(t + ERASED_MS)))
    with world.books:
        for k in going:
            world.maybe.pop(k, None)


def at(ms):
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(ms // 1000)) + f".{ms % 1000:03d}+00"


def read(actor):
    sums = "SELECT count(*), sum(value) FROM _prom_data.samples"
    actor.sql("BEGIN ISOLATION LEVEL REPEATABLE READ")
    first = actor.sql(sums)
    time.sleep(actor.random.random() / 5)
    second = actor.sql(sums)
    actor.sql("COMMIT")
    assert first == second, (first, second)


def processes(world):
    postmaster = int((world.server.data / "postmaster.pid").read_text().split("\n")[0])
    return postmaster, [c for c in children(postmaster) if alive(c)]


def do_harm(world, rng):
    """Returns what was done; the server is back afterwards."""
    what = rng.choice(["any", "any", "worker", "postmaster", "cancel", "terminate", "nothing"])
    before = world.incarnation()
    postmaster, backends = processes(world)
    if what in ("any", "worker"):
        if what == "worker":
            backends = world.column("SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'promscale maintenance%%'")
        if not backends:
            return "nothing"
        try:
            os.kill(rng.choice(backends), signal.SIGKILL)
        except ProcessLookupError:
            return "nothing"
        world.come_back(before)
    elif what == "postmaster":
        os.kill(postmaster, signal.SIGKILL)
        eventually("all of the server has ended", lambda: not any(map(alive, [postmaster, *backends])))
        eventually("the server starts", lambda: started(world))
        world.come_back(before)
    elif what in ("cancel", "terminate"):
        world.sql(f"SELECT pg_{what}_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                  " AND datname = current_database() ORDER BY random() LIMIT 2")
    return what


def started(world):
    try:
        world.server.start()
        return True
    except Exception:  # pylint: disable=broad-except
        return False


@pytest.mark.soak
def test_everything_at_random():
    seed = int(os.environ.get("PROMSCALE_FUZZ_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"PROMSCALE_FUZZ_SEED={seed}")
    rng = random.Random(seed)
    server = Cluster(CONF + WORKER)
    world = World(server, server.new_database("soak"), seed=seed)
    world.over, world.pause = threading.Event(), threading.Event()
    world.books = threading.RLock()  # of what is known: the ledger and the times below
    world.begin = world.next_t = world.now - 3 * HOUR
    world.busy_from = {}  # of each writer: where what it is about to write begins
    actors = [Actor(world, number, act, seed)
              for number, act in enumerate([write] * 3 + [maintain] * 2 + [erase, read])]
    harm, rounds, end = {}, 0, time.monotonic() + SECONDS
    try:
        while time.monotonic() < end:
            pause_at = time.monotonic() + ROUND_S
            while time.monotonic() < pause_at:
                time.sleep(rng.uniform(0.05, 1.5))
                what = do_harm(world, rng)
                harm[what] = harm.get(what, 0) + 1
            world.pause.set()
            eventually("all pause", lambda: all(a.idle.is_set() or not a.is_alive() for a in actors))
            assert not [e for a in actors for e in a.errors], [e for a in actors for e in a.errors][:3]
            with world.books:
                examine(world.sql, world.ledger, world.maybe, files=False)
            rounds += 1
            world.pause.clear()
        world.pause.set()
        eventually("all pause", lambda: all(a.idle.is_set() or not a.is_alive() for a in actors))
        world.sql("UPDATE _prom_catalog.job SET failures = 0, next_run = now()")  # what was canceled is tried later
        examine_all(world, files=False)
        done = {a.name: a.done for a in actors}
        print(f"{rounds} rounds, {len(world.ledger)} samples, {harm}, {done}")
        assert all(done.values()) and len(world.ledger) > 100, done
    finally:
        world.over.set()
        for a in actors:
            a.join(30)
        server.close()
