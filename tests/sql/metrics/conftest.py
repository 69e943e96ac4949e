"""The cluster and databases of ../catalog; each test has a database, a session with its search_path, and time."""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "catalog"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from cluster import Cluster, fixtures
from database import Database, series

HOUR = 3600 * 1000
DAY = 24 * HOUR


class Metrics(Database):
    """With what is stored, in a few words."""
    today = None

    def now_ms(self):
        return int(self.one("SELECT (extract(epoch FROM now()) * 1000)::int8"))

    def day_ms(self, days):
        """Noon of that day, counted from today."""
        if self.today is None:
            self.today = self.now_ms() // DAY * DAY
        return self.today + days * DAY + 12 * HOUR

    def make(self, name, **labels):
        """A series of the metric, with its views: (metric id, series id)."""
        r = self.resolve([series(name, **labels)])
        self.views()
        return r.metrics[0], r.series[0]

    def maintain(self):
        self.sql("CALL execute_maintenance(force => true)")

    def count(self, table, where="true", args=None):
        return self.one(f"SELECT count(*) FROM {table} WHERE {where}", args)

    def times(self, metric):
        """Times of the samples that the metric's view shows, in ms."""
        return sorted(self.column(f'SELECT (extract(epoch FROM time) * 1000)::int8 FROM prom_metric."{metric}"'))


class Server(Cluster):
    def __init__(self):
        super().__init__("statement_timeout = '100s'")

    def create(self):
        return Metrics(self, self.new_database())


server, db, shared_db = fixtures(Server)
