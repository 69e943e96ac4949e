/*
 * plan.c - from an expression to nodes: who builds what.
 *
 * Depth is bounded by the parser, so this may recurse. A builder allocates in the query's arena only:
 * what needs freeing is made when a node is opened.
 */
#include "lib/eval/plan.h"

static ps_status
build_range_call(ev_ctx *c, const pql_expr *e, const ev_range_function *fn, const ev_grid *grid,
                 ev_node **ret)
{
    for (size_t i = 0; i < e->call.n_args; i++) {
        const pql_expr *arg = pql_unwrap(e->call.args[i]);
        if (arg->type == PQL_MATRIX)
            return ev_build_range(c, e, arg, fn, grid, ret);
    }
    return ev_fail(c, PS_EINTERNAL, "%s without a range vector", e->call.fn->name);
}

static ps_status
build_call(ev_ctx *c, const pql_expr *e, const ev_grid *grid, ev_node **ret)
{
    pql_fn id = e->call.fn->id;
    switch (id) {
    case PQL_FN_ABSENT:
    case PQL_FN_ABSENT_OVER_TIME:
        return ev_build_absent(c, e, grid, ret);
    case PQL_FN_HISTOGRAM_QUANTILE:
    case PQL_FN_HISTOGRAM_QUANTILES:
    case PQL_FN_HISTOGRAM_FRACTION:
        return ev_build_histogram_quantile(c, e, grid, ret);
    case PQL_FN_INFO:
        return ev_build_info(c, e, grid, ret);
    case PQL_FN_LABEL_JOIN:
    case PQL_FN_LABEL_REPLACE:
        return ev_build_label_call(c, e, grid, ret);
    case PQL_FN_SORT:
    case PQL_FN_SORT_DESC:
    case PQL_FN_SORT_BY_LABEL:
    case PQL_FN_SORT_BY_LABEL_DESC:
        return ev_build_sort(c, e, grid, ret);
    case PQL_FN_SCALAR:
        return ev_build_scalar(c, e, grid, ret);
    case PQL_FN_VECTOR:
        return ev_build_vector(c, e, grid, ret);
    case PQL_FN_TIMESTAMP:
    case PQL_FN_START_TIMESTAMP:
        return ev_build_timestamp(c, e, grid, ret);
    case PQL_FN_TIME:
        return ev_build_time(c, e, PQL_SCALAR, grid, ret);
    case PQL_FN_PI:
        return ev_build_number(c, e, 3.141592653589793, grid, ret);
    case PQL_FN_MAX_OF:
    case PQL_FN_MIN_OF:
        return ev_build_extreme(c, e, grid, ret);
    default:
        break;
    }
    const ev_range_function *range = ev_range_function_of(id);
    if (range != NULL)
        return build_range_call(c, e, range, grid, ret);
    const ev_map_function *map = ev_map_function_of(id);
    if (map == NULL)
        map = ev_map_histogram_of(id);
    if (map != NULL)
        return ev_build_map(c, e, map, grid, ret);
    return ev_fail(c, PS_EUNSUPPORTED, "function %s is not in this version", e->call.fn->name);
}

static ps_status
build_by_kind(ev_ctx *c, const pql_expr *e, const ev_grid *grid, ev_node **ret)
{
    switch (e->kind) {
    case PQL_SELECTOR:
        return ev_build_selector(c, e, e->selector.matchers, e->selector.n_matchers, EV_VALUES,
                                 grid, ret);
    case PQL_CALL:
        return build_call(c, e, grid, ret);
    case PQL_AGGREGATE:
        return ev_build_aggregate(c, e, grid, ret);
    case PQL_BINARY:
        return ev_build_binary(c, e, grid, ret);
    case PQL_UNARY:
        return ev_build_unary(c, e, grid, ret);
    default:
        return ev_fail(c, PS_EINTERNAL, "unexpected %s in an expression", pql_type_text(e->type));
    }
}

ps_status
ev_build(ev_ctx *c, const pql_expr *e, const ev_grid *grid, ev_node **ret)
{
    *ret = NULL;
    e = pql_unwrap(e);
    if (grid->n == 0)
        return ev_build_nothing(c, e, grid, ret);
    if (e->kind == PQL_NUMBER)
        return ev_build_number(c, e, e->number.value, grid, ret);
    if (grid->n > 1 && ev_is_invariant(e))
        return ev_build_invariant(c, e, grid, ret);
    ev_stats_enter(c->q, e, 1);
    ps_status status = build_by_kind(c, e, grid, ret);
    ev_stats_enter(c->q, e, -1);
    return status;
}

/* ---- selections ---------------------------------------------------------------------------------------- */

static bool
same_selection(const ev_selection *a, const ev_selection *b)
{
    if (a->from_ms != b->from_ms || a->to_ms != b->to_ms || a->newest_only != b->newest_only ||
        a->n_matchers != b->n_matchers)
        return false;
    for (size_t i = 0; i < a->n_matchers; i++) {
        const mdl_matcher *x = &a->matchers[i], *y = &b->matchers[i];
        if (x->type != y->type || !ps_str_eq(x->name, y->name) || !ps_str_eq(x->value, y->value))
            return false;
    }
    return true;
}

ps_status
ev_select(ev_ctx *c, const ev_selection *s, size_t *ret)
{
    ev_query *q = c->q;
    for (size_t i = 0; i < q->n_selections; i++)
        if (same_selection(&q->selections[i], s)) {
            *ret = i;
            return PS_OK;
        }
    if (q->n_selections == q->cap_selections) {
        size_t cap = q->cap_selections == 0 ? 8 : q->cap_selections * 2;
        ev_selection *grown = ps_arena_array(&q->arena, cap, sizeof *grown);
        if (grown == NULL)
            return ev_no_memory(c);
        if (q->n_selections > 0)
            memcpy(grown, q->selections, q->n_selections * sizeof *grown);
        q->selections = grown;
        q->cap_selections = cap;
    }
    q->selections[q->n_selections] = *s;
    *ret = q->n_selections++;
    return PS_OK;
}
