/* Sets of ids against plain arrays of flags; their bytes, pinned, damaged and hostile; memory. */
#include "tests/unit/support.h"

#include <stdio.h>

#include "lib/model/model.h"

enum { SPAN = 20000 };

typedef struct plain { /* ids base + i */
    int64_t base;
    bool has[SPAN];
    uint64_t count;
} plain;

static void
plain_add(plain *p, int64_t lo, int64_t hi)
{
    for (int64_t i = lo - p->base; i <= hi - p->base; i++) {
        p->count += !p->has[i];
        p->has[i] = true;
    }
}

static void
check_same(mdl_ids *s, const plain *p)
{
    assert_int_equal(s->count, p->count);
    for (int64_t i = 0; i < SPAN; i++)
        assert_int_equal(mdl_ids_has(s, p->base + i), p->has[i]);
    assert_false(mdl_ids_has(s, p->base + SPAN + 1024));
    assert_false(mdl_ids_has(s, 0));
    assert_false(mdl_ids_has(s, -5));
}

static ps_status
random_adds(test_random *r, mdl_ids *s, plain *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int64_t lo = p->base + (int64_t)test_random_below(r, SPAN);
        int64_t most = p->base + SPAN - 1 - lo;
        int64_t run = test_random_below(r, 3) == 0 ? (int64_t)test_random_below(r, 3000) : 0;
        int64_t hi = lo + (run < most ? run : most);
        PS_TRY(mdl_ids_add(s, lo, hi));
        plain_add(p, lo, hi);
    }
    return PS_OK;
}

/* Written as a whole and from a list, the bytes are the same; read, they are the same set. */
static void
check_bytes(mdl_ids *s, const plain *p)
{
    int64_t *list = calloc(SPAN + 1, sizeof(*list));
    size_t n = 0;
    ps_buf a, b;
    mdl_ids back;
    uint32_t count;
    ps_err err;
    for (int64_t i = 0; i < SPAN; i++) {
        if (p->has[i])
            list[n++] = p->base + i;
    }
    ps_buf_init(&a, &ps_malloc);
    ps_buf_init(&b, &ps_malloc);
    assert_int_equal(mdl_ids_write(s, &a, &err), PS_OK);
    mdl_ids_encode(list, n, &b);
    assert_true(ps_str_eq(ps_buf_str(&a), ps_buf_str(&b)));
    assert_int_equal(mdl_ids_count(ps_buf_str(&a), &count, &err), PS_OK);
    assert_int_equal(count, n);
    mdl_ids_init(&back, &ps_malloc);
    assert_int_equal(mdl_ids_read(&back, ps_buf_str(&a), &err), PS_OK);
    check_same(&back, p);
    mdl_ids_done(&back);
    ps_buf_done(&a);
    ps_buf_done(&b);
    free(list);
}

static void
test_random_sets(void **state)
{
    (void)state;
    static const int64_t bases[] = {1, 1000, 1023, INT64_C(1) << 40, MDL_ID_MAX - SPAN};
    plain *p = calloc(1, sizeof(*p));
    for (uint64_t seed = 1; seed <= 20; seed++) {
        test_random r = {seed};
        test_alloc t = {0};
        ps_alloc alloc = test_alloc_of(&t);
        mdl_ids s;
        *p = (plain){.base = bases[seed % PS_ARRAY_LEN(bases)]};
        mdl_ids_init(&s, &alloc);
        check_bytes(&s, p);
        for (int round = 0; round < 5; round++) {
            assert_int_equal(random_adds(&r, &s, p, 1 + test_random_below(&r, 60)), PS_OK);
            check_same(&s, p);
            check_bytes(&s, p);
        }
        mdl_ids_done(&s);
        test_alloc_check_empty(&t);
    }
    free(p);
}

static void
test_what_is_no_id_is_left_out(void **state)
{
    (void)state;
    mdl_ids s;
    mdl_ids_init(&s, &ps_malloc);
    assert_int_equal(mdl_ids_add(&s, INT64_MIN, 3), PS_OK);
    assert_int_equal(mdl_ids_add(&s, MDL_ID_MAX - 1, INT64_MAX), PS_OK);
    assert_int_equal(mdl_ids_add(&s, 9, 8), PS_OK);
    assert_int_equal(mdl_ids_add(&s, -9, -8), PS_OK);
    assert_int_equal(s.count, 5);
    assert_true(mdl_ids_has(&s, 3) && mdl_ids_has(&s, MDL_ID_MAX));
    assert_false(mdl_ids_has(&s, 0) || mdl_ids_has(&s, MDL_ID_MAX + 1));
    mdl_ids_done(&s);
}

/* What databases hold. */
static void
test_bytes_never_change(void **state)
{
    (void)state;
    static const int64_t ids[] = {1, 2, 3, 5, 100, 1000, 1001, 5000000000};
    static const uint8_t want[] = {0x01, 0xf9, 0x7d, 0xfe, 0x6d, 0x08, 0x00, 0x00, 0x00, 0x01, 0x01,
                                   0x00, 0xba, 0x01, 0x85, 0x0e, 0x00, 0xaa, 0xb8, 0xaf, 0xa0, 0x25};
    ps_buf out;
    ps_buf_init(&out, &ps_malloc);
    mdl_ids_encode(ids, PS_ARRAY_LEN(ids), &out);
    assert_int_equal(out.len, sizeof(want));
    assert_memory_equal(out.ptr, want, sizeof(want));
    ps_buf_done(&out);
}

static void
fix_crc(char *bytes, size_t len)
{
    ps_put_u32le(bytes + 1, ps_crc32c(0, bytes + 5, len - 5));
}

static void
test_damage(void **state)
{
    (void)state;
    static const int64_t ids[] = {7, 8, 9, 4000, 4002, 70000};
    ps_buf out;
    uint32_t n;
    ps_err err;
    mdl_ids s;
    mdl_ids_init(&s, &ps_malloc);
    ps_buf_init(&out, &ps_malloc);
    mdl_ids_encode(ids, PS_ARRAY_LEN(ids), &out);
    for (size_t len = 0; len < out.len; len++)
        assert_int_equal(mdl_ids_read(&s, (ps_str){out.ptr, len}, &err), PS_ECORRUPT);
    for (size_t bit = 0; bit < out.len * 8; bit++) {
        out.ptr[bit / 8] ^= (char)(1 << bit % 8);
        assert_int_equal(mdl_ids_read(&s, ps_buf_str(&out), &err), PS_ECORRUPT);
        out.ptr[bit / 8] ^= (char)(1 << bit % 8);
    }
    assert_int_equal(s.count, 0);
    /* the number is wrong, in bytes that are whole otherwise */
    for (int d = -1; d <= 1; d += 2) {
        ps_put_u32le(out.ptr + 5, (uint32_t)(PS_ARRAY_LEN(ids) + (size_t)d));
        fix_crc(out.ptr, out.len);
        assert_int_equal(mdl_ids_count(ps_buf_str(&out), &n, &err), PS_ECORRUPT);
    }
    ps_buf_done(&out);
    mdl_ids_done(&s);
}

/* Whatever it is, it is refused or is a set of as many ids as it says, in memory that fits them. */
static void
test_hostile_bytes(void **state)
{
    (void)state;
    test_random r = {99};
    size_t good = 0;
    for (int round = 0; round < 20000; round++) {
        char bytes[40];
        size_t len = 9 + test_random_below(&r, sizeof(bytes) - 9);
        uint32_t n = (uint32_t)(round % 4 == 0 ? test_random_below(&r, MDL_IDS_MAX)
                                               : test_random_below(&r, 200));
        test_alloc t = {0};
        ps_alloc alloc = test_alloc_of(&t);
        mdl_ids s;
        ps_err err;
        for (size_t i = 9; i < len; i++)
            bytes[i] = (char)(test_random_below(&r, 4) == 0 ? test_random_u64(&r)
                                                           : test_random_below(&r, 8));
        bytes[0] = 1;
        ps_put_u32le(bytes + 5, n);
        fix_crc(bytes, len);
        mdl_ids_init(&s, &alloc);
        ps_status status = mdl_ids_read(&s, (ps_str){bytes, len}, &err);
        assert_true(status == PS_OK || status == PS_ECORRUPT);
        assert_int_equal(s.count, status == PS_OK ? n : 0);
        good += status == PS_OK;
        mdl_ids_done(&s);
        test_alloc_check_empty(&t);
    }
    assert_true(good > 20);
    /* the most that a few bytes can ask for */
    static const uint8_t run[] = {1, 0, 0, 0, 0, 0, 0, 0, 0x10, 1, 0xfe, 0xff, 0xff, 0x7f};
    char all[sizeof(run)];
    memcpy(all, run, sizeof(run));
    fix_crc(all, sizeof(run));
    test_alloc t = {0};
    ps_alloc alloc = test_alloc_of(&t);
    mdl_ids s;
    ps_err err;
    mdl_ids_init(&s, &alloc);
    assert_int_equal(mdl_ids_read(&s, (ps_str){all, sizeof(all)}, &err), PS_OK);
    assert_int_equal(s.count, MDL_IDS_MAX);
    assert_true(t.peak_bytes < (size_t)128 << 20);
    mdl_ids_done(&s);
}

static void
test_memory_runs_out(void **state)
{
    (void)state;
    plain *p = calloc(1, sizeof(*p));
    bool failed = true;
    for (size_t fail_at = 1; failed; fail_at++) {
        test_random r = {5};
        test_alloc t = {.fail_at = fail_at};
        ps_alloc alloc = test_alloc_of(&t);
        mdl_ids s;
        ps_buf out;
        ps_err err;
        *p = (plain){.base = 1};
        mdl_ids_init(&s, &alloc);
        ps_buf_init(&out, &alloc);
        ps_status status = random_adds(&r, &s, p, 100);
        if (status == PS_OK)
            status = mdl_ids_write(&s, &out, &err);
        assert_true(status == PS_OK || status == PS_ENOMEM);
        failed = status != PS_OK;
        ps_buf_done(&out);
        mdl_ids_done(&s);
        test_alloc_check_empty(&t);
    }
    free(p);
}

static void
test_windows(void **state)
{
    (void)state;
    static const int64_t hour = 3600000;
    assert_int_equal(MDL_WINDOW_MS, 8 * hour);
    assert_int_equal(mdl_window_start_ms(0), 0);
    assert_int_equal(mdl_window_start_ms(8 * hour - 1), 0);
    assert_int_equal(mdl_window_start_ms(8 * hour), 8 * hour);
    assert_int_equal(mdl_window_start_ms(24 * hour - 1), 16 * hour);
    assert_int_equal(mdl_window_start_ms(-1), -8 * hour);
    assert_int_equal(mdl_window_start_ms(-8 * hour), -8 * hour);
    assert_int_equal(mdl_window_start_ms(-8 * hour - 1), -16 * hour);
    assert_int_equal(mdl_window_start_ms(INT64_MIN), INT64_MIN);
    assert_true(mdl_window_start_ms(INT64_MAX) > INT64_MAX - 8 * hour);
}

typedef struct taken { /* of a difference */
    plain *p;
    const mdl_ids *without;
} taken;

static void
take_id(void *self, int64_t id)
{
    taken *t = self;
    assert_false(mdl_ids_has(t->without, id));
    assert_false(t->p->has[id - t->p->base]); /* each once */
    t->p->has[id - t->p->base] = true;
    t->p->count++;
}

static void
test_missing_are_those_of_one_that_the_other_lacks(void **state)
{
    (void)state;
    static plain a, b, got;
    test_random r = {31};
    for (int round = 0; round < 30; round++) {
        mdl_ids x, y;
        a = b = got = (plain){.base = 5000};
        mdl_ids_init(&x, &ps_malloc);
        mdl_ids_init(&y, &ps_malloc);
        assert_int_equal(random_adds(&r, &x, &a, (size_t)round), PS_OK);
        assert_int_equal(random_adds(&r, &y, &b, (size_t)test_random_below(&r, 20)), PS_OK);
        taken t = {&got, &y};
        mdl_ids_missing(&x, &y, take_id, &t);
        for (int64_t i = 0; i < SPAN; i++)
            assert_int_equal(got.has[i], a.has[i] && !b.has[i]);
        assert_true(mdl_ids_bytes(&x) >= x.count / 8);
        mdl_ids_done(&x);
        mdl_ids_done(&y);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_missing_are_those_of_one_that_the_other_lacks),
        cmocka_unit_test(test_random_sets),     cmocka_unit_test(test_what_is_no_id_is_left_out),
        cmocka_unit_test(test_bytes_never_change), cmocka_unit_test(test_damage),
        cmocka_unit_test(test_hostile_bytes),   cmocka_unit_test(test_memory_runs_out),
        cmocka_unit_test(test_windows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
