"""Metrics with floats and histograms: two streams, which maintenance keeps apart; answers are the same in each form."""

import subprocess

import psycopg2
import pytest

from store import HOUR, TOOLS, Store, bits, hist, wait_until
from test_worker import PRELOAD


def resolve(store, *names):
    """{name: (metric id, series id)} of metrics with one series each."""
    n = len(names)
    row = store.row("SELECT metric_ids, series_ids FROM _prom_catalog.resolve_series(0, %s, %s, %s, %s, %s, %s)",
                    (list(names), ["__name__"] * n, list(names), list(range(1, n + 1)), [1] * n, list(range(1, n + 1))))
    return dict(zip(names, zip(row["metric_ids"], row["series_ids"])))


def views(store):
    while store.one("SELECT _prom_catalog.make_metric_views(100)") > 0:
        pass
    assert store.sql("SELECT views_error FROM _prom_catalog.metric WHERE views_error IS NOT NULL") == []


def mixed(store):
    """Samples of a metric with both kinds, one with histograms only, one with floats only, over three hours; every
    third time of the first has both. (truth of prom_metric, truth of prom_histogram)"""
    got = resolve(store, "both", "hists", "floats")
    t0 = store.now_ms() // HOUR * HOUR - 3 * HOUR
    samples = []
    for i in range(360):
        for name, (metric, series) in got.items():
            if name == "floats" or name == "both" and i % 3 != 1:
                samples.append((0, metric, series, t0 + i * 30_000, bits(float(i))))
            if name == "hists" or name == "both" and i % 3 != 2:
                samples.append((0, metric, series, t0 + i * 30_000, hist(i + 1)))
    return got, samples, t0


def answers(store, t0):
    out = []
    for name in ("both", "hists", "floats"):
        out += store.sql(f"SELECT time, value, series_id FROM prom_metric.{name} ORDER BY 1")
    for name in ("both", "hists"):
        out += store.sql(f"SELECT time, histogram::text, start_time, series_id FROM prom_histogram.{name} ORDER BY 1")
    for query in ('{__name__=~"both|hists|floats"}', "rate(hists[5m])", "histogram_quantile(0.9, hists)",
                  "count_over_time(both[10m])", "sum(both)"):
        out += store.sql("SELECT time, value, labels, histogram::text FROM prom_api.promql_range(%s, to_timestamp(%s),"
                         " to_timestamp(%s), '41 s') ORDER BY 3, 1", (query, t0 / 1000, t0 / 1000 + 3 * 3600))
    return out


@pytest.mark.parametrize("packed", [False, True])
def test_answers_stay_the_same(store, packed):
    got, samples, t0 = mixed(store)
    metrics = [m for m, _ in got.values()] if packed else []
    for k in range(0, len(samples), 90):
        store.flush(samples[k:k + 90], packed=metrics)
    views(store)
    store.sql("SET client_min_messages = error")
    fresh = answers(store, t0)
    assert len(fresh) > 1500
    n = {kind: sum((b[0] == "H") == kind for *_, b in samples) for kind in (False, True)}
    counted = store.sql("SELECT (SELECT count(*) FROM prom_metric.both) + (SELECT count(*) FROM prom_metric.floats),"
                        " (SELECT count(*) FROM prom_histogram.both) + (SELECT count(*) FROM prom_histogram.hists)")
    assert counted == [(n[False], n[True])]
    store.merge()
    assert store.count("fresh") == 0
    assert answers(store, t0) == fresh
    assert store.sql("SELECT DISTINCT kind FROM _prom_data.merged ORDER BY 1") == [(1,), (2,)]
    # what is sent again, folded by itself, changes nothing
    for k in range(0, len(samples), 250):
        store.flush([(t, m, s, at, hist(7) if b[0] == "H" else bits(-1.0)) for t, m, s, at, b in samples[k:k + 50]])
        store.merge()
    assert answers(store, t0) == fresh
    store.force()
    assert store.count("merged") == 0 and store.count("fresh") == 0
    assert answers(store, t0) == fresh
    assert store.one("SELECT count(*) FROM _prom_data.block") + store.count("block_far") >= 4
    assert store.one("SELECT _prom_catalog.recount()") == 0
    assert store.sql("SELECT * FROM _prom_catalog.maintenance_error") == []


def test_start_timestamps_pass_through(store):
    got = resolve(store, "begun")
    metric, series = got["begun"]
    t0 = store.now_ms() // HOUR * HOUR - 2 * HOUR
    expected = []
    for part in range(3):
        for kind in ("float", "hist"):
            lines = [f"block fresh flush 0 {metric}"]
            for i in range(part * 40, part * 40 + 40):
                t, start = t0 + i * 10_000, t0 + part * 1000 if i % 4 else 0
                value = "{{count:%d sum:1 buckets:[%d]}}" % (i + 1, i + 1) if kind == "hist" else f"{i}"
                lines.append(f"{metric},{series},{t + (5 if kind == 'float' else 0)}@{start},{value}")
                if kind == "hist":
                    expected.append((i + 1, start or None))
            store.sql(insert("\n".join(lines) + "\nend\n"))
        if part < 2:
            store.merge()
    views(store)

    def seen():
        return store.sql("SELECT prom_api.histogram_count(histogram)::int, (extract(epoch FROM start_time) * 1000)::int8"
                         " FROM prom_histogram.begun ORDER BY time")

    def floats():
        store.sql("SET promscale.promql_features = 'use-start-timestamps,promql-experimental-functions'")
        return store.sql("SELECT value FROM prom_api.promql_range('start_timestamp(begun)', to_timestamp(%s),"
                         " to_timestamp(%s), '10 s')", ((t0 + 5) / 1000, (t0 + 1_190_000) / 1000))
    assert seen() == expected
    before = floats()
    assert len({v for v, in before}) == 4, "three starts, and none"
    store.merge()
    assert seen() == expected and floats() == before
    store.force()
    assert store.count("merged") == 0
    assert seen() == expected and floats() == before


def insert(text):
    return subprocess.run([TOOLS / "make_block"], input=text, text=True, check=True, stdout=subprocess.PIPE).stdout


def test_damage_in_one_kind_leaves_the_other(store):
    got = resolve(store, "both")
    metric, series = got["both"]
    t = store.now_ms() // HOUR * HOUR - 30 * 60_000
    floats = [(0, metric, series, t + i, bits(1.0)) for i in range(5)]
    store.flush(floats + [(0, metric, series, t + i, hist(3)) for i in range(5)])
    broken = store.one("UPDATE _prom_data.fresh SET data = set_byte(data, octet_length(data) - 5, get_byte(data,"
                       " octet_length(data) - 5) # 255) WHERE kind = 2 RETURNING id")
    store.merge()
    assert store.sql("SELECT kind, n_samples FROM _prom_data.merged") == [(1, 5)]
    assert store.sql("SELECT id, kind FROM _prom_data.fresh") == [(broken, 2)]
    assert store.sql("SELECT block_id FROM _prom_catalog.maintenance_error") == [(broken,)]
    views(store)
    assert store.one("SELECT count(*) FROM prom_metric.both") == 5, "floats are read beside it"
    assert store.one("SELECT _prom_catalog.recount()") == 0


def test_drop_and_retention(store):
    got, samples, t0 = mixed(store)
    store.flush(samples, packed=[got["hists"][0]])
    store.merge()
    views(store)
    old = [(0, got["both"][0], got["both"][1], t0 - 400 * 24 * HOUR + i, b) for i in range(5) for b in (bits(1.0), hist(2))]
    store.flush(old)
    store.merge()
    store.sql("SELECT _prom_catalog.apply_retention()")
    assert {r[5] for r in store.rows()} == {t for _, _, _, t, _ in samples}
    assert store.one("SELECT to_regclass('prom_histogram.both')") is not None
    store.flush([(0, *got["both"], t0 + 1, hist(2))])
    store.sql("SELECT prom_api.drop_metric('both')")
    store.sql("SELECT prom_api.drop_metric('hists')")
    assert store.one("SELECT to_regclass('prom_histogram.both')") is None
    store.force()
    assert {r[3] for r in store.rows()} == {got["floats"][0]}


def test_a_view_that_is_used_keeps_its_metric(store):
    got = resolve(store, "used")
    store.flush([(0, *got["used"], store.now_ms(), hist(1))])
    views(store)
    store.sql("CREATE VIEW public.mine AS SELECT histogram FROM prom_histogram.used")
    with pytest.raises(psycopg2.Error, match="used by others"):
        store.sql("SELECT prom_api.drop_metric('used')")
    assert store.one("SELECT count(*) FROM public.mine") == 1


def test_views_come_within_seconds(make_server):
    """Rows of one metric, and rows that small metrics share; floats first, histograms later."""
    server = make_server(PRELOAD)
    server.sql("CREATE DATABASE promscale")
    server.sql("CREATE EXTENSION promscale", "promscale")
    store = Store(server, "promscale")
    got = resolve(store, "own", "shared", "never")
    t = store.now_ms() - 60_000
    store.flush([(0, *ids, t, bits(1.0)) for ids in got.values()])
    wait_until("no views", lambda: store.one("SELECT to_regclass('prom_metric.never')") is not None)
    assert store.one("SELECT to_regclass('prom_histogram.own')") is None
    store.flush([(0, *got[name], t + 1, hist(4)) for name in ("own", "shared")], packed=[got["shared"][0]])
    for name in ("own", "shared"):
        wait_until("no view", lambda: store.one("SELECT to_regclass(%s)", (f"prom_histogram.{name}",)) is not None)
        assert store.one(f"SELECT histogram::text FROM prom_histogram.{name}") == "{{schema:0 count:4 sum:4 buckets:[4]}}"
    assert store.one("SELECT to_regclass('prom_histogram.never')") is None
    # labels that come later are columns there, too
    store.sql("SELECT * FROM _prom_catalog.resolve_series(0, '{own}', '{__name__,zone}', '{own,a}', '{1}', '{2}', '{1,2}')")
    wait_until("no column", lambda: store.one("SELECT count(*) FROM pg_attribute WHERE attrelid ="
                                              " 'prom_histogram.own'::regclass AND attname = 'zone_id'") == 1)
    store.close()


def test_histograms_marked_by_the_fold(store):
    """Found in the fold, should they have escaped the look at fresh rows."""
    got = resolve(store, "late")
    t = store.now_ms()
    store.flush([(0, *got["late"], t - i, hist(1)) for i in range(3)])
    store.merge()
    assert store.one("SELECT histograms FROM _prom_catalog.metric WHERE metric_name = 'late'") is True
    views(store)
    assert store.one("SELECT count(*) FROM prom_histogram.late") == 3


def test_a_locked_metric_is_marked_another_time(server, store):
    got = resolve(store, "locked", "free")
    store.flush([(0, *ids, store.now_ms(), hist(1)) for ids in got.values()])
    other = server.connect(store.database)
    other.cursor().execute("BEGIN; UPDATE _prom_catalog.metric SET positions = positions WHERE metric_name = 'locked'")
    assert store.one("SELECT _prom_catalog.note_histograms()") == 1
    assert store.sql("SELECT metric_name FROM _prom_catalog.metric WHERE histograms") == [("free",)]
    other.close()
    assert store.one("SELECT _prom_catalog.note_histograms()") == 1


def test_a_large_fresh_is_not_searched(store):
    """Each round would read it anew; the fold finds them."""
    got = resolve(store, "amid")
    store.flush([(0, *got["amid"], store.now_ms(), hist(1))])
    begin = store.conn.cursor()
    begin.execute("BEGIN")
    begin.execute("INSERT INTO _prom_data.fresh (tenant_id, metric_id, dist_key, level, kind, format, series_lo, series_hi,"
                  " t_min, t_max, n_series, n_samples, data) SELECT 0, 1, 0, 0, 1, 1, 1, 1, now(), now(), 1, 1,"
                  " convert_to(repeat('x', 7500), 'UTF8') FROM generate_series(1, 4500)")
    begin.execute("SELECT pg_relation_size('_prom_data.fresh') > 33554432, _prom_catalog.note_histograms()")
    assert begin.fetchone() == (True, 0)
    begin.execute("ROLLBACK")
    store.sql("VACUUM (TRUNCATE on) _prom_data.fresh")
    assert store.one("SELECT _prom_catalog.note_histograms()") == 1


def test_a_dump_takes_the_views_along(server, store):
    got, samples, t0 = mixed(store)
    store.flush(samples)
    views(store)
    store.force()
    store.sql("CREATE TABLE public.mine AS SELECT time, histogram FROM prom_histogram.both")
    before = store.sql("SELECT time, histogram::text, series_id FROM prom_histogram.both ORDER BY 1")
    server.client("pg_dump", "-F", "custom", "-f", server.data / "kinds.dump", store.database)
    restored = server.create(extension=False)
    server.client("pg_restore", "--single-transaction", "--exit-on-error", "-d", restored, server.data / "kinds.dump")
    again = Store(server, restored)
    assert again.sql("SELECT time, histogram::text, series_id FROM prom_histogram.both ORDER BY 1") == before
    assert again.one("SELECT bool_and(m.histogram OPERATOR(prom_api.=) h.histogram) FROM public.mine m"
                     " JOIN prom_histogram.both h USING (time)") is True
    assert again.one("SELECT count(*) FROM pg_views WHERE schemaname = 'prom_histogram' AND viewowner = 'prom_admin'") == 2
    assert again.one("SELECT _prom_catalog.make_metric_views(100)") == 0
    again.close()


def test_rights_and_row_security(server, store):
    got, samples, t0 = mixed(store)
    store.flush(samples)
    views(store)
    store.sql("DROP ROLE IF EXISTS kinds_reader; DROP ROLE IF EXISTS kinds_nobody;"
              "CREATE ROLE kinds_reader LOGIN IN ROLE prom_reader; CREATE ROLE kinds_nobody LOGIN")
    reader, nobody = server.connect(store.database, "kinds_reader"), server.connect(store.database, "kinds_nobody")
    cur = reader.cursor()

    def seen():
        cur.execute("SELECT count(*) FROM prom_histogram.hists")
        return cur.fetchone()[0]
    assert seen() == 360
    with pytest.raises(psycopg2.Error, match="permission denied"):
        nobody.cursor().execute("SELECT count(*) FROM prom_histogram.hists")
    store.sql("ALTER TABLE _prom_catalog.series ENABLE ROW LEVEL SECURITY;"
              f"CREATE POLICY p ON _prom_catalog.series USING (id <> {got['hists'][1]})")
    assert seen() == 0
    store.sql("DROP POLICY p ON _prom_catalog.series; ALTER TABLE _prom_catalog.series DISABLE ROW LEVEL SECURITY;"
              "ALTER TABLE _prom_data.fresh ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON _prom_data.fresh USING (kind = 1)")
    assert seen() == 0
    with pytest.raises(psycopg2.Error, match="cannot be inserted|cannot insert"):
        store.sql("INSERT INTO prom_histogram.hists (time, series_id) VALUES (now(), 1)")
    reader.close()
    nobody.close()
