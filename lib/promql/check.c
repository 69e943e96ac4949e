/*
 * check.c - does the tree make sense: types, arguments, what modifiers may stand where.
 *
 * Runs after the whole text has been parsed, so that a query with both kinds of faults reports the
 * one of its grammar. The order of the checks decides which of several faults is reported.
 */
#include "lib/promql/internal.h"
#include "lib/regex/regex.h"

static void check(pql_parser *p, pql_expr *e);

static bool
is_set_operator(pql_op op)
{
    return op == PQL_AND || op == PQL_OR || op == PQL_UNLESS;
}

static bool
is_comparison(pql_op op)
{
    return op >= PQL_EQ && op <= PQL_LE;
}

/* ---- matchers ---------------------------------------------------------------------------------- */

/* Compiles the pattern of a matcher; NULL and an error if there is none. It is the caller's. */
static re_matcher *
compile(pql_parser *p, const mdl_matcher *m, uint32_t from, uint32_t to)
{
    ps_err err;
    re_matcher *matcher = NULL;
    ps_status status = re_matcher_new(&p->arena->alloc, m, &matcher, &err);
    if (status == PS_ENOMEM)
        return pql_no_memory(p);
    return status == PS_OK ? matcher : pql_fail(p, from, to, "%s", err.text);
}

/* Patterns are compiled to see that they are patterns. */
bool
pql_check_matcher(pql_parser *p, const mdl_matcher *m, uint32_t from, uint32_t to)
{
    if (m->type == MDL_MATCH_RE || m->type == MDL_MATCH_NRE)
        re_matcher_free(compile(p, m, from, to));
    return p->status == PS_OK;
}

static bool
matches_empty(pql_parser *p, const pql_expr *e, const mdl_matcher *m)
{
    if (m->type == MDL_MATCH_EQ || m->type == MDL_MATCH_NE)
        return (m->type == MDL_MATCH_EQ) == (m->value.len == 0);
    re_matcher *matcher = compile(p, m, e->from, e->to);
    bool empty = matcher == NULL || re_matcher_matches_empty(matcher);
    re_matcher_free(matcher);
    return empty;
}

static void
check_selector(pql_parser *p, pql_expr *e, bool may_be_empty)
{
    const pql_selector *s = &e->selector;
    if (s->name.len > 0) {
        for (size_t i = 0; i + 1 < s->n_matchers; i++) {
            if (ps_str_eq_c(s->matchers[i].name, MDL_METRIC_NAME))
                pql_fail(p, e->from, e->to, "metric name must not be set twice: %q or %q", s->name,
                         s->matchers[i].value);
        }
        return;
    }
    for (size_t i = 0; i < s->n_matchers; i++) {
        if (may_be_empty || !matches_empty(p, e, &s->matchers[i]))
            return;
    }
    if (!may_be_empty)
        pql_fail(p, e->from, e->to, "vector selector must contain at least one non-empty matcher");
}

/* ---- operators --------------------------------------------------------------------------------- */

/* Where the operator between two operands begins. */
static uint32_t
operator_at(const pql_parser *p, const pql_expr *e)
{
    uint32_t at = e->binary.lhs->to;
    while (at < p->text.len && memchr(" \t\r\n", p->text.ptr[at], 4) != NULL)
        at++;
    return at;
}

static bool
is_in(const ps_str *sorted, size_t n, ps_str label)
{
    size_t low = 0;
    while (n > 0) {
        int order = ps_str_cmp(label, sorted[low + n / 2]);
        if (order == 0)
            return true;
        if (order > 0) {
            low += n / 2 + 1;
            n -= 1;
        }
        n /= 2;
    }
    return false;
}

/* Sorted first, since the lists are as long as a client likes. */
static void
check_labels_once(pql_parser *p, const pql_expr *e)
{
    const pql_matching *m = &e->binary.matching;
    if (!m->on || m->n_labels == 0 || m->n_include == 0)
        return;
    ps_str *sorted = pql_new_array(p, m->n_include, sizeof *sorted);
    if (sorted == NULL)
        return;
    memcpy(sorted, m->include, m->n_include * sizeof *sorted);
    pql_sort(sorted, m->n_include);
    for (size_t i = 0; i < m->n_labels; i++) {
        if (is_in(sorted, m->n_include, m->labels[i]))
            pql_fail(p, operator_at(p, e), e->binary.rhs->from,
                     "label %q must not occur in ON and GROUP clause at once", m->labels[i]);
    }
}

static void
check_operand(pql_parser *p, const pql_expr *e)
{
    if (e->type != PQL_SCALAR && e->type != PQL_VECTOR)
        pql_fail(p, e->from, e->to,
                 "binary expression must contain only scalar and instant vector types");
}

static void
check_matching(pql_parser *p, pql_expr *e)
{
    pql_matching *m = &e->binary.matching;
    const char *op = pql_op_text(e->binary.op);
    bool vectors = e->binary.lhs->type == PQL_VECTOR && e->binary.rhs->type == PQL_VECTOR;
    bool set = is_set_operator(e->binary.op);
    bool fill = m->has_fill_left || m->has_fill_right;
    if (!vectors) {
        if (m->n_labels > 0)
            pql_fail(p, e->from, e->to, "vector matching only allowed between instant vectors");
        if (fill)
            pql_fail(p, e->from, e->to,
                     "filling in missing series only allowed between instant vectors");
        e->binary.has_matching = false;
        *m = (pql_matching){.card = PQL_ONE_TO_ONE};
        if (set)
            pql_fail(p, e->from, e->to, "set operator %q not allowed in binary scalar expression",
                     ps_str_c(op));
    } else if (set) {
        if (m->card != PQL_ONE_TO_ONE)
            pql_fail(p, e->from, e->to, "no grouping allowed for %q operation", ps_str_c(op));
        if (fill)
            pql_fail(p, e->from, e->to, "filling in missing series not allowed for set operators");
        m->card = PQL_MANY_TO_MANY;
    }
}

static void
check_binary(pql_parser *p, pql_expr *e)
{
    bool compares = is_comparison(e->binary.op);
    check(p, e->binary.lhs);
    check(p, e->binary.rhs);
    if (e->binary.return_bool && !compares)
        pql_fail(p, operator_at(p, e), e->binary.rhs->from,
                 "bool modifier can only be used on comparison operators");
    if (compares && !e->binary.return_bool && e->binary.lhs->type == PQL_SCALAR &&
        e->binary.rhs->type == PQL_SCALAR)
        pql_fail(p, operator_at(p, e), e->binary.rhs->from,
                 "comparisons between scalars must use BOOL modifier");
    check_labels_once(p, e);
    check_operand(p, e->binary.lhs);
    check_operand(p, e->binary.rhs);
    check_matching(p, e);
}

/* ---- calls and aggregations -------------------------------------------------------------------- */

static void
check_argument_count(pql_parser *p, const pql_expr *e)
{
    const pql_function *fn = e->call.fn;
    size_t n = e->call.n_args;
    ps_str name = ps_str_c(fn->name);
    if (fn->variadic == 0) {
        if (n != fn->n_args)
            pql_fail(p, e->from, e->to, "expected %d argument(s) in call to %q, got %d",
                     (unsigned)fn->n_args, name, (unsigned)n);
        return;
    }
    size_t least = fn->n_args - 1U;
    if (n < least)
        pql_fail(p, e->from, e->to, "expected at least %d argument(s) in call to %q, got %d",
                 (unsigned)least, name, (unsigned)n);
    else if (fn->variadic > 0 && n > least + (size_t)fn->variadic)
        pql_fail(p, e->from, e->to, "expected at most %d argument(s) in call to %q, got %d",
                 (unsigned)(least + (size_t)fn->variadic), name, (unsigned)n);
}

/* The second argument of info() is a set of matchers that looks like a selector. */
static void
check_info(pql_parser *p, const pql_expr *e)
{
    const pql_expr *data = e->call.args[1];
    if (data->type != PQL_VECTOR)
        pql_fail(p, e->from, e->to, "expected type %s in call to function %q, got %s",
                 pql_type_text(PQL_VECTOR), PS_STR("info"), pql_type_text(data->type));
    if (data->kind != PQL_SELECTOR)
        pql_fail(p, data->from, data->to, "expected label selectors only");
    else if (data->selector.name.len > 0)
        pql_fail(p, data->from, data->to,
                 "expected label selectors only, got vector selector instead");
}

static void
check_call(pql_parser *p, pql_expr *e)
{
    const pql_function *fn = e->call.fn;
    check_argument_count(p, e);
    if (fn->id == PQL_FN_INFO && e->call.n_args > 1)
        check_info(p, e);
    for (size_t i = 0; i < e->call.n_args && p->status == PS_OK; i++) {
        pql_expr *arg = e->call.args[i];
        size_t declared = i < fn->n_args ? i : fn->n_args - 1U;
        if (fn->id == PQL_FN_INFO && i == 1 && arg->kind == PQL_SELECTOR)
            check_selector(p, arg, true);
        else
            check(p, arg);
        if (arg->type != fn->args[declared])
            pql_fail(p, arg->from, arg->to, "expected type %s in call to function %q, got %s",
                     pql_type_text(fn->args[declared]), ps_str_c(fn->name),
                     pql_type_text(arg->type));
    }
}

static void
expect_type(pql_parser *p, pql_expr *e, pql_type wanted, const char *where)
{
    check(p, e);
    if (e->type != wanted)
        pql_fail(p, e->from, e->to, "expected type %s in %s, got %s", pql_type_text(wanted), where,
                 pql_type_text(e->type));
}

static void
check_aggregate(pql_parser *p, pql_expr *e)
{
    expect_type(p, e->aggregate.of, PQL_VECTOR, "aggregation expression");
    if (e->aggregate.param != NULL)
        expect_type(p, e->aggregate.param,
                    e->aggregate.op == PQL_COUNT_VALUES ? PQL_STRING : PQL_SCALAR,
                    "aggregation parameter");
}

/* ---- all of them ------------------------------------------------------------------------------- */

static void
check_unary(pql_parser *p, pql_expr *e)
{
    check(p, e->unary.of);
    pql_type type = e->unary.of->type;
    if (type != PQL_SCALAR && type != PQL_VECTOR)
        pql_fail(p, e->from, e->to,
                 "unary expression only allowed on expressions of type scalar or instant vector, "
                 "got %q",
                 ps_str_c(pql_type_text(type)));
}

/* This one message names the types in the short form of the API. */
static const char *
short_type(pql_type type)
{
    return type == PQL_MATRIX ? "matrix" : type == PQL_VECTOR ? "vector" : pql_type_text(type);
}

static void
check(pql_parser *p, pql_expr *e)
{
    if (p->status != PS_OK)
        return;
    switch (e->kind) {
    case PQL_SELECTOR:
        check_selector(p, e, false);
        break;
    case PQL_RANGE:
        check_selector(p, e->range.selector, false);
        break;
    case PQL_SUBQUERY:
        check(p, e->subquery.of);
        if (e->subquery.of->type != PQL_VECTOR)
            pql_fail(p, e->from, e->to,
                     "subquery is only allowed on instant vector, got %s instead",
                     short_type(e->subquery.of->type));
        break;
    case PQL_CALL:
        check_call(p, e);
        break;
    case PQL_AGGREGATE:
        check_aggregate(p, e);
        break;
    case PQL_BINARY:
        check_binary(p, e);
        break;
    case PQL_UNARY:
        check_unary(p, e);
        break;
    case PQL_PAREN:
        check(p, e->paren);
        break;
    case PQL_NUMBER:
    case PQL_TEXT:
    case PQL_DURATION:
        break;
    }
}

void
pql_check(pql_parser *p, pql_expr *expr)
{
    check(p, expr);
}
