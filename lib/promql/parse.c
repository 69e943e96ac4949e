/*
 * parse.c - text to tree: the entries, and operators by precedence.
 *
 * A hand-written parser: each level of the grammar is a function, binary operators are one loop
 * that climbs their precedences, what follows an operand (ranges, offset, @) binds closest of all.
 * Unary plus and minus bind like multiplication: -1^2 is -(1^2). Messages name the construct that a
 * wrong token stands in; `place` of the parser holds the innermost one that has something to say.
 */
#include "lib/promql/internal.h"

typedef struct binary_op {
    pql_op op;
    int8_t precedence;
} binary_op;

static const binary_op binary_ops[T_TYPES] = {
    [T_OR] = {PQL_OR, PQL_PREC_OR},
    [T_AND] = {PQL_AND, PQL_PREC_AND},
    [T_UNLESS] = {PQL_UNLESS, PQL_PREC_AND},
    [T_EQLC] = {PQL_EQ, PQL_PREC_COMPARE},
    [T_NEQ] = {PQL_NE, PQL_PREC_COMPARE},
    [T_GTR] = {PQL_GT, PQL_PREC_COMPARE},
    [T_LSS] = {PQL_LT, PQL_PREC_COMPARE},
    [T_GTE] = {PQL_GE, PQL_PREC_COMPARE},
    [T_LTE] = {PQL_LE, PQL_PREC_COMPARE},
    [T_TRIM_UPPER] = {PQL_TRIM_UPPER, PQL_PREC_COMPARE},
    [T_TRIM_LOWER] = {PQL_TRIM_LOWER, PQL_PREC_COMPARE},
    [T_ADD] = {PQL_ADD, PQL_PREC_ADD},
    [T_SUB] = {PQL_SUB, PQL_PREC_ADD},
    [T_MUL] = {PQL_MUL, PQL_PREC_MUL},
    [T_DIV] = {PQL_DIV, PQL_PREC_MUL},
    [T_MOD] = {PQL_MOD, PQL_PREC_MUL},
    [T_ATAN2] = {PQL_ATAN2, PQL_PREC_MUL},
    [T_POW] = {PQL_POW, PQL_PREC_POW},
};

/* ---- lists of labels --------------------------------------------------------------------------- */

/* Every word is a label in a list of labels. Prometheus wants without, inf and nan in quotes there,
 * yet prints them bare: what is printed shall be read. */
bool
pql_is_label_name(pql_token_type t)
{
    return t == T_IDENTIFIER || t == T_METRIC_IDENTIFIER || (t >= T_AND && t < T_TYPES);
}

/* One more element; grows by doubling, since the arena forgets nothing. */
static bool
add_label(pql_parser *p, ps_str **labels, size_t n, ps_str label)
{
    if (n == 0 || (n >= 4 && (n & (n - 1)) == 0)) {
        ps_str *more = pql_new_array(p, n == 0 ? 4 : 2 * n, sizeof *more);
        if (more == NULL)
            return false;
        if (n > 0)
            memcpy(more, *labels, n * sizeof *more);
        *labels = more;
    }
    (*labels)[n] = label;
    return true;
}

static bool
take_label(pql_parser *p, ps_str *ret)
{
    pql_token_type type = pql_peek(p);
    bool word = type == T_NUMBER && (p->text.ptr[p->token.from] | 0x20) >= 'a'; /* inf, nan */
    if (type != T_STRING && !word && !pql_is_label_name(type)) {
        pql_unexpected_in(p, "grouping opts", "label");
        return false;
    }
    pql_token t = pql_take(p);
    if (type == T_STRING) {
        if (!pql_string(p, t, ret))
            return false;
        if (ret->len == 0 || !ps_utf8_valid(*ret)) {
            pql_fail(p, t.from, t.to, "invalid label name for grouping: %q", *ret);
            return false;
        }
        return true;
    }
    if (ps_arena_dup(p->arena, pql_token_text(p, t), ret) == PS_OK)
        return true;
    pql_no_memory(p);
    return false;
}

bool
pql_parse_label_list(pql_parser *p, ps_str **ret, size_t *ret_n, uint32_t *ret_to)
{
    ps_str *labels = NULL;
    size_t n = 0;
    if (pql_peek(p) != T_LEFT_PAREN) {
        pql_unexpected_in(p, "grouping opts", "\"(\"");
        return false;
    }
    pql_take(p);
    while (pql_peek(p) != T_RIGHT_PAREN) {
        ps_str label;
        if (!take_label(p, &label) || !add_label(p, &labels, n, label))
            return false;
        n++;
        if (pql_peek(p) == T_COMMA) {
            pql_take(p);
        } else if (pql_peek(p) != T_RIGHT_PAREN) {
            pql_unexpected_in(p, "grouping opts", "\",\" or \")\"");
            return false;
        }
    }
    *ret_to = pql_take(p).to;
    *ret = labels;
    *ret_n = n;
    return true;
}

/* ---- binary operators -------------------------------------------------------------------------- */

static bool
parse_fill_value(pql_parser *p, double *ret)
{
    bool negative = false;
    if (pql_peek(p) != T_LEFT_PAREN)
        goto unexpected;
    pql_take(p);
    if (pql_peek(p) == T_ADD || pql_peek(p) == T_SUB)
        negative = pql_take(p).type == T_SUB;
    if (pql_peek(p) != T_NUMBER && pql_peek(p) != T_DURATION)
        goto unexpected;
    pql_expr *number = pql_parse_literal(p);
    if (number == NULL)
        return false;
    if (pql_peek(p) != T_RIGHT_PAREN)
        goto unexpected;
    pql_take(p);
    *ret = negative ? -number->number.value : number->number.value;
    return true;

unexpected:
    pql_unexpected(p);
    return false;
}

static bool
parse_fill(pql_parser *p, pql_matching *m)
{
    pql_token_type first = pql_peek(p);
    if (first != T_FILL && first != T_FILL_LEFT && first != T_FILL_RIGHT)
        return first != T_ERROR;
    pql_take(p);
    if (first == T_FILL) {
        m->has_fill_left = m->has_fill_right = true;
        if (!parse_fill_value(p, &m->fill_left))
            return false;
        m->fill_right = m->fill_left;
        return true;
    }
    pql_token_type second = first == T_FILL_LEFT ? T_FILL_RIGHT : T_FILL_LEFT;
    double values[2] = {0, 0};
    bool both = false;
    if (!parse_fill_value(p, &values[0]))
        return false;
    if (pql_peek(p) == second) {
        pql_take(p);
        both = true;
        if (!parse_fill_value(p, &values[1]))
            return false;
    }
    m->has_fill_left = first == T_FILL_LEFT || both;
    m->has_fill_right = first == T_FILL_RIGHT || both;
    m->fill_left = values[first != T_FILL_LEFT];
    m->fill_right = values[first == T_FILL_LEFT];
    return true;
}

/* bool, on, ignoring, group_*, fill*: in this order, each may be absent. */
static bool
parse_modifiers(pql_parser *p, pql_expr *node)
{
    pql_matching *m = &node->binary.matching;
    uint32_t to;
    if (pql_peek(p) == T_BOOL) {
        pql_take(p);
        node->binary.return_bool = true;
    }
    if (pql_peek(p) == T_ON || pql_peek(p) == T_IGNORING) {
        m->on = pql_take(p).type == T_ON;
        if (!pql_parse_label_list(p, &m->labels, &m->n_labels, &to))
            return false;
        if (pql_peek(p) == T_GROUP_LEFT || pql_peek(p) == T_GROUP_RIGHT) {
            m->card = pql_take(p).type == T_GROUP_LEFT ? PQL_MANY_TO_ONE : PQL_ONE_TO_MANY;
            /* The list may be absent, if an operand follows. */
            pql_token_type next = pql_peek(p);
            if ((next == T_LEFT_PAREN || !pql_starts_expr(next)) &&
                !pql_parse_label_list(p, &m->include, &m->n_include, &to))
                return false;
        }
    }
    return parse_fill(p, m);
}

static pql_expr *
parse_binary(pql_parser *p, pql_expr *lhs, const binary_op *op)
{
    pql_take(p);
    pql_expr *node = pql_new(p, PQL_BINARY, lhs->from, lhs->to);
    if (node == NULL || !parse_modifiers(p, node))
        return NULL;
    bool right_associative = op->op == PQL_POW;
    pql_expr *rhs = pql_parse_expr(p, op->precedence + !right_associative);
    if (rhs == NULL || !pql_over(p, node, lhs) || !pql_over(p, node, rhs))
        return NULL;
    const pql_matching *m = &node->binary.matching;
    if (!p->options.fill && (m->has_fill_left || m->has_fill_right))
        return pql_fail(p, lhs->from, rhs->to,
                        "binop fill modifiers are experimental and not enabled");
    bool scalar = lhs->type == PQL_SCALAR && rhs->type == PQL_SCALAR;
    node->type = scalar ? PQL_SCALAR : PQL_VECTOR;
    node->to = rhs->to;
    node->binary.op = op->op;
    node->binary.lhs = lhs;
    node->binary.rhs = rhs;
    node->binary.has_matching = true; /* the check clears it where it means nothing */
    return node;
}

static pql_expr *
parse_unary(pql_parser *p)
{
    pql_token_type type = pql_peek(p);
    if (type != T_ADD && type != T_SUB) {
        pql_expr *primary = pql_parse_primary(p);
        return primary == NULL ? NULL : pql_parse_postfix(p, primary);
    }
    pql_token sign = pql_take(p);
    pql_expr *of = pql_parse_expr(p, PQL_PREC_POW);
    if (of == NULL)
        return NULL;
    if (of->kind == PQL_NUMBER) {
        if (type == T_SUB)
            of->number.value = -of->number.value;
        of->from = sign.from;
        return of;
    }
    pql_expr *node = pql_new(p, PQL_UNARY, sign.from, of->to);
    if (node == NULL || !pql_over(p, node, of))
        return NULL;
    node->type = of->type;
    node->unary.op = type == T_SUB ? PQL_SUB : PQL_ADD;
    node->unary.of = of;
    return node;
}

pql_expr *
pql_parse_expr(pql_parser *p, int precedence)
{
    pql_expr *expr = pql_enter(p) ? parse_unary(p) : NULL;
    while (expr != NULL) {
        pql_token_type type = pql_peek(p);
        const binary_op *op = &binary_ops[type];
        if (type == T_ERROR)
            expr = NULL;
        else if (op->precedence == 0 || op->precedence < precedence)
            break;
        else
            expr = parse_binary(p, expr, op);
    }
    pql_leave(p);
    return expr;
}

/* ---- entries ----------------------------------------------------------------------------------- */

static bool
at_end(pql_parser *p)
{
    if (pql_peek(p) == T_EOF)
        return true;
    pql_unexpected(p);
    return false;
}

ps_status
pql_parse(ps_arena *arena, ps_str text, const pql_options *options, pql_expr **ret,
          pql_error *error)
{
    pql_parser p;
    pql_expr *expr = NULL;
    pql_parser_init(&p, arena, text, error);
    p.options = *options;
    if (pql_peek(&p) == T_EOF)
        pql_fail(&p, 0, 0, "no expression found in input");
    else
        expr = pql_parse_expr(&p, PQL_PREC_OR);
    if (expr != NULL && at_end(&p))
        pql_check(&p, expr);
    if (p.status == PS_OK)
        *ret = expr;
    return p.status;
}

ps_status
pql_parse_selector(ps_arena *arena, ps_str text, pql_expr **ret, pql_error *error)
{
    pql_parser p;
    pql_expr *expr = NULL;
    pql_parser_init(&p, arena, text, error);
    if (pql_peek(&p) == T_LEFT_BRACE) {
        expr = pql_parse_braces(&p, (pql_token){0}, false);
    } else if (pql_is_metric_name(pql_peek(&p))) {
        pql_token name = pql_take(&p);
        expr = pql_parse_braces(&p, name, true);
    } else {
        pql_unexpected(&p);
    }
    if (expr != NULL && at_end(&p))
        *ret = expr;
    return p.status;
}
