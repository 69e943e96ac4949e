/*
 * fn_histogram.c - histogram_count, _sum, _avg, _stddev, _stdvar: one number of each native histogram.
 * Floats have none and go.
 */
#include <math.h>

#include "lib/eval/internal.h"

static double
count_of(const hst_hist *h)
{
    return h->count;
}

static double
sum_of(const hst_hist *h)
{
    return h->sum;
}

static double
avg_of(const hst_hist *h)
{
    return h->sum / h->count;
}

static double
stddev_of(const hst_hist *h)
{
    return sqrt(hst_variance(h));
}

static ps_status
map(ev_batch *b, double (*of)(const hst_hist *h))
{
    for (size_t i = 0; i < b->n; i++) {
        ev_row row = ev_batch_row(b, i);
        for (size_t w = 0; w < b->n_words; w++) {
            for (uint64_t bits = row.has[w]; bits != 0; bits &= bits - 1) {
                size_t step = w * 64 + (size_t)__builtin_ctzll(bits);
                if (row.h != NULL && row.h[step] != NULL)
                    row.v[step] = of(row.h[step]);
                else
                    ev_unset(row.has, step);
            }
        }
        b->h[i] = NULL;
    }
    return PS_OK;
}

static ps_status
run_count(const ev_map_call *call, ev_batch *b)
{
    (void)call;
    return map(b, count_of);
}

static ps_status
run_sum(const ev_map_call *call, ev_batch *b)
{
    (void)call;
    return map(b, sum_of);
}

static ps_status
run_avg(const ev_map_call *call, ev_batch *b)
{
    (void)call;
    return map(b, avg_of);
}

static ps_status
run_stddev(const ev_map_call *call, ev_batch *b)
{
    (void)call;
    return map(b, stddev_of);
}

static ps_status
run_stdvar(const ev_map_call *call, ev_batch *b)
{
    (void)call;
    return map(b, hst_variance);
}

static const ev_map_function functions[] = {
    {.fn = PQL_FN_HISTOGRAM_COUNT, .run = run_count},
    {.fn = PQL_FN_HISTOGRAM_SUM, .run = run_sum},
    {.fn = PQL_FN_HISTOGRAM_AVG, .run = run_avg},
    {.fn = PQL_FN_HISTOGRAM_STDDEV, .run = run_stddev},
    {.fn = PQL_FN_HISTOGRAM_STDVAR, .run = run_stdvar},
};

const ev_map_function *
ev_map_histogram_of(pql_fn fn)
{
    for (size_t i = 0; i < PS_ARRAY_LEN(functions); i++)
        if (functions[i].fn == fn)
            return &functions[i];
    return NULL;
}
