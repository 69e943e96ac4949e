/*
 * answer.c - the envelope around answers, and what a failure is called.
 */
#include <stdio.h>

#include "connector/api/internal.h"
#include "connector/pg/pg.h"

typedef struct error_kind {
    int status;
    const char *type;
} error_kind;

static const error_kind kinds[API_ERRORS] = {
    [API_BAD_DATA] = {400, "bad_data"},    [API_EXECUTION] = {422, "execution"},
    [API_CANCELED] = {499, "canceled"},    [API_TIMEOUT] = {503, "timeout"},
    [API_INTERNAL] = {500, "internal"},    [API_UNAVAILABLE] = {503, "unavailable"},
    [API_NOT_FOUND] = {404, "not_found"},  [API_NOT_ACCEPTABLE] = {406, "not_acceptable"},
    [API_DISABLED] = {500, "unavailable"},
};

void
api_measure(api_job *job, int status)
{
    static const double bounds[] = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
                                    0.25,   0.5,   1,      2.5,   5,    10,    30,   120};
    char labels[96];

    snprintf(labels, sizeof(labels), "type=\"%s\",code=\"%d\"", job->endpoint->name, status);
    metric_add(metrics_counter(job->api->metrics, "promscale_query_requests_total",
                               "Requests to the API by answer.", labels),
               1);
    snprintf(labels, sizeof(labels), "type=\"%s\"", job->endpoint->name);
    metric_observe(metrics_histogram(job->api->metrics, "promscale_query_duration_seconds",
                                     "Time from a request's arrival to its answer.", labels, bounds,
                                     PS_ARRAY_LEN(bounds)),
                   (double)(pg_now_ns() - job->arrived_ns) / 1e9);
}

void
api_respond(api_job *job, int status, const char *content_type, ps_buf *body)
{
    http_request *r = job->r;

    api_measure(job, status);
    pthread_mutex_lock(&job->api->lock);
    job->r = NULL;
    pthread_mutex_unlock(&job->api->lock);
    http_respond_taking(r, status, content_type, body);
}

void
api_answer(api_job *job, ps_buf *data, const ps_str *warnings, size_t n_warnings)
{
    ps_buf out;

    if (data->failed) {
        api_fail(job, API_EXECUTION,
                 "the answer is larger than it may be, or there is no memory for it");
        return;
    }
    ps_buf_init(&out, &ps_malloc);
    ps_buf_add_c(&out, "{\"status\":\"success\",\"data\":");
    ps_buf_add_str(&out, ps_buf_str(data));
    ps_buf_done(data);
    ps_buf_init(data, &ps_malloc);
    for (size_t i = 0; i < n_warnings; i++) {
        ps_buf_add_c(&out, i == 0 ? ",\"warnings\":[" : ",");
        api_json_text(&out, warnings[i], true);
    }
    ps_buf_add_c(&out, n_warnings > 0 ? "]}" : "}");
    if (out.failed)
        api_fail(job, API_UNAVAILABLE, "no memory, try again");
    else
        api_respond(job, 200, "application/json", &out);
    ps_buf_done(&out);
}

/* ---- failures ----------------------------------------------------------------------------------------- */

void
api_fail_text(api_job *job, api_error error, ps_str text)
{
    const error_kind *kind = &kinds[error];
    ps_buf out;

    ps_buf_init(&out, &ps_malloc);
    ps_buf_addf(&out, "{\"status\":\"error\",\"errorType\":\"%s\",\"error\":", kind->type);
    api_json_text(&out, text, true);
    ps_buf_add_char(&out, '}');
    if (out.failed) { /* the server then closes the connection */
        ps_buf_clear(&out);
        kind = &kinds[API_UNAVAILABLE];
    }
    api_respond(job, kind->status, "application/json", &out);
    ps_buf_done(&out);
}

void
api_fail(api_job *job, api_error error, const char *fmt, ...)
{
    char text[2048];
    va_list ap;

    va_start(ap, fmt);
    int len = vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    size_t shown = len < 0 ? 0 : (size_t)len < sizeof(text) ? (size_t)len : sizeof(text) - 1;
    api_fail_text(job, error, (ps_str){text, ps_utf8_prefix((ps_str){text, shown}, shown)});
}

static api_error
error_of(ps_status st)
{
    switch (st) {
    case PS_EINVAL:
    case PS_ELIMIT:
    case PS_ENOMEM:
    case PS_EUNSUPPORTED:
        return API_EXECUTION;
    case PS_ETIMEOUT:
        return API_TIMEOUT;
    case PS_ECANCELED:
        return API_CANCELED;
    case PS_EUNAVAILABLE:
    case PS_ECONFLICT:
        return API_UNAVAILABLE;
    default:
        return API_INTERNAL;
    }
}

void
api_fail_status(api_job *job, ps_status st, ps_str text)
{
    if (atomic_load(&job->stop) == PS_EUNAVAILABLE) {
        st = PS_EUNAVAILABLE;
        text = PS_STR("the connector is stopping");
    }
    api_error error = error_of(st);

    if (error == API_INTERNAL || error == API_UNAVAILABLE) {
        char line[512];
        snprintf(line, sizeof(line), "%.*s", (int)ps_utf8_prefix(text, sizeof(line) - 1),
                 text.len ? text.ptr : "");
        log_limited(job->api->log, LOG_WARN, 10000, "a query could not be answered",
                    (const log_field[]){LOG_INT("status", kinds[error].status),
                                        LOG_STR("reason", line)},
                    2);
    }
    api_fail_text(job, error, text);
}

void
api_fail_params(api_job *job, ps_status st, const ps_err *err)
{
    if (st == PS_EINVAL)
        api_fail_text(job, API_BAD_DATA, ps_str_c(err->text));
    else
        api_fail_status(job, st, ps_str_c(err->text));
}
