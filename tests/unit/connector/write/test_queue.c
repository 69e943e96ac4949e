/*
 * test_queue.c - the queues between stages: order within a tenant, turns between tenants, and
 * tenants that come and go; and when what waits is flushed.
 */
#include <stdio.h>

#include "connector/write/flusher.h"
#include "tests/unit/support.h"

static write_path *
make_path(void)
{
    write_path *w = calloc(1, sizeof(*w));
    assert_non_null(w);
    w->seed = 5;
    w->timeout_ns = INT64_C(20000000000);
    return w;
}

static void
free_path(write_path *w)
{
    wp_tenants_free(w);
    free(w);
}

static wp_tenant *
tenant(write_path *w, const char *name, int64_t now_s)
{
    wp_tenant *t = wp_tenant_get(w, ps_str_c(name), now_s * 1000000000);
    assert_non_null(t);
    return t;
}

static void
test_tenants_take_turns(void **state)
{
    (void)state;
    write_path *w = make_path();
    wp_tenant *tenants[] = {tenant(w, "hog", 1), tenant(w, "b", 1), tenant(w, "c", 1)};
    static wp_request requests[20];
    memset(requests, 0, sizeof(requests));
    for (int i = 0; i < 20; i++) {
        requests[i].seq = (uint64_t)i;
        requests[i].n_points = 10;
        requests[i].tenant = tenants[i < 16 ? 0 : i < 18 ? 1 : 2];
        wp_push(w, &requests[i], WP_FLUSH, false);
    }
    assert_int_equal(w->waiting_samples, 200);
    static const int order[] = {0, 16, 18, 1, 17, 19, 2, 3, 4};
    for (size_t i = 0; i < PS_ARRAY_LEN(order); i++) {
        assert_ptr_equal(wp_peek(w, WP_FLUSH), &requests[order[i]]);
        assert_ptr_equal(wp_take(w, WP_FLUSH), &requests[order[i]]);
    }
    wp_push(w, &requests[1], WP_FLUSH, true); /* given back: first again */
    assert_ptr_equal(wp_take(w, WP_FLUSH), &requests[1]);
    wp_remove(w, &requests[10]); /* out of the middle, the first, the last */
    wp_remove(w, &requests[5]);
    wp_remove(w, &requests[15]);
    for (int i = 6; i < 15; i++) {
        if (i != 10)
            assert_ptr_equal(wp_take(w, WP_FLUSH), &requests[i]);
    }
    assert_null(wp_take(w, WP_FLUSH));
    assert_int_equal(w->waiting_samples, 0);
    assert_int_equal(w->n_queued[WP_FLUSH], 0);
    free_path(w);
}

static void
test_queues_are_apart(void **state)
{
    (void)state;
    write_path *w = make_path();
    wp_request a = {.tenant = tenant(w, "", 1)}, b = {.tenant = a.tenant};
    wp_push(w, &a, WP_DECODE, false);
    wp_push(w, &b, WP_RESOLVE, false);
    assert_null(wp_take(w, WP_FLUSH));
    assert_ptr_equal(wp_take(w, WP_RESOLVE), &b);
    assert_null(wp_take(w, WP_RESOLVE));
    assert_ptr_equal(wp_take(w, WP_DECODE), &a);
    free_path(w);
}

static void
test_tenants_come_and_go(void **state)
{
    (void)state;
    write_path *w = make_path();
    wp_tenant *first = tenant(w, "first", 1);
    assert_int_equal(atomic_load(&first->id), -1);
    assert_int_equal(atomic_load(&tenant(w, "", 1)->id), 0);
    assert_ptr_equal(tenant(w, "first", 2), first);
    assert_int_equal(w->n_active, 2);
    tenant(w, "second", 20); /* the others were not heard of for long */
    assert_int_equal(w->n_active, 1);
    assert_ptr_equal(tenant(w, "first", 20), first); /* but are remembered */
    assert_int_equal(w->n_active, 2);

    first->n_users = 1; /* in use: never forgotten */
    char name[32];
    for (int i = 0; i < WP_MAX_TENANTS * 2; i++) {
        snprintf(name, sizeof(name), "t%d", i);
        tenant(w, name, 40 + i * 20);
    }
    assert_int_equal(w->n_tenants, WP_MAX_TENANTS);
    assert_ptr_equal(tenant(w, "first", 40 + WP_MAX_TENANTS * 40), first);
    /* all busy: no more */
    for (size_t i = 0; i < WP_TENANT_BUCKETS; i++) {
        for (wp_tenant *t = w->tenants[i]; t != NULL; t = t->hash_next)
            t->n_users = 1;
    }
    assert_null(wp_tenant_get(w, PS_STR("one too many"), INT64_C(1) << 60));
    free_path(w);
}

/* ---- when to flush ---------------------------------------------------------------------------- */

enum { MS = 1000000 };

/* One more request that is not answered yet, and waits for its flush. */
static void
arrive(write_path *w, size_t samples)
{
    w->n_inside++;
    w->n_queued[WP_FLUSH]++;
    w->waiting_samples += samples;
}

/* A flush of all that waits begins, if it may at that time, and ends at once; else *ret_wake says when. */
static bool
flush_at(write_path *w, int64_t now, int64_t *ret_wake)
{
    if (!flusher_may_start(w, 0, now, ret_wake))
        return false;
    flusher_starts(w, 0, now);
    assert_int_equal(w->flush_started_ns[0], now);
    w->n_inside -= w->n_queued[WP_FLUSH];
    w->n_queued[WP_FLUSH] = w->waiting_samples = 0;
    w->flush_started_ns[0] = 0;
    return true;
}

static void
test_flushes_gather(void **state)
{
    (void)state;
    const settings set = {.ingest_flush_gather_ms = 20,
                          .ingest_flush_min_parallel = 20000,
                          .ingest_flush_max_samples = 50000};
    write_path *w = make_path();
    int64_t wake, at = INT64_C(1000) * MS;

    w->set = &set;
    assert_false(flush_at(w, at, &wake)); /* nothing is there */
    assert_int_equal(wake, INT64_MAX);
    for (int i = 0; i < 5; i++) { /* who comes alone never waits */
        arrive(w, 100);
        assert_true(flush_at(w, at += MS, &wake));
    }
    arrive(w, 100);
    w->n_inside += 2; /* two more are decoded */
    assert_true(flush_at(w, at += MS, &wake));
    w->n_inside -= 2;
    const int64_t last = at;
    for (int i = 0; i < 2; i++) { /* three were inside together: one or two wait for the third */
        arrive(w, 100);
        assert_false(flush_at(w, at += MS, &wake));
        assert_int_equal(wake, last + 20 * MS);
    }
    arrive(w, 100);
    assert_true(flush_at(w, at += MS, &wake));
    arrive(w, 20001); /* that is much */
    assert_true(flush_at(w, at += MS, &wake));
    arrive(w, 100);
    assert_false(flush_at(w, at + 20 * MS - 1, &wake));
    assert_true(flush_at(w, at += 20 * MS, &wake)); /* the others do not come: fewer are expected */
    arrive(w, 100);
    assert_false(flush_at(w, at + MS, &wake));
    assert_true(flush_at(w, at += 20 * MS, &wake));
    arrive(w, 100);
    assert_true(flush_at(w, at += MS, &wake));
    free_path(w);
}

/* What is sent alone has nobody to wait for: a thousand such requests must not take 20 ms each. */
static void
test_suspects_do_not_wait(void **state)
{
    (void)state;
    const settings set = {.ingest_flush_gather_ms = 20,
                          .ingest_flush_min_parallel = 20000,
                          .ingest_flush_max_samples = 50000};
    write_path *w = make_path();
    wp_tenant *t = tenant(w, "a", 1);
    static wp_request requests[10];
    int64_t wake, at = INT64_C(1000) * MS;

    w->set = &set;
    memset(requests, 0, sizeof(requests));
    for (int i = 0; i < 10; i++) {
        requests[i].tenant = t;
        requests[i].n_points = 1;
        requests[i].losses = i < 8 ? 3 : 0;
        wp_push(w, &requests[i], WP_FLUSH, false);
    }
    w->n_inside = 10;
    for (int i = 0; i < 8; i++) {
        assert_true(flusher_may_start(w, 0, at, &wake));
        flusher_starts(w, 0, at);
        assert_ptr_equal(wp_take(w, WP_FLUSH), &requests[i]);
        w->flush_started_ns[0] = 0;
        at += MS;
    }
    assert_false(flusher_may_start(w, 0, at, &wake)); /* others gather */
    free_path(w);
}

/* However long the setting is: requests are not refused for it. */
static void
test_gathering_is_short_beside_the_timeout(void **state)
{
    (void)state;
    const settings set = {.ingest_flush_gather_ms = 1000,
                          .ingest_flush_min_parallel = 20000,
                          .ingest_flush_max_samples = 50000};
    write_path *w = make_path();
    const int64_t at = INT64_C(10000) * MS;
    int64_t wake;

    w->set = &set;
    w->timeout_ns = INT64_C(100) * MS;
    arrive(w, 100);
    w->n_inside++; /* another one is decoded */
    assert_true(flush_at(w, at, &wake));
    w->n_inside--;
    arrive(w, 100);
    assert_false(flush_at(w, at + MS, &wake));
    assert_int_equal(wake, at + 25 * MS);
    free_path(w);
}

/* While the other one is at work, only much or 20 ms let a second flush begin. */
static void
test_a_second_flush(void **state)
{
    (void)state;
    const settings set = {.ingest_flush_gather_ms = 0,
                          .ingest_flush_min_parallel = 20000,
                          .ingest_flush_max_samples = 50000};
    write_path *w = make_path();
    const int64_t at = INT64_C(1000) * MS;
    int64_t wake;

    w->set = &set;
    flusher_starts(w, 1, at);
    arrive(w, 20000);
    assert_false(flusher_may_start(w, 0, at + MS, &wake));
    assert_int_equal(wake, at + 20 * MS);
    assert_true(flusher_may_start(w, 0, wake, &wake));
    arrive(w, 1);
    assert_true(flusher_may_start(w, 0, at + MS, &wake));
    w->flush_pause_until_ns = at + 5 * MS;
    assert_false(flusher_may_start(w, 0, at + MS, &wake));
    assert_int_equal(wake, at + 5 * MS);
    free_path(w);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tenants_take_turns),   cmocka_unit_test(test_queues_are_apart),
        cmocka_unit_test(test_tenants_come_and_go),  cmocka_unit_test(test_flushes_gather),
        cmocka_unit_test(test_gathering_is_short_beside_the_timeout),
        cmocka_unit_test(test_suspects_do_not_wait), cmocka_unit_test(test_a_second_flush),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
