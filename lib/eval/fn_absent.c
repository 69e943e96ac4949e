/*
 * fn_absent.c - absent and absent_over_time: one series with 1 at each step at which nothing is.
 *
 * A node that pulls all of its input and keeps a bit per step. Its labels are what the selector asks
 * for with =, if it asks once.
 */
#include "lib/eval/fn_range.h"

typedef struct absent_node {
    ev_node node;
    ev_batch batch;
    bool done;
} absent_node;

/* Labels that some matcher asks for with = and no later one of the same name takes back. */
static ps_status
labels_of(ev_ctx *c, const pql_expr *arg, mdl_labels *ret)
{
    const pql_expr *e = pql_unwrap(arg);
    *ret = (mdl_labels){0};
    if (e->kind == PQL_RANGE)
        e = e->range.selector;
    if (e->kind != PQL_SELECTOR)
        return PS_OK;
    const pql_selector *s = &e->selector;
    for (size_t i = 0; i < s->n_matchers; i++) {
        const mdl_matcher *m = &s->matchers[i];
        bool first = true;
        if (ps_str_eq_c(m->name, MDL_METRIC_NAME))
            continue;
        for (size_t k = 0; k < i && first; k++)
            first =
                !(s->matchers[k].type == MDL_MATCH_EQ && ps_str_eq(s->matchers[k].name, m->name));
        bool set = m->type == MDL_MATCH_EQ && first;
        PS_TRY(ev_labels_with(c, *ret, m->name, set ? m->value : (ps_str){0}, ret));
    }
    return PS_OK;
}

static ps_status
open_absent(ev_node *node)
{
    absent_node *n = (absent_node *)node;
    node->n_series = 1;
    node->distinct = true;
    ev_expect_series(node, 1);
    node->series = ps_arena_array(ev_arena(node->c), 1, sizeof *node->series);
    if (node->series == NULL)
        return ev_no_memory(node->c);
    PS_TRY(labels_of(node->c, node->expr->call.args[0], &node->series->labels));
    PS_TRY(ev_batch_init(&n->batch, node->c, 1, node->grid.n));
    return ev_open(node->kids[0]);
}

static ps_status
next_absent(ev_node *node, ev_batch **ret)
{
    absent_node *n = (absent_node *)node;
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
        for (size_t i = 0; i < in->n; i++)
            for (size_t w = 0; w < in->n_words; w++)
                out->has[w] |= in->has[i * in->n_words + w];
    }
    for (size_t step = 0; step < node->grid.n; step++) {
        out->v[step] = 1;
        out->has[step >> 6] ^= UINT64_C(1) << (step & 63);
    }
    *ret = out;
    return PS_OK;
}

static void
close_absent(ev_node *node)
{
    ev_batch_done(&((absent_node *)node)->batch, node->c);
}

static uint64_t
absent_holds(const ev_node *n, size_t steps)
{
    (void)n;
    return ev_cell_bytes(1, steps);
}

static const ev_node_ops absent_ops = {"absence",   sizeof(absent_node), open_absent,
                                       next_absent, close_absent,        EV_FOLD,
                                       absent_holds};

ps_status
ev_build_absent(ev_ctx *c, const pql_expr *e, const ev_grid *grid, ev_node **ret)
{
    /* It keeps names: series that differ by name alone are no trouble here. */
    static const ev_range_function present = {PQL_FN_PRESENT_OVER_TIME, ev_fn_present, true};
    ev_node *node, *kid;
    PS_TRY(ev_new_node(c, &absent_ops, e, grid, PQL_VECTOR, &node));
    if (e->call.fn->id == PQL_FN_ABSENT)
        PS_TRY(ev_build(c, e->call.args[0], grid, &kid));
    else
        PS_TRY(ev_build_range(c, e, pql_unwrap(e->call.args[0]), &present, grid, &kid));
    ev_add_kid(node, kid);
    *ret = node;
    return PS_OK;
}
