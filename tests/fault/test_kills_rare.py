"""kill -9 and cancellation at named points of what happens seldom: joining hours, days sealed again, files made smaller,
days that leave, garbage, erasing, wiping, overwriting. Afterwards all is as before; done once more, all is as it should be."""
import os
import signal

import psycopg2
import pytest
from database import series
from examine import examine, examine_all
from test_beside import erase, forget_wide
from test_kills import RETENTION, arm
from world import DAY, HOUR, WIDE, eventually

JOIN = "SELECT * FROM _prom_catalog.run_step('join', true)"
RESEAL = "SELECT * FROM _prom_catalog.run_step('reseal', true)"
COMPACT = "SELECT * FROM _prom_catalog.run_step('compact', true)"
GARBAGE = "SELECT * FROM _prom_catalog.run_step('expire_series', true)"
NEW_VALUE = 5e9


class Scenario:
    """prepare(): so that there is something to do; statements(): what is stopped, in a session of its own;
    done(): what must be seen when it was not stopped."""
    step = ""

    def __init__(self, world):
        self.world = world

    def statements(self):
        return (self.step,)

    def done(self):
        pass

    def call_until_done(self):
        """Rounds, as maintenance does them, where one is not all."""
        for _ in range(20):
            if self.world.one(f"SELECT outcome FROM ({self.step}) r") != "more":
                return
        raise AssertionError("no end")


class Join(Scenario):
    """An hour of yesterday, in as many merged rows as folds."""
    step = JOIN

    def rows(self):
        return self.world.one("SELECT count(*) FROM _prom_data.merged WHERE metric_id = %s", (self.world.metric[WIDE],))

    def prepare(self):
        noon = self.world.now // DAY * DAY - DAY // 2
        for i in range(8):
            self.world.flush([noon + i * 1000 + j for j in range(3)])
            self.world.sql("SELECT _prom_ext.merge_step()")
        assert self.rows() > 4

    def done(self):
        assert self.rows() == 1


class Reseal(Scenario):
    step = RESEAL

    def rows(self):
        return self.world.one("SELECT count(*) FROM _prom_data.block WHERE metric_id = %s", (self.world.metric[WIDE],))

    def prepare(self):
        begin = self.world.now // DAY * DAY - 2 * DAY
        self.world.flush(range(begin, begin + 400 * 60_000, 60_000))
        self.world.force()
        assert self.rows() == 1
        self.world.flush([begin + 30_000 + i * 600_000 for i in range(30)])
        self.world.sql("SELECT _prom_ext.merge_step()")
        self.world.sql("SELECT _prom_ext.seal_step(false)")
        assert self.rows() == 2

    def done(self):
        assert self.rows() == 1


class Compact(Scenario):
    """A day's table whose rows lie behind what is free."""
    step = COMPACT

    def pages(self):
        return self.world.one("SELECT pg_relation_size(%s) / 8192", (f"_prom_data.{self.table}",))

    def prepare(self):
        world = self.world
        world.flush([world.now // DAY * DAY - 3 * DAY])
        world.sql("SELECT _prom_ext.merge_step()")
        world.sql("SELECT _prom_catalog.ensure_partitions()")
        self.table = world.one("SELECT table_name FROM _prom_catalog.partitions() ORDER BY day LIMIT 1")
        world.sql(f"INSERT INTO _prom_data.{self.table} SELECT -i, 0, 999, 0, 2, 0, 0, 1, 1, p.day, p.day, 1, 1,"
                  " sha512(i::text::bytea) || repeat('x', 7900)::bytea FROM _prom_catalog.partitions() p,"
                  " generate_series(1, 100) i WHERE p.table_name = %s", (self.table,))
        world.fill()
        world.force()
        world.sql(f"DELETE FROM _prom_data.{self.table} WHERE metric_id = 999")
        world.sql(f"VACUUM (FREEZE) _prom_data.{self.table}")
        world.sql("CHECKPOINT")
        world.sql("SELECT _prom_catalog.set_setting('compact_size', '128 kB')")
        self.before = self.pages()
        assert self.before > 100

    def done(self):
        self.call_until_done()
        self.world.vacuums()
        assert self.pages() < 0.5 * self.before


class Leave(Scenario):
    """The default period is over, that of one metric is not: its rows move before the day goes."""
    step = RETENTION

    def prepare(self):
        world = self.world
        self.begin = world.now // DAY * DAY - 6 * DAY
        world.flush(range(self.begin, self.begin + 40 * 60_000, 60_000))
        world.flush([world.now - i * 1000 for i in range(10)])
        world.force()
        world.sql("SELECT _prom_catalog.set_setting('retention_grace', '0')")
        world.sql("SELECT prom_api.set_metric_retention_period(%s, '90 days')", (WIDE,))
        world.sql("SELECT _prom_catalog.set_setting('retention_period', '4 days')")
        self.may_go = {k: v for k, v in world.ledger.items() if k[1] < world.now - DAY and k[0] not in world.series[WIDE]}
        assert self.may_go and world.one("SELECT count(*) FROM _prom_data.block_far") == 0

    def forget(self):
        self.world.maybe = {**self.world.maybe, **self.may_go}
        self.world.ledger = {k: v for k, v in self.world.ledger.items() if k not in self.may_go}

    def done(self):
        self.forget()
        assert self.world.one("SELECT count(*) FROM _prom_data.block_far") > 0
        self.world.sql("UPDATE _prom_catalog.leaving_day SET moved_at = moved_at - interval '61 min'")
        eventually("nobody has a snapshot from before", lambda: self.call_until_done() or self.world.one(
            "SELECT count(*) FROM _prom_catalog.leaving_day") == 0)


class Left(Leave):
    """Likewise, at the drop of what is left of the day."""

    def prepare(self):
        super().prepare()
        self.call_until_done()
        self.world.sql("UPDATE _prom_catalog.leaving_day SET moved_at = moved_at - interval '61 min'")
        self.forget()


class Garbage(Scenario):
    """Series that never got a sample, with labels that nobody else has."""
    step = GARBAGE

    def unused(self):
        return (self.world.one("SELECT count(*) FROM _prom_catalog.series WHERE labels && ARRAY(SELECT id FROM"
                               " _prom_catalog.label WHERE value LIKE 'unused%%')"),
                self.world.one("SELECT count(*) FROM _prom_catalog.label WHERE value LIKE 'unused%%'"))

    def prepare(self):
        world = self.world
        world.fill()
        world.sql("SELECT _prom_ext.merge_step()")
        world.resolve([series(WIDE, node=f"unused{i}", parity="0") for i in range(5)])
        assert self.unused() == (5, 5)
        world.sql("SELECT _prom_catalog.set_setting('series_grace', '0')")

    def statements(self):
        return (GARBAGE,) * 3

    def done(self):
        self.call_until_done()
        assert self.unused() == (0, 0)


class Erase(Scenario):
    def prepare(self):
        self.world.fill()

    def statements(self):
        return (erase(self.world),)

    def done(self):
        forget_wide(self.world)


class Wipe(Scenario):
    """Erased, and vacuumed: what is left is to overwrite."""

    def listed(self):
        return self.world.one("SELECT count(*) FROM _prom_catalog.erasure")

    def commands(self):
        return [c for c in self.world.column("SELECT _prom_catalog.take_vacuums()") if "wipe_erased" in c]

    def prepare(self):
        self.world.fill()
        self.world.sql("SELECT _prom_catalog.ensure_partitions()")
        self.world.sql("SELECT _prom_ext.seal_step(false)")
        self.world.sql(erase(self.world))
        forget_wide(self.world)
        assert self.listed() > 2

    def statements(self):
        vacuums, wipes = [], []
        for command in self.world.column("SELECT _prom_catalog.take_vacuums()"):
            (wipes if "wipe_erased" in command else vacuums).append(command)
        assert wipes
        return (*vacuums, *wipes)

    def done(self):
        eventually("nothing is left to wipe", lambda: self.world.vacuums() or self.listed() == 0)


class Overwrite(Scenario):
    """Samples of all levels get other values."""

    def prepare(self):
        self.world.fill()
        self.world.views()

    def keys(self):
        s = self.world.series[WIDE][0]
        return sorted(k for k in self.world.ledger if k[0] == s)[::3]

    def statements(self):
        rows = ", ".join(f"""(to_timestamp({t} / 1000.0), {NEW_VALUE}, '{{"node": "n0", "parity": "0"}}')"""
                         for _, t in self.keys())
        return ("SET promscale.on_conflict = 'overwrite'",
                f"INSERT INTO prom_data.{WIDE} (time, value, labels) VALUES {rows}")

    def done(self):
        self.world.ledger.update(dict.fromkeys(self.keys(), NEW_VALUE))


POINTS = {
    "join, rows deleted": (Join, ("_prom_data.merged", "DELETE", 1, "STATEMENT")),
    "join, some rows inserted": (Join, ("_prom_data.merged", "INSERT", 1, "STATEMENT")),
    "join, figures written": (Join, ("_prom_catalog.metric_day", "UPDATE", 1, "STATEMENT")),
    "join, about to commit": (Join, ("_prom_data.merged", "INSERT", 1, "COMMIT")),
    "reseal, rows deleted": (Reseal, ("_prom_data.block", "DELETE", 1, "STATEMENT")),
    "reseal, rows inserted": (Reseal, ("_prom_data.block", "INSERT", 1, "STATEMENT")),
    "reseal, out of the queue": (Reseal, ("_prom_catalog.reseal_queue", "DELETE", 1, "STATEMENT")),
    "reseal, about to commit": (Reseal, ("_prom_data.block", "INSERT", 1, "COMMIT")),
    "compact, rows moved": (Compact, ("_prom_data.{table}", "INSERT", 1, "STATEMENT")),
    "compact, noted": (Compact, ("_prom_catalog.compaction", "UPDATE", 1, "STATEMENT")),
    "compact, about to commit": (Compact, ("_prom_data.{table}", "DELETE", 1, "COMMIT")),
    "a day leaves, rows moved": (Leave, ("_prom_data.block_far", "INSERT", 1, "STATEMENT")),
    "a day leaves, noted": (Leave, ("_prom_catalog.leaving_day", "UPDATE", 1, "STATEMENT")),
    "a day leaves, about to commit": (Leave, ("_prom_data.block_far", "INSERT", 1, "COMMIT")),
    "a day has left, before its drop": (Left, ("ddl_command_start", "DROP TABLE", 1)),
    "a day has left, dropped": (Left, ("_prom_catalog.leaving_day", "DELETE", 1, "STATEMENT")),
    "a day has left, presence forgotten": (Left, ("_prom_data.presence", "DELETE", 1, "STATEMENT")),
    "garbage, series deleted": (Garbage, ("_prom_catalog.series", "DELETE", 1, "STATEMENT")),
    "garbage, connectors told": (Garbage, ("_prom_catalog.state", "UPDATE", 1, "STATEMENT")),
    "garbage, about to commit": (Garbage, ("_prom_catalog.series", "DELETE", 1, "COMMIT")),
    "garbage, labels deleted": (Garbage, ("_prom_catalog.label", "DELETE", 1, "STATEMENT")),
    "garbage, labels about to commit": (Garbage, ("_prom_catalog.label", "DELETE", 1, "COMMIT")),
    "erase, of fresh rows": (Erase, ("_prom_data.fresh", "DELETE", 1, "STATEMENT")),
    "erase, of merged rows": (Erase, ("_prom_data.merged", "INSERT", 1, "STATEMENT")),
    "erase, of sealed rows": (Erase, ("_prom_data.block", "DELETE", 1, "STATEMENT")),
    "erase, listed": (Erase, ("_prom_catalog.erasure", "INSERT", 1, "STATEMENT")),
    "erase, about to commit": (Erase, ("_prom_data.merged", "DELETE", 1, "COMMIT")),
    "wipe, the first table": (Wipe, ("_prom_catalog.erasure", "DELETE", 1, "STATEMENT")),
    "wipe, the last table": (Wipe, ("_prom_catalog.erasure", "DELETE", 3, "STATEMENT")),
    "overwrite, of fresh rows": (Overwrite, ("_prom_data.fresh", "DELETE", 1, "STATEMENT")),
    "overwrite, of merged rows": (Overwrite, ("_prom_data.merged", "DELETE", 1, "STATEMENT")),
    "overwrite, of sealed rows": (Overwrite, ("_prom_data.block", "INSERT", 1, "STATEMENT")),
    "overwrite, new ones written": (Overwrite, ("_prom_data.fresh", "INSERT", 1, "STATEMENT")),
    "overwrite, about to commit": (Overwrite, ("_prom_data.fresh", "INSERT", 1, "COMMIT")),
}


def end_of(world, call, how):
    if how == "cancel":
        world.sql("SELECT pg_cancel_backend(%s)", (call.pid,))
    else:
        os.kill(call.pid, signal.SIGKILL)
    call.result()
    assert call.error is not None
    assert (how == "cancel") == isinstance(call.error, psycopg2.errors.QueryCanceled)


@pytest.mark.parametrize("how", ["cancel", "kill"])
@pytest.mark.parametrize("point", POINTS)
def test_stopped_at_a_point(world, point, how):
    kind, where = POINTS[point]
    it = kind(world)
    it.prepare()
    arm(world, (where[0].format(table=getattr(it, "table", None)), *where[1:]))
    incarnation, holder = world.incarnation(), world.close_gate()
    call = world.call_to_the_point(*it.statements())
    end_of(world, call, how)
    if how == "kill":
        world.come_back(incarnation)
    holder.close()
    world.disarm()
    examine(world.sql, world.ledger, world.maybe)
    # what was called out to be vacuumed, and was not, is called out again later
    world.sql("UPDATE _prom_catalog.erasure SET next_try = now()")
    again = world.call(*it.statements()).result()
    assert again.error is None, again.error
    assert not again.rows or again.rows[0][0] != "failed", again.rows
    it.done()
    examine_all(world)
