"""pg_dump of a living database and restore with --single-transaction --exit-on-error: everything answers
the same afterwards, every sequence goes on, and so does ingest, with the same series behind the same labels.
"""
import subprocess
import threading
import time

import psycopg2
import pytest
from harness import compare, write_request
from harness.postgres import BIN
from harness.process import SLOW, wait_until

DAY_MS = 86400 * 1000
NAN_WITH_PAYLOAD = 0x7FF8DEADBEEF0001
LONG = "long_" * 20
EVER = (-40 * 365 * DAY_MS, 100 * 365 * DAY_MS)


def run(program, *args):
    return subprocess.run([str(BIN / program), *map(str, args)], check=True, capture_output=True, text=True,
                          timeout=120 * SLOW)


def fill(p):
    """Something in every table of blocks. Returns the series of `wide`, to go on with."""
    now = int(time.time()) * 1000
    wide = [{"__name__": "wide", "job": "dump", "n": str(i)} for i in range(50)]

    def write(labels, times):
        p.write([(one, [(t, t % 1000 + i / 8) for t in times]) for i, one in enumerate(labels)])

    p.sql("SELECT prom_api.set_default_retention_period('36500 days')")
    # sealed, in three partitions
    write(wide, range(now - 3 * DAY_MS, now - 3 * DAY_MS + 100 * 15000, 15000))
    write(wide, range(now - 2 * DAY_MS, now - DAY_MS, 3600000))
    # of days too far off for partitions
    write(wide[:5] + [{"__name__": "only_far"}], range(-20 * 365 * DAY_MS, 30 * 365 * DAY_MS, 365 * DAY_MS))
    p.sql("CALL prom_api.execute_maintenance(force => true)")
    # merged, of a window that is not over
    write(wide, range(now - 600000, now - 300000, 15000))
    write([{"__name__": f"small_{i}"} for i in range(60)], [now - 300000])
    p.sql("SELECT _prom_ext.merge_step()")
    # fresh: a metric of its own, and many that share rows
    write(wide, range(now - 60000, now, 1000))
    write([{"__name__": f"small_{i}"} for i in range(60)], [now - 1000])
    p.write([({"__name__": "bits", "text": 'Ünï "c\\ode" \x01\n'}, [(now, NAN_WITH_PAYLOAD), (now - 1, compare.STALE_MARKER),
                                                                 (now - 2, -0.0), (now - 3, float("inf"))]),
             ({"__name__": "a " + LONG, "time": "t", "series": "s", "key " + LONG: "v" * 5000}, [(now, 1.0)]),
             ({"__name__": "with_exemplar"}, [(now, 2.0)], [({"trace_id": "abc"}, 0.5, now)])],
            families=[("wide", "gauge", "what it is", "seconds"), ("with_exemplar", "counter")])
    wait_until("the views are not made", lambda: not compare.views_missing(p), 30)
    levels = p.sql("SELECT (SELECT count(*) > 0 FROM _prom_data.block), (SELECT count(*) > 0 FROM _prom_data.block_far),"
                   " (SELECT count(*) > 0 FROM _prom_data.merged), (SELECT count(*) > 0 FROM _prom_data.fresh"
                   " WHERE metric_id > 0), (SELECT count(*) > 0 FROM _prom_data.fresh WHERE metric_id < 0),"
                   " (SELECT count(*) > 2 FROM pg_inherits WHERE inhparent = '_prom_data.block'::regclass)")
    assert levels == [(True,) * 6]
    return wide


def answers(db):
    """What a user can ask."""
    with compare.session(db) as ask:
        out = {q: sorted(map(repr, ask(q))) for q in (
            "SELECT * FROM prom_info.metric", "SELECT * FROM prom_info.label", "SHOW search_path",
            "SELECT prom_api.get_default_metric_retention_period()",
            "SELECT tenant_id, metric_family, type, unit, help FROM _prom_catalog.metadata",
            "SELECT metric_id, series_id, time, value, labels FROM _prom_data.exemplar")}
        out["series"] = {view: sorted(map(repr, ask(f'SELECT * FROM prom_series."{view}"')))
                         for view in compare.sql_metrics(ask).values()}
        # unqualified, by the database's search_path
        assert ask("""SELECT count(*) FROM wide WHERE labels ? ('n' == '7') AND jsonb(labels) @> '{"job": "dump"}'""")[0][0]
    out["samples"] = {labels: sorted(rows) for labels, rows in compare.sql_series(db, *EVER).items()}
    assert all(len(rows) == len(dict(rows)) for rows in out["samples"].values())
    assert all(v for v in out.values())
    return out


def assert_same(want, got):
    for what in want:
        if isinstance(want[what], dict):
            differ = [k for k in want[what].keys() | got[what].keys() if want[what].get(k) != got[what].get(k)]
            assert not differ, f"{what}: {len(differ)} differ, as {differ[:3]}"
        assert want[what] == got[what], what


def sequences(db):
    """{sequence: last number given away, 0 if none}"""
    return dict(db.sql("SELECT format('%I.%I', schemaname, sequencename), coalesce(last_value, 0) FROM pg_sequences"
                       " WHERE schemaname IN ('_prom_catalog', '_prom_data')"))


def check_ingest_goes_on(p, wide, before):
    """On the restored database: known series keep their ids, what is sent again changes nothing."""
    now = int(time.time()) * 1000 + 1000
    ids = "SELECT series_id, jsonb(labels)::text FROM prom_series.wide"
    known = set(p.sql(ids))
    old = {labels: rows for labels, rows in before["samples"].items() if ("__name__", "wide") in labels}
    # all that is there once more, then something new, of an old and of a new series
    for labels, rows in old.items():
        assert p.write_retrying([(dict(labels), [(ms, raw if raw > 1 << 53 else compare.number(raw))
                                                 for ms, raw in rows])]).status in (200, 204)
    new = [(labels, [(now, 1.0)]) for labels in [*wide, {"__name__": "wide", "n": "new", "new_key": "x"}]]
    p.write([*new, ({"__name__": "new_metric"}, [(now, 1.0)])])
    wait_until("the views are not made", lambda: not compare.views_missing(p), 30)

    def check():
        assert known < set(p.sql(ids)) and len(p.sql(ids)) == len(known) + 1
        got = answers(p)["samples"]
        for labels, rows in before["samples"].items():
            extra = [(now, compare.bits(1.0))] if dict(labels) in wide else []
            assert got[labels] == sorted(rows + extra), labels
        assert len(got) == len(before["samples"]) + 2

    check()
    p.sql("CALL prom_api.execute_maintenance(force => true)")
    check()
    p.restart()
    check()


def check_sequences_go_on(db, last):
    assert len(last) > 4 and sequences(db).keys() == last.keys()
    for name, number in last.items():
        assert db.sql(f"SELECT nextval('{name}')")[0][0] > number, name


def test_embedded_to_a_database_of_yours(lab):
    """Custom format, out of the embedded database while it is written to, into a cluster with a connector."""
    p = lab.promscale(args=["--self-scrape=false"])
    wide = fill(p)
    before, last = answers(p), sequences(p)
    dump = lab.folder / "dump.custom"
    # the dump's view of the data is older than maintenance that has replaced all of it
    conn = psycopg2.connect(p.dsn())
    with conn.cursor() as cur:
        cur.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT pg_export_snapshot()")
        snapshot = cur.fetchone()[0]
        p.sql("CALL prom_api.execute_maintenance(force => true)")
        assert p.sql("SELECT count(*) FROM _prom_data.fresh") == [(0,)]
        p.write([({"__name__": "too_late_for_the_dump"}, [(int(time.time() * 1000), 1.0)])])
        run("pg_dump", "-d", p.dsn(), "-Fc", "-f", dump, "--snapshot", snapshot)
    conn.close()

    cluster = lab.cluster()
    cluster.sql("CREATE DATABASE promscale")
    run("pg_restore", "-d", cluster.uri(), "--single-transaction", "--exit-on-error", dump)
    # nobody but the restore has touched it yet
    restored = lab.promscale(uri=cluster.uri(), start=False, args=["--self-scrape=false"])
    assert_same(before, answers(restored))
    check_sequences_go_on(restored, last)
    restored.start()
    assert_same(before, answers(restored))
    check_ingest_goes_on(restored, wide, before)


def test_a_database_of_yours_to_embedded(lab):
    """Plain format, out of a cluster, into the embedded database under a running connector: what it knows
    of series is of a database that is no more, and samples that come meanwhile must wait."""
    cluster = lab.cluster()
    cluster.sql("CREATE DATABASE promscale")
    source = lab.promscale(uri=cluster.uri(), args=["--self-scrape=false"])
    wide = fill(source)
    before, last = answers(source), sequences(source)
    dump = lab.folder / "dump.sql"
    run("pg_dump", "-d", cluster.uri(), "-f", dump)
    source.stop()

    p = lab.promscale(args=["--self-scrape=false"])
    # it knows all these labels, with ids that mean something else soon
    p.write([(labels, [(1000, 1.0)]) for labels in reversed(wide)] + [({"__name__": "of_the_old_database"}, [(1000, 1.0)])])
    statuses, done = [], threading.Event()
    body = write_request([({"__name__": "wide", "n": "meanwhile"}, [(EVER[0] + 1, 1.0)])])
    acked = []

    def write_all_the_time():
        while not done.is_set():
            statuses.append(p.post_write(body).status)
            if statuses[-1] == 204:
                acked.append(time.monotonic())

    writer = threading.Thread(target=write_all_the_time, daemon=True)
    writer.start()
    p.sql("DROP DATABASE promscale WITH (FORCE)", dbname="postgres")
    dropped_at = time.monotonic()
    p.sql("CREATE DATABASE promscale", dbname="postgres")
    run("psql", "-d", p.dsn(), "-X", "-q", "-v", "ON_ERROR_STOP=1", "--single-transaction", "-f", dump)
    wait_until("nothing is stored in the restored database", lambda: acked and acked[-1] > dropped_at, 60)
    done.set()
    writer.join(60)
    assert set(statuses) == {204, 503} or set(statuses) == {204}, set(statuses)
    (after,) = p.sql("SELECT count(*) FROM wide WHERE labels ? ('n' == 'meanwhile')")
    assert after == (1,)
    before["samples"][tuple(sorted({"__name__": "wide", "n": "meanwhile"}.items()))] = [(EVER[0] + 1, compare.bits(1.0))]
    got = answers(p)
    assert got["samples"] == before["samples"]
    check_sequences_go_on(p, last)
    check_ingest_goes_on(p, wide, before)


@pytest.mark.parametrize("form", ["c", "p"])
def test_empty_database(lab, form):
    """A database in which nobody has written yet."""
    p = lab.promscale(args=["--self-scrape=false"])
    run("pg_dump", "-d", p.dsn(), "-F", form, "-f", lab.folder / "dump")
    p.sql("CREATE DATABASE restored")
    if form == "c":
        run("pg_restore", "-d", p.dsn(dbname="restored"), "--single-transaction", "--exit-on-error", lab.folder / "dump")
    else:
        run("psql", "-d", p.dsn(dbname="restored"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "--single-transaction", "-f",
            lab.folder / "dump")
    assert p.sql("SELECT count(*) FROM prom_info.metric", dbname="restored") == [(0,)]
    assert p.sql("SHOW search_path", dbname="restored") == p.sql("SHOW search_path")


def test_many_metrics_can_be_dumped(lab):
    """pg_dump locks each view to its end: the embedded database has room for that."""
    p = lab.promscale(args=["--self-scrape=false"])
    now = int(time.time() * 1000)
    p.write([({"__name__": f"metric_{i}", "n": "1"}, [(now, float(i))]) for i in range(3500)])
    p.sql("CALL prom_api.execute_maintenance(force => true)")
    wait_until("not all views are made", lambda: p.sql("SELECT count(*) FROM pg_views WHERE schemaname = 'prom_metric'")
               == [(3500,)], 60)  # the worker may be at some of them
    run("pg_dump", "-d", p.dsn(), "-Fc", "-f", lab.folder / "dump")
