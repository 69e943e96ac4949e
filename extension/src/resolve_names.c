/*
 * resolve_names.c - metrics and label keys: ids, and the names that SQL users see for them.
 *
 * A metric's views and a key's columns are called after it, but an identifier holds 63 bytes, some
 * names are taken (time, value, ...), and two long names may be the same when cut. So the first try is
 * the plain name, or, where that is too long, a cut one that ends in _<id>; and if that name belongs
 * to another metric or key already, the cut one is tried with fresh ids. The names are UNIQUE in their
 * tables; they are chosen once and never change.
 */
#include "resolve.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

/* One less than an identifier holds: the array type of a view starts with an underscore. */
enum { NAME_MAX_BYTES = NAMEDATALEN - 2, NAME_ATTEMPTS = 5 };

/* Names that columns of the views have already, and names that a table column cannot have. */
static const char *const reserved_keys[] = {
    "time", "value", "series_id", "labels", "series",   "ctid",
    "xmin", "xmax",  "cmin",      "cmax",   "tableoid",
};

/* base + ending, the base cut where it must be; with_id puts _<id> between. */
static Datum
make_name(ps_str base, int32 id, bool with_id, const char *ending)
{
    char tail[64];

    if (!with_id && base.len + strlen(ending) < NAME_MAX_BYTES)
        snprintf(tail, sizeof tail, "%s", ending);
    else
        snprintf(tail, sizeof tail, "_%d%s", id, ending);
    size_t room = NAME_MAX_BYTES - strlen(tail);
    size_t len = base.len <= room ? base.len : ps_utf8_prefix(base, room);
    return CStringGetTextDatum(psprintf("%.*s%s", (int)len, base.ptr, tail));
}

static ps_str
column_base(ps_str key)
{
    for (size_t i = 0; i < lengthof(reserved_keys); i++) {
        if (ps_str_eq_c(key, reserved_keys[i])) {
            char *prefixed = psprintf("label_%s", reserved_keys[i]);
            return (ps_str){prefixed, strlen(prefixed)};
        }
    }
    return key;
}

/* ---- what metrics and keys have in common ------------------------------------------------ */

typedef struct name_kind {
    const char *what;
    catalog_stmt *lookup; /* (digests, texts) -> ordinal, id, same text */
    catalog_stmt *ids;    /* (n) -> id */
    catalog_stmt *insert; /* (ids, texts, digests, names, names) */
    bool columns;         /* two column names instead of one view name */
} name_kind;

static Datum
text_array(Datum *items, int n)
{
    return PointerGetDatum(construct_array(items, n, TEXTOID, -1, false, TYPALIGN_INT));
}

static Datum
digest_array(resolve_name *const *names, int n)
{
    pg_uuid_t *digests = palloc_array(pg_uuid_t, n);

    for (int i = 0; i < n; i++)
        digests[i] = names[i]->digest;
    return PointerGetDatum(resolve_uuid_array(digests, n));
}

static void
look_up(const name_kind *kind, resolve_name *const *names, int n)
{
    Datum *texts = palloc_array(Datum, n);
    for (int i = 0; i < n; i++)
        texts[i] = names[i]->text;
    Datum values[2] = {digest_array(names, n), text_array(texts, n)};

    uint64 found = catalog_run(kind->lookup, values, false);
    for (uint64 i = 0; i < found; i++) {
        resolve_name *name = names[DatumGetInt32(catalog_value(i, 1)) - 1];
        if (!DatumGetBool(catalog_value(i, 3)))
            resolve_collision(kind->what);
        name->id = DatumGetInt32(catalog_value(i, 2));
    }
    SPI_freetuptable(SPI_tuptable);
}

static void
insert(const name_kind *kind, resolve_name *const *names, int n, bool with_id)
{
    Datum *texts = palloc_array(Datum, n);
    Datum *first = palloc_array(Datum, n);
    Datum *second = palloc_array(Datum, n);
    int32 *ids = palloc_array(int32, n);
    Datum count = Int32GetDatum(n);

    if (catalog_run(kind->ids, &count, false) != n)
        elog(ERROR, "expected %d new ids", n);
    for (int i = 0; i < n; i++) {
        ps_str text = catalog_str(names[i]->text);
        ps_str base = kind->columns ? column_base(text) : text;

        ids[i] = DatumGetInt32(catalog_value(i, 1));
        texts[i] = names[i]->text;
        first[i] = make_name(base, ids[i], with_id, "");
        second[i] = kind->columns ? make_name(base, ids[i], with_id, "_id") : first[i];
    }
    SPI_freetuptable(SPI_tuptable);
    Datum values[5] = {
        PointerGetDatum(catalog_make_int4_array(ids, n)),
        text_array(texts, n),
        digest_array(names, n),
        text_array(first, n),
        text_array(second, n),
    };
    catalog_run(kind->insert, values, false);
}

static int
compare_digests(const void *a, const void *b)
{
    return resolve_uuid_cmp(&(*(resolve_name *const *)a)->digest,
                            &(*(resolve_name *const *)b)->digest);
}

static void
resolve_kind(const name_kind *kind, resolve_name *names, int n)
{
    resolve_name **missing = palloc_array(resolve_name *, Max(n, 1));

    for (int attempt = 0; attempt < NAME_ATTEMPTS; attempt++) {
        int n_missing = 0;
        for (int i = 0; i < n; i++) {
            if (names[i].id == 0)
                missing[n_missing++] = &names[i];
        }
        if (n_missing == 0)
            return;
        qsort(missing, n_missing, sizeof *missing, compare_digests);
        if (attempt > 0)
            insert(kind, missing, n_missing, attempt > 1);
        look_up(kind, missing, n_missing);
    }
    for (int i = 0; i < n; i++) {
        if (names[i].id == 0)
            resolve_give_way(kind->what);
    }
}

/* ---- the statements ----------------------------------------------------------------------- */

/*
 * The look-ups say by LATERAL and OFFSET 0 how they must run: one index probe per item. The function
 * sets enable_seqscan and its like off, since in a young database statistics know nothing.
 */
void
resolve_metrics(resolve_batch *batch)
{
    static catalog_stmt lookup = {
        .sql = "SELECT u.ord::int4, m.id, m.metric_name = u.name"
               " FROM unnest($1, $2) WITH ORDINALITY u(digest, name, ord),"
               " LATERAL (SELECT id, metric_name FROM _prom_catalog.metric"
               "          WHERE digest = u.digest OFFSET 0) m",
        .n_args = 2,
        .args = {UUIDARRAYOID, TEXTARRAYOID},
    };
    static catalog_stmt ids = {
        .sql = "SELECT nextval('_prom_catalog.metric_id_seq')::int4 FROM generate_series(1, $1)",
        .n_args = 1,
        .args = {INT4OID},
    };
    static catalog_stmt insert_stmt = {
        .sql = "INSERT INTO _prom_catalog.metric (id, metric_name, digest, table_name)"
               " SELECT id, name, digest, view_name::name"
               " FROM unnest($1, $2, $3, $4, $5) u(id, name, digest, view_name, unused)"
               " ON CONFLICT DO NOTHING",
        .n_args = 5,
        .args = {INT4ARRAYOID, TEXTARRAYOID, UUIDARRAYOID, TEXTARRAYOID, TEXTARRAYOID},
    };
    static const name_kind kind = {.what = "a metric name",
                                   .lookup = &lookup,
                                   .ids = &ids,
                                   .insert = &insert_stmt};

    resolve_kind(&kind, batch->metrics, batch->n_metrics);
}

void
resolve_keys(resolve_batch *batch)
{
    static catalog_stmt lookup = {
        .sql = "SELECT u.ord::int4, k.id, k.key = u.name"
               " FROM unnest($1, $2) WITH ORDINALITY u(digest, name, ord),"
               " LATERAL (SELECT id, key FROM _prom_catalog.label_key"
               "          WHERE digest = u.digest OFFSET 0) k",
        .n_args = 2,
        .args = {UUIDARRAYOID, TEXTARRAYOID},
    };
    static catalog_stmt ids = {
        .sql = "SELECT nextval('_prom_catalog.label_key_id_seq')::int4 FROM generate_series(1, $1)",
        .n_args = 1,
        .args = {INT4OID},
    };
    static catalog_stmt insert_stmt = {
        .sql = "INSERT INTO _prom_catalog.label_key"
               " (id, key, digest, value_column_name, id_column_name)"
               " SELECT id, name, digest, value_column::name, id_column::name"
               " FROM unnest($1, $2, $3, $4, $5) u(id, name, digest, value_column, id_column)"
               " ON CONFLICT DO NOTHING",
        .n_args = 5,
        .args = {INT4ARRAYOID, TEXTARRAYOID, UUIDARRAYOID, TEXTARRAYOID, TEXTARRAYOID},
    };
    static const name_kind kind = {.what = "a label name",
                                   .lookup = &lookup,
                                   .ids = &ids,
                                   .insert = &insert_stmt,
                                   .columns = true};

    resolve_kind(&kind, batch->keys, batch->n_keys);
}
