/*
 * test_copy.c - series that are taken from another block as they are encoded there: a block of all of them is the same
 * bytes; any choice of them, what cannot be copied encoded anew, has the same samples, which another decoder sees as
 * well; what cannot be copied is refused.
 */
#include "tests/unit/support.h"

#include <stdlib.h>
#include <string.h>

#include "lib/block/internal.h"
#include "tests/unit/block/blockgen.h"
#include "tests/unit/block/reference_decoder.h"

enum { SERIES = 40, BUCKETS = 12, N_MAX = 700 };

typedef struct source {
    int64_t id[SERIES], t[SERIES][N_MAX], start[SERIES][N_MAX];
    double v[SERIES][N_MAX];
    size_t n[SERIES];
    bool started;
    ps_buf bytes;
    blk_meta meta;
    blk_reader *r;
} source;

static const size_t lengths[] = {1, 2, 127, 128, 129, 300, N_MAX};

/* Series of all kinds, two rows of buckets among them, some with the times of the one before. */
static source *
source_new(uint64_t *state, int16_t level, bool started)
{
    source *s = calloc(1, sizeof *s);
    blk_writer_opts o = {1, 5, level, 0};
    blk_writer *w = blk_writer_new(&ps_malloc, &o);
    double (*buckets)[N_MAX] = calloc(BUCKETS, sizeof *buckets);

    s->started = started;
    for (size_t i = 0; i < SERIES; i++) {
        const bool bucket = i % 20 < BUCKETS;
        if (i % 20 == 0)
            gen_fill_buckets(state, &buckets[0][0], BUCKETS, N_MAX);
        s->id[i] = (int64_t)i * 3 + 7;
        s->n[i] = bucket ? N_MAX : lengths[gen_below(state, sizeof lengths / sizeof *lengths)];
        if (bucket)
            memcpy(s->v[i], buckets[i % 20], sizeof s->v[i]);
        else
            gen_fill_values(state, (gen_values)gen_below(state, GEN_VALUES_END), s->v[i], s->n[i]);
        if (i > 0 && s->n[i] == s->n[i - 1] && gen_below(state, 4) > 0)
            memcpy(s->t[i], s->t[i - 1], sizeof s->t[i]);
        else
            gen_fill_times(state, (gen_times)gen_below(state, GEN_EXTREME_TIMES), s->t[i], s->n[i]);
        for (size_t k = 0; started && i % 3 == 1 && k < s->n[i]; k++)
            s->start[i][k] = s->t[i][k - k % 50] - 1000;
        assert_int_equal(blk_writer_add_started(w, s->id[i], s->t[i], s->start[i], s->v[i], s->n[i], NULL), PS_OK);
    }
    free(buckets);
    ps_buf_init(&s->bytes, &ps_malloc);
    assert_int_equal(blk_writer_finish(w, &s->bytes, &s->meta, NULL), PS_OK);
    blk_writer_free(w);
    assert_int_equal(blk_reader_open(&ps_malloc, ps_buf_str(&s->bytes), &s->meta, &s->r, NULL), PS_OK);
    return s;
}

static void
source_free(source *s)
{
    blk_reader_free(s->r);
    ps_buf_done(&s->bytes);
    free(s);
}

static ps_status
copy(blk_writer *w, const source *s, uint32_t i)
{
    return blk_writer_add_copied(w, s->r, i, s->t[i], s->start[i], s->n[i], NULL);
}

static unsigned
relatives_of(const source *s)
{
    unsigned n = 0;

    for (size_t i = 0; i < SERIES; i++)
        n += s->r->cseries[i].values.codec == BLK_CODEC_DEC_RELATIVE;
    return n;
}

static void
test_all(void **unused)
{
    uint64_t state = 61;

    (void)unused;
    for (unsigned round = 0; round < 30; round++) {
        const int16_t level = round % 2 ? BLK_LEVEL_SEALED : BLK_LEVEL_MERGED;
        source *s = source_new(&state, level, round % 3 == 0);
        blk_writer_opts o = {1, 5, level, 0};
        blk_writer *w = blk_writer_new(&ps_malloc, &o);
        ps_buf out;
        blk_meta meta;

        assert_int_equal(relatives_of(s) > 8, level == BLK_LEVEL_SEALED);
        ps_buf_init(&out, &ps_malloc);
        for (unsigned again = 0; again < 2; again++) { /* the writer forgets what it copied */
            for (uint32_t i = 0; i < SERIES; i++)
                assert_int_equal(copy(w, s, i), PS_OK);
            ps_buf_clear(&out);
            assert_int_equal(blk_writer_finish(w, &out, &meta, NULL), PS_OK);
            assert_int_equal(out.len, s->bytes.len);
            assert_memory_equal(out.ptr, s->bytes.ptr, out.len);
        }
        ps_buf_done(&out);
        blk_writer_free(w);
        source_free(s);
    }
}

/* The block holds the series that were chosen, and nothing else. */
static void
check_choice(const source *s, const bool *chosen, ps_str bytes, const blk_meta *meta)
{
    static int64_t t[N_MAX], start[N_MAX];
    static double v[N_MAX];
    blk_bench *b = blk_bench_new(&ps_malloc);
    blk_reader *r;
    ref_block ref;
    uint32_t at = 0;
    size_t first = 0, lo, n;

    assert_int_equal(blk_reader_open(&ps_malloc, bytes, meta, &r, NULL), PS_OK);
    assert_true(ref_decode((const uint8_t *)bytes.ptr, bytes.len, &ref));
    for (uint32_t i = 0; i < SERIES; i++) {
        if (!chosen[i])
            continue;
        blk_series got;
        blk_reader_series(r, at, &got);
        assert_int_equal(got.series_id, s->id[i]);
        assert_int_equal(blk_bench_times(b, r, at, INT64_MIN, INT64_MAX, t, &lo, &n, NULL), PS_OK);
        assert_int_equal(blk_bench_values(b, r, at, 0, n, v, NULL), PS_OK);
        check_samples(t, v, n, s->t[i], s->v[i], s->n[i]);
        memset(start, 0, sizeof start);
        if (got.started)
            assert_int_equal(blk_bench_starts(b, r, at, 0, n, start, NULL), PS_OK);
        assert_memory_equal(start, s->start[i], n * sizeof *start);
        for (size_t k = 0; k < n; k++)
            assert_int_equal(ref.samples[first + k].bits, ps_bits_of(s->v[i][k]));
        first += n;
        at++;
    }
    assert_int_equal(at, blk_reader_n_series(r));
    assert_int_equal(first, ref.n);
    ref_free(&ref);
    blk_bench_free(b);
    blk_reader_free(r);
}

static void
test_any_choice(void **unused)
{
    uint64_t state = 62;
    size_t copied = 0, encoded = 0;

    (void)unused;
    for (unsigned round = 0; round < 120; round++) {
        const int16_t level = round % 4 ? BLK_LEVEL_SEALED : BLK_LEVEL_MERGED;
        source *s = source_new(&state, level, round % 3 == 0);
        blk_writer_opts o = {1, 5, level, 0};
        blk_writer *w = blk_writer_new(&ps_malloc, &o);
        bool chosen[SERIES];
        ps_buf out;
        blk_meta meta;

        for (uint32_t i = 0; i < SERIES; i++) {
            chosen[i] = i == SERIES - 1 || gen_below(&state, 2 + round % 10) > 0;
            if (!chosen[i])
                continue;
            if (blk_writer_may_copy(w, s->r, i) && gen_below(&state, 8) > 0) {
                assert_int_equal(copy(w, s, i), PS_OK);
                copied++;
            } else {
                assert_int_equal(blk_writer_add_started(w, s->id[i], s->t[i], s->start[i], s->v[i], s->n[i], NULL),
                                 PS_OK);
                encoded++;
            }
        }
        ps_buf_init(&out, &ps_malloc);
        assert_int_equal(blk_writer_finish(w, &out, &meta, NULL), PS_OK);
        check_choice(s, chosen, ps_buf_str(&out), &meta);
        ps_buf_done(&out);
        blk_writer_free(w);
        source_free(s);
    }
    assert_true(copied > 1000 && encoded > 200);
}

static void
test_refused(void **unused)
{
    uint64_t state = 63;
    source *s = source_new(&state, BLK_LEVEL_SEALED, false);
    blk_writer_opts sealed = {1, 5, BLK_LEVEL_SEALED, 0}, merged = {1, 5, BLK_LEVEL_MERGED, 0},
                    histograms = {1, 5, BLK_LEVEL_SEALED, BLK_KIND_HISTOGRAM};
    blk_writer *w = blk_writer_new(&ps_malloc, &merged);
    uint32_t i = 1;

    (void)unused;
    assert_int_equal(copy(w, s, 0), PS_EINVAL);
    blk_writer_free(w);
    w = blk_writer_new(&ps_malloc, &histograms);
    assert_int_equal(copy(w, s, 0), PS_EINVAL);
    blk_writer_free(w);
    while (s->r->cseries[i].values.depth == 0)
        i++;
    w = blk_writer_new(&ps_malloc, &sealed);
    assert_int_equal(copy(w, s, i), PS_EINVAL); /* relative to what is not there */
    s->n[0]--;
    assert_int_equal(copy(w, s, 0), PS_EINVAL);
    s->n[0]++;
    assert_int_equal(blk_writer_add(w, s->id[i - 1], s->t[i - 1], s->v[i - 1], s->n[i - 1], NULL), PS_OK);
    assert_int_equal(copy(w, s, i), PS_EINVAL); /* to what was encoded anew */
    assert_int_equal(copy(w, s, 0), PS_EINVAL); /* ids ascend */
    blk_writer_free(w);
    source_free(s);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all),
        cmocka_unit_test(test_any_choice),
        cmocka_unit_test(test_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
