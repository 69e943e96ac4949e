/*
 * harness.h - for tests of the engine: a small store of series in memory, queries over it, a pool of
 * threads as executor, and results as text that holds every bit.
 */
#ifndef PROMSCALE_TESTS_EVAL_HARNESS_H
#define PROMSCALE_TESTS_EVAL_HARNESS_H

#include "lib/eval/eval.h"

enum { STORE_MAX_SERIES = 4096 };

typedef struct store_series {
    mdl_labels labels;
    size_t n;
    int64_t *t_ms;
    double *v;
    const hst_hist **h; /* NULL: floats */
} store_series;

typedef struct store {
    ps_arena arena;
    store_series series[STORE_MAX_SERIES];
    size_t n;
    size_t reads;         /* series that were read */
    ps_status fail_reads; /* what reading gives instead of samples */
    ps_status fail_estimates;
} store;

void store_init(store *s);
void store_done(store *s);
/* A series with n samples from t0 on. Values: an array, or with NULL i * slope. */
store_series *store_add(store *s, const char *series, int64_t t0, int64_t step_ms, size_t n,
                        const double *values, double slope);
/* The same with histograms: text of one as scripts write it, times 1, 2, 3, ... */
store_series *store_add_hists(store *s, const char *series, int64_t t0, int64_t step_ms, size_t n,
                              const char *histogram);
ev_source store_source(store *s);

/* n threads; 1: in the caller. */
ev_executor harness_threads(size_t n);

typedef struct harness_query {
    const char *text;
    int64_t start_ms, end_ms, step_ms; /* step 0: instant */
    ev_options options;
    size_t threads; /* 0: ev_serial */
    ps_alloc alloc; /* .realloc NULL: malloc */
    ps_status (*poll)(void *self);
    void *poll_self;
} harness_query;

typedef struct harness_result {
    ps_status status;
    ps_buf text; /* error, or result and annotations with the bits of each value */
    ev_stats stats;
} harness_result;

/* Parses (in memory of its own) and runs; never fails the test by itself. */
harness_result harness_run(store *s, const harness_query *q);
void harness_done(harness_result *r);
/* Runs and compares the readable form: "name{..} t:value t:value\n..." */
void harness_expect(store *s, const harness_query *q, const char *expected);

#endif
