/*
 * internal.h - what the files of lib/base share among themselves and show to their tests.
 */
#ifndef PROMSCALE_BASE_INTERNAL_H
#define PROMSCALE_BASE_INTERNAL_H

#include "lib/base/base.h"

/*
 * ps_pow10[k - PS_POW10_MIN] are the first 128 bits of 10^k: floor(10^k * 2^(127 - floor(log2
 * 10^k))), exact for 0 <= k <= PS_POW10_EXACT_MAX.
 */
enum { PS_POW10_MIN = -342, PS_POW10_MAX = 324, PS_POW10_EXACT_MAX = 55 };
typedef struct ps_u128 {
    uint64_t hi, lo;
} ps_u128;
extern const ps_u128 ps_pow10[PS_POW10_MAX - PS_POW10_MIN + 1];

/* floor(log2(10^k)), for |k| <= 1233; floor(log10(2^q)), for |q| <= 1650. */
static inline int
ps_log2_of_pow10(int k)
{
    return (k * 1741647) >> 19;
}
static inline int
ps_log10_of_pow2(int q)
{
    return (q * 1262611) >> 22;
}

/*
 * The double nearest to (m + fraction) * 2^e2, ties to even; `fraction` says that something between
 * 0 and 1, both excluded, is to be added to m. m must have its top bit set. Returns the bits;
 * infinity if it is too large.
 */
uint64_t ps_round_to_double(uint64_t m, bool fraction, int e2);

/*
 * The double nearest to digits[0..n) * 10^e10 by exact arithmetic, where digits are 0..9, the first
 * is not 0, n <= PS_EXACT_DIGITS; `more` says that further non-zero digits follow. Bits; infinity
 * if too large.
 */
enum { PS_EXACT_DIGITS = 800 };
uint64_t ps_decimal_to_double(const uint8_t *digits, size_t n, int e10, bool more);

/* Slice-by-8 tables for CRC-32C, and the portable loop over them. */
extern const uint32_t ps_crc32c_table[8][256];
uint32_t ps_crc32c_portable(uint32_t crc, const void *bytes, size_t len);

#endif
