-- Which series lived when: sets of series ids by metric and window (table in 030-blocks.sql).

-- The series of a tenant that have samples in a window which p_from to p_to touches, of these metrics or
-- (NULL) of all, as a set of ids (docs/read-path.md): what is in the sets, and what fresh rows hold. It
-- may name series that were deleted. SECURITY INVOKER: rights and policies of the caller on presence and
-- fresh decide.
CREATE FUNCTION _prom_ext.series_alive(p_tenant_id int4, p_metrics int4[], p_from timestamptz,
                                       p_to timestamptz) RETURNS bytea
    AS 'MODULE_PATHNAME', 'series_alive' LANGUAGE C STABLE PARALLEL RESTRICTED COST 1000
    SET search_path = pg_catalog, pg_temp;

-- The number of ids in a set; an error if it is damaged.
CREATE FUNCTION _prom_ext.ids_count(p_ids bytea) RETURNS int8
    AS 'MODULE_PATHNAME', 'ids_count' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

-- Makes the sets of pairs of metric and day (its start, UTC) anew out of merged and sealed rows. The caller
-- holds the maintenance lock.
CREATE FUNCTION _prom_ext.recount_presence(p_metrics int4[], p_days timestamptz[]) RETURNS int4
    AS 'MODULE_PATHNAME', 'recount_presence' LANGUAGE C VOLATILE STRICT
    SET search_path = pg_catalog, pg_temp;

-- For those who have erased rows: pairs of metric and day, which may come several times.
CREATE FUNCTION _prom_catalog.correct_presence(p_metrics int4[], p_days date[]) RETURNS int4
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
    SELECT _prom_ext.recount_presence(coalesce(array_agg(metric_id), '{}'), coalesce(array_agg(day), '{}'))
    FROM (SELECT DISTINCT u.metric_id, u.day::timestamptz AS day FROM unnest(p_metrics, p_days) u (metric_id, day)) p
$$;

-- Makes all sets of one metric, or of all, anew: where one is damaged, or after somebody has changed rows
-- by hand. Returns how many days of metrics that were.
CREATE FUNCTION _prom_catalog.recount_presence(p_metric_id int4 DEFAULT NULL) RETURNS int4
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_metrics int4[];
    v_days date[];
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'counting needs isolation level READ COMMITTED' USING ERRCODE = '25001',
            HINT = 'Otherwise it would not see what maintenance has done since the transaction began.';
    END IF;
    PERFORM pg_advisory_xact_lock(x'50524f4d00000002'::int8);
    SELECT array_agg(metric_id), array_agg(day) INTO v_metrics, v_days FROM (
        SELECT metric_id, day FROM _prom_catalog.stored_rows
            WHERE p_metric_id IS NULL OR metric_id = p_metric_id
        UNION
        SELECT metric_id, (window_start AT TIME ZONE 'UTC')::date FROM _prom_data.presence
            WHERE p_metric_id IS NULL OR metric_id = p_metric_id) d;
    RETURN _prom_catalog.correct_presence(v_metrics, v_days);
END $$;
COMMENT ON FUNCTION _prom_catalog.recount_presence(int4) IS
    'makes anew which series of one metric, or of all, have samples in which window';

-- There are folded samples and no set at all: somebody has restored the blocks alone. Whoever relies on the
-- sets asks this first; the step of figures then makes them.
CREATE FUNCTION _prom_catalog.presence_is_missing() RETURNS bool
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT NOT EXISTS (SELECT FROM _prom_data.presence)
        AND (EXISTS (SELECT FROM _prom_data.merged) OR EXISTS (SELECT FROM _prom_data.block)
             OR EXISTS (SELECT FROM _prom_data.block_far))
$$;
