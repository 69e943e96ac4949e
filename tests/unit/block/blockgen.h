/*
 * blockgen.h - series to encode: plausible and hostile, repeatable from a seed; and the checks that
 * every block test ends with.
 */
#ifndef PROMSCALE_TESTS_UNIT_BLOCK_BLOCKGEN_H
#define PROMSCALE_TESTS_UNIT_BLOCK_BLOCKGEN_H

#include "lib/block/block.h"

/* splitmix64 */
static inline uint64_t
gen_u64(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9E3779B97F4A7C15));

    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

static inline uint64_t
gen_below(uint64_t *state, uint64_t n)
{
    return gen_u64(state) % n;
}

static inline double
gen_unit(uint64_t *state)
{
    return (double)(gen_u64(state) >> 11) * 0x1p-53;
}

typedef enum gen_values {
    GEN_CONST,
    GEN_COUNTER,
    GEN_SLOW_COUNTER,
    GEN_CENTI_COUNTER,
    GEN_PAGES,
    GEN_GAUGE,
    GEN_FLOAT_SUM,
    GEN_CLOCK,
    GEN_NOISE_BITS,
    GEN_HOSTILE,
    GEN_STALE_TAIL,
    GEN_INT_EDGE,
    GEN_DENORMAL,
    GEN_TOGGLE_SIGN,
    GEN_RAMP,
    GEN_RESETS,
    GEN_REPEATING_FLOATS,
    GEN_VALUES_END
} gen_values;

typedef enum gen_times {
    GEN_GRID,
    GEN_JITTER,
    GEN_ALL_JITTER,
    GEN_GAPS,
    GEN_MILLIS,
    GEN_RANDOM_TIMES,
    GEN_EXTREME_TIMES,
    GEN_NEGATIVE,
    GEN_TIMES_END
} gen_times;

void gen_fill_values(uint64_t *state, gen_values kind, double *v, size_t n);
/* Cumulative buckets of a histogram, one after the other, n scrapes of each. */
void gen_fill_buckets(uint64_t *state, double *v, size_t n_buckets, size_t n);
/* Strictly ascending, inside MDL_TIME_MIN_MS..MDL_TIME_MAX_MS. */
void gen_fill_times(uint64_t *state, gen_times kind, int64_t *t, size_t n);

/* cmocka checks. Doubles are compared by bits. */
void check_samples(const int64_t *t, const double *v, size_t n, const int64_t *want_t,
                   const double *want_v, size_t want_n);

#endif
