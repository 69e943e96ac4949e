"""What retention and garbage collection free comes back: days whole, rows by way of compact, and the catalog's places are
used again. In bytes of files."""

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "catalog"))
from database import resolve_with, series
from store import DAY, bits
from test_compact import vacuums
from test_retention import NOW

FILES = ("SELECT c.relname, pg_total_relation_size(c.oid) FROM pg_class c WHERE c.relkind = 'r'"
         " AND c.relnamespace IN ('_prom_data'::regnamespace, '_prom_catalog'::regnamespace)")
LIVE = "SELECT coalesce(sum(octet_length(data) + 164), 0)::int8 FROM _prom_data.block"


def files(store):
    """{table: bytes with TOAST, indexes and maps}"""
    return dict(store.sql(FILES))


def filled(store, days, n_series=60, n=720):
    """Noise of two metrics, half of the series of each in env dev; sealed."""
    rng, today = random.Random(5), store.now_ms() // DAY * DAY
    r = resolve_with(store.conn, [series(m, env="dev" if i % 2 else "prod", i=str(i)) for m in ("a", "b")
                                  for i in range(n_series)])
    for day in days:
        for j, m in enumerate(r.metrics):
            store.flush([(0, m, s, today - day * DAY + k * 120_000, bits(rng.random()))
                         for s in r.series[j * n_series:][:n_series] for k in range(n)])
    store.sql("SELECT _prom_catalog.set_setting('compact_size', '256 kB')")
    store.sql(NOW)
    store.force()
    vacuums(store)


def test_days_come_back_whole(store):
    filled(store, (3, 12, 13), n_series=20)
    before, live = files(store), store.one(LIVE)
    old = {t for (t,) in store.sql("SELECT table_name FROM _prom_catalog.partitions()"
                                   " WHERE day < now() - interval '10 days'")}
    assert len(old) == 2
    store.sql("SELECT prom_api.set_default_retention_period('7 days')")
    store.force()
    after = files(store)
    assert not old & set(after)
    assert store.one(LIVE) < 0.4 * live
    assert sum(after.values()) < sum(before.values()) - sum(before[t] for t in old) + 100_000


@pytest.mark.parametrize("rule", ["SELECT prom_api.set_metric_retention_period('a', '7 days')",
                                  """SELECT prom_api.set_retention('{env="dev"}', '7 days')"""])
def test_what_rows_leave_comes_back(store, rule):
    """First it is free within the file, where it is used again; after a round with VACUUM compact gives it back."""
    filled(store, (12,))
    table, = (t for t in files(store) if t.startswith("block_2") and store.count(t) > 0)
    whole, live = files(store)[table], store.one(LIVE)
    store.sql(rule)
    store.force()
    vacuums(store)
    left, hollow = store.one(LIVE), files(store)[table]
    assert 0.4 * live < left < 0.6 * live and hollow >= whole
    rows = store.visible()
    store.force()
    vacuums(store)
    assert files(store)[table] < 1.2 * left + 130_000 < 0.9 * whole
    assert store.visible() == rows and store.one("SELECT _prom_catalog.recount()") == 0


def test_series_that_come_and_go_need_no_more_room_each_time(store):
    """Ten generations of pods. Of the catalog, autovacuum makes places free again; here VACUUM stands for it. Only the
    index of labels keeps an entry for each label that ever was, until it is made anew."""
    t = store.now_ms() // DAY * DAY - 12 * DAY
    store.sql(NOW)
    store.sql("SELECT _prom_catalog.set_setting('series_grace', '0')")
    store.sql("""SELECT prom_api.set_retention('{job="batch"}', '7 days')""")
    n, sizes, indexes, rng = 2000, [], [], random.Random(9)
    for generation in range(10):
        r = resolve_with(store.conn, [series(f"m{i % 5}", job="batch", pod=f"{generation}-{i}") for i in range(n)])
        store.flush([(0, r.metrics[i % 5], s, t + k * 60_000, bits(rng.random())) for i, s in enumerate(r.series)
                     for k in range(3)])
        store.merge()
        assert store.one("SELECT count(*) FROM _prom_catalog.series") == n
        assert store.one("SELECT count(*) FROM _prom_data.presence") > 0
        # samples that are too old when they come are looked for once a week; the feed is kept for an hour
        store.sql("UPDATE _prom_catalog.retention_progress SET all_at = all_at - interval '8 days'")
        store.sql("UPDATE _prom_catalog.job SET feed_marked = feed_marked - interval '2 hours'")
        store.force()
        assert store.one("SELECT count(*) FROM _prom_catalog.series") == 0 and store.visible() == {}
        for table in ("_prom_data.presence", "_prom_catalog.metric_day"):
            assert store.one(f"SELECT count(*) FROM {table}") == 0
        vacuums(store)
        store.sql("VACUUM")
        indexes.append(store.one("SELECT pg_relation_size('_prom_catalog.series_labels_idx')"))
        sizes.append(sum(files(store).values()) - indexes[-1])
    assert max(sizes) < 1.5 * sizes[0], sizes
    assert indexes[-1] - indexes[0] < 9 * n * 100, indexes
    store.sql("REINDEX INDEX CONCURRENTLY _prom_catalog.series_labels_idx")
    assert store.one("SELECT pg_relation_size('_prom_catalog.series_labels_idx')") < 50_000
