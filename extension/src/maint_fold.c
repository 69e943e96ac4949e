/*
 * maint_fold.c - one step of fresh -> merged.
 *
 * The oldest fresh rows, by id and up to a number of bytes, are deleted and thereby read. They are
 * handled bucket by bucket (packed rows hold all small metrics of a bucket, so a bucket is what can
 * be merged without looking elsewhere), in groups; each group reads the heads of the merged rows
 * concerned, takes some of them along and writes COLUMNS blocks to merged.
 *
 * A row that cannot be read (damaged, of a kind that this version does not know) goes back to fresh
 * under its old id and is remembered, so that it neither gets lost nor stops the others.
 *
 * Memory: the deleted rows live to the end of the step; readers and outputs die with their group.
 */
#include "maint_fold.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(merge_step);

/* Samples of a bucket that are merged at once. What is more follows in id order, as in a step of its own. */
enum { RESULT_COLUMNS = 9, GROUP_MAX_SAMPLES = 4 << 20 };

static void
read_bad(fold *f)
{
    if (SPI_execute("SELECT block_id FROM _prom_catalog.maintenance_error ORDER BY 1", false, 0) !=
        SPI_OK_SELECT)
        elog(ERROR, "could not read the blocks to leave alone");
    f->n_bad = SPI_processed;
    f->bad = MemoryContextAlloc(f->context, Max(f->n_bad, 1) * sizeof(int64));
    for (size_t i = 0; i < f->n_bad; i++) {
        bool isnull;
        f->bad[i] =
            DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
    }
    SPI_freetuptable(SPI_tuptable);
}

/* Dropped metrics that rows shared with others may still hold (see sql/065-metrics.sql). */
static void
read_dropped(fold *f)
{
    if (SPI_execute("SELECT id FROM _prom_catalog.dropped_metric ORDER BY 1", false, 0) !=
        SPI_OK_SELECT)
        elog(ERROR, "could not read which metrics were dropped");
    f->n_dropped = SPI_processed;
    f->dropped = MemoryContextAlloc(f->context, Max(f->n_dropped, 1) * sizeof(int32));
    for (size_t i = 0; i < f->n_dropped; i++) {
        bool isnull;
        f->dropped[i] =
            DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
    }
    SPI_freetuptable(SPI_tuptable);
}

static int64
int8_result(int column, bool *ret_null)
{
    return DatumGetInt64(
        SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, ret_null));
}

/* What a fold takes: rows that its snapshot sees, up to an id. */
typedef struct fold_cut {
    Snapshot snapshot;
    Datum bad, first; /* the place of the first of them, if by_place */
    bool by_place, more;
    bool all; /* of them: nothing else is known then */
    int64 last_id;
} fold_cut;

/* The rows up to that many bytes ($2); from a place on. */
#define CUT_BY_BYTES(from)                                                                       \
    "SELECT max(id) FROM ("                                                    \
    " SELECT id, bytes, sum(bytes) OVER (ORDER BY id ROWS UNBOUNDED PRECEDING) - bytes AS before" \
    " FROM (SELECT m.id, octet_length(m.data)::int8 AS bytes FROM _prom_data.fresh m"            \
    "       WHERE m.id <> ALL ($1) " from ") r) s WHERE before < $2"
#define TAKE(from)                                                                     \
    "DELETE FROM _prom_data.fresh m WHERE m.id <> ALL ($1) AND m.id <= $2 " from       \
    " RETURNING " MAINT_ROW_COLUMNS

/* All statements about one cut see the same rows, whoever commits meanwhile. */
static void
run_in(const fold_cut *cut, const char *sql, int n, const Oid *types, const Datum *values,
       int expected)
{
    int rc = SPI_execute_snapshot(maint_prepare(sql, n, types), (Datum *)values, NULL,
                                  cut->snapshot, InvalidSnapshot, false, true, 0);

    if (rc != expected)
        elog(ERROR, "could not take fresh rows: %s", SPI_result_code_string(rc));
}

/* Whether it pays to remember where in the table the first row was. Only a table whose rows are in a
 * file here is large: where an engine places rows elsewhere, and places mean nothing, it is an empty shell.
 * *ret_bytes: more than that are not in it, if it is large. */
static bool
is_large_here(int64 *ret_bytes)
{
    enum { LARGE = 512 << 10 };
    bool isnull;

    SPIPlanPtr ask = maint_prepare("SELECT pg_relation_size('_prom_data.fresh'),"
                                   " pg_table_size('_prom_data.fresh')",
                                   0, NULL);
    if (SPI_execute_plan(ask, NULL, NULL, false, 1) != SPI_OK_SELECT)
        elog(ERROR, "could not ask how large fresh is");
    const bool large = int8_result(1, &isnull) > LARGE;
    *ret_bytes = int8_result(2, &isnull);
    SPI_freetuptable(SPI_tuptable);
    return large;
}

/* False if there is no row to take. A file that is not much larger than what may be taken holds free space,
 * too: all of it is taken, and not looked at before. Else mostly all of them are taken, which is seen without putting them in
 * order. While some snapshot is kept open, the table begins with rows that folds have deleted and VACUUM
 * cannot remove, gigabytes in an hour: only the first statement goes through them. */
static bool
find_cut(fold_cut *cut, int64 max_bytes)
{
    static const Oid types[] = {INT8ARRAYOID, INT8OID, TIDOID};
    int64 file_bytes;
    bool none, isnull;

    cut->by_place = is_large_here(&file_bytes);
    cut->all = cut->by_place && file_bytes <= max_bytes + max_bytes / 2;
    if (cut->all)
        return true;
    run_in(cut,
           cut->by_place ? "SELECT max(m.id), sum(octet_length(m.data))::int8, min(m.ctid)"
                           " FROM _prom_data.fresh m WHERE m.id <> ALL ($1)"
                         : "SELECT max(m.id), sum(octet_length(m.data))::int8"
                           " FROM _prom_data.fresh m WHERE m.id <> ALL ($1)",
           1, types, &cut->bad, SPI_OK_SELECT);
    cut->last_id = int8_result(1, &none);
    if (!none) {
        cut->more = int8_result(2, &isnull) > max_bytes;
        if (cut->by_place)
            cut->first = datumCopy(
                SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 3, &isnull), false,
                sizeof(ItemPointerData));
    }
    SPI_freetuptable(SPI_tuptable);
    if (cut->by_place)
        maint_prefer_the_table(true);
    if (none || !cut->more)
        return !none;
    Datum values[] = {cut->bad, Int64GetDatum(max_bytes), cut->first};
    run_in(cut, cut->by_place ? CUT_BY_BYTES("AND m.ctid >= $3") : CUT_BY_BYTES(""),
           cut->by_place ? 3 : 2, types, values, SPI_OK_SELECT);
    cut->last_id = int8_result(1, &none);
    SPI_freetuptable(SPI_tuptable);
    return !none;
}

/* Deletes the oldest rows; they are in SPI_tuptable then. False if there was nothing. */
static bool
take_fresh(fold *f, int64 max_bytes, bool *ret_more)
{
    static const Oid types[] = {INT8ARRAYOID, INT8OID, TIDOID};
    const int guc_level = NewGUCNestLevel();
    fold_cut cut = {.snapshot = RegisterSnapshot(GetTransactionSnapshot()),
                    .bad = maint_int8_array(f->bad, f->n_bad)};

    maint_prefer_the_table(false);
    const bool found = find_cut(&cut, max_bytes);
    if (found) {
        const bool from_first = cut.by_place && !cut.all;
        Datum values[] = {cut.bad, Int64GetDatum(cut.all ? PG_INT64_MAX : cut.last_id), cut.first};
        run_in(&cut, from_first ? TAKE("AND m.ctid >= $3") : TAKE(""), from_first ? 3 : 2, types,
               values, SPI_OK_DELETE_RETURNING);
    }
    UnregisterSnapshot(cut.snapshot);
    AtEOXact_GUC(true, guc_level);
    *ret_more = cut.more;
    return found && SPI_processed > 0;
}

typedef struct row_key {
    int64 id;
    int32 bucket, tenant_id;
    size_t at;
} row_key;

static int
by_bucket_tenant_id(const void *a, const void *b)
{
    const row_key *x = a, *y = b;

    if (x->bucket != y->bucket)
        return x->bucket < y->bucket ? -1 : 1;
    if (x->tenant_id != y->tenant_id)
        return x->tenant_id < y->tenant_id ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static fold_row *
sort_rows(fold *f, maint_rows taken)
{
    const size_t n = Max(taken.n, 1);
    fold_row *rows = MemoryContextAllocHuge(f->context, n * sizeof(fold_row));
    row_key *keys = MemoryContextAllocHuge(f->context, n * sizeof(row_key));
    int64 max_id = 0;

    for (size_t i = 0; i < taken.n; i++) {
        const maint_row *row = &taken.items[i];
        const int32 metric = row->meta.metric_id;

        max_id = Max(max_id, row->id);
        keys[i] =
            (row_key){row->id, metric < 0 ? metric : mdl_bucket(metric), row->meta.tenant_id, i};
    }
    maint_check_ids(max_id);
    qsort(keys, taken.n, sizeof(row_key), by_bucket_tenant_id);
    for (size_t i = 0; i < taken.n; i++)
        rows[i] = (fold_row){.row = taken.items[keys[i].at], .bucket = keys[i].bucket};
    pfree(keys);
    return rows;
}

static void
prepare_plans(fold *f)
{
    static const Oid range_types[] = {INT4ARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID};
    static const Oid key_types[] = {INT4ARRAYOID, TIMESTAMPTZARRAYOID, INT8ARRAYOID, INT8ARRAYOID};

    f->candidates = maint_prepare("SELECT " MAINT_HEAD_COLUMNS
                                  " FROM unnest($1, $2, $3) u (metric_id, t_from, t_to) "
                                  "JOIN _prom_data.merged m ON m.metric_id = u.metric_id "
                                  "AND m.t_min >= u.t_from AND m.t_min < u.t_to",
                                  lengthof(range_types), range_types);
    f->take = maint_prepare(
        "DELETE FROM _prom_data.merged m USING unnest($1, $2, $3, $4) u (metric_id, t_min, dist_key, id) "
        "WHERE m.metric_id = u.metric_id AND m.t_min = u.t_min AND m.dist_key = u.dist_key "
        "AND m.id = u.id RETURNING " MAINT_ROW_COLUMNS,
        lengthof(key_types), key_types);
    f->insert = maint_prepare_insert("merged", false);
    f->put_back = maint_prepare_insert("merged", true);
}

/* Their views show histograms from the next round on. */
static void
mark_histograms(fold *f)
{
    static const Oid types[] = {INT4ARRAYOID};
    Datum values[] = {maint_int4_array(f->histograms, f->n_histograms)};
    MemoryContext old = CurrentMemoryContext;

    if (f->n_histograms == 0)
        return;
    int rc = SPI_execute_with_args("SELECT _prom_catalog.mark_histograms($1)", lengthof(types),
                                   (Oid *)types, values, NULL, false, 0);
    MemoryContextSwitchTo(old);
    if (rc != SPI_OK_SELECT)
        elog(ERROR, "could not mark metrics with histograms: %s", SPI_result_code_string(rc));
}

static void
fold_all(fold *f, fold_row *rows, size_t n)
{
    SPIPlanPtr put_back = NULL;

    for (size_t a = 0, b; a < n; a = b) {
        int64 samples = rows[a].row.meta.n_samples;

        for (b = a + 1; b < n && rows[b].bucket == rows[a].bucket &&
                        samples + rows[b].row.meta.n_samples <= GROUP_MAX_SAMPLES;
             b++)
            samples += rows[b].row.meta.n_samples;
        MemoryContext old = MemoryContextSwitchTo(f->group_context);
        fold_group(f, rows + a, b - a);
        MemoryContextSwitchTo(old);
        MemoryContextReset(f->group_context);
        CHECK_FOR_INTERRUPTS();
    }
    for (size_t i = 0; i < n; i++) {
        if (!rows[i].put_back)
            continue;
        if (put_back == NULL)
            put_back = maint_prepare_insert("fresh", true);
        maint_insert(put_back, &rows[i].row.id, &rows[i].row.meta, rows[i].row.data);
    }
}

/* merge_step(p_max_bytes, OUT did, OUT busy, OUT more, OUT samples, ...) */
Datum
merge_step(PG_FUNCTION_ARGS)
{
    const int64 max_bytes = PG_GETARG_INT64(0);
    fold f = {.context = AllocSetContextCreate(CurrentMemoryContext, "promscale fold",
                                               ALLOCSET_DEFAULT_SIZES)};
    bool busy = false, did = false, more = false;
    TupleDesc desc;

    if (max_bytes < 1)
        ereport(ERROR,
                (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("p_max_bytes must be positive")));
    if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE ||
        desc->natts != RESULT_COLUMNS)
        elog(ERROR, "merge_step is declared with other result columns");
    f.group_context =
        AllocSetContextCreate(f.context, "promscale fold group", ALLOCSET_DEFAULT_SIZES);
    f.figures.context = f.context;
    SPI_connect();
    const int guc_level = NewGUCNestLevel();
    if (!maint_lock()) {
        busy = true;
    } else {
        read_bad(&f);
        read_dropped(&f);
        if (take_fresh(&f, max_bytes, &more)) {
            SPITupleTable *fresh = SPI_tuptable;
            maint_rows taken = maint_rows_take(f.context, true);

            did = true;
            f.stats.rows_in = (int64)taken.n;
            f.boundary_ms = maint_boundary(true);
            maint_want_vacuum("fresh", false);
            maint_want_vacuum("merged", false);
            maint_prefer_the_key();
            prepare_plans(&f);
            f.presence = fold_presence_new(&f);
            fold_all(&f, sort_rows(&f, taken), taken.n);
            maint_figures_write(&f.figures);
            mark_histograms(&f);
            SPI_freetuptable(fresh);
        }
    }
    AtEOXact_GUC(true, guc_level);
    SPI_finish();
    MemoryContextDelete(f.context);

    Datum values[RESULT_COLUMNS] = {
        BoolGetDatum(did),
        BoolGetDatum(busy),
        BoolGetDatum(did && more),
        Int64GetDatum(f.stats.samples_in),
        Int64GetDatum(f.stats.rows_in),
        Int64GetDatum(f.stats.rows_taken),
        Int64GetDatum(f.stats.rows_out),
        Int64GetDatum(f.stats.duplicates),
        Int64GetDatum(f.stats.conflicts),
    };
    bool nulls[RESULT_COLUMNS] = {false};
    PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
