"""One throw-away cluster; a database with the extension for each file or test."""
import pathlib
import sys

import psycopg2
import pytest

HERE = pathlib.Path(__file__).resolve().parent
for folder in (HERE.parent, HERE.parent / "catalog"):
    sys.path.insert(0, str(folder))
from cluster import Cluster, fixtures
from database import Database, series

T0 = 1_700_006_400_000 // 86_400_000 * 86_400_000


class Integrity(Database):
    def warned(self, text, args=None):
        """(rows, what was said beside them)"""
        del self.conn.notices[:]
        rows = self.sql(text, args)
        return rows, [n.strip() for n in self.conn.notices]

    def error(self, text, args=None):
        with pytest.raises(psycopg2.Error) as e:
            self.sql(text, args)
        return e.value

    def metric(self, name, n=1):
        """(metric id, series ids) of a metric with n series that differ in label a."""
        r = self.resolve([series(name, a=f"v{i}") for i in range(n)])
        return r.metrics[0], sorted(r.series)

    def flip(self, table, where="true", at="octet_length(data) / 2", mask=1):
        self.sql(f"UPDATE _prom_data.{table} SET data = set_byte(data, {at}, get_byte(data, {at}) # {mask})"
                 f" WHERE {where}")


    def lose_chunk(self, table):
        """Takes one chunk of the first value out of a table's TOAST table, as a lost page would."""
        toast, name = self.sql("SELECT reltoastrelid::oid, reltoastrelid::regclass::text FROM pg_class"
                               " WHERE oid = %s::regclass", (table,))[0]
        self.sql("SET allow_system_table_mods = on")
        self.sql(f"UPDATE pg_class SET relkind = 'r' WHERE oid = {toast}")  # else nobody may delete
        n = self.one(f"WITH gone AS (DELETE FROM {name} WHERE chunk_id = (SELECT min(chunk_id) FROM {name})"
                     " AND chunk_seq = 1 RETURNING 1) SELECT count(*) FROM gone")
        self.sql(f"UPDATE pg_class SET relkind = 't' WHERE oid = {toast}")
        self.sql("RESET allow_system_table_mods")
        self.sql(f"VACUUM {name}")  # until then it can be read all the same
        assert n == 1


class Server(Cluster):
    def __init__(self):
        super().__init__("statement_timeout = '100s'\nTimeZone = 'UTC'\n")

    def create(self):
        d = Integrity(self, self.new_database())
        d.conn.close()
        d.conn = self.connect(d.name)  # a session with the search_path that the installation set
        return d


server, db, shared_db = fixtures(Server)
