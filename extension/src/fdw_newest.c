/*
 * fdw_newest.c - the newest sample of each series, reading as little as possible.
 *
 * Clusters are walked from the newest to the oldest, and a series is done when a cluster had a sample
 * of it: what is older is in older clusters. A block's head tells each of its series' last time and
 * value, so samples are decoded only where the upper bound of time cuts through a series of a block.
 * Within a cluster blocks come by their end, so that once every series has a sample the rest, which
 * ended before the oldest of these, need not be opened. Of equal times the float counts before the
 * histogram, then the sample of the higher level, then of the lower id, as everywhere. A head tells no
 * histograms and no start timestamps: where these are wanted blocks are opened whole.
 *
 * A metric's series that are done are skipped by links to the next one that is not.
 */
#include "fdw.h"

#include "miscadmin.h"
#include "utils/memutils.h"

typedef struct best_sample {
    int64 t_ms;
    double value;
    const hst_hist *histogram; /* NULL: a float */
    int64 start_ms;            /* 0: not known, or nobody asks */
    int64 id;                  /* of the block */
    int16 level, kind;
    bool found;
} best_sample;

struct fdw_newest {
    fdw_scan *scan;
    MemoryContext context; /* of one metric */
    bool in_metric;
    bool only_first; /* leave a metric after the first cluster that has something */
    uint32 *next;    /* per wanted series: itself if not done, else one closer to the next such */
    best_sample *best;
    size_t n, n_left;          /* wanted; not done */
    const hst_hist *histogram; /* of the sample given last */
    int64 start_ms;            /* likewise */
    uint32 *found;             /* those that the cluster has */
    size_t n_found, next_found;
    int64 *t_ms; /* scratch for a series that is cut */
    size_t cap;
};

fdw_newest *
fdw_newest_new(fdw_scan *scan, bool only_first)
{
    fdw_newest *w = MemoryContextAllocZero(scan->context, sizeof(*w));

    w->scan = scan;
    w->only_first = only_first;
    w->context =
        AllocSetContextCreate(scan->context, "promscale newest samples", ALLOCSET_DEFAULT_SIZES);
    scan->backwards = true;
    return w;
}

void
fdw_newest_again(fdw_newest *w)
{
    w->in_metric = false;
    w->n_found = w->next_found = 0;
}

/* First wanted series from i on that is not done. */
static size_t
next_left(fdw_newest *w, size_t i)
{
    while (w->next[i] != i) {
        w->next[i] = w->next[w->next[i]];
        i = w->next[i];
    }
    return i;
}

static void
begin_metric(fdw_newest *w)
{
    MemoryContextReset(w->context);
    w->n = w->n_left = w->scan->merge.n_wanted;
    if (w->n >= PG_UINT32_MAX)
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("too many series")));
    w->next = MemoryContextAllocHuge(w->context, (w->n + 1) * sizeof(*w->next));
    w->found = MemoryContextAllocHuge(w->context, w->n * sizeof(*w->found));
    w->best = MemoryContextAllocHuge(w->context, w->n * sizeof(*w->best));
    for (size_t i = 0; i <= w->n; i++)
        w->next[i] = (uint32)i;
    for (size_t i = 0; i < w->n; i++)
        w->best[i].found = false;
    w->t_ms = NULL;
    w->cap = w->n_found = w->next_found = 0;
    w->in_metric = true;
}

/* ---- one block ---------------------------------------------------------------------------- */

/* What heads do not tell of sample number i of the current series: a histogram, a start timestamp. */
static void
look_inside(fdw_scan *scan, fdw_block *block, size_t i, best_sample *to)
{
    if (block->meta.kind == BLK_KIND_HISTOGRAM && scan->newest_arena != NULL)
        fdw_block_histograms(scan, block, block->current.index, i, 1, scan->newest_arena,
                             &to->histogram);
    if (scan->need_start)
        fdw_block_starts(scan, block, &block->current, i, 1, &to->start_ms);
}

/* The newest sample inside the bounds of a series that goes on after them; false: there is none. */
static bool
decode_cut(fdw_newest *w, fdw_block *block, best_sample *ret)
{
    const fdw_scan *scan = w->scan;
    const blk_series *series = &block->current;
    const bool floats = block->meta.kind == BLK_KIND_FLOAT;
    const bool values = floats && scan->need_value;
    ps_err err = {0};
    ps_status status;
    size_t lo = 0, n = 0;

    if (series->n_samples > w->cap) {
        if (w->t_ms != NULL)
            pfree(w->t_ms);
        w->cap = series->n_samples;
        w->t_ms = MemoryContextAllocHuge(w->context, w->cap * sizeof(*w->t_ms));
    }
    status = blk_reader_times(block->reader, series->index, scan->want.from_ms, scan->want.to_ms,
                              w->t_ms, &lo, &n, &err);
    if (status == PS_OK && n > 0 && values)
        status = blk_reader_values(block->reader, series->index, lo + n - 1, 1, &ret->value, &err);
    if (status != PS_OK)
        fdw_block_raise(block, status, &err);
    w->scan->counts.samples_decoded += n;
    if (n == 0)
        return false;
    ret->t_ms = w->t_ms[n - 1];
    look_inside(w->scan, block, lo + n - 1, ret);
    return true;
}

static bool
better(const best_sample *a, const best_sample *b)
{
    if (!b->found || a->t_ms != b->t_ms)
        return !b->found || a->t_ms > b->t_ms;
    if (a->kind != b->kind)
        return a->kind == BLK_KIND_FLOAT;
    return a->level != b->level ? a->level > b->level : a->id < b->id;
}

/* The block's current series is wanted[i]. */
static void
look_at_series(fdw_newest *w, fdw_block *block, size_t i)
{
    fdw_scan *scan = w->scan;
    const blk_series *series = &block->current;
    best_sample sample = {.t_ms = series->t_last_ms,
                          .id = block->id,
                          .level = block->meta.level,
                          .kind = block->meta.kind,
                          .found = true};

    if (series->t_last_ms < scan->want.from_ms || series->t_first_ms > scan->want.to_ms)
        return;
    if (series->t_last_ms <= scan->want.to_ms) {
        if (!better(&sample, &w->best[i]))
            return;
        look_inside(scan, block, series->n_samples - 1, &sample);
        if (sample.kind == BLK_KIND_FLOAT && scan->need_value)
            sample.value = fdw_block_last_value(block);
    } else if (!decode_cut(w, block, &sample) || !better(&sample, &w->best[i])) {
        return;
    }
    if (!w->best[i].found)
        w->found[w->n_found++] = (uint32)i;
    w->best[i] = sample;
}

static void
walk_block(fdw_newest *w, fdw_block *block)
{
    fdw_scan *scan = w->scan;
    const fdw_merge *m = &scan->merge;
    size_t i = next_left(w, fdw_wanted_seek(m, 0, block->meta.series_lo));

    if (i == w->n || m->wanted[i].id > block->meta.series_hi) {
        fdw_block_count(scan, block, FDW_COUNTED_SKIPPED);
        return;
    }

    const bool whole = block->meta.t_max_ms > scan->want.to_ms ||
                       block->meta.kind == BLK_KIND_HISTOGRAM || scan->need_start;

    if (!(whole ? fdw_block_open(scan, block) : fdw_block_open_head(scan, block)))
        return;
    fdw_block_seek(block, m->metric_id, m->wanted[i].id);
    while (block->current_valid && i < w->n) {
        if (block->current.series_id > m->wanted[i].id) {
            i = next_left(w, fdw_wanted_seek(m, i, block->current.series_id));
        } else if (block->current.series_id < m->wanted[i].id) {
            fdw_block_advance(block, m->metric_id, m->wanted[i].id);
        } else {
            look_at_series(w, block, i);
            i = next_left(w, i + 1);
        }
    }
    fdw_block_close(scan, block);
}

/* ---- the walk ----------------------------------------------------------------------------- */

static int
compare_end(const void *a, const void *b)
{
    int64 x = (*(fdw_block *const *)a)->meta.t_max_ms, y = (*(fdw_block *const *)b)->meta.t_max_ms;

    return (x < y) - (x > y);
}

static void
walk_cluster(fdw_newest *w, fdw_block *const *items, size_t n)
{
    fdw_block **blocks = MemoryContextAllocHuge(w->context, n * sizeof(*blocks));
    int64 oldest_ms = PG_INT64_MIN; /* of the samples found, once every series has one */

    w->n_found = w->next_found = 0;
    memcpy(blocks, items, n * sizeof(*blocks));
    qsort(blocks, n, sizeof(*blocks), compare_end);
    for (size_t i = 0; i < n; i++) {
        CHECK_FOR_INTERRUPTS();
        if (blocks[i]->meta.t_max_ms < oldest_ms) {
            fdw_block_count(w->scan, blocks[i], FDW_COUNTED_SKIPPED);
            continue;
        }
        walk_block(w, blocks[i]);
        if (w->n_found < w->n_left || oldest_ms != PG_INT64_MIN)
            continue;
        oldest_ms = PG_INT64_MAX;
        for (size_t k = 0; k < w->n_found; k++)
            oldest_ms = Min(oldest_ms, w->best[w->found[k]].t_ms);
    }
    pfree(blocks);
    for (size_t k = 0; k < w->n_found; k++)
        w->next[w->found[k]] = w->found[k] + 1;
    w->n_left -= w->n_found;
}

bool
fdw_newest_next(fdw_newest *w, int64 *ret_t_ms, double *ret_value)
{
    fdw_scan *scan = w->scan;

    for (;;) {
        size_t first, n;

        if (w->next_found < w->n_found) {
            uint32 i = w->found[w->next_found++];

            scan->current = &scan->merge.wanted[i];
            *ret_t_ms = w->best[i].t_ms;
            *ret_value = w->best[i].value;
            w->histogram = w->best[i].histogram;
            w->start_ms = w->best[i].start_ms;
            return true;
        }
        if (!w->in_metric) {
            if (!fdw_scan_next_metric(scan))
                return false;
            begin_metric(w);
        }
        if (w->n_left == 0 || (w->only_first && w->n_left < w->n) ||
            !fdw_directory_next(&scan->directory, &first, &n)) {
            w->in_metric = false;
            w->n_found = w->next_found = 0;
            continue;
        }
        walk_cluster(w, scan->directory.items + first, n);
    }
}

const hst_hist *
fdw_newest_histogram(const fdw_newest *w)
{
    return w->histogram;
}

int64
fdw_newest_start(const fdw_newest *w)
{
    return w->start_ms;
}
