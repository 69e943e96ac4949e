"""build/promscale as a user has it, with handles for what a user cannot easily do: kill -9 of each part."""
import collections
import http.client
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psycopg2

from . import remote_write
from .peers import parse_metrics
from .postgres import BIN, BIN_IS_CHOSEN
from .process import BUILD, SLOW, Process, alive, children, command_line, free_port, wait_until

Answer = collections.namedtuple("Answer", "status headers body")


class Promscale:
    """One data folder (or one external database) and the connector on it, which may come and go.

    p = lab.promscale()           starts it and waits until it is ready
    p = lab.promscale(start=False)

    With a template (a data folder of a stopped promscale) the first start finds a copy of it, which is
    quicker than a new cluster.
    """

    def __init__(self, folder, name="promscale", data_dir=None, args=(), env=None, uri=None, template=None):
        self.folder = Path(folder)
        self.name = name
        self.uri = uri
        self.data_dir = None if uri else Path(data_dir or self.folder / f"{name}-data")
        self.template = template if not uri and not data_dir else None
        self.args = [str(a) for a in args]
        self.env = dict(env or {})
        self.port = free_port()
        self.process = None
        self.starts = 0
        self.ready_after_s = None

    # ---- life ------------------------------------------------------------------------------------

    @property
    def program(self):
        return BUILD / "promscale"

    def command(self):
        where = ["--db.uri", self.uri] if self.uri else ["--data-dir", self.data_dir]
        return [self.program, *where, "--web.listen-address", f"127.0.0.1:{self.port}", *self.args]

    def environment(self):
        env = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "PROMSCALE_"))}
        if BIN_IS_CHOSEN:
            env["PROMSCALE_EMBEDDED_BIN_DIR"] = str(BIN)
        env.update(self.env)
        return env

    def start(self, wait=True, timeout=60):
        """Starts the connector; with wait, until /-/ready says yes."""
        assert self.process is None or not self.process.running(), "is running already"
        if self.template and self.starts == 0:
            subprocess.run(["cp", "-a", str(self.template), str(self.data_dir)], check=True)
        self.starts += 1
        self.started_at = time.monotonic()
        self.process = Process(f"{self.name}-{self.starts}", self.command(), self.folder, env=self.environment())
        if wait:
            self.wait_ready(timeout)
        return self

    def wait_ready(self, timeout=60):
        def ready():
            assert self.process.running(), f"promscale ended with {self.process.child.returncode}:\n{self.err[-2000:]}"
            return self.is_ready()

        wait_until("promscale is not ready", ready, timeout, every=0.02)
        self.ready_after_s = time.monotonic() - self.started_at

    def is_ready(self):
        try:
            return self.http("GET", "/-/ready", timeout=2).status == 200
        except OSError:
            return False

    def stop(self, number=signal.SIGTERM, timeout=60):
        """Asks it to stop; returns the exit code."""
        return self.process.stop(number, timeout)

    def kill(self):
        """kill -9 of the connector alone; the database lives on."""
        return self.process.kill()

    def restart(self, number=signal.SIGTERM):
        assert self.stop(number) == 0, self.err[-2000:]
        return self.start()

    def run_to_end(self, timeout=60):
        """For starts that are expected to fail: (exit code, what it said on stderr)."""
        self.start(wait=False)
        return self.process.wait(timeout), self.err

    @property
    def out(self):
        """stdout of the last start."""
        return self.process.out

    @property
    def err(self):
        """stderr (the log) of the last start."""
        return self.process.err

    def close(self):
        """Ends all of it at once, wherever it stands."""
        socket = self.server_file().get("socket") if self.data_dir else None
        if self.process:
            self.process.close()
        pid = self.postmaster_pid()
        if pid:
            os.kill(pid, signal.SIGCONT)
            os.kill(pid, signal.SIGQUIT)
            wait_until("the database server does not end", lambda: not alive(pid), 20)
        for backend in self.leftover_pids():
            os.kill(backend, signal.SIGKILL)
        if socket:
            shutil.rmtree(socket, ignore_errors=True)

    # ---- HTTP ------------------------------------------------------------------------------------

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def http(self, method, path, body=None, headers=None, timeout=30):
        """One request on a connection of its own. OSError if there is no answer."""
        conn = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout * SLOW)
        try:
            conn.request(method, path, body=body, headers=headers or {})
            r = conn.getresponse()
            return Answer(r.status, r.headers, r.read())
        except http.client.HTTPException as e:
            raise OSError(f"no answer: {e!r}") from e
        finally:
            conn.close()

    def keep_connection(self, timeout=30):
        """An http.client connection for several requests, the caller's to use."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout * SLOW)

    def get(self, path, **kw):
        return self.http("GET", path, **kw)

    def post_write(self, body, path="/api/v1/write", headers=None, timeout=60):
        """A remote write with a body as it is."""
        return self.http("POST", path, body, {**remote_write.HEADERS, **(headers or {})}, timeout)

    def write(self, series, families=(), expect=(200, 204)):
        """Writes series (see remote_write) and checks the answer's status."""
        answer = self.post_write(remote_write.write_request(series, families))
        if expect:
            wanted = expect if isinstance(expect, (tuple, list)) else (expect,)
            assert answer.status in wanted, f"{answer.status}: {answer.body[:500]!r}"
        return answer

    def write_retrying(self, series, timeout=60, families=()):
        """As Prometheus does: again and again while there is no answer or 5xx. Returns the last answer."""
        body = remote_write.write_request(series, families)

        def sent():
            try:
                answer = self.post_write(body)
            except OSError:
                return None
            return answer if answer.status < 500 else None

        return wait_until("the write was never taken", sent, timeout, every=0.1)

    def metrics(self):
        """/metrics as {'name{labels}': value}."""
        return parse_metrics(self.get("/metrics").body.decode())

    # ---- SQL -------------------------------------------------------------------------------------

    def server_file(self):
        """What DATA/server says of the running database, {} when there is none."""
        try:
            lines = (self.data_dir / "server").read_text().splitlines()
        except OSError:
            return {}
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def dsn(self, **more):
        """libpq string for the database, as its superuser (embedded) or as the URI says."""
        if self.uri:
            return psycopg2.extensions.make_dsn(self.uri, **more)
        at = self.server_file()
        return psycopg2.extensions.make_dsn(**{"host": at["socket"], "port": at["port"], "user": at["user"],
                                               "dbname": at["database"], **more})

    def connect(self, **more):
        """A psycopg2 connection in autocommit mode."""
        conn = psycopg2.connect(self.dsn(**more))
        conn.autocommit = True
        return conn

    def sql(self, query, params=None, **more):
        """Rows of one query on a connection of its own; [] for statements without any."""
        conn = self.connect(**more)
        try:
            with conn.cursor() as cur:
                cur.execute(query, params)
                return cur.fetchall() if cur.description else []
        finally:
            conn.close()

    def sql_command(self, *psql_args, data_dir=None, env=None, stdin=""):
        """`promscale sql ... -- psql_args`, to its end."""
        argv = [self.program, "sql", "--data-dir", str(data_dir or self.data_dir), "--", *psql_args]
        return subprocess.run([str(a) for a in argv], input=stdin, capture_output=True, text=True, check=False,
                              env={**self.environment(), **(env or {})}, timeout=60 * SLOW)

    # ---- the database's processes ----------------------------------------------------------------

    def postmaster_pid(self):
        """Pid of the living embedded postmaster, None if there is none."""
        if not self.data_dir:
            return None
        try:
            pid = int((self.data_dir / "pg" / "postmaster.pid").read_text().split("\n")[0])
        except (OSError, ValueError):
            return None
        return pid if alive(pid) and str(self.data_dir) in command_line(pid) else None

    def kill_postmaster(self, number=signal.SIGKILL):
        pid = self.postmaster_pid()
        assert pid, "no postmaster"
        os.kill(pid, number)
        wait_until("the postmaster lives on", lambda: not alive(pid), 20, every=0.01)
        return pid

    def backend_pids(self, title=""):
        """Children of the postmaster whose process title holds `title` ("postgres: ... idle")."""
        pid = self.postmaster_pid()
        return [c for c in children(pid) if title in command_line(c)] if pid else []

    def connector_backend_pids(self):
        """Backends that serve the connector (not the server's own workers)."""
        return self.backend_pids(" postgres promscale ")

    def leftover_pids(self):
        """Server processes on this data folder whose postmaster is gone."""
        if not self.data_dir:
            return []
        found = []
        for entry in os.listdir("/proc"):
            try:
                if entry.isdigit() and os.readlink(f"/proc/{entry}/cwd") == str(self.data_dir / "pg"):
                    found.append(int(entry))
            except OSError:
                continue
        return [p for p in found if alive(p)]
