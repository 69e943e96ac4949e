"""Servers and databases of these tests. PG_CONFIG and PROMSCALE_TEST_PG_BIN name a PostgreSQL with our extension:
tests/fault/run sees to it."""
import pathlib
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "sql"), str(HERE.parent / "sql" / "catalog"), str(HERE.parent / "e2e")]
from cluster import Cluster
from harness import Lab, Template
from world import World

CONF = "restart_after_crash = on\ndeadlock_timeout = '200ms'\n"


def pytest_configure(config):
    config.addinivalue_line("markers", "soak: minutes, only with `make soak` or -m soak")


def pytest_collection_modifyitems(config, items):
    """Soak tests are not cases of the ordinary run: they are left out, not skipped."""
    if config.option.markexpr:
        return
    ordinary = [i for i in items if not i.get_closest_marker("soak")]
    config.hook.pytest_deselected(items=[i for i in items if i not in ordinary])
    items[:] = ordinary


@pytest.fixture(scope="session")
def server():
    """Dies and recovers many times; each test has a database of its own in it."""
    s = Cluster(CONF)
    yield s
    s.close()


@pytest.fixture
def make_server():
    made = []

    def make(conf=""):
        made.append(Cluster(CONF + conf))
        return made[-1]

    yield make
    for s in made:
        s.close()


@pytest.fixture
def world(server):
    w = World(server, server.new_database())
    yield w
    w.close()
    server.drop(w.name)


@pytest.fixture(scope="session")
def template():
    it = Template()
    try:
        yield it
    finally:
        it.close()


@pytest.fixture
def lab(template):
    it = Lab(template)
    try:
        yield it
    finally:
        it.close()
