"""Many clients at once: at most so many requests run, the others wait, and who hangs up ends its own, in the
database too."""
import json
import socket
import time
import urllib.parse

import pytest
from harness.process import SLOW, wait_until

CLIENTS = 200
RUNNING = 20  # metrics.promql.max-concurrency
PROMPT_S = 15  # far below the time-out of a query (2 minutes): it ended because its client went. An idle machine takes 2 s
T0 = 1_767_225_600
PATHS = (
    "query?" + urllib.parse.urlencode({"query": "sum(rate(req_total[5m]))", "time": T0 + 600}),
    "query_range?" + urllib.parse.urlencode({"query": "req_total", "start": T0, "end": T0 + 600, "step": 15}),
    "query_exemplars?" + urllib.parse.urlencode({"query": "req_total"}),
    "metadata",
)


@pytest.fixture
def p(lab):
    it = lab.promscale(args=["--self-scrape=false"])
    it.sql("SELECT prom_api.set_default_retention_period('1000 years')")
    it.write([({"__name__": "req_total", "i": str(i)}, [((T0 + 15 * k) * 1000, float(k)) for k in range(41)],
               [({"trace_id": "t"}, 1.0, T0 * 1000)]) for i in range(10)], families=[("req_total", "counter")])
    return it


def working(p):
    """Statements of requests that the database is at."""
    return p.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE '%query%'"
                 " AND state = 'active'")[0][0]


def gauges(p):
    m = p.metrics()
    return m["promscale_query_running"], m["promscale_query_queued"]


def ask(p, path):
    s = socket.create_connection(("127.0.0.1", p.port))
    s.sendall(f"GET /api/v1/{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return s


def test_two_hundred_clients_that_hang_up(p):
    """A lock makes all of their statements wait; it is held until all of them are gone."""
    lock = p.connect()
    lock.autocommit = False
    with lock.cursor() as cur:
        cur.execute("LOCK TABLE _prom_data.fresh, _prom_data.merged, _prom_data.block, _prom_data.exemplar,"
                    " _prom_catalog.metadata IN ACCESS EXCLUSIVE MODE")
    clients = [ask(p, PATHS[i % len(PATHS)]) for i in range(CLIENTS)]
    wait_until("requests do not come", lambda: sum(gauges(p)) == CLIENTS, 20)
    running, queued = gauges(p)
    assert (running, queued) == (RUNNING, CLIENTS - RUNNING)
    wait_until("none waits in the database", lambda: working(p) > 0, 10)
    assert working(p) <= RUNNING
    for s in clients:
        s.close()
    gone = time.monotonic()
    wait_until("requests of clients that are gone go on", lambda: gauges(p) == (0, 0) and working(p) == 0, PROMPT_S,
               every=0.05)
    print(f"all gone after {time.monotonic() - gone:.1f} s")
    lock.rollback()
    lock.close()
    began = time.monotonic()
    for path in PATHS:
        answer = p.get("/api/v1/" + path)
        assert answer.status == 200 and json.loads(answer.body)["data"]
    assert time.monotonic() - began < PROMPT_S * SLOW  # none of the 200 stands before these
    canceled = sum(v for k, v in p.metrics().items() if k.startswith("promscale_query_requests_total") and '"499"' in k)
    assert canceled >= RUNNING


def test_those_who_wait_are_answered(p):
    """Twice as many as may run: all get their answers, each its own."""
    clients = [(i, ask(p, "query?" + urllib.parse.urlencode({"query": f"sum(req_total) * 0 + {i}", "time": T0 + 600})))
               for i in range(2 * RUNNING)]
    for i, s in clients:
        s.settimeout(30 * SLOW)
        got = b""
        while b"\r\n\r\n" not in got or not got.endswith(b"}"):
            got += s.recv(65536)
        s.close()
        assert json.loads(got.split(b"\r\n\r\n", 1)[1])["data"]["result"][0]["value"][1] == str(i)


def test_others_go_on_meanwhile(p):
    """Requests that wait keep nobody from writing or from asking how the program is."""
    lock = p.connect()
    lock.autocommit = False
    with lock.cursor() as cur:
        cur.execute("LOCK TABLE _prom_catalog.metadata IN ACCESS EXCLUSIVE MODE")
    clients = [ask(p, "metadata") for _ in range(50)]
    wait_until("requests do not come", lambda: sum(gauges(p)) == 50, 20)
    assert p.get("/-/healthy").status == 200
    assert p.write([({"__name__": "others"}, [(T0 * 1000, 1.0)])]).status in (200, 204)
    lock.rollback()
    lock.close()
    for s in clients:
        s.settimeout(30 * SLOW)
        assert s.recv(65536).startswith(b"HTTP/1.1 200")
        s.close()
