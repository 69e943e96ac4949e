/*
 * values.h - how scripts write series: `name{a="b"} 1+2x3 _ stale {{count:1}}x2`.
 */
#ifndef PROMSCALE_TESTS_PROMQL_VALUES_H
#define PROMSCALE_TESTS_PROMQL_VALUES_H

#include "lib/histogram/histogram.h"
#include "lib/promql/promql.h"

typedef struct script_value {
    bool omitted;      /* "_": nothing here */
    bool has_hint;     /* a histogram with a hint written down */
    double v;          /* or milliseconds of a start timestamp */
    const hst_hist *h; /* NULL: a float */
} script_value;

typedef struct script_values {
    script_value *items;
    size_t n, cap;
} script_values;

typedef struct script_series {
    mdl_labels labels;
    script_values values;
    bool starts; /* an "@st" line: values are milliseconds relative to the sample's time */
} script_series;

/* All of it in `arena`. PS_EINVAL with a text. */
ps_status script_parse_series(ps_arena *arena, ps_str line, script_series *ret,
                              ps_err *err) PS_MUST_CHECK;
/* Is the line a "name{...}@st ..." one? */
bool script_is_start_line(ps_str line);
/* A number that stands alone, Go's notation: 0x1f, 0o17, 017, 1_000, 1e3, Inf, NaN. */
bool script_parse_number(ps_str s, double *ret);
/* First word, up to a blank or tab; *rest begins with the next word. */
ps_str script_word(ps_str s, ps_str *rest);

#endif
