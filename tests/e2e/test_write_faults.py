"""Writes when something is wrong: no room, no database, the end of the program, data that the database
does not take. Nothing that could be stored later is refused for good, and nobody pays for others.
"""
import contextlib
import random
import signal
import threading
import time

import psycopg2
import pytest
from harness import compare, write_request
from harness.process import wait_until

INNOCENT = 50


def one(name, **labels):
    return [({"__name__": name, **labels}, [(int(time.time() * 1000) - 1000, 1.0)])]


class Posts:
    """Requests side by side; answers() waits for all of them: {name: answer}."""

    def __init__(self, p):
        self.p, self.threads, self.found = p, [], {}

    def post(self, key, series):
        def run():
            try:
                self.found[key] = self.p.post_write(write_request(series))
            except OSError as e:
                self.found[key] = e

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self.threads.append(thread)

    def answers(self):
        for thread in self.threads:
            thread.join(90)
        assert len(self.found) == len(self.threads), "some were never answered"
        return self.found


@contextlib.contextmanager
def locked(db, table="_prom_data.fresh"):
    """Nobody can write to the table meanwhile."""
    conn = psycopg2.connect(db.dsn())
    try:
        with conn.cursor() as cur:
            cur.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        yield
    finally:
        with contextlib.suppress(psycopg2.OperationalError):  # the server may have gone
            conn.rollback()
        conn.close()


def inside(p):
    return p.metrics()['promscale_ingest_active_write_requests{type="metric"}']


def assert_try_again(answer):
    assert answer.status == 503, answer
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.body


def stored(p, name):
    p.sql("SELECT _prom_catalog.make_metric_views()")
    return p.sql(f"SELECT count(*) FROM prom_metric.{name}")[0][0]


# ---- 503, never 429 ------------------------------------------------------------------------------------

def test_full_queue_of_requests(lab):
    p = lab.promscale(args=["--self-scrape=false", "--ingest.queue-requests=5"])
    p.write(one("queue", n="first"))
    posts = Posts(p)
    with locked(p):
        for n in range(5):
            posts.post(n, one("queue", n=str(n)))
        wait_until("the queue is not full", lambda: inside(p) == 5, 15)
        for n in range(10):
            assert_try_again(p.post_write(write_request(one("queue", n=f"late {n}"))))
    assert {a.status for a in posts.answers().values()} == {204}
    assert p.metrics()['promscale_ingest_rejected_total{type="metric",reason="queue-requests"}'] == 10
    assert stored(p, "queue") == 6
    p.write(one("queue", n="last"))


def test_full_queue_of_bytes(lab):
    """Bodies that are being received count, too."""
    p = lab.promscale(args=["--self-scrape=false", "--ingest.queue-bytes=4MB", "--ingest.max-body-bytes=4MB",
                            "--ingest.max-label-value-bytes=1MB",
                            "--ingest.max-label-set-bytes=2MB"])
    p.write(one("queue", n="first"))
    posts = Posts(p)
    with locked(p):
        for n in range(3):
            posts.post(n, one("queue", n=str(n) + "x" * 1000000))
        wait_until("the requests are not inside", lambda: inside(p) == 3, 15)
        assert_try_again(p.post_write(write_request(one("queue", n="y" * 1040000, m="z" * 1000000))))
        posts.post("small", one("queue", n="small"))
        wait_until("a small request is not let in", lambda: inside(p) == 4, 15)
    assert {a.status for a in posts.answers().values()} == {204}
    m = p.metrics()
    assert m['promscale_ingest_rejected_total{type="metric",reason="queue-bytes"}'] + m[
        'promscale_http_requests_refused_total{reason="busy"}'] == 1
    assert stored(p, "queue") == 5
    p.write(one("queue", n="y" * 1040000, m="z" * 1000000))


def test_timeout(lab):
    p = lab.promscale(args=["--self-scrape=false", "--ingest.timeout=1s"])
    p.write(one("slow"))
    with locked(p):
        begun = time.monotonic()
        late = one("slow", n="1")
        assert_try_again(p.post_write(write_request(late)))
        assert 0.9 < time.monotonic() - begun < 20
    assert p.metrics()['promscale_ingest_rejected_total{type="metric",reason="timeout"}'] == 1
    assert p.write_retrying(late).status == 204  # it may have been stored in the meantime
    assert stored(p, "slow") == 2


def test_new_series_when_the_catalog_is_locked(lab):
    """They wait; known series do not."""
    p = lab.promscale(args=["--self-scrape=false", "--ingest.timeout=2s"])
    p.write(one("known"))
    with locked(p, "_prom_catalog.series"):
        assert_try_again(p.post_write(write_request(one("unknown"))))
        p.write_retrying(one("known"), timeout=15)
    assert p.write_retrying(one("unknown")).status == 204


def test_database_away(lab):
    cluster = lab.cluster()
    cluster.sql("CREATE DATABASE promscale")
    p = lab.promscale(uri=cluster.uri(), args=["--self-scrape=false", "--ingest.timeout=2s"])
    p.write(one("away", n="1"))
    cluster.stop()
    assert_try_again(p.post_write(write_request(one("away", n="1"))))
    assert_try_again(p.post_write(write_request(one("away", n="new"))))
    wait_until("it still says that it is ready", lambda: not p.is_ready(), 15)
    assert p.get("/-/healthy").status == 200
    assert p.get("/healthz").status == 503
    cluster.start()
    assert p.write_retrying(one("away", n="2")).status == 204
    wait_until("it is not ready again", p.is_ready, 15)
    assert stored(p, "away") == 2


def test_shutdown(lab):
    """What is inside is finished, what comes is sent away, and then it ends."""
    p = lab.promscale(args=["--self-scrape=false"])
    p.write(one("shutdown", n="0"))
    kept = p.keep_connection()
    kept.request("GET", "/-/healthy")
    kept.getresponse().read()
    posts = Posts(p)
    with locked(p):
        for n in range(1, 4):
            posts.post(n, one("shutdown", n=str(n)))
        wait_until("the requests are not inside", lambda: inside(p) == 3, 15)
        p.process.signal(signal.SIGTERM)
        wait_until("it does not begin to stop", lambda: "msg=stopping" in p.err, 15)

        def refused():
            kept.request("POST", "/api/v1/write", write_request(one("shutdown", n="late")),
                         {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy"})
            answer = kept.getresponse()
            answer.body = answer.read()
            return answer

        answer = refused()
        assert_try_again(answer)
        with pytest.raises(OSError):
            p.get("/-/healthy")  # no new connections
        assert p.process.running()
    assert {a.status for a in posts.answers().values()} == {204}
    assert p.process.wait() == 0
    p.start()
    assert stored(p, "shutdown") == 4


def test_shutdown_does_not_wait_for_ever(lab):
    p = lab.promscale(args=["--self-scrape=false", "--shutdown-timeout=1s"])
    p.write(one("shutdown"))
    posts = Posts(p)
    with locked(p):
        posts.post(1, one("shutdown", n="1"))
        wait_until("the request is not inside", lambda: inside(p) == 1, 15)
        p.process.signal(signal.SIGTERM)
        assert_try_again(posts.answers()[1])
        # the database is asked to end, too: that ends our lock
        assert p.process.wait(20) == 0


# ---- one request must not cost another ------------------------------------------------------------------

def fault(p, table, condition):
    """The database refuses some rows, as it may for reasons that nobody has thought of."""
    p.sql("CREATE SCHEMA fault; CREATE FUNCTION fault.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
          f" IF {condition} THEN RAISE EXCEPTION 'no poison' USING ERRCODE = '22000'; END IF; RETURN NEW; END $$;"
          f"CREATE TRIGGER refuse BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION fault.refuse()")


def all_at_once(p, lock, innocent, guilty):
    """All these requests wait together for one batch. {key: answer}"""
    posts = Posts(p)
    with locked(p, lock):
        posts.post("first", one("first", n=str(time.time())))  # the batch that is under way while the others gather
        wait_until("the first is not inside", lambda: inside(p) == 1, 15)
        for key, series in {**innocent, "guilty": guilty}.items():
            posts.post(key, series)
        wait_until("the requests are not inside", lambda: inside(p) == len(innocent) + 2, 15)
    found = posts.answers()
    assert {key: a.status for key, a in found.items() if key != "guilty"} == {
        key: 204 for key in [*innocent, "first"]}
    assert found["guilty"].status == 400
    assert b"no poison" in found["guilty"].body and b"guilty" in found["guilty"].body
    return found


def test_poison_label(lab):
    """One label value that cannot be stored, and 50 innocent requests with new series beside it."""
    p = lab.promscale(args=["--self-scrape=false"])
    p.write(one("innocent", n="before"))
    fault(p, "_prom_catalog.label", "NEW.value = 'poison'")
    innocent = {n: one("innocent", n=str(n)) + one("innocent", n=str(n), more="x") for n in range(INNOCENT)}
    all_at_once(p, "_prom_catalog.series", innocent, one("guilty", n="poison") + one("guilty", n="good"))
    assert stored(p, "innocent") == 1 + 2 * INNOCENT
    assert stored(p, "guilty") == 1
    # and again, when everybody else is known
    all_at_once(p, "_prom_catalog.series", {}, one("guilty", n="poison"))


def test_poison_flush(lab):
    """A row of samples that cannot be stored, whichever other samples share it."""
    p = lab.promscale(args=["--self-scrape=false"])
    series = {n: one("innocent", n=str(n)) for n in range(INNOCENT)}
    guilty = one("guilty", n="poison") + one("guilty_too", n="good")
    for s in [*series.values(), guilty]:
        p.write(s)
    p.sql("CALL prom_api.execute_maintenance(force => true)")
    (poison,), = p.sql("SELECT id FROM _prom_catalog.metric WHERE metric_name = 'guilty'")
    fault(p, "_prom_data.fresh", f"EXISTS (SELECT FROM _prom_ext.block_parts(NEW.data) WHERE metric_id = {poison})")
    again = {n: one("innocent", n=str(n)) for n in range(INNOCENT)}
    assert again[0][0][1][0][0] > series[INNOCENT - 1][0][1][0][0], "a time of its own"
    all_at_once(p, "_prom_data.fresh", again, one("guilty", n="poison") + one("guilty_too", n="good"))
    assert stored(p, "innocent") == 2 * INNOCENT
    assert stored(p, "guilty") == 1 and stored(p, "guilty_too") == 2


# ---- what clients cannot cause ---------------------------------------------------------------------------

def test_random_times_make_no_relations(lab):
    """A million samples at random times of forty years: no DDL while they are taken in, and not more
    relations afterwards than days that may have a partition."""
    n_series, n_requests, per_series = 100, 10, 1000
    c_relations_a_day = 4  # table, key, TOAST table and its index
    p = lab.promscale(args=["--self-scrape=false"])
    p.sql("SELECT set_default_retention_period('36500 days')")
    p.sql("CREATE TABLE public.ddl (application text, tag text)")
    p.sql("CREATE FUNCTION public.note() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN"
          " INSERT INTO public.ddl VALUES (current_setting('application_name'), tg_tag); END $$;"
          "CREATE EVENT TRIGGER note ON ddl_command_start EXECUTE FUNCTION public.note()")
    rng = random.Random(2)
    now = int(time.time() * 1000)
    sums = {}
    (before,), = p.sql("SELECT count(*) FROM pg_class")
    for _ in range(n_requests):
        series = []
        for n in range(n_series):
            times = {rng.randrange(now - 40 * 365 * 86400000, now) for _ in range(per_series)}
            sums.setdefault(n, {}).update({t: float(t % 1000) for t in times})
            series.append(({"__name__": "random_times", "n": str(n)}, [(t, float(t % 1000)) for t in times]))
        p.write(series)
    during = p.sql("SELECT * FROM public.ddl WHERE application NOT LIKE '%maintenance%'")
    assert during == [], "DDL on the way of a write"

    def check():
        with compare.session(p) as ask:
            got = ask("SELECT val(n_id), count(*), sum(value), min(time) FROM random_times GROUP BY n_id")
        assert {(n, c, s) for n, c, s, _ in got} == {(str(n), len(v), sum(v.values())) for n, v in sums.items()}

    wait_until("no view", lambda: not compare.views_missing(p), 30)
    check()
    p.sql("CALL prom_api.execute_maintenance(force => true)")
    check()
    (after,), = p.sql("SELECT count(*) FROM pg_class")
    (days,), = p.sql("SELECT extract(days FROM last_day - first_day) + 1 FROM _prom_catalog.partition_days()")
    assert days <= 403
    assert after - before <= c_relations_a_day * days + 10
    assert p.sql("SELECT count(*) FROM _prom_data.block_far")[0][0] > 0
