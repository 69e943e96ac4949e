/*
 * test_params.c - times, durations and limits as clients write them.
 */
#include "tests/unit/support.h"

#include "connector/api/api.h"

static int64_t
time_of(const char *s)
{
    int64_t ms = -1;
    ps_err err;

    if (api_parse_time(ps_str_c(s), &ms, &err) != PS_OK)
        fail_msg("%s: %s", s, err.text);
    return ms;
}

static void
test_times(void **state)
{
    (void)state;
    assert_int_equal(time_of("0"), 0);
    assert_int_equal(time_of("1435781430.781"), 1435781430781);
    assert_int_equal(time_of("-1.5"), -1500);
    assert_int_equal(time_of("1e3"), 1000000);
    assert_int_equal(time_of("0.29"), 290);
    assert_int_equal(time_of("1970-01-01T00:00:00Z"), 0);
    assert_int_equal(time_of("2015-07-01T20:10:30.781Z"), 1435781430781);
    assert_int_equal(time_of("2015-07-01T22:10:30.781999+02:00"), 1435781430781);
    assert_int_equal(time_of("2000-02-29T12:00:00-00:30"), 951827400000);
    assert_int_equal(time_of("1969-12-31T23:59:59.5Z"), -500);
    assert_int_equal(time_of("-292273086-05-16T16:47:06Z"), MDL_TIME_MIN_MS);
    assert_int_equal(time_of("292277025-08-18T07:12:54.999999999Z"), MDL_TIME_MAX_MS);
    assert_int_equal(time_of("1e300"), MDL_TIME_MAX_MS);
    assert_int_equal(time_of("-Inf"), MDL_TIME_MIN_MS);
}

static void
test_what_is_no_time(void **state)
{
    static const char *const bad[] = {"",
                                      "NaN",
                                      "now",
                                      "2015-07-01",
                                      "2015-02-29T00:00:00Z",
                                      "1900-02-29T00:00:00Z",
                                      "2015-07-01T24:00:00Z",
                                      "2015-07-01T00:00:60Z",
                                      "2015-07-01T00:00:00",
                                      "2015-07-01T00:00:00.Z",
                                      "2015-07-01T00:00:00+25:00",
                                      "2015-07-01t00:00:00Z",
                                      "2015-13-01T00:00:00Z",
                                      "2015-07-01T00:00:00Zx"};
    int64_t ms;
    ps_err err;

    (void)state;
    for (size_t i = 0; i < PS_ARRAY_LEN(bad); i++) {
        if (api_parse_time(ps_str_c(bad[i]), &ms, &err) != PS_EINVAL)
            fail_msg("\"%s\" was taken for a time", bad[i]);
        assert_non_null(strstr(err.text, "to a valid timestamp"));
    }
    assert_int_equal(api_parse_time(PS_STR("a\"b"), &ms, &err), PS_EINVAL);
    assert_string_equal(err.text, "cannot parse \"a\\\"b\" to a valid timestamp");
}

static void
test_durations(void **state)
{
    int64_t ns;
    ps_err err;

    (void)state;
    assert_int_equal(api_parse_duration(PS_STR("15"), &ns, &err), PS_OK);
    assert_int_equal(ns, INT64_C(15000000000));
    assert_int_equal(api_parse_duration(PS_STR("0.5"), &ns, &err), PS_OK);
    assert_int_equal(ns, 500000000);
    assert_int_equal(api_parse_duration(PS_STR("1h30m"), &ns, &err), PS_OK);
    assert_int_equal(ns, INT64_C(5400000000000));
    assert_int_equal(api_parse_duration(PS_STR("-3"), &ns, &err), PS_OK);
    assert_int_equal(ns, -INT64_C(3000000000));
    assert_int_equal(api_parse_duration(PS_STR("1e30"), &ns, &err), PS_EINVAL);
    assert_non_null(strstr(err.text, "overflows int64"));
    assert_int_equal(api_parse_duration(PS_STR("soon"), &ns, &err), PS_EINVAL);
    assert_int_equal(api_parse_duration(PS_STR(""), &ns, &err), PS_EINVAL);
    assert_int_equal(api_parse_duration(PS_STR("300000y"), &ns, &err), PS_EINVAL);
}

static void
test_limits(void **state)
{
    uint64_t n;
    ps_err err;

    (void)state;
    assert_int_equal(api_parse_limit(PS_STR(""), &n, &err), PS_OK);
    assert_int_equal(n, 0);
    assert_int_equal(api_parse_limit(PS_STR("17"), &n, &err), PS_OK);
    assert_int_equal(n, 17);
    assert_int_equal(api_parse_limit(PS_STR("-1"), &n, &err), PS_EINVAL);
    assert_string_equal(err.text, "limit must be non-negative");
    assert_int_equal(api_parse_limit(PS_STR("x"), &n, &err), PS_EINVAL);
    assert_string_equal(err.text, "strconv.Atoi: parsing \"x\": invalid syntax");
}

static void
test_whole_numbers(void **state)
{
    static const struct {
        const char *text;
        unsigned bits;
        int64_t want;
        const char *why; /* NULL: it is one */
    } cases[] = {{"", 64, INT64_MIN, NULL},
                 {"0", 64, 0, NULL},
                 {"+7", 64, 7, NULL},
                 {"-7", 64, -7, NULL},
                 {"9223372036854775807", 64, INT64_MAX, NULL},
                 {"9223372036854775808", 64, 0,
                  "f: parsing \"9223372036854775808\": value out of range"},
                 {"2147483647", 32, INT32_MAX, NULL},
                 {"2147483648", 32, 0, "f: parsing \"2147483648\": value out of range"},
                 {"-2147483648", 32, INT32_MIN, NULL},
                 {"-2147483649", 32, 0, "f: parsing \"-2147483649\": value out of range"},
                 {"1.5", 64, 0, "f: parsing \"1.5\": invalid syntax"},
                 {"0x10", 64, 0, "f: parsing \"0x10\": invalid syntax"},
                 {"+-1", 64, 0, "f: parsing \"+-1\": invalid syntax"},
                 {"-", 64, 0, "f: parsing \"-\": invalid syntax"},
                 {" 1", 64, 0, "f: parsing \" 1\": invalid syntax"},
                 {"a\"b", 64, 0, "f: parsing \"a\\\"b\": invalid syntax"}};
    int64_t v;
    ps_err err;

    (void)state;
    for (size_t i = 0; i < PS_ARRAY_LEN(cases); i++) {
        ps_status st = api_parse_whole(ps_str_c(cases[i].text), "f", cases[i].bits, &v, &err);
        if (cases[i].why == NULL) {
            assert_int_equal(st, PS_OK);
            assert_true(v == cases[i].want);
        } else {
            assert_int_equal(st, PS_EINVAL);
            assert_string_equal(err.text, cases[i].why);
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_times),         cmocka_unit_test(test_what_is_no_time),
        cmocka_unit_test(test_durations),     cmocka_unit_test(test_limits),
        cmocka_unit_test(test_whole_numbers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
