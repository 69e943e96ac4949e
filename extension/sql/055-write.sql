-- Writing from SQL. Besides its two views each metric has a third, prom_data.<metric>, with the columns
-- (time, value, series_id, labels as jsonb): what loaders INSERT and COPY into. Two triggers make blocks of
-- what a statement brings (src/write.h tells how), in the caller's transaction and with the caller's rights.

-- The metric's id is their argument: ids are dumped, so that dumped triggers stay right.
CREATE FUNCTION _prom_ext.write_row() RETURNS trigger
    AS 'MODULE_PATHNAME', 'write_row' LANGUAGE C VOLATILE;
CREATE FUNCTION _prom_ext.write_end() RETURNS trigger
    AS 'MODULE_PATHNAME', 'write_end' LANGUAGE C VOLATILE;

-- Makes the third view unless it is there; its columns never change. One that is to be remade (062-views.sql) is
-- replaced, and keeps its triggers. pg_trigger grows with each view: the plan
-- of the first look must not be one that reads all of it.
CREATE FUNCTION _prom_catalog.make_write_view(p_metric_id int4, p_name name) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
BEGIN
    IF EXISTS (SELECT FROM pg_trigger
               WHERE tgrelid = (SELECT c.oid FROM pg_class c WHERE c.relname = p_name
                                AND c.relnamespace = 'prom_data'::regnamespace)
                 AND tgfoid = '_prom_ext.write_end()'::regprocedure)
       AND NOT EXISTS (SELECT FROM _prom_catalog.metric WHERE id = p_metric_id AND views_positions < 0) THEN
        RETURN;
    END IF;
    PERFORM _prom_catalog.put_view('prom_data', p_name, format(
        'SELECT "time", value, series_id, prom_api.jsonb(labels) AS labels FROM _prom_data.samples WHERE metric_id = %s',
        p_metric_id), format(
        'CREATE TRIGGER promscale_write_row INSTEAD OF INSERT ON prom_data.%1$I'
        ' FOR EACH ROW EXECUTE FUNCTION _prom_ext.write_row(%2$s); '
        'CREATE TRIGGER promscale_write_end AFTER INSERT ON prom_data.%1$I'
        ' FOR EACH STATEMENT EXECUTE FUNCTION _prom_ext.write_end()', p_name, p_metric_id));
END $$;

-- The series with these labels, __name__ among them, which is made if it does not exist.
CREATE FUNCTION _prom_catalog.get_or_create_series_id(label jsonb) RETURNS int8
    AS 'MODULE_PATHNAME', 'write_series_id' LANGUAGE C VOLATILE STRICT;

-- The metric of this name, which is made if it does not exist. Its views come within seconds.
CREATE FUNCTION _prom_catalog.get_or_create_metric_table_name(metric_name text, OUT id int4,
    OUT table_name name, OUT possibly_new bool)
LANGUAGE plpgsql VOLATILE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c_max_bytes CONSTANT int4 := 65536; -- as for every label value
BEGIN
    IF octet_length(metric_name) > c_max_bytes THEN
        RAISE EXCEPTION 'the metric name has % bytes, the limit is %', octet_length(metric_name), c_max_bytes
            USING ERRCODE = '54000';
    END IF;
    IF metric_name = '' THEN
        RAISE EXCEPTION 'the metric name is empty' USING ERRCODE = '22023';
    END IF;
    SELECT m.id, m.table_name, false INTO id, table_name, possibly_new FROM _prom_catalog.metric m
        WHERE m.digest = _prom_ext.text_digest($1) AND m.metric_name = $1;
    IF id IS NULL THEN
        SELECT r.metric_ids[1] INTO STRICT id
        FROM _prom_catalog.resolve_series(0, ARRAY[$1], '{}', '{}', '{}', '{}', '{}') r;
        SELECT m.table_name, true INTO table_name, possibly_new
        FROM _prom_catalog.metric m WHERE m.id = get_or_create_metric_table_name.id;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'the metric was dropped meanwhile' USING ERRCODE = '40001',
                HINT = 'Repeat the transaction.';
        END IF;
    END IF;
END $$;

-- Makes the views of a metric now; does nothing where they are. SECURITY DEFINER: as make_metric_views().
-- Somebody else may be making them at this moment: then they are there afterwards.
CREATE FUNCTION _prom_catalog.make_views_now(p_metric_id int4) RETURNS regclass
LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c_attempts CONSTANT int4 := 3;
    m record;
BEGIN
    SELECT metric.id, metric.table_name, metric.positions INTO m
        FROM _prom_catalog.metric WHERE metric.id = p_metric_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the metric was dropped meanwhile' USING ERRCODE = '40001',
            HINT = 'Repeat the transaction.';
    END IF;
    FOR attempt IN 1 .. c_attempts LOOP
        EXIT WHEN to_regclass(format('prom_data.%I', m.table_name)) IS NOT NULL;
        BEGIN
            PERFORM FROM _prom_catalog.metric WHERE metric.id = p_metric_id FOR NO KEY UPDATE;
            IF NOT FOUND THEN
                RAISE EXCEPTION 'the metric was dropped meanwhile' USING ERRCODE = '40001',
                    HINT = 'Repeat the transaction.';
            END IF;
            PERFORM _prom_catalog.make_views_of(m.id, m.table_name, m.positions);
            UPDATE _prom_catalog.metric SET views_positions = m.positions, views_error = NULL
                WHERE metric.id = p_metric_id;
        EXCEPTION WHEN unique_violation OR duplicate_table THEN
            IF attempt = c_attempts THEN
                RAISE;
            END IF;
        END;
    END LOOP;
    RETURN format('prom_data.%I', m.table_name)::regclass;
END $$;

CREATE FUNCTION prom_api.create_metric(metric_name text) RETURNS regclass
LANGUAGE sql VOLATILE STRICT SET search_path = pg_catalog, pg_temp AS $$
    SELECT _prom_catalog.make_views_now(t.id)
    FROM _prom_catalog.get_or_create_metric_table_name(metric_name) t
$$;

COMMENT ON FUNCTION prom_api.create_metric(text) IS
    'makes a metric and its views unless they exist; returns the view to INSERT and COPY into';
COMMENT ON FUNCTION _prom_catalog.get_or_create_series_id(jsonb) IS
    'id of the series with these labels (__name__ among them), made if it does not exist';
COMMENT ON FUNCTION _prom_catalog.get_or_create_metric_table_name(text) IS
    'id and view name of a metric, made if it does not exist';
