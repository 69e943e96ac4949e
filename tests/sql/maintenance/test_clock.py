"""The server's clock leaps: nothing is deleted by it, and maintenance goes on when it is right again.

Where a test moves the clock of a whole server it is by moved_clock.c, compiled here; else by what was noted of it.
"""
import os
import struct
import subprocess
from pathlib import Path

import pytest

from store import DAY, HOUR, Store, bits
from test_worker import PRELOAD, wait_for_step, wait_until

YEAR_S = 366 * 86400
HALTED = "SELECT failures > 0 AND last_error LIKE '%the clock says%' FROM _prom_catalog.job WHERE name = 'retention'"


@pytest.fixture
def moved(make_server):
    """A server with the worker, and a function that moves its clock by seconds."""
    server = make_server(PRELOAD)
    server.stop("fast")
    library, file = server.dir / "moved_clock.so", server.dir / "moved_clock"
    subprocess.run([os.environ.get("CC", "cc"), "-O1", "-shared", "-fPIC", "-o", library,
                    Path(__file__).with_name("moved_clock.c")], check=True)
    file.write_bytes(bytes(8))
    file.chmod(0o644)
    server.as_postgres = [*server.as_postgres, "env", f"LD_PRELOAD={library}", f"MOVED_CLOCK={file}"]
    server.start()
    server.sql("CREATE DATABASE promscale")
    server.sql("CREATE EXTENSION promscale", "promscale")
    store = Store(server, "promscale")

    def move(seconds):
        with open(file, "r+b", buffering=0) as f:
            f.write(struct.pack("<q", seconds))

    yield store, move
    store.close()


def known(store, days):
    """Samples of some days ago, sealed; the keys of all of them."""
    today = store.now_ms() // DAY * DAY
    samples = [(0, m, m, today - d * DAY + h * HOUR, bits(float(d + h))) for m in (1, 2) for d in days for h in (1, 9, 23)]
    store.flush(samples)
    return {tuple(k): b for *k, b in samples}


def sealed(store):
    for step in ("fold", "partitions", "seal"):
        while store.one("SELECT outcome FROM _prom_catalog.run_step(%s, true)", (step,)) == "more":
            pass


def test_a_year_ahead_for_a_while(moved):
    """The worker seals what seems over and deletes nothing; when the clock is right again it goes on, and so does retention."""
    store, move = moved
    real = store.now_ms()
    truth = known(store, (1, 2, 30, 80))
    wait_for_step(store, "fold", "no fold", lambda: store.count("fresh") == 0)
    wait_until("a whole round, so that each step has a time at which it is due", lambda: store.one(
        "SELECT count(*) FROM _prom_catalog.job WHERE name = 'trim_exemplars'") == 1)
    for _ in range(2):
        move(YEAR_S)
        assert store.now_ms() > real + 300 * DAY
        wait_until("retention ran a year ahead and stood still", lambda: store.sql(HALTED) == [(True,)])
        wait_until("other steps went on a year ahead", lambda: store.sql(
            "SELECT count(*) FROM _prom_catalog.job WHERE name IN ('fold', 'seal', 'partitions', 'expire_series')"
            " AND last_run > now() - interval '100 days'") == [(4,)])
        assert store.visible() == truth
        move(0)
        sample = (0, 1, 1, store.now_ms(), bits(7.0))
        store.flush([sample])
        truth[sample[:4]] = sample[4]
        wait_until("the worker goes on after the clock came back", lambda: store.count("fresh") == 0)
        wait_for_step(store, "retention", "retention goes on after the clock came back", lambda: store.sql(
            "SELECT failures, last_run < now() + interval '1 day' FROM _prom_catalog.job WHERE name = 'retention'") == [(0, True)])
        assert store.visible() == truth
    old = known(store, (95, 120))
    wait_for_step(store, "fold", "no fold", lambda: store.count("fresh") == 0)
    assert set(store.visible()) == set(truth) | set(old)
    wait_for_step(store, "retention", "what is too old goes", lambda: store.visible() == truth)
    assert store.one("SELECT _prom_catalog.recount()") == 0


def test_a_leap_is_doubted_for_a_day(store):
    truth = known(store, (10, 20))
    old = known(store, (100,))
    sealed(store)

    def retain():
        while True:
            r = store.row("SELECT * FROM _prom_catalog.apply_retention(true)")
            if not r["more"]:
                return r["problem"]

    def noted(**columns):
        store.sql("UPDATE _prom_catalog.clock_seen SET "
                  + ", ".join(f"{k} = now() - interval '{v}'" for k, v in columns.items()))

    noted(seen_at="50 hours")
    assert "nothing is deleted until" in retain() and "trust_clock()" in retain()
    noted(leapt_at="23 hours", seen_at="1 hour")  # each run notes the time: the leap is still one
    assert "nothing is deleted until" in retain()
    with pytest.raises(Exception, match="retention: .*the clock says"):
        store.force()
    assert store.visible() == {**truth, **old}
    assert store.one("SELECT state FROM prom_info.maintenance WHERE step = 'retention'") == "failing"
    noted(leapt_at="25 hours")
    assert retain() is None
    assert store.visible() == truth
    assert store.sql("SELECT leapt_at, before FROM _prom_catalog.clock_seen") == [(None, None)]


@pytest.mark.parametrize("seen, why", [("47 hours", "not long"), ("9 days", "yesterday"), ("9 days", "trusted"),
                                       ("-1 year", "back")])
def test_time_that_has_passed_is_no_leap(store, seen, why):
    truth = known(store, (1,) if why == "yesterday" else (10,))
    known(store, (100,))
    sealed(store)
    store.sql("UPDATE _prom_catalog.clock_seen SET seen_at = now() - %s::interval", (seen,))
    if why == "trusted":
        assert store.one("SELECT _prom_catalog.doubt_clock()") is not None
        store.sql("SET ROLE prom_maintenance")
        store.sql("SELECT _prom_catalog.trust_clock()")
        store.sql("RESET ROLE")
    store.force()
    assert store.visible() == truth
    assert store.sql("SELECT leapt_at, seen_at BETWEEN now() - interval '1 hour' AND now() FROM _prom_catalog.clock_seen") \
        == [(None, True)]


def test_a_second_leap_within_the_doubt_is_one(store):
    truth = known(store, (10, 20, 100))
    sealed(store)
    store.sql("UPDATE _prom_catalog.clock_seen SET seen_at = now() - interval '399 days 23 h',"
              " leapt_at = now() - interval '400 days', before = now() - interval '800 days'")
    assert "nothing is deleted until" in store.row("SELECT * FROM _prom_catalog.apply_retention(true)")["problem"]
    assert store.visible() == truth
    assert store.sql("SELECT leapt_at = seen_at, before < now() - interval '799 days' FROM _prom_catalog.clock_seen") \
        == [(True, True)]


def test_the_first_samples_long_after_the_installation_are_no_leap(store):
    store.sql("UPDATE _prom_catalog.clock_seen SET seen_at = now() - interval '9 days'")
    store.force()
    truth = known(store, (10,))
    store.force()
    assert store.visible() == truth


def test_a_leap_back_within_the_doubt_ends_it(store):
    store.sql("UPDATE _prom_catalog.clock_seen SET seen_at = now() + interval '364 days', leapt_at = now() + interval '364 days'")
    assert store.one("SELECT _prom_catalog.doubt_clock()") is None
    store.sql("UPDATE _prom_catalog.clock_seen SET seen_at = now() - interval '10 days'")
    assert store.one("SELECT _prom_catalog.doubt_clock()") is not None
