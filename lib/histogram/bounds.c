/*
 * bounds.c - where buckets begin and end.
 *
 * Bound i of schema s is 2^(i * 2^-s). A double is a fraction in [0.5, 1) times a power of two, so
 * with s >= 0 the low s bits of i choose one of 2^s fractions and the others are the exponent; the
 * fractions of a lower schema are every second one of the next. The bound after the last double is
 * replaced by the last double, so that the bucket behind it holds the infinities alone.
 */
#include <float.h>

#include "lib/histogram/internal.h"

/* fraction * 2^exponent, fraction in [0.5, 1) */
static double
scale(double fraction, int64_t exponent)
{
    if (PS_LIKELY(exponent >= -1021 && exponent <= 1024))
        return ps_double_of(ps_bits_of(fraction) + ((uint64_t)exponent << 52));
    if (exponent > 1024)
        return HUGE_VAL;
    return exponent < -1100 ? 0 : ldexp(fraction, (int)exponent);
}

double
hst_exponential_bound(int32_t schema, int32_t index)
{
    double fraction = 0.5;
    int64_t exponent;
    if (schema < 0) {
        exponent = (int64_t)index * (INT64_C(1) << -schema) + 1;
    } else {
        uint32_t low = (uint32_t)index & ((1u << schema) - 1);
        fraction = hst_fractions[low << (HST_SCHEMA_MAX - schema)];
        exponent = ((int64_t)index >> schema) + 1;
    }
    if (exponent == 1025 && fraction == 0.5)
        return DBL_MAX;
    return scale(fraction, exponent);
}

double
hst_bound(const hst_hist *h, int32_t index)
{
    if (h->schema != HST_CUSTOM)
        return hst_exponential_bound(h->schema, index);
    if (index < 0)
        return -HUGE_VAL;
    return (uint32_t)index < h->n_bounds ? h->bounds[index] : HUGE_VAL;
}

double
hst_part_below(const hst_bucket *b, double v, bool linear)
{
    if (linear)
        return (v - b->lower) / (b->upper - b->lower);
    double lower = log2(fabs(b->lower)), upper = log2(fabs(b->upper)), at = log2(fabs(v));
    if (v > 0)
        return (at - lower) / (upper - lower);
    return 1 - (at - upper) / (lower - upper);
}

bool
hst_same_bounds(const double *a, uint32_t n_a, const double *b, uint32_t n_b)
{
    if (n_a != n_b)
        return false;
    for (uint32_t i = 0; i < n_a; i++)
        if (a[i] != b[i])
            return false;
    return true;
}

uint32_t
hst_common_bounds(const double *a, uint32_t n_a, const double *b, uint32_t n_b, double *ret)
{
    uint32_t n = 0;
    for (uint32_t i = 0, k = 0; i < n_a && k < n_b;) {
        if (a[i] == b[k]) {
            if (ret != NULL)
                ret[n] = a[i];
            n++, i++, k++;
        } else if (a[i] < b[k]) {
            i++;
        } else {
            k++;
        }
    }
    return n;
}
