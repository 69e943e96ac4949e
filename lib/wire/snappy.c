/*
 * snappy.c - the snappy block format through libsnappy, and the framed stream format over it.
 *
 * A compressed message announces its length; that is a claim of the sender. Before memory is taken
 * for it, it is held against the caller's limit and against what the format can do at all: an
 * element of three bytes yields at most 64, so nothing grows more than 22-fold. A body of ten bytes
 * therefore cannot make us allocate megabytes.
 *
 * Framed: a sequence of chunks, each with a type byte and a length of three bytes. It begins with a
 * stream identifier chunk; data chunks (compressed or not) hold at most 64 KiB of content and a
 * masked CRC-32C of it; padding and the upper half of the unknown types are skipped, the lower half
 * is an error. A first walk adds up the announced lengths, a second one decodes into memory taken
 * once.
 */
#include "lib/wire/wire.h"

#include <snappy-c.h>

enum { MAX_GROWTH = 22, MAX_CHUNK_CONTENT = 65536, CRC_BYTES = 4, CHUNK_HEADER = 4 };

static const ps_str stream_magic = {"\xff\x06\x00\x00sNaPpY", 10};
static const ps_str stream_name = {"sNaPpY", 6};

/* ---- block format --------------------------------------------------------------------------- */

static ps_status
announced_length(ps_str in, size_t *ret, ps_err *err)
{
    size_t len;
    if (snappy_uncompressed_length(in.ptr, in.len, &len) != SNAPPY_OK)
        return ps_fail(err, PS_ECORRUPT, "the snappy data has no valid length");
    *ret = len;
    return PS_OK;
}

static ps_status
check_length(size_t len, size_t max_bytes, size_t in_len, ps_err *err)
{
    if (len > max_bytes)
        return ps_fail(err, PS_ELIMIT, "the data has %zu bytes when decompressed, the limit is %zu",
                       len, max_bytes);
    if (len / MAX_GROWTH > in_len)
        return ps_fail(err, PS_ECORRUPT, "the snappy data announces more than it can hold");
    return PS_OK;
}

/* Appends; the caller has reserved len bytes. */
static ps_status
decode_block(ps_str in, size_t len, ps_buf *out, ps_err *err)
{
    size_t got = len;
    char none;
    char *dst = len == 0 ? &none : out->ptr + out->len;
    if (snappy_uncompress(in.ptr, in.len, dst, &got) != SNAPPY_OK || got != len)
        return ps_fail(err, PS_ECORRUPT, "the snappy data is damaged");
    out->len += len;
    return PS_OK;
}

static ps_status
decode_plain(ps_str in, size_t max_bytes, ps_buf *out, ps_err *err)
{
    size_t len = 0;
    PS_TRY(announced_length(in, &len, err));
    PS_TRY(check_length(len, max_bytes, in.len, err));
    if (!ps_buf_reserve(out, len))
        return ps_fail(err, PS_ENOMEM, "no memory for %zu bytes of decompressed data", len);
    return decode_block(in, len, out, err);
}

/* ---- framed stream format ------------------------------------------------------------------- */

enum {
    CHUNK_COMPRESSED = 0x00,
    CHUNK_PLAIN = 0x01,
    CHUNK_FIRST_SKIPPED = 0x80,
    CHUNK_STREAM = 0xFF
};

typedef struct chunk {
    uint8_t type;
    uint32_t crc;   /* data chunks: as stored, masked */
    ps_str body;    /* without the CRC */
    size_t content; /* data chunks: bytes when decompressed */
} chunk;

/* Takes one chunk from the front of *in and checks all but its content. */
static ps_status
next_chunk(ps_str *in, chunk *ret, ps_err *err)
{
    chunk c = {0};
    if (in->len < CHUNK_HEADER)
        return ps_fail(err, PS_ECORRUPT, "the snappy stream ends within a chunk header");
    uint32_t head = ps_get_u32le(in->ptr);
    size_t len = head >> 8;
    c.type = head & 0xFF;
    if (len > in->len - CHUNK_HEADER)
        return ps_fail(err, PS_ECORRUPT, "the snappy stream ends within a chunk");
    c.body = (ps_str){in->ptr + CHUNK_HEADER, len};
    in->ptr += CHUNK_HEADER + len;
    in->len -= CHUNK_HEADER + len;

    if (c.type == CHUNK_COMPRESSED || c.type == CHUNK_PLAIN) {
        if (len < CRC_BYTES)
            return ps_fail(err, PS_ECORRUPT, "a snappy chunk is too short for its checksum");
        c.crc = ps_get_u32le(c.body.ptr);
        c.body = (ps_str){c.body.ptr + CRC_BYTES, len - CRC_BYTES};
        c.content = c.body.len;
        if (c.type == CHUNK_COMPRESSED)
            PS_TRY(announced_length(c.body, &c.content, err));
        if (c.content > MAX_CHUNK_CONTENT)
            return ps_fail(err, PS_ECORRUPT, "a snappy chunk holds more than 64 KiB");
    } else if (c.type == CHUNK_STREAM) {
        if (!ps_str_eq(c.body, stream_name))
            return ps_fail(err, PS_ECORRUPT, "a snappy stream identifier is damaged");
    } else if (c.type < CHUNK_FIRST_SKIPPED) {
        return ps_fail(err, PS_ECORRUPT, "a snappy chunk has the unknown type %u", c.type);
    }
    *ret = c;
    return PS_OK;
}

static uint32_t
masked_crc(const void *bytes, size_t len)
{
    uint32_t crc = ps_crc32c(0, bytes, len);
    return (crc >> 15 | crc << 17) + UINT32_C(0xA282EAD8);
}

static ps_status
decode_framed(ps_str in, size_t max_bytes, ps_buf *out, ps_err *err)
{
    size_t total = 0;
    for (ps_str rest = in; rest.len > 0;) {
        chunk c;
        PS_TRY(next_chunk(&rest, &c, err));
        total += c.content;
    }
    PS_TRY(check_length(total, max_bytes, in.len, err));
    if (!ps_buf_reserve(out, total))
        return ps_fail(err, PS_ENOMEM, "no memory for %zu bytes of decompressed data", total);
    for (ps_str rest = in; rest.len > 0;) {
        chunk c;
        size_t start = out->len;
        PS_TRY(next_chunk(&rest, &c, err));
        if (c.type == CHUNK_PLAIN)
            ps_buf_add_str(out, c.body);
        else if (c.type == CHUNK_COMPRESSED)
            PS_TRY(decode_block(c.body, c.content, out, err));
        else
            continue;
        const char *content = c.content == 0 ? "" : out->ptr + start;
        if (masked_crc(content, c.content) != c.crc)
            return ps_fail(err, PS_ECORRUPT, "the checksum of a snappy chunk is wrong");
    }
    return PS_OK;
}

/* ---- both ----------------------------------------------------------------------------------- */

ps_status
wire_snappy_decode(ps_str in, size_t max_bytes, ps_buf *out, ps_err *err)
{
    ps_buf_clear(out);
    ps_status status = ps_str_starts(in, stream_magic) ? decode_framed(in, max_bytes, out, err)
                                                       : decode_plain(in, max_bytes, out, err);
    if (status != PS_OK)
        ps_buf_clear(out);
    return status;
}

ps_status
wire_snappy_encode(ps_str in, ps_buf *out, ps_err *err)
{
    ps_buf_clear(out);
    if (in.len > UINT32_MAX)
        return ps_fail(err, PS_ELIMIT, "snappy cannot hold more than 4 GiB");
    size_t len = snappy_max_compressed_length(in.len);
    if (!ps_buf_reserve(out, len))
        return ps_fail(err, PS_ENOMEM, "no memory for %zu bytes of compressed data", len);
    if (snappy_compress(in.len == 0 ? "" : in.ptr, in.len, out->ptr, &len) != SNAPPY_OK)
        return ps_fail(err, PS_EINTERNAL, "snappy could not compress");
    out->len = len;
    return PS_OK;
}
