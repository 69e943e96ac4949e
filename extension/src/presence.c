/*
 * presence.c - which series of a tenant have samples between two times, to the window: series_alive().
 *
 * Two sources, read as the calling user under one snapshot: the sets that folding keeps in
 * _prom_data.presence, and the directories of fresh rows, which are in no set yet. The union is a set
 * in memory, bounded by a budget, and leaves as bytes (lib/model/ids.c). Scans ask the same of one metric
 * of all tenants, presence_of_metric(), and read all of its series where the sets are of no help.
 */
#include "presence.h"

#include "damage.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rls.h"
#include "utils/timestamp.h"

enum { ROWS_AT_ONCE = 500 };

typedef struct alive {
    bridge_alloc alloc;
    mdl_ids ids;
    int32 *metrics; /* ascending; NULL: all */
    int n_metrics;
    int64 from_ms, to_ms; /* whole windows */
    bool fresh_only;      /* the sets are left out */
    bool tolerant;        /* a set that cannot be read makes the answer of no use, and no error */
    bool damaged;         /* there was one */
    uint64 n_sets;
    MemoryContext row_context; /* of one row */
} alive;

void
presence_no_memory(void)
{
    ereport(ERROR,
            (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
             errmsg("sets of series need more than %zu MB", PRESENCE_BUDGET >> 20),
             errhint("Ask for a shorter time or for fewer metrics.")));
}

/* All of it is in one window: only ids matter, which often follow each other. */
static void
add_ids(const presence_range *g, int64 window_ms, presence_fn fn, void *self)
{
    blk_series s;
    int64 lo = 0, hi = -1;

    for (uint32 i = g->first; i < g->end; i++) {
        blk_reader_series(g->reader, i, &s);
        if (hi >= lo && s.series_id == hi + 1) {
            hi++;
            continue;
        }
        if (hi >= lo && !fn(self, lo, hi, window_ms))
            presence_no_memory();
        lo = hi = s.series_id;
    }
    if (hi >= lo && !fn(self, lo, hi, window_ms))
        presence_no_memory();
}

/* A series that spans windows, or may. */
static ps_status
add_series(const presence_range *g, uint32 i, presence_scratch *scratch, presence_fn fn, void *self,
           ps_err *err)
{
    blk_series s;
    size_t lo, n;
    int64 window = PG_INT64_MIN;

    blk_reader_series(g->reader, i, &s);
    if (s.t_last_ms < g->from_ms || s.t_first_ms > g->to_ms)
        return PS_OK;
    if (mdl_window_start_ms(s.t_first_ms) == mdl_window_start_ms(s.t_last_ms)) {
        if (!fn(self, s.series_id, s.series_id, mdl_window_start_ms(s.t_first_ms)))
            presence_no_memory();
        return PS_OK;
    }
    if (s.n_samples > scratch->cap) {
        if (scratch->t_ms != NULL)
            pfree(scratch->t_ms);
        scratch->cap = s.n_samples;
        scratch->t_ms = palloc_extended(scratch->cap * sizeof(int64), MCXT_ALLOC_HUGE);
    }
    PS_TRY(blk_reader_times(g->reader, i, g->from_ms, g->to_ms, scratch->t_ms, &lo, &n, err));
    for (size_t k = 0; k < n; k++) {
        if (window != PG_INT64_MIN && scratch->t_ms[k] < window + MDL_WINDOW_MS)
            continue;
        window = mdl_window_start_ms(scratch->t_ms[k]);
        if (!fn(self, s.series_id, s.series_id, window))
            presence_no_memory();
    }
    return PS_OK;
}

ps_status
presence_of_range(const presence_range *g, presence_scratch *scratch, presence_fn fn, void *self,
                  ps_err *err)
{
    const int64 window_ms = mdl_window_start_ms(g->t_min_ms);

    if (g->t_max_ms < g->from_ms || g->t_min_ms > g->to_ms)
        return PS_OK;
    if (window_ms == mdl_window_start_ms(g->t_max_ms)) {
        add_ids(g, window_ms, fn, self);
        return PS_OK;
    }
    for (uint32 i = g->first; i < g->end; i++)
        PS_TRY(add_series(g, i, scratch, fn, self, err));
    return PS_OK;
}

/* ---- the two sources ---------------------------------------------------------------------- */

static bool
add_run(void *self, int64 lo, int64 hi, int64 window_ms)
{
    alive *a = self;

    return mdl_ids_add(&a->ids, lo, hi) == PS_OK;
}

ps_status
presence_set_bytes(Datum set, ps_str *ret, ps_err *err)
{
    struct varlena *data = (struct varlena *)DatumGetPointer(set);

    /* a set in its row cannot be lost alone: no subtransaction for most of them */
    if (VARATT_IS_EXTERNAL(data))
        PS_TRY(damage_detoast(data, 0, &data, err));
    else
        data = PG_DETOAST_DATUM_PACKED(set);
    *ret = (ps_str){VARDATA_ANY(data), VARSIZE_ANY_EXHDR(data)};
    return PS_OK;
}

static void
add_set(alive *a, HeapTuple tuple, TupleDesc desc)
{
    bool isnull;
    ps_err err;
    ps_str set;
    ps_status status = presence_set_bytes(SPI_getbinval(tuple, desc, 1, &isnull), &set, &err);

    if (status == PS_OK)
        status = mdl_ids_read(&a->ids, set, &err);
    a->n_sets++;
    if (status == PS_ENOMEM)
        presence_no_memory();
    if (status != PS_OK && a->tolerant)
        a->damaged = true;
    else if (status != PS_OK)
        bridge_raise(status, &err,
                     psprintf("It is that of metric %s in the window that begins at %s.",
                              SPI_getvalue(tuple, desc, 2), SPI_getvalue(tuple, desc, 3)),
                     "_prom_catalog.recount_presence() makes it anew.");
}

/* All ids from the lowest to the highest, in one window: nothing to look up inside. */
static bool
is_solid(const alive *a, const blk_meta *m)
{
    return (m->metric_id > 0 || a->metrics == NULL) && m->n_series > 0 &&
           m->n_series <= BLK_FLUSH_MAX_SAMPLES && m->series_lo > 0 &&
           m->series_hi - m->series_lo == m->n_series - 1 &&
           mdl_window_start_ms(m->t_min_ms) == mdl_window_start_ms(m->t_max_ms);
}

/* The series of a block that lie in the range. */
static ps_status
add_block(alive *a, const blk_meta *meta, Datum value, ps_err *err)
{
    struct varlena *data;
    blk_reader *reader;
    presence_scratch scratch = {0};
    bridge_alloc alloc;

    PS_TRY(damage_detoast((struct varlena *)DatumGetPointer(value), 0, &data, err));
    bridge_alloc_init(&alloc, a->row_context, PRESENCE_BUDGET);
    PS_TRY(blk_reader_open_lazy(&alloc.alloc, (ps_str){VARDATA_ANY(data), VARSIZE_ANY_EXHDR(data)},
                                meta, &reader, err));
    presence_range g = {reader, 0, blk_reader_n_series(reader), meta->t_min_ms, meta->t_max_ms,
                        a->from_ms, a->to_ms};
    if (meta->metric_id > 0 || a->metrics == NULL)
        return presence_of_range(&g, &scratch, add_run, a, err);
    for (int i = 0; i < a->n_metrics; i++) {
        if (mdl_bucket(a->metrics[i]) != meta->metric_id)
            continue;
        g.first = blk_reader_seek(reader, a->metrics[i], PG_INT64_MIN);
        g.end = a->metrics[i] == PG_INT32_MAX
                    ? blk_reader_n_series(reader)
                    : blk_reader_seek(reader, a->metrics[i] + 1, PG_INT64_MIN);
        PS_TRY(presence_of_range(&g, &scratch, add_run, a, err));
    }
    return PS_OK;
}

static void
add_row(alive *a, HeapTuple tuple, TupleDesc desc)
{
    bool isnull;
    blk_meta meta;
    ps_err err = {0};
    ps_status status = bridge_meta_read(tuple, desc, 1, &meta, &err);

    if (status == PS_OK)
        status = damage_check_row(&meta, &err);
    if (status == PS_OK && is_solid(a, &meta)) {
        if (mdl_ids_add(&a->ids, meta.series_lo, meta.series_hi) != PS_OK)
            presence_no_memory();
        return;
    }
    if (status == PS_OK)
        status = add_block(a, &meta, SPI_getbinval(tuple, desc, BRIDGE_META_N + 1, &isnull), &err);
    if (damage_is(status))
        damage_found("_prom_data.fresh",
                     DatumGetInt64(SPI_getbinval(tuple, desc, BRIDGE_META_N + 2, &isnull)), &meta,
                     status, &err);
    else
        bridge_check(status, &err);
}

typedef void (*row_fn)(alive *a, HeapTuple tuple, TupleDesc desc);

typedef enum source { SETS, FRESH } source;
typedef enum whose { OF_TENANT, OF_METRICS /* and tenant */, OF_METRICS_ALONE, N_WHOSE } whose;

/* Operators are named with their schema: scans run with the search_path of their caller. */
#define EQ " OPERATOR(pg_catalog.=) "
#define LE " OPERATOR(pg_catalog.<=) "
#define GE " OPERATOR(pg_catalog.>=) "

/* Kept for the session: connectors ask with every query, and planning takes longer than reading. */
static SPIPlanPtr
plan_of(source of, whose which)
{
    static const char *const sql[] = {
        "SELECT series_ids, metric_id, window_start FROM _prom_data.presence "
        "WHERE window_start" GE "$3 AND window_start" LE "$4%s",
        "SELECT " BRIDGE_META_COLUMNS ", data, id FROM _prom_data.fresh "
        "WHERE t_max" GE "$3 AND t_min" LE "$4%s"};
    static const char *const more[N_WHOSE] = {
        " AND tenant_id" EQ "$1", " AND tenant_id" EQ "$1 AND metric_id" EQ "ANY ($2)",
        " AND metric_id" EQ "ANY ($2)"};
    static const Oid types[] = {INT4OID, INT4ARRAYOID, TIMESTAMPTZOID, TIMESTAMPTZOID};
    static SPIPlanPtr plans[2][N_WHOSE];
    SPIPlanPtr *plan = &plans[of][which];

    if (*plan == NULL) {
        SPIPlanPtr made =
            SPI_prepare(psprintf(sql[of], more[which]), lengthof(types), (Oid *)types);
        if (made == NULL)
            elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
        SPI_keepplan(made);
        *plan = made;
    }
    return *plan;
}

/* Rows in portions, so that memory holds few of them. */
static void
for_each_row(alive *a, SPIPlanPtr plan, Datum *values, const char *nulls, row_fn fn)
{
    Portal portal = SPI_cursor_open(NULL, plan, values, nulls, true);

    for (;;) {
        SPI_cursor_fetch(portal, true, ROWS_AT_ONCE);
        if (SPI_processed == 0)
            break;
        for (uint64 i = 0; i < SPI_processed; i++) {
            MemoryContext old = MemoryContextSwitchTo(a->row_context);
            fn(a, SPI_tuptable->vals[i], SPI_tuptable->tupdesc);
            MemoryContextSwitchTo(old);
            MemoryContextReset(a->row_context);
            CHECK_FOR_INTERRUPTS();
        }
        SPI_freetuptable(SPI_tuptable);
    }
    SPI_cursor_close(portal);
}

/* ---- the function --------------------------------------------------------------------------- */

static int
cmp_metrics(const void *a, const void *b)
{
    int32 x = *(const int32 *)a, y = *(const int32 *)b;

    return (x > y) - (x < y);
}

/* Sorts a copy of the metrics. *ret_rows: as fresh rows name them, buckets included. */
static void
read_metrics(alive *a, ArrayType *array, Datum *ret_rows)
{
    Datum *items, *rows;
    bool *nulls;

    deconstruct_array(array, INT4OID, sizeof(int32), true, TYPALIGN_INT, &items, &nulls,
                      &a->n_metrics);
    a->metrics = palloc_array(int32, a->n_metrics + 1);
    rows = palloc_array(Datum, a->n_metrics + MDL_BUCKETS);
    for (int i = 0; i < a->n_metrics; i++) {
        if (nulls[i])
            ereport(ERROR,
                    (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("metric ids must not be null")));
        a->metrics[i] = DatumGetInt32(items[i]);
        rows[i] = items[i];
    }
    qsort(a->metrics, a->n_metrics, sizeof(int32), cmp_metrics);
    int n = a->n_metrics;
    uint32 buckets = 0;
    for (int i = 0; i < a->n_metrics; i++)
        buckets |= UINT32_C(1) << (-mdl_bucket(a->metrics[i]) - 1);
    for (int32 b = 0; b < MDL_BUCKETS; b++) {
        if ((buckets >> b & 1) != 0)
            rows[n++] = Int32GetDatum(-b - 1);
    }
    *ret_rows = PointerGetDatum(
        construct_array(rows, n, INT4OID, sizeof(int32), true, TYPALIGN_INT));
}

static TimestampTz
time_of(int64 ms)
{
    TimestampTz t;

    if (!bridge_ms_to_timestamptz(ms, &t))
        return ms < 0 ? DT_NOBEGIN : DT_NOEND;
    return t;
}

/* The range, in whole windows. */
static void
widen(int64 *from_ms, int64 *to_ms)
{
    *from_ms = mdl_window_start_ms(*from_ms);
    if (*to_ms < PG_INT64_MAX - MDL_WINDOW_MS)
        *to_ms = mdl_window_start_ms(*to_ms) + MDL_WINDOW_MS - 1;
}

static void
read_sources(alive *a, Datum *values, char *nulls, Datum rows)
{
    const whose which = a->metrics == NULL ? OF_TENANT : OF_METRICS;

    if (!a->fresh_only)
        for_each_row(a, plan_of(SETS, which), values, nulls, add_set);
    if (a->metrics != NULL)
        values[1] = rows;
    for_each_row(a, plan_of(FRESH, which), values, nulls, add_row);
}

/* ---- for scans --------------------------------------------------------------------------------- */

bool
presence_may_be_read(void)
{
    Oid schema = get_namespace_oid("_prom_data", true);
    Oid table = OidIsValid(schema) ? get_relname_relid("presence", schema) : InvalidOid;

    return OidIsValid(table) &&
           pg_class_aclcheck(table, GetUserId(), ACL_SELECT) == ACLCHECK_OK &&
           check_enable_rls(table, InvalidOid, true) != RLS_ENABLED;
}

typedef struct id_array {
    Datum *items;
    int n;
} id_array;

static void
list_run(void *self, int64_t lo, int64_t hi)
{
    id_array *to = self;

    for (int64 id = lo; id <= hi; id++)
        to->items[to->n++] = Int64GetDatum(id);
}

ArrayType *
presence_of_metric(int32 metric_id, int64 *from_ms, int64 *to_ms, uint64 most)
{
    MemoryContext caller = CurrentMemoryContext;
    MemoryContext context;
    ArrayType *ret = NULL;
    alive a = {.metrics = &metric_id, .n_metrics = 1, .tolerant = true};
    const char nulls[] = "n   ";

    if (!presence_may_be_read())
        return NULL;
    context = AllocSetContextCreate(caller, "promscale alive", ALLOCSET_DEFAULT_SIZES);
    MemoryContextSwitchTo(context);
    a.row_context =
        AllocSetContextCreate(context, "promscale alive row", ALLOCSET_DEFAULT_SIZES);
    bridge_alloc_init(&a.alloc, context, PRESENCE_BUDGET);
    mdl_ids_init(&a.ids, &a.alloc.alloc);
    widen(from_ms, to_ms);
    a.from_ms = *from_ms;
    a.to_ms = *to_ms;

    Datum rows[] = {Int32GetDatum(metric_id), Int32GetDatum(mdl_bucket(metric_id))};
    Datum values[] = {(Datum)0,
                      PointerGetDatum(construct_array(rows, lengthof(rows), INT4OID, sizeof(int32),
                                                      true, TYPALIGN_INT)),
                      TimestampTzGetDatum(time_of(a.from_ms)),
                      TimestampTzGetDatum(time_of(a.to_ms))};
    for_each_row(&a, plan_of(SETS, OF_METRICS_ALONE), values, nulls, add_set);
    if (a.n_sets > 0 && !a.damaged && a.ids.count <= most)
        for_each_row(&a, plan_of(FRESH, OF_METRICS_ALONE), values, nulls, add_row);
    if (a.n_sets > 0 && !a.damaged && a.ids.count <= most) {
        id_array to = {.items = palloc_array(Datum, a.ids.count + 1)};

        mdl_ids_runs(&a.ids, list_run, &to);
        MemoryContextSwitchTo(caller);
        ret = construct_array(to.items, to.n, INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
                              TYPALIGN_DOUBLE);
    }
    MemoryContextSwitchTo(caller);
    MemoryContextDelete(context);
    return ret;
}

/* series_alive(tenant, metrics or NULL, from, to [, fresh_only]) -> a set of ids */
PG_FUNCTION_INFO_V1(series_alive);
Datum
series_alive(PG_FUNCTION_ARGS)
{
    alive a = {0};
    Datum rows = (Datum)0;
    char nulls[] = {' ', ' ', ' ', ' ', 0};
    ps_err err;
    ps_buf buf;

    if (PG_ARGISNULL(0) || PG_ARGISNULL(2) || PG_ARGISNULL(3))
        PG_RETURN_NULL();
    MemoryContext caller = CurrentMemoryContext;
    MemoryContext context = AllocSetContextCreate(caller, "promscale alive", ALLOCSET_DEFAULT_SIZES);
    MemoryContextSwitchTo(context);
    a.fresh_only = PG_NARGS() > 4 && PG_GETARG_BOOL(4);
    a.row_context =
        AllocSetContextCreate(context, "promscale alive row", ALLOCSET_DEFAULT_SIZES);
    bridge_alloc_init(&a.alloc, context, PRESENCE_BUDGET);
    mdl_ids_init(&a.ids, &a.alloc.alloc);
    if (PG_ARGISNULL(1))
        nulls[1] = 'n';
    else
        read_metrics(&a, PG_GETARG_ARRAYTYPE_P(1), &rows);
    a.from_ms = bridge_timestamptz_floor_ms(PG_GETARG_TIMESTAMPTZ(2));
    a.to_ms = bridge_timestamptz_ceil_ms(PG_GETARG_TIMESTAMPTZ(3));
    const bool empty = a.to_ms < a.from_ms;
    widen(&a.from_ms, &a.to_ms);
    Datum values[] = {PG_GETARG_DATUM(0), PG_ARGISNULL(1) ? (Datum)0 : PG_GETARG_DATUM(1),
                      TimestampTzGetDatum(time_of(a.from_ms)),
                      TimestampTzGetDatum(time_of(a.to_ms))};
    if (!empty) {
        SPI_connect();
        read_sources(&a, values, nulls, rows);
        SPI_finish();
        damage_rest(false);
    }
    ps_buf_init(&buf, &a.alloc.alloc);
    ps_status status = mdl_ids_write(&a.ids, &buf, &err);
    if (status == PS_ENOMEM || buf.len > MaxAllocSize - VARHDRSZ)
        presence_no_memory();
    bridge_check(status, &err);
    MemoryContextSwitchTo(caller);
    bytea *ret = palloc(VARHDRSZ + buf.len);
    SET_VARSIZE(ret, VARHDRSZ + buf.len);
    memcpy(VARDATA(ret), buf.ptr, buf.len);
    MemoryContextDelete(context);
    PG_RETURN_BYTEA_P(ret);
}

/* ids_count(bytes): how many ids a set holds; raises if it is damaged. */
PG_FUNCTION_INFO_V1(ids_count);
Datum
ids_count(PG_FUNCTION_ARGS)
{
    bytea *set = PG_GETARG_BYTEA_PP(0);
    uint32 n;
    ps_err err;

    bridge_check(mdl_ids_count((ps_str){VARDATA_ANY(set), VARSIZE_ANY_EXHDR(set)}, &n, &err), &err);
    PG_RETURN_INT64(n);
}

/* ids_unseen(series, set) -> those of the series that are not in the set */
PG_FUNCTION_INFO_V1(ids_unseen);
Datum
ids_unseen(PG_FUNCTION_ARGS)
{
    ArrayType *array = PG_GETARG_ARRAYTYPE_P(0);
    bytea *set = PG_GETARG_BYTEA_PP(1);
    bridge_alloc alloc;
    mdl_ids ids;
    ps_err err;
    Datum *items;
    bool *nulls;
    int n, kept = 0;

    bridge_alloc_init(&alloc, CurrentMemoryContext, PRESENCE_BUDGET);
    mdl_ids_init(&ids, &alloc.alloc);
    ps_status status = mdl_ids_read(&ids, (ps_str){VARDATA_ANY(set), VARSIZE_ANY_EXHDR(set)}, &err);
    if (status == PS_ENOMEM)
        presence_no_memory();
    bridge_check(status, &err);
    deconstruct_array(array, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &items,
                      &nulls, &n);
    for (int i = 0; i < n; i++) {
        if (!nulls[i] && !mdl_ids_has(&ids, DatumGetInt64(items[i])))
            items[kept++] = items[i];
    }
    mdl_ids_done(&ids);
    PG_RETURN_ARRAYTYPE_P(construct_array(items, kept, INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
                                          TYPALIGN_DOUBLE));
}
