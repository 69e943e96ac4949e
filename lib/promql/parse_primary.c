/*
 * parse_primary.c - operands: literals, parentheses, selectors, calls, aggregations.
 *
 * Most keywords are metric names where no keyword can stand, and the names of aggregations and of a
 * few functions are metric names unless a parenthesis (or by, without) follows.
 */
#include "lib/promql/internal.h"

bool
pql_is_metric_name(pql_token_type t)
{
    switch (t) {
    case T_IDENTIFIER:
    case T_METRIC_IDENTIFIER:
    case T_AND:
    case T_OR:
    case T_UNLESS:
    case T_BY:
    case T_WITHOUT:
    case T_FILL:
    case T_FILL_LEFT:
    case T_FILL_RIGHT:
    case T_OFFSET:
    case T_ANCHORED:
    case T_SMOOTHED:
        return true;
    default:
        return pql_is_aggregator(t) || (t >= T_START && t <= T_MIN_OF);
    }
}

bool
pql_starts_expr(pql_token_type t)
{
    return pql_is_metric_name(t) || t == T_NUMBER || t == T_DURATION || t == T_STRING ||
           t == T_LEFT_PAREN || t == T_LEFT_BRACE || t == T_ADD || t == T_SUB;
}

/* ---- selectors --------------------------------------------------------------------------------- */

typedef struct matchers {
    mdl_matcher *items;
    size_t n, cap;
} matchers;

static bool
add_matcher(pql_parser *p, matchers *list, mdl_matcher m)
{
    if (list->n == list->cap) {
        size_t cap = list->cap == 0 ? 4 : 2 * list->cap;
        mdl_matcher *more = pql_new_array(p, cap, sizeof *more);
        if (more == NULL)
            return false;
        if (list->n > 0)
            memcpy(more, list->items, list->n * sizeof *more);
        list->items = more;
        list->cap = cap;
    }
    list->items[list->n++] = m;
    return true;
}

static bool
match_of(pql_token_type t, mdl_match *ret)
{
    switch (t) {
    case T_EQL:
        *ret = MDL_MATCH_EQ;
        return true;
    case T_NEQ:
        *ret = MDL_MATCH_NE;
        return true;
    case T_EQL_REGEX:
        *ret = MDL_MATCH_RE;
        return true;
    case T_NEQ_REGEX:
        *ret = MDL_MATCH_NRE;
        return true;
    default:
        return false;
    }
}

static bool
parse_matcher(pql_parser *p, matchers *list)
{
    mdl_matcher m = {MDL_MATCH_EQ, PS_STR(MDL_METRIC_NAME), {NULL, 0}};
    pql_token_type type = pql_peek(p);
    if (type != T_IDENTIFIER && type != T_STRING) {
        pql_unexpected_in(p, "label matching", "identifier or \"}\"");
        return false;
    }
    pql_token name = pql_take(p);
    ps_str text = pql_token_text(p, name);
    if (type == T_IDENTIFIER) {
        if (ps_arena_dup(p->arena, text, &text) != PS_OK) {
            pql_no_memory(p);
            return false;
        }
    } else if (!pql_string(p, name, &text)) {
        return false;
    }
    if (!match_of(pql_peek(p), &m.type)) {
        if (type == T_STRING) { /* a metric name in quotes */
            m.value = text;
            return p->status == PS_OK && add_matcher(p, list, m);
        }
        pql_unexpected_in(p, "label matching", "label matching operator");
        return false;
    }
    pql_take(p);
    if (pql_peek(p) != T_STRING) {
        pql_unexpected_in(p, "label matching", "string");
        return false;
    }
    pql_token value = pql_take(p);
    m.name = text;
    return pql_string(p, value, &m.value) && pql_check_matcher(p, &m, name.from, value.to) &&
           add_matcher(p, list, m);
}

/* From the left brace to the right one. */
static bool
parse_matchers(pql_parser *p, matchers *list, uint32_t *ret_to)
{
    pql_take(p);
    while (pql_peek(p) != T_RIGHT_BRACE) {
        if (!parse_matcher(p, list))
            return false;
        if (pql_peek(p) == T_COMMA) {
            pql_take(p);
        } else if (pql_peek(p) != T_RIGHT_BRACE) {
            pql_unexpected_in(p, "label matching", "\",\" or \"}\"");
            return false;
        }
    }
    *ret_to = pql_take(p).to;
    return true;
}

pql_expr *
pql_parse_braces(pql_parser *p, pql_token name, bool has_name)
{
    matchers list = {NULL, 0, 0};
    bool braces = pql_peek(p) == T_LEFT_BRACE;
    uint32_t from = has_name ? name.from : p->token.from;
    uint32_t to = name.to;
    if (p->status != PS_OK || (braces && !parse_matchers(p, &list, &to)))
        return NULL;
    pql_expr *node = pql_new(p, PQL_SELECTOR, from, to);
    if (node == NULL)
        return NULL;
    if (has_name) {
        if (ps_arena_dup(p->arena, pql_token_text(p, name), &node->selector.name) != PS_OK)
            return pql_no_memory(p);
        mdl_matcher m = {MDL_MATCH_EQ, PS_STR(MDL_METRIC_NAME), node->selector.name};
        if (!add_matcher(p, &list, m))
            return NULL;
    }
    node->type = PQL_VECTOR;
    node->selector.matchers = list.items;
    node->selector.n_matchers = list.n;
    return node;
}

/* ---- calls and aggregations --------------------------------------------------------------------- */

typedef struct arguments {
    pql_expr **items;
    size_t n, cap;
    uint32_t to; /* behind the closing parenthesis */
} arguments;

static bool
add_argument(pql_parser *p, arguments *list, pql_expr *expr)
{
    if (list->n == list->cap) {
        size_t cap = list->cap == 0 ? 2 : 2 * list->cap;
        pql_expr **more = pql_new_array(p, cap, sizeof *more);
        if (more == NULL)
            return false;
        if (list->n > 0)
            memcpy(more, list->items, list->n * sizeof *more);
        list->items = more;
        list->cap = cap;
    }
    list->items[list->n++] = expr;
    return true;
}

/* From the left parenthesis to the right one. */
static bool
parse_arguments(pql_parser *p, arguments *list)
{
    if (pql_peek(p) != T_LEFT_PAREN) {
        pql_unexpected(p);
        return false;
    }
    pql_take(p);
    while (pql_peek(p) != T_RIGHT_PAREN || list->n > 0) {
        pql_expr *expr = pql_parse_expr(p, PQL_PREC_OR);
        if (expr == NULL || !add_argument(p, list, expr))
            return false;
        if (pql_peek(p) == T_RIGHT_PAREN)
            break;
        if (pql_peek(p) != T_COMMA) {
            pql_unexpected(p);
            return false;
        }
        pql_token comma = pql_take(p);
        if (!pql_starts_expr(pql_peek(p))) {
            pql_fail(p, comma.from, comma.to, "trailing commas not allowed in function call args");
            return false;
        }
    }
    list->to = pql_take(p).to;
    return p->status == PS_OK;
}

pql_expr *
pql_parse_call(pql_parser *p, pql_token name)
{
    arguments args = {NULL, 0, 0, 0};
    if (!parse_arguments(p, &args))
        return NULL;
    ps_str text = pql_token_text(p, name);
    const pql_function *fn = pql_function_named(text);
    if (fn == NULL)
        return pql_fail(p, name.from, name.to, "unknown function with name %q", text);
    if (fn->experimental && !p->options.experimental_functions)
        return pql_fail(p, name.from, name.to, "function %q is not enabled", text);
    pql_expr *node = pql_new(p, PQL_CALL, name.from, args.to);
    if (node == NULL)
        return NULL;
    node->type = fn->returns;
    node->call.fn = fn;
    node->call.args = args.items;
    node->call.n_args = args.n;
    for (size_t i = 0; i < args.n; i++) {
        if (!pql_over(p, node, args.items[i]))
            return NULL;
    }
    return node;
}

/* by (...) or without (...), which has been peeked at. */
static bool
parse_grouping(pql_parser *p, pql_expr *node)
{
    node->aggregate.without = pql_take(p).type == T_WITHOUT;
    return pql_parse_label_list(p, &node->aggregate.labels, &node->aggregate.n_labels, &node->to);
}

static bool
set_operands(pql_parser *p, pql_expr *node, const arguments *args)
{
    pql_agg op = node->aggregate.op;
    bool has_param = op == PQL_TOPK || op == PQL_BOTTOMK || op == PQL_COUNT_VALUES ||
                     op == PQL_QUANTILE || op == PQL_LIMITK || op == PQL_LIMIT_RATIO;
    size_t wanted = has_param ? 2 : 1;
    if (args->n == 0) {
        pql_fail(p, node->from, node->to, "no arguments for aggregate expression provided");
    } else if ((op == PQL_LIMITK || op == PQL_LIMIT_RATIO) && !p->options.experimental_functions) {
        pql_fail(p, node->from, node->to,
                 "%s() is experimental and must be enabled with "
                 "--enable-feature=promql-experimental-functions",
                 pql_agg_text(op));
    } else if (args->n != wanted) {
        pql_fail(p, node->from, node->to,
                 "wrong number of arguments for aggregate expression provided, expected %d, got %d",
                 (unsigned)wanted, (unsigned)args->n);
    } else {
        node->aggregate.of = args->items[wanted - 1];
        node->aggregate.param = has_param ? args->items[0] : NULL;
        return pql_over(p, node, args->items[0]) && pql_over(p, node, args->items[wanted - 1]);
    }
    return false;
}

pql_expr *
pql_parse_aggregate(pql_parser *p, pql_token op)
{
    static const pql_place aggregation = {"aggregation", ""};
    const pql_place *outer = p->place;
    arguments args = {NULL, 0, 0, 0};
    pql_expr *node = pql_new(p, PQL_AGGREGATE, op.from, op.to);
    if (node == NULL)
        return NULL;
    node->type = PQL_VECTOR;
    node->aggregate.op = (pql_agg)(op.type - T_SUM);
    p->place = &aggregation;
    bool first = pql_peek(p) != T_LEFT_PAREN;
    if (first && !parse_grouping(p, node))
        return NULL;
    if (!parse_arguments(p, &args))
        return NULL;
    node->to = args.to;
    if (!first && (pql_peek(p) == T_BY || pql_peek(p) == T_WITHOUT) && !parse_grouping(p, node))
        return NULL;
    p->place = outer;
    return p->status == PS_OK && set_operands(p, node, &args) ? node : NULL;
}

/* ---- all of them ------------------------------------------------------------------------------- */

static pql_expr *
parse_paren(pql_parser *p)
{
    pql_token open = pql_take(p);
    pql_expr *of = pql_parse_expr(p, PQL_PREC_OR);
    if (of == NULL)
        return NULL;
    if (pql_peek(p) != T_RIGHT_PAREN)
        return pql_unexpected(p);
    pql_expr *node = pql_new(p, PQL_PAREN, open.from, pql_take(p).to);
    if (node == NULL || !pql_over(p, node, of))
        return NULL;
    node->type = of->type;
    node->paren = of;
    return node;
}

static pql_expr *
parse_string(pql_parser *p)
{
    pql_token t = pql_take(p);
    pql_expr *node = pql_new(p, PQL_TEXT, t.from, t.to);
    if (node == NULL || !pql_string(p, t, &node->text))
        return NULL;
    node->type = PQL_STRING;
    return node;
}

pql_expr *
pql_parse_primary(pql_parser *p)
{
    pql_token_type type = pql_peek(p);
    switch (type) {
    case T_NUMBER:
    case T_DURATION:
        return pql_parse_literal(p);
    case T_STRING:
        return parse_string(p);
    case T_LEFT_PAREN:
        return parse_paren(p);
    case T_LEFT_BRACE:
        return pql_parse_braces(p, (pql_token){0}, false);
    default:
        break;
    }
    if (!pql_is_metric_name(type))
        return pql_unexpected(p);
    pql_token name = pql_take(p);
    pql_token_type next = pql_peek(p);
    if (pql_is_aggregator(type) && (next == T_LEFT_PAREN || next == T_BY || next == T_WITHOUT))
        return pql_parse_aggregate(p, name);
    if (next == T_LEFT_PAREN && (type == T_IDENTIFIER || (type >= T_START && type <= T_MIN_OF)))
        return pql_parse_call(p, name);
    return pql_parse_braces(p, name, true);
}
