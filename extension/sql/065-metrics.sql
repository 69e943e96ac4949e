-- Metrics as a whole: dropping one, deleting some of its series, and what clients say they mean.
--
-- Deleting stops ingest for a moment: it takes the guard lock alone, bumps the generation, and whoever
-- flushes with ids of before has to resolve anew (guard()). A request that waits for the lock would make
-- all ingest wait behind it, hence patiently(). Labels that only the deleted series had go with them.

-- Metrics that were dropped while rows of _prom_data.fresh, shared with other metrics, might still hold
-- samples of theirs (ids up to last_block_id). Folding leaves these samples out (maint_units.c). Ids of
-- metrics are never given twice.
CREATE TABLE _prom_catalog.dropped_metric (
    id            int4 PRIMARY KEY,
    last_block_id int8 NOT NULL
);

-- Runs a statement that needs locks which others may hold for long: each try lasts a moment only, and
-- between two tries nothing of it is held. Gives up after the setting lock_patience.
CREATE FUNCTION _prom_catalog.patiently(p_statement text, p_in_the_way text) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT
SET search_path = pg_catalog, pg_temp SET lock_timeout = '150ms' AS $$
DECLARE
    v_until CONSTANT timestamptz := clock_timestamp() + _prom_catalog.setting('lock_patience')::interval;
    v_pause float8 := 0.2;
BEGIN
    LOOP
        BEGIN
            EXECUTE p_statement;
            RETURN;
        EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
            IF clock_timestamp() > v_until THEN
                RAISE EXCEPTION 'gave up waiting for others: %', p_in_the_way USING ERRCODE = '55P03',
                    HINT = 'Try again later; pg_locks and pg_stat_activity tell who holds the locks.';
            END IF;
        END;
        IF v_pause = 0.2 THEN
            RAISE NOTICE 'waiting for others: %', p_in_the_way;
        END IF;
        PERFORM pg_sleep(v_pause);
        v_pause := least(v_pause * 1.5, 1);
    END LOOP;
END $$;

-- From here to the end of the transaction nothing is stored, and ids handed out before are void. A generation that
-- somebody has seen must not be lost in a crash: the next one with its number would let old ids pass.
CREATE FUNCTION _prom_catalog.void_generation() RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(x'50524f4d00000001'::int8);
    IF current_setting('synchronous_commit') = 'off' THEN
        PERFORM set_config('synchronous_commit', 'local', true);
    END IF;
    UPDATE _prom_catalog.state SET generation = generation + 1;
END $$;

CREATE FUNCTION _prom_catalog.feed_deleted(p_series int8[]) RETURNS int8
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_at int8;
    c_row_ids CONSTANT int8 := 8192;
BEGIN
    FOR v_at IN SELECT generate_series(1, coalesce(cardinality(p_series), 0), c_row_ids) LOOP
        INSERT INTO _prom_catalog.series_feed (op, first_id, series_ids)
            VALUES ('d', p_series[v_at], p_series[v_at : v_at + c_row_ids - 1]);
    END LOOP;
    RETURN coalesce(cardinality(p_series), 0);
END $$;

-- Deletes series; what they hold vanishes from the views in the same moment. Waits for the flushes that
-- are under way; those that come after it have to resolve anew. Samples that blocks still hold are for
-- erase_series() (067).
CREATE FUNCTION _prom_catalog.delete_series_rows(p_series int8[]) RETURNS int8
LANGUAGE plpgsql VOLATILE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_labels CONSTANT int4[] := _prom_catalog.lone_labels(p_series);
    v_deleted int8[];
BEGIN
    PERFORM _prom_catalog.patiently('SELECT _prom_catalog.void_generation()', 'samples are being stored');
    WITH gone AS (DELETE FROM _prom_catalog.series WHERE id = ANY (p_series) RETURNING id)
    SELECT array_agg(id ORDER BY id) INTO v_deleted FROM gone;
    IF v_deleted IS NOT NULL THEN
        PERFORM _prom_catalog.note_erased('{_prom_catalog.series}');
        PERFORM _prom_catalog.forget_labels(v_labels);
    END IF;
    RETURN _prom_catalog.feed_deleted(v_deleted);
END $$;

-- Returns how many samples these series showed. A series that comes again is a new one.
CREATE FUNCTION _prom_catalog.delete_series_from_metric(name text, series_ids int8[]) RETURNS int8
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_metric int4;
    v_series int8[];
    v_samples int8;
BEGIN
    PERFORM _prom_catalog.check_metric_name($1);
    IF $2 IS NULL THEN
        RAISE EXCEPTION 'the series must not be null' USING ERRCODE = '22004',
            HINT = 'Ids of series are in column series_id of the views in prom_series.';
    END IF;
    v_metric := _prom_catalog.metric_id($1);
    IF v_metric IS NULL THEN
        PERFORM _prom_catalog.no_such_metric($1);
    END IF;
    PERFORM _prom_catalog.lock_to_delete();
    v_series := ARRAY(SELECT s.id FROM _prom_catalog.series s
                      WHERE s.metric_id = v_metric AND s.id = ANY ($2));
    SELECT (SELECT count(*) FROM _prom_data.samples WHERE metric_id = v_metric AND series_id = ANY (v_series))
         + (SELECT count(*) FROM _prom_data.histograms WHERE metric_id = v_metric AND series_id = ANY (v_series))
    INTO v_samples;
    PERFORM _prom_catalog.erase_series(array_fill(v_metric, ARRAY[cardinality(v_series)]), v_series);
    RETURN v_samples;
END $$;
COMMENT ON FUNCTION _prom_catalog.delete_series_from_metric(text, int8[]) IS
    'deletes series of a metric with their samples; returns how many samples they had';

-- ---- dropping a metric -----------------------------------------------------------------------------

-- What would be left hanging: looked up first, since finding out at the end would waste all the rest.
CREATE FUNCTION _prom_catalog.check_no_dependents(p_name text, p_view name) RETURNS void
LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_others text;
BEGIN
    SELECT string_agg(DISTINCT r.ev_class::regclass::text, ', ') INTO v_others
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid
                        AND d.classid = 'pg_rewrite'::regclass
    JOIN pg_rewrite r ON r.oid = d.objid AND r.ev_class <> c.oid
    WHERE n.nspname IN ('prom_metric', 'prom_series', 'prom_histogram', 'prom_data') AND c.relname = p_view
      AND c.relkind = 'v';
    IF v_others IS NOT NULL THEN
        PERFORM _prom_catalog.metric_is_used(p_name, format('These views are built on it: %s.', v_others));
    END IF;
END $$;

CREATE FUNCTION _prom_catalog.metric_is_used(p_name text, p_detail text) RETURNS void
LANGUAGE plpgsql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'metric "%" is used by others', left(p_name, 80) USING ERRCODE = '2BP01',
        DETAIL = left(p_detail, 1000), HINT = 'Drop them first.';
END $$;

-- Its rows in the tables of blocks, which may be many: without the guard lock, but under that of
-- maintenance, so that nobody rewrites them meanwhile.
CREATE FUNCTION _prom_catalog.erase_metric(p_id int4) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_table text;
    v_gone text[];
    v_erased text[] := '{}';
    v_series int8[];
BEGIN
    FOREACH v_table IN ARRAY ARRAY['block', 'block_far', 'merged', 'fresh', 'exemplar'] LOOP
        EXECUTE format('WITH gone AS (DELETE FROM _prom_data.%I WHERE metric_id = $1 RETURNING tableoid)'
                       ' SELECT array_agg(DISTINCT tableoid::regclass::text) FROM gone', v_table)
            INTO v_gone USING p_id;
        v_erased := v_erased || coalesce(v_gone, '{}');
        IF v_gone IS NOT NULL AND v_table <> 'exemplar' THEN -- samples may have passed through these
            v_erased := v_erased || '{_prom_data.fresh,_prom_data.merged,_prom_data.block_far}'::text[];
        END IF;
    END LOOP;
    PERFORM _prom_catalog.note_erased(v_erased);
    v_series := ARRAY(SELECT id FROM _prom_catalog.series WHERE metric_id = p_id ORDER BY id);
    IF cardinality(v_series) > 0 THEN
        BEGIN
            PERFORM _prom_catalog.erase_from('fresh', 'b.metric_id < 0', p_id, v_series, '-infinity', 'infinity');
        EXCEPTION WHEN data_corrupted OR feature_not_supported THEN
            NULL; -- the next fold leaves its samples out, where it can read the row
        END;
    END IF;
    DELETE FROM _prom_data.presence WHERE metric_id = p_id;
    DELETE FROM _prom_catalog.maintenance_error WHERE metric_id = p_id;
    PERFORM _prom_catalog.forget_figures(p_id);
END $$;

-- The rest, in one go: views, then the guard lock (the other way round, whoever reads a view for long
-- would stop ingest), then everything that the catalog knows of the metric. All of it is found by indexes: which keys
-- are nobody else's would else be looked for by reading until one is found, to the end where there is none.
CREATE FUNCTION _prom_catalog.forget_metric(p_id int4) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off AS $$
DECLARE
    c_name_key CONSTANT int4 := (SELECT id FROM _prom_catalog.label_key
                                 WHERE digest = _prom_ext.text_digest('__name__'));
    m record;
    v_view regclass;
    v_series int8[];
    v_keys int4[];
    v_detail text;
BEGIN
    -- locked: whoever is making its views at this moment has to end first, or they would stay behind
    SELECT * INTO STRICT m FROM _prom_catalog.metric WHERE id = p_id FOR UPDATE;
    BEGIN
        FOR v_view IN
            SELECT c.oid::regclass FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname IN ('prom_metric', 'prom_series', 'prom_histogram', 'prom_data') AND c.relname = m.table_name
              AND c.relkind = 'v' -- and not somebody else's who had the name first
              AND pg_get_viewdef(c.oid) ~ format('metric_id = %s\)?;$', p_id)
        LOOP
            EXECUTE format('DROP VIEW %s', v_view);
        END LOOP;
    EXCEPTION WHEN dependent_objects_still_exist THEN
        GET STACKED DIAGNOSTICS v_detail = PG_EXCEPTION_DETAIL;
        PERFORM _prom_catalog.metric_is_used(m.metric_name, v_detail);
    END;
    PERFORM _prom_catalog.void_generation();
    -- what was stored while others had the guard lock
    PERFORM _prom_catalog.erase_metric(p_id);
    INSERT INTO _prom_catalog.dropped_metric SELECT p_id, last_value FROM _prom_data.block_id_seq;
    WITH gone AS (DELETE FROM _prom_catalog.series WHERE metric_id = p_id RETURNING id)
    SELECT array_agg(id ORDER BY id) INTO v_series FROM gone;
    PERFORM _prom_catalog.feed_deleted(v_series);
    -- labels go with the last metric that has their key, and the metric's name with the metric
    WITH gone AS (DELETE FROM _prom_catalog.label_key_position WHERE metric_id = p_id RETURNING key_id)
    SELECT array_agg(key_id) INTO v_keys FROM gone WHERE key_id <> c_name_key;
    SELECT array_agg(k) INTO v_keys FROM unnest(v_keys) k
    WHERE NOT EXISTS (SELECT FROM _prom_catalog.label_key_position p WHERE p.key_id = k OFFSET 0);
    DELETE FROM _prom_catalog.label WHERE key_id = ANY (v_keys);
    DELETE FROM _prom_catalog.label_key WHERE id = ANY (v_keys);
    DELETE FROM _prom_catalog.label
        WHERE key_id = c_name_key AND digest = m.digest AND value = m.metric_name;
    DELETE FROM _prom_catalog.metric WHERE id = p_id;
    DELETE FROM _prom_catalog.metadata d
    USING _prom_catalog.tenant t, unnest(ARRAY[m.metric_name,
        regexp_replace(m.metric_name, '_(bucket|count|sum|total|info)$', '')]) f (family)
    WHERE d.tenant_id = t.id AND d.family_digest = _prom_ext.text_digest(f.family) AND d.metric_family = f.family
      AND NOT EXISTS (SELECT FROM _prom_catalog.metric o WHERE o.digest = ANY (ARRAY(
          SELECT _prom_ext.text_digest(d.metric_family || e.e)
          FROM unnest('{"",_bucket,_count,_sum,_total,_info}'::text[]) e (e))));
    PERFORM _prom_catalog.note_erased('{_prom_catalog.series,_prom_catalog.label,_prom_catalog.label_key,'
                                      '_prom_catalog.metric,_prom_catalog.metadata}');
END $$;

-- Drops a metric with everything that is stored of it, in the caller's transaction. Waits for those who
-- use it, but lets nobody wait behind itself. SECURITY DEFINER: it drops views and rows of all tenants.
CREATE FUNCTION prom_api.drop_metric(metric_name text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_id int4;
    v_view name;
    v_labels int4[];
BEGIN
    PERFORM _prom_catalog.check_metric_name($1);
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'drop_metric() needs the isolation level READ COMMITTED' USING ERRCODE = '25001',
            HINT = 'This transaction''s snapshot may be older than the locks that the function takes.';
    END IF;
    IF _prom_catalog.metric_id($1) IS NULL THEN
        PERFORM _prom_catalog.no_such_metric($1);
    END IF;
    PERFORM _prom_catalog.patiently('SELECT _prom_catalog.take_maintenance_lock()', 'maintenance is running');
    SELECT m.id, m.table_name INTO v_id, v_view
        FROM _prom_catalog.metric m WHERE m.id = _prom_catalog.metric_id($1);
    IF v_id IS NULL THEN -- somebody was faster
        PERFORM _prom_catalog.no_such_metric($1);
    END IF;
    PERFORM _prom_catalog.check_no_dependents($1, v_view);
    PERFORM _prom_catalog.erase_metric(v_id);
    v_labels := _prom_catalog.lone_labels(ARRAY(SELECT id FROM _prom_catalog.series WHERE metric_id = v_id));
    PERFORM _prom_catalog.patiently(format('SELECT _prom_catalog.forget_metric(%s)', v_id),
                                    'samples are being stored, or the metric''s views are being read');
    PERFORM _prom_catalog.forget_labels(v_labels);
    DELETE FROM _prom_catalog.dropped_metric d
    WHERE NOT EXISTS (SELECT FROM _prom_data.fresh f
                      WHERE f.metric_id = _prom_ext.bucket(d.id) AND f.id <= d.last_block_id);
END $$;
COMMENT ON FUNCTION prom_api.drop_metric(text) IS
    'drops a metric: its samples, exemplars, series, views and settings';

-- Maintenance never waits for its lock, so waiting for it in a queue holds up nobody.
CREATE FUNCTION _prom_catalog.take_maintenance_lock() RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(x'50524f4d00000002'::int8);
END $$;

-- ---- metadata --------------------------------------------------------------------------------------

CREATE FUNCTION prom_api.get_metric_metadata(metric_family_name text)
RETURNS TABLE (metric_family text, type text, unit text, help text)
LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
    SELECT m.metric_family, m.type, m.unit, m.help FROM _prom_catalog.metadata m
    WHERE m.family_digest = _prom_ext.text_digest($1) AND m.metric_family = $1
    ORDER BY m.last_seen DESC, m.digest
$$;
COMMENT ON FUNCTION prom_api.get_metric_metadata(text) IS
    'all that clients have said about a family of metrics, newest first';

CREATE FUNCTION prom_api.get_multiple_metric_metadata(metric_families text[])
RETURNS TABLE (metric_family text, type text, unit text, help text)
LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
    SELECT DISTINCT ON (m.metric_family) m.metric_family, m.type, m.unit, m.help
    FROM _prom_catalog.metadata m
    JOIN (SELECT DISTINCT f, _prom_ext.text_digest(f) AS digest FROM unnest($1) f) w
         ON m.family_digest = w.digest AND m.metric_family = w.f
    ORDER BY m.metric_family, m.last_seen DESC, m.digest
$$;
COMMENT ON FUNCTION prom_api.get_multiple_metric_metadata(text[]) IS
    'the newest that clients have said about each of these families of metrics';
