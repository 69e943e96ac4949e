/*
 * maintenance.c - the thread behind maintenance.h.
 *
 * It looks every few seconds. While a worker of the extension shows in pg_stat_activity it does
 * nothing else. Otherwise it calls prom_api.execute_maintenance and sends the VACUUMs that the round
 * has made due (they cannot run inside a function): fresh and merged are emptied all the time, and
 * waiting for autovacuum would let them grow to many times their size.
 *
 * Any number of connectors may do this at once: every step takes the maintenance lock or leaves.
 *
 * One thread owns the connection; maintenance_stop wakes it by an eventfd.
 */
#include "connector/pg/maintenance.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "connector/pg/pg.h"

enum {
    LOOK_MS = 10000, /* while a worker of the extension does the work */
    ROUND_MS = 5000, /* while we do */
    CONNECT_MS = 10000,
    LOG_EVERY_MS = 60000,
    VACUUM_DELAY_MS = 100 /* flushes that were open during the round have ended by then */
};

struct maintenance {
    char *conninfo;
    logger *log;
    int stop_fd;
    pthread_t thread;
    PGconn *conn;
    bool working; /* no worker was there at the last two looks */
    int looks_without;
};

/* The worker of a server takes care of one database, which need not be ours. */
static const char worker_sql[] =
    "SELECT (EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'promscale maintenance')"
    " AND current_setting('promscale.database', true) IS NOT DISTINCT FROM current_database())::int4";

static ps_status
run(maintenance *m, const char *sql, PGresult **ret, ps_err *err)
{
    PGresult *res = NULL;
    pg_wait wait = {.cancel_fd = m->stop_fd, .deadline_ns = INT64_MAX};

    PS_TRY(pg_run(m->conn, sql, NULL, 0, &wait, &res, err));
    if (ret)
        *ret = res;
    else
        PQclear(res);
    return PS_OK;
}

static ps_status
look(maintenance *m, ps_err *err)
{
    PGresult *res = NULL;

    PS_TRY(run(m, worker_sql, &res, err));
    bool there = PQntuples(res) == 1 && PQgetlength(res, 0, 0) == 4 &&
                 pg_get_u32(PQgetvalue(res, 0, 0)) == 1;
    PQclear(res);
    /* Twice: a worker that just restarts is not a reason to begin. */
    m->looks_without = there ? 0 : m->looks_without + 1;
    bool working = m->looks_without >= 2;
    if (working != m->working && m->log)
        log_info(m->log,
                 working
                     ? "no maintenance worker in the database: this connector does the maintenance"
                     : "the database's own maintenance worker is at work");
    m->working = working;
    return PS_OK;
}

/* True when it is time to end. */
static bool
wait_for_stop(maintenance *m, int ms)
{
    struct pollfd pfd = {.fd = m->stop_fd, .events = POLLIN};
    return poll(&pfd, 1, ms) > 0;
}

static ps_status
vacuum(maintenance *m, ps_err *err)
{
    PGresult *res = NULL;
    ps_status st = PS_OK;

    if (wait_for_stop(m, VACUUM_DELAY_MS))
        return PS_OK;
    PS_TRY(run(m, "SELECT _prom_catalog.take_vacuums()", &res, err));
    for (int i = 0; st == PS_OK && i < PQntuples(res); i++)
        st = run(m, PQgetvalue(res, i, 0), NULL, err);
    PQclear(res);
    return st;
}

static ps_status
round_of_work(maintenance *m, ps_err *err)
{
    if (!m->conn)
        PS_TRY(pg_connect(m->conninfo, "maintenance", CONNECT_MS, &m->conn, err));
    PS_TRY(look(m, err));
    if (!m->working)
        return PS_OK;
    PS_TRY(run(m, "CALL prom_api.execute_maintenance()", NULL, err));
    return vacuum(m, err);
}

static void
disconnect(maintenance *m)
{
    if (!m->conn)
        return;
    if (PQtransactionStatus(m->conn) == PQTRANS_ACTIVE) {
        char text[256];
        PGcancel *cancel = PQgetCancel(m->conn);
        if (cancel && !PQcancel(cancel, text, sizeof(text)) && m->log)
            log_warn(m->log, "cannot cancel maintenance", LOG_STR("error", text));
        PQfreeCancel(cancel);
    }
    PQfinish(m->conn);
    m->conn = NULL;
}

static void *
maintenance_main(void *self)
{
    maintenance *m = self;
    ps_err err;

    do {
        ps_status st = round_of_work(m, &err);
        if (st != PS_OK) {
            if (st != PS_ECANCELED && m->log) {
                const log_field fields[] = {LOG_STR("error", err.text)};
                log_limited(m->log, LOG_WARN, LOG_EVERY_MS, "maintenance failed, trying again",
                            fields, 1);
            }
            disconnect(m);
        }
    } while (!wait_for_stop(m, m->working ? ROUND_MS : LOOK_MS));
    disconnect(m);
    return NULL;
}

ps_status
maintenance_start(const char *conninfo, logger *log, maintenance **ret, ps_err *err)
{
    maintenance *m = calloc(1, sizeof(*m));
    if (!m)
        return ps_fail(err, PS_ENOMEM, "out of memory");
    m->log = log;
    m->conninfo = strdup(conninfo);
    m->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int rc = m->conninfo && m->stop_fd >= 0 ? pthread_create(&m->thread, NULL, maintenance_main, m)
                                            : ENOMEM;
    if (rc != 0) {
        if (m->stop_fd >= 0)
            close(m->stop_fd);
        free(m->conninfo);
        free(m);
        return ps_fail(err, PS_ENOMEM, "cannot start the maintenance thread: %s", strerror(rc));
    }
    *ret = m;
    return PS_OK;
}

void
maintenance_stop(maintenance *m)
{
    const uint64_t one = 1;

    if (!m)
        return;
    if (write(m->stop_fd, &one, sizeof(one)) != sizeof(one) && m->log)
        log_warn(m->log, "cannot wake the maintenance thread");
    pthread_join(m->thread, NULL);
    close(m->stop_fd);
    free(m->conninfo);
    free(m);
}
