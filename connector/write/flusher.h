/*
 * flusher.h - shared by flusher.c (when, what, again), guilty.c (a request that cannot be
 * stored) and tests.
 */
#ifndef PROMSCALE_CONNECTOR_WRITE_FLUSHER_H
#define PROMSCALE_CONNECTOR_WRITE_FLUSHER_H

#include "connector/write/internal.h"

typedef struct flusher { /* of its thread */
    write_path *w;
    int index;
    wp_conn conn;
    wp_batch batch;
    wp_decoder decoder; /* for texts of series */
    int failures;       /* in a row */
    int calls;          /* spent on finding the guilty in this batch */
    size_t n;
    wp_request *requests[WP_MAX_BATCH_REQUESTS];
} flusher;

/* May flusher `index` begin? False: not before *ret_wake_ns (INT64_MAX: not before something changes).
 * Then flusher_starts notes that it does. Both under mu. */
bool flusher_may_start(const write_path *w, int index, int64_t now, int64_t *ret_wake_ns);
void flusher_starts(write_path *w, int index, int64_t now);

/* One transaction with all points (and exemplars) of the requests; sorts the list. */
ps_status flusher_attempt(flusher *f, wp_request **requests, size_t n, bool exemplars,
                          ps_err *err) PS_MUST_CHECK;
ps_status flusher_failed(flusher *f, ps_status status);

/* A request that failed alone, with `why`: stores what can be stored of it and notes the rest in
 * its answer. PS_OK: it is ready to be finished. */
ps_status flusher_alone(flusher *f, wp_request *r, ps_status why, ps_err *err) PS_MUST_CHECK;

#endif
