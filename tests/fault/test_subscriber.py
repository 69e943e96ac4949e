"""A second server that subscribes to all tables of the first, as docs/operations.md says, beside a whole life there: what it
shows is always a state that the first has had, and what must not run there says so."""
import threading

import pytest
from cluster import Cluster
from conftest import CONF
from examine import check_promql, check_samples, seen
from test_beside import erase, forget_wide
from world import DAY, Database, World, eventually

WAL = "wal_level = logical\nmax_sync_workers_per_subscription = 4\nwal_retrieve_retry_interval = '200ms'\n"
# What CREATE EXTENSION has put into tables would be there twice.
EMPTY = ("DELETE FROM _prom_catalog.tenant; DELETE FROM _prom_catalog.state; DELETE FROM _prom_catalog.retention_memory;"
         "DELETE FROM _prom_catalog.clock_seen")


class Subscriber(Database):
    def __init__(self, server, world):
        super().__init__(server, server.new_database())
        self.world = world
        world.sql("CREATE PUBLICATION everything FOR ALL TABLES")
        self.sql(EMPTY)
        self.partitions()
        self.sql(f"CREATE SUBSCRIPTION it CONNECTION 'host={world.server.data} port={world.server.port}"
                 f" dbname={world.name} user=postgres' PUBLICATION everything")
        self.caught_up()

    def partitions(self):
        """The days of the first that are missing here. True if there were any."""
        theirs = self.world.column("SELECT day FROM _prom_catalog.partitions()")
        ours = self.column("SELECT day FROM _prom_catalog.partitions()")
        missing = [d for d in theirs if d not in ours]
        self.sql("SELECT _prom_catalog.make_partition(d) FROM unnest(%s::timestamptz[]) d", (missing,))
        return bool(missing)

    def refresh(self):
        self.partitions()
        self.sql("ALTER SUBSCRIPTION it REFRESH PUBLICATION")

    def caught_up(self):
        eventually("all tables are there", lambda: self.one(
            "SELECT count(*) FROM pg_subscription_rel WHERE srsubstate <> 'r'") == 0)
        lsn = self.world.one("SELECT pg_current_wal_insert_lsn()")
        self.world.sql("SELECT pg_switch_wal()")  # so that something comes after it
        eventually("the subscriber catches up", lambda: self.world.one(
            "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'it' AND confirmed_flush_lsn >= %s::pg_lsn", (lsn,)))

    def check(self):
        self.caught_up()
        found = seen(self.sql)
        check_samples(found, self.world.ledger)
        check_promql(self.sql, found)

    def end(self):
        self.sql("DROP SUBSCRIPTION it")
        self.close()


@pytest.fixture(scope="module")
def pair():
    """One for all tests here: its ledger goes on."""
    servers = [Cluster(CONF + WAL) for _ in range(2)]
    try:
        world = World(servers[0], servers[0].new_database())
        world.fill()
        world.force()
        subscriber = Subscriber(servers[1], world)
        yield world, subscriber
        subscriber.end()
        world.close()
    finally:
        for s in servers:
            s.close()


class Reader(threading.Thread):
    """What a session of the subscriber sees, again and again: never anything twice, never fewer than before."""

    def __init__(self, database):
        super().__init__(daemon=True)
        self.conn, self.over, self.problem, self.times = database.connect(), threading.Event(), None, 0
        self.start()

    def sql(self, text, args=None):
        cur = self.conn.cursor()
        cur.execute(text, args)
        return cur.fetchall()

    def run(self):
        most = {}
        try:
            while not self.over.is_set():
                found = seen(self.sql)
                lost = [k for k, v in most.items() if found.get(k) != v]
                assert not lost, f"{len(lost)} samples have gone or changed, as {lost[:3]}"
                most = found
                self.times += 1
        except Exception as e:  # pylint: disable=broad-except
            self.problem = e

    def end(self):
        eventually("it has looked three times", lambda: self.times > 2 or self.problem)
        self.over.set()
        self.join(90)
        self.conn.close()
        assert self.problem is None, self.problem
        assert self.times > 2


def test_new_days_come_with_a_refresh(pair):
    """A day of which the subscriber does not know stops it, with words and at the state before; a refresh goes on."""
    world, subscriber = pair
    far = world.now // DAY * DAY - 20 * DAY
    world.flush([far + i * 60_000 for i in range(30)])
    subscriber.check()
    world.force()
    eventually("it says what it waits for", lambda: 'relation "_prom_data.block_2' in subscriber.server.log()
               and "does not exist" in subscriber.server.log())
    check_samples(seen(subscriber.sql), world.ledger)
    subscriber.refresh()
    subscriber.check()
    world.flush([far + 31 * 60_000])
    world.force()
    subscriber.check()


@pytest.mark.parametrize("step", ["fold", "seal"])
def test_no_maintenance_of_its_own(pair, step):
    """It would write under ids that the first hands out, too: refused, with words, and nothing is changed."""
    world, subscriber = pair
    begin = world.old + (60 if step == "fold" else 90) * 60_000
    world.flush([begin + i for i in range(10)])
    if step == "seal":
        world.sql("SELECT _prom_ext.merge_step()")
    subscriber.check()
    outcome, detail = subscriber.sql("SELECT outcome, detail FROM _prom_catalog.run_step(%s, true)", (step,))[0]
    assert outcome == "failed" and "sequence" in detail, (outcome, detail)
    subscriber.check()


def test_it_follows(pair):
    """Flushes, folds, joins and seals, late samples, erasing, dropped metrics."""
    world, subscriber = pair
    subscriber.check()
    reader = Reader(subscriber)
    for i in range(6):
        world.flush([world.now + i * 1000 + j for j in range(0, 1000, 50)] + [world.old + 50 * 60_000 + i])
        world.sql("SELECT _prom_ext.merge_step()")
        if i % 2:
            world.force()
    subscriber.check()
    reader.end()
    world.sql(erase(world))
    forget_wide(world)
    world.sql("SELECT prom_api.drop_metric('small_b')")
    gone = set(world.series["small_b"])
    world.ledger = {k: v for k, v in world.ledger.items() if k[0] not in gone}
    world.force()
    subscriber.check()
    # the sequence of ids is all that is not the first's
    problems = subscriber.column("SELECT problem FROM prom_api.verify()")
    assert not [p for p in problems if "not one that the sequence has given out" not in p]
