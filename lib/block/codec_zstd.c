/*
 * codec_zstd.c - irregular floats of sealed series: the doubles' bits, xored or as differences of
 * ordered bits, byte-shuffled into eight planes (all first bytes, then all second bytes, ...) and
 * compressed with zstd. Sign, exponent and high mantissa bytes repeat; low ones stay noise.
 *
 * Body: u8 filter, then one zstd frame of exactly 8 * n bytes.
 */
#define ZSTD_STATIC_LINKING_ONLY
#include "lib/block/internal.h"

#include <zstd.h>
#include <zstd_errors.h>

enum { FILTER_XOR = 0, FILTER_DELTA = 1, FILTER_END }; /* stored numbers */
enum { LEVEL = 3 };

struct blk_zstd {
    ps_alloc alloc;
    ZSTD_CCtx *c;
    ZSTD_DCtx *d;
};

/* zstd frees without a size; ps_alloc wants it: kept in front. */
enum { HEADROOM = 16 };

static void *
zstd_malloc(void *self, size_t size)
{
    const ps_alloc *alloc = self;
    char *p = ps_alloc_new(alloc, size + HEADROOM);

    if (p == NULL)
        return NULL;
    memcpy(p, &size, sizeof size);
    return p + HEADROOM;
}

static void
zstd_free(void *self, void *address)
{
    char *p = address;
    size_t size;

    if (p == NULL)
        return;
    p -= HEADROOM;
    memcpy(&size, p, sizeof size);
    ps_alloc_free(self, p, size + HEADROOM);
}

void
blk_zstd_free(blk_zstd *z, const ps_alloc *alloc)
{
    if (z == NULL)
        return;
    ZSTD_freeCCtx(z->c);
    ZSTD_freeDCtx(z->d);
    ps_alloc_free(alloc, z, sizeof *z);
}

static blk_zstd *
contexts(const ps_alloc *alloc, blk_codec_scratch *s, bool compress)
{
    if (s->zstd == NULL) {
        s->zstd = ps_alloc_new(alloc, sizeof *s->zstd);
        if (s->zstd == NULL)
            return NULL;
        *s->zstd = (blk_zstd){.alloc = *alloc};
    }
    blk_zstd *z = s->zstd;
    ZSTD_customMem mem = {zstd_malloc, zstd_free, &z->alloc};
    if (compress && z->c == NULL)
        z->c = ZSTD_createCCtx_advanced(mem);
    if (!compress && z->d == NULL)
        z->d = ZSTD_createDCtx_advanced(mem);
    return compress ? (z->c == NULL ? NULL : z) : (z->d == NULL ? NULL : z);
}

static void
shuffle(const double *v, size_t n, unsigned filter, uint8_t *planes)
{
    uint64_t before = 0;

    for (size_t i = 0; i < n; i++) {
        uint64_t b = ps_bits_of(v[i]), x;
        if (filter == FILTER_XOR) {
            x = b ^ before;
        } else {
            b = blk_ordered_bits(b);
            x = blk_zigzag(b - before);
        }
        before = b;
        for (unsigned k = 0; k < 8; k++)
            planes[k * n + i] = (uint8_t)(x >> (8 * k));
    }
}

/* Values lo..hi; the sums need all values before them. */
static void
unshuffle(const uint8_t *planes, size_t n, unsigned filter, size_t lo, size_t hi, double *out)
{
    uint64_t acc = 0;

    for (size_t i = 0; i < hi; i++) {
        uint64_t x = 0, b;
        for (unsigned k = 0; k < 8; k++)
            x |= (uint64_t)planes[k * n + i] << (8 * k);
        if (filter == FILTER_XOR) {
            b = acc ^= x;
        } else {
            acc += blk_unzigzag(x);
            b = blk_ordered_bits(acc);
        }
        if (i >= lo)
            out[i - lo] = ps_double_of(b);
    }
}

ps_status
blk_zstd_encode(const ps_alloc *alloc, blk_codec_scratch *s, const double *v, size_t n,
                ps_buf *body)
{
    const size_t raw = n * 8, bound = ZSTD_compressBound(raw);
    blk_zstd *z = contexts(alloc, s, true);
    uint8_t *planes = blk_scratch_get(alloc, &s->planes, n, 8);
    size_t best = SIZE_MAX;

    if (z == NULL || planes == NULL)
        return PS_ENOMEM;
    char *zbuf = blk_scratch_get(alloc, &s->zbuf, bound, 1);
    if (zbuf == NULL)
        return PS_ENOMEM;
    for (unsigned filter = 0; filter < FILTER_END; filter++) {
        shuffle(v, n, filter, planes);
        size_t len = ZSTD_compressCCtx(z->c, zbuf, bound, planes, raw, LEVEL);
        if (ZSTD_isError(len)) /* the bound rules out all but memory */
            return PS_ENOMEM;
        if (len >= best)
            continue;
        best = len;
        ps_buf_clear(body);
        ps_buf_add_char(body, (char)filter);
        ps_buf_add(body, zbuf, len);
    }
    return body->failed ? PS_ENOMEM : PS_OK;
}

ps_status
blk_zstd_decode(const ps_alloc *alloc, blk_codec_scratch *s, const uint8_t *src, size_t len,
                size_t n, size_t lo, size_t count, double *out)
{
    if (len < 1 || src[0] >= FILTER_END)
        return PS_ECORRUPT;
    /* a frame that says another size must not be given memory */
    if (ZSTD_getFrameContentSize(src + 1, len - 1) != n * 8)
        return PS_ECORRUPT;
    blk_zstd *z = contexts(alloc, s, false);
    uint8_t *planes = blk_scratch_get(alloc, &s->planes, n, 8);
    if (z == NULL || planes == NULL)
        return PS_ENOMEM;
    size_t got = ZSTD_decompressDCtx(z->d, planes, n * 8, src + 1, len - 1);
    if (got != n * 8) {
        if (ZSTD_isError(got) && ZSTD_getErrorCode(got) == ZSTD_error_memory_allocation)
            return PS_ENOMEM;
        return PS_ECORRUPT;
    }
    unshuffle(planes, n, src[0], lo, lo + count, out);
    return PS_OK;
}
