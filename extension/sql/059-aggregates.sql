-- Rate, increase, delta and the newest value of each step as aggregates over rows, for those who compute
-- them in SQL. What they answer is told in src/prom_aggregates.c. Step, range, width and lookback are
-- milliseconds.

CREATE FUNCTION _prom_ext.rate_step(internal, timestamptz, timestamptz, int8, int8, timestamptz, float8)
    RETURNS internal
    AS 'MODULE_PATHNAME', 'promscale_rate_step' LANGUAGE C IMMUTABLE PARALLEL SAFE;
CREATE FUNCTION _prom_ext.rate_result(internal) RETURNS float8[]
    AS 'MODULE_PATHNAME', 'promscale_rate_result' LANGUAGE C IMMUTABLE PARALLEL SAFE;
CREATE FUNCTION _prom_ext.increase_result(internal) RETURNS float8[]
    AS 'MODULE_PATHNAME', 'promscale_increase_result' LANGUAGE C IMMUTABLE PARALLEL SAFE;
CREATE FUNCTION _prom_ext.delta_result(internal) RETURNS float8[]
    AS 'MODULE_PATHNAME', 'promscale_delta_result' LANGUAGE C IMMUTABLE PARALLEL SAFE;

CREATE AGGREGATE _prom_ext.prom_rate(lowest_time timestamptz, greatest_time timestamptz,
        step_size int8, range int8, sample_time timestamptz, sample_value float8) (
    SFUNC = _prom_ext.rate_step, STYPE = internal, SSPACE = 1024,
    FINALFUNC = _prom_ext.rate_result, PARALLEL = SAFE);
CREATE AGGREGATE _prom_ext.prom_increase(lowest_time timestamptz, greatest_time timestamptz,
        step_size int8, range int8, sample_time timestamptz, sample_value float8) (
    SFUNC = _prom_ext.rate_step, STYPE = internal, SSPACE = 1024,
    FINALFUNC = _prom_ext.increase_result, PARALLEL = SAFE);
CREATE AGGREGATE _prom_ext.prom_delta(lowest_time timestamptz, greatest_time timestamptz,
        step_size int8, range int8, sample_time timestamptz, sample_value float8) (
    SFUNC = _prom_ext.rate_step, STYPE = internal, SSPACE = 1024,
    FINALFUNC = _prom_ext.delta_result, PARALLEL = SAFE);
COMMENT ON AGGREGATE _prom_ext.prom_rate(timestamptz, timestamptz, int8, int8, timestamptz, float8) IS
    'increase per second of a counter in each window of range ms, every step_size ms; one series, ordered by time';
COMMENT ON AGGREGATE _prom_ext.prom_increase(timestamptz, timestamptz, int8, int8, timestamptz, float8) IS
    'increase of a counter in each window of range ms, every step_size ms; one series, ordered by time';
COMMENT ON AGGREGATE _prom_ext.prom_delta(timestamptz, timestamptz, int8, int8, timestamptz, float8) IS
    'difference of a gauge over each window of range ms, every step_size ms; one series, ordered by time';

CREATE FUNCTION _prom_ext.selector_step(internal, timestamptz, timestamptz, int8, int8, timestamptz, float8)
    RETURNS internal
    AS 'MODULE_PATHNAME', 'promscale_selector_step' LANGUAGE C IMMUTABLE PARALLEL SAFE;
CREATE FUNCTION _prom_ext.selector_combine(internal, internal) RETURNS internal
    AS 'MODULE_PATHNAME', 'promscale_selector_combine' LANGUAGE C IMMUTABLE PARALLEL SAFE;
CREATE FUNCTION _prom_ext.selector_serialize(internal) RETURNS bytea
    AS 'MODULE_PATHNAME', 'promscale_selector_serialize' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION _prom_ext.selector_deserialize(bytea, internal) RETURNS internal
    AS 'MODULE_PATHNAME', 'promscale_selector_deserialize' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION _prom_ext.selector_result(internal) RETURNS float8[]
    AS 'MODULE_PATHNAME', 'promscale_selector_result' LANGUAGE C IMMUTABLE PARALLEL SAFE;
CREATE AGGREGATE _prom_ext.vector_selector(start_time timestamptz, end_time timestamptz,
        bucket_width int8, lookback int8, sample_time timestamptz, sample_value float8) (
    SFUNC = _prom_ext.selector_step, STYPE = internal, SSPACE = 4096,
    FINALFUNC = _prom_ext.selector_result, COMBINEFUNC = _prom_ext.selector_combine,
    SERIALFUNC = _prom_ext.selector_serialize, DESERIALFUNC = _prom_ext.selector_deserialize,
    PARALLEL = SAFE);
COMMENT ON AGGREGATE _prom_ext.vector_selector(timestamptz, timestamptz, int8, int8, timestamptz, float8) IS
    'newest value within lookback ms of each step from start_time, every bucket_width ms; NULL where there is none';
