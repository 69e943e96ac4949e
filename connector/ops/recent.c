/*
 * recent.c - a ring of snapshots of a few counters, one every 5 s; the newest minus the oldest is the
 * last minute. Counters are found by name in the registry, summed over their labels.
 */
#include "connector/ops/recent.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "connector/ops/ticker.h"

enum { TICK_MS = 5000, RING = 13 }; /* 12 intervals = 60 s */

typedef struct snapshot {
    int64_t at_ms; /* monotonic */
    double value[RECENT_COUNTERS];
} snapshot;

struct recent {
    metrics *metrics;
    logger *log;
    int64_t report_ms, reported_ms;
    snapshot last_report;
    ticker *ticker;
    pthread_mutex_t lock; /* guards the ring */
    snapshot ring[RING];
    size_t n, next; /* n filled, next to be written */
};

typedef struct rule {
    recent_counter counter;
    const char *name;
    const char *with;    /* counted only if the labels contain this; NULL = always */
    const char *without; /* ... and do not contain this */
} rule;

static const rule rules[] = {
    {RECENT_SAMPLES, "promscale_ingest_items_total", "kind=\"sample\"", NULL},
    {RECENT_EXEMPLARS, "promscale_ingest_items_total", "kind=\"exemplar\"", NULL},
    {RECENT_REQUESTS, "promscale_ingest_requests_total", NULL, NULL},
    {RECENT_FAILED, "promscale_ingest_requests_total", NULL, "code=\"2"},
    {RECENT_SERIES, "promscale_ingest_series_resolved_total", NULL, NULL},
    {RECENT_REFUSED, "promscale_ingest_items_refused_total", NULL, NULL},
    {RECENT_FLUSHES, "promscale_ingest_flushes_total", NULL, NULL},
};

static void
add_sample(void *self, const char *name, const char *labels, double value)
{
    snapshot *s = self;

    for (size_t i = 0; i < PS_ARRAY_LEN(rules); i++) {
        if (strcmp(name, rules[i].name) == 0 &&
            (rules[i].with == NULL || strstr(labels, rules[i].with)) &&
            (rules[i].without == NULL || !strstr(labels, rules[i].without)))
            s->value[rules[i].counter] += value;
    }
}

static void
take(recent *r, snapshot *ret)
{
    struct timespec t;

    memset(ret, 0, sizeof(*ret));
    clock_gettime(CLOCK_MONOTONIC, &t);
    ret->at_ms = (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
    metrics_visit(r->metrics, add_sample, ret);
}

static void
report(recent *r, const snapshot *now)
{
    double seconds = (double)(now->at_ms - r->last_report.at_ms) / 1000.0, d[RECENT_COUNTERS];
    bool any = false;

    for (size_t i = 0; i < RECENT_COUNTERS; i++) {
        d[i] = now->value[i] - r->last_report.value[i];
        any = any || d[i] > 0;
    }
    r->last_report = *now;
    if (!any || seconds <= 0)
        return;
    log_info(r->log, "throughput", LOG_INT("samples_per_second", d[RECENT_SAMPLES] / seconds),
             LOG_INT("samples", d[RECENT_SAMPLES]), LOG_INT("requests", d[RECENT_REQUESTS]),
             LOG_INT("failed_requests", d[RECENT_FAILED]),
             LOG_INT("refused_samples", d[RECENT_REFUSED]),
             LOG_INT("series_resolved", d[RECENT_SERIES]), LOG_INT("flushes", d[RECENT_FLUSHES]),
             LOG_DOUBLE("seconds", round(seconds)));
}

static void
tick(void *self)
{
    recent *r = self;
    snapshot now;

    take(r, &now);
    pthread_mutex_lock(&r->lock);
    r->ring[r->next] = now;
    r->next = (r->next + 1) % RING;
    r->n += r->n < RING;
    pthread_mutex_unlock(&r->lock);
    /* A beat may come a little early: half of one is near enough. */
    if (r->report_ms > 0 && now.at_ms - r->last_report.at_ms >= r->report_ms - TICK_MS / 2)
        report(r, &now);
}

ps_status
recent_start(metrics *m, logger *log, int64_t report_ms, recent **ret, ps_err *err)
{
    recent *r = calloc(1, sizeof(*r));

    if (r == NULL)
        return ps_fail(err, PS_ENOMEM, "no memory for a thread");
    r->metrics = m;
    r->log = log;
    r->report_ms = report_ms;
    pthread_mutex_init(&r->lock, NULL);
    take(r, &r->ring[0]);
    r->last_report = r->ring[0];
    r->n = r->next = 1;
    ps_status st = ticker_start(TICK_MS, TICK_MS, tick, r, &r->ticker, err);
    if (st != PS_OK) {
        pthread_mutex_destroy(&r->lock);
        free(r);
        return st;
    }
    *ret = r;
    return PS_OK;
}

void
recent_figures_get(recent *r, recent_figures *ret)
{
    snapshot now, then;

    take(r, &now);
    pthread_mutex_lock(&r->lock);
    then = r->ring[r->n < RING ? 0 : r->next];
    pthread_mutex_unlock(&r->lock);
    for (size_t i = 0; i < RECENT_COUNTERS; i++) {
        ret->total[i] = now.value[i];
        ret->delta[i] = now.value[i] - then.value[i];
    }
    ret->seconds = (double)(now.at_ms - then.at_ms) / 1000.0;
}

void
recent_stop(recent *r)
{
    if (r == NULL)
        return;
    ticker_stop(r->ticker);
    pthread_mutex_destroy(&r->lock);
    free(r);
}
