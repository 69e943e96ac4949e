/*
 * facts.c - see facts.h. One short connection every half minute; the answers are kept.
 */
#include "connector/ops/facts.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "connector/ops/readings.h"
#include "connector/ops/ticker.h"
#include "connector/pg/pg.h"

enum { ASK_EVERY_MS = 30000, CONNECT_MS = 3000 };

struct facts {
    char *conninfo;
    logger *log;
    ticker *ticker;
    readings *readings;
    pthread_mutex_t lock; /* guards retention */
    char retention[64];
};

static void
ask(void *self)
{
    facts *f = self;
    PGconn *conn = NULL;
    ps_err err;

    if (pg_connect(f->conninfo, "status", CONNECT_MS, &conn, &err) != PS_OK) {
        log_debug(f->log, "the database does not say what its retention is",
                  LOG_STR("error", err.text));
        return;
    }
    PGresult *res = PQexec(conn, "SET statement_timeout = '3s'; "
                                 "SELECT CASE WHEN s::interval = '0' THEN 'unlimited' ELSE s END "
                                 "FROM _prom_catalog.setting('retention_period') AS s");
    if (PQresultStatus(res) == PGRES_TUPLES_OK && PQntuples(res) == 1 && !PQgetisnull(res, 0, 0)) {
        pthread_mutex_lock(&f->lock);
        snprintf(f->retention, sizeof(f->retention), "%s", PQgetvalue(res, 0, 0));
        pthread_mutex_unlock(&f->lock);
    } else {
        log_debug(f->log, "the database does not say what its retention is",
                  LOG_STR("error", PQerrorMessage(conn)));
    }
    PQclear(res);
    readings_ask(f->readings, conn);
    PQfinish(conn);
}

ps_status
facts_start(const char *conninfo, logger *log, metrics *m, facts **ret, ps_err *err)
{
    facts *f = calloc(1, sizeof(*f));

    if (f == NULL || (f->conninfo = strdup(conninfo)) == NULL ||
        (f->readings = readings_new(m, log)) == NULL) {
        if (f != NULL)
            free(f->conninfo);
        free(f);
        return ps_fail(err, PS_ENOMEM, "no memory for a thread");
    }
    f->log = log;
    snprintf(f->retention, sizeof(f->retention), "unknown");
    pthread_mutex_init(&f->lock, NULL);
    ask(f);
    ps_status st = ticker_start(ASK_EVERY_MS, ASK_EVERY_MS, ask, f, &f->ticker, err);
    if (st != PS_OK) {
        facts_stop(f);
        return st;
    }
    *ret = f;
    return PS_OK;
}

void
facts_retention(facts *f, char *dst, size_t cap)
{
    pthread_mutex_lock(&f->lock);
    snprintf(dst, cap, "%s", f->retention);
    pthread_mutex_unlock(&f->lock);
}

void
facts_maintenance(facts *f, char *dst, size_t cap)
{
    readings_maintenance(f->readings, dst, cap);
}

void
facts_stop(facts *f)
{
    if (f == NULL)
        return;
    ticker_stop(f->ticker);
    pthread_mutex_destroy(&f->lock);
    readings_free(f->readings);
    free(f->conninfo);
    free(f);
}
