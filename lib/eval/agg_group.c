/*
 * agg_group.c - aggregations: which operator is which node, groups of series, parameters.
 *
 * Grouping looks at each input series once and allocates for new groups only: the labels that a group
 * keeps are collected in one scratch array, looked up, and copied if they are new.
 */
#include "lib/eval/agg.h"

#include <math.h>

ps_status
ev_build_aggregate(ev_ctx *c, const pql_expr *e, const ev_grid *grid, ev_node **ret)
{
    const ev_node_ops *ops = &ev_agg_fold_ops;
    bool scalar_param = false;
    switch (e->aggregate.op) {
    case PQL_TOPK:
    case PQL_BOTTOMK:
        ops = &ev_agg_top_ops;
        scalar_param = true;
        break;
    case PQL_LIMITK:
    case PQL_LIMIT_RATIO:
        ops = &ev_agg_limit_ops;
        scalar_param = true;
        break;
    case PQL_QUANTILE:
        ops = &ev_agg_quantile_ops;
        scalar_param = true;
        break;
    case PQL_COUNT_VALUES:
        ops = &ev_agg_count_values_ops;
        break;
    case PQL_SUM:
    case PQL_AVG:
    case PQL_COUNT:
    case PQL_MIN:
    case PQL_MAX:
    case PQL_GROUP:
    case PQL_STDDEV:
    case PQL_STDVAR:
        break;
    }
    PS_TRY(ev_new_node(c, ops, e, grid, PQL_VECTOR, ret));
    ev_node *kid;
    PS_TRY(ev_build(c, pql_unwrap(e->aggregate.of), grid, &kid));
    ev_add_kid(*ret, kid);
    if (scalar_param) {
        PS_TRY(ev_build(c, pql_unwrap(e->aggregate.param), grid, &kid));
        ev_add_kid(*ret, kid);
    }
    return PS_OK;
}

/* ---- groups ---------------------------------------------------------------------------------------- */

typedef struct grouping {
    const ps_str *names; /* sorted */
    size_t n_names;
    bool without;
    ps_str extra;
    mdl_label *scratch; /* room for the longest label set */
} grouping;

/* The labels of a series that its group keeps. Both lists are sorted, so one walk does. */
static mdl_labels
kept_labels(const grouping *g, mdl_labels l)
{
    size_t n = 0;
    for (size_t i = 0, k = 0; i < l.n; i++) {
        ps_str name = l.items[i].name;
        int order = -1;
        while (k < g->n_names && (order = ps_str_cmp(g->names[k], name)) < 0)
            k++;
        bool named = k < g->n_names && order == 0;
        if (g->without ? named || ps_str_eq_c(name, MDL_METRIC_NAME) : !named)
            continue;
        if (g->extra.len > 0 && ps_str_eq(name, g->extra))
            continue;
        g->scratch[n++] = l.items[i];
    }
    return (mdl_labels){g->scratch, n};
}

static ps_status
sorted_names(ev_ctx *c, const pql_expr *e, grouping *g)
{
    size_t n = e->aggregate.n_labels;
    ps_str *names = ps_arena_array(ev_arena(c), n + 1, sizeof *names);
    if (names == NULL)
        return ev_no_memory(c);
    for (size_t i = 0; i < n; i++) {
        size_t at = i;
        for (; at > 0 && ps_str_cmp(names[at - 1], e->aggregate.labels[i]) > 0; at--)
            names[at] = names[at - 1];
        names[at] = e->aggregate.labels[i];
    }
    g->names = names;
    g->n_names = n;
    g->without = e->aggregate.without;
    return PS_OK;
}

static ps_status
new_group(ev_ctx *c, ev_groups *table, mdl_labels kept, uint32_t *ret)
{
    mdl_label *items = ps_arena_array(ev_arena(c), kept.n + 1, sizeof *items);
    if (items == NULL)
        return ev_no_memory(c);
    if (kept.n > 0)
        memcpy(items, kept.items, kept.n * sizeof *items);
    return ev_groups_add(table, (mdl_labels){items, kept.n}, ret, NULL);
}

static ps_status
assign_groups(ev_ctx *c, const grouping *g, const ev_node *input, ev_groups *table, uint32_t *of)
{
    bool one = !g->without && g->n_names == 0;
    for (size_t i = 0; i < input->n_series; i++) {
        if (one && i > 0) {
            of[i] = 0;
            continue;
        }
        mdl_labels kept = kept_labels(g, input->series[i].labels);
        if (!ev_groups_find(table, kept, &of[i]))
            PS_TRY(new_group(c, table, kept, &of[i]));
        if ((i & 1023) == 1023)
            PS_TRY(ev_poll(c));
    }
    return PS_OK;
}

static ps_status
describe_groups(ev_ctx *c, const ev_node *input, const ev_groups *table, agg_groups *ret)
{
    ret->n = ev_groups_n(table);
    ret->series = ps_arena_array(ev_arena(c), ret->n + 1, sizeof *ret->series);
    ret->sizes = ps_arena_array(ev_arena(c), ret->n + 1, sizeof *ret->sizes);
    if (ret->series == NULL || ret->sizes == NULL)
        return ev_no_memory(c);
    for (size_t g = 0; g < ret->n; g++)
        ret->series[g].labels = ev_groups_labels(table, (uint32_t)g);
    for (size_t i = 0; i < input->n_series; i++) {
        ret->series[ret->of[i]].drop_name |= input->series[i].drop_name;
        ret->sizes[ret->of[i]]++;
    }
    return PS_OK;
}

ps_status
ev_agg_group(ev_ctx *c, const pql_expr *e, const ev_node *input, ps_str extra, agg_groups *ret)
{
    grouping g = {.extra = extra};
    PS_TRY(sorted_names(c, e, &g));
    size_t longest = 0;
    for (size_t i = 0; i < input->n_series; i++) {
        if (input->series[i].labels.n > longest)
            longest = input->series[i].labels.n;
    }
    g.scratch = ps_arena_array(ev_arena(c), longest + 1, sizeof *g.scratch);
    ret->of = ps_arena_array(ev_arena(c), input->n_series + 1, sizeof *ret->of);
    if (g.scratch == NULL || ret->of == NULL)
        return ev_no_memory(c);
    ev_groups *table;
    PS_TRY(ev_groups_new(c, 16, &table));
    ps_status status = assign_groups(c, &g, input, table, ret->of);
    if (status == PS_OK)
        status = describe_groups(c, input, table, ret);
    ev_groups_free(table);
    return status;
}

/* ---- parameters, notes -------------------------------------------------------------------------------- */

ps_status
ev_agg_param_open(ev_node *n, agg_param *ret)
{
    PS_TRY(ev_scalar_values(n->kids[1], &ret->at));
    ret->min = INFINITY;
    ret->max = -INFINITY;
    ret->any_nan = false;
    for (size_t i = 0; i < n->grid.n; i++) {
        double v = ret->at[i];
        ret->any_nan |= v != v;
        if (v < ret->min)
            ret->min = v;
        if (v > ret->max)
            ret->max = v;
    }
    if (ret->any_nan)
        ret->min = ret->max = NAN;
    return PS_OK;
}

ps_status
ev_agg_check_k(ev_ctx *c, const agg_param *k, bool *ret_nothing)
{
    char text[PS_DOUBLE_TEXT];
    *ret_nothing = k->max < 1;
    if (*ret_nothing)
        return PS_OK;
    if (k->any_nan) /* in a rehearsal it only stands for a value that is not known */
        return ev_rehearses(c) ? PS_OK : ev_fail(c, PS_EINVAL, "Parameter value is NaN");
    if (k->min <= -0x1p63) {
        ps_format_double_go(text, k->min);
        return ev_fail(c, PS_EINVAL, "Scalar value %s underflows int64", text);
    }
    if (k->max >= 0x1p63) {
        ps_format_double_go(text, k->max);
        return ev_fail(c, PS_EINVAL, "Scalar value %s overflows int64", text);
    }
    return PS_OK;
}

void
ev_agg_ignored_histogram(ev_ctx *c, const pql_expr *e)
{
    bool whole = e->aggregate.op == PQL_TOPK || e->aggregate.op == PQL_BOTTOMK;
    ev_info(c, whole ? e : pql_unwrap(e->aggregate.of), "ignored histogram in %s aggregation",
            pql_agg_text(e->aggregate.op));
}

ps_status
ev_agg_drain(ev_node *kid)
{
    ev_batch *b;
    do {
        PS_TRY(ev_next(kid, &b));
    } while (b != NULL);
    return PS_OK;
}
