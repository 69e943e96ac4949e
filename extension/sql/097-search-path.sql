-- New sessions of this database find ps_tag, prom_api and prom_metric after whatever they had before;
-- sessions that are open already have to reconnect. pg_catalog and public come first, so that a metric
-- can never stand for something of theirs.
DO $$
DECLARE
    v_path text;
    v_schema text;
BEGIN
    SELECT substr(c, length('search_path=') + 1) INTO v_path
    FROM pg_catalog.pg_db_role_setting s, unnest(s.setconfig) c
    WHERE s.setdatabase = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
      AND s.setrole = 0 AND c LIKE 'search_path=%';
    v_path := coalesce(v_path, (SELECT reset_val FROM pg_catalog.pg_settings
                                WHERE name = 'search_path'));
    FOREACH v_schema IN ARRAY ARRAY['ps_tag', 'prom_api', 'prom_metric'] LOOP
        IF v_schema <> ALL (regexp_split_to_array(v_path, '\s*,\s*')) THEN
            v_path := v_path || CASE WHEN v_path = '' THEN '' ELSE ', ' END || v_schema;
        END IF;
    END LOOP;
    -- Compiling expressions costs more than it saves here: the work is in the blocks.
    EXECUTE format('ALTER DATABASE %I SET jit = off', current_database());
    EXECUTE format('ALTER DATABASE %I SET search_path = %s', current_database(), v_path);
END $$;
