/*
 * Snappy: both formats, every limit before any memory, every damage an error.
 */
#include "tests/unit/support.h"

#include "lib/wire/wire.h"

#define BYTES(literal) ((ps_str){(literal), sizeof(literal) - 1})

static const ps_str magic = BYTES("\xFF\x06\x00\x00sNaPpY");

/* Decodes from a heap copy of exactly the input's size. */
static ps_status
decode(ps_str in, size_t max, ps_buf *out, ps_err *err)
{
    char *copy = test_exact_copy(in.ptr, in.len);
    ps_status status = wire_snappy_decode((ps_str){copy, in.len}, max, out, err);
    free(copy);
    if (status != PS_OK)
        assert_int_equal(out->len, 0);
    return status;
}

static void
assert_decodes(ps_str in, ps_str expected)
{
    ps_buf out;
    ps_err err = {.text = ""};
    ps_buf_init(&out, &ps_malloc);
    ps_buf_add_c(&out, "old content");
    if (decode(in, 1 << 20, &out, &err) != PS_OK)
        fail_msg("%s", err.text);
    assert_true(ps_str_eq(ps_buf_str(&out), expected));
    ps_buf_done(&out);
}

static void
assert_refused(ps_str in, ps_status code)
{
    ps_buf out;
    ps_err err = {.code = PS_OK};
    ps_buf_init(&out, &ps_malloc);
    assert_int_equal(decode(in, 1 << 20, &out, &err), code);
    assert_int_equal(err.code, code);
    assert_true(err.text[0] != '\0');
    ps_buf_done(&out);
}

static void
fill(test_random *random, char *dst, size_t len, uint64_t alphabet)
{
    for (size_t i = 0; i < len; i++)
        dst[i] = (char)test_random_below(random, alphabet);
}

static void
blocks_come_back(void **state)
{
    (void)state;
    test_random random = {1};
    static char text[300000];
    ps_buf packed;
    ps_buf_init(&packed, &ps_malloc);
    for (size_t len = 0; len <= sizeof text; len = len < 200 ? len + 1 : len * 3 + 1) {
        static const uint64_t alphabets[] = {1, 3, 256};
        for (size_t a = 0; a < 3; a++) {
            fill(&random, text, len, alphabets[a]);
            assert_int_equal(wire_snappy_encode((ps_str){text, len}, &packed, NULL), PS_OK);
            assert_decodes(ps_buf_str(&packed), (ps_str){text, len});
        }
    }
    assert_int_equal(wire_snappy_encode((ps_str){NULL, 0}, &packed, NULL), PS_OK);
    assert_decodes(ps_buf_str(&packed), (ps_str){NULL, 0});
    ps_buf_done(&packed);
}

static void
blocks_by_hand(void **state)
{
    (void)state;
    assert_decodes(BYTES("\x00"), BYTES(""));
    assert_decodes(BYTES("\x05\x10hello"), BYTES("hello"));
    assert_decodes(BYTES("\x07\x08xyz\x01\x03"), BYTES("xyzxyzx")); /* copies overlap themselves */
    assert_refused(BYTES(""), PS_ECORRUPT);
    assert_refused((ps_str){NULL, 0}, PS_ECORRUPT);
    assert_refused(BYTES("\x05\x10hell"), PS_ECORRUPT);
    assert_refused(BYTES("\x04\x10hello"), PS_ECORRUPT);
    assert_refused(BYTES("\x06\x10hello"), PS_ECORRUPT);
    assert_refused(BYTES("\x07\x08xyz\x01\x04"), PS_ECORRUPT); /* reaches before the start */
    assert_refused(BYTES("\x07\x08xyz\x01\x00"), PS_ECORRUPT);
    assert_refused(BYTES("\xFF\xFF\xFF\xFF\xFF\x01"), PS_ECORRUPT);
    assert_refused(BYTES("\x80"), PS_ECORRUPT);
}

static void
announced_lengths_are_not_believed(void **state)
{
    (void)state;
    test_alloc t = {0};
    ps_alloc a = test_alloc_of(&t);
    ps_buf out;
    ps_err err;
    ps_buf_init(&out, &a);
    /* 1 GiB announced in a few bytes: over the limit, or beyond what the format can do. */
    ps_str lie = BYTES("\x80\x80\x80\x80\x04\x10hello");
    assert_int_equal(decode(lie, 1 << 20, &out, &err), PS_ELIMIT);
    assert_int_equal(decode(lie, SIZE_MAX, &out, &err), PS_ECORRUPT);
    assert_int_equal(t.calls, 0);

    /* The limit is exact. */
    static char text[5000];
    ps_buf packed;
    ps_buf_init(&packed, &ps_malloc);
    assert_int_equal(wire_snappy_encode((ps_str){text, sizeof text}, &packed, NULL), PS_OK);
    assert_int_equal(decode(ps_buf_str(&packed), sizeof text - 1, &out, &err), PS_ELIMIT);
    assert_non_null(strstr(err.text, "5000"));
    assert_int_equal(t.calls, 0);
    assert_int_equal(decode(ps_buf_str(&packed), sizeof text, &out, &err), PS_OK);
    assert_int_equal(out.len, sizeof text);
    ps_buf_done(&out);

    /* The densest legal input passes the plausibility check: 64 bytes from each 3. */
    char dense[2 + 2 + 3 * 200] = "\x81\x64\x00z"; /* 1 + 200 * 64 = 12801 */
    for (size_t i = 0; i < 200; i++)
        memcpy(dense + 4 + 3 * i, "\xFE\x01\x00", 3);
    assert_int_equal(decode((ps_str){dense, sizeof dense}, 1 << 20, &out, &err), PS_OK);
    assert_int_equal(out.len, 12801);
    ps_buf_done(&out);

    t.calls = 0;
    t.fail_at = 1;
    assert_int_equal(decode(ps_buf_str(&packed), 1 << 20, &out, &err), PS_ENOMEM);
    ps_buf_clear(&out);
    assert_int_equal(wire_snappy_encode((ps_str){text, 10}, &out, &err), PS_ENOMEM);
    ps_buf_done(&out);
    ps_buf_done(&packed);
    test_alloc_check_empty(&t);
}

static void
damaged_blocks_do_no_harm(void **state)
{
    (void)state;
    test_random random = {23};
    char text[600];
    fill(&random, text, sizeof text, 4);
    ps_buf packed;
    ps_buf out;
    ps_buf_init(&packed, &ps_malloc);
    ps_buf_init(&out, &ps_malloc);
    assert_int_equal(wire_snappy_encode((ps_str){text, sizeof text}, &packed, NULL), PS_OK);
    for (size_t len = 0; len < packed.len; len++)
        assert_refused((ps_str){packed.ptr, len}, PS_ECORRUPT);
    for (size_t at = 0; at < packed.len; at++) {
        for (int bit = 0; bit < 8; bit++) {
            packed.ptr[at] ^= (char)(1 << bit);
            ps_status status = decode(ps_buf_str(&packed), 1 << 20, &out, NULL);
            assert_true(status == PS_OK || status == PS_ECORRUPT || status == PS_ELIMIT);
            packed.ptr[at] ^= (char)(1 << bit);
        }
    }
    ps_buf_done(&packed);
    ps_buf_done(&out);
}

/* ---- framed -------------------------------------------------------------------------------- */

static void
add_chunk(ps_buf *out, unsigned type, ps_str body)
{
    uint8_t head[4];
    ps_put_u32le(head, (uint32_t)body.len << 8 | type);
    ps_buf_add(out, head, 4);
    ps_buf_add_str(out, body);
}

static void
add_data(ps_buf *out, bool compressed, ps_str content)
{
    ps_buf body;
    uint8_t crc[4];
    uint32_t plain = ps_crc32c(0, content.ptr, content.len);
    ps_put_u32le(crc, (plain >> 15 | plain << 17) + 0xA282EAD8u);
    ps_buf_init(&body, &ps_malloc);
    if (compressed) {
        assert_int_equal(wire_snappy_encode(content, &body, NULL), PS_OK);
        ps_buf both;
        ps_buf_init(&both, &ps_malloc);
        ps_buf_add(&both, crc, 4);
        ps_buf_add_str(&both, ps_buf_str(&body));
        add_chunk(out, 0x00, ps_buf_str(&both));
        ps_buf_done(&both);
    } else {
        ps_buf_add(&body, crc, 4);
        ps_buf_add_str(&body, content);
        add_chunk(out, 0x01, ps_buf_str(&body));
    }
    ps_buf_done(&body);
}

/* CRC-32C of "123456789" is E3069283; rotated right by 15 and with A282EAD8 added: C78AB0E5 */
#define MASKED "\xE5\xB0\x8A\xC7"

static void
streams_by_hand(void **state)
{
    (void)state;
    assert_decodes(BYTES("\xFF\x06\x00\x00sNaPpY"), BYTES(""));
    assert_decodes(BYTES("\xFF\x06\x00\x00sNaPpY\x01\x0D\x00\x00" MASKED "123456789"),
                   BYTES("123456789"));
    assert_decodes(BYTES("\xFF\x06\x00\x00sNaPpY\x00\x0F\x00\x00" MASKED "\x09\x20"
                         "123456789"),
                   BYTES("123456789"));
    /* without its identifier a stream is taken for a block, which it is not */
    assert_refused(BYTES("\x01\x0D\x00\x00" MASKED "123456789"), PS_ECORRUPT);
}

static void
streams_of_many_chunks(void **state)
{
    (void)state;
    static char text[200000];
    test_random random = {41};
    fill(&random, text, sizeof text, 7);
    ps_buf in;
    ps_buf_init(&in, &ps_malloc);
    ps_buf_add_str(&in, magic);
    for (size_t at = 0; at < sizeof text;) {
        size_t n = test_random_below(&random, 65537);
        n = n > sizeof text - at ? sizeof text - at : n;
        add_data(&in, test_random_below(&random, 2) == 0, (ps_str){text + at, n});
        at += n;
        add_chunk(&in, 0xFE, BYTES("\0\0\0"));
        add_chunk(&in, 0x80 + (unsigned)test_random_below(&random, 0x7E), BYTES("skip me"));
        add_data(&in, at % 2 == 0, BYTES(""));
        ps_buf_add_str(&in, magic); /* concatenated streams */
    }
    assert_decodes(ps_buf_str(&in), (ps_str){text, sizeof text});

    ps_buf out;
    ps_err err;
    test_alloc t = {0};
    ps_alloc a = test_alloc_of(&t);
    ps_buf_init(&out, &a);
    assert_int_equal(decode(ps_buf_str(&in), sizeof text - 1, &out, &err), PS_ELIMIT);
    assert_int_equal(t.calls, 0);
    assert_int_equal(decode(ps_buf_str(&in), sizeof text, &out, &err), PS_OK);
    assert_int_equal(t.calls, 1); /* taken once, whatever the number of chunks */
    ps_buf_done(&out);
    ps_buf_done(&in);
}

static void
bad_chunks_are_refused(void **state)
{
    (void)state;
    static char big[65537];
    ps_buf in;
    ps_buf_init(&in, &ps_malloc);
    for (unsigned type = 0x02; type <= 0x80; type++) {
        ps_buf_clear(&in);
        ps_buf_add_str(&in, magic);
        add_data(&in, true, BYTES("content"));
        add_chunk(&in, type, BYTES("abcd"));
        if (type < 0x80)
            assert_refused(ps_buf_str(&in), PS_ECORRUPT);
        else
            assert_decodes(ps_buf_str(&in), BYTES("content"));
    }
    for (int compressed = 0; compressed < 2; compressed++) {
        for (size_t n = 65536; n <= 65537; n++) {
            ps_buf_clear(&in);
            ps_buf_add_str(&in, magic);
            add_data(&in, compressed, (ps_str){big, n});
            if (n > 65536)
                assert_refused(ps_buf_str(&in), PS_ECORRUPT);
            else
                assert_decodes(ps_buf_str(&in), (ps_str){big, n});
        }
        for (size_t n = 0; n < 4; n++) { /* no room for the checksum */
            ps_buf_clear(&in);
            ps_buf_add_str(&in, magic);
            add_chunk(&in, (unsigned)compressed, (ps_str){"\0\0\0\0", n});
            assert_refused(ps_buf_str(&in), PS_ECORRUPT);
        }
    }
    assert_refused(BYTES("\xFF\x06\x00\x00sNaPpY\xFF\x06\x00\x00sNaPpy"), PS_ECORRUPT);
    assert_refused(BYTES("\xFF\x06\x00\x00sNaPpY\xFF\x05\x00\x00sNaPp"), PS_ECORRUPT);
    assert_refused(BYTES("\xFF\x06\x00\x00sNaPpY\x00\xFF\xFF\xFF"), PS_ECORRUPT);
    ps_buf_done(&in);
}

static void
damaged_streams_are_refused(void **state)
{
    (void)state;
    ps_buf in;
    size_t bounds[4];
    ps_buf_init(&in, &ps_malloc);
    ps_buf_add_str(&in, magic);
    bounds[0] = in.len;
    add_data(&in, true, BYTES("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"));
    bounds[1] = in.len;
    add_data(&in, false, BYTES("bcdefgh"));
    bounds[2] = in.len;
    for (size_t len = magic.len; len < in.len; len++) {
        ps_buf out;
        ps_buf_init(&out, &ps_malloc);
        ps_status status = decode((ps_str){in.ptr, len}, 1 << 20, &out, NULL);
        bool whole = len == bounds[0] || len == bounds[1] || len == bounds[2];
        assert_int_equal(status, whole ? PS_OK : PS_ECORRUPT);
        ps_buf_done(&out);
    }
    /* Any single bit within a data chunk's checksum or content is noticed. */
    for (size_t chunk = 0; chunk < 2; chunk++) {
        for (size_t at = bounds[chunk] + 4; at < bounds[chunk + 1]; at++) {
            for (int bit = 0; bit < 8; bit++) {
                in.ptr[at] ^= (char)(1 << bit);
                assert_refused(ps_buf_str(&in), PS_ECORRUPT);
                in.ptr[at] ^= (char)(1 << bit);
            }
        }
    }
    ps_buf_done(&in);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_come_back),
        cmocka_unit_test(blocks_by_hand),
        cmocka_unit_test(announced_lengths_are_not_believed),
        cmocka_unit_test(damaged_blocks_do_no_harm),
        cmocka_unit_test(streams_by_hand),
        cmocka_unit_test(streams_of_many_chunks),
        cmocka_unit_test(bad_chunks_are_refused),
        cmocka_unit_test(damaged_streams_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
