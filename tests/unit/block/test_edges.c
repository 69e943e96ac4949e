/*
 * test_edges.c - exactly at the edge: the first millisecond of a day, the first and last time that a
 * database can hold, and one beyond them; integers that doubles just hold. Random tests hardly ever stand
 * there.
 */
#include "tests/unit/support.h"

#include <math.h>

#include "lib/block/internal.h"
#include "tests/unit/block/blockgen.h"

enum { METRIC = 4, TENANT = 2 };

/* ---- cuts by day ------------------------------------------------------------------------------ */

typedef struct cut_check {
    size_t n_samples, n_blocks;
    int64_t days[16]; /* of the blocks, as they came */
} cut_check;

/* Written out, for times on both sides of 1970. */
static int64_t
day_of(int64_t t_ms)
{
    int64_t day = 0;
    while ((day + 1) * 86400000 <= t_ms)
        day++;
    while (day * 86400000 > t_ms)
        day--;
    return day;
}

static ps_status
check_cut(void *self, ps_str data, const blk_meta *meta, ps_err *err)
{
    cut_check *c = self;
    (void)data, (void)err;
    assert_int_equal(day_of(meta->t_min_ms), day_of(meta->t_max_ms));
    assert_true(c->n_blocks < PS_ARRAY_LEN(c->days));
    c->days[c->n_blocks++] = day_of(meta->t_min_ms);
    c->n_samples += (size_t)meta->n_samples;
    return PS_OK;
}

/* The points as one flush block, open. */
static blk_reader *
open_block(const blk_point *p, size_t n, ps_buf *bytes)
{
    blk_meta meta;
    blk_reader *r;
    ps_err err;

    ps_buf_init(bytes, &ps_malloc);
    assert_int_equal(blk_encode_flush(&ps_malloc, TENANT, METRIC, p, n, bytes, &meta, &err), PS_OK);
    assert_int_equal(blk_reader_open(&ps_malloc, ps_buf_str(bytes), &meta, &r, &err), PS_OK);
    return r;
}

static void
test_midnight_begins_the_day(void **state)
{
    /* last of a day, midnight, first after it; before, at and after 1970 */
    static const int64_t days[] = {-2, -1, 0, 1, 2, 19675};
    blk_point p[PS_ARRAY_LEN(days) * 3];
    size_t n = 0;
    ps_buf bytes;
    blk_merge_stats stats;
    cut_check c = {0};
    ps_err err;

    (void)state;
    for (size_t i = 0; i < PS_ARRAY_LEN(days); i++)
        for (int64_t by = -1; by <= 1; by++)
            p[n++] = (blk_point){.series_id = 1,
                                 .t_ms = days[i] * 86400000 + by,
                                 .value = 1,
                                 .metric_id = METRIC};
    blk_reader *r = open_block(p, n, &bytes);
    blk_merge_opts o = {.tenant_id = TENANT,
                        .metric_id = METRIC,
                        .out_level = BLK_LEVEL_SEALED,
                        .from_ms = INT64_MIN,
                        .to_ms = INT64_MAX,
                        .cut_ms = 86400000,
                        .cut_lo_ms = -30 * INT64_C(86400000),
                        .cut_hi_ms = 30000 * INT64_C(86400000)};
    assert_int_equal(blk_merge(&ps_malloc, &r, 1, &o, check_cut, &c, NULL, &stats, &err), PS_OK);
    assert_int_equal(c.n_samples, n);
    assert_int_equal(c.n_blocks, 8); /* -3 to 2, 19674, 19675: a day once */
    for (size_t i = 1; i < c.n_blocks; i++)
        assert_true(c.days[i] > c.days[i - 1]);
    blk_reader_free(r);
    ps_buf_done(&bytes);
}

/* Cuts stop at cut_lo and cut_hi: what is outside is one block below and one above, never mixed. */
typedef struct sides {
    const blk_merge_opts *opts;
    size_t below, inside, above;
} sides;

static ps_status
check_side(void *self, ps_str data, const blk_meta *meta, ps_err *err)
{
    sides *s = self;
    (void)data, (void)err;
    bool below = meta->t_min_ms < s->opts->cut_lo_ms, above = meta->t_max_ms >= s->opts->cut_hi_ms;
    assert_false(below && meta->t_max_ms >= s->opts->cut_lo_ms);
    assert_false(above && meta->t_min_ms < s->opts->cut_hi_ms);
    *(below ? &s->below : above ? &s->above : &s->inside) += (size_t)meta->n_samples;
    return PS_OK;
}

static void
test_cuts_have_two_ends(void **state)
{
    const int64_t lo = 10 * INT64_C(86400000), hi = 12 * INT64_C(86400000);
    const int64_t times[] = {lo - 86400000, lo - 1, lo, lo + 1, hi - 1, hi, hi + 1, hi + 86400000};

    (void)state;
    for (unsigned keep = 1; keep < 1u << PS_ARRAY_LEN(times); keep++) {
        blk_point p[PS_ARRAY_LEN(times)];
        size_t n = 0, want[3] = {0};
        ps_buf bytes;
        blk_merge_stats stats;
        ps_err err;
        for (size_t i = 0; i < PS_ARRAY_LEN(times); i++) {
            if ((keep >> i & 1) == 0)
                continue;
            p[n++] = (blk_point){.series_id = 1, .t_ms = times[i], .value = 1, .metric_id = METRIC};
            want[i < 2 ? 0 : i < 5 ? 1 : 2]++;
        }
        blk_reader *r = open_block(p, n, &bytes);
        blk_merge_opts o = {.tenant_id = TENANT,
                            .metric_id = METRIC,
                            .out_level = BLK_LEVEL_SEALED,
                            .from_ms = INT64_MIN,
                            .to_ms = INT64_MAX,
                            .cut_ms = 86400000,
                            .cut_lo_ms = lo,
                            .cut_hi_ms = hi};
        sides s = {.opts = &o};
        assert_int_equal(blk_merge(&ps_malloc, &r, 1, &o, check_side, &s, NULL, &stats, &err),
                         PS_OK);
        assert_int_equal(s.below, want[0]);
        assert_int_equal(s.inside, want[1]);
        assert_int_equal(s.above, want[2]);
        blk_reader_free(r);
        ps_buf_done(&bytes);
    }
}

static void
test_a_window_is_half_open(void **state)
{
    blk_point p[] = {{.series_id = 1, .t_ms = 999, .value = 1, .metric_id = METRIC},
                     {.series_id = 1, .t_ms = 1000, .value = 2, .metric_id = METRIC},
                     {.series_id = 1, .t_ms = 1999, .value = 3, .metric_id = METRIC},
                     {.series_id = 1, .t_ms = 2000, .value = 4, .metric_id = METRIC}};
    ps_buf bytes;
    blk_merge_stats stats;
    cut_check c = {0};
    ps_err err;

    (void)state;
    blk_reader *r = open_block(p, 4, &bytes);
    blk_merge_opts o = {.tenant_id = TENANT,
                        .metric_id = METRIC,
                        .out_level = BLK_LEVEL_MERGED,
                        .from_ms = 1000,
                        .to_ms = 2000};
    assert_int_equal(blk_merge(&ps_malloc, &r, 1, &o, check_cut, &c, NULL, &stats, &err), PS_OK);
    assert_int_equal(c.n_samples, 2);

    /* reading is inclusive at both ends */
    int64_t t[4];
    double v[4];
    size_t got;
    assert_int_equal(blk_reader_decode(r, 0, 1000, 2000, t, v, &got, &err), PS_OK);
    assert_int_equal(got, 3);
    assert_true(t[0] == 1000 && t[2] == 2000);
    blk_reader_free(r);
    ps_buf_done(&bytes);
}

/* ---- the ends of time --------------------------------------------------------------------------- */

static void
test_times_of_the_header(void **state)
{
    static const struct {
        int64_t t_min, t_max;
        bool good;
    } cases[] = {
        {MDL_TIME_MIN_MS, MDL_TIME_MAX_MS, true},
        {MDL_TIME_MAX_MS, MDL_TIME_MAX_MS, true},
        {MDL_TIME_MIN_MS, MDL_TIME_MIN_MS, true},
        {MDL_TIME_MIN_MS - 1, MDL_TIME_MAX_MS, false},
        {MDL_TIME_MIN_MS, MDL_TIME_MAX_MS + 1, false},
        {0, INT64_MAX, false},
        {INT64_MIN, 0, false},
    };
    static const int16_t formats[] = {BLK_FORMAT_FLUSH, BLK_FORMAT_COLUMNS};

    (void)state;
    /* 4714-11-24 BC to the end of 294276, as timestamptz has it */
    assert_true(MDL_TIME_MIN_MS == INT64_C(-210866803200000));
    assert_true(MDL_TIME_MAX_MS == INT64_C(9224318015999999));
    for (size_t i = 0; i < PS_ARRAY_LEN(cases); i++) {
        for (size_t f = 0; f < PS_ARRAY_LEN(formats); f++) {
            blk_meta meta = {.tenant_id = TENANT,
                             .metric_id = METRIC,
                             .dist_key = mdl_dist_key(TENANT, METRIC),
                             .kind = BLK_KIND_FLOAT,
                             .format = formats[f],
                             .t_min_ms = cases[i].t_min,
                             .t_max_ms = cases[i].t_max,
                             .series_lo = 1,
                             .series_hi = 1,
                             .n_series = 1,
                             .n_samples = 1};
            blk_meta back;
            ps_buf bytes;
            ps_err err;
            ps_buf_init(&bytes, &ps_malloc);
            blk_header_write(&bytes, &meta, 0);
            ps_status status = blk_peek_meta(ps_buf_str(&bytes), &back, &err);
            assert_int_equal(status, cases[i].good ? PS_OK : PS_ECORRUPT);
            if (cases[i].good)
                assert_int_equal(blk_meta_compare(&back, &meta, &err), PS_OK);
            ps_buf_done(&bytes);
        }
    }
}

static void
test_counts_of_the_header(void **state)
{
    static const struct {
        int32_t n_series, n_samples;
        bool good;
    } cases[] = {{1, 1, true},
                 {3, 3, true},
                 {3, 2, false},
                 {0, 1, false},
                 {0, 0, false},
                 {1, (int32_t)BLK_MAX_SAMPLES, true},
                 {1, (int32_t)BLK_MAX_SAMPLES + 1, false}};

    (void)state;
    for (size_t i = 0; i < PS_ARRAY_LEN(cases); i++) {
        blk_meta meta = {.tenant_id = TENANT,
                         .metric_id = METRIC,
                         .dist_key = mdl_dist_key(TENANT, METRIC),
                         .kind = BLK_KIND_FLOAT,
                         .format = BLK_FORMAT_COLUMNS,
                         .series_lo = 1,
                         .series_hi = 9,
                         .n_series = cases[i].n_series,
                         .n_samples = cases[i].n_samples};
        blk_meta back;
        ps_buf bytes;
        ps_err err;
        ps_buf_init(&bytes, &ps_malloc);
        blk_header_write(&bytes, &meta, 0);
        assert_int_equal(blk_peek_meta(ps_buf_str(&bytes), &back, &err),
                         cases[i].good ? PS_OK : PS_ECORRUPT);
        ps_buf_done(&bytes);
    }
}

static void
test_times_of_a_writer(void **state)
{
    static const struct {
        int64_t t;
        bool good;
    } cases[] = {{MDL_TIME_MIN_MS, true},
                 {MDL_TIME_MAX_MS, true},
                 {MDL_TIME_MIN_MS - 1, false},
                 {MDL_TIME_MAX_MS + 1, false}};

    (void)state;
    for (size_t i = 0; i < PS_ARRAY_LEN(cases); i++) {
        blk_point p = {.series_id = 1, .t_ms = cases[i].t, .value = 1, .metric_id = METRIC};
        blk_writer_opts o = {TENANT, METRIC, BLK_LEVEL_SEALED, 0};
        blk_writer *w = blk_writer_new(&ps_malloc, &o);
        ps_status want = cases[i].good ? PS_OK : PS_EINVAL;
        blk_meta meta;
        ps_buf bytes;
        ps_err err;
        ps_buf_init(&bytes, &ps_malloc);
        assert_int_equal(blk_encode_flush(&ps_malloc, TENANT, METRIC, &p, 1, &bytes, &meta, &err),
                         want);
        assert_int_equal(blk_writer_add(w, 1, &p.t_ms, &p.value, 1, &err), want);
        blk_writer_free(w);
        ps_buf_done(&bytes);
    }
}

/* ---- decimals --------------------------------------------------------------------------------- */

/* Whatever the neighbours are, an integer becomes the double that dividing it alone gives. */
static void
test_decimals_of_any_size(void **unused)
{
    static const uint64_t edges[] = {
        0,
        1,
        UINT64_MAX, /* -1 */
        (UINT64_C(1) << 51) - 1,
        UINT64_C(1) << 51,
        (UINT64_C(1) << 51) + 1,
        0 - (UINT64_C(1) << 51),
        0 - (UINT64_C(1) << 51) - 1,
        0 - (UINT64_C(1) << 51) + 1,
        (UINT64_C(1) << 53) + 1,
        (uint64_t)INT64_MAX,
        (uint64_t)INT64_MIN,
        123456789,
    };
    uint64_t state = 5;

    (void)unused;
    for (unsigned round = 0; round < 20000; round++) {
        uint64_t ints[11];
        double got[12];
        size_t n = gen_below(&state, PS_ARRAY_LEN(ints) + 1);
        unsigned k = (unsigned)gen_below(&state, BLK_DECIMAL_MAX + 1);
        unsigned shift = round % 3 == 0 ? (unsigned)gen_below(&state, 64) : 0;
        for (size_t i = 0; i < n; i++)
            ints[i] = gen_below(&state, 4) == 0
                          ? edges[gen_below(&state, PS_ARRAY_LEN(edges))]
                          : (uint64_t)((int64_t)gen_u64(&state) >> gen_below(&state, 64));
        got[n] = 77;
        blk_decimal_restore(ints, n, k, shift, got);
        for (size_t i = 0; i < n; i++)
            assert_true(ps_bits_of(got[i]) == ps_bits_of(blk_decimal_one(ints[i], k, shift)));
        assert_true(got[n] == 77);
    }
}

/* What is no decimal stands among those that are, anywhere, and small ones beside large ones. */
static void
test_decimals_among_others(void **unused)
{
    static const double others[] = {-0.0, NAN, INFINITY, -INFINITY, 0x1p51, -0x1p51, 0x1p51 + 0.5, 0x1p52,
                                    0x1p53 + 2, -0x1p63, 1e300, 5e-324, 1.0 / 3, 0x1p51 - 1, 9007199254740991};
    enum { N = 150 };
    uint64_t state = 6;

    (void)unused;
    for (unsigned round = 0; round < 3000; round++) {
        const double scale = round % 3 == 0 ? 1 : round % 3 == 1 ? 100 : 1e6;
        uint64_t ints[N];
        uint32_t exc[N];
        double v[N];
        size_t n = 8 + gen_below(&state, N - 8), n_exc;
        unsigned k;
        for (size_t i = 0; i < n; i++)
            v[i] = (double)(int64_t)(gen_below(&state, 200000) - 100000) / scale;
        for (size_t left = gen_below(&state, n / 16 + 2); left > 0; left--)
            v[gen_below(&state, n)] = others[gen_below(&state, PS_ARRAY_LEN(others))];
        if (!blk_decimal_analyse(v, n, ints, exc, &n_exc, &k))
            continue;
        for (size_t i = 0, e = 0; i < n; i++) {
            bool same = ps_bits_of(blk_decimal_one(ints[i], k, 0)) == ps_bits_of(v[i]);
            bool apart = e < n_exc && exc[e] == i;
            assert_true(apart || same);
            e += apart;
        }
    }
}

/* Times have to ascend also where a series with good ones stands before. */
static void
test_times_that_do_not_ascend(void **unused)
{
    const int64_t good[] = {1000, 2000, 3000, 4000}, bad[] = {1000, 3000, 3000, 4000};
    const double v[] = {1, 2, 3, 5};

    (void)unused;
    for (unsigned first = 0; first < 2; first++) {
        blk_writer_opts o = {TENANT, METRIC, BLK_LEVEL_MERGED, 0};
        blk_writer *w = blk_writer_new(&ps_malloc, &o);
        ps_err err;
        if (first > 0)
            assert_int_equal(blk_writer_add(w, 1, good, v, 4, &err), PS_OK);
        assert_int_equal(blk_writer_add(w, 2, bad, v, 4, &err), PS_EINVAL);
        assert_int_equal(blk_writer_samples(w), first * 4);
        assert_int_equal(blk_writer_add(w, 3, good, v, 4, &err), PS_OK);
        blk_writer_free(w);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_midnight_begins_the_day), cmocka_unit_test(test_cuts_have_two_ends),
        cmocka_unit_test(test_a_window_is_half_open),   cmocka_unit_test(test_times_of_the_header),
        cmocka_unit_test(test_counts_of_the_header),    cmocka_unit_test(test_times_of_a_writer),
        cmocka_unit_test(test_decimals_of_any_size),    cmocka_unit_test(test_decimals_among_others),
        cmocka_unit_test(test_times_that_do_not_ascend),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
