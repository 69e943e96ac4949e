/*
 * self_scrape.h - the connector stores its own metrics, as if a Prometheus had scraped it: job
 * "promscale", instance = its address, and `up`.
 */
#ifndef PROMSCALE_CONNECTOR_OPS_SELF_SCRAPE_H
#define PROMSCALE_CONNECTOR_OPS_SELF_SCRAPE_H

#include "connector/log/log.h"
#include "connector/metrics/metrics.h"
#include "connector/write/write.h"

typedef struct self_scrape self_scrape;

/* A WriteRequest with every sample of the registry at time t_ms, `up` and, if asked, metadata.
 * Replaces out's content. */
ps_status self_scrape_render(metrics *m, ps_str instance, int64_t t_ms, bool metadata, ps_buf *out,
                             ps_err *err) PS_MUST_CHECK;

/* A thread that submits one every interval_ms, the first at once. All borrowed but instance. */
ps_status self_scrape_start(metrics *m, write_path *w, logger *log, const char *instance,
                            int64_t interval_ms, self_scrape **ret, ps_err *err) PS_MUST_CHECK;
/* Ends the thread once its last request is answered, so between write_path_stop, which answers it at the
 * latest, and write_path_free. NULL does nothing. */
void self_scrape_stop(self_scrape *s);

#endif
