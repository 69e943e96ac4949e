/*
 * readings.c - see readings.h. The database gives rows of family, up to two labels and a number;
 * families that this version does not know are left out, so that a newer extension is no trouble. The
 * rows of the last answer are kept under a lock, and each family gives its own when the registry is
 * read.
 */
#include "connector/ops/readings.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { TOP_METRICS = 20, FRESH_FOR_S = 300, LOG_EVERY_MS = 10 * 60 * 1000 };

typedef struct family {
    const char *name; /* after promscale_ */
    const char *help;
    bool counter;
} family;

enum { FAILURES, FAILURES_TOTAL, LATE };
static const family families[] = {
    [FAILURES] = {"maintenance_failures", "Runs of a step that failed in a row.", false},
    [FAILURES_TOTAL] = {"maintenance_failures_total", "Runs of a step that failed.", true},
    [LATE] = {"maintenance_late", "1 if nobody has run a step when it was due.", false},
    {"maintenance_last_run_timestamp_seconds", "When a step last ran without failing.", false},
    {"maintenance_last_duration_seconds", "How long that took.", false},
    {"storage_blocks", "Blocks that are fresh, merged or sealed.", false},
    {"storage_samples", "Samples in them.", false},
    {"storage_bytes", "Bytes of the blocks.", false},
    {"storage_table_bytes", "Bytes of the files: tables, TOAST and indexes.", false},
    {"storage_dead_rows", "Rows that wait for VACUUM, as PostgreSQL estimates.", false},
    {"storage_oldest_timestamp_seconds", "Time of the oldest sample, or its hour.", false},
    {"storage_behind_seconds",
     "How long ago nothing was left to be folded (fresh) or sealed (merged).", false},
    {"storage_unreadable_blocks", "Blocks that maintenance could not read lately.", false},
    {"storage_dump_locks_needed", "Locks that pg_dump of the database takes.", false},
    {"storage_dump_locks_available", "Locks that the server is sure to have room for.", false},
    {"storage_tenant_samples", "Merged and sealed samples of a tenant.", false},
    {"storage_tenant_bytes", "Space that its merged and sealed blocks take.", false},
    {"storage_metric_bytes", "Space that blocks of the largest metrics take.", false},
};
enum { N_FAMILIES = PS_ARRAY_LEN(families) };

typedef struct reading {
    char *labels;
    double value;
} reading;

typedef struct rows { /* of one family */
    readings *of;
    reading *items;
    size_t n;
} rows;

struct readings {
    logger *log;
    pthread_mutex_t lock; /* guards all below */
    rows rows[N_FAMILIES];
    time_t read_at; /* monotonic; 0: never */
};

static time_t
now_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec;
}

static void
collect(void *self, metrics_sink *sink)
{
    rows *of = self;
    readings *r = of->of;

    pthread_mutex_lock(&r->lock);
    if (r->read_at != 0 && now_s() - r->read_at <= FRESH_FOR_S) {
        for (size_t i = 0; i < of->n; i++)
            metrics_sink_add(sink, of->items[i].labels, of->items[i].value);
    }
    pthread_mutex_unlock(&r->lock);
}

readings *
readings_new(metrics *m, logger *log)
{
    readings *r = calloc(1, sizeof(*r));

    if (r == NULL)
        return NULL;
    r->log = log;
    pthread_mutex_init(&r->lock, NULL);
    for (size_t i = 0; i < N_FAMILIES; i++) {
        char name[80];
        snprintf(name, sizeof(name), "promscale_%s", families[i].name);
        r->rows[i].of = r;
        bool ok = (families[i].counter ? metrics_counters : metrics_gauges)(
            m, name, families[i].help, collect, &r->rows[i]);
        if (!ok) {
            readings_free(r);
            return NULL;
        }
    }
    return r;
}

static void
forget(rows all[N_FAMILIES])
{
    for (size_t i = 0; i < N_FAMILIES; i++) {
        for (size_t j = 0; j < all[i].n; j++)
            free(all[i].items[j].labels);
        free(all[i].items);
        all[i].items = NULL;
        all[i].n = 0;
    }
}

void
readings_free(readings *r)
{
    if (r == NULL)
        return;
    forget(r->rows);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

/* Labels of row i of the answer, as the registry wants them; malloc. NULL: no memory. */
static char *
labels_of(const PGresult *res, int i)
{
    ps_buf text;
    char *copy = NULL;

    ps_buf_init(&text, &ps_malloc);
    for (int column = 2; column < 6 && !PQgetisnull(res, i, column); column += 2)
        metrics_label(&text, PQgetvalue(res, i, column), ps_str_c(PQgetvalue(res, i, column + 1)));
    ps_buf_add_char(&text, 0);
    if (!text.failed)
        copy = strdup(text.ptr);
    ps_buf_done(&text);
    return copy;
}

/* False: no memory; what was taken stays in all. */
static bool
take(const PGresult *res, rows all[N_FAMILIES])
{
    const int n = PQntuples(res);

    for (int i = 0; i < n; i++) {
        size_t f = 0;
        while (f < N_FAMILIES && strcmp(families[f].name, PQgetvalue(res, i, 0)) != 0)
            f++;
        if (f == N_FAMILIES)
            continue;
        if (all[f].items == NULL && (all[f].items = calloc((size_t)n, sizeof(reading))) == NULL)
            return false;
        reading *x = &all[f].items[all[f].n];
        x->value = strtod(PQgetvalue(res, i, 1), NULL);
        x->labels = labels_of(res, i);
        if (x->labels == NULL)
            return false;
        all[f].n++;
    }
    return true;
}

static void
warn_of_failures(readings *r)
{
    char text[256];

    readings_maintenance(r, text, sizeof(text));
    if (strcmp(text, "ok") != 0)
        log_limited(r->log, LOG_WARN, LOG_EVERY_MS, "maintenance of the database is in trouble",
                    (const log_field[]){LOG_STR("steps", text),
                                        LOG_STR("see", "SELECT * FROM prom_info.maintenance")},
                    2);
}

void
readings_ask(readings *r, PGconn *conn)
{
    char sql[256];
    rows fresh[N_FAMILIES] = {0};

    snprintf(sql, sizeof(sql),
             "SET statement_timeout = '10s'; SELECT family, reading, labels[1], labels[2], "
             "labels[3], labels[4] FROM _prom_catalog.observe(%d)",
             TOP_METRICS);
    PGresult *res = PQexec(conn, sql);
    if (PQresultStatus(res) != PGRES_TUPLES_OK || PQnfields(res) != 6) {
        log_debug(r->log, "the database does not say how its storage is",
                  LOG_STR("error", PQerrorMessage(conn)));
    } else if (take(res, fresh)) {
        pthread_mutex_lock(&r->lock);
        for (size_t i = 0; i < N_FAMILIES; i++) {
            rows old = r->rows[i];
            r->rows[i].items = fresh[i].items;
            r->rows[i].n = fresh[i].n;
            fresh[i] = old;
        }
        r->read_at = now_s();
        pthread_mutex_unlock(&r->lock);
        warn_of_failures(r);
    }
    forget(fresh);
    PQclear(res);
}

/* Appends the steps of a family whose value is not 0; labels are step="name". */
static void
list_steps(const rows *of, const char *what, char *dst, size_t cap)
{
    bool first = true;

    for (size_t i = 0; i < of->n; i++) {
        size_t len = strlen(dst);
        const char *name = strchr(of->items[i].labels, '"');
        if (of->items[i].value == 0 || name == NULL)
            continue;
        if (first)
            snprintf(dst + len, cap - len, "%s%s ", len > 0 ? "; " : "", what);
        len = strlen(dst);
        snprintf(dst + len, cap - len, "%s%.*s", first ? "" : ", ",
                 (int)strcspn(name + 1, "\""), name + 1);
        first = false;
    }
}

void
readings_maintenance(readings *r, char *dst, size_t cap)
{
    dst[0] = 0;
    pthread_mutex_lock(&r->lock);
    if (r->read_at == 0 || now_s() - r->read_at > FRESH_FOR_S) {
        snprintf(dst, cap, "unknown");
    } else {
        list_steps(&r->rows[FAILURES], "failing:", dst, cap);
        list_steps(&r->rows[LATE], "late:", dst, cap);
        if (dst[0] == 0)
            snprintf(dst, cap, "ok");
    }
    pthread_mutex_unlock(&r->lock);
}
