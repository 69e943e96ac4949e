/*
 * metrics.h - the connector's own counters, gauges and histograms; rendered as Prometheus text on
 * /metrics and stored by the self-scrape. Updating is lock-free; registering takes a lock.
 */
#ifndef PROMSCALE_CONNECTOR_METRICS_H
#define PROMSCALE_CONNECTOR_METRICS_H

#include "lib/base/base.h"

typedef struct metrics metrics; /* the registry */
typedef struct metric metric;   /* one series or histogram; owned by the registry */

metrics *metrics_new(void); /* NULL: no memory */
void metrics_free(metrics *m);

/* name, help and labels ("type=\"metric\",kind=\"sample\"" or "", values escaped) are copied. The same
 * (name, labels) again returns the same metric. May be called at any time. NULL on no memory, or if the
 * name is taken by another type; updates of NULL do nothing. */
metric *metrics_counter(metrics *m, const char *name, const char *help, const char *labels);
metric *metrics_gauge(metrics *m, const char *name, const char *help, const char *labels);
/* Read when rendered; fn must be thread-safe and must not register metrics. */
metric *metrics_gauge_fn(metrics *m, const char *name, const char *help, const char *labels,
                         double (*fn)(void *self), void *self);
metric *metrics_counter_fn(metrics *m, const char *name, const char *help, const char *labels,
                           double (*fn)(void *self), void *self);
/* A family whose series come and go: fn is called whenever the registry is read and gives them one by one
 * to metrics_sink_add (labels as above, each text once). It must be thread-safe and leave the registry alone.
 * False: no memory, or the name is taken. */
typedef struct metrics_sink metrics_sink;
typedef void (*metrics_collect_fn)(void *self, metrics_sink *sink);
bool metrics_gauges(metrics *m, const char *name, const char *help, metrics_collect_fn fn,
                    void *self);
bool metrics_counters(metrics *m, const char *name, const char *help, metrics_collect_fn fn,
                      void *self);
void metrics_sink_add(metrics_sink *sink, const char *labels, double value);
/* bounds ascending, copied, +Inf is added. */
metric *metrics_histogram(metrics *m, const char *name, const char *help, const char *labels,
                          const double *bounds, size_t n_bounds);
void metric_add(metric *x, double v); /* counter, gauge */
void metric_set(metric *x, double v); /* gauge */
void metric_observe(metric *x, double v);
double metric_value(const metric *x); /* counter, gauge */

void metrics_render(metrics *m, ps_buf *out); /* text format 0.0.4 */
/* Appends name="value" with escaping (and a comma before it) to a labels text. */
void metrics_label(ps_buf *out, const char *name, ps_str value);

/* For the self-scrape: calls fn for every sample as it would be rendered. */
typedef void (*metrics_visit_fn)(void *self, const char *name, const char *labels, double value);
void metrics_visit(metrics *m, metrics_visit_fn fn, void *self);
/* For metadata: calls fn once per family. type is "counter", "gauge" or "histogram". */
typedef void (*metrics_family_fn)(void *self, const char *name, const char *type, const char *help);
void metrics_visit_families(metrics *m, metrics_family_fn fn, void *self);

#endif
