/* resolve_series.c - the last step: label arrays, series ids, and the feed. See resolve.h. */
#include "resolve.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"

/* Ids in one row of the feed. */
enum { FEED_ROW_IDS = 8192 };
/* Arguments of the statements below: tenant, metrics, digests; and of what makes series: labels, their slices, ids. */
enum { RESOLVE_ARGS = 7 };

/* ---- label arrays --------------------------------------------------------------------------- */

static int32
position_of(const resolve_batch *batch, int32 metric, int32 key)
{
    resolve_position at = {.at = {.metric = metric, .key = key}};
    const resolve_position *p = hash_search(batch->positions, &at.at, HASH_FIND, NULL);

    Assert(p != NULL && p->pos > 0);
    return p->pos;
}

/*
 * All label arrays, in one flat array that statements cut slices from: SQL knows no arrays of arrays
 * of different lengths. A series' array ends at its last label.
 */
static void
build_label_arrays(resolve_batch *batch)
{
    int32 *positions = palloc_array(int32, Max(batch->n_refs, 1));
    int64 total = 0, ref = 0;

    for (int k = 0; k < batch->n_series; k++) {
        resolve_series *s = &batch->series[k];

        s->n_labels = 0;
        for (int i = 0; i < s->n_refs; i++, ref++) {
            positions[ref] = position_of(batch, s->metric, batch->pairs[s->refs[i] - 1].key);
            s->n_labels = Max(s->n_labels, positions[ref]);
        }
        s->first_label = (int32)total;
        total += s->n_labels;
        if (total > (int64)(MaxAllocSize / sizeof(int32)) / 2)
            ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                            errmsg("too many labels in one call of resolve_series()"),
                            errhint("Make the batch smaller.")));
    }
    batch->flat_labels = palloc0_array(int32, Max(total, 1));
    ref = 0;
    for (int k = 0; k < batch->n_series; k++) {
        const resolve_series *s = &batch->series[k];
        int32 *labels = batch->flat_labels + s->first_label;

        for (int i = 0; i < s->n_refs; i++, ref++)
            labels[positions[ref] - 1] = batch->pairs[s->refs[i] - 1].id;
    }
    pfree(positions);
}

/* ---- look-up and insert ---------------------------------------------------------------------- */

static bool
series_missing(const resolve_batch *batch, int i)
{
    return batch->series[i].id == 0;
}

/* In the order of the unique index: neighbours go to the same pages, and all sessions agree. */
static int
compare_series(const void *a, const void *b, void *arg)
{
    const resolve_batch *batch = arg;
    const resolve_series *x = &batch->series[*(const int *)a];
    const resolve_series *y = &batch->series[*(const int *)b];
    int32 x_metric = batch->metrics[x->metric].id, y_metric = batch->metrics[y->metric].id;

    if (x_metric != y_metric)
        return x_metric < y_metric ? -1 : 1;
    return resolve_uuid_cmp(&x->digest, &y->digest);
}

/* Tenant, metric ids, digests. */
static void
series_arguments(const resolve_batch *batch, const int *items, int n, Datum values[RESOLVE_ARGS])
{
    int32 *metrics = palloc_array(int32, n);
    pg_uuid_t *digests = palloc_array(pg_uuid_t, n);

    for (int i = 0; i < n; i++) {
        metrics[i] = batch->metrics[batch->series[items[i]].metric].id;
        digests[i] = batch->series[items[i]].digest;
    }
    values[0] = Int32GetDatum(batch->tenant_id);
    values[1] = PointerGetDatum(catalog_make_int4_array(metrics, n));
    values[2] = PointerGetDatum(resolve_uuid_array(digests, n));
    pfree(metrics);
    pfree(digests);
}

/* A series is the same if its label ids are: these have been verified against the text. */
static bool
same_labels(const resolve_batch *batch, const resolve_series *s, Datum stored)
{
    ArrayType *array = DatumGetArrayTypeP(stored);
    int n = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));

    return n == s->n_labels && !ARR_HASNULL(array) &&
           memcmp(ARR_DATA_PTR(array), batch->flat_labels + s->first_label,
                  (size_t)n * sizeof(int32)) == 0;
}

static void
look_up_series(resolve_batch *batch, const int *items, int n, Datum values[RESOLVE_ARGS])
{
    static catalog_stmt stmt = {
        .sql = "SELECT u.ord::int4, s.id, s.labels"
               " FROM unnest($2, $3) WITH ORDINALITY u(metric_id, digest, ord),"
               " LATERAL (SELECT id, labels FROM _prom_catalog.series"
               "          WHERE metric_id = u.metric_id AND tenant_id = $1 AND digest = u.digest"
               "          OFFSET 0) s",
        .n_args = 3,
        .args = {INT4OID, INT4ARRAYOID, UUIDARRAYOID},
    };
    uint64 found = catalog_run(&stmt, values, false);

    for (uint64 i = 0; i < found; i++) {
        resolve_series *s = &batch->series[items[DatumGetInt32(catalog_value(i, 1)) - 1]];
        if (!same_labels(batch, s, catalog_value(i, 3)))
            resolve_collision("a label set");
        s->id = DatumGetInt64(catalog_value(i, 2));
    }
    SPI_freetuptable(SPI_tuptable);
}

static void
write_feed(const Datum *ids, int n)
{
    static catalog_stmt stmt = {
        .sql = "INSERT INTO _prom_catalog.series_feed (op, first_id, series_ids)"
               " VALUES ('c', $1, $2)",
        .n_args = 2,
        .args = {INT8OID, INT8ARRAYOID},
    };

    for (int at = 0; at < n; at += FEED_ROW_IDS) {
        ArrayType *array = construct_array((Datum *)ids + at, Min(n - at, FEED_ROW_IDS), INT8OID,
                                           sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
        Datum values[2] = {ids[at], PointerGetDatum(array)};
        catalog_run(&stmt, values, false);
    }
}

static int
compare_ids(const void *a, const void *b)
{
    int64 x = DatumGetInt64(*(const Datum *)a), y = DatumGetInt64(*(const Datum *)b);

    return x < y ? -1 : x > y;
}

static int
compare_arrival(const void *a, const void *b, void *items)
{
    int x = ((const int *)items)[*(const int *)a], y = ((const int *)items)[*(const int *)b];

    return x < y ? -1 : x > y;
}

/*
 * New ids, ascending as the series came; the rows themselves go in by digest. Series of one target come together,
 * are scraped at the same times, and blocks hold series by id: neighbours share a time column.
 */
static Datum
take_ids(const int *items, int n)
{
    static catalog_stmt stmt = {
        .sql = "SELECT nextval('_prom_catalog.series_id_seq') FROM generate_series(1, $1)",
        .n_args = 1,
        .args = {INT4OID},
    };
    Datum n_wanted = Int32GetDatum(n);
    int *order = palloc_array(int, n);
    Datum *ids = palloc_array(Datum, n);

    for (int i = 0; i < n; i++)
        order[i] = i;
    qsort_arg(order, n, sizeof *order, compare_arrival, unconstify(int *, items));
    if (catalog_run(&stmt, &n_wanted, false) != (uint64)n)
        elog(ERROR, "there are not as many new ids as wanted");
    for (int i = 0; i < n; i++)
        ids[order[i]] = Int64GetDatum(DatumGetInt64(catalog_value(i, 1)));
    SPI_freetuptable(SPI_tuptable);
    return PointerGetDatum(
        construct_array(ids, n, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

static void
insert_series(resolve_batch *batch, const int *items, int n, Datum values[RESOLVE_ARGS])
{
#define INSERT_SERIES                                                                              \
    "INSERT INTO _prom_catalog.series (id, tenant_id, metric_id, labels, digest)"                  \
    " SELECT id, $1, metric_id, ($4)[first:last], digest"                                          \
    " FROM unnest($2, $3, $5, $6, $7) u(metric_id, digest, first, last, id)"
#define RETURNING_SERIES " RETURNING id, metric_id, digest"
    static catalog_stmt plain = {
        .sql = INSERT_SERIES RETURNING_SERIES,
        .n_args = RESOLVE_ARGS,
        .args = {INT4OID, INT4ARRAYOID, UUIDARRAYOID, INT4ARRAYOID, INT4ARRAYOID, INT4ARRAYOID,
                 INT8ARRAYOID},
    };
    static catalog_stmt careful = {
        .sql = INSERT_SERIES " ON CONFLICT DO NOTHING" RETURNING_SERIES,
        .n_args = RESOLVE_ARGS,
        .args = {INT4OID, INT4ARRAYOID, UUIDARRAYOID, INT4ARRAYOID, INT4ARRAYOID, INT4ARRAYOID,
                 INT8ARRAYOID},
    };
    int32 *first = palloc_array(int32, n);
    int32 *last = palloc_array(int32, n);
    int at = 0;

    const resolve_series *end = &batch->series[batch->n_series - 1];
    for (int i = 0; i < n; i++) {
        const resolve_series *s = &batch->series[items[i]];
        first[i] = s->first_label + 1;
        last[i] = s->first_label + s->n_labels;
    }
    values[3] = PointerGetDatum(
        catalog_make_int4_array(batch->flat_labels, end->first_label + end->n_labels));
    values[4] = PointerGetDatum(catalog_make_int4_array(first, n));
    values[5] = PointerGetDatum(catalog_make_int4_array(last, n));
    values[6] = take_ids(items, n);

    /* New rows come back in the order of the items; some items may be passed over. */
    uint64 made = resolve_insert(&plain, &careful, values);
    Datum *ids = palloc_array(Datum, Max(made, 1));
    for (uint64 i = 0; i < made; i++) {
        int32 metric_id = DatumGetInt32(catalog_value(i, 2));
        const pg_uuid_t *digest = DatumGetUUIDP(catalog_value(i, 3));

        while (at < n && (batch->metrics[batch->series[items[at]].metric].id != metric_id ||
                          resolve_uuid_cmp(&batch->series[items[at]].digest, digest) != 0))
            at++;
        if (at == n)
            elog(ERROR, "series were not inserted in the order given");
        ids[i] = catalog_value(i, 1);
        batch->series[items[at++]].id = DatumGetInt64(ids[i]);
    }
    SPI_freetuptable(SPI_tuptable);
    qsort(ids, made, sizeof *ids, compare_ids);
    write_feed(ids, (int)made);
}

/* Does it for the series whose ids are not known yet, as for_missing_labels; false if there are none. */
static bool
for_missing_series(resolve_batch *batch,
                   void (*step)(resolve_batch *, const int *, int, Datum values[RESOLVE_ARGS]), bool each_once)
{
    Datum values[RESOLVE_ARGS];
    int n;
    int *items = resolve_missing(batch, batch->n_series, series_missing, &n);

    if (n > 0) {
        CHECK_FOR_INTERRUPTS();
        qsort_arg(items, n, sizeof *items, compare_series, batch);
        if (each_once)
            n = resolve_unique(items, n, compare_series, batch);
        series_arguments(batch, items, n, values);
        step(batch, items, n, values);
    }
    pfree(items);
    return n > 0;
}

static void
no_step(resolve_batch *batch, const int *items, int n, Datum values[RESOLVE_ARGS])
{
}

void
resolve_series_ids(resolve_batch *batch)
{
    build_label_arrays(batch);
    if (for_missing_series(batch, look_up_series, false) &&
        for_missing_series(batch, insert_series, true) &&
        for_missing_series(batch, look_up_series, false) &&
        for_missing_series(batch, no_step, false))
        resolve_give_way("series");
}
