-- The order of maintenance's steps, and who takes them.
--
-- CALL prom_api.execute_maintenance() does one round of what is due; the background worker or, where
-- there is none, a connector calls it every few seconds and then runs the VACUUMs that
-- _prom_catalog.take_vacuums() names. Every step is a transaction of its own, holds the maintenance
-- lock to its end, and leaves everything a reader needs right at each commit.
--
-- A step is a row here and a function _prom_catalog.step_NAME(p_force, OUT outcome, OUT detail, OUT next_in,
-- OUT left_over), which runs as the extension's owner. outcome: idle (nothing to do), done, more (call
-- again), failed (detail says why; what it has done stays done, while an error undoes it). next_in: time to its
-- next run, if it is not the usual one. left_over: how much is left (NULL: not known)
-- where outcome is more; what makes no headway waits for the next round.

CREATE FUNCTION _prom_catalog.maintenance_steps(OUT place int4, OUT name text, OUT every interval,
                                                OUT first_in interval, OUT locks bool) RETURNS SETOF record
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    -- what erases begins an hour after the installation; views take a lock of their own
    VALUES (10, 'errors',         '1 hour'::interval, '1 hour'::interval, true),
           (20, 'fold',           '24 s',   '0',      true),
           (25, 'join',           '1 hour', '0',      true),
           (30, 'views',          '0',      '0',      false),
           (40, 'partitions',     '5 min',  '0',      true),
           (50, 'seal',           '5 min',  '0',      true),
           (55, 'reseal',         '5 min',  '0',      true),
           (60, 'retention',      '1 hour', '1 hour', true),
           (62, 'compact',        '1 hour', '1 hour', true),
           (65, 'expire_series',  '1 hour', '1 hour', true),
           (70, 'figures',        '5 min',  '0',      true),
           (80, 'trim_feed',      '1 hour', '1 hour', true),
           (90, 'trim_exemplars', '1 hour', '1 hour', true)
$$;

-- A step that failed is tried again, later and later.
CREATE FUNCTION _prom_catalog.note_failure(p_step text, p_detail text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE _prom_catalog.job SET failures = failures + 1, failed_total = failed_total + 1, last_error = p_detail,
           last_error_at = clock_timestamp(),
           next_run = now() + least('5 s'::interval * 2 ^ least(failures, 10), '10 min')
    WHERE name = p_step;
    RAISE WARNING 'promscale maintenance: % failed: %', p_step, p_detail;
END $$;

-- Runs one step once if it is due (or p_force), in the caller's transaction, and notes how it went.
-- outcome: as above, or busy (somebody else is at it), or failed (detail says why; it will be tried
-- again, later and later).
CREATE FUNCTION _prom_catalog.run_step(p_step text, p_force bool, OUT outcome text, OUT detail text,
                                       OUT left_over int8)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_step record;
    v_job _prom_catalog.job;
    v_begin timestamptz := clock_timestamp();
    r record;
BEGIN
    SELECT * INTO v_step FROM _prom_catalog.maintenance_steps() WHERE name = p_step;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no maintenance step "%"', p_step USING ERRCODE = '22023';
    END IF;
    IF v_step.locks AND NOT _prom_catalog.maintenance_lock() THEN
        outcome := 'busy';
        RETURN;
    END IF;
    SELECT * INTO v_job FROM _prom_catalog.job WHERE name = p_step;
    IF NOT FOUND THEN
        INSERT INTO _prom_catalog.job (name, next_run) VALUES (p_step, now() + v_step.first_in)
            ON CONFLICT DO NOTHING RETURNING * INTO v_job;
    END IF;
    -- no step waits for two hours, unless the clock was ahead when it ran last
    IF NOT p_force AND v_job.next_run > now() AND v_job.next_run < now() + '2 hours'::interval
       AND (p_step <> 'fold' OR v_job.failures > 0 OR NOT _prom_catalog.fold_presses()) THEN
        outcome := 'idle';
        RETURN;
    END IF;
    BEGIN
        EXECUTE format('SELECT * FROM _prom_catalog.%I($1)', 'step_' || p_step) INTO r USING p_force;
        outcome := r.outcome;
        detail := r.detail;
        left_over := r.left_over;
        IF outcome = 'failed' THEN
            PERFORM _prom_catalog.note_failure(p_step, detail);
            RETURN;
        END IF;
        -- a step that is due each round and found nothing leaves no dead row
        IF v_step.every > '0' OR outcome <> 'idle' OR v_job.failures > 0 OR v_job.next_run > now() THEN
            UPDATE _prom_catalog.job
            SET next_run = now() + coalesce(r.next_in, v_step.every), failures = 0, last_run = clock_timestamp(),
                last_duration = clock_timestamp() - v_begin,
                caught_up_at = CASE WHEN outcome IN ('idle', 'done') THEN now() ELSE caught_up_at END,
                last_detail = CASE outcome WHEN 'idle' THEN last_detail ELSE r.detail END
            WHERE name = p_step;
        END IF;
    EXCEPTION WHEN OTHERS THEN
        outcome := 'failed';
        detail := format('%s (%s)', SQLERRM, SQLSTATE);
        PERFORM _prom_catalog.note_failure(p_step, detail);
    END;
END $$;

-- One round of what is due; with force, everything there is to do, until nothing is left: all fresh
-- rows folded, all windows sealed (those that still run, too), retention applied. log_verbose comes
-- first, so that a bare CALL execute_maintenance(true) talks more and does no more.
CREATE PROCEDURE prom_api.execute_maintenance(log_verbose bool DEFAULT false, force bool DEFAULT false)
LANGUAGE plpgsql AS $$
DECLARE
    v_step text;
    v_until timestamptz;
    v_left int8;
    v_failed text := '';
    v_name text := pg_catalog.current_setting('application_name');
    r record;
BEGIN
    FOR v_step IN SELECT s.name FROM _prom_catalog.maintenance_steps() s ORDER BY s.place LOOP
        -- a round is not to last; VACUUM waits for its end
        v_until := pg_catalog.clock_timestamp() + CASE WHEN force THEN '60 s' ELSE '3 s' END::interval;
        v_left := NULL;
        LOOP
            PERFORM pg_catalog.set_config('application_name', 'promscale maintenance: ' || v_step, false);
            SELECT * INTO r FROM _prom_catalog.run_step(v_step, force);
            COMMIT;
            IF log_verbose AND r.outcome <> 'idle' THEN
                RAISE NOTICE 'promscale maintenance: %: % %', v_step, r.outcome, coalesce(r.detail, '');
            END IF;
            IF r.outcome = 'failed' THEN
                v_failed := v_failed || v_step || ': ' || r.detail || '; ';
            END IF;
            IF r.outcome = 'busy' AND force THEN
                EXIT WHEN pg_catalog.clock_timestamp() > v_until;
                PERFORM pg_catalog.pg_sleep(0.02);
                CONTINUE;
            END IF;
            EXIT WHEN r.outcome <> 'more' OR (NOT force AND pg_catalog.clock_timestamp() > v_until);
            -- what cannot be done now stays behind; going on makes sense while it grows less
            EXIT WHEN r.left_over >= v_left;
            v_left := r.left_over;
        END LOOP;
        IF force AND r.outcome = 'busy' THEN
            v_failed := v_failed || v_step || ': other maintenance did not end; ';
        END IF;
    END LOOP;
    PERFORM pg_catalog.set_config('application_name', v_name, false);
    IF force THEN
        PERFORM _prom_catalog.want_shrink();
        COMMIT;
    END IF;
    IF force AND v_failed <> '' THEN
        RAISE EXCEPTION 'maintenance did not complete: %', v_failed;
    END IF;
END $$;
COMMENT ON PROCEDURE prom_api.execute_maintenance(bool, bool) IS
    'does a round of the maintenance that is due; with force all there is to do';

REVOKE ALL ON FUNCTION _prom_catalog.run_step, _prom_catalog.note_failure FROM PUBLIC;
REVOKE ALL ON PROCEDURE prom_api.execute_maintenance FROM PUBLIC;
GRANT EXECUTE ON FUNCTION _prom_catalog.run_step TO prom_maintenance;
GRANT EXECUTE ON PROCEDURE prom_api.execute_maintenance TO prom_maintenance;
