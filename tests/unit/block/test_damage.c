/*
 * test_damage.c - bytes that are not what was written: flipped, cut, lengthened, made by somebody
 * else, and memory that runs out. Blocks are copied to the heap at their exact size, so a read
 * outside is seen by the address sanitizer.
 */
#include "tests/unit/support.h"

#include "lib/block/internal.h"
#include "tests/unit/block/blockgen.h"

enum { METRIC = 7 };

typedef struct sample_block {
    ps_buf bytes;
    blk_meta meta;
} sample_block;

/* Small blocks that between them use every codec, method and optional field. */
static void
make_columns(uint64_t *state, int16_t level, sample_block *b)
{
    static const gen_values kinds[] = {GEN_CONST,       GEN_COUNTER,    GEN_CENTI_COUNTER,
                                       GEN_HOSTILE,     GEN_STALE_TAIL, GEN_REPEATING_FLOATS,
                                       GEN_TOGGLE_SIGN, GEN_CLOCK,      GEN_RAMP,
                                       GEN_PAGES};
    blk_writer_opts o = {1, METRIC, level, 0};
    blk_writer *w = blk_writer_new(&ps_malloc, &o);
    int64_t t[300];
    double v[300];
    ps_err err;

    for (size_t i = 0; i < PS_ARRAY_LEN(kinds); i++) {
        size_t n = i % 3 == 0 ? 200 : i % 3 == 1 ? 20 : 140;
        gen_fill_times(state, (gen_times)(i % GEN_TIMES_END), t, n);
        gen_fill_values(state, kinds[i], v, n);
        assert_int_equal(blk_writer_add(w, (int64_t)i * 5, t, v, n, &err), PS_OK);
    }
    ps_buf_init(&b->bytes, &ps_malloc);
    assert_int_equal(blk_writer_finish(w, &b->bytes, &b->meta, &err), PS_OK);
    blk_writer_free(w);
}

/* Series that are relative to others. */
static void
make_row(uint64_t *state, sample_block *b)
{
    enum { N = 300, BUCKETS = 6 };
    blk_writer_opts o = {1, METRIC, BLK_LEVEL_SEALED, 0};
    blk_writer *w = blk_writer_new(&ps_malloc, &o);
    int64_t t[N];
    double v[BUCKETS * N];
    ps_err err;

    gen_fill_times(state, GEN_GRID, t, N);
    gen_fill_buckets(state, v, BUCKETS, N);
    for (size_t i = 0; i < BUCKETS; i++)
        assert_int_equal(blk_writer_add(w, (int64_t)i, t, v + i * N, N, &err), PS_OK);
    ps_buf_init(&b->bytes, &ps_malloc);
    assert_int_equal(blk_writer_finish(w, &b->bytes, &b->meta, &err), PS_OK);
    blk_writer_free(w);
}

static void
make_flush(uint64_t *state, bool packed, gen_values kind, size_t n_series, size_t len,
           sample_block *b)
{
    blk_point p[2000];
    size_t n = 0;
    ps_err err;

    for (size_t m = 0; m < (packed ? 4u : 1u); m++) {
        int64_t t[32];
        double v[32];
        for (size_t s = 0; s < n_series; s++) {
            if (s % 4 == 0)
                gen_fill_times(state, GEN_JITTER, t, len);
            gen_fill_values(state, kind, v, len);
            for (size_t i = 0; i < len; i++)
                p[n++] = (blk_point){.series_id = (int64_t)(s * 3),
                                     .t_ms = t[i],
                                     .value = v[i],
                                     .metric_id = METRIC + MDL_BUCKETS * (int32_t)m};
        }
    }
    ps_buf_init(&b->bytes, &ps_malloc);
    assert_int_equal(blk_encode_flush(&ps_malloc, 1, packed ? mdl_bucket(METRIC) : METRIC, p, n,
                                      &b->bytes, &b->meta, &err),
                     PS_OK);
}

static size_t
make_samples(sample_block *b)
{
    uint64_t state = 21;
    size_t n = 0;

    make_columns(&state, BLK_LEVEL_MERGED, &b[n++]);
    make_columns(&state, BLK_LEVEL_SEALED, &b[n++]);
    make_row(&state, &b[n++]);
    make_flush(&state, false, GEN_COUNTER, 1, 1, &b[n++]);
    make_flush(&state, false, GEN_COUNTER, 40, 1, &b[n++]);
    make_flush(&state, false, GEN_HOSTILE, 20, 3, &b[n++]);
    make_flush(&state, true, GEN_STALE_TAIL, 8, 5, &b[n++]);
    make_flush(&state, true, GEN_FLOAT_SUM, 8, 1, &b[n++]);
    return n;
}

/* Opens, walks, decodes; every result must be a clean one. Returns the first status that is not
 * PS_OK. */
static ps_status
walk(ps_str data, const blk_meta *expect, bool head)
{
    blk_reader *r = NULL;
    ps_err err;
    ps_status status = head ? blk_reader_open_head(&ps_malloc, data, expect, &r, &err)
                            : blk_reader_open(&ps_malloc, data, expect, &r, &err);

    if (status != PS_OK) {
        assert_int_equal(err.code, status);
        return status;
    }
    const blk_meta *m = blk_reader_meta(r);
    uint64_t total = 0;
    for (uint32_t i = 0; i < blk_reader_n_series(r); i++) {
        blk_series s;
        size_t n;
        blk_reader_series(r, i, &s);
        total += s.n_samples;
        assert_true(s.t_first_ms >= m->t_min_ms && s.t_last_ms <= m->t_max_ms);
        if (head || s.n_samples > 100000)
            continue;
        int64_t *t = malloc(s.n_samples * sizeof *t);
        double *v = malloc(s.n_samples * sizeof *v);
        ps_status got = blk_reader_decode(r, i, INT64_MIN, INT64_MAX, t, v, &n, &err);
        if (got != PS_OK) {
            assert_int_equal(err.code, got);
            status = status == PS_OK ? got : status;
        } else {
            assert_int_equal(n, s.n_samples);
            for (size_t k = 0; k < n; k++)
                assert_true(t[k] >= s.t_first_ms && t[k] <= s.t_last_ms &&
                            (k == 0 || t[k] > t[k - 1]));
        }
        int64_t mid = s.t_first_ms + (s.t_last_ms - s.t_first_ms) / 2;
        got = blk_reader_decode(r, i, mid, mid + 100000, t, v, &n, &err);
        if (got == PS_OK)
            assert_true(n <= s.n_samples);
        free(t);
        free(v);
    }
    assert_int_equal(total, m->n_samples);
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

/* Every byte, every bit: never accepted. */
static void
test_flips(void **unused)
{
    sample_block b[8];
    size_t n = make_samples(b);

    (void)unused;
    for (size_t k = 0; k < n; k++) {
        size_t len = b[k].bytes.len;
        char *copy = test_exact_copy(b[k].bytes.ptr, len);
        assert_int_equal(walk((ps_str){copy, len}, &b[k].meta, false), PS_OK);
        for (size_t i = 0; i < len; i++) {
            for (unsigned bit = 0; bit < 8; bit++) {
                copy[i] = (char)(copy[i] ^ 1 << bit);
                ps_status status = walk((ps_str){copy, len}, NULL, false);
                assert_true(status == PS_ECORRUPT || status == PS_EUNSUPPORTED);
                copy[i] = (char)(copy[i] ^ 1 << bit);
            }
        }
        /* head opens do not see the body's damage, but all of the head's */
        size_t head = blk_head_bytes((ps_str){copy, len});
        for (size_t i = 0; i < head; i++) {
            copy[i] ^= 1;
            ps_status status = walk((ps_str){copy, len}, NULL, true);
            assert_true(status == PS_ECORRUPT || status == PS_EUNSUPPORTED || status == PS_EINVAL);
            copy[i] ^= 1;
        }
        free(copy);
        ps_buf_done(&b[k].bytes);
    }
}

static void
test_lengths(void **unused)
{
    sample_block b[8];
    size_t n = make_samples(b);

    (void)unused;
    for (size_t k = 0; k < n; k++) {
        size_t len = b[k].bytes.len, head = blk_head_bytes(ps_buf_str(&b[k].bytes));
        for (size_t cut = 0; cut < len; cut++) {
            char *copy = test_exact_copy(b[k].bytes.ptr, cut);
            assert_int_equal(walk((ps_str){copy, cut}, NULL, false), PS_ECORRUPT);
            if (head > 0) {
                ps_status want = cut >= head                ? PS_OK
                                 : cut >= BLK_COLUMNS_FIXED ? PS_EINVAL
                                                            : PS_ECORRUPT;
                assert_int_equal(walk((ps_str){copy, cut}, &b[k].meta, true), want);
            }
            blk_meta m;
            ps_status peek = blk_peek_meta((ps_str){copy, cut}, &m, NULL);
            assert_true(peek == PS_OK || peek == PS_ECORRUPT);
            free(copy);
        }
        char *longer = malloc(len + 1);
        memcpy(longer, b[k].bytes.ptr, len);
        longer[len] = 0;
        assert_int_equal(walk((ps_str){longer, len + 1}, NULL, false), PS_ECORRUPT);
        fix_crcs(longer, len + 1);
        assert_int_equal(walk((ps_str){longer, len + 1}, NULL, false), PS_ECORRUPT);
        free(longer);
        ps_buf_done(&b[k].bytes);
    }
}

/* Damage with right checksums: must be clean, must stay inside; may be accepted. */
static void
test_checksummed_damage(void **unused)
{
    sample_block b[8];
    size_t n = make_samples(b);
    uint64_t state = 22;
    size_t refused = 0, rounds = 0;

    (void)unused;
    for (size_t k = 0; k < n; k++) {
        size_t len = b[k].bytes.len;
        for (unsigned round = 0; round < 4000; round++, rounds++) {
            char *copy = test_exact_copy(b[k].bytes.ptr, len);
            for (uint64_t flips = 1 + gen_below(&state, 3); flips > 0; flips--) {
                /* mostly in the head or the beginning of the body */
                size_t at = gen_below(&state, gen_below(&state, 2) && len > 120 ? 120 : len);
                copy[at] = gen_below(&state, 3) ? (char)gen_u64(&state)
                                                : (char)(copy[at] + (int)gen_below(&state, 3) - 1);
            }
            fix_crcs(copy, len);
            refused += walk((ps_str){copy, len}, NULL, false) != PS_OK;
            walk((ps_str){copy, len}, NULL, true);
            free(copy);
        }
        ps_buf_done(&b[k].bytes);
    }
    assert_true(refused > rounds / 4);
}

static void
expect_patched(const sample_block *b, size_t at, char value, ps_status want)
{
    char *copy = test_exact_copy(b->bytes.ptr, b->bytes.len);

    copy[at] = value;
    fix_crcs(copy, b->bytes.len);
    assert_int_equal(walk((ps_str){copy, b->bytes.len}, NULL, false), want);
    free(copy);
}

static void
test_unknown_things(void **unused)
{
    sample_block b[8];
    size_t n = make_samples(b);
    blk_meta m;
    ps_err err;

    (void)unused;
    for (size_t k = 0; k < n; k++) {
        expect_patched(&b[k], 2, 2, PS_EUNSUPPORTED); /* version */
        expect_patched(&b[k], 3, 3, PS_EUNSUPPORTED); /* format */
        expect_patched(&b[k], 4, 3, PS_EUNSUPPORTED);
        expect_patched(&b[k], 4, 9, PS_EUNSUPPORTED);
        expect_patched(&b[k], 6, 8, PS_EUNSUPPORTED);
        expect_patched(&b[k], 7, 1, PS_EUNSUPPORTED);
        expect_patched(&b[k], 0, 'Q', PS_ECORRUPT);
        char *copy = test_exact_copy(b[k].bytes.ptr, b[k].bytes.len);
        copy[4] = 3;
        assert_int_equal(blk_peek_meta((ps_str){copy, b[k].bytes.len}, &m, &err), PS_EUNSUPPORTED);
        free(copy);
    }
    /* an unknown codec: one series, whose entry ends the head: id 0, codec, flags, last value
     * of 8 bytes */
    blk_writer_opts o = {1, METRIC, BLK_LEVEL_MERGED, 0};
    blk_writer *w = blk_writer_new(&ps_malloc, &o);
    int64_t t[] = {1};
    double v[] = {0.1 + 0.2};
    sample_block one;
    ps_buf_init(&one.bytes, &ps_malloc);
    assert_int_equal(blk_writer_add(w, 5, t, v, 1, &err), PS_OK);
    assert_int_equal(blk_writer_finish(w, &one.bytes, &one.meta, &err), PS_OK);
    size_t codec_at = one.bytes.len - 10;
    assert_int_equal(one.bytes.ptr[codec_at], BLK_CODEC_CONST);
    expect_patched(&one, codec_at, BLK_CODEC_END, PS_EUNSUPPORTED);
    expect_patched(&one, codec_at, 0, PS_EUNSUPPORTED);
    expect_patched(&one, codec_at + 1, (char)(one.bytes.ptr[codec_at + 1] | 3), PS_EUNSUPPORTED);
    blk_writer_free(w);
    ps_buf_done(&one.bytes);
    for (size_t k = 0; k < n; k++)
        ps_buf_done(&b[k].bytes);
}

static void
test_row_is_compared(void **unused)
{
    sample_block b[8];
    size_t n = make_samples(b);
    ps_err err;

    (void)unused;
    for (size_t k = 0; k < n; k++) {
        ps_str data = ps_buf_str(&b[k].bytes);
        for (unsigned field = 0; field < 12; field++) {
            blk_meta m = b[k].meta;
            switch (field) {
            case 0:
                m.tenant_id++;
                break;
            case 1:
                m.metric_id++;
                break;
            case 2:
                m.dist_key++;
                break;
            case 3:
                m.level++;
                break;
            case 4:
                m.kind++;
                break;
            case 5:
                m.format++;
                break;
            case 6:
                m.series_lo--;
                break;
            case 7:
                m.series_hi++;
                break;
            case 8:
                m.t_min_ms--;
                break;
            case 9:
                m.t_max_ms++;
                break;
            case 10:
                m.n_series++;
                break;
            case 11:
                m.n_samples--;
                break;
            }
            blk_reader *r = NULL;
            assert_int_equal(blk_reader_open(&ps_malloc, data, &m, &r, &err), PS_ECORRUPT);
            assert_non_null(strstr(err.text, "row"));
        }
        ps_buf_done(&b[k].bytes);
    }
}

/* A stored dist_key (a metric that is spread) is carried. */
static void
test_own_dist_key(void **unused)
{
    sample_block b[8];
    size_t n = make_samples(b);
    ps_buf out;
    blk_meta m = b[2].meta, got;
    unsigned flags;
    ps_err err;

    (void)unused;
    m.dist_key = INT64_MIN + 5;
    ps_buf_init(&out, &ps_malloc);
    blk_header_write(&out, &m, 0);
    blk_in in = {(const uint8_t *)out.ptr, (const uint8_t *)out.ptr + out.len, false};
    assert_int_equal(blk_header_read(&in, &got, &flags, &err), PS_OK);
    assert_int_equal(got.dist_key, m.dist_key);
    assert_int_equal(blk_meta_compare(&got, &m, &err), PS_OK);
    ps_buf_done(&out);
    for (size_t k = 0; k < n; k++)
        ps_buf_done(&b[k].bytes);
}

/* What a hostile block can ask for, whatever it says of itself. */
static void
test_memory_is_bounded(void **unused)
{
    sample_block b[8];
    size_t n = make_samples(b);
    uint64_t state = 23;

    (void)unused;
    for (size_t k = 0; k < n; k++) {
        size_t len = b[k].bytes.len;
        for (unsigned round = 0; round < 1000; round++) {
            char *copy = test_exact_copy(b[k].bytes.ptr, len);
            for (unsigned i = 0; i < 4; i++)
                copy[BLK_FLUSH_FIXED +
                     gen_below(&state, 40 < len - BLK_FLUSH_FIXED ? 40 : len - BLK_FLUSH_FIXED)] =
                    (char)gen_u64(&state);
            fix_crcs(copy, len);
            test_alloc counter = {0};
            ps_alloc alloc = test_alloc_of(&counter);
            blk_reader *r;
            if (blk_reader_open(&alloc, (ps_str){copy, len}, NULL, &r, NULL) == PS_OK)
                blk_reader_free(r);
            test_alloc_check_empty(&counter);
            assert_true(counter.peak_bytes < len * 300 + BLK_FLUSH_MAX_SAMPLES * 80);
            free(copy);
        }
        ps_buf_done(&b[k].bytes);
    }
}

/* ---- memory that runs out ------------------------------------------------------------------ */

static ps_status
count_block(void *self, ps_str data, const blk_meta *meta, ps_err *err)
{
    (void)data;
    (void)meta;
    (void)err;
    ++*(unsigned *)self;
    return PS_OK;
}

/* Everything that allocates, once; false if it ran out of memory. */
static bool
whole_life(const ps_alloc *alloc)
{
    uint64_t state = 24;
    blk_writer_opts o = {1, METRIC, BLK_LEVEL_SEALED, 0};
    blk_merge_opts mo = {.tenant_id = 1,
                         .metric_id = METRIC,
                         .out_level = BLK_LEVEL_SEALED,
                         .from_ms = INT64_MIN,
                         .to_ms = INT64_MAX,
                         .cut_ms = MDL_DAY_MS,
                         .cut_lo_ms = INT64_MIN / 2,
                         .cut_hi_ms = INT64_MAX};
    blk_reader *readers[3] = {NULL};
    blk_writer *w = NULL;
    ps_buf bytes[3];
    blk_meta meta;
    blk_point p[300];
    int64_t t[300];
    double v[300];
    unsigned blocks = 0;
    blk_merge_stats stats;
    size_t n;
    ps_err err = {0};
    ps_status status = PS_ENOMEM;

    for (unsigned i = 0; i < 3; i++)
        ps_buf_init(&bytes[i], alloc);
    for (unsigned i = 0; i < 2; i++) { /* the second overlaps the first: the merge has to sort */
        gen_fill_times(&state, GEN_JITTER, t, 300);
        gen_fill_values(&state, GEN_FLOAT_SUM, v, 300);
        for (unsigned k = 0; k < 300; k++)
            p[k] = (blk_point){.series_id = 4,
                               .t_ms = t[k] / 1000000 * 1000 + k * 777 + i,
                               .value = v[k],
                               .metric_id = METRIC};
        status = blk_encode_flush(alloc, 1, METRIC, p, 300, &bytes[i], &meta, &err);
        if (status == PS_OK) /* one of them decodes its values when they are wanted */
            status = (i == 0 ? blk_reader_open_lazy : blk_reader_open)(alloc, ps_buf_str(&bytes[i]),
                                                                       &meta, &readers[i], &err);
        if (status == PS_OK)
            status = blk_reader_values(readers[i], 0, 0, 1, v, &err);
        if (status != PS_OK)
            goto out;
    }
    status = PS_ENOMEM;
    w = blk_writer_new(alloc, &o);
    if (w == NULL)
        goto out;
    for (int64_t id = 0; id < 40; id++) {
        gen_fill_times(&state, GEN_JITTER, t, 300);
        gen_fill_values(&state, (gen_values)(id % GEN_VALUES_END), v, 300);
        status = blk_writer_add(w, id, t, v, id == 0 ? 300 : 3 + (size_t)id * 4, &err);
        if (status != PS_OK)
            goto out;
    }
    status = blk_writer_finish(w, &bytes[2], &meta, &err);
    if (status == PS_OK)
        status = blk_reader_open(alloc, ps_buf_str(&bytes[2]), &meta, &readers[2], &err);
    for (uint32_t i = 0; status == PS_OK && i < 40; i++)
        status = blk_reader_decode(readers[2], i, INT64_MIN, INT64_MAX, t, v, &n, &err);
    if (status == PS_OK)
        status = blk_merge(alloc, readers, 3, &mo, count_block, &blocks, NULL, &stats, &err);
out:
    blk_writer_free(w);
    for (unsigned i = 0; i < 3; i++) {
        blk_reader_free(readers[i]);
        ps_buf_done(&bytes[i]);
    }
    if (status == PS_OK) {
        assert_true(blocks > 0);
        return true;
    }
    assert_int_equal(status, PS_ENOMEM);
    return false;
}

static void
test_out_of_memory(void **unused)
{
    size_t n = 1;

    (void)unused;
    for (bool done = false; !done; n++) {
        test_alloc failing = {.fail_at = n};
        ps_alloc alloc = test_alloc_of(&failing);
        done = whole_life(&alloc);
        test_alloc_check_empty(&failing);
        assert_true(done == (failing.calls < n));
    }
    assert_true(n > 30); /* it did fail here and there before it succeeded */
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_flips),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_checksummed_damage),
        cmocka_unit_test(test_unknown_things),
        cmocka_unit_test(test_row_is_compared),
        cmocka_unit_test(test_own_dist_key),
        cmocka_unit_test(test_memory_is_bounded),
        cmocka_unit_test(test_out_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
