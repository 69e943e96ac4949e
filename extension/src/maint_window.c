/*
 * maint_window.c - one metric and window inside a seal: all its merged rows become sealed blocks,
 * sorted by series and time, floats and histograms each in blocks of their own.
 *
 * A large metric does not fit into memory at once, so it is done in slices of series ids: a slice
 * reads the rows that hold any of its series and merges only these series. Rows are read before they
 * are deleted; since rows are immutable, deleting exactly the ids that were read proves that
 * nothing has changed meanwhile.
 */
#include "maint_seal.h"

#include "miscadmin.h"
#include "utils/memutils.h"

typedef struct slice {
    int64 lo, hi; /* series ids, inclusive */
} slice;

typedef struct sink {
    seal *s;
    SPIPlanPtr plan;
    const ps_alloc *alloc;
    struct sealed {
        struct sealed *next;
        blk_meta meta;
        ps_str data;
    } * first, **last;
} sink;

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

static maint_rows
read_heads(seal *s, const seal_window *w)
{
    Datum values[] = {Int32GetDatum(w->metric_id), Int64GetDatum(w->dist_key),
                      maint_time(w->from_ms), maint_time(w->to_ms)};

    maint_run(s->heads, values, NULL, SPI_OK_SELECT);
    maint_rows heads = maint_rows_take(CurrentMemoryContext, false);
    SPI_freetuptable(SPI_tuptable);
    /* Two tenants may share a hash; the other one's rows are a window of their own, later. */
    size_t n = 0;
    for (size_t i = 0; i < heads.n; i++) {
        if (heads.items[i].meta.tenant_id == heads.items[0].meta.tenant_id)
            heads.items[n++] = heads.items[i];
    }
    heads.n = n;
    if (n > 0)
        maint_check_ids(heads.items[n - 1].id); /* in order of id */
    for (size_t i = 0; i < n; i++) {
        if (heads.items[i].meta.t_max_ms >= w->to_ms)
            ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
                            errmsg("merged block " INT64_FORMAT " reaches beyond its window",
                                   heads.items[i].id)));
    }
    return heads;
}

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
    maint_row **order = palloc_array(maint_row *, heads.n);
    slice *slices = palloc_array(slice, heads.n);
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
merge_rows(seal *s, const seal_window *w, const slice *sl, maint_rows rows, sink *k, ps_err *err)
{
    blk_reader **inputs = palloc0_array(blk_reader *, rows.n);
    blk_merge_opts opts = {
        .tenant_id = rows.items[0].meta.tenant_id,
        .metric_id = w->metric_id,
        .out_level = BLK_LEVEL_SEALED,
        .from_ms = w->from_ms,
        .to_ms = w->to_ms,
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
    maint_figures_dups(&s->figures, opts.tenant_id, w->metric_id, (int64)stats.dups.duplicates,
                       (int64)stats.dups.conflicts);
    return PS_OK;
}

static void
seal_slice(seal *s, const seal_window *w, const slice *sl, maint_rows heads, sink *k)
{
    int64 *ids = palloc_array(int64, heads.n);
    size_t n = 0;
    bridge_alloc alloc;
    ps_err err;

    for (size_t i = 0; i < heads.n; i++) {
        if (heads.items[i].meta.series_lo <= sl->hi && heads.items[i].meta.series_hi >= sl->lo)
            ids[n++] = heads.items[i].id;
    }
    if (n == 0)
        return;
    Datum values[] = {Int32GetDatum(w->metric_id), Int64GetDatum(w->dist_key),
                      maint_time(w->from_ms), maint_time(w->to_ms), maint_int8_array(ids, n)};
    if (maint_run(s->rows, values, NULL, SPI_OK_SELECT) != n)
        ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
                        errmsg("merged rows have changed under the seal")));
    SPITupleTable *table = SPI_tuptable;
    maint_rows rows = maint_rows_take(CurrentMemoryContext, true);
    bridge_alloc_init(&alloc, CurrentMemoryContext, MAINT_MEMORY_BYTES);
    k->alloc = &alloc.alloc;
    k->first = NULL;
    k->last = &k->first;
    bridge_check(merge_rows(s, w, sl, rows, k, &err), &err);
    for (const struct sealed *o = k->first; o != NULL; o = o->next) {
        maint_insert(k->plan, NULL, &o->meta, o->data);
        maint_figures_row(&s->figures, &o->meta, (int64)o->data.len, 1);
        s->stats.rows_out++;
    }
    SPI_freetuptable(table);
}

/* Heads of one kind, in their order; rows of each kind become blocks of their own. */
static void
seal_kind(seal *s, const seal_window *w, maint_rows heads)
{
    sink k = {.s = s, .plan = w->far ? s->insert_far : s->insert};
    slice *slices;
    MemoryContext slice_context =
        AllocSetContextCreate(CurrentMemoryContext, "promscale seal slice", ALLOCSET_DEFAULT_SIZES);
    const size_t n = cut_slices(heads, s->slice_bytes, &slices);

    for (size_t i = 0; i < n; i++) {
        MemoryContext old = MemoryContextSwitchTo(slice_context);
        seal_slice(s, w, &slices[i], heads, &k);
        MemoryContextSwitchTo(old);
        MemoryContextReset(slice_context);
        CHECK_FOR_INTERRUPTS();
    }
}

static int
by_kind_then_id(const void *a, const void *b)
{
    const maint_row *x = a, *y = b;

    if (x->meta.kind != y->meta.kind)
        return x->meta.kind < y->meta.kind ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

void
seal_one(seal *s, const seal_window *w)
{
    maint_rows heads = read_heads(s, w);

    if (heads.n == 0)
        return;
    qsort(heads.items, heads.n, sizeof(maint_row), by_kind_then_id);
    for (size_t a = 0, b; a < heads.n; a = b) {
        for (b = a + 1; b < heads.n && heads.items[b].meta.kind == heads.items[a].meta.kind; b++) {
        }
        seal_kind(s, w, (maint_rows){heads.items + a, b - a});
    }
    int64 *ids = palloc_array(int64, heads.n);
    maint_figures_clear(&s->figures, heads.items[0].meta.tenant_id, w->metric_id, w->from_ms,
                        w->to_ms);
    for (size_t i = 0; i < heads.n; i++) {
        ids[i] = heads.items[i].id;
        s->stats.bytes_in += heads.items[i].data_bytes;
        maint_figures_row(&s->figures, &heads.items[i].meta, heads.items[i].data_bytes, -1);
    }
    Datum values[] = {Int32GetDatum(w->metric_id), Int64GetDatum(w->dist_key),
                      maint_time(w->from_ms), maint_time(w->to_ms), maint_int8_array(ids, heads.n)};
    if (maint_run(s->erase, values, NULL, SPI_OK_DELETE) != heads.n)
        ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
                        errmsg("merged rows have changed under the seal")));
    s->stats.rows_in += (int64)heads.n;
}
