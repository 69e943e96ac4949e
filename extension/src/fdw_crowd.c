/*
 * fdw_crowd.c - a cluster of too many blocks to hold them open together: block by block.
 *
 * Blocks that all span the whole range (of series and time: what many writers leave behind, or folding
 * that never ran) can neither be passed over nor sliced. So as many series as will fit are taken at a
 * time; each block is opened by itself, what it holds of those series is decoded and put aside, and it is
 * closed. Then they are handed out, and the next ones are taken. A block is opened once for each such
 * batch; the memory is that of one open block and one batch, however many blocks there are. Should a
 * batch turn out too large it is begun again with half as many series. A batch of one series is taken
 * in any case: its samples have to be held to be merged.
 */
#include "fdw.h"

#include "miscadmin.h"
#include "utils/memutils.h"

/* Half of the memory is for the batch, the rest for the block that is open. */
static size_t
batch_bytes(void)
{
    return (size_t)fdw_block_memory_kb * 1024 / 2;
}

static size_t
used_bytes(const fdw_crowd *c)
{
    return MemoryContextMemAllocated(c->context, false) + c->n_found * sizeof(*c->found);
}

void
fdw_crowd_begin(fdw_merge *m)
{
    double per_series = 0;

    for (size_t i = 0; i < m->n_active; i++)
        fdw_block_close(m->scan, m->active[i]);
    m->n_active = 0;
    m->next_block = 0; /* those that no batch opens are counted as skipped in the end */
    m->crowded = true;
    m->crowd.n_found = m->crowd.next_found = 0;
    for (size_t i = 0; i < m->n_blocks; i++) {
        const blk_meta *meta = &m->blocks[i]->meta;

        per_series += (double)meta->n_samples / meta->n_series * (sizeof(int64) + sizeof(double)) +
                      sizeof(fdw_found) + 64;
    }
    m->crowd.batch = (size_t)Max(batch_bytes() / per_series, 1);
}

/* Puts aside what the open block holds of its current series, which is number w of the wanted. */
static void
take(fdw_merge *m, fdw_block *block, size_t w, fdw_found *before)
{
    fdw_crowd *c = &m->crowd;
    const blk_series *s = &block->current;
    fdw_found found = {.wanted = w, .run = {.block = block, .series = *s}};
    fdw_run *run = &found.run;
    ps_status status = PS_OK;
    ps_err err = {0};

    if (s->t_first_ms > m->to_ms || s->t_last_ms < m->from_ms)
        return;
    if (before->run.block == block && before->run.series.times_id == s->times_id) {
        run->t_ms = before->run.t_ms;
        run->lo = before->run.lo;
        run->n = before->run.n;
    } else {
        int64 *t_ms = MemoryContextAllocHuge(c->context, s->n_samples * sizeof(int64));

        status = blk_reader_times(block->reader, s->index, m->from_ms, m->to_ms, t_ms, &run->lo,
                                  &run->n, &err);
        run->t_ms = t_ms;
    }
    if (status == PS_OK && run->n > 0 && fdw_run_is_histogram(run) && m->scan->need_histogram) {
        run->histograms = MemoryContextAllocHuge(c->context, run->n * sizeof(*run->histograms));
        fdw_block_histograms(m->scan, block, s->index, run->lo, run->n, &c->arena, run->histograms);
    } else if (status == PS_OK && run->n > 0 && !fdw_run_is_histogram(run) && m->scan->need_value) {
        run->values = MemoryContextAllocHuge(c->context, run->n * sizeof(double));
        status = blk_reader_values(block->reader, s->index, run->lo, run->n, run->values, &err);
    }
    if (status != PS_OK)
        fdw_block_raise(block, status, &err);
    if (run->n > 0 && m->scan->need_start) {
        run->start_ms = MemoryContextAllocHuge(c->context, run->n * sizeof(int64));
        fdw_block_starts(m->scan, block, s, run->lo, run->n, run->start_ms);
    }
    *before = found;
    c->found = fdw_grow(m->context, c->found, &c->cap_found, c->n_found + 1, sizeof(*c->found));
    c->found[c->n_found++] = found;
}

/* What the block holds of wanted series [first, end). False: the batch has become too large. */
static bool
gather_block(fdw_merge *m, fdw_block *block, size_t first, size_t end)
{
    fdw_found before = {0};
    bool fits = true;
    size_t w = first;

    if (!fdw_block_open(m->scan, block))
        return true;
    fdw_block_seek(block, m->metric_id, m->wanted[w].id);
    while (fits && w < end && block->current_valid) {
        int64 id = block->current.series_id;

        if (m->wanted[w].id < id) {
            w = fdw_wanted_seek(m, w, id);
        } else if (m->wanted[w].id > id) {
            fdw_block_advance(block, m->metric_id, m->wanted[w].id);
        } else {
            take(m, block, w, &before);
            fdw_block_advance(block, m->metric_id, id + 1);
            w++;
        }
        fits = end - first == 1 || used_bytes(&m->crowd) <= batch_bytes();
    }
    fdw_block_close(m->scan, block);
    return fits;
}

static bool
gather(fdw_merge *m, size_t first, size_t end)
{
    int64 lo = m->wanted[first].id, hi = m->wanted[end - 1].id;

    MemoryContextReset(m->crowd.context);
    bridge_alloc_init(&m->crowd.memory, m->crowd.context, 0);
    ps_arena_init(&m->crowd.arena, &m->crowd.memory.alloc, 0);
    m->crowd.n_found = m->crowd.next_found = 0;
    for (size_t i = 0; i < m->n_blocks && m->blocks[i]->meta.series_lo <= hi; i++) {
        fdw_block *block = m->blocks[i];

        CHECK_FOR_INTERRUPTS();
        if (block->meta.series_hi < lo)
            continue;
        /* none of the wanted ones may lie in its range */
        size_t w = fdw_wanted_seek(m, first, block->meta.series_lo);

        if (w < end && m->wanted[w].id <= block->meta.series_hi &&
            !gather_block(m, block, first, end))
            return false;
    }
    return true;
}

static int
compare_found(const void *a, const void *b)
{
    const fdw_found *x = a, *y = b;

    if (x->wanted != y->wanted)
        return x->wanted < y->wanted ? -1 : 1;
    return (x->run.block->serial > y->run.block->serial) -
           (x->run.block->serial < y->run.block->serial);
}

static void
next_batch(fdw_merge *m)
{
    fdw_crowd *c = &m->crowd;
    size_t first = m->next_wanted, n = Min(c->batch, m->n_wanted - first);

    while (!gather(m, first, first + n))
        n = Max(n / 2, 1);
    m->next_wanted = first + n;
    if (c->n_found > 1)
        qsort(c->found, c->n_found, sizeof(*c->found), compare_found);
    /* the next one by what this one took */
    c->batch = Max(n, 1);
    for (size_t used = used_bytes(c); used < batch_bytes() / 3 && c->batch < 16 * n; used *= 2)
        c->batch *= 2;
}

const fdw_series *
fdw_crowd_next(fdw_merge *m)
{
    fdw_crowd *c = &m->crowd;

    for (;;) {
        CHECK_FOR_INTERRUPTS();
        if (c->next_found == c->n_found) {
            if (m->next_wanted >= m->n_wanted)
                return NULL;
            next_batch(m);
            continue;
        }

        size_t w = c->found[c->next_found].wanted;

        for (m->n_runs = 0; c->next_found < c->n_found && c->found[c->next_found].wanted == w;) {
            m->runs = fdw_grow(m->context, m->runs, &m->cap_runs, m->n_runs + 1, sizeof(*m->runs));
            m->runs[m->n_runs++] = c->found[c->next_found++].run;
        }
        fdw_merge_runs(m);
        if (m->out.n > 0)
            return &m->wanted[w];
    }
}
