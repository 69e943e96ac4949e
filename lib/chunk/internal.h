/*
 * internal.h of chunk - bits, most significant first, and the codes that all encodings share.
 *
 * The writer does no checks: whoever opens it has reserved room for the worst case (CHK_WORST_*). The
 * reader checks everything: beyond the end it gives zeros and is `bad`, which is asked once in a while.
 */
#ifndef PROMSCALE_CHUNK_INTERNAL_H
#define PROMSCALE_CHUNK_INTERNAL_H

#include "lib/chunk/chunk.h"

/* Header bits of histogram chunks. */
enum {
    CHK_FLAG_RESET = 0x80,
    CHK_FLAG_NOT_RESET = 0x40,
    CHK_FLAG_GAUGE = 0xC0,
    CHK_FLAG_MASK = 0xC0
};

/* ---- writing ------------------------------------------------------------------------------------ */

typedef struct chk_out {
    uint8_t *p;
    uint64_t word; /* bits to come, from the top */
    unsigned n;    /* how many, below 64 */
} chk_out;

static inline void
chk_flush(chk_out *o)
{
    uint64_t big = __builtin_bswap64(o->word);
    memcpy(o->p, &big, 8);
    o->p += 8;
}

/* The lowest `width` bits of v, 1 to 64. */
static inline void
chk_put(chk_out *o, uint64_t v, unsigned width)
{
    unsigned room = 64 - o->n;
    if (width < 64)
        v &= (UINT64_C(1) << width) - 1;
    if (width < room) {
        o->word |= v << (room - width);
        o->n += width;
        return;
    }
    o->word |= v >> (width - room);
    chk_flush(o);
    o->n = width - room;
    o->word = o->n == 0 ? 0 : v << (64 - o->n);
}

/* Fills the last byte with zeros. Returns the end. */
uint8_t *chk_out_end(chk_out *o);

enum { CHK_NO_WINDOW = 0xFF };
typedef struct chk_window { /* of the significant bits of the last difference */
    uint8_t leading;        /* CHK_NO_WINDOW: there was none */
    uint8_t trailing;
} chk_window;

/* A float as its difference to the one before. */
void chk_put_xor(chk_out *o, uint64_t bits, uint64_t before, chk_window *w);
/* Whole numbers in 1 bit to 9 bytes, small ones in few. */
void chk_put_int(chk_out *o, int64_t v);
void chk_put_uint(chk_out *o, uint64_t v);

/* Room in bytes. */
enum {
    CHK_WORST_END = 8, /* a whole word is written at a time */
    CHK_WORST_INT = 9,
    CHK_WORST_XOR = 10,
    CHK_WORST_FLOATS = 2 + 10 + 8 + CHK_MAX_SAMPLES * (9 + CHK_WORST_XOR) + CHK_WORST_END
};

/* histogram_write.c: n of them from `from` on, which go together. */
ps_status chk_write_histograms(const ps_alloc *alloc, const chk_samples *s, size_t from, size_t n,
                               bool floats, uint8_t flags, ps_buf *out, ps_err *err) PS_MUST_CHECK;

/* ---- reading ------------------------------------------------------------------------------------ */

typedef struct chk_in {
    const uint8_t *p, *end;
    uint64_t word; /* bits read ahead, from the top */
    unsigned n;
    bool bad; /* was asked for more than there is, or found nonsense */
} chk_in;

static inline void
chk_fill(chk_in *in)
{
    while (in->n <= 56 && in->p < in->end) {
        in->word |= (uint64_t)*in->p++ << (56 - in->n);
        in->n += 8;
    }
}

/* `width` bits, 1 to 56. */
static inline uint64_t
chk_get(chk_in *in, unsigned width)
{
    if (in->n < width) {
        chk_fill(in);
        if (in->n < width) {
            in->bad = true;
            in->n = 0;
            in->word = 0;
            return 0;
        }
    }
    uint64_t v = in->word >> (64 - width);
    in->word <<= width;
    in->n -= width;
    return v;
}

static inline uint64_t
chk_get64(chk_in *in)
{
    uint64_t high = chk_get(in, 32);
    return high << 32 | chk_get(in, 32);
}

/* Bits that are still there. */
static inline uint64_t
chk_left(const chk_in *in)
{
    return (uint64_t)(in->end - in->p) * 8 + in->n;
}

uint64_t chk_get_xor(chk_in *in, uint64_t before, chk_window *w);
int64_t chk_get_int(chk_in *in);
uint64_t chk_get_uint(chk_in *in);

/* histogram_read.c: n samples, `in` behind the number of them. */
ps_status chk_read_histograms(chk_in *in, bool floats, size_t n, ps_arena *arena, chk_decoded *ret,
                              ps_err *err) PS_MUST_CHECK;
ps_status chk_damaged(const char *what, ps_err *err);

#endif
