/*
 * quantile.c - quantiles, fractions and the variance of what a histogram counted.
 *
 * Inside a bucket of an exponential schema observations are taken as spread evenly over the logarithm
 * of their values; in the zero bucket and in custom ones over the values. The zero bucket begins or
 * ends at 0 if only one side has buckets. Observations of NaN are in the count but in no bucket.
 */
#include "lib/histogram/internal.h"

/* The zero bucket of a histogram with one side only. */
static void
cut_zero_bucket(const hst_hist *h, hst_bucket *b)
{
    if (h->negative.n_counts == 0 && h->positive.n_counts > 0)
        b->lower = 0;
    else if (h->positive.n_counts == 0 && h->negative.n_counts > 0)
        b->upper = 0;
}

/* Where in b the part `fraction` of its observations ends. */
static double
inside(const hst_hist *h, const hst_bucket *b, double fraction)
{
    if (hst_is_custom(h) || (b->lower <= 0 && b->upper >= 0))
        return b->lower + (b->upper - b->lower) * fraction;
    double lower = log2(fabs(b->lower)), upper = log2(fabs(b->upper));
    if (b->lower > 0)
        return exp2(lower + (upper - lower) * fraction);
    return -exp2(upper + (lower - upper) * (1 - fraction));
}

/* Are there observations that no bucket counts? `count`: those counted so far; *b: the last bucket. */
static bool
misses_some(const hst_hist *h, hst_iter *it, double count, hst_bucket *b)
{
    while (hst_next(it, b))
        count += b->count;
    return count < h->count;
}

double
hst_quantile(const hst_hist *h, double q, hst_quantile_notes *notes)
{
    if (q < 0 || q > 1)
        return q < 0 ? -HUGE_VAL : HUGE_VAL;
    if (h->count == 0 || isnan(q))
        return NAN;
    hst_iter it;
    hst_bucket b = {0};
    bool up = isnan(h->sum) || q < 0.5;
    double rank = up ? q * h->count : (1 - q) * h->count, count = 0;
    if (up)
        hst_iter_up(&it, h);
    else
        hst_iter_down(&it, h);
    while (hst_next(&it, &b)) {
        count += b.count;
        if (b.count != 0 && count >= rank)
            break;
    }
    if (hst_is_custom(h)) {
        if (b.lower == -HUGE_VAL) {
            if (b.upper <= 0)
                return b.upper;
            b.lower = 0;
        } else if (b.upper == HUGE_VAL) {
            return b.lower;
        }
    } else if (b.lower < 0 && b.upper > 0) {
        cut_zero_bucket(h, &b);
    }
    if (count > h->count) /* rounding */
        count = h->count;
    if (count < rank) {
        if (!isnan(h->sum))
            return b.upper;
        notes->result_is_nan = true;
        return NAN;
    }
    double into = up ? rank - (count - b.count) : count - rank;
    /* Prometheus looks for such observations with the same variable, and so goes on with the bounds and
     * the population of the last bucket instead of those of the one that was found. Results that people
     * compare have to be the same. */
    if (isnan(h->sum) && misses_some(h, &it, count, &b))
        notes->skewed = true;
    return inside(h, &b, into / b.count);
}

typedef struct edge { /* how many observations lie below a value */
    double value, rank;
    bool set;
} edge;

/* b begins where `rank` observations lie below it. */
static void
find_edge(edge *e, const hst_bucket *b, double rank, bool linear)
{
    if (e->set)
        return;
    if (b->lower >= e->value) {
        e->rank = rank;
        e->set = true;
    } else if (b->upper > e->value) {
        /* No telling where in a bucket without lower bound: none of it lies below. */
        bool open = linear && b->lower == -HUGE_VAL;
        e->rank = open ? b->count : rank + b->count * hst_part_below(b, e->value, linear);
        e->set = true;
    }
}

double
hst_fraction(const hst_hist *h, double lower, double upper, hst_quantile_notes *notes)
{
    if (h->count == 0 || isnan(lower) || isnan(upper))
        return NAN;
    if (lower >= upper)
        return 0;
    edge low = {.value = lower}, high = {.value = upper};
    double count = 0, rank = 0;
    hst_iter it;
    hst_bucket b;
    hst_iter_up(&it, h);
    while (!(low.set && high.set) && hst_next(&it, &b)) {
        count += b.count;
        bool zero = b.lower <= 0 && b.upper >= 0;
        if (zero)
            cut_zero_bucket(h, &b);
        find_edge(&low, &b, rank, zero || hst_is_custom(h));
        find_edge(&high, &b, rank, zero || hst_is_custom(h));
        rank += b.count;
    }
    if (isnan(h->sum)) {
        while (hst_next(&it, &b))
            count += b.count;
        if (count < h->count)
            notes->excluded = true;
    } else {
        count = h->count;
    }
    if (!low.set || low.rank > count)
        low.rank = count;
    if (!high.set || high.rank > count)
        high.rank = count;
    return (high.rank - low.rank) / h->count;
}

double
hst_variance(const hst_hist *h)
{
    double mean = h->sum / h->count, sum = 0, lost = 0;
    hst_iter it;
    hst_bucket b;
    hst_iter_up(&it, h);
    while (hst_next(&it, &b)) {
        if (b.count == 0)
            continue;
        double v;
        if (hst_is_custom(h)) {
            v = (b.upper + b.lower) / 2;
        } else if (b.lower <= 0 && b.upper >= 0) {
            v = 0;
        } else {
            v = sqrt(b.upper * b.lower);
            if (b.upper < 0)
                v = -v;
        }
        hst_kahan(b.count * (v - mean) * (v - mean), &sum, &lost);
    }
    return (sum + lost) / h->count;
}
