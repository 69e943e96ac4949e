"""A real Prometheus scrapes itself, node_exporter and Promscale, and writes all of it to Promscale. For a
closed span of time SQL must then say the same as Prometheus's own API: for every metric, series and sample.

One run serves all tests: half of the data is merged and sealed, the rest is as the flushes wrote it; a
target is stopped on the way.
"""
import time
from types import SimpleNamespace

import pytest
from harness import compare
from harness.compare import STALE_MARKER
from harness.process import wait_until

SECONDS = 45
REPORTS = ("up", "scrape_")  # Prometheus's own series of a target: they go on when it is down


@pytest.fixture(scope="module")
def run(module_lab):
    """What was there when Prometheus had scraped for a while and everything had arrived."""
    promscale = module_lab.promscale(args=["--self-scrape=false"])
    node = module_lab.node_exporter()
    prometheus = module_lab.prometheus(remote_write=promscale.url + "/api/v1/write",
                                targets={"node": node.address, "promscale": f"127.0.0.1:{promscale.port}"},
                                more="metadata_config: {send_interval: 5s}")

    def seen(query):
        return prometheus.api("query", query=query)["result"]

    wait_until("not all targets are scraped", lambda: len(seen("up == 1")) == 3, 30)
    start_ms = int(time.time() * 1000)

    def wait_for_second(n):
        wait_until("time does not pass", lambda: time.time() * 1000 > start_ms + n * 1000, n + 10, every=0.2)

    wait_for_second(SECONDS // 2)
    metadata = prometheus.api("metadata")
    promscale.sql("CALL prom_api.execute_maintenance(force => true)")
    wait_for_second(SECONDS * 2 // 3)
    node.close()
    wait_until("node_exporter is not missed", lambda: seen('up{job="node"} == 0'), 30)
    wait_for_second(SECONDS)
    end_ms = prometheus.stop_scraping()
    want = compare.prometheus_series(prometheus, start_ms, end_ms)
    n_wanted = sum(map(len, want.values()))

    def arrived():
        return not compare.views_missing(promscale) and sum(
            f[0] for f in compare.sql_figures(promscale, start_ms, end_ms).values()) >= n_wanted

    wait_until(f"not all of {n_wanted} samples have arrived", arrived, 60, every=0.5)
    return SimpleNamespace(promscale=promscale, prometheus=prometheus, metadata=metadata, want=want,
                           start_ms=start_ms, end_ms=end_ms)


def levels(run):
    return {r[0] for r in run.promscale.sql("SELECT level FROM _prom_data.fresh UNION SELECT level FROM"
                                            " _prom_data.merged UNION SELECT level FROM _prom_data.block")}


def test_there_is_enough_to_compare(run):
    assert len(compare.figures(run.want)) > 300
    assert len(run.want) > 1000
    assert sum(map(len, run.want.values())) > 20 * len(run.want)
    assert run.prometheus.remote_write_counter("samples_failed_total") == 0
    assert run.prometheus.remote_write_counter("samples_dropped_total") == 0


def test_figures_of_every_metric(run):
    assert {2} < levels(run)  # what came after the maintenance is fresh, or merged if it was the time of a fold
    compare.assert_same_figures(compare.figures(run.want),
                                compare.sql_figures(run.promscale, run.start_ms, run.end_ms))


def test_every_sample_of_every_series(run):
    compare.assert_same_series(run.want, compare.sql_series(run.promscale, run.start_ms, run.end_ms))


def test_stopped_target_has_stale_markers(run):
    """The first scrape that failed ended each of its series, at the time of that scrape."""
    down = min(ms for labels, samples in run.want.items() if {("__name__", "up"), ("job", "node")} <= set(labels)
               for ms, value in samples.items() if value == 0)
    got = compare.sql_series(run.promscale, run.start_ms, run.end_ms)
    ended = 0
    for labels in run.want:
        names = dict(labels)
        if names["job"] == "node" and not names["__name__"].startswith(REPORTS):
            last = max(run.want[labels])
            after = [(ms, raw) for ms, raw in got[labels] if ms > last]
            # a series that had ended before was marked then
            assert len(after) == 1 and after[0][1] == STALE_MARKER, f"{names}: {after}"
            assert after[0][0] == down or last < down - 1500, f"{names}: {after}, down since {down}"
            ended += after[0][0] == down
    assert ended > 200


def test_all_series_end_with_a_stale_marker(run):
    """Prometheus marks the end of what is no longer scraped, some seconds later."""
    def open_series():
        rows = run.promscale.sql("SELECT DISTINCT ON (series_id) series_id, encode(float8send(value), 'hex')"
                                 " FROM _prom_data.samples ORDER BY series_id, time DESC")
        return [r for r in rows if int(r[1], 16) != STALE_MARKER]

    wait_until("not all series are ended", lambda: not open_series(), 30, every=0.5)


def test_metadata(run):
    """Type and help of the metrics that are scraped stand in the catalog."""
    want = {(name, m["type"], m["help"]) for name, several in run.metadata.items() for m in several}
    assert len(want) > 300
    got = set(run.promscale.sql("SELECT metric_family, type, help FROM _prom_catalog.metadata"))
    assert want <= got, sorted(want - got)[:5]


def test_prom_info_figures(run):
    """prom_info.metric counts what the views show."""
    rows = run.promscale.sql("SELECT table_name, num_samples, num_series FROM prom_info.metric")
    with compare.session(run.promscale) as ask:
        for view, n_samples, n_series in rows:
            assert ask(f'SELECT (SELECT count(*) FROM prom_metric."{view}"),'
                       f' (SELECT count(*) FROM prom_series."{view}")') == [(n_samples, n_series)], view


def test_the_same_after_maintenance(run):
    run.promscale.sql("CALL prom_api.execute_maintenance(force => true)")
    assert levels(run) == {2}
    compare.assert_same_figures(compare.figures(run.want),
                                compare.sql_figures(run.promscale, run.start_ms, run.end_ms))
    compare.assert_same_series(run.want, compare.sql_series(run.promscale, run.start_ms, run.end_ms))
