/*
 * http.h - the HTTP server's face to the rest. No type of the HTTP library is named outside
 * connector/http/.
 *
 * Threads: the server's own threads move bytes only. A handler is called on such a thread once the
 * whole body is there (or the request has none); it must not block. It answers at once or keeps the
 * pointer and has it answered later from any thread: http_respond exactly once per request, also when
 * the client has gone meanwhile. A request and everything borrowed from it live until http_respond.
 */
#ifndef PROMSCALE_CONNECTOR_HTTP_H
#define PROMSCALE_CONNECTOR_HTTP_H

#include "connector/log/log.h"
#include "connector/metrics/metrics.h"
#include "lib/base/base.h"

typedef struct http_server http_server;
typedef struct http_request http_request;

enum {
    HTTP_GET = 1,
    HTTP_HEAD = 2,
    HTTP_POST = 4,
    HTTP_PUT = 8,
    HTTP_OPTIONS = 16,
    HTTP_DELETE = 32
};

typedef void (*http_handler)(http_request *r, void *self);

typedef struct http_route {
    const char *path; /* exact, or a prefix if it ends in "*" */
    unsigned methods; /* other methods: 405 with Allow */
    http_handler handler;
    void *self;
    size_t max_body_bytes; /* 413 beyond it, as soon as it is known */
    bool
        cors; /* scripts of other origins may call it (cors_origin); OPTIONS is answered for them */
} http_route;

typedef struct http_server_config {
    const char *listen_address; /* host:port; port 0 = any (see http_server_address) */
    int64_t max_connections;
    int64_t head_timeout_ms, body_timeout_ms, idle_timeout_ms;
    int64_t body_pool_bytes;  /* all bodies together; beyond it 503 with Retry-After */
    const http_route *routes; /* copied; unknown path: 404 */
    size_t n_routes;
    const char *cors_origin; /* regular expression over whole origins; NULL: none */
    logger *log;
    metrics *metrics;
} http_server_config;

/* Who asks. Tenancy comes later; the fields run through everything from the start. */
typedef struct http_identity {
    uint64_t request_id; /* unique in this process */
    ps_str tenant;       /* "" = no tenant */
} http_identity;

ps_status http_server_start(const http_server_config *config, http_server **ret,
                            ps_err *err) PS_MUST_CHECK;
const char *http_server_address(const http_server *s); /* "127.0.0.1:9201" as really bound */
/* Stops accepting; new requests on open connections get 503. */
void http_server_quiesce(http_server *s);
/* Requests whose head is complete and whose answer is not sent: 0 when drained. */
size_t http_server_open_requests(http_server *s);
/* Waits until all requests are answered (at most timeout_ms; then answers 503 itself), closes. */
void http_server_stop(http_server *s, int64_t timeout_ms);

unsigned http_method(const http_request *r);
ps_str http_path(const http_request *r);                                /* percent-decoded */
bool http_header(const http_request *r, const char *name, ps_str *ret); /* borrows */
bool http_query(const http_request *r, const char *name,
                ps_str *ret); /* first of that name, decoded */
/* The i-th pair of the URL's query, decoded; false beyond the last. */
bool http_query_at(const http_request *r, size_t i, ps_str *ret_name, ps_str *ret_value);
ps_str http_body(const http_request *r);
const http_identity *http_request_identity(const http_request *r);
/* The client has closed its connection (seen within a second): the answer will reach nobody. */
bool http_client_gone(const http_request *r);

/* Before http_respond; name and value are copied. */
void http_set_header(http_request *r, const char *name, const char *value);
/* Copies body. 503 gets "Retry-After: 1" unless set. Texts and JSON go out compressed to those who accept
 * it. */
void http_respond(http_request *r, int status, const char *content_type, ps_str body);
/* The same without copying: takes the bytes of body (made with ps_malloc) and leaves it empty. A body that
 * failed for lack of memory closes the connection. */
void http_respond_taking(http_request *r, int status, const char *content_type, ps_buf *body);
/*
 * The same for an answer that is sent while it is made, by a thread of the handler's. NULL: no memory, and
 * nothing is answered yet. http_stream_write waits while the client does not keep up and then calls poll (may
 * be NULL) ten times a second, to end with what that returns; PS_ECANCELED: nobody reads any more. What was
 * begun is ended exactly once, by http_stream_end, in place of http_respond; not complete: the connection is
 * cut, so that the client knows.
 */
typedef struct http_stream http_stream;
http_stream *http_respond_stream(http_request *r, int status, const char *content_type);
ps_status http_stream_write(http_stream *s, ps_str bytes, ps_status (*poll)(void *self),
                            void *self) PS_MUST_CHECK;
void http_stream_end(http_stream *s, bool complete);
/* Plain text, and the Prometheus JSON error envelope. */
void http_respond_text(http_request *r, int status, const char *fmt, ...) PS_PRINTF(3, 4);
void http_respond_api_error(http_request *r, int status, const char *error_type, const char *fmt,
                            ...) PS_PRINTF(4, 5);
/* The one table from status to HTTP. */
int http_status_of(ps_status status);

#endif
