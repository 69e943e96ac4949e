/*
 * test_metrics.c - the text format to the byte, histograms, and that no update is lost between threads.
 */
#include "tests/unit/support.h"

#include <pthread.h>

#include "connector/metrics/metrics.h"

static const char *
rendered(metrics *m, ps_buf *out)
{
    ps_buf_clear(out);
    metrics_render(m, out);
    ps_buf_add_char(out, 0);
    assert_false(out->failed);
    return out->ptr;
}

typedef struct guests {
    int n;
} guests;

static void
collect_guests(void *self, metrics_sink *sink)
{
    static const char *const labels[] = {"name=\"a\"", "name=\"b\"", "name=\"c\""};
    guests *g = self;

    for (int i = 0; i < g->n; i++)
        metrics_sink_add(sink, labels[i], i + 0.5);
}

static double
forty_two(void *self)
{
    (void)self;
    return 42;
}

static void
test_text_format(void **state)
{
    static const double bounds[] = {0.5, 1, 2.5};
    metrics *m = metrics_new();
    ps_buf out, labels;
    (void)state;

    ps_buf_init(&out, &ps_malloc);
    ps_buf_init(&labels, &ps_malloc);
    metric *c = metrics_counter(m, "a_total", "Counts\\ things\nin two lines.", "x=\"1\"");
    metrics_gauge_fn(m, "g", "Asked.", "", forty_two, NULL);
    metrics_label(&labels, "path", PS_STR("a\"b\\c\nd"));
    metrics_label(&labels, "y", PS_STR(""));
    ps_buf_add_char(&labels, 0);
    metric *d = metrics_counter(m, "a_total", "other help is ignored", labels.ptr);
    metric *h = metrics_histogram(m, "h_seconds", "Times.", "q=\"r\"", bounds, 3);
    ps_buf_clear(&labels);
    ps_buf_add_c(&labels, "overwritten, since the registry copies");
    metric_add(c, 1);
    metric_add(c, 0.5);
    metric_add(d, 1e9);
    metric_observe(h, 0.5); /* on the bound: in it */
    metric_observe(h, 0.75);
    metric_observe(h, 7);
    metric_observe(h, -1);
    assert_string_equal(rendered(m, &out), "# HELP a_total Counts\\\\ things\\nin two lines.\n"
                                           "# TYPE a_total counter\n"
                                           "a_total{x=\"1\"} 1.5\n"
                                           "a_total{path=\"a\\\"b\\\\c\\nd\",y=\"\"} 1000000000\n"
                                           "# HELP g Asked.\n# TYPE g gauge\ng 42\n"
                                           "# HELP h_seconds Times.\n# TYPE h_seconds histogram\n"
                                           "h_seconds_bucket{q=\"r\",le=\"0.5\"} 2\n"
                                           "h_seconds_bucket{q=\"r\",le=\"1\"} 3\n"
                                           "h_seconds_bucket{q=\"r\",le=\"2.5\"} 3\n"
                                           "h_seconds_bucket{q=\"r\",le=\"+Inf\"} 4\n"
                                           "h_seconds_sum{q=\"r\"} 7.25\n"
                                           "h_seconds_count{q=\"r\"} 4\n");
    ps_buf_done(&out);
    ps_buf_done(&labels);
    metrics_free(m);
}

static void
test_series_that_come_and_go(void **state)
{
    metrics *m = metrics_new();
    guests g = {2};
    ps_buf out;
    (void)state;

    ps_buf_init(&out, &ps_malloc);
    assert_true(metrics_gauges(m, "guests", "Who is here.", collect_guests, &g));
    assert_false(metrics_gauges(m, "guests", "Taken.", collect_guests, &g));
    assert_false(metrics_counters(m, "guests", "Taken.", collect_guests, &g));
    assert_string_equal(rendered(m, &out), "# HELP guests Who is here.\n# TYPE guests gauge\n"
                                           "guests{name=\"a\"} 0.5\nguests{name=\"b\"} 1.5\n");
    g.n = 0;
    assert_string_equal(rendered(m, &out), "# HELP guests Who is here.\n# TYPE guests gauge\n");
    g.n = 3;
    assert_non_null(strstr(rendered(m, &out), "guests{name=\"c\"} 2.5\n"));
    assert_non_null(metrics_gauge(m, "plain", "Not asked.", ""));
    assert_false(metrics_gauges(m, "plain", "Taken.", collect_guests, &g));
    ps_buf_done(&out);
    metrics_free(m);
}

static void
test_registering(void **state)
{
    metrics *m = metrics_new();
    (void)state;

    metric *a = metrics_counter(m, "a", "A.", "");
    assert_ptr_equal(a, metrics_counter(m, "a", "A.", ""));
    assert_ptr_not_equal(a, metrics_counter(m, "a", "A.", "l=\"1\""));
    assert_null(metrics_gauge(m, "a", "Taken by a counter.", ""));
    metric *g = metrics_gauge(m, "g", "G.", "");
    metric_set(g, 5);
    metric_add(g, -2);
    assert_true(metric_value(g) == 3);
    metric_add(NULL, 1); /* without memory nothing is counted, and nothing breaks */
    metric_set(NULL, 1);
    metric_observe(NULL, 1);
    metric_observe(a, 1); /* not a histogram */
    assert_true(metric_value(NULL) == 0 && metric_value(a) == 0);
    assert_null(metrics_counter(NULL, "a", "A.", ""));
    metrics_free(m);
}

typedef struct seen {
    int samples, families;
    double sum;
} seen;

static void
see_sample(void *self, const char *name, const char *labels, double value)
{
    seen *s = self;

    s->samples++;
    s->sum += value;
    assert_true(name[0] != 0 && labels != NULL);
}

static void
see_family(void *self, const char *name, const char *type, const char *help)
{
    seen *s = self;

    s->families++;
    assert_true(name[0] && help[0] &&
                (strcmp(type, "counter") == 0 || strcmp(type, "histogram") == 0));
}

static void
test_visit(void **state)
{
    static const double bounds[] = {1};
    metrics *m = metrics_new();
    seen s = {0};
    (void)state;

    metric_add(metrics_counter(m, "a", "A.", ""), 2);
    metric_observe(metrics_histogram(m, "h", "H.", "", bounds, 1), 1);
    metrics_visit(m, see_sample, &s);
    metrics_visit_families(m, see_family, &s);
    assert_int_equal(s.samples, 1 + 4);
    assert_int_equal(s.families, 2);
    assert_true(s.sum == 2 + 1 + 1 + 1 + 1); /* two buckets, sum, count */
    metrics_free(m);
}

enum { THREADS = 4, ROUNDS = 20000 };

static void *
hammer(void *self)
{
    static const double bounds[] = {0.5};
    metrics *m = self;
    metric *c = metrics_counter(m, "c", "C.", ""),
           *h = metrics_histogram(m, "h", "H.", "", bounds, 1);
    ps_buf out;

    ps_buf_init(&out, &ps_malloc);
    for (int i = 0; i < ROUNDS; i++) {
        metric_add(c, 1);
        metric_observe(h, i & 1);
        if (i % 5000 == 0) {
            ps_buf_clear(&out);
            metrics_render(m, &out);
        }
    }
    ps_buf_done(&out);
    return NULL;
}

static void
test_no_update_is_lost(void **state)
{
    pthread_t t[THREADS];
    metrics *m = metrics_new();
    ps_buf out;
    (void)state;

    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, hammer, m), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    ps_buf_init(&out, &ps_malloc);
    const char *text = rendered(m, &out);
    assert_non_null(strstr(text, "\nc 80000\n"));
    assert_non_null(strstr(
        text,
        "\nh_bucket{le=\"0.5\"} 40000\nh_bucket{le=\"+Inf\"} 80000\nh_sum 40000\nh_count 80000\n"));
    ps_buf_done(&out);
    metrics_free(m);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_format),
        cmocka_unit_test(test_series_that_come_and_go),
        cmocka_unit_test(test_registering),
        cmocka_unit_test(test_visit),
        cmocka_unit_test(test_no_update_is_lost),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
