/*
 * fdw_merge.c - a cluster of blocks, series by series.
 *
 * The wanted series and the blocks (by series_lo) are walked together in ascending order. A block is
 * opened when the walk reaches a wanted series inside its range and left when the walk is past it, so
 * that at any time only blocks that can hold the current series are open; blocks that hold none of
 * the wanted series are never opened. Where no open block holds a series, the walk jumps.
 *
 * What a block holds of the current series is a run: ascending times. Runs that overlap no other run
 * are decoded straight into the output, in order of time. Runs that overlap are decoded into scratch,
 * best precedence first, and merged pairwise; of equal times the left one stays, so that the first
 * write wins: higher level, then lower id.
 *
 * When neither times nor values are asked for (count(*)), a run that lies inside the bounds and
 * overlaps no other is counted from the directory and not decoded.
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
}

/* ---- arrays ------------------------------------------------------------------------------- */

static void *
grow(fdw_merge *m, void *array, size_t *cap, size_t need, size_t size)
{
    if (need <= *cap)
        return array;
    *cap = Max(need, *cap * 2);
    if (array == NULL)
        return MemoryContextAllocHuge(m->context, *cap * size);
    return repalloc_huge(array, *cap * size);
}

static void
samples_reserve(fdw_merge *m, fdw_samples *s, size_t more)
{
    size_t cap = s->cap;

    if (s->n + more <= cap)
        return;
    s->t_ms = grow(m, s->t_ms, &cap, s->n + more, sizeof(int64));
    cap = s->cap;
    s->values = grow(m, s->values, &cap, s->n + more, sizeof(double));
    s->cap = cap;
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

        m->blocks = grow(m, m->blocks, &cap, n_blocks, sizeof(*m->blocks));
        m->active = grow(m, m->active, &m->cap_blocks, n_blocks, sizeof(*m->active));
    }
    m->from_ms = from_ms;
    m->to_ms = to_ms;
    m->next_wanted = 0;
    m->n_blocks = 0;
    m->next_block = 0;
    m->n_active = 0;
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
}

/* First wanted series at or after `from` whose id is >= id; gallops, then bisects. */
static size_t
wanted_seek(const fdw_merge *m, size_t from, int64 id)
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
 * What remains begins after it. */
static void
reach(fdw_merge *m, int64 id)
{
    while (m->next_block < m->n_blocks && m->blocks[m->next_block]->meta.series_lo <= id) {
        fdw_block *block = m->blocks[m->next_block++];

        if (block->meta.series_hi < id) {
            m->scan->counts.blocks_skipped++;
            continue;
        }
        fdw_block_open(m->scan, block);
        fdw_block_seek(block, m->metric_id, id);
        m->active[m->n_active++] = block;
    }
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
    m->runs = grow(m, m->runs, &m->cap_runs, m->n_active, sizeof(*m->runs));
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

/* ---- one series --------------------------------------------------------------------------- */

/* Does a win over b where they hold the same time? */
static int
compare_precedence(const fdw_block *a, const fdw_block *b)
{
    if (a->meta.level != b->meta.level)
        return a->meta.level > b->meta.level ? -1 : 1;
    return (a->id > b->id) - (a->id < b->id);
}

static int
compare_run_precedence(const void *a, const void *b)
{
    return compare_precedence(((const fdw_run *)a)->block, ((const fdw_run *)b)->block);
}

static int
compare_run_time(const void *a, const void *b)
{
    int64 x = ((const fdw_run *)a)->series.t_first_ms, y = ((const fdw_run *)b)->series.t_first_ms;

    return (x > y) - (x < y);
}

static void
decode(fdw_merge *m, const fdw_run *run, fdw_samples *to)
{
    ps_err err = {0};
    size_t n = 0;

    samples_reserve(m, to, run->series.n_samples);

    ps_status status = blk_reader_decode(run->block->reader, run->series.index, m->from_ms,
                                         m->to_ms, to->t_ms + to->n,
                                         m->scan->need_value ? to->values + to->n : NULL, &n, &err);

    if (status != PS_OK)
        fdw_block_raise(run->block, status, &err);
    Assert(n <= run->series.n_samples);
    to->n += n;
    m->scan->counts.samples_decoded += n;
}

/* Appends the union of from[a..a_end) and from[a_end..b_end) to `to`; of equal times the former stays. */
static void
merge_two(const fdw_samples *from, size_t a, size_t a_end, size_t b_end, bool with_values,
          fdw_samples *to)
{
    size_t b = a_end, n = to->n;

    while (a < a_end && b < b_end) {
        size_t take;

        if (from->t_ms[a] <= from->t_ms[b]) {
            if (from->t_ms[a] == from->t_ms[b])
                b++;
            take = a++;
        } else {
            take = b++;
        }
        to->t_ms[n] = from->t_ms[take];
        if (with_values)
            to->values[n] = from->values[take];
        n++;
    }

    size_t rest = a < a_end ? a : b;
    size_t n_rest = a < a_end ? a_end - a : b_end - b;

    memcpy(to->t_ms + n, from->t_ms + rest, n_rest * sizeof(int64));
    if (with_values)
        memcpy(to->values + n, from->values + rest, n_rest * sizeof(double));
    to->n = n + n_rest;
}

/* Runs that overlap: decodes and merges them, appends the result to the output. */
static void
merge_runs(fdw_merge *m, fdw_run *runs, size_t n_runs)
{
    fdw_samples *from = &m->scratch[0], *to = &m->scratch[1];
    bool with_values = m->scan->need_value;
    size_t n = n_runs;
    size_t *ends = MemoryContextAllocHuge(m->context, (n_runs + 1) * sizeof(size_t));

    qsort(runs, n_runs, sizeof(*runs), compare_run_precedence);
    from->n = 0;
    ends[0] = 0;
    for (size_t i = 0; i < n_runs; i++) {
        decode(m, &runs[i], from);
        ends[i + 1] = from->n;
    }
    while (n > 1 && from->n > 0) {
        size_t merged = 0;

        to->n = 0;
        samples_reserve(m, to, from->n);
        for (size_t i = 0; i < n; i += 2) {
            size_t b_end = i + 2 <= n ? ends[i + 2] : ends[i + 1];

            merge_two(from, ends[i], ends[i + 1], b_end, with_values, to);
            ends[++merged] = to->n;
        }
        n = merged;

        fdw_samples *other = from;

        from = to;
        to = other;
    }
    pfree(ends);
    if (from->n == 0)
        return;
    samples_reserve(m, &m->out, from->n);
    memcpy(m->out.t_ms + m->out.n, from->t_ms, from->n * sizeof(int64));
    if (with_values)
        memcpy(m->out.values + m->out.n, from->values, from->n * sizeof(double));
    m->out.n += from->n;
}

static void
one_run(fdw_merge *m, const fdw_run *run)
{
    bool inside = run->series.t_first_ms >= m->from_ms && run->series.t_last_ms <= m->to_ms;

    if (inside && !m->scan->need_time && !m->scan->need_value)
        m->out.n += run->series.n_samples;
    else
        decode(m, run, &m->out);
}

static void
make_series(fdw_merge *m)
{
    m->out.n = 0;
    m->out.times_version++;
    if (m->n_runs > 1)
        qsort(m->runs, m->n_runs, sizeof(*m->runs), compare_run_time);
    for (size_t i = 0; i < m->n_runs;) {
        int64 end_ms = m->runs[i].series.t_last_ms;
        size_t k = i + 1;

        for (; k < m->n_runs && m->runs[k].series.t_first_ms <= end_ms; k++)
            end_ms = Max(end_ms, m->runs[k].series.t_last_ms);
        if (k - i == 1)
            one_run(m, &m->runs[i]);
        else
            merge_runs(m, m->runs + i, k - i);
        i = k;
    }
}

const fdw_series *
fdw_merge_next(fdw_merge *m)
{
    while (m->next_wanted < m->n_wanted) {
        const fdw_series *series = &m->wanted[m->next_wanted];

        CHECK_FOR_INTERRUPTS();
        reach(m, series->id);

        int64 next = collect(m, series->id);

        if (m->next_block < m->n_blocks)
            next = Min(next, m->blocks[m->next_block]->meta.series_lo);
        m->next_wanted =
            next == PG_INT64_MAX ? m->n_wanted : wanted_seek(m, m->next_wanted + 1, next);
        if (m->n_runs > 0) {
            make_series(m);
            if (m->out.n > 0)
                return series;
        }
    }
    m->scan->counts.blocks_skipped += m->n_blocks - m->next_block;
    fdw_merge_stop(m);
    return NULL;
}
