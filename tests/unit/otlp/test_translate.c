/*
 * What a request becomes: each kind of metric, resources and scopes, what is refused and what is no request
 * at all. Expected lines are by the rules, compared with Prometheus 3.14's translator.
 */
#include <math.h>

#include "tests/unit/support.h"
#include "tests/unit/otlp/message.h"

#define SECOND UINT64_C(1000000000)
#define T (1700000000 * SECOND)

static void
add_times(ps_buf *point, uint64_t t, uint64_t start)
{
    pb_fixed(point, 3, t);
    pb_fixed(point, 2, start);
}

/* A metric around its data points. */
static void
add_metric(ps_buf *scope, const char *name, const char *unit, uint32_t kind, ps_buf *points,
           uint64_t temporality, bool monotonic)
{
    ps_buf metric = pb_begin();
    if (temporality != 0)
        pb_number(points, 2, temporality);
    if (monotonic)
        pb_number(points, 3, 1);
    pb_end(&metric, kind, points); /* before the name: order must not matter */
    pb_text(&metric, 1, name);
    pb_text(&metric, 2, "help");
    pb_text(&metric, 3, unit);
    pb_end(scope, 2, &metric);
}

static void
add_exemplar(ps_buf *point, uint32_t field, double value)
{
    ps_buf e = pb_begin();
    pb_fixed(&e, 2, T);
    pb_double(&e, 3, value);
    pb_bytes(&e, 4, (ps_str){"\x01\x02\x03\x04\x05\x06\x07\x08", 8});
    pb_attribute(&e, 7, "user.id", "7");
    pb_end(point, field, &e);
}

static void
add_number(ps_buf *scope, const char *name, const char *unit, uint32_t kind, uint64_t temporality, bool monotonic)
{
    ps_buf points = pb_begin(), p = pb_begin();
    add_times(&p, T, T - 60 * SECOND);
    pb_fixed(&p, 6, (uint64_t)-5);
    pb_attribute(&p, 7, "b.c", "2");
    pb_attribute(&p, 7, "b-c", "1");
    pb_attribute(&p, 7, "__name__", "other");
    if (kind == 7)
        add_exemplar(&p, 5, 0.5);
    pb_end(&points, 1, &p);
    add_metric(scope, name, unit, kind, &points, temporality, monotonic);
}

static void
add_classic(ps_buf *scope, uint64_t flags)
{
    static const uint64_t counts[] = {1, 0, 4};
    static const double bounds[] = {0.5, 10};
    ps_buf points = pb_begin(), p = pb_begin();
    add_times(&p, T, 0);
    pb_fixed(&p, 4, 5);
    pb_double(&p, 5, 12.5);
    pb_bytes(&p, 6, (ps_str){(const char *)counts, sizeof counts});
    pb_double(&p, 7, bounds[0]); /* not packed */
    pb_double(&p, 7, bounds[1]);
    pb_number(&p, 10, flags);
    add_exemplar(&p, 8, 0.25);
    add_exemplar(&p, 8, 99);
    pb_end(&points, 1, &p);
    add_metric(scope, "h", "s", 9, &points, 2, false);
}

static void
add_summary(ps_buf *scope)
{
    ps_buf points = pb_begin(), p = pb_begin(), q = pb_begin();
    add_times(&p, T, 0);
    pb_fixed(&p, 4, 3);
    pb_double(&p, 5, 1.5);
    pb_double(&q, 1, 0.99);
    pb_double(&q, 2, 7);
    pb_end(&p, 6, &q);
    pb_end(&points, 1, &p);
    add_metric(scope, "s", "", 11, &points, 0, false);
}

static void
add_exponential(ps_buf *scope, int64_t scale, int64_t offset, const uint64_t *counts, size_t n)
{
    ps_buf points = pb_begin(), p = pb_begin(), side = pb_begin(), packed = pb_begin();
    uint64_t count = 1;
    add_times(&p, T, 0);
    for (size_t i = 0; i < n; i++) {
        count += counts[i];
        pb_varint(&packed, counts[i]);
    }
    pb_fixed(&p, 4, count);
    pb_double(&p, 5, 2.5);
    pb_signed(&p, 6, scale);
    pb_fixed(&p, 7, 1);
    pb_end(&side, 2, &packed);
    pb_signed(&side, 1, offset);
    pb_end(&p, 8, &side);
    pb_end(&points, 1, &p);
    add_metric(scope, "e", "", 10, &points, 2, false);
}

/* One resource with one scope. */
static void
finish(ps_buf *request, ps_buf *scope)
{
    ps_buf all = pb_begin(), about = pb_begin(), resource = pb_begin();
    pb_text(&about, 1, "lib");
    pb_attribute(&about, 3, "x.y", "1");
    pb_end(scope, 1, &about);
    pb_attribute(&resource, 1, "service.name", "shop");
    pb_attribute(&resource, 1, "service.namespace", "eu");
    pb_attribute(&resource, 1, "service.instance.id", "i1");
    pb_attribute(&resource, 1, "host.name", "box");
    pb_end(&all, 2, scope);
    pb_end(&all, 1, &resource);
    pb_end(request, 1, &all);
}

static void
check(ps_buf *request, const otlp_settings *settings, const char *expected)
{
    ps_buf out = pb_begin();
    (void)show_message(&out, ps_buf_str(request), settings, &ps_malloc);
    ps_buf_add_char(&out, 0);
    if (strcmp(out.ptr, expected) != 0)
        fail_msg("is\n%s\nexpected\n%s", out.ptr, expected);
    ps_buf_done(&out);
    ps_buf_done(request);
}

static const otlp_settings usual = {.add_suffixes = true};
#define INFO "target_info{host_name=\"box\",instance=\"i1\",job=\"eu/shop\"} 1 @1700000000000 [gauge|Target metadata|]\n"

static void
numbers(void **state)
{
    ps_buf request = pb_begin(), scope = pb_begin();
    (void)state;
    add_number(&scope, "g", "By", 5, 0, false);
    add_number(&scope, "c", "1", 7, 2, true);
    add_number(&scope, "u", "", 7, 2, false);
    finish(&request, &scope);
    check(&request, &usual,
          "g_bytes{b_c=\"1;2\",instance=\"i1\",job=\"eu/shop\"} -5 @1700000000000 start=1699999940000 [gauge|help|bytes]\n"
          "c_total{b_c=\"1;2\",instance=\"i1\",job=\"eu/shop\"} -5 @1700000000000 start=1699999940000"
          " #{span_id=\"0102030405060708\",\"user.id\"=\"7\"} 0.5 @1700000000000 [counter|help|]\n"
          "u{b_c=\"1;2\",instance=\"i1\",job=\"eu/shop\"} -5 @1700000000000 start=1699999940000"
          " #{span_id=\"0102030405060708\",\"user.id\"=\"7\"} 0.5 @1700000000000 [gauge|help|]\n" INFO);
}

static void
settings_change_labels(void **state)
{
    static const ps_str host[] = {{"host.name", 9}};
    const otlp_settings set = {.utf8 = true,
                               .resource_attributes = host,
                               .n_resource_attributes = 1,
                               .keep_identifying_resource_attributes = true,
                               .promote_scope_metadata = true};
    ps_buf request = pb_begin(), scope = pb_begin();
    (void)state;
    add_number(&scope, "a.b", "By", 5, 0, false);
    finish(&request, &scope);
    check(&request, &set,
          "{\"a.b\",\"b-c\"=\"1\",\"b.c\"=\"2\",\"host.name\"=\"box\",instance=\"i1\",job=\"eu/shop\","
          "otel_scope_name=\"lib\",\"otel_scope_x.y\"=\"1\"} -5 @1700000000000 start=1699999940000 [gauge|help|bytes]\n"
          "target_info{\"host.name\"=\"box\",instance=\"i1\",job=\"eu/shop\",\"service.instance.id\"=\"i1\","
          "\"service.name\"=\"shop\",\"service.namespace\"=\"eu\"} 1 @1700000000000 [gauge|Target metadata|]\n");
}

#define L "instance=\"i1\",job=\"eu/shop\""
#define SPAN "{span_id=\"0102030405060708\",\"user.id\"=\"7\"}"

static void
histograms_with_bounds_are_classic_ones(void **state)
{
    ps_buf request = pb_begin(), scope = pb_begin();
    (void)state;
    add_classic(&scope, 0);
    finish(&request, &scope);
    check(&request, &usual,
          "h_seconds_sum{" L "} 12.5 @1700000000000 [histogram|help|seconds]\n"
          "h_seconds_count{" L "} 5 @1700000000000 [histogram|help|seconds]\n"
          "h_seconds_bucket{" L ",le=\"0.5\"} 1 @1700000000000 #" SPAN " 0.25 @1700000000000 [histogram|help|seconds]\n"
          "h_seconds_bucket{" L ",le=\"10\"} 1 @1700000000000 [histogram|help|seconds]\n"
          "h_seconds_bucket{" L ",le=\"+Inf\"} 5 @1700000000000 #" SPAN " 99 @1700000000000 [histogram|help|seconds]\n"
          INFO);
}

static void
or_native_ones(void **state)
{
    const otlp_settings set = {.convert_histograms_to_nhcb = true};
    ps_buf request = pb_begin(), scope = pb_begin();
    (void)state;
    add_classic(&scope, 0);
    finish(&request, &scope);
    check(&request, &set,
          "h{" L "} schema=-53 hint=0 {count:5, sum:12.5, [-Inf,0.5]:1, (10,+Inf]:4} @1700000000000"
          " #" SPAN " 0.25 @1700000000000 #" SPAN " 99 @1700000000000 [histogram|help|seconds]\n" INFO);
}

static void
no_recorded_value_is_a_stale_marker(void **state)
{
    const otlp_settings native = {.convert_histograms_to_nhcb = true};
    ps_buf request = pb_begin(), scope = pb_begin();
    (void)state;
    add_classic(&scope, 1);
    finish(&request, &scope);
    ps_buf copy = pb_begin();
    ps_buf_add_str(&copy, ps_buf_str(&request));
    check(&request, &usual,
          "h_seconds_sum{" L "} stale @1700000000000 [histogram|help|seconds]\n"
          "h_seconds_count{" L "} stale @1700000000000 [histogram|help|seconds]\n"
          "h_seconds_bucket{" L ",le=\"0.5\"} stale @1700000000000 #" SPAN " 0.25 @1700000000000 [histogram|help|seconds]\n"
          "h_seconds_bucket{" L ",le=\"10\"} stale @1700000000000 [histogram|help|seconds]\n"
          "h_seconds_bucket{" L ",le=\"+Inf\"} stale @1700000000000 #" SPAN " 99 @1700000000000 [histogram|help|seconds]\n"
          INFO);
    check(&copy, &native,
          "h{" L "} schema=0 hint=0 stale @1700000000000"
          " #" SPAN " 0.25 @1700000000000 #" SPAN " 99 @1700000000000 [histogram|help|seconds]\n" INFO);
}

static void
summaries(void **state)
{
    ps_buf request = pb_begin(), scope = pb_begin();
    (void)state;
    add_summary(&scope);
    finish(&request, &scope);
    check(&request, &usual,
          "s_sum{" L "} 1.5 @1700000000000 [summary|help|]\ns_count{" L "} 3 @1700000000000 [summary|help|]\n"
          "s{" L ",quantile=\"0.99\"} 7 @1700000000000 [summary|help|]\n" INFO);
}

static void
exponential_ones_keep_their_buckets(void **state)
{
    static const uint64_t counts[] = {0, 2, 0, 3, 0};
    ps_buf request = pb_begin(), scope = pb_begin();
    (void)state;
    add_exponential(&scope, 0, -1, counts, 5); /* (0.5,1] (1,2] (2,4] (4,8] (8,16] */
    finish(&request, &scope);
    check(&request, &usual,
          "e{" L "} schema=0 hint=0 {count:6, sum:2.5, [-1e-128,1e-128]:1, (1,2]:2, (4,8]:3} @1700000000000 "
          "[histogram|help|]\n" INFO);
}

/* Down to schema 8 bucket by bucket, in floating point: each lies within the one that its middle is in. */
static void
fine_ones_are_brought_down(void **state)
{
    for (int64_t scale = 9; scale <= 12; scale++) {
        uint64_t counts[40];
        double expected[64] = {0};
        int64_t offset = -17;
        ps_buf request = pb_begin(), scope = pb_begin(), out = pb_begin();
        for (size_t i = 0; i < PS_ARRAY_LEN(counts); i++) {
            counts[i] = i % 3 == 0 ? 0 : i;
            double log2_middle = ((double)(offset + (int64_t)i) + 0.5) / ldexp(1, (int)scale);
            expected[32 + (int)ceil(log2_middle * 256)] += (double)counts[i];
        }
        (void)state;
        add_exponential(&scope, scale, offset, counts, PS_ARRAY_LEN(counts));
        finish(&request, &scope);

        wire_v2_writer *w = wire_v2_writer_new(&ps_malloc, 1 << 20);
        otlp_refusals refusals = {show_refused, NULL};
        wire_v2_reader r;
        wire_v2_series s;
        wire_histogram h;
        ps_arena arena;
        bool any;
        ps_arena_init(&arena, &ps_malloc, 0);
        assert_int_equal(otlp_translate(ps_buf_str(&request), &usual, &ps_malloc, w, &refusals, NULL), PS_OK);
        assert_int_equal(wire_v2_writer_finish(w, &out, NULL), PS_OK);
        assert_int_equal(wire_v2_reader_init(&r, ps_buf_str(&out), 1000, &arena, NULL), PS_OK);
        assert_int_equal(wire_v2_next(&r, &any, &s, NULL), PS_OK);
        assert_int_equal(wire_v2_histograms(&s, &arena, &h, NULL), PS_OK);
        assert_non_null(h.histogram);
        assert_int_equal(h.histogram->schema, 8);
        hst_iter it;
        hst_bucket b;
        double got[64] = {0};
        hst_iter_up(&it, h.histogram);
        while (hst_next(&it, &b))
            if (b.lower > 0)
                got[32 + b.index] += b.count;
        assert_memory_equal(got, expected, sizeof got);
        wire_v2_writer_free(w);
        ps_arena_done(&arena);
        ps_buf_done(&request);
        ps_buf_done(&out);
    }
}

static void
delta_is_refused_or_taken_as_it_is(void **state)
{
    const otlp_settings as_is = {.add_suffixes = true, .delta_as_is = true};
    ps_buf request = pb_begin(), scope = pb_begin(), copy = pb_begin();
    (void)state;
    add_number(&scope, "c", "", 7, 1, true);
    add_number(&scope, "n", "", 7, 0, true);
    finish(&request, &scope);
    ps_buf_add_str(&copy, ps_buf_str(&request));
    check(&request, &usual,
          "! c 1 delta temporality is not taken: send cumulative, or set otlp.delta=as-is\n"
          "! n 1 a metric without temporality\n");
    check(&copy, &as_is,
          "c_total{b_c=\"1;2\"," L "} -5 @1700000000000 start=1699999940000 #" SPAN
          " 0.5 @1700000000000 [unknown|help|]\n" INFO "! n 1 a metric without temporality\n");
}

static void
what_cannot_be_stored_leaves_the_others_alone(void **state)
{
    static const uint64_t one[] = {1}, huge[] = {UINT64_C(1) << 60};
    ps_buf request = pb_begin(), scope = pb_begin(), points = pb_begin(), p = pb_begin();
    (void)state;
    pb_fixed(&p, 6, 1);
    pb_end(&points, 1, &p);
    p = pb_begin();
    add_times(&p, T, 0);
    pb_end(&points, 1, &p);
    p = pb_begin();
    add_times(&p, T, T + SECOND); /* a start behind it says nothing */
    pb_fixed(&p, 6, 1);
    pb_end(&points, 1, &p);
    p = pb_begin();
    add_times(&p, T, 0);
    pb_fixed(&p, 6, 1);
    pb_attribute(&p, 7, "...", "v");
    pb_end(&points, 1, &p);
    add_metric(&scope, "g", "", 5, &points, 0, false);
    add_number(&scope, "___", "s", 5, 0, false);
    add_number(&scope, "...", "", 5, 0, false);
    add_exponential(&scope, -5, 0, one, 1);
    add_exponential(&scope, 0, INT32_MAX, one, 1);
    add_exponential(&scope, 0, 0, huge, 1);
    points = pb_begin();
    add_metric(&scope, "strange", "", 20, &points, 0, false);
    finish(&request, &scope);
    check(&request, &usual,
          "g{" L "} 1 @1700000000000 [gauge|help|]\n"
          "seconds{b_c=\"1;2\"," L "} -5 @1700000000000 start=1699999940000 [gauge|help|seconds]\n" INFO
          "! g 1 a data point has no time\n! g 1 a data point has no value\n"
          "! g 1 an attribute's key makes no label name\n! ... 1 the name makes no metric name\n"
          "! e 1 a histogram's scale is below -4\n! e 1 a histogram's buckets are beyond all numbers\n"
          "! e 1 a histogram's population is too large\n! strange 0 a metric of no known kind\n");
}

static void
target_info_spans_the_data_points(void **state)
{
    ps_buf request = pb_begin(), scope = pb_begin(), points = pb_begin(), out = pb_begin();
    (void)state;
    static const uint64_t at[] = {T, T + 400 * SECOND};
    for (size_t i = 0; i < 2; i++) {
        ps_buf p = pb_begin();
        add_times(&p, at[i], 0);
        pb_fixed(&p, 6, 1);
        pb_end(&points, 1, &p);
    }
    add_metric(&scope, "g", "", 5, &points, 0, false);
    finish(&request, &scope);
    assert_int_equal(show_message(&out, ps_buf_str(&request), &usual, &ps_malloc), PS_OK);
    ps_buf_add_char(&out, 0);
    size_t n = 0;
    for (const char *s = out.ptr; (s = strstr(s, "target_info")) != NULL; s++)
        n++;
    assert_int_equal(n, 4); /* 0, 150, 300 and 400 seconds */
    assert_non_null(strstr(out.ptr, "} 1 @1700000300000 "));
    assert_non_null(strstr(out.ptr, "} 1 @1700000400000 [gauge|T"));
    ps_buf_done(&request);
    ps_buf_done(&out);
}

/* Everything above in one request. */
static ps_buf
large(void)
{
    static const uint64_t counts[] = {1, 2, 3};
    ps_buf request = pb_begin(), scope = pb_begin();
    add_number(&scope, "c", "By/s", 7, 2, true);
    add_classic(&scope, 0);
    add_summary(&scope);
    add_exponential(&scope, 10, 5, counts, 3);
    finish(&request, &scope);
    return request;
}

static void
a_part_of_a_request_is_none(void **state)
{
    ps_buf request = large();
    (void)state;
    for (size_t len = 1; len < request.len; len++) {
        char *exact = malloc(len);
        ps_buf out = pb_begin();
        memcpy(exact, request.ptr, len);
        assert_int_equal(show_message(&out, (ps_str){exact, len}, &usual, &ps_malloc), PS_ECORRUPT);
        ps_buf_done(&out);
        free(exact);
    }
    ps_buf_done(&request);
}

static void
memory_that_is_missing_is_an_error(void **state)
{
    ps_buf request = large();
    (void)state;
    for (size_t fail_at = 1;; fail_at++) {
        test_alloc t = {.fail_at = fail_at};
        ps_alloc alloc = test_alloc_of(&t);
        ps_buf out = pb_begin();
        ps_status st = show_message(&out, ps_buf_str(&request), &usual, &alloc);
        ps_buf_done(&out);
        assert_int_equal(t.live_blocks, 0);
        if (st == PS_OK) {
            assert_true(fail_at > 3);
            break;
        }
        assert_int_equal(st, PS_ENOMEM);
    }
    ps_buf_done(&request);
}

static void
values_nested_too_deeply_are_a_limit(void **state)
{
    (void)state;
    for (int depth = 15; depth <= 17; depth++) {
        ps_buf value = pb_begin(), request = pb_begin(), resource = pb_begin(), all = pb_begin(), out = pb_begin();
        pb_text(&value, 1, "x");
        for (int i = 0; i < depth; i++) {
            ps_buf list = pb_begin(), outer = pb_begin();
            pb_end(&list, 1, &value);
            pb_end(&outer, 5, &list);
            value = outer;
        }
        ps_buf pair = pb_begin();
        pb_text(&pair, 1, "k");
        pb_end(&pair, 2, &value);
        pb_end(&resource, 1, &pair);
        pb_end(&all, 1, &resource);
        pb_end(&request, 1, &all);
        assert_int_equal(show_message(&out, ps_buf_str(&request), &usual, &ps_malloc),
                         depth <= OTLP_MAX_DEPTH ? PS_OK : PS_ELIMIT);
        ps_buf_done(&request);
        ps_buf_done(&out);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers),
        cmocka_unit_test(settings_change_labels),
        cmocka_unit_test(histograms_with_bounds_are_classic_ones),
        cmocka_unit_test(or_native_ones),
        cmocka_unit_test(no_recorded_value_is_a_stale_marker),
        cmocka_unit_test(summaries),
        cmocka_unit_test(exponential_ones_keep_their_buckets),
        cmocka_unit_test(fine_ones_are_brought_down),
        cmocka_unit_test(delta_is_refused_or_taken_as_it_is),
        cmocka_unit_test(what_cannot_be_stored_leaves_the_others_alone),
        cmocka_unit_test(target_info_spans_the_data_points),
        cmocka_unit_test(a_part_of_a_request_is_none),
        cmocka_unit_test(memory_that_is_missing_is_an_error),
        cmocka_unit_test(values_nested_too_deeply_are_a_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
