/*
 * parse_double.c - text to the nearest double, without a locale.
 *
 * strtod obeys the process's locale (a host program may have set a decimal comma) and wants a NUL
 * at the end, so we read numbers ourselves, in three steps of growing cost, each exact:
 *
 * 1. Up to 2^53 times a power of ten up to 10^22: both are doubles, one operation rounds once.
 * 2. The first 19 digits as a 64-bit integer m, times 128 bits of the power of ten. Neither may be
 *    all of the number, but the value lies between m * P and (m + 1) * (P + 1); if both ends round
 *    to the same double, that is the answer.
 * 3. Otherwise the value is next to the middle between two doubles: exact integers (round.c).
 *
 * A number too large for a double is an error, not infinity: nobody means infinity by 1e999. One
 * too small is zero.
 */
#include "lib/base/internal.h"

typedef struct decimal {
    const char *text; /* first significant digit */
    const char *end;  /* after the last digit */
    uint64_t m;       /* first 19 significant digits */
    int64_t e10;      /* value is about m * 10^e10 */
    bool cut;         /* non-zero digits follow those in m */
} decimal;

static const double exact_pow10[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                     1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                     1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

static bool
is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* ---- step 2 -------------------------------------------------------------------------------- */

/* m * p * 2^e2, rounded; `inexact` says that a little more is to be added. */
static uint64_t
round_product(uint64_t m, ps_u128 p, int e2, bool inexact)
{
    unsigned __int128 low = (unsigned __int128)m * p.lo;
    unsigned __int128 high = (unsigned __int128)m * p.hi + (uint64_t)(low >> 64);
    uint64_t w[3] = {(uint64_t)(high >> 64), (uint64_t)high, (uint64_t)low};
    int drop = 128;
    if (w[0] == 0) {
        w[0] = w[1];
        w[1] = w[2];
        w[2] = 0;
        drop = 64;
    }
    int lead = __builtin_clzll(w[0]);
    uint64_t top = lead == 0 ? w[0] : w[0] << lead | w[1] >> (64 - lead);
    bool rest = (w[1] << lead) != 0 || w[2] != 0;
    return ps_round_to_double(top, rest || inexact, e2 + drop - lead);
}

/* Returns whether 128 bits were enough. */
static bool
round_by_table(const decimal *d, uint64_t *ret_bits)
{
    if (d->e10 < PS_POW10_MIN || d->e10 > PS_POW10_MAX)
        return false;
    int k = (int)d->e10;
    ps_u128 p = ps_pow10[k - PS_POW10_MIN];
    bool p_exact = k >= 0 && k <= PS_POW10_EXACT_MAX;
    int e2 = ps_log2_of_pow10(k) - 127;
    uint64_t least = round_product(d->m, p, e2, !p_exact || d->cut);
    if (!p_exact || d->cut) {
        ps_u128 above = p;
        if (!p_exact) {
            above.lo++;
            above.hi += above.lo == 0;
        }
        /* The upper end itself is not reached: if it is a tie, the value is below the tie. */
        uint64_t most = round_product(d->m + d->cut, above, e2, false);
        if (least != most)
            return false;
    }
    *ret_bits = least;
    return true;
}

/* ---- step 3 -------------------------------------------------------------------------------- */

static uint64_t
round_exactly(const decimal *d)
{
    uint8_t digits[PS_EXACT_DIGITS];
    size_t n = 0;
    bool more = false;
    int64_t e10 = d->e10;
    size_t seen = 0;
    for (const char *p = d->text; p < d->end; p++) {
        if (!is_digit(*p))
            continue;
        if (n < PS_EXACT_DIGITS)
            digits[n++] = (uint8_t)(*p - '0');
        else
            more |= *p != '0';
        seen++;
    }
    /* e10 belongs to the first 19 digits; here it must belong to the first n. */
    e10 -= (int64_t)n - (int64_t)(seen < 19 ? seen : 19);
    if (e10 > INT32_MAX / 2)
        return UINT64_C(0x7FF) << 52;
    if (e10 < INT32_MIN / 2)
        return 0;
    return ps_decimal_to_double(digits, n, (int)e10, more);
}

/* ---- syntax -------------------------------------------------------------------------------- */

/* Reads [+-]digits at *pos up to end, saturating far outside the range of doubles. */
static bool
read_exponent(const char **pos, const char *end, int64_t *ret)
{
    const char *p = *pos;
    bool negative = false;
    if (p < end && (*p == '+' || *p == '-'))
        negative = *p++ == '-';
    if (p == end || !is_digit(*p))
        return false;
    int64_t value = 0;
    for (; p < end && is_digit(*p); p++) {
        if (value < INT64_C(1) << 40)
            value = value * 10 + (*p - '0');
    }
    *ret = negative ? -value : value;
    *pos = p;
    return true;
}

static bool
read_decimal(const char *p, const char *end, decimal *d)
{
    bool point = false;
    size_t significant = 0;
    size_t all = 0;
    *d = (decimal){.text = p};
    for (; p < end && (is_digit(*p) || (*p == '.' && !point)); p++) {
        if (*p == '.') {
            point = true;
            continue;
        }
        all++;
        d->e10 -= point;
        if (significant == 0 && *p == '0')
            continue;
        if (significant == 0)
            d->text = p;
        if (significant < 19) {
            d->m = d->m * 10 + (uint64_t)(*p - '0');
        } else {
            d->cut |= *p != '0';
            d->e10++;
        }
        significant++;
    }
    d->end = p;
    if (all == 0)
        return false;
    if (p < end && (*p == 'e' || *p == 'E')) {
        int64_t exponent;
        p++;
        if (!read_exponent(&p, end, &exponent))
            return false;
        d->e10 += exponent;
    }
    return p == end;
}

static int
hex_digit(char c)
{
    if (is_digit(c))
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* After "0x": hex digits with at most one point, then optionally p and an exponent of two. */
static bool
read_hex(const char *p, const char *end, uint64_t *ret_bits)
{
    uint64_t m = 0;
    int64_t e2 = 0;
    bool rest = false;
    bool point = false;
    size_t all = 0;
    for (; p < end && (hex_digit(*p) >= 0 || (*p == '.' && !point)); p++) {
        if (*p == '.') {
            point = true;
            continue;
        }
        all++;
        e2 -= point ? 4 : 0;
        if (m >> 60 == 0) {
            m = m << 4 | (uint64_t)hex_digit(*p);
        } else {
            rest |= *p != '0';
            e2 += 4;
        }
    }
    if (all == 0)
        return false;
    if (p < end && (*p == 'p' || *p == 'P')) {
        int64_t exponent;
        p++;
        if (!read_exponent(&p, end, &exponent))
            return false;
        e2 += exponent;
    }
    if (p != end)
        return false;
    if (m == 0 || e2 < -4096) {
        *ret_bits = 0;
        return true;
    }
    int lead = __builtin_clzll(m);
    *ret_bits =
        e2 > 4096 ? UINT64_C(0x7FF) << 52 : ps_round_to_double(m << lead, rest, (int)e2 - lead);
    return true;
}

static uint64_t
decimal_bits(const decimal *d)
{
    uint64_t bits;
    if (d->m == 0)
        return 0;
    if (!d->cut && d->m <= UINT64_C(1) << 53 && d->e10 >= -22 && d->e10 <= 22) {
        double m = (double)d->m;
        return ps_bits_of(d->e10 < 0 ? m / exact_pow10[-d->e10] : m * exact_pow10[d->e10]);
    }
    if (round_by_table(d, &bits))
        return bits;
    return round_exactly(d);
}

ps_status
ps_parse_double(ps_str s, double *ret)
{
    const uint64_t infinity = UINT64_C(0x7FF) << 52;
    const char *p = s.ptr;
    const char *end = s.len == 0 ? p : p + s.len;
    uint64_t sign = 0;
    if (p < end && (*p == '+' || *p == '-'))
        sign = (uint64_t)(*p++ == '-') << 63;
    if (p == end)
        return PS_EINVAL;

    ps_str rest = {p, (size_t)(end - p)};
    uint64_t bits;
    if (ps_str_eq_nocase(rest, PS_STR("inf")) || ps_str_eq_nocase(rest, PS_STR("infinity"))) {
        *ret = ps_double_of(sign | infinity);
        return PS_OK;
    }
    if (ps_str_eq_nocase(rest, PS_STR("nan"))) {
        *ret = ps_double_of(UINT64_C(0x7FF8000000000001)); /* the NaN that Prometheus writes */
        return PS_OK;
    }
    if (rest.len > 2 && p[0] == '0' && (p[1] | 0x20) == 'x') {
        if (!read_hex(p + 2, end, &bits))
            return PS_EINVAL;
    } else {
        decimal d;
        if (!read_decimal(p, end, &d))
            return PS_EINVAL;
        bits = decimal_bits(&d);
    }
    if (bits == infinity)
        return PS_EINVAL;
    *ret = ps_double_of(sign | bits);
    return PS_OK;
}
