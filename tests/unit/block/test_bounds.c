/*
 * test_bounds.c - every change of one byte of small blocks, with the checksums put right: what still opens
 * must be consistent in itself (ids, times, counts, references), and decoding stays inside the arrays that
 * it was given. Random damage finds the gross mistakes; the off-by-ones are found here.
 */
#include "tests/unit/support.h"

#include "lib/block/internal.h"
#include "tests/unit/block/blockgen.h"

enum { METRIC = 4, TENANT = 2, GUARDS = 4 };
#define GUARD INT64_C(0x5ca1ab1e5ca1ab1e)

/* ---- blocks ----------------------------------------------------------------------------------- */

static void
make_columns(size_t n_series, size_t n, gen_times times, bool shared, gen_values values,
             ps_buf *out)
{
    uint64_t state = 9;
    blk_writer_opts o = {TENANT, METRIC, BLK_LEVEL_SEALED, 0};
    blk_writer *w = blk_writer_new(&ps_malloc, &o);
    int64_t t[300];
    double v[300];
    blk_meta meta;
    ps_err err;

    gen_fill_times(&state, times, t, n);
    for (size_t s = 0; s < n_series; s++) {
        if (!shared && s > 0)
            gen_fill_times(&state, times, t, n + s);
        gen_fill_values(&state, values, v, n + s);
        assert_int_equal(blk_writer_add(w, 10 + (int64_t)s * 3, t, v, shared ? n : n + s, &err),
                         PS_OK);
    }
    assert_int_equal(blk_writer_finish(w, out, &meta, &err), PS_OK);
    blk_writer_free(w);
}

static void
make_flush(const blk_point *p, size_t n, int32_t metric_or_bucket, ps_buf *out)
{
    blk_meta meta;
    ps_err err;
    assert_int_equal(blk_encode_flush(&ps_malloc, TENANT, metric_or_bucket, p, n, out, &meta, &err),
                     PS_OK);
}

static void
set_checksums(char *p, size_t len)
{
    if (p[3] == BLK_FORMAT_COLUMNS && len >= BLK_COLUMNS_FIXED) {
        size_t head = ps_get_u32le(p + BLK_OFF_HEAD_LEN);
        if (head <= BLK_COLUMNS_FIXED || head > len)
            return;
        ps_put_u32le(p + BLK_OFF_BODY_CRC, ps_crc32c(0, p + head, len - head));
        ps_put_u32le(p + BLK_OFF_CRC, blk_crc_skipping((ps_str){p, head}));
    } else {
        ps_put_u32le(p + BLK_OFF_CRC, blk_crc_skipping((ps_str){p, len}));
    }
}

/* ---- what must hold of whatever opens --------------------------------------------------------- */

static void
check_series(blk_reader *r, const blk_meta *m, const blk_series *s)
{
    /* as small as promised, so that one more is seen, with or without a sanitizer */
    int64_t *t = malloc((s->n_samples + GUARDS) * sizeof *t);
    int64_t *v = malloc((s->n_samples + GUARDS) * sizeof *v);
    size_t n = 0;
    ps_err err;

    for (size_t i = 0; i < s->n_samples + GUARDS; i++)
        t[i] = v[i] = GUARD;
    ps_status status =
        blk_reader_decode(r, s->index, INT64_MIN, INT64_MAX, t, (double *)v, &n, &err);
    assert_true(status == PS_OK || status == PS_ECORRUPT);
    for (size_t i = s->n_samples; i < s->n_samples + GUARDS; i++)
        assert_true(t[i] == GUARD && v[i] == GUARD);
    if (status == PS_OK) {
        assert_int_equal(n, s->n_samples);
        assert_true(t[0] == s->t_first_ms && t[n - 1] == s->t_last_ms);
        assert_true(t[0] >= m->t_min_ms && t[n - 1] <= m->t_max_ms);
        for (size_t i = 1; i < n; i++)
            assert_true(t[i] > t[i - 1]);
    }
    free(t);
    free(v);
}

static bool
opens(ps_str data)
{
    blk_reader *r;
    ps_err err;
    ps_status status = blk_reader_open(&ps_malloc, data, NULL, &r, &err);

    if (status != PS_OK) {
        assert_true(status == PS_ECORRUPT || status == PS_EUNSUPPORTED);
        return false;
    }
    const blk_meta *m = blk_reader_meta(r);
    const uint32_t n_series = blk_reader_n_series(r);
    int64_t total = 0;
    blk_series before = {0};
    assert_int_equal(n_series, m->n_series);
    assert_true(m->t_min_ms >= MDL_TIME_MIN_MS && m->t_max_ms <= MDL_TIME_MAX_MS);
    for (uint32_t i = 0; i < n_series; i++) {
        blk_series s;
        if (m->format == BLK_FORMAT_COLUMNS)
            assert_true(r->cseries[i].tcol < r->n_tcols);
        blk_reader_series(r, i, &s);
        assert_true(s.series_id >= m->series_lo && s.series_id <= m->series_hi);
        if (i > 0)
            assert_true(s.metric_id > before.metric_id ||
                        (s.metric_id == before.metric_id && s.series_id > before.series_id));
        assert_true(s.metric_id == m->metric_id || mdl_bucket(s.metric_id) == m->metric_id);
        total += s.n_samples;
        check_series(r, m, &s);
        before = s;
    }
    assert_int_equal(total, m->n_samples);
    blk_reader_free(r);
    return true;
}

/* How many of all changes of one byte still open. */
static void
every_byte(ps_buf *block)
{
    size_t opened = 0, len = block->len;
    char *copy = test_exact_copy(block->ptr, len);

    assert_true(opens((ps_str){copy, len}));
    for (size_t at = 0; at < len; at++) {
        for (unsigned by = 1; by < 256; by++) {
            copy[at] = (char)((unsigned char)block->ptr[at] + by);
            set_checksums(copy, len);
            opened += opens((ps_str){copy, len});
            memcpy(copy, block->ptr, len);
        }
    }
    free(copy);
    assert_true(opened > 0 && opened < len * 255); /* values may be changed, structure may not */
    ps_buf_done(block);
}

static void
test_columns_blocks(void **state)
{
    ps_buf b;
    (void)state;
    for (gen_times times = GEN_GRID; times < GEN_TIMES_END; times++) {
        ps_buf_init(&b, &ps_malloc);
        make_columns(2, 5, times, true, GEN_COUNTER, &b);
        every_byte(&b);
        ps_buf_init(&b, &ps_malloc);
        make_columns(2, 4, times, false, GEN_HOSTILE, &b);
        every_byte(&b);
    }
    ps_buf_init(&b, &ps_malloc);
    make_columns(1, 140, GEN_JITTER, true, GEN_RESETS, &b); /* two frames, with patches */
    every_byte(&b);
}

static void
test_flush_blocks(void **state)
{
    const blk_point plain[] = {{.series_id = 1, .t_ms = 10, .value = 1, .metric_id = METRIC},
                               {.series_id = 1, .t_ms = 20, .value = 2.5, .metric_id = METRIC},
                               {.series_id = 2, .t_ms = 10, .value = 7, .metric_id = METRIC},
                               {.series_id = 2, .t_ms = 20, .value = 8, .metric_id = METRIC},
                               {.series_id = 3, .t_ms = 11, .value = -0.0, .metric_id = METRIC},
                               {.series_id = 9, .t_ms = 10, .value = 1e300, .metric_id = METRIC}};
    const blk_point packed[] = {
        {.series_id = 1, .t_ms = 10, .value = 1, .metric_id = METRIC},
        {.series_id = 2, .t_ms = 10, .value = 2, .metric_id = METRIC},
        {.series_id = 3, .t_ms = 12, .value = 3, .metric_id = METRIC + MDL_BUCKETS},
        {.series_id = 3, .t_ms = 14, .value = 3, .metric_id = METRIC + MDL_BUCKETS},
        {.series_id = 1, .t_ms = 12, .value = 3, .metric_id = METRIC + 3 * MDL_BUCKETS}};
    blk_point many[60];
    ps_buf b;

    (void)state;
    for (int i = 0; i < 60; i++) /* enough for lz4 */
        many[i] =
            (blk_point){.series_id = i / 3, .t_ms = i % 3 * 1000, .value = i, .metric_id = METRIC};
    ps_buf_init(&b, &ps_malloc);
    make_flush(plain, PS_ARRAY_LEN(plain), METRIC, &b);
    every_byte(&b);
    ps_buf_init(&b, &ps_malloc);
    make_flush(packed, PS_ARRAY_LEN(packed), mdl_bucket(METRIC), &b);
    every_byte(&b);
    ps_buf_init(&b, &ps_malloc);
    make_flush(many, PS_ARRAY_LEN(many), METRIC, &b);
    every_byte(&b);
}

/* ---- pieces, by hand -------------------------------------------------------------------------- */

static void
test_patches_of_a_frame(void **state)
{
    /* five values, four residuals; width 0, patches of 8 bits; start 0, reference 0 */
    uint8_t head[] = {BLK_FRAME_PATCHES, 0, 8, 0, 0}, payload[16] = {0};
    uint64_t out[5 + GUARDS];
    blk_frame f;

    (void)state;
    for (uint8_t n = 1; n <= 6; n++) {
        blk_chain chain = {0};
        blk_in in = {head, head + sizeof head, false};
        head[1] = n;
        assert_int_equal(blk_frame_parse(&in, 5, BLK_MODE_RAW, &chain, &f), n <= 4);
    }
    head[1] = 1;
    for (uint8_t at = 0; at <= 5; at++) {
        blk_chain chain = {0};
        blk_in in = {head, head + sizeof head, false};
        assert_true(blk_frame_parse(&in, 5, BLK_MODE_RAW, &chain, &f));
        payload[0] = at;
        payload[1] = 2;
        assert_int_equal(blk_frame_decode(&f, BLK_MODE_RAW, 0, payload, sizeof payload, out),
                         at < 4);
        if (at < 4)
            assert_int_equal(out[at + 1], 1); /* zigzag of 2 */
    }
}

static void
test_ends_of_a_time_column(void **state)
{
    static const struct {
        int64_t room; /* from the first time to the last possible one */
        bool good;
    } cases[] = {{1000, true}, {999, false}, {1001, true}, {0, false}};

    (void)state;
    for (unsigned grid = 0; grid < 2; grid++) {
        for (size_t i = 0; i < PS_ARRAY_LEN(cases); i++) {
            /* two times, 1000 ms apart, as a grid or with (empty) frames */
            const blk_tcol prev = {.t_first = MDL_TIME_MAX_MS - cases[i].room,
                                   .n = 2,
                                   .step = 1000};
            uint8_t bytes[16], *p = bytes;
            blk_tcol c;
            bool unsupported = false;
            *p++ = BLK_TCOL_SAME_N | BLK_TCOL_SAME_STEP | (grid ? BLK_TCOL_GRID : 0);
            *p++ = 0; /* first time: that of the column before */
            if (!grid) {
                p = blk_put_varint(p, 1000);
                *p++ = 0; /* a frame: width 0, start 0, reference 0 */
                *p++ = 0;
                *p++ = 0;
            }
            blk_in in = {bytes, p, false};
            assert_int_equal(blk_tcol_parse(&in, &prev, &c, &unsupported), cases[i].good);
            if (cases[i].good)
                assert_true(c.t_last == c.t_first + 1000 && in.p == p);
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_columns_blocks),
        cmocka_unit_test(test_flush_blocks),
        cmocka_unit_test(test_patches_of_a_frame),
        cmocka_unit_test(test_ends_of_a_time_column),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
