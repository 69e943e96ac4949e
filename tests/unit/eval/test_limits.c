/*
 * test_limits.c - what bounds a query: samples, bytes, time, memory that is not there; and that threads
 * change nothing but the time it takes.
 */
#include "tests/unit/eval/harness.h"

#include <pthread.h>

#include "tests/unit/support.h"

static store s;

static int
setup(void **state)
{
    (void)state;
    store_init(&s);
    for (int i = 0; i < 300; i++) {
        char name[64];
        ps_buf text;
        ps_buf_init(&text, &ps_malloc);
        ps_buf_addf(&text, "x_total{i=\"%d\",l=\"%d\"}%c", i, i % 7, 0);
        memcpy(name, text.ptr, text.len);
        ps_buf_done(&text);
        store_add(&s, name, (i % 5) * 1000, 10000 + i % 3, 100, NULL, 0.1 * (i + 1));
    }
    store_add_hists(
        &s, "h", 0, 10000, 100,
        "schema:1 count:9 sum:5 z_bucket:1 z_bucket_w:0.01 buckets:[1 2 1] n_buckets:[4]");
    store_add(&s, "b_bucket{j=\"1\",le=\"1\"}", 0, 10000, 100, NULL, 1);
    store_add(&s, "b_bucket{j=\"1\",le=\"2\"}", 0, 10000, 100, NULL, 0.5); /* falls */
    store_add(&s, "b_bucket{j=\"1\",le=\"+Inf\"}", 0, 10000, 100, NULL, 3);
    store_add(&s, "b_bucket{j=\"1\",le=\"what\"}", 0, 10000, 100, NULL, 3);
    store_add_hists(&s, "c{l=\"1\"}", 0, 10000, 50,
                    "schema:-53 custom_values:[1 2 4] count:4 buckets:[1 3]");
    store_add_hists(&s, "c{l=\"2\"}", 0, 10000, 50,
                    "schema:-53 custom_values:[1 3 4] count:5 buckets:[1 3 0 1]");
    static const double odd[] = {3, 1, 5};
    store_add(&s, "h{mixed=\"yes\"}", 500000, 10000, 3, odd, 0);
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    store_done(&s);
    return 0;
}

static harness_query
range_of(const char *text)
{
    return (harness_query){.text = text, .start_ms = 0, .end_ms = 1000000, .step_ms = 10000};
}

static const char *const queries[] = {
    "x_total",
    "x_total offset 1m",
    "rate(x_total[1m])",
    "timestamp(x_total)",
    "max_over_time(rate(x_total[1m])[2m:17s])",
    "x_total @ 500",
    "sum_over_time(x_total[1m] @ 500)",
    "sum by (l) (x_total)",
    "avg(rate(x_total[1m]))",
    "topk(3, x_total)",
    "x_total + x_total",
    "x_total * 2",
    "x_total > 5 or x_total",
    "abs(x_total)",
    "h",
    "sum(h)",
    "rate(h[1m])",
    "h @ 300",
    "rate(h[1m])[3m:1m]",
    "max_over_time(histogram_count(h)[3m:1m])",
    "x_total smoothed",
    "rate(x_total[1m] smoothed)",
    "h smoothed",
    "label_replace(x_total, \"j\", \"$1\", \"i\", \"(.).*\")",
    "histogram_quantile(0.9, h)",
    "histogram_quantile(0.9, rate(b_bucket[1m]))",
    "histogram_quantiles({__name__=~\"b_bucket|h\"}, \"q\", 0.551, time() / 900)",
    "histogram_fraction(0, 1.5, {__name__=~\"b_bucket|h|c\"})",
    "histogram_count(sum(rate(h[1m])))",
    "histogram_sum(c)",
    "avg(c)",
    "sum_over_time(h[1m]) </ 1",
    "c{l=\"1\"} + on () c{l=\"2\"}",
    "count_values(\"v\", x_total)",
    "quantile(0.3, x_total)",
    "absent(nothing)",
    "sum by (i) (x_total) / on (i) group_left () x_total",
    "-x_total",
    "sort(x_total)",
    "scalar(x_total{i=\"3\"})",
    "vector(time())",
    "x_total[1m]",
    "x_total[1m] anchored",
    "h[1m]",
};

static harness_query
case_of(size_t i)
{
    harness_query q = range_of(queries[i]);
    size_t n = strlen(q.text);
    if (q.text[n - 1] == ']' || strstr(q.text, "] anchored") != NULL) {
        q.start_ms = q.end_ms = 600000;
        q.step_ms = 0;
    }
    return q;
}

static void
any_number_of_threads_gives_the_same_bits(void **state)
{
    (void)state;
    static const size_t threads[] = {1, 2, 7};
    for (size_t i = 0; i < PS_ARRAY_LEN(queries); i++)
        for (int delayed = 0; delayed < 2; delayed++) {
            harness_query q = case_of(i);
            q.options.delayed_names = delayed;
            q.options.per_step_stats = true;
            harness_result alone = harness_run(&s, &q);
            for (size_t t = 0; t < PS_ARRAY_LEN(threads); t++) {
                q.threads = threads[t];
                harness_result many = harness_run(&s, &q);
                assert_int_equal(many.status, alone.status);
                assert_int_equal(many.text.len, alone.text.len);
                assert_memory_equal(many.text.ptr, alone.text.ptr, alone.text.len);
                assert_int_equal(many.stats.total_samples, alone.stats.total_samples);
                assert_int_equal(many.stats.peak_samples, alone.stats.peak_samples);
                assert_int_equal(many.stats.samples_read, alone.stats.samples_read);
                harness_done(&many);
            }
            if (alone.status != PS_OK)
                print_message("%s: %.*s\n", q.text, (int)alone.text.len, alone.text.ptr);
            harness_done(&alone);
        }
}

/* Each allocation fails in turn (and all after it): a clean error, and everything is given back. */
static void
every_allocation_may_fail(void **state)
{
    (void)state;
    for (size_t i = 0; i < PS_ARRAY_LEN(queries); i++) {
        harness_query q = case_of(i);
        q.step_ms *= 10; /* fewer steps: fewer allocations to fail */
        for (size_t at = 1;; at++) {
            test_alloc a = {.fail_at = at};
            q.alloc = test_alloc_of(&a);
            harness_result r = harness_run(&s, &q);
            test_alloc_check_empty(&a);
            bool done = a.calls < at;
            if (!done) {
                assert_int_equal(r.status, PS_ENOMEM);
                if (at > 1) { /* the first is the query itself */
                    assert_true(r.text.len > 0);
                }
            }
            harness_done(&r);
            if (done)
                break;
        }
    }
}

static void
a_budget_of_bytes_is_kept(void **state)
{
    (void)state;
    harness_query q = range_of("rate(x_total[1m])");
    test_alloc a = {0};
    q.alloc = test_alloc_of(&a);
    harness_result r = harness_run(&s, &q);
    assert_int_equal(r.status, PS_OK);
    size_t needed = r.stats.peak_bytes;
    assert_true(needed > 300 * 100 * 8);
    assert_true(needed <= a.peak_bytes && a.peak_bytes < needed + 65536);
    harness_done(&r);
    q.options.max_bytes = needed;
    r = harness_run(&s, &q);
    assert_int_equal(r.status, PS_OK);
    harness_done(&r);
    q.options.max_bytes = needed / 2;
    a.peak_bytes = 0;
    r = harness_run(&s, &q);
    assert_int_equal(r.status, PS_ELIMIT);
    assert_non_null(memmem(r.text.ptr, r.text.len, "memory", 6));
    assert_true(a.peak_bytes < needed / 2 + 65536);
    test_alloc_check_empty(&a);
    harness_done(&r);
}

static void
samples_held_are_limited(void **state)
{
    (void)state;
    static const char words[] =
        "query processing would load too many samples into memory in query execution";
    harness_query q = range_of("x_total{i=\"0\"}");
    harness_result r = harness_run(&s, &q);
    assert_int_equal(r.status, PS_OK);
    assert_true(r.stats.peak_samples >= 101);
    uint64_t peak = r.stats.peak_samples;
    harness_done(&r);
    q.options.max_samples = peak;
    r = harness_run(&s, &q);
    assert_int_equal(r.status, PS_OK);
    harness_done(&r);
    q.options.max_samples = peak - 1;
    r = harness_run(&s, &q);
    assert_int_equal(r.status, PS_ELIMIT);
    assert_int_equal(r.text.len, sizeof words - 1);
    assert_memory_equal(r.text.ptr, words, r.text.len);
    harness_done(&r);
    /* a grid that would never fit is refused before anything is read */
    q = (harness_query){.text = "x_total[1y:1ms]", .start_ms = 0, .end_ms = 0};
    size_t reads = s.reads;
    r = harness_run(&s, &q);
    assert_int_equal(r.status, PS_ELIMIT);
    assert_int_equal(s.reads, reads);
    harness_done(&r);
}

static void
samples_looked_at_are_counted_as_prometheus_does(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t start, end, step;
        uint64_t total, peak; /* peak: Prometheus's, ours must not be larger */
    } cases[] = {
        {"x_total{i=\"0\"}", 0, 0, 0, 1, 1},
        {"x_total{i=\"0\"}", 0, 100000, 10000, 11, 11},
        {"x_total{l=\"1\"}", 600000, 600000, 0, 43, 43},
        {"x_total{i=\"0\"}[1m]", 600000, 600000, 0, 6, 6},
        {"rate(x_total{i=\"0\"}[1m])", 600000, 600000, 0, 6, 7},
        {"rate(x_total{i=\"0\"}[1m])", 600000, 650000, 10000, 36, 12},
        {"rate(x_total{i=\"0\"}[1m] @ 600)", 600000, 650000, 10000, 36, 7},
        {"x_total{i=\"0\"} @ 600", 600000, 650000, 10000, 6, 6},
        {"sum_over_time(x_total{i=\"0\"}[1m:20s])", 600000, 600000, 0, 3, 7},
        {"x_total{i=\"0\"}[1m:20s]", 600000, 600000, 0, 3, 3},
        {"time()", 0, 100000, 10000, 0, 11},
        /* 176 + 8 * (2 spans + 4 buckets + 0 bounds) = 224 bytes are 14 samples */
        {"h{mixed=\"\"}", 0, 0, 0, 14, 14},
        {"timestamp(h{mixed=\"\"})", 0, 0, 0, 1, 2},
    };
    for (size_t i = 0; i < PS_ARRAY_LEN(cases); i++) {
        harness_query q = {.text = cases[i].text,
                           .start_ms = cases[i].start,
                           .end_ms = cases[i].end,
                           .step_ms = cases[i].step};
        for (int per_step = 0; per_step < 2; per_step++) {
            q.options.per_step_stats = per_step;
            harness_result r = harness_run(&s, &q);
            assert_int_equal(r.status, PS_OK);
            if (r.stats.total_samples != cases[i].total)
                print_message("%s\n", cases[i].text);
            assert_int_equal(r.stats.total_samples, cases[i].total);
            assert_in_range(r.stats.peak_samples, 1, cases[i].peak);
            harness_done(&r);
        }
    }
}

typedef struct countdown {
    size_t left;
    ps_status then;
} countdown;

static ps_status
count_down(void *self)
{
    countdown *c = self;
    return __atomic_load_n(&c->left, __ATOMIC_RELAXED) == 0 ||
                   __atomic_fetch_sub(&c->left, 1, __ATOMIC_RELAXED) == 0
               ? c->then
               : PS_OK;
}

static void
a_query_stops_when_it_is_told_to(void **state)
{
    (void)state;
    for (size_t left = 0; left < 40; left += 3)
        for (size_t threads = 0; threads < 4; threads += 3) {
            countdown c = {left, left % 2 ? PS_ECANCELED : PS_ETIMEOUT};
            harness_query q = range_of("sum(rate(x_total[1m]) + rate(x_total[1m]))");
            q.threads = threads;
            q.poll = count_down;
            q.poll_self = &c;
            harness_result r = harness_run(&s, &q);
            const char *words = left % 2 ? "query was canceled in expression evaluation"
                                         : "query timed out in expression evaluation";
            assert_int_equal(r.status, c.then);
            assert_int_equal(r.text.len, strlen(words));
            assert_memory_equal(r.text.ptr, words, r.text.len);
            harness_done(&r);
        }
}

static void
what_the_source_says_reaches_the_user(void **state)
{
    (void)state;
    s.fail_reads = PS_EUNAVAILABLE;
    for (size_t threads = 0; threads < 4; threads += 3) {
        harness_query q = range_of("rate(x_total[1m])");
        q.threads = threads;
        harness_result r = harness_run(&s, &q);
        assert_int_equal(r.status, PS_EUNAVAILABLE);
        assert_int_equal(r.text.len, 17);
        assert_memory_equal(r.text.ptr, "the store is away", 17);
        harness_done(&r);
    }
}

static void *
run_all(void *arg)
{
    (void)arg;
    for (size_t i = 0; i < PS_ARRAY_LEN(queries); i++) {
        harness_query q = case_of(i);
        q.threads = 2;
        harness_result r = harness_run(&s, &q);
        harness_done(&r);
    }
    return NULL;
}

/* For ThreadSanitizer. */
static void
queries_run_side_by_side(void **state)
{
    (void)state;
    pthread_t threads[3];
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, run_all, NULL), 0);
    for (size_t i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(any_number_of_threads_gives_the_same_bits),
        TEST(every_allocation_may_fail),
        TEST(a_budget_of_bytes_is_kept),
        TEST(samples_held_are_limited),
        TEST(samples_looked_at_are_counted_as_prometheus_does),
        TEST(a_query_stops_when_it_is_told_to),
        TEST(what_the_source_says_reaches_the_user),
        TEST(queries_run_side_by_side),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
