-- From label text to series ids (src/resolve.h tells how). The batch: p_metrics holds metric names,
-- (p_keys[i], p_values[i]) label pairs; series k is of metric p_metrics[p_series_metric[k]] and has
-- p_series_n_labels[k] labels, whose indices stand one after another in p_series_labels, sorted by key.
-- Returns ids in the order given. The caller repeats on 40P01 and 40001.
--
-- The settings are part of the function: its statements are function scan plus index probes, and must
-- stay so whatever the statistics say.
CREATE FUNCTION _prom_catalog.resolve_series(
    p_tenant_id int4, p_metrics text[], p_keys text[], p_values text[], p_series_metric int4[],
    p_series_n_labels int4[], p_series_labels int4[],
    OUT generation int8, OUT metric_ids int4[], OUT series_ids int8[])
    AS 'MODULE_PATHNAME', 'resolve_series_sql' LANGUAGE C VOLATILE STRICT
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off SET enable_bitmapscan = off
    SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off;
