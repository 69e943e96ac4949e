-- What is too old goes.
--
-- Days at a time: a sample goes when its day (UTC) is over by its period, and up to a day more is kept; with
-- periods below three days it is hours instead. A day's partition goes whole when the default period is over.
-- What a longer period keeps of it is moved to block_far first, in a transaction of its own; the partition
-- goes when nobody can have a snapshot from before that. Everywhere else rows are deleted, and rows that
-- mix series which go with series which stay are rewritten under their id (src/block_erase.c). Metric by metric,
-- for some seconds; what is left comes next, and a metric that fails stops no other.

-- Partitions on their way out: what others keep of them has been moved, or is being moved.
CREATE TABLE _prom_catalog.leaving_day (
    day         date PRIMARY KEY,
    next_metric int4,                              -- looked through are the metrics before it; NULL: not begun
    block_id    int8 NOT NULL DEFAULT 0,           -- younger rows were not there when that began
    rules       uuid,                              -- digest of the rules that it goes by
    moved_at    timestamptz,                       -- when rows were moved; NULL: none, or not all yet
    moved_by    xid8                               -- the last transaction that moved some
);

-- Up to where each metric has been looked through for rows to delete.
CREATE TABLE _prom_catalog.retention_progress (
    metric_id int4 PRIMARY KEY,
    looked_at timestamptz NOT NULL,
    all_at    timestamptz NOT NULL,                -- ... at all days, not only at those whose time had come
    rules     uuid NOT NULL,                       -- digest of the rules that held then
    block_id  int8 NOT NULL,                       -- younger rows were not there
    -- of a look that has not come to its end yet: where it goes on, and what will then be said above
    next_place int4,
    next_day   date,
    walk_at    timestamptz,
    walk_rules uuid,
    walk_block_id int8
);

-- A run goes through the metrics in the order of their ids, in as many transactions as it takes; a forced run is
-- one of its own. No row: the next run begins at the first metric.
CREATE TABLE _prom_catalog.retention_run (
    forced        bool PRIMARY KEY,
    rules         uuid NOT NULL,                   -- digest of all rules
    next_metric   int8 NOT NULL,
    next_exemplar int8 NOT NULL,                   -- a metric; exemplars come after everything else
    went_on_at    timestamptz NOT NULL
);

-- Samples from before this time are too old for a period.
CREATE FUNCTION _prom_catalog.cutoff(p_period interval) RETURNS timestamptz
LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
    SELECT CASE WHEN p_period = '0' THEN '-infinity'::timestamptz
                ELSE date_trunc(CASE WHEN p_period < '3 days' THEN 'hour' ELSE 'day' END, now() - p_period) END
$$;

-- The same for a metric, without regard to selectors: of single tenants, and (NULL) of all others.
CREATE FUNCTION _prom_catalog.base_cutoffs(p_metric_id int4) RETURNS TABLE (tenant_id int4, cutoff timestamptz)
LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
    WITH own AS MATERIALIZED (
        SELECT m.period, _prom_catalog.held_period('m', p_metric_id::text, m.period) AS held
        FROM (SELECT (SELECT retention_period FROM _prom_catalog.metric WHERE id = p_metric_id)) m (period)
    ), rules AS MATERIALIZED (
        SELECT * FROM _prom_catalog.retention_rules() WHERE kind IN ('d', 't')
    )
    SELECT t.id, _prom_catalog.cutoff(_prom_catalog.longer(coalesce(own.period, t.period, d.period),
                                                           coalesce(own.held, t.held, d.held)))
    FROM own, rules d, (SELECT NULL::int4 AS id, NULL::interval AS period, NULL::interval AS held
                        UNION ALL SELECT x.id, r.period, r.held FROM rules r JOIN _prom_catalog.tenant x ON x.name = r.key
                                  WHERE r.kind = 't') t
    WHERE d.kind = 'd'
$$;

-- The series that do not go by these, sorted, in three arrays. Selectors cost a look at all series of the metric: once
-- for all of its rows.
CREATE FUNCTION _prom_catalog.kept_classes(p_metric_id int4, OUT tenants int4[], OUT series int8[],
                                           OUT cutoffs timestamptz[])
LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(array_agg(tenant_id ORDER BY tenant_id, series_id), '{}'),
           coalesce(array_agg(series_id ORDER BY tenant_id, series_id), '{}'),
           coalesce(array_agg(_prom_catalog.cutoff(period) ORDER BY tenant_id, series_id), '{}')
    FROM _prom_catalog.series_kept(p_metric_id)
$$;

-- A block without the series whose time has come: all of its samples are older than their cutoff (in ms), or
-- than p_others for series that are not listed. Only erased is set where nothing goes, or nothing stays.
CREATE FUNCTION _prom_ext.block_expire(data bytea, series int8[], cutoffs int8[], others int8,
    OUT erased int8, OUT series_lo int8, OUT series_hi int8, OUT t_min timestamptz, OUT t_max timestamptz,
    OUT n_series int4, OUT n_samples int4, OUT rest bytea)
    AS 'MODULE_PATHNAME', 'block_expire' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 10000;

CREATE FUNCTION _prom_catalog.time_ms(p_time timestamptz) RETURNS int8
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE p_time WHEN '-infinity' THEN -9223372036854775808
           ELSE floor(extract(epoch FROM p_time) * 1000) END::int8
$$;

-- ---- by row ----------------------------------------------------------------------------------------

-- Deletes what is too old of one metric in one table. p_where narrows rows to days. Rows that were there at
-- p_since (up to id p_block_id) are looked into only if a cutoff has passed them since then. p_base_tenants and
-- p_base_cutoffs are base_cutoffs(), the arrays before them kept_classes(): rules cost more than rows to look at, and
-- nothing comes into these tables while the caller holds the maintenance lock.
CREATE FUNCTION _prom_catalog.expire_rows(p_metric_id int4, p_table text, p_where text, p_since timestamptz,
                                          p_block_id int8, p_tenants int4[], p_series int8[], p_cutoffs timestamptz[],
                                          p_base_tenants int4[], p_base_cutoffs timestamptz[],
                                          OUT rows int8, OUT days date[])
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET jit = off AS $$
BEGIN
    EXECUTE format($sql$
        WITH base AS MATERIALIZED (
            SELECT * FROM unnest($7, $8) u (tenant_id, cutoff)
        ), class AS MATERIALIZED (
            SELECT * FROM unnest($4, $5, $6) u (tenant_id, series_id, cutoff)
        ), row AS MATERIALIZED (
            SELECT b.t_min, b.dist_key, b.id, b.t_max, d.cutoff, c.ids, c.cutoffs,
                   b.t_max < d.cutoff AND (c.ids IS NULL OR b.t_max < c.first) AS whole,
                   c.ids IS NOT NULL AND (b.id > $3 AND b.t_max < greatest(d.cutoff, c.last) OR c.passed
                       OR b.t_max < d.cutoff AND b.t_max >= d.cutoff - ($2)) AS part
            FROM _prom_data.%1$I b
            CROSS JOIN LATERAL (SELECT coalesce((SELECT x.cutoff FROM base x WHERE x.tenant_id = b.tenant_id),
                                                (SELECT x.cutoff FROM base x WHERE x.tenant_id IS NULL)) AS cutoff) d
            CROSS JOIN LATERAL (
                SELECT array_agg(x.series_id ORDER BY x.series_id) AS ids,
                       array_agg(_prom_catalog.time_ms(x.cutoff) ORDER BY x.series_id) AS cutoffs,
                       min(x.cutoff) AS first, max(x.cutoff) AS last,
                       bool_or(b.t_max < x.cutoff AND b.t_max >= x.cutoff - ($2)) AS passed
                FROM class x WHERE x.tenant_id = b.tenant_id AND x.series_id BETWEEN b.series_lo AND b.series_hi) c
            WHERE b.metric_id = $1 AND %2$s
              AND b.t_max < (SELECT max(x.cutoff) FROM (SELECT cutoff FROM base UNION ALL SELECT cutoff FROM class) x)
        ), hit AS MATERIALIZED (
            SELECT r.t_min, r.dist_key, r.id, NULL::int8 AS lo, NULL::int8 AS hi, NULL::timestamptz AS first,
                   NULL::timestamptz AS last, NULL::int4 AS n_series, NULL::int4 AS n_samples, NULL::bytea AS rest
            FROM row r WHERE r.whole
            UNION ALL
            SELECT r.t_min, r.dist_key, r.id, w.series_lo, w.series_hi, w.t_min, w.t_max, w.n_series, w.n_samples, w.rest
            FROM row r JOIN _prom_data.%1$I b ON (b.metric_id, b.t_min, b.dist_key, b.id) = ($1, r.t_min, r.dist_key, r.id),
                 LATERAL _prom_ext.block_expire(b.data, r.ids, r.cutoffs, _prom_catalog.time_ms(r.cutoff)) w
            WHERE r.part AND NOT r.whole AND w.erased > 0 AND %2$s
        ), gone AS (
            DELETE FROM _prom_data.%1$I b USING hit h
            WHERE (b.metric_id, b.t_min, b.dist_key, b.id) = ($1, h.t_min, h.dist_key, h.id) AND %2$s
            RETURNING b.tableoid AS table_id, b.id, b.tenant_id, b.metric_id, b.dist_key, b.level, b.kind, b.format,
                      h.lo, h.hi, h.first, h.last, h.n_series, h.n_samples, h.rest, b.t_min
        ), put AS (
            INSERT INTO _prom_data.%1$I (id, tenant_id, metric_id, dist_key, level, kind, format, series_lo,
                                         series_hi, t_min, t_max, n_series, n_samples, data)
            SELECT id, tenant_id, metric_id, dist_key, level, kind, format, lo, hi, first, last, n_series, n_samples,
                   rest FROM gone WHERE n_samples > 0
        ), vacuum AS (
            INSERT INTO _prom_catalog.vacuum_queue (table_name, frozen)
            SELECT DISTINCT c.relname, false FROM gone JOIN pg_class c ON c.oid = gone.table_id ON CONFLICT DO NOTHING
        )
        SELECT count(*), array_agg(DISTINCT t_min::date) FROM gone$sql$, p_table, p_where)
    INTO rows, days USING p_metric_id, coalesce(now() - p_since, '0') + '2 days'::interval,
        coalesce(p_block_id, 0), p_tenants, p_series, p_cutoffs, p_base_tenants, p_base_cutoffs;
END $$;

-- Where a metric may have rows that are too old: merged rows, far ones, and partitions from p_first_day on over which
-- a cutoff has passed since p_since. At a time a day, or all of a table where that is little (part is NULL where there
-- is nothing); p_place, p_day: from where on.
CREATE FUNCTION _prom_catalog.expiry_targets(p_metric_id int4, p_first_day timestamptz, p_cutoffs timestamptz[],
    p_since timestamptz, p_place int4, p_day date, OUT place int4, OUT day date, OUT table_name text, OUT part text)
RETURNS SETOF record
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    c_little CONSTANT int4 := 1000; -- rows
    v_little bool[];
    v_any bool[];
    v_n int4;
BEGIN
    FOR i IN 0 .. 1 LOOP
        EXECUTE format('SELECT count(*) FROM (SELECT FROM _prom_data.%I WHERE metric_id = $1 LIMIT $2) x',
                       ('{merged,block_far}'::text[])[i + 1]) INTO v_n USING p_metric_id, c_little;
        v_little[i] := v_n < c_little AND NOT (p_place = i AND p_day > '-infinity');
        v_any[i] := v_n > 0;
    END LOOP;
    RETURN QUERY
        SELECT * FROM (
            SELECT t.place, '-infinity'::date AS day, t.name, CASE WHEN v_any[t.place] THEN 'true' END
            FROM (VALUES (0, 'merged'), (1, 'block_far')) t (place, name) WHERE v_little[t.place]
            UNION ALL
            SELECT t.place, d.day, t.name, format('b.t_min >= %L AND b.t_min < %L', d.day, d.day + 1)
            FROM (VALUES (0, 'merged'), (1, 'block_far'), (2, 'block')) t (place, name)
            JOIN (SELECT m.day, sum(m.merged_rows) AS merged, sum(m.sealed_rows) AS sealed FROM _prom_catalog.metric_day m
                  WHERE m.metric_id = p_metric_id GROUP BY m.day) d
              ON CASE t.place WHEN 0 THEN d.merged > 0 AND NOT v_little[0] WHEN 1 THEN d.sealed > 0 AND NOT v_little[1]
                      ELSE d.sealed > 0 AND d.day >= p_first_day END
            WHERE EXISTS (SELECT FROM unnest(p_cutoffs) c (cutoff) WHERE d.day < c.cutoff
                AND (t.place < 2 OR p_since IS NULL OR d.day + '2 days'::interval >= c.cutoff - (now() - p_since)))) x
        WHERE (x.place, x.day) >= (p_place, p_day) ORDER BY 1, 2;
END $$;

-- Everything of one metric, but for partitions that go as a whole (before p_first_day). Of sealed days those are
-- looked at over which a cutoff has passed since the last time; all of them once a week, for late samples. done:
-- false when time was up; the next call goes on from there.
CREATE FUNCTION _prom_catalog.expire_metric(p_metric_id int4, p_first_day timestamptz, p_rules uuid, p_block_id int8,
                                            p_until timestamptz, OUT rows int8, OUT done bool)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    v_last record;
    v_walk record;
    v_gone record;
    v_target record;
    v_begun bool := false;
    v_touched date[] := '{}';
    v_metrics int4[];
    v_class record;
    v_base record;
    v_cutoffs timestamptz[];
BEGIN
    rows := 0; done := true;
    SELECT * INTO v_class FROM _prom_catalog.kept_classes(p_metric_id);
    SELECT array_agg(b.tenant_id) AS tenants, array_agg(b.cutoff) AS cutoffs INTO v_base
        FROM _prom_catalog.base_cutoffs(p_metric_id) b;
    v_cutoffs := ARRAY(SELECT unnest(v_base.cutoffs) UNION SELECT unnest(v_class.cutoffs));
    -- what a clock has written that was ahead says nothing
    SELECT walk_at, walk_block_id, next_place, next_day INTO v_walk FROM _prom_catalog.retention_progress
        WHERE metric_id = p_metric_id AND walk_rules = p_rules AND walk_at <= now();
    SELECT looked_at, all_at, block_id INTO v_last FROM _prom_catalog.retention_progress
        WHERE metric_id = p_metric_id AND retention_progress.rules = p_rules AND looked_at <= now()
          AND all_at > coalesce(v_walk.walk_at, now()) - '7 days'::interval; -- a walk ends as what it began as
    FOR v_target IN SELECT * FROM _prom_catalog.expiry_targets(p_metric_id, p_first_day, v_cutoffs, v_last.looked_at,
                        coalesce(v_walk.next_place, 0), coalesce(v_walk.next_day, '-infinity')) LOOP
        IF v_begun AND clock_timestamp() > p_until THEN
            done := false;
            EXIT;
        END IF;
        v_begun := true;
        CONTINUE WHEN v_target.part IS NULL;
        SELECT * INTO v_gone FROM _prom_catalog.expire_rows(p_metric_id, v_target.table_name, v_target.part,
            v_last.looked_at, v_last.block_id, v_class.tenants, v_class.series, v_class.cutoffs,
            v_base.tenants, v_base.cutoffs);
        rows := rows + v_gone.rows;
        v_touched := v_touched || coalesce(v_gone.days, '{}');
    END LOOP;
    IF cardinality(v_touched) > 0 THEN
        v_metrics := array_fill(p_metric_id, ARRAY[cardinality(v_touched)]);
        PERFORM _prom_catalog.correct_figures(NULL, v_metrics, v_touched);
        PERFORM _prom_catalog.correct_presence(v_metrics, v_touched);
    END IF;
    IF done THEN
        INSERT INTO _prom_catalog.retention_progress AS p (metric_id, looked_at, all_at, rules, block_id)
            VALUES (p_metric_id, coalesce(v_walk.walk_at, now()), coalesce(v_last.all_at, v_walk.walk_at, now()), p_rules,
                    coalesce(v_walk.walk_block_id, p_block_id))
            ON CONFLICT (metric_id) DO UPDATE SET looked_at = excluded.looked_at, all_at = excluded.all_at,
                rules = excluded.rules, block_id = excluded.block_id,
                next_place = NULL, next_day = NULL, walk_at = NULL, walk_rules = NULL, walk_block_id = NULL;
    ELSE
        INSERT INTO _prom_catalog.retention_progress AS p (metric_id, looked_at, all_at, rules, block_id, next_place,
                                                           next_day, walk_at, walk_rules, walk_block_id)
            VALUES (p_metric_id, '-infinity', '-infinity', p_rules, 0, v_target.place, v_target.day,
                    coalesce(v_walk.walk_at, now()), p_rules, coalesce(v_walk.walk_block_id, p_block_id))
            ON CONFLICT (metric_id) DO UPDATE SET next_place = excluded.next_place, next_day = excluded.next_day,
                walk_at = excluded.walk_at, walk_rules = excluded.walk_rules, walk_block_id = excluded.walk_block_id;
    END IF;
END $$;

-- ---- whole days ------------------------------------------------------------------------------------

-- The metrics that have rows in a day's partition, from p_from on.
CREATE FUNCTION _prom_catalog.metrics_of_day(p_day timestamptz, p_from int4) RETURNS SETOF int4
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_metric int4;
    v_from int8 := p_from;
BEGIN
    LOOP -- each time a probe of the key
        EXECUTE format('SELECT metric_id FROM _prom_data.block WHERE metric_id >= $1 AND t_min >= %L AND t_min < %L'
                       ' ORDER BY metric_id LIMIT 1', p_day, p_day + '1 day'::interval)
            INTO v_metric USING least(v_from, 2147483647)::int4;
        EXIT WHEN v_metric IS NULL OR v_from > 2147483647;
        RETURN NEXT v_metric;
        v_from := v_metric::int8 + 1;
    END LOOP;
END $$;

-- Moves the rows of a metric that are to be kept from a day's partition to block_far, at most p_max of them. Ids and
-- all else stay, so nobody sees a difference: a snapshot sees them here or there. The arrays: of kept_classes().
CREATE FUNCTION _prom_catalog.move_kept(p_day timestamptz, p_metric_id int4, p_tenants int4[], p_series int8[],
                                        p_cutoffs timestamptz[], p_max int8) RETURNS int8
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_n int8;
BEGIN
    EXECUTE format($sql$
        WITH base AS MATERIALIZED (
            SELECT * FROM _prom_catalog.base_cutoffs($1)
        ), class AS MATERIALIZED (
            SELECT * FROM unnest($2, $3, $4) u (tenant_id, series_id, cutoff)
        ), stays AS MATERIALIZED (
            SELECT b.t_min, b.dist_key, b.id FROM _prom_data.block b
            WHERE b.metric_id = $1 AND b.t_min >= %1$L AND b.t_min < %2$L
              AND (b.t_max >= coalesce((SELECT x.cutoff FROM base x WHERE x.tenant_id = b.tenant_id),
                                       (SELECT x.cutoff FROM base x WHERE x.tenant_id IS NULL))
                   OR EXISTS (SELECT FROM class x WHERE x.tenant_id = b.tenant_id
                              AND x.series_id BETWEEN b.series_lo AND b.series_hi AND b.t_max >= x.cutoff))
            LIMIT $5
        ), gone AS (
            DELETE FROM _prom_data.block b USING stays s
            WHERE (b.metric_id, b.t_min, b.dist_key, b.id) = ($1, s.t_min, s.dist_key, s.id)
              AND b.t_min >= %1$L AND b.t_min < %2$L
            RETURNING b.id, b.tenant_id, b.metric_id, b.dist_key, b.level, b.kind, b.format, b.series_lo, b.series_hi,
                      b.t_min, b.t_max, b.n_series, b.n_samples, b.data
        )
        INSERT INTO _prom_data.block_far (id, tenant_id, metric_id, dist_key, level, kind, format, series_lo,
                                          series_hi, t_min, t_max, n_series, n_samples, data)
        SELECT * FROM gone$sql$, p_day, p_day + '1 day'::interval)
    USING p_metric_id, p_tenants, p_series, p_cutoffs, p_max;
    GET DIAGNOSTICS v_n = ROW_COUNT;
    RETURN v_n;
END $$;

-- True if no reader here or on a standby that tells us can have a snapshot from before this transaction's end.
CREATE FUNCTION _prom_catalog.all_have_seen(p_xid xid8) RETURNS bool
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT NOT EXISTS (SELECT FROM pg_stat_activity
                       WHERE pid <> pg_backend_pid()
                         AND coalesce(age(backend_xmin) >= age(p_xid::xid),
                                      NOT pg_has_role('pg_read_all_stats', 'USAGE') AND backend_type = 'client backend')
                         AND (datid IS NULL OR datid = (SELECT oid FROM pg_database WHERE datname = current_database())))
       AND NOT EXISTS (SELECT FROM pg_replication_slots WHERE active AND age(xmin) >= age(p_xid::xid))
$$;

-- A day's partition has gone. What is left of the day lies in other tables; metrics that have any there
-- are returned, to be counted anew. Which series lived is forgotten with the day.
CREATE FUNCTION _prom_catalog.forget_sealed_day(p_day date, OUT metrics int4[], OUT days date[])
LANGUAGE plpgsql VOLATILE STRICT SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
BEGIN
    DELETE FROM _prom_catalog.metric_day WHERE day = p_day AND merged_rows = 0;
    UPDATE _prom_catalog.metric_day
        SET sealed_rows = 0, sealed_hours = 0, sealed_samples = 0, sealed_bytes = 0 WHERE day = p_day;
    SELECT array_agg(f.metric_id), array_agg(p_day) INTO metrics, days
    FROM (SELECT metric_id FROM _prom_data.block_far
          WHERE t_min >= p_day::timestamptz AND t_min < (p_day + 1)::timestamptz
          UNION SELECT metric_id FROM _prom_data.merged
          WHERE t_min >= p_day::timestamptz AND t_min < (p_day + 1)::timestamptz) f;
    -- counting anew needs the old sets where a block cannot be read
    DELETE FROM _prom_data.presence
        WHERE window_start >= p_day::timestamptz AND window_start < (p_day + 1)::timestamptz
          AND metric_id <> ALL (coalesce(metrics, '{}'));
END $$;

-- True if something of the metric may be kept longer than the default says, or shorter.
CREATE FUNCTION _prom_catalog.has_rules(p_metric_id int4) RETURNS bool
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN EXISTS (SELECT FROM _prom_catalog.metric WHERE id = p_metric_id AND retention_period IS NOT NULL)
        OR EXISTS (SELECT FROM _prom_catalog.retention_memory WHERE kind = 'm' AND key = p_metric_id::text)
        OR EXISTS (SELECT FROM _prom_catalog.retention_memory WHERE kind IN ('s', 't'))
        OR EXISTS (SELECT FROM _prom_catalog.retention_rule) OR EXISTS (SELECT FROM _prom_catalog.tenant_retention);
END $$;

-- Moves what is kept of a day, for as long as there is time. moved: how many rows; done: all of them, as of
-- these rules, and none has come meanwhile.
CREATE FUNCTION _prom_catalog.move_day(p_day timestamptz, p_rules uuid, p_until timestamptz, OUT moved int8,
                                       OUT failed int4, OUT done bool)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    v_leaving _prom_catalog.leaving_day;
    v_next int4 := -2147483648;
    v_block_id int8;
    v_metric int4;
    v_class record;
    v_n int8;
    v_all int8;
    v_metrics int4 := 0;
    c_metrics CONSTANT int4 := 50; -- each is a subtransaction
    c_rows CONSTANT int8 := 500;
BEGIN
    moved := 0; failed := 0; done := true;
    SELECT last_value INTO v_block_id FROM _prom_data.block_id_seq;
    SELECT * INTO v_leaving FROM _prom_catalog.leaving_day WHERE day = p_day::date;
    IF v_leaving.next_metric IS NOT NULL AND v_leaving.rules = p_rules THEN
        v_next := v_leaving.next_metric;
        v_block_id := v_leaving.block_id;
    END IF;
    FOR v_metric IN SELECT _prom_catalog.metrics_of_day(p_day, v_next) LOOP
        CONTINUE WHEN NOT _prom_catalog.has_rules(v_metric);
        IF v_metrics >= c_metrics OR clock_timestamp() > p_until AND v_metrics > 0 THEN
            done := false;
            v_next := v_metric;
            EXIT;
        END IF;
        v_metrics := v_metrics + 1;
        v_all := 0;
        BEGIN
            SELECT * INTO v_class FROM _prom_catalog.kept_classes(v_metric);
            LOOP
                v_n := _prom_catalog.move_kept(p_day, v_metric, v_class.tenants, v_class.series, v_class.cutoffs,
                                               c_rows);
                v_all := v_all + v_n;
                EXIT WHEN v_n < c_rows OR clock_timestamp() > p_until;
            END LOOP;
            moved := moved + v_all;
        EXCEPTION WHEN OTHERS THEN
            failed := failed + 1;
            v_n := 0;
            PERFORM _prom_catalog.note_expiry_error(v_metric, SQLERRM);
        END;
        IF v_n = c_rows THEN -- there may be more
            done := false;
            v_next := v_metric;
            EXIT;
        END IF;
    END LOOP;
    IF done THEN
        v_next := NULL;
        EXECUTE format('SELECT NOT EXISTS (SELECT FROM _prom_data.block WHERE id > $1 AND t_min >= %L AND t_min < %L)',
                       p_day, p_day + '1 day'::interval) INTO done USING v_block_id;
    END IF;
    UPDATE _prom_catalog.leaving_day SET next_metric = v_next, rules = p_rules, block_id = v_block_id,
        moved_by = CASE WHEN moved > 0 THEN pg_current_xact_id() ELSE moved_by END,
        moved_at = CASE WHEN moved > 0 OR moved_at IS NULL AND moved_by IS NOT NULL
                        THEN CASE WHEN done THEN now() END ELSE moved_at END
        WHERE day = p_day::date;
END $$;

-- One partition whose default period is over. p_others: somebody keeps something longer. outcome: dropped,
-- moved (all that is kept has been moved: it waits for readers), waiting (for a lock), more (time is up), failed
-- (problem says why: somebody has built something on the table, most likely).
CREATE FUNCTION _prom_catalog.retire_partition(p_day timestamptz, p_table name, p_others bool, p_rules uuid,
                                               p_until timestamptz, OUT outcome text, OUT failed int4,
                                               OUT problem text)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET lock_timeout = '200ms' AS $$
DECLARE
    v_day CONSTANT date := p_day::date;
    v_leaving _prom_catalog.leaving_day;
    v_detail text;
    r record;
BEGIN
    failed := 0;
    INSERT INTO _prom_catalog.leaving_day (day) VALUES (v_day) ON CONFLICT DO NOTHING;
    UPDATE _prom_catalog.leaving_day SET moved_at = now() WHERE day = v_day AND moved_at > now(); -- a clock was ahead
    SELECT * INTO v_leaving FROM _prom_catalog.leaving_day WHERE day = v_day;
    IF v_leaving.moved_at > now() - '1 hour'::interval OR NOT _prom_catalog.all_have_seen(v_leaving.moved_by)
                                                          AND v_leaving.moved_at IS NOT NULL THEN
        outcome := 'moved';
        RETURN;
    END IF;
    IF p_others THEN
        SELECT * INTO r FROM _prom_catalog.move_day(p_day, p_rules, p_until);
        failed := r.failed;
        outcome := CASE WHEN NOT r.done THEN 'more' WHEN r.failed > 0 THEN 'waiting' WHEN r.moved > 0 THEN 'moved' END;
        SELECT * INTO v_leaving FROM _prom_catalog.leaving_day WHERE day = v_day;
        IF outcome IS NULL AND v_leaving.moved_at = now() THEN
            outcome := 'moved';
        END IF;
        IF outcome IS NOT NULL THEN
            RETURN;
        END IF;
    END IF;
    BEGIN
        EXECUTE format('DROP TABLE _prom_data.%I', p_table);
    EXCEPTION WHEN lock_not_available THEN
        outcome := 'waiting';
        RETURN;
    WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS v_detail = PG_EXCEPTION_DETAIL;
        outcome := 'failed';
        problem := format('%s stays: %s%s', p_table, SQLERRM, left(': ' || nullif(v_detail, ''), 500));
        RETURN;
    END;
    DELETE FROM _prom_catalog.leaving_day WHERE day = v_day;
    SELECT * INTO r FROM _prom_catalog.forget_sealed_day(v_day);
    IF cardinality(r.metrics) > 0 THEN
        PERFORM _prom_catalog.correct_figures(NULL, r.metrics, r.days);
        PERFORM _prom_catalog.correct_presence(r.metrics, r.days);
    END IF;
    RAISE LOG 'promscale retention: dropped _prom_data.%', p_table;
    outcome := 'dropped';
END $$;

-- ---- all of it -------------------------------------------------------------------------------------

-- A metric that could not be worked on; negative ids are not of blocks.
CREATE FUNCTION _prom_catalog.note_expiry_error(p_metric_id int4, p_message text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE WARNING 'promscale retention: metric %: %', p_metric_id, p_message;
    INSERT INTO _prom_catalog.maintenance_error (block_id, metric_id, level, t_min, step, message)
        VALUES (-1099511627776 - p_metric_id, p_metric_id, 2, '-infinity', 'retention', p_message)
        ON CONFLICT (block_id) DO UPDATE SET message = excluded.message, noted_at = now();
END $$;

-- What decides which days may go whole, and who is looked at; of all periods that hold or are held.
CREATE FUNCTION _prom_catalog.retention_bounds(OUT default_period interval, OUT longest interval, OUT shortest interval,
                                               OUT rules uuid, OUT all_rules uuid)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET IntervalStyle = 'postgres' AS $$
    WITH r AS MATERIALIZED (SELECT * FROM _prom_catalog.retention_rules()),
    p AS (SELECT period FROM r UNION ALL SELECT held FROM r
          UNION ALL SELECT retention_period FROM _prom_catalog.metric WHERE retention_period IS NOT NULL
          UNION ALL SELECT m.period FROM _prom_catalog.retention_memory m WHERE m.kind = 'm'
          UNION ALL SELECT m.held FROM _prom_catalog.retention_memory m WHERE m.kind = 'm' AND m.held_until > now())
    SELECT (SELECT _prom_catalog.longer(period, held) FROM r WHERE kind = 'd'),
           (SELECT _prom_catalog.longest(period) FROM p),
           (SELECT period FROM p WHERE period <> '0' ORDER BY now() - period DESC LIMIT 1),
           md5((SELECT string_agg(concat_ws('|', kind, key, coalesce(period::text, '-'), coalesce(held::text, '-')), E'\n'
                                  ORDER BY kind, key) FROM r))::uuid,
           md5(concat_ws('|', (SELECT string_agg(concat_ws('|', id, retention_period::text), E'\n' ORDER BY id)
                               FROM _prom_catalog.metric WHERE retention_period IS NOT NULL),
                              (SELECT string_agg(concat_ws('|', kind, key, period::text, held::text, held_until > now()), E'\n'
                                                 ORDER BY kind, key) FROM _prom_catalog.retention_memory),
                              (SELECT string_agg(concat_ws('|', kind, key, period::text, held::text), E'\n'
                                                 ORDER BY kind, key) FROM r)))::uuid
$$;

-- Where a run is; it begins anew when another set of rules holds, and a forced one when nobody has gone on with it.
CREATE FUNCTION _prom_catalog.retention_run(p_force bool, p_rules uuid) RETURNS _prom_catalog.retention_run
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_run _prom_catalog.retention_run;
BEGIN
    SELECT * INTO v_run FROM _prom_catalog.retention_run WHERE forced = p_force AND rules = p_rules
        AND (NOT forced OR went_on_at BETWEEN now() - '5 min'::interval AND now());
    IF NOT FOUND THEN
        v_run := ROW(p_force, p_rules, -2147483648, -2147483648, now());
    END IF;
    RETURN v_run;
END $$;

-- waiting: partitions whose lock was not to be had soon. leaving: partitions that wait for readers. failed:
-- metrics with an error. problem: what could not be done but for them. more: the run has not come to its end.
-- left_over: metrics that it has not come to; NULL: not known.
CREATE FUNCTION _prom_catalog.apply_retention(p_force bool DEFAULT false, OUT partitions int4, OUT waiting int4,
                                              OUT leaving int4, OUT rows int8, OUT failed int4, OUT more bool,
                                              OUT problem text, OUT left_over int8)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET lock_timeout = '200ms' AS $$
DECLARE
    v_until CONSTANT timestamptz := clock_timestamp() + CASE WHEN p_force THEN '20 s' ELSE '2 s' END::interval;
    v_bounds record;
    v_cutoff timestamptz;
    v_others bool;
    v_part record;
    v_one record;
    v_run _prom_catalog.retention_run;
    v_n int8;
    v_failed int4;
BEGIN
    partitions := 0; waiting := 0; leaving := 0; rows := 0; failed := 0; more := false;
    IF NOT _prom_catalog.maintenance_lock() THEN
        RETURN;
    END IF;
    IF NOT (SELECT is_called FROM _prom_data.block_id_seq) THEN
        -- an empty database may wait for long
        UPDATE _prom_catalog.clock_seen SET seen_at = now(), leapt_at = NULL, before = NULL;
        RETURN; -- nothing was ever stored, or a restore is under way, which may bring the rules after the blocks
    END IF;
    problem := _prom_catalog.doubt_clock();
    IF problem IS NOT NULL THEN
        RETURN;
    END IF;
    PERFORM _prom_catalog.note_retention();
    SELECT * INTO v_bounds FROM _prom_catalog.retention_bounds();
    v_cutoff := _prom_catalog.cutoff(v_bounds.default_period);
    v_others := _prom_catalog.cutoff(v_bounds.longest) <> v_cutoff;
    v_run := _prom_catalog.retention_run(p_force, v_bounds.all_rules);

    FOR v_part IN SELECT p.day, p.table_name FROM _prom_catalog.partitions() p
                  WHERE p.day + '1 day'::interval <= v_cutoff ORDER BY 1 LOOP
        IF clock_timestamp() > v_until OR (CASE WHEN v_others THEN partitions > 0 ELSE partitions >= 30 END) THEN
            more := true;
            EXIT;
        END IF;
        SELECT * INTO v_one FROM _prom_catalog.retire_partition(
            v_part.day, v_part.table_name, v_others, v_bounds.all_rules, v_until);
        failed := failed + v_one.failed;
        CASE v_one.outcome
            WHEN 'dropped' THEN partitions := partitions + 1;
            WHEN 'moved' THEN leaving := leaving + 1;
            WHEN 'waiting' THEN waiting := waiting + 1;
            WHEN 'failed' THEN problem := v_one.problem;
            ELSE more := true;
        END CASE;
    END LOOP;

    IF partitions > 0 THEN -- readers wait for the end of this transaction
        more := true;
        RETURN;
    END IF;

    -- fresh rows mix metrics: those are deleted that nobody keeps, the others after the next fold. By the rules that this
    -- statement sees: it sees all rows that were stored after a rule that keeps them
    DELETE FROM _prom_data.fresh WHERE t_max < (SELECT _prom_catalog.cutoff(b.longest) FROM _prom_catalog.retention_bounds() b);
    GET DIAGNOSTICS v_n = ROW_COUNT;
    rows := rows + v_n;
    SELECT e.rows, e.failed, e.next_metric, e.left_over INTO v_n, v_failed, v_run.next_metric, left_over
        FROM _prom_catalog.expire_metrics(v_run.next_metric, v_bounds, v_cutoff, p_force, v_until) e;
    rows := rows + v_n;
    failed := failed + v_failed;
    IF v_run.next_metric IS NULL THEN
        v_run.next_exemplar := _prom_catalog.expire_exemplars(v_run.next_exemplar, v_until);
    END IF;
    IF more OR v_run.next_metric IS NOT NULL OR v_run.next_exemplar IS NOT NULL THEN
        more := true;
        INSERT INTO _prom_catalog.retention_run
            VALUES (p_force, v_bounds.all_rules, coalesce(v_run.next_metric, 2147483648),
                    coalesce(v_run.next_exemplar, 2147483648), now())
            ON CONFLICT (forced) DO UPDATE SET rules = excluded.rules, next_metric = excluded.next_metric,
                next_exemplar = excluded.next_exemplar, went_on_at = excluded.went_on_at;
    ELSE
        DELETE FROM _prom_catalog.retention_run WHERE forced = p_force;
    END IF;
    IF rows > 0 THEN
        RAISE LOG 'promscale retention: deleted or rewrote % rows', rows;
    END IF;
END $$;

-- Goes on with the metrics from p_from on; next_metric: from there it goes on the next time (NULL: that was the last).
-- A transaction with many subtransactions makes everybody's snapshots dear.
CREATE FUNCTION _prom_catalog.expire_metrics(p_from int8, p_bounds record, p_default timestamptz, p_force bool,
                                             p_until timestamptz, OUT rows int8, OUT failed int4,
                                             OUT next_metric int8, OUT left_over int8)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c_metrics CONSTANT int4 := 50;
    v_oldest CONSTANT timestamptz := coalesce(_prom_catalog.cutoff(p_bounds.shortest), '-infinity');
    v_selectors CONSTANT bool := EXISTS (SELECT FROM _prom_catalog.retention_rules() r WHERE r.kind <> 'd');
    v_block_id int8;
    v_n int4 := 0;
    v_metric record;
    v_one record;
BEGIN
    rows := 0; failed := 0;
    next_metric := p_from;
    SELECT last_value INTO v_block_id FROM _prom_data.block_id_seq;
    LOOP
        SELECT * INTO v_metric FROM _prom_catalog.metric_to_expire(next_metric, v_oldest, p_default, p_force,
                                                                   p_bounds.rules, v_selectors, p_until);
        next_metric := v_metric.next_from;
        EXIT WHEN v_metric.metric_id IS NULL;
        v_n := v_n + 1;
        BEGIN
            SELECT * INTO v_one FROM _prom_catalog.expire_metric(v_metric.metric_id, p_default, v_metric.rules, v_block_id,
                                                                 p_until);
            rows := rows + v_one.rows;
            IF NOT v_one.done THEN
                next_metric := v_metric.metric_id;
                RETURN;
            END IF;
        EXCEPTION WHEN OTHERS THEN
            failed := failed + 1;
            PERFORM _prom_catalog.note_expiry_error(v_metric.metric_id, SQLERRM);
        END;
        EXIT WHEN v_n >= c_metrics OR clock_timestamp() > p_until;
    END LOOP;
    IF next_metric IS NOT NULL THEN
        left_over := (SELECT count(*) FROM _prom_catalog.metric WHERE id >= next_metric);
    END IF;
END $$;

-- The first metric from p_from on that may have rows to delete: its oldest day is older than the shortest period there
-- is, and it was not looked through since the last hour or (periods of days) midnight by the same rules. next_from: the
-- search goes on there; NULL: there are no more. metric_id is NULL where none was found until then.
CREATE FUNCTION _prom_catalog.metric_to_expire(p_from int8, p_oldest timestamptz, p_default timestamptz, p_force bool,
                                               p_rules uuid, p_selectors bool, p_until timestamptz,
                                               OUT metric_id int4, OUT rules uuid, OUT next_from int8)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET IntervalStyle = 'postgres' AS $$
DECLARE
    v_id int4;
    v_day date;
    v_own interval;
BEGIN
    next_from := p_from;
    WHILE next_from <= 2147483647 LOOP -- each time a probe of the key: a metric and its oldest day
        SELECT d.metric_id, d.day INTO v_id, v_day FROM _prom_catalog.metric_day d
            WHERE d.metric_id >= next_from::int4 ORDER BY d.metric_id, d.day LIMIT 1;
        EXIT WHEN NOT FOUND;
        next_from := v_id::int8 + 1;
        IF v_day::timestamptz < p_oldest THEN
            SELECT m.retention_period INTO v_own FROM _prom_catalog.metric m WHERE m.id = v_id;
            rules := md5(p_rules::text || coalesce(v_own::text, '-')
                         || coalesce(_prom_catalog.held_period('m', v_id::text, v_own)::text, '-'))::uuid;
            IF (v_own IS NOT NULL OR p_selectors OR v_day::timestamptz < p_default) AND (p_force OR NOT EXISTS (
                SELECT FROM _prom_catalog.retention_progress p
                WHERE p.metric_id = v_id AND p.rules = metric_to_expire.rules
                  AND p.looked_at BETWEEN date_trunc(CASE WHEN p_oldest > now() - '3 days'::interval THEN 'hour' ELSE 'day' END,
                                                     now()) AND now())) THEN
                metric_id := v_id;
                RETURN;
            END IF;
        END IF;
        IF clock_timestamp() > p_until THEN
            RETURN;
        END IF;
    END LOOP;
    next_from := NULL;
END $$;

-- Exemplars go with the samples of their series. Returns the metric at which to go on; NULL: that was the last.
CREATE FUNCTION _prom_catalog.expire_exemplars(p_from int8, p_until timestamptz) RETURNS int8
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c_rows CONSTANT int8 := 10000;
    v_metric int4;
    v_next int8 := p_from;
    v_n int8;
BEGIN
    WHILE v_next <= 2147483647 LOOP
        SELECT metric_id INTO v_metric FROM _prom_data.exemplar WHERE metric_id >= v_next::int4 ORDER BY metric_id LIMIT 1;
        EXIT WHEN NOT FOUND;
        v_next := v_metric;
        WITH base AS MATERIALIZED (
            SELECT * FROM _prom_catalog.base_cutoffs(v_metric)
        ), class AS MATERIALIZED (
            SELECT tenant_id, series_id, _prom_catalog.cutoff(period) AS cutoff FROM _prom_catalog.series_kept(v_metric)
        )
        DELETE FROM _prom_data.exemplar e USING (
            SELECT x.series_id, x.time, x.dist_key, x.digest FROM _prom_data.exemplar x
            WHERE x.metric_id = v_metric
              AND x.time < coalesce((SELECT c.cutoff FROM class c WHERE c.series_id = x.series_id),
                                    (SELECT b.cutoff FROM base b WHERE b.tenant_id = x.tenant_id),
                                    (SELECT b.cutoff FROM base b WHERE b.tenant_id IS NULL)) LIMIT c_rows) old
        WHERE e.metric_id = v_metric AND e.series_id = old.series_id AND e.time = old.time
          AND e.dist_key = old.dist_key AND e.digest = old.digest;
        GET DIAGNOSTICS v_n = ROW_COUNT;
        IF v_n < c_rows THEN
            v_next := v_next + 1;
        END IF;
        IF clock_timestamp() > p_until THEN
            RETURN v_next;
        END IF;
    END LOOP;
    RETURN NULL;
END $$;

CREATE FUNCTION _prom_catalog.step_retention(p_force bool, OUT outcome text, OUT detail text, OUT next_in interval,
                                             OUT left_over int8)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    r record;
BEGIN
    SELECT * INTO r FROM _prom_catalog.apply_retention(p_force);
    outcome := CASE WHEN r.more THEN 'more' WHEN r.problem IS NOT NULL THEN 'failed' ELSE 'done' END;
    detail := concat_ws('; ', format('%s partitions dropped, %s waiting for locks, %s for readers, %s rows deleted,'
                                     ' %s metrics failed', r.partitions, r.waiting, r.leaving, r.rows, r.failed), r.problem);
    next_in := CASE WHEN r.more THEN '15 s' WHEN r.waiting > 0 THEN '1 min' END::interval;
    left_over := r.left_over;
END $$;

REVOKE ALL ON FUNCTION _prom_catalog.apply_retention, _prom_catalog.step_retention FROM PUBLIC;
GRANT EXECUTE ON FUNCTION _prom_catalog.apply_retention TO prom_maintenance;

-- Those of the series that are not in a set of ids (074-presence.sql).
CREATE FUNCTION _prom_ext.ids_unseen(series int8[], ids bytea) RETURNS int8[]
    AS 'MODULE_PATHNAME', 'ids_unseen' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

-- What is due, by the figures of prom_info. Of a metric that a selector takes a part of, the share of the part
-- in the series that live on a day is taken for its share of the day's samples.
CREATE VIEW prom_info.retention_preview WITH (security_invoker = true) AS
WITH rule AS MATERIALIZED (
    SELECT r.rule, r.subject, r.retention_period, r.counts_from FROM prom_info.retention r
), stored AS MATERIALIZED (
    SELECT d.metric_id, d.tenant_id, m.metric_name, t.name AS tenant
    FROM (SELECT DISTINCT metric_id, tenant_id FROM _prom_catalog.metric_day) d
    LEFT JOIN _prom_catalog.metric m ON m.id = d.metric_id
    LEFT JOIN _prom_catalog.tenant t ON t.id = d.tenant_id
), class AS MATERIALIZED (
    SELECT s.metric_id, s.tenant_id, x.period, x.period::text AS said, max(x.counts_from) AS counts_from,
           array_agg(s.id ORDER BY s.id) AS ids
    FROM (SELECT h.series_id, _prom_catalog.longest(r.retention_period) AS period, max(r.counts_from) AS counts_from
          FROM rule r, LATERAL _prom_ext.matching_series(r.subject) h WHERE r.rule = 'selector' GROUP BY h.series_id) x
    JOIN _prom_catalog.series s ON s.id = x.series_id
    GROUP BY s.metric_id, s.tenant_id, x.period, said -- equal intervals need not be the same time ago
), class_day AS MATERIALIZED (
    SELECT c.metric_id, c.tenant_id, c.said, (p.window_start AT TIME ZONE 'UTC')::date AS day,
           sum(cardinality(c.ids) - cardinality(_prom_ext.ids_unseen(c.ids, p.series_ids)))
               / sum(p.n_series)::float8 AS share
    FROM class c JOIN _prom_data.presence p USING (metric_id, tenant_id)
    GROUP BY 1, 2, 3, 4
), part AS (
    SELECT s.*, 'selector' AS rule, c.period, c.counts_from
    FROM class c JOIN stored s USING (metric_id, tenant_id)
    UNION ALL
    SELECT s.*, CASE WHEN m.rule IS NOT NULL THEN 'metric' WHEN t.rule IS NOT NULL THEN 'tenant' ELSE 'default' END,
           coalesce(m.retention_period, t.retention_period, d.retention_period),
           greatest(m.counts_from, t.counts_from, d.counts_from)
    FROM stored s
    JOIN rule d ON d.rule = 'default'
    LEFT JOIN rule m ON m.rule = 'metric' AND m.subject = s.metric_name
    LEFT JOIN rule t ON t.rule = 'tenant' AND t.subject = s.tenant
), due AS (
    SELECT p.*, p.period::text AS said, date_trunc(CASE WHEN p.period < '3 days' THEN 'hour' ELSE 'day' END,
                                                   now() AT TIME ZONE 'UTC' - p.period) AT TIME ZONE 'UTC' AS cutoff
    FROM part p WHERE p.period <> '0'
), due_day AS (
    SELECT p.*, d.day, d.merged_samples + d.sealed_samples AS samples, d.merged_bytes + d.sealed_bytes AS bytes,
           CASE p.rule WHEN 'selector' THEN coalesce((SELECT c.share FROM class_day c WHERE (c.metric_id, c.tenant_id, c.said,
                                                      c.day) = (p.metric_id, p.tenant_id, p.said, d.day)), 0)
                ELSE 1 - coalesce((SELECT sum(c.share) FROM class_day c
                                   WHERE (c.metric_id, c.tenant_id, c.day) = (p.metric_id, p.tenant_id, d.day)), 0) END AS share
    FROM due p JOIN _prom_catalog.metric_day d
        ON (d.metric_id, d.tenant_id) = (p.metric_id, p.tenant_id) AND (d.day + 1)::timestamp AT TIME ZONE 'UTC' <= p.cutoff
)
SELECT tenant, metric_name, rule, period AS retention_period,
       min(day)::timestamp AT TIME ZONE 'UTC' AS oldest, (max(day) + 1)::timestamp AT TIME ZONE 'UTC' AS newest,
       round(sum(samples * share))::int8 AS num_samples, round(sum(bytes * share))::int8 AS bytes,
       bool_or(share < 1) AS estimated, counts_from AS deleted_from
FROM due_day WHERE share > 1e-9
GROUP BY metric_id, tenant_id, tenant, metric_name, rule, period, said, counts_from;
COMMENT ON VIEW prom_info.retention_preview IS
    'what the next run of retention deletes, or the one after deleted_from, by tenant, metric and kind of rule';
COMMENT ON COLUMN prom_info.retention_preview.newest IS 'the end of the youngest day of which something goes';
COMMENT ON COLUMN prom_info.retention_preview.estimated IS
    'a selector takes a part of the metric: its share of the series is shown as its share of the samples';
COMMENT ON COLUMN prom_info.retention_preview.deleted_from IS
    'not before this time, since a rule has changed (prom_info.retention); NULL: with the next run';
