/*
 * stats_only.c - histograms of which only count and sum are wanted.
 *
 * Where all that happens to a selector's histograms ends in histogram_count(), histogram_sum() or
 * histogram_avg(), buckets need not be carried: each histogram becomes one of count and sum alone. What
 * buckets tell otherwise, whether a counter was reset, is found out on the way: a histogram whose hint
 * is unknown gets an explicit one, by comparison with the one before. That is seen: reset is a hint that
 * no stored histogram has, and it collides with not_reset.
 *
 * As in Prometheus only samples are compared that are looked at one after the other. Where the window of
 * a step begins behind the sample at which that of the step before ended, the first one in it keeps its
 * hint.
 */
#include "lib/eval/leaf.h"

/* ---- which selectors -------------------------------------------------------------------------------- */

/* Whatever needs buckets anywhere above bars it; a subquery, because it keeps no hints. */
void
ev_stats_enter(ev_query *q, const pql_expr *e, int by)
{
    if (e->kind == PQL_SUBQUERY || (e->kind == PQL_BINARY && (e->binary.op == PQL_TRIM_UPPER ||
                                                              e->binary.op == PQL_TRIM_LOWER))) {
        q->stats_barred += by;
        return;
    }
    if (e->kind != PQL_CALL)
        return;
    switch (e->call.fn->id) {
    case PQL_FN_HISTOGRAM_COUNT:
    case PQL_FN_HISTOGRAM_SUM:
    case PQL_FN_HISTOGRAM_AVG:
        q->stats_asked += by;
        break;
    case PQL_FN_HISTOGRAM_QUANTILE:
    case PQL_FN_HISTOGRAM_QUANTILES:
    case PQL_FN_HISTOGRAM_FRACTION:
        q->stats_barred += by;
        break;
    default:
        break;
    }
}

bool
ev_stats_suffice(const ev_query *q)
{
    return q->stats_asked > 0 && q->stats_barred == 0;
}

/* ---- samples ------------------------------------------------------------------------------------------ */

typedef struct visitor {
    ev_samples *s;
    size_t at;            /* next sample */
    const hst_hist *last; /* whole histogram before it, if it was looked at */
} visitor;

static ps_status
visit(visitor *v)
{
    size_t i = v->at++;
    const hst_hist *h = v->s->h[i];
    if (h == NULL)
        return PS_OK;
    hst_hist *stats = ps_arena_new(&v->s->arena, sizeof *stats);
    if (stats == NULL)
        return PS_ENOMEM;
    *stats = (hst_hist){.schema = h->schema, .hint = h->hint, .count = h->count, .sum = h->sum};
    v->s->h[i] = stats;
    if (hst_is_stale(h))
        return PS_OK;
    if (h->hint == HST_UNKNOWN && v->last != NULL)
        stats->hint = hst_detect_reset(v->last, h) ? HST_RESET : HST_NOT_RESET;
    v->last = h;
    return PS_OK;
}

/* Does the reader, whose next sample is `at`, stand before `from`? It stands at a sample that lies
 * exactly at the end of the step before, else at the next one. */
static bool
stands_before(const visitor *v, int64_t from, int64_t end_before)
{
    const int64_t *t = v->s->t_ms;
    if (v->at > 0 && t[v->at - 1] == end_before)
        return t[v->at - 1] < from;
    return v->at < v->s->n && t[v->at] < from;
}

ps_status
ev_stats_of(const ev_leaf *l, ev_samples *s)
{
    visitor v = {.s = s};
    if (s->h == NULL)
        return PS_OK;
    int64_t end = l->first_end_ms, end_before = INT64_MIN;
    for (size_t step = 0; step < l->n.grid.n && v.at < s->n; step++, end += l->end_step_ms) {
        int64_t from = end - l->stats_window_ms, to = end + l->stats_right_ms;
        if (stands_before(&v, from, end_before)) {
            while (v.at < s->n && s->t_ms[v.at] < from)
                v.at++;
            v.last = NULL;
        }
        while (v.at < s->n && s->t_ms[v.at] <= to)
            PS_TRY(visit(&v));
        end_before = to;
        if (l->end_step_ms == 0)
            break;
    }
    return PS_OK;
}
