/*
 * vector_selector.c - the aggregate vector_selector: what an instant selector sees at each of a row of
 * steps, as an array. Step i is at start + i * width, and sees the newest sample in
 * [step - lookback, step]; nothing if there is none or if that is a stale marker.
 *
 * The state is the newest sample of each gap between steps, so rows may come in any order and states
 * of parallel workers are combined gap by gap; looking back over gaps is left for the end. Of samples
 * with equal times the one with the larger bits counts, whatever the order, so that parallel plans
 * and serial ones agree.
 *
 * A row with a NULL does not count; without any other row the answer is NULL.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "compat.h"
#include "prom_aggregates.h"

PGDLLEXPORT Datum promscale_selector_step(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum promscale_selector_combine(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum promscale_selector_serialize(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum promscale_selector_deserialize(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum promscale_selector_result(PG_FUNCTION_ARGS);
PG_FUNCTION_INFO_V1(promscale_selector_step);
PG_FUNCTION_INFO_V1(promscale_selector_combine);
PG_FUNCTION_INFO_V1(promscale_selector_serialize);
PG_FUNCTION_INFO_V1(promscale_selector_deserialize);
PG_FUNCTION_INFO_V1(promscale_selector_result);

typedef struct newest { /* time is DT_NOBEGIN where there is none */
    TimestampTz time;
    float8 value;
} newest;

typedef struct selector_state {
    agg_steps steps;
    newest gaps[FLEXIBLE_ARRAY_MEMBER]; /* steps.n: (step i - 1, step i], the first from its lookback */
} selector_state;

static Size
state_size(int64 n)
{
    return offsetof(selector_state, gaps) + (Size)n * sizeof(newest);
}

static uint64
bits_of(float8 value)
{
    uint64 bits;

    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static void
take_newer(newest *into, newest n)
{
    if (n.time > into->time ||
        (n.time == into->time && n.time != DT_NOBEGIN && bits_of(n.value) > bits_of(into->value)))
        *into = n;
}

Datum
promscale_selector_step(PG_FUNCTION_ARGS)
{
    MemoryContext context;
    selector_state *s = PG_ARGISNULL(0) ? NULL : (selector_state *)PG_GETARG_POINTER(0);
    agg_steps steps;
    TimestampTz time;
    int64 gap;

    agg_context(fcinfo, &context);
    if (!agg_row(fcinfo, &steps)) {
        if (s == NULL)
            PG_RETURN_NULL();
        PG_RETURN_POINTER(s);
    }
    if (s == NULL) {
        agg_check_steps(&steps, false, "bucket_width", "lookback");
        s = MemoryContextAlloc(context, state_size(steps.n));
        s->steps = steps;
        for (int64 i = 0; i < steps.n; i++)
            s->gaps[i] = (newest){DT_NOBEGIN, 0};
    } else {
        agg_check_same(&s->steps, &steps);
    }
    time = PG_GETARG_TIMESTAMPTZ(5);
    agg_check_inside(time, s->steps.from - s->steps.range, s->steps.to);
    if (time <= s->steps.from)
        gap = 0;
    else if (s->steps.step == 0)
        PG_RETURN_POINTER(s); /* after the only step */
    else
        gap = (time - s->steps.from - 1) / s->steps.step + 1;
    if (gap < s->steps.n)
        take_newer(&s->gaps[gap], (newest){time, PG_GETARG_FLOAT8(6)});
    PG_RETURN_POINTER(s);
}

Datum
promscale_selector_combine(PG_FUNCTION_ARGS)
{
    MemoryContext context;
    selector_state *a = PG_ARGISNULL(0) ? NULL : (selector_state *)PG_GETARG_POINTER(0);
    const selector_state *b = PG_ARGISNULL(1) ? NULL : (selector_state *)PG_GETARG_POINTER(1);

    agg_context(fcinfo, &context);
    if (b == NULL) {
        if (a == NULL)
            PG_RETURN_NULL();
        PG_RETURN_POINTER(a);
    }
    if (a == NULL) {
        a = MemoryContextAlloc(context, state_size(b->steps.n));
        memcpy(a, b, state_size(b->steps.n));
        PG_RETURN_POINTER(a);
    }
    agg_check_same(&a->steps, &b->steps);
    for (int64 i = 0; i < a->steps.n; i++)
        take_newer(&a->gaps[i], b->gaps[i]);
    PG_RETURN_POINTER(a);
}

/* Between processes of one server: the bytes as they are. */
Datum
promscale_selector_serialize(PG_FUNCTION_ARGS)
{
    const selector_state *s;
    Size size;
    bytea *out;

    agg_context(fcinfo, NULL);
    s = (const selector_state *)PG_GETARG_POINTER(0);
    size = state_size(s->steps.n);
    out = palloc(VARHDRSZ + size);
    SET_VARSIZE(out, VARHDRSZ + size);
    memcpy(VARDATA(out), s, size);
    PG_RETURN_BYTEA_P(out);
}

Datum
promscale_selector_deserialize(PG_FUNCTION_ARGS)
{
    bytea *in;
    selector_state *s;
    Size size;

    agg_context(fcinfo, NULL);
    in = PG_GETARG_BYTEA_PP(0);
    size = VARSIZE_ANY_EXHDR(in);
    s = palloc(size);
    memcpy(s, VARDATA_ANY(in), size);
    Assert(size == state_size(s->steps.n));
    PG_RETURN_POINTER(s);
}

Datum
promscale_selector_result(PG_FUNCTION_ARGS)
{
    const selector_state *s;
    newest seen = {DT_NOBEGIN, 0};
    Datum *values;
    bool *nulls;

    agg_context(fcinfo, NULL);
    if (PG_ARGISNULL(0))
        PG_RETURN_NULL();
    s = (const selector_state *)PG_GETARG_POINTER(0);
    values = palloc_array(Datum, s->steps.n);
    nulls = palloc_array(bool, s->steps.n);
    for (int64 i = 0; i < s->steps.n; i++) {
        TimestampTz step = s->steps.from + i * s->steps.step;

        if (s->gaps[i].time != DT_NOBEGIN)
            seen = s->gaps[i];
        nulls[i] = seen.time == DT_NOBEGIN || seen.time < step - s->steps.range ||
                   agg_is_stale(seen.value);
        values[i] = nulls[i] ? (Datum)0 : Float8GetDatum(seen.value);
        if (i % 4096 == 0)
            CHECK_FOR_INTERRUPTS();
    }
    PG_RETURN_DATUM(agg_array(values, nulls, s->steps.n));
}
