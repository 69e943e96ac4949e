/*
 * quote.c - strings in double quotes as Go writes them.
 *
 * What can be shown stands as it is; the rest becomes the shortest escape that reads back to the
 * same bytes: \n and its like, \x for control characters and for bytes that are no UTF-8, \u and \U
 * for characters that have no shape. Which those are is taken from the blocks of Unicode that hold
 * them; characters not assigned yet are shown, since a later Unicode may know them. U+FFFD is
 * escaped, because the language does not take it in a string as it is.
 */
#include "lib/promql/internal.h"

typedef struct span {
    uint32_t first, last;
} span;

/* Blanks other than U+0020, format characters, surrogates, private use, noncharacters. */
static const span invisible[] = {
    {0x7F, 0xA0},       {0xAD, 0xAD},       {0x600, 0x605},     {0x61C, 0x61C},
    {0x6DD, 0x6DD},     {0x70F, 0x70F},     {0x890, 0x891},     {0x8E2, 0x8E2},
    {0x1680, 0x1680},   {0x180E, 0x180E},   {0x2000, 0x200F},   {0x2028, 0x202F},
    {0x205F, 0x206F},   {0x3000, 0x3000},   {0xD800, 0xF8FF},   {0xFEFF, 0xFEFF},
    {0xFFF0, 0xFFFB},   {0xFFFD, 0xFFFF},   {0x110BD, 0x110BD}, {0x110CD, 0x110CD},
    {0x13430, 0x1343F}, {0x1BCA0, 0x1BCA3}, {0x1D173, 0x1D17A}, {0x1FFFE, 0x1FFFF},
    {0x2FFFE, 0x2FFFF}, {0x3FFFE, 0x3FFFF}, {0xE0000, 0xE00FF}, {0xE01F0, UINT32_MAX},
};

static bool
is_shown(uint32_t rune)
{
    if (rune < 0x7F)
        return rune >= ' ';
    for (size_t i = 0; i < PS_ARRAY_LEN(invisible); i++) {
        if (rune >= invisible[i].first && rune <= invisible[i].last)
            return false;
    }
    return true;
}

static void
add_utf8(ps_buf *out, uint32_t rune)
{
    char text[4];
    size_t n = rune < 0x80 ? 1 : rune < 0x800 ? 2 : rune < 0x10000 ? 3 : 4;
    static const unsigned char lead[] = {0, 0, 0xC0, 0xE0, 0xF0};
    for (size_t i = n; i-- > 1; rune >>= 6)
        text[i] = (char)(0x80 | (rune & 0x3F));
    text[0] = (char)(lead[n] | rune);
    ps_buf_add(out, text, n);
}

static void
add_escaped(ps_buf *out, uint32_t rune, char quote)
{
    static const char named[] = "abtnvfr"; /* 7..13 */
    if (rune == (unsigned char)quote || rune == '\\') {
        ps_buf_add_char(out, '\\');
        ps_buf_add_char(out, (char)rune);
    } else if (is_shown(rune)) {
        add_utf8(out, rune);
    } else if (rune >= 7 && rune <= 13) {
        ps_buf_add_char(out, '\\');
        ps_buf_add_char(out, named[rune - 7]);
    } else if (rune < ' ' || rune == 0x7F) {
        ps_buf_addf(out, "\\x%02x", (unsigned)rune);
    } else if (rune < 0x10000) {
        ps_buf_addf(out, "\\u%04x", (unsigned)rune);
    } else {
        ps_buf_addf(out, "\\U%08x", (unsigned)rune);
    }
}

void
pql_quote_rune(ps_buf *out, uint32_t rune, char quote)
{
    ps_buf_add_char(out, quote);
    if (rune > 0x10FFFF || rune == PQL_BAD_RUNE)
        add_utf8(out, PQL_BAD_RUNE);
    else
        add_escaped(out, rune, quote);
    ps_buf_add_char(out, quote);
}

void
pql_quote(ps_buf *out, ps_str s)
{
    ps_buf_add_char(out, '"');
    for (uint32_t i = 0, width; i < s.len && !out->failed; i += width) {
        uint32_t rune = pql_rune(s, i, &width);
        if (width == 1 && rune == PQL_BAD_RUNE)
            ps_buf_addf(out, "\\x%02x", (unsigned)(unsigned char)s.ptr[i]);
        else
            add_escaped(out, rune, '"');
    }
    ps_buf_add_char(out, '"');
}
