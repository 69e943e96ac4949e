/*
 * maint_units.c - what one bucket of fresh rows holds: which metrics of which tenants, with which rows
 * and series, and for which cells of time. A row that cannot be read is noted and goes back.
 */
#include "maint_fold.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/memutils.h"

enum { NO_PLACE = 0xffffffff };

static void
add_pair(fold_bucket *g, const fold_pair *p)
{
    if (g->n_pairs == g->cap_pairs) {
        g->cap_pairs *= 2;
        g->pairs = repalloc_huge(g->pairs, g->cap_pairs * sizeof(fold_pair));
    }
    g->pairs[g->n_pairs++] = *p;
}

/* One pair per metric of the row. Where all of a packed row lies in one cell, as nearly always, the
 * row's bounds and average are good enough; only a row that spans cells is looked at more closely. */
static void
add_pairs(fold_bucket *g, uint32 row)
{
    blk_reader *r = g->readers[row];
    const blk_meta *m = &g->rows[row].row.meta;
    const uint32 n = blk_reader_n_series(r);

    for (uint32 a = 0, b; a < n; a = b) {
        fold_pair p = {.stream = {m->tenant_id, blk_reader_metric(r, a, &b), m->kind},
                       .row = row,
                       .series = a,
                       .t_min_ms = m->t_min_ms,
                       .t_max_ms = m->t_max_ms};
        p.series_end = b;
        p.samples = 1 + (uint64)m->n_samples * (b - a) / n;
        add_pair(g, &p);
    }
}

static void
put_back(fold_bucket *g, uint32 row, const char *text)
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
open_rows(fold_bucket *g)
{
    ps_err err;

    bridge_alloc_init(&g->alloc, g->f->group_context, MAINT_MEMORY_BYTES);
    g->readers = palloc0_array(blk_reader *, g->n_rows);
    g->cap_pairs = g->n_rows + 64;
    g->pairs = MemoryContextAllocHuge(CurrentMemoryContext, g->cap_pairs * sizeof(fold_pair));
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

int
fold_stream_order(fold_stream a, fold_stream b)
{
    if (a.tenant_id != b.tenant_id)
        return a.tenant_id < b.tenant_id ? -1 : 1;
    if (a.metric_id != b.metric_id)
        return a.metric_id < b.metric_id ? -1 : 1;
    return a.kind < b.kind ? -1 : a.kind > b.kind;
}

/* A stream while its pairs are gathered. */
typedef struct gathered {
    fold_stream stream;
    uint32 next; /* the stream that followed in a row */
    size_t n, at;
} gathered;

/* All streams of the bucket, in the order in which they are met; a hash table knows their places. */
typedef struct gathering {
    gathered *items;
    size_t n, cap;
    uint32 *table; /* place + 1; twice as many as cap */
} gathering;

static size_t
slot_of(const gathering *a, fold_stream s)
{
    const size_t mask = a->cap * 2 - 1;
    size_t at = (murmurhash32((uint32)s.metric_id) ^ ((uint32)s.tenant_id * 40503u) ^ (uint16)s.kind) & mask;

    while (a->table[at] != 0 && fold_stream_order(a->items[a->table[at] - 1].stream, s) != 0)
        at = (at + 1) & mask;
    return at;
}

static uint32
place_of(gathering *a, fold_stream s)
{
    size_t at = slot_of(a, s);

    if (a->table[at] != 0)
        return a->table[at] - 1;
    if (a->n == a->cap) {
        a->cap *= 2;
        a->items = repalloc_huge(a->items, a->cap * sizeof(gathered));
        pfree(a->table);
        a->table = palloc_extended(a->cap * 2 * sizeof(uint32), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
        for (size_t i = 0; i < a->n; i++)
            a->table[slot_of(a, a->items[i].stream)] = (uint32)i + 1;
        at = slot_of(a, s);
    }
    a->items[a->n] = (gathered){.stream = s, .next = NO_PLACE};
    a->table[at] = (uint32)++a->n;
    return (uint32)a->n - 1;
}

static int
cmp_gathered(const void *a, const void *b)
{
    return fold_stream_order(((const gathered *)a)->stream, ((const gathered *)b)->stream);
}

/* Pairs by stream and row. They come row by row, and rows mostly hold the same streams as those before
 * them: so the streams are put in order and not the many pairs. */
static void
sort_pairs(fold_bucket *g)
{
    gathering a = {.cap = 256};
    uint32 *place = MemoryContextAllocHuge(CurrentMemoryContext, (g->n_pairs + 1) * sizeof(uint32));
    fold_pair *sorted = MemoryContextAllocHuge(CurrentMemoryContext, g->cap_pairs * sizeof(fold_pair));
    size_t at = 0;

    a.items = palloc_array(gathered, a.cap);
    a.table = palloc0_array(uint32, a.cap * 2);
    for (size_t i = 0; i < g->n_pairs; i++) {
        const uint32 before = i == 0 ? NO_PLACE : place[i - 1];
        uint32 k = before == NO_PLACE ? NO_PLACE : a.items[before].next;

        if (k == NO_PLACE || fold_stream_order(a.items[k].stream, g->pairs[i].stream) != 0) {
            k = place_of(&a, g->pairs[i].stream);
            if (before != NO_PLACE)
                a.items[before].next = k;
        }
        a.items[k].n++;
        place[i] = k;
    }
    /* where each begins, told to the items as they were met */
    gathered *order = MemoryContextAllocHuge(CurrentMemoryContext, (a.n + 1) * sizeof(gathered));
    for (size_t i = 0; i < a.n; i++) {
        order[i] = a.items[i];
        order[i].at = i;
    }
    qsort(order, a.n, sizeof(gathered), cmp_gathered);
    for (size_t i = 0; i < a.n; i++) {
        a.items[order[i].at].at = at;
        at += order[i].n;
    }
    for (size_t i = 0; i < g->n_pairs; i++)
        sorted[a.items[place[i]].at++] = g->pairs[i];
    pfree(g->pairs);
    g->pairs = sorted;
    pfree(order);
    pfree(a.table);
    pfree(a.items);
    pfree(place);
}

static int
cmp_cells(const void *a, const void *b)
{
    const maint_cell *x = a, *y = b;

    return x->from_ms < y->from_ms ? -1 : x->from_ms > y->from_ms;
}

/* A unit whose samples do not all lie in one cell: their times are decoded and counted by cell. */
static bool
count_cells(fold_bucket *g, fold_unit *u)
{
    size_t n = 0, cap = 64;
    maint_cell *cells = palloc_array(maint_cell, cap);

    for (size_t p = 0; p < u->n_pairs; p++) {
        const fold_pair *pr = &u->pairs[p];
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
find_cells(fold_bucket *g, fold_unit *u)
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

void
fold_give_up(fold_bucket *g, fold_unit *u, const char *text)
{
    for (size_t i = 0; i < u->n_pairs; i++)
        put_back(g, u->pairs[i].row, text);
    u->n_cells = 0;
}

static int
cmp_ids(const void *a, const void *b)
{
    int32 x = *(const int32 *)a, y = *(const int32 *)b;

    return (x > y) - (x < y);
}

/* A unit of a dropped metric has no cells either, but its rows do not go back for its sake. */
static bool
was_dropped(const fold *f, int32 metric_id)
{
    return bsearch(&metric_id, f->dropped, f->n_dropped, sizeof(int32), cmp_ids) != NULL;
}

void
fold_list_units(fold_bucket *g)
{
    open_rows(g);
    sort_pairs(g);
    g->units = MemoryContextAllocHuge(CurrentMemoryContext, (g->n_pairs + 1) * sizeof(fold_unit));
    for (size_t a = 0, b; a < g->n_pairs; a = b) {
        const fold_pair *first = &g->pairs[a];
        fold_unit *u = &g->units[g->n_units++];

        for (b = a + 1; b < g->n_pairs && fold_stream_order(g->pairs[b].stream, first->stream) == 0;
             b++) {
        }
        *u = (fold_unit){.stream = first->stream, .pairs = &g->pairs[a], .n_pairs = b - a};
        if (!was_dropped(g->f, u->stream.metric_id) && !find_cells(g, u))
            fold_give_up(g, u, "another block of the same metric cannot be decoded");
    }
}
