/*
 * agg_kernels.c - the loops over steps that folds spend their time in.
 *
 * A kernel adds one row's values to the accumulators of its group, step by step and independent of each
 * other. So two steps fit in one vector, and everything that a sum has to decide becomes a mask. Which
 * accumulators are used for what:
 *
 *   sum      a = sum, b = its compensation
 *   avg      a = sum, b = compensation, n = how many; once the sum would overflow, a is the mean and n
 *            counts downwards: -n values so far
 *   min max  a, NaN before anything came
 *   count    a
 *   stddev   a = mean, b = sum of squared differences, n = how many
 *
 * Sums are Neumaier's (https://en.wikipedia.org/wiki/Kahan_summation_algorithm): the larger one of sum
 * and value decides which of them lost bits. The order of operations is that of Prometheus, since it
 * shows in the last bits. A sum begins with -0, the one number to which adding changes nothing at all.
 */
#include "lib/eval/agg.h"

#include <float.h>
#include <math.h>

typedef double v2 __attribute__((vector_size(16)));
typedef int64_t m2 __attribute__((vector_size(16)));

static inline v2
load(const double *p)
{
    v2 v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline void
store(double *p, v2 v)
{
    memcpy(p, &v, sizeof v);
}

static inline v2
pick(m2 mask, v2 yes, v2 no)
{
    return (v2)((mask & (m2)yes) | (~mask & (m2)no));
}

static inline v2
magnitude(v2 v)
{
    const m2 bits = {INT64_MAX, INT64_MAX};
    return (v2)((m2)v & bits);
}

static inline m2
is_inf(v2 v)
{
    const v2 most = {DBL_MAX, DBL_MAX};
    return magnitude(v) > most;
}

/* *sum += x with compensation *c. */
static inline void
kahan2(v2 *sum, v2 *c, v2 x)
{
    v2 t = *sum + x;
    m2 larger = magnitude(*sum) >= magnitude(x);
    v2 high = pick(larger, *sum, x), low = pick(larger, x, *sum);
    v2 next = *c + ((high - t) + low);
    *c = (v2)(~is_inf(t) & (m2)next);
    *sum = t;
}

static inline void
kahan1(double *sum, double *c, double x)
{
    double t = *sum + x;
    if (fabs(t) > DBL_MAX)
        *c = 0;
    else if (fabs(*sum) >= fabs(x))
        *c += (*sum - t) + x;
    else
        *c += (x - t) + *sum;
    *sum = t;
}

/* ---- sum ------------------------------------------------------------------------------------------ */

static void
add_sum(agg_cells at, const double *v, size_t n)
{
    size_t i = 0;
    for (; i + 2 <= n; i += 2) {
        v2 sum = load(at.a + i), c = load(at.b + i);
        kahan2(&sum, &c, load(v + i));
        store(at.a + i, sum);
        store(at.b + i, c);
    }
    if (i < n)
        kahan1(&at.a[i], &at.b[i], v[i]);
}

static void
finish_sum(agg_cells at, double *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = at.a[i] + at.b[i];
}

/* ---- avg ------------------------------------------------------------------------------------------- */

static void
add_avg1(double *a, double *b, double *n, double x)
{
    if (*n == 0) {
        *a = x;
        *b = 0;
        *n = 1;
        return;
    }
    if (*n > 0) {
        double sum = *a, c = *b;
        kahan1(&sum, &c, x);
        if (!(fabs(sum) > DBL_MAX)) {
            *a = sum;
            *b = c;
            *n += 1;
            return;
        }
        *a /= *n;
        *b /= *n;
        *n = -*n;
    }
    *n -= 1;
    double count = -*n, q = (count - 1) / count;
    *a *= q;
    *b *= q;
    kahan1(a, b, x / count);
}

static void
add_avg(agg_cells at, const double *v, size_t n)
{
    const v2 zero = {0, 0}, one = {1, 1};
    size_t i = 0;
    for (; i + 2 <= n; i += 2) {
        v2 sum = load(at.a + i), c = load(at.b + i), count = load(at.n + i), x = load(v + i);
        kahan2(&sum, &c, x);
        m2 other = is_inf(sum) | (count < zero);
        if (PS_UNLIKELY((other[0] | other[1]) != 0)) {
            add_avg1(&at.a[i], &at.b[i], &at.n[i], v[i]);
            add_avg1(&at.a[i + 1], &at.b[i + 1], &at.n[i + 1], v[i + 1]);
            continue;
        }
        store(at.a + i, sum);
        store(at.b + i, c);
        store(at.n + i, count + one);
    }
    if (i < n)
        add_avg1(&at.a[i], &at.b[i], &at.n[i], v[i]);
}

static void
finish_avg(agg_cells at, double *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = at.n[i] < 0 ? at.a[i] + at.b[i] : at.a[i] / at.n[i] + at.b[i] / at.n[i];
}

/* ---- min, max, count --------------------------------------------------------------------------------- */

static void
add_min(agg_cells at, const double *v, size_t n)
{
    size_t i = 0;
    for (; i + 2 <= n; i += 2) {
        v2 least = load(at.a + i), x = load(v + i);
        store(at.a + i, pick((least > x) | (least != least), x, least));
    }
    if (i < n && (at.a[i] > v[i] || isnan(at.a[i])))
        at.a[i] = v[i];
}

static void
add_max(agg_cells at, const double *v, size_t n)
{
    size_t i = 0;
    for (; i + 2 <= n; i += 2) {
        v2 most = load(at.a + i), x = load(v + i);
        store(at.a + i, pick((most < x) | (most != most), x, most));
    }
    if (i < n && (at.a[i] < v[i] || isnan(at.a[i])))
        at.a[i] = v[i];
}

static void
add_count(agg_cells at, const double *v, size_t n)
{
    (void)v;
    for (size_t i = 0; i < n; i++)
        at.a[i] += 1;
}

static void
finish_plain(agg_cells at, double *out, size_t n)
{
    memcpy(out, at.a, n * sizeof *out);
}

static void
finish_group(agg_cells at, double *out, size_t n)
{
    (void)at;
    for (size_t i = 0; i < n; i++)
        out[i] = 1;
}

/* ---- stddev, stdvar ------------------------------------------------------------------------------------ */

/* Welford's. The first value meets a mean of 0 and becomes the mean exactly; one that is NaN or infinite
 * makes the squares NaN for good. */
static void
add_squares(agg_cells at, const double *v, size_t n)
{
    const v2 one = {1, 1};
    size_t i = 0;
    for (; i + 2 <= n; i += 2) {
        v2 count = load(at.n + i) + one, mean = load(at.a + i), x = load(v + i);
        v2 delta = x - mean;
        mean += delta / count;
        store(at.b + i, load(at.b + i) + delta * (x - mean));
        store(at.a + i, mean);
        store(at.n + i, count);
    }
    if (i < n) {
        at.n[i] += 1;
        double delta = v[i] - at.a[i];
        at.a[i] += delta / at.n[i];
        at.b[i] += delta * (v[i] - at.a[i]);
    }
}

static void
finish_stdvar(agg_cells at, double *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = at.b[i] / at.n[i];
}

static void
finish_stddev(agg_cells at, double *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = sqrt(at.b[i] / at.n[i]);
}

/* ---- which is which -------------------------------------------------------------------------------------- */

const agg_kind *
ev_agg_kind_of(pql_agg op)
{
    static const agg_kind sum = {add_sum, finish_sum, -0.0, 2};
    static const agg_kind avg = {add_avg, finish_avg, -0.0, 3};
    static const agg_kind min = {add_min, finish_plain, NAN, 1};
    static const agg_kind max = {add_max, finish_plain, NAN, 1};
    static const agg_kind count = {add_count, finish_plain, 0, 1};
    static const agg_kind group = {NULL, finish_group, 0, 0};
    static const agg_kind stddev = {add_squares, finish_stddev, 0, 3};
    static const agg_kind stdvar = {add_squares, finish_stdvar, 0, 3};
    switch (op) {
    case PQL_SUM:
        return &sum;
    case PQL_AVG:
        return &avg;
    case PQL_MIN:
        return &min;
    case PQL_MAX:
        return &max;
    case PQL_COUNT:
        return &count;
    case PQL_GROUP:
        return &group;
    case PQL_STDDEV:
        return &stddev;
    case PQL_STDVAR:
        return &stdvar;
    default:
        return NULL;
    }
}

size_t
ev_agg_next_set(const uint64_t *has, size_t from, size_t n_steps)
{
    for (size_t w = from >> 6; from < n_steps; from = ++w << 6) {
        uint64_t bits = has[w] >> (from & 63);
        if (bits != 0)
            return from + (size_t)__builtin_ctzll(bits);
    }
    return n_steps;
}

size_t
ev_agg_next_clear(const uint64_t *has, size_t from, size_t n_steps)
{
    for (size_t w = from >> 6; from < n_steps; from = ++w << 6) {
        uint64_t bits = ~has[w] >> (from & 63);
        if (bits != 0) {
            from += (size_t)__builtin_ctzll(bits);
            return from < n_steps ? from : n_steps;
        }
    }
    return n_steps;
}
