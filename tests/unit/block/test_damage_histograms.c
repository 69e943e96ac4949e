/*
 * test_damage_histograms.c - blocks of histograms and of start timestamps that are not what was
 * written, and memory that runs out. Blocks lie on the heap at their exact size.
 */
#include "tests/unit/support.h"

#include "lib/block/histograms.h"
#include "tests/unit/block/histgen.h"

enum { METRIC = 7, SERIES = GEN_HISTOGRAMS_END, MAX_N = 150, N_BLOCKS = 6 };

typedef struct source { /* samples of all series, and the blocks made of them */
    ps_arena arena;
    const hst_hist *h[SERIES][MAX_N];
    int64_t t[SERIES][MAX_N], starts[SERIES][MAX_N];
    double v[SERIES][MAX_N];
    blk_point points[SERIES * MAX_N];
    size_t n[SERIES];
} source;

typedef struct made {
    ps_buf bytes;
    blk_meta meta;
} made;

static void
make_source(source *s, uint64_t seed, size_t max)
{
    uint64_t state = seed;

    ps_arena_init(&s->arena, &ps_malloc, 0);
    for (unsigned i = 0; i < SERIES; i++) {
        s->n[i] = i == GEN_HIST_WIDE ? 2 : 1 + gen_below(&state, max);
        gen_fill_times(&state, (gen_times)(i % GEN_EXTREME_TIMES), s->t[i], s->n[i]);
        gen_fill_histograms(&state, (gen_histograms)i, &s->arena, s->h[i], s->n[i]);
        gen_fill_starts(&state, i % GEN_STARTS_END, s->t[i], s->starts[i], s->n[i]);
        gen_fill_values(&state, GEN_COUNTER, s->v[i], s->n[i]);
    }
}

/* A block of some form: 0-1 merged, sealed histograms; 2 flush of them; 3 packed; 4 columns of floats
 * with start timestamps; 5 flush of those. */
static ps_status
encode(source *s, unsigned form, const ps_alloc *alloc, made *b, ps_err *err)
{
    const bool histograms = form < 4;
    size_t n = 0;

    ps_buf_init(&b->bytes, alloc);
    if (form < 2 || form == 4) {
        blk_writer_opts o = {1, METRIC, form == 1 ? BLK_LEVEL_SEALED : BLK_LEVEL_MERGED,
                             histograms ? BLK_KIND_HISTOGRAM : 0};
        blk_writer *w = blk_writer_new(alloc, &o);
        if (w == NULL)
            return PS_ENOMEM;
        ps_status status = PS_OK;
        for (unsigned i = 0; i < SERIES && status == PS_OK; i++)
            status =
                histograms
                    ? blk_writer_add_histograms(w, i, s->t[i], s->starts[i], s->h[i], s->n[i], err)
                    : blk_writer_add_started(w, i, s->t[i], s->starts[i], s->v[i], s->n[i], err);
        if (status == PS_OK)
            status = blk_writer_finish(w, &b->bytes, &b->meta, err);
        blk_writer_free(w);
        return status;
    }
    for (unsigned i = 0; i < SERIES; i++) {
        for (size_t k = 0; k < s->n[i] && k < 3; k++) {
            s->points[n] =
                (blk_point){.metric_id = METRIC + (form == 3 ? (int32_t)i * MDL_BUCKETS : 0),
                            .series_id = i,
                            .t_ms = s->t[i][k],
                            .start_ms = s->starts[i][k]};
            if (histograms)
                s->points[n].histogram = s->h[i][k];
            else
                s->points[n].value = s->v[i][k];
            n++;
        }
    }
    return (histograms ? blk_encode_flush_histograms
                       : blk_encode_flush)(alloc, 1, form == 3 ? mdl_bucket(METRIC) : METRIC,
                                           s->points, n, &b->bytes, &b->meta, err);
}

/* All of one series, as histograms that pass the check, in an arena; every result must be clean. */
static ps_status
walk_series(const ps_alloc *alloc, blk_bench *b, blk_reader *r, uint32_t i, ps_err *err)
{
    ps_arena arena;
    blk_series s;
    size_t lo, n;
    ps_alloc plain = ps_malloc;

    blk_reader_series(r, i, &s);
    if (s.n_samples > 100000)
        return PS_OK;
    int64_t *t = ps_alloc_array(&plain, s.n_samples, sizeof *t);
    const hst_hist **h = ps_alloc_array(&plain, s.n_samples, sizeof *h);
    assert_true(t != NULL && h != NULL);
    ps_arena_init(&arena, alloc, (size_t)256 << 20);
    ps_status status = blk_bench_times(b, r, i, INT64_MIN, INT64_MAX, t, &lo, &n, err);
    if (status == PS_OK && blk_reader_meta(r)->kind == BLK_KIND_HISTOGRAM) {
        status = blk_bench_histograms(b, r, i, lo, n, &arena, h, err);
        for (size_t k = 0; status == PS_OK && k < n; k++)
            assert_int_equal(hst_check(h[k], NULL), PS_OK);
        /* a part of what is sound is sound */
        ps_status part = blk_bench_histograms(b, r, i, n / 2, n - n / 2, &arena, h, err);
        assert_true(status != PS_OK || part == PS_OK || part == PS_ENOMEM);
    }
    if (status == PS_OK) {
        status = blk_bench_starts(b, r, i, lo, n, t, err);
        for (size_t k = 0; status == PS_OK && k < n; k++)
            assert_true(t[k] >= MDL_TIME_MIN_MS && t[k] <= MDL_TIME_MAX_MS);
    }
    ps_arena_done(&arena);
    ps_alloc_free(&plain, t, s.n_samples * sizeof *t);
    ps_alloc_free(&plain, h, s.n_samples * sizeof *h);
    return status;
}

static ps_status
walk(const ps_alloc *alloc, ps_str data, bool lazy, ps_err *err)
{
    blk_reader *r = NULL;

    *err = (ps_err){0};
    PS_TRY((lazy ? blk_reader_open_lazy : blk_reader_open)(alloc, data, NULL, &r, err));
    blk_bench *b = blk_bench_new(alloc);
    ps_status status = b == NULL ? ps_fail(err, PS_ENOMEM, "bench") : PS_OK;
    for (uint32_t i = 0; b != NULL && i < blk_reader_n_series(r); i++) {
        blk_series s;
        blk_reader_series(r, i, &s);
        ps_status got = blk_reader_prepare(r, s.metric_id, err);
        if (got == PS_OK)
            got = walk_series(alloc, b, r, i, err);
        status = status == PS_OK ? got : status;
    }
    blk_bench_free(b);
    blk_reader_free(r);
    return status;
}

static void
fix_crcs(char *p, size_t len)
{
    if (len < BLK_COLUMNS_FIXED)
        return;
    if (p[3] == BLK_FORMAT_COLUMNS) {
        size_t head = blk_head_bytes((ps_str){p, len});
        if (head == 0 || head > len)
            return;
        ps_put_u32le(p + BLK_OFF_BODY_CRC, ps_crc32c(0, p + head, len - head));
        ps_put_u32le(p + BLK_OFF_CRC, blk_crc_skipping((ps_str){p, head}));
    } else {
        ps_put_u32le(p + BLK_OFF_CRC, blk_crc_skipping((ps_str){p, len}));
    }
}

static void
make_blocks(source *s, uint64_t seed, size_t max, made *b)
{
    ps_err err;

    make_source(s, seed, max);
    for (unsigned form = 0; form < N_BLOCKS; form++)
        assert_int_equal(encode(s, form, &ps_malloc, &b[form], &err), PS_OK);
}

static void
free_blocks(source *s, made *b)
{
    for (unsigned form = 0; form < N_BLOCKS; form++)
        ps_buf_done(&b[form].bytes);
    ps_arena_done(&s->arena);
}

static void
no_flipped_bit_is_accepted(void **unused)
{
    static source s;
    made b[N_BLOCKS];
    ps_err err;

    (void)unused;
    make_blocks(&s, 5, 3, b);
    for (unsigned form = 0; form < N_BLOCKS; form++) {
        const size_t len = b[form].bytes.len;
        char *copy = test_exact_copy(b[form].bytes.ptr, len);
        assert_int_equal(walk(&ps_malloc, (ps_str){copy, len}, false, &err), PS_OK);
        for (size_t i = 0; i < len * 8; i++) {
            copy[i / 8] = (char)(copy[i / 8] ^ 1 << i % 8);
            ps_status status = walk(&ps_malloc, (ps_str){copy, len}, false, &err);
            assert_true(status == PS_ECORRUPT || status == PS_EUNSUPPORTED);
            copy[i / 8] = (char)(copy[i / 8] ^ 1 << i % 8);
        }
        for (size_t cut = 0; cut < len; cut++) {
            char *part = test_exact_copy(copy, cut);
            assert_int_equal(walk(&ps_malloc, (ps_str){part, cut}, false, &err), PS_ECORRUPT);
            free(part);
        }
        free(copy);
    }
    free_blocks(&s, b);
}

/* With right checksums: must be clean, must stay inside; may be accepted. */
static void
checksummed_damage_is_answered_cleanly(void **unused)
{
    static source s;
    made b[N_BLOCKS];
    ps_err err;
    uint64_t state = 31;
    size_t refused = 0, rounds = 0;

    (void)unused;
    make_blocks(&s, 6, MAX_N, b);
    for (unsigned form = 0; form < N_BLOCKS; form++) {
        const size_t len = b[form].bytes.len;
        for (unsigned round = 0; round < 1500; round++, rounds++) {
            char *copy = test_exact_copy(b[form].bytes.ptr, len);
            for (uint64_t flips = 1 + gen_below(&state, 3); flips > 0; flips--) {
                size_t at = gen_below(&state, gen_below(&state, 2) && len > 400 ? 400 : len);
                copy[at] = gen_below(&state, 3) ? (char)gen_u64(&state)
                                                : (char)(copy[at] + (int)gen_below(&state, 3) - 1);
            }
            fix_crcs(copy, len);
            ps_status status = walk(&ps_malloc, (ps_str){copy, len}, round % 2, &err);
            assert_true(status == PS_OK || err.code != PS_OK);
            assert_true(status != PS_EINVAL && status != PS_EINTERNAL && status != PS_ENOMEM);
            refused += status != PS_OK;
            free(copy);
        }
    }
    assert_true(refused > rounds / 8);
    free_blocks(&s, b);
}

/* ---- memory --------------------------------------------------------------------------------- */

static void
every_allocation_may_fail(void **unused)
{
    static source s;
    made b[N_BLOCKS], again;
    ps_err err;

    (void)unused;
    make_blocks(&s, 7, 30, b);
    for (unsigned form = 0; form < N_BLOCKS; form++) {
        bool done = false;
        for (size_t fail_at = 1; !done; fail_at++) {
            test_alloc t = {.fail_at = fail_at};
            ps_alloc a = test_alloc_of(&t);
            ps_status status = encode(&s, form, &a, &again, &err);
            done = status == PS_OK;
            if (done)
                assert_memory_equal(again.bytes.ptr, b[form].bytes.ptr, b[form].bytes.len);
            else
                assert_int_equal(status, PS_ENOMEM);
            ps_buf_done(&again.bytes);
            test_alloc_check_empty(&t);
        }
        done = false;
        for (size_t fail_at = 1; !done; fail_at++) {
            test_alloc t = {.fail_at = fail_at};
            ps_alloc a = test_alloc_of(&t);
            ps_status status = walk(&a, ps_buf_str(&b[form].bytes), fail_at % 2, &err);
            done = status == PS_OK;
            assert_true(done || status == PS_ENOMEM);
            test_alloc_check_empty(&t);
        }
    }
    free_blocks(&s, b);
}

static ps_status
swallow(void *self, ps_str data, const blk_meta *meta, ps_err *err)
{
    (void)self, (void)data, (void)meta, (void)err;
    return PS_OK;
}

static ps_status
merge_both(const ps_alloc *a, const made *x, const made *y, ps_err *err)
{
    blk_merge_opts o = {.tenant_id = 1,
                        .metric_id = METRIC,
                        .out_level = BLK_LEVEL_SEALED,
                        .from_ms = INT64_MIN,
                        .to_ms = INT64_MAX};
    blk_merge_stats stats;
    blk_reader *r[2] = {NULL, NULL};
    ps_status status = blk_reader_open(a, ps_buf_str(&x->bytes), NULL, &r[0], err);

    if (status == PS_OK)
        status = blk_reader_open(a, ps_buf_str(&y->bytes), NULL, &r[1], err);
    if (status == PS_OK)
        status = blk_merge(a, r, 2, &o, swallow, NULL, NULL, &stats, err);
    blk_reader_free(r[0]);
    blk_reader_free(r[1]);
    return status;
}

static void
a_merge_without_memory_says_so(void **unused)
{
    static source s;
    made b[N_BLOCKS];
    ps_err err;

    (void)unused;
    make_blocks(&s, 8, 30, b);
    for (unsigned form = 0; form < N_BLOCKS; form += 4) {
        bool done = false;
        for (size_t fail_at = 1; !done; fail_at++) {
            test_alloc t = {.fail_at = fail_at};
            ps_alloc a = test_alloc_of(&t);
            ps_status status = merge_both(&a, &b[form], &b[form + (form == 4 ? 1 : 2)], &err);
            done = status == PS_OK;
            assert_true(done || status == PS_ENOMEM);
            test_alloc_check_empty(&t);
        }
    }
    free_blocks(&s, b);
}

/* Few bytes that stand for very many buckets. */
static void
what_a_small_block_unpacks_to_is_bounded(void **unused)
{
    enum { BUCKETS = 16384, SAMPLES = 200 };
    static double counts[BUCKETS];
    hst_span span = {0, BUCKETS};
    hst_hist one = {.schema = 8, .positive = {&span, 1, BUCKETS, counts}, .integer = true};
    blk_point points[SAMPLES + 100];
    ps_buf out;
    blk_meta m;
    ps_err err;

    (void)unused;
    for (size_t i = 0; i < BUCKETS; i++)
        counts[i] = 3;
    one.count = 3 * BUCKETS;
    for (size_t i = 0; i < PS_ARRAY_LEN(points); i++)
        points[i] =
            (blk_point){.metric_id = 64, .series_id = (int64_t)i, .t_ms = 1, .histogram = &one};
    ps_buf_init(&out, &ps_malloc);
    assert_int_equal(blk_encode_flush_histograms(&ps_malloc, 1, 64, points, SAMPLES, &out, &m,
                                                 &err),
                     PS_OK);
    assert_true(out.len < 40000);
    test_alloc t = {0};
    ps_alloc a = test_alloc_of(&t);
    blk_reader *r;
    assert_int_equal(blk_reader_open(&a, ps_buf_str(&out), &m, &r, &err), PS_OK);
    assert_true(t.peak_bytes < (size_t)130 << 20);
    blk_reader_free(r);
    ps_buf_clear(&out);
    assert_int_equal(blk_encode_flush_histograms(&ps_malloc, 1, 64, points, PS_ARRAY_LEN(points),
                                                 &out, &m, &err),
                     PS_ELIMIT);
    assert_int_equal(out.len, 0);
    ps_buf_done(&out);
}

/* ---- blocks by hand ------------------------------------------------------------------------- */

/* A merged block of one series of n samples: a table of one layout, as bytes, and a payload. */
static ps_status
read_by_hand(ps_str layout, ps_str payload, uint64_t n, ps_err *err)
{
    blk_meta m = {.tenant_id = 1,
                  .metric_id = METRIC,
                  .dist_key = mdl_dist_key(1, METRIC),
                  .level = BLK_LEVEL_MERGED,
                  .kind = BLK_KIND_HISTOGRAM,
                  .format = BLK_FORMAT_COLUMNS,
                  .t_max_ms = (int64_t)n - 1,
                  .n_series = 1,
                  .n_samples = (int32_t)n};
    ps_buf out;

    ps_buf_init(&out, &ps_malloc);
    blk_header_write(&out, &m, 0);
    blk_buf_varint(&out, 1);
    ps_buf_add_char(&out, BLK_TCOL_GRID);
    blk_buf_varint(&out, n);
    blk_buf_varint(&out, 0); /* first time */
    blk_buf_varint(&out, 1); /* step */
    blk_buf_varint(&out, 1);
    ps_buf_add_str(&out, layout);
    blk_buf_varint(&out, 0); /* id */
    ps_buf_add_char(&out, BLK_TREF_NEXT);
    blk_buf_varint(&out, payload.len);
    ps_put_u32le(out.ptr + BLK_OFF_HEAD_LEN, (uint32_t)out.len);
    ps_put_u32le(out.ptr + BLK_OFF_BODY_LEN, (uint32_t)payload.len);
    ps_buf_add_str(&out, payload);
    fix_crcs(out.ptr, out.len);
    char *copy = test_exact_copy(out.ptr, out.len);
    ps_status status = walk(&ps_malloc, (ps_str){copy, out.len}, false, err);
    free(copy);
    ps_buf_done(&out);
    return status;
}

/* n samples of one layout, all of whose numbers are 0. */
static void
empty_run(ps_buf *out, uint64_t n, size_t buckets)
{
    blk_buf_varint(out, 0);
    blk_buf_varint(out, n - 1);
    ps_buf_add_char(out, 0);
    ps_buf_add(out, "\0\0", 2); /* hints: all the same, 0 */
    for (size_t i = 0; i < buckets + 3; i++)
        ps_buf_add_char(out, 0);
}

static void
a_series_unpacks_to_a_bounded_size(void **unused)
{
    const hst_span all = {0, BLK_MAX_BUCKETS};
    const hst_side positive = {&all, 1, BLK_MAX_BUCKETS, NULL}, negative = {0};
    static double bounds[BLK_MAX_BUCKETS];
    hst_hist like = {.schema = 0};
    ps_buf layout, payload;
    ps_err err;

    (void)unused;
    ps_buf_init(&layout, &ps_malloc);
    ps_buf_init(&payload, &ps_malloc);
    blk_layout_put(&layout, &like, &positive, &negative);
    for (unsigned k = 0; k < 2; k++) {
        const uint64_t n = k == 0 ? 511 : 1000;
        ps_buf_clear(&payload);
        empty_run(&payload, n, BLK_MAX_BUCKETS);
        assert_int_equal(read_by_hand(ps_buf_str(&layout), ps_buf_str(&payload), n, &err),
                         k == 0 ? PS_OK : PS_ECORRUPT);
    }
    /* bounds, of which every run has a copy */
    for (size_t i = 0; i < BLK_MAX_BUCKETS; i++)
        bounds[i] = (double)i;
    like = (hst_hist){.schema = HST_CUSTOM, .bounds = bounds, .n_bounds = BLK_MAX_BUCKETS};
    ps_buf_clear(&layout);
    blk_layout_put(&layout, &like, &negative, &negative);
    for (unsigned k = 0; k < 2; k++) {
        const uint64_t n = k == 0 ? 100 : 600;
        ps_buf_clear(&payload);
        for (uint64_t i = 0; i < n; i++)
            empty_run(&payload, 1, 0);
        assert_int_equal(read_by_hand(ps_buf_str(&layout), ps_buf_str(&payload), n, &err),
                         k == 0 ? PS_OK : PS_ECORRUPT);
    }
    ps_buf_done(&layout);
    ps_buf_done(&payload);
}

/* Custom bounds with something in a zero bucket, which they do not have. */
static void
a_zero_count_with_custom_bounds_is_damage(void **unused)
{
    uint8_t layout[100];
    /* layout, samples, flags, hints; count 0, zero count, sum 0, two empty buckets */
    static const char *const payloads[] = {"00 00 00 0000 00 00 00 00 00",
                                           "00 00 00 0000 00 01 00 02 00 00 00",
                                           "00 00 00 0000 00 01 00 01 00 00 00"};
    size_t n = test_unhex(layout, "00 69 01 000000000000f03f 01 00 0001");
    ps_err err;

    (void)unused;
    for (size_t i = 0; i < PS_ARRAY_LEN(payloads); i++) {
        uint8_t payload[100];
        size_t len = test_unhex(payload, payloads[i]);
        assert_int_equal(read_by_hand((ps_str){(char *)layout, n}, (ps_str){(char *)payload, len},
                                      1, &err),
                         i == 0 ? PS_OK : PS_ECORRUPT);
    }
}

static void
expect_layout(const char *hex, ps_status want)
{
    uint8_t bytes[200];
    size_t n = test_unhex(bytes, hex);
    ps_buf payload;
    ps_err err = {0};

    ps_buf_init(&payload, &ps_malloc);
    empty_run(&payload, 1, 2);
    assert_int_equal(read_by_hand((ps_str){(char *)bytes, n}, ps_buf_str(&payload), 1, &err), want);
    ps_buf_done(&payload);
}

static void
layouts_that_make_no_histogram_are_refused(void **unused)
{
    (void)unused;
    /* flags, schema, spans of either side; a span is its offset and its length - 1 */
    expect_layout("00 00 02 00 0000 0000", PS_OK); /* buckets 0 and 2 */
    expect_layout("00 00 01 01 0000 0000", PS_OK); /* one on either side */
    expect_layout("08 00 02 00 0000 0000", PS_EUNSUPPORTED);
    expect_layout("06 00 02 00 0000 0000", PS_EUNSUPPORTED);
    expect_layout("00 12 02 00 0000 0000", PS_EUNSUPPORTED);                /* schema 9 */
    expect_layout("00 09 02 00 0000 0000", PS_EUNSUPPORTED);                /* schema -5 */
    expect_layout("00 00 02 00 0000 ffffffffffffffffff01 00", PS_ECORRUPT); /* gap -1 */
    expect_layout("00 00 02 00 0000 ffffffffffffffff7f 00", PS_ECORRUPT);
    expect_layout("00 00 01 00 fcffffff03 01", PS_OK); /* the last two that are possible */
    expect_layout("00 00 01 00 feffffff03 01", PS_ECORRUPT);
    expect_layout("00 00 02 00 0000 8080808004 00", PS_ECORRUPT);
    expect_layout("00 00 01 00 0000", PS_ECORRUPT);      /* fewer buckets than columns */
    expect_layout("04 00 02 00 0000 0000", PS_ECORRUPT); /* cut in the zero threshold */
    expect_layout("04 00 000000000000f07f 02 00 0000 0000", PS_ECORRUPT); /* +Inf */
    expect_layout("04 00 000000000000f0bf 02 00 0000 0000", PS_ECORRUPT); /* -1 */
    expect_layout("04 00 000000000000f03f 02 00 0000 0000", PS_OK);
    expect_layout("00 69 01 000000000000f03f 01 00 0001", PS_OK); /* one bound, two buckets */
    expect_layout("00 69 01 000000000000f03f 02 00 0000 0000", PS_ECORRUPT); /* the third */
    expect_layout("02 69 01 000000000000f03f 01 00 0001", PS_ECORRUPT);      /* zero threshold */
    expect_layout("00 69 01 000000000000f07f 01 00 0001", PS_ECORRUPT);      /* bound +Inf */
    expect_layout("00 69 01 000000000000f03f 01 01 0000 0000", PS_ECORRUPT); /* negative side */
    expect_layout("00 69 02 000000000000f03f 000000000000f03f 01 00 0001", PS_ECORRUPT);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_flipped_bit_is_accepted),
        cmocka_unit_test(checksummed_damage_is_answered_cleanly),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(a_merge_without_memory_says_so),
        cmocka_unit_test(what_a_small_block_unpacks_to_is_bounded),
        cmocka_unit_test(a_series_unpacks_to_a_bounded_size),
        cmocka_unit_test(a_zero_count_with_custom_bounds_is_damage),
        cmocka_unit_test(layouts_that_make_no_histogram_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
