/*
 * test_executor.c - every task once, no worker twice at the same time, many runs at once. Worth most
 * under ThreadSanitizer.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "tests/unit/support.h"

#include "connector/query/internal.h"

enum { TASKS = 500, WORKERS = 4, RUNNERS = 6, ROUNDS = 50 };

typedef struct counted {
    atomic_uint done[TASKS];
    atomic_uint inside[WORKERS];
    atomic_bool wrong;
} counted;

static void
task(void *arg, size_t i, size_t worker)
{
    counted *c = arg;

    if (i >= TASKS || worker >= WORKERS || atomic_fetch_add(&c->inside[worker], 1) != 0)
        atomic_store(&c->wrong, true);
    atomic_fetch_add(&c->done[i], 1);
    atomic_fetch_sub(&c->inside[worker], 1);
}

static void *
runner(void *pool)
{
    ev_executor e = query_pool_executor(pool);
    void *failed = NULL;

    for (size_t round = 0; round < ROUNDS; round++) {
        counted c = {0};
        size_t n = round % 3 == 0 ? 1 : round % 3 == 1 ? TASKS : 7;
        e.run(e.self, n, task, &c);
        for (size_t i = 0; i < TASKS; i++) {
            if (atomic_load(&c.done[i]) != (i < n))
                failed = pool;
        }
        if (atomic_load(&c.wrong))
            failed = pool;
    }
    return failed;
}

static void
test_runs_at_once(void **state)
{
    query_pool *pool = NULL;
    pthread_t threads[RUNNERS];
    ps_err err;

    (void)state;
    assert_int_equal(query_pool_start(WORKERS - 1, &pool, &err), PS_OK);
    assert_int_equal(query_pool_executor(pool).n_workers, WORKERS);
    for (size_t i = 0; i < RUNNERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, runner, pool), 0);
    for (size_t i = 0; i < RUNNERS; i++) {
        void *failed = NULL;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    query_pool_free(pool);
}

static void
test_alone(void **state)
{
    query_pool *pool = NULL;
    ps_err err;

    (void)state;
    assert_int_equal(query_pool_start(0, &pool, &err), PS_OK);
    assert_null(runner(pool));
    query_pool_free(pool);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_runs_at_once),
        cmocka_unit_test(test_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
