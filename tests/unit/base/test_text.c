/*
 * Errors, slices and UTF-8.
 */
#include "tests/unit/support.h"

static void
errors_are_filled_and_cut_at_characters(void **state)
{
    (void)state;
    ps_err err;
    assert_int_equal(ps_fail(&err, PS_EINVAL, "bad %s %d", "thing", 7), PS_EINVAL);
    assert_int_equal(err.code, PS_EINVAL);
    assert_int_equal(err.offset, -1);
    assert_string_equal(err.text, "bad thing 7");

    assert_int_equal(ps_fail_at(&err, PS_ECORRUPT, 12, "x"), PS_ECORRUPT);
    assert_int_equal(err.offset, 12);
    ps_fail_at(&err, PS_ECORRUPT, (size_t)INT32_MAX + 5, "x");
    assert_int_equal(err.offset, INT32_MAX);
    assert_int_equal(ps_fail(NULL, PS_ENOMEM, "%d", 1), PS_ENOMEM);
    assert_int_equal(ps_fail_at(NULL, PS_ELIMIT, 3, "%d", 1), PS_ELIMIT);

    /* Whatever the cut falls into, the text stays valid and is not shorter than it must be. */
    static const char *const characters[] = {"a", "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80"};
    for (size_t c = 0; c < PS_ARRAY_LEN(characters); c++) {
        for (size_t lead = 0; lead < 8; lead++) {
            char text[1200] = "";
            memset(text, 'x', lead);
            for (size_t i = 0; i < 260; i++)
                memcpy(text + lead + i * strlen(characters[c]), characters[c],
                       strlen(characters[c]) + 1);
            ps_fail(&err, PS_EINVAL, "%s", text);
            size_t len = strlen(err.text);
            assert_true(ps_utf8_valid((ps_str){err.text, len}));
            assert_true(len > sizeof err.text - 1 - strlen(characters[c]));
            assert_memory_equal(err.text, text, len);
        }
    }
}

static void
every_status_has_a_name_of_its_own(void **state)
{
    (void)state;
    for (int i = 0; i < PS_STATUS_MAX; i++) {
        assert_string_not_equal(ps_status_name((ps_status)i), "unknown");
        for (int j = 0; j < i; j++)
            assert_string_not_equal(ps_status_name((ps_status)i), ps_status_name((ps_status)j));
    }
    assert_string_equal(ps_status_name(PS_STATUS_MAX), "unknown");
    assert_string_equal(ps_status_name((ps_status)-1), "unknown");
    assert_string_equal(ps_status_name((ps_status)1000), "unknown");
}

static void
slices_compare_by_bytes(void **state)
{
    (void)state;
    const ps_str none = {NULL, 0};
    assert_true(ps_str_eq(none, PS_STR("")));
    assert_true(ps_str_eq(PS_STR("ab"), PS_STR("ab")));
    assert_false(ps_str_eq(PS_STR("ab"), PS_STR("abc")));
    assert_false(ps_str_eq(PS_STR("ab"), PS_STR("aB")));
    assert_true(ps_str_eq_c(PS_STR("ab"), "ab"));
    assert_false(ps_str_eq_c(PS_STR("a\0b"), "a"));
    assert_true(ps_str_c(NULL).ptr == NULL && ps_str_c(NULL).len == 0);

    assert_int_equal(ps_str_cmp(none, PS_STR("")), 0);
    assert_int_equal(ps_str_cmp(none, PS_STR("a")), -1);
    assert_int_equal(ps_str_cmp(PS_STR("b"), PS_STR("abc")), 1);
    assert_int_equal(ps_str_cmp(PS_STR("ab"), PS_STR("abc")), -1);
    assert_int_equal(ps_str_cmp(PS_STR("abc"), PS_STR("ab")), 1);
    assert_int_equal(ps_str_cmp(PS_STR("a\x7F"), PS_STR("a\xC3\xA9")), -1); /* unsigned bytes */
    assert_int_equal(ps_str_cmp(PS_STR("A"), PS_STR("_")), -1);

    assert_true(ps_str_starts(PS_STR("abc"), none));
    assert_true(ps_str_starts(PS_STR("abc"), PS_STR("ab")));
    assert_false(ps_str_starts(PS_STR("a"), PS_STR("ab")));
    assert_false(ps_str_starts(PS_STR("ba"), PS_STR("a")));

    assert_true(ps_str_eq_nocase(PS_STR("Content-TYPE"), PS_STR("content-type")));
    assert_false(ps_str_eq_nocase(PS_STR("@"), PS_STR("`"))); /* 0x20 apart, not letters */
    assert_false(ps_str_eq_nocase(PS_STR("["), PS_STR("{")));
    assert_false(ps_str_eq_nocase(PS_STR("\xC3\x89"), PS_STR("\xC3\xA9")));
    assert_false(ps_str_eq_nocase(PS_STR("a"), PS_STR("ab")));

    assert_str(ps_str_trim(PS_STR(" \t\r\n\v\f x y \n")), "x y");
    assert_str(ps_str_trim(PS_STR("  \t ")), "");
    assert_str(ps_str_trim(none), "");
}

/* Straight from the definition: decode a code point and ask whether this was its shortest form. */
static bool
valid_by_definition(const unsigned char *p, size_t len)
{
    for (size_t i = 0; i < len;) {
        size_t n = p[i] < 0x80       ? 1
                   : p[i] >> 5 == 6  ? 2
                   : p[i] >> 4 == 14 ? 3
                   : p[i] >> 3 == 30 ? 4
                                     : 0;
        if (n == 0 || i + n > len)
            return false;
        static const uint32_t lead_mask[] = {0, 0x7F, 0x1F, 0x0F, 0x07};
        static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
        uint32_t point = p[i] & lead_mask[n];
        for (size_t j = 1; j < n; j++) {
            if (p[i + j] >> 6 != 2)
                return false;
            point = point << 6 | (p[i + j] & 0x3F);
        }
        if (point < least[n] || point > 0x10FFFF || (point >= 0xD800 && point <= 0xDFFF))
            return false;
        i += n;
    }
    return true;
}

static void
utf8_agrees_with_the_definition(void **state)
{
    (void)state;
    unsigned char bytes[40];
    /* All sequences of up to three bytes; all leads of four with the bytes that decide. */
    for (uint32_t i = 0; i < 1u << 24; i++) {
        bytes[0] = (unsigned char)(i >> 16);
        bytes[1] = (unsigned char)(i >> 8);
        bytes[2] = (unsigned char)i;
        if (bytes[0] < 0x80 && i % 251 != 0)
            continue;
        if (ps_utf8_valid((ps_str){(char *)bytes, 3}) != valid_by_definition(bytes, 3))
            fail_msg("%06x", i);
    }
    static const unsigned char last[] = {0x00, 0x7F, 0x80, 0xBF, 0xC0, 0xFF};
    for (uint32_t i = 0; i < 16u * 256 * 36; i++) {
        bytes[0] = (unsigned char)(0xF0 + i / (256 * 36));
        bytes[1] = (unsigned char)(i / 36);
        bytes[2] = last[i / 6 % 6];
        bytes[3] = last[i % 6];
        for (size_t len = 1; len <= 4; len++) {
            if (ps_utf8_valid((ps_str){(char *)bytes, len}) != valid_by_definition(bytes, len))
                fail_msg("%02x %02x %02x %02x", bytes[0], bytes[1], bytes[2], bytes[3]);
        }
    }
    /* A bad byte is found wherever it stands relative to the eight bytes read at a time. */
    for (size_t len = 1; len <= sizeof bytes; len++) {
        for (size_t at = 0; at < len; at++) {
            memset(bytes, 'a', len);
            assert_true(ps_utf8_valid((ps_str){(char *)bytes, len}));
            bytes[at] = 0x80;
            assert_false(ps_utf8_valid((ps_str){(char *)bytes, len}));
            bytes[at] = 0;
            assert_true(ps_utf8_valid((ps_str){(char *)bytes, len}));
        }
    }
    assert_true(ps_utf8_valid((ps_str){NULL, 0}));
}

static void
prefixes_end_at_characters(void **state)
{
    (void)state;
    ps_str s = PS_STR("a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80z"); /* 1 2 3 4 1 */
    static const size_t expected[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11, 11};
    for (size_t max = 0; max < PS_ARRAY_LEN(expected); max++)
        assert_int_equal(ps_utf8_prefix(s, max), expected[max]);
    /* Not UTF-8: any cut, but never more than max, and never nothing at all from a long run. */
    ps_str stray = PS_STR("\x80\x80\x80\x80\x80\x80\x80\x80");
    for (size_t max = 0; max <= 8; max++)
        assert_int_equal(ps_utf8_prefix(stray, max), max);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_are_filled_and_cut_at_characters),
        cmocka_unit_test(every_status_has_a_name_of_its_own),
        cmocka_unit_test(slices_compare_by_bytes),
        cmocka_unit_test(utf8_agrees_with_the_definition),
        cmocka_unit_test(prefixes_end_at_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
