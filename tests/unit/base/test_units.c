/*
 * Whole numbers, durations and sizes as text.
 */
#include "tests/unit/support.h"

static void
whole_numbers(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t value;
    } good[] = {
        {"0", 0},
        {"-0", 0},
        {"+7", 7},
        {"-7", -7},
        {"007", 7},
        {"9223372036854775807", INT64_MAX},
        {"-9223372036854775808", INT64_MIN},
    };
    static const char *const bad[] = {
        "",
        "-",
        "+",
        "1 ",
        " 1",
        "1.0",
        "1e3",
        "--1",
        "0x10",
        "9223372036854775808",
        "-9223372036854775809",
        "99999999999999999999999",
        "12a",
    };
    int64_t v;
    for (size_t i = 0; i < PS_ARRAY_LEN(good); i++) {
        assert_int_equal(ps_parse_i64(ps_str_c(good[i].text), &v), PS_OK);
        assert_true(v == good[i].value);
    }
    for (size_t i = 0; i < PS_ARRAY_LEN(bad); i++) {
        v = 42;
        assert_int_equal(ps_parse_i64(ps_str_c(bad[i]), &v), PS_EINVAL);
        assert_true(v == 42);
    }
    assert_int_equal(ps_parse_i64((ps_str){NULL, 0}, &v), PS_EINVAL);
    assert_int_equal(ps_parse_i64((ps_str){"1\0002", 3}, &v), PS_EINVAL);
}

static const struct {
    const char *text;
    int64_t ms;
    const char *again;
} good_durations[] = {
    {"0", 0, "0s"},
    {"0s", 0, "0s"},
    {"15s", 15000, "15s"},
    {"500ms", 500, "500ms"},
    {"1h30m", 5400000, "1h30m"},
    {"90m", 5400000, "1h30m"},
    {"90d", 7776000000, "90d"},
    {"2w", 1209600000, "2w"},
    {"14d", 1209600000, "2w"},
    {"15d", 1296000000, "15d"},
    {"1y", 31536000000, "1y"},
    {"365d", 31536000000, "1y"},
    {"366d", 31622400000, "366d"},
    {"1y2w3d4h5m6s7ms", 31536000000 + 1209600000 + 259200000 + 14706007, "382d4h5m6s7ms"},
    {"1s500ms", 1500, "1s500ms"},
    {"1500ms", 1500, "1s500ms"},
    {"0h5m", 300000, "5m"},
    {"9223372036854775807ms", INT64_MAX, "106751991167d7h12m55s807ms"},
    {"292471208y", INT64_C(292471208) * 31536000000, "292471208y"},
};

static const char *const bad_durations[] = {
    "",
    "1",
    "s",
    "1.5h",
    "-1s",
    "+1s",
    "1s1h",
    "1m1m",
    "1S",
    "1sec",
    "1h 30m",
    " 1s",
    "1s ",
    "1ms1s",
    "9223372036854775808ms",
    "292471209y",
    "9223372036854775807ms1s",
    "1h9223372036854775807ms",
    "99999999999999999999s",
    "0x1s",
    "1ns",
    "1us",
    "00",
};

static void
durations(void **state)
{
    (void)state;
    char text[PS_DURATION_TEXT];
    int64_t ms;
    for (size_t i = 0; i < PS_ARRAY_LEN(good_durations); i++) {
        assert_int_equal(ps_parse_duration(ps_str_c(good_durations[i].text), &ms), PS_OK);
        if (ms != good_durations[i].ms)
            fail_msg("%s: %lld", good_durations[i].text, (long long)ms);
        size_t len = ps_format_duration(text, sizeof text, ms);
        assert_string_equal(text, good_durations[i].again);
        assert_int_equal(len, strlen(text));
        assert_int_equal(ps_parse_duration((ps_str){text, len}, &ms), PS_OK);
        assert_true(ms == good_durations[i].ms);
        /* too small by one: nothing, but terminated */
        assert_int_equal(ps_format_duration(text, len, ms), 0);
        assert_int_equal(text[0], '\0');
        assert_int_equal(ps_format_duration(text, len + 1, ms), len);
    }
    for (size_t i = 0; i < PS_ARRAY_LEN(bad_durations); i++) {
        ms = 42;
        if (ps_parse_duration(ps_str_c(bad_durations[i]), &ms) != PS_EINVAL)
            fail_msg("accepted: %s", bad_durations[i]);
        assert_true(ms == 42);
    }
    assert_int_equal(ps_format_duration(NULL, 0, 5), 0);
    assert_true(ps_format_duration(text, sizeof text, -1500) > 0);
    assert_string_equal(text, "-1s500ms");
    assert_true(ps_format_duration(text, sizeof text, INT64_MIN) > 0);
    assert_string_equal(text, "-106751991167d7h12m55s808ms");
}

static void
sizes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t bytes;
    } good[] = {
        {"0", 0},
        {"1", 1},
        {"512B", 512},
        {"512b", 512},
        {"1k", 1024},
        {"1KB", 1024},
        {"64KiB", 65536},
        {"128MB", INT64_C(134217728)},
        {"1GB", 1 << 30},
        {"1gib", 1 << 30},
        {"3T", INT64_C(3) << 40},
        {"2PiB", INT64_C(2) << 50},
        {"7E", INT64_C(7) << 60},
        {"9223372036854775807", INT64_MAX},
        {"0E", 0},
    };
    static const char *const bad[] = {
        "",         "B",     "MB",   "-1",   "+1",
        "1.5GB",    "1 MB",  "1MB ", "1BB",  "1KBB",
        "1iB",      "1KiBs", "1X",   "8E",   "9223372036854775808",
        "8388608T", "1ib",   "1Ki",  "1Mb1", "1`",
    };
    int64_t bytes;
    for (size_t i = 0; i < PS_ARRAY_LEN(good); i++) {
        assert_int_equal(ps_parse_size(ps_str_c(good[i].text), &bytes), PS_OK);
        assert_true(bytes == good[i].bytes);
    }
    for (size_t i = 0; i < PS_ARRAY_LEN(bad); i++) {
        bytes = 42;
        if (ps_parse_size(ps_str_c(bad[i]), &bytes) != PS_EINVAL)
            fail_msg("accepted: %s", bad[i]);
        assert_true(bytes == 42);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_numbers),
        cmocka_unit_test(durations),
        cmocka_unit_test(sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
