/*
 * internal.h of connector/remote_read - the two kinds of answers.
 */
#ifndef PROMSCALE_CONNECTOR_REMOTE_READ_INTERNAL_H
#define PROMSCALE_CONNECTOR_REMOTE_READ_INTERNAL_H

#include "connector/read/stream.h"
#include "connector/remote_read/remote_read.h"
#include "lib/wire/wire.h"

typedef struct remote_read { /* a request that is being answered */
    api_job *job;
    read_source *source;
    const ev_selection *queries;
    size_t n_queries;
    uint64_t samples;  /* of all series that were taken; for the metric */
    bool begun;        /* bytes of the answer are on their way: no other answer can be given */
} remote_read;

/* Both answer if they succeed. After a failure the handler does, unless `begun`: then they have. */
ps_status remote_read_samples(remote_read *rr, ps_err *err) PS_MUST_CHECK;
ps_status remote_read_chunks(remote_read *rr, ps_err *err) PS_MUST_CHECK;

#endif
