/*
 * histograms.h - what the files of lib/block share about histograms and start timestamps.
 *
 * A layout is everything of a histogram but its numbers: schema, zero threshold, custom bounds, and
 * which buckets there are. It is written once a block and then named by its index. Only populated
 * buckets are ever stored; an empty one and none are the same.
 *
 * A layout that was read points into the block's bytes and was checked; it owns nothing.
 */
#ifndef PROMSCALE_BLOCK_HISTOGRAMS_H
#define PROMSCALE_BLOCK_HISTOGRAMS_H

#include "lib/block/internal.h"

/* ---- layout.c ------------------------------------------------------------------------------- */

enum { BLK_LAYOUT_INTEGER = 1, BLK_LAYOUT_ZERO_SHIFT = 1, BLK_LAYOUT_KNOWN = 7 };
/* Zero thresholds that take no room: none, and the one that client libraries begin with. */
enum { BLK_ZERO_NONE = 0, BLK_ZERO_USUAL = 1, BLK_ZERO_GIVEN = 2 };
#define BLK_USUAL_ZERO 0x1p-128

struct blk_layout {
    int32_t schema;
    bool integer;
    double zero_threshold;
    const uint8_t *bounds; /* n_bounds doubles, unaligned */
    const uint8_t *spans;  /* of both sides, as stored */
    const uint8_t *spans_end;
    uint32_t n_bounds;
    uint32_t n_spans[2], n_buckets[2]; /* positive, negative */
};

/* Appends the layout of `like` with the given spans, whose lengths are not 0 and whose gaps are not
 * either; counts are not looked at. */
void blk_layout_put(ps_buf *out, const hst_hist *like, const hst_side *positive,
                    const hst_side *negative);
/* PS_ECORRUPT and PS_EUNSUPPORTED come without text. */
ps_status blk_layout_parse(blk_in *in, blk_layout *ret) PS_MUST_CHECK;
/* n_spans[0] spans of the positive side, then those of the negative one. */
void blk_layout_spans(const blk_layout *l, hst_span *ret);
/* Reads a table of layouts: how many, and each. PS_ENOMEM, PS_ECORRUPT or PS_EUNSUPPORTED. */
ps_status blk_layouts_read(const ps_alloc *alloc, blk_in *in, blk_layout **ret, uint32_t *ret_n,
                           ps_err *err) PS_MUST_CHECK;

/* Byte strings by number: the same string has the same one. */
typedef struct blk_intern {
    ps_buf bytes; /* one behind the other */
    ps_buf items;
    uint32_t *table; /* open addressing: number + 1, 0 = empty; at most half full */
    size_t table_size;
    uint32_t n;
} blk_intern;
void blk_intern_init(blk_intern *in, const ps_alloc *alloc);
void blk_intern_done(blk_intern *in);
void blk_intern_clear(blk_intern *in);
/* What was appended to in->bytes from `at` on; takes it away again if it is known. False: no
 * memory. */
bool blk_intern_number(blk_intern *in, size_t at, uint32_t *ret) PS_MUST_CHECK;

/* Walks the populated buckets of one side. */
typedef struct blk_buckets {
    const hst_side *side;
    uint32_t span, in_span, at;
    int64_t index; /* of the bucket just returned */
} blk_buckets;
static inline blk_buckets
blk_buckets_of(const hst_side *side)
{
    return (blk_buckets){.side = side, .index = -1};
}
/* False at the end. */
static inline bool
blk_buckets_next(blk_buckets *b, double *ret)
{
    while (b->at < b->side->n_counts) {
        b->index++;
        for (; b->in_span == 0; b->span++) {
            b->index += b->side->spans[b->span].offset;
            b->in_span = b->side->spans[b->span].length;
        }
        b->in_span--;
        *ret = b->side->counts[b->at++];
        if (*ret != 0)
            return true;
    }
    return false;
}
uint32_t blk_populated(const hst_hist *h);
/* The same sample: what a repeated write brings. */
bool blk_same_histogram(const hst_hist *a, const hst_hist *b);
/* What is left of the count when populations are taken off, if adding them up again gives the count
 * to the bit and it is a whole number. */
bool blk_count_rest(const hst_hist *h, double *ret);

/* ---- starts.c ------------------------------------------------------------------------------- */

/* Start timestamps relative to a base, so that 0 can stay "not known". */
static inline uint64_t
blk_start_distance(int64_t start_ms, uint64_t base)
{
    uint64_t d = (uint64_t)start_ms - base;
    return start_ms == 0 ? 0 : (int64_t)d >= 0 ? d + 1 : d;
}
static inline int64_t
blk_start_restore(uint64_t distance, uint64_t base)
{
    if (distance == 0)
        return 0;
    return (int64_t)(base + ((int64_t)distance > 0 ? distance - 1 : distance));
}
/* One that is no time is not known. */
static inline int64_t
blk_start_valid(int64_t start_ms)
{
    return start_ms >= MDL_TIME_MIN_MS && start_ms <= MDL_TIME_MAX_MS ? start_ms : 0;
}

/* How start timestamps are stored; stored numbers. */
typedef enum blk_starts_mode {
    BLK_STARTS_NONE = 0,
    BLK_STARTS_SAME = 1,          /* one start */
    BLK_STARTS_SAME_DISTANCE = 2, /* one distance from the sample's time */
    BLK_STARTS_COLUMN = 3,        /* starts relative to one */
    BLK_STARTS_DISTANCES = 4,     /* distances relative to one */
    BLK_STARTS_END
} blk_starts_mode;

/* Of a flush block: all of its samples, their times in `t`. */
void blk_starts_put(const int64_t *starts, const int64_t *t, size_t n, int64_t t_min, uint64_t *tmp,
                    ps_buf *out);
bool blk_starts_get(blk_in *in, const int64_t *t, size_t n, int64_t t_min, int64_t *ret,
                    bool *ret_unsupported);

/* What the directory of a columns block says relative to the series before. */
typedef struct blk_starts_chain {
    uint64_t start, distance;
} blk_starts_chain;
struct blk_scol { /* start timestamps of one series */
    uint8_t mode;
    uint64_t base; /* start or distance */
    uint32_t body_len;
    size_t body_off;
};
/* tmp holds n integers. */
void blk_scol_put(const int64_t *starts, const int64_t *t, size_t n, blk_starts_chain *chain,
                  uint64_t *tmp, ps_buf *head, ps_buf *body);
ps_status blk_scol_parse(blk_in *in, blk_starts_chain *chain, blk_scol *ret) PS_MUST_CHECK;
/* Samples lo..lo + n of a series of n_all; t are the times of those, needed where
 * blk_scol_needs_times(). */
bool blk_scol_needs_times(const blk_scol *c);
bool blk_scol_decode(const blk_scol *c, const uint8_t *body, size_t n_all, size_t lo, size_t n,
                     const int64_t *t, int64_t *ret);

/* First byte of the histograms of a metric (flush) or of a run (columns). */
enum { BLK_HISTOGRAMS_COUNT_RESTS = 1, BLK_HISTOGRAMS_KNOWN = 1 };

/* ---- flush blocks --------------------------------------------------------------------------- */

typedef struct blk_flush_state {
    const blk_point *points;
    size_t n;
    int16_t kind;
    bool started;  /* some point has a start timestamp */
    size_t n_pops; /* populated buckets of all histograms */
    size_t n_series, n_metrics, n_vecs, n_rest;
    uint64_t *id_delta, *vec_of;              /* per series */
    uint64_t *metric_delta, *metric_series;   /* per metric */
    uint64_t *vec_len, *vec_first, *vec_rest; /* per time vector; rest: all later steps */
    uint32_t *vec_at;                         /* index of a point where the vector begins */
    uint32_t *table;                          /* vectors by hash: index + 1 */
    size_t table_size;
    uint64_t *ints, *first, *steps; /* values */
    double *values;
    uint32_t *exc;
} blk_flush_state;

/* What stands before the integers of n doubles, and the integers. */
void blk_flush_put_head(const double *v, size_t n, uint64_t *ints, uint32_t *exc, ps_buf *out);
/* st->values[0..n): one for each sample of n_series series from `series` on. */
void blk_flush_put_values(blk_flush_state *st, size_t n, size_t series, size_t n_series,
                          ps_buf *out);
/* Layouts, lengths of groups, groups. PS_ENOMEM. */
ps_status blk_flush_put_histograms(const ps_alloc *alloc, blk_flush_state *st,
                                   ps_buf *out) PS_MUST_CHECK;

typedef struct blk_group_head {
    unsigned flags, k, shift;
} blk_group_head;
bool blk_flush_read_head(blk_in *in, blk_group_head *ret);
/* Positions of the exceptions among n values, and their bits. */
bool blk_flush_read_exceptions(blk_in *in, uint32_t n, uint64_t *pos, uint64_t *ret_n,
                               const uint8_t **ret_raw);
/* One double for each sample of the group; tmp holds 3 * n integers. */
bool blk_flush_read_values(const blk_reader *r, const blk_flush_group *g, blk_in *in, uint64_t *tmp,
                           double *values);

struct blk_flush_histogram { /* one decoded sample of a flush block */
    double count, zero_count, sum;
    uint32_t layout;
    uint32_t pops,
        buckets;   /* where its populations and their indexes begin in its group's arrays */
    uint32_t n[2]; /* positive, negative */
    hst_hint hint;
    bool repeated; /* it has the buckets of the sample before */
};
/* The table of layouts and where the groups are. */
ps_status blk_flush_histograms_open(blk_reader *r, blk_in *in, uint64_t *tmp,
                                    ps_err *err) PS_MUST_CHECK;
ps_status blk_flush_histograms_group(blk_reader *r, uint32_t group, ps_err *err) PS_MUST_CHECK;
ps_status blk_flush_histograms_make(const blk_reader *r, uint32_t i, size_t lo, size_t n,
                                    ps_arena *arena, const hst_hist **ret,
                                    ps_err *err) PS_MUST_CHECK;

/* ---- columns blocks ------------------------------------------------------------------------- */

/* Appends the payload of one series; PS_ELIMIT: more numbers than a series may have. */
ps_status blk_columns_put_histograms(const ps_alloc *alloc, blk_codec_scratch *s,
                                     blk_intern *layouts, const hst_hist *const *h, size_t n,
                                     bool hard, ps_buf *out) PS_MUST_CHECK;
ps_status blk_columns_histograms(const blk_reader *r, blk_bench *b, uint32_t i, size_t lo, size_t n,
                                 ps_arena *arena, const hst_hist **ret, ps_err *err) PS_MUST_CHECK;

#endif
