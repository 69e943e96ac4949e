/*
 * catalog.c - see catalog.h. Also guard(), the check that stands before every flush.
 */
#include "catalog.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

/* ---- statements ------------------------------------------------------------------------- */

uint64
catalog_run(catalog_stmt *stmt, Datum *values, bool read_only)
{
    if (stmt->plan == NULL) {
        SPIPlanPtr plan =
            SPI_prepare_cursor(stmt->sql, stmt->n_args, stmt->args, CURSOR_OPT_GENERIC_PLAN);
        if (plan == NULL || SPI_keepplan(plan) != 0)
            elog(ERROR, "could not prepare a catalog statement: %s",
                 SPI_result_code_string(SPI_result));
        stmt->plan = plan;
    }
    int rc = SPI_execute_plan(stmt->plan, values, NULL, read_only, 0);
    if (rc < 0)
        elog(ERROR, "a catalog statement failed: %s", SPI_result_code_string(rc));
    return SPI_processed;
}

Datum
catalog_value(uint64 row, int column)
{
    bool isnull;
    Datum value = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &isnull);

    if (isnull)
        elog(ERROR, "unexpected null in column %d of a catalog statement", column);
    return value;
}

void
catalog_need_read_committed(const char *function)
{
    if (IsolationUsesXactSnapshot())
        ereport(ERROR, (errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
                        errmsg("%s needs the isolation level READ COMMITTED", function),
                        errdetail("This transaction's snapshot may be older than the lock that the "
                                  "function takes.")));
}

void
catalog_lock_guard_shared(void)
{
    DirectFunctionCall1(pg_advisory_xact_lock_shared_int8, Int64GetDatum(CATALOG_LOCK_GUARD));
}

static int64
timeline(void)
{
    TimeLineID tli;

    if (RecoveryInProgress())
        GetXLogReplayRecPtr(&tli);
    else
        tli = GetWALInsertionTimeLine();
    return (int64)(tli & 0x3fffff);
}

int64
catalog_generation(bool read_only)
{
    static catalog_stmt stmt = {.sql = "SELECT generation FROM _prom_catalog.state"};

    if (catalog_run(&stmt, NULL, read_only) != 1)
        ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
                        errmsg("table \"_prom_catalog.state\" does not hold exactly one row")));
    return DatumGetInt64(catalog_value(0, 1)) + (timeline() << 40);
}

PG_FUNCTION_INFO_V1(catalog_generation_sql);
Datum
catalog_generation_sql(PG_FUNCTION_ARGS)
{
    SPI_connect();
    int64 generation = catalog_generation(true);
    SPI_finish();
    PG_RETURN_INT64(generation);
}

/*
 * The lock comes first and the look second, in a snapshot taken after the lock was granted: whoever
 * deletes series holds the lock alone until its new generation is committed.
 */
PG_FUNCTION_INFO_V1(catalog_guard);
Datum
catalog_guard(PG_FUNCTION_ARGS)
{
    int64 expected = PG_GETARG_INT64(0);

    catalog_need_read_committed("guard()");
    catalog_lock_guard_shared();
    SPI_connect();
    int64 generation = catalog_generation(false);
    SPI_finish();
    if (generation != expected)
        ereport(ERROR, (errcode(CATALOG_ERRCODE_GENERATION),
                        errmsg("catalog generation is " INT64_FORMAT ", not " INT64_FORMAT,
                               generation, expected),
                        errhint("Resolve the series again and repeat the flush.")));
    PG_RETURN_VOID();
}

/* ---- arguments -------------------------------------------------------------------------- */

static void
check_array(ArrayType *array, const char *name)
{
    if (ARR_NDIM(array) > 1)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("%s must be an array of one dimension", name)));
    if (array_contains_nulls(array))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("%s must not contain nulls", name)));
}

Datum *
catalog_text_array(ArrayType *array, const char *name, int *ret_n)
{
    Datum *items;
    bool *nulls;

    check_array(array, name);
    deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &items, &nulls, ret_n);
    return items;
}

const int32 *
catalog_int4_array(ArrayType *array, const char *name, int *ret_n)
{
    check_array(array, name);
    *ret_n = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
    return (const int32 *)ARR_DATA_PTR(array);
}

ArrayType *
catalog_make_int4_array(const int32 *items, int n)
{
    if (n == 0)
        return construct_empty_array(INT4OID);
    Size size = ARR_OVERHEAD_NONULLS(1) + (Size)n * sizeof(int32);
    ArrayType *array = palloc0(size);
    SET_VARSIZE(array, size);
    array->ndim = 1;
    array->elemtype = INT4OID;
    ARR_DIMS(array)[0] = n;
    ARR_LBOUND(array)[0] = 1;
    memcpy(ARR_DATA_PTR(array), items, (Size)n * sizeof(int32));
    return array;
}

/* ---- is it still what the caller sees? --------------------------------------------------- */

catalog_stamp
catalog_stamp_now(void)
{
    Snapshot s = GetActiveSnapshot();

    return (catalog_stamp){
        .xmin = s->xmin,
        .xmax = s->xmax,
        .n_running = s->xcnt,
        .command = s->curcid,
        .completed = s->snapXactCompletionCount,
        .user = GetUserId(),
    };
}

bool
catalog_stamp_eq(const catalog_stamp *a, const catalog_stamp *b)
{
    return a->xmin == b->xmin && a->xmax == b->xmax && a->n_running == b->n_running &&
           a->command == b->command && a->completed == b->completed && a->user == b->user;
}
