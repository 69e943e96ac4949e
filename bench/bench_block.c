/*
 * bench_block.c - bytes per sample and speed of the block format on data shaped like
 * node_exporter's.
 *
 * 100 hosts with 500 series each in 150 metrics (one of 64 series a host, 30 of 6, 20 of 5, 20 of
 * 3, 17 of 2, 62 of 1): 45 % constant, 22 % busy integer counters (25 % noise), 7 % slow counters,
 * 12 % counters with 2 or 3 decimals, 11 % gauges in multiples of 4096, 1 % gauges with 2
 * decimals, the rest irregular floats (gauges, sums, clocks). Series ids run host by host. Each
 * host scrapes every 15 s at an offset of its own, exactly or with 5 % of scrapes up to 20 ms off.
 *
 * Prints one line per case; figures of one thread, best of several runs for speed.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "lib/block/block.h"

enum { HOSTS = 100, PER_HOST = 500, METRICS = 150, STEP_MS = 15000, MAX_N = 1920 };

typedef enum shape {
    CONST,
    BUSY,
    SLOW,
    CENTI,
    MILLI,
    PAGES,
    GAUGE2,
    FLOAT_GAUGE,
    FLOAT_SUM,
    CLOCK,
    SHAPES
} shape;

static const char *const shape_names[SHAPES] = {"const",       "busy int",    "slow int",
                                                "2-dec ctr",   "3-dec ctr",   "4096s",
                                                "2-dec gauge", "float gauge", "float sum",
                                                "clock"};
static const unsigned quota[SHAPES] = {225, 110, 35, 32, 32, 55, 5, 2, 2, 2};

static unsigned metric_first[METRICS],
    metric_width[METRICS]; /* series of a host: index and number */
static shape series_shape[PER_HOST];

static uint64_t
next_u64(uint64_t *s)
{
    uint64_t z = (*s += UINT64_C(0x9E3779B97F4A7C15));

    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

static double
unit(uint64_t *s)
{
    return (double)(next_u64(s) >> 11) * 0x1p-53;
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
    fprintf(stderr, "bench_block: %s\n", what);
    exit(1);
}

/* ---- data ---------------------------------------------------------------------------------- */

static void
lay_out(void)
{
    static const unsigned groups[][2] = {{1, 64}, {30, 6}, {20, 5}, {20, 3}, {17, 2}, {62, 1}};
    unsigned left[SHAPES], metric = 0, at = 0;

    memcpy(left, quota, sizeof left);
    for (size_t g = 0; g < PS_ARRAY_LEN(groups); g++) {
        for (unsigned m = 0; m < groups[g][0]; m++, metric++) {
            unsigned width = groups[g][1], best = 0;
            metric_first[metric] = at;
            metric_width[metric] = width;
            for (unsigned k = 0; k < SHAPES; k++) {
                if (left[k] * quota[best] > left[best] * quota[k])
                    best = k;
            }
            if (width == 64)
                best = CENTI;
            for (unsigned i = 0; i < width; i++) {
                shape s = width == 64 && i >= 32 ? MILLI : (shape)best;
                series_shape[at++] = s;
                left[s] -= left[s] > 0;
            }
        }
    }
}

static void
fill_values(shape kind, uint64_t seed, double *v, size_t n)
{
    uint64_t s = seed * 77 + 1;
    double rate = pow(10, 2 + 6.5 * unit(&s)), rare = 0.005 + 0.1 * unit(&s);
    double x = floor(pow(10, 3 + 6 * unit(&s))), centi = floor(1e7 * unit(&s));

    for (size_t i = 0; i < n; i++) {
        switch (kind) {
        case CONST:
            v[i] = seed % 3 == 0 ? 0 : x;
            break;
        case BUSY:
            v[i] = x += floor(rate * (0.75 + 0.5 * unit(&s)));
            break;
        case SLOW:
            v[i] = x += unit(&s) < rare;
            break;
        case CENTI:
            v[i] = (centi += floor(250 * unit(&s))) / 100;
            break;
        case MILLI:
            v[i] = (centi += floor(1000 * unit(&s))) / 1000;
            break;
        case PAGES:
            v[i] = 4096 * (x += floor(3000 * (unit(&s) - 0.5)));
            break;
        case GAUGE2:
            v[i] = (centi += floor(60 * (unit(&s) - 0.5))) / 100;
            break;
        case FLOAT_GAUGE:
            v[i] = x * (0.9 + 0.2 * unit(&s));
            break;
        case FLOAT_SUM:
            v[i] = x += unit(&s) < 0.7 ? unit(&s) * 3 : 0;
            break;
        case CLOCK:
            v[i] = 1.7e9 + STEP_MS / 1000.0 * (double)i + 0.01 * unit(&s);
            break;
        case SHAPES:
            break;
        }
    }
}

static void
fill_times(unsigned host, bool jitter, int64_t *t, size_t n)
{
    uint64_t s = host + 1000;
    int64_t base = INT64_C(1700000000000) / STEP_MS * STEP_MS + (int64_t)(next_u64(&s) % STEP_MS);

    for (size_t i = 0; i < n; i++) {
        t[i] = base + (int64_t)i * STEP_MS;
        if (jitter && unit(&s) < 0.05)
            t[i] += (int64_t)(next_u64(&s) % 41) - 20;
    }
}

static double *all_values; /* [HOSTS * PER_HOST][MAX_N] */
static int64_t *all_times; /* [HOSTS][MAX_N] */

static const double *
values_of(unsigned host, unsigned series)
{
    return all_values + ((size_t)host * PER_HOST + series) * MAX_N;
}

/* ---- columns blocks ------------------------------------------------------------------------ */

typedef struct blocks {
    ps_buf bytes;
    size_t at[HOSTS * PER_HOST + 1];
    size_t n, samples;
    double encode_s, decode_s, values_s, times_s;
} blocks;

static void
end_block(blocks *b, blk_writer *w)
{
    blk_meta meta;

    if (blk_writer_samples(w) == 0)
        return;
    b->at[b->n++] = b->bytes.len;
    if (blk_writer_finish(w, &b->bytes, &meta, NULL) != PS_OK)
        die("finish");
}

/* Series with `only` (SHAPES: all) of n samples; times from `hosts` own columns or one shared
 * grid. */
static void
encode_blocks(blocks *b, shape only, size_t n, int16_t level, bool shared_grid, size_t target)
{
    b->n = b->samples = 0;
    ps_buf_clear(&b->bytes);
    double start = seconds();
    for (unsigned m = 0; m < METRICS; m++) {
        blk_writer_opts opts = {1, (int32_t)m + 1, level, 0};
        blk_writer *w = blk_writer_new(&ps_malloc, &opts);
        for (unsigned host = 0; host < HOSTS; host++) {
            for (unsigned i = metric_first[m]; i < metric_first[m] + metric_width[m]; i++) {
                if (only != SHAPES && series_shape[i] != only)
                    continue;
                const int64_t *t = all_times + (shared_grid ? 0 : (size_t)host * MAX_N);
                if (blk_writer_add(w, (int64_t)host * PER_HOST + i + 1, t, values_of(host, i), n,
                                   NULL) != PS_OK)
                    die("add");
                b->samples += n;
                if (blk_writer_bytes(w) >= target)
                    end_block(b, w);
            }
        }
        end_block(b, w);
        blk_writer_free(w);
    }
    b->encode_s = seconds() - start;
    b->at[b->n] = b->bytes.len;
}

typedef enum part { BOTH, VALUES, TIMES } part;

/* Seconds that reading this part of all blocks takes, best of three. */
static double
time_reading(const blocks *b, part what)
{
    static int64_t t[65536];
    static double v[65536];
    size_t total = 0;
    double best = 1e9, sum = 0;

    for (unsigned run = 0; run < 3; run++) {
        double start = seconds();
        total = 0;
        for (size_t k = 0; k < b->n; k++) {
            blk_reader *r;
            ps_str data = {b->bytes.ptr + b->at[k], b->at[k + 1] - b->at[k]};
            if (blk_reader_open(&ps_malloc, data, NULL, &r, NULL) != PS_OK)
                die("open");
            for (uint32_t i = 0; i < blk_reader_n_series(r); i++) {
                size_t n, lo;
                blk_series s;
                ps_status status;
                blk_reader_series(r, i, &s);
                n = s.n_samples;
                if (what == BOTH)
                    status = blk_reader_decode(r, i, INT64_MIN, INT64_MAX, t, v, &n, NULL);
                else if (what == VALUES)
                    status = blk_reader_values(r, i, 0, n, v, NULL);
                else
                    status = blk_reader_times(r, i, INT64_MIN, INT64_MAX, t, &lo, &n, NULL);
                if (status != PS_OK)
                    die("decode");
                total += n;
                sum += what == TIMES ? (double)t[n - 1] : v[n - 1];
            }
            blk_reader_free(r);
        }
        double s = seconds() - start;
        best = s < best ? s : best;
    }
    if (total != b->samples || isnan(sum))
        die("decoded another number of samples");
    return best;
}

static void
decode_blocks(blocks *b)
{
    b->decode_s = time_reading(b, BOTH);
    b->values_s = time_reading(b, VALUES);
    b->times_s = time_reading(b, TIMES);
}

static void
report_columns(blocks *b, size_t n, bool jitter, int16_t level, size_t target)
{
    encode_blocks(b, SHAPES, n, level, true, target);
    double values = (double)b->bytes.len / (double)b->samples;
    encode_blocks(b, SHAPES, n, level, false, target);
    double all = (double)b->bytes.len / (double)b->samples;
    decode_blocks(b);
    printf("%-7s %5zu %-9s %7zu  %8.3f %8.3f %8.3f  %9.1f %9.1f %9.1f %9.1f  %7zu %8.0f\n",
           level == BLK_LEVEL_SEALED ? "sealed" : "merged", n, jitter ? "5% jitter" : "grid",
           target, values, all - values, all, (double)b->samples / b->encode_s / 1e6,
           (double)b->samples / b->decode_s / 1e6, (double)b->samples / b->values_s / 1e6,
           (double)b->samples / b->times_s / 1e6, b->n, (double)b->bytes.len / (double)b->n);
}

static void
report_shapes(blocks *b, size_t n)
{
    for (shape s = CONST; s < SHAPES; s++) {
        encode_blocks(b, s, n, BLK_LEVEL_SEALED, true, 48 << 10);
        if (b->samples == 0)
            continue;
        decode_blocks(b);
        printf("  %-12s %8.3f  %9.1f %9.1f\n", shape_names[s],
               (double)b->bytes.len / (double)b->samples, (double)b->samples / b->encode_s / 1e6,
               (double)b->samples / b->decode_s / 1e6);
    }
}

/* ---- flush blocks -------------------------------------------------------------------------- */

/* One flush: `per_series` scrapes from sample `from` on of `hosts` hosts beginning with `first`. */
static size_t
collect(blk_point *p, unsigned first, unsigned hosts, size_t from, size_t per_series)
{
    size_t n = 0;

    for (size_t k = from; k < from + per_series; k++) {
        for (unsigned h = 0; h < hosts; h++) {
            unsigned host = (first + h) % HOSTS;
            for (unsigned m = 0; m < METRICS; m++) {
                for (unsigned i = metric_first[m]; i < metric_first[m] + metric_width[m]; i++)
                    p[n++] = (blk_point){.series_id = (int64_t)host * PER_HOST + i + 1,
                                         .t_ms = all_times[(size_t)host * MAX_N + k],
                                         .value = values_of(host, i)[k],
                                         .metric_id = (int32_t)m + 1};
            }
        }
    }
    return n;
}

typedef struct flush_sum {
    size_t samples, rows, bytes, packed_samples, packed_bytes, packed_rows;
    double sort_s, encode_s, decode_s;
} flush_sum;

typedef struct rows { /* the rows of one flush */
    ps_buf bytes;
    size_t at[METRICS + 1];
    blk_meta meta[METRICS];
    size_t n;
} rows;

static void
encode_row(rows *r, int32_t row_metric, const blk_point *p, size_t n)
{
    r->at[r->n] = r->bytes.len;
    if (blk_encode_flush(&ps_malloc, 1, row_metric, p, n, &r->bytes, &r->meta[r->n], NULL) != PS_OK)
        die("encode flush");
    r->at[++r->n] = r->bytes.len;
}

static void
decode_rows(const rows *all)
{
    static int64_t t[65536];
    static double v[65536];

    for (size_t k = 0; k < all->n; k++) {
        blk_reader *r;
        ps_str data = {all->bytes.ptr + all->at[k], all->at[k + 1] - all->at[k]};
        if (blk_reader_open(&ps_malloc, data, &all->meta[k], &r, NULL) != PS_OK)
            die("open flush");
        for (uint32_t i = 0; i < blk_reader_n_series(r); i++) {
            size_t got;
            if (blk_reader_decode(r, i, INT64_MIN, INT64_MAX, t, v, &got, NULL) != PS_OK)
                die("decode flush");
        }
        blk_reader_free(r);
    }
}

static void
count_rows(flush_sum *sum, const rows *r)
{
    for (size_t k = 0; k < r->n; k++) {
        size_t samples = (size_t)r->meta[k].n_samples, bytes = r->at[k + 1] - r->at[k];
        sum->rows++;
        sum->samples += samples;
        sum->bytes += bytes;
        if (r->meta[k].metric_id < 0) {
            sum->packed_rows++;
            sum->packed_samples += samples;
            sum->packed_bytes += bytes;
        }
    }
}

static void
report_flush(unsigned hosts, size_t per_series, size_t pack_below, unsigned flushes)
{
    size_t max = (size_t)hosts * PER_HOST * per_series;
    blk_point *p = malloc(max * sizeof *p), *scratch = malloc(max * sizeof *p);
    blk_point *packed[MDL_BUCKETS];
    size_t n_packed[MDL_BUCKETS];
    flush_sum sum = {0};
    static rows r;

    ps_buf_init(&r.bytes, &ps_malloc);
    for (unsigned b = 0; b < MDL_BUCKETS; b++)
        packed[b] = malloc(max * sizeof *p);
    for (unsigned f = 0; f < flushes; f++) {
        size_t n = collect(p, f * hosts, hosts,
                           (f * hosts / HOSTS) * per_series % (MAX_N - per_series), per_series);
        blk_dup_stats dups = {0};
        double start = seconds();
        if (blk_points_sort_unique(p, scratch, n, &dups) != n)
            die("points repeat");
        double sorted = seconds();
        memset(n_packed, 0, sizeof n_packed);
        ps_buf_clear(&r.bytes);
        r.n = 0;
        for (size_t at = 0, end; at < n; at = end) {
            for (end = at + 1; end < n && p[end].metric_id == p[at].metric_id;)
                end++;
            if (end - at >= pack_below) {
                encode_row(&r, p[at].metric_id, p + at, end - at);
                continue;
            }
            unsigned b = (unsigned)(-mdl_bucket(p[at].metric_id)) - 1;
            memcpy(packed[b] + n_packed[b], p + at, (end - at) * sizeof *p);
            n_packed[b] += end - at;
        }
        for (unsigned b = 0; b < MDL_BUCKETS; b++) {
            if (n_packed[b] > 0)
                encode_row(&r, -(int32_t)b - 1, packed[b], n_packed[b]);
        }
        double encoded = seconds();
        decode_rows(&r);
        sum.decode_s += seconds() - encoded;
        sum.encode_s += encoded - sorted;
        sum.sort_s += sorted - start;
        count_rows(&sum, &r);
    }
    printf("%6zu %4zu %6zu  %7.1f %8.3f %8.3f  %8.1f %9.1f %9.1f\n", max, per_series, pack_below,
           (double)sum.samples / (double)sum.rows, (double)sum.bytes / (double)sum.samples,
           sum.packed_samples > 0 ? (double)sum.packed_bytes / (double)sum.packed_samples : 0,
           (double)sum.samples / sum.sort_s / 1e6, (double)sum.samples / sum.encode_s / 1e6,
           (double)sum.samples / sum.decode_s / 1e6);
    for (unsigned b = 0; b < MDL_BUCKETS; b++)
        free(packed[b]);
    free(p);
    free(scratch);
    ps_buf_done(&r.bytes);
}

/* A flush of one metric that every host has n_series / HOSTS times: what one of its series costs. */
static void
report_lookup(unsigned n_series)
{
    enum { ROUNDS = 400 };
    blk_point *p = malloc(n_series * sizeof *p);
    double took[2], v[1];
    blk_meta meta;
    ps_buf out;

    ps_buf_init(&out, &ps_malloc);
    for (unsigned i = 0; i < n_series; i++) {
        unsigned host = i * HOSTS / n_series;
        p[i] = (blk_point){.series_id = i * 3 + 1,
                           .t_ms = all_times[(size_t)host * MAX_N],
                           .value = values_of(host, i % PER_HOST)[i % 100],
                           .metric_id = 1};
    }
    if (blk_encode_flush(&ps_malloc, 1, 1, p, n_series, &out, &meta, NULL) != PS_OK)
        die("encode flush");
    for (unsigned lazy = 0; lazy < 2; lazy++) {
        double start = seconds();
        for (unsigned round = 0; round < ROUNDS; round++) {
            blk_reader *r;
            if ((lazy ? blk_reader_open_lazy : blk_reader_open)(&ps_malloc, ps_buf_str(&out), &meta,
                                                                &r, NULL) != PS_OK ||
                blk_reader_values(r, round * 7919 % n_series, 0, 1, v, NULL) != PS_OK)
                die("look up");
            blk_reader_free(r);
        }
        took[lazy] = (seconds() - start) / ROUNDS * 1e6;
    }
    printf("%7u %9zu  %8.1f %8.1f\n", n_series, out.len, took[0], took[1]);
    ps_buf_done(&out);
    free(p);
}

int
main(void)
{
    static blocks b;

    lay_out();
    all_values = malloc((size_t)HOSTS * PER_HOST * MAX_N * sizeof *all_values);
    all_times = malloc((size_t)HOSTS * MAX_N * sizeof *all_times);
    if (all_values == NULL || all_times == NULL)
        die("out of memory");
    for (size_t i = 0; i < (size_t)HOSTS * PER_HOST; i++)
        fill_values(series_shape[i % PER_HOST], i + 1, all_values + i * MAX_N, MAX_N);
    ps_buf_init(&b.bytes, &ps_malloc);

    for (int jitter = 0; jitter < 2; jitter++) {
        for (unsigned host = 0; host < HOSTS; host++)
            fill_times(host, jitter != 0, all_times + (size_t)host * MAX_N, MAX_N);
        if (jitter == 0) {
            printf("flush blocks, node_exporter-like\n");
            printf("%6s %4s %6s  %7s %8s %8s  %8s %9s %9s\n", "flush", "each", "pack<", "per row",
                   "B/sample", "packed", "sort M/s", "enc M/s", "dec M/s");
            report_flush(10, 1, 32, 40);
            report_flush(20, 1, 32, 40);
            report_flush(20, 1, 1, 40);
            report_flush(20, 1, 1000000, 40);
            report_flush(100, 1, 32, 8);
            report_flush(5, 4, 32, 40);
            report_flush(2, 20, 32, 20);
            printf("\none series of a flush block of one metric, microseconds\n");
            printf("%7s %9s  %8s %8s\n", "series", "bytes", "whole", "lazily");
            report_lookup(100);
            report_lookup(1000);
            report_lookup(10000);
            printf("\nsealed blocks by shape, 1920 samples each, shared exact grid\n");
            printf("  %-12s %8s  %9s %9s\n", "", "B/sample", "enc M/s", "dec M/s");
            report_shapes(&b, 1920);
            printf("\ncolumns blocks\n%-7s %5s %-9s %7s  %8s %8s %8s  %9s %9s %9s %9s  %7s %8s\n",
                   "level", "n", "times", "target", "values", "times", "total", "enc M/s",
                   "dec M/s", "values", "times", "blocks", "bytes");
        }
        report_columns(&b, 20, jitter, BLK_LEVEL_MERGED, 48 << 10);
        report_columns(&b, 480, jitter, BLK_LEVEL_SEALED, 48 << 10);
        report_columns(&b, 1920, jitter, BLK_LEVEL_SEALED, 7 << 10);
        report_columns(&b, 1920, jitter, BLK_LEVEL_SEALED, 16 << 10);
        report_columns(&b, 1920, jitter, BLK_LEVEL_SEALED, 48 << 10);
    }
    ps_buf_done(&b.bytes);
    free(all_values);
    free(all_times);
    return 0;
}
