-- Samples as rows: one foreign table over all blocks. The views of prom_metric are projections of it,
-- one metric each. What the wrapper does with quals, and in whose name it reads, is told at the top
-- of src/fdw.h. The table is read-only: SQL writes into the views of prom_data.

CREATE FUNCTION _prom_ext.fdw_handler() RETURNS fdw_handler
    AS 'MODULE_PATHNAME', 'promscale_fdw_handler' LANGUAGE C STRICT;
CREATE FUNCTION _prom_ext.fdw_validator(options text[], catalog oid) RETURNS void
    AS 'MODULE_PATHNAME', 'promscale_fdw_validator' LANGUAGE C STRICT;

CREATE FOREIGN DATA WRAPPER promscale
    HANDLER _prom_ext.fdw_handler VALIDATOR _prom_ext.fdw_validator;
CREATE SERVER promscale FOREIGN DATA WRAPPER promscale;

-- The order and types of the columns are known to the C code.
CREATE FOREIGN TABLE _prom_data.samples (
    metric_id int4        NOT NULL,
    time      timestamptz NOT NULL,
    value     float8      NOT NULL,
    series_id int8        NOT NULL,
    labels    int4[]      NOT NULL
) SERVER promscale;
COMMENT ON FOREIGN TABLE _prom_data.samples IS
    'every stored sample; give metric_id and bounds of time, they select the blocks that are read';
