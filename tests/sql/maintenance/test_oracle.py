"""Random writes, many of them for times that were written before with another value; random steps of
maintenance between them. Whatever is done: each (series, time) shows the value that was written first,
nothing is missing, nothing is there that nobody wrote. Some metrics have histograms beside their floats, or only
them."""

import random

import pytest

from store import DAY, HOUR, TABLES, bits, hist, key_of

METRICS = [1, 2, 3, 33, 65]  # 1, 33 and 65 share a bucket
HISTOGRAMS = {2: 0.5, 33: 0.5, 3: 1}  # what share of their samples
SERIES = {m: [m * 1000 + i for i in range(1, 9)] for m in METRICS}


class Model:
    def __init__(self, store, rng):
        self.store = store
        self.rng = rng
        self.truth = {}
        self.now = store.now_ms()
        self.anchors = [self.now - 60_000, self.now - HOUR, self.now - 9 * HOUR, self.now - 26 * HOUR,
                        self.now - 3 * DAY, self.now - 40 * DAY, self.now - 2000 * DAY, self.now + 5 * DAY, -5_000]

    def time(self):
        """Few distinct times, so that conflicts are common; often at the edge of an hour or a day."""
        anchor = self.rng.choice(self.anchors[:4] * 3 + self.anchors)
        kind = self.rng.random()
        if kind < 0.2:
            anchor = anchor // HOUR * HOUR
        elif kind < 0.3:
            anchor = anchor // DAY * DAY
        return anchor + self.rng.randint(-3, 3) * self.rng.choice([1, 15_000])

    def write(self):
        batch = {}
        for _ in range(self.rng.choice([1, 3, 20, 60])):
            metric = self.rng.choice(METRICS)
            key = (self.rng.choice([0, 0, 0, 7]), metric, self.rng.choice(SERIES[metric]), self.time())
            n = self.rng.randint(1, 6)
            b = hist(n) if self.rng.random() < HISTOGRAMS.get(metric, 0) else bits(float(n))
            batch.setdefault(key_of(*key, b), b)
        packed = [m for m in METRICS if self.rng.random() < 0.5]
        self.store.flush([(*key[:4], b) for key, b in batch.items()], packed)
        for key, b in batch.items():
            self.truth.setdefault(key, b)

    def maintain(self):
        kind = self.rng.random()
        if kind < 0.70:
            self.store.merge(self.rng.choice([1, 300, 2000, 1 << 25]))
        elif kind < 0.88:
            self.store.seal(True, self.rng.choice([1, 1, 500, 1 << 26]))
        elif kind < 0.96:
            self.store.seal(False)
        elif kind < 0.97:
            self.store.sql("UPDATE _prom_catalog.reseal_queue SET since = since - interval '1 day' WHERE random() < 0.5")
            self.store.sql("SELECT _prom_ext.reseal_step(false)")
        elif kind < 0.985:
            self.store.sql("SELECT _prom_catalog.set_setting('chunk_interval', %s)",
                           (self.rng.choice(["8 hours", "1 hour", "90 minutes", "3 days"]),))
        elif kind < 0.995:  # as a clock that is ahead for a while does
            self.store.sql("UPDATE _prom_catalog.merge_boundary SET boundary = boundary + interval '9 days'")
        else:
            self.store.sql("VACUUM _prom_data.fresh, _prom_data.merged")


def check(model):
    seen = model.store.visible()
    assert len(seen) == len(model.truth)
    assert seen == model.truth
    for table, level in TABLES.items():
        rows = {(r[1], r[6][0] == "H") for r in model.store.rows() if r[0] == level}
        assert len({i for i, _ in rows}) == len(rows), "each row is of one kind"
    assert model.store.one("SELECT _prom_catalog.recount()") == 0, "figures that are wrong"


def leave_dead_rows(store):
    """4 MB of them: folds remember where in a large file the living begin."""
    cur = store.conn.cursor()
    cur.execute("BEGIN")
    cur.execute("INSERT INTO _prom_data.fresh (tenant_id, metric_id, dist_key, level, kind, format, series_lo, series_hi,"
                " t_min, t_max, n_series, n_samples, data) SELECT 0, 1, 0, 0, 0, 1, 1, 1, now(), now(), 1, 1,"
                " convert_to(repeat('x', 7500), 'UTF8') FROM generate_series(1, 500)")
    cur.execute("ROLLBACK")
    assert store.one("SELECT pg_relation_size('_prom_data.fresh') > 2000000")


@pytest.mark.parametrize("seed", range(6))
def test_first_write_stays(store, seed):
    rng = random.Random(seed)
    model = Model(store, rng)
    if seed % 2 == 1:
        leave_dead_rows(store)
    # retention must not take the samples of long ago while the test looks
    store.sql("SELECT _prom_catalog.set_setting('retention_period', '0')")
    for step in range(160):
        model.write()
        for _ in range(rng.choice([0, 1, 1, 2])):
            model.maintain()
            if step % 8 == 0:
                check(model)
    check(model)
    store.force()
    check(model)
    assert store.count("fresh") == 0 and store.count("merged") == 0
    assert len(store.rows()) == len(model.truth), "each sample is stored once"
    assert store.sql("SELECT * FROM _prom_catalog.maintenance_error") == []
    assert store.sql("SELECT * FROM _prom_catalog.reseal_queue") == []


def test_folds_take_merged_rows_along(store):
    """Many small folds of one hour: few rows remain (runs of like size are joined), and a conflicting
    late write in each fold changes nothing."""
    hour = store.now_ms() // HOUR * HOUR - 30 * 60_000
    truth = {}
    taken = 0
    for i in range(120):
        samples = [(0, 5, s, hour + i * 1000, bits(float(i * s))) for s in (1, 2, 3)]
        samples += [(0, 5, 1, hour + j * 1000, bits(-1.0)) for j in range(max(0, i - 20), i)]
        store.flush(samples)
        for *key, b in samples:
            truth.setdefault(tuple(key), b)
        taken += store.merge()["rows_taken"]
    assert store.visible() == truth
    # at most 15 runs waiting in each of the two sizes
    assert store.count("merged") <= 31
    # each sample is rewritten about once, not by every fold
    assert 60 < taken < 300


def test_big_metric_is_split_by_series(store):
    """A window with more series than fit into one row: rows are disjoint and in order."""
    t0 = store.now_ms() // HOUR * HOUR - 3 * HOUR
    rng = random.Random(1)
    truth = {}
    for part in range(4):
        samples = [(0, 9, s, t0 + (part * 20 + i) * 15_000, bits(rng.random())) for s in range(1, 801) for i in range(20)]
        store.flush(samples)
        truth.update({tuple(k): b for *k, b in samples})
        store.merge()
    assert store.count("merged") > 4
    store.force()
    assert store.visible() == truth
    rows = store.sql("SELECT series_lo, series_hi, octet_length(data) FROM _prom_data.block ORDER BY series_lo")
    assert len(rows) > 3
    assert all(a[1] < b[0] for a, b in zip(rows, rows[1:]))
    assert max(r[2] for r in rows) < 100_000
