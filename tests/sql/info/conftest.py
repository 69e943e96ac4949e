"""One throw-away cluster; each test gets a database, with real label sets (catalog/database.py) and real blocks
that maintenance works on (maintenance/store.py)."""
import pathlib
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
for folder in (HERE.parent, HERE.parent / "catalog", HERE.parent / "maintenance"):
    sys.path.insert(0, str(folder))
from cluster import Cluster, fixtures
from database import Database
from store import Store


class Server(Cluster):
    def __init__(self, conf=""):
        super().__init__(f"statement_timeout = '100s'\n{conf}")

    def create(self, extension="CREATE EXTENSION promscale"):
        return Database(self, self.new_database(script=extension))


server, db, shared_db = fixtures(Server)


@pytest.fixture
def store(db):
    """The same database, for those who write flushes and run steps."""
    s = Store(db.server, db.name)
    yield s
    s.close()
