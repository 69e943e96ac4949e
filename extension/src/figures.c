/*
 * figures.c - what prom_info counts while somebody waits: the part of _prom_data.fresh that belongs to a
 * metric, and chunk intervals out of days and hours.
 *
 * A metric's samples in fresh are rows of its own and a share of rows that small metrics have in common
 * (a bucket). Asked for a few metrics, only these are looked for in these rows; asked for many, as by
 * SELECT * FROM prom_info.metric, all of fresh is read once, instead of each bucket for each of its
 * metrics. What was read is remembered at the call site, so for one execution of one query, and under its snapshot; the
 * stamp is there for callers that run several statements through one call site.
 *
 * A shared row that cannot be read is left out with a WARNING: one damaged block must not take away the
 * view that people look at when something is wrong.
 */
#include "bridge.h"
#include "catalog.h"

#include "access/detoast.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/date.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define HOUR_MS INT64CONST(3600000)
/* A flush block is small; see block_info.c. */
#define READ_BUDGET ((size_t)512 << 20)
enum { ONE_BY_ONE = 16, ROWS_AT_ONCE = 256 };

typedef struct day_hours {
    int32 day; /* since 1970 */
    int32 hours;
} day_hours;

typedef struct fresh_metric {
    int32 metric_id; /* key */
    bool known;
    double rows, bytes;
    int64 samples;
    day_hours *days;
    int n_days, cap_days;
} fresh_metric;

typedef struct fresh_cache {
    MemoryContext context;
    HTAB *metrics;
    int asked;
    bool all; /* everything was read */
    bool loading;
    catalog_stamp stamp;
} fresh_cache;

static void
cache_clear(fresh_cache *cache)
{
    HASHCTL control = {.keysize = sizeof(int32),
                       .entrysize = sizeof(fresh_metric),
                       .hcxt = cache->context};

    MemoryContextReset(cache->context);
    cache->metrics =
        hash_create("promscale fresh", 128, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
    cache->all = cache->loading = false;
    cache->stamp = catalog_stamp_now();
}

static fresh_cache *
cache_of(FmgrInfo *flinfo)
{
    fresh_cache *cache = flinfo->fn_extra;
    catalog_stamp now = catalog_stamp_now();

    if (cache == NULL) {
        cache = MemoryContextAllocZero(flinfo->fn_mcxt, sizeof *cache);
        cache->context =
            AllocSetContextCreate(flinfo->fn_mcxt, "promscale fresh", ALLOCSET_DEFAULT_SIZES);
        cache_clear(cache);
        flinfo->fn_extra = cache;
    } else if (cache->loading || !catalog_stamp_eq(&now, &cache->stamp)) {
        cache_clear(cache);
    }
    return cache;
}

static fresh_metric *
metric_of(fresh_cache *cache, int32 metric_id)
{
    bool found;
    fresh_metric *m = hash_search(cache->metrics, &metric_id, HASH_ENTER, &found);

    if (!found)
        *m = (fresh_metric){.metric_id = metric_id};
    return m;
}

/* ---- hours -------------------------------------------------------------------------------- */

static int
cmp_days(const void *a, const void *b)
{
    const day_hours *x = a, *y = b;

    return x->day < y->day ? -1 : x->day > y->day;
}

static void
combine_days(fresh_metric *m)
{
    int n = 0;

    qsort(m->days, (size_t)m->n_days, sizeof(day_hours), cmp_days);
    for (int i = 0; i < m->n_days; i++) {
        if (n > 0 && m->days[n - 1].day == m->days[i].day)
            m->days[n - 1].hours |= m->days[i].hours;
        else
            m->days[n++] = m->days[i];
    }
    m->n_days = n;
}

static void
add_hour(fresh_cache *cache, fresh_metric *m, int64 t_ms)
{
    const int64 start = mdl_day_start_ms(t_ms);
    const int32 day = (int32)(start / MDL_DAY_MS), bit = 1 << ((t_ms - start) / HOUR_MS);

    if (m->n_days > 0 && m->days[m->n_days - 1].day == day) {
        m->days[m->n_days - 1].hours |= bit;
        return;
    }
    if (m->n_days == m->cap_days && m->n_days > 0)
        combine_days(m);
    if (m->n_days * 2 >= m->cap_days) {
        m->cap_days = Max(4, m->cap_days * 2);
        m->days = m->days == NULL
                      ? MemoryContextAlloc(cache->context, m->cap_days * sizeof(day_hours))
                      : repalloc_huge(m->days, m->cap_days * sizeof(day_hours));
    }
    m->days[m->n_days++] = (day_hours){day, bit};
}

static int64
hour_of(int64 t_ms)
{
    return t_ms / HOUR_MS - (t_ms % HOUR_MS < 0);
}

/* First and last hour say it all where there is none between them. */
static bool
is_short(int64 from_ms, int64 to_ms)
{
    return hour_of(to_ms) - hour_of(from_ms) <= 1;
}

static void
add_ends(fresh_cache *cache, fresh_metric *m, int64 from_ms, int64 to_ms)
{
    add_hour(cache, m, from_ms);
    add_hour(cache, m, to_ms);
}

/* Hours of series i: a flush is made of seconds, but who loads old data sends hours or days at once;
 * then the times are looked at. */
static ps_status
add_series_hours(fresh_cache *cache, fresh_metric *m, blk_reader *reader, uint32 i, ps_err *err)
{
    blk_series s;
    size_t n = 0;

    blk_reader_series(reader, i, &s);
    if (is_short(s.t_first_ms, s.t_last_ms)) {
        add_ends(cache, m, s.t_first_ms, s.t_last_ms);
        return PS_OK;
    }
    int64 *times = palloc_extended(s.n_samples * sizeof(int64), MCXT_ALLOC_HUGE);
    PS_TRY(blk_reader_decode(reader, i, INT64_MIN, INT64_MAX, times, NULL, &n, err));
    for (size_t k = 0; k < n; k++)
        add_hour(cache, m, times[k]);
    pfree(times);
    return PS_OK;
}

/* ---- reading fresh ------------------------------------------------------------------------ */

typedef struct fresh_row {
    int64 id;
    int32 metric_id;
    int64 n_samples, bytes;
    int64 from_ms, to_ms;
    Datum data;
} fresh_row;

/* What a block holds of one metric, or of all (wanted 0), metric by metric (ascending). */
static ps_status
add_block(fresh_cache *cache, const fresh_row *row, int32 wanted, ps_err *err)
{
    bytea *data = DatumGetByteaPP(row->data);
    blk_reader *reader = NULL;
    bridge_alloc alloc;
    blk_series s;

    bridge_alloc_init(&alloc, CurrentMemoryContext, READ_BUDGET);
    PS_TRY(blk_reader_open(&alloc.alloc, (ps_str){VARDATA_ANY(data), VARSIZE_ANY_EXHDR(data)}, NULL,
                           &reader, err));
    const uint32 n = blk_reader_n_series(reader);
    for (uint32 i = wanted == 0 ? 0 : blk_reader_seek(reader, wanted, INT64_MIN), end; i < n;
         i = end) {
        fresh_metric *m;
        int64 samples = 0, from_ms, to_ms;

        blk_reader_series(reader, i, &s);
        if (wanted != 0 && s.metric_id != wanted)
            break;
        m = metric_of(cache, s.metric_id);
        from_ms = s.t_first_ms;
        to_ms = s.t_last_ms;
        for (end = i; end < n; end++) {
            blk_reader_series(reader, end, &s);
            if (s.metric_id != m->metric_id)
                break;
            samples += s.n_samples;
            from_ms = Min(from_ms, s.t_first_ms);
            to_ms = Max(to_ms, s.t_last_ms);
        }
        const double share = (double)samples / (double)Max(row->n_samples, 1);
        m->rows += share;
        m->bytes += share * (double)row->bytes;
        m->samples += samples;
        if (is_short(from_ms, to_ms))
            add_ends(cache, m, from_ms, to_ms);
        else
            for (uint32 k = i; k < end; k++)
                PS_TRY(add_series_hours(cache, m, reader, k, err));
    }
    return PS_OK;
}

enum { AT_METRIC = 1, AT_SAMPLES, AT_T_MIN, AT_T_MAX, AT_ID, AT_DATA };

static int64
time_column(HeapTuple tuple, TupleDesc desc, int column)
{
    bool null;

    return bridge_timestamptz_floor_ms(
        DatumGetTimestampTz(SPI_getbinval(tuple, desc, column, &null)));
}

/* Runs in a context that is reset after each row. */
static void
add_row(fresh_cache *cache, int32 wanted, HeapTuple tuple, TupleDesc desc)
{
    bool null;
    ps_err err = {0};
    fresh_row row = {
        .id = DatumGetInt64(SPI_getbinval(tuple, desc, AT_ID, &null)),
        .metric_id = DatumGetInt32(SPI_getbinval(tuple, desc, AT_METRIC, &null)),
        .n_samples = DatumGetInt32(SPI_getbinval(tuple, desc, AT_SAMPLES, &null)),
        .from_ms = time_column(tuple, desc, AT_T_MIN),
        .to_ms = time_column(tuple, desc, AT_T_MAX),
        .data = SPI_getbinval(tuple, desc, AT_DATA, &null),
    };

    row.bytes = (int64)toast_raw_datum_size(row.data) - VARHDRSZ;
    if (row.metric_id > 0 && is_short(row.from_ms, row.to_ms)) {
        fresh_metric *m = metric_of(cache, row.metric_id);

        m->rows += 1;
        m->bytes += (double)row.bytes;
        m->samples += row.n_samples;
        add_ends(cache, m, row.from_ms, row.to_ms);
        return;
    }
    ps_status status = add_block(cache, &row, wanted, &err);
    if (status != PS_OK)
        ereport(WARNING, (errcode(bridge_sqlstate(status)),
                          errmsg("block " INT64_FORMAT " of _prom_data.fresh is not counted: %s",
                                 row.id, err.text)));
}

/* Reads what fresh holds of one metric, or of all (wanted 0). */
static void
read_fresh(fresh_cache *cache, int32 wanted)
{
#define FRESH "SELECT metric_id, n_samples, t_min, t_max, id, data FROM _prom_data.fresh"
    const int32 ids[] = {wanted, mdl_bucket(wanted)};
    Datum values[] = {PointerGetDatum(catalog_make_int4_array(ids, lengthof(ids)))};
    Oid types[] = {INT4ARRAYOID};
    MemoryContext scratch =
        AllocSetContextCreate(CurrentMemoryContext, "promscale block", ALLOCSET_DEFAULT_SIZES);

    cache->loading = true;
    SPI_connect();
    Portal portal =
        wanted != 0
            ? SPI_cursor_open_with_args(NULL,
                                        FRESH " WHERE metric_id OPERATOR(pg_catalog.=) ANY ($1)", 1,
                                        types, values, NULL, true, 0)
            : SPI_cursor_open_with_args(NULL, FRESH, 0, NULL, NULL, NULL, true, 0);
    for (;;) {
        SPI_cursor_fetch(portal, true, ROWS_AT_ONCE);
        SPITupleTable *table = SPI_tuptable;
        const uint64 n = SPI_processed;

        for (uint64 i = 0; i < n; i++) {
            MemoryContext old = MemoryContextSwitchTo(scratch);
            add_row(cache, wanted, table->vals[i], table->tupdesc);
            MemoryContextSwitchTo(old);
            MemoryContextReset(scratch);
        }
        SPI_freetuptable(table);
        if (n == 0)
            break;
        CHECK_FOR_INTERRUPTS();
    }
    SPI_cursor_close(portal);
    SPI_finish();
    MemoryContextDelete(scratch);
    cache->loading = false;
}

static fresh_metric *
fresh_of(fresh_cache *cache, int32 metric_id)
{
    fresh_metric *m = metric_of(cache, metric_id);

    if (cache->all || m->known)
        return m;
    if (cache->asked++ >= ONE_BY_ONE) {
        cache_clear(cache);
        read_fresh(cache, 0);
        cache->all = true;
        return metric_of(cache, metric_id);
    }
    read_fresh(cache, metric_id);
    m->known = true;
    return m;
}

/* Days since 1970 as dates, or hours. */
static Datum
days_array(const fresh_metric *m, bool hours)
{
    Datum *items = palloc_array(Datum, m->n_days + 1);

    for (int i = 0; i < m->n_days; i++)
        items[i] =
            hours ? Int32GetDatum(m->days[i].hours)
                  : DateADTGetDatum(m->days[i].day - (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE));
    return PointerGetDatum(construct_array(items, m->n_days, hours ? INT4OID : DATEOID,
                                           sizeof(int32), true, TYPALIGN_INT));
}

/* fresh_figures(metric_id) -> (rows, samples, bytes, days, hours), one row; a shared row counts by the
 * part of its samples. */
PG_FUNCTION_INFO_V1(fresh_figures);
Datum
fresh_figures(PG_FUNCTION_ARGS)
{
    ReturnSetInfo *rsinfo = (ReturnSetInfo *)fcinfo->resultinfo;
    bool nulls[5] = {false};

    InitMaterializedSRF(fcinfo, 0);
    fresh_metric *m = fresh_of(cache_of(fcinfo->flinfo), PG_GETARG_INT32(0));
    combine_days(m);
    Datum values[5] = {Float8GetDatum(m->rows), Int64GetDatum(m->samples),
                       Int64GetDatum((int64)(m->bytes + 0.5)), days_array(m, false),
                       days_array(m, true)};
    tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
    return (Datum)0;
}

/* ---- chunk intervals ---------------------------------------------------------------------- */

/* An array argument of int4 or date without NULLs; none: empty. */
static const int32 *
items_of(FunctionCallInfo fcinfo, int arg, int *ret_n)
{
    *ret_n = 0;
    if (PG_ARGISNULL(arg))
        return NULL;
    ArrayType *array = PG_GETARG_ARRAYTYPE_P(arg);
    if (ARR_NDIM(array) == 0)
        return NULL;
    if (ARR_NDIM(array) != 1 || ARR_HASNULL(array))
        ereport(ERROR, (errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
                        errmsg("arrays of one dimension without NULLs are wanted")));
    *ret_n = ARR_DIMS(array)[0];
    return (const int32 *)ARR_DATA_PTR(array);
}

typedef struct window {
    int64 number;
    bool open;
} window;

typedef struct windows {
    window *items;
    size_t n, cap;
    int64 width_ms;
} windows;

static void
add_windows(windows *w, DateADT date, int32 hours, bool open)
{
    const int64 day_ms =
        ((int64)date + POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * (int64)MDL_DAY_MS;

    for (int h = 0; h < 24; h++) {
        if ((hours & (1 << h)) == 0)
            continue;
        const int64 t = day_ms + h * HOUR_MS;
        int64 number = t / w->width_ms;
        if (t % w->width_ms < 0)
            number--;
        if (w->n > 0 && w->items[w->n - 1].number == number && w->items[w->n - 1].open == open)
            continue;
        if (w->n == w->cap) {
            w->cap *= 2;
            w->items = repalloc_huge(w->items, w->cap * sizeof(window));
        }
        w->items[w->n++] = (window){number, open};
    }
}

static int
cmp_windows(const void *a, const void *b)
{
    const window *x = a, *y = b;

    if (x->number != y->number)
        return x->number < y->number ? -1 : 1;
    return (int)y->open - (int)x->open; /* open first */
}

static int64
width_ms(const Interval *width)
{
    const double ms =
        ((double)width->month * 30 + width->day) * (double)MDL_DAY_MS + (double)width->time / 1000;

    return ms < HOUR_MS ? HOUR_MS : ms > 1e15 ? INT64CONST(1000000000000000) : (int64)ms;
}

/* chunk_counts(days, merged, sealed, fresh_days, fresh_hours, width) -> (total, closed): chunk intervals
 * that hold samples, and those of them in which all is sealed. An interval shorter than an hour counts
 * as an hour; one that cuts hours has those that begin in it. */
PG_FUNCTION_INFO_V1(chunk_counts);
Datum
chunk_counts(PG_FUNCTION_ARGS)
{
    int n_days, n_merged, n_sealed, n_fresh, n_hours;
    const int32 *days = items_of(fcinfo, 0, &n_days);
    const int32 *merged = items_of(fcinfo, 1, &n_merged);
    const int32 *sealed = items_of(fcinfo, 2, &n_sealed);
    const int32 *fresh_days = items_of(fcinfo, 3, &n_fresh);
    const int32 *fresh_hours = items_of(fcinfo, 4, &n_hours);
    int64 total = 0, closed = 0;
    windows w = {.cap = 1024};
    TupleDesc desc;

    if (n_days != n_merged || n_days != n_sealed || n_fresh != n_hours || PG_ARGISNULL(5))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("arrays of equal length and an interval are wanted")));
    if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE || desc->natts != 2)
        elog(ERROR, "chunk_counts is declared with other result columns");
    w.width_ms = width_ms(PG_GETARG_INTERVAL_P(5));
    w.items = palloc_array(window, w.cap);
    for (int i = 0; i < n_days; i++) {
        add_windows(&w, days[i], merged[i], true);
        add_windows(&w, days[i], sealed[i], false);
        CHECK_FOR_INTERRUPTS();
    }
    for (int i = 0; i < n_fresh; i++)
        add_windows(&w, fresh_days[i], fresh_hours[i], true);
    qsort(w.items, w.n, sizeof(window), cmp_windows);
    for (size_t i = 0; i < w.n; i++) {
        if (i > 0 && w.items[i].number == w.items[i - 1].number)
            continue;
        total++;
        closed += !w.items[i].open;
    }
    Datum values[2] = {Int64GetDatum(total), Int64GetDatum(closed)};
    bool nulls[2] = {false};
    PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
