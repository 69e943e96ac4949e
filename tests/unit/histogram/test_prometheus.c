/*
 * test_prometheus.c - the same answers as Prometheus's own code, case by case from a file.
 *
 * A case is a line "operation numbers...", the operands in the notation of scripts, each indented, and
 * "= answer".
 */
#include <math.h>
#include <stdio.h>

#include "lib/histogram/histogram.h"
#include "tests/unit/support.h"

#define CASES "tests/golden/histogram/prometheus.txt"
enum { MAX_OPERANDS = 8, MAX_LINE = 1024 };

static ps_arena arena;
static ps_buf got;

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

static void
put_number(double v)
{
    char text[PS_DOUBLE_TEXT];
    ps_format_double_go(text, v);
    ps_buf_add_c(&got, text);
}

static void
put_hist(const hst_hist *h)
{
    ps_buf_addf(&got, "%d %d ", (int)h->schema, (int)h->hint);
    put_number(h->zero_threshold);
    ps_buf_add_char(&got, ' ');
    hst_format(&got, h);
}

static void
put_flag(bool flag)
{
    ps_buf_add_c(&got, flag ? " true" : " false");
}

static void
many(const char *op, const hst_hist *const *h, size_t n)
{
    hst_sum *s = NULL;
    hst_notes notes = {0};
    const hst_hist *r = NULL;
    bool sum = strcmp(op, "sum") == 0;
    assert_int_equal(hst_sum_new(&arena, h[0], &s), PS_OK);
    for (size_t i = 1; i < n; i++)
        assert_int_equal(sum ? hst_sum_add(s, h[i], &notes) : hst_mean_add(s, h[i], &notes), PS_OK);
    assert_int_equal(sum ? hst_sum_value(s, &arena, &r) : hst_mean_value(s, &arena, &r), PS_OK);
    put_hist(r);
    put_flag(notes.bounds_reconciled);
}

static void
run(const char *op, double x, double y, const hst_hist *const *h, size_t n)
{
    const hst_hist *r = NULL;
    hst_notes notes = {0};
    hst_quantile_notes about_nan = {0};
    if (strcmp(op, "add") == 0 || strcmp(op, "sub") == 0) {
        assert_int_equal(*op == 'a' ? hst_add(&arena, h[0], h[1], &notes, &r)
                                    : hst_sub(&arena, h[0], h[1], &notes, &r),
                         PS_OK);
        put_hist(r);
        put_flag(notes.hint_collision);
        put_flag(notes.bounds_reconciled);
        return;
    }
    if (strcmp(op, "sum") == 0 || strcmp(op, "mean") == 0) {
        many(op, h, n);
        return;
    }
    if (strcmp(op, "mul") == 0)
        assert_int_equal(hst_mul(&arena, h[0], x, &r), PS_OK);
    else if (strcmp(op, "div") == 0)
        assert_int_equal(hst_div(&arena, h[0], x, &r), PS_OK);
    else if (strcmp(op, "reduce") == 0)
        assert_int_equal(hst_reduce(&arena, h[0], (int32_t)x, &r), PS_OK);
    else if (strcmp(op, "below") == 0 || strcmp(op, "above") == 0)
        assert_int_equal(hst_trim(&arena, h[0], x, *op == 'b', &r), PS_OK);
    else if (strcmp(op, "reset") == 0)
        ps_buf_add_c(&got, hst_detect_reset(h[0], h[1]) ? "true" : "false");
    else if (strcmp(op, "quantile") == 0)
        put_number(hst_quantile(h[0], x, &about_nan));
    else if (strcmp(op, "fraction") == 0)
        put_number(hst_fraction(h[0], x, y, &about_nan));
    else if (strcmp(op, "variance") == 0)
        put_number(hst_variance(h[0]));
    else
        fail_msg("unknown operation %s", op);
    if (r != NULL)
        put_hist(r);
}

/* The same texts but for the last digits of numbers, which depend on the C library's logarithm. */
static bool
agrees(const char *a, const char *b)
{
    while (*a != '\0' && *b != '\0') {
        char *end_a, *end_b;
        double x = strtod(a, &end_a), y = strtod(b, &end_b);
        if ((end_a == a) != (end_b == b))
            return false;
        if (end_a == a) {
            if (*a++ != *b++)
                return false;
            continue;
        }
        if (x != y && !(isnan(x) && isnan(y)) && !(fabs(x - y) <= 1e-11 * fabs(x)))
            return false;
        a = end_a;
        b = end_b;
    }
    return *a == *b;
}

static void
same_answers_as_prometheus(void **state)
{
    (void)state;
    char line[MAX_LINE], op[32] = "";
    const hst_hist *h[MAX_OPERANDS];
    size_t n = 0, cases = 0;
    double x = 0, y = 0;
    FILE *f = fopen(CASES, "r");
    assert_non_null(f);
    ps_buf_init(&got, &ps_malloc);
    while (fgets(line, sizeof line, f) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (line[0] == ' ') {
            assert_true(n < MAX_OPERANDS);
            h[n++] = parse(line);
        } else if (line[0] == '=') {
            ps_buf_clear(&got);
            run(op, x, y, h, n);
            ps_buf_add_char(&got, '\0');
            assert_false(got.failed);
            if (!agrees(got.ptr, line + 2))
                fail_msg("case %zu, %s: got %s, expected %s", cases + 1, op, got.ptr, line + 2);
            cases++;
            n = 0;
            x = y = 0;
        } else {
            assert_true(sscanf(line, "%31s %lf %lf", op, &x, &y) >= 1);
        }
    }
    fclose(f);
    ps_buf_done(&got);
    assert_int_equal(cases, 118);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {cmocka_unit_test(same_answers_as_prometheus)};
    ps_arena_init(&arena, &ps_malloc, 0);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    ps_arena_done(&arena);
    return failed;
}
