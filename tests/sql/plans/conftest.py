"""A database of realistic shape, made once: the tests here only plan and read.

cpu     250 instances x 8 modes, a sample each 15 s for an hour (480 000 samples), sealed
mem     one series an instance, the same times
pod     20 000 series with 2 samples
days    20 series, hourly for 20 days
"""
import pathlib
import sys
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from cluster import Cluster

MODES = ["idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user"]
# the last full hour but three: sealed like anything else that is over; one hour for all tests, however long they take
START = f"to_timestamp({int(time.time()) // 3600 * 3600 - 4 * 3600})"


class Database:
    def __init__(self, server, name):
        self.server, self.name, self.conn = server, name, server.connect(name)

    def close(self):
        self.conn.close()

    def sql(self, text, args=None, conn=None):
        with (conn or self.conn).cursor() as cur:
            cur.execute(text, args)
            return cur.fetchall() if cur.description else None

    def one(self, text, args=None, conn=None):
        return self.sql(text, args, conn)[0][0]

    def explain(self, query, analyze=False, conn=None):
        options = "ANALYZE, TIMING OFF, FORMAT JSON" if analyze else "SUMMARY, FORMAT JSON"
        return self.one(f"EXPLAIN ({options}) {query}", conn=conn)[0]

    def rows(self, query, conn=None):
        """How many the planner expects."""
        return self.explain(query, conn=conn)["Plan"]["Plan Rows"]

    def metric(self, name, labels, times):
        """labels: a query of jsonb; times: one of timestamptz. Each series at each time."""
        self.sql("SELECT prom_api.create_metric(%s)", (name,))
        self.sql(f"INSERT INTO prom_data.{name} (time, value, labels)"
                 f" SELECT (SELECT min(t) FROM ({times}) x(t)), 0, l FROM ({labels}) y(l)")
        self.sql("CALL prom_api.execute_maintenance(force => true)")
        self.sql(f"INSERT INTO prom_data.{name} (time, value, series_id) SELECT t, series_id % 17 + extract(minute FROM t),"
                 f" series_id FROM prom_series.{name}, ({times}) x(t) WHERE t > (SELECT min(t) FROM ({times}) z(t))"
                 " ORDER BY t, series_id")


def nodes_of(plan):
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes_of(child)


def types_of(plan):
    return [n["Node Type"] for n in nodes_of(plan)]


def scans_of(plan, metric_id=None):
    """Foreign scans, of one metric if asked so."""
    return [n for n in nodes_of(plan) if n["Node Type"] == "Foreign Scan"
            and (metric_id is None or f"metric_id = {metric_id})" in n["Block Cond"])]


def fill(db):
    db.sql("SET timezone = 'UTC'")
    hour = f"SELECT generate_series({START}, {START} + interval '59 min 45 s', interval '15 s')"
    modes = ", ".join(f"('{m}')" for m in MODES)
    db.metric("cpu", "SELECT jsonb_build_object('job', 'node', 'instance', format('node-%s', i), 'mode', m)"
              f" FROM generate_series(1, 250) i, (VALUES {modes}) v(m)", hour)
    db.metric("mem", "SELECT jsonb_build_object('job', 'node', 'instance', format('node-%s', i))"
              " FROM generate_series(1, 250) i", hour)
    db.metric("pod", "SELECT jsonb_build_object('pod', format('pod-%s', i), 'instance', format('node-%s', i % 250 + 1))"
              " FROM generate_series(1, 20000) i", f"VALUES ({START}), ({START} + interval '15 s')")
    db.metric("days", "SELECT jsonb_build_object('n', i::text) FROM generate_series(1, 20) i",
              f"SELECT {START} - n * interval '1 h' FROM generate_series(0, 20 * 24 - 1) n")
    db.sql("CALL prom_api.execute_maintenance(force => true)")
    db.sql("CREATE TABLE racks AS SELECT format('node-%s', i) AS instance, format('rack-%s', i % 3) AS rack"
           " FROM generate_series(1, 6) i")
    db.sql("CREATE TABLE deployments AS SELECT format('node-%s', i) AS instance,"
           f" {START} + i * interval '5 min' AS ts_from, {START} + i * interval '5 min' + interval '2 min' AS ts_to"
           " FROM generate_series(1, 5) i")
    db.sql("CREATE TABLE facts AS SELECT series_id, n FROM prom_series.cpu, generate_series(1, 50) n")
    for table in ("_prom_catalog.series", "_prom_catalog.label", "racks", "deployments", "facts"):
        db.sql(f"VACUUM ANALYZE {table}")


@pytest.fixture(scope="session")
def server():
    s = Cluster("jit = off\nstatement_timeout = '100s'\nmax_parallel_workers_per_gather = 0")
    yield s
    s.close()


@pytest.fixture(scope="session")
def fleet(server):
    name = server.new_database()
    d = Database(server, name)
    fill(d)
    d.close()
    d = Database(server, name)  # with the search_path of the installation
    d.id = {m: d.one("SELECT id FROM prom_info.metric WHERE metric_name = %s", (m,)) for m in ("cpu", "mem", "pod", "days")}
    d.start = d.one("SELECT min(time)::text FROM cpu")
    yield d
    d.close()
