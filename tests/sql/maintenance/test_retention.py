"""What goes and what stays: by tenant, metric and selector, whole days and single rows, beside readers."""

import sys
import threading
import time
from pathlib import Path

import psycopg2
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "catalog"))
from database import resolve_with, series
from store import DAY, HOUR, bits

METRICS = ("cpu", "disk", "net")
NOW = "SELECT _prom_catalog.set_setting('retention_grace', '0')"


class Fleet:
    """Three metrics, two tenants, three environments; a sample an hour at some hours of each day asked for."""

    def __init__(self, store):
        self.store = store
        self.today = store.now_ms() // DAY * DAY
        self.tenants = {t: store.one("SELECT _prom_catalog.tenant_id(%s)", (t,)) for t in ("", "acme")}
        self.series = {}  # (metric, env, tenant) -> metric id, series id
        for tenant, tenant_id in self.tenants.items():
            for metric in METRICS:
                for env in ("dev", "prod", "test"):
                    r = resolve_with(store.conn, [series(metric, env=env)], tenant_id)
                    self.series[metric, env, tenant] = (r.metrics[0], r.series[0])
        self.written = {}  # key of what a reader sees -> name, time

    def write(self, days, hours=(1, 9, 23)):
        samples = []
        for name, (metric, s) in self.series.items():
            for day in days:
                for h in hours:
                    t = self.today - day * DAY + h * HOUR
                    samples.append((self.tenants[name[2]], metric, s, t, bits(float(t % 1000003))))
                    self.written[samples[-1][:4]] = (name, t)
        self.store.flush(samples)

    def seal(self):
        for step in ("fold", "partitions", "seal"):
            while self.store.one("SELECT outcome FROM _prom_catalog.run_step(%s, true)", (step,)) == "more":
                pass
        assert self.store.count("fresh") == self.store.count("merged") == 0

    def expected(self, period):
        """Keys that stay, where period(name) says for how many days; None: for ever."""
        return {k for k, (name, t) in self.written.items()
                if period(name) is None or t >= self.today - period(name) * DAY}

    def seen(self):
        return set(self.store.visible())


@pytest.fixture
def fleet(store):
    return Fleet(store)


def consistent(store):
    assert store.one("SELECT _prom_catalog.recount()") == 0
    before = store.sql("SELECT tenant_id, metric_id, window_start, part_lo, n_series FROM _prom_data.presence ORDER BY 1, 2, 3, 4")
    store.sql("SELECT _prom_catalog.recount_presence()")
    assert before == store.sql("SELECT tenant_id, metric_id, window_start, part_lo, n_series FROM _prom_data.presence"
                               " ORDER BY 1, 2, 3, 4")


def partitions(store):
    return [r[0] for r in store.sql("SELECT table_name FROM _prom_catalog.partitions() ORDER BY 1")]


def later(store):
    """As if an hour had gone since rows were moved."""
    store.sql("UPDATE _prom_catalog.leaving_day SET moved_at = moved_at - interval '61 min'")


def test_every_rule_at_once(fleet):
    """Selectors, a metric, a tenant and the default, on days in partitions and far ones, rows that mix them all."""
    store = fleet.store
    fleet.write((1, 5, 12, 25, 45, 500))
    fleet.seal()
    assert store.n_samples("block_far") == len(fleet.series) * 3
    store.sql(NOW)
    store.sql("SELECT prom_api.set_default_retention_period('30 days'), prom_api.set_metric_retention_period('disk', '20 days'),"
              " prom_api.set_tenant_retention('acme', '10 days'), prom_api.set_retention('{env=\"dev\"}', '3 days'),"
              " prom_api.set_retention('net{env=~\"dev|test\"}', '1000 days'), prom_api.set_retention('cpu{env=\"prod\"}', '0')")

    def period(name):
        metric, env, tenant = name
        if metric == "net" and env != "prod":
            return 1000
        if env == "dev":
            return 3
        if metric == "cpu" and env == "prod":
            return None
        return 20 if metric == "disk" else 10 if tenant == "acme" else 30

    values = store.visible()
    store.force()
    # what nobody keeps of the day whose default is over goes with its partition
    assert fleet.seen() >= fleet.expected(period)
    assert {fleet.today - k[3] // DAY * DAY for k in fleet.seen() - fleet.expected(period)} == {45 * DAY}
    assert all(values[k] == v for k, v in store.visible().items())
    consistent(store)
    leaving = store.sql("SELECT day FROM _prom_catalog.leaving_day WHERE moved_by IS NOT NULL")
    assert len(leaving) == 1 and len(partitions(store)) == 3 + 5
    later(store)
    store.force()
    assert fleet.seen() == fleet.expected(period) and len(partitions(store)) == 3 + 4
    assert store.sql("SELECT * FROM _prom_catalog.leaving_day") == []
    consistent(store)
    assert store.sql("SELECT name, last_error FROM _prom_catalog.job WHERE failures > 0") == []
    rows = store.sql("SELECT id, xmin FROM _prom_data.block_far UNION ALL SELECT id, xmin FROM _prom_data.block ORDER BY 1")
    store.force()  # nothing left to do
    assert rows == store.sql("SELECT id, xmin FROM _prom_data.block_far UNION ALL SELECT id, xmin FROM _prom_data.block ORDER BY 1")


def test_late_samples_of_a_leaving_day_are_moved_too(fleet):
    store = fleet.store
    fleet.write((45,))
    fleet.seal()
    store.sql(NOW)
    store.sql("SELECT prom_api.set_default_retention_period('30 days'), prom_api.set_metric_retention_period('disk', '80 days')")
    stays = fleet.expected(lambda name: 80 if name[0] == "disk" else 30)
    r = store.row("SELECT * FROM _prom_catalog.apply_retention()")
    assert (r["partitions"], r["leaving"]) == (0, 1)
    assert store.n_samples("block_far") == len(stays) > 0 and stays <= fleet.seen()
    metric, s = fleet.series["disk", "dev", ""]
    late = (0, metric, s, fleet.today - 45 * DAY + 17 * HOUR, bits(1.0))
    store.flush([late])
    fleet.seal()
    assert store.n_samples("block") > 0  # into the leaving partition, with the samples that they lie beside
    later(store)
    r = store.row("SELECT * FROM _prom_catalog.apply_retention()")
    assert (r["partitions"], r["leaving"]) == (0, 1)  # the hour begins anew
    r = store.row("SELECT * FROM _prom_catalog.apply_retention()")
    assert (r["partitions"], r["leaving"]) == (0, 1)
    later(store)
    assert store.row("SELECT * FROM _prom_catalog.apply_retention()")["partitions"] == 1
    assert fleet.seen() == stays | {late[:4]}
    consistent(store)


def test_a_day_leaves_only_when_no_reader_can_miss_rows(server, fleet):
    store = fleet.store
    fleet.write((45,))
    fleet.seal()
    reader = server.connect(store.database)
    cur = reader.cursor()
    query = "SELECT count(*), sum(n_samples) FROM (SELECT n_samples FROM _prom_data.block UNION ALL" \
            " SELECT n_samples FROM _prom_data.block_far) x"
    cur.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class")
    store.sql(NOW)
    store.sql("SELECT prom_api.set_default_retention_period('30 days'), prom_api.set_metric_retention_period('disk', '80 days')")
    assert store.row("SELECT * FROM _prom_catalog.apply_retention()")["leaving"] == 1
    later(store)
    r = store.row("SELECT * FROM _prom_catalog.apply_retention()")
    assert (r["partitions"], r["leaving"]) == (0, 1)
    cur.execute(query)
    assert cur.fetchone() == (len(METRICS) * 2, len(fleet.written))
    cur.execute("COMMIT")
    reader.close()
    assert store.row("SELECT * FROM _prom_catalog.apply_retention()")["partitions"] == 1
    assert fleet.seen() == fleet.expected(lambda name: 80 if name[0] == "disk" else 30)


def test_long_lived_metrics_do_not_keep_partitions(fleet):
    """However long some metric lives, partitions are those of the default period."""
    store = fleet.store
    store.sql(NOW)
    fleet.write(range(31, 61), hours=(4,))
    fleet.seal()
    assert len(partitions(store)) == 30 + 3
    store.sql("SELECT prom_api.set_default_retention_period('30 days'), prom_api.set_metric_retention_period('disk', '10 years')")
    store.force()
    later(store)
    store.force()
    assert len(partitions(store)) == 3
    assert fleet.seen() == fleet.expected(lambda name: None if name[0] == "disk" else 30)
    consistent(store)


def test_readers_do_not_wait_for_more_than_a_drop(fleet):
    """Dropping locks the parent to the end of the transaction: nothing that takes long comes after it."""
    store = fleet.store
    store.sql(NOW)
    fleet.write((12, 45, 46))
    fleet.seal()
    store.sql("SELECT prom_api.set_default_retention_period('30 days'), prom_api.set_metric_retention_period('disk', '80 days'),"
              " prom_api.set_retention('cpu', '3 days')")
    runs = []
    for _ in range(9):
        runs.append(store.row("SELECT * FROM _prom_catalog.apply_retention()"))
        later(store)
    assert sum(r["partitions"] for r in runs) == 2
    assert all(r["partitions"] == 1 and r["rows"] == 0 and r["more"] for r in runs if r["partitions"] > 0)
    assert not runs[-1]["more"]
    assert fleet.seen() == fleet.expected(lambda name: {"disk": 80, "cpu": 3}.get(name[0], 30))


def test_what_cannot_be_read_stays_known_when_its_day_goes(fleet):
    store = fleet.store
    fleet.write((45,))
    fleet.seal()
    store.sql(NOW)
    store.sql("SELECT prom_api.set_default_retention_period('30 days'), prom_api.set_metric_retention_period('disk', '80 days')")
    store.sql("SELECT _prom_catalog.apply_retention()")
    store.sql("UPDATE _prom_data.block_far SET data = set_byte(data, 12, get_byte(data, 12) # 255)")
    count = "SELECT sum(n_series) FROM _prom_data.presence WHERE metric_id = %s"
    metric = fleet.series["disk", "dev", ""][0]
    before = store.one(count, (metric,))
    later(store)
    assert store.row("SELECT * FROM _prom_catalog.apply_retention()")["partitions"] == 1
    assert store.one(count, (metric,)) == before > 0


def days_of(store, months):
    """How many days the last months had."""
    return store.one("SELECT now()::date - (now() - make_interval(months => %s))::date", (months,))


def longer_than_30_days_each(store):
    """So many months before today; February makes three of them too short in spring, and five in July."""
    return next(n for n in range(3, 12) if days_of(store, n) > 30 * n)


def test_months_are_as_long_as_they_are(fleet):
    """For PostgreSQL 5 months equal 150 days; a sample of 151 days ago is younger than 5 months all the same."""
    store = fleet.store
    store.sql(NOW)
    store.sql("SELECT prom_api.set_default_retention_period('400 days')")
    months = longer_than_30_days_each(store)
    days, short = days_of(store, months), 30 * months
    fleet.write(range(short, days + 2))
    fleet.seal()
    store.sql(f"SELECT prom_api.set_default_retention_period('{short} days'),"
              f" prom_api.set_metric_retention_period('disk', '{months} months'), prom_api.set_retention('cpu', '{short} days'),"
              f" prom_api.set_retention('cpu{{env!=\"dev\"}}', '{months} months')")
    for _ in range(3):
        store.force()
        later(store)
    assert fleet.seen() == fleet.expected(
        lambda name: days if name[0] == "disk" or name[0] == "cpu" and name[1] != "dev" else short)


def test_nothing_goes_until_the_grace_is_over(fleet):
    store = fleet.store
    fleet.write((45,))
    fleet.seal()
    everything = fleet.seen()
    store.sql("SELECT prom_api.set_default_retention_period('30 days'), prom_api.set_retention('cpu', '3 days')")
    store.force()
    assert fleet.seen() == everything
    assert store.sql("SELECT rule, period_before::text, counts_from > now() + interval '55 min' FROM prom_info.retention"
                     " ORDER BY 1") == [("default", "90 days", True), ("selector", None, True)]
    store.force()
    assert fleet.seen() == everything
    store.sql("UPDATE _prom_catalog.retention_memory SET held_until = now() WHERE kind = 's'")
    store.force()
    assert fleet.seen() == {k for k in everything if fleet.written[k][0][0] != "cpu"}
    store.sql("UPDATE _prom_catalog.retention_memory SET held_until = now()")
    store.force()
    assert fleet.seen() == set()


def test_a_metric_that_fails_stops_no_other(fleet):
    """A damaged row that mixes what goes and what stays cannot be rewritten; all others are."""
    store = fleet.store
    fleet.write((12,))
    fleet.seal()
    store.sql(NOW)
    metric = fleet.series["disk", "dev", ""][0]
    store.sql("UPDATE _prom_data.block SET data = set_byte(data, octet_length(data) - 1,"
              " get_byte(data, octet_length(data) - 1) # 255) WHERE metric_id = %s AND tenant_id = 0", (metric,))
    store.sql("SELECT prom_api.set_retention('{env=\"dev\"}', '3 days')")
    r = store.row("SELECT * FROM _prom_catalog.apply_retention()")
    assert r["failed"] == 1
    assert store.sql("SELECT metric_id, step FROM _prom_catalog.maintenance_error") == [(metric, "retention")]
    assert store.one("SELECT sum(n_samples) FROM _prom_data.block WHERE metric_id <> %s", (metric,)) == 2 * 2 * 2 * 3
    store.sql("UPDATE _prom_data.block SET data = set_byte(data, octet_length(data) - 1,"
              " get_byte(data, octet_length(data) - 1) # 255) WHERE metric_id = %s AND tenant_id = 0", (metric,))
    assert store.row("SELECT * FROM _prom_catalog.apply_retention()")["failed"] == 0
    assert fleet.seen() == fleet.expected(lambda name: 3 if name[1] == "dev" else 90)
    consistent(store)


def test_rows_are_looked_into_once(fleet):
    """What stays of a day is not read again day after day; late samples are found within a week."""
    store = fleet.store
    fleet.write((12, 20))
    fleet.seal()
    store.sql(NOW)
    store.sql("SELECT prom_api.set_retention('{env=\"dev\"}', '3 days')")
    store.sql("SELECT _prom_catalog.apply_retention()")
    stays = fleet.expected(lambda name: 3 if name[1] == "dev" else 90)
    assert fleet.seen() == stays
    metric, s = fleet.series["disk", "dev", ""]
    other = fleet.series["disk", "prod", ""][1]
    late = [(0, metric, i, fleet.today - 12 * DAY + 17 * HOUR, bits(1.0)) for i in (s, other)]
    store.flush(late)
    fleet.seal()
    store.sql("SELECT _prom_catalog.apply_retention(true)")
    assert fleet.seen() == stays | {x[:4] for x in late}
    store.sql("UPDATE _prom_catalog.retention_progress SET looked_at = looked_at - interval '8 days',"
              " all_at = all_at - interval '8 days'")
    store.sql("SELECT _prom_catalog.apply_retention()")
    assert fleet.seen() == stays | {late[1][:4]}
    consistent(store)


def preview(store):
    """(tenant, metric, rule) -> samples, whether estimated, whether it waits for the grace."""
    return {(t, m, r): (n, e, w) for t, m, r, n, e, w in store.sql(
        "SELECT tenant, metric_name, rule, num_samples, estimated, deleted_from IS NOT NULL FROM prom_info.retention_preview")}


def test_what_goes_is_shown_before(fleet):
    store = fleet.store
    fleet.write((1, 12, 45))
    fleet.seal()
    assert preview(store) == {}
    store.sql("SELECT prom_api.set_default_retention_period('30 days'), prom_api.set_metric_retention_period('disk', '60 days'),"
              " prom_api.set_tenant_retention('acme', '10 days'), prom_api.set_retention('{env=\"dev\"}', '11 days')")
    n = 3 * 3  # samples a day of metric and tenant; a third is of env="dev"
    want = {}
    for metric in METRICS:
        for tenant, rule, days in (("", "default", 1), ("acme", "tenant", 2)):
            if metric != "disk":
                want[tenant, metric, rule] = (days * n * 2 // 3, True)
            want[tenant, metric, "selector"] = (2 * n // 3, True)
    seen = len(fleet.seen())
    for _ in range(2):
        assert preview(store) == {k: (*v, True) for k, v in want.items()}
        store.force()  # notes the change, and deletes nothing
    assert len(fleet.seen()) == seen
    store.sql("UPDATE _prom_catalog.retention_memory SET held_until = now()")
    assert preview(store) == {k: (*v, False) for k, v in want.items()}
    store.force()
    later(store)
    store.force()
    assert preview(store) == {}
    assert seen - len(fleet.seen()) == sum(v[0] for v in want.values())


def test_what_people_have_built_on_a_days_table_stops_that_table_alone(fleet):
    store = fleet.store
    fleet.write((40, 41, 42))
    fleet.seal()
    store.sql(NOW)
    store.sql("SELECT prom_api.set_default_retention_period('30 days')")
    middle = partitions(store)[1]
    store.sql(f"CREATE VIEW public.theirs AS SELECT id FROM _prom_data.{middle}")
    with pytest.raises(psycopg2.Error, match=f"retention: .*{middle} stays: .*view public.theirs"):
        store.force()
    assert {k[3] // DAY for k in fleet.seen()} == {fleet.today // DAY - 41}
    state, error = store.sql("SELECT state, last_error FROM prom_info.maintenance WHERE step = 'retention'")[0]
    assert state == "failing" and "view public.theirs depends on table" in error
    consistent(store)
    store.sql("DROP VIEW public.theirs")
    store.force()
    assert fleet.seen() == set()
    assert store.sql("SELECT state FROM prom_info.maintenance WHERE step = 'retention'") == [("ok",)]


@pytest.mark.parametrize("force", [False, True])
def test_many_metrics_in_several_transactions(store, force):
    """One after the other, also those that fail: a run comes to its end, and none is looked at twice."""
    n = 120
    today = store.now_ms() // DAY * DAY
    r = resolve_with(store.conn, [series(f"m{i:03}", env="dev") for i in range(n)])
    store.flush([(0, m, s, today - 12 * DAY, bits(1.0)) for m, s in zip(r.metrics, r.series)])
    Fleet.seal(type("Sealed", (), {"store": store}))
    store.sql(NOW)
    bad = sorted(r.metrics)[7]
    store.sql("CREATE FUNCTION public.no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$")
    table = store.one("SELECT tableoid::regclass::text FROM _prom_data.block LIMIT 1")
    store.sql(f"CREATE TRIGGER no BEFORE DELETE ON {table} FOR EACH ROW WHEN (old.metric_id = {bad})"
              " EXECUTE FUNCTION public.no()")
    store.sql("SELECT prom_api.set_retention('{env=\"dev\"}', '7 days')")
    runs = []
    while not runs or runs[-1]["more"]:
        runs.append(store.row("SELECT * FROM _prom_catalog.apply_retention(%s)", (force,)))
        assert len(runs) < 100
    done = [x["rows"] + x["failed"] for x in runs]
    assert max(done) <= 50 and sum(done) == n and sum(x["failed"] for x in runs) == 1
    # nobody knows where time was up in the middle of a metric, and at the end
    assert all(x["left_over"] in (None, n - sum(done[:i + 1])) for i, x in enumerate(runs)) and runs[-1]["left_over"] is None
    assert {k[1] for k in store.visible()} == {bad}
    store.sql(f"DROP TRIGGER no ON {table}")
    assert store.row("SELECT * FROM _prom_catalog.apply_retention()")["rows"] == 1 and store.visible() == {}


def test_other_rules_begin_a_new_run(store):
    today = store.now_ms() // DAY * DAY
    r = resolve_with(store.conn, [series(f"m{i:03}", env="dev") for i in range(70)])
    store.flush([(0, m, s, today - d * DAY, bits(1.0)) for m, s in zip(r.metrics, r.series) for d in (5, 12)])
    Fleet.seal(type("Sealed", (), {"store": store}))
    store.sql(NOW)
    store.sql("SELECT prom_api.set_retention('{env=\"dev\"}', '7 days')")
    assert store.row("SELECT * FROM _prom_catalog.apply_retention(true)")["more"]
    store.sql("SELECT prom_api.set_retention('{env=\"dev\"}', '3 days')")
    store.force()
    assert store.visible() == {}


def test_a_metric_in_several_transactions(fleet):
    """What one of them has looked at the next one does not, and at the end it is as if it had been one."""
    store = fleet.store
    fleet.write((12, 13, 14, 500))
    fleet.seal()
    store.sql(NOW)
    store.sql("SELECT prom_api.set_retention('{env=\"dev\"}', '3 days')")
    store.sql("SELECT _prom_catalog.note_retention()")
    metric = fleet.series["cpu", "dev", ""][0]
    expire = "SELECT * FROM _prom_catalog.expire_metric(%s, now() - interval '90 days', %s, %s, '-infinity')"
    block_id = store.one("SELECT last_value FROM _prom_data.block_id_seq")
    rules = "00000000-0000-0000-0000-000000000001"
    gone = []
    while not gone or not gone[-1]["done"]:
        gone.append(store.row(expire, (metric, rules, block_id)))
        assert len(gone) < 20
        consistent(store)
    # the merged rows (none), far ones (a row of each tenant), three days
    assert [x["rows"] for x in gone] == [0, 2, 2, 2, 2]
    period = lambda name: (3 if name[1] == "dev" else 90) if name[0] == "cpu" else None
    assert fleet.seen() == fleet.expected(period)
    assert store.row(expire, (metric, rules, block_id)) == {"rows": 0, "done": False}
    # other rules: from the beginning
    late = (0, metric, fleet.series["cpu", "dev", ""][1], fleet.today - 500 * DAY, bits(1.0))
    store.flush([late])
    fleet.seal()
    assert fleet.seen() == fleet.expected(period) | {late[:4]}
    rules = "00000000-0000-0000-0000-000000000002"
    while not store.row(expire, (metric, rules, block_id + 100))["done"]:
        pass
    assert fleet.seen() == fleet.expected(period)


def test_a_look_that_takes_long_ends_as_what_it_began_as(fleet):
    """Whether all days are looked at is settled when a look begins: each week once, though it may last over the week's end."""
    store = fleet.store
    fleet.write((12, 13, 14, 500))
    fleet.seal()
    store.sql(NOW)
    store.sql("SELECT prom_api.set_retention('{env=\"dev\"}', '3 days')")
    store.sql("SELECT _prom_catalog.note_retention()")
    metric = fleet.series["cpu", "dev", ""][0]
    expire = ("SELECT * FROM _prom_catalog.expire_metric(%s, now() - interval '90 days',"
              " '00000000-0000-0000-0000-000000000001', 1000000, '-infinity')")

    def look():
        return store.row(expire, (metric,))["done"]

    while not look():
        pass
    store.sql("UPDATE _prom_catalog.retention_progress SET all_at = now() - interval '156 hours'")
    assert not look()
    store.sql("UPDATE _prom_catalog.retention_progress SET all_at = all_at - interval '1 day', walk_at = walk_at - interval '1 day'")
    while not look():
        pass
    assert store.one("SELECT all_at < now() - interval '7 days' FROM _prom_catalog.retention_progress")
    while not look():
        pass
    assert store.one("SELECT all_at > now() - interval '1 day' FROM _prom_catalog.retention_progress")


def test_what_a_clock_has_written_that_was_ahead_keeps_nothing(fleet):
    store = fleet.store
    fleet.write((12, 13, 500))
    fleet.seal()
    store.sql(NOW)
    store.sql("SELECT prom_api.set_metric_retention_period('cpu', '3 days')")
    cutoffs = {"cpu": 3}
    store.sql("SELECT _prom_catalog.note_retention()")
    v = store.row("SELECT r.next_from, r.rules FROM _prom_catalog.retention_bounds() b, _prom_catalog.metric_to_expire("
                  "-2147483648, now() - b.shortest, now() - b.default_period, false, b.rules, true, 'infinity') r")
    store.sql("INSERT INTO _prom_catalog.retention_progress (metric_id, looked_at, all_at, rules, block_id)"
              " SELECT id, t, t, %s, 1000000 FROM _prom_catalog.metric, (SELECT now() + interval '1 year') x (t)"
              " WHERE metric_name = 'cpu'", (v["rules"],))
    assert v["next_from"] == fleet.series["cpu", "dev", ""][0] + 1
    store.sql("SELECT _prom_catalog.apply_retention(false)")
    assert fleet.seen() == fleet.expected(lambda name: cutoffs.get(name[0], 90))


def test_a_day_that_left_while_the_clock_was_ahead_leaves(fleet):
    store = fleet.store
    fleet.write((45,))
    fleet.seal()
    store.sql(NOW)
    store.sql("SELECT prom_api.set_default_retention_period('30 days'), prom_api.set_metric_retention_period('disk', '80 days')")
    store.force()
    name = [p for p in partitions(store)][0]
    store.sql("UPDATE _prom_catalog.leaving_day SET moved_at = now() + interval '1 year'")
    store.force()
    later(store)
    store.force()
    assert name not in partitions(store)
    assert fleet.seen() == fleet.expected(lambda name: 80 if name[0] == "disk" else 30)


def test_far_days_of_a_large_metric_one_by_one(store):
    """1200 days in block_far are more than are looked through at once."""
    today = store.now_ms() // DAY * DAY
    r = resolve_with(store.conn, [series("m", env="dev")])
    days = range(500, 1700)
    for at in range(0, 1200, 300):
        store.flush([(0, r.metrics[0], r.series[0], today - d * DAY, bits(1.0)) for d in days[at:at + 300]])
    store.sql("SELECT prom_api.set_default_retention_period('3000 days'), _prom_catalog.set_setting('retention_grace', '0')")
    Fleet.seal(type("Sealed", (), {"store": store}))
    assert store.count("block_far") == 1200
    store.sql("SELECT prom_api.set_retention('m', '600 days')")
    store.sql("SELECT _prom_catalog.note_retention()")
    expire = "SELECT * FROM _prom_catalog.expire_metric(%s, now() - interval '400 days', gen_random_uuid(), 1000000, %s)"
    r1 = store.row(expire.replace("gen_random_uuid()", "'00000000-0000-0000-0000-000000000003'"),
                   (r.metrics[0], "-infinity"))
    r2 = store.row(expire.replace("gen_random_uuid()", "'00000000-0000-0000-0000-000000000003'"),
                   (r.metrics[0], "-infinity"))
    assert r1 == {"rows": 0, "done": False} and r2 == {"rows": 1, "done": False}
    store.sql("SELECT _prom_catalog.apply_retention(true)")
    assert store.count("block_far") == 101
    consistent(store)


def test_what_is_kept_moves_a_few_rows_at_a_time(fleet):
    store = fleet.store
    fleet.write((45,))
    fleet.seal()
    store.sql(NOW)
    store.sql("SELECT prom_api.set_default_retention_period('30 days'), prom_api.set_metric_retention_period('disk', '80 days')")
    store.sql("SELECT _prom_catalog.note_retention()")
    seen = fleet.seen()
    move = "SELECT _prom_catalog.move_kept(to_timestamp(%s), %s, '{}', '{}', '{}', 1)"
    args = ((fleet.today - 45 * DAY) // 1000, fleet.series["disk", "dev", ""][0])
    assert [store.one(move, args) for _ in range(3)] == [1, 1, 0]
    assert store.count("block_far") == 2 and fleet.seen() == seen


def test_equal_intervals_are_not_the_same_period(fleet):
    """90 days and 3 months are equal to PostgreSQL: the change counts, and its grace holds, all the same."""
    store = fleet.store
    months = longer_than_30_days_each(store)
    long, short = f"{months} months", f"{30 * months} days"
    store.sql(f"SELECT prom_api.set_retention('cpu', '{long}'), prom_api.set_tenant_retention('acme', '{long}')")
    store.sql(f"SELECT _prom_catalog.set_setting('retention_period', '{long}'), _prom_catalog.note_retention()")
    store.sql("UPDATE _prom_catalog.retention_memory SET held_until = now()")
    store.sql(f"SELECT prom_api.set_retention('cpu', '{short}'), prom_api.set_tenant_retention('acme', '{short}'),"
              f" prom_api.set_default_retention_period('{short}')")
    assert store.sql("SELECT DISTINCT retention_period::text, period_before::text, counts_from > now() FROM prom_info.retention") \
        == [(short, f"{months} mons", True)]
    fleet.write((30 * months + 1,))
    fleet.seal()
    everything = fleet.seen()
    assert store.one("SELECT _prom_catalog.note_retention()") == 3
    store.force()
    assert fleet.seen() == everything
    store.sql("UPDATE _prom_catalog.retention_memory SET held_until = now()")
    store.force()
    assert fleet.seen() == set()


def test_equal_intervals_are_shown_apart(fleet):
    """12 months are longer ago than 360 days."""
    store = fleet.store
    store.sql(NOW)
    store.sql("SELECT prom_api.set_default_retention_period('500 days')")
    store.sql("SELECT prom_api.set_retention('{env=\"dev\"}', '360 days'), prom_api.set_retention('{env=\"test\"}', '12 months')")
    fleet.write((362,))
    fleet.seal()
    assert store.sql("SELECT count(*), array_agg(DISTINCT retention_period::text), sum(num_samples)::int8"
                     " FROM prom_info.retention_preview") == [(6, ["360 days"], 18)]
    seen = len(fleet.seen())
    store.force()
    assert seen - len(fleet.seen()) == 18


@pytest.mark.parametrize("period", ["-1 day", "2000 years", "1 month -29 days"])
def test_rules_are_periods(store, period):
    store.sql("SELECT prom_api.set_metric_retention_period('cpu', '1 day')")
    for column in ("retention_period", "chunk_interval"):
        with pytest.raises(psycopg2.errors.CheckViolation):
            store.sql(f"UPDATE _prom_catalog.metric SET {column} = %s", (period,))
    for table, key in (("retention_rule", "digest, selector, period) VALUES (gen_random_uuid(), 'cpu'"),
                       ("tenant_retention", "tenant, period) VALUES ('a'")):
        with pytest.raises(psycopg2.errors.CheckViolation):
            store.sql(f"INSERT INTO _prom_catalog.{table} ({key}, %s)", (period,))


def test_what_comes_after_a_rule_has_been_made_longer_goes_by_the_new_one(server, fleet):
    """A run that waits for partitions meanwhile has looked at the rules before."""
    store = fleet.store
    store.sql(NOW)
    store.sql("SELECT _prom_catalog.set_setting('retention_period', '90 days')")
    fleet.write(range(4))
    fleet.seal()
    store.sql("SELECT _prom_catalog.set_setting('retention_period', '1 day')")
    for function in store.sql("SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = '_prom_catalog'::regnamespace"
                              " AND proname IN ('apply_retention', 'retire_partition')"):
        store.sql(f"ALTER FUNCTION {function[0]} SET lock_timeout = '90s'")  # so that it is there until the reader has gone
    reader, user = server.connect(store.database), server.connect(store.database)
    with reader.cursor() as cur:
        cur.execute("BEGIN")
        for table in partitions(store):
            cur.execute(f"LOCK TABLE _prom_data.{table} IN ACCESS SHARE MODE")
    run = threading.Thread(target=lambda: store.sql("SELECT _prom_catalog.apply_retention()"))
    run.start()
    metric, s = fleet.series["cpu", "dev", ""]
    with user.cursor() as cur:
        while True:
            cur.execute("SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%%apply_retention()'")
            if cur.rowcount > 0:
                break
            assert run.is_alive()
            time.sleep(0.01)
        cur.execute("SELECT _prom_catalog.set_setting('retention_period', '0')")
    store.flush([(0, metric, s, fleet.today - 100 * DAY, bits(1.0))], conn=user)
    assert run.is_alive()
    with reader.cursor() as cur:
        cur.execute("ROLLBACK")
    run.join()
    assert store.n_samples("fresh") == 1
    reader.close()
    user.close()


def test_nothing_goes_while_a_restore_is_under_way(fleet):
    """Its rules may come after its blocks; sequences come last."""
    store = fleet.store
    store.sql(NOW)
    store.sql("SELECT _prom_catalog.set_setting('retention_period', '100 days')")
    fleet.write([1, 95])
    fleet.seal()
    before = fleet.seen()
    last = store.one("SELECT last_value FROM _prom_data.block_id_seq")
    store.sql("ALTER SEQUENCE _prom_data.block_id_seq RESTART")
    store.sql("SELECT _prom_catalog.set_setting('retention_period', '90 days')")  # as nobody has said anything else
    assert store.row("SELECT * FROM _prom_catalog.run_step('retention', true)")["outcome"] == "done"
    assert fleet.seen() == before
    store.sql("SELECT setval('_prom_data.block_id_seq', %s)", (last,))
    assert store.row("SELECT * FROM _prom_catalog.run_step('retention', true)")["outcome"] in ("more", "done")
    assert fleet.seen() < before
