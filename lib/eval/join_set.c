/*
 * join_set.c - and, or, unless.
 *
 * What decides is whether a group has anything at a step, so one side becomes a bit per group and step
 * and the other side passes, its presence bits masked in place. `and` and `unless` read the right side
 * first; `or` lets the left side pass, notes where it was, and masks the right side.
 *
 * Memory: groups of the left side x steps bits. Series: for `and` and `unless` those of the left side (some
 * may stay empty), for `or` those of both.
 */
#include "lib/eval/join.h"

typedef struct set_node {
    ev_node node; /* kids: left, right */
    pql_op op;
    size_t n_words, n_bits; /* words of a group, of all */
    uint64_t *bits;
    uint32_t *left_group, *right_group; /* right: EV_NO_ROW without a group of the left side */
    ev_batch *shifted;                  /* its first is not the right side's own while it is out */
    bool in_right;
} set_node;

static ps_status
number_series(set_node *s)
{
    ev_node *n = &s->node;
    ev_groups *groups;
    ev_match_on by;
    PS_TRY(ev_match_on_of(n->c, &n->expr->binary.matching, &by));
    PS_TRY(ev_groups_new(n->c, n->kids[0]->n_series, &groups));
    ps_status status = ev_match_groups(n->c, &by, n->kids[0], groups, &s->left_group);
    const ev_node *right = n->kids[1];
    if (status == PS_OK) {
        s->right_group = ps_arena_array(ev_arena(n->c), right->n_series + 1, sizeof(uint32_t));
        status = s->right_group == NULL ? ev_no_memory(n->c) : PS_OK;
    }
    for (size_t i = 0; status == PS_OK && i < right->n_series; i++) {
        mdl_labels key;
        status = ev_match_key(n->c, &by, right->series[i].labels, &key);
        s->right_group[i] = EV_NO_ROW;
        if (status == PS_OK && !ev_groups_find(groups, key, &s->right_group[i]))
            s->right_group[i] = EV_NO_ROW;
    }
    size_t n_groups = ev_groups_n(groups);
    ev_groups_free(groups);
    PS_TRY(status);
    s->n_words = (n->grid.n + 63) / 64;
    s->n_bits = n_groups * s->n_words + 1;
    s->bits = ps_alloc_array(ev_alloc(n->c), s->n_bits, sizeof *s->bits);
    return s->bits == NULL ? ev_no_memory(n->c) : PS_OK;
}

static void
note_presence(set_node *s, const ev_batch *b, const uint32_t *group)
{
    for (size_t i = 0; i < b->n; i++) {
        if (group[b->first + i] == EV_NO_ROW)
            continue;
        uint64_t *bits = s->bits + group[b->first + i] * s->n_words;
        for (size_t w = 0; w < s->n_words; w++)
            bits[w] |= b->has[i * s->n_words + w];
    }
}

/* Keeps cells where the group has its bit (with) or has it not. */
static void
mask_batch(set_node *s, ev_batch *b, const uint32_t *group, bool with)
{
    for (size_t i = 0; i < b->n; i++) {
        if (group[b->first + i] == EV_NO_ROW)
            continue;
        const uint64_t *bits = s->bits + group[b->first + i] * s->n_words;
        uint64_t *has = b->has + i * s->n_words, flip = with ? 0 : ~UINT64_C(0);
        for (size_t w = 0; w < s->n_words; w++)
            has[w] &= bits[w] ^ flip;
    }
}

static ps_status
or_series(set_node *s)
{
    ev_node *n = &s->node;
    const ev_node *left = n->kids[0], *right = n->kids[1];
    n->n_series = left->n_series + right->n_series;
    n->series = ps_arena_array(ev_arena(n->c), n->n_series + 1, sizeof *n->series);
    if (n->series == NULL)
        return ev_no_memory(n->c);
    for (size_t i = 0; i < n->n_series; i++)
        n->series[i] = i < left->n_series ? left->series[i] : right->series[i - left->n_series];
    return PS_OK;
}

static ps_status
set_open(ev_node *n)
{
    set_node *s = (set_node *)n;
    s->op = n->expr->binary.op;
    PS_TRY(ev_open(n->kids[0]));
    PS_TRY(ev_open(n->kids[1]));
    PS_TRY(number_series(s));
    if (s->op == PQL_OR)
        return or_series(s);
    n->series = n->kids[0]->series;
    n->n_series = n->kids[0]->n_series;
    n->distinct = n->kids[0]->distinct;
    for (;;) {
        ev_batch *b;
        PS_TRY(ev_next(n->kids[1], &b));
        if (b == NULL)
            return PS_OK;
        note_presence(s, b, s->right_group);
    }
}

static ps_status
or_next(set_node *s, ev_batch **ret)
{
    ev_node *n = &s->node;
    ev_batch *b;
    if (s->shifted != NULL)
        s->shifted->first -= n->kids[0]->n_series;
    s->shifted = NULL;
    if (!s->in_right) {
        PS_TRY(ev_next(n->kids[0], &b));
        if (b != NULL) {
            note_presence(s, b, s->left_group);
            *ret = b;
            return PS_OK;
        }
        s->in_right = true;
    }
    PS_TRY(ev_next(n->kids[1], &b));
    if (b != NULL) {
        mask_batch(s, b, s->right_group, false);
        b->first += n->kids[0]->n_series;
        s->shifted = b;
    }
    *ret = b;
    return PS_OK;
}

static ps_status
set_next(ev_node *n, ev_batch **ret)
{
    set_node *s = (set_node *)n;
    *ret = NULL;
    if (s->op == PQL_OR)
        return or_next(s, ret);
    ev_batch *b;
    PS_TRY(ev_next(n->kids[0], &b));
    if (b != NULL)
        mask_batch(s, b, s->left_group, s->op == PQL_AND);
    *ret = b;
    return PS_OK;
}

static void
set_close(ev_node *n)
{
    set_node *s = (set_node *)n;
    if (s->bits != NULL)
        ps_alloc_free(ev_alloc(n->c), s->bits, s->n_bits * sizeof *s->bits);
}

/* Groups while series are numbered, then bits. n_bits are those of a rehearsal: one word a group. */
static uint64_t
set_holds(const ev_node *n, size_t steps)
{
    const set_node *s = (const set_node *)n;
    uint64_t groups = s->n_bits - 1, words = (steps + 63) / 64;
    uint64_t bits = ev_times(groups, words * sizeof(uint64_t));
    uint64_t opening = ev_groups_bytes(n->kids[0]->n_series);
    return bits > opening ? bits : opening;
}

static const ev_node_ops set_ops = {"set operator", sizeof(set_node), set_open, set_next,
                                    set_close,      EV_JOIN,          set_holds};

ps_status
ev_build_set(ev_ctx *c, const pql_expr *e, const ev_grid *grid, ev_node **ret)
{
    ev_node *node, *kid;
    PS_TRY(ev_new_node(c, &set_ops, e, grid, PQL_VECTOR, &node));
    PS_TRY(ev_build(c, e->binary.lhs, grid, &kid));
    ev_add_kid(node, kid);
    PS_TRY(ev_build(c, e->binary.rhs, grid, &kid));
    ev_add_kid(node, kid);
    *ret = node;
    /* at a single step, with names dropped late, equal label sets stand side by side until the end */
    if (e->binary.op != PQL_OR || (grid->n == 1 && ev_query_options(c)->delayed_names))
        return PS_OK;
    return ev_build_unique(c, node, false, ret);
}
