/*
 * validate.c - may this histogram be stored? What comes from a sender passes here.
 *
 * hst_check() asks whether a histogram can be walked; this asks whether its populations make sense,
 * too, and says what is wrong in the words that senders know from Prometheus. The texts are constant,
 * so that an answer over thousands of histograms costs nothing.
 */
#include "lib/histogram/internal.h"

static const char *
validate_spans(const hst_side *side, bool first_may_be_negative)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < side->n_spans; i++) {
        if (side->spans[i].offset < 0 && !(i == 0 && first_may_be_negative))
            return "histogram has a span whose offset is negative";
        n += side->spans[i].length;
    }
    if (n != side->n_counts)
        return "histogram spans specify different number of buckets than provided";
    return NULL;
}

static const char *
validate_counts(const hst_side *side, double *total)
{
    for (uint32_t i = 0; i < side->n_counts; i++) {
        if (side->counts[i] < 0)
            return "histogram has a bucket whose observation count is negative";
        *total += side->counts[i];
    }
    return NULL;
}

static const char *
validate_bounds(const hst_hist *h)
{
    for (uint32_t i = 0; i < h->n_bounds; i++) {
        if (isnan(h->bounds[i]))
            return "histogram custom bounds must not be NaN";
        if (i > 0 && h->bounds[i] <= h->bounds[i - 1])
            return "histogram custom bounds must be in strictly increasing order";
    }
    if (h->n_bounds > 0 && h->bounds[h->n_bounds - 1] == HUGE_VAL)
        return "histogram custom bounds must be finite";
    return NULL;
}

static const char *
validate_custom(const hst_hist *h)
{
    const char *why = validate_bounds(h);
    if (why == NULL)
        why = validate_spans(&h->positive, false);
    if (why != NULL)
        return why;
    uint64_t reach = 0;
    for (uint32_t i = 0; i < h->positive.n_spans; i++)
        reach += (uint64_t)h->positive.spans[i].offset + h->positive.spans[i].length;
    if (reach > (uint64_t)h->n_bounds + 1)
        return "histogram custom bounds are too few";
    if (h->zero_count != 0)
        return "custom buckets: must have zero count of 0";
    if (h->zero_threshold != 0)
        return "custom buckets: must have zero threshold of 0";
    if (h->negative.n_spans > 0)
        return "custom buckets: must not have negative spans";
    if (h->negative.n_counts > 0)
        return "custom buckets: must not have negative buckets";
    return NULL;
}

static const char *
validate_exponential(const hst_hist *h)
{
    if (h->schema < HST_SCHEMA_MIN || h->schema > HST_SCHEMA_MAX)
        return "histogram has an invalid schema, which must be between -4 and 8 for exponential "
               "buckets, or -53 for custom buckets";
    const char *why = validate_spans(&h->positive, true);
    if (why == NULL)
        why = validate_spans(&h->negative, true);
    if (why == NULL && h->n_bounds > 0)
        why = "histogram with exponential schema must not have custom bounds";
    if (why == NULL && h->zero_count < 0)
        why = "histogram has a bucket whose observation count is negative";
    return why;
}

const char *
hst_validate(const hst_hist *h)
{
    const char *why = h->schema == HST_CUSTOM ? validate_custom(h) : validate_exponential(h);
    if (why != NULL)
        return why;
    double total = h->zero_count;
    if (h->count < 0)
        return "histogram's observation count is negative";
    why = validate_counts(&h->negative, &total);
    if (why == NULL)
        why = validate_counts(&h->positive, &total);
    if (why != NULL)
        return why;
    if (h->integer) {
        why = hst_validate_total((total > h->count) - (total < h->count), h->sum);
        if (why != NULL)
            return why;
    }
    if (hst_check(h, NULL) != PS_OK)
        return "histogram has buckets that are too far out, or a zero threshold that is no width";
    return NULL;
}

const char *
hst_validate_total(int order, double sum)
{
    /* Observations of NaN are counted, and fall into no bucket. */
    if (isnan(sum) && order > 0)
        return "histogram's observation count should be at least the number of observations found "
               "in the buckets";
    if (!isnan(sum) && order != 0)
        return "histogram's observation count should equal the number of observations found in the "
               "buckets (in absence of NaN)";
    return NULL;
}
