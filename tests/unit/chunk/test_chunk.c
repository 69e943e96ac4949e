/*
 * Chunks: the bytes that Prometheus reads and writes, what goes together, damage.
 *
 * The bytes in here were made by the encoder from the samples that stand beside them and read by
 * Prometheus's own decoder, which found the same samples, bit for bit.
 */
#include <stdio.h>

#include "tests/unit/support.h"

#include "lib/chunk/chunk.h"

enum { MAX = 1000 };

typedef struct series {
    int64_t t_ms[MAX];
    double values[MAX];
    const hst_hist *histograms[MAX];
    size_t n;
    ps_arena arena;
} series;

static series *
new_series(void **state)
{
    series *s = *state;
    ps_arena_reset(&s->arena);
    s->n = 0;
    return s;
}

static void
add_float(series *s, int64_t t_ms, double v)
{
    s->t_ms[s->n] = t_ms;
    s->histograms[s->n] = NULL;
    s->values[s->n++] = v;
}

static hst_hist *
add_histogram(series *s, int64_t t_ms, bool integer, const char *text)
{
    const hst_hist *h;
    bool hint;
    ps_err err;
    if (hst_parse(&s->arena, ps_str_c(text), &h, &hint, &err) != PS_OK)
        fail_msg("%s", err.text);
    hst_hist *copy = ps_arena_new(&s->arena, sizeof(*copy));
    *copy = *h;
    copy->integer = integer;
    s->t_ms[s->n] = t_ms;
    s->values[s->n] = 0;
    s->histograms[s->n++] = copy;
    return copy;
}

static void
add_stale(series *s, int64_t t_ms, bool integer)
{
    add_histogram(s, t_ms, integer, "")->sum = ps_double_of(MDL_STALE_NAN_BITS);
}

static chk_samples
samples_of(const series *s)
{
    return (chk_samples){s->t_ms, s->values, s->histograms, s->n};
}

static void
assert_same_histogram(const hst_hist *a, const hst_hist *b)
{
    if (hst_is_stale(a) || hst_is_stale(b)) {
        assert_true(hst_is_stale(a) && hst_is_stale(b));
        return;
    }
    assert_true(hst_equal(a, b));
    assert_int_equal(a->integer, b->integer);
    assert_int_equal(a->positive.n_counts, b->positive.n_counts);
    assert_int_equal(a->negative.n_counts, b->negative.n_counts);
}

/* Decodes from a heap copy of exactly the chunk's size. */
static ps_status
decode(int encoding, ps_str bytes, ps_arena *arena, chk_decoded *ret, ps_err *err)
{
    char *copy = test_exact_copy(bytes.ptr, bytes.len);
    ps_status status = chk_decode(encoding, (ps_str){copy, bytes.len}, arena, ret, err);
    free(copy);
    return status;
}

static void
assert_chunk(const series *s, size_t from, const chk_chunk *c, ps_str bytes)
{
    chk_decoded d;
    ps_arena arena;
    ps_err err = {.text = ""};
    ps_arena_init(&arena, &ps_malloc, 0);
    if (decode(c->encoding, bytes, &arena, &d, &err) != PS_OK)
        fail_msg("%s", err.text);
    assert_int_equal(d.n, c->n);
    assert_int_equal(c->t_min_ms, s->t_ms[from]);
    assert_int_equal(c->t_max_ms, s->t_ms[from + c->n - 1]);
    for (size_t i = 0; i < d.n; i++) {
        assert_int_equal(d.t_ms[i], s->t_ms[from + i]);
        if (d.values != NULL) {
            assert_null(s->histograms[from + i]);
            assert_int_equal(ps_bits_of(d.values[i]), ps_bits_of(s->values[from + i]));
        } else {
            assert_non_null(s->histograms[from + i]);
            assert_same_histogram(s->histograms[from + i], d.histograms[i]);
        }
    }
    ps_arena_done(&arena);
}

/* "encoding:samples" of every chunk; each is read back and compared. */
static void
assert_cut(const series *s, const char *expected)
{
    ps_buf out, text;
    ps_err err;
    chk_samples in = samples_of(s);
    ps_buf_init(&out, &ps_malloc);
    ps_buf_init(&text, &ps_malloc);
    for (size_t from = 0; from < s->n;) {
        chk_chunk c;
        ps_buf_clear(&out);
        assert_int_equal(chk_encode(&ps_malloc, &in, from, &out, &c, &err), PS_OK);
        assert_chunk(s, from, &c, ps_buf_str(&out));
        ps_buf_addf(&text, "%s%d:%u", from == 0 ? "" : " ", (int)c.encoding, c.n);
        from += c.n;
    }
    ps_buf_add_char(&text, 0);
    assert_string_equal(text.ptr, expected);
    ps_buf_done(&text);
    ps_buf_done(&out);
}

static void
assert_bytes(const series *s, const char *hex)
{
    ps_buf out;
    ps_err err;
    chk_samples in = samples_of(s);
    chk_chunk c;
    ps_buf_init(&out, &ps_malloc);
    assert_int_equal(chk_encode(&ps_malloc, &in, 0, &out, &c, &err), PS_OK);
    assert_int_equal(c.n, s->n);
    assert_chunk(s, 0, &c, ps_buf_str(&out));
    char *text = malloc(out.len * 2 + 1);
    assert_string_equal(test_hex(text, out.ptr, out.len), hex);
    free(text);
    ps_buf_done(&out);
}

/* ---- bytes -------------------------------------------------------------------------------------------- */

static void
bytes_of_floats(void **state)
{
    series *s = new_series(state);
    add_float(s, 1700000000000, 12);
    assert_bytes(s, "000180a0abfef9624028000000000000");
    add_float(s, 1700000015000, 12);
    add_float(s, 1700000030000, 12.5);
    add_float(s, 1700000045001, -0.0);
    add_float(s, 1700000059000, ps_double_of(MDL_STALE_NAN_BITS));
    add_float(s, 1700000200000, ps_double_of(MDL_NORMAL_NAN_BITS));
    add_float(s, 1700000600000, 1e308);
    add_float(s, 1799999999999, 1e-308);
    add_float(s, 1800000014999, 0.1);
    assert_bytes(s, "000980a0abfef9624028000000000000987537838001c086014de0b60ffffc00000000"
                 "0000f0f80cecd2000000000000f8fcee35eb9ccf385ebc8a1f000000174867a5bfc3f7"
                 "fe6fc25fdf22073fffffffd16f24f4b33fbea94fe1807148");
    new_series(state);
    add_float(s, -5, 1);
    add_float(s, 0, 2);
    add_float(s, 3, 3);
    assert_bytes(s, "0003093ff000000000000005c25fffbffed80c");
}

static void
bytes_of_integer_histograms(void **state)
{
    series *s = new_series(state);
    add_histogram(s, 1700000000000, true,
                  "schema:1 count:17 sum:18.5 z_bucket:2 z_bucket_w:0.001 buckets:[3 1 5] offset:-2 "
                  "n_buckets:[6] n_offset:4");
    add_histogram(s, 1700000015000, true,
                  "schema:1 count:24 sum:20.25 z_bucket:2 z_bucket_w:0.001 buckets:[7 1 5] "
                  "offset:-2 n_buckets:[9] n_offset:4");
    add_histogram(s, 1700000030500, true,
                  "schema:1 count:100024 sum:20.25 z_bucket:100002 z_bucket_w:0.001 "
                  "buckets:[7 1 5] offset:-2 n_buckets:[9] n_offset:4");
    add_stale(s, 1700000045500, true);
    add_stale(s, 1700000060500, true);
    assert_bytes(s, "000500ff3f50624dd2f1a9fc8c6768c69fc0003179fcad00191920194000000000004e"
                 "d4c37c1d4c61db45dd3789f87d3e61a67e61a81bca2bee0c317bfe22000000000010");
}

static void
bytes_of_float_histograms(void **state)
{
    series *s = new_series(state);
    add_histogram(s, 1700000000000, false,
                  "schema:-53 count:9.5 sum:33 custom_values:[-1 0.005 2.5 1e6] buckets:[3 1 5.5]");
    add_histogram(s, 1700000015000, false,
                  "schema:-53 count:10.5 sum:33.5 custom_values:[-1 0.005 2.5 1e6] "
                  "buckets:[3 2 5.5]");
    add_stale(s, 1700000030000, false);
    assert_bytes(s, "00030000ee5c66517fe00000000000016f4e2904ba120000000003f800062f3f95a001"
                 "008c000000000000000000000000000101020000000000010020000000000000ffc000"
                 "00000000010058000000000003e0ea63685b883612fff984f804ac5eff618000000000"
                 "04");
    new_series(state);
    for (int i = 0; i < 3; i++)
        add_histogram(s, 1700000000000 + i, false,
                      i == 1 ? "schema:3 count:2 sum:1 buckets:[2] counter_reset_hint:gauge"
                             : "schema:3 count:4 sum:9 buckets:[4] counter_reset_hint:gauge");
    assert_bytes(s, "0003c0009c627f0000c5e7f2b400200800000000000000000000000000002011000000"
                 "000000200800000000000047583613bfe9d60d57fd34");
}

/* ---- what goes together --------------------------------------------------------------------------------- */

static void
chunks_are_cut(void **state)
{
    series *s = new_series(state);
    for (int i = 0; i < 250; i++)
        add_float(s, i * 15000, i);
    assert_cut(s, "1:120 1:120 1:10");
    for (int i = 0; i < 130; i++)
        add_histogram(s, 4000000 + i * 15000, true, "schema:0 count:3 sum:1 buckets:[3]");
    add_histogram(s, 6000000, false, "schema:0 count:3 sum:1 buckets:[3]");
    add_float(s, 6000001, 1);
    assert_cut(s, "1:120 1:120 1:10 2:120 2:10 3:1 1:1");
}

static void
a_change_begins_a_chunk(void **state)
{
    static const struct {
        const char *text, *cut;
    } after[] = {
        {"schema:0 count:5 sum:1 buckets:[2 3]", "2:2"},
        {"schema:0 count:6 sum:1 buckets:[2 3 1]", "2:1 2:1"},          /* another bucket */
        {"schema:0 count:5 sum:1 buckets:[2 3] offset:1", "2:1 2:1"},   /* other buckets */
        {"schema:1 count:5 sum:1 buckets:[2 3]", "2:1 2:1"},            /* resolution */
        {"schema:0 count:5 sum:1 buckets:[2 3] z_bucket_w:1", "2:1 2:1"},
        {"schema:0 count:5 sum:1 buckets:[1 4]", "2:1 2:1"},            /* a reset of a bucket */
        {"schema:0 count:4 sum:1 buckets:[2 3]", "2:1 2:1"},            /* of the count */
        {"schema:0 count:5 sum:1 buckets:[2 3] counter_reset_hint:reset", "2:1 2:1"},
        {"schema:0 count:5 sum:1 buckets:[2 3] counter_reset_hint:gauge", "2:1 2:1"},
        {"schema:0 count:6.5 sum:1 buckets:[2 4.5]", "2:1 3:1"},        /* not whole */
        {"schema:0 count:1e16 sum:1 buckets:[2 1e16]", "2:1 3:1"},      /* too large */
        {"schema:-53 count:5 sum:1 custom_values:[1 2] buckets:[2 3]", "2:1 2:1"},
    };
    for (size_t i = 0; i < PS_ARRAY_LEN(after); i++) {
        series *s = new_series(state);
        add_histogram(s, 1, true, "schema:0 count:5 sum:1 buckets:[2 3]");
        add_histogram(s, 2, true, after[i].text);
        chk_samples in = samples_of(s);
        ps_buf out;
        chk_chunk c;
        ps_err err;
        ps_buf_init(&out, &ps_malloc);
        assert_int_equal(chk_encode(&ps_malloc, &in, 0, &out, &c, &err), PS_OK);
        assert_int_equal(c.n, after[i].cut[2] - '0');
        ps_buf_clear(&out);
        assert_int_equal(chk_encode(&ps_malloc, &in, 1, &out, &c, &err), PS_OK);
        assert_int_equal(c.encoding, after[i].cut[strlen(after[i].cut) - 3] - '0');
        ps_buf_done(&out);
    }
}

static void
gauges_may_fall(void **state)
{
    series *s = new_series(state);
    for (int i = 0; i < 4; i++)
        add_histogram(s, i, true,
                      i % 2 ? "schema:0 count:2 sum:1 buckets:[2] counter_reset_hint:gauge"
                            : "schema:0 count:3 sum:1 buckets:[3] counter_reset_hint:gauge");
    assert_cut(s, "2:4");
}

static void
after_a_stale_one_only_stale_ones(void **state)
{
    series *s = new_series(state);
    add_stale(s, 1, true);
    add_stale(s, 2, true);
    add_histogram(s, 3, true, "schema:0 count:3 sum:1 buckets:[3]");
    add_histogram(s, 4, true, "schema:0 count:4 sum:1 buckets:[4]");
    add_stale(s, 5, true);
    add_stale(s, 6, true);
    add_histogram(s, 7, true, "schema:0 count:5 sum:1 buckets:[5]");
    assert_cut(s, "2:2 2:4 2:1");
}

/* What a chunk says about a reset before its first sample, and what is made of it. */
static void
resets_are_told(void **state)
{
    static const struct {
        const char *first, *second;
        uint8_t flags[2];
    } cases[] = {
        {"count:5 buckets:[5]", "count:5 buckets:[4 1]", {0x00, 0x80}},
        {"count:5 buckets:[5]", "count:6 buckets:[5 1]", {0x00, 0x40}},
        {"count:5 buckets:[5]", "schema:1 count:6 buckets:[5 1]", {0x00, 0x00}},
        {"count:5 buckets:[5] counter_reset_hint:reset", "count:3 buckets:[3]", {0x80, 0x80}},
        {"count:5 buckets:[5] counter_reset_hint:gauge", "count:3 buckets:[3]", {0xC0, 0x00}},
    };
    for (size_t i = 0; i < PS_ARRAY_LEN(cases); i++) {
        series *s = new_series(state);
        add_histogram(s, 1, true, cases[i].first);
        add_histogram(s, 2, true, cases[i].second);
        for (size_t k = 0; k < 2; k++) {
            chk_samples in = samples_of(s);
            ps_buf out;
            chk_chunk c;
            ps_err err;
            ps_buf_init(&out, &ps_malloc);
            assert_int_equal(chk_encode(&ps_malloc, &in, k, &out, &c, &err), PS_OK);
            assert_int_equal(c.n, 1);
            assert_int_equal((uint8_t)out.ptr[2], cases[i].flags[k]);
            ps_buf_done(&out);
        }
    }
}

static void
hints_of_what_is_read(void **state)
{
    series *s = new_series(state);
    for (int i = 0; i < 3; i++)
        add_histogram(s, i, true, "count:5 buckets:[5]");
    chk_samples in = samples_of(s);
    chk_chunk c;
    chk_decoded d;
    ps_buf out;
    ps_err err;
    ps_buf_init(&out, &ps_malloc);
    assert_int_equal(chk_encode(&ps_malloc, &in, 0, &out, &c, &err), PS_OK);
    assert_int_equal(decode(c.encoding, ps_buf_str(&out), &s->arena, &d, &err), PS_OK);
    assert_int_equal(d.histograms[0]->hint, HST_UNKNOWN);
    assert_int_equal(d.histograms[1]->hint, HST_NOT_RESET);
    assert_int_equal(d.histograms[2]->hint, HST_NOT_RESET);
    ps_buf_done(&out);
}

/* ---- anything comes back ---------------------------------------------------------------------------------- */

static double
random_value(test_random *r)
{
    switch (test_random_below(r, 6)) {
    case 0:
        return ps_double_of(test_random_u64(r));
    case 1:
        return (double)test_random_below(r, 1000) / 10;
    default:
        return (double)test_random_below(r, 3);
    }
}

static void
random_floats_come_back(void **state)
{
    test_random r = {7};
    for (int round = 0; round < 300; round++) {
        series *s = new_series(state);
        int64_t t = round % 2 ? 1700000000000 : MDL_TIME_MIN_MS;
        size_t n = 1 + test_random_below(&r, 200);
        for (size_t i = 0; i < n; i++) {
            t += 1 + (int64_t)test_random_below(&r, UINT64_C(1) << test_random_below(&r, 40));
            add_float(s, t, random_value(&r));
        }
        char expected[32];
        snprintf(expected, sizeof expected, n <= 120 ? "1:%d" : "1:120 1:%d",
                 (int)(n <= 120 ? n : n - 120));
        assert_cut(s, expected);
    }
}

static void
random_histograms_come_back(void **state)
{
    test_random r = {9};
    for (int round = 0; round < 200; round++) {
        series *s = new_series(state);
        bool integer = round % 2 == 0;
        double zero = 0, buckets[3] = {0};
        ps_buf text;
        ps_buf_init(&text, &ps_malloc);
        for (int i = 0; i < 30; i++) {
            double count = zero += (double)test_random_below(&r, 3);
            ps_buf_clear(&text);
            for (int k = 0; k < 3; k++) {
                buckets[k] += (double)(test_random_u64(&r) >> (24 + test_random_below(&r, 40)));
                count += buckets[k] += integer ? 0 : 0.5;
            }
            if (buckets[2] > 0x1p52 || buckets[1] > 0x1p52 || buckets[0] > 0x1p52)
                break;
            ps_buf_addf(&text, "schema:%d count:%.17g sum:%d z_bucket:%.17g z_bucket_w:%g ", round % 9,
                        count, i, zero, round % 3 == 0 ? 0.001 : round % 3 == 1 ? 0x1p-128 : 0.5);
            ps_buf_addf(&text, "buckets:[%.17g 0 %.17g] offset:%d n_buckets:[%.17g]", buckets[0],
                        buckets[1], round - 100, buckets[2]);
            ps_buf_add_char(&text, 0);
            add_histogram(s, 1000 * i, integer, text.ptr);
        }
        ps_buf_done(&text);
        if (s->n > 0) {
            char expected[32];
            snprintf(expected, sizeof expected, "%d:%d", integer ? 2 : 3, (int)s->n);
            assert_cut(s, expected);
        }
    }
}

/* ---- damage ------------------------------------------------------------------------------------------------ */

static void
damage_is_refused(void **state)
{
    series *s = new_series(state);
    for (int i = 0; i < 20; i++)
        add_histogram(s, 1000 * i, true, "schema:1 count:9 sum:3 buckets:[3 1 5] offset:-2");
    for (int i = 20; i < 40; i++)
        add_histogram(s, 1000 * i, false, "schema:-53 count:9 sum:3 buckets:[9] custom_values:[7]");
    for (int i = 40; i < 60; i++)
        add_float(s, 1000 * i, i * 1.1);
    for (size_t from = 0; from < s->n; from += 20) {
        chk_samples in = samples_of(s);
        ps_buf out;
        chk_chunk c;
        chk_decoded d;
        ps_err err = {.code = PS_OK};
        ps_buf_init(&out, &ps_malloc);
        assert_int_equal(chk_encode(&ps_malloc, &in, from, &out, &c, &err), PS_OK);
        for (size_t len = 0; len < out.len; len++) {
            assert_int_equal(decode(c.encoding, (ps_str){out.ptr, len}, &s->arena, &d, &err),
                             PS_ECORRUPT);
            assert_int_equal(err.code, PS_ECORRUPT);
        }
        for (size_t bit = 0; bit < out.len * 8; bit++) { /* does no harm, whatever it becomes */
            out.ptr[bit / 8] ^= (char)(1 << bit % 8);
            for (int encoding = 1; encoding <= 3; encoding++) {
                ps_status status =
                    decode(encoding, ps_buf_str(&out), &s->arena, &d, &err);
                assert_true(status == PS_OK || status == PS_ECORRUPT);
            }
            out.ptr[bit / 8] ^= (char)(1 << bit % 8);
        }
        assert_int_equal(decode(4, ps_buf_str(&out), &s->arena, &d, &err), PS_EUNSUPPORTED);
        assert_int_equal(decode(0, ps_buf_str(&out), &s->arena, &d, &err), PS_EUNSUPPORTED);
        ps_buf_done(&out);
    }
}

/* A few bytes that announce very much get no memory for it. */
static void
announcements_are_not_believed(void **state)
{
    static const char *const hostile[] = {
        "ffff0000", "000100 00 fd ffffffffffffffff", "000100 00 80 ff ffffffffffffffff ff",
        "000100 00 80 a0 ff 0fffffffffffffffff 80 00000000000000000000",
    };
    (void)state;
    for (size_t i = 0; i < PS_ARRAY_LEN(hostile); i++) {
        uint8_t bytes[64];
        size_t n = test_unhex(bytes, hostile[i]);
        test_alloc counted = {0};
        ps_alloc alloc = test_alloc_of(&counted);
        ps_arena arena;
        chk_decoded d;
        ps_err err;
        ps_arena_init(&arena, &alloc, 0);
        for (int encoding = 1; encoding <= 3; encoding++)
            (void)!decode(encoding, (ps_str){(char *)bytes, n}, &arena, &d, &err);
        ps_arena_done(&arena);
        assert_true(counted.peak_bytes < 1 << 17);
    }
}

static void
memory_may_run_out(void **state)
{
    series *s = new_series(state);
    add_histogram(s, 1, false, "schema:1 count:9 sum:3 buckets:[3 1 5] offset:-2");
    add_histogram(s, 2, false, "schema:1 count:9 sum:3 buckets:[3 1 5] offset:-2");
    for (size_t fail_at = 1;; fail_at++) {
        test_alloc counted = {.fail_at = fail_at};
        ps_alloc alloc = test_alloc_of(&counted);
        chk_samples in = samples_of(s);
        ps_buf out;
        ps_arena arena;
        chk_chunk c;
        chk_decoded d;
        ps_err err;
        ps_buf_init(&out, &alloc);
        ps_arena_init(&arena, &alloc, 0);
        ps_status status = chk_encode(&alloc, &in, 0, &out, &c, &err);
        if (status == PS_OK)
            status = chk_decode(c.encoding, ps_buf_str(&out), &arena, &d, &err);
        ps_arena_done(&arena);
        ps_buf_done(&out);
        test_alloc_check_empty(&counted);
        if (status == PS_OK)
            break;
        assert_int_equal(status, PS_ENOMEM);
    }
}

static int
set_up(void **state)
{
    series *s = malloc(sizeof(*s));
    ps_arena_init(&s->arena, &ps_malloc, 0);
    *state = s;
    return 0;
}

static int
tear_down(void **state)
{
    series *s = *state;
    ps_arena_done(&s->arena);
    free(s);
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_of_floats),
        cmocka_unit_test(bytes_of_integer_histograms),
        cmocka_unit_test(bytes_of_float_histograms),
        cmocka_unit_test(chunks_are_cut),
        cmocka_unit_test(a_change_begins_a_chunk),
        cmocka_unit_test(gauges_may_fall),
        cmocka_unit_test(after_a_stale_one_only_stale_ones),
        cmocka_unit_test(resets_are_told),
        cmocka_unit_test(hints_of_what_is_read),
        cmocka_unit_test(random_floats_come_back),
        cmocka_unit_test(random_histograms_come_back),
        cmocka_unit_test(damage_is_refused),
        cmocka_unit_test(announcements_are_not_believed),
        cmocka_unit_test(memory_may_run_out),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
