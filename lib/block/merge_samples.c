/*
 * merge_samples.c - what the inputs of a merge hold of one series: gathered, put in order, repeats
 * dropped.
 *
 * A sample is its time, 8 bytes of contents (a value, or where its histogram is, in an arena that
 * lives as long as the series) and, if some input has any, its start timestamp.
 */
#include "lib/block/merge.h"

static ps_status
no_memory(ps_err *err)
{
    return ps_fail(err, PS_ENOMEM, "out of memory");
}

static bool
samples_reserve(blk_merging *m, size_t more)
{
    const size_t need = m->n + more;
    blk_scratch *arrays[] = {&m->t[0], &m->v[0], &m->starts[0]};

    for (unsigned i = 0; i < (m->started ? 3 : 2); i++) {
        blk_scratch *s = arrays[i];
        if (need * 8 <= s->cap)
            continue;
        size_t cap = s->cap * 2 > need * 8 ? s->cap * 2 : need * 8;
        void *p = m->alloc->realloc(m->alloc->self, s->ptr, s->cap, cap);
        if (p == NULL)
            return false;
        *s = (blk_scratch){p, cap};
    }
    return true;
}

static ps_status
gathered(blk_merging *m, size_t got)
{
    const int64_t *t = m->t[0].ptr;

    if (got == 0)
        return PS_OK;
    if (m->n == 0 || t[m->n] <= t[m->n - 1])
        m->runs[m->n_runs++] = m->n;
    m->n += got;
    m->stats.samples_in += got;
    return PS_OK;
}

/* A flush block's series lies decoded in memory. */
static ps_status
gather_flush(blk_merging *m, blk_reader *r, uint32_t index, ps_err *err)
{
    const blk_flush_series *s = &r->fseries[index];

    if (PS_UNLIKELY(!r->groups[s->group].decoded))
        PS_TRY(blk_flush_group_decode(r, s->group, err));
    const int64_t *t = r->vec_times + r->vec_start[s->vec];
    size_t n = r->vec_start[s->vec + 1] - r->vec_start[s->vec], lo = 0;

    while (lo < n && t[lo] < m->opts->from_ms)
        lo++;
    while (n > lo && t[n - 1] >= m->opts->to_ms)
        n--;
    if (!samples_reserve(m, n - lo))
        return no_memory(err);
    for (size_t i = lo; i < n; i++)
        ((int64_t *)m->t[0].ptr)[m->n + i - lo] = t[i];
    if (m->started) {
        int64_t *starts = (int64_t *)m->starts[0].ptr + m->n;
        for (size_t i = lo; i < n; i++)
            starts[i - lo] = r->starts == NULL ? 0 : r->starts[s->first_value + i];
    }
    if (m->kind == BLK_KIND_HISTOGRAM) {
        const hst_hist **h = (const hst_hist **)m->v[0].ptr + m->n;
        PS_TRY(blk_flush_histograms_make(r, index, lo, n - lo, &m->arena, h, err));
        return gathered(m, n - lo);
    }
    const double *v = r->values + s->first_value;
    for (size_t i = lo; i < n; i++)
        ((double *)m->v[0].ptr)[m->n + i - lo] = v[i];
    return gathered(m, n - lo);
}

ps_status
blk_merge_gather(blk_merging *m, const blk_cursor *c, ps_err *err)
{
    blk_reader *r = m->inputs[c->input];
    const blk_merge_opts *o = m->opts;
    blk_series s;
    size_t lo, got;

    if (r->meta.format == BLK_FORMAT_FLUSH)
        return gather_flush(m, r, c->index, err);
    blk_reader_series(r, c->index, &s);
    if (s.t_last_ms < o->from_ms || s.t_first_ms >= o->to_ms)
        return PS_OK;
    if (!samples_reserve(m, s.n_samples))
        return no_memory(err);
    PS_TRY(blk_reader_times(r, c->index, o->from_ms, o->to_ms - 1, (int64_t *)m->t[0].ptr + m->n,
                            &lo, &got, err));
    if (m->started)
        PS_TRY(blk_bench_starts(&r->own, r, c->index, lo, got, (int64_t *)m->starts[0].ptr + m->n,
                                err));
    if (m->kind == BLK_KIND_HISTOGRAM)
        PS_TRY(blk_columns_histograms(r, &r->own, c->index, lo, got, &m->arena,
                                      (const hst_hist **)m->v[0].ptr + m->n, err));
    else
        PS_TRY(blk_reader_values(r, c->index, lo, got, (double *)m->v[0].ptr + m->n, err));
    return gathered(m, got);
}

/* Start timestamps follow the times, which say what goes where; hence they go first. */
static void
merge_two_starts(const int64_t *t, const int64_t *s, size_t a, size_t mid, size_t hi, int64_t *to)
{
    size_t b = mid, k = a;

    while (a < mid || b < hi)
        to[k++] = s[b == hi || (a < mid && t[a] <= t[b]) ? a++ : b++];
}

static void
merge_two(const int64_t *t, const double *v, size_t a, size_t mid, size_t hi, int64_t *to_t,
          double *to_v)
{
    size_t b = mid, k = a;

    while (a < mid && b < hi) {
        bool left = t[a] <= t[b];
        size_t i = left ? a++ : b++;
        to_t[k] = t[i];
        memcpy(&to_v[k++], &v[i], sizeof *v); /* it may be no double */
    }
    memcpy(to_t + k, t + a, (mid - a) * sizeof *t);
    memcpy(to_v + k, v + a, (mid - a) * sizeof *v);
    k += mid - a;
    memcpy(to_t + k, t + b, (hi - b) * sizeof *t);
    memcpy(to_v + k, v + b, (hi - b) * sizeof *v);
}

/* Merges the runs pairwise, neighbours with neighbours (which keeps precedence), until one is
 * left. */
static ps_status
merge_runs(blk_merging *m, ps_err *err)
{
    if (blk_scratch_get(m->alloc, &m->t[1], m->n, 8) == NULL ||
        blk_scratch_get(m->alloc, &m->v[1], m->n, 8) == NULL ||
        (m->started && blk_scratch_get(m->alloc, &m->starts[1], m->n, 8) == NULL))
        return no_memory(err);
    while (m->n_runs > 1) {
        size_t n_out = 0;
        m->runs[m->n_runs] = m->n;
        for (size_t i = 0; i < m->n_runs; i += 2) {
            size_t lo = m->runs[i], mid = m->runs[i + 1],
                   hi = i + 1 < m->n_runs ? m->runs[i + 2] : mid;
            if (m->started)
                merge_two_starts(m->t[0].ptr, m->starts[0].ptr, lo, mid, hi, m->starts[1].ptr);
            merge_two(m->t[0].ptr, m->v[0].ptr, lo, mid, hi, m->t[1].ptr, m->v[1].ptr);
            m->runs[n_out++] = lo;
        }
        m->n_runs = n_out;
        blk_scratch t = m->t[0], v = m->v[0], starts = m->starts[0];
        m->t[0] = m->t[1];
        m->v[0] = m->v[1];
        m->starts[0] = m->starts[1];
        m->t[1] = t;
        m->v[1] = v;
        m->starts[1] = starts;
    }
    return PS_OK;
}

/* Are the contents of samples i and k the same? */
static bool
same_sample(const blk_merging *m, size_t i, size_t k)
{
    if (m->kind == BLK_KIND_HISTOGRAM) {
        const hst_hist *const *h = m->v[0].ptr;
        return blk_same_histogram(h[i], h[k]);
    }
    return memcmp((double *)m->v[0].ptr + i, (double *)m->v[0].ptr + k, sizeof(double)) == 0;
}

/* The first of equal times stays. */
static void
drop_repeats(blk_merging *m)
{
    int64_t *t = m->t[0].ptr, *starts = m->starts[0].ptr;
    double *v = m->v[0].ptr;
    size_t kept = 1;

    for (size_t i = 1; i < m->n; i++) {
        if (t[i] != t[kept - 1]) {
            t[kept] = t[i];
            if (m->started)
                starts[kept] = starts[i];
            memmove(&v[kept++], &v[i], sizeof *v);
        } else if (same_sample(m, i, kept - 1)) {
            m->stats.dups.duplicates++;
        } else {
            m->stats.dups.conflicts++;
        }
    }
    m->n = kept;
}

ps_status
blk_merge_sort(blk_merging *m, ps_err *err)
{
    PS_TRY(merge_runs(m, err));
    drop_repeats(m);
    return PS_OK;
}
