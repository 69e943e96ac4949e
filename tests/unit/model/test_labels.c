/*
 * Canonical label sets: order, what is dropped, what is refused and why, each limit on both sides.
 */
#include "tests/unit/support.h"

#include <stdio.h>

#include "lib/model/model.h"

#define L(name, value)                                                                             \
    {                                                                                              \
        PS_STR(name), PS_STR(value)                                                                \
    }

static const mdl_label_limits no_limits = {0};

static void
assert_labels(const mdl_label *items, size_t n, const char *expected)
{
    ps_buf buf;
    ps_buf_init(&buf, &ps_malloc);
    for (size_t i = 0; i < n; i++) {
        ps_buf_add_str(&buf, items[i].name);
        ps_buf_add_char(&buf, '=');
        ps_buf_add_str(&buf, items[i].value);
        ps_buf_add_char(&buf, ';');
    }
    ps_buf_add_char(&buf, '\0');
    assert_string_equal(buf.ptr, expected);
    ps_buf_done(&buf);
}

static void
sorts_and_drops_empty_values(void **state)
{
    (void)state;
    mdl_label items[] = {L("z", "1"),  L("job", ""), L("__name__", "up"), L("B", "2"),
                         L("ab", "3"), L("a", "4"),  L("\xC3\xA9", "5")};
    size_t n = 0;
    assert_int_equal(mdl_labels_canonical(items, 7, &no_limits, &n, NULL), PS_OK);
    assert_labels(items, n, "B=2;__name__=up;a=4;ab=3;z=1;\xC3\xA9=5;");

    mdl_label one[] = {L("__name__", "up")};
    assert_int_equal(mdl_labels_canonical(one, 1, NULL, &n, NULL), PS_OK);
    assert_int_equal(n, 1);

    /* An empty value means absent: such a label is not there, so it cannot be a duplicate. */
    mdl_label twice[] = {L("__name__", "up"), L("a", ""), L("a", "x"), L("", "")};
    assert_int_equal(mdl_labels_canonical(twice, 4, NULL, &n, NULL), PS_OK);
    assert_labels(twice, n, "__name__=up;a=x;");
}

static void
any_order_gives_the_same_set(void **state)
{
    (void)state;
    test_random random = {3};
    enum { MAX = 200 };
    static char names[MAX][8];
    mdl_label sorted[MAX];
    mdl_label items[MAX];
    for (size_t n = 1; n <= MAX; n += n < 40 ? 1 : 23) {
        for (size_t i = 0; i < n; i++) {
            snprintf(names[i], sizeof names[i], "l%05zu", i * 7);
            sorted[i] = (mdl_label){ps_str_c(names[i]), PS_STR("v")};
        }
        sorted[0] = (mdl_label)L("__name__", "m");
        for (int round = 0; round < 5; round++) {
            memcpy(items, sorted, sizeof items);
            for (size_t i = n; round > 0 && i > 1; i--) {
                size_t j = round == 1 ? n - i : test_random_below(&random, i);
                mdl_label t = items[i - 1];
                items[i - 1] = items[j];
                items[j] = t;
            }
            size_t kept;
            assert_int_equal(mdl_labels_canonical(items, n, &no_limits, &kept, NULL), PS_OK);
            assert_int_equal(kept, n);
            for (size_t i = 0; i < n; i++)
                assert_ptr_equal(items[i].name.ptr, sorted[i].name.ptr);
        }
    }
}

static void
assert_refused(const mdl_label *labels, size_t n, const mdl_label_limits *limits, ps_status code,
               const char *text)
{
    mdl_label items[8];
    ps_err err;
    size_t kept = 77;
    if (n > 0)
        memcpy(items, labels, n * sizeof *labels);
    assert_int_equal(mdl_labels_canonical(items, n, limits, &kept, &err), code);
    assert_int_equal(err.code, code);
    assert_string_equal(err.text, text);
    assert_true(ps_utf8_valid(ps_str_c(err.text)));
    assert_int_equal(kept, 77);
    if (n > 0)
        memcpy(items, labels, n * sizeof *labels);
    assert_int_equal(mdl_labels_canonical(items, n, limits, &kept, NULL), code);
}

#define REFUSED(text, ...)                                                                         \
    do {                                                                                           \
        const mdl_label refused_[] = {__VA_ARGS__};                                                \
        assert_refused(refused_, PS_ARRAY_LEN(refused_), &no_limits, PS_EINVAL, text);             \
    } while (0)

static void
refuses_what_is_no_series(void **state)
{
    (void)state;
    static const char no_name[] = "the metric name (label __name__) is missing or empty";
    assert_refused(NULL, 0, &no_limits, PS_EINVAL, "the label set is empty");
    REFUSED("the label set is empty", L("a", ""), L("b", ""));
    REFUSED("the label set is empty", L("__name__", ""));
    REFUSED(no_name, L("a", "b"));
    REFUSED(no_name, L("a", "b"), L("__name__", ""));
    REFUSED(no_name, L("__name_", "b"), L("__name___", "c"));
    REFUSED("a label name is empty", L("__name__", "up"), L("", "x"));
    REFUSED("label name \"a\" occurs more than once", L("a", "1"), L("__name__", "up"),
            L("a", "2"));
    REFUSED("label name \"a\" occurs more than once", L("a", "1"), L("__name__", "up"),
            L("a", "1"));
    REFUSED("label name \"__name__\" occurs more than once", L("__name__", "a"),
            L("__name__", "b"));
    REFUSED("a label name contains a NUL byte", L("__name__", "up"), L("a\0b", "x"));
    REFUSED("the value of label \"a\" contains a NUL byte", L("__name__", "up"), L("a", "x\0"));
    REFUSED("the value of label \"__name__\" contains a NUL byte", L("__name__", "\0"));
    REFUSED("a label name is not valid UTF-8", L("__name__", "up"), L("a\xC3", "x"));
    REFUSED("the value of label \"a\" is not valid UTF-8", L("__name__", "up"),
            L("a", "\xED\xA0\x80"));
    REFUSED("the value of label \"__name__\" is not valid UTF-8", L("__name__", "u\xFFp"));
}

static void
bad_bytes_are_found_anywhere(void **state)
{
    (void)state;
    static const struct {
        char byte;
        ps_status code;
    } bytes[] = {{'\0', PS_EINVAL}, {'\x80', PS_EINVAL}, {'\xFF', PS_EINVAL},
                 {'\x01', PS_OK},   {'\x7F', PS_OK},     {'x', PS_OK}};
    char text[40];
    for (size_t b = 0; b < PS_ARRAY_LEN(bytes); b++) {
        for (size_t len = 1; len <= sizeof text; len++) {
            for (size_t at = 0; at < len; at++) {
                memset(text, 'a', sizeof text);
                text[at] = bytes[b].byte;
                char *exact = test_exact_copy(text, len);
                mdl_label name[] = {L("__name__", "up"), {{exact, len}, PS_STR("v")}};
                mdl_label value[] = {L("__name__", "up"), {PS_STR("n"), {exact, len}}};
                size_t n;
                assert_int_equal(mdl_labels_canonical(name, 2, NULL, &n, NULL), bytes[b].code);
                assert_int_equal(mdl_labels_canonical(value, 2, NULL, &n, NULL), bytes[b].code);
                free(exact);
            }
        }
    }
}

static void
long_names_are_cut_in_messages(void **state)
{
    (void)state;
    char name[400];
    for (size_t i = 0; i < sizeof name; i += 2)
        memcpy(name + i, "\xC3\xA9", 2);
    for (size_t lead = 0; lead < 2; lead++) {
        name[0] = 'x';
        name[1] = 'y';
        ps_str long_name = {name + lead, sizeof name - lead};
        mdl_label items[] = {L("__name__", "up"), {long_name, PS_STR("\0")}};
        size_t n;
        ps_err err;
        assert_int_equal(mdl_labels_canonical(items, 2, NULL, &n, &err), PS_EINVAL);
        assert_true(ps_utf8_valid(ps_str_c(err.text)));
        assert_true(strlen(err.text) < 120);
        assert_non_null(strstr(err.text, "contains a NUL byte"));
    }
}

static void
each_limit_holds_exactly(void **state)
{
    (void)state;
    const mdl_label set[] = {L("__name__", "metric"), L("instance", "host"), L("z", "")};
    /* 8 + 6 + 8 + 4 = 26 bytes, longest name 8, longest value 6, 2 labels that count */
    static const struct {
        mdl_label_limits at, below;
        const char *text;
    } cases[] = {
        {{.max_labels = 2}, {.max_labels = 1}, "the series has 2 labels, the limit is 1"},
        {{.max_name_bytes = 8}, {.max_name_bytes = 7}, "a label name has 8 bytes, the limit is 7"},
        {{.max_value_bytes = 6},
         {.max_value_bytes = 5},
         "the value of label \"__name__\" has 6 bytes, the limit is 5"},
        {{.max_set_bytes = 26},
         {.max_set_bytes = 25},
         "the labels have 26 bytes together, the limit is 25"},
    };
    for (size_t i = 0; i < PS_ARRAY_LEN(cases); i++) {
        mdl_label items[3];
        size_t n;
        memcpy(items, set, sizeof set);
        assert_int_equal(mdl_labels_canonical(items, 3, &cases[i].at, &n, NULL), PS_OK);
        assert_refused(set, 3, &cases[i].below, PS_ELIMIT, cases[i].text);
    }
}

static void
finds_values(void **state)
{
    (void)state;
    const mdl_label items[] = {L("__name__", "up"), L("a", "1"), L("c", "3")};
    const mdl_labels set = {items, 3};
    assert_str(mdl_labels_get(set, PS_STR("__name__")), "up");
    assert_str(mdl_labels_get(set, PS_STR("c")), "3");
    static const char *const absent[] = {"", "A", "b", "d", "aa"};
    for (size_t i = 0; i < PS_ARRAY_LEN(absent); i++) {
        assert_null(mdl_labels_get(set, ps_str_c(absent[i])).ptr);
        assert_int_equal(mdl_labels_get(set, ps_str_c(absent[i])).len, 0);
    }
    assert_null(mdl_labels_get((mdl_labels){NULL, 0}, PS_STR("a")).ptr);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sorts_and_drops_empty_values),
        cmocka_unit_test(any_order_gives_the_same_set),
        cmocka_unit_test(refuses_what_is_no_series),
        cmocka_unit_test(bad_bytes_are_found_anywhere),
        cmocka_unit_test(long_names_are_cut_in_messages),
        cmocka_unit_test(each_limit_holds_exactly),
        cmocka_unit_test(finds_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
