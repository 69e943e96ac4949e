/*
 * What is stored forever: digests of label sets and labels, placement keys, buckets; and days.
 * The values pinned here were computed once; a change that moves one of them breaks every database
 * that exists.
 */
#include "tests/unit/support.h"

#include "lib/model/model.h"

#define L(name, value)                                                                             \
    {                                                                                              \
        PS_STR(name), PS_STR(value)                                                                \
    }

static const char *
digest_hex(const mdl_label *items, size_t n)
{
    static char hex[33];
    ps_buf scratch;
    ps_digest digest;
    ps_buf_init(&scratch, &ps_malloc);
    assert_int_equal(mdl_labels_digest((mdl_labels){items, n}, &scratch, &digest), PS_OK);
    ps_buf_done(&scratch);
    return test_hex(hex, digest.bytes, sizeof digest.bytes);
}

static void
digests_of_label_sets_are_pinned(void **state)
{
    (void)state;
    const mdl_label up[] = {L("__name__", "up")};
    const mdl_label cpu[] = {L("__name__", "cpu_usage"), L("namespace", "production"),
                             L("node", "pinky")};
    const mdl_label utf8[] = {L("__name__", "temp\xC3\xA9rature"),
                              L("\xE5\x9F\x8E", "\xE4\xBA\xAC")};
    static char value[3300];
    memset(value, 'v', sizeof value);
    const mdl_label large[] = {L("__name__", "m"), {PS_STR("path"), {value, sizeof value}}};
    assert_string_equal(digest_hex(NULL, 0), "99aa06d3014798d86001c324468d497f");
    assert_string_equal(digest_hex(up, 1), "03fae6ee53d14ac5b6eafe0d84149a43");
    assert_string_equal(digest_hex(cpu, 3), "24ed4c4dffb98e0e2d894d2882569e79");
    assert_string_equal(digest_hex(utf8, 2), "5653b7c8452e12bc696eedce13319632");
    assert_string_equal(digest_hex(large, 2), "78e77d181fdc16eeab654726903688a5");
}

static void
the_encoding_is_as_documented(void **state)
{
    (void)state;
    const mdl_label items[] = {L("__name__", "up"), L("job", "x")};
    static const char encoded[] = "\x08\0\0\0__name__\x02\0\0\0up\x03\0\0\0job\x01\0\0\0x";
    ps_digest expected = ps_digest_of((ps_str){encoded, sizeof encoded - 1});
    char hex[33];
    assert_string_equal(digest_hex(items, 2), test_hex(hex, expected.bytes, 16));

    ps_buf scratch;
    ps_digest one;
    ps_buf_init(&scratch, &ps_malloc);
    assert_int_equal(mdl_label_digest(PS_STR("job"), PS_STR("x"), &scratch, &one), PS_OK);
    ps_digest pair = ps_digest_of((ps_str){encoded + 18, sizeof encoded - 19});
    assert_true(ps_digest_eq(&one, &pair));
    ps_buf_done(&scratch);
}

static void
different_sets_differ(void **state)
{
    (void)state;
    static const mdl_label sets[][2] = {
        {L("ab", "c"), L("d", "e")}, {L("a", "bc"), L("d", "e")}, {L("a", "b"), L("cd", "e")},
        {L("a", "b"), L("c", "de")}, {L("abc", "de"), L("", "")}, {L("", "abcde"), L("", "")},
        {L("d", "e"), L("ab", "c")},
    };
    char seen[PS_ARRAY_LEN(sets)][33];
    for (size_t i = 0; i < PS_ARRAY_LEN(sets); i++) {
        memcpy(seen[i], digest_hex(sets[i], 2), 33);
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(seen[i], seen[j]);
    }
}

static void
digests_need_memory(void **state)
{
    (void)state;
    const mdl_label items[] = {L("__name__", "up"),
                               L("job", "a value longer than the first capacity "
                                        "of a buffer, to make it grow again")};
    for (size_t n = 1; n <= 2; n++) {
        test_alloc t = {.fail_at = n};
        ps_alloc a = test_alloc_of(&t);
        ps_buf scratch;
        ps_digest digest;
        memset(&digest, 0xAA, sizeof digest);
        ps_buf_init(&scratch, &a);
        assert_int_equal(mdl_labels_digest((mdl_labels){items, 2}, &scratch, &digest), PS_ENOMEM);
        assert_int_equal(digest.bytes[0], 0xAA);
        t.fail_at = 0; /* memory is back: the same scratch works */
        assert_int_equal(mdl_labels_digest((mdl_labels){items, 2}, &scratch, &digest), PS_OK);
        ps_buf_done(&scratch);
        test_alloc_check_empty(&t);
    }
}

static void
placement_is_pinned(void **state)
{
    (void)state;
    static const struct {
        int32_t tenant, metric;
        int64_t key;
    } pins[] = {
        {0, 0, INT64_C(-2152535657050944081)},
        {0, 1, INT64_C(-7995527694508729151)},
        {1, 0, INT64_C(-4310971672841551560)},
        {1, 1, INT64_C(2324861979054413167)},
        {0, -1, INT64_C(8336509955162079680)},
        {0, -32, INT64_C(-9164970054925375839)},
        {7, 123456, INT64_C(2896407317136960197)},
        {2147483647, 2147483647, INT64_C(-4855405805023499407)},
        {-1, -1, INT64_C(-1956407806741107680)},
    };
    for (size_t i = 0; i < PS_ARRAY_LEN(pins); i++)
        assert_true(mdl_dist_key(pins[i].tenant, pins[i].metric) == pins[i].key);

    static const struct {
        int32_t metric, bucket;
    } buckets[] = {
        {0, -1}, {1, -2}, {31, -32}, {32, -1}, {33, -2}, {INT32_MAX, -32},
    };
    for (size_t i = 0; i < PS_ARRAY_LEN(buckets); i++)
        assert_int_equal(mdl_bucket(buckets[i].metric), buckets[i].bucket);
    for (int32_t m = 0; m < 1000; m++)
        assert_true(mdl_bucket(m) >= -MDL_BUCKETS && mdl_bucket(m) <= -1);
}

/* What Prometheus sends when a series ends; told from other NaNs by its bits alone. */
static void
the_stale_marker_is_prometheuss(void **state)
{
    (void)state;
    assert_true(MDL_STALE_NAN_BITS == UINT64_C(0x7ff0000000000002));
    double stale = ps_double_of(MDL_STALE_NAN_BITS);
    assert_true(stale != stale);
}

static void
days_round_down(void **state)
{
    (void)state;
    static const struct {
        int64_t t, day;
    } cases[] = {
        {0, 0},
        {1, 0},
        {86399999, 0},
        {86400000, 86400000},
        {-1, -86400000},
        {-86400000, -86400000},
        {-86400001, -172800000},
        {1700000000123, 1699920000000},
        {MDL_TIME_MIN_MS, MDL_TIME_MIN_MS},
        {MDL_TIME_MAX_MS, INT64_C(9224318015999999) - 86399999},
        {INT64_MIN, INT64_MIN},
        {INT64_MAX, INT64_MAX - INT64_MAX % 86400000},
    };
    for (size_t i = 0; i < PS_ARRAY_LEN(cases); i++)
        assert_true(mdl_day_start_ms(cases[i].t) == cases[i].day);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(digests_of_label_sets_are_pinned),
        cmocka_unit_test(the_encoding_is_as_documented),
        cmocka_unit_test(different_sets_differ),
        cmocka_unit_test(digests_need_memory),
        cmocka_unit_test(placement_is_pinned),
        cmocka_unit_test(the_stale_marker_is_prometheuss),
        cmocka_unit_test(days_round_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
