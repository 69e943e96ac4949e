/*
 * Label sets as people read them: quoting, any bytes, cutting.
 */
#include "tests/unit/support.h"

#include "lib/model/model.h"

#define L(name, value)                                                                             \
    {                                                                                              \
        PS_STR(name), PS_STR(value)                                                                \
    }

static void
assert_text(const mdl_label *items, size_t n, size_t max, const char *expected)
{
    ps_buf buf;
    ps_buf_init(&buf, &ps_malloc);
    ps_buf_add_c(&buf, "before ");
    mdl_format_labels(&buf, items, n, max);
    ps_buf_add_char(&buf, '\0');
    assert_false(buf.failed);
    assert_memory_equal(buf.ptr, "before ", 7);
    assert_string_equal(buf.ptr + 7, expected);
    ps_buf_done(&buf);
}

#define TEXT(expected, ...)                                                                        \
    do {                                                                                           \
        const mdl_label text_[] = {__VA_ARGS__};                                                   \
        assert_text(text_, PS_ARRAY_LEN(text_), 0, expected);                                      \
    } while (0)

static void
writes_what_prometheus_reads(void **state)
{
    (void)state;
    TEXT("up", L("__name__", "up"));
    TEXT("up{a=\"b\",c=\"d\"}", L("__name__", "up"), L("a", "b"), L("c", "d"));
    TEXT("a:b{c=\"d\"}", L("c", "d"), L("__name__", "a:b"));
    TEXT("{\"a.b\",c=\"d\"}", L("__name__", "a.b"), L("c", "d"));
    TEXT("{\"9a\"}", L("__name__", "9a"));
    TEXT("{a=\"b\"}", L("a", "b"));
    TEXT("m{\"a:b\"=\"1\",\"x y\"=\"2\",\"\"=\"3\"}", L("__name__", "m"), L("a:b", "1"),
         L("x y", "2"), L("", "3"));
    TEXT("m{__name__=\"n\"}", L("__name__", "m"), L("__name__", "n"));
    TEXT("{__name__=\"\"}", L("__name__", ""));
    assert_text(NULL, 0, 0, "{}");
}

static void
any_bytes_come_out_readable(void **state)
{
    (void)state;
    TEXT("m{a=\"\\\"\\\\\\n\\t\\r\\a\\b\\v\\f\"}", L("__name__", "m"),
         L("a", "\"\\\n\t\r\a\b\v\f"));
    TEXT("m{a=\"\\x00\\x1f\\x7f\"}", L("__name__", "m"), L("a", "\x00\x1F\x7F"));
    TEXT("m{a=\"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\"}", L("__name__", "m"),
         L("a", "\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80"));
    TEXT("m{a=\"\\xff\\xc3z\\xed\\xa0\\x80\\xe2\\x82\"}", L("__name__", "m"),
         L("a", "\xFF\xC3z\xED\xA0\x80\xE2\x82"));
    TEXT("m{a=\"\\u0085\xC2\xA0\"}", L("__name__", "m"), L("a", "\xC2\x85\xC2\xA0"));
    TEXT("{\"\\xff\"}", L("__name__", "\xFF"));

    test_random random = {17};
    char bytes[64];
    for (int i = 0; i < 20000; i++) {
        size_t len = test_random_below(&random, sizeof bytes);
        for (size_t j = 0; j < len; j++)
            bytes[j] = (char)(test_random_u64(&random) >> 40);
        const mdl_label items[] = {{{bytes, len / 2}, {bytes + len / 2, len - len / 2}}};
        size_t max = test_random_below(&random, 80);
        ps_buf buf;
        ps_buf_init(&buf, &ps_malloc);
        mdl_format_labels(&buf, items, 1, max);
        assert_true(ps_utf8_valid(ps_buf_str(&buf)));
        assert_true(max == 0 || buf.len <= max);
        for (size_t j = 0; j < buf.len; j++)
            assert_true((unsigned char)buf.ptr[j] >= 0x20 && buf.ptr[j] != 0x7F);
        ps_buf_done(&buf);
    }
}

static void
is_cut_at_a_character(void **state)
{
    (void)state;
    const mdl_label items[] = {L("__name__", "up"), L("a", "\xC3\xA9\xC3\xA9\xC3\xA9")};
    /* up{a="<6 bytes>"} has 14 bytes */
    assert_text(items, 2, 14, "up{a=\"\xC3\xA9\xC3\xA9\xC3\xA9\"}");
    assert_text(items, 2, 15, "up{a=\"\xC3\xA9\xC3\xA9\xC3\xA9\"}");
    assert_text(items, 2, 13, "up{a=\"\xC3\xA9\xC3\xA9...");
    assert_text(items, 2, 12, "up{a=\"\xC3\xA9...");
    assert_text(items, 2, 11, "up{a=\"\xC3\xA9...");
    assert_text(items, 2, 10, "up{a=\"...");
    assert_text(items, 2, 4, "u...");
    assert_text(items, 2, 3, "...");
    assert_text(items, 2, 2, "..");

    /* A megabyte of label costs no megabyte of text. */
    static char big[1 << 20];
    memset(big, '\n', sizeof big);
    const mdl_label huge[] = {L("__name__", "up"),
                              {PS_STR("a"), {big, sizeof big}},
                              {{big, sizeof big}, PS_STR("b")}};
    test_alloc t = {0};
    ps_alloc a = test_alloc_of(&t);
    ps_buf buf;
    ps_buf_init(&buf, &a);
    mdl_format_labels(&buf, huge, 3, 100);
    assert_int_equal(buf.len, 100);
    assert_true(t.peak_bytes < 1000);
    ps_buf_done(&buf);
}

static void
a_full_buffer_stays_failed(void **state)
{
    (void)state;
    const mdl_label items[] = {L("__name__", "up"), L("a", "some value that needs room")};
    ps_buf buf;
    ps_buf_init(&buf, &ps_malloc);
    buf.max = 10;
    mdl_format_labels(&buf, items, 2, 20);
    assert_true(buf.failed);
    assert_true(buf.len <= 10);
    ps_buf_done(&buf);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_what_prometheus_reads),
        cmocka_unit_test(any_bytes_come_out_readable),
        cmocka_unit_test(is_cut_at_a_character),
        cmocka_unit_test(a_full_buffer_stays_failed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
