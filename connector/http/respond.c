/*
 * respond.c - answers: made on whatever thread has one, sent by the library's.
 *
 * http_respond is the handler's letting go of a request. If the request is suspended it is resumed, and
 * the library's thread finds the answer there. If the server has answered in the handler's place
 * (it was stopped), the answer is dropped.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "connector/http/internal.h"

enum { LINGER_MS = 10000 };

int
http_status_of(ps_status status)
{
    static const int table[PS_STATUS_MAX] = {
        [PS_OK] = 200,       [PS_EINVAL] = 400,       [PS_ENOMEM] = 503,       [PS_ELIMIT] = 413,
        [PS_ECORRUPT] = 400, [PS_EUNSUPPORTED] = 415, [PS_ENOTFOUND] = 404,    [PS_ECONFLICT] = 503,
        [PS_ETIMEOUT] = 503, [PS_ECANCELED] = 503,    [PS_EUNAVAILABLE] = 503, [PS_EINTERNAL] = 500,
    };

    if ((unsigned)status >= PS_STATUS_MAX || table[status] == 0)
        return 500;
    return table[status];
}

static bool
add_header(struct MHD_Response *resp, const char *name, const char *value)
{
    return MHD_add_response_header(resp, name, value) == MHD_YES;
}

static bool
has_header(const http_pairs *pairs, const char *name)
{
    for (size_t i = 0; pairs != NULL && i < pairs->n; i++) {
        if (ps_str_eq_nocase(pairs->items[i].name, ps_str_c(name)))
            return true;
    }
    return false;
}

/* The arena's copies are not NUL-terminated; names and values are short. */
static bool
add_pairs(struct MHD_Response *resp, const http_pairs *pairs)
{
    for (size_t i = 0; pairs != NULL && i < pairs->n; i++) {
        const http_pair *p = &pairs->items[i];
        char name[128], value[1024];
        snprintf(name, sizeof(name), "%.*s", (int)p->name.len, p->name.ptr);
        snprintf(value, sizeof(value), "%.*s", (int)p->value.len, p->value.ptr);
        if (!add_header(resp, name, value))
            return false;
    }
    return true;
}

struct MHD_Response *
http_dress_response(const http_server *s, struct MHD_Response *resp, const http_pairs *extra,
                    int status, const char *content_type)
{
    bool ok = resp != NULL;

    if (ok && status != MHD_HTTP_NO_CONTENT && content_type != NULL)
        ok = add_header(resp, "Content-Type", content_type);
    ok = ok && add_pairs(resp, extra);
    if (ok && status == 503 && !has_header(extra, "Retry-After"))
        ok = add_header(resp, "Retry-After", "1");
    if (ok && atomic_load(&s->quiesced))
        ok = add_header(resp, "Connection", "close");
    if (!ok && resp != NULL) {
        MHD_destroy_response(resp);
        resp = NULL;
    }
    return resp;
}

struct MHD_Response *
http_make_response(const http_server *s, const http_pairs *extra, int status,
                   const char *content_type, ps_str body)
{
    struct MHD_Response *resp =
        MHD_create_response_from_buffer(body.len, (void *)(body.len ? body.ptr : ""),
                                        MHD_RESPMEM_MUST_COPY);

    return http_dress_response(s, resp, extra, status, content_type);
}

/* body's bytes are the library's from here on. */
static struct MHD_Response *
make_taking(http_request *r, int status, const char *content_type, ps_str body)
{
    struct MHD_Response *resp =
        MHD_create_response_from_buffer_with_free_callback(body.len,
                                                           (void *)(body.len ? body.ptr : ""),
                                                           body.len ? free : NULL);

    if (resp == NULL && body.len > 0)
        free((void *)body.ptr);
    return http_dress_response(r->server, resp, &r->out_headers, status, content_type);
}

/* Takes nothing of body. NULL: send it as it is. */
static struct MHD_Response *
make_compressed(http_request *r, int status, const char *content_type, ps_str body)
{
    const char *coding = http_coding_of(r, status, content_type, body.len);
    ps_str small;

    if (coding == NULL || http_compress(coding, body, &small) != PS_OK)
        return NULL;
    http_set_header(r, "Content-Encoding", coding);
    http_set_header(r, "Vary", "Accept-Encoding");
    return make_taking(r, status, content_type, small);
}

/* Hands the answer over; resp may be NULL: the connection closes. */
static void
deliver(http_request *r, int status, struct MHD_Response *resp)
{
    http_server *s = r->server;
    struct MHD_Response *unused = NULL;
    bool last;

    pthread_mutex_lock(&s->lock);
    if (r->answered) {
        unused = resp;
    } else {
        r->answered = true;
        r->status = status;
        r->answer = resp;
        /* Under the lock: the server is not stopped while a resume is on its way. */
        if (r->stage == STAGE_SUSPENDED)
            MHD_resume_connection(r->mhd);
    }
    last = --r->refs == 0;
    pthread_mutex_unlock(&s->lock);
    if (unused != NULL)
        MHD_destroy_response(unused);
    if (last)
        http_request_free(r);
    http_server_unref(s);
}

void
http_respond(http_request *r, int status, const char *content_type, ps_str body)
{
    struct MHD_Response *resp = make_compressed(r, status, content_type, body);

    if (resp == NULL)
        resp = http_make_response(r->server, &r->out_headers, status, content_type, body);
    deliver(r, status, resp);
}

void
http_respond_taking(http_request *r, int status, const char *content_type, ps_buf *body)
{
    struct MHD_Response *resp = NULL;

    if (!body->failed) {
        resp = make_compressed(r, status, content_type, ps_buf_str(body));
        if (resp == NULL) {
            resp = make_taking(r, status, content_type, ps_buf_str(body));
            if (body->len > 0) /* taken */
                ps_buf_init(body, &ps_malloc);
        }
    }
    ps_buf_done(body);
    ps_buf_init(body, &ps_malloc);
    deliver(r, status, resp);
}

void
http_refuse(http_request *r, int status, const char *text)
{
    snprintf(r->refusal, sizeof(r->refusal), "%s\n", text);
    r->answered = true;
    r->status = status;
    r->answer = http_make_response(r->server, &r->out_headers, status, "text/plain; charset=utf-8",
                                   ps_str_c(r->refusal));
    route_metrics_refused(r->server->metrics, status);
}

static const char *
reason(int status)
{
    switch (status) {
    case 400:
        return "Bad Request";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 413:
        return "Content Too Large";
    default:
        return "Service Unavailable";
    }
}

/*
 * In the middle of a body the library cannot answer. A client that learns of its 413 only by a reset
 * connection takes it for a network error and sends the same again for ever, so the answer is written
 * to the socket at once, and what still comes is read and thrown away for a while.
 */
void
http_send_raw(http_request *r)
{
    char text[768];
    int len = snprintf(
        text, sizeof(text),
        "HTTP/1.1 %d %s\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\n"
        "Content-Length: %zu\r\n%s\r\n%s",
        r->status, reason(r->status), strlen(r->refusal),
        r->status == 503 ? "Retry-After: 1\r\n" : "", r->refusal);

    r->raw_answered = true;
    ssize_t sent;
    do
        sent = send(r->conn->fd, text, (size_t)len, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (sent < 0 && errno == EINTR); /* a client that is gone notices nothing anyway */
    pthread_mutex_lock(&r->server->lock);
    int64_t soon = http_now_ms() + LINGER_MS;
    if (r->conn->deadline_ms > soon)
        r->conn->deadline_ms = soon;
    pthread_mutex_unlock(&r->server->lock);
}

void
http_set_header(http_request *r, const char *name, const char *value)
{
    (void)http_pairs_add(r, &r->out_headers, ps_str_c(name), ps_str_c(value));
}

void
http_respond_text(http_request *r, int status, const char *fmt, ...)
{
    ps_buf text;
    va_list ap;
    char line[4096];

    va_start(ap, fmt);
    int len = vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    size_t shown = len < 0 ? 0 : (size_t)len < sizeof(line) ? (size_t)len : sizeof(line) - 1;
    ps_buf_init(&text, &ps_malloc);
    ps_buf_add(&text, line, ps_utf8_prefix((ps_str){line, shown}, shown));
    ps_buf_add_char(&text, '\n');
    http_respond(r, status, "text/plain; charset=utf-8", ps_buf_str(&text));
    ps_buf_done(&text);
}

static void
add_json_text(ps_buf *out, const char *text)
{
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        if (*p == '"' || *p == '\\') {
            ps_buf_add_char(out, '\\');
            ps_buf_add_char(out, (char)*p);
        } else if (*p < 0x20 || *p == '<' || *p == '>' || *p == '&') {
            ps_buf_addf(out, "\\u%04x", *p);
        } else {
            ps_buf_add_char(out, (char)*p);
        }
    }
}

void
http_respond_api_error(http_request *r, int status, const char *error_type, const char *fmt, ...)
{
    char message[2048];
    ps_buf out;
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(message, sizeof(message), fmt, ap);
    va_end(ap);
    ps_buf_init(&out, &ps_malloc);
    ps_buf_add_c(&out, "{\"status\":\"error\",\"errorType\":\"");
    add_json_text(&out, error_type);
    ps_buf_add_c(&out, "\",\"error\":\"");
    add_json_text(&out, message);
    ps_buf_add_c(&out, "\"}");
    http_set_header(r, "Cache-Control", "no-store");
    http_respond(r, status, "application/json", ps_buf_str(&out));
    ps_buf_done(&out);
}
