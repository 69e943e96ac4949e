"""Retention as senders notice it: samples older than they are kept, and series that disappear under a connector."""
import threading
import time

from harness import write_request

DAY = 24 * 3600 * 1000
RETENTION_ASKED_S = 85  # once a minute, and three tries


def now_ms():
    return int(time.time() * 1000)


def old_and_new(name, now):
    return write_request([({"__name__": name, "n": "1"}, [(now - 200 * DAY, 1.0), (now - 80 * DAY, 2.0), (now, 3.0)])])


def times_of(p, name, now):
    p.sql("SELECT _prom_catalog.make_metric_views()")
    return [now - t for (t,) in p.sql(f'SELECT (extract(epoch FROM time) * 1000)::int8 FROM prom_metric."{name}" ORDER BY 1')]


def test_samples_older_than_they_are_kept(lab):
    """Counted as a rule, refused or just taken if so set."""
    for mode, status, counted, kept in (("count", 204, 1, 3), ("refuse", 400, 1, 2), ("accept", 204, 0, 3)):
        p = lab.promscale(args=["--self-scrape=false", f"--ingest.old-samples={mode}"])
        now = now_ms()
        # the first request waits for the resolver, which asks for the period before it
        assert p.post_write(write_request([({"__name__": "first"}, [(now, 1.0)])])).status == 204
        answer = p.post_write(old_and_new(f"odd_{mode}", now))
        assert answer.status == status, answer.body
        if mode == "refuse":
            assert b"1 sample(s) out of bounds: older than the series is kept" in answer.body and b'n="1"' in answer.body
            assert p.metrics()['promscale_ingest_items_refused_total{type="metric",reason="old"}'] == 1
        assert p.metrics().get('promscale_ingest_old_samples_total{type="metric"}', 0) == counted
        assert times_of(p, f"odd_{mode}", now) == [200 * DAY, 80 * DAY, 0][3 - kept:]
        p.stop()


def test_old_is_what_the_rules_of_the_series_say(lab):
    """Selector before metric before tenant before default; a rule that does not delete yet refuses nothing."""
    p = lab.promscale(args=["--self-scrape=false", "--ingest.old-samples=refuse"])
    now = now_ms()
    p.sql("SELECT prom_api.set_metric_retention_period('week', '7 days'),"
          " prom_api.set_retention('{env=\"dev\"}', '3 days'), prom_api.set_retention('{env=~\"de.\",keep=\"1\"}', '0'), prom_api.set_tenant_retention('', '20 days')")
    cases = [({"__name__": "week"}, 7), ({"__name__": "other"}, 20), ({"__name__": "week", "env": "dev"}, 3),
             ({"__name__": "other", "env": "dev"}, 3), ({"__name__": "week", "env": "dev", "keep": "1"}, None)]

    def restart():  # it asks at its start, then once a minute; the first request waits for that
        p.restart()
        assert p.post_write(write_request([({"__name__": "first"}, [(now, 1.0)])])).status == 204

    def statuses(case, labels):
        return [p.post_write(write_request([({**labels, "case": case}, [(now - d * DAY, 1.0)])])).status
                for d in (2, 5, 10, 30, 1000)]

    restart()
    assert statuses("grace", cases[3][0])[:4] == [204] * 4
    p.sql("SELECT _prom_catalog.set_setting('retention_grace', '0'), _prom_catalog.note_retention()")
    p.sql("UPDATE _prom_catalog.retention_memory SET held_until = now()")
    restart()
    for i, (labels, days) in enumerate(cases):
        for _ in range(2):  # new, and known
            assert statuses(f"c{i}", labels) == [204 if days is None or d < days else 400 for d in (2, 5, 10, 30, 1000)]
    p.stop()


def test_series_disappear_under_a_connector(lab):
    """A connector writes to series that retention empties and garbage collection deletes, again and again: every
    acknowledged sample that is young enough is there, once."""
    p = lab.promscale(args=["--self-scrape=false"])
    p.sql("SELECT _prom_catalog.set_setting('series_grace', '0'), _prom_catalog.set_setting('retention_grace', '0')")
    stop, acked, refused = threading.Event(), [], []

    def send():
        i = 0
        while not stop.is_set():
            now = now_ms()
            name = f"s{i % 5}"
            # most of the time old samples alone, which leave their series empty when they go
            t = now if i % 7 == 0 else now - 100 * DAY + i
            answer = p.post_write(write_request([({"__name__": "vanishing", "n": name}, [(t, float(i))])]))
            if answer.status == 204:
                acked.append((name, t, float(i)))
            else:
                refused.append(answer.status)
            i += 1

    sender = threading.Thread(target=send)
    sender.start()
    gone = 0
    end = time.monotonic() + 20
    while time.monotonic() < end:
        for step in ("fold", "retention", "expire_series"):
            p.sql("SELECT outcome FROM _prom_catalog.run_step(%s, true)", [step])
        gone = p.sql("SELECT generation FROM _prom_catalog.state")[0][0]
    stop.set()
    sender.join()
    assert not refused
    young = sorted(x for x in acked if x[1] > now_ms() - 80 * DAY)
    p.sql("SELECT _prom_catalog.make_metric_views()")
    seen = sorted((n, int(t), v) for n, t, v in p.sql(
        "SELECT prom_api.val(n_id), (extract(epoch FROM time) * 1000)::int8, value FROM prom_metric.vanishing"
        " WHERE time > now() - interval '80 days'"))
    assert len(young) > 10 and seen == young
    assert p.metrics()['promscale_ingest_flush_failures_total{type="metric",verdict="generation"}'] >= 0
    assert gone > 0


def test_new_series_come_in_where_nobody_can_say_how_long_they_are_kept(lab):
    p = lab.promscale(args=["--self-scrape=false"])
    now = now_ms()
    assert p.post_write(write_request([({"__name__": "first"}, [(now, 1.0)])])).status == 204
    p.sql("INSERT INTO _prom_catalog.setting_override VALUES ('retention_period', 'for ever')")
    time.sleep(RETENTION_ASKED_S)
    assert p.post_write(write_request([({"__name__": "second"}, [(now, 1.0)])])).status == 204
    p.stop()
