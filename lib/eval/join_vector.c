/*
 * join_vector.c - arithmetic and comparisons between two vectors.
 *
 * The one side (right, or left with group_right) is held as a matrix; the many side streams, and each of
 * its rows meets the row of the one side that join_plan.c found for it. Fill values are laid into a copy
 * of that row; what the one side has where no one came for it is computed last, against a row of fill
 * values. The error is that of the first step that has one: it is known when the many side is through,
 * and nothing is handed on from where one was seen.
 *
 * Memory: see join_plan.c, and one batch; the many side, too, where two of the one side meet.
 */
#include "lib/eval/join.h"

/* The steps at which the group has anything on the one side; NULL: none. */
static const uint64_t *
steps_of_group(ev_join *j, uint32_t group)
{
    if (j->any_one[group] != NULL || j->first_one[group] == EV_NO_ROW)
        return j->any_one[group];
    return ev_matrix_row(&j->one, j->ones[j->first_one[group]].row).has;
}

/* The row of the one side for a pair, with fill values where they are due. */
static ev_row
one_row(ev_join *j, const ev_pair *p)
{
    if (p->one != EV_NO_ROW && !p->fill_one)
        return ev_matrix_row(&j->one, j->ones[p->one].row);
    ev_row row = {.v = j->filled_v, .has = j->filled_has}, held = {0};
    const uint64_t *any = steps_of_group(j, p->group);
    if (p->one != EV_NO_ROW)
        held = ev_matrix_row(&j->one, j->ones[p->one].row);
    for (size_t w = 0; w < j->op.n_words; w++)
        row.has[w] = ~(any != NULL ? any[w] : 0) | (held.has != NULL ? held.has[w] : 0);
    for (size_t i = 0; i < j->op.n_steps; i++)
        row.v[i] = held.has != NULL && ev_has(held.has, i) ? held.v[i] : j->fill_one_value;
    row.h = held.h; /* NULL in all cells without a histogram of its own */
    return row;
}

/* Notes two results of a group with the same labels at a step. */
static void
check_unique(ev_join *j, const ev_pair *p)
{
    uint64_t *matched = j->matched[p->group];
    uint64_t *seen = j->m->card == PQL_ONE_TO_ONE ? matched : p->seen;
    for (size_t w = 0; w < j->op.n_words; w++) {
        if (seen != NULL) {
            uint64_t twice = seen[w] & j->ok[w];
            if (PS_UNLIKELY(twice != 0) && w * 64 + (size_t)__builtin_ctzll(twice) < j->twice_at)
                j->twice_at = w * 64 + (size_t)__builtin_ctzll(twice);
            seen[w] |= j->ok[w];
        }
        if (matched != NULL && matched != seen)
            matched[w] |= j->ok[w];
    }
}

/* When the many side is through: the error of the first step that has one. */
static ps_status
check_errors(ev_join *j)
{
    size_t clash_at = ev_join_clash_at(j);
    if (clash_at != SIZE_MAX && clash_at <= j->twice_at)
        return ev_join_fail_clash(j, clash_at);
    if (j->twice_at == SIZE_MAX)
        return PS_OK;
    return ev_fail(j->node.c, PS_EINVAL, "multiple matches for labels: %s",
                   j->m->card == PQL_ONE_TO_ONE
                       ? "many-to-one matching must be explicit (group_left/group_right)"
                       : "grouping labels must ensure unique matches");
}

static ps_status
run_pair(ev_join *j, const ev_pair *p, const ev_row *many, const ev_row *one, size_t i)
{
    ev_row out = ev_batch_row(&j->out, i);
    for (size_t w = 0; w < j->op.n_words; w++)
        j->both[w] = many->has[w] & one->has[w];
    PS_TRY(ev_binop_row(&j->op, j->swapped ? one : many, j->swapped ? many : one, j->both, &out,
                        j->ok));
    j->out.h[i] = out.h;
    check_unique(j, p);
    return PS_OK;
}

static void
note_many(ev_join *j, const ev_batch *b)
{
    for (size_t i = 0; j->clash != NULL && i < b->n; i++)
        for (size_t w = 0; w < b->n_words; w++)
            j->any_many[w] |= b->has[i * b->n_words + w];
}

/* Pairs of the batch of the many side that is there, as many as fit; their number in *ret. */
static ps_status
run_batch(ev_join *j, size_t *ret)
{
    size_t n = 0, end = j->in->first + j->in->n;
    while (j->at + n < j->n_streamed && n < j->out.cap && j->pairs[j->at + n].many < end)
        n++;
    ev_batch_clear(&j->out, j->at, n);
    for (size_t i = 0; i < n; i++) {
        const ev_pair *p = &j->pairs[j->at + i];
        ev_row many = ev_batch_row(j->in, p->many - j->in->first), one = one_row(j, p);
        PS_TRY(run_pair(j, p, &many, &one, i));
    }
    j->at += n;
    *ret = n;
    return PS_OK;
}

/* The same for what is filled on the many side. */
static ps_status
run_filled(ev_join *j, size_t *ret)
{
    size_t n = j->n_pairs - j->at < j->out.cap ? j->n_pairs - j->at : j->out.cap;
    ev_batch_clear(&j->out, j->at, n);
    for (size_t i = 0; i < n; i++) {
        const ev_pair *p = &j->pairs[j->at + i];
        ev_row one = ev_matrix_row(&j->one, j->ones[p->one].row), out = ev_batch_row(&j->out, i);
        const ev_row many = {.v = j->fill_many_v};
        for (size_t w = 0; w < j->op.n_words; w++)
            j->both[w] = one.has[w] & ~j->matched[p->group][w];
        PS_TRY(ev_binop_row(&j->op, j->swapped ? &one : &many, j->swapped ? &many : &one, j->both,
                            &out, NULL));
        j->out.h[i] = out.h;
    }
    j->at += n;
    *ret = n;
    return PS_OK;
}

/* The next batch of the many side; at its end errors are known. */
static ps_status
next_many(ev_join *j)
{
    if (!j->many_held)
        PS_TRY(ev_next(j->many_kid, &j->in));
    else
        j->in = j->in == NULL && j->many_view.n > 0 ? &j->many_view : NULL;
    if (j->in != NULL) {
        note_many(j, j->in);
        return PS_OK;
    }
    j->drained = true;
    return check_errors(j);
}

static ps_status
join_next(ev_node *n, ev_batch **ret)
{
    ev_join *j = (ev_join *)n;
    *ret = NULL;
    for (;;) {
        size_t made = 0;
        if (j->in != NULL)
            PS_TRY(run_batch(j, &made));
        else if (j->drained)
            PS_TRY(run_filled(j, &made));
        /* after an error nothing is handed on: others would find errors in it that come later */
        if (made > 0 && j->twice_at == SIZE_MAX) {
            *ret = &j->out;
            return PS_OK;
        }
        if (made > 0)
            continue;
        if (j->drained) {
            ev_binop_finish(&j->op);
            return PS_OK;
        }
        PS_TRY(next_many(j));
    }
}

/* ---- opening -------------------------------------------------------------------------------------- */

static ps_status
alloc_rows(ev_join *j)
{
    ev_ctx *c = j->node.c;
    size_t n_steps = j->op.n_steps, n_words = j->op.n_words, rows = ev_batch_rows(n_steps);
    ps_arena *arena = ev_arena(c);
    if (rows > j->n_pairs)
        rows = j->n_pairs + 1;
    j->any_many = ps_arena_array(arena, n_words + 1, sizeof *j->any_many);
    j->filled_has = ps_arena_array(arena, n_words + 1, sizeof *j->filled_has);
    j->both = ps_arena_array(arena, n_words + 1, sizeof *j->both);
    j->ok = ps_arena_array(arena, n_words + 1, sizeof *j->ok);
    j->filled_v = ps_arena_array(arena, n_steps + 1, sizeof *j->filled_v);
    j->fill_many_v = ps_arena_array(arena, n_steps + 1, sizeof *j->fill_many_v);
    if (j->any_many == NULL || j->filled_has == NULL || j->both == NULL || j->ok == NULL ||
        j->filled_v == NULL || j->fill_many_v == NULL)
        return ev_no_memory(c);
    for (size_t i = 0; i < n_steps; i++)
        j->fill_many_v[i] = j->fill_many_value;
    return ev_batch_init(&j->out, c, rows, n_steps);
}

static ps_status
group_series(ev_join *j)
{
    ev_ctx *c = j->node.c;
    PS_TRY(ev_match_on_of(c, j->m, &j->by));
    PS_TRY(ev_groups_new(c, j->one_kid->n_series, &j->groups));
    PS_TRY(ev_match_groups(c, &j->by, j->one_kid, j->groups, &j->one_group));
    PS_TRY(ev_match_groups(c, &j->by, j->many_kid, j->groups, &j->many_group));
    j->n_groups = ev_groups_n(j->groups);
    ev_groups_free(j->groups);
    j->groups = NULL;
    return PS_OK;
}

/*
 * The one side is not unique somewhere: an error, unless the many side has nothing at those steps. So the
 * many side is read as a whole; if there is an error, everything is computed to see which one is first.
 */
static ps_status
hold_many(ev_join *j)
{
    size_t ignored;
    PS_TRY(ev_matrix_pull(j->many_kid, &j->many));
    j->many_held = true;
    j->many_view = (ev_batch){.n = j->many.n,
                              .cap = j->many.n,
                              .n_steps = j->many.n_steps,
                              .n_words = j->many.n_words,
                              .v = j->many.v,
                              .has = j->many.has,
                              .h = j->many.h};
    note_many(j, &j->many_view);
    if (ev_join_clash_at(j) == SIZE_MAX || j->many.n == 0)
        return ev_join_clash_at(j) == SIZE_MAX ? PS_OK : check_errors(j);
    j->in = &j->many_view;
    do
        PS_TRY(run_batch(j, &ignored));
    while (ignored > 0);
    return check_errors(j);
}

static ps_status
join_open(ev_node *n)
{
    ev_join *j = (ev_join *)n;
    j->m = &n->expr->binary.matching;
    ev_binop_init(&j->op, n->c, n->expr, n->grid.n);
    j->twice_at = SIZE_MAX;
    j->swapped = j->m->card == PQL_ONE_TO_MANY;
    j->drop_name = ev_binop_changes_metric(j->op.op) ||
                   (j->op.return_bool && !ev_query_options(n->c)->delayed_names);
    j->drop_late = j->op.return_bool && ev_query_options(n->c)->delayed_names;
    /* left and right of fill() mean the many and the one side, also with group_right */
    j->fill_one = j->m->has_fill_right;
    j->fill_one_value = j->m->fill_right;
    j->fill_many = j->m->has_fill_left;
    j->fill_many_value = j->m->fill_left;
    j->one_kid = n->kids[j->swapped ? 0 : 1];
    j->many_kid = n->kids[j->swapped ? 1 : 0];
    PS_TRY(ev_open(n->kids[0]));
    PS_TRY(ev_open(n->kids[1]));
    PS_TRY(group_series(j));
    PS_TRY(ev_matrix_pull(j->one_kid, &j->one));
    PS_TRY(ev_join_plan(j));
    PS_TRY(alloc_rows(j));
    return j->clash != NULL ? hold_many(j) : PS_OK;
}

static void
join_close(ev_node *n)
{
    ev_join *j = (ev_join *)n;
    const ps_alloc *a = ev_alloc(n->c);
    ev_groups_free(j->groups);
    ev_matrix_done(&j->one, n->c);
    ev_matrix_done(&j->many, n->c);
    ev_batch_done(&j->out, n->c);
    if (j->pairs != NULL)
        ps_alloc_free(a, j->pairs, j->cap_pairs * sizeof *j->pairs);
    if (j->series != NULL)
        ps_alloc_free(a, j->series, j->cap_series * sizeof *j->series);
}

/* The one side, what is said about each row of the result, and a batch or, before, the table that finds
 * equal ones. */
static uint64_t
join_holds(const ev_node *n, size_t steps)
{
    const ev_join *j = (const ev_join *)n;
    uint64_t rows = ev_batch_rows(steps), pairs = j->n_pairs;
    uint64_t batch = ev_cell_bytes(rows < pairs ? rows : pairs + 1, steps);
    uint64_t table = ev_groups_bytes(pairs);
    uint64_t rest = ev_times(j->cap_pairs, sizeof *j->pairs + sizeof *j->series);
    return ev_plus(ev_plus(ev_cell_bytes(j->one_kid->n_series, steps), rest),
                   batch > table ? batch : table);
}

static const ev_node_ops join_ops = {"vector matching", sizeof(ev_join), join_open, join_next,
                                     join_close,        EV_JOIN,         join_holds};

ps_status
ev_build_join(ev_ctx *c, const pql_expr *e, const ev_grid *grid, ev_node **ret)
{
    ev_node *node, *kid;
    PS_TRY(ev_new_node(c, &join_ops, e, grid, PQL_VECTOR, &node));
    PS_TRY(ev_build(c, e->binary.lhs, grid, &kid));
    ev_add_kid(node, kid);
    PS_TRY(ev_build(c, e->binary.rhs, grid, &kid));
    ev_add_kid(node, kid);
    *ret = node;
    /* at a single step, with names dropped late, equal label sets stand side by side until the end */
    if (grid->n == 1 && ev_query_options(c)->delayed_names)
        return PS_OK;
    return ev_build_unique(c, node, false, ret);
}
