-- Deleting samples by selector and time. A block without some of its samples takes the place of the block,
-- under its id: which sample wins, and what maintenance does next, stay the same.

CREATE FUNCTION _prom_ext.matching_series(selector text) RETURNS TABLE (metric_id int4, series_id int8)
    AS 'MODULE_PATHNAME', 'matching_series' LANGUAGE C STABLE STRICT PARALLEL RESTRICTED
    COST 10000 ROWS 1000;

-- Series ascending; times in ms, inclusive. Only erased is set where nothing goes, or nothing stays.
CREATE FUNCTION _prom_ext.block_without(data bytea, series int8[], from_ms int8, to_ms int8,
    OUT erased int8, OUT series_lo int8, OUT series_hi int8, OUT t_min timestamptz, OUT t_max timestamptz,
    OUT n_series int4, OUT n_samples int4, OUT rest bytea)
    AS 'MODULE_PATHNAME', 'block_without' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 10000;

-- Rows of one table. p_where narrows them beyond metric, series and time. Returns the samples that went.
CREATE FUNCTION _prom_catalog.erase_from(p_table text, p_where text, p_metric int4, p_series int8[],
                                         p_start timestamptz, p_stop timestamptz) RETURNS int8
LANGUAGE plpgsql VOLATILE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_erased int8;
BEGIN
    EXECUTE format($sql$
        WITH hit AS MATERIALIZED (
            SELECT b.metric_id, b.t_min, b.dist_key, b.id, w.erased, w.series_lo AS lo, w.series_hi AS hi,
                   w.t_min AS first, w.t_max AS last, w.n_series, w.n_samples, w.rest
            FROM _prom_data.%1$I b, LATERAL _prom_ext.block_without(b.data, $2, $3, $4) w
            WHERE b.metric_id IN ($1, _prom_ext.bucket($1)) AND b.series_lo <= $5 AND b.series_hi >= $6
              AND b.t_min <= $8 AND b.t_max >= $7 AND %2$s AND w.erased > 0
        ), gone AS (
            DELETE FROM _prom_data.%1$I b USING hit h
            WHERE (b.metric_id, b.t_min, b.dist_key, b.id) = (h.metric_id, h.t_min, h.dist_key, h.id)
            RETURNING b.id, b.tenant_id, b.metric_id, b.dist_key, b.level, b.kind, b.format,
                      h.lo, h.hi, h.first, h.last, h.n_series, h.n_samples, h.rest
        ), put AS (
            INSERT INTO _prom_data.%1$I (id, tenant_id, metric_id, dist_key, level, kind, format, series_lo,
                                         series_hi, t_min, t_max, n_series, n_samples, data)
            SELECT * FROM gone WHERE n_samples > 0
        )
        SELECT coalesce(sum(erased), 0) FROM hit$sql$, p_table, p_where)
    INTO v_erased
    USING p_metric, p_series,
          coalesce(ceil(extract(epoch FROM nullif(p_start, '-infinity')) * 1000), -9223372036854775808)::int8,
          coalesce(floor(extract(epoch FROM nullif(p_stop, 'infinity')) * 1000), 9223372036854775807)::int8,
          p_series[cardinality(p_series)], p_series[1], p_start, p_stop;
    RETURN v_erased;
END $$;

-- What prom_info and presence say of these days, from what is left.
CREATE FUNCTION _prom_catalog.recount_erased(p_metric int4, p_start timestamptz, p_stop timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    v_days CONSTANT date[] := ARRAY(
        SELECT day FROM _prom_catalog.metric_day WHERE metric_id = p_metric
        UNION
        SELECT (window_start AT TIME ZONE 'UTC')::date FROM _prom_data.presence WHERE metric_id = p_metric);
    v_in CONSTANT date[] := ARRAY(SELECT d FROM unnest(v_days) u (d)
                                  WHERE d <= p_stop AND (d + 1)::timestamptz > p_start);
    v_metrics CONSTANT int4[] := array_fill(p_metric, ARRAY[cardinality(v_in)]);
BEGIN
    PERFORM _prom_catalog.correct_figures(NULL, v_metrics, v_in);
    PERFORM _prom_catalog.correct_presence(v_metrics, v_in);
END $$;

-- Samples of series of one metric in [p_start, p_stop]. The caller holds the maintenance lock.
CREATE FUNCTION _prom_catalog.erase_samples(p_metric int4, p_series int8[], p_start timestamptz,
                                            p_stop timestamptz) RETURNS int8
LANGUAGE plpgsql VOLATILE STRICT SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    v_day timestamptz;
    v_erased int8 := 0;
BEGIN
    v_erased := _prom_catalog.erase_from('fresh', 'true', p_metric, p_series, p_start, p_stop)
              + _prom_catalog.erase_from('merged', 'true', p_metric, p_series, p_start, p_stop)
              + _prom_catalog.erase_from('block_far', 'true', p_metric, p_series, p_start, p_stop);
    FOR v_day IN SELECT day FROM _prom_catalog.partitions()      -- a day at a time: bounded memory
                 WHERE day <= p_stop AND day + '1 day'::interval > p_start ORDER BY 1 LOOP
        v_erased := v_erased + _prom_catalog.erase_from('block',
            format('b.t_min >= %L AND b.t_min < %L', v_day, v_day + '1 day'::interval),
            p_metric, p_series, p_start, p_stop);
    END LOOP;
    DELETE FROM _prom_data.exemplar
    WHERE metric_id = p_metric AND series_id = ANY (p_series) AND time BETWEEN p_start AND p_stop;
    PERFORM _prom_catalog.recount_erased(p_metric, p_start, p_stop);
    RETURN v_erased;
END $$;

-- All selectors are read before anything goes. Without bounds the series themselves go, too. p_tenant: of
-- this tenant only; NULL: of all that the caller sees.
CREATE FUNCTION _prom_catalog.delete_series_of(p_tenant text, selectors text[], start timestamptz,
                                               stop timestamptz) RETURNS int8
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_metric record;
    v_all int8[] := '{}';
    v_erased int8 := 0;
BEGIN
    IF cardinality(selectors) = 0 THEN
        RAISE EXCEPTION 'no selector is given' USING ERRCODE = '22023',
            HINT = 'For example prom_api.delete_series(''up{job="old"}'').';
    END IF;
    IF stop < start THEN
        RAISE EXCEPTION 'stop must not be before start' USING ERRCODE = '22023';
    END IF;
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'deleting samples needs isolation level READ COMMITTED' USING ERRCODE = '25001',
            HINT = 'Otherwise it would not see what maintenance has done since the transaction began.';
    END IF;
    PERFORM _prom_catalog.patiently('SELECT pg_advisory_xact_lock(x''50524f4d00000002''::int8)',
                                    'maintenance is at work');
    FOR v_metric IN
        SELECT m.metric_id AS id, array_agg(DISTINCT m.series_id ORDER BY m.series_id) AS series
        FROM unnest(selectors) u (selector), LATERAL _prom_ext.matching_series(u.selector) m
        WHERE p_tenant IS NULL OR EXISTS (
            SELECT FROM _prom_catalog.series s JOIN _prom_catalog.tenant t ON t.id = s.tenant_id
            WHERE s.id = m.series_id AND t.name = p_tenant)
        GROUP BY m.metric_id ORDER BY 1
    LOOP
        v_erased := v_erased + _prom_catalog.erase_samples(v_metric.id, v_metric.series, start, stop);
        v_all := v_all || v_metric.series;
    END LOOP;
    IF start = '-infinity' AND stop = 'infinity' AND cardinality(v_all) > 0 THEN
        PERFORM _prom_catalog.delete_series_rows(v_all);
    END IF;
    RETURN v_erased;
END $$;
CREATE FUNCTION prom_api.delete_series(selectors text[], start timestamptz DEFAULT '-infinity',
                                       stop timestamptz DEFAULT 'infinity') RETURNS int8
LANGUAGE sql VOLATILE STRICT SET search_path = pg_catalog, pg_temp AS $$
    SELECT _prom_catalog.delete_series_of(NULL, selectors, start, stop)
$$;
COMMENT ON FUNCTION prom_api.delete_series(text[], timestamptz, timestamptz) IS
    'deletes the samples from start to stop of all series that match one of the PromQL selectors; returns how many';

CREATE FUNCTION prom_api.delete_series(selector text, start timestamptz DEFAULT '-infinity',
                                       stop timestamptz DEFAULT 'infinity') RETURNS int8
LANGUAGE sql VOLATILE STRICT SET search_path = pg_catalog, pg_temp AS $$
    SELECT prom_api.delete_series(ARRAY[selector], start, stop)
$$;
COMMENT ON FUNCTION prom_api.delete_series(text, timestamptz, timestamptz) IS
    'deletes the samples from start to stop of all series that match the PromQL selector; returns how many';
