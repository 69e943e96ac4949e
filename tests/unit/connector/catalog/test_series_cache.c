/*
 * test_series_cache.c - the cache finds what was put in and nothing else, whatever clients send,
 * and never takes more memory than its budget.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include "connector/catalog/series_cache.h"
#include "tests/unit/support.h"

static series_cache *
make_cache(size_t max_bytes, uint64_t hash_mask)
{
    series_cache *c;
    ps_err err;
    series_cache_config config = {.max_bytes = max_bytes, .seed = 42, .hash_mask = hash_mask};
    assert_int_equal(series_cache_new(&config, &c, &err), PS_OK);
    return c;
}

static ps_str
key_of(char *dst, size_t cap, uint64_t n)
{
    int len = snprintf(dst, cap, "series %llu with some labels of its own", (unsigned long long)n);
    return (ps_str){dst, (size_t)len};
}

static bool
insert(series_cache *c, int32_t tenant_id, ps_str key, int64_t id)
{
    series_cache_item item = {.key = key,
                              .tenant_id = tenant_id,
                              .ref = {.series_id = id, .metric_id = (int32_t)(id % 97) + 1}};
    return series_cache_insert(c, series_cache_now(c).epoch, &item, 1);
}

/* 0 = not found */
static int64_t
find(series_cache *c, int32_t tenant_id, ps_str key)
{
    series_cursor cur;
    series_ref ref;
    series_cache_begin(c, &cur);
    bool found = series_cache_find(c, &cur, tenant_id, key, &ref);
    series_cache_end(c, &cur);
    if (found)
        assert_int_equal(ref.metric_id, ref.series_id % 97 + 1);
    return found ? ref.series_id : 0;
}

static void
test_finds_what_was_put_in(void **state)
{
    (void)state;
    enum { N = 20000 };
    series_cache *c = make_cache(64 << 20, 0);
    char text[64];
    for (uint64_t i = 1; i <= N; i++)
        assert_true(insert(c, 0, key_of(text, sizeof(text), i), (int64_t)i));
    series_cache_stats stats = series_cache_get_stats(c);
    assert_int_equal(stats.elements, N); /* growing lost none */
    assert_int_equal(stats.evictions, 0);
    for (uint64_t i = 1; i <= N; i++)
        assert_int_equal(find(c, 0, key_of(text, sizeof(text), i)), i);
    assert_int_equal(find(c, 0, key_of(text, sizeof(text), N + 1)), 0);
    assert_int_equal(find(c, 0, (ps_str){text, 5}), 0);
    assert_int_equal(find(c, 0, (ps_str){NULL, 0}), 0);
    insert(c, 0, key_of(text, sizeof(text), 7), N + 7); /* replaced, not doubled */
    assert_int_equal(find(c, 0, key_of(text, sizeof(text), 7)), N + 7);
    assert_int_equal(series_cache_get_stats(c).elements, N);
    series_cache_free(c);
}

static void
test_tenants_are_apart(void **state)
{
    (void)state;
    series_cache *c = make_cache(1 << 20, 0);
    insert(c, 1, PS_STR("same bytes"), 11);
    insert(c, 2, PS_STR("same bytes"), 22);
    assert_int_equal(find(c, 1, PS_STR("same bytes")), 11);
    assert_int_equal(find(c, 2, PS_STR("same bytes")), 22);
    assert_int_equal(find(c, 3, PS_STR("same bytes")), 0);
    series_cache_free(c);
    /* also by the successor guess: after a series of tenant 1 the guess is one of tenant 1 */
    c = make_cache(1 << 20, 0);
    insert(c, 1, PS_STR("first"), 1);
    insert(c, 1, PS_STR("second"), 2);
    insert(c, 2, PS_STR("first"), 3);
    for (int round = 0; round < 2; round++) {
        series_cursor cur;
        series_ref ref;
        series_cache_begin(c, &cur);
        assert_true(series_cache_find(c, &cur, 1, PS_STR("first"), &ref));
        assert_true(series_cache_find(c, &cur, 1, PS_STR("second"), &ref));
        assert_int_equal(cur.guessed, round); /* the second time it is guessed */
        series_cache_end(c, &cur);
    }
    series_cursor cur;
    series_ref ref;
    series_cache_begin(c, &cur);
    assert_true(series_cache_find(c, &cur, 2, PS_STR("first"), &ref));
    assert_false(series_cache_find(c, &cur, 2, PS_STR("second"), &ref));
    assert_int_equal(ref.series_id, 3);
    series_cache_end(c, &cur);
    for (int32_t other = 0; other <= 2; other += 2) { /* the guess is right but for the tenant */
        series_cache_begin(c, &cur);
        assert_true(series_cache_find(c, &cur, 1, PS_STR("first"), &ref));
        assert_false(series_cache_find(c, &cur, other, PS_STR("second"), &ref));
        series_cache_end(c, &cur);
    }
    series_cache_free(c);
}

/* All keys in one bucket: found by their bytes alone, and the bucket gives way instead of
 * growing. */
static void
test_forced_collisions(void **state)
{
    (void)state;
    series_cache *c = make_cache(1 << 20, UINT64_C(1) << 63);
    char text[64];
    for (uint64_t i = 1; i <= 8; i++)
        insert(c, 0, key_of(text, sizeof(text), i), (int64_t)i);
    for (uint64_t i = 1; i <= 8; i++)
        assert_int_equal(find(c, 0, key_of(text, sizeof(text), i)), i);
    for (uint64_t i = 9; i <= 500; i++) {
        insert(c, 0, key_of(text, sizeof(text), i), (int64_t)i);
        assert_int_equal(find(c, 0, key_of(text, sizeof(text), i)), i);
    }
    series_cache_stats stats = series_cache_get_stats(c);
    assert_int_equal(stats.elements, 8);
    assert_int_equal(stats.evictions, 492);
    for (uint64_t i = 1; i <= 500; i++) {
        int64_t id = find(c, 0, key_of(text, sizeof(text), i));
        assert_true(id == 0 || id == (int64_t)i);
    }
    series_cache_free(c);
}

/* A client that permutes its labels for ever: the budget holds, and what is in use stays. */
static void
test_budget_holds_and_clock_evicts(void **state)
{
    (void)state;
    enum { USED = 200 };
    const size_t budget = 256 << 10;
    series_cache *c = make_cache(budget, 0);
    char text[2048];
    memset(text, 'x', sizeof(text));
    for (uint64_t i = 1; i <= USED; i++)
        insert(c, 0, key_of(text, sizeof(text), i), (int64_t)i);
    uint64_t found = 0, asked = 0;
    test_random random = {1};
    for (uint64_t i = 0; i < 50000; i++) {
        char hostile[2048];
        size_t len = 40 + test_random_below(&random, i % 100 == 0 ? 1900 : 200);
        memset(hostile, 'y', sizeof(hostile));
        memcpy(hostile, &i, sizeof(i));
        insert(c, 0, (ps_str){hostile, len}, INT64_C(1000000) + (int64_t)i);
        if (i % 2 == 0) {
            uint64_t k = 1 + i / 2 % USED;
            asked++;
            int64_t id = find(c, 0, key_of(text, sizeof(text), k));
            found += id != 0;
            if (id == 0) /* as the write path would: resolved again */
                insert(c, 0, key_of(text, sizeof(text), k), (int64_t)k);
        }
        series_cache_stats stats = series_cache_get_stats(c);
        assert_true(stats.bytes <= budget);
    }
    series_cache_stats stats = series_cache_get_stats(c);
    assert_true(stats.evictions > 40000);
    assert_true(stats.elements > 500);
    assert_true(found * 100 > asked * 95);
    series_cache_free(c);
}

static void
test_memory_is_given_back(void **state)
{
    (void)state;
    series_cache *c = make_cache(1 << 20, 0);
    size_t empty = series_cache_get_stats(c).bytes;
    char text[64];
    for (uint64_t i = 1; i <= 100; i++)
        insert(c, 0, key_of(text, sizeof(text), i), (int64_t)i);
    assert_true(series_cache_get_stats(c).bytes > empty + 100 * 64);
    int64_t ids[100];
    for (int i = 0; i < 100; i++)
        ids[i] = 100 - i;
    series_cache_advance(c, 1, ids, 100);
    assert_int_equal(series_cache_get_stats(c).elements, 0);
    assert_int_equal(series_cache_get_stats(c).bytes, empty);
    /* a key larger than the budget allows is left out, quietly */
    char *large = calloc(1, 1 << 20);
    assert_true(insert(c, 0, (ps_str){large, 1 << 20}, 1));
    assert_int_equal(find(c, 0, (ps_str){large, 1 << 20}), 0);
    assert_int_equal(series_cache_get_stats(c).bytes, empty);
    free(large);
    series_cache_free(c);
    ps_err err;
    series_cache_config tiny = {.max_bytes = 100, .seed = 1};
    assert_int_equal(series_cache_new(&tiny, &c, &err), PS_ENOMEM);
}

static void
test_deleting_and_generations(void **state)
{
    (void)state;
    series_cache *c = make_cache(1 << 20, 0);
    char text[64];
    series_cache_view view = series_cache_now(c);
    assert_int_equal(view.generation, 0);
    for (uint64_t i = 1; i <= 50; i++)
        insert(c, 0, key_of(text, sizeof(text), i), (int64_t)i);
    insert(c, 0, PS_STR("another spelling of 7"), 7);
    int64_t gone[] = {9, 7, 1000, 8};
    series_cache_advance(c, 5, gone, 4);
    assert_int_equal(series_cache_now(c).generation, 5);
    assert_true(series_cache_now(c).epoch > view.epoch);
    for (uint64_t i = 1; i <= 50; i++)
        assert_int_equal(find(c, 0, key_of(text, sizeof(text), i)), i >= 7 && i <= 9 ? 0 : i);
    assert_int_equal(find(c, 0, PS_STR("another spelling of 7")), 0);
    /* ids read at an older epoch are not taken */
    series_cache_item late = {.key = PS_STR("late"), .ref = {7, 1}};
    assert_false(series_cache_insert(c, view.epoch, &late, 1));
    assert_int_equal(find(c, 0, PS_STR("late")), 0);
    /* the same generation: same epoch */
    view = series_cache_now(c);
    series_cache_advance(c, 5, NULL, 0);
    assert_true(series_cache_now(c).epoch == view.epoch);
    series_cache_clear(c, 5);
    assert_true(series_cache_now(c).epoch > view.epoch);
    assert_int_equal(series_cache_get_stats(c).elements, 0);
    series_cache_free(c);
}

/* ---- many threads --------------------------------------------------------------------------- */

typedef struct reader_arg {
    series_cache *c;
    _Atomic int *end;
    pthread_barrier_t *begin; /* no write before all of them run, however busy the machine is */
    uint64_t seed, hits;
} reader_arg;

static void *
read_on(void *self)
{
    reader_arg *arg = self;
    test_random random = {arg->seed};
    char text[64];
    pthread_barrier_wait(arg->begin);
    for (int round = 0; round < 100 || !atomic_load(arg->end); round++) {
        series_cursor cur;
        series_cache_begin(arg->c, &cur);
        uint64_t at = test_random_below(&random, 400);
        for (uint64_t i = 0; i < 50; i++) {
            series_ref ref;
            if (series_cache_find(arg->c, &cur, 0, key_of(text, sizeof(text), 1 + at + i), &ref)) {
                assert_int_equal(ref.series_id % 1000, 1 + at + i);
                arg->hits++;
            }
        }
        series_cache_end(arg->c, &cur);
    }
    return NULL;
}

static void
test_readers_beside_writers(void **state)
{
    (void)state;
    enum { READERS = 3 };
    series_cache *c = make_cache(64 << 10, 0);
    _Atomic int end = 0;
    pthread_t threads[READERS];
    reader_arg args[READERS];
    pthread_barrier_t begin;
    pthread_barrier_init(&begin, NULL, READERS + 1);
    for (int i = 0; i < READERS; i++) {
        args[i] = (reader_arg){c, &end, &begin, (uint64_t)i + 1, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, read_on, &args[i]), 0);
    }
    char text[64];
    test_random random = {99};
    pthread_barrier_wait(&begin);
    for (int64_t round = 1; round < 20000; round++) {
        int64_t n = 1 + (int64_t)test_random_below(&random, 450);
        series_cache_item item = {.key = key_of(text, sizeof(text), (uint64_t)n),
                                  .ref = {n + round * 1000, 1}};
        series_cache_insert(c, series_cache_now(c).epoch, &item, 1);
        if (round % 100 == 0)
            series_cache_advance(c, round, &item.ref.series_id, 1);
        if (round % 5000 == 0)
            series_cache_clear(c, round);
    }
    atomic_store(&end, 1);
    uint64_t hits = 0;
    for (int i = 0; i < READERS; i++) {
        pthread_join(threads[i], NULL);
        hits += args[i].hits;
    }
    pthread_barrier_destroy(&begin);
    assert_true(hits > 0);
    assert_true(series_cache_get_stats(c).bytes <= 64 << 10);
    series_cache_free(c);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_finds_what_was_put_in),
        cmocka_unit_test(test_tenants_are_apart),
        cmocka_unit_test(test_forced_collisions),
        cmocka_unit_test(test_budget_holds_and_clock_evicts),
        cmocka_unit_test(test_memory_is_given_back),
        cmocka_unit_test(test_deleting_and_generations),
        cmocka_unit_test(test_readers_beside_writers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
