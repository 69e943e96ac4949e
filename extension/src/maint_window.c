/*
 * maint_window.c - one metric and window inside a seal: all its merged rows become sealed blocks, sorted
 * by series and time, floats and histograms each in blocks of their own. Where samples of the window were
 * sealed before, maint_layers.c says which of these rows are written anew together with them.
 *
 * A large metric does not fit into memory at once, so it is done in slices of series ids: a slice
 * reads the rows that hold any of its series and merges only these series. Rows are read before they
 * are deleted; since rows are immutable, deleting exactly the ids that were read proves that
 * nothing has changed meanwhile.
 */
#include "maint_seal.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/memutils.h"

typedef struct slice {
    int64 lo, hi; /* series ids, inclusive */
} slice;

typedef struct sink {
    const ps_alloc *alloc;
    struct sealed {
        struct sealed *next;
        blk_meta meta;
        ps_str data;
    } * first, **last;
} sink;

/* ---- which rows -------------------------------------------------------------------------- */

static int64
day_end_ms(const seal_window *w)
{
    return mdl_day_start_ms(w->from_ms) + MDL_DAY_MS;
}

static void
span_args(const seal_window *w, int level, Datum values[4])
{
    values[0] = Int32GetDatum(w->metric_id);
    values[1] = Int64GetDatum(w->dist_key);
    values[2] = maint_time(level == BLK_LEVEL_MERGED ? w->from_ms : mdl_day_start_ms(w->from_ms));
    values[3] = maint_time(level == BLK_LEVEL_MERGED ? w->to_ms : day_end_ms(w));
}

/* Where a day's sealed rows are. The plans name the day, so that no other partition is looked at. */
static char *
from_table(const seal_window *w, bool far)
{
    const int64 day = mdl_day_start_ms(w->from_ms);
    const char *of_day = psprintf(" AND m.t_min >= to_timestamp(" INT64_FORMAT
                                  ") AND m.t_min < to_timestamp(" INT64_FORMAT ")",
                                  day / 1000, (day + MDL_DAY_MS) / 1000);

    return psprintf(" FROM _prom_data.%s m WHERE m.metric_id = $1 AND m.dist_key = $2 "
                    "AND m.t_min >= $3 AND m.t_min < $4%s",
                    far ? "block_far" : "block", far ? "" : of_day);
}

#define NAMED " AND m.id + 0 = ANY ($5)"

/* Some rows of the day may have come to block_far before it had a partition, or before it has it no more. */
static SPIPlanPtr
prepare_select(const seal_window *w, const char *columns, const char *more, int n_args,
               const Oid *types)
{
    char *sql = psprintf("SELECT %s%s%s", columns, from_table(w, true), more);

    if (!w->far)
        sql = psprintf("%s UNION ALL SELECT %s%s%s", sql, columns, from_table(w, false), more);
    return maint_prepare(psprintf("SELECT * FROM (%s) r ORDER BY id", sql), n_args, types);
}

static void
prepare_sealed(seal *s, const seal_window *w)
{
    static const Oid types[] = {INT4OID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8ARRAYOID};
    const int64 day = mdl_day_start_ms(w->from_ms);
    SPIPlanPtr *all[] = {&s->sealed.rows, &s->sealed.erase, &s->erase_far, &s->sealed.heads};

    if (s->sealed.heads != NULL && s->sealed_day_ms == day && s->sealed_far == w->far)
        return;
    for (size_t i = 0; i < lengthof(all); i++) {
        if (*all[i] != NULL)
            SPI_freeplan(*all[i]);
        *all[i] = NULL;
    }
    s->sealed.rows = prepare_select(w, MAINT_ROW_COLUMNS, NAMED, 5, types);
    s->sealed.erase = maint_prepare(psprintf("DELETE%s" NAMED, from_table(w, false)), 5, types);
    s->erase_far = maint_prepare(psprintf("DELETE%s" NAMED, from_table(w, true)), 5, types);
    s->sealed.heads = prepare_select(w, MAINT_HEAD_COLUMNS, "", 4, types);
    s->sealed_day_ms = day;
    s->sealed_far = w->far;
}

static maint_rows
read_heads(seal *s, const seal_window *w, int level)
{
    const int64 end_ms = level == BLK_LEVEL_MERGED ? w->to_ms : day_end_ms(w);
    Datum values[4];

    span_args(w, level, values);
    maint_run(level == BLK_LEVEL_MERGED ? s->merged.heads : s->sealed.heads, values, NULL,
              SPI_OK_SELECT);
    maint_rows heads = maint_rows_take(CurrentMemoryContext, false);
    SPI_freetuptable(SPI_tuptable);
    if (heads.n > 0)
        maint_check_ids(heads.items[heads.n - 1].id); /* in order of id */
    size_t n = 0;
    for (size_t i = 0; i < heads.n; i++) {
        maint_row *row = &heads.items[i];
        const char *wrong = row->meta.t_max_ms >= end_ms ? "reaches beyond its window"
                            : row->meta.level != level   ? "is of another level than its table"
                                                         : NULL;
        if (wrong == NULL) {
            heads.items[n++] = *row;
            continue;
        }
        char *text = psprintf("block " INT64_FORMAT " %s", row->id, wrong);
        if (level == BLK_LEVEL_MERGED)
            ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg_internal("%s", text)));
        /* readers take it for damaged, too: what is sealed beside it need not mind it */
        row->meta.level = BLK_LEVEL_SEALED;
        maint_note_error("seal", row->id, &row->meta, text);
    }
    heads.n = n;
    return heads;
}

static int
by_stream(const void *a, const void *b)
{
    const maint_row *x = a, *y = b;

    if (x->meta.tenant_id != y->meta.tenant_id)
        return x->meta.tenant_id < y->meta.tenant_id ? -1 : 1;
    if (x->meta.kind != y->meta.kind)
        return x->meta.kind < y->meta.kind ? -1 : 1;
    if (x->meta.level != y->meta.level)
        return x->meta.level > y->meta.level ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* Merged rows of the window and sealed ones of its day, by tenant (two may share a hash), kind, precedence. */
static maint_rows
all_heads(seal *s, const seal_window *w, size_t *ret_n_merged)
{
    maint_rows rows = read_heads(s, w, BLK_LEVEL_MERGED), sealed;

    *ret_n_merged = rows.n;
    if (rows.n == 0 && s->zeal == SEAL_SOON)
        return rows;
    prepare_sealed(s, w);
    sealed = read_heads(s, w, BLK_LEVEL_SEALED);
    if (sealed.n > 0) {
        rows.items = repalloc_huge(rows.items, (rows.n + sealed.n) * sizeof(maint_row));
        memcpy(rows.items + rows.n, sealed.items, sealed.n * sizeof(maint_row));
        rows.n += sealed.n;
    }
    qsort(rows.items, rows.n, sizeof(maint_row), by_stream);
    return rows;
}

/* Which sealed rows could not be read lately. */
static bool *
find_shut(const seal_window *w, maint_rows rows)
{
    static const Oid types[] = {INT4OID};
    Datum values[] = {Int32GetDatum(w->metric_id)};
    MemoryContext old = CurrentMemoryContext;
    bool *shut = palloc0(Max(rows.n, 1) * sizeof(bool));

    if (SPI_execute_with_args("SELECT block_id FROM _prom_catalog.maintenance_error "
                              "WHERE metric_id = $1 AND level = 2",
                              1, (Oid *)types, values, NULL, false, 0) != SPI_OK_SELECT)
        elog(ERROR, "could not read which blocks are damaged");
    MemoryContextSwitchTo(old);
    for (uint64 e = 0; e < SPI_processed; e++) {
        bool isnull;
        const int64 id =
            DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[e], SPI_tuptable->tupdesc, 1, &isnull));
        for (size_t i = 0; i < rows.n; i++)
            shut[i] = shut[i] || rows.items[i].id == id;
    }
    SPI_freetuptable(SPI_tuptable);
    return shut;
}

/* ---- slices ------------------------------------------------------------------------------ */

static int
by_series_lo(const void *a, const void *b)
{
    const maint_row *x = *(maint_row *const *)a, *y = *(maint_row *const *)b;

    return x->meta.series_lo < y->meta.series_lo ? -1 : x->meta.series_lo > y->meta.series_lo;
}

/* Cuts the series into slices that read about max_bytes each. Returns their number. */
static size_t
cut_slices(maint_rows heads, int64 max_bytes, slice **ret)
{
    maint_row **order = palloc_extended(heads.n * sizeof(maint_row *), MCXT_ALLOC_HUGE);
    slice *slices = palloc_extended(heads.n * sizeof(slice), MCXT_ALLOC_HUGE);
    size_t n = 0;
    int64 bytes = 0, last = PG_INT64_MIN;

    for (size_t i = 0; i < heads.n; i++)
        order[i] = &heads.items[i];
    qsort(order, heads.n, sizeof(*order), by_series_lo);
    for (size_t i = 0; i < heads.n; i++) {
        const blk_meta *m = &order[i]->meta;

        if (n == 0 ||
            (bytes + order[i]->data_bytes > max_bytes && m->series_lo > slices[n - 1].lo)) {
            if (n > 0)
                slices[n - 1].hi = m->series_lo - 1;
            slices[n++].lo = m->series_lo;
            bytes = 0;
        }
        bytes += order[i]->data_bytes;
        last = Max(last, m->series_hi);
    }
    slices[n - 1].hi = last;
    pfree(order);
    *ret = slices;
    return n;
}

static ps_status
keep_sealed(void *self, ps_str data, const blk_meta *meta, ps_err *err)
{
    sink *k = self;
    struct sealed *out = ps_alloc_new(k->alloc, sizeof(*out));
    char *copy = out == NULL ? NULL : ps_alloc_new(k->alloc, data.len);

    if (copy == NULL)
        return ps_fail(err, PS_ENOMEM, "no memory for a sealed block of %zu bytes", data.len);
    memcpy(copy, data.ptr, data.len);
    *out = (struct sealed){.meta = *meta, .data = {copy, data.len}};
    *k->last = out;
    k->last = &out->next;
    return PS_OK;
}

static ps_status
merge_rows(seal *s, const slice *sl, maint_rows rows, sink *k, ps_err *err)
{
    blk_reader **inputs = palloc0_array(blk_reader *, rows.n);
    blk_merge_opts opts = {
        .tenant_id = rows.items[0].meta.tenant_id,
        .metric_id = rows.items[0].meta.metric_id,
        .out_level = BLK_LEVEL_SEALED,
        .from_ms = PG_INT64_MIN,
        .to_ms = PG_INT64_MAX,
        .series_lo = sl->lo,
        .series_hi = sl->hi,
        .target_bytes = MAINT_TARGET_BYTES,
        .target_samples = MAINT_TARGET_SAMPLES,
    };
    blk_merge_stats stats;

    for (size_t i = 0; i < rows.n; i++) {
        s->guilty = &rows.items[i];
        PS_TRY(blk_reader_open(k->alloc, rows.items[i].data, &rows.items[i].meta, &inputs[i], err));
    }
    s->guilty = rows.n == 1 ? &rows.items[0] : NULL;
    PS_TRY(blk_merge(k->alloc, inputs, rows.n, &opts, keep_sealed, k, bridge_interrupted, &stats,
                     err));
    s->guilty = NULL;
    s->stats.samples += (int64)stats.samples_out;
    s->stats.duplicates += (int64)stats.dups.duplicates;
    s->stats.conflicts += (int64)stats.dups.conflicts;
    maint_figures_dups(&s->figures, opts.tenant_id, opts.metric_id, (int64)stats.dups.duplicates,
                       (int64)stats.dups.conflicts);
    return PS_OK;
}

/* Adds the rows of these ids to the list. Returns the table that their data lie in. */
static SPITupleTable *
read_rows(seal *s, SPIPlanPtr plan, const seal_window *w, int level, const int64 *ids, size_t n,
          maint_rows *list)
{
    Datum values[5];

    if (n == 0)
        return NULL;
    span_args(w, level, values);
    values[4] = maint_int8_array(ids, n);
    if (maint_run(plan, values, NULL, SPI_OK_SELECT) != n)
        ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
                        errmsg("rows have changed under the seal")));
    SPITupleTable *table = SPI_tuptable;
    maint_rows rows = maint_rows_take_naming(CurrentMemoryContext, &s->guilty);
    memcpy(list->items + list->n, rows.items, rows.n * sizeof(maint_row));
    list->n += rows.n;
    return table;
}

/* rows: of a batch, by precedence. */
static void
seal_slice(seal *s, const seal_window *w, const slice *sl, maint_rows rows)
{
    int64 *ids = palloc_extended(rows.n * sizeof(int64), MCXT_ALLOC_HUGE);
    maint_rows full = {palloc_extended(rows.n * sizeof(maint_row), MCXT_ALLOC_HUGE), 0};
    size_t n = 0, n_sealed = 0;
    bridge_alloc alloc;
    sink k = {.last = &k.first};
    ps_err err;

    for (size_t i = 0; i < rows.n; i++) {
        const blk_meta *m = &rows.items[i].meta;
        if (m->series_lo > sl->hi || m->series_hi < sl->lo)
            continue;
        ids[n++] = rows.items[i].id;
        n_sealed += m->level == BLK_LEVEL_SEALED;
    }
    if (n == 0)
        return;
    SPITupleTable *a = read_rows(s, s->sealed.rows, w, BLK_LEVEL_SEALED, ids, n_sealed, &full);
    SPITupleTable *b =
        read_rows(s, s->merged.rows, w, BLK_LEVEL_MERGED, ids + n_sealed, n - n_sealed, &full);
    bridge_alloc_init(&alloc, CurrentMemoryContext, MAINT_MEMORY_BYTES);
    k.alloc = &alloc.alloc;
    bridge_check(merge_rows(s, sl, full, &k, &err), &err);
    for (const struct sealed *o = k.first; o != NULL; o = o->next) {
        maint_insert(w->far ? s->insert_far : s->insert, NULL, &o->meta, o->data);
        maint_figures_row(&s->figures, &o->meta, (int64)o->data.len, 1);
        s->stats.rows_out++;
    }
    if (a != NULL)
        SPI_freetuptable(a);
    if (b != NULL)
        SPI_freetuptable(b);
}

/* Rows that are written together, by precedence. */
static void
seal_batch(seal *s, const seal_window *w, maint_rows rows)
{
    slice *slices;
    MemoryContext slice_context =
        AllocSetContextCreate(CurrentMemoryContext, "promscale seal slice", ALLOCSET_DEFAULT_SIZES);
    const size_t n = cut_slices(rows, s->slice_bytes, &slices);

    for (size_t i = 0; i < n; i++) {
        MemoryContext old = MemoryContextSwitchTo(slice_context);
        seal_slice(s, w, &slices[i], rows);
        MemoryContextSwitchTo(old);
        MemoryContextReset(slice_context);
        CHECK_FOR_INTERRUPTS();
    }
    MemoryContextDelete(slice_context);
}

/* ---- the window -------------------------------------------------------------------------- */

/* Row i goes, if gone[i]. What is to be said of a day is said of all that stays in it. */
static void
count_gone(seal *s, const seal_window *w, maint_rows rows, const bool *gone)
{
    bool merged = false, sealed = false;

    for (size_t i = 0; i < rows.n; i++) {
        if (gone[i] && rows.items[i].meta.level == BLK_LEVEL_SEALED)
            sealed = true;
        else if (gone[i])
            merged = true;
    }
    if (merged)
        maint_figures_clear(&s->figures, rows.items[0].meta.tenant_id, w->metric_id, w->from_ms,
                            w->to_ms);
    if (sealed)
        maint_figures_clear_sealed(&s->figures, rows.items[0].meta.tenant_id, w->metric_id,
                                   w->from_ms);
    for (size_t i = 0; i < rows.n; i++) {
        const maint_row *row = &rows.items[i];
        if (gone[i]) {
            s->stats.bytes_in += row->data_bytes;
            s->stats.rows_in++;
            maint_figures_row(&s->figures, &row->meta, row->data_bytes, -1);
        } else if (sealed) {
            maint_figures_stays(&s->figures, &row->meta);
        }
    }
}

/* One tenant's rows of all kinds. Marks those that go. */
static void
seal_tenant(seal *s, const seal_window *w, maint_rows rows, const bool *shut, bool *gone,
            bool *fragmented, bool *held)
{
    seal_stream *streams = palloc0_array(seal_stream, rows.n);
    size_t n_streams = 0;

    for (size_t a = 0, b; a < rows.n; a = b) {
        seal_stream *st = &streams[n_streams++];
        *st = (seal_stream){.rows = rows.items + a,
                            .shut = shut + a,
                            .day_ms = mdl_day_start_ms(w->from_ms),
                            .width_ms = w->width_ms,
                            .zeal = s->zeal};
        for (b = a; b < rows.n && rows.items[b].meta.kind == rows.items[a].meta.kind; b++)
            st->n_sealed += rows.items[b].meta.level == BLK_LEVEL_SEALED;
        st->n = b - a;
        seal_plan(st);
        *fragmented = *fragmented || st->fragmented;
        *held = *held || st->held;
        for (size_t i = 0; i < st->n; i++)
            gone[a + i] = st->batch[i] >= 0;
    }
    count_gone(s, w, rows, gone);
    for (size_t i = 0; i < n_streams; i++) {
        const seal_stream *st = &streams[i];
        maint_rows some = {palloc_extended(st->n * sizeof(maint_row), MCXT_ALLOC_HUGE), 0};
        for (int32 batch = 0; batch < st->n_batches; batch++) {
            some.n = 0;
            for (size_t k = 0; k < st->n; k++) {
                if (st->batch[k] == batch)
                    some.items[some.n++] = st->rows[k];
            }
            seal_batch(s, w, some);
        }
        pfree(some.items);
    }
}

/* Deletes the rows of this level that go: all of them, or it fails. */
static void
erase(seal *s, const seal_window *w, int level, maint_rows rows, const bool *gone)
{
    int64 *ids = palloc_extended(Max(rows.n, 1) * sizeof(int64), MCXT_ALLOC_HUGE);
    Datum values[5];
    size_t n = 0, found = 0, far = 0;

    for (size_t i = 0; i < rows.n; i++) {
        if (gone[i] && rows.items[i].meta.level == level)
            ids[n++] = rows.items[i].id;
    }
    if (n == 0)
        return;
    span_args(w, level, values);
    values[4] = maint_int8_array(ids, n);
    if (level == BLK_LEVEL_MERGED)
        found = maint_run(s->merged.erase, values, NULL, SPI_OK_DELETE);
    else if (!w->far)
        found = maint_run(s->sealed.erase, values, NULL, SPI_OK_DELETE);
    if (level == BLK_LEVEL_SEALED && found < n)
        far = maint_run(s->erase_far, values, NULL, SPI_OK_DELETE);
    if (found + far != n)
        ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
                        errmsg("rows have changed under the seal")));
    if (far > 0)
        maint_want_vacuum("block_far", true);
}

void
seal_one(seal *s, const seal_window *w, bool *ret_fragmented, bool *ret_held)
{
    size_t n_merged;
    maint_rows rows = all_heads(s, w, &n_merged);

    *ret_fragmented = *ret_held = false;
    if (rows.n == 0)
        return;
    bool *gone = palloc0(rows.n * sizeof(bool));
    const bool *shut = rows.n == n_merged ? palloc0(rows.n * sizeof(bool)) : find_shut(w, rows);
    for (size_t a = 0, b; a < rows.n; a = b) {
        for (b = a; b < rows.n && rows.items[b].meta.tenant_id == rows.items[a].meta.tenant_id;)
            b++;
        seal_tenant(s, w, (maint_rows){rows.items + a, b - a}, shut + a, gone + a, ret_fragmented,
                    ret_held);
    }
    erase(s, w, BLK_LEVEL_SEALED, rows, gone);
    erase(s, w, BLK_LEVEL_MERGED, rows, gone);
}
