/*
 * round.c - from exact arithmetic to the nearest double: the two steps that every way of reading a
 * number ends in.
 *
 * ps_round_to_double knows the layout of a double and nothing of decimals. ps_decimal_to_double is
 * the slow way to read a decimal number that is right for every input: integers of up to 4096 bits
 * on the stack, one long division that yields 65 bits of quotient and "there is more". It runs only
 * for numbers that lie so near the middle between two doubles that 128 bits of a power of ten
 * cannot tell (parse_double.c), so it is written to be plainly right, not fast.
 */
#include "lib/base/internal.h"

uint64_t
ps_round_to_double(uint64_t m, bool fraction, int e2)
{
    const uint64_t infinity = UINT64_C(0x7FF) << 52;
    int exponent = e2 + 63; /* of the top bit */
    if (exponent > 1023)
        return infinity;
    int drop = 11; /* bits of m that do not fit */
    if (exponent < -1022)
        drop += -1022 - exponent; /* subnormal: fewer bits are kept */
    if (drop > 64)
        return 0;
    uint64_t kept = drop == 64 ? 0 : m >> drop;
    uint64_t rest = drop == 64 ? m : m & ((UINT64_C(1) << drop) - 1);
    uint64_t half = UINT64_C(1) << (drop - 1);
    if (rest > half || (rest == half && (fraction || (kept & 1) != 0)))
        kept++;
    /* Rounding up may carry into the exponent, which is what the layout is made for. */
    if (exponent < -1022)
        return kept;
    return ((uint64_t)(exponent + 1022) << 52) + kept;
}

/* ---- integers of fixed capacity: little-endian words, n without leading zero words ------- */

enum { WORDS = 64 };

typedef struct big {
    uint64_t w[WORDS];
    size_t n;
} big;

/* b = b * factor + addend. The callers' ranges keep every value below 2^4096. */
static void
big_mul_add(big *b, uint64_t factor, uint64_t addend)
{
    uint64_t carry = addend;
    for (size_t i = 0; i < b->n; i++) {
        unsigned __int128 x = (unsigned __int128)b->w[i] * factor + carry;
        b->w[i] = (uint64_t)x;
        carry = (uint64_t)(x >> 64);
    }
    if (carry != 0 && b->n < WORDS)
        b->w[b->n++] = carry;
}

static void
big_mul_pow5(big *b, int k)
{
    const uint64_t pow5_27 = UINT64_C(7450580596923828125);
    for (; k >= 27; k -= 27)
        big_mul_add(b, pow5_27, 0);
    uint64_t rest = 1;
    for (; k > 0; k--)
        rest *= 5;
    big_mul_add(b, rest, 0);
}

static int
big_bits(const big *b)
{
    return (int)(64 * b->n) - __builtin_clzll(b->w[b->n - 1]);
}

static void
big_shift_left(big *b, int bits)
{
    size_t words = (size_t)bits / 64;
    int rest = bits % 64;
    uint64_t top = rest == 0 ? 0 : b->w[b->n - 1] >> (64 - rest);
    size_t n = b->n + words + (top != 0);
    if (n > WORDS)
        return; /* not reached: see big_mul_add */
    for (size_t i = b->n; i-- > 0;) {
        uint64_t below = i > 0 && rest != 0 ? b->w[i - 1] >> (64 - rest) : 0;
        b->w[i + words] = b->w[i] << rest | below;
    }
    memset(b->w, 0, words * sizeof b->w[0]);
    if (top != 0)
        b->w[n - 1] = top;
    b->n = n;
}

static int
big_compare(const big *a, const big *b)
{
    if (a->n != b->n)
        return a->n < b->n ? -1 : 1;
    for (size_t i = a->n; i-- > 0;) {
        if (a->w[i] != b->w[i])
            return a->w[i] < b->w[i] ? -1 : 1;
    }
    return 0;
}

/* a -= b, where a >= b. */
static void
big_subtract(big *a, const big *b)
{
    uint64_t borrow = 0;
    for (size_t i = 0; i < a->n; i++) {
        uint64_t take = i < b->n ? b->w[i] : 0;
        uint64_t diff;
        bool under = __builtin_sub_overflow(a->w[i], take, &diff);
        under |= __builtin_sub_overflow(diff, borrow, &a->w[i]);
        borrow = under;
    }
    while (a->n > 0 && a->w[a->n - 1] == 0)
        a->n--;
}

/* ---- decimal to double -------------------------------------------------------------------- */

/* The top 64 bits of num / den * 2^e2, rounded. Destroys both. */
static uint64_t
round_quotient(big *num, big *den, int e2, bool more)
{
    /* Line both up (den <= num < 2 * den), then get one bit of quotient per subtraction. */
    int shift = big_bits(num) - big_bits(den);
    if (shift > 0)
        big_shift_left(den, shift);
    else if (shift < 0)
        big_shift_left(num, -shift);
    if (big_compare(num, den) < 0) {
        big_shift_left(num, 1);
        shift--;
    }
    uint64_t quotient = 0;
    for (int bit = 63; bit >= 0; bit--) {
        if (num->n > 0 && big_compare(num, den) >= 0) {
            big_subtract(num, den);
            quotient |= UINT64_C(1) << bit;
        }
        if (num->n > 0)
            big_shift_left(num, 1);
    }
    return ps_round_to_double(quotient, num->n > 0 || more, e2 + shift - 63);
}

uint64_t
ps_decimal_to_double(const uint8_t *digits, size_t n, int e10, bool more)
{
    /* Beyond these the answer is known, and the integers below stay small: num has at most 2658
     * bits plus alignment, den at most those of 5^1143. */
    if ((int64_t)n + e10 > 310)
        return UINT64_C(0x7FF) << 52;
    if ((int64_t)n + e10 < -342)
        return 0;
    big num = {.n = 0};
    big den = {.w = {1}, .n = 1};
    for (size_t i = 0; i < n; i++) {
        if (num.n == 0) {
            num.w[0] = digits[i];
            num.n = digits[i] != 0;
        } else {
            big_mul_add(&num, 10, digits[i]);
        }
    }
    if (num.n == 0)
        return 0;
    if (e10 >= 0)
        big_mul_pow5(&num, e10);
    else
        big_mul_pow5(&den, -e10);
    return round_quotient(&num, &den, e10, more);
}
