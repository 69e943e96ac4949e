/*
 * otlp_handler.c - POST /api/v1/otlp/v1/metrics: OpenTelemetry's exporters over HTTP, in protobuf.
 *
 * The write path does the work; here is what the protocol says of it. A request that was stored, all of
 * it or in part, is answered by 200 and an ExportMetricsServiceResponse; partial_success in it tells how
 * many data points were refused and why. Exporters send again after 503 and give up after any 4xx.
 */
#include <stdlib.h>

#include "connector/ops/ops.h"

typedef struct pending {
    connector *c;
    http_request *r;
    struct timespec begun;
} pending;

static ps_status
check_headers(const http_request *r, write_encoding *encoding, const char **why)
{
    ps_str type = {"", 0}, coding = {"", 0};

    (void)http_header(r, "Content-Type", &type);
    const char *semicolon = type.len > 0 ? memchr(type.ptr, ';', type.len) : NULL;
    if (semicolon != NULL)
        type.len = (size_t)(semicolon - type.ptr);
    if (!ps_str_eq_nocase(ps_str_trim(type), PS_STR("application/x-protobuf"))) {
        *why = "unsupported media type: send application/x-protobuf (JSON is not in this version)";
        return PS_EUNSUPPORTED;
    }
    if (http_header(r, "Content-Encoding", &coding))
        coding = ps_str_trim(coding);
    *encoding = ps_str_eq_nocase(coding, PS_STR("gzip")) ? WRITE_GZIP : WRITE_PLAIN;
    if (*encoding == WRITE_PLAIN && coding.len > 0 &&
        !ps_str_eq_nocase(coding, PS_STR("identity"))) {
        *why = "unsupported content encoding: send gzip, or none";
        return PS_EUNSUPPORTED;
    }
    return PS_OK;
}

/* ---- the answer ------------------------------------------------------------------------------ */

static void
put_varint(ps_buf *out, uint64_t v)
{
    for (; v > 127; v >>= 7)
        ps_buf_add_char(out, (char)(v | 128));
    ps_buf_add_char(out, (char)v);
}

/* ExportMetricsServiceResponse { partial_success = 1 { rejected_data_points = 1, error_message = 2 } } */
static void
put_partial_success(ps_buf *out, int64_t rejected, ps_str message)
{
    ps_buf part;

    ps_buf_init(&part, &ps_malloc);
    ps_buf_add_char(&part, 1 << 3 | 0);
    put_varint(&part, (uint64_t)rejected);
    ps_buf_add_char(&part, 2 << 3 | 2);
    put_varint(&part, message.len);
    ps_buf_add_str(&part, message);
    ps_buf_add_char(out, 1 << 3 | 2);
    put_varint(out, part.len);
    ps_buf_add_str(out, ps_buf_str(&part));
    out->failed |= part.failed;
    ps_buf_done(&part);
}

static void
answer(connector *c, http_request *r, const struct timespec *begun, int code, const char *text)
{
    ops_measure_write(c, code, ops_seconds_since(begun));
    ops_log_write_failure(c, r, code, text);
    http_respond_text(r, code, "%s", text);
}

static void
otlp_done(void *self, const write_result *res)
{
    pending *p = self;
    int code = ops_write_status(res);

    if (code == 204 || (code == 400 && res->status != PS_ECORRUPT)) {
        ps_buf body;
        ps_buf_init(&body, &ps_malloc);
        if (code == 400) {
            ops_log_write_failure(p->c, p->r, code, res->text);
            put_partial_success(&body, res->samples_refused + res->histograms_refused,
                                ps_str_c(res->text));
        }
        ops_measure_write(p->c, 200, ops_seconds_since(&p->begun));
        /* without memory for the words: all that could be stored is */
        http_respond(p->r, 200, "application/x-protobuf",
                     body.failed || body.len == 0 ? PS_STR("") : ps_buf_str(&body));
        ps_buf_done(&body);
    } else {
        answer(p->c, p->r, &p->begun, code, res->text);
    }
    free(p);
}

void
ops_otlp(http_request *r, void *self)
{
    connector *c = self;
    const char *why = "";
    struct timespec begun;
    write_encoding encoding;
    ps_err err;

    clock_gettime(CLOCK_MONOTONIC, &begun);
    metric_add(metrics_counter(c->metrics, "promscale_ingest_requests_bytes_total",
                               "Bodies of write requests as received.", "type=\"metric\""),
               (double)http_body(r).len);
    ps_status st = check_headers(r, &encoding, &why);
    if (st != PS_OK) {
        answer(c, r, &begun, http_status_of(st), why);
        return;
    }
    pending *p = malloc(sizeof(*p));
    if (p == NULL) {
        answer(c, r, &begun, 503, "no memory, try again");
        return;
    }
    *p = (pending){.c = c, .r = r, .begun = begun};
    write_request wr = {.request_id = http_request_identity(r)->request_id,
                        .tenant = http_request_identity(r)->tenant,
                        .body = http_body(r),
                        .encoding = encoding,
                        .version = WRITE_OTLP};
    st = write_submit(c->write, &wr, otlp_done, p, &err);
    if (st != PS_OK) {
        free(p);
        answer(c, r, &begun, http_status_of(st), err.text);
    }
}
