-- Who may do what. PUBLIC may do nothing; the roles build on each other:
-- prom_admin > prom_modifier > prom_writer > prom_reader, and prom_admin > prom_maintenance > prom_reader.
--
-- Everything belongs to the user that installed the extension, except the metric views (prom_admin):
-- the maintenance worker runs as a superuser, and must not run what a lesser role could replace.
-- Partitions are reached through their parents only; nobody is granted anything on them.

DO $$
DECLARE
    s name;
    r record;
BEGIN
    FOREACH s IN ARRAY '{prom_api,ps_tag,prom_metric,prom_series,prom_histogram,prom_info,prom_data,
                         _prom_catalog,_prom_data,_prom_ext}'::name[] LOOP
        EXECUTE format('REVOKE ALL ON SCHEMA %I FROM PUBLIC', s);
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO prom_reader', s);
        EXECUTE format('REVOKE ALL ON ALL ROUTINES IN SCHEMA %I FROM PUBLIC', s);
        EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA %I TO prom_reader', s);
    END LOOP;
    -- Types that came with the extension stay usable by all: they say nothing.

    -- What readers call, and what runs inside their views and operators.
    FOR r IN
        SELECT p.oid::regprocedure AS f
        FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
        WHERE n.nspname IN ('ps_tag')
           OR n.nspname = 'prom_api' AND p.proname IN ('val', 'jsonb', 'labels', 'labels_info',
               'key_value_array', 'eq', 'get_default_metric_retention_period',
               'get_metric_retention_period', 'label_cardinality', 'label_key_position', 'matcher',
               'get_metric_metadata', 'get_multiple_metric_metadata', 'is_stale_marker',
               'is_normal_nan', 'time_bucket', 'first', 'last', 'promql', 'promql_range',
               'promql_explain', 'promql_explain_json', 'verify', 'sum', 'avg')
           OR n.nspname = 'prom_api' AND p.proname ~ '^histogram_'
           OR n.nspname = '_prom_ext' AND p.proname ~ '^histogram_(in|out|recv|send|add|sub|mul|div|eq|ne)$'
           OR n.nspname = '_prom_ext' AND p.provolatile <> 'v' AND p.proname IN (
               'text_digest', 'label_digest', 'series_digest', 'dist_key', 'bucket', 'label_set',
               'labels_match', 'labels_contain', 'tag_ids', 'label_ids', 'block_parts', 'block_head', 'fresh_figures',
               'chunk_counts', 'prom_rate', 'prom_increase', 'prom_delta', 'vector_selector', 'series_alive',
               'ids_count', 'matching_series', 'block_without', 'canonical_selector', 'ids_unseen')
           OR n.nspname = '_prom_ext' AND p.proname IN ('verify_table', 'ids_problem', 'block_bytes')
           OR n.nspname = '_prom_catalog' AND p.proname IN ('verify_tables', 'verify_catalog', 'verify_figures', 'verify_names', 'partitions', 'setting', 'longer', 'longest', 'held_period', 'same_period',
               'retention_rules', 'retention_periods', 'period_ms', 'base_period', 'series_classes', 'series_kept', 'generation', 'feed', 'follow',
               'chunk_width', 'metric_id', 'check_metric_schema', 'no_such_metric',
               'get_default_compression_setting', 'get_metric_compression_setting',
               'maintenance_steps', 'first_hour', 'observe', 'presence_is_missing', 'is_period')
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO prom_reader', r.f);
    END LOOP;
END $$;

GRANT EXECUTE ON FUNCTION _prom_catalog.guard(int8), _prom_catalog.tenant_id(text),
    _prom_catalog.resolve_series(int4, text[], text[], text[], int4[], int4[], int4[]),
    _prom_catalog.upsert_metadata(int4, text[], text[], text[], text[]),
    _prom_catalog.insert_exemplars(int4[], int4[], int8[], int8[], timestamptz[], float8[], jsonb[])
    TO prom_writer;
GRANT EXECUTE ON FUNCTION _prom_catalog.get_or_create_series_id(jsonb),
    _prom_catalog.get_or_create_metric_table_name(text), _prom_catalog.make_views_now(int4),
    prom_api.create_metric(text) TO prom_writer;
-- for a restore by prom_admin, who owns the views with these triggers
GRANT EXECUTE ON FUNCTION _prom_ext.write_row(), _prom_ext.write_end() TO prom_admin;
GRANT EXECUTE ON FUNCTION _prom_catalog.count_conflicts(int4, int8, int8, int4) TO prom_writer;
GRANT EXECUTE ON FUNCTION _prom_catalog.make_metric_views(int4) TO prom_writer, prom_maintenance;
GRANT INSERT ON _prom_data.fresh, _prom_data.exemplar TO prom_writer;
-- of a metric: its place among the labels, not its settings
GRANT INSERT (id, metric_name, digest, table_name), UPDATE (positions) ON _prom_catalog.metric
    TO prom_writer;
GRANT INSERT ON _prom_catalog.tenant, _prom_catalog.label, _prom_catalog.label_key,
    _prom_catalog.label_key_position, _prom_catalog.series, _prom_catalog.series_feed TO prom_writer;
GRANT INSERT, UPDATE, DELETE ON _prom_catalog.metadata TO prom_writer;
GRANT USAGE ON SEQUENCE _prom_data.block_id_seq, _prom_catalog.tenant_id_seq,
    _prom_catalog.metric_id_seq, _prom_catalog.label_key_id_seq, _prom_catalog.label_id_seq,
    _prom_catalog.series_id_seq TO prom_writer;

GRANT EXECUTE ON FUNCTION _prom_catalog.delete_series_rows(int8[]),
    _prom_catalog.delete_series_from_metric(text, int8[]), _prom_catalog.patiently(text, text),
    _prom_catalog.void_generation(), _prom_catalog.feed_deleted(int8[]),
    _prom_catalog.check_metric_name(text),
    prom_api.delete_series(text, timestamptz, timestamptz),
    _prom_catalog.delete_series_of(text, text[], timestamptz, timestamptz),
    prom_api.delete_series(text[], timestamptz, timestamptz),
    _prom_catalog.lock_to_delete(), _prom_catalog.erase_series(int4[], int8[]),
    _prom_catalog.erase_everywhere(int4, int8[], timestamptz, timestamptz, int8[], int8[]),
    _prom_catalog.erase_points(int4, int8[], int8[], timestamptz, timestamptz, int8[]),
    _prom_catalog.erase_exemplars(int4, int8[], timestamptz, timestamptz),
    _prom_catalog.erase_from(text, text, int4, int8[], timestamptz, timestamptz, int8[]),
    _prom_catalog.note_erased(text[]), _prom_catalog.lone_labels(int8[]), _prom_catalog.forget_labels(int4[]),
    _prom_catalog.recount_erased(int4, timestamptz, timestamptz), _prom_catalog.partitions()
    TO prom_modifier;
GRANT EXECUTE ON FUNCTION _prom_catalog.recount(int4), _prom_catalog.recount_presence(int4)
    TO prom_modifier, prom_maintenance;
GRANT EXECUTE ON FUNCTION _prom_catalog.trust_clock() TO prom_maintenance;
GRANT DELETE ON _prom_catalog.series TO prom_modifier;
GRANT UPDATE ON _prom_catalog.state TO prom_modifier;
GRANT UPDATE, DELETE ON _prom_data.fresh, _prom_data.merged, _prom_data.block, _prom_data.block_far,
    _prom_data.exemplar TO prom_modifier;
GRANT INSERT ON _prom_data.merged, _prom_data.block, _prom_data.block_far TO prom_modifier;

DO $$
DECLARE
    r record;
BEGIN
    FOR r IN
        SELECT p.oid::regprocedure AS f
        FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
        WHERE n.nspname = 'prom_api' AND p.proname IN ('set_default_retention_period',
               'set_metric_retention_period', 'reset_metric_retention_period',
               'set_default_chunk_interval', 'get_default_chunk_interval', 'set_metric_chunk_interval',
               'get_metric_chunk_interval', 'reset_metric_chunk_interval',
               'set_default_compression_setting', 'set_metric_compression_setting',
               'reset_metric_compression_setting', 'set_compression_on_metric_table', 'drop_metric',
               'set_retention', 'reset_retention', 'set_tenant_retention', 'reset_tenant_retention')
           OR n.nspname = '_prom_catalog' AND p.proname IN ('check_retention', 'check_selector', 'check_tenant',
               'set_setting', 'check_interval',
               'check_switch', 'check_chunk_interval', 'metric_to_set')
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO prom_admin', r.f);
    END LOOP;
END $$;
GRANT UPDATE (retention_period, chunk_interval, compression) ON _prom_catalog.metric TO prom_admin;
GRANT EXECUTE ON FUNCTION _prom_catalog.sync_timescaledb_view(), _prom_catalog.forget_figures(int4)
    TO prom_admin;
GRANT INSERT, UPDATE, DELETE ON _prom_catalog.setting_override, _prom_catalog.retention_rule,
    _prom_catalog.tenant_retention TO prom_admin;
GRANT CREATE ON SCHEMA prom_metric, prom_series, prom_histogram, prom_data TO prom_admin;
-- The metric views are made with these rights (put_view()), which costs nothing; so has everything else that
-- prom_admin makes in these schemas.
ALTER DEFAULT PRIVILEGES FOR ROLE prom_admin IN SCHEMA prom_metric, prom_series, prom_histogram, prom_data
    GRANT SELECT ON TABLES TO prom_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE prom_admin IN SCHEMA prom_data GRANT INSERT ON TABLES TO prom_writer;
