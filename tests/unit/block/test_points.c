/*
 * test_points.c - sorting points: order, stability (the first of equals stays), counts; against a
 * plain quadratic oracle for few and the C library's sort for many.
 */
#include "tests/unit/support.h"

#include "lib/block/block.h"
#include "tests/unit/block/blockgen.h"

static int
compare(const void *pa, const void *pb)
{
    const blk_point *a = pa, *b = pb;

    if (a->metric_id != b->metric_id)
        return a->metric_id < b->metric_id ? -1 : 1;
    if (a->series_id != b->series_id)
        return a->series_id < b->series_id ? -1 : 1;
    if (a->t_ms != b->t_ms)
        return a->t_ms < b->t_ms ? -1 : 1;
    return a->owner < b->owner ? -1 : a->owner > b->owner; /* owner is the arrival number here */
}

static void
check(blk_point *p, size_t n)
{
    blk_point *want = malloc(n * sizeof *want), *scratch = malloc(n * sizeof *scratch);
    blk_dup_stats stats = {0}, want_stats = {0};
    size_t kept = 0;

    memcpy(want, p, n * sizeof *want);
    qsort(want, n, sizeof *want, compare);
    for (size_t i = 0; i < n; i++) {
        if (kept > 0 && want[kept - 1].metric_id == want[i].metric_id &&
            want[kept - 1].series_id == want[i].series_id && want[kept - 1].t_ms == want[i].t_ms) {
            if (ps_bits_of(want[kept - 1].value) == ps_bits_of(want[i].value))
                want_stats.duplicates++;
            else
                want_stats.conflicts++;
        } else {
            want[kept++] = want[i];
        }
    }
    assert_int_equal(blk_points_sort_unique(p, scratch, n, &stats), kept);
    assert_memory_equal(p, want, kept * sizeof *p);
    assert_memory_equal(&stats, &want_stats, sizeof stats);
    free(want);
    free(scratch);
}

static void
test_random_points(void **unused)
{
    static const size_t sizes[] = {0, 1, 2, 3, 10, 255, 256, 257, 1000, 30000};
    uint64_t state = 1;

    (void)unused;
    for (unsigned spread = 1; spread < 60; spread += 5) {
        for (size_t s = 0; s < PS_ARRAY_LEN(sizes); s++) {
            blk_point *p = malloc((sizes[s] + 1) * sizeof *p);
            for (size_t i = 0; i < sizes[s]; i++) {
                p[i].metric_id = (int32_t)gen_below(&state, 1 + spread / 3);
                p[i].series_id =
                    (int64_t)gen_below(&state, UINT64_C(1) << spread) - (INT64_C(1) << spread / 2);
                p[i].t_ms = (int64_t)gen_below(&state, UINT64_C(1) << (spread / 2)) - 100;
                p[i].value = gen_below(&state, 2) ? 0.0 : -0.0;
                p[i].owner = (uint32_t)i;
            }
            check(p, sizes[s]);
            free(p);
        }
    }
}

static void
test_extreme_keys(void **unused)
{
    static const int64_t edge[] = {INT64_MIN, -1, 0, 1, INT64_MAX};
    uint64_t state = 7;
    blk_point p[600];

    (void)unused;
    for (unsigned round = 0; round < 20; round++) {
        for (size_t i = 0; i < PS_ARRAY_LEN(p); i++) {
            p[i].metric_id = gen_below(&state, 2) ? INT32_MIN : INT32_MAX;
            p[i].series_id = edge[gen_below(&state, 5)];
            p[i].t_ms = edge[gen_below(&state, 5)] / (int64_t)(1 + gen_below(&state, 3));
            p[i].value = (double)gen_below(&state, 2);
            p[i].owner = (uint32_t)i;
        }
        check(p, round % 2 ? PS_ARRAY_LEN(p) : 100);
    }
}

/* Points that differ in one byte of one key only: each byte of each key is looked at. */
static void
test_each_key_byte(void **unused)
{
    uint64_t state = 8;
    blk_point p[400];

    (void)unused;
    for (unsigned byte = 0; byte < 20; byte++) {
        for (size_t i = 0; i < PS_ARRAY_LEN(p); i++) {
            uint64_t x = gen_below(&state, 256) << (byte % 8 * 8);
            p[i] = (blk_point){.series_id = -5,
                               .t_ms = 77,
                               .value = (double)gen_below(&state, 2),
                               .metric_id = 123456,
                               .owner = (uint32_t)i};
            if (byte < 8)
                p[i].t_ms = (int64_t)((uint64_t)p[i].t_ms ^ x);
            else if (byte < 16)
                p[i].series_id = (int64_t)((uint64_t)p[i].series_id ^ x);
            else
                p[i].metric_id = (int32_t)((uint32_t)p[i].metric_id ^ (uint32_t)x);
        }
        check(p, PS_ARRAY_LEN(p));
    }
}

static void
test_sorted_stays(void **unused)
{
    blk_point p[] = {{.series_id = 1, .t_ms = 10, .value = 1, .metric_id = 1},
                     {.series_id = 1, .t_ms = 10, .value = 1, .metric_id = 1, .owner = 1},
                     {.series_id = 1, .t_ms = 10, .value = 2, .metric_id = 1, .owner = 2},
                     {.series_id = 1, .t_ms = 11, .value = 1, .metric_id = 1, .owner = 3},
                     {.series_id = 1, .t_ms = 10, .value = 1, .metric_id = 2, .owner = 4}};

    (void)unused;
    check(p, PS_ARRAY_LEN(p));
    assert_int_equal(p[1].owner, 3);
    assert_int_equal(p[2].owner, 4);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_points),
        cmocka_unit_test(test_extreme_keys),
        cmocka_unit_test(test_each_key_byte),
        cmocka_unit_test(test_sorted_stays),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
