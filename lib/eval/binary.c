/*
 * binary.c - binary operators with a scalar on a side, the unary operators, and who does the rest.
 *
 * All of these work in place: a batch of the vector is changed as it passes; scalars are arrays of one
 * value per step, read once when opened. Memory: n_steps values per scalar.
 */
#include "lib/eval/join.h"
#include "lib/eval/leaf.h"

static bool
is_set_operator(pql_op op)
{
    return op == PQL_AND || op == PQL_OR || op == PQL_UNLESS;
}

ps_status
ev_build_binary(ev_ctx *c, const pql_expr *e, const ev_grid *grid, ev_node **ret)
{
    bool left_scalar = e->binary.lhs->type == PQL_SCALAR;
    bool right_scalar = e->binary.rhs->type == PQL_SCALAR;
    if (left_scalar && right_scalar)
        return ev_build_scalar_scalar(c, e, grid, ret);
    if (left_scalar || right_scalar)
        return ev_build_vector_scalar(c, e, grid, ret);
    if (is_set_operator(e->binary.op))
        return ev_build_set(c, e, grid, ret);
    return ev_build_join(c, e, grid, ret);
}

/* Builds a node with kids of the expressions. */
static ps_status
build_over(ev_ctx *c, const ev_node_ops *ops, const pql_expr *e, const ev_grid *grid,
           const pql_expr *const *of, size_t n, ev_node **ret)
{
    ev_node *node;
    PS_TRY(ev_new_node(c, ops, e, grid, e->type, &node));
    for (size_t i = 0; i < n; i++) {
        ev_node *kid;
        PS_TRY(ev_build(c, of[i], grid, &kid));
        ev_add_kid(node, kid);
    }
    *ret = node;
    return PS_OK;
}

/* ---- scalar op scalar ------------------------------------------------------------------------------ */

typedef struct scalars {
    ev_node node;
    ev_batch batch;
    const double *l, *r;
    bool given;
} scalars;

static ps_status
scalars_open(ev_node *n)
{
    scalars *s = (scalars *)n;
    PS_TRY(ev_scalar_values(n->kids[0], &s->l));
    PS_TRY(ev_scalar_values(n->kids[1], &s->r));
    n->n_series = 1;
    n->distinct = true;
    n->series = ps_arena_array(ev_arena(n->c), 1, sizeof *n->series);
    if (n->series == NULL)
        return ev_no_memory(n->c);
    return ev_batch_init(&s->batch, n->c, 1, n->grid.n);
}

static ps_status
scalars_next(ev_node *n, ev_batch **ret)
{
    scalars *s = (scalars *)n;
    *ret = NULL;
    if (s->given)
        return PS_OK;
    s->given = true;
    ev_batch_clear(&s->batch, 0, 1);
    ev_row row = ev_batch_row(&s->batch, 0);
    for (size_t i = 0; i < n->grid.n; i++) {
        row.v[i] = ev_binop_scalar(n->expr->binary.op, s->l[i], s->r[i]);
        ev_set(row.has, i);
    }
    *ret = &s->batch;
    return PS_OK;
}

static void
scalars_close(ev_node *n)
{
    ev_batch_done(&((scalars *)n)->batch, n->c);
}

/* A row, and what is in the arena: the values of both. */
static uint64_t
scalars_holds(const ev_node *n, size_t steps)
{
    (void)n;
    return ev_plus(ev_cell_bytes(1, steps), ev_times(steps - 1, 2 * sizeof(double)));
}

static const ev_node_ops scalars_ops = {"operator on scalars", sizeof(scalars), scalars_open,
                                        scalars_next,          scalars_close,   EV_SCALAR,
                                        scalars_holds};

ps_status
ev_build_scalar_scalar(ev_ctx *c, const pql_expr *e, const ev_grid *grid, ev_node **ret)
{
    const pql_expr *of[2] = {e->binary.lhs, e->binary.rhs};
    PS_TRY(build_over(c, &scalars_ops, e, grid, of, 2, ret));
    if (e->binary.op == PQL_TRIM_UPPER || e->binary.op == PQL_TRIM_LOWER)
        return ev_fail(c, PS_EINVAL, "operator \"%s\" not allowed for Scalar operations",
                       pql_op_text(e->binary.op));
    return PS_OK;
}

/* ---- vector op scalar -------------------------------------------------------------------------------- */

typedef struct with_scalar { /* kids: vector, scalar */
    ev_node node;
    ev_binop op;
    double *scalar;
    bool vector_right;
} with_scalar;

static ps_status
with_scalar_open(ev_node *n)
{
    with_scalar *s = (with_scalar *)n;
    const double *values;
    PS_TRY(ev_open(n->kids[0]));
    PS_TRY(ev_scalar_values(n->kids[1], &values));
    /* rows are not const, this one is only read */
    s->scalar = ps_arena_new(ev_arena(n->c), (n->grid.n + 1) * sizeof *s->scalar);
    if (s->scalar == NULL)
        return ev_no_memory(n->c);
    memcpy(s->scalar, values, n->grid.n * sizeof *values);
    ev_binop_init(&s->op, n->c, n->expr, n->grid.n);
    s->op.keep_right = s->vector_right;
    return ev_take_series(n, n->kids[0],
                          ev_binop_changes_metric(s->op.op) || n->expr->binary.return_bool);
}

static ps_status
with_scalar_next(ev_node *n, ev_batch **ret)
{
    with_scalar *s = (with_scalar *)n;
    ev_batch *b;
    PS_TRY(ev_next(n->kids[0], &b));
    *ret = b;
    if (b == NULL)
        ev_binop_finish(&s->op);
    for (size_t i = 0; b != NULL && i < b->n; i++) {
        ev_row row = ev_batch_row(b, i);
        const ev_row vector = row, scalar = {.v = s->scalar};
        const ev_row *l = s->vector_right ? &scalar : &vector;
        const ev_row *r = s->vector_right ? &vector : &scalar;
        PS_TRY(ev_binop_row(&s->op, l, r, row.has, &row, NULL));
        b->h[i] = row.h;
    }
    return PS_OK;
}

/* In the arena: the values of the scalar, twice. */
static uint64_t
with_scalar_holds(const ev_node *n, size_t steps)
{
    (void)n;
    return ev_times(steps - 1, 2 * sizeof(double));
}

static const ev_node_ops with_scalar_ops = {
    "operator with a scalar", sizeof(with_scalar), with_scalar_open, with_scalar_next, NULL, EV_MAP,
    with_scalar_holds};

ps_status
ev_build_vector_scalar(ev_ctx *c, const pql_expr *e, const ev_grid *grid, ev_node **ret)
{
    bool vector_right = e->binary.lhs->type == PQL_SCALAR;
    const pql_expr *of[2] = {vector_right ? e->binary.rhs : e->binary.lhs,
                             vector_right ? e->binary.lhs : e->binary.rhs};
    ev_node *node;
    PS_TRY(build_over(c, &with_scalar_ops, e, grid, of, 2, &node));
    ((with_scalar *)node)->vector_right = vector_right;
    return ev_build_unique(c, node, false, ret);
}

/* ---- unary -------------------------------------------------------------------------------------------- */

static ps_status
minus_open(ev_node *n)
{
    PS_TRY(ev_open(n->kids[0]));
    return ev_take_series(n, n->kids[0], n->type == PQL_VECTOR);
}

static ps_status
minus_next(ev_node *n, ev_batch **ret)
{
    ev_batch *b;
    PS_TRY(ev_next(n->kids[0], &b));
    *ret = b;
    for (size_t i = 0; b != NULL && i < b->n; i++) {
        ev_row row = ev_batch_row(b, i);
        for (size_t s = 0; s < n->grid.n; s++)
            row.v[s] = -row.v[s];
        for (size_t s = 0; row.h != NULL && s < n->grid.n; s++)
            if (ev_has(row.has, s) && row.h[s] != NULL &&
                hst_mul(row.arena, row.h[s], -1, &row.h[s]) != PS_OK)
                return ev_no_memory(n->c);
    }
    return PS_OK;
}

static const ev_node_ops minus_ops = {"minus", sizeof(ev_node), minus_open, minus_next,
                                      NULL,    EV_MAP,          NULL};

ps_status
ev_build_unary(ev_ctx *c, const pql_expr *e, const ev_grid *grid, ev_node **ret)
{
    const pql_expr *of = e->unary.of;
    if (e->unary.op != PQL_SUB)
        return ev_build(c, of, grid, ret);
    ev_node *node;
    PS_TRY(build_over(c, &minus_ops, e, grid, &of, 1, &node));
    if (e->type == PQL_SCALAR) {
        *ret = node;
        return PS_OK;
    }
    return ev_build_unique(c, node, false, ret);
}
