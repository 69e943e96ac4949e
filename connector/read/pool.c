/*
 * pool.c - the connections for reading: opened when needed, at most query.connections, kept.
 *
 * A session reads only, and each of its transactions sees one snapshot (repeatable read): so what is
 * sent in one go is consistent without a BEGIN. The server looks whether we are still there while it
 * works.
 */
#include <stdlib.h>
#include <time.h>

#include "connector/read/internal.h"

enum { CONNECT_TIMEOUT_MS = 5000 };

static const char set_up_sql[] =
    "SELECT set_config('default_transaction_isolation', 'repeatable read', false),"
    " set_config('default_transaction_read_only', 'on', false),"
    " set_config('jit', 'off', false),"
    " set_config('client_min_messages', 'warning', false)," /* read_on_notice */
    " set_config('plan_cache_mode', 'force_generic_plan', false),"
    " set_config('enable_seqscan', 'off', false), set_config('enable_memoize', 'off', false),"
    " set_config('max_parallel_workers_per_gather', '0', false),"
    " set_config('idle_in_transaction_session_timeout', '10min', false)";
/* not on every system */
static const char check_sql[] =
    "SELECT set_config('client_connection_check_interval', '1s', false)";

static void
close_conn(read_conn *c)
{
    PQfinish(c->pg);
    free(c);
}

static ps_status
set_up(read_source *src, read_conn *c, ps_err *err)
{
    pg_wait wait = read_wait(src);
    PGresult *res;
    ps_err ignored;
    PS_TRY(label_identity(c->pg, &wait, c->identity, err));
    PS_TRY(pg_run(c->pg, set_up_sql, NULL, 0, &wait, &res, err));
    PQclear(res);
    ps_status status = pg_run(c->pg, check_sql, NULL, 0, &wait, &res, &ignored);
    if (status == PS_OK)
        PQclear(res);
    if (src->store->damage_fails) {
        PS_TRY(pg_run(c->pg, "SELECT set_config('promscale.damaged_blocks', 'error', false)", NULL,
                      0, &wait, &res, err));
        PQclear(res);
    }
    PS_TRY(read_fetch_prepare(c->pg, &wait, err));
    return PQsetnonblocking(c->pg, 1) == 0 ? PS_OK : pg_fail_result(NULL, c->pg, err);
}

static ps_status
open_conn(read_source *src, read_conn **ret, ps_err *err)
{
    int64_t left_ms = CONNECT_TIMEOUT_MS;
    if (src->deadline_ns != INT64_MAX) {
        int64_t until_ms = (src->deadline_ns - pg_now_ns()) / 1000000;
        left_ms = until_ms < left_ms ? until_ms : left_ms;
    }
    read_conn *c = calloc(1, sizeof(*c));
    if (c == NULL)
        return ps_fail(err, PS_ENOMEM, "out of memory");
    ps_status status = pg_connect(src->store->conninfo, "query", left_ms, &c->pg, err);
    if (status != PS_OK) {
        free(c);
        return status;
    }
    status = set_up(src, c, err);
    if (status != PS_OK) {
        close_conn(c);
        return status;
    }
    *ret = c;
    return PS_OK;
}

static void
wait_changed(read_store *s, int64_t deadline_ns)
{
    struct timespec until = {.tv_sec = deadline_ns / 1000000000,
                             .tv_nsec = deadline_ns % 1000000000};
    if (deadline_ns == INT64_MAX)
        pthread_cond_wait(&s->changed, &s->lock);
    else
        pthread_cond_timedwait(&s->changed, &s->lock, &until);
}

/* Under the lock: an idle connection, or the right to open one (*ret NULL). */
static ps_status
take_place(read_source *src, read_conn **ret, ps_err *err)
{
    read_store *s = src->store;
    for (;;) {
        if (s->stopping)
            return ps_fail(err, PS_EUNAVAILABLE, "the connector is shutting down");
        if (atomic_load(&src->cancelled))
            return ps_fail(err, PS_ECANCELED, "the query was canceled");
        if (s->idle != NULL) {
            *ret = s->idle;
            s->idle = s->idle->next;
            return PS_OK;
        }
        if (s->n_open < (size_t)s->set->query_connections) {
            s->n_open++;
            *ret = NULL;
            return PS_OK;
        }
        if (src->deadline_ns != INT64_MAX && pg_now_ns() >= src->deadline_ns)
            return ps_fail(err, PS_ETIMEOUT, "no connection to the database was free in time");
        wait_changed(s, src->deadline_ns);
    }
}

ps_status
read_conn_get(read_source *src, read_conn **ret, ps_err *err)
{
    read_store *s = src->store;
    read_conn *c = NULL;
    pthread_mutex_lock(&s->lock);
    ps_status status = take_place(src, &c, err);
    pthread_mutex_unlock(&s->lock);
    PS_TRY(status);
    if (c == NULL) {
        status = open_conn(src, &c, err);
        if (status != PS_OK) {
            pthread_mutex_lock(&s->lock);
            s->n_open--;
            pthread_cond_signal(&s->changed);
            pthread_mutex_unlock(&s->lock);
            return status;
        }
    }
    c->next = NULL;
    PQsetNoticeReceiver(c->pg, read_on_notice, src);
    *ret = c;
    return PS_OK;
}

void
read_conn_put(read_store *s, read_conn *c, bool ok)
{
    ok = ok && PQstatus(c->pg) == CONNECTION_OK && PQtransactionStatus(c->pg) == PQTRANS_IDLE &&
         PQpipelineStatus(c->pg) == PQ_PIPELINE_OFF;
    c->used = true;
    PQsetNoticeReceiver(c->pg, read_on_notice, NULL);
    if (!ok)
        close_conn(c);
    pthread_mutex_lock(&s->lock);
    if (ok) {
        c->next = s->idle;
        s->idle = c;
    } else {
        s->n_open--;
    }
    pthread_cond_signal(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

void
read_conns_close_idle(read_store *s)
{
    pthread_mutex_lock(&s->lock);
    read_conn *c = s->idle;
    s->idle = NULL;
    for (read_conn *i = c; i != NULL; i = i->next)
        s->n_open--;
    pthread_mutex_unlock(&s->lock);
    while (c != NULL) {
        read_conn *next = c->next;
        close_conn(c);
        c = next;
    }
}
