/*
 * maint_group.c - one bucket of metrics inside a fold.
 *
 * A unit is a stream (tenant, metric, kind) with its inputs: pairs (fresh row, range of series in it). Three
 * passes over all units, so that SQL is spoken to a few times per bucket and not per metric:
 *   1. open the fresh rows, list units and the cells of time that they bring samples for
 *      (maint_units.c);
 *   2. read the heads of the merged rows in these cells, choose (maint_pick), delete and read the
 *      chosen ones in one statement;
 *   3. merge each unit: chosen merged rows first (they are older), then fresh rows by id.
 * Outputs of a unit are written after all of it has been merged; a unit that fails leaves its inputs
 * as they were. A packed row that goes back because of one metric still holds samples that were
 * merged for others: a duplicate of the same value in a lower level, which no reader sees.
 */
#include "maint_fold.h"

#include "miscadmin.h"
#include "utils/memutils.h"

typedef struct output {
    struct output *next;
    blk_meta meta;
    ps_str data;
} output;

typedef struct outputs {
    const ps_alloc *alloc;
    output *first, **last;
    fold_presence_note note;
} outputs;

/* ---- pass 2: merged rows to take along ---------------------------------------------------- */

static int
cmp_rows(const void *a, const void *b)
{
    const maint_row *x = a, *y = b;
    int c = fold_stream_order(fold_stream_of(&x->meta), fold_stream_of(&y->meta));

    return c != 0 ? c : (x->id < y->id ? -1 : x->id > y->id);
}

typedef struct metric_range {
    int32 metric_id;
    int64 from_ms, to_ms;
} metric_range;

static int
cmp_ranges(const void *a, const void *b)
{
    const metric_range *x = a, *y = b;

    return x->metric_id < y->metric_id ? -1 : x->metric_id > y->metric_id;
}

/* Heads of all merged rows in reach of any unit, one range per metric (tenants share metrics). */
static void
read_heads(fold_bucket *g)
{
    metric_range *ranges =
        MemoryContextAllocHuge(CurrentMemoryContext, (g->n_units + 1) * sizeof(metric_range));
    size_t n = 0, out = 0;

    for (size_t i = 0; i < g->n_units; i++) {
        const fold_unit *u = &g->units[i];
        if (u->n_cells > 0)
            ranges[n++] = (metric_range){u->stream.metric_id, u->cells[0].from_ms,
                                         u->cells[u->n_cells - 1].to_ms};
    }
    qsort(ranges, n, sizeof(metric_range), cmp_ranges);
    for (size_t i = 0; i < n; i++) {
        if (out > 0 && ranges[out - 1].metric_id == ranges[i].metric_id) {
            ranges[out - 1].from_ms = Min(ranges[out - 1].from_ms, ranges[i].from_ms);
            ranges[out - 1].to_ms = Max(ranges[out - 1].to_ms, ranges[i].to_ms);
        } else {
            ranges[out++] = ranges[i];
        }
    }

    int32 *metrics = palloc_extended((out + 1) * sizeof(int32), MCXT_ALLOC_HUGE);
    int64 *from = palloc_extended((out + 1) * sizeof(int64), MCXT_ALLOC_HUGE);
    int64 *to = palloc_extended((out + 1) * sizeof(int64), MCXT_ALLOC_HUGE);
    for (size_t i = 0; i < out; i++) {
        metrics[i] = ranges[i].metric_id;
        from[i] = ranges[i].from_ms;
        to[i] = ranges[i].to_ms;
    }
    Datum values[] = {maint_int4_array(metrics, out), maint_time_array(from, out),
                      maint_time_array(to, out)};
    maint_run(g->f->candidates, values, NULL, SPI_OK_SELECT);
    maint_rows heads = maint_rows_take(CurrentMemoryContext, false);
    SPI_freetuptable(SPI_tuptable);
    qsort(heads.items, heads.n, sizeof(maint_row), cmp_rows);
    g->heads = heads.items;
    g->n_heads = heads.n;
    g->taken = palloc_extended(heads.n + 1, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
}

/* The part of rows (sorted by unit) that belongs to u. */
static maint_row *
rows_of(maint_row *rows, size_t n, const fold_unit *u, size_t *ret_n)
{
    size_t lo = 0, hi = n;

    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (fold_stream_order(fold_stream_of(&rows[mid].meta), u->stream) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    for (hi = lo; hi < n && fold_stream_order(fold_stream_of(&rows[hi].meta), u->stream) == 0;
         hi++) {
    }
    *ret_n = hi - lo;
    return rows + lo;
}

static size_t
choose(fold_bucket *g)
{
    size_t n_taken = 0;

    for (size_t i = 0; i < g->n_units; i++) {
        const fold_unit *u = &g->units[i];
        size_t n;
        maint_row *heads = rows_of(g->heads, g->n_heads, u, &n);

        for (size_t c = 0; n > 0 && c < u->n_cells; c++)
            n_taken += maint_pick(heads, n, &u->cells[c], g->f->bad, g->f->n_bad,
                                  g->taken + (heads - g->heads));
    }
    return n_taken;
}

static void
take_merged(fold_bucket *g, size_t n)
{
    int32 *metrics = palloc_extended((n + 1) * sizeof(int32), MCXT_ALLOC_HUGE);
    int64 *times = palloc_extended((n + 1) * sizeof(int64), MCXT_ALLOC_HUGE);
    int64 *dists = palloc_extended((n + 1) * sizeof(int64), MCXT_ALLOC_HUGE);
    int64 *ids = palloc_extended((n + 1) * sizeof(int64), MCXT_ALLOC_HUGE);
    size_t k = 0;

    for (size_t i = 0; i < g->n_heads; i++) {
        if (!g->taken[i])
            continue;
        metrics[k] = g->heads[i].meta.metric_id;
        times[k] = g->heads[i].meta.t_min_ms;
        dists[k] = g->heads[i].meta.dist_key;
        ids[k++] = g->heads[i].id;
    }
    Datum values[] = {maint_int4_array(metrics, k), maint_time_array(times, k),
                      maint_int8_array(dists, k), maint_int8_array(ids, k)};
    if (maint_run(g->f->take, values, NULL, SPI_OK_DELETE_RETURNING) != k)
        ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
                        errmsg("merged rows have changed under the merge")));
    maint_rows rows = maint_rows_take(CurrentMemoryContext, true);
    qsort(rows.items, rows.n, sizeof(maint_row), cmp_rows);
    g->merged = rows.items;
    g->n_merged = rows.n;
    g->f->stats.rows_taken += (int64)rows.n;
}

/* ---- pass 3: merge ------------------------------------------------------------------------ */

static ps_status
keep_output(void *self, ps_str data, const blk_meta *meta, ps_err *err)
{
    outputs *o = self;
    output *out = ps_alloc_new(o->alloc, sizeof(output));
    char *copy = out == NULL ? NULL : ps_alloc_new(o->alloc, data.len);

    if (copy == NULL)
        return ps_fail(err, PS_ENOMEM, "no memory for a merged block of %zu bytes", data.len);
    memcpy(copy, data.ptr, data.len);
    *out = (output){.meta = *meta, .data = {copy, data.len}};
    *o->last = out;
    o->last = &out->next;
    return PS_OK;
}

static void
note_series(void *self, int64_t series_id, const int64_t *t_ms, size_t n)
{
    outputs *o = self;

    fold_presence_series(&o->note, series_id, t_ms, n);
}

/* Merges the cells [first, last) of u, which lie close together and have one width. */
static ps_status
merge_cells(const fold_unit *u, blk_reader *const *inputs, const blk_part *parts, size_t n_inputs,
            const maint_cell *first, const maint_cell *last, outputs *out, blk_merge_stats *stats,
            ps_err *err)
{
    blk_merge_opts opts = {
        .tenant_id = u->stream.tenant_id,
        .metric_id = u->stream.metric_id,
        .out_level = BLK_LEVEL_MERGED,
        .from_ms = first->from_ms,
        .to_ms = last->to_ms,
        .parts = parts,
        .cut_ms = first->to_ms - first->from_ms,
        .cut_lo_ms = first->from_ms,
        .cut_hi_ms = last->to_ms,
        .target_bytes = MAINT_TARGET_BYTES,
        .target_samples = MAINT_TARGET_SAMPLES,
        .on_series = note_series,
    };

    return blk_merge(out->alloc, inputs, n_inputs, &opts, keep_output, out, bridge_interrupted,
                     stats, err);
}

/* Cells are handled some at a time, since each has an open block while the merge runs. */
static ps_status
merge_unit(fold_bucket *g, const fold_unit *u, blk_reader *const *merged, size_t n_merged,
           outputs *out, blk_dup_stats *dups, ps_err *err)
{
    enum { CELLS_AT_ONCE = 48 };
    const size_t n_inputs = n_merged + u->n_pairs;
    blk_reader **inputs = palloc_array(blk_reader *, n_inputs);
    blk_part *parts = palloc_array(blk_part, n_inputs);

    for (size_t i = 0; i < n_merged; i++) {
        inputs[i] = merged[i];
        parts[i] = (blk_part){0, blk_reader_n_series(merged[i])};
    }
    for (size_t i = 0; i < u->n_pairs; i++) {
        inputs[n_merged + i] = g->readers[u->pairs[i].row];
        parts[n_merged + i] = (blk_part){u->pairs[i].series, u->pairs[i].series_end};
    }
    for (size_t a = 0, b; a < u->n_cells; a = b) {
        const maint_cell *c = u->cells;
        blk_merge_stats stats;

        for (b = a + 1; b < u->n_cells && b - a < CELLS_AT_ONCE &&
                        c[b].to_ms - c[b].from_ms == c[a].to_ms - c[a].from_ms;
             b++) {
        }
        PS_TRY(merge_cells(u, inputs, parts, n_inputs, &c[a], &c[b - 1], out, &stats, err));
        dups->duplicates += stats.dups.duplicates;
        dups->conflicts += stats.dups.conflicts;
    }
    return PS_OK;
}

/* Opens the merged rows taken along. On failure *ret_bad is the row to blame. */
static ps_status
open_merged(const ps_alloc *alloc, const maint_row *merged, size_t n, blk_reader **readers,
            const maint_row **ret_bad, ps_err *err)
{
    for (size_t i = 0; i < n; i++) {
        ps_status s = blk_reader_open(alloc, merged[i].data, &merged[i].meta, &readers[i], err);
        if (s != PS_OK) {
            *ret_bad = &merged[i];
            return s;
        }
    }
    return PS_OK;
}

/* Merges u into *out. The first try takes the merged rows along; if it fails they stay what they were
 * (to leave out all of them is always right) and the second try takes the fresh rows alone.
 * *ret_took: merged rows went into the output. */
static ps_status
try_unit(fold_bucket *g, const fold_unit *u, const ps_alloc *alloc, outputs *out, bool *ret_took,
         ps_err *err)
{
    size_t n;
    const maint_row *merged = rows_of(g->merged, g->n_merged, u, &n), *bad = NULL;
    blk_reader **readers = palloc0_array(blk_reader *, Max(n, 1));
    blk_dup_stats dups = {0};

    *ret_took = true;
    ps_status status = open_merged(alloc, merged, n, readers, &bad, err);
    if (status == PS_OK)
        status = merge_unit(g, u, readers, n, out, &dups, err);
    if (status != PS_OK && status != PS_ECANCELED && n > 0) {
        for (size_t i = 0; i < n; i++) {
            maint_insert(g->f->put_back, &merged[i].id, &merged[i].meta, merged[i].data);
            if (bad == NULL || bad == &merged[i])
                maint_note_error("merge", merged[i].id, &merged[i].meta, err->text);
        }
        *ret_took = false;
        *out = (outputs){.alloc = alloc, .last = &out->first, .note.alloc = alloc};
        dups = (blk_dup_stats){0};
        status = merge_unit(g, u, NULL, 0, out, &dups, err);
    }
    g->f->stats.duplicates += (int64)dups.duplicates;
    g->f->stats.conflicts += (int64)dups.conflicts;
    if (status == PS_OK)
        maint_figures_dups(&g->f->figures, u->stream.tenant_id, u->stream.metric_id,
                           (int64)dups.duplicates, (int64)dups.conflicts);
    return status;
}

static bool
in_a_cell(const fold_unit *u, int64 t_ms)
{
    size_t lo = 0, hi = u->n_cells;

    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (u->cells[mid].to_ms <= t_ms)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < u->n_cells && u->cells[lo].from_ms <= t_ms;
}

/* The metric's rows of other kinds that lie in the unit's cells, and that no unit has taken: their hours
 * are cleared with the unit's. (Hours of those that were taken are set by what they became.) They stand
 * beside the unit's own: heads[first .. first + n). */
static void
note_others(fold_bucket *g, const fold_unit *u, size_t first, size_t n)
{
    const fold_stream *s = &u->stream;
    size_t lo = first, hi = first + n;

    while (lo > 0 && g->heads[lo - 1].meta.tenant_id == s->tenant_id &&
           g->heads[lo - 1].meta.metric_id == s->metric_id)
        lo--;
    while (hi < g->n_heads && g->heads[hi].meta.tenant_id == s->tenant_id &&
           g->heads[hi].meta.metric_id == s->metric_id)
        hi++;
    for (size_t i = lo; i < hi; i++) {
        if ((i < first || i >= first + n) && !g->taken[i] &&
            in_a_cell(u, g->heads[i].meta.t_min_ms))
            maint_figures_stays(&g->f->figures, &g->heads[i].meta);
    }
}

/* What is in the unit's cells now: the outputs, and the rows that were not taken. */
static void
note_figures(fold_bucket *g, const fold_unit *u, const outputs *out, bool took)
{
    maint_figures *figures = &g->f->figures;
    size_t n;
    const maint_row *heads = rows_of(g->heads, g->n_heads, u, &n);

    for (size_t i = 0; i < u->n_cells; i++)
        maint_figures_clear(figures, u->stream.tenant_id, u->stream.metric_id, u->cells[i].from_ms,
                            u->cells[i].to_ms);
    for (size_t i = 0; i < n; i++) {
        if (took && g->taken[heads - g->heads + (ptrdiff_t)i])
            maint_figures_row(figures, &heads[i].meta, heads[i].data_bytes, -1);
        else if (in_a_cell(u, heads[i].meta.t_min_ms))
            maint_figures_stays(figures, &heads[i].meta);
    }
    for (const output *o = out->first; o != NULL; o = o->next)
        maint_figures_row(figures, &o->meta, (int64)o->data.len, 1);
    note_others(g, u, (size_t)(heads - g->heads), n);
}

/* A unit that failed has left its rows as they were; a unit of another kind may clear their hours. */
static void
note_failed(fold_bucket *g, const fold_unit *u)
{
    size_t n;
    const maint_row *heads = rows_of(g->heads, g->n_heads, u, &n);

    for (size_t i = 0; i < n; i++)
        maint_figures_stays(&g->f->figures, &heads[i].meta);
}

static void
note_histograms(fold *f, int32 metric_id)
{
    if (f->n_histograms == f->cap_histograms) {
        f->cap_histograms = Max(64, f->cap_histograms * 2);
        f->histograms = f->histograms == NULL
                            ? MemoryContextAlloc(f->context, f->cap_histograms * sizeof(int32))
                            : repalloc_huge(f->histograms, f->cap_histograms * sizeof(int32));
    }
    f->histograms[f->n_histograms++] = metric_id;
}

static void
run_unit(fold_bucket *g, fold_unit *u)
{
    bridge_alloc alloc;
    outputs out = {.alloc = &alloc.alloc, .last = &out.first, .note.alloc = &alloc.alloc};
    ps_err err;

    MemoryContext old = MemoryContextSwitchTo(g->unit_context);
    bridge_alloc_init(&alloc, g->unit_context, MAINT_MEMORY_BYTES);
    bool took;
    ps_status status = try_unit(g, u, &alloc.alloc, &out, &took, &err);
    if (status == PS_ECANCELED)
        bridge_raise(status, &err, NULL, NULL);
    if (status == PS_OK) {
        note_figures(g, u, &out, took);
        fold_presence_add(g->f, u->stream.tenant_id, u->stream.metric_id, &out.note);
        if (u->stream.kind == BLK_KIND_HISTOGRAM)
            note_histograms(g->f, u->stream.metric_id);
    } else {
        note_failed(g, u);
        fold_give_up(g, u, err.text);
    }
    for (const output *o = status == PS_OK ? out.first : NULL; o != NULL; o = o->next) {
        maint_insert(g->f->insert, NULL, &o->meta, o->data);
        g->f->stats.rows_out++;
    }
    MemoryContextSwitchTo(old);
    MemoryContextReset(g->unit_context);
}

void
fold_group(fold *f, fold_row *rows, size_t n)
{
    fold_bucket g = {.f = f, .rows = rows, .n_rows = n};
    SPITupleTable *taken_table = NULL;

    g.unit_context =
        AllocSetContextCreate(f->group_context, "promscale fold unit", ALLOCSET_DEFAULT_SIZES);
    fold_list_units(&g);
    read_heads(&g);
    size_t n_taken = choose(&g);
    if (n_taken > 0) {
        take_merged(&g, n_taken);
        taken_table = SPI_tuptable;
    }
    for (size_t i = 0; i < g.n_units; i++) {
        if (g.units[i].n_cells > 0)
            run_unit(&g, &g.units[i]);
        CHECK_FOR_INTERRUPTS();
    }
    fold_presence_write(f);
    if (taken_table != NULL)
        SPI_freetuptable(taken_table);
}
