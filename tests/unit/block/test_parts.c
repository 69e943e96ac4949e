/*
 * test_parts.c - times alone, values alone, parts of them, and flush blocks opened lazily: whatever order
 * things are asked for in, they are what decoding the whole block gives.
 */
#include "tests/unit/support.h"

#include "lib/block/internal.h"
#include "tests/unit/block/blockgen.h"

enum { METRIC = 7, TENANT = 3, MAX_N = 900, MAX_SERIES = 40, MAX_POINTS = 4000 };

/* ---- blocks ----------------------------------------------------------------------------------- */

static void
make_columns(uint64_t seed, ps_buf *out)
{
    static const size_t lengths[] = {1, 2, 5, 127, 128, 129, 300, MAX_N};
    uint64_t state = seed;
    blk_writer_opts o = {TENANT, METRIC, seed & 1 ? BLK_LEVEL_SEALED : BLK_LEVEL_MERGED, 0};
    blk_writer *w = blk_writer_new(&ps_malloc, &o);
    int64_t t[MAX_N];
    double v[MAX_N];
    blk_meta meta;
    ps_err err;
    size_t n = 0;

    for (int64_t s = 0; s < MAX_SERIES; s++) {
        if (n == 0 || gen_below(&state, 3) == 0) { /* else the times of the series before */
            n = lengths[gen_below(&state, PS_ARRAY_LEN(lengths))];
            gen_fill_times(&state, (gen_times)gen_below(&state, GEN_TIMES_END), t, n);
        }
        gen_fill_values(&state, (gen_values)gen_below(&state, GEN_VALUES_END), v, n);
        assert_int_equal(blk_writer_add(w, s * 5, t, v, n, &err), PS_OK);
    }
    assert_int_equal(blk_writer_finish(w, out, &meta, &err), PS_OK);
    blk_writer_free(w);
}

/* spread: samples of a series, at most; kind: how values look, GEN_VALUES_END: all kinds */
static void
make_flush(uint64_t seed, unsigned n_metrics, unsigned n_series, unsigned spread, gen_values kind,
           ps_buf *out)
{
    static blk_point p[MAX_POINTS];
    uint64_t state = seed;
    blk_meta meta;
    ps_err err;
    size_t n = 0;

    for (unsigned m = 0; m < n_metrics; m++) {
        for (unsigned s = 0; s < n_series; s++) {
            double v[32];
            size_t len = 1 + gen_below(&state, spread);
            gen_fill_values(&state, kind == GEN_VALUES_END ? (gen_values)((m + s) % kind) : kind, v,
                            len);
            assert_true(n + len <= MAX_POINTS);
            for (size_t i = 0; i < len; i++)
                p[n++] = (blk_point){.series_id = (int64_t)s * (1 + (int64_t)(seed & 3)),
                                     .t_ms = (int64_t)(i * 15000 + s % 3),
                                     .value = v[i],
                                     .metric_id = METRIC + (int32_t)m * MDL_BUCKETS};
        }
    }
    assert_int_equal(blk_encode_flush(&ps_malloc, TENANT,
                                      n_metrics > 1 ? mdl_bucket(METRIC) : METRIC, p, n, out, &meta,
                                      &err),
                     PS_OK);
}

static blk_reader *
open_or_fail(const ps_buf *b, bool lazy)
{
    blk_reader *r;
    ps_err err;

    assert_int_equal((lazy ? blk_reader_open_lazy : blk_reader_open)(&ps_malloc, ps_buf_str(b),
                                                                     NULL, &r, &err),
                     PS_OK);
    return r;
}

/* ---- parts ------------------------------------------------------------------------------------ */

/* Series i of r in parts against the same of `whole`. */
static void
check_parts(blk_reader *r, blk_reader *whole, uint32_t i, uint64_t *state)
{
    int64_t t[MAX_N], part_t[MAX_N];
    double v[MAX_N], part_v[MAX_N];
    size_t n, lo, got;
    blk_series s;
    ps_err err;

    assert_int_equal(blk_reader_decode(whole, i, INT64_MIN, INT64_MAX, t, v, &n, &err), PS_OK);
    blk_reader_series(r, i, &s);
    assert_int_equal(s.n_samples, n);
    for (unsigned round = 0; round < 4; round++) {
        size_t from = gen_below(state, n), count = round == 0 ? 1 : gen_below(state, n - from + 1);
        from = round == 1 ? 0 : round == 2 ? n - count : from;
        memset(part_v, 0x5c, sizeof part_v);
        assert_int_equal(blk_reader_values(r, i, from, count, part_v, &err), PS_OK);
        assert_memory_equal(part_v, v + from, count * sizeof *v);
        assert_true(count == MAX_N || ps_bits_of(part_v[count]) == UINT64_C(0x5c5c5c5c5c5c5c5c));
        if (count == 0)
            continue;
        assert_int_equal(blk_reader_times(r, i, t[from], t[from + count - 1], part_t, &lo, &got,
                                          &err),
                         PS_OK);
        assert_int_equal(lo, from);
        assert_int_equal(got, count);
        assert_memory_equal(part_t, t + from, count * sizeof *t);
    }
    assert_int_equal(blk_reader_values(r, i, 0, n, part_v, &err), PS_OK);
    assert_memory_equal(part_v, v, n * sizeof *v);
    assert_int_equal(blk_reader_values(r, i, 0, n + 1, part_v, &err), PS_EINVAL);
    assert_int_equal(blk_reader_values(r, i, n + 1, 0, part_v, &err), PS_EINVAL);
    assert_int_equal(blk_reader_values(r, i, SIZE_MAX, 2, part_v, &err), PS_EINVAL);
}

static void
test_columns(void **unused)
{
    (void)unused;
    for (uint64_t seed = 1; seed < 30; seed++) {
        uint64_t state = seed;
        ps_buf b;
        ps_buf_init(&b, &ps_malloc);
        make_columns(seed, &b);
        blk_reader *whole = open_or_fail(&b, false), *r = open_or_fail(&b, true);
        for (unsigned k = 0; k < 2 * MAX_SERIES; k++)
            check_parts(r, whole, (uint32_t)gen_below(&state, MAX_SERIES), &state);
        blk_reader_free(r);
        blk_reader_free(whole);
        ps_buf_done(&b);
    }
}

/* Few look-ups, then so many that groups are decoded; series by series, and at random. */
static void
test_lazy(void **unused)
{
    (void)unused;
    for (uint64_t seed = 1; seed < 120; seed++) {
        uint64_t state = seed;
        unsigned n_metrics = 1 + seed % 4 * (seed % 3), n_series = 1 + (unsigned)(seed * 7 % 90);
        gen_values kind = (gen_values)(seed % (GEN_VALUES_END + 1));
        ps_buf b;
        ps_buf_init(&b, &ps_malloc);
        make_flush(seed, n_metrics, n_series, seed % 5 == 0 ? 1 : 8, kind, &b);
        blk_reader *whole = open_or_fail(&b, false);
        const uint32_t n = blk_reader_n_series(whole);
        for (unsigned queries = 1; queries <= 64; queries *= 4) {
            blk_reader *r = open_or_fail(&b, true);
            blk_series s, same;
            for (unsigned k = 0; k < queries; k++)
                check_parts(r, whole, (uint32_t)(seed & 1 ? k % n : gen_below(&state, n)), &state);
            for (uint32_t i = 0; i < n; i++) {
                blk_reader_series(r, i, &s);
                blk_reader_series(whole, i, &same);
                assert_true(same.last_known);
                if (!s.last_known)
                    same.last_known = false, same.last_value = s.last_value;
                assert_memory_equal(&s.last_value, &same.last_value, 8);
                assert_true(s.series_id == same.series_id && s.t_last_ms == same.t_last_ms &&
                            s.times_id == same.times_id && s.last_known == same.last_known);
            }
            blk_reader_free(r);
        }
        blk_reader_free(whole);
        ps_buf_done(&b);
    }
}

static void
test_last_is_known(void **unused)
{
    ps_buf b;
    blk_series s;
    double v;
    ps_err err;

    (void)unused;
    ps_buf_init(&b, &ps_malloc);
    make_flush(5, 3, 90, 4, GEN_COUNTER, &b);
    blk_reader *r = open_or_fail(&b, true);
    assert_int_equal(blk_reader_values(r, 125, 0, 1, &v, &err), PS_OK);
    blk_reader_series(r, 125, &s);
    assert_false(s.last_known);
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(blk_reader_values(r, 125, 0, 1, &v, &err), PS_OK);
    blk_reader_series(r, 125, &s);
    assert_true(s.last_known);
    assert_int_equal(blk_reader_values(r, 125, s.n_samples - 1, 1, &v, &err), PS_OK);
    assert_memory_equal(&s.last_value, &v, 8);
    blk_reader_series(r, 269, &s); /* another metric */
    assert_false(s.last_known);
    blk_reader_free(r);
    ps_buf_done(&b);
}

/* Equal numbers mean equal times; what shares a column says so. */
static void
test_times_id(void **unused)
{
    ps_buf b;
    unsigned shared = 0;

    (void)unused;
    ps_buf_init(&b, &ps_malloc);
    for (unsigned form = 0; form < 2; form++) {
        ps_buf_clear(&b);
        if (form == 0)
            make_columns(3, &b);
        else
            make_flush(4, 2, 30, 5, GEN_COUNTER, &b);
        blk_reader *r = open_or_fail(&b, true);
        for (uint32_t i = 1; i < blk_reader_n_series(r); i++) {
            int64_t t[2][MAX_N];
            size_t n[2], lo;
            blk_series s[2];
            ps_err err;
            for (uint32_t k = 0; k < 2; k++) {
                blk_reader_series(r, i - k, &s[k]);
                assert_int_equal(blk_reader_times(r, i - k, INT64_MIN, INT64_MAX, t[k], &lo, &n[k],
                                                  &err),
                                 PS_OK);
            }
            bool equal = n[0] == n[1] && memcmp(t[0], t[1], n[0] * sizeof t[0][0]) == 0;
            assert_true(equal == (s[0].times_id == s[1].times_id));
            shared += equal;
        }
        blk_reader_free(r);
    }
    assert_true(shared > 20);
    ps_buf_done(&b);
}

static void
test_refused(void **unused)
{
    ps_buf b;
    blk_reader *r;
    double v[4];
    int64_t t[MAX_N];
    size_t lo, n;
    ps_err err;

    (void)unused;
    ps_buf_init(&b, &ps_malloc);
    make_columns(1, &b);
    assert_int_equal(blk_reader_open_head(&ps_malloc, ps_buf_str(&b), NULL, &r, &err), PS_OK);
    assert_int_equal(blk_reader_values(r, 0, 0, 1, v, &err), PS_EINVAL);
    assert_int_equal(blk_reader_times(r, 0, 0, 1, t, &lo, &n, &err), PS_EINVAL);
    blk_reader_free(r);
    r = open_or_fail(&b, false);
    assert_int_equal(blk_reader_values(r, MAX_SERIES, 0, 1, v, &err), PS_EINVAL);
    assert_int_equal(blk_reader_times(r, MAX_SERIES, 0, 1, t, &lo, &n, &err), PS_EINVAL);
    blk_reader_free(r);
    ps_buf_done(&b);
}

/* Values that are damaged show when they are asked for, one by one or all; merging sees them, too. */
static void
test_lazy_damage(void **unused)
{
    unsigned refused = 0, late = 0;

    (void)unused;
    for (unsigned at = 0; at < 300; at++) {
        ps_buf b;
        blk_reader *r = NULL, *eager = NULL;
        ps_err err;
        ps_buf_init(&b, &ps_malloc);
        make_flush(2, 1, 60, 3, GEN_NOISE_BITS, &b);
        assert_false(b.ptr[6] & BLK_FLAG_LZ4); /* noise: so that the end of the block is values */
        b.ptr[b.len - 1 - at * 3] ^= (char)0xff;
        ps_put_u32le((uint8_t *)b.ptr + BLK_OFF_CRC, blk_crc_skipping(ps_buf_str(&b)));
        ps_status all = blk_reader_open(&ps_malloc, ps_buf_str(&b), NULL, &eager, &err);
        ps_status status = blk_reader_open_lazy(&ps_malloc, ps_buf_str(&b), NULL, &r, &err);
        assert_true(all == PS_OK || all == PS_ECORRUPT);
        if (all != PS_OK && status == PS_OK) {
            double v[32];
            for (unsigned k = 0; k < 40 && status == PS_OK; k++)
                status = blk_reader_values(r, k % 60, 0, 1, v, &err);
            assert_int_equal(status, PS_ECORRUPT);
            late++;
        }
        refused += all != PS_OK;
        if (all == PS_OK)
            blk_reader_free(eager);
        blk_reader_free(r);
        ps_buf_done(&b);
    }
    assert_true(late > 0 && refused >= late);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_columns),       cmocka_unit_test(test_lazy),
        cmocka_unit_test(test_last_is_known), cmocka_unit_test(test_times_id),
        cmocka_unit_test(test_refused),       cmocka_unit_test(test_lazy_damage),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
