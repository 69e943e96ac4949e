/*
 * bench_promql.c - the engine alone, on the data and the queries of the Go engine's own benchmark
 * (BenchmarkRangeQuery in promql/bench_test.go of https://github.com/prometheus/prometheus), so that the
 * two can be compared case by case.
 *
 * 18640 samples at 10 s for each of 1443 series (a, b, h of one, ten and a hundred), 51 sparse series.
 * Each query is asked over two sources: plain arrays, and blocks as the database holds them (one metric and
 * day each, sealed), which are opened before and decoded by the query. A run of a case parses, plans,
 * selects, evaluates and frees; printed is the mean CPU time of a run.
 *
 *   bench_promql [-t SECONDS] [-p] [TEXT]     seconds for each case and source (0.05); plain arrays only;
 *                                             only cases that contain TEXT
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "lib/block/block.h"
#include "lib/eval/eval.h"
#include "lib/regex/regex.h"

enum {
    STEP_MS = 10000,
    N_SAMPLES = 8640 + 10000,
    N_DENSE = 1443,
    SPARSE_SAMPLES = N_SAMPLES / 50,
    N_SPARSE = (N_SAMPLES + SPARSE_SAMPLES - 1) / SPARSE_SAMPLES,
    N_SERIES = N_DENSE + N_SPARSE,
    N_METRICS = 10,
    MAX_RUNS = 4
};

static const char *const metrics[N_METRICS] = {"a_one",     "b_one", "h_one",     "a_ten",
                                               "b_ten",     "h_ten", "a_hundred", "b_hundred",
                                               "h_hundred", "sparse"};

typedef struct series {
    mdl_label items[3];
    mdl_labels labels;
    int metric;
    size_t from, n; /* samples */
    double base;
    double *v; /* [n] */
    blk_run runs[MAX_RUNS];
    size_t n_runs;
} series;

static series all[N_SERIES];     /* in order of creation */
static series *sorted[N_SERIES]; /* by labels */
static int64_t times[N_SAMPLES];
static ps_arena texts;

static void
die(const char *what)
{
    fprintf(stderr, "bench_promql: %s\n", what);
    exit(1);
}

static void *
need(void *p)
{
    if (p == NULL)
        die("out of memory");
    return p;
}

static double
cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* ---- data ------------------------------------------------------------------------------------ */

static ps_str
text(const char *s)
{
    ps_str copy;
    if (ps_arena_dup(&texts, ps_str_c(s), &copy) != PS_OK)
        die("out of memory");
    return copy;
}

static size_t n_made;

/* l or le < 0: without that label; le 10: +Inf. */
static series *
make_series(int metric, int l, int le)
{
    series *s = &all[n_made++];
    char number[16];
    size_t n = 0;
    s->metric = metric;
    s->items[n++] = (mdl_label){PS_STR(MDL_METRIC_NAME), text(metrics[metric])};
    if (l >= 0) {
        snprintf(number, sizeof number, "%d", l);
        s->items[n++] = (mdl_label){PS_STR("l"), text(number)};
    }
    if (le >= 0) {
        snprintf(number, sizeof number, "%d", le);
        s->items[n++] = (mdl_label){PS_STR("le"), text(le == 10 ? "+Inf" : number)};
    }
    s->labels = (mdl_labels){s->items, n};
    s->n = N_SAMPLES;
    s->base = (double)(n_made - 1) / N_DENSE;
    return s;
}

static int
by_labels(const void *a, const void *b)
{
    return mdl_labels_cmp((*(series *const *)a)->labels, (*(series *const *)b)->labels);
}

static void
make_data(void)
{
    ps_arena_init(&texts, &ps_malloc, 0);
    make_series(0, -1, -1);
    make_series(1, -1, -1);
    for (int le = 0; le <= 10; le++)
        make_series(2, -1, le);
    for (int size = 10, m = 3; size <= 100; size *= 10, m += 3) {
        for (int l = 0; l < size; l++) {
            make_series(m, l, -1);
            make_series(m + 1, l, -1);
            for (int le = 0; le <= 10; le++)
                make_series(m + 2, l, le);
        }
    }
    for (int l = 0; l < N_SPARSE; l++) {
        series *s = make_series(9, l, -1);
        s->from = (size_t)l * SPARSE_SAMPLES;
        s->n = N_SAMPLES - s->from < SPARSE_SAMPLES ? N_SAMPLES - s->from : SPARSE_SAMPLES;
    }
    for (size_t i = 0; i < N_SAMPLES; i++)
        times[i] = (int64_t)i * STEP_MS;
    for (size_t i = 0; i < N_SERIES; i++) {
        series *s = sorted[i] = &all[i];
        s->v = need(malloc(s->n * sizeof *s->v));
        for (size_t k = 0; k < s->n; k++)
            s->v[k] = i < N_DENSE ? (double)k + s->base : (double)(s->from + k) / N_DENSE;
    }
    qsort(sorted, N_SERIES, sizeof *sorted, by_labels);
}

/* ---- blocks ------------------------------------------------------------------------------------ */

static void
finish_block(blk_writer *w, series **members, size_t n)
{
    static int64_t row;
    ps_buf *bytes = need(malloc(sizeof *bytes));
    blk_meta meta;
    ps_err err;
    blk_reader *reader;
    ps_buf_init(bytes, &ps_malloc);
    if (blk_writer_finish(w, bytes, &meta, &err) != PS_OK ||
        blk_reader_open(&ps_malloc, ps_buf_str(bytes), &meta, &reader, &err) != PS_OK)
        die(err.text);
    row++;
    for (size_t i = 0; i < n; i++)
        members[i]->runs[members[i]->n_runs++] = (blk_run){reader, (uint32_t)i, row};
}

/* One metric and one day, in as many blocks as it takes. */
static void
make_blocks(int metric, size_t from, size_t to)
{
    enum { BLOCK_SAMPLES = 2000000 };
    const blk_writer_opts opts = {1, metric + 1, BLK_LEVEL_SEALED};
    blk_writer *w = need(blk_writer_new(&ps_malloc, &opts));
    series *members[N_SERIES];
    size_t n = 0;
    ps_err err;
    for (size_t i = 0; i < N_SERIES; i++) {
        series *s = &all[i];
        size_t lo = from > s->from ? from : s->from, hi = to < s->from + s->n ? to : s->from + s->n;
        if (s->metric != metric || lo >= hi)
            continue;
        if (blk_writer_add(w, (int64_t)i + 1, times + lo, s->v + (lo - s->from), hi - lo, &err) !=
            PS_OK)
            die(err.text);
        members[n++] = s;
        if (blk_writer_samples(w) >= BLOCK_SAMPLES) {
            finish_block(w, members, n);
            n = 0;
        }
    }
    if (n > 0)
        finish_block(w, members, n);
    blk_writer_free(w);
}

/* ---- source ------------------------------------------------------------------------------------ */

typedef struct found { /* of one selection */
    int64_t from_ms, to_ms;
    bool newest_only;
    series **members;
} found;

typedef struct source {
    bool blocks;
    ps_arena arena; /* of one query */
    blk_bench *bench;
} source;

/* The series whose name a matcher asks for lie side by side: what an index would give. */
static void
narrow(const ev_selection *want, size_t *from, size_t *to)
{
    for (size_t i = 0; i < want->n_matchers; i++) {
        const mdl_matcher *m = &want->matchers[i];
        if (m->type != MDL_MATCH_EQ || !ps_str_eq_c(m->name, MDL_METRIC_NAME))
            continue;
        for (size_t half = *to - *from; half > 0; half /= 2) {
            while (*from + half <= *to &&
                   ps_str_cmp(sorted[*from + half - 1]->items[0].value, m->value) < 0)
                *from += half;
        }
        *to = *from;
        while (*to < N_SERIES && ps_str_eq(sorted[*to]->items[0].value, m->value))
            (*to)++;
    }
}

static ps_status
select_one(source *s, const ev_selection *want, ev_series_list *ret, ps_err *err)
{
    re_matcher *matchers[8];
    if (want->n_matchers > PS_ARRAY_LEN(matchers))
        return ps_fail(err, PS_ELIMIT, "too many matchers");
    size_t n = 0, from = 0, to = N_SERIES;
    narrow(want, &from, &to);
    found *f = ps_arena_new(&s->arena, sizeof *f);
    mdl_labels *labels = ps_arena_array(&s->arena, to - from + 1, sizeof *labels);
    series **members = ps_arena_array(&s->arena, to - from + 1, sizeof *members);
    if (f == NULL || labels == NULL || members == NULL)
        return ps_fail(err, PS_ENOMEM, "out of memory");
    *f = (found){want->from_ms, want->to_ms, want->newest_only, members};
    for (size_t i = 0; i < want->n_matchers; i++)
        PS_TRY(re_matcher_new(&ps_malloc, &want->matchers[i], &matchers[i], err));
    for (size_t i = from; i < to; i++) {
        if (!re_matchers_match(matchers, want->n_matchers, sorted[i]->labels))
            continue;
        labels[n] = sorted[i]->labels;
        f->members[n++] = sorted[i];
    }
    for (size_t i = 0; i < want->n_matchers; i++)
        re_matcher_free(matchers[i]);
    *ret = (ev_series_list){n, labels, f};
    return PS_OK;
}

static ps_status
select_all(void *self, const ev_selection *selections, size_t n, ev_series_list *ret, ps_err *err)
{
    for (size_t i = 0; i < n; i++)
        PS_TRY(select_one(self, &selections[i], &ret[i], err));
    return PS_OK;
}

static ps_status
read_blocks(source *src, const found *f, const series *s, ev_samples *into, ps_err *err)
{
    bool known;
    int64_t t;
    double v;
    size_t n;
    if (f->newest_only) {
        blk_runs_newest(s->runs, s->n_runs, f->from_ms, f->to_ms, &known, &t, &v);
        if (known) {
            PS_TRY(ev_samples_reserve(into, into->n + 1, false, false));
            into->t_ms[into->n] = t;
            into->v[into->n++] = v;
            return PS_OK;
        }
    }
    size_t room = blk_runs_samples(s->runs, s->n_runs, f->from_ms, f->to_ms);
    PS_TRY(ev_samples_reserve(into, into->n + room, false, false));
    PS_TRY(blk_runs_decode(src->bench, s->runs, s->n_runs, f->from_ms, f->to_ms,
                           into->t_ms + into->n, into->v + into->n, &n, err));
    into->n += n;
    return PS_OK;
}

static ps_status
read_one(void *self, const ev_series_list *list, size_t index, size_t worker, ev_samples *into,
         ps_err *err)
{
    source *src = self;
    const found *f = list->impl;
    const series *s = f->members[index];
    (void)worker;
    if (src->blocks)
        return read_blocks(src, f, s, into, err);
    int64_t last = (int64_t)(s->from + s->n) - 1, lo = (int64_t)s->from;
    int64_t hi = f->to_ms < 0 ? -1 : f->to_ms / STEP_MS;
    if (f->from_ms > lo * STEP_MS)
        lo = (f->from_ms + STEP_MS - 1) / STEP_MS;
    if (hi > last)
        hi = last;
    if (hi < lo)
        return PS_OK;
    if (f->newest_only)
        lo = hi;
    size_t n = (size_t)(hi - lo) + 1;
    PS_TRY(ev_samples_reserve(into, into->n + n, false, false));
    memcpy(into->t_ms + into->n, times + lo, n * sizeof *times);
    memcpy(into->v + into->n, s->v + ((size_t)lo - s->from), n * sizeof *s->v);
    into->n += n;
    return PS_OK;
}

/* ---- running ------------------------------------------------------------------------------------- */

typedef struct meter { /* an allocator that counts */
    size_t calls, live, peak;
} meter;

static void *
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

static void
run_once(source *src, meter *m, const char *query, size_t steps, ev_stats *ret)
{
    const pql_options language = {.experimental_functions = true, .extended_range = true};
    const ev_options options = {0};
    const ev_env env = {.alloc = {meter_realloc, m},
                        .source = {src, select_all, read_one},
                        .executor = ev_serial};
    const int64_t end = (int64_t)N_SAMPLES * STEP_MS;
    ps_arena arena;
    pql_expr *expr;
    pql_error error;
    ev_query *q = NULL;
    const ev_result *result;
    ps_arena_init(&arena, &env.alloc, 0);
    if (pql_parse(&arena, ps_str_c(query), &language, &expr, &error) != PS_OK)
        die(error.text);
    if (ev_query_new(&env, &options, expr, ps_str_c(query), end - (int64_t)steps * STEP_MS, end,
                     STEP_MS, &q) != PS_OK ||
        ev_query_run(q, &result) != PS_OK) {
        fprintf(stderr, "%s: %.*s\n", query, (int)ev_query_error(q).len, ev_query_error(q).ptr);
        exit(1);
    }
    *ret = result->stats;
    ev_query_free(q);
    ps_arena_done(&arena);
    ps_arena_reset(&src->arena);
}

static double
mean_ms(source *src, meter *m, const char *query, size_t steps, double seconds, ev_stats *ret)
{
    size_t n = 0;
    run_once(src, m, query, steps, ret); /* warm */
    *m = (meter){0};
    double start = cpu_seconds(), spent;
    do {
        run_once(src, m, query, steps, ret);
        n++;
        spent = cpu_seconds() - start;
    } while (spent < seconds);
    m->calls /= n;
    return spent / (double)n * 1e3;
}

typedef struct bench_case {
    const char *query; /* X: one, hundred */
    size_t steps;      /* 0: 1 and 1000 */
} bench_case;

static const bench_case cases[] = {
    {"a_X", 0},
    {"rate(a_X[1m])", 0},
    {"rate(a_X[1m])", 10000},
    {"rate(sparse[1m])", 10000},
    {"rate(a_X[1m] smoothed)", 0},
    {"rate(a_X[1m] smoothed)", 10000},
    {"rate(sparse[1m] smoothed)", 10000},
    {"double_exponential_smoothing(a_X[1d], 0.3, 0.3)", 0},
    {"changes(a_X[1d])", 0},
    {"rate(a_X[1d])", 0},
    {"absent_over_time(a_X[1d])", 0},
    {"-a_X", 0},
    {"a_X - b_X", 0},
    {"a_X - b_X", 10000},
    {"a_X and b_X{l=~'.*[0-4]$'}", 0},
    {"a_X or b_X{l=~'.*[0-4]$'}", 0},
    {"a_X unless b_X{l=~'.*[0-4]$'}", 0},
    {"a_X and b_X{l='notfound'}", 0},
    {"abs(a_X)", 0},
    {"label_replace(a_X, 'l2', '$1', 'l', '(.*)')", 0},
    {"label_join(a_X, 'l2', '-', 'l', 'l')", 0},
    {"sum(a_X)", 0},
    {"avg(a_X)", 0},
    {"sum without (l)(h_X)", 0},
    {"sum without (le)(h_X)", 0},
    {"sum by (l)(h_X)", 0},
    {"sum by (le)(h_X)", 0},
    {"count_values('value', h_X)", 100},
    {"topk(1, a_X)", 0},
    {"topk(5, a_X)", 0},
    {"limitk(1, a_X)", 0},
    {"limitk(5, a_X)", 0},
    {"limit_ratio(0.1, a_X)", 0},
    {"limit_ratio(0.5, a_X)", 0},
    {"limit_ratio(-0.5, a_X)", 0},
    {"rate(a_X[1m]) + rate(b_X[1m])", 0},
    {"sum without (l)(rate(a_X[1m]))", 0},
    {"sum without (l)(rate(a_X[1m])) / sum without (l)(rate(b_X[1m]))", 0},
    {"histogram_quantile(0.9, rate(h_X[5m]))", 0},
    {"a_X + on(l) group_right a_one", 0},
    {"count({__name__!=\"\"})", 1},
    {"count({__name__!=\"\",l=\"\"})", 1},
    {"timestamp(a_X)", 0},
};

typedef struct setup {
    source plain, blocks;
    bool plain_only;
    double seconds;
    const char *only;
} setup;

static void
bench(setup *s, const char *template_, const char *x, size_t steps)
{
    char query[256];
    size_t n = 0;
    for (const char *p = template_; *p != '\0' && n + 16 < sizeof query; p++) {
        if (*p == 'X')
            n += (size_t)snprintf(query + n, sizeof query - n, "%s", x);
        else
            query[n++] = *p;
    }
    query[n] = '\0';
    if (s->only != NULL && strstr(query, s->only) == NULL)
        return;
    meter m = {0}, ignored = {0};
    ev_stats stats;
    double plain = mean_ms(&s->plain, &m, query, steps, s->seconds, &stats);
    double blocks =
        s->plain_only ? 0 : mean_ms(&s->blocks, &ignored, query, steps, s->seconds, &stats);
    printf("expr=%s,steps=%zu\t%.4f\t%.4f\t%zu\t%.2f\t%.3f\n", query, steps, plain, blocks, m.calls,
           (double)m.peak / (1 << 20), (double)stats.total_samples / 1e6);
    fflush(stdout);
}

int
main(int argc, char **argv)
{
    static setup s = {.seconds = 0.05};
    for (int opt; (opt = getopt(argc, argv, "t:p")) != -1;) {
        if (opt == 't')
            s.seconds = atof(optarg);
        else if (opt == 'p')
            s.plain_only = true;
        else
            return 2;
    }
    s.only = optind < argc ? argv[optind] : NULL;
    make_data();
    s.blocks.blocks = true;
    ps_arena_init(&s.plain.arena, &ps_malloc, 0);
    ps_arena_init(&s.blocks.arena, &ps_malloc, 0);
    s.blocks.bench = need(blk_bench_new(&ps_malloc));
    for (int m = 0; m < N_METRICS && !s.plain_only; m++) {
        for (size_t from = 0; from < N_SAMPLES; from += MDL_DAY_MS / STEP_MS)
            make_blocks(m, from, from + MDL_DAY_MS / STEP_MS);
    }
    printf("case\tms plain\tms blocks\tallocations\tMiB peak\tM samples\n");
    for (size_t i = 0; i < PS_ARRAY_LEN(cases); i++) {
        bool has_x = strchr(cases[i].query, 'X') != NULL;
        for (int x = 0; x < (has_x ? 2 : 1); x++) {
            const char *size = x == 0 ? "one" : "hundred";
            bench(&s, cases[i].query, size, cases[i].steps == 0 ? 1 : cases[i].steps);
            if (cases[i].steps == 0)
                bench(&s, cases[i].query, size, 1000);
        }
    }
    return 0;
}
