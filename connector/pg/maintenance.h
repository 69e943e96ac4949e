/*
 * maintenance.h - care of the stored blocks for databases in which the extension's own worker does not
 * run (its library is not in shared_preload_libraries): a thread that calls the same functions.
 */
#ifndef PROMSCALE_CONNECTOR_PG_MAINTENANCE_H
#define PROMSCALE_CONNECTOR_PG_MAINTENANCE_H

#include "connector/log/log.h"
#include "lib/base/base.h"

typedef struct maintenance maintenance;

/* conninfo is copied, log borrowed. The database need not be there yet. */
ps_status maintenance_start(const char *conninfo, logger *log, maintenance **ret,
                            ps_err *err) PS_MUST_CHECK;
/* Cancels what is under way (each step is a transaction: nothing is half done), ends the thread, frees.
 * NULL does nothing. */
void maintenance_stop(maintenance *m);

#endif
