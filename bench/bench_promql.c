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
#include "bench/promql.h"

enum {
    STEP_MS = 10000,
    N_SAMPLES = 8640 + 10000,
    N_DENSE = 1443,
    SPARSE_SAMPLES = N_SAMPLES / 50,
    N_SPARSE = (N_SAMPLES + SPARSE_SAMPLES - 1) / SPARSE_SAMPLES,
    N_SERIES = N_DENSE + N_SPARSE,
    N_METRICS = 10
};

static const char *const metrics[N_METRICS] = {"a_one",     "b_one", "h_one",     "a_ten",
                                               "b_ten",     "h_ten", "a_hundred", "b_hundred",
                                               "h_hundred", "sparse"};

static series all[N_SERIES]; /* in order of creation */
static world everything;
static int64_t times[N_SAMPLES];
static ps_arena texts;

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
    s->step_ms = STEP_MS;
    return s;
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
    for (size_t i = 0; i < N_SAMPLES; i++)
        times[i] = (int64_t)i * STEP_MS;
    for (size_t l = 0; l < N_SPARSE; l++) {
        series *s = make_series(9, (int)l, -1);
        size_t from = l * SPARSE_SAMPLES;
        s->n = N_SAMPLES - from < SPARSE_SAMPLES ? N_SAMPLES - from : SPARSE_SAMPLES;
        s->from_ms = times[from];
    }
    for (size_t i = 0; i < N_SERIES; i++) {
        series *s = &all[i];
        size_t from = (size_t)(s->from_ms / STEP_MS);
        s->t = times + from;
        s->v = need(malloc(s->n * sizeof *s->v));
        for (size_t k = 0; k < s->n; k++)
            s->v[k] = i < N_DENSE ? (double)k + (double)i / N_DENSE : (double)(from + k) / N_DENSE;
    }
    world_of(&everything, all, N_SERIES);
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
    const blk_writer_opts opts = {1, metric + 1, BLK_LEVEL_SEALED, 0};
    blk_writer *w = need(blk_writer_new(&ps_malloc, &opts));
    series *members[N_SERIES];
    size_t n = 0;
    ps_err err;
    for (size_t i = 0; i < N_SERIES; i++) {
        series *s = &all[i];
        size_t first = (size_t)(s->from_ms / STEP_MS);
        size_t lo = from > first ? from : first, hi = to < first + s->n ? to : first + s->n;
        if (s->metric != metric || lo >= hi)
            continue;
        if (blk_writer_add(w, (int64_t)i + 1, times + lo, s->v + (lo - first), hi - lo, &err) !=
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
    const int64_t end = (int64_t)N_SAMPLES * STEP_MS;
    const bench_range range = {end - (int64_t)steps * STEP_MS, end, STEP_MS};
    meter m = {0}, ignored = {0};
    ev_stats stats;
    double plain = mean_ms(&s->plain, &m, query, range, s->seconds, &stats);
    double blocks =
        s->plain_only ? 0 : mean_ms(&s->blocks, &ignored, query, range, s->seconds, &stats);
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
    s.plain.w = s.blocks.w = &everything;
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
