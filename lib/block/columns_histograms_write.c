/*
 * columns_histograms_write.c - one series' histograms for a columns block.
 *
 * Samples are cut into runs of one layout, whose buckets are those that are populated in any sample of
 * the run: mostly one run, since counters only gain buckets. A run ends where schema, zero threshold,
 * bounds or integers change, and where too much of its table would be empty. Staleness markers have
 * nothing but their sum and stay in any run.
 *
 * Each column then goes through the codecs that series of floats go through. A column without any
 * number is one byte.
 */
#include "lib/block/histograms.h"

enum { SCALARS = 3 };
/* A table may have four times as many places as it has numbers, and few more: in all runs of a series
 * together at most seven for each number, sample and bound, whatever comes (a piece that a merge writes
 * has to fit). */
enum { WASTE_FACTOR = 4, WASTE_SLACK = 256, MAX_TABLE = 512 * 1024 };

/* Buckets as numbers that ascend, positive side first. */
typedef struct key_set {
    uint32_t *keys, *spare;
    uint32_t n;
} key_set;

typedef struct writing {
    const ps_alloc *alloc;
    blk_codec_scratch *s;
    blk_intern *layouts;
    const hst_hist *const *h;
    bool hard;
    key_set set;
    ps_buf *out;
} writing;

static inline uint32_t
key_of(unsigned side, int64_t index)
{
    return (uint32_t)side << 31 | (uint32_t)(index + HST_INDEX_MAX);
}

typedef struct key_walk { /* populated buckets of both sides */
    const hst_hist *h;
    blk_buckets b;
    unsigned side;
} key_walk;

static inline key_walk
key_walk_of(const hst_hist *h)
{
    return (key_walk){h, blk_buckets_of(&h->positive), 0};
}

static inline bool
key_next(key_walk *w, uint32_t *ret_key, double *ret)
{
    while (!blk_buckets_next(&w->b, ret)) {
        if (w->side++ > 0)
            return false;
        w->b = blk_buckets_of(&w->h->negative);
    }
    *ret_key = key_of(w->side, w->b.index);
    return true;
}

/* The staleness marker as it comes, which has no layout of its own. */
static bool
is_marker(const hst_hist *h)
{
    return hst_is_stale(h) && ps_bits_of(h->count) == 0 && ps_bits_of(h->zero_count) == 0 &&
           blk_populated(h) == 0;
}

static bool
same_kind(const hst_hist *a, const hst_hist *b)
{
    return a->schema == b->schema && a->integer == b->integer &&
           ps_bits_of(a->zero_threshold) == ps_bits_of(b->zero_threshold) &&
           a->n_bounds == b->n_bounds &&
           (a->n_bounds == 0 || memcmp(a->bounds, b->bounds, a->n_bounds * sizeof(double)) == 0);
}

/* The union of the set and h's buckets goes to set->spare; returns its size, or UINT32_MAX where it
 * would be too large. *ret_n: how many h has. */
static uint32_t
join(const key_set *set, const hst_hist *h, uint32_t *ret_n)
{
    key_walk w = key_walk_of(h);
    uint32_t n = 0, at = 0, key, n_h = 0;
    double v;

    while (key_next(&w, &key, &v)) {
        n_h++;
        while (at < set->n && set->keys[at] < key && n < BLK_MAX_BUCKETS)
            set->spare[n++] = set->keys[at++];
        at += at < set->n && set->keys[at] == key;
        if (n >= BLK_MAX_BUCKETS)
            return UINT32_MAX;
        set->spare[n++] = key;
    }
    if (set->n - at > BLK_MAX_BUCKETS - n)
        return UINT32_MAX;
    if (set->n > at)
        memcpy(set->spare + n, set->keys + at, (set->n - at) * sizeof *set->keys);
    *ret_n = n_h;
    return n + set->n - at;
}

/* How many of the n samples make the next run; its buckets are in w->set. *ret_like has its layout. */
static size_t
find_run(writing *w, const hst_hist *const *h, size_t n, const hst_hist **ret_like)
{
    const hst_hist *like = NULL;
    size_t i = 0, numbers = 0;

    w->set.n = 0;
    for (; i < n; i++) {
        uint32_t n_h = 0, size;
        if (is_marker(h[i]))
            continue;
        if (like != NULL && !same_kind(like, h[i]))
            break;
        size = join(&w->set, h[i], &n_h);
        const size_t table = (i + 1) * ((size_t)size + SCALARS);
        if (like != NULL && (size == UINT32_MAX || table > MAX_TABLE ||
                             table > (numbers + n_h) * WASTE_FACTOR + WASTE_SLACK + i * SCALARS))
            break;
        like = like == NULL ? h[i] : like;
        numbers += n_h;
        uint32_t *keys = w->set.keys;
        w->set.keys = w->set.spare;
        w->set.spare = keys;
        w->set.n = size;
    }
    *ret_like = like == NULL ? h[0] : like;
    return i;
}

/* The number of the layout: that of `like` with the buckets of the set. */
static bool
number_layout(writing *w, const hst_hist *like, uint32_t *ret)
{
    const key_set *set = &w->set;
    hst_span *spans = blk_scratch_get(w->alloc, &w->s->spans, (size_t)set->n + 1, sizeof *spans);
    hst_side sides[2] = {0};
    uint32_t n = 0;

    if (spans == NULL)
        return false;
    for (uint32_t k = 0; k < set->n; k++) {
        const uint32_t key = set->keys[k];
        hst_side *side = &sides[key >> 31];
        if (side->n_spans == 0) {
            side->spans = &spans[n];
            spans[n++] = (hst_span){(int32_t)(key & INT32_MAX) - HST_INDEX_MAX, 1};
            side->n_spans = 1;
        } else if (key == set->keys[k - 1] + 1) {
            spans[n - 1].length++;
        } else {
            spans[n++] = (hst_span){(int32_t)(key - set->keys[k - 1] - 1), 1};
            side->n_spans++;
        }
    }
    const size_t at = w->layouts->bytes.len;
    blk_layout_put(&w->layouts->bytes, like, &sides[0], &sides[1]);
    return blk_intern_number(w->layouts, at, ret);
}

/* ---- columns -------------------------------------------------------------------------------- */

static ps_status
put_column(writing *w, const double *v, size_t n)
{
    blk_encoded e;
    uint64_t any = 0;

    for (size_t i = 0; i < n; i++)
        any |= ps_bits_of(v[i]);
    if (any == 0) {
        ps_buf_add_char(w->out, 0);
        return PS_OK;
    }
    PS_TRY(blk_codec_encode(w->alloc, w->s, v, n, w->hard, &e));
    ps_buf_add_char(w->out, (char)e.codec);
    ps_buf_add_char(w->out, (char)blk_codec_flags(&e));
    blk_codec_put(&e, v[n - 1], n, w->out, w->out);
    return PS_OK;
}

/* Samples as a table, column by column; false: counts do not follow from populations and are there as
 * they are. */
static bool
fill_table(const writing *w, const hst_hist *const *h, size_t n, double *table)
{
    const key_set *set = &w->set;
    bool rests = true;

    memset(table, 0, n * ((size_t)set->n + SCALARS) * sizeof *table);
    for (size_t i = 0; i < n; i++) {
        key_walk walk = key_walk_of(h[i]);
        uint32_t key, at = 0;
        double v;
        rests = rests && blk_count_rest(h[i], &table[i]);
        table[n + i] = h[i]->zero_count;
        table[2 * n + i] = h[i]->sum;
        while (key_next(&walk, &key, &v)) {
            while (set->keys[at] != key)
                at++;
            table[(SCALARS + (size_t)at) * n + i] = v;
        }
    }
    for (size_t i = 0; !rests && i < n; i++)
        table[i] = h[i]->count;
    return rests;
}

static ps_status
put_run(writing *w, const hst_hist *const *h, size_t n, const hst_hist *like)
{
    const size_t n_cols = (size_t)w->set.n + SCALARS;
    uint32_t layout;
    double *table = blk_scratch_get(w->alloc, &w->s->table, n * (n_cols + 1), sizeof *table);

    if (table == NULL || !number_layout(w, like, &layout))
        return PS_ENOMEM;
    uint64_t *hints = (uint64_t *)(void *)(table + n * n_cols);
    for (size_t i = 0; i < n; i++)
        hints[i] = h[i]->hint;
    const bool rests = fill_table(w, h, n, table);
    blk_buf_varint(w->out, layout);
    blk_buf_varint(w->out, n - 1);
    ps_buf_add_char(w->out, rests ? BLK_HISTOGRAMS_COUNT_RESTS : 0);
    blk_icol_encode(hints, n, w->out);
    for (size_t c = 0; c < n_cols; c++)
        PS_TRY(put_column(w, table + c * n, n));
    return w->out->failed ? PS_ENOMEM : PS_OK;
}

ps_status
blk_columns_put_histograms(const ps_alloc *alloc, blk_codec_scratch *s, blk_intern *layouts,
                           const hst_hist *const *h, size_t n, bool hard, ps_buf *out)
{
    writing w = {.alloc = alloc, .s = s, .layouts = layouts, .hard = hard, .out = out};
    uint64_t numbers = 0;

    for (size_t i = 0; i < n; i++) {
        if (h[i]->n_bounds > BLK_MAX_BUCKETS || blk_populated(h[i]) > BLK_MAX_BUCKETS)
            return PS_ELIMIT;
    }
    w.set.keys = blk_scratch_get(alloc, &s->keys, BLK_MAX_BUCKETS * 2, sizeof *w.set.keys);
    if (w.set.keys == NULL)
        return PS_ENOMEM;
    w.set.spare = w.set.keys + BLK_MAX_BUCKETS;
    for (size_t at = 0, len; at < n; at += len) {
        const hst_hist *like;
        len = find_run(&w, h + at, n - at, &like);
        numbers += (uint64_t)len * (w.set.n + SCALARS) + like->n_bounds;
        if (numbers > BLK_SERIES_MAX_NUMBERS)
            return PS_ELIMIT;
        PS_TRY(put_run(&w, h + at, len, like));
    }
    return PS_OK;
}
