-- One table a day for sealed blocks: made ahead of time, or when the sealer needs one.

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
    EXECUTE format('ALTER TABLE _prom_data.%I ALTER data SET STATISTICS 0', v_name); -- 068
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

CREATE FUNCTION _prom_catalog.step_partitions(p_force bool, OUT outcome text, OUT detail text, OUT next_in interval,
                                              OUT left_over int8)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    detail := format('%s partitions made', _prom_catalog.ensure_partitions());
    IF EXISTS (SELECT FROM _prom_catalog.partitions()) THEN
        outcome := 'done';
    ELSE  -- the first metric does not wait for five minutes
        outcome := 'idle';
        next_in := '0';
    END IF;
END $$;

REVOKE ALL ON FUNCTION _prom_catalog.partition_days, _prom_catalog.partitions, _prom_catalog.make_partition,
    _prom_catalog.ensure_partitions, _prom_catalog.step_partitions FROM PUBLIC;
GRANT EXECUTE ON FUNCTION _prom_catalog.ensure_partitions TO prom_maintenance;
