/*
 * Tree to text: the canonical line, the split form and the JSON that Prometheus 3.14 gives for the
 * same queries; and what is printed parses to the same tree.
 */
#include "tests/unit/promql/query.h"

#include <stdio.h>

typedef struct printed {
    const char *text, *expected;
} printed;

static const printed lines[] = {
    {"up", "up"},
    {"1", "1"},
    {"+1", "1"},
    {"-1", "-1"},
    {"1e3", "1000"},
    {"0.000001", "0.000001"},
    {"1e21", "1000000000000000000000"},
    {"1e-9", "0.000000001"},
    {"Inf", "+Inf"},
    {"-inf", "-Inf"},
    {"nAn", "NaN"},
    {"0x1F", "31"},
    {"017", "15"},
    {"08", "8"},
    {"1_000.5", "1000.5"},
    {"5m", "5m"},
    {"-1h30m", "-1h30m"},
    {"1y2w", "379d"},
    {"90d", "90d"},
    {"0s", "0s"},
    {"61s", "1m1s"},
    {"\"a\"", "\"a\""},
    {"'a\"b'", "\"a\\\"b\""},
    {"`a\\b\"\n`", "\"a\\\\b\\\"\\n\""},
    {"\"\\x00\\n\\t\\\\\\u00e9\\U0001F600\\xff\\101\"", "\"\\x00\\n\\t\\\\é😀\\xffA\""},
    {"\"tab\\there\"", "\"tab\\there\""},
    {"( a )", "(a)"},
    {"((1))", "((1))"},
    {"a{}", "a"},
    {"a{b=\"c\"}", "a{b=\"c\"}"},
    {"{b=\"c\",a=\"d\"}", "{a=\"d\",b=\"c\"}"},
    {"{z=~\"x|y\",a!~\"b.*\",m!=\"\",k=\"v\"}", "{a!~\"b.*\",k=\"v\",m!=\"\",z=~\"x|y\"}"},
    {"a{b=\"x\",b!=\"y\",}", "a{b!=\"y\",b=\"x\"}"},
    {"{\"a.b\"}", "{__name__=\"a.b\"}"},
    {"{\"a.b\",\"c d\"=\"e\"}", "{\"c d\"=\"e\",__name__=\"a.b\"}"},
    {"{__name__=\"a\"}", "{__name__=\"a\"}"},
    {"{__name__=~\"a.+\"}", "{__name__=~\"a.+\"}"},
    {"{\"a\"}", "{__name__=\"a\"}"},
    {"{'x y'=~`z+`}", "{\"x y\"=~\"z+\"}"},
    {"a{#c\nb=\"c\"#d\n}", "a{b=\"c\"}"},
    {"sum(a)", "sum(a)"},
    {"SUM(a)", "sum(a)"},
    {"sum by (b)(a)", "sum by (b) (a)"},
    {"sum(a) BY (b,c)", "sum by (b, c) (a)"},
    {"sum by () (a)", "sum(a)"},
    {"sum without () (a)", "sum without () (a)"},
    {"sum without (b, \"c.d\", on, sum) (a)", "sum without (b, \"c.d\", on, sum) (a)"},
    {"topk(5, a)", "topk(5, a)"},
    {"count_values by (x) (\"v\", a)", "count_values by (x) (\"v\", a)"},
    {"quantile(0.9, a)", "quantile(0.9, a)"},
    {"limitk without (b) (2, a)", "limitk without (b) (2, a)"},
    {"limit_ratio(-0.5, a)", "limit_ratio(-0.5, a)"},
    {"rate(a[5m])", "rate(a[5m])"},
    {"a[1h30m]", "a[1h30m]"},
    {"a[90]", "a[1m30s]"},
    {"a[0.5]", "a[500ms]"},
    {"a[1.0005]", "a[1s]"},
    {"a offset 5m", "a offset 5m"},
    {"a offset -5m", "a offset -5m"},
    {"a offset 0", "a"},
    {"a offset 90", "a offset 1m30s"},
    {"a @ 1", "a @ 1.000"},
    {"a @ -1.5", "a @ -1.500"},
    {"a @ 1e6", "a @ 1000000.000"},
    {"a @ 5m", "a @ 300.000"},
    {"a @ 0.0006", "a @ 0.001"},
    {"a @ start()", "a @ start()"},
    {"a @ end() offset 1m", "a @ end() offset 1m"},
    {"a offset 1m @ 5", "a @ 5.000 offset 1m"},
    {"a[5m] offset 1m @ 3", "a[5m] @ 3.000 offset 1m"},
    {"a[5m] anchored", "a[5m] anchored"},
    {"a[5m] @ 1 offset 3m smoothed", "a[5m] smoothed @ 1.000 offset 3m"},
    {"a anchored", "a anchored"},
    {"a @ 1 smoothed offset -1m", "a @ 1.000 smoothed offset -1m"},
    {"a smoothed[5m]", "a[5m] smoothed"},
    {"a[5m:]", "a[5m:]"},
    {"a[5m:1m]", "a[5m:1m]"},
    {"a[5m:1m] @ end() offset 2m", "a[5m:1m] @ end() offset 2m"},
    {"(a + b)[5m:]", "(a + b)[5m:]"},
    {"rate(a[5m])[10m:30s]", "rate(a[5m])[10m:30s]"},
    {"a[step()]", "a[step()]"},
    {"a[5m + 1m * 2 - 3]", "a[5m + 1m * 2 - 3]"},
    {"a[(5m)]", "a[(5m)]"},
    {"a[-(-5m)]", "a[-(-5m)]"},
    {"a[- -5m]", "a[5m]"},
    {"a[+5m]", "a[5m]"},
    {"a[2^3^2]", "a[2 ^ 3 ^ 2]"},
    {"a[-2^2 + 10]", "a[-2 ^ 2 + 10]"},
    {"a[min_of(5m, step())]", "a[min_of(5m, step())]"},
    {"a[MAX_OF(1, RANGE())]", "a[max_of(1, range())]"},
    {"a[5m:step() * 2]", "a[5m:step() * 2]"},
    {"a offset step()", "a offset step()"},
    {"a offset -step()", "a offset -step()"},
    {"a offset +range()", "a offset range()"},
    {"a offset (5m)", "a offset (5m)"},
    {"a offset (5m) + 3", "a offset (5m) + 3"},
    {"a offset -(5m + 1)", "a offset -(5m + 1)"},
    {"a offset -(5m) + 3", "a offset -(5m) + 3"},
    {"a offset min_of(1, 2) + 3", "a offset min_of(1, 2) + 3"},
    {"a offset -max_of(1, (2)) * 3", "a offset -max_of(1, (2)) * 3"},
    {"a offset ((1))", "a offset (1)"},
    {"a offset 5m + 3m", "a offset 5m + 3m"},
    {"a offset -2^2", "a offset -2s ^ 2"},
    {"a[5m] offset step() @ start()", "a[5m] @ start() offset step()"},
    {"a + b", "a + b"},
    {"a+b*c", "a + b * c"},
    {"a * b + c", "a * b + c"},
    {"(a + b) * c", "(a + b) * c"},
    {"a ^ b ^ c", "a ^ b ^ c"},
    {"(a ^ b) ^ c", "(a ^ b) ^ c"},
    {"-a ^ 2", "-a ^ 2"},
    {"(-a) ^ 2", "(-a) ^ 2"},
    {"-1 ^ 2", "-1 ^ 2"},
    {"- a * b", "-a * b"},
    {"a - -b", "a - -b"},
    {"a % b / c", "a % b / c"},
    {"a atan2 b", "a atan2 b"},
    {"a == b", "a == b"},
    {"a != bool b", "a != bool b"},
    {"a > bool 1", "a > bool 1"},
    {"a </ b >/ c", "a </ b >/ c"},
    {"a and b or c unless d", "a and b or c unless d"},
    {"a or b and c", "a or b and c"},
    {"a == b + 1 or c", "a == b + 1 or c"},
    {"a + on (b) c", "a + on (b) c"},
    {"a + on () c", "a + on () c"},
    {"a + ignoring () c", "a + c"},
    {"a + ignoring (b) c", "a + ignoring (b) c"},
    {"a * on (b) group_left c", "a * on (b) group_left () c"},
    {"a * on (b, \"c d\") group_left (e, f) g", "a * on (b, \"c d\") group_left (e, f) g"},
    {"a / ignoring (b) group_right () c", "a / ignoring (b) group_right () c"},
    {"a + on (b) group_left (c) d ^ e", "a + on (b) group_left (c) d ^ e"},
    {"a == bool on (b) c", "a == bool on (b) c"},
    {"a + fill (1) b", "a + fill (1) b"},
    {"a + fill_left (-1) b", "a + fill_left (-1) b"},
    {"a + fill_right (5m) fill_left (1e7) b", "a + fill_left (1e+07) fill_right (300) b"},
    {"a + fill_left (2) fill_right (2) b", "a + fill (2) b"},
    {"a == bool on (b) group_left (c) fill (0.5) d",
     "a == bool on (b) group_left (c) fill (0.5) d"},
    {"a and on (b) c", "a and on (b) c"},
    {"a or ignoring (b) c", "a or ignoring (b) c"},
    {"1 + 2", "1 + 2"},
    {"1 == bool 2", "1 == bool 2"},
    {"abs(a)", "abs(a)"},
    {"time()", "time()"},
    {"hour()", "hour()"},
    {"hour(a)", "hour(a)"},
    {"round(a)", "round(a)"},
    {"round(a, 0.1)", "round(a, 0.1)"},
    {"label_join(a, \"b\", \"-\", \"c\", \"d\")", "label_join(a, \"b\", \"-\", \"c\", \"d\")"},
    {"label_join(a, \"b\", \"-\")", "label_join(a, \"b\", \"-\")"},
    {"label_replace(a, \"b\", \"$1\", \"c\", \"(.*)\")",
     "label_replace(a, \"b\", \"$1\", \"c\", \"(.*)\")"},
    {"histogram_quantile(0.9, a)", "histogram_quantile(0.9, a)"},
    {"histogram_quantiles(a, \"q\", 0.1, 0.9)", "histogram_quantiles(a, \"q\", 0.1, 0.9)"},
    {"info(a)", "info(a)"},
    {"info(a, {b=\"c\"})", "info(a, {b=\"c\"})"},
    {"sort_by_label(a)", "sort_by_label(a)"},
    {"sort_by_label(a, \"b\", \"c\")", "sort_by_label(a, \"b\", \"c\")"},
    {"max_of(1, 2)", "max_of(1, 2)"},
    {"step() + range() - start() * end()", "step() + range() - start() * end()"},
    {"vector(1) + scalar(a)", "vector(1) + scalar(a)"},
    {"and + or - unless", "and + or - unless"},
    {"by * without / offset", "by * without / offset"},
    {"sum + avg * start", "sum + avg * start"},
    {"fill + fill_left", "fill + fill_left"},
    {"fill_right{a=\"b\"}", "fill_right{a=\"b\"}"},
    {"anchored offset 5m", "anchored offset 5m"},
    {"start @ 1", "start @ 1.000"},
    {"step{a=\"b\"}", "step{a=\"b\"}"},
    {"a:b{c=\"d\"}", "a:b{c=\"d\"}"},
    {":a", ":a"},
    {"sum{a=\"b\"}", "sum{a=\"b\"}"},
    {"SUM{a=\"b\"}", "SUM{a=\"b\"}"},
    {"+a", "+a"},
    {"+-+a", "+-+a"},
    {"-sum(a)", "-sum(a)"},
    {"-(1)", "-(1)"},
    {"a[5m] # end", "a[5m]"},
    {"\n a\t+\r\nb ", "a + b"},
    {"sum(a) without(b) + 1", "sum without (b) (a) + 1"},
    {"sum by (a,) (b)", "sum by (a) (b)"},
    {"a + on (b,) c", "a + on (b) c"},
    {"a", "a"},
    {"{a=~\"b\", __name__!=\"c\"}", "{__name__!=\"c\",a=~\"b\"}"},
    {"quantile(scalar(b), a)", "quantile(scalar(b), a)"},
    {"predict_linear(a[1h], 3600)", "predict_linear(a[1h], 3600)"},
    {"absent(a{b=\"c\"})", "absent(a{b=\"c\"})"},
};

static const printed split[] = {
    {"sum by (alpha, beta, gamma) (rate(some_metric_with_a_long_name{label_one=\"value one\",label_two=\"value two\"}[5m]))",
     "sum by (alpha, beta, gamma) (\n"
     "  rate(some_metric_with_a_long_name{label_one=\"value one\",label_two=\"value two\"}[5m])\n"
     ")"},
    {"histogram_quantile(0.99, sum by (le, service) (rate(request_duration_seconds_bucket{cluster=\"eu-west-1\",namespace=\"production\"}[5m])))",
     "histogram_quantile(\n"
     "  0.99,\n"
     "  sum by (le, service) (\n"
     "    rate(request_duration_seconds_bucket{cluster=\"eu-west-1\",namespace=\"production\"}[5m])\n"
     "  )\n"
     ")"},
    {"first_long_metric_name{label=\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"} / on (label) group_left (other) second_long_metric_name{label=\"bbbbbbbbbbbbbbbbbbbbbbbbbb\"}",
     "  first_long_metric_name{label=\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}\n"
     "/ on (label) group_left (other)\n"
     "  second_long_metric_name{label=\"bbbbbbbbbbbbbbbbbbbbbbbbbb\"}"},
    {"-(first_long_metric_name{label=\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"} + second_long_metric_name{label=\"bbbbbbbbbbbbbbbbbbbbbbbbbb\"})",
     "-(\n"
     "    first_long_metric_name{label=\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}\n"
     "  +\n"
     "    second_long_metric_name{label=\"bbbbbbbbbbbbbbbbbbbbbbbbbb\"}\n"
     ")"},
    {"topk(5, sum without (a) (first_long_metric_name{label=\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"} or second_long_metric_name{label=\"bbbbbbb\"}))",
     "topk(\n"
     "  5,\n"
     "  sum without (a) (\n"
     "      first_long_metric_name{label=\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}\n"
     "    or\n"
     "      second_long_metric_name{label=\"bbbbbbb\"}\n"
     "  )\n"
     ")"},
    {"max_over_time((first_long_metric_name{label=\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"} + second_long_metric_name{label=\"bbbbbbbbbbbbbbbb\"})[1h:5m] offset 1d)",
     "max_over_time(\n"
     "  (\n"
     "      first_long_metric_name{label=\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}\n"
     "    +\n"
     "      second_long_metric_name{label=\"bbbbbbbbbbbbbbbb\"}\n"
     "  )[1h:5m] offset 1d\n"
     ")"},
    {"sum_over_time(max_over_time(first_long_metric_name{label=\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}[5m])[1h:5m] offset 1d)",
     "sum_over_time(\n"
     "  max_over_time(first_long_metric_name{label=\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}[5m])[1h:5m] offset 1d\n"
     ")"},
    {"-first_long_metric_name{label=\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"} ^ second_long_metric_name{label=\"bbbbbbbbbbbbbbbbbbbbbbb\"}",
     "-first_long_metric_name{label=\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}\n"
     "^\n"
     "  second_long_metric_name{label=\"bbbbbbbbbbbbbbbbbbbbbbb\"}"},
    {"label_replace(first_long_metric_name{label=\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}, \"destination\", \"$1-suffix\", \"source\", \"(.*)-prefix\")",
     "label_replace(\n"
     "  first_long_metric_name{label=\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"},\n"
     "  \"destination\",\n"
     "  \"$1-suffix\",\n"
     "  \"source\",\n"
     "  \"(.*)-prefix\"\n"
     ")"},
    {"{a_selector_that_cannot_be_split=\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\",and_another=\"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\"}",
     "{a_selector_that_cannot_be_split=\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\",and_another=\"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\"}"},
};

/* clang-format off */
static const printed json[] = {
    {"1",
     "{\"type\":\"numberLiteral\",\"val\":\"1\"}"},
    {"5m",
     "{\"type\":\"numberLiteral\",\"val\":\"300\"}"},
    {"\"a\\n\\u2028\"",
     "{\"type\":\"stringLiteral\",\"val\":\"a\\n\\u2028\"}"},
    {"-a",
     "{\"expr\":{\"anchored\":false,\"matchers\":[{\"name\":\"__name__\",\"type\":\"=\",\"value\":\"a\"}],"
     "\"name\":\"a\",\"offset\":0,\"offsetExpr\":null,\"smoothed\":false,\"startOrEnd\":null,"
     "\"timestamp\":null,\"type\":\"vectorSelector\"},\"op\":\"-\",\"type\":\"unaryExpr\"}"},
    {"(a)",
     "{\"expr\":{\"anchored\":false,\"matchers\":[{\"name\":\"__name__\",\"type\":\"=\",\"value\":\"a\"}],"
     "\"name\":\"a\",\"offset\":0,\"offsetExpr\":null,\"smoothed\":false,\"startOrEnd\":null,"
     "\"timestamp\":null,\"type\":\"vectorSelector\"},\"type\":\"parenExpr\"}"},
    {"a{b=~\"c\"}",
     "{\"anchored\":false,\"matchers\":[{\"name\":\"b\",\"type\":\"=~\",\"value\":\"c\"},{"
     "\"name\":\"__name__\",\"type\":\"=\",\"value\":\"a\"}],\"name\":\"a\",\"offset\":0,\"offsetExpr\":null,"
     "\"smoothed\":false,\"startOrEnd\":null,\"timestamp\":null,\"type\":\"vectorSelector\"}"},
    {"a[5m] offset 1m @ 3.5",
     "{\"anchored\":false,\"matchers\":[{\"name\":\"__name__\",\"type\":\"=\",\"value\":\"a\"}],"
     "\"name\":\"a\",\"offset\":60000,\"offsetExpr\":null,\"range\":300000,\"rangeExpr\":null,"
     "\"smoothed\":false,\"startOrEnd\":null,\"timestamp\":3500,\"type\":\"matrixSelector\"}"},
    {"a[5m:1m] @ end()",
     "{\"expr\":{\"anchored\":false,\"matchers\":[{\"name\":\"__name__\",\"type\":\"=\",\"value\":\"a\"}],"
     "\"name\":\"a\",\"offset\":0,\"offsetExpr\":null,\"smoothed\":false,\"startOrEnd\":null,"
     "\"timestamp\":null,\"type\":\"vectorSelector\"},\"offset\":0,\"offsetExpr\":null,\"range\":300000,"
     "\"rangeExpr\":null,\"startOrEnd\":\"end\",\"step\":60000,\"stepExpr\":null,\"timestamp\":null,"
     "\"type\":\"subquery\"}"},
    {"a[step() * 2:(5m)]",
     "{\"expr\":{\"anchored\":false,\"matchers\":[{\"name\":\"__name__\",\"type\":\"=\",\"value\":\"a\"}],"
     "\"name\":\"a\",\"offset\":0,\"offsetExpr\":null,\"smoothed\":false,\"startOrEnd\":null,"
     "\"timestamp\":null,\"type\":\"vectorSelector\"},\"offset\":0,\"offsetExpr\":null,\"range\":0,"
     "\"rangeExpr\":{\"lhs\":{\"lhs\":null,\"op\":\"step\",\"rhs\":null,\"type\":\"durationExpr\","
     "\"wrapped\":false},\"op\":\"*\",\"rhs\":{\"duration\":false,\"type\":\"numberLiteral\","
     "\"val\":\"2\"},\"type\":\"durationExpr\",\"wrapped\":false},\"startOrEnd\":null,\"step\":0,"
     "\"stepExpr\":{\"lhs\":null,\"op\":\"+\",\"rhs\":{\"duration\":true,\"type\":\"numberLiteral\","
     "\"val\":\"300\"},\"type\":\"durationExpr\",\"wrapped\":true},\"timestamp\":null,\"type\":\"subquery\"}"},
    {"a offset -step()",
     "{\"anchored\":false,\"matchers\":[{\"name\":\"__name__\",\"type\":\"=\",\"value\":\"a\"}],"
     "\"name\":\"a\",\"offset\":0,\"offsetExpr\":{\"lhs\":null,\"op\":\"-\",\"rhs\":{\"lhs\":null,"
     "\"op\":\"step\",\"rhs\":null,\"type\":\"durationExpr\",\"wrapped\":false},\"type\":\"durationExpr\","
     "\"wrapped\":false},\"smoothed\":false,\"startOrEnd\":null,\"timestamp\":null,\"type\":\"vectorSelector\"}"},
    {"sum by (b) (a)",
     "{\"expr\":{\"anchored\":false,\"matchers\":[{\"name\":\"__name__\",\"type\":\"=\",\"value\":\"a\"}],"
     "\"name\":\"a\",\"offset\":0,\"offsetExpr\":null,\"smoothed\":false,\"startOrEnd\":null,"
     "\"timestamp\":null,\"type\":\"vectorSelector\"},\"grouping\":[\"b\"],\"op\":\"sum\","
     "\"param\":null,\"type\":\"aggregation\",\"without\":false}"},
    {"topk(1, a)",
     "{\"expr\":{\"anchored\":false,\"matchers\":[{\"name\":\"__name__\",\"type\":\"=\",\"value\":\"a\"}],"
     "\"name\":\"a\",\"offset\":0,\"offsetExpr\":null,\"smoothed\":false,\"startOrEnd\":null,"
     "\"timestamp\":null,\"type\":\"vectorSelector\"},\"grouping\":[],\"op\":\"topk\",\"param\":{"
     "\"type\":\"numberLiteral\",\"val\":\"1\"},\"type\":\"aggregation\",\"without\":false}"},
    {"a + on (b) group_left (c) fill_left (2.5) d",
     "{\"bool\":false,\"lhs\":{\"anchored\":false,\"matchers\":[{\"name\":\"__name__\",\"type\":\"=\","
     "\"value\":\"a\"}],\"name\":\"a\",\"offset\":0,\"offsetExpr\":null,\"smoothed\":false,"
     "\"startOrEnd\":null,\"timestamp\":null,\"type\":\"vectorSelector\"},\"matching\":{\"card\":\"many-to-one\","
     "\"fillValues\":{\"lhs\":2.5,\"rhs\":null},\"include\":[\"c\"],\"labels\":[\"b\"],\"on\":true},"
     "\"op\":\"+\",\"rhs\":{\"anchored\":false,\"matchers\":[{\"name\":\"__name__\",\"type\":\"=\","
     "\"value\":\"d\"}],\"name\":\"d\",\"offset\":0,\"offsetExpr\":null,\"smoothed\":false,"
     "\"startOrEnd\":null,\"timestamp\":null,\"type\":\"vectorSelector\"},\"type\":\"binaryExpr\"}"},
    {"1 + 2",
     "{\"bool\":false,\"lhs\":{\"type\":\"numberLiteral\",\"val\":\"1\"},\"matching\":null,"
     "\"op\":\"+\",\"rhs\":{\"type\":\"numberLiteral\",\"val\":\"2\"},\"type\":\"binaryExpr\"}"},
    {"a and b",
     "{\"bool\":false,\"lhs\":{\"anchored\":false,\"matchers\":[{\"name\":\"__name__\",\"type\":\"=\","
     "\"value\":\"a\"}],\"name\":\"a\",\"offset\":0,\"offsetExpr\":null,\"smoothed\":false,"
     "\"startOrEnd\":null,\"timestamp\":null,\"type\":\"vectorSelector\"},\"matching\":{\"card\":\"many-to-many\","
     "\"fillValues\":{\"lhs\":null,\"rhs\":null},\"include\":[],\"labels\":[],\"on\":false},"
     "\"op\":\"and\",\"rhs\":{\"anchored\":false,\"matchers\":[{\"name\":\"__name__\",\"type\":\"=\","
     "\"value\":\"b\"}],\"name\":\"b\",\"offset\":0,\"offsetExpr\":null,\"smoothed\":false,"
     "\"startOrEnd\":null,\"timestamp\":null,\"type\":\"vectorSelector\"},\"type\":\"binaryExpr\"}"},
    {"round(a, 1)",
     "{\"args\":[{\"anchored\":false,\"matchers\":[{\"name\":\"__name__\",\"type\":\"=\",\"value\":\"a\"}],"
     "\"name\":\"a\",\"offset\":0,\"offsetExpr\":null,\"smoothed\":false,\"startOrEnd\":null,"
     "\"timestamp\":null,\"type\":\"vectorSelector\"},{\"type\":\"numberLiteral\",\"val\":\"1\"}],"
     "\"func\":{\"argTypes\":[\"vector\",\"scalar\"],\"name\":\"round\",\"returnType\":\"vector\","
     "\"variadic\":1},\"type\":\"call\"}"},
    {"time()",
     "{\"args\":[],\"func\":{\"argTypes\":[],\"name\":\"time\",\"returnType\":\"scalar\",\"variadic\":0},"
     "\"type\":\"call\"}"},
    {"a anchored",
     "{\"anchored\":true,\"matchers\":[{\"name\":\"__name__\",\"type\":\"=\",\"value\":\"a\"}],"
     "\"name\":\"a\",\"offset\":0,\"offsetExpr\":null,\"smoothed\":false,\"startOrEnd\":null,"
     "\"timestamp\":null,\"type\":\"vectorSelector\"}"},
    {"a[5m] smoothed",
     "{\"anchored\":false,\"matchers\":[{\"name\":\"__name__\",\"type\":\"=\",\"value\":\"a\"}],"
     "\"name\":\"a\",\"offset\":0,\"offsetExpr\":null,\"range\":300000,\"rangeExpr\":null,"
     "\"smoothed\":true,\"startOrEnd\":null,\"timestamp\":null,\"type\":\"matrixSelector\"}"},
    {"a[min_of(1, 2m)] @ start()",
     "{\"anchored\":false,\"matchers\":[{\"name\":\"__name__\",\"type\":\"=\",\"value\":\"a\"}],"
     "\"name\":\"a\",\"offset\":0,\"offsetExpr\":null,\"range\":0,\"rangeExpr\":{\"lhs\":{"
     "\"duration\":false,\"type\":\"numberLiteral\",\"val\":\"1\"},\"op\":\"min_of\",\"rhs\":{"
     "\"duration\":true,\"type\":\"numberLiteral\",\"val\":\"120\"},\"type\":\"durationExpr\","
     "\"wrapped\":false},\"smoothed\":false,\"startOrEnd\":\"start\",\"timestamp\":null,\"type\":\"matrixSelector\"}"},
};
/* clang-format on */

static void
check(const printed *cases, size_t n, query_printer printer)
{
    for (size_t i = 0; i < n; i++) {
        query q = query_valid(cases[i].text);
        const char *text = query_text(&q, printer);
        if (strcmp(text, cases[i].expected) != 0)
            fail_msg("%s\n  prints   %s\n  expected %s", cases[i].text, text, cases[i].expected);
        query_done(&q);
    }
}

static void
one_line(void **state)
{
    (void)state;
    check(lines, PS_ARRAY_LEN(lines), pql_print);
}

static void
long_lines_are_split(void **state)
{
    (void)state;
    check(split, PS_ARRAY_LEN(split), pql_print_pretty);
}

static void
trees_as_json(void **state)
{
    (void)state;
    check(json, PS_ARRAY_LEN(json), pql_print_json);
}

/* Compares trees by their JSON, which holds everything but places; of matchers, not their order. */
static void
check_same_tree(const char *text, const char *expected_json)
{
    query again = query_valid(text);
    query_sort_matchers(again.expr);
    const char *got = query_text(&again, pql_print_json);
    if (strcmp(got, expected_json) != 0)
        fail_msg("%s\n  is       %s\n  expected %s", text, got, expected_json);
    query_done(&again);
}

static void
check_round_trip(const char *text)
{
    static char tree[1 << 16];
    static char line[1 << 16];
    query q = query_valid(text);
    query_sort_matchers(q.expr);
    strcpy(tree, query_text(&q, pql_print_json));
    strcpy(line, query_text(&q, pql_print));
    check_same_tree(line, tree);
    query again = query_valid(line);
    assert_string_equal(query_text(&again, pql_print), line);
    query_done(&again);
    strcpy(line, query_text(&q, pql_print_pretty));
    check_same_tree(line, tree);
    query_done(&q);
}

static void
what_is_printed_parses_to_the_same(void **state)
{
    (void)state;
    for (size_t i = 0; i < PS_ARRAY_LEN(lines); i++)
        check_round_trip(lines[i].text);
    for (size_t i = 0; i < PS_ARRAY_LEN(split); i++)
        check_round_trip(split[i].text);
    for (size_t i = 0; i < PS_ARRAY_LEN(json); i++)
        check_round_trip(json[i].text);
    /* Where Prometheus does not read its own text, or prints another number. */
    check_round_trip("sum by (\"inf\", nan, without) (a)");
    check_round_trip("1001ms + 2002ms");
    check_round_trip("a[1001ms] offset 2002ms");
    check_round_trip("info(a, {})");
    check_round_trip("-0s + rate(a[0.0004] offset 0.0004) + rate(b[0.0004:0.0004])");
    check_round_trip("a + fill_left (0) fill_right (-0) b");
    check_round_trip("'\\ufffd \\U000e0001'");
    check_round_trip("a[115d1ms:] offset 200d3ms");
    check_round_trip("a offset +(5m) * 2");
    check_round_trip("a offset - -5m * 2");
    check_round_trip("a offset + +(5m) * 2");
}

/* Many matchers print sorted, each once, whatever their order was. */
static void
matchers_are_sorted(void **state)
{
    (void)state;
    enum { N = 200 };
    char text[N * 12 + 8] = "{";
    test_random r = {7};
    for (int i = 0; i < N; i++) {
        char one[16];
        snprintf(one, sizeof one, "m%03u=\"x\",", (unsigned)test_random_below(&r, 1000));
        strcat(text, one);
    }
    strcat(text, "}");
    query q = query_valid(text);
    const char *out = query_text(&q, pql_print);
    size_t n = 1;
    assert_int_equal(strlen(out), N * 9 + 1);
    for (const char *p = out + 1; p[9] != '\0'; p += 9, n++)
        assert_true(memcmp(p, p + 9, 4) <= 0);
    assert_int_equal(n, N);
    query_done(&q);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_line),
        cmocka_unit_test(long_lines_are_split),
        cmocka_unit_test(trees_as_json),
        cmocka_unit_test(what_is_printed_parses_to_the_same),
        cmocka_unit_test(matchers_are_sorted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
