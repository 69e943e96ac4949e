/*
 * decimal.c - doubles as integers, so that the integer frames can hold them.
 *
 * Most values that are measured were decimal once: 12.07 is 1207 / 10^2. The integers of such a
 * series are short and their differences shorter. A value counts as decimal with scale k only if
 * (double)integer / 10^k gives back the same bits; IEEE division is exactly rounded, so every
 * machine agrees. What does not fit (NaN, stale markers, -0, infinities, long fractions) is an
 * exception and is stored raw. A scale that works for a value works for every larger scale too as
 * long as the integer stays below 2^53, since both quotients are the same real number.
 *
 * Series that are not decimal use their bits, mapped so that integer order is the order of the
 * doubles: neighbours in value are neighbours as integers.
 */
#include "lib/block/internal.h"

static const double pow10_table[BLK_DECIMAL_MAX + 1] = {1e0, 1e1, 1e2,  1e3,  1e4,  1e5,  1e6, 1e7,
                                                        1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14};

#define INT_LIMIT 9007199254740992.0 /* 2^53 */

/* The integer of v at scale k; false if it does not give back the same bits. */
static inline bool
decimal_at(double v, unsigned k, uint64_t *ret)
{
    double x = v * pow10_table[k];

    if (!(x < INT_LIMIT && x > -INT_LIMIT)) /* also NaN */
        return false;
    /* nearest integer; from 2^52 on x is one already and adding 0.5 would round */
    double half = x >= INT_LIMIT / 2 || x <= -INT_LIMIT / 2 ? 0 : x < 0 ? -0.5 : 0.5;
    int64_t i = (int64_t)(x + half);
    if (ps_bits_of((double)i / pow10_table[k]) != ps_bits_of(v))
        return false;
    *ret = (uint64_t)i;
    return true;
}

/* Smallest scale of one value, BLK_DECIMAL_MAX + 1 if there is none. */
static unsigned
smallest_scale(double v)
{
    uint64_t i;
    unsigned k = 0;

    while (k <= BLK_DECIMAL_MAX && !decimal_at(v, k, &i))
        k++;
    return k;
}

bool
blk_decimal_scalar(double v, uint64_t *ret_int, unsigned *ret_k)
{
    unsigned k = smallest_scale(v);

    if (k > BLK_DECIMAL_MAX)
        return false;
    *ret_k = k;
    return decimal_at(v, k, ret_int);
}

/*
 * The scale that costs least when `count` says how many values need which: one digit more costs
 * 3.3 bits on every value, an exception costs 9 bytes.
 */
static unsigned
cheapest_scale(const uint32_t *count, size_t n)
{
    size_t above = count[BLK_DECIMAL_MAX + 1];
    double best_cost = 0;
    unsigned best = 0;

    for (unsigned k = BLK_DECIMAL_MAX + 1; k-- > 0;) {
        double cost = (double)above * 72 + (double)(n - above) * 3.33 * k;
        if (k == BLK_DECIMAL_MAX || cost < best_cost) {
            best = k;
            best_cost = cost;
        }
        above += count[k];
    }
    return best;
}

static unsigned
scale_of_values(const double *v, size_t n, size_t stride)
{
    uint32_t count[BLK_DECIMAL_MAX + 2] = {0};
    size_t seen = 0;

    for (size_t i = 0; i < n; i += stride, seen++)
        count[smallest_scale(v[i])]++;
    /* not decimal when more than a quarter has no scale at all */
    if (count[BLK_DECIMAL_MAX + 1] * 4 > seen)
        return BLK_DECIMAL_MAX + 1;
    return cheapest_scale(count, seen);
}

/* As wide as the registers that every machine has: wider ones are taken apart badly. */
typedef uint64_t u64x2 __attribute__((vector_size(16)));
typedef double f64x2 __attribute__((vector_size(16)));

/*
 * Two values to integers; not 0 where one has none at this scale, or one that is not small: a double of less than 2^51
 * plus 1.5 * 2^52 has the nearest integer in its lower bits. As only integers count that give back the value, it makes no
 * difference how they are rounded.
 */
static inline u64x2
scale_two(const double *v, bool whole, double scale, uint64_t *ints)
{
    const f64x2 magic = {0x1.8p52, 0x1.8p52};
    f64x2 x, back;
    u64x2 values, moved, got, zero;

    memcpy(&x, v, sizeof x);
    memcpy(&values, v, sizeof values);
    memcpy(&zero, &magic, sizeof zero);
    if (!whole)
        x *= scale;
    x += magic;
    memcpy(&moved, &x, sizeof moved);
    moved -= zero;
    memcpy(ints, &moved, sizeof moved);
    back = x - magic;
    if (!whole)
        back /= scale;
    memcpy(&got, &back, sizeof got);
    /* where the sum was too large, the difference of the bits is, too */
    return (got ^ values) | (moved + (UINT64_C(1) << 51)) >> 52;
}

/* Stops before four of which one is not small or has no integer. Returns how many were done. */
static size_t
scale_small(const double *v, size_t n, unsigned k, uint64_t *ints)
{
    size_t i = 0;

    for (; i + 4 <= n; i += 4) {
        u64x2 wrong = scale_two(v + i, k == 0, pow10_table[k], ints + i) |
                      scale_two(v + i + 2, k == 0, pow10_table[k], ints + i + 2);
        if ((wrong[0] | wrong[1]) != 0)
            break;
    }
    return i;
}

static size_t
scale_all(const double *v, size_t n, unsigned k, size_t max_exc, uint64_t *ints, uint32_t *exc)
{
    size_t n_exc = 0, i = 0;
    uint64_t last = 0;

    while (i < n) {
        size_t done = scale_small(v + i, n - i, k, ints + i), end;
        i += done;
        if (done > 0)
            last = ints[i - 1];
        /* those that stopped it; some more, since they seldom come alone */
        for (end = n - i < 16 ? n : i + 16; i < end; i++) {
            if (PS_LIKELY(decimal_at(v[i], k, &ints[i]))) {
                last = ints[i];
                continue;
            }
            if (n_exc == max_exc)
                return SIZE_MAX;
            exc[n_exc++] = (uint32_t)i;
            ints[i] = last;
        }
    }
    /* exceptions at the beginning repeat what follows them */
    if (n_exc > 0 && n_exc < n && exc[0] == 0) {
        size_t lead = 0;
        while (lead < n_exc && exc[lead] == lead)
            lead++;
        for (i = 0; i < lead; i++)
            ints[i] = ints[lead];
    }
    return n_exc;
}

bool
blk_decimal_analyse(const double *v, size_t n, uint64_t *ints, uint32_t *exc, size_t *ret_n_exc,
                    unsigned *ret_k)
{
    enum { SAMPLE = 32 };
    unsigned k = scale_of_values(v, n, n > SAMPLE ? n / SAMPLE : 1);
    size_t n_exc;

    if (k > BLK_DECIMAL_MAX)
        return false;
    /* what the sample promised may be wrong: then look at every value */
    n_exc = scale_all(v, n, k, n / 32 + 2, ints, exc);
    if (n_exc == SIZE_MAX) {
        k = scale_of_values(v, n, 1);
        if (k > BLK_DECIMAL_MAX)
            return false;
        n_exc = scale_all(v, n, k, n / 4, ints, exc);
        if (n_exc == SIZE_MAX)
            return false;
    }
    if (n_exc == n)
        return false;
    *ret_n_exc = n_exc;
    *ret_k = k;
    return true;
}

double
blk_decimal_one(uint64_t i, unsigned k, unsigned shift)
{
    return (double)(int64_t)(i << shift) / pow10_table[k];
}

/*
 * Integers to quotients, four at a time: dividing is what costs, and processors divide as many at once as
 * a vector holds. An integer of less than 2^51 added to the bits of 1.5 * 2^52 gives the bits of the sum.
 * Returns how many were done; stops where an integer is larger.
 */
static size_t
divide_small(const uint64_t *ints, size_t n, unsigned shift, double scale, double *out)
{
    const uint64_t half = UINT64_C(1) << 51;
    const double magic = 0x1.8p52;
    size_t i = 0;

    for (; i + 4 <= n; i += 4) {
        u64x2 x, y;
        f64x2 d, e;
        memcpy(&x, ints + i, sizeof x);
        memcpy(&y, ints + i + 2, sizeof y);
        x <<= shift;
        y <<= shift;
        u64x2 high = ((x + half) | (y + half)) >> 52;
        if ((high[0] | high[1]) != 0)
            break;
        x += ps_bits_of(magic);
        y += ps_bits_of(magic);
        memcpy(&d, &x, sizeof d);
        memcpy(&e, &y, sizeof e);
        d = (d - magic) / scale;
        e = (e - magic) / scale;
        memcpy(out + i, &d, sizeof d);
        memcpy(out + i + 2, &e, sizeof e);
    }
    return i;
}

void
blk_decimal_restore(const uint64_t *ints, size_t n, unsigned k, unsigned shift, double *out)
{
    if (k == 0) {
        for (size_t i = 0; i < n; i++)
            out[i] = (double)(int64_t)(ints[i] << shift);
        return;
    }
    for (size_t i = divide_small(ints, n, shift, pow10_table[k], out); i < n; i++)
        out[i] = (double)(int64_t)(ints[i] << shift) / pow10_table[k];
}

void
blk_bits_restore(const uint64_t *ints, size_t n, unsigned shift, double *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = ps_double_of(blk_ordered_bits(ints[i] << shift));
}

unsigned
blk_common_shift(const uint64_t *v, size_t n)
{
    uint64_t all = 0;

    for (size_t i = 0; i < n; i++)
        all |= v[i];
    if (all == 0)
        return 0;
    unsigned shift = (unsigned)__builtin_ctzll(all);
    return shift > 56 ? 56 : shift;
}
