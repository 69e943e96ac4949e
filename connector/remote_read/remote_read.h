/*
 * remote_read.h - the endpoint of Prometheus's remote read.
 */
#ifndef PROMSCALE_CONNECTOR_REMOTE_READ_H
#define PROMSCALE_CONNECTOR_REMOTE_READ_H

#include "connector/api/api.h"

/* What a request may have, compressed or not. */
enum { REMOTE_READ_MAX_BODY_BYTES = 32 << 20 };

/* Runs on a thread of the api; self is not used. */
void remote_read_run(api_job *job, void *self);

#endif
