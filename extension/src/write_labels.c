/*
 * write_labels.c - labels given as jsonb to series ids; get_or_create_series_id().
 *
 * A million rows rarely have more than some thousand label sets, so a statement remembers each set by
 * the bytes of its jsonb (equal objects have equal bytes) and asks _prom_catalog.resolve_series() for
 * all that are new in one go, just before it stores rows. Names and values follow the rules and the
 * built-in limits of remote write.
 *
 * Sets live in set_context; beyond half of promscale.write_memory they are forgotten and begin anew.
 */
#include "write.h"

#include "bridge.h"
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

/* Label sets that one call resolves. */
enum { SETS_PER_CALL = 10000 };

static const mdl_label_limits limits = {
    .max_labels = 500,
    .max_name_bytes = 1024,
    .max_value_bytes = 64 << 10,
    .max_set_bytes = 256 << 10,
};

/* ---- the table of sets -------------------------------------------------------------------- */

typedef struct set_entry {
    ps_str json;
    uint32 set;
    uint32 hash;
    char status;
} set_entry;

#define SH_PREFIX set_table
#define SH_ELEMENT_TYPE set_entry
#define SH_KEY_TYPE ps_str
#define SH_KEY json
#define SH_HASH_KEY(table, key) ((uint32)ps_hash64(key, *(const uint64 *)(table)->private_data))
#define SH_EQUAL(table, a, b) ps_str_eq(a, b)
#define SH_STORE_HASH
#define SH_GET_HASH(table, entry) ((entry)->hash)
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include <lib/simplehash.h> /* of PostgreSQL */

/* ---- jsonb to labels ---------------------------------------------------------------------- */

static const char label_hint[] = "Labels are an object of strings, as in '{\"node\": \"brain\"}'.";

static void
refuse_value(const JsonbValue *name, const JsonbValue *value)
{
    static const char *const types[] = {
        [jbvNumeric] = "a number", [jbvBool] = "true or false", [jbvBinary] = "an array or object"};
    const char *type = (size_t)value->type < lengthof(types) ? types[value->type] : "not a string";

    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                    errmsg("the value of label \"%.*s\" is %s",
                           pg_mbcliplen(name->val.string.val, name->val.string.len, 64),
                           name->val.string.val, type != NULL ? type : "not a string"),
                    errhint("%s", label_hint)));
}

/* The labels that stand in the object, in its order; absent ones (null) left out. Borrows. There is
 * room for one more. */
static mdl_label *
labels_in(Jsonb *json, size_t *ret_n)
{
    JsonbValue name, value;
    size_t n = 0;

    if (!JB_ROOT_IS_OBJECT(json))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("labels must be a json object"), errhint("%s", label_hint)));
    mdl_label *labels = palloc((JB_ROOT_COUNT(json) + 1) * sizeof(mdl_label));
    JsonbIterator *it = JsonbIteratorInit(&json->root);
    for (JsonbIteratorToken token; (token = JsonbIteratorNext(&it, &name, true)) != WJB_DONE;) {
        if (token != WJB_KEY)
            continue;
        (void)JsonbIteratorNext(&it, &value, true);
        if (value.type == jbvNull)
            continue;
        if (value.type != jbvString)
            refuse_value(&name, &value);
        labels[n++] = (mdl_label){{name.val.string.val, name.val.string.len},
                                  {value.val.string.val, value.val.string.len}};
    }
    *ret_n = n;
    return labels;
}

/* The canonical labels of a series of this metric; of any metric if metric.ptr is NULL. */
static mdl_label *
labels_of(Jsonb *json, ps_str metric, size_t *ret_n)
{
    size_t n;
    mdl_label *labels = labels_in(json, &n);
    bool named = false;
    ps_err err;

    for (size_t i = 0; i < n && metric.ptr != NULL; i++) {
        if (!ps_str_eq(labels[i].name, PS_STR(MDL_METRIC_NAME)) || labels[i].value.len == 0)
            continue;
        named = true;
        if (!ps_str_eq(labels[i].value, metric))
            ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                            errmsg("the labels are of another metric, \"%.*s\"",
                                   pg_mbcliplen(labels[i].value.ptr, (int)labels[i].value.len, 64),
                                   labels[i].value.ptr),
                            errhint("Leave __name__ out: labels - '__name__'.")));
    }
    if (metric.ptr != NULL && !named)
        labels[n++] = (mdl_label){PS_STR(MDL_METRIC_NAME), metric};
    ps_status status = mdl_labels_canonical(labels, n, &limits, &n, &err);
    if (status != PS_OK)
        bridge_raise(status, &err, NULL, status == PS_EINVAL ? label_hint : NULL);
    *ret_n = n;
    return labels;
}

/* ---- the sets of a statement -------------------------------------------------------------- */

void
write_need_metric_name(write_stmt *s)
{
    static catalog_stmt stmt = {
        .sql = "SELECT metric_name FROM _prom_catalog.metric WHERE id OPERATOR(pg_catalog.=) $1",
        .n_args = 1,
        .args = {INT4OID},
    };
    Datum values[] = {Int32GetDatum(s->metric_id)};

    if (s->metric_name.ptr != NULL)
        return;
    SPI_connect();
    if (catalog_run(&stmt, values, false) != 1)
        ereport(ERROR,
                (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("there is no metric %d", s->metric_id),
                 errhint("The metric of this view may have been dropped.")));
    ps_str name = catalog_str(catalog_value(0, 1));
    char *copy = MemoryContextAlloc(s->context, name.len + 1);
    memcpy(copy, name.ptr, name.len);
    s->metric_name = (ps_str){copy, name.len};
    SPI_finish();
}

static void
begin_sets(write_stmt *s)
{
    s->set_context =
        AllocSetContextCreate(s->context, "promscale label sets", ALLOCSET_DEFAULT_SIZES);
    s->set_table = set_table_create(s->set_context, 64, &s->seed);
    s->cap_sets = 64;
    s->sets = MemoryContextAlloc(s->set_context, s->cap_sets * sizeof(write_set));
}

void
write_forget_sets(write_stmt *s)
{
    if (s->set_context != NULL)
        MemoryContextDelete(s->set_context);
    s->set_context = NULL;
    s->set_table = NULL;
    s->sets = NULL;
    s->n_sets = s->cap_sets = s->n_resolved = s->set_bytes = 0;
    s->last_json = (ps_str){NULL, 0};
}

/* A set that is not in the table yet. Its labels borrow from the copy of the jsonb that is the key. */
static uint32
add_set(write_stmt *s, Datum json)
{
    write_need_metric_name(s);
    if (s->set_bytes > write_memory_bytes() / 2) {
        write_flush(s);
        write_forget_sets(s);
    }
    if (s->set_context == NULL)
        begin_sets(s);
    MemoryContext old = MemoryContextSwitchTo(s->set_context);
    Jsonb *copy = DatumGetJsonbPCopy(json);
    write_set set = {0};
    set.labels = labels_of(copy, s->metric_name, &set.n_labels);
    if (s->n_sets == s->cap_sets) {
        s->cap_sets *= 2;
        s->sets = repalloc_huge(s->sets, s->cap_sets * sizeof(write_set));
    }
    bool found;
    ps_str key = {VARDATA(copy), VARSIZE(copy) - VARHDRSZ};
    set_table_insert(s->set_table, key, &found)->set = (uint32)s->n_sets;
    s->sets[s->n_sets] = set;
    s->set_bytes += VARSIZE(copy) + sizeof(write_set) + 2 * sizeof(set_entry) +
                    set.n_labels * sizeof(mdl_label);
    s->last_json = key;
    MemoryContextSwitchTo(old);
    return (uint32)s->n_sets++;
}

uint32
write_set_of(write_stmt *s, Datum json)
{
    struct varlena *packed = PG_DETOAST_DATUM_PACKED(json);
    const ps_str bytes = {VARDATA_ANY(packed), VARSIZE_ANY_EXHDR(packed)};

    if (s->last_json.ptr != NULL && ps_str_eq(s->last_json, bytes))
        return s->last_set;
    set_entry *known = s->set_table != NULL ? set_table_lookup(s->set_table, bytes) : NULL;
    if (known != NULL) {
        s->last_json = known->json;
        s->last_set = known->set;
    } else {
        s->last_set = add_set(s, PointerGetDatum(packed));
    }
    return s->last_set;
}

/* ---- to ids ------------------------------------------------------------------------------- */

typedef struct pair_entry { /* of a hash: which pair has this digest */
    ps_digest digest;
    int32 ref; /* 1-based, as resolve_series counts */
} pair_entry;

/* The arguments of one call. */
typedef struct batch {
    HTAB *pairs;
    Datum *keys, *values;
    int n_pairs, cap_pairs;
    int32 *counts, *refs;
    int n_refs;
    ps_buf scratch;
} batch;

static Datum
text_of(ps_str s)
{
    return PointerGetDatum(cstring_to_text_with_len(s.ptr, (int)s.len));
}

/* The digest is verified against the text when the pairs are stored, as resolve.h tells. */
static int32
ref_of(batch *b, const mdl_label *label)
{
    ps_digest digest;
    bool found;

    bridge_check(mdl_label_digest(label->name, label->value, &b->scratch, &digest), NULL);
    pair_entry *entry = hash_search(b->pairs, &digest, HASH_ENTER, &found);
    if (found) {
        if (!ps_str_eq(catalog_str(b->keys[entry->ref - 1]), label->name) ||
            !ps_str_eq(catalog_str(b->values[entry->ref - 1]), label->value))
            ereport(ERROR,
                    (errcode(ERRCODE_INTERNAL_ERROR), errmsg("two labels have the same digest")));
        return entry->ref;
    }
    if (b->n_pairs == b->cap_pairs) {
        b->cap_pairs *= 2;
        b->keys = repalloc_huge(b->keys, b->cap_pairs * sizeof(Datum));
        b->values = repalloc_huge(b->values, b->cap_pairs * sizeof(Datum));
    }
    b->keys[b->n_pairs] = text_of(label->name);
    b->values[b->n_pairs] = text_of(label->value);
    return entry->ref = ++b->n_pairs;
}

static void
fill(batch *b, const write_set *sets, int n, bridge_alloc *alloc)
{
    HASHCTL control = {.keysize = sizeof(ps_digest),
                       .entrysize = sizeof(pair_entry),
                       .hcxt = CurrentMemoryContext};
    size_t n_refs = 0;

    for (int i = 0; i < n; i++)
        n_refs += sets[i].n_labels;
    *b = (batch){.cap_pairs = 64};
    b->pairs = hash_create("promscale pairs", 256, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
    b->keys = palloc(b->cap_pairs * sizeof(Datum));
    b->values = palloc(b->cap_pairs * sizeof(Datum));
    b->counts = palloc(n * sizeof(int32));
    b->refs = palloc_extended(n_refs * sizeof(int32), MCXT_ALLOC_HUGE);
    ps_buf_init(&b->scratch, &alloc->alloc);
    for (int i = 0; i < n; i++) {
        b->counts[i] = (int32)sets[i].n_labels;
        for (size_t k = 0; k < sets[i].n_labels; k++)
            b->refs[b->n_refs++] = ref_of(b, &sets[i].labels[k]);
        CHECK_FOR_INTERRUPTS();
    }
    ps_buf_done(&b->scratch);
}

static Datum
text_array(Datum *items, int n)
{
    return PointerGetDatum(construct_array(items, n, TEXTOID, -1, false, TYPALIGN_INT));
}

/* Ids of n sets of one metric, by one call of the function that everybody uses. */
static void
resolve_some(ps_str metric, write_set *sets, int n)
{
    static catalog_stmt stmt = {
        .sql = "SELECT r.series_ids FROM _prom_catalog.resolve_series(0, $1, $2, $3, $4, $5, $6) r",
        .n_args = 6,
        .args = {TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, INT4ARRAYOID, INT4ARRAYOID,
                 INT4ARRAYOID},
    };
    MemoryContext context =
        AllocSetContextCreate(CurrentMemoryContext, "promscale resolve", ALLOCSET_DEFAULT_SIZES);
    MemoryContext old = MemoryContextSwitchTo(context);
    bridge_alloc alloc;
    batch b;

    bridge_alloc_init(&alloc, context, 0);
    fill(&b, sets, n, &alloc);
    int32 *ones = palloc(n * sizeof(int32));
    for (int i = 0; i < n; i++)
        ones[i] = 1;
    Datum name = text_of(metric);
    Datum values[] = {
        text_array(&name, 1),
        text_array(b.keys, b.n_pairs),
        text_array(b.values, b.n_pairs),
        PointerGetDatum(catalog_make_int4_array(ones, n)),
        PointerGetDatum(catalog_make_int4_array(b.counts, n)),
        PointerGetDatum(catalog_make_int4_array(b.refs, b.n_refs)),
    };
    if (catalog_run(&stmt, values, false) != 1)
        elog(ERROR, "resolve_series() gave no row");
    ArrayType *ids = DatumGetArrayTypeP(catalog_value(0, 1));
    if (ArrayGetNItems(ARR_NDIM(ids), ARR_DIMS(ids)) != n || ARR_HASNULL(ids))
        elog(ERROR, "resolve_series() gave another number of series");
    const int64 *items = (const int64 *)ARR_DATA_PTR(ids);
    for (int i = 0; i < n; i++)
        sets[i].id = items[i];
    SPI_freetuptable(SPI_tuptable);
    MemoryContextSwitchTo(old);
    MemoryContextDelete(context);
}

void
write_resolve_sets(write_stmt *s)
{
    while (s->n_resolved < s->n_sets) {
        const size_t n = Min(s->n_sets - s->n_resolved, SETS_PER_CALL);
        write_set *sets = s->sets + s->n_resolved;

        resolve_some(s->metric_name, sets, (int)n);
        for (size_t i = 0; i < n; i++) {
            pfree(sets[i].labels);
            sets[i].labels = NULL;
        }
        s->n_resolved += n;
    }
}

/* (label jsonb). __name__ must be in it. */
PG_FUNCTION_INFO_V1(write_series_id);
Datum
write_series_id(PG_FUNCTION_ARGS)
{
    Jsonb *json = PG_GETARG_JSONB_P(0);
    write_set set = {0};

    set.labels = labels_of(json, (ps_str){NULL, 0}, &set.n_labels);
    const mdl_labels labels = {set.labels, set.n_labels};
    SPI_connect();
    resolve_some(mdl_labels_get(labels, PS_STR(MDL_METRIC_NAME)), &set, 1);
    SPI_finish();
    PG_RETURN_INT64(set.id);
}
