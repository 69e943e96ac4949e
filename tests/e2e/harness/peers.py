"""Real Prometheus and node_exporter, as tools/setup unpacked them into build/peers.

Another Prometheus: PROMSCALE_TEST_PROMETHEUS=/path/to/prometheus.
"""
import json
import os
import urllib.parse
import urllib.request
from pathlib import Path

from .process import ROOT, SLOW, Process, free_port, wait_until

PEERS = ROOT / "build" / "peers" / "usr" / "bin"
PROMETHEUS = Path(os.environ.get("PROMSCALE_TEST_PROMETHEUS", PEERS / "prometheus"))
NODE_EXPORTER = PEERS / "prometheus-node-exporter"


def get_json(url, params=None, timeout=30):
    if params:
        url += "?" + urllib.parse.urlencode(params, doseq=True)
    with urllib.request.urlopen(url, timeout=timeout * SLOW) as r:
        return json.load(r)


class NodeExporter:
    def __init__(self, folder, name="node_exporter"):
        self.port = free_port()
        self.name = name
        self.folder = folder

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def start(self):
        self.process = Process(self.name, [NODE_EXPORTER, f"--web.listen-address={self.address}"], self.folder)
        return self

    def close(self):
        self.process.close()


class Prometheus:
    """targets: {job: "host:port"}; it scrapes itself too, as job "prometheus"."""

    def __init__(self, folder, targets=None, remote_write=None, scrape_interval="1s", name="prometheus", queue_config="",
                 global_config="", args=()):
        self.folder = Path(folder)
        self.name = name
        self.port = free_port()
        self.args = list(args)
        self.starts = 0
        jobs = {"prometheus": f"127.0.0.1:{self.port}", **(targets or {})}
        lines = ["global:", f"  scrape_interval: {scrape_interval}", *(f"  {x}" for x in global_config.splitlines()),
                 "scrape_configs:"]
        for job, target in jobs.items():
            lines += [f"  - job_name: {job}", f"    static_configs: [{{targets: ['{target}']}}]"]
        if remote_write:
            lines += ["remote_write:", f"  - url: {remote_write}", "    send_exemplars: true"]
            if queue_config:
                lines += ["    queue_config:", *(f"      {x}" for x in queue_config.splitlines())]
        self.config = self.folder / f"{name}.yml"
        self.config.write_text("\n".join(lines) + "\n")

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        self.starts += 1
        self.process = Process(f"{self.name}-{self.starts}",
                               [PROMETHEUS, f"--config.file={self.config}",
                                f"--storage.tsdb.path={self.folder / (self.name + '-data')}",
                                f"--web.listen-address=127.0.0.1:{self.port}", *self.args], self.folder)
        wait_until("Prometheus is not ready", self.is_ready, 60)
        return self

    def is_ready(self):
        assert self.process.running(), f"Prometheus ended:\n{self.process.err[-2000:]}"
        try:
            with urllib.request.urlopen(self.url + "/-/ready", timeout=2) as r:
                return r.status == 200
        except OSError:
            return False

    def api(self, path, **params):
        """`data` of an API answer: api("query", query="up", time=1700000000)."""
        answer = get_json(f"{self.url}/api/v1/{path}", params)
        assert answer["status"] == "success", answer
        return answer["data"]

    def raw_samples(self, selector, start_s, end_s):
        """Every stored sample with start < time <= end: {labels as a sorted tuple of pairs: [(ms, value text)]}."""
        window = f"{selector}[{int(round((end_s - start_s) * 1000))}ms]"
        out = {}
        for series in self.api("query", query=window, time=end_s)["result"]:
            key = tuple(sorted(series["metric"].items()))
            out[key] = [(int(round(t * 1000)), v) for t, v in series["values"]]
        return out

    def metric_names(self):
        return self.api("label/__name__/values")

    def remote_write_pending(self):
        """Samples that wait to be sent, by its own metrics."""
        result = self.api("query", query="prometheus_remote_storage_samples_pending")["result"]
        return sum(float(r["value"][1]) for r in result)

    def stop(self):
        """It sends what it has queued before it ends."""
        return self.process.stop(timeout=90)

    def close(self):
        self.process.close()
