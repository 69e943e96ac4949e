-- What is stored, for people: prom_info. Figures of merged and sealed rows stand in
-- _prom_catalog.metric_day, those of _prom_data.fresh are counted when asked for; both under the
-- reader's snapshot, so that what maintenance moves is counted once, here or there.
--
-- All views are security_invoker: rights and row policies of the reader decide. Joins that only bring
-- figures are LEFT JOINs to one row each, which the planner leaves out where no column is asked for.

-- The part of a block that is enough for the newest samples.
CREATE FUNCTION _prom_ext.block_head(data bytea) RETURNS bytea
    AS 'MODULE_PATHNAME', 'block_head' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
-- What connectors fetch: all bytes, or that part; NULL where a page or a TOAST value is lost, which is found
-- out in a subtransaction.
CREATE FUNCTION _prom_ext.block_bytes(data bytea, head bool) RETURNS bytea
    AS 'MODULE_PATHNAME', 'block_bytes' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
-- What a small metric shares rows with: contents of a block, metric by metric.
CREATE FUNCTION _prom_ext.block_parts(data bytea, OUT metric_id int4, OUT n_samples int8,
                                      OUT t_min timestamptz, OUT t_max timestamptz)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'block_parts' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE ROWS 100;
-- Where a small metric shares rows of _prom_data.fresh with others: their (negative) metric_id.
CREATE FUNCTION _prom_ext.bucket(metric_id int4) RETURNS int4
    AS 'MODULE_PATHNAME', 'block_bucket' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
-- A metric's part of _prom_data.fresh.
CREATE FUNCTION _prom_ext.fresh_figures(metric_id int4, OUT rows float8, OUT samples int8,
                                        OUT bytes int8, OUT days date[], OUT hours int4[])
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'fresh_figures' LANGUAGE C STABLE STRICT PARALLEL RESTRICTED ROWS 1 COST 50;
-- Chunk intervals of this width that hold samples; and those in which nothing waits to be sealed.
CREATE FUNCTION _prom_ext.chunk_counts(days date[], merged_hours int4[], sealed_hours int4[],
                                       fresh_days date[], fresh_hours int4[], width interval,
                                       OUT total int8, OUT closed int8)
    AS 'MODULE_PATHNAME', 'chunk_counts' LANGUAGE C IMMUTABLE PARALLEL SAFE;

-- One row a metric, all that the views below show of it. A block's row takes 164 bytes beside its data:
-- 120 in the table (header, columns, line pointer), 44 in the index.
CREATE VIEW _prom_catalog.metric_figures WITH (security_invoker = true) AS
SELECT m.id,
       m.metric_name,
       m.table_name,
       m.retention_period,
       m.chunk_interval,
       c.total AS total_chunks,
       c.closed AS compressed_chunks,
       s.sealed_rows,
       s.sealed_samples,
       s.sealed_bytes,
       s.samples + f.samples AS samples,
       s.bytes + f.bytes + ((s.rows + f.rows) * 164)::int8 AS size
FROM (SELECT id, metric_name, table_name,
             coalesce(retention_period, (SELECT _prom_catalog.setting('retention_period')::interval))
                 AS retention_period,
             coalesce(chunk_interval, (SELECT _prom_catalog.setting('chunk_interval')::interval))
                 AS chunk_interval
      FROM _prom_catalog.metric) m
LEFT JOIN LATERAL (
    SELECT coalesce(sum(d.sealed_rows), 0)::int8 AS sealed_rows,
           coalesce(sum(d.sealed_samples), 0)::int8 AS sealed_samples,
           coalesce(sum(d.sealed_bytes), 0)::int8 AS sealed_bytes,
           coalesce(sum(d.merged_rows + d.sealed_rows), 0) AS rows,
           coalesce(sum(d.merged_samples + d.sealed_samples), 0)::int8 AS samples,
           coalesce(sum(d.merged_bytes + d.sealed_bytes), 0)::int8 AS bytes,
           array_agg(d.day) AS days,
           array_agg(d.merged_hours) AS merged_hours,
           array_agg(d.sealed_hours) AS sealed_hours
    FROM _prom_catalog.metric_day d WHERE d.metric_id = m.id
) s ON true
LEFT JOIN LATERAL (
    SELECT max(x.rows) AS rows, max(x.samples) AS samples, max(x.bytes) AS bytes, max(x.days) AS days,
           max(x.hours) AS hours
    FROM _prom_ext.fresh_figures(m.id) x
) f ON true
LEFT JOIN LATERAL (
    SELECT max(x.total) AS total, max(x.closed) AS closed
    FROM _prom_ext.chunk_counts(s.days, s.merged_hours, s.sealed_hours, f.days, f.hours,
                                m.chunk_interval) x
) c ON true;
COMMENT ON VIEW _prom_catalog.metric_figures IS 'what prom_info shows of each metric, as numbers';

-- "Uncompressed" is what the samples would take as rows of an ordinary table: 52 bytes (header, time,
-- value, series, line pointer) and 36 for their entry in an index on (series, time).
CREATE VIEW prom_info.metric WITH (security_invoker = true) AS
SELECT m.id,
       m.metric_name,
       m.table_name::text AS table_name,
       m.retention_period,
       m.chunk_interval,
       ARRAY(SELECT k.key
             FROM _prom_catalog.label_key_position p JOIN _prom_catalog.label_key k ON k.id = p.key_id
             WHERE p.metric_id = m.id ORDER BY k.key) AS label_keys,
       pg_size_pretty(m.size) AS size,
       (1 - (m.sealed_bytes + m.sealed_rows * 164) / nullif(m.sealed_samples * 88, 0)::numeric) * 100
           AS compression_ratio,
       m.total_chunks,
       m.compressed_chunks,
       m.compressed_chunks * m.chunk_interval AS compressed_interval,
       m.total_chunks * m.chunk_interval AS total_interval,
       m.sealed_samples * 88 AS before_compression_bytes,
       m.sealed_bytes + m.sealed_rows * 164 AS after_compression_bytes,
       m.size AS total_size_bytes,
       pg_size_pretty(m.size) AS total_size,
       (SELECT count(*) FROM _prom_catalog.series e WHERE e.metric_id = m.id) AS num_series,
       m.samples AS num_samples
FROM _prom_catalog.metric_figures m;

COMMENT ON VIEW prom_info.metric IS 'every metric: what is kept, how long, and the space it takes';
COMMENT ON COLUMN prom_info.metric.table_name IS
    'name of the views in prom_metric and prom_series';
COMMENT ON COLUMN prom_info.metric.retention_period IS 'how long samples are kept';
COMMENT ON COLUMN prom_info.metric.label_keys IS 'keys that any series of the metric has or had';
COMMENT ON COLUMN prom_info.metric.size IS 'space that the samples take, with their index';
COMMENT ON COLUMN prom_info.metric.compression_ratio IS
    'per cent saved in compressed chunks against a row per sample; NULL where nothing is compressed';
COMMENT ON COLUMN prom_info.metric.total_chunks IS 'chunk intervals that hold samples';
COMMENT ON COLUMN prom_info.metric.compressed_chunks IS
    'chunk intervals that are in their final form';
COMMENT ON COLUMN prom_info.metric.before_compression_bytes IS
    'what the samples in final form would take as rows of a table with an index: 88 bytes each';
COMMENT ON COLUMN prom_info.metric.after_compression_bytes IS 'what they take';
COMMENT ON COLUMN prom_info.metric.num_samples IS
    'samples stored; one that was sent again after its chunk was compressed counts twice until both are joined';

-- The same in the order and under the names of later versions of the original.
CREATE VIEW prom_info.metric_detail WITH (security_invoker = true) AS
SELECT id, metric_name, table_name, label_keys, retention_period, chunk_interval, compressed_interval,
       total_interval, before_compression_bytes, after_compression_bytes, total_size_bytes, total_size,
       compression_ratio, total_chunks, compressed_chunks
FROM prom_info.metric;
COMMENT ON VIEW prom_info.metric_detail IS 'prom_info.metric with its figures in bytes';

CREATE VIEW prom_info.metric_stats WITH (security_invoker = true) AS
SELECT m.metric_name,
       (SELECT count(*) FROM _prom_catalog.series e WHERE e.metric_id = m.id) AS num_series_approx,
       m.samples AS num_samples_approx,
       coalesce(c.duplicates, 0) AS num_duplicates,
       coalesce(c.conflicts, 0) AS num_conflicts
FROM _prom_catalog.metric_figures m
LEFT JOIN LATERAL (
    SELECT sum(x.duplicates)::int8 AS duplicates, sum(x.conflicts)::int8 AS conflicts
    FROM _prom_catalog.metric_conflict x WHERE x.metric_id = m.id
) c ON true;
COMMENT ON VIEW prom_info.metric_stats IS 'series and samples of every metric';
COMMENT ON COLUMN prom_info.metric_stats.num_duplicates IS
    'samples that maintenance has left out: sent twice, with the same value';
COMMENT ON COLUMN prom_info.metric_stats.num_conflicts IS
    'samples that maintenance has left out: an earlier one of the same series and time has another value';

-- Counting millions of series takes a second, so a large table is estimated as the planner does it:
-- rows a page when it was last analyzed, times its pages now. Where a row policy decides what the reader
-- may know, what he may see is counted.
CREATE VIEW prom_info.system_stats WITH (security_invoker = true) AS
SELECT CASE WHEN c.reltuples >= 200000 AND NOT row_security_active(c.oid)
            THEN (c.reltuples / greatest(c.relpages, 1)
                  * (pg_relation_size(c.oid) / current_setting('block_size')::int8))::int8
            ELSE (SELECT count(*) FROM _prom_catalog.series) END AS num_series_approx,
       (SELECT count(*) FROM _prom_catalog.metric) AS num_metric,
       (SELECT count(*) FROM _prom_catalog.label_key) AS num_label_keys,
       (SELECT count(*) FROM _prom_catalog.label) AS num_labels
FROM pg_class c WHERE c.oid = '_prom_catalog.series'::regclass;
COMMENT ON VIEW prom_info.system_stats IS 'how many series, metrics and labels there are';

-- Up to PostgreSQL 15 pg_dump locks the views of all metrics until it ends, since the rule of a view names the view itself;
-- beside these some 200 relations, and two for each day. PostgreSQL sizes its table of locks by these settings, and has a little more room than that.
CREATE VIEW prom_info.dump_locks WITH (security_invoker = true) AS
SELECT n.needed, n.needed <= b.backends * l.per_transaction AS enough,
       b.backends * l.per_transaction AS available,
       l.per_transaction AS max_locks_per_transaction,
       greatest(l.per_transaction, ceil(n.needed * 1.2 / b.backends)::int8) AS recommended
FROM (SELECT 200 + (SELECT 3 * count(*) + count(*) FILTER (WHERE histograms) FROM _prom_catalog.metric
                         WHERE current_setting('server_version_num')::int4 < 160000)
                 + (SELECT 2 * count(*) FROM pg_inherits WHERE inhparent = '_prom_data.block'::regclass) AS needed) n,
     (SELECT current_setting('max_locks_per_transaction')::int8 AS per_transaction) l,
     (SELECT sum(s.setting::int8)::int8 + 1 AS backends FROM pg_settings s
      WHERE s.name IN ('max_connections', 'autovacuum_max_workers', 'max_worker_processes', 'max_wal_senders',
                       'max_prepared_transactions')) b;
COMMENT ON VIEW prom_info.dump_locks IS 'is there room for the locks that pg_dump of this database takes?';
COMMENT ON COLUMN prom_info.dump_locks.recommended IS
    'max_locks_per_transaction with which there is, and some to spare; changing it takes a restart';

-- Key by key, so that WHERE key = '...' reads the values of that key alone. Tenants may share a value.
CREATE VIEW prom_info.label WITH (security_invoker = true) AS
SELECT k.key, k.value_column_name, k.id_column_name, l."values", cardinality(l."values") AS num_values
FROM _prom_catalog.label_key k
CROSS JOIN LATERAL (SELECT array_agg(DISTINCT v.value ORDER BY v.value) AS "values"
                    FROM _prom_catalog.label v WHERE v.key_id = k.id) l
WHERE l."values" IS NOT NULL
ORDER BY num_values DESC, k.key;
COMMENT ON VIEW prom_info.label IS 'every label key with its values and the columns that show it';

CREATE VIEW prom_info.exemplar WITH (security_invoker = true) AS
SELECT m.metric_name, e."time", e.value, e.labels AS exemplar_labels, e.series_id, s.labels
FROM _prom_data.exemplar e
JOIN _prom_catalog.metric m ON m.id = e.metric_id
JOIN _prom_catalog.series s ON s.id = e.series_id;
COMMENT ON VIEW prom_info.exemplar IS
    'single observations that clients have sent with samples, mostly with the id of a trace';
COMMENT ON COLUMN prom_info.exemplar.exemplar_labels IS 'labels of the observation, such as trace_id';
COMMENT ON COLUMN prom_info.exemplar.labels IS 'labels of the series, as in the views of metrics';
