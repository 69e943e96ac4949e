-- PromQL: the engine of the connector inside the database, under the caller's snapshot and rights.

CREATE FUNCTION prom_api.promql(query text, at timestamptz DEFAULT now())
    RETURNS TABLE ("time" timestamptz, value float8, labels jsonb, histogram prom_api.histogram)
    AS 'MODULE_PATHNAME', 'promql_instant' LANGUAGE C STABLE STRICT PARALLEL RESTRICTED
    COST 10000 ROWS 1000;
COMMENT ON FUNCTION prom_api.promql(text, timestamptz) IS
    'a PromQL query at one time; a row for each series of the result';

CREATE FUNCTION prom_api.promql_range(query text, start timestamptz, stop timestamptz, step interval)
    RETURNS TABLE ("time" timestamptz, value float8, labels jsonb, histogram prom_api.histogram)
    AS 'MODULE_PATHNAME', 'promql_range' LANGUAGE C STABLE STRICT PARALLEL RESTRICTED
    COST 100000 ROWS 10000;
COMMENT ON FUNCTION prom_api.promql_range(text, timestamptz, timestamptz, interval) IS
    'a PromQL query at start, start + step, ... up to stop; a row for each series and step of the result';

-- Plans: what a query would read and hold; if it is run, what it did. Overloads differ in their number of
-- arguments, so that plain literals find the right one.
CREATE FUNCTION prom_api.promql_explain(query text, at timestamptz DEFAULT now(), run bool DEFAULT false)
    RETURNS SETOF text
    AS 'MODULE_PATHNAME', 'promql_explain_instant' LANGUAGE C STABLE STRICT PARALLEL RESTRICTED
    COST 10000 ROWS 20;
COMMENT ON FUNCTION prom_api.promql_explain(text, timestamptz, bool) IS
    'the plan of a PromQL query at one time, with estimates; run: runs it and shows what was true';

CREATE FUNCTION prom_api.promql_explain(query text, start timestamptz, stop timestamptz, step interval,
    run bool DEFAULT false)
    RETURNS SETOF text
    AS 'MODULE_PATHNAME', 'promql_explain_range' LANGUAGE C STABLE STRICT PARALLEL RESTRICTED
    COST 10000 ROWS 20;
COMMENT ON FUNCTION prom_api.promql_explain(text, timestamptz, timestamptz, interval, bool) IS
    'the plan of a PromQL query from start to stop, with estimates; run: runs it and shows what was true';

CREATE FUNCTION prom_api.promql_explain_json(query text, at timestamptz DEFAULT now(), run bool DEFAULT false)
    RETURNS jsonb
    AS 'MODULE_PATHNAME', 'promql_explain_json_instant' LANGUAGE C STABLE STRICT PARALLEL RESTRICTED
    COST 10000;
COMMENT ON FUNCTION prom_api.promql_explain_json(text, timestamptz, bool) IS
    'as promql_explain(), as one JSON object';

CREATE FUNCTION prom_api.promql_explain_json(query text, start timestamptz, stop timestamptz, step interval,
    run bool DEFAULT false)
    RETURNS jsonb
    AS 'MODULE_PATHNAME', 'promql_explain_json_range' LANGUAGE C STABLE STRICT PARALLEL RESTRICTED
    COST 10000;
COMMENT ON FUNCTION prom_api.promql_explain_json(text, timestamptz, timestamptz, interval, bool) IS
    'as promql_explain(), as one JSON object';
