/*
 * alike.c - the short way for what is most common: two histograms with the same buckets, and one that is
 * multiplied. Counts are taken as plain arrays, spans are copied; the result is compact all the same.
 */
#include "lib/histogram/internal.h"

/* ---- what is alike -------------------------------------------------------------------------------- */

static bool
same_spans(const hst_side *a, const hst_side *b)
{
    return a->n_spans == b->n_spans && a->n_counts == b->n_counts &&
           (a->n_spans == 0 || memcmp(a->spans, b->spans, a->n_spans * sizeof *a->spans) == 0);
}

/* Does the first bucket reach beyond the zero bucket? Then all do. */
static bool
is_beyond(const hst_side *side, int32_t schema, double threshold)
{
    uint32_t i = 0;
    if (side->n_counts == 0 || threshold == 0)
        return true;
    int32_t index = side->spans[0].offset;
    while (side->spans[i].length == 0)
        index += side->spans[++i].offset;
    return hst_exponential_bound(schema, index) > threshold;
}

bool
hst_alike(const hst_hist *a, const hst_hist *b)
{
    if (a->schema != b->schema || a->zero_threshold != b->zero_threshold ||
        !same_spans(&a->positive, &b->positive) || !same_spans(&a->negative, &b->negative))
        return false;
    if (hst_is_custom(a))
        return hst_same_bounds(a->bounds, a->n_bounds, b->bounds, b->n_bounds);
    return is_beyond(&a->positive, a->schema, a->zero_threshold) &&
           is_beyond(&a->negative, a->schema, a->zero_threshold);
}

/* ---- results ---------------------------------------------------------------------------------------- */

typedef struct values { /* of one side: a + sign * b, or a * factor */
    const hst_side *layout;
    const double *a, *b;
    double by; /* sign or factor */
} values;

static inline double
value_at(const values *v, uint32_t i)
{
    if (v->b != NULL)
        return v->a[i] + v->b[i] * v->by;
    return v->by == 1 ? v->a[i] : v->a[i] * v->by; /* 1 * NaN may have other bits */
}

/* Writes what is not empty; without memory it only counts. */
static void
put_values(const values *v, hst_out *out)
{
    const hst_side *l = v->layout;
    int32_t index = 0;
    uint32_t at = 0;
    for (uint32_t s = 0; s < l->n_spans; s++) {
        index += l->spans[s].offset;
        for (uint32_t k = 0; k < l->spans[s].length; k++)
            hst_put(out, index++, value_at(v, at++));
    }
}

static void
put_both(const void *self, hst_out *positive, hst_out *negative)
{
    const values *v = self;
    put_values(&v[0], positive);
    put_values(&v[1], negative);
}

static bool
spans_are_compact(const hst_side *side)
{
    for (uint32_t i = 0; i < side->n_spans; i++)
        if (side->spans[i].length == 0 || (i > 0 && side->spans[i].offset == 0))
            return false;
    return true;
}

/* The side as it is laid out, at *at; false if a bucket is empty. */
static bool
write_side(const values *v, char **at, hst_side *ret)
{
    const hst_side *l = v->layout;
    hst_span *spans = (hst_span *)*at;
    double *counts = (double *)(spans + l->n_spans);
    bool none_empty = true;
    if (l->n_spans > 0)
        memcpy(spans, l->spans, l->n_spans * sizeof *spans);
    for (uint32_t i = 0; i < l->n_counts; i++) {
        counts[i] = value_at(v, i);
        none_empty &= counts[i] != 0;
    }
    *ret = (hst_side){spans, l->n_spans, l->n_counts, counts};
    *at = (char *)(counts + l->n_counts);
    return none_empty;
}

static ps_status
build(ps_arena *arena, const hst_hist *like, const values v[2], const hst_hist **ret)
{
    const hst_side *p = v[0].layout, *n = v[1].layout;
    if (!spans_are_compact(p) || !spans_are_compact(n))
        return hst_build(arena, like, false, put_both, v, ret);
    size_t units = (size_t)p->n_spans + p->n_counts + n->n_spans + n->n_counts + like->n_bounds;
    hst_hist *h = ps_arena_new(arena, sizeof *h + 8 * units);
    if (h == NULL)
        return PS_ENOMEM;
    *h = *like;
    char *at = (char *)(h + 1);
    bool whole = write_side(&v[0], &at, &h->positive);
    whole &= write_side(&v[1], &at, &h->negative);
    if (!whole)
        return hst_build(arena, like, false, put_both, v, ret);
    h->bounds = NULL;
    if (h->n_bounds > 0)
        h->bounds = memcpy(at, like->bounds, sizeof(double) * h->n_bounds);
    *ret = h;
    return PS_OK;
}

ps_status
hst_sum_alike(ps_arena *arena, const hst_hist *like, const hst_hist *a, const hst_hist *b,
              double sign, const hst_hist **ret)
{
    hst_hist both = *like;
    both.zero_count = hst_is_custom(a) ? 0 : a->zero_count + sign * b->zero_count;
    const values v[2] = {{&a->positive, a->positive.counts, b->positive.counts, sign},
                         {&a->negative, a->negative.counts, b->negative.counts, sign}};
    return build(arena, &both, v, ret);
}

ps_status
hst_scale(ps_arena *arena, const hst_hist *like, const hst_hist *h, double by, const hst_hist **ret)
{
    const values v[2] = {{&h->positive, h->positive.counts, NULL, by},
                         {&h->negative, h->negative.counts, NULL, by}};
    return build(arena, like, v, ret);
}
