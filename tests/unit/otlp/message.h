/*
 * message.h - protobuf by hand, and what a translation makes of it as lines:
 * name{labels} value @time [start=] [#{labels} value @time] [type|help|unit], or a histogram; then what was
 * refused: "! metric points why".
 */
#ifndef PROMSCALE_TESTS_UNIT_OTLP_MESSAGE_H
#define PROMSCALE_TESTS_UNIT_OTLP_MESSAGE_H

#include <inttypes.h>

#include "lib/otlp/otlp.h"

static inline void
pb_varint(ps_buf *b, uint64_t v)
{
    for (; v > 127; v >>= 7)
        ps_buf_add_char(b, (char)(v | 128));
    ps_buf_add_char(b, (char)v);
}

static inline void
pb_number(ps_buf *b, uint32_t field, uint64_t v)
{
    pb_varint(b, field << 3);
    pb_varint(b, v);
}

static inline void
pb_signed(ps_buf *b, uint32_t field, int64_t v)
{
    pb_number(b, field, (uint64_t)v << 1 ^ (uint64_t)(v >> 63));
}

static inline void
pb_fixed(ps_buf *b, uint32_t field, uint64_t v)
{
    pb_varint(b, field << 3 | 1);
    ps_buf_add(b, &v, 8);
}

static inline void
pb_double(ps_buf *b, uint32_t field, double v)
{
    pb_fixed(b, field, ps_bits_of(v));
}

static inline void
pb_bytes(ps_buf *b, uint32_t field, ps_str s)
{
    pb_varint(b, field << 3 | 2);
    pb_varint(b, s.len);
    ps_buf_add_str(b, s);
}

static inline void
pb_text(ps_buf *b, uint32_t field, const char *s)
{
    pb_bytes(b, field, ps_str_c(s));
}

/* A part that is built by itself: begin, add to it, end puts it into its parent. */
static inline ps_buf
pb_begin(void)
{
    ps_buf b;
    ps_buf_init(&b, &ps_malloc);
    return b;
}

static inline void
pb_end(ps_buf *parent, uint32_t field, ps_buf *part)
{
    pb_bytes(parent, field, ps_buf_str(part));
    ps_buf_done(part);
}

static inline void
pb_attribute(ps_buf *parent, uint32_t field, const char *key, const char *value)
{
    ps_buf pair = pb_begin(), any = pb_begin();
    pb_text(&any, 1, value);
    pb_text(&pair, 1, key);
    pb_end(&pair, 2, &any);
    pb_end(parent, field, &pair);
}

/* ---- showing -------------------------------------------------------------------------------------- */

static inline void
show_refused(void *self, ps_str metric, int64_t n_points, const char *why)
{
    ps_buf *out = self;
    ps_buf_add_c(out, "! ");
    ps_buf_add_str(out, metric);
    ps_buf_addf(out, " %" PRId64 " %s\n", n_points, why);
}

static inline int
show_by_name(const void *a, const void *b)
{
    return ps_str_cmp(((const mdl_label *)a)->name, ((const mdl_label *)b)->name);
}

static inline void
show_labels(ps_buf *out, const wire_v2_symbols *symbols, const uint32_t *refs, size_t n)
{
    mdl_label labels[64];
    assert_true(n / 2 <= PS_ARRAY_LEN(labels));
    for (size_t i = 0; i < n / 2; i++)
        labels[i] = (mdl_label){symbols->items[refs[2 * i]], symbols->items[refs[2 * i + 1]]};
    qsort(labels, n / 2, sizeof *labels, show_by_name);
    mdl_format_labels(out, labels, n / 2, 0);
}

static inline void
show_number(ps_buf *out, double v)
{
    char text[PS_DOUBLE_TEXT];
    ps_format_double(text, v);
    ps_buf_addf(out, " %s", ps_bits_of(v) == MDL_STALE_NAN_BITS ? "stale" : text);
}

static inline void
show_series(ps_buf *out, const wire_v2_reader *r, const wire_v2_series *s, ps_arena *arena)
{
    uint32_t refs[128];
    wire_sample sample;
    wire_histogram histogram;
    wire_v2_exemplar exemplars[8];
    assert_true(s->n_refs <= PS_ARRAY_LEN(refs) && s->n_samples + s->n_histograms == 1 &&
                s->n_exemplars <= PS_ARRAY_LEN(exemplars));
    wire_v2_refs(s, refs);
    show_labels(out, &r->symbols, refs, s->n_refs);
    wire_v2_samples(s, &sample);
    if (s->n_histograms > 0) {
        assert_int_equal(wire_v2_histograms(s, arena, &histogram, NULL), PS_OK);
        assert_non_null(histogram.histogram);
        sample = (wire_sample){.t_ms = histogram.t_ms, .start_ms = histogram.start_ms};
        ps_buf_addf(out, " schema=%d hint=%d ", histogram.histogram->schema,
                    histogram.histogram->hint);
        if (hst_is_stale(histogram.histogram))
            ps_buf_add_c(out, "stale");
        else
            hst_format(out, histogram.histogram);
    } else {
        show_number(out, sample.value);
    }
    ps_buf_addf(out, " @%" PRId64, sample.t_ms);
    if (sample.start_ms != 0)
        ps_buf_addf(out, " start=%" PRId64, sample.start_ms);
    assert_int_equal(wire_v2_exemplars(s, exemplars, refs, PS_ARRAY_LEN(refs), NULL), PS_OK);
    for (uint32_t i = 0; i < s->n_exemplars; i++) {
        ps_buf_add_c(out, " #");
        show_labels(out, &r->symbols, refs + exemplars[i].first_ref, exemplars[i].n_refs);
        show_number(out, exemplars[i].value);
        ps_buf_addf(out, " @%" PRId64, exemplars[i].t_ms);
    }
    ps_buf_addf(out, " [%s|", wire_metric_type_name((wire_metric_type)s->type));
    ps_buf_add_str(out, r->symbols.items[s->help_ref]);
    ps_buf_add_char(out, '|');
    ps_buf_add_str(out, r->symbols.items[s->unit_ref]);
    ps_buf_add_c(out, "]\n");
}

/* What the message says under the settings; a status and its text if it says nothing. */
static inline ps_status
show_message(ps_buf *out, ps_str message, const otlp_settings *settings, const ps_alloc *alloc)
{
    wire_v2_writer *w = wire_v2_writer_new(&ps_malloc, 1 << 24);
    otlp_refusals refusals = {show_refused, NULL};
    ps_buf refused = pb_begin(), made = pb_begin();
    ps_err err = {.text = ""};
    refusals.self = &refused;
    ps_status st = otlp_translate(message, settings, alloc, w, &refusals, &err);
    if (st == PS_OK) {
        ps_arena arena;
        wire_v2_reader r;
        wire_v2_series s;
        bool any;
        ps_arena_init(&arena, &ps_malloc, 0);
        assert_int_equal(wire_v2_writer_finish(w, &made, &err), PS_OK);
        assert_int_equal(wire_v2_reader_init(&r, ps_buf_str(&made), 1 << 20, &arena, &err), PS_OK);
        while (wire_v2_next(&r, &any, &s, &err) == PS_OK && any)
            show_series(out, &r, &s, &arena);
        ps_arena_done(&arena);
        ps_buf_add_str(out, ps_buf_str(&refused));
    } else {
        ps_buf_addf(out, "%s: %s\n", ps_status_name(st), err.text);
    }
    wire_v2_writer_free(w);
    ps_buf_done(&refused);
    ps_buf_done(&made);
    return st;
}

#endif
