/*
 * Text to tokens: what a word or a sign is depends on where it stands. Tokens are written as
 * type:text, separated by blanks, in the words of this file.
 */
#include "tests/unit/promql/query.h"

#include <stdio.h>

static const char *const names[T_TYPES] = {
    [T_ERROR] = "error",
    [T_EOF] = "end",
    [T_IDENTIFIER] = "id",
    [T_METRIC_IDENTIFIER] = "metric",
    [T_NUMBER] = "number",
    [T_DURATION] = "duration",
    [T_STRING] = "string",
    [T_LEFT_PAREN] = "lp",
    [T_RIGHT_PAREN] = "rp",
    [T_LEFT_BRACE] = "lb",
    [T_RIGHT_BRACE] = "rb",
    [T_LEFT_BRACKET] = "ls",
    [T_RIGHT_BRACKET] = "rs",
    [T_COMMA] = "comma",
    [T_COLON] = "colon",
    [T_EQL] = "eq",
    [T_ADD] = "add",
    [T_SUB] = "sub",
    [T_MUL] = "mul",
    [T_DIV] = "div",
    [T_MOD] = "mod",
    [T_POW] = "pow",
    [T_EQLC] = "eqlc",
    [T_NEQ] = "neq",
    [T_GTR] = "gtr",
    [T_LSS] = "lss",
    [T_GTE] = "gte",
    [T_LTE] = "lte",
    [T_TRIM_UPPER] = "upper",
    [T_TRIM_LOWER] = "lower",
    [T_EQL_REGEX] = "re",
    [T_NEQ_REGEX] = "nre",
    [T_AT] = "at",
};

/* Words of the language have no name of their own here: they are key:text. */
static void
check(const char *text, const char *expected)
{
    char got[1024] = "";
    ps_arena arena;
    pql_error error;
    pql_parser p;
    size_t len = strlen(text), n = 0;
    char *copy = test_exact_copy(text, len);
    ps_arena_init(&arena, &ps_malloc, 0);
    pql_parser_init(&p, &arena, (ps_str){copy, len}, &error);
    for (;;) {
        pql_token t = pql_lex(&p);
        if (t.type == T_EOF)
            break;
        const char *name = names[t.type] != NULL ? names[t.type] : "key";
        n += (size_t)snprintf(got + n, sizeof got - n, "%s%s", n > 0 ? " " : "", name);
        if (t.type == T_ERROR)
            break;
        n +=
            (size_t)snprintf(got + n, sizeof got - n, ":%.*s", (int)(t.to - t.from), copy + t.from);
        assert_true(n < sizeof got);
    }
    if (strcmp(got, expected) != 0)
        fail_msg("%s\n  is       %s\n  expected %s", text, got, expected);
    ps_arena_done(&arena);
    free(copy);
}

static void
signs(void **state)
{
    (void)state;
    check("+-*/%^", "add:+ sub:- mul:* div:/ mod:% pow:^");
    check("== != < <= > >= =", "eqlc:== neq:!= lss:< lte:<= gtr:> gte:>= eq:=");
    check("a</b>/c", "id:a upper:</ id:b lower:>/ id:c");
    check("a < / b", "id:a lss:< div:/ id:b");
    check("<=/", "lte:<= div:/");
    check("(,)@", "lp:( comma:, rp:) at:@");
    check("\t a\r\n# comment, (\n+ #x\r1 #", "id:a add:+ number:1");
    check("", "");
}

static void
words(void **state)
{
    (void)state;
    check("sum SuM summer a1_ _", "key:sum key:SuM id:summer id:a1_ id:_");
    check("and OR Unless atan2", "key:and key:OR key:Unless key:atan2");
    check("inf NaN INF info", "number:inf number:NaN number:INF id:info");
    check("a:b :c : sum:", "metric:a:b metric::c metric:: metric:sum:");
    check("start end step range min_of max_of", "key:start key:end key:step key:range key:min_of "
                                                "key:max_of");
    check("count_values limit_ratio group_right fill_right(", "key:count_values key:limit_ratio "
                                                              "key:group_right key:fill_right lp:( "
                                                              "error");
    check("fill fill_left fill (1)", "id:fill id:fill_left key:fill lp:( number:1 rp:)");
    check("a.b", "id:a error");
}

static void
in_braces(void **state)
{
    (void)state;
    check("{sum=~\"a\", by!~'b'}", "lb:{ id:sum re:=~ string:\"a\" comma:, id:by nre:!~ string:'b' "
                                   "rb:}");
    check("{a==\"b\"}", "lb:{ id:a eq:= eq:= string:\"b\" rb:}");
    check("{#}\n}", "lb:{ rb:}");
    check("{a:b}", "lb:{ id:a error");
    check("{1}", "lb:{ error");
    check("{a}sum", "lb:{ id:a rb:} key:sum");
}

static void
in_brackets(void **state)
{
    (void)state;
    check("[5m]", "ls:[ duration:5m rs:]");
    check("[ 5m : 1m ]", "ls:[ duration:5m colon:: duration:1m rs:]");
    check("[.5+(step()*2)]",
          "ls:[ number:.5 add:+ lp:( key:step lp:( rp:) mul:* number:2 rp:) rs:]");
    check("[MIN_OF(5m,range())]",
          "ls:[ key:MIN_OF lp:( duration:5m comma:, key:range lp:( rp:) rp:) "
          "rs:]");
    check("[step():]", "ls:[ key:step lp:( rp:) error"); /* as Prometheus: a number comes first */
    check("[step()+0:]", "ls:[ key:step lp:( rp:) add:+ number:0 colon:: rs:]");
    check("[5m", "ls:[ duration:5m error");
    check("[sum]", "ls:[ error");
    check("[5m][5m:]", "ls:[ duration:5m rs:] ls:[ duration:5m colon:: rs:]");
    check("[5m]sum:a", "ls:[ duration:5m rs:] metric:sum:a");
}

static void
numbers_and_durations(void **state)
{
    (void)state;
    check("1 1.5 .5 5. 1e3 1E-3 1e+3", "number:1 number:1.5 number:.5 number:5. number:1e3 "
                                       "number:1E-3 number:1e+3");
    check("0x1F 0Xab_c 1_000 017 08",
          "number:0x1F number:0Xab_c number:1_000 number:017 number:08");
    check("5m 1h30m 1y2w3d4h5m6s7ms 2ms5y", "duration:5m duration:1h30m duration:1y2w3d4h5m6s7ms "
                                            "error");
    check("1.5h 0x5m", "duration:1.5h duration:0x5m"); /* wrong, but the parser says how */
    check("5m+5", "duration:5m add:+ number:5");
    check("1-1", "number:1 sub:- number:1");
    static const char *const wrong[] = {"1..2",  "1__0", "1_",  "1._5", "1e",
                                        "0x1.8", "12ab", "5mm", "1e5e"};
    for (size_t i = 0; i < PS_ARRAY_LEN(wrong); i++)
        check(wrong[i], "error");
    check("5\xc3\xa9", "number:5 error");
}

static void
strings(void **state)
{
    (void)state;
    check("\"a\" 'b' `c`", "string:\"a\" string:'b' string:`c`");
    check("'\"' \"'\" `\"'\n\\`", "string:'\"' string:\"'\" string:`\"'\n\\`");
    check("\"\\\"\" '\\''", "string:\"\\\"\" string:'\\''");
    check("\"\\'\"", "error");
    check("\"\\n\\x41\\101\\u0041\\U00000041\"", "string:\"\\n\\x41\\101\\u0041\\U00000041\"");
    check("\"#\"#\"", "string:\"#\"");
    check("\"\xc3\xa9\"", "string:\"\xc3\xa9\"");
    check("\"\xc3\"", "error");
    check("\"\xef\xbf\xbd\"", "error");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signs),     cmocka_unit_test(words),
        cmocka_unit_test(in_braces), cmocka_unit_test(in_brackets),
        cmocka_unit_test(strings),   cmocka_unit_test(numbers_and_durations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
