-- time_bucket, first and last: what people write around samples. Signatures are those of TimescaleDB,
-- which may be installed beside: then the schema that comes first in search_path gives the function,
-- and time_bucket answers the same. What the C code does is told in src/time_bucket.c, src/first_last.c.

CREATE FUNCTION prom_api.time_bucket(bucket_width interval, ts timestamptz) RETURNS timestamptz
    AS 'MODULE_PATHNAME', 'promscale_time_bucket' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION prom_api.time_bucket(bucket_width interval, ts timestamptz, origin timestamptz)
    RETURNS timestamptz
    AS 'MODULE_PATHNAME', 'promscale_time_bucket_origin' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION prom_api.time_bucket(bucket_width interval, ts timestamptz, "offset" interval)
    RETURNS timestamptz
    AS 'MODULE_PATHNAME', 'promscale_time_bucket_offset' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE FUNCTION prom_api.time_bucket(bucket_width interval, ts timestamp) RETURNS timestamp
    AS 'MODULE_PATHNAME', 'promscale_time_bucket' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION prom_api.time_bucket(bucket_width interval, ts timestamp, origin timestamp)
    RETURNS timestamp
    AS 'MODULE_PATHNAME', 'promscale_time_bucket_origin' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION prom_api.time_bucket(bucket_width interval, ts timestamp, "offset" interval)
    RETURNS timestamp
    AS 'MODULE_PATHNAME', 'promscale_time_bucket_offset' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE FUNCTION prom_api.time_bucket(bucket_width interval, ts date) RETURNS date
    AS 'MODULE_PATHNAME', 'promscale_time_bucket_date' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION prom_api.time_bucket(bucket_width interval, ts date, origin date) RETURNS date
    AS 'MODULE_PATHNAME', 'promscale_time_bucket_date_origin'
    LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION prom_api.time_bucket(bucket_width interval, ts date, "offset" interval) RETURNS date
    AS 'MODULE_PATHNAME', 'promscale_time_bucket_date_offset'
    LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

COMMENT ON FUNCTION prom_api.time_bucket(interval, timestamptz) IS
    'start of the bucket of this width that the time falls into; weeks begin on Monday, days at midnight UTC';
COMMENT ON FUNCTION prom_api.time_bucket(interval, timestamptz, timestamptz) IS
    'the same with an edge of a bucket at origin';
COMMENT ON FUNCTION prom_api.time_bucket(interval, timestamptz, interval) IS
    'the same with all edges moved by offset';
COMMENT ON FUNCTION prom_api.time_bucket(interval, timestamp) IS
    'start of the bucket of this width that the time falls into; weeks begin on Monday, days at midnight';
COMMENT ON FUNCTION prom_api.time_bucket(interval, timestamp, timestamp) IS
    'the same with an edge of a bucket at origin';
COMMENT ON FUNCTION prom_api.time_bucket(interval, timestamp, interval) IS
    'the same with all edges moved by offset';
COMMENT ON FUNCTION prom_api.time_bucket(interval, date) IS
    'first day of the bucket of this width that the day falls into; weeks begin on Monday';
COMMENT ON FUNCTION prom_api.time_bucket(interval, date, date) IS
    'the same with an edge of a bucket at origin';
COMMENT ON FUNCTION prom_api.time_bucket(interval, date, interval) IS
    'the same with all edges moved by offset';

CREATE FUNCTION _prom_ext.first_step(internal, float8, timestamptz) RETURNS internal
    AS 'MODULE_PATHNAME', 'promscale_first_step' LANGUAGE C IMMUTABLE PARALLEL SAFE;
CREATE FUNCTION _prom_ext.last_step(internal, float8, timestamptz) RETURNS internal
    AS 'MODULE_PATHNAME', 'promscale_last_step' LANGUAGE C IMMUTABLE PARALLEL SAFE;
CREATE FUNCTION _prom_ext.first_last_result(internal) RETURNS float8
    AS 'MODULE_PATHNAME', 'promscale_first_last_result' LANGUAGE C IMMUTABLE PARALLEL SAFE;
CREATE AGGREGATE prom_api.first(value float8, "time" timestamptz) (
    SFUNC = _prom_ext.first_step, STYPE = internal, SSPACE = 32,
    FINALFUNC = _prom_ext.first_last_result, PARALLEL = SAFE);
CREATE AGGREGATE prom_api.last(value float8, "time" timestamptz) (
    SFUNC = _prom_ext.last_step, STYPE = internal, SSPACE = 32,
    FINALFUNC = _prom_ext.first_last_result, PARALLEL = SAFE);
COMMENT ON AGGREGATE prom_api.first(float8, timestamptz) IS 'the value at the earliest time';
COMMENT ON AGGREGATE prom_api.last(float8, timestamptz) IS 'the value at the latest time';
