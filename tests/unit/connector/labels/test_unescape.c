/* Label names in their escaped form. */
#include "connector/labels/labels.h"
#include "tests/unit/support.h"

static void
test_names(void **state)
{
    (void)state;
    static const struct {
        const char *escaped, *name;
    } cases[] = {
        {"job", "job"},
        {"a_2e_b", "a_2e_b"},
        {"U__", ""},
        {"U__job", "job"},
        {"U__a_2e_b", "a.b"},
        {"U__a_2E_b", "a.b"},
        {"U__a__b", "a_b"},
        {"U____", "_"},
        {"U__mixed__2e__x_2e_", "mixed_2e_x."},
        {"U___e9_t_e9_", "\xC3\xA9t\xC3\xA9"},
        {"U___2603_", "\xE2\x98\x83"},
        {"U___1f600_", "\xF0\x9F\x98\x80"},
        /* not of this form: they stay */
        {"U_", "U_"},
        {"U__a_", "U__a_"},
        {"U__a_2e", "U__a_2e"},
        {"U__a_2g_", "U__a_2g_"},
        {"U__a_d800_", "U__a_d800_"},
        {"U__a_110000_", "U__a_110000_"},
        {"U__a_10ffff_", "U__a_10ffff_"},
        {"u__a_2e_b", "u__a_2e_b"},
    };
    for (size_t i = 0; i < PS_ARRAY_LEN(cases); i++) {
        ps_arena arena;
        ps_str got;
        ps_err err;
        ps_arena_init(&arena, &ps_malloc, 0);
        assert_int_equal(labels_unescape(&arena, ps_str_c(cases[i].escaped), &got, &err), PS_OK);
        if (!ps_str_eq_c(got, cases[i].name))
            fail_msg("%s became %.*s", cases[i].escaped, (int)got.len, got.ptr);
        ps_arena_done(&arena);
    }
}

static void
test_no_memory(void **state)
{
    (void)state;
    ps_arena arena;
    ps_str got;
    ps_err err;
    ps_arena_init(&arena, &ps_malloc, 1);
    assert_int_equal(labels_unescape(&arena, PS_STR("U__a"), &got, &err), PS_ENOMEM);
    assert_int_equal(labels_unescape(&arena, PS_STR("a"), &got, &err), PS_OK);
    ps_arena_done(&arena);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
