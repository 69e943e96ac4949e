"""Rows of the block tables with damaged data: reading them, aggregating, folding and sealing over them gives clean
errors, other metrics stay as they are, and nothing that was readable is lost.

The row's columns say what the damaged header says, or what the original said. Each row lives in a transaction
that is rolled back, or is folded and sealed beside real blocks and then taken out again.
"""
import psycopg2
from hostile import header, mutated
from tables import tidy
from watched import BLOCKS_ARE_DAMAGED, Watched

LEVELS = {0: "fresh", 1: "merged", 2: "block_far"}
QUERIES = [
    "SELECT count(*), sum(value), min(time), max(time) FROM {view}",
    "SELECT * FROM {view}",
    "SELECT series_id, avg(value), min(value), max(value), count(*) FROM {view} GROUP BY series_id",
    "SELECT date_bin('1 hour', time, '2000-01-01'), sum(value) FROM {view} GROUP BY 1",
    "SELECT node_id, max(value) FROM {view} WHERE labels ? ('node' ==~ 'n') GROUP BY node_id",
    "SELECT * FROM {view} WHERE series_id = ANY (ARRAY(SELECT series_id FROM prom_series.cpu_usage LIMIT 2))",
    "SELECT * FROM {view} WHERE time > now() - interval '3 hours' ORDER BY time DESC LIMIT 5",
    "SELECT DISTINCT ON (series_id) * FROM {view} ORDER BY series_id, time DESC",
    "SELECT time FROM {view} WHERE value > 3",
    "SELECT * FROM {view} u JOIN cpu_total t ON u.time = t.time AND eq(u.labels, t.labels)",
    "SELECT * FROM _prom_data.samples WHERE time > now() - interval '1 day'",
    "SELECT * FROM prom_info.metric",
    "SELECT * FROM _prom_ext.block_parts((SELECT data FROM _prom_data.{table} WHERE id = {id}))",
    "SELECT * FROM _prom_ext.merge_step()",
    "SELECT * FROM _prom_ext.seal_step(true)",
]
POLICIES = ["warn", "error"]
STAMP = "timestamptz 'epoch' + {0} / 86400000 * interval '1 day' + {0} % 86400000 * interval '1 ms'"


class Rows:
    """Real rows to start from."""

    def __init__(self, db):
        self.id = db.one("SELECT nextval('_prom_data.block_id_seq')")
        self.found = []
        for table in ("fresh", "merged", "block", "block_far"):
            self.found += db.sql(
                "SELECT tenant_id, metric_id, dist_key, level, kind, format, series_lo, series_hi,"
                " (extract(epoch FROM t_min) * 1000)::int8, (extract(epoch FROM t_max) * 1000)::int8,"
                f" n_series, n_samples, data FROM _prom_data.{table}")
        # the metric that is spoiled; the others are looked at
        self.found = [r for r in self.found if r[1] == db.written.metrics["cpu_usage"]]
        assert len({r[3] for r in self.found}) == 3

    def statement(self, random):
        """INSERT of a damaged row: (table, statement)."""
        *columns, data = random.choice(self.found)
        data = mutated(random, bytes(data))
        says = header(data)
        if says is not None and random.random() < 0.8:
            columns = [columns[0] if random.random() < 0.3 else says.tenant_id, columns[1], columns[2], says.level,
                       says.kind, says.format, says.series_lo, says.series_hi, says.t_min, says.t_max, says.n_series,
                       says.n_samples]
        table = LEVELS.get(columns[3], "fresh") if random.random() < 0.9 else random.choice(list(LEVELS.values()))
        values = columns[:8] + [STAMP.format(f"({t})") for t in columns[8:10]] + columns[10:] + [f"'\\x{data.hex()}'"]
        return table, (f"INSERT INTO _prom_data.{table} (id, tenant_id, metric_id, dist_key, level, kind, format,"
                       " series_lo, series_hi, t_min, t_max, n_series, n_samples, data)"
                       f" VALUES ({self.id}, {', '.join(map(str, values))})")


def others(db):
    """Metrics that have no damaged block."""
    return [db.sql(f"SELECT count(*), sum(hashtextextended(x::text, 0)) FROM {v} x")
            for v in ("prom_metric.cpu_total", 'prom_metric."a b""c"')]


def test_queries_over_damaged_rows(db, bound):
    time = bound(15)
    db.conn.close()
    db.conn = db.connect()
    rows, session, before = Rows(db), Watched(db), others(db)
    n = 0
    while time.more():
        n += 1
        table, insert = rows.statement(time.random)
        for query in time.random.sample(QUERIES, 4):
            query = query.format(view="prom_metric.cpu_usage", table=table, id=rows.id)
            session.run(query, query, allowed=BLOCKS_ARE_DAMAGED,
                        begin=f"BEGIN; {insert}; SET LOCAL promscale.damaged_blocks = {time.random.choice(POLICIES)}")
    print(n, "damaged rows,", sorted({code for _, code in session.outcomes}))
    assert not session.failures, session.report()
    assert others(db) == before
    assert db.one("SELECT pg_postmaster_start_time()") == session.started
    assert any(code == "XX001" for _, code in session.outcomes) and n > 20


TWO_WAYS = [
    "SELECT count(*) FROM cpu_usage",
    "SELECT count(*), min(time), max(time) FROM cpu_usage",
    "SELECT series_id, count(*), max(time) FROM cpu_usage GROUP BY series_id",
    "SELECT series_id, count(*), count(value), min(value), max(value) FROM cpu_usage GROUP BY series_id",
    "SELECT date_bin('1 hour', time, '2000-01-01'), count(*), max(value) FROM cpu_usage GROUP BY 1",
    "SELECT node_id, count(*) FROM cpu_usage WHERE time > now() - interval '20 hours' GROUP BY 1",
    "SELECT count(*) FROM cpu_usage WHERE value > 5",
    "SELECT DISTINCT ON (series_id) series_id, time, value FROM cpu_usage ORDER BY series_id, time DESC",
    "SELECT series_id, max(time) FROM cpu_usage WHERE time < now() - interval '3 hours' GROUP BY 1",
    "SELECT max(time) FROM cpu_usage",
    "SELECT series_id, min(time) FROM cpu_usage WHERE time < now() - interval '5 hours' GROUP BY 1",
]


def test_damaged_rows_do_not_make_numbers_differ(db, bound):
    """Where a damaged row can be read in two ways, aggregated in the scan and row by row, both say the same."""
    time = bound(15)
    db.conn.close()
    db.conn = db.connect()
    rows, session = Rows(db), Watched(db)
    same = refused = 0
    while time.more():
        _, insert = rows.statement(time.random)
        query, policy = time.random.choice(TWO_WAYS), time.random.choice(POLICIES)
        ways = [session.run(query, query, allowed=BLOCKS_ARE_DAMAGED,
                            begin=f"BEGIN; {insert}; SET LOCAL promscale.enable_aggregate_pushdown = {on};"
                                  f" SET LOCAL promscale.damaged_blocks = {policy}")
                for on in ("on", "off")]
        if isinstance(ways[0], list) and isinstance(ways[1], list):
            same += 1
            one, other = (sorted([[tidy(v, False) for v in row] for row in way], key=repr) for way in ways)
            assert one == other, (query, insert)
        else:
            refused += 1
    print(f"{same} answers, {refused} errors")
    assert not session.failures, session.report()
    assert same > 3 and refused > 3


def usage(db):
    return db.sql("SELECT series_id, time, value::text FROM prom_metric.cpu_usage ORDER BY 1, 2")


def test_maintenance_beside_damaged_rows(db, bound):
    """Maintenance goes on around damage; when it is taken out, all that was written is still there."""
    time = bound(15)
    rows, before, whole = Rows(db), others(db), usage(db)
    n = unreadable = 0
    while time.more():
        table, insert = rows.statement(time.random)
        db.sql("BEGIN; SET LOCAL promscale.damaged_blocks = error")
        try:
            db.sql(insert)
        except psycopg2.errors.CheckViolation:  # of columns that no row has
            db.sql("ROLLBACK")
            continue
        n += 1
        db.sql("SAVEPOINT before")
        readable = True
        try:
            db.sql("SELECT count(value) FROM (SELECT * FROM prom_metric.cpu_usage OFFSET 0) x")
        except psycopg2.Error as e:
            assert e.pgcode in ("XX001", "XX002", "0A000", "54000"), (e.pgcode, e, insert)
            db.sql("ROLLBACK TO before")
            readable = False
        for step in time.random.choice([("fold", "partitions", "seal"), ("fold",), ("partitions", "seal"),
                                        ("fold", "fold", "partitions", "seal", "seal")]):
            outcome, detail, _ = db.sql(f"SELECT * FROM _prom_catalog.run_step('{step}', true)")[0]
            assert outcome != "failed", (step, detail, insert)
        assert others(db) == before, insert
        if not readable:
            unreadable += 1
            db.sql(f"DELETE FROM _prom_data.{table} WHERE id = {rows.id}")
            assert usage(db) == whole, insert
        db.sql("ROLLBACK")
    print(n, "damaged rows,", unreadable, "of them unreadable")
    assert unreadable > 3 and n > unreadable
