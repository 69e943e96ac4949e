/*
 * test_merge_sparse.c - merges of many inputs that share few series, and merges of a range of series,
 * against the stable sort of all points: of flush blocks, which are scattered, and of columns, where
 * the merge goes over to its heap.
 */
#include "tests/unit/support.h"

#include "lib/block/block.h"
#include "tests/unit/block/blockgen.h"

enum { METRIC = 7, INPUTS = 900, PER_INPUT = 3, MAX_POINTS = INPUTS * PER_INPUT };

typedef struct result {
    blk_point points[MAX_POINTS];
    size_t n;
} result;

static ps_status
collect(void *self, ps_str data, const blk_meta *meta, ps_err *err)
{
    result *res = self;
    blk_reader *r;

    PS_TRY(blk_reader_open(&ps_malloc, data, meta, &r, err));
    for (uint32_t i = 0; i < blk_reader_n_series(r); i++) {
        blk_series s;
        int64_t t[64];
        double v[64];
        size_t n;

        blk_reader_series(r, i, &s);
        assert_true(s.n_samples <= PS_ARRAY_LEN(t));
        assert_int_equal(blk_reader_decode(r, i, INT64_MIN, INT64_MAX, t, v, &n, err), PS_OK);
        for (size_t k = 0; k < n; k++)
            res->points[res->n++] = (blk_point){.series_id = s.series_id,
                                                .t_ms = t[k],
                                                .value = v[k],
                                                .metric_id = METRIC};
    }
    blk_reader_free(r);
    return PS_OK;
}

typedef struct single {
    ps_buf *bytes;
    blk_meta *meta;
} single;

static ps_status
keep_one(void *self, ps_str data, const blk_meta *meta, ps_err *err)
{
    single *to = self;
    (void)err;

    assert_int_equal(to->bytes->len, 0);
    ps_buf_add_str(to->bytes, data);
    *to->meta = *meta;
    return PS_OK;
}

/* Makes a flush block one of columns. */
static void
into_columns(ps_buf *bytes, blk_meta *meta)
{
    const blk_merge_opts o = {.metric_id = METRIC,
                              .out_level = BLK_LEVEL_MERGED,
                              .from_ms = INT64_MIN,
                              .to_ms = INT64_MAX};
    ps_buf columns;
    single to = {&columns, meta};
    blk_merge_stats stats;
    blk_reader *r;
    ps_err err;

    ps_buf_init(&columns, &ps_malloc);
    assert_int_equal(blk_reader_open(&ps_malloc, ps_buf_str(bytes), meta, &r, &err), PS_OK);
    assert_int_equal(blk_merge(&ps_malloc, &r, 1, &o, keep_one, &to, NULL, &stats, &err), PS_OK);
    blk_reader_free(r);
    ps_buf_done(bytes);
    *bytes = columns;
    assert_int_equal(meta->format, BLK_FORMAT_COLUMNS);
}

static void
one_round(uint64_t *state, bool columns, uint64_t n_series, int64_t series_lo, int64_t series_hi)
{
    static blk_point all[MAX_POINTS], scratch[MAX_POINTS];
    static result res;
    static ps_buf bytes[INPUTS];
    static blk_reader *readers[INPUTS];
    blk_dup_stats ignored = {0};
    blk_merge_stats stats;
    size_t n_all = 0;
    ps_err err;

    for (size_t i = 0; i < INPUTS; i++) {
        blk_point p[PER_INPUT], tmp[PER_INPUT];
        blk_meta meta;

        for (size_t k = 0; k < PER_INPUT; k++)
            p[k] = (blk_point){.series_id = 1 + (int64_t)gen_below(state, n_series),
                               .t_ms = (int64_t)gen_below(state, 20) * 1000,
                               .value = (double)i,
                               .metric_id = METRIC};
        size_t n = blk_points_sort_unique(p, tmp, PER_INPUT, &ignored);
        ps_buf_init(&bytes[i], &ps_malloc);
        assert_int_equal(blk_encode_flush(&ps_malloc, 0, METRIC, p, n, &bytes[i], &meta, &err),
                         PS_OK);
        if (columns)
            into_columns(&bytes[i], &meta);
        assert_int_equal(blk_reader_open(&ps_malloc, ps_buf_str(&bytes[i]), &meta, &readers[i],
                                         &err),
                         PS_OK);
        for (size_t k = 0; k < n; k++) {
            if ((series_lo == 0 && series_hi == 0) ||
                (p[k].series_id >= series_lo && p[k].series_id <= series_hi))
                all[n_all++] = p[k];
        }
    }
    const size_t n_in = n_all;
    n_all = blk_points_sort_unique(all, scratch, n_all, &ignored);
    blk_merge_opts o = {.tenant_id = 0,
                        .metric_id = METRIC,
                        .out_level = BLK_LEVEL_MERGED,
                        .from_ms = INT64_MIN,
                        .to_ms = INT64_MAX,
                        .series_lo = series_lo,
                        .series_hi = series_hi,
                        .target_samples = 500};
    res.n = 0;
    assert_int_equal(blk_merge(&ps_malloc, readers, INPUTS, &o, collect, &res, NULL, &stats, &err),
                     PS_OK);
    assert_int_equal(stats.samples_in, n_in);
    assert_int_equal(res.n, n_all);
    for (size_t i = 0; i < n_all; i++) {
        assert_int_equal(res.points[i].series_id, all[i].series_id);
        assert_int_equal(res.points[i].t_ms, all[i].t_ms);
        assert_true(res.points[i].value == all[i].value);
    }
    for (size_t i = 0; i < INPUTS; i++) {
        blk_reader_free(readers[i]);
        ps_buf_done(&bytes[i]);
    }
}

static void
test_few_shared_series(void **unused)
{
    uint64_t state = 3;

    (void)unused;
    for (unsigned round = 0; round < 12; round++) {
        one_round(&state, round % 2 != 0, 100000, 0, 0); /* nearly none shared */
        one_round(&state, round % 2 != 0, 300, 0, 0);
        one_round(&state, round % 2 != 0, 3, 0, 0);
    }
}

static void
test_series_range(void **unused)
{
    uint64_t state = 4;

    (void)unused;
    for (unsigned round = 0; round < 8; round++) {
        one_round(&state, round % 2 != 0, 300, 100, 200);
        one_round(&state, round % 2 != 0, 300, 1, 1);
        one_round(&state, round % 2 != 0, 300, 290, INT64_MAX);
        one_round(&state, round % 2 != 0, 300, INT64_MIN, 10);
        one_round(&state, round % 2 != 0, 300, 400, 500); /* none there */
        one_round(&state, round % 2 != 0, 30000, 10000, 20000);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_few_shared_series),
        cmocka_unit_test(test_series_range),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
