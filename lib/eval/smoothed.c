/*
 * smoothed.c - `x smoothed` at an instant: the value on the straight line between the samples before and
 * after it, both within the lookback; only an earlier one is carried forward, only a later one gives
 * nothing.
 */
#include "lib/eval/leaf.h"

/* h1 + (h2 - h1) * fraction; for counters a reset between the two starts from nothing. */
static ps_status
between(ev_ctx *c, const pql_expr *at, ps_arena *arena, const hst_hist *h1, const hst_hist *h2,
        double fraction, const hst_hist **ret)
{
    hst_notes sub = {0}, add = {0};
    bool reset = (h1->hint != HST_GAUGE || h2->hint != HST_GAUGE) && hst_detect_reset(h1, h2);
    ps_status status = PS_OK;
    const hst_hist *h = h2;
    if (status == PS_OK && !reset)
        status = hst_sub(arena, h2, h1, &sub, &h);
    if (status == PS_OK)
        status = hst_mul(arena, h, fraction, &h);
    if (status == PS_OK && !reset)
        status = hst_add(arena, h, h1, &add, &h);
    if (sub.bounds_reconciled)
        ev_info(c, at, "mismatched custom buckets were reconciled during subtraction");
    if (add.bounds_reconciled)
        ev_info(c, at, "mismatched custom buckets were reconciled during addition");
    if (status == PS_ENOMEM)
        return ev_no_memory(c);
    *ret = status == PS_OK ? h : NULL;
    return PS_OK;
}

static void
warn_named(ev_ctx *c, const pql_expr *at, const char *what, mdl_labels labels)
{
    ps_buf *text = ev_note_begin(c);
    ps_buf_add_c(text, what);
    pql_quote(text, ev_metric_name(labels));
    ev_note_end(c, false, at);
}

static ps_status
smooth_hist(ev_leaf *l, ev_ctx *c, const ev_samples *s, size_t prev, bool has_next, int64_t t,
            mdl_labels labels, ps_arena *arena, const hst_hist **ret)
{
    const hst_hist *h1 = s->h[prev];
    *ret = NULL;
    if (s->t_ms[prev] == t)
        return hst_copy(arena, h1, ret) == PS_OK ? PS_OK : ev_no_memory(c);
    if (!has_next)
        return hst_with_hint(arena, h1, HST_UNKNOWN, &h1) == PS_OK &&
                       hst_copy(arena, h1, ret) == PS_OK
                   ? PS_OK
                   : ev_no_memory(c);
    const hst_hist *h2 = s->h[prev + 1];
    if (hst_is_custom(h1) != hst_is_custom(h2)) {
        warn_named(c, l->n.expr,
                   "vector contains a mix of histograms with exponential and custom buckets "
                   "schemas for metric name ",
                   labels);
        return PS_OK;
    }
    double fraction = (double)(t - s->t_ms[prev]) / (double)(s->t_ms[prev + 1] - s->t_ms[prev]);
    return between(c, l->n.expr, arena, h1, h2, fraction, ret);
}

ps_status
ev_smoothed_row(ev_leaf *l, ev_ctx *c, ev_worker *w, size_t series, ev_row *row,
                int64_t *ret_window)
{
    ev_samples *s = &w->samples;
    mdl_labels labels = l->list->labels[series];
    int64_t t = l->first_end_ms;
    size_t lo = 0, hi = 0, next = 0, hists = 0;
    ev_strip_stale(s);
    for (size_t step = 0; step < l->n.grid.n; step++, t += l->end_step_ms) {
        for (; hi < s->n && s->t_ms[hi] <= t + l->lookback_ms; hi++)
            hists += s->h != NULL && s->h[hi] != NULL;
        for (; lo < hi && s->t_ms[lo] <= t - l->lookback_ms; lo++)
            hists -= s->h != NULL && s->h[lo] != NULL;
        if ((int64_t)(hi - lo) > *ret_window)
            *ret_window = (int64_t)(hi - lo);
        while (next < s->n && s->t_ms[next] <= t)
            next++;
        if (hists > 0 && hists < hi - lo) {
            warn_named(c, l->n.expr, "encountered a mix of histograms and floats for metric name ",
                       labels);
            continue;
        }
        if (next <= lo) /* nothing at or before t within the lookback */
            continue;
        size_t prev = next - 1;
        if (hists > 0) {
            const hst_hist *h;
            PS_TRY(ev_row_hists(c, row, l->n.grid.n));
            PS_TRY(smooth_hist(l, c, s, prev, next < hi, t, labels, row->arena, &h));
            row->h[step] = h;
            if (h == NULL)
                continue;
        } else if (s->t_ms[prev] == t || next >= hi)
            row->v[step] = s->v[prev];
        else
            row->v[step] = s->v[prev] + (s->v[next] - s->v[prev]) * (double)(t - s->t_ms[prev]) /
                                            (double)(s->t_ms[next] - s->t_ms[prev]);
        ev_set(row->has, step);
    }
    return PS_OK;
}
