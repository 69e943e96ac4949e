/*
 * test_mixed.c - one series in blocks of floats and of histograms, of all levels, that overlap in every
 * way, with start timestamps or without: what is read, and what merging the histograms leaves, against
 * a table of who wrote first.
 */
#include "tests/unit/support.h"

#include "tests/unit/block/histgen.h"

enum { TENANT = 3, METRIC = 7, SERIES = 3, SPAN = 120, MAX_BLOCKS = 8, TRIALS = 150 };

typedef struct sample {
    bool there;
    double value;
    const hst_hist *histogram; /* NULL: a float */
    int64_t start_ms;
} sample;

typedef struct stored {
    ps_buf bytes;
    blk_meta meta;
    int64_t id;
    blk_reader *reader;
    sample at[SERIES][SPAN];
    bool histograms;
} stored;

typedef struct world {
    ps_arena arena;
    stored blocks[MAX_BLOCKS];
    size_t n;
} world;

static void
fill(uint64_t *state, ps_arena *arena, stored *b)
{
    const hst_hist *h[SPAN];
    int64_t t[SPAN], starts[SPAN];
    double v[SPAN];
    const unsigned how = (unsigned)gen_below(state, GEN_STARTS_END);

    for (int64_t i = 0; i < SPAN; i++)
        t[i] = (i + 1) * 1000;
    for (int s = 0; s < SERIES; s++) {
        size_t lo = gen_below(state, SPAN), n = 1 + gen_below(state, 60),
               step = 1 + gen_below(state, 3);
        gen_fill_histograms(state, (gen_histograms)gen_below(state, GEN_HIST_WIDE), arena, h, SPAN);
        gen_fill_values(state, GEN_HOSTILE, v, SPAN);
        gen_fill_starts(state, how, t, starts, SPAN);
        for (size_t i = lo; i < SPAN && i < lo + n * step; i += step)
            b->at[s][i] =
                (sample){true, b->histograms ? 0 : v[i], b->histograms ? h[i] : NULL, starts[i]};
    }
}

static void
encode_columns(stored *b, int16_t level)
{
    ps_err err;
    blk_writer_opts o = {TENANT, METRIC, level, b->histograms ? BLK_KIND_HISTOGRAM : 0};
    blk_writer *w = blk_writer_new(&ps_malloc, &o);

    for (int s = 0; s < SERIES; s++) {
        int64_t t[SPAN], starts[SPAN];
        double v[SPAN];
        const hst_hist *h[SPAN];
        size_t n = 0;
        for (int i = 0; i < SPAN; i++) {
            const sample *x = &b->at[s][i];
            if (!x->there)
                continue;
            t[n] = (i + 1) * 1000;
            starts[n] = x->start_ms;
            v[n] = x->value;
            h[n++] = x->histogram;
        }
        assert_int_equal(b->histograms ? blk_writer_add_histograms(w, s + 1, t, starts, h, n, &err)
                                       : blk_writer_add_started(w, s + 1, t, starts, v, n, &err),
                         PS_OK);
    }
    assert_int_equal(blk_writer_finish(w, &b->bytes, &b->meta, &err), PS_OK);
    blk_writer_free(w);
}

static void
encode_flush(stored *b)
{
    static blk_point points[SERIES * SPAN];
    size_t n = 0;
    ps_err err;

    for (int s = 0; s < SERIES; s++) {
        for (int i = 0; i < SPAN; i++) {
            const sample *x = &b->at[s][i];
            if (!x->there)
                continue;
            points[n] = (blk_point){.series_id = s + 1,
                                    .t_ms = (i + 1) * 1000,
                                    .metric_id = METRIC,
                                    .start_ms = x->start_ms};
            if (b->histograms)
                points[n].histogram = x->histogram;
            else
                points[n].value = x->value;
            n++;
        }
    }
    assert_int_equal((b->histograms ? blk_encode_flush_histograms
                                    : blk_encode_flush)(&ps_malloc, TENANT, METRIC, points, n,
                                                        &b->bytes, &b->meta, &err),
                     PS_OK);
}

static void
make_world(uint64_t *state, world *w, unsigned floats_of_4)
{
    ps_err err;

    ps_arena_init(&w->arena, &ps_malloc, 0);
    w->n = 1 + gen_below(state, MAX_BLOCKS);
    for (size_t i = 0; i < w->n; i++) {
        stored *b = &w->blocks[i];
        *b = (stored){.id = (int64_t)((i * 7) % 31),
                      .histograms = gen_below(state, 4) >= floats_of_4};
        ps_buf_init(&b->bytes, &ps_malloc);
        if (i > 0 && gen_below(state, 3) == 0 && b->histograms == w->blocks[i - 1].histograms)
            memcpy(b->at, w->blocks[i - 1].at, sizeof b->at); /* sent again */
        else
            fill(state, &w->arena, b);
        unsigned form = (unsigned)gen_below(state, 3);
        if (form == 0)
            encode_flush(b);
        else
            encode_columns(b, form == 1 ? BLK_LEVEL_MERGED : BLK_LEVEL_SEALED);
        assert_int_equal(blk_reader_open_lazy(&ps_malloc, ps_buf_str(&b->bytes), &b->meta,
                                              &b->reader, &err),
                         PS_OK);
        assert_int_equal(blk_reader_prepare(b->reader, METRIC, &err), PS_OK);
    }
}

static void
end_world(world *w)
{
    for (size_t i = 0; i < w->n; i++) {
        blk_reader_free(w->blocks[i].reader);
        ps_buf_done(&w->blocks[i].bytes);
    }
    ps_arena_done(&w->arena);
}

static bool
wins(const stored *a, const stored *b)
{
    if (a->histograms != b->histograms)
        return !a->histograms;
    return a->meta.level != b->meta.level ? a->meta.level > b->meta.level : a->id < b->id;
}

static const sample *
expected(const world *w, int s, int i)
{
    const stored *best = NULL;

    for (size_t k = 0; k < w->n; k++) {
        const stored *b = &w->blocks[k];
        if (b->at[s][i].there && (best == NULL || wins(b, best)))
            best = b;
    }
    return best == NULL ? NULL : &best->at[s][i];
}

static void
check_sample(const sample *want, double value, const hst_hist *h)
{
    if (want->histogram != NULL) {
        assert_non_null(h);
        check_histogram(h, want->histogram);
        assert_true(value == 0);
    } else {
        assert_null(h);
        assert_true(ps_bits_of(value) == ps_bits_of(want->value));
    }
}

/* ---- reading -------------------------------------------------------------------------------- */

static void
check_read(const world *w, blk_bench *b, int s, int from, int to, bool starts)
{
    static int64_t t[MAX_BLOCKS * SPAN], start_ms[MAX_BLOCKS * SPAN];
    static double v[MAX_BLOCKS * SPAN];
    static const hst_hist *h[MAX_BLOCKS * SPAN];
    const int64_t from_ms = (from + 1) * 1000, to_ms = (to + 1) * 1000;
    blk_run runs[MAX_BLOCKS];
    ps_arena arena;
    ps_err err;
    size_t at = 0;

    ps_arena_init(&arena, &ps_malloc, 0);
    for (size_t i = 0; i < w->n; i++)
        runs[i] = (blk_run){w->blocks[i].reader, (uint32_t)s, w->blocks[i].id};
    blk_runs_kinds kinds = blk_runs_look(runs, w->n, from_ms, to_ms);
    assert_true(blk_runs_samples(runs, w->n, from_ms, to_ms) <= PS_ARRAY_LEN(t));
    blk_samples into = {.t_ms = t,
                        .values = v,
                        .histograms = kinds.histograms ? h : NULL,
                        .start_ms = starts ? start_ms : NULL,
                        .arena = &arena};
    assert_int_equal(blk_runs_read(b, runs, w->n, from_ms, to_ms, &into, &err), PS_OK);
    for (int i = from; i <= to; i++) {
        const sample *want = expected(w, s, i);
        if (want == NULL)
            continue;
        assert_true(at < into.n);
        assert_int_equal(t[at], (i + 1) * 1000);
        assert_true(want->histogram == NULL ? kinds.floats : kinds.histograms);
        assert_true(want->start_ms == 0 || kinds.starts);
        if (starts)
            assert_int_equal(start_ms[at], want->start_ms);
        check_sample(want, v[at], into.histograms == NULL ? NULL : h[at]);
        at++;
    }
    assert_int_equal(at, into.n);
    ps_arena_done(&arena);
}

static void
floats_win_and_then_the_first_write(void **unused)
{
    uint64_t state = 77;
    static world w;

    (void)unused;
    for (int trial = 0; trial < TRIALS; trial++) {
        make_world(&state, &w, (unsigned)trial % 4);
        blk_bench *b = blk_bench_new(&ps_malloc);
        assert_non_null(b);
        for (int s = 0; s < SERIES; s++) {
            int from = (int)gen_below(&state, SPAN),
                to = from + (int)gen_below(&state, SPAN - from);
            check_read(&w, b, s, 0, SPAN - 1, trial % 2 == 0);
            check_read(&w, b, s, from, to, trial % 2 == 1);
        }
        blk_bench_free(b);
        end_world(&w);
    }
}

/* ---- merging -------------------------------------------------------------------------------- */

typedef struct merged {
    sample at[SERIES][SPAN];
    ps_arena arena;
    size_t n;
} merged;

static ps_status
collect(void *self, ps_str data, const blk_meta *meta, ps_err *err)
{
    merged *m = self;
    blk_reader *r;
    blk_bench *b = blk_bench_new(&ps_malloc);

    assert_non_null(b);
    assert_int_equal(meta->kind, BLK_KIND_HISTOGRAM);
    assert_int_equal(blk_reader_open(&ps_malloc, data, meta, &r, err), PS_OK);
    for (uint32_t i = 0; i < blk_reader_n_series(r); i++) {
        int64_t t[SPAN], starts[SPAN];
        const hst_hist *h[SPAN];
        blk_series s;
        size_t lo, n;
        blk_reader_series(r, i, &s);
        assert_int_equal(blk_bench_times(b, r, i, INT64_MIN, INT64_MAX, t, &lo, &n, err), PS_OK);
        assert_int_equal(blk_bench_starts(b, r, i, lo, n, starts, err), PS_OK);
        assert_int_equal(blk_bench_histograms(b, r, i, lo, n, &m->arena, h, err), PS_OK);
        for (size_t k = 0; k < n; k++) {
            sample *x = &m->at[s.series_id - 1][t[k] / 1000 - 1];
            assert_false(x->there);
            *x = (sample){true, 0, h[k], starts[k]};
            m->n++;
        }
    }
    blk_reader_free(r);
    blk_bench_free(b);
    return PS_OK;
}

/* Readers by precedence. */
static void
by_precedence(const world *w, blk_reader **to)
{
    const stored *order[MAX_BLOCKS];

    for (size_t i = 0; i < w->n; i++) {
        size_t k = i;
        for (; k > 0 && wins(&w->blocks[i], order[k - 1]); k--)
            order[k] = order[k - 1];
        order[k] = &w->blocks[i];
    }
    for (size_t i = 0; i < w->n; i++)
        to[i] = order[i]->reader;
}

static void
merged_histograms_are_those_of_the_first_write(void **unused)
{
    uint64_t state = 78;
    static world w;
    static merged m;
    ps_err err = {0};

    (void)unused;
    for (int trial = 0; trial < TRIALS; trial++) {
        blk_reader *inputs[MAX_BLOCKS];
        const int from = (int)gen_below(&state, 20), to = SPAN - (int)gen_below(&state, 20);
        blk_merge_opts o = {.tenant_id = TENANT,
                            .metric_id = METRIC,
                            .out_level = BLK_LEVEL_MERGED + (int16_t)(trial % 2),
                            .from_ms = (from + 1) * 1000,
                            .to_ms = (to + 1) * 1000,
                            .cut_ms = trial % 3 == 0 ? 30000 : 0,
                            .cut_lo_ms = INT64_MIN,
                            .cut_hi_ms = INT64_MAX,
                            .target_bytes = trial % 4 == 0 ? 1500 : 1 << 20,
                            .target_samples = trial % 5 == 0 ? 17 : 0};
        blk_merge_stats stats;
        m.n = 0;
        memset(m.at, 0, sizeof m.at);
        ps_arena_init(&m.arena, &ps_malloc, 0);
        make_world(&state, &w, 0);
        by_precedence(&w, inputs);
        assert_int_equal(blk_merge(&ps_malloc, inputs, w.n, &o, collect, &m, NULL, &stats, &err),
                         PS_OK);
        size_t n = 0;
        for (int s = 0; s < SERIES; s++) {
            for (int i = from; i < to; i++) {
                const sample *want = expected(&w, s, i), *got = &m.at[s][i];
                assert_int_equal(got->there, want != NULL);
                if (want == NULL)
                    continue;
                check_sample(want, 0, got->histogram);
                assert_int_equal(got->start_ms, want->start_ms);
                n++;
            }
        }
        assert_int_equal(n, m.n);
        assert_int_equal(n, stats.samples_out);
        assert_int_equal(stats.samples_in - n, stats.dups.duplicates + stats.dups.conflicts);
        end_world(&w);
        ps_arena_done(&m.arena);
    }
}

static void
floats_are_not_merged_with_histograms(void **unused)
{
    const hst_hist h = {.schema = 3};
    const int64_t t = 1000;
    const double v = 1;
    blk_merge_opts o = {.tenant_id = TENANT, .metric_id = METRIC, .to_ms = 5000};
    blk_merge_stats stats;
    blk_reader *r[2];
    ps_buf bytes[2];
    blk_meta meta;
    ps_err err;

    (void)unused;
    for (unsigned i = 0; i < 2; i++) {
        const hst_hist *p = &h;
        blk_writer_opts wo = {TENANT, METRIC, BLK_LEVEL_MERGED, i == 0 ? 0 : BLK_KIND_HISTOGRAM};
        blk_writer *w = blk_writer_new(&ps_malloc, &wo);
        ps_buf_init(&bytes[i], &ps_malloc);
        assert_int_equal(i == 0 ? blk_writer_add(w, 1, &t, &v, 1, &err)
                                : blk_writer_add_histograms(w, 1, &t, NULL, &p, 1, &err),
                         PS_OK);
        assert_int_equal(i == 1 ? blk_writer_add(w, 2, &t, &v, 1, &err)
                                : blk_writer_add_histograms(w, 2, &t, NULL, &p, 1, &err),
                         PS_EINVAL);
        assert_int_equal(blk_writer_finish(w, &bytes[i], &meta, &err), PS_OK);
        blk_writer_free(w);
        assert_int_equal(blk_reader_open(&ps_malloc, ps_buf_str(&bytes[i]), &meta, &r[i], &err),
                         PS_OK);
    }
    assert_int_equal(blk_merge(&ps_malloc, r, 2, &o, collect, NULL, NULL, &stats, &err), PS_EINVAL);
    for (unsigned i = 0; i < 2; i++) {
        blk_reader_free(r[i]);
        ps_buf_done(&bytes[i]);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(floats_win_and_then_the_first_write),
        cmocka_unit_test(merged_histograms_are_those_of_the_first_write),
        cmocka_unit_test(floats_are_not_merged_with_histograms),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
