/*
 * pretty.c - tree to text over several lines.
 *
 * A node whose one line has at most PQL_PRETTY_LINE bytes is printed on that line; a longer one is
 * split, its parts two blanks deeper. How long a node's line is must be asked of every node on the
 * way down, so lines are printed into a scratch buffer that stops at the limit: the cost is bounded
 * by nodes times the limit.
 */
#include "lib/promql/internal.h"

typedef struct pretty {
    ps_buf *out;
    ps_buf line; /* never longer than a line that fits */
} pretty;

static void print(pretty *pp, const pql_expr *e, unsigned level);

static void
indent(pretty *pp, unsigned level)
{
    for (unsigned i = 0; i < level && !pp->out->failed; i++)
        ps_buf_add_c(pp->out, "  ");
}

/* Prints the node on one line if it fits there. A failure of memory looks as if it did not, and is
 * found when more is printed. */
static bool
print_line(pretty *pp, const pql_expr *e, unsigned level)
{
    ps_buf_clear(&pp->line);
    pql_print(&pp->line, e);
    if (pp->line.failed)
        return false;
    if (e->kind != PQL_SUBQUERY) /* Prometheus leaves it at the margin, and tools compare */
        indent(pp, level);
    ps_buf_add_str(pp->out, ps_buf_str(&pp->line));
    return true;
}

static void
print_split_aggregate(pretty *pp, const pql_expr *e, unsigned level)
{
    indent(pp, level);
    pql_print_aggregate_head(pp->out, e);
    ps_buf_add_c(pp->out, "(\n");
    if (e->aggregate.param != NULL) {
        print(pp, e->aggregate.param, level + 1);
        ps_buf_add_c(pp->out, ",\n");
    }
    print(pp, e->aggregate.of, level + 1);
    ps_buf_add_char(pp->out, '\n');
    indent(pp, level);
    ps_buf_add_char(pp->out, ')');
}

static void
print_split_call(pretty *pp, const pql_expr *e, unsigned level)
{
    indent(pp, level);
    ps_buf_add_c(pp->out, e->call.fn->name);
    ps_buf_add_c(pp->out, "(\n");
    for (size_t i = 0; i < e->call.n_args; i++) {
        if (i > 0)
            ps_buf_add_c(pp->out, ",\n");
        print(pp, e->call.args[i], level + 1);
    }
    ps_buf_add_char(pp->out, '\n');
    indent(pp, level);
    ps_buf_add_char(pp->out, ')');
}

/* The sign takes the place of the operand's own blanks. */
static void
print_unary(pretty *pp, const pql_expr *e, unsigned level)
{
    indent(pp, level);
    ps_buf_add_c(pp->out, pql_op_text(e->unary.op));
    size_t start = pp->out->len;
    print(pp, e->unary.of, level);
    if (pp->out->failed)
        return;
    size_t first = start;
    while (first < pp->out->len && pp->out->ptr[first] == ' ')
        first++;
    memmove(pp->out->ptr + start, pp->out->ptr + first, pp->out->len - first);
    pp->out->len -= first - start;
}

static void
print_split(pretty *pp, const pql_expr *e, unsigned level)
{
    switch (e->kind) {
    case PQL_AGGREGATE:
        print_split_aggregate(pp, e, level);
        break;
    case PQL_CALL:
        print_split_call(pp, e, level);
        break;
    case PQL_BINARY:
        print(pp, e->binary.lhs, level + 1);
        ps_buf_add_char(pp->out, '\n');
        indent(pp, level);
        pql_print_operator(pp->out, e);
        ps_buf_add_char(pp->out, '\n');
        print(pp, e->binary.rhs, level + 1);
        break;
    case PQL_PAREN:
        indent(pp, level);
        ps_buf_add_c(pp->out, "(\n");
        print(pp, e->paren, level + 1);
        ps_buf_add_char(pp->out, '\n');
        indent(pp, level);
        ps_buf_add_char(pp->out, ')');
        break;
    case PQL_SUBQUERY:
        print(pp, e->subquery.of, level);
        pql_print_subquery_tail(pp->out, e);
        break;
    default: /* cannot be split */
        indent(pp, level);
        pql_print(pp->out, e);
    }
}

static void
print(pretty *pp, const pql_expr *e, unsigned level)
{
    if (pp->out->failed)
        return;
    if (e->kind == PQL_UNARY)
        print_unary(pp, e, level);
    else if (!print_line(pp, e, level))
        print_split(pp, e, level);
}

void
pql_print_pretty(ps_buf *out, const pql_expr *expr)
{
    pretty pp = {.out = out};
    ps_buf_init(&pp.line, &out->alloc);
    pp.line.max = PQL_PRETTY_LINE;
    print(&pp, expr, 0);
    ps_buf_done(&pp.line);
}
