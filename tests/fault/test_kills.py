"""kill -9 of a server process at a named point of its work; the server recovers, and everything is as before or as
after, never between."""
import os
import signal

import pytest
from examine import examine, examine_all
from world import DAY, HOUR, eventually

FOLD = "SELECT * FROM _prom_catalog.run_step('fold', true)"
SEAL = "SELECT * FROM _prom_catalog.run_step('seal', true)"
RETENTION = "SELECT * FROM _prom_catalog.run_step('retention', true)"
VIEWS = "SELECT * FROM _prom_catalog.run_step('views', true)"
PARTITIONS = "SELECT * FROM _prom_catalog.run_step('partitions', true)"

# where: (table, event, nth, each) or (DDL event, tag, nth)
POINTS = {
    "fold, rows deleted, nothing inserted": (FOLD, ("_prom_data.fresh", "DELETE", 1, "STATEMENT")),
    "fold, merged rows taken along": (FOLD, ("_prom_data.merged", "DELETE", 1, "STATEMENT")),
    "fold, some rows inserted": (FOLD, ("_prom_data.merged", "INSERT", 2, "STATEMENT")),
    "fold, presence written": (FOLD, ("_prom_data.presence", "INSERT", 1, "STATEMENT")),
    "fold, figures written": (FOLD, ("_prom_catalog.metric_day", "UPDATE", 1, "STATEMENT")),
    "fold, about to commit": (FOLD, ("_prom_data.merged", "INSERT", 1, "COMMIT")),
    "seal, a window inserted": (SEAL, ("_prom_data.block", "INSERT", 1, "STATEMENT")),
    "seal, a window deleted": (SEAL, ("_prom_data.merged", "DELETE", 1, "STATEMENT")),
    "seal, between two windows": (SEAL, ("_prom_data.merged", "DELETE", 3, "STATEMENT")),
    "seal, about to commit": (SEAL, ("_prom_data.merged", "DELETE", 1, "COMMIT")),
    "retention, before a drop": (RETENTION, ("ddl_command_start", "DROP TABLE", 1)),
    "retention, after a drop": (RETENTION, ("sql_drop", "DROP TABLE", 1)),
    "retention, before the second drop": (RETENTION, ("ddl_command_start", "DROP TABLE", 2)),
    "retention, rows deleted": (RETENTION, ("_prom_data.merged", "DELETE", 1, "STATEMENT")),
    "retention, presence forgotten": (RETENTION, ("_prom_data.presence", "DELETE", 1, "STATEMENT")),
    "partitions, made and not attached": (PARTITIONS, ("ddl_command_end", "CREATE TABLE", 2)),
    "partitions, attached": (PARTITIONS, ("ddl_command_end", "ALTER TABLE", 1)),
    "views, one of two": (VIEWS, ("ddl_command_end", "CREATE VIEW", 1)),
    "views, of the second metric": (VIEWS, ("ddl_command_end", "CREATE VIEW", 4)),
    "the queue of vacuums taken": ("SELECT _prom_catalog.take_vacuums()",
                                   ("_prom_catalog.vacuum_queue", "DELETE", 1, "STATEMENT")),
}
MAY_LEAVE_FILES = {"partitions, made and not attached", "partitions, attached"}


def arm(world, where):
    if len(where) == 3:
        world.arm_ddl(*where)
    else:
        world.arm(*where)


def retain_all(world):
    """A run that has dropped partitions ends with that, and the next one goes on."""
    for _ in range(10):
        if world.one("SELECT outcome FROM _prom_catalog.run_step('retention', true)") != "more":
            return
    assert False, "retention does not come to an end"


def leave_young(world):
    """What is too old may be gone: a day's rows go as a whole, and those of a block."""
    begun_ms = world.one("SELECT (extract(epoch FROM now()) * 1000)::int8") - 2 * HOUR
    young = {k: v for k, v in world.ledger.items() if k[1] >= begun_ms}
    assert young
    world.maybe = {**world.maybe, **{k: v for k, v in world.ledger.items() if k not in young}}
    world.ledger = young
    assert world.maybe


def set_up(world, statement):
    """So that the step has something to do."""
    world.fill()
    if statement == SEAL:
        world.sql("SELECT _prom_ext.merge_step()")
        world.sql("SELECT _prom_catalog.ensure_partitions()")
    elif statement == RETENTION:  # all but what is young (at most 90 minutes old) is too old: sealed and merged rows
        world.sql("SELECT _prom_ext.merge_step()")
        world.sql("SELECT _prom_catalog.set_setting('retention_grace', '0')")
        world.sql("SELECT _prom_catalog.set_setting('retention_period', '2 hours')")
    elif statement == PARTITIONS:
        world.sql("SELECT _prom_ext.merge_step()")
        for (table,) in world.sql("SELECT table_name FROM _prom_catalog.partitions() WHERE day > now() - interval '1 day'"):
            world.sql(f"DROP TABLE _prom_data.{table}")


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_point(world, point):
    statement, where = POINTS[point]
    set_up(world, statement)
    if point == "retention, rows deleted":
        world.sql(RETENTION)  # the partitions, which go before
        leave_young(world)
    arm(world, where)
    incarnation, holder = world.incarnation(), world.close_gate()
    call = world.call_to_the_point(statement)
    os.kill(call.pid, signal.SIGKILL)
    assert call.result().error is not None
    world.come_back(incarnation)
    holder.close()
    world.disarm()
    examine(world.sql, world.ledger, world.maybe, files=point not in MAY_LEAVE_FILES)
    if statement == RETENTION:
        leave_young(world)
        retain_all(world)
    found = examine_all(world, files=point not in MAY_LEAVE_FILES)
    if statement == RETENTION:
        assert not [t for _, t in found if t < world.now - 2 * DAY], "what is too old stays"
