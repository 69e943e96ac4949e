/*
 * range.c - functions over ranges, as a leaf: a series is read once, stale markers go, and the function
 * walks all windows of it.
 *
 * Memory: that of the leaf (leaf.c); the samples of a series are held one series per worker.
 */
#include "lib/eval/leaf.h"

void
ev_strip_stale(ev_samples *s)
{
    size_t stale = 0;
    for (size_t i = 0; i < s->n; i++)
        stale += ps_bits_of(s->v[i]) == MDL_STALE_NAN_BITS;
    if (s->h != NULL)
        for (size_t i = 0; i < s->n; i++)
            stale += s->h[i] != NULL && hst_is_stale(s->h[i]);
    if (stale == 0)
        return;
    size_t kept = 0;
    for (size_t i = 0; i < s->n; i++) {
        bool histogram = s->h != NULL && s->h[i] != NULL;
        if (histogram ? hst_is_stale(s->h[i]) : ps_bits_of(s->v[i]) == MDL_STALE_NAN_BITS)
            continue;
        s->t_ms[kept] = s->t_ms[i];
        s->v[kept] = s->v[i];
        if (s->h != NULL)
            s->h[kept] = s->h[i];
        if (s->start_ms != NULL)
            s->start_ms[kept] = s->start_ms[i];
        kept++;
    }
    s->n = kept;
}

static size_t
sample_weight(const ev_samples *s, size_t i)
{
    return s->h != NULL && s->h[i] != NULL ? hst_weight(s->h[i]) : 1;
}

int64_t
ev_count_windows(const ev_range_call *call, const ev_samples *s, ev_counts *counts)
{
    int64_t left = call->range_ms + (call->edge != PQL_PLAIN ? call->lookback_ms : 0);
    int64_t right = call->edge == PQL_SMOOTHED ? call->lookback_ms : 0;
    int64_t end = call->first_end_ms, most = 0, in = 0;
    size_t lo = 0, hi = 0;
    uint64_t total = 0;
    for (size_t step = 0; step < call->n_steps; step++, end += call->end_step_ms) {
        if (s->h == NULL) {
            while (hi < s->n && s->t_ms[hi] <= end + right)
                hi++;
            while (lo < hi && s->t_ms[lo] <= end - left)
                lo++;
            in = (int64_t)(hi - lo);
        } else {
            for (; hi < s->n && s->t_ms[hi] <= end + right; hi++)
                in += (int64_t)sample_weight(s, hi);
            for (; lo < hi && s->t_ms[lo] <= end - left; lo++)
                in -= (int64_t)sample_weight(s, lo);
        }
        total += (uint64_t)in;
        most = in > most ? in : most;
        if (counts->per_step != NULL)
            counts->per_step[step] += (uint64_t)in;
        if (call->end_step_ms == 0 && counts->per_step == NULL) {
            total = (uint64_t)in * call->n_steps;
            break;
        }
    }
    counts->total += total;
    return most;
}

static ps_status
range_row(ev_leaf *l, ev_ctx *c, ev_worker *w, size_t series, ev_row *row, int64_t *ret_window)
{
    ev_strip_stale(&w->samples);
    if (w->samples.n == 0)
        return PS_OK;
    ev_range_call call = l->call;
    call.c = c;
    call.labels = l->list->labels[series];
    *ret_window = ev_count_windows(&call, &w->samples, &w->counts);
    return l->fn->run(&call, &w->samples, row);
}

ps_status
ev_param_values(ev_node *n, size_t first, const double *const **ret)
{
    const double **params = ps_arena_array(ev_arena(n->c), EV_MAX_KIDS, sizeof *params);
    if (params == NULL)
        return ev_no_memory(n->c);
    for (size_t i = first; i < n->n_kids; i++)
        PS_TRY(ev_scalar_values(n->kids[i], &params[i - first]));
    *ret = params;
    return PS_OK;
}

/* Which edges a function knows. */
static ps_status
check_edge(ev_ctx *c, const pql_expr *call, pql_edge edge)
{
    pql_fn fn = call->call.fn->id;
    bool rate = fn == PQL_FN_RATE || fn == PQL_FN_INCREASE || fn == PQL_FN_DELTA;
    if (edge == PQL_ANCHORED && !rate && fn != PQL_FN_RESETS && fn != PQL_FN_CHANGES)
        return ev_fail(c, PS_EINVAL,
                       "anchored modifier can only be used with: changes, delta, increase, rate, "
                       "resets - not with %s",
                       call->call.fn->name);
    if (edge == PQL_SMOOTHED && !rate)
        return ev_fail(c, PS_EINVAL,
                       "smoothed modifier can only be used with: delta, increase, rate - not with "
                       "%s",
                       call->call.fn->name);
    return PS_OK;
}

static ps_status
add_params(ev_ctx *c, ev_node *n, const pql_expr *call, const ev_grid *grid)
{
    for (size_t i = 0; i < call->call.n_args; i++) {
        const pql_expr *e = call->call.args[i];
        ev_node *kid;
        if (e->type != PQL_SCALAR)
            continue;
        PS_TRY(ev_build(c, e, grid, &kid));
        ev_add_kid(n, kid);
    }
    return PS_OK;
}

static ps_status
build_leaf(ev_ctx *c, const pql_expr *call, const pql_expr *arg, const ev_range_function *fn,
           const ev_grid *grid, ev_node **ret)
{
    const pql_expr *selector = arg->range.selector;
    const pql_selector *s = &selector->selector;
    ev_node *n;
    PS_TRY(check_edge(c, call, s->edge));
    PS_TRY(ev_new_node(c, &ev_leaf_ops, call, grid, PQL_VECTOR, &n));
    PS_TRY(add_params(c, n, call, grid));
    ev_leaf *l = (ev_leaf *)n;
    l->run = range_row;
    l->fn = fn;
    l->divisor = 1;
    ev_window_times(&s->when, grid, &l->first_end_ms, &l->end_step_ms);
    l->call = (ev_range_call){.call = call,
                              .arg = arg,
                              .n_steps = grid->n,
                              .first_end_ms = l->first_end_ms,
                              .end_step_ms = l->end_step_ms,
                              .first_eval_ms = grid->start_ms,
                              .eval_step_ms = grid->step_ms,
                              .range_ms = arg->range.range_ms,
                              .lookback_ms = ev_query_options(c)->lookback_ms,
                              .edge = s->edge};
    int64_t outside = s->edge == PQL_PLAIN ? 0 : l->call.lookback_ms;
    l->stats_only = ev_stats_suffice(c->q);
    l->stats_window_ms = arg->range.range_ms + outside;
    l->stats_right_ms = s->edge == PQL_SMOOTHED ? outside : 0;
    ev_selection selection = {.matchers = s->matchers,
                              .n_matchers = s->n_matchers,
                              .from_ms = l->first_end_ms - arg->range.range_ms - outside + 1,
                              .to_ms = l->first_end_ms + (int64_t)(grid->n - 1) * l->end_step_ms +
                                       (s->edge == PQL_SMOOTHED ? outside : 0)};
    PS_TRY(ev_select(c, &selection, &l->selection));
    *ret = n;
    return PS_OK;
}

ps_status
ev_build_range(ev_ctx *c, const pql_expr *call, const pql_expr *arg, const ev_range_function *fn,
               const ev_grid *grid, ev_node **ret)
{
    ev_node *n;
    if (arg->kind == PQL_SUBQUERY) {
        PS_TRY(ev_new_subquery(c, call, arg, fn, grid, &n));
        PS_TRY(add_params(c, n, call, grid));
    } else
        PS_TRY(build_leaf(c, call, arg, fn, grid, &n));
    if (ev_query_options(c)->delayed_names)
        *ret = n;
    else
        PS_TRY(ev_build_unique(c, n, true, ret));
    return PS_OK;
}
