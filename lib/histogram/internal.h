/*
 * internal.h of histogram - how buckets are read and written, for the files of this folder.
 *
 * Reading: a hst_walk goes over the buckets of one side in order and can, on the way, move them to a
 * lower resolution, or to fewer custom bounds: several buckets then come out under the same index, one
 * after the other. Writing: a hst_out takes (index, population) in ascending order; without memory
 * it only counts. So every operation runs twice, first to learn the size of its one allocation.
 */
#ifndef PROMSCALE_HISTOGRAM_INTERNAL_H
#define PROMSCALE_HISTOGRAM_INTERNAL_H

#include <math.h>

#include "lib/histogram/histogram.h"

/* ---- bounds ------------------------------------------------------------------------------------- */

extern const double hst_fractions[256]; /* 2^(i/256 - 1) as Prometheus rounds it */
/* Absolute value of the outer bound of exponential bucket `index`; that of the inner is index - 1. */
double hst_exponential_bound(int32_t schema, int32_t index);

/* Part of b's observations that lie below v, with lower < v < upper, both finite. linear: spread evenly
 * over the values, else over their logarithm. */
double hst_part_below(const hst_bucket *b, double v, bool linear);

/* ---- reading ------------------------------------------------------------------------------------ */

typedef struct hst_walk {
    const hst_span *span;
    const double *count;
    uint32_t left, in_span;
    int32_t index;         /* of the bucket to come, once in_span > 0 */
    int32_t shift;         /* schemas to go down */
    double divisor;        /* populations are divided by it */
    const double *from;    /* custom bounds to be mapped */
    const double *to;      /* to these; NULL: none are */
    uint32_t n_from, n_to; /* how many */
    uint32_t at_to;
} hst_walk;

static inline hst_walk
hst_walk_of(const hst_side *side, int32_t shift)
{
    return (hst_walk){.span = side->spans,
                      .count = side->counts,
                      .left = side->n_counts,
                      .shift = shift,
                      .divisor = 1};
}

static inline int32_t
hst_shift_index(int32_t index, int32_t shift)
{
    return ((index - 1) >> shift) + 1;
}

/* Index of the bucket to come; false at the end. */
static inline bool
hst_peek(hst_walk *w, int32_t *ret)
{
    if (w->left == 0)
        return false;
    while (w->in_span == 0) {
        w->index += w->span->offset;
        w->in_span = w->span->length;
        w->span++;
    }
    if (w->to == NULL) {
        *ret = w->shift == 0 ? w->index : hst_shift_index(w->index, w->shift);
        return true;
    }
    uint32_t i = (uint32_t)w->index;
    if (i >= w->n_from) {
        w->at_to = w->n_to;
    } else {
        while (w->at_to < w->n_to && w->to[w->at_to] < w->from[i])
            w->at_to++;
    }
    *ret = (int32_t)w->at_to;
    return true;
}

/* Its population; only after hst_peek() said true. */
static inline double
hst_take(hst_walk *w)
{
    w->left--;
    w->in_span--;
    w->index++;
    double v = *w->count++;
    return w->divisor == 1 ? v : v / w->divisor;
}

/* All buckets that come under `index`, added up. */
static inline double
hst_take_all(hst_walk *w, int32_t index)
{
    double v = hst_take(w);
    int32_t next = 0;
    while (hst_peek(w, &next) && next == index)
        v += hst_take(w);
    return v;
}

/* Leaves out the buckets that end at or below a threshold. */
void hst_skip_upto(hst_walk *w, int32_t schema, double threshold);

/* ---- writing ------------------------------------------------------------------------------------ */

typedef struct hst_out {
    hst_span *spans; /* NULL: only count */
    double *counts;
    uint32_t n_spans, n_counts;
    int32_t next;
    bool keep_empty;
} hst_out;

static inline void
hst_put(hst_out *o, int32_t index, double count)
{
    if (count == 0 && !o->keep_empty)
        return;
    bool follows = o->n_spans > 0 && index == o->next;
    if (o->spans != NULL) {
        o->counts[o->n_counts] = count;
        if (follows)
            o->spans[o->n_spans - 1].length++;
        else
            o->spans[o->n_spans] = (hst_span){o->n_spans > 0 ? index - o->next : index, 1};
    }
    o->n_counts++;
    o->n_spans += !follows;
    o->next = index + 1;
}

/* What fills both sides; called twice. */
typedef void (*hst_fill)(const void *self, hst_out *positive, hst_out *negative);

/* A histogram with the scalar fields and the bounds of `like` and the buckets of `fill`. */
ps_status hst_build(ps_arena *arena, const hst_hist *like, bool keep_empty, hst_fill fill,
                    const void *self, const hst_hist **ret);

/* ---- short ways (alike.c) ------------------------------------------------------------------------ */

/* The same buckets on both sides, none of them within the zero bucket. */
bool hst_alike(const hst_hist *a, const hst_hist *b);
/* a + sign * b of two that are alike; scalar fields but the zero count are those of `like`. */
ps_status hst_sum_alike(ps_arena *arena, const hst_hist *like, const hst_hist *a, const hst_hist *b,
                        double sign, const hst_hist **ret);
/* The buckets of h times `by` under the scalar fields of `like`. */
ps_status hst_scale(ps_arena *arena, const hst_hist *like, const hst_hist *h, double by,
                    const hst_hist **ret);

/* ---- zero bucket, hints, bounds ----------------------------------------------------------------- */

/*
 * The zero bucket made as wide as `wish`, or as wide as the end of the populated bucket in which that
 * lies. Returns the width and its population; ret_lost (may be NULL): the compensation of that.
 */
double hst_widen(const hst_hist *h, double divisor, double wish, double *ret_zero,
                 double *ret_lost);
/* Sets *hint for what comes of it together with other; true for reset against not_reset. */
bool hst_join_hints(hst_hint *hint, hst_hint other);
bool hst_same_bounds(const double *a, uint32_t n_a, const double *b, uint32_t n_b);
/* Bounds that are in both, to ret (may be NULL: only count). */
uint32_t hst_common_bounds(const double *a, uint32_t n_a, const double *b, uint32_t n_b,
                           double *ret);

/* Adds to *sum, what is lost goes to *lost (Kahan, Neumaier); nothing is kept of a sum that is
 * infinite. */
static inline void
hst_kahan(double v, double *sum, double *lost)
{
    double t = *sum + v;
    if (isinf(t))
        *lost = 0;
    else if (fabs(*sum) >= fabs(v))
        *lost += (*sum - t) + v;
    else
        *lost += (v - t) + *sum;
    *sum = t;
}

#endif
