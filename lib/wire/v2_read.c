/*
 * v2_read.c - remote write 2.0, read in place.
 *
 *   Request    { symbols = 4: string, timeseries = 5: TimeSeries }
 *   TimeSeries { labels_refs = 1: uint32, samples = 2: Sample, histograms = 3: Histogram,
 *                exemplars = 4: Exemplar, metadata = 5: Metadata, created_timestamp = 6: int64 }
 *   Sample     { value = 1: double, timestamp = 2: int64, start_timestamp = 3: int64 }
 *   Exemplar   { labels_refs = 1: uint32, value = 2: double, timestamp = 3: int64 }
 *   Metadata   { type = 1, help_ref = 3: uint32, unit_ref = 4: uint32 }
 *
 * As in 1.0: the walk over a series checks every length in it, what picks parts out of it runs through
 * the same bounded functions. Symbols may stand anywhere, so they are gathered before the first series;
 * that pass hops over series by their lengths. References are numbers until somebody looks them up:
 * whether they are in range is the caller's question.
 */
#include "lib/wire/internal.h"

enum { REFS = 1, SAMPLES = 2, HISTOGRAMS = 3, EXEMPLARS = 4, METADATA = 5, CREATED = 6 };
enum { SYMBOLS = 4, SERIES = 5 };

static ps_status
corrupt(const wire_v2_reader *r, const uint8_t *at, const char *why, ps_err *err)
{
    size_t offset = (size_t)(at - r->begin);
    return ps_fail_at(err, PS_ECORRUPT, offset, "malformed write request: %s, at byte %zu", why,
                      offset);
}

/* ---- the table of symbols -------------------------------------------------------------------- */

/* Next field of the request; series and symbols without a call. */
static inline const char *
next_field(const uint8_t **pos, const uint8_t *end, wire_field *f)
{
    const uint8_t *p = *pos;
    if (PS_UNLIKELY(*p != WIRE_TAG(SYMBOLS, WIRE_LENGTH) && *p != WIRE_TAG(SERIES, WIRE_LENGTH)))
        return wire_read_field(pos, end, f);
    f->number = *p++ >> 3;
    f->type = WIRE_LENGTH;
    const char *why = wire_short_length(&p, end, &f->len);
    if (PS_UNLIKELY(why != NULL)) {
        *pos = p;
        return why;
    }
    f->data = p;
    *pos = p + f->len;
    return NULL;
}

/* Counts the symbols and checks the outermost framing. */
static ps_status
count_symbols(wire_v2_reader *r, size_t *ret_n, ps_err *err)
{
    const uint8_t *p = r->begin;
    size_t n = 0;
    while (p < r->end) {
        wire_field f;
        const uint8_t *start = p;
        const char *why = next_field(&p, r->end, &f);
        if (why != NULL)
            return corrupt(r, p, why, err);
        if ((f.number == SYMBOLS || f.number == SERIES) && f.type != WIRE_LENGTH)
            return corrupt(r, start, wire_wrong_type, err);
        if (f.number == SERIES && r->pos == NULL)
            r->pos = start;
        n += f.number == SYMBOLS;
    }
    *ret_n = n;
    return PS_OK;
}

ps_status
wire_v2_reader_init(wire_v2_reader *ret, ps_str message, size_t max_symbols, ps_arena *arena,
                    ps_err *err)
{
    wire_v2_reader r = {.begin = (const uint8_t *)message.ptr};
    size_t n = 0;
    r.end = message.len == 0 ? r.begin : r.begin + message.len;
    if (message.len > INT32_MAX)
        return ps_fail(err, PS_ELIMIT, "the write request is larger than 2 GiB");
    PS_TRY(count_symbols(&r, &n, err));
    if (n > max_symbols)
        return ps_fail(err, PS_ELIMIT, "the write request has %zu symbols, the limit is %zu", n,
                       max_symbols);
    ps_str *items = n == 0 ? NULL : ps_arena_new(arena, n * sizeof *items);
    if (n > 0 && items == NULL)
        return ps_fail(err, PS_ENOMEM, "out of memory");
    size_t filled = 0;
    for (const uint8_t *p = r.begin; p < r.end && filled < n;) {
        wire_field f;
        if (next_field(&p, r.end, &f) != NULL)
            break;
        if (f.number == SYMBOLS)
            items[filled++] = wire_field_str(&f);
    }
    if (n > 0 && items[0].len > 0)
        return ps_fail(err, PS_EINVAL, "the first symbol of the write request is not empty");
    if (r.pos == NULL)
        r.pos = r.end;
    r.symbols = (wire_v2_symbols){items, (uint32_t)n};
    *ret = r;
    return PS_OK;
}

/* ---- references ------------------------------------------------------------------------------- */

/* A reference that does not fit is one that is out of range. */
static inline uint32_t
ref_of(uint64_t v)
{
    return v > UINT32_MAX ? UINT32_MAX : (uint32_t)v;
}

/* How many bytes have no high bit. */
static inline uint32_t
count_ends(const uint8_t *p, size_t len)
{
    size_t n = len;
    for (; len >= 8; len -= 8, p += 8)
        n -= (size_t)__builtin_popcountll(ps_get_u64le(p) & UINT64_C(0x8080808080808080));
    for (; len > 0; len--, p++)
        n -= *p >> 7;
    return (uint32_t)n;
}

/* How many numbers there are in packed ones: they end where a byte has no high bit. One that is too
 * long for a number is found when it is read. */
static const char *
count_refs(const wire_field *f, uint32_t *n)
{
    if (f->type == WIRE_VARINT) {
        (*n)++;
        return NULL;
    }
    if (f->type != WIRE_LENGTH)
        return wire_wrong_type;
    if (f->len > 0 && f->data[f->len - 1] >= 0x80)
        return "the message ends within a number";
    *n += count_ends(f->data, f->len);
    return NULL;
}

/* Appends the references of one field; there is room for max. */
static uint32_t
read_refs(const wire_field *f, uint32_t *refs, uint32_t n, uint32_t max)
{
    if (f->type == WIRE_VARINT) {
        if (n < max)
            refs[n++] = ref_of(f->value);
        return n;
    }
    return n + wire_v2_read_refs(wire_field_str(f), refs + n, max - n);
}

uint32_t
wire_v2_read_refs(ps_str packed, uint32_t *refs, uint32_t max)
{
    const uint8_t *p = (const uint8_t *)packed.ptr, *end = p + packed.len;
    uint32_t n = 0;
    while (n < max && end - p >= 2) { /* one or two bytes, without a branch between them */
        uint32_t two = p[0] >> 7;
        if (PS_UNLIKELY(two && p[1] >= 0x80))
            break;
        refs[n++] = (p[0] & 0x7Fu) | ((uint32_t)p[1] << 7 & (0u - two));
        p += 1 + two;
    }
    while (n < max && p < end) {
        uint64_t v;
        const uint8_t *start = p;
        if (wire_read_varint(&p, end, &v) != NULL) {
            v = UINT64_MAX;
            for (p = start; p < end && *p >= 0x80;)
                p++;
            p += p < end;
        }
        refs[n++] = ref_of(v);
    }
    return n;
}

/* ---- samples, exemplars, metadata ------------------------------------------------------------- */

static const char *
parse_sample_any(const uint8_t *p, const uint8_t *end, wire_sample *ret)
{
    wire_sample s = {0};
    while (p < end) {
        wire_field f;
        const char *why = wire_read_field(&p, end, &f);
        if (why != NULL)
            return why;
        if (f.number > 3)
            continue;
        if (f.type != (f.number == 1 ? WIRE_FIXED64 : WIRE_VARINT))
            return wire_wrong_type;
        if (f.number == 1)
            s.value = ps_double_of(f.value);
        else if (f.number == 2)
            s.t_ms = (int64_t)f.value;
        else
            s.start_ms = (int64_t)f.value;
    }
    *ret = s;
    return NULL;
}

static inline const char *
parse_sample(const uint8_t *p, const uint8_t *end, wire_sample *ret)
{
    if (PS_LIKELY(wire_plain_sample(p, (size_t)(end - p), ret)))
        return NULL;
    return parse_sample_any(p, end, ret);
}

/* refs may be NULL: then they are only counted. */
static const char *
parse_exemplar(const uint8_t *p, const uint8_t *end, wire_v2_exemplar *ret, uint32_t *refs,
               uint32_t max_refs)
{
    wire_v2_exemplar e = {.value = 0};
    while (p < end) {
        wire_field f;
        const char *why = wire_read_field(&p, end, &f);
        if (why != NULL)
            return why;
        if (f.number == 1) {
            if (refs != NULL)
                read_refs(&f, refs, e.n_refs, max_refs);
            why = count_refs(&f, &e.n_refs);
        } else if (f.number == 2) {
            why = f.type == WIRE_FIXED64 ? NULL : wire_wrong_type;
            e.value = ps_double_of(f.value);
        } else if (f.number == 3) {
            why = f.type == WIRE_VARINT ? NULL : wire_wrong_type;
            e.t_ms = (int64_t)f.value;
        }
        if (why != NULL)
            return why;
    }
    *ret = e;
    return NULL;
}

static const char *
parse_metadata(const uint8_t *p, const uint8_t *end, wire_v2_series *s)
{
    s->has_metadata = true;
    while (p < end) {
        wire_field f;
        if (PS_LIKELY(end - p >= 2 && p[1] < 0x80 &&
                      (p[0] == 0x08 || p[0] == 0x18 || p[0] == 0x20))) {
            *(p[0] == 0x08 ? &s->type : p[0] == 0x18 ? &s->help_ref : &s->unit_ref) = p[1];
            p += 2;
            continue;
        }
        if (PS_LIKELY(end - p >= 3 && p[2] < 0x80 && (p[0] == 0x18 || p[0] == 0x20))) {
            *(p[0] == 0x18 ? &s->help_ref : &s->unit_ref) = (p[1] & 0x7Fu) | (uint32_t)p[2] << 7;
            p += 3;
            continue;
        }
        const char *why = wire_read_field(&p, end, &f);
        if (why != NULL)
            return why;
        if (f.number != 1 && f.number != 3 && f.number != 4)
            continue;
        if (f.type != WIRE_VARINT)
            return wire_wrong_type;
        *(f.number == 1 ? &s->type : f.number == 3 ? &s->help_ref : &s->unit_ref) = ref_of(f.value);
    }
    return NULL;
}

/* ---- one TimeSeries ---------------------------------------------------------------------------- */

static const char *
scan_part(const wire_field *f, wire_v2_series *s)
{
    const uint8_t *p = f->data, *end = f->data + f->len;
    wire_sample sample;
    wire_v2_exemplar exemplar;
    const char *why = NULL;
    if (f->number == SAMPLES) {
        s->n_samples++;
        return parse_sample(p, end, &sample);
    }
    if (f->number == EXEMPLARS) {
        s->n_exemplars++;
        return parse_exemplar(p, end, &exemplar, NULL, 0);
    }
    if (f->number == METADATA)
        return parse_metadata(p, end, s);
    s->n_histograms++;
    while (p < end && why == NULL) { /* their inside is read later */
        wire_field inner;
        why = wire_read_field(&p, end, &inner);
    }
    return why;
}

static const char *
scan_field(const wire_field *f, wire_v2_series *s)
{
    if (f->number == REFS) {
        /* Usually there is one field, and wire_v2_refs needs not look for it. */
        s->ref_bytes =
            s->n_refs == 0 && f->type == WIRE_LENGTH ? wire_field_str(f) : (ps_str){NULL, 0};
        return count_refs(f, &s->n_refs);
    }
    if (f->number == CREATED) {
        s->created_ms = (int64_t)f->value;
        return f->type == WIRE_VARINT ? NULL : wire_wrong_type;
    }
    if (f->number > CREATED)
        return NULL;
    return f->type == WIRE_LENGTH ? scan_part(f, s) : wire_wrong_type;
}

static const char *
scan_series(const uint8_t **pos, const uint8_t *end, wire_v2_series *ret)
{
    wire_v2_series s = {.bytes = {(const char *)*pos, (size_t)(end - *pos)}};
    while (*pos < end) {
        wire_field f;
        const uint8_t *p = *pos;
        if (PS_LIKELY(end - p >= 2 && (p[0] & 7) == WIRE_LENGTH && p[0] < 0x40 && p[1] < 0x80 &&
                      p[1] <= end - p - 2)) {
            f = (wire_field){.number = p[0] >> 3, .type = WIRE_LENGTH, .data = p + 2, .len = p[1]};
            p += 2 + p[1];
        } else {
            const char *why = wire_read_field(&p, end, &f);
            if (why != NULL) {
                *pos = p;
                return why;
            }
        }
        if (f.number == SAMPLES && s.n_samples == 0)
            s.samples_at = (uint32_t)(*pos - (const uint8_t *)s.bytes.ptr);
        const char *why = f.number == 0 ? "a field number is out of range" : scan_field(&f, &s);
        if (PS_UNLIKELY(why != NULL))
            return why;
        *pos = p;
    }
    *ret = s;
    return NULL;
}

ps_status
wire_v2_next(wire_v2_reader *r, bool *ret_any, wire_v2_series *ret, ps_err *err)
{
    const uint8_t *p = r->pos;
    while (p < r->end) {
        wire_field f;
        const char *why = next_field(&p, r->end, &f);
        if (PS_UNLIKELY(why != NULL))
            return corrupt(r, p, why, err);
        if (f.number != SERIES)
            continue;
        const uint8_t *at = f.data;
        why = scan_series(&at, f.data + f.len, ret);
        if (PS_UNLIKELY(why != NULL))
            return corrupt(r, at, why, err);
        r->pos = p;
        *ret_any = true;
        return PS_OK;
    }
    r->pos = p;
    *ret_any = false;
    return PS_OK;
}

/* ---- picking out ------------------------------------------------------------------------------- */

void
wire_v2_refs(const wire_v2_series *s, uint32_t *refs)
{
    if (PS_LIKELY(s->ref_bytes.len > 0)) {
        wire_v2_read_refs(s->ref_bytes, refs, s->n_refs);
        return;
    }
    wire_parts at = wire_parts_of(s->bytes);
    uint32_t n = 0;
    wire_field f;
    while (at.pos < at.end && wire_read_field(&at.pos, at.end, &f) == NULL) {
        if (f.number == REFS)
            n = read_refs(&f, refs, n, s->n_refs);
    }
}

void
wire_v2_samples(const wire_v2_series *s, wire_sample *samples)
{
    wire_parts at = wire_parts_of(s->bytes);
    const uint8_t *p;
    const uint8_t *end;
    at.pos += s->samples_at;
    uint32_t n = 0;
    while (n < s->n_samples && wire_next_part(&at, SAMPLES, &p, &end)) {
        if (parse_sample(p, end, &samples[n]) != NULL)
            return;
        if (samples[n].start_ms == 0)
            samples[n].start_ms = s->created_ms;
        n++;
    }
}

ps_status
wire_v2_histograms(const wire_v2_series *s, ps_arena *arena, wire_histogram *histograms,
                   ps_err *err)
{
    wire_parts at = wire_parts_of(s->bytes);
    const uint8_t *p;
    const uint8_t *end;
    uint32_t n = 0;
    while (n < s->n_histograms && wire_next_part(&at, HISTOGRAMS, &p, &end)) {
        PS_TRY(wire_read_histogram((ps_str){(const char *)p, (size_t)(end - p)}, true, arena,
                                   &histograms[n], err));
        if (histograms[n].start_ms == 0)
            histograms[n].start_ms = s->created_ms;
        n++;
    }
    return PS_OK;
}

ps_status
wire_v2_exemplars(const wire_v2_series *s, wire_v2_exemplar *exemplars, uint32_t *refs,
                  size_t max_refs, ps_err *err)
{
    wire_parts at = wire_parts_of(s->bytes);
    const uint8_t *p;
    const uint8_t *end;
    size_t used = 0;
    uint32_t n = 0;
    while (n < s->n_exemplars && wire_next_part(&at, EXEMPLARS, &p, &end)) {
        size_t left = max_refs - used;
        wire_v2_exemplar e;
        const char *why = parse_exemplar(p, end, &e, refs == NULL ? NULL : refs + used,
                                         left > UINT32_MAX ? UINT32_MAX : (uint32_t)left);
        if (why != NULL)
            return ps_fail(err, PS_ECORRUPT, "malformed exemplar: %s", why);
        if (e.n_refs > left)
            return ps_fail(err, PS_ELIMIT,
                           "the exemplars of a series have more than %zu references", max_refs);
        e.first_ref = (uint32_t)used;
        exemplars[n++] = e;
        used += e.n_refs;
    }
    return PS_OK;
}
