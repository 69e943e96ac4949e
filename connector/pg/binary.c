/*
 * binary.c - PostgreSQL's binary forms of numbers and one-dimensional arrays, as parameters,
 * results and COPY fields carry them. Big-endian; an array is dimensions, flags, element type,
 * size, lower bound, then each element as length and bytes.
 */
#include "connector/pg/pg.h"

#include <endian.h>

enum { ARRAY_HEAD = 20 };

void
pg_put_u16(ps_buf *out, uint16_t v)
{
    v = htobe16(v);
    ps_buf_add(out, &v, sizeof(v));
}

void
pg_put_u32(ps_buf *out, uint32_t v)
{
    v = htobe32(v);
    ps_buf_add(out, &v, sizeof(v));
}

void
pg_put_u64(ps_buf *out, uint64_t v)
{
    v = htobe64(v);
    ps_buf_add(out, &v, sizeof(v));
}

uint32_t
pg_get_u32(const char *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return be32toh(v);
}

uint64_t
pg_get_u64(const char *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return be64toh(v);
}

void
pg_put_array(ps_buf *out, Oid element, size_t n)
{
    if (n == 0) { /* an empty array has no dimensions */
        pg_put_u32(out, 0);
        pg_put_u32(out, 0);
        pg_put_u32(out, element);
        return;
    }
    pg_put_u32(out, 1);
    pg_put_u32(out, 0);
    pg_put_u32(out, element);
    pg_put_u32(out, (uint32_t)n);
    pg_put_u32(out, 1);
}

int64_t
pg_array_length(ps_str bytes)
{
    if (bytes.len < 12 || pg_get_u32(bytes.ptr + 4) != 0)
        return -1;
    uint32_t dims = pg_get_u32(bytes.ptr);
    if (dims == 0)
        return 0;
    if (dims != 1 || bytes.len < ARRAY_HEAD)
        return -1;
    return (int32_t)pg_get_u32(bytes.ptr + 12);
}

/* Checks that bytes is an array of n elements of `size` bytes each. */
static bool
array_is(ps_str bytes, size_t n, size_t size)
{
    if (pg_array_length(bytes) != (int64_t)n)
        return false;
    if (n == 0)
        return true;
    if (bytes.len != ARRAY_HEAD + n * (4 + size))
        return false;
    for (size_t i = 0; i < n; i++) {
        if (pg_get_u32(bytes.ptr + ARRAY_HEAD + i * (4 + size)) != size)
            return false;
    }
    return true;
}

ps_status
pg_get_int4_array(ps_str bytes, size_t n, int32_t *ret, ps_err *err)
{
    if (!array_is(bytes, n, 4))
        return ps_fail(err, PS_ECORRUPT, "the database answered no int4 array of %zu elements", n);
    for (size_t i = 0; i < n; i++)
        ret[i] = (int32_t)pg_get_u32(bytes.ptr + ARRAY_HEAD + i * 8 + 4);
    return PS_OK;
}

ps_status
pg_get_int8_array(ps_str bytes, size_t n, int64_t *ret, ps_err *err)
{
    if (!array_is(bytes, n, 8))
        return ps_fail(err, PS_ECORRUPT, "the database answered no int8 array of %zu elements", n);
    for (size_t i = 0; i < n; i++)
        ret[i] = (int64_t)pg_get_u64(bytes.ptr + ARRAY_HEAD + i * 12 + 4);
    return PS_OK;
}
