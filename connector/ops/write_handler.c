/*
 * write_handler.c - POST /api/v1/write and /write: the HTTP side of remote write, 1.0 and 2.0, and of
 * metrics as text. The media type says which; every answer to 2.0, of whatever status, says how much was written.
 *
 * The body is handed to the write path as it came and stays with the request until the answer. What
 * the answer's status means to a Prometheus decides it: 2xx = kept for ever, 5xx = send again, any
 * other 4xx = thrown away by the sender. So overload is 503, never 429, and a 4xx is said only of what
 * can never be stored.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "connector/ops/ops.h"

typedef struct pending {
    connector *c;
    http_request *r;
    struct timespec begun;
    write_version version;
} pending;

/* ---- what may be sent here ------------------------------------------------------------------- */

static ps_str
until(ps_str s, char stop, ps_str *ret_rest)
{
    const char *p = s.len ? memchr(s.ptr, stop, s.len) : NULL;
    size_t len = p ? (size_t)(p - s.ptr) : s.len;

    *ret_rest = p ? (ps_str){p + 1, s.len - len - 1} : (ps_str){"", 0};
    return ps_str_trim((ps_str){s.ptr, len});
}

static ps_str
unquoted(ps_str s)
{
    if (s.len >= 2 && s.ptr[0] == '"' && s.ptr[s.len - 1] == '"')
        return (ps_str){s.ptr + 1, s.len - 2};
    return s;
}

/* Parameter of a media type, NULL if it is not there; rest is what follows the type. */
static ps_str
parameter(ps_str rest, ps_str wanted)
{
    while (rest.len > 0) {
        ps_str value, name = until(until(rest, ';', &rest), '=', &value);
        if (ps_str_eq_nocase(name, wanted))
            return unquoted(ps_str_trim(value));
    }
    return (ps_str){NULL, 0};
}

static ps_status
check_protobuf(ps_str parameters, write_version *version, const char **why)
{
    ps_str proto = parameter(parameters, PS_STR("proto"));

    if (proto.ptr == NULL || ps_str_eq_c(proto, "prometheus.WriteRequest")) {
        *version = WRITE_V1;
    } else if (ps_str_eq_c(proto, "io.prometheus.write.v2.Request")) {
        *version = WRITE_V2;
    } else {
        *why = "unknown protobuf message: send proto=prometheus.WriteRequest or"
               " proto=io.prometheus.write.v2.Request";
        return PS_EUNSUPPORTED;
    }
    return PS_OK;
}

static ps_status
check_media_type(ps_str type, write_version *version, const char **why)
{
    ps_str rest, media = until(type, ';', &rest);
    ps_str edition = parameter(rest, PS_STR("version"));

    if (ps_str_eq_nocase(media, PS_STR("application/x-protobuf")))
        return check_protobuf(rest, version, why);
    if (ps_str_eq_nocase(media, PS_STR("text/plain")) &&
        (edition.len == 0 || ps_str_eq_c(edition, "0.0.4") || ps_str_eq_c(edition, "1.0.0"))) {
        *version = WRITE_TEXT;
        return PS_OK;
    }
    if (ps_str_eq_nocase(media, PS_STR("application/openmetrics-text")) &&
        (edition.len == 0 || ps_str_eq_c(edition, "0.0.1") || ps_str_eq_c(edition, "1.0.0"))) {
        *version = WRITE_OPENMETRICS;
        return PS_OK;
    }
    *why = "unsupported media type: remote write is application/x-protobuf, metrics as text are"
           " text/plain; version=0.0.4 or application/openmetrics-text; version=1.0.0";
    return PS_EUNSUPPORTED;
}

ps_status
ops_check_write_headers(const http_request *r, write_version *version, write_encoding *encoding,
                        const char **why)
{
    ps_str type, coding = {"", 0};

    *version = WRITE_V1;
    *encoding = WRITE_SNAPPY;
    if (http_header(r, "Content-Type", &type) && ps_str_trim(type).len > 0)
        PS_TRY(check_media_type(type, version, why));
    if (http_header(r, "Content-Encoding", &coding))
        coding = ps_str_trim(coding);
    bool text = *version == WRITE_TEXT || *version == WRITE_OPENMETRICS;
    if (ps_str_eq_nocase(coding, PS_STR("snappy")) || (coding.len == 0 && !text))
        return PS_OK;
    *encoding = ps_str_eq_nocase(coding, PS_STR("gzip")) ? WRITE_GZIP : WRITE_PLAIN;
    if (text && (*encoding == WRITE_GZIP || coding.len == 0 ||
                 ps_str_eq_nocase(coding, PS_STR("identity"))))
        return PS_OK;
    *why = text ? "unsupported content encoding: text is plain, or compressed with gzip or snappy"
                : "unsupported content encoding: remote write is compressed with snappy";
    return PS_EUNSUPPORTED;
}

/* ---- the answer ------------------------------------------------------------------------------ */

int
ops_write_status(const write_result *res)
{
    switch (res->status) {
    case PS_OK:
        return 204;
    case PS_ELIMIT: /* the whole request is too large, or only some of its series are refused */
        return res->samples_written + res->samples_refused + res->histograms_written +
                           res->histograms_refused >
                       0
                   ? 400
                   : 413;
    default:
        return http_status_of(res->status);
    }
}

double
ops_seconds_since(const struct timespec *begun)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - begun->tv_sec) + (double)(now.tv_nsec - begun->tv_nsec) / 1e9;
}

void
ops_measure_write(connector *c, int code, double seconds)
{
    static const double bounds[] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
                                    0.25,  0.5,    1,     2.5,  5,     10,   30};
    char labels[48];

    snprintf(labels, sizeof(labels), "type=\"metric\",code=\"%d\"", code);
    metric_add(metrics_counter(c->metrics, "promscale_ingest_requests_total",
                               "Write requests by answer.", labels),
               1);
    metric_observe(metrics_histogram(c->metrics, "promscale_ingest_duration_seconds",
                                     "Time from a write request's last byte to its answer.", labels,
                                     bounds, PS_ARRAY_LEN(bounds)),
                   seconds);
}

void
ops_log_write_failure(connector *c, const http_request *r, int code, const char *text)
{
    uint64_t id = http_request_identity(r)->request_id;

    if (code >= 500)
        log_limited(c->log, LOG_WARN, 10000, "write request not stored, the sender will try again",
                    (const log_field[]){LOG_INT("request", id), LOG_INT("status", code),
                                        LOG_STR("reason", text)},
                    3);
    else
        log_limited(c->log, LOG_WARN, 10000, "write request refused, in part or whole",
                    (const log_field[]){LOG_INT("request", id), LOG_INT("status", code),
                                        LOG_STR("reason", text)},
                    3);
}

static void
answer(connector *c, http_request *r, const struct timespec *begun, int code, const char *text)
{
    ops_measure_write(c, code, ops_seconds_since(begun));
    if (code == 204) {
        http_respond(r, code, NULL, PS_STR(""));
        return;
    }
    ops_log_write_failure(c, r, code, text);
    http_respond_text(r, code, "%s", text);
}

/* To a sender of 2.0 an answer without them means that nothing was written. */
static void
say_written(http_request *r, const write_result *res)
{
    static const char *const names[] = {"X-Prometheus-Remote-Write-Samples-Written",
                                        "X-Prometheus-Remote-Write-Histograms-Written",
                                        "X-Prometheus-Remote-Write-Exemplars-Written"};
    const int64_t counts[] = {res->samples_written, res->histograms_written,
                              res->exemplars_written};

    for (size_t i = 0; i < PS_ARRAY_LEN(names); i++) {
        char text[24];
        snprintf(text, sizeof(text), "%lld", (long long)counts[i]);
        http_set_header(r, names[i], text);
    }
}

static void
write_done(void *self, const write_result *res)
{
    pending *p = self;

    if (p->version == WRITE_V2)
        say_written(p->r, res);
    answer(p->c, p->r, &p->begun, ops_write_status(res), res->text);
    free(p);
}

void
ops_write(http_request *r, void *self)
{
    connector *c = self;
    const char *why = "";
    struct timespec begun;
    ps_err err;

    clock_gettime(CLOCK_MONOTONIC, &begun);
    metric_add(metrics_counter(c->metrics, "promscale_ingest_requests_bytes_total",
                               "Bodies of write requests as received.", "type=\"metric\""),
               (double)http_body(r).len);
    const write_result nothing = {0};
    write_version version;
    write_encoding encoding;
    ps_status st = ops_check_write_headers(r, &version, &encoding, &why);
    if (st != PS_OK) {
        if (version == WRITE_V2)
            say_written(r, &nothing);
        answer(c, r, &begun, http_status_of(st), why);
        return;
    }
    pending *p = malloc(sizeof(*p));
    if (p == NULL) {
        if (version == WRITE_V2)
            say_written(r, &nothing);
        answer(c, r, &begun, 503, "no memory, try again");
        return;
    }
    *p = (pending){.c = c, .r = r, .begun = begun, .version = version};
    write_request wr = {.request_id = http_request_identity(r)->request_id,
                        .tenant = http_request_identity(r)->tenant,
                        .body = http_body(r),
                        .encoding = encoding,
                        .version = version};
    st = write_submit(c->write, &wr, write_done, p, &err);
    if (st != PS_OK) {
        free(p);
        if (version == WRITE_V2)
            say_written(r, &nothing);
        answer(c, r, &begun, http_status_of(st), err.text);
    }
}
