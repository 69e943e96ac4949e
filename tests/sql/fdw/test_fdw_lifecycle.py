"""The whole extension: samples go from fresh to merged to sealed, and no answer changes on the way."""

import json
import random
import time

import pytest

from fdw_blocks import Store, bucket

SEEN = "SELECT metric_id, time, bits_of(value), series_id, labels FROM _prom_data.samples"
EXPECTED = "SELECT metric_id, time, value_bits, series_id, labels FROM oracle"
HOUR_MS = 3600000


@pytest.fixture(scope="module")
def store(server):
    server.create("lifecycle_db", everything=True)
    conn = server.connect("lifecycle_db")
    conn.cursor().execute("SET timezone = 'UTC'")
    s = Store(conn)
    # Store.metric() gives ids of its own
    s.sql("SELECT setval('_prom_catalog.metric_id_seq', 100), setval('_prom_catalog.series_id_seq', 1000000)")
    yield s
    conn.close()


def write(store, rng, metrics, now_ms):
    """A row of one metric, or of the small metrics of one bucket, somewhere in time."""
    metric = rng.choice(list(metrics))
    if metric != 1:
        metric = bucket(metric)
    start = now_ms - rng.choice([0, 0, HOUR_MS, 9 * HOUR_MS, 30 * HOUR_MS, 480 * HOUR_MS, 200000 * HOUR_MS])
    samples = {}
    for _ in range(rng.randint(1, 300)):
        of = metric if metric > 0 else rng.choice([m for m in metrics if bucket(m) == metric])
        key = (of, rng.choice(metrics[of]), start - rng.randrange(600) * 1000)
        samples[key] = rng.choice([rng.random(), rng.randint(0, 5)])
    store.block("fresh", metric, [(*key, value) for key, value in samples.items()])


def test_fold_and_seal(store):
    rng = random.Random(3)
    metrics = {m: store.metric(m, n, m * 1000) for m, n in ((1, 30), (2, 5), (33, 5), (34, 5))}
    assert bucket(2) == bucket(34) != bucket(33)
    most = {"merged": 0, "block": 0, "block_far": 0}  # rows seen at a time
    for round_number in range(5):
        now_ms = int(time.time() * 1000)
        for _ in range(30):
            write(store, rng, metrics, now_ms)
        store.flush()
        assert store.sql(f"SELECT count(*) FROM (({SEEN} EXCEPT ALL {EXPECTED}) UNION ALL"
                         f" ({EXPECTED} EXCEPT ALL {SEEN})) x") == [(0,)]
        before = sorted(store.sql(SEEN + ""), key=str)
        assert store.sql("SELECT did FROM _prom_ext.merge_step()") == [(True,)]
        assert sorted(store.sql(SEEN), key=str) == before
        for table in most:
            most[table] = max(most[table], store.sql(f"SELECT count(*) FROM _prom_data.{table}")[0][0])
        store.sql("SELECT _prom_catalog.ensure_partitions()")
        store.sql("SELECT _prom_ext.seal_step(%s)", (round_number % 2 == 0,))
        assert sorted(store.sql(SEEN), key=str) == before
    assert min(most.values()) >= 4, most  # late rows are joined with what is sealed


def test_matchers_once_per_series(store):
    """What views and operators make of a question ends up where it is cheap."""
    store.sql("""SELECT * FROM _prom_catalog.resolve_series(0, '{cpu}', '{__name__,node,node}', '{cpu,brain,pinky}',
                 '{1,1}', '{2,2}', '{1,2,1,3}')""")
    metric, series = store.sql("SELECT metric_id, array_agg(id) FROM _prom_catalog.series"
                               " WHERE metric_id = (SELECT id FROM _prom_catalog.metric WHERE metric_name = 'cpu')"
                               " GROUP BY 1")[0]
    now_ms = int(time.time() * 1000)
    store.block("fresh", metric, [(metric, s, now_ms - k * 1000, k) for s in series for k in range(50)])
    store.flush()
    store.sql("SELECT _prom_catalog.make_metric_views(100)")
    store.sql("SET search_path = public, prom_api, ps_tag")
    for qual, matched in (("labels ? ('node' == 'brain')", 1), ("labels ? ('node' !=~ 'x.*')", 2),
                          ("labels @> jsonb '{\"node\": \"pinky\"}'", 1), ("val(node_id) = 'pinky'", 1),
                          ("eq(labels, jsonb '{\"node\": \"brain\"}')", 1)):
        plan = store.sql(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) SELECT time, value FROM prom_metric.cpu"
                         f" WHERE {qual} AND time > now() - interval '1 h'")[0][0][0]["Plan"]
        assert plan["Node Type"] == "Foreign Scan" and "Filter" not in plan, json.dumps(plan)
        assert (plan["Series Matched"], plan["Series Total"], plan["Actual Rows"]) == (matched, 2, 50 * matched), qual
    store.sql("RESET search_path")
