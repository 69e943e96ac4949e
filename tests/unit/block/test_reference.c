/*
 * test_reference.c - the production decoder against the reference decoder, over random blocks of
 * both formats; and that each codec is the one chosen for the data that it was made for.
 */
#include "tests/unit/support.h"

#include <math.h>

#include "lib/block/internal.h"
#include "tests/unit/block/blockgen.h"
#include "tests/unit/block/reference_decoder.h"

static void
compare(ps_str data, const blk_meta *meta)
{
    ref_block ref;
    blk_reader *r;
    ps_err err;
    size_t at = 0;

    assert_true(ref_decode((const uint8_t *)data.ptr, data.len, &ref));
    assert_int_equal(ref.tenant_id, meta->tenant_id);
    assert_int_equal(ref.metric_id, meta->metric_id);
    assert_int_equal(ref.level, meta->level);
    assert_int_equal(ref.kind, meta->kind);
    assert_int_equal(ref.format, meta->format);
    assert_int_equal(ref.series_lo, meta->series_lo);
    assert_int_equal(ref.series_hi, meta->series_hi);
    assert_int_equal(ref.t_min, meta->t_min_ms);
    assert_int_equal(ref.t_max, meta->t_max_ms);
    assert_int_equal(blk_reader_open(&ps_malloc, data, meta, &r, &err), PS_OK);
    for (uint32_t i = 0; i < blk_reader_n_series(r); i++) {
        blk_series s;
        size_t n;
        blk_reader_series(r, i, &s);
        int64_t *t = malloc(s.n_samples * sizeof *t);
        double *v = malloc(s.n_samples * sizeof *v);
        assert_int_equal(blk_reader_decode(r, i, INT64_MIN, INT64_MAX, t, v, &n, &err), PS_OK);
        for (size_t k = 0; k < n; k++, at++) {
            assert_true(at < ref.n);
            assert_int_equal(ref.samples[at].metric_id, s.metric_id);
            assert_int_equal(ref.samples[at].series_id, s.series_id);
            assert_int_equal(ref.samples[at].t, t[k]);
            assert_int_equal(ref.samples[at].bits, ps_bits_of(v[k]));
        }
        free(t);
        free(v);
    }
    assert_int_equal(at, ref.n);
    blk_reader_free(r);
    ref_free(&ref);
}

static void
test_columns(void **unused)
{
    uint64_t state = 11;
    ps_err err;

    (void)unused;
    for (unsigned round = 0; round < 150; round++) {
        blk_writer_opts o = {(int32_t)gen_u64(&state),
                             1 + (int32_t)gen_below(&state, INT32_MAX - 1), 1 + round % 2, 0};
        blk_writer *w = blk_writer_new(&ps_malloc, &o);
        int64_t id = -(int64_t)gen_below(&state, 50);
        ps_buf out;
        blk_meta meta;
        int64_t t[1000];
        double v[1000];
        size_t n = 0;
        ps_buf_init(&out, &ps_malloc);
        for (size_t k = 1 + gen_below(&state, 20); k > 0; k--) {
            if (n == 0 || gen_below(&state, 3) == 0) {
                n = 1 + gen_below(&state, gen_below(&state, 2) ? 1000 : 10);
                gen_fill_times(&state, (gen_times)gen_below(&state, GEN_TIMES_END), t, n);
            }
            gen_fill_values(&state, (gen_values)gen_below(&state, GEN_VALUES_END), v, n);
            id += 1 + (int64_t)gen_below(&state, 100);
            assert_int_equal(blk_writer_add(w, id, t, v, n, &err), PS_OK);
        }
        assert_int_equal(blk_writer_finish(w, &out, &meta, &err), PS_OK);
        compare(ps_buf_str(&out), &meta);
        blk_writer_free(w);
        ps_buf_done(&out);
    }
}

static void
test_flush(void **unused)
{
    uint64_t state = 12;
    blk_point *p = malloc(20000 * sizeof *p), *scratch = malloc(20000 * sizeof *p);
    ps_err err;

    (void)unused;
    for (unsigned round = 0; round < 300; round++) {
        bool packed = gen_below(&state, 2);
        size_t n = 0, metrics = packed ? 1 + gen_below(&state, 40) : 1;
        gen_values kind = (gen_values)gen_below(&state, GEN_VALUES_END);
        for (size_t m = 0; m < metrics; m++) {
            size_t series = 1 + gen_below(&state, 40),
                   len = gen_below(&state, 2) ? 1 : 1 + gen_below(&state, 10);
            int64_t t[10], id = (int64_t)gen_below(&state, 1000000);
            double v[10];
            gen_fill_times(&state, (gen_times)gen_below(&state, GEN_TIMES_END), t, len);
            for (size_t s = 0; s < series; s++) {
                gen_fill_values(&state, gen_below(&state, 9) ? kind : GEN_HOSTILE, v, len);
                for (size_t i = 0; i < len; i++)
                    p[n++] = (blk_point){.series_id = id,
                                         .t_ms = t[i],
                                         .value = v[i],
                                         .metric_id = 7 + MDL_BUCKETS * (int32_t)m};
                id += 1 + (int64_t)gen_below(&state, 3);
            }
        }
        blk_dup_stats dups = {0};
        ps_buf out;
        blk_meta meta;
        ps_buf_init(&out, &ps_malloc);
        n = blk_points_sort_unique(p, scratch, n, &dups);
        assert_int_equal(blk_encode_flush(&ps_malloc, 9, packed ? mdl_bucket(7) : 7, p, n, &out,
                                          &meta, &err),
                         PS_OK);
        compare(ps_buf_str(&out), &meta);
        ps_buf_done(&out);
    }
    free(p);
    free(scratch);
}

/* ---- every codec is chosen ----------------------------------------------------------------- */

static unsigned
codec_for(const double *v, size_t n, int16_t level)
{
    blk_writer_opts o = {1, 1, level, 0};
    blk_writer *w = blk_writer_new(&ps_malloc, &o);
    int64_t *t = malloc(n * sizeof *t);
    blk_reader *r;
    blk_meta meta;
    ps_buf out;
    ps_err err;

    for (size_t i = 0; i < n; i++)
        t[i] = (int64_t)i * 1000;
    ps_buf_init(&out, &ps_malloc);
    assert_int_equal(blk_writer_add(w, 1, t, v, n, &err), PS_OK);
    assert_int_equal(blk_writer_finish(w, &out, &meta, &err), PS_OK);
    compare(ps_buf_str(&out), &meta);
    assert_int_equal(blk_reader_open(&ps_malloc, ps_buf_str(&out), &meta, &r, &err), PS_OK);
    unsigned codec = r->cseries[0].values.codec;
    blk_reader_free(r);
    blk_writer_free(w);
    ps_buf_done(&out);
    free(t);
    return codec;
}

static void
test_every_codec_is_chosen(void **unused)
{
    enum { N = 500 };
    uint64_t state = 13;
    double v[N], steps[4];
    bool seen[BLK_CODEC_END] = {false};

    (void)unused;
#define EXPECT(codec, level)                                                                       \
    do {                                                                                           \
        assert_string_equal(blk_codec_name(codec_for(v, N, level)), blk_codec_name(codec));        \
        seen[codec] = true;                                                                        \
    } while (0)
    for (size_t i = 0; i < N; i++)
        v[i] = 3.25;
    EXPECT(BLK_CODEC_CONST, BLK_LEVEL_SEALED);
    for (size_t i = 0; i < N; i++)
        v[i] = (double)gen_below(&state, 100) / 10;
    EXPECT(BLK_CODEC_DEC_RAW, BLK_LEVEL_SEALED);
    for (size_t i = 0; i < N; i++)
        v[i] = (double)(1000000 + i * 500 + gen_below(&state, 100)) / 1000;
    v[100] = ps_double_of(MDL_STALE_NAN_BITS); /* and with an exception */
    EXPECT(BLK_CODEC_DEC_DELTA, BLK_LEVEL_MERGED);
    for (size_t i = 0; i < N; i++)
        v[i] = (double)(i * i * 37);
    EXPECT(BLK_CODEC_DEC_DOD, BLK_LEVEL_SEALED);
    for (size_t i = 0; i < N; i++)
        v[i] = 0.9 + gen_unit(&state) / 5;
    EXPECT(BLK_CODEC_BITS_RAW, BLK_LEVEL_MERGED);
    for (size_t i = 0; i < N; i++)
        v[i] = 1.0e9 + 1.0 / 3 * (double)i + gen_unit(&state) / 64;
    EXPECT(BLK_CODEC_BITS_DELTA, BLK_LEVEL_MERGED);
    for (size_t i = 0; i < N; i++)
        v[i] = 1.0 + 0x1p-40 * (double)i * (double)i / 3;
    EXPECT(BLK_CODEC_BITS_DOD, BLK_LEVEL_MERGED);
    for (size_t i = 0; i < N; i++)
        v[i] = gen_below(&state, 2) ? M_PI : -M_PI;
    EXPECT(BLK_CODEC_XOR, BLK_LEVEL_MERGED);
    for (size_t i = 0; i < 4; i++)
        steps[i] = gen_unit(&state);
    for (size_t i = 0; i < N; i++)
        v[i] = steps[gen_below(&state, 4)];
    EXPECT(BLK_CODEC_ZSTD, BLK_LEVEL_SEALED);
    assert_true(codec_for(v, N, BLK_LEVEL_MERGED) != BLK_CODEC_ZSTD);
    for (size_t i = 0; i < N; i++)
        v[i] = (i == 0 ? 700 : v[i - 1]) +
               (double)(gen_below(&state, 20) + gen_below(&state, 20) + gen_below(&state, 20)) - 28;
    v[17] = ps_double_of(MDL_STALE_NAN_BITS);
    EXPECT(BLK_CODEC_DEC_CODED, BLK_LEVEL_SEALED);
    assert_true(codec_for(v, N, BLK_LEVEL_MERGED) != BLK_CODEC_DEC_CODED);
    assert_true(codec_for(v, 200, BLK_LEVEL_SEALED) != BLK_CODEC_DEC_CODED);
    for (size_t i = 0; i < N; i++)
        v[i] = (i == 0 ? 1 : v[i - 1]) + (gen_unit(&state) + gen_unit(&state) + gen_unit(&state)) *
               0x1p-40 / 3;
    EXPECT(BLK_CODEC_BITS_CODED, BLK_LEVEL_SEALED);
    seen[BLK_CODEC_DEC_RELATIVE] = true; /* takes two series: test_relative.c */
    for (unsigned id = 1; id < BLK_CODEC_END; id++)
        assert_true(seen[id]);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_columns),
        cmocka_unit_test(test_flush),
        cmocka_unit_test(test_every_codec_is_chosen),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
