/*
 * maint_presence.c - keeps _prom_data.presence: the set of series that have samples in a window, of each
 * tenant and metric.
 *
 * A fold notes the series of which it has written samples, window by window, and then adds what is new
 * to the sets: one statement reads the sets of a bucket, and where nothing is new, as nearly always,
 * that was all. recount_presence() makes the sets of a metric and day anew out of what is stored: after
 * rows were erased, or where a set is damaged.
 *
 * A set is kept in parts of a bounded number of ids, so that a series more does not rewrite a million.
 * Part `part_lo` holds the ids from there to the next part; the first begins at 0. A part that grows too
 * large is divided, and the others stay what they are.
 *
 * Under the maintenance lock nobody else changes these rows. Sets may hold ids of series that were
 * deleted: ids never come again, and whoever reads a set knows which series there are.
 */
#include "maint_fold.h"
#include "presence.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/date.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

enum { PART_IDS = 8192 };

typedef struct window_set {
    int32 tenant_id, metric_id;
    int64 window_ms;
    mdl_ids ids;
} window_set;

struct maint_presence {
    MemoryContext context; /* of the sets: reset when they are written */
    bridge_alloc alloc;
    window_set *sets; /* ascending by tenant, metric, window */
    size_t n, cap, last;
    SPIPlanPtr read, insert, update;
    MemoryContext set_context; /* of one set that is being written */
};

/* ---- what a step has seen ------------------------------------------------------------------ */

static maint_presence *
presence_new(MemoryContext parent)
{
    maint_presence *p = MemoryContextAllocZero(parent, sizeof(*p));

    p->context = AllocSetContextCreate(parent, "promscale presence", ALLOCSET_DEFAULT_SIZES);
    p->set_context =
        AllocSetContextCreate(parent, "promscale presence set", ALLOCSET_DEFAULT_SIZES);
    bridge_alloc_init(&p->alloc, p->context, PRESENCE_BUDGET);
    return p;
}

maint_presence *
fold_presence_new(fold *f)
{
    return presence_new(f->context);
}

static int
cmp_sets(const window_set *s, int32 tenant_id, int32 metric_id, int64 window_ms)
{
    int c = fold_stream_order((fold_stream){s->tenant_id, s->metric_id, 0},
                              (fold_stream){tenant_id, metric_id, 0});

    return c != 0 ? c : (s->window_ms > window_ms) - (s->window_ms < window_ms);
}

static mdl_ids *
set_of(maint_presence *p, int32 tenant_id, int32 metric_id, int64 window_ms)
{
    size_t lo = 0, hi = p->n;

    if (p->last < p->n && cmp_sets(&p->sets[p->last], tenant_id, metric_id, window_ms) == 0)
        return &p->sets[p->last].ids;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (cmp_sets(&p->sets[mid], tenant_id, metric_id, window_ms) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo == p->n || cmp_sets(&p->sets[lo], tenant_id, metric_id, window_ms) != 0) {
        if (p->n == p->cap) {
            p->cap = p->cap == 0 ? 64 : p->cap * 2;
            p->sets = p->sets == NULL
                          ? MemoryContextAllocHuge(p->context, p->cap * sizeof(*p->sets))
                          : repalloc_huge(p->sets, p->cap * sizeof(*p->sets));
        }
        memmove(p->sets + lo + 1, p->sets + lo, (p->n - lo) * sizeof(*p->sets));
        p->sets[lo] =
            (window_set){.tenant_id = tenant_id, .metric_id = metric_id, .window_ms = window_ms};
        mdl_ids_init(&p->sets[lo].ids, &p->alloc.alloc);
        p->n++;
    }
    p->last = lo;
    return &p->sets[lo].ids;
}

static void
forget_sets(maint_presence *p)
{
    MemoryContextReset(p->context);
    bridge_alloc_init(&p->alloc, p->context, PRESENCE_BUDGET);
    p->sets = NULL;
    p->n = p->cap = p->last = 0;
}

typedef struct noting {
    maint_presence *presence;
    int32 tenant_id, metric_id;
} noting;

static bool
note_run(void *self, int64 lo, int64 hi, int64 window_ms)
{
    const noting *n = self;

    return mdl_ids_add(set_of(n->presence, n->tenant_id, n->metric_id, window_ms), lo, hi) == PS_OK;
}

static bool
grow_note(fold_presence_note *note)
{
    const size_t cap = Max(64, note->cap * 2);
    fold_presence_run *runs = note->alloc->realloc(note->alloc->self, note->runs,
                                                   note->cap * sizeof(*runs), cap * sizeof(*runs));

    if (runs == NULL)
        return false;
    note->runs = runs;
    note->cap = cap;
    return true;
}

/* Called by the library, hence nothing is raised here. Times ascend; nearly always all of them lie in
 * one window. */
void
fold_presence_series(fold_presence_note *note, int64 series_id, const int64 *t_ms, size_t n)
{
    for (size_t i = 0; i < n;) {
        const int64 window_ms = mdl_window_start_ms(t_ms[i]);
        fold_presence_run *last = note->n > 0 ? &note->runs[note->n - 1] : NULL;

        if (last != NULL && last->window_ms == window_ms && last->hi + 1 == series_id) {
            last->hi = series_id;
        } else {
            if (note->n == note->cap && !grow_note(note)) {
                note->failed = true;
                return;
            }
            note->runs[note->n++] = (fold_presence_run){series_id, series_id, window_ms};
        }
        if (mdl_window_start_ms(t_ms[n - 1]) == window_ms)
            return;
        while (i < n && mdl_window_start_ms(t_ms[i]) == window_ms)
            i++;
    }
}

void
fold_presence_add(fold *f, int32 tenant_id, int32 metric_id, const fold_presence_note *note)
{
    noting n = {f->presence, tenant_id, metric_id};

    if (note->failed)
        presence_no_memory();
    for (size_t i = 0; i < note->n; i++) {
        const fold_presence_run *r = &note->runs[i];
        if (!note_run(&n, r->lo, r->hi, r->window_ms))
            presence_no_memory();
    }
}

/* ---- sets into the database ------------------------------------------------------------------- */

typedef struct part {
    int64 lo;
    ps_str bytes;
    bool lost; /* the server cannot bring them */
} part;

static part
part_of(int64 lo, Datum set)
{
    part p = {.lo = lo};
    ps_err err;

    p.lost = presence_set_bytes(set, &p.bytes, &err) != PS_OK;
    return p;
}

typedef struct id_list {
    int64 *items;
    size_t n;
    const mdl_ids *without; /* NULL: all */
} id_list;

static void
list_ids(void *self, int64_t lo, int64_t hi)
{
    id_list *l = self;

    for (int64 id = lo; id <= hi; id++) {
        if (l->without == NULL || !mdl_ids_has(l->without, id))
            l->items[l->n++] = id;
    }
}

static id_list
ids_of(mdl_ids *set, const mdl_ids *without)
{
    id_list l = {.without = without};

    l.items = palloc_extended((set->count + 1) * sizeof(int64), MCXT_ALLOC_HUGE);
    mdl_ids_runs(set, list_ids, &l);
    return l;
}

static void
put_part(maint_presence *p, const window_set *s, int64 part_lo, const int64 *ids, size_t n,
         bool exists)
{
    bridge_alloc alloc;
    ps_buf buf;

    bridge_alloc_init(&alloc, CurrentMemoryContext, PRESENCE_BUDGET);
    ps_buf_init(&buf, &alloc.alloc);
    mdl_ids_encode(ids, n, &buf);
    if (buf.failed)
        presence_no_memory();
    bytea *bytes = palloc(VARHDRSZ + buf.len);
    SET_VARSIZE(bytes, VARHDRSZ + buf.len);
    memcpy(VARDATA(bytes), buf.ptr, buf.len);
    Datum values[] = {Int32GetDatum(s->tenant_id),
                      Int32GetDatum(s->metric_id),
                      Int64GetDatum(mdl_dist_key(s->tenant_id, s->metric_id)),
                      maint_time(s->window_ms),
                      Int64GetDatum(part_lo),
                      Int32GetDatum((int32)n),
                      PointerGetDatum(bytes)};
    if (maint_run(exists ? p->update : p->insert, values, NULL,
                  exists ? SPI_OK_UPDATE : SPI_OK_INSERT) != 1)
        ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
                        errmsg("a set of series has changed under the merge")));
}

/* The part that exists keeps its beginning; what does not fit goes into parts of half the size. */
static void
put_ids(maint_presence *p, const window_set *s, int64 part_lo, const int64 *ids, size_t n,
        bool exists)
{
    const size_t step = n <= PART_IDS ? n : PART_IDS / 2;

    for (size_t at = 0; at < n; at += step) {
        put_part(p, s, at == 0 ? part_lo : ids[at], ids + at, Min(step, n - at), exists && at == 0);
        CHECK_FOR_INTERRUPTS();
    }
}

/* False: the part is damaged. */
static bool
read_part(const part *from, mdl_ids *into)
{
    ps_err err;
    ps_status status = from->lost ? PS_ECORRUPT : mdl_ids_read(into, from->bytes, &err);

    if (status == PS_ENOMEM)
        presence_no_memory();
    return status == PS_OK;
}

/* Adds a set to its parts (ascending). False: one of them is damaged, and nothing was written. */
static bool
write_set(maint_presence *p, window_set *s, const part *parts, size_t n_parts)
{
    bridge_alloc alloc;
    mdl_ids old;
    size_t at = 0;

    bridge_alloc_init(&alloc, p->set_context, PRESENCE_BUDGET);
    mdl_ids_init(&old, &alloc.alloc);
    for (size_t i = 0; i < n_parts; i++) {
        if (!read_part(&parts[i], &old))
            return false;
    }
    id_list fresh = ids_of(&s->ids, &old);
    if (n_parts == 0)
        put_ids(p, s, 0, fresh.items, fresh.n, false);
    for (size_t i = 0; i < n_parts && at < fresh.n; i++) {
        mdl_ids grown;
        size_t first = at;

        mdl_ids_init(&grown, &alloc.alloc);
        for (; at < fresh.n && (i + 1 == n_parts || fresh.items[at] < parts[i + 1].lo); at++) {
            if (mdl_ids_add(&grown, fresh.items[at], fresh.items[at]) != PS_OK)
                presence_no_memory();
        }
        if (at == first)
            continue;
        (void)read_part(&parts[i], &grown);
        id_list all = ids_of(&grown, NULL);
        put_ids(p, s, parts[i].lo, all.items, all.n, true);
    }
    return true;
}

static void
prepare(maint_presence *p)
{
    static const Oid keys[] = {INT4ARRAYOID, INT4ARRAYOID, TIMESTAMPTZARRAYOID, INT8ARRAYOID};
    static const Oid row[] = {INT4OID, INT4OID, INT8OID, TIMESTAMPTZOID,
                              INT8OID, INT4OID, BYTEAOID};

    if (p->read != NULL)
        return;
    p->read = maint_prepare("SELECT u.i, p.part_lo, p.series_ids FROM unnest($1, $2, $3, $4)"
                            " WITH ORDINALITY u (tenant_id, metric_id, window_start, dist_key, i)"
                            " JOIN _prom_data.presence p ON p.metric_id = u.metric_id"
                            " AND p.window_start = u.window_start AND p.dist_key = u.dist_key"
                            " AND p.tenant_id = u.tenant_id ORDER BY u.i, p.part_lo",
                            lengthof(keys), keys);
    p->insert = maint_prepare("INSERT INTO _prom_data.presence (tenant_id, metric_id, dist_key,"
                              " window_start, part_lo, n_series, series_ids)"
                              " VALUES ($1, $2, $3, $4, $5, $6, $7)",
                              lengthof(row), row);
    p->update = maint_prepare(
        "UPDATE _prom_data.presence SET n_series = $6, series_ids = $7"
        " WHERE tenant_id = $1 AND metric_id = $2 AND dist_key = $3 AND window_start = $4"
        " AND part_lo = $5",
        lengthof(row), row);
}

/* The parts of sets first to last - 1, ordered, in SPI_tuptable. */
static void
read_sets(maint_presence *p, size_t first, size_t last)
{
    const size_t n = last - first;
    int32 *tenants = palloc_array(int32, n), *metrics = palloc_array(int32, n);
    int64 *windows = palloc_array(int64, n), *dists = palloc_array(int64, n);

    for (size_t i = 0; i < n; i++) {
        const window_set *s = &p->sets[first + i];
        tenants[i] = s->tenant_id;
        metrics[i] = s->metric_id;
        windows[i] = s->window_ms;
        dists[i] = mdl_dist_key(s->tenant_id, s->metric_id);
    }
    Datum values[] = {maint_int4_array(tenants, n), maint_int4_array(metrics, n),
                      maint_time_array(windows, n), maint_int8_array(dists, n)};
    maint_run(p->read, values, NULL, SPI_OK_SELECT);
}

/* Rows of the set number i (from 1) are next in the table. */
static part *
next_parts(const SPITupleTable *table, uint64 n_rows, uint64 *at, int64 i, size_t *ret_n)
{
    bool isnull;
    size_t n = 0, cap = 4;
    part *parts = palloc_array(part, cap);

    for (; *at < n_rows; (*at)++) {
        HeapTuple tuple = table->vals[*at];
        if (DatumGetInt64(SPI_getbinval(tuple, table->tupdesc, 1, &isnull)) != i)
            break;
        if (n == cap)
            parts = repalloc_array(parts, part, cap *= 2);
        parts[n++] = part_of(DatumGetInt64(SPI_getbinval(tuple, table->tupdesc, 2, &isnull)),
                             SPI_getbinval(tuple, table->tupdesc, 3, &isnull));
    }
    *ret_n = n;
    return parts;
}

/* A set with a damaged part is made anew from what is stored, this step's rows included. */
static void
repair_set(const window_set *s)
{
    static const Oid types[] = {INT4OID, TIMESTAMPTZOID};
    Datum values[] = {Int32GetDatum(s->metric_id), maint_time(mdl_day_start_ms(s->window_ms))};

    ereport(LOG, (errmsg("promscale merge: the sets of series of metric %d are made anew,"
                         " one of them is damaged",
                         s->metric_id)));
    SPIPlanPtr plan = maint_prepare("SELECT _prom_ext.recount_presence(ARRAY[$1], ARRAY[$2])",
                                    lengthof(types), types);
    maint_run(plan, values, NULL, SPI_OK_SELECT);
    SPI_freetuptable(SPI_tuptable);
    SPI_freeplan(plan);
}

/* Returns the first set that has a damaged part, or last. */
static size_t
write_sets(maint_presence *p, size_t first, size_t last)
{
    MemoryContext old = CurrentMemoryContext;
    uint64 at = 0;
    size_t i;

    read_sets(p, first, last);
    SPITupleTable *table = SPI_tuptable;
    const uint64 n_rows = SPI_processed;
    for (i = first; i < last; i++) {
        size_t n;

        MemoryContextSwitchTo(p->set_context);
        part *parts = next_parts(table, n_rows, &at, (int64)(i - first) + 1, &n);
        bool written = write_set(p, &p->sets[i], parts, n);
        MemoryContextSwitchTo(old);
        MemoryContextReset(p->set_context);
        if (!written)
            break;
        CHECK_FOR_INTERRUPTS();
    }
    SPI_freetuptable(table);
    return i;
}

static void
write_all(maint_presence *p)
{
    enum { SETS_AT_ONCE = 4096 };
    size_t repaired = SIZE_MAX;

    if (p->n > 0)
        prepare(p);
    for (size_t at = 0; at < p->n;) {
        const size_t end = Min(at + SETS_AT_ONCE, p->n);
        at = write_sets(p, at, end);
        if (at == end)
            continue;
        if (at == repaired)
            ereport(ERROR,
                    (errcode(ERRCODE_DATA_CORRUPTED), errmsg("a set of series stays damaged")));
        repair_set(&p->sets[at]);
        repaired = at;
    }
    forget_sets(p);
}

void
fold_presence_write(fold *f)
{
    write_all(f->presence);
}

/* ---- from what is stored --------------------------------------------------------------------- */

/* Do the row's times look like those of a block? Whoever wrote others by hand must not stop retention. */
static bool
has_times(HeapTuple tuple, TupleDesc desc)
{
    enum { T_MIN = 9, T_MAX = 10 }; /* columns */
    bool null_min, null_max;
    int64 ms;
    TimestampTz t_min = DatumGetTimestampTz(SPI_getbinval(tuple, desc, T_MIN, &null_min));
    TimestampTz t_max = DatumGetTimestampTz(SPI_getbinval(tuple, desc, T_MAX, &null_max));

    return !null_min && !null_max && bridge_timestamptz_to_ms(t_min, &ms) &&
           bridge_timestamptz_to_ms(t_max, &ms);
}

/* Notes the series of a block. False: it cannot be read. */
static bool
note_block(maint_presence *p, HeapTuple tuple, TupleDesc desc)
{
    bool isnull;
    blk_meta meta;
    blk_reader *reader;
    bridge_alloc alloc;
    presence_scratch scratch = {0};
    ps_err err;

    if (!has_times(tuple, desc))
        return false;
    bridge_meta_from_tuple(tuple, desc, 1, &meta);
    bytea *data = DatumGetByteaPP(SPI_getbinval(tuple, desc, BRIDGE_META_N + 1, &isnull));
    ps_str bytes = {VARDATA_ANY(data), VARSIZE_ANY_EXHDR(data)};
    noting n = {p, meta.tenant_id, meta.metric_id};
    bridge_alloc_init(&alloc, CurrentMemoryContext, PRESENCE_BUDGET);
    ps_status status = mdl_window_start_ms(meta.t_min_ms) == mdl_window_start_ms(meta.t_max_ms)
                           ? blk_reader_open_head(&alloc.alloc, bytes, &meta, &reader, &err)
                           : blk_reader_open(&alloc.alloc, bytes, &meta, &reader, &err);
    if (status != PS_OK)
        return false;
    const presence_range g = {
        reader,       0,           blk_reader_n_series(reader), meta.t_min_ms, meta.t_max_ms,
        PG_INT64_MIN, PG_INT64_MAX};
    return presence_of_range(&g, &scratch, note_run, &n, &err) == PS_OK;
}

static void
note_blocks(maint_presence *p, Datum *values, bool *ret_damaged)
{
    static const Oid types[] = {INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID};
    static const char head[] = "CASE WHEN date_bin('8 hours', t_min, '2000-01-01 00:00:00+00') ="
                               " date_bin('8 hours', t_max, '2000-01-01 00:00:00+00')"
                               " THEN _prom_ext.block_head(data) ELSE data END";
    static const char where[] = "WHERE metric_id = $1 AND t_min >= $2 AND t_min < $3";
    Portal portal = SPI_cursor_open_with_args(
        NULL,
        psprintf("SELECT " BRIDGE_META_COLUMNS ", %1$s FROM _prom_data.merged %2$s"
                 " UNION ALL SELECT " BRIDGE_META_COLUMNS ", %1$s FROM _prom_data.block %2$s"
                 " UNION ALL SELECT " BRIDGE_META_COLUMNS ", %1$s FROM _prom_data.block_far %2$s",
                 head, where),
        lengthof(types), (Oid *)types, values, NULL, false, 0);

    for (;;) {
        SPI_cursor_fetch(portal, true, 100);
        if (SPI_processed == 0)
            break;
        for (uint64 i = 0; i < SPI_processed; i++) {
            MemoryContext old = MemoryContextSwitchTo(p->set_context);
            if (!note_block(p, SPI_tuptable->vals[i], SPI_tuptable->tupdesc))
                *ret_damaged = true;
            MemoryContextSwitchTo(old);
            MemoryContextReset(p->set_context);
            CHECK_FOR_INTERRUPTS();
        }
        SPI_freetuptable(SPI_tuptable);
    }
    SPI_cursor_close(portal);
}

/* What a block that cannot be read holds is known from the sets only: what is in them stays. */
static void
note_old_sets(maint_presence *p, int32 metric_id, Datum *values)
{
    static const Oid types[] = {INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID};

    ereport(WARNING, (errcode(ERRCODE_DATA_CORRUPTED),
                      errmsg("a block of metric %d cannot be read; its sets of series are added to,"
                             " nothing is taken out",
                             metric_id)));
    if (SPI_execute_with_args("SELECT tenant_id, window_start, series_ids FROM _prom_data.presence"
                              " WHERE metric_id = $1 AND window_start >= $2 AND window_start < $3",
                              lengthof(types), (Oid *)types, values, NULL, false,
                              0) != SPI_OK_SELECT)
        elog(ERROR, "could not read sets of series");
    for (uint64 i = 0; i < SPI_processed; i++) {
        HeapTuple tuple = SPI_tuptable->vals[i];
        TupleDesc desc = SPI_tuptable->tupdesc;
        bool isnull;
        part old = part_of(0, SPI_getbinval(tuple, desc, 3, &isnull));
        int64 window_ms = bridge_timestamptz_floor_ms(
            DatumGetTimestampTz(SPI_getbinval(tuple, desc, 2, &isnull)));
        int32 tenant_id = DatumGetInt32(SPI_getbinval(tuple, desc, 1, &isnull));

        (void)read_part(&old, set_of(p, tenant_id, metric_id, window_ms));
    }
    SPI_freetuptable(SPI_tuptable);
}

/* Kept for the session: planning takes longer than what they do for a metric's day. */
static SPIPlanPtr
kept_plan(SPIPlanPtr *plan, const char *sql, int n_args, const Oid *types)
{
    if (*plan == NULL) {
        SPIPlanPtr made = maint_prepare(sql, n_args, types);

        SPI_keepplan(made);
        *plan = made;
    }
    return *plan;
}

/* Ids of series that were deleted are left out. */
static void
keep_living(maint_presence *p)
{
    static const Oid types[] = {INT8ARRAYOID};
    static SPIPlanPtr kept;
    SPIPlanPtr living = kept_plan(&kept,
                                  "SELECT s.id FROM unnest($1) u(id)"
                                  " JOIN _prom_catalog.series s ON s.id = u.id",
                                  lengthof(types), types);

    for (size_t i = 0; i < p->n; i++) {
        MemoryContext old = MemoryContextSwitchTo(p->set_context);
        id_list l = ids_of(&p->sets[i].ids, NULL);
        Datum values[] = {maint_int8_array(l.items, l.n)};
        MemoryContextSwitchTo(old);
        maint_run(living, values, NULL, SPI_OK_SELECT);
        mdl_ids_done(&p->sets[i].ids);
        for (uint64 k = 0; k < SPI_processed; k++) {
            bool isnull;
            int64 id = DatumGetInt64(
                SPI_getbinval(SPI_tuptable->vals[k], SPI_tuptable->tupdesc, 1, &isnull));
            if (mdl_ids_add(&p->sets[i].ids, id, id) != PS_OK)
                presence_no_memory();
        }
        SPI_freetuptable(SPI_tuptable);
        MemoryContextReset(p->set_context);
    }
}

static void
recount_day(maint_presence *p, int32 metric_id, TimestampTz day)
{
    static const Oid types[] = {INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID};
    static SPIPlanPtr kept;
    Datum values[] = {Int32GetDatum(metric_id), TimestampTzGetDatum(day),
                      TimestampTzGetDatum(day + USECS_PER_DAY)};
    bool damaged = false;

    note_blocks(p, values, &damaged);
    if (damaged)
        note_old_sets(p, metric_id, values);
    keep_living(p);
    maint_run(kept_plan(&kept,
                        "DELETE FROM _prom_data.presence WHERE metric_id = $1"
                        " AND window_start >= $2 AND window_start < $3",
                        lengthof(types), types),
              values, NULL, SPI_OK_DELETE);
    write_all(p);
}

/* recount_presence(metrics, starts of days): pairs of them. The caller holds the maintenance lock. */
PG_FUNCTION_INFO_V1(recount_presence);
Datum
recount_presence(PG_FUNCTION_ARGS)
{
    Datum *metrics, *days;
    bool *null_metrics, *null_days;
    int n, n_days;

    deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), INT4OID, sizeof(int32), true, TYPALIGN_INT,
                      &metrics, &null_metrics, &n);
    deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), TIMESTAMPTZOID, sizeof(TimestampTz), true,
                      TYPALIGN_DOUBLE, &days, &null_days, &n_days);
    if (n != n_days)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("as many days as metrics are needed")));
    maint_presence *p = presence_new(CurrentMemoryContext);
    SPI_connect();
    for (int i = 0; i < n; i++) {
        if (null_metrics[i] || null_days[i])
            ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
                            errmsg("metrics and days must not be null")));
        int64 ms = bridge_timestamptz_floor_ms(DatumGetTimestampTz(days[i]));
        if (ms != mdl_day_start_ms(ms))
            ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                            errmsg("a day begins at midnight, UTC")));
        recount_day(p, DatumGetInt32(metrics[i]), DatumGetTimestampTz(days[i]));
    }
    SPI_finish();
    PG_RETURN_INT32(n);
}
