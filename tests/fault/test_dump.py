"""pg_dump beside ingest, folds, seals, erasing and new metrics. Restored into another cluster it is one consistent state:
everything that was acknowledged before the dump began, each sample once, and of what was erased one by one a suffix."""
import subprocess
import threading

import psycopg2
from examine import examine, seen
from harness.postgres import BIN
from harness.process import SLOW, wait_until
from http_ledger import METRICS, HttpLedger, Writing, keys_of

VICTIMS = 40
DUMPS = 2


def run(program, *args):
    return subprocess.run([str(BIN / program), *map(str, args)], check=True, capture_output=True, text=True,
                          timeout=120 * SLOW)


class Repeated(threading.Thread):
    """Statements again and again, until told to stop."""

    def __init__(self, p, statements):
        super().__init__(daemon=True)
        self.p, self.statements, self.stop_event, self.errors, self.done = p, statements, threading.Event(), [], 0
        self.start()

    def run(self):
        conn = self.p.connect()
        for statement in self.statements:
            if self.stop_event.is_set():
                break
            try:
                conn.cursor().execute(statement)
                self.done += 1
            except psycopg2.Error as e:
                self.errors.append(f"{e.pgcode} {e}")
            self.stop_event.wait(0.05)
        conn.close()

    def end(self):
        self.stop_event.set()
        self.join(60)


def forever(*statements):
    while True:
        yield from statements


def test_dump_beside_everything(lab):
    p = lab.promscale(args=["--self-scrape=false"])
    for i in range(VICTIMS):
        p.write([({"__name__": "victim", "n": str(i)}, [(HttpLedger(p).t0 + k * 1000, float(i)) for k in range(20)])])
    ledgers = [HttpLedger(p, n) for n in range(2)]
    writers = [Writing(one, pause_s=0.02) for one in ledgers]
    wait_until("nothing is acknowledged", lambda: all(one.acked for one in ledgers))
    carer = Repeated(p, forever("CALL prom_api.execute_maintenance(force => true)", "SELECT _prom_ext.merge_step()"))
    eraser = Repeated(p, [f"SELECT prom_api.delete_series('victim{{n=\"{i}\"}}')" for i in range(VICTIMS)])
    maker = Repeated(p, (f"SELECT _prom_catalog.resolve_series(0, '{{new_{i}}}', '{{__name__}}', '{{new_{i}}}', '{{1}}',"
                         " '{1}', '{1}')" for i in range(10_000)))
    dumps = []
    for i in range(DUMPS):
        before = dict(ledgers[0].acked), dict(ledgers[1].acked)
        path = lab.folder / f"dump{i}"
        run("pg_dump", "-d", p.dsn(), "-Fc", "-f", path)
        dumps.append((before, path))
    wait_until("somebody gets nowhere", lambda: min(t.done for t in (carer, maker, eraser)) > 1)
    for thread in (*writers, carer, maker, eraser):
        thread.end()
    assert not [e for t in (carer, eraser, maker) for e in t.errors if not e.startswith(("55P03", "40001", "40P01"))
                and "other maintenance did not end" not in e]
    cluster = lab.cluster()
    for i, (before, path) in enumerate(dumps):
        cluster.sql(f"CREATE DATABASE restored{i}")
        run("pg_restore", "-d", cluster.uri(f"restored{i}"), "--single-transaction", "--exit-on-error", path)

        def ask(text, args=None, i=i):
            return cluster.sql(text, args, database=f"restored{i}")

        check_restored(ask, ledgers, before)


def check_restored(ask, ledgers, before):
    _, sent = keys_of(ask, [of(one, {}) for one in ledgers])
    acked, _ = keys_of(ask, [of(one, b) for one, b in zip(ledgers, before)])
    left = ask("SELECT (prom_api.jsonb(labels)->>'n')::int, count(*) FROM _prom_data.samples s WHERE metric_id ="
               " (SELECT id FROM _prom_catalog.metric WHERE metric_name = 'victim') GROUP BY 1 ORDER BY 1")
    first = left[0][0] if left else VICTIMS
    assert left == [(i, 20) for i in range(first, VICTIMS)], "erased one by one, and not seen so"
    victims = {k: v for k, v in seen(ask).items() if k not in sent}
    assert len(victims) == 20 * len(left)
    ask("SELECT _prom_catalog.make_metric_views(100000)")  # no dump has them; missed of metrics older than ten minutes
    for _ in range(2):
        examine(ask, {**acked, **victims}, sent)
        ask("CALL prom_api.execute_maintenance(force => true)")
    examine(ask, {**acked, **victims}, sent)
    assert {m for m, in ask("SELECT metric_name FROM _prom_catalog.metric")} >= set(METRICS)


def of(ledger, acked):
    """The ledger as of another time."""
    one = HttpLedger(None, ledger.number)
    one.acked, one.sent = acked, ledger.sent
    return one
