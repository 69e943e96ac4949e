"""Random arguments, as text of SQL expressions: values that a function gets every day, so that it goes all the
way, beside extremes and nonsense of the right type.
"""
from hostile import mutated

INT2 = ["0", "1", "-1", "32767", "'-32768'"]
INT4 = ["0", "1", "-1", "2", "3", "31", "32", "'2147483647'", "'-2147483648'"]
INT8 = ["0", "1", "-1", "1000", "'9223372036854775807'", "'-9223372036854775808'", "4294967296", "1099511627775"]
FLOATS = ["'NaN'", "'Infinity'", "'-Infinity'", "0", "'-0'", "1.5", "1e308", "5e-324", "-1e-300"]
NUMERICS = ["'NaN'", "'Infinity'", "'-Infinity'", "0", "1e100", "-1.000000001", "1e-300"]
TIMES = ["'infinity'", "'-infinity'", "'4714-11-24 00:00:00+00 BC'", "'294276-12-31 23:59:59.999999+00'",
         "'1970-01-01 00:00:00+00'", "'1969-12-31 23:59:59.9995+00'", "'2000-01-01 00:00:00+00'", "now()",
         "now() - interval '1 day'", "now() + interval '3 days'", "date_trunc('day', now(), 'UTC')",
         "now() - interval '1000 years'"]
INTERVALS = ["'0'", "'1 hour'", "'8 hours'", "'90 days'", "'-1 day'", "'1 month'", "'1 month -30 days'", "'1 us'",
             "'178000000 years'", "'-178000000 years'", "'2147483647 days'", "'-2147483648 days'",
             "'2562047788:00:54.775807'", "'1 month -40 days 3 us'", "'1 day -24 hours'"]
REGEXES = ["", ".*", "^n[0-9]$", "ns", "(", "[", "a{1,", "\\", "(?i)NS.", "(?<x>a)", "*", "(a|b)*c|(a|ab)*c", "\\1",
           "(.*)(.*)(.*)(.*)(.*)[", "^$", "x{1000}", "(?=a)", "***=a", "***:(", "[[:alpha:]]", "[[:foo:]]"]
NAMES = ["cpu_usage", "cpu_total", 'a b"c', "namespace", "node", "zone", "ns0", "n1", "__name__", "time", "value",
         "no_such", "", "samples", "prom_api", "prom_data", "prom_metric", "_prom_catalog", "metric", "public",
         "default", "fold", "seal", "views", "retention", "partitions", "errors", "trim_feed", "trim_exemplars",
         "retention_period", "chunk_interval", "compression", "exemplars_per_series", "90 days", "true",
         "metrics", "compression", "gauge", "block", "fresh", "merged"]
RELATIONS = ["prom_metric.cpu_usage", "prom_series.cpu_total", "_prom_data.samples", "_prom_data.fresh",
             "_prom_data.block", "_prom_catalog.series", "pg_catalog.pg_class", "pg_catalog.pg_stats"]
JSONS = ["{}", "[]", "null", "true", "1e1000", '""', '"x"', '{"node": "n1"}', '{"namespace": "ns1", "node": "n1"}',
         '{"__name__": "cpu_usage"}', '{"": ""}', '{"node": null}', '{"node": ["n1"]}', '{"node": {"x": {}}}',
         '{"node": 1}', '{"node": true, "zone": 1.50}', '[{"node": "n1"}]', '[[]]', '{"node": ""}',
         '{"a": "\\u00e4", "b": "\\ud83d\\ude00"}']


def quoted(text):
    return "'" + text.replace("'", "''") + "'"


class Arguments:
    def __init__(self, random, types, db):
        self.random = random
        self.types = types
        self.length = None  # of the arrays of one call, where they are to be of one length
        self.labels = db.column("SELECT id FROM _prom_catalog.label ORDER BY id")
        self.metrics = db.column("SELECT id FROM _prom_catalog.metric ORDER BY id")
        self.series = db.column("SELECT id FROM _prom_catalog.series ORDER BY id")
        self.arrays = db.column("SELECT labels::text FROM _prom_catalog.series ORDER BY id")
        self.generation = db.one("SELECT generation FROM _prom_catalog.state")
        self.blocks = [bytes(b) for b in db.column(
            "SELECT data FROM _prom_data.fresh UNION ALL SELECT data FROM _prom_data.merged"
            " UNION ALL SELECT data FROM _prom_data.block UNION ALL SELECT data FROM _prom_data.block_far")]
        by_name = dict(db.sql("SELECT typname::text, oid::int8 FROM pg_type WHERE typnamespace = 11"))
        self.plain = [by_name[n] for n in ("int4", "int8", "text", "float8", "timestamptz", "bool", "jsonb", "bytea",
                                           "_int4", "_text", "interval", "numeric", "name", "uuid")]

    def expression(self, type_oid, name="", depth=0):
        """An expression of this type."""
        t = self.types[type_oid]
        if t["kind"] == "p":
            return self.pseudo(t["name"], name, depth)
        if self.random.random() < 0.06:
            return f"NULL::{t['name']}"
        if self.random.random() < 0.01:
            return quoted(self.text(name)) + f"::{t['name']}"  # mostly a syntax error, in its input function
        return f"({self.value(t, name, depth)})::{t['name']}"

    def pseudo(self, kind, name, depth):
        pick = self.random.choice
        if kind in ("anyarray", "anycompatiblearray"):
            return pick(["ARRAY[1,2]", "ARRAY['a']::text[]", "'{}'::int8[]", "ARRAY[now()]", "NULL::int4[]"])
        if kind in ("anyelement", "anycompatible", "anynonarray", "any", '"any"'):
            return self.expression(pick(self.plain), name, depth + 1)
        if kind == "record":
            return pick(["ROW(1, 'a')", "ROW()", "NULL::record", "ROW(NULL, NULL)"])
        if kind == "cstring":
            return quoted(self.text(name)[:1000])
        return "NULL"  # internal and its like: SQL has no other value of it

    def value(self, t, name, depth):
        pick = self.random.choice
        if t["kind"] == "d":
            return self.expression(t["base"], name, depth + 1)
        if t["kind"] == "e":
            return quoted(pick(t["labels"] + ["no_such"]))
        if t["kind"] == "c":
            return "ROW(" + ", ".join(self.expression(f, name, depth + 1) for f in t["fields"]) + ")"
        if t["element"]:
            return self.array(t, name, depth)
        by_type = {
            "boolean": lambda: pick(["true", "false"]),
            "smallint": lambda: pick(INT2),
            "integer": lambda: pick(INT4 + [str(pick(self.labels + self.metrics))] * 9),
            "bigint": lambda: pick(INT8 + [str(pick(self.series))] * 6 + [str(self.generation), "33554432"]),
            "oid": lambda: pick(["0", "1259", "4294967295", "16384", "'pg_class'::regclass::oid"]),
            "real": lambda: pick(FLOATS[:6]),
            "double precision": self.double,
            "numeric": lambda: pick(NUMERICS),
            "text": lambda: self.text_expression(name),
            "character varying": lambda: self.text_expression(name),
            "name": lambda: quoted(self.text(name)[:80]),
            '"char"': lambda: pick(["'c'", "'d'", "''", "'x'"]),
            "timestamp with time zone": lambda: self.time(),
            "timestamp without time zone": lambda: self.time(),
            "date": lambda: pick(["'infinity'", "'2000-01-01'", "now()"]),
            "interval": lambda: self.interval(),
            "jsonb": self.json,
            "json": self.json,
            "bytea": self.bytes,
            "uuid": lambda: pick(["gen_random_uuid()", "'00000000-0000-0000-0000-000000000000'"]),
            "regclass": lambda: quoted(pick(RELATIONS)),
            "xid8": lambda: pick(["'0'", "'1'", "'18446744073709551615'", "pg_current_xact_id()"]),
            "prom_api.histogram": self.histogram,
            "histogram": self.histogram,
            "xid": lambda: pick(["'0'", "'3'", "'4294967295'"]),
        }
        return by_type.get(t["name"], lambda: quoted(self.text(name)[:200]))()

    # ---- by type -------------------------------------------------------------------------------------

    def double(self):
        if self.random.random() < 0.2:  # NaNs with a payload: what SQL cannot spell comes from a sample's value
            return "(SELECT value FROM prom_metric.cpu_usage ORDER BY random() LIMIT 1)"
        return self.random.choice(FLOATS + [repr(self.random.uniform(-1e6, 1e6))])

    def time(self):
        if self.random.random() < 0.5:
            return f"now() - interval '{self.random.randrange(-10, 300_000)} s'"
        return self.random.choice(TIMES)

    def interval(self):
        if self.random.random() < 0.3:
            return quoted(f"{self.random.randrange(1, 100_000)} {self.random.choice(['s', 'ms', 'min', 'days'])}")
        return self.random.choice(INTERVALS)

    def text(self, name):
        r = self.random.random()
        if "metric" in name and self.random.random() < 0.5:
            return self.random.choice(["cpu_usage", "cpu_total", 'a b"c'])
        if r < 0.5:
            return self.random.choice(NAMES)
        if r < 0.75:
            return self.random.choice(REGEXES)
        if r < 0.85:
            return self.random.choice(JSONS)
        letters = ["a", "_", "-", " ", '"', "'", "\\", "\n", "\x01", "é", "€", "😀", "\u0301", "%", ":", ";", "/"]
        return "".join(self.random.choice(letters) for _ in range(self.random.choice([1, 5, 62, 63, 64, 65, 300])))

    def text_expression(self, name):
        r = self.random.random()
        if r < 0.015:
            return f"repeat({quoted(self.random.choice(['x', '(', 'ab', 'é', '.*', chr(92)]))}, 1000000)"
        if r < 0.03:
            return f"repeat({quoted(self.random.choice(['a*', '(a|', 'x?', '[[:alpha:]]', '(']))}, 300)"
        return quoted(self.text(name))

    def json(self):
        r = self.random.random()
        if r < 0.03:
            return "(repeat('[', 1500) || repeat(']', 1500))"
        if r < 0.06:
            return "(SELECT jsonb_object_agg('k' || i, repeat('v', i % 300)) FROM generate_series(1, 3000) i)"
        if r < 0.08:
            return "jsonb_build_object('node', repeat('x', 1000000))"
        if r < 0.1:
            return "jsonb_build_object(repeat('x', 1000000), 'y')"
        return quoted(self.random.choice(JSONS))

    def histogram(self):
        r = self.random.random()
        if r < 0.1:
            return quoted(self.random.choice(["{{}}", "{{schema:9}}", "{{count:NaN sum:NaN}}",
                                              "{{buckets:[1] offset:536870911}}", "{{buckets:[1 2"]))
        counts = " ".join(self.random.choice(["0", "1", "7", "0.5", "NaN", "+Inf", "-1"])
                          for _ in range(self.random.choice([0, 1, 5, 40])))
        if r < 0.3:
            return quoted(f"{{{{schema:-53 custom_values:[0.5 1 {self.random.choice([2, 3])}] buckets:[1 2 3]}}}}")
        return quoted(f"{{{{schema:{self.random.randrange(-4, 9)} count:{self.random.choice(['12', 'NaN', '0'])} sum:1.5"
                      f" z_bucket:1 z_bucket_w:0.01 buckets:[{counts}] offset:{self.random.choice([0, -5, 2000])}"
                      f" n_buckets:[{counts}]}}}}")

    def bytes(self):
        r = self.random.random()
        if r < 0.1:
            raw = self.random.randbytes(self.random.choice([0, 1, 7, 8, 64, 1000, 20000]))
        elif r < 0.4:
            raw = self.random.choice(self.blocks)
        else:
            raw = mutated(self.random, self.random.choice(self.blocks))
        return f"'\\x{raw.hex()}'"

    def array(self, t, name, depth):
        r = self.random.random()
        if self.length is not None and r < 0.9:
            return "ARRAY[" + ", ".join(self.expression(t["element"], name, 4) for _ in range(self.length)) + "]"
        if t["name"] == "integer[]" and r < 0.4:
            return quoted(self.random.choice(self.arrays))
        if depth > 3 or r < 0.5:
            return quoted(self.random.choice(["{}", "{NULL}", "{NULL,NULL,NULL}"]))
        element = self.types[t["element"]]["name"]
        if r < 0.55:
            one = self.expression(t["element"], name, depth + 1)
            n = 50 if "000)" in one else self.random.choice([1000, 5000, 20000])  # no arrays of gigabytes
            return f"(SELECT array_agg(e) FROM (SELECT {one} AS e FROM generate_series(1, {n})) x)"
        n = self.random.choice([1, 1, 2, 3, 5, 40])
        items = ", ".join(self.expression(t["element"], name, depth + 1) for _ in range(n))
        if r < 0.62:
            return f"ARRAY[ARRAY[{items}], ARRAY[{items}]]"
        if r < 0.7:
            low = self.random.choice([-2147483648, -5, 0, 2, 1000, 2147483600])
            one = self.expression(t["element"], name, depth + 1)
            return f"array_fill(({one})::{element}, ARRAY[{n}], ARRAY[{low}])"
        return f"ARRAY[{items}]"
