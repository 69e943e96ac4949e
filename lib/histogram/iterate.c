/*
 * iterate.c - all buckets in order of their values, up or down.
 *
 * Up: the negative side from its far end to zero, the zero bucket, the positive side outward. Down is
 * the mirror image. So one side is always walked backward first, the other forward.
 */
#include "lib/histogram/internal.h"

enum { BACKWARD, ZERO, FORWARD, END };

static void
begin(hst_iter *it, const hst_hist *h, const hst_side *backward, bool down)
{
    int32_t end = 0;
    for (uint32_t i = 0; i < backward->n_spans; i++)
        end += backward->spans[i].offset + (int32_t)backward->spans[i].length;
    *it = (hst_iter){.h = h,
                     .side = backward,
                     .span = backward->n_spans,
                     .at = backward->n_counts,
                     .index = end,
                     .phase = BACKWARD,
                     .down = down};
}

void
hst_iter_up(hst_iter *it, const hst_hist *h)
{
    begin(it, h, &h->negative, false);
}

void
hst_iter_down(hst_iter *it, const hst_hist *h)
{
    begin(it, h, &h->positive, true);
}

static void
fill(const hst_iter *it, int32_t index, double count, hst_bucket *b)
{
    const hst_hist *h = it->h;
    double outer = hst_bound(h, index), inner = hst_bound(h, index - 1);
    bool negative = it->side == &h->negative;
    *b = (hst_bucket){.lower = negative ? -outer : inner,
                      .upper = negative ? -inner : outer,
                      .count = count,
                      .index = index};
    if (h->schema == HST_CUSTOM) {
        b->lower_in = index == 0;
        b->upper_in = true;
        return;
    }
    b->lower_in = b->lower < 0;
    b->upper_in = b->upper > 0;
    if (b->upper < 0 && b->upper > -h->zero_threshold)
        b->upper = -h->zero_threshold;
    else if (b->lower > 0 && b->lower < h->zero_threshold)
        b->lower = h->zero_threshold;
}

static bool
next_backward(hst_iter *it, hst_bucket *ret)
{
    if (it->at == 0)
        return false;
    while (it->in_span == 0) {
        if (it->span < it->side->n_spans)
            it->index -= it->side->spans[it->span].offset;
        it->in_span = it->side->spans[--it->span].length;
    }
    it->in_span--;
    it->index--;
    fill(it, it->index, it->side->counts[--it->at], ret);
    return true;
}

static bool
next_forward(hst_iter *it, hst_bucket *ret)
{
    if (it->at == 0)
        return false;
    while (it->in_span == 0) {
        it->index += it->side->spans[it->span].offset;
        it->in_span = it->side->spans[it->span++].length;
    }
    it->in_span--;
    fill(it, it->index, it->side->counts[it->side->n_counts - it->at], ret);
    it->at--;
    it->index++;
    return true;
}

static void
turn(hst_iter *it)
{
    it->side = it->down ? &it->h->negative : &it->h->positive;
    it->span = it->in_span = 0;
    it->index = 0;
    it->at = it->side->n_counts;
}

bool
hst_next(hst_iter *it, hst_bucket *ret)
{
    if (it->phase == BACKWARD) {
        if (next_backward(it, ret))
            return true;
        it->phase = ZERO;
    }
    if (it->phase == ZERO) {
        it->phase = FORWARD;
        turn(it);
        if (it->h->zero_count > 0) {
            *ret = (hst_bucket){.lower = -it->h->zero_threshold,
                                .upper = it->h->zero_threshold,
                                .count = it->h->zero_count,
                                .lower_in = true,
                                .upper_in = true};
            return true;
        }
    }
    if (it->phase == FORWARD) {
        if (next_forward(it, ret))
            return true;
        it->phase = END;
    }
    return false;
}
