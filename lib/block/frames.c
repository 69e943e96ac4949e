/*
 * frames.c - integers in frames of 128, each of which decodes alone.
 *
 * A frame's header holds its first integer (relative to the start of the frame before, so headers
 * form a cheap chain), the reference and the widths; its payload holds the remaining integers as
 * residuals: against the first (raw), the one before (delta), the last step (delta of deltas), or the
 * xor with the one before. Residuals minus the reference are packed with w bits. The few that do not
 * fit are patches: position and whole residual apart, so that one late scrape or one counter reset
 * costs three bytes and not a wider frame.
 *
 * Choosing reference and width: for a handful of references (the lowest residuals and zero) a
 * histogram of bit lengths gives the cost of every width at once.
 *
 * The payload's length follows from the header, so offsets are not stored.
 */
#include "lib/block/internal.h"

typedef struct frame_plan {
    uint64_t ref;
    unsigned width;       /* rounded */
    unsigned n_patch;
    unsigned patch_width; /* rounded */
    unsigned cost;        /* bits */
} frame_plan;

enum { LOWEST = 4 };

/* Bits of the best width for residuals against one reference. */
static void
plan_with_ref(const uint64_t *res, unsigned m, uint64_t ref, bool plain, frame_plan *best)
{
    uint8_t count[66] = {0};
    unsigned below = 0, max_below = 0, max_len = 0;

    for (unsigned i = 0; i < m; i++) {
        uint64_t x = res[i] - ref;
        if (!plain && (int64_t)x < 0) {
            unsigned len = blk_bit_length(blk_zigzag(x));
            below++;
            if (len > max_below)
                max_below = len;
        } else {
            unsigned len = blk_bit_length(x);
            count[len]++;
            if (len > max_len)
                max_len = len;
        }
    }
    unsigned patches = below;
    for (unsigned w = max_len + 1; w-- > 0;) {
        /* here `patches` residuals do not fit into w bits; 64 bits hold all, also those below */
        unsigned width = blk_width_round(w);
        unsigned patch_width = 0, n_patch = width == 64 ? 0 : patches, cost = m * width;
        if (n_patch > 0) {
            unsigned len = patches > below ? max_len + (plain ? 0 : 1) : 0;
            patch_width = blk_width_round(len > max_below ? len : max_below);
            cost += 16 + patches * (8 + patch_width);
        }
        if (cost < best->cost)
            *best = (frame_plan){ref, width, n_patch, patch_width, cost};
        patches += count[w];
        if (patches * 9 > best->cost)
            break; /* it only gets worse from here */
    }
}

static frame_plan
plan_frame(const uint64_t *res, unsigned m, bool plain)
{
    frame_plan best = {.cost = UINT32_MAX};
    int64_t low[LOWEST], high = INT64_MIN;

    if (m == 0)
        return (frame_plan){0};
    if (plain) {
        plan_with_ref(res, m, 0, true, &best);
        return best;
    }
    for (unsigned k = 0; k < LOWEST; k++)
        low[k] = INT64_MAX;
    for (unsigned i = 0; i < m; i++) {
        int64_t r = (int64_t)res[i];
        if (r > high)
            high = r;
        if (r < low[LOWEST - 1]) {
            unsigned k = LOWEST - 1;
            for (; k > 0 && r < low[k - 1]; k--)
                low[k] = low[k - 1];
            low[k] = r;
        }
    }
    if (low[0] == high)
        return (frame_plan){.ref = (uint64_t)high};
    plan_with_ref(res, m, (uint64_t)low[0], false, &best);
    if (m >= 8) {
        if (low[0] < 0 && high >= 0)
            plan_with_ref(res, m, 0, false, &best);
        if (low[1] != low[0])
            plan_with_ref(res, m, (uint64_t)low[1], false, &best);
        if (low[LOWEST - 1] != low[1])
            plan_with_ref(res, m, (uint64_t)low[LOWEST - 1], false, &best);
    }
    return best;
}

/* Residuals of one frame; returns how many. */
static unsigned
make_residuals(const uint64_t *v, unsigned n, blk_mode mode, unsigned shift, uint64_t *res)
{
    switch (mode) {
    case BLK_MODE_RAW:
        for (unsigned i = 1; i < n; i++)
            res[i - 1] = v[i] - v[0];
        return n - 1;
    case BLK_MODE_DELTA:
        for (unsigned i = 1; i < n; i++)
            res[i - 1] = v[i] - v[i - 1];
        return n - 1;
    case BLK_MODE_DOD:
        for (unsigned i = 2; i < n; i++)
            res[i - 2] = v[i] - 2 * v[i - 1] + v[i - 2];
        return n > 2 ? n - 2 : 0;
    case BLK_MODE_XOR:
        for (unsigned i = 1; i < n; i++)
            res[i - 1] = (v[i] ^ v[i - 1]) >> shift;
        return n - 1;
    }
    return 0;
}

static uint8_t *
put_header(uint8_t *p, const frame_plan *plan, const uint64_t *v, unsigned n, blk_mode mode, uint64_t prev,
           unsigned n_raw)
{
    *p++ = (uint8_t)((plan->width == 64 ? BLK_WIDTH_64 : plan->width) |
                     (plan->n_patch > 0 ? BLK_FRAME_PATCHES : 0) | (n_raw > 0 ? BLK_FRAME_RAWS : 0));
    if (plan->n_patch > 0) {
        *p++ = (uint8_t)plan->n_patch;
        *p++ = (uint8_t)plan->patch_width;
    }
    if (n_raw > 0)
        *p++ = (uint8_t)n_raw;
    p = blk_put_varint(p, blk_zigzag(v[0] - prev));
    if (mode == BLK_MODE_DOD && n > 1)
        p = blk_put_varint(p, blk_zigzag(v[1] - v[0]));
    if (mode != BLK_MODE_XOR && n > (mode == BLK_MODE_DOD ? 2 : 1))
        p = blk_put_varint(p, blk_zigzag(plan->ref));
    return p;
}

/* Packed residuals and patches; res is spent. */
static uint8_t *
put_payload(uint8_t *p, const frame_plan *plan, uint64_t *res, unsigned m, bool plain)
{
    uint64_t patch[BLK_FRAME_VALUES];
    uint8_t pos[BLK_FRAME_VALUES];
    unsigned k = 0;

    if (plan->n_patch > 0) {
        uint64_t limit = plan->width == 64 ? UINT64_MAX : (UINT64_C(1) << plan->width) - 1;
        for (unsigned i = 0; i < m; i++) {
            uint64_t x = res[i] - plan->ref;
            if (x > limit) { /* a residual below the reference is huge when unsigned */
                patch[k] = plain ? x : blk_zigzag(x);
                pos[k++] = (uint8_t)i;
                x = 0;
            }
            res[i] = x;
        }
    } else if (plan->width > 0) {
        for (unsigned i = 0; i < m; i++)
            res[i] -= plan->ref;
    }
    blk_pack(p, res, m, plan->width);
    p += blk_packed_bytes(m, plan->width);
    if (k > 0) {
        memcpy(p, pos, k);
        p += k;
        blk_pack(p, patch, k, plan->patch_width);
        p += blk_packed_bytes(k, plan->patch_width);
    }
    return p;
}

void
blk_frames_encode(const uint64_t *v, size_t n, blk_mode mode, unsigned shift, uint64_t prev,
                  const blk_raws *raws, ps_buf *head, ps_buf *body)
{
    uint64_t res[BLK_FRAME_VALUES];
    size_t raw_at = 0, n_raws = raws == NULL ? 0 : raws->n;

    for (size_t at = 0; at < n; at += BLK_FRAME_VALUES) {
        unsigned len = n - at < BLK_FRAME_VALUES ? (unsigned)(n - at) : BLK_FRAME_VALUES;
        unsigned m = make_residuals(v + at, len, mode, shift, res);
        frame_plan plan = plan_frame(res, m, mode == BLK_MODE_XOR);
        unsigned n_raw = 0;
        while (raw_at + n_raw < n_raws && raws->pos[raw_at + n_raw] < at + len)
            n_raw++;

        if (!ps_buf_reserve(head, BLK_FRAME_HEAD_MAX))
            return;
        uint8_t *h = (uint8_t *)head->ptr + head->len;
        head->len += (size_t)(put_header(h, &plan, v + at, len, mode, prev, n_raw) - h);
        prev = v[at];

        if (!ps_buf_reserve(body, BLK_FRAME_BODY_MAX))
            return;
        uint8_t *b = (uint8_t *)body->ptr + body->len;
        uint8_t *p = put_payload(b, &plan, res, m, mode == BLK_MODE_XOR);
        for (unsigned i = 0; i < n_raw; i++)
            *p++ = (uint8_t)(raws->pos[raw_at + i] - at);
        for (unsigned i = 0; i < n_raw; i++, p += 8)
            memcpy(p, &raws->values[raws->pos[raw_at + i]], 8);
        body->len += (size_t)(p - b);
        raw_at += n_raw;
    }
}

bool
blk_frame_parse(blk_in *head, uint32_t n, blk_mode mode, uint64_t *prev, blk_frame *ret)
{
    blk_frame f = {.n = n};
    unsigned b = blk_in_u8(head);

    f.width = b & BLK_FRAME_WIDTH;
    if (f.width == BLK_WIDTH_64)
        f.width = 64;
    if (b & BLK_FRAME_PATCHES) {
        f.n_patch = blk_in_u8(head);
        f.patch_width = blk_in_u8(head);
    }
    if (b & BLK_FRAME_RAWS)
        f.n_raw = blk_in_u8(head);
    f.start = *prev + blk_unzigzag(blk_in_varint(head));
    f.n_packed = n - 1;
    if (mode == BLK_MODE_DOD) {
        if (n > 1)
            f.first_delta = blk_unzigzag(blk_in_varint(head));
        f.n_packed = n > 2 ? n - 2 : 0;
    }
    if (mode != BLK_MODE_XOR && f.n_packed > 0)
        f.ref = blk_unzigzag(blk_in_varint(head));
    if (head->bad || (f.width > 56 && f.width != 64) || (f.patch_width > 56 && f.patch_width != 64) ||
        f.n_patch > f.n_packed || f.n_raw > n)
        return false;
    f.payload_len = (uint32_t)(blk_packed_bytes(f.n_packed, f.width) + f.n_patch +
                               blk_packed_bytes(f.n_patch, f.patch_width) + (size_t)f.n_raw * 9);
    *prev = f.start;
    *ret = f;
    return true;
}

/* Puts patches into the residuals (reference still to be added). */
static bool
apply_patches(const blk_frame *f, bool plain, const uint8_t *payload, size_t avail, uint64_t *res)
{
    uint64_t patch[BLK_FRAME_VALUES];
    size_t off = blk_packed_bytes(f->n_packed, f->width);
    const uint8_t *pos = payload + off;

    off += f->n_patch;
    blk_unpack(patch, f->n_patch, payload + off, avail - off, f->patch_width);
    for (unsigned i = 0; i < f->n_patch; i++) {
        if (pos[i] >= f->n_packed)
            return false;
        res[pos[i]] = plain ? patch[i] : blk_unzigzag(patch[i]);
    }
    return true;
}

bool
blk_frame_decode(const blk_frame *f, blk_mode mode, unsigned shift, const uint8_t *payload, size_t avail,
                 uint64_t *out)
{
    uint64_t acc = f->start, step;
    const uint32_t n = f->n;
    const uint64_t ref = f->ref;
    /* residuals land where the values they make will stand */
    uint64_t *res = out + (n - f->n_packed);

    blk_unpack(res, f->n_packed, payload, avail, f->width);
    if (f->n_patch > 0 && !apply_patches(f, mode == BLK_MODE_XOR, payload, avail, res))
        return false;
    out[0] = acc;
    switch (mode) {
    case BLK_MODE_RAW:
        acc += ref;
        for (uint32_t i = 1; i < n; i++)
            out[i] += acc;
        break;
    case BLK_MODE_DELTA:
        for (uint32_t i = 1; i < n; i++) {
            acc += out[i] + ref;
            out[i] = acc;
        }
        break;
    case BLK_MODE_DOD:
        step = f->first_delta;
        if (n > 1)
            out[1] = acc += step;
        for (uint32_t i = 2; i < n; i++) {
            step += out[i] + ref;
            acc += step;
            out[i] = acc;
        }
        break;
    case BLK_MODE_XOR:
        for (uint32_t i = 1; i < n; i++) {
            acc ^= out[i] << shift;
            out[i] = acc;
        }
        break;
    }
    return true;
}

bool
blk_frame_raws(const blk_frame *f, const uint8_t *payload, double *values)
{
    const uint8_t *pos = payload + f->payload_len - (size_t)f->n_raw * 9;
    const uint8_t *raw = pos + f->n_raw;

    for (unsigned i = 0; i < f->n_raw; i++) {
        if (pos[i] >= f->n)
            return false;
        memcpy(&values[pos[i]], raw + (size_t)i * 8, 8);
    }
    return true;
}
