"""Real Prometheus and node_exporter, as tools/setup unpacked them into build/peers.

Another Prometheus: PROMSCALE_TEST_PROMETHEUS=/path/to/prometheus.
"""
import json
import os
import signal
import time
import urllib.parse
import urllib.request
from pathlib import Path

from .process import ROOT, SLOW, Process, free_port, wait_until

PEERS = ROOT / "build" / "peers" / "usr" / "bin"
PROMETHEUS = Path(os.environ.get("PROMSCALE_TEST_PROMETHEUS", PEERS / "prometheus"))
PROMTOOL = PROMETHEUS.with_name("promtool")
NODE_EXPORTER = PEERS / "prometheus-node-exporter"


def get_json(url, params=None, timeout=30):
    if params:
        url += "?" + urllib.parse.urlencode(params, doseq=True)
    with urllib.request.urlopen(url, timeout=timeout * SLOW) as r:
        return json.load(r)


def parse_metrics(text):
    """Text exposition as {'name{labels}': value}."""
    out = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            key, _, value = line.rpartition(" ")
            out[key] = float(value)
    return out


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
                 global_config="", args=(), send_exemplars=True, more="", remote_read=None):
        """remote_read: a URL that is asked for samples of any age. more: further lines of the remote_write entry. With send_exemplars=False and without any, the entry
        is the URL alone."""
        self.folder = Path(folder)
        self.name = name
        self.port = free_port()
        self.args = list(args)
        self.starts = 0
        jobs = {"prometheus": f"127.0.0.1:{self.port}", **(targets or {})}
        self.head = ["global:", f"  scrape_interval: {scrape_interval}", *(f"  {x}" for x in global_config.splitlines())]
        self.tail = []
        if remote_write:
            self.tail = ["remote_write:", f"  - url: {remote_write}", *(f"    {x}" for x in more.splitlines())]
            if send_exemplars:
                self.tail += ["    send_exemplars: true"]
            if queue_config:
                self.tail += ["    queue_config:", *(f"      {x}" for x in queue_config.splitlines())]
        if remote_read:
            self.tail += ["remote_read:", f"  - url: {remote_read}", "    read_recent: true"]
        self.config = self.folder / f"{name}.yml"
        self._configure(jobs)

    def _configure(self, jobs):
        scrapes = ["scrape_configs:"]
        for job, target in jobs.items():
            scrapes += [f"  - job_name: {job}", f"    static_configs: [{{targets: [{target}]}}]"]
        self.config.write_text("\n".join([*self.head, *scrapes, *self.tail]) + "\n")
        self.jobs = jobs

    def stop_scraping(self):
        """From now on it scrapes nothing; stale markers end all its series soon. Returns the time, in ms,
        after which it has no sample other than these."""
        self._configure({job: "" for job in self.jobs})
        self.process.signal(signal.SIGHUP)
        wait_until("Prometheus goes on scraping", lambda: not self.api("targets")["activeTargets"], 30)
        return int(time.time() * 1000)

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

    def metrics(self):
        """Its /metrics right now: {'name{labels}': value}."""
        with urllib.request.urlopen(self.url + "/metrics", timeout=30 * SLOW) as r:
            return parse_metrics(r.read().decode())

    def metric_names(self):
        return self.api("label/__name__/values")

    def remote_write_counter(self, what):
        """prometheus_remote_storage_<what>: samples_pending, samples_failed_total, samples_dropped_total, ..."""
        return sum(v for k, v in self.metrics().items() if k.startswith(f"prometheus_remote_storage_{what}{{"))

    def stop(self):
        """It sends what it has queued before it ends."""
        return self.process.stop(timeout=90)

    def close(self):
        self.process.close()
