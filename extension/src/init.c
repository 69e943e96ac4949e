/*
 * init.c - what happens when the library is loaded: settings are declared and, when the server loads
 * it at start (shared_preload_libraries), the maintenance launcher is registered. Loaded later, by the
 * first function of ours that a session calls, only the settings exist; then connectors do the care.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/guc.h"

#include "fdw.h"
#include "worker.h"
#include "write.h"

PG_MODULE_MAGIC;

PGDLLEXPORT void _PG_init(void);

void
_PG_init(void)
{
    fdw_define_settings();
    worker_define_settings();
    write_define_settings();
    fdw_upper_define_settings();
    if (process_shared_preload_libraries_in_progress)
        worker_register_launcher();
}
