/*
 * embedded.h - the private PostgreSQL under --data-dir: initdb, tuned configuration, its own session
 * and process group, supervised, adopted or cleanly restarted after a crash. One connector per folder
 * (flock).
 */
#ifndef PROMSCALE_CONNECTOR_EMBEDDED_H
#define PROMSCALE_CONNECTOR_EMBEDDED_H

#include "connector/config/settings.h"
#include "connector/log/log.h"
#include "lib/base/base.h"

typedef struct embedded embedded;

/* progress: called with a short line at each step ("creating the database in ..."); may be NULL. */
ps_status embedded_start(const settings *s, logger *log,
                         void (*progress)(void *self, const char *line), void *self, embedded **ret,
                         ps_err *err) PS_MUST_CHECK;
const char *embedded_conninfo(const embedded *e); /* socket, database and user */
const char *embedded_data_dir(const embedded *e); /* as really used (absolute) */
/* Tells once (returns true) when the server died by itself since the last call; it is then restarted by
 * embedded_restart. */
bool embedded_died(embedded *e);
ps_status embedded_restart(embedded *e, ps_err *err) PS_MUST_CHECK;
/* Fast shutdown with a time-out, then immediate. */
void embedded_stop(embedded *e, int64_t timeout_ms);
void embedded_free(embedded *e);

/* `promscale sql [--data-dir DIR] [-- psql arguments]`: execs psql; returns only on error. */
int embedded_sql_main(const settings *s, int argc, char *const *argv, ps_err *err);

#endif
