/*
 * write_write.c - remote write 1.0, written: for the self-scrape, tests and the benchmark.
 *
 * A WriteRequest is the concatenation of its fields, so each call appends one whole field to `out`
 * and any sequence of calls is a valid request. Lengths come before contents: they are computed
 * first by the same rules, fields that hold their default are left out as senders do. A value
 * counts as default by its bits, so -0 survives. Failure sticks in `out` (ps_buf).
 */
#include "lib/wire/internal.h"

static size_t
varint_size(uint64_t v)
{
    return v == 0 ? 1 : (size_t)(70 - __builtin_clzll(v)) / 7;
}

/* Size of a length-delimited field with n bytes of content and a tag of one byte. */
static size_t
nested_size(size_t n)
{
    return 1 + varint_size(n) + n;
}

static size_t
text_size(ps_str s)
{
    return s.len == 0 ? 0 : nested_size(s.len);
}

static void
put_varint(ps_buf *out, uint64_t v)
{
    uint8_t bytes[10];
    size_t n = 0;
    for (; v >= 0x80; v >>= 7)
        bytes[n++] = (uint8_t)(v | 0x80);
    bytes[n++] = (uint8_t)v;
    ps_buf_add(out, bytes, n);
}

static void
put_nested(ps_buf *out, unsigned number, size_t size)
{
    ps_buf_add_char(out, (char)WIRE_TAG(number, WIRE_LENGTH));
    put_varint(out, size);
}

static void
put_text(ps_buf *out, unsigned number, ps_str s)
{
    if (s.len == 0)
        return;
    put_nested(out, number, s.len);
    ps_buf_add_str(out, s);
}

/* ---- labels and points ---------------------------------------------------------------------- */

static size_t
label_size(const mdl_label *label)
{
    return text_size(label->name) + text_size(label->value);
}

static size_t
labels_size(const mdl_label *labels, size_t n)
{
    size_t size = 0;
    for (size_t i = 0; i < n; i++)
        size += nested_size(label_size(&labels[i]));
    return size;
}

static void
put_labels(ps_buf *out, const mdl_label *labels, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        put_nested(out, 1, label_size(&labels[i]));
        put_text(out, 1, labels[i].name);
        put_text(out, 2, labels[i].value);
    }
}

static size_t
point_size(double value, int64_t t_ms)
{
    return (ps_bits_of(value) == 0 ? 0 : 9) + (t_ms == 0 ? 0 : 1 + varint_size((uint64_t)t_ms));
}

static void
put_point(ps_buf *out, unsigned value_number, double value, int64_t t_ms)
{
    if (ps_bits_of(value) != 0) {
        uint8_t bytes[9] = {WIRE_TAG(value_number, WIRE_FIXED64)};
        ps_put_u64le(bytes + 1, ps_bits_of(value));
        ps_buf_add(out, bytes, sizeof bytes);
    }
    if (t_ms != 0) {
        ps_buf_add_char(out, (char)WIRE_TAG(value_number + 1, WIRE_VARINT));
        put_varint(out, (uint64_t)t_ms);
    }
}

static size_t
exemplar_size(const wire_exemplar *e)
{
    return labels_size(e->labels, e->n_labels) + point_size(e->value, e->t_ms);
}

/* ---- fields of the request ------------------------------------------------------------------ */

void
wire_write_series(ps_buf *out, mdl_labels labels, const wire_sample *samples, size_t n_samples,
                  const wire_exemplar *exemplars, size_t n_exemplars)
{
    size_t size = labels_size(labels.items, labels.n);
    for (size_t i = 0; i < n_samples; i++)
        size += nested_size(point_size(samples[i].value, samples[i].t_ms));
    for (size_t i = 0; i < n_exemplars; i++)
        size += nested_size(exemplar_size(&exemplars[i]));

    put_nested(out, 1, size);
    put_labels(out, labels.items, labels.n);
    for (size_t i = 0; i < n_samples; i++) {
        put_nested(out, 2, point_size(samples[i].value, samples[i].t_ms));
        put_point(out, 1, samples[i].value, samples[i].t_ms);
    }
    for (size_t i = 0; i < n_exemplars; i++) {
        put_nested(out, 3, exemplar_size(&exemplars[i]));
        put_labels(out, exemplars[i].labels, exemplars[i].n_labels);
        put_point(out, 2, exemplars[i].value, exemplars[i].t_ms);
    }
}

void
wire_write_metadata(ps_buf *out, const wire_metadata *metadata)
{
    uint64_t type = (uint64_t)metadata->type;
    size_t size = (type == 0 ? 0 : 1 + varint_size(type)) + text_size(metadata->family) +
                  text_size(metadata->help) + text_size(metadata->unit);
    put_nested(out, 3, size);
    if (type != 0) {
        ps_buf_add_char(out, (char)WIRE_TAG(1, WIRE_VARINT));
        put_varint(out, type);
    }
    put_text(out, 2, metadata->family);
    put_text(out, 4, metadata->help);
    put_text(out, 5, metadata->unit);
}
