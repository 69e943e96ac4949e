/*
 * prom_aggregates.h - what prom_rate and its like share with vector_selector: a row of steps from
 * four of the arguments, checked once per group; a sample's place; the array at the end.
 */
#ifndef PROMSCALE_PROM_AGGREGATES_H
#define PROMSCALE_PROM_AGGREGATES_H

#include "postgres.h"

#include "fmgr.h"
#include "utils/timestamp.h"

enum { AGG_MAX_STEPS = 1000000 }; /* in one result */

typedef struct agg_steps { /* microseconds, where no unit is named */
    TimestampTz from, to;
    int64 step_ms, range_ms; /* as given */
    int64 step, range, n;    /* set by agg_check_steps */
} agg_steps;

/* Raises if this is no call of an aggregate. */
void agg_context(FunctionCallInfo fcinfo, MemoryContext *ret);
/* The arguments 1 to 4 of a row; false if any of 1 to 6 is NULL. */
bool agg_row(FunctionCallInfo fcinfo, agg_steps *ret);
/* Raises where the arguments make no sense. windows: step i needs [from + i * step, + range] to lie
 * within [from, to], and a step of 0 is an error; else from + i * step lies within, and a step of 0
 * means a single one. */
void agg_check_steps(agg_steps *s, bool windows, const char *step_name, const char *range_name);
/* Raises if the steps of this row are not those of the first. */
void agg_check_same(const agg_steps *s, const agg_steps *row);
void agg_check_inside(TimestampTz time, TimestampTz from, TimestampTz to);
bool agg_is_stale(float8 value);
Datum agg_array(Datum *values, bool *nulls, int64 n);

#endif
