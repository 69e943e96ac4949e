/*
 * first_last.c - the aggregates first(value, time) and last(value, time): the value at the earliest
 * and at the latest time. Of equal times the value that came first counts. Rows without a time do not
 * count; a value may be NULL. Over metrics the scan computes them itself, from blocks
 * (fdw_upper.h); these are for everything else.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/timestamp.h"

PGDLLEXPORT Datum promscale_first_step(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum promscale_last_step(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum promscale_first_last_result(PG_FUNCTION_ARGS);
PG_FUNCTION_INFO_V1(promscale_first_step);
PG_FUNCTION_INFO_V1(promscale_last_step);
PG_FUNCTION_INFO_V1(promscale_first_last_result);

typedef struct at_time { /* lives in the aggregate's memory */
    TimestampTz time;
    float8 value;
    bool isnull;
} at_time;

static Datum
step(FunctionCallInfo fcinfo, bool latest)
{
    MemoryContext context;
    at_time *state = PG_ARGISNULL(0) ? NULL : (at_time *)PG_GETARG_POINTER(0);
    TimestampTz time;

    if (!AggCheckCallContext(fcinfo, &context))
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("this is a part of an aggregate and cannot be called by itself")));
    if (!PG_ARGISNULL(2)) {
        time = PG_GETARG_TIMESTAMPTZ(2);
        if (state == NULL)
            state = MemoryContextAlloc(context, sizeof(*state));
        else if (latest ? time <= state->time : time >= state->time)
            PG_RETURN_POINTER(state);
        state->time = time;
        state->isnull = PG_ARGISNULL(1);
        state->value = state->isnull ? 0 : PG_GETARG_FLOAT8(1);
    }
    if (state == NULL)
        PG_RETURN_NULL();
    PG_RETURN_POINTER(state);
}

Datum
promscale_first_step(PG_FUNCTION_ARGS)
{
    return step(fcinfo, false);
}

Datum
promscale_last_step(PG_FUNCTION_ARGS)
{
    return step(fcinfo, true);
}

Datum
promscale_first_last_result(PG_FUNCTION_ARGS)
{
    const at_time *state;

    if (!AggCheckCallContext(fcinfo, NULL))
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("this is a part of an aggregate and cannot be called by itself")));
    if (PG_ARGISNULL(0))
        PG_RETURN_NULL();
    state = (const at_time *)PG_GETARG_POINTER(0);
    if (state->isnull)
        PG_RETURN_NULL();
    PG_RETURN_FLOAT8(state->value);
}
