/*
 * test_explain.c - plans: their shape for every kind of node, estimates beside what a run really took,
 * and that asking for them changes no answer.
 */
#include "tests/unit/eval/harness.h"
#include "tests/unit/support.h"

static store s;

static int
setup(void **state)
{
    (void)state;
    store_init(&s);
    for (int i = 0; i < 240; i++) {
        char name[64];
        ps_buf text;
        ps_buf_init(&text, &ps_malloc);
        ps_buf_addf(&text, "x_total{i=\"%d\",l=\"%d\"}%c", i, i % 7, 0);
        memcpy(name, text.ptr, text.len);
        ps_buf_done(&text);
        store_add(&s, name, (i % 5) * 1000, 10000, 100, NULL, 0.1 * (i + 1));
    }
    for (int i = 0; i < 40; i++) {
        static const char *const le[] = {"1", "2", "4", "+Inf"};
        char name[64];
        ps_buf text;
        ps_buf_init(&text, &ps_malloc);
        ps_buf_addf(&text, "b_bucket{j=\"%d\",le=\"%s\"}%c", i / 4, le[i % 4], 0);
        memcpy(name, text.ptr, text.len);
        ps_buf_done(&text);
        store_add(&s, name, 0, 10000, 100, NULL, 1 + i % 4);
    }
    store_add(&s, "target_info{instance=\"a\",job=\"b\",v=\"1\"}", 0, 10000, 100, NULL, 0);
    store_add(&s, "up{instance=\"a\",job=\"b\"}", 0, 10000, 100, NULL, 0);
    store_add(&s, "long_ago", -100000000, 10000, 100, NULL, 0);
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    store_done(&s);
    return 0;
}

/* ---- asking ------------------------------------------------------------------------------------------ */

static int64_t
clock_of_test(void *self)
{
    return *(int64_t *)self += 1000;
}

typedef struct asked {
    ps_arena arena;
    ev_query *q;
    const ev_plan *plan;
    ps_status status;
    int64_t now;
} asked;

static size_t n_threads = 1;

static void
ask(asked *a, const char *text, int64_t start, int64_t end, int64_t step, bool analyze,
    const ps_alloc *alloc)
{
    pql_options language = {.experimental_functions = true};
    pql_expr *e;
    pql_error error;
    memset(a, 0, sizeof *a);
    ps_arena_init(&a->arena, &ps_malloc, 0);
    assert_int_equal(pql_parse(&a->arena, ps_str_c(text), &language, &e, &error), PS_OK);
    ev_env env = {.alloc = *alloc,
                  .source = store_source(&s),
                  .executor = n_threads > 1 ? harness_threads(n_threads) : ev_serial,
                  .now = clock_of_test,
                  .now_self = &a->now};
    a->status = ev_query_new(&env, NULL, e, ps_str_c(text), start, end, step, &a->q);
    if (a->status == PS_OK)
        a->status = ev_query_explain(a->q, analyze, &a->plan);
}

static void
done(asked *a)
{
    ev_query_free(a->q);
    ps_arena_done(&a->arena);
}

/* ---- shapes ------------------------------------------------------------------------------------------- */

static void
add_shape(ps_buf *out, const ev_plan_node *n)
{
    ps_buf_addf(out, "%s", n->kind);
    if (n->n_kids == 0)
        return;
    ps_buf_add_char(out, '(');
    for (size_t i = 0; i < n->n_kids; i++) {
        if (i > 0)
            ps_buf_add_char(out, ' ');
        add_shape(out, n->kids[i]);
    }
    ps_buf_add_char(out, ')');
}

static const struct {
    const char *query, *shape;
} shapes[] = {
    {"x_total", "leaf"},
    {"rate(x_total[1m])", "leaf"},
    {"timestamp(x_total)", "leaf"},
    {"quantile_over_time(scalar(x_total), x_total[1m])", "leaf(fold(leaf))"},
    {"abs(x_total)", "map(leaf)"},
    {"x_total * 2", "map(leaf)"},
    {"x_total * scalar(up)", "map(leaf fold(leaf))"},
    {"-x_total", "map(leaf)"},
    {"label_replace(x_total, \"j\", \"$1\", \"i\", \"(.).*\")", "map(leaf)"},
    {"clamp(x_total, time(), 1e9)", "map(leaf scalar)"},
    {"vector(time())", "map(scalar)"},
    {"sum by (l) (rate(x_total[1m]))", "fold(leaf)"},
    {"avg(x_total)", "fold(leaf)"},
    {"group(x_total)", "fold(leaf)"},
    {"absent(nothing)", "fold(leaf)"},
    {"topk(3, x_total)", "gather(leaf)"},
    {"topk by (l) (scalar(up), x_total)", "gather(leaf fold(leaf))"},
    {"sum(topk(3, x_total))", "fold(gather(leaf))"},
    {"limitk(3, x_total)", "gather(leaf)"},
    {"limit_ratio(scalar(up), x_total)", "gather(leaf fold(leaf))"},
    {"quantile(0.3, x_total)", "gather(leaf)"},
    {"quantile by (l) (0.3, x_total)", "gather(leaf)"},
    {"count_values(\"v\", x_total)", "gather(leaf)"},
    {"histogram_quantile(0.9, rate(b_bucket[1m]))", "gather(leaf)"},
    {"histogram_quantile(0.9, sum by (le) (rate(b_bucket[1m])))", "gather(fold(leaf))"},
    {"sort(x_total)", "gather(leaf)"},
    {"sum(sort_desc(x_total))", "fold(gather(leaf))"},
    {"x_total + x_total", "join(leaf leaf)"},
    {"sum by (i) (x_total) / on (i) group_left () x_total", "join(fold(leaf) leaf)"},
    {"x_total / on (l) group_left () sum by (l) (x_total)", "join(leaf fold(leaf))"},
    {"x_total > 5 or x_total", "join(map(leaf) leaf)"},
    {"x_total unless on (l) x_total{i=\"3\"}", "join(leaf leaf)"},
    {"info(up)", "join(leaf leaf)"},
    {"sum(info(up))", "fold(join(leaf leaf))"},
    {"max_over_time(rate(x_total[1m])[2m:17s])", "grid(leaf)"},
    {"max_over_time(sum by (l) (rate(x_total[1m]))[2m:17s])", "grid(fold(leaf))"},
    {"x_total @ 500", "grid(leaf)"},
    {"time() + scalar(up)", "scalar(scalar fold(leaf))"},
    {NULL, NULL},
};

static size_t
steps_of(const char *query)
{
    return strncmp(query, "sort", 4) == 0 ? 1 : 101;
}

static void
every_kind_of_node_has_its_shape(void **state)
{
    (void)state;
    for (size_t i = 0; shapes[i].shape != NULL; i++) {
        for (int instant = 0; instant < 2; instant++) {
            asked a;
            ps_buf text;
            int64_t end = instant ? 0 : 1000000;
            if (instant && strchr(shapes[i].query, '@') != NULL)
                continue; /* one step needs no repeating */
            ps_buf_init(&text, &ps_malloc);
            ask(&a, shapes[i].query, 0, end, instant ? 0 : 10000, false, &ps_malloc);
            assert_int_equal(a.status, PS_OK);
            add_shape(&text, a.plan->root);
            ps_buf_add_char(&text, 0);
            assert_string_equal(text.ptr, shapes[i].shape);
            assert_false(a.plan->analyzed);
            assert_null(a.plan->result);
            assert_int_equal(s.reads, 0);
            ps_buf_done(&text);
            done(&a);
        }
    }
}

/* ---- estimates ----------------------------------------------------------------------------------------- */

enum { SMALL = 8192 }; /* below, what is only there once counts for too much */

static bool
within_twice(uint64_t a, uint64_t b)
{
    return a <= 2 * b && b <= 2 * a;
}

static void
compare(const ev_plan_node *n, const char *query)
{
    const ev_figures *e = &n->estimated, *a = &n->actual;
    bool memory = (e->bytes < SMALL && a->bytes < SMALL) || within_twice(e->bytes, a->bytes);
    if (strcmp(n->kind, "gather") == 0 && /* depends on values: it is a guess */
        (strstr(query, "count_values") != NULL || strstr(query, "scalar(up)") != NULL))
        memory = true;
    if (!memory)
        fail_msg("%s: %s %.*s: memory %llu, actual %llu", query, n->kind, (int)n->text.len,
                 n->text.ptr, (unsigned long long)e->bytes, (unsigned long long)a->bytes);
    if (n->reads) {
        const ev_reading *er = &n->estimated_reading, *ar = &n->actual_reading;
        assert_int_equal(er->series, ar->series);
        assert_int_equal(er->blocks, ar->blocks);
        assert_int_equal(er->bytes, ar->bytes);
        if (n->newest_only)
            assert_true(ar->samples <= er->samples);
        else
            assert_int_equal(er->samples, ar->samples);
    }
    assert_true(a->total_ns > 0);
    assert_true(a->self_ns >= 0 && a->self_ns <= a->total_ns);
    assert_true(a->series <= a->points);
    for (size_t i = 0; i < n->n_kids; i++)
        compare(n->kids[i], query);
}

static void
memory_is_estimated_within_twice(void **state)
{
    (void)state;
    for (size_t i = 0; shapes[i].shape != NULL; i++) {
        asked a;
        size_t steps = steps_of(shapes[i].query);
        int64_t step = steps == 1 ? 0 : 10000;
        ask(&a, shapes[i].query, 100000, 100000 + (int64_t)(steps - 1) * 10000, step, true,
            &ps_malloc);
        if (a.status != PS_OK)
            fail_msg("%s: %.*s", shapes[i].query, (int)ev_query_error(a.q).len,
                     ev_query_error(a.q).ptr);
        compare(a.plan->root, shapes[i].query);
        assert_true(a.plan->running_ns > 0 && a.plan->estimating_ns > 0);
        assert_int_equal(a.plan->root->actual.series, a.plan->result->n);
        done(&a);
    }
}

static void
series_of_results_are_known_where_labels_tell(void **state)
{
    (void)state;
    static const struct {
        const char *query;
        uint64_t series;
    } cases[] = {
        {"x_total", 240},
        {"sum by (l) (x_total)", 7},
        {"sum(x_total)", 1},
        {"sum without (i) (x_total)", 7},
        {"topk(3, x_total)", 3},
        {"topk by (l) (3, x_total)", 21},
        {"sum by (l) (topk(3, x_total))", 3}, /* no more than there are series below */
        {"limitk(5, x_total)", 5},
        {"limit_ratio(0.5, x_total)", 120},
        {"histogram_quantile(0.5, b_bucket)", 10},
        {"x_total + x_total", 240},
        {"absent(nothing)", 1},
        {"nothing", 0},
        {"long_ago", 0},
        {"sum(nothing)", 0},
        {"scalar(nothing)", 1},
        {"vector(1)", 1},
        {"x_total or b_bucket", 280},
    };
    for (size_t i = 0; i < PS_ARRAY_LEN(cases); i++) {
        asked a;
        ask(&a, cases[i].query, 500000, 500000, 0, false, &ps_malloc);
        assert_int_equal(a.status, PS_OK);
        assert_int_equal(a.plan->root->estimated.series, cases[i].series);
        done(&a);
    }
}

static void
raw_ranges_and_texts_have_a_plan(void **state)
{
    (void)state;
    asked a;
    ask(&a, "x_total[1m]", 500000, 500000, 0, true, &ps_malloc);
    assert_int_equal(a.status, PS_OK);
    assert_string_equal(a.plan->root->what, "range selector");
    assert_int_equal(a.plan->root->estimated_reading.samples, 240 * 6);
    assert_int_equal(a.plan->root->actual_reading.samples, 240 * 6);
    assert_true(within_twice(a.plan->root->estimated.bytes, a.plan->root->actual.bytes));
    done(&a);
    ask(&a, "rate(x_total[1m])[5m:1m]", 500000, 500000, 0, true, &ps_malloc);
    assert_int_equal(a.status, PS_OK);
    assert_int_equal(a.plan->root->n_steps, 5);
    assert_string_equal(a.plan->root->kind, "leaf");
    done(&a);
    ask(&a, "\"text\"", 0, 0, 0, true, &ps_malloc);
    assert_int_equal(a.status, PS_OK);
    assert_string_equal(a.plan->root->what, "text");
    done(&a);
}

/* ---- the run itself ------------------------------------------------------------------------------------- */

static void
explaining_changes_no_answer(void **state)
{
    (void)state;
    for (size_t i = 0; shapes[i].shape != NULL; i++) {
        asked a;
        harness_query q = {.text = shapes[i].query,
                           .start_ms = 100000,
                           .end_ms = 600000,
                           .step_ms = 10000,
                           .options = {0}};
        pql_options language = {.experimental_functions = true};
        const ev_result *plain;
        pql_expr *e;
        pql_error error;
        ps_arena arena;
        ev_query *again;
        ask(&a, q.text, q.start_ms, q.end_ms, q.step_ms, true, &ps_malloc);
        assert_int_equal(a.status, PS_OK);
        ps_arena_init(&arena, &ps_malloc, 0);
        assert_int_equal(pql_parse(&arena, ps_str_c(q.text), &language, &e, &error), PS_OK);
        ev_env env = {.alloc = ps_malloc, .source = store_source(&s), .executor = ev_serial};
        assert_int_equal(ev_query_new(&env, NULL, e, ps_str_c(q.text), q.start_ms, q.end_ms,
                                      q.step_ms, &again),
                         PS_OK);
        assert_int_equal(ev_query_run(again, &plain), PS_OK);
        const ev_result *r = a.plan->result;
        assert_int_equal(r->n, plain->n);
        assert_int_equal(r->stats.total_samples, plain->stats.total_samples);
        assert_int_equal(r->stats.peak_samples, plain->stats.peak_samples);
        for (size_t k = 0; k < r->n; k++) {
            assert_true(mdl_labels_eq(r->series[k].labels, plain->series[k].labels));
            assert_int_equal(r->series[k].n, plain->series[k].n);
            assert_memory_equal(r->series[k].v, plain->series[k].v, r->series[k].n * 8);
        }
        ev_query_free(again);
        ps_arena_done(&arena);
        done(&a);
    }
}

static void
nor_do_threads(void **state)
{
    n_threads = 3;
    explaining_changes_no_answer(state);
    memory_is_estimated_within_twice(state);
    n_threads = 1;
}

static void
failures_are_told(void **state)
{
    (void)state;
    asked a;
    const ev_plan *plan;
    s.fail_estimates = PS_EUNAVAILABLE;
    ask(&a, "x_total", 0, 0, 0, false, &ps_malloc);
    assert_int_equal(a.status, PS_EUNAVAILABLE);
    assert_true(ps_str_eq_c(ev_query_error(a.q), "the store is away"));
    done(&a);
    s.fail_estimates = PS_OK;
    s.fail_reads = PS_EUNAVAILABLE;
    ask(&a, "x_total", 0, 0, 0, false, &ps_malloc);
    assert_int_equal(a.status, PS_OK);                                   /* nothing is read */
    assert_int_equal(ev_query_explain(a.q, false, &plan), PS_EINTERNAL); /* once */
    done(&a);
    ask(&a, "x_total", 0, 0, 0, true, &ps_malloc);
    assert_int_equal(a.status, PS_EUNAVAILABLE);
    done(&a);
    s.fail_reads = PS_OK;
    ask(&a, "label_replace(x_total, \"a\", \"b\", \"c\", \"(\")", 0, 0, 0, false, &ps_malloc);
    assert_int_equal(a.status, PS_EINVAL);
    done(&a);
}

static void
every_allocation_may_fail(void **state)
{
    (void)state;
    for (size_t i = 0; shapes[i].shape != NULL; i++) {
        for (size_t at = 1;; at++) {
            test_alloc failing = {.fail_at = at};
            ps_alloc alloc = test_alloc_of(&failing);
            asked a;
            ask(&a, shapes[i].query, 0, 400000, 100000, true, &alloc);
            bool ok = a.status == PS_OK;
            if (!ok)
                assert_int_equal(a.status, PS_ENOMEM);
            done(&a);
            test_alloc_check_empty(&failing);
            if (failing.calls < at)
                break;
            assert_false(ok);
        }
    }
}

/* ---- texts ------------------------------------------------------------------------------------------------ */

static void
a_plan_as_text(void **state)
{
    (void)state;
    asked a;
    ps_buf out;
    ps_buf_init(&out, &ps_malloc);
    ask(&a, "sum by (l) (x_total{l!=\"<3\"}) > 1", 500000, 500000, 0, false, &ps_malloc);
    ev_plan_text(&out, a.plan);
    ps_buf_add_char(&out, 0);
    assert_non_null(strstr(out.ptr, "map, operator with a scalar: sum by (l) (x_total{l!=\"<3\"}) "
                                    "> 1  (steps=1 series=7 memory="));
    assert_non_null(strstr(out.ptr, "\n  ->  fold, aggregation: sum by (l) (x_total{l!=\"<3\"})  "
                                    "(steps=1 series=7 memory="));
    assert_non_null(strstr(out.ptr, "\n        ->  leaf, selector: x_total{l!=\"<3\"}  (steps=1 "
                                    "series=240 memory="));
    assert_non_null(strstr(out.ptr, "\n              Reads newest samples: series=240 blocks=240 "
                                    "samples=7200 bytes=24 kB\n"));
    assert_non_null(strstr(out.ptr, "\nEstimated: blocks=240 samples=7200 bytes=24 kB memory="));
    assert_null(strstr(out.ptr, "ctual"));
    ps_buf_clear(&out);
    ev_plan_json(&out, a.plan);
    ps_buf_add_char(&out, 0);
    assert_non_null(strstr(out.ptr, "\"query\":\"x_total{l!=\\\"\\u003c3\\\"}\""));
    assert_non_null(strstr(out.ptr, "\"reads\":{\"start\":200.001,\"end\":500.000,"
                                    "\"newestOnly\":true,\"estimated\":{\"series\":240,"));
    assert_null(strstr(out.ptr, "actual"));
    done(&a);
    ps_buf_clear(&out);
    ask(&a, "sum(x_total)", 500000, 500000, 0, true, &ps_malloc);
    ev_plan_text(&out, a.plan);
    ps_buf_add_char(&out, 0);
    assert_non_null(strstr(out.ptr, ") (actual series=1 points=1 memory="));
    assert_non_null(strstr(out.ptr, " (actual series=240 blocks=240 samples="));
    assert_non_null(strstr(out.ptr, "\nExecution Time: 0."));
    ps_buf_done(&out);
    done(&a);
}

static void
long_texts_are_cut(void **state)
{
    (void)state;
    asked a;
    ps_buf query;
    ps_buf_init(&query, &ps_malloc);
    ps_buf_add_c(&query, "x_total{i=\"0\"}");
    for (int i = 1; i < 500; i++)
        ps_buf_addf(&query, " or x_total{i=\"%d\"}", i);
    ps_buf_add_char(&query, 0);
    ask(&a, query.ptr, 500000, 500000, 0, false, &ps_malloc);
    assert_int_equal(a.status, PS_OK);
    ps_str text = a.plan->root->text;
    assert_true(text.len > 1000 && text.len <= 2003);
    assert_memory_equal(text.ptr + text.len - 3, "...", 3);
    ps_buf_done(&query);
    done(&a);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(every_kind_of_node_has_its_shape),
        TEST(memory_is_estimated_within_twice),
        TEST(series_of_results_are_known_where_labels_tell),
        TEST(raw_ranges_and_texts_have_a_plan),
        TEST(explaining_changes_no_answer),
        TEST(nor_do_threads),
        TEST(failures_are_told),
        TEST(every_allocation_may_fail),
        TEST(a_plan_as_text),
        TEST(long_texts_are_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
