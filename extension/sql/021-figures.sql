-- What is stored of each metric, day by day, so that prom_info need not count it. Kept by maintenance
-- in the transactions that change merged and sealed rows (maint_figures.c, apply_retention); what still
-- lies in _prom_data.fresh is not in here and is counted by those who ask (figures.c). Days are UTC.
-- Nobody but maintenance writes here, so nobody's open transaction stands in its way.

CREATE TABLE _prom_catalog.metric_day (
    metric_id      int4 NOT NULL,
    day            date NOT NULL,
    tenant_id      int4 NOT NULL,
    merged_rows    int4 NOT NULL DEFAULT 0,
    sealed_rows    int4 NOT NULL DEFAULT 0,
    merged_hours   int4 NOT NULL DEFAULT 0,       -- bit h: some merged row reaches into hour h
    sealed_hours   int4 NOT NULL DEFAULT 0,
    merged_samples int8 NOT NULL DEFAULT 0,       -- as stored: one sent again may count twice until it is joined
    sealed_samples int8 NOT NULL DEFAULT 0,
    merged_bytes   int8 NOT NULL DEFAULT 0,       -- of data
    sealed_bytes   int8 NOT NULL DEFAULT 0,
    PRIMARY KEY (metric_id, day, tenant_id)
);
-- Today's rows change with each fold: room on their page lets them do so without touching the index.
ALTER TABLE _prom_catalog.metric_day SET (fillfactor = 45, autovacuum_vacuum_scale_factor = 0.1,
    autovacuum_vacuum_cost_delay = 0);

-- Samples that were left out because an earlier one had the same series and time: duplicates with the
-- same value, conflicts with another one. Rows are only added, by merges and by whoever else finds any
-- (count_conflicts), so that nobody waits for anybody; maintenance adds them up now and then.
CREATE TABLE _prom_catalog.metric_conflict (
    metric_id  int4 NOT NULL,
    id         uuid NOT NULL DEFAULT gen_random_uuid(),
    tenant_id  int4 NOT NULL,
    duplicates int8 NOT NULL,
    conflicts  int8 NOT NULL,
    PRIMARY KEY (metric_id, id)
);
