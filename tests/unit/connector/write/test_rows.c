/*
 * test_rows.c - from requests to the rows that COPY carries, without a database: the bytes are read back
 * by a reader written here from PostgreSQL's description of the format, the blocks by the block reader.
 */
#include "connector/write/internal.h"
#include "tests/unit/support.h"

#define NOW INT64_C(1700000000000)
enum { MAX_POINTS = 200000, MAX_ROWS = 4096 };

typedef struct row {
    blk_meta meta; /* as the columns say */
    ps_str data;
} row;

typedef struct found { /* a sample as some row holds it */
    int32_t tenant_id;
    blk_point p;
    int32_t row_metric;
} found;

/* ---- reading COPY ----------------------------------------------------------------------------- */

static uint64_t
take(ps_str *in, size_t width)
{
    uint64_t v = 0;
    assert_true(in->len >= width);
    for (size_t i = 0; i < width; i++)
        v = v << 8 | (uint8_t)in->ptr[i];
    in->ptr += width;
    in->len -= width;
    return v;
}

static int64_t
column(ps_str *in, size_t width)
{
    assert_int_equal(take(in, 4), width);
    uint64_t v = take(in, width);
    return width == 2 ? (int16_t)v : width == 4 ? (int32_t)v : (int64_t)v;
}

/* Microseconds since 2000-01-01 to milliseconds since 1970-01-01. */
static int64_t
time_column(ps_str *in)
{
    int64_t us = column(in, 8);
    assert_int_equal(us % 1000, 0);
    return us / 1000 + INT64_C(946684800000);
}

static size_t
read_rows(ps_str in, row *rows)
{
    size_t n = 0;
    assert_true(in.len > 19);
    assert_memory_equal(in.ptr, "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\0", 19);
    in = (ps_str){in.ptr + 19, in.len - 19};
    for (;;) {
        uint64_t columns = take(&in, 2);
        if (columns == UINT16_MAX)
            break;
        assert_int_equal(columns, 13);
        assert_true(n < MAX_ROWS);
        blk_meta m = {.tenant_id = (int32_t)column(&in, 4), .metric_id = (int32_t)column(&in, 4)};
        m.dist_key = column(&in, 8);
        m.level = (int16_t)column(&in, 2);
        m.kind = (int16_t)column(&in, 2);
        m.format = (int16_t)column(&in, 2);
        m.series_lo = column(&in, 8);
        m.series_hi = column(&in, 8);
        m.t_min_ms = time_column(&in);
        m.t_max_ms = time_column(&in);
        m.n_series = (int32_t)column(&in, 4);
        m.n_samples = (int32_t)column(&in, 4);
        size_t len = take(&in, 4);
        assert_true(len <= in.len);
        rows[n++] = (row){m, {in.ptr, len}};
        in = (ps_str){in.ptr + len, in.len - len};
    }
    assert_int_equal(in.len, 0);
    return n;
}

static size_t
read_samples(const row *rows, size_t n_rows, found *out)
{
    static int64_t t[MAX_POINTS];
    static double v[MAX_POINTS];
    size_t n = 0;
    for (size_t i = 0; i < n_rows; i++) {
        blk_reader *r;
        ps_err err;
        assert_int_equal(blk_reader_open(&ps_malloc, rows[i].data, &rows[i].meta, &r, &err), PS_OK);
        for (uint32_t k = 0; k < blk_reader_n_series(r); k++) {
            blk_series s;
            size_t got;
            blk_reader_series(r, k, &s);
            assert_true(n + s.n_samples <= MAX_POINTS);
            assert_int_equal(blk_reader_decode(r, k, INT64_MIN, INT64_MAX, t, v, &got, &err),
                             PS_OK);
            for (size_t j = 0; j < got; j++)
                out[n++] = (found){rows[i].meta.tenant_id,
                                   {.series_id = s.series_id,
                                    .t_ms = t[j],
                                    .value = v[j],
                                    .metric_id = s.metric_id},
                                   rows[i].meta.metric_id};
        }
        blk_reader_free(r);
    }
    return n;
}

/* ---- the test's own memory -------------------------------------------------------------------- */

static row rows[MAX_ROWS];
static found have[MAX_POINTS];
static blk_point points[MAX_POINTS];

static size_t
batch_rows(wp_request **requests, size_t n, wp_batch *b)
{
    ps_err err;
    assert_int_equal(wp_batch_requests(b, requests, n, &err), PS_OK);
    size_t n_rows = read_rows(ps_buf_str(&b->copy), rows);
    assert_int_equal(n_rows, b->n_rows);
    return n_rows;
}

/* One request of n samples of one metric, a series each. */
static wp_request
one_metric(int32_t metric_id, size_t n)
{
    for (size_t i = 0; i < n; i++)
        points[i] = (blk_point){.series_id = (int64_t)i + 1,
                                .t_ms = NOW,
                                .value = (double)i,
                                .metric_id = metric_id};
    return (wp_request){.tenant_id = 1, .points = points, .n_points = n};
}

/* ---- tests ------------------------------------------------------------------------------------ */

static void
test_small_metrics_share_rows(void **state)
{
    (void)state;
    for (size_t n = 126; n <= 129; n++) { /* docs/write-path.md says 128 */
        wp_batch b;
        wp_request r = one_metric(77, n), *all[] = {&r};
        wp_batch_init(&b);
        assert_int_equal(batch_rows(all, 1, &b), 1);
        assert_int_equal(rows[0].meta.metric_id, n < 128 ? mdl_bucket(77) : 77);
        assert_true(mdl_bucket(77) < 0);
        assert_int_equal(read_samples(rows, 1, have), n);
        assert_int_equal(have[0].p.metric_id, 77);
        wp_batch_done(&b);
    }
}

static void
test_a_row_has_a_limit(void **state)
{
    (void)state;
    wp_batch b;
    wp_request r = one_metric(5, 150000), *all[] = {&r};
    wp_batch_init(&b);
    size_t n = batch_rows(all, 1, &b);
    assert_int_equal(n, 3);
    for (size_t i = 0; i < n; i++)
        assert_true(rows[i].meta.n_samples <= 65536);
    assert_int_equal(read_samples(rows, n, have), 150000);
    assert_int_equal(b.n_samples, 150000);
    wp_batch_done(&b);
}

static void
test_the_request_that_came_first_wins(void **state)
{
    (void)state;
    blk_point p[3][2];
    wp_request r[3], *all[] = {&r[2], &r[0], &r[1]}; /* handed over out of order */
    for (int i = 0; i < 3; i++) {
        p[i][0] =
            (blk_point){.series_id = 1, .t_ms = NOW, .value = i == 0 ? 10 : 20, .metric_id = 3};
        p[i][1] = (blk_point){.series_id = 1, .t_ms = NOW + 1 + i, .value = i, .metric_id = 3};
        r[i] = (wp_request){.tenant_id = 1, .seq = (uint64_t)i, .points = p[i], .n_points = 2};
    }
    wp_batch b;
    wp_batch_init(&b);
    size_t n = batch_rows(all, 3, &b);
    assert_int_equal(read_samples(rows, n, have), 4);
    assert_true(have[0].p.value == 10);
    assert_int_equal(b.dups.conflicts, 2);
    assert_int_equal(b.dups.duplicates, 0);
    wp_batch_done(&b);
}

static int
by_place(const void *a, const void *b)
{
    const found *x = a, *y = b;
    const int64_t l[] = {x->tenant_id, x->p.metric_id, x->p.series_id, x->p.t_ms};
    const int64_t r[] = {y->tenant_id, y->p.metric_id, y->p.series_id, y->p.t_ms};
    for (size_t i = 0; i < PS_ARRAY_LEN(l); i++) {
        if (l[i] != r[i])
            return l[i] < r[i] ? -1 : 1;
    }
    return 0;
}

/* Random requests of three tenants; every sample has one (tenant, metric, series, time) of its own. */
static void
test_every_sample_is_in_one_row_of_its_tenant(void **state)
{
    enum { REQUESTS = 40, SAMPLES = 100, METRICS = 300 };
    static found want[REQUESTS * SAMPLES];
    static size_t count[4][METRICS + 1];
    test_random random = {11};
    (void)state;
    for (int round = 0; round < 5; round++) {
        wp_request r[REQUESTS], *all[REQUESTS];
        memset(count, 0, sizeof count);
        for (size_t i = 0; i < REQUESTS; i++) {
            r[i] = (wp_request){.tenant_id = (int32_t)(i % 3) + 1,
                                .seq = i,
                                .points = points + i * SAMPLES,
                                .n_points = SAMPLES};
            all[i] = &r[i];
            for (size_t k = i * SAMPLES; k < (i + 1) * SAMPLES; k++) {
                /* low numbers are many */
                uint64_t m =
                    test_random_below(&random, METRICS) * test_random_below(&random, METRICS);
                int32_t id = (int32_t)(m / METRICS) + 1;
                points[k] = (blk_point){.series_id = id * 1000 + (int64_t)(k % 7),
                                        .t_ms = NOW + (int64_t)k,
                                        .value = (double)test_random_below(&random, 1000) / 8,
                                        .metric_id = id};
                want[k] = (found){r[i].tenant_id, points[k], 0};
                count[r[i].tenant_id][id]++;
            }
        }
        wp_batch b;
        wp_batch_init(&b);
        size_t n_rows = batch_rows(all, REQUESTS, &b), n = read_samples(rows, n_rows, have);
        assert_int_equal(n, REQUESTS * SAMPLES);
        qsort(want, n, sizeof *want, by_place);
        qsort(have, n, sizeof *have, by_place);
        for (size_t i = 0; i < n; i++) {
            assert_int_equal(by_place(&have[i], &want[i]), 0);
            assert_true(have[i].p.value == want[i].p.value);
            bool small = count[have[i].tenant_id][have[i].p.metric_id] <
                         WP_PACK_BELOW;
            assert_int_equal(have[i].row_metric,
                             small ? mdl_bucket(have[i].p.metric_id) : have[i].p.metric_id);
        }
        for (size_t i = 0; i < n_rows; i++)
            for (size_t k = 0; k < i; k++) /* a bucket's row is one per tenant */
                assert_true(rows[i].meta.tenant_id != rows[k].meta.tenant_id ||
                            rows[i].meta.metric_id != rows[k].meta.metric_id);
        wp_batch_done(&b);
    }
}

static void
test_nothing_is_no_row(void **state)
{
    (void)state;
    wp_batch b;
    wp_request r = {.tenant_id = 1}, *all[] = {&r};
    wp_batch_init(&b);
    assert_int_equal(batch_rows(all, 1, &b), 0);
    wp_batch_done(&b);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_metrics_share_rows),
        cmocka_unit_test(test_a_row_has_a_limit),
        cmocka_unit_test(test_the_request_that_came_first_wins),
        cmocka_unit_test(test_every_sample_is_in_one_row_of_its_tenant),
        cmocka_unit_test(test_nothing_is_no_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
