/*
 * test_histograms.c - histograms and start timestamps through both formats and back: every kind of
 * series, whole and in parts, eagerly, lazily and by several benches.
 */
#include "tests/unit/support.h"

#include "tests/unit/block/histgen.h"

typedef struct input { /* points of a flush, sorted */
    ps_arena arena;
    blk_point *points;
    size_t n;
} input;

/* Series of every kind, some per metric, 1 to max_samples samples each. */
static void
make_input(input *in, uint64_t *state, size_t n_metrics, size_t n_series, size_t max_samples,
           unsigned starts)
{
    int64_t *t = malloc(max_samples * sizeof *t), *start = malloc(max_samples * sizeof *start);
    const hst_hist **h = malloc(max_samples * sizeof *h);

    ps_arena_init(&in->arena, &ps_malloc, 0);
    in->points = calloc(n_metrics * n_series * max_samples, sizeof *in->points);
    in->n = 0;
    assert_true(t != NULL && h != NULL && start != NULL && in->points != NULL);
    for (size_t m = 0; m < n_metrics; m++) {
        for (size_t s = 0; s < n_series; s++) {
            size_t n = 1 + gen_below(state, max_samples);
            gen_fill_times(state, (gen_times)gen_below(state, GEN_TIMES_END), t, n);
            gen_fill_histograms(state, (gen_histograms)((m + s) % GEN_HISTOGRAMS_END), &in->arena,
                                h, n);
            gen_fill_starts(state,
                            starts < GEN_STARTS_END ? starts : (unsigned)(s % GEN_STARTS_END), t,
                            start, n);
            for (size_t i = 0; i < n; i++)
                in->points[in->n++] = (blk_point){.metric_id = 64 + (int32_t)m * MDL_BUCKETS,
                                                  .series_id = 100 + (int64_t)s * 3,
                                                  .t_ms = t[i],
                                                  .histogram = h[i],
                                                  .start_ms = start[i]};
        }
    }
    free(t);
    free(start);
    free(h);
}

static void
free_input(input *in)
{
    ps_arena_done(&in->arena);
    free(in->points);
}

/* Samples lo..lo + n of series i are those points. */
static void
check_part(blk_bench *b, const blk_reader *r, uint32_t i, const blk_point *want, size_t lo,
           size_t n)
{
    ps_arena arena;
    ps_err err = {0};
    const hst_hist **h = malloc((n + 1) * sizeof *h);
    int64_t *starts = malloc((n + 1) * sizeof *starts);

    assert_true(h != NULL && starts != NULL);
    ps_arena_init(&arena, &ps_malloc, 0);
    assert_int_equal(blk_bench_histograms(b, r, i, lo, n, &arena, h, &err), PS_OK);
    assert_int_equal(blk_bench_starts(b, r, i, lo, n, starts, &err), PS_OK);
    for (size_t k = 0; k < n; k++) {
        check_histogram(h[k], want[lo + k].histogram);
        assert_int_equal(starts[k], want[lo + k].start_ms);
    }
    ps_arena_done(&arena);
    free(h);
    free(starts);
}

static void
check_series(blk_bench *b, const blk_reader *r, uint32_t i, const blk_point *want, size_t n)
{
    blk_series s;
    size_t lo, got;
    ps_err err = {0};
    int64_t *t = malloc(n * sizeof *t);

    assert_non_null(t);
    blk_reader_series(r, i, &s);
    assert_int_equal(s.series_id, want[0].series_id);
    assert_int_equal(s.metric_id, want[0].metric_id);
    assert_int_equal(s.n_samples, n);
    assert_false(s.last_known);
    assert_int_equal(blk_bench_times(b, r, i, INT64_MIN, INT64_MAX, t, &lo, &got, &err), PS_OK);
    assert_int_equal(got, n);
    for (size_t k = 0; k < n; k++) {
        assert_int_equal(t[k], want[k].t_ms);
        assert_true(want[k].start_ms == 0 || s.started);
    }
    check_part(b, r, i, want, 0, n);
    check_part(b, r, i, want, n / 3, n - n / 3);
    check_part(b, r, i, want, n / 4, (n + 1) / 2);
    check_part(b, r, i, want, n - 1, 1);
    check_part(b, r, i, want, n, 0);
    free(t);
}

/* Every series of the block is that of the points, in order. */
static void
check_block(const blk_reader *r, const blk_point *p, size_t n)
{
    blk_bench *b = blk_bench_new(&ps_malloc);
    uint32_t i = 0;

    assert_non_null(b);
    for (size_t at = 0, end; at < n; at = end, i++) {
        for (end = at + 1;
             end < n && p[end].series_id == p[at].series_id && p[end].metric_id == p[at].metric_id;)
            end++;
        check_series(b, r, i, p + at, end - at);
    }
    assert_int_equal(i, blk_reader_n_series(r));
    blk_bench_free(b);
}

static void
check_flush(const input *in, int32_t row)
{
    ps_buf out;
    blk_meta m;
    ps_err err = {0};
    blk_reader *r;

    ps_buf_init(&out, &ps_malloc);
    assert_int_equal(blk_encode_flush_histograms(&ps_malloc, 1, row, in->points, in->n, &out, &m,
                                                 &err),
                     PS_OK);
    assert_int_equal(m.kind, BLK_KIND_HISTOGRAM);
    char *copy = test_exact_copy(out.ptr, out.len);
    assert_int_equal(blk_reader_open(&ps_malloc, (ps_str){copy, out.len}, &m, &r, &err), PS_OK);
    check_block(r, in->points, in->n);
    blk_reader_free(r);
    assert_int_equal(blk_reader_open_lazy(&ps_malloc, (ps_str){copy, out.len}, &m, &r, &err),
                     PS_OK);
    for (uint32_t i = blk_reader_n_series(r); i-- > 0;) {
        blk_series s;
        blk_reader_series(r, i, &s);
        assert_int_equal(blk_reader_prepare(r, s.metric_id, &err), PS_OK);
    }
    check_block(r, in->points, in->n);
    blk_reader_free(r);
    free(copy);
    ps_buf_done(&out);
}

static void
a_flush_of_histograms_comes_back(void **unused)
{
    uint64_t state = 1;

    (void)unused;
    for (unsigned round = 0; round < 40; round++) {
        input in;
        make_input(&in, &state, 1, 1 + round, 1 + round % 7, round % (GEN_STARTS_END + 1));
        check_flush(&in, 64);
        free_input(&in);
    }
}

static void
a_packed_flush_of_histograms_comes_back(void **unused)
{
    uint64_t state = 2;

    (void)unused;
    for (unsigned round = 0; round < 20; round++) {
        input in;
        make_input(&in, &state, 1 + round % 5, 1 + round / 2, 3, round % (GEN_STARTS_END + 1));
        check_flush(&in, mdl_bucket(64));
        free_input(&in);
    }
}

static void
check_columns(const input *in, int16_t level)
{
    blk_writer_opts o = {.tenant_id = 1,
                         .metric_id = 64,
                         .level = level,
                         .kind = BLK_KIND_HISTOGRAM};
    blk_writer *w = blk_writer_new(&ps_malloc, &o);
    ps_buf out;
    blk_meta m;
    ps_err err = {0};
    blk_reader *r;
    int64_t *t = malloc(in->n * sizeof *t), *start = malloc(in->n * sizeof *start);
    const hst_hist **h = malloc(in->n * sizeof *h);

    assert_true(w != NULL && t != NULL && start != NULL && h != NULL);
    ps_buf_init(&out, &ps_malloc);
    for (size_t at = 0, n; at < in->n; at += n) {
        const blk_point *p = in->points + at;
        for (n = 0; at + n < in->n && p[n].series_id == p->series_id; n++) {
            t[n] = p[n].t_ms;
            start[n] = p[n].start_ms;
            h[n] = p[n].histogram;
        }
        assert_int_equal(blk_writer_add_histograms(w, p->series_id, t, start, h, n, &err), PS_OK);
    }
    assert_int_equal(blk_writer_finish(w, &out, &m, &err), PS_OK);
    assert_int_equal(m.kind, BLK_KIND_HISTOGRAM);
    char *copy = test_exact_copy(out.ptr, out.len);
    assert_int_equal(blk_reader_open(&ps_malloc, (ps_str){copy, out.len}, &m, &r, &err), PS_OK);
    check_block(r, in->points, in->n);
    blk_reader_free(r);
    size_t head = blk_head_bytes((ps_str){copy, out.len});
    char *prefix = test_exact_copy(copy, head);
    assert_int_equal(blk_reader_open_head(&ps_malloc, (ps_str){prefix, head}, &m, &r, &err), PS_OK);
    assert_int_equal(blk_reader_n_series(r), m.n_series);
    blk_reader_free(r);
    free(prefix);
    free(copy);
    free(t);
    free(start);
    free(h);
    ps_buf_done(&out);
    blk_writer_free(w);
}

static void
columns_of_histograms_come_back(void **unused)
{
    uint64_t state = 3;

    (void)unused;
    for (unsigned round = 0; round < 12; round++) {
        input in;
        make_input(&in, &state, 1, 10, round < 8 ? 40 : 700, round % (GEN_STARTS_END + 1));
        check_columns(&in, round % 2 ? BLK_LEVEL_SEALED : BLK_LEVEL_MERGED);
        free_input(&in);
    }
}

/* ---- start timestamps of floats ------------------------------------------------------------- */

enum { FLOAT_SERIES = 8, FLOAT_SAMPLES = 300 };

static void
check_starts(const blk_reader *r, const int64_t *want)
{
    blk_bench *b = blk_bench_new(&ps_malloc);
    int64_t got[FLOAT_SAMPLES];
    ps_err err = {0};

    assert_non_null(b);
    for (uint32_t i = 0; i < FLOAT_SERIES; i++) {
        for (size_t lo = 0; lo < FLOAT_SAMPLES; lo += 77) {
            assert_int_equal(blk_bench_starts(b, r, i, lo, FLOAT_SAMPLES - lo, got, &err), PS_OK);
            assert_memory_equal(got, want + i * FLOAT_SAMPLES + lo,
                                (FLOAT_SAMPLES - lo) * sizeof *got);
        }
    }
    blk_bench_free(b);
}

static void
start_timestamps_of_floats_come_back(void **unused)
{
    static int64_t t[FLOAT_SERIES * FLOAT_SAMPLES], start[FLOAT_SERIES * FLOAT_SAMPLES];
    static double v[FLOAT_SERIES * FLOAT_SAMPLES];
    static blk_point points[FLOAT_SERIES * FLOAT_SAMPLES];
    uint64_t state = 4;
    blk_meta m;
    ps_err err = {0};
    blk_reader *r;
    ps_buf out;

    (void)unused;
    for (unsigned round = 0; round < 12; round++) {
        blk_writer_opts o = {1, 64, round % 2 ? BLK_LEVEL_SEALED : BLK_LEVEL_MERGED, 0};
        blk_writer *w = blk_writer_new(&ps_malloc, &o);
        assert_non_null(w);
        ps_buf_init(&out, &ps_malloc);
        for (size_t s = 0; s < FLOAT_SERIES; s++) {
            const size_t at = s * FLOAT_SAMPLES;
            gen_fill_times(&state, (gen_times)gen_below(&state, GEN_EXTREME_TIMES), t + at,
                           FLOAT_SAMPLES);
            gen_fill_values(&state, GEN_COUNTER, v + at, FLOAT_SAMPLES);
            gen_fill_starts(&state, round == 11 ? 0 : (unsigned)(s + round) % GEN_STARTS_END,
                            t + at, start + at, FLOAT_SAMPLES);
            for (size_t i = at; i < at + FLOAT_SAMPLES; i++)
                points[i] = (blk_point){.metric_id = 64,
                                        .series_id = (int64_t)s,
                                        .t_ms = t[i],
                                        .value = v[i],
                                        .start_ms = start[i]};
            assert_int_equal(blk_writer_add_started(w, (int64_t)s, t + at, start + at, v + at,
                                                    FLOAT_SAMPLES, &err),
                             PS_OK);
        }
        assert_int_equal(blk_writer_finish(w, &out, &m, &err), PS_OK);
        assert_int_equal(blk_reader_open(&ps_malloc, ps_buf_str(&out), &m, &r, &err), PS_OK);
        check_starts(r, start);
        blk_reader_free(r);
        ps_buf_clear(&out);
        assert_int_equal(blk_encode_flush(&ps_malloc, 1, 64, points, PS_ARRAY_LEN(points), &out, &m,
                                          &err),
                         PS_OK);
        assert_int_equal(blk_reader_open(&ps_malloc, ps_buf_str(&out), &m, &r, &err), PS_OK);
        check_starts(r, start);
        blk_reader_free(r);
        ps_buf_done(&out);
        blk_writer_free(w);
    }
}

/* A block without start timestamps has none of their bytes. */
static void
unknown_starts_cost_nothing(void **unused)
{
    const int64_t t[] = {1000, 2000}, none[] = {0, 0}, no_time[] = {INT64_MAX, INT64_MIN};
    const double v[] = {1, 2};
    blk_writer_opts o = {1, 64, BLK_LEVEL_MERGED, 0};
    ps_buf out[3];
    blk_meta m;
    ps_err err = {0};

    (void)unused;
    for (unsigned i = 0; i < 3; i++) {
        blk_writer *w = blk_writer_new(&ps_malloc, &o);
        ps_buf_init(&out[i], &ps_malloc);
        const int64_t *starts = i == 0 ? NULL : i == 1 ? none : no_time;
        assert_int_equal(blk_writer_add_started(w, 7, t, starts, v, 2, &err), PS_OK);
        assert_int_equal(blk_writer_finish(w, &out[i], &m, &err), PS_OK);
        assert_int_equal(out[i].len, out[0].len);
        assert_memory_equal(out[i].ptr, out[0].ptr, out[0].len);
        blk_writer_free(w);
    }
    for (unsigned i = 0; i < 3; i++)
        ps_buf_done(&out[i]);
}

/* ---- what is asked for must be there -------------------------------------------------------- */

static void
floats_and_histograms_are_not_taken_for_each_other(void **unused)
{
    const hst_hist h = {.schema = 3, .count = 0, .integer = true};
    blk_point p = {.metric_id = 64, .series_id = 1, .t_ms = 1000, .histogram = &h};
    blk_bench *b = blk_bench_new(&ps_malloc);
    const hst_hist *got;
    double v;
    ps_arena arena;
    ps_buf out;
    blk_meta m;
    blk_reader *r;
    ps_err err = {0};

    (void)unused;
    ps_buf_init(&out, &ps_malloc);
    ps_arena_init(&arena, &ps_malloc, 0);
    assert_int_equal(blk_encode_flush_histograms(&ps_malloc, 1, 64, &p, 1, &out, &m, &err), PS_OK);
    assert_int_equal(blk_reader_open(&ps_malloc, ps_buf_str(&out), NULL, &r, &err), PS_OK);
    assert_int_equal(blk_bench_values(b, r, 0, 0, 1, &v, &err), PS_EINVAL);
    assert_int_equal(blk_reader_values(r, 0, 0, 1, &v, &err), PS_EINVAL);
    blk_reader_free(r);
    ps_buf_clear(&out);
    p.value = 1;
    assert_int_equal(blk_encode_flush(&ps_malloc, 1, 64, &p, 1, &out, &m, &err), PS_OK);
    assert_int_equal(blk_reader_open(&ps_malloc, ps_buf_str(&out), NULL, &r, &err), PS_OK);
    assert_int_equal(blk_bench_histograms(b, r, 0, 0, 1, &arena, &got, &err), PS_EINVAL);
    blk_reader_free(r);
    ps_buf_done(&out);
    ps_arena_done(&arena);
    blk_bench_free(b);
}

static void
a_histogram_with_too_many_buckets_is_refused(void **unused)
{
    static double counts[BLK_MAX_BUCKETS + 1];
    hst_span span = {0, BLK_MAX_BUCKETS + 1};
    hst_hist h = {.positive = {&span, 1, BLK_MAX_BUCKETS + 1, counts}};
    blk_point p = {.metric_id = 64, .series_id = 1, .t_ms = 1000, .histogram = &h};
    ps_buf out;
    blk_meta m;
    ps_err err = {0};

    (void)unused;
    for (size_t i = 0; i < PS_ARRAY_LEN(counts); i++)
        counts[i] = 1;
    ps_buf_init(&out, &ps_malloc);
    assert_int_equal(blk_encode_flush_histograms(&ps_malloc, 1, 64, &p, 1, &out, &m, &err),
                     PS_ELIMIT);
    assert_int_equal(out.len, 0);
    counts[5] = 0; /* empty ones are not stored */
    assert_int_equal(blk_encode_flush_histograms(&ps_malloc, 1, 64, &p, 1, &out, &m, &err), PS_OK);
    ps_buf_done(&out);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_flush_of_histograms_comes_back),
        cmocka_unit_test(a_packed_flush_of_histograms_comes_back),
        cmocka_unit_test(columns_of_histograms_come_back),
        cmocka_unit_test(start_timestamps_of_floats_come_back),
        cmocka_unit_test(unknown_starts_cost_nothing),
        cmocka_unit_test(floats_and_histograms_are_not_taken_for_each_other),
        cmocka_unit_test(a_histogram_with_too_many_buckets_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
