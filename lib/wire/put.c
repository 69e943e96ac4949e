/*
 * put.c - protobuf fields, written.
 *
 * Lengths come before contents, so each kind of field has a function that says how long it is and one
 * that writes just that. Fields that hold their default are left out, as senders do.
 */
#include "lib/wire/internal.h"

size_t
wire_varint_size(uint64_t v)
{
    return v == 0 ? 1 : (size_t)(70 - __builtin_clzll(v)) / 7;
}

size_t
wire_nested_size(size_t n)
{
    return 1 + wire_varint_size(n) + n;
}

void
wire_put_varint(ps_buf *out, uint64_t v)
{
    uint8_t bytes[10];
    size_t n = 0;
    for (; v >= 0x80; v >>= 7)
        bytes[n++] = (uint8_t)(v | 0x80);
    bytes[n++] = (uint8_t)v;
    ps_buf_add(out, bytes, n);
}

void
wire_put_nested(ps_buf *out, unsigned number, size_t size)
{
    wire_put_varint(out, number << 3 | WIRE_LENGTH);
    wire_put_varint(out, size);
}

size_t
wire_number_size(unsigned number, uint64_t v)
{
    return v == 0 ? 0 : wire_varint_size(number << 3) + wire_varint_size(v);
}

void
wire_put_number(ps_buf *out, unsigned number, uint64_t v)
{
    if (v == 0)
        return;
    wire_put_varint(out, number << 3 | WIRE_VARINT);
    wire_put_varint(out, v);
}

size_t
wire_double_size(double v)
{
    return ps_bits_of(v) == 0 ? 0 : 9;
}

void
wire_put_double(ps_buf *out, unsigned number, double v)
{
    if (ps_bits_of(v) == 0)
        return;
    uint8_t bytes[9] = {WIRE_TAG(number, WIRE_FIXED64)};
    ps_put_u64le(bytes + 1, ps_bits_of(v));
    ps_buf_add(out, bytes, sizeof bytes);
}
