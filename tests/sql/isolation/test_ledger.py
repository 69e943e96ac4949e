"""Everything at once, in random order, by several sessions; a ledger says what must be there in the end.

What a COMMIT acknowledged is in the ledger; what failed must not be there, and of a statement that was canceled it is
not known. Every session writes samples of its own, some twice (the second must lose). Allowed errors are those that
tell a client to try again. PROMSCALE_FUZZ_SECONDS makes it longer, PROMSCALE_FUZZ_SEED repeats the choices, though not
what the scheduler makes of them.
"""
import json
import os
import random
import threading
import time

import psycopg2
from database import array, batch_of, insert_of, series

SECONDS = float(os.environ.get("PROMSCALE_FUZZ_SECONDS", "25"))
SESSIONS = 4
TRY_AGAIN = {"40P01", "40001", "55P03", "57014", "PS001"}
METRICS = ["cpu_usage", "cpu_total", "third"]
RESOLVE = ("SELECT generation, metric_ids, series_ids FROM _prom_catalog.resolve_series(0, %s::text[], %s::text[],"
           " %s::text[], %s::int4[], %s::int4[], %s::int4[])")


class Worker(threading.Thread):
    def __init__(self, db, number, seed, until):
        super().__init__(daemon=True)
        self.db, self.number, self.until = db, number, until
        self.random = random.Random(seed * 100 + number)
        self.conn = db.connect()
        self.conn.cursor().execute("SET statement_timeout = '20s'")
        self.next_t = db.t0 + number * 3_600_000_000
        self.ledger = {}       # (metric, label text, t_ms): value; what must be seen
        self.unknown = set()   # the same keys, of canceled statements
        self.errors, self.done, self.refused = [], {}, {}
        self.steps = [self.write] * 6 + [self.write_again] * 2 + [
            self.write_and_roll_back, self.new_label, self.read_twice, self.read_join, self.cursor, self.views,
            self.drop, self.drop, self.cancel] + [self.maintain] * 4 + [self.write_by_sql] * 3

    def sql(self, text, args=None):
        cur = self.conn.cursor()
        cur.execute(text, args)
        return cur.fetchall() if cur.description else None

    def run(self):
        while time.monotonic() < self.until:
            step = self.random.choice(self.steps)
            try:
                step()
                self.done[step.__name__] = self.done.get(step.__name__, 0) + 1
            except psycopg2.Error as e:
                if e.pgcode not in TRY_AGAIN:
                    self.errors.append(f"{step.__name__}: {e.pgcode} {e}")
                self.refused[(step.__name__, e.pgcode)] = self.refused.get((step.__name__, e.pgcode), 0) + 1
                self.roll_back()
            except AssertionError as e:
                self.errors.append(f"{step.__name__}: {e}")
                self.roll_back()
        self.conn.close()

    def roll_back(self):
        """A cancellation may come late, and hit this."""
        while True:
            try:
                self.conn.cursor().execute("ROLLBACK")
                return
            except psycopg2.errors.QueryCanceled:
                pass

    # ---- writing -------------------------------------------------------------------------------------

    def store(self, sets, points, end="COMMIT"):
        """As a connector: resolve, then guard and blocks in a transaction. points: one list of (t, value) a set."""
        generation, metrics, ids = self.sql(RESOLVE, [array(a) for a in batch_of(sets)])[0]
        names = list(dict.fromkeys(s["__name__"] for s in sets))
        of = {name: metrics[i] for i, name in enumerate(names)}
        rows = {}  # small metrics may share a row per bucket
        packed = self.random.random() < 0.5
        for name in names:
            samples = [(of[name], i, t, v) for s, i, p in zip(sets, ids, points) if s["__name__"] == name for t, v in p]
            rows.setdefault(-(of[name] % 32) - 1 if packed else of[name], []).extend(samples)
        text = [insert_of("fresh", metric, samples) for metric, samples in rows.items()]
        self.account(sets, points, [f"BEGIN; SELECT _prom_catalog.guard({generation});" + "".join(text), end], end)

    def account(self, sets, points, statements, end="COMMIT"):
        """Runs them and notes what became of the samples."""
        keys = {(s["__name__"], s["node"], t): v for s, p in zip(sets, points) for t, v in p}
        self.unknown.update(k for k in keys if k not in self.ledger)
        try:
            for statement in statements:
                self.sql(statement)
        except psycopg2.Error as e:
            if e.pgcode != "57014":
                self.unknown -= set(keys)
            raise
        self.unknown -= set(keys)
        if end == "COMMIT":
            for key, value in keys.items():
                self.ledger.setdefault(key, value)

    def some_sets(self):
        nodes = self.random.sample(range(12), self.random.choice([1, 3, 6]))
        names = self.random.sample([*METRICS, f"scratch_{self.number}"], self.random.choice([1, 1, 2, 3]))
        return [series(name, node=f"w{self.number}-{n}", kind=f"k{n % 3}") for name in names for n in nodes]

    def times(self):
        n = self.random.choice([1, 5, 40])
        self.next_t += n * 1000
        return [self.next_t - i * 1000 for i in range(n)]

    def write(self):
        sets, times = self.some_sets(), self.times()
        self.store(sets, [[(t, float(self.random.randrange(1000))) for t in times] for _ in sets])

    def write_by_sql(self):
        """One metric, one statement; series that exist and new ones."""
        sets, times = [s for s in self.some_sets() if s["__name__"] in METRICS[:2]], self.times()
        sets = [s for s in sets if s["__name__"] == sets[0]["__name__"]]
        points = [[(t, float(self.random.randrange(1000))) for t in times] for _ in sets]
        rows = [f"(to_timestamp({t // 1000}), {v}, '{json.dumps(s)}')" for s, p in zip(sets, points) for t, v in p]
        if sets:
            self.account(sets, points, [f"INSERT INTO prom_data.{sets[0]['__name__']} (time, value, labels) VALUES "
                                        + ", ".join(rows)])

    def write_again(self):
        """What is there already, with another value; and something new beside it."""
        known = [k for k in self.random.sample(list(self.ledger), min(5, len(self.ledger)))]
        sets = [series(m, node=node, kind=f"k{int(node.split('-')[1]) % 3}") for m, node, _ in known]
        unique = list({tuple(s.items()): s for s in sets}.values())
        if unique:
            self.store(unique, [[(t, -1.0) for m, node, t in known if m == s["__name__"] and node == s["node"]]
                                for s in unique])

    def write_and_roll_back(self):
        sets, times = self.some_sets(), self.times()
        self.store(sets, [[(t, -2.0) for t in times] for _ in sets], end="ROLLBACK")

    def new_label(self):
        key = f"l{self.random.randrange(100_000)}"
        name = self.random.choice(METRICS)
        self.sql(*self.request([series(name, node=f"extra-{self.number}", **{key: "x"})]))

    @staticmethod
    def request(sets):
        return RESOLVE, [array(a) for a in batch_of(sets)]

    # ---- reading -------------------------------------------------------------------------------------

    SUMS = ("SELECT count(*), sum(value), (SELECT count(*) FROM prom_metric.cpu_total)::int8,"
            " (SELECT sum(value) FROM _prom_data.samples) FROM prom_metric.cpu_usage")

    def read_twice(self):
        self.sql("BEGIN ISOLATION LEVEL REPEATABLE READ")
        first = self.sql(self.SUMS)
        time.sleep(self.random.random() / 20)
        second = self.sql(self.SUMS)
        self.sql("COMMIT")
        assert first == second, (first, second)

    def read_join(self):
        """Of each session's series: what the ledger has of one metric and node, in one statement with a join."""
        rows = self.sql("SELECT count(*), count(DISTINCT (u.series_id, u.time)) FROM prom_metric.cpu_usage u"
                        " JOIN prom_metric.cpu_total t ON u.time = t.time AND prom_api.eq(u.labels, t.labels)")
        assert rows[0][0] == rows[0][1], rows

    def cursor(self):
        self.sql("BEGIN; DECLARE c CURSOR FOR SELECT series_id, time FROM prom_metric.cpu_usage")
        rows = self.sql("FETCH 50 FROM c")
        self.maintenance_elsewhere()
        rows += self.sql("FETCH ALL FROM c")
        self.sql("COMMIT")
        assert len(rows) == len(set(rows)), "a series and time twice"

    # ---- maintenance ---------------------------------------------------------------------------------

    def maintenance_elsewhere(self):
        other = self.db.connect()
        try:
            other.cursor().execute("SELECT _prom_ext.merge_step()")
        finally:
            other.close()

    def maintain(self):
        self.sql(self.random.choice([
            "SELECT _prom_ext.merge_step()", "SELECT _prom_ext.merge_step(20000)", "SELECT _prom_ext.seal_step(true)",
            "SELECT _prom_ext.seal_step(false)", "SELECT _prom_catalog.ensure_partitions()",
            "SELECT _prom_catalog.apply_retention()", "CALL prom_api.execute_maintenance()",
            "SELECT _prom_catalog.trim_feed()", "VACUUM _prom_data.fresh", "VACUUM _prom_data.merged",
            "ANALYZE _prom_catalog.series"]))

    def views(self):
        self.sql("SELECT _prom_catalog.make_metric_views(100)")

    def drop(self):
        """Drops something that others do not count on, while they fold rows that it shares with their metrics."""
        self.sql(*self.request([series(f"scratch_{self.number}", node="x")]))
        mine = {k for k in self.ledger if k[0] == f"scratch_{self.number}"}
        try:
            self.sql("SELECT prom_api.drop_metric(%s)", (f"scratch_{self.number}",))
        except psycopg2.Error as e:
            if e.pgcode != "57014":
                raise
            self.unknown |= mine
        for k in mine:
            del self.ledger[k]

    def cancel(self):
        self.sql("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
                 " AND state = 'active' AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1")


def final_state(db):
    rows = db.sql("SELECT m.metric_name, prom_api.jsonb(s.labels)->>'node', (extract(epoch FROM s.time) * 1000)::int8,"
                  " s.value FROM _prom_data.samples s JOIN _prom_catalog.metric m ON m.id = s.metric_id"
                  " WHERE prom_api.jsonb(s.labels)->>'node' LIKE 'w%%-%%'")
    found = {(metric, node, t): v for metric, node, t, v in rows}
    assert len(found) == len(rows), "a series and time twice"
    return found


def compare(found, workers):
    expected, unknown = {}, set()
    for w in workers:
        expected.update(w.ledger)
        unknown |= w.unknown
    lost = [k for k in expected if k not in found]
    wrong = [(k, found[k], v) for k, v in expected.items() if k in found and found[k] != v and k not in unknown]
    extra = [k for k in found if k not in expected and k not in unknown]
    assert not lost and not wrong and not extra, (
        f"{len(lost)} lost {lost[:3]}, {len(wrong)} wrong {wrong[:3]}, {len(extra)} that nobody wrote {extra[:3]}")
    return len(expected)


def test_everything_at_once(db):
    seed = int(os.environ.get("PROMSCALE_FUZZ_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"PROMSCALE_FUZZ_SEED={seed}")
    until = time.monotonic() + SECONDS
    workers = [Worker(db, n, seed, until) for n in range(SESSIONS)]
    for w in workers:
        w.start()
    for w in workers:
        w.join(SECONDS + 120)
        assert not w.is_alive(), "stuck"
    done = {}
    for w in workers:
        for what, n in {**w.done, **w.refused}.items():
            done[what] = done.get(what, 0) + n
    errors = [e for w in workers for e in w.errors]
    assert not errors, errors[:5]
    n = compare(final_state(db), workers)
    db.sql("CALL prom_api.execute_maintenance(force => true)")
    assert compare(final_state(db), workers) == n
    print(n, "samples;", ", ".join(f"{what}: {k}" for what, k in sorted(done.items(), key=str)))
    assert db.sql("SELECT * FROM _prom_catalog.maintenance_error") == []
    assert db.one("SELECT count(*) FROM _prom_data.fresh") == 0
    assert n > 500
    deadlocks = sum(k for what, k in done.items() if isinstance(what, tuple) and what[1] == "40P01")
    assert deadlocks <= 4 * SESSIONS + n / 1000, done
