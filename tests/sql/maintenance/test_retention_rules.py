"""Which period holds for which series: rules by selector, tenant and metric, the default, and what was before a change."""

import sys
from pathlib import Path

import psycopg2
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "catalog"))
from database import resolve_with, series


@pytest.fixture
def labelled(store):
    """Series of two metrics and two tenants, by (metric, env, tenant)."""
    store.sql("SELECT _prom_catalog.set_setting('retention_grace', '0')")
    store.tenants = {t: store.one("SELECT _prom_catalog.tenant_id(%s)", (t,)) for t in ("", "acme")}
    store.ids, store.metrics = {}, {}
    for tenant, tenant_id in store.tenants.items():
        for metric in ("cpu", "disk"):
            for env in ("dev", "prod"):
                r = resolve_with(store.conn, [series(metric, env=env)], tenant_id)
                store.ids[metric, env, tenant] = r.series[0]
                store.metrics[metric] = r.metrics[0]
    return store


def classes(store, metric):
    """(env, tenant) -> period, of the series that have one of their own."""
    names = {(store.tenants[t], i): (env, t) for (m, env, t), i in store.ids.items() if m == metric}
    return {names[t, i]: p for t, i, p in store.sql(
        "SELECT tenant_id, series_id, period::text FROM _prom_catalog.series_classes(%s)", (store.metrics[metric],))}


def kept(store, metric):
    return {i: p for i, p in store.sql("SELECT series_id, period::text FROM _prom_catalog.series_kept(%s)",
                                       (store.metrics[metric],))}


def test_a_selector_beats_metric_tenant_and_default(labelled):
    s = labelled
    assert classes(s, "cpu") == {}
    s.sql("SELECT prom_api.set_retention('{env=\"dev\"}', '7 days')")
    assert classes(s, "cpu") == classes(s, "disk") == {("dev", ""): "7 days", ("dev", "acme"): "7 days"}
    # where metric or tenant say the same, there is no class
    s.sql("SELECT prom_api.set_tenant_retention('acme', '7 days')")
    assert classes(s, "cpu") == {("dev", ""): "7 days"}
    s.sql("SELECT prom_api.set_metric_retention_period('cpu', '7 days')")
    assert classes(s, "cpu") == {} and classes(s, "disk") == {("dev", ""): "7 days"}
    s.sql("SELECT prom_api.set_metric_retention_period('cpu', '400 days')")
    assert classes(s, "cpu") == {("dev", ""): "7 days", ("dev", "acme"): "7 days"}
    s.sql("SELECT prom_api.reset_retention('{env=\"dev\"}')")
    assert classes(s, "cpu") == {}


def test_the_longest_of_several_selectors_holds(labelled):
    s = labelled
    s.sql("SELECT prom_api.set_retention('{env=\"dev\"}', '7 days'), prom_api.set_retention('cpu', '30 days')")
    assert classes(s, "cpu") == {(e, t): "30 days" for e in ("dev", "prod") for t in s.tenants}
    s.sql("SELECT prom_api.set_retention('{__tenant__=\"acme\", env=~\"de.\"}', '0')")
    assert classes(s, "cpu") == {("dev", ""): "30 days", ("prod", ""): "30 days", ("prod", "acme"): "30 days",
                                 ("dev", "acme"): "00:00:00"}
    assert classes(s, "disk") == {("dev", ""): "7 days", ("dev", "acme"): "00:00:00"}


def test_selectors_are_known_by_what_they_mean(labelled):
    s = labelled
    for text in ('cpu{env="dev",a!="b"}', '{a!="b", env="dev", __name__="cpu"}', "{__name__='cpu',a!='b',a!='b',env='dev'}"):
        s.sql("SELECT prom_api.set_retention(%s, '7 days')", (text,))
    assert s.sql("SELECT subject, num_series FROM prom_info.retention WHERE rule = 'selector'") == [
        ('{__name__="cpu",a!="b",env="dev"}', 2)]
    s.sql("SELECT prom_api.reset_retention('cpu{a!=\"b\",env=\"dev\"}')")
    assert s.one("SELECT count(*) FROM _prom_catalog.retention_rule") == 0


@pytest.mark.parametrize("call, state", [
    ("set_retention('{', '1 day')", "42601"), ("set_retention('cpu[5m]', '1 day')", "42601"),
    ("set_retention('cpu offset 5m', '1 day')", "42601"), ("set_retention('{}', '1 day')", "22023"),
    ("set_retention('{a=\"\"}', '1 day')", "22023"), ("set_retention('{a=\"b\",c=~\"(\"}', '1 day')", None),
    ("set_retention(NULL, '1 day')", "22004"), ("set_retention('cpu', NULL)", "22004"),
    ("set_retention('cpu', '-1 day')", "22023"), ("set_retention('cpu', '2000 years')", "22023"),
    ("set_retention('{a=\"' || repeat('x', 70000) || '\"}', '1 day')", "54000"),
    ("reset_retention('cpu')", "42704"), ("reset_retention(NULL)", "22004"),
    ("set_tenant_retention(NULL, '1 day')", "22004"), ("set_tenant_retention(repeat('x', 1025), '1 day')", "54000"),
    ("set_tenant_retention('t', '-1 s')", "22023"), ("reset_tenant_retention('t')", "42704")])
def test_nonsense_is_refused(store, call, state):
    with pytest.raises(psycopg2.Error) as e:
        store.sql(f"SELECT prom_api.{call}")
    assert state is None or e.value.pgcode == state, e.value
    assert e.value.pgcode[:2] in ("22", "42", "54", "2B")


def test_there_are_not_too_many_selectors(store):
    store.sql("SELECT _prom_catalog.set_setting('retention_rules', '2')")
    for name in ("a", "b"):
        store.sql("SELECT prom_api.set_retention(%s, '1 day')", (name,))
    with pytest.raises(psycopg2.errors.ProgramLimitExceeded):
        store.sql("SELECT prom_api.set_retention('c', '1 day')")
    store.sql("SELECT prom_api.set_retention('b', '2 days')")  # one that is there may change


def test_a_tenant_may_have_a_rule_before_it_exists(labelled):
    s = labelled
    s.sql("SELECT prom_api.set_tenant_retention('later', '5 days'), prom_api.set_tenant_retention('', '0')")
    t = s.one("SELECT _prom_catalog.tenant_id('later')")
    assert s.one("SELECT _prom_catalog.base_period(1, %s, false)::text", (t,)) == "5 days"
    assert s.one("SELECT _prom_catalog.base_period(1, 0, false)::text") == "00:00:00"
    assert s.sql("SELECT rule, subject, retention_period::text, num_series FROM prom_info.retention ORDER BY 1, 2") == [
        ("default", None, "90 days", 8), ("tenant", "", "00:00:00", 4), ("tenant", "later", "5 days", 0)]


def test_what_was_before_a_change_holds_until_the_grace_is_over(labelled):
    s = labelled
    dev = {i for (m, env, t), i in s.ids.items() if (m, env) == ("cpu", "dev")}
    base = "SELECT _prom_catalog.longer(_prom_catalog.base_period(1, 0, false), _prom_catalog.base_period(1, 0, true))::text"
    s.sql("SELECT _prom_catalog.note_retention(), _prom_catalog.set_setting('retention_grace', '1 hour')")
    s.sql("SELECT prom_api.set_retention('cpu{env=\"dev\"}', '7 days')")
    for _ in range(2):  # before and after maintenance has seen it
        assert kept(s, "cpu") == {}
        assert s.sql("SELECT period_before, counts_from > now() FROM prom_info.retention WHERE rule = 'selector'") == [
            (None, True)]
        s.sql("SELECT _prom_catalog.note_retention()")
    s.sql("UPDATE _prom_catalog.retention_memory SET held_until = now() - interval '1 s' WHERE kind = 's'")
    assert kept(s, "cpu") == dict.fromkeys(dev, "7 days")
    # longer counts at once; so does a longer default, and a shorter one later
    s.sql("SELECT prom_api.set_retention('cpu{env=\"dev\"}', '200 days')")
    assert kept(s, "cpu") == dict.fromkeys(dev, "200 days")
    s.sql("SELECT prom_api.set_retention('cpu{env=\"dev\"}', '1 day')")
    assert kept(s, "cpu") == dict.fromkeys(dev, "7 days")  # the 200 days were never seen
    s.sql("SELECT prom_api.set_default_retention_period('2 days')")
    assert s.one(base) == "90 days" and kept(s, "cpu") == dict.fromkeys(dev, "7 days")
    s.sql("SELECT _prom_catalog.note_retention()")
    s.sql("SELECT prom_api.set_default_retention_period('100 days')")
    assert s.one(base) == "100 days"
    s.sql("SELECT _prom_catalog.note_retention()")
    s.sql("SELECT prom_api.set_default_retention_period('3 days')")
    s.sql("SELECT _prom_catalog.note_retention()")
    assert s.one(base) == "100 days"
    s.sql("UPDATE _prom_catalog.retention_memory SET held_until = now() - interval '1 s'")
    assert s.one(base) == "3 days" and kept(s, "cpu") == dict.fromkeys(dev, "1 day")
    # taking a rule away is a change, too
    s.sql("SELECT prom_api.set_retention('cpu{env=\"dev\"}', '300 days')")
    s.sql("SELECT _prom_catalog.note_retention()")
    s.sql("UPDATE _prom_catalog.retention_memory SET held_until = now() - interval '1 s'")
    s.sql("SELECT prom_api.reset_retention('cpu{env=\"dev\"}')")
    for _ in range(2):
        assert kept(s, "cpu") == dict.fromkeys(dev, "300 days")
        s.sql("SELECT _prom_catalog.note_retention()")
    s.sql("UPDATE _prom_catalog.retention_memory SET held_until = now() - interval '1 s'")
    assert kept(s, "cpu") == {}
    s.sql("SELECT _prom_catalog.note_retention()")
    assert s.sql("SELECT kind FROM _prom_catalog.retention_memory") == [("d",)]


def test_a_metric_changed_by_hand_is_noticed(labelled):
    s = labelled
    s.sql("SELECT _prom_catalog.note_retention(), _prom_catalog.set_setting('retention_grace', '1 hour')")
    s.sql("UPDATE _prom_catalog.metric SET retention_period = '1 day'")
    held = "SELECT DISTINCT _prom_catalog.base_period(id, 0, false)::text, _prom_catalog.base_period(id, 0, true)::text" \
           " FROM _prom_catalog.metric"
    assert s.sql(held) == [("1 day", "90 days")]
    assert s.one("SELECT _prom_catalog.note_retention()") == 2 and s.one("SELECT _prom_catalog.note_retention()") == 0
    assert s.sql(held) == [("1 day", "90 days")]
    s.sql("UPDATE _prom_catalog.retention_memory SET held_until = now()")
    assert s.sql(held) == [("1 day", "1 day")]


def test_connectors_are_told_what_deletes(labelled):
    s = labelled
    ask = "SELECT kind, subject, kept_ms / 86400000 FROM _prom_catalog.retention_periods() ORDER BY 1, 2"
    assert s.sql(ask) == [("d", "", 90)]
    s.sql("SELECT _prom_catalog.set_setting('retention_grace', '1 hour')")
    s.sql("SELECT prom_api.set_metric_retention_period('cpu', '7 days'), prom_api.set_tenant_retention('acme', '20 days'),"
          " prom_api.set_retention('{env=\"dev\"}', '3 days'), prom_api.set_metric_retention_period('disk', '400 days')")
    for _ in range(2):  # nothing of it counts yet
        assert s.sql(ask) == [("d", "", 400)]
        s.sql("SELECT _prom_catalog.note_retention()")
    s.sql("UPDATE _prom_catalog.retention_memory SET held_until = now()")
    rules = [("d", "", 90), ("m", "cpu", 7), ("m", "disk", 400), ("s", '{env="dev"}', 3), ("t", "acme", 20)]
    assert s.sql(ask) == rules
    s.sql("SELECT prom_api.set_retention('{env=\"dev\"}', '0')")
    assert s.sql(ask) == [("d", "", 0)]
    s.sql("SELECT _prom_catalog.note_retention()")
    s.sql("UPDATE _prom_catalog.retention_memory SET held_until = now()")
    assert s.sql(ask) == [r if r[0] != "s" else (*r[:2], 0) for r in rules]
    # what a metric said until it was reset counts, too, for a while
    s.sql("SELECT prom_api.reset_metric_retention_period('disk')")
    assert s.sql(ask) == [("d", "", 0)]
    # months are as long as they are
    days_of = "SELECT extract(epoch FROM now() - (now() - make_interval(months => %s)))::int8 / 86400"
    months = next(n for n in range(3, 12) if s.one(days_of, (n,)) > 30 * n)
    s.sql("SELECT _prom_catalog.set_setting('retention_grace', '0'), prom_api.set_default_retention_period(%s)",
          (f"{months} months",))
    assert ("d", "", s.one(days_of, (months,))) in s.sql(ask)
