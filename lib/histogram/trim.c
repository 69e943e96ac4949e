/*
 * trim.c - h </ x and h >/ x: what of a histogram lies below or above a value.
 *
 * Buckets on the wrong side become empty, the one that holds the value is divided. Only if anything
 * was cut, count and sum are made anew: the count from the buckets, the sum from their middles. How a
 * bucket without a bound is divided follows Prometheus's rules: as nobody knows where its observations
 * are, all go or all stay, except that one from -Inf to a positive bound counts as beginning at 0.
 */
#include "lib/histogram/internal.h"

typedef struct part { /* what stays of a bucket, and around which value */
    double count, middle;
} part;

typedef struct trim {
    const hst_hist *h;
    double at;
    bool upper; /* keep what is below */
    bool cut;
    double count, sum;
    bool has_positive, has_negative;
} trim;

static double
finite_or_zero(double v)
{
    return isinf(v) ? 0 : v;
}

static double
middle(double lower, double upper, bool positive, bool linear)
{
    if (isinf(lower)) {
        if (isinf(upper))
            return 0;
        return upper > 0 ? upper / 2 : upper;
    }
    if (isinf(upper))
        return lower;
    if (linear)
        return (lower + upper) / 2;
    double v = sqrt(fabs(lower * upper));
    return positive ? v : -v;
}

/* A bucket from -Inf. */
static part
open_below(const trim *t, const hst_bucket *b)
{
    bool from_zero = b->upper > 0 && !isinf(b->upper);
    if (t->upper) {
        if (t->at >= b->upper)
            return (part){b->count, 0};
        if (t->at > 0 && from_zero)
            return (part){b->count * t->at / b->upper, t->at / 2};
        if (b->upper <= 0)
            return (part){b->count, t->at};
        return (part){0, finite_or_zero(b->upper)};
    }
    if (t->at <= b->lower)
        return (part){b->count, 0};
    if (t->at >= 0 && b->upper > t->at && from_zero)
        return (part){b->count * (1 - t->at / b->upper), (t->at + b->upper) / 2};
    return (part){0, finite_or_zero(b->upper)};
}

/* A bucket up to +Inf. */
static part
open_above(const trim *t, const hst_bucket *b)
{
    if (!t->upper && t->at >= b->lower)
        return (part){b->count, t->at};
    return (part){0, finite_or_zero(b->lower)};
}

/* The bucket that holds the value. */
static part
divide(const trim *t, const hst_bucket *b, bool positive)
{
    bool linear = hst_is_custom(t->h);
    if (b->lower == -HUGE_VAL)
        return open_below(t, b);
    if (b->upper == HUGE_VAL)
        return open_above(t, b);
    double below = b->count * hst_part_below(b, t->at, linear);
    if (t->upper)
        return (part){below, middle(b->lower, t->at, positive, linear)};
    return (part){b->count - below, middle(t->at, b->upper, positive, linear)};
}

static double
trim_bucket(trim *t, const hst_bucket *b, bool positive)
{
    bool whole = t->upper ? b->upper <= t->at : b->lower >= t->at;
    bool some = t->upper ? b->lower < t->at : b->upper > t->at;
    part p = {0, 0};
    if (whole)
        p = (part){b->count, middle(b->lower, b->upper, positive, hst_is_custom(t->h))};
    else if (some)
        p = divide(t, b, positive);
    if (whole || some) {
        t->count += p.count;
        t->sum += p.middle * p.count;
    }
    if (!whole && (!some || p.count != b->count))
        t->cut = true;
    return p.count;
}

static void
trim_side(trim *t, const hst_side *side, bool positive, hst_out *out, bool *ret_any)
{
    hst_walk w = hst_walk_of(side, 0);
    int32_t index;
    while (hst_peek(&w, &index)) {
        double count = hst_take(&w);
        if (count == 0)
            continue;
        *ret_any = true;
        double outer = hst_bound(t->h, index), inner = hst_bound(t->h, index - 1);
        hst_bucket b = {.lower = positive ? inner : -outer,
                        .upper = positive ? outer : -inner,
                        .count = count};
        hst_put(out, index, trim_bucket(t, &b, positive));
    }
}

static part
trim_zero(const trim *t)
{
    double lower = -t->h->zero_threshold, upper = t->h->zero_threshold, all = t->h->zero_count;
    if (t->has_negative && !t->has_positive)
        upper = 0;
    if (t->has_positive && !t->has_negative)
        lower = 0;
    if (t->upper ? t->at <= lower : t->at >= upper && t->at > lower)
        return (part){0, 0};
    if (t->upper ? t->at >= upper : t->at <= lower)
        return (part){all, (lower + upper) / 2};
    if (t->upper)
        return (part){all * ((t->at - lower) / (upper - lower)), (lower + t->at) / 2};
    return (part){all * ((upper - t->at) / (upper - lower)), (t->at + upper) / 2};
}

static void
fill_trimmed(const void *self, hst_out *positive, hst_out *negative)
{
    trim t = *(const trim *)self;
    trim_side(&t, &t.h->positive, true, positive, &t.has_positive);
    trim_side(&t, &t.h->negative, false, negative, &t.has_negative);
}

ps_status
hst_trim(ps_arena *arena, const hst_hist *h, double at, bool upper, const hst_hist **ret)
{
    trim t = {.h = h, .at = at, .upper = upper};
    hst_out none = {0}, none_either = {0};
    trim_side(&t, &h->positive, true, &none, &t.has_positive);
    trim_side(&t, &h->negative, false, &none_either, &t.has_negative);
    hst_hist like = *h;
    if (h->zero_count > 0) {
        part p = trim_zero(&t);
        t.cut |= p.count != h->zero_count;
        t.sum += p.middle * p.count;
        t.count += p.count;
        like.zero_count = p.count;
    }
    if (!t.cut) {
        *ret = h;
        return PS_OK;
    }
    like.count = t.count;
    like.sum = t.sum;
    return hst_build(arena, &like, false, fill_trimmed, &t, ret);
}
