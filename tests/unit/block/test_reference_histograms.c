/*
 * test_reference_histograms.c - the production decoder against the reference decoder, over random
 * blocks of histograms and of start timestamps, of both formats.
 */
#include "tests/unit/support.h"

#include "tests/unit/block/histgen.h"
#include "tests/unit/block/reference_decoder.h"

enum { MAX_SERIES = 12, MAX_N = 300, METRIC = 7 };

/* Populated buckets of a side are those of the reference. */
static void
compare_side(const ref_histogram *ref, unsigned side, const hst_side *got)
{
    uint32_t at = 0, span = 0, in_span = 0;
    int64_t index = 0;

    for (size_t k = 0; k < ref->n[side]; k++) {
        if (ps_double_of(ref->numbers[side][k]) == 0)
            continue;
        assert_true(at < got->n_counts);
        for (; in_span == 0; span++) {
            index += got->spans[span].offset;
            in_span = got->spans[span].length;
        }
        assert_int_equal(ref->index[side][k], index);
        assert_int_equal(ref->numbers[side][k], ps_bits_of(got->counts[at]));
        at++;
        index++;
        in_span--;
    }
    assert_int_equal(at, got->n_counts);
}

static void
compare_histogram(const ref_histogram *ref, const hst_hist *h)
{
    assert_int_equal((int64_t)ref->schema, h->schema);
    assert_int_equal(ref->integer, h->integer);
    assert_int_equal(ref->hint, h->hint);
    assert_int_equal(ref->count, ps_bits_of(h->count));
    assert_int_equal(ref->zero_count, ps_bits_of(h->zero_count));
    assert_int_equal(ref->sum, ps_bits_of(h->sum));
    assert_int_equal(ref->zero_threshold, ps_bits_of(h->zero_threshold));
    assert_int_equal(ref->n_bounds, h->n_bounds);
    for (size_t i = 0; i < ref->n_bounds; i++)
        assert_int_equal(ref->bounds[i], ps_bits_of(h->bounds[i]));
    compare_side(ref, 0, &h->positive);
    compare_side(ref, 1, &h->negative);
}

static void
compare(ps_str data, const blk_meta *meta)
{
    ref_block ref;
    blk_bench *b = blk_bench_new(&ps_malloc);
    blk_reader *r;
    ps_err err;
    size_t at = 0;

    assert_true(ref_decode((const uint8_t *)data.ptr, data.len, &ref));
    assert_int_equal(ref.kind, meta->kind);
    assert_int_equal(blk_reader_open(&ps_malloc, data, meta, &r, &err), PS_OK);
    for (uint32_t i = 0; i < blk_reader_n_series(r); i++) {
        static int64_t t[MAX_N], starts[MAX_N];
        static double v[MAX_N];
        static const hst_hist *h[MAX_N];
        ps_arena arena;
        blk_series s;
        blk_run run = {r, i, 1};
        blk_samples to = {
            .t_ms = t, .start_ms = starts, .values = v, .histograms = h, .arena = &arena};
        ps_arena_init(&arena, &ps_malloc, 0);
        blk_reader_series(r, i, &s);
        assert_int_equal(blk_runs_read(b, &run, 1, INT64_MIN, INT64_MAX, &to, &err), PS_OK);
        for (size_t k = 0; k < to.n; k++, at++) {
            const ref_sample *want = &ref.samples[at];
            assert_true(at < ref.n);
            assert_int_equal(want->metric_id, s.metric_id);
            assert_int_equal(want->series_id, s.series_id);
            assert_int_equal(want->t, t[k]);
            assert_int_equal(want->start, starts[k]);
            assert_int_equal(want->h != NULL, h[k] != NULL);
            if (h[k] == NULL)
                assert_int_equal(want->bits, ps_bits_of(v[k]));
            else
                compare_histogram(want->h, h[k]);
        }
        ps_arena_done(&arena);
    }
    assert_int_equal(at, ref.n);
    blk_reader_free(r);
    blk_bench_free(b);
    ref_free(&ref);
}

typedef struct series {
    int64_t t[MAX_N], starts[MAX_N];
    double v[MAX_N];
    const hst_hist *h[MAX_N];
    size_t n;
} series;

static void
make_series(uint64_t *state, ps_arena *arena, series *s, size_t max)
{
    s->n = 1 + gen_below(state, max);
    gen_fill_times(state, (gen_times)gen_below(state, GEN_TIMES_END), s->t, s->n);
    gen_fill_histograms(state, (gen_histograms)gen_below(state, GEN_HISTOGRAMS_END), arena, s->h,
                        s->n);
    gen_fill_starts(state, (unsigned)gen_below(state, GEN_STARTS_END), s->t, s->starts, s->n);
    gen_fill_values(state, (gen_values)gen_below(state, GEN_VALUES_END), s->v, s->n);
}

static void
columns_mean_what_the_description_says(void **unused)
{
    static series s;
    uint64_t state = 41;
    ps_err err;

    (void)unused;
    for (unsigned round = 0; round < 60; round++) {
        const bool floats = round % 4 == 3;
        blk_writer_opts o = {1, METRIC, 1 + round % 2, floats ? 0 : BLK_KIND_HISTOGRAM};
        blk_writer *w = blk_writer_new(&ps_malloc, &o);
        ps_arena arena;
        ps_buf out;
        blk_meta meta;
        ps_buf_init(&out, &ps_malloc);
        ps_arena_init(&arena, &ps_malloc, 0);
        for (int64_t id = (int64_t)gen_below(&state, MAX_SERIES); id >= 0; id--) {
            make_series(&state, &arena, &s, round % 3 == 0 ? MAX_N : 20);
            const int64_t *starts = round % 5 == 0 ? NULL : s.starts;
            assert_int_equal(floats
                                 ? blk_writer_add_started(w, 100 - id, s.t, starts, s.v, s.n, &err)
                                 : blk_writer_add_histograms(w, 100 - id, s.t, starts, s.h, s.n,
                                                             &err),
                             PS_OK);
        }
        assert_int_equal(blk_writer_finish(w, &out, &meta, &err), PS_OK);
        compare(ps_buf_str(&out), &meta);
        blk_writer_free(w);
        ps_buf_done(&out);
        ps_arena_done(&arena);
    }
}

static void
flushes_mean_what_the_description_says(void **unused)
{
    static series s;
    static blk_point p[MAX_SERIES * 5 * 8];
    uint64_t state = 42;
    ps_err err;

    (void)unused;
    for (unsigned round = 0; round < 150; round++) {
        const bool floats = round % 4 == 3, packed = round % 2;
        ps_arena arena;
        ps_buf out;
        blk_meta meta;
        size_t n = 0;
        ps_buf_init(&out, &ps_malloc);
        ps_arena_init(&arena, &ps_malloc, 0);
        for (int32_t m = 0; m < (packed ? 5 : 1); m++) {
            for (int64_t id = (int64_t)gen_below(&state, MAX_SERIES); id >= 0; id--) {
                make_series(&state, &arena, &s, 8);
                for (size_t i = 0; i < s.n; i++) {
                    p[n] = (blk_point){.metric_id = METRIC + m * MDL_BUCKETS,
                                       .series_id = 100 - id,
                                       .t_ms = s.t[i],
                                       .start_ms = round % 5 == 0 ? 0 : s.starts[i]};
                    if (floats)
                        p[n].value = s.v[i];
                    else
                        p[n].histogram = s.h[i];
                    n++;
                }
            }
        }
        assert_int_equal((floats ? blk_encode_flush : blk_encode_flush_histograms)(
                             &ps_malloc, 1, packed ? mdl_bucket(METRIC) : METRIC, p, n, &out, &meta,
                             &err),
                         PS_OK);
        compare(ps_buf_str(&out), &meta);
        ps_buf_done(&out);
        ps_arena_done(&arena);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(columns_mean_what_the_description_says),
        cmocka_unit_test(flushes_mean_what_the_description_says),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
