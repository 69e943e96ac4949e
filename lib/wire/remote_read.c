/*
 * remote_read.c - remote read: what is asked for, and the two ways to answer.
 *
 * A request is read in place; what it can grow is counted before memory is taken. Answers are put
 * together from the inside out: points or chunks of a series, the series, then all of a result or a
 * frame of the stream, whose length and checksum come first.
 */
#include "lib/wire/internal.h"

/* ---- the request -------------------------------------------------------------------------------------- */

static ps_status
damaged(const char *why, ps_err *err)
{
    return ps_fail(err, PS_ECORRUPT, "the read request is damaged: %s", why);
}

typedef struct counts {
    size_t queries, matchers, types;
} counts;

static const char *
read_matcher(wire_field whole, mdl_matcher *ret, bool *ret_known)
{
    static const mdl_match kinds[] = {MDL_MATCH_EQ, MDL_MATCH_NE, MDL_MATCH_RE, MDL_MATCH_NRE};
    const uint8_t *pos = whole.data, *end = whole.data + whole.len;
    uint64_t kind = 0;
    mdl_matcher m = {.type = MDL_MATCH_EQ, .name = PS_STR(""), .value = PS_STR("")};
    while (pos < end) {
        wire_field f;
        const char *why = wire_read_field(&pos, end, &f);
        if (why != NULL)
            return why;
        if (f.number >= 1 && f.number <= 3 && f.type != (f.number == 1 ? WIRE_VARINT : WIRE_LENGTH))
            return wire_wrong_type;
        if (f.number == 1)
            kind = f.value;
        else if (f.number == 2)
            m.name = wire_field_str(&f);
        else if (f.number == 3)
            m.value = wire_field_str(&f);
    }
    *ret_known = kind < PS_ARRAY_LEN(kinds);
    if (*ret_known)
        m.type = kinds[kind];
    *ret = m;
    return NULL;
}

/* matchers: where the query's go, room for all of them; NULL: only counts. */
static const char *
read_query(wire_field whole, wire_read_query *q, mdl_matcher *matchers, bool *ret_known)
{
    const uint8_t *pos = whole.data, *end = whole.data + whole.len;
    *q = (wire_read_query){.matchers = matchers};
    while (pos < end) {
        wire_field f;
        const char *why = wire_read_field(&pos, end, &f);
        if (why != NULL)
            return why;
        if (f.number >= 1 && f.number <= 3 && f.type != (f.number < 3 ? WIRE_VARINT : WIRE_LENGTH))
            return wire_wrong_type;
        if (f.number == 1)
            q->start_ms = (int64_t)f.value;
        else if (f.number == 2)
            q->end_ms = (int64_t)f.value;
        if (f.number != 3)
            continue;
        bool known = true;
        if (matchers != NULL && (why = read_matcher(f, &matchers[q->n_matchers], &known)) != NULL)
            return why;
        *ret_known = *ret_known && known;
        q->n_matchers++;
    }
    return NULL;
}

/* One number, or many of them packed. The first that we can answer with counts. */
static const char *
read_types(wire_field f, wire_read_request *ret)
{
    const uint8_t *pos = f.data, *end = f.type == WIRE_LENGTH ? f.data + f.len : NULL;
    if (f.type != WIRE_VARINT && f.type != WIRE_LENGTH)
        return wire_wrong_type;
    do {
        uint64_t type = f.value;
        if (f.type == WIRE_LENGTH) {
            if (pos == end)
                break;
            const char *why = wire_read_varint(&pos, end, &type);
            if (why != NULL)
                return why;
        }
        if (ret->type == WIRE_READ_UNKNOWN &&
            (type == WIRE_READ_SAMPLES || type == WIRE_READ_CHUNKS))
            ret->type = (wire_read_type)type;
        ret->n_types++;
    } while (f.type == WIRE_LENGTH);
    return NULL;
}

static const char *
count_all(ps_str message, counts *ret)
{
    const uint8_t *pos = (const uint8_t *)message.ptr, *end = pos + message.len;
    while (pos < end) {
        wire_field f;
        wire_read_query q;
        bool known = true;
        const char *why = wire_read_field(&pos, end, &f);
        if (why != NULL)
            return why;
        if (f.number != 1)
            continue;
        if (f.type != WIRE_LENGTH)
            return wire_wrong_type;
        if ((why = read_query(f, &q, NULL, &known)) != NULL)
            return why;
        ret->queries++;
        ret->matchers += q.n_matchers;
    }
    return NULL;
}

static const char *
fill_all(ps_str message, wire_read_query *queries, mdl_matcher *matchers, wire_read_request *ret,
         bool *ret_known)
{
    const uint8_t *pos = (const uint8_t *)message.ptr, *end = pos + message.len;
    while (pos < end) {
        wire_field f;
        const char *why = wire_read_field(&pos, end, &f);
        if (why == NULL && f.number == 1) {
            why = read_query(f, &queries[ret->n_queries], matchers, ret_known);
            matchers += queries[ret->n_queries++].n_matchers;
        } else if (why == NULL && f.number == 2) {
            why = read_types(f, ret);
        }
        if (why != NULL)
            return why;
    }
    return NULL;
}

static bool
is_text(const mdl_matcher *m)
{
    return ps_utf8_valid(m->name) && ps_utf8_valid(m->value);
}

ps_status
wire_read_request_parse(ps_str message, const wire_read_limits *limits, ps_arena *arena,
                        wire_read_request *ret, ps_err *err)
{
    counts n = {0};
    wire_read_request r = {.type = WIRE_READ_UNKNOWN};
    bool known = true;
    const char *why = message.len == 0 ? NULL : count_all(message, &n);
    if (why != NULL)
        return damaged(why, err);
    if (n.queries > limits->max_queries)
        return ps_fail(err, PS_ELIMIT, "the read request has more than %zu queries",
                       limits->max_queries);
    if (n.matchers > limits->max_matchers)
        return ps_fail(err, PS_ELIMIT, "the read request has more than %zu matchers",
                       limits->max_matchers);
    wire_read_query *queries = ps_arena_array(arena, n.queries + 1, sizeof(*queries));
    mdl_matcher *matchers = ps_arena_array(arena, n.matchers + 1, sizeof(*matchers));
    if (queries == NULL || matchers == NULL)
        return ps_fail(err, PS_ENOMEM, "out of memory");
    if (message.len > 0)
        why = fill_all(message, queries, matchers, &r, &known);
    if (why != NULL)
        return damaged(why, err);
    if (!known)
        return ps_fail(err, PS_EINVAL, "invalid matcher type");
    for (size_t i = 0; i < n.matchers; i++) {
        if (!is_text(&matchers[i]))
            return ps_fail(err, PS_EINVAL, "a matcher is not valid UTF-8");
    }
    if (r.n_types == 0)
        r.type = WIRE_READ_SAMPLES;
    r.queries = queries;
    *ret = r;
    return PS_OK;
}

/* ---- answers ---------------------------------------------------------------------------------------------- */

static size_t
text_size(ps_str s)
{
    return s.len == 0 ? 0 : wire_nested_size(s.len);
}

static size_t
label_size(const mdl_label *l)
{
    return text_size(l->name) + text_size(l->value);
}

size_t
wire_read_labels_size(mdl_labels labels)
{
    size_t size = 0;
    for (size_t i = 0; i < labels.n; i++)
        size += wire_nested_size(label_size(&labels.items[i]));
    return size;
}

static void
put_text(ps_buf *out, unsigned number, ps_str s)
{
    if (s.len == 0)
        return;
    wire_put_nested(out, number, s.len);
    ps_buf_add_str(out, s);
}

static void
put_labels(ps_buf *out, mdl_labels labels)
{
    for (size_t i = 0; i < labels.n; i++) {
        wire_put_nested(out, 1, label_size(&labels.items[i]));
        put_text(out, 1, labels.items[i].name);
        put_text(out, 2, labels.items[i].value);
    }
}

void
wire_read_put_sample(ps_buf *out, int64_t t_ms, double v)
{
    wire_put_nested(out, 2, wire_double_size(v) + wire_number_size(2, (uint64_t)t_ms));
    wire_put_double(out, 1, v);
    wire_put_number(out, 2, (uint64_t)t_ms);
}

void
wire_read_put_histogram(ps_buf *out, int64_t t_ms, const hst_hist *h)
{
    wire_histogram w = {.t_ms = t_ms, .histogram = h};
    wire_put_nested(out, 4, wire_histogram_size(&w, false));
    wire_put_histogram(out, &w, false);
}

void
wire_read_put_series(ps_buf *out, mdl_labels labels, ps_str points)
{
    wire_put_nested(out, 1, wire_read_labels_size(labels) + points.len);
    put_labels(out, labels);
    ps_buf_add_str(out, points);
}

void
wire_read_put_result(ps_buf *out, ps_str series)
{
    wire_put_nested(out, 1, series.len);
    ps_buf_add_str(out, series);
}

void
wire_read_put_chunk(ps_buf *out, const wire_read_chunk *c)
{
    size_t size = wire_number_size(1, (uint64_t)c->t_min_ms) +
                  wire_number_size(2, (uint64_t)c->t_max_ms) + wire_number_size(3, c->type) +
                  text_size(c->data);
    wire_put_nested(out, 2, size);
    wire_put_number(out, 1, (uint64_t)c->t_min_ms);
    wire_put_number(out, 2, (uint64_t)c->t_max_ms);
    wire_put_number(out, 3, c->type);
    put_text(out, 4, c->data);
}

ps_str
wire_read_cut_chunks(ps_str *rest, size_t max_bytes)
{
    const uint8_t *begin = (const uint8_t *)rest->ptr, *pos = begin, *end = begin + rest->len;
    wire_field f;
    do {
        if (wire_read_field(&pos, end, &f) != NULL)
            pos = end; /* not chunks of ours */
    } while (pos < end && (size_t)(pos - begin) < max_bytes);
    ps_str cut = {rest->ptr, (size_t)(pos - begin)};
    *rest = (ps_str){(const char *)pos, (size_t)(end - pos)};
    return cut;
}

void
wire_read_put_frame(ps_buf *out, size_t query, mdl_labels labels, ps_str chunks)
{
    size_t series = wire_read_labels_size(labels) + chunks.len;
    wire_put_varint(out, wire_nested_size(series) + wire_number_size(2, query));
    size_t at = out->len;
    ps_buf_add(out, "\0\0\0\0", 4);
    wire_put_nested(out, 1, series);
    put_labels(out, labels);
    ps_buf_add_str(out, chunks);
    wire_put_number(out, 2, query);
    if (out->failed)
        return;
    uint32_t crc = ps_crc32c(0, out->ptr + at + 4, out->len - at - 4);
    for (int i = 0; i < 4; i++)
        out->ptr[at + (size_t)i] = (char)(crc >> (24 - 8 * i));
}
