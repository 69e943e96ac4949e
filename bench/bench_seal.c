/*
 * bench_seal.c - what joining and sealing cost a million samples, without a database: the standard load
 * (fleet.h) in merged blocks as folds leave them, joined, then sealed.
 *
 * Each metric of --targets targets is scraped --samples times five times a second. Some folds are large, some small:
 * each series lies in a dozen merged blocks before it is joined. Prints CPU seconds per million samples of either step,
 * best of --rounds, and bytes per sample, by kind of values. What comes out is read back and compared with what went in.
 */
#include "bench/fleet.h"
#include "lib/block/block.h"

enum { STEP_MS = 200, KINDS = VALUE_FLOAT + 1 };

typedef struct block_row {
    char *bytes;
    size_t len;
    blk_meta meta;
} block_row;

typedef struct rows {
    block_row *items;
    size_t n, cap, bytes;
} rows;

typedef struct metric_data { /* of all targets, series by series */
    double *values;
    int64_t *times; /* of each target */
    size_t n_series, per_target;
    value_kind kind;
} metric_data;

typedef struct options {
    size_t targets, samples, rounds;
} options;

typedef struct cost { /* of a kind of values */
    double join_s, seal_s, samples;
    size_t merged_bytes, joined_bytes, sealed_bytes;
} cost;

static const char *const kind_names[KINDS] = {"constant",      "slow counter", "busy counter", "2-dec counter",
                                              "3-dec counter", "4096s",        "2-dec gauge",  "float"};

static double
cpu_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void
rows_add(rows *r, ps_str data, const blk_meta *meta)
{
    if (r->n == r->cap) {
        r->cap = r->cap == 0 ? 64 : r->cap * 2;
        r->items = realloc(r->items, r->cap * sizeof(*r->items));
    }
    block_row row = {malloc(data.len), data.len, *meta};
    if (r->items == NULL || row.bytes == NULL)
        die("out of memory");
    memcpy(row.bytes, data.ptr, data.len);
    r->items[r->n++] = row;
    r->bytes += data.len;
}

static void
rows_clear(rows *r)
{
    for (size_t i = 0; i < r->n; i++)
        free(r->items[i].bytes);
    r->n = r->bytes = 0;
}

static ps_status
keep(void *self, ps_str data, const blk_meta *meta, ps_err *err)
{
    (void)err;
    rows_add(self, data, meta);
    return PS_OK;
}

/* ---- data ---------------------------------------------------------------------------------- */

static void
fill_times(const options *o, size_t target, int64_t *t)
{
    uint64_t rng = 42 + target;

    for (size_t i = 0; i < o->samples; i++) {
        const uint64_t r = next_random(&rng);

        t[i] = INT64_C(1700000000000) + (int64_t)(i * STEP_MS) + (int64_t)(target * 7 % STEP_MS);
        if (r % 100 < 5)
            t[i] += 1 + (int64_t)(r >> 40) % 20;
    }
}

/* One metric of all targets: the series of make_target that have its index. */
static metric_data
fill_metric(const options *o, series *const *targets, const size_t *n_of, int metric)
{
    metric_data d = {.times = calloc(o->targets * o->samples, sizeof(int64_t))};
    size_t at = 0;

    for (size_t i = 0; i < n_of[0]; i++)
        d.per_target += targets[0][i].metric == metric;
    d.n_series = d.per_target * o->targets;
    d.values = calloc(d.n_series * o->samples, sizeof(double));
    if (d.times == NULL || d.values == NULL)
        die("out of memory");
    for (size_t k = 0; k < o->targets; k++) {
        fill_times(o, k, d.times + k * o->samples);
        for (size_t i = 0; i < n_of[k]; i++) {
            series s = targets[k][i];
            if (s.metric != metric)
                continue;
            d.kind = s.kind;
            for (size_t j = 0; j < o->samples; j++)
                d.values[at * o->samples + j] = step_value(&s);
            at++;
        }
    }
    if (at != d.n_series)
        die("targets differ");
    return d;
}

/* ---- the steps ------------------------------------------------------------------------------- */

/* What one fold leaves: samples from..to of all series. */
static void
write_fold(const options *o, const metric_data *d, size_t from, size_t to, rows *out)
{
    blk_writer_opts opts = {1, 1, BLK_LEVEL_MERGED, 0};
    blk_writer *w = blk_writer_new(&ps_malloc, &opts);
    blk_meta meta;
    ps_buf buf;

    ps_buf_init(&buf, &ps_malloc);
    for (size_t i = 0; i < d->n_series; i++) {
        const int64_t *t = d->times + i / d->per_target * o->samples;
        if (blk_writer_add(w, (int64_t)i + 1, t + from, d->values + i * o->samples + from, to - from,
                           NULL) != PS_OK)
            die("cannot add a series");
        if (blk_writer_bytes(w) < (48 << 10) && i + 1 < d->n_series)
            continue;
        ps_buf_clear(&buf);
        if (blk_writer_finish(w, &buf, &meta, NULL) != PS_OK)
            die("cannot finish a block");
        rows_add(out, ps_buf_str(&buf), &meta);
    }
    ps_buf_done(&buf);
    blk_writer_free(w);
}

static void
write_folds(const options *o, const metric_data *d, rows *out)
{
    enum { PARTS = 20, LARGE = 4 };
    size_t at = 0;

    /* four of four parts, then single ones */
    for (size_t k = 0; at < PARTS; k++) {
        const size_t end = k < LARGE ? at + 4 : at + 1;
        write_fold(o, d, at * o->samples / PARTS, end * o->samples / PARTS, out);
        at = end;
    }
}

static double
merge_rows(const rows *in, int16_t level, rows *out)
{
    const double begun = cpu_s();
    blk_merge_opts opts = {.tenant_id = 1,
                           .metric_id = 1,
                           .out_level = level,
                           .from_ms = INT64_MIN,
                           .to_ms = INT64_MAX,
                           .target_bytes = 48 << 10,
                           .target_samples = 1 << 20};
    blk_reader **inputs = calloc(in->n, sizeof(blk_reader *));
    blk_merge_stats stats;
    ps_err err;

    if (inputs == NULL)
        die("out of memory");
    for (size_t i = 0; i < in->n; i++) {
        const block_row *row = &in->items[i];
        if (blk_reader_open(&ps_malloc, (ps_str){row->bytes, row->len}, &row->meta, &inputs[i],
                            &err) != PS_OK)
            die(err.text);
    }
    if (blk_merge(&ps_malloc, inputs, in->n, &opts, keep, out, NULL, &stats, &err) != PS_OK)
        die(err.text);
    for (size_t i = 0; i < in->n; i++)
        blk_reader_free(inputs[i]);
    free(inputs);
    return cpu_s() - begun;
}

/* Reads everything and compares it with what was written. */
static void
compare(const options *o, const metric_data *d, const rows *r)
{
    int64_t *t = calloc(o->samples, sizeof(*t));
    double *v = calloc(o->samples, sizeof(*v));
    size_t *seen = calloc(d->n_series, sizeof(*seen));

    if (t == NULL || v == NULL || seen == NULL)
        die("out of memory");
    for (size_t k = 0; k < r->n; k++) {
        blk_reader *reader;
        ps_str data = {r->items[k].bytes, r->items[k].len};

        if (blk_reader_open(&ps_malloc, data, &r->items[k].meta, &reader, NULL) != PS_OK)
            die("cannot open a block");
        for (uint32_t i = 0; i < blk_reader_n_series(reader); i++) {
            blk_series s;
            size_t n;

            blk_reader_series(reader, i, &s);
            const size_t at = (size_t)s.series_id - 1;
            if (at >= d->n_series || seen[at] + s.n_samples > o->samples ||
                blk_reader_decode(reader, i, INT64_MIN, INT64_MAX, t, v, &n, NULL) != PS_OK ||
                memcmp(v, d->values + at * o->samples + seen[at], n * sizeof(*v)) != 0 ||
                memcmp(t, d->times + at / d->per_target * o->samples + seen[at], n * sizeof(*t)) != 0)
                die("other samples than were written");
            seen[at] += n;
        }
        blk_reader_free(reader);
    }
    for (size_t i = 0; i < d->n_series; i++) {
        if (seen[i] != o->samples)
            die("samples are missing");
    }
    free(t);
    free(v);
    free(seen);
}

static void
one_metric(const options *o, const metric_data *d, cost *c)
{
    rows merged = {0}, joined = {0}, sealed = {0};
    double join_s = 1e9, seal_s = 1e9;

    write_folds(o, d, &merged);
    for (size_t round = 0; round < o->rounds; round++) {
        rows_clear(&joined);
        rows_clear(&sealed);
        double took = merge_rows(&merged, BLK_LEVEL_MERGED, &joined);
        join_s = took < join_s ? took : join_s;
        took = merge_rows(&joined, BLK_LEVEL_SEALED, &sealed);
        seal_s = took < seal_s ? took : seal_s;
    }
    compare(o, d, &joined);
    compare(o, d, &sealed);
    c->join_s += join_s;
    c->seal_s += seal_s;
    c->samples += (double)(d->n_series * o->samples);
    c->merged_bytes += merged.bytes;
    c->joined_bytes += joined.bytes;
    c->sealed_bytes += sealed.bytes;
    rows *all[] = {&merged, &joined, &sealed};
    for (size_t i = 0; i < PS_ARRAY_LEN(all); i++) {
        rows_clear(all[i]);
        free(all[i]->items);
    }
}

static void
print_cost(const char *name, const cost *c)
{
    printf("%-14s %8.0f  %8.4f %8.4f  %8.3f %8.3f %8.3f\n", name, c->samples / 1e3,
           c->join_s / c->samples * 1e6, c->seal_s / c->samples * 1e6,
           (double)c->merged_bytes / c->samples, (double)c->joined_bytes / c->samples,
           (double)c->sealed_bytes / c->samples);
}

static size_t
number_arg(const char *text)
{
    long n = strtol(text, NULL, 10);

    if (n < 1 || n > 1000000)
        die("a number from 1 to 1000000");
    return (size_t)n;
}

int
main(int argc, char **argv)
{
    options o = {40, 600, 3};
    cost costs[KINDS] = {{0}}, sum = {0};

    for (int i = 1; i + 1 < argc; i += 2) {
        size_t *to = strcmp(argv[i], "--targets") == 0   ? &o.targets
                     : strcmp(argv[i], "--samples") == 0 ? &o.samples
                     : strcmp(argv[i], "--rounds") == 0  ? &o.rounds
                                                         : NULL;
        if (to == NULL)
            die("--targets N, --samples N, --rounds N");
        *to = number_arg(argv[i + 1]);
    }
    series **targets = calloc(o.targets, sizeof(*targets));
    size_t *n_of = calloc(o.targets, sizeof(*n_of));
    if (targets == NULL || n_of == NULL)
        die("out of memory");
    for (size_t k = 0; k < o.targets; k++)
        targets[k] = make_target((int)k, &n_of[k]);
    for (int m = 0; m < n_sums; m++) {
        metric_data d = fill_metric(&o, targets, n_of, m);
        one_metric(&o, &d, &costs[d.kind]);
        free(d.values);
        free(d.times);
    }
    printf("%-14s %8s  %8s %8s  %8s %8s %8s\n", "", "samples", "join", "seal", "merged", "joined", "sealed");
    printf("%-14s %8s  %17s  %26s\n", "", "thousand", "CPU s a million", "bytes a sample");
    for (size_t k = 0; k < KINDS; k++) {
        print_cost(kind_names[k], &costs[k]);
        sum.join_s += costs[k].join_s;
        sum.seal_s += costs[k].seal_s;
        sum.samples += costs[k].samples;
        sum.merged_bytes += costs[k].merged_bytes;
        sum.joined_bytes += costs[k].joined_bytes;
        sum.sealed_bytes += costs[k].sealed_bytes;
    }
    print_cost("all", &sum);
    for (size_t k = 0; k < o.targets; k++) {
        for (size_t i = 0; i < n_of[k]; i++)
            ps_buf_done(&targets[k][i].labels);
        free(targets[k]);
    }
    free(targets);
    free(n_of);
    return 0;
}
