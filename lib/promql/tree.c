/*
 * tree.c - making nodes, and walking over them.
 *
 * Nodes know how deep the tree below them is. Together with the count of nested calls of the parser
 * that bounds every recursion over a tree, here and in those who evaluate it: long chains of left
 * associative operators are as deep as parentheses.
 */
#include "lib/promql/internal.h"

void
pql_parser_init(pql_parser *p, ps_arena *arena, ps_str text, pql_error *error)
{
    static const pql_place nowhere = {"", ""};
    memset(p, 0, sizeof *p);
    memset(error, 0, sizeof *error);
    p->arena = arena;
    p->text = text;
    p->error = error;
    p->place = &nowhere;
    ps_alloc alloc = ps_arena_as_alloc(arena);
    ps_buf_init(&p->message, &alloc);
    if (text.len > INT32_MAX) {
        p->status = PS_ELIMIT;
        pql_set_error(error, 0, 0, PS_STR("query is too long"));
    }
}

pql_expr *
pql_new(pql_parser *p, pql_kind kind, uint32_t from, uint32_t to)
{
    pql_expr *node = pql_new_array(p, 1, sizeof *node);
    if (node == NULL)
        return NULL;
    node->kind = kind;
    node->from = from;
    node->to = to;
    node->depth = 1;
    return node;
}

void *
pql_new_array(pql_parser *p, size_t n, size_t size)
{
    if (p->status != PS_OK)
        return NULL;
    void *array = ps_arena_array(p->arena, n, size);
    return array != NULL ? array : pql_no_memory(p);
}

bool
pql_over(pql_parser *p, pql_expr *node, const pql_expr *child)
{
    if (node->depth <= child->depth)
        node->depth = child->depth + 1;
    if (node->depth <= PQL_MAX_DEPTH)
        return true;
    pql_too_deep(p, child->from);
    return false;
}

bool
pql_enter(pql_parser *p)
{
    if (++p->nesting <= PQL_MAX_DEPTH)
        return true;
    pql_too_deep(p, p->lex.pos);
    return false;
}

void
pql_leave(pql_parser *p)
{
    p->nesting--;
}

static void
sift_down(ps_str *items, size_t root, size_t n)
{
    for (size_t child; (child = 2 * root + 1) < n; root = child) {
        if (child + 1 < n && ps_str_cmp(items[child], items[child + 1]) < 0)
            child++;
        if (ps_str_cmp(items[root], items[child]) >= 0)
            return;
        ps_str moved = items[root];
        items[root] = items[child];
        items[child] = moved;
    }
}

void
pql_sort(ps_str *items, size_t n)
{
    for (size_t i = n / 2; i-- > 0;)
        sift_down(items, i, n);
    while (n > 1) {
        ps_str last = items[--n];
        items[n] = items[0];
        items[0] = last;
        sift_down(items, 0, n);
    }
}

size_t
pql_children(const pql_expr *expr, pql_expr **ret, size_t max)
{
    pql_expr *two[2] = {NULL, NULL};
    switch (expr->kind) {
    case PQL_CALL:
        for (size_t i = 0; i < expr->call.n_args && i < max; i++)
            ret[i] = expr->call.args[i];
        return expr->call.n_args;
    case PQL_AGGREGATE:
        two[0] = expr->aggregate.param != NULL ? expr->aggregate.param : expr->aggregate.of;
        two[1] = expr->aggregate.param != NULL ? expr->aggregate.of : NULL;
        break;
    case PQL_BINARY:
        two[0] = expr->binary.lhs;
        two[1] = expr->binary.rhs;
        break;
    case PQL_RANGE:
        two[0] = expr->range.selector;
        break;
    case PQL_SUBQUERY:
        two[0] = expr->subquery.of;
        break;
    case PQL_UNARY:
        two[0] = expr->unary.of;
        break;
    case PQL_PAREN:
        two[0] = expr->paren;
        break;
    case PQL_NUMBER:
    case PQL_TEXT:
    case PQL_SELECTOR:
    case PQL_DURATION:
        break;
    }
    size_t n = two[1] != NULL ? 2 : two[0] != NULL ? 1 : 0;
    for (size_t i = 0; i < n && i < max; i++)
        ret[i] = two[i];
    return n;
}

const pql_expr *
pql_unwrap(const pql_expr *expr)
{
    while (expr->kind == PQL_PAREN)
        expr = expr->paren;
    return expr;
}
