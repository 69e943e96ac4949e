/*
 * node.c - the life of a node: built in the query's arena, opened once, pulled to its end, closed. Nodes
 * are closed children first, whether they were opened or not.
 */
#include "lib/eval/query.h"

ps_status
ev_new_node(ev_ctx *c, const ev_node_ops *ops, const pql_expr *e, const ev_grid *grid,
            pql_type type, ev_node **ret)
{
    *ret = NULL;
    ev_node *n = ps_arena_array(ev_arena(c), 1, ops->bytes);
    if (n == NULL)
        return ev_no_memory(c);
    n->ops = ops;
    n->c = c;
    n->expr = e;
    n->counts = c->counts;
    n->grid = *grid;
    n->type = type;
    n->made_before = c->q->last_made;
    c->q->last_made = n;
    *ret = n;
    return PS_OK;
}

void
ev_add_kid(ev_node *n, ev_node *kid)
{
    n->kids[n->n_kids++] = kid;
}

ps_status
ev_open(ev_node *n)
{
    PS_TRY(ev_poll(n->c));
    return n->ops->open(n);
}

ps_status
ev_next(ev_node *n, ev_batch **ret)
{
    *ret = NULL;
    PS_TRY(ev_poll(n->c));
    return n->ops->next(n, ret);
}

void
ev_close(ev_node *n)
{
    if (n == NULL || n->closed)
        return;
    n->closed = true;
    for (size_t i = 0; i < n->n_kids; i++)
        ev_close(n->kids[i]);
    if (n->ops->close != NULL)
        n->ops->close(n);
}

ps_status
ev_scalar_values(ev_node *n, const double **ret)
{
    ev_ctx *c = n->c;
    PS_TRY(ev_open(n));
    double *values = ps_arena_array(ev_arena(c), n->grid.n + 1, sizeof *values);
    if (values == NULL)
        return ev_no_memory(c);
    for (;;) {
        ev_batch *b;
        PS_TRY(ev_next(n, &b));
        if (b == NULL)
            break;
        if (b->n > 0)
            memcpy(values, b->v, n->grid.n * sizeof *values);
    }
    *ret = values;
    return PS_OK;
}
