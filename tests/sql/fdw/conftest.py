"""A PostgreSQL for these tests: unix socket only, own folder, killed at the end."""

import pytest

from fdw_server import Server


@pytest.fixture(scope="session")
def server():
    s = Server()
    yield s
    s.close()
