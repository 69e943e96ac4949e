/*
 * histogram_write.c - chunks of histograms, of integers or of floats.
 *
 * Header, layout, then sample by sample: time, count, zero count, sum, buckets. Times, and of integer
 * histograms the numbers too, as changes of differences; floats as bits that differ. Integer buckets
 * are differences already, each to its neighbour on the left. All histograms have the layout of the
 * first; since all are at hand, what is subtracted is looked up in the two before and no state is kept,
 * but for the windows of floats.
 */
#include <math.h>

#include "lib/chunk/internal.h"

static const hst_hist empty; /* what is written of a stale one, but for its sum */

static const hst_hist *
shown(const hst_hist *h)
{
    return hst_is_stale(h) ? &empty : h;
}

/* ---- layout ------------------------------------------------------------------------------------------- */

/* Powers of two from 2^-243 to 2^10 have one byte. */
static void
put_zero_threshold(chk_out *o, double v)
{
    uint64_t bits = ps_bits_of(v);
    int64_t exponent = (int64_t)(bits >> 52) - 1022;
    if (v == 0) {
        chk_put(o, 0, 8);
    } else if (bits << 12 == 0 && exponent >= -242 && exponent <= 11) {
        chk_put(o, (uint64_t)(exponent + 243), 8);
    } else {
        chk_put(o, 255, 8);
        chk_put(o, bits, 64);
    }
}

/* Multiples of 0.001 as whole numbers. */
static void
put_bound(chk_out *o, double v)
{
    double thousand = v * 1000;
    if (!signbit(v) && thousand <= 33554430 && round(thousand) / 1000 == v) {
        chk_put_uint(o, (uint64_t)round(thousand) + 1);
        return;
    }
    chk_put(o, 0, 1);
    chk_put(o, ps_bits_of(v), 64);
}

static void
put_spans(chk_out *o, const hst_side *side)
{
    chk_put_uint(o, side->n_spans);
    for (uint32_t i = 0; i < side->n_spans; i++) {
        chk_put_uint(o, side->spans[i].length);
        chk_put_int(o, side->spans[i].offset);
    }
}

static void
put_layout(chk_out *o, const hst_hist *h)
{
    put_zero_threshold(o, h->zero_threshold);
    chk_put_int(o, h->schema);
    put_spans(o, &h->positive);
    put_spans(o, &h->negative);
    if (h->schema != HST_CUSTOM)
        return;
    chk_put_uint(o, h->n_bounds);
    for (uint32_t i = 0; i < h->n_bounds; i++)
        put_bound(o, h->bounds[i]);
}

/* ---- integers ------------------------------------------------------------------------------------------- */

/* Change of the difference, when a follows b follows c; of the second sample the difference itself. */
static int64_t
change(double a, double b, double c, bool second)
{
    int64_t now = (int64_t)a - (int64_t)b;
    return second ? now : now - ((int64_t)b - (int64_t)c);
}

static int64_t
bucket(const hst_side *side, uint32_t i)
{
    return (int64_t)side->counts[i] - (i == 0 ? 0 : (int64_t)side->counts[i - 1]);
}

static void
put_int_side(chk_out *o, const hst_side *a, const hst_side *b, const hst_side *c)
{
    for (uint32_t i = 0; i < a->n_counts; i++) {
        int64_t v = bucket(a, i);
        if (b != NULL)
            v -= bucket(b, i);
        if (c != NULL)
            v -= bucket(b, i) - bucket(c, i);
        chk_put_int(o, v);
    }
}

static void
put_int_first(chk_out *o, const hst_hist *h)
{
    const hst_hist *s = shown(h);
    chk_put_uint(o, (uint64_t)s->count);
    chk_put_uint(o, (uint64_t)s->zero_count);
    chk_put(o, ps_bits_of(h->sum), 64);
    put_int_side(o, &s->positive, NULL, NULL);
    put_int_side(o, &s->negative, NULL, NULL);
}

/* After a stale one only stale ones come, of which nothing counts but the sum. */
static void
put_int_next(chk_out *o, const hst_hist *const *h, bool second, chk_window *sum)
{
    const hst_hist *b = h[-1], *c = second ? NULL : h[-2];
    if (hst_is_stale(h[0])) {
        chk_put(o, 0, 2);
        chk_put_xor(o, ps_bits_of(h[0]->sum), ps_bits_of(b->sum), sum);
        return;
    }
    chk_put_int(o, change(h[0]->count, b->count, second ? 0 : c->count, second));
    chk_put_int(o, change(h[0]->zero_count, b->zero_count, second ? 0 : c->zero_count, second));
    chk_put_xor(o, ps_bits_of(h[0]->sum), ps_bits_of(b->sum), sum);
    put_int_side(o, &h[0]->positive, &b->positive, second ? NULL : &c->positive);
    put_int_side(o, &h[0]->negative, &b->negative, second ? NULL : &c->negative);
}

/* ---- floats ----------------------------------------------------------------------------------------------- */

static void
put_float_side(chk_out *o, const hst_side *a, const hst_side *before, chk_window *windows)
{
    for (uint32_t i = 0; i < a->n_counts; i++) {
        if (before == NULL)
            chk_put(o, ps_bits_of(a->counts[i]), 64);
        else
            chk_put_xor(o, ps_bits_of(a->counts[i]), ps_bits_of(before->counts[i]), &windows[i]);
    }
}

static void
put_float_first(chk_out *o, const hst_hist *h)
{
    const hst_hist *s = shown(h);
    chk_put(o, ps_bits_of(s->count), 64);
    chk_put(o, ps_bits_of(s->zero_count), 64);
    chk_put(o, ps_bits_of(h->sum), 64);
    put_float_side(o, &s->positive, NULL, NULL);
    put_float_side(o, &s->negative, NULL, NULL);
}

/* windows: of count, zero count, sum, buckets. */
static void
put_float_next(chk_out *o, const hst_hist *h, const hst_hist *before, chk_window *windows)
{
    const hst_hist *s = shown(h), *b = shown(before);
    chk_put_xor(o, ps_bits_of(s->count), ps_bits_of(b->count), &windows[0]);
    chk_put_xor(o, ps_bits_of(s->zero_count), ps_bits_of(b->zero_count), &windows[1]);
    chk_put_xor(o, ps_bits_of(h->sum), ps_bits_of(before->sum), &windows[2]);
    put_float_side(o, &s->positive, &b->positive, windows + 3);
    put_float_side(o, &s->negative, &b->negative, windows + 3 + s->positive.n_counts);
}

/* ---- a chunk ---------------------------------------------------------------------------------------------- */

static bool
worst_case(const hst_hist *h, size_t n, size_t *ret)
{
    size_t spans = (size_t)h->positive.n_spans + h->negative.n_spans;
    size_t buckets = (size_t)h->positive.n_counts + h->negative.n_counts;
    size_t head = 3 + 9 + 4 * CHK_WORST_INT + 2 * spans * CHK_WORST_INT + (size_t)h->n_bounds * 9 +
                  CHK_WORST_END;
    size_t body;
    return ps_mul_size(buckets + 4, n * CHK_WORST_XOR, &body) && ps_add_size(head, body, ret);
}

static void
put_samples(chk_out *o, const chk_samples *s, size_t from, size_t n, bool floats,
            chk_window *windows)
{
    const hst_hist *const *h = s->histograms + from;
    const int64_t *t = s->t_ms + from;
    for (size_t i = 0; i < n; i++) {
        int64_t step = i == 0 ? t[0] : t[i] - t[i - 1];
        chk_put_int(o, i < 2 ? step : step - (t[i - 1] - t[i - 2]));
        if (i == 0 && floats)
            put_float_first(o, h[0]);
        else if (i == 0)
            put_int_first(o, h[0]);
        else if (floats)
            put_float_next(o, h[i], h[i - 1], windows);
        else
            put_int_next(o, h + i, i == 1, windows);
    }
}

ps_status
chk_write_histograms(const ps_alloc *alloc, const chk_samples *s, size_t from, size_t n,
                     bool floats, uint8_t flags, ps_buf *out, ps_err *err)
{
    const hst_hist *first = shown(s->histograms[from]);
    size_t room, n_windows = 3 + (size_t)first->positive.n_counts + first->negative.n_counts;
    chk_window *windows = ps_alloc_array(alloc, n_windows, sizeof(*windows));
    if (windows == NULL || !worst_case(first, n, &room) || !ps_buf_reserve(out, room)) {
        ps_alloc_free(alloc, windows, n_windows * sizeof(*windows));
        return ps_fail(err, PS_ENOMEM, "out of memory");
    }
    for (size_t i = 0; i < n_windows; i++)
        windows[i].leading = CHK_NO_WINDOW;
    chk_out o = {.p = (uint8_t *)out->ptr + out->len};
    chk_put(&o, n, 16);
    chk_put(&o, flags, 8);
    put_layout(&o, first);
    put_samples(&o, s, from, n, floats, windows);
    out->len = (size_t)((char *)chk_out_end(&o) - out->ptr);
    ps_alloc_free(alloc, windows, n_windows * sizeof(*windows));
    return PS_OK;
}
