/*
 * lex.c - text to tokens.
 *
 * Which tokens there are depends on where we are: in braces every word is a plain identifier and
 * `=~` exists; after a bracket only what durations are made of is known until the first number, and
 * a little more after it; elsewhere words may be keywords, in any case. Five flags hold that state.
 * Tokens are slices of the text; nothing is allocated, except for the message of an error.
 */
#include "lib/promql/internal.h"

typedef struct keyword {
    const char *text;
    pql_token_type type;
} keyword;

/* Sorted by length, then by text. */
static const keyword keywords[] = {
    {"by", T_BY},
    {"on", T_ON},
    {"or", T_OR},
    {"and", T_AND},
    {"avg", T_AVG},
    {"end", T_END},
    {"inf", T_NUMBER},
    {"max", T_MAX},
    {"min", T_MIN},
    {"nan", T_NUMBER},
    {"sum", T_SUM},
    {"bool", T_BOOL},
    {"fill", T_FILL},
    {"step", T_STEP},
    {"topk", T_TOPK},
    {"atan2", T_ATAN2},
    {"count", T_COUNT},
    {"group", T_GROUP},
    {"range", T_RANGE},
    {"start", T_START},
    {"limitk", T_LIMITK},
    {"max_of", T_MAX_OF},
    {"min_of", T_MIN_OF},
    {"offset", T_OFFSET},
    {"stddev", T_STDDEV},
    {"stdvar", T_STDVAR},
    {"unless", T_UNLESS},
    {"bottomk", T_BOTTOMK},
    {"without", T_WITHOUT},
    {"anchored", T_ANCHORED},
    {"ignoring", T_IGNORING},
    {"quantile", T_QUANTILE},
    {"smoothed", T_SMOOTHED},
    {"fill_left", T_FILL_LEFT},
    {"fill_right", T_FILL_RIGHT},
    {"group_left", T_GROUP_LEFT},
    {"group_right", T_GROUP_RIGHT},
    {"limit_ratio", T_LIMIT_RATIO},
    {"count_values", T_COUNT_VALUES},
};

static bool
is_space(uint32_t c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool
is_digit(uint32_t c)
{
    return c >= '0' && c <= '9';
}

static bool
is_alpha(uint32_t c)
{
    return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

uint32_t
pql_rune(ps_str text, uint32_t at, uint32_t *ret_width)
{
    if (at >= text.len) {
        *ret_width = 0;
        return PQL_END_OF_TEXT;
    }
    const unsigned char *b = (const unsigned char *)text.ptr + at;
    if (b[0] < 0x80) {
        *ret_width = 1;
        return b[0];
    }
    size_t n = b[0] >= 0xF0 ? 4 : b[0] >= 0xE0 ? 3 : 2;
    if (n > text.len - at || !ps_utf8_valid((ps_str){text.ptr + at, n})) {
        *ret_width = 1;
        return PQL_BAD_RUNE;
    }
    uint32_t rune = b[0] & (0xFFU >> (n + 1));
    for (size_t i = 1; i < n; i++)
        rune = rune << 6 | (b[i] & 0x3FU);
    *ret_width = (uint32_t)n;
    return rune;
}

/* ---- small steps ------------------------------------------------------------------------------ */

/* The byte at pos; what is not ASCII is decoded only where a message or a string needs it. */
static uint32_t
peek_byte(const pql_parser *p)
{
    return p->lex.pos < p->text.len ? (unsigned char)p->text.ptr[p->lex.pos] : PQL_END_OF_TEXT;
}

static uint32_t
next_rune(pql_parser *p)
{
    uint32_t width;
    uint32_t rune = pql_rune(p->text, p->lex.pos, &width);
    p->lex.pos += width;
    return rune;
}

static pql_token
emit(pql_parser *p, pql_token_type type)
{
    pql_token t = {type, p->lex.start, p->lex.pos};
    p->lex.start = p->lex.pos;
    return t;
}

static pql_token
emit_bytes(pql_parser *p, pql_token_type type, uint32_t n)
{
    p->lex.pos += n;
    return emit(p, type);
}

/* Errors are placed where the token began that was being read. */
static pql_token
bad(pql_parser *p, const char *format, uint32_t rune)
{
    pql_fail(p, p->lex.start, (uint32_t)p->text.len, format, rune);
    return (pql_token){T_ERROR, p->lex.start, p->lex.pos};
}

/* What was read last was nothing known. */
static pql_token
bad_rune(pql_parser *p, const char *format)
{
    return bad(p, format, next_rune(p));
}

static void
skip_spaces(pql_parser *p)
{
    while (is_space(peek_byte(p)))
        p->lex.pos++;
    p->lex.start = p->lex.pos;
}

static void
skip_blank_and_comments(pql_parser *p)
{
    for (;;) {
        skip_spaces(p);
        if (peek_byte(p) != '#')
            return;
        uint32_t c = '#';
        while (c != '\n' && c != '\r' && c != PQL_END_OF_TEXT) {
            p->lex.pos++;
            c = peek_byte(p);
        }
    }
}

/* ---- words ------------------------------------------------------------------------------------ */

static pql_token_type
keyword_of(ps_str word)
{
    char lower[16];
    if (word.len < 2 || word.len > 12)
        return T_IDENTIFIER;
    for (size_t i = 0; i < word.len; i++) {
        char c = word.ptr[i];
        lower[i] = c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
    }
    for (size_t i = 0; i < PS_ARRAY_LEN(keywords); i++) {
        const char *text = keywords[i].text;
        if (text[0] == lower[0] && ps_str_eq_c((ps_str){lower, word.len}, text))
            return keywords[i].type;
    }
    return T_IDENTIFIER;
}

/* The fill modifiers are names unless a parenthesis follows: queries from before they existed. */
static bool
paren_follows(const pql_parser *p)
{
    uint32_t at = p->lex.pos;
    while (at < p->text.len && is_space((unsigned char)p->text.ptr[at]))
        at++;
    return at < p->text.len && p->text.ptr[at] == '(';
}

static pql_token
lex_word(pql_parser *p)
{
    bool colon = false;
    uint32_t c = peek_byte(p);
    while (is_alpha(c) || is_digit(c) || c == ':') {
        colon |= c == ':';
        p->lex.pos++;
        c = peek_byte(p);
    }
    if (colon)
        return emit(p, T_METRIC_IDENTIFIER);
    pql_token_type type =
        keyword_of((ps_str){p->text.ptr + p->lex.start, p->lex.pos - p->lex.start});
    if (type >= T_FILL && type <= T_FILL_RIGHT && !paren_follows(p))
        type = T_IDENTIFIER;
    return emit(p, type);
}

/* step, range, min_of, max_of: all words that durations know. */
static bool
lex_duration_word(pql_parser *p, pql_token *ret)
{
    uint32_t first = peek_byte(p) | 0x20;
    if (first != 's' && first != 'r' && first != 'm')
        return false;
    uint32_t end = p->lex.pos;
    while (end < p->text.len && is_alpha((unsigned char)p->text.ptr[end]))
        end++;
    pql_token_type type = keyword_of((ps_str){p->text.ptr + p->lex.pos, end - p->lex.pos});
    if (type < T_STEP || type > T_MIN_OF)
        return false;
    p->lex.pos = end;
    *ret = emit(p, type);
    return true;
}

/* ---- strings ----------------------------------------------------------------------------------- */

static int
digit_value(uint32_t c)
{
    if (is_digit(c))
        return (int)(c - '0');
    if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f' && c < 0x80)
        return (int)((c | 0x20) - 'a' + 10);
    return 16;
}

/* After the backslash; false if there is an error. */
static bool
lex_escape(pql_parser *p, uint32_t quote)
{
    uint32_t c = next_rune(p);
    int n, base;
    uint32_t max = 0x10FFFF;
    if (c == quote || (c < 0x80 && c != 0 && strchr("abfnrtv\\", (int)c) != NULL))
        return true;
    if (c >= '0' && c <= '7') {
        n = 3;
        base = 8;
        max = 255;
    } else if (c == 'x' || c == 'u' || c == 'U') {
        n = c == 'x' ? 2 : c == 'u' ? 4 : 8;
        base = 16;
        max = c == 'x' ? 255 : max;
        c = next_rune(p);
    } else {
        if (c == PQL_END_OF_TEXT)
            bad(p, "escape sequence not terminated", 0);
        else
            bad(p, "unknown escape sequence %U", c);
        return false;
    }
    uint32_t value = 0;
    for (; n > 0; n--) {
        int digit = digit_value(c);
        if (digit >= base) {
            if (c == PQL_END_OF_TEXT)
                bad(p, "escape sequence not terminated", 0);
            else
                bad(p, "illegal character %U in escape sequence", c);
            return false;
        }
        value = value * (uint32_t)base + (uint32_t)digit;
        if (n > 1)
            c = next_rune(p);
    }
    if (value > max || (value >= 0xD800 && value < 0xE000)) {
        bad(p, "escape sequence is an invalid Unicode code point", 0);
        return false;
    }
    return true;
}

static pql_token
lex_string(pql_parser *p, uint32_t quote)
{
    bool raw = quote == '`';
    p->lex.pos++;
    for (;;) {
        uint32_t c = next_rune(p);
        if (c == quote)
            return emit(p, T_STRING);
        if (c == '\\' && !raw) {
            if (!lex_escape(p, quote))
                return (pql_token){T_ERROR, p->lex.start, p->lex.pos};
        } else if (c == PQL_BAD_RUNE) {
            return bad(p, "invalid UTF-8 rune", 0);
        } else if (c == PQL_END_OF_TEXT || (c == '\n' && !raw)) {
            return bad(p, raw ? "unterminated raw string" : "unterminated quoted string", 0);
        }
    }
}

/* ---- the three places ------------------------------------------------------------------------- */

static pql_token
lex_in_braces(pql_parser *p)
{
    skip_blank_and_comments(p);
    uint32_t c = peek_byte(p);
    if (is_alpha(c)) {
        while (is_alpha(c) || is_digit(c)) {
            p->lex.pos++;
            c = peek_byte(p);
        }
        return emit(p, T_IDENTIFIER);
    }
    if (c == '"' || c == '\'' || c == '`')
        return lex_string(p, c);
    if (c == ',')
        return emit_bytes(p, T_COMMA, 1);
    if (c == '}') {
        p->lex.in_braces = false;
        return emit_bytes(p, T_RIGHT_BRACE, 1);
    }
    if (c == PQL_END_OF_TEXT)
        return bad(p, "unexpected end of input inside braces", 0);
    if (c == '=' || c == '!') {
        p->lex.pos++;
        uint32_t second = peek_byte(p);
        if (second == '~')
            return emit_bytes(p, c == '=' ? T_EQL_REGEX : T_NEQ_REGEX, 1);
        if (c == '=')
            return emit(p, T_EQL);
        if (second == '=')
            return emit_bytes(p, T_NEQ, 1);
        return bad_rune(p, "unexpected character after '!' inside braces: %c");
    }
    if (c == '{')
        return bad(p, "unexpected left brace %c", c);
    return bad_rune(p, "unexpected character inside braces: %c");
}

/* Operators of one character, and parentheses and commas, in and outside of durations. */
static bool
lex_simple(pql_parser *p, uint32_t c, pql_token *ret)
{
    static const char chars[] = "+-*/%^,()";
    static const pql_token_type types[] = {T_ADD, T_SUB,   T_MUL,        T_DIV,        T_MOD,
                                           T_POW, T_COMMA, T_LEFT_PAREN, T_RIGHT_PAREN};
    const char *found = c < 0x80 && c != 0 ? strchr(chars, (int)c) : NULL;
    if (found == NULL)
        return false;
    *ret = emit_bytes(p, types[found - chars], 1);
    if (c == '(')
        p->lex.parens++;
    if (c == ')' && --p->lex.parens < 0)
        *ret = bad(p, "unexpected right parenthesis %c", c);
    return true;
}

/* From a bracket up to the first number. */
static pql_token
lex_in_duration(pql_parser *p)
{
    pql_token t;
    skip_spaces(p);
    uint32_t c = peek_byte(p);
    if (lex_simple(p, c, &t) || lex_duration_word(p, &t))
        return t;
    if (c == PQL_END_OF_TEXT)
        return bad(p, "unexpected end of input in duration expression", 0);
    if (c == ']') {
        p->lex.in_brackets = p->lex.in_duration = p->lex.got_colon = false;
        return emit_bytes(p, T_RIGHT_BRACKET, 1);
    }
    if (c == ':') {
        t = emit_bytes(p, T_COLON, 1);
        if (!p->lex.got_number)
            return bad(p, "unexpected colon before duration in duration expression", 0);
        if (p->lex.got_colon)
            return bad(p, "unexpected repeated colon in duration expression", 0);
        p->lex.got_colon = true;
        return t;
    }
    bool fraction = c == '.' && p->lex.pos + 1 < p->text.len &&
                    is_digit((unsigned char)p->text.ptr[p->lex.pos + 1]);
    if (is_digit(c) || fraction) {
        p->lex.got_number = true;
        p->lex.in_duration = false;
        return pql_lex_number(p);
    }
    return bad_rune(p, "unexpected character in duration expression: %c");
}

static pql_token
lex_comparison(pql_parser *p, uint32_t c)
{
    p->lex.pos++;
    uint32_t second = peek_byte(p);
    switch (c) {
    case '=':
        if (second == '=')
            return emit_bytes(p, T_EQLC, 1);
        if (second == '~')
            return bad(p, "unexpected character after '=': %c", second);
        return emit(p, T_EQL);
    case '!':
        if (second == '=')
            return emit_bytes(p, T_NEQ, 1);
        return bad_rune(p, "unexpected character after '!': %c");
    case '<':
        if (second == '=')
            return emit_bytes(p, T_LTE, 1);
        return second == '/' ? emit_bytes(p, T_TRIM_UPPER, 1) : emit(p, T_LSS);
    default:
        if (second == '=')
            return emit_bytes(p, T_GTE, 1);
        return second == '/' ? emit_bytes(p, T_TRIM_LOWER, 1) : emit(p, T_GTR);
    }
}

/* A word or a colon after the first number in brackets. */
static pql_token
lex_word_in_brackets(pql_parser *p, uint32_t c)
{
    pql_token t;
    if (c == ':') {
        if (p->lex.got_colon)
            return bad(p, "unexpected colon %c", c);
        p->lex.got_colon = true;
        return emit_bytes(p, T_COLON, 1);
    }
    if (lex_duration_word(p, &t))
        return t;
    return bad(p, "unexpected character: %c, expected ':'", c);
}

static pql_token
lex_brackets(pql_parser *p, uint32_t c)
{
    if (c == '[') {
        if (p->lex.in_brackets)
            return bad(p, "unexpected left bracket %c", c);
        p->lex.in_brackets = p->lex.in_duration = true;
        p->lex.got_colon = false;
        return emit_bytes(p, T_LEFT_BRACKET, 1);
    }
    if (!p->lex.in_brackets)
        return bad(p, "unexpected right bracket %c", c);
    p->lex.in_brackets = false;
    return emit_bytes(p, T_RIGHT_BRACKET, 1);
}

pql_token
pql_lex(pql_parser *p)
{
    pql_token t;
    if (p->lex.in_braces)
        return lex_in_braces(p);
    if (p->lex.in_duration)
        return lex_in_duration(p);
    skip_blank_and_comments(p);
    uint32_t c = peek_byte(p);
    if (is_alpha(c) || c == ':')
        return p->lex.in_brackets ? lex_word_in_brackets(p, c) : lex_word(p);
    if (lex_simple(p, c, &t))
        return t;
    bool fraction = c == '.' && p->lex.pos + 1 < p->text.len &&
                    is_digit((unsigned char)p->text.ptr[p->lex.pos + 1]);
    if (is_digit(c) || fraction)
        return pql_lex_number(p);
    switch (c) {
    case PQL_END_OF_TEXT:
        if (p->lex.parens != 0)
            return bad(p, "unclosed left parenthesis", 0);
        if (p->lex.in_brackets)
            return bad(p, "unclosed left bracket", 0);
        return emit(p, T_EOF);
    case '=':
    case '!':
    case '<':
    case '>':
        return lex_comparison(p, c);
    case '"':
    case '\'':
    case '`':
        return lex_string(p, c);
    case '{':
        p->lex.in_braces = true;
        return emit_bytes(p, T_LEFT_BRACE, 1);
    case '[':
    case ']':
        return lex_brackets(p, c);
    case '@':
        return emit_bytes(p, T_AT, 1);
    default:
        return bad_rune(p, "unexpected character: %c");
    }
}
