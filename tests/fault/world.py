"""A database in which everything that was acknowledged is written down, points at which sessions are stopped, and
sessions to be stopped there.

Points are triggers of the test on the tables that a step writes to, and event triggers for what it does to relations;
the product knows nothing of them. A session that comes to one waits for an advisory lock, which the test holds.
"""
import random
import struct
import threading
import time

import psycopg2
from database import Database, insert_of, series

HOUR = 3_600_000
DAY = 24 * HOUR
GATE = 77
INCARNATION = "SELECT max(backend_start) FROM pg_stat_activity WHERE backend_type = 'checkpointer'"
WIDE, SMALL = "wide", ("small_a", "small_b")  # a row of its own; packed into one row where they share a bucket
PATIENCE_S = 90

SCHEMA = """
CREATE SCHEMA fault;
GRANT USAGE ON SCHEMA fault TO PUBLIC;
CREATE FUNCTION fault.passed(p_nth int4) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_n CONSTANT int4 := coalesce(nullif(current_setting('fault.n', true), ''), '0')::int4 + 1;
BEGIN
    PERFORM set_config('fault.n', v_n::text, false);
    IF v_n = p_nth THEN
        PERFORM pg_advisory_xact_lock(77);
    END IF;
END $$;
CREATE FUNCTION fault.stop() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM fault.passed(TG_ARGV[0]::int4);
    RETURN NULL;
END $$;
"""


def eventually(what, condition, seconds=PATIENCE_S, every=0.02):
    """The time says when to give up; nothing here measures it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(every)
    raise AssertionError(f"never: {what}")


class Call(threading.Thread):
    """Statements, one after another, in a session of their own."""

    def __init__(self, conn, *statements):
        super().__init__(daemon=True)
        self.conn, self.statements = conn, statements
        self.pid = conn.info.backend_pid
        self.error = self.rows = None
        self.start()

    def run(self):
        try:
            with self.conn.cursor() as cur:
                for statement in self.statements:
                    cur.execute(statement)
                    self.rows = cur.fetchall() if cur.description else None
        except psycopg2.Error as e:
            self.error = e

    def result(self):
        self.join(PATIENCE_S)
        assert not self.is_alive(), f"does not end: {self.statements}"
        self.conn.close()
        return self


class World(Database):
    """ledger: {(series id, t_ms): value}, what must be seen; maybe: what may be (nobody said that it was stored)."""

    def __init__(self, server, name, n_wide=4, seed=1):
        super().__init__(server, name)
        self.n_wide, self.random = n_wide, random.Random(seed)
        self.ledger, self.maybe = {}, {}
        self.sql(SCHEMA)
        self.now = int(time.time()) * 1000
        self.learn()

    # ---- writing, as a connector does ------------------------------------------------------------------

    def learn(self):
        """Resolves all series; again after a deletion."""
        sets = [series(WIDE, node=f"n{i}", parity=str(i % 2)) for i in range(self.n_wide)]
        sets += [series(m, node=f"n{i}", parity=str(i % 2)) for m in SMALL for i in range(3)]
        got = self.resolve(sets)
        names = [WIDE, *SMALL]
        self.metric = dict(zip(names, got.metrics))
        self.generation = got.generation
        self.series = {name: [i for s, i in zip(sets, got.series) if s["__name__"] == name] for name in names}

    def statements(self, times, value=None, names=(WIDE, *SMALL)):
        """({key: value}, SQL) of one flush. Every sample has a value of its own, so that a mix-up shows."""
        keys, rows = {}, {}
        for name in names:
            for s in self.series[name]:
                for t in times:
                    v = float(s * 1_000_000 + t // 1000 % 1_000_000) if value is None else value
                    keys[(s, t)] = v
                    m = self.metric[name]
                    rows.setdefault(m if name == WIDE else -(m % 32) - 1, []).append((m, s, t, v))
        text = "".join(insert_of("fresh", row, samples) for row, samples in rows.items())
        return keys, f"SELECT _prom_catalog.guard({self.generation});" + text

    def flush(self, times, conn=None, **kw):
        keys, text = self.statements(list(times), **kw)
        with (conn or self.conn).cursor() as cur:
            cur.execute("BEGIN;" + text + "COMMIT")
        self.acknowledged(keys)

    def acknowledged(self, keys):
        for key, value in keys.items():
            self.ledger.setdefault(key, value)

    def fill(self):
        """Something of each level: sealed on two days (over since more than a day, at any time of day), merged (15 rows, so that the next fold takes them along), fresh,
        and some of it twice with another value, which must lose."""
        old = self.now // DAY * DAY - 3 * DAY
        for day in (0, DAY):
            self.flush(range(old + day, old + day + 40 * 60_000, 60_000))
        self.sql("SELECT _prom_ext.merge_step()")
        self.sql("SELECT _prom_catalog.ensure_partitions()")
        self.sql("SELECT _prom_ext.seal_step(true)")
        young = self.now // HOUR * HOUR - HOUR // 2
        for i in range(15):
            self.flush([young + i * 1000, old + 100 * 60_000 + i * 1000])
            self.sql("SELECT _prom_ext.merge_step()")
        self.flush([young + i * 1000 for i in range(0, 40, 2)] + [old, old + DAY], value=-1.0)
        self.flush([young - 10 * HOUR] + [young + i * 1000 for i in range(10, 40)])  # and a window without any so far
        self.young, self.old = young, old

    # ---- points --------------------------------------------------------------------------------------

    def arm(self, table, event, nth=1, each="STATEMENT"):
        """each: STATEMENT, ROW, or COMMIT (a row's, when its transaction is about to commit)."""
        if each == "COMMIT":
            self.sql(f"CREATE CONSTRAINT TRIGGER fault_{event.lower()} AFTER {event} ON {table} DEFERRABLE INITIALLY"
                     f" DEFERRED FOR EACH ROW EXECUTE FUNCTION fault.stop({nth})")
        else:
            self.sql(f"CREATE TRIGGER fault_{event.lower()} AFTER {event} ON {table} FOR EACH {each}"
                     f" EXECUTE FUNCTION fault.stop({nth})")

    def arm_ddl(self, event, tag, nth=1):
        self.sql(f"""CREATE FUNCTION fault.ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$
                 BEGIN PERFORM fault.passed({nth}); END $$;
                 CREATE EVENT TRIGGER fault_ddl ON {event} WHEN TAG IN ('{tag}') EXECUTE FUNCTION fault.ddl()""")

    def disarm(self):
        self.sql("DROP EVENT TRIGGER IF EXISTS fault_ddl")
        for name, table in self.sql("SELECT tgname, tgrelid::regclass::text FROM pg_trigger WHERE tgparentid = 0"
                                    " AND tgfoid = 'fault.stop'::regproc"):
            self.sql(f"DROP TRIGGER {name} ON {table}")
        self.sql("DROP FUNCTION IF EXISTS fault.ddl")

    def close_gate(self):
        """Returns the session that holds it; who comes to the point waits until it ends."""
        holder = self.connect()
        holder.cursor().execute(f"SELECT pg_advisory_lock({GATE})")
        return holder

    def stopped(self, pid=None):
        """Processes that wait at the gate."""
        found = self.column("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = %s AND NOT granted", (GATE,))
        return [p for p in found if pid in (None, p)]

    def call(self, *statements, user="postgres"):
        return Call(self.connect(user), *statements)

    def call_to_the_point(self, *statements):
        call = self.call(*statements)

        def there():
            assert call.is_alive(), f"ended without coming to the point: {call.error}"
            return self.stopped(call.pid)

        eventually("comes to the point", there)
        return call

    # ---- the server dies and comes back --------------------------------------------------------------

    def incarnation(self):
        """The checkpointer's start: another one after each recovery."""
        return self.one(INCARNATION)

    def come_back(self, before):
        """After a kill: as soon as the server answers that is not the one from before."""
        def up():
            try:
                conn = self.connect()
                cur = conn.cursor()
                cur.execute(INCARNATION)
                if cur.fetchone()[0] not in (None, before):
                    return conn
                conn.close()
            except psycopg2.Error:
                pass
            return None

        conn = eventually("the server comes back", up)
        self.conn.close()
        self.conn = conn

    # ---- maintenance ---------------------------------------------------------------------------------

    def vacuums(self):
        for command in self.column("SELECT _prom_catalog.take_vacuums()"):
            self.sql(command)

    def force(self):
        self.sql("CALL prom_api.execute_maintenance(force => true)")
        self.vacuums()


def bits(value):
    return "%016x" % struct.unpack("<Q", struct.pack("<d", value))[0]
