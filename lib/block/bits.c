/*
 * bits.c - integers of w bits packed without gaps, least significant bit first.
 *
 * Value i occupies bits i*w .. i*w+w-1 of a little-endian bit string. Widths above 56 are stored as
 * 64, so that a value is always found with one unaligned 8-byte load, a shift and a mask.
 * The reader never loads beyond what it was given: near the end it works on a padded copy.
 */
#include "lib/block/internal.h"

uint64_t
blk_in_varint_slow(blk_in *in)
{
    uint64_t v = 0;
    const uint8_t *p = in->p;

    for (unsigned shift = 0; shift < 70; shift += 7) {
        if (p >= in->end)
            break;
        uint8_t b = *p++;
        if (shift == 63 && b > 1)
            break;
        v |= (uint64_t)(b & 0x7f) << shift;
        if (b < 0x80) {
            in->p = p;
            return v;
        }
    }
    in->bad = true;
    in->p = in->end;
    return 0;
}

void *
blk_scratch_get(const ps_alloc *alloc, blk_scratch *s, size_t n, size_t size)
{
    size_t need;

    if (!ps_mul_size(n, size, &need))
        return NULL;
    if (need <= s->cap && s->ptr != NULL)
        return s->ptr;
    size_t cap = s->cap * 2 > need ? s->cap * 2 : need;
    if (cap < 256)
        cap = 256;
    ps_alloc_free(alloc, s->ptr, s->cap);
    s->cap = 0;
    s->ptr = ps_alloc_new(alloc, cap);
    if (s->ptr != NULL)
        s->cap = cap;
    return s->ptr;
}

void
blk_scratch_done(const ps_alloc *alloc, blk_scratch *s)
{
    ps_alloc_free(alloc, s->ptr, s->cap);
    *s = (blk_scratch){0};
}

void
blk_pack(uint8_t *dst, const uint64_t *src, size_t n, unsigned w)
{
    uint64_t acc = 0;
    unsigned filled = 0;

    if (w == 0)
        return;
    if (w == 64) {
        memcpy(dst, src, n * 8);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        acc |= src[i] << filled;
        filled += w;
        if (filled >= 64) {
            ps_put_u64le(dst, acc);
            dst += 8;
            filled -= 64;
            /* w < 64, so the shift is by less than 64 when bits are left over */
            acc = filled == 0 ? 0 : src[i] >> (w - filled);
        }
    }
    ps_put_u64le(dst, acc);
}

static inline __attribute__((always_inline)) void
unpack_width(uint64_t *dst, size_t n, const uint8_t *src, unsigned w)
{
    const uint64_t mask = (UINT64_C(1) << w) - 1;
    size_t i = 0;

    /* eight values take exactly w bytes: with a constant w all shifts are constants */
    for (; i + 8 <= n; i += 8, src += w) {
        for (unsigned j = 0; j < 8; j++)
            dst[i + j] = (ps_get_u64le(src + (j * w >> 3)) >> (j * w & 7)) & mask;
    }
    for (unsigned j = 0; i < n; i++, j++)
        dst[i] = (ps_get_u64le(src + (j * w >> 3)) >> (j * w & 7)) & mask;
}

/* One instance of the loop for each small width (measured: twice as fast as the general one). */
#define UNPACK_CASE(w)                                                                             \
    case w:                                                                                        \
        unpack_width(dst, n, src, w);                                                              \
        break;

static void
unpack_padded(uint64_t *dst, size_t n, const uint8_t *src, unsigned w)
{
    switch (w) {
        UNPACK_CASE(1)
        UNPACK_CASE(2)
        UNPACK_CASE(3)
        UNPACK_CASE(4)
        UNPACK_CASE(5)
        UNPACK_CASE(6)
        UNPACK_CASE(7)
        UNPACK_CASE(8)
        UNPACK_CASE(9)
        UNPACK_CASE(10)
        UNPACK_CASE(11)
        UNPACK_CASE(12)
        UNPACK_CASE(13)
        UNPACK_CASE(14)
        UNPACK_CASE(15)
        UNPACK_CASE(16)
        UNPACK_CASE(17)
        UNPACK_CASE(18)
        UNPACK_CASE(19)
        UNPACK_CASE(20)
        UNPACK_CASE(21)
        UNPACK_CASE(22)
        UNPACK_CASE(23)
        UNPACK_CASE(24)
    default:
        unpack_width(dst, n, src, w);
    }
}

void
blk_unpack(uint64_t *dst, size_t n, const uint8_t *src, size_t avail, unsigned w)
{
    uint8_t padded[BLK_FRAME_VALUES * 7 + 16];
    size_t bytes = blk_packed_bytes(n, w);

    if (w == 0) {
        memset(dst, 0, n * 8);
        return;
    }
    if (w == 64) {
        memcpy(dst, src, n * 8);
        return;
    }
    if (avail < bytes + 8) {
        memcpy(padded, src, bytes);
        memset(padded + bytes, 0, 16);
        src = padded;
    }
    unpack_padded(dst, n, src, w);
}
