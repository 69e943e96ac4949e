/* One series over blocks of all levels that overlap in every way, against a table of who wrote first;
 * several threads over the same readers. */
#include <pthread.h>

#include "lib/block/block.h"
#include "tests/unit/support.h"

enum { METRIC = 7, SERIES = 4, SPAN = 300, MAX_BLOCKS = 12, TRIALS = 400, THREADS = 4 };

typedef struct stored {
    ps_buf bytes;
    blk_meta meta;
    int64_t id;
    blk_reader *reader;
    bool has[SERIES][SPAN];
    double value[SERIES][SPAN];
} stored;

typedef struct world {
    stored blocks[MAX_BLOCKS];
    size_t n;
} world;

static void
fill(test_random *r, stored *b)
{
    for (int s = 0; s < SERIES; s++) {
        int lo = (int)(test_random_u64(r) % SPAN), n = 1 + (int)(test_random_u64(r) % 80);
        int step = 1 + (int)(test_random_u64(r) % 3);
        for (int t = lo; t < SPAN && t < lo + n * step; t += step) {
            b->has[s][t] = true;
            b->value[s][t] = (double)(test_random_u64(r) % 100000) / 8;
        }
    }
}

static void
encode_columns(stored *b, int16_t level)
{
    ps_err err;
    blk_writer_opts opts = {.tenant_id = 0, .metric_id = METRIC, .level = level};
    blk_writer *w = blk_writer_new(&ps_malloc, &opts);
    for (int s = 0; s < SERIES; s++) {
        int64_t t_ms[SPAN];
        double v[SPAN];
        size_t n = 0;
        for (int t = 0; t < SPAN; t++) {
            if (b->has[s][t])
                t_ms[n] = t * 1000, v[n++] = b->value[s][t];
        }
        assert_int_equal(blk_writer_add(w, s + 1, t_ms, v, n, &err), PS_OK);
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
        for (int t = 0; t < SPAN; t++) {
            if (b->has[s][t])
                points[n++] = (blk_point){.series_id = s + 1,
                                          .t_ms = t * 1000,
                                          .value = b->value[s][t],
                                          .metric_id = METRIC};
        }
    }
    assert_int_equal(blk_encode_flush(&ps_malloc, 0, METRIC, points, n, &b->bytes, &b->meta, &err),
                     PS_OK);
}

static void
make_world(test_random *r, world *w)
{
    ps_err err;
    w->n = 1 + test_random_u64(r) % MAX_BLOCKS;
    for (size_t i = 0; i < w->n; i++) {
        stored *b = &w->blocks[i];
        *b = (stored){.id = (int64_t)((i * 7) % 31)};
        ps_buf_init(&b->bytes, &ps_malloc);
        if (i > 0 && test_random_u64(r) % 3 == 0) { /* sent again, in part with other values */
            memcpy(b->has, w->blocks[i - 1].has, sizeof(b->has));
            memcpy(b->value, w->blocks[i - 1].value, sizeof(b->value));
            b->value[0][test_random_u64(r) % SPAN] += 1;
        } else {
            fill(r, b);
        }
        unsigned kind = (unsigned)(test_random_u64(r) % 3);
        if (kind == 0)
            encode_flush(b);
        else
            encode_columns(b, kind == 1 ? BLK_LEVEL_MERGED : BLK_LEVEL_SEALED);
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
}

static bool
expected(const world *w, int series, int t, double *ret)
{
    const stored *best = NULL;
    for (size_t i = 0; i < w->n; i++) {
        const stored *b = &w->blocks[i];
        if (b->has[series][t] && (best == NULL || b->meta.level > best->meta.level ||
                                  (b->meta.level == best->meta.level && b->id < best->id)))
            best = b;
    }
    if (best != NULL)
        *ret = best->value[series][t];
    return best != NULL;
}

static int
check_series(const world *w, blk_bench *bench, int series, int64_t from_ms, int64_t to_ms)
{
    blk_run runs[MAX_BLOCKS];
    static const size_t room = (size_t)MAX_BLOCKS * SPAN;
    int64_t *t_ms = calloc(room, sizeof(*t_ms)), newest_ms = 0;
    double *v = calloc(room, sizeof(*v)), value = 0, newest = 0;
    size_t n = 0, at = 0;
    bool known, any = false;
    int wrong = 0;
    ps_err err;
    for (size_t i = 0; i < w->n; i++)
        runs[i] =
            (blk_run){w->blocks[i].reader, blk_reader_seek(w->blocks[i].reader, METRIC, series + 1),
                      w->blocks[i].id};
    if (blk_runs_samples(runs, w->n, from_ms, to_ms) > room)
        wrong++;
    if (blk_runs_decode(bench, runs, w->n, from_ms, to_ms, t_ms, v, &n, &err) != PS_OK)
        wrong++;
    for (int t = 0; t < SPAN; t++) {
        if (t * 1000 < from_ms || t * 1000 > to_ms || !expected(w, series, t, &value))
            continue;
        wrong += at >= n || t_ms[at] != t * 1000 || v[at] != value;
        at++;
        any = true;
    }
    wrong += at != n;
    if (blk_runs_newest(bench, runs, w->n, from_ms, to_ms, &known, &newest_ms, &newest, &err) !=
        PS_OK)
        wrong++;
    wrong += known != any;
    if (known && any)
        wrong += newest_ms != t_ms[n - 1] || newest != v[n - 1];
    free(t_ms);
    free(v);
    return wrong;
}

static int
check_all(const world *w, test_random *r)
{
    blk_bench *bench = blk_bench_new(&ps_malloc);
    int wrong = 0;
    for (int round = 0; round < 6; round++) {
        int64_t from_ms = (int64_t)(test_random_u64(r) % SPAN) * 1000 - 500;
        int64_t to_ms = from_ms + (int64_t)(test_random_u64(r) % SPAN) * 1000;
        if (round == 0)
            from_ms = 0;
        if (round < 3)
            to_ms = INT64_MAX;
        for (int s = 0; s < SERIES; s++)
            wrong += check_series(w, bench, s, from_ms, to_ms);
    }
    blk_bench_free(bench);
    return wrong;
}

static void
test_first_write_wins(void **state)
{
    (void)state;
    world *w = calloc(1, sizeof(*w));
    test_random r = {20240501};
    for (int trial = 0; trial < TRIALS; trial++) {
        make_world(&r, w);
        assert_int_equal(check_all(w, &r), 0);
        end_world(w);
    }
    free(w);
}

typedef struct job {
    const world *w;
    uint64_t seed;
    int wrong;
} job;

static void *
run_job(void *arg)
{
    job *j = arg;
    test_random r = {j->seed};
    for (int i = 0; i < 20; i++)
        j->wrong += check_all(j->w, &r);
    return NULL;
}

static void
test_threads(void **state)
{
    (void)state;
    world *w = calloc(1, sizeof(*w));
    test_random r = {77};
    pthread_t threads[THREADS];
    job jobs[THREADS];
    make_world(&r, w);
    for (int i = 0; i < THREADS; i++) {
        jobs[i] = (job){w, (uint64_t)i + 1, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, run_job, &jobs[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(jobs[i].wrong, 0);
    }
    end_world(w);
    free(w);
}

/* Values that were not prepared are refused rather than decoded behind the others' backs. */
static void
test_unprepared(void **state)
{
    (void)state;
    stored b = {0};
    blk_reader *reader;
    double v[SPAN];
    test_random r = {5};
    ps_err err;
    blk_bench *bench = blk_bench_new(&ps_malloc);
    ps_buf_init(&b.bytes, &ps_malloc);
    fill(&r, &b);
    encode_flush(&b);
    assert_int_equal(blk_reader_open_lazy(&ps_malloc, ps_buf_str(&b.bytes), &b.meta, &reader, &err),
                     PS_OK);
    assert_int_equal(blk_bench_values(bench, reader, 0, 0, 1, v, &err), PS_EINVAL);
    assert_int_equal(blk_reader_prepare(reader, METRIC, &err), PS_OK);
    assert_int_equal(blk_bench_values(bench, reader, 0, 0, 1, v, &err), PS_OK);
    assert_int_equal(blk_bench_values(bench, reader, 0, 0, SPAN + 1, v, &err), PS_EINVAL);
    assert_int_equal(blk_bench_values(bench, reader, 99, 0, 1, v, &err), PS_EINVAL);
    blk_reader_free(reader);
    blk_bench_free(bench);
    ps_buf_done(&b.bytes);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_write_wins),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_unprepared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
