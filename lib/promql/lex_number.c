/*
 * lex_number.c - where a number or a duration ends, and which of the two it is.
 *
 * Only the shape is looked at: digits with single underscores between them, one dot, one exponent,
 * hexadecimal digits after 0x; or digits with units. Whether "08" or "5ys" mean anything is for
 * literals.c to say. A dot or an underscore at a wrong place is an error here.
 */
#include "lib/promql/internal.h"

static uint32_t
at(const pql_parser *p)
{
    return p->lex.pos < p->text.len ? (unsigned char)p->text.ptr[p->lex.pos] : PQL_END_OF_TEXT;
}

static bool
is_one_of(uint32_t c, const char *set)
{
    return c < 0x80 && c != 0 && strchr(set, (int)c) != NULL;
}

static bool
accept(pql_parser *p, const char *set)
{
    if (!is_one_of(at(p), set))
        return false;
    p->lex.pos++;
    return true;
}

static bool
is_alphanumeric(uint32_t c)
{
    return c == '_' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* Stops behind the byte that makes it no number, for the message. */
static bool
scan_number(pql_parser *p)
{
    const char *digits = "0123456789";
    bool hex = false, dot = false, exponent = false;
    if (accept(p, "0") && accept(p, "xX")) {
        accept(p, "_");
        digits = "0123456789abcdefABCDEF";
        hex = true;
    }
    accept(p, ".");
    accept(p, digits);
    for (;;) {
        uint32_t c = at(p);
        if (!is_one_of(c, digits) && !is_one_of(c, "._eE"))
            break;
        if (c == '.') {
            p->lex.pos++;
            if (dot || accept(p, "_.") || hex)
                return false;
            dot = true;
        } else if ((c == 'e' || c == 'E') && exponent) {
            p->lex.pos++;
            return false;
        } else if (c == 'e' || c == 'E') {
            p->lex.pos++;
            exponent = true;
            accept(p, "+-");
            if (accept(p, "._eE") || at(p) == PQL_END_OF_TEXT)
                return false;
        } else if (c == '_') {
            p->lex.pos++;
            if (accept(p, "._eE") || at(p) == PQL_END_OF_TEXT)
                return false;
        } else {
            while (accept(p, digits)) {
            }
        }
    }
    return !is_alphanumeric(at(p));
}

static bool
scan_duration(pql_parser *p)
{
    if (!accept(p, "smhdwy"))
        return false;
    accept(p, "s");
    while (accept(p, "0123456789")) {
        while (accept(p, "0123456789")) {
        }
        if (!accept(p, "smhdw"))
            return false;
        accept(p, "s");
    }
    if (!is_alphanumeric(at(p)))
        return true;
    p->lex.pos++;
    return false;
}

pql_token
pql_lex_number(pql_parser *p)
{
    pql_token t = {T_NUMBER, p->lex.start, 0};
    if (!scan_number(p)) {
        t.type = T_DURATION;
        if (!scan_duration(p)) {
            ps_str text = {p->text.ptr + p->lex.start, p->lex.pos - p->lex.start};
            pql_fail(p, p->lex.start, (uint32_t)p->text.len, "bad number or duration syntax: %q",
                     text);
            t.type = T_ERROR;
        }
    }
    t.to = p->lex.start = p->lex.pos;
    return t;
}
