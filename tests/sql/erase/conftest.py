"""The databases of ../metrics, and a look at the files below them."""
import importlib.util
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "catalog"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
spec = importlib.util.spec_from_file_location("metrics_conftest",
                                              pathlib.Path(__file__).resolve().parents[1] / "metrics" / "conftest.py")
metrics = importlib.util.module_from_spec(spec)
spec.loader.exec_module(metrics)
HOUR, DAY = metrics.HOUR, metrics.DAY


class Erase(metrics.Metrics):
    def round(self, force=False):
        """A round of maintenance as a worker does it."""
        self.sql(f"CALL execute_maintenance(force => {force})")
        for command in self.column("SELECT _prom_catalog.take_vacuums()"):
            self.sql(command)

    def files(self):
        """{path: bytes} of what the database has on disk: every fork of every relation, system catalogs, too."""
        self.sql("CHECKPOINT")
        folder = self.server.data / "base" / str(self.one("SELECT oid FROM pg_database WHERE datname = %s", (self.name,)))
        return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}

    def found(self, needles):
        """Which of these byte strings are in which files."""
        files = self.files()
        names = dict(self.sql("SELECT pg_relation_filenode(oid)::text, oid::regclass::text FROM pg_class"
                              " WHERE relkind IN ('r', 'i', 't', 'S')"))
        return {(names.get(name.split("_")[0].split(".")[0], name), needle)
                for name, data in files.items() for needle in needles if needle in data}

    def put(self, metric, labels, samples):
        """samples: (ms, value)."""
        self.sql(f'INSERT INTO prom_data."{metric}" (time, value, labels)'
                 " SELECT to_timestamp(t::numeric / 1000), v, %s::jsonb FROM unnest(%s::int8[], %s::float8[]) u (t, v)",
                 (labels, [t for t, _ in samples], [v for _, v in samples]))

    def shown(self, metric):
        return {(s, t): v for s, t, v in self.sql(
            f'SELECT series_id, (extract(epoch FROM time) * 1000)::int8, value FROM prom_metric."{metric}"')}


class Server(metrics.Server):
    def create(self):
        return Erase(self, self.new_database())


server, db, shared_db = metrics.fixtures(Server)
