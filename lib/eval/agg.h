/*
 * agg.h - what the aggregations share: grouping, parameters, dense loops, sums of histograms.
 *
 * An aggregation maps each input series to a group once, when it is opened; all that happens later
 * works with group numbers. Kid 0 is the input, kid 1 (if there is one) the scalar parameter.
 */
#ifndef PROMSCALE_EVAL_AGG_H
#define PROMSCALE_EVAL_AGG_H

#include "lib/eval/internal.h"

/* ---- grouping (agg_group.c) -------------------------------------------------------------------- */

typedef struct agg_groups {
    uint32_t *of;      /* [n_series of the input] */
    ev_series *series; /* [n]: labels of the groups, flagged if any member is */
    uint32_t *sizes;   /* [n]: input series in it */
    size_t n;
} agg_groups;

/* By the by() or without() of an aggregation. Everything is in the query's arena. `extra` (may be
 * empty) is a label that is left out of the groups' labels besides. */
ps_status ev_agg_group(ev_ctx *c, const pql_expr *e, const ev_node *input, ps_str extra,
                       agg_groups *ret) PS_MUST_CHECK;

/* Values of the parameter at each step, and what they have in common. */
typedef struct agg_param {
    const double *at; /* [n_steps] */
    double min, max;  /* NaN if any is NaN */
    bool any_nan;
} agg_param;
ps_status ev_agg_param_open(ev_node *n, agg_param *ret) PS_MUST_CHECK;

/* For topk, bottomk and limitk: is there a k of 1 or more at all, does each fit in 64 bits. */
ps_status ev_agg_check_k(ev_ctx *c, const agg_param *k, bool *ret_nothing) PS_MUST_CHECK;

/* "ignored histogram in sum aggregation", about the place where Prometheus sees it. */
void ev_agg_ignored_histogram(ev_ctx *c, const pql_expr *e);
/* Pulls and drops what is left of a node: what it does to the accounts must happen anyway. */
ps_status ev_agg_drain(ev_node *kid) PS_MUST_CHECK;

/* ---- output ------------------------------------------------------------------------------------ */

/* Hands out finished rows batch by batch. */
typedef struct agg_output {
    ev_batch batch;
    bool ready;
    size_t next;
} agg_output;
/* *ret = NULL at the end; else an empty batch for the rows [first, first + n). */
ps_status ev_agg_output_next(ev_node *n, agg_output *o, ev_batch **ret) PS_MUST_CHECK;
void ev_agg_output_done(ev_node *n, agg_output *o);

/* Points of rows that are mostly empty. First all rows are counted, then filled, each in the order of its
 * steps. */
typedef struct agg_points {
    size_t n_rows, n_points;
    size_t *from; /* [n_rows + 2] */
    uint32_t *step;
    double *v;
} agg_points;
ps_status ev_agg_points_new(ev_ctx *c, size_t n_rows, size_t n_points,
                            agg_points *ret) PS_MUST_CHECK;
void ev_agg_points_count(agg_points *p, size_t row, size_t n);
void ev_agg_points_counted(agg_points *p);
void ev_agg_points_add(agg_points *p, size_t row, uint32_t step, double v);
void ev_agg_points_write(const agg_points *p, ev_batch *out); /* the batch's rows */
void ev_agg_points_free(ev_ctx *c, agg_points *p);

/* Sorts indexes as Go's sort.Sort() does as far as one can tell: insertion for at most 12, which shows
 * where `before` is not a strict order (NaN); stable beyond. scratch: [n]. */
typedef bool (*agg_before)(const void *arg, uint32_t a, uint32_t b);
void ev_agg_sort(uint32_t *items, size_t n, agg_before before, const void *arg, uint32_t *scratch);

/* ---- dense loops over steps (agg_kernels.c) ------------------------------------------------------ */

/* Accumulators of one group from some step on; which of them an operation uses: agg_kernels.c. */
typedef struct agg_cells {
    double *a, *b, *n;
} agg_cells;
typedef void (*agg_kernel)(agg_cells at, const double *v, size_t n_steps);
typedef struct agg_kind {
    agg_kernel add; /* NULL: presence is all that counts */
    void (*finish)(agg_cells at, double *out, size_t n_steps);
    double a0;       /* what `a` begins with; b and n begin with 0 */
    uint8_t n_parts; /* how many of a, b, n there are: 1 = a, 2 = a b, 3 = all */
} agg_kind;
const agg_kind *ev_agg_kind_of(pql_agg op);

/* First step >= from that is present (set) or not (clear), at most n_steps. */
size_t ev_agg_next_set(const uint64_t *has, size_t from, size_t n_steps);
size_t ev_agg_next_clear(const uint64_t *has, size_t from, size_t n_steps);

/* ---- sums of histograms (agg_hist.c) --------------------------------------------------------------- */

typedef struct agg_hists agg_hists;
ps_status ev_agg_hists_new(ev_ctx *c, const pql_expr *e, size_t n_cells,
                           agg_hists **ret) PS_MUST_CHECK;
/* One more histogram for a cell; had_float: a float came before. */
ps_status ev_agg_hists_add(agg_hists *s, size_t cell, const hst_hist *h, mdl_labels of,
                           bool had_float) PS_MUST_CHECK;
/* *ret_any: the cell has seen a histogram. Then *ret is the result, NULL if there is none (mixed with
 * floats, kinds of histograms mixed; noted here). */
ps_status ev_agg_hists_finish(agg_hists *s, size_t cell, bool has_float, ps_arena *arena,
                              bool *ret_any, const hst_hist **ret) PS_MUST_CHECK;
void ev_agg_hists_free(agg_hists *s);

/* ---- builders ---------------------------------------------------------------------------------------- */

extern const ev_node_ops ev_agg_fold_ops;         /* sum avg min max count group stddev stdvar */
extern const ev_node_ops ev_agg_top_ops;          /* topk bottomk */
extern const ev_node_ops ev_agg_limit_ops;        /* limitk limit_ratio */
extern const ev_node_ops ev_agg_quantile_ops;     /* quantile */
extern const ev_node_ops ev_agg_count_values_ops; /* count_values */

#endif
