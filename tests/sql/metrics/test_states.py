"""Answers do not depend on how samples are stored: whatever is folded, sealed, written anew, switched on and off or cut
into other chunks, SQL and PromQL say what was written."""
import random

import pytest

from conftest import DAY, HOUR

LENGTHS = ("1 hour", "8 hours", "6 hours", "1 day")


class Model:
    def __init__(self, db, seed):
        self.db, self.rng = db, random.Random(seed)
        self.metric = 0
        self.series = []
        for host in "abcd":
            self.metric, s = db.make("m", host=host)
            self.series.append(s)
        self.now = db.now_ms()
        self.days = [self.now // DAY * DAY - n * DAY for n in (0, 1, 4)]
        self.truth = {}

    def write(self):
        """Samples of some hours of a day, every time the same grid: many are there already, then the first stays."""
        start = self.rng.choice(self.days) + self.rng.randrange(20) * HOUR
        rows = [(self.metric, s, start + i * 300_000 + self.rng.choice((0, 0, 1000)), float(self.rng.randrange(100)))
                for s in self.series if self.rng.random() < 0.7 for i in range(self.rng.choice((1, 12, 40)))]
        rows = [r for r in {r[1:3]: r for r in rows}.values() if r[2] < self.now]
        if rows:
            self.db.block("fresh", self.metric, rows)
        for _, s, t, v in rows:
            self.truth.setdefault((s, t), v)

    def step(self):
        """Returns what was done, for the message of an assertion."""
        kind = self.rng.choice(("merge", "merge", "seal", "seal all", "reseal", "length", "off", "on", "force"))
        switch = self.rng.choice(("set_default_compression_setting({})", "set_metric_compression_setting('m', {})"))
        statements = {
            "merge": "SELECT _prom_ext.merge_step()",
            "seal": "SELECT _prom_ext.seal_step(false)",
            "seal all": "SELECT _prom_ext.seal_step(true)",
            "reseal": "UPDATE _prom_catalog.reseal_queue SET since = '2000-01-01'; SELECT _prom_ext.reseal_step()",
            "length": self.rng.choice(("set_default_chunk_interval", "set_metric_chunk_interval")),
            "off": "SELECT " + switch.format("false"),
            "on": "SELECT " + switch.format("true"),
            "force": "CALL execute_maintenance(force => true)"}
        text = statements[kind]
        if kind == "length":
            name = "'m', " if "metric" in text else ""
            text = f"SELECT {text}({name}'{self.rng.choice(LENGTHS)}')"
        if "seal" in kind:
            self.db.sql("SELECT _prom_catalog.ensure_partitions()")
        self.db.sql(text)
        return text

    def promql(self):
        return sorted(self.db.sql("SELECT time, value, labels::text FROM promql_range('sum by (host) (sum_over_time(m[2h]))',"
                                  " to_timestamp(%s), to_timestamp(%s), interval '1 hour')",
                                  (self.days[-1] / 1000, self.now / 1000)))

    def check(self, message):
        shown = self.db.sql("SELECT series_id, (extract(epoch FROM time) * 1000)::int8, value FROM prom_metric.m")
        assert len(shown) == len(self.truth), message
        assert {(s, t): v for s, t, v in shown} == self.truth, message
        sums = self.db.sql("SELECT series_id, count(value), sum(value), min(value), max(value) FROM prom_metric.m GROUP BY 1")
        for s, n, total, low, high in sums:
            values = [v for (k, _), v in self.truth.items() if k == s]
            assert (n, total, low, high) == (len(values), sum(values), min(values), max(values)), message

    def check_info(self):
        """With everything in its final form the figures are those of the samples."""
        n, chunks, closed, ratio, before, after = self.db.sql(
            "SELECT num_samples, total_chunks, compressed_chunks, compression_ratio, before_compression_bytes,"
            " after_compression_bytes FROM prom_info.metric")[0]
        assert n == len(self.truth) and before == 88 * n
        rows, size = self.db.sql("SELECT count(*), sum(octet_length(data)) FROM _prom_data.block")[0]
        assert after == size + 164 * rows
        assert abs(float(ratio) - (1 - float(after) / before) * 100) < 1e-6
        assert chunks == closed >= len({t // DAY for _, t in self.truth})
        return rows


@pytest.mark.parametrize("seed", range(4))
def test_answers_stay_in_every_state(db, seed):
    m = Model(db, seed)
    for _ in range(25):
        for _ in range(m.rng.choice((1, 1, 4))):
            m.write()
        m.check("written")
        before = m.promql() if m.truth else []
        done = []
        for _ in range(m.rng.choice((1, 2, 3))):
            done.append(m.step())
            m.check(done)
        assert (m.promql() if m.truth else []) == before, done
        assert db.one("SELECT _prom_catalog.recount()") == 0, done
    db.sql("SELECT set_default_compression_setting(true), reset_metric_compression_setting('m'),"
           " set_default_chunk_interval('8 hours'), reset_metric_chunk_interval('m')")
    db.maintain()
    m.check("all is sealed")
    assert db.count("_prom_data.merged") == 0 and db.count("_prom_data.fresh") == 0
    assert m.check_info() <= 9 and db.count("_prom_catalog.reseal_queue") == 0
