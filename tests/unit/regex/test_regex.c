/*
 * Regular expressions: the dialect, what is refused and with which words, templates of Go.
 */
#include "tests/unit/support.h"

#include "lib/regex/regex.h"

static re_regex *
compile(const char *pattern)
{
    re_regex *re = NULL;
    ps_err err = {.text = ""};
    if (re_compile(ps_str_c(pattern), &re, &err) != PS_OK)
        fail_msg("%s: %s", pattern, err.text);
    return re;
}

static bool
matches(const char *pattern, ps_str s)
{
    re_regex *re = compile(pattern);
    bool ret = re_matches(re, s);
    re_free(re);
    return ret;
}

static void
matches_whole_strings(void **state)
{
    (void)state;
    assert_true(matches("a|b", PS_STR("a")));
    assert_true(matches("a|b", PS_STR("b")));
    assert_false(matches("a|b", PS_STR("ab")));
    assert_false(matches("a|bc", PS_STR("ac")));
    assert_true(matches("a|ab", PS_STR("ab")));
    assert_true(matches("", PS_STR("")));
    assert_true(matches("", (ps_str){NULL, 0}));
    assert_false(matches("", PS_STR("a")));
    assert_true(matches("a*", PS_STR("")));
    assert_true(matches(".", PS_STR("\n")));
    assert_true(matches("a.b", PS_STR("a\nb")));
    assert_false(matches("a$", PS_STR("a\n")));
    assert_true(matches(".", PS_STR("\xC3\xA9")));
    assert_true(matches("\\pL+", PS_STR("\xC3\xA9t\xC3\xA9")));
    assert_true(matches("[[:alpha:]]+\\d{2}", PS_STR("ab12")));
    assert_true(matches("\\Qa.b\\E+", PS_STR("a.bb")));
    assert_false(matches("\\Qa.b\\E", PS_STR("aXb")));
}

static void
flags_are_those_of_re2(void **state)
{
    (void)state;
    assert_true(matches("(?i)straSSe", PS_STR("STRASSE")));
    assert_true(matches("(?i:a)b", PS_STR("Ab")));
    assert_false(matches("(?i:a)b", PS_STR("AB")));
    assert_true(matches("(?i)\xC3\xA9", PS_STR("\xC3\x89")));
    assert_false(matches("(?-s).", PS_STR("\n")));
}

static void
bytes_that_are_no_text(void **state)
{
    (void)state;
    /* a damaged byte is no character; a NUL is one like any other */
    assert_false(matches("a.b", PS_STR("a\xFF"
                                       "b")));
    assert_true(matches("a.b", PS_STR("a\0b")));
    assert_false(matches("a", PS_STR("a\0")));
    re_regex *re;
    ps_err err;
    assert_int_equal(re_compile(PS_STR("a\xC3"), &re, &err), PS_EINVAL);
    assert_string_equal(err.text, "error parsing regexp: invalid UTF-8: ``");
    assert_int_equal(re_compile(PS_STR("a\0b"), &re, &err), PS_OK);
    assert_true(re_matches(re, PS_STR("a\0b")));
    re_free(re);
}

static void
says_what_is_wrong(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"(abc", "missing closing ): `(abc`"},
        {"abc)", "unexpected ): `abc)`"},
        {"a[b", "missing closing ]: `[b`"},
        {"*a", "missing argument to repetition operator: `*`"},
        {"a**", "invalid nested repetition operator: `**`"},
        {"a{2000}", "invalid repeat count: `{2000}`"},
        {"[z-a]", "invalid character class range: `z-a`"},
        {"[[:word2:]]", "invalid character class range: `[:word2:]`"},
        {"a\\", "trailing backslash at end of expression: `a\\`"},
        {"\\y", "invalid escape sequence: `\\y`"},
        {"(?=a)", "invalid or unsupported Perl syntax: `(?=`"},
        {"(?<=a)", "invalid or unsupported Perl syntax: `(?<`"},
        {"(?P<n", "invalid named capture: `(?P<n`"},
        {"a\\Cb", "invalid escape sequence: `\\C`"},
        {"(?P<n>a)(?P<n>b)", "duplicate name of a group: `(?P<n>a)(?P<n>b)`"},
    };
    for (size_t i = 0; i < PS_ARRAY_LEN(cases); i++) {
        re_regex *re;
        ps_err err;
        if (re_compile(ps_str_c(cases[i][0]), &re, &err) != PS_EINVAL)
            fail_msg("%s is not refused", cases[i][0]);
        assert_true(ps_str_starts(ps_str_c(err.text), PS_STR("error parsing regexp: ")));
        assert_string_equal(err.text + strlen("error parsing regexp: "), cases[i][1]);
    }
}

static void
hostile_patterns_are_bounded(void **state)
{
    (void)state;
    ps_err err;
    re_regex *re = NULL;
    /* a program of 1000^3 states */
    assert_int_equal(re_compile(PS_STR("((a{1000}){1000}){1000}"), &re, &err), PS_EINVAL);
    assert_int_equal(re_compile(PS_STR("(((\\pL{100}){9})(\\pL{100}){9}){1}"), &re, &err),
                     PS_ELIMIT);
    size_t n = RE_MAX_PATTERN_BYTES + 1;
    char *text = malloc(n);
    memset(text, 'a', n);
    assert_int_equal(re_compile((ps_str){text, n}, &re, &err), PS_ELIMIT);
    memset(text, '(', n);
    assert_int_not_equal(re_compile((ps_str){text, n - 1}, &re, &err), PS_OK);
    free(text);
    /* exponential for those who go back */
    char many[4001];
    memset(many, 'a', sizeof many);
    many[4000] = 'c';
    re = compile("(a*)*b");
    assert_false(re_matches(re, (ps_str){many, sizeof many}));
    re_free(re);
}

static void
any_pattern_ends(void **state)
{
    (void)state;
    static const char alphabet[] = "ab(|)[]^$.*+?{}1,\\QECd<>P:=i-\xC3\xA9";
    test_random random = {77};
    size_t compiled = 0;
    for (int round = 0; round < 20000; round++) {
        char pattern[16];
        size_t len = test_random_below(&random, sizeof pattern + 1);
        for (size_t i = 0; i < len; i++)
            pattern[i] = alphabet[test_random_below(&random, sizeof alphabet)];
        char *exact = test_exact_copy(pattern, len);
        re_regex *re;
        ps_err err;
        ps_status status = re_compile((ps_str){exact, len}, &re, &err);
        if (status == PS_OK) {
            compiled++;
            (void)re_matches(re, (ps_str){exact, len});
            (void)re_search(re, PS_STR("abab"));
            re_free(re);
        } else {
            assert_int_equal(status, PS_EINVAL);
            assert_true(ps_utf8_valid(ps_str_c(err.text)));
        }
        free(exact);
    }
    assert_true(compiled > 2000);
}

static void
searches_anywhere(void **state)
{
    (void)state;
    re_regex *re = compile("b+");
    assert_true(re_search(re, PS_STR("abba")));
    assert_false(re_matches(re, PS_STR("abba")));
    assert_false(re_search(re, PS_STR("")));
    re_free(re);
}

static void
expand(const char *pattern, const char *s, const char *template, const char *expected)
{
    re_regex *re = compile(pattern);
    ps_buf buf;
    ps_buf_init(&buf, &ps_malloc);
    bool matched = re_expand(re, ps_str_c(s), ps_str_c(template), &buf);
    assert_false(buf.failed);
    ps_buf_add_char(&buf, '\0');
    if (!matched)
        assert_null(expected);
    else
        assert_string_equal(buf.ptr, expected);
    ps_buf_done(&buf);
    re_free(re);
}

static void
expands_as_go_does(void **state)
{
    (void)state;
    expand("(.*)-(.*)", "ab-cd", "$2/$1", "cd/ab");
    expand("(.*)-(.*)", "ab-cd", "${2}x$1", "cdxab");
    expand("(.*)-(.*)", "ab-cd", "$1x", "");
    expand("(.*)-(.*)", "ab-cd", "<$1_>", "<>");
    expand("(.*)-(.*)", "ab-cd", "$0", "ab-cd");
    expand("(.*)-(.*)", "ab-cd", "$3|$99999999999|$01", "||");
    expand("(.*)-(.*)", "ab-cd", "$$1", "$1");
    expand("(.*)-(.*)", "ab-cd", "a$", "a$");
    expand("(.*)-(.*)", "ab-cd", "$-$ ${ ${} ${1 ${1-}", "$-$ ${ ${} ${1 ${1-}");
    expand("(.*)-(.*)", "ab-cd", "$1-$2.", "ab-cd.");
    expand("(.*)-(.*)", "abcd", "x", NULL);
    expand("", "", "x", "x");
    expand("a", "a", "", "");
    expand("(?P<first>.)(?P<rest>.*)", "xyz", "$rest$first", "yzx");
    expand("(?<first>.)(?<rest>.*)", "xyz", "${rest}_$first", "yz_x");
    expand("[(?<x>]+", "(?<", "$0", "(?<");
    expand("[]a(?<b]\\Q(?<q>\\E", "](?<q>", "$0", "](?<q>");
    expand("[[:alpha:](?<n>]*(?<n>\\d)", "a(?<1", "$n", "1");
    expand("(a)|(b)", "b", "[$1$2]", "[b]");
    expand("(\xC3\xA9?)x", "\xC3\xA9x", "$1$\xC3\xA9$1", "\xC3\xA9\xC3\xA9");
    expand("(.)", "x", "$1\xC3\xA9|$1\xE2\x82\xAC|${1}\xC3\xA9", "|x\xE2\x82\xAC|x\xC3\xA9");
    expand("(.)(.)(.)(.)(.)(.)(.)(.)(.)(.)(.)(.)(.)(.)(.)(.)(.)(.)", "abcdefghijklmnopqr",
           "$18$17$1", "rqa");
    expand("(a*)(a*)", "aaa", "$1.$2", "aaa.");
    expand("(a|ab)(c|bcd)?(d*)", "abcd", "$1.$2.$3", "a.bcd.");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matches_whole_strings),
        cmocka_unit_test(flags_are_those_of_re2),
        cmocka_unit_test(bytes_that_are_no_text),
        cmocka_unit_test(says_what_is_wrong),
        cmocka_unit_test(hostile_patterns_are_bounded),
        cmocka_unit_test(any_pattern_ends),
        cmocka_unit_test(searches_anywhere),
        cmocka_unit_test(expands_as_go_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
