/*
 * labels.c - label sets made from others. New sets are arrays in the query's arena that borrow names and
 * values; where the wanted labels already stand side by side nothing is made at all (dropping a name
 * that comes first, keeping everything).
 */
#include "lib/eval/query.h"

static const ps_str metadata[] = {{"__name__", 8}, {"__type__", 8}, {"__unit__", 8}};

static bool
is_one_of(ps_str name, const ps_str *names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (ps_str_eq(name, names[i]))
            return true;
    return false;
}

/* Keeps the labels that are (keep) or are not (!keep) among names. */
static ps_status
filter(ev_ctx *c, mdl_labels l, const ps_str *names, size_t n, bool keep, mdl_labels *ret)
{
    size_t first = 0, kept = 0, last = 0;
    for (size_t i = 0; i < l.n; i++) {
        if (is_one_of(l.items[i].name, names, n) != keep)
            continue;
        if (kept++ == 0)
            first = i;
        last = i;
    }
    if (kept == 0) {
        *ret = (mdl_labels){NULL, 0};
        return PS_OK;
    }
    if (last - first + 1 == kept) {
        *ret = (mdl_labels){l.items + first, kept};
        return PS_OK;
    }
    mdl_label *items = ps_arena_new(ev_arena(c), kept * sizeof *items);
    if (items == NULL)
        return ev_no_memory(c);
    size_t at = 0;
    for (size_t i = first; i <= last; i++)
        if (is_one_of(l.items[i].name, names, n) == keep)
            items[at++] = l.items[i];
    *ret = (mdl_labels){items, kept};
    return PS_OK;
}

ps_status
ev_labels_keep(ev_ctx *c, mdl_labels l, const ps_str *names, size_t n, mdl_labels *ret)
{
    return filter(c, l, names, n, true, ret);
}

ps_status
ev_labels_without(ev_ctx *c, mdl_labels l, const ps_str *names, size_t n, mdl_labels *ret)
{
    return filter(c, l, names, n, false, ret);
}

ps_status
ev_labels_drop_name(ev_ctx *c, mdl_labels l, mdl_labels *ret)
{
    return filter(c, l, metadata, PS_ARRAY_LEN(metadata), false, ret);
}

ps_status
ev_labels_with(ev_ctx *c, mdl_labels l, ps_str name, ps_str value, mdl_labels *ret)
{
    if (value.len == 0)
        return filter(c, l, &name, 1, false, ret);
    mdl_label *items = ps_arena_new(ev_arena(c), (l.n + 1) * sizeof *items);
    if (items == NULL)
        return ev_no_memory(c);
    size_t n = 0, i = 0;
    for (; i < l.n && ps_str_cmp(l.items[i].name, name) < 0; i++)
        items[n++] = l.items[i];
    items[n++] = (mdl_label){name, value};
    if (i < l.n && ps_str_eq(l.items[i].name, name))
        i++;
    for (; i < l.n; i++)
        items[n++] = l.items[i];
    *ret = (mdl_labels){items, n};
    return PS_OK;
}

ps_str
ev_metric_name(mdl_labels l)
{
    return mdl_labels_get(l, metadata[0]);
}

/* A label name without quotes: letters, digits and '_', not beginning with a digit. */
static bool
is_plain_name(ps_str s)
{
    if (s.len == 0 || (s.ptr[0] >= '0' && s.ptr[0] <= '9'))
        return false;
    for (size_t i = 0; i < s.len; i++) {
        char ch = s.ptr[i];
        if (!((ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9') ||
              ch == '_'))
            return false;
    }
    return true;
}

void
ev_labels_text(ps_buf *out, mdl_labels l)
{
    ps_buf_add_char(out, '{');
    for (size_t i = 0; i < l.n; i++) {
        if (i > 0)
            ps_buf_add_c(out, ", ");
        if (is_plain_name(l.items[i].name))
            ps_buf_add_str(out, l.items[i].name);
        else
            pql_quote(out, l.items[i].name);
        ps_buf_add_char(out, '=');
        pql_quote(out, l.items[i].value);
    }
    ps_buf_add_char(out, '}');
}

ps_status
ev_series_drop_name(ev_ctx *c, ev_series *s)
{
    if (!ev_query_options(c)->delayed_names)
        return ev_labels_drop_name(c, s->labels, &s->labels);
    s->drop_name = true;
    return PS_OK;
}
