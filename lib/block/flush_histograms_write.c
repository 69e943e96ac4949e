/*
 * flush_histograms_write.c - the histograms of a flush block.
 *
 * A flush brings one or a few samples of each series, and every series has its own populated
 * buckets: a table of buckets would be nearly as long as there are samples. So each sample says how
 * many it has, and their indexes and populations are columns over all samples. A sample that has
 * the buckets of the one before it (of the same series) says only that, and its populations are
 * what was added. What all samples have in common (schema, zero threshold, custom bounds) is a
 * layout without buckets.
 *
 * Counts of integer histograms follow from their populations, but for observations of NaN: what is
 * left of them is stored.
 */
#include "lib/block/histograms.h"

typedef struct hist_state {
    blk_flush_state *st;
    size_t n_pops, n_index, n_negative; /* of the group being written */
    uint64_t *layout, *hint, *positive, *negative;
    int64_t *bucket; /* per population, absolute index */
    double *pops;
    uint64_t *index, *ints;
    uint32_t *exc, *n_of; /* populations of a sample */
    blk_intern layouts;
    ps_buf groups;
} hist_state;

/* Carves the arrays out of one allocation; with mem NULL only measures. */
static size_t
carve(hist_state *h, char *mem)
{
    const size_t n = h->st->n, n_pops = h->st->n_pops;
    size_t at = 0;
    struct {
        void **p;
        size_t bytes;
    } parts[] = {
        {(void **)&h->layout, n * 8},    {(void **)&h->hint, n * 8},
        {(void **)&h->positive, n * 8},  {(void **)&h->negative, n * 8},
        {(void **)&h->n_of, n * 4},      {(void **)&h->bucket, n_pops * 8},
        {(void **)&h->pops, n_pops * 8}, {(void **)&h->index, n_pops * 8},
        {(void **)&h->ints, n_pops * 8}, {(void **)&h->exc, n_pops * 4},
    };

    for (size_t i = 0; i < PS_ARRAY_LEN(parts); i++) {
        if (mem != NULL)
            *parts[i].p = mem + at;
        at += (parts[i].bytes + 7) & ~(size_t)7;
    }
    return at;
}

/* Populated buckets of one side, behind those already there. */
static uint32_t
collect_side(hist_state *h, const hst_side *side)
{
    blk_buckets b = blk_buckets_of(side);
    const size_t before = h->n_pops;
    double v;

    while (blk_buckets_next(&b, &v)) {
        h->bucket[h->n_pops] = b.index;
        h->pops[h->n_pops++] = v;
    }
    return (uint32_t)(h->n_pops - before);
}

static void
put_indexes(hist_state *h, const int64_t *bucket, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        h->index[h->n_index++] = (uint64_t)(i == 0 ? bucket[0] : bucket[i] - bucket[i - 1] - 1);
}

/* Sample i of the group; *before is its predecessor's number of positive buckets, UINT32_MAX: it has
 * none. */
static void
collect_sample(hist_state *h, size_t i, const hst_hist *p, uint32_t *before)
{
    const size_t at = h->n_pops;
    uint32_t n_positive = collect_side(h, &p->positive), n_negative = collect_side(h, &p->negative);
    uint32_t n = n_positive + n_negative;

    h->n_of[i] = n;
    h->hint[i] = p->hint;
    if (*before == n_positive && h->n_of[i - 1] == n &&
        (n == 0 || memcmp(h->bucket + at, h->bucket + at - n, n * sizeof *h->bucket) == 0)) {
        h->positive[i] = 0;
        return;
    }
    *before = n_positive;
    h->positive[i] = (uint64_t)n_positive + 1;
    h->negative[h->n_negative++] = n_negative;
    put_indexes(h, h->bucket + at, n_positive);
    put_indexes(h, h->bucket + at + n_positive, n_negative);
}

static bool
number_layout(hist_state *h, size_t i, const hst_hist *p)
{
    static const hst_side no_side;
    uint32_t number;
    const size_t at = h->layouts.bytes.len;

    blk_layout_put(&h->layouts.bytes, p, &no_side, &no_side);
    if (!blk_intern_number(&h->layouts, at, &number))
        return false;
    h->layout[i] = number;
    return true;
}

static void
put_populations(hist_state *h, size_t n, ps_buf *out)
{
    if (h->n_pops == 0)
        return;
    blk_flush_put_head(h->pops, h->n_pops, h->ints, h->exc, out);
    size_t at = h->n_pops;
    for (size_t i = n; i-- > 0;) {
        const uint32_t len = h->n_of[i];
        at -= len;
        for (uint32_t k = 0; h->positive[i] == 0 && k < len; k++)
            h->ints[at + k] -= h->ints[at + k - len];
    }
    blk_icol_encode(h->ints, h->n_pops, out);
}

/* Are all counts what their rests say? Leaves the rests in st->values. */
static bool
counts_follow(blk_flush_state *st, size_t at, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!blk_count_rest(st->points[at + i].histogram, &st->values[i]))
            return false;
    }
    return true;
}

static bool
put_group(hist_state *h, size_t at, size_t n, size_t series, size_t n_series, ps_buf *out)
{
    blk_flush_state *st = h->st;
    const blk_point *p = st->points + at;
    uint32_t before = UINT32_MAX;

    h->n_pops = h->n_index = h->n_negative = 0;
    for (size_t i = 0; i < n; i++) {
        if (i > 0 && p[i].series_id != p[i - 1].series_id)
            before = UINT32_MAX;
        if (!number_layout(h, i, p[i].histogram))
            return false;
        collect_sample(h, i, p[i].histogram, &before);
    }
    const bool follow = counts_follow(st, at, n);
    ps_buf_add_char(out, follow ? BLK_HISTOGRAMS_COUNT_RESTS : 0);
    blk_icol_encode(h->layout, n, out);
    blk_icol_encode(h->hint, n, out);
    for (size_t i = 0; !follow && i < n; i++)
        st->values[i] = p[i].histogram->count;
    blk_flush_put_values(st, n, series, n_series, out);
    for (size_t i = 0; i < n; i++)
        st->values[i] = p[i].histogram->zero_count;
    blk_flush_put_values(st, n, series, n_series, out);
    for (size_t i = 0; i < n; i++)
        st->values[i] = p[i].histogram->sum;
    blk_flush_put_values(st, n, series, n_series, out);
    blk_icol_encode(h->positive, n, out);
    blk_icol_encode(h->negative, h->n_negative, out);
    blk_icol_encode(h->index, h->n_index, out);
    put_populations(h, n, out);
    return !out->failed;
}

static bool
put_groups(hist_state *h, ps_buf *out)
{
    blk_flush_state *st = h->st;
    uint64_t *lengths = st->metric_delta; /* written already */

    for (size_t metric = 0, series = 0, at = 0; metric < st->n_metrics; metric++) {
        const size_t n_series = st->metric_series[metric], before = h->groups.len;
        size_t n = 0;
        for (size_t s = 0; s < n_series; s++)
            n += st->vec_len[st->vec_of[series + s]];
        if (!put_group(h, at, n, series, n_series, &h->groups))
            return false;
        lengths[metric] = h->groups.len - before;
        series += n_series;
        at += n;
    }
    blk_buf_varint(out, h->layouts.n);
    ps_buf_add_str(out, ps_buf_str(&h->layouts.bytes));
    blk_icol_encode(lengths, st->n_metrics, out);
    ps_buf_add_str(out, ps_buf_str(&h->groups));
    return !out->failed;
}

ps_status
blk_flush_put_histograms(const ps_alloc *alloc, blk_flush_state *st, ps_buf *out)
{
    hist_state h = {.st = st};
    const size_t size = carve(&h, NULL);
    char *mem = ps_alloc_new(alloc, size);

    if (mem == NULL)
        return PS_ENOMEM;
    carve(&h, mem);
    blk_intern_init(&h.layouts, alloc);
    ps_buf_init(&h.groups, alloc);
    bool ok = put_groups(&h, out);
    blk_intern_done(&h.layouts);
    ps_buf_done(&h.groups);
    ps_alloc_free(alloc, mem, size);
    return ok ? PS_OK : PS_ENOMEM;
}
