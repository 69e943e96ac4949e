/*
 * plan.h of eval - builders of the frame's own nodes, for plan.c and query.c.
 */
#ifndef PROMSCALE_EVAL_PLAN_H
#define PROMSCALE_EVAL_PLAN_H

#include "lib/eval/leaf.h"

ps_status ev_build_number(ev_ctx *c, const pql_expr *e, double value, const ev_grid *grid,
                          ev_node **ret) PS_MUST_CHECK;
/* The time of each step in seconds, as scalar or as vector of one series. */
ps_status ev_build_time(ev_ctx *c, const pql_expr *e, pql_type type, const ev_grid *grid,
                        ev_node **ret) PS_MUST_CHECK;
ps_status ev_build_nothing(ev_ctx *c, const pql_expr *e, const ev_grid *grid,
                           ev_node **ret) PS_MUST_CHECK;
/* max_of(), min_of() */
ps_status ev_build_extreme(ev_ctx *c, const pql_expr *e, const ev_grid *grid,
                           ev_node **ret) PS_MUST_CHECK;
ps_status ev_build_map(ev_ctx *c, const pql_expr *e, const ev_map_function *fn,
                       const ev_grid *grid, ev_node **ret) PS_MUST_CHECK;
/* timestamp(), start_timestamp() */
ps_status ev_build_timestamp(ev_ctx *c, const pql_expr *e, const ev_grid *grid,
                             ev_node **ret) PS_MUST_CHECK;
/* What does not depend on the step: evaluated at the first one, repeated. */
ps_status ev_build_invariant(ev_ctx *c, const pql_expr *e, const ev_grid *grid,
                             ev_node **ret) PS_MUST_CHECK;
/* Drops the names of flagged series: the very end of a query with delayed names. */
ps_status ev_build_cleanup(ev_ctx *c, ev_node *kid, ev_node **ret) PS_MUST_CHECK;
/* Asks the source for all registered selections. */
ps_status ev_select_all(ev_query *q) PS_MUST_CHECK;
/* Pulls an open node into the query's result. */
ps_status ev_collect(ev_query *q, ev_node *root, bool sort) PS_MUST_CHECK;
ps_status ev_sort_result(ev_ctx *c, ev_result_series *s, size_t n) PS_MUST_CHECK;
void ev_fill_bits(uint64_t *has, size_t n_steps);

#endif
