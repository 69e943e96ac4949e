/*
 * query.h - PromQL over HTTP: /api/v1/query and /api/v1/query_range.
 *
 * What a query may hold and how long it may take are settings. Threads that help running queries
 * (metrics.promql.workers) belong to the query_api; the queue and the threads that run them to connector/api.
 */
#ifndef PROMSCALE_CONNECTOR_QUERY_H
#define PROMSCALE_CONNECTOR_QUERY_H

#include "connector/api/api.h"
#include "lib/promql/promql.h"

typedef struct query_api query_api;

/* PS_EINVAL: an unknown name in enable-feature. */
ps_status query_api_start(const settings *set, metrics *m, query_api **ret,
                          ps_err *err) PS_MUST_CHECK;
/* When no query runs any more. NULL is fine. */
void query_api_free(query_api *q);

/* Endpoints: self is a query_api. */
void query_instant(api_job *job, void *self);
void query_range(api_job *job, void *self);
void query_explain(api_job *job, void *self);

/* The language as the settings have it, for endpoints that only parse. */
const pql_options *query_language(const query_api *q);
/* ... and the engine. */
const ev_options *query_engine(const query_api *q);

#endif
