/*
 * facts.h - what the database says about itself: retention in force, and how its maintenance and its
 * storage are (readings.h). Asked at the start and every half minute, by a thread, since nobody who answers
 * HTTP may wait for the database.
 */
#ifndef PROMSCALE_CONNECTOR_OPS_FACTS_H
#define PROMSCALE_CONNECTOR_OPS_FACTS_H

#include "connector/log/log.h"
#include "connector/metrics/metrics.h"
#include "lib/base/base.h"

typedef struct facts facts;

/* Asks once before it returns; a database that does not answer is no error. conninfo is copied; m must not
 * be read any more when facts_stop is called. */
ps_status facts_start(const char *conninfo, logger *log, metrics *m, facts **ret,
                      ps_err *err) PS_MUST_CHECK;
/* "90 days"; "unknown" as long as nobody has answered. */
void facts_retention(facts *f, char *dst, size_t cap);
/* "ok", "failing: seal", "late: fold, seal", "unknown". */
void facts_maintenance(facts *f, char *dst, size_t cap);
void facts_stop(facts *f); /* NULL does nothing */

#endif
