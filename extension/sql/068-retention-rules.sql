-- How long samples are kept: rules by selector and by tenant, beside those by metric (066-settings.sql).
--
-- The period of a series: the longest of the selectors that match it; if none does, that of its metric; else
-- that of its tenant; else the default. 0 keeps for ever.
--
-- Nothing is deleted in the moment in which somebody changes a rule. retention_memory holds what maintenance
-- has seen of each rule; where the rule says something else now, the old word counts, too, for as long as the
-- setting retention_grace says: of the periods by the old and by the new rules the longer one decides. It
-- does not matter how the rule was changed, by a function, by hand or by a restore: what differs from memory
-- has changed just now, until the next run of retention has seen it; then the time runs. Memory is not
-- dumped; a restored database remembers the built-in default alone.

CREATE TABLE _prom_catalog.retention_rule (
    digest   uuid PRIMARY KEY,                    -- _prom_ext.text_digest(selector)
    selector text COLLATE "C" NOT NULL,           -- as _prom_ext.canonical_selector() writes it
    period   interval NOT NULL CHECK (_prom_catalog.is_period(period)),
    set_at   timestamptz NOT NULL DEFAULT now()
);

-- By name: a tenant may get its rule before it sends anything.
CREATE TABLE _prom_catalog.tenant_retention (
    tenant text COLLATE "C" PRIMARY KEY CHECK (octet_length(tenant) <= 1024),
    period interval NOT NULL CHECK (_prom_catalog.is_period(period)),
    set_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE _prom_catalog.retention_memory (
    kind       "char" NOT NULL,                   -- d: default, t: tenant, m: metric, s: selector
    key        text COLLATE "C" NOT NULL,         -- '', name, id, digest of the selector
    selector   text COLLATE "C",                  -- of kind s
    period     interval,                          -- what the rule said when maintenance saw it; NULL: no rule
    held       interval,                          -- until held_until: what it said before
    held_until timestamptz,
    PRIMARY KEY (kind, key)
);
INSERT INTO _prom_catalog.retention_memory (kind, key, period)
    VALUES ('d', '', _prom_catalog.setting('retention_period')::interval);

CREATE FUNCTION _prom_ext.matching_series(selector text, metric_name text)
    RETURNS TABLE (metric_id int4, series_id int8)
    AS 'MODULE_PATHNAME', 'matching_series' LANGUAGE C STABLE STRICT PARALLEL RESTRICTED COST 1000 ROWS 100;
-- The one way to write a selector with these matchers.
CREATE FUNCTION _prom_ext.canonical_selector(selector text) RETURNS text
    AS 'MODULE_PATHNAME', 'canonical_selector' LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;

-- ---- periods ---------------------------------------------------------------------------------------

-- Of two periods; NULL is no period at all. As operators compare them, 3 months equal 90 days, and a year is shorter
-- than 361 days: how long they are is seen from now.
CREATE FUNCTION _prom_catalog.longer(a interval, b interval) RETURNS interval
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
    SELECT CASE WHEN a = '0' OR b = '0' THEN '0'::interval WHEN now() - a < now() - b THEN a ELSE coalesce(b, a) END
$$;
CREATE AGGREGATE _prom_catalog.longest(interval) (SFUNC = _prom_catalog.longer, STYPE = interval);

-- Whether two rules say the same. 3 months and 90 days do not, though they are equal as intervals.
CREATE FUNCTION _prom_catalog.same_period(a interval, b interval) RETURNS bool
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp SET IntervalStyle = 'postgres' AS $$
    SELECT a::text IS NOT DISTINCT FROM b::text
$$;

-- What a rule that says p_period now said before, if that still counts; else p_period.
CREATE FUNCTION _prom_catalog.held_period(p_kind "char", p_key text, p_period interval) RETURNS interval
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    m record;
BEGIN
    SELECT period, held, held_until INTO m FROM _prom_catalog.retention_memory WHERE kind = p_kind AND key = p_key;
    IF m.held_until > now() THEN
        RETURN m.held;
    ELSIF NOT _prom_catalog.same_period(m.period, p_period) AND _prom_catalog.setting('retention_grace')::interval > '0' THEN
        RETURN m.period;
    END IF;
    RETURN p_period;
END $$;

-- All rules that are not of metrics: what they say (period), what they said before (held); where nothing is
-- held both are the same. NULL: no such rule.
CREATE FUNCTION _prom_catalog.retention_rules(OUT kind "char", OUT key text, OUT selector text, OUT period interval,
                                              OUT held interval) RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT r.kind, r.key, r.selector, r.period, _prom_catalog.held_period(r.kind, r.key, r.period)
    FROM (SELECT 'd'::"char" AS kind, '' AS key, NULL AS selector,
                 _prom_catalog.setting('retention_period')::interval AS period
          UNION ALL SELECT 't', tenant, NULL, period FROM _prom_catalog.tenant_retention
          UNION ALL SELECT 's', digest::text, selector, period FROM _prom_catalog.retention_rule
          UNION ALL SELECT m.kind, m.key, m.selector, NULL FROM _prom_catalog.retention_memory m
                    WHERE m.kind = 't' AND NOT EXISTS (SELECT FROM _prom_catalog.tenant_retention t
                                                       WHERE t.tenant = m.key)
                       OR m.kind = 's' AND NOT EXISTS (SELECT FROM _prom_catalog.retention_rule t
                                                       WHERE t.digest = m.key::uuid)) r
$$;

-- The period of what no selector matches, for a metric and tenant; p_held: as it was before.
CREATE FUNCTION _prom_catalog.base_period(p_metric_id int4, p_tenant_id int4, p_held bool) RETURNS interval
LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(
        (SELECT CASE WHEN p_held THEN _prom_catalog.held_period('m', p_metric_id::text, m.retention_period)
                     ELSE m.retention_period END
         FROM (SELECT (SELECT retention_period FROM _prom_catalog.metric WHERE id = p_metric_id)) m (retention_period)),
        (SELECT CASE WHEN p_held THEN r.held ELSE r.period END
         FROM _prom_catalog.retention_rules() r JOIN _prom_catalog.tenant t ON t.name = r.key
         WHERE r.kind = 't' AND t.id = p_tenant_id),
        (SELECT CASE WHEN p_held THEN r.held ELSE r.period END
         FROM _prom_catalog.retention_rules() r WHERE r.kind = 'd'))
$$;

-- The series of a metric that are kept longer or shorter than the metric as a whole is kept for their tenant.
-- Costs next to nothing where there are no selectors.
CREATE FUNCTION _prom_catalog.series_classes(p_metric_id int4)
RETURNS TABLE (tenant_id int4, series_id int8, period interval)
LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM _prom_catalog.retention_rule) THEN
        RETURN;
    END IF;
    RETURN QUERY
    WITH hit AS MATERIALIZED (
        SELECT x.series_id, _prom_catalog.longest(r.period) AS period
        FROM _prom_catalog.retention_rule r, _prom_catalog.metric m,
             LATERAL _prom_ext.matching_series(r.selector, m.metric_name) x
        WHERE m.id = p_metric_id GROUP BY x.series_id
    ), labelled AS MATERIALIZED (
        SELECT s.tenant_id, s.id, h.period FROM hit h JOIN _prom_catalog.series s ON s.id = h.series_id
    ), base AS MATERIALIZED (
        SELECT t.tenant_id, _prom_catalog.base_period(p_metric_id, t.tenant_id, false) AS period
        FROM (SELECT DISTINCT l.tenant_id FROM labelled l) t
    )
    SELECT l.tenant_id, l.id, l.period FROM labelled l JOIN base b ON b.tenant_id = l.tenant_id
    WHERE now() - l.period <> now() - b.period ORDER BY 1, 2;
END $$;
COMMENT ON FUNCTION _prom_catalog.series_classes(int4) IS
    'series of a metric that a selector keeps longer or shorter than their metric and tenant are kept';

-- The same as it is to be deleted by: with what is held.
CREATE FUNCTION _prom_catalog.series_kept(p_metric_id int4)
RETURNS TABLE (tenant_id int4, series_id int8, period interval)
LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM _prom_catalog.retention_rule)
       AND NOT EXISTS (SELECT FROM _prom_catalog.retention_memory m WHERE m.kind = 's') THEN
        RETURN;
    END IF;
    RETURN QUERY
    WITH rule AS MATERIALIZED ( -- once: they take longer to read than the rest
        SELECT * FROM _prom_catalog.retention_rules()
    ), hit AS MATERIALIZED (
        SELECT x.series_id, _prom_catalog.longest(r.period) AS period, _prom_catalog.longest(r.held) AS held
        FROM rule r, _prom_catalog.metric m,
             LATERAL _prom_ext.matching_series(r.selector, m.metric_name) x
        WHERE r.kind = 's' AND m.id = p_metric_id GROUP BY x.series_id
    ), own AS MATERIALIZED (
        SELECT m.retention_period AS period, _prom_catalog.held_period('m', p_metric_id::text, m.retention_period) AS held
        FROM (SELECT (SELECT retention_period FROM _prom_catalog.metric WHERE id = p_metric_id)) m (retention_period)
    ), labelled AS MATERIALIZED (
        SELECT s.tenant_id, s.id, h.period, h.held FROM hit h JOIN _prom_catalog.series s ON s.id = h.series_id
    ), base AS MATERIALIZED ( -- base_period() of both
        SELECT t.tenant_id, coalesce(own.period, r.period, d.period) AS period, coalesce(own.held, r.held, d.held) AS held
        FROM (SELECT DISTINCT l.tenant_id FROM labelled l) t
        CROSS JOIN own JOIN rule d ON d.kind = 'd'
        LEFT JOIN _prom_catalog.tenant n ON n.id = t.tenant_id
        LEFT JOIN rule r ON r.kind = 't' AND r.key = n.name
    )
    SELECT l.tenant_id, l.id, _prom_catalog.longer(coalesce(l.period, b.period), coalesce(l.held, b.held))
    FROM labelled l JOIN base b ON b.tenant_id = l.tenant_id
    WHERE now() - _prom_catalog.longer(coalesce(l.period, b.period), coalesce(l.held, b.held))
       <> now() - _prom_catalog.longer(b.period, b.held) ORDER BY 1, 2;
END $$;

-- In milliseconds, as long as it is seen from now (months differ); 0: for ever.
CREATE FUNCTION _prom_catalog.period_ms(p_period interval) RETURNS int8
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
    SELECT CASE WHEN p_period = '0' THEN 0
           ELSE greatest(extract(epoch FROM now() - (now() - p_period)) * 1000, 1) END::int8
$$;

-- All rules as they delete, for connectors, which tell of samples that come too late. While some rule has changed and
-- does not count yet, one rule for all: the longest period that is or was.
CREATE FUNCTION _prom_catalog.retention_periods(OUT kind "char", OUT subject text, OUT kept_ms int8)
RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH r AS MATERIALIZED (
        SELECT x.kind, coalesce(x.selector, x.key) AS subject, x.period, x.held FROM _prom_catalog.retention_rules() x
        UNION ALL
        SELECT 'm', m.metric_name, m.retention_period,
               _prom_catalog.held_period('m', m.id::text, m.retention_period)
        FROM _prom_catalog.metric m
        WHERE m.retention_period IS NOT NULL
           OR m.id IN (SELECT key::int4 FROM _prom_catalog.retention_memory y WHERE y.kind = 'm')
    ), grace AS MATERIALIZED (
        SELECT EXISTS (SELECT FROM r WHERE NOT _prom_catalog.same_period(r.period, r.held)) AS holds
    )
    SELECT r.kind, r.subject, _prom_catalog.period_ms(r.period) FROM r, grace WHERE NOT holds AND r.period IS NOT NULL
    UNION ALL
    SELECT 'd', '', _prom_catalog.period_ms(_prom_catalog.longest(_prom_catalog.longer(r.period, r.held)))
    FROM r, grace WHERE holds HAVING count(*) > 0
$$;

-- Brings memory up to date: from here on the grace of what has changed runs. Returns how many rules had.
CREATE FUNCTION _prom_catalog.note_retention() RETURNS int8
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_grace CONSTANT interval := _prom_catalog.setting('retention_grace')::interval;
    v_n int8;
BEGIN
    DELETE FROM _prom_catalog.retention_memory m WHERE m.kind <> 'd' AND m.period IS NULL AND m.held_until <= now();
    INSERT INTO _prom_catalog.retention_memory AS old (kind, key, selector, period, held, held_until)
        SELECT r.kind, r.key, r.selector, r.period, NULL, now() + v_grace
        FROM (SELECT kind, key, selector, period FROM _prom_catalog.retention_rules()
              UNION ALL SELECT 'm', id::text, NULL, retention_period FROM _prom_catalog.metric
                        WHERE retention_period IS NOT NULL
              UNION ALL SELECT m.kind, m.key, NULL, NULL FROM _prom_catalog.retention_memory m
                        WHERE m.kind = 'm' AND NOT EXISTS (SELECT FROM _prom_catalog.metric x
                            WHERE x.id = m.key::int4 AND x.retention_period IS NOT NULL)) r
        LEFT JOIN _prom_catalog.retention_memory m USING (kind, key)
        WHERE NOT _prom_catalog.same_period(m.period, r.period)
        ORDER BY r.kind, r.key
        ON CONFLICT (kind, key) DO UPDATE SET
            -- several changes in a row: what counted before the first of them, or longer
            held = CASE WHEN old.held_until > now() AND old.held IS NOT NULL AND old.period IS NOT NULL
                        THEN _prom_catalog.longer(old.held, old.period)
                        WHEN old.held_until > now() THEN old.held
                        ELSE old.period END,
            held_until = excluded.held_until, period = excluded.period
            WHERE NOT _prom_catalog.same_period(old.period, excluded.period);
    GET DIAGNOSTICS v_n = ROW_COUNT;
    RETURN v_n;
END $$;

-- ---- the functions to set them ---------------------------------------------------------------------

CREATE FUNCTION _prom_catalog.check_retention(p_period interval) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF p_period IS NULL OR p_period <> '0' THEN
        PERFORM _prom_catalog.check_interval('retention period', p_period, '0');
    END IF;
END $$;

-- An error unless it is a selector; returns the way to write it.
CREATE FUNCTION _prom_catalog.check_selector(p_selector text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF p_selector IS NULL THEN
        RAISE EXCEPTION 'the selector must not be null' USING ERRCODE = '22004',
            HINT = 'For example ''{env="dev"}''.';
    ELSIF octet_length(p_selector) > 65536 THEN
        RAISE EXCEPTION 'the selector has % bytes, the limit is 65536', octet_length(p_selector)
            USING ERRCODE = '54000';
    END IF;
    PERFORM FROM _prom_ext.matching_series(p_selector, '');  -- its regular expressions are tried out
    RETURN _prom_ext.canonical_selector(p_selector);
END $$;

CREATE FUNCTION prom_api.set_retention(selector text, period interval) RETURNS bool
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET IntervalStyle = 'postgres' AS $$
DECLARE
    v_selector text := _prom_catalog.check_selector($1);
BEGIN
    PERFORM _prom_catalog.check_retention($2);
    INSERT INTO _prom_catalog.retention_rule AS r (digest, selector, period)
        VALUES (_prom_ext.text_digest(v_selector), v_selector, $2)
        ON CONFLICT (digest) DO UPDATE SET period = excluded.period, set_at = now()
            WHERE NOT _prom_catalog.same_period(r.period, excluded.period);
    IF (SELECT count(*) FROM _prom_catalog.retention_rule) > _prom_catalog.setting('retention_rules')::int8 THEN
        RAISE EXCEPTION 'there are % selectors with a retention period already',
            _prom_catalog.setting('retention_rules') USING ERRCODE = '54000',
            HINT = 'reset_retention() takes one away; setting retention_rules is the limit.';
    END IF;
    RETURN true;
END $$;
COMMENT ON FUNCTION prom_api.set_retention(text, interval) IS
    'how long samples are kept of series that match the PromQL selector, whatever their metric says; 0: for ever';

CREATE FUNCTION prom_api.reset_retention(selector text) RETURNS bool
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_selector text := _prom_catalog.check_selector($1);
BEGIN
    DELETE FROM _prom_catalog.retention_rule WHERE digest = _prom_ext.text_digest(v_selector);
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no retention period is set for %', left(v_selector, 200) USING ERRCODE = '42704',
            HINT = 'Those that are set are in prom_info.retention.';
    END IF;
    RETURN true;
END $$;
COMMENT ON FUNCTION prom_api.reset_retention(text) IS
    'lets series that match the PromQL selector be kept as long as their metric says again';

CREATE FUNCTION _prom_catalog.check_tenant(p_tenant text) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF p_tenant IS NULL THEN
        RAISE EXCEPTION 'the name of the tenant must not be null' USING ERRCODE = '22004',
            HINT = 'An empty name is for samples without a tenant.';
    ELSIF octet_length(p_tenant) > 1024 THEN
        RAISE EXCEPTION 'the name of the tenant has % bytes, the limit is 1024', octet_length(p_tenant)
            USING ERRCODE = '54000';
    END IF;
END $$;

CREATE FUNCTION prom_api.set_tenant_retention(tenant text, period interval) RETURNS bool
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET IntervalStyle = 'postgres' AS $$
BEGIN
    PERFORM _prom_catalog.check_tenant($1);
    PERFORM _prom_catalog.check_retention($2);
    INSERT INTO _prom_catalog.tenant_retention AS r (tenant, period) VALUES ($1, $2)
        ON CONFLICT ON CONSTRAINT tenant_retention_pkey DO UPDATE SET period = excluded.period, set_at = now()
            WHERE NOT _prom_catalog.same_period(r.period, excluded.period);
    RETURN true;
END $$;
COMMENT ON FUNCTION prom_api.set_tenant_retention(text, interval) IS
    'how long samples of a tenant are kept, of metrics without a period of their own; 0: for ever';

CREATE FUNCTION prom_api.reset_tenant_retention(tenant text) RETURNS bool
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM _prom_catalog.check_tenant($1);
    DELETE FROM _prom_catalog.tenant_retention r WHERE r.tenant = $1;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no retention period is set for tenant "%"', left($1, 80) USING ERRCODE = '42704',
            HINT = 'Those that are set are in prom_info.retention.';
    END IF;
    RETURN true;
END $$;
COMMENT ON FUNCTION prom_api.reset_tenant_retention(text) IS
    'lets the samples of a tenant be kept as long as the default says again';

-- ---- what is set -----------------------------------------------------------------------------------

CREATE VIEW prom_info.retention WITH (security_invoker = true) AS
SELECT r.rule, r.subject, r.period AS retention_period, r.num_series,
       CASE WHEN m.held_until > now() THEN m.held
            WHEN NOT _prom_catalog.same_period(m.period, r.period) THEN m.period END AS period_before,
       CASE WHEN m.held_until > now() THEN m.held_until
            WHEN NOT _prom_catalog.same_period(m.period, r.period)
            THEN now() + _prom_catalog.setting('retention_grace')::interval END AS counts_from
FROM (
    SELECT 'default' AS rule, NULL AS subject, 'd'::"char" AS kind, '' AS key,
           _prom_catalog.setting('retention_period')::interval AS period,
           (SELECT count(*) FROM _prom_catalog.series) AS num_series
    UNION ALL
    SELECT 'tenant', t.tenant, 't', t.tenant, t.period,
           (SELECT count(*) FROM _prom_catalog.series s JOIN _prom_catalog.tenant x ON x.id = s.tenant_id
            WHERE x.name = t.tenant)
    FROM _prom_catalog.tenant_retention t
    UNION ALL
    SELECT 'metric', e.metric_name, 'm', e.id::text, e.retention_period,
           (SELECT count(*) FROM _prom_catalog.series s WHERE s.metric_id = e.id)
    FROM _prom_catalog.metric e WHERE e.retention_period IS NOT NULL
    UNION ALL
    SELECT 'selector', q.selector, 's', q.digest::text, q.period,
           (SELECT count(*) FROM _prom_ext.matching_series(q.selector))
    FROM _prom_catalog.retention_rule q
) r LEFT JOIN _prom_catalog.retention_memory m ON m.kind = r.kind AND m.key = r.key;
COMMENT ON VIEW prom_info.retention IS
    'how long samples are kept: the default, and rules by tenant, metric and selector, the later the stronger';
COMMENT ON COLUMN prom_info.retention.subject IS 'name of the tenant or metric, or the selector';
COMMENT ON COLUMN prom_info.retention.retention_period IS 'how long samples are kept; 0: for ever';
COMMENT ON COLUMN prom_info.retention.num_series IS
    'series that the rule is about, those included for which a stronger one decides';
COMMENT ON COLUMN prom_info.retention.period_before IS
    'what the rule said until it was changed (NULL: there was none); it counts, too, where that is longer';
COMMENT ON COLUMN prom_info.retention.counts_from IS
    'when the change begins to delete, at the earliest; NULL: it has begun';
