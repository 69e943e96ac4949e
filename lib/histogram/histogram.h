/*
 * histogram.h - native histograms: the value type and its arithmetic.
 *
 * A histogram is a count, a sum, a zero bucket and sparse buckets on either side, laid out by a schema:
 * exponential (-4..8: bound of bucket i is 2^(i * 2^-schema)) or custom bounds (HST_CUSTOM). This is
 * Prometheus's model (https://prometheus.io/docs/specs/native_histograms/), floats throughout, as
 * PromQL computes with them. Buckets are stored dense per span: spans say where, counts hold absolute
 * populations.
 *
 * A hst_hist is immutable once made and lies in one allocation of the arena that the maker was given;
 * it borrows nothing but, for custom bounds, possibly the bounds of its operands when they live at
 * least as long (makers say). Inputs may be hostile only to hst_check(): everything else expects a
 * checked histogram.
 */
#ifndef PROMSCALE_HISTOGRAM_H
#define PROMSCALE_HISTOGRAM_H

#include "lib/model/model.h"

enum { HST_SCHEMA_MIN = -4, HST_SCHEMA_MAX = 8, HST_CUSTOM = -53 };

typedef enum hst_hint { HST_UNKNOWN, HST_RESET, HST_NOT_RESET, HST_GAUGE } hst_hint;

typedef struct hst_span {
    int32_t
        offset; /* first: index of the first bucket; later: gap to the end of the one before, >= 0 */
    uint32_t length;
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
    const double *bounds; /* HST_CUSTOM: finite upper bounds, ascending; +Inf is implicit */
    uint32_t n_bounds;
} hst_hist;

/* What an operation wants to be told about; the caller words the annotation. */
typedef struct hst_notes {
    bool bounds_reconciled; /* custom bounds differed and were intersected */
    bool hint_collision;    /* reset met not_reset */
} hst_notes;

/* Structural check of what came from outside: spans, sizes, order of bounds, schema. PS_EINVAL. */
ps_status hst_check(const hst_hist *h, ps_err *err) PS_MUST_CHECK;
/* A deep copy. */
ps_status hst_copy(ps_arena *arena, const hst_hist *h, const hst_hist **ret) PS_MUST_CHECK;
/* Memory of it in bytes, and its weight in samples for limits: (176 + 8*(spans+buckets+bounds))/16. */
size_t hst_bytes(const hst_hist *h);
size_t hst_weight(const hst_hist *h);

bool hst_is_custom(const hst_hist *h);
bool hst_is_stale(const hst_hist *h); /* its sum is the staleness marker */

/*
 * Arithmetic. Results are compacted, in `arena`. PS_EINVAL: exponential with custom (the caller drops the
 * element and warns); PS_ENOMEM. Compensated sums are kept by those who add many: see hst_sum below.
 */
ps_status hst_add(ps_arena *arena, const hst_hist *a, const hst_hist *b, hst_notes *notes,
                  const hst_hist **ret) PS_MUST_CHECK;
ps_status hst_sub(ps_arena *arena, const hst_hist *a, const hst_hist *b, hst_notes *notes,
                  const hst_hist **ret) PS_MUST_CHECK;
ps_status hst_mul(ps_arena *arena, const hst_hist *h, double by,
                  const hst_hist **ret) PS_MUST_CHECK;
ps_status hst_div(ps_arena *arena, const hst_hist *h, double by,
                  const hst_hist **ret) PS_MUST_CHECK;
ps_status hst_with_hint(ps_arena *arena, const hst_hist *h, hst_hint hint,
                        const hst_hist **ret) PS_MUST_CHECK;
/* To a lower resolution (schema <= h's, exponential). */
ps_status hst_reduce(ps_arena *arena, const hst_hist *h, int32_t schema,
                     const hst_hist **ret) PS_MUST_CHECK;
ps_status hst_compact(ps_arena *arena, const hst_hist *h, const hst_hist **ret) PS_MUST_CHECK;
bool hst_equal(const hst_hist *a,
               const hst_hist *b); /* bitwise, after compaction; hints do not count */
/* Was there a counter reset between prev and cur (Prometheus's rules; hints decide where they are
 * explicit)? May need scratch memory. */
ps_status hst_detect_reset(ps_arena *scratch, const hst_hist *prev, const hst_hist *cur,
                           bool *ret) PS_MUST_CHECK;
/* h </ x (upper = true: keeps what is below) and h >/ x. */
ps_status hst_trim(ps_arena *arena, const hst_hist *h, double at, bool upper,
                   const hst_hist **ret) PS_MUST_CHECK;

/* Running sum with Kahan-Neumaier compensation of every bucket, for sum, avg, *_over_time. */
typedef struct hst_sum hst_sum;
ps_status hst_sum_new(ps_arena *arena, const hst_hist *first, hst_sum **ret) PS_MUST_CHECK;
ps_status hst_sum_add(hst_sum *s, const hst_hist *h, double factor, hst_notes *notes) PS_MUST_CHECK;
/* Multiplies what is summed so far (incremental means). */
ps_status hst_sum_scale(hst_sum *s, double by) PS_MUST_CHECK;
/* The sum with compensation applied; ready: also tells whether a plain field would be infinite. */
ps_status hst_sum_value(hst_sum *s, ps_arena *arena, const hst_hist **ret) PS_MUST_CHECK;

/* ---- reading -------------------------------------------------------------------------------------- */

typedef struct hst_bucket {
    double lower, upper, count;
    bool lower_in, upper_in;
    int32_t index;
} hst_bucket;
/* Walks buckets from the lowest value upward: negative side mirrored, zero bucket, positive side. */
typedef struct hst_iter {
    const hst_hist *h;
    uint32_t span, in_span, count;
    int32_t index;
    uint8_t phase;
    bool down;
} hst_iter;
void hst_iter_up(hst_iter *it, const hst_hist *h);
void hst_iter_down(hst_iter *it, const hst_hist *h);
bool hst_next(hst_iter *it, hst_bucket *ret);

typedef struct hst_quantile_notes {
    bool nan_observations; /* the result is NaN or skewed by them */
    bool result_is_nan;
} hst_quantile_notes;
double hst_quantile(const hst_hist *h, double q, hst_quantile_notes *notes);
double hst_fraction(const hst_hist *h, double lower, double upper, hst_quantile_notes *notes);
double hst_variance(const hst_hist *h);
/* "{count:5, sum:18.4, [-2,-1):1, ...}" */
void hst_format(ps_buf *out, const hst_hist *h);
/* The scripts' notation: what stands inside {{ }}. */
ps_status hst_parse(ps_arena *arena, ps_str s, const hst_hist **ret, bool *ret_has_hint,
                    ps_err *err) PS_MUST_CHECK;

#endif
