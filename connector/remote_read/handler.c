/*
 * handler.c - one request of remote read: understood, answered, or told why not.
 *
 *   body -> snappy -> wire_read_request_parse -> source -> samples.c or chunks.c
 *
 * Failures are plain text, as Prometheus has it: 400 for what the client wrote or asked too much of, 503 where
 * trying again may help, else 500.
 */
#include <stdio.h>

#include "connector/pg/pg.h"
#include "connector/remote_read/internal.h"

static const wire_read_limits limits = {.max_queries = 1000, .max_matchers = 100000};

static void
answer_failure(api_job *job, int status, const char *text)
{
    ps_buf out;

    if (status >= 500)
        log_limited(api_log(job), LOG_WARN, 10000, "a remote read could not be answered",
                    (const log_field[]){LOG_INT("status", status), LOG_STR("reason", text)}, 2);
    ps_buf_init(&out, &ps_malloc);
    ps_buf_addf(&out, "%s\n", text);
    api_respond(job, status, "text/plain; charset=utf-8", &out);
    ps_buf_done(&out);
}

/* Of a failure to read; a request that cannot be understood is always 400. */
static int
http_status(ps_status st)
{
    switch (st) {
    case PS_EINVAL:
    case PS_ELIMIT:
    case PS_EUNSUPPORTED:
        return 400;
    case PS_ECANCELED:
        return 499;
    case PS_ETIMEOUT:
    case PS_ECONFLICT:
    case PS_EUNAVAILABLE:
    case PS_ENOMEM:
        return 503;
    default:
        return 500;
    }
}

/* Texts of matchers borrow the arena, too. */
static ps_status
read_request(api_job *job, wire_read_request *ret, ps_err *err)
{
    ps_str message;
    ps_buf buf;

    ps_buf_init(&buf, &ps_malloc);
    ps_status st = wire_snappy_decode(http_body(api_request(job)), REMOTE_READ_MAX_BODY_BYTES,
                                      &buf, err);
    if (st == PS_OK && ps_arena_dup(api_arena(job), ps_buf_str(&buf), &message) != PS_OK)
        st = ps_fail(err, PS_ENOMEM, "no memory for the request");
    ps_buf_done(&buf);
    PS_TRY(st);
    PS_TRY(wire_read_request_parse(message, &limits, api_arena(job), ret, err));
    if (ret->type == WIRE_READ_UNKNOWN)
        return ps_fail(err, PS_EINVAL,
                       "server does not support any of the requested response types; supported: "
                       "SAMPLES, STREAMED_XOR_CHUNKS");
    return PS_OK;
}

static ps_status
make_selections(api_job *job, const wire_read_request *request, const ev_selection **ret,
                ps_err *err)
{
    ev_selection *s = ps_arena_array(api_arena(job), request->n_queries + 1, sizeof(*s));

    if (s == NULL)
        return ps_fail(err, PS_ENOMEM, "no memory for the request");
    for (size_t i = 0; i < request->n_queries; i++) {
        const wire_read_query *q = &request->queries[i];
        s[i] = (ev_selection){.matchers = q->matchers,
                              .n_matchers = q->n_matchers,
                              .from_ms = q->start_ms,
                              .to_ms = q->end_ms};
    }
    *ret = s;
    return PS_OK;
}

static ps_status
answer(remote_read *rr, wire_read_type type, ps_err *err)
{
    PS_TRY(api_open_source(rr->job, 1, 0, &rr->source, err));
    ps_status st = type == WIRE_READ_CHUNKS ? remote_read_chunks(rr, err)
                                            : remote_read_samples(rr, err);
    api_close_source(rr->job, rr->source);
    return st;
}

static void
count_samples(const remote_read *rr)
{
    metric_add(metrics_counter(api_metrics(rr->job), "promscale_remote_read_samples_total",
                               "Samples that were sent by remote read.", ""),
               (double)rr->samples);
}

void
remote_read_run(api_job *job, void *self)
{
    remote_read rr = {.job = job};
    wire_read_request request;
    ps_err err = {.text = ""};

    (void)self;
    api_set_deadline(job, api_arrived_ns(job) +
                              api_settings(job)->remote_read_timeout_ms * 1000000);
    ps_status st = read_request(job, &request, &err);
    if (st != PS_OK) {
        answer_failure(job, st == PS_ENOMEM ? 503 : 400, err.text);
        return;
    }
    rr.n_queries = request.n_queries;
    st = make_selections(job, &request, &rr.queries, &err);
    if (st == PS_OK)
        st = answer(&rr, request.type, &err);
    count_samples(&rr);
    if (st != PS_OK && !rr.begun)
        answer_failure(job, http_status(st), err.text);
    else if (st != PS_OK && st != PS_ECANCELED)
        log_limited(api_log(job), LOG_WARN, 10000, "a remote read was cut off",
                    (const log_field[]){LOG_STR("reason", err.text)}, 1);
}
