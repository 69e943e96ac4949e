/*
 * query.h - PromQL over HTTP: /api/v1/query and /api/v1/query_range.
 *
 * A query_api has threads of its own: a handler only queues, so that the server's threads stay free to
 * move bytes. At most max-concurrency queries run at once, the others wait in a bounded queue; what a
 * query may hold and how long it may take are settings. A client that goes away ends its query, in the
 * database too.
 */
#ifndef PROMSCALE_CONNECTOR_QUERY_H
#define PROMSCALE_CONNECTOR_QUERY_H

#include "connector/http/http.h"
#include "connector/read/read.h"

typedef struct query_api query_api;
typedef struct query_api_config { /* borrowed */
    const settings *settings;
    read_store *store;
    logger *log;
    metrics *metrics;
} query_api_config;

/* PS_EINVAL: an unknown name in enable-feature. */
ps_status query_api_start(const query_api_config *config, query_api **ret,
                          ps_err *err) PS_MUST_CHECK;
/* Running queries are cancelled, waiting ones answered 503; further ones, too. */
void query_api_stop(query_api *api);
/* After stop, when no handler can be called any more. NULL is fine. */
void query_api_free(query_api *api);

/* Handlers: self is a query_api. */
void query_instant(http_request *r, void *self);
void query_range(http_request *r, void *self);

/* What a body of form parameters may be. */
enum { QUERY_MAX_BODY_BYTES = 4 << 20 };

#endif
