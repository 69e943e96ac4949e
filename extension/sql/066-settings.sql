-- Settings: how long samples are kept, how long chunks are, whether chunks are compressed. Each has a
-- default for all metrics and may be overridden metric by metric; a metric without an override follows
-- the default at once, whenever it was made. Maintenance reads both (070-maintenance.sql).
--
-- What changes something refuses NULL with an error, so that a wrong expression is noticed; what only
-- looks gives NULL for NULL. Parameters are $1, $2 in the bodies: their names are also columns' names.
-- A setting for a metric that is not there yet makes the metric, so that settings may precede samples.

-- ---- checks ----------------------------------------------------------------------------------------

CREATE FUNCTION _prom_catalog.check_metric_name(p_name text) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF p_name IS NULL THEN
        RAISE EXCEPTION 'the name of the metric must not be null' USING ERRCODE = '22004',
            HINT = 'The names of metrics are in prom_info.metric.';
    ELSIF p_name = '' THEN
        RAISE EXCEPTION 'the name of the metric must not be empty' USING ERRCODE = '22023',
            HINT = 'The names of metrics are in prom_info.metric.';
    END IF;
END $$;

-- Metrics live in one schema, whose name callers may say.
CREATE FUNCTION _prom_catalog.check_metric_schema(p_schema text) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF p_schema IS NULL THEN
        RAISE EXCEPTION 'the schema of the metric must not be null' USING ERRCODE = '22004',
            HINT = 'Metrics are in schema prom_data.';
    ELSIF p_schema <> 'prom_data' THEN
        RAISE EXCEPTION 'there are no metrics in schema "%"', left(p_schema, 80) USING ERRCODE = '3F000',
            HINT = 'Metrics are in schema prom_data.';
    END IF;
END $$;

CREATE FUNCTION _prom_catalog.no_such_metric(p_name text) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'there is no metric "%"', left(p_name, 80) USING ERRCODE = '42704',
        HINT = 'The names of metrics are in prom_info.metric; upper and lower case differ.';
END $$;

-- Beyond 1000 years the arithmetic with now() would fail, and maintenance with it. No part may be
-- negative: a month less 29 days is nothing at all in February.
CREATE FUNCTION _prom_catalog.check_interval(p_what text, p_interval interval, p_least interval)
RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF p_interval IS NULL THEN
        RAISE EXCEPTION 'the % must not be null', p_what USING ERRCODE = '22004',
            HINT = 'A metric goes back to the default by the function that begins with reset_.';
    ELSIF NOT isfinite(p_interval) OR p_interval > interval '1000 years' THEN
        RAISE EXCEPTION 'the % must not be longer than 1000 years', p_what USING ERRCODE = '22023',
            HINT = 'A thousand years will do for "always".';
    ELSIF p_interval <= interval '0' THEN
        RAISE EXCEPTION 'the % must be positive', p_what USING ERRCODE = '22023',
            HINT = 'For instance interval ''30 days''.';
    ELSIF NOT _prom_catalog.is_period(p_interval) THEN
        RAISE EXCEPTION 'no part of the % may be negative', p_what USING ERRCODE = '22023',
            HINT = 'A month has no fixed length: write days and hours instead.';
    ELSIF p_interval < p_least THEN
        RAISE EXCEPTION 'the % must be at least %', p_what, p_least USING ERRCODE = '22023',
            HINT = 'Maintenance knows windows of 1, 2, 3, 4, 6, 8, 12 and 24 hours.';
    END IF;
END $$;

CREATE FUNCTION _prom_catalog.check_switch(p_what text, p_switch bool) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF p_switch IS NULL THEN
        RAISE EXCEPTION 'the % must be true or false, not null', p_what USING ERRCODE = '22004',
            HINT = 'A metric goes back to the default by the function that begins with reset_.';
    END IF;
END $$;

-- ---- metrics by name -------------------------------------------------------------------------------

-- NULL if there is none.
CREATE FUNCTION _prom_catalog.metric_id(p_name text) RETURNS int4
LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
    SELECT id FROM _prom_catalog.metric
    WHERE digest = _prom_ext.text_digest(p_name) AND metric_name = p_name
$$;

-- The metric whose settings are about to change, its row locked; p_make: made if it is not there.
CREATE FUNCTION _prom_catalog.metric_to_set(p_name text, p_make bool) RETURNS int4
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_id int4;
BEGIN
    PERFORM _prom_catalog.check_metric_name(p_name);
    SELECT id INTO v_id FROM _prom_catalog.metric
        WHERE digest = _prom_ext.text_digest(p_name) AND metric_name = p_name FOR NO KEY UPDATE;
    IF v_id IS NULL AND p_make THEN
        SELECT id INTO STRICT v_id FROM _prom_catalog.get_or_create_metric_table_name(p_name);
    ELSIF v_id IS NULL THEN
        PERFORM _prom_catalog.no_such_metric(p_name);
    END IF;
    RETURN v_id;
END $$;

-- ---- retention -------------------------------------------------------------------------------------

CREATE FUNCTION prom_api.set_default_retention_period(retention_period interval) RETURNS bool
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET IntervalStyle = 'postgres' AS $$
BEGIN
    PERFORM _prom_catalog.check_interval('retention period', $1, '0');
    PERFORM _prom_catalog.set_setting('retention_period', $1::text);
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

CREATE FUNCTION prom_api.set_metric_retention_period(metric_name text, retention_period interval)
RETURNS bool
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_id int4;
BEGIN
    PERFORM _prom_catalog.check_interval('retention period', $2, '0');
    v_id := _prom_catalog.metric_to_set($1, true);
    UPDATE _prom_catalog.metric SET retention_period = $2 WHERE id = v_id;
    RETURN true;
END $$;
COMMENT ON FUNCTION prom_api.set_metric_retention_period(text, interval) IS
    'how long samples of one metric are kept; the metric is made if it is not there yet';

CREATE FUNCTION prom_api.set_metric_retention_period(schema_name text, metric_name text,
                                                     retention_period interval) RETURNS bool
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM _prom_catalog.check_metric_schema($1);
    RETURN prom_api.set_metric_retention_period($2, $3);
END $$;
COMMENT ON FUNCTION prom_api.set_metric_retention_period(text, text, interval) IS
    'how long samples of one metric are kept; the schema is prom_data';

CREATE FUNCTION prom_api.get_metric_retention_period(metric_name text) RETURNS interval
LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce((SELECT m.retention_period FROM _prom_catalog.metric m
                     WHERE m.id = _prom_catalog.metric_id($1)),
                    _prom_catalog.setting('retention_period')::interval)
$$;
COMMENT ON FUNCTION prom_api.get_metric_retention_period(text) IS
    'how long samples of a metric are kept; the default for a metric that is not there';

CREATE FUNCTION prom_api.get_metric_retention_period(schema_name text, metric_name text)
RETURNS interval
LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM _prom_catalog.check_metric_schema($1);
    RETURN prom_api.get_metric_retention_period($2);
END $$;
COMMENT ON FUNCTION prom_api.get_metric_retention_period(text, text) IS
    'how long samples of a metric are kept; the schema is prom_data';

CREATE FUNCTION prom_api.reset_metric_retention_period(metric_name text) RETURNS bool
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_id int4 := _prom_catalog.metric_to_set($1, false);
BEGIN
    UPDATE _prom_catalog.metric SET retention_period = NULL WHERE id = v_id;
    RETURN true;
END $$;
COMMENT ON FUNCTION prom_api.reset_metric_retention_period(text) IS
    'lets a metric follow the default retention period again';

CREATE FUNCTION prom_api.reset_metric_retention_period(schema_name text, metric_name text)
RETURNS bool
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM _prom_catalog.check_metric_schema($1);
    RETURN prom_api.reset_metric_retention_period($2);
END $$;
COMMENT ON FUNCTION prom_api.reset_metric_retention_period(text, text) IS
    'lets a metric follow the default retention period again; the schema is prom_data';

-- ---- chunk interval --------------------------------------------------------------------------------

-- The windows that are made of an interval: a divisor of the day, at least an hour. As in maint_seal.c.
CREATE FUNCTION _prom_catalog.chunk_width(p_interval interval) RETURNS interval
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce((SELECT max(w) FROM unnest('{1 h,2 h,3 h,4 h,6 h,8 h,12 h,24 h}'::interval[]) w
                     WHERE w <= p_interval), '1 h')
$$;

CREATE FUNCTION _prom_catalog.check_chunk_interval(p_interval interval) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp SET IntervalStyle = 'postgres' AS $$
BEGIN
    PERFORM _prom_catalog.check_interval('chunk interval', p_interval, '1 minute');
    IF _prom_catalog.chunk_width(p_interval) <> p_interval THEN
        RAISE NOTICE 'chunks of % will be windows of %', p_interval,
            _prom_catalog.chunk_width(p_interval);
    END IF;
END $$;

CREATE FUNCTION prom_api.set_default_chunk_interval(chunk_interval interval) RETURNS bool
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET IntervalStyle = 'postgres' AS $$
BEGIN
    PERFORM _prom_catalog.check_chunk_interval($1);
    PERFORM _prom_catalog.set_setting('chunk_interval', $1::text);
    RETURN true;
END $$;
COMMENT ON FUNCTION prom_api.set_default_chunk_interval(interval) IS
    'length of the chunks of metrics that have no length of their own; what is compressed stays so';

CREATE FUNCTION prom_api.get_default_chunk_interval() RETURNS interval
LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
    SELECT _prom_catalog.setting('chunk_interval')::interval
$$;
COMMENT ON FUNCTION prom_api.get_default_chunk_interval() IS
    'length of the chunks of metrics that have no length of their own';

CREATE FUNCTION prom_api.set_metric_chunk_interval(metric_name text, chunk_interval interval)
RETURNS bool
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_id int4;
BEGIN
    PERFORM _prom_catalog.check_chunk_interval($2);
    v_id := _prom_catalog.metric_to_set($1, true);
    UPDATE _prom_catalog.metric SET chunk_interval = $2 WHERE id = v_id;
    RETURN true;
END $$;
COMMENT ON FUNCTION prom_api.set_metric_chunk_interval(text, interval) IS
    'length of the chunks of one metric; the metric is made if it is not there yet';

CREATE FUNCTION prom_api.get_metric_chunk_interval(metric_name text) RETURNS interval
LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_own interval;
BEGIN
    SELECT m.chunk_interval INTO v_own FROM _prom_catalog.metric m
        WHERE m.id = _prom_catalog.metric_id($1);
    IF NOT FOUND THEN
        PERFORM _prom_catalog.no_such_metric($1);
    END IF;
    RETURN coalesce(v_own, _prom_catalog.setting('chunk_interval')::interval);
END $$;
COMMENT ON FUNCTION prom_api.get_metric_chunk_interval(text) IS 'length of the chunks of a metric';

CREATE FUNCTION prom_api.reset_metric_chunk_interval(metric_name text) RETURNS bool
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_id int4 := _prom_catalog.metric_to_set($1, false);
BEGIN
    UPDATE _prom_catalog.metric SET chunk_interval = NULL WHERE id = v_id;
    RETURN true;
END $$;
COMMENT ON FUNCTION prom_api.reset_metric_chunk_interval(text) IS
    'lets a metric follow the default chunk interval again';

-- ---- compression -----------------------------------------------------------------------------------
-- Compressed means sealed (level 2). Turning it off leaves what is sealed as it is: it reads the same.

CREATE FUNCTION prom_api.set_default_compression_setting(compression_setting bool) RETURNS bool
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM _prom_catalog.check_switch('compression setting', $1);
    PERFORM _prom_catalog.set_setting('compression', $1::text);
    RETURN true;
END $$;
COMMENT ON FUNCTION prom_api.set_default_compression_setting(bool) IS
    'whether chunks are compressed of metrics that have no setting of their own';

CREATE FUNCTION _prom_catalog.get_default_compression_setting() RETURNS bool
LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
    SELECT _prom_catalog.setting('compression')::bool
$$;

CREATE FUNCTION prom_api.set_metric_compression_setting(metric_name text, compression_setting bool)
RETURNS bool
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_id int4;
BEGIN
    PERFORM _prom_catalog.check_switch('compression setting', $2);
    v_id := _prom_catalog.metric_to_set($1, true);
    UPDATE _prom_catalog.metric SET compression = $2 WHERE id = v_id;
    RETURN true;
END $$;
COMMENT ON FUNCTION prom_api.set_metric_compression_setting(text, bool) IS
    'whether chunks of one metric are compressed; the metric is made if it is not there yet';

CREATE FUNCTION _prom_catalog.get_metric_compression_setting(metric_name text) RETURNS bool
LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce((SELECT m.compression FROM _prom_catalog.metric m
                     WHERE m.id = _prom_catalog.metric_id($1)),
                    _prom_catalog.setting('compression')::bool)
$$;

CREATE FUNCTION prom_api.reset_metric_compression_setting(metric_name text) RETURNS bool
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_id int4 := _prom_catalog.metric_to_set($1, false);
BEGIN
    UPDATE _prom_catalog.metric SET compression = NULL WHERE id = v_id;
    RETURN true;
END $$;
COMMENT ON FUNCTION prom_api.reset_metric_compression_setting(text) IS
    'lets a metric follow the default compression setting again';

-- The same by the name of the views; nothing is made.
CREATE FUNCTION prom_api.set_compression_on_metric_table(metric_table_name text,
                                                         compression_setting bool) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM _prom_catalog.check_metric_name($1);
    PERFORM _prom_catalog.check_switch('compression setting', $2);
    UPDATE _prom_catalog.metric SET compression = $2 WHERE table_name::text = $1;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no metric has the table "%"', left($1, 80) USING ERRCODE = '42P01',
            HINT = 'The names are in column table_name of prom_info.metric.';
    END IF;
END $$;
COMMENT ON FUNCTION prom_api.set_compression_on_metric_table(text, bool) IS
    'whether chunks of the metric with this table_name are compressed';
