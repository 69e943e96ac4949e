/*
 * protobuf.c - one field of a protobuf message at a time, in place.
 *
 * The general, careful path: any field number, any legal encoding. The hot reader (write_read.c)
 * recognises the few byte patterns that senders really produce and comes here for the rest.
 */
#include "lib/wire/internal.h"

const char wire_wrong_type[] = "a field has the wrong wire type";

const char *
wire_read_varint(const uint8_t **pos, const uint8_t *end, uint64_t *ret)
{
    const uint8_t *p = *pos;
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
        if (p == end)
            return "the message ends within a number";
        uint8_t byte = *p++;
        if (shift == 63 && byte > 1)
            return "a number has more than 64 bits";
        value |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80) {
            *pos = p;
            *ret = value;
            return NULL;
        }
    }
    return "a number has more than 64 bits"; /* not reached: the tenth byte is at most 1 */
}

const char *
wire_read_length(const uint8_t **pos, const uint8_t *end, size_t *ret)
{
    const uint8_t *p = *pos;
    uint64_t len;
    const char *why = wire_read_varint(&p, end, &len);
    if (why != NULL)
        return why;
    if (len > (uint64_t)(end - p))
        return "a field reaches beyond the end of its message";
    *pos = p;
    *ret = (size_t)len;
    return NULL;
}

static const char *
read_fixed(const uint8_t **pos, const uint8_t *end, size_t size, uint64_t *ret)
{
    if ((size_t)(end - *pos) < size)
        return "the message ends within a number";
    *ret = size == 8 ? ps_get_u64le(*pos) : ps_get_u32le(*pos);
    *pos += size;
    return NULL;
}

const char *
wire_read_field(const uint8_t **pos, const uint8_t *end, wire_field *ret)
{
    const uint8_t *p = *pos;
    uint64_t tag;
    const char *why = wire_read_varint(&p, end, &tag);
    if (why != NULL)
        return why;
    if (tag >> 3 == 0 || tag > UINT32_MAX)
        return "a field number is out of range";
    *ret = (wire_field){.number = (uint32_t)(tag >> 3), .type = (uint32_t)(tag & 7)};
    switch (ret->type) {
    case WIRE_VARINT:
        why = wire_read_varint(&p, end, &ret->value);
        break;
    case WIRE_FIXED64:
        why = read_fixed(&p, end, 8, &ret->value);
        break;
    case WIRE_FIXED32:
        why = read_fixed(&p, end, 4, &ret->value);
        break;
    case WIRE_LENGTH:
        why = wire_read_length(&p, end, &ret->len);
        ret->data = p;
        p += why == NULL ? ret->len : 0;
        break;
    default:
        return "a field is a group or has an unknown wire type";
    }
    *pos = p; /* after the field, or at the content that is wrong */
    return why;
}
