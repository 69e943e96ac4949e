-- Looking after the figures of 021-figures.sql, and the one view that stands under somebody else's name.

-- What metric_day says of merged and sealed rows, read from them. Hours: those from the first to the
-- last sample of each row.
CREATE VIEW _prom_catalog.stored_rows WITH (security_invoker = true) AS
SELECT metric_id, tenant_id, level, t_min, n_samples, octet_length(data) AS bytes,
       (t_min AT TIME ZONE 'UTC')::date AS day,
       ((1 << (CASE WHEN (t_min AT TIME ZONE 'UTC')::date = (t_max AT TIME ZONE 'UTC')::date
                    THEN extract(hour FROM t_max AT TIME ZONE 'UTC')::int4 ELSE 23 END
               - extract(hour FROM t_min AT TIME ZONE 'UTC')::int4 + 1)) - 1)
           << extract(hour FROM t_min AT TIME ZONE 'UTC')::int4 AS hours
FROM (SELECT metric_id, tenant_id, level, t_min, t_max, n_samples, data FROM _prom_data.merged
      UNION ALL SELECT metric_id, tenant_id, level, t_min, t_max, n_samples, data FROM _prom_data.block
      UNION ALL SELECT metric_id, tenant_id, level, t_min, t_max, n_samples, data
                FROM _prom_data.block_far) r;
COMMENT ON VIEW _prom_catalog.stored_rows IS 'merged and sealed rows as prom_info counts them';

-- Makes metric_day what stored_rows says: of all (every argument NULL), of one metric, or of pairs of
-- metric and day. Returns how many rows were wrong. The caller holds the maintenance lock.
CREATE FUNCTION _prom_catalog.correct_figures(p_metric_id int4, p_metrics int4[], p_days date[])
RETURNS int8
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET jit = off AS $$
DECLARE
    v_rows CONSTANT text := CASE
        WHEN p_metrics IS NOT NULL THEN
            'JOIN (SELECT DISTINCT * FROM unnest($2, $3) u (metric_id, day)) p ON r.metric_id = p.metric_id'
            ' AND r.t_min >= p.day::timestamptz AND r.t_min < (p.day + 1)::timestamptz'
        WHEN p_metric_id IS NOT NULL THEN 'WHERE r.metric_id = $1'
        ELSE '' END;
    v_figures CONSTANT text := CASE
        WHEN p_metrics IS NOT NULL THEN '(d.metric_id, d.day) IN (SELECT * FROM unnest($2, $3))'
        WHEN p_metric_id IS NOT NULL THEN 'd.metric_id = $1'
        ELSE 'true' END;
    v_wrong int8;
BEGIN
    EXECUTE format($sql$
        WITH found AS MATERIALIZED (
            SELECT r.metric_id, r.day, r.tenant_id,
                   count(*) FILTER (WHERE level < 2)::int4 AS merged_rows,
                   count(*) FILTER (WHERE level = 2)::int4 AS sealed_rows,
                   coalesce(bit_or(hours) FILTER (WHERE level < 2), 0) AS merged_hours,
                   coalesce(bit_or(hours) FILTER (WHERE level = 2), 0) AS sealed_hours,
                   coalesce(sum(n_samples) FILTER (WHERE level < 2), 0)::int8 AS merged_samples,
                   coalesce(sum(n_samples) FILTER (WHERE level = 2), 0)::int8 AS sealed_samples,
                   coalesce(sum(bytes) FILTER (WHERE level < 2), 0)::int8 AS merged_bytes,
                   coalesce(sum(bytes) FILTER (WHERE level = 2), 0)::int8 AS sealed_bytes
            FROM _prom_catalog.stored_rows r %s
            GROUP BY r.metric_id, r.day, r.tenant_id
        ), gone AS (
            DELETE FROM _prom_catalog.metric_day d WHERE %s AND NOT EXISTS (
                SELECT FROM found f
                WHERE (f.metric_id, f.day, f.tenant_id) = (d.metric_id, d.day, d.tenant_id))
            RETURNING 1
        ), put AS (
            INSERT INTO _prom_catalog.metric_day AS d (metric_id, day, tenant_id, merged_rows, sealed_rows,
                merged_hours, sealed_hours, merged_samples, sealed_samples, merged_bytes, sealed_bytes)
            SELECT * FROM found
            ON CONFLICT (metric_id, day, tenant_id) DO UPDATE SET
                merged_rows = excluded.merged_rows, sealed_rows = excluded.sealed_rows,
                merged_hours = excluded.merged_hours, sealed_hours = excluded.sealed_hours,
                merged_samples = excluded.merged_samples, sealed_samples = excluded.sealed_samples,
                merged_bytes = excluded.merged_bytes, sealed_bytes = excluded.sealed_bytes
            WHERE d.* IS DISTINCT FROM excluded.*
            RETURNING 1
        )
        SELECT (SELECT count(*) FROM gone) + (SELECT count(*) FROM put)
        $sql$, v_rows, v_figures) INTO v_wrong USING p_metric_id, p_metrics, p_days;
    RETURN v_wrong;
END $$;

-- Counts anew what prom_info shows of one metric or of all, from the rows themselves: after a restore
-- without figures, or after somebody has changed rows by hand. Returns how many rows of figures (one a
-- metric and day) were wrong.
CREATE FUNCTION _prom_catalog.recount(p_metric_id int4 DEFAULT NULL) RETURNS int8
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'counting needs isolation level READ COMMITTED' USING ERRCODE = '25001',
            HINT = 'Otherwise it would not see what maintenance has done since the transaction began.';
    END IF;
    PERFORM pg_advisory_xact_lock(x'50524f4d00000002'::int8);
    RETURN _prom_catalog.correct_figures(p_metric_id, NULL, NULL);
END $$;
COMMENT ON FUNCTION _prom_catalog.recount(int4) IS
    'counts anew what prom_info shows of one metric, or of all; returns how many figures were wrong';

-- For those who delete a metric with all its rows, in their transaction.
CREATE FUNCTION _prom_catalog.forget_figures(p_metric_id int4) RETURNS void
LANGUAGE sql VOLATILE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    DELETE FROM _prom_catalog.metric_day WHERE metric_id = p_metric_id;
    DELETE FROM _prom_catalog.metric_conflict WHERE metric_id = p_metric_id;
$$;

-- For those who find samples that an earlier one of the same series and time keeps out.
CREATE FUNCTION _prom_catalog.count_conflicts(p_metric_id int4, p_duplicates int8, p_conflicts int8,
                                              p_tenant_id int4 DEFAULT 0) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF p_duplicates < 0 OR p_conflicts < 0 THEN
        RAISE EXCEPTION 'the number of duplicates and conflicts cannot be negative' USING ERRCODE = '22023';
    END IF;
    IF p_duplicates > 0 OR p_conflicts > 0 THEN
        INSERT INTO _prom_catalog.metric_conflict (metric_id, tenant_id, duplicates, conflicts)
            VALUES (p_metric_id, p_tenant_id, p_duplicates, p_conflicts);
    END IF;
END $$;

-- One row a metric and tenant of all that has gathered. The caller holds the maintenance lock.
CREATE FUNCTION _prom_catalog.add_up_conflicts() RETURNS int8
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    WITH many AS (
        SELECT metric_id, tenant_id FROM _prom_catalog.metric_conflict
        GROUP BY metric_id, tenant_id HAVING count(*) > 1
    ), gone AS (
        DELETE FROM _prom_catalog.metric_conflict c USING many m
        WHERE (c.metric_id, c.tenant_id) = (m.metric_id, m.tenant_id)
        RETURNING c.*
    ), put AS (
        INSERT INTO _prom_catalog.metric_conflict (metric_id, tenant_id, duplicates, conflicts)
        SELECT metric_id, tenant_id, sum(duplicates)::int8, sum(conflicts)::int8
        FROM gone GROUP BY metric_id, tenant_id
    )
    SELECT count(*) FROM gone
$$;

-- Makes figures and presence where there are none of what is stored: a restore has left them out. Not while one is
-- under way, which would bring its own and find these; sequences come after all tables. Returns how many figures.
CREATE FUNCTION _prom_catalog.count_left_out() RETURNS int8
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_counted int8 := 0;
BEGIN
    IF NOT (SELECT is_called FROM _prom_data.block_id_seq) THEN
        RETURN 0;
    END IF;
    IF NOT EXISTS (SELECT FROM _prom_catalog.metric_day)
       AND (EXISTS (SELECT FROM _prom_data.merged) OR EXISTS (SELECT FROM _prom_data.block)
            OR EXISTS (SELECT FROM _prom_data.block_far)) THEN
        v_counted := _prom_catalog.correct_figures(NULL, NULL, NULL);
    END IF;
    IF _prom_catalog.presence_is_missing() THEN
        PERFORM _prom_catalog.recount_presence();
    END IF;
    RETURN v_counted;
END $$;
REVOKE ALL ON FUNCTION _prom_catalog.count_left_out() FROM PUBLIC;

-- The step: figures and presence that a restore has left out, conflicts, the view below.
CREATE FUNCTION _prom_catalog.tend_figures() RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_counted CONSTANT int8 := _prom_catalog.count_left_out();
    v_added int8;
BEGIN
    v_added := _prom_catalog.add_up_conflicts();
    RETURN format('%s figures counted, %s counts of conflicts added up, compressed_hypertable_stats: %s',
                  v_counted, v_added, _prom_catalog.sync_timescaledb_view());
END $$;

-- ---- timescaledb_information.compressed_hypertable_stats ----------------------------------------
--
-- Where TimescaleDB is absent we have this view of it. CREATE EXTENSION timescaledb makes the schema
-- itself and fails where there is one, so ours exists only while nobody could want that: as long as the
-- server does not offer timescaledb; when it does, maintenance takes the view away (a restore could not
-- wait for that: dumps install promscale before timescaledb). It is a member of this extension, so it
-- goes with it and is in no dump. The setting timescaledb_view is auto, true (until timescaledb is
-- installed) or false; a call of this function makes it so at once. What others have built upon the view
-- keeps it; what others have made under its name is left alone.
CREATE FUNCTION _prom_catalog.sync_timescaledb_view() RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '200ms' AS $$
DECLARE
    v_schema CONSTANT oid := to_regnamespace('timescaledb_information')::oid;
    v_setting CONSTANT text := _prom_catalog.setting('timescaledb_view');
    v_wanted CONSTANT bool := v_setting <> 'false'
        AND NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')
        AND (v_setting = 'true'
             OR NOT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb'));
    v_ours CONSTANT bool := EXISTS (
        SELECT FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
        WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'promscale'
          AND d.classid = 'pg_namespace'::regclass AND d.objid = v_schema);
BEGIN
    IF v_wanted AND v_schema IS NULL THEN
        PERFORM _prom_catalog.make_timescaledb_view();
        RETURN 'made';
    ELSIF v_ours AND NOT v_wanted THEN
        ALTER EXTENSION promscale DROP VIEW timescaledb_information.compressed_hypertable_stats;
        ALTER EXTENSION promscale DROP SCHEMA timescaledb_information;
        DROP VIEW timescaledb_information.compressed_hypertable_stats;
        DROP SCHEMA timescaledb_information;
        RETURN 'dropped';
    END IF;
    RETURN CASE WHEN v_ours THEN 'there' WHEN v_schema IS NULL THEN 'not there' ELSE 'not ours' END;
EXCEPTION
    WHEN dependent_objects_still_exist THEN RETURN 'kept: ' || SQLERRM;
    WHEN lock_not_available THEN RETURN 'kept: in use';
END $$;

-- One row a metric that has compressed chunks; columns and types are those of TimescaleDB 1.x. Of a
-- block's row the data counts as toast, even where it is small enough to stand in the table.
CREATE FUNCTION _prom_catalog.make_timescaledb_view() RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    CREATE SCHEMA timescaledb_information;
    CREATE VIEW timescaledb_information.compressed_hypertable_stats WITH (security_invoker = true) AS
    SELECT coalesce(to_regclass(format('prom_data.%I', m.table_name)),
                    to_regclass(format('prom_metric.%I', m.table_name))) AS hypertable_name,
           m.total_chunks,
           m.compressed_chunks AS number_compressed_chunks,
           pg_size_pretty(m.sealed_samples * 52) AS uncompressed_heap_bytes,
           pg_size_pretty(m.sealed_samples * 36) AS uncompressed_index_bytes,
           pg_size_pretty(0::int8) AS uncompressed_toast_bytes,
           pg_size_pretty(m.sealed_samples * 88) AS uncompressed_total_bytes,
           pg_size_pretty(m.sealed_rows * 120) AS compressed_heap_bytes,
           pg_size_pretty(m.sealed_rows * 44) AS compressed_index_bytes,
           pg_size_pretty(m.sealed_bytes) AS compressed_toast_bytes,
           pg_size_pretty(m.sealed_bytes + m.sealed_rows * 164) AS compressed_total_bytes
    FROM _prom_catalog.metric_figures m WHERE m.sealed_rows > 0;
    COMMENT ON VIEW timescaledb_information.compressed_hypertable_stats IS
        'promscale: metrics with compressed chunks, as TimescaleDB 1.x shows hypertables';
    GRANT USAGE ON SCHEMA timescaledb_information TO prom_reader;
    GRANT SELECT ON timescaledb_information.compressed_hypertable_stats TO prom_reader;
    -- in the extension's script both are members already; tests run the parts without an extension
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'promscale')
       AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_namespace'::regclass AND deptype = 'e'
                   AND objid = to_regnamespace('timescaledb_information')::oid) THEN
        ALTER EXTENSION promscale ADD SCHEMA timescaledb_information;
        ALTER EXTENSION promscale ADD VIEW timescaledb_information.compressed_hypertable_stats;
    END IF;
END $$;
SELECT _prom_catalog.sync_timescaledb_view();

CREATE FUNCTION _prom_catalog.step_figures(p_force bool, OUT outcome text, OUT detail text, OUT next_in interval,
    OUT left_over int8)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    detail := _prom_catalog.tend_figures();
    outcome := 'done';
END $$;
REVOKE ALL ON FUNCTION _prom_catalog.step_figures FROM PUBLIC;
