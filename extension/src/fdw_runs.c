/*
 * fdw_runs.c - one series: what several blocks hold of it becomes one ascending sequence.
 *
 * What one block holds is a run: ascending times. First the times decide, alone: runs that overlap no
 * other follow each other; runs that overlap are merged pairwise, best precedence first, and of equal
 * times the left one stays, so that the first write wins: higher level, then lower id. The result is a
 * list of pieces: so many samples of that run from there on. Then values are decoded into their places,
 * piece by piece; of a run that lost everywhere (a full resend) none.
 *
 * Series that were scraped together share their times. Where the next series has runs in the same
 * blocks with the same times (blk_series.times_id), pieces and times are as before and only values are
 * decoded; times_version tells the caller.
 *
 * Times are decoded only where somebody asked for them, where runs overlap, or where a run crosses the
 * bounds; otherwise the directory knows all there is to know, and count(*) decodes nothing.
 */
#include "fdw.h"

#include "miscadmin.h"
#include "utils/memutils.h"

enum { LOST_ASKED = 8 };

/* ---- arrays ------------------------------------------------------------------------------- */

void *
fdw_grow(MemoryContext context, void *array, size_t *cap, size_t need, size_t size)
{
    if (need <= *cap)
        return array;
    *cap = Max(need, *cap * 2);
    if (array == NULL)
        return MemoryContextAllocHuge(context, *cap * size);
    return repalloc_huge(array, *cap * size);
}

static void
times_reserve(fdw_merge *m, fdw_times *s, size_t more)
{
    size_t cap = s->cap;

    if (s->n + more <= cap)
        return;
    s->t_ms = fdw_grow(m->context, s->t_ms, &cap, s->n + more, sizeof(int64));
    cap = s->cap;
    s->tags = fdw_grow(m->context, s->tags, &cap, s->n + more, sizeof(uint64));
    s->cap = cap;
}

static void
out_reserve(fdw_merge *m, size_t more)
{
    fdw_samples *s = &m->out;
    size_t cap = s->cap;

    if (s->n + more <= cap)
        return;
    s->t_ms = fdw_grow(m->context, s->t_ms, &cap, s->n + more, sizeof(int64));
    cap = s->cap;
    s->values = fdw_grow(m->context, s->values, &cap, s->n + more, sizeof(double));
    s->cap = cap;
}

/* ---- decoding ----------------------------------------------------------------------------- */

/* Times of a run inside the bounds: those of its samples *ret_lo, *ret_lo + 1, ... */
static void
run_times(fdw_merge *m, const fdw_run *run, int64 *t_ms, size_t *ret_lo, size_t *ret_n)
{
    ps_err err = {0};

    m->times_decoded = true;
    if (run->t_ms != NULL) { /* gathered, and nothing else was */
        *ret_lo = run->lo;
        *ret_n = run->n;
        memcpy(t_ms, run->t_ms, run->n * sizeof(int64));
        return;
    }

    ps_status status = blk_reader_times(run->block->reader, run->series.index, m->from_ms, m->to_ms,
                                        t_ms, ret_lo, ret_n, &err);

    if (status != PS_OK)
        fdw_block_raise(run->block, status, &err);
    Assert(*ret_n <= run->series.n_samples);
}

static void
run_values(const fdw_run *run, size_t lo, size_t n, double *values)
{
    ps_err err = {0};

    if (fdw_run_is_histogram(run)) {
        memset(values, 0, n * sizeof(double));
        return;
    }
    if (run->t_ms != NULL) {
        Assert(lo >= run->lo && lo + n <= run->lo + run->n);
        memcpy(values, run->values + (lo - run->lo), n * sizeof(double));
        return;
    }

    ps_status status =
        blk_reader_values(run->block->reader, run->series.index, lo, n, values, &err);

    if (status != PS_OK)
        fdw_block_raise(run->block, status, &err);
}

/* ---- pieces ------------------------------------------------------------------------------- */

/* The next n samples of the output are those of run number `run` from lo on. */
static void
add_piece(fdw_merge *m, uint32 run, size_t lo, size_t n)
{
    fdw_use *use = &m->uses[run];

    m->pieces =
        fdw_grow(m->context, m->pieces, &m->cap_pieces, m->n_pieces + 1, sizeof(*m->pieces));
    m->pieces[m->n_pieces++] = (fdw_piece){.run = run, .lo = (uint32)lo, .n = (uint32)n};
    if (use->n_pieces++ == 0)
        use->lo = lo;
    use->end = lo + n;
}

/* A run that overlaps no other. */
static void
plan_one(fdw_merge *m, uint32 number)
{
    const fdw_run *run = &m->runs[number];
    bool inside = run->series.t_first_ms >= m->from_ms && run->series.t_last_ms <= m->to_ms;
    size_t lo = 0, n = run->series.n_samples;

    if (!inside || m->scan->need_time || m->scan->need_value)
        out_reserve(m, n);
    if (!inside || m->scan->need_time)
        run_times(m, run, m->out.t_ms + m->out.n, &lo, &n);
    m->out.n += n;
    if (n > 0)
        add_piece(m, number, lo, n);
}

/* Appends the union of from[a..a_end) and from[a_end..b_end) to `to`; of equal times the former stays. */
static void
merge_two(const fdw_times *from, size_t a, size_t a_end, size_t b_end, fdw_times *to)
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
        to->tags[n] = from->tags[take];
        n++;
    }

    size_t rest = a < a_end ? a : b;
    size_t n_rest = a < a_end ? a_end - a : b_end - b;

    memcpy(to->t_ms + n, from->t_ms + rest, n_rest * sizeof(int64));
    memcpy(to->tags + n, from->tags + rest, n_rest * sizeof(uint64));
    to->n = n + n_rest;
}

/* A tag is a run's number and, in the lower half, a sample's position in it. */
static void
add_tagged(fdw_merge *m, const fdw_times *from)
{
    for (size_t i = 0, end; i < from->n; i = end) {
        for (end = i + 1; end < from->n && from->tags[end] == from->tags[end - 1] + 1; end++)
            ;
        add_piece(m, (uint32)(from->tags[i] >> 32), (uint32)from->tags[i], end - i);
    }
}

/* Does a win over b where they hold the same time? Floats do over histograms, so that the answer does
 * not depend on which of both is merged first. */
static int
compare_precedence(const fdw_block *a, const fdw_block *b)
{
    if (a->meta.kind != b->meta.kind)
        return a->meta.kind == BLK_KIND_FLOAT ? -1 : 1;
    if (a->meta.level != b->meta.level)
        return a->meta.level > b->meta.level ? -1 : 1;
    return (a->id > b->id) - (a->id < b->id);
}

static int
compare_run_precedence(const void *a, const void *b, void *runs)
{
    const fdw_run *r = runs;

    return compare_precedence(r[*(const uint32 *)a].block, r[*(const uint32 *)b].block);
}

static int
compare_run_time(const void *a, const void *b, void *runs)
{
    const fdw_run *r = runs;
    int64 x = r[*(const uint32 *)a].series.t_first_ms, y = r[*(const uint32 *)b].series.t_first_ms;

    return (x > y) - (x < y);
}

/* Are these times a stretch of those of the kept run k? */
static bool
stretch_of(const fdw_times *kept, const size_t *ends, size_t k, const int64 *t_ms, size_t n)
{
    const int64 *have = kept->t_ms + ends[k];
    const size_t n_have = ends[k + 1] - ends[k];
    size_t lo = 0, hi = n_have;

    if (n > n_have || t_ms[0] < have[0] || t_ms[n - 1] > have[n_have - 1])
        return false;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (have[mid] < t_ms[0])
            lo = mid + 1;
        else
            hi = mid;
    }
    return n <= n_have - lo && memcmp(have + lo, t_ms, n * sizeof(int64)) == 0;
}

/* Has a run with these times lost everywhere against those kept? Only the best few and the last are
 * asked, so that many small runs do not cost their square. */
static bool
lost(const fdw_times *kept, const size_t *ends, size_t n_kept, const int64 *t_ms, size_t n)
{
    for (size_t k = 0; k < n_kept && k < LOST_ASKED; k++) {
        if (stretch_of(kept, ends, k, t_ms, n))
            return true;
    }
    return n_kept > LOST_ASKED && stretch_of(kept, ends, n_kept - 1, t_ms, n);
}

/*
 * Decodes the times of runs one behind the other, best precedence first. One whose times all stand in a
 * better run, one after another, has lost (what was sent again, perhaps cut differently) and is left
 * out. Returns the number that is left, whose numbers come to stand at the front, and where each ends.
 */
static size_t
decode_overlapping(fdw_merge *m, uint32 *numbers, size_t n_runs, fdw_times *to, size_t *ends)
{
    size_t kept = 0;

    to->n = 0;
    ends[0] = 0;
    for (size_t i = 0; i < n_runs; i++) {
        size_t lo, n;

        times_reserve(m, to, m->runs[numbers[i]].series.n_samples);
        run_times(m, &m->runs[numbers[i]], to->t_ms + to->n, &lo, &n);
        if (n == 0 || lost(to, ends, kept, to->t_ms + to->n, n))
            continue;
        m->uses[numbers[i]].lo = lo;
        numbers[kept++] = numbers[i];
        to->n += n;
        ends[kept] = to->n;
    }
    return kept;
}

/* Runs that overlap, by their numbers. */
static void
plan_many(fdw_merge *m, uint32 *numbers, size_t n_runs)
{
    fdw_times *from = &m->scratch[0], *to = &m->scratch[1];
    size_t *ends = MemoryContextAllocHuge(m->context, (n_runs + 1) * sizeof(size_t));
    size_t n;
    bool alone;

    qsort_arg(numbers, n_runs, sizeof(*numbers), compare_run_precedence, m->runs);
    n = decode_overlapping(m, numbers, n_runs, from, ends);
    alone = n == 1;
    for (size_t i = 0; i < n && !alone; i++) {
        uint64 tag = (uint64)numbers[i] << 32 | m->uses[numbers[i]].lo;

        for (size_t k = ends[i]; k < ends[i + 1]; k++)
            from->tags[k] = tag++;
    }
    while (n > 1) {
        size_t merged = 0;

        to->n = 0;
        times_reserve(m, to, from->n);
        for (size_t i = 0; i < n; i += 2) {
            size_t b_end = i + 2 <= n ? ends[i + 2] : ends[i + 1];

            merge_two(from, ends[i], ends[i + 1], b_end, to);
            ends[++merged] = to->n;
        }
        n = merged;

        fdw_times *other = from;

        from = to;
        to = other;
    }
    pfree(ends);
    out_reserve(m, from->n);
    if (from->n > 0 && m->scan->need_time)
        memcpy(m->out.t_ms + m->out.n, from->t_ms, from->n * sizeof(int64));
    m->out.n += from->n;
    if (alone)
        add_piece(m, numbers[0], m->uses[numbers[0]].lo, from->n);
    else
        add_tagged(m, from);
}

/* Decides, by the times alone, what of the runs comes where. */
static void
plan_series(fdw_merge *m)
{
    const fdw_run *runs = m->runs;
    uint32 *order;
    size_t cap = m->cap_uses;

    m->uses = fdw_grow(m->context, m->uses, &cap, m->n_runs, sizeof(*m->uses));
    cap = m->cap_uses;
    m->marks = fdw_grow(m->context, m->marks, &cap, m->n_runs, sizeof(*m->marks));
    cap = m->cap_uses;
    m->order = order = fdw_grow(m->context, m->order, &cap, m->n_runs, sizeof(*m->order));
    m->cap_uses = cap;
    m->n_marks = m->n_pieces = 0; /* nothing is known should what follows fail */
    m->times_decoded = false;
    m->out.n = 0;
    m->out.times_version++;
    for (size_t i = 0; i < m->n_runs; i++) {
        m->uses[i] = (fdw_use){0};
        order[i] = (uint32)i;
    }
    if (m->n_runs > 1)
        qsort_arg(order, m->n_runs, sizeof(*order), compare_run_time, m->runs);
    for (size_t i = 0; i < m->n_runs;) {
        int64 end_ms = runs[order[i]].series.t_last_ms;
        size_t k = i + 1;

        for (; k < m->n_runs && runs[order[k]].series.t_first_ms <= end_ms; k++)
            end_ms = Max(end_ms, runs[order[k]].series.t_last_ms);
        if (k - i == 1)
            plan_one(m, order[i]);
        else
            plan_many(m, order + i, k - i);
        i = k;
    }
    for (size_t i = 0; i < m->n_runs; i++)
        m->marks[i] = (fdw_mark){runs[i].block->serial, runs[i].series.times_id};
    m->n_marks = m->n_runs;
}

/* Are the runs of the same blocks and times as those that were planned last? */
static bool
planned(const fdw_merge *m)
{
    if (m->n_marks != m->n_runs)
        return false;
    for (size_t i = 0; i < m->n_runs; i++) {
        if (m->marks[i].block != m->runs[i].block->serial ||
            m->marks[i].times_id != m->runs[i].series.times_id)
            return false;
    }
    return true;
}

/* ---- values ------------------------------------------------------------------------------- */

/* Runs in one piece are decoded into their place, others aside and then piece by piece. */
static void
fetch_values(fdw_merge *m)
{
    size_t n = 0, at = 0;

    for (size_t i = 0; i < m->n_runs; i++) {
        if (m->uses[i].n_pieces > 1) {
            m->uses[i].at = n;
            n += m->uses[i].end - m->uses[i].lo;
        }
    }
    m->aside = fdw_grow(m->context, m->aside, &m->cap_aside, n, sizeof(double));
    for (size_t i = 0; n > 0 && i < m->n_runs; i++) {
        const fdw_use *use = &m->uses[i];

        if (use->n_pieces > 1)
            run_values(&m->runs[i], use->lo, use->end - use->lo, m->aside + use->at);
    }
    for (size_t i = 0; i < m->n_pieces; i++) {
        const fdw_piece *p = &m->pieces[i];
        const fdw_use *use = &m->uses[p->run];

        if (use->n_pieces == 1)
            run_values(&m->runs[p->run], p->lo, p->n, m->out.values + at);
        else
            memcpy(m->out.values + at, m->aside + use->at + (p->lo - use->lo),
                   p->n * sizeof(double));
        at += p->n;
    }
}

void
fdw_merge_runs(fdw_merge *m)
{
    if (!planned(m))
        plan_series(m);
    if (m->scan->need_value)
        fetch_values(m);
    if (m->scan->need_value || m->scan->need_time || m->scan->need_histogram || m->times_decoded)
        m->scan->counts.samples_decoded += m->out.n;
}
