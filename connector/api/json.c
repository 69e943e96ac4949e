/*
 * json.c - texts, labels and numbers as the Prometheus API has them.
 *
 * Values are strings, so that NaN and infinities survive; times are numbers with as many decimals as
 * they need. Labels are escaped as JSON asks; all other texts also hide <, > and & (they may end up in a
 * page), as Prometheus does it.
 */
#include <stdio.h>

#include "connector/api/api.h"

/* ---- texts and numbers ------------------------------------------------------------------------------- */

static void
add_escaped(ps_buf *out, unsigned char c)
{
    char text[8];

    switch (c) {
    case '"':
        ps_buf_add_c(out, "\\\"");
        break;
    case '\\':
        ps_buf_add_c(out, "\\\\");
        break;
    case '\n':
        ps_buf_add_c(out, "\\n");
        break;
    case '\r':
        ps_buf_add_c(out, "\\r");
        break;
    case '\t':
        ps_buf_add_c(out, "\\t");
        break;
    default:
        snprintf(text, sizeof(text), "\\u%04x", c);
        ps_buf_add_c(out, text);
    }
}

static bool
plain(unsigned char c, bool html)
{
    return c >= 0x20 && c != '"' && c != '\\' && !(html && (c == '<' || c == '>' || c == '&'));
}

void
api_json_text(ps_buf *out, ps_str s, bool html)
{
    size_t from = 0;

    ps_buf_add_char(out, '"');
    for (size_t i = 0; i < s.len; i++) {
        if (plain((unsigned char)s.ptr[i], html))
            continue;
        ps_buf_add(out, s.ptr + from, i - from);
        add_escaped(out, (unsigned char)s.ptr[i]);
        from = i + 1;
    }
    ps_buf_add(out, s.ptr + from, s.len - from);
    ps_buf_add_char(out, '"');
}

void
api_json_i64(ps_buf *out, int64_t v)
{
    char text[24], *p = text + sizeof(text);
    uint64_t u = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;

    do
        *--p = (char)('0' + u % 10);
    while ((u /= 10) > 0);
    if (v < 0)
        *--p = '-';
    ps_buf_add(out, p, (size_t)(text + sizeof(text) - p));
}

void
api_json_time(ps_buf *out, int64_t t_ms)
{
    int64_t whole = t_ms / 1000, part = t_ms % 1000;

    if (part < 0)
        part = -part;
    if (t_ms < 0 && whole == 0)
        ps_buf_add_char(out, '-');
    api_json_i64(out, whole);
    if (part == 0)
        return;
    const char text[4] = {'.', (char)('0' + part / 100), (char)('0' + part / 10 % 10),
                          (char)('0' + part % 10)};
    ps_buf_add(out, text, sizeof(text));
}

void
api_json_value(ps_buf *out, double v)
{
    char text[PS_DOUBLE_TEXT + 2];

    text[0] = '"';
    size_t n = ps_format_double(text + 1, v);
    text[n + 1] = '"';
    ps_buf_add(out, text, n + 2);
}

void
api_json_labels(ps_buf *out, mdl_labels l)
{
    ps_buf_add_char(out, '{');
    for (size_t i = 0; i < l.n; i++) {
        if (i > 0)
            ps_buf_add_char(out, ',');
        api_json_text(out, l.items[i].name, false);
        ps_buf_add_char(out, ':');
        api_json_text(out, l.items[i].value, false);
    }
    ps_buf_add_char(out, '}');
}
