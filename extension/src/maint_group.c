/*
 * maint_group.c - one bucket of metrics inside a fold.
 *
 * A unit is a tenant and metric with its inputs: pairs (fresh row, range of series in it). Three
 * passes over all units, so that SQL is spoken to a few times per bucket and not per metric:
 *   1. open the fresh rows, list units and the cells of time that they bring samples for;
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

typedef struct pair {
    int32 tenant_id, metric_id;
    uint32 row; /* index into rows: ascending with the id inside a tenant */
    uint32 series, series_end;
    int64 t_min_ms, t_max_ms;
    uint64 samples;
} pair;

typedef struct unit {
    int32 tenant_id, metric_id;
    pair *pairs;
    size_t n_pairs;
    maint_cell *cells; /* ascending, each with new samples */
    size_t n_cells;
} unit;

typedef struct group {
    fold *f;
    bridge_alloc alloc; /* readers of fresh rows */
    MemoryContext unit_context;
    fold_row *rows;
    size_t n_rows;
    blk_reader **readers; /* NULL: the row goes back */
    pair *pairs;
    size_t n_pairs, cap_pairs;
    unit *units;
    size_t n_units;
    maint_row *heads; /* merged rows in reach, by tenant, metric, id */
    bool *taken;      /* of heads */
    size_t n_heads;
    maint_row *merged; /* the taken ones with their data, same order */
    size_t n_merged;
} group;

typedef struct output {
    struct output *next;
    blk_meta meta;
    ps_str data;
} output;

typedef struct outputs {
    const ps_alloc *alloc;
    output *first, **last;
} outputs;

/* ---- pass 1: what there is --------------------------------------------------------------- */

static void
add_pair(group *g, const pair *p)
{
    if (g->n_pairs == g->cap_pairs) {
        g->cap_pairs *= 2;
        g->pairs = repalloc_huge(g->pairs, g->cap_pairs * sizeof(pair));
    }
    g->pairs[g->n_pairs++] = *p;
}

/* One pair per metric of the row. Where all of a packed row lies in one cell, as nearly always, the
 * row's bounds and average are good enough; only a row that spans cells is looked at more closely. */
static void
add_pairs(group *g, uint32 row)
{
    blk_reader *r = g->readers[row];
    const blk_meta *m = &g->rows[row].row.meta;
    const uint32 n = blk_reader_n_series(r);
    blk_series s;

    for (uint32 a = 0, b; a < n; a = b) {
        blk_reader_series(r, a, &s);
        pair p = {.tenant_id = m->tenant_id,
                  .metric_id = s.metric_id,
                  .row = row,
                  .series = a,
                  .t_min_ms = m->t_min_ms,
                  .t_max_ms = m->t_max_ms};
        b = m->metric_id > 0 || s.metric_id == INT32_MAX
                ? n
                : blk_reader_seek(r, s.metric_id + 1, INT64_MIN);
        p.series_end = b;
        p.samples = 1 + (uint64)m->n_samples * (b - a) / n;
        add_pair(g, &p);
    }
}

static void
put_back(group *g, uint32 row, const char *text)
{
    fold_row *r = &g->rows[row];

    if (r->put_back)
        return;
    r->put_back = true;
    if (g->readers[row] != NULL)
        g->f->stats.samples_in -= r->row.meta.n_samples;
    maint_note_error("merge", r->row.id, &r->row.meta, text);
}

static void
open_rows(group *g)
{
    ps_err err;

    bridge_alloc_init(&g->alloc, g->f->group_context, MAINT_MEMORY_BYTES);
    g->readers = palloc0_array(blk_reader *, g->n_rows);
    g->cap_pairs = g->n_rows + 64;
    g->pairs = MemoryContextAllocHuge(CurrentMemoryContext, g->cap_pairs * sizeof(pair));
    for (uint32 i = 0; i < g->n_rows; i++) {
        const maint_row *row = &g->rows[i].row;
        ps_status s = blk_reader_open(&g->alloc.alloc, row->data, &row->meta, &g->readers[i], &err);

        if (s != PS_OK) {
            g->readers[i] = NULL;
            put_back(g, i, err.text);
            continue;
        }
        g->f->stats.samples_in += row->meta.n_samples;
        add_pairs(g, i);
        CHECK_FOR_INTERRUPTS();
    }
}

static int
by_unit(int32 tenant_a, int32 metric_a, int32 tenant_b, int32 metric_b)
{
    if (tenant_a != tenant_b)
        return tenant_a < tenant_b ? -1 : 1;
    return metric_a < metric_b ? -1 : metric_a > metric_b;
}

static int
cmp_pairs(const void *a, const void *b)
{
    const pair *x = a, *y = b;
    int c = by_unit(x->tenant_id, x->metric_id, y->tenant_id, y->metric_id);

    return c != 0 ? c : (x->row < y->row ? -1 : x->row > y->row);
}

static int
cmp_rows(const void *a, const void *b)
{
    const maint_row *x = a, *y = b;
    int c = by_unit(x->meta.tenant_id, x->meta.metric_id, y->meta.tenant_id, y->meta.metric_id);

    return c != 0 ? c : (x->id < y->id ? -1 : x->id > y->id);
}

static int
cmp_cells(const void *a, const void *b)
{
    const maint_cell *x = a, *y = b;

    return x->from_ms < y->from_ms ? -1 : x->from_ms > y->from_ms;
}

/* A unit whose samples do not all lie in one cell: their times are decoded and counted by cell. */
static bool
count_cells(group *g, unit *u)
{
    size_t n = 0, cap = 64;
    maint_cell *cells = palloc_array(maint_cell, cap);

    for (size_t p = 0; p < u->n_pairs; p++) {
        const pair *pr = &u->pairs[p];
        blk_reader *r = g->readers[pr->row];
        int64 *times = NULL;
        size_t times_cap = 0;

        for (uint32 i = pr->series; i < pr->series_end; i++) {
            blk_series s;
            size_t got;
            ps_err err;

            blk_reader_series(r, i, &s);
            if (s.n_samples > times_cap) {
                if (times != NULL)
                    pfree(times);
                times_cap = s.n_samples;
                times = palloc_extended(times_cap * sizeof(int64), MCXT_ALLOC_HUGE);
            }
            ps_status st = blk_reader_decode(r, i, INT64_MIN, INT64_MAX, times, NULL, &got, &err);
            if (st != PS_OK) {
                put_back(g, pr->row, err.text);
                return false;
            }
            for (size_t k = 0; k < got; k++) {
                if (n == 0 || times[k] < cells[n - 1].from_ms || times[k] >= cells[n - 1].to_ms) {
                    if (n == cap) {
                        cap *= 2;
                        cells = repalloc_huge(cells, cap * sizeof(maint_cell));
                    }
                    cells[n++] = maint_cell_of(times[k], g->f->boundary_ms);
                }
                cells[n - 1].new_samples++;
            }
        }
        if (times != NULL)
            pfree(times);
    }
    qsort(cells, n, sizeof(maint_cell), cmp_cells);
    size_t out = 0;
    for (size_t i = 0; i < n; i++) {
        if (out > 0 && cells[out - 1].from_ms == cells[i].from_ms)
            cells[out - 1].new_samples += cells[i].new_samples;
        else
            cells[out++] = cells[i];
    }
    u->cells = cells;
    u->n_cells = out;
    return true;
}

static bool
find_cells(group *g, unit *u)
{
    int64 lo = INT64_MAX, hi = INT64_MIN;
    uint64 samples = 0;

    for (size_t i = 0; i < u->n_pairs; i++) {
        lo = Min(lo, u->pairs[i].t_min_ms);
        hi = Max(hi, u->pairs[i].t_max_ms);
        samples += u->pairs[i].samples;
    }
    maint_cell cell = maint_cell_of(lo, g->f->boundary_ms);
    if (hi >= cell.to_ms)
        return count_cells(g, u);
    cell.new_samples = samples;
    u->cells = palloc_array(maint_cell, 1);
    u->cells[0] = cell;
    u->n_cells = 1;
    return true;
}

/* Every fresh row of a unit that cannot be merged goes back. */
static void
give_up(group *g, unit *u, const char *text)
{
    for (size_t i = 0; i < u->n_pairs; i++)
        put_back(g, u->pairs[i].row, text);
    u->n_cells = 0;
}

static void
list_units(group *g)
{
    qsort(g->pairs, g->n_pairs, sizeof(pair), cmp_pairs);
    g->units = MemoryContextAllocHuge(CurrentMemoryContext, (g->n_pairs + 1) * sizeof(unit));
    for (size_t a = 0, b; a < g->n_pairs; a = b) {
        const pair *first = &g->pairs[a];
        unit *u = &g->units[g->n_units++];

        for (b = a + 1; b < g->n_pairs && g->pairs[b].tenant_id == first->tenant_id &&
                        g->pairs[b].metric_id == first->metric_id;
             b++) {
        }
        *u = (unit){.tenant_id = first->tenant_id,
                    .metric_id = first->metric_id,
                    .pairs = &g->pairs[a],
                    .n_pairs = b - a};
        if (!find_cells(g, u))
            give_up(g, u, "another block of the same metric cannot be decoded");
    }
}

/* ---- pass 2: merged rows to take along ---------------------------------------------------- */

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
read_heads(group *g)
{
    metric_range *ranges =
        MemoryContextAllocHuge(CurrentMemoryContext, (g->n_units + 1) * sizeof(metric_range));
    size_t n = 0, out = 0;

    for (size_t i = 0; i < g->n_units; i++) {
        const unit *u = &g->units[i];
        if (u->n_cells > 0)
            ranges[n++] =
                (metric_range){u->metric_id, u->cells[0].from_ms, u->cells[u->n_cells - 1].to_ms};
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
rows_of(maint_row *rows, size_t n, const unit *u, size_t *ret_n)
{
    size_t lo = 0, hi = n;

    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (by_unit(rows[mid].meta.tenant_id, rows[mid].meta.metric_id, u->tenant_id,
                    u->metric_id) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    for (hi = lo; hi < n && rows[hi].meta.tenant_id == u->tenant_id &&
                  rows[hi].meta.metric_id == u->metric_id;
         hi++) {
    }
    *ret_n = hi - lo;
    return rows + lo;
}

static size_t
choose(group *g)
{
    size_t n_taken = 0;

    for (size_t i = 0; i < g->n_units; i++) {
        const unit *u = &g->units[i];
        size_t n;
        maint_row *heads = rows_of(g->heads, g->n_heads, u, &n);

        for (size_t c = 0; n > 0 && c < u->n_cells; c++)
            n_taken += maint_pick(heads, n, &u->cells[c], g->f->bad, g->f->n_bad,
                                  g->taken + (heads - g->heads));
    }
    return n_taken;
}

static void
take_merged(group *g, size_t n)
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

/* Merges the cells [first, last) of u, which lie close together and have one width. */
static ps_status
merge_cells(const unit *u, blk_reader *const *inputs, size_t n_inputs, const maint_cell *first,
            const maint_cell *last, outputs *out, blk_merge_stats *stats, ps_err *err)
{
    blk_merge_opts opts = {
        .tenant_id = u->tenant_id,
        .metric_id = u->metric_id,
        .out_level = BLK_LEVEL_MERGED,
        .from_ms = first->from_ms,
        .to_ms = last->to_ms,
        .cut_ms = first->to_ms - first->from_ms,
        .cut_lo_ms = first->from_ms,
        .cut_hi_ms = last->to_ms,
        .target_bytes = MAINT_TARGET_BYTES,
        .target_samples = MAINT_TARGET_SAMPLES,
    };

    return blk_merge(out->alloc, inputs, n_inputs, &opts, keep_output, out, bridge_interrupted,
                     stats, err);
}

/* Cells are handled some at a time, since each has an open block while the merge runs. */
static ps_status
merge_unit(group *g, const unit *u, blk_reader *const *merged, size_t n_merged, outputs *out,
           blk_dup_stats *dups, ps_err *err)
{
    enum { CELLS_AT_ONCE = 48 };
    const size_t n_inputs = n_merged + u->n_pairs;
    blk_reader **inputs = palloc0_array(blk_reader *, n_inputs);

    if (n_merged > 0)
        memcpy(inputs, merged, n_merged * sizeof(*inputs));
    for (size_t i = 0; i < u->n_pairs; i++)
        inputs[n_merged + i] = g->readers[u->pairs[i].row];
    for (size_t a = 0, b; a < u->n_cells; a = b) {
        const maint_cell *c = u->cells;
        blk_merge_stats stats;

        for (b = a + 1; b < u->n_cells && b - a < CELLS_AT_ONCE &&
                        c[b].to_ms - c[b].from_ms == c[a].to_ms - c[a].from_ms;
             b++) {
        }
        PS_TRY(merge_cells(u, inputs, n_inputs, &c[a], &c[b - 1], out, &stats, err));
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
 * (to leave out all of them is always right) and the second try takes the fresh rows alone. */
static ps_status
try_unit(group *g, const unit *u, const ps_alloc *alloc, outputs *out, ps_err *err)
{
    size_t n;
    const maint_row *merged = rows_of(g->merged, g->n_merged, u, &n), *bad = NULL;
    blk_reader **readers = palloc0_array(blk_reader *, Max(n, 1));
    blk_dup_stats dups = {0};

    ps_status status = open_merged(alloc, merged, n, readers, &bad, err);
    if (status == PS_OK)
        status = merge_unit(g, u, readers, n, out, &dups, err);
    if (status != PS_OK && status != PS_ECANCELED && n > 0) {
        for (size_t i = 0; i < n; i++) {
            maint_insert(g->f->put_back, &merged[i].id, &merged[i].meta, merged[i].data);
            if (bad == NULL || bad == &merged[i])
                maint_note_error("merge", merged[i].id, &merged[i].meta, err->text);
        }
        *out = (outputs){.alloc = alloc, .last = &out->first};
        dups = (blk_dup_stats){0};
        status = merge_unit(g, u, NULL, 0, out, &dups, err);
    }
    g->f->stats.duplicates += (int64)dups.duplicates;
    g->f->stats.conflicts += (int64)dups.conflicts;
    return status;
}

static void
run_unit(group *g, unit *u)
{
    bridge_alloc alloc;
    outputs out = {.alloc = &alloc.alloc, .last = &out.first};
    ps_err err;

    MemoryContext old = MemoryContextSwitchTo(g->unit_context);
    bridge_alloc_init(&alloc, g->unit_context, MAINT_MEMORY_BYTES);
    ps_status status = try_unit(g, u, &alloc.alloc, &out, &err);
    if (status == PS_ECANCELED)
        bridge_raise(status, &err, NULL, NULL);
    if (status != PS_OK)
        give_up(g, u, err.text);
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
    group g = {.f = f, .rows = rows, .n_rows = n};
    SPITupleTable *taken_table = NULL;

    g.unit_context =
        AllocSetContextCreate(f->group_context, "promscale fold unit", ALLOCSET_DEFAULT_SIZES);
    open_rows(&g);
    list_units(&g);
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
    if (taken_table != NULL)
        SPI_freetuptable(taken_table);
}
