"""Every request of the table in bad_requests.py is told what the table says, here and by a real Prometheus."""
import http.client
import json
import re

import bad_requests
import pytest
from bad_requests import BAD, GOOD
from harness.peers import get_json

LISTS = ("query", "query_range", "query_exemplars", "series", "labels", "label/", "metadata", "format_query",
         "parse_query", "rules", "status/", "targets/metadata", "admin/tsdb/", "write", "read", "otlp/", "explain")


@pytest.fixture(scope="module")
def p(module_lab):
    return module_lab.promscale(args=["--self-scrape=false"])


@pytest.fixture(scope="module")
def prometheus(module_lab):
    """One of 3.5 or later, since older ones word much otherwise: (server, version)."""
    it = module_lab.prometheus(start=False, args=["--web.enable-remote-write-receiver"])
    it.start()
    text = get_json(f"{it.url}/api/v1/status/buildinfo")["data"]["version"] or "99.0"  # built without one: of today
    version = tuple(int(n) for n in re.findall(r"\d+", text)[:2])
    if version < (3, 5):
        pytest.skip(f"Prometheus {version} words errors otherwise: PROMSCALE_TEST_PROMETHEUS=... names a later one")
    return it, version


def name(bad):
    return f"{bad.method} {bad.path} {bad.body or ''}"


def ask(port, bad):
    """(status, errorType, text), as in the table."""
    conn = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    conn.request(bad.method, "/api/v1/" + bad.path, body=bad.body, headers=bad.headers)
    r = conn.getresponse()
    body = r.read()
    conn.close()
    if r.headers.get("Content-Type") != "application/json":
        return r.status, None, body.decode().strip()
    answer = json.loads(body)
    if answer["status"] == "success":
        return GOOD
    assert list(answer) == ["status", "errorType", "error"]
    return r.status, answer["errorType"], answer["error"]


def test_table():
    assert len(BAD) >= 120
    assert len({(b.method, b.path, b.body, str(b.headers)) for b in BAD}) == len(BAD)
    for start in LISTS:
        assert sum(b.path.startswith(start) for b in BAD) >= 2, start
    assert {b.answer[0] for b in BAD} >= {400, 404, 405, 422, 500, 503}


@pytest.mark.parametrize("bad", BAD, ids=name)
def test_ours(p, bad):
    assert ask(p.port, bad) == bad.answer


def test_prometheus_says_the_same(prometheus):
    """One test for all, since where there is no such Prometheus it is skipped as one."""
    server, version = prometheus
    wrong = []
    for bad in BAD:
        if bad.since and version < tuple(map(int, bad.since.split("."))) or bad.differs and bad.differs[1] is None:
            continue
        want = bad.differs[1] if bad.differs else bad.answer
        got = ask(server.port, bad)
        if want[2] is None:
            got = (*got[:2], None)
        elif want[1] is None and got[1] is None:
            want, got = (*want[:2], want[2].lower()), (*got[:2], got[2].lower())
        if got != want:
            wrong.append(f"{name(bad)}\n  table {want}\n  it    {got}")
    assert not wrong, "\n".join(wrong)


def test_differences_are_differences():
    for bad in BAD:
        assert bad.differs is None or (bad.differs[0] and bad.differs[1] != bad.answer), name(bad)


def test_body_too_large(p):
    bad = bad_requests.post("query", "query=1&x=" + "y" * (5 << 20), None)
    assert ask(p.port, bad)[0] == 413
