"""An import of weeks into days that are sealed: one transaction, seen as a whole, in bounded memory, and sealed again."""
import threading
from datetime import datetime, timezone

DAYS, SERIES, PER_DAY = 30, 20, 500
FIRST = "date_trunc('day', now(), 'UTC') - interval '40 days'"


def resident_kb(conn):
    with open(f"/proc/{conn.info.backend_pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon:"))


def lines(first_ms, days, offset):
    """Samples of all series in COPY's text format, days in disorder, 100 s apart."""
    for day in sorted(days, key=lambda d: d * 7 % DAYS):
        for i in range(PER_DAY):
            time = datetime.fromtimestamp((first_ms + day * 86_400_000 + i * 100_000 + offset) / 1000, timezone.utc)
            for s in range(SERIES):
                yield f'{time.isoformat()}\t{s * 100 + i % 50}\t{{"s": "{s}"}}\n'


class File:
    """For copy_expert; never in memory as a whole."""

    def __init__(self, source):
        self.source = source

    def read(self, size):
        out = []
        while size > 0 and (line := next(self.source, None)):
            out.append(line)
            size -= len(line)
        return "".join(out)


def copy(conn, *args):
    with conn.cursor() as cur:
        cur.copy_expert("COPY prom_data.m (time, value, labels) FROM STDIN", File(lines(*args)))


def test_an_import_is_one_transaction(db):
    db.metric("m")
    first_ms = int(db.one(f"SELECT (extract(epoch FROM {FIRST}) * 1000)::int8"))
    copy(db.conn, first_ms, range(DAYS), 0)
    db.sql("CALL prom_api.execute_maintenance(force => true)")
    sealed = DAYS * SERIES * PER_DAY
    assert (db.count("m"), db.one("SELECT count(*) FROM _prom_data.merged")) == (sealed, 0)
    writer = db.connect()
    writer.autocommit = False
    seen, stop = [], threading.Event()

    def read():
        conn = db.connect()
        while not stop.is_set():
            seen.append(db.one("SELECT count(*) FROM prom_data.m", conn=conn))
        seen.append(db.one("SELECT count(*) FROM prom_data.m", conn=conn))
        conn.close()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        db.sql("SET promscale.write_memory = '4MB'", conn=writer)
        copy(writer, first_ms, range(3), 50_000)  # what is needed once is there
        before = resident_kb(writer)
        copy(writer, first_ms, range(3, DAYS), 50_000)
        grown = resident_kb(writer) - before
        assert db.one("SELECT count(*) FROM prom_data.m", conn=writer) == 2 * sealed  # its own samples it sees
        db.sql("SELECT _prom_ext.merge_step()")  # maintenance goes on beside it
        during = len(seen)
        writer.commit()
    finally:
        stop.set()
        reader.join()
        writer.close()
    assert during > 0 and set(seen[:during]) == {sealed} and set(seen) <= {sealed, 2 * sealed}
    assert seen[-1] == db.count("m") == 2 * sealed
    assert grown < 24 * 1024, f"{grown} kB for {sealed} samples"  # 40 bytes each would be 11 MB
    total = db.one("SELECT sum(value)::int8 FROM prom_data.m")
    db.sql("CALL prom_api.execute_maintenance(force => true)")
    assert db.one("SELECT sum(value)::int8 FROM prom_data.m") == total and db.count("m") == 2 * sealed
    assert db.one("SELECT count(*) FROM _prom_data.merged") == 0
    # each day is one piece again, for all of its series
    assert db.one("SELECT max(n) FROM (SELECT count(*) AS n FROM _prom_data.block GROUP BY t_min::date) d") == 1


def test_one_row_into_a_sealed_day(db):
    """INSERT into a day that is sealed: seen at commit, not before; and again after maintenance."""
    db.metric("m")
    insert = f"SELECT {FIRST} + interval '%s', %s, '{{\"s\": \"1\"}}'"
    db.put(insert % ("1 hour", 1))
    db.sql("CALL prom_api.execute_maintenance(force => true)")
    other = db.connect()
    other.autocommit = False
    db.put(insert % ("30 minutes", 2), conn=other)
    db.put(insert % ("1 hour", 3), conn=other)  # there is one
    assert db.column("SELECT value FROM prom_data.m ORDER BY time") == [1]
    other.commit()
    for _ in range(2):
        assert db.column("SELECT value FROM prom_data.m ORDER BY time") == [2, 1]
        db.sql("CALL prom_api.execute_maintenance(force => true)")
    assert db.sql("SELECT num_samples, compressed_chunks FROM prom_info.metric") == [(2, 1)]
    other.close()
