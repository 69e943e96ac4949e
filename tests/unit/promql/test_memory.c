/*
 * Memory that is not there: each allocation fails once, from the first on, and budgets of all sizes.
 * The answer is PS_ENOMEM with a text, nothing leaks, nothing is half done; with enough memory the
 * answer is that of the first try.
 */
#include "tests/unit/promql/query.h"

static const char *const texts[] = {
    "up",
    "sum by (a, b, c, d, e, f) (rate(m{a=\"\\x41\",b!=\"c\",d=~\"e.+f|g[h]*\",i!~`j`}[5m] offset 1h))",
    "a * on (b, \"c d\") group_left (e) fill (1) b or c > bool 1 unless (d)",
    "label_replace(a[step() * (5m + min_of(1, 2)):1m] @ start(), \"b\", \"c\", \"d\", \"e\")",
    "label_replace(a, \"b\", \"c\", \"d\", \"e\") + start() ^ -2",
    "{\"m\", \"x y\"=\"z\", a=\"1\", b=\"2\", c=\"3\", d=\"4\", e=\"5\"}",
    "nothing(a)",
    "a b",
    "sum(a =~ b)",
    "a{b=~\"(\"}",
    "m[1 - 1] offset (5m / 1)",
};

static ps_status
work(const char *text, const ps_alloc *alloc, size_t budget, pql_error *error, ps_buf *out)
{
    static const pql_options all = {true, true, true};
    ps_arena arena;
    pql_expr *expr = NULL;
    ps_arena_init(&arena, alloc, budget);
    ps_status status = pql_parse(&arena, ps_str_c(text), &all, &expr, error);
    if (status == PS_OK) {
        status = pql_prepare(&arena, expr, 0, 60000, 15000, error);
        pql_print(out, expr);
        pql_print_pretty(out, expr);
        pql_print_json(out, expr);
        if (status == PS_OK && out->failed) {
            status = PS_ENOMEM;
            strcpy(error->text, "print");
        }
    }
    ps_arena_done(&arena);
    return status;
}

static void
every_allocation_may_fail(void **state)
{
    (void)state;
    for (size_t i = 0; i < PS_ARRAY_LEN(texts); i++) {
        ps_status expected = PS_OK;
        pql_error error;
        for (size_t fail_at = 0;; fail_at++) {
            test_alloc counter = {.fail_at = fail_at};
            ps_alloc alloc = test_alloc_of(&counter);
            ps_buf out;
            ps_buf_init(&out, &alloc);
            ps_status status = work(texts[i], &alloc, 0, &error, &out);
            ps_buf_done(&out);
            test_alloc_check_empty(&counter);
            if (fail_at == 0) {
                expected = status;
                assert_int_not_equal(status, PS_ENOMEM);
                continue;
            }
            if (status != PS_OK)
                assert_true(strlen(error.text) > 0);
            if (counter.calls < fail_at) {
                assert_int_equal(status, expected);
                break;
            }
            /* A message may be complete although what came after it failed. */
            if (status != expected || expected == PS_OK)
                assert_int_equal(status, PS_ENOMEM);
        }
    }
}

static void
series_and_selectors_too(void **state)
{
    (void)state;
    const char *series =
        "m{a=\"\\x41\",b='2',\"c d\"=`3`,e=\"4\",f=\"5\",g=\"6\",h=\"7\",i=\"8\",j=\"9\"}";
    for (size_t fail_at = 1;; fail_at++) {
        test_alloc counter = {.fail_at = fail_at};
        ps_alloc alloc = test_alloc_of(&counter);
        for (size_t budget = 0; budget <= 8192; budget += 64) {
            ps_arena arena;
            mdl_labels labels;
            pql_expr *expr;
            pql_error error;
            ps_arena_init(&arena, &alloc, budget);
            ps_status status = pql_parse_series(&arena, ps_str_c(series), &labels, &error);
            assert_true(status == PS_OK ? labels.n == 10 : status == PS_ENOMEM);
            status = pql_parse_selector(&arena, ps_str_c(series), &expr, &error);
            assert_true(status == PS_OK ? expr->selector.n_matchers == 10 : status == PS_ENOMEM);
            ps_arena_done(&arena);
        }
        test_alloc_check_empty(&counter);
        if (counter.calls < fail_at)
            break;
    }
}

static void
budgets_are_kept(void **state)
{
    (void)state;
    for (size_t i = 0; i < PS_ARRAY_LEN(texts); i++) {
        bool fitted = false;
        for (size_t budget = 64; budget <= 64 << 10; budget += budget / 8) {
            test_alloc counter = {0};
            ps_alloc alloc = test_alloc_of(&counter);
            ps_buf out;
            pql_error error;
            ps_buf_init(&out, &ps_malloc);
            ps_status status = work(texts[i], &alloc, budget, &error, &out);
            ps_buf_done(&out);
            test_alloc_check_empty(&counter);
            assert_true(!fitted || status != PS_ENOMEM);
            fitted |= status != PS_ENOMEM;
        }
        assert_true(fitted);
    }
}

/* What a query of n bytes takes is a small multiple of n: nobody can ask for much with little. */
static void
memory_is_linear_in_the_text(void **state)
{
    (void)state;
    static const pql_options all = {true, true, true};
    static const char *const pieces[] = {
        "{a=\"b\"} + ", "m{a=\"b\",c=\"d\",", "f(a,", "sum by (a,", "-", "(", "a[", "1 or "};
    enum { LEN = 100000 };
    char *text = malloc(LEN);
    assert_non_null(text);
    for (size_t i = 0; i < PS_ARRAY_LEN(pieces); i++) {
        size_t n = strlen(pieces[i]);
        for (size_t at = 0; at < LEN; at++)
            text[at] = pieces[i][at % n];
        test_alloc counter = {0};
        ps_alloc alloc = test_alloc_of(&counter);
        ps_arena arena;
        pql_expr *expr;
        pql_error error;
        ps_arena_init(&arena, &alloc, 0);
        assert_int_not_equal(pql_parse(&arena, (ps_str){text, LEN}, &all, &expr, &error), PS_OK);
        ps_arena_done(&arena);
        test_alloc_check_empty(&counter);
        assert_true(counter.peak_bytes < 100 * LEN);
    }
    free(text);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(series_and_selectors_too),
        cmocka_unit_test(budgets_are_kept),
        cmocka_unit_test(memory_is_linear_in_the_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
