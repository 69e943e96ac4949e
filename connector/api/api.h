/*
 * api.h - what every endpoint of the Prometheus API shares: the queue and its threads, parameters, and the
 * envelope around answers.
 *
 * A handler on the server's thread only queues (api_submit); one of the api's threads then runs the
 * endpoint, which may wait for the database. As many run at once as there are threads
 * (metrics.promql.max-concurrency), further ones wait in a bounded queue. A watcher looks ten times a second
 * at what runs: a client that is gone ends its request, in the database too.
 *
 * Shapes, error types and texts are those of Prometheus 3 (its HTTP API documentation).
 */
#ifndef PROMSCALE_CONNECTOR_API_H
#define PROMSCALE_CONNECTOR_API_H

#include <stdatomic.h>

#include "connector/http/http.h"
#include "connector/read/read.h"

typedef struct api api;
typedef struct api_job api_job;
typedef struct api_config { /* borrowed */
    const settings *settings;
    read_store *store;
    logger *log;
    metrics *metrics;
} api_config;

ps_status api_start(const api_config *config, api **ret, ps_err *err) PS_MUST_CHECK;
/* Running requests are cancelled, waiting ones answered 503; further ones, too. NULL is fine. */
void api_stop(api *a);
/* After stop, when no handler can be called any more. NULL is fine. */
void api_free(api *a);

/* ---- endpoints ------------------------------------------------------------------------------------- */

/* What the `self` of a route points to while its handler is api_submit; lives as long as the api. */
typedef struct api_endpoint {
    api *api;
    const char *name; /* in metrics: type="name" */
    /* On one of the api's threads. Answers exactly once: api_answer, api_respond, api_stream_* or one of
     * api_fail*. */
    void (*run)(api_job *job, void *self);
    void *self;
} api_endpoint;
/* A http_handler. */
void api_submit(http_request *r, void *endpoint);

/* What a body of form parameters may be. */
enum { API_MAX_BODY_BYTES = 4 << 20 };

/* ---- a job: one request, on one thread ---------------------------------------------------------------- */

const settings *api_settings(const api_job *job);
read_store *api_store(const api_job *job);
logger *api_log(const api_job *job);
metrics *api_metrics(const api_job *job);
/* Not after the answer. */
const http_request *api_request(const api_job *job);
/* To set headers of the answer. */
http_request *api_answering(api_job *job);
ps_str api_tenant(const api_job *job);
/* Memory that lives as long as the job; at most 64 MiB. */
ps_arena *api_arena(api_job *job);
int64_t api_arrived_ns(const api_job *job); /* CLOCK_MONOTONIC */
int64_t api_begun_ns(const api_job *job);   /* when it left the queue */
/* Its end: metrics.promql.query-timeout after the arrival, unless moved. */
int64_t api_deadline_ns(const api_job *job);
void api_set_deadline(api_job *job, int64_t deadline_ns);
/* PS_OK, or why to stop: PS_ECANCELED, PS_ETIMEOUT. Any thread; fits into ev_env.poll. */
ps_status api_poll(void *job);

/* A source that is cancelled with the job. max_bytes as in read_source_config. At most one at a time. */
ps_status api_open_source(api_job *job, size_t n_workers, size_t max_bytes, read_source **ret,
                          ps_err *err) PS_MUST_CHECK;
void api_close_source(api_job *job, read_source *src); /* NULL is fine */

/* ---- parameters: form in the body first, then the URL --------------------------------------------------- */

/* "" if absent. */
ps_str api_param(const api_job *job, const char *name);
bool api_has_param(const api_job *job, const char *name);
/* All values of a name; *ret in the job's arena. PS_ENOMEM. */
ps_status api_params(api_job *job, const char *name, ps_str **ret, size_t *ret_n,
                     ps_err *err) PS_MUST_CHECK;
/* Time of a parameter, `absent` without it (INT64_MIN: then it must be there). PS_EINVAL: `invalid parameter
 * "name": ...`. */
ps_status api_time_param(const api_job *job, const char *name, int64_t absent, int64_t *ret_ms,
                         ps_err *err) PS_MUST_CHECK;
ps_status api_limit_param(const api_job *job, const char *name, uint64_t *ret,
                          ps_err *err) PS_MUST_CHECK;
/* Puts `invalid parameter "name": ` before err's text. */
ps_status api_bad_param(const char *name, ps_err *err) PS_MUST_CHECK;

/* Unix seconds with fraction, or RFC 3339; to ms. */
ps_status api_parse_time(ps_str s, int64_t *ret_ms, ps_err *err) PS_MUST_CHECK;
/* Seconds with fraction, or a Prometheus duration; to ns. */
ps_status api_parse_duration(ps_str s, int64_t *ret_ns, ps_err *err) PS_MUST_CHECK;
ps_status api_parse_limit(ps_str s, uint64_t *ret, ps_err *err) PS_MUST_CHECK;
/* A whole number as Prometheus reads it. "" is INT64_MIN: not given. PS_EINVAL: `<function>: parsing "x": invalid
 * syntax`, or `value out of range` beyond `bits`. */
ps_status api_parse_whole(ps_str s, const char *function, unsigned bits, int64_t *ret,
                          ps_err *err) PS_MUST_CHECK;

/* ---- answers ------------------------------------------------------------------------------------------------ */

/* Types of errors, each with its HTTP status. */
typedef enum api_error {
    API_BAD_DATA,       /* 400 */
    API_EXECUTION,      /* 422 */
    API_CANCELED,       /* 499 */
    API_TIMEOUT,        /* 503 */
    API_INTERNAL,       /* 500 */
    API_UNAVAILABLE,    /* 503: the database is away, we are stopping; "send it again" */
    API_NOT_FOUND,      /* 404 */
    API_NOT_ACCEPTABLE, /* 406 */
    API_DISABLED,       /* 500 "unavailable": a part that is switched off, as Prometheus has it */
    API_ERRORS
} api_error;

/* {"status":"success","data":<data>} with warnings if there are any. Empties data. A buffer that failed is
 * answered as an error. */
void api_answer(api_job *job, ps_buf *data, const ps_str *warnings, size_t n_warnings);
/* Anything else; takes the bytes of body (made with ps_malloc) without copying and empties it. content_type
 * may be NULL without a body. */
void api_respond(api_job *job, int status, const char *content_type, ps_buf *body);
/* An answer that is sent while it is made: begun (false: no memory, answer otherwise), written to, and ended in
 * any case. Writing waits for the client; PS_ECANCELED or PS_ETIMEOUT when there is no sense in going on.
 * Not complete: the connection is cut. */
bool api_stream_begin(api_job *job, int status, const char *content_type);
ps_status api_stream_write(api_job *job, ps_str bytes, ps_err *err) PS_MUST_CHECK;
void api_stream_end(api_job *job, bool complete);
void api_fail(api_job *job, api_error error, const char *fmt, ...) PS_PRINTF(3, 4);
void api_fail_text(api_job *job, api_error error, ps_str text);
/* The type that fits a failure of parameters (PS_EINVAL: bad_data) ... */
void api_fail_params(api_job *job, ps_status st, const ps_err *err);
/* ... and one while reading or computing (PS_EINVAL: execution). Also tells a job that was stopped because the
 * program ends, and writes our own faults to the log. */
void api_fail_status(api_job *job, ps_status st, ps_str text);

/* ---- JSON ------------------------------------------------------------------------------------------------------ */

/* A string: quoted and escaped. html: also <, > and & (Prometheus does so everywhere but in labels). */
void api_json_text(ps_buf *out, ps_str s, bool html);
/* {"__name__":"up",...} */
void api_json_labels(ps_buf *out, mdl_labels labels);
/* Seconds with as many of three decimals as it needs. */
void api_json_time(ps_buf *out, int64_t t_ms);
void api_json_i64(ps_buf *out, int64_t v);
/* As a string: "NaN", "+Inf", "1e+30". */
void api_json_value(ps_buf *out, double v);

#endif
