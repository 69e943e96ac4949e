/*
 * pending.c - parts of the engine that are not here yet: each says so. Whoever brings a part takes its
 * lines away; the file goes with the last one.
 */
#include "lib/eval/internal.h"

static ps_status
pending(ev_ctx *c, const char *what, ev_node **ret)
{
    *ret = NULL;
    return ev_fail(c, PS_EUNSUPPORTED, "%s: not in this version", what);
}

ps_status
ev_build_aggregate(ev_ctx *c, const pql_expr *e, const ev_grid *grid, ev_node **ret)
{
    (void)e;
    (void)grid;
    return pending(c, "aggregate", ret);
}

ps_status
ev_build_sort(ev_ctx *c, const pql_expr *e, const ev_grid *grid, ev_node **ret)
{
    (void)e;
    (void)grid;
    return pending(c, "sort", ret);
}

ps_status
ev_build_binary(ev_ctx *c, const pql_expr *e, const ev_grid *grid, ev_node **ret)
{
    (void)e;
    (void)grid;
    return pending(c, "binary", ret);
}

ps_status
ev_build_unary(ev_ctx *c, const pql_expr *e, const ev_grid *grid, ev_node **ret)
{
    (void)e;
    (void)grid;
    return pending(c, "unary", ret);
}

ps_status
ev_build_info(ev_ctx *c, const pql_expr *e, const ev_grid *grid, ev_node **ret)
{
    (void)e;
    (void)grid;
    return pending(c, "info", ret);
}

ps_status
ev_build_histogram_quantile(ev_ctx *c, const pql_expr *e, const ev_grid *grid, ev_node **ret)
{
    (void)e;
    (void)grid;
    return pending(c, "histogram_quantile", ret);
}

ps_status
ev_build_absent(ev_ctx *c, const pql_expr *e, const ev_grid *grid, ev_node **ret)
{
    (void)e;
    (void)grid;
    return pending(c, "absent", ret);
}

ps_status
ev_build_label_call(ev_ctx *c, const pql_expr *e, const ev_grid *grid, ev_node **ret)
{
    (void)e;
    (void)grid;
    return pending(c, "label_call", ret);
}

ps_status
ev_build_scalar(ev_ctx *c, const pql_expr *e, const ev_grid *grid, ev_node **ret)
{
    (void)e;
    (void)grid;
    return pending(c, "scalar", ret);
}

ps_status
ev_build_vector(ev_ctx *c, const pql_expr *e, const ev_grid *grid, ev_node **ret)
{
    (void)e;
    (void)grid;
    return pending(c, "vector", ret);
}

const ev_range_function *
ev_range_function_of(pql_fn fn)
{
    (void)fn;
    return NULL;
}

const ev_map_function *
ev_map_function_of(pql_fn fn)
{
    (void)fn;
    return NULL;
}

const ev_map_function *
ev_map_histogram_of(pql_fn fn)
{
    (void)fn;
    return NULL;
}
