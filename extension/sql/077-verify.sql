-- Is what is stored still what was written? Rows of blocks, one by one, and what the catalog says of them.
-- Runs online, with the caller's rights, and raises nothing about what it finds.

CREATE FUNCTION _prom_ext.verify_table(relation regclass, partition regclass, level int2,
    day timestamptz, next_day timestamptz, metrics int4[], start timestamptz, stop timestamptz, deep bool,
    OUT block_id int8, OUT tenant_id int4, OUT metric_id int4, OUT t_min timestamptz, OUT t_max timestamptz,
    OUT n_series int4, OUT n_samples int4, OUT problem text) RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'verify_table' LANGUAGE C VOLATILE PARALLEL UNSAFE COST 100000 ROWS 10;

CREATE FUNCTION _prom_ext.ids_problem(series_ids bytea, n_series int4, part_lo int8) RETURNS text
    AS 'MODULE_PATHNAME', 'ids_problem' LANGUAGE C IMMUTABLE STRICT PARALLEL UNSAFE COST 100;

-- The tables of blocks that may hold something of the range; of partitions those that the caller may not
-- read are read through their parent.
CREATE FUNCTION _prom_catalog.verify_tables(p_start timestamptz, p_stop timestamptz,
    OUT table_name text, OUT relation regclass, OUT partition regclass, OUT level int2,
    OUT day timestamptz, OUT next_day timestamptz) RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT '_prom_data.' || t, ('_prom_data.' || t)::regclass, ('_prom_data.' || t)::regclass, l::int2,
           NULL::timestamptz, NULL::timestamptz
    FROM (VALUES ('fresh', 0), ('merged', 1), ('block_far', 2)) v (t, l)
    UNION ALL
    (SELECT '_prom_data.' || p.table_name,
            CASE WHEN has_table_privilege(('_prom_data.' || quote_ident(p.table_name))::regclass, 'SELECT')
                 THEN '_prom_data.' || quote_ident(p.table_name) ELSE '_prom_data.block' END::regclass,
            ('_prom_data.' || quote_ident(p.table_name))::regclass, 2::int2, p.day, p.day + '24 hours'::interval
     FROM _prom_catalog.partitions() p
     WHERE (p_start IS NULL OR p.day + '24 hours'::interval > p_start) AND (p_stop IS NULL OR p.day <= p_stop)
     ORDER BY p.day)
$$;

-- What the catalog says and is not so. p_metrics NULL: of all metrics.
CREATE FUNCTION _prom_catalog.verify_catalog(p_metrics int4[], p_start timestamptz, p_stop timestamptz,
    OUT table_name text, OUT tenant_id int4, OUT metric_id int4, OUT t_min timestamptz, OUT t_max timestamptz,
    OUT problem text) RETURNS SETOF record
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET jit = off AS $$
    SELECT '_prom_data.presence', p.tenant_id, p.metric_id, p.window_start, p.window_start + '8 hours'::interval,
           e.problem || '; _prom_catalog.recount_presence() makes it anew'
    FROM _prom_data.presence p, LATERAL _prom_ext.ids_problem(p.series_ids, p.n_series, p.part_lo) e (problem)
    WHERE (p_metrics IS NULL OR p.metric_id = ANY (p_metrics))
      AND (p_start IS NULL OR p.window_start + '8 hours'::interval > p_start)
      AND (p_stop IS NULL OR p.window_start <= p_stop) AND e.problem IS NOT NULL
    UNION ALL
    SELECT '_prom_catalog.metric', NULL, m.id, NULL, NULL,
           coalesce('its views cannot be made: ' || m.views_error, 'it has no view in prom_metric')
    FROM _prom_catalog.metric m
    WHERE (p_metrics IS NULL OR m.id = ANY (p_metrics))
      AND (m.views_error IS NOT NULL OR m.created_at < now() - '10 minutes'::interval
           AND to_regclass('prom_metric.' || quote_ident(m.table_name)) IS NULL)
    UNION ALL
    SELECT '_prom_data.' || c.relname, NULL, NULL, NULL, NULL, 'a day''s table that is no partition of _prom_data.block'
    FROM pg_class c
    WHERE c.relnamespace = '_prom_data'::regnamespace AND c.relkind = 'r' AND c.relname ~ '^block_[0-9]{8}$'
      AND NOT EXISTS (SELECT FROM _prom_catalog.partitions() p WHERE p.table_name = c.relname)
$$;

-- Figures that are not those of the rows: reads the rows, but not what lies out of line.
CREATE FUNCTION _prom_catalog.verify_figures(p_metrics int4[], p_start timestamptz, p_stop timestamptz,
    OUT table_name text, OUT tenant_id int4, OUT metric_id int4, OUT t_min timestamptz, OUT t_max timestamptz,
    OUT problem text) RETURNS SETOF record
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET jit = off AS $$
    SELECT '_prom_catalog.metric_day', coalesce(d.tenant_id, f.tenant_id), coalesce(d.metric_id, f.metric_id),
           coalesce(d.day, f.day)::timestamptz, (coalesce(d.day, f.day) + 1)::timestamptz,
           format('figures say %s rows, %s samples, %s bytes, and there are %s, %s, %s; '
                  '_prom_catalog.recount() counts anew', d.n, d.samples, d.bytes, f.n, f.samples, f.bytes)
    FROM (SELECT m.metric_id, m.day, m.tenant_id, m.merged_rows + m.sealed_rows AS n,
                 m.merged_samples + m.sealed_samples AS samples, m.merged_bytes + m.sealed_bytes AS bytes
          FROM _prom_catalog.metric_day m
          WHERE (p_metrics IS NULL OR m.metric_id = ANY (p_metrics))
            AND (p_start IS NULL OR (m.day + 1)::timestamptz > p_start)
            AND (p_stop IS NULL OR m.day::timestamptz <= p_stop)) d
    FULL JOIN
         (SELECT r.metric_id, r.day, r.tenant_id, count(*) AS n, sum(r.n_samples) AS samples, sum(r.bytes) AS bytes
          FROM _prom_catalog.stored_rows r
          WHERE (p_metrics IS NULL OR r.metric_id = ANY (p_metrics))
            AND (p_start IS NULL OR r.t_min >= date_trunc('day', p_start))
            AND (p_stop IS NULL OR r.t_min < date_trunc('day', p_stop) + '24 hours'::interval)
          GROUP BY r.metric_id, r.day, r.tenant_id) f
        ON (f.metric_id, f.day, f.tenant_id) = (d.metric_id, d.day, d.tenant_id)
    WHERE (d.n, d.samples, d.bytes) IS DISTINCT FROM (f.n, f.samples, f.bytes)
      AND NOT (coalesce(d.n, 0) = 0 AND coalesce(f.n, 0) = 0)
$$;

CREATE FUNCTION _prom_catalog.verify_names(p_tenant int4, p_metric int4, OUT tenant text, OUT metric_name text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN $1 IS NOT NULL
                THEN coalesce((SELECT t.name FROM _prom_catalog.tenant t WHERE t.id = $1), format('tenant_id %s', $1)) END,
           CASE WHEN $2 < 0 THEN format('(small metrics, bucket %s)', $2)
                WHEN $2 IS NOT NULL
                THEN coalesce((SELECT m.metric_name FROM _prom_catalog.metric m WHERE m.id = $2), format('metric_id %s', $2))
           END
$$;

CREATE FUNCTION prom_api.verify(metrics text[] DEFAULT NULL, start timestamptz DEFAULT NULL,
    stop timestamptz DEFAULT NULL, deep bool DEFAULT false)
RETURNS TABLE (table_name text, block_id int8, tenant text, metric_name text, t_min timestamptz, t_max timestamptz,
               n_series int4, n_samples int4, problem text)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    v_metrics int4[];
    v_rows int4[];
    v_name text;
BEGIN
    IF $1 IS NOT NULL THEN
        FOREACH v_name IN ARRAY $1 LOOP
            IF _prom_catalog.metric_id(v_name) IS NULL THEN
                PERFORM _prom_catalog.no_such_metric(v_name);
            END IF;
        END LOOP;
        v_metrics := ARRAY(SELECT DISTINCT _prom_catalog.metric_id(n) FROM unnest($1) n);
        v_rows := v_metrics || ARRAY(SELECT DISTINCT _prom_ext.bucket(m) FROM unnest(v_metrics) m);
    END IF;
    RETURN QUERY
        SELECT t.table_name, v.block_id, n.tenant, n.metric_name, v.t_min, v.t_max, v.n_series, v.n_samples, v.problem
        FROM _prom_catalog.verify_tables($2, $3) t,
             LATERAL _prom_ext.verify_table(t.relation, t.partition, t.level, t.day, t.next_day, v_rows,
                                            $2, $3, $4) v,
             LATERAL _prom_catalog.verify_names(v.tenant_id, v.metric_id) n;
    FOREACH v_name IN ARRAY '{verify_catalog,verify_figures}'::text[] LOOP
        BEGIN
            RETURN QUERY EXECUTE format(
                'SELECT c.table_name, NULL::int8, n.tenant, n.metric_name, c.t_min, c.t_max, NULL::int4, NULL::int4,'
                ' c.problem FROM _prom_catalog.%I($1, $2, $3) c,'
                ' LATERAL _prom_catalog.verify_names(c.tenant_id, c.metric_id) n', v_name) USING v_metrics, $2, $3;
        EXCEPTION WHEN data_corrupted OR index_corrupted OR io_error OR undefined_file OR internal_error THEN
            RETURN QUERY SELECT '_prom_catalog', NULL::int8, NULL, NULL, NULL::timestamptz, NULL::timestamptz,
                                NULL::int4, NULL::int4, format('%s() cannot go on: %s', v_name, SQLERRM);
        END;
    END LOOP;
END $$;
COMMENT ON FUNCTION prom_api.verify(text[], timestamptz, timestamptz, bool) IS
    'names blocks and catalog rows that are damaged; deep: decodes every sample';
