/*
 * join_plan.c - which rows the result of an operator between two vectors has.
 *
 * Everything that depends on labels alone is settled here, once: groups by match key, rows of the one
 * side, labels of the result, and where an error is possible at all. Errors themselves depend on who is
 * there at a step, so they are left to presence bits:
 *
 * - Two series of the one side in one group at a step are an error if the many side has anything at that
 *   step (or fill values stand in for it). Where they never meet they are one row per set of
 *   labels that group_left(...) takes from them; a group of several such rows gives one result row for
 *   each with every series of the many side.
 * - Two results with the same labels from one group at a step are an error: only where several series of
 *   the many side can lead to that, a bit per step is kept (`seen`, and `matched` one-to-one).
 *
 * Memory: the one side as a matrix; keys, pairs and label sets of the result; bits as above.
 */
#include "lib/eval/join.h"

/* ---- the one side ---------------------------------------------------------------------------------- */

static uint64_t *
new_bits(ev_join *j)
{
    return ps_arena_array(ev_arena(j->node.c), j->op.n_words + 1, sizeof(uint64_t));
}

/* The earlier series of the same group that stands at the step. */
static uint32_t
earlier_of_group(ev_join *j, uint32_t series, size_t step)
{
    for (uint32_t i = series; i-- > 0;)
        if (j->one_group[i] == j->one_group[series] && ev_has(ev_matrix_row(&j->one, i).has, step))
            return i;
    return series;
}

static ps_status
note_clash(ev_join *j, uint32_t series, size_t word, uint64_t bits)
{
    if (j->clash == NULL) {
        j->clash = new_bits(j);
        j->clash_of = ps_arena_array(ev_arena(j->node.c), j->op.n_steps, sizeof *j->clash_of);
        if (j->clash == NULL || j->clash_of == NULL)
            return ev_no_memory(j->node.c);
    }
    for (bits &= ~j->clash[word]; bits != 0; bits &= bits - 1) {
        size_t step = word * 64 + (size_t)__builtin_ctzll(bits);
        j->clash_of[step][0] = earlier_of_group(j, series, step);
        j->clash_of[step][1] = series;
        ev_set(j->clash, step);
    }
    return PS_OK;
}

/* Steps at which two series of one group meet, for groups of several series; leaves the union of each
 * such group in any_one. */
static ps_status
find_clashes(ev_join *j)
{
    ev_ctx *c = j->node.c;
    uint32_t *members = ps_arena_array(ev_arena(c), j->n_groups + 1, sizeof *members);
    j->any_one = ps_arena_array(ev_arena(c), j->n_groups + 1, sizeof *j->any_one);
    if (members == NULL || j->any_one == NULL)
        return ev_no_memory(c);
    for (size_t i = 0; i < j->one.n; i++)
        members[j->one_group[i]]++;
    for (uint32_t i = 0; i < j->one.n; i++) {
        uint32_t g = j->one_group[i];
        if (members[g] < 2)
            continue;
        if (j->any_one[g] == NULL && (j->any_one[g] = new_bits(j)) == NULL)
            return ev_no_memory(c);
        const uint64_t *has = ev_matrix_row(&j->one, i).has;
        for (size_t w = 0; w < j->op.n_words; w++) {
            if ((has[w] & j->any_one[g][w]) != 0)
                PS_TRY(note_clash(j, i, w, has[w] & j->any_one[g][w]));
            j->any_one[g][w] |= has[w];
        }
    }
    return PS_OK;
}

static bool
same_included(const ev_join *j, uint32_t a, uint32_t b)
{
    mdl_labels la = j->one_kid->series[a].labels, lb = j->one_kid->series[b].labels;
    for (size_t i = 0; i < j->m->n_include; i++)
        if (!ps_str_eq(mdl_labels_get(la, j->m->include[i]), mdl_labels_get(lb, j->m->include[i])))
            return false;
    return true;
}

/* Moves the cells of row `from` into row `to`, where they have none in common. */
static ps_status
merge_row(ev_join *j, uint32_t to, uint32_t from)
{
    ev_row t = ev_matrix_row(&j->one, to), f = ev_matrix_row(&j->one, from);
    if (f.h != NULL && t.h == NULL) {
        PS_TRY(ev_row_hists(j->node.c, &t, j->op.n_steps));
        j->one.h[to] = t.h;
    }
    for (size_t w = 0; w < j->op.n_words; w++) {
        for (uint64_t bits = f.has[w] & ~t.has[w]; bits != 0; bits &= bits - 1) {
            size_t i = w * 64 + (size_t)__builtin_ctzll(bits);
            t.v[i] = f.v[i];
            if (t.h != NULL)
                t.h[i] = f.h != NULL ? f.h[i] : NULL;
        }
        t.has[w] |= f.has[w];
    }
    return PS_OK;
}

static ps_status
make_ones(ev_join *j)
{
    ev_ctx *c = j->node.c;
    j->ones = ps_arena_array(ev_arena(c), j->one.n + 1, sizeof *j->ones);
    j->first_one = ps_arena_array(ev_arena(c), j->n_groups + 1, sizeof *j->first_one);
    uint32_t *last = ps_arena_array(ev_arena(c), j->n_groups + 1, sizeof *last);
    if (j->ones == NULL || j->first_one == NULL || last == NULL)
        return ev_no_memory(c);
    memset(j->first_one, 0xff, (j->n_groups + 1) * sizeof *j->first_one);
    for (uint32_t i = 0; i < j->one.n; i++) {
        uint32_t g = j->one_group[i], o = j->first_one[g];
        if (i % 64 == 0)
            PS_TRY(ev_poll(c));
        while (o != EV_NO_ROW && !same_included(j, j->ones[o].series, i))
            o = j->ones[o].next;
        if (o != EV_NO_ROW) {
            PS_TRY(merge_row(j, j->ones[o].row, i));
            continue;
        }
        o = (uint32_t)j->n_ones++;
        j->ones[o] = (ev_one){i, i, g, EV_NO_ROW};
        if (j->first_one[g] == EV_NO_ROW)
            j->first_one[g] = o;
        else
            j->ones[last[g]].next = o;
        last[g] = o;
    }
    return PS_OK;
}

/* ---- labels of the result ----------------------------------------------------------------------------- */

/* many: of the many side (or the key where it is filled); one: of the one side. */
static ps_status
result_labels(ev_join *j, mdl_labels many, mdl_labels one, mdl_labels *ret)
{
    ev_ctx *c = j->node.c;
    mdl_labels l = many;
    if (j->drop_name)
        PS_TRY(ev_labels_drop_name(c, l, &l));
    if (j->m->card == PQL_ONE_TO_ONE)
        PS_TRY(j->m->on ? ev_labels_keep(c, l, j->m->labels, j->m->n_labels, &l)
                        : ev_labels_without(c, l, j->m->labels, j->m->n_labels, &l));
    for (size_t i = 0; i < j->m->n_include; i++) {
        ps_str name = j->m->include[i], value = mdl_labels_get(one, name);
        if (!ps_str_eq(mdl_labels_get(l, name), value))
            PS_TRY(ev_labels_with(c, l, name, value, &l));
    }
    *ret = l;
    return PS_OK;
}

static ps_status
grow(ev_ctx *c, void **items, size_t *cap, size_t size)
{
    const ps_alloc *a = ev_alloc(c);
    size_t more = *cap == 0 ? 64 : *cap * 2;
    void *grown = a->realloc(a->self, *items, *cap * size, more * size);
    if (grown == NULL)
        return ev_no_memory(c);
    *items = grown;
    *cap = more;
    return PS_OK;
}

static ps_status
add_pair(ev_join *j, ev_pair pair, mdl_labels labels)
{
    ev_ctx *c = j->node.c;
    if (j->n_pairs % 4096 == 0)
        PS_TRY(ev_poll(c));
    if (j->n_pairs == j->cap_pairs)
        PS_TRY(grow(c, (void **)&j->pairs, &j->cap_pairs, sizeof *j->pairs));
    if (j->n_pairs == j->cap_series)
        PS_TRY(grow(c, (void **)&j->series, &j->cap_series, sizeof *j->series));
    if (j->n_pairs == EV_NO_ROW - 1)
        return ev_fail(c, PS_ELIMIT, "too many series");
    j->pairs[j->n_pairs] = pair;
    j->series[j->n_pairs++] = (ev_series){labels, j->drop_late};
    return PS_OK;
}

/* All rows of one series of the many side. */
static ps_status
add_many(ev_join *j, uint32_t many)
{
    mdl_labels labels = j->many_kid->series[many].labels, result, key, filled;
    ev_pair pair = {.many = many, .group = j->many_group[many]};
    bool fill = j->fill_one;
    if (fill) {
        PS_TRY(ev_match_key(j->node.c, &j->by, labels, &key));
        PS_TRY(result_labels(j, labels, key, &filled));
    }
    for (uint32_t o = j->first_one[pair.group]; o != EV_NO_ROW; o = j->ones[o].next) {
        PS_TRY(result_labels(j, labels, j->one_kid->series[j->ones[o].series].labels, &result));
        pair.one = o;
        pair.fill_one = fill && mdl_labels_eq(result, filled);
        fill = fill && !pair.fill_one;
        PS_TRY(add_pair(j, pair, result));
    }
    if (!fill)
        return PS_OK;
    pair.one = EV_NO_ROW;
    pair.fill_one = true;
    return add_pair(j, pair, filled);
}

/* Rows of the one side with fill values for the many side. */
static ps_status
add_filled(ev_join *j)
{
    for (uint32_t o = 0; o < j->n_ones; o++) {
        mdl_labels one = j->one_kid->series[j->ones[o].series].labels, key, result;
        PS_TRY(ev_match_key(j->node.c, &j->by, one, &key));
        PS_TRY(result_labels(j, key, one, &result));
        PS_TRY(add_pair(j, (ev_pair){EV_NO_ROW, o, j->ones[o].group, false, NULL}, result));
    }
    return PS_OK;
}

/* ---- where results can collide -------------------------------------------------------------------------- */

/* One-to-one: a result per group and step. Filling needs to know where there was one. */
static ps_status
need_matched(ev_join *j)
{
    ev_ctx *c = j->node.c;
    uint32_t *members = ps_arena_array(ev_arena(c), j->n_groups + 1, sizeof *members);
    j->matched = ps_arena_array(ev_arena(c), j->n_groups + 1, sizeof *j->matched);
    if (members == NULL || j->matched == NULL)
        return ev_no_memory(c);
    for (size_t i = 0; i < j->many_kid->n_series; i++)
        members[j->many_group[i]]++;
    for (size_t g = 0; g < j->n_groups; g++) {
        bool several = j->m->card == PQL_ONE_TO_ONE && members[g] > 1;
        bool filled = j->fill_many && j->first_one[g] != EV_NO_ROW;
        if ((several || filled) && (j->matched[g] = new_bits(j)) == NULL)
            return ev_no_memory(c);
    }
    return PS_OK;
}

/* Finds rows with equal labels; those of one group (with group_left) share bits. */
static ps_status
link_equal(ev_join *j, ev_groups *labels, uint32_t *head, uint32_t *next)
{
    bool distinct = true;
    for (uint32_t i = 0; i < j->n_pairs; i++) {
        uint32_t id;
        bool fresh;
        ev_pair *p = &j->pairs[i];
        PS_TRY(ev_groups_add(labels, j->series[i].labels, &id, &fresh));
        next[i] = fresh ? EV_NO_ROW : head[id];
        head[id] = i;
        distinct &= fresh;
        if (j->m->card == PQL_ONE_TO_ONE || p->many == EV_NO_ROW)
            continue;
        uint32_t o = next[i];
        while (o != EV_NO_ROW && (j->pairs[o].group != p->group || j->pairs[o].many == EV_NO_ROW))
            o = next[o];
        if (o == EV_NO_ROW)
            continue;
        if (j->pairs[o].seen == NULL && (j->pairs[o].seen = new_bits(j)) == NULL)
            return ev_no_memory(j->node.c);
        p->seen = j->pairs[o].seen;
    }
    j->node.distinct = distinct;
    return PS_OK;
}

static ps_status
find_equal(ev_join *j)
{
    ev_ctx *c = j->node.c;
    ev_groups *labels;
    uint32_t *head = ps_arena_array(ev_arena(c), j->n_pairs + 1, sizeof *head);
    uint32_t *next = ps_arena_array(ev_arena(c), j->n_pairs + 1, sizeof *next);
    if (head == NULL || next == NULL)
        return ev_no_memory(c);
    PS_TRY(ev_groups_new(c, j->n_pairs, &labels));
    ps_status status = link_equal(j, labels, head, next);
    ev_groups_free(labels);
    return status;
}

ps_status
ev_join_plan(ev_join *j)
{
    PS_TRY(find_clashes(j));
    PS_TRY(make_ones(j));
    for (uint32_t i = 0; i < j->many_kid->n_series; i++)
        PS_TRY(add_many(j, i));
    j->n_streamed = j->n_pairs;
    if (j->fill_many)
        PS_TRY(add_filled(j));
    PS_TRY(need_matched(j));
    PS_TRY(find_equal(j));
    ev_node *n = &j->node;
    n->n_series = j->n_pairs;
    n->series = ps_arena_array(ev_arena(n->c), j->n_pairs + 1, sizeof *n->series);
    if (n->series == NULL)
        return ev_no_memory(n->c);
    if (j->n_pairs > 0)
        memcpy(n->series, j->series, j->n_pairs * sizeof *n->series);
    return PS_OK;
}

size_t
ev_join_clash_at(const ev_join *j)
{
    bool fills = j->fill_one || j->fill_many;
    for (size_t w = 0; j->clash != NULL && w < j->op.n_words; w++) {
        uint64_t bits = j->clash[w] & (fills ? ~UINT64_C(0) : j->any_many[w]);
        if (bits != 0)
            return w * 64 + (size_t)__builtin_ctzll(bits);
    }
    return SIZE_MAX;
}

ps_status
ev_join_fail_clash(ev_join *j, size_t step)
{
    ev_ctx *c = j->node.c;
    mdl_labels a = j->one_kid->series[j->clash_of[step][0]].labels;
    mdl_labels b = j->one_kid->series[j->clash_of[step][1]].labels, key;
    PS_TRY(ev_match_key(c, &j->by, b, &key));
    ps_buf text[3];
    for (int i = 0; i < 3; i++)
        ps_buf_init(&text[i], ev_alloc(c));
    ev_labels_text(&text[0], key);
    ev_labels_text(&text[1], a);
    ev_labels_text(&text[2], b);
    bool swap = ps_str_cmp(ps_buf_str(&text[1]), ps_buf_str(&text[2])) > 0;
    ps_str group = ps_buf_str(&text[0]), first = ps_buf_str(&text[swap ? 2 : 1]),
           second = ps_buf_str(&text[swap ? 1 : 2]);
    ps_status status = ev_fail(
        c, PS_EINVAL,
        "found duplicate series for the match group %.*s on the %s hand-side of the "
        "operation: [%.*s, %.*s];many-to-many matching not allowed: matching labels must be "
        "unique on one side",
        (int)group.len, group.ptr, j->swapped ? "left" : "right", (int)first.len, first.ptr,
        (int)second.len, second.ptr);
    for (int i = 0; i < 3; i++)
        ps_buf_done(&text[i]);
    return status;
}
