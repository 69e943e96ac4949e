/*
 * value.c - an attribute's value as a label's: strings as they are, numbers as text, lists and maps as
 * JSON with sorted keys, bytes in base64.
 */
#include <inttypes.h>

#include "lib/otlp/internal.h"

typedef struct writer {
    ps_buf out;
    ps_arena *arena;
    const char **bad;
} writer;

/* ---- pieces --------------------------------------------------------------------------------------- */

/* The exponent without a leading zero, as ECMAScript has it: 1e-7. */
static void
put_double(ps_buf *out, double v)
{
    char text[PS_DOUBLE_TEXT];
    size_t len = ps_format_double(text, v);
    char *e = memchr(text, 'e', len);

    if (e != NULL && e + 2 < text + len && e[2] == '0') {
        memmove(e + 2, e + 3, (size_t)(text + len - (e + 3)));
        len--;
    }
    ps_buf_add(out, text, len);
}

static void
put_base64(ps_buf *out, ps_str s)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    for (size_t i = 0; i < s.len; i += 3) {
        size_t n = s.len - i < 3 ? s.len - i : 3;
        uint32_t v = (uint32_t)(uint8_t)s.ptr[i] << 16;
        v |= n > 1 ? (uint32_t)(uint8_t)s.ptr[i + 1] << 8 : 0;
        v |= n > 2 ? (uint32_t)(uint8_t)s.ptr[i + 2] : 0;
        for (size_t k = 0; k < 4; k++)
            ps_buf_add_char(out, k <= n ? digits[v >> (18 - 6 * k) & 63] : '=');
    }
}

static void
put_json_string(ps_buf *out, ps_str s)
{
    ps_buf_add_char(out, '"');
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        if (c == '"' || c == '\\')
            ps_buf_addf(out, "\\%c", c);
        else if (c == '\n' || c == '\r' || c == '\t' || c == '\b' || c == '\f')
            ps_buf_addf(out, "\\%c",
                        c == '\n'   ? 'n'
                        : c == '\r' ? 'r'
                        : c == '\t' ? 't'
                        : c == '\b' ? 'b'
                                    : 'f');
        else if ((unsigned char)c < ' ')
            ps_buf_addf(out, "\\u%04x", (unsigned)c);
        else
            ps_buf_add_char(out, c);
    }
    ps_buf_add_char(out, '"');
}

/* ---- values --------------------------------------------------------------------------------------- */

static ps_status put_value(writer *w, ps_str value, int depth);

static ps_status
put_list(writer *w, ps_str list, int depth)
{
    pb_reader r = pb_reader_of(list, w->bad);
    pb_field f;
    const char *before = "[";

    while (otlp_pb_next(&r, &f))
        if (otlp_pb_is(&r, &f, 1, PB_BYTES)) {
            ps_buf_add_c(&w->out, before);
            PS_TRY(put_value(w, f.bytes, depth));
            before = ",";
        }
    ps_buf_add_c(&w->out, *before == '[' ? "[]" : "]");
    return PS_OK;
}

/* Sorted by key; of equal keys the last one. */
static ps_status
put_map(writer *w, ps_str map, int depth)
{
    pb_reader r = pb_reader_of(map, w->bad);
    pb_field f;
    size_t n = 0;

    while (otlp_pb_next(&r, &f))
        n += f.number == 1;
    mdl_label *items = ps_arena_array(w->arena, 2 * n + 1, sizeof *items);
    if (items == NULL)
        return PS_ENOMEM;
    r = pb_reader_of(map, w->bad);
    n = 0;
    while (otlp_pb_next(&r, &f))
        if (otlp_pb_is(&r, &f, 1, PB_BYTES))
            items[n++] = (mdl_label){.name = otlp_pb_find(f.bytes, 1, w->bad),
                                     .value = otlp_pb_find(f.bytes, 2, w->bad)};
    otlp_sort(items, items + n, n);
    const char *before = "{";
    for (size_t i = 0; i < n; i++) {
        if (i + 1 < n && ps_str_eq(items[i].name, items[i + 1].name))
            continue;
        ps_buf_add_c(&w->out, before);
        put_json_string(&w->out, items[i].name);
        ps_buf_add_char(&w->out, ':');
        PS_TRY(put_value(w, items[i].value, depth));
        before = ",";
    }
    ps_buf_add_c(&w->out, *before == '{' ? "{}" : "}");
    return PS_OK;
}

/* depth 0: a label's value, else a part of JSON. */
static ps_status
put_field(writer *w, pb_reader *r, const pb_field *f, int depth)
{
    bool json = depth > 0;

    if (otlp_pb_is(r, f, 1, PB_BYTES)) {
        if (json)
            put_json_string(&w->out, f->bytes);
        else
            ps_buf_add_str(&w->out, f->bytes);
    } else if (otlp_pb_is(r, f, 2, PB_VARINT)) {
        ps_buf_add_c(&w->out, f->value != 0 ? "true" : "false");
    } else if (otlp_pb_is(r, f, 3, PB_VARINT)) {
        ps_buf_addf(&w->out, "%" PRId64, (int64_t)f->value);
    } else if (otlp_pb_is(r, f, 4, PB_FIXED64)) {
        put_double(&w->out, ps_double_of(f->value));
    } else if (otlp_pb_is(r, f, 5, PB_BYTES)) {
        return put_list(w, f->bytes, depth + 1);
    } else if (otlp_pb_is(r, f, 6, PB_BYTES)) {
        return put_map(w, f->bytes, depth + 1);
    } else if (otlp_pb_is(r, f, 7, PB_BYTES)) {
        ps_buf_add_c(&w->out, json ? "\"" : "");
        put_base64(&w->out, f->bytes);
        ps_buf_add_c(&w->out, json ? "\"" : "");
    }
    return PS_OK;
}

static ps_status
put_value(writer *w, ps_str value, int depth)
{
    pb_reader r = pb_reader_of(value, w->bad);
    pb_field f, last = {0};

    if (depth > OTLP_MAX_DEPTH)
        return PS_ELIMIT;
    while (otlp_pb_next(&r, &f)) /* of a choice the last one counts */
        if (f.number >= 1 && f.number <= 7)
            last = f;
    if (last.number == 0) {
        if (depth > 0)
            ps_buf_add_c(&w->out, "null");
        return PS_OK;
    }
    return put_field(w, &r, &last, depth);
}

ps_status
otlp_value_text(ps_str value, ps_arena *arena, const char **bad, ps_str *ret)
{
    ps_alloc alloc = ps_arena_as_alloc(arena);
    pb_reader r = pb_reader_of(value, bad);
    pb_field f;

    /* the common case without a copy: a string and nothing else */
    if (otlp_pb_next(&r, &f) && f.number == 1 && f.type == PB_BYTES && r.pos == r.end) {
        *ret = f.bytes;
        return PS_OK;
    }
    writer w = {.arena = arena, .bad = bad};
    ps_buf_init(&w.out, &alloc);
    PS_TRY(put_value(&w, value, 0));
    if (w.out.failed)
        return PS_ENOMEM;
    *ret = w.out.len > 0 ? ps_buf_str(&w.out) : (ps_str){"", 0};
    return PS_OK;
}
