/*
 * Matchers: every short way gives what RE2 gives; sets and prefixes tell the truth to indexes.
 */
#include "tests/unit/support.h"

#include "lib/regex/regex.h"

static re_matcher *
make(mdl_match type, const char *pattern)
{
    mdl_matcher of = {type, PS_STR("job"), ps_str_c(pattern)};
    re_matcher *m = NULL;
    ps_err err = {.text = ""};
    if (re_matcher_new(&ps_malloc, &of, &m, &err) != PS_OK)
        fail_msg("%s: %s", pattern, err.text);
    return m;
}

static bool
matches(mdl_match type, const char *pattern, const char *value)
{
    re_matcher *m = make(type, pattern);
    bool ret = re_matcher_matches(m, ps_str_c(value));
    assert_int_equal(re_matcher_matches_empty(m), re_matcher_matches(m, PS_STR("")));
    re_matcher_free(m);
    return ret;
}

static void
four_kinds(void **state)
{
    (void)state;
    assert_true(matches(MDL_MATCH_EQ, "a.*", "a.*"));
    assert_false(matches(MDL_MATCH_EQ, "a.*", "ab"));
    assert_true(matches(MDL_MATCH_EQ, "", ""));
    assert_true(matches(MDL_MATCH_NE, "a", "b"));
    assert_false(matches(MDL_MATCH_NE, "a", "a"));
    assert_false(matches(MDL_MATCH_NE, "", ""));
    assert_true(matches(MDL_MATCH_RE, "a.*", "ab"));
    assert_false(matches(MDL_MATCH_NRE, "a.*", "ab"));
    assert_true(matches(MDL_MATCH_NRE, "a.*", ""));
    assert_false(matches(MDL_MATCH_NRE, ".*", ""));
    assert_true(matches(MDL_MATCH_NRE, ".+", ""));
}

static void
says_the_set(const char *pattern, const char *expected)
{
    re_matcher *m = make(MDL_MATCH_RE, pattern);
    const ps_str *set = NULL;
    size_t n = re_matcher_set(m, &set);
    assert_int_equal(re_matcher_set(m, NULL), n);
    ps_buf buf;
    ps_buf_init(&buf, &ps_malloc);
    for (size_t i = 0; i < n; i++) {
        ps_buf_add_str(&buf, set[i]);
        ps_buf_add_char(&buf, ';');
        assert_true(re_matcher_matches(m, set[i]));
    }
    ps_buf_add_char(&buf, '\0');
    if (strcmp(buf.ptr, expected) != 0)
        fail_msg("%s: %s, expected %s", pattern, buf.ptr, expected);
    ps_buf_done(&buf);
    re_matcher_free(m);
}

static void
sets(void **state)
{
    (void)state;
    says_the_set("abc", "abc;");
    says_the_set("", ";");
    says_the_set("b|a|c|a", "a;b;c;");
    says_the_set("a|", ";a;");
    says_the_set("a\\.b|c\\|d", "a.b;c|d;");
    says_the_set("(a|b)", "a;b;");
    says_the_set("(?:a|b)", "a;b;");
    says_the_set("x(a|b|)y", "xay;xby;xy;");
    says_the_set("^ab$", "ab;");
    says_the_set("^ab\\$", "ab$;");
    says_the_set("ab\\\\$", "ab\\;");
    says_the_set("\xC3\xA9|e", "e;\xC3\xA9;");
    static const char *const none[] = {"a.*",  "a|b.", "(?i)a|b", "(?i:a|b)", "(a|b)c|d", "a|b*",
                                       "[ab]", "a{2}", "a\\d",    "\\Qa\\E",  "a|(b|c)",  "^a|b$"};
    for (size_t i = 0; i < PS_ARRAY_LEN(none); i++)
        says_the_set(none[i], "");
    re_matcher *m = make(MDL_MATCH_EQ, "x|y");
    const ps_str *set;
    assert_int_equal(re_matcher_set(m, &set), 1);
    assert_true(ps_str_eq_c(set[0], "x|y"));
    re_matcher_free(m);
    m = make(MDL_MATCH_NRE, "x|y");
    assert_int_equal(re_matcher_set(m, NULL), 0);
    assert_int_equal(re_matcher_prefix(m).len, 0);
    re_matcher_free(m);
}

static void
prefixes(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"abc", "abc"},        {"abc.*", "abc"},      {"ab.+cd", "ab"},
        {"abc*", "ab"},        {"abc?d", "ab"},       {"abc+", "ab"},
        {"ab{0}c", "a"},       {"a\xC3\xA9?", "a"},   {"ab|ac", ""},
        {"ab(c|d).*", "ab"},   {"ab[(]c|x", ""},      {"(?i)ab.*", ""},
        {"^ab[cd]", "ab"},     {".*ab", ""},          {"a\\.b.c", "a.b"},
        {"ab(c|d)*|e", ""},    {"ab\\Q(\\E.|c.", ""}, {"ab(?i)c.*", "a"},
        {"ab(?:c|d)e+", "ab"}, {"\\pLab", ""},        {"", ""},
    };
    for (size_t i = 0; i < PS_ARRAY_LEN(cases); i++) {
        re_matcher *m = make(MDL_MATCH_RE, cases[i][0]);
        ps_str prefix = re_matcher_prefix(m);
        if (!ps_str_eq_c(prefix, cases[i][1]))
            fail_msg("%s: %.*s", cases[i][0], (int)prefix.len, prefix.ptr);
        re_matcher_free(m);
    }
}

/* Patterns from pieces that short ways know, and some that they do not: RE2 is the judge. */
static void
short_ways_do_what_re2_does(void **state)
{
    (void)state;
    static const char *const pieces[] = {"a",   "b",        "ab",   ".*",   ".+",  "|",     "(",
                                         ")",   "(?:",      "\\.",  "\\|",  "^",   "$",     "?",
                                         "*",   "+",        ".",    "[ab]", "a|b", "(a|b)", "\\\\",
                                         "{2}", "\xC3\xA9", "(?i)", "\\d",  "{"};
    static const char *const parts[] = {"a",  "b",        "ab", ".", "|",   "\\",
                                        "\n", "\xC3\xA9", "^",  "$", "{2}", "A"};
    test_random random = {5};
    size_t compiled = 0, sets_seen = 0, matched = 0, prefixed = 0;
    for (int round = 0; round < 60000; round++) {
        char pattern[64] = "";
        for (size_t n = test_random_below(&random, 6); n > 0; n--)
            strcat(pattern, pieces[test_random_below(&random, PS_ARRAY_LEN(pieces))]);
        mdl_matcher of = {MDL_MATCH_RE, PS_STR("x"), ps_str_c(pattern)};
        re_matcher *m;
        re_regex *re;
        ps_status status = re_matcher_new(&ps_malloc, &of, &m, NULL);
        assert_int_equal(re_compile(of.value, &re, NULL), status);
        if (status != PS_OK)
            continue;
        compiled++;
        const ps_str *set;
        size_t n_set = re_matcher_set(m, &set);
        ps_str prefix = re_matcher_prefix(m);
        sets_seen += n_set > 1;
        prefixed += n_set == 0 && prefix.len > 0;
        for (size_t i = 0; i < n_set; i++)
            assert_true(re_matches(re, set[i]));
        for (int k = 0; k < 12; k++) {
            char value[64] = "";
            for (size_t n = test_random_below(&random, 5); n > 0; n--)
                strcat(value, parts[test_random_below(&random, PS_ARRAY_LEN(parts))]);
            ps_str v = ps_str_c(value);
            bool expected = re_matches(re, v);
            if (re_matcher_matches(m, v) != expected)
                fail_msg("%s over %s: RE2 says %d", pattern, value, expected);
            if (!expected)
                continue;
            matched++;
            if (!ps_str_starts(v, prefix))
                fail_msg("%s: %s does not begin with %.*s", pattern, value, (int)prefix.len,
                         prefix.ptr);
            bool found = n_set == 0;
            for (size_t i = 0; i < n_set; i++)
                found |= ps_str_eq(set[i], v);
            assert_true(found);
        }
        re_matcher_free(m);
        re_free(re);
    }
    assert_true(compiled > 20000 && sets_seen > 1000 && matched > 20000 && prefixed > 1000);
}

static void
absent_labels_are_empty(void **state)
{
    (void)state;
    mdl_label items[] = {{PS_STR("__name__"), PS_STR("up")}, {PS_STR("job"), PS_STR("api")}};
    mdl_labels labels = {items, 2};
    mdl_matcher of[] = {{MDL_MATCH_RE, PS_STR("job"), PS_STR("a.*")},
                        {MDL_MATCH_EQ, PS_STR("zone"), PS_STR("")},
                        {MDL_MATCH_NRE, PS_STR("rack"), PS_STR(".+")}};
    re_matcher *ms[3];
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(re_matcher_new(&ps_malloc, &of[i], &ms[i], NULL), PS_OK);
    assert_true(re_matchers_match(ms, 3, labels));
    assert_true(ps_str_eq_c(re_matcher_of(ms[1])->name, "zone"));
    items[1].name = PS_STR("zone");
    assert_false(re_matchers_match(ms, 3, labels));
    assert_true(re_matchers_match(ms, 0, labels));
    for (size_t i = 0; i < 3; i++)
        re_matcher_free(ms[i]);
}

static void
large_lists_stay_in_bounds(void **state)
{
    (void)state;
    enum { N = 50000 };
    ps_buf buf;
    ps_buf_init(&buf, &ps_malloc);
    for (int i = 0; i < N; i++)
        ps_buf_addf(&buf, "%sinstance-%d", i == 0 ? "" : "|", (i * 7919) % N);
    ps_buf_add_char(&buf, '\0');
    re_matcher *m = make(MDL_MATCH_RE, buf.ptr);
    assert_int_equal(re_matcher_set(m, NULL), N);
    assert_true(re_matcher_matches(m, PS_STR("instance-49999")));
    assert_false(re_matcher_matches(m, PS_STR("instance-50000")));
    re_matcher_free(m);
    /* head and tail of 2000 bytes around 300 items would be a set of 1.2 MB from 4.6 kB: left to RE2 */
    ps_buf_clear(&buf);
    for (int i = 0; i < 2000; i++)
        ps_buf_add_char(&buf, 'h');
    ps_buf_add_char(&buf, '(');
    for (int i = 0; i < 300; i++)
        ps_buf_addf(&buf, "%sx", i == 0 ? "" : "|");
    ps_buf_add_c(&buf, ")");
    ps_buf_add(&buf, "\0", 1);
    test_alloc counter = {0};
    ps_alloc alloc = test_alloc_of(&counter);
    mdl_matcher of = {MDL_MATCH_RE, PS_STR("x"), ps_str_c(buf.ptr)};
    assert_int_equal(re_matcher_new(&alloc, &of, &m, NULL), PS_OK);
    assert_int_equal(re_matcher_set(m, NULL), 0);
    assert_true(counter.peak_bytes < 100000);
    buf.ptr[2000] = 'x';
    buf.ptr[2001] = '\0';
    assert_true(re_matcher_matches(m, ps_str_c(buf.ptr)));
    re_matcher_free(m);
    test_alloc_check_empty(&counter);
    ps_buf_done(&buf);
}

static void
every_allocation_may_fail(void **state)
{
    (void)state;
    static const char *const patterns[] = {"a", "a|b", "x(a|b)y", "a.*", "(?i)a|b", "[ab]c"};
    for (size_t p = 0; p < PS_ARRAY_LEN(patterns); p++) {
        mdl_matcher of = {MDL_MATCH_RE, PS_STR("job"), ps_str_c(patterns[p])};
        for (size_t k = 1;; k++) {
            test_alloc counter = {.fail_at = k};
            ps_alloc alloc = test_alloc_of(&counter);
            re_matcher *m = NULL;
            ps_err err;
            ps_status status = re_matcher_new(&alloc, &of, &m, &err);
            if (status == PS_OK)
                re_matcher_free(m);
            else
                assert_int_equal(status, PS_ENOMEM);
            test_alloc_check_empty(&counter);
            if (status == PS_OK) {
                assert_true(k > 1);
                break;
            }
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(four_kinds),
        cmocka_unit_test(sets),
        cmocka_unit_test(prefixes),
        cmocka_unit_test(short_ways_do_what_re2_does),
        cmocka_unit_test(absent_labels_are_empty),
        cmocka_unit_test(large_lists_stay_in_bounds),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
