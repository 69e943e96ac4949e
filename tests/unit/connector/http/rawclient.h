/*
 * rawclient.h - a client that can misbehave: sockets, bytes as written in the test, answers read whole;
 * and a server with a few handlers to talk to.
 */
#ifndef PROMSCALE_TESTS_HTTP_RAWCLIENT_H
#define PROMSCALE_TESTS_HTTP_RAWCLIENT_H

#include "tests/unit/support.h"

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "connector/http/http.h"

/* ---- time and sockets ------------------------------------------------------------------------ */

static inline int64_t
rc_now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static inline void
rc_sleep_ms(int ms)
{
    usleep((useconds_t)ms * 1000);
}

static inline int
rc_connect_port(int port)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct timeval limit = {.tv_sec = 60};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_true(fd >= 0);
    sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

/* False if the server has closed. */
static inline bool
rc_send(int fd, const void *bytes, size_t len)
{
    const char *p = bytes;
    while (len > 0) {
        ssize_t n = send(fd, p, len, MSG_NOSIGNAL);
        if (n <= 0)
            return false;
        p += n;
        len -= (size_t)n;
    }
    return true;
}

static inline bool
rc_send_c(int fd, const char *text)
{
    return rc_send(fd, text, strlen(text));
}

/* ---- answers --------------------------------------------------------------------------------- */

typedef struct rc_answer {
    int status;      /* 0: the connection ended before an answer */
    char head[4096]; /* NUL-terminated */
    char *body;      /* malloc, NUL-terminated */
    size_t body_len;
} rc_answer;

static inline void
rc_done(rc_answer *a)
{
    free(a->body);
    a->body = NULL;
}

/* Reads one answer and nothing beyond it. no_body: the request was HEAD. */
static inline rc_answer
rc_read(int fd, bool no_body)
{
    rc_answer a = {.status = 0};
    size_t n = 0;

    while (n < sizeof(a.head) - 1) {
        ssize_t got = recv(fd, a.head + n, 1, 0);
        if (got <= 0)
            return a;
        n++;
        if (n >= 4 && memcmp(a.head + n - 4, "\r\n\r\n", 4) == 0)
            break;
    }
    a.head[n] = 0;
    assert_int_equal(sscanf(a.head, "HTTP/1.1 %d", &a.status), 1);
    const char *cl = strcasestr(a.head, "\r\nContent-Length: ");
    size_t len = cl ? strtoul(cl + 18, NULL, 10) : 0;
    if (no_body || a.status == 204 || a.status / 100 == 1)
        len = 0;
    a.body = calloc(1, len + 1);
    while (a.body_len < len) {
        ssize_t got = recv(fd, a.body + a.body_len, len - a.body_len, 0);
        if (got <= 0) {
            a.status = 0;
            break;
        }
        a.body_len += (size_t)got;
    }
    return a;
}

static inline bool
rc_has_header(const rc_answer *a, const char *line)
{
    char text[256];
    snprintf(text, sizeof(text), "\r\n%s\r\n", line);
    return strcasestr(a->head, text) != NULL;
}

/* Sends text, expects this status, drops the rest. */
static inline void
rc_expect(int fd, const char *text, int status)
{
    if (!rc_send_c(fd, text))
        fail_msg("cannot send: %.60s", text);
    rc_answer a = rc_read(fd, strncmp(text, "HEAD", 4) == 0);
    if (a.status != status)
        fail_msg("%.60s: status %d instead of %d", text, a.status, status);
    rc_done(&a);
}

/* Milliseconds until the server closes. */
static inline int64_t
rc_wait_closed(int fd)
{
    int64_t begun = rc_now_ms();
    char c;
    ssize_t n;
    while ((n = recv(fd, &c, 1, 0)) > 0) {
    }
    assert_true(n == 0 || errno == ECONNRESET);
    return rc_now_ms() - begun;
}

/* ---- the server under test ------------------------------------------------------------------- */

enum { RC_HELD = 512 };

typedef struct rc_server {
    http_server *http;
    logger *log;
    metrics *metrics;
    int port;
    pthread_mutex_t lock;
    http_request *held[RC_HELD];
    size_t n_held;
    size_t n_streams; /* ended */
    ps_status stream; /* how the last one did */
    int64_t stream_ended_ms;
    atomic_bool stream_stop; /* what polls of streams answer */
} rc_server;

static inline void
rc_echo(http_request *r, void *self)
{
    (void)self;
    http_respond(r, 200, "application/octet-stream", http_body(r));
}

typedef struct rc_late {
    http_request *r;
    int ms;
} rc_late;

static inline void *
rc_late_main(void *self)
{
    rc_late *l = self;
    ps_str q = {"", 0};
    rc_sleep_ms(l->ms);
    http_query(l->r, "n", &q);
    http_respond_text(l->r, 200, "%.*s", (int)q.len, q.ptr);
    free(l);
    return NULL;
}

/* Answered from a thread of its own after ?ms= */
static inline void
rc_later(http_request *r, void *self)
{
    rc_late *l = malloc(sizeof(*l));
    ps_str ms = PS_STR("0");
    int64_t v = 0;
    pthread_t t;
    (void)self;
    http_query(r, "ms", &ms);
    (void)!ps_parse_i64(ms, &v);
    *l = (rc_late){r, (int)v};
    assert_int_equal(pthread_create(&t, NULL, rc_late_main, l), 0);
    pthread_detach(t);
}

/* Kept until rc_release. */
static inline void
rc_hold(http_request *r, void *self)
{
    rc_server *s = self;
    pthread_mutex_lock(&s->lock);
    assert_true(s->n_held < RC_HELD);
    s->held[s->n_held++] = r;
    pthread_mutex_unlock(&s->lock);
}

static inline size_t
rc_held(rc_server *s)
{
    pthread_mutex_lock(&s->lock);
    size_t n = s->n_held;
    pthread_mutex_unlock(&s->lock);
    return n;
}

static inline void
rc_wait_held(rc_server *s, size_t n)
{
    for (int i = 0; i < 12000 && rc_held(s) < n; i++)
        rc_sleep_ms(5);
    assert_int_equal(rc_held(s), n);
}

static inline void
rc_release(rc_server *s)
{
    pthread_mutex_lock(&s->lock);
    while (s->n_held > 0)
        http_respond_text(s->held[--s->n_held], 200, "released");
    pthread_mutex_unlock(&s->lock);
}

/* What the handler can see: path, header X-Test, parameter q. */
static inline void
rc_show(http_request *r, void *self)
{
    ps_str x = PS_STR("-"), q = PS_STR("-"), path = http_path(r);
    (void)self;
    http_header(r, "x-test", &x);
    http_query(r, "q", &q);
    http_set_header(r, "X-Own", "yes");
    http_respond_text(r, 200, "%.*s|%.*s|%.*s", (int)path.len, path.ptr, (int)x.len, x.ptr,
                      (int)q.len, q.ptr);
}

/* As many bytes of text as parameter n says, made to shrink well; q=json: as JSON, q=bytes: as bytes. */
static inline void
rc_long(http_request *r, void *self)
{
    ps_str n = PS_STR("2000"), q = PS_STR("");
    int64_t bytes = 0;
    ps_buf out;
    (void)self;
    http_query(r, "n", &n);
    assert_int_equal(ps_parse_i64(n, &bytes), PS_OK);
    http_query(r, "q", &q);
    ps_buf_init(&out, &ps_malloc);
    for (size_t i = 0; out.len < (size_t)bytes; i++)
        ps_buf_addf(&out, "%zu,", i % 1000);
    http_respond_taking(r, 200,
                        q.len == 0        ? "text/plain"
                        : q.ptr[0] == 'j' ? "application/json"
                                          : "application/octet-stream",
                        &out);
    assert_int_equal(out.len, 0);
}

typedef struct rc_maker {
    rc_server *s;
    http_request *r;
    size_t n, piece;
    int ms;
    bool complete;
} rc_maker;

static inline ps_status
rc_poll(void *self)
{
    rc_server *s = self;
    return atomic_load(&s->stream_stop) ? PS_ETIMEOUT : PS_OK;
}

static inline void *
rc_stream_main(void *self)
{
    rc_maker *m = self;
    rc_server *s = m->s;
    char *piece = malloc(m->piece);
    ps_status status = PS_OK;
    http_stream *stream = http_respond_stream(m->r, 200, "application/x-stream");
    assert_non_null(stream);
    for (size_t at = 0; at < m->n && status == PS_OK; at += m->piece) {
        size_t n = m->n - at < m->piece ? m->n - at : m->piece;
        for (size_t i = 0; i < n; i++)
            piece[i] = (char)((at + i) % 251);
        if (m->ms > 0)
            rc_sleep_ms(m->ms);
        status = http_stream_write(stream, (ps_str){piece, n}, rc_poll, s);
    }
    http_stream_end(stream, m->complete && status == PS_OK);
    free(piece);
    pthread_mutex_lock(&s->lock);
    s->stream = status;
    s->stream_ended_ms = rc_now_ms();
    s->n_streams++;
    pthread_mutex_unlock(&s->lock);
    free(m);
    return NULL;
}

static inline size_t
rc_number(http_request *r, const char *name, size_t absent)
{
    ps_str text;
    int64_t v;
    return http_query(r, name, &text) && ps_parse_i64(text, &v) == PS_OK ? (size_t)v : absent;
}

/* n bytes in pieces of so many, each after ms; cut=1: and then cut off. */
static inline void
rc_stream(http_request *r, void *self)
{
    rc_maker *m = malloc(sizeof(*m));
    pthread_t t;
    *m = (rc_maker){.s = self,
                    .r = r,
                    .n = rc_number(r, "n", 0),
                    .piece = rc_number(r, "piece", 1000),
                    .ms = (int)rc_number(r, "ms", 0),
                    .complete = rc_number(r, "cut", 0) == 0};
    assert_int_equal(pthread_create(&t, NULL, rc_stream_main, m), 0);
    pthread_detach(t);
}

/* Until so many streams have ended. */
static inline void
rc_wait_streams(rc_server *s, size_t n)
{
    size_t ended = 0;
    for (int i = 0; i < 2000 && ended < n; i++) {
        pthread_mutex_lock(&s->lock);
        ended = s->n_streams;
        pthread_mutex_unlock(&s->lock);
        rc_sleep_ms(ended < n ? 5 : 0);
    }
    assert_int_equal(ended, n);
}

static inline double
rc_metric(rc_server *s, const char *line)
{
    ps_buf out;
    double v = 0;
    ps_buf_init(&out, &ps_malloc);
    metrics_render(s->metrics, &out);
    ps_buf_add_char(&out, 0);
    for (const char *p = out.ptr; (p = strchr(p, '\n')) != NULL;) {
        p++;
        if (strncmp(p, line, strlen(line)) == 0)
            v = strtod(p + strlen(line), NULL);
    }
    ps_buf_done(&out);
    return v;
}

/* base: time-outs and limits; the rest is filled in. */
static inline void
rc_start(rc_server *s, http_server_config base)
{
    const http_route routes[] = {
        {"/echo", HTTP_POST | HTTP_PUT, rc_echo, s, 1 << 20, false},
        {"/tiny", HTTP_POST, rc_echo, s, 1000, false},
        {"/later", HTTP_GET | HTTP_POST, rc_later, s, 1 << 20, false},
        {"/hold", HTTP_GET | HTTP_POST, rc_hold, s, 1 << 20, false},
        {"/show", HTTP_GET, rc_show, s, 0, false},
        {"/under/*", HTTP_GET, rc_show, s, 0, false},
        {"/under/deep/*", HTTP_GET | HTTP_DELETE, rc_show, s, 0, false},
        {"/api/long", HTTP_GET, rc_long, s, 0, true},
        {"/stream", HTTP_GET, rc_stream, s, 0, false},
    };
    ps_err err;

    memset(s, 0, sizeof(*s));
    pthread_mutex_init(&s->lock, NULL);
    assert_int_equal(log_new(2, "logfmt", "error", &s->log, &err), PS_OK);
    s->metrics = metrics_new();
    base.listen_address = "127.0.0.1:0";
    base.max_connections = base.max_connections ? base.max_connections : 512;
    base.head_timeout_ms = base.head_timeout_ms ? base.head_timeout_ms : 10000;
    base.body_timeout_ms = base.body_timeout_ms ? base.body_timeout_ms : 20000;
    base.idle_timeout_ms = base.idle_timeout_ms ? base.idle_timeout_ms : 20000;
    base.body_pool_bytes = base.body_pool_bytes ? base.body_pool_bytes : 64 << 20;
    base.routes = routes;
    base.n_routes = PS_ARRAY_LEN(routes);
    base.log = s->log;
    base.metrics = s->metrics;
    if (http_server_start(&base, &s->http, &err) != PS_OK)
        fail_msg("%s", err.text);
    s->port = (int)strtol(strrchr(http_server_address(s->http), ':') + 1, NULL, 10);
}

static inline int
rc_connect(rc_server *s)
{
    int fd = rc_connect_port(s->port);
    assert_true(fd >= 0);
    return fd;
}

static inline void
rc_stop(rc_server *s)
{
    http_server_stop(s->http, 5000);
    metrics_free(s->metrics);
    log_free(s->log);
    pthread_mutex_destroy(&s->lock);
}

#endif
