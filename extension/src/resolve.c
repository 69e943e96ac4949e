/* resolve.c - see resolve.h. Arguments, checks, and the order of the steps. */
#include "resolve.h"

#include "access/xact.h"
#include "bridge.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/resowner.h"

#define BAD_ARGUMENT(...)                                                                          \
    ereport(ERROR,                                                                                 \
            (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg(__VA_ARGS__),                        \
             errhint("Series k has p_series_n_labels[k] labels: 1-based indices of pairs in "      \
                     "p_keys and p_values, sorted by key, __name__ among them with the name of "   \
                     "metric p_series_metric[k].")))

/* ---- tools ------------------------------------------------------------------------------- */

int *
resolve_missing(const resolve_batch *batch, int n, resolve_missing_fn missing, int *ret_n)
{
    int *items = palloc_array(int, Max(n, 1));
    int n_missing = 0;

    for (int i = 0; i < n; i++) {
        if (missing(batch, i))
            items[n_missing++] = i;
    }
    *ret_n = n_missing;
    return items;
}

int
resolve_unique(int *items, int n, qsort_arg_comparator compare, resolve_batch *batch)
{
    int kept = 0;

    for (int i = 0; i < n; i++) {
        if (kept == 0 || compare(&items[kept - 1], &items[i], batch) != 0)
            items[kept++] = items[i];
    }
    return kept;
}

void
resolve_collision(const char *what)
{
    ereport(ERROR, (errcode(ERRCODE_UNIQUE_VIOLATION),
                    errmsg("%s has the digest of another one that is already stored", what)));
    pg_unreachable();
}

void
resolve_give_way(const char *what)
{
    ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
                    errmsg("could not make %s because of concurrent changes", what),
                    errhint("Repeat the transaction.")));
    pg_unreachable();
}

uint64
resolve_insert(catalog_stmt *plain, catalog_stmt *careful, Datum *values)
{
    MemoryContext context = CurrentMemoryContext;
    ResourceOwner owner = CurrentResourceOwner;
    volatile uint64 n = 0;
    volatile bool conflict = false;

    BeginInternalSubTransaction(NULL);
    MemoryContextSwitchTo(context);
    PG_TRY();
    {
        n = catalog_run(plain, values, false);
        ReleaseCurrentSubTransaction();
    }
    PG_CATCH();
    {
        MemoryContextSwitchTo(context);
        ErrorData *error = CopyErrorData();
        FlushErrorState();
        RollbackAndReleaseCurrentSubTransaction();
        MemoryContextSwitchTo(context);
        CurrentResourceOwner = owner;
        if (error->sqlerrcode != ERRCODE_UNIQUE_VIOLATION)
            ReThrowError(error);
        FreeErrorData(error);
        conflict = true;
    }
    PG_END_TRY();
    MemoryContextSwitchTo(context);
    CurrentResourceOwner = owner;
    return conflict ? catalog_run(careful, values, false) : n;
}

ArrayType *
resolve_uuid_array(const pg_uuid_t *items, int n)
{
    Datum *datums = palloc_array(Datum, Max(n, 1));

    for (int i = 0; i < n; i++)
        datums[i] = UUIDPGetDatum(&items[i]);
    return construct_array(datums, n, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR);
}

/* ---- arguments --------------------------------------------------------------------------- */

typedef struct name_slot { /* hash entry: which key has this digest */
    pg_uuid_t digest;
    int32 index;
} name_slot;

static pg_uuid_t
digest_of(Datum text_datum)
{
    ps_digest digest = ps_digest_of(catalog_str(text_datum));

    return catalog_uuid(&digest);
}

static HTAB *
name_table(void)
{
    HASHCTL control = {.keysize = UUID_LEN,
                       .entrysize = sizeof(name_slot),
                       .hcxt = CurrentMemoryContext};

    return hash_create("promscale names", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/*
 * The index in `names` of this text, which becomes names[n] if it is not there yet. The digest of one
 * text with the letters of another is an error.
 */
static int32
intern(HTAB *slots, resolve_name *names, int32 n, Datum text_datum, const char *what)
{
    pg_uuid_t digest = digest_of(text_datum);
    bool exists;
    name_slot *slot = hash_search(slots, &digest, HASH_ENTER, &exists);

    if (!exists) {
        slot->index = n;
        names[n] = (resolve_name){.text = text_datum, .digest = digest};
    } else if (!ps_str_eq(catalog_str(names[slot->index].text), catalog_str(text_datum))) {
        resolve_collision(what);
    }
    return slot->index;
}

/* A name that stands twice is kept once; given_metrics leads from the arguments to what is kept. */
static void
read_metrics(resolve_batch *batch, ArrayType *names)
{
    Datum *texts = catalog_text_array(names, "p_metrics", &batch->n_given_metrics);
    HTAB *slots = name_table();

    batch->given_metrics = palloc_array(int32, Max(batch->n_given_metrics, 1));
    batch->metrics = palloc0_array(resolve_name, Max(batch->n_given_metrics, 1));
    for (int i = 0; i < batch->n_given_metrics; i++) {
        if (catalog_str(texts[i]).len == 0)
            BAD_ARGUMENT("p_metrics[%d] is empty", i + 1);
        batch->given_metrics[i] =
            intern(slots, batch->metrics, batch->n_metrics, texts[i], "a metric name");
        batch->n_metrics = Max(batch->n_metrics, batch->given_metrics[i] + 1);
    }
}

/* The pairs, and the distinct keys among them. */
static void
read_pairs(resolve_batch *batch, ArrayType *keys, ArrayType *values)
{
    int n_keys, n_values;
    Datum *key_texts = catalog_text_array(keys, "p_keys", &n_keys);
    Datum *value_texts = catalog_text_array(values, "p_values", &n_values);

    if (n_keys != n_values)
        BAD_ARGUMENT("there are %d keys but %d values", n_keys, n_values);
    HTAB *slots = name_table();
    batch->n_pairs = n_keys;
    batch->pairs = palloc0_array(resolve_pair, Max(n_keys, 1));
    batch->keys = palloc0_array(resolve_name, Max(n_keys, 1));
    for (int i = 0; i < n_keys; i++) {
        if (catalog_str(key_texts[i]).len == 0 || catalog_str(value_texts[i]).len == 0)
            BAD_ARGUMENT("pair %d has an empty key or value", i + 1);
        int32 key = intern(slots, batch->keys, batch->n_keys, key_texts[i], "a label name");
        batch->n_keys = Max(batch->n_keys, key + 1);
        batch->pairs[i] = (resolve_pair){.key = key,
                                         .value = value_texts[i],
                                         .digest = digest_of(value_texts[i])};
    }
}

/* Checks one series' labels, and makes its digest. labels is scratch of at least n_refs items. */
static void
read_one(resolve_batch *batch, int k, mdl_label *labels, ps_buf *scratch)
{
    resolve_series *s = &batch->series[k];
    bool named = false;
    ps_digest digest;

    for (int i = 0; i < s->n_refs; i++) {
        if (s->refs[i] < 1 || s->refs[i] > batch->n_pairs)
            BAD_ARGUMENT("series %d refers to pair %d of %d", k + 1, s->refs[i], batch->n_pairs);
        const resolve_pair *pair = &batch->pairs[s->refs[i] - 1];
        labels[i] = (mdl_label){catalog_str(batch->keys[pair->key].text), catalog_str(pair->value)};
        if (i > 0 && ps_str_cmp(labels[i - 1].name, labels[i].name) >= 0)
            BAD_ARGUMENT("the labels of series %d are not sorted by key, or a key stands twice",
                         k + 1);
        if (ps_str_eq(labels[i].name, PS_STR(MDL_METRIC_NAME)))
            named = ps_str_eq(labels[i].value, catalog_str(batch->metrics[s->metric].text));
    }
    if (!named)
        BAD_ARGUMENT("series %d lacks a __name__ that equals its metric", k + 1);
    bridge_check(mdl_labels_digest((mdl_labels){labels, s->n_refs}, scratch, &digest), NULL);
    s->digest = catalog_uuid(&digest);
}

static void
read_series(resolve_batch *batch, ArrayType *metric_array, ArrayType *count_array,
            ArrayType *ref_array)
{
    int n_counts, n_refs, max_refs = 1;
    const int32 *metrics = catalog_int4_array(metric_array, "p_series_metric", &batch->n_series);
    const int32 *counts = catalog_int4_array(count_array, "p_series_n_labels", &n_counts);
    const int32 *refs = catalog_int4_array(ref_array, "p_series_labels", &n_refs);
    bridge_alloc alloc;
    ps_buf scratch;

    if (n_counts != batch->n_series)
        BAD_ARGUMENT("there are %d series but %d label counts", batch->n_series, n_counts);
    batch->series = palloc0_array(resolve_series, Max(batch->n_series, 1));
    for (int k = 0; k < batch->n_series; k++) {
        if (metrics[k] < 1 || metrics[k] > batch->n_given_metrics)
            BAD_ARGUMENT("series %d refers to metric %d of %d", k + 1, metrics[k],
                         batch->n_given_metrics);
        if (counts[k] < 1 || counts[k] > n_refs - batch->n_refs)
            BAD_ARGUMENT("p_series_labels is too short for the %d labels of series %d", counts[k],
                         k + 1);
        batch->series[k] = (resolve_series){
            .metric = batch->given_metrics[metrics[k] - 1],
            .n_refs = counts[k],
            .refs = refs + batch->n_refs,
        };
        batch->n_refs += counts[k];
        max_refs = Max(max_refs, counts[k]);
    }
    if (batch->n_refs != n_refs)
        BAD_ARGUMENT("p_series_labels has %d entries, the series have " INT64_FORMAT " labels",
                     n_refs, batch->n_refs);

    mdl_label *labels = palloc_array(mdl_label, max_refs);
    bridge_alloc_init(&alloc, CurrentMemoryContext, 0);
    ps_buf_init(&scratch, &alloc.alloc);
    for (int k = 0; k < batch->n_series; k++) {
        CHECK_FOR_INTERRUPTS();
        read_one(batch, k, labels, &scratch);
    }
    ps_buf_done(&scratch);
    pfree(labels);
}

/* ---- the function ------------------------------------------------------------------------ */

static Datum
make_result(FunctionCallInfo fcinfo, const resolve_batch *batch, int64 generation)
{
    Datum *metric_ids = palloc_array(Datum, Max(batch->n_given_metrics, 1));
    Datum *series_ids = palloc_array(Datum, Max(batch->n_series, 1));
    bool nulls[3] = {false};
    TupleDesc desc;

    if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE || desc->natts != 3)
        elog(ERROR, "resolve_series must return a record of three columns");
    for (int i = 0; i < batch->n_given_metrics; i++)
        metric_ids[i] = Int32GetDatum(batch->metrics[batch->given_metrics[i]].id);
    for (int i = 0; i < batch->n_series; i++)
        series_ids[i] = Int64GetDatum(batch->series[i].id);
    Datum columns[3] = {
        Int64GetDatum(generation),
        PointerGetDatum(construct_array(metric_ids, batch->n_given_metrics, INT4OID, sizeof(int32),
                                        true, TYPALIGN_INT)),
        PointerGetDatum(construct_array(series_ids, batch->n_series, INT8OID, sizeof(int64),
                                        FLOAT8PASSBYVAL, TYPALIGN_DOUBLE)),
    };
    return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), columns, nulls));
}

/*
 * (p_tenant_id, p_metrics, p_keys, p_values, p_series_metric, p_series_n_labels, p_series_labels)
 * Strict. Declared with SET search_path and the planner settings that the statements rely on.
 */
PG_FUNCTION_INFO_V1(resolve_series_sql);
Datum
resolve_series_sql(PG_FUNCTION_ARGS)
{
    resolve_batch batch = {.tenant_id = PG_GETARG_INT32(0)};
    MemoryContext caller = CurrentMemoryContext;

    catalog_need_read_committed("resolve_series()");
    read_metrics(&batch, PG_GETARG_ARRAYTYPE_P(1));
    read_pairs(&batch, PG_GETARG_ARRAYTYPE_P(2), PG_GETARG_ARRAYTYPE_P(3));
    read_series(&batch, PG_GETARG_ARRAYTYPE_P(4), PG_GETARG_ARRAYTYPE_P(5),
                PG_GETARG_ARRAYTYPE_P(6));

    catalog_lock_guard_shared();
    SPI_connect();
    int64 generation = catalog_generation(false);
    resolve_metrics(&batch);
    resolve_keys(&batch);
    resolve_labels(&batch);
    resolve_positions(&batch);
    resolve_series_ids(&batch);
    MemoryContext spi = MemoryContextSwitchTo(caller);
    Datum result = make_result(fcinfo, &batch, generation);
    MemoryContextSwitchTo(spi);
    SPI_finish();
    PG_RETURN_DATUM(result);
}
