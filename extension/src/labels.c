/*
 * labels.c - what a label array says: val(), jsonb(), labels(), labels_info(), key_value_array(), and
 * label_set(), the form in which two arrays of different metrics can be compared.
 *
 * A series' labels are int4[], positional per metric: element 1 is the id of its __name__ label, 0
 * stands for an absent label. Label ids are the same for all metrics of a tenant.
 */
#include "label_cache.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/jsonb.h"

static text *
copy_of(const text *t)
{
    text *copy = palloc(VARSIZE_ANY(t));

    memcpy(copy, t, VARSIZE_ANY(t));
    return copy;
}

PG_FUNCTION_INFO_V1(labels_val);
Datum
labels_val(PG_FUNCTION_ARGS)
{
    int32 id = PG_GETARG_INT32(0);
    label_cache *cache = label_cache_of(fcinfo->flinfo);

    label_cache_load(cache, &id, 1);
    const label_entry *entry = label_cache_find(cache, id);
    if (entry == NULL)
        PG_RETURN_NULL();
    PG_RETURN_TEXT_P(copy_of(entry->value)); /* the cache may forget it while the caller holds it */
}

static JsonbValue
json_string(const text *t)
{
    return (JsonbValue){
        .type = jbvString,
        .val.string = {.len = VARSIZE_ANY_EXHDR(t), .val = (char *)VARDATA_ANY(t)},
    };
}

/* NULL if no id is known, as for an unknown series. */
PG_FUNCTION_INFO_V1(labels_jsonb);
Datum
labels_jsonb(PG_FUNCTION_ARGS)
{
    int n;
    const int32 *ids = catalog_int4_array(PG_GETARG_ARRAYTYPE_P(0), "labels", &n);
    label_cache *cache = label_cache_of(fcinfo->flinfo);
    JsonbParseState *state = NULL;
    bool any = false;

    label_cache_load(cache, ids, n);
    pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
    for (int i = 0; i < n; i++) {
        const label_entry *entry = label_cache_find(cache, ids[i]);
        if (entry == NULL)
            continue;
        JsonbValue key = json_string(entry->key);
        JsonbValue value = json_string(entry->value);
        pushJsonbValue(&state, WJB_KEY, &key);
        pushJsonbValue(&state, WJB_VALUE, &value);
        any = true;
    }
    JsonbValue *object = pushJsonbValue(&state, WJB_END_OBJECT, NULL);
    if (!any)
        PG_RETURN_NULL();
    PG_RETURN_JSONB_P(JsonbValueToJsonb(object));
}

/* Keys, values and, if with_ids, the ids themselves, of the labels that are known, in array order. */
static Datum
labels_record(FunctionCallInfo fcinfo, bool with_ids)
{
    int n;
    const int32 *ids = catalog_int4_array(PG_GETARG_ARRAYTYPE_P(0), "labels", &n);
    label_cache *cache = label_cache_of(fcinfo->flinfo);
    Datum *known = palloc_array(Datum, Max(n, 1));
    Datum *keys = palloc_array(Datum, Max(n, 1));
    Datum *vals = palloc_array(Datum, Max(n, 1));
    Datum columns[3];
    bool nulls[3] = {false};
    int n_known = 0, c = 0;
    TupleDesc desc;

    if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
        elog(ERROR, "the function must return a record");
    label_cache_load(cache, ids, n);
    for (int i = 0; i < n; i++) {
        const label_entry *entry = label_cache_find(cache, ids[i]);
        if (entry == NULL)
            continue;
        known[n_known] = Int32GetDatum(ids[i]);
        keys[n_known] = PointerGetDatum(entry->key);
        vals[n_known++] = PointerGetDatum(entry->value);
    }
    if (with_ids)
        columns[c++] = PointerGetDatum(
            construct_array(known, n_known, INT4OID, sizeof(int32), true, TYPALIGN_INT));
    columns[c++] =
        PointerGetDatum(construct_array(keys, n_known, TEXTOID, -1, false, TYPALIGN_INT));
    columns[c++] =
        PointerGetDatum(construct_array(vals, n_known, TEXTOID, -1, false, TYPALIGN_INT));
    Assert(desc->natts == c);
    PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), columns, nulls)));
}

PG_FUNCTION_INFO_V1(labels_info);
Datum
labels_info(PG_FUNCTION_ARGS)
{
    return labels_record(fcinfo, true);
}

PG_FUNCTION_INFO_V1(labels_key_value_array);
Datum
labels_key_value_array(PG_FUNCTION_ARGS)
{
    return labels_record(fcinfo, false);
}

PG_FUNCTION_INFO_V1(labels_of_series);
Datum
labels_of_series(PG_FUNCTION_ARGS)
{
    static catalog_stmt stmt = {
        .sql = "SELECT labels FROM _prom_catalog.series WHERE id OPERATOR(pg_catalog.=) $1",
        .n_args = 1,
        .args = {INT8OID},
    };
    MemoryContext caller = CurrentMemoryContext;
    Datum values[1] = {PG_GETARG_DATUM(0)};
    Datum result = 0;

    SPI_connect();
    bool found = catalog_run(&stmt, values, true) > 0;
    if (found) {
        ArrayType *labels = DatumGetArrayTypeP(catalog_value(0, 1));
        MemoryContext old = MemoryContextSwitchTo(caller);
        result = datumCopy(PointerGetDatum(labels), false, -1);
        MemoryContextSwitchTo(old);
    }
    SPI_finish();
    if (!found)
        PG_RETURN_NULL();
    PG_RETURN_DATUM(result);
}

static int
compare_ids(const void *a, const void *b)
{
    int32 x = *(const int32 *)a, y = *(const int32 *)b;

    return (x > y) - (x < y);
}

/*
 * The ids without __name__ (position 1) and without gaps, sorted: equal for two series exactly if
 * they have the same labels, whatever their metrics and positions. eq() compares these by the
 * array's own operator, so that the planner can hash and merge.
 */
PG_FUNCTION_INFO_V1(labels_set);
Datum
labels_set(PG_FUNCTION_ARGS)
{
    int n, n_set = 0;
    const int32 *ids = catalog_int4_array(PG_GETARG_ARRAYTYPE_P(0), "labels", &n);
    int32 *set = palloc_array(int32, Max(n, 1));

    for (int i = 1; i < n; i++) {
        if (ids[i] != 0)
            set[n_set++] = ids[i];
    }
    qsort(set, n_set, sizeof *set, compare_ids);
    PG_RETURN_ARRAYTYPE_P(catalog_make_int4_array(set, n_set));
}
