/*
 * test_icol.c - integer columns: each method is chosen where it should be and comes back; what is stored
 * wrongly is refused. And varints, the shortest column there is.
 */
#include "tests/unit/support.h"

#include "lib/block/internal.h"
#include "tests/unit/block/blockgen.h"

enum {
    N = 300,
    SAME = 0,
    VARINT = 1,
    DELTA = 2,
    RUNS = 3,
    BYTES = 4,
    FRAMES = 5,
    FRAMES_DELTA = 6
};

static void
expect_method(const uint64_t *v, size_t n, int method)
{
    uint64_t got[N];
    ps_buf out;

    ps_buf_init(&out, &ps_malloc);
    blk_icol_encode(v, n, &out);
    assert_false(out.failed);
    char *copy = test_exact_copy(out.ptr, out.len);
    assert_int_equal(copy[0], method);
    blk_in in = {(const uint8_t *)copy, (const uint8_t *)copy + out.len, false};
    assert_true(blk_icol_decode(&in, n, got));
    assert_int_equal(blk_in_left(&in), 0);
    assert_memory_equal(got, v, n * sizeof *v);
    for (size_t lo = 0; lo < n; lo += 1 + lo / 7) {
        for (size_t count = 0; count <= n - lo; count += 1 + count / 3) {
            uint64_t part[N + 1];
            memset(part, 0x5c, sizeof part);
            in = (blk_in){(const uint8_t *)copy, (const uint8_t *)copy + out.len, false};
            assert_true(blk_icol_part(&in, n, lo, count, part));
            assert_int_equal(blk_in_left(&in), 0);
            assert_memory_equal(part, v + lo, count * sizeof *v);
            assert_true(part[count] == UINT64_C(0x5c5c5c5c5c5c5c5c));
        }
    }
    /* one byte less is never enough */
    in = (blk_in){(const uint8_t *)copy, (const uint8_t *)copy + out.len - 1, false};
    assert_false(blk_icol_decode(&in, n, got));
    in = (blk_in){(const uint8_t *)copy, (const uint8_t *)copy + out.len - 1, false};
    assert_false(blk_icol_part(&in, n, 0, 0, NULL));
    free(copy);
    ps_buf_done(&out);
}

static void
test_methods(void **unused)
{
    uint64_t state = 41, v[N], sum = 0;

    (void)unused;
    for (size_t i = 0; i < N; i++)
        v[i] = (uint64_t)INT64_MIN;
    expect_method(v, N, SAME);
    expect_method(v, 1, SAME);
    for (size_t i = 0; i < N; i++)
        v[i] = i % 4 == 0 ? gen_below(&state, 1000000) : gen_below(&state, 60);
    expect_method(v, 12, VARINT);
    for (size_t i = 0; i < N; i++)
        v[i] = sum += gen_below(&state, 60);
    expect_method(v, N, DELTA);
    for (size_t i = 0; i < N; i++)
        v[i] = i / 100 * 7;
    expect_method(v, N, RUNS);
    for (size_t i = 0; i < N; i++)
        v[i] = 1000000 + gen_below(&state, 256);
    expect_method(v, N, BYTES);
    for (size_t i = 0; i < N; i++)
        v[i] = 1000000 + gen_below(&state, 16);
    expect_method(v, N, FRAMES);
    for (size_t i = 0; i < N; i++)
        v[i] = sum += gen_below(&state, 2);
    expect_method(v, N, FRAMES_DELTA);
}

static void
expect_refused(const void *bytes, size_t len, size_t n)
{
    uint64_t got[N];
    char *copy = test_exact_copy(bytes, len);
    blk_in in = {(const uint8_t *)copy, (const uint8_t *)copy + len, false};

    assert_false(blk_icol_decode(&in, n, got));
    in = (blk_in){(const uint8_t *)copy, (const uint8_t *)copy + len, false};
    assert_false(blk_icol_part(&in, n, 0, n, got));
    free(copy);
}

static void
test_refused(void **unused)
{
    (void)unused;
    expect_refused("", 0, 1);
    expect_refused("\x07\x00\x00", 3, 1);                      /* method */
    expect_refused("\x04\x00\x00", 3, 1);                      /* width 0 */
    expect_refused("\x04\x00\x09\0\0\0\0\0\0\0\0\0", 12, 1);   /* width 9 */
    expect_refused("\x03\x02\x05", 3, 5);                      /* a run that is too long */
    expect_refused("\x05\x80\x01\x00\x00", 5, 1);              /* frames with raws */
    expect_refused("\x05\x39\x00\x00\0\0\0\0\0\0\0\0", 12, 2); /* width 57 */
}

static void
test_varints(void **unused)
{
    static const char overlong[] = "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x02"; /* 65 bits */
    uint8_t bytes[24];

    (void)unused;
    for (unsigned bits = 0; bits <= 64; bits++) {
        for (int around = -1; around <= 1; around++) {
            uint64_t v = (bits == 64 ? 0 : UINT64_C(1) << bits) + (uint64_t)(int64_t)around;
            size_t len = (size_t)(blk_put_varint(bytes, v) - bytes);
            assert_int_equal(len, blk_varint_len(v));
            for (size_t room = len; room < 20; room++) { /* near the end and far from it */
                memset(bytes + len, 0xff, sizeof bytes - len);
                char *copy = test_exact_copy(bytes, room);
                blk_in in = {(const uint8_t *)copy, (const uint8_t *)copy + room, false};
                assert_true(blk_in_varint(&in) == v);
                assert_false(in.bad);
                assert_int_equal(blk_in_left(&in), room - len);
                in = (blk_in){(const uint8_t *)copy, (const uint8_t *)copy + len - 1, false};
                blk_in_varint(&in);
                assert_true(in.bad);
                free(copy);
            }
        }
    }
    blk_in in = {(const uint8_t *)overlong, (const uint8_t *)overlong + 10, false};
    blk_in_varint(&in);
    assert_true(in.bad);
}

/* Every width, any length, at the end of the bytes and before it. */
static void
test_packing(void **unused)
{
    uint64_t state = 42, v[BLK_FRAME_VALUES], got[BLK_FRAME_VALUES];

    (void)unused;
    for (unsigned w = 0; w <= 64; w = w == 56 ? 64 : w + 1) {
        for (size_t n = 0; n <= BLK_FRAME_VALUES; n += n < 20 ? 1 : 27) {
            uint8_t packed[BLK_FRAME_VALUES * 8 + 16];
            for (size_t i = 0; i < n; i++)
                v[i] = w == 0 ? 0 : gen_u64(&state) >> (64 - w);
            blk_pack(packed, v, n, w);
            size_t len = blk_packed_bytes(n, w);
            for (size_t more = 0; more <= 8; more += 4) {
                char *copy = test_exact_copy(packed, len + more);
                blk_unpack(got, n, (const uint8_t *)copy, len + more, w);
                if (n > 0)
                    assert_memory_equal(got, v, n * sizeof *v);
                free(copy);
            }
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_methods),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_varints),
        cmocka_unit_test(test_packing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
