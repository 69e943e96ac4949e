/*
 * decode.c - chunks read back: floats; what all encodings begin with.
 *
 * Nothing is taken on the word of the bytes: a sample has two bits at least, so there are no more than
 * that before memory is asked for.
 */
#include "lib/chunk/internal.h"

ps_status
chk_damaged(const char *what, ps_err *err)
{
    return ps_fail(err, PS_ECORRUPT, "damaged chunk: %s", what);
}

/* Seven bits a byte, lowest first. */
static uint64_t
get_bytes(chk_in *in)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
        uint64_t byte = chk_get(in, 8);
        if (shift == 63 && byte > 1)
            break;
        v |= (byte & 0x7F) << shift;
        if (byte < 0x80)
            return v;
    }
    in->bad = true;
    return 0;
}

static int64_t
get_change(chk_in *in)
{
    static const uint8_t widths[] = {0, 14, 17, 20};
    unsigned class = 0;
    while (class < 4 && chk_get(in, 1) == 1)
        class ++;
    if (class == 0)
        return 0;
    if (class == 4)
        return (int64_t)chk_get64(in);
    uint64_t v = chk_get(in, widths[class]), half = UINT64_C(1) << (widths[class] - 1);
    return v > half ? (int64_t)v - (int64_t)(half * 2) : (int64_t)v;
}

static ps_status
read_floats(chk_in *in, size_t n, ps_arena *arena, chk_decoded *ret, ps_err *err)
{
    chk_window window = {.leading = CHK_NO_WINDOW};
    chk_decoded d = {.t_ms = ps_arena_new(arena, (n + 1) * sizeof(int64_t)),
                     .values = ps_arena_new(arena, (n + 1) * sizeof(double)),
                     .n = n};
    uint64_t t = 0, step = 0, bits = 0;
    if (d.t_ms == NULL || d.values == NULL)
        return ps_fail(err, PS_ENOMEM, "out of memory");
    for (size_t i = 0; i < n && !in->bad; i++) {
        if (i == 0) {
            uint64_t zigzag = get_bytes(in);
            t = zigzag >> 1 ^ (0 - (zigzag & 1));
            bits = chk_get64(in);
        } else {
            step = i == 1 ? get_bytes(in) : step + (uint64_t)get_change(in);
            t += step;
            bits = chk_get_xor(in, bits, &window);
        }
        d.t_ms[i] = (int64_t)t;
        d.values[i] = ps_double_of(bits);
    }
    if (in->bad)
        return chk_damaged("it ends within a sample", err);
    *ret = d;
    return PS_OK;
}

ps_status
chk_decode(int encoding, ps_str data, ps_arena *arena, chk_decoded *ret, ps_err *err)
{
    chk_in in = {.p = (const uint8_t *)data.ptr, .end = (const uint8_t *)data.ptr + data.len};
    if (encoding < CHK_XOR || encoding > CHK_FLOAT_HISTOGRAM)
        return ps_fail(err, PS_EUNSUPPORTED, "unknown encoding %d of a chunk", encoding);
    if (data.len < 2)
        return chk_damaged("it has no header", err);
    size_t n = (size_t)chk_get(&in, 16);
    if (n > chk_left(&in) / 2)
        return chk_damaged("it is too short for its samples", err);
    return encoding == CHK_XOR
               ? read_floats(&in, n, arena, ret, err)
               : chk_read_histograms(&in, encoding == CHK_FLOAT_HISTOGRAM, n, arena, ret, err);
}
