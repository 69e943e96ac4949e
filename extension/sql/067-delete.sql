-- Deleting samples by selector and time, and replacing them. A block without some of its samples takes the
-- place of the block, under its id: which sample wins, and what maintenance does next, stay the same.
--
-- All of it happens under the lock of maintenance, held to the end of the transaction: nobody moves samples
-- meanwhile. Where rows were deleted is noted, so that the bytes leave the files, too (068-erasure.sql).

CREATE FUNCTION _prom_ext.matching_series(selector text) RETURNS TABLE (metric_id int4, series_id int8)
    AS 'MODULE_PATHNAME', 'matching_series' LANGUAGE C STABLE STRICT PARALLEL RESTRICTED
    COST 10000 ROWS 1000;

-- Series ascending; times in ms, inclusive. Only erased is set where nothing goes, or nothing stays.
CREATE FUNCTION _prom_ext.block_without(data bytea, series int8[], from_ms int8, to_ms int8,
    OUT erased int8, OUT series_lo int8, OUT series_hi int8, OUT t_min timestamptz, OUT t_max timestamptz,
    OUT n_series int4, OUT n_samples int4, OUT rest bytea)
    AS 'MODULE_PATHNAME', 'block_without' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 10000;

-- The same by points: series and times (ms) in parallel, ascending by both.
CREATE FUNCTION _prom_ext.block_without_points(data bytea, series int8[], times int8[],
    OUT erased int8, OUT series_lo int8, OUT series_hi int8, OUT t_min timestamptz, OUT t_max timestamptz,
    OUT n_series int4, OUT n_samples int4, OUT rest bytea)
    AS 'MODULE_PATHNAME', 'block_without_points' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 10000;
GRANT EXECUTE ON FUNCTION _prom_ext.block_without_points TO prom_reader;

-- Rows of one table. p_where narrows them beyond metric, series and time. p_times: NULL, or of points, in parallel
-- to p_series; then p_start and p_stop are the first and the last. Returns the samples that went.
CREATE FUNCTION _prom_catalog.erase_from(p_table text, p_where text, p_metric int4, p_series int8[],
                                         p_start timestamptz, p_stop timestamptz, p_times int8[] DEFAULT NULL)
RETURNS int8
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_erased int8;
    v_tables text[];
BEGIN
    EXECUTE format($sql$
        WITH hit AS MATERIALIZED (
            SELECT b.metric_id, b.t_min, b.dist_key, b.id, w.erased, w.series_lo AS lo, w.series_hi AS hi,
                   w.t_min AS first, w.t_max AS last, w.n_series, w.n_samples, w.rest
            FROM _prom_data.%1$I b, LATERAL _prom_ext.%3$s w
            WHERE b.metric_id IN ($1, _prom_ext.bucket($1)) AND b.series_lo <= $5 AND b.series_hi >= $6
              AND b.t_min <= $8 AND b.t_max >= $7 AND %2$s AND w.erased > 0
        ), gone AS (
            DELETE FROM _prom_data.%1$I b USING hit h
            WHERE (b.metric_id, b.t_min, b.dist_key, b.id) = (h.metric_id, h.t_min, h.dist_key, h.id)
            RETURNING b.tableoid, b.id, b.tenant_id, b.metric_id, b.dist_key, b.level, b.kind, b.format,
                      h.lo, h.hi, h.first, h.last, h.n_series, h.n_samples, h.rest
        ), put AS (
            INSERT INTO _prom_data.%1$I (id, tenant_id, metric_id, dist_key, level, kind, format, series_lo,
                                         series_hi, t_min, t_max, n_series, n_samples, data)
            SELECT id, tenant_id, metric_id, dist_key, level, kind, format, lo, hi, first, last, n_series,
                   n_samples, rest
            FROM gone WHERE n_samples > 0
        )
        SELECT coalesce((SELECT sum(erased) FROM hit), 0), ARRAY(SELECT DISTINCT tableoid::regclass::text FROM gone)
        $sql$, p_table, p_where,
        CASE WHEN p_times IS NULL THEN 'block_without(b.data, $2, $3, $4)'
             ELSE 'block_without_points(b.data, $2, $9)' END)
    INTO v_erased, v_tables
    USING p_metric, p_series,
          coalesce(ceil(extract(epoch FROM nullif(p_start, '-infinity')) * 1000), -9223372036854775808)::int8,
          coalesce(floor(extract(epoch FROM nullif(p_stop, 'infinity')) * 1000), 9223372036854775807)::int8,
          p_series[cardinality(p_series)], p_series[1], p_start, p_stop, p_times;
    IF v_erased > 0 THEN
        PERFORM _prom_catalog.note_erased(v_tables);
    END IF;
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

-- Samples of one metric in all tables, a day at a time: bounded memory. p_own: ids of fresh rows that stay as they
-- are. The caller holds the maintenance lock.
CREATE FUNCTION _prom_catalog.erase_everywhere(p_metric int4, p_series int8[], p_start timestamptz,
    p_stop timestamptz, p_times int8[] DEFAULT NULL, p_own int8[] DEFAULT '{}') RETURNS int8
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    v_day timestamptz;
    v_fresh CONSTANT int8 := _prom_catalog.erase_from('fresh', format('b.id <> ALL (%L::int8[])', p_own),
                                                      p_metric, p_series, p_start, p_stop, p_times);
    v_erased int8;
BEGIN
    v_erased := v_fresh
              + _prom_catalog.erase_from('merged', 'true', p_metric, p_series, p_start, p_stop, p_times)
              + _prom_catalog.erase_from('block_far', 'true', p_metric, p_series, p_start, p_stop, p_times);
    FOR v_day IN SELECT day FROM _prom_catalog.partitions()
                 WHERE day <= p_stop AND day + '1 day'::interval > p_start ORDER BY 1 LOOP
        v_erased := v_erased + _prom_catalog.erase_from('block',
            format('b.t_min >= %L AND b.t_min < %L', v_day, v_day + '1 day'::interval),
            p_metric, p_series, p_start, p_stop, p_times);
    END LOOP;
    IF v_erased > 0 THEN -- they may have passed through these
        PERFORM _prom_catalog.note_erased('{_prom_data.fresh,_prom_data.merged,_prom_data.block_far}');
    END IF;
    IF v_erased > v_fresh THEN -- figures and sets are of merged and sealed rows
        PERFORM _prom_catalog.recount_erased(p_metric, p_start, p_stop);
    END IF;
    RETURN v_erased;
END $$;

CREATE FUNCTION _prom_catalog.erase_exemplars(p_metric int4, p_series int8[], p_start timestamptz,
                                              p_stop timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM _prom_data.exemplar
    WHERE metric_id = p_metric AND series_id = ANY (p_series) AND time BETWEEN p_start AND p_stop;
    IF FOUND THEN
        PERFORM _prom_catalog.note_erased('{_prom_data.exemplar}');
    END IF;
END $$;

-- Other samples of these series and times, as far as they are stored in rows but p_own. INSERT calls it where it is
-- to replace (src/write_overwrite.c), which holds the maintenance lock.
CREATE FUNCTION _prom_catalog.erase_points(p_metric int4, p_series int8[], p_times int8[], p_start timestamptz,
                                           p_stop timestamptz, p_own int8[]) RETURNS int8
LANGUAGE sql VOLATILE STRICT SET search_path = pg_catalog, pg_temp AS $$
    SELECT _prom_catalog.erase_everywhere(p_metric, p_series, p_start, p_stop, p_times, p_own)
$$;

CREATE FUNCTION _prom_catalog.lock_to_delete() RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'deleting samples needs isolation level READ COMMITTED' USING ERRCODE = '25001',
            HINT = 'Otherwise it would not see what maintenance has done since the transaction began.';
    END IF;
    PERFORM _prom_catalog.patiently('SELECT pg_advisory_xact_lock(x''50524f4d00000002''::int8)',
                                    'maintenance is at work');
END $$;

-- Series with all of their samples, of each also its metric. What was stored of them while samples were being erased
-- goes after the lock that delete_series_rows() takes. The caller holds the maintenance lock.
CREATE FUNCTION _prom_catalog.erase_series(p_metrics int4[], p_series int8[]) RETURNS int8
LANGUAGE plpgsql VOLATILE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_erased int8 := 0;
    v_late bool;
    m record;
BEGIN
    FOREACH v_late IN ARRAY '{false,true}'::bool[] LOOP
        IF v_late THEN
            PERFORM _prom_catalog.delete_series_rows(p_series);
        END IF;
        FOR m IN SELECT metric_id AS id, array_agg(series_id ORDER BY series_id) AS series
                 FROM unnest(p_metrics, p_series) u (metric_id, series_id) GROUP BY 1 ORDER BY 1 LOOP
            v_erased := v_erased + CASE WHEN v_late
                THEN _prom_catalog.erase_from('fresh', 'true', m.id, m.series, '-infinity', 'infinity')
                ELSE _prom_catalog.erase_everywhere(m.id, m.series, '-infinity', 'infinity') END;
            IF v_late THEN
                PERFORM _prom_catalog.erase_exemplars(m.id, m.series, '-infinity', 'infinity');
            END IF;
        END LOOP;
    END LOOP;
    RETURN v_erased;
END $$;

-- All selectors are read before anything goes. Without bounds the series themselves go, too. p_tenant: of
-- this tenant only; NULL: of all that the caller sees.
CREATE FUNCTION _prom_catalog.delete_series_of(p_tenant text, selectors text[], start timestamptz,
                                               stop timestamptz) RETURNS int8
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_metrics int4[];
    v_series int8[];
    v_erased int8 := 0;
    m record;
BEGIN
    IF cardinality(selectors) = 0 THEN
        RAISE EXCEPTION 'no selector is given' USING ERRCODE = '22023',
            HINT = 'For example prom_api.delete_series(''up{job="old"}'').';
    END IF;
    IF stop < start THEN
        RAISE EXCEPTION 'stop must not be before start' USING ERRCODE = '22023';
    END IF;
    PERFORM _prom_catalog.lock_to_delete();
    SELECT array_agg(f.metric_id), array_agg(f.series_id) INTO v_metrics, v_series FROM (
        SELECT DISTINCT s.metric_id, s.series_id
        FROM unnest(selectors) u (selector), LATERAL _prom_ext.matching_series(u.selector) s
        WHERE p_tenant IS NULL OR EXISTS (
            SELECT FROM _prom_catalog.series c JOIN _prom_catalog.tenant t ON t.id = c.tenant_id
            WHERE c.id = s.series_id AND t.name = p_tenant)) f;
    IF v_series IS NULL THEN
        RETURN 0;
    END IF;
    IF start = '-infinity' AND stop = 'infinity' THEN
        RETURN _prom_catalog.erase_series(v_metrics, v_series);
    END IF;
    FOR m IN SELECT metric_id AS id, array_agg(series_id ORDER BY series_id) AS series
             FROM unnest(v_metrics, v_series) u (metric_id, series_id) GROUP BY 1 ORDER BY 1 LOOP
        PERFORM _prom_catalog.erase_exemplars(m.id, m.series, start, stop);
        v_erased := v_erased + _prom_catalog.erase_everywhere(m.id, m.series, start, stop);
    END LOOP;
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
