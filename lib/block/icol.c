/*
 * icol.c - the integer columns of flush blocks: a method byte, then n integers.
 *
 * Flush blocks are small (tens to thousands of integers a column), so what counts is a low fixed
 * cost. Byte-aligned methods are preferred when they are close: lz4 runs over the whole body and
 * finds repeated patterns (the same hosts in the same order for every metric) only at byte
 * borders.
 */
#include "lib/block/internal.h"

enum {                  /* stored numbers */
       ICOL_SAME = 0,   /* zigzag varint */
       ICOL_VARINT = 1, /* zigzag varint each */
       ICOL_DELTA = 2,  /* zigzag varint of the difference to the one before (first: to 0) */
       ICOL_RUNS = 3,   /* (zigzag varint value, varint length - 1) until all are covered */
       ICOL_BYTES = 4, /* zigzag varint lowest, u8 width, then value - lowest in width bytes each */
       ICOL_FRAMES = 5, /* frames, mode raw, header and payload in turn */
       ICOL_FRAMES_DELTA = 6,
       ICOL_END
};

typedef struct icol_sizes {
    size_t size[ICOL_END];
    uint64_t low;
    unsigned width;
} icol_sizes;

static void
measure(const uint64_t *v, size_t n, icol_sizes *m)
{
    size_t varint = 0, delta = 0, runs = 0, run = 0;
    size_t spread = 0; /* bits of all differences: what packing them may cost */
    uint64_t before = 0;
    int64_t low = INT64_MAX, high = INT64_MIN;

    for (size_t i = 0; i < n; i++) {
        uint64_t d = blk_zigzag(v[i] - before);
        unsigned len = blk_varint_len(blk_zigzag(v[i]));
        low = (int64_t)v[i] < low ? (int64_t)v[i] : low;
        high = (int64_t)v[i] > high ? (int64_t)v[i] : high;
        varint += len;
        delta += blk_varint_len(d);
        spread += 64 - (unsigned)__builtin_clzll(d | 1);
        if (d == 0 && i > 0) {
            run++;
        } else {
            runs += len + blk_varint_len(run);
            run = 0;
        }
        before = v[i];
    }
    const unsigned bits = blk_bit_length((uint64_t)high - (uint64_t)low);
    m->low = (uint64_t)low;
    m->width = (bits + 7) / 8;
    m->size[ICOL_VARINT] = varint;
    m->size[ICOL_DELTA] = delta;
    m->size[ICOL_RUNS] = runs + 1;
    m->size[ICOL_BYTES] = blk_varint_len(blk_zigzag(m->low)) + 1 + n * m->width;
    /* estimates: patches may make it less, headers more */
    const size_t heads = blk_frame_count(n) * (3 + (size_t)blk_varint_len(blk_zigzag(m->low)));
    m->size[ICOL_FRAMES] = heads + blk_packed_bytes(n, bits);
    m->size[ICOL_FRAMES_DELTA] = heads + spread / 8 + n / 8;
}

static unsigned
choose(const icol_sizes *m, size_t n)
{
    unsigned best = ICOL_VARINT;

    for (unsigned k = ICOL_DELTA; k < ICOL_FRAMES; k++) {
        if (m->size[k] < m->size[best])
            best = k;
    }
    if (n < 16)
        return best;
    size_t limit = m->size[best] - m->size[best] / 3; /* measured, with lz4 behind it */
    for (unsigned k = ICOL_FRAMES; k < ICOL_END; k++) {
        if (m->size[k] < limit) {
            limit = m->size[k];
            best = k;
        }
    }
    return best;
}

static uint8_t *
put_varints(uint8_t *p, const uint64_t *v, size_t n, bool delta)
{
    uint64_t before = 0;

    for (size_t i = 0; i < n; i++) {
        p = blk_put_varint(p, blk_zigzag(v[i] - before));
        if (delta)
            before = v[i];
    }
    return p;
}

static uint8_t *
put_runs(uint8_t *p, const uint64_t *v, size_t n)
{
    for (size_t i = 0; i < n;) {
        size_t end = i + 1;
        while (end < n && v[end] == v[i])
            end++;
        p = blk_put_varint(p, blk_zigzag(v[i]));
        p = blk_put_varint(p, end - i - 1);
        i = end;
    }
    return p;
}

void
blk_icol_encode(const uint64_t *v, size_t n, ps_buf *out)
{
    icol_sizes m;

    if (n == 0)
        return;
    size_t same = 1;
    while (same < n && v[same] == v[0])
        same++;
    if (same == n) {
        ps_buf_add_char(out, ICOL_SAME);
        blk_buf_varint(out, blk_zigzag(v[0]));
        return;
    }
    measure(v, n, &m);
    unsigned method = choose(&m, n);
    ps_buf_add_char(out, (char)method);
    if (method >= ICOL_FRAMES) {
        blk_frames_encode(v, n, method == ICOL_FRAMES ? BLK_MODE_RAW : BLK_MODE_DELTA, 0, 0, NULL,
                          out, out);
        return;
    }
    if (!ps_buf_reserve(out, m.size[method] + 16))
        return;
    uint8_t *p = (uint8_t *)out->ptr + out->len;
    switch (method) {
    case ICOL_RUNS:
        p = put_runs(p, v, n);
        break;
    case ICOL_BYTES:
        p = blk_put_varint(p, blk_zigzag(m.low));
        *p++ = (uint8_t)m.width;
        for (size_t i = 0; i < n; i++, p += m.width)
            ps_put_u64le(p, v[i] - m.low);
        break;
    default:
        p = put_varints(p, v, n, method == ICOL_DELTA);
    }
    out->len = (size_t)(p - (uint8_t *)out->ptr);
}

/* ---- decoding ------------------------------------------------------------------------------ */

static bool
get_runs(blk_in *in, size_t n, uint64_t *out)
{
    for (size_t i = 0; i < n;) {
        uint64_t v = blk_unzigzag(blk_in_varint(in));
        uint64_t more = blk_in_varint(in);
        if (in->bad || more >= n - i)
            return false;
        for (uint64_t k = 0; k <= more; k++)
            out[i++] = v;
    }
    return true;
}

static bool
get_bytes(blk_in *in, size_t n, uint64_t *out)
{
    uint64_t low = blk_unzigzag(blk_in_varint(in));
    unsigned width = blk_in_u8(in);

    if (width == 0 || width > 8)
        return false;
    const uint8_t *p = blk_in_bytes(in, (uint64_t)n * width);
    if (p == NULL)
        return false;
    for (size_t i = 0; i < n; i++, p += width) {
        uint64_t x = 0;
        memcpy(&x, p, width);
        out[i] = low + x;
    }
    return true;
}

static bool
get_frames(blk_in *in, size_t n, blk_mode mode, uint64_t *out)
{
    blk_chain chain = {0};
    blk_frame f;

    for (size_t at = 0; at < n; at += BLK_FRAME_VALUES) {
        uint32_t len = n - at < BLK_FRAME_VALUES ? (uint32_t)(n - at) : BLK_FRAME_VALUES;
        if (!blk_frame_parse(in, len, mode, &chain, &f) || f.n_raw > 0)
            return false;
        const uint8_t *payload = blk_in_bytes(in, f.payload_len);
        if (payload == NULL)
            return false;
        if (!blk_frame_decode(&f, mode, 0, payload, (size_t)(in->end - payload), out + at))
            return false;
    }
    return true;
}

bool
blk_icol_decode(blk_in *in, size_t n, uint64_t *out)
{
    uint64_t acc = 0;

    if (n == 0)
        return true;
    unsigned method = blk_in_u8(in);
    if (in->bad)
        return false;
    switch (method) {
    case ICOL_SAME:
        acc = blk_unzigzag(blk_in_varint(in));
        for (size_t i = 0; i < n; i++)
            out[i] = acc;
        break;
    case ICOL_VARINT:
        for (size_t i = 0; i < n; i++)
            out[i] = blk_unzigzag(blk_in_varint(in));
        break;
    case ICOL_DELTA:
        for (size_t i = 0; i < n; i++)
            out[i] = acc += blk_unzigzag(blk_in_varint(in));
        break;
    case ICOL_RUNS:
        return get_runs(in, n, out);
    case ICOL_BYTES:
        return get_bytes(in, n, out);
    case ICOL_FRAMES:
        return get_frames(in, n, BLK_MODE_RAW, out);
    case ICOL_FRAMES_DELTA:
        return get_frames(in, n, BLK_MODE_DELTA, out);
    default:
        return false;
    }
    return !in->bad;
}

/* ---- parts ---------------------------------------------------------------------------------- */

/* Counts last bytes, eight at a time; as many as are left to pass can never end inside one step. */
static void
skip_varints(blk_in *in, size_t n)
{
    while (n >= 8 && blk_in_left(in) >= 8) {
        uint64_t ends = ~ps_get_u64le(in->p) & UINT64_C(0x8080808080808080);
        n -= (size_t)__builtin_popcountll(ends);
        in->p += 8;
    }
    for (; n > 0 && !in->bad; n--)
        (void)blk_in_varint(in);
}

static void
part_varints(blk_in *in, size_t n, size_t lo, size_t count, bool delta, uint64_t *out)
{
    uint64_t acc = 0;

    if (!delta || count == 0) {
        skip_varints(in, lo);
    } else {
        for (size_t i = 0; i < lo; i++)
            acc += blk_unzigzag(blk_in_varint(in));
    }
    for (size_t i = 0; i < count; i++) {
        uint64_t v = blk_unzigzag(blk_in_varint(in));
        acc = delta ? acc + v : v;
        out[i] = acc;
    }
    skip_varints(in, n - lo - count);
}

static bool
part_runs(blk_in *in, size_t n, size_t lo, size_t count, uint64_t *out)
{
    for (size_t i = 0; i < n;) {
        uint64_t v = blk_unzigzag(blk_in_varint(in));
        uint64_t more = blk_in_varint(in);
        if (in->bad || more >= n - i)
            return false;
        size_t from = i < lo ? lo : i, end = i + (size_t)more + 1;
        for (size_t k = from; k < end && k < lo + count; k++)
            out[k - lo] = v;
        i = end;
    }
    return true;
}

static bool
part_bytes(blk_in *in, size_t n, size_t lo, size_t count, uint64_t *out)
{
    uint64_t low = blk_unzigzag(blk_in_varint(in));
    unsigned width = blk_in_u8(in);

    if (width == 0 || width > 8)
        return false;
    const uint8_t *p = blk_in_bytes(in, (uint64_t)n * width);
    if (p == NULL)
        return false;
    p += lo * width;
    for (size_t i = 0; i < count; i++, p += width) {
        uint64_t x = 0;
        memcpy(&x, p, width);
        out[i] = low + x;
    }
    return true;
}

static bool
part_frames(blk_in *in, size_t n, size_t lo, size_t count, blk_mode mode, uint64_t *out)
{
    uint64_t ints[BLK_FRAME_VALUES];
    blk_chain chain = {0};
    blk_frame f;

    for (size_t at = 0; at < n; at += BLK_FRAME_VALUES) {
        uint32_t len = n - at < BLK_FRAME_VALUES ? (uint32_t)(n - at) : BLK_FRAME_VALUES;
        if (!blk_frame_parse(in, len, mode, &chain, &f) || f.n_raw > 0)
            return false;
        const uint8_t *payload = blk_in_bytes(in, f.payload_len);
        if (payload == NULL)
            return false;
        size_t from = at < lo ? lo : at, end = at + len < lo + count ? at + len : lo + count;
        if (from >= end)
            continue;
        if (!blk_frame_decode(&f, mode, 0, payload, (size_t)(in->end - payload), ints))
            return false;
        memcpy(out + (from - lo), ints + (from - at), (end - from) * sizeof *out);
    }
    return true;
}

bool
blk_icol_part(blk_in *in, size_t n, size_t lo, size_t count, uint64_t *out)
{
    if (n == 0)
        return true;
    unsigned method = blk_in_u8(in);
    if (in->bad)
        return false;
    switch (method) {
    case ICOL_SAME: {
        uint64_t v = blk_unzigzag(blk_in_varint(in));
        for (size_t i = 0; i < count; i++)
            out[i] = v;
        break;
    }
    case ICOL_VARINT:
        part_varints(in, n, lo, count, false, out);
        break;
    case ICOL_DELTA:
        part_varints(in, n, lo, count, true, out);
        break;
    case ICOL_RUNS:
        return part_runs(in, n, lo, count, out);
    case ICOL_BYTES:
        return part_bytes(in, n, lo, count, out);
    case ICOL_FRAMES:
        return part_frames(in, n, lo, count, BLK_MODE_RAW, out);
    case ICOL_FRAMES_DELTA:
        return part_frames(in, n, lo, count, BLK_MODE_DELTA, out);
    default:
        return false;
    }
    return !in->bad;
}
