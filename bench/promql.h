/*
 * promql.h - what bench_promql.c and bench_promql_more.c share: series in memory, a source over them (plain
 * arrays, or blocks that are decoded when they are read), and how a case is run and measured.
 *
 * A run parses, plans, selects, evaluates and frees; what counts is the mean CPU time of a run, and how often
 * it asked for memory and how much it held at most.
 */
#ifndef PROMSCALE_BENCH_PROMQL_H
#define PROMSCALE_BENCH_PROMQL_H

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "lib/block/block.h"
#include "lib/eval/eval.h"
#include "lib/regex/regex.h"

enum { MAX_LABELS = 9, MAX_RUNS = 4 };

typedef struct series {
    mdl_label items[MAX_LABELS];
    mdl_labels labels;
    int metric;
    size_t n; /* samples, step_ms apart */
    int64_t from_ms, step_ms;
    const int64_t *t;
    double *v;          /* NULL: histograms */
    const hst_hist **h; /* may be shared by several */
    blk_run runs[MAX_RUNS];
    size_t n_runs;
} series;

typedef struct world {
    series **sorted; /* by labels */
    size_t n;
} world;

static inline void
die(const char *what)
{
    fprintf(stderr, "bench: %s\n", what);
    exit(1);
}

static inline void *
need(void *p)
{
    if (p == NULL)
        die("out of memory");
    return p;
}

static inline double
cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int
by_labels(const void *a, const void *b)
{
    return mdl_labels_cmp((*(series *const *)a)->labels, (*(series *const *)b)->labels);
}

static inline void
world_of(world *w, series *all, size_t n)
{
    w->n = n;
    w->sorted = need(malloc(n * sizeof *w->sorted));
    for (size_t i = 0; i < n; i++)
        w->sorted[i] = &all[i];
    qsort(w->sorted, n, sizeof *w->sorted, by_labels);
}

/* ---- source ------------------------------------------------------------------------------------ */

typedef struct found { /* of one selection */
    int64_t from_ms, to_ms;
    bool newest_only;
    series **members;
} found;

typedef struct source {
    world *w;
    bool blocks;
    ps_arena arena; /* of one query */
    blk_bench *bench;
} source;

/* The series whose name a matcher asks for lie side by side: what an index would give. */
static inline void
narrow(const world *w, const ev_selection *want, size_t *from, size_t *to)
{
    for (size_t i = 0; i < want->n_matchers; i++) {
        const mdl_matcher *m = &want->matchers[i];
        if (m->type != MDL_MATCH_EQ || !ps_str_eq_c(m->name, MDL_METRIC_NAME))
            continue;
        for (size_t half = *to - *from; half > 0; half /= 2) {
            while (*from + half <= *to &&
                   ps_str_cmp(w->sorted[*from + half - 1]->items[0].value, m->value) < 0)
                *from += half;
        }
        *to = *from;
        while (*to < w->n && ps_str_eq(w->sorted[*to]->items[0].value, m->value))
            (*to)++;
    }
}

static inline ps_status
select_one(source *s, const ev_selection *want, ev_series_list *ret, ps_err *err)
{
    re_matcher *matchers[8];
    if (want->n_matchers > PS_ARRAY_LEN(matchers))
        return ps_fail(err, PS_ELIMIT, "too many matchers");
    size_t n = 0, from = 0, to = s->w->n;
    narrow(s->w, want, &from, &to);
    found *f = ps_arena_new(&s->arena, sizeof *f);
    mdl_labels *labels = ps_arena_array(&s->arena, to - from + 1, sizeof *labels);
    series **members = ps_arena_array(&s->arena, to - from + 1, sizeof *members);
    if (f == NULL || labels == NULL || members == NULL)
        return ps_fail(err, PS_ENOMEM, "out of memory");
    *f = (found){want->from_ms, want->to_ms, want->newest_only, members};
    for (size_t i = 0; i < want->n_matchers; i++)
        PS_TRY(re_matcher_new(&ps_malloc, &want->matchers[i], &matchers[i], err));
    for (size_t i = from; i < to; i++) {
        if (!re_matchers_match(matchers, want->n_matchers, s->w->sorted[i]->labels))
            continue;
        labels[n] = s->w->sorted[i]->labels;
        f->members[n++] = s->w->sorted[i];
    }
    for (size_t i = 0; i < want->n_matchers; i++)
        re_matcher_free(matchers[i]);
    *ret = (ev_series_list){n, labels, f};
    return PS_OK;
}

static inline ps_status
select_all(void *self, const ev_selection *selections, size_t n, ev_series_list *ret, ps_err *err)
{
    for (size_t i = 0; i < n; i++)
        PS_TRY(select_one(self, &selections[i], &ret[i], err));
    return PS_OK;
}

static inline ps_status
read_blocks(source *src, const found *f, const series *s, ev_samples *into, ps_err *err)
{
    bool any;
    int64_t t;
    double v;
    size_t n;
    if (f->newest_only) {
        PS_TRY(blk_runs_newest(src->bench, s->runs, s->n_runs, f->from_ms, f->to_ms, &any, &t, &v,
                               err));
        if (!any)
            return PS_OK;
        PS_TRY(ev_samples_reserve(into, into->n + 1, false, false));
        into->t_ms[into->n] = t;
        into->v[into->n++] = v;
        return PS_OK;
    }
    size_t room = blk_runs_samples(s->runs, s->n_runs, f->from_ms, f->to_ms);
    PS_TRY(ev_samples_reserve(into, into->n + room, false, false));
    PS_TRY(blk_runs_decode(src->bench, s->runs, s->n_runs, f->from_ms, f->to_ms,
                           into->t_ms + into->n, into->v + into->n, &n, err));
    into->n += n;
    return PS_OK;
}

static inline ps_status
read_one(void *self, const ev_series_list *list, size_t index, size_t worker, ev_samples *into,
         ps_err *err)
{
    source *src = self;
    const found *f = list->impl;
    const series *s = f->members[index];
    (void)worker;
    if (src->blocks)
        return read_blocks(src, f, s, into, err);
    int64_t lo = 0, hi = (int64_t)s->n - 1;
    if (f->to_ms < s->from_ms)
        return PS_OK;
    if ((f->to_ms - s->from_ms) / s->step_ms < hi)
        hi = (f->to_ms - s->from_ms) / s->step_ms;
    if (f->from_ms > s->from_ms)
        lo = (f->from_ms - s->from_ms + s->step_ms - 1) / s->step_ms;
    if (hi < lo)
        return PS_OK;
    if (f->newest_only)
        lo = hi;
    size_t n = (size_t)(hi - lo) + 1;
    PS_TRY(ev_samples_reserve(into, into->n + n, s->h != NULL, false));
    memcpy(into->t_ms + into->n, s->t + lo, n * sizeof *s->t);
    if (s->v != NULL)
        memcpy(into->v + into->n, s->v + lo, n * sizeof *s->v);
    for (size_t i = 0; s->h != NULL && i < n; i++) {
        into->v[into->n + i] = 0;
        /* a copy: somebody has to make them */
        PS_TRY(hst_copy(&into->arena, s->h[(size_t)lo + i], &into->h[into->n + i]));
    }
    into->n += n;
    return PS_OK;
}

/* ---- running ------------------------------------------------------------------------------------- */

typedef struct meter { /* an allocator that counts */
    size_t calls, live, peak;
} meter;

static inline void *
meter_realloc(void *self, void *old, size_t old_size, size_t new_size)
{
    meter *m = self;
    void *p = ps_malloc.realloc(ps_malloc.self, old, old_size, new_size);
    m->live -= old_size;
    m->live += new_size;
    m->calls += new_size != 0;
    if (m->live > m->peak)
        m->peak = m->live;
    return p;
}

typedef struct bench_range {
    int64_t start_ms, end_ms, step_ms;
} bench_range;

static inline void
run_once(source *src, meter *m, const char *query, bench_range range, ev_stats *ret)
{
    const pql_options language = {.experimental_functions = true, .extended_range = true};
    const ev_options options = {0};
    const ev_env env = {.alloc = {meter_realloc, m},
                        .source = {src, select_all, read_one},
                        .executor = ev_serial};
    ps_arena arena;
    pql_expr *expr;
    pql_error error;
    ev_query *q = NULL;
    const ev_result *result;
    ps_arena_init(&arena, &env.alloc, 0);
    if (pql_parse(&arena, ps_str_c(query), &language, &expr, &error) != PS_OK)
        die(error.text);
    if (ev_query_new(&env, &options, expr, ps_str_c(query), range.start_ms, range.end_ms,
                     range.step_ms, &q) != PS_OK ||
        ev_query_run(q, &result) != PS_OK) {
        fprintf(stderr, "%s: %.*s\n", query, (int)ev_query_error(q).len, ev_query_error(q).ptr);
        exit(1);
    }
    *ret = result->stats;
    ev_query_free(q);
    ps_arena_done(&arena);
    ps_arena_reset(&src->arena);
}

static inline double
mean_ms(source *src, meter *m, const char *query, bench_range range, double seconds, ev_stats *ret)
{
    size_t n = 0;
    run_once(src, m, query, range, ret); /* warm */
    *m = (meter){0};
    double start = cpu_seconds(), spent;
    do {
        run_once(src, m, query, range, ret);
        n++;
        spent = cpu_seconds() - start;
    } while (spent < seconds);
    m->calls /= n;
    return spent / (double)n * 1e3;
}

#endif
