"""One throw-away cluster for these tests; each test gets a database of its own with the extension in it.
The extension must be installed where PG_CONFIG points: tests/sql/run sees to it.
"""
import io
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from cluster import Cluster


class Database:
    def __init__(self, server, name):
        self.server = server
        self.name = name
        self.conn = server.connect(name)

    def close(self):
        self.conn.close()

    def connect(self, user="postgres"):
        return self.server.connect(self.name, user)

    def sql(self, text, args=None, conn=None):
        with (conn or self.conn).cursor() as cur:
            cur.execute(text, args)
            return cur.fetchall() if cur.description else None

    def put(self, rows, args=None, conn=None):
        """INSERT into metric m of (time, value, labels)."""
        return self.sql("INSERT INTO prom_data.m (time, value, labels) " + rows, args, conn)

    def one(self, text, args=None, conn=None):
        rows = self.sql(text, args, conn)
        assert len(rows) == 1 and len(rows[0]) == 1, rows
        return rows[0][0]

    def column(self, text, args=None, conn=None):
        return [row[0] for row in self.sql(text, args, conn)]

    def copy(self, target, text, conn=None):
        with (conn or self.conn).cursor() as cur:
            cur.copy_expert(f"COPY {target} FROM STDIN", io.StringIO(text))
            return cur.rowcount

    def metric(self, name):
        """Makes a metric; the view to write into."""
        return self.one("SELECT prom_api.create_metric(%s)::text", (name,))

    def series(self, name, **labels):
        """The id of a series, made in a transaction of its own."""
        pairs = [x for kv in {"__name__": name, **labels}.items() for x in kv]
        call = "SELECT _prom_catalog.get_or_create_series_id(jsonb_object(%s::text[]))"
        return self.one(call, (pairs,))

    def samples(self, name, conn=None):
        """[(series_id, ms since 1970, bits of the value)], sorted."""
        return self.sql(f"SELECT series_id, (extract(epoch FROM time) * 1000)::int8, encode(float8send(value), 'hex')"
                        f" FROM prom_metric.{name} ORDER BY 1, 2, 3", conn=conn)

    def count(self, name, conn=None):
        return self.one(f"SELECT count(*) FROM prom_metric.{name}", conn=conn)

    def blocks(self, table="fresh"):
        """(format, series, samples) of stored blocks, in the order of ids."""
        return self.sql(f"SELECT format, n_series, n_samples FROM _prom_data.{table} ORDER BY id")

    def maintain(self):
        self.sql("CALL prom_api.execute_maintenance(force => true)")


class Server(Cluster):
    def create(self, extension="CREATE EXTENSION promscale"):
        return Database(self, self.new_database(script=extension))


@pytest.fixture(scope="session")
def server():
    s = Server("statement_timeout = '100s'")
    yield s
    s.close()


@pytest.fixture
def db(server):
    d = server.create()
    d.sql("SELECT prom_api.set_default_retention_period('1000 years')")
    yield d
    d.close()
    server.drop(d.name)
