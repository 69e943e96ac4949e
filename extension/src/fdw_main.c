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
                 : errhint("INSERT INTO prom_data.<metric> replaces samples while "
                           "promscale.on_conflict is 'overwrite'; delete_series() deletes them.")));
    pg_unreachable();
}

/* A node without a relation of its own stands for an aggregation. */
static bool
aggregates(const ForeignScanState *node)
{
    return ((const Scan *)node->ss.ps.plan)->scanrelid == 0;
}

static void
begin(ForeignScanState *node, int eflags)
{
    (aggregates(node) ? fdw_upper_begin : fdw_begin)(node, eflags);
}

static TupleTableSlot *
iterate(ForeignScanState *node)
{
    return aggregates(node) ? fdw_upper_iterate(node) : fdw_iterate(node);
}

static void
rescan(ForeignScanState *node)
{
    (aggregates(node) ? fdw_upper_rescan : fdw_rescan)(node);
}

static void
end(ForeignScanState *node)
{
    (aggregates(node) ? fdw_upper_end : fdw_end)(node);
}

static void
explain(ForeignScanState *node, ExplainState *es)
{
    (aggregates(node) ? fdw_upper_explain : fdw_explain)(node, es);
}

Datum
promscale_fdw_handler(PG_FUNCTION_ARGS)
{
    FdwRoutine *routine = makeNode(FdwRoutine);

    routine->GetForeignRelSize = fdw_get_rel_size;
    routine->GetForeignPaths = fdw_get_paths;
    routine->GetForeignPlan = fdw_get_plan;
    routine->GetForeignUpperPaths = fdw_upper_paths;
    routine->BeginForeignScan = begin;
    routine->IterateForeignScan = iterate;
    routine->ReScanForeignScan = rescan;
    routine->EndForeignScan = end;
    routine->ExplainForeignScan = explain;
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
