-- Small things that would grow without end: the feed of deletions, exemplars.

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
    IF v_job.feed_marked BETWEEN now() - '1 hour'::interval AND now() THEN -- not by a clock that was ahead
        RETURN 0;
    END IF;
    IF v_job.feed_mark IS NOT NULL AND v_job.feed_mark <= pg_snapshot_xmin(pg_current_snapshot()) THEN
        UPDATE _prom_catalog.state SET feed_floor = v_job.feed_mark WHERE feed_floor < v_job.feed_mark;
        DELETE FROM _prom_catalog.series_feed WHERE tx < v_job.feed_mark;
        GET DIAGNOSTICS v_n = ROW_COUNT;
    END IF;
    INSERT INTO _prom_catalog.job (name, feed_marked, next_run, feed_mark)
        VALUES ('trim_feed', now(), now() + '1 hour'::interval, pg_snapshot_xmin(pg_current_snapshot()))
        ON CONFLICT (name) DO UPDATE SET feed_marked = excluded.feed_marked, feed_mark = excluded.feed_mark;
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

CREATE FUNCTION _prom_catalog.step_trim_feed(p_force bool, OUT outcome text, OUT detail text, OUT next_in interval,
    OUT left_over int8)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    detail := format('%s rows of the feed', _prom_catalog.trim_feed());
    outcome := 'done';
END $$;

CREATE FUNCTION _prom_catalog.step_trim_exemplars(p_force bool, OUT outcome text, OUT detail text, OUT next_in interval,
    OUT left_over int8)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    detail := format('%s exemplars', _prom_catalog.trim_exemplars());
    outcome := 'done';
END $$;

REVOKE ALL ON FUNCTION _prom_catalog.trim_feed, _prom_catalog.trim_exemplars, _prom_catalog.step_trim_feed,
    _prom_catalog.step_trim_exemplars FROM PUBLIC;
GRANT EXECUTE ON FUNCTION _prom_catalog.trim_feed, _prom_catalog.trim_exemplars TO prom_maintenance;
