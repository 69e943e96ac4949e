/*
 * histogram_read.c - one Histogram message of either version becomes a hst_hist.
 *
 *   Histogram { count_int = 1 | count_float = 2, sum = 3, schema = 4, zero_threshold = 5,
 *               zero_count_int = 6 | zero_count_float = 7, negative_spans = 8, negative_deltas = 9,
 *               negative_counts = 10, positive_spans = 11, positive_deltas = 12,
 *               positive_counts = 13, reset_hint = 14, timestamp = 15, custom_values = 16,
 *               start_timestamp = 17 (2.0 only) }
 *   BucketSpan { offset = 1, length = 2 }
 *
 * Twice over the message: first to learn how much there is, then to write it into one allocation,
 * whose size is bounded by the message's (eight bytes for each of its bytes at worst), never by a
 * number in it. Integers are added up as integers, so that counts which a double does not hold are
 * compared exactly; histograms with such counts go on as floats. Schemas above 8 are reduced while
 * buckets are read, since their indexes would not fit. A histogram that makes no sense is no error:
 * it comes back without contents and with the reason.
 */
#include "lib/wire/internal.h"

enum { SCHEMA_RESERVED_MAX = 52 };
#define EXACT_MAX (UINT64_C(1) << 53) /* integers up to here are doubles */

enum { NEGATIVE, POSITIVE };

static const uint32_t spans_number[] = {[NEGATIVE] = 8, [POSITIVE] = 11};
static const uint32_t deltas_number[] = {[NEGATIVE] = 9, [POSITIVE] = 12};
static const uint32_t counts_number[] = {[NEGATIVE] = 10, [POSITIVE] = 13};
enum { BOUNDS_NUMBER = 16 };

typedef struct raw { /* what is not repeated, and how much there is of what is */
    uint64_t count_int, zero_int;
    double count_float, zero_float, sum, zero_threshold;
    bool is_float, zero_is_float;
    int32_t schema;
    hst_hint hint;
    int64_t t_ms, start_ms;
    size_t n_spans[2], n_deltas[2], n_counts[2], n_bounds;
} raw;

static int64_t
unzigzag(uint64_t v)
{
    return (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
}

static int32_t
unzigzag32(uint64_t v)
{
    uint32_t u = (uint32_t)v;
    return (int32_t)(u >> 1) ^ -(int32_t)(u & 1);
}

/* ---- first pass ------------------------------------------------------------------------------ */

/* How many numbers a repeated field holds; packed or not. */
static const char *
count_varints(const wire_field *f, size_t *n)
{
    if (f->type == WIRE_VARINT) {
        (*n)++;
        return NULL;
    }
    if (f->type != WIRE_LENGTH)
        return wire_wrong_type;
    const uint8_t *p = f->data, *end = f->data + f->len;
    while (p < end) {
        uint64_t v;
        const char *why = wire_read_varint(&p, end, &v);
        if (why != NULL)
            return why;
        (*n)++;
    }
    return NULL;
}

static const char *
count_doubles(const wire_field *f, size_t *n)
{
    if (f->type == WIRE_FIXED64) {
        (*n)++;
        return NULL;
    }
    if (f->type != WIRE_LENGTH)
        return wire_wrong_type;
    if (f->len % 8 != 0)
        return "the message ends within a number";
    *n += f->len / 8;
    return NULL;
}

static const char *
take_scalar(raw *r, const wire_field *f)
{
    static const uint8_t types[18] = {
        [1] = WIRE_VARINT,  [2] = WIRE_FIXED64, [3] = WIRE_FIXED64, [4] = WIRE_VARINT,
        [5] = WIRE_FIXED64, [6] = WIRE_VARINT,  [7] = WIRE_FIXED64, [14] = WIRE_VARINT,
        [15] = WIRE_VARINT, [17] = WIRE_VARINT,
    };
    if (f->type != types[f->number])
        return wire_wrong_type;
    switch (f->number) {
    case 1:
        r->count_int = f->value;
        r->is_float = false;
        break;
    case 2:
        r->count_float = ps_double_of(f->value);
        r->is_float = true;
        break;
    case 3:
        r->sum = ps_double_of(f->value);
        break;
    case 4:
        r->schema = unzigzag32(f->value);
        break;
    case 5:
        r->zero_threshold = ps_double_of(f->value);
        break;
    case 6:
        r->zero_int = f->value;
        r->zero_is_float = false;
        break;
    case 7:
        r->zero_float = ps_double_of(f->value);
        r->zero_is_float = true;
        break;
    case 14:
        r->hint = f->value <= HST_GAUGE ? (hst_hint)f->value : HST_UNKNOWN;
        break;
    case 15:
        r->t_ms = (int64_t)f->value;
        break;
    default:
        r->start_ms = (int64_t)f->value;
        break;
    }
    return NULL;
}

static const char *
take_field(raw *r, const wire_field *f)
{
    for (int side = NEGATIVE; side <= POSITIVE; side++) {
        if (f->number == spans_number[side]) {
            r->n_spans[side]++;
            return f->type == WIRE_LENGTH ? NULL : wire_wrong_type;
        }
        if (f->number == deltas_number[side])
            return count_varints(f, &r->n_deltas[side]);
        if (f->number == counts_number[side])
            return count_doubles(f, &r->n_counts[side]);
    }
    if (f->number == BOUNDS_NUMBER)
        return count_doubles(f, &r->n_bounds);
    return f->number <= 17 ? take_scalar(r, f) : NULL;
}

/* Every field, so that the time is known even if something is wrong. */
static const char *
look(ps_str message, raw *r)
{
    wire_parts at = wire_parts_of(message);
    const char *first = NULL;
    while (at.pos < at.end) {
        wire_field f;
        const char *why = wire_read_field(&at.pos, at.end, &f);
        if (why != NULL)
            return why;
        why = take_field(r, &f);
        if (first == NULL)
            first = why;
    }
    return first;
}

/* ---- second pass ----------------------------------------------------------------------------- */

typedef struct filling { /* the one allocation, filled */
    hst_hist *h;
    hst_span *spans[2];
    double *counts[2];
    double *bounds;
    size_t n_spans[2], n_counts[2], n_bounds;
    int64_t last[2]; /* running population, of deltas */
    uint64_t total;  /* of integer buckets */
    const char *why; /* the first thing that is wrong */
} filling;

static void
read_span(const wire_field *f, filling *o, int side)
{
    wire_parts at = {f->data, f->data + f->len};
    hst_span span = {0, 0};
    while (at.pos < at.end) {
        wire_field part;
        const char *why = wire_read_field(&at.pos, at.end, &part);
        if (why == NULL && part.number <= 2 && part.type != WIRE_VARINT)
            why = wire_wrong_type;
        if (why != NULL) {
            o->why = why;
            return;
        }
        if (part.number == 1)
            span.offset = unzigzag32(part.value);
        else if (part.number == 2)
            span.length = (uint32_t)part.value;
    }
    o->spans[side][o->n_spans[side]++] = span;
}

static void
put_delta(filling *o, int side, uint64_t v)
{
    int64_t n;
    if (__builtin_add_overflow(o->last[side], unzigzag(v), &n) || n < 0) {
        o->why = "histogram has a bucket whose observation count is negative";
        return;
    }
    if (__builtin_add_overflow(o->total, (uint64_t)n, &o->total))
        o->why = "histogram has more observations than can be counted";
    o->last[side] = n;
    o->counts[side][o->n_counts[side]++] = (double)n;
}

static void
read_deltas(const wire_field *f, filling *o, int side)
{
    if (f->type == WIRE_VARINT) {
        put_delta(o, side, f->value);
        return;
    }
    const uint8_t *p = f->data, *end = f->data + f->len;
    uint64_t v;
    while (p < end && o->why == NULL && wire_read_varint(&p, end, &v) == NULL)
        put_delta(o, side, v);
}

static void
read_doubles(const wire_field *f, double *to, size_t *n)
{
    if (f->type == WIRE_FIXED64) {
        to[(*n)++] = ps_double_of(f->value);
        return;
    }
    if (f->len > 0)
        memcpy(to + *n, f->data, f->len); /* little-endian, as we are */
    *n += f->len / 8;
}

static void
fill_field(const wire_field *f, bool is_float, filling *o)
{
    for (int side = NEGATIVE; side <= POSITIVE; side++) {
        if (f->number == spans_number[side])
            read_span(f, o, side);
        else if (f->number == deltas_number[side] && !is_float)
            read_deltas(f, o, side);
        else if (f->number == counts_number[side] && is_float)
            read_doubles(f, o->counts[side], &o->n_counts[side]);
    }
    if (f->number == BOUNDS_NUMBER)
        read_doubles(f, o->bounds, &o->n_bounds);
}

static void
fill(ps_str message, bool is_float, filling *o)
{
    wire_parts at = wire_parts_of(message);
    wire_field f;
    while (at.pos < at.end && o->why == NULL && wire_read_field(&at.pos, at.end, &f) == NULL)
        fill_field(&f, is_float, o);
}

static bool
allocate(ps_arena *arena, const raw *r, filling *o)
{
    const size_t *n_counts = r->is_float ? r->n_counts : r->n_deltas;
    size_t units = r->n_spans[0] + r->n_spans[1] + n_counts[0] + n_counts[1] + r->n_bounds;
    hst_hist *h = ps_arena_new(arena, sizeof *h + 8 * units); /* units < bytes of the message */
    if (h == NULL)
        return false;
    *o = (filling){.h = h};
    char *at = (char *)(h + 1);
    for (int side = POSITIVE; side >= NEGATIVE; side--) {
        o->spans[side] = (hst_span *)at;
        at += 8 * r->n_spans[side];
        o->counts[side] = (double *)at;
        at += 8 * n_counts[side];
    }
    o->bounds = (double *)at;
    return true;
}

/* ---- schemas 9 to 52 -------------------------------------------------------------------------- */

/*
 * Several buckets of a high schema are one of schema 8, and whole spans may fall into it; so spans and
 * populations shrink in place. What is written never overtakes what is read.
 */
static const char *
reduce_side(hst_span *spans, size_t *n_spans, double *counts, size_t *n_counts, int32_t shift)
{
    int64_t index = 0, next = 0;
    size_t in = 0, span_out = 0, out = 0;
    for (size_t i = 0; i < *n_spans; i++) {
        hst_span span = spans[i];
        if (i > 0 && span.offset < 0)
            return "histogram has a span whose offset is negative";
        if (span.length > *n_counts - in)
            return "histogram spans specify different number of buckets than provided";
        index += span.offset;
        for (uint32_t k = 0; k < span.length; k++, index++) {
            int64_t to = shift > 62 ? (index > 0) : ((index - 1) >> shift) + 1;
            double count = counts[in++];
            if (to < -HST_INDEX_MAX || to > HST_INDEX_MAX)
                return "histogram has buckets that are too far out";
            if (out > 0 && to < next) {
                counts[out - 1] += count;
                continue;
            }
            if (out > 0 && to == next)
                spans[span_out - 1].length++;
            else
                spans[span_out++] = (hst_span){(int32_t)(out > 0 ? to - next : to), 1};
            counts[out++] = count;
            next = to + 1;
        }
    }
    if (in != *n_counts)
        return "histogram spans specify different number of buckets than provided";
    *n_spans = span_out;
    *n_counts = out;
    return NULL;
}

static const char *
reduce(filling *o, const raw *r)
{
    for (int side = NEGATIVE; side <= POSITIVE; side++) {
        const char *why = reduce_side(o->spans[side], &o->n_spans[side], o->counts[side],
                                      &o->n_counts[side], r->schema - HST_SCHEMA_MAX);
        if (why != NULL)
            return why;
    }
    return NULL;
}

/* ---- together --------------------------------------------------------------------------------- */

static const char *
check_integers(const raw *r, const filling *o)
{
    uint64_t zero = r->zero_is_float ? 0 : r->zero_int, total;
    if (__builtin_add_overflow(o->total, zero, &total))
        return "histogram has more observations than can be counted";
    return hst_validate_total((total > r->count_int) - (total < r->count_int), r->sum);
}

static hst_side
side_of(const filling *o, int side)
{
    return (hst_side){.spans = o->spans[side],
                      .n_spans = (uint32_t)o->n_spans[side],
                      .n_counts = (uint32_t)o->n_counts[side],
                      .counts = o->counts[side]};
}

static const char *
finish(const raw *r, filling *o)
{
    const char *why = o->why;
    bool reserved = r->schema > HST_SCHEMA_MAX && r->schema <= SCHEMA_RESERVED_MAX;
    if (why == NULL && reserved)
        why = reduce(o, r);
    if (why != NULL)
        return why;
    *o->h = (hst_hist){.schema = reserved ? HST_SCHEMA_MAX : r->schema,
                       .hint = r->hint,
                       .sum = r->sum,
                       .zero_threshold = r->zero_threshold,
                       .positive = side_of(o, POSITIVE),
                       .negative = side_of(o, NEGATIVE),
                       .bounds = o->bounds,
                       .n_bounds = (uint32_t)o->n_bounds};
    if (r->is_float) {
        o->h->count = r->count_float;
        o->h->zero_count = r->zero_is_float ? r->zero_float : 0;
    } else {
        o->h->count = (double)r->count_int;
        o->h->zero_count = r->zero_is_float ? 0 : (double)r->zero_int;
    }
    why = hst_validate(o->h);
    if (why == NULL && !r->is_float) {
        why = check_integers(r, o);
        o->h->integer = r->count_int <= EXACT_MAX && o->total <= EXACT_MAX;
    }
    return why;
}

ps_status
wire_read_histogram(ps_str message, bool started, ps_arena *arena, wire_histogram *ret, ps_err *err)
{
    raw r = {0};
    filling o;
    const char *why = look(message, &r);
    *ret = (wire_histogram){.t_ms = r.t_ms, .start_ms = started ? r.start_ms : 0};
    if (why == NULL) {
        if (!allocate(arena, &r, &o))
            return ps_fail(err, PS_ENOMEM, "out of memory");
        fill(message, r.is_float, &o);
        why = finish(&r, &o);
    }
    if (why == NULL)
        ret->histogram = o.h;
    ret->why = why;
    return PS_OK;
}
