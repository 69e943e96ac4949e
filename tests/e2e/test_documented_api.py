"""The examples of docs/api.md, executed. An example is a block `http` (request line, headers, empty line, body) and
a block `json`, the answer; `…` in it stands for anything. With PROMSCALE_REFRESH=1 the answers in the document are
written anew from what the server says; the ellipses stay."""
import json
import os
import re
import urllib.parse

import pytest
from harness.process import ROOT

PAGE = ROOT / "docs" / "api.md"
ROUTES = ROOT / "connector" / "ops" / "routes.c"
EXAMPLE = re.compile(r"^```http\n(.*?)^```\n```json\n(.*?)^```\n", re.M | re.S)
T0 = 1767225600
ANYTHING = "…"


@pytest.fixture(scope="module")
def p(module_lab):
    """With the data that the page tells of."""
    it = module_lab.promscale(args=["--self-scrape=false"])
    it.sql("SELECT prom_api.set_default_retention_period('1000 years')")
    times = [(T0 + 15 * k) * 1000 for k in range(41)]
    it.write([({"__name__": "http_requests_total", "job": "api", "code": "200"},
               [(t, 30.0 * k) for k, t in enumerate(times)],
               [({"trace_id": "4bf92f3577b34da6"}, 0.25, times[8])]),
              ({"__name__": "http_requests_total", "job": "api", "code": "500"},
               [(t, 1.0 * k) for k, t in enumerate(times)]),
              ({"__name__": "temperature_celsius", "room": "kitchen"}, [(t, 20.5) for t in times])],
             families=[("http_requests_total", "counter", "Requests that were answered."),
                       ("temperature_celsius", "gauge", "Of the air.", "celsius")])
    return it


def examples():
    """(title, request, answer) in the order of the page."""
    for m in EXAMPLE.finditer(PAGE.read_text(encoding="utf-8")):
        yield m.group(1).split("\n", 1)[0], m.group(1), m.group(2)


def perform(p, request):
    """The answer's JSON; a list of status and body if it has none."""
    head, _, body = request.partition("\n\n")
    line, *headers = head.strip().split("\n")
    method, path = line.split(" ", 1)
    where, _, query = path.partition("?")
    path = where + ("?" + urllib.parse.quote(query, safe="=&%/.:") if query else "")
    body = body.strip() if "form-urlencoded" in head else body or None
    answer = p.http(method, path, body, dict(h.split(": ", 1) for h in headers))
    try:
        return json.loads(answer.body)
    except ValueError:
        return [answer.status, answer.body.decode()]


def fits(want, got):
    """Is it what the page says? Of an object with an ellipsis somewhere in it only the keys that are told."""
    if want == ANYTHING:
        return True
    if isinstance(want, dict) and isinstance(got, dict):
        same_keys = want.keys() <= got.keys() if ANYTHING in want.values() else want.keys() == got.keys()
        return same_keys and all(fits(want[k], got[k]) for k in want)
    if isinstance(want, list) and isinstance(got, list):
        return len(want) == len(got) and all(map(fits, want, got))
    return want == got


def layout(value, indent=0, width=112):
    """JSON on one line if it fits, else a line for each part."""
    line = json.dumps(value, ensure_ascii=False)
    if len(line) + indent <= width or not isinstance(value, (dict, list)) or not value:
        return line
    pad = " " * (indent + 1)
    if isinstance(value, dict):
        parts = [json.dumps(k) + ": " + layout(v, indent + 1 + len(k) + 4, width) for k, v in value.items()]
    else:
        parts = [layout(v, indent + 1, width) for v in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return opening + (",\n" + pad).join(parts) + closing


def refresh(p):
    def anew(m):
        got = perform(p, m.group(1))
        try:
            kept = ANYTHING in m.group(2) and fits(json.loads(m.group(2)), got)
        except ValueError:
            kept = False
        return m.group(0) if kept else f"```http\n{m.group(1)}```\n```json\n{layout(got)}\n```\n"

    PAGE.write_text(EXAMPLE.sub(anew, PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if os.environ.get("PROMSCALE_REFRESH") == "1":
    def test_refresh(p):
        refresh(p)


@pytest.mark.parametrize("title,request_text,answer", list(examples()), ids=[e[0] for e in examples()])
def test_example(p, title, request_text, answer):
    got = perform(p, request_text)
    assert fits(json.loads(answer), got), f"{title}\n{layout(got)}"


def test_every_endpoint_is_told_of():
    told = set(re.findall(r"^### (/api/v1/\S+)$", PAGE.read_text(encoding="utf-8"), re.M))
    routes = set(re.findall(r'\{"(/api/v1/[^"*]+)"', ROUTES.read_text(encoding="utf-8")))
    assert len(routes) > 10
    assert not sorted(routes - told), "endpoints without a heading in docs/api.md"


def test_examples_can_fail():
    assert not fits({"a": 1}, {"a": 2}) and not fits({"a": 1}, {"a": 1, "b": 2}) and not fits([1], [1, 2])
    assert fits({"a": "…"}, {"a": [1], "b": 2}) and not fits({"a": "…", "b": 1}, {"a": 3, "b": 2})
