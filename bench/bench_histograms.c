/*
 * bench_histograms.c - bytes per sample and speed of native histograms in blocks, beside Prometheus's
 * chunks of the same samples.
 *
 * Request durations of services, log-normal, as client libraries make histograms of them: schema 3, at
 * first few buckets and then 20 to 60, integers, a sum of doubles, 1920 samples 15 s apart. Busy ones
 * see some thousand requests between two scrapes, idle ones few. The same as float gauges (what a
 * recording rule leaves), and with 11 custom bounds. Prints one line per case; one thread.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "lib/block/block.h"
#include "lib/chunk/chunk.h"

enum { SERIES = 50, N = 1920, STEP_MS = 15000, LOWEST = -60, SPREAD = 120, PER_FLUSH = 10000 };

typedef struct shape {
    const char *name;
    double per_scrape, sigma;
    bool gauge, custom;
} shape;

static const shape shapes[] = {
    {"busy", 3000, 0.6, false, false}, {"usual", 100, 0.6, false, false},
    {"idle", 0.5, 0.6, false, false},  {"gauge", 100, 0.6, true, false},
    {"custom", 100, 0.6, false, true},
};
static const double bounds[] = {0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10};

static ps_arena arena;
static const hst_hist *made[SERIES][N];
static int64_t times[N], starts[N];

static uint64_t state = 1;

static double
unit(void)
{
    uint64_t z = (state += UINT64_C(0x9E3779B97F4A7C15));

    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    z ^= z >> 31;
    return ((double)(z >> 11) + 0.5) * 0x1p-53;
}

static double
seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void
die(const char *what)
{
    fprintf(stderr, "bench_histograms: %s\n", what);
    exit(1);
}

/* ---- data ---------------------------------------------------------------------------------- */

static const hst_hist *
snapshot(const shape *s, const double *pops, double sum)
{
    hst_hist *h = ps_arena_array(&arena, 1, sizeof *h);
    hst_span *spans = ps_arena_array(&arena, SPREAD, sizeof *spans);
    double *counts = ps_arena_array(&arena, SPREAD, sizeof *counts);
    uint32_t n = 0, n_spans = 0;
    int next = 0;

    if (h == NULL || spans == NULL || counts == NULL)
        die("no memory");
    *h = (hst_hist){.schema = 3, .sum = sum, .zero_threshold = 0x1p-128, .integer = !s->gauge};
    if (s->gauge)
        h->hint = HST_GAUGE;
    if (s->custom) {
        h->schema = HST_CUSTOM;
        h->zero_threshold = 0;
        h->bounds = bounds;
        h->n_bounds = PS_ARRAY_LEN(bounds);
    }
    for (int i = 0; i < SPREAD; i++) {
        if (pops[i] == 0)
            continue;
        int index = s->custom ? i : i + LOWEST;
        if (n_spans > 0 && index == next)
            spans[n_spans - 1].length++;
        else
            spans[n_spans++] = (hst_span){n_spans == 0 ? index : index - next, 1};
        next = index + 1;
        counts[n++] = pops[i];
        h->count += pops[i];
    }
    h->positive = (hst_side){spans, n_spans, n, counts};
    return h;
}

static int
bucket_of(const shape *s, double v)
{
    if (!s->custom) {
        int i = (int)ceil(log2(v) * 8) - LOWEST;
        return i < 0 ? 0 : i >= SPREAD ? SPREAD - 1 : i;
    }
    int i = 0;
    while (i < (int)PS_ARRAY_LEN(bounds) && v > bounds[i])
        i++;
    return i;
}

static size_t
make(const shape *s)
{
    size_t buckets = 0;

    for (int k = 0; k < SERIES; k++) {
        double pops[SPREAD] = {0}, sum = 0, mu = -3 + 2 * unit(), rate = s->per_scrape * 2 * unit();
        for (int i = 0; i < N; i++) {
            if (s->gauge) {
                memset(pops, 0, sizeof pops);
                sum = 0;
            }
            for (double left = rate * (0.8 + 0.4 * unit()); left > unit(); left--) {
                double v = exp(mu + s->sigma * sqrt(-2 * log(unit())) * cos(6.283185307 * unit()));
                pops[bucket_of(s, v)] += s->gauge ? 1.0 / 15 : 1;
                sum += v;
            }
            made[k][i] = snapshot(s, pops, sum);
            buckets += made[k][i]->positive.n_counts;
        }
    }
    for (int i = 0; i < N; i++) {
        times[i] = INT64_C(1700000000000) + (int64_t)i * STEP_MS;
        starts[i] = INT64_C(1699990000000);
    }
    return buckets;
}

/* ---- measuring ------------------------------------------------------------------------------ */

static double
chunk_bytes(void)
{
    ps_buf out;
    size_t total = 0;
    ps_err err;

    ps_buf_init(&out, &ps_malloc);
    for (int k = 0; k < SERIES; k++) {
        chk_samples s = {.t_ms = times, .histograms = made[k], .n = N};
        for (size_t at = 0; at < N;) {
            chk_chunk c;
            ps_buf_clear(&out);
            if (chk_encode(&ps_malloc, &s, at, &out, &c, &err) != PS_OK)
                die(err.text);
            total += out.len;
            at += c.n;
        }
    }
    ps_buf_done(&out);
    return (double)total / (SERIES * N);
}

static void
read_all(ps_str block, double *ret_seconds)
{
    blk_bench *b = blk_bench_new(&ps_malloc);
    blk_reader *r;
    ps_arena to;
    ps_err err;
    static const hst_hist *h[N];

    ps_arena_init(&to, &ps_malloc, 0);
    double begin = seconds();
    if (b == NULL || blk_reader_open(&ps_malloc, block, NULL, &r, &err) != PS_OK)
        die("open");
    for (uint32_t i = 0; i < blk_reader_n_series(r); i++) {
        blk_series s;
        blk_reader_series(r, i, &s);
        ps_arena_reset(&to);
        if (blk_bench_histograms(b, r, i, 0, s.n_samples, &to, h, &err) != PS_OK)
            die(err.text);
    }
    *ret_seconds = seconds() - begin;
    blk_reader_free(r);
    blk_bench_free(b);
    ps_arena_done(&to);
}

static void
columns(const char *name, int16_t level, bool started)
{
    blk_writer_opts o = {1, 1, level, BLK_KIND_HISTOGRAM};
    blk_writer *w = blk_writer_new(&ps_malloc, &o);
    double decode;
    ps_buf out;
    blk_meta m;
    ps_err err;

    ps_buf_init(&out, &ps_malloc);
    double begin = seconds();
    for (int k = 0; k < SERIES; k++) {
        if (blk_writer_add_histograms(w, k, times, started ? starts : NULL, made[k], N, &err) !=
            PS_OK)
            die(err.text);
    }
    if (blk_writer_finish(w, &out, &m, &err) != PS_OK)
        die(err.text);
    double encode = seconds() - begin;
    read_all(ps_buf_str(&out), &decode);
    printf("  %s: %.1f B, %.2f M/s in, %.2f M/s out;", name, (double)out.len / (SERIES * N),
           SERIES * N / encode / 1e6, SERIES * N / decode / 1e6);
    blk_writer_free(w);
    ps_buf_done(&out);
}

/* As many series with one sample each as a flush has; every sample of the data, on its own. */
static void
flush(void)
{
    blk_point *p = calloc(PER_FLUSH, sizeof *p);
    double decode;
    ps_buf out;
    blk_meta m;
    ps_err err;

    if (p == NULL)
        die("no memory");
    for (int i = 0; i < PER_FLUSH; i++)
        p[i] = (blk_point){.metric_id = 1,
                           .series_id = i,
                           .t_ms = times[0],
                           .start_ms = starts[0],
                           .histogram = made[i % SERIES][N / 2 + i / SERIES]};
    ps_buf_init(&out, &ps_malloc);
    double begin = seconds();
    if (blk_encode_flush_histograms(&ps_malloc, 1, 1, p, PER_FLUSH, &out, &m, &err) != PS_OK)
        die(err.text);
    double encode = seconds() - begin;
    read_all(ps_buf_str(&out), &decode);
    printf("  flush: %.1f B, %.2f M/s in, %.2f M/s out\n", (double)out.len / PER_FLUSH,
           PER_FLUSH / encode / 1e6, PER_FLUSH / decode / 1e6);
    ps_buf_done(&out);
    free(p);
}

int
main(void)
{
    for (size_t k = 0; k < PS_ARRAY_LEN(shapes); k++) {
        ps_arena_init(&arena, &ps_malloc, 0);
        size_t buckets = make(&shapes[k]);
        printf("%-7s %4.1f buckets, chunks %.1f B\n", shapes[k].name,
               (double)buckets / (SERIES * N), chunk_bytes());
        columns("merged", BLK_LEVEL_MERGED, false);
        columns("sealed", BLK_LEVEL_SEALED, false);
        columns("with starts", BLK_LEVEL_MERGED, true);
        flush();
        ps_arena_done(&arena);
    }
    return 0;
}
