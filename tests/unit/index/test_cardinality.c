/* Figures of random series, some deleted, against counting them the slow way. */
#include "tests/unit/index/oracle.h"

enum { N_SERIES = 400, ROUNDS = 20, N_KEYS = 4000 };

typedef struct tally {
    char name[ORACLE_TEXT], value[ORACLE_TEXT];
    uint64_t n;
} tally;

static void
count(tally *all, size_t *n, const char *name, const char *value)
{
    size_t i = 0;
    while (i < *n && (strcmp(all[i].name, name) != 0 || strcmp(all[i].value, value) != 0))
        i++;
    if (i == *n) {
        assert_true(*n < N_KEYS);
        snprintf(all[i].name, ORACLE_TEXT, "%s", name);
        snprintf(all[i].value, ORACLE_TEXT, "%s", value);
        all[i].n = 0;
        ++*n;
    }
    all[i].n++;
}

static int
by_count(const void *a, const void *b)
{
    const tally *x = a, *y = b;
    if (x->n != y->n)
        return x->n > y->n ? -1 : 1;
    int c = strcmp(x->name, y->name);
    return c != 0 ? c : strcmp(x->value, y->value);
}

static void
check_list(idx_figures got, const tally *want, size_t n, size_t limit)
{
    assert_int_equal(got.n, n < limit ? n : limit);
    for (size_t i = 0; i < got.n; i++) {
        assert_true(ps_str_eq_c(got.items[i].name, want[i].name));
        assert_true(ps_str_eq_c(got.items[i].value, want[i].value));
        assert_int_equal(got.items[i].count, want[i].n);
    }
}

static void
check(const idx *x, const oracle_series *all, int32_t tenant_id, size_t limit)
{
    static tally metrics[N_KEYS], pairs[N_KEYS], names[N_KEYS];
    size_t n_metrics = 0, n_pairs = 0, n_names = 0, n_series = 0;
    idx_cardinality got;
    ps_arena arena;
    ps_err err;

    for (size_t i = 0; i < N_SERIES; i++) {
        if (all[i].tenant_id != tenant_id || all[i].deleted)
            continue;
        n_series++;
        for (size_t k = 0; k < all[i].n; k++) {
            count(pairs, &n_pairs, all[i].names[k], all[i].values[k]);
            if (strcmp(all[i].names[k], MDL_METRIC_NAME) == 0)
                count(metrics, &n_metrics, all[i].values[k], "");
        }
    }
    for (size_t i = 0; i < n_pairs; i++)
        count(names, &n_names, pairs[i].name, "");
    qsort(metrics, n_metrics, sizeof(*metrics), by_count);
    qsort(pairs, n_pairs, sizeof(*pairs), by_count);
    qsort(names, n_names, sizeof(*names), by_count);
    ps_arena_init(&arena, &ps_malloc, 1 << 20);
    idx_cardinality_query q = {.tenant_id = tenant_id, .limit = limit};
    assert_int_equal(idx_get_cardinality(x, &q, &arena, &got, &err), PS_OK);
    assert_int_equal(got.series, n_series);
    assert_int_equal(got.pairs, n_pairs);
    check_list(got.by_metric, metrics, n_metrics, limit);
    check_list(got.by_pair, pairs, n_pairs, limit);
    check_list(got.values_by_name, names, n_names, limit);
    assert_int_equal(got.bytes_by_name.n, n_names < limit ? n_names : limit);
    for (size_t i = 1; i < got.bytes_by_name.n; i++)
        assert_true(got.bytes_by_name.items[i - 1].count >= got.bytes_by_name.items[i].count);
    ps_arena_done(&arena);
}

static int32_t
odd_metrics(void *self, int32_t metric_id, size_t n_series)
{
    *(size_t *)self += n_series;
    return metric_id % 2 == 0 ? 0 : metric_id == 1 ? -7 : metric_id;
}

/* The series of some metrics, under keys. */
static void
check_series(const idx *x, const oracle_series *all, int32_t tenant_id)
{
    idx_keyed *got;
    size_t n, told = 0, wanted = 0, alive = 0;
    ps_arena arena;
    ps_err err;

    ps_arena_init(&arena, &ps_malloc, 1 << 20);
    assert_int_equal(idx_series_of_metrics(x, tenant_id, odd_metrics, &told, &arena, &got, &n,
                                           &err),
                     PS_OK);
    for (size_t i = 0; i < N_SERIES; i++) {
        const oracle_series *s = &all[i];
        bool there = false;
        if (s->tenant_id != tenant_id || s->deleted)
            continue;
        alive++;
        for (size_t k = 0; k < n && !there; k++)
            there =
                got[k].series_id == s->id && got[k].key == (s->metric_id == 1 ? -7 : s->metric_id);
        assert_int_equal(there, s->metric_id % 2 != 0);
        wanted += there;
    }
    assert_int_equal(n, wanted);
    assert_true(told >= alive);
    ps_arena_done(&arena);
}

static void
make(test_random *r, oracle_series *s, size_t i)
{
    char value[ORACLE_TEXT];
    *s = (oracle_series){.id = (int64_t)i + 1, .tenant_id = (int32_t)(test_random_u64(r) % 2)};
    s->metric_id = (int32_t)(1 + test_random_u64(r) % 9);
    snprintf(value, sizeof(value), "m%d", s->metric_id);
    oracle_label(s, MDL_METRIC_NAME, value);
    snprintf(value, sizeof(value), "i%zu", i);
    oracle_label(s, "instance", value);
    snprintf(value, sizeof(value), "j%lu", (unsigned long)(test_random_u64(r) % 5));
    if (test_random_u64(r) % 2 == 0)
        oracle_label(s, "job", value);
    oracle_labels(s);
}

static void
test_counts(void **state)
{
    (void)state;
    test_random r = {.state = 11};
    static oracle_series all[N_SERIES];
    ps_err err;

    for (int round = 0; round < ROUNDS; round++) {
        idx *x = NULL;
        assert_int_equal(idx_new(&ps_malloc, 0, 7, &x, &err), PS_OK);
        for (size_t i = 0; i < N_SERIES; i++) {
            make(&r, &all[i], i);
            assert_int_equal(idx_add_labels(x, all[i].tenant_id, all[i].id, all[i].metric_id,
                                            (mdl_labels){all[i].labels, all[i].n}, &err),
                             PS_OK);
            if (i % 90 == 0)
                assert_int_equal(idx_settle(x, &err), PS_OK);
            if (test_random_u64(&r) % 4 == 0) {
                all[i].deleted = true;
                assert_int_equal(idx_delete(x, all[i].id, &err), PS_OK);
            }
        }
        assert_int_equal(idx_settle(x, &err), PS_OK);
        check(x, all, 0, 3);
        check(x, all, 1, 10000);
        check(x, all, 5, 10); /* nobody's */
        check_series(x, all, 0);
        check_series(x, all, 1);
        check_series(x, all, 5);
        idx_free(x);
    }
}

static bool
always(void *self)
{
    (void)self;
    return true;
}

static void
test_ends(void **state)
{
    (void)state;
    idx *x = NULL;
    oracle_series s = {.id = 1, .metric_id = 1};
    idx_cardinality got;
    ps_arena arena;
    ps_err err;

    assert_int_equal(idx_new(&ps_malloc, 0, 7, &x, &err), PS_OK);
    oracle_label(&s, MDL_METRIC_NAME, "up");
    assert_int_equal(idx_add_labels(x, 0, 1, 1, oracle_labels(&s), &err), PS_OK);
    idx_cardinality_query q = {.limit = 10, .should_stop = always};
    ps_arena_init(&arena, &ps_malloc, 1 << 20);
    assert_int_equal(idx_settle(x, &err), PS_OK);
    assert_int_equal(idx_get_cardinality(x, &q, &arena, &got, &err), PS_ECANCELED);
    ps_arena_done(&arena);
    ps_arena_init(&arena, &ps_malloc, 8);
    q.should_stop = NULL;
    assert_int_equal(idx_get_cardinality(x, &q, &arena, &got, &err), PS_ENOMEM);
    ps_arena_done(&arena);
    idx_free(x);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_counts), cmocka_unit_test(test_ends)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
