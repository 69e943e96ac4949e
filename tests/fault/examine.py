"""The examination with which every scenario ends: all that was acknowledged is there exactly once, with the value that
was written first; nothing is left over from what failed; every view answers; figures and presence are those of the
blocks.
"""
VIEWS = ("prom_info", "prom_metric", "prom_series", "prom_data", "prom_histogram", "_prom_catalog", "_prom_data")
SAMPLES = "SELECT series_id, (extract(epoch FROM time) * 1000)::int8, value FROM _prom_data.samples"
BLOCKS = ("fresh", "merged", "block", "block_far")


def seen(sql):
    """{(series, t_ms): value} as SQL shows it; fails where something is there twice."""
    rows = sql(SAMPLES)
    found = {(s, t): v for s, t, v in rows}
    assert len(found) == len(rows), f"{len(rows) - len(found)} samples are there twice"
    return found


def check_samples(found, ledger, maybe=()):
    lost = [k for k in ledger if k not in found]
    extra = [k for k in found if k not in ledger and k not in maybe]
    wrong = [(k, found[k], v) for k, v in ledger.items() if k in found and found[k] != v]
    assert not lost, f"{len(lost)} of {len(ledger)} acknowledged samples are lost, as {sorted(lost)[:3]}"
    assert not wrong, f"{len(wrong)} have another value than was written first, as {wrong[:3]}"
    assert not extra, f"{len(extra)} samples that nobody wrote, as {extra[:3]}"


def check_promql(sql, found):
    """PromQL counts as many, by another way of reading."""
    if found:
        first, last = min(t for _, t in found), max(t for _, t in found)
        (got,), = sql("SELECT sum(p.value) FROM _prom_catalog.metric m, LATERAL prom_api.promql(format("
                      "'count_over_time({__name__=%%s}[%%sms])', to_json(m.metric_name), %s::int8), to_timestamp(%s / 1000.0)) p",
                      (last - first + 1000, last))
        assert got == len(found), f"PromQL counts {got}, SQL {len(found)}"


def check_views(sql):
    views = sql("SELECT format('%%I.%%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
                " WHERE n.nspname = ANY (%s) AND c.relkind = 'v' ORDER BY 1", (list(VIEWS),))
    assert len(views) > 5
    for view, in views:
        sql(f"SELECT * FROM {view}")


def check_orphans(sql):
    """Nothing that belongs to nothing: relations, rows of metrics and series that are not there, files."""
    parts = " UNION ALL ".join(f"SELECT p.metric_id FROM _prom_data.{t} b, LATERAL _prom_ext.block_parts(b.data) p"
                               for t in BLOCKS)
    left = {
        "tables that are no partitions": "SELECT c.relname FROM pg_class c WHERE c.relnamespace = '_prom_data'::regnamespace"
        " AND c.relkind = 'r' AND c.relname ~ '^block_[0-9]' AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid"
        " AND NOT i.inhdetachpending)",
        "blocks of unknown metrics": f"SELECT DISTINCT metric_id FROM ({parts}) x WHERE metric_id NOT IN (SELECT id FROM"
        " _prom_catalog.metric UNION ALL SELECT id FROM _prom_catalog.dropped_metric)",
        "figures of unknown metrics": "SELECT metric_id FROM _prom_catalog.metric_day WHERE metric_id NOT IN"
        " (SELECT id FROM _prom_catalog.metric)",
        "presence of unknown metrics": "SELECT metric_id FROM _prom_data.presence WHERE metric_id NOT IN"
        " (SELECT id FROM _prom_catalog.metric)",
        "samples of unknown series": "SELECT DISTINCT series_id FROM _prom_data.samples WHERE series_id NOT IN"
        " (SELECT id FROM _prom_catalog.series)",
        "series of unknown metrics": "SELECT id FROM _prom_catalog.series WHERE metric_id NOT IN (SELECT id FROM"
        " _prom_catalog.metric)",
        "views of unknown metrics": "SELECT c.oid::regclass FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname IN ('prom_metric', 'prom_series', 'prom_data') AND c.relkind = 'v' AND c.relname NOT IN"
        " (SELECT table_name FROM _prom_catalog.metric)",
        "blocks that could not be read": "SELECT * FROM _prom_catalog.maintenance_error",
    }
    for what, query in left.items():
        rows = sql(query)
        assert not rows, f"{what}: {rows[:5]}"


def orphan_files(sql):
    """Files of the database that no relation has. A CHECKPOINT takes away what was dropped in due form; what a killed
    CREATE TABLE has made, PostgreSQL itself leaves behind."""
    sql("CHECKPOINT")
    return sql("SELECT f, (pg_stat_file(d || f)).size FROM regexp_replace(pg_relation_filepath('pg_class'), '[^/]*$', '') d,"
               " pg_ls_dir(d) f WHERE f ~ '^[0-9]+' AND substring(f, '^[0-9]+')::oid NOT IN"
               " (SELECT pg_relation_filenode(oid) FROM pg_class WHERE pg_relation_filenode(oid) IS NOT NULL)")


def check_figures(sql):
    (wrong,), = sql("SELECT _prom_catalog.recount()")
    assert wrong == 0, f"{wrong} figures were wrong"
    # in one transaction, which keeps the worker out
    differ = sql("SELECT pg_advisory_xact_lock(x'50524f4d00000002'::int8);"
                 " CREATE TEMP TABLE was ON COMMIT DROP AS SELECT p::text AS row FROM _prom_data.presence p;"
                 " SELECT _prom_catalog.recount_presence();"
                 " SELECT row FROM was FULL JOIN (SELECT p::text AS row FROM _prom_data.presence p) n USING (row)"
                 " WHERE was IS NULL OR n IS NULL")
    assert not differ, f"{len(differ)} sets of presence differ, as {sorted(differ)[:2]}"


def check_integrity(sql):
    """Where prom_api.verify is there."""
    if sql("SELECT to_regproc('prom_api.verify') IS NOT NULL") == [(True,)]:
        rows = sql("SELECT * FROM prom_api.verify()")
        assert not rows, f"damaged: {rows[:3]}"


def examine(sql, ledger, maybe=(), writable=True, files=True):
    """sql: runs a statement and returns rows. writable: figures can be counted anew (not on a standby)."""
    found = seen(sql)
    check_samples(found, ledger, maybe)
    check_promql(sql, found)
    check_views(sql)
    check_orphans(sql)
    check_integrity(sql)
    if writable:
        check_figures(sql)
        if files:
            left = orphan_files(sql)
            assert not left, f"files of no relation: {left}"
    return found


def examine_all(world, **kw):
    """As it stands; then after all maintenance there is; and nothing may be left to do."""
    found = examine(world.sql, world.ledger, world.maybe, **kw)
    world.force()
    again = examine(world.sql, world.ledger, world.maybe, **kw)
    assert again == found
    for table in BLOCKS[:2]:
        assert world.one(f"SELECT count(*) FROM _prom_data.{table}") == 0, f"rows stay in {table}"
    assert world.column("SELECT _prom_catalog.take_vacuums()") == []
    assert world.sql("SELECT name, last_error FROM _prom_catalog.job WHERE failures > 0") == []
    return found
