"""What bench/sql.py asks, of the metric's view and of the heap.

A heap query may have several forms; the quickest counts. The heap's rows carry no labels: whoever stores
samples that way has a table of series beside it.
"""

HEAP_TABLES = """\
CREATE TABLE heap (time timestamptz NOT NULL, value float8 NOT NULL, series_id int8 NOT NULL);
CREATE TABLE heap_other (LIKE heap INCLUDING ALL);
CREATE TABLE heap_series AS SELECT series_id, instance, mode FROM prom_series.{metric};
CREATE TABLE heap_other_series AS SELECT series_id, instance, mode FROM prom_series.{other};
INSERT INTO heap SELECT time, value, series_id FROM prom_metric.{metric} ORDER BY time, series_id;
INSERT INTO heap_other SELECT time, value, series_id FROM prom_metric.{other} ORDER BY time, series_id;
CREATE UNIQUE INDEX ON heap (series_id, time);
CREATE INDEX ON heap USING brin (time);
CREATE UNIQUE INDEX ON heap_other (series_id, time);
CREATE INDEX ON heap_other USING brin (time);
ALTER TABLE heap_series ADD PRIMARY KEY (series_id);
ALTER TABLE heap_other_series ADD PRIMARY KEY (series_id);
CREATE INDEX ON heap_series (instance);
CREATE INDEX ON heap_series (mode);
CREATE TABLE racks AS SELECT DISTINCT ON (instance) instance, 'rack ' || hashtext(instance) % 4 AS rack
    FROM heap_series ORDER BY instance LIMIT 10;
VACUUM ANALYZE heap;
VACUUM ANALYZE heap_other;
VACUUM ANALYZE heap_series;
VACUUM ANALYZE heap_other_series;
VACUUM ANALYZE racks"""

FIVE = "avg(value), min(value), max(value), sum(value), count(value)"
ORIGIN = "timestamptz '2000-01-01 00:00:00+00'"


def queries(db, metric, other, end, rng):
    """[{name, ours, heap: {form: query}}]; end: time of the last sample."""
    ids = [r[0] for r in db.sql("SELECT series_id FROM heap_series ORDER BY series_id")]
    some = "{" + ",".join(str(i) for i in sorted(rng.sample(ids, 20))) + "}"
    one = rng.choice(ids)
    hour = f"time > timestamptz '{end}' - interval '1 h'"
    found = []

    def add(name, ours, heap=None, **forms):
        if heap is not None:
            forms = {"plain": heap, **forms}
        found.append({"name": name, "ours": ours, "heap": forms})

    add("whole", f"SELECT {FIVE} FROM {metric}", f"SELECT {FIVE} FROM heap")
    add("whole, last hour", f"SELECT {FIVE} FROM {metric} WHERE {hour}", f"SELECT {FIVE} FROM heap WHERE {hour}")
    add("by series", f"SELECT series_id, {FIVE} FROM {metric} GROUP BY series_id",
        f"SELECT series_id, {FIVE} FROM heap GROUP BY series_id")
    add("by label", f"SELECT val(mode_id), {FIVE} FROM {metric} GROUP BY mode_id",
        f"SELECT mode, {FIVE} FROM heap JOIN heap_series USING (series_id) GROUP BY mode")
    bin_ = f"date_bin('5 min', time, {ORIGIN})"
    add("by date_bin of 5 min", f"SELECT {bin_}, {FIVE} FROM {metric} GROUP BY 1",
        f"SELECT {bin_}, {FIVE} FROM heap GROUP BY 1")
    if db.one("SELECT EXISTS (SELECT 1 FROM pg_proc WHERE proname = 'time_bucket')"):
        add("by time_bucket of 5 min", f"SELECT time_bucket('5 min', time), {FIVE} FROM {metric} GROUP BY 1",
            f"SELECT {bin_}, {FIVE} FROM heap GROUP BY 1")
    add("by date_bin and label", f"SELECT {bin_}, val(mode_id), avg(value), max(value) FROM {metric} GROUP BY 1, mode_id",
        f"SELECT {bin_}, mode, avg(value), max(value) FROM heap JOIN heap_series USING (series_id) GROUP BY 1, 2")
    add("one label selected", f"SELECT {FIVE} FROM {metric} WHERE labels ? ('mode' == 'idle')",
        f"SELECT {FIVE} FROM heap JOIN heap_series USING (series_id) WHERE mode = 'idle'")
    add("one instance, by date_bin",
        f"SELECT {bin_}, avg(value) FROM {metric} WHERE labels ? ('instance' == 'node-0042:9100') GROUP BY 1",
        f"SELECT {bin_}, avg(value) FROM heap JOIN heap_series USING (series_id)"
        " WHERE instance = 'node-0042:9100' GROUP BY 1")
    add("last value per series",
        f"SELECT DISTINCT ON (series_id) series_id, time, value FROM {metric} ORDER BY series_id, time DESC",
        **{"loose index scan": "SELECT series_id, time, value FROM heap_series s, LATERAL (SELECT time, value FROM"
                               " heap h WHERE h.series_id = s.series_id ORDER BY time DESC LIMIT 1) x",
           "distinct on": "SELECT DISTINCT ON (series_id) series_id, time, value FROM heap"
                          " ORDER BY series_id, time DESC"})
    add("one series", f"SELECT time, value FROM {metric} WHERE series_id = {one}",
        f"SELECT time, value FROM heap WHERE series_id = {one}")
    add("series_id = ANY of 20", f"SELECT series_id, {FIVE} FROM {metric} WHERE series_id = ANY ('{some}')"
        " GROUP BY series_id",
        f"SELECT series_id, {FIVE} FROM heap WHERE series_id = ANY ('{some}') GROUP BY series_id")
    ten = f"time > timestamptz '{end}' - interval '10 min'"
    add("two metrics by time and eq",
        f"SELECT count(*), sum(a.value * b.value) FROM {metric} a JOIN {other} b"
        f" ON a.time = b.time AND eq(a.labels, b.labels) WHERE a.{ten} AND b.{ten}",
        "SELECT count(*), sum(a.value * b.value) FROM heap a JOIN heap_series s USING (series_id)"
        " JOIN heap_other_series t USING (instance, mode) JOIN heap_other b ON b.series_id = t.series_id"
        f" AND a.time = b.time WHERE a.{ten} AND b.{ten}")
    add("a small table of the user's",
        f"SELECT rack, avg(m.value), count(*) FROM racks JOIN prom_series.{metric} s USING (instance)"
        f" JOIN {metric} m USING (series_id) GROUP BY rack",
        "SELECT rack, avg(h.value), count(*) FROM racks JOIN heap_series s USING (instance)"
        " JOIN heap h USING (series_id) GROUP BY rack")
    return found
