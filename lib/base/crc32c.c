/*
 * crc32c.c - CRC-32C (Castagnoli, reflected polynomial 0x82F63B78).
 *
 * x86-64 has had an instruction for it since SSE4.2; one function is compiled for that target and
 * chosen by a look at the processor on each call (a load and a test; no state of our own). Where
 * there is no such instruction eight table look-ups take eight bytes at a time. Both give the same
 * result for every input; a test compares them.
 */
#include "lib/base/internal.h"

uint32_t
ps_crc32c_portable(uint32_t crc, const void *bytes, size_t len)
{
    const unsigned char *p = bytes;
    crc = ~crc;
    while (len >= 8) {
        uint64_t word = ps_get_u64le(p) ^ crc;
        crc = ps_crc32c_table[7][word & 0xFF] ^ ps_crc32c_table[6][(word >> 8) & 0xFF] ^
              ps_crc32c_table[5][(word >> 16) & 0xFF] ^ ps_crc32c_table[4][(word >> 24) & 0xFF] ^
              ps_crc32c_table[3][(word >> 32) & 0xFF] ^ ps_crc32c_table[2][(word >> 40) & 0xFF] ^
              ps_crc32c_table[1][(word >> 48) & 0xFF] ^ ps_crc32c_table[0][word >> 56];
        p += 8;
        len -= 8;
    }
    while (len-- > 0)
        crc = (crc >> 8) ^ ps_crc32c_table[0][(crc ^ *p++) & 0xFF];
    return ~crc;
}

#if defined(__x86_64__)

__attribute__((target("sse4.2"))) static uint32_t
crc32c_sse42(uint32_t crc, const void *bytes, size_t len)
{
    const unsigned char *p = bytes;
    uint64_t state = (uint32_t)~crc;
    while (len >= 8) {
        state = __builtin_ia32_crc32di(state, ps_get_u64le(p));
        p += 8;
        len -= 8;
    }
    uint32_t tail = (uint32_t)state;
    while (len-- > 0)
        tail = __builtin_ia32_crc32qi(tail, *p++);
    return ~tail;
}

uint32_t
ps_crc32c(uint32_t crc, const void *bytes, size_t len)
{
    if (PS_LIKELY(__builtin_cpu_supports("sse4.2")))
        return crc32c_sse42(crc, bytes, len);
    return ps_crc32c_portable(crc, bytes, len);
}

#else

uint32_t
ps_crc32c(uint32_t crc, const void *bytes, size_t len)
{
    return ps_crc32c_portable(crc, bytes, len);
}

#endif
