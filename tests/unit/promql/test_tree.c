/*
 * Text to tree: how operators nest, where nodes lie in the text, what nodes hold, how deep they may
 * be. Nesting is shown as an expression with all parentheses, written here node by node.
 */
#include "tests/unit/promql/query.h"

#include <stdio.h>

static void
show(ps_buf *out, const pql_expr *e)
{
    switch (e->kind) {
    case PQL_BINARY:
        ps_buf_add_char(out, '(');
        show(out, e->binary.lhs);
        ps_buf_add_c(out, pql_op_text(e->binary.op));
        show(out, e->binary.rhs);
        ps_buf_add_char(out, ')');
        break;
    case PQL_UNARY:
        ps_buf_add_char(out, '(');
        ps_buf_add_c(out, pql_op_text(e->unary.op));
        show(out, e->unary.of);
        ps_buf_add_char(out, ')');
        break;
    case PQL_PAREN:
        show(out, e->paren);
        break;
    default:
        pql_print(out, e);
    }
}

static void
operators_nest_by_precedence(void **state)
{
    (void)state;
    static const struct {
        const char *text, *expected;
    } cases[] = {
        {"a + b + c", "((a+b)+c)"},
        {"a - b * c", "(a-(b*c))"},
        {"a * b - c", "((a*b)-c)"},
        {"a ^ b ^ c", "(a^(b^c))"},
        {"a * b ^ c * d", "((a*(b^c))*d)"},
        {"a % b atan2 c / d", "(((a%b)atan2c)/d)"},
        {"-a ^ b", "(-(a^b))"},
        {"-a * b", "((-a)*b)"},
        {"a ^ -b ^ c * d", "((a^(-(b^c)))*d)"},
        {"a ^ -b + c", "((a^(-b))+c)"},
        {"--a", "(-(-a))"},
        {"-1 ^ a", "(-(1^a))"},
        {"a - -1", "(a--1)"},
        {"a == b != c", "((a==b)!=c)"},
        {"a + b > c - d", "((a+b)>(c-d))"},
        {"a </ b >/ c", "((a</b)>/c)"},
        {"a > b and c < d", "((a>b)and(c<d))"},
        {"a or b and c or d", "((aor(bandc))ord)"},
        {"a and b unless c", "((aandb)unlessc)"},
        {"a OR b UNLESS c", "(aor(bunlessc))"},
        {"(a or b) and c", "((aorb)andc)"},
        {"a + b offset 5m * c", "(a+(b offset 5m*c))"},
        {"-a[5m:] offset 1m", NULL},
        {"-a @ 5 + b", "((-a @ 5.000)+b)"},
    };
    for (size_t i = 0; i < PS_ARRAY_LEN(cases); i++) {
        query q = query_parse(cases[i].text);
        assert_int_equal(q.expr != NULL, cases[i].expected != NULL);
        if (q.expr != NULL)
            assert_string_equal(query_text(&q, show), cases[i].expected);
        query_done(&q);
    }
}

/* Every pair of operators, against the table of precedences written down once more. */
static void
every_pair_of_operators(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int level;
    } ops[] = {{"or", 1}, {"and", 2}, {"unless", 2}, {"==", 3}, {"!=", 3}, {"<", 3},
               {">", 3},  {"<=", 3},  {">=", 3},     {"</", 3}, {">/", 3}, {"+", 4},
               {"-", 4},  {"*", 5},   {"/", 5},      {"%", 5},  {"^", 6},  {"atan2", 5}};
    char text[64], expected[64];
    for (size_t i = 0; i < PS_ARRAY_LEN(ops); i++) {
        for (size_t j = 0; j < PS_ARRAY_LEN(ops); j++) {
            bool left = ops[i].level > ops[j].level ||
                        (ops[i].level == ops[j].level && strcmp(ops[i].text, "^") != 0);
            snprintf(text, sizeof text, "a %s b %s c", ops[i].text, ops[j].text);
            snprintf(expected, sizeof expected, left ? "((a%sb)%sc)" : "(a%s(b%sc))", ops[i].text,
                     ops[j].text);
            query q = query_valid(text);
            assert_string_equal(query_text(&q, show), expected);
            query_done(&q);
        }
    }
}

static void
check_span(const pql_expr *e, const char *text, const char *expected)
{
    if (e->to - e->from != strlen(expected) ||
        memcmp(text + e->from, expected, e->to - e->from) != 0)
        fail_msg("%s: %.*s, expected %s", text, (int)(e->to - e->from), text + e->from, expected);
}

static void
nodes_know_their_places(void **state)
{
    (void)state;
    const char *text = " sum by (x) ( rate(m{a=\"b\"}[5m] offset 1h )) / (2 ) > bool -n @ 10";
    query q = query_valid(text);
    const pql_expr *compare = q.expr;
    check_span(compare, text, text + 1);
    check_span(compare->binary.rhs, text, "-n @ 10");
    check_span(compare->binary.rhs->unary.of, text, "n @ 10");
    const pql_expr *divide = compare->binary.lhs;
    check_span(divide->binary.rhs, text, "(2 )");
    const pql_expr *sum = divide->binary.lhs;
    check_span(sum, text, "sum by (x) ( rate(m{a=\"b\"}[5m] offset 1h ))");
    const pql_expr *rate = sum->aggregate.of;
    check_span(rate, text, "rate(m{a=\"b\"}[5m] offset 1h )");
    check_span(rate->call.args[0], text, "m{a=\"b\"}[5m] offset 1h");
    check_span(rate->call.args[0]->range.selector, text, "m{a=\"b\"}");
    query_done(&q);
    text = "m offset (5m) ";
    q = query_valid(text);
    check_span(q.expr, text, "m offset (5m)");
    query_done(&q);
    text = "max( sum(a) without (b) )";
    q = query_valid(text);
    check_span(q.expr->aggregate.of, text, "sum(a) without (b)");
    query_done(&q);
}

static void
selectors_hold_their_matchers(void **state)
{
    (void)state;
    query q = query_valid("m{a=\"1\",b!='2', \"c d\"=~`3`,e!~\"4\"}");
    const pql_selector *s = &q.expr->selector;
    static const struct {
        mdl_match type;
        const char *name, *value;
    } expected[] = {{MDL_MATCH_EQ, "a", "1"},
                    {MDL_MATCH_NE, "b", "2"},
                    {MDL_MATCH_RE, "c d", "3"},
                    {MDL_MATCH_NRE, "e", "4"},
                    {MDL_MATCH_EQ, "__name__", "m"}};
    assert_int_equal(s->n_matchers, PS_ARRAY_LEN(expected));
    for (size_t i = 0; i < s->n_matchers; i++) {
        assert_int_equal(s->matchers[i].type, expected[i].type);
        assert_str(s->matchers[i].name, expected[i].name);
        assert_str(s->matchers[i].value, expected[i].value);
    }
    assert_str(s->name, "m");
    query_done(&q);
    q = query_valid("{\"m\", a=\"\"}"); /* a name in braces is a matcher only */
    assert_str(q.expr->selector.name, "");
    assert_int_equal(q.expr->selector.n_matchers, 2);
    assert_str(q.expr->selector.matchers[0].value, "m");
    query_done(&q);
}

static void
modifiers_are_numbers(void **state)
{
    (void)state;
    query q = query_valid("m[1h30m] @ -1.5 offset -90");
    assert_int_equal(q.expr->type, PQL_MATRIX);
    assert_int_equal(q.expr->range.range_ms, 5400000);
    const pql_when *when = &q.expr->range.selector->selector.when;
    assert_int_equal(when->at, PQL_AT_TIME);
    assert_int_equal(when->at_ms, -1500);
    assert_true(when->has_offset);
    assert_int_equal(when->offset_ms, -90000);
    query_done(&q);
    q = query_valid("m[0.0019:0.0029] @ 1.0005 offset 0");
    assert_int_equal(q.expr->subquery.range_ms, 1); /* nanoseconds are cut */
    assert_int_equal(q.expr->subquery.step_ms, 2);
    assert_int_equal(q.expr->subquery.when.at_ms, 1001); /* times are rounded */
    assert_false(q.expr->subquery.when.has_offset);
    query_done(&q);
    q = query_valid("m @ 9.2e18 + n @ -9.2e18");
    assert_true(q.expr->binary.lhs->selector.when.at_ms == INT64_MAX);
    assert_true(q.expr->binary.rhs->selector.when.at_ms == INT64_MIN);
    query_done(&q);
    q = query_valid("m[step()] smoothed offset (1 + 2)");
    assert_int_equal(q.expr->range.range_expr->kind, PQL_DURATION);
    assert_int_equal(q.expr->range.selector->selector.edge, PQL_SMOOTHED);
    assert_non_null(q.expr->range.selector->selector.when.offset_expr);
    query_done(&q);
}

static void
matching_of_binary_operators(void **state)
{
    (void)state;
    query q = query_valid("a * on (b, \"c d\") group_left (e) fill_right (5m) f");
    const pql_matching *m = &q.expr->binary.matching;
    assert_true(q.expr->binary.has_matching && m->on && !m->has_fill_left && m->has_fill_right);
    assert_int_equal(m->card, PQL_MANY_TO_ONE);
    assert_int_equal(m->n_labels, 2);
    assert_str(m->labels[1], "c d");
    assert_int_equal(m->n_include, 1);
    assert_str(m->include[0], "e");
    assert_true(m->fill_right == 300);
    query_done(&q);
    q = query_valid("a or b");
    assert_int_equal(q.expr->binary.matching.card, PQL_MANY_TO_MANY);
    query_done(&q);
    q = query_valid("a > bool 1");
    assert_true(q.expr->binary.return_bool && !q.expr->binary.has_matching);
    assert_int_equal(q.expr->type, PQL_VECTOR);
    query_done(&q);
    q = query_valid("1 > bool 1");
    assert_int_equal(q.expr->type, PQL_SCALAR);
    query_done(&q);
}

static void
children_come_in_order(void **state)
{
    (void)state;
    pql_expr *children[3];
    query q = query_valid("((label_replace(topk(5, a), \"b\", \"c\", \"d\", \"e\")))");
    const pql_expr *call = pql_unwrap(q.expr);
    assert_int_equal(call->kind, PQL_CALL);
    assert_int_equal(pql_children(call, children, 3), 5);
    assert_ptr_equal(children[2], call->call.args[2]);
    assert_int_equal(pql_children(call->call.args[0], children, 3), 2);
    assert_int_equal(children[0]->kind, PQL_NUMBER);
    assert_int_equal(children[1]->kind, PQL_SELECTOR);
    assert_int_equal(pql_children(children[1], children, 3), 0);
    query_done(&q);
}

/* ---- depth ------------------------------------------------------------------------------------- */

typedef struct nesting {
    const char *before, *middle, *after;
} nesting;

static query
nested(const nesting *n, size_t times)
{
    static const pql_options all = {true, true, true};
    size_t before = strlen(n->before), middle = strlen(n->middle), after = strlen(n->after);
    size_t len = times * (before + after) + middle, at = 0;
    char *text = malloc(len + 1);
    assert_non_null(text);
    for (size_t i = 0; i < times; i++, at += before)
        memcpy(text + at, n->before, before);
    memcpy(text + at, n->middle, middle);
    at += middle;
    for (size_t i = 0; i < times; i++, at += after)
        memcpy(text + at, n->after, after);
    query q = query_parse_with(text, len, &all);
    free(text);
    return q;
}

static void
depth_is_bounded(void **state)
{
    (void)state;
    static const nesting shapes[] = {
        {"(", "a", ")"},    {"-", "a", ""},       {"sum(", "a", ")"},      {"abs(", "a", ")"},
        {"", "a", " + a"},  {"a ^ ", "a", ""},    {"", "a", " or a"},      {"1 - (", "1", ")"},
        {"m[(", "1", ")]"}, {"m[", "1", " + 1]"}, {"max(", "a", "[1m:])"},
    };
    for (size_t i = 0; i < PS_ARRAY_LEN(shapes); i++) {
        for (size_t times = 10; times <= 100000; times *= 100) {
            query q = nested(&shapes[i], times);
            assert_true(q.status == PS_OK || q.status == PS_EINVAL || q.status == PS_ELIMIT);
            if (q.status == PS_ELIMIT)
                assert_non_null(strstr(q.error.text, "nested deeper than 500 levels"));
            query_done(&q);
        }
    }
    static const nesting valid[] = {
        {"(", "a", ")"}, {"-", "a", ""}, {"", "a", " or a"}, {"a ^ ", "a", ""}, {"abs(", "a", ")"}};
    for (size_t i = 0; i < PS_ARRAY_LEN(valid); i++) {
        query q = nested(&valid[i], PQL_MAX_DEPTH - 1);
        assert_int_equal(q.status, PS_OK);
        assert_int_equal(q.expr->depth, PQL_MAX_DEPTH);
        query_text(&q, pql_print);
        query_done(&q);
        q = nested(&valid[i], PQL_MAX_DEPTH);
        assert_int_equal(q.status, PS_ELIMIT);
        query_done(&q);
    }
}

/* Long lists cost time in proportion: with a loop in a loop this would take minutes. */
static void
long_lists_are_no_trap(void **state)
{
    (void)state;
    enum { N = 100000, ROOM = 4 * 9 * N };
    static const pql_options all = {true, true, true};
    char *text = malloc(ROOM);
    assert_non_null(text);
    size_t len = (size_t)snprintf(text, ROOM, "a * on (");
    for (int i = 0; i < N; i++)
        len += (size_t)snprintf(text + len, ROOM - len, "l%06d,", i);
    len += (size_t)snprintf(text + len, ROOM - len, ") group_left (");
    for (int i = 0; i < N; i++)
        len += (size_t)snprintf(text + len, ROOM - len, "m%06d,", i);
    len += (size_t)snprintf(text + len, ROOM - len, ") b");
    query q = query_parse_with(text, len, &all);
    assert_int_equal(q.status, PS_OK);
    assert_int_equal(q.expr->binary.matching.n_include, N);
    query_done(&q);
    len -= 3;
    len += (size_t)snprintf(text + len, ROOM - len, "l%06d) b", N - 1);
    q = query_parse_with(text, len, &all);
    assert_int_equal(q.status, PS_EINVAL);
    assert_string_equal(q.error.text,
                        "1:3: parse error: label \"l099999\" must not occur in ON and GROUP clause "
                        "at once");
    query_done(&q);

    /* Matchers below many parentheses: split printing looks at them from each. */
    len = 0;
    for (int i = 0; i < 90; i++)
        text[len++] = '(';
    text[len++] = '{';
    for (int i = 0; i < N; i++)
        len += (size_t)snprintf(text + len, ROOM - len, "l%06d=\"x\",", N - i);
    text[len++] = '}';
    for (int i = 0; i < 90; i++)
        text[len++] = ')';
    q = query_parse_with(text, len, &all);
    assert_int_equal(q.status, PS_OK);
    ps_buf out;
    ps_buf_init(&out, &ps_malloc);
    pql_print_pretty(&out, q.expr);
    assert_false(out.failed);
    assert_true(out.len > (size_t)N * 12);
    ps_buf_done(&out);
    query_done(&q);
    free(text);
}

static void
selectors_alone(void **state)
{
    (void)state;
    ps_arena arena;
    pql_expr *expr;
    pql_error error;
    ps_arena_init(&arena, &ps_malloc, 0);
    assert_int_equal(pql_parse_selector(&arena, PS_STR(" m{a=\"b\"} "), &expr, &error), PS_OK);
    assert_int_equal(expr->selector.n_matchers, 2);
    assert_int_equal(pql_parse_selector(&arena, PS_STR("{a=~\".*\"}"), &expr, &error), PS_OK);
    assert_int_equal(pql_parse_selector(&arena, PS_STR("{}"), &expr, &error), PS_OK);
    assert_int_equal(expr->selector.n_matchers, 0);
    static const char *const wrong[][2] = {
        {"", "unknown position: parse error: unexpected end of input"},
        {"m[5m]", "1:2: parse error: unexpected \"[\""},
        {"m offset 5m", "1:3: parse error: unexpected <offset>"},
        {"1", "1:1: parse error: unexpected number \"1\""},
        {"sum(m)", "1:4: parse error: unexpected \"(\""},
        {"{a=\"b\"", "1:7: parse error: unexpected end of input inside braces"},
    };
    for (size_t i = 0; i < PS_ARRAY_LEN(wrong); i++) {
        assert_int_equal(pql_parse_selector(&arena, ps_str_c(wrong[i][0]), &expr, &error),
                         PS_EINVAL);
        assert_string_equal(error.text, wrong[i][1]);
    }
    ps_arena_done(&arena);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(operators_nest_by_precedence),
        cmocka_unit_test(every_pair_of_operators),
        cmocka_unit_test(nodes_know_their_places),
        cmocka_unit_test(selectors_hold_their_matchers),
        cmocka_unit_test(modifiers_are_numbers),
        cmocka_unit_test(matching_of_binary_operators),
        cmocka_unit_test(children_come_in_order),
        cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(long_lists_are_no_trap),
        cmocka_unit_test(selectors_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
