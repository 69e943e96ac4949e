/*
 * maint_seal.c - one step of merged -> block: some windows of some metrics, oldest first; and one step of
 * what comes after it where samples were late.
 *
 * A window is a span of a metric's time that is sealed as a whole: chunk_interval long (rounded down
 * to a divisor of the day, at least an hour), aligned to the epoch in UTC; of old days, the whole
 * day. It is due an hour after its end. Rows that come later are sealed at once, together with as much of
 * what was sealed before as is worth it (maint_layers.c). Where rows are left that lie on each other
 * the day is noted in _prom_catalog.reseal_queue, and looked at again by the other step when nothing has
 * come for an hour.
 *
 * Each window has a subtransaction of its own: one that fails is remembered and skipped, the others
 * go on. A step ends after a number of windows or bytes, so that transactions stay short.
 */
#include "maint_seal.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "pgtime.h"

PG_FUNCTION_INFO_V1(seal_step);
PG_FUNCTION_INFO_V1(reseal_step);

/* Subtransactions above this number make snapshots of other sessions slower. */
enum { WINDOWS_PER_STEP = 60, RESULT_COLUMNS = 10 };

/* Sealed rows of a day that are found to be unreadable in one step; then none of it is read. */
enum { SHUT_AT_ONCE = 8 };

#define GRACE_MS MAINT_HOUR_MS
#define SLICE_MAX_BYTES ((int64)64 << 20)

typedef struct candidate {
    int32 metric_id;
    int64 dist_key;
    int64 hour_ms; /* some merged row begins in this hour */
    int64 chunk_ms;
} candidate;

typedef struct days {
    int64 *partitions; /* starts of days that have a partition, ascending */
    size_t n;
    int64 first_ms, last_ms; /* days between these deserve one (inclusive) */
} days;

static int64
window_length(int64 chunk_ms)
{
    static const int hours[] = {24, 12, 8, 6, 4, 3, 2};

    for (size_t i = 0; i < lengthof(hours); i++) {
        if (chunk_ms >= hours[i] * MAINT_HOUR_MS)
            return hours[i] * MAINT_HOUR_MS;
    }
    return MAINT_HOUR_MS;
}

static seal_window
window_of(const candidate *c, int64 boundary_ms)
{
    const int64 length = c->hour_ms < boundary_ms ? MDL_DAY_MS : window_length(c->chunk_ms);
    const int64 from = maint_floor_ms(c->hour_ms, length);

    return (seal_window){.metric_id = c->metric_id,
                         .dist_key = c->dist_key,
                         .from_ms = from,
                         .to_ms = from + length,
                         .width_ms = window_length(c->chunk_ms)};
}

static int64
int8_column(uint64 row, int column)
{
    bool isnull;

    return DatumGetInt64(
        SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &isnull));
}

static candidate *
take_candidates(size_t *ret_n)
{
    candidate *list = palloc_extended(Max(SPI_processed, 1) * sizeof(candidate), MCXT_ALLOC_HUGE);

    *ret_n = SPI_processed;
    for (uint64 i = 0; i < SPI_processed; i++) {
        bool isnull;
        list[i] = (candidate){
            .metric_id = DatumGetInt32(
                SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull)),
            .dist_key = int8_column(i, 2),
            .hour_ms = int8_column(i, 3),
            .chunk_ms = int8_column(i, 4),
        };
    }
    SPI_freetuptable(SPI_tuptable);
    return list;
}

/* Where merged rows lie that may be sealed, except in windows with a block that cannot be read. */
static candidate *
read_candidates(size_t *ret_n)
{
    int rc = SPI_execute(
        "SELECT r.metric_id, r.dist_key, r.hour_ms, "
        "       (extract(epoch FROM coalesce(c.chunk_interval, d.chunk)) * 1000)::int8 "
        "FROM (SELECT DISTINCT metric_id, dist_key, (extract(epoch FROM date_bin('1 hour', t_min, "
        "             '2000-01-01 00:00:00+00')) * 1000)::int8 AS hour_ms FROM _prom_data.merged) r "
        "LEFT JOIN _prom_catalog.metric c ON c.id = r.metric_id, "
        "LATERAL (SELECT _prom_catalog.setting('chunk_interval')::interval AS chunk, "
        "                _prom_catalog.setting('compression')::bool AS compression OFFSET 0) d "
        "WHERE coalesce(c.compression, d.compression) AND NOT EXISTS ("
        "  SELECT FROM _prom_catalog.maintenance_error e WHERE e.level = 1 AND e.metric_id = r.metric_id "
        "  AND (extract(epoch FROM date_bin('1 day', e.t_min, '2000-01-01 00:00:00+00')) * 1000)::int8 "
        "      = r.hour_ms - ((r.hour_ms % 86400000) + 86400000) % 86400000)",
        false, 0);
    if (rc != SPI_OK_SELECT)
        elog(ERROR, "could not look for windows to seal: %s", SPI_result_code_string(rc));
    return take_candidates(ret_n);
}

/* Days in which sealed rows lie on each other, and have done so for a while. */
static candidate *
read_queue(bool force, size_t *ret_n)
{
    int rc = SPI_execute(
        psprintf(
            "SELECT q.metric_id, q.dist_key, (extract(epoch FROM q.day) * 1000)::int8, "
            "       (extract(epoch FROM coalesce(c.chunk_interval, d.chunk)) * 1000)::int8 "
            "FROM _prom_catalog.reseal_queue q "
            "LEFT JOIN _prom_catalog.metric c ON c.id = q.metric_id, "
            "LATERAL (SELECT _prom_catalog.setting('chunk_interval')::interval AS chunk, "
            "                _prom_catalog.setting('compression')::bool AS compression OFFSET 0) d "
            "WHERE coalesce(c.compression, d.compression) AND %s ORDER BY q.day, q.metric_id LIMIT %d",
            /* what has failed in this run of all there is to do is not tried again and again */
            force ? "NOT EXISTS (SELECT FROM _prom_catalog.maintenance_error e WHERE e.level = 2 "
                    "AND e.metric_id = q.metric_id AND e.t_min >= q.day "
                    "AND e.t_min < q.day + '24 hours'::interval)"
                  : "(q.since <= now() - '1 hour'::interval OR q.since > now())",
            WINDOWS_PER_STEP + 1),
        false, 0);
    if (rc != SPI_OK_SELECT)
        elog(ERROR, "could not look for windows to seal again: %s", SPI_result_code_string(rc));
    return take_candidates(ret_n);
}

static days
read_days(void)
{
    days d = {0};

    if (SPI_execute(
            "SELECT (extract(epoch FROM first_day) * 1000)::int8, "
            "(extract(epoch FROM last_day) * 1000)::int8 FROM _prom_catalog.partition_days()",
            false, 1) != SPI_OK_SELECT ||
        SPI_processed != 1)
        elog(ERROR, "could not read which days have partitions");
    d.first_ms = int8_column(0, 1);
    d.last_ms = int8_column(0, 2);
    SPI_freetuptable(SPI_tuptable);
    if (SPI_execute("SELECT (extract(epoch FROM day) * 1000)::int8 FROM _prom_catalog.partitions() "
                    "ORDER BY 1",
                    false, 0) != SPI_OK_SELECT)
        elog(ERROR, "could not list the partitions");
    d.n = SPI_processed;
    d.partitions = palloc_array(int64, Max(d.n, 1));
    for (size_t i = 0; i < d.n; i++)
        d.partitions[i] = int8_column(i, 1);
    SPI_freetuptable(SPI_tuptable);
    return d;
}

/* False if the window must wait for a partition. */
static bool
choose_table(const days *d, seal_window *w)
{
    const int64 day = mdl_day_start_ms(w->from_ms);

    w->far = true;
    for (size_t i = 0; i < d->n && w->far; i++)
        w->far = d->partitions[i] != day;
    return !w->far || day < d->first_ms || day > d->last_ms;
}

static int
cmp_windows(const void *a, const void *b)
{
    const seal_window *x = a, *y = b;

    if (x->from_ms != y->from_ms)
        return x->from_ms < y->from_ms ? -1 : 1;
    if (x->metric_id != y->metric_id)
        return x->metric_id < y->metric_id ? -1 : 1;
    return x->dist_key < y->dist_key ? -1 : x->dist_key > y->dist_key;
}

static seal_window *
due_windows(bool force, size_t *ret_n)
{
    const int64 now_ms = bridge_timestamptz_floor_ms(GetCurrentTimestamp());
    const int64 boundary_ms = maint_boundary(false);
    size_t n_candidates, n = 0, out = 0;
    candidate *list = read_candidates(&n_candidates);
    days d = read_days();
    seal_window *windows =
        palloc_extended(Max(n_candidates, 1) * sizeof(seal_window), MCXT_ALLOC_HUGE);

    for (size_t i = 0; i < n_candidates; i++) {
        seal_window w = window_of(&list[i], boundary_ms);
        if ((force || w.to_ms + GRACE_MS <= now_ms) && choose_table(&d, &w))
            windows[n++] = w;
    }
    qsort(windows, n, sizeof(seal_window), cmp_windows);
    for (size_t i = 0; i < n; i++) {
        if (out == 0 || cmp_windows(&windows[out - 1], &windows[i]) != 0)
            windows[out++] = windows[i];
    }
    *ret_n = out;
    return windows;
}

/* Days from the queue. What is merged of them is left to the other step. */
static seal_window *
queued_windows(bool force, size_t *ret_n)
{
    candidate *list = read_queue(force, ret_n);
    days d = read_days();
    seal_window *windows = palloc_array(seal_window, Max(*ret_n, 1));

    for (size_t i = 0; i < *ret_n; i++) {
        const int64 day = mdl_day_start_ms(list[i].hour_ms);
        /* no rows are merged of an empty span */
        windows[i] = (seal_window){.metric_id = list[i].metric_id,
                                   .dist_key = list[i].dist_key,
                                   .from_ms = day,
                                   .to_ms = day,
                                   .width_ms = window_length(list[i].chunk_ms)};
        (void)choose_table(&d, &windows[i]);
    }
    return windows;
}

/* Errors that are about this moment or this session, not about the data of one window. */
static bool
is_passing(int sqlstate)
{
    switch (ERRCODE_TO_CATEGORY(sqlstate)) {
    case ERRCODE_TO_CATEGORY(ERRCODE_DATA_CORRUPTED):
    case ERRCODE_TO_CATEGORY(ERRCODE_FEATURE_NOT_SUPPORTED):
    case ERRCODE_TO_CATEGORY(ERRCODE_PROGRAM_LIMIT_EXCEEDED):
    case ERRCODE_TO_CATEGORY(ERRCODE_INVALID_PARAMETER_VALUE):
        return false;
    }
    return sqlstate != ERRCODE_OUT_OF_MEMORY;
}

/* What is left for later in this day, or that nothing is. */
static void
note_queue(const seal_window *w, bool wanted)
{
    static const Oid types[] = {INT4OID, INT8OID, TIMESTAMPTZOID};
    Datum values[] = {Int32GetDatum(w->metric_id), Int64GetDatum(w->dist_key),
                      maint_time(mdl_day_start_ms(w->from_ms))};
    MemoryContext old = CurrentMemoryContext;
    int rc = SPI_execute_with_args(
        wanted ? "INSERT INTO _prom_catalog.reseal_queue AS q (metric_id, dist_key, day) "
                 "VALUES ($1, $2, $3) ON CONFLICT (metric_id, day, dist_key) DO UPDATE "
                 "SET since = EXCLUDED.since"
               : "DELETE FROM _prom_catalog.reseal_queue "
                 "WHERE metric_id = $1 AND dist_key = $2 AND day = $3",
        lengthof(types), (Oid *)types, values, NULL, false, 0);

    MemoryContextSwitchTo(old);
    if (rc != (wanted ? SPI_OK_INSERT : SPI_OK_DELETE))
        elog(ERROR, "could not note a window to seal again: %s", SPI_result_code_string(rc));
}

/* True if the window was sealed, false if it failed. *ret_error then lives in s->context. */
static bool
try_window(seal *s, const seal_window *w, ErrorData **ret_error)
{
    MemoryContext old_context = CurrentMemoryContext;
    ResourceOwner old_owner = CurrentResourceOwner;
    const seal_stats before = s->stats;
    bool fragmented = false, held = false;
    volatile bool ok = true;

    s->guilty = NULL;
    maint_figures_mark(&s->figures);
    BeginInternalSubTransaction(NULL);
    MemoryContextSwitchTo(s->window_context);
    PG_TRY();
    {
        seal_one(s, w, &fragmented, &held);
        if (held)
            note_queue(w, true); /* when it can be read again */
        else if (s->zeal == SEAL_QUIET || s->zeal == SEAL_ALL)
            note_queue(w, false);
        else if (fragmented)
            note_queue(w, true);
        ReleaseCurrentSubTransaction();
    }
    PG_CATCH();
    {
        MemoryContextSwitchTo(s->context);
        *ret_error = CopyErrorData();
        FlushErrorState();
        RollbackAndReleaseCurrentSubTransaction();
        /* what is lost of one day's partition stops no other */
        if (is_passing((*ret_error)->sqlerrcode) && !maint_is_lost(*ret_error))
            ReThrowError(*ret_error);
        s->stats = before;
        maint_figures_take_back(&s->figures);
        ok = false;
    }
    PG_END_TRY();
    MemoryContextSwitchTo(old_context);
    CurrentResourceOwner = old_owner;
    return ok;
}

/* The window after it has failed: what is to blame is noted. */
static void
note_failure(seal *s, const seal_window *w, const ErrorData *error)
{
    const bool again = w->from_ms == w->to_ms;
    const char *what = again ? "reseal" : "seal";

    if (s->guilty != NULL)
        maint_note_error(what, s->guilty->id, &s->guilty->meta, error->message);
    else
        maint_note_day(what, w->metric_id, w->from_ms, again ? BLK_LEVEL_SEALED : BLK_LEVEL_MERGED,
                       error->message);
    if (again)
        note_queue(w, true); /* in an hour again */
}

/* True if the window was sealed, false if it failed and that was noted. What came late does not wait for a
 * sealed row that it lies upon and that cannot be read: one that is noted is left out. */
static bool
seal_window_or_note(seal *s, const seal_window *w)
{
    const seal_zeal zeal = s->zeal;

    for (int tries = 1;; tries++) {
        ErrorData *error = NULL;
        const bool ok = try_window(s, w, &error);
        const bool again = !ok && s->guilty != NULL && s->guilty->meta.level == BLK_LEVEL_SEALED &&
                           s->zeal != SEAL_PLAIN;

        if (!ok)
            note_failure(s, w, error);
        MemoryContextReset(s->window_context);
        if (!again) {
            s->zeal = zeal;
            return ok;
        }
        if (tries == SHUT_AT_ONCE)
            s->zeal = SEAL_PLAIN;
    }
}

static void
prepare_plans(seal *s)
{
    static const Oid types[] = {INT4OID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8ARRAYOID};
#define WINDOW_OF_METRIC                                                                           \
    "_prom_data.merged m WHERE m.metric_id = $1 AND m.dist_key = $2 AND m.t_min >= $3 AND m.t_min < $4"

    s->merged.heads =
        maint_prepare("SELECT " MAINT_HEAD_COLUMNS " FROM " WINDOW_OF_METRIC " ORDER BY m.id", 4,
                      types);
    /* id + 0: a filter; as an index condition each id would walk the whole range again */
    s->merged.rows = maint_prepare("SELECT " MAINT_ROW_COLUMNS " FROM " WINDOW_OF_METRIC
                                   " AND m.id + 0 = ANY ($5) ORDER BY m.id",
                                   5, types);
    s->merged.erase =
        maint_prepare("DELETE FROM " WINDOW_OF_METRIC " AND m.id + 0 = ANY ($5)", 5, types);
    s->insert = maint_prepare_insert("block", false);
    s->insert_far = maint_prepare_insert("block_far", false);
}

/* Sealed rows are frozen at once, while their pages are in memory and were written anyway. */
static void
want_vacuum(const seal_window *w, const seal_window *before)
{
    const int64 day = mdl_day_start_ms(w->from_ms);
    struct pg_tm tm;
    fsec_t fsec;

    if (w->far) {
        maint_want_vacuum("block_far", true);
    } else if (before == NULL || before->far || mdl_day_start_ms(before->from_ms) != day) {
        if (timestamp2tm(bridge_ms_to_timestamptz_unchecked(day), NULL, &tm, &fsec, NULL, NULL) !=
            0)
            elog(ERROR, "a day is out of range");
        maint_want_vacuum(psprintf("block_%04d%02d%02d", tm.tm_year, tm.tm_mon, tm.tm_mday), true);
    }
}

/* Returns how many windows were tried; adds failures to *failed. */
static size_t
seal_some(seal *s, bool again, bool force, int64 max_bytes, bool *more, int64 *failed)
{
    size_t n, i;
    seal_window *windows = again ? queued_windows(force, &n) : due_windows(force, &n);

    if (n == 0)
        return 0;
    maint_prefer_the_key();
    prepare_plans(s);
    s->slice_bytes = Min(max_bytes, SLICE_MAX_BYTES);
    for (i = 0; i < n && i < WINDOWS_PER_STEP && s->stats.bytes_in < max_bytes; i++) {
        if (!seal_window_or_note(s, &windows[i]))
            (*failed)++;
        else
            want_vacuum(&windows[i], i == 0 ? NULL : &windows[i - 1]);
        CHECK_FOR_INTERRUPTS();
    }
    maint_figures_write(&s->figures);
    if (!again)
        maint_want_vacuum("merged", false);
    *more = i < n;
    return i;
}

/* seal_step(p_force, p_max_bytes, OUT did, OUT busy, OUT more, OUT samples, ...) */
static Datum
run(FunctionCallInfo fcinfo, bool again)
{
    const bool force = PG_GETARG_BOOL(0);
    const int64 max_bytes = PG_GETARG_INT64(1);
    seal s = {.context = AllocSetContextCreate(CurrentMemoryContext, "promscale seal",
                                               ALLOCSET_DEFAULT_SIZES),
              .zeal = force   ? SEAL_ALL
                      : again ? SEAL_QUIET
                              : SEAL_SOON};
    bool busy = false, more = false;
    size_t windows = 0;
    int64 failed = 0;
    TupleDesc desc;

    if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE ||
        desc->natts != RESULT_COLUMNS)
        elog(ERROR, "the step is declared with other result columns");
    s.window_context =
        AllocSetContextCreate(s.context, "promscale seal window", ALLOCSET_DEFAULT_SIZES);
    s.figures.context = s.context;
    SPI_connect();
    const int guc_level = NewGUCNestLevel();
    if (maint_lock())
        windows = seal_some(&s, again, force, max_bytes, &more, &failed);
    else
        busy = true;
    AtEOXact_GUC(true, guc_level);
    SPI_finish();
    MemoryContextDelete(s.context);

    Datum values[RESULT_COLUMNS] = {
        BoolGetDatum(windows > 0),
        BoolGetDatum(busy),
        BoolGetDatum(more),
        Int64GetDatum(s.stats.samples),
        Int64GetDatum((int64)windows),
        Int64GetDatum(failed),
        Int64GetDatum(s.stats.rows_in),
        Int64GetDatum(s.stats.rows_out),
        Int64GetDatum(s.stats.duplicates),
        Int64GetDatum(s.stats.conflicts),
    };
    bool nulls[RESULT_COLUMNS] = {false};
    PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

Datum
seal_step(PG_FUNCTION_ARGS)
{
    return run(fcinfo, false);
}

Datum
reseal_step(PG_FUNCTION_ARGS)
{
    return run(fcinfo, true);
}
