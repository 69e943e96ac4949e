/*
 * fn_range_count.c - functions over ranges that look at ends of windows or count pairs of neighbours:
 * count, present, first, last, their times, changes, resets.
 *
 * What a pair of neighbours contributes to changes and resets does not depend on the window, so the
 * number is kept while the window moves: pairs are counted when they enter and taken off when they
 * leave. Each pair costs two looks, whatever the length of the windows.
 */
#include "lib/eval/fn_range.h"

static inline size_t
floats_in(const ev_walk *w, size_t i)
{
    return w->fw.hi[i] - w->fw.lo[i];
}

static inline size_t
hists_in(const ev_walk *w, size_t i)
{
    return w->h.n == 0 ? 0 : w->hw.hi[i] - w->hw.lo[i];
}

ps_status
ev_fn_count(const ev_range_call *call, const ev_samples *s, ev_row *out)
{
    ev_walk w;
    PS_TRY(ev_walk_begin(&w, call, s));
    while (ev_walk_next(&w)) {
        for (size_t i = 0; i < w.n; i++)
            out->v[w.first + i] = (double)(floats_in(&w, i) + hists_in(&w, i));
        out->has[w.first / EV_BLOCK] |= w.any;
    }
    ev_walk_end(&w);
    return PS_OK;
}

ps_status
ev_fn_present(const ev_range_call *call, const ev_samples *s, ev_row *out)
{
    ev_walk w;
    PS_TRY(ev_walk_begin(&w, call, s));
    while (ev_walk_next(&w)) {
        for (size_t i = 0; i < w.n; i++)
            out->v[w.first + i] = 1;
        out->has[w.first / EV_BLOCK] |= w.any;
    }
    ev_walk_end(&w);
    return PS_OK;
}

/* ---- first and last ------------------------------------------------------------------------------ */

typedef struct ev_end_point {
    int64_t t;
    double v;
    const hst_hist *h;
} ev_end_point;

/* The first or last point of a window that is not empty. */
static ev_end_point
end_point(const ev_walk *w, size_t i, bool last)
{
    bool has_f = floats_in(w, i) != 0, has_h = hists_in(w, i) != 0;
    size_t f = 0, h = 0;
    if (has_f)
        f = last ? w->fw.hi[i] - 1 : w->fw.lo[i];
    if (has_h)
        h = last ? w->hw.hi[i] - 1 : w->hw.lo[i];
    if (has_f && (!has_h || (w->f.t[f] < w->h.t[h]) != last))
        return (ev_end_point){w->f.t[f], w->f.v[f], NULL};
    return (ev_end_point){w->h.t[h], 0, w->h.h[h]};
}

static ps_status
put_point(const ev_range_call *call, ev_row *out, size_t step, const ev_end_point *p)
{
    if (p->h != NULL) {
        const hst_hist *copy;
        if (hst_copy(out->arena, p->h, &copy) != PS_OK)
            return ev_no_memory(call->c);
        return ev_put_hist(call->c, out, call->n_steps, step, copy);
    }
    ev_put(out, step, p->v);
    return PS_OK;
}

static ps_status
first_or_last(const ev_range_call *call, const ev_samples *s, ev_row *out, bool last)
{
    ps_status status = PS_OK;
    ev_walk w;
    PS_TRY(ev_walk_begin(&w, call, s));
    while (status == PS_OK && ev_walk_next(&w)) {
        if (w.h.n == 0) {
            for (size_t i = 0; i < w.n; i++)
                if (w.any >> i & 1)
                    out->v[w.first + i] = w.f.v[last ? w.fw.hi[i] - 1 : w.fw.lo[i]];
            out->has[w.first / EV_BLOCK] |= w.any;
            continue;
        }
        for (size_t i = 0; i < w.n && status == PS_OK; i++)
            if (w.any >> i & 1) {
                ev_end_point p = end_point(&w, i, last);
                status = put_point(call, out, w.first + i, &p);
            }
    }
    ev_walk_end(&w);
    return status;
}

ps_status
ev_fn_first(const ev_range_call *call, const ev_samples *s, ev_row *out)
{
    return first_or_last(call, s, out, false);
}

ps_status
ev_fn_last(const ev_range_call *call, const ev_samples *s, ev_row *out)
{
    return first_or_last(call, s, out, true);
}

static ps_status
time_of_end(const ev_range_call *call, const ev_samples *s, ev_row *out, bool last)
{
    ev_walk w;
    PS_TRY(ev_walk_begin(&w, call, s));
    while (ev_walk_next(&w))
        for (size_t i = 0; i < w.n; i++)
            if (w.any >> i & 1) {
                int64_t t = end_point(&w, i, last).t;
                /* A kind that the window lacks counts as a sample at 0. */
                if (last && t < 0 && !(w.mixed >> i & 1))
                    t = 0;
                ev_put(out, w.first + i, (double)t / 1000);
            }
    ev_walk_end(&w);
    return PS_OK;
}

ps_status
ev_fn_ts_of_first(const ev_range_call *call, const ev_samples *s, ev_row *out)
{
    return time_of_end(call, s, out, false);
}

ps_status
ev_fn_ts_of_last(const ev_range_call *call, const ev_samples *s, ev_row *out)
{
    return time_of_end(call, s, out, true);
}

/* ---- changes and resets ------------------------------------------------------------------------------ */

static inline bool
float_changed(double a, double b)
{
    return b != a && !(b != b && a != a);
}

static inline bool
float_reset(const ev_samples *s, size_t i, bool starts)
{
    return s->v[i] < s->v[i - 1] ||
           (starts &&
            ev_start_is_reset(s->start_ms[i - 1], s->t_ms[i - 1], s->start_ms[i], s->t_ms[i]));
}

typedef struct ev_pairs {
    const ev_samples *s;
    bool resets, starts;
} ev_pairs;

static bool
pair_of_histograms(const ev_pairs *p, size_t i)
{
    const ev_samples *s = p->s;
    if (!p->resets)
        return !hst_equal(s->h[i - 1], s->h[i]);
    return (p->starts && ev_start_is_reset(s->start_ms[i - 1], s->t_ms[i - 1], s->start_ms[i],
                                           s->t_ms[i])) ||
           hst_detect_reset(s->h[i - 1], s->h[i]);
}

/* Does the pair of samples (i - 1, i) count? */
static inline bool
pair_counts(const ev_pairs *p, size_t i)
{
    const ev_samples *s = p->s;
    if (s->h != NULL && (s->h[i] != NULL || s->h[i - 1] != NULL))
        return s->h[i] == NULL || s->h[i - 1] == NULL || pair_of_histograms(p, i);
    return p->resets ? float_reset(s, i, p->starts) : float_changed(s->v[i - 1], s->v[i]);
}

/*
 * One kind of sample or both: here the samples are taken as they come, in one array. Anchored windows
 * begin with the last sample at or before the left edge, if there is one, and need a sample behind the
 * edge.
 */
static ps_status
changes_or_resets(const ev_range_call *call, const ev_samples *s, ev_row *out, bool resets)
{
    bool starts = resets && s->start_ms != NULL && ev_query_options(call->c)->start_timestamps;
    bool anchored = call->edge == PQL_ANCHORED;
    const ev_pairs p = {s, resets, starts};
    size_t lo = 0, hi = 0, count = 0;
    int64_t to = call->first_end_ms, edge = to - call->range_ms;
    for (size_t step = 0; step < call->n_steps; step++) {
        int64_t from = anchored ? edge - call->lookback_ms : edge;
        for (; hi < s->n && s->t_ms[hi] <= to; hi++)
            count += hi > lo && pair_counts(&p, hi);
        while (lo < hi && (s->t_ms[lo] <= from ||
                           (anchored && lo + 1 < hi && s->t_ms[lo + 1] <= edge)))
            if (++lo < hi)
                count -= pair_counts(&p, lo);
        if (lo < hi && (!anchored || s->t_ms[hi - 1] > edge))
            ev_put(out, step, (double)count);
        to += call->end_step_ms;
        edge += call->end_step_ms;
    }
    return PS_OK;
}

ps_status
ev_fn_changes(const ev_range_call *call, const ev_samples *s, ev_row *out)
{
    return changes_or_resets(call, s, out, false);
}

ps_status
ev_fn_resets(const ev_range_call *call, const ev_samples *s, ev_row *out)
{
    return changes_or_resets(call, s, out, true);
}
