/*
 * internal.h - what the files of lib/exposition share: a cursor in the text.
 */
#ifndef PROMSCALE_EXPOSITION_INTERNAL_H
#define PROMSCALE_EXPOSITION_INTERNAL_H

#include "lib/exposition/exposition.h"

/* ---- scan.c: pieces of a line --------------------------------------------------------------------- */

/* PS_EINVAL at r->at, with line and column. */
ps_status exp_fail(const exp_reader *r, ps_err *err, const char *what);
/* The byte at the cursor; '\n' at the end of a text that lacks it (not in OpenMetrics: 0). */
char exp_peek(const exp_reader *r);
bool exp_at_end(const exp_reader *r);
bool exp_take(exp_reader *r, char c);
bool exp_take_word(exp_reader *r, ps_str word);
/* Blanks and tabs; none in OpenMetrics, where they have their places. Says if there were some. */
bool exp_blanks(exp_reader *r);
/* One blank of OpenMetrics, blanks and tabs of the text format; false if there is none. */
bool exp_separator(exp_reader *r);
/* A name of a metric (colon = true) or a label as it is written without quotes; empty: there is none. */
ps_str exp_name(exp_reader *r, bool colon);
/* "..." at the cursor, unescaped into the arena. lines: it may go on over line ends. */
ps_status exp_quoted(exp_reader *r, ps_arena *arena, bool lines, ps_str *ret,
                     ps_err *err) PS_MUST_CHECK;
/* \\, \n, and \" if quote; any other backslash stays. s itself if it has none. */
ps_status exp_unescape(ps_arena *arena, ps_str s, bool quote, ps_str *ret) PS_MUST_CHECK;
/* A number up to the next blank or line end. */
ps_status exp_number(exp_reader *r, double *ret, ps_err *err) PS_MUST_CHECK;
ps_status exp_time(exp_reader *r, int64_t *ret_ms, ps_err *err) PS_MUST_CHECK;
/* A line's end; in the text format blanks may stand before it. */
ps_status exp_line_end(exp_reader *r, ps_err *err) PS_MUST_CHECK;

/* ---- labels.c: { ... } ---------------------------------------------------------------------------- */

/* Behind the brace. labels[0] is the place of the name: taken if *ret_n is 1, filled in here if it is
 * quoted among the labels. An exemplar has no name: then *ret_n is 0 and stays without. */
ps_status exp_labels(exp_reader *r, mdl_label *labels, bool exemplar, size_t *ret_n,
                     ps_err *err) PS_MUST_CHECK;
/* 1 becomes 1.0 in le of histograms and in quantile of summaries, as Prometheus writes them. */
ps_status exp_tidy_bounds(exp_reader *r, wire_metric_type type, mdl_label *labels, size_t n,
                          ps_err *err) PS_MUST_CHECK;

/* ---- comment.c: lines that begin with # ----------------------------------------------------------- */

/* Behind the #. What it says of a family goes into r->now. */
ps_status exp_comment(exp_reader *r, ps_err *err) PS_MUST_CHECK;
/* r->now if the series of this name is of that family. */
wire_metadata exp_metadata_of(const exp_reader *r, ps_str name);

#endif
