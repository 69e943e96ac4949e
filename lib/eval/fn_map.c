/*
 * fn_map.c - functions over instant vectors that turn a number into a number: mathematics, rounding,
 * clamping. fn_map_date.c has those of dates.
 *
 * They work in place on whole rows, cells that hold nothing included, so that loops are plain ones;
 * what is costly skips words of 64 cells in which nothing is. Histograms are left out silently.
 */
#include <math.h>

#include "lib/eval/fn_map.h"

void
ev_floats_only(ev_batch *b)
{
    for (size_t i = 0; i < b->n; i++) {
        const hst_hist *const *h = b->h[i];
        uint64_t *has = b->has + i * b->n_words;
        for (size_t step = 0; h != NULL && step < b->n_steps; step++)
            if (ev_has(has, step) && h[step] != NULL)
                ev_unset(has, step);
        b->h[i] = NULL;
    }
}

/* ---- one number to one number ---------------------------------------------------------------------- */

static ps_status
each(ev_batch *b, double (*fn)(double))
{
    ev_floats_only(b);
    for (size_t i = 0; i < b->n; i++) {
        double *v = b->v + i * b->n_steps;
        const uint64_t *has = b->has + i * b->n_words;
        for (size_t step = 0; step < b->n_steps; step++) {
            if (has[step / 64] == 0)
                step |= 63;
            else
                v[step] = fn(v[step]);
        }
    }
    return PS_OK;
}

#define EACH(name, expression)                                                                     \
    static double name##_of(double x)                                                              \
    {                                                                                              \
        return expression;                                                                         \
    }                                                                                              \
    static ps_status name##_each(const ev_map_call *call, ev_batch *b)                             \
    {                                                                                              \
        (void)call;                                                                                \
        return each(b, name##_of);                                                                 \
    }

EACH(fn_abs, fabs(x))
EACH(fn_acos, acos(x))
EACH(fn_acosh, acosh(x))
EACH(fn_asin, asin(x))
EACH(fn_asinh, asinh(x))
EACH(fn_atan, atan(x))
EACH(fn_atanh, atanh(x))
EACH(fn_ceil, ceil(x))
EACH(fn_cos, cos(x))
EACH(fn_cosh, cosh(x))
EACH(fn_deg, x * 180 / M_PI)
EACH(fn_exp, exp(x))
EACH(fn_floor, floor(x))
EACH(fn_ln, log(x))
EACH(fn_log10, log10(x))
EACH(fn_log2, log2(x))
EACH(fn_rad, x * M_PI / 180)
EACH(fn_sgn, x < 0 ? -1 : x > 0 ? 1 : x)
EACH(fn_sin, sin(x))
EACH(fn_sinh, sinh(x))
EACH(fn_sqrt, sqrt(x))
EACH(fn_tan, tan(x))
EACH(fn_tanh, tanh(x))

/* ---- rounding and clamping -------------------------------------------------------------------------- */

static ps_status
fn_round(const ev_map_call *call, ev_batch *b)
{
    ev_floats_only(b);
    for (size_t i = 0; i < b->n; i++) {
        double *v = b->v + i * b->n_steps;
        for (size_t step = 0; step < b->n_steps; step++) {
            double inverse = 1.0 / (call->n_params == 0 ? 1 : call->params[0][step]);
            v[step] = floor(v[step] * inverse + 0.5) / inverse;
        }
    }
    return PS_OK;
}

/* The smaller and the larger of two, where an infinity that decides wins over NaN. */
static inline double
smaller(double a, double b)
{
    if (a == -INFINITY || b == -INFINITY)
        return -INFINITY;
    if (isnan(a) || isnan(b))
        return NAN;
    if (a == 0 && a == b)
        return signbit(a) ? a : b;
    return a < b ? a : b;
}

static inline double
larger(double a, double b)
{
    return -smaller(-a, -b);
}

static void
clamp_row(double *v, uint64_t *has, const double *low, const double *high, size_t n_steps)
{
    for (size_t step = 0; step < n_steps; step++) {
        double min = low == NULL ? -INFINITY : low[step];
        double max = high == NULL ? INFINITY : high[step];
        if (max < min)
            ev_unset(has, step);
        v[step] = larger(min, smaller(max, v[step]));
    }
}

static ps_status
clamp_between(ev_batch *b, const double *low, const double *high)
{
    ev_floats_only(b);
    for (size_t i = 0; i < b->n; i++)
        clamp_row(b->v + i * b->n_steps, b->has + i * b->n_words, low, high, b->n_steps);
    return PS_OK;
}

static ps_status
fn_clamp(const ev_map_call *call, ev_batch *b)
{
    return clamp_between(b, call->params[0], call->params[1]);
}

static ps_status
fn_clamp_max(const ev_map_call *call, ev_batch *b)
{
    return clamp_between(b, NULL, call->params[0]);
}

static ps_status
fn_clamp_min(const ev_map_call *call, ev_batch *b)
{
    return clamp_between(b, call->params[0], NULL);
}

/* ---- the table --------------------------------------------------------------------------------------- */

const ev_map_function *
ev_map_function_of(pql_fn fn)
{
    static const ev_map_function table[] = {
        {PQL_FN_ABS, fn_abs_each, false},
        {PQL_FN_ACOS, fn_acos_each, false},
        {PQL_FN_ACOSH, fn_acosh_each, false},
        {PQL_FN_ASIN, fn_asin_each, false},
        {PQL_FN_ASINH, fn_asinh_each, false},
        {PQL_FN_ATAN, fn_atan_each, false},
        {PQL_FN_ATANH, fn_atanh_each, false},
        {PQL_FN_CEIL, fn_ceil_each, false},
        {PQL_FN_CLAMP, fn_clamp, false},
        {PQL_FN_CLAMP_MAX, fn_clamp_max, false},
        {PQL_FN_CLAMP_MIN, fn_clamp_min, false},
        {PQL_FN_COS, fn_cos_each, false},
        {PQL_FN_COSH, fn_cosh_each, false},
        {PQL_FN_DAY_OF_MONTH, ev_map_date, false},
        {PQL_FN_DAY_OF_WEEK, ev_map_date, false},
        {PQL_FN_DAY_OF_YEAR, ev_map_date, false},
        {PQL_FN_DAYS_IN_MONTH, ev_map_date, false},
        {PQL_FN_DEG, fn_deg_each, false},
        {PQL_FN_EXP, fn_exp_each, false},
        {PQL_FN_FLOOR, fn_floor_each, false},
        {PQL_FN_HOUR, ev_map_date, false},
        {PQL_FN_LN, fn_ln_each, false},
        {PQL_FN_LOG10, fn_log10_each, false},
        {PQL_FN_LOG2, fn_log2_each, false},
        {PQL_FN_MINUTE, ev_map_date, false},
        {PQL_FN_MONTH, ev_map_date, false},
        {PQL_FN_RAD, fn_rad_each, false},
        {PQL_FN_ROUND, fn_round, false},
        {PQL_FN_SGN, fn_sgn_each, false},
        {PQL_FN_SIN, fn_sin_each, false},
        {PQL_FN_SINH, fn_sinh_each, false},
        {PQL_FN_SQRT, fn_sqrt_each, false},
        {PQL_FN_TAN, fn_tan_each, false},
        {PQL_FN_TANH, fn_tanh_each, false},
        {PQL_FN_YEAR, ev_map_date, false},
    };
    for (size_t i = 0; i < PS_ARRAY_LEN(table); i++)
        if (table[i].fn == fn)
            return &table[i];
    return NULL;
}
