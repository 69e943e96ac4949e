/*
 * fuzz_snappy.c - decompression of arbitrary bytes, at most 1 MiB out.
 *
 * The input is tried as it is (block, or stream if it has the magic), as a stream with the magic put
 * before it, as the content of one well-formed data chunk, and as content to compress and decompress.
 */
#include "lib/wire/wire.h"
#include "tests/fuzz/fuzz.h"

enum { MAX_OUT = 1 << 20, MAX_CHUNK_CONTENT = 65536 };

static const char magic[10] = {'\xFF', 6, 0, 0, 's', 'N', 'a', 'P', 'p', 'Y'};

/* An allocator that refuses more than the limit allows: nobody's word is taken for a length. */
static void *
bounded_realloc(void *self, void *old, size_t old_size, size_t new_size)
{
    REQUIRE(new_size <= MAX_OUT);
    return ps_malloc.realloc(self, old, old_size, new_size);
}

/* Returns whether the bytes could be decoded; out holds the result. */
static bool
decode(const void *bytes, size_t size, ps_buf *out)
{
    char *exact = malloc(size == 0 ? 1 : size);
    REQUIRE(exact != NULL);
    if (size > 0)
        memcpy(exact, bytes, size);
    ps_err err = {.code = PS_OK};
    ps_status status = wire_snappy_decode((ps_str){exact, size}, MAX_OUT, out, &err);
    REQUIRE(status == PS_OK || status == PS_ECORRUPT || status == PS_ELIMIT);
    REQUIRE(status == err.code);
    REQUIRE(out->len <= MAX_OUT && (status == PS_OK || out->len == 0));
    free(exact);
    return status == PS_OK;
}

/* A stream of one data chunk: its checksum is that of `content`. */
static void
build_stream(ps_buf *stream, uint8_t type, ps_str body, ps_str content)
{
    uint8_t head[8];
    uint32_t crc = ps_crc32c(0, content.ptr, content.len);
    ps_put_u32le(head, (uint32_t)(body.len + 4) << 8 | type);
    ps_put_u32le(head + 4, (crc >> 15 | crc << 17) + UINT32_C(0xA282EAD8));
    ps_buf_clear(stream);
    ps_buf_add(stream, magic, sizeof magic);
    ps_buf_add(stream, head, sizeof head);
    ps_buf_add_str(stream, body);
}

static void
check_stream(const uint8_t *data, size_t size, ps_buf *stream, ps_buf *out)
{
    ps_str input = {(const char *)data, size};
    ps_buf_clear(stream);
    ps_buf_add(stream, magic, sizeof magic);
    ps_buf_add(stream, data, size);
    decode(stream->ptr, stream->len, out);

    /* as plain content: it must come back, and not if it is damaged */
    if (size <= MAX_CHUNK_CONTENT) {
        build_stream(stream, 0x01, input, input);
        REQUIRE(decode(stream->ptr, stream->len, out));
        REQUIRE(ps_str_eq(ps_buf_str(out), input));
        stream->ptr[stream->len - 1] ^= 1; /* the content, or the checksum if there is none */
        REQUIRE(!decode(stream->ptr, stream->len, out));
    }
    /* as compressed content, if it is that: the chunk must hold the same as the block */
    if (size < 1 << 23 && !ps_str_starts(input, (ps_str){magic, sizeof magic}) &&
        decode(data, size, out)) {
        char *content = malloc(out->len + 1);
        ps_str expected = {content, out->len};
        REQUIRE(content != NULL);
        if (out->len > 0)
            memcpy(content, out->ptr, out->len);
        build_stream(stream, 0x00, input, expected);
        REQUIRE(decode(stream->ptr, stream->len, out) == (expected.len <= MAX_CHUNK_CONTENT));
        REQUIRE(out->len == 0 || ps_str_eq(ps_buf_str(out), expected));
        free(content);
    }
}

static void
check_round_trip(const uint8_t *data, size_t size, ps_buf *packed, ps_buf *out)
{
    REQUIRE(wire_snappy_encode((ps_str){(const char *)data, size}, packed, NULL) == PS_OK);
    REQUIRE(decode(packed->ptr, packed->len, out));
    REQUIRE(ps_str_eq(ps_buf_str(out), (ps_str){(const char *)data, size}));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > MAX_OUT / 2)
        return 0;
    const ps_alloc bounded = {bounded_realloc, NULL};
    ps_buf out;
    ps_buf scratch;
    ps_buf_init(&scratch, &ps_malloc);
    ps_buf_init(&out, &bounded);
    out.max = MAX_OUT;
    decode(data, size, &out);
    check_stream(data, size, &scratch, &out);
    check_round_trip(data, size, &scratch, &out);
    ps_buf_done(&out);
    ps_buf_done(&scratch);
    return 0;
}
