/*
 * bits.c - the codes of which chunks are made: differences of floats, whole numbers of any size.
 *
 * A whole number begins with as many ones (and then a zero) as its class says, zero being a lone 0. A
 * class of w bits holds -(2^(w-1) - 1) .. 2^(w-1), so the pattern of the largest negative number in
 * two's complement stands for the positive one.
 */
#include "lib/chunk/internal.h"

static const uint8_t widths[] = {3, 6, 9, 12, 18, 25, 56};
enum { CLASSES = sizeof widths };

uint8_t *
chk_out_end(chk_out *o)
{
    unsigned bytes = (o->n + 7) / 8;
    chk_flush(o);
    o->p -= 8 - bytes;
    o->n = 0;
    o->word = 0;
    return o->p;
}

void
chk_put_xor(chk_out *o, uint64_t bits, uint64_t before, chk_window *w)
{
    uint64_t delta = bits ^ before;
    if (delta == 0) {
        chk_put(o, 0, 1);
        return;
    }
    unsigned leading = (unsigned)__builtin_clzll(delta);
    unsigned trailing = (unsigned)__builtin_ctzll(delta);
    if (leading > 31)
        leading = 31; /* has five bits */
    if (w->leading != CHK_NO_WINDOW && leading >= w->leading && trailing >= w->trailing) {
        chk_put(o, 2, 2);
        chk_put(o, delta >> w->trailing, 64U - w->leading - w->trailing);
        return;
    }
    unsigned width = 64 - leading - trailing;
    *w = (chk_window){(uint8_t)leading, (uint8_t)trailing};
    chk_put(o, UINT64_C(3) << 11 | (uint64_t)leading << 6 | (width & 63), 13); /* 64 as 0 */
    chk_put(o, delta >> trailing, width);
}

uint64_t
chk_get_xor(chk_in *in, uint64_t before, chk_window *w)
{
    if (chk_get(in, 1) == 0)
        return before;
    if (chk_get(in, 1) == 1) {
        unsigned leading = (unsigned)chk_get(in, 5), width = (unsigned)chk_get(in, 6);
        width = width == 0 ? 64 : width;
        if (leading + width > 64) {
            in->bad = true;
            return before;
        }
        *w = (chk_window){(uint8_t)leading, (uint8_t)(64 - leading - width)};
    } else if (w->leading == CHK_NO_WINDOW) {
        *w = (chk_window){0, 0}; /* what readers of the format make of it */
    }
    unsigned width = 64U - w->leading - w->trailing;
    uint64_t delta = 0;
    if (width > 32)
        delta = chk_get(in, width - 32) << 32 | chk_get(in, 32);
    else
        delta = chk_get(in, width);
    return before ^ delta << w->trailing;
}

static void
put_class(chk_out *o, unsigned i, uint64_t v)
{
    if (i == CLASSES) {
        chk_put(o, 0xFF, 8);
        chk_put(o, v, 64);
        return;
    }
    chk_put(o, (UINT64_C(2) << (i + 1)) - 2, i + 2);
    chk_put(o, v, widths[i]);
}

void
chk_put_int(chk_out *o, int64_t v)
{
    unsigned i = 0;
    if (v == 0) {
        chk_put(o, 0, 1);
        return;
    }
    while (i < CLASSES) {
        int64_t half = INT64_C(1) << (widths[i] - 1);
        if (v > -half && v <= half)
            break;
        i++;
    }
    put_class(o, i, (uint64_t)v);
}

void
chk_put_uint(chk_out *o, uint64_t v)
{
    unsigned i = 0;
    if (v == 0) {
        chk_put(o, 0, 1);
        return;
    }
    while (i < CLASSES && v >> widths[i] != 0)
        i++;
    put_class(o, i, v);
}

/* Its class; 0 for the number 0, CLASSES + 1 for eight ones. */
static unsigned
get_class(chk_in *in)
{
    unsigned i = 0;
    while (i <= CLASSES && chk_get(in, 1) == 1)
        i++;
    return i;
}

uint64_t
chk_get_uint(chk_in *in)
{
    unsigned class = get_class(in);
    if (class == 0)
        return 0;
    return class > CLASSES ? chk_get64(in) : chk_get(in, widths[class - 1]);
}

int64_t
chk_get_int(chk_in *in)
{
    unsigned class = get_class(in);
    if (class == 0)
        return 0;
    if (class > CLASSES)
        return (int64_t)chk_get64(in);
    uint64_t v = chk_get(in, widths[class - 1]), half = UINT64_C(1) << (widths[class - 1] - 1);
    return v > half ? (int64_t)v - (int64_t)(half * 2) : (int64_t)v;
}
