/*
 * show.h - what a text says, as lines: name{labels} value @time #{labels} value @time [type|help|unit]; or
 * the error behind what was read until then.
 */
#ifndef PROMSCALE_TESTS_UNIT_EXPOSITION_SHOW_H
#define PROMSCALE_TESTS_UNIT_EXPOSITION_SHOW_H

#include <inttypes.h>

#include "lib/exposition/exposition.h"

static inline void
show_point(ps_buf *out, double value, bool has_time, int64_t t_ms)
{
    char text[PS_DOUBLE_TEXT];
    ps_format_double(text, value);
    ps_buf_addf(out, " %s", text);
    if (has_time)
        ps_buf_addf(out, " @%" PRId64, t_ms);
}

static inline void
show_sample(ps_buf *out, const exp_sample *s)
{
    mdl_format_labels(out, s->labels, s->n_labels, 0);
    show_point(out, s->value, s->has_time, s->t_ms);
    if (s->has_exemplar) {
        ps_buf_add_c(out, " #");
        mdl_format_labels(out, s->exemplar.labels, s->exemplar.n_labels, 0);
        show_point(out, s->exemplar.value, s->exemplar.has_time, s->exemplar.t_ms);
    }
    if (s->metadata.family.len > 0) {
        ps_buf_addf(out, " [%s|", wire_metric_type_name(s->metadata.type));
        ps_buf_add_str(out, s->metadata.help);
        ps_buf_add_char(out, '|');
        ps_buf_add_str(out, s->metadata.unit);
        ps_buf_add_char(out, ']');
    }
    ps_buf_add_char(out, '\n');
}

static inline ps_status
show_text(ps_buf *out, exp_format format, ps_str text, const ps_alloc *alloc)
{
    exp_reader r;
    exp_sample s;
    bool more = true;
    ps_err err = {.text = ""};
    ps_status st = exp_reader_init(&r, format, text, alloc, &err);
    if (st != PS_OK)
        return st;
    while ((st = exp_next(&r, &more, &s, &err)) == PS_OK && more)
        show_sample(out, &s);
    if (st != PS_OK)
        ps_buf_addf(out, "%s: %s\n", ps_status_name(st), err.text);
    exp_reader_done(&r);
    return st;
}

#endif
