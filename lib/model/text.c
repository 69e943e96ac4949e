/*
 * text.c - a label set as a person reads it: name{a="b",c="d"}.
 *
 * Used in error answers and logs, where the labels may be exactly what is wrong: any bytes must
 * come out as valid UTF-8 without control characters, and a megabyte of label must come out short.
 * So the text is built piece by piece and building stops once it is over the limit.
 */
#include "lib/model/model.h"

typedef struct cutter {
    ps_buf *out;
    size_t start;
    size_t max; /* 0 = none */
} cutter;

static bool
is_full(const cutter *c)
{
    return c->max != 0 && c->out->len - c->start > c->max;
}

static void
add_byte_escape(ps_buf *out, unsigned char byte)
{
    static const char hex[] = "0123456789abcdef";
    char text[4] = {'\\', 'x', hex[byte >> 4], hex[byte & 15]};
    ps_buf_add(out, text, sizeof text);
}

static void
add_ascii(ps_buf *out, unsigned char byte)
{
    static const char named[] = "abtnvfr"; /* 7..13 */
    if (byte == '"' || byte == '\\') {
        ps_buf_add_char(out, '\\');
        ps_buf_add_char(out, (char)byte);
    } else if (byte >= 7 && byte <= 13) {
        ps_buf_add_char(out, '\\');
        ps_buf_add_char(out, named[byte - 7]);
    } else if (byte < 0x20 || byte == 0x7F) {
        add_byte_escape(out, byte);
    } else {
        ps_buf_add_char(out, (char)byte);
    }
}

/* Bytes of the character at p if it is a valid one outside ASCII, else 0. */
static size_t
wide_character(const char *p, size_t left)
{
    for (size_t n = 2; n <= 4 && n <= left; n++) {
        if (ps_utf8_valid((ps_str){p, n}))
            return n;
    }
    return 0;
}

static void
add_quoted(const cutter *c, ps_str s)
{
    ps_buf_add_char(c->out, '"');
    for (size_t i = 0; i < s.len && !is_full(c) && !c->out->failed;) {
        unsigned char byte = (unsigned char)s.ptr[i];
        if (byte < 0x80) {
            add_ascii(c->out, byte);
            i++;
            continue;
        }
        size_t n = wide_character(s.ptr + i, s.len - i);
        if (n == 0) {
            add_byte_escape(c->out, byte);
            i++;
        } else if (byte == 0xC2 && (unsigned char)s.ptr[i + 1] < 0xA0) {
            ps_buf_add_c(c->out, "\\u00"); /* U+0080..U+009F: control characters */
            static const char hex[] = "0123456789abcdef";
            ps_buf_add_char(c->out, hex[(unsigned char)s.ptr[i + 1] >> 4]);
            ps_buf_add_char(c->out, hex[s.ptr[i + 1] & 15]);
            i += n;
        } else {
            ps_buf_add(c->out, s.ptr + i, n);
            i += n;
        }
    }
    ps_buf_add_char(c->out, '"');
}

static bool
is_plain_name(ps_str name, bool colon)
{
    for (size_t i = 0; i < name.len; i++) {
        char b = name.ptr[i];
        bool ok = (b >= 'a' && b <= 'z') || (b >= 'A' && b <= 'Z') || b == '_' ||
                  (b >= '0' && b <= '9' && i > 0) || (b == ':' && colon);
        if (!ok)
            return false;
    }
    return name.len > 0;
}

static void
add_labels(const cutter *c, const mdl_label *items, size_t n, const mdl_label *metric, bool quoted)
{
    bool first = true;
    ps_buf_add_char(c->out, '{');
    if (quoted) {
        add_quoted(c, metric->value);
        first = false;
    }
    for (size_t i = 0; i < n && !is_full(c) && !c->out->failed; i++) {
        if (&items[i] == metric)
            continue;
        if (!first)
            ps_buf_add_char(c->out, ',');
        first = false;
        if (is_plain_name(items[i].name, false))
            ps_buf_add_str(c->out, items[i].name);
        else
            add_quoted(c, items[i].name);
        ps_buf_add_char(c->out, '=');
        add_quoted(c, items[i].value);
    }
    ps_buf_add_char(c->out, '}');
}

void
mdl_format_labels(ps_buf *out, const mdl_label *items, size_t n, size_t max_bytes)
{
    const cutter c = {out, out->len, max_bytes};
    const mdl_label *metric = NULL;
    for (size_t i = 0; i < n && metric == NULL; i++) {
        if (ps_str_eq(items[i].name, PS_STR(MDL_METRIC_NAME)) && items[i].value.len > 0)
            metric = &items[i];
    }
    bool quoted = metric != NULL && !is_plain_name(metric->value, true);
    if (metric != NULL && !quoted)
        ps_buf_add_str(out, metric->value);
    if (metric == NULL || quoted || n > 1)
        add_labels(&c, items, n, metric, quoted);
    if (out->failed || !is_full(&c))
        return;
    ps_str text = {out->ptr + c.start, out->len - c.start};
    size_t dots = max_bytes < 3 ? max_bytes : 3;
    out->len = c.start + ps_utf8_prefix(text, max_bytes - dots);
    ps_buf_add(out, "...", dots);
}
