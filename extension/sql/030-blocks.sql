-- Where samples live: rows that hold blocks (docs/block-format.md), in four tables of one shape.
--
--   fresh      level 0, what flushes wrote in the last seconds: INSERT by connectors and 055-write.sql,
--              DELETE by merge
--   merged     level 1, minutes of a metric each, of windows that are not sealed yet
--   block      level 2, sealed; one partition a day of t_min, made at run time
--   block_far  level 2, of days too far off to deserve a partition
--
-- The table contract (docs/decisions/): every data table carries dist_key and t_min and its keys hold
-- both, so that an engine may place rows by dist_key; data is reached through SQL only. The primary
-- key is the only index of theirs. Precedence where two blocks hold the same series and time: the higher level,
-- then the lower id.
--
-- The partitioned parent is bare (no key, no index, no partition here): pg_dump would otherwise lose
-- the rows of partitions that this script made, and restoring would clash.

CREATE SEQUENCE _prom_data.block_id_seq AS int8;

CREATE TABLE _prom_data.fresh (
    id        int8 NOT NULL DEFAULT nextval('_prom_data.block_id_seq'),
    tenant_id int4 NOT NULL,
    metric_id int4 NOT NULL,                      -- negative: a bucket of small metrics
    dist_key  int8 NOT NULL,
    level     int2 NOT NULL,
    kind      int2 NOT NULL,
    format    int2 NOT NULL,
    series_lo int8 NOT NULL,
    series_hi int8 NOT NULL,
    t_min     timestamptz NOT NULL,
    t_max     timestamptz NOT NULL,
    n_series  int4 NOT NULL,
    n_samples int4 NOT NULL,
    data      bytea NOT NULL,
    PRIMARY KEY (metric_id, t_min, dist_key, id)
);
ALTER TABLE _prom_data.fresh ALTER data SET STORAGE EXTERNAL;

CREATE TABLE _prom_data.merged (LIKE _prom_data.fresh INCLUDING DEFAULTS INCLUDING STORAGE,
    PRIMARY KEY (metric_id, t_min, dist_key, id));
CREATE TABLE _prom_data.block_far (LIKE _prom_data.fresh INCLUDING DEFAULTS INCLUDING STORAGE,
    PRIMARY KEY (metric_id, t_min, dist_key, id));
CREATE TABLE _prom_data.block (LIKE _prom_data.fresh INCLUDING DEFAULTS INCLUDING STORAGE)
    PARTITION BY RANGE (t_min);

-- The maintenance worker vacuums right after each fold; these are the net below it. (Rows that were inserted into
-- fresh are no reason for a VACUUM: they are gone in half a minute.)
ALTER TABLE _prom_data.fresh SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_insert_threshold = -1, autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off,
    toast.vacuum_truncate = off, toast_tuple_target = 8160);
ALTER TABLE _prom_data.merged SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off,
    toast.vacuum_truncate = off, toast_tuple_target = 8160);
ALTER TABLE _prom_data.block_far SET (vacuum_truncate = off, toast.vacuum_truncate = off,
    toast_tuple_target = 8160);

-- Which series of a metric have samples in a window of 8 hours, aligned to UTC: of merged and sealed
-- rows; fresh ones are not counted yet. Kept by folding (074-presence.sql). A set comes in parts of some
-- thousand ids, each with the ids from part_lo to the next one's; a set may hold ids of series that were
-- deleted.
CREATE TABLE _prom_data.presence (
    tenant_id    int4 NOT NULL,
    metric_id    int4 NOT NULL,
    dist_key     int8 NOT NULL,
    window_start timestamptz NOT NULL,
    part_lo      int8 NOT NULL,
    n_series     int4 NOT NULL,
    series_ids   bytea NOT NULL,                  -- docs/read-path.md
    PRIMARY KEY (metric_id, window_start, dist_key, tenant_id, part_lo)
) WITH (fillfactor = 80);
ALTER TABLE _prom_data.presence ALTER series_ids SET STORAGE EXTERNAL;
CREATE INDEX presence_window_idx ON _prom_data.presence (window_start);

-- Exemplars: few, capped per series by maintenance.
CREATE TABLE _prom_data.exemplar (
    tenant_id int4 NOT NULL,
    metric_id int4 NOT NULL,
    dist_key  int8 NOT NULL,
    series_id int8 NOT NULL,
    time      timestamptz NOT NULL,
    value     float8 NOT NULL,
    labels    jsonb NOT NULL,
    digest    uuid NOT NULL,                      -- of the labels' text
    PRIMARY KEY (metric_id, series_id, time, dist_key, digest)
);
