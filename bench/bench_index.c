/*
 * bench_index.c - the label index with a million series: time and bytes of making it, and what typical
 * selectors cost. 500 metrics of 2000 instances, ten labels, one of them with 200 000 values. Then the same
 * with series that lived before: bench_index [millions of dead series, 10], each instance with a name of its
 * own.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "lib/index/index.h"

enum { METRICS = 500, INSTANCES = 2000, DEVICES = 100, UIDS = 200000, SAME = 6, REPEAT = 5 };

static double
now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void
check(ps_status status, const ps_err *err)
{
    if (status != PS_OK) {
        fprintf(stderr, "bench_index: %s\n", err->text);
        exit(1);
    }
}

static uint32_t *
make_pairs(idx *x, const char *name, const char *format, int n)
{
    ps_err err;
    uint32_t *pairs = calloc((size_t)n, sizeof(*pairs));
    for (int i = 0; i < n; i++) {
        ps_buf value;
        ps_buf_init(&value, &ps_malloc);
        ps_buf_addf(&value, "%08x", (unsigned)i * 2654435761U);
        value.len = strcmp(name, "uid") == 0 ? value.len : 0;
        ps_buf_addf(&value, "%s%d", format, i);
        check(idx_pair(x, 0, ps_str_c(name), ps_buf_str(&value), &pairs[i], &err), &err);
        ps_buf_done(&value);
    }
    return pairs;
}

static void
fill(idx *x, int64_t n_dead)
{
    static const char *const same[SAME] = {"job", "cluster", "env", "namespace", "region", "zone"};
    ps_err err;
    uint32_t one[SAME], *metrics = make_pairs(x, "__name__", "node_metric_", METRICS);
    uint32_t *instances = make_pairs(x, "instance", "host-", INSTANCES);
    uint32_t *devices = make_pairs(x, "device", "dev", DEVICES);
    uint32_t *uids = make_pairs(x, "uid", "-uid-", UIDS);
    int n_gone = (int)(n_dead / METRICS);
    uint32_t *gone = make_pairs(x, "instance", "gone-", n_gone);
    for (int i = 0; i < SAME; i++)
        check(idx_pair(x, 0, ps_str_c(same[i]), PS_STR("some"), &one[i], &err), &err);
    for (int64_t i = 0; i < (int64_t)n_gone * METRICS; i++) { /* those that died are older */
        int m = (int)(i % METRICS);
        uint32_t pairs[9] = {metrics[m], one[0], one[1], one[2],
                             one[3],     one[4], one[5], gone[i / METRICS],
                             devices[(i + m * 7) % DEVICES]};
        check(idx_add(x, 0, i + 1, m + 1, pairs, 9, &err), &err);
    }
    for (int i = 0; i < METRICS * INSTANCES; i++) {
        int m = i / INSTANCES, h = i % INSTANCES;
        uint32_t pairs[10] = {metrics[m],    one[0],       one[1],
                              one[2],        one[3],       one[4],
                              one[5],        instances[h], devices[(m * 7 + h) % DEVICES],
                              uids[i % UIDS]};
        check(idx_add(x, 0, n_dead + i + 1, m + 1, pairs, 10, &err), &err);
    }
    check(idx_settle(x, &err), &err);
    free(metrics);
    free(instances);
    free(devices);
    free(uids);
    free(gone);
}

static void
measure(const idx *x, const char *what, const mdl_matcher *m, size_t n)
{
    re_matcher *matchers[2];
    double best = 1e9;
    size_t found_n = 0;
    ps_err err;
    for (size_t i = 0; i < n; i++)
        check(re_matcher_new(&ps_malloc, &m[i], &matchers[i], &err), &err);
    for (int k = 0; k < REPEAT; k++) {
        ps_arena arena;
        idx_found found;
        idx_query q = {.matchers = matchers, .n_matchers = n};
        ps_arena_init(&arena, &ps_malloc, 0);
        double begun = now_ms();
        check(idx_select(x, &q, &arena, &found, &err), &err);
        double took = now_ms() - begun;
        best = took < best ? took : best;
        found_n = found.n;
        ps_arena_done(&arena);
    }
    printf("%-44s %8zu series %9.3f ms\n", what, found_n, best);
    for (size_t i = 0; i < n; i++)
        re_matcher_free(matchers[i]);
}

/* name NULL: label names. */
static void
measure_texts(const idx *x, const char *what, const char *name, const mdl_matcher *m,
              const mdl_ids *within)
{
    re_matcher *matcher = NULL;
    double best = 1e9;
    size_t n = 0;
    ps_err err;
    if (m != NULL)
        check(re_matcher_new(&ps_malloc, m, &matcher, &err), &err);
    for (int k = 0; k < REPEAT; k++) {
        ps_arena arena;
        idx_texts texts;
        idx_query q = {.matchers = &matcher, .n_matchers = m != NULL, .within = within};
        ps_arena_init(&arena, &ps_malloc, 0);
        double begun = now_ms();
        check(name == NULL
                  ? idx_names(x, &q, 1, &arena, &texts, &err)
                  : idx_values(x, ps_str_c(name), &q, 1, &arena, &texts, &err),
              &err);
        double took = now_ms() - begun;
        best = took < best ? took : best;
        n = texts.n;
        ps_arena_done(&arena);
    }
    printf("%-44s %8zu texts  %9.3f ms\n", what, n, best);
    re_matcher_free(matcher);
}

static void
measure_all(idx *x, int64_t n_dead)
{
    const mdl_matcher name = {MDL_MATCH_EQ, PS_STR("__name__"), PS_STR("node_metric_7")};
    const mdl_matcher instances = {MDL_MATCH_RE, PS_STR("instance"), PS_STR("host-.*[13].*")};
    const mdl_matcher uids = {MDL_MATCH_RE, PS_STR("uid"), PS_STR(".*-uid-.*77.*")};
    const mdl_matcher names = {MDL_MATCH_RE, PS_STR("__name__"), PS_STR("node_metric_.*7")};
    const mdl_matcher device = {MDL_MATCH_EQ, PS_STR("device"), PS_STR("dev7")};
    mdl_ids alive;
    mdl_ids_init(&alive, &ps_malloc);
    if (mdl_ids_add(&alive, n_dead + 1, n_dead + METRICS * INSTANCES) != PS_OK)
        exit(1);
    measure(x, "a metric", (mdl_matcher[]){name}, 1);
    measure(x, "a metric, regex over 2000 values", (mdl_matcher[]){name, instances}, 2);
    measure(x, "a metric, regex over 200000 values", (mdl_matcher[]){name, uids}, 2);
    measure(x, "metrics by regex, one device", (mdl_matcher[]){names, device}, 2);
    measure(x, "one device of all metrics", (mdl_matcher[]){device}, 1);
    measure(x, "regex over 200000 values alone", (mdl_matcher[]){uids}, 1);
    measure_texts(x, "label names", NULL, NULL, NULL);
    measure_texts(x, "label names, of those alive", NULL, NULL, &alive);
    measure_texts(x, "jobs, of those alive", "job", NULL, &alive);
    measure_texts(x, "metric names, of those alive", "__name__", NULL, &alive);
    measure_texts(x, "instances, of those alive", "instance", NULL, &alive);
    measure_texts(x, "instances of a metric, of those alive", "instance", &name, &alive);
    mdl_ids_done(&alive);
}

static void
run(int64_t n_dead)
{
    idx *x;
    ps_err err;
    double begun = now_ms();
    check(idx_new(&ps_malloc, 0, 1, &x, &err), &err);
    fill(x, n_dead);
    double took = now_ms() - begun;
    idx_stats stats = idx_get_stats(x);
    printf("%llu series, %llu labels: %.0f ms, %.1f bytes a series, %.0f MB\n",
           (unsigned long long)stats.series, (unsigned long long)stats.pairs, took,
           (double)stats.bytes / (double)stats.series, (double)stats.bytes / 1e6);
    measure_all(x, n_dead);
    idx_free(x);
}

int
main(int argc, char **argv)
{
    run(0);
    run((argc > 1 ? atoll(argv[1]) : 10) * 1000000);
    return 0;
}
