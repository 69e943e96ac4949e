"""A metric is dropped while connectors that know it go on storing."""
import threading
import time

from harness.process import SLOW, wait_until


def view_rows(p, name):
    p.sql("SELECT _prom_catalog.make_metric_views()")
    return p.sql(f"SELECT (extract(epoch FROM time) * 1000)::int8, value FROM prom_metric.{name} ORDER BY 1, 2")


def test_dropped_and_written_again(promscale):
    """The connector has the series in its cache: it is told that they are void, and stores under new ones."""
    p, now = promscale, int(time.time() * 1000)
    several = [({"__name__": n, "host": "a"}, [(now, 1.0)]) for n in ("dropped", "kept")]
    p.write(several)
    before = p.sql("SELECT id FROM prom_info.metric WHERE metric_name = 'dropped'")
    assert view_rows(p, "dropped") == view_rows(p, "kept") == [(now, 1.0)]
    p.sql("SELECT prom_api.drop_metric('dropped')")
    assert p.sql("SELECT 1 FROM prom_info.metric WHERE metric_name = 'dropped'") == []
    p.write([({"__name__": n, "host": "a"}, [(now + 1, 2.0)]) for n in ("dropped", "kept")])
    assert view_rows(p, "dropped") == [(now + 1, 2.0)]
    assert view_rows(p, "kept") == [(now, 1.0), (now + 1, 2.0)]
    assert p.sql("SELECT id FROM prom_info.metric WHERE metric_name = 'dropped'") != before
    p.sql("CALL prom_api.execute_maintenance(force => true)")
    assert view_rows(p, "dropped") == [(now + 1, 2.0)]


def test_dropped_again_and_again_beside_two_connectors(lab):
    """Each 204 after the last drop is kept, other metrics lose nothing, and nobody waits long."""
    cluster = lab.cluster()
    cluster.sql("CREATE DATABASE promscale")
    both = [lab.promscale(uri=cluster.uri("promscale")) for _ in range(2)]
    stop, errors, acked, slowest = threading.Event(), [], [], [0.0]

    def keep_writing(p, host):
        t = int(time.time() * 1000) - 3_600_000
        try:
            while not stop.is_set():
                t += 1
                began = time.monotonic()
                p.write([({"__name__": n, "host": host}, [(t, 1.0)]) for n in ("dropped", "kept")])
                acked.append((time.monotonic(), host, t))
                slowest[0] = max(slowest[0], time.monotonic() - began)
        except Exception as e:
            errors.append(e)

    writers = [threading.Thread(target=keep_writing, args=(p, f"h{i}"), daemon=True) for i, p in enumerate(both)]
    for w in writers:
        w.start()
    for _ in range(6):
        seen = len(acked)
        wait_until("samples come", lambda: len(acked) > seen + 20 or errors, 30)
        both[0].sql("SELECT prom_api.drop_metric('dropped')")
        done = time.monotonic()
    seen = len(acked)
    wait_until("samples come", lambda: len(acked) > seen + 20 or errors, 30)
    stop.set()
    for w in writers:
        w.join(60)
    assert not errors
    assert slowest[0] < 3 * SLOW
    both[0].sql("CALL prom_api.execute_maintenance(force => true)")
    both[0].sql("SELECT _prom_catalog.make_metric_views()")
    stored = {n: set(both[0].sql("SELECT prom_api.val(host_id), (extract(epoch FROM time) * 1000)::int8"
                                 f" FROM prom_metric.{n}")) for n in ("dropped", "kept")}
    assert stored["kept"] == {(h, t) for _, h, t in acked}
    assert {(h, t) for at, h, t in acked if at > done + 1} <= stored["dropped"] < stored["kept"]
