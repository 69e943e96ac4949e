/*
 * literals.c - what strings, numbers and durations of the language mean.
 *
 * Numbers follow Go: without a dot or exponent a leading 0 makes them octal if they can be that
 * (017 is 15, but 08 is 8), 0x hexadecimal, single underscores may stand between digits; otherwise
 * they are decimal. A duration is a number of seconds. The escapes of strings are those of Go.
 */
#include "lib/promql/internal.h"

/* ---- strings ----------------------------------------------------------------------------------- */

static size_t
put_rune(char *dst, uint32_t rune)
{
    if (rune < 0x80) {
        dst[0] = (char)rune;
        return 1;
    }
    size_t n = rune < 0x800 ? 2 : rune < 0x10000 ? 3 : 4;
    static const unsigned char lead[] = {0, 0, 0xC0, 0xE0, 0xF0};
    for (size_t i = n; i-- > 1; rune >>= 6)
        dst[i] = (char)(0x80 | (rune & 0x3F));
    dst[0] = (char)(lead[n] | rune);
    return n;
}

static int
hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : 16;
}

/* The escape at s (after the backslash) to dst, which has room for 4 bytes; 0 if it is none. */
static size_t
unescape(ps_str s, char quote, char *dst, size_t *ret_written)
{
    static const char names[] = "abtnvfr"; /* 7..13 */
    if (s.len == 0)
        return 0;
    char c = s.ptr[0];
    const char *named = memchr(names, c, sizeof names - 1);
    *ret_written = 1;
    if (named != NULL || c == '\\' || c == quote) {
        dst[0] = named != NULL ? (char)(7 + (named - names)) : c;
        return 1;
    }
    size_t skip = c == 'x' || c == 'u' || c == 'U';
    size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 3;
    uint32_t base = skip ? 16 : 8, value = 0;
    if (s.len < skip + digits)
        return 0;
    for (size_t i = skip; i < skip + digits; i++) {
        uint32_t digit = (uint32_t)hex_digit(s.ptr[i]);
        if (digit >= base)
            return 0;
        value = value * base + digit;
    }
    if (digits <= 3) {
        dst[0] = (char)value;
        return value > 255 ? 0 : skip + digits;
    }
    if (value > 0x10FFFF || (value >= 0xD800 && value < 0xE000))
        return 0;
    *ret_written = put_rune(dst, value);
    return skip + digits;
}

ps_status
pql_unquote(ps_arena *arena, ps_str s, ps_str *ret)
{
    char quote = s.len >= 2 ? s.ptr[0] : '\0';
    if ((quote != '"' && quote != '\'' && quote != '`') || s.ptr[s.len - 1] != quote)
        return PS_EINVAL;
    ps_str in = {s.ptr + 1, s.len - 2};
    if (memchr(in.ptr, quote == '`' ? '`' : '\\', in.len) == NULL) { /* nothing to replace */
        if (quote == '`' ||
            (memchr(in.ptr, quote, in.len) == NULL && memchr(in.ptr, '\n', in.len) == NULL))
            return ps_arena_dup(arena, in, ret);
        return PS_EINVAL;
    }
    char *dst = quote == '`' ? NULL : ps_arena_new(arena, in.len + 4); /* never longer than text */
    if (dst == NULL)
        return quote == '`' ? PS_EINVAL : PS_ENOMEM;
    size_t len = 0;
    for (size_t i = 0; i < in.len;) {
        if (in.ptr[i] == quote || in.ptr[i] == '\n')
            return PS_EINVAL;
        if (in.ptr[i] != '\\') {
            dst[len++] = in.ptr[i++];
            continue;
        }
        size_t written;
        size_t n = unescape((ps_str){in.ptr + i + 1, in.len - i - 1}, quote, dst + len, &written);
        if (n == 0)
            return PS_EINVAL;
        len += written;
        i += 1 + n;
    }
    *ret = (ps_str){dst, len};
    return PS_OK;
}

/* ---- numbers ----------------------------------------------------------------------------------- */

static bool
is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Underscores stand between digits, or between 0x and a digit. */
static bool
underscores_fit(ps_str s, bool hex)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] != '_')
            continue;
        bool left = i > 0 && (hex ? hex_digit(s.ptr[i - 1]) < 16 : is_digit(s.ptr[i - 1]));
        bool right = i + 1 < s.len && (hex ? hex_digit(s.ptr[i + 1]) < 16 : is_digit(s.ptr[i + 1]));
        if (!right || !(left || (hex && i == 2)))
            return false;
    }
    return true;
}

/* Digits of the base, with underscores; false if there are others or more than 63 bits. */
static bool
read_integer(ps_str s, unsigned base, int64_t *ret)
{
    int64_t value = 0;
    size_t digits = 0;
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] == '_')
            continue;
        int digit = hex_digit(s.ptr[i]);
        if (digit >= (int)base || __builtin_mul_overflow(value, (int64_t)base, &value) ||
            __builtin_add_overflow(value, digit, &value))
            return false;
        digits++;
    }
    *ret = value;
    return digits > 0;
}

/* Without underscores; a decimal number of any length. */
static ps_status
read_decimal(ps_str s, double *ret)
{
    enum { SHORT = 512 };
    char text[SHORT];
    size_t n = 0;
    if (memchr(s.ptr, '_', s.len) == NULL)
        return ps_parse_double(s, ret);
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] == '_')
            continue;
        if (n == SHORT)
            return PS_EINVAL;
        text[n++] = s.ptr[i];
    }
    return ps_parse_double((ps_str){text, n}, ret);
}

ps_status
pql_parse_number(ps_str s, double *ret)
{
    int64_t whole;
    bool negative = s.len > 0 && s.ptr[0] == '-';
    ps_str digits = s;
    if (s.len > 0 && (negative || s.ptr[0] == '+'))
        digits = (ps_str){s.ptr + 1, s.len - 1};
    if (digits.len == 0 || digits.ptr[0] == '+' || digits.ptr[0] == '-')
        return PS_EINVAL;
    bool hex = digits.len > 2 && digits.ptr[0] == '0' && (digits.ptr[1] | 0x20) == 'x';
    if (!underscores_fit(digits, hex))
        return PS_EINVAL;
    bool octal = !hex && digits.len > 1 && digits.ptr[0] == '0';
    ps_str body = hex ? (ps_str){digits.ptr + 2, digits.len - 2} : digits;
    double value;
    if (read_integer(body, hex ? 16 : octal ? 8 : 10, &whole)) {
        value = (double)whole;
    } else if (is_digit(digits.ptr[digits.len - 1]) || digits.ptr[digits.len - 1] == '.' ||
               (digits.ptr[0] | 0x20) == 'i' || (digits.ptr[0] | 0x20) == 'n') {
        if (hex)
            return PS_EINVAL;
        PS_TRY(read_decimal(digits, &value));
    } else {
        int64_t ms;
        PS_TRY(ps_parse_duration(digits, &ms));
        value = pql_seconds_of(ms);
    }
    *ret = negative ? -value : value;
    return PS_OK;
}

/* Whole seconds and the rest apart, as Go does it. */
double
pql_seconds_of(int64_t ms)
{
    return (double)(ms / 1000) + (double)(ms % 1000 * 1000000) / 1e9;
}

bool
pql_seconds_out_of_range(double seconds)
{
    return !(seconds <= 9223372036.854775807 && seconds >= -9223372036.854775807);
}

/* Half away from zero; the ends of int64 for what lies beyond. */
static int64_t
to_nearest(double v)
{
    if (!(v > -9223372036854775808.0))
        return INT64_MIN;
    if (v >= 9223372036854775808.0)
        return INT64_MAX;
    int64_t whole = (int64_t)v; /* exact where doubles have a fraction */
    double rest = v - (double)whole;
    return whole + (rest >= 0.5) - (rest <= -0.5);
}

/* What was written as a duration is a whole number of milliseconds, which nanoseconds in a double
 * would lose from 104 days on. */
int64_t
pql_literal_ms(const pql_expr *number)
{
    double seconds = number->number.value;
    return number->number.duration ? to_nearest(seconds * 1e3)
                                   : to_nearest(seconds * 1e9) / 1000000;
}

/* ---- as the parser meets them ------------------------------------------------------------------ */

bool
pql_string(pql_parser *p, pql_token t, ps_str *ret)
{
    ps_str text = pql_token_text(p, t);
    ps_status status = pql_unquote(p->arena, text, ret);
    if (status == PS_ENOMEM)
        pql_no_memory(p);
    else if (status != PS_OK)
        pql_fail(p, t.from, t.to, "error unquoting string %q: invalid syntax", text);
    return status == PS_OK;
}

static size_t
skip_digits(ps_str s, size_t i)
{
    while (i < s.len && (is_digit(s.ptr[i]) || s.ptr[i] == '_'))
        i++;
    return i;
}

/* Digits, one dot, an exponent with digits: what can only be wrong by its size. */
static bool
is_decimal(ps_str s)
{
    size_t i = skip_digits(s, 0);
    if (i < s.len && s.ptr[i] == '.')
        i = skip_digits(s, i + 1);
    if (i + 1 < s.len && (s.ptr[i] | 0x20) == 'e') {
        i += 1 + (s.ptr[i + 1] == '+' || s.ptr[i + 1] == '-');
        if (i == s.len || !is_digit(s.ptr[i]))
            return false;
        i = skip_digits(s, i);
    }
    return i == s.len && underscores_fit(s, false);
}

static pql_expr *
bad_number(pql_parser *p, pql_token t)
{
    ps_str text = pql_token_text(p, t);
    return pql_fail(p, t.from, t.to, "error parsing number: strconv.ParseFloat: parsing %q: %s",
                    text, is_decimal(text) ? "value out of range" : "invalid syntax");
}

static bool
unit_of(ps_str name, size_t *ret_place, uint64_t *ret_ms)
{
    static const struct {
        const char *name;
        uint64_t ms;
    } units[] = {{"y", 31536000000}, {"w", 604800000}, {"d", 86400000}, {"h", 3600000},
                 {"m", 60000},       {"s", 1000},      {"ms", 1}};
    for (size_t i = 0; i < PS_ARRAY_LEN(units); i++) {
        if (ps_str_eq_c(name, units[i].name)) {
            *ret_place = i + 1;
            *ret_ms = units[i].ms;
            return true;
        }
    }
    return false;
}

/* The part of a duration token at *i, added to *total (in ms); false and an error if it is wrong. */
static bool
add_part(pql_parser *p, pql_token t, size_t *i, size_t *last, uint64_t *total)
{
    ps_str text = pql_token_text(p, t);
    uint64_t n = 0, ms;
    size_t from, place;
    bool valid = is_digit(text.ptr[*i]);
    for (; *i < text.len && is_digit(text.ptr[*i]); ++*i)
        valid &= !__builtin_mul_overflow(n, 10, &n) &&
                 !__builtin_add_overflow(n, (uint64_t)(text.ptr[*i] - '0'), &n);
    for (from = *i; *i < text.len && !is_digit(text.ptr[*i]);)
        ++*i;
    ps_str unit = {text.ptr + from, *i - from};
    if (valid && !unit_of(unit, &place, &ms))
        pql_fail(p, t.from, t.to, "unknown unit %q in duration %q", unit, text);
    else if (!valid || place <= *last)
        pql_fail(p, t.from, t.to, "not a valid duration string: %q", text);
    else if (__builtin_mul_overflow(n, ms, &n) || __builtin_add_overflow(*total, n, total) ||
             *total > INT64_MAX / 1000000)
        pql_fail(p, t.from, t.to, "duration out of range");
    else
        *last = place;
    return p->status == PS_OK;
}

pql_expr *
pql_parse_literal(pql_parser *p)
{
    pql_token t = pql_take(p);
    double value;
    if (t.type == T_NUMBER) {
        if (pql_parse_number(pql_token_text(p, t), &value) != PS_OK)
            return bad_number(p, t);
    } else {
        uint64_t ms = 0;
        for (size_t i = 0, last = 0; i < t.to - t.from;) {
            if (!add_part(p, t, &i, &last, &ms))
                return NULL;
        }
        value = pql_seconds_of((int64_t)ms);
    }
    pql_expr *node = pql_new(p, PQL_NUMBER, t.from, t.to);
    if (node != NULL) {
        node->type = PQL_SCALAR;
        node->number.value = value;
        node->number.duration = t.type == T_DURATION;
    }
    return node;
}
