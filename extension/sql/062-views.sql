-- Three views for each metric, made in the background: prom_metric.<metric> with its samples,
-- prom_series.<metric> with its series, prom_data.<metric> to write into (055-write.sql); and where there are
-- histograms among the samples a fourth, prom_histogram.<metric>, with these. Ordinary objects, no members of
-- the extension, dumped as such.
--
-- A metric is behind while positions were given away that its views do not know. Columns stand in the
-- order of positions, and positions are only appended, so that CREATE OR REPLACE VIEW always fits and
-- what users have built upon a view lives on. The first 1000 labels have columns; the rest is in labels.
--
-- An update of the extension whose views are to look otherwise calls remake_views(): views are replaced in batches after
-- it, since each one takes a lock to the end of its transaction, and there may be more of them than there is room for.

-- Makes or replaces the views of up to p_limit metrics, within about a second; returns how many metrics
-- are still behind. One metric that fails (somebody holds a lock, or has put a relation of his own
-- there) is noted in metric.views_error and tried again some other time: after those without trouble,
-- in any order, so that no failing metric is for ever behind other failing ones.
-- SECURITY DEFINER: views belong to prom_admin, whoever calls. Every name goes through %I.
CREATE FUNCTION _prom_catalog.make_metric_views(p_limit int4 DEFAULT 100) RETURNS int4
LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '50ms' AS $$
DECLARE
    m record;
    v_until CONSTANT timestamptz := clock_timestamp() + interval '1 s';
BEGIN
    PERFORM _prom_catalog.note_histograms();
    FOR m IN
        SELECT id, table_name, positions FROM _prom_catalog.metric
        WHERE views_positions < positions
        ORDER BY CASE WHEN views_error IS NOT NULL THEN random() ELSE -1 END, views_positions < 0, id LIMIT p_limit
    LOOP
        -- rows of metrics that are done stay locked until the end: others want to add labels to them
        EXIT WHEN clock_timestamp() > v_until;
        BEGIN
            -- it may have been dropped meanwhile, and must not be while its views are made
            PERFORM FROM _prom_catalog.metric WHERE id = m.id FOR NO KEY UPDATE;
            CONTINUE WHEN NOT FOUND;
            PERFORM _prom_catalog.make_views_of(m.id, m.table_name, m.positions);
            UPDATE _prom_catalog.metric SET views_positions = m.positions, views_error = NULL
                WHERE id = m.id;
        EXCEPTION WHEN others THEN
            PERFORM _prom_catalog.note_views_error(m.id, sqlerrm);
        END;
    END LOOP;
    RETURN (SELECT count(*) FROM _prom_catalog.metric WHERE views_positions < positions);
END $$;

-- All views are due to be replaced, behind those that are missing; until then they stay as they are. Returns how many
-- metrics that are. Whatever the views use must be there until the last is replaced.
CREATE FUNCTION _prom_catalog.remake_views() RETURNS int8
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_n int8;
BEGIN
    UPDATE _prom_catalog.metric SET views_positions = -1 WHERE views_positions > 0;
    GET DIAGNOSTICS v_n = ROW_COUNT;
    RETURN v_n;
END $$;
REVOKE ALL ON FUNCTION _prom_catalog.remake_views FROM PUBLIC;

-- What is told to it is done as prom_admin (src/as_admin.c).
CREATE FUNCTION _prom_ext.run_as_prom_admin(commands text) RETURNS void
    AS 'MODULE_PATHNAME', 'run_as_prom_admin' LANGUAGE C VOLATILE STRICT;

-- The command that makes or replaces a view. A new one is made as prom_admin, to whom it belongs, and its
-- rights are those that default for it (090-rights.sql); they are granted only if somebody has taken the
-- default away: an ALTER or GRANT for each view is dead rows in the system catalogs. A view that is
-- replaced keeps its owner and rights. p_more: commands that go with a new view.
CREATE FUNCTION _prom_catalog.put_view(p_schema name, p_name name, p_query text, p_more text DEFAULT '') RETURNS void
LANGUAGE plpgsql VOLATILE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c_create CONSTANT text := format('CREATE OR REPLACE VIEW %I.%I WITH (security_invoker = true) AS %s',
                                     p_schema, p_name, p_query);
    v_right record;
BEGIN
    IF to_regclass(format('%I.%I', p_schema, p_name)) IS NOT NULL THEN
        EXECUTE c_create;
        RETURN;
    END IF;
    PERFORM _prom_ext.run_as_prom_admin(concat_ws('; ', c_create, nullif(p_more, '')));
    FOR v_right IN
        SELECT r.role, r.privilege
        FROM (VALUES ('prom_reader', 'SELECT', NULL), ('prom_writer', 'INSERT', 'prom_data')) r (role, privilege, in_schema)
        WHERE coalesce(r.in_schema, p_schema) = p_schema
          AND NOT has_table_privilege(r.role, format('%I.%I', p_schema, p_name), r.privilege)
    LOOP
        EXECUTE format('GRANT %s ON %I.%I TO %I', v_right.privilege, p_schema, p_name, v_right.role);
    END LOOP;
END $$;

CREATE FUNCTION _prom_catalog.make_views_of(p_metric_id int4, p_name name, p_positions int4)
RETURNS void
LANGUAGE plpgsql VOLATILE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c_max_columns CONSTANT int4 := 1000;
    v_ids text;
    v_values text;
BEGIN
    SELECT string_agg(format(', NULLIF(labels[%s], 0) AS %I', pos, id_column_name), '' ORDER BY pos),
           string_agg(format(', prom_api.val(labels[%s]) AS %I', pos, value_column_name), ''
                      ORDER BY pos)
    INTO v_ids, v_values
    FROM (SELECT p.pos, k.id_column_name, k.value_column_name
          FROM _prom_catalog.label_key_position p
          JOIN _prom_catalog.label_key k ON k.id = p.key_id
          WHERE p.metric_id = p_metric_id AND p.pos <= p_positions AND k.key <> '__name__'
          ORDER BY p.pos LIMIT c_max_columns) c;
    PERFORM _prom_catalog.put_view('prom_metric', p_name, format(
        'SELECT "time", value, series_id, labels%s FROM _prom_data.samples WHERE metric_id = %s', v_ids, p_metric_id));
    PERFORM _prom_catalog.put_view('prom_series', p_name, format(
        'SELECT id AS series_id, labels%s FROM _prom_catalog.series WHERE metric_id = %s', v_values, p_metric_id));
    IF (SELECT histograms FROM _prom_catalog.metric WHERE id = p_metric_id) THEN
        PERFORM _prom_catalog.make_histogram_view(p_metric_id, p_name, coalesce(v_ids, ''));
    END IF;
    PERFORM _prom_catalog.make_write_view(p_metric_id, p_name);
    PERFORM _prom_catalog.comment_views_of(p_metric_id, p_name, p_positions);
END $$;

-- p_ids: the columns of labels, each after a comma, as in prom_metric. start_time stands before them, since
-- columns of a view can only be appended.
CREATE FUNCTION _prom_catalog.make_histogram_view(p_metric_id int4, p_name name, p_ids text) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM _prom_catalog.put_view('prom_histogram', p_name, format(
        'SELECT "time", histogram, start_time, series_id, labels%s FROM _prom_data.histograms WHERE metric_id = %s',
        p_ids, p_metric_id));
END $$;

-- Looks for histograms in what flushes wrote lately, so that their metrics get the fourth view within seconds.
-- Of rows that small metrics share the latest are opened; one that cannot be read tells nothing here. What is
-- not found this way is found by the fold (maint_fold.c): so nothing is looked for where that would take long each
-- round, in what a burst or a long reader has left of fresh.
CREATE FUNCTION _prom_catalog.note_histograms() RETURNS int4
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
    v_metrics int4[];
    v_shared record;
BEGIN
    IF pg_relation_size('_prom_data.fresh') > 33554432 THEN
        RETURN 0;
    END IF;
    SELECT array_agg(DISTINCT metric_id) INTO v_metrics FROM _prom_data.fresh WHERE kind = 2;
    IF v_metrics IS NULL THEN
        RETURN 0;
    END IF;
    FOR v_shared IN SELECT data FROM _prom_data.fresh WHERE kind = 2 AND metric_id = ANY (v_metrics) AND metric_id < 0
                    ORDER BY id DESC LIMIT 64 LOOP
        BEGIN
            v_metrics := v_metrics || ARRAY(SELECT metric_id FROM _prom_ext.block_parts(v_shared.data));
        EXCEPTION WHEN data_corrupted OR feature_not_supported THEN
            NULL;
        END;
    END LOOP;
    RETURN _prom_catalog.mark_histograms(v_metrics);
END $$;

-- Metrics that have histograms, as seen; those that are new are then behind. Waits for nobody for long: what
-- somebody holds a lock on is marked another time.
CREATE FUNCTION _prom_catalog.mark_histograms(p_metrics int4[]) RETURNS int4
LANGUAGE plpgsql VOLATILE STRICT SET search_path = pg_catalog, pg_temp SET lock_timeout = '20ms' AS $$
DECLARE
    v_id int4;
    v_n int4 := 0;
    v_failed int4 := 0;
BEGIN
    FOR v_id IN SELECT id FROM _prom_catalog.metric WHERE id = ANY (p_metrics) AND NOT histograms
                ORDER BY id LIMIT 1000 LOOP
        BEGIN
            UPDATE _prom_catalog.metric SET histograms = true, views_positions = least(views_positions, 0)
                WHERE id = v_id;
            v_n := v_n + 1;
        EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
            v_failed := v_failed + 1;
            EXIT WHEN v_failed >= 5;
        END;
    END LOOP;
    RETURN v_n;
END $$;

-- What \d+ says: the metric, which the view's name may only show cut, and the label behind each column.
-- All in one string of commands, and only what is not said yet: labels come one by one.
CREATE FUNCTION _prom_catalog.comment_views_of(p_metric_id int4, p_name name, p_positions int4)
RETURNS void
LANGUAGE plpgsql VOLATILE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c_shown CONSTANT int4 := 1000; -- characters of a name
    v_metric text := (SELECT left(metric_name, c_shown) FROM _prom_catalog.metric WHERE id = p_metric_id);
    v_commands text;
BEGIN
    SELECT string_agg(format('COMMENT ON VIEW %s IS %L', v.view, v.says || v_metric), '; ') INTO v_commands
    FROM (VALUES (format('prom_metric.%I', p_name)::regclass, 'samples of metric '),
                 (format('prom_series.%I', p_name)::regclass, 'series of metric '),
                 (to_regclass(format('prom_histogram.%I', p_name)), 'samples that are histograms, of metric '),
                 (format('prom_data.%I', p_name)::regclass, 'INSERT and COPY samples here: metric ')) v (view, says)
    WHERE v.view IS NOT NULL AND obj_description(v.view, 'pg_class') IS NULL;
    v_commands := concat_ws('; ', v_commands, (
        SELECT string_agg(format('COMMENT ON COLUMN %s.%I IS %L', a.attrelid::regclass, a.attname,
                                 c.says || left(k.key, c_shown)), '; ')
        FROM _prom_catalog.label_key_position p
        JOIN _prom_catalog.label_key k ON k.id = p.key_id,
        LATERAL (VALUES (format('prom_metric.%I', p_name)::regclass, k.id_column_name, 'id of label '),
                        (to_regclass(format('prom_histogram.%I', p_name)), k.id_column_name, 'id of label '),
                        (format('prom_series.%I', p_name)::regclass, k.value_column_name, 'label ')) c (view, name, says)
        JOIN pg_attribute a ON a.attrelid = c.view AND a.attname = c.name
        WHERE p.metric_id = p_metric_id AND p.pos <= p_positions AND k.key <> '__name__'
          AND NOT EXISTS (SELECT FROM pg_description d
                          WHERE d.classoid = 'pg_class'::regclass AND d.objoid = a.attrelid AND d.objsubid = a.attnum)));
    IF v_commands <> '' THEN
        EXECUTE v_commands;
    END IF;
END $$;

-- The row may be locked by somebody who gives away positions; then the note has to wait, too.
CREATE FUNCTION _prom_catalog.note_views_error(p_metric_id int4, p_error text) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE _prom_catalog.metric SET views_error = p_error
        WHERE id = p_metric_id AND views_error IS DISTINCT FROM p_error;
EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
    NULL;
END $$;

CREATE FUNCTION _prom_catalog.step_views(p_force bool, OUT outcome text, OUT detail text, OUT next_in interval,
    OUT left_over int8)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    left_over := _prom_catalog.make_metric_views(100);
    outcome := CASE WHEN left_over > 0 THEN 'more' ELSE 'idle' END;
END $$;
REVOKE ALL ON FUNCTION _prom_catalog.step_views FROM PUBLIC;
