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
text_size(ps_str s)
{
    return s.len == 0 ? 0 : wire_nested_size(s.len);
}

static void
put_text(ps_buf *out, unsigned number, ps_str s)
{
    if (s.len == 0)
        return;
    wire_put_nested(out, number, s.len);
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
        size += wire_nested_size(label_size(&labels[i]));
    return size;
}

static void
put_labels(ps_buf *out, const mdl_label *labels, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        wire_put_nested(out, 1, label_size(&labels[i]));
        put_text(out, 1, labels[i].name);
        put_text(out, 2, labels[i].value);
    }
}

static size_t
point_size(double value, int64_t t_ms)
{
    return wire_double_size(value) + wire_number_size(1, (uint64_t)t_ms);
}

static void
put_point(ps_buf *out, unsigned value_number, double value, int64_t t_ms)
{
    wire_put_double(out, value_number, value);
    wire_put_number(out, value_number + 1, (uint64_t)t_ms);
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
        size += wire_nested_size(point_size(samples[i].value, samples[i].t_ms));
    for (size_t i = 0; i < n_exemplars; i++)
        size += wire_nested_size(exemplar_size(&exemplars[i]));

    wire_put_nested(out, 1, size);
    put_labels(out, labels.items, labels.n);
    for (size_t i = 0; i < n_samples; i++) {
        wire_put_nested(out, 2, point_size(samples[i].value, samples[i].t_ms));
        put_point(out, 1, samples[i].value, samples[i].t_ms);
    }
    for (size_t i = 0; i < n_exemplars; i++) {
        wire_put_nested(out, 3, exemplar_size(&exemplars[i]));
        put_labels(out, exemplars[i].labels, exemplars[i].n_labels);
        put_point(out, 2, exemplars[i].value, exemplars[i].t_ms);
    }
}

void
wire_write_series_histograms(ps_buf *out, mdl_labels labels, const wire_histogram *histograms,
                             size_t n_histograms)
{
    size_t size = labels_size(labels.items, labels.n);
    for (size_t i = 0; i < n_histograms; i++)
        size += wire_nested_size(wire_histogram_size(&histograms[i], false));
    wire_put_nested(out, 1, size);
    put_labels(out, labels.items, labels.n);
    for (size_t i = 0; i < n_histograms; i++) {
        wire_put_nested(out, 4, wire_histogram_size(&histograms[i], false));
        wire_put_histogram(out, &histograms[i], false);
    }
}

void
wire_write_metadata(ps_buf *out, const wire_metadata *metadata)
{
    uint64_t type = (uint64_t)metadata->type;
    size_t size = wire_number_size(1, type) + text_size(metadata->family) +
                  text_size(metadata->help) + text_size(metadata->unit);
    wire_put_nested(out, 3, size);
    wire_put_number(out, 1, type);
    put_text(out, 2, metadata->family);
    put_text(out, 4, metadata->help);
    put_text(out, 5, metadata->unit);
}
