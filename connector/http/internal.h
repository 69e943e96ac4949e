/*
 * internal.h - what the files of connector/http share. The only header that knows the HTTP library.
 *
 * Who owns what: a connection (http_conn) belongs to the library's thread that serves it and is freed
 * when the library says that it is closed. A request is a copy of everything a handler may ask for, so
 * it depends on the connection in nothing: it is freed when both sides, the library and the handler,
 * have let go (refs). The server is freed when it was stopped and the last request is answered.
 *
 * One lock per server guards connections, request states and counters; it is held for nanoseconds and
 * taken before any lock of the library, never inside one (the library calls back without its locks).
 */
#ifndef PROMSCALE_CONNECTOR_HTTP_INTERNAL_H
#define PROMSCALE_CONNECTOR_HTTP_INTERNAL_H

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>

#include "connector/http/http.h"
#include "lib/regex/regex.h"

#define NO_DEADLINE INT64_MAX

typedef enum conn_state {
    CONN_FRESH, /* accepted, no request yet */
    CONN_IDLE,  /* kept alive between requests */
    CONN_HEAD,  /* first line of a request seen */
    CONN_BODY,  /* head complete, body arriving */
    CONN_WORK,  /* with the handler */
    CONN_SEND   /* answer going out */
} conn_state;

typedef struct http_conn {
    struct http_conn *prev, *next;
    http_request *request; /* the current one, NULL between requests */
    int fd; /* open as long as this struct exists; only shutdown(2) is ours, never close */
    conn_state state;
    int64_t since_ms;    /* in this state */
    int64_t deadline_ms; /* monotonic; NO_DEADLINE */
    uint64_t bytes_mark; /* received by the kernel when it became idle; more: a head has begun */
    bool head_begun;
    bool was_shut;
} http_conn;

typedef enum request_stage {
    STAGE_NEW,       /* first line seen */
    STAGE_BODY,      /* head accepted, body arriving */
    STAGE_REFUSED,   /* answered by the server itself; what remains of the body is thrown away */
    STAGE_HANDLER,   /* inside the handler, on the library's thread */
    STAGE_SUSPENDED, /* the handler returned without an answer */
    STAGE_SENDING
} request_stage;

typedef struct http_pair {
    ps_str name, value;
} http_pair;

typedef struct http_pairs {
    http_pair *items;
    size_t n, cap;
} http_pairs;

struct http_request {
    http_server *server;
    http_conn *conn;            /* NULL once the library has let go */
    struct MHD_Connection *mhd; /* the same */
    int refs;                   /* guarded by the server's lock */
    request_stage stage;        /* written on the library's thread under the lock */
    atomic_bool client_gone;
    const http_route *route; /* NULL before routing */
    unsigned method;
    http_identity identity;
    int64_t begun_ms; /* head complete */

    ps_arena arena;
    ps_str raw_uri, path;
    http_pairs headers, query, out_headers;

    char *body;
    size_t body_len, body_cap, body_reserved;
    size_t content_length; /* SIZE_MAX: chunked */
    size_t discarded;
    char refusal[300]; /* the text of the server's own answer */
    bool raw_answered; /* an answer was written past the library; close when the body has ended */

    bool answered; /* guarded by the lock; exactly one answer */
    int status;
    http_stream *stream; /* it is sent while it is made; lives as long as the answer */
    struct MHD_Response *answer; /* NULL although answered: no memory, close */
};

typedef struct route_metrics route_metrics;

struct http_server {
    pthread_mutex_t lock;
    pthread_cond_t changed; /* a request ended or was suspended, a connection ended */
    int refs;               /* 1 while running, and one per unanswered request */

    http_route *routes; /* paths are copies */
    size_t n_routes;
    re_regex *origins; /* who may call; NULL: nobody from elsewhere */
    bool any_origin;
    int64_t max_connections, head_timeout_ms, body_timeout_ms, idle_timeout_ms, body_pool_bytes;
    logger *log;
    route_metrics *metrics;

    struct MHD_Daemon *daemon;
    int listen_fd; /* -1 after quiesce; the doorman's */
    int wake_fd;   /* eventfd */
    pthread_t doorman;
    bool doorman_runs;
    char address[80];

    http_conn *conns;
    size_t n_conns;
    uint64_t n_handed; /* connections given to the library ... */
    uint64_t n_seen;   /* ... and announced by it, later, on another thread */
    size_t n_open;     /* requests with a complete head that are not ended */
    int64_t body_bytes;
    atomic_bool quiesced; /* 503 to everything new */
    bool doorman_stop;
    atomic_uint_fast64_t next_id;
};

/* Under the lock: connections that the library has, also those that it has not announced yet. */
static inline int64_t
http_n_taken(const http_server *s)
{
    return (int64_t)s->n_conns + (int64_t)(s->n_handed - s->n_seen);
}

int64_t http_now_ms(void);                                                 /* monotonic */
void http_conn_enter(http_conn *c, conn_state state, int64_t deadline_ms); /* under the lock */
/* Bytes that the kernel has received on this connection; 0 if it does not say. */
uint64_t http_bytes_received(int fd);

/* listen.c */
ps_status http_listen(const char *address, int *ret_fd, char *text, size_t cap,
                      ps_err *err) PS_MUST_CHECK;

/* doorman.c: the thread that accepts, watches deadlines and clients that hang up. */
void *http_doorman_main(void *server);
void http_doorman_wake(http_server *s);

/* exchange.c: the library's callbacks. */
void http_on_connection(void *server, struct MHD_Connection *c, void **socket_context,
                        enum MHD_ConnectionNotificationCode code);
void *http_on_request_line(void *server, const char *uri, struct MHD_Connection *c);
enum MHD_Result http_on_access(void *server, struct MHD_Connection *c, const char *url,
                               const char *method, const char *version, const char *data,
                               size_t *size, void **request);
void http_on_completed(void *server, struct MHD_Connection *c, void **request,
                       enum MHD_RequestTerminationCode code);

/* head.c: the request's own copy of its head. */
http_request *http_request_new(http_server *s, http_conn *conn, struct MHD_Connection *mhd,
                               const char *uri);
void http_request_free(http_request *r);
unsigned http_method_of(const char *name);
/* Headers, path, query, length of the body. PS_EINVAL: answer 400 and close. PS_EUNSUPPORTED: 501 and close. */
ps_status http_request_read_head(http_request *r, struct MHD_Connection *c,
                                 ps_err *err) PS_MUST_CHECK;
bool http_pairs_add(http_request *r, http_pairs *pairs, ps_str name, ps_str value); /* copies */

/* head.c: routes */
const http_route *http_route_find(const http_server *s, ps_str path);
void http_route_allow(const http_route *route, char *dst, size_t cap); /* "GET, HEAD" */
bool http_route_allows(const http_route *route, unsigned method);

/* body.c: bodies in memory, all of them together under one limit. */
ps_status http_body_begin(http_request *r) PS_MUST_CHECK; /* ELIMIT: 413, EUNAVAILABLE: 503 */
ps_status http_body_add(http_request *r, const char *data, size_t len) PS_MUST_CHECK;
void http_body_free(http_request *r);

/* compress.c */
/* The coding that the client accepts and that is worth it: "gzip", "deflate", or NULL: as it is. */
const char *http_coding_of(const http_request *r, int status, const char *content_type, size_t len);
/* The body in that coding; *ret is to be freed. PS_ENOMEM. */
ps_status http_compress(const char *coding, ps_str body, ps_str *ret) PS_MUST_CHECK;

/* cors.c */
ps_status http_cors_start(http_server *s, const char *origins, ps_err *err) PS_MUST_CHECK;
/* The headers that a browser asks for, if the request comes from one and its route allows it. */
void http_cors_headers(http_request *r);

/* respond.c */
/* Adds to resp (may be NULL) what all answers need; destroys it and returns NULL if that fails. */
struct MHD_Response *http_dress_response(const http_server *s, struct MHD_Response *resp,
                                         const http_pairs *extra, int status,
                                         const char *content_type);
/* NULL: no memory. extra may be NULL. */
struct MHD_Response *http_make_response(const http_server *s, const http_pairs *extra, int status,
                                        const char *content_type, ps_str body);
/* The server's own answer, whatever the handler does. */
void http_refuse(http_request *r, int status, const char *text);
/* Writes it to the socket past the library, which cannot answer in the middle of a body. */
void http_send_raw(http_request *r);

/* stream.c: nobody reads it any more; under the server's lock. */
void http_stream_lose(http_stream *s);

/* server.c */
void http_server_unref(http_server *s);

/* measure.c */
route_metrics *route_metrics_new(metrics *m, const http_route *routes, size_t n);
void route_metrics_free(route_metrics *rm);
void route_metrics_done(route_metrics *rm, const http_request *r, bool sent);
void route_metrics_gauge_connections(route_metrics *rm, double by);
void route_metrics_gauge_requests(route_metrics *rm, double by);
void route_metrics_timeout(route_metrics *rm, conn_state state);
void route_metrics_gone(route_metrics *rm);
void route_metrics_refused(route_metrics *rm, int status);

#endif
