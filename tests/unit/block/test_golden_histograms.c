/*
 * test_golden_histograms.c - frozen bytes of blocks of histograms and with start timestamps. Every
 * tests/golden/block_histograms/NAME.bin must decode to NAME.txt, for ever; and today's encoder must
 * make the same bytes of what it decodes to, for the cases listed as exact. If the encoder is changed on
 * purpose, its case gets a new name and new files; the old files stay and must still decode.
 *
 * NAME.txt has a line for the row's columns and one for each sample: metric, series, time, start, then
 * the value's bits or the histogram, its numbers as bits. Run with "write" to write the files that are
 * missing (existing ones are never touched).
 */
#include "tests/unit/support.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

#include "tests/unit/block/histgen.h"

#define FOLDER "tests/golden/block_histograms/"
enum { METRIC = 42, MAX_N = 200, MAX_POINTS = 2000 };

typedef struct points {
    blk_point p[MAX_POINTS];
    size_t n;
    ps_arena arena;
} points;

/* exact: no lz4 or zstd inside, whose output may differ between their versions. */
static const struct golden {
    const char *name;
    int16_t kind, format, level;
    gen_histograms first, last; /* a series each */
    size_t n;
    unsigned starts;
    bool packed, exact;
} cases[] = {
    {"columns-counters", 2, 2, 1, GEN_HIST_COUNTER, GEN_HIST_RESETS, 16, 1, false, true},
    {"columns-frames", 2, 2, 1, GEN_HIST_CUSTOM, GEN_HIST_CUSTOM, 180, 1, false, true},
    {"columns-gauges", 2, 2, 1, GEN_HIST_GAUGE, GEN_HIST_SCHEMAS, 30, 0, false, true},
    {"columns-hostile", 2, 2, 1, GEN_HIST_HOSTILE, GEN_HIST_FAR, 6, 3, false, true},
    {"columns-sealed", 2, 2, 2, GEN_HIST_CUSTOM, GEN_HIST_CUSTOM, 140, 2, false, false},
    {"columns-floats-started", 1, 2, 1, GEN_HIST_COUNTER, GEN_HIST_FAR, 150, 9, false, true},
    {"flush-one", 2, 1, 0, GEN_HIST_CUSTOM, GEN_HIST_CUSTOM, 1, 0, false, false},
    {"flush-all", 2, 1, 0, GEN_HIST_COUNTER, GEN_HIST_FAR, 3, 9, false, false},
    {"flush-packed", 2, 1, 0, GEN_HIST_COUNTER, GEN_HIST_HOSTILE, 2, 2, true, false},
    {"flush-floats-started", 1, 1, 0, GEN_HIST_COUNTER, GEN_HIST_SCHEMAS, 4, 9, true, false},
};

/* ---- encoding ------------------------------------------------------------------------------- */

static void
encode(const blk_meta *m, const points *in, ps_buf *out)
{
    const bool histograms = m->kind == BLK_KIND_HISTOGRAM;
    blk_meta meta;

    ps_buf_init(out, &ps_malloc);
    if (m->format == BLK_FORMAT_FLUSH) {
        assert_int_equal((histograms ? blk_encode_flush_histograms
                                     : blk_encode_flush)(&ps_malloc, m->tenant_id, m->metric_id,
                                                         in->p, in->n, out, &meta, NULL),
                         PS_OK);
        return;
    }
    blk_writer_opts o = {m->tenant_id, m->metric_id, m->level, m->kind};
    blk_writer *w = blk_writer_new(&ps_malloc, &o);
    for (size_t at = 0, n; at < in->n; at += n) {
        int64_t t[MAX_N], starts[MAX_N];
        double v[MAX_N];
        const hst_hist *h[MAX_N];
        const blk_point *p = in->p + at;
        for (n = 0; at + n < in->n && p[n].series_id == p->series_id; n++) {
            t[n] = p[n].t_ms;
            starts[n] = p[n].start_ms;
            if (histograms)
                h[n] = p[n].histogram;
            else
                v[n] = p[n].value;
        }
        assert_int_equal(histograms
                             ? blk_writer_add_histograms(w, p->series_id, t, starts, h, n, NULL)
                             : blk_writer_add_started(w, p->series_id, t, starts, v, n, NULL),
                         PS_OK);
    }
    assert_int_equal(blk_writer_finish(w, out, &meta, NULL), PS_OK);
    blk_writer_free(w);
}

static void
make(const struct golden *g, ps_buf *out)
{
    static points in;
    uint64_t state = 50 + (uint64_t)(g - cases);
    blk_meta m = {.tenant_id = 1,
                  .metric_id = g->packed ? mdl_bucket(METRIC) : METRIC,
                  .level = g->level,
                  .kind = g->kind,
                  .format = g->format};

    in.n = 0;
    ps_arena_init(&in.arena, &ps_malloc, 0);
    for (int32_t metric = 0; metric < (g->packed ? 3 : 1); metric++) {
        for (unsigned k = g->first; k <= g->last; k++) {
            int64_t t[MAX_N], starts[MAX_N];
            double v[MAX_N];
            const hst_hist *h[MAX_N];
            gen_fill_times(&state, k % 2 ? GEN_JITTER : GEN_GRID, t, g->n);
            gen_fill_histograms(&state, (gen_histograms)k, &in.arena, h, g->n);
            gen_fill_values(&state, GEN_COUNTER, v, g->n);
            gen_fill_starts(&state, g->starts < GEN_STARTS_END ? g->starts : k % GEN_STARTS_END, t,
                            starts, g->n);
            for (size_t i = 0; i < g->n; i++, in.n++) {
                assert_true(in.n < MAX_POINTS);
                in.p[in.n] = (blk_point){.metric_id = METRIC + metric * MDL_BUCKETS,
                                         .series_id = 7 + (int64_t)k,
                                         .t_ms = t[i],
                                         .start_ms = starts[i]};
                if (g->kind == BLK_KIND_HISTOGRAM)
                    in.p[in.n].histogram = h[i];
                else
                    in.p[in.n].value = v[i];
            }
        }
    }
    encode(&m, &in, out);
    ps_arena_done(&in.arena);
}

/* ---- decoding ------------------------------------------------------------------------------- */

static void
decode(ps_str data, points *to, blk_meta *ret_meta)
{
    blk_bench *b = blk_bench_new(&ps_malloc);
    blk_reader *r;
    ps_err err;

    ps_arena_init(&to->arena, &ps_malloc, 0);
    to->n = 0;
    if (blk_reader_open(&ps_malloc, data, NULL, &r, &err) != PS_OK)
        fail_msg("%s", err.text);
    *ret_meta = *blk_reader_meta(r);
    for (uint32_t i = 0; i < blk_reader_n_series(r); i++) {
        int64_t t[MAX_N], starts[MAX_N];
        double v[MAX_N];
        const hst_hist *h[MAX_N];
        blk_run run = {r, i, 1};
        blk_samples s = {
            .t_ms = t, .values = v, .histograms = h, .start_ms = starts, .arena = &to->arena};
        blk_series info;
        blk_reader_series(r, i, &info);
        assert_true(info.n_samples <= MAX_N && to->n + info.n_samples <= MAX_POINTS);
        assert_int_equal(blk_runs_read(b, &run, 1, INT64_MIN, INT64_MAX, &s, &err), PS_OK);
        for (size_t k = 0; k < s.n; k++, to->n++) {
            to->p[to->n] = (blk_point){.metric_id = info.metric_id,
                                       .series_id = info.series_id,
                                       .t_ms = t[k],
                                       .start_ms = starts[k]};
            if (h[k] != NULL)
                to->p[to->n].histogram = h[k];
            else
                to->p[to->n].value = v[k];
        }
    }
    blk_reader_free(r);
    blk_bench_free(b);
}

static void
describe_side(const char *name, const hst_side *side, ps_buf *out)
{
    int32_t index = 0;
    uint32_t at = 0;

    for (uint32_t s = 0; s < side->n_spans; s++) {
        index += side->spans[s].offset;
        for (uint32_t k = 0; k < side->spans[s].length; k++)
            ps_buf_addf(out, " %s%d:%016" PRIx64, name, index++, ps_bits_of(side->counts[at++]));
    }
}

static void
describe_histogram(const hst_hist *h, ps_buf *out)
{
    ps_buf_addf(out, "schema %d hint %d %s count %016" PRIx64 " sum %016" PRIx64, h->schema,
                (int)h->hint, h->integer ? "integers" : "floats", ps_bits_of(h->count),
                ps_bits_of(h->sum));
    ps_buf_addf(out, " zero %016" PRIx64 " %016" PRIx64, ps_bits_of(h->zero_threshold),
                ps_bits_of(h->zero_count));
    for (uint32_t i = 0; i < h->n_bounds; i++)
        ps_buf_addf(out, " <%016" PRIx64, ps_bits_of(h->bounds[i]));
    describe_side("+", &h->positive, out);
    describe_side("-", &h->negative, out);
}

static void
describe(ps_str data, ps_buf *out)
{
    static points got;
    blk_meta m;

    decode(data, &got, &m);
    ps_buf_init(out, &ps_malloc);
    ps_buf_addf(out, "tenant %d metric %d dist %" PRId64 " level %d kind %d format %d", m.tenant_id,
                m.metric_id, m.dist_key, m.level, m.kind, m.format);
    ps_buf_addf(out,
                " series %" PRId64 "..%" PRId64 " times %" PRId64 "..%" PRId64
                " n_series %d n_samples %d\n",
                m.series_lo, m.series_hi, m.t_min_ms, m.t_max_ms, m.n_series, m.n_samples);
    for (size_t i = 0; i < got.n; i++) {
        const blk_point *p = &got.p[i];
        ps_buf_addf(out, "%d %" PRId64 " %" PRId64 " %" PRId64 " ", p->metric_id, p->series_id,
                    p->t_ms, p->start_ms);
        if (m.kind == BLK_KIND_HISTOGRAM)
            describe_histogram(p->histogram, out);
        else
            ps_buf_addf(out, "%016" PRIx64, ps_bits_of(p->value));
        ps_buf_add_char(out, '\n');
    }
    ps_arena_done(&got.arena);
}

/* ---- files ---------------------------------------------------------------------------------- */

static bool
read_file(const char *name, const char *suffix, ps_buf *ret)
{
    char path[300], part[4096];
    size_t n;

    snprintf(path, sizeof path, FOLDER "%s%s", name, suffix);
    FILE *f = fopen(path, "rb");
    if (f == NULL)
        return false;
    ps_buf_init(ret, &ps_malloc);
    while ((n = fread(part, 1, sizeof part, f)) > 0)
        ps_buf_add(ret, part, n);
    fclose(f);
    return true;
}

static void
every_file_decodes(void **unused)
{
    DIR *dir = opendir(FOLDER);
    size_t files = 0;

    (void)unused;
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        size_t len = strlen(e->d_name);
        char name[256];
        ps_buf bin, want, got;
        if (len < 5 || len >= sizeof name || strcmp(e->d_name + len - 4, ".bin") != 0)
            continue;
        memcpy(name, e->d_name, len - 4);
        name[len - 4] = '\0';
        assert_true(read_file(name, ".bin", &bin) && read_file(name, ".txt", &want));
        describe(ps_buf_str(&bin), &got);
        assert_int_equal(got.len, want.len);
        assert_memory_equal(got.ptr, want.ptr, want.len);
        ps_buf_done(&bin);
        ps_buf_done(&want);
        ps_buf_done(&got);
        files++;
    }
    closedir(dir);
    assert_true(files >= PS_ARRAY_LEN(cases));
}

static void
the_encoder_makes_the_same(void **unused)
{
    static points got;

    (void)unused;
    for (size_t i = 0; i < PS_ARRAY_LEN(cases); i++) {
        ps_buf file, text, again, description;
        blk_meta m;
        assert_true(read_file(cases[i].name, ".bin", &file) &&
                    read_file(cases[i].name, ".txt", &text));
        decode(ps_buf_str(&file), &got, &m);
        encode(&m, &got, &again);
        if (cases[i].exact) {
            assert_int_equal(again.len, file.len);
            assert_memory_equal(again.ptr, file.ptr, file.len);
        }
        describe(ps_buf_str(&again), &description);
        assert_int_equal(description.len, text.len);
        assert_memory_equal(description.ptr, text.ptr, text.len);
        ps_buf *all[] = {&file, &text, &again, &description};
        for (size_t k = 0; k < PS_ARRAY_LEN(all); k++)
            ps_buf_done(all[k]);
        ps_arena_done(&got.arena);
    }
}

static void
write_missing(void)
{
    for (size_t i = 0; i < PS_ARRAY_LEN(cases); i++) {
        char path[300];
        struct stat st;
        ps_buf made, text;
        make(&cases[i], &made);
        describe(ps_buf_str(&made), &text);
        for (unsigned k = 0; k < 2; k++) {
            ps_buf *b = k == 0 ? &made : &text;
            snprintf(path, sizeof path, FOLDER "%s%s", cases[i].name, k == 0 ? ".bin" : ".txt");
            if (stat(path, &st) == 0)
                continue;
            FILE *f = fopen(path, "wb");
            if (f == NULL || fwrite(b->ptr, 1, b->len, f) != b->len || fclose(f) != 0)
                fprintf(stderr, "%s: cannot be written\n", path);
            else
                printf("wrote %s\n", path);
        }
        ps_buf_done(&made);
        ps_buf_done(&text);
    }
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_file_decodes),
        cmocka_unit_test(the_encoder_makes_the_same),
    };

    if (argc > 1 && strcmp(argv[1], "write") == 0) {
        write_missing();
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
