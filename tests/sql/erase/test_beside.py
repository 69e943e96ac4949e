"""Erasing and replacing beside writers, maintenance, and each other: nothing that went comes back."""
import threading
import time

import psycopg2
import pytest

from conftest import HOUR

GUARD, MAINTENANCE = "x'50524f4d00000001'::int8", "x'50524f4d00000002'::int8"
ROW = "INSERT INTO prom_data.m (time, value, labels) VALUES (to_timestamp(%s), %s, '{}')"


class Session:
    """A connection whose statements may wait; user postgres."""

    def __init__(self, db, *begin):
        self.conn = db.connect()
        self.cur = self.conn.cursor()
        for text in ("SET statement_timeout = '90s'", *begin):
            self.cur.execute(text)
        self.thread = self.error = None

    def sql(self, text, args=None):
        self.cur.execute(text, args)
        return self.cur.fetchall() if self.cur.description else None

    def start(self, text, args=None):
        def run():
            try:
                self.cur.execute(text, args)
            except psycopg2.Error as e:
                self.error = e
        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()
        return self

    def waits(self, seconds=0.7):
        self.thread.join(seconds)
        return self.thread.is_alive()

    def ends(self):
        self.thread.join(90)
        assert not self.thread.is_alive()
        return self.error


@pytest.fixture
def m(db):
    db.sql("SELECT create_metric('m')")
    db.sql("SELECT _prom_catalog.get_or_create_series_id('{\"__name__\": \"m\"}')")
    db.at = (db.now_ms() - HOUR) / 1000
    return db


OVER = "SET promscale.on_conflict = 'overwrite'"


def test_who_replaces_wins_over_who_was_writing(m):
    """A writer with a lower id that has not committed yet would win over what replaces: so it is waited for."""
    writer, over = Session(m, "BEGIN"), Session(m, OVER)
    writer.sql(ROW, (m.at, 1))
    over.start(ROW, (m.at, 2))
    assert over.waits()
    late = Session(m)
    late.sql(ROW, (m.at, 3))  # nobody stands in a queue behind the one who waits
    writer.sql("COMMIT")
    assert over.ends() is None
    assert list(m.shown("m").values()) == [2.0]
    m.maintain()
    assert list(m.shown("m").values()) == [2.0]


def test_two_who_replace(m):
    first, second = Session(m, OVER, "BEGIN"), Session(m, OVER)
    first.sql(ROW, (m.at, 1))
    second.start(ROW, (m.at, 2))
    assert second.waits()
    first.sql("COMMIT")
    assert second.ends() is None
    assert list(m.shown("m").values()) == [2.0] and m.count("_prom_data.fresh") == 1


def test_both_write_first_and_then_replace(m):
    """Each holds what the other waits for: one is told, and can repeat."""
    a, b = Session(m, "BEGIN"), Session(m, "BEGIN")
    for s, v in ((a, 1), (b, 2)):
        s.sql(ROW, (m.at, v))
        s.sql("SET LOCAL promscale.on_conflict = 'overwrite'")
    m.sql("SELECT _prom_catalog.set_setting('lock_patience', '3 s')")
    a.start(ROW, (m.at, 3))
    assert a.waits()
    b.start(ROW, (m.at, 4))
    errors = []
    for s in (b, a):
        e = s.ends()
        errors.append(e and e.pgcode)
        s.sql("ROLLBACK" if e else "COMMIT")
    assert set(errors) <= {None, "40P01", "55P03"} and None in errors
    assert len(m.shown("m")) == 1


@pytest.mark.parametrize("step", ["SELECT * FROM _prom_ext.merge_step()", "SELECT * FROM _prom_ext.seal_step(true)"])
def test_maintenance_stays_away_until_the_commit(m, step):
    m.sql(ROW, (m.at, 1))
    over = Session(m, OVER, "BEGIN")
    over.sql(ROW, (m.at, 2))
    rows = m.sql(step)
    assert rows[0][1] is True  # busy
    over.sql("COMMIT")
    m.maintain()
    assert list(m.shown("m").values()) == [2.0]


def test_what_is_stored_while_series_are_erased(m):
    """Flushed after the samples were erased, before the series went: nobody could see it, and its bytes would stay."""
    m.sql(ROW, (m.at, 1))
    slow = Session(m, "BEGIN")
    slow.sql(ROW, (m.at + 1, 2))  # holds the guard lock
    eraser = Session(m).start("SELECT delete_series('m')")
    assert eraser.waits(1.5)
    slow.sql("COMMIT")
    assert eraser.ends() is None
    assert eraser.cur.fetchone() == (2,)
    assert m.shown("m") == {} and m.count("_prom_data.fresh") == 0


def test_labels_that_come_back_at_the_same_moment(m):
    """A label that only a deleted series had is made anew by who resolves it next, and never used while it goes."""
    a = m.resolve([{"__name__": "m", "user": "anna"}])
    eraser = Session(m, "BEGIN")
    eraser.sql("SELECT delete_series('m')")
    writer = Session(m).start("SELECT _prom_catalog.get_or_create_series_id('{\"__name__\": \"m\", \"user\": \"anna\"}')")
    assert writer.waits()
    eraser.sql("COMMIT")
    assert writer.ends() is None
    assert writer.cur.fetchone()[0] != a.series[0]
    assert m.column("SELECT value FROM _prom_catalog.label ORDER BY 1") == ["anna", "m"]
    assert m.one("SELECT count(*) FROM _prom_catalog.series s, unnest(s.labels) l WHERE l <> 0"
                 " AND NOT EXISTS (SELECT FROM _prom_catalog.label WHERE id = l)") == 0


def test_a_label_of_another_tenant_or_metric_stays(m):
    m.resolve([{"__name__": "m", "user": "anna"}, {"__name__": "n", "user": "anna"}, {"__name__": "m", "user": "bert"}])
    m.sql("SELECT delete_series('m')")
    assert m.column("SELECT value FROM _prom_catalog.label WHERE value IN ('anna', 'bert')") == ["anna"]
    m.sql("SELECT drop_metric('n')")
    assert m.column("SELECT value FROM _prom_catalog.label WHERE value IN ('anna', 'bert')") == []


def test_ledger_of_erasing_beside_everything(m):
    """Writers put, one replaces, one erases, maintenance runs; then the store is what the last of each series says."""
    until, give_up = time.monotonic() + 6, time.monotonic() + 90
    errors, truth, goes = [], {}, dict.fromkeys("abrem", 0)

    class Again:
        """A cursor that repeats a statement which had to give way to others: nothing of it was done."""
        def __init__(self, cur):
            self.cur = cur

        def execute(self, text, args=None):
            while True:
                try:
                    return self.cur.execute(text, args)
                except psycopg2.Error as e:
                    if e.pgcode not in ("40P01", "40001", "55P03"):
                        raise

    def work(name, step):
        conn = m.connect()
        cur = conn.cursor() if name == "m" else Again(conn.cursor())
        while time.monotonic() < until or min(goes.values()) < 20 and time.monotonic() < give_up:
            goes[name] += 1
            try:
                step(cur, goes[name])
            except psycopg2.Error as e:
                if e.pgcode not in ("40P01", "40001", "55P03"):
                    errors.append((name, e))
                    return
        conn.close()

    def put(host):
        def step(cur, n):
            cur.execute("INSERT INTO prom_data.m (time, value, labels) SELECT to_timestamp(%s + i), %s,"
                        f" '{{\"host\": \"{host}\"}}' FROM generate_series(1, 50) i", (m.at + n % 20 * 50, n))
            for i in range(1, 51):
                truth.setdefault((host, n % 20 * 50 + i), n)
        return step

    def replace(cur, n):
        cur.execute(OVER)
        cur.execute("INSERT INTO prom_data.m (time, value, labels) SELECT to_timestamp(%s + i), %s,"
                    " '{\"host\": \"r\"}' FROM generate_series(1, 300) i", (m.at + n % 3 * 100, n))
        for i in range(1, 301):
            truth["r", n % 3 * 100 + i] = n

    def erase(cur, n):
        cur.execute("INSERT INTO prom_data.m (time, value, labels) SELECT to_timestamp(%s + i), %s,"
                    " '{\"host\": \"e\"}' FROM generate_series(1, 100) i", (m.at, n))
        cur.execute("SELECT delete_series('m{host=\"e\"}', to_timestamp(%s), to_timestamp(%s))", (m.at + 11, m.at + 200))
        cur.execute("SELECT delete_series('m{host=\"e\"}')" if n % 3 == 0 else "SELECT 1")
        if n % 3 == 0:
            for i in range(1, 11):
                truth.pop(("e", i), None)
        else:
            for i in range(1, 11):
                truth.setdefault(("e", i), n)

    def maintain(cur, n):
        cur.execute("CALL prom_api.execute_maintenance(force => %s)", (n % 4 == 0,))
        cur.execute("SELECT _prom_catalog.take_vacuums()")
        for (command,) in cur.fetchall():
            cur.execute(command)

    threads = [threading.Thread(target=work, args=a) for a in
               (("a", put("a")), ("b", put("b")), ("r", replace), ("e", erase), ("m", maintain))]
    for t in threads:
        t.start()
    for t in threads:
        t.join(180)
        assert not t.is_alive()
    assert errors == []
    m.views()

    def look():
        rows = m.sql("SELECT labels->>'host', round(extract(epoch FROM time)::numeric - %s), value FROM prom_data.m",
                     (m.at,))
        return {(h, int(t)): v for h, t, v in rows}
    assert look() == truth and len(truth) > 1000
    m.maintain()
    assert look() == truth
    assert m.one("SELECT _prom_catalog.recount()") == 0


def test_replacing_what_is_not_there_counts_nothing_anew(m):
    """The sets and figures of a day are those of merged and sealed rows: of which nothing went."""
    m.sql("INSERT INTO prom_data.m (time, value, labels) SELECT to_timestamp(%s + i), i, '{}' FROM generate_series(1, 50) i",
          (m.at,))
    m.sql("SELECT _prom_ext.merge_step()")
    rows = "SELECT xmin::text FROM _prom_data.presence UNION ALL SELECT xmin::text FROM _prom_catalog.metric_day"
    before = m.column(rows)
    m.sql(OVER)
    m.sql(ROW, (m.at + 60, 1.0))  # new
    m.sql(ROW, (m.at + 60, 2.0))  # in place of a fresh one
    assert m.column(rows) == before != []
    m.sql(ROW, (m.at + 1, 3.0))
    assert m.one("SELECT sum(merged_samples) FROM _prom_catalog.metric_day") == 49
