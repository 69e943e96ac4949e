/*
 * parse_series.c - a series as scripts and rules write it: name{a="b"}, {"u.b", a="b"}, {}.
 *
 * The same tokens as a selector, but only `=`, and the result is a set of labels: sorted, without
 * those whose value is empty (they are absent). A name may stand once; a metric name outside of the
 * braces wins over one inside.
 */
#include "lib/promql/internal.h"

typedef struct label_list {
    mdl_label *items;
    size_t n, cap;
} label_list;

static bool
add(pql_parser *p, label_list *list, mdl_label label)
{
    if (list->n == list->cap) {
        size_t cap = list->cap == 0 ? 8 : 2 * list->cap;
        mdl_label *more = pql_new_array(p, cap, sizeof *more);
        if (more == NULL)
            return false;
        if (list->n > 0)
            memcpy(more, list->items, list->n * sizeof *more);
        list->items = more;
        list->cap = cap;
    }
    list->items[list->n++] = label;
    return true;
}

static bool
parse_label(pql_parser *p, label_list *list)
{
    mdl_label label = {PS_STR(MDL_METRIC_NAME), {NULL, 0}};
    pql_token_type type = pql_peek(p);
    if (type != T_IDENTIFIER && type != T_STRING) {
        pql_unexpected_in(p, "label set", "identifier or \"}\"");
        return false;
    }
    pql_token name = pql_take(p);
    ps_str text = pql_token_text(p, name);
    if (type == T_STRING && !pql_string(p, name, &text))
        return false;
    if (type == T_IDENTIFIER && ps_arena_dup(p->arena, text, &text) != PS_OK) {
        pql_no_memory(p);
        return false;
    }
    if (pql_peek(p) != T_EQL) {
        if (type == T_STRING) { /* a metric name in quotes */
            label.value = text;
            return p->status == PS_OK && add(p, list, label);
        }
        pql_unexpected_in(p, "label set", "\"=\"");
        return false;
    }
    pql_take(p);
    if (pql_peek(p) != T_STRING) {
        pql_unexpected_in(p, "label set", "string");
        return false;
    }
    label.name = text;
    return pql_string(p, pql_take(p), &label.value) && add(p, list, label);
}

static bool
parse_labels(pql_parser *p, label_list *list)
{
    pql_take(p);
    while (pql_peek(p) != T_RIGHT_BRACE) {
        if (!parse_label(p, list))
            return false;
        if (pql_peek(p) == T_COMMA) {
            pql_take(p);
        } else if (pql_peek(p) != T_RIGHT_BRACE) {
            pql_unexpected_in(p, "label set", "\",\" or \"}\"");
            return false;
        }
    }
    pql_take(p);
    return p->status == PS_OK;
}

/* Sorts by name and drops empty values; insertion, since scripts hold a handful of labels. */
static bool
settle(pql_parser *p, label_list *list)
{
    size_t n = 0;
    for (size_t i = 0; i < list->n; i++) {
        mdl_label label = list->items[i];
        size_t at = n;
        if (label.value.len == 0)
            continue;
        while (at > 0 && ps_str_cmp(list->items[at - 1].name, label.name) > 0)
            at--;
        if (at > 0 && ps_str_eq(list->items[at - 1].name, label.name)) {
            pql_fail(p, 0, (uint32_t)p->text.len, "label %q is set twice", label.name);
            return false;
        }
        memmove(list->items + at + 1, list->items + at, (n - at) * sizeof label);
        list->items[at] = label;
        n++;
    }
    list->n = n;
    return true;
}

static bool
set_name(pql_parser *p, label_list *list, pql_token name)
{
    mdl_label label = {PS_STR(MDL_METRIC_NAME), {NULL, 0}};
    size_t n = 0;
    for (size_t i = 0; i < list->n; i++) {
        if (!ps_str_eq(list->items[i].name, label.name))
            list->items[n++] = list->items[i];
    }
    list->n = n;
    if (ps_arena_dup(p->arena, pql_token_text(p, name), &label.value) != PS_OK) {
        pql_no_memory(p);
        return false;
    }
    return add(p, list, label);
}

ps_status
pql_parse_series(ps_arena *arena, ps_str text, mdl_labels *ret, pql_error *error)
{
    enum { MAX_LABELS = 1000 };
    pql_parser p;
    label_list list = {NULL, 0, 0};
    pql_parser_init(&p, arena, text, error);
    bool named = pql_is_metric_name(pql_peek(&p));
    pql_token name = named ? pql_take(&p) : (pql_token){0};
    if (pql_peek(&p) == T_LEFT_BRACE)
        parse_labels(&p, &list);
    if (p.status == PS_OK && pql_peek(&p) != T_EOF)
        pql_unexpected(&p);
    if (p.status == PS_OK && list.n > MAX_LABELS)
        pql_fail(&p, 0, (uint32_t)text.len, "more than %d labels", (unsigned)MAX_LABELS);
    if (p.status != PS_OK || (named && !set_name(&p, &list, name)) || !settle(&p, &list))
        return p.status;
    *ret = (mdl_labels){list.items, list.n};
    return PS_OK;
}
