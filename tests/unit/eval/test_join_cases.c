/*
 * test_join_cases.c - operators, set operators and info(): what random floats do not reach.
 *
 * Histograms and their notes, which of several errors and names counts, info series that come and go, and
 * memory that fails at every possible place.
 */
#include <math.h>

#include "tests/unit/eval/harness.h"
#include "tests/unit/support.h"

#define GONE -12345.0 /* in values: nothing */

/* A series with a point every second. */
static void
add(store *s, const char *series, size_t n, const double *values)
{
    double v[16];
    assert_true(n <= PS_ARRAY_LEN(v));
    for (size_t i = 0; i < n; i++)
        v[i] = values[i] == GONE ? ps_double_of(MDL_STALE_NAN_BITS) : values[i];
    store_add(s, series, 0, 1000, n, v, 0);
}

static harness_query
range(const char *text, int64_t end_ms, bool delayed)
{
    return (harness_query){.text = text,
                           .end_ms = end_ms,
                           .step_ms = 1000,
                           .options = {.lookback_ms = 1000, .delayed_names = delayed}};
}

static void
expect(store *s, const char *text, bool delayed, const char *expected)
{
    harness_query q = range(text, 3000, delayed);
    harness_expect(s, &q, expected);
}

static void
test_notes(void **state)
{
    (void)state;
    store *s = calloc(1, sizeof *s);
    store_init(s);
    store_add_hists(s, "h{a=\"1\"}", 0, 1000, 4, "schema:0 sum:2 count:2 buckets:[1 1]");
    store_add_hists(s, "h{a=\"2\"}", 0, 1000, 4,
                    "schema:-53 sum:2 count:2 custom_values:[1 2] buckets:[1 1]");
    store_add_hists(s, "c{a=\"2\"}", 0, 1000, 4,
                    "schema:-53 sum:2 count:2 custom_values:[1 3] buckets:[1 1]");
    store_add(s, "f{a=\"1\"}", 0, 1000, 4, NULL, 1);
    store_add(s, "f{a=\"2\"}", 0, 1000, 4, NULL, 1);
    /* one note per step: of several it is the last pair's */
    expect(
        s, "h + on(a) f", false,
        "PromQL info: incompatible sample types encountered for binary operator \"+\": histogram "
        "+ float (1:1)\n");
    expect(s, "1 + h{a=\"1\"}", false,
           "PromQL info: incompatible sample types encountered for binary operator \"+\": float + "
           "histogram (1:1)\n");
    expect(s, "f </ 1", false,
           "PromQL info: incompatible sample types encountered for binary operator \"</\": float "
           "</ float (1:1)\n");
    expect(
        s, "h{a=\"1\"} > on(a) h{a=\"1\"}", false,
        "PromQL info: incompatible sample types encountered for binary operator \">\": histogram "
        "> histogram (1:1)\n");
    expect(s, "h{a=\"1\"} - ignoring(a) c", false,
           "PromQL warning: incompatible bucket layout encountered for binary operator - (1:1)\n");
    expect(s, "(h == on(a) h) == bool ignoring(a) group_left() h{a=\"1\"}", false,
           "{a=\"1\"} 0:1 1000:1 2000:1 3000:1\n{a=\"2\"} 0:0 1000:0 2000:0 3000:0\n");
    /* the last note counts, though others came before it: of series 1 layout, of series 2 bounds */
    expect(s, "count(h + ignoring(a) group_left() c)", false,
           "{} 0:1 1000:1 2000:1 3000:1\n"
           "PromQL info: mismatched custom buckets were reconciled during addition (1:7)\n");
    store_done(s);
    free(s);
}

static void
test_names(void **state)
{
    (void)state;
    store *s = calloc(1, sizeof *s);
    store_init(s);
    add(s, "a{l=\"x\"}", 4, (double[]){GONE, GONE, 3, 4});
    add(s, "b{l=\"x\"}", 4, (double[]){1, 1, 1, 1});
    /* left and right become one series: it has the name of what came first */
    expect(s, "a or -(a offset -2s)", true, "{l=\"x\"} 0:-3 1000:-4 2000:3 3000:4\n");
    expect(s, "a or a offset -2s", true, "a{l=\"x\"} 0:3 1000:4 2000:3 3000:4\n");
    expect(s, "-a or a offset -2s", true, "a{l=\"x\"} 0:3 1000:4 2000:-3 3000:-4\n");
    expect(s, "-a or a offset -2s", false, "a{l=\"x\"} 0:3 1000:4\n{l=\"x\"} 2000:-3 3000:-4\n");
    expect(s, "a == bool b", true, "{l=\"x\"} 2000:0 3000:0\n");
    expect(s, "a > b", true, "a{l=\"x\"} 2000:3 3000:4\n");
    /* a sum of two has no name from the start */
    expect(s, "label_replace(a + b, \"n\", \"$1\", \"__name__\", \"(.*)\")", true,
           "{l=\"x\"} 2000:4 3000:5\n");
    store_done(s);
    free(s);
}

static void
test_errors(void **state)
{
    (void)state;
    store *s = calloc(1, sizeof *s);
    store_init(s);
    add(s, "l{a=\"1\"}", 4, (double[]){1, GONE, 1, 1});
    add(s, "l{a=\"2\"}", 4, (double[]){GONE, 1, 1, 1});
    add(s, "r{b=\"1\"}", 4, (double[]){1, 1, 1, 1});
    add(s, "r{b=\"2\"}", 4, (double[]){GONE, GONE, GONE, 1});
    add(s, "q{b=\"1\"}", 4, (double[]){1, 1, GONE, 1});
    add(s, "q{b=\"2\"}", 4, (double[]){GONE, 1, 1, GONE});
    add(s, "z{a=\"9\"}", 4, (double[]){1, GONE, GONE, GONE});
    /* two on the left from step 2 on, two on the right at step 3: the first counts */
    expect(s, "l + on() r", false,
           "multiple matches for labels: many-to-one matching must be explicit "
           "(group_left/group_right)");
    /* two on the right at step 1, when one is on the left */
    expect(s, "l + on() q", false,
           "found duplicate series for the match group {} on the right hand-side of the operation: "
           "[{__name__=\"q\", b=\"1\"}, {__name__=\"q\", b=\"2\"}];many-to-many matching not "
           "allowed: matching labels must be unique on one side");
    /* at that step the other side has nothing: no error */
    expect(s, "z + on() q", false, "{} 0:2\n");
    expect(s, "z + on() fill_right(1) q", false,
           "found duplicate series for the match group {} on the right hand-side of the operation: "
           "[{__name__=\"q\", b=\"1\"}, {__name__=\"q\", b=\"2\"}];many-to-many matching not "
           "allowed: matching labels must be unique on one side");
    /* an error inside counts before one outside, whatever their steps */
    expect(s, "(l + on() group_left() q) + on() r", false,
           "found duplicate series for the match group {} on the right hand-side of the operation: "
           "[{__name__=\"q\", b=\"1\"}, {__name__=\"q\", b=\"2\"}];many-to-many matching not "
           "allowed: matching labels must be unique on one side");
    expect(s, "{__name__=~\"l|z\"} * on() group_left(b) r", false,
           "found duplicate series for the match group {} on the right hand-side of the operation: "
           "[{__name__=\"r\", b=\"1\"}, {__name__=\"r\", b=\"2\"}];many-to-many matching not "
           "allowed: matching labels must be unique on one side");
    expect(s, "l * on() group_left(a) r{b=\"1\"}", false,
           "multiple matches for labels: grouping labels must ensure unique matches");
    store_done(s);
    free(s);
}

static void
test_info(void **state)
{
    (void)state;
    store *s = calloc(1, sizeof *s);
    store_init(s);
    add(s, "m{instance=\"a\",job=\"j\"}", 4, (double[]){1, 2, 3, 4});
    add(s, "m{instance=\"b\",job=\"j\",v=\"own\"}", 4, (double[]){5, 6, GONE, 8});
    add(s, "target_info{instance=\"a\",job=\"j\",v=\"1\"}", 4, (double[]){1, 1, GONE, GONE});
    add(s, "target_info{instance=\"a\",job=\"j\",v=\"2\"}", 4, (double[]){GONE, GONE, 1, GONE});
    add(s, "target_info{instance=\"b\",job=\"j\",v=\"3\",w=\"x\"}", 4, (double[]){1, 1, 1, 1});
    add(s, "other_info{instance=\"a\",job=\"j\",v=\"9\"}", 4, (double[]){GONE, 1, GONE, GONE});
    expect(s, "info(m)", false,
           "m{instance=\"a\",job=\"j\"} 3000:4\n"
           "m{instance=\"a\",job=\"j\",v=\"1\"} 0:1 1000:2\n"
           "m{instance=\"a\",job=\"j\",v=\"2\"} 2000:3\n"
           "m{instance=\"b\",job=\"j\",v=\"own\",w=\"x\"} 0:5 1000:6 3000:8\n");
    /* what must match a value is not there without an info series */
    expect(s, "info(m, {v=~\".+\"})", false,
           "m{instance=\"a\",job=\"j\",v=\"1\"} 0:1 1000:2\n"
           "m{instance=\"a\",job=\"j\",v=\"2\"} 2000:3\n"
           "m{instance=\"b\",job=\"j\",v=\"own\"} 0:5 1000:6 3000:8\n");
    expect(s, "info(m, {w=\"x\"})", false,
           "m{instance=\"b\",job=\"j\",v=\"own\",w=\"x\"} 0:5 1000:6 3000:8\n");
    expect(s, "info(m, {__name__=~\".+_info\"})", false, "conflicting label: v");
    expect(s, "info(m{instance=\"b\"}, {__name__=~\".+_info\"})", false,
           "m{instance=\"b\",job=\"j\",v=\"own\",w=\"x\"} 0:5 1000:6 3000:8\n");
    expect(s, "info(target_info{instance=\"b\"})", false,
           "target_info{instance=\"b\",job=\"j\",v=\"3\",w=\"x\"} 0:1 1000:1 2000:1 3000:1\n");
    expect(s, "info(m{instance=\"a\"} @ 2)", false,
           "m{instance=\"a\",job=\"j\",v=\"2\"} 0:3 1000:3 2000:3 3000:3\n");
    /* equally new */
    add(s, "target_info{instance=\"a\",job=\"j\",v=\"8\"}", 4, (double[]){GONE, 1, GONE, GONE});
    expect(s, "info(m{instance=\"a\"})", false,
           "found duplicate series for info metric: existing {__name__=\"target_info\", "
           "instance=\"a\", job=\"j\", v=\"1\"} @ 1000, new {__name__=\"target_info\", "
           "instance=\"a\", job=\"j\", v=\"8\"} @ 1000");
    expect(s, "info(m{instance=\"b\"})", false,
           "m{instance=\"b\",job=\"j\",v=\"own\",w=\"x\"} 0:5 1000:6 3000:8\n");
    store_done(s);
    free(s);
}

/* Memory that fails at the n-th call, for all n: a clean error, and everything is given back. */
static void
test_memory(void **state)
{
    (void)state;
    static const char *const queries[] = {
        "l + on() group_left(b) fill(1) r",
        "{__name__=~\"l|m\"} > bool ignoring(a, b) group_right() r",
        "l or r and on() m unless -h",
        "h + on() group_left() h{b=\"1\"} or h * 2",
        "l / on() q",
        "info(m, {v=~\".*\"})",
        "info(m)",
        "2 ^ l + scalar(r{b=\"1\"})",
    };
    store *s = calloc(1, sizeof *s);
    store_init(s);
    add(s, "l{a=\"1\"}", 4, (double[]){1, GONE, 1, 1});
    add(s, "l{a=\"2\"}", 4, (double[]){GONE, 1, 1, 1});
    add(s, "q{b=\"1\"}", 4, (double[]){1, 1, GONE, 1});
    add(s, "q{b=\"2\"}", 4, (double[]){GONE, 1, 1, GONE});
    add(s, "r{b=\"1\"}", 4, (double[]){1, 1, GONE, GONE});
    add(s, "r{b=\"2\"}", 4, (double[]){GONE, GONE, 1, 1});
    add(s, "m{instance=\"a\",job=\"j\"}", 4, (double[]){1, 2, 3, 4});
    add(s, "target_info{instance=\"a\",job=\"j\",v=\"1\"}", 4, (double[]){1, 1, GONE, GONE});
    add(s, "target_info{instance=\"a\",job=\"j\",v=\"2\"}", 4, (double[]){GONE, GONE, 1, GONE});
    store_add_hists(s, "h{b=\"1\"}", 0, 1000, 4, "schema:0 sum:2 count:2 buckets:[1 1]");
    store_add_hists(s, "h{b=\"2\"}", 0, 1000, 4, "schema:1 sum:2 count:2 buckets:[1 1]");
    for (size_t i = 0; i < PS_ARRAY_LEN(queries); i++) {
        size_t failures = 0;
        ps_status last = PS_ENOMEM;
        for (size_t n = 1; n < 2000 && last == PS_ENOMEM; n++) {
            test_alloc a = {.fail_at = n};
            harness_query q = range(queries[i], 3000, i % 2 == 0);
            q.alloc = test_alloc_of(&a);
            harness_result r = harness_run(s, &q);
            last = r.status;
            failures += last == PS_ENOMEM;
            test_alloc_check_empty(&a);
            harness_done(&r);
        }
        /* at last there was enough, and it was no other error on the way */
        assert_true(failures > 5);
        assert_true(last == PS_OK || (last == PS_EINVAL && (i == 1 || i == 4)));
    }
    store_done(s);
    free(s);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_notes), cmocka_unit_test(test_names),  cmocka_unit_test(test_errors),
        cmocka_unit_test(test_info),  cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
