-- Files become smaller. A day that was sealed again, or has lost rows by retention, leaves holes that nobody
-- fills; VACUUM gives back what is free at the end of a file and nothing else.
--
-- So rows at the end are deleted and inserted again, as they are, under their ids, a piece of the file in a
-- transaction: every snapshot sees each row once, here or there, and nobody waits. An INSERT looks in the free
-- space map for room, from the begin of the file after each VACUUM. How far this can go is said by that map
-- (src/compact.c) before it begins. Then VACUUM cuts off the end.
--
-- One file of one table at a time. Nothing depends on where a row lies: stopped at any point all is as well as
-- before, and what has been moved is garbage for the next VACUUM.

CREATE TABLE _prom_catalog.compaction (
    table_name name PRIMARY KEY,
    newest_id  int8 NOT NULL,                     -- of its rows when it was looked at: younger ones make it wait again
    next_try   timestamptz NOT NULL,
    in_toast   bool,                              -- which file; NULL: it waits for an hour without new rows
    pages      int8,                              -- of that file before
    cut        int8,                              -- from this page on it is to be empty
    at_page    int8,                              -- from this page on its rows have been moved
    tries      int4 NOT NULL DEFAULT 0            -- calls for VACUUM since
);
COMMENT ON TABLE _prom_catalog.compaction IS 'tables whose files are being made smaller';

CREATE FUNCTION _prom_ext.file_space(p_table oid, p_unit int4, p_below int8, OUT pages int8, OUT free int8, OUT room int8,
                                     OUT cut int8)
    AS 'MODULE_PATHNAME', 'file_space' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
CREATE FUNCTION _prom_ext.toast_value(p_data bytea) RETURNS oid
    AS 'MODULE_PATHNAME', 'toast_value' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

-- Sealed tables: days that are over (p_force: all) and stay, and what is far off.
CREATE FUNCTION _prom_catalog.tables_to_compact(p_force bool) RETURNS SETOF name
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
    SELECT p.table_name FROM _prom_catalog.partitions() p
    WHERE (p_force OR p.day + '25 hours'::interval <= now())
      AND NOT EXISTS (SELECT FROM _prom_catalog.leaving_day l WHERE l.day = p.day::date)
    UNION ALL SELECT 'block_far'
$$;

-- The size at which free space counts. Values in TOAST come in pieces of 2 kB; rows beside them count as large as they
-- are on average.
CREATE FUNCTION _prom_catalog.piece_size(p_table name, p_in_toast bool) RETURNS int4
LANGUAGE plpgsql VOLATILE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_size int4 := 2036;
BEGIN
    IF NOT p_in_toast THEN
        EXECUTE format('SELECT avg(pg_column_size(b.data) + 150) FROM _prom_data.%I b'
                       ' WHERE _prom_ext.toast_value(b.data) IS NULL', p_table) INTO v_size;
    END IF;
    RETURN least(coalesce(v_size, 160), 8160);
END $$;

-- What can be given back of a table, by the file in which that is more. No row: not worth it. A little room is left: rows
-- that lie across the cut move, too.
CREATE FUNCTION _prom_catalog.hollow_file(p_table name, OUT in_toast bool, OUT pages int8, OUT cut int8)
LANGUAGE plpgsql VOLATILE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c_page CONSTANT int8 := current_setting('block_size')::int8;
    v_table CONSTANT oid := to_regclass(format('_prom_data.%I', p_table));
    v_toast CONSTANT oid := (SELECT c.reltoastrelid FROM pg_class c WHERE c.oid = v_table AND c.relkind = 'r');
    v_least CONSTANT int8 := greatest(pg_size_bytes(_prom_catalog.setting('compact_size')), 16 * c_page);
    v_share CONSTANT float8 := least(greatest(_prom_catalog.setting('compact_share')::float8, 5), 95) / 100;
    m record;
    t record;
BEGIN
    IF v_toast IS NULL OR pg_relation_size(v_table) + pg_relation_size(v_toast) < v_least THEN
        RETURN;
    END IF;
    SELECT * INTO m FROM _prom_ext.file_space(v_table, 1, 0);
    SELECT * INTO t FROM _prom_ext.file_space(v_toast, _prom_catalog.piece_size(p_table, true), 0);
    IF m.free * 2 > m.pages * c_page * v_share THEN
        SELECT * INTO m FROM _prom_ext.file_space(v_table, _prom_catalog.piece_size(p_table, false), 0);
    END IF;
    in_toast := t.pages - t.cut >= m.pages - m.cut;
    pages := CASE WHEN in_toast THEN t.pages ELSE m.pages END;
    cut := CASE WHEN in_toast THEN t.cut ELSE m.cut END;
    IF coalesce((pages - cut) * c_page < v_least OR pages - cut < v_share * (t.pages + m.pages), true) THEN
        in_toast := NULL; pages := NULL; cut := NULL;
        RETURN;
    END IF;
    cut := least(cut + 8 + pages / 50, pages - 1);
END $$;

-- Deletes rows and inserts them again; p_rows: where they lie. What has been deleted by others meanwhile stays so.
CREATE FUNCTION _prom_catalog.move_within(p_table name, p_rows tid[]) RETURNS int8
LANGUAGE plpgsql VOLATILE STRICT SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
    v_n int8;
BEGIN
    EXECUTE format($sql$
        WITH gone AS (
            DELETE FROM _prom_data.%1$I b WHERE b.ctid = ANY ($1)
            RETURNING id, tenant_id, metric_id, dist_key, level, kind, format, series_lo, series_hi, t_min, t_max,
                      n_series, n_samples, data
        )
        INSERT INTO _prom_data.%1$I (id, tenant_id, metric_id, dist_key, level, kind, format, series_lo, series_hi,
                                     t_min, t_max, n_series, n_samples, data)
        SELECT * FROM gone ORDER BY metric_id, t_min, id$sql$, p_table) USING p_rows;
    GET DIAGNOSTICS v_n = ROW_COUNT;
    RETURN v_n;
END $$;

-- All rows of which something lies in these pages, if they fit into p_room. One that the server cannot read stays, as do
-- its pages.
CREATE FUNCTION _prom_catalog.empty_pages(p_table name, p_in_toast bool, p_from int8, p_to int8, p_room int8,
                                          OUT fits bool, OUT moved int8, OUT failed int8)
LANGUAGE plpgsql VOLATILE STRICT SET search_path = pg_catalog, pg_temp SET jit = off SET enable_tidscan = on AS $$
DECLARE
    v_pages CONSTANT text := format('ctid >= ''(%s,0)'' AND ctid < ''(%s,0)''', p_from, p_to);
    v_toast CONSTANT regclass := (SELECT reltoastrelid FROM pg_class
                                  WHERE oid = to_regclass(format('_prom_data.%I', p_table)));
    v_rows tid[];
    v_row tid;
BEGIN
    EXECUTE format('SELECT array_agg(b.ctid), coalesce(sum(%s), 0) <= $1 FROM _prom_data.%I b WHERE ',
                   -- without reading values, of which one may be lost
                   CASE WHEN p_in_toast THEN '(octet_length(b.data) / 1996 + 1) * 2036' ELSE 'octet_length(b.data) + 150' END,
                   p_table) || CASE
        WHEN p_in_toast THEN format('_prom_ext.toast_value(b.data) IN (SELECT t.chunk_id FROM %s t WHERE %s)',
                                    v_toast, v_pages)
        ELSE v_pages END INTO v_rows, fits USING p_room;
    moved := 0; failed := 0;
    IF v_rows IS NULL OR NOT fits THEN
        RETURN;
    END IF;
    BEGIN
        moved := _prom_catalog.move_within(p_table, v_rows);
        RETURN;
    EXCEPTION WHEN data_corrupted OR index_corrupted OR io_error OR undefined_file OR internal_error THEN
        NULL; -- some of them, as a rule one
    END;
    FOREACH v_row IN ARRAY v_rows LOOP
        BEGIN
            moved := moved + _prom_catalog.move_within(p_table, ARRAY[v_row]);
        EXCEPTION WHEN data_corrupted OR index_corrupted OR io_error OR undefined_file OR internal_error THEN
            failed := failed + 1;
        END;
    END LOOP;
END $$;

-- The rest is VACUUM's. A reader in its way, or an old snapshot: it is called for again, later and later.
CREATE FUNCTION _prom_catalog.want_end_cut_off(p_table name) RETURNS void
LANGUAGE sql VOLATILE STRICT SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO _prom_catalog.vacuum_queue (table_name, frozen, shrink) VALUES (p_table, true, true)
        ON CONFLICT (table_name) DO UPDATE SET frozen = true, shrink = true;
    UPDATE _prom_catalog.compaction SET tries = tries + 1, cut = at_page,
        next_try = now() + least('10 min'::interval * 2 ^ least(tries, 10), '1 day') WHERE table_name = p_table;
$$;

-- For a day.
CREATE FUNCTION _prom_catalog.leave_as_it_is(p_table name) RETURNS void
LANGUAGE sql VOLATILE STRICT SET search_path = pg_catalog, pg_temp AS $$
    UPDATE _prom_catalog.compaction SET tries = 12, cut = at_page, next_try = now() + '1 day'::interval
    WHERE table_name = p_table
$$;

-- A piece of a file. Where there is no room for it before the cut, since others have taken it, or the file grows, that
-- is all.
CREATE FUNCTION _prom_catalog.compact_piece(c _prom_catalog.compaction, OUT detail text)
LANGUAGE plpgsql VOLATILE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_file CONSTANT oid := (SELECT CASE WHEN c.in_toast THEN k.reltoastrelid ELSE k.oid END FROM pg_class k
                            WHERE k.oid = to_regclass(format('_prom_data.%I', c.table_name)));
    v_size CONSTANT int8 := pg_relation_size(v_file);
    v_room CONSTANT int8 := (SELECT s.room FROM _prom_ext.file_space(
        v_file, _prom_catalog.piece_size(c.table_name, c.in_toast), c.cut) s);
    -- each piece reads the map of the whole file, so it is a piece of a size that goes with it
    v_from CONSTANT int8 := greatest(c.cut, c.at_page - greatest(least(1024, 16 + (c.pages - c.cut) / 8), c.pages / 512));
    r record;
BEGIN
    SELECT * INTO r FROM _prom_catalog.empty_pages(c.table_name, c.in_toast, v_from, c.at_page, v_room);
    IF r.fits THEN
        UPDATE _prom_catalog.compaction SET at_page = v_from WHERE table_name = c.table_name;
    ELSIF c.at_page = c.pages THEN
        PERFORM _prom_catalog.leave_as_it_is(c.table_name);
        detail := format('%s: no room', c.table_name);
        RETURN;
    END IF;
    IF NOT r.fits OR v_from <= c.cut OR pg_relation_size(v_file) > v_size THEN
        PERFORM _prom_catalog.want_end_cut_off(c.table_name);
    END IF;
    detail := format('%s: %s rows of pages %s to %s moved, %s cannot be read', c.table_name, r.moved, v_from, c.at_page,
                     r.failed);
END $$;

-- A table whose rows have been moved: is the end off? Half of what was hoped for is enough. If not, what VACUUM has freed
-- since is looked at, and VACUUM called for again. NULL: not yet.
CREATE FUNCTION _prom_catalog.compaction_ends(c _prom_catalog.compaction, p_force bool, OUT detail text)
LANGUAGE plpgsql VOLATILE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_due CONSTANT bool := c.next_try <= now() OR c.next_try > now() + '2 days'::interval;
    v_pages CONSTANT int8 := pg_relation_size((
        SELECT CASE WHEN c.in_toast THEN k.reltoastrelid ELSE k.oid END FROM pg_class k
        WHERE k.oid = to_regclass(format('_prom_data.%I', c.table_name)))) / current_setting('block_size')::int8;
    v_file record;
BEGIN
    IF v_pages < c.pages AND v_pages <= (c.cut + c.pages) / 2 OR c.tries >= 12 AND v_due THEN
        DELETE FROM _prom_catalog.compaction WHERE table_name = c.table_name;
        detail := format('%s: %s pages of %s are left', c.table_name, v_pages, c.pages);
    ELSIF c.tries < 12 AND (v_due OR p_force)
          AND NOT EXISTS (SELECT FROM _prom_catalog.vacuum_queue q WHERE q.table_name = c.table_name AND q.shrink) THEN
        SELECT * INTO v_file FROM _prom_catalog.hollow_file(c.table_name);
        IF v_file.in_toast IS NULL THEN
            PERFORM _prom_catalog.want_end_cut_off(c.table_name);
        ELSE
            UPDATE _prom_catalog.compaction SET in_toast = v_file.in_toast, pages = v_file.pages, cut = v_file.cut,
                at_page = v_file.pages WHERE table_name = c.table_name;
        END IF;
    END IF;
END $$;

-- Looks for the next table to be made smaller: one that has waited for an hour without new rows, or a new one,
-- which waits from now on. NULL: there is none. A look reads a byte for each page: with very many in another order each
-- time, for two seconds.
CREATE FUNCTION _prom_catalog.begin_compaction(p_force bool) RETURNS _prom_catalog.compaction
LANGUAGE plpgsql VOLATILE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_until CONSTANT timestamptz := clock_timestamp() + CASE WHEN p_force THEN '1 hour' ELSE '2 s' END::interval;
    v_name name;
    v_newest int8;
    v_file record;
    c _prom_catalog.compaction;
BEGIN
    FOR v_name IN SELECT t.name FROM _prom_catalog.tables_to_compact(p_force) t (name)
                  LEFT JOIN _prom_catalog.compaction w ON w.table_name = t.name
                  ORDER BY w.table_name IS NULL, CASE WHEN NOT p_force THEN random() END, t.name LOOP
        EXIT WHEN clock_timestamp() > v_until;
        SELECT * INTO c FROM _prom_catalog.compaction WHERE table_name = v_name;
        CONTINUE WHEN c.in_toast IS NOT NULL -- its rows have been moved
                   OR NOT p_force AND c.next_try > now() AND c.next_try < now() + '2 hours'::interval;
        SELECT * INTO v_file FROM _prom_catalog.hollow_file(v_name);
        IF v_file.in_toast IS NULL THEN
            DELETE FROM _prom_catalog.compaction WHERE table_name = v_name;
            CONTINUE;
        END IF;
        EXECUTE format('SELECT coalesce(max(id), 0) FROM _prom_data.%I', v_name) INTO v_newest;
        IF NOT p_force AND c.newest_id IS DISTINCT FROM v_newest THEN
            INSERT INTO _prom_catalog.compaction (table_name, newest_id, next_try)
                VALUES (v_name, v_newest, now() + '1 hour'::interval)
                ON CONFLICT (table_name) DO UPDATE SET newest_id = excluded.newest_id, next_try = excluded.next_try;
            CONTINUE;
        END IF;
        INSERT INTO _prom_catalog.compaction (table_name, newest_id, next_try, in_toast, pages, cut, at_page)
            VALUES (v_name, v_newest, now(), v_file.in_toast, v_file.pages, v_file.cut, v_file.pages)
            ON CONFLICT (table_name) DO UPDATE SET newest_id = excluded.newest_id, next_try = excluded.next_try,
                in_toast = excluded.in_toast, pages = excluded.pages, cut = excluded.cut, at_page = excluded.at_page,
                tries = 0
            RETURNING * INTO c;
        RETURN c;
    END LOOP;
    RETURN NULL;
END $$;

-- The next piece. What stops one table (somebody has built a foreign key on it, say) stops no other.
CREATE FUNCTION _prom_catalog.compact_next(p_force bool, OUT outcome text, OUT detail text)
LANGUAGE plpgsql VOLATILE STRICT SET search_path = pg_catalog, pg_temp SET lock_timeout = '200ms' AS $$
DECLARE
    c _prom_catalog.compaction;
BEGIN
    outcome := 'idle';
    SELECT * INTO c FROM _prom_catalog.compaction WHERE at_page > cut ORDER BY table_name LIMIT 1;
    IF NOT FOUND THEN
        FOR c IN SELECT * FROM _prom_catalog.compaction WHERE in_toast IS NOT NULL LOOP
            detail := coalesce(_prom_catalog.compaction_ends(c, p_force), detail);
        END LOOP;
        IF detail IS NOT NULL THEN
            outcome := 'done';
        END IF;
        SELECT * INTO c FROM _prom_catalog.compaction WHERE at_page > cut ORDER BY table_name LIMIT 1;
        IF NOT FOUND THEN
            c := _prom_catalog.begin_compaction(p_force);
        END IF;
    END IF;
    IF c.table_name IS NOT NULL THEN
        BEGIN
            detail := _prom_catalog.compact_piece(c);
            outcome := 'more';
        EXCEPTION WHEN lock_not_available THEN
            outcome := 'idle'; -- somebody has locked the table
        WHEN OTHERS THEN
            PERFORM _prom_catalog.leave_as_it_is(c.table_name);
            outcome := 'failed';
            detail := format('%s: %s', c.table_name, SQLERRM);
        END;
    END IF;
END $$;

CREATE FUNCTION _prom_catalog.step_compact(p_force bool, OUT outcome text, OUT detail text, OUT next_in interval,
                                           OUT left_over int8)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    r record;
BEGIN
    outcome := 'idle';
    IF NOT _prom_catalog.setting('compact')::bool THEN
        RETURN;
    END IF;
    DELETE FROM _prom_catalog.compaction
        WHERE table_name NOT IN (SELECT t.name FROM _prom_catalog.tables_to_compact(true) t (name));
    SELECT * INTO r FROM _prom_catalog.compact_next(p_force);
    outcome := r.outcome;
    detail := r.detail;
    next_in := CASE outcome WHEN 'more' THEN '0'::interval
        ELSE (SELECT greatest(min(next_try) - now(), '1 min') FROM _prom_catalog.compaction
              WHERE next_try < now() + '1 hour'::interval) END;
END $$;

REVOKE ALL ON FUNCTION _prom_ext.file_space, _prom_ext.toast_value, _prom_catalog.tables_to_compact,
    _prom_catalog.piece_size, _prom_catalog.hollow_file, _prom_catalog.move_within, _prom_catalog.empty_pages, _prom_catalog.want_end_cut_off,
    _prom_catalog.leave_as_it_is, _prom_catalog.compact_piece, _prom_catalog.compaction_ends, _prom_catalog.begin_compaction,
    _prom_catalog.compact_next, _prom_catalog.step_compact FROM PUBLIC;
