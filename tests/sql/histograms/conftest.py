"""One throw-away cluster; a database with the extension for each file or test."""
import pathlib
import sys

import psycopg2
import pytest

HERE = pathlib.Path(__file__).resolve().parent
for folder in (HERE.parent, HERE.parent / "catalog"):
    sys.path.insert(0, str(folder))
from cluster import Cluster, fixtures
from database import Database


class Histograms(Database):
    def error(self, text, args=None):
        with pytest.raises(psycopg2.Error) as e:
            self.sql(text, args)
        return e.value

    def notices(self, text, args=None):
        """What the statement says beside its result."""
        del self.conn.notices[:]
        self.sql(text, args)
        return [n.strip() for n in self.conn.notices]


class Server(Cluster):
    def __init__(self):
        super().__init__("statement_timeout = '100s'\nTimeZone = 'UTC'\n")

    def create(self):
        d = Histograms(self, self.new_database())
        d.conn.close()
        d.conn = self.connect(d.name)  # a session with the search_path that the installation set
        return d


server, db, shared_db = fixtures(Server)
