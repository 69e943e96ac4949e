"""One throw-away cluster; each test gets a database with real label sets and real blocks."""
import pathlib
import sys

import psycopg2
import pytest

HERE = pathlib.Path(__file__).resolve().parent
for folder in (HERE.parent, HERE.parent / "catalog"):
    sys.path.insert(0, str(folder))
from cluster import Cluster, fixtures
from database import Database, series


class Asked(Database):
    def make(self, name, **labels):
        """One series: (metric, series)."""
        r = self.resolve([series(name, **labels)])
        return r.metrics[0], r.series[0]

    def promql(self, query, at=0):
        """Rows (time in s, value, labels) of an instant query, at in s."""
        return self.rows("promql(%s, to_timestamp(%s))", query, at)

    def promql_range(self, query, start, stop, step):
        return self.rows("promql_range(%s, to_timestamp(%s), to_timestamp(%s), make_interval(secs => %s))", query,
                         start, stop, step)

    def rows(self, call, *args):
        return self.sql(f"SELECT extract(epoch FROM time)::float8, value, labels FROM {call}", args)

    def error(self, text, args=None):
        with pytest.raises(psycopg2.Error) as e:
            self.sql(text, args)
        return e.value


class Server(Cluster):
    def __init__(self):
        super().__init__("statement_timeout = '100s'\n")

    def create(self):
        return Asked(self, self.new_database())


server, db, shared_db = fixtures(Server)
