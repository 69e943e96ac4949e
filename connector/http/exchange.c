/*
 * exchange.c - one request through the library's callbacks, on the library's thread of its connection.
 *
 *   first line -> head complete -> body in pieces -> handler -> (suspended -> resumed) -> answer -> end
 *
 * Rules of the library that shape this: an answer may be queued only when the head has just come (then
 * the connection closes) or when the whole body has; a connection is suspended only from inside the
 * callback; a suspended connection is not watched by the library at all (doorman.c does that).
 */
#include <stdlib.h>
#include <sys/socket.h>

#include "connector/http/internal.h"

enum { KEEP_ALIVE_DISCARD = 1 << 20, MAX_DISCARD = 64 << 20 };

void
http_conn_enter(http_conn *c, conn_state state, int64_t deadline_ms)
{
    c->state = state;
    c->since_ms = http_now_ms();
    c->deadline_ms = deadline_ms;
    c->head_begun = false;
}

void *
http_on_request_line(void *server, const char *uri, struct MHD_Connection *c)
{
    http_server *s = server;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    http_conn *conn = info ? info->socket_context : NULL;
    http_request *r = conn ? http_request_new(s, conn, c, uri) : NULL;

    if (r == NULL)
        return NULL; /* the next callback closes the connection */
    pthread_mutex_lock(&s->lock);
    conn->request = r;
    bool begun = conn->state == CONN_FRESH || conn->head_begun;
    http_conn_enter(conn, CONN_HEAD,
                    begun ? conn->deadline_ms : http_now_ms() + s->head_timeout_ms);
    pthread_mutex_unlock(&s->lock);
    return r;
}

static enum MHD_Result
send_answer(http_request *r)
{
    http_server *s = r->server;

    pthread_mutex_lock(&s->lock);
    r->stage = STAGE_SENDING;
    http_conn_enter(r->conn, CONN_SEND, http_now_ms() + s->body_timeout_ms);
    pthread_mutex_unlock(&s->lock);
    if (r->answer == NULL)
        return MHD_NO;
    return MHD_queue_response(r->mhd, (unsigned)r->status, r->answer);
}

/* ---- refusing: the answer is known before the request is whole --------------------------------- */

static bool
has_body(const http_request *r)
{
    return r->content_length > 0;
}

static bool
waits_for_continue(const http_request *r)
{
    ps_str expect;

    return http_header(r, "Expect", &expect) && ps_str_eq_nocase(expect, PS_STR("100-continue"));
}

/* At the head. A short body is read and dropped, so that the connection stays of use. */
static enum MHD_Result
refuse_head(http_request *r, int status, const char *text, bool must_close)
{
    r->stage = STAGE_REFUSED;
    http_refuse(r, status, text);
    if (must_close || (has_body(r) && waits_for_continue(r)))
        return send_answer(r);
    if (has_body(r) && r->content_length > KEEP_ALIVE_DISCARD)
        http_send_raw(r);
    return MHD_YES;
}

static enum MHD_Result
refuse_body(http_request *r, int status, const char *text)
{
    r->stage = STAGE_REFUSED;
    http_body_free(r);
    http_refuse(r, status, text);
    http_send_raw(r);
    return MHD_YES;
}

static enum MHD_Result
continue_refused(http_request *r, size_t *size)
{
    if (*size > 0) {
        r->discarded += *size;
        *size = 0;
        return r->discarded <= MAX_DISCARD ? MHD_YES : MHD_NO;
    }
    return r->raw_answered ? MHD_NO : send_answer(r);
}

static const char *
limit_text(ps_status st)
{
    return st == PS_ELIMIT ? "the body is larger than this server accepts"
                           : "the server is busy, try again";
}

/* A browser asks before it lets a script call. */
static enum MHD_Result
answer_preflight(http_request *r)
{
    r->stage = STAGE_REFUSED;
    r->answered = true;
    r->status = 204;
    r->answer = http_make_response(r->server, &r->out_headers, 204, NULL, PS_STR(""));
    return MHD_YES;
}

/* ---- the way of a good request --------------------------------------------------------------- */

static enum MHD_Result
begin(http_request *r, const char *method)
{
    http_server *s = r->server;
    ps_err err;

    pthread_mutex_lock(&s->lock);
    s->n_open++;
    r->begun_ms = http_now_ms();
    http_conn_enter(r->conn, CONN_BODY, r->begun_ms + s->body_timeout_ms);
    pthread_mutex_unlock(&s->lock);
    route_metrics_gauge_requests(s->metrics, 1);

    r->method = http_method_of(method);
    ps_status st = http_request_read_head(r, r->mhd, &err);
    if (st != PS_OK)
        return refuse_head(r, st == PS_EUNSUPPORTED ? 501 : 400, err.text, true);
    if (atomic_load(&s->quiesced))
        return refuse_head(r, 503, "the server is shutting down", false);
    r->route = http_route_find(s, r->path);
    if (r->route == NULL)
        return refuse_head(r, 404, "not found", false);
    http_cors_headers(r);
    if (r->method == HTTP_OPTIONS && r->route->cors)
        return answer_preflight(r);
    if (!http_route_allows(r->route, r->method)) {
        char allow[64];
        http_route_allow(r->route, allow, sizeof(allow));
        http_set_header(r, "Allow", allow);
        return refuse_head(r, 405, "method not allowed", false);
    }
    st = http_body_begin(r);
    if (st != PS_OK)
        return refuse_head(r, http_status_of(st), limit_text(st), false);
    r->stage = STAGE_BODY;
    return MHD_YES;
}

/* The whole request is there. */
static enum MHD_Result
dispatch(http_request *r)
{
    http_server *s = r->server;

    /* Under the lock: after quiesce nothing new gets to where it may be suspended. */
    pthread_mutex_lock(&s->lock);
    bool welcome = !atomic_load(&s->quiesced);
    if (welcome) {
        r->stage = STAGE_HANDLER;
        r->refs++;
        s->refs++;
        http_conn_enter(r->conn, CONN_WORK, NO_DEADLINE);
    }
    pthread_mutex_unlock(&s->lock);
    if (!welcome) {
        http_refuse(r, 503, "the server is shutting down");
        return send_answer(r);
    }

    r->route->handler(r, r->route->self);

    pthread_mutex_lock(&s->lock);
    bool now = r->answered;
    if (!now) {
        r->stage = STAGE_SUSPENDED;
        MHD_suspend_connection(r->mhd);
        pthread_cond_broadcast(&s->changed);
    }
    pthread_mutex_unlock(&s->lock);
    return now ? send_answer(r) : MHD_YES;
}

enum MHD_Result
http_on_access(void *server, struct MHD_Connection *c, const char *url, const char *method,
               const char *version, const char *data, size_t *size, void **request)
{
    http_request *r = *request;

    (void)server, (void)c, (void)url, (void)version;
    if (r == NULL)
        return MHD_NO;
    switch (r->stage) {
    case STAGE_NEW:
        return begin(r, method);
    case STAGE_BODY: {
        if (*size == 0)
            return dispatch(r);
        ps_status st = http_body_add(r, data, *size);
        *size = 0;
        return st == PS_OK ? MHD_YES : refuse_body(r, http_status_of(st), limit_text(st));
    }
    case STAGE_REFUSED:
        return continue_refused(r, size);
    case STAGE_SUSPENDED:
        return send_answer(r);
    case STAGE_HANDLER:
    case STAGE_SENDING:
        break;
    }
    return MHD_NO;
}

void
http_on_completed(void *server, struct MHD_Connection *c, void **request,
                  enum MHD_RequestTerminationCode code)
{
    http_server *s = server;
    http_request *r = *request;

    (void)c;
    if (r == NULL)
        return;
    *request = NULL;
    bool counted = r->stage != STAGE_NEW;
    if (counted) {
        route_metrics_gauge_requests(s->metrics, -1);
        route_metrics_done(s->metrics, r,
                           code == MHD_REQUEST_TERMINATED_COMPLETED_OK || r->raw_answered);
    }
    pthread_mutex_lock(&s->lock);
    http_conn *conn = r->conn;
    if (r->stream != NULL)
        http_stream_lose(r->stream);
    conn->request = NULL;
    http_conn_enter(conn, CONN_IDLE, http_now_ms() + s->idle_timeout_ms);
    conn->bytes_mark = http_bytes_received(conn->fd);
    r->conn = NULL;
    r->mhd = NULL;
    if (counted)
        s->n_open--;
    bool last = --r->refs == 0;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    if (last)
        http_request_free(r);
}

/* ---- connections ----------------------------------------------------------------------------- */

static void
conn_opened(http_server *s, struct MHD_Connection *c, void **socket_context)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD);
    http_conn *conn = calloc(1, sizeof(*conn));

    pthread_mutex_lock(&s->lock);
    s->n_seen++;
    *socket_context = conn;
    if (info == NULL || conn == NULL) {
        pthread_mutex_unlock(&s->lock);
        if (info != NULL)
            shutdown(info->connect_fd, SHUT_RDWR);
        free(conn);
        *socket_context = NULL;
        return;
    }
    conn->fd = info->connect_fd;
    http_conn_enter(conn, CONN_FRESH, http_now_ms() + s->head_timeout_ms);
    conn->next = s->conns;
    if (conn->next)
        conn->next->prev = conn;
    s->conns = conn;
    s->n_conns++;
    pthread_mutex_unlock(&s->lock);
    route_metrics_gauge_connections(s->metrics, 1);
}

/* The library closes the socket after this call: from here on nobody may touch it. */
static void
conn_closed(http_server *s, http_conn *conn)
{
    if (conn == NULL)
        return;
    pthread_mutex_lock(&s->lock);
    if (conn->prev)
        conn->prev->next = conn->next;
    else
        s->conns = conn->next;
    if (conn->next)
        conn->next->prev = conn->prev;
    bool was_full = http_n_taken(s) >= s->max_connections;
    s->n_conns--;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    free(conn);
    route_metrics_gauge_connections(s->metrics, -1);
    if (was_full)
        http_doorman_wake(s);
}

void
http_on_connection(void *server, struct MHD_Connection *c, void **socket_context,
                   enum MHD_ConnectionNotificationCode code)
{
    if (code == MHD_CONNECTION_NOTIFY_STARTED)
        conn_opened(server, c, socket_context);
    else
        conn_closed(server, *socket_context);
}
