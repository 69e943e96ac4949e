"""A PostgreSQL for these tests: unix socket only, own folder, killed at the end.

The extension must be installed in the PostgreSQL that PG_CONFIG names. One server for all tests; each
test has a database of its own. Tests that need another configuration start a server for themselves.
"""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from cluster import Cluster
from store import Store


class Server(Cluster):
    def create(self, extension=True):
        return self.new_database(script="CREATE EXTENSION promscale" if extension else None)


@pytest.fixture(scope="session")
def server():
    s = Server()
    yield s
    s.close()


@pytest.fixture
def store(server):
    st = Store(server, server.create())
    yield st
    st.close()


@pytest.fixture
def make_server():
    made = []

    def make(conf):
        made.append(Server(conf))
        return made[-1]

    yield make
    for s in made:
        s.close()
