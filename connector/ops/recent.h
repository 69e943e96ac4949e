/*
 * recent.h - counters of the last minute, for the page at / and the throughput line in the log.
 */
#ifndef PROMSCALE_CONNECTOR_OPS_RECENT_H
#define PROMSCALE_CONNECTOR_OPS_RECENT_H

#include "connector/log/log.h"
#include "connector/metrics/metrics.h"
#include "lib/base/base.h"

typedef struct recent recent;

typedef enum recent_counter {
    RECENT_SAMPLES, /* committed and flushed */
    RECENT_EXEMPLARS,
    RECENT_REQUESTS, /* write requests answered */
    RECENT_FAILED,   /* of these not 2xx */
    RECENT_SERIES,   /* asked of the database */
    RECENT_REFUSED,  /* samples that will never be stored */
    RECENT_FLUSHES,
    RECENT_COUNTERS
} recent_counter;

typedef struct recent_figures {
    double total[RECENT_COUNTERS]; /* since the start */
    double delta[RECENT_COUNTERS]; /* in the last seconds */
    double seconds;                /* how many they are: up to 60 */
} recent_figures;

/* A thread that looks at the registry every 5 s; a line in the log every report_ms (0: never) if
 * anything came in. */
ps_status recent_start(metrics *m, logger *log, int64_t report_ms, recent **ret,
                       ps_err *err) PS_MUST_CHECK;
void recent_figures_get(recent *r, recent_figures *ret);
void recent_stop(recent *r); /* ends the thread, frees; NULL does nothing */

#endif
