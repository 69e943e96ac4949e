/*
 * Numbers, strings and series as scripts and queries write them, and the words of the language.
 */
#include "tests/unit/promql/query.h"

#include <math.h>

static void
numbers_follow_go(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double value;
    } cases[] = {
        {"0", 0},
        {"42", 42},
        {"-42", -42},
        {"+1.5", 1.5},
        {".5", 0.5},
        {"5.", 5},
        {"1e3", 1000},
        {"1E-3", 0.001},
        {"0x1f", 31},
        {"0XFF", 255},
        {"0x_1", 1},
        {"0x1_0", 16},
        {"017", 15},
        {"0_7", 7},
        {"08", 8},
        {"0777", 511},
        {"1_000", 1000},
        {"1_2.3_4", 12.34},
        {"1e1_0", 1e10},
        {"inf", INFINITY},
        {"-Inf", -INFINITY},
        {"+INF", INFINITY},
        {"5m", 300},
        {"1h30m", 5400},
        {"-90s", -90},
        {"1500ms", 1.5},
        {"9223372036854775807", 9223372036854775808.0},
        {"18446744073709551616", 18446744073709551616.0},
        {"0x7fffffffffffffff", 9223372036854775808.0},
    };
    double value;
    for (size_t i = 0; i < PS_ARRAY_LEN(cases); i++) {
        if (pql_parse_number(ps_str_c(cases[i].text), &value) != PS_OK || value != cases[i].value)
            fail_msg("%s is %f", cases[i].text, value);
    }
    assert_int_equal(pql_parse_number(PS_STR("nan"), &value), PS_OK);
    assert_true(isnan(value));
    static const char *const wrong[] = {"",    "-",     "1__0", "_1",    "1_",
                                        "0x",  "0x1.8", "0xg",  "1e400", "1 ",
                                        "--1", "5x",    "1m1h", "m5",    "1._5",
                                        "0x_", "e5",    "1e",   "+-1",   "0x8000000000000000"};
    for (size_t i = 0; i < PS_ARRAY_LEN(wrong); i++) {
        if (pql_parse_number(ps_str_c(wrong[i]), &value) != PS_EINVAL)
            fail_msg("%s is accepted as %f", wrong[i], value);
    }
}

static void
strings_unquote(void **state)
{
    (void)state;
    ps_arena arena;
    ps_str got;
    ps_arena_init(&arena, &ps_malloc, 0);
    static const struct {
        const char *text, *value;
    } cases[] = {
        {"\"\"", ""},
        {"''", ""},
        {"``", ""},
        {"\"a'b\"", "a'b"},
        {"'a\"b'", "a\"b"},
        {"'a\\'b'", "a'b"},
        {"`a\\n\nb`", "a\\n\nb"},
        {"\"\\a\\b\\f\\n\\r\\t\\v\\\\\\\"\"", "\a\b\f\n\r\t\v\\\""},
        {"\"\\101\\x42\\u00e9\\U0001f600\"", "AB\xc3\xa9\xf0\x9f\x98\x80"},
        {"\"\\377\\xfe\"", "\xff\xfe"},
    };
    for (size_t i = 0; i < PS_ARRAY_LEN(cases); i++) {
        assert_int_equal(pql_unquote(&arena, ps_str_c(cases[i].text), &got), PS_OK);
        assert_str(got, cases[i].value);
    }
    static const char *const wrong[] = {"",         "\"",          "a",
                                        "\"a'",     "\"a\"b\"",    "`a`b`",
                                        "\"\\q\"",  "\"\\x4\"",    "\"\\u12\"",
                                        "\"a\nb\"", "'\\\"'",      "\"\\400\"",
                                        "\"\\\"",   "\"\\ud800\"", "\"\\U00110000\""};
    for (size_t i = 0; i < PS_ARRAY_LEN(wrong); i++) {
        if (pql_unquote(&arena, ps_str_c(wrong[i]), &got) != PS_EINVAL)
            fail_msg("%s is accepted", wrong[i]);
    }
    ps_arena_done(&arena);
}

/* Random bytes survive quoting; what stands in quotes is visible ASCII or a whole character. */
static void
quoting_is_reversible(void **state)
{
    (void)state;
    ps_arena arena;
    ps_buf out;
    test_random r = {99};
    ps_arena_init(&arena, &ps_malloc, 0);
    ps_buf_init(&out, &ps_malloc);
    for (int i = 0; i < 5000; i++) {
        char bytes[24];
        size_t n = test_random_below(&r, sizeof bytes);
        for (size_t j = 0; j < n; j++)
            bytes[j] = (char)(test_random_below(&r, 4) == 0 ? 0xC0 + test_random_below(&r, 64)
                                                            : test_random_below(&r, 256));
        ps_str got, s = {bytes, n};
        ps_buf_clear(&out);
        pql_quote(&out, s);
        assert_true(ps_utf8_valid(ps_buf_str(&out)));
        assert_int_equal(pql_unquote(&arena, ps_buf_str(&out), &got), PS_OK);
        assert_true(ps_str_eq(s, got));
    }
    ps_buf_done(&out);
    ps_arena_done(&arena);
}

static void
series_are_sorted_labels(void **state)
{
    (void)state;
    static const struct {
        const char *text, *labels; /* as mdl_format_labels writes them */
    } cases[] = {
        {"m", "m"},
        {"m{}", "m"},
        {"{}", "{}"},
        {"", "{}"},
        {"m{z=\"1\",a='2',}", "m{a=\"2\",z=\"1\"}"},
        {"{\"m n\", \"l.b\"=`3`}", "{\"m n\",\"l.b\"=\"3\"}"},
        {"sum{by=\"without\"}", "sum{by=\"without\"}"},
        {"a:b{c=\"\", d=\"e\"}", "a:b{d=\"e\"}"},
        {" m { a = \"b\" } # comment", "m{a=\"b\"}"},
        {"m{\"n\", a=\"b\"}", "m{a=\"b\"}"},
    };
    ps_arena arena;
    ps_buf out;
    mdl_labels labels;
    pql_error error;
    ps_arena_init(&arena, &ps_malloc, 0);
    ps_buf_init(&out, &ps_malloc);
    for (size_t i = 0; i < PS_ARRAY_LEN(cases); i++) {
        assert_int_equal(pql_parse_series(&arena, ps_str_c(cases[i].text), &labels, &error), PS_OK);
        ps_buf_clear(&out);
        mdl_format_labels(&out, labels.items, labels.n, 0);
        assert_str(ps_buf_str(&out), cases[i].labels);
    }
    static const char *const wrong[][2] = {
        {"m{a}", "1:4: parse error: unexpected \"}\" in label set, expected \"=\""},
        {"m{a!=\"b\"}", "1:4: parse error: unexpected <op:!=> in label set, expected \"=\""},
        {"m{a=b}", "1:5: parse error: unexpected identifier \"b\" in label set, expected string"},
        {"m{a=\"b\" c=\"d\"}",
         "1:9: parse error: unexpected identifier \"c\" in label set, expected \",\" or \"}\""},
        {"m{=\"b\"}",
         "1:3: parse error: unexpected \"=\" in label set, expected identifier or \"}\""},
        {"m{a=\"b\"} 5", "1:10: parse error: unexpected number \"5\""},
        {"m n", "1:3: parse error: unexpected identifier \"n\""},
        {"m{a=\"1\",a=\"2\"}", "1:1: parse error: label \"a\" is set twice"},
    };
    for (size_t i = 0; i < PS_ARRAY_LEN(wrong); i++) {
        assert_int_equal(pql_parse_series(&arena, ps_str_c(wrong[i][0]), &labels, &error),
                         PS_EINVAL);
        assert_string_equal(error.text, wrong[i][1]);
    }
    ps_buf_done(&out);
    ps_arena_done(&arena);
}

static void
functions_are_found_by_name(void **state)
{
    (void)state;
    for (int id = 0; id < PQL_FN_COUNT; id++) {
        const pql_function *fn = pql_function_of((pql_fn)id);
        assert_int_equal(fn->id, id);
        assert_ptr_equal(pql_function_named(ps_str_c(fn->name)), fn);
        assert_true(fn->n_args <= PQL_FN_MAX_ARGS);
        for (size_t i = 0; i < PQL_FN_MAX_ARGS; i++)
            assert_int_equal(fn->args[i] != PQL_NONE, i < fn->n_args);
    }
    assert_null(pql_function_of(PQL_FN_COUNT));
    assert_null(pql_function_named(PS_STR("")));
    assert_null(pql_function_named(PS_STR("RATE")));
    assert_null(pql_function_named(PS_STR("rat")));
    assert_null(pql_function_named(PS_STR("rates")));
    assert_string_equal(pql_op_text(PQL_TRIM_UPPER), "</");
    assert_string_equal(pql_agg_text(PQL_LIMIT_RATIO), "limit_ratio");
    assert_string_equal(pql_type_text(PQL_MATRIX), "range vector");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_follow_go),           cmocka_unit_test(strings_unquote),
        cmocka_unit_test(quoting_is_reversible),       cmocka_unit_test(series_are_sorted_labels),
        cmocka_unit_test(functions_are_found_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
