/*
 * histogram_write.c - one Histogram message, written; the counterpart of histogram_read.c.
 *
 * Which of count_int and count_float is there says what the buckets are, so the one that applies is
 * written even if it is zero. Integers are written as deltas from bucket to bucket.
 */
#include "lib/wire/internal.h"

static uint64_t
zigzag(int64_t v)
{
    return (uint64_t)v << 1 ^ (uint64_t)(v >> 63);
}

static size_t
span_size(const hst_span *s)
{
    return wire_number_size(1, (uint32_t)zigzag(s->offset)) + wire_number_size(2, s->length);
}

static uint64_t
delta(const hst_side *side, uint32_t i)
{
    int64_t before = i == 0 ? 0 : (int64_t)side->counts[i - 1];
    return zigzag((int64_t)side->counts[i] - before);
}

static size_t
deltas_size(const hst_side *side)
{
    size_t size = 0;
    for (uint32_t i = 0; i < side->n_counts; i++)
        size += wire_varint_size(delta(side, i));
    return size;
}

static size_t
side_size(const hst_side *side, bool integer)
{
    size_t size = 0;
    for (uint32_t i = 0; i < side->n_spans; i++)
        size += wire_nested_size(span_size(&side->spans[i]));
    if (side->n_counts > 0)
        size += wire_nested_size(integer ? deltas_size(side) : (size_t)8 * side->n_counts);
    return size;
}

/* Numbers of the fields for spans, deltas and counts follow each other. */
static void
put_side(ps_buf *out, unsigned number, const hst_side *side, bool integer)
{
    for (uint32_t i = 0; i < side->n_spans; i++) {
        wire_put_nested(out, number, span_size(&side->spans[i]));
        wire_put_number(out, 1, (uint32_t)zigzag(side->spans[i].offset));
        wire_put_number(out, 2, side->spans[i].length);
    }
    if (side->n_counts == 0)
        return;
    if (!integer) {
        wire_put_nested(out, number + 2, (size_t)8 * side->n_counts);
        ps_buf_add(out, side->counts, 8 * (size_t)side->n_counts);
        return;
    }
    wire_put_nested(out, number + 1, deltas_size(side));
    for (uint32_t i = 0; i < side->n_counts; i++)
        wire_put_varint(out, delta(side, i));
}

static size_t
custom_size(const hst_hist *h)
{
    return h->n_bounds == 0 ? 0 : 1 + wire_nested_size((size_t)8 * h->n_bounds);
}

size_t
wire_histogram_size(const wire_histogram *w, bool started)
{
    const hst_hist *h = w->histogram;
    size_t count = h->integer ? 1 + wire_varint_size((uint64_t)h->count) : 9;
    size_t zero = h->integer ? 1 + wire_varint_size((uint64_t)h->zero_count) : 9;
    return count + zero + wire_double_size(h->sum) +
           wire_number_size(4, (uint32_t)zigzag(h->schema)) + wire_double_size(h->zero_threshold) +
           side_size(&h->negative, h->integer) + side_size(&h->positive, h->integer) +
           wire_number_size(14, (uint64_t)h->hint) + wire_number_size(15, (uint64_t)w->t_ms) +
           custom_size(h) + (started ? wire_number_size(17, (uint64_t)w->start_ms) : 0);
}

/* The one of two fields that applies, also if it is zero. */
static void
put_population(ps_buf *out, unsigned number, double v, bool integer)
{
    if (integer) {
        ps_buf_add_char(out, (char)WIRE_TAG(number, WIRE_VARINT));
        wire_put_varint(out, (uint64_t)v);
        return;
    }
    uint8_t bytes[9] = {WIRE_TAG(number + 1, WIRE_FIXED64)};
    ps_put_u64le(bytes + 1, ps_bits_of(v));
    ps_buf_add(out, bytes, sizeof bytes);
}

void
wire_put_histogram(ps_buf *out, const wire_histogram *w, bool started)
{
    const hst_hist *h = w->histogram;
    put_population(out, 1, h->count, h->integer);
    wire_put_double(out, 3, h->sum);
    wire_put_number(out, 4, (uint32_t)zigzag(h->schema));
    wire_put_double(out, 5, h->zero_threshold);
    put_population(out, 6, h->zero_count, h->integer);
    put_side(out, 8, &h->negative, h->integer);
    put_side(out, 11, &h->positive, h->integer);
    wire_put_number(out, 14, (uint64_t)h->hint);
    wire_put_number(out, 15, (uint64_t)w->t_ms);
    if (h->n_bounds > 0) {
        wire_put_nested(out, 16, (size_t)8 * h->n_bounds);
        ps_buf_add(out, h->bounds, 8 * (size_t)h->n_bounds);
    }
    if (started)
        wire_put_number(out, 17, (uint64_t)w->start_ms);
}
