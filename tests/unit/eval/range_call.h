/*
 * range_call.h - calls a function over ranges on samples made by hand, without a query around it, and
 * random series for it: what the tests of these functions share.
 */
#ifndef PROMSCALE_TESTS_UNIT_EVAL_RANGE_CALL_H
#define PROMSCALE_TESTS_UNIT_EVAL_RANGE_CALL_H

#include <math.h>

#include "tests/unit/support.h"

#include "lib/eval/query.h"

enum { RC_MAX_STEPS = 400, RC_MAX_SAMPLES = 1000 };

typedef struct range_world {
    test_alloc memory;
    ev_query q;
    pql_expr call, arg;
    ev_range_call rc;
    const double *params[2];
    double param_values[2][RC_MAX_STEPS];
    ps_arena row_arena;
    /* results */
    double v[RC_MAX_STEPS];
    uint64_t has[RC_MAX_STEPS / 64 + 1];
    ev_row row;
    mdl_label name;
} range_world;

static inline void
world_begin(range_world *w)
{
    memset(w, 0, sizeof *w);
    w->q.env.alloc = w->q.alloc = test_alloc_of(&w->memory);
    ps_arena_init(&w->q.arena, &w->q.alloc, 0);
    ps_arena_init(&w->row_arena, &w->q.alloc, 0);
    ev_notes_init(&w->q.notes, &w->q.alloc);
    ev_ctx_init(&w->q.ctx, &w->q, &w->q.notes);
    w->arg.kind = PQL_RANGE;
    w->call.kind = PQL_CALL;
    w->name = (mdl_label){PS_STR("__name__"), PS_STR("m_total")};
    w->rc = (ev_range_call){.c = &w->q.ctx,
                            .call = &w->call,
                            .arg = &w->arg,
                            .lookback_ms = 300000,
                            .params = w->params,
                            .labels = {&w->name, 1}};
    w->params[0] = w->param_values[0];
    w->params[1] = w->param_values[1];
}

static inline void
world_end(range_world *w)
{
    ev_ctx_done(&w->q.ctx);
    ev_notes_done(&w->q.notes);
    ps_arena_done(&w->q.arena);
    ps_arena_done(&w->row_arena);
    test_alloc_check_empty(&w->memory);
}

static inline ps_status
world_run(range_world *w, pql_fn fn, const ev_samples *s)
{
    w->call.call.fn = pql_function_of(fn);
    memset(w->has, 0, sizeof w->has);
    for (size_t i = 0; i < RC_MAX_STEPS; i++)
        w->v[i] = -12345;
    ps_arena_reset(&w->row_arena);
    w->row = (ev_row){w->v, w->has, NULL, &w->row_arena};
    return ev_range_function_of(fn)->run(&w->rc, s, &w->row);
}

/* ---- random series -------------------------------------------------------------------------------- */

static inline double
random_value(test_random *r, unsigned flavour, double before)
{
    static const double odd[] = {NAN, INFINITY, -INFINITY, 0.0, -0.0, 1e308, -1e308, 5e-324, 1, -1};
    switch (flavour) {
    case 0: /* a counter that starts again at times */
        return test_random_below(r, 12) == 0 ? (double)test_random_below(r, 5)
                                             : before + (double)test_random_below(r, 100);
    case 1: /* decimals */
        return ((double)test_random_below(r, 2000000) - 1e6) / 1000.0;
    case 2: /* few different values */
        return (double)test_random_below(r, 3);
    case 3: /* anything */
        return test_random_below(r, 2) ? odd[test_random_below(r, PS_ARRAY_LEN(odd))]
                                       : (double)test_random_below(r, 1000) / 7;
    case 4: /* of very different sizes */
        return ldexp((double)test_random_below(r, 1000) - 500, (int)test_random_below(r, 120));
    case 5: /* sums overflow */
        return 1.5e308 - (double)test_random_below(r, 3) * 1e308;
    case 6:
        return 42;
    default: /* a counter with decimals */
        return before + (double)test_random_below(r, 1000) / 64.1;
    }
}

enum { RANDOM_FLAVOURS = 8 };

/* At most n samples, some gaps; t ascending from about `from`. */
static inline void
random_series(test_random *r, ev_samples *s, size_t n, int64_t from, bool starts)
{
    unsigned flavour = (unsigned)test_random_below(r, RANDOM_FLAVOURS);
    bool regular = test_random_below(r, 2);
    double before = 0;
    int64_t t = from, start = from - 500;
    ev_samples_clear(s);
    assert_int_equal(ev_samples_reserve(s, n + 1, false, starts), PS_OK);
    for (s->n = 0; s->n < n; s->n++) {
        t += regular ? 10000 : (int64_t)test_random_below(r, 20000) + 1;
        if (test_random_below(r, 40) == 0)
            t += (int64_t)test_random_below(r, 600000);
        s->t_ms[s->n] = t;
        s->v[s->n] = before = random_value(r, flavour, before);
        if (!starts)
            continue;
        if (test_random_below(r, 6) == 0)
            start = t - (int64_t)test_random_below(r, 25000) + 2000;
        if (test_random_below(r, 8) == 0 && s->n > 0)
            start = s->t_ms[s->n - 1];
        s->start_ms[s->n] = test_random_below(r, 9) == 0 ? 0 : start;
    }
}

#endif
