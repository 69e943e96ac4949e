/*
 * starts.c - start timestamps: since when a counter counts, for each sample.
 *
 * Counters that go on counting have the same start for long; those of delta temporality begin where
 * the sample before ended, so that their distance from the sample's time is the same. Both are tried.
 * 0 says that none is known, also in between.
 *
 * In flush blocks they are one column over all samples. In columns blocks a series usually needs no
 * more than its entry in the directory, where the start is relative to that of the series before: a
 * target's series begin together.
 */
#include "lib/block/histograms.h"

/* ---- flush blocks --------------------------------------------------------------------------- */

void
blk_starts_put(const int64_t *starts, const int64_t *t, size_t n, int64_t t_min, uint64_t *tmp,
               ps_buf *out)
{
    const size_t at = out->len;

    ps_buf_add_char(out, BLK_STARTS_COLUMN);
    for (size_t i = 0; i < n; i++)
        tmp[i] = blk_start_distance(starts[i], (uint64_t)t_min);
    blk_icol_encode(tmp, n, out);
    const size_t len = out->len - at;
    ps_buf_add_char(out, BLK_STARTS_DISTANCES);
    for (size_t i = 0; i < n; i++)
        tmp[i] = blk_start_distance(starts[i], (uint64_t)t[i]);
    blk_icol_encode(tmp, n, out);
    if (out->failed)
        return;
    const size_t other = out->len - at - len;
    if (other < len) {
        memmove(out->ptr + at, out->ptr + at + len, other);
        out->len = at + other;
    } else {
        out->len = at + len;
    }
}

bool
blk_starts_get(blk_in *in, const int64_t *t, size_t n, int64_t t_min, int64_t *ret,
               bool *ret_unsupported)
{
    unsigned mode = blk_in_u8(in);

    if (mode != BLK_STARTS_COLUMN && mode != BLK_STARTS_DISTANCES) {
        *ret_unsupported = !in->bad;
        return false;
    }
    if (!blk_icol_decode(in, n, (uint64_t *)ret))
        return false;
    for (size_t i = 0; i < n; i++) {
        int64_t base = mode == BLK_STARTS_COLUMN ? t_min : t[i];
        int64_t start = blk_start_restore((uint64_t)ret[i], (uint64_t)base);
        if (start != blk_start_valid(start))
            return false;
        ret[i] = start;
    }
    return true;
}

/* ---- columns blocks ------------------------------------------------------------------------- */

/* The column of all starts or distances; false: all are `base`, so that none is needed. */
static bool
put_column(const int64_t *starts, const int64_t *t, size_t n, uint64_t base, uint64_t *tmp,
           ps_buf *body)
{
    uint64_t any = 0;

    for (size_t i = 0; i < n; i++) {
        tmp[i] = blk_start_distance(starts[i], (t == NULL ? 0 : (uint64_t)t[i]) + base);
        any |= tmp[i] ^ 1;
    }
    if (any != 0)
        blk_icol_encode(tmp, n, body);
    return any != 0;
}

void
blk_scol_put(const int64_t *starts, const int64_t *t, size_t n, blk_starts_chain *chain,
             uint64_t *tmp, ps_buf *head, ps_buf *body)
{
    size_t known = 0;

    while (known < n && starts[known] == 0)
        known++;
    if (known == n) {
        ps_buf_add_char(head, BLK_STARTS_NONE);
        return;
    }
    const uint64_t start = (uint64_t)starts[known], distance = start - (uint64_t)t[known];
    const size_t at = body->len;
    bool column = put_column(starts, NULL, n, start, tmp, body);
    const size_t len = body->len - at;
    bool distances = column && put_column(starts, t, n, distance, tmp, body);
    if (body->failed || head->failed)
        return;
    const size_t other = body->len - at - len;
    const bool by_distance = column && (!distances || other < len);
    if (by_distance) {
        memmove(body->ptr + at, body->ptr + at + len, other);
        body->len = at + other;
    } else {
        body->len = at + len;
    }
    const bool same = body->len == at;
    uint64_t *before = by_distance ? &chain->distance : &chain->start;
    const uint64_t base = by_distance ? distance : start;
    ps_buf_add_char(head,
                    (char)(by_distance ? (same ? BLK_STARTS_SAME_DISTANCE : BLK_STARTS_DISTANCES)
                                       : (same ? BLK_STARTS_SAME : BLK_STARTS_COLUMN)));
    blk_buf_varint(head, blk_zigzag(base - *before));
    *before = base;
    if (!same)
        blk_buf_varint(head, body->len - at);
}

ps_status
blk_scol_parse(blk_in *in, blk_starts_chain *chain, blk_scol *ret)
{
    blk_scol c = {.mode = blk_in_u8(in)};

    if (!in->bad && c.mode >= BLK_STARTS_END)
        return PS_EUNSUPPORTED;
    if (c.mode != BLK_STARTS_NONE) {
        bool distance = blk_scol_needs_times(&c);
        uint64_t *before = distance ? &chain->distance : &chain->start;
        *before += blk_unzigzag(blk_in_varint(in));
        c.base = *before;
    }
    if (c.mode == BLK_STARTS_COLUMN || c.mode == BLK_STARTS_DISTANCES) {
        uint64_t len = blk_in_varint(in);
        if (len > BLK_MAX_BYTES)
            return PS_ECORRUPT;
        c.body_len = (uint32_t)len;
    }
    *ret = c;
    return in->bad ? PS_ECORRUPT : PS_OK;
}

bool
blk_scol_needs_times(const blk_scol *c)
{
    return c->mode == BLK_STARTS_SAME_DISTANCE || c->mode == BLK_STARTS_DISTANCES;
}

bool
blk_scol_decode(const blk_scol *c, const uint8_t *body, size_t n_all, size_t lo, size_t n,
                const int64_t *t, int64_t *ret)
{
    const bool distances = blk_scol_needs_times(c);

    if (c->mode == BLK_STARTS_NONE) {
        memset(ret, 0, n * sizeof *ret);
        return true;
    }
    if (c->mode == BLK_STARTS_SAME || c->mode == BLK_STARTS_SAME_DISTANCE) {
        for (size_t i = 0; i < n; i++)
            ret[i] = 1; /* no distance from the base */
    } else {
        blk_in in = {body + c->body_off, body + c->body_off + c->body_len, false};
        if (!blk_icol_part(&in, n_all, lo, n, (uint64_t *)ret) || in.p != in.end)
            return false;
    }
    for (size_t i = 0; i < n; i++) {
        uint64_t base = c->base + (distances ? (uint64_t)t[i] : 0);
        int64_t start = blk_start_restore((uint64_t)ret[i], base);
        if (start != blk_start_valid(start))
            return false;
        ret[i] = start;
    }
    return true;
}
