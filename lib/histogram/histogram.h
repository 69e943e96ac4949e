/*
 * histogram.h - native histograms: the value type and its arithmetic.
 *
 * A histogram is a count, a sum, a zero bucket and sparse buckets on either side, laid out by a
 * schema: exponential (-4..8: bound of bucket i is 2^(i * 2^-schema)) or custom bounds (HST_CUSTOM).
 * This is Prometheus's model (https://prometheus.io/docs/specs/native_histograms/), floats
 * throughout, as PromQL computes with them. Spans say which buckets there are, counts hold their
 * absolute populations, dense.
 *
 * A hst_hist is immutable once made and lies in one allocation of the arena that the maker was given;
 * it borrows nothing, except where a maker says so. Inputs may be hostile only to hst_check():
 * everything else expects a checked histogram. Populations may be anything, also negative or NaN.
 */
#ifndef PROMSCALE_HISTOGRAM_H
#define PROMSCALE_HISTOGRAM_H

#include "lib/model/model.h"

enum { HST_SCHEMA_MIN = -4, HST_SCHEMA_MAX = 8, HST_CUSTOM = -53 };
/* Buckets lie within these indexes, so that sums and differences of two fit in 32 bits. */
enum { HST_INDEX_MAX = 1 << 29 };

typedef enum hst_hint { HST_UNKNOWN, HST_RESET, HST_NOT_RESET, HST_GAUGE } hst_hint;

typedef struct hst_span {
    int32_t offset;  /* first: index of its first bucket; later: gap to the span before, >= 0 */
    uint32_t length; /* may be 0 */
} hst_span;

typedef struct hst_side { /* positive or negative buckets */
    const hst_span *spans;
    uint32_t n_spans;
    uint32_t n_counts; /* sum of the lengths */
    const double *counts;
} hst_side;

typedef struct hst_hist {
    int32_t schema;
    hst_hint hint;
    double count, sum;
    double zero_threshold, zero_count;
    hst_side positive, negative;
    const double *bounds; /* HST_CUSTOM: upper bounds, ascending; +Inf is implicit */
    uint32_t n_bounds;
    bool integer; /* came as integers; copies keep it, arithmetic need not, comparison ignores it */
} hst_hist;

/* What an operation wants to be told about; the caller words the annotation. Flags are only set,
 * never cleared: begin with {0}. */
typedef struct hst_notes {
    bool bounds_reconciled; /* custom bounds differed and were intersected */
    bool hint_collision;    /* reset met not_reset */
} hst_notes;

/* Structural check of what came from outside: spans, sizes, order of bounds, schema. PS_EINVAL. */
ps_status hst_check(const hst_hist *h, ps_err *err) PS_MUST_CHECK;
/*
 * hst_check and whether its populations make sense, for what a sender wants to have stored: NULL, or
 * what is wrong with it (constant text). Of `integer` ones the buckets must add up to the count. The
 * second is only that, where counts are known better than doubles hold them: order is < 0, 0 or > 0
 * as the buckets' total against the count.
 */
const char *hst_validate(const hst_hist *h);
const char *hst_validate_total(int order, double sum);
/* A deep copy. */
ps_status hst_copy(ps_arena *arena, const hst_hist *h, const hst_hist **ret) PS_MUST_CHECK;
/* Memory of it in bytes, and its weight in samples for limits: (176 + 8*(spans+buckets+bounds))/16. */
size_t hst_bytes(const hst_hist *h);
size_t hst_weight(const hst_hist *h);

bool hst_is_custom(const hst_hist *h);
bool hst_is_stale(const hst_hist *h); /* its sum is the staleness marker */

/* ---- arithmetic ----------------------------------------------------------------------------------- */

/*
 * Results are compacted, in `arena`. PS_EINVAL: exponential with custom (the caller drops the element
 * and warns); PS_ENOMEM. notes may be NULL.
 *
 * The hint of a sum or a difference follows from both: equal ones stay, gauge wins, then unknown;
 * reset with not_reset is a collision and gives unknown. (The operator "-" and rate() make a gauge of
 * what they return: hst_with_hint.) A negative factor makes a gauge; h / 0 has no buckets.
 */
ps_status hst_add(ps_arena *arena, const hst_hist *a, const hst_hist *b, hst_notes *notes,
                  const hst_hist **ret) PS_MUST_CHECK;
ps_status hst_sub(ps_arena *arena, const hst_hist *a, const hst_hist *b, hst_notes *notes,
                  const hst_hist **ret) PS_MUST_CHECK;
ps_status hst_mul(ps_arena *arena, const hst_hist *h, double by,
                  const hst_hist **ret) PS_MUST_CHECK;
ps_status hst_div(ps_arena *arena, const hst_hist *h, double by,
                  const hst_hist **ret) PS_MUST_CHECK;
/* The same with another hint. Borrows h's buckets: h must live as long. h itself if it has the hint. */
ps_status hst_with_hint(ps_arena *arena, const hst_hist *h, hst_hint hint,
                        const hst_hist **ret) PS_MUST_CHECK;
/* To a lower resolution (schema <= h's; exponential). h itself if there is nothing to do. */
ps_status hst_reduce(ps_arena *arena, const hst_hist *h, int32_t schema,
                     const hst_hist **ret) PS_MUST_CHECK;
/* Without empty buckets and with the fewest spans. h itself if there is nothing to do. */
ps_status hst_compact(ps_arena *arena, const hst_hist *h, const hst_hist **ret) PS_MUST_CHECK;
/* Same bits (also of NaN) in the same buckets; an empty bucket is one that is not there; hints do not
 * count. */
bool hst_equal(const hst_hist *a, const hst_hist *b);
/* Was there a counter reset between prev and cur? cur's hint decides where it is reset or not_reset,
 * else all that may only grow is compared. */
bool hst_detect_reset(const hst_hist *prev, const hst_hist *cur);
/* h </ at (upper = true: keeps what is below) and h >/ at. h itself if nothing is cut. */
ps_status hst_trim(ps_arena *arena, const hst_hist *h, double at, bool upper,
                   const hst_hist **ret) PS_MUST_CHECK;

/*
 * Sums and means of many histograms, every bucket with Kahan-Neumaier compensation: for sum, avg and
 * the *_over_time functions. A mean is the sum divided by how many there were, until the sum would
 * overflow; from there on it is taken incrementally. An accumulator is used for one of the two.
 *
 * notes->hint_collision says that both reset and not_reset were seen so far. After PS_EINVAL (kinds
 * mixed) or PS_ENOMEM an accumulator may only be reset.
 */
typedef struct hst_sum hst_sum;
ps_status hst_sum_new(ps_arena *arena, const hst_hist *first, hst_sum **ret) PS_MUST_CHECK;
/* Begins anew, using the memory again. */
ps_status hst_sum_reset(hst_sum *s, const hst_hist *first) PS_MUST_CHECK;
ps_status hst_sum_add(hst_sum *s, const hst_hist *h, hst_notes *notes) PS_MUST_CHECK;
ps_status hst_sum_value(const hst_sum *s, ps_arena *arena, const hst_hist **ret) PS_MUST_CHECK;
ps_status hst_mean_add(hst_sum *s, const hst_hist *h, hst_notes *notes) PS_MUST_CHECK;
ps_status hst_mean_value(const hst_sum *s, ps_arena *arena, const hst_hist **ret) PS_MUST_CHECK;

/* ---- reading -------------------------------------------------------------------------------------- */

typedef struct hst_bucket {
    double lower, upper, count;
    bool lower_in, upper_in;
    int32_t index; /* 0 for the zero bucket */
} hst_bucket;
/*
 * Walks buckets from the lowest value upward (negative side mirrored, zero bucket if its population is
 * positive, positive side), or the other way. Empty buckets that are there are walked, too. Buckets
 * that overlap with the zero bucket are cut where it begins.
 */
typedef struct hst_iter {
    const hst_hist *h;
    const hst_side *side;
    uint32_t span, in_span; /* current span; buckets in it that are still to come */
    uint32_t at;            /* counts to come on this side */
    int32_t index;
    uint8_t phase;
    bool down;
} hst_iter;
void hst_iter_up(hst_iter *it, const hst_hist *h);
void hst_iter_down(hst_iter *it, const hst_hist *h);
bool hst_next(hst_iter *it, hst_bucket *ret);
/* Upper bound of bucket `index` of the positive side, for -1 <= index <= n_bounds if custom. */
double hst_bound(const hst_hist *h, int32_t index);

typedef struct hst_quantile_notes { /* about observations of NaN; flags are only set */
    bool result_is_nan;             /* quantile: it falls among them */
    bool skewed;                    /* quantile: they make it too high */
    bool excluded;                  /* fraction: they count in none */
} hst_quantile_notes;
double hst_quantile(const hst_hist *h, double q, hst_quantile_notes *notes);
double hst_fraction(const hst_hist *h, double lower, double upper, hst_quantile_notes *notes);
double hst_variance(const hst_hist *h);

/* "{count:5, sum:18.4, [-2,-1):1, [-0.001,0.001]:2, (0.5,1]:3}" */
void hst_format(ps_buf *out, const hst_hist *h);
/*
 * The notation of test scripts, what stands inside {{ }}: "schema:1 count:5 sum:18.4 buckets:[2 3]
 * offset:-1 n_buckets:[1] z_bucket:1 z_bucket_w:0.001 custom_values:[1 2] counter_reset_hint:gauge".
 * The result is checked, not compacted.
 */
ps_status hst_parse(ps_arena *arena, ps_str s, const hst_hist **ret, bool *ret_has_hint,
                    ps_err *err) PS_MUST_CHECK;
/* The inverse: appends what hst_parse() reads to an equal histogram with the same hint (of NaNs there is
 * one; `integer` is not told). PS_ELIMIT: with its gaps a side would have more than max_buckets. */
ps_status hst_spell(ps_buf *out, const hst_hist *h, uint64_t max_buckets) PS_MUST_CHECK;

#endif
