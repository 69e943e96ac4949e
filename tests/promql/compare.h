/*
 * compare.h - is a result what a script expects? And values as text, for those who want to know why not.
 */
#ifndef PROMSCALE_TESTS_PROMQL_COMPARE_H
#define PROMSCALE_TESTS_PROMQL_COMPARE_H

#include "lib/eval/eval.h"
#include "tests/promql/script.h"

/* Floats as scripts compare them: NaN is NaN, stale is stale, else 1e-6 of difference. */
bool compare_floats(double a, double b);
bool compare_histograms(const hst_hist *expected, const hst_hist *actual, bool with_hint);

/* Each appends to `why` and returns false where result and expectation differ. */
bool compare_result(const script_eval *e, const ev_result *r, ps_buf *why);
/* The points of a matrix at t_ms, as if they were the result of an instant query of type `type`. */
bool compare_step(const script_eval *e, const ev_result *r, pql_type type, int64_t t_ms,
                  ps_buf *why);
bool compare_notes(const script_eval *e, const ev_result *r, ps_buf *why);

void print_value(ps_buf *out, double v, const hst_hist *h);
void print_series(ps_buf *out, mdl_labels labels);
/* A result as Prometheus's API gives it: JSON. */
void print_result(ps_buf *out, const ev_result *r);
void print_json_text(ps_buf *out, ps_str s);

#endif
