/*
 * fdw_main.c - the door to the wrapper: its table of callbacks, its options (none), and the refusal
 * to write. The rest is told in fdw.h.
 *
 * The planner asks PlanForeignModify for every INSERT, UPDATE and DELETE, also for those that come
 * through a metric view; COPY asks BeginForeignInsert. Both refuse there with a hint; the insert
 * callback is set only because COPY would otherwise stop earlier, without one.
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

BRIDGE_NORETURN static void refuse_to_write(void);

static void
refuse_to_write(void)
{
    ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                    errmsg("samples cannot be written from SQL"),
                    errhint("write through remote write; writing from SQL is not in this version")));
    pg_unreachable();
}

static List *
plan_modify(PlannerInfo *root, ModifyTable *plan, Index relation, int subplan)
{
    refuse_to_write();
}

static void
begin_insert(ModifyTableState *state, ResultRelInfo *info)
{
    refuse_to_write();
}

static TupleTableSlot *
exec_insert(EState *estate, ResultRelInfo *info, TupleTableSlot *slot, TupleTableSlot *plan_slot)
{
    refuse_to_write();
}

/* Says what may be tried; INSERT gets as far as the refusals above. */
static int
is_updatable(Relation rel)
{
    return 1 << CMD_INSERT;
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
    routine->BeginForeignInsert = begin_insert;
    routine->ExecForeignInsert = exec_insert;
    routine->IsForeignRelUpdatable = is_updatable;
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
