/*
 * flush_values.c - the values of flush blocks: one group for each metric, its columns running across
 * series.
 *
 * Opened lazily, a block has its values still packed. Who wants one series of thousands gets it by
 * looking it up: columns are passed over until its place, which costs little per integer. After a few
 * look-ups the group is decoded as a whole. Groups before the wanted one are passed over once.
 *
 * What is looked up is checked as far as it is read: damage elsewhere in the group shows when that is
 * read.
 */
#include "lib/block/histograms.h"

enum { MAX_LOOKUPS = 3, SMALL_GROUP = 64 }; /* passing over costs about a tenth of decoding */

static ps_status
damaged(ps_err *err)
{
    return ps_fail(err, PS_ECORRUPT, "block is damaged: values");
}

static ps_status
no_memory(ps_err *err)
{
    return ps_fail(err, PS_ENOMEM, "out of memory");
}

bool
blk_flush_read_head(blk_in *in, blk_group_head *ret)
{
    unsigned flags = blk_in_u8(in);

    *ret = (blk_group_head){.flags = flags, .k = flags & BLK_GROUP_K};
    if (flags & BLK_GROUP_SHIFT)
        ret->shift = blk_in_u8(in);
    return !in->bad && !(flags & ~BLK_GROUP_KNOWN) && ret->k <= BLK_DECIMAL_MAX && ret->shift <= 63;
}

static uint32_t
series_len(const blk_reader *r, uint32_t i)
{
    uint32_t vec = r->fseries[i].vec;

    return r->vec_start[vec + 1] - r->vec_start[vec];
}

bool
blk_flush_read_exceptions(blk_in *in, uint32_t n, uint64_t *pos, uint64_t *ret_n,
                          const uint8_t **ret_raw)
{
    uint64_t n_exc = blk_in_varint(in), at = 0;

    if (in->bad || n_exc > n)
        return false;
    for (uint64_t i = 0; i < n_exc; i++) {
        uint64_t step = blk_in_varint(in);
        if (in->bad || step > n)
            return false;
        at += step;
        if (at >= n)
            return false;
        pos[i] = at;
    }
    *ret_n = n_exc;
    *ret_raw = blk_in_bytes(in, n_exc * 8);
    return *ret_raw != NULL;
}

bool
blk_flush_read_values(const blk_reader *r, const blk_flush_group *g, blk_in *in, uint64_t *tmp,
                      double *values)
{
    const uint32_t lo = g->lo, hi = g->hi, n_series = hi - lo, n = g->n;
    blk_group_head h;
    uint64_t n_exc = 0;
    const uint8_t *raw = NULL;
    uint64_t *pos = tmp + n; /* exceptions; later the steps */

    if (!blk_flush_read_head(in, &h))
        return false;
    const unsigned flags = h.flags, k = h.k, shift = h.shift;
    if (flags & BLK_GROUP_EXC) {
        if (!blk_flush_read_exceptions(in, n, pos, &n_exc, &raw))
            return false;
        pos += n_exc; /* keeps them; the steps come behind */
    }
    uint64_t *first = tmp, *steps = pos;
    if (!blk_icol_decode(in, n_series, first) || !blk_icol_decode(in, n - n_series, steps))
        return false;
    if (n == n_series) {
        if (flags & BLK_GROUP_BITS)
            blk_bits_restore(first, n, shift, values);
        else
            blk_decimal_restore(first, n, k, shift, values);
    } else {
        for (uint32_t s = lo, i = 0; s < hi; s++) {
            uint64_t x = first[s - lo];
            for (uint32_t j = 0; j < series_len(r, s); j++, i++) {
                if (j > 0)
                    x += *steps++;
                memcpy(&values[i], &x, 8);
            }
        }
        /* the integers stand in the places of the doubles they become */
        for (uint32_t i = 0; i < n; i++) {
            uint64_t x = ps_bits_of(values[i]);
            values[i] = flags & BLK_GROUP_BITS ? ps_double_of(blk_ordered_bits(x << shift))
                                               : blk_decimal_one(x, k, shift);
        }
    }
    for (uint64_t i = 0; i < n_exc; i++)
        memcpy(&values[(pos - n_exc)[i]], raw + i * 8, 8);
    return true;
}

/* ---- one series ----------------------------------------------------------------------------- */

typedef struct exceptions { /* those of the positions asked for */
    uint64_t n;
    const uint8_t *pos; /* where the step to the first of them stands */
    uint64_t before;    /* position before it */
    const uint8_t *raw; /* its bits */
} exceptions;

/* Passes over the exceptions of a group of n values, noting which lie in [lo, hi). */
static bool
find_exceptions(blk_in *in, uint32_t n, uint64_t lo, uint64_t hi, exceptions *ret)
{
    uint64_t n_exc = blk_in_varint(in), at = 0, first = 0;

    *ret = (exceptions){0};
    if (in->bad || n_exc > n)
        return false;
    for (uint64_t i = 0; i < n_exc; i++) {
        const uint8_t *p = in->p;
        uint64_t step = blk_in_varint(in), before = at;
        if (in->bad || step > n)
            return false;
        at += step;
        if (at >= n)
            return false;
        if (at < lo || at >= hi)
            continue;
        if (ret->n++ == 0) {
            ret->pos = p;
            ret->before = before;
            first = i;
        }
    }
    const uint8_t *raw = blk_in_bytes(in, n_exc * 8);
    if (raw == NULL)
        return false;
    ret->raw = raw + first * 8;
    return true;
}

/* Samples from..from + n of series i, whose group begins at *in. ints holds from + n integers. */
static bool
look_up(const blk_reader *r, const blk_flush_group *g, uint32_t i, uint32_t from, uint32_t n,
        blk_in in, uint64_t *ints, double *out)
{
    const uint32_t n_series = g->hi - g->lo;
    const uint32_t at = r->fseries[i].first_value - r->fseries[g->lo].first_value;
    exceptions exc = {0};
    blk_group_head h;

    if (!blk_flush_read_head(&in, &h))
        return false;
    if (h.flags & BLK_GROUP_EXC && !find_exceptions(&in, g->n, at + from, at + from + n, &exc))
        return false;
    if (!blk_icol_part(&in, n_series, i - g->lo, 1, ints))
        return false;
    /* each series before this one has one step less than samples */
    if (!blk_icol_part(&in, g->n - n_series, at - (i - g->lo), from + n - 1, ints + 1))
        return false;
    for (uint32_t j = 1; j < from + n; j++)
        ints[j] += ints[j - 1];
    if (h.flags & BLK_GROUP_BITS)
        blk_bits_restore(ints + from, n, h.shift, out);
    else
        blk_decimal_restore(ints + from, n, h.k, h.shift, out);
    in = (blk_in){exc.pos, in.end, false};
    for (uint64_t e = 0, pos = exc.before; e < exc.n; e++) {
        pos += blk_in_varint(&in);
        memcpy(&out[pos - at - from], exc.raw + e * 8, 8);
    }
    return true;
}

/* ---- groups --------------------------------------------------------------------------------- */

/* Passes over one group. */
static bool
skip_group(const blk_flush_group *g, blk_in *in)
{
    exceptions none;
    blk_group_head h;

    if (!blk_flush_read_head(in, &h))
        return false;
    if (h.flags & BLK_GROUP_EXC && !find_exceptions(in, g->n, 0, 0, &none))
        return false;
    const uint32_t n_series = g->hi - g->lo;
    return blk_icol_part(in, n_series, 0, 0, NULL) &&
           blk_icol_part(in, g->n - n_series, 0, 0, NULL);
}

/* Where group k begins. */
static bool
locate(blk_reader *r, uint32_t k, blk_in *ret)
{
    uint32_t known = k;

    while (r->groups[known].p == NULL)
        known--;
    *ret = (blk_in){r->groups[known].p, r->values_end, false};
    for (; known < k; known++) {
        if (!skip_group(&r->groups[known], ret))
            return false;
        r->groups[known + 1].p = ret->p;
    }
    return true;
}

ps_status
blk_flush_group_decode(blk_reader *r, uint32_t k, ps_err *err)
{
    blk_flush_group *g = &r->groups[k];
    blk_in in;

    if (g->decoded)
        return PS_OK;
    if (r->meta.kind == BLK_KIND_HISTOGRAM)
        return blk_flush_histograms_group(r, k, err);
    if (r->values == NULL)
        r->values = ps_alloc_new(&r->alloc, (size_t)r->meta.n_samples * sizeof *r->values);
    uint64_t *tmp = blk_scratch_get(&r->alloc, &r->ints, (size_t)g->n * 3, sizeof *tmp);
    if (r->values == NULL || tmp == NULL)
        return no_memory(err);
    if (!locate(r, k, &in) ||
        !blk_flush_read_values(r, g, &in, tmp, r->values + r->fseries[g->lo].first_value))
        return damaged(err);
    if (k + 1 == r->n_groups ? in.p != in.end
                             : r->groups[k + 1].p != NULL && r->groups[k + 1].p != in.p)
        return ps_fail(err, PS_ECORRUPT, "block is damaged: bytes behind the last value");
    if (k + 1 < r->n_groups)
        r->groups[k + 1].p = in.p;
    g->decoded = true;
    return PS_OK;
}

ps_status
blk_flush_values_all(blk_reader *r, ps_err *err)
{
    for (uint32_t k = 0; k < r->n_groups; k++)
        PS_TRY(blk_flush_group_decode(r, k, err));
    blk_scratch_done(&r->alloc, &r->ints);
    return PS_OK;
}

ps_status
blk_flush_values(blk_reader *r, uint32_t i, size_t lo, size_t n, double *values, ps_err *err)
{
    const blk_flush_series *s = &r->fseries[i];
    blk_flush_group *g = &r->groups[s->group];
    blk_in in;

    if (n == 0)
        return PS_OK;
    if (!g->decoded && (g->n <= SMALL_GROUP || g->lookups >= MAX_LOOKUPS))
        PS_TRY(blk_flush_group_decode(r, s->group, err));
    if (g->decoded) {
        memcpy(values, r->values + s->first_value + lo, n * sizeof *values);
        return PS_OK;
    }
    uint64_t *ints = blk_scratch_get(&r->alloc, &r->ints, lo + n, sizeof *ints);
    if (ints == NULL)
        return no_memory(err);
    g->lookups++;
    if (!locate(r, s->group, &in) || !look_up(r, g, i, (uint32_t)lo, (uint32_t)n, in, ints, values))
        return damaged(err);
    return PS_OK;
}
