/*
 * maint_join.c - one step of merged -> merged: hours that are over.
 *
 * Folds leave some two dozen rows that hold a series in the hour of now (maint_cells.c), more than a
 * query over many hours should meet in each. So an hour is joined a little after its end: all merged rows
 * of a metric and hour become rows of which only one holds a series. What comes later for it is folded
 * beside them, and once more than a few rows hold a series again the hour is joined again.
 *
 * All rows of the cell are taken, so the new ones may have the highest ids (rule 3 of maint.h), and none
 * leaves the cell (rule 4). Days before yesterday are left to the seal.
 *
 * A large metric is done in slices of series ids, as in maint_window.c. An hour has a subtransaction of
 * its own: one that fails is remembered and skipped.
 */
#include "maint.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(join_step);

enum { HOURS_PER_STEP = 60, RESULT_COLUMNS = 8, MOST_ROWS_A_SERIES = 4 };

#define SLICE_MAX_BYTES ((int64)32 << 20)

typedef struct join_hour {
    int32 tenant_id, metric_id;
    int64 dist_key, from_ms;
} join_hour;

typedef struct output {
    struct output *next;
    blk_meta meta;
    ps_str data;
} output;

typedef struct join {
    MemoryContext context;      /* of the step */
    MemoryContext hour_context; /* reset after each hour */
    const ps_alloc *alloc;      /* of the slice */
    output *first, **last;      /* of the slice */
    SPIPlanPtr heads, rows, erase, insert;
    maint_figures figures;
    const maint_row *guilty; /* the row that an error is about, if one is known */
    int64 bytes_in, samples, rows_in, rows_out;
} join;

/* ---- one hour ------------------------------------------------------------------------------ */

static ps_status
keep_output(void *self, ps_str data, const blk_meta *meta, ps_err *err)
{
    join *j = self;
    output *out = ps_alloc_new(j->alloc, sizeof(*out));
    char *copy = out == NULL ? NULL : ps_alloc_new(j->alloc, data.len);

    if (copy == NULL)
        return ps_fail(err, PS_ENOMEM, "no memory for a merged block of %zu bytes", data.len);
    memcpy(copy, data.ptr, data.len);
    *out = (output){.meta = *meta, .data = {copy, data.len}};
    *j->last = out;
    j->last = &out->next;
    return PS_OK;
}

static ps_status
merge_slice(join *j, const join_hour *h, maint_rows rows, int64 lo, int64 hi, ps_err *err)
{
    blk_reader **inputs = palloc0_array(blk_reader *, rows.n);
    blk_merge_opts opts = {
        .tenant_id = h->tenant_id,
        .metric_id = h->metric_id,
        .out_level = BLK_LEVEL_MERGED,
        .from_ms = h->from_ms,
        .to_ms = h->from_ms + MAINT_HOUR_MS,
        .series_lo = lo,
        .series_hi = hi,
        .target_bytes = MAINT_TARGET_BYTES,
        .target_samples = MAINT_TARGET_SAMPLES,
    };
    blk_merge_stats stats;

    for (size_t i = 0; i < rows.n; i++) {
        j->guilty = &rows.items[i];
        PS_TRY(blk_reader_open(j->alloc, rows.items[i].data, &rows.items[i].meta, &inputs[i], err));
    }
    j->guilty = rows.n == 1 ? &rows.items[0] : NULL;
    PS_TRY(blk_merge(j->alloc, inputs, rows.n, &opts, keep_output, j, bridge_interrupted, &stats,
                     err));
    j->guilty = NULL;
    j->samples += (int64)stats.samples_out;
    maint_figures_dups(&j->figures, h->tenant_id, h->metric_id, (int64)stats.dups.duplicates,
                       (int64)stats.dups.conflicts);
    return PS_OK;
}

/* The series lo to hi of rows of one kind. */
static void
join_slice(join *j, const join_hour *h, maint_rows heads, int64 lo, int64 hi)
{
    int64 *ids = palloc_array(int64, heads.n);
    size_t n = 0;
    bridge_alloc alloc;
    ps_err err;

    for (size_t i = 0; i < heads.n; i++) {
        if (heads.items[i].meta.series_lo <= hi && heads.items[i].meta.series_hi >= lo)
            ids[n++] = heads.items[i].id;
    }
    Datum values[] = {Int32GetDatum(h->metric_id), Int64GetDatum(h->dist_key),
                      maint_time(h->from_ms), maint_time(h->from_ms + MAINT_HOUR_MS),
                      maint_int8_array(ids, n)};
    if (maint_run(j->rows, values, NULL, SPI_OK_SELECT) != n)
        ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
                        errmsg("merged rows have changed while they were joined")));
    SPITupleTable *table = SPI_tuptable;
    maint_rows rows = maint_rows_take_naming(CurrentMemoryContext, &j->guilty);
    bridge_alloc_init(&alloc, CurrentMemoryContext, MAINT_MEMORY_BYTES);
    j->alloc = &alloc.alloc;
    j->first = NULL;
    j->last = &j->first;
    bridge_check(merge_slice(j, h, rows, lo, hi, &err), &err);
    for (const output *o = j->first; o != NULL; o = o->next) {
        maint_insert(j->insert, NULL, &o->meta, o->data);
        maint_figures_row(&j->figures, &o->meta, (int64)o->data.len, 1);
        j->rows_out++;
    }
    SPI_freetuptable(table);
}

static int
by_kind_and_series(const void *a, const void *b)
{
    const maint_row *x = a, *y = b;

    if (x->meta.kind != y->meta.kind)
        return x->meta.kind < y->meta.kind ? -1 : 1;
    if (x->meta.series_lo != y->meta.series_lo)
        return x->meta.series_lo < y->meta.series_lo ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* Rows of one kind, by series_lo: slices of series that read about SLICE_MAX_BYTES each, ascending, so
 * that the ids of what is written ascend with the series. */
static void
join_kind(join *j, const join_hour *h, maint_rows heads)
{
    MemoryContext slice_context =
        AllocSetContextCreate(CurrentMemoryContext, "promscale join slice", ALLOCSET_DEFAULT_SIZES);
    int64 last = heads.items[0].meta.series_hi;

    for (size_t i = 0; i < heads.n; i++)
        last = Max(last, heads.items[i].meta.series_hi);
    for (size_t a = 0, b; a < heads.n; a = b) {
        int64 bytes = heads.items[a].data_bytes;

        for (b = a + 1;
             b < heads.n && (bytes + heads.items[b].data_bytes <= SLICE_MAX_BYTES ||
                             heads.items[b].meta.series_lo == heads.items[a].meta.series_lo);
             b++)
            bytes += heads.items[b].data_bytes;
        MemoryContext old = MemoryContextSwitchTo(slice_context);
        join_slice(j, h, heads, heads.items[a].meta.series_lo,
                   b < heads.n ? heads.items[b].meta.series_lo - 1 : last);
        MemoryContextSwitchTo(old);
        MemoryContextReset(slice_context);
        CHECK_FOR_INTERRUPTS();
    }
}

static void
join_one(join *j, const join_hour *h)
{
    const int64 to_ms = h->from_ms + MAINT_HOUR_MS;
    Datum values[] = {Int32GetDatum(h->metric_id), Int64GetDatum(h->dist_key),
                      maint_time(h->from_ms), maint_time(to_ms), Int32GetDatum(h->tenant_id)};

    maint_run(j->heads, values, NULL, SPI_OK_SELECT);
    maint_rows heads = maint_rows_take(CurrentMemoryContext, false);
    SPI_freetuptable(SPI_tuptable);
    if (heads.n == 0)
        return;
    int64 *ids = palloc_array(int64, heads.n), max_id = 0;
    maint_figures_clear(&j->figures, h->tenant_id, h->metric_id, h->from_ms, to_ms);
    for (size_t i = 0; i < heads.n; i++) {
        const maint_row *row = &heads.items[i];

        if (row->meta.t_max_ms >= to_ms)
            ereport(ERROR,
                    (errcode(ERRCODE_DATA_CORRUPTED),
                     errmsg("merged block " INT64_FORMAT " reaches beyond its hour", row->id)));
        ids[i] = row->id;
        max_id = Max(max_id, row->id);
        j->bytes_in += row->data_bytes;
        maint_figures_row(&j->figures, &row->meta, row->data_bytes, -1);
    }
    maint_check_ids(max_id);
    qsort(heads.items, heads.n, sizeof(maint_row), by_kind_and_series);
    for (size_t a = 0, b; a < heads.n; a = b) {
        for (b = a + 1; b < heads.n && heads.items[b].meta.kind == heads.items[a].meta.kind; b++) {
        }
        join_kind(j, h, (maint_rows){heads.items + a, b - a});
    }
    values[4] = maint_int8_array(ids, heads.n);
    if (maint_run(j->erase, values, NULL, SPI_OK_DELETE) != heads.n)
        ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
                        errmsg("merged rows have changed while they were joined")));
    j->rows_in += (int64)heads.n;
}

/* ---- which hours --------------------------------------------------------------------------- */

/*
 * Hours that ended before `until` and in which more than a few rows hold some series: rows begin and end
 * along the series ids, and the most that lie over each other are counted. Not those of days with a
 * block that cannot be read.
 */
static join_hour *
due_hours(TimestampTz until, size_t *ret_n)
{
    static const Oid types[] = {TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID};
    Datum values[] = {maint_time(maint_boundary(false)), TimestampTzGetDatum(until),
                      Int32GetDatum(MOST_ROWS_A_SERIES)};
    int rc = SPI_execute_with_args(
        "SELECT tenant_id, metric_id, dist_key, (extract(epoch FROM hour) * 1000)::int8 FROM ("
        " SELECT r.*, sum(v.delta) OVER (PARTITION BY r.tenant_id, r.metric_id, r.kind, r.hour"
        "                                ORDER BY v.at, v.delta DESC ROWS UNBOUNDED PRECEDING) AS depth"
        " FROM (SELECT tenant_id, metric_id, dist_key, kind, series_lo, series_hi,"
        "              date_bin('1 hour', t_min, '2000-01-01 00:00:00+00') AS hour"
        "       FROM _prom_data.merged"
        "       WHERE t_min >= $1 AND t_min < date_bin('1 hour', $2, '2000-01-01 00:00:00+00')) r,"
        " LATERAL (VALUES (r.series_lo, 1), (r.series_hi, -1)) v (at, delta)) d "
        "WHERE NOT EXISTS ("
        "  SELECT FROM _prom_catalog.maintenance_error e WHERE e.level = 1 AND e.metric_id = d.metric_id "
        "  AND date_bin('1 day', e.t_min, '2000-01-01 00:00:00+00')"
        "    = date_bin('1 day', d.hour, '2000-01-01 00:00:00+00')) "
        "GROUP BY tenant_id, metric_id, dist_key, hour HAVING max(depth) > $3 ORDER BY hour, metric_id",
        lengthof(types), (Oid *)types, values, NULL, false, 0);

    if (rc != SPI_OK_SELECT)
        elog(ERROR, "could not look for hours to join: %s", SPI_result_code_string(rc));
    join_hour *list = palloc_extended(Max(SPI_processed, 1) * sizeof(join_hour), MCXT_ALLOC_HUGE);
    *ret_n = SPI_processed;
    for (uint64 i = 0; i < SPI_processed; i++) {
        bool isnull;
        HeapTuple t = SPI_tuptable->vals[i];
        TupleDesc d = SPI_tuptable->tupdesc;

        list[i] = (join_hour){DatumGetInt32(SPI_getbinval(t, d, 1, &isnull)),
                              DatumGetInt32(SPI_getbinval(t, d, 2, &isnull)),
                              DatumGetInt64(SPI_getbinval(t, d, 3, &isnull)),
                              DatumGetInt64(SPI_getbinval(t, d, 4, &isnull))};
    }
    SPI_freetuptable(SPI_tuptable);
    return list;
}

/* ---- the step ------------------------------------------------------------------------------ */

/* Errors that are about the data of one hour, and will be there again when it is tried again. */
static bool
is_about_data(int sqlstate)
{
    switch (ERRCODE_TO_CATEGORY(sqlstate)) {
    case ERRCODE_TO_CATEGORY(ERRCODE_DATA_CORRUPTED):
    case ERRCODE_TO_CATEGORY(ERRCODE_FEATURE_NOT_SUPPORTED):
    case ERRCODE_TO_CATEGORY(ERRCODE_PROGRAM_LIMIT_EXCEEDED):
    case ERRCODE_TO_CATEGORY(ERRCODE_INVALID_PARAMETER_VALUE):
        return true;
    }
    return sqlstate == ERRCODE_OUT_OF_MEMORY;
}

/* False if the hour failed and that was noted. */
static bool
try_hour(join *j, const join_hour *h)
{
    MemoryContext old_context = CurrentMemoryContext;
    ResourceOwner old_owner = CurrentResourceOwner;
    const join before = *j;
    volatile bool ok = true;

    j->guilty = NULL;
    maint_figures_mark(&j->figures);
    BeginInternalSubTransaction(NULL);
    MemoryContextSwitchTo(j->hour_context);
    PG_TRY();
    {
        join_one(j, h);
        ReleaseCurrentSubTransaction();
    }
    PG_CATCH();
    {
        MemoryContextSwitchTo(j->context);
        ErrorData *error = CopyErrorData();

        FlushErrorState();
        RollbackAndReleaseCurrentSubTransaction();
        if (!is_about_data(error->sqlerrcode) && !(j->guilty != NULL && maint_is_lost(error)))
            ReThrowError(error);
        MemoryContextSwitchTo(old_context);
        CurrentResourceOwner = old_owner;
        if (j->guilty != NULL)
            maint_note_error("join", j->guilty->id, &j->guilty->meta, error->message);
        else
            maint_note_day("join", h->metric_id, h->from_ms, BLK_LEVEL_MERGED, error->message);
        maint_figures_take_back(&j->figures);
        j->samples = before.samples;
        j->bytes_in = before.bytes_in;
        j->rows_in = before.rows_in;
        j->rows_out = before.rows_out;
        ok = false;
    }
    PG_END_TRY();
    MemoryContextSwitchTo(old_context);
    CurrentResourceOwner = old_owner;
    MemoryContextReset(j->hour_context);
    return ok;
}

static void
prepare_plans(join *j)
{
    static const Oid types[] = {INT4OID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8ARRAYOID};
    static const Oid head_types[] = {INT4OID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID};
#define HOUR_OF_METRIC                                                                             \
    "_prom_data.merged m WHERE m.metric_id = $1 AND m.dist_key = $2 AND m.t_min >= $3 AND m.t_min < $4"

    j->heads = maint_prepare("SELECT " MAINT_HEAD_COLUMNS " FROM " HOUR_OF_METRIC
                             " AND m.tenant_id = $5 ORDER BY m.id",
                             lengthof(head_types), head_types);
    /* id + 0: a filter; as an index condition each id would walk the whole range again */
    j->rows = maint_prepare("SELECT " MAINT_ROW_COLUMNS " FROM " HOUR_OF_METRIC
                            " AND m.id + 0 = ANY ($5) ORDER BY m.id",
                            lengthof(types), types);
    j->erase = maint_prepare("DELETE FROM " HOUR_OF_METRIC " AND m.id + 0 = ANY ($5)",
                             lengthof(types), types);
    j->insert = maint_prepare_insert("merged", false);
}

/* Returns how many hours were tried; *ret_left of those that are due were not. */
static size_t
join_some(join *j, TimestampTz until, int64 max_bytes, size_t *ret_left, int64 *failed)
{
    size_t n, i;
    join_hour *hours = due_hours(until, &n);

    *ret_left = 0;
    if (n == 0)
        return 0;
    maint_prefer_the_key();
    prepare_plans(j);
    for (i = 0; i < n && i < HOURS_PER_STEP && j->bytes_in < max_bytes; i++) {
        if (!try_hour(j, &hours[i]))
            (*failed)++;
        CHECK_FOR_INTERRUPTS();
    }
    maint_figures_write(&j->figures);
    maint_want_vacuum("merged", false);
    *ret_left = n - i;
    return i;
}

/* join_step(p_until, p_max_bytes, OUT busy, OUT hours, OUT failed, OUT hours_left, OUT samples, ...) */
Datum
join_step(PG_FUNCTION_ARGS)
{
    const TimestampTz until = PG_GETARG_TIMESTAMPTZ(0);
    const int64 max_bytes = PG_GETARG_INT64(1);
    join j = {.context = AllocSetContextCreate(CurrentMemoryContext, "promscale join",
                                               ALLOCSET_DEFAULT_SIZES)};
    bool busy = false;
    size_t hours = 0, left = 0;
    int64 failed = 0;
    TupleDesc desc;

    if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE ||
        desc->natts != RESULT_COLUMNS)
        elog(ERROR, "join_step is declared with other result columns");
    j.hour_context =
        AllocSetContextCreate(j.context, "promscale join hour", ALLOCSET_DEFAULT_SIZES);
    j.figures.context = j.context;
    SPI_connect();
    const int guc_level = NewGUCNestLevel();
    if (maint_lock())
        hours = join_some(&j, until, max_bytes, &left, &failed);
    else
        busy = true;
    AtEOXact_GUC(true, guc_level);
    SPI_finish();
    MemoryContextDelete(j.context);

    Datum values[RESULT_COLUMNS] = {
        BoolGetDatum(busy),         Int64GetDatum((int64)hours), Int64GetDatum(failed),
        Int64GetDatum((int64)left), Int64GetDatum(j.samples),    Int64GetDatum(j.bytes_in),
        Int64GetDatum(j.rows_in),   Int64GetDatum(j.rows_out),
    };
    bool nulls[RESULT_COLUMNS] = {false};
    PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
