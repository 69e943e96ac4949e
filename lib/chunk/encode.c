/*
 * encode.c - which samples go together into one chunk; chunks of floats.
 *
 * A chunk of floats: how many (two bytes), the first time and value as they are; then of each time how
 * much its distance to the one before has changed, and of each value which bits have.
 */
#include "lib/chunk/internal.h"

/* ---- what goes together ---------------------------------------------------------------------------- */

/* Whole, and so small that differences of differences of differences fit. */
static bool
is_whole(double v)
{
    return v >= 0 && v <= 0x1p53 && v == (double)(int64_t)v;
}

static bool
side_is_whole(const hst_side *side)
{
    for (uint32_t i = 0; i < side->n_counts; i++) {
        if (!is_whole(side->counts[i]))
            return false;
    }
    return true;
}

/* Has to be written as floats. */
static bool
has_floats(const hst_hist *h)
{
    if (!h->integer || hst_is_stale(h))
        return !h->integer;
    return !is_whole(h->count) || !is_whole(h->zero_count) || !side_is_whole(&h->positive) ||
           !side_is_whole(&h->negative);
}

static bool
same_spans(const hst_side *a, const hst_side *b)
{
    if (a->n_spans != b->n_spans || a->n_counts != b->n_counts)
        return false;
    for (uint32_t i = 0; i < a->n_spans; i++) {
        if (a->spans[i].offset != b->spans[i].offset || a->spans[i].length != b->spans[i].length)
            return false;
    }
    return true;
}

static bool
same_scale(const hst_hist *a, const hst_hist *b)
{
    return a->schema == b->schema &&
           ps_bits_of(a->zero_threshold) == ps_bits_of(b->zero_threshold) &&
           a->n_bounds == b->n_bounds &&
           (a->n_bounds == 0 || memcmp(a->bounds, b->bounds, a->n_bounds * sizeof(double)) == 0);
}

static bool
is_reset(const hst_hist *before, const hst_hist *h)
{
    return h->hint == HST_RESET || hst_detect_reset(before, h);
}

/* May h follow `before` in a chunk that holds floats, or does not? */
static bool
goes_with(const hst_hist *before, const hst_hist *h, bool floats)
{
    if (hst_is_stale(h))
        return true; /* nothing but the marker is written */
    if (hst_is_stale(before) || has_floats(h) != floats)
        return false;
    if ((h->hint == HST_GAUGE) != (before->hint == HST_GAUGE) || !same_scale(before, h) ||
        !same_spans(&before->positive, &h->positive) ||
        !same_spans(&before->negative, &h->negative))
        return false;
    return h->hint == HST_GAUGE || !is_reset(before, h);
}

static const hst_hist *
histogram_at(const chk_samples *s, size_t i)
{
    return s->histograms == NULL ? NULL : s->histograms[i];
}

static size_t
count_together(const chk_samples *s, size_t from, bool *ret_floats)
{
    const hst_hist *first = histogram_at(s, from);
    size_t end = s->n - from > CHK_MAX_SAMPLES ? from + CHK_MAX_SAMPLES : s->n, i = from + 1;
    if (first == NULL) {
        while (i < end && histogram_at(s, i) == NULL)
            i++;
        return i - from;
    }
    *ret_floats = has_floats(first);
    while (i < end && histogram_at(s, i) != NULL &&
           goes_with(histogram_at(s, i - 1), histogram_at(s, i), *ret_floats))
        i++;
    return i - from;
}

/* What the chunk says about a counter reset between the sample before and its first one. */
static uint8_t
flags_of(const chk_samples *s, size_t from)
{
    const hst_hist *h = histogram_at(s, from);
    const hst_hist *before = from > 0 ? histogram_at(s, from - 1) : NULL;
    if (h->hint == HST_GAUGE)
        return CHK_FLAG_GAUGE;
    if (h->hint == HST_RESET)
        return CHK_FLAG_RESET;
    if (h->hint == HST_NOT_RESET)
        return CHK_FLAG_NOT_RESET;
    if (before == NULL || before->hint == HST_GAUGE || hst_is_stale(before) || hst_is_stale(h) ||
        !same_scale(before, h))
        return 0;
    return hst_detect_reset(before, h) ? CHK_FLAG_RESET : CHK_FLAG_NOT_RESET;
}

/* ---- floats ------------------------------------------------------------------------------------------ */

static void
put_bytes(chk_out *o, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        chk_put(o, v | 0x80, 8);
    chk_put(o, v, 8);
}

static void
put_change(chk_out *o, int64_t v)
{
    if (v == 0)
        chk_put(o, 0, 1);
    else if (v > -(1 << 13) && v <= 1 << 13)
        chk_put(o, UINT64_C(2) << 14 | ((uint64_t)v & 0x3FFF), 16);
    else if (v > -(1 << 16) && v <= 1 << 16)
        chk_put(o, UINT64_C(6) << 17 | ((uint64_t)v & 0x1FFFF), 20);
    else if (v > -(1 << 19) && v <= 1 << 19)
        chk_put(o, UINT64_C(14) << 20 | ((uint64_t)v & 0xFFFFF), 24);
    else {
        chk_put(o, 15, 4);
        chk_put(o, (uint64_t)v, 64);
    }
}

static ps_status
write_floats(const int64_t *t_ms, const double *values, size_t n, ps_buf *out, ps_err *err)
{
    if (!ps_buf_reserve(out, CHK_WORST_FLOATS))
        return ps_fail(err, PS_ENOMEM, "out of memory");
    chk_out o = {.p = (uint8_t *)out->ptr + out->len};
    chk_window window = {.leading = CHK_NO_WINDOW};
    uint64_t step = 0;
    chk_put(&o, n, 16);
    put_bytes(&o, (uint64_t)t_ms[0] << 1 ^ (uint64_t)(t_ms[0] >> 63));
    chk_put(&o, ps_bits_of(values[0]), 64);
    for (size_t i = 1; i < n; i++) {
        uint64_t now = (uint64_t)t_ms[i] - (uint64_t)t_ms[i - 1];
        if (i == 1)
            put_bytes(&o, now);
        else
            put_change(&o, (int64_t)(now - step));
        step = now;
        chk_put_xor(&o, ps_bits_of(values[i]), ps_bits_of(values[i - 1]), &window);
    }
    out->len = (size_t)((char *)chk_out_end(&o) - out->ptr);
    return PS_OK;
}

ps_status
chk_encode(const ps_alloc *alloc, const chk_samples *samples, size_t from, ps_buf *out,
           chk_chunk *ret, ps_err *err)
{
    bool floats = false;
    size_t n = count_together(samples, from, &floats);
    chk_chunk c = {.encoding = CHK_XOR,
                   .n = (uint32_t)n,
                   .t_min_ms = samples->t_ms[from],
                   .t_max_ms = samples->t_ms[from + n - 1]};
    if (histogram_at(samples, from) == NULL) {
        PS_TRY(write_floats(samples->t_ms + from, samples->values + from, n, out, err));
    } else {
        c.encoding = floats ? CHK_FLOAT_HISTOGRAM : CHK_HISTOGRAM;
        PS_TRY(chk_write_histograms(alloc, samples, from, n, floats, flags_of(samples, from), out,
                                    err));
    }
    *ret = c;
    return PS_OK;
}
