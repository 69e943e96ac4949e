"""Role by function. A function that stands in no line here fails the test: say who may call it, grant it in 090."""
import pytest

ROLES = ("prom_reader", "prom_writer", "prom_maintenance", "prom_modifier", "prom_admin")
SCHEMAS = ("prom_api", "ps_tag", "prom_metric", "prom_series", "prom_histogram", "prom_info", "prom_data",
           "_prom_catalog", "_prom_data", "_prom_ext")
ABOVE = {"prom_reader": set(ROLES), "prom_writer": {"prom_writer", "prom_modifier", "prom_admin"},
         "prom_maintenance": {"prom_maintenance", "prom_admin"}, "prom_modifier": {"prom_modifier", "prom_admin"},
         "prom_admin": {"prom_admin"}}

CALLERS = {
    # what queries call: values, labels, matchers, what is stored
    "prom_reader": """
        prom_api: val jsonb labels labels_info key_value_array label_cardinality label_key_position eq matcher
            get_default_metric_retention_period get_metric_retention_period get_metric_metadata
            get_multiple_metric_metadata
            is_stale_marker is_normal_nan time_bucket first last promql promql_range
            promql_explain promql_explain_json sum avg verify
            histogram_count histogram_sum histogram_avg histogram_stddev histogram_stdvar histogram_quantile
            histogram_fraction histogram_buckets histogram_increase
        ps_tag: equals not_equals regexp_matches regexp_not_matches
        _prom_catalog: setting generation feed follow chunk_width metric_id check_metric_schema no_such_metric
            get_default_compression_setting get_metric_compression_setting longer longest held_period same_period
            retention_rules retention_periods period_ms base_period series_classes series_kept maintenance_steps first_hour
            observe verify_tables verify_catalog verify_figures verify_names partitions presence_is_missing is_period
        _prom_ext: text_digest label_digest series_digest dist_key bucket block_parts label_set labels_match
            block_without_points
            labels_contain
            histogram_in histogram_out histogram_recv histogram_send
            histogram_add histogram_sub histogram_mul histogram_div histogram_eq histogram_ne
            tag_ids label_ids fresh_figures chunk_counts block_head matching_series block_without
            canonical_selector ids_unseen
            prom_rate prom_increase prom_delta vector_selector series_alive ids_count verify_table ids_problem
            block_bytes""",
    # what stores samples
    "prom_writer": """
        prom_api: create_metric
        _prom_catalog: guard resolve_series tenant_id upsert_metadata insert_exemplars get_or_create_metric_table_name
            get_or_create_series_id make_views_now count_conflicts""",
    "prom_writer prom_maintenance": """
        _prom_catalog: make_metric_views""",
    "prom_maintenance": """
        prom_api: execute_maintenance
        _prom_catalog: apply_retention ensure_partitions run_step take_vacuums trim_exemplars trim_feed want_shrink
            wipe_erased trust_clock
        _prom_ext: merge_step join_step seal_step reseal_step""",
    # what deletes series
    "prom_modifier": """
        prom_api: delete_series
        _prom_catalog: delete_series_from_metric delete_series_rows check_metric_name feed_deleted patiently
            void_generation erase_from erase_everywhere erase_points erase_exemplars erase_series lock_to_delete
            delete_series_of recount_erased note_erased lone_labels forget_labels""",
    # what changes settings and drops metrics
    "prom_modifier prom_maintenance": """
        _prom_catalog: recount recount_presence""",
    "prom_admin": """
        prom_api: drop_metric set_default_retention_period set_metric_retention_period reset_metric_retention_period
            set_default_chunk_interval get_default_chunk_interval set_metric_chunk_interval get_metric_chunk_interval
            reset_metric_chunk_interval set_default_compression_setting set_metric_compression_setting
            reset_metric_compression_setting set_compression_on_metric_table
            set_retention reset_retention set_tenant_retention reset_tenant_retention
        _prom_catalog: check_retention check_selector check_tenant check_chunk_interval check_interval check_switch metric_to_set set_setting forget_figures
            sync_timescaledb_view""",
    # the extension itself, by way of functions that run as its owner
    "": """
        _prom_catalog: check_no_dependents erase_metric forget_metric maintenance_lock make_partition make_views_of
            make_write_view make_histogram_view put_view remake_views mark_histograms note_histograms comment_views_of
            add_up_conflicts note_retention correct_figures correct_presence forget_sealed_day
            cutoff base_cutoffs time_ms expire_rows expire_metric metrics_of_day move_kept all_have_seen has_rules move_day
            try_guard idle_series delete_idle_series delete_unused_labels collect_garbage step_expire_series
            retire_partition note_expiry_error retention_bounds metric_to_expire expire_exemplars expire_metrics
            retention_run kept_classes expiry_targets note_failure doubt_clock
            make_timescaledb_view count_left_out
            erasure_commands tend_figures metric_is_used note_views_error partition_days take_maintenance_lock
            fold_presses oldest_in_use vacuum_can_wait fresh_is_hollow note_lost_rows step_errors step_fold
            step_join step_views
            tables_to_compact piece_size hollow_file move_within empty_pages want_end_cut_off leave_as_it_is
            compact_piece compaction_ends begin_compaction compact_next step_compact
            step_partitions step_seal step_reseal step_retention step_figures step_trim_feed step_trim_exemplars
        _prom_ext: fdw_handler fdw_validator match_support match_sel first_step last_step first_last_result
            histogram_sum_step histogram_avg_step histogram_increase_step histogram_sum_result histogram_avg_result
            histogram_increase_result rate_step rate_result increase_result delta_result selector_step selector_combine
            selector_serialize selector_deserialize selector_result recount_presence block_expire
            wipe_pages file_space toast_value run_as_prom_admin""",
    # PostgreSQL asks whoever makes the trigger, not whoever fires it; views are made as prom_admin
    "prom_admin ": """
        _prom_ext: write_row write_end""",
}


def expected():
    """schema.function -> the roles that may call it."""
    found = {}
    for callers, text in CALLERS.items():
        schema = None
        for word in text.split():
            if word.endswith(":"):
                schema = word[:-1]
            else:
                assert f"{schema}.{word}" not in found, f"{word} stands there twice"
                found[f"{schema}.{word}"] = set().union(*(ABOVE[c] for c in callers.split()))
    return found


def test_functions(shared_db):
    wanted = expected()
    rows = shared_db.sql("SELECT p.oid::regprocedure::text, n.nspname || '.' || p.proname, ARRAY(SELECT r FROM"
                         " unnest(%s) r"
                         " WHERE has_function_privilege(r, p.oid, 'EXECUTE')), p.proacl IS NOT NULL"
                         " FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = ANY (%s)",
                         (list(ROLES), list(SCHEMAS)))
    assert sorted(set(name for _, name, _, _ in rows) - set(wanted)) == [], "who may call these?"
    assert sorted(set(wanted) - set(name for _, name, _, _ in rows)) == [], "these do not exist any more"
    assert {f: sorted(roles) for f, _, roles, _ in rows} == {f: sorted(wanted[name]) for f, name, _, _ in rows}
    assert all(explicit for *_, explicit in rows)


def test_what_runs_as_its_owner(shared_db):
    """SECURITY DEFINER is for what makes and drops relations, and for maintenance: each one is a decision."""
    assert shared_db.column("SELECT n.nspname || '.' || p.proname FROM pg_proc p JOIN pg_namespace n ON n.oid ="
                            " p.pronamespace"
                            " WHERE p.prosecdef AND n.nspname = ANY (%s) ORDER BY 1", (list(SCHEMAS),)) == sorted(
        ["_prom_catalog." + f for f in ("apply_retention", "ensure_partitions", "make_metric_views", "make_partition",
                                        "make_views_now",
                                        "count_conflicts", "forget_figures", "forget_labels", "lone_labels",
                                        "note_erased", "wipe_erased", "recount", "recount_erased",
                                        "recount_presence", "run_step",
                                        "sync_timescaledb_view", "take_vacuums", "trim_exemplars", "trim_feed",
                                        "trust_clock", "want_shrink")]
        + ["_prom_ext.merge_step", "_prom_ext.join_step", "_prom_ext.seal_step", "_prom_ext.reseal_step", "prom_api.drop_metric"])


def test_public(shared_db):
    assert shared_db.column("SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid ="
                            " p.pronamespace"
                            " WHERE n.nspname = ANY (%s) AND EXISTS (SELECT FROM aclexplode(coalesce(p.proacl,"
                            " acldefault('f', p.proowner)))"
                            " a WHERE a.grantee = 0)", (list(SCHEMAS),)) == []


@pytest.mark.parametrize("privilege", ["INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"])
def test_tables(shared_db, privilege):
    """Readers and maintenance write no table; nobody may truncate or hang something on one."""
    shared_db.make("m", a="1")
    for role in ROLES:
        got = set(shared_db.column(
            "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE"
            " n.nspname = ANY (%s)"
            " AND c.relkind IN ('r', 'p', 'v', 'f') AND pg_get_userbyid(c.relowner) <> 'prom_admin' AND"
            " has_table_privilege(%s, c.oid, %s)",
            (list(SCHEMAS), role, privilege)))
        if role in ("prom_reader", "prom_maintenance") or privilege in ("TRUNCATE", "REFERENCES", "TRIGGER"):
            assert got == set(), role


def test_settings_of_metrics_are_for_admins(shared_db):
    """Connectors make metrics and give away positions, and that is all they may write there."""
    for column in ("retention_period", "chunk_interval", "compression", "metric_name", "table_name", "digest", "id",
                   "views_positions", "histograms"):
        assert shared_db.one("SELECT has_column_privilege('prom_writer', '_prom_catalog.metric', %s, 'UPDATE')",
                             (column,)) is False
    for column in ("retention_period", "chunk_interval", "compression"):
        assert shared_db.one("SELECT has_column_privilege('prom_writer', '_prom_catalog.metric', %s, 'INSERT')",
                             (column,)) is False
        assert shared_db.one("SELECT has_column_privilege('prom_admin', '_prom_catalog.metric', %s, 'UPDATE')",
                             (column,)) is True


ROLE_CALLS = [
    ("prom_reader", "SELECT label_cardinality(1), label_key_position('m', 'a'), matcher('{}')::int4[],"
     " get_metric_retention_period('m')"),
    ("prom_reader", "SELECT get_metric_retention_period('prom_data', 'm'),"
     " _prom_catalog.get_metric_compression_setting('m')"),
    ("prom_reader", "SELECT * FROM get_metric_metadata('f'), get_multiple_metric_metadata('{f}')"),
    ("prom_reader", "SELECT is_stale_marker(value), is_normal_nan(value) FROM m WHERE labels ?"
     " matcher('{\"a\":\"1\"}')"),
    ("prom_admin", "SELECT set_metric_retention_period('m', '1 day'), set_metric_retention_period('prom_data', 'new',"
     " '1 day')"),
    ("prom_admin", "SELECT reset_metric_retention_period('m'), reset_metric_retention_period('prom_data', 'm')"),
    ("prom_admin", "SELECT set_default_retention_period('1 day'), set_default_chunk_interval('1 day'),"
     " get_default_chunk_interval()"),
    ("prom_admin", "SELECT set_metric_chunk_interval('m', '1 h'), get_metric_chunk_interval('m'),"
     " reset_metric_chunk_interval('m')"),
    ("prom_admin", "SELECT set_metric_compression_setting('m', true), reset_metric_compression_setting('m')"),
    ("prom_admin", "SELECT set_default_compression_setting(false), set_compression_on_metric_table('m', true)"),
    ("prom_admin", "SELECT drop_metric('m')"),
    ("prom_admin", "SELECT set_retention('{a=\"1\"}', '1 day'), set_tenant_retention('t', '0')"),
    ("prom_admin", "SELECT set_retention('m', '1 day'), reset_retention('m'), set_tenant_retention('t', '1 day'),"
     " reset_tenant_retention('t')"),
    ("prom_reader", "SELECT * FROM prom_info.retention, _prom_catalog.series_classes(1)"),
    ("prom_modifier", "SELECT _prom_catalog.delete_series_from_metric('m', '{1}'),"
     " _prom_catalog.delete_series_rows('{2}')"),
]


@pytest.mark.parametrize("role, text", ROLE_CALLS)
def test_a_right_to_call_is_enough(shared_db, role, text):
    """Functions work for the least role that may call them: no right on a table or on a helper is missing."""
    shared_db.make("m", a="1")
    shared_db.sql(f"BEGIN; SET LOCAL ROLE {role}")
    try:
        shared_db.sql(text)
    finally:
        shared_db.sql("ROLLBACK")
