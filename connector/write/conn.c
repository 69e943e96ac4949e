/*
 * conn.c - one thread's connection: opened when needed, checked for who is at the other end, closed
 * or mended after an error.
 *
 * The session has a lock_timeout, so that a table lock held by somebody turns into an error here
 * (and a retry) while the connection stays usable, and no heap of stuck backends grows.
 */
#include "connector/write/internal.h"

enum { CONNECT_TIMEOUT_MS = 5000 };
#define BACKOFF_MIN_NS INT64_C(50000000)
#define BACKOFF_MAX_NS INT64_C(2000000000)

static void
on_notice(void *self, const PGresult *res)
{
    wp_conn *c = self;
    const char *severity = PQresultErrorField(res, PG_DIAG_SEVERITY_NONLOCALIZED);
    const char *text = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);
    if (text == NULL || text[0] == '\0')
        text = "without words";
    if (severity != NULL && strcmp(severity, "WARNING") == 0)
        snprintf(c->warning, sizeof(c->warning), "%.*s",
                 (int)ps_utf8_prefix(ps_str_c(text), sizeof(c->warning) - 1), text);
}

/* Longer than any request waits: by then they are answered, and the connection counts as dead. */
pg_wait
wp_wait(const write_path *w)
{
    return (pg_wait){.cancel_fd = w->cancel_fd, .deadline_ns = pg_now_ns() + 3 * w->timeout_ns};
}

static ps_status
set_up(write_path *w, wp_conn *c, ps_err *err)
{
    char sql[96];
    int64_t lock_ms = w->set->ingest_timeout_ms / 2;
    PGresult *res;
    pg_wait wait = wp_wait(w);
    snprintf(sql, sizeof(sql), "SELECT set_config('lock_timeout', '%lldms', false)",
             (long long)(lock_ms < 100 ? 100 : lock_ms));
    PS_TRY(pg_run(c->pg, sql, NULL, 0, &wait, &res, err));
    PQclear(res);
    return catalog_identity(c->pg, &wait, c->identity, err);
}

ps_status
wp_conn_open(write_path *w, wp_conn *c, const char *application, ps_err *err)
{
    if (c->pg != NULL && PQstatus(c->pg) == CONNECTION_OK)
        return PS_OK;
    wp_conn_close(c);
    PS_TRY(pg_connect(w->conninfo, application, CONNECT_TIMEOUT_MS, &c->pg, err));
    PQsetNoticeReceiver(c->pg, on_notice, c);
    PQsetnonblocking(c->pg, 1);
    ps_status status = set_up(w, c, err);
    if (status != PS_OK) {
        wp_conn_close(c);
        return status;
    }
    log_debug(w->log, "connected to the database", LOG_STR("as", application));
    return PS_OK;
}

void
wp_conn_close(wp_conn *c)
{
    if (c->pg != NULL)
        PQfinish(c->pg);
    c->pg = NULL;
    c->identity[0] = '\0';
}

bool
wp_conn_settle(write_path *w, wp_conn *c)
{
    if (c->pg == NULL)
        return false;
    PGTransactionStatusType state = PQtransactionStatus(c->pg);
    if (state == PQTRANS_INTRANS || state == PQTRANS_INERROR) {
        PGresult *res;
        pg_wait wait = wp_wait(w);
        if (pg_run(c->pg, "ROLLBACK", NULL, 0, &wait, &res, NULL) == PS_OK)
            PQclear(res);
        state = PQtransactionStatus(c->pg);
    }
    if (PQstatus(c->pg) == CONNECTION_OK && state == PQTRANS_IDLE)
        return true;
    wp_conn_close(c);
    return false;
}

int64_t
wp_backoff(wp_conn *c)
{
    c->backoff_ns = c->backoff_ns == 0 ? BACKOFF_MIN_NS : c->backoff_ns * 2;
    if (c->backoff_ns > BACKOFF_MAX_NS)
        c->backoff_ns = BACKOFF_MAX_NS;
    return c->backoff_ns;
}
