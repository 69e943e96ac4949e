-- Maintenance: fresh -> merged -> block, and what all of its steps share. docs/maintenance.md tells the
-- whole story; 071 to 075 hold the steps, 076 the order in which they are taken.

-- A merged row never crosses a day, so that sealing a day or a part of it cuts no row.
ALTER TABLE _prom_data.merged ADD CONSTRAINT merged_within_a_day CHECK (
    t_min <= t_max AND date_bin('1 day', t_min, '2000-01-01 00:00:00+00')
                     = date_bin('1 day', t_max, '2000-01-01 00:00:00+00'));

-- When each step ran, how that went, and when it may run again; failing steps wait longer and longer.
CREATE TABLE _prom_catalog.job (
    name          text PRIMARY KEY,
    next_run      timestamptz NOT NULL,
    last_run      timestamptz,                    -- end of the last run that did not fail
    last_duration interval,                       -- of its transaction
    last_detail   text,                           -- what it did, where it did anything
    caught_up_at  timestamptz,                    -- then nothing was left to do
    failures      int4 NOT NULL DEFAULT 0,        -- in a row
    failed_total  int8 NOT NULL DEFAULT 0,
    last_error    text,                           -- stays when the step runs again; see failures
    last_error_at timestamptz,
    feed_mark     xid8,                           -- of 'trim_feed': a horizon, and when it was seen
    feed_marked   timestamptz
);

-- One row: merged rows of time before the boundary lie in days, later ones in hours.
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

-- Days of a metric in which sealed rows lie on each other, since samples came late. Dumped: these rows are, too.
CREATE TABLE _prom_catalog.reseal_queue (
    metric_id int4 NOT NULL,
    day       timestamptz NOT NULL,               -- its start in UTC
    dist_key  int8 NOT NULL,
    since     timestamptz NOT NULL DEFAULT now(), -- the last of them was sealed
    PRIMARY KEY (metric_id, day, dist_key)
);

-- What take_vacuums() has handed out last, until the table's statistics say that it was done: who was to
-- send it may have died before.
CREATE TABLE _prom_catalog.vacuum_taken (
    table_name name PRIMARY KEY,
    frozen     bool NOT NULL,
    shrink     bool NOT NULL,
    taken_at   timestamptz NOT NULL
);

-- What the oldest snapshot did not see when fresh and merged were last handed out for a VACUUM. While it is kept, another
-- one can remove nothing.
CREATE TABLE _prom_catalog.vacuum_horizon (
    table_name name PRIMARY KEY,
    horizon    xid NOT NULL,
    taken_at   timestamptz NOT NULL
);

-- ---- the steps in C ------------------------------------------------------------------------

-- Folds the oldest fresh rows, about p_max_bytes of them, into merged. busy: somebody else is at work.
CREATE FUNCTION _prom_ext.merge_step(p_max_bytes int8 DEFAULT 67108864,
    OUT did bool, OUT busy bool, OUT more bool, OUT samples int8, OUT rows_in int8,
    OUT rows_taken int8, OUT rows_out int8, OUT duplicates int8, OUT conflicts int8)
    AS 'MODULE_PATHNAME', 'merge_step' LANGUAGE C VOLATILE STRICT
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp;

-- Joins the merged rows of hours that ended before p_until, about p_max_bytes of them.
CREATE FUNCTION _prom_ext.join_step(p_until timestamptz, p_max_bytes int8 DEFAULT 67108864,
    OUT busy bool, OUT hours int8, OUT failed int8, OUT hours_left int8, OUT samples int8,
    OUT bytes_in int8, OUT rows_in int8, OUT rows_out int8)
    AS 'MODULE_PATHNAME', 'join_step' LANGUAGE C VOLATILE STRICT
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp;

-- Seals some windows that are over (p_force: any window), about p_max_bytes of merged rows; also the most
-- that is read at once of a large one.
CREATE FUNCTION _prom_ext.seal_step(p_force bool DEFAULT false, p_max_bytes int8 DEFAULT 67108864,
    OUT did bool, OUT busy bool, OUT more bool, OUT samples int8, OUT windows int8, OUT failed int8,
    OUT rows_in int8, OUT rows_out int8, OUT duplicates int8, OUT conflicts int8)
    AS 'MODULE_PATHNAME', 'seal_step' LANGUAGE C VOLATILE STRICT
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp;

-- Writes days of reseal_queue anew to which nothing has come for an hour (p_force: any), where that makes
-- them smaller (p_force: in any case).
CREATE FUNCTION _prom_ext.reseal_step(p_force bool DEFAULT false, p_max_bytes int8 DEFAULT 67108864,
    OUT did bool, OUT busy bool, OUT more bool, OUT samples int8, OUT windows int8, OUT failed int8,
    OUT rows_in int8, OUT rows_out int8, OUT duplicates int8, OUT conflicts int8)
    AS 'MODULE_PATHNAME', 'reseal_step' LANGUAGE C VOLATILE STRICT
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp;

-- True if this transaction now holds the maintenance lock (0x50524f4d00000002). Statements after it must see what
-- others committed before it was theirs, and those after the guard lock what has been stored meanwhile.
CREATE FUNCTION _prom_catalog.maintenance_lock() RETURNS bool
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'maintenance needs isolation level READ COMMITTED' USING ERRCODE = '25001',
            HINT = 'SET default_transaction_isolation = ''read committed'' before the call.';
    END IF;
    RETURN pg_try_advisory_xact_lock(x'50524f4d00000002'::int8);
END $$;

-- A fold reads rows by deleting them: bytes that the server itself has lost (a TOAST value with missing chunks) would
-- stop it for all metrics. After it has failed they are looked for, one by one, and left alone.
CREATE FUNCTION _prom_catalog.note_lost_rows(p_table text) RETURNS int8
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_row record;
    v_n int8 := 0;
BEGIN
    FOR v_row IN EXECUTE format('SELECT id, tenant_id, metric_id, dist_key, level, t_min FROM _prom_data.%I'
                                ' WHERE octet_length(data) > 1000', p_table) LOOP
        BEGIN -- what is shorter lies in the row
            EXECUTE format('SELECT md5(data) FROM _prom_data.%I WHERE (metric_id, t_min, dist_key, id) = ($1, $2, $3, $4)',
                           p_table) USING v_row.metric_id, v_row.t_min, v_row.dist_key, v_row.id;
        EXCEPTION WHEN data_corrupted OR index_corrupted OR io_error OR undefined_file OR internal_error THEN
            v_n := v_n + 1;
            INSERT INTO _prom_catalog.maintenance_error AS e (block_id, metric_id, level, t_min, step, message)
                VALUES (v_row.id, v_row.metric_id, v_row.level, v_row.t_min, 'merge', SQLERRM)
                ON CONFLICT (block_id) DO UPDATE SET message = excluded.message, noted_at = now();
        END;
    END LOOP;
    RETURN v_n;
END $$;
REVOKE ALL ON FUNCTION _prom_catalog.note_lost_rows FROM PUBLIC;

-- These steps as 076 calls them. Folding waits until rows or half a minute have gathered (24 seconds, since
-- rounds come every 5): its cost is per series and fold, and a merged block with few samples a series is
-- large; readers pay for waiting with more fresh rows.
CREATE FUNCTION _prom_catalog.step_fold(p_force bool, OUT outcome text, OUT detail text, OUT next_in interval,
                                        OUT left_over int8)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    r record;
BEGIN
    IF EXISTS (SELECT FROM _prom_catalog.job WHERE name = 'fold' AND failures > 0) THEN
        PERFORM _prom_catalog.note_lost_rows(t) FROM unnest('{fresh,merged}'::text[]) t;
    END IF;
    -- what a restore has left out is known by there being none: before the first of new samples are written
    PERFORM _prom_catalog.count_left_out();
    SELECT * INTO r FROM _prom_ext.merge_step();
    outcome := CASE WHEN r.more THEN 'more' WHEN r.did THEN 'done' ELSE 'idle' END;
    detail := format('%s samples in %s rows became %s rows, %s rows taken along', r.samples, r.rows_in,
                     r.rows_out, r.rows_taken);
END $$;

-- True if so much is fresh that a fold should not wait for its time: at some 1.5 million samples a second.
CREATE FUNCTION _prom_catalog.fold_presses() RETURNS bool
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    SELECT pg_stat_get_live_tuples('_prom_data.fresh'::regclass) >= 150000
$$;

-- Two minutes after an hour, when nearly all of its samples are there.
CREATE FUNCTION _prom_catalog.step_join(p_force bool, OUT outcome text, OUT detail text, OUT next_in interval,
                                        OUT left_over int8)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    late CONSTANT interval := '2 min';
    r record;
BEGIN
    SELECT * INTO r FROM _prom_ext.join_step(now() - late);
    outcome := CASE WHEN r.hours_left > 0 THEN 'more' WHEN r.hours > 0 THEN 'done' ELSE 'idle' END;
    detail := format('%s samples of %s hours, %s rows became %s, %s hours failed', r.samples, r.hours, r.rows_in,
                     r.rows_out, r.failed);
    left_over := r.hours_left;
    next_in := CASE WHEN r.hours_left > 0 THEN '0'
               ELSE date_bin('1 hour', now() - late, '2000-01-01 00:00:00+00') + '1 hour' + late - now() END;
END $$;

CREATE FUNCTION _prom_catalog.step_seal(p_force bool, OUT outcome text, OUT detail text, OUT next_in interval,
                                        OUT left_over int8)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    r record;
BEGIN
    SELECT * INTO r FROM _prom_ext.seal_step(p_force);
    outcome := CASE WHEN r.more THEN 'more' WHEN r.did THEN 'done' ELSE 'idle' END;
    detail := format('%s samples of %s windows, %s rows became %s, %s windows failed', r.samples, r.windows,
                     r.rows_in, r.rows_out, r.failed);
    next_in := CASE WHEN r.more THEN '0'::interval END;
END $$;

CREATE FUNCTION _prom_catalog.step_reseal(p_force bool, OUT outcome text, OUT detail text, OUT next_in interval,
                                          OUT left_over int8)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    r record;
BEGIN
    SELECT * INTO r FROM _prom_ext.reseal_step(p_force);
    outcome := CASE WHEN r.more THEN 'more' WHEN r.did THEN 'done' ELSE 'idle' END;
    detail := format('%s days, %s rows became %s, %s days failed', r.windows, r.rows_in, r.rows_out, r.failed);
    next_in := CASE WHEN r.more THEN '0'::interval END;
    left_over := CASE WHEN r.more THEN (SELECT count(*) FROM _prom_catalog.reseal_queue) END;
END $$;

-- Blocks that could not be read are tried again every hour.
CREATE FUNCTION _prom_catalog.step_errors(p_force bool, OUT outcome text, OUT detail text, OUT next_in interval,
                                          OUT left_over int8)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM _prom_catalog.maintenance_error
        WHERE p_force OR noted_at NOT BETWEEN now() - '1 hour'::interval AND now(); -- a clock may have been ahead
    outcome := CASE WHEN FOUND THEN 'done' ELSE 'idle' END;
END $$;

-- ---- VACUUM ------------------------------------------------------------------------------------

-- What a burst has left behind in fresh and merged is normally kept for the next one: giving it back
-- takes a lock that stops readers of these tables on standbys for a moment, or is stopped by them.
CREATE FUNCTION _prom_catalog.want_shrink() RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO _prom_catalog.vacuum_queue (table_name, frozen, shrink)
        VALUES ('fresh', false, true), ('merged', false, true)
        ON CONFLICT (table_name) DO UPDATE SET shrink = true
$$;

-- The oldest transaction that VACUUM of our tables has to take for unfinished: what was deleted by it or later cannot be
-- removed. As VACUUM does, it counts transactions and snapshots of this database's sessions, those of standbys, and slots:
-- a transaction of another database counts only while some snapshot here has seen it running, so not our own, which has
-- seen all of them. VACUUM's own snapshots stop nobody. Of sessions that we may not look at nothing is known; then it moves on.
CREATE FUNCTION _prom_catalog.oldest_in_use() RETURNS xid
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    SELECT h.x FROM (
        SELECT pg_snapshot_xmax(pg_current_snapshot())::xid
        UNION ALL
        SELECT x.xid FROM pg_stat_activity a, unnest(ARRAY[a.backend_xid, a.backend_xmin]) x (xid)
        WHERE a.pid <> pg_backend_pid()
          AND (a.datid IS NULL OR a.datid = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()))
          AND NOT EXISTS (SELECT FROM pg_stat_progress_vacuum v WHERE v.pid = a.pid)
        UNION ALL SELECT s.xmin FROM pg_replication_slots s
        UNION ALL SELECT p.transaction FROM pg_prepared_xacts p WHERE p.database = current_database()) h (x)
    WHERE h.x IS NOT NULL ORDER BY age(h.x) DESC LIMIT 1
$$;

-- Should VACUUM wait? A reader that stays for an hour keeps all that is folded away in that time: reading it again after
-- each fold would remove nothing and cost more each time. What has gathered when that reader has gone is removed by
-- autovacuum (within a minute, set in 030-blocks.sql): folds would wait for a VACUUM of ours. Once in ten minutes it comes
-- in any case, unless autovacuum has.
CREATE FUNCTION _prom_catalog.vacuum_can_wait(p_table name, p_horizon xid, p_many int8 DEFAULT 1000000) RETURNS bool
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (
        SELECT FROM _prom_catalog.vacuum_horizon h, to_regclass(format('_prom_data.%I', p_table)) AS rel (oid)
        WHERE h.table_name = p_table
          AND greatest(h.taken_at, pg_stat_get_last_autovacuum_time(rel.oid)) -- later than now: a clock was ahead
              BETWEEN statement_timestamp() - '10 min'::interval AND clock_timestamp()
          AND (h.horizon = p_horizon
               OR (pg_stat_get_dead_tuples(rel.oid) > p_many
                   AND current_setting('autovacuum')::bool AND current_setting('track_counts')::bool)))
$$;

-- Is there little left in a large fresh? Each fold reads all of its pages, so what an hour of a reader has left behind is
-- given back, unlike what a burst has. How long rows are is told by those in a part of the pages; a slow stream has
-- many small ones. Where none are seen each counts as a page.
CREATE FUNCTION _prom_catalog.fresh_is_hollow(p_pages int8 DEFAULT 65536, p_percent float4 DEFAULT 2) RETURNS bool
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN s.bytes <= p_pages * s.page THEN false
           ELSE s.bytes > 4 * (pg_stat_get_live_tuples(s.rel) + pg_stat_get_dead_tuples(s.rel))
                          * (SELECT least(coalesce(avg(octet_length(f.data)) + 150, s.page), s.page)
                             FROM _prom_data.fresh f TABLESAMPLE SYSTEM (p_percent))
           END
    FROM (SELECT r.rel, pg_relation_size(r.rel) AS bytes, current_setting('block_size')::int8 AS page
          FROM (SELECT to_regclass('_prom_data.fresh') AS rel) r) s
$$;
REVOKE ALL ON FUNCTION _prom_catalog.oldest_in_use(), _prom_catalog.vacuum_can_wait, _prom_catalog.fresh_is_hollow
    FROM PUBLIC;

-- The commands that are due after maintenance, each to be sent on its own outside a
-- transaction, about 100 ms after the round: by then the flushes that ran beside it have ended, and
-- what it deleted can be removed. Of what was handed out ten minutes ago and has not been done since (a
-- crash, a cancellation; statistics do not survive a crash either) it is handed out again, so that what
-- was erased does not stay in the files for want of a VACUUM. A table of which nothing could be removed waits on the list, see vacuum_can_wait().
CREATE FUNCTION _prom_catalog.take_vacuums() RETURNS SETOF text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_horizon xid;
BEGIN
    IF EXISTS (SELECT FROM _prom_catalog.vacuum_queue) THEN
        v_horizon := _prom_catalog.oldest_in_use();
    END IF;
    DELETE FROM _prom_catalog.vacuum_taken t
    USING (SELECT v.table_name, to_regclass(format('_prom_data.%I', v.table_name)) AS rel
           FROM _prom_catalog.vacuum_taken v) r
    WHERE t.table_name = r.table_name
      AND (r.rel IS NULL OR pg_stat_get_last_vacuum_time(r.rel) >= t.taken_at
           OR NOT current_setting('track_counts')::bool);
    -- rows that a step holds wait for its end: it deletes more, and would wait for us in another order
    WITH taken AS (
        DELETE FROM _prom_catalog.vacuum_queue q
        WHERE q.table_name IN (
            SELECT f.table_name FROM _prom_catalog.vacuum_queue f
            WHERE v_horizon IS NOT NULL -- else it was not there just now, and is for the next time
              AND (f.frozen OR f.shrink OR NOT _prom_catalog.vacuum_can_wait(f.table_name, v_horizon))
            FOR UPDATE SKIP LOCKED)
        RETURNING q.table_name, q.frozen,
                  q.shrink OR (q.table_name = 'fresh' AND _prom_catalog.fresh_is_hollow()) AS shrink
    ), noted AS (
        INSERT INTO _prom_catalog.vacuum_horizon AS h (table_name, horizon, taken_at)
            SELECT t.table_name, v_horizon, statement_timestamp() FROM taken t
            WHERE t.table_name IN ('fresh', 'merged')
            ON CONFLICT (table_name) DO UPDATE SET horizon = excluded.horizon, taken_at = excluded.taken_at
    )
    INSERT INTO _prom_catalog.vacuum_taken AS t (table_name, frozen, shrink, taken_at)
        SELECT q.table_name, q.frozen, q.shrink, statement_timestamp() FROM taken q
        WHERE to_regclass(format('_prom_data.%I', q.table_name)) IS NOT NULL ORDER BY q.table_name
        ON CONFLICT (table_name) DO UPDATE SET frozen = t.frozen OR excluded.frozen,
            shrink = t.shrink OR excluded.shrink, taken_at = excluded.taken_at;
    UPDATE _prom_catalog.vacuum_taken SET taken_at = statement_timestamp()
        WHERE taken_at NOT BETWEEN statement_timestamp() - '10 min'::interval AND statement_timestamp();
    -- dead line pointers, which VACUUM leaves where they are few, would keep the end of a file from being given back
    RETURN QUERY
        SELECT format('VACUUM (%sTRUNCATE %s) _prom_data.%I', CASE WHEN t.frozen THEN 'FREEZE, ' ELSE '' END,
                      CASE WHEN t.shrink THEN 'on, INDEX_CLEANUP on' ELSE 'off' END, t.table_name)
        FROM _prom_catalog.vacuum_taken t WHERE t.taken_at = statement_timestamp() ORDER BY t.frozen, t.table_name;
    -- what wipes after erasing (068-erasure.sql) comes last
    RETURN QUERY
        SELECT e.command FROM _prom_catalog.erasure_commands() e
        WHERE NOT e.vacuum OR NOT EXISTS (
            SELECT FROM _prom_catalog.vacuum_taken t
            WHERE t.taken_at = statement_timestamp() AND format('_prom_data.%I', t.table_name) = e.table_name)
        ORDER BY e.vacuum DESC, e.table_name;
END $$;

REVOKE ALL ON FUNCTION _prom_ext.reseal_step, _prom_catalog.step_reseal FROM PUBLIC;
GRANT EXECUTE ON FUNCTION _prom_ext.reseal_step TO prom_maintenance;

-- Maintenance is for prom_maintenance.
REVOKE ALL ON FUNCTION _prom_ext.merge_step, _prom_ext.join_step, _prom_ext.seal_step, _prom_catalog.maintenance_lock,
    _prom_catalog.step_fold, _prom_catalog.fold_presses, _prom_catalog.step_join, _prom_catalog.step_seal, _prom_catalog.step_errors,
    _prom_catalog.want_shrink, _prom_catalog.take_vacuums FROM PUBLIC;
GRANT EXECUTE ON FUNCTION _prom_ext.merge_step, _prom_ext.join_step, _prom_ext.seal_step, _prom_catalog.want_shrink,
    _prom_catalog.take_vacuums TO prom_maintenance;
