"""Random queries over metric views, each with the same text over ordinary tables: {u}, {t}, {q} stand for them.

Every query has one answer: what is ordered is ordered by a key, floats are only added where sums are exact or are
compared loosely.
"""


class Queries:
    def __init__(self, random, written, labels, arrays, has_time_bucket=False, has_last=False):
        self.random = random
        self.t0 = written.t0
        self.has_last = has_last
        self.series = written.series
        self.labels = labels
        self.arrays = arrays
        self.bases = [*written.bases, written.t0, written.t0]
        self.buckets = ["date_bin('{}', {}time, '2000-01-01')", "date_bin('{}', {}time, '2030-01-01 00:00:07.5+00')",
                        "date_trunc('hour', {1}time)", "date_trunc('day', {1}time)", "date_trunc('week', {1}time)",
                        "date_trunc('month', {1}time)", "date_trunc('minute', {1}time)",
                        "date_trunc('day', {1}time, 'Europe/Berlin')", "{1}time::date", "extract(hour FROM {1}time)",
                        "to_char({1}time, 'HH24')", "{1}time AT TIME ZONE 'Europe/Berlin'",
                        "date_trunc('hour', {1}time AT TIME ZONE 'America/St_Johns')"]
        if has_time_bucket:
            self.buckets += ["time_bucket('{}', {}time)"] * 3

    def pick(self, *of):
        return self.random.choice(of)

    def chance(self, p):
        return self.random.random() < p

    # ---- conditions ----------------------------------------------------------------------------------

    def moment(self):
        r = self.random.random()
        if r < 0.1:
            return self.pick("'infinity'", "'-infinity'", "'1970-01-01'", "now()", "'2200-01-01'",
                             "now() - interval '1 day'")
        ms = self.random.choice(self.bases) + self.random.randrange(-2, 48 * 6 + 3) * 600_000
        if self.chance(0.2):  # beside a sample, and between two milliseconds
            little = self.pick("1 us", "-1 us", "499 us", "-500 us", "1 ms")
            return f"(to_timestamp({ms // 1000}) + interval '{little}')"
        if self.chance(0.2):  # a plan does not know it
            return f"(SELECT to_timestamp({ms // 1000}))"
        return f"to_timestamp({ms // 1000})"

    def time(self, a):
        op = self.pick("<", "<=", ">", ">=", "=", "<>")
        return self.pick(f"{a}time {op} {self.moment()}", f"{self.moment()} {op} {a}time",
                         f"{a}time BETWEEN {self.moment()} AND {self.moment()}",
                         f"{a}time >= {self.moment()} AND {a}time < {self.moment()}",
                         f"{a}time IN ({self.moment()}, {self.moment()})",
                         f"{a}time NOT IN ({self.moment()}, {self.moment()})",
                         f"{a}time = ANY (ARRAY[{self.moment()}, {self.moment()}, NULL]::timestamptz[])",
                         f"({a}time + interval '1 h') {op} {self.moment()}",
                         f"{a}time::date {op} {self.moment()}::date",
                         f"extract(minute FROM {a}time) = {self.pick(0, 10, 30)}", f"{a}time IS NOT NULL")

    def number(self):
        return self.pick("'NaN'", "'Infinity'", "'-Infinity'", "0", "'-0'",
                         str(self.random.randrange(0, 3000) / 8), str(self.random.randrange(0, 400)))

    def value(self, a):
        op = self.pick("<", "<=", ">", ">=", "=", "<>")
        return self.pick(f"{a}value {op} {self.number()}::float8", f"{a}value {op} {self.number()}::float8",
                         f"{a}value BETWEEN {self.number()}::float8 AND {self.number()}::float8",
                         f"{a}value IS NULL", f"{a}value + 1 {op} {self.number()}::float8", f"{a}value = {a}value",
                         f"{a}value IN ({self.number()}, {self.number()}, NULL)")

    def a_series(self):
        return str(self.random.choice(self.random.choice(list(self.series.values())) + [0, -1, 1 << 62]))

    def some_series(self, a):
        s = self.a_series
        op = self.pick("<", "<=", ">", ">=", "<>")
        return self.pick(f"{a}series_id = {s()}", f"{a}series_id IN ({s()}, {s()}, {s()})", f"{a}series_id {op} {s()}",
                         f"{a}series_id = ANY ('{{{s()},{s()},NULL}}'::int8[])", f"{a}series_id = ANY ('{{}}'::int8[])",
                         f"{a}series_id NOT IN ({s()}, {s()})", f"{a}series_id::int4 % 3 = 1",
                         f"{a}series_id BETWEEN {s()} AND {s()}", f"{a}series_id = (SELECT {s()})",
                         f"{a}series_id = ANY (ARRAY(SELECT series_id FROM prom_series.cpu_usage"
                         " WHERE node IN ('n1', 'n2')))",
                         f"{a}series_id IN (SELECT s.series_id FROM prom_series.cpu_total s WHERE s.namespace = 'ns1')")

    def label(self, a, columns):
        key = self.pick("node", "namespace", "zone", "no_such", "__name__")
        pattern = self.pick("n1", "ns1", "n", "^n[0-3]$", "z", "", ".*", "(1|2)$", "cpu")
        column = self.random.choice(columns)
        id_ = str(self.random.choice(self.labels))
        match = self.pick("==", "!==", "==~", "!=~")
        json = self.pick('{"node": "n1"}', '{"namespace": "ns2", "node": "n2"}', "{}", '{"zone": "z"}', '{"node": "x"}')
        return self.pick(f"{a}labels ? ('{key}' {match} '{pattern}')", f"{a}labels ? ('{key}' {match} '{pattern}')",
                         f"{a}labels @> jsonb '{json}'", f"eq({a}labels, jsonb '{json}')",
                         f"{a}{column} = {id_}", f"{a}{column} IS NULL", f"{a}{column} IS DISTINCT FROM {id_}",
                         f"{a}{column} IN ({id_}, {self.random.choice(self.labels)})", f"val({a}{column}) LIKE 'n%'",
                         f"jsonb({a}labels)->>'node' > 'n2'", f"{a}labels = '{self.random.choice(self.arrays)}'",
                         f"{a}labels && ARRAY[{id_}]", f"{id_} = ANY ({a}labels)", f"cardinality({a}labels) > 3")

    def condition(self, a, columns, depth=0):
        if depth < 2 and self.chance(0.35):
            left, right = self.condition(a, columns, depth + 1), self.condition(a, columns, depth + 1)
            return self.pick(f"({left} AND {right})", f"({left} OR {right})", f"NOT ({left})", f"({left}) IS NOT TRUE",
                             f"CASE WHEN {left} THEN {right} ELSE false END")
        return self.pick(self.time(a), self.time(a), self.value(a), self.some_series(a), self.label(a, columns),
                         self.label(a, columns))

    def where(self, a="", columns=("node_id", "namespace_id")):
        if self.chance(0.1):
            return ""
        return "WHERE " + " AND ".join(self.condition(a, columns) for _ in range(self.pick(1, 1, 2, 3)))

    # ---- queries -------------------------------------------------------------------------------------

    def bucket(self, a=""):
        return self.random.choice(self.buckets).format(
            self.pick("1 hour", "7 min", "1 day", "13 hours", "100 ms", "1 day 5 min"), a)

    def aggregate(self, a=""):
        v = f"{a}value"
        finite = f"CASE WHEN {v} BETWEEN -1e15 AND 1e15 THEN {v} END"
        return self.pick(f"sum({v})", f"avg({finite})", f"min({v})", f"max({v})", "count(*)", f"count({v})",
                         f"avg({v})",
                         f"sum({finite})", f"min({a}time)", f"max({a}time)", f"count(DISTINCT {a}series_id)",
                         f"min({a}series_id)", f"max({a}series_id)", f"sum({a}series_id)", f"max({a}labels)",
                         f"array_agg({v} ORDER BY {a}time, {a}series_id)", f"sum({v}) FILTER (WHERE {self.value(a)})",
                         f"count(*) FILTER (WHERE {self.time(a)})", f"bool_or({self.value(a)})",
                         f"sum(DISTINCT {finite})",
                         f"percentile_disc(0.5) WITHIN GROUP (ORDER BY {v})", f"stddev({finite})",
                         f"variance({v})", f"stddev_pop({v})", f"var_samp({v})", f"sum({v} * 2)",
                         f"sum({v}) + 1", f"max({v}) - min({finite})",
                         f"count({a}zone_id)" if a == "u." else f"count({v})")

    def keys(self, a=""):
        return self.pick(f"{a}series_id", f"{a}node_id", f"{a}namespace_id", f"{a}namespace_id, {a}node_id",
                         f"{a}labels",
                         self.bucket(a), f"{a}series_id, {self.bucket(a)}", f"val({a}node_id)", f"{a}time",
                         f"{a}value > 100",
                         f"jsonb({a}labels)", f"{self.bucket(a)}, {a}namespace_id", f"{a}series_id % 2",
                         f"{a}labels[2]")

    def rows(self):
        view = self.pick("{u}", "{t}")
        r = self.random.random()
        if r < 0.4:
            return f"SELECT * FROM {view} {self.where()}"
        if r < 0.6:
            order = self.pick("time, series_id", "time DESC, series_id DESC", "series_id, time",
                              "series_id DESC, time DESC",
                              "value, time, series_id", "value DESC, series_id, time")
            return (f"SELECT time, value, series_id FROM {view} {self.where()} ORDER BY {order}"
                    f" LIMIT {self.pick(0, 1, 7, 100)} OFFSET {self.pick(0, 0, 1, 50)}")
        if r < 0.7:
            return f"SELECT DISTINCT ON (series_id) series_id, time, value FROM {view} {self.where()}" \
                   f" ORDER BY series_id, time {self.pick('', 'DESC')}"
        if r < 0.8:
            column = self.pick("series_id", "labels", "node_id", "value", "time")
            return f"SELECT DISTINCT {column} FROM {view} {self.where()}"
        if r < 0.9:
            return ("SELECT series_id, time, value, lag(value) OVER w, row_number() OVER w, sum(series_id) OVER w"
                    f" FROM {view} {self.where()} WINDOW w AS (PARTITION BY series_id ORDER BY time)")
        return "SELECT time, value FROM {q} " + self.where("", ("x_id", "y_id"))

    def grouped(self):
        view = self.pick("{u}", "{t}")
        keys = self.keys()
        aggregates = ", ".join(self.aggregate() for _ in range(self.pick(1, 2, 4)))
        r = self.random.random()
        if r < 0.25:
            return f"SELECT {aggregates} FROM {view} {self.where()}"
        if r < 0.35:
            sets = self.pick("ROLLUP (namespace_id, node_id)", "CUBE (namespace_id, node_id)",
                             "GROUPING SETS ((series_id), ())")
            return f"SELECT {aggregates}, GROUPING({'series_id' if 'series' in sets else 'node_id'}) FROM {view}" \
                   f" {self.where()} GROUP BY {sets}"
        having = self.pick("", "", f"HAVING count(*) > {self.pick(0, 3, 20)}",
                           f"HAVING max(value) > {self.number()}::float8")
        return f"SELECT {keys}, {aggregates} FROM {view} {self.where()} GROUP BY {keys} {having}"

    def newest(self):
        """What may be answered from the newest (or oldest) blocks; conditions on time and series only."""
        view = self.pick("{u}", "{u}", "{t}")
        where = " AND ".join(["true"] + self.random.sample(
            [self.time(""), self.some_series(""), self.label("", ("node_id", "namespace_id")),
             f"time <= {self.moment()}"], self.pick(0, 1, 1, 2)))
        ends = ["max(time)", "min(time)", "count(*)"]
        if self.has_last:
            ends += ["last(value, time)", "first(value, time)"] * 2
        some = ", ".join(self.random.sample(ends, self.pick(1, 1, 2)))
        if self.chance(0.5):  # nothing but bounds of time and conditions on series, nothing but newest samples
            where = " AND ".join(self.random.sample(
                ["true", f"time <= {self.moment()}", f"time < {self.moment()} AND time >= {self.moment()}",
                 self.some_series(""), self.label("", ("node_id", "namespace_id"))], self.pick(1, 1, 2)))
            some = self.pick("max(time)", *["max(time), last(value, time)", "last(value, time)"] * (2 * self.has_last))
        return self.pick(
            f"SELECT DISTINCT ON (series_id) series_id, time, value FROM {view} WHERE {where}"
            f" ORDER BY series_id, time {self.pick('DESC', 'DESC', '')}",
            f"SELECT DISTINCT ON (series_id) {self.pick('*', 'series_id', 'series_id, time')} FROM {view} WHERE {where}"
            " ORDER BY series_id DESC, time DESC",
            f"SELECT series_id, {some} FROM {view} WHERE {where} GROUP BY series_id",
            f"SELECT series_id, {some} FROM {view} WHERE {where} GROUP BY series_id HAVING max(time) < {self.moment()}",
            f"SELECT {self.pick('node_id', 'namespace_id', 'labels', 'val(node_id)')}, max(time) FROM {view}"
            f" WHERE {where} GROUP BY 1",
            f"SELECT max(time){self.pick('', ', min(time)')} FROM {view} WHERE {where}",
            f"SELECT series_id, {self.bucket()}, {some} FROM {view} WHERE {where} GROUP BY 1, 2",
            f"SELECT time, series_id FROM {view} WHERE {where} ORDER BY time DESC, series_id LIMIT {self.pick(1, 5)}",
            f"SELECT o.name, l.* FROM own o, LATERAL (SELECT series_id, {some} FROM {view} v WHERE {where}"
            " AND v.series_id = o.series_id AND v.time > o.since GROUP BY series_id) l",
            f"SELECT s.node, l.* FROM prom_series.cpu_usage s LEFT JOIN LATERAL (SELECT time, value FROM {{u}} v"
            f" WHERE v.series_id = s.series_id AND {self.time('v.')} ORDER BY time DESC LIMIT 1) l ON true")

    def joined(self):
        on = self.pick("u.time = t.time AND eq(u.labels, t.labels)", "eq(u.labels, t.labels) AND u.time = t.time",
                       "u.time = t.time AND u.node_id = t.node_id",
                       "u.time = t.time AND val(u.node_id) = val(t.node_id) AND u.value < t.value")
        kind = self.pick("JOIN", "JOIN", "LEFT JOIN", "RIGHT JOIN")
        return self.pick(
            f"SELECT u.*, t.* FROM {{u}} u {kind} {{t}} t ON {on} {self.where('u.')}",
            f"SELECT count(*), sum(u.series_id) FROM {{u}} u {kind} {{t}} t ON {on} {self.where('t.')}",

            f"SELECT u.series_id, {self.aggregate('t.')} FROM {{u}} u JOIN {{t}} t ON {on} {self.where('u.')}"
            " GROUP BY u.series_id",
            "SELECT u.* FROM {u} u JOIN prom_series.cpu_usage s USING (series_id)"
            f" WHERE s.node = '{self.pick('n1', 'n4')}' AND {self.time('u.')}",
            f"SELECT o.name, {self.aggregate('u.')} FROM own o JOIN {{u}} u ON u.series_id = o.series_id"
            f" {self.where('u.')} GROUP BY o.name",
            f"SELECT o.name, u.time, u.value FROM own o LEFT JOIN {{u}} u ON u.series_id = o.series_id"
            f" AND {self.time('u.')}",
            f"SELECT o.name, l.* FROM own o, LATERAL (SELECT time, value FROM {{t}} t WHERE t.series_id = o.series_id"
            f" AND {self.time('t.')} ORDER BY time DESC LIMIT {self.pick(1, 3)}) l",
            "SELECT * FROM {u} u WHERE EXISTS (SELECT FROM own o WHERE o.series_id = u.series_id"
            f" AND o.since <= u.time) AND {self.condition('u.', ('node_id', 'zone_id'))}",
            f"SELECT o.* FROM own o WHERE {self.pick('', 'NOT ')}EXISTS (SELECT FROM {{t}} t WHERE"
            f" t.series_id = o.series_id AND {self.condition('t.', ('node_id',))})",
            f"SELECT o.name, (SELECT {self.aggregate('t.')} FROM {{t}} t WHERE t.series_id = o.series_id"
            f" AND {self.time('t.')}) FROM own o")

    def composed(self):
        inner = self.pick("{u}", "{t}")
        both = self.pick("UNION ALL", "UNION", "EXCEPT", "INTERSECT")
        return self.pick(
            f"SELECT time, series_id, value FROM {{u}} {self.where()} {both}"
            f" SELECT time, series_id, value FROM {inner} {self.where()}",
            f"WITH m AS {self.pick('', 'MATERIALIZED ', 'NOT MATERIALIZED ')}(SELECT * FROM {inner} {self.where()})"
            f" SELECT {self.aggregate('m.')}, m.series_id FROM m {self.where('m.')} GROUP BY m.series_id",
            f"SELECT {self.aggregate('x.')} FROM (SELECT * FROM {inner} {self.where()} ORDER BY time, series_id"
            f" LIMIT {self.pick(3, 100)}) x {self.where('x.')}",
            f"SELECT avg(m) FROM (SELECT series_id, max(series_id)::float8 AS m FROM {inner}"
            f" {self.where()} GROUP BY series_id) x",
            f"SELECT * FROM {{u}} WHERE (time, series_id) IN (SELECT max(time), series_id FROM {inner} {self.where()}"
            " GROUP BY series_id)",
            f"SELECT * FROM {inner} x WHERE value = (SELECT max(value) FROM {{t}} {self.where()})",
            f"SELECT time, count(*) FROM (SELECT time FROM {{u}} {self.where()} UNION ALL SELECT time FROM {{t}}) x"
            f" {self.pick('', 'WHERE ' + self.time(''))} GROUP BY time")

    def query(self):
        return self.pick(self.rows, self.grouped, self.grouped, self.grouped, self.newest, self.joined,
                         self.composed)()
