/*
 * Names of metrics, units and labels under each strategy. The expected ones are what otlptranslator 1.0.0,
 * which Prometheus 3.14 uses, makes of them.
 */
#include "tests/unit/support.h"
#include "lib/otlp/internal.h"

typedef struct name_case {
    const char *name, *unit;
    metric_kind kind;
    /* escaped with suffixes, escaped without, with suffixes; without it is the name itself */
    const char *full, *plain, *utf8;
} name_case;

static const name_case metrics[] = {
    {"http.server.duration", "s", KIND_OTHER, "http_server_duration_seconds",
     "http_server_duration", "http.server.duration_seconds"},
    {"requests", "1", KIND_COUNTER, "requests_total", "requests", "requests_total"},
    {"requests.total", "", KIND_COUNTER, "requests_total", "requests_total", "requests_total"},
    {"a.total.b", "", KIND_COUNTER, "a_b_total", "a_total_b", "a.total.b_total"},
    {"a.total.b", "", KIND_SUM, "a_total_b", "a_total_b", "a.total.b"},
    {"disk.usage", "1", KIND_GAUGE, "disk_usage_ratio", "disk_usage", "disk.usage_ratio"},
    {"x ratio", "1", KIND_GAUGE, "x_ratio", "x_ratio", "x_ratio"},
    {"io", "By/s", KIND_GAUGE, "io_bytes_per_second", "io", "io_bytes_per_second"},
    {"io_bytes_total", "By", KIND_COUNTER, "io_bytes_total", "io_bytes_total", "io_bytes_total"},
    {"mem_bytes", "By", KIND_GAUGE, "mem_bytes", "mem_bytes", "mem_bytes"},
    {"calls", "{call}", KIND_COUNTER, "calls_total", "calls", "calls_total"},
    {"calls", "{call}/s", KIND_GAUGE, "calls_per_second", "calls", "calls_per_second"},
    {"speed", "m/h", KIND_GAUGE, "speed_meters_per_hour", "speed", "speed_meters_per_hour"},
    {"load", "%", KIND_GAUGE, "load_percent", "load", "load_percent"},
    {"5xx.count", "", KIND_GAUGE, "_5xx_count", "_5xx_count", "5xx.count"},
    {"cpu:util", "", KIND_GAUGE, "cpu:util", "cpu:util", "cpu:util"},
    {"a--b__c", "", KIND_GAUGE, "a_b_c", "a_b__c", "a--b__c"},
    {"_a_", "", KIND_GAUGE, "a", "_a_", "_a_"},
    {"\xc3\xbc.y", "", KIND_GAUGE, "y", "y", "\xc3\xbc.y"},
    {"\xc3\xbc", "", KIND_GAUGE, "", "", "\xc3\xbc"},
    {"x", "\xc2\xb5m", KIND_GAUGE, "x_m", "x", "x_\xc2\xb5m"},
    {"x", " ms ", KIND_GAUGE, "x_milliseconds", "x", "x_milliseconds"},
    {"x", "a__b/c.d", KIND_GAUGE, "x_a_b_per_c_d", "x", "x_a__b_per_c.d"},
    {"x", "_/s", KIND_GAUGE, "x_per_second", "x", "x___per_second"},
    {"", "s", KIND_GAUGE, "seconds", "", ""},
    {"", "", KIND_GAUGE, "", "", ""},
};

static void
metrics_are_named_by_strategy(void **state)
{
    static const otlp_settings strategies[] = {
        {.add_suffixes = true}, {0}, {.utf8 = true, .add_suffixes = true}, {.utf8 = true}};
    ps_arena arena;
    (void)state;
    ps_arena_init(&arena, &ps_malloc, 0);
    for (size_t i = 0; i < PS_ARRAY_LEN(metrics); i++) {
        const name_case *c = &metrics[i];
        const char *expected[] = {c->full, c->plain, c->utf8, c->name};
        for (size_t k = 0; k < PS_ARRAY_LEN(strategies); k++) {
            ps_str got;
            assert_int_equal(otlp_metric_name(&strategies[k], &arena, ps_str_c(c->name),
                                              ps_str_c(c->unit), c->kind, &got),
                             PS_OK);
            if (!ps_str_eq_c(got, expected[k]))
                fail_msg("%s, %s, strategy %zu: %.*s, expected %s", c->name, c->unit, k,
                         (int)got.len, got.ptr, expected[k]);
        }
    }
    ps_arena_done(&arena);
}

static void
a_name_of_too_many_words_is_none(void **state)
{
    static const otlp_settings full = {.add_suffixes = true};
    ps_arena arena;
    ps_buf name;
    ps_str got;
    (void)state;
    ps_arena_init(&arena, &ps_malloc, 0);
    ps_buf_init(&name, &ps_malloc);
    for (int words = 1; words <= 251; words++) {
        ps_buf_add_c(&name, words == 1 ? "w" : ".w");
        assert_int_equal(otlp_metric_name(&full, &arena, ps_buf_str(&name), PS_STR("By/s"),
                                          KIND_COUNTER, &got),
                         PS_OK);
        size_t tail = strlen("_bytes_per_second_total");
        assert_int_equal(got.len, words <= 250 ? name.len + tail : 0);
    }
    ps_buf_done(&name);
    ps_arena_done(&arena);
}

static void
units_have_names(void **state)
{
    static const char *const units[][2] = {
        {"s", "seconds"},  {"By/s", "bytes_per_second"}, {"1", ""},         {"{x}", ""},
        {"{x}/s", "per_second"}, {"/s", "per_second"},  {"a//b", "a_per_b"}, {"KiBy/m", "kibibytes_per_minute"},
        {"_x_", "x"},      {"", ""},                     {"x.y/z", "x_y_per_z"},
    };
    ps_arena arena;
    (void)state;
    ps_arena_init(&arena, &ps_malloc, 0);
    for (size_t i = 0; i < PS_ARRAY_LEN(units); i++) {
        ps_str got;
        assert_int_equal(otlp_unit_name(&arena, ps_str_c(units[i][0]), &got), PS_OK);
        if (!ps_str_eq_c(got, units[i][1]))
            fail_msg("%s: %.*s, expected %s", units[i][0], (int)got.len, got.ptr, units[i][1]);
    }
    ps_arena_done(&arena);
}

static void
labels_are_named_by_setting(void **state)
{
    static const struct {
        const char *name, *usual, *key, *multi;
    } labels[] = {
        {"http.method", "http_method", "http_method", "http_method"},
        {"a..b__c", "a_b_c", "a_b_c", "a__b__c"},
        {"1st", "key_1st", "key_1st", "key_1st"},
        {"_x", "_x", "key_x", "_x"},
        {".x", "_x", "key_x", "_x"},
        {"__x", "_x", "key_x", "__x"},
        {"__a.b__", "__a_b__", "__a_b__", "__a_b__"},
        {"\xc3\xbc" "a", "_a", "key_a", "_a"},
        {"a\xc3\xbc" "b", "a_b", "a_b", "a_b"},
        {"...", "", "key_", ""},
        {"", "", "", ""},
    };
    static const otlp_settings settings[] = {
        {0},
        {.label_name_underscore_sanitization = true},
        {.label_name_preserve_multiple_underscores = true},
    };
    ps_arena arena;
    (void)state;
    ps_arena_init(&arena, &ps_malloc, 0);
    for (size_t i = 0; i < PS_ARRAY_LEN(labels); i++) {
        const char *expected[] = {labels[i].usual, labels[i].key, labels[i].multi};
        for (size_t k = 0; k < PS_ARRAY_LEN(settings); k++) {
            ps_str got;
            assert_int_equal(otlp_label_name(&settings[k], &arena, ps_str_c(labels[i].name), &got),
                             PS_OK);
            if (!ps_str_eq_c(got, expected[k]))
                fail_msg("%s, setting %zu: %.*s, expected %s", labels[i].name, k, (int)got.len,
                         got.ptr, expected[k]);
        }
    }
    ps_arena_done(&arena);
}

static void
strategies_have_names(void **state)
{
    otlp_settings s = {0};
    (void)state;
    assert_true(otlp_strategy(PS_STR("UnderscoreEscapingWithSuffixes"), &s) && !s.utf8 && s.add_suffixes);
    assert_true(otlp_strategy(PS_STR("UnderscoreEscapingWithoutSuffixes"), &s) && !s.utf8 && !s.add_suffixes);
    assert_true(otlp_strategy(PS_STR("NoUTF8EscapingWithSuffixes"), &s) && s.utf8 && s.add_suffixes);
    assert_true(otlp_strategy(PS_STR("NoTranslation"), &s) && s.utf8 && !s.add_suffixes);
    assert_false(otlp_strategy(PS_STR("notranslation"), &s));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(metrics_are_named_by_strategy), cmocka_unit_test(a_name_of_too_many_words_is_none),
        cmocka_unit_test(units_have_names),              cmocka_unit_test(labels_are_named_by_setting),
        cmocka_unit_test(strategies_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
