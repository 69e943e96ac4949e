"""A target that shows native histograms in Prometheus's protobuf exposition, encoded by hand: not all versions of
Prometheus have some of their own. Observations come in with every scrape; one counter starts anew now and then. It never is near zero,
where versions of Prometheus differ in how far they extrapolate.
"""
import math
import random
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from .remote_write import double, field, label, text, varint
from .remote_write_v2 import number, packed, zigzag

TYPE = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
HISTOGRAM = 4
SCHEMA, ZERO_THRESHOLD = 3, 1e-6


class Histogram:
    def __init__(self, seed, restarts):
        self.rng = random.Random(seed)
        self.restarts = restarts
        self.clear()

    def clear(self):
        self.buckets, self.zero, self.count, self.sum = {}, 0, 0, 0.0
        self.observe(3000)

    def observe_some(self):
        if self.restarts and self.rng.random() < 0.1:
            self.clear()
        self.observe(self.rng.randrange(20))

    def observe(self, n):
        for _ in range(n):
            v = self.rng.choice((0.0, self.rng.lognormvariate(-4, 1.5)))
            self.count += 1
            self.sum += v
            if v <= ZERO_THRESHOLD:
                self.zero += 1
            else:
                index = math.ceil(math.log2(v) * 2 ** SCHEMA)
                self.buckets[index] = self.buckets.get(index, 0) + 1

    def message(self):
        out = number(1, self.count) + b"\x11" + double(self.sum) + b"\x28" + zigzag(SCHEMA)
        out += b"\x31" + double(ZERO_THRESHOLD) + number(7, self.zero)
        deltas, last, before = [], None, 0
        spans = []
        for index in sorted(self.buckets):
            if last is not None and index == last + 1:
                spans[-1][1] += 1
            else:
                spans.append([index if last is None else index - last - 1, 1])
            deltas.append(zigzag(self.buckets[index] - before))
            last, before = index, self.buckets[index]
        for offset, length in spans:
            out += field(12, b"\x08" + zigzag(offset) + number(2, length))
        return out + packed(13, deltas)


class NativeTarget:
    """address: what is scraped. Metric NAME, with label code."""
    NAME = "target_request_seconds"

    def __init__(self):
        self.histograms = {code: Histogram(i, code == "500") for i, code in enumerate(("200", "404", "500"))}
        target = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):  # pylint: disable=invalid-name
                body = target.exposition()
                self.send_response(200)
                self.send_header("Content-Type", TYPE)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):  # pylint: disable=arguments-differ
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def exposition(self):
        family = field(1, text(self.NAME)) + field(2, text("Time of requests.")) + number(3, HISTOGRAM)
        for code, h in self.histograms.items():
            h.observe_some()
            family += field(4, field(1, label("code", code)) + field(7, h.message()))
        return varint(len(family)) + family

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
