/*
 * comment.c - lines that begin with #: HELP, TYPE, UNIT, EOF; the text format has comments, too.
 *
 * What is said of a family holds until another one is named; the reader keeps it for the series that
 * follow. A series belongs to the family of its name, or of its name without one of the suffixes that
 * the type of the family brings with it.
 */
#include "lib/exposition/internal.h"

static ps_status
type_of(exp_reader *r, ps_str s, size_t begin, wire_metric_type *ret, ps_err *err)
{
    if (r->format == EXP_TEXT && ps_str_eq_c(s, "untyped")) {
        *ret = WIRE_METRIC_UNKNOWN;
        return PS_OK;
    }
    for (int t = 0; t < WIRE_METRIC_TYPE_MAX; t++) {
        bool known = r->format == EXP_OPENMETRICS || t == WIRE_METRIC_COUNTER ||
                     t == WIRE_METRIC_GAUGE || t == WIRE_METRIC_HISTOGRAM ||
                     t == WIRE_METRIC_SUMMARY;
        if (known && ps_str_eq_c(s, wire_metric_type_name((wire_metric_type)t))) {
            *ret = (wire_metric_type)t;
            return PS_OK;
        }
    }
    r->at = begin;
    return exp_fail(r, err, "this is no type of a metric");
}

/* The name and the rest of the line. A new name begins a new family. */
static ps_status
family_line(exp_reader *r, ps_str *ret_text, size_t *ret_begin, ps_err *err)
{
    ps_str name;

    exp_blanks(r);
    if (exp_peek(r) == '"')
        PS_TRY(exp_quoted(r, &r->family, false, &name, err));
    else
        name = exp_name(r, true);
    if (name.len == 0)
        return exp_fail(r, err, "a metric's name is expected");
    if (!ps_str_eq(name, r->now.family))
        r->now = (wire_metadata){.family = name};
    if (!exp_separator(r) && exp_peek(r) != '\n')
        return exp_fail(r, err, "a blank is expected after a metric's name");
    *ret_begin = r->at;
    const char *nl = exp_at_end(r) ? NULL
                                   : memchr(r->text.ptr + r->at, '\n', r->text.len - r->at);
    size_t end = nl != NULL ? (size_t)(nl - r->text.ptr) : r->text.len;
    *ret_text = (ps_str){r->text.ptr + r->at, end - r->at};
    r->at = end;
    return exp_line_end(r, err);
}

static ps_status
help_line(exp_reader *r, ps_err *err)
{
    ps_str text;
    size_t begin;

    PS_TRY(family_line(r, &text, &begin, err));
    if (!ps_utf8_valid(text)) {
        r->at = begin;
        return exp_fail(r, err, "a help text is not valid UTF-8");
    }
    if (exp_unescape(&r->family, text, r->format == EXP_OPENMETRICS, &r->now.help) != PS_OK)
        return ps_fail(err, PS_ENOMEM, "no memory for a help text");
    return PS_OK;
}

static ps_status
unit_line(exp_reader *r, ps_err *err)
{
    ps_str unit, family;
    size_t begin;

    PS_TRY(family_line(r, &unit, &begin, err));
    family = r->now.family;
    if (unit.len > 0 && (family.len < unit.len + 1 ||
                         family.ptr[family.len - unit.len - 1] != '_' ||
                         memcmp(family.ptr + family.len - unit.len, unit.ptr, unit.len) != 0)) {
        r->at = begin;
        return exp_fail(r, err, "the metric's name does not end in its unit");
    }
    r->now.unit = unit;
    return PS_OK;
}

static ps_status
type_line(exp_reader *r, ps_err *err)
{
    ps_str text;
    size_t begin;

    PS_TRY(family_line(r, &text, &begin, err));
    return type_of(r, text, begin, &r->now.type, err);
}

static ps_status
openmetrics_comment(exp_reader *r, ps_err *err)
{
    if (exp_take_word(r, PS_STR(" HELP ")))
        return help_line(r, err);
    if (exp_take_word(r, PS_STR(" TYPE ")))
        return type_line(r, err);
    if (exp_take_word(r, PS_STR(" UNIT ")))
        return unit_line(r, err);
    if (exp_take_word(r, PS_STR(" EOF"))) {
        exp_take(r, '\n');
        r->ended = true;
        return exp_at_end(r) ? PS_OK : exp_fail(r, err, "something follows # EOF");
    }
    return exp_fail(r, err, "HELP, TYPE, UNIT or EOF is expected after #");
}

ps_status
exp_comment(exp_reader *r, ps_err *err)
{
    size_t begin = r->at;

    if (r->format == EXP_OPENMETRICS)
        return openmetrics_comment(r, err);
    if (exp_blanks(r)) {
        bool help = exp_take_word(r, PS_STR("HELP"));
        bool type = !help && exp_take_word(r, PS_STR("TYPE"));
        if ((help || type) && exp_blanks(r))
            return help ? help_line(r, err) : type_line(r, err);
    }
    r->at = begin;
    while (exp_peek(r) != '\n')
        r->at++;
    return exp_line_end(r, err);
}

wire_metadata
exp_metadata_of(const exp_reader *r, ps_str name)
{
    static const char *const suffixes[] = {"",         "_total", "_bucket", "_sum", "_count",
                                           "_created", "_info",  "_gsum",   "_gcount"};
    ps_str family = r->now.family;

    if (family.len == 0 || !ps_str_starts(name, family))
        return (wire_metadata){0};
    for (size_t i = 0; i < PS_ARRAY_LEN(suffixes); i++)
        if (ps_str_eq_c((ps_str){name.ptr + family.len, name.len - family.len}, suffixes[i]))
            return r->now;
    return (wire_metadata){0};
}
