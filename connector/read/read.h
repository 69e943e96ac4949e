/*
 * read.h - what the query API needs of the database: series that match, and their samples.
 *
 * A read_store belongs to the program: the label index (connector/catalog/label_index.h), kept up to
 * date by following the catalog's feed, and a small pool of connections of its own. A read_source
 * belongs to one query and is what the engine (lib/eval) reads from.
 *
 * Whoever asks sees what was acknowledged before: a query reads the feed after it has arrived, in the
 * same snapshot as the samples, whichever connector took them in. All of a query's selections are read
 * in that one snapshot.
 *
 * Threads: a read_store is used by any number of threads. A read_source is opened, selected from and
 * closed by one thread at a time; its reads may come from several workers at once; read_source_cancel
 * may be called by anybody until read_source_close.
 */
#ifndef PROMSCALE_CONNECTOR_READ_H
#define PROMSCALE_CONNECTOR_READ_H

#include "connector/config/settings.h"
#include "connector/log/log.h"
#include "connector/metrics/metrics.h"
#include "lib/eval/eval.h"

/* ---- of the program ------------------------------------------------------------------------------ */

typedef struct read_store read_store;
typedef struct read_store_config {
    const settings *settings; /* borrowed, as are all of these */
    const char *conninfo;
    logger *log;
    metrics *metrics;
} read_store_config;

/* Starts to load the label index in the background; queries that come meanwhile wait for it. */
ps_status read_store_start(const read_store_config *config, read_store **ret,
                           ps_err *err) PS_MUST_CHECK;
/* Cancels what is being read, in the database too; sources opened from now on are refused. */
void read_store_stop(read_store *s);
/* After all sources are closed. NULL is fine. */
void read_store_free(read_store *s);

/* ---- of a query ---------------------------------------------------------------------------------- */

typedef struct read_source read_source;
typedef struct read_source_config {
    ps_str tenant;       /* "" = the default one */
    size_t n_workers;    /* of the executor that will read */
    size_t max_bytes;    /* for blocks, label sets and readers; 0: query.max-bytes */
    int64_t deadline_ns; /* CLOCK_MONOTONIC, INT64_MAX = none: then PS_ETIMEOUT */
} read_source_config;

/* Costs nothing yet: a connection is taken (and given back) when the engine selects. PS_EUNAVAILABLE:
 * the connector is shutting down, or has no descriptors left. */
ps_status read_source_open(read_store *s, const read_source_config *config, read_source **ret,
                           ps_err *err) PS_MUST_CHECK;
/* Fits into ev_env.source; valid until read_source_close. */
ev_source read_source_for_engine(read_source *src);
/* The client is gone: what waits for the database ends with PS_ECANCELED and is cancelled there. */
void read_source_cancel(read_source *src);
/* What has to be told of the answer: blocks that were left out, since they cannot be read. Borrowed. */
size_t read_source_warnings(read_source *src, const ps_str **ret);
/* After the query was freed: results borrow label texts. NULL is fine. */
void read_source_close(read_source *src);

#endif
