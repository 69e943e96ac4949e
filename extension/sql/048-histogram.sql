-- Native histograms as values. What their bytes are is told in src/histogram_bytes.c, text and jsonb in
-- src/histogram_type.c. Functions carry PromQL's names and answer as PromQL's do.

CREATE TYPE prom_api.histogram;
CREATE FUNCTION _prom_ext.histogram_in(cstring) RETURNS prom_api.histogram
    AS 'MODULE_PATHNAME', 'promscale_histogram_in' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION _prom_ext.histogram_out(prom_api.histogram) RETURNS cstring
    AS 'MODULE_PATHNAME', 'promscale_histogram_out' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION _prom_ext.histogram_recv(internal) RETURNS prom_api.histogram
    AS 'MODULE_PATHNAME', 'promscale_histogram_recv' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION _prom_ext.histogram_send(prom_api.histogram) RETURNS bytea
    AS 'MODULE_PATHNAME', 'promscale_histogram_send' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE TYPE prom_api.histogram (
    INPUT = _prom_ext.histogram_in, OUTPUT = _prom_ext.histogram_out,
    RECEIVE = _prom_ext.histogram_recv, SEND = _prom_ext.histogram_send,
    INTERNALLENGTH = VARIABLE, ALIGNMENT = int4, STORAGE = extended);
COMMENT ON TYPE prom_api.histogram IS
    'a native histogram, written like {{schema:1 count:5 sum:18.4 buckets:[2 3]}}';

CREATE FUNCTION prom_api.jsonb(h prom_api.histogram) RETURNS jsonb
    AS 'MODULE_PATHNAME', 'promscale_histogram_jsonb' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE CAST (prom_api.histogram AS jsonb) WITH FUNCTION prom_api.jsonb(prom_api.histogram);
COMMENT ON FUNCTION prom_api.jsonb(prom_api.histogram) IS
    'count, sum and populated buckets [rule, lower, upper, count], as the HTTP API writes them';

-- ---- numbers -------------------------------------------------------------------------------------

CREATE FUNCTION prom_api.histogram_count(h prom_api.histogram) RETURNS float8
    AS 'MODULE_PATHNAME', 'promscale_histogram_count' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION prom_api.histogram_count(prom_api.histogram) IS 'number of observations';
CREATE FUNCTION prom_api.histogram_sum(h prom_api.histogram) RETURNS float8
    AS 'MODULE_PATHNAME', 'promscale_histogram_sum' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION prom_api.histogram_sum(prom_api.histogram) IS 'sum of all observations';
CREATE FUNCTION prom_api.histogram_avg(h prom_api.histogram) RETURNS float8
    AS 'MODULE_PATHNAME', 'promscale_histogram_avg' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION prom_api.histogram_avg(prom_api.histogram) IS 'mean of the observations';
CREATE FUNCTION prom_api.histogram_stddev(h prom_api.histogram) RETURNS float8
    AS 'MODULE_PATHNAME', 'promscale_histogram_stddev' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION prom_api.histogram_stddev(prom_api.histogram) IS
    'standard deviation of the observations, estimated from the buckets';
CREATE FUNCTION prom_api.histogram_stdvar(h prom_api.histogram) RETURNS float8
    AS 'MODULE_PATHNAME', 'promscale_histogram_stdvar' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION prom_api.histogram_stdvar(prom_api.histogram) IS
    'variance of the observations, estimated from the buckets';
CREATE FUNCTION prom_api.histogram_quantile(q float8, h prom_api.histogram) RETURNS float8
    AS 'MODULE_PATHNAME', 'promscale_histogram_quantile' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION prom_api.histogram_quantile(float8, prom_api.histogram) IS
    'the value below which the share q (0 to 1) of the observations lies, estimated from the buckets';
CREATE FUNCTION prom_api.histogram_fraction(lower float8, upper float8, h prom_api.histogram) RETURNS float8
    AS 'MODULE_PATHNAME', 'promscale_histogram_fraction' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION prom_api.histogram_fraction(float8, float8, prom_api.histogram) IS
    'share of the observations between two values, estimated from the buckets';
CREATE FUNCTION prom_api.histogram_buckets(h prom_api.histogram)
    RETURNS TABLE (lower float8, upper float8, count float8, lower_inclusive bool, upper_inclusive bool)
    AS 'MODULE_PATHNAME', 'promscale_histogram_buckets' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE ROWS 20;
COMMENT ON FUNCTION prom_api.histogram_buckets(prom_api.histogram) IS
    'populated buckets from the lowest value upward';

-- ---- operators -----------------------------------------------------------------------------------

CREATE FUNCTION _prom_ext.histogram_add(a prom_api.histogram, b prom_api.histogram) RETURNS prom_api.histogram
    AS 'MODULE_PATHNAME', 'promscale_histogram_add' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION _prom_ext.histogram_sub(a prom_api.histogram, b prom_api.histogram) RETURNS prom_api.histogram
    AS 'MODULE_PATHNAME', 'promscale_histogram_sub' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION _prom_ext.histogram_mul(a prom_api.histogram, b float8) RETURNS prom_api.histogram
    AS 'MODULE_PATHNAME', 'promscale_histogram_mul' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION _prom_ext.histogram_mul(a float8, b prom_api.histogram) RETURNS prom_api.histogram
    AS 'MODULE_PATHNAME', 'promscale_histogram_mul_right' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION _prom_ext.histogram_div(a prom_api.histogram, b float8) RETURNS prom_api.histogram
    AS 'MODULE_PATHNAME', 'promscale_histogram_div' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION _prom_ext.histogram_eq(a prom_api.histogram, b prom_api.histogram) RETURNS bool
    AS 'MODULE_PATHNAME', 'promscale_histogram_eq' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION _prom_ext.histogram_ne(a prom_api.histogram, b prom_api.histogram) RETURNS bool
    AS 'MODULE_PATHNAME', 'promscale_histogram_ne' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION _prom_ext.histogram_add(prom_api.histogram, prom_api.histogram) IS 'implementation of +';
COMMENT ON FUNCTION _prom_ext.histogram_sub(prom_api.histogram, prom_api.histogram) IS 'implementation of -';
COMMENT ON FUNCTION _prom_ext.histogram_mul(prom_api.histogram, float8) IS 'implementation of *';
COMMENT ON FUNCTION _prom_ext.histogram_mul(float8, prom_api.histogram) IS 'implementation of *';
COMMENT ON FUNCTION _prom_ext.histogram_div(prom_api.histogram, float8) IS 'implementation of /';
COMMENT ON FUNCTION _prom_ext.histogram_eq(prom_api.histogram, prom_api.histogram) IS
    'implementation of =: the same buckets with the same bits; counter reset hints do not count';
COMMENT ON FUNCTION _prom_ext.histogram_ne(prom_api.histogram, prom_api.histogram) IS 'implementation of <>';

CREATE OPERATOR prom_api.+ (LEFTARG = prom_api.histogram, RIGHTARG = prom_api.histogram,
    FUNCTION = _prom_ext.histogram_add, COMMUTATOR = OPERATOR(prom_api.+));
CREATE OPERATOR prom_api.- (LEFTARG = prom_api.histogram, RIGHTARG = prom_api.histogram,
    FUNCTION = _prom_ext.histogram_sub);
CREATE OPERATOR prom_api.* (LEFTARG = prom_api.histogram, RIGHTARG = float8,
    FUNCTION = _prom_ext.histogram_mul, COMMUTATOR = OPERATOR(prom_api.*));
CREATE OPERATOR prom_api.* (LEFTARG = float8, RIGHTARG = prom_api.histogram,
    FUNCTION = _prom_ext.histogram_mul, COMMUTATOR = OPERATOR(prom_api.*));
CREATE OPERATOR prom_api./ (LEFTARG = prom_api.histogram, RIGHTARG = float8,
    FUNCTION = _prom_ext.histogram_div);
CREATE OPERATOR prom_api.= (LEFTARG = prom_api.histogram, RIGHTARG = prom_api.histogram,
    FUNCTION = _prom_ext.histogram_eq, COMMUTATOR = OPERATOR(prom_api.=), NEGATOR = OPERATOR(prom_api.<>),
    RESTRICT = eqsel, JOIN = eqjoinsel);
CREATE OPERATOR prom_api.<> (LEFTARG = prom_api.histogram, RIGHTARG = prom_api.histogram,
    FUNCTION = _prom_ext.histogram_ne, COMMUTATOR = OPERATOR(prom_api.<>), NEGATOR = OPERATOR(prom_api.=),
    RESTRICT = neqsel, JOIN = neqjoinsel);

-- ---- aggregates ----------------------------------------------------------------------------------

CREATE FUNCTION _prom_ext.histogram_sum_step(internal, prom_api.histogram) RETURNS internal
    AS 'MODULE_PATHNAME', 'promscale_histogram_sum_step' LANGUAGE C IMMUTABLE PARALLEL SAFE;
CREATE FUNCTION _prom_ext.histogram_avg_step(internal, prom_api.histogram) RETURNS internal
    AS 'MODULE_PATHNAME', 'promscale_histogram_avg_step' LANGUAGE C IMMUTABLE PARALLEL SAFE;
CREATE FUNCTION _prom_ext.histogram_increase_step(internal, prom_api.histogram) RETURNS internal
    AS 'MODULE_PATHNAME', 'promscale_histogram_increase_step' LANGUAGE C IMMUTABLE PARALLEL SAFE;
CREATE FUNCTION _prom_ext.histogram_sum_result(internal) RETURNS prom_api.histogram
    AS 'MODULE_PATHNAME', 'promscale_histogram_sum_result' LANGUAGE C IMMUTABLE PARALLEL SAFE;
CREATE FUNCTION _prom_ext.histogram_avg_result(internal) RETURNS prom_api.histogram
    AS 'MODULE_PATHNAME', 'promscale_histogram_avg_result' LANGUAGE C IMMUTABLE PARALLEL SAFE;
CREATE FUNCTION _prom_ext.histogram_increase_result(internal) RETURNS prom_api.histogram
    AS 'MODULE_PATHNAME', 'promscale_histogram_increase_result' LANGUAGE C IMMUTABLE PARALLEL SAFE;

CREATE AGGREGATE prom_api.sum(h prom_api.histogram) (
    SFUNC = _prom_ext.histogram_sum_step, STYPE = internal, SSPACE = 4096,
    FINALFUNC = _prom_ext.histogram_sum_result, PARALLEL = SAFE);
COMMENT ON AGGREGATE prom_api.sum(prom_api.histogram) IS 'all histograms added up';
CREATE AGGREGATE prom_api.avg(h prom_api.histogram) (
    SFUNC = _prom_ext.histogram_avg_step, STYPE = internal, SSPACE = 4096,
    FINALFUNC = _prom_ext.histogram_avg_result, PARALLEL = SAFE);
COMMENT ON AGGREGATE prom_api.avg(prom_api.histogram) IS 'the mean histogram';
CREATE AGGREGATE prom_api.histogram_increase(h prom_api.histogram) (
    SFUNC = _prom_ext.histogram_increase_step, STYPE = internal, SSPACE = 8192,
    FINALFUNC = _prom_ext.histogram_increase_result, PARALLEL = SAFE);
COMMENT ON AGGREGATE prom_api.histogram_increase(prom_api.histogram) IS
    'by how much the counter of one series has grown, resets included; with ORDER BY time';
