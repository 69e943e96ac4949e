/*
 * parse_duration.c - durations that are computed: inside brackets and after offset.
 *
 * Arithmetic over literals, step(), range(), min_of() and max_of(), with the precedences of ordinary
 * expressions. A literal with a sign stays a literal. A literal in parentheses becomes a unary plus
 * that remembers its parentheses, so that printing shows them.
 *
 * After offset the grammar is narrower, because what follows may be an operator of the expression:
 * a literal, a call, either with a sign, and a signed parenthesis end the duration at once; only
 * after an unsigned parenthesis, or after two signs, operators still belong to it.
 */
#include "lib/promql/internal.h"

typedef struct duration_op {
    pql_op op;
    int8_t precedence;
} duration_op;

static duration_op
op_of(pql_token_type t)
{
    switch (t) {
    case T_ADD:
        return (duration_op){PQL_ADD, PQL_PREC_ADD};
    case T_SUB:
        return (duration_op){PQL_SUB, PQL_PREC_ADD};
    case T_MUL:
        return (duration_op){PQL_MUL, PQL_PREC_MUL};
    case T_DIV:
        return (duration_op){PQL_DIV, PQL_PREC_MUL};
    case T_MOD:
        return (duration_op){PQL_MOD, PQL_PREC_MUL};
    case T_POW:
        return (duration_op){PQL_POW, PQL_PREC_POW};
    default:
        return (duration_op){PQL_OP_NONE, 0};
    }
}

static bool
is_literal(pql_token_type t)
{
    return t == T_NUMBER || t == T_DURATION;
}

/* lhs may be NULL, or both. */
static pql_expr *
new_duration(pql_parser *p, pql_op op, uint32_t from, uint32_t to, pql_expr *lhs, pql_expr *rhs)
{
    pql_expr *node = pql_new(p, PQL_DURATION, from, to);
    if (node == NULL || (lhs != NULL && !pql_over(p, node, lhs)) ||
        (rhs != NULL && !pql_over(p, node, rhs)))
        return NULL;
    node->type = PQL_SCALAR;
    node->duration.op = op;
    node->duration.lhs = lhs;
    node->duration.rhs = rhs;
    return node;
}

/* A literal with its sign; *sign is NULL if it has none. */
static pql_expr *
parse_literal(pql_parser *p, const pql_token *sign)
{
    pql_expr *number = pql_parse_literal(p);
    if (number == NULL)
        return NULL;
    uint32_t from = number->from;
    if (sign != NULL) {
        from = sign->from;
        if (sign->type == T_SUB)
            number->number.value = -number->number.value;
    }
    if (pql_seconds_out_of_range(number->number.value))
        return pql_fail(p, from, number->to, "duration out of range");
    number->from = from;
    return number;
}

static bool
take(pql_parser *p, pql_token_type type, uint32_t *ret_to)
{
    if (pql_peek(p) != type) {
        pql_unexpected(p);
        return false;
    }
    *ret_to = pql_take(p).to;
    return true;
}

/* step(), range(), min_of(a, b), max_of(a, b). */
static pql_expr *
parse_call(pql_parser *p)
{
    pql_token name = pql_take(p);
    pql_expr *lhs = NULL, *rhs = NULL;
    pql_op op = name.type == T_STEP     ? PQL_DUR_STEP
                : name.type == T_RANGE  ? PQL_DUR_RANGE
                : name.type == T_MIN_OF ? PQL_DUR_MIN_OF
                                        : PQL_DUR_MAX_OF;
    uint32_t to;
    if (!take(p, T_LEFT_PAREN, &to))
        return NULL;
    if (op == PQL_DUR_MIN_OF || op == PQL_DUR_MAX_OF) {
        lhs = pql_parse_duration(p, PQL_PREC_ADD);
        if (lhs == NULL || !take(p, T_COMMA, &to))
            return NULL;
        rhs = pql_parse_duration(p, PQL_PREC_ADD);
        if (rhs == NULL)
            return NULL;
    }
    if (!take(p, T_RIGHT_PAREN, &to))
        return NULL;
    return new_duration(p, op, name.from, to, lhs, rhs);
}

static pql_expr *
parse_paren(pql_parser *p)
{
    pql_token open = pql_take(p);
    uint32_t to;
    pql_expr *inner = pql_parse_duration(p, PQL_PREC_ADD);
    if (inner == NULL || !take(p, T_RIGHT_PAREN, &to))
        return NULL;
    if (inner->kind != PQL_DURATION) {
        inner = new_duration(p, PQL_ADD, open.from, inner->to, NULL, inner);
        if (inner == NULL)
            return NULL;
    }
    inner->duration.wrapped = true;
    return inner;
}

static pql_expr *
with_sign(pql_parser *p, pql_token sign, pql_expr *of)
{
    if (of->kind == PQL_NUMBER) {
        if (sign.type == T_SUB)
            of->number.value = -of->number.value;
        of->from = sign.from;
        return of;
    }
    if (sign.type == T_ADD)
        return of;
    return new_duration(p, PQL_SUB, sign.from, of->to, NULL, of);
}

static pql_expr *
parse_operand(pql_parser *p)
{
    pql_token_type type = pql_peek(p);
    if (is_literal(type))
        return parse_literal(p, NULL);
    if (type == T_ADD || type == T_SUB) {
        pql_token sign = pql_take(p);
        pql_expr *of = pql_parse_duration(p, PQL_PREC_POW);
        return of == NULL ? NULL : with_sign(p, sign, of);
    }
    if (type >= T_STEP && type <= T_MIN_OF)
        return parse_call(p);
    if (type == T_LEFT_PAREN)
        return parse_paren(p);
    return pql_unexpected(p);
}

/* Operators after an operand. */
static pql_expr *
parse_operators(pql_parser *p, pql_expr *lhs, int precedence)
{
    while (lhs != NULL) {
        if (pql_peek(p) == T_ERROR)
            return NULL;
        duration_op op = op_of(pql_peek(p));
        if (op.precedence == 0 || op.precedence < precedence)
            break;
        pql_token sign = pql_take(p);
        pql_expr *rhs = pql_parse_duration(p, op.precedence + (op.op != PQL_POW));
        if (rhs == NULL)
            return NULL;
        bool zero = rhs->kind == PQL_NUMBER && rhs->number.value == 0;
        if (zero && op.op == PQL_DIV)
            return pql_fail(p, sign.from, sign.to, "division by zero");
        if (zero && op.op == PQL_MOD)
            return pql_fail(p, sign.from, sign.to, "modulo by zero");
        lhs = new_duration(p, op.op, lhs->from, rhs->to, lhs, rhs);
    }
    return lhs;
}

pql_expr *
pql_parse_duration(pql_parser *p, int precedence)
{
    pql_expr *expr = pql_enter(p) ? parse_operand(p) : NULL;
    if (expr != NULL)
        expr = parse_operators(p, expr, precedence);
    pql_leave(p);
    return expr;
}

pql_expr *
pql_parse_offset_duration(pql_parser *p)
{
    pql_token_type type = pql_peek(p);
    if (is_literal(type))
        return parse_literal(p, NULL);
    if (type >= T_STEP && type <= T_MIN_OF)
        return parse_call(p);
    if (type != T_ADD && type != T_SUB) {
        pql_expr *expr = parse_operand(p);
        return expr == NULL ? NULL : parse_operators(p, expr, PQL_PREC_ADD);
    }
    pql_token sign = pql_take(p);
    type = pql_peek(p);
    if (is_literal(type))
        return parse_literal(p, &sign);
    if (type >= T_STEP && type <= T_MIN_OF) {
        pql_expr *call = parse_call(p);
        return call == NULL ? NULL : with_sign(p, sign, call);
    }
    if (type == T_LEFT_PAREN) {
        pql_expr *paren = parse_paren(p);
        pql_op op = sign.type == T_SUB ? PQL_SUB : PQL_ADD;
        /* The plus is kept: without it an operator that follows would belong to the duration. */
        return paren == NULL ? NULL : new_duration(p, op, sign.from, paren->to, NULL, paren);
    }
    pql_expr *of = pql_parse_duration(p, PQL_PREC_POW);
    if (of != NULL)
        of = with_sign(p, sign, of);
    if (of != NULL)
        of = parse_operators(p, of, PQL_PREC_ADD);
    if (of != NULL && of->kind == PQL_DURATION && of->duration.lhs != NULL)
        of->duration.wrapped = true; /* in print as well this must be told from a op b */
    return of;
}
