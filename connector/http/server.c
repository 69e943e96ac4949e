/*
 * server.c - start, quiesce, stop.
 *
 * Stopping has an order that the library insists on: no connection may be suspended when its daemon
 * ends. So: no new requests (quiesce), wait for the answers, answer 503 to those that stay out, wait
 * until the last bytes are sent, end the doorman, close what is still open, end the daemon.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "connector/http/internal.h"

enum {
    IO_THREADS = 2,
    CONN_MEMORY = 64 * 1024,
    LIBRARY_MAX_CONNS = 1 << 24,
    SEND_GRACE_MS = 1000,
    CLOSE_MS = 1000
};

static void
server_free(http_server *s)
{
    if (s->listen_fd >= 0)
        close(s->listen_fd);
    if (s->wake_fd >= 0)
        close(s->wake_fd);
    for (size_t i = 0; i < s->n_routes; i++)
        free((void *)s->routes[i].path);
    free(s->routes);
    re_free(s->origins);
    route_metrics_free(s->metrics);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

void
http_server_unref(http_server *s)
{
    pthread_mutex_lock(&s->lock);
    bool last = --s->refs == 0;
    pthread_mutex_unlock(&s->lock);
    if (last)
        server_free(s);
}

/* ---- start ----------------------------------------------------------------------------------- */

static void log_library(void *self, const char *fmt, va_list ap) PS_PRINTF(2, 0);

static void
log_library(void *self, const char *fmt, va_list ap)
{
    http_server *s = self;
    char text[512];

    int len = vsnprintf(text, sizeof(text), fmt, ap);
    while (len > 0 && (size_t)len < sizeof(text) && text[len - 1] == '\n')
        text[--len] = 0;
    log_limited(s->log, LOG_DEBUG, 1000, "http library", (const log_field[]){LOG_STR("text", text)},
                1);
}

/* The library would decode in place; paths and queries are decoded by head.c. */
static size_t
leave_escaped(void *self, struct MHD_Connection *c, char *text)
{
    (void)self, (void)c;
    return strlen(text);
}

static http_server *
server_new(const http_server_config *config)
{
    http_server *s = calloc(1, sizeof(*s));
    pthread_condattr_t attr;

    if (s == NULL)
        return NULL;
    s->refs = 1;
    s->listen_fd = s->wake_fd = -1;
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->changed, &attr);
    pthread_condattr_destroy(&attr);
    s->max_connections = config->max_connections;
    s->head_timeout_ms = config->head_timeout_ms;
    s->body_timeout_ms = config->body_timeout_ms;
    s->idle_timeout_ms = config->idle_timeout_ms;
    s->body_pool_bytes = config->body_pool_bytes;
    s->log = config->log;
    atomic_store(&s->next_id, 1);
    s->routes = calloc(config->n_routes ? config->n_routes : 1, sizeof(*s->routes));
    for (size_t i = 0; s->routes != NULL && i < config->n_routes; i++) {
        char *path = strdup(config->routes[i].path);
        if (path == NULL)
            break;
        s->routes[i] = config->routes[i];
        s->routes[i].path = path;
        s->n_routes++;
    }
    s->metrics = route_metrics_new(config->metrics, s->routes, s->n_routes);
    if (s->routes == NULL || s->n_routes < config->n_routes || s->metrics == NULL) {
        server_free(s);
        return NULL;
    }
    return s;
}

static struct MHD_Daemon *
start_daemon(http_server *s)
{
    const unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_NO_LISTEN_SOCKET |
                           MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC | MHD_USE_ERROR_LOG;

    /* The limit on connections is the doorman's, and the library's is never met: it would split it between its
     * threads, and one that meets it (libmicrohttpd 0.9.75, new_connection_process_) keeps a lock for ever. */
    return MHD_start_daemon(flags, 0, NULL, NULL, http_on_access, s, MHD_OPTION_EXTERNAL_LOGGER,
                            log_library, s, MHD_OPTION_THREAD_POOL_SIZE, (unsigned)IO_THREADS,
                            MHD_OPTION_CONNECTION_LIMIT, (unsigned)LIBRARY_MAX_CONNS,
                            MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONN_MEMORY,
                            MHD_OPTION_CONNECTION_TIMEOUT, 0u, MHD_OPTION_STRICT_FOR_CLIENT, 1,
                            MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_UNESCAPE_CALLBACK,
                            leave_escaped, NULL, MHD_OPTION_NOTIFY_CONNECTION, http_on_connection,
                            s, MHD_OPTION_URI_LOG_CALLBACK, http_on_request_line, s,
                            MHD_OPTION_NOTIFY_COMPLETED, http_on_completed, s, MHD_OPTION_END);
}

ps_status
http_server_start(const http_server_config *config, http_server **ret, ps_err *err)
{
    http_server *s = server_new(config);
    ps_status st = s ? PS_OK : ps_fail(err, PS_ENOMEM, "no memory for the HTTP server");

    if (st == PS_OK)
        st = http_cors_start(s, config->cors_origin, err);
    if (st == PS_OK)
        st =
            http_listen(config->listen_address, &s->listen_fd, s->address, sizeof(s->address), err);
    if (st == PS_OK && (s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0)
        st = ps_fail(err, PS_EUNAVAILABLE, "no event descriptor for the HTTP server: %s",
                     strerror(errno));
    if (st == PS_OK && (s->daemon = start_daemon(s)) == NULL)
        st = ps_fail(err, PS_EUNAVAILABLE, "the HTTP server's threads cannot be started");
    if (st == PS_OK && pthread_create(&s->doorman, NULL, http_doorman_main, s) != 0)
        st = ps_fail(err, PS_EUNAVAILABLE, "the HTTP server's threads cannot be started");
    if (st != PS_OK) {
        if (s != NULL && s->daemon != NULL)
            MHD_stop_daemon(s->daemon);
        if (s != NULL)
            server_free(s);
        return st;
    }
    s->doorman_runs = true;
    *ret = s;
    return PS_OK;
}

const char *
http_server_address(const http_server *s)
{
    return s->address;
}

/* ---- stop ------------------------------------------------------------------------------------ */

void
http_server_quiesce(http_server *s)
{
    pthread_mutex_lock(&s->lock);
    atomic_store(&s->quiesced, true);
    pthread_mutex_unlock(&s->lock);
    http_doorman_wake(s);
}

size_t
http_server_open_requests(http_server *s)
{
    pthread_mutex_lock(&s->lock);
    size_t n = s->n_open;
    pthread_mutex_unlock(&s->lock);
    return n;
}

static struct timespec
at_ms(int64_t ms)
{
    return (struct timespec){.tv_sec = ms / 1000, .tv_nsec = (ms % 1000) * 1000000};
}

/* Under the lock; until no request is open, or the time has come. */
static void
wait_for_requests(http_server *s, int64_t until_ms)
{
    struct timespec until = at_ms(until_ms);

    while (s->n_open > 0 && http_now_ms() < until_ms) {
        if (pthread_cond_timedwait(&s->changed, &s->lock, &until) == ETIMEDOUT)
            return;
    }
}

static bool
any_in_work(const http_server *s)
{
    for (const http_conn *c = s->conns; c != NULL; c = c->next) {
        if (c->state == CONN_WORK)
            return true;
    }
    return false;
}

/* Under the lock: 503 to all that wait for a handler, also to those that a handler is just handing on. */
static void
answer_the_rest(http_server *s)
{
    while (any_in_work(s)) {
        for (http_conn *c = s->conns; c != NULL; c = c->next) {
            http_request *r = c->request;
            if (r != NULL && r->stream != NULL)
                http_stream_lose(r->stream);
            if (c->state != CONN_WORK || r == NULL || r->stage != STAGE_SUSPENDED || r->answered)
                continue;
            r->answered = true;
            r->status = 503;
            r->answer = http_make_response(s, NULL, 503, "text/plain; charset=utf-8",
                                           PS_STR("the server is shutting down\n"));
            MHD_resume_connection(r->mhd);
        }
        struct timespec soon = at_ms(http_now_ms() + 10);
        pthread_cond_timedwait(&s->changed, &s->lock, &soon);
    }
}

/*
 * After the doorman: nobody comes any more, and the library sees the end of everybody who is there before
 * it is told to end. Told first, it would fail on a request that it refuses itself at that moment: its
 * answer is then refused as well, and it goes on without one and crashes. On a busy machine that takes
 * its time: CLOSE_MS pass only while nobody leaves.
 */
static void
close_all(http_server *s)
{
    int64_t until = 0, least = INT64_MAX;

    pthread_mutex_lock(&s->lock);
    while (http_n_taken(s) > 0) {
        if (http_n_taken(s) < least) {
            least = http_n_taken(s);
            until = http_now_ms() + CLOSE_MS;
        } else if (http_now_ms() >= until) {
            break;
        }
        for (http_conn *c = s->conns; c != NULL; c = c->next)
            shutdown(c->fd, SHUT_RDWR);
        struct timespec soon = at_ms(http_now_ms() + 10);
        pthread_cond_timedwait(&s->changed, &s->lock, &soon);
    }
    pthread_mutex_unlock(&s->lock);
}

void
http_server_stop(http_server *s, int64_t timeout_ms)
{
    if (s == NULL)
        return;
    http_server_quiesce(s);
    pthread_mutex_lock(&s->lock);
    wait_for_requests(s, http_now_ms() + timeout_ms);
    answer_the_rest(s);
    wait_for_requests(s, http_now_ms() + SEND_GRACE_MS);
    s->doorman_stop = true;
    pthread_mutex_unlock(&s->lock);
    http_doorman_wake(s);
    if (s->doorman_runs)
        pthread_join(s->doorman, NULL);
    close_all(s);
    MHD_stop_daemon(s->daemon);
    http_server_unref(s);
}
