/*
 * prom_aggregates.c - prom_rate, prom_increase, prom_delta: what a series did in each of a row of
 * windows, as an array, from its samples in order of time.
 *
 * Window i is [lowest + i * step, lowest + i * step + range], both ends included; the last one is the
 * last that ends at or before greatest. A window is answered as soon as a sample behind it comes, so
 * only the samples of the windows that are still open are kept, in a ring. The answer is the raw
 * increase (a counter's resets made up for), so that one state serves the three aggregates; what they
 * make of it (extrapolation to the whole window, division) happens at the end, when the window's
 * figures are turned into the result.
 *
 * A row with a NULL does not count; without any other row the answer is NULL. Stale markers do not
 * count either. The final functions leave the state as it is: they may be called again and again
 * when the aggregate is used over a window of rows.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "prom_aggregates.h"

PGDLLEXPORT Datum promscale_rate_step(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum promscale_rate_result(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum promscale_increase_result(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum promscale_delta_result(PG_FUNCTION_ARGS);
PG_FUNCTION_INFO_V1(promscale_rate_step);
PG_FUNCTION_INFO_V1(promscale_rate_result);
PG_FUNCTION_INFO_V1(promscale_increase_result);
PG_FUNCTION_INFO_V1(promscale_delta_result);

typedef struct point {
    TimestampTz time;
    float8 value;
    uint64 resets; /* of the series, up to this sample */
} point;

/* What is left of a window when it is closed; n < 2: nothing can be said. */
typedef struct figures {
    int64 n;
    TimestampTz first_time, last_time;
    float8 first;    /* value */
    float8 change;   /* last - first */
    float8 resetted; /* the values before the resets, added */
} figures;

typedef struct rate_state {
    agg_steps steps;
    TimestampTz last_time; /* of any row */
    int64 rows;
    int64 closed; /* windows */
    /* ring: n points from head on, in order of time */
    point *ring;
    uint64 cap, head, n; /* cap is a power of two */
    uint64 resets;
    float8 last_value;
    bool has_last;
    /* by window */
    figures *windows;
    int64 windows_cap;
} rate_state;

/* ---- windows -------------------------------------------------------------------------------------- */

static const point *
at(const rate_state *s, uint64 i)
{
    return &s->ring[(s->head + i) & (s->cap - 1)];
}

static figures
figures_of(const rate_state *s)
{
    figures f = {.n = (int64)s->n};
    const point *first, *last;

    if (s->n < 2)
        return f;
    first = at(s, 0);
    last = at(s, s->n - 1);
    f.first_time = first->time;
    f.last_time = last->time;
    f.first = first->value;
    f.change = last->value - first->value;
    if (last->resets != first->resets)
        for (uint64 i = 1; i < s->n; i++) {
            if (at(s, i)->resets != at(s, i - 1)->resets)
                f.resetted += at(s, i - 1)->value;
            if (i % 4096 == 0)
                CHECK_FOR_INTERRUPTS();
        }
    return f;
}

static TimestampTz
window_begin(const rate_state *s, int64 window)
{
    return s->steps.from + window * s->steps.step;
}

/* Closes the next window: the figures of what is in the ring; then forgets what is only behind it. */
static figures
close_window(rate_state *s)
{
    figures f;

    while (s->n > 0 && at(s, 0)->time < window_begin(s, s->closed)) {
        s->head = (s->head + 1) & (s->cap - 1);
        s->n--;
    }
    f = figures_of(s);
    s->closed++;
    return f;
}

static void
keep_figures(rate_state *s, MemoryContext context, figures f)
{
    int64 i = s->closed - 1;

    if (i >= s->windows_cap) {
        int64 cap = Min(Max(s->windows_cap * 2, 16), s->steps.n);
        MemoryContext old = MemoryContextSwitchTo(context);

        s->windows = s->windows == NULL
                         ? palloc_extended(cap * sizeof(figures), MCXT_ALLOC_HUGE)
                         : repalloc_huge(s->windows, cap * sizeof(figures));
        s->windows_cap = cap;
        MemoryContextSwitchTo(old);
    }
    s->windows[i] = f;
}

static void
push(rate_state *s, MemoryContext context, point p)
{
    if (s->n == s->cap) {
        uint64 cap = s->cap * 2;
        point *ring = MemoryContextAllocHuge(context, cap * sizeof(point));

        for (uint64 i = 0; i < s->n; i++)
            ring[i] = *at(s, i);
        pfree(s->ring);
        s->ring = ring;
        s->cap = cap;
        s->head = 0;
    }
    s->ring[(s->head + s->n) & (s->cap - 1)] = p;
    s->n++;
}

/* ---- rows ----------------------------------------------------------------------------------------- */

static void
add_sample(rate_state *s, MemoryContext context, TimestampTz time, float8 value)
{
    TimestampTz range = s->steps.range;
    bool reset;

    agg_check_inside(time, s->steps.from, s->steps.to);
    if (s->rows > 0 && time < s->last_time)
        ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION),
                        errmsg("samples do not come in the order of time"),
                        errhint("Write ORDER BY into the call, and group by series.")));
    s->last_time = time;
    s->rows++;
    if (agg_is_stale(value))
        return;
    while (s->closed < s->steps.n && window_begin(s, s->closed) + range < time) {
        figures f = close_window(s);

        keep_figures(s, context, f);
        CHECK_FOR_INTERRUPTS();
    }
    reset = s->has_last && value < s->last_value;
    s->resets += reset;
    s->last_value = value;
    s->has_last = true;
    if (s->closed == s->steps.n || time < window_begin(s, s->closed))
        return; /* behind the last window, or between two */
    push(s, context, (point){time, value, s->resets});
}

Datum
promscale_rate_step(PG_FUNCTION_ARGS)
{
    MemoryContext context;
    rate_state *s = PG_ARGISNULL(0) ? NULL : (rate_state *)PG_GETARG_POINTER(0);
    agg_steps steps;

    agg_context(fcinfo, &context);
    if (!agg_row(fcinfo, &steps)) {
        if (s == NULL)
            PG_RETURN_NULL();
        PG_RETURN_POINTER(s);
    }
    if (s == NULL) {
        agg_check_steps(&steps, true, "step_size", "range");
        s = MemoryContextAllocZero(context, sizeof *s);
        s->steps = steps;
        s->cap = 16;
        s->ring = MemoryContextAlloc(context, s->cap * sizeof(point));
    } else {
        agg_check_same(&s->steps, &steps);
    }
    add_sample(s, context, PG_GETARG_TIMESTAMPTZ(5), PG_GETARG_FLOAT8(6));
    PG_RETURN_POINTER(s);
}

/* ---- results -------------------------------------------------------------------------------------- */

/*
 * How far the series is taken to go on beyond its samples, as a factor: to an edge of the window if the
 * gap there is less than 1.1 mean distances of samples, else half a distance. A counter does not reach
 * back beyond the time at which the straight line through it would be zero.
 */
static float8
reach(const figures *f, TimestampTz begin, TimestampTz end, bool counter, float8 increase)
{
    float8 sampled = (float8)(f->last_time - f->first_time), mean = sampled / (float8)(f->n - 1);
    float8 to_begin = (float8)(f->first_time - begin), to_end = (float8)(end - f->last_time);

    if (sampled == 0)
        return 1;
    if (to_begin >= mean * 1.1)
        to_begin = mean / 2;
    if (to_end >= mean * 1.1)
        to_end = mean / 2;
    if (counter && increase > 0 && f->first >= 0)
        to_begin = Min(to_begin, sampled * (f->first / increase));
    return (sampled + to_begin + to_end) / sampled;
}

typedef enum kind { RATE, INCREASE, DELTA } kind;

static float8
value_of(const figures *f, TimestampTz begin, TimestampTz end, kind kind)
{
    bool counter = kind != DELTA;
    float8 increase = counter ? f->change + f->resetted : f->change;
    float8 factor = reach(f, begin, end, counter, increase);

    if (kind == RATE)
        factor /= (float8)((end - begin) / USECS_PER_SEC);
    return increase * factor;
}

static Datum
result(FunctionCallInfo fcinfo, kind kind)
{
    const rate_state *s;
    rate_state rest;
    Datum *values;
    bool *nulls;

    agg_context(fcinfo, NULL);
    if (PG_ARGISNULL(0))
        PG_RETURN_NULL();
    s = (const rate_state *)PG_GETARG_POINTER(0);
    if (kind == RATE && s->steps.range % USECS_PER_SEC != 0)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("the range of prom_rate is not a number of whole seconds"),
                        errhint("prom_increase takes any range.")));
    rest = *s; /* the ring is read only: closing windows moves its head in this copy */
    values = palloc_extended(Max(s->steps.n, 1) * sizeof(Datum), MCXT_ALLOC_HUGE);
    nulls = palloc(Max(s->steps.n, 1) * sizeof(bool));
    for (int64 i = 0; i < s->steps.n; i++) {
        TimestampTz begin = window_begin(s, i);
        figures f = i < s->closed ? s->windows[i] : close_window(&rest);

        nulls[i] = f.n < 2;
        values[i] = nulls[i] ? (Datum)0
                             : Float8GetDatum(value_of(&f, begin, begin + s->steps.range, kind));
        if (i % 4096 == 0)
            CHECK_FOR_INTERRUPTS();
    }
    PG_RETURN_DATUM(agg_array(values, nulls, s->steps.n));
}

Datum
promscale_rate_result(PG_FUNCTION_ARGS)
{
    return result(fcinfo, RATE);
}

Datum
promscale_increase_result(PG_FUNCTION_ARGS)
{
    return result(fcinfo, INCREASE);
}

Datum
promscale_delta_result(PG_FUNCTION_ARGS)
{
    return result(fcinfo, DELTA);
}
