-- The two small companions of samples: what metrics mean, and single observations with a trace.

-- Arrays of one length; repeated families are fine. Keeps at most 'metadata_variants' different
-- (type, unit, help) a family, and touches a row that says the same only once a minute.
CREATE FUNCTION _prom_catalog.upsert_metadata(p_tenant int4, p_family text[], p_type text[],
                                              p_unit text[], p_help text[]) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c_keep CONSTANT int4 := _prom_catalog.setting('metadata_variants')::int4;
    v_new uuid[];
BEGIN
    IF cardinality(p_type) <> cardinality(p_family) OR cardinality(p_unit) <> cardinality(p_family)
       OR cardinality(p_help) <> cardinality(p_family) THEN
        RAISE EXCEPTION 'the arrays differ in length' USING ERRCODE = '22023';
    END IF;
    WITH given AS (
        SELECT DISTINCT ON (family_digest, digest) *
        FROM (SELECT u.*, _prom_ext.text_digest(u.family) AS family_digest,
                     _prom_ext.series_digest(ARRAY['family', 'help', 'type', 'unit'],
                                             ARRAY[u.family, u.help, u.type, u.unit]) AS digest
              FROM unnest(p_family, p_type, p_unit, p_help) u(family, type, unit, help)) d
        ORDER BY family_digest, digest
    ), stored AS (
        INSERT INTO _prom_catalog.metadata AS m
            (tenant_id, family_digest, digest, metric_family, type, unit, help, last_seen)
        SELECT p_tenant, family_digest, digest, family, type, unit, help, clock_timestamp()
        FROM given
        ON CONFLICT (tenant_id, family_digest, digest) DO UPDATE SET last_seen = excluded.last_seen
            WHERE m.last_seen < excluded.last_seen - interval '1 minute'
        RETURNING family_digest
    )
    SELECT array_agg(DISTINCT family_digest) INTO v_new FROM stored;
    DELETE FROM _prom_catalog.metadata m
    USING (SELECT family_digest, digest,
                  row_number() OVER (PARTITION BY family_digest
                                     ORDER BY last_seen DESC, digest) AS rank
           FROM _prom_catalog.metadata
           WHERE tenant_id = p_tenant AND family_digest = ANY (v_new)) r
    WHERE m.tenant_id = p_tenant AND m.family_digest = r.family_digest AND m.digest = r.digest
      AND r.rank > c_keep;
END $$;

-- Returns how many are new. The same exemplar again is no error. Maintenance caps their number.
CREATE FUNCTION _prom_catalog.insert_exemplars(p_tenant int4[], p_metric int4[], p_dist int8[],
    p_series int8[], p_time timestamptz[], p_value float8[], p_labels jsonb[]) RETURNS int8
LANGUAGE sql VOLATILE STRICT SET search_path = pg_catalog, pg_temp AS $$
    WITH stored AS (
        INSERT INTO _prom_data.exemplar
            (tenant_id, metric_id, dist_key, series_id, time, value, labels, digest)
        SELECT *, _prom_ext.text_digest(labels::text)
        FROM unnest(p_tenant, p_metric, p_dist, p_series, p_time, p_value, p_labels)
             u(tenant_id, metric_id, dist_key, series_id, time, value, labels)
        ORDER BY metric_id, series_id, time
        ON CONFLICT DO NOTHING RETURNING 1
    )
    SELECT count(*) FROM stored
$$;
