/*
 * format_double.c - the shortest decimal text that reads back to the same double.
 *
 * The method is Schubfach (R. Giulietti, "The Schubfach way to render doubles"): take the power of
 * ten 10^k that is just not larger than the width of the interval of numbers that round to v.
 * Scaled by it, the interval holds at least one and at most a few integers, and at most one
 * multiple of ten; a multiple of ten is shorter, otherwise the integer nearest to v wins. The
 * scaling needs 128 bits of 10^-k, rounded up, and keeps "there is more below" in the lowest bit of
 * its results, so all comparisons are exact.
 *
 * Then the digits are laid out, plain or as d.ddde+XX with at least two digits of exponent. Only
 * the border between the two differs: Prometheus writes samples plain from 1e-6 up to below 1e21,
 * texts of the language always plain, and messages and histograms as Go's %v does.
 */
#include "lib/base/internal.h"

typedef struct decimal { /* m * 10^e10 */
    uint64_t m;
    int e10;
} decimal;

/* floor(g * c / 2^128), with the lowest bit set if that is not all of it. */
static uint64_t
scale(ps_u128 g, uint64_t c)
{
    uint64_t low = (uint64_t)((unsigned __int128)g.lo * c >> 64);
    unsigned __int128 high = (unsigned __int128)g.hi * c + low;
    /* g may be too large by less than one: a remainder of up to one unit means nothing. */
    return (uint64_t)(high >> 64) | ((uint64_t)high > 1);
}

/* For finite v > 0. */
static decimal
shortest(double v)
{
    uint64_t bits = ps_bits_of(v);
    uint64_t fraction = bits & ((UINT64_C(1) << 52) - 1);
    int biased = (int)(bits >> 52);
    uint64_t c = biased == 0 ? fraction : fraction | UINT64_C(1) << 52;
    int q = (biased == 0 ? 1 : biased) - 1075; /* v = c * 2^q */

    /* Just above a power of two the lower neighbour is only half as far away. */
    bool uneven = fraction == 0 && biased > 1;
    int k = uneven ? (q * 1262611 - 524031) >> 22 : ps_log10_of_pow2(q);
    ps_u128 g = ps_pow10[-k - PS_POW10_MIN];
    if (-k < 0 || -k > PS_POW10_EXACT_MAX) {
        g.lo++;
        g.hi += g.lo == 0;
    }
    int h = q + ps_log2_of_pow10(-k) + 1;

    /* All in quarters of 10^k. The ends belong to the interval if c is even (ties go to even). */
    uint64_t odd = c & 1;
    uint64_t lower = scale(g, (4 * c - (uneven ? 1 : 2)) << h) + odd;
    uint64_t value = scale(g, 4 * c << h);
    uint64_t upper = scale(g, (4 * c + 2) << h) - odd;

    uint64_t s = value / 4;
    if (s >= 10) {
        uint64_t tens = s / 10;
        bool down = lower <= 40 * tens;
        bool up = 40 * tens + 40 <= upper;
        if (down != up)
            return (decimal){tens + up, k + 1};
    }
    bool down = lower <= 4 * s;
    bool up = 4 * s + 4 <= upper;
    if (down != up)
        return (decimal){s + up, k};
    uint64_t middle = 4 * s + 2;
    bool nearer_up = value > middle || (value == middle && (s & 1) != 0);
    return (decimal){s + nearer_up, k};
}

static size_t
put_digits(char *dst, uint64_t m)
{
    char reversed[20];
    size_t n = 0;
    do {
        reversed[n++] = (char)('0' + m % 10);
        m /= 10;
    } while (m != 0);
    for (size_t i = 0; i < n; i++)
        dst[i] = reversed[n - 1 - i];
    return n;
}

/* `point` is the place of the decimal point, counted from the first of the n digits. */
static size_t
lay_out_plain(char *dst, const char *digits, size_t n, int point)
{
    size_t len = 0;
    if (point <= 0) {
        dst[len++] = '0';
        dst[len++] = '.';
        for (int i = point; i < 0; i++)
            dst[len++] = '0';
        memcpy(dst + len, digits, n);
        return len + n;
    }
    for (int i = 0; i < point || i < (int)n; i++) {
        if (i == point)
            dst[len++] = '.';
        dst[len++] = i < (int)n ? digits[i] : '0';
    }
    return len;
}

static size_t
lay_out_exponent(char *dst, const char *digits, size_t n, int exponent)
{
    size_t len = 0;
    dst[len++] = digits[0];
    if (n > 1) {
        dst[len++] = '.';
        memcpy(dst + len, digits + 1, n - 1);
        len += n - 1;
    }
    dst[len++] = 'e';
    dst[len++] = exponent < 0 ? '-' : '+';
    uint64_t size = (uint64_t)(exponent < 0 ? -exponent : exponent);
    if (size < 10)
        dst[len++] = '0';
    return len + put_digits(dst + len, size);
}

static size_t
put_text(char *dst, const char *text, size_t len)
{
    memcpy(dst, text, len + 1);
    return len;
}

/* Plain if the exponent of the first digit lies in plain_min .. plain_max, else d.ddde+XX. */
static size_t
format(char *dst, double v, int plain_min, int plain_max)
{
    uint64_t bits = ps_bits_of(v);
    uint64_t size = bits & ~(UINT64_C(1) << 63);
    bool negative = size != bits;
    if (size > UINT64_C(0x7FF) << 52)
        return put_text(dst, "NaN", 3);
    if (size == UINT64_C(0x7FF) << 52)
        return put_text(dst, negative ? "-Inf" : "+Inf", 4);
    if (size == 0)
        return negative ? put_text(dst, "-0", 2) : put_text(dst, "0", 1);

    decimal d = shortest(ps_double_of(size));
    while (d.m % 10 == 0) {
        d.m /= 10;
        d.e10++;
    }
    char digits[20];
    size_t n = put_digits(digits, d.m);
    int exponent = (int)n + d.e10 - 1;
    size_t len = 0;
    if (negative)
        dst[len++] = '-';
    if (exponent > plain_max || exponent < plain_min)
        len += lay_out_exponent(dst + len, digits, n, exponent);
    else
        len += lay_out_plain(dst + len, digits, n, exponent + 1);
    dst[len] = '\0';
    return len;
}

size_t
ps_format_double(char *dst, double v)
{
    return format(dst, v, -6, 20);
}

size_t
ps_format_double_plain(char *dst, double v)
{
    return format(dst, v, -400, 400);
}

size_t
ps_format_double_go(char *dst, double v)
{
    return format(dst, v, -4, 5);
}
