/*
 * prom_steps.c - arguments and results of the aggregates over steps (prom_aggregates.h).
 */
#include "prom_aggregates.h"

#include "catalog/pg_type.h"
#include "common/int.h"
#include "lib/model/model.h"
#include "utils/array.h"

void
agg_context(FunctionCallInfo fcinfo, MemoryContext *ret)
{
    if (!AggCheckCallContext(fcinfo, ret))
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("this is a part of an aggregate and cannot be called by itself")));
}

bool
agg_row(FunctionCallInfo fcinfo, agg_steps *ret)
{
    for (int i = 1; i <= 6; i++)
        if (PG_ARGISNULL(i))
            return false;
    *ret = (agg_steps){.from = PG_GETARG_TIMESTAMPTZ(1),
                       .to = PG_GETARG_TIMESTAMPTZ(2),
                       .step_ms = PG_GETARG_INT64(3),
                       .range_ms = PG_GETARG_INT64(4)};
    return true;
}

/* from <= to, both finite, and a step and a range that can be added to them. */
static void
check_bounds(agg_steps *s, bool windows, const char *step_name, const char *range_name)
{
    int64 sum;

    if (TIMESTAMP_NOT_FINITE(s->from) || TIMESTAMP_NOT_FINITE(s->to) || s->to < s->from)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("the steps need a finite begin and an end that is not before it")));
    if (s->step_ms < 0 || (s->step_ms == 0 && windows))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("%s must be %s", step_name, windows ? "positive" : "zero or more")));
    if (s->range_ms < 0 || (s->range_ms == 0 && windows))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("%s must be %s", range_name, windows ? "positive" : "zero or more")));
    if (pg_mul_s64_overflow(s->step_ms, 1000, &s->step) ||
        pg_mul_s64_overflow(s->range_ms, 1000, &s->range) ||
        pg_add_s64_overflow(s->to, s->step, &sum) || pg_add_s64_overflow(s->to, s->range, &sum) ||
        pg_sub_s64_overflow(s->from, s->range, &sum))
        ereport(ERROR, (errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
                        errmsg("%s or %s reaches beyond the range of timestamps", step_name,
                               range_name)));
}

void
agg_check_steps(agg_steps *s, bool windows, const char *step_name, const char *range_name)
{
    int64 room;

    check_bounds(s, windows, step_name, range_name);
    room = s->to - s->from; /* both lie within 400 000 years: no overflow */
    if (windows)
        room -= s->range;
    s->n = room < 0 ? 0 : s->step == 0 ? 1 : room / s->step + 1;
    if (s->n > AGG_MAX_STEPS)
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                        errmsg("more than %d steps in one result", AGG_MAX_STEPS),
                        errhint("Take a larger %s or less time.", step_name)));
}

void
agg_check_same(const agg_steps *s, const agg_steps *row)
{
    if (s->from != row->from || s->to != row->to || s->step_ms != row->step_ms ||
        s->range_ms != row->range_ms)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("all rows of a group must give the same steps")));
}

void
agg_check_inside(TimestampTz time, TimestampTz from, TimestampTz to)
{
    if (time < from)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("a sample is before the lowest time"),
                        errhint("Leave out by WHERE what no step can see.")));
    if (time > to)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("a sample is after the greatest time"),
                        errhint("Leave out by WHERE what no step can see.")));
}

bool
agg_is_stale(float8 value)
{
    uint64 bits;

    memcpy(&bits, &value, sizeof bits);
    return bits == MDL_STALE_NAN_BITS;
}

Datum
agg_array(Datum *values, bool *nulls, int64 n)
{
    int dims[1] = {(int)n}, lower[1] = {1};

    if (n == 0)
        return PointerGetDatum(construct_empty_array(FLOAT8OID));
    return PointerGetDatum(construct_md_array(values, nulls, 1, dims, lower, FLOAT8OID,
                                              sizeof(float8), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}
