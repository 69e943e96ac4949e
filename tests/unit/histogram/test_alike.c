/*
 * test_alike.c - the short ways of sums and products give what the long ones give. A histogram whose spans
 * are cut into pieces is the same histogram, but not laid out alike: so it takes the long way.
 */
#include <math.h>

#include "lib/histogram/histogram.h"
#include "tests/unit/support.h"

enum { MAX_SPANS = 6, MAX_LENGTH = 5, MAX_COUNTS = MAX_SPANS * MAX_LENGTH };

typedef struct side {
    hst_span spans[MAX_SPANS], pieces[2 * MAX_COUNTS];
    double counts[MAX_COUNTS];
    uint32_t n_spans, n_pieces, n_counts;
} side;

static void
random_spans(test_random *r, side *s, bool custom)
{
    memset(s, 0, sizeof *s);
    s->n_spans = (uint32_t)test_random_below(r, MAX_SPANS);
    for (uint32_t i = 0; i < s->n_spans; i++) {
        hst_span *span = &s->spans[i];
        int32_t gap = (int32_t)test_random_below(r, 4);
        *span = (hst_span){i == 0 && !custom ? gap - 2 : gap,
                           (uint32_t)test_random_below(r, MAX_LENGTH)};
        for (uint32_t k = 0; k < span->length; k++)
            s->pieces[s->n_pieces++] = (hst_span){k == 0 ? span->offset : 0, 1};
        if (span->length == 0)
            s->pieces[s->n_pieces++] = *span;
        s->n_counts += span->length;
    }
}

static void
random_counts(test_random *r, side *s)
{
    for (uint32_t i = 0; i < s->n_counts; i++) {
        s->counts[i] = (double)test_random_below(r, 4);
        if (test_random_below(r, 30) == 0)
            s->counts[i] = test_random_below(r, 2) == 0 ? NAN : -INFINITY;
    }
}

static hst_hist
histogram_of(const side *positive, const side *negative, bool custom, bool in_pieces)
{
    static const double bounds[] = {1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16,
                                    17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32,
                                    33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48};
    const side *sides[2] = {positive, negative};
    hst_side out[2];
    for (int i = 0; i < 2; i++)
        out[i] = (hst_side){in_pieces ? sides[i]->pieces : sides[i]->spans,
                            in_pieces ? sides[i]->n_pieces : sides[i]->n_spans, sides[i]->n_counts,
                            sides[i]->counts};
    hst_hist h = {.count = 7, .sum = 2.5, .positive = out[0]};
    if (custom) {
        h.schema = HST_CUSTOM;
        h.bounds = bounds;
        h.n_bounds = PS_ARRAY_LEN(bounds);
    } else {
        h.negative = out[1];
        h.zero_count = 3;
        h.zero_threshold = 0.25; /* wider than some first buckets */
    }
    return h;
}

static void
assert_same(ps_arena *arena, const hst_hist *a, const hst_hist *b)
{
    const hst_hist *compact;
    assert_true(hst_equal(a, b));
    assert_int_equal(a->hint, b->hint);
    assert_int_equal(hst_compact(arena, a, &compact), PS_OK);
    assert_ptr_equal(a, compact);
    assert_int_equal(a->positive.n_spans, b->positive.n_spans);
    assert_int_equal(a->negative.n_spans, b->negative.n_spans);
}

static void
check(test_random *r, ps_arena *arena, bool custom)
{
    side p, n, p2, n2;
    hst_sum *sum, *other_sum;
    const hst_hist *x, *y;
    random_spans(r, &p, custom);
    random_spans(r, &n, custom);
    random_counts(r, &p);
    random_counts(r, &n);
    p2 = p;
    n2 = n;
    random_counts(r, &p2);
    random_counts(r, &n2);
    hst_hist a = histogram_of(&p, &n, custom, false), b = histogram_of(&p2, &n2, custom, false);
    hst_hist pieces = histogram_of(&p2, &n2, custom, true);
    a.hint = b.hint = pieces.hint = HST_NOT_RESET;
    assert_int_equal(hst_add(arena, &a, &b, NULL, &x), PS_OK);
    assert_int_equal(hst_add(arena, &a, &pieces, NULL, &y), PS_OK);
    assert_same(arena, x, y);
    assert_int_equal(hst_sub(arena, &a, &b, NULL, &x), PS_OK);
    assert_int_equal(hst_sub(arena, &a, &pieces, NULL, &y), PS_OK);
    assert_same(arena, x, y);
    assert_int_equal(hst_mul(arena, &b, 0.25, &x), PS_OK);
    assert_int_equal(hst_div(arena, &b, 4, &y), PS_OK);
    assert_same(arena, x, y);
    assert_int_equal(hst_sum_new(arena, &a, &sum), PS_OK);
    assert_int_equal(hst_sum_new(arena, &a, &other_sum), PS_OK);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(hst_sum_add(sum, &b, NULL), PS_OK);
        assert_int_equal(hst_sum_add(other_sum, &pieces, NULL), PS_OK);
    }
    assert_int_equal(hst_sum_value(sum, arena, &x), PS_OK);
    assert_int_equal(hst_sum_value(other_sum, arena, &y), PS_OK);
    assert_same(arena, x, y);
}

static void
test_short_ways_give_what_long_ones_give(void **state)
{
    (void)state;
    test_random r = {4711};
    ps_arena arena;
    ps_arena_init(&arena, &ps_malloc, 0);
    for (int i = 0; i < 20000; i++) {
        check(&r, &arena, i % 2 == 0);
        ps_arena_reset(&arena);
    }
    ps_arena_done(&arena);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_short_ways_give_what_long_ones_give),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
