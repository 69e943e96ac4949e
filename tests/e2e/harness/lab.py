"""One test's folder and everything that was started in it."""
import os
import shutil
import signal
import tempfile
from pathlib import Path

from .connector import Promscale
from .peers import NodeExporter, Prometheus
from .postgres import Cluster
from .process import alive, command_line, processes_in, wait_until


def new_folder():
    # Others must be able to enter: as root the database server runs as user postgres.
    folder = Path(tempfile.mkdtemp(prefix="promscale-e2e-"))
    os.chmod(folder, 0o755)
    return folder


class Template:
    """A data folder as a first start leaves it, made when first asked for and copied by each test."""

    def __init__(self):
        self.folder = None

    def data_dir(self):
        if not self.folder:
            self.folder = new_folder()
            p = Promscale(self.folder, name="template", args=["--self-scrape=false"])
            try:
                p.start()
                assert p.stop() == 0
            finally:
                p.close()
        return self.folder / "template-data"

    def close(self):
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)


class Lab:
    def __init__(self, template):
        self.folder = new_folder()
        self.template = template
        self.things = []

    def _keep(self, thing):
        self.things.append(thing)
        return thing

    def promscale(self, start=True, fresh=False, **kw):
        """See connector.Promscale; data_dir, args, env, uri, name. fresh: makes its cluster itself (as it
        does with a data_dir), instead of starting on a copy of one."""
        kw.setdefault("name", f"promscale{len(self.things) or ''}")
        if not fresh and not kw.get("uri") and not kw.get("data_dir"):
            kw["template"] = self.template.data_dir()
        p = self._keep(Promscale(self.folder, **kw))
        return p.start() if start else p

    def cluster(self, start=True, **kw):
        c = self._keep(Cluster(self.folder, **kw))
        return c.start() if start else c

    def prometheus(self, start=True, **kw):
        p = self._keep(Prometheus(self.folder, **kw))
        return p.start() if start else p

    def node_exporter(self):
        return self._keep(NodeExporter(self.folder)).start()

    def logs(self, tail=6000):
        """(name, end of text) of all outputs, for the report of a failed test."""
        found = sorted(self.folder.glob("*.out")) + sorted(self.folder.glob("*.err")) + sorted(
            self.folder.glob("*/pg.log"))
        for path in found:
            text = path.read_text(errors="replace")
            if text:
                yield str(path.relative_to(self.folder)), text[-tail:]

    def close(self):
        """Ends everything; fails if a process was left that nothing here knew of."""
        errors = []
        for thing in reversed(self.things):
            try:
                thing.close()
            except Exception as e:  # pylint: disable=broad-except
                errors.append(f"{thing}: {e}")
        try:
            wait_until("processes end", lambda: not processes_in(self.folder), 10)
        except AssertionError:
            for pid in processes_in(self.folder):
                errors.append(f"left behind: process {pid}: {command_line(pid)}")
                if alive(pid):
                    os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)
        assert not errors, "; ".join(errors)
