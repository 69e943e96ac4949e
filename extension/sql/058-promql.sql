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
