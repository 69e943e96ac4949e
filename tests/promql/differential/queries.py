"""Random queries that are valid, over the series of world.py: every kind of node, every function that both know.

What has no single right answer is left out: topk & co. among equal values, limitk over anything but plain series.
"""

MATH = ["abs", "ceil", "floor", "exp", "sqrt", "ln", "log2", "log10", "sgn", "deg", "rad", "asin", "acos", "atan",
        "sinh", "cosh", "tanh", "asinh", "acosh", "atanh"]
PERIODIC = ["sin", "cos", "tan"]  # of large numbers the last bit of the argument is all that counts
DATES = ["minute", "hour", "day_of_week", "day_of_month", "day_of_year", "days_in_month", "month", "year"]
RANGE = ["rate", "increase", "delta", "irate", "idelta", "resets", "changes", "deriv", "avg_over_time",
         "min_over_time", "max_over_time", "sum_over_time", "count_over_time", "stddev_over_time", "stdvar_over_time",
         "last_over_time", "present_over_time", "mad_over_time", "ts_of_min_over_time", "ts_of_max_over_time",
         "ts_of_last_over_time"]
NATIVE = ["histogram_count", "histogram_sum", "histogram_avg", "histogram_stddev", "histogram_stdvar"]
AGGREGATIONS = ["sum", "avg", "count", "min", "max", "group", "stddev", "stdvar"]
METRICS = {
    "requests_total": ["code", "instance", "job"], "errors_total": ["code", "instance", "job"],
    "temperature": ["instance", "job"], "limit_bytes": ["instance", "job"], "target_info": ["instance", "job"],
    "latency_bucket": ["job", "le"], "latency_count": ["job"], "latency_sum": ["job"], "alone": [],
    "sizes": ["instance", "job"],
}
VALUES = {"code": ["200", "404", "500"], "instance": ["a:1", "b:2", "c:3"], "job": ["api", "db"],
          "le": ["0.1", "1", "+Inf"]}
REGEXES = {"code": ["2..", "4.*|5.*", ".+", ""], "instance": ["[ab].*", ".*3", "a:1|c:3"], "job": ["a.*", "db|x"],
           "le": ["0.*", "1|5"]}
ARITHMETIC = ["+", "-", "*", "/", "%", "^", "atan2"]
COMPARISONS = ["==", "!=", ">", "<", ">=", "<="]
DURATIONS = ["30s", "1m", "90s", "2m", "5m", "7m30s", "15m", "1h"]


class Generator:
    def __init__(self, r, experimental=True):
        self.r = r
        self.experimental = experimental

    def some(self, *ways):
        """One of (weight, way)."""
        return self.r.choices([w for _, w in ways], [n for n, _ in ways])[0]()

    def duration(self):
        return self.r.choice(DURATIONS)

    def constant(self):
        return self.r.choice(["0", "1", "2", "0.5", "-1", "10", "100", "3", "1e3", "NaN", "Inf", "-Inf"])

    def labels(self, most=3):
        return ", ".join(self.r.sample(["job", "instance", "code", "le"], self.r.randint(0, most)))

    # ---- selectors

    def matchers(self, metric):
        out = []
        for label in METRICS[metric]:
            if self.r.random() < 0.3:
                out.append(f'{label}{self.r.choice(["=", "!="])}"{self.r.choice(VALUES[label])}"')
            elif self.r.random() < 0.15:
                out.append(f'{label}{self.r.choice(["=~", "!~"])}"{self.r.choice(REGEXES[label])}"')
        if self.r.random() < 0.03:
            out.append(f'zone{self.r.choice(["=", "!="])}""')
        return "{" + ",".join(out) + "}" if out else ""

    def where(self):
        out = ""
        if self.r.random() < 0.1:
            out += " offset " + self.r.choice(["", "-"]) + self.duration()
        if self.r.random() < 0.07:
            out += " @ " + self.r.choice(["3600", "5000.5", "start()", "end()", "0", "10799"])
        return out

    def name(self, kind=None):
        kinds = {"counter": ["requests_total", "errors_total", "latency_count", "latency_bucket"],
                 "native": ["sizes"]}
        names = kinds.get(kind) or list(METRICS)
        if kind is None and self.r.random() < 0.7:
            names = ["requests_total", "errors_total", "temperature", "limit_bytes"]
        return self.r.choice(names)

    def plain(self, kind=None):
        name = self.name(kind)
        if self.r.random() < 0.05:
            return '{__name__=~"' + self.r.choice(["requests_total|errors_total", "l.*", ".*_total"]) + '"}'
        return name + self.matchers(name)

    def selector(self, kind=None):
        return self.plain(kind) + self.where()

    def ranged(self, depth, kind=None):
        if depth > 0 and self.r.random() < 0.25:
            step = self.r.choice(["", "30s", "1m", "45s", "5m"])
            return f"({self.vector(depth - 1)})[{self.duration()}:{step}]" + self.where()
        return f"{self.plain(kind)}[{self.duration()}]" + self.where()

    # ---- vectors

    def vector(self, depth):
        if depth <= 0:
            return self.selector()
        d = depth - 1
        return self.some(
            (3, self.selector),
            (8, lambda: self.range_call(d)),
            (4, lambda: f"{self.r.choice(MATH)}({self.vector(d)})"),
            (1, lambda: f"{self.r.choice(PERIODIC)}({self.selector()})"),
            (3, lambda: self.other_call(d)),
            (7, lambda: self.aggregation(d)),
            (3, lambda: f"({self.vector(d)}) {self.operator_bool()} {self.scalar(d)}"),
            (2, lambda: f"{self.scalar(d)} {self.operator_bool()} ({self.vector(d)})"),
            (7, lambda: self.join(d)),
            (3, lambda: self.set_operation(d)),
            (2, lambda: f"-({self.vector(d)})"),
            (1, lambda: f"+({self.vector(d)})"),
            (2, lambda: self.quantile_call(d)),
            (3, lambda: self.native_call(d)),
            (1, lambda: f"vector({self.scalar(d)})"),
            (2, lambda: self.label_call(d)),
            (2, lambda: self.absent_call(d)),
            (1 if self.experimental else 0, lambda: self.info_call()))

    def operator_bool(self):
        if self.r.random() < 0.6:
            return self.r.choice(ARITHMETIC)
        return self.r.choice(COMPARISONS) + self.r.choice(["", " bool"])

    def range_call(self, d):
        kind = "counter" if self.r.random() < 0.6 else "native" if self.r.random() < 0.2 else None
        fn = self.r.choice(RANGE if self.experimental else RANGE[:-4])
        pick = self.r.random()
        if pick < 0.06:
            return f"quantile_over_time({self.r.choice(['0.5', '0.9', '0', '1', '-1', '2', 'NaN'])}, {self.ranged(d)})"
        if pick < 0.12:
            return f"predict_linear({self.ranged(d)}, {self.r.choice(['600', '-60', '0'])})"
        if pick < 0.15 and self.experimental:
            return f"double_exponential_smoothing({self.ranged(d)}, 0.5, 0.3)"
        return f"{fn}({self.ranged(d, kind)})"

    def other_call(self, d):
        v = self.vector(d)
        return self.some(
            (2, lambda: f"round({v})"),
            (2, lambda: f"round({v}, {self.r.choice(['0.5', '10', '0.1', '3'])})"),
            (2, lambda: f"clamp({v}, {self.constant()}, {self.constant()})"),
            (1, lambda: f"clamp_min({v}, {self.constant()})"),
            (1, lambda: f"clamp_max({v}, {self.constant()})"),
            (2, lambda: f"timestamp({self.r.choice([v, self.selector()])})"),
            (2, lambda: f"{self.r.choice(DATES)}({v})"),
            (1, lambda: f"sort({v})"),
            (1, lambda: f"sort_desc({v})"))

    def by(self):
        return self.r.choice(["", f" by ({self.labels()})", f" without ({self.labels()})"])

    def aggregation(self, d):
        pick = self.r.random()
        if pick < 0.12:
            return f"quantile{self.by()} ({self.r.choice(['0.5', '0.9', '0', '1', '-1', 'NaN'])}, {self.vector(d)})"
        if pick < 0.2:
            op, k = self.r.choice(["topk", "bottomk"]), self.r.choice(["1", "2", "5"])
            return f"{op}{self.by()} ({k}, {self.selector()})"
        if pick < 0.25:
            return f'count_values{self.by()} ("value", {self.selector()})'
        if pick < 0.3 and self.experimental:
            return f'limitk{self.by()} ({self.r.choice(["1", "2", "5"])}, {self.selector()})'
        if pick < 0.35 and self.experimental:
            return f'limit_ratio{self.by()} ({self.r.choice(["0.3", "-0.3", "0.8"])}, {self.selector()})'
        return f"{self.r.choice(AGGREGATIONS)}{self.by()} ({self.vector(d)})"

    def matching(self, set_operator):
        on = self.r.choice(["on", "ignoring"])
        names = self.r.sample(["job", "instance", "code", "le"], self.r.randint(0, 3))
        if self.r.random() < 0.35:
            return ""
        out = f" {on}({', '.join(names)})"
        if not set_operator and self.r.random() < 0.5:
            free = [x for x in ["job", "instance", "code", "version"] if on == "ignoring" or x not in names]
            take = self.r.sample(free, self.r.choice([0, 0, 1, min(2, len(free))]) if free else 0)
            out += f" {self.r.choice(['group_left', 'group_right'])}({', '.join(take)})"
        return out

    def join(self, d):
        """Half of them such that they match, the others anyhow."""
        op = self.operator_bool()
        pick = self.r.random()
        if pick < 0.25:
            return f"{self.plain('counter')} {op} on(job, instance) group_left {self.limit()}"
        if pick < 0.4:
            return f"{self.limit()} {op} on(job, instance) group_right({self.r.choice(['', 'version'])}) errors_total"
        if pick < 0.6:
            return f"{self.fn_of('requests_total')} {op} {self.fn_of('errors_total')}"
        return f"({self.vector(d)}) {op}{self.matching(False)} ({self.vector(d)})"

    def limit(self):
        return self.r.choice(["limit_bytes", "temperature", "target_info", "sum by (job, instance) (errors_total)"])

    def fn_of(self, metric):
        return self.r.choice([metric, f"rate({metric}[{self.duration()}])", f"sum by (job, code) ({metric})",
                              f"-{metric}"])

    def set_operation(self, d):
        op = self.r.choice(["and", "or", "unless"])
        left, right = self.vector(d), self.vector(d)
        if self.r.random() < 0.4:
            left, right = self.fn_of("requests_total"), self.fn_of("errors_total")
        return f"({left}) {op}{self.matching(True)} ({right})"

    def quantile_call(self, d):
        q = self.r.choice(["0.5", "0.9", "0.99", "0", "1", "-1", "2", "NaN"])
        v = self.r.choice(["latency_bucket", f"rate(latency_bucket[{self.duration()}])", "sizes",
                           f"rate(sizes[{self.duration()}])", f"sum by (le) (rate(latency_bucket[{self.duration()}]))"])
        if self.r.random() < 0.3:
            lower, upper = self.r.choice(["0", "-1", "0.2", "-Inf"]), self.r.choice(["1", "5", "0", "Inf"])
            return f"histogram_fraction({lower}, {upper}, {v})"
        return f"histogram_quantile({q}, {v})"

    def native(self, d):
        t = self.duration()
        return self.some(
            (3, lambda: "sizes" + self.where()),
            (2, lambda: f"rate(sizes[{t}])"),
            (1, lambda: f"{self.r.choice(['increase', 'delta', 'irate', 'idelta'])}(sizes[{t}])"),
            (1, lambda: f"{self.r.choice(['sum', 'avg'])}_over_time(sizes[{t}])"),
            (1, lambda: f"{self.r.choice(['sum', 'avg'])}{self.by()} (sizes)"),
            (1, lambda: f"sum{self.by()} (rate(sizes[{t}]))"),
            (1, lambda: f"sizes {self.r.choice(['+', '-', '==', '!='])} sizes"),
            (1, lambda: f"sizes {self.r.choice(['*', '/', '+', '>'])} {self.constant()}"),
            (1, lambda: f"{self.constant()} {self.r.choice(['*', '/'])} sizes"))

    def native_call(self, d):
        if self.r.random() < 0.4:
            return self.native(d)
        return f"{self.r.choice(NATIVE)}({self.native(d)})"

    def label_call(self, d):
        v = self.vector(d)
        return self.some(
            (2, lambda: f'label_replace({v}, "copy", "$1-x", "instance", "(.*):.*")'),
            (1, lambda: f'label_replace({v}, "code", "", "job", "api")'),
            (1, lambda: f'label_replace({v}, "__name__", "n_$1", "job", "(.*)")'),
            (2, lambda: f'label_join({v}, "both", "/", "job", "instance")'))

    def absent_call(self, d):
        return self.some(
            (2, lambda: f"absent({self.vector(d)})"),
            (1, lambda: 'absent(nothing{job="x", a!="b"})'),
            (2, lambda: f"absent_over_time({self.ranged(d)})"))

    def info_call(self):
        return self.r.choice(["info(requests_total)", "info(rate(requests_total[5m]))",
                              'info(errors_total, {zone="a"})', 'info(temperature, {version=~".+"})',
                              'info(limit_bytes offset 5m, {__name__="target_info"})', "info(alone)"])

    # ---- scalars

    def scalar(self, depth):
        if depth <= 0 or self.r.random() < 0.5:
            return self.r.choice([self.constant(), "time()", "pi()", "5m"])
        d = depth - 1
        return self.some(
            (2, lambda: f"scalar({self.vector(d)})"),
            (1, lambda: f"scalar(alone{self.where()})"),
            (2, lambda: f"({self.scalar(d)} {self.r.choice(ARITHMETIC)} {self.scalar(d)})"),
            (1, lambda: f"({self.scalar(d)} {self.r.choice(COMPARISONS)} bool {self.scalar(d)})"),
            (1, lambda: f"-({self.scalar(d)})"))

    def query(self):
        depth = self.r.choice([1, 1, 2, 2, 2, 3])
        return self.scalar(depth) if self.r.random() < 0.04 else self.vector(depth)
