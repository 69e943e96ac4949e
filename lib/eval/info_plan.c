/*
 * info_plan.c - which rows the result of info() has.
 *
 * Info series belong to a base series if `instance` and `job` are equal: those with the same two values
 * form a class. At each step the newest sample of each info metric in the class counts, so the steps of a
 * class fall into a few combinations of chosen info series (one, for info series that stay), each
 * with its presence bits. A base series has a row in the result for each combination that gives other
 * labels, and one for the steps without info series, if it may stay without.
 *
 * Memory: the times of all info series as a matrix, until this is done; then bits per combination and the
 * label sets of the result.
 */
#include "lib/eval/info.h"

enum { NONE = UINT32_MAX };
static const ps_str identifying[2] = {{"instance", 8}, {"job", 3}};
static const ps_str metric_name = {MDL_METRIC_NAME, sizeof MDL_METRIC_NAME - 1};

static uint64_t *
new_bits(ev_info_node *n)
{
    return ps_arena_array(ev_arena(n->node.c), n->n_words + 1, sizeof(uint64_t));
}

static ps_status
grow(ev_ctx *c, void **items, size_t *cap, size_t size)
{
    const ps_alloc *a = ev_alloc(c);
    size_t more = *cap == 0 ? 16 : *cap * 2;
    void *grown = a->realloc(a->self, *items, *cap * size, more * size);
    if (grown == NULL)
        return ev_no_memory(c);
    *items = grown;
    *cap = more;
    return PS_OK;
}

/* A series that the info selector itself would take passes unchanged. */
static bool
is_ignored(const ev_info_node *n, mdl_labels base)
{
    ps_str name = ev_metric_name(base);
    for (size_t i = 0; i < n->n_name_matchers; i++)
        if (!re_matcher_matches(n->name_matchers[i], name))
            return false;
    return true;
}

/* ---- classes ----------------------------------------------------------------------------------------- */

/* Values of an identifying label that base series have; info series with others do not take part, not
 * even those without the label. */
static ps_status
values_of_bases(ev_info_node *n, size_t label, ev_groups *ret)
{
    const ev_node *base = n->node.kids[0];
    for (size_t i = 0; i < base->n_series; i++) {
        mdl_labels key;
        uint32_t ignored;
        if (is_ignored(n, base->series[i].labels))
            continue;
        PS_TRY(ev_labels_keep(n->node.c, base->series[i].labels, &identifying[label], 1, &key));
        if (key.n > 0)
            PS_TRY(ev_groups_add(ret, key, &ignored, NULL));
    }
    return PS_OK;
}

static ps_status
drop_others(ev_info_node *n, size_t label, bool *any)
{
    ev_ctx *c = n->node.c;
    const ev_node *infos = n->node.kids[1];
    ev_groups *values;
    PS_TRY(ev_groups_new(c, 16, &values));
    ps_status status = values_of_bases(n, label, values);
    *any |= ev_groups_n(values) > 0;
    for (size_t i = 0; status == PS_OK && ev_groups_n(values) > 0 && i < infos->n_series; i++) {
        mdl_labels key;
        uint32_t ignored;
        status = ev_labels_keep(c, infos->series[i].labels, &identifying[label], 1, &key);
        if (status == PS_OK && !ev_groups_find(values, key, &ignored))
            n->info_class[i] = NONE;
    }
    ev_groups_free(values);
    return status;
}

static ps_status
make_classes(ev_info_node *n)
{
    ev_ctx *c = n->node.c;
    const ev_node *infos = n->node.kids[1];
    bool any = false;
    n->info_class = ps_arena_array(ev_arena(c), infos->n_series + 1, sizeof(uint32_t));
    n->info_name = ps_arena_array(ev_arena(c), infos->n_series + 1, sizeof(uint32_t));
    if (n->info_class == NULL || n->info_name == NULL)
        return ev_no_memory(c);
    PS_TRY(drop_others(n, 0, &any));
    PS_TRY(drop_others(n, 1, &any));
    PS_TRY(ev_groups_new(c, infos->n_series, &n->classes));
    for (size_t i = 0; i < infos->n_series; i++) {
        mdl_labels key;
        if (!any || n->info_class[i] == NONE) {
            n->info_class[i] = NONE;
            continue;
        }
        PS_TRY(ev_labels_keep(c, infos->series[i].labels, identifying, 2, &key));
        PS_TRY(ev_groups_add(n->classes, key, &n->info_class[i], NULL));
    }
    return PS_OK;
}

/* ---- combinations ------------------------------------------------------------------------------------- */

/* The info series of a class. */
typedef struct class_members {
    const uint32_t *series; /* ascending */
    size_t n;
    uint32_t *slot; /* [n] number of the metric within the class */
    size_t n_slots;
} class_members;

static void
number_metrics(ev_info_node *n, class_members *m)
{
    const ev_series *infos = n->node.kids[1]->series;
    m->n_slots = 0;
    for (size_t i = 0; i < m->n; i++) {
        ps_str name = ev_metric_name(infos[m->series[i]].labels);
        size_t j =
            i > 0 && ps_str_eq(ev_metric_name(infos[m->series[i - 1]].labels), name) ? i - 1 : 0;
        while (j < i && !ps_str_eq(ev_metric_name(infos[m->series[j]].labels), name))
            j++;
        m->slot[i] = j < i ? m->slot[j] : (uint32_t)m->n_slots++;
    }
}

static ps_status
note_clash(ev_info_node *n, uint32_t existing, uint32_t fresh, size_t step, int64_t t_ms)
{
    if (n->clash == NULL && (n->clash = new_bits(n)) == NULL)
        return ev_no_memory(n->node.c);
    ev_set(n->clash, step);
    if (step > n->clash_step || (step == n->clash_step && fresh > n->clash_of[1]))
        return PS_OK;
    n->clash_step = step;
    n->clash_of[0] = existing;
    n->clash_of[1] = fresh;
    n->clash_ms = t_ms;
    return PS_OK;
}

/* The newest of each metric at a step; *ret: is there any? */
static ps_status
choose(ev_info_node *n, const class_members *m, size_t step, uint32_t *chosen, bool *ret)
{
    *ret = false;
    memset(chosen, 0xff, m->n_slots * sizeof *chosen);
    for (size_t i = 0; i < m->n; i++) {
        ev_row row = ev_matrix_row(&n->infos, m->series[i]);
        if (!ev_has(row.has, step))
            continue;
        *ret = true;
        uint32_t *best = &chosen[m->slot[i]];
        double t = row.v[step];
        double best_t = *best == NONE ? 0 : ev_matrix_row(&n->infos, *best).v[step];
        if (*best != NONE && t == best_t)
            PS_TRY(note_clash(n, *best, m->series[i], step, (int64_t)t));
        else if (*best == NONE || t > best_t)
            *best = m->series[i];
    }
    return PS_OK;
}

static ps_status
add_combo(ev_info_node *n, uint32_t class, const uint32_t *chosen, size_t n_slots, uint32_t *ret)
{
    ev_ctx *c = n->node.c;
    if (n->n_combos == n->cap_combos)
        PS_TRY(grow(c, (void **)&n->combos, &n->cap_combos, sizeof *n->combos));
    ev_info_combo *combo = &n->combos[n->n_combos];
    combo->chosen = ps_arena_array(ev_arena(c), n_slots + 1, sizeof *combo->chosen);
    combo->at = new_bits(n);
    if (combo->chosen == NULL || combo->at == NULL)
        return ev_no_memory(c);
    memcpy(combo->chosen, chosen, n_slots * sizeof *chosen);
    combo->n_slots = n_slots;
    combo->next = NONE;
    uint32_t *at = &n->class_combo[class];
    while (*at != NONE)
        at = &n->combos[*at].next;
    *at = *ret = (uint32_t)n->n_combos++;
    return PS_OK;
}

static ps_status
find_combo(ev_info_node *n, uint32_t class, const uint32_t *chosen, size_t n_slots, uint32_t *ret)
{
    for (uint32_t i = n->class_combo[class]; i != NONE; i = n->combos[i].next)
        if (memcmp(n->combos[i].chosen, chosen, n_slots * sizeof *chosen) == 0) {
            *ret = i;
            return PS_OK;
        }
    return add_combo(n, class, chosen, n_slots, ret);
}

static ps_status
combine_class(ev_info_node *n, uint32_t class, class_members *m, uint32_t *chosen)
{
    uint64_t *any = n->class_any[class] = new_bits(n);
    if (any == NULL)
        return ev_no_memory(n->node.c);
    uint32_t combo = NONE;
    number_metrics(n, m);
    if (m->n == 1) {
        PS_TRY(add_combo(n, class, m->series, 1, &combo));
        memcpy(any, ev_matrix_row(&n->infos, m->series[0]).has, n->n_words * sizeof *any);
        memcpy(n->combos[combo].at, any, n->n_words * sizeof *any);
        return PS_OK;
    }
    for (size_t step = 0; step < n->node.grid.n; step++) {
        bool there;
        if (step % 1024 == 0)
            PS_TRY(ev_poll(n->node.c));
        PS_TRY(choose(n, m, step, chosen, &there));
        if (!there)
            continue;
        if (combo == NONE ||
            memcmp(n->combos[combo].chosen, chosen, m->n_slots * sizeof *chosen) != 0)
            PS_TRY(find_combo(n, class, chosen, m->n_slots, &combo));
        ev_set(any, step);
        ev_set(n->combos[combo].at, step);
    }
    return PS_OK;
}

/* Info series class by class (counting sort), each class combined. */
static ps_status
combine(ev_info_node *n)
{
    ev_ctx *c = n->node.c;
    size_t n_infos = n->node.kids[1]->n_series, n_classes = ev_groups_n(n->classes);
    ps_arena *arena = ev_arena(c);
    uint32_t *from = ps_arena_array(arena, n_classes + 2, sizeof *from);
    uint32_t *sorted = ps_arena_array(arena, n_infos + 1, sizeof *sorted);
    uint32_t *slot = ps_arena_array(arena, n_infos + 1, sizeof *slot);
    uint32_t *chosen = ps_arena_array(arena, n_infos + 1, sizeof *chosen);
    n->class_combo = ps_arena_array(arena, n_classes + 1, sizeof *n->class_combo);
    n->class_any = ps_arena_array(arena, n_classes + 1, sizeof *n->class_any);
    if (from == NULL || sorted == NULL || slot == NULL || chosen == NULL ||
        n->class_combo == NULL || n->class_any == NULL)
        return ev_no_memory(c);
    memset(n->class_combo, 0xff, (n_classes + 1) * sizeof *n->class_combo);
    for (size_t i = 0; i < n_infos; i++)
        if (n->info_class[i] != NONE)
            from[n->info_class[i] + 2]++;
    for (size_t i = 2; i < n_classes + 2; i++)
        from[i] += from[i - 1];
    for (uint32_t i = 0; i < n_infos; i++)
        if (n->info_class[i] != NONE)
            sorted[from[n->info_class[i] + 1]++] = i;
    for (uint32_t class = 0; class < n_classes; class ++) {
        class_members m = {.series = sorted + from[class],
                           .n = from[class + 1] - from[class],
                           .slot = slot};
        PS_TRY(combine_class(n, class, &m, chosen));
    }
    return PS_OK;
}

/* ---- rows of the result -------------------------------------------------------------------------------- */

static bool
is_wanted(const ev_info_node *n, ps_str name)
{
    if (ps_str_eq(name, metric_name))
        return false;
    for (size_t i = 0; i < n->n_data_names; i++)
        if (ps_str_eq(n->data_names[i], name))
            return true;
    return n->n_data_names == 0;
}

/* Adds the wanted labels of an info series to a set, which so far holds those of others in `added`. */
static ps_status
add_labels(ev_info_node *n, mdl_labels info, mdl_labels base, mdl_labels *added, ps_str *conflict)
{
    for (size_t i = 0; i < info.n && conflict->len == 0; i++) {
        ps_str name = info.items[i].name, value = info.items[i].value;
        if (!is_wanted(n, name))
            continue;
        ps_str before = mdl_labels_get(*added, name);
        if (before.len > 0 && !ps_str_eq(before, value))
            *conflict = name;
        else if (before.len == 0 && mdl_labels_get(base, name).len == 0)
            PS_TRY(ev_labels_with(n->node.c, *added, name, value, added));
    }
    return PS_OK;
}

static ps_status
merge_labels(ev_ctx *c, mdl_labels a, mdl_labels b, mdl_labels *ret)
{
    mdl_label *items = ps_arena_array(ev_arena(c), a.n + b.n + 1, sizeof *items);
    if (items == NULL)
        return ev_no_memory(c);
    size_t n = 0, i = 0, j = 0;
    while (i < a.n || j < b.n) {
        bool first = j == b.n || (i < a.n && ps_str_cmp(a.items[i].name, b.items[j].name) < 0);
        items[n++] = first ? a.items[i++] : b.items[j++];
    }
    *ret = (mdl_labels){items, n};
    return PS_OK;
}

/* A row for the steps `at`; with equal labels it becomes part of an earlier one of the same series. */
static ps_status
add_row(ev_info_node *n, size_t first, ev_info_row row, ev_series series)
{
    ev_ctx *c = n->node.c;
    for (size_t i = first; i < n->n_rows; i++) {
        if (n->rows[i].conflict.len > 0 || row.conflict.len > 0 ||
            !mdl_labels_eq(n->series[i].labels, series.labels))
            continue;
        uint64_t *both = new_bits(n);
        if (both == NULL)
            return ev_no_memory(c);
        for (size_t w = 0; w < n->n_words; w++)
            both[w] = n->rows[i].at[w] | row.at[w];
        n->rows[i].at = both;
        return PS_OK;
    }
    if (n->n_rows == NONE - 1)
        return ev_fail(c, PS_ELIMIT, "too many series");
    if (n->n_rows == n->cap_rows)
        PS_TRY(grow(c, (void **)&n->rows, &n->cap_rows, sizeof *n->rows));
    if (n->n_rows == n->cap_series)
        PS_TRY(grow(c, (void **)&n->series, &n->cap_series, sizeof *n->series));
    n->rows[n->n_rows] = row;
    n->series[n->n_rows++] = series;
    return PS_OK;
}

static ps_status
add_combo_row(ev_info_node *n, size_t first, uint32_t base, const ev_info_combo *combo)
{
    const ev_series *infos = n->node.kids[1]->series;
    ev_series series = n->node.kids[0]->series[base];
    ev_info_row row = {.base = base, .at = combo->at};
    mdl_labels added = {NULL, 0}, labels = series.labels;
    for (size_t i = 0; i < combo->n_slots; i++)
        if (combo->chosen[i] != NONE)
            PS_TRY(add_labels(n, infos[combo->chosen[i]].labels, labels, &added, &row.conflict));
    if (added.n > 0)
        PS_TRY(merge_labels(n->node.c, labels, added, &series.labels));
    return add_row(n, first, row, series);
}

static ps_status
add_base(ev_info_node *n, uint32_t base)
{
    ev_ctx *c = n->node.c;
    ev_series series = n->node.kids[0]->series[base];
    ev_info_row row = {.base = base};
    size_t first = n->n_rows;
    mdl_labels key;
    uint32_t class;
    if (is_ignored(n, series.labels))
        return add_row(n, first, row, series);
    PS_TRY(ev_labels_keep(c, series.labels, identifying, 2, &key));
    if (!ev_groups_find(n->classes, key, &class))
        return n->may_miss ? add_row(n, first, row, series) : PS_OK;
    for (uint32_t i = n->class_combo[class]; i != NONE; i = n->combos[i].next)
        PS_TRY(add_combo_row(n, first, base, &n->combos[i]));
    if (!n->may_miss)
        return PS_OK;
    uint64_t *at = new_bits(n), some = 0;
    if (at == NULL)
        return ev_no_memory(c);
    for (size_t step = 0; step < n->node.grid.n; step++)
        if (!ev_has(n->class_any[class], step))
            ev_set(at, step);
    for (size_t w = 0; w < n->n_words; w++)
        some |= at[w];
    row.at = at;
    return some == 0 ? PS_OK : add_row(n, first, row, series);
}

ps_status
ev_info_plan(ev_info_node *n)
{
    ev_node *node = &n->node;
    n->n_words = (node->grid.n + 63) / 64;
    n->clash_step = SIZE_MAX;
    PS_TRY(make_classes(n));
    PS_TRY(ev_matrix_pull(node->kids[1], &n->infos));
    PS_TRY(combine(n));
    ev_matrix_done(&n->infos, node->c);
    n->in_place = true;
    for (uint32_t i = 0; i < node->kids[0]->n_series; i++) {
        if (i % 4096 == 0)
            PS_TRY(ev_poll(node->c));
        PS_TRY(add_base(n, i));
        n->in_place &= n->n_rows == (size_t)i + 1;
    }
    node->n_series = n->n_rows;
    node->series = ps_arena_array(ev_arena(node->c), n->n_rows + 1, sizeof *node->series);
    if (node->series == NULL)
        return ev_no_memory(node->c);
    if (n->n_rows > 0)
        memcpy(node->series, n->series, n->n_rows * sizeof *n->series);
    return PS_OK;
}
