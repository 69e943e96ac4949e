/*
 * What is wrong with a query, and where: the messages of Prometheus 3.14 for the same texts, with
 * every option on and, at the end, with every option off. What is accepted stands in test_print.c.
 */
#include "tests/unit/promql/query.h"

typedef struct wrong {
    const char *text, *message;
} wrong;

static void
check(const wrong *cases, size_t n, const pql_options *options)
{
    for (size_t i = 0; i < n; i++) {
        const wrong *c = &cases[i];
        query q = query_parse_with(c->text, strlen(c->text), options);
        if (q.status != PS_EINVAL || strcmp(q.error.text, c->message) != 0)
            fail_msg("%s\n  says     %s\n  expected %s", c->text, q.error.text, c->message);
        query_done(&q);
    }
}

static const pql_options all_on = {true, true, true};
static const pql_options all_off = {false, false, false};

static const wrong tokens_cases[] = {
    {"", "unknown position: parse error: no expression found in input"},
    {"   ", "1:1: parse error: no expression found in input"},
    {"# only a comment", "1:1: parse error: no expression found in input"},
    {"up;", "1:3: parse error: unexpected character: ';'"},
    {"up & down", "1:4: parse error: unexpected character: '&'"},
    {"a =~ \"b\"", "1:3: parse error: unexpected character after '=': '~'"},
    {"a ! b", "1:3: parse error: unexpected character after '!': ' '"},
    {"!", "1:1: parse error: unexpected character after '!': '�'"},
    {"\"open", "1:1: parse error: unterminated quoted string"},
    {"'open", "1:1: parse error: unterminated quoted string"},
    {"`open", "1:1: parse error: unterminated raw string"},
    {"\"line\nbreak\"", "1:1: parse error: unterminated quoted string"},
    {"\"\\q\"", "1:1: parse error: unknown escape sequence U+0071 'q'"},
    {"\"\\x4g\"", "1:1: parse error: illegal character U+0067 'g' in escape sequence"},
    {"\"\\777\"", "1:1: parse error: escape sequence is an invalid Unicode code point"},
    {"\"\\u12\"", "1:1: parse error: illegal character U+0022 '\"' in escape sequence"},
    {"\"\\ud800\"", "1:1: parse error: escape sequence is an invalid Unicode code point"},
    {"\"\\", "1:1: parse error: escape sequence not terminated"},
    {"\"\\x\"", "1:1: parse error: illegal character U+0022 '\"' in escape sequence"},
    {"up{", "1:4: parse error: unexpected end of input inside braces"},
    {"up{a=\"b\"", "1:9: parse error: unexpected end of input inside braces"},
    {"up{a=\"b\"}}", "1:10: parse error: unexpected character: '}'"},
    {"up{{a=\"b\"}}", "1:4: parse error: unexpected left brace '{'"},
    {"up{a!b}", "1:5: parse error: unexpected character after '!' inside braces: 'b'"},
    {"up{a%\"b\"}", "1:5: parse error: unexpected character inside braces: '%'"},
    {"(up", "1:4: parse error: unclosed left parenthesis"},
    {"up)", "1:4: parse error: unexpected right parenthesis ')'"},
    {"((up)", "1:6: parse error: unclosed left parenthesis"},
    {"up]", "1:3: parse error: unexpected right bracket ']'"},
    {"[5m]", "1:1: parse error: unexpected \"[\""},
    {"up[5m", "1:6: parse error: unclosed left bracket"},
    {"up[5m:", "1:7: parse error: unclosed left bracket"},
    {"up[", "1:4: parse error: unexpected end of input in duration expression"},
    {"up[5m][5m", "1:10: parse error: unclosed left bracket"},
    {"up[[5m]]", "1:4: parse error: unexpected character in duration expression: '['"},
    {"up[:5m]", "1:5: parse error: unexpected colon before duration in duration expression"},
    {"up[5m:1m:1m]", "1:9: parse error: unexpected colon ':'"},
    {"up[step():5m]", "1:11: parse error: unexpected colon before duration in duration expression"},
    {"up[5m::]", "1:7: parse error: unexpected colon ':'"},
    {"up[5x]", "1:4: parse error: bad number or duration syntax: \"5\""},
    {"up[5m x]", "1:7: parse error: unexpected character: 'x', expected ':'"},
    {"up[abc]", "1:4: parse error: unexpected character in duration expression: 'a'"},
    {"up[5m,]", "1:6: parse error: unexpected \",\" in subquery or range, expected \":\" or \"]\""},
    {"up[#c\n5m]", "1:4: parse error: unexpected character in duration expression: '#'"},
    {"up[5m+up]", "1:7: parse error: unexpected character: 'u', expected ':'"},
    {"\"\\U00110000\"", "1:1: parse error: escape sequence is an invalid Unicode code point"},
    {"é", "1:1: parse error: unexpected character: 'é'"},
    {"up{é=\"x\"}", "1:4: parse error: unexpected character inside braces: 'é'"},
    {"a\n+\n$", "3:1: parse error: unexpected character: '$'"},
    {"\t\tup ?", "1:6: parse error: unexpected character: '?'"},
    {"up[5m }", "1:7: parse error: unexpected character: '}'"},
};

static void
text_that_has_no_tokens(void **state)
{
    (void)state;
    check(tokens_cases, PS_ARRAY_LEN(tokens_cases), &all_on);
}

static const wrong numbers_cases[] = {
    {"1.5h", "1:1: parse error: unknown unit \".\" in duration \"1.5h\""},
    {"0x",
     "1:1: parse error: error parsing number: strconv.ParseFloat: parsing \"0x\": invalid syntax"},
    {"0x1.8", "1:1: parse error: bad number or duration syntax: \"0x1.\""},
    {"0x5m", "1:1: parse error: unknown unit \"x\" in duration \"0x5m\""},
    {"1..2", "1:1: parse error: bad number or duration syntax: \"1..\""},
    {"1e", "1:1: parse error: bad number or duration syntax: \"1e\""},
    {"1e+", "1:1: parse error: bad number or duration syntax: \"1e+\""},
    {"1_", "1:1: parse error: bad number or duration syntax: \"1_\""},
    {"1__0", "1:1: parse error: bad number or duration syntax: \"1__\""},
    {"1_.5", "1:1: parse error: bad number or duration syntax: \"1_.\""},
    {"1._5", "1:1: parse error: bad number or duration syntax: \"1._\""},
    {"1ee5", "1:1: parse error: bad number or duration syntax: \"1ee\""},
    {"1e5e", "1:1: parse error: bad number or duration syntax: \"1e5e\""},
    {"5mm", "1:1: parse error: bad number or duration syntax: \"5mm\""},
    {"1d1d", "1:1: parse error: not a valid duration string: \"1d1d\""},
    {"1m1h", "1:1: parse error: not a valid duration string: \"1m1h\""},
    {"5ys", "1:1: parse error: unknown unit \"ys\" in duration \"5ys\""},
    {"5ms1", "1:1: parse error: bad number or duration syntax: \"5ms1\""},
    {"3hm", "1:1: parse error: bad number or duration syntax: \"3hm\""},
    {"1e400",
     "1:1: parse error: error parsing number: strconv.ParseFloat: parsing \"1e400\": value out of range"},
    {"0xfffffffffffffffff",
     "1:1: parse error: error parsing number: strconv.ParseFloat: parsing \"0xfffffffffffffffff\": invalid syntax"},
    {"293y", "1:1: parse error: duration out of range"},
    {"up[293y]", "1:4: parse error: duration out of range"},
    {"5m3", "1:1: parse error: bad number or duration syntax: \"5m3\""},
    {"12ab", "1:1: parse error: bad number or duration syntax: \"12\""},
    {".e", "1:1: parse error: unexpected character: '.'"},
    {"99999999999999999999s",
     "1:1: parse error: not a valid duration string: \"99999999999999999999s\""},
    {"1.2.3", "1:1: parse error: bad number or duration syntax: \"1.2.\""},
    {"07_", "1:1: parse error: bad number or duration syntax: \"07_\""},
    {"11362394455y", "1:1: parse error: duration out of range"},
    {"292y300d", "1:1: parse error: duration out of range"},
    {"99999999999999999999h",
     "1:1: parse error: not a valid duration string: \"99999999999999999999h\""},
    {"1h99999999999999999999m",
     "1:1: parse error: not a valid duration string: \"1h99999999999999999999m\""},
    {"1h1d", "1:1: parse error: not a valid duration string: \"1h1d\""},
    {"5m5x", "1:1: parse error: bad number or duration syntax: \"5m5\""},
    {".5m", "1:1: parse error: not a valid duration string: \".5m\""},
    {"a offset .5m", "1:10: parse error: not a valid duration string: \".5m\""},
    {".51h30m", "1:1: parse error: not a valid duration string: \".51h30m\""},
};

static void
numbers_and_durations(void **state)
{
    (void)state;
    check(numbers_cases, PS_ARRAY_LEN(numbers_cases), &all_on);
}

static const wrong grammar_cases[] = {
    {"+", "1:2: parse error: unexpected end of input"},
    {"1 +", "1:4: parse error: unexpected end of input"},
    {"1 + * 2", "1:5: parse error: unexpected <op:*>"},
    {"a b", "1:3: parse error: unexpected identifier \"b\""},
    {"a \"b\"", "1:3: parse error: unexpected string \"\\\"b\\\"\""},
    {"sum(", "1:5: parse error: unclosed left parenthesis"},
    {"sum()", "1:1: parse error: no arguments for aggregate expression provided"},
    {"sum(a", "1:6: parse error: unclosed left parenthesis"},
    {"sum(a b)", "1:7: parse error: unexpected identifier \"b\" in aggregation"},
    {"sum a", "1:5: parse error: unexpected identifier \"a\""},
    {"sum(a,b)",
     "1:1: parse error: wrong number of arguments for aggregate expression provided, expected 1, got 2"},
    {"topk(a)",
     "1:1: parse error: wrong number of arguments for aggregate expression provided, expected 2, got 1"},
    {"topk(1, a, b)",
     "1:1: parse error: wrong number of arguments for aggregate expression provided, expected 2, got 3"},
    {"sum by", "1:7: parse error: unexpected end of input in grouping opts, expected \"(\""},
    {"sum by a (b)",
     "1:8: parse error: unexpected identifier \"a\" in grouping opts, expected \"(\""},
    {"sum by (a b) (c)",
     "1:11: parse error: unexpected identifier \"b\" in grouping opts, expected \",\" or \")\""},
    {"sum by (a,,b) (c)", "1:11: parse error: unexpected \",\" in grouping opts, expected label"},
    {"sum by (\"\") (a)", "1:9: parse error: invalid label name for grouping: \"\""},
    {"sum by (1) (a)",
     "1:9: parse error: unexpected number \"1\" in grouping opts, expected label"},
    {"sum by (a) b", "1:12: parse error: unexpected identifier \"b\" in aggregation"},
    {"sum(a) by", "1:10: parse error: unexpected end of input in grouping opts, expected \"(\""},
    {"sum(a) by (b) by (c)", "1:15: parse error: unexpected <by>"},
    {"sum(rate(a[5m]) b)", "1:17: parse error: unexpected identifier \"b\" in aggregation"},
    {"count_values(\"x\")",
     "1:1: parse error: wrong number of arguments for aggregate expression provided, expected 2, got 1"},
    {"rate(a[5m],)", "1:11: parse error: trailing commas not allowed in function call args"},
    {"rate(,)", "1:6: parse error: unexpected \",\""},
    {"rate(a[5m] b)", "1:12: parse error: unexpected identifier \"b\""},
    {"nothing(a)", "1:1: parse error: unknown function with name \"nothing\""},
    {"SUM_OVER_TIME(a[5m])", "1:1: parse error: unknown function with name \"SUM_OVER_TIME\""},
    {"foo:bar(a)", "1:8: parse error: unexpected \"(\""},
    {"START()", "1:1: parse error: unknown function with name \"START\""},
    {"a on (b) c", "1:3: parse error: unexpected <on>"},
    {"a + on b c",
     "1:8: parse error: unexpected identifier \"b\" in grouping opts, expected \"(\""},
    {"a + on (b c",
     "1:11: parse error: unexpected identifier \"c\" in grouping opts, expected \",\" or \")\""},
    {"a + ignoring ) b", "1:15: parse error: unexpected right parenthesis ')'"},
    {"a + on (b) group_left ] c", "1:23: parse error: unexpected right bracket ']'"},
    {"a + group_left (b) c", "1:5: parse error: unexpected <group_left>"},
    {"a + bool", "1:9: parse error: unexpected end of input"},
    {"a == bool bool b", "1:11: parse error: unexpected <bool>"},
    {"a and", "1:6: parse error: unexpected end of input"},
    {"a or or b", "1:9: parse error: unexpected identifier \"b\""},
    {"()", "1:2: parse error: unexpected \")\""},
    {"(a", "1:3: parse error: unclosed left parenthesis"},
    {"a)(", "1:3: parse error: unexpected right parenthesis ')'"},
    {"{", "1:2: parse error: unexpected end of input inside braces"},
    {"{}", "1:1: parse error: vector selector must contain at least one non-empty matcher"},
    {"{a}",
     "1:3: parse error: unexpected \"}\" in label matching, expected label matching operator"},
    {"{\"a\" \"b\"}",
     "1:6: parse error: unexpected string \"\\\"b\\\"\" in label matching, expected \",\" or \"}\""},
    {"{a=}", "1:4: parse error: unexpected \"}\" in label matching, expected string"},
    {"{a=b}", "1:4: parse error: unexpected identifier \"b\" in label matching, expected string"},
    {"{a==\"b\"}", "1:4: parse error: unexpected \"=\" in label matching, expected string"},
    {"{a=\"b\",,}",
     "1:8: parse error: unexpected \",\" in label matching, expected identifier or \"}\""},
    {"{,}", "1:2: parse error: unexpected \",\" in label matching, expected identifier or \"}\""},
    {"{a=\"b\" c=\"d\"}",
     "1:8: parse error: unexpected identifier \"c\" in label matching, expected \",\" or \"}\""},
    {"{a=~\"[\"}", "1:2: parse error: error parsing regexp: missing closing ]: `[`"},
    {"{a!~\"a{2,1}\"}", "1:2: parse error: error parsing regexp: invalid repeat count: `{2,1}`"},
    {"{=~\"a\"}",
     "1:2: parse error: unexpected <op:=~> in label matching, expected identifier or \"}\""},
    {"a{b=\"c\",}d", "1:10: parse error: unexpected identifier \"d\""},
    {"a offset",
     "1:9: parse error: unexpected end of input in offset, expected number, duration, step(), or range()"},
    {"a offset b",
     "1:10: parse error: unexpected identifier \"b\" in offset, expected number, duration, step(), or range()"},
    {"a offset (", "1:11: parse error: unclosed left parenthesis"},
    {"a offset -",
     "1:11: parse error: unexpected end of input in offset, expected number, duration, step(), or range()"},
    {"a offset (5m", "1:13: parse error: unclosed left parenthesis"},
    {"a offset (5m) + b",
     "1:17: parse error: unexpected identifier \"b\" in offset, expected number, duration, step(), or range()"},
    {"a offset 5m offset 5m", "1:1: parse error: offset may not be set multiple times"},
    {"5 offset 5m",
     "1:1: parse error: offset modifier must be preceded by an instant vector selector or range vector selector or a subquery"},
    {"(a) offset 5m",
     "1:1: parse error: offset modifier must be preceded by an instant vector selector or range vector selector or a subquery"},
    {"sum(a) offset 5m",
     "1:1: parse error: offset modifier must be preceded by an instant vector selector or range vector selector or a subquery"},
    {"a @", "1:4: parse error: unexpected end of input in @, expected timestamp"},
    {"a @ b", "1:5: parse error: unexpected identifier \"b\" in @, expected timestamp"},
    {"a @ start", "1:10: parse error: unexpected end of input in @, expected timestamp"},
    {"a @ start(5)", "1:11: parse error: unexpected number \"5\" in @, expected timestamp"},
    {"a @ -start()", "1:6: parse error: unexpected \"start\" in @, expected timestamp"},
    {"a @ 1 @ 2", "1:1: parse error: @ <timestamp> may not be set multiple times"},
    {"a @ end() @ start()", "1:1: parse error: @ <timestamp> may not be set multiple times"},
    {"1 @ 2",
     "1:1: parse error: @ modifier must be preceded by an instant vector selector or range vector selector or a subquery"},
    {"a @ NaN", "1:1: parse error: timestamp out of bounds for @ modifier: NaN"},
    {"a @ -Inf", "1:1: parse error: timestamp out of bounds for @ modifier: -Inf"},
    {"a @ 9.3e18",
     "1:1: parse error: timestamp out of bounds for @ modifier: 9300000000000000000.000000"},
    {"a[5m] @", "1:8: parse error: unexpected end of input in @, expected timestamp"},
    {"a[]",
     "1:3: parse error: unexpected \"]\" in subquery or range selector, expected number, duration, step(), or range()"},
    {"a[5m", "1:5: parse error: unclosed left bracket"},
    {"a[0]", "1:3: parse error: duration must be greater than 0"},
    {"a[-5m]", "1:3: parse error: duration must be greater than 0"},
    {"a[0s]", "1:3: parse error: duration must be greater than 0"},
    {"a[5m:0]", "1:6: parse error: duration must be greater than 0"},
    {"a[5m:5m", "1:8: parse error: unclosed left bracket"},
    {"a[5m:b]", "1:6: parse error: unexpected character: 'b', expected ':'"},
    {"a[5m 5m]",
     "1:6: parse error: unexpected duration \"5m\" in subquery or range, expected \":\" or \"]\""},
    {"a[5m:5m 5m]",
     "1:9: parse error: unexpected duration \"5m\" in subquery selector, expected \"]\""},
    {"a[(5m]",
     "1:6: parse error: unexpected \"]\" in subquery or range selector, expected number, duration, step(), or range()"},
    {"a[5m / 0]", "1:6: parse error: division by zero"},
    {"a[5m % 0]", "1:6: parse error: modulo by zero"},
    {"a[5m*]",
     "1:6: parse error: unexpected \"]\" in subquery or range selector, expected number, duration, step(), or range()"},
    {"a[step]",
     "1:7: parse error: unexpected \"]\" in subquery or range selector, expected number, duration, step(), or range()"},
    {"a[step(]",
     "1:8: parse error: unexpected \"]\" in subquery or range selector, expected number, duration, step(), or range()"},
    {"a[min_of(5m)]",
     "1:12: parse error: unexpected \")\" in subquery or range selector, expected number, duration, step(), or range()"},
    {"a[min_of(5m,)]",
     "1:13: parse error: unexpected \")\" in subquery or range selector, expected number, duration, step(), or range()"},
    {"a[1e11]", "1:3: parse error: duration out of range"},
    {"a offset 1e11", "1:10: parse error: duration out of range"},
    {"a offset -1e11", "1:10: parse error: duration out of range"},
    {"1[5m]", "1:2: parse error: ranges only allowed for vector selectors"},
    {"(a)[5m]", "1:4: parse error: ranges only allowed for vector selectors"},
    {"sum(a)[5m]", "1:7: parse error: ranges only allowed for vector selectors"},
    {"a[5m][5m]", "1:6: parse error: ranges only allowed for vector selectors"},
    {"a offset 5m[5m]", "1:12: parse error: no offset modifiers allowed before range"},
    {"a @ 5[5m]", "1:6: parse error: no @ modifiers allowed before range"},
    {"\"a\"[5m]", "1:4: parse error: ranges only allowed for vector selectors"},
    {"a + b[5m:] offset",
     "1:18: parse error: unexpected end of input in offset, expected number, duration, step(), or range()"},
    {"fill(", "1:5: parse error: unexpected \"(\""},
    {"a + fill(b) c", "1:10: parse error: unexpected identifier \"b\""},
    {"a + fill() c", "1:10: parse error: unexpected \")\""},
    {"a + fill(1 c", "1:12: parse error: unexpected identifier \"c\""},
    {"a + fill_left(1) fill_left(2) c", "1:27: parse error: unexpected \"(\""},
    {"a + on(b) fill(1) group_left c", "1:19: parse error: unexpected <group_left>"},
    {"a anchored smoothed",
     "1:1: parse error: anchored and smoothed modifiers cannot be used together"},
    {"a[5m:] anchored", "1:1: parse error: anchored modifier is not supported for subqueries"},
    {"sum(a) smoothed", "1:1: parse error: smoothed modifier not implemented"},
    {"a[5m] anchored smoothed",
     "1:1: parse error: anchored and smoothed modifiers cannot be used together"},
    {"1 anchored", "1:1: parse error: anchored modifier not implemented"},
    {"a[5m]smoothed anchored",
     "1:1: parse error: anchored and smoothed modifiers cannot be used together"},
    {"a by (b)", "1:3: parse error: unexpected <by>"},
    {"a bool b", "1:3: parse error: unexpected <bool>"},
    {"5m m", "1:4: parse error: unexpected identifier \"m\""},
    {"on", "1:1: parse error: unexpected <on>"},
    {"bool", "1:1: parse error: unexpected <bool>"},
    {"ignoring(a)", "1:1: parse error: unexpected <ignoring>"},
    {"atan2", "1:1: parse error: unexpected <op:atan2>"},
    {"group_left", "1:1: parse error: unexpected <group_left>"},
    {"a + inf{}", "1:8: parse error: unexpected \"{\""},
    {"nan{}", "1:4: parse error: unexpected \"{\""},
    {"by(a)", "1:3: parse error: unexpected \"(\""},
    {"a\n\n  b c", "3:3: parse error: unexpected identifier \"b\""},
    {"sum(\n a,\n b\n)",
     "1:1: parse error: wrong number of arguments for aggregate expression provided, expected 1, got 2"},
    {"a # b\n c d", "2:2: parse error: unexpected identifier \"c\""},
    {"\"string one that is long\" \"x\"", "1:27: parse error: unexpected string \"\\\"x\\\"\""},
    {"a \"0123456789abcdef\"", "1:3: parse error: unexpected string \"\\\"012345678\"..."},
    {"a 123456789012", "1:3: parse error: unexpected number \"1234567890\"..."},
};

static void
the_grammar(void **state)
{
    (void)state;
    check(grammar_cases, PS_ARRAY_LEN(grammar_cases), &all_on);
}

static const wrong types_cases[] = {
    {"1 == 1", "1:3: parse error: comparisons between scalars must use BOOL modifier"},
    {"1 and 1", "1:1: parse error: set operator \"and\" not allowed in binary scalar expression"},
    {"a and 1", "1:1: parse error: set operator \"and\" not allowed in binary scalar expression"},
    {"1 or a", "1:1: parse error: set operator \"or\" not allowed in binary scalar expression"},
    {"a or \"b\"",
     "1:6: parse error: binary expression must contain only scalar and instant vector types"},
    {"\"a\" + 1",
     "1:1: parse error: binary expression must contain only scalar and instant vector types"},
    {"1 + a[5m]",
     "1:5: parse error: binary expression must contain only scalar and instant vector types"},
    {"a[5m] + 1",
     "1:1: parse error: binary expression must contain only scalar and instant vector types"},
    {"a + bool b", "1:3: parse error: bool modifier can only be used on comparison operators"},
    {"1 + on (a) 2", "1:1: parse error: vector matching only allowed between instant vectors"},
    {"a + on (b) 1", "1:1: parse error: vector matching only allowed between instant vectors"},
    {"a and on (b) group_left c", "1:1: parse error: no grouping allowed for \"and\" operation"},
    {"a unless ignoring () group_right (x) c",
     "1:1: parse error: no grouping allowed for \"unless\" operation"},
    {"a or fill (1) b",
     "1:1: parse error: filling in missing series not allowed for set operators"},
    {"1 + fill (1) a",
     "1:1: parse error: filling in missing series only allowed between instant vectors"},
    {"a + on (b) group_left (b) c",
     "1:3: parse error: label \"b\" must not occur in ON and GROUP clause at once"},
    {"a + on (b, c) group_right (x, c) d",
     "1:3: parse error: label \"c\" must not occur in ON and GROUP clause at once"},
    {"a + ignoring (b) group_left (b) c == on (d) group_left (d) e",
     "1:35: parse error: label \"d\" must not occur in ON and GROUP clause at once"},
    {"-\"a\"",
     "1:1: parse error: unary expression only allowed on expressions of type scalar or instant vector, got \"string\""},
    {"-a[5m]",
     "1:1: parse error: unary expression only allowed on expressions of type scalar or instant vector, got \"range vector\""},
    {"+\"a\"",
     "1:1: parse error: unary expression only allowed on expressions of type scalar or instant vector, got \"string\""},
    {"sum(1)",
     "1:5: parse error: expected type instant vector in aggregation expression, got scalar"},
    {"sum(\"a\")",
     "1:5: parse error: expected type instant vector in aggregation expression, got string"},
    {"sum(a[5m])",
     "1:5: parse error: expected type instant vector in aggregation expression, got range vector"},
    {"topk(a, b)",
     "1:6: parse error: expected type scalar in aggregation parameter, got instant vector"},
    {"topk(\"1\", b)",
     "1:6: parse error: expected type scalar in aggregation parameter, got string"},
    {"count_values(1, a)",
     "1:14: parse error: expected type string in aggregation parameter, got scalar"},
    {"quantile(b, a)",
     "1:10: parse error: expected type scalar in aggregation parameter, got instant vector"},
    {"rate(a)",
     "1:6: parse error: expected type range vector in call to function \"rate\", got instant vector"},
    {"rate(1)",
     "1:6: parse error: expected type range vector in call to function \"rate\", got scalar"},
    {"rate(a[5m:1m], 1)", "1:1: parse error: expected 1 argument(s) in call to \"rate\", got 2"},
    {"abs()", "1:1: parse error: expected 1 argument(s) in call to \"abs\", got 0"},
    {"abs(a, b)", "1:1: parse error: expected 1 argument(s) in call to \"abs\", got 2"},
    {"abs(a[5m])",
     "1:5: parse error: expected type instant vector in call to function \"abs\", got range vector"},
    {"abs(1)",
     "1:5: parse error: expected type instant vector in call to function \"abs\", got scalar"},
    {"round(a, \"b\")",
     "1:10: parse error: expected type scalar in call to function \"round\", got string"},
    {"round()", "1:1: parse error: expected at least 1 argument(s) in call to \"round\", got 0"},
    {"round(a, 1, 2)",
     "1:1: parse error: expected at most 2 argument(s) in call to \"round\", got 3"},
    {"label_replace(a, \"b\", \"c\", \"d\")",
     "1:1: parse error: expected 5 argument(s) in call to \"label_replace\", got 4"},
    {"label_replace(a, 1, \"c\", \"d\", \"e\")",
     "1:18: parse error: expected type string in call to function \"label_replace\", got scalar"},
    {"label_join(a)",
     "1:1: parse error: expected at least 3 argument(s) in call to \"label_join\", got 1"},
    {"label_join(a, \"b\", \"c\", 1)",
     "1:25: parse error: expected type string in call to function \"label_join\", got scalar"},
    {"time(1)", "1:1: parse error: expected 0 argument(s) in call to \"time\", got 1"},
    {"hour(1)",
     "1:6: parse error: expected type instant vector in call to function \"hour\", got scalar"},
    {"hour(a, b)", "1:1: parse error: expected at most 1 argument(s) in call to \"hour\", got 2"},
    {"vector(a)",
     "1:8: parse error: expected type scalar in call to function \"vector\", got instant vector"},
    {"scalar(1)",
     "1:8: parse error: expected type instant vector in call to function \"scalar\", got scalar"},
    {"clamp(a, 1)", "1:1: parse error: expected 3 argument(s) in call to \"clamp\", got 2"},
    {"histogram_quantile(a, 0.5)",
     "1:20: parse error: expected type scalar in call to function \"histogram_quantile\", got instant vector"},
    {"sort_by_label(a, b)",
     "1:18: parse error: expected type string in call to function \"sort_by_label\", got instant vector"},
    {"histogram_quantiles(a, \"q\")",
     "1:1: parse error: expected at least 3 argument(s) in call to \"histogram_quantiles\", got 2"},
    {"histogram_quantiles(a, 1, 2)",
     "1:24: parse error: expected type string in call to function \"histogram_quantiles\", got scalar"},
    {"info()", "1:1: parse error: expected at least 1 argument(s) in call to \"info\", got 0"},
    {"info(a, b)", "1:9: parse error: expected label selectors only, got vector selector instead"},
    {"info(a, 1)",
     "1:1: parse error: expected type instant vector in call to function \"info\", got scalar"},
    {"info(a, \"x\")",
     "1:1: parse error: expected type instant vector in call to function \"info\", got string"},
    {"info(a, (b))", "1:9: parse error: expected label selectors only"},
    {"info(a, sum(b))", "1:9: parse error: expected label selectors only"},
    {"info(1)",
     "1:6: parse error: expected type instant vector in call to function \"info\", got scalar"},
    {"info(a, {b=\"c\"}, d)",
     "1:1: parse error: expected at most 2 argument(s) in call to \"info\", got 3"},
    {"min_of(1)", "1:1: parse error: expected 2 argument(s) in call to \"min_of\", got 1"},
    {"max_of(a, 1)",
     "1:8: parse error: expected type scalar in call to function \"max_of\", got instant vector"},
    {"(1 + 2)[5m:]",
     "1:1: parse error: subquery is only allowed on instant vector, got scalar instead"},
    {"1[5m:]", "1:1: parse error: subquery is only allowed on instant vector, got scalar instead"},
    {"\"a\"[5m:]",
     "1:1: parse error: subquery is only allowed on instant vector, got string instead"},
    {"a[5m][5m:]",
     "1:1: parse error: subquery is only allowed on instant vector, got matrix instead"},
    {"{a=\"\"}", "1:1: parse error: vector selector must contain at least one non-empty matcher"},
    {"{a=~\".*\"}",
     "1:1: parse error: vector selector must contain at least one non-empty matcher"},
    {"{a=~\"x*\"}",
     "1:1: parse error: vector selector must contain at least one non-empty matcher"},
    {"{a!~\".+\"}",
     "1:1: parse error: vector selector must contain at least one non-empty matcher"},
    {"{a!=\"b\"}", "1:1: parse error: vector selector must contain at least one non-empty matcher"},
    {"{\"\"}", "1:1: parse error: vector selector must contain at least one non-empty matcher"},
    {"a{__name__=\"b\"}", "1:1: parse error: metric name must not be set twice: \"a\" or \"b\""},
    {"a{\"b\"}", "1:1: parse error: metric name must not be set twice: \"a\" or \"b\""},
    {"a{__name__=~\"b\"}", "1:1: parse error: metric name must not be set twice: \"a\" or \"b\""},
    {"sum({a=\"\"})",
     "1:5: parse error: vector selector must contain at least one non-empty matcher"},
    {"a[5m] and a[5m]",
     "1:1: parse error: binary expression must contain only scalar and instant vector types"},
    {"(((1 == 2)))", "1:6: parse error: comparisons between scalars must use BOOL modifier"},
    {"  1   ==   2", "1:7: parse error: comparisons between scalars must use BOOL modifier"},
    {"\"x\" == bool \"y\"",
     "1:1: parse error: binary expression must contain only scalar and instant vector types"},
    {"a == \"x\"",
     "1:6: parse error: binary expression must contain only scalar and instant vector types"},
    {"abs(-a[5m])",
     "1:5: parse error: unary expression only allowed on expressions of type scalar or instant vector, got \"range vector\""},
};

static void
types_and_arguments(void **state)
{
    (void)state;
    check(types_cases, PS_ARRAY_LEN(types_cases), &all_on);
}

static const wrong options_cases[] = {
    {"limitk(1, a)",
     "1:1: parse error: limitk() is experimental and must be enabled with --enable-feature=promql-experimental-functions"},
    {"limit_ratio(0.5, a)",
     "1:1: parse error: limit_ratio() is experimental and must be enabled with --enable-feature=promql-experimental-functions"},
    {"mad_over_time(a[5m])", "1:1: parse error: function \"mad_over_time\" is not enabled"},
    {"sort_by_label(a)", "1:1: parse error: function \"sort_by_label\" is not enabled"},
    {"info(a)", "1:1: parse error: function \"info\" is not enabled"},
    {"start()", "1:1: parse error: function \"start\" is not enabled"},
    {"end()", "1:1: parse error: function \"end\" is not enabled"},
    {"step()", "1:1: parse error: function \"step\" is not enabled"},
    {"range()", "1:1: parse error: function \"range\" is not enabled"},
    {"max_of(1, 2)", "1:1: parse error: function \"max_of\" is not enabled"},
    {"a anchored", "1:1: parse error: anchored modifier is experimental and not enabled"},
    {"a[5m] smoothed", "1:1: parse error: smoothed modifier is experimental and not enabled"},
    {"a + fill (1) b", "1:1: parse error: binop fill modifiers are experimental and not enabled"},
    {"a + on (c) fill_left (1) b",
     "1:1: parse error: binop fill modifiers are experimental and not enabled"},
    {"limitk()", "1:1: parse error: no arguments for aggregate expression provided"},
    {"limitk(1)",
     "1:1: parse error: limitk() is experimental and must be enabled with --enable-feature=promql-experimental-functions"},
    {"a anchored offset b", "1:1: parse error: anchored modifier is experimental and not enabled"},
    {"a[5m] smoothed[5m]", "1:1: parse error: smoothed modifier is experimental and not enabled"},
    {"sum(a) anchored", "1:1: parse error: anchored modifier is experimental and not enabled"},
    {"1 + fill (1) a", "1:1: parse error: binop fill modifiers are experimental and not enabled"},
    {"a + fill (1) b + c d",
     "1:1: parse error: binop fill modifiers are experimental and not enabled"},
};

static void
what_is_switched_off(void **state)
{
    (void)state;
    check(options_cases, PS_ARRAY_LEN(options_cases), &all_off);
}

/* A message holds whatever the query holds: it stays short, and valid UTF-8. */
static void
messages_are_short_and_readable(void **state)
{
    (void)state;
    static const char *const odd[] = {"\xff",       "a \xc3", "\"\xe2\x82\"",
                                      "{\xf0\x9f}", "a\x01",  "`\xff`"};
    for (size_t i = 0; i < PS_ARRAY_LEN(odd); i++) {
        query q = query_parse(odd[i]);
        assert_int_equal(q.status, PS_EINVAL);
        assert_true(ps_utf8_valid(ps_str_c(q.error.text)));
        query_done(&q);
    }
    enum { LONG = 5000 };
    char text[2 * LONG + 8];
    for (int shape = 0; shape < 3; shape++) {
        size_t n = 0;
        memcpy(text, shape == 0 ? "a " : shape == 1 ? "nofn" : "5m\"", n = shape == 0 ? 2 : 4);
        for (size_t i = 0; i < LONG; i++, n += 2)
            memcpy(text + n, shape == 2 ? "\xc3\xa9" : "ab", 2);
        memcpy(text + n, shape == 1 ? "()" : shape == 2 ? "\" " : "  ", 2);
        query q = query_parse_with(text, n + 2, &all_on);
        assert_int_equal(q.status, PS_EINVAL);
        assert_true(strlen(q.error.text) < sizeof q.error.text);
        assert_true(ps_utf8_valid(ps_str_c(q.error.text)));
        query_done(&q);
    }
}

static void
positions_are_lines_and_bytes(void **state)
{
    (void)state;
    uint32_t line, column;
    ps_str text = PS_STR("ab\n\xc3\xa9 c\n");
    static const uint32_t expected[][3] = {{0, 1, 1}, {2, 1, 3}, {3, 2, 1}, {5, 2, 3}, {8, 3, 1}};
    for (size_t i = 0; i < PS_ARRAY_LEN(expected); i++) {
        pql_line_column(text, expected[i][0], &line, &column);
        assert_int_equal(line, expected[i][1]);
        assert_int_equal(column, expected[i][2]);
    }
    query q = query_parse("sum(\n  \"\xc3\xa9\" b)");
    assert_int_equal(q.error.line, 2);
    assert_int_equal(q.error.column, 8);
    assert_int_equal(q.error.from, 12);
    assert_int_equal(q.error.to, 13);
    query_done(&q);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_that_has_no_tokens),
        cmocka_unit_test(numbers_and_durations),
        cmocka_unit_test(the_grammar),
        cmocka_unit_test(types_and_arguments),
        cmocka_unit_test(what_is_switched_off),
        cmocka_unit_test(messages_are_short_and_readable),
        cmocka_unit_test(positions_are_lines_and_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
