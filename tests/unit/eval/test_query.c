/*
 * test_query.c - the frame of the engine: selectors, windows, subqueries, fixed times, names, results.
 * Expected values were computed by hand from the rules of the language.
 */
#include "tests/unit/eval/harness.h"
#include "tests/unit/support.h"

static store s;

static int
setup(void **state)
{
    (void)state;
    store_init(&s);
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    store_done(&s);
    return 0;
}

static void
expect_at(const char *text, int64_t t_ms, const char *expected)
{
    harness_query q = {.text = text, .start_ms = t_ms, .end_ms = t_ms};
    harness_expect(&s, &q, expected);
}

static void
expect_range(const char *text, int64_t start, int64_t end, int64_t step, const char *expected)
{
    harness_query q = {.text = text, .start_ms = start, .end_ms = end, .step_ms = step};
    harness_expect(&s, &q, expected);
}

static void
numbers_strings_and_times_need_no_data(void **state)
{
    (void)state;
    expect_at("3", 5000, "{} 5000:3\n");
    expect_at("\"abc\"", 5000, "abc");
    expect_at("time()", 5500, "{} 5500:5.5\n");
    expect_range("pi()", 0, 2000, 1000,
                 "{} 0:3.141592653589793 1000:3.141592653589793 2000:3.141592653589793\n");
    expect_range("max_of(time(), 1)", 0, 2000, 1000, "{} 0:1 1000:1 2000:2\n");
    expect_range("min_of(time(), 1)", 0, 2000, 1000, "{} 0:0 1000:1 2000:1\n");
    expect_at("max_of(NaN, Inf)", 0, "{} 0:+Inf\n");
    expect_at("max_of(NaN, 1)", 0, "{} 0:NaN\n");
    expect_at("min_of(NaN, 1)", 0, "{} 0:NaN\n");
    expect_at("1 </ 2", 0, "operator \"</\" not allowed for Scalar operations");
}

static void
lookback_is_open_to_the_left(void **state)
{
    (void)state;
    static const double v[] = {7};
    store_add(&s, "x", 1000, 1000, 1, v, 0);
    expect_at("x", 1000, "x 1000:7\n");
    expect_at("x", 999, "");
    expect_at("x", 300999, "x 300999:7\n");
    expect_at("x", 301000, "");
    expect_range("x", 0, 600000, 100000, "x 100000:7 200000:7 300000:7\n");
    expect_range("x", 1000, 401000, 100000, "x 1000:7 101000:7 201000:7\n");
    expect_at("x offset -1s", 0, "x 0:7\n");
    expect_at("x @ 1", 999999, "x 999999:7\n");
    expect_at("x @ 2 offset 1s", 999999, "x 999999:7\n");
}

static void
stale_markers_end_a_series(void **state)
{
    (void)state;
    double v[] = {1, ps_double_of(MDL_STALE_NAN_BITS), 3};
    store_add(&s, "x", 0, 10000, 3, v, 0);
    expect_range("x", 0, 25000, 5000, "x 0:1 5000:1 20000:3 25000:3\n");
    expect_at("x[30s]", 20000, "x 0:1 20000:3\n");
    expect_at("x[20s]", 20000, "x 20000:3\n");
}

static void
timestamps_are_of_the_sample_or_of_the_step(void **state)
{
    (void)state;
    store_add(&s, "x{a=\"b\"}", 0, 10000, 3, NULL, 1);
    expect_range("timestamp(x)", 0, 15000, 5000, "{a=\"b\"} 0:0 5000:0 10000:10 15000:10\n");
    expect_at("timestamp((x offset 5s))", 15500, "{a=\"b\"} 15500:10\n");
    expect_at("timestamp(timestamp(x))", 15500, "{a=\"b\"} 15500:15.5\n");
    expect_range("timestamp(x @ 10)", 0, 20000, 10000, "{a=\"b\"} 0:10 10000:10 20000:10\n");
    expect_at("start_timestamp(x)", 15500, "");
}

static void
subqueries_step_on_multiples(void **state)
{
    (void)state;
    store_add(&s, "x", 0, 1000, 100, NULL, 1);
    expect_at("x[10s:5s]", 12000, "x 5000:5 10000:10\n");
    expect_at("x[10s:5s]", 10000, "x 5000:5 10000:10\n");
    expect_at("x[10s:5s] @ 22", 0, "x 15000:15 20000:20\n");
    expect_at("x[10s:5s] offset 3s", 25000, "x 15000:15 20000:20\n");
    expect_at("(x offset 1s)[10s:5s]", 12000, "x 5000:4 10000:9\n");
    expect_at("x[2s:10s]", 15000, "");
    expect_at("timestamp(x)[10s:5s]", 12000, "{} 5000:5 10000:10\n");
}

static void
fixed_times_are_evaluated_once_and_repeated(void **state)
{
    (void)state;
    store_add(&s, "x", 0, 1000, 100, NULL, 1);
    expect_range("x @ 10", 0, 200000, 100000, "x 0:10 100000:10 200000:10\n");
    size_t before = s.reads;
    harness_query q = {.text = "x @ end()", .start_ms = 0, .end_ms = 50000, .step_ms = 10000};
    harness_expect(&s, &q, "x 0:50 10000:50 20000:50 30000:50 40000:50 50000:50\n");
    assert_int_equal(s.reads - before, 1);
}

static void
smoothed_instants_lie_on_the_line(void **state)
{
    (void)state;
    static const double v[] = {0, 10, 30};
    store_add(&s, "x", 10000, 10000, 3, v, 0);
    expect_range("x smoothed", 5000, 35000, 5000,
                 "x 10000:0 15000:5 20000:10 25000:20 30000:30 35000:30\n");
}

static void
raw_ranges_show_edges_when_asked(void **state)
{
    (void)state;
    static const double v[] = {0, 10, 30};
    store_add(&s, "x", 10000, 10000, 3, v, 0);
    expect_at("x[15s]", 30000, "x 20000:10 30000:30\n");
    expect_at("x[15s] anchored", 30000, "x 15000:0 20000:10 30000:30\n");
    expect_at("x[10s] smoothed", 25000, "x 15000:5 20000:10 25000:20\n");
}

static void
range_results_are_sorted_and_instant_ones_as_found(void **state)
{
    (void)state;
    store_add(&s, "b{l=\"1\"}", 0, 1000, 2, NULL, 1);
    store_add(&s, "a{l=\"2\"}", 0, 1000, 2, NULL, 2);
    expect_range("{l=~\".+\"}", 0, 1000, 1000, "a{l=\"2\"} 0:0 1000:2\nb{l=\"1\"} 0:0 1000:1\n");
    expect_range("timestamp({l=~\".+\"})", 0, 1000, 1000,
                 "{l=\"1\"} 0:0 1000:1\n{l=\"2\"} 0:0 1000:1\n");
}

static void
names_that_go_must_leave_differing_labels(void **state)
{
    (void)state;
    store_add(&s, "a", 0, 1000, 1, NULL, 1);
    store_add(&s, "b", 400000, 1000, 1, NULL, 1);
    harness_query q = {.text = "timestamp({__name__=~\"a|b\"})", .step_ms = 400000};
    q.end_ms = 400000;
    /* never at the same step: one series */
    harness_expect(&s, &q, "{} 0:0 400000:400\n");
    q.options.delayed_names = true;
    harness_expect(&s, &q, "{} 0:0 400000:400\n");
    store_add(&s, "c", 0, 1000, 1, NULL, 1);
    q.text = "timestamp({__name__=~\"a|c\"})";
    harness_expect(&s, &q, "vector cannot contain metrics with the same labelset");
    q.options.delayed_names = false;
    harness_expect(&s, &q, "vector cannot contain metrics with the same labelset");
}

static void
histograms_pass_through(void **state)
{
    (void)state;
    store_add_hists(&s, "h", 0, 10000, 2, "schema:0 count:3 sum:5 buckets:[1 2]");
    expect_range("h", 0, 10000, 5000,
                 "h 0:{count:3, sum:5, (0.5,1]:1, (1,2]:2} "
                 "5000:{count:3, sum:5, (0.5,1]:1, (1,2]:2} "
                 "10000:{count:6, sum:10, (0.5,1]:2, (1,2]:4}\n");
    expect_range("h @ 0", 0, 10000, 10000,
                 "h 0:{count:3, sum:5, (0.5,1]:1, (1,2]:2} "
                 "10000:{count:3, sum:5, (0.5,1]:1, (1,2]:2}\n");
    expect_at("h[1m:10s]", 10000,
              "h 0:{count:3, sum:5, (0.5,1]:1, (1,2]:2} "
              "10000:{count:6, sum:10, (0.5,1]:2, (1,2]:4}\n");
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(numbers_strings_and_times_need_no_data),
        TEST(lookback_is_open_to_the_left),
        TEST(stale_markers_end_a_series),
        TEST(timestamps_are_of_the_sample_or_of_the_step),
        TEST(subqueries_step_on_multiples),
        TEST(fixed_times_are_evaluated_once_and_repeated),
        TEST(smoothed_instants_lie_on_the_line),
        TEST(raw_ranges_show_edges_when_asked),
        TEST(range_results_are_sorted_and_instant_ones_as_found),
        TEST(names_that_go_must_leave_differing_labels),
        TEST(histograms_pass_through),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
