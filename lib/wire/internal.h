/*
 * internal.h - protobuf fields, for the readers of lib/wire.
 *
 * Positions are pointers into the message; every function moves *pos only forward and never past
 * `end`. Reasons are constant texts, NULL means success; on failure *pos stands at the byte that is
 * wrong, so that the caller can say where.
 */
#ifndef PROMSCALE_WIRE_INTERNAL_H
#define PROMSCALE_WIRE_INTERNAL_H

#include "lib/wire/wire.h"

enum { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_LENGTH = 2, WIRE_FIXED32 = 5 };

/* The tag byte of fields 1..15. */
#define WIRE_TAG(number, type) ((uint8_t)((number) << 3 | (type)))

typedef struct wire_field {
    uint32_t number;
    uint32_t type;
    uint64_t value;      /* varint, fixed64, fixed32 */
    const uint8_t *data; /* length-delimited: data[0..len) lies within the message */
    size_t len;
} wire_field;

/* Reads a varint of any length up to ten bytes. */
const char *wire_read_varint(const uint8_t **pos, const uint8_t *end, uint64_t *ret);

/* Reads the length of a length-delimited field and checks that so many bytes follow. */
const char *wire_read_length(const uint8_t **pos, const uint8_t *end, size_t *ret);

/* Reads one whole field of any number; groups and unknown wire types are refused. */
const char *wire_read_field(const uint8_t **pos, const uint8_t *end, wire_field *ret);

extern const char wire_wrong_type[]; /* the reason for a known field with a foreign wire type */

/* ---- the shapes that senders write, without a call ----------------------------------------- */

/*
 * The value of the varint that fills exactly the n bytes before `end`; n is 1..8, and eight bytes
 * before `end` must be readable. False if those bytes are not one varint.
 */
static inline bool
wire_varint_before(const uint8_t *end, size_t n, uint64_t *ret)
{
    uint64_t w = ps_get_u64le(end - 8) >> (64 - 8 * n);
    uint64_t more = UINT64_C(0x0080808080808080) >> (64 - 8 * n);
    if ((w & UINT64_C(0x8080808080808080)) != more)
        return false;
    /* Close the gaps between the groups of seven bits, pairwise. */
    w &= UINT64_C(0x7F7F7F7F7F7F7F7F);
    w = (w & UINT64_C(0x007F007F007F007F)) | (w & UINT64_C(0x7F007F007F007F00)) >> 1;
    w = (w & UINT64_C(0x00003FFF00003FFF)) | (w & UINT64_C(0x3FFF00003FFF0000)) >> 2;
    w = (w & UINT64_C(0x000000000FFFFFFF)) | (w & UINT64_C(0x0FFFFFFF00000000)) >> 4;
    *ret = w;
    return true;
}

/* Lengths below 128 and, for whole series, below 16384 without a call. */
static inline const char *
wire_short_length(const uint8_t **pos, const uint8_t *end, size_t *ret)
{
    const uint8_t *p = *pos;
    if (PS_LIKELY(end - p >= 2)) {
        bool wide = p[0] >= 0x80;
        size_t len = wide ? (p[0] & 0x7Fu) | (size_t)p[1] << 7 : p[0];
        p += 1 + wide;
        if (PS_LIKELY(!(wide && p[-1] >= 0x80) && len <= (size_t)(end - p))) {
            *ret = len;
            *pos = p;
            return NULL;
        }
    }
    return wire_read_length(pos, end, ret);
}

/* Value and time as senders write them, the value left out if it is zero; times of 1 to 8 bytes. */
static inline bool
wire_plain_sample(const uint8_t *p, size_t len, wire_sample *ret)
{
    uint64_t t;
    if (PS_LIKELY(len >= 11 && len <= 18 && p[0] == WIRE_TAG(1, WIRE_FIXED64) &&
                  p[9] == WIRE_TAG(2, WIRE_VARINT) && wire_varint_before(p + len, len - 10, &t))) {
        ret->value = ps_double_of(ps_get_u64le(p + 1));
        ret->t_ms = (int64_t)t;
        ret->start_ms = 0;
        return true;
    }
    /* tag and length of the sample itself stand before p: so eight bytes are readable from 6 on */
    if (len >= 6 && len <= 9 && p[0] == WIRE_TAG(2, WIRE_VARINT) &&
        wire_varint_before(p + len, len - 1, &t)) {
        ret->value = 0;
        ret->t_ms = (int64_t)t;
        ret->start_ms = 0;
        return true;
    }
    return false;
}

typedef struct wire_parts { /* the fields of one number in an accepted series, in order */
    const uint8_t *pos, *end;
} wire_parts;

/* Next submessage with field number `number`, which is below 16. False at the end. */
static inline bool
wire_next_part(wire_parts *at, uint32_t number, const uint8_t **ret_data, const uint8_t **ret_end)
{
    while (at->pos < at->end) {
        const uint8_t *p = at->pos;
        size_t len;
        if (PS_LIKELY(*p == WIRE_TAG(number, WIRE_LENGTH))) {
            p++;
            if (wire_short_length(&p, at->end, &len) != NULL)
                return false;
            *ret_data = p;
            *ret_end = at->pos = p + len;
            return true;
        }
        wire_field f;
        if (wire_read_field(&at->pos, at->end, &f) != NULL)
            return false;
        if (f.number == number && f.type == WIRE_LENGTH) {
            *ret_data = f.data;
            *ret_end = f.data + f.len;
            return true;
        }
    }
    return false;
}

static inline wire_parts
wire_parts_of(ps_str s)
{
    const uint8_t *p = (const uint8_t *)s.ptr;
    return (wire_parts){p, s.len == 0 ? p : p + s.len};
}

/* ---- histograms of both versions (histogram_read.c) ------------------------------------------ */

/* Reads one Histogram message; started: it may have a start timestamp. PS_ENOMEM. */
ps_status wire_read_histogram(ps_str message, bool started, ps_arena *arena, wire_histogram *ret,
                              ps_err *err) PS_MUST_CHECK;

/* ---- writing (put.c): sizes first, since lengths come before contents ------------------------- */

size_t wire_varint_size(uint64_t v);
void wire_put_varint(ps_buf *out, uint64_t v);
/* Size of a length-delimited field with n bytes of content and a tag of one byte. */
size_t wire_nested_size(size_t n);
void wire_put_nested(ps_buf *out, unsigned number, size_t size);
/* A varint or a double is left out if it is zero; a double by its bits, so that -0 survives. */
size_t wire_number_size(unsigned number, uint64_t v);
void wire_put_number(ps_buf *out, unsigned number, uint64_t v);
size_t wire_double_size(double v);
void wire_put_double(ps_buf *out, unsigned number, double v);
size_t wire_histogram_size(const wire_histogram *h, bool started);
void wire_put_histogram(ps_buf *out, const wire_histogram *h, bool started);

static inline ps_str
wire_field_str(const wire_field *f)
{
    return (ps_str){(const char *)f->data, f->len};
}

#endif
