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

static inline ps_str
wire_field_str(const wire_field *f)
{
    return (ps_str){(const char *)f->data, f->len};
}

#endif
