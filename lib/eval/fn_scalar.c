/*
 * fn_scalar.c - scalar(): the value of the only float at a step, else NaN; and vector(): a scalar as a
 * series without labels.
 */
#include <math.h>

#include "lib/eval/internal.h"

/* ---- scalar ------------------------------------------------------------------------------------------ */

typedef struct scalar_node {
    ev_node node;
    ev_batch batch;
    bool done;
} scalar_node;

static ps_status
open_scalar(ev_node *node)
{
    scalar_node *n = (scalar_node *)node;
    node->n_series = 1;
    node->distinct = true;
    node->series = ps_arena_array(ev_arena(node->c), 1, sizeof *node->series);
    if (node->series == NULL)
        return ev_no_memory(node->c);
    PS_TRY(ev_batch_init(&n->batch, node->c, 1, node->grid.n));
    return ev_open(node->kids[0]);
}

/* One row of the input. A second float makes NaN of a cell, and no third one can change that: the cell
 * stays marked as seen. */
static void
take_row(ev_batch *out, const ev_row *row)
{
    for (size_t w = 0; w < out->n_words; w++) {
        for (uint64_t bits = row->has[w]; bits != 0; bits &= bits - 1) {
            size_t step = w * 64 + (size_t)__builtin_ctzll(bits);
            if (row->h != NULL && row->h[step] != NULL)
                continue;
            out->v[step] = ev_has(out->has, step) ? NAN : row->v[step];
            ev_set(out->has, step);
        }
    }
}

static ps_status
next_scalar(ev_node *node, ev_batch **ret)
{
    scalar_node *n = (scalar_node *)node;
    ev_batch *in, *out = &n->batch;
    *ret = NULL;
    if (n->done)
        return PS_OK;
    n->done = true;
    ev_batch_clear(out, 0, 1);
    for (;;) {
        PS_TRY(ev_next(node->kids[0], &in));
        if (in == NULL)
            break;
        for (size_t i = 0; i < in->n; i++) {
            ev_row row = ev_batch_row(in, i);
            take_row(out, &row);
        }
    }
    for (size_t step = 0; step < node->grid.n; step++)
        if (!ev_has(out->has, step)) {
            out->v[step] = NAN;
            ev_set(out->has, step);
        }
    *ret = out;
    return PS_OK;
}

static void
close_scalar(ev_node *node)
{
    ev_batch_done(&((scalar_node *)node)->batch, node->c);
}

static uint64_t
scalar_holds(const ev_node *n, size_t steps)
{
    (void)n;
    return ev_cell_bytes(1, steps);
}

static const ev_node_ops scalar_ops = {"to scalar", sizeof(scalar_node), open_scalar,
                                       next_scalar, close_scalar,        EV_FOLD,
                                       scalar_holds};

ps_status
ev_build_scalar(ev_ctx *c, const pql_expr *e, const ev_grid *grid, ev_node **ret)
{
    ev_node *node, *kid;
    PS_TRY(ev_new_node(c, &scalar_ops, e, grid, PQL_SCALAR, &node));
    PS_TRY(ev_build(c, e->call.args[0], grid, &kid));
    ev_add_kid(node, kid);
    *ret = node;
    return PS_OK;
}

/* ---- vector ------------------------------------------------------------------------------------------ */

static ps_status
open_vector(ev_node *node)
{
    node->n_series = 1;
    node->distinct = true;
    node->series = ps_arena_array(ev_arena(node->c), 1, sizeof *node->series);
    return node->series == NULL ? ev_no_memory(node->c) : ev_open(node->kids[0]);
}

static ps_status
next_vector(ev_node *node, ev_batch **ret)
{
    return ev_next(node->kids[0], ret);
}

static const ev_node_ops vector_ops = {"to vector", sizeof(ev_node), open_vector, next_vector,
                                       NULL,        EV_MAP,          NULL};

ps_status
ev_build_vector(ev_ctx *c, const pql_expr *e, const ev_grid *grid, ev_node **ret)
{
    ev_node *node, *kid;
    PS_TRY(ev_new_node(c, &vector_ops, e, grid, PQL_VECTOR, &node));
    PS_TRY(ev_build(c, e->call.args[0], grid, &kid));
    ev_add_kid(node, kid);
    *ret = node;
    return PS_OK;
}
