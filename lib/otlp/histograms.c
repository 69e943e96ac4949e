/*
 * histograms.c - data points that become native histograms: exponential ones, and, by setting, those with
 * bounds as custom buckets.
 *
 * Bucket i of OpenTelemetry is (base^i, base^(i+1)], bucket i of Prometheus (base^(i-1), base^i]: indexes
 * differ by one. A scale above 8 is brought down to 8 on the way, which adds up neighbours.
 */
#include <math.h>

#include "lib/otlp/internal.h"

enum { LARGEST_EXACT_BITS = 53 };
#define DEFAULT_ZERO_THRESHOLD 1e-128 /* what Prometheus takes when the sender says nothing */

typedef struct exponential {
    uint64_t count, zero_count;
    double sum, zero_threshold;
    int32_t scale;
    ps_str positive, negative;
} exponential;

static exponential
read_exponential(translation *t, ps_str message)
{
    pb_reader r = pb_reader_of(message, &t->bad);
    exponential p = {0};
    pb_field f;

    while (otlp_pb_next(&r, &f)) {
        if (otlp_pb_is(&r, &f, 4, PB_FIXED64))
            p.count = f.value;
        else if (otlp_pb_is(&r, &f, 5, PB_FIXED64))
            p.sum = ps_double_of(f.value);
        else if (otlp_pb_is(&r, &f, 6, PB_VARINT))
            p.scale = (int32_t)pb_zigzag(f.value);
        else if (otlp_pb_is(&r, &f, 7, PB_FIXED64))
            p.zero_count = f.value;
        else if (otlp_pb_is(&r, &f, 8, PB_BYTES))
            p.positive = f.bytes;
        else if (otlp_pb_is(&r, &f, 9, PB_BYTES))
            p.negative = f.bytes;
        else if (otlp_pb_is(&r, &f, 14, PB_FIXED64))
            p.zero_threshold = ps_double_of(f.value);
    }
    return p;
}

/* ---- buckets -------------------------------------------------------------------------------------- */

typedef struct dense { /* populations of consecutive buckets */
    int64_t first;
    const uint64_t *counts;
    size_t n;
} dense;

/* Without empty buckets at either end; the next lower `down` schemas. false: no such indexes. */
static ps_status
make_side(translation *t, dense d, int32_t down, int64_t shift, hst_side *ret, const char **ret_why)
{
    *ret = (hst_side){0};
    while (d.n > 0 && d.counts[d.n - 1] == 0)
        d.n--;
    for (; d.n > 0 && d.counts[0] == 0; d.first++, d.counts++)
        d.n--;
    if (d.n == 0)
        return PS_OK;
    /* beyond 31 all that is left is the sign */
    int32_t by = down < 31 ? down : 31;
    int64_t first = (d.first >> by) + shift, last = ((d.first + (int64_t)d.n - 1) >> by) + shift;
    if (first <= -HST_INDEX_MAX || last >= HST_INDEX_MAX) {
        *ret_why = "a histogram's buckets are beyond all numbers";
        return PS_OK;
    }
    uint32_t n = (uint32_t)(last - first + 1);
    double *counts = ps_arena_array(&t->point, n, sizeof *counts);
    hst_span *span = ps_arena_new(&t->point, sizeof *span);
    if (counts == NULL || span == NULL)
        return PS_ENOMEM;
    uint64_t all = 0;
    for (size_t i = 0; i < d.n; i++) {
        uint64_t c = d.counts[i];
        if (c >> LARGEST_EXACT_BITS != 0 || (all += c) >> LARGEST_EXACT_BITS != 0) {
            *ret_why = "a histogram's population is too large";
            return PS_OK;
        }
        counts[((d.first + (int64_t)i) >> by) + shift - first] += (double)c;
    }
    *span = (hst_span){.offset = (int32_t)first, .length = n};
    *ret = (hst_side){.spans = span, .n_spans = 1, .n_counts = n, .counts = counts};
    return PS_OK;
}

static ps_status
exponential_side(translation *t, ps_str message, int32_t down, hst_side *ret, const char **ret_why)
{
    pb_reader r = pb_reader_of(message, &t->bad);
    uint64_t *counts;
    dense d = {0};
    pb_field f;

    while (otlp_pb_next(&r, &f))
        if (otlp_pb_is(&r, &f, 1, PB_VARINT))
            d.first = (int32_t)pb_zigzag(f.value);
    PS_TRY(otlp_pb_numbers(message, 2, false, &t->bad, &t->point, &counts, &d.n));
    d.counts = counts;
    return make_side(t, d, down, 1, ret, ret_why);
}

/* ---- points --------------------------------------------------------------------------------------- */

static ps_status
write_histogram(translation *t, const point_head *head, hst_hist *h, ps_str point,
                uint32_t exemplars_field)
{
    label_set labels = head->labels;
    wire_exemplar *exemplars;
    size_t n_exemplars;
    hst_hist stale = {.integer = true};
    ps_err err;

    if (t->delta)
        h->hint = HST_GAUGE;
    if (head->stale) { /* its sum says it all */
        stale.schema = h->schema == HST_CUSTOM ? 0 : h->schema;
        stale.hint = h->hint;
        stale.sum = ps_double_of(MDL_STALE_NAN_BITS);
        h = &stale;
    }
    if (hst_check(h, &err) != PS_OK) {
        otlp_refuse(t, 1, err.text);
        return PS_OK;
    }
    PS_TRY(otlp_exemplars(t, point, exemplars_field, head->t_ms, &exemplars, &n_exemplars));
    PS_TRY(otlp_set(&labels, &t->point, PS_STR(MDL_METRIC_NAME), t->name));
    wire_histogram item = {.t_ms = head->t_ms, .start_ms = head->start_ms, .histogram = h};
    wire_v2_write(t->out, &(wire_v2_item){.labels = {labels.items, labels.n},
                                          .histograms = &item,
                                          .n_histograms = 1,
                                          .exemplars = exemplars,
                                          .n_exemplars = n_exemplars,
                                          .metadata = &t->metadata});
    return PS_OK;
}

ps_status
otlp_exponential_point(translation *t, ps_str message)
{
    point_head head;
    const char *why = NULL;

    if (!otlp_point_head(t, message, 1, 10, &head))
        return t->failed;
    exponential p = read_exponential(t, message);
    int32_t down = p.scale > HST_SCHEMA_MAX ? p.scale - HST_SCHEMA_MAX : 0;
    if (p.scale < HST_SCHEMA_MIN)
        why = "a histogram's scale is below -4";
    else if ((p.count | p.zero_count) >> LARGEST_EXACT_BITS != 0)
        why = "a histogram's population is too large";
    hst_hist h = {.schema = p.scale - down,
                  .integer = true,
                  .count = (double)p.count,
                  .sum = p.sum,
                  .zero_count = (double)p.zero_count,
                  .zero_threshold = p.zero_threshold > 0 && isfinite(p.zero_threshold)
                                        ? p.zero_threshold
                                        : DEFAULT_ZERO_THRESHOLD};
    if (why == NULL)
        PS_TRY(exponential_side(t, p.positive, down, &h.positive, &why));
    if (why == NULL)
        PS_TRY(exponential_side(t, p.negative, down, &h.negative, &why));
    if (t->bad != NULL)
        return PS_OK;
    if (why == NULL)
        return write_histogram(t, &head, &h, message, 11);
    otlp_refuse(t, 1, why);
    return PS_OK;
}

ps_status
otlp_custom_point(translation *t, ps_str message)
{
    pb_reader r = pb_reader_of(message, &t->bad);
    point_head head;
    hst_hist h = {.schema = HST_CUSTOM, .integer = true};
    uint64_t *counts, *bounds;
    size_t n_counts, n_bounds;
    const char *why = NULL;
    pb_field f;

    if (!otlp_point_head(t, message, 9, 10, &head))
        return t->failed;
    while (otlp_pb_next(&r, &f)) {
        if (otlp_pb_is(&r, &f, 4, PB_FIXED64)) {
            h.count = (double)f.value;
            if (f.value >> LARGEST_EXACT_BITS != 0)
                why = "a histogram's population is too large";
        } else if (otlp_pb_is(&r, &f, 5, PB_FIXED64)) {
            h.sum = ps_double_of(f.value);
        }
    }
    PS_TRY(otlp_pb_numbers(message, 6, true, &t->bad, &t->point, &counts, &n_counts));
    PS_TRY(otlp_pb_numbers(message, 7, true, &t->bad, &t->point, &bounds, &n_bounds));
    if (t->bad != NULL)
        return PS_OK;
    if (why == NULL)
        PS_TRY(make_side(t, (dense){0, counts, n_counts}, 0, 0, &h.positive, &why));
    double *upper = ps_arena_array(&t->point, n_bounds + 1, sizeof *upper);
    if (upper == NULL)
        return PS_ENOMEM;
    for (size_t i = 0; i < n_bounds; i++)
        upper[i] = ps_double_of(bounds[i]);
    h.bounds = upper;
    h.n_bounds = (uint32_t)n_bounds;
    if (why == NULL)
        return write_histogram(t, &head, &h, message, 8);
    otlp_refuse(t, 1, why);
    return PS_OK;
}
