/*
 * internal.h of eval - nodes, batches, and what functions and operators are written against.
 *
 * A query is a tree of nodes over one grid of steps. A node is opened once: then its output series
 * (label sets) are known. After that it is pulled batch by batch: a batch is a few rows, one per
 * series in their order; a row has a cell for each step: nothing, a float, or a histogram. Leaf and
 * map nodes hold one batch; fold, gather, join and grid nodes say in their file what they hold.
 * Where output series depend on values (count_values, info) a node evaluates when it is opened.
 *
 * Threads: only the pieces that the leaf hands to the executor run in parallel; each has an ev_ctx of
 * its own, whose notes and errors are taken over in the order of the pieces. All else is serial.
 */
#ifndef PROMSCALE_EVAL_INTERNAL_H
#define PROMSCALE_EVAL_INTERNAL_H

#include "lib/eval/eval.h"
#include "lib/regex/regex.h"

/* ---- context: errors, annotations, limits ------------------------------------------------------ */

typedef struct ev_notes ev_notes;
typedef struct ev_counts ev_counts;
typedef struct ev_ctx {
    ev_query *q;
    ev_notes *notes;
    ev_counts *counts; /* nodes built now count their samples here; NULL: nowhere (in a subquery) */
    size_t worker;
    ps_status failed; /* the first failure, with its text */
    ps_buf error;
} ev_ctx;

/* Records the first failure of a context, of any length, and returns code. */
ps_status ev_fail(ev_ctx *c, ps_status code, const char *fmt, ...) PS_PRINTF(3, 4);
ps_status ev_fail_str(ev_ctx *c, ps_status code, ps_str text);
ps_status ev_no_memory(ev_ctx *c); /* PS_ENOMEM, worded for the budget that said no */
ps_status ev_poll(ev_ctx *c) PS_MUST_CHECK;
/* Samples held from now on (negative: given back); PS_ELIMIT over the query's limit. Histograms count
 * hst_weight(). */
ps_status ev_hold(ev_ctx *c, int64_t samples) PS_MUST_CHECK;
void ev_release(ev_ctx *c, int64_t samples);

/* Annotations: text without "PromQL warning: " and position; `at` is the part of the query it is
 * about. The same text is kept once, with the outermost, then last position. */
void ev_warn(ev_ctx *c, const pql_expr *at, const char *fmt, ...) PS_PRINTF(3, 4);
void ev_info(ev_ctx *c, const pql_expr *at, const char *fmt, ...) PS_PRINTF(3, 4);
/* The same for texts that are put together: an empty buffer to write into, then end. */
ps_buf *ev_note_begin(ev_ctx *c);
void ev_note_end(ev_ctx *c, bool info, const pql_expr *at);
/* Two that are gathered over many samples before they are worded. */
void ev_note_monotonicity(ev_ctx *c, const pql_expr *at, ps_str metric, int64_t t_ms,
                          double from_bucket, double to_bucket, double diff);
void ev_note_start_overlap(ev_ctx *c, const pql_expr *at, ps_str metric, uint64_t occurrences);

/* Memory: arena of the query (lives until ev_query_free) and the counted allocator. */
ps_arena *ev_arena(ev_ctx *c);
const ps_alloc *ev_alloc(ev_ctx *c);
const ev_options *ev_query_options(const ev_ctx *c); /* defaults filled in */

/* ---- grid, rows, batches ------------------------------------------------------------------------- */

typedef struct ev_grid {
    int64_t start_ms, step_ms; /* step 0: asked for one instant; a range may have n == 1, too */
    size_t n;
} ev_grid;

typedef struct ev_row {
    double *v;          /* [n_steps]; undefined where nothing or a histogram is */
    uint64_t *has;      /* bits, 0 beyond n_steps */
    const hst_hist **h; /* NULL: no histogram in this row; else [n_steps], NULL where a float is */
    ps_arena *arena;    /* where its histograms may be put */
} ev_row;

typedef struct ev_batch {
    size_t first, n, cap; /* rows [first, first + n) of the node's series */
    size_t n_steps, n_words;
    double *v;
    uint64_t *has;
    const hst_hist ***h; /* [cap] */
    ps_arena arena;      /* reset by ev_batch_clear() */
} ev_batch;

/* Rows per batch so that it has about 64 k cells. */
size_t ev_batch_rows(size_t n_steps);
ps_status ev_batch_init(ev_batch *b, ev_ctx *c, size_t rows, size_t n_steps) PS_MUST_CHECK;
void ev_batch_done(ev_batch *b, ev_ctx *c);
void ev_batch_clear(ev_batch *b, size_t first, size_t n); /* n empty rows */
ev_row ev_batch_row(ev_batch *b, size_t i);
/* Makes row i able to hold histograms (no change if it can). */
ps_status ev_batch_hists(ev_batch *b, ev_ctx *c, size_t i) PS_MUST_CHECK;

static inline bool
ev_has(const uint64_t *has, size_t step)
{
    return has[step >> 6] >> (step & 63) & 1;
}
static inline void
ev_set(uint64_t *has, size_t step)
{
    has[step >> 6] |= UINT64_C(1) << (step & 63);
}
static inline void
ev_unset(uint64_t *has, size_t step)
{
    has[step >> 6] &= ~(UINT64_C(1) << (step & 63));
}

/* ---- series and their labels ------------------------------------------------------------------------ */

typedef struct ev_series {
    mdl_labels labels;
    bool drop_name; /* __name__, __type__ and __unit__ go at the end (delayed names) */
} ev_series;

/* New label sets, in the query's arena; values are borrowed from the old ones. */
ps_status ev_labels_keep(ev_ctx *c, mdl_labels l, const ps_str *names, size_t n, mdl_labels *ret);
ps_status ev_labels_without(ev_ctx *c, mdl_labels l, const ps_str *names, size_t n,
                            mdl_labels *ret);
ps_status ev_labels_drop_name(ev_ctx *c, mdl_labels l, mdl_labels *ret); /* and type and unit */
/* Sets (value "": removes) one label. */
ps_status ev_labels_with(ev_ctx *c, mdl_labels l, ps_str name, ps_str value, mdl_labels *ret);
ps_str ev_metric_name(mdl_labels l);
/* {a="b", c="d"} or name{...}, as Prometheus words label sets in errors. */
void ev_labels_text(ps_buf *out, mdl_labels l);
/* Applies "this function or operator drops the name" to a series, by mode: now or by flag. */
ps_status ev_series_drop_name(ev_ctx *c, ev_series *s);

/* Label sets -> dense numbers 0, 1, ... in order of first sight. Keyed hash, full compare. */
typedef struct ev_groups ev_groups;
ps_status ev_groups_new(ev_ctx *c, size_t expected, ev_groups **ret) PS_MUST_CHECK;
/* The labels must live as long as the query. ret_new may be NULL. */
ps_status ev_groups_add(ev_groups *g, mdl_labels l, uint32_t *ret, bool *ret_new) PS_MUST_CHECK;
bool ev_groups_find(const ev_groups *g, mdl_labels l, uint32_t *ret);
size_t ev_groups_n(const ev_groups *g);
mdl_labels ev_groups_labels(const ev_groups *g, uint32_t group);
void ev_groups_free(ev_groups *g);

/* ---- nodes -------------------------------------------------------------------------------------------- */

typedef struct ev_node ev_node;
typedef struct ev_profile ev_profile;
typedef enum ev_kind {
    EV_LEAF,
    EV_MAP,
    EV_FOLD,
    EV_GATHER,
    EV_JOIN,
    EV_GRID,
    EV_SCALAR,
    EV_CHECK /* of labels; part of the node below it */
} ev_kind;
typedef struct ev_node_ops {
    const char *name; /* for people */
    size_t bytes;     /* size of the node's struct, which begins with an ev_node */
    ps_status (*open)(ev_node *n);
    /* *ret = NULL after the last batch. A batch is the node's; the one who pulls may change its cells
     * in place; it is good until the next call. */
    ps_status (*next)(ev_node *n, ev_batch **ret);
    void (*close)(
        ev_node *n); /* frees what is not in the arena; children are closed by the caller of
                                  ev_close(); called once, opened or not */
    ev_kind kind;
    /* For EXPLAIN: bytes that it will hold over so many steps, beside what is in the query's arena; n
     * was opened in a rehearsal. NULL: none. */
    uint64_t (*holds)(const ev_node *n, size_t steps);
} ev_node_ops;

enum { EV_MAX_KIDS = 12 };
struct ev_node {
    const ev_node_ops *ops;
    ev_ctx *c;
    const pql_expr *expr;
    ev_counts *counts;
    ev_grid grid;
    ev_node *kids[EV_MAX_KIDS];
    size_t n_kids;
    pql_type type;     /* PQL_SCALAR: one row, no labels, every step has a float */
    ev_series *series; /* after open; in the query's arena */
    size_t n_series;
    bool distinct;        /* known after open: no two series have equal labels */
    ev_node *made_before; /* the query closes all, also those of a tree that was not finished */
    bool closed;
    ev_profile *profile; /* NULL unless the query is explained */
};

ps_status ev_open(ev_node *n) PS_MUST_CHECK; /* opens this node (which opens its children) */
ps_status ev_next(ev_node *n, ev_batch **ret) PS_MUST_CHECK; /* polls, too */
void ev_close(ev_node *n); /* the whole tree; the query does it, too */
/* Pulls a scalar node to its end: values for each step, in the query's arena. Opens it. */
ps_status ev_scalar_values(ev_node *n, const double **ret) PS_MUST_CHECK;

/* All rows of a node at once, for nodes that need the whole. Counted (ev_hold). */
typedef struct ev_matrix {
    size_t n, n_steps, n_words;
    double *v;
    uint64_t *has;
    const hst_hist ***h;
    ps_arena arena;
    int64_t held;
} ev_matrix;
ps_status ev_matrix_pull(ev_node *n, ev_matrix *ret) PS_MUST_CHECK; /* n is open */
void ev_matrix_done(ev_matrix *m, ev_ctx *c);
ev_row ev_matrix_row(ev_matrix *m, size_t i);

/* ---- building ------------------------------------------------------------------------------------------ */

/* A node with zeroed struct; kids are added by ev_add_kid(). */
ps_status ev_new_node(ev_ctx *c, const ev_node_ops *ops, const pql_expr *e, const ev_grid *grid,
                      pql_type type, ev_node **ret) PS_MUST_CHECK;
void ev_add_kid(ev_node *n, ev_node *kid);
/* Builds what an expression of type scalar or instant vector evaluates to (parentheses and
 * step-invariant parts seen to). */
ps_status ev_build(ev_ctx *c, const pql_expr *e, const ev_grid *grid, ev_node **ret) PS_MUST_CHECK;
/* Series that became equal: merged where they never have a point at the same step, else the error
 * "vector cannot contain metrics with the same labelset". Costs nothing when all differ. strict: equal
 * label sets are an error wherever both have any point. */
ps_status ev_build_unique(ev_ctx *c, ev_node *kid, bool strict, ev_node **ret) PS_MUST_CHECK;
/* A selector as leaf over instants (grid.n steps, lookback) with further matchers in place of its own
 * (for info()). What the cells hold: the value (or histogram), or the time or start timestamp of the
 * sample in milliseconds. */
typedef enum ev_leaf_what { EV_VALUES, EV_TIMES, EV_STARTS } ev_leaf_what;
ps_status ev_build_selector(ev_ctx *c, const pql_expr *selector, const mdl_matcher *matchers,
                            size_t n_matchers, ev_leaf_what what, const ev_grid *grid,
                            ev_node **ret) PS_MUST_CHECK;
/* Runs `fn` over the range vector `arg` (PQL_RANGE or PQL_SUBQUERY, unwrapped), window by window. */
struct ev_range_function;
ps_status ev_build_range(ev_ctx *c, const pql_expr *call, const pql_expr *arg,
                         const struct ev_range_function *fn, const ev_grid *grid,
                         ev_node **ret) PS_MUST_CHECK;
/* Does nothing below `e` depend on the step? */
bool ev_is_invariant(const pql_expr *e);

/* Builders by owner; each gets the whole call or operator and builds its children by ev_build(). */
typedef ps_status (*ev_builder)(ev_ctx *c, const pql_expr *e, const ev_grid *grid, ev_node **ret);
ps_status ev_build_aggregate(ev_ctx *c, const pql_expr *e, const ev_grid *grid, ev_node **ret);
ps_status ev_build_sort(ev_ctx *c, const pql_expr *e, const ev_grid *grid, ev_node **ret);
ps_status ev_build_binary(ev_ctx *c, const pql_expr *e, const ev_grid *grid, ev_node **ret);
ps_status ev_build_unary(ev_ctx *c, const pql_expr *e, const ev_grid *grid, ev_node **ret);
ps_status ev_build_info(ev_ctx *c, const pql_expr *e, const ev_grid *grid, ev_node **ret);
ps_status ev_build_histogram_quantile(ev_ctx *c, const pql_expr *e, const ev_grid *grid,
                                      ev_node **ret); /* also _quantiles and _fraction */
ps_status ev_build_absent(ev_ctx *c, const pql_expr *e, const ev_grid *grid,
                          ev_node **ret); /* and absent_over_time */
ps_status ev_build_label_call(ev_ctx *c, const pql_expr *e, const ev_grid *grid,
                              ev_node **ret); /* label_replace, label_join */
ps_status ev_build_scalar(ev_ctx *c, const pql_expr *e, const ev_grid *grid, ev_node **ret);
ps_status ev_build_vector(ev_ctx *c, const pql_expr *e, const ev_grid *grid, ev_node **ret);

/* ---- explaining (explain.c) --------------------------------------------------------------------------- */

/*
 * In a rehearsal nodes are opened over one step (at most) and find no sample: label sets come out as in
 * a run, values do not. A node whose series depend on values gives all that may come then, and says how
 * many to expect.
 */
bool ev_rehearses(const ev_ctx *c);
void ev_expect_series(ev_node *n, uint64_t series);
size_t ev_rehearsed_steps(const ev_node *n); /* as many as n will have in the run */
/* Sizes for `holds`; what is beyond 64 bits is cut. */
uint64_t ev_times(uint64_t a, uint64_t b);
uint64_t ev_plus(uint64_t a, uint64_t b);
uint64_t ev_cell_bytes(uint64_t rows, uint64_t steps); /* of a matrix */
uint64_t ev_batch_bytes(uint64_t series,
                        uint64_t steps); /* of a batch that streams so many series */
uint64_t ev_groups_bytes(uint64_t groups);

/* ---- functions over ranges --------------------------------------------------------------------------- */

/* One series and all steps at once. The window of step i is (end(i) - range_ms, end(i)] with end(i) =
 * first_end_ms + i * end_step_ms (end_step_ms is 0 under a fixed @). Stale markers are already left
 * out. For anchored and smoothed the samples reach lookback_ms further to the left and, smoothed, to the
 * right. */
typedef struct ev_range_call {
    ev_ctx *c;
    const pql_expr *call; /* the function call */
    const pql_expr *arg;  /* its range vector, unwrapped; annotations point at it */
    size_t n_steps;
    int64_t first_end_ms, end_step_ms;
    int64_t first_eval_ms, eval_step_ms; /* times of the steps themselves */
    int64_t range_ms, lookback_ms;
    pql_edge edge;
    const double *const *params; /* scalar arguments in order, each [n_steps] */
    mdl_labels labels;           /* of the input series */
} ev_range_call;
typedef ps_status (*ev_range_fn)(const ev_range_call *call, const ev_samples *s, ev_row *out);
typedef struct ev_range_function {
    pql_fn fn;
    ev_range_fn run;
    bool keeps_name;
} ev_range_function;
const ev_range_function *ev_range_function_of(pql_fn fn); /* NULL: not one of these */
ps_status ev_row_hists(ev_ctx *c, ev_row *row, size_t n_steps) PS_MUST_CHECK;

/* ---- functions over instant vectors ---------------------------------------------------------------------- */

typedef struct ev_map_call {
    ev_ctx *c;
    const pql_expr *call;
    ev_grid grid;
    const double *const *params; /* scalar arguments in order, each [grid.n] */
    size_t n_params;
    const ev_series *series; /* of the node's input; row i of a batch is series[batch->first + i] */
} ev_map_call;
typedef ps_status (*ev_map_fn)(const ev_map_call *call, ev_batch *b); /* in place */
typedef struct ev_map_function {
    pql_fn fn;
    ev_map_fn run;
    bool keeps_name;
} ev_map_function;
const ev_map_function *ev_map_function_of(pql_fn fn);  /* NULL: not one of these */
const ev_map_function *ev_map_histogram_of(pql_fn fn); /* histogram_count, _sum, _avg, ... */

#endif
