/*
 * write.h - a sample's way: receive -> decode -> resolve -> batch -> flush -> ack. One file a
 * stage.
 *
 * write_submit hands a request in; workers decode it and look its series up, new series are
 * resolved in their own short transaction, a flusher groups what waits into one transaction, and
 * `done` is called once the data is committed and flushed (or refused).
 */
#ifndef PROMSCALE_CONNECTOR_WRITE_H
#define PROMSCALE_CONNECTOR_WRITE_H

#include "connector/config/settings.h"
#include "connector/log/log.h"
#include "connector/metrics/metrics.h"
#include "lib/base/base.h"

typedef struct write_path write_path;

typedef enum write_encoding {
    WRITE_SNAPPY, /* block, or framed stream (told by its magic) */
    WRITE_PLAIN,  /* as it is: the self-scrape, text */
    WRITE_GZIP
} write_encoding;

typedef enum write_version {
    WRITE_V1, /* prometheus.WriteRequest */
    WRITE_V2, /* io.prometheus.write.v2.Request; the ones below are turned into it */
    WRITE_OTLP, /* opentelemetry...ExportMetricsServiceRequest */
    WRITE_TEXT, /* text format 0.0.4; what is wrong somewhere is refused as a whole, like this one: */
    WRITE_OPENMETRICS
} write_version;

typedef struct write_request {
    uint64_t request_id;
    ps_str tenant; /* "" = none; borrowed until done */
    ps_str body;   /* borrowed until done */
    write_encoding encoding;
    write_version version;
} write_request;

typedef struct write_result {
    ps_status status;                         /* PS_OK: everything is committed and flushed.
                         PS_EINVAL: what is good is committed and flushed, the rest refused.
                         PS_ELIMIT, PS_ECORRUPT: nothing was stored (too large as a whole, or
                         unreadable). PS_EUNAVAILABLE: send again later. */
    int64_t samples_written, samples_refused; /* of floats */
    int64_t histograms_written, histograms_refused;
    int64_t exemplars_written;
    const char *text; /* what was wrong, NUL-terminated; borrowed during the call; "" if nothing */
} write_result;

/* Called exactly once per accepted request, from one of the write path's threads. */
typedef void (*write_done_fn)(void *self, const write_result *result);

typedef struct write_path_config {
    const settings *settings; /* borrowed for the path's life */
    const char *conninfo;     /* libpq keyword/value string; copied */
    logger *log;
    metrics *metrics;
    int64_t (*now_ms)(void *); /* clock, for tests; NULL = real time */
    void *now_self;
} write_path_config;

ps_status write_path_start(const write_path_config *config, write_path **ret,
                           ps_err *err) PS_MUST_CHECK;
/* PS_EUNAVAILABLE when the queue is full or the path is stopping, PS_ELIMIT when the body is too
 * large, PS_EINVAL for an impossible tenant: then done is not called. */
ps_status write_submit(write_path *w, const write_request *request, write_done_fn done, void *self,
                       ps_err *err) PS_MUST_CHECK;
/* True while the database answers (last flush or probe succeeded): for /-/ready and /healthz. */
bool write_path_healthy(const write_path *w);
/* No new requests; waits for those inside (at most timeout_ms), then answers the rest with
 * PS_EUNAVAILABLE. */
void write_path_stop(write_path *w, int64_t timeout_ms);
void write_path_free(write_path *w);

#endif
