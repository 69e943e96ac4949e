/*
 * scan.c - pieces of a line: names, quoted texts, numbers, times; and where something is wrong.
 *
 * The two formats differ in where blanks may stand (anywhere in the text format, one in its place in
 * OpenMetrics), so these functions ask for the format and the grammar above them is one.
 */
#include <math.h>

#include "lib/exposition/internal.h"

ps_status
exp_fail(const exp_reader *r, ps_err *err, const char *what)
{
    size_t line = 1, start = 0, at = r->at < r->text.len ? r->at : r->text.len;

    for (size_t i = 0; i < at; i++)
        if (r->text.ptr[i] == '\n') {
            line++;
            start = i + 1;
        }
    return ps_fail_at(err, PS_EINVAL, at, "line %zu, column %zu: %s", line, at - start + 1, what);
}

bool
exp_at_end(const exp_reader *r)
{
    return r->at >= r->text.len;
}

char
exp_peek(const exp_reader *r)
{
    if (!exp_at_end(r))
        return r->text.ptr[r->at];
    return r->format == EXP_TEXT ? '\n' : 0;
}

bool
exp_take(exp_reader *r, char c)
{
    if (exp_at_end(r) || r->text.ptr[r->at] != c)
        return false;
    r->at++;
    return true;
}

bool
exp_take_word(exp_reader *r, ps_str word)
{
    if (r->text.len - r->at < word.len || memcmp(r->text.ptr + r->at, word.ptr, word.len) != 0)
        return false;
    r->at += word.len;
    return true;
}

bool
exp_blanks(exp_reader *r)
{
    size_t begin = r->at;

    if (r->format == EXP_TEXT)
        while (exp_take(r, ' ') || exp_take(r, '\t'))
            ;
    return r->at > begin;
}

bool
exp_separator(exp_reader *r)
{
    return r->format == EXP_TEXT ? exp_blanks(r) : exp_take(r, ' ');
}

static bool
is_name_char(char c, bool colon, bool first)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (colon && c == ':') ||
           (!first && c >= '0' && c <= '9');
}

ps_str
exp_name(exp_reader *r, bool colon)
{
    size_t begin = r->at;

    while (!exp_at_end(r) && is_name_char(r->text.ptr[r->at], colon, r->at == begin))
        r->at++;
    return (ps_str){r->text.ptr + begin, r->at - begin};
}

ps_status
exp_unescape(ps_arena *arena, ps_str s, bool quote, ps_str *ret)
{
    char *out;
    size_t n = 0;

    if (s.len == 0 || memchr(s.ptr, '\\', s.len) == NULL) {
        *ret = s;
        return PS_OK;
    }
    out = ps_arena_new(arena, s.len);
    if (out == NULL)
        return PS_ENOMEM;
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i], next = i + 1 < s.len ? s.ptr[i + 1] : 0;
        bool known = c == '\\' && (next == '\\' || next == 'n' || (quote && next == '"'));
        out[n++] = !known ? c : next == 'n' ? '\n' : next;
        i += known;
    }
    *ret = (ps_str){out, n};
    return PS_OK;
}

ps_status
exp_quoted(exp_reader *r, ps_arena *arena, bool lines, ps_str *ret, ps_err *err)
{
    size_t begin;

    if (!exp_take(r, '"'))
        return exp_fail(r, err, "a quoted text is expected");
    begin = r->at;
    for (; !exp_at_end(r) && r->text.ptr[r->at] != '"'; r->at++) {
        if (r->text.ptr[r->at] == '\n' && !lines)
            return exp_fail(r, err, "the line ends in a quoted text");
        if (r->text.ptr[r->at] == '\\' && r->at + 1 < r->text.len && r->text.ptr[r->at + 1] != '\n')
            r->at++;
    }
    if (exp_at_end(r))
        return exp_fail(r, err, "the text ends within quotes");
    if (exp_unescape(arena, (ps_str){r->text.ptr + begin, r->at - begin}, true, ret) != PS_OK)
        return ps_fail(err, PS_ENOMEM, "no memory for a label");
    r->at++;
    return PS_OK;
}

/* What stands up to the next blank or line end. */
static ps_str
word(exp_reader *r)
{
    size_t begin = r->at;

    while (!exp_at_end(r) && r->text.ptr[r->at] != '\n' && r->text.ptr[r->at] != ' ' &&
           (r->format == EXP_OPENMETRICS || r->text.ptr[r->at] != '\t'))
        r->at++;
    return (ps_str){r->text.ptr + begin, r->at - begin};
}

/* Decimal only: hexadecimal forms belong to neither format. */
static bool
parse_decimal(ps_str s, double *ret)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.ptr[i] == 'x' || s.ptr[i] == 'X' || s.ptr[i] == 'p' || s.ptr[i] == 'P' ||
            s.ptr[i] == '_')
            return false;
    return ps_parse_double(s, ret) == PS_OK;
}

ps_status
exp_number(exp_reader *r, double *ret, ps_err *err)
{
    size_t begin = r->at;

    if (!parse_decimal(word(r), ret)) {
        r->at = begin;
        return exp_fail(r, err, "a number is expected");
    }
    if (*ret != *ret)
        *ret = ps_double_of(MDL_NORMAL_NAN_BITS);
    return PS_OK;
}

/* Milliseconds in the text format, seconds in OpenMetrics: to the nearest millisecond. */
ps_status
exp_time(exp_reader *r, int64_t *ret_ms, ps_err *err)
{
    size_t begin = r->at;
    ps_str s = word(r);
    double seconds;

    r->at = begin;
    if (r->format == EXP_TEXT) {
        if (ps_parse_i64(s, ret_ms) != PS_OK)
            return exp_fail(r, err, "a time in milliseconds is expected");
    } else {
        /* beyond 2^53 ms a double has no milliseconds; timestamptz ends long before */
        if (!parse_decimal(s, &seconds) || !(seconds > -9e12 && seconds < 9e12))
            return exp_fail(r, err, "a time in seconds is expected");
        *ret_ms = (int64_t)round(seconds * 1000);
    }
    r->at = begin + s.len;
    return PS_OK;
}

ps_status
exp_line_end(exp_reader *r, ps_err *err)
{
    exp_blanks(r);
    if (exp_peek(r) != '\n')
        return exp_fail(r, err, exp_at_end(r) ? "the text does not end with # EOF"
                                              : "the end of the line is expected");
    if (!exp_at_end(r))
        r->at++;
    return PS_OK;
}
