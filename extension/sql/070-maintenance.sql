-- Maintenance: fresh -> merged -> block, partitions, retention, and the order in which it is all done.
-- docs/maintenance.md tells the whole story.
--
-- CALL prom_api.execute_maintenance() does one round of what is due; the background worker or, where
-- there is none, a connector calls it every few seconds and then runs the VACUUMs that
-- _prom_catalog.take_vacuums() names. Every step is a transaction of its own, holds the maintenance
-- lock to its end, and leaves everything a reader needs right at each commit.

-- A merged row never crosses a day, so that sealing a day or a part of it cuts no row.
ALTER TABLE _prom_data.merged ADD CONSTRAINT merged_within_a_day CHECK (
    t_min <= t_max AND date_bin('1 day', t_min, '2000-01-01 00:00:00+00')
                     = date_bin('1 day', t_max, '2000-01-01 00:00:00+00'));

-- When each step ran and when it may run again; failing steps wait longer and longer.
CREATE TABLE _prom_catalog.job (
    name       text PRIMARY KEY,
    last_run   timestamptz,
    next_run   timestamptz NOT NULL,
    failures   int4 NOT NULL DEFAULT 0,           -- in a row
    last_error text,
    feed_mark  xid8                               -- of 'trim_feed': a horizon seen at last_run
);

-- One row: merged rows of time before the boundary lie in days, later ones in hours; only moves forward.
CREATE TABLE _prom_catalog.merge_boundary (
    one      bool PRIMARY KEY DEFAULT true CHECK (one),
    boundary timestamptz NOT NULL
);

-- Blocks that could not be read. Maintenance leaves them where they are, and tries again every hour.
CREATE TABLE _prom_catalog.maintenance_error (
    block_id  int8 PRIMARY KEY,                   -- negative: no single block is to blame
    metric_id int4 NOT NULL,
    level     int2 NOT NULL,
    t_min     timestamptz NOT NULL,
    step      text NOT NULL,
    message   text NOT NULL,
    noted_at  timestamptz NOT NULL DEFAULT now()
);

-- Tables of _prom_data that want a VACUUM (which cannot run inside a function).
CREATE TABLE _prom_catalog.vacuum_queue (
    table_name name PRIMARY KEY,
    frozen     bool NOT NULL,                     -- with FREEZE
    shrink     bool NOT NULL DEFAULT false        -- give free space at the end back to the system
);

-- ---- the two steps in C ------------------------------------------------------------------------

-- Folds the oldest fresh rows, about p_max_bytes of them, into merged. busy: somebody else is at work.
CREATE FUNCTION _prom_ext.merge_step(p_max_bytes int8 DEFAULT 33554432,
    OUT did bool, OUT busy bool, OUT more bool, OUT samples int8, OUT rows_in int8,
    OUT rows_taken int8, OUT rows_out int8, OUT duplicates int8, OUT conflicts int8)
    AS 'MODULE_PATHNAME', 'merge_step' LANGUAGE C VOLATILE STRICT
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp;

-- Seals some windows that are over (p_force: any window), about p_max_bytes of merged rows; also the most
-- that is read at once of a large one.
CREATE FUNCTION _prom_ext.seal_step(p_force bool DEFAULT false, p_max_bytes int8 DEFAULT 67108864,
    OUT did bool, OUT busy bool, OUT more bool, OUT samples int8, OUT windows int8, OUT failed int8,
    OUT rows_in int8, OUT rows_out int8, OUT duplicates int8, OUT conflicts int8)
    AS 'MODULE_PATHNAME', 'seal_step' LANGUAGE C VOLATILE STRICT
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp;

-- True if this transaction now holds the maintenance lock (0x50524f4d00000002).
CREATE FUNCTION _prom_catalog.maintenance_lock() RETURNS bool
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    SELECT pg_try_advisory_xact_lock(x'50524f4d00000002'::int8)
$$;

-- ---- partitions --------------------------------------------------------------------------------

-- Days that deserve a partition; sealed blocks of other days go to block_far.
CREATE FUNCTION _prom_catalog.partition_days(OUT first_day timestamptz, OUT last_day timestamptz)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
    SELECT date_trunc('day', now() - least('400 days'::interval,
               coalesce(nullif(_prom_catalog.setting('retention_period')::interval, '0'), '400 days'))),
           date_trunc('day', now() + '2 days'::interval)
$$;

CREATE FUNCTION _prom_catalog.partitions(OUT day timestamptz, OUT table_name name) RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
    SELECT to_timestamp(substr(c.relname, 7), 'YYYYMMDD'), c.relname
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = '_prom_data.block'::regclass AND NOT i.inhdetachpending
      AND c.relname ~ '^block_[0-9]{8}$'
$$;

-- Makes one partition: a bare table first, then ATTACH, which readers and writers do not notice (they
-- would wait behind CREATE TABLE ... PARTITION OF). The CHECK saves ATTACH from reading the table and
-- keeps blocks from crossing midnight. No key stands on the parent, so each partition brings its own.
CREATE FUNCTION _prom_catalog.make_partition(p_day timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    v_name name := 'block_' || to_char(p_day, 'YYYYMMDD');
    v_next timestamptz := p_day + '1 day'::interval;
BEGIN
    IF date_trunc('day', p_day) <> p_day OR to_timestamp(to_char(p_day, 'YYYYMMDD'), 'YYYYMMDD') <> p_day THEN
        RAISE EXCEPTION '% is not the start of a day that can have a partition', p_day
            USING ERRCODE = '22023';
    END IF;
    EXECUTE format('CREATE TABLE _prom_data.%I (LIKE _prom_data.block INCLUDING DEFAULTS INCLUDING STORAGE, '
                   'PRIMARY KEY (metric_id, t_min, dist_key, id), '
                   'CONSTRAINT within_the_day CHECK (t_min >= %L AND t_min < %L AND t_max >= t_min AND t_max < %L)) '
                   'WITH (vacuum_truncate = off, toast.vacuum_truncate = off, toast_tuple_target = 8160, '
                   'autovacuum_freeze_min_age = 0, toast.autovacuum_freeze_min_age = 0)',
                   v_name, p_day, v_next, v_next);
    EXECUTE format('ALTER TABLE _prom_data.block ATTACH PARTITION _prom_data.%I FOR VALUES FROM (%L) TO (%L)',
                   v_name, p_day, v_next);
END $$;

-- Makes the partitions that are missing: from today to two days ahead, and for days of merged rows
-- that the sealer will need. None while there is nothing to store: a restore may be about to make its
-- own. Returns how many it made. Where a lock is not to be had soon (somebody
-- alters the parent), the rest is left to the next call.
CREATE FUNCTION _prom_catalog.ensure_partitions() RETURNS int4
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET lock_timeout = '200ms' AS $$
DECLARE
    v_day timestamptz;
    v_made int4 := 0;
    v_failed int4 := 0;
BEGIN
    IF NOT _prom_catalog.maintenance_lock() OR NOT (EXISTS (SELECT FROM _prom_catalog.metric)
                                                    OR EXISTS (SELECT FROM _prom_data.merged)) THEN
        RETURN 0;
    END IF;
    FOR v_day IN
        SELECT w.day FROM (
            SELECT generate_series(date_trunc('day', now()), d.last_day, '1 day') FROM _prom_catalog.partition_days() d
            UNION
            SELECT DISTINCT date_bin('1 day', m.t_min, '2000-01-01 00:00:00+00') FROM _prom_data.merged m
        ) w (day), _prom_catalog.partition_days() d
        WHERE w.day BETWEEN d.first_day AND d.last_day
          AND w.day NOT IN (SELECT p.day FROM _prom_catalog.partitions() p)
        ORDER BY 1
    LOOP
        BEGIN
            PERFORM _prom_catalog.make_partition(v_day);
            v_made := v_made + 1;
        EXCEPTION WHEN lock_not_available THEN
            v_failed := v_failed + 1;
            EXIT WHEN v_failed >= 3;
        END;
    END LOOP;
    IF v_failed > 0 AND v_made = 0 THEN
        RAISE EXCEPTION 'somebody locks _prom_data.block; its partitions must wait' USING ERRCODE = '55P03';
    END IF;
    RETURN v_made;
END $$;

-- ---- retention and trimming --------------------------------------------------------------------

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

-- Forgets what connectors have had an hour to read. The horizon noted an hour ago becomes the floor,
-- and the rows below it go in the same transaction, so no reader sees a gap without seeing the floor.
CREATE FUNCTION _prom_catalog.trim_feed() RETURNS int8
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_job _prom_catalog.job;
    v_n int8 := 0;
BEGIN
    IF NOT _prom_catalog.maintenance_lock() THEN
        RETURN 0;
    END IF;
    SELECT * INTO v_job FROM _prom_catalog.job WHERE name = 'trim_feed';
    IF v_job.last_run > now() - '1 hour'::interval THEN
        RETURN 0;
    END IF;
    IF v_job.feed_mark IS NOT NULL AND v_job.feed_mark <= pg_snapshot_xmin(pg_current_snapshot()) THEN
        UPDATE _prom_catalog.state SET feed_floor = v_job.feed_mark WHERE feed_floor < v_job.feed_mark;
        DELETE FROM _prom_catalog.series_feed WHERE tx < v_job.feed_mark;
        GET DIAGNOSTICS v_n = ROW_COUNT;
    END IF;
    INSERT INTO _prom_catalog.job (name, last_run, next_run, feed_mark)
        VALUES ('trim_feed', now(), now() + '1 hour'::interval, pg_snapshot_xmin(pg_current_snapshot()))
        ON CONFLICT (name) DO UPDATE SET last_run = excluded.last_run, feed_mark = excluded.feed_mark;
    RETURN v_n;
END $$;

-- Keeps the youngest exemplars of each series.
CREATE FUNCTION _prom_catalog.trim_exemplars() RETURNS int8
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_cap int8 := _prom_catalog.setting('exemplars_per_series')::int8;
    v_n int8;
BEGIN
    DELETE FROM _prom_data.exemplar e USING (
        SELECT metric_id, series_id, time, dist_key, digest,
               row_number() OVER (PARTITION BY metric_id, series_id ORDER BY time DESC, digest) AS n
        FROM _prom_data.exemplar) old
    WHERE old.n > v_cap AND e.metric_id = old.metric_id AND e.series_id = old.series_id
      AND e.time = old.time AND e.dist_key = old.dist_key AND e.digest = old.digest;
    GET DIAGNOSTICS v_n = ROW_COUNT;
    RETURN v_n;
END $$;

-- ---- the order of things -----------------------------------------------------------------------

-- Runs one step once if it is due (or p_force), in the caller's transaction, and notes how it went.
-- Folding waits until rows or minutes have gathered: its cost is per series and fold, and a merged
-- block with few samples a series is large; readers pay for waiting with more fresh rows.
-- outcome: idle (not due, or nothing to do), done, more (call again), busy (somebody else is at it),
-- failed (detail says why; it will be tried again, later and later).
CREATE FUNCTION _prom_catalog.run_step(p_step text, p_force bool, OUT outcome text, OUT detail text,
                                       OUT left_over int8)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_job _prom_catalog.job;
    v_every interval := CASE p_step WHEN 'fold' THEN '2 min' WHEN 'views' THEN '0'
                        WHEN 'partitions' THEN '5 min' WHEN 'seal' THEN '5 min'
                        WHEN 'figures' THEN '5 min' ELSE '1 hour' END;
    v_next interval;
    r record;
BEGIN
    left_over := 0;
    IF p_step <> 'views' AND NOT _prom_catalog.maintenance_lock() THEN
        outcome := 'busy';
        RETURN;
    END IF;
    SELECT * INTO v_job FROM _prom_catalog.job WHERE name = p_step;
    IF NOT FOUND THEN
        -- steps that erase begin an hour after the installation
        INSERT INTO _prom_catalog.job (name, next_run)
            VALUES (p_step, now() + CASE WHEN v_every < '1 hour' THEN '0'::interval ELSE v_every END)
            ON CONFLICT DO NOTHING RETURNING * INTO v_job;
    END IF;
    IF NOT p_force AND v_job.next_run > now()
       AND (p_step <> 'fold' OR v_job.failures > 0
            OR pg_stat_get_live_tuples('_prom_data.fresh'::regclass) < 20000) THEN
        outcome := 'idle';
        RETURN;
    END IF;
    v_next := v_every;
    BEGIN
        CASE p_step
        WHEN 'errors' THEN
            DELETE FROM _prom_catalog.maintenance_error
                WHERE p_force OR noted_at < now() - '1 hour'::interval;
            outcome := CASE WHEN FOUND THEN 'done' ELSE 'idle' END;
        WHEN 'fold' THEN
            SELECT * INTO r FROM _prom_ext.merge_step();
            outcome := CASE WHEN r.more THEN 'more' WHEN r.did THEN 'done' ELSE 'idle' END;
            detail := format('%s samples in %s rows became %s rows, %s rows taken along', r.samples,
                             r.rows_in, r.rows_out, r.rows_taken);
        WHEN 'views' THEN
            left_over := _prom_catalog.make_metric_views(100);
            outcome := CASE WHEN left_over > 0 THEN 'more' ELSE 'idle' END;
        WHEN 'partitions' THEN
            detail := format('%s partitions made', _prom_catalog.ensure_partitions());
            outcome := 'done';
        WHEN 'seal' THEN
            SELECT * INTO r FROM _prom_ext.seal_step(p_force);
            outcome := CASE WHEN r.more THEN 'more' WHEN r.did THEN 'done' ELSE 'idle' END;
            detail := format('%s samples of %s windows, %s rows became %s, %s windows failed', r.samples,
                             r.windows, r.rows_in, r.rows_out, r.failed);
            v_next := CASE WHEN r.more THEN '0'::interval ELSE v_every END;
        WHEN 'retention' THEN
            SELECT * INTO r FROM _prom_catalog.apply_retention();
            outcome := 'done';
            detail := format('%s partitions dropped, %s waiting, %s rows deleted', r.partitions, r.waiting, r.rows);
            v_next := CASE WHEN r.waiting > 0 THEN '1 min'::interval ELSE v_every END;
        WHEN 'figures' THEN
            detail := _prom_catalog.tend_figures();
            outcome := 'done';
        WHEN 'trim_feed' THEN
            detail := format('%s rows of the feed', _prom_catalog.trim_feed());
            outcome := 'done';
        WHEN 'trim_exemplars' THEN
            detail := format('%s exemplars', _prom_catalog.trim_exemplars());
            outcome := 'done';
        END CASE;
        IF p_step <> 'views' OR v_job.failures > 0 THEN
            UPDATE _prom_catalog.job SET next_run = now() + v_next, failures = 0, last_error = NULL,
                   last_run = CASE p_step WHEN 'trim_feed' THEN last_run ELSE now() END
            WHERE name = p_step;
        END IF;
    EXCEPTION WHEN OTHERS THEN
        outcome := 'failed';
        detail := format('%s (%s)', SQLERRM, SQLSTATE);
        UPDATE _prom_catalog.job SET failures = failures + 1, last_error = detail,
               next_run = now() + least('5 s'::interval * 2 ^ least(failures, 10), '10 min')
        WHERE name = p_step;
        RAISE WARNING 'promscale maintenance: % failed: %', p_step, detail;
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
    FOREACH v_step IN ARRAY ARRAY['errors', 'fold', 'views', 'partitions', 'seal', 'retention',
                                  'figures', 'trim_feed', 'trim_exemplars'] LOOP
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
            -- views that cannot be made now stay behind; going on makes sense while they grow fewer
            EXIT WHEN v_step = 'views' AND r.left_over >= v_left;
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

-- What a burst has left behind in fresh and merged is normally kept for the next one: giving it back
-- takes a lock that stops readers of these tables on standbys for a moment, or is stopped by them.
CREATE FUNCTION _prom_catalog.want_shrink() RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO _prom_catalog.vacuum_queue (table_name, frozen, shrink)
        VALUES ('fresh', false, true), ('merged', false, true)
        ON CONFLICT (table_name) DO UPDATE SET shrink = true
$$;

-- The VACUUM commands that are due after maintenance, each to be sent on its own outside a
-- transaction, about 100 ms after the round: by then the flushes that ran beside it have ended, and
-- what it deleted can be removed.
CREATE FUNCTION _prom_catalog.take_vacuums() RETURNS SETOF text
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH taken AS (DELETE FROM _prom_catalog.vacuum_queue RETURNING table_name, frozen, shrink)
    SELECT format('VACUUM (%sTRUNCATE %s) _prom_data.%I', CASE WHEN frozen THEN 'FREEZE, ' ELSE '' END,
                  CASE WHEN shrink THEN 'on' ELSE 'off' END, table_name)
    FROM taken WHERE to_regclass(format('_prom_data.%I', table_name)) IS NOT NULL
    ORDER BY frozen, table_name
$$;

-- ---- rights: maintenance is for prom_maintenance -----------------------------------------------

REVOKE ALL ON FUNCTION _prom_ext.merge_step, _prom_ext.seal_step, _prom_catalog.maintenance_lock,
    _prom_catalog.partition_days, _prom_catalog.partitions, _prom_catalog.make_partition,
    _prom_catalog.ensure_partitions, _prom_catalog.apply_retention, _prom_catalog.trim_feed,
    _prom_catalog.trim_exemplars, _prom_catalog.run_step, _prom_catalog.want_shrink,
    _prom_catalog.take_vacuums FROM PUBLIC;
REVOKE ALL ON PROCEDURE prom_api.execute_maintenance FROM PUBLIC;
GRANT EXECUTE ON FUNCTION _prom_ext.merge_step, _prom_ext.seal_step, _prom_catalog.ensure_partitions,
    _prom_catalog.apply_retention, _prom_catalog.trim_feed, _prom_catalog.trim_exemplars,
    _prom_catalog.run_step, _prom_catalog.want_shrink, _prom_catalog.take_vacuums TO prom_maintenance;
GRANT EXECUTE ON PROCEDURE prom_api.execute_maintenance TO prom_maintenance;
