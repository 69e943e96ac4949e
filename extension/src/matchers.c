/*
 * matchers.c - labels ? ('key' == 'value') and its three sisters, labels @> json, eq(labels, json).
 *
 * All ask whether a series' label ids are among the ids that some text stands for. One pair may have
 * several ids, one a tenant; a series' labels are all of one tenant, so any of them will do.
 *
 * Matchers are resolved when execution starts, never in planning: a prepared statement must find labels
 * that came later. A call site looks its argument up once and remembers the ids for as long as
 * argument, snapshot and user stay the same.
 *
 * A key that is absent from the series, or a key or value that no series has, leaves == and ==~ false,
 * !== and !=~ true: negation of the whole, not of each label.
 */
#include "catalog.h"
#include "matchers.h"

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

typedef struct id_set { /* sorted, unique */
    int32 *ids;
    int n;
} id_set;

/* ---- look-up ------------------------------------------------------------------------------ */

static void
collect(id_set *set)
{
    uint64 n = SPI_processed;

    set->ids = MemoryContextAllocHuge(CurrentMemoryContext, Max(n, 1) * sizeof(int32));
    set->n = (int)n;
    for (uint64 i = 0; i < n; i++)
        set->ids[i] = DatumGetInt32(catalog_value(i, 1));
}

static Datum
digest_datum(Datum text_datum)
{
    ps_digest digest = ps_digest_of(catalog_str(text_datum));
    pg_uuid_t *uuid = palloc(sizeof *uuid);

    *uuid = catalog_uuid(&digest);
    return UUIDPGetDatum(uuid);
}

/* Ids of key = value; the set is made in result_context. */
static void
look_up_pair(Datum key, Datum value, MemoryContext result_context, id_set *ret)
{
    static catalog_stmt stmt = {
        .sql = "SELECT l.id FROM _prom_catalog.label_key k"
               " JOIN _prom_catalog.label l ON l.key_id OPERATOR(pg_catalog.=) k.id"
               " WHERE k.digest OPERATOR(pg_catalog.=) $1 AND k.key OPERATOR(pg_catalog.=) $2"
               " AND l.digest OPERATOR(pg_catalog.=) $3 AND l.value OPERATOR(pg_catalog.=) $4"
               " ORDER BY l.id",
        .n_args = 4,
        .args = {UUIDOID, TEXTOID, UUIDOID, TEXTOID},
    };
    Datum values[4] = {digest_datum(key), key, digest_datum(value), value};

    SPI_connect();
    catalog_run(&stmt, values, true);
    MemoryContext spi = MemoryContextSwitchTo(result_context);
    collect(ret);
    MemoryContextSwitchTo(spi);
    SPI_finish();
}

/* Ids of key ~ pattern: PostgreSQL's own regular expressions, not anchored. */
static void
look_up_regex(Datum key, Datum pattern, MemoryContext result_context, id_set *ret)
{
    static catalog_stmt stmt = {
        .sql = "SELECT l.id FROM _prom_catalog.label_key k"
               " JOIN _prom_catalog.label l ON l.key_id OPERATOR(pg_catalog.=) k.id"
               " WHERE k.digest OPERATOR(pg_catalog.=) $1 AND k.key OPERATOR(pg_catalog.=) $2"
               " AND l.value OPERATOR(pg_catalog.~) $3 ORDER BY l.id",
        .n_args = 3,
        .args = {UUIDOID, TEXTOID, TEXTOID},
    };
    Datum values[3] = {digest_datum(key), key, pattern};

    /* A bad pattern is an error (2201B) even if no label is there to try it on. */
    DirectFunctionCall2Coll(textregexeq, C_COLLATION_OID, CStringGetTextDatum(""), pattern);
    SPI_connect();
    catalog_run(&stmt, values, true);
    MemoryContext spi = MemoryContextSwitchTo(result_context);
    collect(ret);
    MemoryContextSwitchTo(spi);
    SPI_finish();
}

static bool
set_has(const id_set *set, int32 id)
{
    int lo = 0, hi = set->n;

    while (lo < hi) {
        int mid = lo + (hi - lo) / 2;
        if (set->ids[mid] < id)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < set->n && set->ids[lo] == id;
}

static bool
set_meets(const id_set *set, const int32 *labels, int n)
{
    if (set->n == 0)
        return false;
    for (int i = 0; i < n; i++) {
        if (set_has(set, labels[i]))
            return true;
    }
    return false;
}

/* ---- what an argument stands for ------------------------------------------------------------ */

/* One set for a matcher, one a pair for a json object. */
typedef struct matcher {
    MemoryContext context; /* what follows, except stamp; child of the call site's context */
    catalog_stamp stamp;
    struct varlena *argument; /* a copy, to see whether it is still the same; NULL: nothing known */
    id_set *sets;
    int n_sets;
} matcher;

typedef void (*matcher_fill)(matcher *m, Datum argument);

static const matcher *
matcher_of(FmgrInfo *flinfo, Datum argument_datum, matcher_fill fill)
{
    struct varlena *argument = PG_DETOAST_DATUM_PACKED(argument_datum);
    catalog_stamp now = catalog_stamp_now();
    matcher *m = flinfo->fn_extra;

    if (m == NULL) {
        m = MemoryContextAllocZero(flinfo->fn_mcxt, sizeof *m);
        m->context =
            AllocSetContextCreate(flinfo->fn_mcxt, "promscale matcher", ALLOCSET_SMALL_SIZES);
        flinfo->fn_extra = m;
    }
    if (m->argument != NULL && catalog_stamp_eq(&m->stamp, &now) &&
        VARSIZE_ANY(m->argument) == VARSIZE_ANY(argument) &&
        memcmp(m->argument, argument, VARSIZE_ANY(argument)) == 0)
        return m;

    m->argument = NULL;
    MemoryContextReset(m->context);
    m->stamp = now;
    fill(m, PointerGetDatum(argument));
    struct varlena *copy = MemoryContextAlloc(m->context, VARSIZE_ANY(argument));
    memcpy(copy, argument, VARSIZE_ANY(argument));
    m->argument = copy; /* last: until here an error leaves "nothing known" behind */
    return m;
}

/* The text of a json scalar without quotes, as ->> gives it; containers as they are written. */
static Datum
json_text(const JsonbValue *v)
{
    switch (v->type) {
    case jbvString:
        return PointerGetDatum(cstring_to_text_with_len(v->val.string.val, v->val.string.len));
    case jbvNumeric:
        return CStringGetTextDatum(
            DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(v->val.numeric))));
    case jbvBool:
        return CStringGetTextDatum(v->val.boolean ? "true" : "false");
    case jbvBinary:
        return CStringGetTextDatum(JsonbToCString(NULL, v->val.binary.data, v->val.binary.len));
    default:
        return (Datum)0; /* null */
    }
}

static void
null_matcher(void)
{
    ereport(ERROR, (errcode(ERRCODE_NOT_NULL_VIOLATION),
                    errmsg("key and pattern of a label matcher must not be null")));
}

static Datum
tag_attribute(HeapTupleHeader op, AttrNumber attno)
{
    bool isnull;
    Datum value = GetAttributeByNum(op, attno, &isnull);

    if (isnull)
        null_matcher();
    return value;
}

static Datum
tag_key(HeapTupleHeader op)
{
    return PointerGetDatum(PG_DETOAST_DATUM_PACKED(tag_attribute(op, 1)));
}

static void
fill_equal(matcher *m, Datum argument)
{
    HeapTupleHeader op = DatumGetHeapTupleHeader(argument);
    Jsonb *json = DatumGetJsonbP(tag_attribute(op, 2));
    JsonbValue scalar;
    Datum value;

    if (JB_ROOT_IS_SCALAR(json)) {
        JsonbExtractScalar(&json->root, &scalar);
        value = json_text(&scalar);
    } else {
        value = CStringGetTextDatum(JsonbToCString(NULL, &json->root, VARSIZE(json)));
    }
    if (value == (Datum)0)
        null_matcher();
    m->sets = MemoryContextAlloc(m->context, sizeof(id_set));
    m->n_sets = 1;
    look_up_pair(tag_key(op), value, m->context, &m->sets[0]);
}

static void
fill_regex(matcher *m, Datum argument)
{
    HeapTupleHeader op = DatumGetHeapTupleHeader(argument);
    Datum pattern = PointerGetDatum(PG_DETOAST_DATUM_PACKED(tag_attribute(op, 2)));

    m->sets = MemoryContextAlloc(m->context, sizeof(id_set));
    m->n_sets = 1;
    look_up_regex(tag_key(op), pattern, m->context, &m->sets[0]);
}

/* A set for each pair but __name__, which says nothing about labels. */
static void
fill_json(matcher *m, Datum argument)
{
    Jsonb *json = DatumGetJsonbP(argument);
    JsonbIterator *it;
    JsonbIteratorToken token;
    JsonbValue v;
    Datum key = 0;

    if (!JB_ROOT_IS_OBJECT(json))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("labels can only be compared with a json object")));
    m->sets = MemoryContextAllocZero(m->context, Max(JB_ROOT_COUNT(json), 1) * sizeof(id_set));
    m->n_sets = 0;
    it = JsonbIteratorInit(&json->root);
    while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE) {
        if (token == WJB_KEY) {
            key = json_text(&v);
        } else if (token == WJB_VALUE) {
            Datum value = json_text(&v);
            if (ps_str_eq(catalog_str(key), PS_STR(MDL_METRIC_NAME)))
                continue;
            if (value == (Datum)0) /* a label is never null: the empty set */
                m->n_sets++;
            else
                look_up_pair(key, value, m->context, &m->sets[m->n_sets++]);
        }
    }
}

/* ---- the operators -------------------------------------------------------------------------- */

static Datum
tag_match(FunctionCallInfo fcinfo, matcher_fill fill, bool negative)
{
    if (PG_ARGISNULL(1))
        null_matcher();
    if (PG_ARGISNULL(0))
        PG_RETURN_NULL();
    int n;
    const int32 *labels = catalog_int4_array(PG_GETARG_ARRAYTYPE_P(0), "labels", &n);
    const matcher *m = matcher_of(fcinfo->flinfo, PG_GETARG_DATUM(1), fill);
    PG_RETURN_BOOL(set_meets(&m->sets[0], labels, n) != negative);
}

PG_FUNCTION_INFO_V1(matchers_equal);
Datum
matchers_equal(PG_FUNCTION_ARGS)
{
    return tag_match(fcinfo, fill_equal, false);
}

PG_FUNCTION_INFO_V1(matchers_not_equal);
Datum
matchers_not_equal(PG_FUNCTION_ARGS)
{
    return tag_match(fcinfo, fill_equal, true);
}

PG_FUNCTION_INFO_V1(matchers_regex);
Datum
matchers_regex(PG_FUNCTION_ARGS)
{
    return tag_match(fcinfo, fill_regex, false);
}

PG_FUNCTION_INFO_V1(matchers_not_regex);
Datum
matchers_not_regex(PG_FUNCTION_ARGS)
{
    return tag_match(fcinfo, fill_regex, true);
}

/* labels @> json: every pair is there. */
PG_FUNCTION_INFO_V1(matchers_contains);
Datum
matchers_contains(PG_FUNCTION_ARGS)
{
    int n;
    const int32 *labels = catalog_int4_array(PG_GETARG_ARRAYTYPE_P(0), "labels", &n);
    const matcher *m = matcher_of(fcinfo->flinfo, PG_GETARG_DATUM(1), fill_json);

    for (int i = 0; i < m->n_sets; i++) {
        if (!set_meets(&m->sets[i], labels, n))
            PG_RETURN_BOOL(false);
    }
    PG_RETURN_BOOL(true);
}

/* eq(labels, json): every pair is there and nothing else, __name__ aside. */
PG_FUNCTION_INFO_V1(matchers_eq_json);
Datum
matchers_eq_json(PG_FUNCTION_ARGS)
{
    int n, n_labels = 0;
    const int32 *labels = catalog_int4_array(PG_GETARG_ARRAYTYPE_P(0), "labels", &n);
    const matcher *m = matcher_of(fcinfo->flinfo, PG_GETARG_DATUM(1), fill_json);

    for (int i = 1; i < n; i++)
        n_labels += labels[i] != 0;
    if (n_labels != m->n_sets)
        PG_RETURN_BOOL(false);
    for (int i = 0; i < m->n_sets; i++) {
        if (!set_meets(&m->sets[i], labels, n))
            PG_RETURN_BOOL(false);
    }
    PG_RETURN_BOOL(true);
}

/* ---- the ids as an array: what the index on series.labels is asked (see matchers_index.c) ------ */

static List *
arrays_of(const matcher *m)
{
    List *arrays = NIL;

    for (int i = 0; i < m->n_sets; i++)
        arrays = lappend(arrays, catalog_make_int4_array(m->sets[i].ids, m->sets[i].n));
    return arrays;
}

List *
matchers_ids_of_tag(Datum tag)
{
    matcher m = {.context = CurrentMemoryContext};

    fill_equal(&m, tag);
    return arrays_of(&m);
}

List *
matchers_ids_of_json(Datum json)
{
    matcher m = {.context = CurrentMemoryContext};

    fill_json(&m, json);
    return arrays_of(&m);
}

PG_FUNCTION_INFO_V1(matchers_equal_ids);
Datum
matchers_equal_ids(PG_FUNCTION_ARGS)
{
    if (PG_ARGISNULL(0))
        null_matcher();
    const matcher *m = matcher_of(fcinfo->flinfo, PG_GETARG_DATUM(0), fill_equal);
    PG_RETURN_ARRAYTYPE_P(catalog_make_int4_array(m->sets[0].ids, m->sets[0].n));
}

PG_FUNCTION_INFO_V1(matchers_pair_ids);
Datum
matchers_pair_ids(PG_FUNCTION_ARGS)
{
    id_set set;

    look_up_pair(PointerGetDatum(PG_GETARG_TEXT_PP(0)), PointerGetDatum(PG_GETARG_TEXT_PP(1)),
                 CurrentMemoryContext, &set);
    PG_RETURN_ARRAYTYPE_P(catalog_make_int4_array(set.ids, set.n));
}

/* ---- matcher(json): the ids themselves, for the array operators -------------------------------- */

static int
compare_ids(const void *a, const void *b)
{
    int32 x = *(const int32 *)a, y = *(const int32 *)b;

    return (x > y) - (x < y);
}

/*
 * One id a pair, -1 for a pair that no series has. A flat list cannot say "this id or that one", so a
 * pair that several tenants have is an error rather than an answer that leaves some of them out.
 */
PG_FUNCTION_INFO_V1(matchers_matcher);
Datum
matchers_matcher(PG_FUNCTION_ARGS)
{
    const matcher *m = matcher_of(fcinfo->flinfo, PG_GETARG_DATUM(0), fill_json);
    int32 *ids = palloc_array(int32, Max(m->n_sets, 1));

    for (int i = 0; i < m->n_sets; i++) {
        if (m->sets[i].n > 1)
            ereport(ERROR,
                    (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                     errmsg("a label of this matcher belongs to several tenants"),
                     errhint("Compare with the json object itself: labels @> jsonb '...', or "
                             "eq(labels, jsonb '...').")));
        ids[i] = m->sets[i].n == 1 ? m->sets[i].ids[0] : -1;
    }
    qsort(ids, m->n_sets, sizeof *ids, compare_ids);
    PG_RETURN_ARRAYTYPE_P(catalog_make_int4_array(ids, m->n_sets));
}
