/*
 * write_flush.c - rows that a statement has gathered become blocks in _prom_data.fresh.
 *
 * Rows are sorted by (UTC day, series, time) at once: the day takes the place of the metric, which is
 * the same for all of them. A block holds samples of one day. Where a series has many samples in a
 * day the block has the form of merged ones (columns), else that of a flush, whose columns run across
 * series. Both are level 0, and maintenance folds them like what connectors write.
 *
 * The guard lock comes before the first look at the catalog and is kept to the end of the
 * transaction: until then nobody deletes series, and the ids that were found stay good. It is shared
 * with all other writers.
 *
 * Memory: a context for each flush, below the statement's. Libraries only see that context; SPI is
 * called between their calls.
 */
#include "write.h"

#include "bridge.h"
#include "catalog/pg_type.h"
#include "maint.h"
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/memutils.h"

/* From that many samples a series and day on columns are smaller. */
enum { COLUMNS_FROM = 24 };
/* Samples of one series that are handed over at once; fit into an empty block in any case. */
enum { CHUNK = 32768 };
/* Of a block in the form of flushes, which is unpacked as a whole. */
enum { FLUSH_SAMPLES = 16384 };

typedef struct flush {
    write_stmt *s;
    bridge_alloc alloc;
    ps_buf out; /* the next block's bytea, header first */
    int64 *times;
    double *values;
} flush;

/* ---- into the table ----------------------------------------------------------------------- */

static void
begin_block(flush *f)
{
    ps_buf_clear(&f->out);
    ps_buf_add(&f->out, "\0\0\0\0", VARHDRSZ);
}

static void
note_id(write_stmt *s, int64 id)
{
    if (s->n_own_ids == s->cap_own_ids) {
        s->cap_own_ids = Max(s->cap_own_ids * 2, 64);
        s->own_ids = s->own_ids == NULL
                         ? MemoryContextAlloc(s->context, s->cap_own_ids * sizeof(int64))
                         : repalloc(s->own_ids, s->cap_own_ids * sizeof(int64));
    }
    s->own_ids[s->n_own_ids++] = id;
}

#define INSERT_SQL                                                                                 \
    "INSERT INTO _prom_data.fresh (" BRIDGE_META_COLUMNS ", data) VALUES"                          \
    " ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"

static void
insert_block(flush *f, const blk_meta *meta)
{
    static catalog_stmt stmts[] = {{.sql = INSERT_SQL, .n_args = BRIDGE_META_N + 1},
                                   {.sql = INSERT_SQL " RETURNING id", .n_args = BRIDGE_META_N + 1}};
    catalog_stmt *stmt = &stmts[f->s->overwrite];
    Datum values[BRIDGE_META_N + 1];

    memcpy(stmt->args, bridge_meta_types, sizeof(bridge_meta_types));
    stmt->args[BRIDGE_META_N] = BYTEAOID;
    SET_VARSIZE(f->out.ptr, f->out.len);
    bridge_meta_to_datums(meta, values);
    values[BRIDGE_META_N] = PointerGetDatum(f->out.ptr);
    catalog_run(stmt, values, false);
    if (f->s->overwrite) {
        note_id(f->s, DatumGetInt64(catalog_value(0, 1)));
        SPI_freetuptable(SPI_tuptable);
    }
}

/* ---- points to blocks --------------------------------------------------------------------- */

static size_t
run_end(const blk_point *points, size_t a, size_t n)
{
    size_t b = a + 1;

    while (b < n && points[b].series_id == points[a].series_id)
        b++;
    return b;
}

static void
finish_columns(flush *f, blk_writer *w)
{
    blk_meta meta;
    ps_err err;

    begin_block(f);
    bridge_check(blk_writer_finish(w, &f->out, &meta, &err), &err);
    insert_block(f, &meta);
}

static void
store_columns(flush *f, const blk_point *points, size_t n)
{
    const blk_writer_opts opts = {.metric_id = f->s->metric_id, .level = BLK_LEVEL_FRESH};
    blk_writer *w = blk_writer_new(&f->alloc.alloc, &opts);
    ps_err err;

    if (w == NULL)
        bridge_raise(PS_ENOMEM, NULL, NULL, NULL);
    for (size_t a = 0, b; a < n; a = b) {
        b = Min(run_end(points, a, n), a + CHUNK);
        for (size_t i = a; i < b; i++) {
            f->times[i - a] = points[i].t_ms;
            f->values[i - a] = points[i].value;
        }
        bridge_check(blk_writer_add(w, points[a].series_id, f->times, f->values, b - a, &err),
                     &err);
        /* the rest of a long series begins a new block: a block names each series once */
        if (blk_writer_bytes(w) >= MAINT_TARGET_BYTES ||
            blk_writer_samples(w) >= MAINT_TARGET_SAMPLES ||
            (b < n && points[b].series_id == points[a].series_id))
            finish_columns(f, w);
        CHECK_FOR_INTERRUPTS();
    }
    if (blk_writer_samples(w) > 0)
        finish_columns(f, w);
    blk_writer_free(w);
}

static void
store_flush(flush *f, blk_point *points, size_t n)
{
    for (size_t i = 0; i < n; i++)
        points[i].metric_id = f->s->metric_id;
    for (size_t a = 0; a < n; a += FLUSH_SAMPLES) {
        blk_meta meta;
        ps_err err;

        begin_block(f);
        bridge_check(blk_encode_flush(&f->alloc.alloc, 0, f->s->metric_id, points + a,
                                      Min(n - a, FLUSH_SAMPLES), &f->out, &meta, &err),
                     &err);
        insert_block(f, &meta);
        CHECK_FOR_INTERRUPTS();
    }
}

/* One day: sorted by series and time. */
static void
store_day(flush *f, blk_point *points, size_t n)
{
    size_t runs = 0;

    for (size_t a = 0; a < n; a = run_end(points, a, n))
        runs++;
    if (n / runs >= COLUMNS_FROM)
        store_columns(f, points, n);
    else
        store_flush(f, points, n);
}

static void
store(write_stmt *s, blk_point *points, size_t n)
{
    flush f = {.s = s};

    bridge_alloc_init(&f.alloc, CurrentMemoryContext, 0);
    ps_buf_init(&f.out, &f.alloc.alloc);
    const size_t chunk = Min(n, CHUNK);
    f.times = palloc(chunk * sizeof(int64));
    f.values = palloc(chunk * sizeof(double));
    for (size_t a = 0, b; a < n; a = b) {
        for (b = a + 1; b < n && points[b].metric_id == points[a].metric_id; b++) {
        }
        store_day(&f, points + a, b - a);
    }
}

/* ---- which series ------------------------------------------------------------------------- */

/* Puts each point's series id and day in its place. Returns how many ids the user has given. */
static size_t
place_points(write_stmt *s)
{
    size_t n_given = 0;

    for (size_t i = 0; i < s->n_points; i++) {
        blk_point *p = &s->points[i];

        p->metric_id = (int32)(mdl_day_start_ms(p->t_ms) / MDL_DAY_MS);
        if (p->owner == 0) {
            n_given++;
            continue;
        }
        const int64 id = s->sets[p->owner - 1].id;
        if (p->series_id != 0 && p->series_id != id)
            ereport(ERROR,
                    (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                     errmsg("labels and series_id of a sample name different series, " INT64_FORMAT
                            " and " INT64_FORMAT,
                            id, p->series_id),
                     errhint("Give one of the two.")));
        p->series_id = id;
    }
    return n_given;
}

static int
cmp_ids(const void *a, const void *b)
{
    const int64 x = *(const int64 *)a, y = *(const int64 *)b;

    return (x > y) - (x < y);
}

/* The ids that were given must be of series of this metric and of no tenant. OFFSET 0: one look by the
 * primary key for each, whatever the planner thinks of an index on metrics. */
static void
check_series(const write_stmt *s, const blk_point *points, size_t n)
{
    static catalog_stmt stmt = {
        .sql = "SELECT u.id FROM pg_catalog.unnest($1) u(id) LEFT JOIN LATERAL ("
               "SELECT metric_id, tenant_id FROM _prom_catalog.series"
               " WHERE id OPERATOR(pg_catalog.=) u.id OFFSET 0) s ON true"
               " WHERE (s.metric_id OPERATOR(pg_catalog.=) $2"
               " AND s.tenant_id OPERATOR(pg_catalog.=) 0) IS NOT TRUE ORDER BY 1 LIMIT 1",
        .n_args = 2,
        .args = {INT8ARRAYOID, INT4OID},
    };
    size_t n_ids = 0, unique = 0;
    int64 *ids = palloc_extended(n * sizeof(int64), MCXT_ALLOC_HUGE);

    for (size_t a = 0; a < n; a = run_end(points, a, n))
        ids[n_ids++] = points[a].series_id;
    qsort(ids, n_ids, sizeof(int64), cmp_ids);
    for (size_t i = 0; i < n_ids; i++) {
        if (unique == 0 || ids[unique - 1] != ids[i])
            ids[unique++] = ids[i];
    }
    Datum values[] = {maint_int8_array(ids, unique), Int32GetDatum(s->metric_id)};
    const int level = NewGUCNestLevel();
    maint_prefer_the_key();
    if (catalog_run(&stmt, values, false) != 0)
        ereport(ERROR, (errcode(ERRCODE_FOREIGN_KEY_VIOLATION),
                        errmsg("metric %d has no series " INT64_FORMAT, s->metric_id,
                               DatumGetInt64(catalog_value(0, 1))),
                        errhint("The series of a metric are in its view in prom_series; "
                                "_prom_catalog.get_or_create_series_id() makes new ones.")));
    AtEOXact_GUC(true, level);
    pfree(ids);
}

/* Between two goes of a statement a function in it may have deleted series: the transaction's own lock
 * does not stop itself. What labels have led to then is no longer sure. */
static void
check_generation(write_stmt *s)
{
    const int64 generation = catalog_generation(false);

    if (s->n_resolved > 0 && s->generation != generation)
        ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
                        errmsg("series were deleted while samples were being written"),
                        errhint("Repeat the statement, without deleting series in it.")));
    s->generation = generation;
}

void
write_flush(write_stmt *s)
{
    if (s->n_points == 0)
        return;
    MemoryContext context =
        AllocSetContextCreate(s->context, "promscale write flush", ALLOCSET_DEFAULT_SIZES);
    MemoryContext old = MemoryContextSwitchTo(context);

    if (s->overwrite)
        write_overwrite_begin();
    catalog_lock_guard_shared();
    SPI_connect();
    check_generation(s);
    MemoryContextSwitchTo(context);
    write_resolve_sets(s);
    const size_t n_given = place_points(s);
    if (s->overwrite)
        write_overwrite_turn(s->points, s->n_points);
    blk_point *scratch = MemoryContextAllocHuge(context, s->n_points * sizeof(blk_point));
    const size_t n = blk_points_sort_unique(s->points, scratch, s->n_points, &s->dups);
    pfree(scratch);
    if (n_given > 0)
        check_series(s, s->points, n);
    s->n_own_ids = 0;
    store(s, s->points, n);
    if (s->overwrite)
        write_overwrite_finish(s, s->points, n);
    write_note_old(s, s->points, n);
    SPI_finish();
    s->n_points = 0;
    MemoryContextSwitchTo(old);
    MemoryContextDelete(context);
}
