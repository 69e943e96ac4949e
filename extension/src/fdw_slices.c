/*
 * fdw_slices.c - keeps the walk over a cluster within its memory.
 *
 * The walk holds open all blocks that can hold the current series. Mostly those are few; but when
 * folding lags behind, or many writers' blocks overlap, hundreds may be. Then the cluster is walked in
 * slices of time, one after another: a slice opens only the blocks that reach into it, and no sample
 * is in two slices. Blocks that reach over several slices are opened again for each, so there are
 * only as many slices as the estimate of the open blocks' peak demands, and fewer where blocks would be
 * opened too often: those that all reach over everything gain nothing by slicing (fdw_crowd.c).
 */
#include "fdw.h"

#include "access/detoast.h"
#include "miscadmin.h"
#include "utils/memutils.h"

enum { MAX_SLICES = 256, WORK_MEM_FACTOR = 4, MAX_OPENINGS = 3 };

typedef struct edge { /* where a block's range of series begins or ends */
    int64 series_id;
    int64 bytes; /* negative: ends; sorts after the beginnings at the same series */
} edge;

static int
compare_edges(const void *a, const void *b)
{
    const edge *x = a, *y = b;

    if (x->series_id != y->series_id)
        return x->series_id < y->series_id ? -1 : 1;
    return (x->bytes < y->bytes) - (x->bytes > y->bytes);
}

/* Most that the walk will have open at once. */
static int64
peak_bytes(fdw_block *const *blocks, size_t n, MemoryContext context)
{
    edge *edges = MemoryContextAllocHuge(context, 2 * n * sizeof(edge));
    int64 bytes = 0, peak = 0;

    for (size_t i = 0; i < n; i++) {
        int64 size = (int64)fdw_block_need(blocks[i]);

        edges[2 * i] = (edge){.series_id = blocks[i]->meta.series_lo, .bytes = size};
        edges[2 * i + 1] = (edge){.series_id = blocks[i]->meta.series_hi, .bytes = -size};
    }
    qsort(edges, 2 * n, sizeof(edge), compare_edges);
    for (size_t i = 0; i < 2 * n; i++) {
        bytes += edges[i].bytes;
        peak = Max(peak, bytes);
    }
    pfree(edges);
    return peak;
}

/* At most n_slices of them. */
static void
cut(fdw_slices *slices, const fdw_want *want, fdw_block *const *blocks, size_t n, size_t n_slices)
{
    slices->n = slices->next = 0;
    slices->starts_ms[slices->n++] = want->from_ms;
    for (size_t i = 1; i < n_slices; i++) {
        int64 start_ms = blocks[n * i / n_slices]->meta.t_min_ms;

        if (start_ms > slices->starts_ms[slices->n - 1])
            slices->starts_ms[slices->n++] = start_ms;
    }
    slices->starts_ms[slices->n] = want->to_ms + 1;
}

/* How often blocks will be opened: for each slice that they reach into. */
static size_t
openings(const fdw_slices *slices, fdw_block *const *blocks, size_t n)
{
    size_t sum = 0, first = 0;

    for (size_t i = 0; i < n; i++) {
        size_t k;

        while (first + 1 < slices->n && slices->starts_ms[first + 1] <= blocks[i]->meta.t_min_ms)
            first++;
        for (k = first; k < slices->n && slices->starts_ms[k] <= blocks[i]->meta.t_max_ms; k++)
            sum++;
    }
    return sum;
}

void
fdw_slices_make(fdw_slices *slices, const fdw_want *want, fdw_block *const *blocks, size_t n,
                MemoryContext context)
{
    int64 allowed = (int64)work_mem * 1024 * WORK_MEM_FACTOR;
    int64 sum = 0;
    size_t n_slices = 1;

    for (size_t i = 0; i < n; i++)
        sum += (int64)fdw_block_need(blocks[i]);
    if (sum > allowed)
        n_slices = Min(peak_bytes(blocks, n, context) / allowed + 1, Min(MAX_SLICES, (int64)n));
    if (slices->starts_ms == NULL)
        slices->starts_ms = MemoryContextAlloc(context, (MAX_SLICES + 1) * sizeof(int64));
    do {
        cut(slices, want, blocks, n, n_slices);
        n_slices /= 2;
    } while (slices->n > 1 && openings(slices, blocks, n) > n * MAX_OPENINGS);
}

bool
fdw_slices_next(fdw_slices *slices, int64 *ret_from_ms, int64 *ret_to_ms)
{
    if (slices->next == slices->n)
        return false;
    *ret_from_ms = slices->starts_ms[slices->next];
    *ret_to_ms = slices->starts_ms[slices->next + 1] - 1;
    slices->next++;
    return true;
}
