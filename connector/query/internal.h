/*
 * internal.h of connector/query - what its files share.
 */
#ifndef PROMSCALE_CONNECTOR_QUERY_INTERNAL_H
#define PROMSCALE_CONNECTOR_QUERY_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "connector/query/query.h"
#include "lib/promql/promql.h"

/* ---- params.c: form parameters ------------------------------------------------------------------- */

typedef struct query_params { /* of a request: those of the body before those of the URL */
    const http_request *r;
    ps_arena arena;
    mdl_label *form; /* name and value pairs, decoded */
    size_t n_form;
} query_params;

/* PS_EINVAL: a body that is not what its Content-Type says; PS_ENOMEM. */
ps_status query_params_init(query_params *p, const http_request *r, ps_err *err) PS_MUST_CHECK;
void query_params_done(query_params *p);
/* "" if absent. */
ps_str query_param(const query_params *p, const char *name);
/* Unix seconds with fraction, or RFC 3339; to ms. */
ps_status query_parse_time(ps_str s, int64_t *ret_ms, ps_err *err) PS_MUST_CHECK;
/* Seconds with fraction, or a Prometheus duration; to ns. */
ps_status query_parse_duration(ps_str s, int64_t *ret_ns, ps_err *err) PS_MUST_CHECK;
ps_status query_parse_limit(ps_str s, uint64_t *ret, ps_err *err) PS_MUST_CHECK;

/* ---- executor.c: threads that help running queries --------------------------------------------------- */

typedef struct query_pool query_pool;
ps_status query_pool_start(size_t helpers, query_pool **ret, ps_err *err) PS_MUST_CHECK;
void query_pool_free(query_pool *pool); /* when no query runs */
/* n_workers = helpers + 1: the one who runs a query works, too. */
ev_executor query_pool_executor(query_pool *pool);

/* ---- json.c: results as JSON --------------------------------------------------------------------------- */

typedef struct query_timings { /* seconds */
    double total, queue, prepare, eval, sort;
} query_timings;
typedef struct query_rendering {
    const ev_result *result;
    int64_t time_ms;     /* of an instant query */
    uint64_t limit;      /* series, 0 = all */
    const char *warning; /* one more; NULL: none */
    bool stats, per_step;
    int64_t start_ms, step_ms; /* of the per-step figures */
    query_timings timings;
} query_rendering;
void query_render(ps_buf *out, const query_rendering *what);
void query_render_error(ps_buf *out, const char *error_type, ps_str text);

/* ---- api.c, run.c ------------------------------------------------------------------------------------------ */

typedef struct query_job query_job;
struct query_job {
    query_job *next; /* in the queue, then in the list of running ones */
    query_api *api;
    http_request *r;
    bool range;
    int64_t arrived_ns;
    /* while it runs, under api->lock: what to cancel */
    read_source *source;
    atomic_int stop; /* ps_status that polls answer; PS_OK: go on */
    int64_t deadline_ns;
    int64_t begun_ns;
};

typedef struct query_metrics {
    metric *seconds[2]; /* instant, range */
    metric *samples;
} query_metrics;

struct query_api {
    const settings *settings;
    read_store *store;
    logger *log;
    metrics *metrics;
    query_metrics m;
    pql_options language;
    ev_options engine;
    bool per_step_stats;
    query_pool *pool;

    pthread_mutex_t lock;
    pthread_cond_t wake, watch;
    query_job *queue, **queue_end;
    size_t n_queued, n_running;
    query_job *running;
    bool stopping;
    pthread_t *threads;
    size_t n_threads;
    pthread_t watcher;
    bool has_watcher;
};

/* run.c: everything about one query, answer included. */
void query_run(query_job *job);
/* The words of enable-feature. */
ps_status query_features(query_api *api, const char *list, ps_err *err) PS_MUST_CHECK;

#endif
