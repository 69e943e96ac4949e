-- The catalog: tenants, metrics, labels, series, and how connectors follow it.
--
-- Unique keys are on 128-bit digests, never on text or arrays: a label value may be larger than a
-- btree entry. A digest is an identity that is verified against the text on a hit.
-- Every table and every sequence is marked for pg_dump (see 095-dump.sql), except series_feed and state.

CREATE SEQUENCE _prom_catalog.tenant_id_seq AS int4;
CREATE TABLE _prom_catalog.tenant (
    id   int4 PRIMARY KEY DEFAULT nextval('_prom_catalog.tenant_id_seq'),
    name text COLLATE "C" NOT NULL UNIQUE CHECK (octet_length(name) <= 1024)
);
INSERT INTO _prom_catalog.tenant VALUES (0, ''); -- no tenant

-- What rules may say, 066-settings.sql tells why: a month less 29 days is nothing at all in February.
CREATE FUNCTION _prom_catalog.is_period(p_period interval) RETURNS bool
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT isfinite(p_period) AND p_period BETWEEN '0' AND '1000 years'
       AND least(extract(year FROM p_period), extract(month FROM p_period), extract(day FROM p_period),
                 extract(hour FROM p_period), extract(minute FROM p_period), extract(second FROM p_period)) >= 0
$$;

CREATE SEQUENCE _prom_catalog.metric_id_seq AS int4;
CREATE TABLE _prom_catalog.metric (
    id               int4 PRIMARY KEY DEFAULT nextval('_prom_catalog.metric_id_seq'),
    metric_name      text COLLATE "C" NOT NULL,
    digest           uuid NOT NULL UNIQUE,        -- _prom_ext.text_digest(metric_name)
    table_name       name NOT NULL UNIQUE,        -- name of the views in prom_metric, prom_series, prom_data
    created_at       timestamptz NOT NULL DEFAULT now(),
    retention_period interval                     -- NULL: the default
                     CHECK (_prom_catalog.is_period(retention_period)),
    chunk_interval   interval                     -- NULL: the default
                     CHECK (chunk_interval > '0' AND _prom_catalog.is_period(chunk_interval)),
    compression      bool,                        -- NULL: the default
    positions        int4 NOT NULL DEFAULT 0,     -- label positions given away (label_key_position)
    views_positions  int4 NOT NULL DEFAULT 0,     -- of these, how many the views know; 0: some view is missing;
                                                  -- -1: they are there, and to be replaced
    histograms       bool NOT NULL DEFAULT false, -- some of its samples are histograms
    views_error      text                         -- why the views could not be made; NULL: no trouble
);
CREATE INDEX metric_name_idx ON _prom_catalog.metric USING hash (metric_name); -- a name may be longer than a btree's entries
CREATE INDEX metric_views_behind_idx ON _prom_catalog.metric (id) WHERE views_positions < positions;

CREATE SEQUENCE _prom_catalog.label_key_id_seq AS int4;
CREATE TABLE _prom_catalog.label_key (
    id                int4 PRIMARY KEY DEFAULT nextval('_prom_catalog.label_key_id_seq'),
    key               text COLLATE "C" NOT NULL,
    digest            uuid NOT NULL UNIQUE,
    value_column_name name NOT NULL UNIQUE,       -- column in prom_series.<metric>
    id_column_name    name NOT NULL UNIQUE        -- column in prom_metric.<metric>
);

-- Where in series.labels a key stands, metric by metric: __name__ is 1, others follow as they come.
CREATE TABLE _prom_catalog.label_key_position (
    metric_id int4 NOT NULL,
    key_id    int4 NOT NULL,
    pos       int4 NOT NULL CHECK (pos > 0),
    PRIMARY KEY (metric_id, key_id),
    UNIQUE (metric_id, pos)
);
CREATE INDEX label_key_position_key_idx ON _prom_catalog.label_key_position (key_id); -- is it anybody's?

CREATE SEQUENCE _prom_catalog.label_id_seq AS int4 CACHE 32;
CREATE TABLE _prom_catalog.label (
    id        int4 PRIMARY KEY DEFAULT nextval('_prom_catalog.label_id_seq') CHECK (id > 0),
    tenant_id int4 NOT NULL,
    key_id    int4 NOT NULL,
    value     text COLLATE "C" NOT NULL,
    digest    uuid NOT NULL,                      -- of the value
    UNIQUE (key_id, digest, tenant_id)
);

CREATE SEQUENCE _prom_catalog.series_id_seq AS int8 CACHE 256; -- ids need not be dense
CREATE TABLE _prom_catalog.series (
    id        int8 PRIMARY KEY DEFAULT nextval('_prom_catalog.series_id_seq'),
    tenant_id int4 NOT NULL,
    metric_id int4 NOT NULL,
    labels    int4[] NOT NULL,                    -- label ids by position, 0 = absent, cut after the last one
    digest    uuid NOT NULL,                      -- of the sorted (key, value) pairs: mdl_labels_digest
    UNIQUE (metric_id, tenant_id, digest)
);
CREATE INDEX series_labels_idx ON _prom_catalog.series USING gin (labels);

-- What connectors follow: written in the transaction that creates ('c') or deletes ('d') series,
-- read by transaction id up to pg_snapshot_xmin, since ids commit out of order. A row holds many ids,
-- so that the feed costs next to nothing. Not dumped: transaction ids mean nothing elsewhere.
CREATE TABLE _prom_catalog.series_feed (
    tx         xid8 NOT NULL DEFAULT pg_current_xact_id(),
    op         "char" NOT NULL CHECK (op IN ('c', 'd')),
    first_id   int8 NOT NULL,                     -- series_ids[1]
    series_ids int8[] NOT NULL,
    PRIMARY KEY (tx, first_id, op)
);
ALTER TABLE _prom_catalog.series_feed ALTER series_ids SET STORAGE EXTERNAL; -- soon trimmed

-- One row. Deleting metrics, tenants or series bumps the generation under the exclusive form of the
-- guard lock; a flush holds the shared form and names the generation of its ids (see guard()).
-- It starts at a random number and is not dumped: ids that a connector learnt from another copy of
-- this database must not pass for ids of this one.
-- feed_floor: rows of the feed older than this are gone; a cursor below it means "load anew".
CREATE TABLE _prom_catalog.state (
    one        bool PRIMARY KEY DEFAULT true CHECK (one),
    generation int8 NOT NULL CHECK (generation BETWEEN 1 AND 1099511627775),
    feed_floor xid8 NOT NULL
);
INSERT INTO _prom_catalog.state VALUES (true, 1 + floor(random() * 500000000000)::int8, pg_current_xact_id());

-- Settings that somebody changed; what is absent has its built-in value (_prom_catalog.setting()).
CREATE TABLE _prom_catalog.setting_override (
    key   text COLLATE "C" PRIMARY KEY,
    value text NOT NULL
);

CREATE TABLE _prom_catalog.metadata (
    tenant_id     int4 NOT NULL,
    family_digest uuid NOT NULL,                  -- of metric_family
    digest        uuid NOT NULL,                  -- of (family, type, unit, help)
    metric_family text COLLATE "C" NOT NULL,
    type          text NOT NULL,
    unit          text NOT NULL,
    help          text NOT NULL,
    last_seen     timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, family_digest, digest)
);
