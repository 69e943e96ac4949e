/*
 * test_agg_choose.c - topk, bottomk, limitk, limit_ratio, count_values, sort: which series they let through,
 * against definitions that look at everything.
 */
#include "tests/unit/eval/world.h"

#include <math.h>
#include <stdio.h>

static void
fill(world *w, test_random *r, unsigned gaps, unsigned n_values)
{
    for (size_t i = 0; i < w->n_series; i++) {
        for (size_t s = 0; s < w->n_steps; s++) {
            if (test_random_below(r, 100) < gaps)
                continue;
            bool nan = test_random_below(r, 20) == 0;
            world_set(w, i, s, nan ? NAN : (double)test_random_below(r, n_values) - 3);
        }
    }
}

static const ev_result_series *
series_of(world *w, const ev_result *r, size_t i)
{
    char labels[64];
    snprintf(labels, sizeof labels, "m{a=\"%05zu\",g=\"%.*s\"}", i,
             (int)w->labels[i].items[2].value.len, w->labels[i].items[2].value.ptr);
    return world_series(r, labels);
}

/* ---- topk, bottomk ------------------------------------------------------------------------------ */

static int
ascending_nan_last(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    if (isnan(x) || isnan(y))
        return isnan(x) - isnan(y);
    return (x > y) - (x < y);
}

static int
descending_nan_last(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return isnan(x) || isnan(y) ? isnan(x) - isnan(y) : (x < y) - (x > y);
}

/* At one step: every chosen point is the series' own, and the chosen values are the k best. */
static void
check_top_step(world *w, const ev_result *r, bool largest, size_t k, size_t group, size_t n_groups,
               size_t s)
{
    double all[512], chosen[512];
    size_t n = 0, n_chosen = 0;
    for (size_t i = group; i < w->n_series; i += n_groups) {
        double got;
        bool is_there = w->has[world_cell(w, i, s)];
        if (is_there)
            all[n++] = w->v[world_cell(w, i, s)];
        if (!world_value(series_of(w, r, i), s, &got))
            continue;
        assert_true(is_there && world_same(got, w->v[world_cell(w, i, s)]));
        chosen[n_chosen++] = got;
    }
    int (*order)(const void *, const void *) = largest ? descending_nan_last : ascending_nan_last;
    qsort(all, n, sizeof *all, order);
    qsort(chosen, n_chosen, sizeof *chosen, order);
    assert_int_equal(n_chosen, n < k ? n : k);
    for (size_t i = 0; i < n_chosen; i++)
        assert_true(world_same(all[i], chosen[i]));
}

static void
check_top(size_t n_series, size_t n_groups, size_t n_steps, size_t k)
{
    test_random r = {n_series * 31 + n_groups * 7 + n_steps + k};
    world w;
    world_init(&w, n_series, n_groups, n_steps);
    fill(&w, &r, 25, 15);
    for (int largest = 0; largest < 2; largest++) {
        char query[64];
        snprintf(query, sizeof query, "%s by (g) (%zu, m)", largest ? "topk" : "bottomk", k);
        const ev_result *result = world_answer(&w, query);
        for (size_t g = 0; g < n_groups; g++) {
            for (size_t s = 0; s < n_steps; s++)
                check_top_step(&w, result, largest, k, g, n_groups, s);
        }
    }
    world_done(&w);
}

static void
test_topk_is_the_k_best_of_every_step(void **state)
{
    (void)state;
    for (size_t k = 1; k < 40; k += 6) {
        check_top(1, 1, 3, k);
        check_top(60, 4, 70, k);
        check_top(90, 1, 1, k);
    }
}

static void
test_topk_of_an_instant_is_in_order(void **state)
{
    (void)state;
    test_random r = {99};
    world w;
    world_init(&w, 200, 3, 1);
    fill(&w, &r, 10, 1000);
    for (int largest = 0; largest < 2; largest++) {
        const ev_result *result =
            world_answer(&w, largest ? "topk by (g) (30, m)" : "bottomk by (g) (30, m)");
        assert_int_equal(result->n, 90);
        for (size_t i = 1; i < result->n; i++) {
            ps_str g = mdl_labels_get(result->series[i].labels, PS_STR("g"));
            bool same = ps_str_eq(mdl_labels_get(result->series[i - 1].labels, PS_STR("g")), g);
            assert_int_equal(same, i % 30 != 0);
            double before = result->series[i - 1].v[0], v = result->series[i].v[0];
            if (same)
                assert_true(isnan(v) || (largest ? before >= v : before <= v));
        }
    }
    world_done(&w);
}

static void
test_k_follows_the_step_and_bad_ones_are_errors(void **state)
{
    (void)state;
    world w;
    world_init(&w, 6, 1, 4);
    for (size_t i = 0; i < 6; i++) {
        for (size_t s = 0; s < 4; s++)
            world_set(&w, i, s, (double)i);
    }
    static const char *const varying[] = {"topk(time(), m)", "bottomk(time(), m)",
                                          "limitk(time(), m)"};
    for (size_t q = 0; q < PS_ARRAY_LEN(varying); q++) {
        const ev_result *r = world_answer(&w, varying[q]);
        size_t n[4] = {0};
        for (size_t i = 0; i < r->n; i++) {
            for (size_t p = 0; p < r->series[i].n; p++)
                n[r->series[i].t_ms[p] / WORLD_STEP_MS]++;
        }
        for (size_t s = 0; s < 4; s++)
            assert_int_equal(n[s], s);
    }
    static const struct {
        const char *query, *error;
    } bad[] = {
        {"topk(NaN, m)", "Parameter value is NaN"},
        {"bottomk(time() * NaN, m)", "Parameter value is NaN"},
        {"limitk(1e30, m)", "Scalar value 1e+30 overflows int64"},
        {"topk(1 - time() * 1e20, m)", "Scalar value -3e+20 underflows int64"},
        {"limit_ratio(NaN, m)", "Ratio value is NaN"},
        {"count_values(\"\", m)", "invalid label name \"\""},
        {"count_values(\"a\\xc5z\", m)", "invalid label name \"a\\xc5z\""},
    };
    for (size_t i = 0; i < PS_ARRAY_LEN(bad); i++) {
        const ev_result *r;
        ps_str error;
        assert_int_equal(world_ask(&w, &ps_malloc, bad[i].query, &r, &error), PS_EINVAL);
        assert_str(error, bad[i].error);
    }
    static const char *const none[] = {"topk(0, m)",      "topk(0.9, m)",      "bottomk(-3, m)",
                                       "limitk(-Inf, m)", "limit_ratio(0, m)", "topk(-1e30, m)"};
    for (size_t i = 0; i < PS_ARRAY_LEN(none); i++)
        assert_int_equal(world_answer(&w, none[i])->n, 0);
    world_done(&w);
}

/* ---- limitk, limit_ratio, count_values ------------------------------------------------------------ */

static void
test_limitk_takes_the_first_of_each_group(void **state)
{
    (void)state;
    test_random r = {5};
    world w;
    world_init(&w, 80, 4, 100);
    fill(&w, &r, 60, 10);
    const ev_result *result = world_answer(&w, "limitk by (g) (3, m)");
    for (size_t s = 0; s < w.n_steps; s++) {
        size_t n[4] = {0};
        for (size_t i = 0; i < w.n_series; i++) {
            double got;
            bool want = w.has[world_cell(&w, i, s)] && n[i % 4]++ < 3;
            assert_int_equal(world_value(series_of(&w, result, i), s, &got), want);
            if (want)
                assert_true(world_same(got, w.v[world_cell(&w, i, s)]));
        }
    }
    world_done(&w);
}

static void
test_limit_ratio_and_its_complement_share_out_all_series(void **state)
{
    (void)state;
    world w;
    world_init(&w, 1000, 1, 1);
    for (size_t i = 0; i < w.n_series; i++)
        world_set(&w, i, 0, 1);
    for (int tenth = 0; tenth <= 10; tenth++) {
        char query[64];
        bool some[1000];
        size_t n = 0;
        snprintf(query, sizeof query, "limit_ratio(%g, m)", tenth / 10.0);
        const ev_result *r = world_answer(&w, query);
        for (size_t i = 0; i < w.n_series; i++) {
            some[i] = series_of(&w, r, i) != NULL;
            n += some[i];
        }
        assert_true(fabs((double)n - 100.0 * tenth) < 50);
        snprintf(query, sizeof query, "limit_ratio(%g, m)", tenth / 10.0 - 1);
        r = world_answer(&w, query);
        for (size_t i = 0; i < w.n_series && tenth > 0 && tenth < 10; i++)
            assert_int_equal(series_of(&w, r, i) != NULL, !some[i]);
    }
    world_done(&w);
}

static void
test_count_values_counts(void **state)
{
    (void)state;
    test_random r = {17};
    world w;
    world_init(&w, 120, 3, 90);
    fill(&w, &r, 30, 6);
    const ev_result *result = world_answer(&w, "count_values by (g) (\"v\", m)");
    size_t n_points = 0, n_want = 0;
    for (size_t i = 0; i < result->n; i++)
        n_points += result->series[i].n;
    for (size_t g = 0; g < 3; g++) {
        for (int v = -3; v <= 3; v++) {
            char labels[64];
            snprintf(labels, sizeof labels,
                     v == 3 ? "{g=\"%zu\",v=\"NaN\"}" : "{g=\"%zu\",v=\"%d\"}", g, v);
            const ev_result_series *found = world_series(result, labels);
            for (size_t s = 0; s < w.n_steps; s++) {
                double want = 0, got = 0;
                for (size_t i = g; i < w.n_series; i += 3) {
                    double x = w.v[world_cell(&w, i, s)];
                    want += w.has[world_cell(&w, i, s)] && (v == 3 ? isnan(x) : x == v);
                }
                assert_int_equal(world_value(found, s, &got), want > 0);
                assert_true(want == got);
                n_want += want > 0;
            }
        }
    }
    assert_int_equal(n_points, n_want);
    world_done(&w);
}

static void
test_count_values_writes_values_without_exponents(void **state)
{
    (void)state;
    world w;
    world_init(&w, 7, 1, 1);
    static const double v[7] = {1e21, 1e-7, INFINITY, -0.0, 0.1, NAN, -INFINITY};
    static const char *const texts[7] = {
        "1000000000000000000000", "0.0000001", "+Inf", "-0", "0.1", "NaN", "-Inf"};
    for (size_t i = 0; i < 7; i++)
        world_set(&w, i, 0, v[i]);
    const ev_result *r = world_answer(&w, "count_values(\"v\", m)");
    assert_int_equal(r->n, 7);
    for (size_t i = 0; i < 7; i++) {
        char labels[64];
        snprintf(labels, sizeof labels, "{v=\"%s\"}", texts[i]);
        assert_non_null(world_series(r, labels));
    }
    /* the label may be one that is there, or one that is dropped */
    assert_non_null(
        world_series(world_answer(&w, "count_values by (g) (\"g\", m)"), "{g=\"0.1\"}"));
    double got;
    r = world_answer(&w, "count_values without (a, g, v) (\"v\", m)");
    assert_int_equal(r->n, 1);
    assert_true(world_value(&r->series[0], 0, &got) && got == 7);
    world_done(&w);
}

/* ---- histograms, sort -------------------------------------------------------------------------------- */

static void
test_histograms_are_counted_or_ignored(void **state)
{
    (void)state;
    static const struct {
        const char *query;
        bool told;
        double value; /* of the only result; NaN: there is none */
    } cases[] = {
        {"count(m)", false, 3},
        {"group(m)", false, 1},
        {"min(m)", true, 4},
        {"max(m)", true, 4},
        {"stddev(m)", true, 0},
        {"stdvar(m)", true, 0},
        {"quantile(0.5, m)", true, 4},
        {"topk(3, m)", true, 4},
        {"bottomk(3, m)", true, 4},
        {"sum(m)", true, NAN},
        {"avg(m)", true, NAN},
        {"sort(m)", false, 4},
        {"max_over_time(limitk(0, min(m))[1s:1s])", true, NAN},
        {"max_over_time(topk(0, min(m))[1s:1s])", true, NAN},
        {"sort_desc(m)", false, 4},
    };
    world w;
    world_init(&w, 3, 1, 1);
    world_set_hist(&w, 0, 0, "schema:0 count:3 sum:4 buckets:[1 2]");
    world_set(&w, 1, 0, 4);
    world_set_hist(&w, 2, 0, "schema:0 count:3 sum:4 buckets:[1 2]");
    for (size_t i = 0; i < PS_ARRAY_LEN(cases); i++) {
        const ev_result *r = world_answer(&w, cases[i].query);
        assert_int_equal(r->n_infos + r->n_warnings, cases[i].told);
        assert_int_equal(r->n, !isnan(cases[i].value));
        if (r->n > 0)
            assert_true(r->series[0].v[0] == cases[i].value);
    }
    assert_str(world_answer(&w, "min(m)")->infos[0],
               "PromQL info: ignored histogram in min aggregation (1:5)");
    assert_str(world_answer(&w, "topk(1, m)")->infos[0],
               "PromQL info: ignored histogram in topk aggregation (1:1)");
    assert_str(world_answer(&w, "sum(m)")->warnings[0],
               "PromQL warning: encountered a mix of histograms and floats for aggregation (1:5)");
    world_done(&w);
}

static void
test_sort_orders_an_instant(void **state)
{
    (void)state;
    test_random r = {23};
    world w;
    world_init(&w, 300, 7, 1);
    fill(&w, &r, 20, 100);
    for (int down = 0; down < 2; down++) {
        const ev_result *result = world_answer(&w, down ? "sort_desc(m)" : "sort(m)");
        for (size_t i = 1; i < result->n; i++) {
            double before = result->series[i - 1].v[0], v = result->series[i].v[0];
            assert_true(isnan(v) || (down ? before >= v : before <= v));
        }
        result = world_answer(&w, down ? "sort_by_label_desc(m, \"g\", \"a\")"
                                       : "sort_by_label(m, \"g\", \"a\")");
        for (size_t i = 1; i < result->n; i++) {
            mdl_labels x = result->series[i - 1].labels, y = result->series[i].labels;
            int order = ps_str_cmp(x.items[2].value, y.items[2].value);
            if (order == 0)
                order = ps_str_cmp(x.items[1].value, y.items[1].value);
            assert_true(down ? order > 0 : order < 0);
        }
    }
    world_done(&w);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_topk_is_the_k_best_of_every_step),
        cmocka_unit_test(test_topk_of_an_instant_is_in_order),
        cmocka_unit_test(test_k_follows_the_step_and_bad_ones_are_errors),
        cmocka_unit_test(test_limitk_takes_the_first_of_each_group),
        cmocka_unit_test(test_limit_ratio_and_its_complement_share_out_all_series),
        cmocka_unit_test(test_count_values_counts),
        cmocka_unit_test(test_count_values_writes_values_without_exponents),
        cmocka_unit_test(test_histograms_are_counted_or_ignored),
        cmocka_unit_test(test_sort_orders_an_instant),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
