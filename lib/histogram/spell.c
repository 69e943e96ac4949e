/*
 * spell.c - the notation of test scripts, written: what hst_parse() reads back to an equal histogram.
 *
 * The notation has one list of populations a side, so gaps between spans are filled with zeros.
 */
#include "lib/histogram/internal.h"

static void
put_number(ps_buf *out, const char *key, double v)
{
    char text[PS_DOUBLE_TEXT];

    ps_buf_add_c(out, key);
    ps_buf_add(out, text, ps_format_double(text, v));
}

static void
put_list(ps_buf *out, const char *key, const double *values, uint32_t n)
{
    ps_buf_add_c(out, key);
    for (uint32_t i = 0; i < n; i++)
        put_number(out, i == 0 ? "" : " ", values[i]);
    ps_buf_add_char(out, ']');
}

/* How many items the list of a side has; *ret_first is the index of the first. */
static uint64_t
width_of(const hst_side *side, int64_t *ret_first)
{
    int64_t index = 0, end = 0;
    bool any = false;

    *ret_first = 0;
    for (uint32_t i = 0; i < side->n_spans; i++) {
        index += side->spans[i].offset;
        if (side->spans[i].length == 0)
            continue;
        if (!any)
            *ret_first = index;
        any = true;
        index += side->spans[i].length;
        end = index;
    }
    return any ? (uint64_t)(end - *ret_first) : 0;
}

static void
put_side(ps_buf *out, const char *buckets, const char *offset, const hst_side *side)
{
    const double *count = side->counts;
    const char *before = buckets;
    int64_t index = 0, next, first;

    if (width_of(side, &first) == 0)
        return;
    next = first;
    for (uint32_t i = 0; i < side->n_spans; i++) {
        index += side->spans[i].offset;
        for (; side->spans[i].length > 0 && next < index; next++, before = " ")
            put_number(out, before, 0);
        for (uint32_t k = 0; k < side->spans[i].length; k++, before = " ")
            put_number(out, before, *count++);
        index += side->spans[i].length;
        next = side->spans[i].length > 0 ? index : next;
    }
    ps_buf_add_char(out, ']');
    if (first != 0)
        ps_buf_addf(out, "%s%lld", offset, (long long)first);
}

ps_status
hst_spell(ps_buf *out, const hst_hist *h, uint64_t max_buckets)
{
    static const char *const hints[] = {[HST_UNKNOWN] = "unknown",
                                        [HST_RESET] = "reset",
                                        [HST_NOT_RESET] = "not_reset",
                                        [HST_GAUGE] = "gauge"};
    int64_t first;

    if (width_of(&h->positive, &first) > max_buckets ||
        width_of(&h->negative, &first) > max_buckets)
        return PS_ELIMIT;
    ps_buf_addf(out, "schema:%d", (int)h->schema);
    put_number(out, " count:", h->count);
    put_number(out, " sum:", h->sum);
    if (ps_bits_of(h->zero_count) != 0)
        put_number(out, " z_bucket:", h->zero_count);
    if (h->zero_threshold != 0)
        put_number(out, " z_bucket_w:", h->zero_threshold);
    if (h->n_bounds > 0)
        put_list(out, " custom_values:[", h->bounds, h->n_bounds);
    put_side(out, " buckets:[", " offset:", &h->positive);
    put_side(out, " n_buckets:[", " n_offset:", &h->negative);
    if (h->hint != HST_UNKNOWN)
        ps_buf_addf(out, " counter_reset_hint:%s", hints[h->hint]);
    return out->failed ? PS_ENOMEM : PS_OK;
}
