/*
 * Doubles as text, against the C library: strtod (in the C locale) is correctly rounded, and printf
 * with enough digits shows whether a shorter or nearer text exists.
 */
#include "tests/unit/support.h"

#include <locale.h>
#include <math.h>
#include <stdio.h>

#include "lib/base/internal.h"

static void
check_parse(const char *text)
{
    double expected = strtod(text, NULL);
    double got = -1;
    ps_status status = ps_parse_double(ps_str_c(text), &got);
    if (isinf(expected)) {
        if (status != PS_EINVAL || got != -1)
            fail_msg("%.60s: overflow accepted", text);
    } else if (status != PS_OK || ps_bits_of(got) != ps_bits_of(expected)) {
        fail_msg("%.60s: %a, expected %a", text, got, expected);
    }
}

/* Significant digits of a decimal text, without leading and trailing zeros. */
static size_t
significant(char *dst, const char *text)
{
    size_t n = 0;
    for (; *text != '\0' && *text != 'e'; text++) {
        if (*text >= '0' && *text <= '9' && (n > 0 || *text != '0'))
            dst[n++] = *text;
    }
    while (n > 0 && dst[n - 1] == '0')
        n--;
    dst[n] = '\0';
    return n;
}

/* The text reads back to the same bits, no shorter one does, and none of its length is nearer. */
static void
check_format(double v)
{
    char text[PS_DOUBLE_TEXT];
    char other[64];
    char digits[64];
    char other_digits[64];
    size_t len = ps_format_double(text, v);
    assert_int_equal(text[len], '\0');
    if (ps_bits_of(strtod(text, NULL)) != ps_bits_of(v))
        fail_msg("%a as %s", v, text);
    double again;
    assert_int_equal(ps_parse_double((ps_str){text, len}, &again), PS_OK);
    if (ps_bits_of(again) != ps_bits_of(v))
        fail_msg("%a as %s is read as %a", v, text, again);
    size_t n = significant(digits, text);
    if (n > 1) {
        snprintf(other, sizeof other, "%.*e", (int)n - 2, v);
        if (strtod(other, NULL) == v)
            fail_msg("%s, but %s is shorter", text, other);
    }
    if (n > 0) {
        snprintf(other, sizeof other, "%.*e", (int)n - 1, v);
        significant(other_digits, other);
        if (strtod(other, NULL) == v && strcmp(digits, other_digits) != 0)
            fail_msg("%s, but %s is nearer", text, other);
    }
}

/* The two other layouts of the same digits; the extremes fit in what callers reserve. */
static void
formats_plain_and_as_go_does(void **state)
{
    (void)state;
    static const struct {
        double v;
        const char *plain, *go;
    } cases[] = {
        {0.0, "0", "0"},
        {-0.0, "-0", "-0"},
        {0.1, "0.1", "0.1"},
        {0.0001, "0.0001", "0.0001"},
        {0.00012345, "0.00012345", "0.00012345"},
        {0.00001, "0.00001", "1e-05"},
        {-1.5e-7, "-0.00000015", "-1.5e-07"},
        {100000, "100000", "100000"},
        {999999.5, "999999.5", "999999.5"},
        {1000000, "1000000", "1e+06"},
        {2097152, "2097152", "2.097152e+06"},
        {-123456789, "-123456789", "-1.23456789e+08"},
        {1e20, "100000000000000000000", "1e+20"},
        {1.5e21, "1500000000000000000000", "1.5e+21"},
        {INFINITY, "+Inf", "+Inf"},
        {-INFINITY, "-Inf", "-Inf"},
        {NAN, "NaN", "NaN"},
    };
    char text[PS_DOUBLE_PLAIN_TEXT];
    for (size_t i = 0; i < PS_ARRAY_LEN(cases); i++) {
        assert_int_equal(ps_format_double_plain(text, cases[i].v), strlen(cases[i].plain));
        assert_string_equal(text, cases[i].plain);
        assert_int_equal(ps_format_double_go(text, cases[i].v), strlen(cases[i].go));
        assert_string_equal(text, cases[i].go);
    }
    static const double extremes[] = {5e-324, -2.2250738585072014e-308, -1.7976931348623157e308,
                                      -1.2345678901234567e-300, -9.8813129168249309e-324};
    for (size_t i = 0; i < PS_ARRAY_LEN(extremes); i++) {
        size_t len = ps_format_double_plain(text, extremes[i]);
        assert_true(len < PS_DOUBLE_PLAIN_TEXT);
        assert_true(strpbrk(text, "eE") == NULL);
        assert_true(ps_bits_of(strtod(text, NULL)) == ps_bits_of(extremes[i]));
        assert_true(ps_format_double_go(text, extremes[i]) < PS_DOUBLE_TEXT);
        assert_true(ps_bits_of(strtod(text, NULL)) == ps_bits_of(extremes[i]));
    }
}

static void
formats_as_prometheus_does(void **state)
{
    (void)state;
    static const struct {
        double v;
        const char *text;
    } cases[] = {
        {0.0, "0"},
        {-0.0, "-0"},
        {1, "1"},
        {-1.5, "-1.5"},
        {0.1, "0.1"},
        {100, "100"},
        {123456.789, "123456.789"},
        {1e-6, "0.000001"},
        {9.99e-7, "9.99e-07"},
        {1e-7, "1e-07"},
        {1.5e-10, "1.5e-10"},
        {1e20, "100000000000000000000"},
        {1e21, "1e+21"},
        {999999999999999900000.0, "999999999999999900000"},
        {1.25e21, "1.25e+21"},
        {1e100, "1e+100"},
        {5e-324, "5e-324"},
        {1.7976931348623157e308, "1.7976931348623157e+308"},
        {2.2250738585072014e-308, "2.2250738585072014e-308"},
        {9007199254740993.0, "9007199254740992"},
        {1e23, "1e+23"},
        {0.30000000000000004, "0.30000000000000004"},
        {4.35, "4.35"},
        {-0.000001, "-0.000001"},
        {1.7e-6, "0.0000017"},
        {2e-44, "2e-44"},
        {INFINITY, "+Inf"},
        {-INFINITY, "-Inf"},
        {NAN, "NaN"},
        {-NAN, "NaN"},
    };
    char text[PS_DOUBLE_TEXT];
    for (size_t i = 0; i < PS_ARRAY_LEN(cases); i++) {
        size_t len = ps_format_double(text, cases[i].v);
        assert_string_equal(text, cases[i].text);
        assert_int_equal(len, strlen(text));
    }
    ps_format_double(text, ps_double_of(UINT64_C(0x7FF0000000000002)));
    assert_string_equal(text, "NaN");
}

static void
random_doubles_survive(void **state)
{
    (void)state;
    test_random random = {20240229};
    static const double scales[] = {1, 10, 100, 1000, 1e6};
    for (int i = 0; i < 400000; i++) {
        uint64_t bits = test_random_u64(&random);
        if (i % 4 == 1) { /* what metrics look like */
            int64_t whole = (int64_t)(test_random_u64(&random) >> test_random_below(&random, 63));
            bits = ps_bits_of((double)whole / scales[test_random_below(&random, 5)]);
        } else if (i % 4 == 2) { /* few bits of fraction, powers of two among them */
            bits &= UINT64_MAX << (1 + test_random_below(&random, 63)) | UINT64_C(0xFFF) << 52;
        } else if (i % 64 == 3) { /* subnormal */
            bits &= UINT64_C(0x800FFFFFFFFFFFFF) >> test_random_below(&random, 52);
        }
        if (isfinite(ps_double_of(bits)))
            check_format(ps_double_of(bits));
    }
    for (uint64_t e = 1; e < 2047; e++) { /* both sides of every power of two */
        check_format(ps_double_of((e << 52) - 1));
        check_format(ps_double_of(e << 52));
        check_format(ps_double_of((e << 52) + 1));
    }
}

static const char *const same_as_strtod[] = {
    "0",
    "-0",
    "+0",
    "1",
    "+1",
    "-1",
    "1.",
    ".5",
    "-.5",
    "00012.500",
    "1e5",
    "1E+5",
    "1e-5",
    "1e22",
    "1e23",
    "123456789012345678",
    "12345678901234567890123",
    "0.1",
    "1e-400",
    "1e400",
    "1.7976931348623157e308",
    "1.7976931348623158e308",
    "1.7976931348623159e308",
    "17976931348623158079372897140530341507993413271003782693617377898044496829276475"
    "09466490179775872070963302864166928879109465555478519404026306574886715058206819"
    "08902000708383676273854845817711531764475730270069855571366959622842914819860834"
    "936475292719074168444365510704342711559699508093042880177904174497792", /* 2^1024 - 2^970 */
    "4.9406564584124654e-324",
    "2.4703282292062327e-324",
    "2.4703282292062328e-324",
    "2.2250738585072011e-308",
    "2.2250738585072012e-308",
    "2.2250738585072014e-308",
    "9007199254740993",
    "9007199254740992.99999999999999999999",
    "9007199254740993.00000000001",
    "0e999999999999",
    "0.0000000000000000000000000000e-5",
    "1e-99999999999999999999",
    "1e99999999999999999999",
    "7450580596923828125e-27",
    "0x10",
    "0X1P-3",
    "0x1.8p1",
    "0x.8",
    "0x1.fffffffffffff8p0",
    "0x1.fffffffffffff7p0",
    "0x1.00000000000008p0",
    "0x1.000000000000080000000000000000001p0",
    "0x0.0000000000001p-1030",
    "0x1p-1074",
    "0x1p-1075",
    "0x1.1p-1075",
    "0x1p1023",
    "0x1p1024",
    "0x1.fffffffffffff8p1023",
    "0x123456789abcdef0123456789abcdef",
    "0x0p99999",
    "0x1p-99999",
};

static const char *const not_numbers[] = {
    "",     "+",     "-",        ".",      "e5",    "1e",        "1e+",    "1e5.",   "1.2.3",
    "1,5",  " 1",    "1 ",       "1_000",  "--1",   "+-1",       "0x",     "0x.",    "0xg",
    "0x1p", "0x1p+", "0x1.2.3",  "0x1e+5", "infin", "infinityy", "nanx",   "nan(1)", "1f",
    "0b1",  "1e5e5", "\xC2\xB2", "i",      "n",     "e",         "0x1p1.", "1d",
};

static void
reads_numbers(void **state)
{
    (void)state;
    for (size_t i = 0; i < PS_ARRAY_LEN(same_as_strtod); i++)
        check_parse(same_as_strtod[i]);
    double v = 42;
    for (size_t i = 0; i < PS_ARRAY_LEN(not_numbers); i++) {
        if (ps_parse_double(ps_str_c(not_numbers[i]), &v) != PS_EINVAL || v != 42)
            fail_msg("accepted: %s", not_numbers[i]);
    }
    assert_int_equal(ps_parse_double((ps_str){NULL, 0}, &v), PS_EINVAL);
    assert_int_equal(ps_parse_double((ps_str){"1\0", 2}, &v), PS_EINVAL);
    assert_int_equal(ps_parse_double((ps_str){"123", 2}, &v), PS_OK); /* no NUL needed */
    assert_true(v == 12);

    static const char *const infinite[] = {"inf", "Inf", "+INF", "infinity", "+Infinity"};
    for (size_t i = 0; i < PS_ARRAY_LEN(infinite); i++) {
        assert_int_equal(ps_parse_double(ps_str_c(infinite[i]), &v), PS_OK);
        assert_true(isinf(v) && v > 0);
    }
    assert_int_equal(ps_parse_double(PS_STR("-inf"), &v), PS_OK);
    assert_true(isinf(v) && v < 0);
    static const char *const nans[] = {"nan", "NaN", "NAN", "+nan", "-NaN"};
    for (size_t i = 0; i < PS_ARRAY_LEN(nans); i++) {
        assert_int_equal(ps_parse_double(ps_str_c(nans[i]), &v), PS_OK);
        assert_true(ps_bits_of(v) == UINT64_C(0x7FF8000000000001));
    }
}

static void
long_and_halfway_numbers_round_correctly(void **state)
{
    (void)state;
    test_random random = {5};
    char text[1400];
    for (int i = 0; i < 60000; i++) {
        size_t n = 1 + test_random_below(&random, i % 50 == 0 ? 1000 : 30);
        size_t point = test_random_below(&random, n + 1);
        size_t len = 0;
        for (size_t j = 0; j < n; j++) {
            if (j == point)
                text[len++] = '.';
            text[len++] = (char)('0' + test_random_below(&random, 10));
        }
        snprintf(text + len, sizeof text - len, "e%d",
                 (int)test_random_below(&random, 680) - 345 - (int)point);
        check_parse(text);
    }
    /* Exactly between two doubles, a little above and a little below. */
    for (int i = 0; i < 20000; i++) {
        uint64_t bits = test_random_u64(&random) >> 1;
        if (i % 4 == 0)
            bits >>= 12 + test_random_below(&random, 40); /* subnormal */
        if (bits >= UINT64_C(0x7FE) << 52)
            continue;
        long double middle = ((long double)ps_double_of(bits) + ps_double_of(bits + 1)) / 2;
        int places = 790 + (int)test_random_below(&random, 40);
        int len = snprintf(text, sizeof text, "%.*Le", places, middle);
        assert_true(len > 0 && len < (int)sizeof text);
        check_parse(text);
        char *e = strchr(text, 'e');
        e[-1] = '1';
        check_parse(text);
        snprintf(text, sizeof text, "%.*Le", 25, middle); /* cut: nearly the middle */
        check_parse(text);
    }
}

/* The fast ways never answer differently from exact arithmetic. */
static void
table_and_exact_arithmetic_agree(void **state)
{
    (void)state;
    test_random random = {11};
    for (int i = 0; i < 100000; i++) {
        uint64_t m = test_random_u64(&random) >> test_random_below(&random, 63);
        m = m % UINT64_C(10000000000000000000) + 1;
        int e10 = (int)test_random_below(&random, 660) - 345;
        char text[64];
        snprintf(text, sizeof text, "%llu", (unsigned long long)m);
        uint8_t digits[32];
        size_t n = strlen(text);
        for (size_t j = 0; j < n; j++)
            digits[j] = (uint8_t)(text[j] - '0');
        double exact = ps_double_of(ps_decimal_to_double(digits, n, e10, false));
        snprintf(text + n, sizeof text - n, "e%d", e10);
        double v = INFINITY;
        ps_status status = ps_parse_double(ps_str_c(text), &v);
        assert_int_equal(status, isinf(exact) ? PS_EINVAL : PS_OK);
        if (ps_bits_of(v) != ps_bits_of(exact))
            fail_msg("%s: %a, exactly %a", text, v, exact);
    }
}

static void
the_locale_does_not_matter(void **state)
{
    (void)state;
    static const char *const comma[] = {"de_DE.UTF-8", "fr_FR.UTF-8", "de_DE.utf8", "nl_NL.UTF-8"};
    bool set = false;
    for (size_t i = 0; i < PS_ARRAY_LEN(comma) && !set; i++)
        set = setlocale(LC_ALL, comma[i]) != NULL;
    /* Where no such locale is installed, what follows still must hold. */
    char text[PS_DOUBLE_TEXT];
    double v;
    ps_format_double(text, 1.5);
    assert_string_equal(text, "1.5");
    assert_int_equal(ps_parse_double(PS_STR("12345678901234567.25"), &v), PS_OK);
    assert_true(v == 12345678901234568.0);
    assert_int_equal(ps_parse_double(PS_STR("1,5"), &v), PS_EINVAL);
    setlocale(LC_ALL, "C");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(formats_as_prometheus_does),
        cmocka_unit_test(formats_plain_and_as_go_does),
        cmocka_unit_test(random_doubles_survive),
        cmocka_unit_test(reads_numbers),
        cmocka_unit_test(long_and_halfway_numbers_round_correctly),
        cmocka_unit_test(table_and_exact_arithmetic_agree),
        cmocka_unit_test(the_locale_does_not_matter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
