/*
 * Histograms as text: the notation of test scripts, and what Prometheus shows.
 */
#include "lib/histogram/histogram.h"
#include "tests/unit/support.h"

static ps_arena arena;

static const hst_hist *
parse(const char *text)
{
    const hst_hist *h = NULL;
    ps_err err;
    bool has_hint;
    ps_status status = hst_parse(&arena, ps_str_c(text), &h, &has_hint, &err);
    if (status != PS_OK)
        fail_msg("%s: %s", text, err.text);
    return h;
}

static int
setup(void **state)
{
    (void)state;
    ps_arena_init(&arena, &ps_malloc, 0);
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    ps_arena_done(&arena);
    return 0;
}

static const struct {
    const char *notation, *text;
} pairs[] = {
    {"", "{count:0, sum:0}"},
    {"count:5 sum:18.4", "{count:5, sum:18.4}"},
    {"schema:0 count:4 sum:5 buckets:[1 2 1]", "{count:4, sum:5, (0.5,1]:1, (1,2]:2, (2,4]:1}"},
    {"  buckets:[1  0 1] schema:1   offset:-1\t",
     "{count:0, sum:0, (0.5,0.7071067811865475]:1, (1,1.414213562373095]:1}"},
    {"n_buckets:[2 3] n_offset:1 z_bucket:4 z_bucket_w:0.001 buckets:[1] count:10 sum:-7",
     "{count:10, sum:-7, [-4,-2):3, [-2,-1):2, [-0.001,0.001]:4, (0.5,1]:1}"},
    {"n_buckets:[2] z_bucket:-4 z_bucket_w:3", "{count:0, sum:0, [-1,-0.5):2, [-3,3]:-4}"},
    {"schema:-53 custom_values:[5 10] buckets:[1 2 3] count:6 sum:1e6",
     "{count:6, sum:1e+06, [-Inf,5]:1, (5,10]:2, (10,+Inf]:3}"},
    {"schema:-4 offset:64 buckets:[1 2]",
     "{count:0, sum:0, (2.7430620343968443e+303,1.7976931348623157e+308]:1, "
     "(1.7976931348623157e+308,+Inf]:2}"},
    {"sum:NaN count:Inf", "{count:+Inf, sum:NaN}"},
    {"schema:3 offset:-8600 buckets:[1]", "{count:0, sum:0, (0,0):1}"},
};

static void
notation_and_text_agree(void **state)
{
    (void)state;
    for (size_t i = 0; i < PS_ARRAY_LEN(pairs); i++) {
        ps_buf out;
        ps_buf_init(&out, &ps_malloc);
        hst_format(&out, parse(pairs[i].notation));
        assert_false(out.failed);
        assert_str(ps_buf_str(&out), pairs[i].text);
        ps_buf_done(&out);
    }
}

static void
hint_is_read(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        hst_hint hint;
        bool written;
    } cases[] = {
        {"count:1", HST_UNKNOWN, false},
        {"counter_reset_hint:unknown", HST_UNKNOWN, true},
        {"counter_reset_hint:reset", HST_RESET, true},
        {"counter_reset_hint:not_reset", HST_NOT_RESET, true},
        {"counter_reset_hint:gauge", HST_GAUGE, true},
    };
    for (size_t i = 0; i < PS_ARRAY_LEN(cases); i++) {
        const hst_hist *h;
        bool written;
        assert_int_equal(hst_parse(&arena, ps_str_c(cases[i].text), &h, &written, NULL), PS_OK);
        assert_int_equal(h->hint, cases[i].hint);
        assert_int_equal(written, cases[i].written);
    }
}

static void
wrong_notation_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "count",
        "count:",
        "count:x",
        "count:1 count:1",
        "schema:9",
        "schema:-5",
        "schema:1.5",
        "schema:99999999999",
        "buckets:1",
        "buckets:[1",
        "buckets:[1 x]",
        "buckets:[1]]",
        "offset:600000000 buckets:[1]",
        "custom_values:[1]",
        "schema:-53 custom_values:[1] buckets:[1 2 3]",
        "schema:-53 custom_values:[2 1]",
        "schema:-53 custom_values:[1 1]",
        "schema:-53 custom_values:[NaN]",
        "schema:-53 custom_values:[1 Inf]",
        "schema:-53 custom_values:[1] n_buckets:[1]",
        "schema:-53 custom_values:[1] z_bucket:1",
        "schema:-53 custom_values:[1] offset:-1 buckets:[1]",
        "z_bucket_w:NaN",
        "z_bucket_w:-1",
        "z_bucket_w:Inf",
        "counter_reset_hint:maybe",
        "what:1",
    };
    for (size_t i = 0; i < PS_ARRAY_LEN(bad); i++) {
        const hst_hist *h = NULL;
        bool written;
        ps_err err = {0};
        assert_int_equal(hst_parse(&arena, ps_str_c(bad[i]), &h, &written, &err), PS_EINVAL);
        assert_null(h);
        assert_true(err.text[0] != '\0');
    }
}

/* What was spelled is spelled like this. */
static void
spelled_as(const char *text, const char *expected)
{
    ps_buf out;

    ps_buf_init(&out, &ps_malloc);
    assert_int_equal(hst_spell(&out, parse(text), 1 << 20), PS_OK);
    ps_buf_add_char(&out, '\0');
    assert_string_equal(out.ptr, expected);
    const hst_hist *again = parse(out.ptr);
    assert_true(hst_equal(parse(text), again));
    assert_int_equal(parse(text)->hint, again->hint);
    ps_buf_done(&out);
}

static void
spelling_comes_back(void **state)
{
    (void)state;
    for (size_t i = 0; i < PS_ARRAY_LEN(pairs); i++) {
        ps_buf out;
        const hst_hist *h = parse(pairs[i].notation);

        ps_buf_init(&out, &ps_malloc);
        assert_int_equal(hst_spell(&out, h, 1 << 20), PS_OK);
        ps_buf_add_char(&out, '\0');
        assert_true(hst_equal(h, parse(out.ptr)));
        ps_buf_done(&out);
    }
    spelled_as("", "schema:0 count:0 sum:0");
    spelled_as("buckets:[2 0 3] sum:-0 offset:-1 schema:1 count:5 counter_reset_hint:gauge",
               "schema:1 count:5 sum:-0 buckets:[2 0 3] offset:-1 counter_reset_hint:gauge");
    spelled_as("n_buckets:[1] n_offset:4 z_bucket:0.5 z_bucket_w:0.001 count:1.5",
               "schema:0 count:1.5 sum:0 z_bucket:0.5 z_bucket_w:0.001 n_buckets:[1] n_offset:4");
}

/* Spans with gaps, empty ones among them, as no text has them. */
static void
gaps_are_filled(void **state)
{
    (void)state;
    const hst_span spans[] = {{-2, 0}, {1, 1}, {0, 0}, {2, 2}, {9, 0}};
    const double counts[] = {1, 2, 3};
    const hst_hist h = {.count = 6, .positive = {spans, 5, 3, counts}};
    ps_buf out;

    ps_buf_init(&out, &ps_malloc);
    assert_int_equal(hst_check(&h, NULL), PS_OK);
    assert_int_equal(hst_spell(&out, &h, 4), PS_ELIMIT);
    assert_int_equal(out.len, 0);
    assert_int_equal(hst_spell(&out, &h, 5), PS_OK);
    ps_buf_add_char(&out, '\0');
    assert_string_equal(out.ptr, "schema:0 count:6 sum:0 buckets:[1 0 0 2 3] offset:-1");
    assert_true(hst_equal(&h, parse(out.ptr)));
    ps_buf_done(&out);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(notation_and_text_agree),   cmocka_unit_test(hint_is_read),
        cmocka_unit_test(spelling_comes_back),       cmocka_unit_test(gaps_are_filled),
        cmocka_unit_test(wrong_notation_is_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
