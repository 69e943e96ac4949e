/*
 * test_histogram_rules.c - what counts as the same histogram, what start timestamps cost, and how much
 * memory a merge of histograms has at once.
 */
#include "tests/unit/support.h"

#include "tests/unit/block/histgen.h"

enum { METRIC = 7 };

/* ---- duplicates ----------------------------------------------------------------------------- */

static const double one_two[] = {1, 2}, one_none_two[] = {1, 0, 2}, one_three[] = {1, 3};
static const hst_span two[] = {{0, 1}, {1, 1}}, three[] = {{0, 3}};

static void
the_same_histogram_again_is_a_duplicate(void **unused)
{
    const hst_hist base = {.schema = 1, .count = 3, .sum = 4, .positive = {two, 2, 2, one_two}};
    hst_hist wide = base, other = base, hinted = base, later = base;
    const hst_hist marker = {.sum = ps_double_of(MDL_STALE_NAN_BITS)};
    const hst_hist marker_of_3 = {.schema = 3, .sum = ps_double_of(MDL_STALE_NAN_BITS)};
    wide.positive = (hst_side){three, 1, 3, one_none_two};
    other.positive.counts = one_three;
    hinted.hint = HST_GAUGE;
    later.sum = 5;
    const struct {
        const hst_hist *first, *second;
        bool duplicate;
    } cases[] = {
        {&base, &base, true},          {&base, &wide, true},   {&base, &other, false},
        {&base, &hinted, false},       {&base, &later, false}, {&base, &marker, false},
        {&marker, &marker_of_3, true},
    };

    (void)unused;
    for (size_t i = 0; i < PS_ARRAY_LEN(cases); i++) {
        blk_point p[3] = {
            {.metric_id = METRIC, .series_id = 1, .t_ms = 2, .histogram = cases[i].first},
            {.metric_id = METRIC, .series_id = 1, .t_ms = 1, .histogram = &base},
            {.metric_id = METRIC, .series_id = 1, .t_ms = 2, .histogram = cases[i].second}};
        blk_point scratch[3];
        blk_dup_stats stats = {0};
        assert_int_equal(blk_histograms_sort_unique(p, scratch, 3, &stats), 2);
        assert_ptr_equal(p[0].histogram, &base);
        assert_ptr_equal(p[1].histogram, cases[i].first);
        assert_int_equal(stats.duplicates, cases[i].duplicate);
        assert_int_equal(stats.conflicts, !cases[i].duplicate);
    }
}

/* ---- what start timestamps cost ------------------------------------------------------------- */

enum { SERIES = 100, SAMPLES = 200 };

static size_t
columns_size(unsigned starts)
{
    blk_writer_opts o = {1, METRIC, BLK_LEVEL_MERGED, 0};
    blk_writer *w = blk_writer_new(&ps_malloc, &o);
    int64_t t[SAMPLES], start[SAMPLES];
    double v[SAMPLES];
    blk_meta m;
    ps_buf out;

    ps_buf_init(&out, &ps_malloc);
    for (int s = 0; s < SERIES; s++) {
        for (int i = 0; i < SAMPLES; i++) {
            t[i] = INT64_C(1700000000000) + i * 15000;
            start[i] = starts == 1 ? INT64_C(1690000000000) + s / 10 * 7654321 : t[i] - 15000;
            v[i] = i * 3 + s;
        }
        assert_int_equal(blk_writer_add_started(w, s, t, starts == 0 ? NULL : start, v, SAMPLES,
                                                NULL),
                         PS_OK);
    }
    assert_int_equal(blk_writer_finish(w, &out, &m, NULL), PS_OK);
    blk_writer_free(w);
    size_t size = out.len;
    ps_buf_done(&out);
    return size;
}

static size_t
flush_size(unsigned starts)
{
    static blk_point p[SERIES * 4];
    blk_meta m;
    ps_buf out;

    ps_buf_init(&out, &ps_malloc);
    for (int i = 0; i < SERIES * 4; i++) {
        int64_t t = INT64_C(1700000000000) + i % 4 * 15000 + i / 4 % 7 * 1234;
        p[i] = (blk_point){.metric_id = METRIC, .series_id = i / 4, .t_ms = t, .value = i * 1.7};
        p[i].start_ms = starts == 0 ? 0 : starts == 1 ? INT64_C(1690000000000) : t - 15000;
    }
    assert_int_equal(blk_encode_flush(&ps_malloc, 1, METRIC, p, PS_ARRAY_LEN(p), &out, &m, NULL),
                     PS_OK);
    size_t size = out.len;
    ps_buf_done(&out);
    return size;
}

static void
start_timestamps_that_follow_cost_little(void **unused)
{
    (void)unused;
    assert_true(columns_size(1) <= columns_size(0) + SERIES * 3);
    assert_true(columns_size(2) <= columns_size(0) + SERIES * 2 + 8);
    assert_true(flush_size(1) <= flush_size(0) + 16);
    assert_true(flush_size(2) <= flush_size(0) + 16);
}

/* ---- memory of a merge ---------------------------------------------------------------------- */

static ps_status
swallow(void *self, ps_str data, const blk_meta *meta, ps_err *err)
{
    (void)self, (void)data, (void)meta, (void)err;
    return PS_OK;
}

/* Peak of merging n series with itself. */
static size_t
merge_peak(size_t n)
{
    enum { N = 100 };
    blk_writer_opts wo = {1, METRIC, BLK_LEVEL_MERGED, BLK_KIND_HISTOGRAM};
    blk_writer *w = blk_writer_new(&ps_malloc, &wo);
    int64_t t[N];
    const hst_hist *h[N];
    uint64_t state = 1;
    ps_arena arena;
    ps_buf out;
    blk_meta m;
    blk_reader *r[2];
    blk_merge_stats stats;

    ps_arena_init(&arena, &ps_malloc, 0);
    ps_buf_init(&out, &ps_malloc);
    gen_fill_times(&state, GEN_GRID, t, N);
    gen_fill_histograms(&state, GEN_HIST_STEADY, &arena, h, N);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(blk_writer_add_histograms(w, (int64_t)i, t, NULL, h, N, NULL), PS_OK);
    assert_int_equal(blk_writer_finish(w, &out, &m, NULL), PS_OK);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(blk_reader_open(&ps_malloc, ps_buf_str(&out), &m, &r[i], NULL), PS_OK);
    test_alloc count = {0};
    ps_alloc a = test_alloc_of(&count);
    blk_merge_opts o = {.tenant_id = 1,
                        .metric_id = METRIC,
                        .out_level = BLK_LEVEL_MERGED,
                        .from_ms = INT64_MIN,
                        .to_ms = INT64_MAX,
                        .target_bytes = 1};
    assert_int_equal(blk_merge(&a, r, 2, &o, swallow, NULL, NULL, &stats, NULL), PS_OK);
    assert_int_equal(stats.samples_out, n * N);
    assert_int_equal(stats.dups.duplicates, n * N);
    test_alloc_check_empty(&count);
    for (unsigned i = 0; i < 2; i++)
        blk_reader_free(r[i]);
    blk_writer_free(w);
    ps_buf_done(&out);
    ps_arena_done(&arena);
    return count.peak_bytes;
}

static void
a_merge_has_one_series_in_memory(void **unused)
{
    (void)unused;
    assert_true(merge_peak(40) < merge_peak(2) * 3 / 2);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_histogram_again_is_a_duplicate),
        cmocka_unit_test(start_timestamps_that_follow_cost_little),
        cmocka_unit_test(a_merge_has_one_series_in_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
