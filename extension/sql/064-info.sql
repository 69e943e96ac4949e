-- What is stored, for people: prom_info.metric and prom_info.label. The figures are counted when asked
-- for, from the block rows (their data is not read), so they are true at that moment; ask for one
-- metric where there are many.

CREATE FUNCTION _prom_ext.block_parts(data bytea, OUT metric_id int4, OUT n_samples int8,
                                      OUT t_min timestamptz, OUT t_max timestamptz)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'block_parts' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE ROWS 100;
-- Where a small metric shares rows of _prom_data.fresh with others: their (negative) metric_id.
CREATE FUNCTION _prom_ext.bucket(metric_id int4) RETURNS int4
    AS 'MODULE_PATHNAME', 'block_bucket' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

-- The chunk windows that a span of time touches, by number.
CREATE FUNCTION _prom_catalog.chunk_windows(p_from timestamptz, p_to timestamptz, p_width interval)
RETURNS SETOF int8
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE ROWS 2 SET search_path = pg_catalog, pg_temp AS $$
    SELECT generate_series(floor(extract(epoch FROM p_from) / extract(epoch FROM p_width))::int8,
                           floor(extract(epoch FROM p_to) / extract(epoch FROM p_width))::int8)
$$;

-- One row a metric that has any. sealed: windows with final blocks; open: windows with others.
CREATE VIEW prom_info.metric WITH (security_invoker = true) AS
SELECT m.id,
       m.metric_name,
       m.table_name::text AS table_name,
       m.retention_period,
       m.chunk_interval,
       ARRAY(SELECT k.key
             FROM _prom_catalog.label_key_position p JOIN _prom_catalog.label_key k ON k.id = p.key_id
             WHERE p.metric_id = m.id ORDER BY k.key) AS label_keys,
       pg_size_pretty(z.bytes) AS size,
       CASE WHEN z.samples > 0
            THEN (1 - z.bytes::numeric / (z.samples * 24)) * 100 END AS compression_ratio,
       (SELECT count(*) FROM (SELECT unnest(s.sealed) UNION SELECT unnest(s.open)
                              UNION SELECT unnest(f.open)) w) AS total_chunks,
       (SELECT count(*) FROM (SELECT unnest(s.sealed) EXCEPT SELECT unnest(s.open)
                              EXCEPT SELECT unnest(f.open)) w) AS compressed_chunks,
       z.samples * 24 AS before_compression_bytes,
       z.bytes AS after_compression_bytes,
       z.bytes AS total_size_bytes,
       (SELECT count(*) FROM _prom_catalog.series e WHERE e.metric_id = m.id) AS num_series,
       z.samples AS num_samples
FROM (SELECT id, metric_name, table_name,
             coalesce(retention_period, _prom_catalog.setting('retention_period')::interval)
                 AS retention_period,
             coalesce(chunk_interval, _prom_catalog.setting('chunk_interval')::interval)
                 AS chunk_interval
      FROM _prom_catalog.metric) m
LEFT JOIN LATERAL (
    SELECT sum(b.bytes)::int8 AS bytes, sum(b.n_samples)::int8 AS samples,
           array_agg(b.window_no) FILTER (WHERE b.level = 2) AS sealed,
           array_agg(b.window_no) FILTER (WHERE b.level < 2) AS open
    FROM (
        -- a row's figures count in its first window, the others only learn that it is there
        SELECT r.level, w.window_no, CASE WHEN w.nth = 1 THEN r.bytes END AS bytes,
               CASE WHEN w.nth = 1 THEN r.n_samples END AS n_samples
        FROM (SELECT level, octet_length(data) AS bytes, n_samples, t_min, t_max
                  FROM _prom_data.fresh WHERE metric_id = m.id
              UNION ALL SELECT level, octet_length(data), n_samples, t_min, t_max
                  FROM _prom_data.merged WHERE metric_id = m.id
              UNION ALL SELECT level, octet_length(data), n_samples, t_min, t_max
                  FROM _prom_data.block WHERE metric_id = m.id
              UNION ALL SELECT level, octet_length(data), n_samples, t_min, t_max
                  FROM _prom_data.block_far WHERE metric_id = m.id) r,
             LATERAL _prom_catalog.chunk_windows(r.t_min, r.t_max, m.chunk_interval)
                 WITH ORDINALITY w(window_no, nth)) b
) s ON true
LEFT JOIN (
    -- rows that small metrics share, each metric with its part by samples
    SELECT p.metric_id, sum(p.bytes)::int8 AS bytes, sum(p.n_samples)::int8 AS samples,
           array_agg(p.window_no) AS open
    FROM (
        SELECT b.metric_id, w.window_no,
               CASE WHEN w.nth = 1
                    THEN octet_length(r.data)::numeric * b.n_samples / r.n_samples END AS bytes,
               CASE WHEN w.nth = 1 THEN b.n_samples END AS n_samples
        FROM _prom_data.fresh r,
             LATERAL _prom_ext.block_parts(r.data) b
             JOIN _prom_catalog.metric c ON c.id = b.metric_id,
             LATERAL _prom_catalog.chunk_windows(b.t_min, b.t_max, coalesce(c.chunk_interval,
                         _prom_catalog.setting('chunk_interval')::interval))
                 WITH ORDINALITY w(window_no, nth)
        WHERE r.metric_id < 0) p
    GROUP BY p.metric_id
) f ON f.metric_id = m.id
CROSS JOIN LATERAL (SELECT coalesce(s.bytes, 0) + coalesce(f.bytes, 0) AS bytes,
                           coalesce(s.samples, 0) + coalesce(f.samples, 0) AS samples) z;

COMMENT ON VIEW prom_info.metric IS 'every metric: what is kept, how long, and the space it takes';
COMMENT ON COLUMN prom_info.metric.table_name IS
    'name of the views in prom_metric and prom_series';
COMMENT ON COLUMN prom_info.metric.size IS 'bytes of the blocks, as stored';
COMMENT ON COLUMN prom_info.metric.compression_ratio IS
    'per cent saved against 24 bytes a sample (time, value, series)';
COMMENT ON COLUMN prom_info.metric.total_chunks IS 'chunk intervals that hold samples';
COMMENT ON COLUMN prom_info.metric.compressed_chunks IS
    'chunk intervals that are in their final form';

CREATE VIEW prom_info.label WITH (security_invoker = true) AS
SELECT k.key, k.value_column_name, k.id_column_name, l."values", cardinality(l."values") AS num_values
FROM _prom_catalog.label_key k
JOIN (SELECT key_id, array_agg(DISTINCT value ORDER BY value) AS "values"
      FROM _prom_catalog.label GROUP BY key_id) l ON l.key_id = k.id
ORDER BY num_values DESC, k.key;

COMMENT ON VIEW prom_info.label IS 'every label key with its values and the columns that show it';
