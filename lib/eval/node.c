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
    if (c->q->explained) {
        n->profile = ps_arena_array(ev_arena(c), 1, sizeof *n->profile);
        if (n->profile == NULL)
            return ev_no_memory(c);
        n->profile->steps = grid->n;
        n->profile->expect = UINT64_MAX;
    }
    *ret = n;
    return PS_OK;
}

void
ev_add_kid(ev_node *n, ev_node *kid)
{
    n->kids[n->n_kids++] = kid;
}

/* ---- watched: what EXPLAIN wants to know -------------------------------------------------------- */

/* From now on memory is that of `p`; what the arena gave meanwhile was that of the one before. */
static ev_profile *
switch_to(ev_query *q, ev_profile *p)
{
    ev_profile *before = q->budget.profile;
    size_t carved = ps_arena_carved(&q->arena);
    if (before != NULL)
        before->arena += carved - q->arena_mark;
    q->arena_mark = carved;
    q->budget.profile = p;
    return before;
}

static void
count_rows(ev_profile *p, const ev_batch *b)
{
    for (size_t i = 0; i < b->n; i++) {
        uint64_t points = 0;
        for (size_t w = 0; w < b->n_words; w++)
            points += (uint64_t)__builtin_popcountll(b->has[i * b->n_words + w]);
        p->points += points;
        p->series += points > 0;
    }
}

/* ret NULL: opens. */
static ps_status
watch(ev_node *n, ev_batch **ret)
{
    ev_query *q = n->c->q;
    const ev_env *env = &q->env;
    ev_profile *before = switch_to(q, n->profile);
    int64_t from = env->now != NULL ? env->now(env->now_self) : 0;
    ps_status status = ret == NULL ? n->ops->open(n) : n->ops->next(n, ret);
    n->profile->total_ns += env->now != NULL ? env->now(env->now_self) - from : 0;
    switch_to(q, before);
    if (status == PS_OK && ret != NULL && *ret != NULL)
        count_rows(n->profile, *ret);
    return status;
}

ps_status
ev_open(ev_node *n)
{
    PS_TRY(ev_poll(n->c));
    return PS_UNLIKELY(n->profile != NULL) ? watch(n, NULL) : n->ops->open(n);
}

ps_status
ev_next(ev_node *n, ev_batch **ret)
{
    *ret = NULL;
    PS_TRY(ev_poll(n->c));
    return PS_UNLIKELY(n->profile != NULL) ? watch(n, ret) : n->ops->next(n, ret);
}

void
ev_close(ev_node *n)
{
    if (n == NULL || n->closed)
        return;
    n->closed = true;
    for (size_t i = 0; i < n->n_kids; i++)
        ev_close(n->kids[i]);
    if (n->ops->close == NULL)
        return;
    ev_profile *before = n->profile != NULL ? switch_to(n->c->q, n->profile) : NULL;
    n->ops->close(n);
    if (n->profile != NULL)
        switch_to(n->c->q, before);
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
