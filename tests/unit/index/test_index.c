/* Random series, deletions and matchers against the slow way; memory; what must be refused. */
#include "tests/unit/index/oracle.h"

enum { N_SERIES = 600, ROUNDS = 60, MATCHERS = 4 };

static const char *const label_names[] = {"a", "B", "job", "zz", "instance", "A1"};
static const char *const patterns[] = {
    "",     "v1",    "v1|v2",       "v1|v9|v1|", "v.*", ".*",    ".+",   "v[12]",
    "v1.*", "(v1)?", "x|v1[0-9]+x", "m1|m2",     "m.*", "v.?.?", "none", "m[0-9]",
};

static const char *
pick(test_random *r, const char *const *from, size_t n)
{
    return from[test_random_u64(r) % n];
}

static void
make_series(test_random *r, oracle_series *s, int64_t id)
{
    char value[ORACLE_TEXT];
    *s = (oracle_series){.id = id, .tenant_id = (int32_t)(test_random_u64(r) % 3)};
    s->metric_id = (int32_t)(1 + test_random_u64(r) % 12);
    snprintf(value, sizeof(value), "m%d", s->metric_id);
    oracle_label(s, MDL_METRIC_NAME, value);
    for (size_t i = 0; i < PS_ARRAY_LEN(label_names); i++) {
        if (test_random_u64(r) % 3 == 0)
            continue;
        unsigned long spread = i == 0 ? 2 : i == 4 ? 1000 : 30;
        snprintf(value, sizeof(value), "v%lu", (unsigned long)(test_random_u64(r) % spread));
        oracle_label(s, label_names[i], value);
    }
    oracle_labels(s);
}

static bool
is_new(const oracle_series *all, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (all[i].tenant_id == all[n].tenant_id && !all[i].deleted &&
            mdl_labels_eq((mdl_labels){all[i].labels, all[i].n},
                          (mdl_labels){all[n].labels, all[n].n}))
            return false;
    }
    return true;
}

static void
random_matchers(test_random *r, re_matcher **ret, size_t n)
{
    ps_err err;
    for (size_t i = 0; i < n; i++) {
        const char *name = test_random_u64(r) % 3 == 0 ? MDL_METRIC_NAME
                           : test_random_u64(r) % 8 == 0
                               ? "absent"
                               : pick(r, label_names, PS_ARRAY_LEN(label_names));
        mdl_match type = (mdl_match)(test_random_u64(r) % 4);
        mdl_matcher m = {type, ps_str_c(name), ps_str_c(pick(r, patterns, PS_ARRAY_LEN(patterns)))};
        assert_int_equal(re_matcher_new(&ps_malloc, &m, &ret[i], &err), PS_OK);
    }
}

static void
check_some(test_random *r, const idx *x, oracle_series *all, size_t n_all, int rounds)
{
    for (int round = 0; round < rounds; round++) {
        re_matcher *matchers[MATCHERS];
        size_t n = test_random_u64(r) % (MATCHERS + 1);
        random_matchers(r, matchers, n);
        oracle_check(x, all, n_all, (int32_t)(test_random_u64(r) % 4), matchers, n);
        for (size_t i = 0; i < n; i++)
            re_matcher_free(matchers[i]);
    }
}

static ps_status
change(test_random *r, idx *x, oracle_series *all, size_t *n_all, ps_err *err)
{
    if (*n_all > 10 && test_random_u64(r) % 4 == 0) {
        oracle_series *s = &all[test_random_u64(r) % *n_all];
        PS_TRY(idx_delete(x, s->id, err));
        s->deleted = true;
        if (test_random_u64(r) % 2 == 0) /* somebody who is behind */
            return idx_add_labels(x, s->tenant_id, s->id, s->metric_id,
                                  (mdl_labels){s->labels, s->n}, err);
        return PS_OK;
    }
    oracle_series *s = &all[*n_all];
    make_series(r, s, 1000 - (int64_t)*n_all * 3);
    if (!is_new(all, *n_all))
        return PS_OK;
    PS_TRY(
        idx_add_labels(x, s->tenant_id, s->id, s->metric_id, (mdl_labels){s->labels, s->n}, err));
    assert_true(idx_knows(x, s->id));
    (*n_all)++;
    return PS_OK;
}

/* For the nth failing allocation the labels point into `all`, which does not move. */
static ps_status
run(test_random *r, const ps_alloc *alloc, size_t max_bytes, oracle_series *all, bool check,
    idx_stats *ret, ps_err *err)
{
    idx *x;
    size_t n = 0;
    PS_TRY(idx_new(alloc, max_bytes, 7, &x, err));
    ps_status status = PS_OK;
    for (int round = 0; round < ROUNDS && status == PS_OK; round++) {
        size_t steps = round == 0 ? 200 : test_random_u64(r) % 12;
        for (size_t i = 0; i < steps && n < N_SERIES && status == PS_OK; i++)
            status = change(r, x, all, &n, err);
        if (status == PS_OK)
            status = idx_settle(x, err);
        if (status == PS_OK && check)
            check_some(r, x, all, n, 40);
    }
    *ret = idx_get_stats(x);
    if (status != PS_OK) { /* it answers nothing any more, and says so */
        idx_found found;
        ps_arena arena;
        ps_arena_init(&arena, &ps_malloc, 0);
        assert_int_equal(idx_select(x, &(idx_query){0}, &arena, &found, NULL), PS_ELIMIT);
        assert_int_equal(idx_settle(x, NULL), PS_ELIMIT);
        ps_arena_done(&arena);
    }
    idx_free(x);
    return status;
}

static void
test_against_oracle(void **state)
{
    (void)state;
    oracle_series *all = calloc(N_SERIES + 1, sizeof(*all));
    for (uint64_t seed = 1; seed <= 8; seed++) {
        test_random r = {seed * 7919};
        test_alloc t = {0};
        ps_alloc alloc = test_alloc_of(&t);
        idx_stats stats;
        ps_err err;
        assert_int_equal(run(&r, &alloc, 0, all, true, &stats, &err), PS_OK);
        assert_true(stats.series > 200 && stats.deleted > 20);
        test_alloc_check_empty(&t);
    }
    free(all);
}

static void
test_memory_runs_out(void **state)
{
    (void)state;
    oracle_series *all = calloc(N_SERIES + 1, sizeof(*all));
    bool failed = true;
    for (size_t fail_at = 1; failed; fail_at += fail_at < 100 ? 1 : 17) {
        test_random r = {4711};
        test_alloc t = {.fail_at = fail_at};
        ps_alloc alloc = test_alloc_of(&t);
        idx_stats stats;
        ps_err err;
        ps_status status = run(&r, &alloc, 0, all, false, &stats, &err);
        assert_true(status == PS_OK || status == PS_ENOMEM);
        failed = status != PS_OK;
        test_alloc_check_empty(&t);
    }
    free(all);
}

/* What is counted is at least what was taken, and not much more; a budget is kept to. */
static void
test_budget(void **state)
{
    (void)state;
    oracle_series *all = calloc(N_SERIES + 1, sizeof(*all));
    test_random r = {4711};
    test_alloc t = {0};
    ps_alloc alloc = test_alloc_of(&t);
    idx_stats stats;
    ps_err err;
    assert_int_equal(run(&r, &alloc, 0, all, false, &stats, &err), PS_OK);
    size_t needed = stats.bytes;
    for (size_t share = 1; share < 8; share++) {
        r = (test_random){4711};
        t = (test_alloc){0};
        assert_int_equal(run(&r, &alloc, needed * share / 8, all, false, &stats, &err), PS_ELIMIT);
        assert_true(t.peak_bytes <= needed * share / 8);
        assert_non_null(strstr(err.text, "does not fit"));
        test_alloc_check_empty(&t);
    }
    free(all);
}

static void
test_refused(void **state)
{
    (void)state;
    idx *x;
    ps_err err;
    uint32_t a, b, other, pairs[2];
    idx_found found;
    ps_arena arena;
    ps_arena_init(&arena, &ps_malloc, 0);
    assert_int_equal(idx_new(&ps_malloc, 0, 1, &x, &err), PS_OK);
    assert_int_equal(idx_pair(x, 0, PS_STR("a"), PS_STR(""), &a, &err), PS_EINVAL);
    assert_int_equal(idx_pair(x, 0, PS_STR("a"), PS_STR("1"), &a, &err), PS_OK);
    assert_int_equal(idx_pair(x, 0, PS_STR("a"), PS_STR("2"), &b, &err), PS_OK);
    assert_int_equal(idx_pair(x, 9, PS_STR("b"), PS_STR("2"), &other, &err), PS_OK);
    pairs[0] = a, pairs[1] = b;
    assert_int_equal(idx_add(x, 0, 1, 1, pairs, 2, &err), PS_EINVAL); /* a name twice */
    pairs[1] = other;
    assert_int_equal(idx_add(x, 0, 1, 1, pairs, 2, &err), PS_EINVAL); /* another tenant's */
    pairs[1] = 99;
    assert_int_equal(idx_add(x, 0, 1, 1, pairs, 2, &err), PS_EINVAL); /* no such pair */
    assert_int_equal(idx_add(x, 0, 1, 1, pairs, 0, &err), PS_EINVAL);
    assert_int_equal(idx_add(x, 0, 1, 1, pairs, 1, &err), PS_OK);
    assert_int_equal(idx_select(x, &(idx_query){0}, &arena, &found, &err), PS_EINTERNAL);
    assert_int_equal(idx_settle(x, &err), PS_OK);
    assert_int_equal(idx_select(x, &(idx_query){0}, &arena, &found, &err), PS_OK);
    assert_int_equal(found.n, 1);
    idx_free(x);
    ps_arena_done(&arena);
}

static bool
stop_at_once(void *self)
{
    ++*(int *)self;
    return true;
}

static void
test_limits_of_a_query(void **state)
{
    (void)state;
    idx *x;
    ps_err err;
    idx_found found;
    ps_arena arena;
    int polls = 0;
    assert_int_equal(idx_new(&ps_malloc, 0, 1, &x, &err), PS_OK);
    for (int i = 0; i < 10000; i++) {
        char value[16];
        snprintf(value, sizeof(value), "%d", i);
        mdl_label labels[] = {{PS_STR("__name__"), PS_STR("m")}, {PS_STR("i"), ps_str_c(value)}};
        assert_int_equal(idx_add_labels(x, 0, i + 1, 1, (mdl_labels){labels, 2}, &err), PS_OK);
    }
    assert_int_equal(idx_settle(x, &err), PS_OK);

    ps_arena_init(&arena, &ps_malloc, 0);
    idx_query q = {.max_series = 9999};
    assert_int_equal(idx_select(x, &q, &arena, &found, &err), PS_ELIMIT);
    q.max_series = 10000;
    assert_int_equal(idx_select(x, &q, &arena, &found, &err), PS_OK);
    assert_int_equal(found.n, 10000);
    q.should_stop = stop_at_once;
    q.self = &polls;
    assert_int_equal(idx_select(x, &q, &arena, &found, &err), PS_ECANCELED);
    assert_int_equal(polls, 1);
    ps_arena_done(&arena);

    ps_arena_init(&arena, &ps_malloc, 100000);
    q.should_stop = NULL;
    assert_int_equal(idx_select(x, &q, &arena, &found, &err), PS_ENOMEM);
    ps_arena_done(&arena);
    idx_free(x);
}

/* Of two living series with the same labels (the older one's deletion is not known yet) the newer. */
static void
test_successor(void **state)
{
    (void)state;
    idx *x;
    ps_err err;
    idx_found found;
    ps_arena arena;
    mdl_label labels[] = {{PS_STR("__name__"), PS_STR("m")}, {PS_STR("i"), PS_STR("1")}};
    ps_arena_init(&arena, &ps_malloc, 0);
    assert_int_equal(idx_new(&ps_malloc, 0, 1, &x, &err), PS_OK);
    for (int64_t id = 5; id <= 7; id++) {
        assert_int_equal(idx_add_labels(x, 0, id, 1, (mdl_labels){labels, 2}, &err), PS_OK);
        assert_int_equal(idx_settle(x, &err), PS_OK);
        assert_int_equal(idx_select(x, &(idx_query){0}, &arena, &found, &err), PS_OK);
        assert_int_equal(found.n, 1);
        assert_int_equal(found.items[0].series_id, id);
    }
    assert_int_equal(idx_delete(x, 5, &err), PS_OK);
    assert_int_equal(idx_delete(x, 70, &err), PS_OK);
    assert_int_equal(idx_add_labels(x, 0, 70, 1, (mdl_labels){labels, 2}, &err), PS_OK);
    assert_int_equal(idx_settle(x, &err), PS_OK);
    assert_int_equal(idx_select(x, &(idx_query){0}, &arena, &found, &err), PS_OK);
    assert_int_equal(found.n, 1);
    assert_int_equal(found.items[0].series_id, 7);
    idx_free(x);
    ps_arena_done(&arena);
}

/* Values that come one after another in ascending, descending and mixed order use the gaps up. */
static void
test_order_of_many_values(void **state)
{
    (void)state;
    for (int mode = 0; mode < 3; mode++) {
        idx *x;
        ps_err err;
        idx_found found;
        ps_arena arena;
        test_random r = {99};
        ps_arena_init(&arena, &ps_malloc, 0);
        assert_int_equal(idx_new(&ps_malloc, 0, 1, &x, &err), PS_OK);
        for (int i = 0; i < 3000; i++) {
            char value[24];
            int v = mode == 0 ? i : mode == 1 ? 3000 - i : (int)(test_random_u64(&r) % 100000000);
            snprintf(value, sizeof(value), "%09d", v);
            mdl_label labels[] = {{PS_STR("__name__"), PS_STR("m")},
                                  {PS_STR("i"), ps_str_c(value)}};
            assert_int_equal(idx_add_labels(x, 0, i + 1, 1, (mdl_labels){labels, 2}, &err), PS_OK);
            if (i % 3 != 0)
                assert_int_equal(idx_settle(x, &err), PS_OK);
        }
        assert_int_equal(idx_settle(x, &err), PS_OK);
        assert_int_equal(idx_select(x, &(idx_query){0}, &arena, &found, &err), PS_OK);
        assert_true(found.n > 2990);
        for (size_t i = 1; i < found.n; i++)
            assert_true(mdl_labels_cmp(found.items[i - 1].labels, found.items[i].labels) < 0);
        idx_free(x);
        ps_arena_done(&arena);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_oracle),
        cmocka_unit_test(test_memory_runs_out),
        cmocka_unit_test(test_budget),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_limits_of_a_query),
        cmocka_unit_test(test_successor),
        cmocka_unit_test(test_order_of_many_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
