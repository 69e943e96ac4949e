"""One throw-away cluster for these tests (user postgres, unix socket only); each test gets a database of its
own with the extension in it. The extension must be installed where PG_CONFIG points: tests/sql/run sees to it.
"""
import pathlib
import shutil
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from cluster import Cluster, fixtures
from database import Database


class Server(Cluster):
    def __init__(self, conf=""):
        super().__init__(f"statement_timeout = '100s'\n{conf}")

    def folder(self, name):
        """A folder that the cluster's user may write."""
        made = self.dir / name
        made.mkdir(mode=0o700)
        if self.as_postgres:
            shutil.chown(made, "postgres", "postgres")
        return made

    def create(self, extension="CREATE EXTENSION promscale"):
        return Database(self, self.new_database(script=extension))


server, db, shared_db = fixtures(Server)
