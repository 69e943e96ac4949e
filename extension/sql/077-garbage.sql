-- Series without samples, and labels that no series has any more.
--
-- A series goes when no merged or sealed row (presence), no fresh row and no exemplar is its, and it was there
-- some hours ago (setting series_grace). Its metric stays, with views and columns: people have built on
-- them; drop_metric() is for that.
--
-- A connector may be about to store a sample under the id. So: look for candidates without locks; then take the
-- guard lock alone, for which every flush and every resolve that is under way must end, and look at fresh rows and
-- exemplars again: nothing else can have changed, since folding waits for this transaction; then delete,
-- tell the feed, and void the generation, so that a flush with ids of before resolves anew. The lock is waited
-- for 0.15 s at most, since others wait behind; else it is tried again a minute later.

-- How far the ids had come at some times: what is below was there already.
CREATE TABLE _prom_catalog.series_age (
    noted_at timestamptz PRIMARY KEY,
    last_id  int8 NOT NULL
);

-- One row: the round over all metrics, one a day.
CREATE TABLE _prom_catalog.garbage_round (
    one         bool PRIMARY KEY DEFAULT true CHECK (one),
    begun_at    timestamptz NOT NULL,
    next_metric int4                              -- NULL: the round is over
);

-- Labels of series that have gone: nobody may have them any more.
CREATE TABLE _prom_catalog.label_suspect (
    id     int4 PRIMARY KEY,
    looked bool NOT NULL DEFAULT false            -- a look at all series has found none
);

-- As series_alive() of 074; p_fresh_only: in fresh rows alone.
CREATE FUNCTION _prom_ext.series_alive(p_tenant_id int4, p_metrics int4[], p_from timestamptz,
                                       p_to timestamptz, p_fresh_only bool) RETURNS bytea
    AS 'MODULE_PATHNAME', 'series_alive' LANGUAGE C STABLE STRICT PARALLEL RESTRICTED COST 1000
    SET search_path = pg_catalog, pg_temp;

-- Waits for the guard lock, but not for long. False: others have it, or should have it, since so much is being stored
-- that everybody would wait behind us.
CREATE FUNCTION _prom_catalog.try_guard() RETURNS bool
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET lock_timeout = '150ms' AS $$
BEGIN
    IF _prom_catalog.fold_presses() THEN
        RETURN false;
    END IF;
    PERFORM pg_advisory_xact_lock(x'50524f4d00000001'::int8);
    RETURN true;
EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
    RETURN false;
END $$;

-- Series of a metric and tenant up to p_last_id that have no sample, as far as can be seen without a lock.
CREATE FUNCTION _prom_catalog.idle_series(p_metric_id int4, p_tenant_id int4, p_last_id int8) RETURNS int8[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
SET promscale.damaged_blocks = error AS $$ -- what a block left out does not say may be what keeps a series
DECLARE
    v_ids int8[] := ARRAY(SELECT id FROM _prom_catalog.series
                          WHERE metric_id = p_metric_id AND tenant_id = p_tenant_id AND id <= p_last_id ORDER BY id);
BEGIN
    -- most are alive today; the rest is looked for in all of the past
    v_ids := _prom_ext.ids_unseen(v_ids, _prom_ext.series_alive(p_tenant_id, ARRAY[p_metric_id],
                                                                now() - '1 day'::interval, 'infinity'));
    IF cardinality(v_ids) > 0 THEN
        v_ids := _prom_ext.ids_unseen(v_ids, _prom_ext.series_alive(p_tenant_id, ARRAY[p_metric_id],
                                                                    '-infinity', 'infinity'));
    END IF;
    RETURN ARRAY(SELECT i FROM unnest(v_ids) i WHERE NOT EXISTS (
        SELECT FROM _prom_data.exemplar x WHERE x.metric_id = p_metric_id AND x.series_id = i) ORDER BY i);
EXCEPTION WHEN data_corrupted OR feature_not_supported OR program_limit_exceeded THEN
    RAISE WARNING 'promscale: whether series of metric % have samples is not known: %', p_metric_id, SQLERRM;
    RETURN '{}';
END $$;

-- The last look, under the guard lock, and the end of these series. Returns how many have gone.
CREATE FUNCTION _prom_catalog.delete_idle_series(p_series int8[]) RETURNS int8
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET promscale.damaged_blocks = error AS $$
DECLARE
    v_group record;
    v_idle int8[] := '{}';
    v_gone int8[];
    v_labels int4[];
BEGIN
    FOR v_group IN
        SELECT tenant_id, array_agg(DISTINCT metric_id) AS metrics, array_agg(id ORDER BY id) AS ids
        FROM _prom_catalog.series WHERE id = ANY (p_series) GROUP BY tenant_id
    LOOP
        v_idle := v_idle || _prom_ext.ids_unseen(v_group.ids, _prom_ext.series_alive(
            v_group.tenant_id, v_group.metrics, '-infinity', 'infinity', true));
    END LOOP;
    WITH gone AS (
        DELETE FROM _prom_catalog.series s WHERE s.id = ANY (v_idle) AND NOT EXISTS (
            SELECT FROM _prom_data.exemplar x WHERE x.metric_id = s.metric_id AND x.series_id = s.id)
        RETURNING s.id, s.labels
    )
    SELECT (SELECT array_agg(id ORDER BY id) FROM gone),
           (SELECT array_agg(DISTINCT l ORDER BY l) FROM gone, unnest(labels) l WHERE l > 0) INTO v_gone, v_labels;
    IF cardinality(v_gone) > 0 THEN
        PERFORM _prom_catalog.feed_deleted(v_gone);
        PERFORM _prom_catalog.void_generation();
        INSERT INTO _prom_catalog.label_suspect (id) SELECT unnest(v_labels) ON CONFLICT DO NOTHING;
    END IF;
    RETURN coalesce(cardinality(v_gone), 0);
END $$;

-- Labels of which no series is left. A resolve that has found a label holds the guard lock until its
-- series is there, so what is unused under the lock stays unused. Ids of labels are in nobody's memory.
CREATE FUNCTION _prom_catalog.delete_unused_labels(OUT deleted int8, OUT waiting bool)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
    c_at_once CONSTANT int4 := 5000; -- so many probes of an index while the lock is held
    v_unused int4[];
BEGIN
    deleted := 0; waiting := false;
    IF NOT EXISTS (SELECT FROM _prom_catalog.label_suspect) THEN
        RETURN;
    END IF;
    -- one look at all series tells most of the used ones; what is left is deleted in several transactions
    IF EXISTS (SELECT FROM _prom_catalog.label_suspect WHERE NOT looked) THEN
        DELETE FROM _prom_catalog.label_suspect WHERE NOT looked AND id IN (
            SELECT u.id FROM _prom_catalog.series s, unnest(s.labels) l JOIN _prom_catalog.label_suspect u ON u.id = l
            WHERE NOT u.looked GROUP BY u.id);
        UPDATE _prom_catalog.label_suspect SET looked = true WHERE NOT looked;
    END IF;
    v_unused := ARRAY(SELECT id FROM _prom_catalog.label_suspect ORDER BY id LIMIT c_at_once);
    IF cardinality(v_unused) = 0 THEN
        RETURN;
    END IF;
    IF NOT _prom_catalog.try_guard() THEN
        waiting := true;
        RETURN;
    END IF;
    PERFORM set_config('enable_seqscan', 'off', true);
    DELETE FROM _prom_catalog.label WHERE id = ANY (v_unused)
        AND id <> ALL (ARRAY(SELECT l FROM _prom_catalog.series s, unnest(s.labels) l
                             WHERE s.labels && v_unused AND l = ANY (v_unused) GROUP BY l));
    GET DIAGNOSTICS deleted = ROW_COUNT;
    PERFORM set_config('enable_seqscan', 'on', true);
    DELETE FROM _prom_catalog.label_suspect WHERE id = ANY (v_unused);
END $$;

-- Goes on with the round for a second or two. more: there is more to do now; waiting: for the guard lock.
CREATE FUNCTION _prom_catalog.collect_garbage(p_force bool, OUT series int8, OUT labels int8, OUT more bool,
                                              OUT waiting bool)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c_at_once CONSTANT int4 := 10000;
    v_until CONSTANT timestamptz := clock_timestamp() + '1 s'::interval;
    v_grace CONSTANT interval := _prom_catalog.setting('series_grace')::interval;
    v_last_id int8;
    v_round _prom_catalog.garbage_round;
    v_metric int4;
    v_tenant int4;
    v_idle int8[] := '{}';
BEGIN
    series := 0; labels := 0; more := false; waiting := false;
    INSERT INTO _prom_catalog.series_age SELECT now(), last_value FROM _prom_catalog.series_id_seq
        ON CONFLICT DO NOTHING;
    DELETE FROM _prom_catalog.series_age -- those that a clock has written that was ahead, too
        WHERE noted_at NOT BETWEEN now() - v_grace - '1 day'::interval AND now();
    SELECT a.last_id INTO v_last_id FROM _prom_catalog.series_age a
        WHERE a.noted_at <= now() - v_grace ORDER BY a.noted_at DESC LIMIT 1;
    SELECT * INTO v_round FROM _prom_catalog.garbage_round;
    IF v_last_id IS NULL OR _prom_catalog.presence_is_missing() OR v_round.next_metric IS NULL AND NOT p_force
       AND v_round.begun_at BETWEEN now() - '1 day'::interval AND now() THEN
        RETURN;
    END IF;
    v_metric := coalesce(v_round.next_metric, -2147483648);
    LOOP
        SELECT s.metric_id INTO v_metric FROM _prom_catalog.series s
            WHERE s.metric_id >= v_metric ORDER BY s.metric_id LIMIT 1;
        EXIT WHEN NOT FOUND;
        more := true;
        EXIT WHEN clock_timestamp() > v_until OR cardinality(v_idle) >= c_at_once;
        more := false;
        -- of what cannot be read nobody knows whose it is
        IF NOT EXISTS (SELECT FROM _prom_catalog.maintenance_error e
                       WHERE e.metric_id IN (v_metric, _prom_ext.bucket(v_metric))) THEN
            FOR v_tenant IN SELECT DISTINCT s.tenant_id FROM _prom_catalog.series s WHERE s.metric_id = v_metric LOOP
                v_idle := v_idle || _prom_catalog.idle_series(v_metric, v_tenant, v_last_id);
            END LOOP;
        END IF;
        IF cardinality(v_idle) > c_at_once THEN -- the rest of this metric comes next
            v_idle := v_idle[1 : c_at_once];
            more := true;
            EXIT;
        END IF;
        EXIT WHEN v_metric = 2147483647;
        v_metric := v_metric + 1;
    END LOOP;
    IF cardinality(v_idle) > 0 THEN
        IF NOT _prom_catalog.try_guard() THEN
            waiting := true;
            RETURN;
        END IF;
        series := _prom_catalog.delete_idle_series(v_idle);
        -- what could not go will not go next time either
        IF series = 0 AND more AND cardinality(v_idle) >= c_at_once THEN
            v_metric := v_metric + 1;
        END IF;
    END IF;
    IF NOT more AND cardinality(v_idle) > 0 THEN
        more := true; -- labels need a long look without the lock, which this transaction has
        v_metric := NULL;
    ELSIF NOT more THEN
        SELECT d.deleted, d.waiting INTO labels, waiting FROM _prom_catalog.delete_unused_labels() d;
        more := EXISTS (SELECT FROM _prom_catalog.label_suspect) AND NOT waiting;
    END IF;
    INSERT INTO _prom_catalog.garbage_round AS g (begun_at, next_metric)
        VALUES (now(), CASE WHEN more OR waiting THEN coalesce(v_metric, 2147483647) END)
        ON CONFLICT (one) DO UPDATE SET next_metric = excluded.next_metric,
            begun_at = CASE WHEN g.next_metric IS NULL THEN excluded.begun_at ELSE g.begun_at END;
END $$;

CREATE FUNCTION _prom_catalog.step_expire_series(p_force bool, OUT outcome text, OUT detail text, OUT next_in interval,
                                                 OUT left_over int8)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    r record;
BEGIN
    SELECT * INTO r FROM _prom_catalog.collect_garbage(p_force);
    outcome := CASE WHEN r.more AND NOT r.waiting THEN 'more' WHEN r.series > 0 OR r.labels > 0 THEN 'done' ELSE 'idle' END;
    detail := format('%s series, %s labels%s', r.series, r.labels,
                     CASE WHEN r.waiting THEN '; samples were being stored all the time' ELSE '' END);
    next_in := CASE WHEN r.more OR r.waiting THEN '1 min'::interval END;
END $$;

REVOKE ALL ON FUNCTION _prom_catalog.try_guard, _prom_catalog.idle_series, _prom_catalog.delete_idle_series,
    _prom_catalog.delete_unused_labels, _prom_catalog.collect_garbage, _prom_catalog.step_expire_series FROM PUBLIC;
