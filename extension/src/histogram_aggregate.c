/*
 * histogram_aggregate.c - sum(histogram), avg(histogram) and histogram_increase(histogram ORDER BY time).
 *
 * The state lies in a memory context of its own below the aggregate's, bounded, and the library's
 * accumulator in it. Sums and means are compensated as PromQL's are.
 *
 * The increase of a counter is what came after the first sample: the last one minus the first, and at
 * each reset what stood there before it. It is not extrapolated to the ends of a window, as PromQL's
 * increase() is: the rows say what there is. The order of the rows is the aggregate's ORDER BY.
 */
#include "histogram.h"

#include "fmgr.h"
#include "utils/memutils.h"

typedef struct sum_state {
    histogram_work work;
    hst_sum *sum;
    hst_notes notes;
} sum_state;

typedef struct increase_state {
    MemoryContext held; /* first, last and what was lost at resets, copied anew from time to time */
    histogram_work work; /* in held */
    const hst_hist *first, *last, *lost;
    hst_notes notes;
    bool gauge;
} increase_state;

static MemoryContext
state_context(FunctionCallInfo fcinfo)
{
    MemoryContext aggregate;

    if (!AggCheckCallContext(fcinfo, &aggregate))
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("this is a part of an aggregate and cannot be called by itself")));
    return aggregate;
}

static const hst_hist *
next_value(FunctionCallInfo fcinfo, histogram_work *w)
{
    histogram_work_init(w, CurrentMemoryContext, HISTOGRAM_WORK_BYTES);
    return histogram_of_datum(w, PG_GETARG_DATUM(1));
}

/* ---- sum and avg ------------------------------------------------------------------------------- */

static Datum
sum_step(FunctionCallInfo fcinfo, bool mean)
{
    sum_state *s = PG_ARGISNULL(0) ? NULL : (sum_state *)PG_GETARG_POINTER(0);
    MemoryContext aggregate = state_context(fcinfo);
    histogram_work w;

    if (PG_ARGISNULL(1)) {
        if (s == NULL)
            PG_RETURN_NULL();
        PG_RETURN_POINTER(s);
    }

    const hst_hist *h = next_value(fcinfo, &w);

    if (s == NULL) {
        s = MemoryContextAllocZero(aggregate, sizeof *s);
        histogram_work_init(&s->work, aggregate, HISTOGRAM_WORK_BYTES);
        histogram_check_combined(hst_sum_new(&s->work.arena, h, &s->sum));
    } else if (mean) {
        histogram_check_combined(hst_mean_add(s->sum, h, &s->notes));
    } else {
        histogram_check_combined(hst_sum_add(s->sum, h, &s->notes));
    }
    PG_RETURN_POINTER(s);
}

static Datum
sum_result(FunctionCallInfo fcinfo, bool mean)
{
    histogram_work w;
    const hst_hist *h;

    (void)state_context(fcinfo);
    if (PG_ARGISNULL(0))
        PG_RETURN_NULL();
    const sum_state *s = (const sum_state *)PG_GETARG_POINTER(0);
    histogram_work_init(&w, CurrentMemoryContext, HISTOGRAM_WORK_BYTES);
    histogram_check_combined(mean ? hst_mean_value(s->sum, &w.arena, &h)
                                  : hst_sum_value(s->sum, &w.arena, &h));
    histogram_tell(&s->notes);
    return histogram_datum(h);
}

PGDLLEXPORT Datum promscale_histogram_sum_step(PG_FUNCTION_ARGS);
PG_FUNCTION_INFO_V1(promscale_histogram_sum_step);
Datum
promscale_histogram_sum_step(PG_FUNCTION_ARGS)
{
    return sum_step(fcinfo, false);
}

PGDLLEXPORT Datum promscale_histogram_avg_step(PG_FUNCTION_ARGS);
PG_FUNCTION_INFO_V1(promscale_histogram_avg_step);
Datum
promscale_histogram_avg_step(PG_FUNCTION_ARGS)
{
    return sum_step(fcinfo, true);
}

PGDLLEXPORT Datum promscale_histogram_sum_result(PG_FUNCTION_ARGS);
PG_FUNCTION_INFO_V1(promscale_histogram_sum_result);
Datum
promscale_histogram_sum_result(PG_FUNCTION_ARGS)
{
    return sum_result(fcinfo, false);
}

PGDLLEXPORT Datum promscale_histogram_avg_result(PG_FUNCTION_ARGS);
PG_FUNCTION_INFO_V1(promscale_histogram_avg_result);
Datum
promscale_histogram_avg_result(PG_FUNCTION_ARGS)
{
    return sum_result(fcinfo, true);
}

/* ---- increase ----------------------------------------------------------------------------------- */

/* Moves what is held to fresh memory once the last values have filled the old. */
static void
hold(increase_state *s, const hst_hist *first, const hst_hist *last, const hst_hist *lost)
{
    enum { MANY_BYTES = 1 << 20 };
    const size_t used = s->work.memory.used_bytes;
    MemoryContext old = NULL;
    hst_hist const *copy;

    if (used > MANY_BYTES &&
        used > 4 * (hst_bytes(first) + hst_bytes(last) + (lost != NULL ? hst_bytes(lost) : 0))) {
        old = s->held;
        s->held = AllocSetContextCreate(MemoryContextGetParent(old), "promscale increase",
                                        ALLOCSET_DEFAULT_SIZES);
        histogram_work_init(&s->work, s->held, HISTOGRAM_WORK_BYTES);
        s->first = s->lost = NULL;
    }
    if (s->first == NULL || first != s->first) {
        bridge_check(hst_copy(&s->work.arena, first, &copy), NULL);
        s->first = copy;
    }
    if (lost != s->lost) {
        bridge_check(hst_copy(&s->work.arena, lost, &copy), NULL);
        s->lost = copy;
    }
    bridge_check(hst_copy(&s->work.arena, last, &copy), NULL);
    s->last = copy;
    if (old != NULL)
        MemoryContextDelete(old);
}

static increase_state *
increase_begin(MemoryContext aggregate, const hst_hist *h)
{
    increase_state *s = MemoryContextAllocZero(aggregate, sizeof *s);

    s->held = AllocSetContextCreate(aggregate, "promscale increase", ALLOCSET_DEFAULT_SIZES);
    histogram_work_init(&s->work, s->held, HISTOGRAM_WORK_BYTES);
    hold(s, h, h, NULL);
    return s;
}

PGDLLEXPORT Datum promscale_histogram_increase_step(PG_FUNCTION_ARGS);
PG_FUNCTION_INFO_V1(promscale_histogram_increase_step);
Datum
promscale_histogram_increase_step(PG_FUNCTION_ARGS)
{
    increase_state *s = PG_ARGISNULL(0) ? NULL : (increase_state *)PG_GETARG_POINTER(0);
    MemoryContext aggregate = state_context(fcinfo);
    const hst_hist *lost;
    histogram_work w;

    if (PG_ARGISNULL(1)) {
        if (s == NULL)
            PG_RETURN_NULL();
        PG_RETURN_POINTER(s);
    }

    const hst_hist *h = next_value(fcinfo, &w);

    if (hst_is_stale(h)) { /* no sample: the series ended there */
        if (s == NULL)
            PG_RETURN_NULL();
        PG_RETURN_POINTER(s);
    }
    if (s == NULL) {
        s = increase_begin(aggregate, h);
    } else {
        lost = s->lost;
        if (hst_detect_reset(s->last, h)) {
            if (lost == NULL)
                lost = s->last;
            else
                histogram_check_combined(hst_add(&w.arena, lost, s->last, &s->notes, &lost));
        }
        hold(s, s->first, h, lost);
    }
    s->gauge |= h->hint == HST_GAUGE;
    PG_RETURN_POINTER(s);
}

PGDLLEXPORT Datum promscale_histogram_increase_result(PG_FUNCTION_ARGS);
PG_FUNCTION_INFO_V1(promscale_histogram_increase_result);
Datum
promscale_histogram_increase_result(PG_FUNCTION_ARGS)
{
    hst_notes notes;
    histogram_work w;
    const hst_hist *h;

    (void)state_context(fcinfo);
    if (PG_ARGISNULL(0))
        PG_RETURN_NULL();
    const increase_state *s = (const increase_state *)PG_GETARG_POINTER(0);
    notes = s->notes;
    histogram_work_init(&w, CurrentMemoryContext, HISTOGRAM_WORK_BYTES);
    h = s->last;
    if (s->lost != NULL)
        histogram_check_combined(hst_add(&w.arena, h, s->lost, &notes, &h));
    histogram_check_combined(hst_sub(&w.arena, h, s->first, &notes, &h));
    histogram_check_combined(hst_with_hint(&w.arena, h, HST_GAUGE, &h));
    notes.hint_collision = false; /* resets are what this is about */
    histogram_tell(&notes);
    if (s->gauge)
        ereport(NOTICE, (errmsg("histogram_increase() is for counters, and some of these are "
                                "gauges")));
    return histogram_datum(h);
}
