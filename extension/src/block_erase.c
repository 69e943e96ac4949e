/*
 * block_erase.c - a block without some of its samples: _prom_ext.block_without(), those of some series in a
 * range of time; _prom_ext.block_without_points(), those that stand in a list; _prom_ext.block_expire(), series
 * that are too old.
 *
 * Functions of bytes alone, so that they may run wherever the row lies. What remains keeps its level, kind
 * and form, so that it stands in the row's place and nothing else changes: the same samples win as before.
 *
 * All know what goes by an ascending list of series ids. With a list of points that list runs parallel to
 * one of times, and names a series once for each of its points. Lists come by the thousand points and are
 * handed to each block of a table, so nothing walks them as a whole but the look whether they are in order.
 */
#include "bridge.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "maint.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define ERASE_BUDGET ((size_t)1 << 30)
enum { COLUMNS = 8 };

typedef struct eraser {
    bridge_alloc alloc;
    blk_reader *reader;
    blk_bench *bench;
    blk_meta meta;
    const int64 *ids; /* ascending */
    size_t n_ids;
    const int64 *at_ms;   /* of points: their times, ascending in each series; else NULL */
    int64 from_ms, to_ms; /* of a range, inclusive */
    const int64 *cutoffs; /* of ids, if series go by age: where the whole block is older; else NULL */
    int64 others_cutoff_ms; /* of series that are not among ids */
    int64 *t_ms, *start_ms;
    double *values;
    const hst_hist **histograms;
    ps_arena arena; /* of one series' histograms; of all while a flush block is made */
    int64 erased;
} eraser;

/* ---- what goes ---------------------------------------------------------------------------------------- */

/* The first item in [lo, hi) that is not below x; hi if there is none. */
static size_t
lower_bound(const int64 *items, size_t lo, size_t hi, int64 x)
{
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (items[mid] < x)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* Does the series lose samples, as far as its bounds tell? Of points: ret_next is the first that may be its. */
static bool
may_lose(const eraser *e, const blk_series *s, size_t *ret_next, size_t *ret_end)
{
    size_t lo = lower_bound(e->ids, 0, e->n_ids, s->series_id);

    const bool named = lo < e->n_ids && e->ids[lo] == s->series_id;

    *ret_next = *ret_end = lo;
    if (e->cutoffs != NULL)
        return e->meta.t_max_ms < (named ? e->cutoffs[lo] : e->others_cutoff_ms);
    if (!named)
        return false;
    if (e->at_ms == NULL)
        return s->t_first_ms <= e->to_ms && s->t_last_ms >= e->from_ms;
    *ret_end = s->series_id == PG_INT64_MAX ? e->n_ids
                                            : lower_bound(e->ids, lo, e->n_ids, s->series_id + 1);
    *ret_next = lower_bound(e->at_ms, lo, *ret_end, s->t_first_ms);
    return *ret_next < *ret_end && e->at_ms[*ret_next] <= s->t_last_ms;
}

/* Of a series that loses some: does it lose all? */
static bool
is_covered(const eraser *e, const blk_series *s)
{
    return e->cutoffs != NULL ||
           (e->at_ms == NULL && s->t_first_ms >= e->from_ms && s->t_last_ms <= e->to_ms);
}

/* Does the sample of time t go? Times are asked in ascending order; *next keeps the place among the points. */
static bool
goes(const eraser *e, int64 t_ms, size_t *next, size_t end)
{
    if (e->at_ms == NULL)
        return t_ms >= e->from_ms && t_ms <= e->to_ms;
    while (*next < end && e->at_ms[*next] < t_ms)
        (*next)++;
    return *next < end && e->at_ms[*next] == t_ms;
}

static size_t
read_times(eraser *e, uint32 i)
{
    size_t lo, n;
    ps_err err;

    bridge_check(blk_bench_times(e->bench, e->reader, i, PG_INT64_MIN, PG_INT64_MAX, e->t_ms, &lo,
                                 &n, &err),
                 &err);
    return n;
}

static int64
count_erased(eraser *e)
{
    int64 sum = 0;

    for (uint32 i = 0; i < blk_reader_n_series(e->reader); i++) {
        blk_series s;
        size_t next, end;

        blk_reader_series(e->reader, i, &s);
        if (!may_lose(e, &s, &next, &end))
            continue;
        if (is_covered(e, &s)) {
            sum += s.n_samples;
            continue;
        }
        const size_t n = read_times(e, i);
        for (size_t k = 0; k < n; k++)
            sum += goes(e, e->t_ms[k], &next, end);
    }
    return sum;
}

/* ---- what stays ---------------------------------------------------------------------------------------- */

/* Start timestamps of the first n samples of a series, 0 where none is known. */
static void
read_starts(eraser *e, uint32 i, const blk_series *s, size_t n)
{
    ps_err err;

    if (s->started)
        bridge_check(blk_bench_starts(e->bench, e->reader, i, 0, n, e->start_ms, &err), &err);
    else
        memset(e->start_ms, 0, n * sizeof(*e->start_ms));
}

/* The samples of a series that stay, in the arrays. Returns how many. */
static size_t
read_rest(eraser *e, uint32 i, const blk_series *s)
{
    size_t n = 0, next, end;
    const bool cut = may_lose(e, s, &next, &end);
    ps_err err;

    if (cut && is_covered(e, s))
        return 0;
    const size_t all = read_times(e, i);
    if (e->meta.kind == BLK_KIND_FLOAT)
        bridge_check(blk_bench_values(e->bench, e->reader, i, 0, all, e->values, &err), &err);
    else
        bridge_check(blk_bench_histograms(e->bench, e->reader, i, 0, all, &e->arena, e->histograms,
                                          &err),
                     &err);
    read_starts(e, i, s, all);
    for (size_t k = 0; k < all; k++) {
        if (cut && goes(e, e->t_ms[k], &next, end))
            continue;
        e->t_ms[n] = e->t_ms[k];
        e->start_ms[n] = e->start_ms[k];
        e->values[n] = e->values[k];
        e->histograms[n] = e->histograms[k];
        n++;
    }
    return n;
}

/* A series of which nothing goes needs no encoding, mostly. False: it does. */
static bool
copy_series(eraser *e, blk_writer *w, uint32 i, const blk_series *s)
{
    size_t next, end;
    ps_err err;

    if (may_lose(e, s, &next, &end) || !blk_writer_may_copy(w, e->reader, i))
        return false;
    const size_t n = read_times(e, i);
    if (s->started)
        read_starts(e, i, s, n);
    bridge_check(blk_writer_add_copied(w, e->reader, i, e->t_ms, s->started ? e->start_ms : NULL, n,
                                       &err),
                 &err);
    return true;
}

static void
write_columns(eraser *e, ps_buf *out, blk_meta *ret)
{
    const blk_writer_opts opts = {.tenant_id = e->meta.tenant_id,
                                  .metric_id = e->meta.metric_id,
                                  .level = e->meta.level,
                                  .kind = e->meta.kind};
    blk_writer *w = blk_writer_new(&e->alloc.alloc, &opts);
    ps_err err;

    if (w == NULL)
        bridge_raise(PS_ENOMEM, NULL, NULL, NULL);
    for (uint32 i = 0; i < blk_reader_n_series(e->reader); i++) {
        blk_series s;

        CHECK_FOR_INTERRUPTS();
        blk_reader_series(e->reader, i, &s);
        if (copy_series(e, w, i, &s))
            continue;
        size_t n = read_rest(e, i, &s);
        const int64 *starts = s.started ? e->start_ms : NULL;
        if (n == 0)
            continue;
        bridge_check(e->meta.kind == BLK_KIND_FLOAT
                         ? blk_writer_add_started(w, s.series_id, e->t_ms, starts, e->values, n,
                                                  &err)
                         : blk_writer_add_histograms(w, s.series_id, e->t_ms, starts, e->histograms,
                                                     n, &err),
                     &err);
        ps_arena_reset(&e->arena);
    }
    if (blk_writer_samples(w) > 0)
        bridge_check(blk_writer_finish(w, out, ret, &err), &err);
    blk_writer_free(w);
}

static void
write_flush(eraser *e, ps_buf *out, blk_meta *ret)
{
    blk_point *points = palloc_extended(e->meta.n_samples * sizeof(*points), MCXT_ALLOC_HUGE);
    size_t n_points = 0;
    ps_err err;

    for (uint32 i = 0; i < blk_reader_n_series(e->reader); i++) {
        blk_series s;

        blk_reader_series(e->reader, i, &s);
        size_t n = read_rest(e, i, &s);
        for (size_t k = 0; k < n; k++) {
            blk_point *p = &points[n_points++];

            *p = (blk_point){.series_id = s.series_id,
                             .t_ms = e->t_ms[k],
                             .start_ms = e->start_ms[k],
                             .metric_id = s.metric_id};
            if (e->meta.kind == BLK_KIND_FLOAT)
                p->value = e->values[k];
            else
                p->histogram = e->histograms[k];
        }
    }
    if (n_points == 0)
        return;
    bridge_check(e->meta.kind == BLK_KIND_FLOAT
                     ? blk_encode_flush(&e->alloc.alloc, e->meta.tenant_id, e->meta.metric_id,
                                        points, n_points, out, ret, &err)
                     : blk_encode_flush_histograms(&e->alloc.alloc, e->meta.tenant_id,
                                                   e->meta.metric_id, points, n_points, out, ret,
                                                   &err),
                 &err);
}

/* ---- the function -------------------------------------------------------------------------------------- */

static const int64 *
read_list(ArrayType *array, const char *what, size_t *ret_n)
{
    if (ARR_NDIM(array) > 1 || ARR_ELEMTYPE(array) != INT8OID || array_contains_nulls(array))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("%s must be a plain list of numbers", what)));
    *ret_n = ARR_NDIM(array) == 0 ? 0 : (size_t)ARR_DIMS(array)[0];
    return (const int64 *)ARR_DATA_PTR(array);
}

static void
check_order(const eraser *e)
{
    for (size_t i = 1; i < e->n_ids; i++) {
        if (e->ids[i - 1] < e->ids[i] || (e->at_ms != NULL && e->ids[i - 1] == e->ids[i] &&
                                          e->at_ms[i - 1] < e->at_ms[i]))
            continue;
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("%s must be in ascending order",
                               e->at_ms == NULL ? "series" : "series and times")));
    }
}

static void
open_block(eraser *e, bytea *data)
{
    ps_err err;

    bridge_alloc_init(&e->alloc, CurrentMemoryContext, ERASE_BUDGET);
    ps_arena_init(&e->arena, &e->alloc.alloc, 0);
    bridge_check(blk_reader_open(&e->alloc.alloc,
                                 (ps_str){VARDATA_ANY(data), VARSIZE_ANY_EXHDR(data)}, NULL,
                                 &e->reader, &err),
                 &err);
    e->bench = blk_bench_new(&e->alloc.alloc);
    if (e->bench == NULL)
        bridge_raise(PS_ENOMEM, NULL, NULL, NULL);
    e->meta = *blk_reader_meta(e->reader);
    size_t n = 1; /* samples of the longest series */
    for (uint32 i = 0; i < blk_reader_n_series(e->reader); i++) {
        blk_series s;

        blk_reader_series(e->reader, i, &s);
        n = Max(n, s.n_samples);
    }
    e->t_ms = palloc_extended(n * sizeof(*e->t_ms), MCXT_ALLOC_HUGE);
    e->start_ms = palloc_extended(n * sizeof(*e->start_ms), MCXT_ALLOC_HUGE);
    e->values = palloc_extended(n * sizeof(*e->values), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
    e->histograms = palloc_extended(n * sizeof(*e->histograms), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
}

static void
put_rest(const blk_meta *m, ps_buf *out, Datum *values, bool *nulls)
{
    Datum all[BRIDGE_META_N];
    bytea *copy = palloc_extended(VARHDRSZ + out->len, MCXT_ALLOC_HUGE);

    SET_VARSIZE(copy, VARHDRSZ + out->len);
    memcpy(VARDATA(copy), out->ptr, out->len);
    bridge_meta_to_datums(m, all);
    for (int i = 1; i < COLUMNS; i++)
        nulls[i] = false;
    memcpy(values + 1, all + 6, 6 * sizeof(Datum)); /* series_lo to n_samples */
    values[7] = PointerGetDatum(copy);
}

/* The row that the functions return: (erased, series_lo, series_hi, t_min, t_max, n_series, n_samples, rest);
 * all but erased NULL where nothing is erased or nothing is left. The caller's lists are in e. */
static Datum
without(FunctionCallInfo fcinfo, eraser *e)
{
    TupleDesc desc;
    Datum values[COLUMNS] = {0};
    bool nulls[COLUMNS] = {false, true, true, true, true, true, true, true};
    blk_meta left = {0};
    ps_buf out;

    if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
        elog(ERROR, "the function returns a row");
    check_order(e);
    MemoryContext context =
        AllocSetContextCreate(CurrentMemoryContext, "promscale erase", ALLOCSET_DEFAULT_SIZES);
    MemoryContext caller = MemoryContextSwitchTo(context);
    open_block(e, PG_GETARG_BYTEA_PP(0));
    ps_buf_init(&out, &e->alloc.alloc);
    e->erased = count_erased(e);
    if (e->erased > 0 && e->erased < e->meta.n_samples) {
        if (e->meta.format == BLK_FORMAT_COLUMNS)
            write_columns(e, &out, &left);
        else
            write_flush(e, &out, &left);
    }
    if (e->erased > 0 && left.n_samples != e->meta.n_samples - e->erased)
        elog(ERROR, "a block of %d samples without " INT64_FORMAT " has %d", e->meta.n_samples,
             e->erased, left.n_samples);
    blk_reader_free(e->reader);
    MemoryContextSwitchTo(caller);
    values[0] = Int64GetDatum(e->erased);
    if (left.n_samples > 0)
        put_rest(&left, &out, values, nulls);
    MemoryContextDelete(context);
    return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

/* (data, series, from_ms, to_ms) */
PG_FUNCTION_INFO_V1(block_without);
Datum
block_without(PG_FUNCTION_ARGS)
{
    eraser e = {.from_ms = PG_GETARG_INT64(2), .to_ms = PG_GETARG_INT64(3)};

    e.ids = read_list(PG_GETARG_ARRAYTYPE_P(1), "series", &e.n_ids);
    return without(fcinfo, &e);
}

/* (data, series, times in ms) */
PG_FUNCTION_INFO_V1(block_without_points);
Datum
block_without_points(PG_FUNCTION_ARGS)
{
    eraser e = {0};
    size_t n_times;

    e.ids = read_list(PG_GETARG_ARRAYTYPE_P(1), "series", &e.n_ids);
    e.at_ms = read_list(PG_GETARG_ARRAYTYPE_P(2), "times", &n_times);
    if (n_times != e.n_ids)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("series and times differ in length")));
    return without(fcinfo, &e);
}

/* (data, series, cutoffs, others): series go of which the block's youngest sample is too old. */
PG_FUNCTION_INFO_V1(block_expire);
Datum
block_expire(PG_FUNCTION_ARGS)
{
    eraser e = {.others_cutoff_ms = PG_GETARG_INT64(3)};
    size_t n;

    e.ids = read_list(PG_GETARG_ARRAYTYPE_P(1), "series", &e.n_ids);
    e.cutoffs = read_list(PG_GETARG_ARRAYTYPE_P(2), "cutoffs", &n);
    if (n != e.n_ids)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("each series needs a cutoff")));
    return without(fcinfo, &e);
}
