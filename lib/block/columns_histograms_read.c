/*
 * columns_histograms_read.c - one series' histograms from a columns block.
 *
 * A run of samples with one layout is a table: a column for count, zero count and sum each, and one
 * for each bucket. Columns are decoded a slab of samples at a time, as many as keep the table small,
 * and turned into histograms row by row. Where all buckets of the layout are populated, as is usual
 * once a counter has seen enough, samples share the layout's spans.
 *
 * Memory: the caller's arena for the histograms; in the bench one slab. A series has at most
 * BLK_SERIES_MAX_NUMBERS, whatever its block says.
 */
#include "lib/block/histograms.h"

enum { SCALARS = 3 };              /* columns before those of the buckets: count, zero count, sum */
enum { SLAB_NUMBERS = 64 * 1024 }; /* a slab has about as many, but at least one frame of samples */

typedef struct run { /* one being read */
    const blk_layout *l;
    uint32_t n;
    bool rests;      /* counts are what is left after populations */
    blk_in hints;    /* the column */
    blk_vcol *cols;  /* offsets relative to the series' payload */
    uint32_t n_cols; /* SCALARS + buckets */
    hst_span *spans; /* in the arena, made when first needed */
} run;

typedef struct reading {
    const blk_reader *r;
    blk_bench *b;
    ps_arena *arena;
    const uint8_t *payload;
    size_t payload_len;
    const double *bounds; /* of the run's layout, in the arena */
} reading;

/* One column's description; its payload follows. A byte 0 says that all are 0. */
static ps_status
parse_column(reading *rd, blk_in *in, uint32_t n, blk_vcol *ret)
{
    unsigned codec = blk_in_u8(in);

    if (codec == 0) {
        *ret = (blk_vcol){.codec = BLK_CODEC_CONST};
        return in->bad ? PS_ECORRUPT : PS_OK;
    }
    unsigned flags = blk_in_u8(in);
    if (in->bad)
        return PS_ECORRUPT;
    if (flags & BLK_ENTRY_TREF)
        return PS_EUNSUPPORTED;
    PS_TRY(blk_codec_parse(in, codec, flags, n, NULL, ret));
    ret->body_off = (size_t)(in->p - rd->payload);
    return blk_in_bytes(in, ret->body_len) == NULL ? PS_ECORRUPT : PS_OK;
}

/* Descriptions of all columns; *in stands behind the run afterwards. */
static ps_status
parse_run(reading *rd, blk_in *in, run *u)
{
    unsigned flags = blk_in_u8(in);

    if (!in->bad && flags & ~(unsigned)BLK_HISTOGRAMS_KNOWN)
        return PS_EUNSUPPORTED;
    u->rests = (flags & BLK_HISTOGRAMS_COUNT_RESTS) != 0;
    u->n_cols = SCALARS + u->l->n_buckets[0] + u->l->n_buckets[1];
    u->spans = NULL;
    u->hints = *in;
    if (!blk_icol_part(in, u->n, 0, 0, NULL))
        return PS_ECORRUPT;
    u->hints.end = in->p;
    u->cols = blk_scratch_get(&rd->b->alloc, &rd->b->columns, u->n_cols, sizeof *u->cols);
    if (u->cols == NULL)
        return PS_ENOMEM;
    for (uint32_t c = 0; c < u->n_cols; c++)
        PS_TRY(parse_column(rd, in, u->n, &u->cols[c]));
    return PS_OK;
}

/* ---- rows ----------------------------------------------------------------------------------- */

/* Spans and bounds of the run's layout, for the samples that share them. */
static ps_status
share_layout(reading *rd, run *u)
{
    const blk_layout *l = u->l;

    u->spans =
        ps_arena_array(rd->arena, (size_t)l->n_spans[0] + l->n_spans[1] + 1, sizeof *u->spans);
    double *bounds = ps_arena_array(rd->arena, (size_t)l->n_bounds + 1, sizeof *bounds);
    if (u->spans == NULL || bounds == NULL)
        return PS_ENOMEM;
    blk_layout_spans(l, u->spans);
    if (l->n_bounds > 0)
        memcpy(bounds, l->bounds, (size_t)l->n_bounds * 8);
    rd->bounds = bounds;
    return PS_OK;
}

/* One side of a sample that lacks some of the layout's buckets; returns how many spans it has. v are
 * its populations, step apart. */
static uint32_t
sparse_side(const hst_span *spans, uint32_t n_spans, const double *v, size_t step, hst_span *to,
            double *counts, uint32_t *ret_n)
{
    uint32_t n_to = 0, n = 0;
    int64_t index = 0, next = 0;

    for (uint32_t s = 0; s < n_spans; s++) {
        index += spans[s].offset;
        for (uint32_t k = 0; k < spans[s].length; k++, index++, v += step) {
            if (*v == 0)
                continue;
            if (n_to > 0 && index == next)
                to[n_to - 1].length++;
            else
                to[n_to++] = (hst_span){(int32_t)(index - next), 1};
            next = index + 1;
            counts[n++] = *v;
        }
    }
    *ret_n = n;
    return n_to;
}

/* Fills the buckets of h from row v, whose numbers are `step` apart. */
static ps_status
fill_buckets(reading *rd, const run *u, const double *v, size_t step, hst_hist *h)
{
    const blk_layout *l = u->l;
    const uint32_t n_all = l->n_buckets[0] + l->n_buckets[1], n_spans = l->n_spans[0];
    uint32_t n = 0;

    for (uint32_t k = 0; k < n_all; k++)
        n += v[k * step] != 0;
    h->positive = (hst_side){u->spans, n_spans, l->n_buckets[0], NULL};
    h->negative = (hst_side){u->spans + n_spans, l->n_spans[1], l->n_buckets[1], NULL};
    const bool whole = n == n_all;
    double *counts = ps_arena_new(rd->arena, (size_t)n * (whole ? 8 : 16) + 8);
    if (counts == NULL)
        return PS_ENOMEM;
    h->positive.counts = counts;
    if (whole) {
        for (uint32_t k = 0; k < n_all; k++)
            counts[k] = v[k * step];
        h->negative.counts = counts + l->n_buckets[0];
        return PS_OK;
    }
    hst_span *spans = (hst_span *)(void *)(counts + n);
    h->positive.spans = spans;
    h->positive.n_spans =
        sparse_side(u->spans, n_spans, v, step, spans, counts, &h->positive.n_counts);
    spans += h->positive.n_spans;
    counts += h->positive.n_counts;
    h->negative.spans = spans;
    h->negative.counts = counts;
    h->negative.n_spans = sparse_side(u->spans + n_spans, l->n_spans[1], v + l->n_buckets[0] * step,
                                      step, spans, counts, &h->negative.n_counts);
    return PS_OK;
}

/* Rows of a slab of n samples, column by column in v. */
static ps_status
make_rows(reading *rd, const run *u, const double *v, const uint64_t *hints, size_t n,
          const hst_hist **ret)
{
    const blk_layout *l = u->l;

    for (size_t i = 0; i < n; i++) {
        const double *buckets = v + SCALARS * n + i;
        double count = v[i], sum = v[n + i];
        for (uint32_t k = 0; u->rests && k < u->n_cols - SCALARS; k++)
            sum += buckets[k * n];
        hst_hist *h = ps_arena_new(rd->arena, sizeof *h);
        if (h == NULL)
            return PS_ENOMEM;
        if (hints[i] > HST_GAUGE)
            return PS_ECORRUPT;
        *h = (hst_hist){.schema = l->schema,
                        .hint = (hst_hint)hints[i],
                        .count = u->rests ? count + sum : count,
                        .zero_count = v[n + i],
                        .sum = v[2 * n + i],
                        .zero_threshold = l->zero_threshold,
                        .bounds = l->n_bounds > 0 ? rd->bounds : NULL,
                        .n_bounds = l->n_bounds,
                        .integer = l->integer};
        PS_TRY(fill_buckets(rd, u, buckets, n, h));
        /* spans and bounds were checked with the layout */
        if (l->schema == HST_CUSTOM && (h->zero_count < 0 || h->zero_count > 0))
            return PS_ECORRUPT;
        ret[i] = h;
    }
    return PS_OK;
}

/* Samples lo..lo + n of a run, slab by slab. */
static ps_status
read_run(reading *rd, run *u, size_t lo, size_t n, const hst_hist **ret)
{
    size_t slab = SLAB_NUMBERS / u->n_cols / BLK_FRAME_VALUES * BLK_FRAME_VALUES;

    PS_TRY(share_layout(rd, u));
    slab = slab < BLK_FRAME_VALUES ? BLK_FRAME_VALUES : slab;
    slab = slab > n ? n : slab;
    double *v = blk_scratch_get(&rd->b->alloc, &rd->b->matrix, slab * (u->n_cols + 1), sizeof *v);
    if (v == NULL)
        return PS_ENOMEM;
    uint64_t *hints = (uint64_t *)(void *)(v + slab * u->n_cols);
    for (size_t at = lo, len; at < lo + n; at += len, ret += len) {
        len = lo + n - at < slab ? lo + n - at : slab;
        blk_in in = u->hints;
        if (!blk_icol_part(&in, u->n, at, len, hints) || in.p != in.end)
            return PS_ECORRUPT;
        for (uint32_t c = 0; c < u->n_cols; c++)
            PS_TRY(blk_codec_decode(&rd->b->alloc, &rd->b->scratch, &u->cols[c], u->n, rd->payload,
                                    rd->payload_len, at, len, v + c * len));
        PS_TRY(make_rows(rd, u, v, hints, len, ret));
    }
    return PS_OK;
}

/* ---- runs ----------------------------------------------------------------------------------- */

/* All runs of a series, of which those that hold samples lo..lo + n are decoded. */
static ps_status
read_runs(reading *rd, uint32_t n_all, size_t lo, size_t n, const hst_hist **ret)
{
    blk_in in = {rd->payload, rd->payload + rd->payload_len, false};
    uint64_t numbers = 0;

    for (size_t at = 0; at < n_all;) {
        uint64_t layout = blk_in_varint(&in), len = blk_in_varint(&in);
        if (in.bad || layout >= rd->r->n_layouts || len >= n_all - at)
            return PS_ECORRUPT;
        run u = {.l = &rd->r->layouts[layout], .n = (uint32_t)len + 1};
        numbers += (uint64_t)u.n * (SCALARS + u.l->n_buckets[0] + u.l->n_buckets[1]);
        numbers += u.l->n_bounds;
        if (numbers > BLK_SERIES_MAX_NUMBERS)
            return PS_ECORRUPT;
        PS_TRY(parse_run(rd, &in, &u));
        size_t from = at < lo ? lo : at, to = at + u.n < lo + n ? at + u.n : lo + n;
        if (from < to)
            PS_TRY(read_run(rd, &u, from - at, to - from, ret + (from - lo)));
        at += u.n;
    }
    return blk_in_left(&in) == 0 ? PS_OK : PS_ECORRUPT;
}

ps_status
blk_columns_histograms(const blk_reader *r, blk_bench *b, uint32_t i, size_t lo, size_t n,
                       ps_arena *arena, const hst_hist **ret, ps_err *err)
{
    const blk_columns_series *s = &r->cseries[i];
    reading rd = {.r = r, .b = b, .arena = arena};

    if (n == 0)
        return PS_OK;
    if (r->head_only)
        return ps_fail(err, PS_EINVAL, "the block was opened without its body");
    rd.payload = r->body + s->values.body_off;
    rd.payload_len = s->values.body_len;
    ps_status status = read_runs(&rd, r->tcols[s->tcol].n, lo, n, ret);
    if (status == PS_ENOMEM)
        return ps_fail(err, status, "out of memory");
    if (status == PS_EUNSUPPORTED)
        return ps_fail(err, status, "block has histograms of a form not known to this build");
    return status == PS_OK ? PS_OK : ps_fail(err, status, "block is damaged: histograms");
}
