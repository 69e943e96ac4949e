/* Label names, values and metrics of what queries select, and series of a set only, against the slow way. */
#include "tests/unit/index/oracle.h"

enum { N = 500, ROUNDS = 400, QUERIES = 3 };

static const char *const names[] = {MDL_METRIC_NAME, "a", "B", "job", "only_dead", "absent"};
static const char *const values[] = {"", "v1", "v1|v2|v7", "v.*", ".*", ".+", "m1|m2", "m.*"};

typedef struct world {
    idx *x;
    oracle_series all[N];
    mdl_ids within;
} world;

static void
make_world(world *w, test_random *r)
{
    char value[ORACLE_TEXT];
    ps_err err;
    uint64_t one_of = test_random_below(r, 2) == 0 ? 3 : 15; /* few are looked up by id */
    assert_int_equal(idx_new(&ps_malloc, 0, 7, &w->x, &err), PS_OK);
    mdl_ids_init(&w->within, &ps_malloc);
    for (int i = 0; i < N; i++) {
        oracle_series *s = &w->all[i];
        *s = (oracle_series){.id = 3 + i * 5, .tenant_id = i % 7 == 0, .metric_id = 1 + i % 9};
        snprintf(value, sizeof(value), "m%d", s->metric_id);
        oracle_label(s, MDL_METRIC_NAME, value);
        snprintf(value, sizeof(value), "i%d", i);
        oracle_label(s, "instance", value);
        for (size_t k = 1; k < 4; k++) {
            snprintf(value, sizeof(value), "v%d", (int)test_random_below(r, k == 3 ? 40 : 4));
            if (test_random_below(r, 3) != 0)
                oracle_label(s, names[k], value);
        }
        s->deleted = test_random_below(r, 5) == 0;
        if (s->deleted)
            oracle_label(s, "only_dead", "x");
        mdl_labels labels = oracle_labels(s);
        assert_int_equal(idx_add_labels(w->x, s->tenant_id, s->id, s->metric_id, labels, &err),
                         PS_OK);
        if (s->deleted)
            assert_int_equal(idx_delete(w->x, s->id, &err), PS_OK);
        if (test_random_below(r, one_of) == 0)
            assert_int_equal(mdl_ids_add(&w->within, s->id, s->id), PS_OK);
    }
    assert_int_equal(mdl_ids_add(&w->within, 1, 2), PS_OK); /* that nobody has heard of */
    assert_int_equal(idx_settle(w->x, &err), PS_OK);
}

static bool
selects(const idx_query *q, const oracle_series *s)
{
    return !s->deleted && s->tenant_id == q->tenant_id &&
           (q->within == NULL || mdl_ids_has(q->within, s->id)) &&
           re_matchers_match(q->matchers, q->n_matchers, (mdl_labels){s->labels, s->n});
}

static int
compare_texts(const void *a, const void *b)
{
    return ps_str_cmp(*(const ps_str *)a, *(const ps_str *)b);
}

/* name NULL: names. */
static void
check_texts(const world *w, const idx_query *q, size_t n, const char *name, const idx_texts *got)
{
    ps_str *want = calloc(N * ORACLE_LABELS, sizeof(*want));
    size_t n_want = 0, kept = 0;
    for (int i = 0; i < N; i++) {
        bool any = false;
        for (size_t k = 0; k < n && !any; k++)
            any = selects(&q[k], &w->all[i]);
        for (size_t k = 0; any && k < w->all[i].n; k++) {
            mdl_label l = w->all[i].labels[k];
            if (name == NULL || ps_str_eq_c(l.name, name))
                want[n_want++] = name == NULL ? l.name : l.value;
        }
    }
    qsort(want, n_want, sizeof(*want), compare_texts);
    for (size_t i = 0; i < n_want; i++) {
        if (i == 0 || !ps_str_eq(want[i], want[i - 1]))
            want[kept++] = want[i];
    }
    assert_int_equal(got->n, kept);
    for (size_t i = 0; i < kept; i++)
        assert_true(ps_str_eq(got->items[i], want[i]));
    free(want);
}

static void
check_metrics(const world *w, const idx_query *q, size_t n, const idx_metric_ids *got)
{
    bool has[16] = {0};
    size_t n_want = 0;
    if (got->all)
        return;
    for (int i = 0; i < N; i++) {
        for (size_t k = 0; k < n; k++) {
            if (selects(&q[k], &w->all[i]) && !has[w->all[i].metric_id]) {
                has[w->all[i].metric_id] = true;
                n_want++;
            }
        }
    }
    assert_int_equal(got->n, n_want);
    for (size_t i = 0; i < got->n; i++)
        assert_true(has[got->items[i]]);
}

static void
check_select(const world *w, const idx_query *q, ps_arena *arena)
{
    idx_found all, some;
    idx_query limited = *q;
    ps_err err;
    size_t n = 0;
    assert_int_equal(idx_select(w->x, q, arena, &all, &err), PS_OK);
    for (int i = 0; i < N; i++)
        n += selects(q, &w->all[i]);
    assert_int_equal(all.n, n);
    for (size_t i = 1; i < n; i++)
        assert_true(mdl_labels_cmp(all.items[i - 1].labels, all.items[i].labels) < 0);
    for (limited.limit = 1; limited.limit <= n + 1; limited.limit += 1 + n / 4) {
        assert_int_equal(idx_select(w->x, &limited, arena, &some, &err), PS_OK);
        assert_int_equal(some.n, n < limited.limit ? n : limited.limit);
        for (size_t i = 0; i < some.n; i++)
            assert_int_equal(some.items[i].series_id, all.items[i].series_id);
    }
}

static void
free_matchers(const idx_query *q, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < q[i].n_matchers; k++)
            re_matcher_free(q[i].matchers[k]);
    }
}

static void
make_queries(const world *w, test_random *r, idx_query *q, size_t n, re_matcher *(*matchers)[2])
{
    ps_err err;
    int32_t tenant = test_random_below(r, 12) == 0 ? 9 : test_random_below(r, 4) == 0;
    bool within = test_random_below(r, 2) == 0;
    for (size_t i = 0; i < n; i++) {
        q[i] = (idx_query){.tenant_id = tenant, .matchers = matchers[i]};
        q[i].within = within ? &w->within : NULL;
        q[i].max_series = test_random_below(r, 3) == 0 ? 20 : 0;
        q[i].n_matchers = test_random_below(r, 3);
        for (size_t k = 0; k < q[i].n_matchers; k++) {
            mdl_matcher m = {(mdl_match)test_random_below(r, 4),
                             ps_str_c(names[test_random_below(r, PS_ARRAY_LEN(names))]),
                             ps_str_c(values[test_random_below(r, PS_ARRAY_LEN(values))])};
            assert_int_equal(re_matcher_new(&ps_malloc, &m, &matchers[i][k], &err), PS_OK);
        }
    }
}

static void
test_against_the_slow_way(void **state)
{
    (void)state;
    world *w = calloc(1, sizeof(*w));
    test_random r = {12};
    size_t n_texts = 0, n_bounded = 0;
    make_world(w, &r);
    for (int round = 0; round < ROUNDS; round++) {
        idx_query q[QUERIES];
        re_matcher *matchers[QUERIES][2];
        size_t n = 1 + test_random_below(&r, QUERIES);
        const char *name = names[test_random_below(&r, PS_ARRAY_LEN(names))];
        idx_texts texts;
        idx_metric_ids metrics;
        ps_arena arena;
        ps_err err;
        make_queries(w, &r, q, n, matchers);
        ps_arena_init(&arena, &ps_malloc, 0);
        assert_int_equal(idx_metrics(w->x, q, n, &arena, &metrics, &err), PS_OK);
        n_bounded += metrics.all;
        for (size_t i = 0; i < n; i++)
            q[i].max_series = 0;
        check_metrics(w, q, n, &metrics);
        assert_int_equal(idx_names(w->x, q, n, &arena, &texts, &err), PS_OK);
        check_texts(w, q, n, NULL, &texts);
        assert_int_equal(idx_values(w->x, ps_str_c(name), q, n, &arena, &texts, &err), PS_OK);
        check_texts(w, q, n, name, &texts);
        n_texts += texts.n;
        check_select(w, &q[0], &arena);
        ps_arena_done(&arena);
        free_matchers(q, n);
    }
    assert_true(n_texts > 1000 && n_bounded > 10);
    mdl_ids_done(&w->within);
    idx_free(w->x);
    free(w);
}

/* Most series have died, and they are the older ones: nothing is found in the first steps. */
static void
test_many_have_died(void **state)
{
    (void)state;
    enum { SERIES = 3000, LIVE = 3 };
    char number[16];
    mdl_label labels[] = {{PS_STR(MDL_METRIC_NAME), PS_STR("m")},
                          {PS_STR("a"), PS_STR("b")},
                          {PS_STR("i"), {number, 0}},
                          {PS_STR("of_the_dead"), PS_STR("x")}};
    idx *x;
    ps_err err;
    ps_arena arena;
    idx_texts texts;
    mdl_ids within;
    mdl_ids_init(&within, &ps_malloc);
    ps_arena_init(&arena, &ps_malloc, 0);
    assert_int_equal(idx_new(&ps_malloc, 0, 7, &x, &err), PS_OK);
    for (int64_t i = 1; i <= SERIES; i++) {
        bool live = i > SERIES - LIVE;
        labels[2].value.len = (size_t)snprintf(number, sizeof(number), "%d", (int)(i / 100));
        labels[1].value = live ? PS_STR("b") : PS_STR("c");
        mdl_labels all = {labels, live ? 3 : 4};
        assert_int_equal(idx_add_labels(x, i % 2 == 0, i, (int32_t)i, all, &err), PS_OK);
        if (live)
            assert_int_equal(mdl_ids_add(&within, i, i), PS_OK);
    }
    assert_int_equal(idx_settle(x, &err), PS_OK);
    idx_query q = {.tenant_id = 1, .within = &within};
    assert_int_equal(idx_names(x, &q, 1, &arena, &texts, &err), PS_OK);
    assert_int_equal(texts.n, 3);
    assert_int_equal(idx_values(x, PS_STR("a"), &q, 1, &arena, &texts, &err), PS_OK);
    assert_int_equal(texts.n, 1);
    assert_true(ps_str_eq_c(texts.items[0], "b"));
    assert_int_equal(idx_values(x, PS_STR(MDL_METRIC_NAME), &q, 1, &arena, &texts, &err), PS_OK);
    assert_int_equal(texts.n, 1);
    assert_int_equal(idx_values(x, PS_STR("i"), &q, 1, &arena, &texts, &err), PS_OK);
    assert_int_equal(texts.n, 2); /* 3000 is of a hundred of its own */
    assert_int_equal(idx_values(x, PS_STR("of_the_dead"), &q, 1, &arena, &texts, &err), PS_OK);
    assert_int_equal(texts.n, 0);
    ps_arena_done(&arena);
    mdl_ids_done(&within);
    idx_free(x);
}

static bool
count_polls(void *self)
{
    ++*(int *)self;
    return false;
}

/* A few of many pods have died, or all but a few: it is their series that are looked at, and not all. */
static void
test_few_have_died(void **state)
{
    (void)state;
    enum { PODS = 1000, SERIES_OF_POD = 100, DEAD = 20 };
    char number[16];
    int polls = 0;
    mdl_label labels[] = {{PS_STR(MDL_METRIC_NAME), PS_STR("m")}, {PS_STR("pod"), {number, 0}}};
    idx *x;
    ps_err err;
    ps_arena arena;
    idx_texts texts;
    mdl_ids within;
    mdl_ids_init(&within, &ps_malloc);
    ps_arena_init(&arena, &ps_malloc, 0);
    assert_int_equal(idx_new(&ps_malloc, 0, 7, &x, &err), PS_OK);
    for (int64_t i = 0; i < PODS * SERIES_OF_POD; i++) {
        int pod = (int)(i / SERIES_OF_POD);
        labels[1].value.len = (size_t)snprintf(number, sizeof(number), "%d", pod);
        assert_int_equal(idx_add_labels(x, 1, i + 1, (int32_t)(i % 100) + 1,
                                        (mdl_labels){labels, 2}, &err),
                         PS_OK);
        /* of the last dead pod one series lives, the last */
        if (pod >= DEAD || i == DEAD * SERIES_OF_POD - 1)
            assert_int_equal(mdl_ids_add(&within, i + 1, i + 1), PS_OK);
    }
    assert_int_equal(idx_settle(x, &err), PS_OK);
    idx_query q = {.tenant_id = 1, .within = &within, .should_stop = count_polls, .self = &polls};
    assert_int_equal(idx_values(x, PS_STR("pod"), &q, 1, &arena, &texts, &err), PS_OK);
    assert_int_equal(texts.n, PODS - DEAD + 1);
    assert_true(polls <= 2); /* one for each 4096 series */

    idx_found found;
    mdl_ids_done(&within);
    assert_int_equal(mdl_ids_add(&within, 5000, 5299), PS_OK);
    polls = 0;
    assert_int_equal(idx_select(x, &q, &arena, &found, &err), PS_OK);
    assert_int_equal(found.n, 300);
    assert_int_equal(idx_values(x, PS_STR("pod"), &q, 1, &arena, &texts, &err), PS_OK);
    assert_int_equal(texts.n, 4);
    assert_true(polls <= 4); /* of the first of each pod */
    ps_arena_done(&arena);
    mdl_ids_done(&within);
    idx_free(x);
}

static bool
stop_at_once(void *self)
{
    (void)self;
    return true;
}

static void
test_stops_and_memory(void **state)
{
    (void)state;
    idx *x;
    ps_err err;
    ps_arena arena;
    idx_texts texts;
    idx_metric_ids metrics;
    char number[16];
    mdl_label labels[] = {{PS_STR(MDL_METRIC_NAME), PS_STR("m")},
                          {PS_STR("a"), PS_STR("b")},
                          {PS_STR("i"), {number, 0}}};
    idx_query q = {.should_stop = stop_at_once};
    mdl_ids others;
    mdl_ids_init(&others, &ps_malloc);
    assert_int_equal(mdl_ids_add(&others, 20000, 30000), PS_OK);
    assert_int_equal(idx_new(&ps_malloc, 0, 7, &x, &err), PS_OK);
    for (int i = 1; i <= 10000; i++) {
        labels[2].value.len = (size_t)snprintf(number, sizeof(number), "%d", i);
        assert_int_equal(idx_add_labels(x, 0, i, 1, (mdl_labels){labels, 3}, &err), PS_OK);
    }
    ps_arena_init(&arena, &ps_malloc, 0);
    assert_int_equal(idx_names(x, &q, 1, &arena, &texts, &err), PS_EINTERNAL); /* not settled */
    assert_int_equal(idx_settle(x, &err), PS_OK);
    q.within = &others; /* so that all of them are looked at */
    assert_int_equal(idx_names(x, &q, 1, &arena, &texts, &err), PS_ECANCELED);
    assert_int_equal(idx_values(x, PS_STR("a"), &q, 1, &arena, &texts, &err), PS_ECANCELED);
    assert_int_equal(idx_metrics(x, &q, 1, &arena, &metrics, &err), PS_ECANCELED);
    ps_arena_done(&arena);
    mdl_ids_done(&others);
    q = (idx_query){0};
    for (size_t budget = 1; budget < 3000; budget += 200) {
        ps_arena_init(&arena, &ps_malloc, budget);
        ps_status status = idx_metrics(x, &q, 1, &arena, &metrics, &err);
        assert_true(status == PS_ENOMEM);
        ps_arena_done(&arena);
    }
    ps_arena_init(&arena, &ps_malloc, 1);
    assert_int_equal(idx_names(x, &q, 1, &arena, &texts, &err), PS_ENOMEM);
    assert_int_equal(idx_values(x, PS_STR("a"), &q, 1, &arena, &texts, &err), PS_ENOMEM);
    ps_arena_done(&arena);
    idx_free(x);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_the_slow_way),
        cmocka_unit_test(test_many_have_died),
        cmocka_unit_test(test_few_have_died),
        cmocka_unit_test(test_stops_and_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
