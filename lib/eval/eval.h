/*
 * eval.h - the engine: a checked tree (lib/promql) and a source of series become a result.
 *
 * The engine does no I/O, knows no clock and starts no thread. It is handed: an allocator, a source
 * that finds series and reads their samples, an executor that runs tasks (in parallel or one after
 * the other), a poll function that says when to stop, and limits. The same query over the same data
 * gives the same bits whatever the executor: work is cut into pieces by size alone, and sums are
 * taken in the order of the series.
 *
 * Semantics are those of Prometheus 3 (promql/engine.go describes them best); annotations and errors
 * use its words. Times are milliseconds since 1970, int64.
 */
#ifndef PROMSCALE_EVAL_H
#define PROMSCALE_EVAL_H

#include "lib/histogram/histogram.h"
#include "lib/model/model.h"
#include "lib/promql/promql.h"

/* ---- samples: what a source gives ------------------------------------------------------------ */

/* Samples of one series, times strictly ascending. Arrays grow by ev_samples_reserve(). */
typedef struct ev_samples {
    ps_alloc alloc; /* of the arrays */
    size_t n, cap;
    int64_t *t_ms;
    double *v;
    const hst_hist **h; /* NULL: floats only; else h[i] is NULL where sample i is a float */
    int64_t *start_ms;  /* start timestamps, 0 = unknown; NULL: none is known */
    ps_arena arena;     /* histograms of these samples; reset by ev_samples_clear() */
} ev_samples;

void ev_samples_init(ev_samples *s, const ps_alloc *alloc);
void ev_samples_done(ev_samples *s);
void ev_samples_clear(ev_samples *s);
/* Room for n samples in all; with histograms or start timestamps those arrays, too (zeroed). */
ps_status ev_samples_reserve(ev_samples *s, size_t n, bool histograms, bool starts) PS_MUST_CHECK;

/* ---- source ------------------------------------------------------------------------------------ */

/* What the engine wants of a selector. Every sample that may be asked for lies in [from, to]. */
typedef struct ev_selection {
    const mdl_matcher *matchers;
    size_t n_matchers;
    int64_t from_ms, to_ms; /* inclusive */
    bool newest_only;       /* only the newest sample of each series in [from, to] is needed */
} ev_selection;

typedef struct ev_series_list { /* what was found; lives as long as the source */
    size_t n;
    const mdl_labels *labels; /* ascending by mdl_labels_cmp(), unique */
    void *impl;
} ev_series_list;

typedef struct ev_reading { /* of one selection */
    uint64_t series;        /* that have a sample in the window */
    uint64_t blocks;        /* rows that are fetched */
    uint64_t samples;       /* of these series in the window */
    uint64_t bytes;         /* of the blocks, as they are stored */
} ev_reading;

/* For sources that estimate from the bounds of a row of samples: how many of them one of its series has in
 * [from, to], if its series are alike and their samples come at one distance. */
double ev_expected_samples(int64_t from_ms, int64_t to_ms, int64_t t_min_ms, int64_t t_max_ms,
                           int64_t n_series, int64_t n_samples);

typedef struct ev_source {
    void *self;
    /* Called once per query, with all of its selections, before anything is read. Series that have no
     * sample in the window may be in the list or not. Errors: PS_EUNAVAILABLE, PS_ELIMIT, PS_ENOMEM,
     * PS_ETIMEOUT, PS_ECANCELED, PS_ECORRUPT with a text for the user. */
    ps_status (*select)(void *self, const ev_selection *selections, size_t n, ev_series_list *ret,
                        ps_err *err);
    /* Appends the samples of list->labels[series] that lie in the selection's window. May be called
     * from several tasks at once, never twice at once with the same worker. */
    ps_status (*read)(void *self, const ev_series_list *list, size_t series, size_t worker,
                      ev_samples *into, ps_err *err);
    /* For ev_query_explain(); NULL: this source cannot tell. Called at most once, before select(): the
     * series as select() gives them, and what reading them would take, without reading any sample. */
    ps_status (*estimate)(void *self, const ev_selection *selections, size_t n, ev_series_list *ret,
                          ev_reading *ret_readings, ps_err *err);
    /* What select() and read() took for this list; of ev_reading only blocks and bytes. May be NULL. */
    void (*taken)(void *self, const ev_series_list *list, ev_reading *ret);
} ev_source;

/* ---- executor ------------------------------------------------------------------------------------ */

typedef void (*ev_task_fn)(void *arg, size_t task, size_t worker);
typedef struct ev_executor {
    void *self;
    size_t n_workers; /* >= 1; worker < n_workers in every call of a task */
    /* Runs fn(arg, i, w) for i = 0 .. n - 1 and returns when all have ended. */
    void (*run)(void *self, size_t n, ev_task_fn fn, void *arg);
} ev_executor;

extern const ev_executor ev_serial; /* one after the other, in the caller */

/* ---- query ----------------------------------------------------------------------------------------- */

typedef struct ev_options {
    int64_t lookback_ms;      /* 0: 5 min */
    int64_t subquery_step_ms; /* of subqueries without a step; 0: 1 min */
    uint64_t max_samples;     /* held at the same time; 0: 50 million */
    size_t max_bytes;         /* memory of the query; 0: no limit of its own */
    bool delayed_names;       /* __name__ is dropped at the very end */
    bool start_timestamps;    /* functions use them */
    bool type_unit_labels;    /* __type__ says whether a metric is a counter */
    bool per_step_stats;
} ev_options;

typedef struct ev_env {
    ps_alloc alloc; /* may be called from several tasks at once */
    ev_source source;
    ev_executor executor;
    /* PS_OK, PS_ETIMEOUT or PS_ECANCELED; asked often, from any task; may be NULL. */
    ps_status (*poll)(void *self);
    void *poll_self;
    /* Nanoseconds of a clock that never goes back, for ev_query_explain(); NULL: times are 0. */
    int64_t (*now)(void *self);
    void *now_self;
} ev_env;

typedef struct ev_result_series {
    mdl_labels labels;
    size_t n;
    const int64_t *t_ms;
    const double *v;
    const hst_hist *const *h; /* NULL: floats only; else h[i] is NULL where point i is a float */
} ev_result_series;

typedef struct ev_stats {
    uint64_t total_samples; /* Prometheus's totalQueryableSamples */
    uint64_t peak_samples;  /* the most that were held at once */
    uint64_t samples_read;  /* that came from the source */
    size_t peak_bytes;
    const uint64_t *per_step; /* n_steps entries of total_samples, if asked for */
    size_t n_steps;
} ev_stats;

typedef struct ev_result {
    pql_type type; /* of an instant query that of the expression; of a range query PQL_MATRIX */
    size_t n;
    const ev_result_series *series; /* scalar: one without labels; vector: one point each */
    ps_str text;                    /* PQL_STRING */
    const ps_str *warnings,
        *infos; /* whole texts, "PromQL warning: ... (1:5)", in order of sight */
    size_t n_warnings, n_infos;
    ev_stats stats;
} ev_result;

typedef struct ev_query ev_query;

/*
 * Prepares one evaluation of `expr` (from pql_parse(), changed in place by it; it, its arena and text
 * must outlive the query). Instant: start = end, step 0. Steps are start, start + step, ... <= end.
 * *ret is set also on failure (unless there is no memory for it), for ev_query_error().
 */
ps_status ev_query_new(const ev_env *env, const ev_options *options, pql_expr *expr, ps_str text,
                       int64_t start_ms, int64_t end_ms, int64_t step_ms,
                       ev_query **ret) PS_MUST_CHECK;
/* Runs it, once. The result lives as long as the query. PS_EINVAL: the query cannot be executed over
 * this data ("found duplicate series ..."); PS_ELIMIT: samples or bytes; else as the source and poll say. */
ps_status ev_query_run(ev_query *q, const ev_result **ret) PS_MUST_CHECK;
/* The whole message of a failure: longer than fits in a ps_err. "" without one. */
ps_str ev_query_error(const ev_query *q);
void ev_query_free(ev_query *q); /* NULL is fine */

/* ---- explaining ------------------------------------------------------------------------------------ */

typedef struct ev_figures {    /* of a node: estimated, or what it really was */
    uint64_t series;           /* in its result that have a point */
    uint64_t bytes;            /* the most that it held at once, label sets included, kids not */
    uint64_t points;           /* from here on only what it really was: cells of its result */
    int64_t total_ns, self_ns; /* with and without the nodes below */
} ev_figures;

typedef struct ev_plan_node ev_plan_node;
struct ev_plan_node {
    const char *kind; /* leaf, map, fold, gather, join, grid; scalar: reads nothing */
    const char *what; /* "selector", "function over ranges", ... */
    ps_str text;      /* the part of the query, as pql_print() has it; long ones are cut */
    size_t n_steps;
    bool reads; /* a leaf */
    bool newest_only;
    int64_t from_ms, to_ms; /* the window that it reads */
    ev_reading estimated_reading, actual_reading;
    ev_figures estimated, actual;
    size_t n_kids;
    ev_plan_node **kids;
};

typedef struct ev_plan {
    ev_plan_node *root;
    bool analyzed;                                /* actual figures are there */
    ev_reading estimated_reading, actual_reading; /* of all selections, equal ones counted once */
    uint64_t estimated_bytes;                     /* of all nodes and the result */
    uint64_t actual_bytes;                        /* the most that the query held at once */
    int64_t estimating_ns, running_ns;
    const ev_result *result; /* NULL unless analyzed */
} ev_plan;

/*
 * Instead of ev_query_run(): the nodes of the query with what they would read and hold, which is found
 * out by opening them over a single step without a sample; and, with analyze, by running it, what they
 * did. The plan lives as long as the query. Errors as those of ev_query_run(); PS_EUNSUPPORTED: the
 * source cannot tell.
 */
ps_status ev_query_explain(ev_query *q, bool analyze, const ev_plan **ret) PS_MUST_CHECK;
/* For people, a line or two for each node; and as one JSON object. */
void ev_plan_text(ps_buf *out, const ev_plan *p);
void ev_plan_json(ps_buf *out, const ev_plan *p);

#endif
