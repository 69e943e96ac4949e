/*
 * What becomes of a tree when the time of its evaluation is known: durations that are computed, @
 * start() and @ end(), calls that tell of the query.
 */
#include "tests/unit/promql/query.h"

#include <stdio.h>

typedef struct when {
    int64_t start, end, step;
} when;

/* From 100 s to 400 s by 20 s: range() is 300, step() is 20. */
static const when range_query = {100000, 400000, 20000};
static const when instant_query = {100000, 100000, 0};

static query
prepared(const char *text, when w)
{
    query q = query_valid(text);
    q.status = pql_prepare(&q.arena, q.expr, w.start, w.end, w.step, &q.error);
    return q;
}

static void
durations_are_computed(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t ms;
    } cases[] = {
        {"step()", 20000},
        {"range()", 300000},
        {"step() * 3", 60000},
        {"range() / step()", 15000},
        {"1m + 30 - 5", 85000},
        {"2 ^ 3 ^ 2", 512000},
        {"-2 ^ 2 + 10", 6000},
        {"(1 + 2) * 3", 9000},
        {"100 % 7", 2000},
        {"min_of(step(), 1m)", 20000},
        {"max_of(step(), min_of(2m, 1m))", 60000},
        {"10 - -5", 15000},
        {"-(-7)", 7000},
        {"1 / 3", 333},
        {"2 / 3", 666},
        {"1.0009 * 1", 1000},
        {"(5m)", 300000},
    };
    char text[128];
    for (size_t i = 0; i < PS_ARRAY_LEN(cases); i++) {
        snprintf(text, sizeof text, "m[%s]", cases[i].text);
        query q = prepared(text, range_query);
        assert_int_equal(q.status, PS_OK);
        if (q.expr->range.range_ms != cases[i].ms)
            fail_msg("%s is %lld ms", cases[i].text, (long long)q.expr->range.range_ms);
        query_done(&q);
        snprintf(text, sizeof text, "m[1h:%s] offset -(%s)", cases[i].text, cases[i].text);
        q = prepared(text, range_query);
        assert_int_equal(q.status, PS_OK);
        assert_int_equal(q.expr->subquery.range_ms, 3600000);
        assert_int_equal(q.expr->subquery.step_ms, cases[i].ms);
        assert_int_equal(q.expr->subquery.when.offset_ms, -cases[i].ms);
        query_done(&q);
    }
}

static void
durations_that_cannot_be(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"m[step()]", "2:8: duration must be greater than 0"},
        {"m[1 - 2]", "2:7: duration must be greater than 0"},
        {"m[5 / step()]", "2:12: division by zero"},
        {"m[5 % (1 - 1)]", "2:12: modulo by zero"},
        {"m offset (0 / (1 - 1))", "10:20: division by zero"},
        {"m[1h:range()]", "5:12: duration must be greater than 0"},
        {"m[1e9 * 100]", "2:11: duration is out of range"},
        {"m offset (-100 * 1e9)", "10:20: duration is out of range"},
        {"m[min_of(1, 0)]", "9:13: duration must be greater than 0"},
        {"m[2 ^ 2000]", "2:10: duration is NaN or infinite"},
        {"m offset (-1 ^ 0.5)", NULL},
        {"m offset ((0 - 1) ^ 0.5)", "11:23: duration is NaN or infinite"},
        {"sum(rate(m[range()]))", "11:18: duration must be greater than 0"},
        {"a + rate(b[1 - 1])", "11:16: duration must be greater than 0"},
        {"-topk(1, m offset (1 / step()))", "19:29: division by zero"},
        {"m[1 - 1:2 - 2]", "8:13: duration must be greater than 0"},
    };
    for (size_t i = 0; i < PS_ARRAY_LEN(cases); i++) {
        query q = prepared(cases[i].text, instant_query);
        assert_int_equal(q.status, cases[i].message == NULL ? PS_OK : PS_EINVAL);
        if (cases[i].message != NULL)
            assert_string_equal(q.error.text, cases[i].message);
        query_done(&q);
    }
}

static void
at_is_a_time(void **state)
{
    (void)state;
    query q = prepared("max_over_time(m[5m:] @ end()) - m @ start()", range_query);
    assert_int_equal(q.status, PS_OK);
    const pql_expr *subquery = q.expr->binary.lhs->call.args[0];
    assert_int_equal(subquery->subquery.when.at_ms, 400000);
    assert_int_equal(subquery->subquery.when.at, PQL_AT_END);
    assert_int_equal(q.expr->binary.rhs->selector.when.at_ms, 100000);
    /* A tree can be prepared again for another time. */
    assert_int_equal(pql_prepare(&q.arena, q.expr, 7000, 9000, 1000, &q.error), PS_OK);
    assert_int_equal(subquery->subquery.when.at_ms, 9000);
    assert_int_equal(q.expr->binary.rhs->selector.when.at_ms, 7000);
    query_done(&q);
}

static void
calls_become_numbers(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double of_range, of_instant;
    } cases[] = {{"start()", 100, 100},
                 {"end()", 400, 100},
                 {"range()", 300, 0},
                 {"step()", 20, 0}};
    for (size_t i = 0; i < PS_ARRAY_LEN(cases); i++) {
        query q = prepared(cases[i].text, range_query);
        assert_int_equal(q.expr->kind, PQL_NUMBER);
        assert_int_equal(q.expr->type, PQL_SCALAR);
        assert_true(q.expr->number.value == cases[i].of_range);
        query_done(&q);
        q = prepared(cases[i].text, instant_query);
        assert_true(q.expr->number.value == cases[i].of_instant);
        query_done(&q);
    }
    query q = prepared("vector(-(step() + 1)) * sum(topk(max_of(step(), 2), m))", range_query);
    assert_int_equal(q.status, PS_OK);
    assert_string_equal(query_text(&q, pql_print),
                        "vector(-(20 + 1)) * sum(topk(max_of(20, 2), m))");
    query_done(&q);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(durations_are_computed),
        cmocka_unit_test(durations_that_cannot_be),
        cmocka_unit_test(at_is_a_time),
        cmocka_unit_test(calls_become_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
