/*
 * world.h - a small world to ask: series in memory that match every selector, and a way to run a query.
 *
 * Every sample lies exactly on a step and the lookback is 1 ms, so the cells that a query sees are the
 * cells that a test put there.
 */
#ifndef PROMSCALE_TESTS_EVAL_WORLD_H
#define PROMSCALE_TESTS_EVAL_WORLD_H

#include "lib/eval/eval.h"
#include "tests/unit/support.h"

enum { WORLD_STEP_MS = 1000 };

typedef struct world {
    size_t n_series, n_steps;
    mdl_labels *labels;
    double *v; /* [n_series][n_steps] */
    bool *has;
    const hst_hist **h; /* NULL where a float is */
    ps_arena arena;
    /* of the last query */
    ps_arena query_arena;
    ev_query *query;
} world;

/* Series m{g="0".., i="00000"..} in the order of their labels; series i is in group i % n_groups. */
void world_init(world *w, size_t n_series, size_t n_groups, size_t n_steps);
void world_done(world *w);
static inline size_t
world_cell(const world *w, size_t series, size_t step)
{
    return series * w->n_steps + step;
}
void world_set(world *w, size_t series, size_t step, double v);
void world_set_hist(world *w, size_t series, size_t step, const char *notation);
/* The whole time range; an instant query if the world has one step. The status of a failure comes with
 * its text in *ret_error (may be NULL); the result lives until the next query. */
ps_status world_ask(world *w, const ps_alloc *alloc, const char *query, const ev_result **ret,
                    ps_str *ret_error);
const ev_result *world_answer(world *w, const char *query);
/* The series with these labels, as text {a="b",c="d"}; NULL if there is none. */
const ev_result_series *world_series(const ev_result *r, const char *labels);
/* Value at a step, false if there is no float. */
bool world_value(const ev_result_series *s, size_t step, double *ret);
bool world_same(double a, double b); /* same bits, or both NaN */

#endif
