/*
 * exemplars.c - exemplars of a data point: trace and span as labels, and the attributes that were filtered
 * out of the series, if all of it has at most 128 characters (OpenMetrics' limit).
 */
#include "lib/otlp/internal.h"

enum { MAX_CHARACTERS = 128 };

static size_t
characters(ps_str s)
{
    size_t n = 0;

    for (size_t i = 0; i < s.len; i++)
        n += ((uint8_t)s.ptr[i] & 0xc0) != 0x80;
    return n;
}

static bool
is_zero(ps_str s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.ptr[i] != 0)
            return false;
    return true;
}

static ps_status
put_hex(ps_arena *arena, ps_str bytes, ps_str *ret)
{
    char *text = ps_arena_new(arena, bytes.len * 2);

    if (text == NULL)
        return PS_ENOMEM;
    for (size_t i = 0; i < bytes.len; i++) {
        text[2 * i] = "0123456789abcdef"[(uint8_t)bytes.ptr[i] >> 4];
        text[2 * i + 1] = "0123456789abcdef"[(uint8_t)bytes.ptr[i] & 15];
    }
    *ret = (ps_str){text, bytes.len * 2};
    return PS_OK;
}

typedef struct sent { /* an exemplar as it came */
    ps_str trace_id, span_id;
    bool has_value;
    double value;
    uint64_t time_ns;
} sent;

static sent
read_sent(translation *t, ps_str message)
{
    pb_reader r = pb_reader_of(message, &t->bad);
    pb_field f;
    sent s = {0};

    while (otlp_pb_next(&r, &f)) {
        if (otlp_pb_is(&r, &f, 2, PB_FIXED64)) {
            s.time_ns = f.value;
        } else if (otlp_pb_is(&r, &f, 3, PB_FIXED64)) {
            s.has_value = true;
            s.value = ps_double_of(f.value);
        } else if (otlp_pb_is(&r, &f, 6, PB_FIXED64)) {
            s.has_value = true;
            s.value = (double)(int64_t)f.value;
        } else if (otlp_pb_is(&r, &f, 4, PB_BYTES)) {
            s.span_id = f.bytes;
        } else if (otlp_pb_is(&r, &f, 5, PB_BYTES)) {
            s.trace_id = f.bytes;
        }
    }
    return s;
}

static ps_status
add_id(translation *t, mdl_label *labels, size_t *n, ps_str name, ps_str id, size_t id_len)
{
    if (id.len != id_len || is_zero(id))
        return PS_OK;
    labels[*n].name = name;
    PS_TRY(put_hex(&t->point, id, &labels[*n].value));
    (*n)++;
    return PS_OK;
}

/* *ret_n is 0 for one without a value: left out. */
static ps_status
read_one(translation *t, ps_str message, int64_t t_ms, wire_exemplar *ret, size_t *ret_n)
{
    sent s = read_sent(t, message);
    attributes a;
    size_t n = 0, length = 0;

    *ret_n = 0;
    PS_TRY(otlp_attributes(message, 7, &t->point, &t->bad, &a));
    mdl_label *labels = ps_arena_array(&t->point, 2 * (a.n + 2), sizeof *labels);
    if (labels == NULL)
        return PS_ENOMEM;
    if (!s.has_value)
        return PS_OK;
    PS_TRY(add_id(t, labels, &n, PS_STR("trace_id"), s.trace_id, 16));
    PS_TRY(add_id(t, labels, &n, PS_STR("span_id"), s.span_id, 8));
    for (size_t i = 0; i < n; i++)
        length += characters(labels[i].name) + labels[i].value.len;
    for (size_t i = 0; i < a.n; i++)
        length += characters(a.items[i].name) + characters(a.items[i].value);
    if (length <= MAX_CHARACTERS && a.n > 0) {
        memcpy(labels + n, a.items, a.n * sizeof *labels);
        n += a.n;
    }
    otlp_sort(labels, labels + n, n);
    *ret = (wire_exemplar){.labels = labels,
                           .n_labels = n,
                           .t_ms = s.time_ns >= 1000000 ? (int64_t)(s.time_ns / 1000000) : t_ms,
                           .value = s.value};
    *ret_n = 1;
    return PS_OK;
}

ps_status
otlp_exemplars(translation *t, ps_str point, uint32_t number, int64_t t_ms, wire_exemplar **ret,
               size_t *ret_n)
{
    pb_reader r = pb_reader_of(point, &t->bad);
    pb_field f;
    size_t n = 0, one;

    *ret_n = 0;
    while (otlp_pb_next(&r, &f))
        n += otlp_pb_is(&r, &f, number, PB_BYTES);
    *ret = ps_arena_array(&t->point, n + 1, sizeof **ret); /* never NULL: parts of it are taken */
    if (*ret == NULL)
        return PS_ENOMEM;
    r = pb_reader_of(point, &t->bad);
    while (otlp_pb_next(&r, &f))
        if (otlp_pb_is(&r, &f, number, PB_BYTES)) {
            PS_TRY(read_one(t, f.bytes, t_ms, *ret + *ret_n, &one));
            *ret_n += one;
        }
    return PS_OK;
}
