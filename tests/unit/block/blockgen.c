/* blockgen.c - see blockgen.h. */
#include "tests/unit/support.h"

#include <math.h>

#include "tests/unit/block/blockgen.h"

static double
hostile(uint64_t *state)
{
    static const uint64_t bits[] = {
        MDL_STALE_NAN_BITS,
        MDL_NORMAL_NAN_BITS,
        UINT64_C(0x7ff0000000000001),
        UINT64_C(0xfff8dead0000beef),
        UINT64_C(0xffffffffffffffff),
        UINT64_C(0x7ff0000000000000),
        UINT64_C(0xfff0000000000000),
        UINT64_C(0x8000000000000000),
        0,
        1,
        UINT64_C(0x000fffffffffffff),
        UINT64_C(0x0010000000000000),
        UINT64_C(0x7fefffffffffffff),
        UINT64_C(0xffefffffffffffff),
        UINT64_C(0x8000000000000001),
        UINT64_C(0x433fffffffffffff),
        UINT64_C(0x4340000000000000),
        UINT64_C(0x4340000000000001),
        UINT64_C(0xc340000000000000),
        UINT64_C(0x43e0000000000000),
        UINT64_C(0xc3e0000000000000),
    };
    uint64_t pick = gen_below(state, PS_ARRAY_LEN(bits) + 4);

    if (pick < PS_ARRAY_LEN(bits))
        return ps_double_of(bits[pick]);
    if (pick == PS_ARRAY_LEN(bits))
        return (double)gen_below(state, 1000) / 100;
    return ps_double_of(gen_u64(state));
}

static double
int_edge(uint64_t *state)
{
    static const double edges[] = {
        9007199254740991.0,
        9007199254740992.0,
        9007199254740993.0,
        -9007199254740991.0,
        -9007199254740992.0,
        90071992547409.91,
        90071992547409.92,
        -90071992547409.93,
        4503599627370495.5,
        4503599627370496.0,
        9223372036854775807.0,
        -9223372036854775808.0,
        0.1,
        1e14,
        1e-14,
        99999999999999.0,
        0.30000000000000004,
    };

    return edges[gen_below(state, PS_ARRAY_LEN(edges))];
}

void
gen_fill_values(uint64_t *state, gen_values kind, double *v, size_t n)
{
    double x = (double)gen_below(state, 1000000);
    double pool[5];

    for (size_t i = 0; i < 5; i++)
        pool[i] = gen_unit(state) * 1e6;
    for (size_t i = 0; i < n; i++) {
        switch (kind) {
        case GEN_CONST:
            v[i] = x;
            break;
        case GEN_COUNTER:
            v[i] = x += (double)(1000 + gen_below(state, 250));
            break;
        case GEN_SLOW_COUNTER:
            v[i] = x += gen_below(state, 20) == 0;
            break;
        case GEN_CENTI_COUNTER:
            v[i] = round((x += 0.01 * (double)gen_below(state, 1500)) * 100) / 100;
            break;
        case GEN_PAGES:
            v[i] = x = fmod(x, 1e6) + (double)gen_below(state, 64), v[i] = floor(x) * 4096;
            break;
        case GEN_GAUGE:
            v[i] = (double)(int64_t)gen_below(state, 2000) / 100 - 10;
            break;
        case GEN_FLOAT_SUM:
            v[i] = x += gen_unit(state);
            break;
        case GEN_CLOCK:
            v[i] = 1.7e9 + 15 * (double)i + 0.001 * gen_unit(state);
            break;
        case GEN_NOISE_BITS:
            v[i] = ps_double_of(gen_u64(state));
            break;
        case GEN_HOSTILE:
            v[i] = hostile(state);
            break;
        case GEN_STALE_TAIL:
            v[i] = i + 1 == n ? ps_double_of(MDL_STALE_NAN_BITS)
                              : (x += 3 + (double)gen_below(state, 5));
            break;
        case GEN_INT_EDGE:
            v[i] = int_edge(state);
            break;
        case GEN_DENORMAL:
            v[i] = ps_double_of(gen_u64(state) & UINT64_C(0x800fffffffffffff));
            break;
        case GEN_TOGGLE_SIGN:
            v[i] = gen_below(state, 2) ? pool[0] / 3 : -pool[0] / 3;
            break;
        case GEN_RAMP:
            v[i] = x + (double)i * (double)i;
            break;
        case GEN_RESETS:
            v[i] = x = gen_below(state, 60) == 0 ? 0 : x + (double)gen_below(state, 100);
            break;
        case GEN_REPEATING_FLOATS:
            v[i] = pool[i % 5] / 3;
            break;
        case GEN_VALUES_END:
            break;
        }
    }
}

void
gen_fill_buckets(uint64_t *state, double *v, size_t n_buckets, size_t n)
{
    for (size_t b = 0; b < n_buckets; b++)
        v[b * n] = (double)(1000 * (b + 1));
    for (size_t i = 1; i < n; i++) {
        double below = 0;
        for (size_t b = 0; b < n_buckets; b++) {
            below += (double)(gen_below(state, 9) + gen_below(state, 60 / (1 + b * b) + 1));
            v[b * n + i] = v[b * n + i - 1] + below;
        }
    }
}

void
gen_fill_times(uint64_t *state, gen_times kind, int64_t *t, size_t n)
{
    int64_t base = INT64_C(1700000000000) + (int64_t)gen_below(state, 100000000), step = 15000;
    int64_t room = (MDL_TIME_MAX_MS - MDL_TIME_MIN_MS) / (int64_t)(n + 1);

    if (kind == GEN_EXTREME_TIMES)
        base = MDL_TIME_MIN_MS;
    else if (kind == GEN_NEGATIVE)
        base = -base;
    for (size_t i = 0; i < n; i++) {
        int64_t at = base + (int64_t)i * step;
        switch (kind) {
        case GEN_GRID:
            t[i] = at;
            break;
        case GEN_JITTER:
            t[i] = gen_below(state, 20) == 0 ? at + (int64_t)gen_below(state, 41) - 20 : at;
            break;
        case GEN_ALL_JITTER:
            t[i] = at + (int64_t)gen_below(state, 16);
            break;
        case GEN_GAPS:
            if (gen_below(state, 50) == 0)
                base += step * (int64_t)gen_below(state, 5);
            t[i] = base + (int64_t)i * step;
            break;
        case GEN_MILLIS:
            t[i] = base + (int64_t)i;
            break;
        case GEN_RANDOM_TIMES:
            t[i] = base += 1 + (int64_t)gen_below(state, 1000000);
            break;
        case GEN_EXTREME_TIMES:
            t[i] = i + 1 == n && n > 1 ? MDL_TIME_MAX_MS : base;
            base += 1 + (int64_t)gen_below(state, (uint64_t)room);
            break;
        case GEN_NEGATIVE:
            t[i] = at;
            break;
        case GEN_TIMES_END:
            break;
        }
    }
}

void
check_samples(const int64_t *t, const double *v, size_t n, const int64_t *want_t,
              const double *want_v, size_t want_n)
{
    assert_int_equal(n, want_n);
    if (n == 0)
        return;
    assert_memory_equal(t, want_t, n * sizeof *t);
    if (v != NULL)
        assert_memory_equal(v, want_v, n * sizeof *v);
}
