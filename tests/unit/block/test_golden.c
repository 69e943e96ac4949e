/*
 * test_golden.c - frozen bytes. Every tests/golden/block/NAME.bin must decode to NAME.txt, for
 * ever; and today's encoder must make the same bytes from NAME.txt for the cases listed here. If
 * the encoder is changed on purpose, its case gets a new name and new files; the old files stay
 * and must still decode.
 *
 * NAME.txt has a line for the row's columns and one for each sample: metric, series, time, bits of
 * the value. Run with "write" to write the files that are missing (existing ones are never
 * touched).
 */
#include "tests/unit/support.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

#include "lib/block/block.h"
#include "tests/unit/block/blockgen.h"

#define FOLDER "tests/golden/block/"

static void
columns_of(uint64_t seed, int16_t level, const gen_values *kinds, size_t n_kinds, gen_times times,
           size_t n, ps_buf *out)
{
    uint64_t state = seed;
    blk_writer_opts o = {1, 42, level, 0};
    blk_writer *w = blk_writer_new(&ps_malloc, &o);
    int64_t t[400];
    double v[400];
    blk_meta meta;

    for (size_t i = 0; i < n_kinds; i++) {
        if (i % 2 == 0)
            gen_fill_times(&state, times, t, n);
        gen_fill_values(&state, kinds[i], v, n);
        assert_int_equal(blk_writer_add(w, (int64_t)(100 + i * i), t, v, n, NULL), PS_OK);
    }
    assert_int_equal(blk_writer_finish(w, out, &meta, NULL), PS_OK);
    blk_writer_free(w);
}

static const gen_values integers[] = {GEN_CONST, GEN_COUNTER, GEN_SLOW_COUNTER,
                                      GEN_PAGES, GEN_RESETS,  GEN_RAMP};
static const gen_values decimals[] = {GEN_CENTI_COUNTER, GEN_GAUGE, GEN_STALE_TAIL, GEN_INT_EDGE};
static const gen_values floats[] = {GEN_FLOAT_SUM, GEN_CLOCK, GEN_DENORMAL, GEN_TOGGLE_SIGN,
                                    GEN_HOSTILE};
static const gen_values repeats[] = {GEN_REPEATING_FLOATS, GEN_FLOAT_SUM};

static void
make_integers_grid(ps_buf *out)
{
    columns_of(31, BLK_LEVEL_SEALED, integers, PS_ARRAY_LEN(integers), GEN_GRID, 300, out);
}

static void
make_decimals_jitter(ps_buf *out)
{
    columns_of(32, BLK_LEVEL_SEALED, decimals, PS_ARRAY_LEN(decimals), GEN_JITTER, 200, out);
}

static void
make_floats_gaps(ps_buf *out)
{
    columns_of(33, BLK_LEVEL_MERGED, floats, PS_ARRAY_LEN(floats), GEN_GAPS, 140, out);
}

static void
make_extreme_times(ps_buf *out)
{
    columns_of(34, BLK_LEVEL_MERGED, integers, 2, GEN_EXTREME_TIMES, 20, out);
}

static void
make_zstd(ps_buf *out)
{
    columns_of(35, BLK_LEVEL_SEALED, repeats, PS_ARRAY_LEN(repeats), GEN_ALL_JITTER, 300, out);
}

/* A walk; a counter with a reset and a marker; a float that walks; one that is quiet for a whole group. */
static void
make_coded(ps_buf *out)
{
    enum { N = 700, SERIES = 4 };
    uint64_t state = 40;
    blk_writer_opts o = {1, 42, BLK_LEVEL_SEALED, 0};
    blk_writer *w = blk_writer_new(&ps_malloc, &o);
    int64_t t[N];
    double v[SERIES][N], at[SERIES] = {500, 1e6, 1, 60};
    blk_meta meta;

    gen_fill_times(&state, GEN_JITTER, t, N);
    for (size_t i = 0; i < N; i++) {
        int64_t wide = 0;
        for (unsigned k = 0; k < 3; k++)
            wide += (int64_t)gen_below(&state, 41) - 20;
        at[0] += (double)wide;
        at[1] = i == 400 ? 7 : at[1] + (double)(90 + wide / 8);
        at[2] += (double)wide * 0x1p-30 + 0x1p-48 * (double)gen_below(&state, 1 << 18);
        at[3] += i < 520 ? 0 : (double)(wide / 8);
        for (size_t s = 0; s < SERIES; s++)
            v[s][i] = s == 0 ? at[s] / 10 : at[s];
    }
    v[1][650] = ps_double_of(MDL_STALE_NAN_BITS);
    for (size_t s = 0; s < SERIES; s++)
        assert_int_equal(blk_writer_add(w, (int64_t)(7 + s), t, v[s], N, NULL), PS_OK);
    assert_int_equal(blk_writer_finish(w, out, &meta, NULL), PS_OK);
    blk_writer_free(w);
}

/* Buckets of a histogram, one with a marker: some are relative to the one before. */
static void
make_relative(ps_buf *out)
{
    enum { N = 600, BUCKETS = 6 };
    uint64_t state = 41;
    blk_writer_opts o = {1, 42, BLK_LEVEL_SEALED, 0};
    blk_writer *w = blk_writer_new(&ps_malloc, &o);
    int64_t t[N];
    double v[BUCKETS * N];
    blk_meta meta;

    gen_fill_times(&state, GEN_JITTER, t, N);
    gen_fill_buckets(&state, v, BUCKETS, N);
    v[2 * N + 77] = ps_double_of(MDL_STALE_NAN_BITS);
    for (size_t s = 0; s < BUCKETS; s++)
        assert_int_equal(blk_writer_add(w, (int64_t)(7 + s), t, v + s * N, N, NULL), PS_OK);
    assert_int_equal(blk_writer_finish(w, out, &meta, NULL), PS_OK);
    blk_writer_free(w);
}

static void
flush_of(uint64_t seed, bool packed, gen_values kind, size_t n_series, size_t len, ps_buf *out)
{
    uint64_t state = seed;
    blk_point p[1000];
    blk_meta meta;
    size_t n = 0;

    for (size_t m = 0; m < (packed ? 3u : 1u); m++) {
        int64_t t[16], id = 1000 * (int64_t)(3 - m);
        double v[16];
        for (size_t s = 0; s < n_series; s++) {
            if (s % 3 == 0)
                gen_fill_times(&state, GEN_GRID, t, len);
            gen_fill_values(&state, kind, v, len);
            for (size_t i = 0; i < len; i++)
                p[n++] = (blk_point){.series_id = id,
                                     .t_ms = t[i],
                                     .value = v[i],
                                     .metric_id = 42 + MDL_BUCKETS * (int32_t)m};
            id += 1 + (int64_t)gen_below(&state, 4);
        }
    }
    assert_int_equal(blk_encode_flush(&ps_malloc, 1, packed ? mdl_bucket(42) : 42, p, n, out, &meta,
                                      NULL),
                     PS_OK);
}

static void
make_flush_one(ps_buf *out)
{
    flush_of(36, false, GEN_GAUGE, 1, 1, out);
}

static void
make_flush_few(ps_buf *out)
{
    flush_of(37, false, GEN_STALE_TAIL, 3, 2, out);
}

static void
make_flush_hostile(ps_buf *out)
{
    flush_of(38, false, GEN_HOSTILE, 30, 1, out);
}

static void
make_flush_packed(ps_buf *out)
{
    flush_of(39, true, GEN_CENTI_COUNTER, 20, 4, out);
}

/* exact: no lz4 or zstd inside, whose output may differ between their versions. */
static const struct golden {
    const char *name;
    void (*make)(ps_buf *out);
    bool exact;
} cases[] = {
    {"columns-integers-grid", make_integers_grid, true},
    {"columns-decimals-jitter", make_decimals_jitter, true},
    {"columns-floats-gaps", make_floats_gaps, true},
    {"columns-extreme-times", make_extreme_times, true},
    {"columns-zstd", make_zstd, false},
    {"columns-coded-2", make_coded, true},
    {"columns-relative-2", make_relative, true},
    {"flush-one", make_flush_one, true},
    {"flush-few", make_flush_few, true},
    {"flush-hostile", make_flush_hostile, false},
    {"flush-packed-lz4", make_flush_packed, false},
};

/* ---- files --------------------------------------------------------------------------------- */

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
describe(ps_str data, ps_buf *out)
{
    blk_reader *r;
    ps_err err;

    ps_buf_init(out, &ps_malloc);
    ps_status status = blk_reader_open(&ps_malloc, data, NULL, &r, &err);
    if (status != PS_OK)
        fail_msg("%s", err.text);
    const blk_meta *m = blk_reader_meta(r);
    ps_buf_addf(out, "tenant %d metric %d dist %" PRId64 " level %d kind %d format %d\n",
                m->tenant_id, m->metric_id, m->dist_key, m->level, m->kind, m->format);
    ps_buf_addf(out,
                "series %" PRId64 "..%" PRId64 " times %" PRId64 "..%" PRId64
                " n_series %d n_samples %d\n",
                m->series_lo, m->series_hi, m->t_min_ms, m->t_max_ms, m->n_series, m->n_samples);
    for (uint32_t i = 0; i < blk_reader_n_series(r); i++) {
        blk_series s;
        int64_t t[1000];
        double v[1000];
        size_t n;
        blk_reader_series(r, i, &s);
        assert_true(s.n_samples <= 1000);
        assert_int_equal(blk_reader_decode(r, i, INT64_MIN, INT64_MAX, t, v, &n, &err), PS_OK);
        for (size_t k = 0; k < n; k++)
            ps_buf_addf(out, "%d %" PRId64 " %" PRId64 " %016" PRIx64 "\n", s.metric_id,
                        s.series_id, t[k], ps_bits_of(v[k]));
    }
    blk_reader_free(r);
}

static void
test_every_file_decodes(void **unused)
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

/* Encodes the samples that a text describes. */
static void
encode_text(const char *text, ps_buf *out)
{
    int tenant, metric, level, kind, format, n_series, n_samples;
    int64_t dist, lo, hi, t_min, t_max;
    blk_point p[4000];
    size_t n = 0;
    blk_meta meta;

    assert_int_equal(sscanf(text,
                            "tenant %d metric %d dist %" SCNd64 " level %d kind %d format %d\n",
                            &tenant, &metric, &dist, &level, &kind, &format),
                     6);
    text = strchr(text, '\n') + 1;
    assert_int_equal(sscanf(text,
                            "series %" SCNd64 "..%" SCNd64 " times %" SCNd64 "..%" SCNd64
                            " n_series %d n_samples %d\n",
                            &lo, &hi, &t_min, &t_max, &n_series, &n_samples),
                     6);
    text = strchr(text, '\n') + 1;
    for (; *text != '\0'; text = strchr(text, '\n') + 1, n++) {
        uint64_t bits;
        assert_true(n < PS_ARRAY_LEN(p));
        assert_int_equal(sscanf(text, "%d %" SCNd64 " %" SCNd64 " %" SCNx64 "\n", &p[n].metric_id,
                                &p[n].series_id, &p[n].t_ms, &bits),
                         4);
        p[n].value = ps_double_of(bits);
    }
    assert_int_equal(n, n_samples);
    if (format == BLK_FORMAT_FLUSH) {
        assert_int_equal(blk_encode_flush(&ps_malloc, tenant, metric, p, n, out, &meta, NULL),
                         PS_OK);
        return;
    }
    blk_writer_opts o = {tenant, metric, (int16_t)level, 0};
    blk_writer *w = blk_writer_new(&ps_malloc, &o);
    for (size_t at = 0, end; at < n; at = end) {
        int64_t t[1000];
        double v[1000];
        for (end = at; end < n && p[end].series_id == p[at].series_id; end++) {
            t[end - at] = p[end].t_ms;
            v[end - at] = p[end].value;
        }
        assert_int_equal(blk_writer_add(w, p[at].series_id, t, v, end - at, NULL), PS_OK);
    }
    assert_int_equal(blk_writer_finish(w, out, &meta, NULL), PS_OK);
    blk_writer_free(w);
}

static void
test_encoder_makes_the_same(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < PS_ARRAY_LEN(cases); i++) {
        ps_buf made, file, text, again;
        assert_true(read_file(cases[i].name, ".bin", &file) &&
                    read_file(cases[i].name, ".txt", &text));
        ps_buf_add_char(&text, '\0');
        ps_buf_init(&made, &ps_malloc);
        encode_text(text.ptr, &made);
        if (cases[i].exact) {
            assert_int_equal(made.len, file.len);
            assert_memory_equal(made.ptr, file.ptr, file.len);
        }
        describe(ps_buf_str(&made), &again);
        assert_int_equal(again.len, text.len - 1);
        assert_memory_equal(again.ptr, text.ptr, again.len);
        ps_buf *all[] = {&made, &file, &text, &again};
        for (size_t k = 0; k < 4; k++)
            ps_buf_done(all[k]);
    }
}

static void
write_missing(void)
{
    for (size_t i = 0; i < PS_ARRAY_LEN(cases); i++) {
        char path[300];
        struct stat st;
        ps_buf made, text;
        ps_buf_init(&made, &ps_malloc);
        cases[i].make(&made);
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
        cmocka_unit_test(test_every_file_decodes),
        cmocka_unit_test(test_encoder_makes_the_same),
    };

    if (argc > 1 && strcmp(argv[1], "write") == 0) {
        write_missing();
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
