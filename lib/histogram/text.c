/*
 * text.c - histograms as text: written as Prometheus shows them.
 */
#include "lib/histogram/internal.h"

static void
put_number(ps_buf *out, double v)
{
    char text[PS_DOUBLE_TEXT];
    ps_buf_add(out, text, ps_format_double_go(text, v));
}

static void
put_bucket(ps_buf *out, const hst_bucket *b)
{
    ps_buf_add_c(out, b->lower_in ? ", [" : ", (");
    put_number(out, b->lower);
    ps_buf_add_char(out, ',');
    put_number(out, b->upper);
    ps_buf_add_c(out, b->upper_in ? "]:" : "):");
    put_number(out, b->count);
}

void
hst_format(ps_buf *out, const hst_hist *h)
{
    /* Here buckets have their full width, and a zero bucket of any population is shown. */
    hst_hist whole = *h;
    hst_iter it;
    hst_bucket b;
    ps_buf_add_c(out, "{count:");
    put_number(out, h->count);
    ps_buf_add_c(out, ", sum:");
    put_number(out, h->sum);
    whole.zero_threshold = whole.zero_count = 0;
    hst_iter_up(&it, &whole);
    bool zero_shown = h->zero_count == 0 || hst_is_custom(h);
    hst_bucket zero = {-h->zero_threshold, h->zero_threshold, h->zero_count, true, true, 0};
    while (hst_next(&it, &b)) {
        if (b.count == 0)
            continue;
        if (!zero_shown && it.side == &whole.positive) {
            put_bucket(out, &zero);
            zero_shown = true;
        }
        put_bucket(out, &b);
    }
    if (!zero_shown)
        put_bucket(out, &zero);
    ps_buf_add_char(out, '}');
}
