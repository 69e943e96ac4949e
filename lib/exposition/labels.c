/*
 * labels.c - what stands in braces: labels, and a metric's name if it is quoted. A quoted text followed by
 * a comma or the closing brace is the name; one followed by = is a label's.
 */
#include "lib/exposition/internal.h"

/* A label's name, or a quoted text that may turn out to be the metric's. */
static ps_status
left_side(exp_reader *r, ps_str *ret, bool *ret_quoted, ps_err *err)
{
    *ret_quoted = exp_peek(r) == '"';
    if (*ret_quoted)
        return exp_quoted(r, &r->line, true, ret, err);
    *ret = exp_name(r, false);
    if (ret->len == 0)
        return exp_fail(r, err, "a label name is expected");
    return PS_OK;
}

static ps_status
value_of(exp_reader *r, ps_str *ret, ps_err *err)
{
    if (!exp_take(r, '='))
        return exp_fail(r, err, "= is expected after a label's name");
    exp_blanks(r);
    size_t begin = r->at;
    PS_TRY(exp_quoted(r, &r->line, r->format == EXP_TEXT, ret, err));
    if (!ps_utf8_valid(*ret)) {
        r->at = begin;
        return exp_fail(r, err, "a label's value is not valid UTF-8");
    }
    return PS_OK;
}

ps_status
exp_labels(exp_reader *r, mdl_label *labels, bool exemplar, size_t *ret_n, ps_err *err)
{
    size_t n = exemplar ? 0 : 1;
    bool named = *ret_n > 0;

    for (;;) {
        ps_str name;
        bool quoted;
        exp_blanks(r);
        size_t begin = r->at;
        if (exp_take(r, '}'))
            break;
        PS_TRY(left_side(r, &name, &quoted, err));
        exp_blanks(r);
        if (quoted && !exemplar && (exp_peek(r) == ',' || exp_peek(r) == '}')) {
            if (named) {
                r->at = begin;
                return exp_fail(r, err, "the metric has a name already");
            }
            labels[0].value = name;
            named = true;
        } else {
            if (n == EXP_MAX_LABELS)
                return ps_fail_at(err, PS_ELIMIT, begin, "more than %d labels", EXP_MAX_LABELS);
            labels[n].name = name;
            PS_TRY(value_of(r, &labels[n].value, err));
            n++;
        }
        exp_blanks(r);
        /* The text format does without commas. */
        if (!exp_take(r, ',') && r->format == EXP_OPENMETRICS && exp_peek(r) != '}')
            return exp_fail(r, err, "a comma or } is expected");
    }
    if (!exemplar && !named)
        return exp_fail(r, err, "the metric has no name");
    *ret_n = n;
    return PS_OK;
}

/* Digits and a sign, as a number is printed: neither a fraction nor Inf nor NaN. */
static bool
is_whole(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (text[i] != '-' && (text[i] < '0' || text[i] > '9'))
            return false;
    return true;
}

ps_status
exp_tidy_bounds(exp_reader *r, wire_metric_type type, mdl_label *labels, size_t n, ps_err *err)
{
    const char *which = type == WIRE_METRIC_HISTOGRAM ? "le" : "quantile";

    if (type != WIRE_METRIC_HISTOGRAM && type != WIRE_METRIC_SUMMARY)
        return PS_OK;
    for (size_t i = 0; i < n; i++) {
        double v;
        if (!ps_str_eq_c(labels[i].name, which) ||
            ps_parse_double(labels[i].value, &v) != PS_OK)
            continue;
        char *text = ps_arena_new(&r->line, PS_DOUBLE_TEXT + 2);
        if (text == NULL)
            return ps_fail(err, PS_ENOMEM, "no memory for a label");
        size_t len = ps_format_double_go(text, v);
        if (is_whole(text, len)) {
            memcpy(text + len, ".0", 2);
            len += 2;
        }
        labels[i].value = (ps_str){text, len};
    }
    return PS_OK;
}
