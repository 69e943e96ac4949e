"""A physical standby with readers, streaming from a primary that flushes, folds, seals, vacuums and erases."""
import random
import shutil

import psycopg2
import pytest
from cluster import Connection
from examine import check_samples, examine, examine_all, seen
from test_beside import erase, forget_wide
from world import HOUR, Database, World, eventually

PRIMARY = "wal_level = replica\nmax_wal_senders = 5\nfull_page_writes = on\n"


class Standby:
    """Of a Cluster; conf: further settings."""

    def __init__(self, primary, conf=()):
        self.primary = primary
        self.data = primary.dir / "standby"
        self.port = random.randrange(20000, 60000)
        primary.dir.chmod(0o777)  # pg_basebackup makes the folder as the cluster's user
        primary.run("pg_basebackup", "-h", primary.data, "-p", primary.port, "-U", "postgres", "-D", self.data, "-R",
                    "-X", "stream", "-c", "fast")
        settings = {"port": self.port, "unix_socket_directories": self.data, "cluster_name": "standby", **dict(conf)}
        primary.run("pg_ctl", "-D", self.data, "-l", self.data / "log", "-w", "-o",
                    " ".join(f"-c {k}={v}" for k, v in settings.items()), "start")

    def connect(self, database, user="postgres"):
        conn = psycopg2.connect(host=str(self.data), port=self.port, dbname=database, user=user,
                                connection_factory=Connection)
        conn.autocommit = True
        return conn

    def log(self):
        return (self.data / "log").read_text(encoding="utf-8", errors="replace")

    def close(self):
        self.primary.run("pg_ctl", "-D", self.data, "-m", "immediate", "-w", "stop", check=False)
        shutil.rmtree(self.data, ignore_errors=True)


@pytest.fixture
def make_pair(make_server):
    made = []

    def make(conf="", **standby):
        primary = make_server(PRIMARY + conf)
        world = World(primary, primary.new_database())
        made.append(Standby(primary, standby.items()))
        return world, made[-1]

    yield make
    for standby in made:
        standby.close()


def caught_up(world, standby):
    lsn = world.one("SELECT pg_current_wal_flush_lsn()")
    conn = standby.connect(world.name)
    cur = conn.cursor()

    def there():
        cur.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", (lsn,))
        return cur.fetchone()[0]

    eventually("the standby catches up", there)
    conn.close()


def asks(conn):
    def ask(text, args=None):
        cur = conn.cursor()
        cur.execute(text, args)
        return cur.fetchall() if cur.description else None
    return ask


def test_the_standby_answers_as_the_primary(make_pair):
    """After each thing that maintenance can do, with new partitions and views."""
    world, standby = make_pair()
    world.fill()
    for i in range(4):
        caught_up(world, standby)
        conn = standby.connect(world.name)
        examine(asks(conn), world.ledger, writable=False)
        conn.close()
        if i == 1:
            world.sql(erase(world))
            forget_wide(world)
            world.learn()
        world.flush([world.now + i * 1000])
        world.force()
    examine_all(world)


@pytest.mark.parametrize("feedback", [True, False])
def test_a_long_reader_on_the_standby(make_pair, feedback):
    """With feedback it keeps its snapshot; without it may be canceled, cleanly. It never sees anything but its snapshot,
    and the primary does not wait for it."""
    world, standby = make_pair(hot_standby_feedback="on" if feedback else "off", max_standby_streaming_delay="500ms",
                               wal_receiver_status_interval="1s")
    world.fill()
    world.force()
    caught_up(world, standby)
    conn = standby.connect(world.name)
    ask = asks(conn)
    ask("BEGIN ISOLATION LEVEL REPEATABLE READ")
    before = seen(ask)
    assert before == world.ledger
    if feedback:
        eventually("the primary knows of the reader",
                   lambda: world.one("SELECT count(backend_xmin) FROM pg_stat_replication"))
    canceled = None
    for i in range(6):
        world.flush([world.now + i * 1000 + j for j in range(0, 1000, 50)])
        world.sql("SELECT _prom_ext.merge_step()")
        world.sql("SELECT _prom_ext.seal_step(true)")
        for table in ("fresh", "merged"):
            world.sql(f"VACUUM (TRUNCATE off) _prom_data.{table}")  # as after each round; force would shrink files
        try:
            assert seen(ask) == before
        except psycopg2.errors.SerializationFailure as e:
            canceled = e
            break
        except psycopg2.OperationalError as e:  # canceled while it was idle: the connection goes with it, and now
            # and then, the client being the slower one, the server's last words, too
            assert "conflict with recovery" in standby.log()
            assert "conflict with recovery" in str(e) or conn.closed
            canceled = e
            break
    if feedback:
        assert canceled is None
        assert ask("COMMIT") is None
    conn.close()
    caught_up(world, standby)
    conn = standby.connect(world.name)
    check_samples(seen(asks(conn)), world.ledger)
    conn.close()
    examine_all(world)


def canceled(standby, conn, ask):
    """The next question of a session is refused, since replay could not wait for it."""
    try:
        seen(ask)
    except psycopg2.errors.SerializationFailure as e:
        return "conflict with recovery" in str(e)
    except psycopg2.OperationalError as e:  # while it was idle: see above
        return "conflict with recovery" in standby.log() and ("conflict with recovery" in str(e) or conn.closed)
    return False


@pytest.mark.parametrize("feedback", [True, False])
def test_long_readers_on_the_standby_beside_retention(make_pair, feedback):
    """A drop takes a lock that is replayed: who has read of the day and holds on to it is canceled after a while, with
    feedback, too, and so is, without it, whose snapshot sees rows that VACUUM has removed. Who has not, and with feedback,
    goes on and finds the day gone, all else as it was. The primary waits for none of them."""
    world, standby = make_pair(hot_standby_feedback="on" if feedback else "off", max_standby_streaming_delay="500ms",
                               wal_receiver_status_interval="1s")
    world.fill()
    world.force()
    caught_up(world, standby)
    before = dict(world.ledger)
    reader, other = standby.connect(world.name), standby.connect(world.name)
    ask, ask_other = asks(reader), asks(other)
    ask("BEGIN ISOLATION LEVEL REPEATABLE READ")
    assert seen(ask) == before
    ask_other("BEGIN ISOLATION LEVEL REPEATABLE READ")
    ask_other("SELECT 1")  # a snapshot, and no lock on a day
    if feedback:
        eventually("the primary knows of the readers",
                   lambda: world.one("SELECT count(backend_xmin) FROM pg_stat_replication"))
    world.sql("SELECT _prom_catalog.set_setting('retention_grace', '0'), prom_api.set_default_retention_period('36 hours')")
    days = world.one("SELECT count(*) FROM _prom_catalog.partitions()")
    world.force()
    assert world.one("SELECT count(*) FROM _prom_catalog.partitions()") < days
    world.ledger = {k: v for k, v in before.items() if k[1] >= world.now - 30 * HOUR}
    assert 0 < len(world.ledger) < len(before)
    check_samples(seen(world.sql), world.ledger)
    caught_up(world, standby)
    assert canceled(standby, reader, ask)
    assert "conflict with recovery" in standby.log()
    if feedback:
        check_samples(seen(ask_other), world.ledger, before)
        assert ask_other("COMMIT") is None
    else:
        try:
            check_samples(seen(ask_other), world.ledger, before)
        except psycopg2.Error:
            assert canceled(standby, other, ask_other) or other.closed
    reader.close()
    other.close()
    conn = standby.connect(world.name)
    check_samples(seen(asks(conn)), world.ledger)
    conn.close()
    examine_all(world)


def test_nothing_acknowledged_is_lost_by_a_fail_over(make_pair):
    """A synchronous standby is promoted after the primary was killed in the middle of a fold. Maintenance itself does not
    wait for the standby; flushes do."""
    world, standby = make_pair()
    world.fill()
    world.sql("ALTER SYSTEM SET synchronous_standby_names = '*'")
    world.sql("SELECT pg_reload_conf()")
    eventually("the standby is synchronous", lambda: world.sql(
        "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"))
    for i in range(10):
        world.flush([world.now + i * 1000])
        world.sql("SET synchronous_commit = off; SELECT _prom_ext.merge_step()")
        world.sql("SELECT _prom_ext.seal_step(true); RESET synchronous_commit")
    world.flush([world.now + 20_000])
    world.server.stop("immediate")
    conn = standby.connect(world.name)
    asks(conn)("SELECT pg_promote()")
    conn.close()
    world.conn.close()
    new = Promoted(standby, world)
    found = examine_all(new, files=False)
    assert found == world.ledger
    # life goes on there
    new.learn()
    new.flush([world.now + 30_000])
    examine_all(new, files=False)
    new.close()


class Promoted(World):
    """The promoted standby as a World, with the ledger of the old one."""

    def __init__(self, standby, old):
        Database.__init__(self, standby, old.name)
        self.n_wide, self.now = old.n_wide, old.now
        self.ledger, self.maybe = old.ledger, old.maybe
