-- Labels in SQL: what a label array says, and matching it. Schemas prom_api and ps_tag stand in the
-- database's search_path, so that users write jsonb(labels), labels ? ('namespace' == 'dev').
-- Where a function may be inlined its operators are qualified instead of a search_path being set.

-- ---- what labels say ---------------------------------------------------------------------------

CREATE FUNCTION prom_api.val(label_id int4) RETURNS text
    AS 'MODULE_PATHNAME', 'labels_val' LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION prom_api.val(int4) IS 'value of a label id; NULL if there is none';

CREATE FUNCTION prom_api.jsonb(labels int4[]) RETURNS jsonb
    AS 'MODULE_PATHNAME', 'labels_jsonb' LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION prom_api.jsonb(int4[]) IS 'all labels of a series as an object, __name__ included';

CREATE FUNCTION prom_api.labels(series_id int8) RETURNS int4[]
    AS 'MODULE_PATHNAME', 'labels_of_series' LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION prom_api.labels(int8) IS 'label array of a series; NULL if there is none';

CREATE FUNCTION prom_api.labels_info(INOUT labels int4[], OUT keys text[], OUT vals text[])
    AS 'MODULE_PATHNAME', 'labels_info' LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION prom_api.labels_info(int4[]) IS 'ids, keys and values of the labels of an array';

CREATE FUNCTION prom_api.key_value_array(labels int4[], OUT keys text[], OUT vals text[])
    AS 'MODULE_PATHNAME', 'labels_key_value_array' LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION prom_api.key_value_array(int4[]) IS 'keys and values of the labels of an array';

-- The planner does not know the label and would take it for one that every two hundredth series has.
CREATE FUNCTION prom_api.label_cardinality(label_id int4) RETURNS int4
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
    SELECT count(*)::int4 FROM _prom_catalog.series WHERE labels && ARRAY[label_id] AND label_id > 0
$$;
COMMENT ON FUNCTION prom_api.label_cardinality(int4) IS 'how many series have this label id';

CREATE FUNCTION prom_api.label_key_position(metric_name text, key text) RETURNS int4
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT p.pos FROM _prom_catalog.label_key_position p
    WHERE p.metric_id = (SELECT m.id FROM _prom_catalog.metric m
                         WHERE m.digest = _prom_ext.text_digest($1) AND m.metric_name = $1)
      AND p.key_id = (SELECT k.id FROM _prom_catalog.label_key k
                      WHERE k.digest = _prom_ext.text_digest($2) AND k.key = $2)
$$;
COMMENT ON FUNCTION prom_api.label_key_position(text, text) IS
    'where a label stands in the label arrays of a metric: labels[label_key_position(...)]';

-- ---- equal label sets --------------------------------------------------------------------------

CREATE FUNCTION _prom_ext.label_set(labels int4[]) RETURNS int4[]
    AS 'MODULE_PATHNAME', 'labels_set' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

-- Inlined, and then an equality of two arrays: joins over it can hash and merge.
CREATE FUNCTION prom_api.eq(labels1 int4[], labels2 int4[]) RETURNS bool
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT _prom_ext.label_set(labels1) OPERATOR(pg_catalog.=) _prom_ext.label_set(labels2)
$$;
COMMENT ON FUNCTION prom_api.eq(int4[], int4[]) IS
    'do two series have the same labels, whatever their metrics?';

-- Tells the planner which index helps, and how much of a table a function lets through.
CREATE FUNCTION _prom_ext.match_support(internal) RETURNS internal
    AS 'MODULE_PATHNAME', 'matchers_support' LANGUAGE C STRICT;
CREATE FUNCTION _prom_ext.match_sel(internal, oid, internal, int4) RETURNS float8
    AS 'MODULE_PATHNAME', 'matchers_restrict' LANGUAGE C STABLE STRICT;

CREATE FUNCTION prom_api.eq(labels int4[], json_labels jsonb) RETURNS bool
    AS 'MODULE_PATHNAME', 'matchers_eq_json' LANGUAGE C STABLE STRICT PARALLEL SAFE
    SUPPORT _prom_ext.match_support;
COMMENT ON FUNCTION prom_api.eq(int4[], jsonb) IS
    'does a series have exactly these labels, __name__ aside?';

-- ---- ('key' == 'value') ------------------------------------------------------------------------
-- These only put key and pattern into a value; what it means is found out by the operator ?.

CREATE TYPE ps_tag.tag_op_equals AS (tag_key text, value jsonb);
CREATE TYPE ps_tag.tag_op_not_equals AS (tag_key text, value jsonb);
CREATE TYPE ps_tag.tag_op_regexp_matches AS (tag_key text, value text);
CREATE TYPE ps_tag.tag_op_regexp_not_matches AS (tag_key text, value text);

CREATE FUNCTION ps_tag.equals(tag_key text, value text) RETURNS ps_tag.tag_op_equals
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT ROW(tag_key, pg_catalog.to_jsonb(value))::ps_tag.tag_op_equals
$$;
CREATE FUNCTION ps_tag.equals(tag_key text, value anyelement) RETURNS ps_tag.tag_op_equals
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT ROW(tag_key, pg_catalog.to_jsonb(value))::ps_tag.tag_op_equals
$$;
CREATE FUNCTION ps_tag.not_equals(tag_key text, value text) RETURNS ps_tag.tag_op_not_equals
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT ROW(tag_key, pg_catalog.to_jsonb(value))::ps_tag.tag_op_not_equals
$$;
CREATE FUNCTION ps_tag.not_equals(tag_key text, value anyelement) RETURNS ps_tag.tag_op_not_equals
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT ROW(tag_key, pg_catalog.to_jsonb(value))::ps_tag.tag_op_not_equals
$$;
CREATE FUNCTION ps_tag.regexp_matches(tag_key text, value text)
RETURNS ps_tag.tag_op_regexp_matches
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT ROW(tag_key, value)::ps_tag.tag_op_regexp_matches
$$;
CREATE FUNCTION ps_tag.regexp_not_matches(tag_key text, value text)
RETURNS ps_tag.tag_op_regexp_not_matches
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT ROW(tag_key, value)::ps_tag.tag_op_regexp_not_matches
$$;

CREATE OPERATOR ps_tag.== (LEFTARG = text, RIGHTARG = text, FUNCTION = ps_tag.equals);
CREATE OPERATOR ps_tag.== (LEFTARG = text, RIGHTARG = anyelement, FUNCTION = ps_tag.equals);
CREATE OPERATOR ps_tag.!== (LEFTARG = text, RIGHTARG = text, FUNCTION = ps_tag.not_equals);
CREATE OPERATOR ps_tag.!== (LEFTARG = text, RIGHTARG = anyelement, FUNCTION = ps_tag.not_equals);
CREATE OPERATOR ps_tag.==~ (LEFTARG = text, RIGHTARG = text, FUNCTION = ps_tag.regexp_matches);
CREATE OPERATOR ps_tag.!=~ (LEFTARG = text, RIGHTARG = text, FUNCTION = ps_tag.regexp_not_matches);

-- ---- labels ? (...), labels @> json ---------------------------------------------------------------

-- The operators' left side. Columns are plain int4[] and become this by themselves; were the operators
-- defined on int4[], they would take '{1,2}'::int4[] @> '{1}' away from PostgreSQL's own.
CREATE DOMAIN prom_api.label_array AS int4[];

CREATE FUNCTION _prom_ext.tag_ids(op ps_tag.tag_op_equals) RETURNS int4[]
    AS 'MODULE_PATHNAME', 'matchers_equal_ids' LANGUAGE C STABLE PARALLEL SAFE;
CREATE FUNCTION _prom_ext.label_ids(key text, value text) RETURNS int4[]
    AS 'MODULE_PATHNAME', 'matchers_pair_ids' LANGUAGE C STABLE STRICT PARALLEL SAFE;

CREATE FUNCTION _prom_ext.labels_match(labels prom_api.label_array, op ps_tag.tag_op_equals) RETURNS bool
    AS 'MODULE_PATHNAME', 'matchers_equal' LANGUAGE C STABLE PARALLEL SAFE
    SUPPORT _prom_ext.match_support;
CREATE FUNCTION _prom_ext.labels_match(labels prom_api.label_array, op ps_tag.tag_op_not_equals) RETURNS bool
    AS 'MODULE_PATHNAME', 'matchers_not_equal' LANGUAGE C STABLE PARALLEL SAFE;
CREATE FUNCTION _prom_ext.labels_match(labels prom_api.label_array, op ps_tag.tag_op_regexp_matches) RETURNS bool
    AS 'MODULE_PATHNAME', 'matchers_regex' LANGUAGE C STABLE PARALLEL SAFE;
CREATE FUNCTION _prom_ext.labels_match(labels prom_api.label_array, op ps_tag.tag_op_regexp_not_matches)
    RETURNS bool
    AS 'MODULE_PATHNAME', 'matchers_not_regex' LANGUAGE C STABLE PARALLEL SAFE;
CREATE FUNCTION _prom_ext.labels_contain(labels prom_api.label_array, json_labels jsonb) RETURNS bool
    AS 'MODULE_PATHNAME', 'matchers_contains' LANGUAGE C STABLE STRICT PARALLEL SAFE
    SUPPORT _prom_ext.match_support;

CREATE OPERATOR prom_api.? (LEFTARG = prom_api.label_array, RIGHTARG = ps_tag.tag_op_equals,
    FUNCTION = _prom_ext.labels_match, RESTRICT = _prom_ext.match_sel, JOIN = contjoinsel);
CREATE OPERATOR prom_api.? (LEFTARG = prom_api.label_array, RIGHTARG = ps_tag.tag_op_not_equals,
    FUNCTION = _prom_ext.labels_match, RESTRICT = _prom_ext.match_sel);
CREATE OPERATOR prom_api.? (LEFTARG = prom_api.label_array, RIGHTARG = ps_tag.tag_op_regexp_matches,
    FUNCTION = _prom_ext.labels_match, RESTRICT = _prom_ext.match_sel, JOIN = contjoinsel);
CREATE OPERATOR prom_api.? (LEFTARG = prom_api.label_array, RIGHTARG = ps_tag.tag_op_regexp_not_matches,
    FUNCTION = _prom_ext.labels_match, RESTRICT = _prom_ext.match_sel);
CREATE OPERATOR prom_api.@> (LEFTARG = prom_api.label_array, RIGHTARG = jsonb,
    FUNCTION = _prom_ext.labels_contain, RESTRICT = _prom_ext.match_sel, JOIN = contjoinsel);

-- ---- matcher(json): ids of labels ------------------------------------------------------------------
-- For @> (all of them) PostgreSQL's own operator does; an operator of ours on a domain over int4[] would
-- make its array operators ambiguous. ? (any of them) and eq have no such namesakes. All three inline.

CREATE DOMAIN prom_api.matcher_positive AS int4[] NOT NULL;
CREATE DOMAIN prom_api.matcher_negative AS int4[] NOT NULL;

CREATE FUNCTION prom_api.matcher(labels jsonb) RETURNS prom_api.matcher_positive
    AS 'MODULE_PATHNAME', 'matchers_matcher' LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION prom_api.matcher(jsonb) IS
    'ids of these labels, __name__ aside; -1 for one that no series has. For labels @>, labels ?, eq';

CREATE FUNCTION _prom_ext.labels_match(labels int4[], matcher prom_api.matcher_positive)
RETURNS bool
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT labels OPERATOR(pg_catalog.&&) matcher::int4[]
$$;
CREATE FUNCTION _prom_ext.labels_match(labels int4[], matcher prom_api.matcher_negative)
RETURNS bool
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT NOT (labels OPERATOR(pg_catalog.&&) matcher::int4[])
$$;
CREATE OPERATOR prom_api.? (LEFTARG = int4[], RIGHTARG = prom_api.matcher_positive,
    FUNCTION = _prom_ext.labels_match, RESTRICT = contsel, JOIN = contjoinsel);
CREATE OPERATOR prom_api.? (LEFTARG = int4[], RIGHTARG = prom_api.matcher_negative,
    FUNCTION = _prom_ext.labels_match);

-- 0 || matcher: label_set() leaves out what stands first, the place of __name__.
CREATE FUNCTION prom_api.eq(labels int4[], matcher prom_api.matcher_positive) RETURNS bool
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT _prom_ext.label_set(labels) OPERATOR(pg_catalog.=)
           _prom_ext.label_set(0 OPERATOR(pg_catalog.||) matcher::int4[])
$$;
COMMENT ON FUNCTION prom_api.eq(int4[], prom_api.matcher_positive) IS
    'does a series have exactly the labels of this matcher, __name__ aside?';

-- ---- values that mean something --------------------------------------------------------------------

CREATE FUNCTION prom_api.is_stale_marker(value float8) RETURNS bool
    AS 'MODULE_PATHNAME', 'special_stale_marker' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION prom_api.is_stale_marker(float8) IS
    'is it the NaN by which Prometheus marks the end of a series?';
CREATE FUNCTION prom_api.is_normal_nan(value float8) RETURNS bool
    AS 'MODULE_PATHNAME', 'special_normal_nan' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION prom_api.is_normal_nan(float8) IS
    'is it the NaN by which Prometheus means "not a number"?';
