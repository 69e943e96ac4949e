/*
 * raw.c - a range selector as the result of an instant query: its samples as they are, stale markers
 * left out. Anchored and smoothed ranges show a point at each edge.
 */
#include "lib/eval/plan.h"

typedef struct raw_range {
    ev_query *q;
    const pql_expr *e;
    int64_t start_ms, end_ms; /* (start, end] */
    pql_edge edge;
    ev_samples samples;
} raw_range;

static double
on_line(const ev_samples *s, size_t a, size_t b, int64_t t)
{
    return s->v[a] +
           (s->v[b] - s->v[a]) * (double)(t - s->t_ms[a]) / (double)(s->t_ms[b] - s->t_ms[a]);
}

/* Points at both edges, and the samples between them. */
static size_t
with_edges(const raw_range *r, const ev_samples *s, int64_t *t, double *v)
{
    size_t first = 0, last = s->n - 1, n = 0;
    bool smoothed = r->edge == PQL_SMOOTHED;
    while (first < s->n - 1 && s->t_ms[first] <= r->start_ms)
        first++;
    first = first > 0 ? first - 1 : 0;
    if (smoothed) {
        last = 0;
        while (last < s->n - 1 && s->t_ms[last] < r->end_ms)
            last++;
    }
    if (s->t_ms[last] <= r->start_ms)
        return 0;
    t[n] = r->start_ms;
    v[n++] = smoothed && s->t_ms[first] < r->start_ms ? on_line(s, first, first + 1, r->start_ms)
                                                      : s->v[first];
    double right = smoothed && last > 0 && s->t_ms[last] > r->end_ms
                       ? on_line(s, last - 1, last, r->end_ms)
                       : s->v[last];
    for (size_t i = first; i <= last; i++)
        if (s->t_ms[i] > r->start_ms && s->t_ms[i] < r->end_ms) {
            t[n] = s->t_ms[i];
            v[n++] = s->v[i];
        }
    t[n] = r->end_ms;
    v[n++] = right;
    return n;
}

static ps_status
copy_hists(raw_range *r, ev_result_series *s, uint64_t *weight)
{
    ev_ctx *c = &r->q->ctx;
    const hst_hist **h = ps_arena_array(ev_arena(c), s->n, sizeof *h);
    if (h == NULL)
        return ev_no_memory(c);
    for (size_t i = 0; i < s->n; i++) {
        if (r->samples.h[i] == NULL)
            continue;
        if (hst_copy(ev_arena(c), r->samples.h[i], &h[i]) != PS_OK)
            return ev_no_memory(c);
        *weight += hst_weight(h[i]) - 1;
    }
    s->h = h;
    return PS_OK;
}

static ps_status
add_series(raw_range *r, mdl_labels labels, ev_result_series *s)
{
    ev_query *q = r->q;
    ev_ctx *c = &q->ctx;
    const ev_samples *in = &r->samples;
    bool histograms = false;
    for (size_t i = 0; in->h != NULL && i < in->n; i++)
        histograms |= in->h[i] != NULL;
    if (histograms && r->edge != PQL_PLAIN)
        return ev_fail(c, PS_EINVAL, "%s modifier is not supported with histograms",
                       r->edge == PQL_ANCHORED ? "anchored" : "smoothed");
    int64_t *t = ps_arena_new(ev_arena(c), (in->n + 2) * sizeof *t);
    double *v = ps_arena_new(ev_arena(c), (in->n + 2) * sizeof *v);
    if (t == NULL || v == NULL)
        return ev_no_memory(c);
    *s = (ev_result_series){labels, in->n, t, v, NULL};
    if (r->edge == PQL_PLAIN) {
        memcpy(t, in->t_ms, in->n * sizeof *t);
        memcpy(v, in->v, in->n * sizeof *v);
    } else
        s->n = with_edges(r, in, t, v);
    uint64_t weight = s->n;
    if (histograms)
        PS_TRY(copy_hists(r, s, &weight));
    ev_count(&q->counts, 0, weight);
    return ev_hold(c, (int64_t)weight);
}

static ps_status
read_all(raw_range *r, const ev_series_list *list)
{
    ev_query *q = r->q;
    ev_ctx *c = &q->ctx;
    ev_result_series *series = ps_arena_array(ev_arena(c), list->n + 1, sizeof *series);
    if (series == NULL)
        return ev_no_memory(c);
    for (size_t i = 0; i < list->n; i++) {
        ps_err err = {.offset = -1};
        PS_TRY(ev_poll(c));
        ev_samples_clear(&r->samples);
        ps_status status = q->env.source.read(q->env.source.self, list, i, 0, &r->samples, &err);
        if (status != PS_OK)
            return ev_source_failed(c, status, &err);
        atomic_fetch_add(&q->samples_read, r->samples.n);
        ev_strip_stale(&r->samples);
        if (r->samples.n == 0)
            continue;
        PS_TRY(add_series(r, list->labels[i], &series[q->result.n]));
        q->result.n += series[q->result.n].n > 0;
    }
    q->result.series = series;
    return PS_OK;
}

ev_selection
ev_raw_selection(const ev_query *q, const pql_expr *e)
{
    const pql_selector *s = &e->range.selector->selector;
    int64_t lookback = s->edge == PQL_PLAIN ? 0 : q->options.lookback_ms, end, unused;
    ev_window_times(&s->when, &q->grid, &end, &unused);
    return (ev_selection){.matchers = s->matchers,
                          .n_matchers = s->n_matchers,
                          .from_ms = end - e->range.range_ms - lookback + 1,
                          .to_ms = end + (s->edge == PQL_SMOOTHED ? lookback : 0)};
}

ps_status
ev_raw_range(ev_query *q, const pql_expr *e)
{
    ev_ctx *c = &q->ctx;
    const pql_selector *s = &e->range.selector->selector;
    int64_t end, unused;
    size_t selection;
    ev_window_times(&s->when, &q->grid, &end, &unused);
    raw_range r = {
        .q = q, .e = e, .start_ms = end - e->range.range_ms, .end_ms = end, .edge = s->edge};
    ev_selection wanted = ev_raw_selection(q, e);
    PS_TRY(ev_select(c, &wanted, &selection));
    PS_TRY(ev_select_all(q));
    ev_samples_init(&r.samples, ev_alloc(c));
    ps_status status = read_all(&r, &q->lists[selection]);
    ev_samples_done(&r.samples);
    return status;
}
