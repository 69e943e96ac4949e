"""A publication FOR ALL TABLES over a whole life: flushes, folds, seals, late samples, erasing, dropped metrics, retention.
Nothing fails for it, and all of it can be decoded for a subscriber."""
from examine import examine_all
from test_beside import erase, forget_wide
from test_kills import RETENTION
from world import HOUR, World


def decoded(world):
    """Messages for a subscriber since the last time."""
    return world.one("SELECT count(*) FROM pg_logical_slot_get_binary_changes('it', NULL, NULL,"
                     " 'proto_version', '1', 'publication_names', 'everything')")


def test_a_publication_of_all_tables(make_server):
    server = make_server("wal_level = logical\n")
    world = World(server, server.new_database())
    world.sql("CREATE PUBLICATION everything FOR ALL TABLES")
    world.sql("SELECT pg_create_logical_replication_slot('it', 'pgoutput')")
    world.fill()
    assert decoded(world) > 100
    world.force()
    world.flush([world.old + 50 * 60_000 + i for i in range(20)])  # late, into a sealed window
    world.force()
    assert decoded(world) > 20
    world.sql(erase(world))
    forget_wide(world)
    world.sql("SELECT prom_api.drop_metric('small_b')")
    gone = set(world.series["small_b"])
    world.ledger = {k: v for k, v in world.ledger.items() if k[0] not in gone}
    examine_all(world)
    assert decoded(world) > 20
    world.sql("SELECT _prom_catalog.set_setting('retention_grace', '0')")
    world.sql("SELECT _prom_catalog.set_setting('retention_period', '1 hour')")
    assert world.sql(f"SELECT outcome FROM ({RETENTION}) r")[0][0] in ("done", "more")
    world.maybe, world.ledger = world.ledger, {k: v for k, v in world.ledger.items() if k[1] > world.now - HOUR + 300_000}
    examine_all(world)
    assert decoded(world) > 0
    world.close()
