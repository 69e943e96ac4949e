"""All that SQL sees of the extension, read from PostgreSQL's catalogs: what is added later is found by itself.

Ours is what belongs to the extension, and what stands in its schemas (views of metrics are not members).
"""
from collections import namedtuple

SCHEMAS = "{prom_api,ps_tag,prom_metric,prom_series,prom_info,prom_data,_prom_catalog,_prom_data,_prom_ext,prom_histogram}"

Routine = namedtuple("Routine", "oid name kind arguments n_defaults returns_set result")
Operator = namedtuple("Operator", "name left right")
Argument = namedtuple("Argument", "name type_oid")

OURS = """
    (c.oid IN (SELECT objid FROM pg_depend WHERE classid = '{table}'::regclass AND deptype = 'e'
               AND refclassid = 'pg_extension'::regclass
               AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'promscale'))
     OR c.{namespace}::regnamespace::text = ANY ('{schemas}'))
"""


def ours(table, namespace):
    return OURS.format(table=table, namespace=namespace, schemas=SCHEMAS)


def routines(db):
    """Arguments are those that a caller gives: of a procedure also the OUT ones."""
    found = db.sql(f"""
        SELECT c.oid::int8, format('%I.%I', n.nspname, c.proname), c.prokind::text, c.pronargdefaults::int4,
               c.proretset, c.prorettype::regtype::text,
               ARRAY(SELECT coalesce(c.proargnames[i], '') FROM generate_subscripts(a.types, 1) i
                     WHERE c.proargmodes IS NULL OR c.prokind = 'p' OR c.proargmodes[i] IN ('i', 'b', 'v')),
               ARRAY(SELECT a.types[i]::int8 FROM generate_subscripts(a.types, 1) i
                     WHERE c.proargmodes IS NULL OR c.prokind = 'p' OR c.proargmodes[i] IN ('i', 'b', 'v'))
        FROM pg_proc c JOIN pg_namespace n ON n.oid = c.pronamespace,
             LATERAL (SELECT coalesce(c.proallargtypes, string_to_array(c.proargtypes::text, ' ')::oid[]) AS types) a
        WHERE {ours('pg_proc', 'pronamespace')} ORDER BY 2, c.oid""")
    return [Routine(oid, name, kind, [Argument(*a) for a in zip(names, types)], defaults, retset, result)
            for oid, name, kind, defaults, retset, result, names, types in found]


def operators(db):
    return [Operator(*row) for row in db.sql(f"""
        SELECT format('OPERATOR(%I.%s)', n.nspname, c.oprname), c.oprleft::int8, c.oprright::int8
        FROM pg_operator c JOIN pg_namespace n ON n.oid = c.oprnamespace
        WHERE {ours('pg_operator', 'oprnamespace')} AND c.oprcode <> 0 ORDER BY 1, c.oid""")]


def relations(db):
    """Everything that can be selected from."""
    return db.column(f"""SELECT c.oid::regclass::text FROM pg_class c
                         WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND {ours('pg_class', 'relnamespace')}
                         ORDER BY 1""")


class Types:
    """What is known of a type, asked once."""

    def __init__(self, db):
        self.db = db
        self.known = {}

    def __getitem__(self, oid):
        if oid not in self.known:
            name, kind, element, base, category = self.db.sql("""
                SELECT format_type(oid, NULL), typtype::text, typelem::int8, typbasetype::int8, typcategory::text
                FROM pg_type WHERE oid = %s""", (oid,))[0]
            fields = [] if kind != "c" else self.db.column("""
                SELECT atttypid::int8 FROM pg_attribute WHERE attnum > 0 AND NOT attisdropped AND attrelid =
                    (SELECT typrelid FROM pg_type WHERE oid = %s) ORDER BY attnum""", (oid,))
            labels = [] if kind != "e" else self.db.column(
                "SELECT enumlabel FROM pg_enum WHERE enumtypid = %s ORDER BY 1", (oid,))
            self.known[oid] = dict(name=name, kind=kind, base=base, fields=fields, labels=labels,
                                   element=element if category == "A" else 0)
        return self.known[oid]
