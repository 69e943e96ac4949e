/*
 * bench_functions - the functions over ranges alone, on one series in memory: no leaf, no result.
 *
 * 18 640 samples, one every 10 s. Short: windows of a minute, 10 000 steps of 10 s. Long: windows of a
 * day, 1000 steps of 10 s. Twice: a counter with integers and a gauge with decimals, since sums of
 * integers take a shorter way. Prints nanoseconds per step, the best of several runs.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "lib/eval/query.h"

enum { SAMPLES = 18640, SHORT_STEPS = 10000, LONG_STEPS = 1000, MAX_STEPS = SHORT_STEPS };

typedef struct bench {
    ev_query q;
    pql_expr call, arg;
    ev_range_call rc;
    double v[MAX_STEPS], factor[MAX_STEPS];
    uint64_t has[MAX_STEPS / 64 + 1];
    ps_arena arena;
    const double *params[2];
    mdl_label name;
} bench;

static double
now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void
begin(bench *b)
{
    b->q.env.alloc = b->q.alloc = ps_malloc;
    ps_arena_init(&b->q.arena, &ps_malloc, 0);
    ps_arena_init(&b->arena, &ps_malloc, 0);
    ev_notes_init(&b->q.notes, &ps_malloc);
    ev_ctx_init(&b->q.ctx, &b->q, &b->q.notes);
    b->arg.kind = PQL_RANGE;
    b->call.kind = PQL_CALL;
    for (size_t i = 0; i < MAX_STEPS; i++)
        b->factor[i] = 0.3;
    b->params[0] = b->params[1] = b->factor;
    b->name = (mdl_label){PS_STR("__name__"), PS_STR("a_total")};
}

static void
steps(bench *b, size_t n, int64_t range_ms)
{
    int64_t first = (SAMPLES - (int64_t)n) * 10000;
    b->rc = (ev_range_call){.c = &b->q.ctx,
                            .call = &b->call,
                            .arg = &b->arg,
                            .n_steps = n,
                            .first_end_ms = first,
                            .end_step_ms = 10000,
                            .first_eval_ms = first,
                            .eval_step_ms = 10000,
                            .range_ms = range_ms,
                            .lookback_ms = 300000,
                            .params = b->params,
                            .labels = {&b->name, 1}};
}

static double
measure(bench *b, pql_fn fn, const ev_samples *s)
{
    double best = 1e18, spent = 0;
    b->call.call.fn = pql_function_of(fn);
    for (int i = 0; i < 20 && spent < 3e8; i++) {
        ev_row row = {b->v, b->has, NULL, &b->arena};
        memset(b->has, 0, sizeof b->has);
        double t = now();
        if (ev_range_function_of(fn)->run(&b->rc, s, &row) != PS_OK)
            return -1;
        t = now() - t;
        spent += t;
        best = t < best ? t : best;
    }
    return best / (double)b->rc.n_steps;
}

static void
fill(ev_samples *s, bool decimals)
{
    ev_samples_init(s, &ps_malloc);
    if (ev_samples_reserve(s, SAMPLES, false, false) != PS_OK)
        exit(1);
    for (s->n = 0; s->n < SAMPLES; s->n++) {
        s->t_ms[s->n] = (int64_t)(s->n + 1) * 10000;
        s->v[s->n] = (double)s->n + (decimals ? (double)(s->n * 7919 % 1000) / 1443 : 0);
    }
}

int
main(void)
{
    static bench b;
    ev_samples counter, gauge;
    begin(&b);
    fill(&counter, false);
    fill(&gauge, true);
    printf("%-30s %12s %12s %12s %12s   ns per step\n", "function", "1m integers", "1m decimals",
           "1d integers", "1d decimals");
    for (pql_fn fn = 0; fn < PQL_FN_COUNT; fn++) {
        if (ev_range_function_of(fn) == NULL)
            continue;
        printf("%-30s", pql_function_of(fn)->name);
        steps(&b, SHORT_STEPS, 60000);
        printf(" %12.1f %12.1f", measure(&b, fn, &counter), measure(&b, fn, &gauge));
        steps(&b, LONG_STEPS, 86400000);
        printf(" %12.1f %12.1f\n", measure(&b, fn, &counter), measure(&b, fn, &gauge));
        fflush(stdout);
    }
    ev_samples_done(&counter);
    ev_samples_done(&gauge);
    return 0;
}
