/*
 * fn_histogram.h - classic histograms: cumulative buckets that are series of their own, told apart by
 * their label le. For the fn_histogram*.c files.
 */
#ifndef PROMSCALE_EVAL_FN_HISTOGRAM_H
#define PROMSCALE_EVAL_FN_HISTOGRAM_H

#include "lib/eval/internal.h"

typedef struct ev_bucket {
    double bound; /* upper, inclusive; not NaN */
    double count; /* of all observations up to there */
} ev_bucket;

/* What had to be changed so that counts do not decrease. */
typedef struct ev_forced {
    bool forced;
    double from_bucket, to_bucket, max_diff;
} ev_forced;

/* Both take n >= 1 buckets ascending by bound (equal ones are added up) and change them. */
double ev_classic_quantile(double q, ev_bucket *buckets, size_t n, ev_forced *ret);
double ev_classic_fraction(double lower, double upper, ev_bucket *buckets, size_t n);

#endif
