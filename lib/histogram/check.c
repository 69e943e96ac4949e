/*
 * check.c - is this a histogram? What everything else in this folder relies on.
 *
 * After the check every walk stays inside of its arrays, indexes never overflow, and comparisons of
 * bounds and thresholds end (no NaN among them). Populations are not looked at: the result of a query
 * may have any.
 */
#include "lib/histogram/internal.h"

static ps_status
check_side(const hst_side *side, const char *name, ps_err *err)
{
    int64_t index = 0;
    uint64_t n = 0;
    for (uint32_t i = 0; i < side->n_spans; i++) {
        const hst_span *span = &side->spans[i];
        if (i > 0 && span->offset < 0)
            return ps_fail(err, PS_EINVAL, "%s span %u has the negative offset %d", name, i + 1,
                           (int)span->offset);
        index += span->offset;
        if (index < -HST_INDEX_MAX)
            return ps_fail(err, PS_EINVAL, "%s buckets begin too far out", name);
        index += span->length;
        n += span->length;
        if (index > HST_INDEX_MAX)
            return ps_fail(err, PS_EINVAL, "%s buckets end too far out", name);
    }
    if (n != side->n_counts)
        return ps_fail(err, PS_EINVAL, "%s spans need %llu buckets, there are %u", name,
                       (unsigned long long)n, side->n_counts);
    return PS_OK;
}

static ps_status
check_custom(const hst_hist *h, ps_err *err)
{
    for (uint32_t i = 0; i < h->n_bounds; i++) {
        if (isnan(h->bounds[i]) || h->bounds[i] == HUGE_VAL)
            return ps_fail(err, PS_EINVAL, "custom bound %u is not finite", i + 1);
        if (i > 0 && h->bounds[i] <= h->bounds[i - 1])
            return ps_fail(err, PS_EINVAL, "custom bounds do not ascend at %u", i + 1);
    }
    /* NaN is what comes of dividing the population of 0 by 0; everyone takes it for 0. */
    if ((h->zero_count != 0 && !isnan(h->zero_count)) || h->zero_threshold != 0)
        return ps_fail(err, PS_EINVAL, "custom buckets have no zero bucket");
    if (h->negative.n_counts != 0 || h->negative.n_spans != 0)
        return ps_fail(err, PS_EINVAL, "custom buckets have no negative side");
    int64_t end = 0;
    for (uint32_t i = 0; i < h->positive.n_spans; i++) {
        if (i == 0 && h->positive.spans[0].offset < 0)
            return ps_fail(err, PS_EINVAL, "custom buckets begin below the first bound");
        end += (int64_t)h->positive.spans[i].offset + h->positive.spans[i].length;
    }
    if (end > (int64_t)h->n_bounds + 1)
        return ps_fail(err, PS_EINVAL, "%u custom bounds do not reach for the buckets",
                       h->n_bounds);
    return PS_OK;
}

ps_status
hst_check(const hst_hist *h, ps_err *err)
{
    if (h->hint > HST_GAUGE)
        return ps_fail(err, PS_EINVAL, "unknown counter reset hint");
    if (isnan(h->zero_threshold) || isinf(h->zero_threshold) || h->zero_threshold < 0)
        return ps_fail(err, PS_EINVAL, "the zero threshold is not a width");
    if (h->n_bounds > HST_INDEX_MAX)
        return ps_fail(err, PS_EINVAL, "too many custom bounds");
    PS_TRY(check_side(&h->positive, "positive", err));
    PS_TRY(check_side(&h->negative, "negative", err));
    if (h->schema == HST_CUSTOM)
        return check_custom(h, err);
    if (h->schema < HST_SCHEMA_MIN || h->schema > HST_SCHEMA_MAX)
        return ps_fail(err, PS_EINVAL, "unknown schema %d", (int)h->schema);
    if (h->n_bounds != 0)
        return ps_fail(err, PS_EINVAL, "custom bounds with an exponential schema");
    return PS_OK;
}

static size_t
parts(const hst_hist *h)
{
    return (size_t)h->positive.n_spans + h->positive.n_counts + h->negative.n_spans +
           h->negative.n_counts + h->n_bounds;
}

size_t
hst_bytes(const hst_hist *h)
{
    return sizeof *h + 8 * parts(h);
}

size_t
hst_weight(const hst_hist *h)
{
    return (176 + 8 * parts(h)) / 16;
}

bool
hst_is_custom(const hst_hist *h)
{
    return h->schema == HST_CUSTOM;
}

bool
hst_is_stale(const hst_hist *h)
{
    return ps_bits_of(h->sum) == MDL_STALE_NAN_BITS;
}
