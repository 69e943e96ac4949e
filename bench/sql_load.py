"""Data for bench/sql.py: metrics as a fleet of node exporters would send them, written into a running
promscale by remote write, in order of time and from several connections.

Made from a seed, so that sending all of it again is a full duplicate. All series of an instance share
their scrape times: every 15 s, 5 % of them up to 20 ms late. Values are what counters and gauges of a
machine look like: multiples of 0.01, small steps.
"""
import array
import concurrent.futures
import http.client
import itertools
import os
import random
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "e2e"))
from harness import remote_write  # noqa: E402

STEP_MS = 15000
MODES = ["idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user"]
SAMPLES_A_REQUEST = 50000


class Metric:
    """n_samples of each series, the last one at about end_ms. labels: one dict a series, made of
    `instance` and others; series of one instance follow each other."""

    def __init__(self, name, labels, n_samples, end_ms, seed):
        rng = random.Random(seed)
        self.name, self.labels, self.n_samples = name, labels, n_samples
        self.start_ms = end_ms // STEP_MS * STEP_MS - (n_samples - 1) * STEP_MS
        grid = [self.start_ms + i * STEP_MS for i in range(n_samples)]
        self.times, by_instance = [], {}
        self.values = []
        for one in labels:
            instance = one["instance"]
            if instance not in by_instance:
                by_instance[instance] = [t + rng.randrange(1, 21) if rng.random() < 0.05 else t for t in grid]
            self.times.append(by_instance[instance])
            widest = rng.choice([1, 3, 20, 100, 1500])
            steps = rng.choices(range(widest), k=n_samples)
            steps[0] = rng.randrange(10_000_000)
            self.values.append(array.array("d", [x / 100 for x in itertools.accumulate(steps)]))

    @property
    def end_ms(self):
        return self.start_ms + (self.n_samples - 1) * STEP_MS

    @property
    def count(self):
        return self.n_samples * len(self.labels)

    def bodies(self):
        """Request bodies: pieces of time, and of each the series in turn."""
        span = min(100, self.n_samples)
        heads = [b"".join(remote_write.field(1, remote_write.label(k, v))
                          for k, v in sorted({"__name__": self.name, **one}.items())) for one in self.labels]
        group = max(1, SAMPLES_A_REQUEST // span)
        for at in range(0, self.n_samples, span):
            n = min(span, self.n_samples - at)
            args = [b"\x12\x10\x09"] * (3 * n)  # a sample: 16 bytes, value as field 1, time as field 2
            pack = struct.Struct("<" + "3sd7s" * n).pack
            for first in range(0, len(heads), group):
                message = []
                for i in range(first, min(first + group, len(heads))):
                    args[1::3] = self.values[i][at:at + n]
                    args[2::3] = [b"\x10" + remote_write.varint(t) for t in self.times[i][at:at + n]]
                    message.append(remote_write.field(1, heads[i] + pack(*args)))
                yield remote_write.snappy(b"".join(message))


def nodes(n_series):
    """Labels of n_series: instance and mode."""
    return [{"job": "node", "instance": f"node-{i // len(MODES):04}:9100", "mode": MODES[i % len(MODES)]}
            for i in range(n_series)]


def pods(n_series):
    return [{"job": "kubelet", "instance": f"node-{i // 500:04}:10250", "pod": f"pod-{i:06}"} for i in range(n_series)]


def send(host, port, metrics, conns=3):
    """All of the metrics' samples; raises if one request is not accepted."""
    def run(batch):
        conn = http.client.HTTPConnection(host, port, timeout=60)
        for body in batch:
            conn.request("POST", "/api/v1/write", body, remote_write.HEADERS)
            answer = conn.getresponse()
            text = answer.read()
            if answer.status not in (200, 204):
                raise RuntimeError(f"write answered {answer.status}: {text[:300]!r}")
        conn.close()

    with concurrent.futures.ThreadPoolExecutor(conns) as pool:
        for metric in metrics:
            bodies, waiting = metric.bodies(), []
            for body in bodies:
                waiting.append(pool.submit(run, [body]))
                if len(waiting) >= 2 * conns:
                    waiting.pop(0).result()
            for one in waiting:
                one.result()
