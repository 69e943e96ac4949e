"""The straight path: a sample goes in by remote write and comes out by SQL."""
import math
import struct
import time

from harness.process import wait_until

NAN_WITH_PAYLOAD = 0x7FF8DEADBEEF0001
STALE = 0x7FF0000000000002


def bits(x):
    return struct.unpack("<Q", struct.pack("<d", x))[0]


def view(p, metric):
    """Waits for the metric's view, which is made in the background."""
    wait_until(f"no view of {metric}",
               lambda: p.sql("SELECT to_regclass(%s)", [f'prom_metric."{metric}"'])[0][0] is not None, 30)


def test_first_sample(promscale):
    now = int(time.time() * 1000)
    promscale.write([({"__name__": "first_sample", "job": "test", "instance": "a:1"}, [(now, 1.5)])])
    view(promscale, "first_sample")
    rows = promscale.sql("SELECT (extract(epoch FROM time) * 1000)::bigint, value, prom_api.val(job_id),"
                         " prom_api.val(instance_id) FROM prom_metric.first_sample")
    assert rows == [(now, 1.5, "test", "a:1")]


def test_both_paths(promscale):
    from harness import write_request
    now = int(time.time() * 1000)
    for i, path in enumerate(("/write", "/api/v1/write")):
        answer = promscale.post_write(write_request([({"__name__": "paths"}, [(now + i, i)])]), path=path)
        assert answer.status in (200, 204)
    view(promscale, "paths")
    assert promscale.sql("SELECT count(*) FROM prom_metric.paths") == [(2,)]


def test_values_survive_to_the_bit(promscale):
    now = int(time.time() * 1000)
    values = [0.0, -0.0, math.inf, -math.inf, 5e-324, 1.7976931348623157e308, 0.1, 2.0**53 + 2, -1e-300,
              NAN_WITH_PAYLOAD, STALE]
    promscale.write([({"__name__": "bits"}, [(now - 1000 * i, v) for i, v in enumerate(values)])])
    view(promscale, "bits")
    rows = promscale.sql("SELECT value FROM prom_metric.bits ORDER BY time DESC")
    # by the wire's own bytes: a driver's float parsing would lose a NaN's payload
    raw = promscale.sql("SELECT encode(float8send(value), 'hex') FROM prom_metric.bits ORDER BY time DESC")
    want = [v if isinstance(v, int) else bits(v) for v in values]
    assert [int(h, 16) for (h,) in raw] == want
    assert len(rows) == len(values)


def test_first_write_wins(promscale):
    now = int(time.time() * 1000)
    for value in (1.0, 2.0, 1.0):
        promscale.write([({"__name__": "twice"}, [(now, value)])])
    view(promscale, "twice")
    assert promscale.sql("SELECT value FROM prom_metric.twice") == [(1.0,)]


def test_self_scrape_gives_something_to_select(promscale):
    def metrics():
        return [r[0] for r in promscale.sql("SELECT metric_name FROM prom_info.metric")]

    wait_until("no metrics of its own after half a minute", lambda: len(metrics()) > 5, 40)


def test_data_survive_a_restart(promscale):
    now = int(time.time() * 1000)
    promscale.write([({"__name__": "survivor", "n": str(i)}, [(now, i)]) for i in range(100)])
    view(promscale, "survivor")
    promscale.restart()
    assert promscale.sql("SELECT count(*), sum(value) FROM prom_metric.survivor") == [(100, 4950.0)]
