/*
 * test_queue.c - the queues between stages: order within a tenant, turns between tenants, and
 * tenants that come and go.
 */
#include <stdio.h>

#include "connector/write/internal.h"
#include "tests/unit/support.h"

static write_path *
make_path(void)
{
    write_path *w = calloc(1, sizeof(*w));
    assert_non_null(w);
    w->seed = 5;
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

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tenants_take_turns),
        cmocka_unit_test(test_queues_are_apart),
        cmocka_unit_test(test_tenants_come_and_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
