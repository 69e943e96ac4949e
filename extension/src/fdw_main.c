/*
 * fdw_main.c - the door to the wrapper: its table of callbacks, its options (none), and the refusal
 * to write. The rest is told in fdw.h.
 *
 * The planner asks PlanForeignModify for every INSERT, UPDATE and DELETE, also for those that come
 * through a metric view: it refuses with a hint. There are no callbacks that execute a change, so that
 * information_schema shows the table and its views as read-only, and COPY is refused by the server.
 */
#include "fdw.h"

#include "access/reloptions.h"
#include "catalog/pg_foreign_table.h"
#include "commands/defrem.h"
#include "foreign/foreign.h"
#include "fmgr.h"

PGDLLEXPORT Datum promscale_fdw_handler(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum promscale_fdw_validator(PG_FUNCTION_ARGS);
PG_FUNCTION_INFO_V1(promscale_fdw_handler);
PG_FUNCTION_INFO_V1(promscale_fdw_validator);

static List *
plan_modify(PlannerInfo *root, ModifyTable *plan, Index relation, int subplan)
{
    ereport(ERROR,
            (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
             plan->operation == CMD_INSERT ? errmsg("samples cannot be inserted here")
                                           : errmsg("samples cannot be changed or deleted by rows"),
             plan->operation == CMD_INSERT
                 ? errhint("INSERT INTO prom_data.<metric> (time, value, labels), or COPY into it")
                 : errhint("The first sample of a series and time stays until its retention ends; "
                           "whole series and metrics can be deleted.")));
    pg_unreachable();
}

Datum
promscale_fdw_handler(PG_FUNCTION_ARGS)
{
    FdwRoutine *routine = makeNode(FdwRoutine);

    routine->GetForeignRelSize = fdw_get_rel_size;
    routine->GetForeignPaths = fdw_get_paths;
    routine->GetForeignPlan = fdw_get_plan;
    routine->BeginForeignScan = fdw_begin;
    routine->IterateForeignScan = fdw_iterate;
    routine->ReScanForeignScan = fdw_rescan;
    routine->EndForeignScan = fdw_end;
    routine->ExplainForeignScan = fdw_explain;
    routine->PlanForeignModify = plan_modify;
    PG_RETURN_POINTER(routine);
}

Datum
promscale_fdw_validator(PG_FUNCTION_ARGS)
{
    List *options = untransformRelOptions(PG_GETARG_DATUM(0));
    ListCell *cell;

    foreach (cell, options) {
        DefElem *option = lfirst(cell);

        ereport(ERROR, (errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
                        errmsg("invalid option \"%s\"", option->defname),
                        errhint("this wrapper has no options")));
    }
    PG_RETURN_VOID();
}
