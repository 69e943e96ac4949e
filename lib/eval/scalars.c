/*
 * scalars.c - nodes that read nothing: numbers, time(), pi(), max_of(), min_of(); the vector that date
 * functions take when they are given none; and nothing at all.
 *
 * Memory: one row.
 */
#include <math.h>

#include "lib/eval/plan.h"

typedef enum scalar_kind { NUMBER, TIME, MAX_OF, MIN_OF, NOTHING } scalar_kind;

typedef struct scalar_node {
    ev_node n;
    scalar_kind kind;
    double value;
    ev_batch out;
    bool opened, done;
} scalar_node;

static ps_status
scalar_open(ev_node *n)
{
    scalar_node *s = (scalar_node *)n;
    n->distinct = true;
    if (s->kind == NOTHING)
        return PS_OK;
    n->series = ps_arena_array(ev_arena(n->c), 1, sizeof *n->series);
    if (n->series == NULL)
        return ev_no_memory(n->c);
    n->n_series = 1;
    return ev_batch_init(&s->out, n->c, 1, n->grid.n);
}

/* Go's math.Max: +Inf beats NaN, NaN beats the rest, and +0 is larger than -0. */
static double
max_of(double a, double b)
{
    if ((isinf(a) && a > 0) || (isinf(b) && b > 0))
        return INFINITY;
    if (isnan(a) || isnan(b))
        return ps_double_of(MDL_NORMAL_NAN_BITS);
    if (a == 0 && b == 0)
        return signbit(a) ? b : a;
    return a > b ? a : b;
}

static ps_status
combine(scalar_node *s)
{
    const double *a, *b;
    PS_TRY(ev_scalar_values(s->n.kids[0], &a));
    PS_TRY(ev_scalar_values(s->n.kids[1], &b));
    for (size_t i = 0; i < s->n.grid.n; i++)
        s->out.v[i] = s->kind == MAX_OF ? max_of(a[i], b[i]) : -max_of(-a[i], -b[i]);
    return PS_OK;
}

void
ev_fill_bits(uint64_t *has, size_t n_steps)
{
    for (size_t w = 0; w < n_steps / 64; w++)
        has[w] = UINT64_MAX;
    if (n_steps % 64 != 0)
        has[n_steps / 64] = UINT64_MAX >> (64 - n_steps % 64);
}

static ps_status
scalar_next(ev_node *n, ev_batch **ret)
{
    scalar_node *s = (scalar_node *)n;
    if (s->done || n->n_series == 0)
        return PS_OK;
    s->done = true;
    ev_batch_clear(&s->out, 0, 1);
    ev_fill_bits(s->out.has, n->grid.n);
    if (s->kind == NUMBER)
        for (size_t i = 0; i < n->grid.n; i++)
            s->out.v[i] = s->value;
    else if (s->kind == TIME)
        for (size_t i = 0; i < n->grid.n; i++)
            s->out.v[i] = (double)(n->grid.start_ms + (int64_t)i * n->grid.step_ms) / 1000;
    else
        PS_TRY(combine(s));
    *ret = &s->out;
    return PS_OK;
}

static void
scalar_close(ev_node *n)
{
    ev_batch_done(&((scalar_node *)n)->out, n->c);
}

static uint64_t
scalar_holds(const ev_node *n, size_t steps)
{
    return n->n_series == 0 ? 0 : ev_cell_bytes(1, steps);
}

static const ev_node_ops scalar_ops = {"scalar",     sizeof(scalar_node), scalar_open, scalar_next,
                                       scalar_close, EV_SCALAR,           scalar_holds};

static ps_status
new_scalar(ev_ctx *c, scalar_kind kind, pql_type type, const pql_expr *e, const ev_grid *grid,
           ev_node **ret)
{
    PS_TRY(ev_new_node(c, &scalar_ops, e, grid, type, ret));
    ((scalar_node *)*ret)->kind = kind;
    return PS_OK;
}

ps_status
ev_build_number(ev_ctx *c, const pql_expr *e, double value, const ev_grid *grid, ev_node **ret)
{
    PS_TRY(new_scalar(c, NUMBER, PQL_SCALAR, e, grid, ret));
    ((scalar_node *)*ret)->value = value;
    return PS_OK;
}

ps_status
ev_build_time(ev_ctx *c, const pql_expr *e, pql_type type, const ev_grid *grid, ev_node **ret)
{
    return new_scalar(c, TIME, type, e, grid, ret);
}

ps_status
ev_build_nothing(ev_ctx *c, const pql_expr *e, const ev_grid *grid, ev_node **ret)
{
    return new_scalar(c, NOTHING, PQL_VECTOR, e, grid, ret);
}

ps_status
ev_build_extreme(ev_ctx *c, const pql_expr *e, const ev_grid *grid, ev_node **ret)
{
    ev_node *n, *kid;
    bool max = e->call.fn->id == PQL_FN_MAX_OF;
    PS_TRY(new_scalar(c, max ? MAX_OF : MIN_OF, PQL_SCALAR, e, grid, &n));
    for (size_t i = 0; i < 2; i++) {
        PS_TRY(ev_build(c, e->call.args[i], grid, &kid));
        ev_add_kid(n, kid);
    }
    *ret = n;
    return PS_OK;
}
