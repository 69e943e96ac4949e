/*
 * bench_promql_more.c - the engine on the other data of the Go engine's benchmark: joins of two times a thousand
 * series (BenchmarkJoinQuery), native histograms with exponential and with custom buckets
 * (BenchmarkNativeHistograms, ...CustomBuckets), info() (BenchmarkInfoFunction). Over arrays; histograms
 * are copied when they are read, since somebody has to make them.
 *
 *   bench_promql_more [-t SECONDS] [TEXT]     as bench_promql; seconds for each case (0.05)
 */
#include "bench/promql.h"

static ps_arena texts;

static ps_str
text(const char *format, size_t number)
{
    char buf[64];
    ps_str copy;
    ps_buf b;
    ps_buf_init(&b, &ps_malloc);
    for (const char *p = format; *p != '\0'; p++) {
        snprintf(buf, sizeof buf, "%zu", number);
        if (*p == '#')
            ps_buf_add_c(&b, buf);
        else
            ps_buf_add_char(&b, *p);
    }
    if (ps_arena_dup(&texts, ps_buf_str(&b), &copy) != PS_OK)
        die("out of memory");
    ps_buf_done(&b);
    return copy;
}

/* Labels in pairs, sorted by name; '#' in a value is the number. */
static void
label(series *s, const char *const *pairs, size_t n, size_t number)
{
    for (size_t i = 0; i < n; i++)
        s->items[i] = (mdl_label){text(pairs[2 * i], 0), text(pairs[2 * i + 1], number)};
    s->labels = (mdl_labels){s->items, n};
}

static int64_t *
grid(int64_t step_ms, size_t n)
{
    int64_t *t = need(malloc(n * sizeof *t));
    for (size_t i = 0; i < n; i++)
        t[i] = (int64_t)i * step_ms;
    return t;
}

typedef struct bench_case {
    const char *name, *query;
} bench_case;

typedef struct setup {
    double seconds;
    const char *only;
} setup;

static void
run_cases(const setup *how, world *w, const bench_case *cases, size_t n, bench_range range)
{
    source src = {.w = w};
    ps_arena_init(&src.arena, &ps_malloc, 0);
    for (size_t i = 0; i < n; i++) {
        if (how->only != NULL && strstr(cases[i].name, how->only) == NULL)
            continue;
        meter m = {0};
        ev_stats stats;
        double ms = mean_ms(&src, &m, cases[i].query, range, how->seconds, &stats);
        printf("%s\t%.3f\t%zu\t%.2f\t%.3f\n", cases[i].name, ms, m.calls,
               (double)m.peak / (1 << 20), (double)stats.total_samples / 1e6);
        fflush(stdout);
    }
    ps_arena_done(&src.arena);
}

/* ---- joins -------------------------------------------------------------------------------------- */

enum { JOIN_INSTANCES = 1000, JOIN_STEPS = 5000, JOIN_SAMPLES = 8640 + JOIN_STEPS };

static void
join(const setup *how)
{
    static series all[2 * JOIN_INSTANCES];
    static const char *const names[] = {"rpc_request_success_total", "rpc_request_error_total"};
    static const bench_case cases[] = {
        {"join: +", "rpc_request_success_total + rpc_request_error_total"},
        {"join: + on group_left",
         "rpc_request_success_total + ON (job, instance) GROUP_LEFT rpc_request_error_total"},
        {"join: and", "rpc_request_success_total AND rpc_request_error_total{instance=~\"0.*\"}"},
        {"join: or", "rpc_request_success_total OR rpc_request_error_total{instance=~\"0.*\"}"},
        {"join: unless",
         "rpc_request_success_total UNLESS rpc_request_error_total{instance=~\"0.*\"}"},
    };
    const int64_t *t = grid(10000, JOIN_SAMPLES);
    uint64_t random = 1;
    for (size_t i = 0; i < PS_ARRAY_LEN(all); i++) {
        series *s = &all[i];
        char uuid[40];
        random = random * UINT64_C(6364136223846793005) + 1442695040888963407u;
        snprintf(uuid, sizeof uuid, "%08x-#-4f2c-9d60-6a1b4ce0f0a7", (unsigned)(random >> 32));
        const char *const pairs[] = {"__name__",    names[i % 2],
                                     "cluster",     "test-kubernetes-cluster",
                                     "domain",      "test-domain",
                                     "environment", "staging",
                                     "instance",    uuid,
                                     "job",         "worker",
                                     "namespace",   "test-kubernetes-namespace",
                                     "rpc_method",  "fetch-my-data-from-this-service"};
        label(s, pairs, PS_ARRAY_LEN(pairs) / 2, i / 2);
        if (i % 2 == 1)
            s->items[4] = all[i - 1].items[4];
        s->n = JOIN_SAMPLES;
        s->step_ms = 10000;
        s->t = t;
        s->v = need(malloc(s->n * sizeof *s->v));
        for (size_t k = 0; k < s->n; k++)
            s->v[k] = (double)k + (double)i / (2 * JOIN_INSTANCES);
    }
    world w;
    world_of(&w, all, PS_ARRAY_LEN(all));
    const int64_t end = (int64_t)JOIN_SAMPLES * 10000;
    run_cases(how, &w, cases, PS_ARRAY_LEN(cases),
              (bench_range){end - (int64_t)JOIN_STEPS * 10000, end, 10000});
    for (size_t i = 0; i < PS_ARRAY_LEN(all); i++)
        free(all[i].v);
}

/* ---- native histograms ----------------------------------------------------------------------------- */

enum { HIST_SERIES = 3000, HIST_SAMPLES = 2000 };

static const hst_hist *
histogram(size_t i, bool custom)
{
    char notation[512];
    ps_err err;
    const hst_hist *h;
    bool has_hint;
    double k = (double)i;
    if (custom)
        snprintf(notation, sizeof notation,
                 "schema:-53 count:%.17g sum:%.17g buckets:[%.17g %.17g 0 %.17g %.17g] "
                 "custom_values:[0 1 2 3 4]",
                 5 + 4 * k, 18.4 * (k + 1), k + 1, k + 2, k + 1, k + 1);
    else if (i == 0)
        snprintf(notation, sizeof notation,
                 "schema:3 count:13 buckets:[1 3 0 0 1 2 1 0 0 1 4] offset:-5");
    else
        snprintf(notation, sizeof notation,
                 "schema:1 count:%.17g sum:%.17g z_bucket:%.17g z_bucket_w:0.001 "
                 "buckets:[%.17g %.17g 0 %.17g %.17g] n_buckets:[%.17g %.17g 0 %.17g %.17g]",
                 12 + 9 * k, 18.4 * (k + 1), 2 + k, k + 1, k + 2, k + 1, k + 1, k + 1, k + 2, k + 1,
                 k + 1);
    if (hst_parse(&texts, ps_str_c(notation), &h, &has_hint, &err) != PS_OK ||
        hst_compact(&texts, h, &h) != PS_OK ||
        hst_with_hint(&texts, h, i < 2 ? HST_UNKNOWN : HST_NOT_RESET, &h) != PS_OK)
        die(err.text);
    return h;
}

static void
histograms(const setup *how, bool custom)
{
#define HISTOGRAM_CASES(kind)                                                                      \
    {kind ": sum", "sum(nh)"}, {kind ": sum rate [2m]", "sum(rate(nh[2m]))"},                      \
        {kind ": sum rate [20m]", "sum(rate(nh[20m]))"},                                           \
        {kind ": histogram_count [2m]", "histogram_count(sum(rate(nh[2m])))"},                     \
        {kind ": histogram_count [20m]", "histogram_count(sum(rate(nh[20m])))"},                   \
        {kind ": count + sum [2m]",                                                                \
         "histogram_count(sum(rate(nh[2m]))) + histogram_sum(sum(rate(nh[2m])))"},                 \
    {                                                                                              \
        kind ": count + sum [20m]",                                                                \
            "histogram_count(sum(rate(nh[20m]))) + histogram_sum(sum(rate(nh[20m])))"              \
    }
    static const bench_case cases[2][7] = {{HISTOGRAM_CASES("exponential")},
                                           {HISTOGRAM_CASES("custom")}};
    static series all[HIST_SERIES];
    const hst_hist **h = need(malloc(HIST_SAMPLES * sizeof *h));
    const int64_t *t = grid(15000, HIST_SAMPLES);
    for (size_t i = 0; i < HIST_SAMPLES; i++)
        h[i] = histogram(i, custom);
    for (size_t i = 0; i < HIST_SERIES; i++) {
        static const char *const pairs[] = {"__name__", "nh", "foo", "bar", "h", "#"};
        all[i] = (series){.n = HIST_SAMPLES, .step_ms = 15000, .t = t, .h = h};
        label(&all[i], pairs, 3, i);
    }
    world w;
    world_of(&w, all, HIST_SERIES);
    run_cases(how, &w, cases[custom], PS_ARRAY_LEN(cases[0]), (bench_range){0, 7200000, 30000});
}

/* ---- info() ------------------------------------------------------------------------------------------ */

enum { INFO_SERIES = 100, INFO_SAMPLES = 3600 };

static void
info(const setup *how)
{
    static series all[INFO_SERIES + 3];
    static const char *const codes[] = {"200", "400", "500"};
    static const bench_case cases[] = {
        {"info: group_left 1",
         "rate(http_server_request_duration_seconds_count[2m]) * on (job, instance) group_left "
         "(k8s_cluster_name) target_info{k8s_cluster_name=\"us-east\"}"},
        {"info: info() 1", "info(rate(http_server_request_duration_seconds_count[2m]), "
                           "{k8s_cluster_name=\"us-east\"})"},
        {"info: group_left 2",
         "sum by (k8s_cluster_name, http_status_code) "
         "(rate(http_server_request_duration_seconds_count[2m]) * on (job, instance) group_left "
         "(k8s_cluster_name) target_info)"},
        {"info: info() 2", "sum by (k8s_cluster_name, http_status_code) "
                           "(info(rate(http_server_request_duration_seconds_count[2m]), "
                           "{k8s_cluster_name=~\".+\"}))"},
    };
    const int64_t *t = grid(2000, INFO_SAMPLES);
    for (size_t i = 0; i < PS_ARRAY_LEN(all); i++) {
        const char *const target[] = {"__name__",
                                      "target_info",
                                      "instance",
                                      "instance#",
                                      "job",
                                      "job#",
                                      "k8s_cluster_name",
                                      i < INFO_SERIES / 2 ? "us-east" : "eu-south"};
        const char *const requests[] = {"__name__",
                                        "http_server_request_duration_seconds_count",
                                        "http_status_code",
                                        codes[i % 3],
                                        "instance",
                                        "instance0",
                                        "job",
                                        "job0"};
        label(&all[i], i < INFO_SERIES ? target : requests, 4, i);
        all[i].n = INFO_SAMPLES;
        all[i].step_ms = 2000;
        all[i].t = t;
        all[i].v = need(malloc(INFO_SAMPLES * sizeof(double)));
        for (size_t k = 0; k < INFO_SAMPLES; k++)
            all[i].v[k] = i < INFO_SERIES ? 1 : (double)k;
    }
    world w;
    world_of(&w, all, PS_ARRAY_LEN(all));
    run_cases(how, &w, cases, PS_ARRAY_LEN(cases), (bench_range){0, 7200000, 30000});
}

int
main(int argc, char **argv)
{
    setup how = {.seconds = 0.05};
    for (int opt; (opt = getopt(argc, argv, "t:")) != -1;) {
        if (opt != 't')
            return 2;
        how.seconds = atof(optarg);
    }
    how.only = optind < argc ? argv[optind] : NULL;
    ps_arena_init(&texts, &ps_malloc, 0);
    printf("case\tms\tallocations\tMiB peak\tM samples\n");
    join(&how);
    histograms(&how, false);
    histograms(&how, true);
    info(&how);
    return 0;
}
