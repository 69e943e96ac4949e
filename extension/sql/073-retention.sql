-- What is too old goes.

-- What is older than its retention period goes: partitions whole, where no metric keeps its data
-- longer; otherwise, and in the other tables, by row. A row goes when its youngest sample is too old.
-- A period of 0 keeps for ever. Dropping is not MVCC: a query with a snapshot from before sees no rows
-- of that day any more. waiting: partitions whose lock was not to be had soon. Figures: a day that is
-- dropped whole is forgotten, days that lose rows are counted anew.
CREATE FUNCTION _prom_catalog.apply_retention(OUT partitions int4, OUT waiting int4, OUT rows int8)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET lock_timeout = '200ms' AS $$
DECLARE
    v_default timestamptz := coalesce(
        now() - nullif(_prom_catalog.setting('retention_period')::interval, '0'), '-infinity');
    v_own int4[];                                 -- metrics with a period of their own
    v_oldest timestamptz;                         -- nobody keeps what is older than this
    v_part record;
    v_table text;
    v_metric record;
    v_gone record;
    v_metrics int4[] := '{}';                     -- metrics and days that have lost rows
    v_days date[] := '{}';
BEGIN
    partitions := 0; waiting := 0; rows := 0;
    IF NOT _prom_catalog.maintenance_lock() THEN
        RETURN;
    END IF;
    SELECT array_agg(id ORDER BY id),
           least(v_default, min(coalesce(now() - nullif(retention_period, '0'), '-infinity')))
    INTO v_own, v_oldest
    FROM _prom_catalog.metric WHERE retention_period IS NOT NULL;

    FOR v_part IN SELECT p.day, p.table_name FROM _prom_catalog.partitions() p
                  WHERE p.day + '1 day'::interval <= v_oldest ORDER BY 1 LIMIT 30 LOOP
        BEGIN
            EXECUTE format('DROP TABLE _prom_data.%I', v_part.table_name);
            partitions := partitions + 1;
            SELECT * INTO v_gone FROM _prom_catalog.forget_sealed_day(v_part.day::date);
            v_metrics := v_metrics || v_gone.metrics;
            v_days := v_days || v_gone.days;
            RAISE LOG 'promscale retention: dropped _prom_data.%', v_part.table_name;
        EXCEPTION WHEN lock_not_available THEN
            waiting := waiting + 1;
        END;
    END LOOP;

    FOREACH v_table IN ARRAY ARRAY['fresh', 'merged', 'block_far'] LOOP
        SELECT * INTO v_gone FROM _prom_catalog.erase_rows(v_table, format('t_max < %L', v_oldest));
        rows := rows + v_gone.rows;
        v_metrics := v_metrics || v_gone.metrics;
        v_days := v_days || v_gone.days;
    END LOOP;
    DELETE FROM _prom_data.exemplar x
    WHERE x.time < coalesce((SELECT coalesce(now() - nullif(m.retention_period, '0'), '-infinity')
                             FROM _prom_catalog.metric m
                             WHERE m.id = x.metric_id AND m.retention_period IS NOT NULL), v_default);
    -- inside what somebody keeps: literal times, so that only old partitions are looked at
    FOREACH v_table IN ARRAY ARRAY['merged', 'block_far', 'block'] LOOP
        FOR v_metric IN SELECT id, now() - retention_period AS cutoff FROM _prom_catalog.metric
                        WHERE id = ANY (v_own) AND nullif(retention_period, '0') IS NOT NULL
                        UNION ALL SELECT NULL, v_default WHERE v_default > v_oldest LOOP
            SELECT * INTO v_gone FROM _prom_catalog.erase_rows(v_table, format(
                't_min < %1$L AND t_max < %1$L AND metric_id ', v_metric.cutoff)
                || coalesce('= ' || v_metric.id, format('<> ALL (%L::int4[])', v_own)));
            rows := rows + v_gone.rows;
            v_metrics := v_metrics || v_gone.metrics;
            v_days := v_days || v_gone.days;
        END LOOP;
    END LOOP;
    IF cardinality(v_metrics) > 0 THEN
        PERFORM _prom_catalog.correct_figures(NULL, v_metrics, v_days);
        PERFORM _prom_catalog.correct_presence(v_metrics, v_days);
    END IF;
    IF rows > 0 THEN
        RAISE LOG 'promscale retention: deleted % rows', rows;
    END IF;
END $$;

-- Deletes rows of one table; says how many, and of which metrics and days the figures have changed.
CREATE FUNCTION _prom_catalog.erase_rows(p_table text, p_condition text, OUT rows int8, OUT metrics int4[],
                                         OUT days date[])
LANGUAGE plpgsql VOLATILE STRICT SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
BEGIN
    EXECUTE format('WITH gone AS (DELETE FROM _prom_data.%I WHERE %s RETURNING metric_id, t_min),'
                   ' days AS (SELECT DISTINCT metric_id, t_min::date AS day FROM gone WHERE %L <> ''fresh'')'
                   ' SELECT (SELECT count(*) FROM gone), array_agg(metric_id), array_agg(day) FROM days',
                   p_table, p_condition, p_table) INTO rows, metrics, days;
END $$;

-- A day's partition has gone. What is left of the day lies in other tables; metrics that have any there
-- are returned, to be counted anew. Which series lived is forgotten with the day: erasing its other rows
-- follows.
CREATE FUNCTION _prom_catalog.forget_sealed_day(p_day date, OUT metrics int4[], OUT days date[])
LANGUAGE plpgsql VOLATILE STRICT SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
BEGIN
    DELETE FROM _prom_data.presence
        WHERE window_start >= p_day::timestamptz AND window_start < (p_day + 1)::timestamptz;
    DELETE FROM _prom_catalog.metric_day WHERE day = p_day AND merged_rows = 0;
    UPDATE _prom_catalog.metric_day
        SET sealed_rows = 0, sealed_hours = 0, sealed_samples = 0, sealed_bytes = 0 WHERE day = p_day;
    SELECT array_agg(f.metric_id), array_agg(p_day) INTO metrics, days
    FROM (SELECT DISTINCT metric_id FROM _prom_data.block_far
          WHERE t_min >= p_day::timestamptz AND t_min < (p_day + 1)::timestamptz) f;
END $$;

CREATE FUNCTION _prom_catalog.step_retention(p_force bool, OUT outcome text, OUT detail text, OUT next_in interval,
                                             OUT left_over int8)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    r record;
BEGIN
    SELECT * INTO r FROM _prom_catalog.apply_retention();
    outcome := 'done';
    detail := format('%s partitions dropped, %s waiting, %s rows deleted', r.partitions, r.waiting, r.rows);
    next_in := CASE WHEN r.waiting > 0 THEN '1 min'::interval END;
END $$;

REVOKE ALL ON FUNCTION _prom_catalog.apply_retention, _prom_catalog.step_retention FROM PUBLIC;
GRANT EXECUTE ON FUNCTION _prom_catalog.apply_retention TO prom_maintenance;
