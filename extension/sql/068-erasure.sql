-- Erased bytes leave the files. Whoever deletes what somebody wants gone (samples, series, labels) puts the
-- table on a list here; after a round of maintenance it is vacuumed, and then the free space of its pages is
-- zeroed (src/wipe.c), in several rounds where it is large. A table stays on the list until no row that was deleted
-- before is left in it: VACUUM cannot remove what an old snapshot may still see.

CREATE TABLE _prom_catalog.erasure (
    table_name text PRIMARY KEY,                  -- with its schema
    erased_by  xid8 NOT NULL,                     -- the last transaction that asked
    erased_at  timestamptz NOT NULL,
    in_toast   bool NOT NULL DEFAULT false,       -- how far we are: in the TOAST table already,
    next_page  int8 NOT NULL DEFAULT 0,           -- and at which page
    failures   int4 NOT NULL DEFAULT 0,           -- in a row: deleted rows were still there
    next_try   timestamptz NOT NULL
);
COMMENT ON TABLE _prom_catalog.erasure IS 'tables whose free space is to be zeroed, since something was erased in them';

CREATE FUNCTION _prom_ext.wipe_pages(p_table oid, p_from int8, p_max int8, p_horizon xid8,
                                     OUT next_page int8, OUT kept int8, OUT wiped int8)
    AS 'MODULE_PATHNAME', 'wipe_pages' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

-- In the transaction that erases. Names of tables come with their schema.
CREATE FUNCTION _prom_catalog.note_erased(p_tables text[]) RETURNS void
LANGUAGE sql VOLATILE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO _prom_catalog.erasure AS e (table_name, erased_by, erased_at, next_try)
    SELECT DISTINCT format('%I.%I', n.nspname, c.relname), pg_current_xact_id(), now(), now()
    FROM unnest(p_tables) u (name) JOIN pg_class c ON c.oid = to_regclass(u.name)
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname IN ('_prom_data', '_prom_catalog') AND c.relkind = 'r'
    ORDER BY 1
    ON CONFLICT (table_name) DO UPDATE SET erased_by = excluded.erased_by, erased_at = excluded.erased_at,
        next_try = excluded.next_try, in_toast = false, next_page = 0, failures = 0
$$;

-- One go at one table, after its VACUUM: at most p_pages pages. p_erased_by: who was the last to ask when VACUUM was
-- called for; what somebody has erased since is not vacuumed yet. p_horizon: rows deleted before it should be gone.
CREATE FUNCTION _prom_catalog.wipe_erased(p_table text, p_erased_by xid8, p_horizon xid8, p_pages int8 DEFAULT 131072)
RETURNS int8
LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    e _prom_catalog.erasure;
    v_table CONSTANT oid := to_regclass(p_table);
    v_toast CONSTANT oid := (SELECT reltoastrelid FROM pg_class WHERE pg_class.oid = v_table);
    c_go CONSTANT int8 := 1024; -- pages
    v_left int8 := p_pages;
    v_done bool := coalesce((SELECT a.amname <> 'heap' FROM pg_class c JOIN pg_am a ON a.oid = c.relam
                             WHERE c.oid = v_table), true); -- gone, or pages that we do not know
    v_wiped int8 := 0;
    r record;
BEGIN
    SELECT * INTO e FROM _prom_catalog.erasure WHERE table_name = p_table AND erased_by = p_erased_by;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    WHILE v_left > 0 AND NOT v_done LOOP
        SELECT * INTO r FROM _prom_ext.wipe_pages(CASE WHEN e.in_toast THEN v_toast ELSE v_table END, e.next_page,
                                                  least(v_left, c_go), p_horizon);
        v_wiped := v_wiped + r.wiped;
        v_left := v_left - c_go;
        IF r.kept > 0 THEN -- from here on once more, when VACUUM could remove them
            UPDATE _prom_catalog.erasure SET in_toast = e.in_toast, next_page = e.next_page, failures = failures + 1,
                   next_try = now() + least('5 s'::interval * 2 ^ least(failures, 10), '10 min')
            WHERE table_name = p_table AND erased_by = e.erased_by;
            RETURN v_wiped;
        ELSIF r.next_page IS NOT NULL THEN
            e.next_page := r.next_page;
        ELSIF e.in_toast OR v_toast = 0 THEN
            v_done := true;
        ELSE
            e.in_toast := true;
            e.next_page := 0;
        END IF;
    END LOOP;
    IF v_done THEN -- unless somebody has erased more meanwhile
        DELETE FROM _prom_catalog.erasure WHERE table_name = p_table AND erased_by = e.erased_by;
    ELSE
        UPDATE _prom_catalog.erasure SET in_toast = e.in_toast, next_page = e.next_page, failures = 0
        WHERE table_name = p_table AND erased_by = e.erased_by;
    END IF;
    RETURN v_wiped;
END $$;

-- What take_vacuums() (070) adds for tables on the list: VACUUM, and behind all of those what zeroes.
CREATE FUNCTION _prom_catalog.erasure_commands(OUT vacuum bool, OUT table_name text, OUT command text)
RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT k.vacuum, e.table_name,
           CASE WHEN k.vacuum THEN format('VACUUM (TRUNCATE off) %s', e.table_name)
                ELSE format('SELECT _prom_catalog.wipe_erased(%L, %L, %L)', e.table_name, e.erased_by,
                            pg_snapshot_xmax(pg_current_snapshot())) END
    FROM _prom_catalog.erasure e, (VALUES (true), (false)) k (vacuum)
    WHERE (e.next_try <= now() OR e.next_try > now() + '1 hour') AND (to_regclass(e.table_name) IS NOT NULL OR NOT k.vacuum)
$$;

-- ---- labels ----------------------------------------------------------------------------------------

-- Ids of labels that no series uses but these; not of metrics' names. To be asked before a lock is taken that stops
-- ingest; forget_labels() looks again. Most labels are common, and the index gives out every series that has one. So it
-- is asked only about those that neither the series that came just before and after have, which are of the same targets,
-- nor those in a few pages of the table, taken at random; and not before what waits to be added to it is in it, since
-- every probe would read that.
CREATE FUNCTION _prom_catalog.lone_labels(p_series int8[]) RETURNS int4[]
LANGUAGE sql VOLATILE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off AS $$
    SELECT gin_clean_pending_list('_prom_catalog.series_labels_idx') WHERE cardinality(p_series) > 0;
    WITH gone AS MATERIALIZED (SELECT DISTINCT id FROM unnest(p_series) p (id)),
    here AS MATERIALIZED (
        SELECT label AS id, count(*) AS n, min(s.id) AS first, max(s.id) AS last
        FROM gone JOIN _prom_catalog.series s ON s.id = gone.id, unnest(s.labels) label
        WHERE label <> 0 GROUP BY label),
    named AS MATERIALIZED (
        SELECT here.* FROM here JOIN _prom_catalog.label l ON l.id = here.id
        JOIN _prom_catalog.label_key k ON k.id = l.key_id AND k.key <> '__name__'),
    common AS MATERIALIZED (
        SELECT DISTINCT label AS id
        FROM (SELECT id, labels FROM _prom_catalog.series TABLESAMPLE SYSTEM (least(100, 100.0 * 64 /
              greatest(1, pg_relation_size('_prom_catalog.series') / current_setting('block_size')::int8)))) s,
             unnest(s.labels) label
        WHERE s.id NOT IN (SELECT id FROM gone))
    SELECT coalesce(array_agg(u.id), '{}')
    FROM named u
    WHERE CASE
        WHEN EXISTS (SELECT FROM (SELECT labels FROM _prom_catalog.series s WHERE s.id < u.first
                                  ORDER BY s.id DESC LIMIT 8) near WHERE u.id = ANY (near.labels)) THEN false
        WHEN EXISTS (SELECT FROM (SELECT labels FROM _prom_catalog.series s WHERE s.id > u.last
                                  ORDER BY s.id LIMIT 8) near WHERE u.id = ANY (near.labels)) THEN false
        WHEN u.id IN (SELECT id FROM common) THEN false
        ELSE (SELECT count(*) FROM (SELECT FROM _prom_catalog.series s
                                    WHERE s.labels @> ARRAY[u.id] LIMIT u.n + 1) used) <= u.n END
$$;

-- Deletes those of these labels that no series uses: the guard lock, held alone to the end of the transaction,
-- keeps others from using one meanwhile. SECURITY DEFINER: a policy must not hide a series that uses one.
CREATE FUNCTION _prom_catalog.forget_labels(p_labels int4[]) RETURNS int8
LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off AS $$
DECLARE
    v_n int8;
BEGIN
    IF cardinality(p_labels) = 0 THEN
        RETURN 0;
    END IF;
    PERFORM pg_advisory_xact_lock(x'50524f4d00000001'::int8);
    -- every probe would read what waits to be added to the index
    PERFORM gin_clean_pending_list('_prom_catalog.series_labels_idx');
    DELETE FROM _prom_catalog.label l USING (SELECT DISTINCT id FROM unnest(p_labels) u (id)) u
    WHERE l.id = u.id AND NOT EXISTS (SELECT FROM _prom_catalog.series s WHERE s.labels @> ARRAY[u.id] OFFSET 0);
    GET DIAGNOSTICS v_n = ROW_COUNT;
    IF v_n > 0 THEN
        PERFORM _prom_catalog.note_erased('{_prom_catalog.label}');
    END IF;
    RETURN v_n;
END $$;

REVOKE ALL ON FUNCTION _prom_ext.wipe_pages, _prom_catalog.note_erased, _prom_catalog.wipe_erased,
    _prom_catalog.erasure_commands, _prom_catalog.lone_labels, _prom_catalog.forget_labels FROM PUBLIC;
GRANT EXECUTE ON FUNCTION _prom_catalog.wipe_erased TO prom_maintenance;

-- ANALYZE would copy values into pg_statistic, where nobody looks for them; no plan needs these columns' figures.
ALTER TABLE _prom_data.fresh ALTER data SET STATISTICS 0;
ALTER TABLE _prom_data.merged ALTER data SET STATISTICS 0;
ALTER TABLE _prom_data.block ALTER data SET STATISTICS 0;
ALTER TABLE _prom_data.block_far ALTER data SET STATISTICS 0;
ALTER TABLE _prom_data.exemplar ALTER value SET STATISTICS 0, ALTER labels SET STATISTICS 0;
ALTER TABLE _prom_catalog.label ALTER value SET STATISTICS 0;
