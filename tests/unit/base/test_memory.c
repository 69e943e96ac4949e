/*
 * Allocators, arenas, buffers: sizes, budgets, and what is left after each possible failure.
 */
#include "tests/unit/support.h"

static void
sizes_do_not_wrap(void **state)
{
    (void)state;
    size_t r = 17;
    assert_true(ps_mul_size(3, 5, &r));
    assert_int_equal(r, 15);
    assert_false(ps_mul_size(SIZE_MAX / 2, 3, &r));
    assert_int_equal(r, 15);
    assert_true(ps_mul_size(SIZE_MAX, 1, &r));
    assert_true(ps_mul_size(SIZE_MAX, 0, &r));
    assert_true(ps_add_size(SIZE_MAX - 1, 1, &r));
    assert_false(ps_add_size(SIZE_MAX, 1, &r));
    assert_null(ps_alloc_array(&ps_malloc, SIZE_MAX / 4, 8));
}

static void
arrays_are_zeroed_and_empty_is_not_null(void **state)
{
    (void)state;
    test_alloc t = {0};
    ps_alloc a = test_alloc_of(&t);
    for (size_t n = 0; n < 40; n++) {
        unsigned char *p = ps_alloc_array(&a, n, 3);
        assert_non_null(p);
        for (size_t i = 0; i < 3 * n; i++)
            assert_int_equal(p[i], 0);
        ps_alloc_free(&a, p, 3 * n);
    }
    ps_alloc_free(&a, NULL, 0);
    test_alloc_check_empty(&t);

    char *p = ps_malloc.realloc(ps_malloc.self, NULL, 0, 5);
    assert_non_null(p);
    memcpy(p, "abcd", 5);
    p = ps_malloc.realloc(ps_malloc.self, p, 5, 5000);
    assert_string_equal(p, "abcd");
    assert_null(ps_malloc.realloc(ps_malloc.self, p, 5000, 0));
}

static void
arenas_hand_out_aligned_separate_memory(void **state)
{
    (void)state;
    test_alloc t = {0};
    test_random random = {7};
    ps_alloc a = test_alloc_of(&t);
    ps_arena arena;
    ps_arena_init(&arena, &a, 0);
    enum { N = 500 };
    unsigned char *p[N];
    size_t len[N];
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < N; i++) {
            len[i] = test_random_below(&random, i % 50 == 0 ? 100000 : 200);
            p[i] = ps_arena_new(&arena, len[i]);
            assert_non_null(p[i]);
            assert_int_equal((uintptr_t)p[i] % 16, 0);
            memset(p[i], (int)(i & 0xFF), len[i]);
            assert_int_equal(arena.used_bytes, t.live_bytes);
        }
        for (size_t i = 0; i < N; i++) {
            for (size_t j = 0; j < len[i]; j++)
                assert_int_equal(p[i][j], i & 0xFF);
        }
        ps_arena_reset(&arena);
        assert_true(t.live_blocks <= 1);
        assert_int_equal(arena.used_bytes, t.live_bytes);
    }
    unsigned char *zeroed = ps_arena_array(&arena, 100, 10);
    for (size_t i = 0; i < 1000; i++)
        assert_int_equal(zeroed[i], 0);
    assert_null(ps_arena_array(&arena, SIZE_MAX / 2, 4));
    assert_null(ps_arena_new(&arena, SIZE_MAX));
    assert_null(ps_arena_new(&arena, SIZE_MAX - 40));

    ps_str copy;
    assert_int_equal(ps_arena_dup(&arena, PS_STR("label"), &copy), PS_OK);
    assert_str(copy, "label");
    assert_int_equal(ps_arena_dup(&arena, (ps_str){NULL, 0}, &copy), PS_OK);
    assert_int_equal(copy.len, 0);
    ps_arena_done(&arena);
    assert_int_equal(arena.used_bytes, 0);
    test_alloc_check_empty(&t);
    assert_non_null(ps_arena_new(&arena, 10)); /* usable again */
    ps_arena_done(&arena);
    test_alloc_check_empty(&t);
}

static void
arenas_need_few_allocations(void **state)
{
    (void)state;
    test_alloc t = {0};
    ps_alloc a = test_alloc_of(&t);
    ps_arena arena;
    ps_arena_init(&arena, &a, 0);
    for (size_t i = 0; i < 100000; i++)
        assert_non_null(ps_arena_new(&arena, 48));
    assert_true(t.calls < 15);
    /* An oversized chunk is not kept. */
    assert_non_null(ps_arena_new(&arena, 50 << 20));
    ps_arena_reset(&arena);
    assert_true(t.live_bytes <= (1 << 20) + 64);
    ps_arena_done(&arena);
    test_alloc_check_empty(&t);
}

static void
arena_budgets_hold_to_the_byte(void **state)
{
    (void)state;
    test_alloc t = {0};
    ps_alloc a = test_alloc_of(&t);
    ps_arena arena;
    const size_t budget = 100000;
    ps_arena_init(&arena, &a, budget);
    size_t given = 0;
    while (ps_arena_new(&arena, 1000) != NULL)
        given += 1000;
    assert_true(t.live_bytes <= budget);
    assert_true(given > budget * 9 / 10); /* not lost to the doubling of chunks */
    assert_null(ps_arena_new(&arena, budget));
    ps_str copy = PS_STR("untouched");
    char big[4000] = "";
    assert_int_equal(ps_arena_dup(&arena, (ps_str){big, sizeof big}, &copy), PS_ENOMEM);
    assert_str(copy, "untouched");
    ps_arena_reset(&arena);
    assert_non_null(ps_arena_new(&arena, 1000));
    ps_arena_done(&arena);
    test_alloc_check_empty(&t);

    ps_arena_init(&arena, &a, 10); /* less than a chunk header */
    assert_null(ps_arena_new(&arena, 1));
    ps_arena_done(&arena);
    test_alloc_check_empty(&t);
}

static void
arenas_survive_a_failing_allocator(void **state)
{
    (void)state;
    for (size_t n = 1; n <= 4; n++) {
        test_alloc t = {.fail_at = n};
        ps_alloc a = test_alloc_of(&t);
        ps_arena arena;
        size_t given = 0;
        ps_arena_init(&arena, &a, 0);
        ps_alloc over = ps_arena_as_alloc(&arena);
        while (given < 1000 && ps_arena_new(&arena, 1000) != NULL)
            given++;
        assert_true(given < 1000);
        assert_int_equal(t.live_blocks, n - 1);
        assert_int_equal(arena.used_bytes, t.live_bytes);
        assert_null(over.realloc(over.self, NULL, 0, 5000));
        assert_null(ps_arena_array(&arena, 500, 10));
        t.fail_at = 0; /* memory is back */
        char *p = over.realloc(over.self, NULL, 0, 40);
        assert_non_null(p);
        assert_null(over.realloc(over.self, p, 40, SIZE_MAX));
        memset(p, 'x', 40);
        ps_arena_done(&arena);
        test_alloc_check_empty(&t);
    }
}

static void
arenas_serve_as_allocator(void **state)
{
    (void)state;
    test_alloc t = {0};
    ps_alloc a = test_alloc_of(&t);
    ps_arena arena;
    ps_arena_init(&arena, &a, 0);
    ps_alloc over = ps_arena_as_alloc(&arena);
    ps_buf buf;
    ps_buf_init(&buf, &over);
    for (size_t i = 0; i < 10000; i++) {
        if (i % 1000 == 0)
            assert_non_null(ps_arena_new(&arena, 1)); /* stands in the way of growing in place */
        ps_buf_addf(&buf, "%zu,", i);
    }
    assert_false(buf.failed);
    assert_memory_equal(buf.ptr, "0,1,2,3,", 8);
    assert_memory_equal(buf.ptr + buf.len - 5, "9999,", 5);
    char *p = ps_alloc_new(&over, 100);
    memset(p, 'x', 100);
    assert_ptr_equal(over.realloc(over.self, p, 100, 40), p); /* shrinks where it is */
    assert_ptr_equal(over.realloc(over.self, p, 40, 48), p);
    char *q = over.realloc(over.self, p, 48, 200000);
    for (size_t i = 0; i < 40; i++)
        assert_int_equal(q[i], 'x');
    assert_null(over.realloc(over.self, q, 200000, 0));
    assert_null(over.realloc(over.self, NULL, 0, SIZE_MAX));
    ps_arena_done(&arena);
    test_alloc_check_empty(&t);
}

static void
build_text(ps_buf *buf)
{
    ps_buf_add_c(buf, "one ");
    ps_buf_add_str(buf, PS_STR("two "));
    ps_buf_add_char(buf, '3');
    for (int i = 0; i < 200; i++)
        ps_buf_addf(buf, " %d %s", i, "padding to make it grow several times over");
    ps_buf_add(buf, NULL, 0);
}

static void
buffers_fail_once_and_for_all(void **state)
{
    (void)state;
    test_alloc t = {0};
    ps_alloc a = test_alloc_of(&t);
    ps_buf whole;
    ps_buf_init(&whole, &a);
    build_text(&whole);
    assert_false(whole.failed);
    size_t calls = t.calls;
    assert_true(calls > 3);
    for (size_t n = 1; n <= calls; n++) {
        test_alloc failing = {.fail_at = n};
        ps_alloc b = test_alloc_of(&failing);
        ps_buf buf;
        ps_buf_init(&buf, &b);
        build_text(&buf);
        assert_true(buf.failed);
        assert_true(buf.len < whole.len);
        if (buf.len > 0)
            assert_memory_equal(buf.ptr, whole.ptr, buf.len); /* a prefix, nothing after the gap */
        assert_false(ps_buf_reserve(&buf, 1));
        assert_int_equal(failing.calls, n); /* and it does not try again */
        ps_buf_clear(&buf);
        assert_false(buf.failed);
        failing.fail_at = 0;
        build_text(&buf);
        assert_false(buf.failed);
        assert_int_equal(buf.len, whole.len);
        ps_buf_done(&buf);
        test_alloc_check_empty(&failing);
    }
    ps_buf_done(&whole);
    ps_buf_done(&whole); /* twice is harmless */
    test_alloc_check_empty(&t);
}

static void
buffers_keep_their_limit(void **state)
{
    (void)state;
    for (size_t max = 1; max < 300; max++) {
        ps_buf buf;
        ps_buf_init(&buf, &ps_malloc);
        buf.max = max;
        for (size_t i = 0; i < max; i++) {
            if (i % 3 == 0)
                ps_buf_addf(&buf, "%c", 'x');
            else
                ps_buf_add_char(&buf, 'x');
            assert_false(buf.failed);
        }
        assert_int_equal(buf.len, max);
        assert_true(buf.cap <= max + 1);
        ps_buf_add(&buf, "", 0);
        assert_false(buf.failed);
        ps_buf_addf(&buf, "%d", 5);
        assert_true(buf.failed);
        assert_int_equal(buf.len, max);
        ps_buf_clear(&buf);
        assert_false(ps_buf_reserve(&buf, max + 1));
        ps_buf_clear(&buf);
        assert_true(ps_buf_reserve(&buf, max));
        ps_buf_clear(&buf);
        assert_false(ps_buf_reserve(&buf, SIZE_MAX));
        ps_buf_done(&buf);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_do_not_wrap),
        cmocka_unit_test(arrays_are_zeroed_and_empty_is_not_null),
        cmocka_unit_test(arenas_hand_out_aligned_separate_memory),
        cmocka_unit_test(arenas_need_few_allocations),
        cmocka_unit_test(arena_budgets_hold_to_the_byte),
        cmocka_unit_test(arenas_survive_a_failing_allocator),
        cmocka_unit_test(arenas_serve_as_allocator),
        cmocka_unit_test(buffers_fail_once_and_for_all),
        cmocka_unit_test(buffers_keep_their_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
