/*
 * subquery.c - functions over the results of an expression: `max_over_time(rate(x[1m])[1h:5m])`.
 *
 * The expression is evaluated once, on its own grid: all multiples of its step that lie in any window
 * of the outer steps. Its rows then are the samples that the function walks.
 *
 * Memory: a batch of the inner node, a batch of output, the samples of one row.
 */
#include "lib/eval/leaf.h"

typedef struct subquery_node {
    ev_node n; /* kids: the expression, then the scalar arguments */
    const ev_range_function *fn;
    ev_range_call call;
    ev_samples samples;
    ev_batch out;
    ev_batch *in; /* batch of the kid that is being walked */
    size_t in_at;
    int64_t held;
    bool opened, ended;
} subquery_node;

ev_grid
ev_subquery_grid(ev_ctx *c, const pql_expr *e, const ev_grid *outer)
{
    int64_t first_end, end_step;
    ev_window_times(&e->subquery.when, outer, &first_end, &end_step);
    ev_grid g = {.step_ms = e->subquery.step_ms};
    if (g.step_ms == 0)
        g.step_ms = ev_query_options(c)->subquery_step_ms;
    int64_t after = first_end - e->subquery.range_ms;
    int64_t step = g.step_ms, multiple = after / step - (after % step < 0);
    int64_t last = first_end + (int64_t)(outer->n - 1) * end_step;
    g.start_ms = (multiple + 1) * g.step_ms;
    g.n = last < g.start_ms ? 0 : (size_t)((last - g.start_ms) / g.step_ms) + 1;
    if (last == g.start_ms)
        g.step_ms = 0;
    return g;
}

ps_status
ev_build_subquery(ev_ctx *c, const pql_expr *e, const ev_grid *outer, ev_counts *counts,
                  ev_node **ret)
{
    ev_grid inner = ev_subquery_grid(c, e, outer);
    if (inner.n > ev_query_options(c)->max_samples)
        return ev_fail(c, PS_ELIMIT,
                       "query processing would load too many samples into memory in "
                       "query execution");
    ev_counts *outside = c->counts;
    c->counts = counts;
    ev_stats_enter(c->q, e, 1);
    ps_status status = ev_build(c, e->subquery.of, &inner, ret);
    ev_stats_enter(c->q, e, -1);
    c->counts = outside;
    return status;
}

/* A reset between two results of a subquery says nothing about what lies between them. */
static ps_status
unknown_hint(subquery_node *q, const hst_hist *h, const hst_hist **ret)
{
    if (h->hint != HST_RESET && h->hint != HST_NOT_RESET)
        *ret = h;
    else if (hst_with_hint(&q->samples.arena, h, HST_UNKNOWN, ret) != PS_OK)
        return ev_no_memory(q->n.c);
    return PS_OK;
}

/* The present cells of a row as samples. */
static ps_status
take_samples(subquery_node *q, const ev_row *row)
{
    const ev_grid *g = &q->n.kids[0]->grid;
    ev_samples *s = &q->samples;
    ev_samples_clear(s);
    if (ev_samples_reserve(s, g->n, row->h != NULL, false) != PS_OK)
        return ev_no_memory(q->n.c);
    for (size_t w = 0; w < (g->n + 63) / 64; w++)
        for (uint64_t bits = row->has[w]; bits != 0; bits &= bits - 1) {
            size_t step = w * 64 + (size_t)__builtin_ctzll(bits);
            s->t_ms[s->n] = g->start_ms + (int64_t)step * g->step_ms;
            s->v[s->n] = row->v[step];
            if (row->h != NULL) {
                s->h[s->n] = NULL;
                if (row->h[step] != NULL) {
                    PS_TRY(unknown_hint(q, row->h[step], &s->h[s->n]));
                    s->v[s->n] = 0;
                }
            }
            s->n++;
        }
    ev_strip_stale(s);
    return PS_OK;
}

static ps_status
run_row(subquery_node *q, size_t i)
{
    ev_node *n = &q->n, *kid = n->kids[0];
    ev_counts none = {0};
    ev_row in = ev_batch_row(q->in, q->in_at);
    size_t series = q->in->first + q->in_at;
    PS_TRY(take_samples(q, &in));
    if (q->samples.n == 0)
        return PS_OK;
    q->call.labels = kid->series[series].labels;
    ev_row row = ev_batch_row(&q->out, i);
    int64_t window = ev_count_windows(&q->call, &q->samples, n->counts != NULL ? n->counts : &none);
    PS_TRY(ev_hold(n->c, window));
    ev_release(n->c, window);
    PS_TRY(q->fn->run(&q->call, &q->samples, &row));
    PS_TRY(q->call.c->failed);
    q->out.h[i] = row.h;
    q->held += ev_row_weight(&row, n->grid.n);
    return PS_OK;
}

static ps_status
subquery_next(ev_node *n, ev_batch **ret)
{
    subquery_node *q = (subquery_node *)n;
    size_t rows = 0;
    ev_release(n->c, q->held);
    q->held = 0;
    if (!q->opened)
        return PS_OK;
    /* without a series, too: what is below has its annotations */
    ev_batch_clear(&q->out, q->out.first + q->out.n, q->out.cap);
    while (!q->ended) {
        /* at once when its last row is done, so that the kid lets go of what it holds */
        if (q->in == NULL || q->in_at == q->in->n) {
            PS_TRY(ev_next(n->kids[0], &q->in));
            q->in_at = 0;
            q->ended = q->in == NULL;
            continue;
        }
        if (rows == q->out.cap)
            break;
        if ((rows & 15) == 0)
            PS_TRY(ev_poll(n->c));
        PS_TRY(run_row(q, rows++));
        q->in_at++;
    }
    q->out.n = rows;
    PS_TRY(ev_hold(n->c, q->held));
    *ret = rows > 0 ? &q->out : NULL;
    return PS_OK;
}

static ps_status
subquery_open(ev_node *n)
{
    subquery_node *q = (subquery_node *)n;
    q->call.c = n->c;
    PS_TRY(ev_param_values(n, 1, &q->call.params));
    if (n->kids[0]->grid.n == 0 || n->grid.n == 0)
        return PS_OK; /* no step, no series */
    PS_TRY(ev_open(n->kids[0]));
    PS_TRY(ev_take_series(n, n->kids[0], !q->fn->keeps_name));
    size_t rows = ev_batch_rows(n->grid.n);
    q->opened = true;
    ev_samples_init(&q->samples, ev_alloc(n->c));
    return ev_batch_init(&q->out, n->c, rows < n->n_series ? rows : n->n_series, n->grid.n);
}

static void
subquery_close(ev_node *n)
{
    subquery_node *q = (subquery_node *)n;
    if (!q->opened)
        return;
    ev_batch_done(&q->out, n->c);
    ev_samples_done(&q->samples);
    ev_release(n->c, q->held);
}

/* A batch, and a row of the kid as samples: a power of two of them. */
static uint64_t
subquery_holds(const ev_node *n, size_t steps)
{
    uint64_t inner = ev_rehearsed_steps(n->kids[0]), cap = 64;
    while (cap < inner && cap < UINT64_MAX / 4)
        cap *= 2;
    return ev_plus(ev_batch_bytes(n->n_series, steps), n->n_series == 0 ? 0 : ev_times(cap, 16));
}

static const ev_node_ops subquery_ops = {"subquery",    sizeof(subquery_node), subquery_open,
                                         subquery_next, subquery_close,        EV_GRID,
                                         subquery_holds};

ps_status
ev_new_subquery(ev_ctx *c, const pql_expr *call, const pql_expr *arg, const ev_range_function *fn,
                const ev_grid *grid, ev_node **ret)
{
    ev_node *n, *kid;
    PS_TRY(ev_new_node(c, &subquery_ops, call, grid, PQL_VECTOR, &n));
    subquery_node *q = (subquery_node *)n;
    PS_TRY(ev_build_subquery(c, arg, grid, NULL, &kid));
    ev_add_kid(n, kid);
    q->fn = fn;
    q->call = (ev_range_call){.call = call,
                              .arg = arg,
                              .n_steps = grid->n,
                              .first_eval_ms = grid->start_ms,
                              .eval_step_ms = grid->step_ms,
                              .range_ms = arg->subquery.range_ms,
                              .lookback_ms = ev_query_options(c)->lookback_ms,
                              .edge = PQL_PLAIN};
    ev_window_times(&arg->subquery.when, grid, &q->call.first_end_ms, &q->call.end_step_ms);
    *ret = n;
    return PS_OK;
}
