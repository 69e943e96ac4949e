/*
 * leaf.h of eval - the node that reads series: what instant selectors, smoothed ones and functions over
 * ranges have in common.
 *
 * Output series are those of the selection, in their order. A batch is cut into pieces of a fixed number
 * of rows; pieces run through the executor, each with its own context, each worker with its own arrays.
 * A piece writes its rows and nothing else; notes, counts and failures are taken over in the order of
 * the pieces, so that the answer does not depend on the number of workers.
 */
#ifndef PROMSCALE_EVAL_LEAF_H
#define PROMSCALE_EVAL_LEAF_H

#include "lib/eval/query.h"

typedef struct ev_worker {
    ev_samples samples;
    ps_arena arena; /* histograms of the rows; reset with each batch */
    ev_counts counts;
    uint64_t read, read_series;
} ev_worker;

typedef struct ev_piece {
    ev_ctx c;
    ev_notes notes;
    size_t first, n; /* rows of the batch */
    int64_t held;    /* samples in its rows */
    int64_t peak;    /* the most at once: rows before, and the window of a row */
} ev_piece;

typedef struct ev_leaf ev_leaf;
/* Turns the samples of a series into its row. *ret_window: the most samples that one step looked at. */
typedef ps_status (*ev_leaf_fn)(ev_leaf *l, ev_ctx *c, ev_worker *w, size_t series, ev_row *row,
                                int64_t *ret_window);

struct ev_leaf {
    ev_node n;
    ev_leaf_fn run;
    size_t selection;
    const ev_series_list *list;
    size_t at; /* next series */
    ev_batch out;
    int64_t held;
    size_t piece_rows;
    ev_worker *workers;
    ev_piece *pieces;
    size_t n_pieces, cap_pieces;
    atomic_size_t failed_piece; /* the first that failed; later ones need not run */

    /* times of the windows: step i ends at first_end_ms + i * end_step_ms */
    int64_t first_end_ms, end_step_ms;
    int64_t lookback_ms;
    ev_leaf_what what;
    double divisor;          /* of times */
    bool stats_only;         /* histograms without buckets */
    int64_t stats_window_ms; /* samples a step looks at: so far back from its end, */
    int64_t stats_right_ms;  /* and so far beyond it */
    bool float_times;        /* a histogram is an error where its time is asked for */

    /* functions over ranges */
    const ev_range_function *fn;
    ev_range_call call; /* labels are set per series */
};

extern const ev_node_ops ev_leaf_ops;

/* Times of the windows of a selector over a grid. */
void ev_window_times(const pql_when *when, const ev_grid *grid, int64_t *ret_first_end,
                     int64_t *ret_end_step);
/* Takes stale markers out. */
void ev_strip_stale(ev_samples *s);
/* Sum over all steps of the samples in each window (counted), and the largest. */
int64_t ev_count_windows(const ev_range_call *call, const ev_samples *s, ev_counts *counts);
/* Goes below e (by = 1) or up again (by = -1) while a query is built; may a selector here be read without
 * buckets? And the samples so. */
void ev_stats_enter(ev_query *q, const pql_expr *e, int by);
bool ev_stats_suffice(const ev_query *q);
ps_status ev_stats_of(const ev_leaf *l, ev_samples *s) PS_MUST_CHECK;
/* What `x smoothed` is at each step. */
ps_status ev_smoothed_row(ev_leaf *l, ev_ctx *c, ev_worker *w, size_t series, ev_row *row,
                          int64_t *ret_window);
/* Values of the scalar arguments of a call, whose nodes are n's kids from `first` on. */
ps_status ev_param_values(ev_node *n, size_t first, const double *const **ret);
/* Series of n are those of `from`; dropped: without their names, as the mode has it. */
ps_status ev_take_series(ev_node *n, const ev_node *from, bool dropped);
ps_status ev_source_failed(ev_ctx *c, ps_status status, const ps_err *err);
ev_grid ev_subquery_grid(ev_ctx *c, const pql_expr *e, const ev_grid *outer);
/* The expression of a subquery on its own grid; its samples are counted in `counts`. */
ps_status ev_build_subquery(ev_ctx *c, const pql_expr *e, const ev_grid *outer, ev_counts *counts,
                            ev_node **ret);
/* A function over a subquery, without its scalar arguments. */
ps_status ev_new_subquery(ev_ctx *c, const pql_expr *call, const pql_expr *arg,
                          const ev_range_function *fn, const ev_grid *grid, ev_node **ret);
int64_t ev_row_weight(const ev_row *row, size_t n_steps);

#endif
