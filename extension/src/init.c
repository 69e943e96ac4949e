/*
 * init.c - what happens when the library is loaded: settings are declared, the planner learns to ask us
 * for numbers of different values and, when the server loads it at start (shared_preload_libraries),
 * the maintenance launcher is registered. Loaded later, by the first function of ours that a session
 * calls, there is no launcher; then connectors do the care.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/guc.h"

#include "damage.h"
#include "fdw.h"
#include "promql.h"
#include "worker.h"
#include "write.h"

PG_MODULE_MAGIC;

PGDLLEXPORT void _PG_init(void);

void
_PG_init(void)
{
    fdw_define_settings();
    damage_define_settings();
    worker_define_settings();
    fdw_distinct_install();
    write_define_settings();
    write_overwrite_define_settings();
    fdw_upper_define_settings();
    promql_define_settings();
    if (process_shared_preload_libraries_in_progress)
        worker_register_launcher();
}
