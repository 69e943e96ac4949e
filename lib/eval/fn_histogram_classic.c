/*
 * fn_histogram_classic.c - quantiles and fractions of one classic histogram at one step.
 *
 * Buckets are cumulative: each counts all observations up to its bound, the last one, +Inf, counts
 * all. Inside a bucket observations are taken as spread evenly; the first begins at 0 if its bound is
 * above that.
 */
#include <float.h>
#include <math.h>

#include "lib/eval/fn_histogram.h"

/* Differences between counts that are this small, relatively, come from rounding. */
static const double tolerance = 1e-12;

static size_t
merge_equal(ev_bucket *b, size_t n)
{
    size_t last = 0;
    for (size_t i = 1; i < n; i++) {
        if (b[i].bound == b[last].bound)
            b[last].count += b[i].count;
        else
            b[++last] = b[i];
    }
    return last + 1;
}

static bool
almost_equal(double a, double b)
{
    if (ps_bits_of(a) == MDL_STALE_NAN_BITS || ps_bits_of(b) == MDL_STALE_NAN_BITS)
        return ps_bits_of(a) == ps_bits_of(b);
    if (isnan(a) && isnan(b))
        return true;
    double sum = fabs(a) + fabs(b), diff = fabs(a - b);
    if (a == 0 || b == 0 || sum < DBL_MIN)
        return diff < tolerance * DBL_MIN;
    return diff / (sum < DBL_MAX ? sum : DBL_MAX) < tolerance;
}

/* No count is below the one before it; those that were are told about unless it was rounding. */
static void
make_monotonic(ev_bucket *b, size_t n, ev_forced *ret)
{
    double before = b[0].count;
    *ret = (ev_forced){false, HUGE_VAL, -HUGE_VAL, 0};
    for (size_t i = 1; i < n; i++) {
        double count = b[i].count;
        if (count == before)
            continue;
        if (almost_equal(before, count)) {
            b[i].count = before;
            continue;
        }
        if (!(count < before)) {
            before = count;
            continue;
        }
        b[i].count = before;
        ret->forced = true;
        if (b[i].bound < ret->from_bucket)
            ret->from_bucket = b[i].bound;
        if (b[i].bound > ret->to_bucket)
            ret->to_bucket = b[i].bound;
        if (before - count > ret->max_diff)
            ret->max_diff = before - count;
    }
}

/* The first of b[0 .. n) whose count reaches rank, or n. */
static size_t
find_rank(const ev_bucket *b, size_t n, double rank)
{
    size_t from = 0, to = n;
    while (from < to) {
        size_t middle = from + (to - from) / 2;
        if (b[middle].count >= rank)
            to = middle;
        else
            from = middle + 1;
    }
    return from;
}

double
ev_classic_quantile(double q, ev_bucket *b, size_t n, ev_forced *ret)
{
    *ret = (ev_forced){0};
    if (isnan(q))
        return NAN;
    if (q < 0 || q > 1)
        return q < 0 ? -HUGE_VAL : HUGE_VAL;
    if (b[n - 1].bound != HUGE_VAL)
        return NAN;
    n = merge_equal(b, n);
    make_monotonic(b, n, ret);
    if (n < 2 || b[n - 1].count == 0)
        return NAN;
    double rank = q * b[n - 1].count;
    size_t i = find_rank(b, n - 1, rank);
    if (i == n - 1)
        return b[n - 2].bound;
    if (i == 0 && b[0].bound <= 0)
        return b[0].bound;
    double start = 0, count = b[i].count;
    if (i > 0) {
        start = b[i - 1].bound;
        count -= b[i - 1].count;
        rank -= b[i - 1].count;
    }
    return start + (b[i].bound - start) * (rank / count);
}

typedef struct edge { /* how many observations lie below a value */
    double value, rank;
    bool set;
} edge;

static void
find_edge(edge *e, double lower, const ev_bucket *b, double below)
{
    if (e->set)
        return;
    if (lower >= e->value) {
        e->rank = below;
        e->set = true;
    } else if (b->bound > e->value) {
        /* No telling where in a bucket without lower bound they are. */
        e->rank = lower == -HUGE_VAL
                      ? b->count
                      : below + (b->count - below) * (e->value - lower) / (b->bound - lower);
        e->set = true;
    }
}

double
ev_classic_fraction(double lower, double upper, ev_bucket *b, size_t n)
{
    if (b[n - 1].bound != HUGE_VAL)
        return NAN;
    n = merge_equal(b, n);
    double count = b[n - 1].count, below = 0, start = b[0].bound <= 0 ? -HUGE_VAL : 0;
    if (count == 0 || isnan(lower) || isnan(upper))
        return NAN;
    if (lower >= upper)
        return 0;
    edge low = {.value = lower}, high = {.value = upper};
    for (size_t i = 0; i < n && !(low.set && high.set); i++) {
        find_edge(&low, start, &b[i], below);
        find_edge(&high, start, &b[i], below);
        below = b[i].count;
        start = b[i].bound;
    }
    if (!low.set || low.rank > count)
        low.rank = count;
    if (!high.set || high.rank > count)
        high.rank = count;
    return (high.rank - low.rank) / count;
}
