"""Every function, operator, aggregate, procedure and view of ours with arguments nobody would give.

What there is comes from PostgreSQL's catalogs (surface.py), the arguments from arguments.py. Each call is a transaction
of its own that is rolled back, as a superuser or as one of the roles. watched.py says what is a failure. Run longer:
PROMSCALE_FUZZ_SECONDS=600; repeat: PROMSCALE_FUZZ_SEED, as printed.
"""
import surface
from arguments import Arguments
from watched import BLOCKS_ARE_DAMAGED, Watched

ROLES = [None, None, None, "prom_reader", "prom_writer", "prom_modifier", "prom_maintenance", "prom_admin",
         "pg_monitor"]
PARALLEL = ("SELECT set_config(name, 'on', true) FROM pg_settings"
            " WHERE name IN ('force_parallel_mode', 'debug_parallel_query')")  # up to 15, from 16
SETTINGS = ["", "", "", "", PARALLEL, "SET LOCAL enable_hashjoin = off",
            "SET LOCAL plan_cache_mode = force_generic_plan", "SET LOCAL TimeZone = 'Pacific/Apia'",
            "SET LOCAL IntervalStyle = sql_standard", "SET LOCAL DateStyle = 'German'", "SET LOCAL work_mem = '64kB'",
            "SET LOCAL search_path = ''", "SET LOCAL extra_float_digits = -15",
            "SET LOCAL transform_null_equals = on", "SET LOCAL default_transaction_isolation = serializable"]


class Caller:
    """Makes statements that call one thing."""

    def __init__(self, db, random):
        self.random = random
        self.arguments = Arguments(random, surface.Types(db), db)
        self.columns = {}

    def rows(self, arguments):
        """FROM clause with a column for each argument: several calls in one statement, not constants."""
        rows = []
        for _ in range(self.random.choice([1, 2, 3, 6])):
            rows.append("(" + ", ".join(self.arguments.expression(a.type_oid, a.name) for a in arguments) + ")")
        names = ", ".join(f"a{i}" for i in range(len(arguments)))
        return f"(VALUES {', '.join(rows)} OFFSET 0) v({names})", names

    def routine(self, r):
        self.arguments.length = self.random.choice([None, None, 1, 3])
        n = len(r.arguments) - self.random.randrange(r.n_defaults + 1)
        given = r.arguments[:n]
        if r.kind == "p":
            return f"CALL {r.name}({self.list(given)})"
        if r.kind in ("a", "w"):
            return self.aggregate(r, given)
        if given and self.random.random() < 0.4 and not self.untyped(given):
            source, names = self.rows(given)
            if r.returns_set and self.random.random() < 0.5:
                return f"SELECT * FROM {source}, {r.name}({names}) f LIMIT 1000"
            return f"SELECT {r.name}({names}) FROM {source} LIMIT 1000"
        if self.random.random() < 0.3:
            return f"SELECT * FROM {r.name}({self.list(given)}) f LIMIT 1000"
        return f"SELECT {r.name}({self.list(given)}) LIMIT 1000"

    def untyped(self, arguments):
        """Pseudo types have no columns."""
        return any(self.arguments.types[a.type_oid]["kind"] == "p" for a in arguments)

    def list(self, arguments):
        return ", ".join(self.arguments.expression(a.type_oid, a.name) for a in arguments)

    def aggregate(self, r, given):
        if not given:
            return f"SELECT {r.name}(*) FROM generate_series(1, 3)"
        if self.untyped(given):
            return f"SELECT {r.name}({self.list(given)}) FROM generate_series(1, 3)"
        source, names = self.rows(given)
        over = " OVER ()" if r.kind == "w" or self.random.random() < 0.2 else ""
        over = over or self.random.choice(["", "", " FILTER (WHERE random() < 0.5)", " OVER (ORDER BY 1)"])
        return f"SELECT {r.name}({names}){over} FROM {source}"

    def operator(self, o):
        left = self.arguments.expression(o.left) if o.left else ""
        right = self.arguments.expression(o.right)
        if self.random.random() < 0.3 and o.left:
            view = self.random.choice(["prom_metric.cpu_usage", "prom_series.cpu_usage"])
            if "int" in self.arguments.types[o.left]["name"] or self.arguments.types[o.left]["kind"] == "d":
                return f"SELECT * FROM {view} WHERE labels {o.name} ({right}) LIMIT 100"
        return f"SELECT ({left}) {o.name} ({right})"

    def relation(self, db, name):
        """Reads it, by some column."""
        if name not in self.columns:
            self.columns[name] = db.sql("SELECT attname, atttypid::int8 FROM pg_attribute WHERE attrelid = %s::regclass"
                                        " AND attnum > 0 AND NOT attisdropped ORDER BY attnum", (name,))
        column, type_oid = self.random.choice(self.columns[name])
        column = '"' + column.replace('"', '""') + '"'
        value = self.arguments.expression(type_oid, column)
        where = self.random.choice(["", f"WHERE {column} = {value}", f"WHERE {column} IS DISTINCT FROM {value}",
                                    f"WHERE {column} < {value}", f"WHERE {column} IN ({value}, {value})"])
        what = self.random.choice(["*", "count(*)", f"max({column}::text)", f"{column}, count(*)"])
        group = f"GROUP BY {column}" if what.endswith(", count(*)") else ""
        return f"SELECT {what} FROM {name} {where} {group} LIMIT 200"

    def writing(self, db, name):
        """Changes it: some columns, values of their types, one of the forms of INSERT, UPDATE and DELETE."""
        self.relation(db, name)
        columns = self.random.sample(self.columns[name], self.random.randrange(1, len(self.columns[name]) + 1))
        if self.random.random() < 0.5:
            columns = self.columns[name]
        names = ['"' + c.replace('"', '""') + '"' for c, _ in columns]
        rows = ["(" + ", ".join(self.arguments.expression(t, c) for c, t in columns) + ")"
                for _ in range(self.random.choice([1, 1, 2, 20]))]
        source = self.random.choice([
            f"({', '.join(names)}) VALUES {', '.join(rows)}", f"SELECT * FROM {name}", "DEFAULT VALUES",
            f"({', '.join(names)}) SELECT {', '.join(names)} FROM {name} LIMIT 300"])
        tail = self.random.choice(["", "", "", " RETURNING *", " ON CONFLICT DO NOTHING"])
        return self.random.choice([f"INSERT INTO {name} {source}{tail}"] * 8 + [
            f"UPDATE {name} SET {names[0]} = {self.arguments.expression(columns[0][1])}", f"DELETE FROM {name}",
            f"WITH w AS (INSERT INTO {name} {source} RETURNING *) SELECT * FROM w", f"TRUNCATE {name}",
            f"SELECT * FROM {name} FOR UPDATE", f"LOCK TABLE {name} IN SHARE MODE NOWAIT"])


def state_of(db):
    return [db.sql("SELECT id, metric_name, table_name, retention_period, chunk_interval, compression, positions"
                   " FROM _prom_catalog.metric ORDER BY id"),
            db.sql("SELECT count(*), sum(id), sum(hashtextextended(labels::text, 0)) FROM _prom_catalog.series"),
            *[db.sql(f"SELECT count(*), sum(hashtextextended(x::text, 0)) FROM {v} x")
              for v in ("cpu_usage", "cpu_total", 'prom_metric."a b""c"')]]


def test_every_function(db, bound):
    time = bound(60)
    db.conn.close()
    db.conn = db.connect()
    caller = Caller(db, time.random)
    things = ([(r.name, lambda r=r: caller.routine(r)) for r in surface.routines(db)]
              + [(f"{o.name} of {o.left}, {o.right}", lambda o=o: caller.operator(o)) for o in surface.operators(db)]
              + [(r, lambda r=r: caller.relation(db, r)) for r in surface.relations(db)]
              + [(f"changing {r}", lambda r=r: caller.writing(db, r)) for r in surface.relations(db)]
              + [(f"changing {r}", lambda r=r: caller.writing(db, r)) for r in surface.relations(db)
                 if r.startswith("prom_data.")] * 4)
    assert len(things) > 100
    before = state_of(db)
    session = Watched(db)
    node = db.one("SELECT id FROM _prom_catalog.label WHERE value = 'n1'")
    n = 0
    while time.more():
        time.random.shuffle(things)
        for name, make in things:
            if not time.more() and n > len(things):
                break
            n += 1
            role = time.random.choice(ROLES)
            begin = ";".join(["BEGIN", time.random.choice(SETTINGS),
                              f"SET LOCAL ROLE {role}" if role else ""])
            call = make()
            if call.startswith("CALL") and time.random.random() < 0.05:
                begin = None  # it wants to commit
            session.run(name, call, allowed=BLOCKS_ARE_DAMAGED, begin=begin)
            if n % 50 == 0:
                assert session.run("val", f"SELECT prom_api.val({node})") == [("n1",)], "after errors"
            if n % 2000 == 0:
                session.connect()
    reached = {name for (name, code) in session.outcomes if code == "ok"}
    print(f"{n} calls of {len(things)} things, {len(reached)} of them succeeded at least once;"
          f" slowest {session.slowest[0]:.1f} s: {session.slowest[1]}")
    never = sorted({name for name, _ in things} - reached)
    print("never succeeded:", ", ".join(never))
    session.close()
    assert not session.failures, session.report()
    assert state_of(db) == before, "what was rolled back is still there"
    assert db.one("SELECT pg_postmaster_start_time()") == session.started
    # most things must have been reached, or the arguments are not worth much
    assert len(reached) > len(things) * 0.6
