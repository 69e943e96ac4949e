/*
 * What a sender may store, rule by rule.
 */
#include "tests/unit/support.h"

#include <math.h>

#include "lib/histogram/histogram.h"

static const hst_span two[] = {{0, 1}, {2, 1}};
static const double counts[] = {3, 4};
static const double bounds[] = {1, 2, 3};

static hst_hist
good(void)
{
    return (hst_hist){.schema = 3,
                      .count = 9,
                      .sum = 1,
                      .zero_threshold = 0.001,
                      .zero_count = 2,
                      .positive = {two, 2, 2, counts},
                      .integer = true};
}

static hst_hist
custom(void)
{
    hst_hist h = good();
    h.schema = HST_CUSTOM;
    h.zero_count = h.zero_threshold = 0;
    h.count = 7;
    h.bounds = bounds;
    h.n_bounds = 3;
    return h;
}

static void
assert_why(const hst_hist *h, const char *part)
{
    const char *why = hst_validate(h);
    if (part == NULL) {
        assert_true(why == NULL);
        assert_int_equal(hst_check(h, NULL), PS_OK);
        return;
    }
    assert_non_null(why);
    if (strstr(why, part) == NULL)
        fail_msg("%s: expected %s", why, part);
}

static void
spans(void **state)
{
    (void)state;
    hst_hist h = good();
    assert_why(&h, NULL);
    const hst_span back[] = {{0, 1}, {-1, 1}}, first_back[] = {{-5, 2}}, more[] = {{0, 3}};
    h.positive.spans = back;
    assert_why(&h, "offset is negative");
    h.positive = (hst_side){first_back, 1, 2, counts};
    assert_why(&h, NULL);
    h.positive = (hst_side){more, 1, 2, counts};
    assert_why(&h, "different number of buckets");
    h = good();
    h.negative = (hst_side){more, 1, 0, NULL};
    assert_why(&h, "different number of buckets");
    const hst_span far[] = {{INT32_MAX, 2}};
    h = good();
    h.positive = (hst_side){far, 1, 2, counts};
    assert_why(&h, "too far out");
}

static void
populations(void **state)
{
    (void)state;
    const double negative[] = {3, -1};
    hst_hist h = good();
    h.count = 10;
    assert_why(&h, "should equal");
    h.integer = false; /* of floats nobody knows */
    assert_why(&h, NULL);
    h = good();
    h.sum = NAN;
    h.count = 10; /* one of NaN */
    assert_why(&h, NULL);
    h.count = 8;
    assert_why(&h, "at least the number");
    h = good();
    h.positive.counts = negative;
    assert_why(&h, "bucket whose observation count is negative");
    h = good();
    h.negative = (hst_side){two, 2, 2, negative};
    assert_why(&h, "bucket whose observation count is negative");
    h = good();
    h.integer = false;
    h.zero_count = -1;
    assert_why(&h, "bucket whose observation count is negative");
    h = good();
    h.integer = false;
    h.count = -1;
    assert_why(&h, "observation count is negative");
    h.count = NAN;
    assert_why(&h, NULL);
}

static void
schemas_and_zero(void **state)
{
    (void)state;
    hst_hist h = good();
    for (int32_t schema = -60; schema < 60; schema++) {
        h.schema = schema;
        if (schema == HST_CUSTOM)
            continue;
        assert_why(&h, schema >= -4 && schema <= 8 ? NULL : "invalid schema");
    }
    h = good();
    h.bounds = bounds;
    h.n_bounds = 1;
    assert_why(&h, "must not have custom bounds");
    const double odd[] = {-1, NAN, HUGE_VAL};
    for (size_t i = 0; i < 3; i++) {
        h = good();
        h.zero_threshold = odd[i];
        assert_why(&h, "no width");
    }
}

static void
custom_buckets(void **state)
{
    (void)state;
    const double nan_bound[] = {1, NAN, 3}, same[] = {1, 1, 3}, infinite[] = {1, 2, HUGE_VAL};
    const hst_span back[] = {{-1, 2}}, wide[] = {{0, 1}, {3, 1}};
    hst_hist h = custom();
    assert_why(&h, NULL);
    h.bounds = nan_bound;
    assert_why(&h, "must not be NaN");
    h.bounds = same;
    assert_why(&h, "strictly increasing");
    h.bounds = infinite;
    assert_why(&h, "must be finite");
    h = custom();
    h.positive = (hst_side){back, 1, 2, counts};
    assert_why(&h, "offset is negative");
    h.positive = (hst_side){wide, 2, 2, counts};
    assert_why(&h, "too few");
    h = custom();
    h.zero_count = 1;
    assert_why(&h, "zero count of 0");
    h = custom();
    h.zero_threshold = 1;
    assert_why(&h, "zero threshold of 0");
    h = custom();
    h.negative = (hst_side){two, 2, 2, counts};
    assert_why(&h, "negative spans");
    h.negative = (hst_side){NULL, 0, 2, counts};
    assert_why(&h, "negative buckets");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spans),
        cmocka_unit_test(populations),
        cmocka_unit_test(schemas_and_zero),
        cmocka_unit_test(custom_buckets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
