/*
 * histogram_bytes.c - how prom_api.histogram is stored: compact, with a version, checked when read.
 *
 *   version  1 byte, 1
 *   flags    1 byte: bits 0-1 counter reset hint, bit 2 came as integers, bit 3 populations are packed
 *   schema   zigzag varint
 *   sum, zero threshold          8 bytes each, little-endian bits of the double
 *   count, zero population       packed: zigzag varints; else 8 bytes each
 *   positive spans, negative spans, custom bounds   varint numbers of them
 *   spans    zigzag varint offset, varint length; positive ones first
 *   populations                  of all spans; packed: zigzag varints of the difference to the one
 *                                before; else 8 bytes each
 *   bounds   8 bytes each
 *
 * Populations are packed where all of them are whole numbers that a double counts exactly, as nearly
 * always. Nothing may follow. Memory is taken only for what the bytes can hold.
 */
#include "histogram.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "utils/syscache.h"

#include <math.h>

enum { VERSION = 1, FLAG_INTEGER = 4, FLAG_PACKED = 8, FLAGS_ALL = 15 };

#define EXACT 9007199254740992.0 /* 2^53 */

/* ---- writing ---------------------------------------------------------------------------------- */

static void
put_varint(ps_buf *out, uint64 v)
{
    char bytes[10];
    size_t n = 0;

    while (v >= 0x80) {
        bytes[n++] = (char)(v | 0x80);
        v >>= 7;
    }
    bytes[n++] = (char)v;
    ps_buf_add(out, bytes, n);
}

static void
put_signed(ps_buf *out, int64 v)
{
    put_varint(out, (uint64)v << 1 ^ (v < 0 ? PG_UINT64_MAX : 0));
}

static void
put_double(ps_buf *out, double v)
{
    uint64 bits = ps_bits_of(v);

    ps_buf_add(out, &bits, sizeof bits);
}

static bool
is_whole(double v)
{
    return fabs(v) < EXACT && v == (double)(int64)v && !(v == 0 && signbit(v));
}

static bool
all_whole(const hst_side *side)
{
    for (uint32 i = 0; i < side->n_counts; i++) {
        if (!is_whole(side->counts[i]))
            return false;
    }
    return true;
}

static void
put_spans(ps_buf *out, const hst_side *side)
{
    for (uint32 i = 0; i < side->n_spans; i++) {
        put_signed(out, side->spans[i].offset);
        put_varint(out, side->spans[i].length);
    }
}

static void
put_counts(ps_buf *out, const hst_side *side, bool packed)
{
    int64 before = 0;

    for (uint32 i = 0; i < side->n_counts; i++) {
        if (packed) {
            put_signed(out, (int64)side->counts[i] - before);
            before = (int64)side->counts[i];
        } else {
            put_double(out, side->counts[i]);
        }
    }
}

void
histogram_write(ps_buf *out, const hst_hist *h)
{
    const bool packed = is_whole(h->count) && is_whole(h->zero_count) && all_whole(&h->positive) &&
                        all_whole(&h->negative);

    ps_buf_add_char(out, VERSION);
    ps_buf_add_char(out, (char)((int)h->hint | (h->integer ? FLAG_INTEGER : 0) |
                                (packed ? FLAG_PACKED : 0)));
    put_signed(out, h->schema);
    put_double(out, h->sum);
    put_double(out, h->zero_threshold);
    if (packed) {
        put_signed(out, (int64)h->count);
        put_signed(out, (int64)h->zero_count);
    } else {
        put_double(out, h->count);
        put_double(out, h->zero_count);
    }
    put_varint(out, h->positive.n_spans);
    put_varint(out, h->negative.n_spans);
    put_varint(out, h->n_bounds);
    put_spans(out, &h->positive);
    put_spans(out, &h->negative);
    put_counts(out, &h->positive, packed);
    put_counts(out, &h->negative, packed);
    for (uint32 i = 0; i < h->n_bounds; i++)
        put_double(out, h->bounds[i]);
}

/* ---- reading ---------------------------------------------------------------------------------- */

typedef struct input { /* bad is sticky: what is read after it is 0 */
    const unsigned char *at, *end;
    bool bad;
} input;

static size_t
left(const input *in)
{
    return (size_t)(in->end - in->at);
}

static uint64
get_varint(input *in)
{
    uint64 v = 0;

    for (int shift = 0; shift < 64 && in->at < in->end; shift += 7) {
        uint64 b = *in->at++;

        if (shift == 63 && b > 1)
            break;
        v |= (b & 0x7f) << shift;
        if (b < 0x80)
            return v;
    }
    in->bad = true;
    return 0;
}

static int64
get_signed(input *in)
{
    uint64 v = get_varint(in);

    return (int64)(v >> 1 ^ (0 - (v & 1)));
}

static double
get_double(input *in)
{
    if (left(in) < 8) {
        in->bad = true;
        return 0;
    }
    double v = ps_double_of(ps_get_u64le(in->at));

    in->at += 8;
    return v;
}

/* A number of things of which each takes `size` bytes or more. */
static uint32
get_number(input *in, size_t size)
{
    uint64 n = get_varint(in);

    if (n > left(in) / size) {
        in->bad = true;
        return 0;
    }
    return (uint32)n;
}

static double
get_population(input *in, bool packed, int64 *before)
{
    int64 v;

    if (!packed)
        return get_double(in);
    if (__builtin_add_overflow(*before, get_signed(in), &v) || !is_whole((double)v))
        in->bad = true;
    *before = v;
    return (double)v;
}

static hst_span *
get_spans(input *in, hst_span *to, hst_side *side)
{
    uint64 n = 0;

    side->spans = to;
    for (uint32 i = 0; i < side->n_spans; i++) {
        int64 offset = get_signed(in);
        uint64 length = get_varint(in);

        if (offset < PG_INT32_MIN || offset > PG_INT32_MAX || length > HST_INDEX_MAX)
            in->bad = true;
        if (in->bad)
            return to;
        *to++ = (hst_span){(int32)offset, (uint32)length};
        n += length;
    }
    if (n > left(in)) /* a population takes a byte at least */
        in->bad = true;
    side->n_counts = in->bad ? 0 : (uint32)n;
    return to;
}

static double *
get_counts(input *in, double *to, hst_side *side, bool packed)
{
    int64 before = 0;

    side->counts = to;
    for (uint32 i = 0; i < side->n_counts; i++)
        *to++ = get_population(in, packed, &before);
    return to;
}

static bool
get_head(input *in, hst_hist *h, bool *ret_packed)
{
    if (left(in) < 2 || in->at[0] != VERSION || (in->at[1] & ~FLAGS_ALL) != 0)
        return false;
    const int flags = in->at[1];
    int64 zero = 0, none = 0;

    in->at += 2;
    h->hint = flags & 3;
    h->integer = (flags & FLAG_INTEGER) != 0;
    *ret_packed = (flags & FLAG_PACKED) != 0;
    int64 schema = get_signed(in);
    h->sum = get_double(in);
    h->zero_threshold = get_double(in);
    h->count = get_population(in, *ret_packed, &zero);
    h->zero_count = get_population(in, *ret_packed, &none);
    h->positive.n_spans = get_number(in, 2);
    h->negative.n_spans = get_number(in, 2);
    h->n_bounds = get_number(in, 8);
    h->schema = (int32)schema;
    return !in->bad && schema == h->schema;
}

static ps_status
damaged(ps_err *err)
{
    return ps_fail(err, PS_ECORRUPT, "a histogram's bytes are damaged");
}

ps_status
histogram_read(ps_arena *arena, ps_str bytes, const hst_hist **ret, ps_err *err)
{
    input in = {.at = (const unsigned char *)bytes.ptr,
                .end = (const unsigned char *)bytes.ptr + bytes.len};
    hst_hist *h = ps_arena_array(arena, 1, sizeof *h);
    bool packed;

    if (h == NULL)
        return ps_fail(err, PS_ENOMEM, "no memory for a histogram");
    if (bytes.len > 0 && in.at[0] != VERSION)
        return ps_fail(err, PS_EUNSUPPORTED, "a histogram of version %d", (int)in.at[0]);
    if (!get_head(&in, h, &packed))
        return damaged(err);

    size_t n_spans = (size_t)h->positive.n_spans + h->negative.n_spans;
    hst_span *spans = ps_arena_array(arena, Max(n_spans, 1), sizeof *spans);

    if (spans == NULL)
        return ps_fail(err, PS_ENOMEM, "no memory for a histogram");
    spans = get_spans(&in, spans, &h->positive);
    (void)get_spans(&in, spans, &h->negative);
    if (in.bad)
        return damaged(err);

    size_t n_values = (size_t)h->positive.n_counts + h->negative.n_counts + h->n_bounds;
    double *values = ps_arena_array(arena, Max(n_values, 1), sizeof *values);

    if (values == NULL)
        return ps_fail(err, PS_ENOMEM, "no memory for a histogram");
    values = get_counts(&in, values, &h->positive, packed);
    values = get_counts(&in, values, &h->negative, packed);
    if (h->n_bounds > 0)
        h->bounds = values;
    for (uint32 i = 0; i < h->n_bounds; i++)
        *values++ = get_double(&in);
    if (in.bad || left(&in) != 0 || hst_check(h, NULL) != PS_OK)
        return damaged(err);
    *ret = h;
    return PS_OK;
}

/* ---- values ----------------------------------------------------------------------------------- */

void
histogram_work_init(histogram_work *w, MemoryContext context, size_t max_bytes)
{
    bridge_alloc_init(&w->memory, context, max_bytes);
    ps_arena_init(&w->arena, &w->memory.alloc, 0);
}

const hst_hist *
histogram_of_datum(histogram_work *w, Datum value)
{
    struct varlena *bytes = PG_DETOAST_DATUM_PACKED(value);
    const hst_hist *h;
    ps_err err = {0};

    bridge_check(histogram_read(&w->arena, (ps_str){VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes)},
                                &h, &err),
                 &err);
    return h;
}

Datum
histogram_datum(const hst_hist *h)
{
    static const char header[VARHDRSZ] = {0};
    bridge_alloc memory;
    ps_buf out;

    bridge_alloc_init(&memory, CurrentMemoryContext, 0);
    ps_buf_init(&out, &memory.alloc);
    out.max = MaxAllocSize / 2;
    ps_buf_add(&out, header, VARHDRSZ);
    histogram_write(&out, h);
    if (out.failed)
        bridge_raise(PS_ENOMEM, NULL, NULL, NULL);

    struct varlena *value =
        palloc(out.len); /* the buffer's own memory is not aligned as palloc's */

    memcpy(value, out.ptr, out.len);
    SET_VARSIZE(value, out.len);
    ps_buf_done(&out);
    return PointerGetDatum(value);
}

Oid
histogram_type_oid(void)
{
    Oid schema = get_namespace_oid("prom_api", true);

    return !OidIsValid(schema)
               ? InvalidOid
               : GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, CStringGetDatum("histogram"),
                                 ObjectIdGetDatum(schema));
}
