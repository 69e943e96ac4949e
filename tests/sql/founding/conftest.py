"""The data of the founding document, written in each of the real ways: a connector's flushes, the same sealed by
maintenance, and INSERT from SQL. What the document promises must not depend on it.

The extension must be installed where PG_CONFIG points: tests/sql/run sees to it.
"""
import json
import os
import pathlib
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "catalog")]
from cluster import Cluster
from database import Database, insert_of, series

HOUR_S = 3600
DEV = {"namespace": "dev", "node": "pinky"}
PRODUCTION = {"namespace": "production", "node": "brain"}
WAYS = ["flushed", "sealed", "inserted"]


class Document(Database):
    def __init__(self, server, way="flushed"):
        super().__init__(server, server.new_database())
        self.conn.close()
        self.conn = self.connect()  # a session that began after the installation
        self.way = way
        # within one window of 8 hours that was over an hour ago
        self.t0 = self.one("SELECT (floor(extract(epoch FROM now()) / 28800) * 28800)::int8") - 20 * HOUR_S

    def load(self, *several):
        """(metric, labels, values): a sample a minute from t0 on."""
        if self.way == "inserted":
            for metric, labels, values in several:
                self.sql("SELECT create_metric(%s)", (metric,))
                for i, value in enumerate(values):
                    self.sql(f'INSERT INTO prom_data."{metric}" (time, value, labels)'
                             " VALUES (to_timestamp(%s), %s, %s)", (self.t0 + 60 * i, value, json.dumps(labels)))
        else:
            got = self.resolve([series(metric, **labels) for metric, labels, _ in several])
            names = list(dict.fromkeys(metric for metric, _, _ in several))
            self.sql(f"BEGIN; SELECT _prom_catalog.guard({got.generation});" + "".join(
                insert_of("fresh", got.metrics[n], [
                    (got.metrics[n], s, (self.t0 + 60 * i) * 1000, value)
                    for s, (metric, _, values) in zip(got.series, several) if metric == name
                    for i, value in enumerate(values)])
                for n, name in enumerate(names)) + "COMMIT")
        self.views()
        if self.way == "sealed":
            self.maintain()

    def maintain(self):
        self.sql("CALL execute_maintenance(force => true)")

    def psql(self, text):
        """What psql prints, unaligned: a list of rows of cells."""
        done = self.server.client("psql", "-X", "-q", "-A", "-v", "ON_ERROR_STOP=1", "-d", self.name, input=text,
                                  check=False, env={**os.environ, "PGTZ": "UTC"})
        assert done.returncode == 0, done.stderr
        return [line.split("|") for line in done.stdout.splitlines()]

    def labels_of(self, text, *args):
        """Rows whose first column is a series' labels, without the metric's name."""
        return sorted(((tuple(sorted((k, v) for k, v in row[0].items() if k != "__name__")), *row[1:])
                       for row in self.sql(text, args)), key=repr)


def key(labels):
    return tuple(sorted(labels.items()))


@pytest.fixture(scope="session")
def server():
    s = Cluster("statement_timeout = '100s'")
    yield s
    s.close()


def document(server, way):
    d = Document(server, way)
    yield d
    d.close()
    server.drop(d.name)


@pytest.fixture(scope="module", params=WAYS)
def db(server, request):
    """cpu_usage and cpu_total of two nodes."""
    for d in document(server, request.param):
        d.load(("cpu_total", DEV, (10.0, 20.0)), ("cpu_total", PRODUCTION, (50.0, 60.0)))
        d.load(("cpu_usage", DEV, (0.1, 0.2)), ("cpu_usage", PRODUCTION, (0.5, 0.6)))
        yield d


@pytest.fixture(scope="module", params=WAYS)
def later(server, request):
    """The same, and then more labels: new_tag, two regions of a node, a zone."""
    for d in document(server, request.param):
        d.load(("cpu_total", DEV, (10.0, 20.0)), ("cpu_total", PRODUCTION, (50.0, 60.0)))
        d.load(("cpu_usage", DEV, (0.1, 0.2)), ("cpu_usage", PRODUCTION, (0.5, 0.6)))
        d.load(("cpu_usage", {**PRODUCTION, "new_tag": "value"}, (0.7,)))
        d.load(("cpu_usage", {**DEV, "region": "East"}, (1.0,)), ("cpu_usage", {**DEV, "region": "West"}, (2.0,)),
               ("cpu_usage", {"namespace": "prod", "node": "pinky", "zone": "us-a1-east"}, (3.0,)))
        yield d


@pytest.fixture
def own(server):
    """An empty database for one test."""
    yield from document(server, "flushed")
