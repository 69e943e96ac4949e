-- Digests, generation, guard, feed, settings, tenants: what connectors and everything else rest on.
--
-- Functions that are not meant for inlining set search_path, so that nobody's schema comes before ours.

CREATE FUNCTION _prom_ext.text_digest(t text) RETURNS uuid
    AS 'MODULE_PATHNAME', 'digest_text' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION _prom_ext.label_digest(key text, value text) RETURNS uuid
    AS 'MODULE_PATHNAME', 'digest_label' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION _prom_ext.series_digest(keys text[], "values" text[]) RETURNS uuid
    AS 'MODULE_PATHNAME', 'digest_series' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION _prom_ext.dist_key(tenant_id int4, metric_id int4) RETURNS int8
    AS 'MODULE_PATHNAME', 'digest_dist_key' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

-- The generation that series ids belong to; changes with every deletion, fail-over and restore.
CREATE FUNCTION _prom_catalog.generation() RETURNS int8
    AS 'MODULE_PATHNAME', 'catalog_generation_sql' LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;
-- First statement of every flush: raises PS001 unless ids of this generation are still good, and keeps
-- them good until the transaction ends.
CREATE FUNCTION _prom_catalog.guard(p_generation int8) RETURNS void
    AS 'MODULE_PATHNAME', 'catalog_guard' LANGUAGE C VOLATILE STRICT;

-- What happened to series since p_cursor, from one snapshot. A caller starts with cursor 0 and goes on
-- with next_cursor; trimmed means that the feed cannot tell (rows are gone, or the cursor is of another
-- server): forget everything that was learnt.
CREATE FUNCTION _prom_catalog.feed(p_cursor xid8, OUT generation int8, OUT next_cursor xid8,
                                   OUT trimmed bool, OUT deleted int8[])
    AS 'MODULE_PATHNAME', 'feed_poll' LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;

-- The same for those who hold labels: which series are new and which are gone since snapshot p_since, each
-- told once. A caller starts with '1:1:', which is too old (trimmed), reads the catalog in the same snapshot,
-- and goes on with next_cursor.
CREATE FUNCTION _prom_catalog.follow(p_since pg_snapshot, OUT generation int8, OUT next_cursor pg_snapshot,
                                     OUT trimmed bool, OUT created int8[], OUT deleted int8[])
    AS 'MODULE_PATHNAME', 'feed_follow' LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;

CREATE FUNCTION _prom_catalog.tenant_id(p_name text) RETURNS int4
LANGUAGE plpgsql VOLATILE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_id int4;
BEGIN
    SELECT id INTO v_id FROM _prom_catalog.tenant WHERE name = p_name;
    IF v_id IS NULL THEN
        INSERT INTO _prom_catalog.tenant (name) VALUES (p_name) ON CONFLICT DO NOTHING;
        SELECT id INTO STRICT v_id FROM _prom_catalog.tenant WHERE name = p_name;
    END IF;
    RETURN v_id;
END $$;

-- A setting: what somebody chose, else what is built in. NULL for a key that does not exist.
CREATE FUNCTION _prom_catalog.setting(p_key text) RETURNS text
LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce((SELECT value FROM _prom_catalog.setting_override WHERE key = p_key),
        CASE p_key
            WHEN 'retention_period' THEN '90 days'
            WHEN 'retention_grace' THEN '1 hour'
            WHEN 'retention_rules' THEN '100'
            WHEN 'series_grace' THEN '12 hours'
            WHEN 'chunk_interval' THEN '8 hours'
            WHEN 'compression' THEN 'true'
            WHEN 'compact' THEN 'true'
            WHEN 'compact_size' THEN '16 MB'
            WHEN 'compact_share' THEN '25'
            WHEN 'exemplars_per_series' THEN '100'
            WHEN 'metadata_variants' THEN '10'
            WHEN 'lock_patience' THEN '1 minute'
            WHEN 'timescaledb_view' THEN 'auto'
        END)
$$;

CREATE FUNCTION _prom_catalog.set_setting(p_key text, p_value text) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF _prom_catalog.setting(p_key) IS NULL THEN
        RAISE EXCEPTION 'there is no setting "%"', p_key USING ERRCODE = '22023';
    END IF;
    INSERT INTO _prom_catalog.setting_override VALUES (p_key, p_value)
        ON CONFLICT (key) DO UPDATE SET value = excluded.value;
END $$;
