/*
 * test_relative.c - series that are written relative to the one before: cumulative buckets come back to the bit in
 * whatever order and part they are asked for, from several blocks with one bench; they take much less; rows end where
 * integers do not mean the same; a directory that refers to what cannot be referred to is damage.
 */
#include "tests/unit/support.h"

#include <stdlib.h>
#include <string.h>

#include "lib/block/internal.h"
#include "tests/unit/block/blockgen.h"
#include "tests/unit/block/reference_decoder.h"

enum { BUCKETS = 12, N = 900 };

typedef struct row {
    double v[BUCKETS][N];
    int64_t t[N];
    uint32_t n[BUCKETS]; /* samples of each */
    ps_buf bytes;
    blk_meta meta;
    blk_reader *r;
} row;

static void
fill(uint64_t *state, row *w)
{
    gen_fill_times(state, GEN_GRID, w->t, N);
    gen_fill_buckets(state, &w->v[0][0], BUCKETS, N);
    for (size_t i = 0; i < BUCKETS; i++)
        w->n[i] = N;
}

static void
write_row(row *w, int16_t level)
{
    blk_writer_opts o = {1, 5, level, 0};
    blk_writer *writer = blk_writer_new(&ps_malloc, &o);
    ps_err err;

    for (size_t i = 0; i < BUCKETS; i++)
        assert_int_equal(blk_writer_add(writer, (int64_t)i, w->t, w->v[i], w->n[i], &err), PS_OK);
    ps_buf_init(&w->bytes, &ps_malloc);
    assert_int_equal(blk_writer_finish(writer, &w->bytes, &w->meta, &err), PS_OK);
    blk_writer_free(writer);
    assert_int_equal(blk_reader_open(&ps_malloc, ps_buf_str(&w->bytes), &w->meta, &w->r, &err), PS_OK);
}

static void
done(row *w)
{
    blk_reader_free(w->r);
    ps_buf_done(&w->bytes);
    free(w);
}

static unsigned
codec_of(const row *w, size_t i)
{
    return w->r->cseries[i].values.codec;
}

static void
check_part(const row *w, blk_bench *b, size_t i, size_t lo, size_t n)
{
    double *got = malloc((n + 1) * sizeof *got);

    assert_int_equal(b == NULL ? blk_reader_values(w->r, (uint32_t)i, lo, n, got, NULL)
                               : blk_bench_values(b, w->r, (uint32_t)i, lo, n, got, NULL),
                     PS_OK);
    assert_memory_equal(got, w->v[i] + lo, n * sizeof *got);
    free(got);
}

static void
test_any_order(void **unused)
{
    uint64_t state = 31;
    row *w[3];
    blk_bench *bench = blk_bench_new(&ps_malloc);
    size_t relative = 0;

    (void)unused;
    for (size_t k = 0; k < 3; k++) {
        w[k] = calloc(1, sizeof *w[k]);
        fill(&state, w[k]);
        if (k == 1) { /* markers, in those that others are relative to as well */
            for (size_t i = 0; i < BUCKETS; i += 2)
                w[k]->v[i][gen_below(&state, N)] = ps_double_of(MDL_STALE_NAN_BITS);
            for (size_t i = 0; i < BUCKETS; i++)
                w[k]->v[i][N - 1] = ps_double_of(MDL_STALE_NAN_BITS);
        }
        if (k == 2) { /* a reset */
            for (size_t i = 0; i < BUCKETS; i++) {
                double lost = w[k]->v[i][500];
                for (size_t at = 500; at < N; at++)
                    w[k]->v[i][at] -= lost;
            }
        }
        write_row(w[k], BLK_LEVEL_SEALED);
        for (size_t i = 0; i < BUCKETS; i++) {
            relative += codec_of(w[k], i) == BLK_CODEC_DEC_RELATIVE;
            check_part(w[k], NULL, i, 0, N);
        }
    }
    assert_true(relative >= 3 * BUCKETS / 2);
    for (unsigned round = 0; round < 4000; round++) {
        size_t k = gen_below(&state, 3), i = gen_below(&state, BUCKETS), lo = 0, n = N;
        if (gen_below(&state, 2)) {
            lo = gen_below(&state, N);
            n = gen_below(&state, N - lo + 1);
        }
        check_part(w[k], gen_below(&state, 2) ? bench : NULL, i, lo, n);
        if (gen_below(&state, 2) && i + 1 < BUCKETS)
            check_part(w[k], bench, i + 1, gen_below(&state, 2) ? lo : gen_below(&state, N - n + 1), n);
    }
    blk_bench_free(bench);
    for (size_t k = 0; k < 3; k++)
        done(w[k]);
}

static void
test_reference_agrees(void **unused)
{
    uint64_t state = 32;
    row *w = calloc(1, sizeof *w);
    ref_block ref;

    (void)unused;
    fill(&state, w);
    w->v[4][100] = ps_double_of(MDL_STALE_NAN_BITS);
    write_row(w, BLK_LEVEL_SEALED);
    assert_true(ref_decode((const uint8_t *)w->bytes.ptr, w->bytes.len, &ref));
    assert_int_equal(ref.n, BUCKETS * N);
    for (size_t i = 0; i < BUCKETS * N; i++)
        assert_int_equal(ref.samples[i].bits, ps_bits_of(w->v[i / N][i % N]));
    ref_free(&ref);
    done(w);
}

static void
test_smaller(void **unused)
{
    uint64_t state = 33;
    row *w = calloc(1, sizeof *w);
    blk_codec_scratch s;
    size_t alone = 0;

    (void)unused;
    fill(&state, w);
    write_row(w, BLK_LEVEL_SEALED);
    blk_codec_scratch_init(&s, &ps_malloc);
    for (size_t i = 0; i < BUCKETS; i++) {
        blk_encoded e;
        assert_int_equal(blk_codec_encode(&ps_malloc, &s, w->v[i], N, true, &e), PS_OK);
        assert_true(e.codec != BLK_CODEC_DEC_RELATIVE);
        alone += e.frames.len + e.body.len;
    }
    blk_codec_scratch_done(&s, &ps_malloc);
    assert_true(w->bytes.len * 100 < alone * 80);
    done(w);
}

/* Buckets above the slowest of all requests count the same: the differences are nothing, or the same everywhere. */
static void
test_equal(void **unused)
{
    uint64_t state = 37;

    (void)unused;
    for (unsigned k = 0; k < 3; k++) {
        row *w = calloc(1, sizeof *w);
        fill(&state, w);
        for (size_t i = 1; i < BUCKETS; i++)
            for (size_t at = 0; at < N; at++)
                w->v[i][at] = w->v[0][at] + (k == 1 ? 17.0 * (double)i : 0);
        if (k == 2) {
            for (size_t i = 0; i < BUCKETS; i++)
                w->v[i][N - 1] = ps_double_of(MDL_STALE_NAN_BITS);
        }
        write_row(w, BLK_LEVEL_SEALED);
        for (size_t i = 0; i < BUCKETS; i++) {
            assert_int_equal(codec_of(w, i) == BLK_CODEC_DEC_RELATIVE, i % 9 != 0);
            assert_true(i % 9 == 0 || w->r->cseries[i].values.body_len <= 2 + 11);
        }
        for (size_t i = BUCKETS; i-- > 0;) {
            check_part(w, NULL, i, 0, N);
            check_part(w, NULL, i, 500, 100);
        }
        ref_block ref;
        assert_true(ref_decode((const uint8_t *)w->bytes.ptr, w->bytes.len, &ref));
        for (size_t i = 0; i < BUCKETS * N; i++)
            assert_int_equal(ref.samples[i].bits, ps_bits_of(w->v[i / N][i % N]));
        ref_free(&ref);
        done(w);
    }
}

/* What ends a row: merged blocks, other lengths, other scales, constants, and three in a row that move. */
static void
test_where_rows_end(void **unused)
{
    uint64_t state = 34;

    (void)unused;
    for (unsigned k = 0; k < 6; k++) {
        row *w = calloc(1, sizeof *w);
        fill(&state, w);
        for (size_t at = 0; at < N; at++) {
            if (k == 1)
                w->v[5][at] /= 10;
            if (k == 2)
                w->v[5][at] = 77;
            if (k == 3)
                w->v[5][at] = gen_unit(&state);
            if (k == 4)
                w->v[5][at] *= 4096;
        }
        w->n[5] = k == 5 ? N - 1 : N;
        write_row(w, k == 0 ? BLK_LEVEL_MERGED : BLK_LEVEL_SEALED);
        size_t longest = 0, relative = 0;
        for (size_t i = 0, now = 0; i < BUCKETS; i++) {
            now = codec_of(w, i) == BLK_CODEC_DEC_RELATIVE ? now + 1 : 0;
            longest = now > longest ? now : longest;
            relative += now > 0;
            check_part(w, NULL, i, 0, w->n[i]);
        }
        assert_int_equal(longest, k == 0 ? 0 : 3);
        if (k > 0) {
            assert_true(relative > 4);
            assert_true(codec_of(w, 5) != BLK_CODEC_DEC_RELATIVE);
            assert_true(codec_of(w, 6) != BLK_CODEC_DEC_RELATIVE);
        }
        assert_true(codec_of(w, 0) != BLK_CODEC_DEC_RELATIVE); /* the first of a block, whatever was written before */
        done(w);
    }
}

/* Buckets in which nothing of their own arrives cost next to nothing, and more of them may follow each other. Those that
 * move are still three in a row at most, however many stand still between them. */
static void
test_rows_that_stand_still(void **unused)
{
    enum { SERIES = 20, MOVES = 5, IN_A_ROW = 8 };
    uint64_t state = 36;

    (void)unused;
    for (unsigned moving = 0; moving < 2; moving++) {
        row *w = calloc(1, sizeof *w);
        blk_writer_opts o = {1, 5, BLK_LEVEL_SEALED, 0};
        blk_writer *writer = blk_writer_new(&ps_malloc, &o);
        double *v = calloc((size_t)SERIES * N, sizeof *v), got[N];
        size_t free_ones = 0, in_a_row = 0, costly = 0;
        ref_block ref;
        fill(&state, w);
        for (size_t i = 0; i < SERIES; i++) {
            size_t of = moving ? (i + MOVES - 1) / MOVES : 0;
            for (size_t at = 0; at < N; at++)
                v[i * N + at] = w->v[of][at] + (double)i;
            assert_int_equal(blk_writer_add(writer, (int64_t)i, w->t, v + i * N, N, NULL), PS_OK);
        }
        ps_buf_init(&w->bytes, &ps_malloc);
        assert_int_equal(blk_writer_finish(writer, &w->bytes, &w->meta, NULL), PS_OK);
        assert_int_equal(blk_reader_open(&ps_malloc, ps_buf_str(&w->bytes), &w->meta, &w->r, NULL), PS_OK);
        for (size_t i = 0; i < SERIES; i++) {
            const blk_vcol *c = &w->r->cseries[i].values;
            in_a_row = c->codec == BLK_CODEC_DEC_RELATIVE ? in_a_row + 1 : 0;
            costly = in_a_row == 0 ? 0 : costly + (c->body_len > 16);
            assert_true(in_a_row <= IN_A_ROW && costly <= 3);
            free_ones += in_a_row > 0 && c->body_len <= 16;
            assert_true(moving || (i % (IN_A_ROW + 1) == 0) == (in_a_row == 0));
        }
        assert_true(free_ones >= SERIES / 2);
        for (size_t i = SERIES; i-- > 0;) {
            assert_int_equal(blk_reader_values(w->r, (uint32_t)i, 0, N, got, NULL), PS_OK);
            assert_memory_equal(got, v + i * N, sizeof got);
        }
        assert_true(ref_decode((const uint8_t *)w->bytes.ptr, w->bytes.len, &ref));
        for (size_t i = 0; i < (size_t)SERIES * N; i++)
            assert_int_equal(ref.samples[i].bits, ps_bits_of(v[i]));
        ref_free(&ref);
        blk_writer_free(writer);
        free(v);
        done(w);
    }
}

/* A writer goes on with its next block: its first series has nobody before it. */
static void
test_next_block(void **unused)
{
    uint64_t state = 35;
    row *w = calloc(1, sizeof *w);
    blk_writer_opts o = {1, 5, BLK_LEVEL_SEALED, 0};
    blk_writer *writer = blk_writer_new(&ps_malloc, &o);
    double got[N];

    (void)unused;
    fill(&state, w);
    for (size_t i = 0; i < 4; i++) {
        blk_reader *r;
        ps_buf out;
        blk_meta meta;
        ps_buf_init(&out, &ps_malloc);
        assert_int_equal(blk_writer_add(writer, 1, w->t, w->v[i], N, NULL), PS_OK);
        assert_int_equal(blk_writer_finish(writer, &out, &meta, NULL), PS_OK);
        assert_int_equal(blk_reader_open(&ps_malloc, ps_buf_str(&out), &meta, &r, NULL), PS_OK);
        assert_int_equal(blk_reader_values(r, 0, 0, N, got, NULL), PS_OK);
        assert_memory_equal(got, w->v[i], sizeof got);
        blk_reader_free(r);
        ps_buf_done(&out);
    }
    blk_writer_free(writer);
    free(w);
}

/* What a directory may say of a series before a relative one. */
static void
test_directory(void **unused)
{
    /* k = 2, last integer 5; frame headers and payload of no bytes */
    static const uint8_t entry[] = {10, 0, 0};
    enum { FLAGS = 2 << BLK_ENTRY_K_SHIFT, LEN = 500 };
    const blk_vcol good = {.codec = BLK_CODEC_DEC_DELTA, .k = 2, .depth = BLK_RELATIVE_DEPTH - 1};
    blk_vcol before[6] = {good, good, good, good, good, good}, c;

    (void)unused;
    before[1].k = 3;
    before[2].shift = 1;
    before[3].depth = BLK_RELATIVE_DEPTH;
    before[4].codec = BLK_CODEC_BITS_CODED;
    before[5].codec = BLK_CODEC_CONST;
    for (size_t i = 0; i < PS_ARRAY_LEN(before); i++) {
        blk_in in = {entry, entry + sizeof entry, false};
        assert_int_equal(blk_codec_parse(&in, BLK_CODEC_DEC_RELATIVE, FLAGS, LEN, &before[i], &c),
                         i == 0 ? PS_OK : PS_ECORRUPT);
    }
    blk_in in = {entry, entry + sizeof entry, false};
    assert_int_equal(
        blk_codec_parse(&in, BLK_CODEC_DEC_RELATIVE, FLAGS, BLK_RELATIVE_VALUES + 1, &good, &c),
        PS_ECORRUPT);
    in.p = entry;
    assert_int_equal(blk_codec_parse(&in, BLK_CODEC_DEC_RELATIVE, FLAGS, LEN, NULL, &c), PS_EUNSUPPORTED);
}

/* A directory whose entry is found by what stands before its frame headers, its codec made relative: refused if it is
 * the first or if the entry before it has another number of samples. */
static void
test_entries(void **unused)
{
    uint64_t state = 36;

    (void)unused;
    for (size_t k = 0; k < 2; k++) {
        row *w = calloc(1, sizeof *w);
        fill(&state, w);
        for (size_t i = k; i < BUCKETS; i++)
            w->n[i] = N - 1;
        write_row(w, BLK_LEVEL_SEALED);
        const blk_vcol *c = &w->r->cseries[k].values;
        assert_int_equal(c->codec, BLK_CODEC_DEC_CODED);
        size_t len = w->bytes.len, head = blk_head_bytes(ps_buf_str(&w->bytes));
        size_t at = (size_t)(c->frames - (const uint8_t *)w->bytes.ptr);
        while (w->bytes.ptr[at] != BLK_CODEC_DEC_CODED)
            at--;
        char *copy = test_exact_copy(w->bytes.ptr, len);
        copy[at] = BLK_CODEC_DEC_RELATIVE;
        ps_put_u32le(copy + BLK_OFF_CRC, blk_crc_skipping((ps_str){copy, head}));
        blk_reader *r;
        ps_err err;
        assert_int_equal(blk_reader_open(&ps_malloc, (ps_str){copy, len}, NULL, &r, &err), PS_ECORRUPT);
        assert_string_equal(err.text, "block is damaged: series entry");
        free(copy);
        done(w);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_order),      cmocka_unit_test(test_reference_agrees),
        cmocka_unit_test(test_smaller),        cmocka_unit_test(test_equal),
        cmocka_unit_test(test_where_rows_end), cmocka_unit_test(test_rows_that_stand_still),
        cmocka_unit_test(test_next_block),     cmocka_unit_test(test_directory),
        cmocka_unit_test(test_entries),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
