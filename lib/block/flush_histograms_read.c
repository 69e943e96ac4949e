/*
 * flush_histograms_read.c - the histograms of a flush block, back again.
 *
 * A group is decoded as a whole: numbers of its samples into one array of the reader, populations and
 * bucket indexes into two of the group. Histograms are made of them when they are asked for, in the
 * caller's arena, and pass hst_check().
 *
 * Memory: at most BLK_FLUSH_MAX_NUMBERS in all groups together, whatever a block says; custom bounds,
 * which every histogram gets a copy of, count like populations.
 */
#include "lib/block/histograms.h"

static ps_status
damaged(ps_err *err)
{
    return ps_fail(err, PS_ECORRUPT, "block is damaged: histograms");
}

static ps_status
no_memory(ps_err *err)
{
    return ps_fail(err, PS_ENOMEM, "out of memory");
}

ps_status
blk_flush_histograms_open(blk_reader *r, blk_in *in, uint64_t *tmp, ps_err *err)
{
    PS_TRY(blk_layouts_read(&r->alloc, in, &r->layouts, &r->n_layouts, err));
    for (uint32_t i = 0; i < r->n_layouts; i++) {
        if (r->layouts[i].n_spans[0] + r->layouts[i].n_spans[1] > 0)
            return damaged(err);
    }
    if (!blk_icol_decode(in, r->n_groups, tmp))
        return damaged(err);
    for (uint32_t k = 0; k < r->n_groups; k++) {
        r->groups[k].p = blk_in_bytes(in, tmp[k]);
        if (r->groups[k].p == NULL)
            return damaged(err);
    }
    return blk_in_left(in) == 0 ? PS_OK : damaged(err);
}

/* ---- one group ------------------------------------------------------------------------------ */

/* Layouts, hints, counts (or their rests), zero counts and sums. tmp holds 3 * n integers and n
 * doubles. */
static bool
read_numbers(const blk_reader *r, const blk_flush_group *g, blk_in *in, uint64_t *tmp,
             blk_flush_histogram *h)
{
    const uint32_t n = g->n;
    double *values = (double *)(void *)(tmp + (size_t)3 * n);

    if (!blk_icol_decode(in, n, tmp))
        return false;
    for (uint32_t i = 0; i < n; i++) {
        if (tmp[i] >= r->n_layouts)
            return false;
        h[i].layout = (uint32_t)tmp[i];
    }
    if (!blk_icol_decode(in, n, tmp))
        return false;
    for (uint32_t i = 0; i < n; i++) {
        if (tmp[i] > HST_GAUGE)
            return false;
        h[i].hint = (hst_hint)tmp[i];
    }
    for (unsigned what = 0; what < 3; what++) {
        if (!blk_flush_read_values(r, g, in, tmp, values))
            return false;
        for (uint32_t i = 0; i < n; i++)
            *(what == 0 ? &h[i].count : what == 1 ? &h[i].zero_count : &h[i].sum) = values[i];
    }
    return true;
}

/* How many buckets each sample has, and where they begin. tmp holds 2 * n integers. */
static bool
read_sizes(const blk_reader *r, blk_flush_group *g, blk_in *in, uint64_t *tmp,
           blk_flush_histogram *h)
{
    const uint32_t n = g->n;
    uint64_t *negative = tmp + n;
    uint32_t n_negative = 0, i = 0;
    size_t left = BLK_FLUSH_MAX_NUMBERS - r->n_numbers;

    if (!blk_icol_decode(in, n, tmp))
        return false;
    for (i = 0; i < n; i++)
        n_negative += tmp[i] != 0;
    if (!blk_icol_decode(in, n_negative, negative))
        return false;
    i = 0;
    for (uint32_t s = g->lo; s < g->hi; s++) {
        const uint32_t vec = r->fseries[s].vec, len = r->vec_start[vec + 1] - r->vec_start[vec];
        for (uint32_t k = 0; k < len; k++, i++) {
            h[i].pops = g->n_pops;
            h[i].repeated = false;
            if (tmp[i] == 0) {
                if (k == 0)
                    return false;
                memcpy(h[i].n, h[i - 1].n, sizeof h[i].n);
                h[i].buckets = h[i - 1].buckets;
                h[i].repeated = true;
            } else {
                if (tmp[i] - 1 > BLK_MAX_BUCKETS || *negative > BLK_MAX_BUCKETS - (tmp[i] - 1))
                    return false;
                h[i].n[0] = (uint32_t)tmp[i] - 1;
                h[i].n[1] = (uint32_t)*negative++;
                h[i].buckets = g->n_buckets;
                g->n_buckets += h[i].n[0] + h[i].n[1];
            }
            const uint32_t n_pops = h[i].n[0] + h[i].n[1],
                           numbers = n_pops + r->layouts[h[i].layout].n_bounds;
            if (numbers > left)
                return false;
            left -= numbers;
            g->n_pops += n_pops;
        }
    }
    return true;
}

/* tmp holds g->n_buckets integers. */
static bool
read_indexes(const blk_flush_group *g, blk_in *in, uint64_t *tmp, const blk_flush_histogram *h)
{
    uint32_t at = 0;

    if (!blk_icol_decode(in, g->n_buckets, tmp))
        return false;
    for (uint32_t i = 0; i < g->n; i++) {
        if (h[i].repeated)
            continue;
        for (unsigned side = 0; side < 2; side++) {
            int64_t index = 0;
            for (uint32_t k = 0; k < h[i].n[side]; k++, at++) {
                int64_t step = (int64_t)tmp[at];
                if (step < (k == 0 ? -HST_INDEX_MAX : 0) || step > HST_INDEX_MAX)
                    return false;
                index += k == 0 ? step : step + 1;
                if (index >= HST_INDEX_MAX)
                    return false;
                g->buckets[at] = (int32_t)index;
            }
        }
    }
    return at == g->n_buckets;
}

/* tmp holds 2 * g->n_pops integers. */
static bool
read_populations(const blk_flush_group *g, blk_in *in, uint64_t *tmp, const blk_flush_histogram *h)
{
    uint64_t n_exc = 0, *ints = tmp, *pos = tmp + g->n_pops;
    const uint8_t *raw = NULL;
    blk_group_head head;

    if (g->n_pops == 0)
        return true;
    if (!blk_flush_read_head(in, &head) ||
        (head.flags & BLK_GROUP_EXC &&
         !blk_flush_read_exceptions(in, g->n_pops, pos, &n_exc, &raw)) ||
        !blk_icol_decode(in, g->n_pops, ints))
        return false;
    for (uint32_t i = 1; i < g->n; i++) {
        const uint32_t len = h[i].n[0] + h[i].n[1];
        for (uint32_t k = 0; h[i].repeated && k < len; k++)
            ints[h[i].pops + k] += ints[h[i - 1].pops + k];
    }
    if (head.flags & BLK_GROUP_BITS)
        blk_bits_restore(ints, g->n_pops, head.shift, g->pops);
    else
        blk_decimal_restore(ints, g->n_pops, head.k, head.shift, g->pops);
    for (uint64_t i = 0; i < n_exc; i++)
        memcpy(&g->pops[pos[i]], raw + i * 8, 8);
    return true;
}

static void
add_populations(const blk_flush_group *g, blk_flush_histogram *h)
{
    for (uint32_t i = 0; i < g->n; i++) {
        double sum = h[i].zero_count;
        for (uint32_t k = 0; k < h[i].n[0] + h[i].n[1]; k++)
            sum += g->pops[h[i].pops + k];
        h[i].count += sum;
    }
}

/* Everything of the group but the arrays that read_sizes() tells the sizes of. */
static ps_status
decode_group(blk_reader *r, blk_flush_group *g, blk_in *in, ps_err *err)
{
    blk_flush_histogram *h = r->histograms + r->fseries[g->lo].first_value;
    uint64_t *tmp = blk_scratch_get(&r->alloc, &r->ints, (size_t)g->n * 4, sizeof *tmp);

    if (tmp == NULL)
        return no_memory(err);
    unsigned flags = blk_in_u8(in);
    if (!in->bad && flags & ~(unsigned)BLK_HISTOGRAMS_KNOWN)
        return ps_fail(err, PS_EUNSUPPORTED,
                       "block has histograms of a form not known to this build");
    if (!read_numbers(r, g, in, tmp, h) || !read_sizes(r, g, in, tmp, h))
        return damaged(err);
    tmp = blk_scratch_get(&r->alloc, &r->ints, (size_t)g->n_pops * 2, sizeof *tmp);
    g->pops = ps_alloc_array(&r->alloc, g->n_pops, sizeof *g->pops);
    g->buckets = ps_alloc_array(&r->alloc, g->n_buckets, sizeof *g->buckets);
    if (g->n_pops > 0 && (tmp == NULL || g->pops == NULL || g->buckets == NULL))
        return no_memory(err);
    if (!read_indexes(g, in, tmp, h) || !read_populations(g, in, tmp, h) || in->p != in->end)
        return damaged(err);
    if (flags & BLK_HISTOGRAMS_COUNT_RESTS)
        add_populations(g, h);
    return PS_OK;
}

static size_t
numbers_of(const blk_reader *r, const blk_flush_group *g)
{
    const blk_flush_histogram *h = r->histograms + r->fseries[g->lo].first_value;
    size_t n = g->n_pops;

    for (uint32_t i = 0; i < g->n; i++)
        n += r->layouts[h[i].layout].n_bounds;
    return n;
}

ps_status
blk_flush_histograms_group(blk_reader *r, uint32_t k, ps_err *err)
{
    blk_flush_group *g = &r->groups[k];
    blk_in in = {g->p, k + 1 < r->n_groups ? r->groups[k + 1].p : r->values_end, false};

    if (r->histograms == NULL)
        r->histograms = ps_alloc_array(&r->alloc, (size_t)r->meta.n_samples, sizeof *r->histograms);
    if (r->histograms == NULL)
        return no_memory(err);
    ps_status status = decode_group(r, g, &in, err);
    if (status == PS_OK) {
        g->decoded = true;
        r->n_numbers += numbers_of(r, g);
        return PS_OK;
    }
    ps_alloc_free(&r->alloc, g->pops, g->n_pops * sizeof *g->pops);
    ps_alloc_free(&r->alloc, g->buckets, g->n_buckets * sizeof *g->buckets);
    g->pops = NULL;
    g->buckets = NULL;
    g->n_pops = g->n_buckets = 0;
    return status;
}

/* ---- histograms ----------------------------------------------------------------------------- */

static uint32_t
count_spans(const int32_t *bucket, uint32_t n)
{
    uint32_t spans = n > 0;

    for (uint32_t i = 1; i < n; i++)
        spans += bucket[i] != bucket[i - 1] + 1;
    return spans;
}

static void
fill_spans(const int32_t *bucket, uint32_t n, hst_span *to)
{
    for (uint32_t i = 0; i < n; i++) {
        if (i > 0 && bucket[i] == bucket[i - 1] + 1)
            to[-1].length++;
        else
            *to++ = (hst_span){i == 0 ? bucket[0] : bucket[i] - bucket[i - 1] - 1, 1};
    }
}

static ps_status
make_one(const blk_layout *l, const blk_flush_group *g, const blk_flush_histogram *f,
         ps_arena *arena, const hst_hist **ret)
{
    const int32_t *bucket = g->buckets + f->buckets;
    uint32_t n_spans[2];
    size_t units = (size_t)f->n[0] + f->n[1] + l->n_bounds;

    for (unsigned side = 0; side < 2; side++) {
        n_spans[side] = count_spans(side == 0 ? bucket : bucket + f->n[0], f->n[side]);
        units += n_spans[side];
    }
    hst_hist *h = ps_arena_new(arena, sizeof *h + 8 * units);
    if (h == NULL)
        return PS_ENOMEM;
    *h = (hst_hist){.schema = l->schema,
                    .hint = f->hint,
                    .count = f->count,
                    .sum = f->sum,
                    .zero_threshold = l->zero_threshold,
                    .zero_count = f->zero_count,
                    .n_bounds = l->n_bounds,
                    .integer = l->integer};
    hst_span *spans = (hst_span *)(void *)(h + 1);
    double *counts = (double *)(void *)(spans + n_spans[0] + n_spans[1]);
    h->positive = (hst_side){spans, n_spans[0], f->n[0], counts};
    h->negative = (hst_side){spans + n_spans[0], n_spans[1], f->n[1], counts + f->n[0]};
    fill_spans(bucket, f->n[0], spans);
    fill_spans(bucket + f->n[0], f->n[1], spans + n_spans[0]);
    if (f->n[0] + f->n[1] > 0)
        memcpy(counts, g->pops + f->pops, ((size_t)f->n[0] + f->n[1]) * sizeof *counts);
    if (l->n_bounds > 0)
        h->bounds = memcpy(counts + f->n[0] + f->n[1], l->bounds, (size_t)l->n_bounds * 8);
    *ret = h;
    return hst_check(h, NULL) == PS_OK ? PS_OK : PS_ECORRUPT;
}

ps_status
blk_flush_histograms_make(const blk_reader *r, uint32_t i, size_t lo, size_t n, ps_arena *arena,
                          const hst_hist **ret, ps_err *err)
{
    const blk_flush_series *s = &r->fseries[i];
    const blk_flush_group *g = &r->groups[s->group];
    const blk_flush_histogram *f = r->histograms + s->first_value + lo;

    for (size_t k = 0; k < n; k++) {
        ps_status status = make_one(&r->layouts[f[k].layout], g, &f[k], arena, &ret[k]);
        if (status == PS_ENOMEM)
            return no_memory(err);
        if (status != PS_OK)
            return damaged(err);
    }
    return PS_OK;
}
