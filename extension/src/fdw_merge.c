/*
 * fdw_merge.c - a cluster of blocks, series by series.
 *
 * The wanted series and the blocks (by series_lo) are walked together in ascending order. A block is
 * opened when the walk reaches a wanted series inside its range and left when the walk is past it, so
 * that at any time only blocks that can hold the current series are open; blocks that hold none of
 * the wanted series are never opened. Where no open block holds a series, the walk jumps.
 *
 * Should the open blocks come to take more than promscale.block_memory (many blocks that all hold many
 * series), all are closed, and from that series on fdw_crowd.c goes the other way round: block by
 * block for as many series as fit.
 *
 * What becomes of the blocks' samples of one series is fdw_runs.c's.
 */
#include "fdw.h"

#include "miscadmin.h"
#include "utils/memutils.h"

void
fdw_merge_init(fdw_merge *m, fdw_scan *scan, MemoryContext parent)
{
    memset(m, 0, sizeof(*m));
    m->scan = scan;
    m->context = AllocSetContextCreate(parent, "promscale merge", ALLOCSET_DEFAULT_SIZES);
    m->crowd.context = AllocSetContextCreate(m->context, "promscale crowd", ALLOCSET_DEFAULT_SIZES);
}

/* ---- the walk ----------------------------------------------------------------------------- */

static int
compare_series_lo(const void *a, const void *b)
{
    int64 x = (*(fdw_block *const *)a)->meta.series_lo;
    int64 y = (*(fdw_block *const *)b)->meta.series_lo;

    return (x > y) - (x < y);
}

void
fdw_merge_start(fdw_merge *m, int64 from_ms, int64 to_ms, fdw_block *const *blocks, size_t n_blocks)
{
    if (n_blocks > m->cap_blocks) {
        size_t cap = m->cap_blocks;

        m->blocks = fdw_grow(m->context, m->blocks, &cap, n_blocks, sizeof(*m->blocks));
        m->active = fdw_grow(m->context, m->active, &m->cap_blocks, n_blocks, sizeof(*m->active));
    }
    m->from_ms = from_ms;
    m->to_ms = to_ms;
    m->next_wanted = 0;
    m->n_blocks = 0;
    m->next_block = 0;
    m->n_active = 0;
    m->n_marks = 0; /* other bounds */
    m->crowded = false;
    for (size_t i = 0; i < n_blocks; i++) {
        if (blocks[i]->meta.t_min_ms <= to_ms && blocks[i]->meta.t_max_ms >= from_ms)
            m->blocks[m->n_blocks++] = blocks[i];
    }
    if (m->n_blocks > 1)
        qsort(m->blocks, m->n_blocks, sizeof(*m->blocks), compare_series_lo);
}

void
fdw_merge_stop(fdw_merge *m)
{
    for (size_t i = 0; i < m->n_active; i++)
        fdw_block_leave(m->scan, m->active[i]);
    m->n_active = 0;
    m->next_block = m->n_blocks = 0;
    m->crowded = false;
    MemoryContextReset(m->crowd.context);
}

size_t
fdw_wanted_seek(const fdw_merge *m, size_t from, int64 id)
{
    size_t step = 1, lo = from, hi = from;

    while (hi < m->n_wanted && m->wanted[hi].id < id) {
        lo = hi + 1;
        hi += step;
        step *= 2;
    }
    hi = Min(hi, m->n_wanted);
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (m->wanted[mid].id < id)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* Opens the blocks whose range begins at or before the series, passing over those that end before.
 * What remains begins after it. False: there is no room for another one. */
static bool
reach(fdw_merge *m, int64 id)
{
    while (m->next_block < m->n_blocks && m->blocks[m->next_block]->meta.series_lo <= id) {
        fdw_block *block = m->blocks[m->next_block];

        if (block->meta.series_hi < id) {
            fdw_block_count(m->scan, block, FDW_COUNTED_SKIPPED);
            m->next_block++;
            continue;
        }
        if (m->n_active > 0 && !fdw_block_fits(m->scan, block))
            return false;
        m->next_block++;
        if (!fdw_block_open(m->scan, block))
            continue;
        fdw_block_seek(block, m->metric_id, id);
        m->active[m->n_active++] = block;
    }
    return true;
}

/*
 * Brings each active block to its first series >= id and leaves blocks that have none. Collects the
 * runs of id itself. Returns the smallest series > id that an active block holds, PG_INT64_MAX if
 * none.
 */
static int64
collect(fdw_merge *m, int64 id)
{
    int64 next = PG_INT64_MAX;
    size_t kept = 0;

    m->n_runs = 0;
    m->runs = fdw_grow(m->context, m->runs, &m->cap_runs, m->n_active, sizeof(*m->runs));
    for (size_t i = 0; i < m->n_active; i++) {
        fdw_block *block = m->active[i];

        if (block->current_valid && block->current.series_id < id)
            fdw_block_advance(block, m->metric_id, id);
        if (!block->current_valid) {
            fdw_block_leave(m->scan, block);
            continue;
        }
        m->active[kept++] = block;
        if (block->current.series_id > id) {
            next = Min(next, block->current.series_id);
            continue;
        }
        next = Min(next, id < PG_INT64_MAX ? id + 1 : id);
        if (block->current.t_first_ms <= m->to_ms && block->current.t_last_ms >= m->from_ms)
            m->runs[m->n_runs++] = (fdw_run){.block = block, .series = block->current};
    }
    m->n_active = kept;
    return next;
}

static const fdw_series *
walk_next(fdw_merge *m)
{
    while (m->next_wanted < m->n_wanted) {
        const fdw_series *series = &m->wanted[m->next_wanted];

        CHECK_FOR_INTERRUPTS();
        if (!reach(m, series->id)) {
            fdw_crowd_begin(m);
            return NULL;
        }

        int64 next = collect(m, series->id);

        if (m->next_block < m->n_blocks)
            next = Min(next, m->blocks[m->next_block]->meta.series_lo);
        m->next_wanted =
            next == PG_INT64_MAX ? m->n_wanted : fdw_wanted_seek(m, m->next_wanted + 1, next);
        if (m->n_runs > 0) {
            fdw_merge_runs(m);
            if (m->out.n > 0)
                return series;
        }
    }
    return NULL;
}

const fdw_series *
fdw_merge_next(fdw_merge *m)
{
    const fdw_series *series = NULL;

    if (!m->crowded)
        series = walk_next(m);
    if (m->crowded)
        series = fdw_crowd_next(m);
    if (series != NULL)
        return series;
    for (; m->next_block < m->n_blocks; m->next_block++)
        fdw_block_count(m->scan, m->blocks[m->next_block], FDW_COUNTED_SKIPPED);
    fdw_merge_stop(m);
    return NULL;
}
