/*
 * internal.h of connector/query - what its files share.
 */
#ifndef PROMSCALE_CONNECTOR_QUERY_INTERNAL_H
#define PROMSCALE_CONNECTOR_QUERY_INTERNAL_H

#include "connector/query/query.h"
#include "lib/promql/promql.h"

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
    const ps_str *source_warnings; /* of what was read, before all others */
    size_t n_source_warnings;
    bool stats, per_step;
    int64_t start_ms, step_ms; /* of the per-step figures */
    query_timings timings;
} query_rendering;
void query_render(ps_buf *out, const query_rendering *what);

/* ---- query.c, run.c --------------------------------------------------------------------------------------- */

struct query_api {
    const settings *settings;
    pql_options language;
    ev_options engine;
    bool per_step_stats;
    query_pool *pool;
    metric *samples;
};

typedef struct query_request { /* parameters, understood */
    ps_str query;
    bool range;
    int64_t start_ms, end_ms, step_ms;
    uint64_t limit;
    ev_options engine;
    const char *stats_warning;
    bool stats;
} query_request;
/* range is set by the caller. */
ps_status query_read_request(query_api *shared, api_job *job, query_request *q,
                             ps_err *err) PS_MUST_CHECK;
/* False: the query is a bad one, and the job was answered so. */
bool query_parse(query_api *shared, api_job *job, const query_request *q, pql_expr **ret);

/* The words of enable-feature. */
ps_status query_features(query_api *api, const char *list, ps_err *err) PS_MUST_CHECK;

#endif
