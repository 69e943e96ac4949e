/*
 * doorman.c - one thread at the door: accepts, closes who is too slow, notices who has left.
 *
 * The library knows idle time-outs only (one byte a second lives for ever), does not watch suspended
 * connections, and can be told to stop accepting only by a call that may abort the process when a
 * thread is at its connection limit. So connections are accepted here and handed in; and several times
 * a second all of them are looked at. The sockets are the library's: a connection is ended by
 * shutdown(2), never by close(2), and only under the lock that guards its being open.
 *
 * The kernel tells through TCP_INFO what the library does not: how many bytes have come (so that the
 * deadline of a request's head starts at its first byte also on a kept-alive connection) and whether
 * the peer has closed.
 */
#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "connector/http/internal.h"

enum {
    ACCEPT_BURST = 64,
    TICK_MAX_MS = 250,
    TICK_MIN_MS = 10,
    EVICT_IDLE_MS =
        1000, /* idle connections younger than this are not taken away from their clients */
    PEER_CHECK_MS = 500, /* in one state at least this long before the peer is looked at */
    TCP_STATE_CLOSE = 7,
    TCP_STATE_CLOSE_WAIT = 8
};

int64_t
http_now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static bool
tcp_info_of(int fd, struct tcp_info *ret)
{
    socklen_t len = sizeof(*ret);

    memset(ret, 0, sizeof(*ret));
    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, ret, &len) == 0;
}

uint64_t
http_bytes_received(int fd)
{
    struct tcp_info info;

    return tcp_info_of(fd, &info) ? info.tcpi_bytes_received : 0;
}

void
http_doorman_wake(http_server *s)
{
    uint64_t one = 1;
    ssize_t done = write(s->wake_fd, &one, sizeof(one));

    (void)done; /* the counter is at its maximum: it is awake already */
}

/* ---- deadlines and hang-ups, under the lock -------------------------------------------------- */

static void
end_conn(http_conn *c)
{
    c->was_shut = true;
    shutdown(c->fd, SHUT_RDWR);
}

/*
 * The peer has closed. While a handler works the library does not look, so the request is told. At
 * other times the library may have missed it: it waits for edges, and takes a short read for a drained
 * socket, so an end that came together with the last bytes is seen only after another edge. Shutting
 * our reading side gives that edge and loses nothing: bytes that have come can still be read.
 */
static void
peer_has_closed(http_server *s, http_conn *c)
{
    if (c->state != CONN_WORK) {
        shutdown(c->fd, SHUT_RD);
    } else if (c->request != NULL && !atomic_load(&c->request->client_gone)) {
        route_metrics_gone(s->metrics);
        atomic_store(&c->request->client_gone, true);
    }
}

static void
look_at(http_server *s, http_conn *c, int64_t now)
{
    struct tcp_info info;

    if (c->was_shut)
        return;
    bool known = now - c->since_ms >= PEER_CHECK_MS || c->state == CONN_IDLE;
    known = known && tcp_info_of(c->fd, &info);
    if (known && c->state == CONN_IDLE && !c->head_begun &&
        info.tcpi_bytes_received > c->bytes_mark) {
        c->head_begun = true;
        if (c->deadline_ms > now + s->head_timeout_ms)
            c->deadline_ms = now + s->head_timeout_ms;
    }
    if (now >= c->deadline_ms) {
        if (c->state != CONN_IDLE || c->head_begun)
            route_metrics_timeout(s->metrics, c->state);
        end_conn(c);
    } else if (known && c->state != CONN_SEND &&
               (info.tcpi_state == TCP_STATE_CLOSE || info.tcpi_state == TCP_STATE_CLOSE_WAIT)) {
        peer_has_closed(s, c);
    }
}

static void
look_at_all(http_server *s)
{
    int64_t now = http_now_ms();

    pthread_mutex_lock(&s->lock);
    for (http_conn *c = s->conns; c != NULL; c = c->next)
        look_at(s, c, now);
    pthread_mutex_unlock(&s->lock);
}

/* Full: a connection that idles between requests makes room for a client that waits. */
static void
evict_idle(http_server *s)
{
    http_conn *oldest = NULL;
    int64_t now = http_now_ms();

    pthread_mutex_lock(&s->lock);
    for (http_conn *c = s->conns; c != NULL; c = c->next) {
        bool idle = c->state == CONN_IDLE && !c->was_shut && now - c->since_ms >= EVICT_IDLE_MS;
        if (idle && (oldest == NULL || c->since_ms < oldest->since_ms))
            oldest = c;
    }
    if (oldest != NULL)
        end_conn(oldest);
    pthread_mutex_unlock(&s->lock);
}

/* ---- accepting ------------------------------------------------------------------------------- */

static bool
is_full(http_server *s)
{
    pthread_mutex_lock(&s->lock);
    bool full = http_n_taken(s) >= s->max_connections;
    pthread_mutex_unlock(&s->lock);
    return full;
}

/* False: wait for the next tick before trying again. */
static bool
accept_some(http_server *s)
{
    for (int i = 0; i < ACCEPT_BURST; i++) {
        struct sockaddr_storage sa;
        socklen_t len = sizeof(sa);
        if (is_full(s)) {
            evict_idle(s);
            return false;
        }
        int fd = accept4(s->listen_fd, (struct sockaddr *)&sa, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
            continue;
        if (fd < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return true;
        if (fd < 0) {
            log_limited(s->log, LOG_WARN, 60000, "cannot accept connections",
                        (const log_field[]){LOG_STR("error", strerror(errno))}, 1);
            return false;
        }
        if (MHD_add_connection(s->daemon, fd, (struct sockaddr *)&sa, len) != MHD_YES) {
            log_limited(s->log, LOG_WARN, 60000, "a connection could not be taken", NULL, 0);
            continue;
        }
        pthread_mutex_lock(&s->lock);
        s->n_handed++;
        pthread_mutex_unlock(&s->lock);
    }
    return true;
}

static int
tick_ms(const http_server *s)
{
    int64_t tick = s->head_timeout_ms;

    if (s->body_timeout_ms < tick)
        tick = s->body_timeout_ms;
    if (s->idle_timeout_ms < tick)
        tick = s->idle_timeout_ms;
    tick /= 10;
    return (int)(tick < TICK_MIN_MS ? TICK_MIN_MS : tick > TICK_MAX_MS ? TICK_MAX_MS : tick);
}

void *
http_doorman_main(void *server)
{
    http_server *s = server;
    int64_t tick = tick_ms(s), next = http_now_ms() + tick;
    bool accepting = true;

    for (;;) {
        pthread_mutex_lock(&s->lock);
        bool stop = s->doorman_stop;
        pthread_mutex_unlock(&s->lock);
        if (stop)
            break;
        if (atomic_load(&s->quiesced) && s->listen_fd >= 0) {
            close(s->listen_fd);
            s->listen_fd = -1;
        }
        struct pollfd fds[2] = {{.fd = s->wake_fd, .events = POLLIN},
                                {.fd = accepting ? s->listen_fd : -1, .events = POLLIN}};
        int64_t wait = next - http_now_ms();
        (void)poll(fds, 2, (int)(wait > 0 ? wait : 0));
        if (fds[0].revents & POLLIN) {
            uint64_t n;
            ssize_t done = read(s->wake_fd, &n, sizeof(n));
            (void)done;
            accepting = true;
        }
        if (accepting && s->listen_fd >= 0 && (fds[1].revents & POLLIN))
            accepting = accept_some(s);
        if (http_now_ms() >= next) {
            look_at_all(s);
            next = http_now_ms() + tick;
            accepting = true;
        }
    }
    if (s->listen_fd >= 0)
        close(s->listen_fd);
    s->listen_fd = -1;
    return NULL;
}
