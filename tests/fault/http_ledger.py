"""Samples that are written by remote write, and what became of them: acknowledged ones must be there, others may be."""
import threading
import time

METRICS = ("acked_wide", "acked_small", "acked_churn")


def value_of(n, k):
    """One of its own for each sample, and one that does not compress."""
    return n + ((n * 10_000_019 + k) * 0x9E3779B97F4A7C15 % (1 << 52)) / (1 << 52)


class HttpLedger:
    """One client; churn: each request brings a series of its own."""

    def __init__(self, promscale, number=0, series=10):
        self.p, self.number, self.n_series = promscale, number, series
        self.t0 = (int(time.time()) - 4 * 3600) * 1000
        self.k = 0
        self.statuses = set()
        self.acked, self.sent = {}, {}  # {(metric, writer, n, t_ms): value}
        self.unanswered = []            # requests to be sent again

    def request(self, samples):
        """The next samples of all series: (keys, remote write's series)."""
        times = range(self.k, self.k + samples)
        wanted = [(METRICS[0], n) for n in range(self.n_series)] + [(METRICS[1], 0), (METRICS[2], self.k)]
        self.k += samples
        keys, series = {}, []
        for metric, n in wanted:
            points = [(self.t0 + k * 20 + self.number, value_of(n, k)) for k in times]
            keys.update({(metric, self.number, n, t): v for t, v in points})
            series.append(({"__name__": metric, "writer": str(self.number), "n": str(n)}, points))
        return keys, series

    def send(self, keys, series):
        self.sent.update(keys)
        try:
            status = self.p.write(series, expect=None).status
        except OSError:
            status = None
        self.statuses.add(status)
        if status in (200, 204):
            self.acked.update(keys)
        return status

    def write(self, samples):
        keys, series = self.request(samples)
        status = self.send(keys, series)
        if status not in (200, 204):
            self.unanswered.append((keys, series))
        return status

    def send_again(self, seconds=60):
        """Until all have been taken."""
        end = time.monotonic() + seconds
        while self.unanswered:
            if self.send(*self.unanswered[0]) in (200, 204):
                self.unanswered.pop(0)
            else:
                assert time.monotonic() < end, f"never taken: {self.statuses}"
                time.sleep(0.1)

    def keys(self, sql=None):
        """(acknowledged, all that were sent) by ids of series, as in examine.py."""
        return keys_of(sql or self.p.sql, [self])


def keys_of(sql, ledgers):
    ids = {(metric, int(writer), int(n)): i for i, metric, writer, n in sql(
        "SELECT s.id, m.metric_name, prom_api.jsonb(s.labels)->>'writer', prom_api.jsonb(s.labels)->>'n'"
        " FROM _prom_catalog.series s JOIN _prom_catalog.metric m ON m.id = s.metric_id"
        " WHERE m.metric_name = ANY (%s)", (list(METRICS),))}

    def by_id(samples):
        return {(ids[k[:3]], k[3]): v for k, v in samples.items() if k[:3] in ids}

    acked, sent = {}, {}
    for ledger in ledgers:
        lost = [k for k in ledger.acked if k[:3] not in ids]
        assert not lost, f"series of acknowledged samples are lost: {lost[:3]}"
        acked.update(by_id(ledger.acked))
        sent.update(by_id(ledger.sent))
    return acked, sent


class Writing(threading.Thread):
    """A ledger that writes until it is told to stop, each request until it is taken (or given up, then it may be there)."""

    def __init__(self, ledger, samples=20, pause_s=0.0):
        super().__init__(daemon=True)
        self.ledger, self.samples, self.pause_s = ledger, samples, pause_s
        self.stop_event = threading.Event()
        self.start()

    def run(self):
        while not self.stop_event.is_set():
            keys, series = self.ledger.request(self.samples)
            while self.ledger.send(keys, series) not in (200, 204) and not self.stop_event.wait(0.05):
                pass
            self.stop_event.wait(self.pause_s)

    def end(self):
        self.stop_event.set()
        self.join(60)
        assert not self.is_alive()
