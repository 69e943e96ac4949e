/*
 * frames.c - integers in frames of 128, each of which decodes alone.
 *
 * A frame's header holds its first integer (relative to the start of the frame before, so headers
 * form a cheap chain), the reference and the widths; its payload holds the remaining integers as
 * residuals: against the first (raw), the one before (delta), the last step (delta of deltas), or
 * the xor with the one before. Residuals minus the reference are packed with w bits. The few that
 * do not fit are patches: position and whole residual apart, so that one late scrape or one
 * counter reset costs three bytes and not a wider frame.
 *
 * Choosing reference and width: for a handful of references (the lowest residuals and zero) a
 * histogram of bit lengths gives the cost of every width at once.
 *
 * The payload's length follows from the header, so offsets are not stored.
 */
#include "lib/block/internal.h"

typedef struct frame_plan {
    uint64_t ref;
    unsigned width; /* rounded */
    unsigned n_patch;
    unsigned patch_width; /* rounded */
    unsigned cost;        /* bits */
} frame_plan;

enum { LOWEST = 4 };

/* How many residuals have which bit length against one reference; those below it apart. */
typedef struct lengths {
    uint8_t count[72];
    unsigned below, below_max; /* below the reference: how many, and the longest as zigzag */
    unsigned max;
} lengths;

/* No residual is below ref. Four tables, since neighbours often have the same length and an
 * increment of a counter just written has to wait for it. */
static void
count_lengths(const uint64_t *res, unsigned m, uint64_t ref, lengths *ret)
{
    uint8_t count[4][72] = {{0}};
    uint64_t any = 0;

    for (unsigned i = 0; i < m; i++) {
        uint64_t x = res[i] - ref;
        any |= x;
        if (PS_UNLIKELY((int64_t)x < 0))
            count[i & 3][64]++;
        else
            count[i & 3][63 - (unsigned)__builtin_clzll(x << 1 | 1)]++;
    }
    for (unsigned k = 0; k < 72; k++)
        ret->count[k] = (uint8_t)(count[0][k] + count[1][k] + count[2][k] + count[3][k]);
    ret->below = ret->below_max = 0;
    ret->max = blk_bit_length(any);
}

static void
count_lengths_around(const uint64_t *res, unsigned m, uint64_t ref, lengths *ret)
{
    memset(ret, 0, sizeof *ret);
    for (unsigned i = 0; i < m; i++) {
        uint64_t x = res[i] - ref;
        if ((int64_t)x < 0) {
            unsigned len = blk_bit_length(blk_zigzag(x));
            ret->below++;
            ret->below_max = len > ret->below_max ? len : ret->below_max;
        } else {
            unsigned len = 63 - (unsigned)__builtin_clzll(x << 1 | 1);
            ret->count[len]++;
            ret->max = len > ret->max ? len : ret->max;
        }
    }
}

/* The cheapest width for one reference, if it beats *best. */
static void
plan_width(const lengths *l, unsigned m, uint64_t ref, bool plain, frame_plan *best)
{
    const unsigned above_width = l->max + (plain ? 0 : 1);
    unsigned patches = l->below;

    for (unsigned w = l->max + 1; w-- > 0;) {
        /* here `patches` residuals do not fit into w bits; 64 bits hold all, also those below */
        unsigned width = blk_width_round(w), patch_width = 0, for_patches = 0;
        unsigned n_patch = width == 64 ? 0 : patches;
        if (n_patch > 0) {
            patch_width =
                n_patch > l->below && above_width > l->below_max ? above_width : l->below_max;
            patch_width = blk_width_round(patch_width);
            for_patches = 16 + n_patch * (8 + patch_width);
        }
        if (m * width + for_patches < best->cost)
            *best = (frame_plan){ref, width, n_patch, patch_width, m * width + for_patches};
        if (for_patches >= best->cost)
            break; /* smaller widths only have more patches */
        patches += l->count[w];
    }
}

/* The lowest residuals and zero as references: outliers on the low side become patches. */
static void
plan_around_outliers(const uint64_t *res, unsigned m, frame_plan *best)
{
    int64_t low[LOWEST];
    lengths l;

    for (unsigned k = 0; k < LOWEST; k++)
        low[k] = INT64_MAX;
    for (unsigned i = 0; i < m; i++) {
        int64_t r = (int64_t)res[i];
        if (r < low[LOWEST - 1]) {
            unsigned k = LOWEST - 1;
            for (; k > 0 && r < low[k - 1]; k--)
                low[k] = low[k - 1];
            low[k] = r;
        }
    }
    const int64_t refs[] = {low[1], low[LOWEST - 1], 0};
    int64_t before = low[0];
    for (unsigned k = 0; k < PS_ARRAY_LEN(refs); k++) {
        if (refs[k] <= before)
            continue;
        before = refs[k];
        count_lengths_around(res, m, (uint64_t)refs[k], &l);
        plan_width(&l, m, (uint64_t)refs[k], false, best);
    }
}

static frame_plan
plan_frame(const uint64_t *res, unsigned m, bool plain)
{
    frame_plan best = {.cost = UINT32_MAX};
    int64_t low = INT64_MAX, high = INT64_MIN;
    unsigned zeros = 0, near_low = 0;
    lengths l;

    if (m == 0)
        return (frame_plan){0};
    if (plain) {
        count_lengths(res, m, 0, &l);
        plan_width(&l, m, 0, true, &best);
        return best;
    }
    for (unsigned i = 0; i < m; i++) {
        int64_t r = (int64_t)res[i];
        low = r < low ? r : low;
        high = r > high ? r : high;
        zeros += r == 0;
    }
    if (low == high)
        return (frame_plan){.ref = (uint64_t)low};
    count_lengths(res, m, (uint64_t)low, &l);
    plan_width(&l, m, (uint64_t)low, false, &best);
    /*
     * When residuals fill their range evenly, about a tenth lies in its lowest eighth, a good part
     * in its upper half and as much between; then no other reference can win. Where it looks
     * otherwise, try.
     */
    if (zeros * 2 >= m) { /* mostly zero: nothing else can be the reference */
        if (low < 0) {
            count_lengths_around(res, m, 0, &l);
            plan_width(&l, m, 0, false, &best);
        }
        return best;
    }
    for (unsigned k = 0; k + 3 <= l.max; k++)
        near_low += l.count[k];
    unsigned top = l.count[l.max], between = m - near_low - top;
    if (m >= 8 &&
        (near_low * 40 <= m || top * 8 < m || between * 8 < m || (low < 0 && zeros * 4 >= m)))
        plan_around_outliers(res, m, &best);
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

/*
 * Where the next frame probably starts: mode delta goes on with the middle of what it could say.
 * The start is then two bytes instead of three or four. Part of the format.
 */
static void
chain_move(blk_chain *chain, blk_mode mode, uint64_t start, uint64_t ref, unsigned width,
           uint64_t first_delta, bool has_ref)
{
    uint64_t half = width == 0 ? 0 : UINT64_C(1) << (width - 1);

    chain->start = start;
    if (has_ref)
        chain->ref = ref;
    chain->first_delta = first_delta;
    if (mode == BLK_MODE_DELTA && has_ref)
        chain->start += BLK_FRAME_VALUES * (ref + half);
    else if (mode == BLK_MODE_DOD)
        chain->start += BLK_FRAME_VALUES * first_delta;
}

static uint8_t *
put_header(uint8_t *p, const frame_plan *plan, const uint64_t *v, unsigned n, blk_mode mode,
           blk_chain *chain, unsigned n_raw)
{
    const bool has_ref = mode != BLK_MODE_XOR && n > (mode == BLK_MODE_DOD ? 2 : 1);
    const uint64_t first_delta = mode == BLK_MODE_DOD && n > 1 ? v[1] - v[0] : 0;

    *p++ =
        (uint8_t)((plan->width == 64 ? BLK_WIDTH_64 : plan->width) |
                  (plan->n_patch > 0 ? BLK_FRAME_PATCHES : 0) | (n_raw > 0 ? BLK_FRAME_RAWS : 0));
    if (plan->n_patch > 0) {
        *p++ = (uint8_t)plan->n_patch;
        *p++ = (uint8_t)plan->patch_width;
    }
    if (n_raw > 0)
        *p++ = (uint8_t)n_raw;
    p = blk_put_varint(p, blk_zigzag(v[0] - chain->start));
    if (mode == BLK_MODE_DOD && n > 1)
        p = blk_put_varint(p, blk_zigzag(first_delta - chain->first_delta));
    if (has_ref)
        p = blk_put_varint(p, blk_zigzag(plan->ref - chain->ref));
    chain_move(chain, mode, v[0], plan->ref, plan->width, first_delta, has_ref);
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
    blk_chain chain = {.start = prev};
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
        head->len += (size_t)(put_header(h, &plan, v + at, len, mode, &chain, n_raw) - h);

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

uint64_t
blk_frames_cost(const uint64_t *v, size_t n, blk_mode mode, unsigned shift, unsigned slice)
{
    enum { SLICES = 3 };
    uint64_t res[BLK_FRAME_VALUES], bits = 0;
    const bool all = n <= 2 * BLK_FRAME_VALUES;
    size_t at = 0, len;

    for (size_t k = 0; k < (all ? blk_frame_count(n) : SLICES); k++) {
        if (all) {
            at = k * BLK_FRAME_VALUES;
            len = n - at < BLK_FRAME_VALUES ? n - at : BLK_FRAME_VALUES;
        } else {
            len = slice;
            at = k * (n - len) / (SLICES - 1);
        }
        unsigned m = make_residuals(v + at, (unsigned)len, mode, shift, res), header;
        frame_plan plan = plan_frame(res, m, mode == BLK_MODE_XOR);
        header = 8 * blk_varint_len(blk_zigzag(plan.ref));
        if (mode == BLK_MODE_DOD && len > 1)
            header += 8 * blk_varint_len(blk_zigzag(v[at + 1] - v[at]));
        /* a part of a frame has its part of a header */
        bits += plan.cost + (all ? header : header * (unsigned)len / BLK_FRAME_VALUES);
    }
    return bits;
}

bool
blk_frame_parse(blk_in *head, uint32_t n, blk_mode mode, blk_chain *chain, blk_frame *ret)
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
    f.start = chain->start + blk_unzigzag(blk_in_varint(head));
    f.n_packed = n - 1;
    if (mode == BLK_MODE_DOD) {
        if (n > 1)
            f.first_delta = chain->first_delta + blk_unzigzag(blk_in_varint(head));
        f.n_packed = n > 2 ? n - 2 : 0;
    }
    const bool has_ref = mode != BLK_MODE_XOR && f.n_packed > 0;
    if (has_ref)
        f.ref = chain->ref + blk_unzigzag(blk_in_varint(head));
    if (head->bad || (f.width > 56 && f.width != 64) ||
        (f.patch_width > 56 && f.patch_width != 64) || f.n_patch > f.n_packed || f.n_raw > n)
        return false;
    f.payload_len = (uint32_t)(blk_packed_bytes(f.n_packed, f.width) + f.n_patch +
                               blk_packed_bytes(f.n_patch, f.patch_width) + (size_t)f.n_raw * 9);
    chain_move(chain, mode, f.start, f.ref, f.width, f.first_delta, has_ref);
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
blk_frame_decode(const blk_frame *f, blk_mode mode, unsigned shift, const uint8_t *payload,
                 size_t avail, uint64_t *out)
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
