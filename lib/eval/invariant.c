/*
 * invariant.c - parts of a query that are the same at each step (all selectors under a fixed @, no
 * function of time) are evaluated once, at the first step, and repeated.
 *
 * Memory: a batch of output; the kid holds one of a single step.
 */
#include "lib/eval/plan.h"

typedef struct invariant_node {
    ev_node n;
    ev_counts once; /* what the single evaluation counted; each step counts it */
    ev_batch out;
    ev_batch *in;
    size_t in_at;
    int64_t held;
    bool ended, counted;
} invariant_node;

static ps_status
invariant_open(ev_node *n)
{
    invariant_node *v = (invariant_node *)n;
    PS_TRY(ev_open(n->kids[0]));
    PS_TRY(ev_take_series(n, n->kids[0], false));
    size_t rows = ev_batch_rows(n->grid.n);
    return ev_batch_init(&v->out, n->c, rows < n->n_series ? rows : n->n_series, n->grid.n);
}

static ps_status
repeat_row(invariant_node *v, size_t i)
{
    ev_row in = ev_batch_row(v->in, v->in_at);
    ev_row out = ev_batch_row(&v->out, i);
    size_t n_steps = v->n.grid.n;
    if (!ev_has(in.has, 0))
        return PS_OK;
    ev_fill_bits(out.has, n_steps);
    if (in.h != NULL && in.h[0] != NULL) {
        const hst_hist *h;
        PS_TRY(ev_batch_hists(&v->out, v->n.c, i));
        out = ev_batch_row(&v->out, i);
        if (hst_copy(out.arena, in.h[0], &h) != PS_OK)
            return ev_no_memory(v->n.c);
        for (size_t s = 0; s < n_steps; s++)
            out.h[s] = h;
        v->held += (int64_t)(hst_weight(h) * n_steps);
        return PS_OK;
    }
    for (size_t s = 0; s < n_steps; s++)
        out.v[s] = in.v[0];
    v->held += (int64_t)n_steps;
    return PS_OK;
}

static void
count_steps(invariant_node *v)
{
    ev_counts *counts = v->n.counts;
    if (counts == NULL || v->counted)
        return;
    v->counted = true;
    if (counts->per_step == NULL)
        counts->total += v->once.total * v->n.grid.n;
    else
        for (size_t s = 0; s < v->n.grid.n; s++)
            ev_count(counts, s, v->once.total);
}

static ps_status
invariant_next(ev_node *n, ev_batch **ret)
{
    invariant_node *v = (invariant_node *)n;
    size_t rows = 0;
    ev_release(n->c, v->held);
    v->held = 0;
    if (v->out.cap > 0)
        ev_batch_clear(&v->out, v->out.first + v->out.n, v->out.cap);
    while (!v->ended) {
        /* at once when its last row is done, so that the kid lets go of what it holds */
        if (v->in == NULL || v->in_at == v->in->n) {
            PS_TRY(ev_next(n->kids[0], &v->in));
            v->in_at = 0;
            v->ended = v->in == NULL;
            continue;
        }
        if (rows == v->out.cap)
            break;
        PS_TRY(repeat_row(v, rows++));
        v->in_at++;
    }
    v->out.n = rows;
    PS_TRY(ev_hold(n->c, v->held));
    if (v->ended)
        count_steps(v);
    *ret = rows > 0 ? &v->out : NULL;
    return PS_OK;
}

static void
invariant_close(ev_node *n)
{
    invariant_node *v = (invariant_node *)n;
    ev_batch_done(&v->out, n->c);
    ev_release(n->c, v->held);
}

static uint64_t
invariant_holds(const ev_node *n, size_t steps)
{
    return ev_batch_bytes(n->n_series, steps);
}

static const ev_node_ops invariant_ops = {"the same at each step", sizeof(invariant_node),
                                          invariant_open,          invariant_next,
                                          invariant_close,         EV_GRID,
                                          invariant_holds};

ps_status
ev_build_invariant(ev_ctx *c, const pql_expr *e, const ev_grid *grid, ev_node **ret)
{
    ev_node *n, *kid;
    PS_TRY(ev_new_node(c, &invariant_ops, e, grid, e->type, &n));
    ev_grid once = {grid->start_ms, 0, 1};
    ev_counts *outside = c->counts;
    c->counts = &((invariant_node *)n)->once;
    ps_status status = ev_build(c, e, &once, &kid);
    c->counts = outside;
    PS_TRY(status);
    ev_add_kid(n, kid);
    *ret = n;
    return PS_OK;
}

/* ---- what is invariant -------------------------------------------------------------------------------- */

static bool
depends_on_time(pql_fn fn)
{
    switch (fn) {
    case PQL_FN_DAYS_IN_MONTH:
    case PQL_FN_DAY_OF_MONTH:
    case PQL_FN_DAY_OF_WEEK:
    case PQL_FN_DAY_OF_YEAR:
    case PQL_FN_END:
    case PQL_FN_HOUR:
    case PQL_FN_MINUTE:
    case PQL_FN_MONTH:
    case PQL_FN_YEAR:
    case PQL_FN_PREDICT_LINEAR:
    case PQL_FN_RANGE:
    case PQL_FN_START:
    case PQL_FN_STEP:
    case PQL_FN_TIME:
    case PQL_FN_TIMESTAMP:
        return true;
    default:
        return false;
    }
}

static bool
call_is_invariant(const pql_expr *e)
{
    pql_fn fn = e->call.fn->id;
    if (fn == PQL_FN_TIMESTAMP) {
        const pql_expr *arg = pql_unwrap(e->call.args[0]);
        return arg->kind == PQL_SELECTOR && ev_is_invariant(arg);
    }
    if (depends_on_time(fn))
        return false;
    for (size_t i = 0; i < e->call.n_args; i++)
        if (!ev_is_invariant(e->call.args[i]))
            return false;
    return true;
}

bool
ev_is_invariant(const pql_expr *e)
{
    switch (e->kind) {
    case PQL_SELECTOR:
        return e->selector.when.at != PQL_AT_NONE;
    case PQL_RANGE:
        return ev_is_invariant(e->range.selector);
    case PQL_SUBQUERY:
        return e->subquery.when.at != PQL_AT_NONE;
    case PQL_CALL:
        return call_is_invariant(e);
    case PQL_AGGREGATE: /* whatever its parameter is, as the original has it */
        return ev_is_invariant(e->aggregate.of);
    case PQL_BINARY:
        return ev_is_invariant(e->binary.lhs) && ev_is_invariant(e->binary.rhs);
    case PQL_UNARY:
        return ev_is_invariant(e->unary.of);
    case PQL_PAREN:
        return ev_is_invariant(e->paren);
    default:
        return true;
    }
}
