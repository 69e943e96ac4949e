/*
 * readings.h - what the database says of its own care: the steps of maintenance and what lies at each level
 * (_prom_catalog.observe), as metrics of this connector. All connectors of a database show the same.
 */
#ifndef PROMSCALE_CONNECTOR_OPS_READINGS_H
#define PROMSCALE_CONNECTOR_OPS_READINGS_H

#include <libpq-fe.h>

#include "connector/log/log.h"
#include "connector/metrics/metrics.h"
#include "lib/base/base.h"

typedef struct readings readings;

/* Registers the families in m, which must not be read any more when r is freed. NULL: no memory. */
readings *readings_new(metrics *m, logger *log);
/* Reads them anew; what cannot be read is logged, and series that are older than five minutes vanish. */
void readings_ask(readings *r, PGconn *conn);
/* "ok", or which steps fail or are late, or "unknown"; thread-safe. */
void readings_maintenance(readings *r, char *dst, size_t cap);
void readings_free(readings *r); /* NULL does nothing */

#endif
