/*
 * Digests and checksums against published values: both are stored, so both are forever.
 */
#include "tests/unit/support.h"

#include "lib/base/internal.h"

static void
crc32c_gives_the_published_values(void **state)
{
    (void)state;
    /* RFC 3720, appendix B.4, and the usual check value. */
    unsigned char bytes[32];
    assert_int_equal(ps_crc32c(0, "123456789", 9), 0xE3069283);
    assert_int_equal(ps_crc32c(0, "", 0), 0);
    memset(bytes, 0, 32);
    assert_int_equal(ps_crc32c(0, bytes, 32), 0x8A9136AA);
    memset(bytes, 0xFF, 32);
    assert_int_equal(ps_crc32c(0, bytes, 32), 0x62A8AB43);
    for (int i = 0; i < 32; i++)
        bytes[i] = (unsigned char)i;
    assert_int_equal(ps_crc32c(0, bytes, 32), 0x46DD794E);
    for (int i = 0; i < 32; i++)
        bytes[i] = (unsigned char)(31 - i);
    assert_int_equal(ps_crc32c(0, bytes, 32), 0x113FDB5C);
}

static void
both_ways_of_crc32c_agree(void **state)
{
    (void)state;
    test_random random = {99};
    unsigned char bytes[600];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)test_random_u64(&random);
    for (size_t len = 0; len < 300; len++) {
        size_t at = test_random_below(&random, 300);
        size_t cut = test_random_below(&random, len + 1);
        uint32_t start = (uint32_t)test_random_u64(&random);
        uint32_t crc = ps_crc32c(start, bytes + at, len);
        assert_int_equal(crc, ps_crc32c_portable(start, bytes + at, len));
        /* in two pieces */
        assert_int_equal(crc,
                         ps_crc32c(ps_crc32c(start, bytes + at, cut), bytes + at + cut, len - cut));
    }
}

static void
xxhash64_gives_the_published_values(void **state)
{
    (void)state;
    assert_true(ps_xxh64(PS_STR("")) == UINT64_C(0xef46db3751d8e999));
    assert_true(ps_xxh64(PS_STR("a")) == UINT64_C(0xd24ec4f1a98c6e5b));
    assert_true(ps_xxh64(PS_STR("abc")) == UINT64_C(0x44bc2cf5ad770999));
}

static void
digests_are_pinned(void **state)
{
    (void)state;
    static const struct {
        const char *text, *hex;
    } pins[] = {
        {"", "99aa06d3014798d86001c324468d497f"},
        {"a", "a96faf705af16834e6c632b61e964e1f"},
        {"abc", "06b05ab6733a618578af5f94892f3950"},
        {"The quick brown fox jumps over the lazy dog", "ddd650205ca3e7fa24a1cc2e3a8a7651"},
    };
    char hex[33];
    for (size_t i = 0; i < PS_ARRAY_LEN(pins); i++) {
        ps_digest digest = ps_digest_of(ps_str_c(pins[i].text));
        assert_string_equal(test_hex(hex, digest.bytes, 16), pins[i].hex);
    }
    ps_digest a = ps_digest_of(PS_STR("a"));
    ps_digest b = a;
    assert_true(ps_digest_eq(&a, &b));
    b.bytes[15] ^= 1;
    assert_false(ps_digest_eq(&a, &b));
    ps_digest none = ps_digest_of((ps_str){NULL, 0});
    assert_string_equal(test_hex(hex, none.bytes, 16), pins[0].hex);
}

static void
hash64_depends_on_the_seed(void **state)
{
    (void)state;
    char text[300];
    memset(text, 'x', sizeof text);
    for (size_t len = 0; len < sizeof text; len++) {
        ps_str s = {text, len};
        assert_true(ps_hash64(s, 1) == ps_hash64(s, 1));
        assert_true(ps_hash64(s, 1) != ps_hash64(s, 2));
        text[len] ^= len < sizeof text - 1;
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc32c_gives_the_published_values),
        cmocka_unit_test(both_ways_of_crc32c_agree),
        cmocka_unit_test(xxhash64_gives_the_published_values),
        cmocka_unit_test(digests_are_pinned),
        cmocka_unit_test(hash64_depends_on_the_seed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
