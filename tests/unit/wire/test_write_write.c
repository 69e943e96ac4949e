/*
 * Written requests, byte by byte, and read back.
 */
#include "tests/unit/support.h"

#include "lib/wire/wire.h"

#define L(name, value)                                                                             \
    {                                                                                              \
        PS_STR(name), PS_STR(value)                                                                \
    }

static void
assert_hex(const ps_buf *buf, const char *hex)
{
    uint8_t expected[512];
    size_t n = test_unhex(expected, hex);
    assert_false(buf->failed);
    assert_int_equal(buf->len, n);
    assert_memory_equal(buf->ptr, expected, n);
}

static void
bytes_are_as_the_format_says(void **state)
{
    (void)state;
    const mdl_label labels[] = {L("__name__", "up"), L("j", "x")};
    const wire_sample samples[] = {
        {1, 1.0, 0}, {-1, 0.0, 0}, {0, -0.0, 0}, {0, 0.0, 0}, {300, 2.0, 0}};
    const mdl_label trace[] = {L("t", "9")};
    const wire_exemplar exemplar = {trace, 1, 5, 1.0};
    ps_buf out;
    ps_buf_init(&out, &ps_malloc);
    wire_write_series(&out, (mdl_labels){labels, 2}, samples, 5, &exemplar, 1);
    assert_hex(&out, "0a 62"
                     "0a 0e 0a 08 5f5f6e616d655f5f 12 02 7570"
                     "0a 06 0a 01 6a 12 01 78"
                     "12 0b 09 000000000000f03f 10 01"
                     "12 0b 10 ffffffffffffffffff01"
                     "12 09 09 0000000000000080"
                     "12 00"
                     "12 0c 09 0000000000000040 10 ac02"
                     "1a 13 0a 06 0a 01 74 12 01 39 11 000000000000f03f 18 05");
    ps_buf_clear(&out);
    wire_write_series(&out, (mdl_labels){NULL, 0}, NULL, 0, NULL, 0);
    assert_hex(&out, "0a 00");

    ps_buf_clear(&out);
    const wire_metadata counter = {WIRE_METRIC_COUNTER, PS_STR("f"), PS_STR("h"), PS_STR("u")};
    const wire_metadata bare = {WIRE_METRIC_UNKNOWN, PS_STR("f"), {NULL, 0}, {NULL, 0}};
    wire_write_metadata(&out, &counter);
    wire_write_metadata(&out, &bare);
    assert_hex(&out, "1a 0b 08 01 12 01 66 22 01 68 2a 01 75 1a 03 12 01 66");
    ps_buf_done(&out);
}

static void
times_of_every_size_come_back(void **state)
{
    (void)state;
    ps_buf out;
    ps_buf_init(&out, &ps_malloc);
    for (int bit = 0; bit < 64; bit++) {
        for (int d = -1; d <= 1; d++) {
            wire_sample sample = {(int64_t)((UINT64_C(1) << bit) + (uint64_t)(int64_t)d),
                                  d == 0 ? 0.0 : ps_double_of(0x7FF0000000000000u + (uint64_t)bit),
                                  0};
            wire_write_reader reader;
            wire_item item;
            wire_series series;
            wire_metadata metadata;
            wire_sample got = {42, 42, 0};
            ps_buf_clear(&out);
            wire_write_series(&out, (mdl_labels){NULL, 0}, &sample, 1, NULL, 0);
            wire_write_reader_init(&reader, ps_buf_str(&out));
            assert_int_equal(wire_write_next(&reader, &item, &series, &metadata, NULL), PS_OK);
            assert_int_equal(item, WIRE_SERIES);
            assert_int_equal(series.n_samples, 1);
            wire_series_samples(&series, &got);
            assert_true(got.t_ms == sample.t_ms);
            assert_true(ps_bits_of(got.value) == ps_bits_of(sample.value));
            assert_int_equal(wire_write_next(&reader, &item, &series, &metadata, NULL), PS_OK);
            assert_int_equal(item, WIRE_END);
        }
    }
    ps_buf_done(&out);
}

static void
failure_sticks(void **state)
{
    (void)state;
    const mdl_label labels[] = {L("__name__", "a_metric_with_a_longer_name"),
                                L("job", "prometheus")};
    const wire_sample samples[] = {{1, 1.0, 0}, {2, 2.0, 0}};
    const wire_metadata metadata = {WIRE_METRIC_GAUGE, PS_STR("family"), PS_STR("help"),
                                    PS_STR("")};
    test_alloc t = {.fail_at = 2};
    ps_alloc a = test_alloc_of(&t);
    ps_buf out;
    ps_buf_init(&out, &a);
    wire_write_series(&out, (mdl_labels){labels, 2}, samples, 2, NULL, 0);
    assert_true(out.failed);
    wire_write_metadata(&out, &metadata);
    assert_true(out.failed);
    assert_int_equal(t.calls, 2);
    ps_buf_done(&out);
    test_alloc_check_empty(&t);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_are_as_the_format_says),
        cmocka_unit_test(times_of_every_size_come_back),
        cmocka_unit_test(failure_sticks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
