/*
 * Functions of one number: dates against the C library's calendar, borders of clamp and round, what is
 * left out.
 */
#include <time.h>

#include "tests/unit/eval/range_call.h"

typedef struct map_world {
    range_world w; /* for its context */
    ev_batch b;
    ev_map_call call;
} map_world;

static void
begin(map_world *m, size_t rows, size_t n_steps)
{
    world_begin(&m->w);
    assert_int_equal(ev_batch_init(&m->b, &m->w.q.ctx, rows, n_steps), PS_OK);
    ev_batch_clear(&m->b, 0, rows);
    m->call = (ev_map_call){.c = &m->w.q.ctx, .call = &m->w.call, .params = m->w.params};
    m->call.grid.n = n_steps;
}

static void
end(map_world *m)
{
    ev_batch_done(&m->b, &m->w.q.ctx);
    world_end(&m->w);
}

static void
run(map_world *m, pql_fn fn, size_t n_params)
{
    m->w.call.call.fn = pql_function_of(fn);
    m->call.n_params = n_params;
    assert_int_equal(ev_map_function_of(fn)->run(&m->call, &m->b), PS_OK);
}

/* The function of one number. */
static double
of(map_world *m, pql_fn fn, double v)
{
    ev_batch_clear(&m->b, 0, 1);
    m->b.v[0] = v;
    ev_set(m->b.has, 0);
    run(m, fn, 0);
    assert_true(ev_has(m->b.has, 0));
    return m->b.v[0];
}

static void
assert_date(map_world *m, double v, const struct tm *tm)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int64_t year = (int64_t)tm->tm_year + 1900;
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    assert_true(of(m, PQL_FN_YEAR, v) == (double)year);
    assert_true(of(m, PQL_FN_MONTH, v) == tm->tm_mon + 1);
    assert_true(of(m, PQL_FN_DAY_OF_MONTH, v) == tm->tm_mday);
    assert_true(of(m, PQL_FN_DAY_OF_YEAR, v) == tm->tm_yday + 1);
    assert_true(of(m, PQL_FN_DAY_OF_WEEK, v) == tm->tm_wday);
    assert_true(of(m, PQL_FN_HOUR, v) == tm->tm_hour);
    assert_true(of(m, PQL_FN_MINUTE, v) == tm->tm_min);
    assert_true(of(m, PQL_FN_DAYS_IN_MONTH, v) ==
                days[tm->tm_mon] + (tm->tm_mon == 1 && leap));
}

static void
dates_are_those_of_the_calendar(void **state)
{
    (void)state;
    test_random r = {11};
    map_world m;
    begin(&m, 1, 1);
    for (int i = 0; i < 20000; i++) {
        int64_t reach = INT64_C(1) << (10 + test_random_below(&r, 43));
        time_t t = (time_t)((int64_t)test_random_below(&r, (uint64_t)reach) - reach / 2);
        struct tm tm;
        assert_non_null(gmtime_r(&t, &tm));
        assert_date(&m, (double)t, &tm);
    }
    struct tm tm;
    time_t zero = 0;
    gmtime_r(&zero, &tm);
    assert_date(&m, -0.9, &tm); /* fractions are cut off towards zero */
    assert_date(&m, 59.999, &tm);
    /* what is no time ends up at the end of all times */
    const double odd[] = {NAN, INFINITY, -INFINITY, 1e30};
    for (size_t i = 0; i < PS_ARRAY_LEN(odd); i++) {
        assert_true(of(&m, PQL_FN_YEAR, odd[i]) == 292277026596.0);
        assert_true(of(&m, PQL_FN_DAY_OF_YEAR, odd[i]) == 339);
        assert_true(of(&m, PQL_FN_DAY_OF_WEEK, odd[i]) == 0);
        assert_true(of(&m, PQL_FN_MINUTE, odd[i]) == 30);
    }
    end(&m);
}

static void
histograms_are_left_out(void **state)
{
    (void)state;
    static const hst_hist h = {.count = 1};
    map_world m;
    begin(&m, 2, 130);
    for (size_t step = 0; step < 130; step += 3) {
        ev_set(m.b.has + m.b.n_words, step);
        m.b.v[130 + step] = -(double)step;
    }
    assert_int_equal(ev_batch_hists(&m.b, &m.w.q.ctx, 1), PS_OK);
    m.b.h[1][3] = &h;
    run(&m, PQL_FN_ABS, 0);
    for (size_t step = 0; step < 130; step++) {
        assert_false(ev_has(m.b.has, step));
        assert_int_equal(ev_has(m.b.has + m.b.n_words, step), step % 3 == 0 && step != 3);
        if (step % 3 == 0 && step != 3)
            assert_true(m.b.v[130 + step] == (double)step);
    }
    assert_null(m.b.h[1]);
    end(&m);
}

static double
clamped(map_world *m, pql_fn fn, double v, double a, double b, bool *has)
{
    ev_batch_clear(&m->b, 0, 1);
    m->b.v[0] = v;
    ev_set(m->b.has, 0);
    m->w.param_values[0][0] = a;
    m->w.param_values[1][0] = b;
    run(m, fn, fn == PQL_FN_CLAMP ? 2 : 1);
    *has = ev_has(m->b.has, 0);
    return m->b.v[0];
}

static void
clamp_and_round(void **state)
{
    (void)state;
    bool has;
    map_world m;
    begin(&m, 1, 1);
    assert_true(clamped(&m, PQL_FN_CLAMP, 5, -1, 3, &has) == 3 && has);
    assert_true(clamped(&m, PQL_FN_CLAMP, -5, -1, 3, &has) == -1 && has);
    (void)clamped(&m, PQL_FN_CLAMP, 1, 3, -1, &has);
    assert_false(has);
    assert_true(isnan(clamped(&m, PQL_FN_CLAMP, 1, NAN, 3, &has)) && has);
    assert_true(isnan(clamped(&m, PQL_FN_CLAMP, NAN, 0, 3, &has)) && has);
    assert_true(clamped(&m, PQL_FN_CLAMP_MIN, 1, 2, 0, &has) == 2 && has);
    assert_true(clamped(&m, PQL_FN_CLAMP_MAX, 3, 2, 0, &has) == 2 && has);
    assert_true(clamped(&m, PQL_FN_CLAMP_MAX, NAN, -INFINITY, 0, &has) == -INFINITY && has);
    assert_true(clamped(&m, PQL_FN_ROUND, 7.25, 0.5, 0, &has) == 7.5 && has);
    assert_true(clamped(&m, PQL_FN_ROUND, -7.5, 1, 0, &has) == -7 && has);
    assert_true(of(&m, PQL_FN_ROUND, 2.5) == 3);
    assert_true(of(&m, PQL_FN_SGN, -3) == -1);
    assert_true(isnan(of(&m, PQL_FN_SGN, NAN)));
    assert_true(signbit(of(&m, PQL_FN_SGN, -0.0)));
    assert_true(of(&m, PQL_FN_DEG, of(&m, PQL_FN_RAD, 180)) == 180);
    end(&m);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dates_are_those_of_the_calendar),
        cmocka_unit_test(histograms_are_left_out),
        cmocka_unit_test(clamp_and_round),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
