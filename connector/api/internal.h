/*
 * internal.h of connector/api - a job from the inside.
 */
#ifndef PROMSCALE_CONNECTOR_API_INTERNAL_H
#define PROMSCALE_CONNECTOR_API_INTERNAL_H

#include <pthread.h>

#include "connector/api/api.h"

typedef struct api_pair {
    ps_str name, value;
} api_pair;

struct api_job {
    api_job *next; /* in the queue, then in the list of running ones */
    api *api;
    http_request *r; /* NULL once it is answered; under the lock */
    const api_endpoint *endpoint;
    int64_t arrived_ns, begun_ns;
    int64_t deadline_ns;
    atomic_int stop;     /* ps_status that polls answer; PS_OK: go on */
    read_source *source; /* what to cancel; under the lock */
    http_stream *stream; /* of an answer that is sent while it is made */
    int stream_status;
    ps_arena arena;
    api_pair *params;
    size_t n_params;
};

struct api {
    const settings *settings;
    read_store *store;
    logger *log;
    metrics *metrics;

    pthread_mutex_t lock;
    pthread_cond_t wake, watch;
    api_job *queue, **queue_end;
    size_t n_queued, n_running;
    api_job *running;
    bool stopping;
    pthread_t *threads;
    size_t n_threads;
    pthread_t watcher;
    bool has_watcher;
};

/* answer.c: the metrics of an answer. */
void api_measure(api_job *job, int status);

/* params.c: reads the form and the URL into job->params. PS_EINVAL: a body that is not what its
 * Content-Type says; PS_ENOMEM. */
ps_status api_read_params(api_job *job, ps_err *err) PS_MUST_CHECK;

#endif
