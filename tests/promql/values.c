/*
 * values.c - reads series and their values as scripts write them.
 *
 * An item is read from left to right: a value, then perhaps a step with a sign, then perhaps "xN". Steps
 * are added one by one, since scripts expect the rounding of that.
 */
#include "tests/promql/values.h"

enum { MAX_VALUES = 1 << 22 };

static bool
is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static bool
is_digit(char c)
{
    return c >= '0' && c <= '9';
}

ps_str
script_word(ps_str s, ps_str *rest)
{
    size_t n = 0;
    while (n < s.len && !is_blank(s.ptr[n]))
        n++;
    size_t at = n;
    while (at < s.len && is_blank(s.ptr[at]))
        at++;
    *rest = (ps_str){s.ptr + at, s.len - at};
    return (ps_str){s.ptr, n};
}

/* ---- values growing in an arena ------------------------------------------------------------------ */

static ps_status
add_value(ps_arena *arena, script_values *values, script_value value, ps_err *err)
{
    if (values->n == MAX_VALUES)
        return ps_fail(err, PS_EINVAL, "more than %d values", (int)MAX_VALUES);
    if (values->n == values->cap) {
        size_t cap = values->cap == 0 ? 8 : 2 * values->cap;
        script_value *grown = ps_arena_array(arena, cap, sizeof *grown);
        if (grown == NULL)
            return ps_fail(err, PS_ENOMEM, "out of memory");
        if (values->n > 0)
            memcpy(grown, values->items, values->n * sizeof *grown);
        values->items = grown;
        values->cap = cap;
    }
    values->items[values->n++] = value;
    return PS_OK;
}

/* ---- pieces of items ------------------------------------------------------------------------------- */

/* "x12" at s[*at]: the number; without an x there *ret is not touched and false is returned. */
static ps_status
read_times(ps_str s, size_t *at, bool *found, uint64_t *ret, ps_err *err)
{
    *found = *at < s.len && s.ptr[*at] == 'x';
    if (!*found)
        return PS_OK;
    size_t from = ++*at;
    uint64_t n = 0;
    while (*at < s.len && is_digit(s.ptr[*at]) && n <= MAX_VALUES)
        n = n * 10 + (uint64_t)(s.ptr[(*at)++] - '0');
    if (*at == from || (*at < s.len && is_digit(s.ptr[*at])))
        return ps_fail(err, PS_EINVAL, "bad repetition in %.*s", (int)(s.len < 99 ? s.len : 99),
                       s.ptr);
    *ret = n;
    return PS_OK;
}

static bool
word_at(ps_str s, size_t at, const char *word)
{
    size_t n = strlen(word);
    return s.len - at >= n && ps_str_eq_nocase((ps_str){s.ptr + at, n}, ps_str_c(word));
}

/* Where the number without sign that begins at `at` ends: a float, Inf, NaN or a duration. */
static size_t
number_end(ps_str s, size_t at)
{
    if (word_at(s, at, "inf") || word_at(s, at, "nan"))
        return at + 3;
    size_t i = at;
    while (i < s.len && (is_digit(s.ptr[i]) || s.ptr[i] == '.'))
        i++;
    if (i == at)
        return at;
    if (i < s.len && (s.ptr[i] == 'e' || s.ptr[i] == 'E')) {
        size_t exp = i + 1;
        if (exp < s.len && (s.ptr[exp] == '+' || s.ptr[exp] == '-'))
            exp++;
        if (exp < s.len && is_digit(s.ptr[exp])) {
            while (exp < s.len && is_digit(s.ptr[exp]))
                exp++;
            return exp;
        }
    }
    while (i < s.len && (is_digit(s.ptr[i]) || memchr("ywdhms", s.ptr[i], 6) != NULL))
        i++;
    return i;
}

static ps_status
bad_item(ps_str item, ps_err *err)
{
    return ps_fail(err, PS_EINVAL, "bad value: %.*s", (int)(item.len < 150 ? item.len : 150),
                   item.ptr);
}

static ps_status
read_number(ps_str s, size_t *at, double *ret, ps_err *err)
{
    bool negative = *at < s.len && s.ptr[*at] == '-';
    size_t from = *at + (negative || (*at < s.len && s.ptr[*at] == '+'));
    size_t to = number_end(s, from);
    double v;
    if (to == from || pql_parse_number((ps_str){s.ptr + from, to - from}, &v) != PS_OK)
        return bad_item(s, err);
    *ret = negative ? -v : v;
    *at = to;
    return PS_OK;
}

/* "{{...}}" */
static ps_status
read_histogram(ps_arena *arena, ps_str s, size_t *at, script_value *ret, ps_err *err)
{
    const char *end = memmem(s.ptr + *at, s.len - *at, "}}", 2);
    if (!ps_str_starts((ps_str){s.ptr + *at, s.len - *at}, PS_STR("{{")) || end == NULL)
        return bad_item(s, err);
    ps_str inside = {s.ptr + *at + 2, (size_t)(end - s.ptr) - *at - 2};
    *at = (size_t)(end - s.ptr) + 2;
    memset(ret, 0, sizeof *ret);
    return hst_parse(arena, inside, &ret->h, &ret->has_hint, err);
}

/* ---- items ------------------------------------------------------------------------------------------- */

static ps_status
repeat(ps_arena *arena, script_values *values, script_value value, uint64_t n, ps_err *err)
{
    for (uint64_t i = 0; i < n; i++)
        PS_TRY(add_value(arena, values, value, err));
    return PS_OK;
}

static ps_status
read_float_item(ps_arena *arena, ps_str s, size_t *at, script_values *values, ps_err *err)
{
    script_value value = {0};
    double step = 0;
    uint64_t times = 0;
    bool found;
    PS_TRY(read_number(s, at, &value.v, err));
    bool stepping = *at < s.len && (s.ptr[*at] == '+' || s.ptr[*at] == '-');
    if (stepping)
        PS_TRY(read_number(s, at, &step, err));
    PS_TRY(read_times(s, at, &found, &times, err));
    if (stepping && !found)
        return bad_item(s, err);
    for (uint64_t i = 0; i <= times; i++) {
        PS_TRY(add_value(arena, values, value, err));
        if (stepping)
            value.v += step;
    }
    return PS_OK;
}

static ps_status
read_histogram_item(ps_arena *arena, ps_str s, size_t *at, script_values *values, ps_err *err)
{
    script_value value;
    script_value step = {0};
    uint64_t times = 0;
    bool found;
    PS_TRY(read_histogram(arena, s, at, &value, err));
    char sign = *at < s.len ? s.ptr[*at] : ' ';
    bool stepping = sign == '+' || sign == '-';
    if (stepping) {
        ++*at;
        PS_TRY(read_histogram(arena, s, at, &step, err));
        value.has_hint = step.has_hint;
        if (value.h->schema > step.h->schema)
            return ps_fail(err, PS_EINVAL, "a step of schema %d on one of schema %d",
                           (int)step.h->schema, (int)value.h->schema);
    }
    PS_TRY(read_times(s, at, &found, &times, err));
    if (stepping && !found)
        return bad_item(s, err);
    for (uint64_t i = 0; i <= times; i++) {
        PS_TRY(add_value(arena, values, value, err));
        if (!stepping || i == times)
            continue;
        ps_status status = sign == '+' ? hst_add(arena, value.h, step.h, NULL, &value.h)
                                       : hst_sub(arena, value.h, step.h, NULL, &value.h);
        if (status != PS_OK)
            return ps_fail(err, PS_EINVAL, "histograms that cannot be combined");
    }
    return PS_OK;
}

static ps_status
read_item(ps_arena *arena, ps_str s, size_t *at, script_values *values, ps_err *err)
{
    uint64_t times = 0;
    bool found;
    if (s.ptr[*at] == '{')
        return read_histogram_item(arena, s, at, values, err);
    if (s.ptr[*at] == '_') {
        ++*at;
        PS_TRY(read_times(s, at, &found, &times, err));
        return repeat(arena, values, (script_value){.omitted = true}, found ? times : 1, err);
    }
    if (word_at(s, *at, "stale")) {
        *at += 5;
        PS_TRY(read_times(s, at, &found, &times, err));
        script_value stale = {.v = ps_double_of(MDL_STALE_NAN_BITS)};
        return repeat(arena, values, stale, times + 1, err);
    }
    return read_float_item(arena, s, at, values, err);
}

/* An item of an "@st" line: a duration with a sign and one unit, a step of the same, "xN". */
static ps_status
read_start_item(ps_arena *arena, ps_str s, size_t *at, script_values *values, ps_err *err)
{
    uint64_t times = 0;
    bool found;
    if (s.ptr[*at] == '_')
        return read_item(arena, s, at, values, err);
    double ms[2] = {0, 0};
    int n = 0;
    for (; n < 2 && *at < s.len && s.ptr[*at] != 'x' && !is_blank(s.ptr[*at]); n++) {
        bool negative = s.ptr[*at] == '-';
        size_t from = *at + (negative || s.ptr[*at] == '+');
        size_t to = from;
        while (to < s.len && (is_digit(s.ptr[to]) || memchr("ywdhms", s.ptr[to], 6) != NULL))
            to++;
        int64_t duration;
        if (ps_parse_duration((ps_str){s.ptr + from, to - from}, &duration) != PS_OK)
            return bad_item(s, err);
        ms[n] = (double)(negative ? -duration : duration);
        *at = to;
    }
    PS_TRY(read_times(s, at, &found, &times, err));
    if (n == 0 || (n == 2 && !found))
        return bad_item(s, err);
    for (uint64_t i = 0; i <= times; i++)
        PS_TRY(add_value(arena, values, (script_value){.v = ms[0] + ms[1] * (double)i}, err));
    return PS_OK;
}

/* ---- lines ------------------------------------------------------------------------------------------- */

/* Length of the series in front of the values: a name, braces, or both. */
static size_t
series_length(ps_str line)
{
    size_t i = 0;
    while (i < line.len && line.ptr[i] != '{' && line.ptr[i] != '@' && !is_blank(line.ptr[i]))
        i++;
    if (i == line.len || line.ptr[i] != '{')
        return i;
    char quote = 0;
    for (; i < line.len; i++) {
        char c = line.ptr[i];
        if (quote != 0) {
            if (c == '\\' && quote != '`')
                i++;
            else if (c == quote)
                quote = 0;
        } else if (c == '"' || c == '\'' || c == '`') {
            quote = c;
        } else if (c == '}') {
            return i + 1;
        }
    }
    return line.len;
}

bool
script_is_start_line(ps_str line)
{
    ps_str rest;
    ps_str word = script_word(line, &rest);
    return word.len > 3 && memcmp(word.ptr + word.len - 3, "@st", 3) == 0;
}

ps_status
script_parse_series(ps_arena *arena, ps_str line, script_series *ret, ps_err *err)
{
    memset(ret, 0, sizeof *ret);
    size_t len = series_length(line);
    pql_error error = {.text = ""};
    ps_status status = pql_parse_series(arena, (ps_str){line.ptr, len}, &ret->labels, &error);
    if (status != PS_OK)
        return ps_fail(err, status, "%.240s", error.text);
    size_t at = len;
    if (ps_str_starts((ps_str){line.ptr + at, line.len - at}, PS_STR("@st"))) {
        ret->starts = true;
        at += 3;
    }
    if (at < line.len && !is_blank(line.ptr[at]))
        return ps_fail(err, PS_EINVAL, "no blank between series and values");
    while (at < line.len) {
        if (is_blank(line.ptr[at])) {
            at++;
            continue;
        }
        PS_TRY(ret->starts ? read_start_item(arena, line, &at, &ret->values, err)
                           : read_item(arena, line, &at, &ret->values, err));
        if (at < line.len && !is_blank(line.ptr[at]))
            return bad_item((ps_str){line.ptr + at, line.len - at}, err);
    }
    return PS_OK;
}

/* ---- numbers alone ----------------------------------------------------------------------------------- */

static int
digit_value(char c)
{
    if (is_digit(c))
        return c - '0';
    char lower = c | 0x20;
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : 99;
}

/* Go's integers: bases by their prefix, "_" between digits where there is one. */
static bool
parse_integer(ps_str s, double *ret)
{
    bool negative = s.len > 0 && s.ptr[0] == '-';
    size_t at = negative || (s.len > 0 && s.ptr[0] == '+');
    unsigned base = 10;
    if (s.len - at > 1 && s.ptr[at] == '0') {
        char c = s.ptr[at + 1] | 0x20;
        base = c == 'x' ? 16 : c == 'b' ? 2 : 8;
        at += c == 'x' || c == 'b' || c == 'o' ? 2 : 1;
    }
    uint64_t n = 0;
    size_t digits = 0;
    for (; at < s.len; at++) {
        if (s.ptr[at] == '_')
            continue;
        unsigned digit = (unsigned)digit_value(s.ptr[at]);
        if (digit >= base || n > (UINT64_C(1) << 63) / base)
            return false;
        n = n * base + digit;
        digits++;
    }
    if (digits == 0 || n > (uint64_t)INT64_MAX)
        return false;
    *ret = negative ? -(double)n : (double)n;
    return true;
}

bool
script_parse_number(ps_str s, double *ret)
{
    return parse_integer(s, ret) || ps_parse_double(s, ret) == PS_OK;
}
