/*
 * test_agg_fold.c - sum, avg, min, max, count, group, stddev, stdvar, quantile against their definitions,
 * written down step by step, over random matrices with gaps and odd numbers.
 */
#include "tests/unit/eval/world.h"

#include <float.h>
#include <math.h>
#include <stdio.h>

/* ---- definitions: values of one group at one step, in the order of the series ------------------ */

static void
compensated(double *sum, double *c, double x)
{
    double t = *sum + x;
    if (isinf(t))
        *c = 0;
    else if (fabs(*sum) >= fabs(x))
        *c += (*sum - t) + x;
    else
        *c += (x - t) + *sum;
    *sum = t;
}

static double
naive_sum(const double *v, size_t n)
{
    double sum = v[0], c = 0;
    for (size_t i = 1; i < n; i++)
        compensated(&sum, &c, v[i]);
    return sum + c;
}

static double
naive_avg(const double *v, size_t n)
{
    double sum = v[0], mean = 0, c = 0;
    bool incremental = false;
    for (size_t i = 1; i < n; i++) {
        double count = (double)i + 1;
        if (!incremental) {
            double next = sum, next_c = c;
            compensated(&next, &next_c, v[i]);
            if (!isinf(next)) {
                sum = next;
                c = next_c;
                continue;
            }
            incremental = true;
            mean = sum / (count - 1);
            c /= count - 1;
        }
        double q = (count - 1) / count;
        mean *= q;
        c *= q;
        compensated(&mean, &c, v[i] / count);
    }
    return incremental ? mean + c : sum / (double)n + c / (double)n;
}

static double
naive_extreme(const double *v, size_t n, bool largest)
{
    double best = v[0];
    for (size_t i = 1; i < n; i++) {
        if (isnan(best) || (largest ? best < v[i] : best > v[i]))
            best = v[i];
    }
    return best;
}

static double
naive_variance(const double *v, size_t n)
{
    double mean = v[0], squares = isfinite(v[0]) ? 0 : NAN;
    for (size_t i = 1; i < n; i++) {
        double delta = v[i] - mean;
        mean += delta / ((double)i + 1);
        squares += delta * (v[i] - mean);
    }
    return squares / (double)n;
}

static int
nan_first(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    if (isnan(x) || isnan(y))
        return isnan(y) - isnan(x);
    return (x > y) - (x < y);
}

static double
naive_quantile(const double *v, size_t n, double q)
{
    double sorted[512];
    assert_true(n <= PS_ARRAY_LEN(sorted));
    if (isnan(q))
        return NAN;
    if (q < 0 || q > 1)
        return q < 0 ? -INFINITY : INFINITY;
    memcpy(sorted, v, n * sizeof *v);
    qsort(sorted, n, sizeof *sorted, nan_first);
    double rank = q * (double)(n - 1), weight = rank - floor(rank);
    size_t lower = (size_t)floor(rank), upper = lower + 1 < n ? lower + 1 : n - 1;
    return sorted[lower] * (1 - weight) + sorted[upper] * weight;
}

static double
naive(const char *op, const double *v, size_t n, double param)
{
    if (strcmp(op, "sum") == 0)
        return naive_sum(v, n);
    if (strcmp(op, "avg") == 0)
        return naive_avg(v, n);
    if (strcmp(op, "min") == 0 || strcmp(op, "max") == 0)
        return naive_extreme(v, n, op[1] == 'a');
    if (strcmp(op, "count") == 0)
        return (double)n;
    if (strcmp(op, "group") == 0)
        return 1;
    if (strcmp(op, "quantile") == 0)
        return naive_quantile(v, n, param);
    double variance = naive_variance(v, n);
    return strcmp(op, "stddev") == 0 ? sqrt(variance) : variance;
}

/* ---- random worlds ------------------------------------------------------------------------------ */

static double
random_value(test_random *r, int mood)
{
    double unit = (double)(test_random_u64(r) >> 11) / 0x1p53 - 0.5;
    switch (mood) {
    case 0: /* what a compensated sum is for: small ones beside huge ones of either sign */
        return test_random_below(r, 3) == 0 ? unit * 1e17 : unit;
    case 1: /* sums that overflow, means that do not */
        return DBL_MAX * (0.4 + unit / 2);
    case 2: {
        static const double odd[] = {NAN,  INFINITY, -INFINITY, 0.0,
                                     -0.0, DBL_MAX,  -DBL_MAX,  5e-324};
        uint64_t k = test_random_below(r, 2 * PS_ARRAY_LEN(odd));
        return k < PS_ARRAY_LEN(odd) ? odd[k] : unit;
    }
    default:
        return floor(unit * 20);
    }
}

static void
fill(world *w, test_random *r, int mood, unsigned gaps)
{
    for (size_t i = 0; i < w->n_series; i++) {
        bool whole = test_random_below(r, 2) == 0;
        for (size_t s = 0; s < w->n_steps; s++) {
            if (whole || test_random_below(r, 100) >= gaps)
                world_set(w, i, s, random_value(r, mood));
        }
    }
}

static void
check_group(world *w, const ev_result *r, const char *op, double param, size_t group,
            size_t n_groups)
{
    double values[512];
    char labels[32] = "{}";
    if (n_groups > 1)
        snprintf(labels, sizeof labels, "{g=\"%zu\"}", group);
    const ev_result_series *found = world_series(r, labels);
    for (size_t s = 0; s < w->n_steps; s++) {
        size_t n = 0;
        for (size_t i = group; i < w->n_series; i += n_groups) {
            if (w->has[world_cell(w, i, s)])
                values[n++] = w->v[world_cell(w, i, s)];
        }
        double got = 0;
        assert_int_equal(world_value(found, s, &got), n > 0);
        if (n == 0)
            continue;
        double want = naive(op, values, n, param);
        bool same = world_same(got, want) || (strcmp(op, "quantile") == 0 && got == want);
        if (!same)
            fail_msg("%s of group %zu at step %zu: %.17g, not %.17g", op, group, s, got, want);
    }
}

static void
check_world(size_t n_series, size_t n_groups, size_t n_steps, int mood, unsigned gaps)
{
    static const char *const ops[] = {"sum",   "avg",    "min",    "max",     "count",
                                      "group", "stddev", "stdvar", "quantile"};
    test_random r = {n_series * 1000003 + n_steps * 101 + (unsigned)mood + 1};
    world w;
    world_init(&w, n_series, n_groups, n_steps);
    fill(&w, &r, mood, gaps);
    for (size_t o = 0; o < PS_ARRAY_LEN(ops); o++) {
        double param = strcmp(ops[o], "quantile") == 0 ? 0.37 : 0;
        char query[64];
        snprintf(query, sizeof query, "%s by (%s) (%sm)", ops[o], n_groups > 1 ? "g" : "",
                 param > 0 ? "0.37, " : "");
        const ev_result *result = world_answer(&w, query);
        for (size_t g = 0; g < n_groups; g++)
            check_group(&w, result, ops[o], param, g, n_groups);
    }
    world_done(&w);
}

static void
test_folds_are_their_definitions_bit_by_bit(void **state)
{
    (void)state;
    static const size_t steps[] = {1, 2, 63, 64, 65, 130};
    for (size_t i = 0; i < PS_ARRAY_LEN(steps); i++) {
        for (int mood = 0; mood < 4; mood++) {
            check_world(1, 1, steps[i], mood, 30);
            check_world(50, 1, steps[i], mood, 10);
            check_world(70, 7, steps[i], mood, 50);
            check_world(300, 2, steps[i], mood, 95);
        }
    }
}

static void
test_a_sum_over_many_batches_keeps_its_order(void **state)
{
    (void)state;
    check_world(400, 1, 1000, 0, 5); /* 65 rows in a batch */
}

static void
test_sums_do_not_lose_small_values(void **state)
{
    (void)state;
    world w;
    world_init(&w, 4, 1, 2);
    const double v[4] = {1, 1e100, 1, -1e100};
    for (size_t i = 0; i < 4; i++) {
        world_set(&w, i, 0, v[i]);
        world_set(&w, i, 1, 1.7e308);
    }
    double got;
    assert_true(world_value(&world_answer(&w, "sum(m)")->series[0], 0, &got));
    assert_true(got == 2);
    assert_true(world_value(&world_answer(&w, "avg(m)")->series[0], 0, &got));
    assert_true(got == 0.5);
    assert_true(world_value(&world_answer(&w, "avg(m)")->series[0], 1, &got));
    assert_true(fabs(got / 1.7e308 - 1) < 1e-15);
    world_done(&w);
}

static void
test_labels_of_groups(void **state)
{
    (void)state;
    world w;
    world_init(&w, 4, 2, 1);
    for (size_t i = 0; i < 4; i++)
        world_set(&w, i, 0, (double)i);
    static const struct {
        const char *query, *labels;
        double value;
        size_t n;
    } cases[] = {
        {"sum(m)", "{}", 6, 1},
        {"sum by () (m)", "{}", 6, 1},
        {"sum by (g) (m)", "{g=\"1\"}", 4, 2},
        {"sum by (g, g, nothing) (m)", "{g=\"0\"}", 2, 2},
        {"sum without (a) (m)", "{g=\"1\"}", 4, 2},
        {"sum without (g, a) (m)", "{}", 6, 1},
        {"sum without () (m)", "{a=\"00003\",g=\"1\"}", 3, 4},
        {"sum by (a, g) (m)", "{a=\"00002\",g=\"0\"}", 2, 4},
        {"sum by (__name__, g) (m)", "m{g=\"1\"}", 4, 2},
    };
    for (size_t i = 0; i < PS_ARRAY_LEN(cases); i++) {
        const ev_result *r = world_answer(&w, cases[i].query);
        double got = -1;
        assert_int_equal(r->n, cases[i].n);
        assert_true(world_value(world_series(r, cases[i].labels), 0, &got));
        assert_true(got == cases[i].value);
    }
    world_done(&w);
}

static void
test_running_out_of_memory_is_an_error_and_leaks_nothing(void **state)
{
    (void)state;
    static const char *const queries[] = {"avg by (g) (m)",       "quantile by (g) (0.5, m)",
                                          "topk by (g) (3, m)",   "count_values('v', m)",
                                          "limitk by (g) (2, m)", "limit_ratio(0.5, m)",
                                          "sort_by_label(m, 'g')"};
    world w;
    world_init(&w, 20, 3, 3);
    test_random r = {7};
    fill(&w, &r, 3, 20);
    world_set_hist(&w, 3, 1, "schema:0 count:3 sum:4 buckets:[1 2]");
    world_set_hist(&w, 6, 1, "schema:0 count:3 sum:4 buckets:[1 2]");
    for (size_t q = 0; q < PS_ARRAY_LEN(queries); q++) {
        ps_status status = PS_ENOMEM;
        for (size_t at = 1; status != PS_OK; at++) {
            test_alloc t = {.fail_at = at};
            ps_alloc alloc = test_alloc_of(&t);
            const ev_result *result;
            status = world_ask(&w, &alloc, queries[q], &result, NULL);
            assert_true(status == PS_OK || status == PS_ENOMEM);
            ev_query_free(w.query);
            w.query = NULL;
            test_alloc_check_empty(&t);
        }
    }
    world_done(&w);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_folds_are_their_definitions_bit_by_bit),
        cmocka_unit_test(test_a_sum_over_many_batches_keeps_its_order),
        cmocka_unit_test(test_sums_do_not_lose_small_values),
        cmocka_unit_test(test_labels_of_groups),
        cmocka_unit_test(test_running_out_of_memory_is_an_error_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
