/*
 * test_roundtrip.c - what is encoded comes back to the bit: every kind of values with every kind of
 * times, at lengths around the frame borders; sub-ranges; the same bytes every time.
 */
#include "tests/unit/support.h"

#include "lib/block/block.h"
#include "tests/unit/block/blockgen.h"

static const size_t lengths[] = {1,   2,   3,   5,   20,  127,  128, 129,
                                 130, 255, 256, 257, 480, 1000, 1920};

static blk_writer_opts
opts_of(int16_t level)
{
    return (blk_writer_opts){.tenant_id = 3, .metric_id = 77, .level = level};
}

/* Sub-ranges of series i must be the filtered whole. */
static void
check_ranges(uint64_t *state, blk_reader *r, uint32_t i, const int64_t *t, const double *v,
             size_t n)
{
    int64_t *got_t = malloc(n * sizeof *got_t);
    double *got_v = malloc(n * sizeof *got_v);
    size_t got;

    for (unsigned k = 0; k < 12; k++) {
        size_t a = gen_below(state, n), b = gen_below(state, n);
        int64_t from = t[a] + (int64_t)gen_below(state, 3) - 1,
                to = t[b] + (int64_t)gen_below(state, 3) - 1;
        if (k == 0)
            from = INT64_MIN, to = INT64_MAX;
        if (k == 1)
            from = t[n - 1], to = t[n - 1];
        if (k == 2)
            from = t[n - 1] + 1, to = INT64_MAX;
        if (k == 3)
            from = INT64_MIN, to = t[0] - 1;
        size_t lo = 0, hi = n;
        while (lo < n && t[lo] < from)
            lo++;
        while (hi > lo && t[hi - 1] > to)
            hi--;
        assert_int_equal(blk_reader_decode(r, i, from, to, got_t, got_v, &got, NULL), PS_OK);
        check_samples(got_t, got_v, got, t + lo, v + lo, hi - lo);
        assert_int_equal(blk_reader_decode(r, i, from, to, got_t, NULL, &got, NULL), PS_OK);
        check_samples(got_t, NULL, got, t + lo, NULL, hi - lo);
    }
    free(got_t);
    free(got_v);
}

static void
check_columns(uint64_t *state, int16_t level, size_t n_series, const int64_t *ids, int64_t **t,
              double **v, const size_t *n)
{
    blk_writer_opts opts = opts_of(level);
    blk_writer *w = blk_writer_new(&ps_malloc, &opts);
    ps_buf out, again;
    blk_meta meta, meta2;
    ps_err err;

    ps_buf_init(&out, &ps_malloc);
    ps_buf_init(&again, &ps_malloc);
    for (unsigned round = 0; round < 2;
         round++) { /* a writer that was emptied writes the same bytes */
        for (size_t i = 0; i < n_series; i++)
            assert_int_equal(blk_writer_add(w, ids[i], t[i], v[i], n[i], &err), PS_OK);
        assert_int_equal(blk_writer_finish(w, round == 0 ? &out : &again,
                                           round == 0 ? &meta : &meta2, &err),
                         PS_OK);
        assert_int_equal(blk_writer_samples(w), 0);
    }
    assert_int_equal(out.len, again.len);
    assert_memory_equal(out.ptr, again.ptr, out.len);

    blk_reader *r, *h;
    ps_str data = ps_buf_str(&out);
    assert_int_equal(blk_reader_open(&ps_malloc, data, &meta, &r, &err), PS_OK);
    size_t head = blk_head_bytes((ps_str){data.ptr, data.len < 64 ? data.len : 64});
    assert_true(head > 0 && head <= data.len);
    assert_int_equal(blk_reader_open_head(&ps_malloc, (ps_str){data.ptr, head}, &meta, &h, &err),
                     PS_OK);
    assert_int_equal(blk_reader_n_series(r), n_series);
    for (uint32_t i = 0; i < n_series; i++) {
        blk_series s, s2;
        blk_reader_series(r, i, &s);
        blk_reader_series(h, i, &s2);
        assert_int_equal(s.series_id, ids[i]);
        assert_int_equal(s.metric_id, 77);
        assert_int_equal(s.n_samples, n[i]);
        assert_int_equal(s.t_first_ms, t[i][0]);
        assert_int_equal(s.t_last_ms, t[i][n[i] - 1]);
        assert_memory_equal(&s.last_value, &v[i][n[i] - 1], 8);
        assert_memory_equal(&s.last_value, &s2.last_value, 8);
        assert_int_equal(s2.t_last_ms, s.t_last_ms);
        assert_int_equal(blk_reader_seek(r, 77, ids[i]), i);
        check_ranges(state, r, i, t[i], v[i], n[i]);
        int64_t one_t;
        double one_v;
        size_t got;
        assert_int_equal(blk_reader_decode(h, i, 0, 0, &one_t, &one_v, &got, &err), PS_EINVAL);
    }
    assert_int_equal(blk_reader_seek(r, 78, INT64_MIN), n_series);
    assert_int_equal(blk_reader_seek(r, 76, INT64_MAX), 0);
    blk_reader_free(r);
    blk_reader_free(h);
    blk_writer_free(w);
    ps_buf_done(&out);
    ps_buf_done(&again);
}

static void
test_columns_every_kind(void **unused)
{
    uint64_t state = 1;

    (void)unused;
    for (int values = 0; values < GEN_VALUES_END; values++) {
        for (int times = 0; times < GEN_TIMES_END; times++) {
            for (size_t l = 0; l < PS_ARRAY_LEN(lengths); l++) {
                size_t n = lengths[l];
                int64_t *t = malloc(n * sizeof *t), id = (int64_t)gen_u64(&state) >> 1;
                double *v = malloc(n * sizeof *v);
                gen_fill_times(&state, (gen_times)times, t, n);
                gen_fill_values(&state, (gen_values)values, v, n);
                int16_t level = gen_below(&state, 2) ? BLK_LEVEL_SEALED : BLK_LEVEL_MERGED;
                check_columns(&state, level, 1, &id, &t, &v, &n);
                free(t);
                free(v);
            }
        }
    }
}

/* Many series in a block, some with shared times. */
static void
test_columns_many_series(void **unused)
{
    enum { SERIES = 60 };
    uint64_t state = 2;

    (void)unused;
    for (unsigned round = 0; round < 20; round++) {
        int64_t ids[SERIES], *t[SERIES], id = (int64_t)gen_below(&state, 1000) - 500;
        double *v[SERIES];
        size_t n[SERIES];
        for (size_t i = 0; i < SERIES; i++) {
            size_t twin = i > 0 ? gen_below(&state, i) : 0;
            bool share = i > 0 && gen_below(&state, 3) > 0;
            n[i] = share ? n[twin] : 1 + gen_below(&state, 300);
            t[i] = malloc(n[i] * sizeof **t);
            v[i] = malloc(n[i] * sizeof **v);
            if (share)
                memcpy(t[i], t[twin], n[i] * sizeof **t);
            else
                gen_fill_times(&state, (gen_times)gen_below(&state, GEN_TIMES_END), t[i], n[i]);
            gen_fill_values(&state, (gen_values)gen_below(&state, GEN_VALUES_END), v[i], n[i]);
            ids[i] = id +=
                1 + (int64_t)gen_below(&state, gen_below(&state, 2) ? 1 : UINT64_C(1) << 40);
        }
        check_columns(&state, round % 2 ? BLK_LEVEL_SEALED : BLK_LEVEL_MERGED, SERIES, ids, t, v,
                      n);
        for (size_t i = 0; i < SERIES; i++) {
            free(t[i]);
            free(v[i]);
        }
    }
}

static void
test_columns_100k_samples(void **unused)
{
    uint64_t state = 3;
    size_t n = 100000;
    int64_t *t = malloc(n * sizeof *t), id = INT64_MAX;
    double *v = malloc(n * sizeof *v);

    (void)unused;
    for (int values = 0; values < GEN_VALUES_END; values++) {
        gen_fill_times(&state, (gen_times)(values % GEN_TIMES_END), t, n);
        gen_fill_values(&state, (gen_values)values, v, n);
        check_columns(&state, BLK_LEVEL_SEALED, 1, &id, &t, &v, &n);
    }
    free(t);
    free(v);
}

static void
test_columns_extreme_ids(void **unused)
{
    uint64_t state = 4;
    int64_t ids[] = {INT64_MIN, -1, 0, 1, INT64_MAX - 1, INT64_MAX};
    int64_t t0[] = {MDL_TIME_MIN_MS, MDL_TIME_MAX_MS}, *t[PS_ARRAY_LEN(ids)];
    double v0[] = {1.5, -0.0}, *v[PS_ARRAY_LEN(ids)];
    size_t n[PS_ARRAY_LEN(ids)];

    (void)unused;
    for (size_t i = 0; i < PS_ARRAY_LEN(ids); i++) {
        t[i] = t0;
        v[i] = v0;
        n[i] = 1 + i % 2;
    }
    check_columns(&state, BLK_LEVEL_MERGED, PS_ARRAY_LEN(ids), ids, t, v, n);
}

/* ---- flush blocks -------------------------------------------------------------------------- */

static void
check_flush(uint64_t *state, int32_t row_metric, const blk_point *p, size_t n)
{
    ps_buf out, again;
    blk_meta meta, peeked;
    blk_reader *r;
    ps_err err;

    ps_buf_init(&out, &ps_malloc);
    ps_buf_init(&again, &ps_malloc);
    ps_buf_add_c(&out, "before"); /* encoding appends */
    ps_status status = blk_encode_flush(&ps_malloc, 5, row_metric, p, n, &out, &meta, &err);
    if (status != PS_OK)
        fail_msg("%s", err.text);
    assert_int_equal(blk_encode_flush(&ps_malloc, 5, row_metric, p, n, &again, &meta, &err), PS_OK);
    ps_str data = {out.ptr + 6, out.len - 6};
    assert_int_equal(data.len, again.len);
    assert_memory_equal(data.ptr, again.ptr, data.len);
    assert_int_equal(blk_head_bytes(data), 0);
    assert_int_equal(blk_peek_meta(data, &peeked, &err), PS_OK);
    assert_int_equal(peeked.n_samples, n);
    status = blk_reader_open(&ps_malloc, data, &meta, &r, &err);
    if (status != PS_OK)
        fail_msg("%s", err.text);

    int64_t *t = malloc(n * sizeof *t);
    double *v = malloc(n * sizeof *v);
    for (size_t i = 0; i < n; i++) {
        t[i] = p[i].t_ms;
        v[i] = p[i].value;
    }
    uint32_t series = 0;
    for (size_t at = 0, end; at < n; at = end, series++) {
        for (end = at + 1;
             end < n && p[end].series_id == p[at].series_id && p[end].metric_id == p[at].metric_id;)
            end++;
        blk_series s;
        assert_true(series < blk_reader_n_series(r));
        blk_reader_series(r, series, &s);
        assert_int_equal(s.series_id, p[at].series_id);
        assert_int_equal(s.metric_id, p[at].metric_id);
        assert_int_equal(s.n_samples, end - at);
        assert_int_equal(s.t_first_ms, t[at]);
        assert_int_equal(s.t_last_ms, t[end - 1]);
        assert_memory_equal(&s.last_value, &v[end - 1], 8);
        assert_int_equal(blk_reader_seek(r, s.metric_id, s.series_id), series);
        check_ranges(state, r, series, t + at, v + at, end - at);
    }
    assert_int_equal(blk_reader_n_series(r), series);
    free(t);
    free(v);
    blk_reader_free(r);
    ps_buf_done(&out);
    ps_buf_done(&again);
}

/* Points of `metrics` metrics in one bucket (or of one metric) with n_each series of up to max
 * samples. */
static size_t
make_points(uint64_t *state, blk_point *p, unsigned metrics, unsigned n_each, unsigned max_samples,
            int values, int times)
{
    int64_t t[64];
    double v[64];
    size_t n = 0;

    for (unsigned m = 0; m < metrics; m++) {
        int64_t id = (int64_t)gen_below(state, 1000000) - 500;
        for (unsigned s = 0; s < n_each; s++) {
            size_t len = 1 + gen_below(state, max_samples);
            id += 1 + (int64_t)gen_below(state, 5);
            if (s == 0 || gen_below(state, 4) == 0 || max_samples > 1)
                gen_fill_times(state, (gen_times)times, t, len);
            gen_fill_values(state, (gen_values)values, v, len);
            for (size_t i = 0; i < len; i++)
                p[n++] = (blk_point){.series_id = id,
                                     .t_ms = t[i],
                                     .value = v[i],
                                     .metric_id = 10 + (int32_t)m * MDL_BUCKETS};
        }
    }
    return n;
}

static void
test_flush_every_kind(void **unused)
{
    uint64_t state = 5;
    blk_point *p = malloc(sizeof *p * 8192);
    static const unsigned shapes[][3] = {{1, 1, 1},   {1, 3, 1},   {1, 67, 1},
                                         {1, 200, 5}, {1, 40, 64}, {5, 1, 1},
                                         {40, 3, 1},  {62, 5, 2},  {3, 70, 20}};

    (void)unused;
    for (int values = 0; values < GEN_VALUES_END; values++) {
        for (int times = 0; times < GEN_TIMES_END; times++) {
            for (size_t k = 0; k < PS_ARRAY_LEN(shapes); k++) {
                const unsigned *s = shapes[k];
                size_t n = make_points(&state, p, s[0], s[1], s[2], values, times);
                check_flush(&state, s[0] == 1 ? 10 : mdl_bucket(10), p, n);
            }
        }
    }
    free(p);
}

static void
test_flush_refuses(void **unused)
{
    blk_point ok[] = {{.series_id = 1, .t_ms = 100, .value = 1, .metric_id = 10},
                      {.series_id = 1, .t_ms = 200, .value = 1, .metric_id = 10},
                      {.series_id = 2, .t_ms = 50, .value = 1, .metric_id = 10}};
    blk_meta meta;
    ps_buf out;
    ps_err err;

    (void)unused;
    ps_buf_init(&out, &ps_malloc);
    assert_int_equal(blk_encode_flush(&ps_malloc, 1, 10, ok, 0, &out, &meta, &err), PS_EINVAL);
    assert_int_equal(blk_encode_flush(&ps_malloc, 1, 0, ok, 3, &out, &meta, &err), PS_EINVAL);
    assert_int_equal(blk_encode_flush(&ps_malloc, 1, 11, ok, 3, &out, &meta, &err), PS_EINVAL);
    assert_int_equal(blk_encode_flush(&ps_malloc, 1, -1, ok, 3, &out, &meta, &err), PS_EINVAL);
    assert_int_equal(blk_encode_flush(&ps_malloc, 1, mdl_bucket(10), ok, 3, &out, &meta, &err),
                     PS_OK);
    blk_point p[3];
    memcpy(p, ok, sizeof p);
    p[1].t_ms = 100;
    assert_int_equal(blk_encode_flush(&ps_malloc, 1, 10, p, 3, &out, &meta, &err), PS_EINVAL);
    memcpy(p, ok, sizeof p);
    p[2].series_id = 0;
    assert_int_equal(blk_encode_flush(&ps_malloc, 1, 10, p, 3, &out, &meta, &err), PS_EINVAL);
    memcpy(p, ok, sizeof p);
    p[2].t_ms = MDL_TIME_MAX_MS + 1;
    assert_int_equal(blk_encode_flush(&ps_malloc, 1, 10, p, 3, &out, &meta, &err), PS_EINVAL);
    ps_buf_done(&out);

    size_t n = BLK_FLUSH_MAX_SAMPLES + 1;
    blk_point *many = calloc(n, sizeof *many);
    for (size_t i = 0; i < n; i++)
        many[i] = (blk_point){.series_id = (int64_t)i, .t_ms = 5, .value = 1, .metric_id = 10};
    ps_buf_init(&out, &ps_malloc);
    assert_int_equal(blk_encode_flush(&ps_malloc, 1, 10, many, n, &out, &meta, &err), PS_ELIMIT);
    assert_int_equal(blk_encode_flush(&ps_malloc, 1, 10, many, n - 1, &out, &meta, &err), PS_OK);
    ps_buf_done(&out);
    free(many);
}

static void
test_writer_refuses(void **unused)
{
    blk_writer_opts opts = opts_of(BLK_LEVEL_MERGED);
    blk_writer *w = blk_writer_new(&ps_malloc, &opts);
    int64_t up[] = {1, 2, 3}, flat[] = {1, 2, 2}, early[] = {MDL_TIME_MIN_MS - 1, 0, 1};
    double v[] = {1, 2, 3};
    blk_meta meta;
    ps_buf out;
    ps_err err;

    (void)unused;
    ps_buf_init(&out, &ps_malloc);
    assert_int_equal(blk_writer_finish(w, &out, &meta, &err), PS_EINVAL);
    assert_int_equal(blk_writer_add(w, 1, up, v, 0, &err), PS_EINVAL);
    assert_int_equal(blk_writer_add(w, 1, flat, v, 3, &err), PS_EINVAL);
    assert_int_equal(blk_writer_add(w, 1, early, v, 3, &err), PS_EINVAL);
    assert_int_equal(blk_writer_bytes(w), 0);
    assert_int_equal(blk_writer_add(w, 1, up, v, 3, &err), PS_OK);
    assert_int_equal(blk_writer_add(w, 1, up, v, 3, &err), PS_EINVAL);
    assert_int_equal(blk_writer_add(w, 0, up, v, 3, &err), PS_EINVAL);
    assert_int_equal(blk_writer_add(w, 2, up, v, BLK_MAX_SAMPLES, &err), PS_ELIMIT);
    assert_int_equal(blk_writer_samples(w), 3);
    assert_int_equal(blk_writer_finish(w, &out, &meta, &err), PS_OK);
    assert_int_equal(meta.n_samples, 3);
    blk_writer_free(w);
    ps_buf_done(&out);
}

/* A writer that is filled up to its limit makes a block that can be read. */
static void
test_writer_fills_up(void **unused)
{
    enum { N = 400000 };
    uint64_t state = 6;
    blk_writer_opts opts = opts_of(BLK_LEVEL_MERGED);
    blk_writer *w = blk_writer_new(&ps_malloc, &opts);
    int64_t *t = malloc(N * sizeof *t), id = 0;
    double *v = malloc(N * sizeof *v);
    blk_meta meta;
    blk_reader *r;
    ps_buf out;
    ps_err err;
    ps_status status;

    (void)unused;
    gen_fill_times(&state, GEN_EXTREME_TIMES, t, N);
    gen_fill_values(&state, GEN_NOISE_BITS, v, N);
    do {
        id++;
        status = blk_writer_add(w, id, t, v, N - (size_t)id, &err);
    } while (status == PS_OK);
    assert_int_equal(status, PS_ELIMIT);
    assert_true(blk_writer_bytes(w) > BLK_MAX_BYTES - (size_t)N * 24);
    ps_buf_init(&out, &ps_malloc);
    assert_int_equal(blk_writer_finish(w, &out, &meta, &err), PS_OK);
    assert_true(out.len <= BLK_MAX_BYTES);
    assert_int_equal(blk_reader_open(&ps_malloc, ps_buf_str(&out), &meta, &r, &err), PS_OK);
    assert_int_equal(blk_reader_n_series(r), id - 1);
    blk_reader_free(r);
    blk_writer_free(w);
    ps_buf_done(&out);
    free(t);
    free(v);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_columns_every_kind),   cmocka_unit_test(test_columns_many_series),
        cmocka_unit_test(test_columns_100k_samples), cmocka_unit_test(test_columns_extreme_ids),
        cmocka_unit_test(test_flush_every_kind),     cmocka_unit_test(test_flush_refuses),
        cmocka_unit_test(test_writer_refuses),       cmocka_unit_test(test_writer_fills_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
