-- Histogram samples as rows: a foreign table beside _prom_data.samples, of the same wrapper, and a view
-- for each metric that has any: prom_histogram.<metric>, made with the metric's other views (062).
-- Floats of such a metric stand in prom_metric.<metric> as ever.

-- The order and types of the columns are known to the C code.
CREATE FOREIGN TABLE _prom_data.histograms (
    metric_id  int4               NOT NULL,
    time       timestamptz        NOT NULL,
    histogram  prom_api.histogram NOT NULL,
    series_id  int8               NOT NULL,
    labels     int4[]             NOT NULL,
    start_time timestamptz
) SERVER promscale;
COMMENT ON FOREIGN TABLE _prom_data.histograms IS
    'every stored sample that is a histogram; give metric_id and bounds of time, they select the blocks that are read';
COMMENT ON COLUMN _prom_data.histograms.start_time IS
    'when the counter began, as its sender has said; NULL: unknown';
