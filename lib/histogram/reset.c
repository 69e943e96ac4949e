/*
 * reset.c - was a counter reset between two histograms of a series?
 *
 * Everything that a counter histogram holds can only grow. So it was reset if anything is smaller, or
 * if its layout became finer: resolution and zero bucket are only ever made coarser without a reset.
 * The earlier histogram is looked at in the layout of the later one.
 */
#include "lib/histogram/internal.h"

static bool
side_decreased(hst_walk prev, hst_walk cur)
{
    int32_t ip = 0, ic = 0; /* set by a peek that succeeds */
    while (hst_peek(&prev, &ip)) {
        double before = hst_take_all(&prev, ip);
        while (hst_peek(&cur, &ic) && ic < ip)
            hst_take_all(&cur, ic);
        if (hst_peek(&cur, &ic) && ic == ip) {
            if (hst_take_all(&cur, ic) < before)
                return true;
        } else if (before != 0) {
            return true;
        }
    }
    return false;
}

/* Populations between two neighbours among the bounds that both have, one after the other. */
static bool
custom_decreased(const hst_hist *prev, const hst_hist *cur)
{
    hst_walk wp = hst_walk_of(&prev->positive, 0), wc = hst_walk_of(&cur->positive, 0);
    uint32_t p = 0, c = 0;
    while (p <= prev->n_bounds && c <= cur->n_bounds) {
        double bound_p = hst_bound(prev, (int32_t)p), bound_c = hst_bound(cur, (int32_t)c);
        if (bound_p != bound_c) {
            if (bound_c < bound_p)
                c++;
            else
                p++;
            continue;
        }
        double sum_p = 0, sum_c = 0;
        int32_t index;
        while (hst_peek(&wp, &index) && (uint32_t)index <= p)
            sum_p += hst_take(&wp);
        while (hst_peek(&wc, &index) && (uint32_t)index <= c)
            sum_c += hst_take(&wc);
        if (sum_c < sum_p)
            return true;
        p++, c++;
    }
    return false;
}

static bool
same_spans(const hst_side *a, const hst_side *b)
{
    return a->n_spans == b->n_spans && a->n_counts == b->n_counts &&
           memcmp(a->spans, b->spans, sizeof(hst_span) * a->n_spans) == 0;
}

static bool
any_less(const hst_side *cur, const hst_side *prev)
{
    bool less = false;
    for (uint32_t i = 0; i < cur->n_counts; i++)
        less |= cur->counts[i] < prev->counts[i];
    return less;
}

static bool
side_reset(const hst_side *prev, const hst_side *cur, int32_t shift, int32_t schema, double width)
{
    hst_walk wp = hst_walk_of(prev, shift), wc = hst_walk_of(cur, 0);
    if (schema != HST_CUSTOM && width != 0) {
        hst_skip_upto(&wp, schema, width);
        hst_skip_upto(&wc, schema, width);
    }
    /* Nothing left out and the same layout: the usual case. */
    if (shift == 0 && wp.left == prev->n_counts && wc.left == cur->n_counts && wp.left > 0 &&
        same_spans(prev, cur))
        return any_less(cur, prev);
    return side_decreased(wp, wc);
}

bool
hst_detect_reset(const hst_hist *prev, const hst_hist *cur)
{
    if (cur->hint == HST_RESET || cur->hint == HST_NOT_RESET)
        return cur->hint == HST_RESET;
    if (cur->count < prev->count)
        return true;
    if (hst_is_custom(cur)) {
        if (!hst_is_custom(prev))
            return true;
        if (!hst_same_bounds(cur->bounds, cur->n_bounds, prev->bounds, prev->n_bounds))
            return custom_decreased(prev, cur);
    } else {
        if (cur->schema > prev->schema || cur->zero_threshold < prev->zero_threshold)
            return true;
        double zero;
        if (hst_widen(prev, 1, cur->zero_threshold, &zero, NULL) != cur->zero_threshold)
            return true; /* the zero bucket ends in the middle of a populated one */
        if (cur->zero_count < zero)
            return true;
    }
    int32_t shift = prev->schema - cur->schema;
    return side_reset(&prev->positive, &cur->positive, shift, cur->schema, cur->zero_threshold) ||
           side_reset(&prev->negative, &cur->negative, shift, cur->schema, cur->zero_threshold);
}
