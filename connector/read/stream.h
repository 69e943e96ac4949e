/*
 * stream.h - all samples of the series that match, one series after the other, in bounded memory.
 *
 * For remote read: answers may be far larger than what a query may hold. Series are found first, then
 * read in order of their labels, some at a time (a batch, as many as fit), each batch's blocks in order
 * of time; blocks are opened, turned into what is sent, and forgotten. All of it is one snapshot.
 */
#ifndef PROMSCALE_CONNECTOR_READ_STREAM_H
#define PROMSCALE_CONNECTOR_READ_STREAM_H

#include "connector/read/read.h"

typedef struct read_series {
    mdl_labels labels;
    ps_str encoded;
    uint64_t n_samples;
} read_series;

typedef struct read_sink { /* takes what is read; both may fail, which ends the reading */
    void *self;
    /* Appends what is sent of some samples of one series to what was made of earlier ones. */
    ps_status (*encode)(void *self, const ev_samples *samples, ps_buf *out, ps_err *err);
    /* A series of a query, in order of queries and labels; those without samples are left out. */
    ps_status (*take)(void *self, size_t query, const read_series *series, ps_err *err);
    bool parts; /* take may be given a very long series in several parts, one after the other */
} read_sink;

/* The source is used for nothing else. memory: what batches should take, apart from labels. Errors as when
 * the engine selects, and those of the sink. */
ps_status read_stream(read_source *src, const ev_selection *queries, size_t n, size_t memory,
                      const read_sink *sink, ps_err *err) PS_MUST_CHECK;

#endif
