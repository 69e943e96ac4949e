"""A damaged block costs its own samples: queries over HTTP answer without it and say so; so do label requests, and what
cannot carry a warning is counted and logged. Or they fail, if so set."""
import json
import urllib.parse

import pytest
from harness import remote_read as rr

T0 = 1_700_000_000 // 3600 * 3600  # s
N = 20
FORMS = {"block_far": 0, "merged": 3600, "fresh": 7200}  # where each lies, s after T0
FLIP = ("UPDATE _prom_data.{0} SET data = set_byte(data, {1}, get_byte(data, {1}) # 1) WHERE metric_id ="
        " (SELECT id FROM _prom_catalog.metric WHERE metric_name = 'up')")
LEFT_OUT = "cannot be read, its samples are left out"


def fill(p):
    p.sql("SELECT prom_api.set_default_retention_period('300 years')")
    p.sql("ALTER SYSTEM SET promscale.maintenance = off")
    p.sql("SELECT pg_reload_conf()")
    for table, offset in FORMS.items():
        at = T0 + offset
        p.write([({"__name__": "up", "i": str(i)}, [((at + 15 * k) * 1000, float(i + k)) for k in range(N)])
                 for i in range(8)] +
                [({"__name__": "down", "i": "1"}, [((at + 15 * k) * 1000, 1.0) for k in range(N)])])
        if table != "fresh":
            p.sql("SELECT _prom_ext.merge_step()")
        if table == "block_far":
            p.sql("SELECT _prom_ext.seal_step(true)")
    counts = [p.sql(f"SELECT count(*) FROM _prom_data.{t} WHERE metric_id = (SELECT id FROM _prom_catalog.metric"
                    " WHERE metric_name = 'up')")[0][0] for t in FORMS]
    assert counts == [1, 1, 1], counts


@pytest.fixture(scope="module")
def p(module_lab):
    it = module_lab.promscale(args=["--self-scrape=false"])
    fill(it)
    return it


def ask(p, path, status=200, **params):
    got, _, body = p.get(f"/api/v1/{path}?" + urllib.parse.urlencode(params, doseq=True))
    answer = json.loads(body)
    assert got == status, answer
    return answer


@pytest.fixture(params=FORMS)
def damaged(p, request):
    """(table, a moment in the block, byte to flip) with a flipped bit in the block of metric up."""
    length = p.sql(f"SELECT octet_length(data) FROM _prom_data.{request.param} WHERE n_series = 8")[0][0]
    flip = FLIP.format(request.param, min(length - 1, 30))
    p.sql(flip)
    yield request.param, T0 + FORMS[request.param] + 15 * (N - 1)
    p.sql(flip)


def test_whole(p):
    end = T0 + FORMS["fresh"] + 15 * (N - 1)
    answer = ask(p, "query", query="sum(count_over_time(up[1d]))", time=end)
    assert answer["data"]["result"][0]["value"][1] == str(3 * 8 * N) and "warnings" not in answer


def test_queries(p, damaged):
    table, at = damaged
    counted = p.metrics().get("promscale_query_damaged_blocks_total", 0)
    for path, more in (("query", {"time": T0 + 9000}), ("query_range", {"start": T0 + 9000, "end": T0 + 9060, "step": 60})):
        answer = ask(p, path, query="sum(count_over_time(up[1d])) + 0 * sum(count_over_time(up[23h]))", **more)
        result = answer["data"]["result"][0]
        assert (result.get("value") or result["values"][0])[1] == str(2 * 8 * N)
        warning, = answer["warnings"]
        assert f"of table _prom_data.{table} {LEFT_OUT}: metric \"up\" from 2023-11-1" in warning
    # the newest sample, of which only heads are read
    answer = ask(p, "query", query="up", time=at)
    assert answer["data"]["result"] == [] and LEFT_OUT in answer["warnings"][0]
    # who does not need the block is not bothered
    assert "warnings" not in ask(p, "query", query="down", time=at)
    assert p.metrics()["promscale_query_damaged_blocks_total"] >= counted + 3
    assert "a block cannot be read" in p.err


def test_explain(p, damaged):
    table, _ = damaged
    answer = ask(p, "explain", query="sum(count_over_time(up[1d]))", time=T0 + 9000, analyze="true")
    assert f"_prom_data.{table} {LEFT_OUT}" in answer["warnings"][0]
    _, _, body = p.get("/api/v1/explain?" + urllib.parse.urlencode(
        {"query": "sum(count_over_time(up[1d]))", "time": T0 + 9000, "analyze": "true", "format": "text"}))
    assert f"_prom_data.{table} {LEFT_OUT}" in body.decode()


def test_unknown_kind_and_columns(p):
    for change, back in (("kind = 9", "kind = 1"), ("format = 9", "format = 2"), ("n_series = 0", "n_series = 8"),
                         ("t_max = t_max + interval '1 us'", "t_max = t_max - interval '1 us'")):
        p.sql(f"UPDATE _prom_data.merged SET {change} WHERE n_series = 8")
        answer = ask(p, "query", query="sum(count_over_time(up[1d]))", time=T0 + 9000)
        where = "n_series = 0" if change == "n_series = 0" else "n_series = 8"
        p.sql(f"UPDATE _prom_data.merged SET {back} WHERE {where}")
        assert answer["data"]["result"][0]["value"][1] == str(2 * 8 * N) and len(answer["warnings"]) == 1


@pytest.mark.usefixtures("damaged")
def test_remote_read(p):
    """It cannot carry warnings: the count and the log have them."""
    counted = p.metrics().get("promscale_query_damaged_blocks_total", 0)
    for streamed in (False, True):
        series, = rr.ask(p, [rr.query({"__name__": "up"}, T0 * 1000, (T0 + 9000) * 1000)], streamed)
        assert sum(len(samples) for _, samples in series) == 2 * 8 * N
    assert p.metrics()["promscale_query_damaged_blocks_total"] > counted


def test_label_requests(p):
    """Directories of fresh rows say which series live; the row that small metrics share is damaged."""
    window = {"match[]": "down", "start": T0, "end": T0 + 9000}
    whole = ask(p, "series", **window)
    assert len(whole["data"]) == 1 and "warnings" not in whole
    flip = "UPDATE _prom_data.fresh SET data = set_byte(data, 30, get_byte(data, 30) # 1) WHERE metric_id < 0"
    p.sql(flip)
    for path in ("series", "labels", "label/i/values"):
        answer = ask(p, path, **window)
        assert f"of table _prom_data.fresh {LEFT_OUT}" in answer["warnings"][0]
    p.sql(flip)
    assert ask(p, "series", **window) == whole


def test_exemplars(lab):
    """An index that does not hold all series asks which of them live: the answer may lack some."""
    p = lab.promscale(args=["--self-scrape=false", "--query.index-max-bytes=1MB"])
    p.sql("SELECT prom_api.set_default_retention_period('300 years')")
    p.sql("ALTER SYSTEM SET promscale.maintenance = off")
    p.sql("SELECT pg_reload_conf()")
    p.write([({"__name__": "big", "i": str(i)}, [(T0 * 1000, 1.0)]) for i in range(20000)])
    p.write([({"__name__": "traced"}, [(T0 * 1000, 1.0)], [({"trace_id": "x"}, 1.0, T0 * 1000)])])
    p.stop()
    p.start()
    window = {"query": "traced", "start": T0, "end": T0 + 60}
    whole = ask(p, "query_exemplars", **window)
    assert p.metrics()["promscale_label_index_whole"] == 0
    assert len(whole["data"]) == 1 and "warnings" not in whole
    p.sql("UPDATE _prom_data.fresh SET data = set_byte(data, 30, get_byte(data, 30) # 1) WHERE metric_id < 0")
    answer = ask(p, "query_exemplars", **window)
    assert f"of table _prom_data.fresh {LEFT_OUT}" in answer["warnings"][0]


def test_error_if_so_set(lab):
    p = lab.promscale(args=["--self-scrape=false", "--query.damaged-blocks=error"])
    fill(p)
    length = p.sql("SELECT octet_length(data) FROM _prom_data.merged WHERE n_series = 8")[0][0]
    p.sql(FLIP.format("merged", length - 1))
    answer = ask(p, "query", 500, query="sum(count_over_time(up[1d]))", time=T0 + 9000)
    assert "of table _prom_data.merged (metric_id" in answer["error"]
    assert ask(p, "query", query="down", time=T0 + 9000 - 1800)["status"] == "success"
