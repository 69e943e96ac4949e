/*
 * fn_labels.c - label_replace and label_join: a node that changes the labels of its input's series and
 * hands on their rows as they are. Series that become equal are seen to by ev_build_unique().
 */
#include "lib/eval/internal.h"

enum { MAX_VALUE_BYTES = 1 << 20 };

typedef struct labels_node {
    ev_node node;
    ps_str dst;
    re_regex *regex;         /* label_replace */
    ps_str replacement, src; /* label_replace */
    ps_str separator;        /* label_join */
    const ps_str *srcs;
    size_t n_srcs;
} labels_node;

/* The new value of the label in `out`; false: the series stays as it is. */
static bool
new_value(const labels_node *n, mdl_labels l, ps_buf *out)
{
    if (n->regex != NULL)
        return re_expand(n->regex, mdl_labels_get(l, n->src), n->replacement, out);
    for (size_t i = 0; i < n->n_srcs; i++) {
        if (i > 0)
            ps_buf_add_str(out, n->separator);
        ps_buf_add_str(out, mdl_labels_get(l, n->srcs[i]));
    }
    return true;
}

static ps_status
change_series(const labels_node *n, ev_series *s, ps_buf *out)
{
    ev_ctx *c = n->node.c;
    ps_str value;
    ps_buf_clear(out);
    bool changes = new_value(n, s->labels, out);
    if (out->failed && out->len < out->max / 2)
        return ev_no_memory(c);
    if (out->failed)
        return ev_fail(c, PS_ELIMIT, "label value is longer than %d bytes", MAX_VALUE_BYTES);
    if (!changes)
        return PS_OK;
    if (ps_arena_dup(ev_arena(c), ps_buf_str(out), &value) != PS_OK)
        return ev_no_memory(c);
    PS_TRY(ev_labels_with(c, s->labels, n->dst, value, &s->labels));
    if (ps_str_eq_c(n->dst, MDL_METRIC_NAME))
        s->drop_name = false; /* it is a new name */
    return PS_OK;
}

static ps_status
open_labels(ev_node *node)
{
    labels_node *n = (labels_node *)node;
    ev_node *kid = node->kids[0];
    ps_buf value;
    ps_status status = PS_OK;
    PS_TRY(ev_open(kid));
    node->n_series = kid->n_series;
    node->series = ps_arena_array(ev_arena(node->c), kid->n_series + 1, sizeof *node->series);
    if (node->series == NULL)
        return ev_no_memory(node->c);
    ps_buf_init(&value, ev_alloc(node->c));
    value.max = MAX_VALUE_BYTES;
    for (size_t i = 0; i < kid->n_series && status == PS_OK; i++) {
        node->series[i] = kid->series[i];
        status = change_series(n, &node->series[i], &value);
    }
    ps_buf_done(&value);
    return status;
}

static ps_status
next_labels(ev_node *node, ev_batch **ret)
{
    return ev_next(node->kids[0], ret);
}

static void
close_labels(ev_node *node)
{
    re_free(((labels_node *)node)->regex);
}

static const ev_node_ops labels_ops = {"labels",    sizeof(labels_node), open_labels,
                                       next_labels, close_labels,        EV_MAP,
                                       NULL};

static ps_str
text_arg(const pql_expr *e, size_t i)
{
    return pql_unwrap(e->call.args[i])->text;
}

static bool
is_label_name(ps_str s)
{
    return s.len != 0 && ps_utf8_valid(s);
}

static ps_status
bad_name(ev_ctx *c, const pql_expr *e, const char *which, ps_str name)
{
    return ev_fail(c, PS_EINVAL, "invalid %s label name in %s(): %.*s", which, e->call.fn->name,
                   (int)name.len, name.ptr);
}

static ps_status
prepare_replace(labels_node *n, const pql_expr *e)
{
    ev_ctx *c = n->node.c;
    ps_err err;
    ps_str pattern = text_arg(e, 4);
    n->dst = text_arg(e, 1);
    n->replacement = text_arg(e, 2);
    n->src = text_arg(e, 3);
    ps_status status = re_compile(pattern, &n->regex, &err);
    if (status == PS_ENOMEM)
        return ev_no_memory(c);
    if (status != PS_OK)
        return ev_fail(c, status, "invalid regular expression in label_replace(): %.*s",
                       (int)pattern.len, pattern.ptr);
    return is_label_name(n->dst) ? PS_OK : bad_name(c, e, "destination", n->dst);
}

static ps_status
prepare_join(labels_node *n, const pql_expr *e)
{
    ev_ctx *c = n->node.c;
    n->dst = text_arg(e, 1);
    n->separator = text_arg(e, 2);
    n->n_srcs = e->call.n_args - 3;
    ps_str *srcs = ps_arena_array(ev_arena(c), n->n_srcs + 1, sizeof *srcs);
    if (srcs == NULL)
        return ev_no_memory(c);
    n->srcs = srcs;
    for (size_t i = 0; i < n->n_srcs; i++) {
        srcs[i] = text_arg(e, i + 3);
        if (!is_label_name(srcs[i]))
            return bad_name(c, e, "source", srcs[i]);
    }
    return is_label_name(n->dst) ? PS_OK : bad_name(c, e, "destination", n->dst);
}

ps_status
ev_build_label_call(ev_ctx *c, const pql_expr *e, const ev_grid *grid, ev_node **ret)
{
    ev_node *node, *kid;
    PS_TRY(ev_new_node(c, &labels_ops, e, grid, PQL_VECTOR, &node));
    if (e->call.fn->id == PQL_FN_LABEL_REPLACE)
        PS_TRY(prepare_replace((labels_node *)node, e));
    else
        PS_TRY(prepare_join((labels_node *)node, e));
    PS_TRY(ev_build(c, e->call.args[0], grid, &kid));
    ev_add_kid(node, kid);
    return ev_build_unique(c, node, false, ret);
}
