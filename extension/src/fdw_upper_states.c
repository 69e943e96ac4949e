/*
 * fdw_upper_states.c - what is kept of each group for each aggregate, and the results. The results
 * are those of PostgreSQL's own aggregates: NaN is greater than every number, a sum that leaves the
 * range of float8 is an error, infinities give infinities or NaN, variance is updated sample by sample
 * from the running sum, which stays exact where a sum of squares would cancel.
 *
 * Samples are added in the order of the walk, one by one, so a sum is the sum that the row-by-row plan
 * gives. Where a shortcut is taken over a run of samples (no test for overflow, no thought of NaN)
 * its outcome is checked at the end of the run, and the run is done again with care if need be.
 *
 * avg does not keep the variance that PostgreSQL's keeps along, so it fails only when the sum does.
 */
#include "fdw_upper.h"

#include <math.h>

#include "utils/float.h"
#include "utils/fmgroids.h"
#include "utils/timestamp.h"

bool
upper_acc_of(Oid aggregate, upper_acc *ret)
{
    static const struct {
        Oid aggregate;
        upper_acc acc;
    } known[] = {
        {F_COUNT_, ACC_COUNT},
        {F_COUNT_ANY, ACC_COUNT},
        {F_SUM_FLOAT8, ACC_SUM},
        {F_AVG_FLOAT8, ACC_SUM},
        {F_MIN_FLOAT8, ACC_MIN},
        {F_MAX_FLOAT8, ACC_MAX},
        {F_MIN_TIMESTAMPTZ, ACC_MIN_TIME},
        {F_MAX_TIMESTAMPTZ, ACC_MAX_TIME},
        {F_VAR_POP_FLOAT8, ACC_MOMENTS},
        {F_VAR_SAMP_FLOAT8, ACC_MOMENTS},
        {F_VARIANCE_FLOAT8, ACC_MOMENTS},
        {F_STDDEV_POP_FLOAT8, ACC_MOMENTS},
        {F_STDDEV_SAMP_FLOAT8, ACC_MOMENTS},
        {F_STDDEV_FLOAT8, ACC_MOMENTS},
        {UPPER_FUNC_FIRST, ACC_FIRST},
        {UPPER_FUNC_LAST, ACC_LAST},
    };

    for (size_t i = 0; i < lengthof(known); i++) {
        if (known[i].aggregate == aggregate) {
            *ret = known[i].acc;
            return true;
        }
    }
    return false;
}

/* ---- adding ------------------------------------------------------------------------------- */

/* Overflow is an error, but not what infinities that were put in lead to. */
static double
sum_with_care(double sum, const double *values, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double next = sum + values[i];

        if (unlikely(isinf(next)) && !isinf(sum) && !isinf(values[i]))
            float_overflow_error();
        sum = next;
    }
    return sum;
}

static void
add_sum(upper_state *state, const double *values, size_t n)
{
    double sum = state->x;
    size_t i = 0;

    if (state->n == 0)
        sum = values[i++]; /* not 0 + it: minus zero stays */
    for (; i < n; i++)
        sum += values[i];
    if (unlikely(!isfinite(sum))) {
        i = state->n == 0;
        sum = sum_with_care(i ? values[0] : state->x, values + i, n - i);
    }
    state->x = sum;
    state->n += (int64)n;
}

static void
add_moments(upper_state *state, const double *values, size_t n)
{
    double count = (double)state->n, sum = state->x, squares = state->y;

    for (size_t i = 0; i < n; i++) {
        double value = values[i], before = count, sum_before = sum;

        count += 1;
        sum += value;
        if (before > 0) {
            double far = value * count - sum;

            squares += far * far / (count * before);
            if (unlikely(isinf(sum) || isinf(squares))) {
                if (!isinf(sum_before) && !isinf(value))
                    float_overflow_error();
                squares = get_float8_nan();
            }
        } else if (!isfinite(value)) {
            squares = get_float8_nan();
        }
    }
    state->n += (int64)n;
    state->x = sum;
    state->y = squares;
}

/* Of values that are equal (0 and -0, any two NaNs) the later one stays. */
static double
extreme_with_care(double have, const double *values, size_t n, bool greatest)
{
    for (size_t i = 0; i < n; i++) {
        if (greatest ? !float8_gt(have, values[i]) : !float8_lt(have, values[i]))
            have = values[i];
    }
    return have;
}

static void
add_extreme(upper_state *state, const double *values, size_t n, bool greatest)
{
    double first = state->n > 0 ? state->x : values[0];
    double have = first;
    bool odd = isnan(have);

    if (greatest) {
        for (size_t i = 0; i < n; i++) {
            odd |= values[i] != values[i];
            have = have > values[i] ? have : values[i];
        }
    } else {
        for (size_t i = 0; i < n; i++) {
            odd |= values[i] != values[i];
            have = have < values[i] ? have : values[i];
        }
    }
    if (unlikely(odd))
        have = extreme_with_care(first, values, n, greatest);
    state->x = have;
    state->n += (int64)n;
}

/* Of equal times the one that came first stays. */
static void
add_at(upper_state *state, int64 t_ms, double value, bool newer)
{
    if (state->n > 0 && (newer ? t_ms <= state->t_ms : t_ms >= state->t_ms))
        return;
    state->t_ms = t_ms;
    state->y = value;
    state->n = 1;
}

void
upper_add(upper_acc acc, upper_state *state, const int64 *t_ms, const double *values, size_t n)
{
    switch (acc) {
    case ACC_COUNT:
        state->n += (int64)n;
        break;
    case ACC_SUM:
        add_sum(state, values, n);
        break;
    case ACC_MOMENTS:
        add_moments(state, values, n);
        break;
    case ACC_MIN:
    case ACC_MAX:
        add_extreme(state, values, n, acc == ACC_MAX);
        break;
    case ACC_MIN_TIME:
        if (state->n == 0 || t_ms[0] < state->t_ms)
            state->t_ms = t_ms[0];
        state->n += (int64)n;
        break;
    case ACC_MAX_TIME:
        if (state->n == 0 || t_ms[n - 1] > state->t_ms)
            state->t_ms = t_ms[n - 1];
        state->n += (int64)n;
        break;
    case ACC_FIRST:
        add_at(state, t_ms[0], values[0], false);
        break;
    case ACC_LAST:
        add_at(state, t_ms[n - 1], values[n - 1], true);
        break;
    }
}

/* ---- results ------------------------------------------------------------------------------ */

Datum
upper_result(Oid aggregate, const upper_state *state, bool *ret_null)
{
    double n = (double)state->n;

    *ret_null = false;
    if (aggregate == F_COUNT_ || aggregate == F_COUNT_ANY)
        return Int64GetDatum(state->n);
    *ret_null = state->n == 0;
    if (*ret_null)
        return (Datum)0;
    switch (aggregate) {
    case F_SUM_FLOAT8:
    case F_MIN_FLOAT8:
    case F_MAX_FLOAT8:
        return Float8GetDatum(state->x);
    case UPPER_FUNC_FIRST:
    case UPPER_FUNC_LAST:
        return Float8GetDatum(state->y);
    case F_AVG_FLOAT8:
        return Float8GetDatum(state->x / n + 0.0); /* never minus zero: PostgreSQL starts from 0 */
    case F_MIN_TIMESTAMPTZ:
    case F_MAX_TIMESTAMPTZ:
        return TimestampTzGetDatum(bridge_ms_to_timestamptz_unchecked(state->t_ms));
    case F_VAR_POP_FLOAT8:
        return Float8GetDatum(state->y / n);
    case F_STDDEV_POP_FLOAT8:
        return Float8GetDatum(sqrt(state->y / n));
    }
    *ret_null = state->n == 1; /* a sample of one says nothing of its spread */
    if (aggregate == F_VAR_SAMP_FLOAT8 || aggregate == F_VARIANCE_FLOAT8)
        return Float8GetDatum(state->y / (n - 1));
    return Float8GetDatum(sqrt(state->y / (n - 1)));
}
