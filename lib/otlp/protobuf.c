/*
 * protobuf.c - fields of a message, read in place. Whatever is not a field ends the reading and marks the
 * whole message as bad; so the code above reads as if all were well, and asks once at the end.
 */
#include "lib/otlp/internal.h"

static bool
varint(pb_reader *r, uint64_t *ret)
{
    uint64_t v = 0;

    for (int shift = 0; r->pos < r->end && shift < 70; shift += 7) {
        uint8_t b = (uint8_t)*r->pos++;
        if (shift == 63 && b > 1)
            return false;
        v |= (uint64_t)(b & 127) << shift;
        if (b < 128) {
            *ret = v;
            return true;
        }
    }
    return false;
}

static bool
payload(pb_reader *r, pb_field *f)
{
    size_t left = (size_t)(r->end - r->pos);
    uint64_t len;

    switch (f->type) {
    case PB_VARINT:
        return varint(r, &f->value);
    case PB_FIXED64:
        if (left < 8)
            return false;
        f->value = ps_get_u64le(r->pos);
        r->pos += 8;
        return true;
    case PB_FIXED32:
        if (left < 4)
            return false;
        f->value = ps_get_u32le(r->pos);
        r->pos += 4;
        return true;
    case PB_BYTES:
        if (!varint(r, &len) || len > (size_t)(r->end - r->pos))
            return false;
        f->bytes = (ps_str){r->pos, (size_t)len};
        r->pos += len;
        return true;
    default:
        return false;
    }
}

bool
otlp_pb_next(pb_reader *r, pb_field *ret)
{
    const char *begin = r->pos;
    uint64_t key;

    if (r->pos == r->end || *r->bad != NULL)
        return false;
    *ret = (pb_field){0};
    bool good = varint(r, &key) && key >> 3 > 0 && key >> 3 < 1 << 29;
    if (good) {
        ret->number = (uint32_t)(key >> 3);
        ret->type = (pb_type)(key & 7);
        good = payload(r, ret);
    }
    if (!good)
        *r->bad = begin;
    return good;
}

bool
otlp_pb_is(pb_reader *r, const pb_field *f, uint32_t number, pb_type type)
{
    if (f->number != number)
        return false;
    if (f->type != type && *r->bad == NULL)
        *r->bad = r->pos;
    return f->type == type;
}

ps_str
otlp_pb_find(ps_str message, uint32_t number, const char **bad)
{
    pb_reader r = pb_reader_of(message, bad);
    ps_str found = {"", 0};
    pb_field f;

    while (otlp_pb_next(&r, &f))
        if (otlp_pb_is(&r, &f, number, PB_BYTES))
            found = f.bytes;
    return found;
}

/* Numbers in a packed field: counts them, or puts them where `into` is. */
static size_t
unpack(ps_str packed, bool fixed, const char **bad, uint64_t *into)
{
    pb_reader r = pb_reader_of(packed, bad);
    size_t n = 0;

    for (; r.pos < r.end; n++) {
        pb_field f = {.type = fixed ? PB_FIXED64 : PB_VARINT};
        if (!payload(&r, &f)) {
            if (*bad == NULL)
                *bad = r.pos;
            return n;
        }
        if (into != NULL)
            into[n] = f.value;
    }
    return n;
}

static size_t
numbers(ps_str message, uint32_t number, bool fixed, const char **bad, uint64_t *into)
{
    pb_reader r = pb_reader_of(message, bad);
    pb_field f;
    size_t n = 0;

    while (otlp_pb_next(&r, &f)) {
        if (f.number == number && f.type == PB_BYTES) {
            n += unpack(f.bytes, fixed, bad, into != NULL ? into + n : NULL);
        } else if (otlp_pb_is(&r, &f, number, fixed ? PB_FIXED64 : PB_VARINT)) {
            if (into != NULL)
                into[n] = f.value;
            n++;
        }
    }
    return n;
}

ps_status
otlp_pb_numbers(ps_str message, uint32_t number, bool fixed, const char **bad, ps_arena *arena,
                uint64_t **ret, size_t *ret_n)
{
    *ret = NULL;
    *ret_n = numbers(message, number, fixed, bad, NULL);
    if (*bad != NULL)
        *ret_n = 0;
    if (*ret_n == 0)
        return PS_OK;
    *ret = ps_arena_array(arena, *ret_n, sizeof(uint64_t));
    if (*ret == NULL)
        return PS_ENOMEM;
    (void)numbers(message, number, fixed, bad, *ret);
    return PS_OK;
}
