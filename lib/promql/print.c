/*
 * print.c - tree to canonical text on one line.
 *
 * What is printed parses to the same tree (positions aside). Matchers are sorted as texts, labels
 * are quoted only where they must be, numbers have no exponent, durations are as short as possible.
 * Modifiers of an instant selector stand in the order @, anchored, offset, those of a range selector
 * have anchored before @.
 */
#include "lib/promql/internal.h"

bool
pql_is_plain_name(ps_str name, bool colon)
{
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        bool alpha = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
        if (!alpha && !(c >= '0' && c <= '9' && i > 0) && !(c == ':' && colon))
            return false;
    }
    return name.len > 0;
}

static void
print_name(ps_buf *out, ps_str name)
{
    if (pql_is_plain_name(name, false))
        ps_buf_add_str(out, name);
    else
        pql_quote(out, name);
}

void
pql_print_labels(ps_buf *out, const ps_str *labels, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            ps_buf_add_c(out, ", ");
        print_name(out, labels[i]);
    }
}

void
pql_print_duration(ps_buf *out, int64_t ms)
{
    char text[PS_DURATION_TEXT];
    ps_format_duration(text, sizeof text, ms);
    ps_buf_add_c(out, text);
}

static void
print_number(ps_buf *out, double value, bool duration)
{
    char text[PS_DOUBLE_PLAIN_TEXT];
    double limit = 9.2e15;
    if (duration && ps_bits_of(value) == ps_bits_of(-0.0)) {
        ps_buf_add_c(out, "-0s");
        return;
    }
    if (duration && value < limit && value > -limit) {
        double ms = value * 1000;
        pql_print_duration(out, (int64_t)(ms < 0 ? ms - 0.5 : ms + 0.5));
        return;
    }
    ps_format_double_plain(text, value);
    ps_buf_add_c(out, text);
}

/* ---- duration expressions ---------------------------------------------------------------------- */

static void
print_duration_expr(ps_buf *out, const pql_expr *e)
{
    if (e->kind == PQL_NUMBER) {
        print_number(out, e->number.value, e->number.duration);
        return;
    }
    pql_op op = e->duration.op;
    if (e->duration.wrapped)
        ps_buf_add_char(out, '(');
    if (op >= PQL_DUR_STEP) {
        ps_buf_add_c(out, pql_op_text(op));
        ps_buf_add_char(out, '(');
        if (e->duration.lhs != NULL) {
            print_duration_expr(out, e->duration.lhs);
            ps_buf_add_c(out, ", ");
            print_duration_expr(out, e->duration.rhs);
        }
        ps_buf_add_char(out, ')');
    } else {
        if (e->duration.lhs != NULL) {
            print_duration_expr(out, e->duration.lhs);
            ps_buf_add_char(out, ' ');
        }
        /* A plus before a number is the mark of its parentheses. */
        if (e->duration.lhs != NULL || op == PQL_SUB || e->duration.rhs->kind == PQL_DURATION)
            ps_buf_add_c(out, pql_op_text(op));
        if (e->duration.lhs != NULL)
            ps_buf_add_char(out, ' ');
        print_duration_expr(out, e->duration.rhs);
    }
    if (e->duration.wrapped)
        ps_buf_add_char(out, ')');
}

static void
print_duration_or(ps_buf *out, const pql_expr *computed, int64_t ms)
{
    if (computed != NULL)
        print_duration_expr(out, computed);
    else
        pql_print_duration(out, ms);
}

/* A range of less than a millisecond cuts to zero, which could not be read again. */
static void
print_range_duration(ps_buf *out, const pql_expr *computed, int64_t ms)
{
    if (computed == NULL && ms == 0)
        ps_buf_add_c(out, "0.0001");
    else
        print_duration_or(out, computed, ms);
}

static void
print_offset(ps_buf *out, const pql_when *when)
{
    if (!when->has_offset)
        return;
    ps_buf_add_c(out, " offset ");
    print_duration_or(out, when->offset_expr, when->offset_ms);
}

static void
print_at(ps_buf *out, const pql_when *when)
{
    switch (when->at) {
    case PQL_AT_NONE:
        break;
    case PQL_AT_START:
        ps_buf_add_c(out, " @ start()");
        break;
    case PQL_AT_END:
        ps_buf_add_c(out, " @ end()");
        break;
    case PQL_AT_TIME: {
        uint64_t size = when->at_ms < 0 ? -(uint64_t)when->at_ms : (uint64_t)when->at_ms;
        ps_buf_addf(out, " @ %s%llu.%03u", when->at_ms < 0 ? "-" : "",
                    (unsigned long long)(size / 1000), (unsigned)(size % 1000));
        break;
    }
    }
}

/* ---- selectors --------------------------------------------------------------------------------- */

static void
print_matcher(ps_buf *out, const mdl_matcher *m)
{
    static const char *const ops[] = {
        [MDL_MATCH_EQ] = "=", [MDL_MATCH_NE] = "!=", [MDL_MATCH_RE] = "=~", [MDL_MATCH_NRE] = "!~"};
    print_name(out, m->name);
    ps_buf_add_c(out, ops[m->type]);
    pql_quote(out, m->value);
}

/* The matcher that stands for the name before the braces. */
static bool
is_name_matcher(const pql_selector *s, const mdl_matcher *m)
{
    return m->type == MDL_MATCH_EQ && m->value.len > 0 && ps_str_eq(m->value, s->name) &&
           ps_str_eq_c(m->name, MDL_METRIC_NAME);
}

/* The n matchers that are printed, one text after the other, are sorted and then copied to out. */
static void
print_sorted(ps_buf *out, const pql_selector *s, size_t n)
{
    ps_buf texts;
    size_t k = 0, from = 0;
    ps_str *sorted = ps_alloc_array(&out->alloc, n, sizeof *sorted);
    ps_buf_init(&texts, &out->alloc);
    texts.max = out->max; /* more would not fit anyway */
    for (size_t i = 0; sorted != NULL && i < s->n_matchers && !texts.failed; i++) {
        if (is_name_matcher(s, &s->matchers[i]))
            continue;
        print_matcher(&texts, &s->matchers[i]);
        sorted[k++].len = texts.len; /* its end, while texts may move */
    }
    if (sorted == NULL || texts.failed) {
        out->failed = true;
    } else {
        for (size_t i = 0; i < n; i++) {
            size_t end = sorted[i].len;
            sorted[i] = (ps_str){texts.ptr + from, end - from};
            from = end;
        }
        pql_sort(sorted, n);
        for (size_t i = 0; i < n; i++) {
            if (i > 0)
                ps_buf_add_char(out, ',');
            ps_buf_add_str(out, sorted[i]);
        }
    }
    ps_alloc_free(&out->alloc, sorted, n * sizeof *sorted);
    ps_buf_done(&texts);
}

static void
print_name_and_matchers(ps_buf *out, const pql_selector *s)
{
    size_t n = 0;
    ps_buf_add_str(out, s->name);
    for (size_t i = 0; i < s->n_matchers; i++)
        n += !is_name_matcher(s, &s->matchers[i]);
    if (n == 0 && s->name.len > 0)
        return;
    ps_buf_add_char(out, '{');
    if (n == 1) {
        for (size_t i = 0; i < s->n_matchers; i++) {
            if (!is_name_matcher(s, &s->matchers[i]))
                print_matcher(out, &s->matchers[i]);
        }
    } else if (n > 1) {
        print_sorted(out, s, n);
    }
    ps_buf_add_char(out, '}');
}

static void
print_edge(ps_buf *out, pql_edge edge)
{
    if (edge != PQL_PLAIN)
        ps_buf_add_c(out, edge == PQL_ANCHORED ? " anchored" : " smoothed");
}

static void
print_selector(ps_buf *out, const pql_selector *s)
{
    print_name_and_matchers(out, s);
    print_at(out, &s->when);
    print_edge(out, s->edge);
    print_offset(out, &s->when);
}

static void
print_range(ps_buf *out, const pql_expr *e)
{
    const pql_selector *s = &e->range.selector->selector;
    print_name_and_matchers(out, s);
    ps_buf_add_char(out, '[');
    print_range_duration(out, e->range.range_expr, e->range.range_ms);
    ps_buf_add_char(out, ']');
    print_edge(out, s->edge);
    print_at(out, &s->when);
    print_offset(out, &s->when);
}

void
pql_print_subquery_tail(ps_buf *out, const pql_expr *e)
{
    ps_buf_add_char(out, '[');
    print_range_duration(out, e->subquery.range_expr, e->subquery.range_ms);
    ps_buf_add_char(out, ':');
    if (e->subquery.step_expr != NULL || e->subquery.step_ms != 0)
        print_duration_or(out, e->subquery.step_expr, e->subquery.step_ms);
    ps_buf_add_char(out, ']');
    print_at(out, &e->subquery.when);
    print_offset(out, &e->subquery.when);
}

/* ---- operators, calls -------------------------------------------------------------------------- */

static void
print_fill(ps_buf *out, const char *word, double value)
{
    char text[PS_DOUBLE_TEXT];
    ps_format_double_go(text, value);
    ps_buf_addf(out, " %s (%s)", word, text);
}

static void
print_matching(ps_buf *out, const pql_matching *m)
{
    bool grouped = m->card == PQL_MANY_TO_ONE || m->card == PQL_ONE_TO_MANY;
    if (m->n_labels > 0 || m->on || grouped) {
        ps_buf_add_c(out, m->on ? " on (" : " ignoring (");
        pql_print_labels(out, m->labels, m->n_labels);
        ps_buf_add_char(out, ')');
    }
    if (grouped) {
        ps_buf_add_c(out, m->card == PQL_MANY_TO_ONE ? " group_left (" : " group_right (");
        pql_print_labels(out, m->include, m->n_include);
        ps_buf_add_char(out, ')');
    }
    /* Equal, and no zeros of different sign. */
    if (m->has_fill_left && m->has_fill_right && m->fill_left == m->fill_right &&
        ps_bits_of(m->fill_left) == ps_bits_of(m->fill_right)) {
        print_fill(out, "fill", m->fill_left);
        return;
    }
    if (m->has_fill_left)
        print_fill(out, "fill_left", m->fill_left);
    if (m->has_fill_right)
        print_fill(out, "fill_right", m->fill_right);
}

void
pql_print_operator(ps_buf *out, const pql_expr *e)
{
    ps_buf_add_c(out, pql_op_text(e->binary.op));
    if (e->binary.return_bool)
        ps_buf_add_c(out, " bool");
    if (e->binary.has_matching)
        print_matching(out, &e->binary.matching);
}

void
pql_print_aggregate_head(ps_buf *out, const pql_expr *e)
{
    ps_buf_add_c(out, pql_agg_text(e->aggregate.op));
    if (!e->aggregate.without && e->aggregate.n_labels == 0)
        return;
    ps_buf_add_c(out, e->aggregate.without ? " without (" : " by (");
    pql_print_labels(out, e->aggregate.labels, e->aggregate.n_labels);
    ps_buf_add_c(out, ") ");
}

static void
print_aggregate(ps_buf *out, const pql_expr *e)
{
    pql_print_aggregate_head(out, e);
    ps_buf_add_char(out, '(');
    if (e->aggregate.param != NULL) {
        pql_print(out, e->aggregate.param);
        ps_buf_add_c(out, ", ");
    }
    pql_print(out, e->aggregate.of);
    ps_buf_add_char(out, ')');
}

static void
print_call(ps_buf *out, const pql_expr *e)
{
    ps_buf_add_c(out, e->call.fn->name);
    ps_buf_add_char(out, '(');
    for (size_t i = 0; i < e->call.n_args && !out->failed; i++) {
        if (i > 0)
            ps_buf_add_c(out, ", ");
        pql_print(out, e->call.args[i]);
    }
    ps_buf_add_char(out, ')');
}

void
pql_print(ps_buf *out, const pql_expr *e)
{
    if (out->failed) /* a line that is long enough costs no more */
        return;
    switch (e->kind) {
    case PQL_NUMBER:
        print_number(out, e->number.value, e->number.duration);
        break;
    case PQL_TEXT:
        pql_quote(out, e->text);
        break;
    case PQL_SELECTOR:
        print_selector(out, &e->selector);
        break;
    case PQL_RANGE:
        print_range(out, e);
        break;
    case PQL_SUBQUERY:
        pql_print(out, e->subquery.of);
        pql_print_subquery_tail(out, e);
        break;
    case PQL_CALL:
        print_call(out, e);
        break;
    case PQL_AGGREGATE:
        print_aggregate(out, e);
        break;
    case PQL_BINARY:
        pql_print(out, e->binary.lhs);
        ps_buf_add_char(out, ' ');
        pql_print_operator(out, e);
        ps_buf_add_char(out, ' ');
        pql_print(out, e->binary.rhs);
        break;
    case PQL_UNARY:
        ps_buf_add_c(out, pql_op_text(e->unary.op));
        pql_print(out, e->unary.of);
        break;
    case PQL_PAREN:
        ps_buf_add_char(out, '(');
        pql_print(out, e->paren);
        ps_buf_add_char(out, ')');
        break;
    case PQL_DURATION:
        print_duration_expr(out, e);
        break;
    }
}
