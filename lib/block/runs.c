/*
 * runs.c - one series: what several blocks hold of it becomes one ascending sequence.
 *
 * What one block holds is a run: ascending times. Runs that overlap no other are decoded into their
 * places. Those that overlap are laid one behind the other, best precedence first, as marks (time,
 * run, position), and merged pairwise; of equal times the former stays, so that the first write wins.
 * Values are decoded only then, of runs that have something left. Floats and histograms of one series
 * go the same way; a float precedes every histogram.
 */
#include "lib/block/histograms.h"

typedef struct part { /* a run that reaches into the range */
    blk_run run;
    int64_t first_ms, last_ms;
    size_t n;        /* samples, those outside the range included */
    size_t lo, left; /* of overlapping ones: first sample in the range; marks that are left */
    size_t at;       /* where its values stand */
} part;

typedef struct mark {
    int64_t t_ms;
    uint32_t part, pos;
} mark;

typedef struct merging {
    blk_bench *b;
    int64_t from_ms, to_ms;
    blk_samples to; /* whose n grows */
    ps_err *err;
} merging;

/* Where contents of a run stand; as much of it as is wanted. */
typedef struct contents {
    double *values;
    const hst_hist **histograms;
    int64_t *start_ms;
} contents;

static ps_status
no_memory(ps_err *err)
{
    return ps_fail(err, PS_ENOMEM, "out of memory");
}

static bool
reaches(const blk_run *run, int64_t from_ms, int64_t to_ms, blk_series *ret)
{
    blk_reader_series(run->reader, run->index, ret);
    return ret->t_first_ms <= to_ms && ret->t_last_ms >= from_ms;
}

/* Does a win over b? */
static bool
precedes(const blk_run *a, const blk_run *b)
{
    const blk_meta *m = blk_reader_meta(a->reader), *o = blk_reader_meta(b->reader);
    if (m->kind != o->kind)
        return m->kind == BLK_KIND_FLOAT;
    int16_t x = m->level, y = o->level;
    return x != y ? x > y : a->id < b->id;
}

size_t
blk_runs_samples(const blk_run *runs, size_t n, int64_t from_ms, int64_t to_ms)
{
    size_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        blk_series s;
        if (reaches(&runs[i], from_ms, to_ms, &s))
            sum += s.n_samples;
    }
    return sum;
}

blk_runs_kinds
blk_runs_look(const blk_run *runs, size_t n, int64_t from_ms, int64_t to_ms)
{
    blk_runs_kinds kinds = {0};
    for (size_t i = 0; i < n; i++) {
        blk_series s;
        if (!reaches(&runs[i], from_ms, to_ms, &s))
            continue;
        bool floats = blk_reader_meta(runs[i].reader)->kind == BLK_KIND_FLOAT;
        kinds.floats |= floats;
        kinds.histograms |= !floats;
        kinds.starts |= s.started;
    }
    return kinds;
}

/* Newest sample in the range of a run that goes on after it, or whose last value is not decoded. */
static ps_status
decode_newest(blk_bench *b, const blk_run *run, const blk_series *s, int64_t from_ms, int64_t to_ms,
              bool *ret_any, int64_t *ret_t_ms, double *ret_value, ps_err *err)
{
    size_t lo, n;
    int64_t *t_ms = blk_scratch_get(&b->alloc, &b->marks, s->n_samples, sizeof *t_ms);
    if (t_ms == NULL)
        return no_memory(err);
    PS_TRY(blk_bench_times(b, run->reader, run->index, from_ms, to_ms, t_ms, &lo, &n, err));
    *ret_any = n > 0;
    if (n == 0)
        return PS_OK;
    *ret_t_ms = t_ms[n - 1];
    return blk_bench_values(b, run->reader, run->index, lo + n - 1, 1, ret_value, err);
}

ps_status
blk_runs_newest(blk_bench *b, const blk_run *runs, size_t n, int64_t from_ms, int64_t to_ms,
                bool *ret_any, int64_t *ret_t_ms, double *ret_value, ps_err *err)
{
    const blk_run *best = NULL;
    int64_t best_ms = from_ms;
    double best_value = 0;
    for (size_t i = 0; i < n; i++) {
        blk_series s;
        bool any = true;
        int64_t t_ms;
        double value;
        if (!reaches(&runs[i], best_ms, to_ms, &s)) /* the best so far is newer, or nothing is */
            continue;
        t_ms = s.t_last_ms;
        value = s.last_value;
        if (s.t_last_ms > to_ms || !s.last_known)
            PS_TRY(decode_newest(b, &runs[i], &s, best_ms, to_ms, &any, &t_ms, &value, err));
        if (any && (best == NULL || t_ms > best_ms || precedes(&runs[i], best))) {
            best = &runs[i];
            best_ms = t_ms;
            best_value = value;
        }
    }
    *ret_any = best != NULL;
    *ret_t_ms = best_ms;
    *ret_value = best_value;
    return PS_OK;
}

/* ---- order ------------------------------------------------------------------------------------ */

static bool
in_order(const part *a, const part *b, bool by_time)
{
    return by_time ? a->first_ms <= b->first_ms : !precedes(&b->run, &a->run);
}

/* Few, and mostly in order already; heap sort is for those who make it otherwise. */
static void
sift(part *p, size_t i, size_t n, bool by_time)
{
    for (size_t kid; (kid = 2 * i + 1) < n; i = kid) {
        if (kid + 1 < n && in_order(&p[kid], &p[kid + 1], by_time))
            kid++;
        if (in_order(&p[kid], &p[i], by_time))
            return;
        part tmp = p[i];
        p[i] = p[kid];
        p[kid] = tmp;
    }
}

static void
sort_parts(part *p, size_t n, bool by_time)
{
    size_t i = 1;
    while (i < n && in_order(&p[i - 1], &p[i], by_time))
        i++;
    if (i >= n)
        return;
    for (i = n / 2; i-- > 0;)
        sift(p, i, n, by_time);
    for (i = n; i-- > 1;) {
        part tmp = p[0];
        p[0] = p[i];
        p[i] = tmp;
        sift(p, 0, i, by_time);
    }
}

/* ---- runs that overlap -------------------------------------------------------------------------- */

static size_t
merge_two(const mark *from, size_t a, size_t a_end, size_t b_end, mark *to, size_t n)
{
    size_t b = a_end;
    while (a < a_end && b < b_end) {
        if (from[a].t_ms <= from[b].t_ms) {
            b += from[a].t_ms == from[b].t_ms;
            to[n++] = from[a++];
        } else {
            to[n++] = from[b++];
        }
    }
    size_t rest = a < a_end ? a : b, n_rest = a < a_end ? a_end - a : b_end - b;
    memcpy(to + n, from + rest, n_rest * sizeof *to);
    return n + n_rest;
}

/* ends has n + 1 entries. Returns which of the two holds the result. */
static mark *
merge_all(mark *from, mark *to, size_t *ends, size_t n)
{
    while (n > 1) {
        size_t merged = 0, at = 0;
        for (size_t i = 0; i < n; i += 2) {
            at = merge_two(from, ends[i], ends[i + 1], i + 2 <= n ? ends[i + 2] : ends[i + 1], to,
                           at);
            ends[++merged] = at;
        }
        n = merged;
        mark *other = from;
        from = to;
        to = other;
    }
    return from;
}

/* Times of all parts as marks; where each ends goes to ends. Uses m->to.t_ms for a moment: it has room. */
static ps_status
lay_out(merging *m, part *parts, size_t n, mark *marks, size_t *ends)
{
    ends[0] = 0;
    for (size_t i = 0; i < n; i++) {
        size_t n_times;
        int64_t *t = m->to.t_ms + m->to.n;
        PS_TRY(blk_bench_times(m->b, parts[i].run.reader, parts[i].run.index, m->from_ms, m->to_ms,
                               t, &parts[i].lo, &n_times, m->err));
        mark *to = marks + ends[i];
        for (size_t k = 0; k < n_times; k++)
            to[k] = (mark){t[k], (uint32_t)i, (uint32_t)k};
        ends[i + 1] = ends[i] + n_times;
        parts[i].n = n_times;
        parts[i].left = 0;
    }
    return PS_OK;
}

/* Contents of samples lo..lo + n of a run. */
static ps_status
decode_contents(const merging *m, const blk_run *run, size_t lo, size_t n, contents to)
{
    if (to.start_ms != NULL)
        PS_TRY(blk_bench_starts(m->b, run->reader, run->index, lo, n, to.start_ms, m->err));
    if (blk_reader_meta(run->reader)->kind == BLK_KIND_FLOAT) {
        if (to.histograms != NULL)
            memset(to.histograms, 0, n * sizeof *to.histograms);
        return blk_bench_values(m->b, run->reader, run->index, lo, n, to.values, m->err);
    }
    memset(to.values, 0, n * sizeof *to.values);
    if (to.histograms == NULL)
        return ps_fail(m->err, PS_EINVAL, "no room for histograms");
    return blk_bench_histograms(m->b, run->reader, run->index, lo, n, m->to.arena, to.histograms,
                                m->err);
}

/* Contents of all that have something left, one behind the other. */
static ps_status
decode_parts(merging *m, part *parts, size_t n, contents *ret)
{
    const size_t width = 1 + (m->to.histograms != NULL) + (m->to.start_ms != NULL);
    size_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        parts[i].at = sum;
        sum += parts[i].left > 0 ? parts[i].n : 0;
    }
    double *values = blk_scratch_get(&m->b->alloc, &m->b->values, sum * width, sizeof *values);
    if (values == NULL)
        return no_memory(m->err);
    contents c = {.values = values};
    void *more = values + sum;
    if (m->to.start_ms != NULL) {
        c.start_ms = more;
        more = c.start_ms + sum;
    }
    if (m->to.histograms != NULL)
        c.histograms = more;
    for (size_t i = 0; i < n; i++) {
        const size_t at = parts[i].at;
        contents to = {c.values + at, c.histograms == NULL ? NULL : c.histograms + at,
                       c.start_ms == NULL ? NULL : c.start_ms + at};
        if (parts[i].left > 0)
            PS_TRY(decode_contents(m, &parts[i].run, parts[i].lo, parts[i].n, to));
    }
    *ret = c;
    return PS_OK;
}

static ps_status
take(merging *m, part *parts, size_t n, const mark *marks, size_t n_marks)
{
    contents c = {0};
    blk_samples *to = &m->to;
    for (size_t i = 0; i < n_marks; i++)
        parts[marks[i].part].left++;
    PS_TRY(decode_parts(m, parts, n, &c));
    for (size_t i = 0; i < n_marks; i++, to->n++) {
        const size_t at = parts[marks[i].part].at + marks[i].pos;
        to->t_ms[to->n] = marks[i].t_ms;
        to->values[to->n] = c.values[at];
        if (c.histograms != NULL)
            to->histograms[to->n] = c.histograms[at];
        if (c.start_ms != NULL)
            to->start_ms[to->n] = c.start_ms[at];
    }
    return PS_OK;
}

static ps_status
merge_overlapping(merging *m, part *parts, size_t n)
{
    size_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += parts[i].n;
    size_t marks_size = 2 * sum * sizeof(mark);
    char *scratch =
        blk_scratch_get(&m->b->alloc, &m->b->marks, marks_size + (n + 1) * sizeof(size_t), 1);
    if (scratch == NULL)
        return no_memory(m->err);
    mark *marks = (mark *)scratch, *other = marks + sum;
    size_t *ends = (size_t *)(scratch + marks_size);
    sort_parts(parts, n, false);
    PS_TRY(lay_out(m, parts, n, marks, ends));
    const mark *merged = merge_all(marks, other, ends, n);
    /* after the last merge ends[1] is the end of all */
    return take(m, parts, n, merged, ends[1]);
}

static ps_status
decode_alone(merging *m, const part *p)
{
    size_t lo, n;
    const size_t at = m->to.n;
    contents to = {m->to.values + at, m->to.histograms == NULL ? NULL : m->to.histograms + at,
                   m->to.start_ms == NULL ? NULL : m->to.start_ms + at};
    PS_TRY(blk_bench_times(m->b, p->run.reader, p->run.index, m->from_ms, m->to_ms, m->to.t_ms + at,
                           &lo, &n, m->err));
    PS_TRY(decode_contents(m, &p->run, lo, n, to));
    m->to.n += n;
    return PS_OK;
}

ps_status
blk_runs_read(blk_bench *b, const blk_run *runs, size_t n, int64_t from_ms, int64_t to_ms,
              blk_samples *into, ps_err *err)
{
    merging m = {b, from_ms, to_ms, *into, err};
    part *parts = blk_scratch_get(&b->alloc, &b->parts, n, sizeof *parts);
    size_t n_parts = 0;
    m.to.n = 0;
    if (parts == NULL && n > 0)
        return no_memory(err);
    for (size_t i = 0; i < n; i++) {
        blk_series s;
        if (reaches(&runs[i], from_ms, to_ms, &s))
            parts[n_parts++] = (part){.run = runs[i],
                                      .first_ms = s.t_first_ms,
                                      .last_ms = s.t_last_ms,
                                      .n = s.n_samples};
    }
    sort_parts(parts, n_parts, true);
    for (size_t i = 0, end; i < n_parts; i = end) {
        int64_t last_ms = parts[i].last_ms;
        for (end = i + 1; end < n_parts && parts[end].first_ms <= last_ms; end++)
            last_ms = parts[end].last_ms > last_ms ? parts[end].last_ms : last_ms;
        PS_TRY(end == i + 1 ? decode_alone(&m, &parts[i])
                            : merge_overlapping(&m, parts + i, end - i));
    }
    into->n = m.to.n;
    return PS_OK;
}

ps_status
blk_runs_decode(blk_bench *b, const blk_run *runs, size_t n, int64_t from_ms, int64_t to_ms,
                int64_t *t_ms, double *values, size_t *ret_n, ps_err *err)
{
    blk_samples into = {.t_ms = t_ms, .values = values};
    PS_TRY(blk_runs_read(b, runs, n, from_ms, to_ms, &into, err));
    *ret_n = into.n;
    return PS_OK;
}
