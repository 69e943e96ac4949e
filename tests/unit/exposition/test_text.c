/*
 * The text format and OpenMetrics: what they mean, and where they are wrong. The cases were compared with
 * Prometheus 3.14's parsers; where ours differs it says so.
 */
#include "tests/unit/support.h"
#include "tests/unit/exposition/show.h"

typedef struct text_case {
    exp_format format;
    const char *text, *shown;
} text_case;

static const text_case cases[] = {
    {EXP_TEXT, "", ""},
    {EXP_TEXT, "\n \n\t\n", ""},
    {EXP_TEXT, "up 1", "up 1\n"},
    {EXP_TEXT, "up 1\n", "up 1\n"},
    {EXP_TEXT, " up\t 1 \t1700000000000 \n", "up 1 @1700000000000\n"},
    {EXP_TEXT, "a:b_9{} -1.5e3 0", "a:b_9 -1500 @0\n"},
    /* Prometheus takes no sign here; the format has one */
    {EXP_TEXT, "up 1 -5", "up 1 @-5\n"},
    {EXP_TEXT, "a NaN\nb +Inf\nc -inf\nd nan", "a NaN\nb +Inf\nc -Inf\nd NaN\n"},
    {EXP_TEXT, "a{x=\"1\",y=\"2\",} 3\na { x = \"1\" , y=\"2\" }4",
     "a{x=\"1\",y=\"2\"} 3\na{x=\"1\",y=\"2\"} 4\n"},
    {EXP_TEXT, "a{x=\"1\" y=\"2\"} 3", "a{x=\"1\",y=\"2\"} 3\n"},
    {EXP_TEXT, "a{x=\"\\\"q\\\\ \\n \\t\"} 1", "a{x=\"\\\"q\\\\ \\n \\\\t\"} 1\n"},
    {EXP_TEXT, "a{x=\"two\nlines\"} 1", "a{x=\"two\\nlines\"} 1\n"},
    {EXP_TEXT, "{\"a.b\",x=\"1\"} 2", "{\"a.b\",x=\"1\"} 2\n"},
    {EXP_TEXT, "{\"a.b\"} 2", "{\"a.b\"} 2\n"},
    {EXP_TEXT, "{x=\"1\",\"a.b\",\"y z\"=\"2\"} 2", "{\"a.b\",x=\"1\",\"y z\"=\"2\"} 2\n"},
    {EXP_TEXT, "# a comment\n#another\n # HELP\n# HELPup x\nup 1", "up 1\n"},
    {EXP_TEXT, "# HELP up Is \\\\ it\\n \\\"up\n# TYPE up gauge\nup 1\nother 2",
     "up 1 [gauge|Is \\ it\n \\\"up|]\nother 2\n"},
    {EXP_TEXT, "#\tTYPE\tx counter\nx 1\nx_total 2\nxy 3\n# HELP y h\nx 4",
     "x 1 [counter||]\nx_total 2 [counter||]\nxy 3\nx 4\n"},
    {EXP_TEXT, "# TYPE x untyped\nx 1\n# HELP x\nx 2", "x 1 [unknown||]\nx 2 [unknown||]\n"},
    {EXP_TEXT, "# HELP \"a b\" h\n# TYPE \"a b\" gauge\n{\"a b\"} 1", "{\"a b\"} 1 [gauge|h|]\n"},
    {EXP_TEXT, "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2",
     "h_bucket{le=\"1.0\"} 1 [histogram||]\nh_bucket{le=\"+Inf\"} 2 [histogram||]\n"
     "h_sum 3 [histogram||]\nh_count 2 [histogram||]\n"},
    {EXP_TEXT, "# TYPE s summary\ns{quantile=\"0\"} 1\ns{quantile=\"1e-7\"} 2\ns{quantile=\"x\"} 2",
     "s{quantile=\"0.0\"} 1 [summary||]\ns{quantile=\"1e-07\"} 2 [summary||]\n"
     "s{quantile=\"x\"} 2 [summary||]\n"},
    {EXP_TEXT, "# TYPE s gauge\ns{quantile=\"1\",le=\"1\"} 1",
     "s{quantile=\"1\",le=\"1\"} 1 [gauge||]\n"},
    /* duplicate labels and empty ones are for whoever stores */
    {EXP_TEXT, "a{x=\"1\",x=\"2\",y=\"\"} 1", "a{x=\"1\",x=\"2\",y=\"\"} 1\n"},
    {EXP_TEXT, "a", "invalid: line 1, column 2: a number is expected\n"},
    {EXP_TEXT, "up 1\na b\n", "up 1\ninvalid: line 2, column 3: a number is expected\n"},
    {EXP_TEXT, "a 0x1p3", "invalid: line 1, column 3: a number is expected\n"},
    {EXP_TEXT, "a 1_000", "invalid: line 1, column 3: a number is expected\n"},
    {EXP_TEXT, "a 1e400", "invalid: line 1, column 3: a number is expected\n"},
    {EXP_TEXT, "a 1 1.5", "invalid: line 1, column 5: a time in milliseconds is expected\n"},
    {EXP_TEXT, "a 1 2 3", "invalid: line 1, column 7: the end of the line is expected\n"},
    {EXP_TEXT, "a 1 # {x=\"1\"} 2", "invalid: line 1, column 5: a time in milliseconds is expected\n"},
    {EXP_TEXT, "a 1\r\n", "invalid: line 1, column 3: a number is expected\n"},
    {EXP_TEXT, "9a 1", "invalid: line 1, column 1: a metric's name or # is expected\n"},
    {EXP_TEXT, "a-b 1", "invalid: line 1, column 2: a number is expected\n"},
    {EXP_TEXT, "{} 1", "invalid: line 1, column 3: the metric has no name\n"},
    {EXP_TEXT, "{x=\"1\"} 1", "invalid: line 1, column 8: the metric has no name\n"},
    {EXP_TEXT, "a{\"b\"} 1", "invalid: line 1, column 3: the metric has a name already\n"},
    {EXP_TEXT, "{\"a\",\"b\"} 1", "invalid: line 1, column 6: the metric has a name already\n"},
    {EXP_TEXT, "a{x} 1", "invalid: line 1, column 4: = is expected after a label's name\n"},
    {EXP_TEXT, "a{x=1} 1", "invalid: line 1, column 5: a quoted text is expected\n"},
    {EXP_TEXT, "a{,} 1", "invalid: line 1, column 3: a label name is expected\n"},
    {EXP_TEXT, "a{x=\"1\"", "invalid: line 1, column 8: a label name is expected\n"},
    {EXP_TEXT, "a{x=\"1", "invalid: line 1, column 7: the text ends within quotes\n"},
    {EXP_TEXT, "a{x=\"\xff\"} 1", "invalid: line 1, column 5: a label's value is not valid UTF-8\n"},
    {EXP_TEXT, "# HELP a \xff\na 1", "invalid: line 1, column 10: a help text is not valid UTF-8\n"},
    {EXP_TEXT, "# TYPE a thing\na 1", "invalid: line 1, column 10: this is no type of a metric\n"},
    {EXP_TEXT, "# TYPE a info\na 1", "invalid: line 1, column 10: this is no type of a metric\n"},
    {EXP_TEXT, "# TYPE -", "invalid: line 1, column 8: a metric's name is expected\n"},
    {EXP_TEXT, "# HELP a.b c", "invalid: line 1, column 9: a blank is expected after a metric's name\n"},

    {EXP_OPENMETRICS, "# EOF\n", ""},
    {EXP_OPENMETRICS, "# EOF", ""},
    {EXP_OPENMETRICS, "up 1\nup{a=\"b\"} 2 1700000000.123\n# EOF\n",
     "up 1\nup{a=\"b\"} 2 @1700000000123\n"},
    /* to the nearest millisecond, where Prometheus cuts off */
    {EXP_OPENMETRICS, "a 1 1.001\na 1 1e3\na 1 -1.5\n# EOF\n", "a 1 @1001\na 1 @1000000\na 1 @-1500\n"},
    {EXP_OPENMETRICS,
     "# HELP c_seconds A \\\"b\\\" \\\\ \\n.\n# TYPE c_seconds counter\n# UNIT c_seconds seconds\n"
     "c_seconds_total 1 # {trace_id=\"x\"} 0.5 1.25\nc_seconds_created 2\n# EOF\n",
     "c_seconds_total 1 #{trace_id=\"x\"} 0.5 @1250 [counter|A \"b\" \\ \n.|seconds]\n"
     "c_seconds_created 2 [counter|A \"b\" \\ \n.|seconds]\n"},
    {EXP_OPENMETRICS, "a 1 2 # {} 3\na 1 # {\"x y\"=\"1\",z=\"2\"} 4\n# EOF\n",
     "a 1 @2000 #{} 3\na 1 #{\"x y\"=\"1\",z=\"2\"} 4\n"},
    {EXP_OPENMETRICS,
     "# TYPE a info\na_info{v=\"1\"} 1\n# TYPE b stateset\nb{b=\"x\"} 1\n# TYPE g gaugehistogram\n"
     "g_gsum 1\n# TYPE u unknown\nu 1\n# EOF\n",
     "a_info{v=\"1\"} 1 [info||]\nb{b=\"x\"} 1 [stateset||]\ng_gsum 1 [gaugehistogram||]\n"
     "u 1 [unknown||]\n"},
    {EXP_OPENMETRICS, "{\"a.b\",x=\"1\"} 2\n# EOF\n", "{\"a.b\",x=\"1\"} 2\n"},
    {EXP_OPENMETRICS, "# TYPE h histogram\nh_bucket{le=\"10\"} 1 # {} 3\n# EOF\n",
     "h_bucket{le=\"10.0\"} 1 #{} 3 [histogram||]\n"},
    {EXP_OPENMETRICS, "", "invalid: line 1, column 1: the text does not end with # EOF\n"},
    {EXP_OPENMETRICS, "a 1\n", "a 1\ninvalid: line 2, column 1: the text does not end with # EOF\n"},
    {EXP_OPENMETRICS, "a 1", "invalid: line 1, column 4: the text does not end with # EOF\n"},
    {EXP_OPENMETRICS, "# EOF\n\n", "invalid: line 2, column 1: something follows # EOF\n"},
    {EXP_OPENMETRICS, "\n# EOF\n", "invalid: line 1, column 1: a metric's name or # is expected\n"},
    {EXP_OPENMETRICS, "# a comment\n# EOF\n",
     "invalid: line 1, column 2: HELP, TYPE, UNIT or EOF is expected after #\n"},
    {EXP_OPENMETRICS, "a  1\n# EOF\n", "invalid: line 1, column 3: a number is expected\n"},
    {EXP_OPENMETRICS, "a 1 \n# EOF\n", "invalid: line 1, column 5: a time in seconds is expected\n"},
    {EXP_OPENMETRICS, "a{x=\"1\"}1\n# EOF\n", "invalid: line 1, column 9: a blank and a value are expected\n"},
    {EXP_OPENMETRICS, "a {x=\"1\"} 1\n# EOF\n", "invalid: line 1, column 3: a number is expected\n"},
    {EXP_OPENMETRICS, "a{x=\"1\" y=\"2\"} 1\n# EOF\n", "invalid: line 1, column 8: a comma or } is expected\n"},
    {EXP_OPENMETRICS, "a{x=\"1\ny\"} 1\n# EOF\n", "invalid: line 1, column 7: the line ends in a quoted text\n"},
    {EXP_OPENMETRICS, "a 1 NaN\n# EOF\n", "invalid: line 1, column 5: a time in seconds is expected\n"},
    {EXP_OPENMETRICS, "a 1 1e300\n# EOF\n", "invalid: line 1, column 5: a time in seconds is expected\n"},
    {EXP_OPENMETRICS, "# UNIT a seconds\n# EOF\n",
     "invalid: line 1, column 10: the metric's name does not end in its unit\n"},
    {EXP_OPENMETRICS, "# TYPE a untyped\n# EOF\n", "invalid: line 1, column 10: this is no type of a metric\n"},
    {EXP_OPENMETRICS, "a 1 # {\"b\"} 1\n# EOF\n",
     "invalid: line 1, column 11: = is expected after a label's name\n"},
    {EXP_OPENMETRICS, "a 1 # {}\n# EOF\n",
     "invalid: line 1, column 9: a value is expected after an exemplar's labels\n"},
    {EXP_OPENMETRICS, "a 1 # {} 1 2 3\n# EOF\n", "invalid: line 1, column 13: the end of the line is expected\n"},
};

static void
texts_mean_what_they_say(void **state)
{
    (void)state;
    for (size_t i = 0; i < PS_ARRAY_LEN(cases); i++) {
        const text_case *c = &cases[i];
        size_t len = strlen(c->text);
        char *exact = malloc(len + 1);
        memcpy(exact, c->text, len);
        exact = realloc(exact, len > 0 ? len : 1); /* a byte too far is seen by the sanitizer */
        ps_buf out;
        ps_buf_init(&out, &ps_malloc);
        (void)show_text(&out, c->format, (ps_str){exact, len}, &ps_malloc);
        ps_buf_add_char(&out, 0);
        if (strcmp(out.ptr, c->shown) != 0)
            fail_msg("%s\n  says     %s\n  expected %s", c->text, out.ptr, c->shown);
        ps_buf_done(&out);
        free(exact);
    }
}

static void
the_offset_of_an_error_is_where_line_and_column_say(void **state)
{
    exp_reader r;
    exp_sample s;
    bool more;
    ps_err err;
    (void)state;
    assert_int_equal(exp_reader_init(&r, EXP_TEXT, PS_STR("ok 1\nok 2\nnot ok\n"), &ps_malloc, &err), PS_OK);
    assert_int_equal(exp_next(&r, &more, &s, &err), PS_OK);
    assert_int_equal(exp_next(&r, &more, &s, &err), PS_OK);
    assert_int_equal(exp_next(&r, &more, &s, &err), PS_EINVAL);
    assert_int_equal(err.offset, 14);
    assert_string_equal(err.text, "line 3, column 5: a number is expected");
    exp_reader_done(&r);
}

static void
too_many_labels_are_a_limit(void **state)
{
    ps_buf text, out;
    (void)state;
    ps_buf_init(&text, &ps_malloc);
    ps_buf_init(&out, &ps_malloc);
    ps_buf_add_c(&text, "a{");
    for (int i = 0; i < EXP_MAX_LABELS - 1; i++) /* and the name */
        ps_buf_addf(&text, "l%d=\"v\",", i);
    size_t most = text.len;
    ps_buf_add_c(&text, "} 1\n");
    assert_int_equal(show_text(&out, EXP_TEXT, ps_buf_str(&text), &ps_malloc), PS_OK);
    text.len = most;
    ps_buf_add_c(&text, "one=\"more\"} 1\n");
    assert_int_equal(show_text(&out, EXP_TEXT, ps_buf_str(&text), &ps_malloc), PS_ELIMIT);
    ps_buf_done(&text);
    ps_buf_done(&out);
}

static void
memory_that_is_missing_is_an_error(void **state)
{
    static const char text[] =
        "# HELP \"a b\" h\\n\n# TYPE \"a b\" summary\n{\"a b\",quantile=\"1\",x=\"\\\\\"} 1\n"
        "{\"a b\",x=\"\\n\"} 1\n";
    (void)state;
    for (size_t fail_at = 1;; fail_at++) {
        test_alloc t = {.fail_at = fail_at};
        ps_alloc alloc = test_alloc_of(&t);
        ps_buf out;
        ps_buf_init(&out, &ps_malloc);
        ps_status st = show_text(&out, EXP_TEXT, PS_STR(text), &alloc);
        ps_buf_done(&out);
        assert_int_equal(t.live_blocks, 0);
        if (st == PS_OK) {
            assert_true(fail_at > 3);
            break;
        }
        assert_int_equal(st, PS_ENOMEM);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_mean_what_they_say),
        cmocka_unit_test(the_offset_of_an_error_is_where_line_and_column_say),
        cmocka_unit_test(too_many_labels_are_a_limit),
        cmocka_unit_test(memory_that_is_missing_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
