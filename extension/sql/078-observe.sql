-- What operators look at: the steps of maintenance, and what lies at each level. Connectors show the same
-- on /metrics, by observe(). Nothing here is counted ahead: what a step says of itself stands in job, what is
-- merged and sealed in metric_day, and how long data waits follows from when a step was last through.

CREATE VIEW prom_info.maintenance WITH (security_invoker = true) AS
SELECT s.name AS step,
       CASE WHEN j.failures > 0 THEN 'failing'
            WHEN j.next_run < now() - greatest(s.every, '5 min') AND s.every > '0' THEN 'late'
            WHEN j.last_run IS NULL THEN 'not yet run'
            ELSE 'ok' END AS state,
       j.last_run,
       j.last_duration,
       j.last_detail AS last_did,
       j.caught_up_at,
       j.next_run,
       coalesce(j.failures, 0) AS failures_in_a_row,
       coalesce(j.failed_total, 0) AS failed_total,
       j.last_error,
       j.last_error_at
FROM _prom_catalog.maintenance_steps() s LEFT JOIN _prom_catalog.job j ON j.name = s.name
ORDER BY s.place;
COMMENT ON VIEW prom_info.maintenance IS 'every step of maintenance: when it ran, how that went';
COMMENT ON COLUMN prom_info.maintenance.state IS
    'ok; failing (its last run failed); late (nobody has run it when it was due); not yet run';
COMMENT ON COLUMN prom_info.maintenance.last_did IS 'what it did when it last did anything';
COMMENT ON COLUMN prom_info.maintenance.caught_up_at IS 'at this time nothing was left for it to do';
COMMENT ON COLUMN prom_info.maintenance.last_error IS 'its last error, which may be long past: see failures_in_a_row';

-- The start of the first hour of figures' days and hour bits, as one number that min() can take.
CREATE FUNCTION _prom_catalog.first_hour(p_coded int8) RETURNS timestamptz
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT to_timestamp(((p_coded >> 24) * 24 + round(ln((p_coded & 16777215)::float8) / ln(2::float8))) * 3600)
$$;

CREATE VIEW prom_info.storage WITH (security_invoker = true) AS
WITH stored AS (
    SELECT coalesce(sum(merged_rows), 0)::int8 AS merged_rows, coalesce(sum(sealed_rows), 0)::int8 AS sealed_rows,
           coalesce(sum(merged_samples), 0)::int8 AS merged_samples,
           coalesce(sum(sealed_samples), 0)::int8 AS sealed_samples,
           coalesce(sum(merged_bytes), 0)::int8 AS merged_bytes,
           coalesce(sum(sealed_bytes), 0)::int8 AS sealed_bytes,
           min(((day - '1970-01-01'::date)::int8 << 24) | (merged_hours & -merged_hours))
               FILTER (WHERE merged_hours <> 0) AS merged_first,
           min(((day - '1970-01-01'::date)::int8 << 24) | (sealed_hours & -sealed_hours))
               FILTER (WHERE sealed_hours <> 0) AS sealed_first
    FROM _prom_catalog.metric_day
)
SELECT 'fresh' AS level, f.blocks, f.samples, f.bytes,
       pg_total_relation_size('_prom_data.fresh'::regclass) AS table_bytes,
       pg_stat_get_dead_tuples('_prom_data.fresh'::regclass) AS dead_rows,
       f.oldest,
       CASE WHEN f.blocks = 0 THEN '0'::interval ELSE now() - j.caught_up_at END AS behind
FROM (SELECT count(*) AS blocks, coalesce(sum(n_samples), 0)::int8 AS samples,
             coalesce(sum(octet_length(data)), 0)::int8 AS bytes, min(t_min) AS oldest FROM _prom_data.fresh) f
LEFT JOIN _prom_catalog.job j ON j.name = 'fold'
UNION ALL
SELECT 'merged', s.merged_rows, s.merged_samples, s.merged_bytes,
       pg_total_relation_size('_prom_data.merged'::regclass), pg_stat_get_dead_tuples('_prom_data.merged'::regclass),
       _prom_catalog.first_hour(s.merged_first),
       CASE WHEN s.merged_rows = 0 THEN '0'::interval ELSE now() - j.caught_up_at END
FROM stored s LEFT JOIN _prom_catalog.job j ON j.name = 'seal'
UNION ALL
SELECT 'sealed', s.sealed_rows, s.sealed_samples, s.sealed_bytes, t.bytes, t.dead, _prom_catalog.first_hour(s.sealed_first),
       NULL
FROM stored s,
     (SELECT sum(pg_total_relation_size(c.oid))::int8 AS bytes, sum(pg_stat_get_dead_tuples(c.oid))::int8 AS dead
      FROM pg_class c
      WHERE c.oid = '_prom_data.block_far'::regclass
         OR c.oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = '_prom_data.block'::regclass)) t;
COMMENT ON VIEW prom_info.storage IS 'what lies at each level: fresh, merged, sealed';
COMMENT ON COLUMN prom_info.storage.bytes IS 'of the blocks themselves';
COMMENT ON COLUMN prom_info.storage.table_bytes IS 'of the files: tables, TOAST and indexes';
COMMENT ON COLUMN prom_info.storage.oldest IS
    'time of the oldest sample; of merged and sealed blocks the hour in which it lies';
COMMENT ON COLUMN prom_info.storage.behind IS
    'how long ago nothing was left to be folded (fresh) or sealed (merged); nothing has waited longer';

-- Merged and sealed; what is fresh has not been told apart yet.
CREATE VIEW prom_info.storage_by_metric WITH (security_invoker = true) AS
SELECT m.metric_name, t.name AS tenant, sum(d.merged_rows)::int8 AS merged_blocks,
       sum(d.sealed_rows)::int8 AS sealed_blocks, sum(d.merged_samples + d.sealed_samples)::int8 AS samples,
       sum(d.merged_bytes + d.sealed_bytes + (d.merged_rows + d.sealed_rows) * 164)::int8 AS bytes,
       min(d.day) AS first_day, max(d.day) AS last_day
FROM _prom_catalog.metric_day d JOIN _prom_catalog.metric m ON m.id = d.metric_id
JOIN _prom_catalog.tenant t ON t.id = d.tenant_id
GROUP BY m.id, t.id;
COMMENT ON VIEW prom_info.storage_by_metric IS 'merged and sealed blocks of every metric and tenant';
COMMENT ON COLUMN prom_info.storage_by_metric.bytes IS 'space that they take, with their rows and index entries';

CREATE VIEW prom_info.storage_by_tenant WITH (security_invoker = true) AS
SELECT t.name AS tenant, s.metrics, s.merged_blocks, s.sealed_blocks, s.samples, s.bytes, s.first_day, s.last_day
FROM (SELECT tenant_id, count(DISTINCT metric_id) AS metrics, sum(merged_rows)::int8 AS merged_blocks,
             sum(sealed_rows)::int8 AS sealed_blocks, sum(merged_samples + sealed_samples)::int8 AS samples,
             sum(merged_bytes + sealed_bytes + (merged_rows + sealed_rows) * 164)::int8 AS bytes,
             min(day) AS first_day, max(day) AS last_day
      FROM _prom_catalog.metric_day GROUP BY tenant_id) s
JOIN _prom_catalog.tenant t ON t.id = s.tenant_id;
COMMENT ON VIEW prom_info.storage_by_tenant IS 'merged and sealed blocks of every tenant';

-- All of it as readings for /metrics: family (without the prefix promscale_), pairs of label name and value,
-- value. Metrics: only the p_top largest.
CREATE FUNCTION _prom_catalog.observe(p_top int4, OUT family text, OUT labels text[], OUT reading float8)
RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
    SELECT v.family, ARRAY['step', m.step], v.reading
    FROM prom_info.maintenance m, LATERAL (VALUES
        ('maintenance_failures', m.failures_in_a_row),
        ('maintenance_failures_total', m.failed_total),
        ('maintenance_late', (m.state = 'late')::int4),
        ('maintenance_last_run_timestamp_seconds', extract(epoch FROM m.last_run)),
        ('maintenance_last_duration_seconds', extract(epoch FROM m.last_duration))) v (family, reading)
    WHERE v.reading IS NOT NULL
    UNION ALL
    SELECT v.family, ARRAY['level', s.level], v.reading
    FROM prom_info.storage s, LATERAL (VALUES
        ('storage_blocks', s.blocks::float8), ('storage_samples', s.samples), ('storage_bytes', s.bytes),
        ('storage_table_bytes', s.table_bytes), ('storage_dead_rows', s.dead_rows),
        ('storage_oldest_timestamp_seconds', extract(epoch FROM s.oldest)),
        ('storage_behind_seconds', extract(epoch FROM s.behind))) v (family, reading)
    WHERE v.reading IS NOT NULL
    UNION ALL
    SELECT 'storage_unreadable_blocks', '{}', count(*) FROM _prom_catalog.maintenance_error
    UNION ALL
    SELECT v.family, '{}', v.reading
    FROM prom_info.dump_locks d, LATERAL (VALUES ('storage_dump_locks_needed', d.needed::float8),
                                                 ('storage_dump_locks_available', d.available)) v (family, reading)
    UNION ALL
    SELECT v.family, ARRAY['tenant', t.tenant], v.reading
    FROM prom_info.storage_by_tenant t,
         LATERAL (VALUES ('storage_tenant_samples', t.samples::float8), ('storage_tenant_bytes', t.bytes)) v (family, reading)
    UNION ALL
    (SELECT 'storage_metric_bytes', ARRAY['metric', b.metric_name, 'tenant', b.tenant], b.bytes
     FROM prom_info.storage_by_metric b ORDER BY b.bytes DESC, 2 LIMIT p_top)
$$;
