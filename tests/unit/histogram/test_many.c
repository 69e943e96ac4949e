/*
 * test_many.c - sums and means: compensation, overflow, layouts that change on the way, reuse; and what
 * happens to every operation when memory ends.
 */
#include <math.h>

#include "lib/histogram/histogram.h"
#include "tests/unit/support.h"

static ps_arena arena;

static const hst_hist *
parse(const char *text)
{
    const hst_hist *h = NULL;
    ps_err err;
    bool has_hint;
    if (hst_parse(&arena, ps_str_c(text), &h, &has_hint, &err) != PS_OK)
        fail_msg("%s: %s", text, err.text);
    return h;
}

static int
setup(void **state)
{
    (void)state;
    ps_arena_init(&arena, &ps_malloc, 0);
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    ps_arena_done(&arena);
    return 0;
}

static const hst_hist *
sum_of(const char *const *texts, size_t n, bool mean, hst_notes *notes)
{
    hst_sum *s;
    const hst_hist *r;
    assert_int_equal(hst_sum_new(&arena, parse(texts[0]), &s), PS_OK);
    for (size_t i = 1; i < n; i++)
        assert_int_equal(mean ? hst_mean_add(s, parse(texts[i]), notes)
                              : hst_sum_add(s, parse(texts[i]), notes),
                         PS_OK);
    assert_int_equal(mean ? hst_mean_value(s, &arena, &r) : hst_sum_value(s, &arena, &r), PS_OK);
    return r;
}

static void
small_terms_are_not_lost(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "count:1 sum:1 z_bucket:1 buckets:[1 0]",
        "count:1e100 sum:1e100 z_bucket:1e100 buckets:[1e100 1e100]",
        "count:1 sum:1 z_bucket:1 buckets:[1 1]",
        "count:-1e100 sum:-1e100 z_bucket:-1e100 buckets:[-1e100 -1e100]",
    };
    const hst_hist *h = sum_of(texts, 4, false, NULL);
    assert_true(h->count == 2 && h->sum == 2 && h->zero_count == 2);
    assert_int_equal(h->positive.n_counts, 2);
    assert_true(h->positive.counts[0] == 2 && h->positive.counts[1] == 1);
    h = sum_of(texts, 4, true, NULL);
    assert_true(h->count == 0.5 && h->sum == 0.5 && h->positive.counts[1] == 0.25);
}

static void
mean_survives_where_the_sum_overflows(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "count:1.6e308 sum:-1.6e308 buckets:[1.6e308] n_buckets:[8]",
        "count:1.6e308 sum:-1.6e308 buckets:[1.6e308] n_buckets:[4 4]",
        "count:1.6e308 sum:-1.6e308 buckets:[1.6e308] n_buckets:[0 8]",
        "count:1.6e308 sum:-1.6e308 buckets:[1.6e308]",
    };
    const hst_hist *h = sum_of(texts, 4, false, NULL);
    assert_true(isinf(h->count) && isinf(h->sum) && isinf(h->positive.counts[0]));
    h = sum_of(texts, 4, true, NULL);
    assert_true(fabs(h->count / 1.6e308 - 1) < 1e-15 && fabs(h->sum / -1.6e308 - 1) < 1e-15);
    assert_true(fabs(h->positive.counts[0] / 1.6e308 - 1) < 1e-15);
    assert_true(h->negative.counts[0] == 3 && h->negative.counts[1] == 3);
}

static void
hints_seen_are_told(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "counter_reset_hint:reset",
        "counter_reset_hint:gauge",
        "counter_reset_hint:not_reset",
    };
    hst_notes notes = {0};
    const hst_hist *h = sum_of(texts, 2, false, &notes);
    assert_false(notes.hint_collision);
    assert_int_equal(h->hint, HST_GAUGE);
    h = sum_of(texts, 3, true, &notes);
    assert_true(notes.hint_collision);
    assert_int_equal(h->hint, HST_GAUGE);
}

static void
kinds_do_not_mix(void **state)
{
    (void)state;
    const hst_hist *a = parse("count:1 buckets:[1]");
    const hst_hist *b = parse("schema:-53 custom_values:[1] count:1 buckets:[1]"), *r = NULL;
    hst_sum *s;
    assert_int_equal(hst_add(&arena, a, b, NULL, &r), PS_EINVAL);
    assert_int_equal(hst_sub(&arena, b, a, NULL, &r), PS_EINVAL);
    assert_int_equal(hst_reduce(&arena, b, 0, &r), PS_EINVAL);
    assert_int_equal(hst_reduce(&arena, a, 1, &r), PS_EINVAL);
    assert_int_equal(hst_reduce(&arena, a, -5, &r), PS_EINVAL);
    assert_null(r);
    assert_int_equal(hst_sum_new(&arena, a, &s), PS_OK);
    assert_int_equal(hst_sum_add(s, b, NULL), PS_EINVAL);
    assert_int_equal(hst_mean_add(s, b, NULL), PS_EINVAL);
    assert_int_equal(hst_sum_reset(s, b), PS_OK);
    assert_int_equal(hst_sum_add(s, b, NULL), PS_OK);
    assert_int_equal(hst_sum_value(s, &arena, &r), PS_OK);
    assert_true(r->count == 2 && r->positive.counts[0] == 2);
}

static void
equal_is_about_buckets_that_are_populated(void **state)
{
    (void)state;
    const hst_hist *a = parse("count:3 sum:1 offset:1 buckets:[1 0 2]");
    assert_true(hst_equal(a, parse("count:3 sum:1 buckets:[0 1 0 2 0] counter_reset_hint:gauge")));
    assert_true(hst_equal(a, parse("count:3 sum:1 offset:1 buckets:[1 0 2] n_buckets:[0]")));
    assert_false(hst_equal(a, parse("count:3 sum:1 offset:1 buckets:[1 1 2]")));
    assert_false(hst_equal(a, parse("count:3 sum:1 offset:0 buckets:[1 0 2]")));
    assert_false(hst_equal(a, parse("count:3 sum:1 offset:1 buckets:[1 0 2] n_buckets:[1]")));
    assert_false(hst_equal(a, parse("count:3 sum:2 offset:1 buckets:[1 0 2]")));
    assert_false(hst_equal(a, parse("schema:1 count:3 sum:1 offset:1 buckets:[1 0 2]")));
    assert_false(hst_equal(a, parse("count:3 sum:1 offset:1 buckets:[1 0 2] z_bucket_w:1")));
    assert_true(hst_equal(parse("sum:NaN"), parse("sum:NaN")));
    assert_false(hst_equal(parse("sum:0"), parse("sum:-0")));
}

static void
weight_is_that_of_prometheus(void **state)
{
    (void)state;
    assert_int_equal(hst_weight(parse("")), 11);
    assert_int_equal(hst_weight(parse("buckets:[1 2 3]")), 13);
    assert_int_equal(hst_weight(parse("schema:-53 custom_values:[1 2] buckets:[1 2 3]")), 14);
}

/* ---- memory ------------------------------------------------------------------------------------ */

static ps_status
all_operations(ps_arena *to, const hst_hist *a, const hst_hist *b)
{
    const hst_hist *r;
    hst_sum *s;
    PS_TRY(hst_copy(to, a, &r));
    assert_true(hst_equal(a, r));
    PS_TRY(hst_add(to, a, b, NULL, &r));
    PS_TRY(hst_sub(to, a, b, NULL, &r));
    PS_TRY(hst_mul(to, a, 2, &r));
    PS_TRY(hst_div(to, a, 2, &r));
    PS_TRY(hst_with_hint(to, a, HST_RESET, &r));
    if (!hst_is_custom(a))
        PS_TRY(hst_reduce(to, a, -1, &r));
    PS_TRY(hst_compact(to, a, &r));
    PS_TRY(hst_trim(to, a, 1.5, true, &r));
    PS_TRY(hst_sum_new(to, a, &s));
    PS_TRY(hst_sum_add(s, b, NULL));
    PS_TRY(hst_sum_value(s, to, &r));
    PS_TRY(hst_sum_reset(s, b));
    PS_TRY(hst_mean_add(s, a, NULL));
    PS_TRY(hst_mean_add(s, b, NULL));
    return hst_mean_value(s, to, &r);
}

/* An arena of its own chunk for each allocation, so that every one of them can fail. */
static ps_status
with_budget(size_t budget, const hst_hist *a, const hst_hist *b, size_t *ret_used)
{
    ps_arena small;
    test_alloc counted = {0};
    ps_alloc alloc = test_alloc_of(&counted);
    ps_arena_init(&small, &alloc, budget);
    ps_status status = all_operations(&small, a, b);
    *ret_used = small.used_bytes;
    ps_arena_done(&small);
    test_alloc_check_empty(&counted);
    return status;
}

static void
memory_ends_anywhere(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {
        {"schema:1 count:1e308 z_bucket:1 buckets:[1 0 2]", "count:1e308 z_bucket_w:1 buckets:[7]"},
        {"schema:-53 custom_values:[1 2 4] buckets:[1 2]",
         "schema:-53 custom_values:[0 2 5] buckets:[1 2 3 4]"},
    };
    for (size_t i = 0; i < PS_ARRAY_LEN(pairs); i++) {
        const hst_hist *a = parse(pairs[i][0]), *b = parse(pairs[i][1]);
        size_t failures = 0, used, budget = 1;
        /* A budget that failed leaves the arena at what fitted: the next try allows a little more. */
        for (;; budget += 48) {
            ps_status status = with_budget(budget, a, b, &used);
            if (status == PS_OK)
                break;
            assert_int_equal(status, PS_ENOMEM);
            failures++;
        }
        assert_true(failures > 10);
    }
}

static void *
no_memory(void *self, void *old, size_t old_size, size_t new_size)
{
    size_t *left = self;
    if (new_size == 0 || (*left)-- > 0)
        return ps_malloc.realloc(ps_malloc.self, old, old_size, new_size);
    *left = 0;
    return NULL;
}

static void
parsing_without_memory(void **state)
{
    (void)state;
    size_t left = 0;
    ps_alloc alloc = {no_memory, &left};
    ps_arena none;
    const hst_hist *h = NULL;
    bool has_hint;
    ps_arena_init(&none, &alloc, 0);
    assert_int_equal(hst_parse(&none, PS_STR("count:1"), &h, &has_hint, NULL), PS_ENOMEM);
    assert_null(h);
    ps_arena_done(&none);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_terms_are_not_lost),
        cmocka_unit_test(mean_survives_where_the_sum_overflows),
        cmocka_unit_test(hints_seen_are_told),
        cmocka_unit_test(kinds_do_not_mix),
        cmocka_unit_test(equal_is_about_buckets_that_are_populated),
        cmocka_unit_test(weight_is_that_of_prometheus),
        cmocka_unit_test(memory_ends_anywhere),
        cmocka_unit_test(parsing_without_memory),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
