/*
 * stream.c - answers that are sent while they are made.
 *
 *   maker's thread: http_stream_write -> ring of bytes -> read callback: the library's thread -> socket
 *
 * The ring is small. When it is full the maker waits (and polls whether it should go on); when it is
 * empty the connection is suspended, as it is before an answer, so that the doorman sees a client that
 * leaves; a client that takes nothing runs into the deadline of answers, which each piece that is taken
 * moves. However a stream ends: the maker hears of it from its next write, and must call
 * http_stream_end in any case.
 *
 * The stream dies when both the maker and the library's response have let go. The server's lock is taken
 * before a stream's.
 */
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "connector/http/internal.h"

enum { RING_BYTES = 1 << 20, PIECE_BYTES = 32 << 10, POLL_MS = 100 };

struct http_stream {
    http_request *r;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    int refs;      /* the maker's, the response's */
    bool asleep;   /* the connection is suspended until there are bytes */
    bool lost;     /* nobody reads any more */
    bool ended;    /* by the maker */
    bool complete; /* so ended */
    size_t at, n;  /* bytes to be sent: from `at` on, around the end */
    char ring[RING_BYTES];
};

static void
stream_unref(http_stream *s)
{
    pthread_mutex_lock(&s->lock);
    bool last = --s->refs == 0;
    pthread_mutex_unlock(&s->lock);
    if (!last)
        return;
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

/* ---- the library's side ------------------------------------------------------------------------------ */

/* Under the stream's lock. */
static size_t
take_out(http_stream *s, char *dst, size_t max)
{
    size_t first = RING_BYTES - s->at, n = s->n < max ? s->n : max;

    if (first > n)
        first = n;
    memcpy(dst, s->ring + s->at, first);
    memcpy(dst + first, s->ring, n - first);
    s->at = (s->at + n) % RING_BYTES;
    s->n -= n;
    pthread_cond_signal(&s->changed);
    return n;
}

static bool
has_come_to_an_end(const http_stream *s)
{
    return s->lost || (s->ended && s->n == 0);
}

static void
fall_asleep(http_stream *s)
{
    http_request *r = s->r;

    pthread_mutex_lock(&r->server->lock);
    pthread_mutex_lock(&s->lock);
    if (s->n == 0 && !has_come_to_an_end(s)) {
        s->asleep = true;
        http_conn_enter(r->conn, CONN_WORK, NO_DEADLINE);
        MHD_suspend_connection(r->mhd);
        pthread_cond_broadcast(&r->server->changed);
    }
    pthread_mutex_unlock(&s->lock);
    pthread_mutex_unlock(&r->server->lock);
}

static ssize_t
read_callback(void *stream, uint64_t pos, char *dst, size_t max)
{
    http_stream *s = stream;
    http_server *server = s->r->server;

    (void)pos;
    pthread_mutex_lock(&s->lock);
    bool lost = s->lost, end = has_come_to_an_end(s), complete = s->complete;
    size_t n = lost ? 0 : take_out(s, dst, max);
    pthread_mutex_unlock(&s->lock);
    if (end)
        return !lost && complete ? MHD_CONTENT_READER_END_OF_STREAM
                                 : MHD_CONTENT_READER_END_WITH_ERROR;
    if (n == 0) {
        fall_asleep(s);
        return 0; /* and is called again when the connection is resumed */
    }
    pthread_mutex_lock(&server->lock);
    http_conn_enter(s->r->conn, CONN_SEND, http_now_ms() + server->body_timeout_ms);
    pthread_mutex_unlock(&server->lock);
    return (ssize_t)n;
}

static void
free_callback(void *stream)
{
    stream_unref(stream);
}

/* Under the server's lock. */
static void
wake_up(http_stream *s)
{
    http_request *r = s->r;

    pthread_mutex_lock(&s->lock);
    if (s->asleep) {
        s->asleep = false;
        http_conn_enter(r->conn, CONN_SEND, http_now_ms() + r->server->body_timeout_ms);
        MHD_resume_connection(r->mhd);
    }
    pthread_mutex_unlock(&s->lock);
}

/* Under the server's lock; r->mhd is what it was or gone. */
void
http_stream_lose(http_stream *s)
{
    pthread_mutex_lock(&s->lock);
    s->lost = true;
    pthread_cond_signal(&s->changed);
    pthread_mutex_unlock(&s->lock);
    wake_up(s);
}

/* ---- the maker's side ---------------------------------------------------------------------------------- */

static http_stream *
stream_new(http_request *r)
{
    http_stream *s = calloc(1, sizeof(*s));
    pthread_condattr_t attr;

    if (s == NULL)
        return NULL;
    s->r = r;
    s->refs = 2;
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->changed, &attr);
    pthread_condattr_destroy(&attr);
    return s;
}

http_stream *
http_respond_stream(http_request *r, int status, const char *content_type)
{
    http_server *server = r->server;
    http_stream *s = stream_new(r);

    if (s == NULL)
        return NULL;
    struct MHD_Response *resp = MHD_create_response_from_callback(
        MHD_SIZE_UNKNOWN, PIECE_BYTES, read_callback, s, free_callback);
    if (resp == NULL)
        stream_unref(s); /* the response's */
    resp = http_dress_response(server, resp, &r->out_headers, status, content_type);
    if (resp == NULL) {
        stream_unref(s);
        return NULL;
    }
    pthread_mutex_lock(&server->lock);
    bool late = r->answered; /* by the server itself: it is being stopped */
    if (late) {
        s->lost = true;
    } else {
        r->answered = true;
        r->status = status;
        r->answer = resp;
        r->stream = s;
        if (r->stage == STAGE_SUSPENDED)
            MHD_resume_connection(r->mhd);
    }
    pthread_mutex_unlock(&server->lock);
    if (late)
        MHD_destroy_response(resp);
    return s;
}

/* Under the stream's lock: until there is room, or nobody wants to go on. */
static ps_status
wait_for_room(http_stream *s, ps_status (*poll)(void *self), void *self)
{
    while (!s->lost && s->n == RING_BYTES) {
        int64_t until = http_now_ms() + POLL_MS;
        struct timespec t = {.tv_sec = until / 1000, .tv_nsec = until % 1000 * 1000000};
        if (pthread_cond_timedwait(&s->changed, &s->lock, &t) != ETIMEDOUT || poll == NULL)
            continue;
        pthread_mutex_unlock(&s->lock);
        ps_status status = poll(self);
        pthread_mutex_lock(&s->lock);
        PS_TRY(status);
    }
    return s->lost ? PS_ECANCELED : PS_OK;
}

ps_status
http_stream_write(http_stream *s, ps_str bytes, ps_status (*poll)(void *self), void *self)
{
    http_server *server = s->r->server;
    ps_status status = PS_OK;

    while (status == PS_OK && bytes.len > 0) {
        pthread_mutex_lock(&s->lock);
        status = wait_for_room(s, poll, self);
        if (status == PS_OK) {
            size_t end = (s->at + s->n) % RING_BYTES, n = RING_BYTES - s->n;
            if (n > RING_BYTES - end)
                n = RING_BYTES - end;
            if (n > bytes.len)
                n = bytes.len;
            memcpy(s->ring + end, bytes.ptr, n);
            s->n += n;
            bytes = (ps_str){bytes.ptr + n, bytes.len - n};
        }
        bool asleep = s->asleep;
        pthread_mutex_unlock(&s->lock);
        if (asleep) {
            pthread_mutex_lock(&server->lock);
            wake_up(s);
            pthread_mutex_unlock(&server->lock);
        }
    }
    return status;
}

void
http_stream_end(http_stream *s, bool complete)
{
    http_request *r = s->r;
    http_server *server = r->server;

    pthread_mutex_lock(&server->lock);
    pthread_mutex_lock(&s->lock);
    s->ended = true;
    s->complete = complete;
    pthread_mutex_unlock(&s->lock);
    wake_up(s);
    bool last = --r->refs == 0;
    pthread_mutex_unlock(&server->lock);
    if (last)
        http_request_free(r);
    stream_unref(s);
    http_server_unref(server);
}
