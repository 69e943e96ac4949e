-- Settings that SQL users see.

-- The period that every metric without one of its own keeps its samples.
CREATE FUNCTION prom_api.set_default_retention_period(retention_period interval) RETURNS bool
LANGUAGE plpgsql VOLATILE STRICT
SET search_path = pg_catalog, pg_temp SET IntervalStyle = 'postgres' AS $$
BEGIN
    IF retention_period <= interval '0' THEN
        RAISE EXCEPTION 'the retention period must be positive' USING ERRCODE = '22023';
    END IF;
    PERFORM _prom_catalog.set_setting('retention_period', retention_period::text);
    RETURN true;
END $$;
COMMENT ON FUNCTION prom_api.set_default_retention_period(interval) IS
    'how long samples are kept of metrics that have no period of their own';

CREATE FUNCTION prom_api.get_default_metric_retention_period() RETURNS interval
LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
    SELECT _prom_catalog.setting('retention_period')::interval
$$;
COMMENT ON FUNCTION prom_api.get_default_metric_retention_period() IS
    'how long samples are kept of metrics that have no period of their own';
