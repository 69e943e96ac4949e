/*
 * json.c - tree to JSON, as /api/v1/parse_query answers.
 *
 * Keys stand in alphabetical order. Strings are JSON strings; bytes that are no UTF-8 (an escape in
 * the query can make them) become U+FFFD, since JSON cannot hold them.
 */
#include "lib/promql/internal.h"

static void print_node(ps_buf *out, const pql_expr *e);

static void
add_string(ps_buf *out, ps_str s)
{
    static const char named[] = "btnvfr"; /* 8..13; JSON has no \v */
    ps_buf_add_char(out, '"');
    for (uint32_t i = 0, width; i < s.len && !out->failed; i += width) {
        uint32_t rune = pql_rune(s, i, &width);
        if (rune == '"' || rune == '\\') {
            ps_buf_add_char(out, '\\');
            ps_buf_add_char(out, (char)rune);
        } else if (rune >= 8 && rune <= 13 && rune != 11) {
            ps_buf_add_char(out, '\\');
            ps_buf_add_char(out, named[rune - 8]);
        } else if (rune < ' ' || rune == 0x2028 || rune == 0x2029) {
            ps_buf_addf(out, "\\u%04x", (unsigned)rune);
        } else if (rune == PQL_BAD_RUNE && width == 1) {
            ps_buf_add_c(out, "\\ufffd");
        } else {
            ps_buf_add(out, s.ptr + i, width);
        }
    }
    ps_buf_add_char(out, '"');
}

static void
add_key(ps_buf *out, const char *key)
{
    if (out->len > 0 && !out->failed && out->ptr[out->len - 1] != '{')
        ps_buf_add_char(out, ',');
    ps_buf_add_char(out, '"');
    ps_buf_add_c(out, key);
    ps_buf_add_c(out, "\":");
}

static void
add_text(ps_buf *out, const char *key, const char *value)
{
    add_key(out, key);
    add_string(out, ps_str_c(value));
}

static void
add_bool(ps_buf *out, const char *key, bool value)
{
    add_key(out, key);
    ps_buf_add_c(out, value ? "true" : "false");
}

static void
add_whole(ps_buf *out, const char *key, int64_t value)
{
    add_key(out, key);
    ps_buf_addf(out, "%lld", (long long)value);
}

static void
add_labels(ps_buf *out, const char *key, const ps_str *labels, size_t n)
{
    add_key(out, key);
    ps_buf_add_char(out, '[');
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            ps_buf_add_char(out, ',');
        add_string(out, labels[i]);
    }
    ps_buf_add_char(out, ']');
}

static void
add_node(ps_buf *out, const char *key, const pql_expr *e)
{
    add_key(out, key);
    if (e == NULL)
        ps_buf_add_c(out, "null");
    else
        print_node(out, e);
}

static void
add_number(ps_buf *out, double value)
{
    char text[PS_DOUBLE_PLAIN_TEXT];
    ps_format_double_plain(text, value);
    add_text(out, "val", text);
}

/* ---- durations --------------------------------------------------------------------------------- */

static void
print_duration(ps_buf *out, const pql_expr *e)
{
    if (e == NULL) {
        ps_buf_add_c(out, "null");
        return;
    }
    ps_buf_add_char(out, '{');
    if (e->kind == PQL_NUMBER) {
        add_bool(out, "duration", e->number.duration);
        add_text(out, "type", "numberLiteral");
        add_number(out, e->number.value);
    } else {
        add_key(out, "lhs");
        print_duration(out, e->duration.lhs);
        add_text(out, "op", pql_op_text(e->duration.op));
        add_key(out, "rhs");
        print_duration(out, e->duration.rhs);
        add_text(out, "type", "durationExpr");
        add_bool(out, "wrapped", e->duration.wrapped);
    }
    ps_buf_add_char(out, '}');
}

static void
add_duration(ps_buf *out, const char *key, const pql_expr *e)
{
    add_key(out, key);
    print_duration(out, e);
}

static void
add_offset(ps_buf *out, const pql_when *when)
{
    add_whole(out, "offset", when->offset_expr == NULL ? when->offset_ms : 0);
    add_duration(out, "offsetExpr", when->offset_expr);
}

static void
add_start_or_end(ps_buf *out, const pql_when *when)
{
    add_key(out, "startOrEnd");
    ps_buf_add_c(out, when->at == PQL_AT_START ? "\"start\""
                      : when->at == PQL_AT_END ? "\"end\""
                                               : "null");
}

static void
add_timestamp(ps_buf *out, const pql_when *when)
{
    if (when->at == PQL_AT_TIME) {
        add_whole(out, "timestamp", when->at_ms);
    } else {
        add_key(out, "timestamp");
        ps_buf_add_c(out, "null");
    }
}

/* ---- nodes ------------------------------------------------------------------------------------- */

static void
add_matchers(ps_buf *out, const pql_selector *s)
{
    static const char *const ops[] = {
        [MDL_MATCH_EQ] = "=", [MDL_MATCH_NE] = "!=", [MDL_MATCH_RE] = "=~", [MDL_MATCH_NRE] = "!~"};
    add_key(out, "matchers");
    ps_buf_add_char(out, '[');
    for (size_t i = 0; i < s->n_matchers; i++) {
        ps_buf_add_c(out, i > 0 ? ",{" : "{");
        add_key(out, "name");
        add_string(out, s->matchers[i].name);
        add_text(out, "type", ops[s->matchers[i].type]);
        add_key(out, "value");
        add_string(out, s->matchers[i].value);
        ps_buf_add_char(out, '}');
    }
    ps_buf_add_char(out, ']');
}

/* An instant selector, or that of a range. */
static void
print_selector(ps_buf *out, const pql_selector *s, const pql_expr *range)
{
    add_bool(out, "anchored", s->edge == PQL_ANCHORED);
    add_matchers(out, s);
    add_key(out, "name");
    add_string(out, s->name);
    add_offset(out, &s->when);
    if (range != NULL) {
        add_whole(out, "range", range->range.range_expr == NULL ? range->range.range_ms : 0);
        add_duration(out, "rangeExpr", range->range.range_expr);
    }
    add_bool(out, "smoothed", s->edge == PQL_SMOOTHED);
    add_start_or_end(out, &s->when);
    add_timestamp(out, &s->when);
    add_text(out, "type", range != NULL ? "matrixSelector" : "vectorSelector");
}

static void
print_subquery(ps_buf *out, const pql_expr *e)
{
    add_node(out, "expr", e->subquery.of);
    add_offset(out, &e->subquery.when);
    add_whole(out, "range", e->subquery.range_expr == NULL ? e->subquery.range_ms : 0);
    add_duration(out, "rangeExpr", e->subquery.range_expr);
    add_start_or_end(out, &e->subquery.when);
    add_whole(out, "step", e->subquery.step_expr == NULL ? e->subquery.step_ms : 0);
    add_duration(out, "stepExpr", e->subquery.step_expr);
    add_timestamp(out, &e->subquery.when);
    add_text(out, "type", "subquery");
}

static const char *
api_type(pql_type type)
{
    return type == PQL_MATRIX ? "matrix" : type == PQL_VECTOR ? "vector" : pql_type_text(type);
}

static void
print_call(ps_buf *out, const pql_expr *e)
{
    const pql_function *fn = e->call.fn;
    add_key(out, "args");
    ps_buf_add_char(out, '[');
    for (size_t i = 0; i < e->call.n_args; i++) {
        if (i > 0)
            ps_buf_add_char(out, ',');
        print_node(out, e->call.args[i]);
    }
    ps_buf_add_c(out, "],\"func\":{");
    add_key(out, "argTypes");
    ps_buf_add_char(out, '[');
    for (size_t i = 0; i < fn->n_args; i++) {
        if (i > 0)
            ps_buf_add_char(out, ',');
        add_string(out, ps_str_c(api_type(fn->args[i])));
    }
    ps_buf_add_char(out, ']');
    add_text(out, "name", fn->name);
    add_text(out, "returnType", api_type(fn->returns));
    add_whole(out, "variadic", fn->variadic);
    ps_buf_add_char(out, '}');
    add_text(out, "type", "call");
}

/* JSON has no NaN and no infinities: null stands for them, as for a value that is not set. */
static void
add_fill(ps_buf *out, const char *key, bool set, double value)
{
    char text[PS_DOUBLE_TEXT];
    add_key(out, key);
    if (set && value - value == 0) {
        ps_format_double(text, value);
        ps_buf_add_c(out, text);
    } else {
        ps_buf_add_c(out, "null");
    }
}

static void
add_matching(ps_buf *out, const pql_expr *e)
{
    static const char *const cards[] = {[PQL_ONE_TO_ONE] = "one-to-one",
                                        [PQL_MANY_TO_ONE] = "many-to-one",
                                        [PQL_ONE_TO_MANY] = "one-to-many",
                                        [PQL_MANY_TO_MANY] = "many-to-many"};
    const pql_matching *m = &e->binary.matching;
    add_key(out, "matching");
    if (!e->binary.has_matching) {
        ps_buf_add_c(out, "null");
        return;
    }
    ps_buf_add_char(out, '{');
    add_text(out, "card", cards[m->card]);
    add_key(out, "fillValues");
    ps_buf_add_char(out, '{');
    add_fill(out, "lhs", m->has_fill_left, m->fill_left);
    add_fill(out, "rhs", m->has_fill_right, m->fill_right);
    ps_buf_add_char(out, '}');
    add_labels(out, "include", m->include, m->n_include);
    add_labels(out, "labels", m->labels, m->n_labels);
    add_bool(out, "on", m->on);
    ps_buf_add_char(out, '}');
}

static void
print_binary(ps_buf *out, const pql_expr *e)
{
    add_bool(out, "bool", e->binary.return_bool);
    add_node(out, "lhs", e->binary.lhs);
    add_matching(out, e);
    add_text(out, "op", pql_op_text(e->binary.op));
    add_node(out, "rhs", e->binary.rhs);
    add_text(out, "type", "binaryExpr");
}

static void
print_aggregate(ps_buf *out, const pql_expr *e)
{
    add_node(out, "expr", e->aggregate.of);
    add_labels(out, "grouping", e->aggregate.labels, e->aggregate.n_labels);
    add_text(out, "op", pql_agg_text(e->aggregate.op));
    add_node(out, "param", e->aggregate.param);
    add_text(out, "type", "aggregation");
    add_bool(out, "without", e->aggregate.without);
}

static void
print_node(ps_buf *out, const pql_expr *e)
{
    if (out->failed)
        return;
    if (e->kind == PQL_DURATION) {
        print_duration(out, e);
        return;
    }
    ps_buf_add_char(out, '{');
    switch (e->kind) {
    case PQL_NUMBER:
        add_text(out, "type", "numberLiteral");
        add_number(out, e->number.value);
        break;
    case PQL_TEXT:
        add_text(out, "type", "stringLiteral");
        add_key(out, "val");
        add_string(out, e->text);
        break;
    case PQL_SELECTOR:
        print_selector(out, &e->selector, NULL);
        break;
    case PQL_RANGE:
        print_selector(out, &e->range.selector->selector, e);
        break;
    case PQL_SUBQUERY:
        print_subquery(out, e);
        break;
    case PQL_CALL:
        print_call(out, e);
        break;
    case PQL_AGGREGATE:
        print_aggregate(out, e);
        break;
    case PQL_BINARY:
        print_binary(out, e);
        break;
    case PQL_UNARY:
        add_node(out, "expr", e->unary.of);
        add_text(out, "op", pql_op_text(e->unary.op));
        add_text(out, "type", "unaryExpr");
        break;
    case PQL_PAREN:
        add_node(out, "expr", e->paren);
        add_text(out, "type", "parenExpr");
        break;
    case PQL_DURATION:
        break;
    }
    ps_buf_add_char(out, '}');
}

void
pql_print_json(ps_buf *out, const pql_expr *expr)
{
    print_node(out, expr);
}
