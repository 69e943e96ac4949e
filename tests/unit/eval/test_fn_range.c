/*
 * Functions over ranges of floats: every function against a second, slow way to compute the same for
 * each window alone, to the last bit, over random series, windows and steps; and known answers.
 */
#include "tests/unit/eval/range_call.h"

/* One window; t and v hold what lies in it (with what anchored and smoothed add). */
typedef struct window {
    size_t n;
    int64_t t[RC_MAX_SAMPLES], start[RC_MAX_SAMPLES];
    double v[RC_MAX_SAMPLES];
    int64_t from, to, eval, range;
    bool starts;
    pql_edge edge;
    double p0, p1;
} window;

/* ---- the slow way ------------------------------------------------------------------------------------ */

typedef struct comp { /* a compensated sum */
    double sum, c;
} comp;

static void
comp_add(comp *s, double v)
{
    double t = s->sum + v;
    if (isinf(t))
        s->c = 0;
    else if (fabs(s->sum) >= fabs(v))
        s->c += (s->sum - t) + v;
    else
        s->c += (v - t) + s->sum;
    s->sum = t;
}

static bool
start_reset(const window *w, size_t i)
{
    int64_t s = w->start[i], before = w->t[i - 1], s0 = w->start[i - 1];
    if (!w->starts || s == 0 || s >= w->t[i] || s < before)
        return false;
    return s > before || (s0 != 0 && s0 < before);
}

static double
seconds(int64_t ms)
{
    return (double)ms / 1000;
}

static bool
slow_edges(const window *w, bool counter, bool per_second, double *ret)
{
    bool smoothed = w->edge == PQL_SMOOTHED;
    size_t first = 0, last = w->n - 1;
    while (first + 1 < last && w->t[first + 1] <= w->from)
        first++;
    if (first + 1 == last && w->t[last] <= w->from)
        return false;
    while (smoothed && last > 0 && w->t[last - 1] >= w->to)
        last--;
    if (w->t[last] <= w->from || (smoothed && w->t[first] > w->to))
        return false;
    double left = w->v[first], right = w->v[last];
    if (smoothed && w->t[first] < w->from) {
        double a = counter && w->v[first + 1] < w->v[first] ? 0 : w->v[first];
        left = a + (w->v[first + 1] - a) * (double)(w->from - w->t[first]) /
                       (double)(w->t[first + 1] - w->t[first]);
    }
    if (smoothed && last > 0 && w->t[last] > w->to) {
        double a = counter && w->v[last] < w->v[last - 1] ? 0 : w->v[last - 1];
        right = a + (w->v[last] - a) * (double)(w->to - w->t[last - 1]) /
                        (double)(w->t[last] - w->t[last - 1]);
    }
    double result = right - left, lost = 0, prev = left;
    for (size_t i = first; i <= last; i++)
        if ((i != first || w->t[i] > w->from) && (i != last || w->t[i] < w->to)) {
            lost += w->v[i] < prev ? prev : 0;
            prev = w->v[i];
        }
    lost += right < prev ? prev : 0;
    if (counter)
        result += lost;
    *ret = per_second ? result / seconds(w->range) : result;
    return true;
}

static bool
slow_rate(const window *w, bool counter, bool per_second, double *ret)
{
    if (w->edge != PQL_PLAIN)
        return slow_edges(w, counter, per_second, ret);
    double first = w->v[0], d = w->v[w->n - 1] - first;
    for (size_t i = 1; i < w->n && counter; i++)
        if (w->v[i] < w->v[i - 1] || start_reset(w, i))
            d += w->v[i - 1];
    double span = seconds(w->t[w->n - 1] - w->t[0]), left = seconds(w->t[0] - w->from);
    double right = seconds(w->to - w->t[w->n - 1]);
    double mean = w->n > 1 ? span / (double)(w->n - 1) : 0;
    if (counter && w->starts && w->start[0] != 0 && w->start[0] > w->from && w->start[0] < w->t[0]) {
        left = 0;
        span = seconds(w->t[w->n - 1] - w->start[0]);
        d += first;
    } else if (w->n == 1) {
        return false;
    } else {
        if (!(left < mean * 1.1))
            left = mean / 2;
        if (counter && d > 0 && first >= 0 && span * (first / d) < left)
            left = span * (first / d);
    }
    if (!(right < mean * 1.1))
        right = mean / 2;
    double factor = (span + left + right) / span;
    *ret = d * (per_second ? factor / seconds(w->range) : factor);
    return true;
}

static bool
slow_instant(const window *w, bool rate, double *ret)
{
    size_t i = w->n - 1;
    if (w->n < 2)
        return false;
    *ret = w->v[i] - w->v[i - 1];
    if (rate && (w->v[i] < w->v[i - 1] || start_reset(w, i)))
        *ret = w->v[i];
    if (rate)
        *ret /= seconds(w->t[i] - w->t[i - 1]);
    return true;
}

static bool
slow_pairs(const window *w, bool resets, double *ret)
{
    size_t first = 0, count = 0;
    if (w->edge == PQL_ANCHORED) {
        if (w->t[w->n - 1] <= w->from)
            return false;
        while (w->t[first] <= w->from && w->t[first + 1] <= w->from)
            first++;
    }
    for (size_t i = first + 1; i < w->n; i++) {
        bool both_nan = isnan(w->v[i]) && isnan(w->v[i - 1]);
        count += resets ? w->v[i] < w->v[i - 1] || start_reset(w, i)
                        : w->v[i] != w->v[i - 1] && !both_nan;
    }
    *ret = (double)count;
    return true;
}

static double
slow_avg(const window *w)
{
    comp sum = {w->v[0], 0}, mean = {0, 0};
    bool incremental = false;
    for (size_t i = 1; i < w->n; i++) {
        double count = (double)i + 1, q = (count - 1) / count;
        if (!incremental) {
            comp next = sum;
            comp_add(&next, w->v[i]);
            if (!isinf(next.sum)) {
                sum = next;
                continue;
            }
            incremental = true;
            mean = (comp){sum.sum / (count - 1), sum.c / (count - 1)};
        }
        mean = (comp){q * mean.sum, q * mean.c};
        comp_add(&mean, w->v[i] / count);
    }
    return incremental ? mean.sum + mean.c : sum.sum / (double)w->n + sum.c / (double)w->n;
}

static double
slow_variance(const window *w)
{
    comp mean = {0, 0}, aux = {0, 0};
    for (size_t i = 0; i < w->n; i++) {
        double delta = w->v[i] - (mean.sum + mean.c);
        comp_add(&mean, delta / (double)(i + 1));
        comp_add(&aux, delta * (w->v[i] - (mean.sum + mean.c)));
    }
    return (aux.sum + aux.c) / (double)w->n;
}

static int
order(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    if (isnan(x) || isnan(y))
        return (int)isnan(y) - (int)isnan(x);
    return (x > y) - (x < y);
}

static double
slow_quantile(double q, const double *v, size_t n)
{
    double sorted[RC_MAX_SAMPLES];
    if (isnan(q))
        return NAN;
    if (q < 0 || q > 1)
        return q < 0 ? -INFINITY : INFINITY;
    memcpy(sorted, v, n * sizeof *v);
    qsort(sorted, n, sizeof *sorted, order);
    double rank = q * ((double)n - 1), lower = floor(rank);
    size_t up = (size_t)fmin((double)n - 1, lower + 1);
    return sorted[(size_t)lower] * (1 - (rank - lower)) + sorted[up] * (rank - lower);
}

static double
slow_mad(const window *w)
{
    double distance[RC_MAX_SAMPLES], median = slow_quantile(0.5, w->v, w->n);
    for (size_t i = 0; i < w->n; i++) {
        if (isnan(w->v[i]))
            return NAN;
        distance[i] = fabs(w->v[i] - median);
    }
    return slow_quantile(0.5, distance, w->n);
}

static double
slow_extreme(const window *w, bool max, bool time)
{
    size_t at = 0;
    for (size_t i = 0; i < w->n; i++) {
        double a = max ? w->v[at] : -w->v[at], b = max ? w->v[i] : -w->v[i];
        if (isnan(a) || b > a || (time && b == a))
            at = i;
    }
    return time ? seconds(w->t[at]) : w->v[at];
}

static bool
slow_line(const window *w, bool predict, double *ret)
{
    comp x = {0, 0}, y = {0, 0}, xy = {0, 0}, xx = {0, 0};
    bool constant = true;
    if (w->n < 2)
        return false;
    for (size_t i = 0; i < w->n; i++) {
        double at = (double)(w->t[i] - (predict ? w->eval : w->t[0])) / 1e3;
        constant = constant && (i == 0 || w->v[i] == w->v[0]);
        comp_add(&x, at);
        comp_add(&y, w->v[i]);
        comp_add(&xy, at * w->v[i]);
        comp_add(&xx, at * at);
    }
    double n = (double)w->n, sx = x.sum + x.c, sy = y.sum + y.c;
    double slope = ((xy.sum + xy.c) - sx * sy / n) / ((xx.sum + xx.c) - sx * sx / n);
    double zero = sy / n - slope * sx / n;
    if (constant) {
        slope = isinf(w->v[0]) ? NAN : 0;
        zero = isinf(w->v[0]) ? NAN : w->v[0];
    }
    *ret = predict ? slope * w->p0 + zero : slope;
    return true;
}

static bool
slow_smoothing(const window *w, double *ret)
{
    if (w->n < 2)
        return false;
    double s0 = 0, s1 = w->v[0], b = w->v[1] - w->v[0];
    for (size_t i = 1; i < w->n; i++) {
        if (i > 1)
            b = w->p1 * (s1 - s0) + (1 - w->p1) * b;
        double next = w->p0 * w->v[i] + (1 - w->p0) * (s1 + b);
        s0 = s1;
        s1 = next;
    }
    *ret = s1;
    return true;
}

static bool
slow(pql_fn fn, const window *w, double *ret)
{
    comp sum = {0, 0};
    if (w->n == 0)
        return false;
    switch (fn) {
    case PQL_FN_RATE:
        return slow_rate(w, true, true, ret);
    case PQL_FN_INCREASE:
        return slow_rate(w, true, false, ret);
    case PQL_FN_DELTA:
        return slow_rate(w, false, false, ret);
    case PQL_FN_IRATE:
        return slow_instant(w, true, ret);
    case PQL_FN_IDELTA:
        return slow_instant(w, false, ret);
    case PQL_FN_RESETS:
        return slow_pairs(w, true, ret);
    case PQL_FN_CHANGES:
        return slow_pairs(w, false, ret);
    case PQL_FN_DERIV:
        return slow_line(w, false, ret);
    case PQL_FN_PREDICT_LINEAR:
        return slow_line(w, true, ret);
    case PQL_FN_DOUBLE_EXPONENTIAL_SMOOTHING:
        return slow_smoothing(w, ret);
    case PQL_FN_SUM_OVER_TIME:
        for (size_t i = 0; i < w->n; i++)
            comp_add(&sum, w->v[i]);
        *ret = isinf(sum.sum) ? sum.sum : sum.sum + sum.c;
        return true;
    case PQL_FN_AVG_OVER_TIME:
        *ret = slow_avg(w);
        return true;
    case PQL_FN_STDDEV_OVER_TIME:
        *ret = sqrt(slow_variance(w));
        return true;
    case PQL_FN_STDVAR_OVER_TIME:
        *ret = slow_variance(w);
        return true;
    case PQL_FN_QUANTILE_OVER_TIME:
        *ret = slow_quantile(w->p0, w->v, w->n);
        return true;
    case PQL_FN_MAD_OVER_TIME:
        *ret = slow_mad(w);
        return true;
    case PQL_FN_MIN_OVER_TIME:
    case PQL_FN_MAX_OVER_TIME:
        *ret = slow_extreme(w, fn == PQL_FN_MAX_OVER_TIME, false);
        return true;
    case PQL_FN_TS_OF_MIN_OVER_TIME:
    case PQL_FN_TS_OF_MAX_OVER_TIME:
        *ret = slow_extreme(w, fn == PQL_FN_TS_OF_MAX_OVER_TIME, true);
        return true;
    case PQL_FN_COUNT_OVER_TIME:
        *ret = (double)w->n;
        return true;
    case PQL_FN_PRESENT_OVER_TIME:
        *ret = 1;
        return true;
    case PQL_FN_FIRST_OVER_TIME:
        *ret = w->v[0];
        return true;
    case PQL_FN_LAST_OVER_TIME:
        *ret = w->v[w->n - 1];
        return true;
    case PQL_FN_TS_OF_FIRST_OVER_TIME:
        *ret = seconds(w->t[0]);
        return true;
    case PQL_FN_TS_OF_LAST_OVER_TIME: /* never before 1970 */
        *ret = fmax(0, seconds(w->t[w->n - 1]));
        return true;
    default:
        fail_msg("no slow way for %s", pql_function_of(fn)->name);
    }
    return false;
}

/* ---- comparison -------------------------------------------------------------------------------------------- */

static void
cut_window(window *w, const range_world *world, const ev_samples *s, size_t step)
{
    const ev_range_call *c = &world->rc;
    w->edge = c->edge;
    w->to = c->first_end_ms + (int64_t)step * c->end_step_ms;
    w->from = w->to - c->range_ms;
    w->range = c->range_ms;
    w->eval = c->first_eval_ms + (int64_t)step * c->eval_step_ms;
    w->p0 = c->params[0][step];
    w->p1 = c->params[1][step];
    w->starts = s->start_ms != NULL;
    w->n = 0;
    int64_t left = w->from - (c->edge == PQL_PLAIN ? 0 : c->lookback_ms);
    int64_t right = w->to + (c->edge == PQL_SMOOTHED ? c->lookback_ms : 0);
    for (size_t i = 0; i < s->n; i++)
        if (s->t_ms[i] > left && s->t_ms[i] <= right) {
            w->t[w->n] = s->t_ms[i];
            w->start[w->n] = s->start_ms == NULL ? 0 : s->start_ms[i];
            w->v[w->n++] = s->v[i];
        }
}

static bool
same(double a, double b)
{
    /* which of two equal zeros, and which NaN, is nobody's business */
    return a == b || (isnan(a) && isnan(b));
}

static void
compare(range_world *world, pql_fn fn, const ev_samples *s, uint64_t round)
{
    static window w;
    assert_int_equal(world_run(world, fn, s), PS_OK);
    assert_null(world->row.h);
    for (size_t step = 0; step < world->rc.n_steps; step++) {
        double expected = 0;
        cut_window(&w, world, s, step);
        bool has = slow(fn, &w, &expected);
        if (ev_has(world->has, step) != has || (has && !same(world->v[step], expected)))
            fail_msg("%s, round %llu, step %zu of %zu, %zu samples: %d %.17g, expected %d %.17g",
                     pql_function_of(fn)->name, (unsigned long long)round, step,
                     world->rc.n_steps, w.n, ev_has(world->has, step), world->v[step], has,
                     expected);
    }
    for (size_t step = world->rc.n_steps; step < RC_MAX_STEPS; step++)
        assert_false(ev_has(world->has, step));
}

static void
random_steps(range_world *w, test_random *r)
{
    ev_range_call *c = &w->rc;
    static const int64_t ranges[] = {1, 1000, 10000, 60000, 300000, 3600000, 1100, 1500};
    static const int64_t steps[] = {0, 1, 1000, 10000, 15000, 60000, 1000000};
    c->n_steps = 1 + test_random_below(r, test_random_below(r, 3) ? 70 : RC_MAX_STEPS - 1);
    c->range_ms = ranges[test_random_below(r, PS_ARRAY_LEN(ranges))];
    c->eval_step_ms = steps[test_random_below(r, PS_ARRAY_LEN(steps))];
    c->end_step_ms = test_random_below(r, 10) == 0 ? 0 : c->eval_step_ms;
    c->first_eval_ms = (int64_t)test_random_below(r, 2000000) - 1000000;
    c->first_end_ms = c->first_eval_ms + (int64_t)test_random_below(r, 3) * 7777 - 7777;
    for (size_t i = 0; i < RC_MAX_STEPS; i++) {
        w->param_values[0][i] = (double)test_random_below(r, 998) / 1000 + 0.001;
        w->param_values[1][i] = (double)test_random_below(r, 998) / 1000 + 0.001;
    }
}

static void
all_functions_agree_with_the_slow_way(void **state)
{
    (void)state;
    test_random r = {20261123};
    range_world w;
    ev_samples s;
    world_begin(&w);
    ps_alloc alloc = test_alloc_of(&w.memory);
    ev_samples_init(&s, &alloc);
    for (uint64_t round = 0; round < 300; round++) {
        random_steps(&w, &r);
        random_series(&r, &s, test_random_below(&r, round % 10 == 0 ? 600 : 60),
                      w.rc.first_eval_ms - 400000, false);
        w.rc.edge = PQL_PLAIN;
        for (pql_fn fn = 0; fn < PQL_FN_COUNT; fn++)
            if (ev_range_function_of(fn) != NULL)
                compare(&w, fn, &s, round);
    }
    ev_samples_done(&s);
    world_end(&w);
}

static void
edges_agree_with_the_slow_way(void **state)
{
    (void)state;
    static const pql_fn anchored[] = {PQL_FN_RATE, PQL_FN_INCREASE, PQL_FN_DELTA, PQL_FN_RESETS,
                                      PQL_FN_CHANGES};
    test_random r = {77};
    range_world w;
    ev_samples s;
    world_begin(&w);
    ps_alloc alloc = test_alloc_of(&w.memory);
    ev_samples_init(&s, &alloc);
    for (uint64_t round = 0; round < 1500; round++) {
        random_steps(&w, &r);
        random_series(&r, &s, test_random_below(&r, 60), w.rc.first_eval_ms - 600000, false);
        w.rc.lookback_ms = (int64_t)test_random_below(&r, 4) * 20000;
        w.rc.edge = round % 2 ? PQL_ANCHORED : PQL_SMOOTHED;
        for (size_t i = 0; i < (round % 2 ? 5 : 3); i++)
            compare(&w, anchored[i], &s, round);
    }
    ev_samples_done(&s);
    world_end(&w);
}

static void
start_times_agree_with_the_slow_way(void **state)
{
    (void)state;
    static const pql_fn fns[] = {PQL_FN_RATE, PQL_FN_INCREASE, PQL_FN_IRATE, PQL_FN_RESETS};
    test_random r = {4242};
    range_world w;
    ev_samples s;
    world_begin(&w);
    w.q.options.start_timestamps = true;
    ps_alloc alloc = test_alloc_of(&w.memory);
    ev_samples_init(&s, &alloc);
    for (uint64_t round = 0; round < 1000; round++) {
        random_steps(&w, &r);
        random_series(&r, &s, test_random_below(&r, 60), w.rc.first_eval_ms - 200000, true);
        for (size_t i = 0; i < PS_ARRAY_LEN(fns); i++)
            compare(&w, fns[i], &s, round);
    }
    ev_samples_done(&s);
    world_end(&w);
}

/* ---- known answers --------------------------------------------------------------------------------------- */

static void
set(ev_samples *s, const double *v, size_t n)
{
    ev_samples_clear(s);
    assert_int_equal(ev_samples_reserve(s, n, false, false), PS_OK);
    for (s->n = 0; s->n < n; s->n++) {
        s->t_ms[s->n] = (int64_t)(s->n + 1) * 10000;
        s->v[s->n] = v[s->n];
    }
}

/* At t = 60 s over the last minute. */
static double
at_60(range_world *w, pql_fn fn, const ev_samples *s)
{
    w->rc.n_steps = 1;
    w->rc.first_end_ms = w->rc.first_eval_ms = 60000;
    w->rc.range_ms = 60000;
    assert_int_equal(world_run(w, fn, s), PS_OK);
    assert_true(ev_has(w->has, 0));
    return w->v[0];
}

static void
known_answers(void **state)
{
    (void)state;
    range_world w;
    ev_samples s;
    world_begin(&w);
    ps_alloc alloc = test_alloc_of(&w.memory);
    ev_samples_init(&s, &alloc);
    set(&s, (double[]){10, 20, 30, 5, 15, 25}, 6);
    /* 15 up and 30 lost over 50 s; a line from zero would have begun 11 s before, the edge is at 10 */
    assert_true(at_60(&w, PQL_FN_INCREASE, &s) == 45 * 1.2);
    assert_true(at_60(&w, PQL_FN_RATE, &s) == 45 * (1.2 / 60));
    assert_true(at_60(&w, PQL_FN_DELTA, &s) == 15 * 1.2);
    assert_true(at_60(&w, PQL_FN_RESETS, &s) == 1);
    assert_true(at_60(&w, PQL_FN_CHANGES, &s) == 5);
    assert_true(at_60(&w, PQL_FN_SUM_OVER_TIME, &s) == 105);
    assert_true(at_60(&w, PQL_FN_TS_OF_MAX_OVER_TIME, &s) == 30);
    set(&s, (double[]){1, 1e100, 1, -1e100}, 4);
    assert_true(at_60(&w, PQL_FN_SUM_OVER_TIME, &s) == 2);
    set(&s, (double[]){1.5e308, 1.5e308, 1.5e308}, 3);
    assert_true(isinf(at_60(&w, PQL_FN_SUM_OVER_TIME, &s)));
    assert_true(at_60(&w, PQL_FN_AVG_OVER_TIME, &s) == 1.5e308);
    set(&s, (double[]){4, 6, 2, 1, 999, 1}, 6);
    assert_true(at_60(&w, PQL_FN_MAD_OVER_TIME, &s) == 2);
    ev_samples_done(&s);
    world_end(&w);
}

static void
assert_note(const range_world *w, bool info, const char *text)
{
    for (size_t i = 0; i < w->q.notes.n; i++)
        if (w->q.notes.items[i].info == info && ps_str_eq_c(w->q.notes.items[i].text, text))
            return;
    fail_msg("no note \"%s\"", text);
}

static void
notes_are_worded(void **state)
{
    (void)state;
    range_world w;
    ev_samples s;
    world_begin(&w);
    ps_alloc alloc = test_alloc_of(&w.memory);
    ev_samples_init(&s, &alloc);
    set(&s, (double[]){1, 2, 3, 4}, 4);
    (void)at_60(&w, PQL_FN_RATE, &s);
    assert_int_equal(w.q.notes.n, 0);
    w.name.value = PS_STR("temp\"erature");
    (void)at_60(&w, PQL_FN_RATE, &s);
    assert_note(&w, true, "metric might not be a counter, name does not end in "
                          "_total/_sum/_count/_bucket: \"temp\\\"erature\"");
    pql_expr q = {.kind = PQL_NUMBER};
    w.call.call.args = (pql_expr *[]){&q, &w.arg};
    w.param_values[0][0] = 1.5;
    assert_true(at_60(&w, PQL_FN_QUANTILE_OVER_TIME, &s) == INFINITY);
    assert_note(&w, false, "quantile value should be between 0 and 1, got 1.5");
    w.param_values[0][0] = 1.5;
    w.param_values[1][0] = 0.5;
    assert_int_equal(world_run(&w, PQL_FN_DOUBLE_EXPONENTIAL_SMOOTHING, &s), PS_EINVAL);
    assert_true(ps_str_eq_c(ps_buf_str(&w.q.ctx.error),
                            "invalid smoothing factor. Expected: 0 < sf < 1, got: 1.500000"));
    ev_samples_done(&s);
    world_end(&w);
}

/* The n-th allocation fails, for all n: an error and nothing lost. */
static void
no_memory_is_an_error(void **state)
{
    (void)state;
    test_random r = {5};
    range_world w;
    ev_samples s;
    world_begin(&w);
    ev_samples_init(&s, &ps_malloc);
    random_series(&r, &s, 200, 0, false);
    for (size_t i = 0; i < s.n; i++)
        s.v[i] = (double)(i % 3) + 0.1; /* many resets */
    random_steps(&w, &r);
    w.rc.n_steps = 50;
    w.rc.first_end_ms = w.rc.first_eval_ms = 100000;
    w.rc.end_step_ms = w.rc.eval_step_ms = 10000;
    w.rc.range_ms = 60000;
    for (pql_fn fn = 0; fn < PQL_FN_COUNT; fn++) {
        if (ev_range_function_of(fn) == NULL)
            continue;
        for (size_t n = 1;; n++) {
            w.memory.calls = 0;
            w.memory.fail_at = n;
            ps_status status = world_run(&w, fn, &s);
            bool failed = w.memory.calls >= n;
            w.memory.fail_at = 0;
            assert_int_equal(status, failed ? PS_ENOMEM : PS_OK);
            w.q.ctx.failed = PS_OK;
            if (!failed)
                break;
        }
    }
    ev_samples_done(&s);
    world_end(&w);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answers),
        cmocka_unit_test(notes_are_worded),
        cmocka_unit_test(all_functions_agree_with_the_slow_way),
        cmocka_unit_test(edges_agree_with_the_slow_way),
        cmocka_unit_test(start_times_agree_with_the_slow_way),
        cmocka_unit_test(no_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
