/*
 * attributes.c - attributes to labels.
 *
 * Attributes are read sorted, so that values of keys that become the same label are joined in one order
 * ("a;b") whatever the sender's. Sets are small: they are searched from front to back.
 */
#include "lib/otlp/internal.h"

/* A stable merge sort by name; scratch has room for n. */
void
otlp_sort(mdl_label *labels, mdl_label *scratch, size_t n)
{
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t begin = 0; begin < n; begin += 2 * width) {
            size_t middle = begin + width < n ? begin + width : n;
            size_t end = begin + 2 * width < n ? begin + 2 * width : n;
            size_t a = begin, b = middle;
            for (size_t i = begin; i < end; i++) {
                bool left = a < middle &&
                            (b == end || ps_str_cmp(labels[a].name, labels[b].name) <= 0);
                scratch[i] = left ? labels[a++] : labels[b++];
            }
        }
        memcpy(labels, scratch, n * sizeof *labels);
    }
}

static ps_status
read_one(ps_str key_value, ps_arena *arena, const char **bad, mdl_label *ret)
{
    pb_reader r = pb_reader_of(key_value, bad);
    pb_field f;
    ps_str value = {"", 0};

    ret->name = (ps_str){"", 0};
    while (otlp_pb_next(&r, &f)) {
        if (otlp_pb_is(&r, &f, 1, PB_BYTES))
            ret->name = f.bytes;
        else if (otlp_pb_is(&r, &f, 2, PB_BYTES))
            value = f.bytes;
    }
    return otlp_value_text(value, arena, bad, &ret->value);
}

ps_status
otlp_attributes(ps_str message, uint32_t number, ps_arena *arena, const char **bad, attributes *ret)
{
    pb_reader r = pb_reader_of(message, bad);
    pb_field f;
    size_t n = 0;

    *ret = (attributes){0};
    while (otlp_pb_next(&r, &f))
        n += otlp_pb_is(&r, &f, number, PB_BYTES);
    if (n > OTLP_MAX_ATTRIBUTES)
        return PS_ELIMIT;
    if (n == 0)
        return PS_OK;
    ret->items = ps_arena_array(arena, 2 * n, sizeof *ret->items);
    if (ret->items == NULL)
        return PS_ENOMEM;
    r = pb_reader_of(message, bad);
    while (otlp_pb_next(&r, &f))
        if (otlp_pb_is(&r, &f, number, PB_BYTES))
            PS_TRY(read_one(f.bytes, arena, bad, &ret->items[ret->n++]));
    otlp_sort(ret->items, ret->items + ret->n, ret->n);
    return PS_OK;
}

/* ---- sets ----------------------------------------------------------------------------------------- */

static mdl_label *
find(const label_set *set, ps_str name)
{
    for (size_t i = 0; i < set->n; i++)
        if (ps_str_eq(set->items[i].name, name))
            return &set->items[i];
    return NULL;
}

ps_str
otlp_get(const label_set *set, ps_str name)
{
    const mdl_label *l = find(set, name);
    return l != NULL ? l->value : (ps_str){"", 0};
}

ps_status
otlp_set(label_set *set, ps_arena *arena, ps_str name, ps_str value)
{
    mdl_label *l = find(set, name);

    if (l != NULL) {
        if (value.len > 0)
            l->value = value;
        else
            *l = set->items[--set->n];
        return PS_OK;
    }
    if (value.len == 0)
        return PS_OK;
    if (set->n == set->cap) {
        size_t cap = set->cap > 0 ? set->cap * 2 : 16;
        mdl_label *items = ps_arena_array(arena, cap, sizeof *items);
        if (items == NULL)
            return PS_ENOMEM;
        if (set->n > 0)
            memcpy(items, set->items, set->n * sizeof *items);
        set->items = items;
        set->cap = cap;
    }
    set->items[set->n++] = (mdl_label){name, value};
    return PS_OK;
}

static ps_status
joined(ps_arena *arena, ps_str a, ps_str b, ps_str *ret)
{
    char *text = ps_arena_new(arena, a.len + 1 + b.len);

    if (text == NULL)
        return PS_ENOMEM;
    memcpy(text, a.ptr, a.len);
    text[a.len] = ';';
    if (b.len > 0)
        memcpy(text + a.len + 1, b.ptr, b.len);
    *ret = (ps_str){text, a.len + 1 + b.len};
    return PS_OK;
}

/* ---- labels of a series --------------------------------------------------------------------------- */

static bool
contains(const ps_str *list, size_t n, ps_str s)
{
    for (size_t i = 0; i < n; i++)
        if (ps_str_eq(list[i], s))
            return true;
    return false;
}

static ps_status
own_labels(translation *t, const attributes *a, const ps_str *ignored, size_t n_ignored,
           label_set *ret, const char **ret_why)
{
    for (size_t i = 0; i < a->n; i++) {
        ps_str name = a->items[i].name, value = a->items[i].value, before;
        if (contains(ignored, n_ignored, name))
            continue;
        if (!t->set->utf8) {
            PS_TRY(otlp_label_name(t->set, &t->point, name, &name));
            before = otlp_get(ret, name);
            if (name.len > 0 && before.len > 0)
                PS_TRY(joined(&t->point, before, value, &value));
        }
        if (name.len == 0) {
            *ret_why = "an attribute's key makes no label name";
            return PS_OK;
        }
        PS_TRY(otlp_set(ret, &t->point, name, value));
    }
    return PS_OK;
}

ps_status
otlp_labels(translation *t, const attributes *a, const ps_str *ignored, size_t n_ignored, bool own,
            label_set *ret, const char **ret_why)
{
    const resource_labels *r = &t->of_resource;

    *ret = (label_set){0};
    *ret_why = NULL;
    PS_TRY(own_labels(t, a, ignored, n_ignored, ret, ret_why));
    if (*ret_why != NULL)
        return PS_OK;
    if (!own)
        for (size_t i = 0; i < r->promoted.n; i++)
            if (otlp_get(ret, r->promoted.items[i].name).len == 0)
                PS_TRY(otlp_set(ret, &t->point, r->promoted.items[i].name,
                                r->promoted.items[i].value));
    if (r->job.len > 0)
        PS_TRY(otlp_set(ret, &t->point, PS_STR("job"), r->job));
    if (r->instance.len > 0)
        PS_TRY(otlp_set(ret, &t->point, PS_STR("instance"), r->instance));
    if (!own)
        for (size_t i = 0; i < t->of_scope.n; i++)
            PS_TRY(otlp_set(ret, &t->point, t->of_scope.items[i].name, t->of_scope.items[i].value));
    return PS_OK;
}
