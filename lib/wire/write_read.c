/*
 * write_read.c - remote write 1.0, read in place: the hottest code that we have.
 *
 *   WriteRequest { timeseries = 1: TimeSeries, metadata = 3: MetricMetadata } TimeSeries   { labels
 *   = 1: Label, samples = 2: Sample, exemplars = 3: Exemplar, histograms = 4 } Label        { name
 *   = 1, value = 2 }       Sample { value = 1: double, timestamp = 2: int64 } Exemplar     { labels
 *   = 1: Label, value = 2: double, timestamp = 3: int64 } MetricMetadata { type = 1,
 *   metric_family_name = 2, help = 4, unit = 5 }
 *
 * wire_write_next walks one TimeSeries to the bottom: after it returned PS_OK every length inside
 * is known to be right, and wire_series_* only pick out what is there (through the same bounded
 * functions, so a series that was never accepted cannot make them read astray either).
 *
 * The idea: senders write fields in order, with lengths below 128 and times of six bytes. Such
 * labels and samples are recognised by comparing two or three bytes; whatever else the format
 * allows (long strings, other orders, repeated and unknown fields, values left out because they are
 * zero) takes the general reader in protobuf.c. Both give the same result, so speed depends on the
 * sender and meaning does not. Nothing is allocated; all slices borrow the message.
 */
#include "lib/wire/internal.h"

/* ---- label, sample, exemplar: data[0..end) is the whole submessage -------------------------- */

static const char *
parse_label_any(const uint8_t **pos, const uint8_t *end, mdl_label *ret)
{
    mdl_label label = {{NULL, 0}, {NULL, 0}};
    while (*pos < end) {
        wire_field f;
        const uint8_t *start = *pos;
        const char *why = wire_read_field(pos, end, &f);
        if (why != NULL)
            return why;
        if (f.number != 1 && f.number != 2)
            continue;
        if (f.type != WIRE_LENGTH) {
            *pos = start;
            return wire_wrong_type;
        }
        if (f.number == 1)
            label.name = wire_field_str(&f);
        else
            label.value = wire_field_str(&f);
    }
    *ret = label;
    return NULL;
}

/*
 * The shape that senders write: name, then value, nothing else, both below 128 bytes. Reads tag and
 * length of each in one load.
 */
static inline bool
plain_label(const uint8_t *p, size_t len, mdl_label *ret)
{
    if (PS_UNLIKELY(len < 4))
        return false;
    unsigned name = ps_get_u16le(p);
    size_t name_len = name >> 8;
    if (PS_UNLIKELY((name & 0x80FF) != WIRE_TAG(1, WIRE_LENGTH) || name_len + 4 > len))
        return false;
    unsigned value = ps_get_u16le(p + 2 + name_len);
    size_t value_len = value >> 8;
    if (PS_UNLIKELY((value & 0x80FF) != WIRE_TAG(2, WIRE_LENGTH) ||
                    name_len + value_len + 4 != len))
        return false;
    ret->name = (ps_str){(const char *)p + 2, name_len};
    ret->value = (ps_str){(const char *)p + 4 + name_len, value_len};
    return true;
}

static inline const char *
parse_label(const uint8_t **pos, const uint8_t *end, mdl_label *ret)
{
    if (PS_LIKELY(plain_label(*pos, (size_t)(end - *pos), ret))) {
        *pos = end;
        return NULL;
    }
    return parse_label_any(pos, end, ret);
}

/* Value and time are fields `value_number` and the one after it, in samples and in exemplars. */
static bool
take_point(const wire_field *f, uint32_t value_number, wire_sample *point, const char **why)
{
    if (f->number == value_number) {
        *why = f->type == WIRE_FIXED64 ? NULL : wire_wrong_type;
        point->value = ps_double_of(f->value);
    } else if (f->number == value_number + 1) {
        *why = f->type == WIRE_VARINT ? NULL : wire_wrong_type;
        point->t_ms = (int64_t)f->value;
    } else {
        return false;
    }
    return true;
}

static const char *
parse_sample_any(const uint8_t **pos, const uint8_t *end, wire_sample *ret)
{
    wire_sample sample = {0};
    while (*pos < end) {
        wire_field f;
        const uint8_t *start = *pos;
        const char *why = wire_read_field(pos, end, &f);
        if (why != NULL)
            return why;
        if (take_point(&f, 1, &sample, &why) && why != NULL) {
            *pos = start;
            return why;
        }
    }
    *ret = sample;
    return NULL;
}

static inline const char *
parse_sample(const uint8_t **pos, const uint8_t *end, wire_sample *ret)
{
    if (PS_LIKELY(wire_plain_sample(*pos, (size_t)(end - *pos), ret))) {
        *pos = end;
        return NULL;
    }
    return parse_sample_any(pos, end, ret);
}

/* labels may be NULL: then they are only counted. At most max_labels are stored. */
static const char *
parse_exemplar(const uint8_t **pos, const uint8_t *end, wire_sample *point, mdl_label *labels,
               size_t max_labels, size_t *ret_n)
{
    size_t n = 0;
    *point = (wire_sample){0};
    while (*pos < end) {
        wire_field f;
        const uint8_t *start = *pos;
        const char *why = wire_read_field(pos, end, &f);
        if (why != NULL)
            return why;
        if (take_point(&f, 2, point, &why)) {
            if (why != NULL) {
                *pos = start;
                return why;
            }
            continue;
        }
        if (f.number != 1)
            continue;
        if (f.type != WIRE_LENGTH) {
            *pos = start;
            return wire_wrong_type;
        }
        mdl_label label;
        const uint8_t *p = f.data;
        why = parse_label(&p, f.data + f.len, &label);
        if (why != NULL) {
            *pos = p;
            return why;
        }
        if (labels != NULL && n < max_labels)
            labels[n] = label;
        n++;
    }
    *ret_n = n;
    return NULL;
}

/* Histograms are counted, not decoded: only their outer fields are walked. */
static const char *
skip_fields(const uint8_t **pos, const uint8_t *end)
{
    while (*pos < end) {
        wire_field f;
        const char *why = wire_read_field(pos, end, &f);
        if (why != NULL)
            return why;
    }
    return NULL;
}

/* ---- one TimeSeries ------------------------------------------------------------------------ */

/* n labels stand between start and end, and nothing else. */
static inline void
note_labels(wire_series *s, const uint8_t *start, const uint8_t *end, uint32_t n, bool *contiguous)
{
    if (s->n_labels == 0)
        s->label_bytes.ptr = (const char *)start;
    else if ((const char *)start != s->label_bytes.ptr + s->label_bytes.len)
        *contiguous = false;
    s->label_bytes.len = (size_t)((const char *)end - s->label_bytes.ptr);
    s->n_labels += n;
}

/*
 * If a field with this tag and a length below 128 stands at p, sets *ret_len to the length of its
 * content, which begins at p + 2 and ends within `end`.
 */
static inline bool
plain_field(const uint8_t *p, const uint8_t *end, unsigned tag, size_t *ret_len)
{
    if (end - p < 2)
        return false;
    unsigned head = ps_get_u16le(p);
    *ret_len = head >> 8;
    return (head & 0x80FF) == tag && (size_t)(end - p) - 2 >= head >> 8;
}

/* Passes as many plain labels as stand at p; returns where they end. */
static inline const uint8_t *
pass_plain_labels(const uint8_t *p, const uint8_t *end, uint32_t *ret_n)
{
    uint32_t n = 0;
    size_t len;
    mdl_label label;
    while (plain_field(p, end, WIRE_TAG(1, WIRE_LENGTH), &len) && plain_label(p + 2, len, &label)) {
        p += 2 + len;
        n++;
    }
    *ret_n = n;
    return p;
}

/* One field of any kind in any shape. */
static const char *
scan_any(const uint8_t **pos, const uint8_t *end, wire_series *s, bool *contiguous)
{
    const uint8_t *start = *pos;
    wire_field f;
    const char *why = wire_read_field(pos, end, &f);
    if (why != NULL || f.number > 4)
        return why;
    const uint8_t *after = *pos;
    *pos = start;
    if (f.type != WIRE_LENGTH)
        return wire_wrong_type;
    const uint8_t *p = f.data;
    mdl_label label;
    wire_sample sample;
    size_t n;
    if (f.number == 1) {
        why = parse_label(&p, after, &label);
        note_labels(s, start, after, 1, contiguous);
    } else if (f.number == 2) {
        why = parse_sample(&p, after, &sample);
        s->n_samples++;
    } else if (f.number == 3) {
        why = parse_exemplar(&p, after, &sample, NULL, 0, &n);
        s->n_exemplars++;
    } else {
        why = skip_fields(&p, after);
        s->n_histograms++;
    }
    *pos = why == NULL ? after : p;
    return why;
}

static const char *
scan_series(const uint8_t **pos, const uint8_t *end, wire_series *ret)
{
    const uint8_t *p = *pos;
    wire_series s = {.bytes = {(const char *)p, (size_t)(end - p)}};
    bool contiguous = true;
    const char *why = NULL;
    while (p < end && why == NULL) {
        uint32_t n;
        size_t len;
        wire_sample sample;
        const uint8_t *after = pass_plain_labels(p, end, &n);
        if (n > 0) {
            note_labels(&s, p, after, n, &contiguous);
            p = after;
        } else if (PS_LIKELY(plain_field(p, end, WIRE_TAG(2, WIRE_LENGTH), &len) &&
                             wire_plain_sample(p + 2, len, &sample))) {
            s.n_samples++;
            p += 2 + len;
        } else {
            why = scan_any(&p, end, &s, &contiguous);
        }
    }
    *pos = p;
    if (PS_UNLIKELY(why != NULL))
        return why;
    if (!contiguous)
        s.label_bytes = (ps_str){NULL, 0};
    *ret = s;
    return NULL;
}

static const char *
parse_metadata(const uint8_t **pos, const uint8_t *end, wire_metadata *ret)
{
    wire_metadata m = {.type = WIRE_METRIC_UNKNOWN};
    while (*pos < end) {
        wire_field f;
        const uint8_t *start = *pos;
        const char *why = wire_read_field(pos, end, &f);
        if (why != NULL)
            return why;
        ps_str *text = f.number == 2   ? &m.family
                       : f.number == 4 ? &m.help
                       : f.number == 5 ? &m.unit
                                       : NULL;
        if ((text != NULL && f.type != WIRE_LENGTH) || (f.number == 1 && f.type != WIRE_VARINT)) {
            *pos = start;
            return wire_wrong_type;
        }
        if (text != NULL)
            *text = wire_field_str(&f);
        else if (f.number == 1)
            m.type =
                f.value < WIRE_METRIC_TYPE_MAX ? (wire_metric_type)f.value : WIRE_METRIC_UNKNOWN;
    }
    *ret = m;
    return NULL;
}

/* ---- the request --------------------------------------------------------------------------- */

void
wire_write_reader_init(wire_write_reader *r, ps_str message)
{
    r->begin = (const uint8_t *)message.ptr;
    r->pos = r->begin;
    r->end = message.len == 0 ? r->begin : r->begin + message.len;
}

static ps_status
corrupt(const wire_write_reader *r, const uint8_t *at, const char *why, ps_err *err)
{
    size_t offset = (size_t)(at - r->begin);
    return ps_fail_at(err, PS_ECORRUPT, offset, "malformed write request: %s, at byte %zu", why,
                      offset);
}

/* The reader moves on success only, so asking again after an error gives the same error. */
ps_status
wire_write_next(wire_write_reader *r, wire_item *ret_item, wire_series *ret_series,
                wire_metadata *ret_metadata, ps_err *err)
{
    const uint8_t *p = r->pos;
    const uint8_t *end = r->end;
    if (PS_UNLIKELY((size_t)(end - r->begin) > INT32_MAX))
        return ps_fail(err, PS_ELIMIT, "the write request is larger than 2 GiB");
    while (p < end) {
        wire_field f;
        const char *why;
        const uint8_t *start = p;
        if (PS_LIKELY(*p == WIRE_TAG(1, WIRE_LENGTH))) {
            f.number = 1;
            f.type = WIRE_LENGTH;
            p++;
            why = wire_short_length(&p, end, &f.len);
            f.data = p;
        } else {
            why = wire_read_field(&p, end, &f);
        }
        if (PS_UNLIKELY(why != NULL))
            return corrupt(r, p, why, err);
        if (f.number != 1 && f.number != 3)
            continue;
        if (PS_UNLIKELY(f.type != WIRE_LENGTH))
            return corrupt(r, start, wire_wrong_type, err);
        p = f.data;
        const uint8_t *after = p + f.len;
        why = f.number == 1 ? scan_series(&p, after, ret_series)
                            : parse_metadata(&p, after, ret_metadata);
        if (PS_UNLIKELY(why != NULL))
            return corrupt(r, p, why, err);
        r->pos = after;
        *ret_item = f.number == 1 ? WIRE_SERIES : WIRE_METADATA;
        return PS_OK;
    }
    r->pos = end;
    *ret_item = WIRE_END;
    return PS_OK;
}

/* ---- picking out --------------------------------------------------------------------------- */

void
wire_series_labels(const wire_series *s, mdl_label *labels)
{
    wire_parts at = wire_parts_of(s->label_bytes.len > 0 ? s->label_bytes : s->bytes);
    const uint8_t *p;
    const uint8_t *end;
    uint32_t n = 0;
    while (n < s->n_labels && wire_next_part(&at, 1, &p, &end)) {
        if (parse_label(&p, end, &labels[n]) != NULL)
            return;
        n++;
    }
}

void
wire_series_samples(const wire_series *s, wire_sample *samples)
{
    wire_parts at = wire_parts_of(s->bytes);
    const uint8_t *p;
    const uint8_t *end;
    uint32_t n = 0;
    if (s->label_bytes.ptr == s->bytes.ptr)
        at.pos += s->label_bytes.len;
    while (n < s->n_samples && wire_next_part(&at, 2, &p, &end)) {
        if (parse_sample(&p, end, &samples[n]) != NULL)
            return;
        n++;
    }
}

ps_status
wire_series_histograms(const wire_series *s, ps_arena *arena, wire_histogram *histograms,
                       ps_err *err)
{
    wire_parts at = wire_parts_of(s->bytes);
    const uint8_t *p;
    const uint8_t *end;
    uint32_t n = 0;
    while (n < s->n_histograms && wire_next_part(&at, 4, &p, &end)) {
        PS_TRY(wire_read_histogram((ps_str){(const char *)p, (size_t)(end - p)}, false, arena,
                                   &histograms[n], err));
        n++;
    }
    return PS_OK;
}

ps_status
wire_series_exemplars(const wire_series *s, wire_exemplar *exemplars, mdl_label *labels,
                      size_t max_labels, ps_err *err)
{
    wire_parts at = wire_parts_of(s->bytes);
    const uint8_t *p;
    const uint8_t *end;
    uint32_t n = 0;
    size_t used = 0;
    while (n < s->n_exemplars && wire_next_part(&at, 3, &p, &end)) {
        wire_sample point;
        size_t n_labels;
        const char *why = parse_exemplar(&p, end, &point, labels == NULL ? NULL : labels + used,
                                         max_labels - used, &n_labels);
        if (why != NULL)
            return ps_fail(err, PS_ECORRUPT, "malformed exemplar: %s", why);
        if (n_labels > max_labels - used)
            return ps_fail(err, PS_ELIMIT, "the exemplars of a series have more than %zu labels",
                           max_labels);
        exemplars[n++] = (wire_exemplar){.labels = labels == NULL ? NULL : labels + used,
                                         .n_labels = n_labels,
                                         .t_ms = point.t_ms,
                                         .value = point.value};
        used += n_labels;
    }
    return PS_OK;
}

const char *
wire_metric_type_name(wire_metric_type type)
{
    static const char *const names[WIRE_METRIC_TYPE_MAX] = {
        "unknown", "counter", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset",
    };
    return (unsigned)type < WIRE_METRIC_TYPE_MAX ? names[type] : names[WIRE_METRIC_UNKNOWN];
}
