/*
 * unique.c - label sets that became equal when names went, and the end of a query with delayed names.
 *
 * Where all sets differ (known, or found by hashing them once) batches pass through untouched.
 * Otherwise the kid is pulled whole, and rows of equal labels become one if they never have a point at
 * the same step.
 *
 * Memory: nothing, or the kid's whole matrix.
 */
#include "lib/eval/plan.h"

typedef struct unique_node {
    ev_node n;
    bool strict;
    bool merging;
    uint32_t *group; /* [kid's series] */
    ev_matrix all;   /* of the kid, then its first n_series rows of ours */
    ev_batch out;
    size_t at;
} unique_node;

static ps_status
duplicates(ev_ctx *c)
{
    return ev_fail(c, PS_EINVAL, "vector cannot contain metrics with the same labelset");
}

/* Groups of equal labels, numbered by first sight. */
static ps_status
find_equal(unique_node *u, ev_groups *g)
{
    ev_node *n = &u->n, *kid = n->kids[0];
    u->group = ps_arena_array(ev_arena(n->c), kid->n_series + 1, sizeof *u->group);
    if (u->group == NULL)
        return ev_no_memory(n->c);
    for (size_t i = 0; i < kid->n_series; i++)
        PS_TRY(ev_groups_add(g, kid->series[i].labels, &u->group[i], NULL));
    u->merging = ev_groups_n(g) < kid->n_series;
    return PS_OK;
}

static bool
row_is_empty(const ev_row *row, size_t n_words)
{
    uint64_t any = 0;
    for (size_t w = 0; w < n_words; w++)
        any |= row->has[w];
    return any == 0;
}

static size_t
first_step(const ev_row *row, size_t n_words)
{
    for (size_t w = 0; w < n_words; w++)
        if (row->has[w] != 0)
            return w * 64 + (size_t)__builtin_ctzll(row->has[w]);
    return SIZE_MAX;
}

/* Is the first point of row b before that of row a? Then the name of b's series counts. */
static bool
begins_before(unique_node *u, size_t b, size_t a)
{
    ev_row rb = ev_matrix_row(&u->all, b), ra = ev_matrix_row(&u->all, a);
    return first_step(&rb, u->all.n_words) < first_step(&ra, u->all.n_words);
}

/* Adds the cells of a row to an earlier one. */
static ps_status
merge_row(unique_node *u, size_t into, size_t from)
{
    ev_ctx *c = u->n.c;
    ev_row a = ev_matrix_row(&u->all, into), b = ev_matrix_row(&u->all, from);
    bool both = !row_is_empty(&a, u->all.n_words) && !row_is_empty(&b, u->all.n_words);
    if (u->strict && both)
        return duplicates(c);
    if (b.h != NULL) {
        PS_TRY(ev_row_hists(c, &a, u->all.n_steps));
        u->all.h[into] = a.h;
    }
    for (size_t w = 0; w < u->all.n_words; w++) {
        if ((a.has[w] & b.has[w]) != 0)
            return duplicates(c);
        for (uint64_t bits = b.has[w]; bits != 0; bits &= bits - 1) {
            size_t s = w * 64 + (size_t)__builtin_ctzll(bits);
            a.v[s] = b.v[s];
            if (a.h != NULL)
                a.h[s] = b.h != NULL ? b.h[s] : NULL;
        }
        a.has[w] |= b.has[w];
    }
    return PS_OK;
}

static void
move_row(ev_matrix *m, size_t to, size_t from)
{
    memmove(m->v + to * m->n_steps, m->v + from * m->n_steps, m->n_steps * sizeof *m->v);
    memmove(m->has + to * m->n_words, m->has + from * m->n_words, m->n_words * sizeof *m->has);
    m->h[to] = m->h[from];
}

/* Row g of the matrix becomes the row of group g; the first row of a group never stands before it. */
static ps_status
merge_all(unique_node *u, size_t n_groups)
{
    ev_node *n = &u->n, *kid = n->kids[0];
    size_t seen = 0;
    PS_TRY(ev_matrix_pull(kid, &u->all));
    n->series = ps_arena_array(ev_arena(n->c), n_groups + 1, sizeof *n->series);
    if (n->series == NULL)
        return ev_no_memory(n->c);
    n->n_series = n_groups;
    for (size_t i = 0; i < kid->n_series; i++) {
        size_t g = u->group[i];
        if (g == seen) {
            if (g != i)
                move_row(&u->all, g, i);
            n->series[g] = kid->series[i];
            seen++;
            continue;
        }
        if (begins_before(u, i, g))
            n->series[g].drop_name = kid->series[i].drop_name;
        PS_TRY(merge_row(u, g, i));
    }
    size_t rows = ev_batch_rows(n->grid.n);
    return ev_batch_init(&u->out, n->c, rows < n_groups ? rows : n_groups, n->grid.n);
}

static ps_status
unique_open(ev_node *n)
{
    unique_node *u = (unique_node *)n;
    ev_node *kid = n->kids[0];
    PS_TRY(ev_open(kid));
    PS_TRY(ev_take_series(n, kid, false));
    if (!kid->distinct && kid->n_series > 1) {
        ev_groups *g;
        PS_TRY(ev_groups_new(n->c, kid->n_series, &g));
        ps_status status = find_equal(u, g);
        if (status == PS_OK && u->merging)
            status = merge_all(u, ev_groups_n(g));
        ev_groups_free(g);
        PS_TRY(status);
    }
    n->distinct = true;
    return PS_OK;
}

static ps_status
unique_next(ev_node *n, ev_batch **ret)
{
    unique_node *u = (unique_node *)n;
    if (!u->merging)
        return ev_next(n->kids[0], ret);
    if (u->at >= n->n_series)
        return PS_OK;
    size_t rows = n->n_series - u->at < u->out.cap ? n->n_series - u->at : u->out.cap;
    ev_batch_clear(&u->out, u->at, rows);
    memcpy(u->out.v, u->all.v + u->at * n->grid.n, rows * n->grid.n * sizeof *u->out.v);
    memcpy(u->out.has, u->all.has + u->at * u->all.n_words,
           rows * u->all.n_words * sizeof *u->out.has);
    memcpy(u->out.h, u->all.h + u->at, rows * sizeof *u->out.h);
    u->at += rows;
    *ret = &u->out;
    return PS_OK;
}

static void
unique_close(ev_node *n)
{
    unique_node *u = (unique_node *)n;
    ev_batch_done(&u->out, n->c);
    ev_matrix_done(&u->all, n->c);
}

static uint64_t
unique_holds(const ev_node *n, size_t steps)
{
    const unique_node *u = (const unique_node *)n;
    uint64_t series = n->kids[0]->n_series, opening = ev_groups_bytes(series);
    if (u->group == NULL)
        return 0;
    return u->merging ? ev_plus(ev_cell_bytes(series, steps), ev_batch_bytes(n->n_series, steps))
                      : opening;
}

static const ev_node_ops unique_ops = {"unique",    sizeof(unique_node), unique_open,
                                       unique_next, unique_close,        EV_CHECK,
                                       unique_holds};

ps_status
ev_build_unique(ev_ctx *c, ev_node *kid, bool strict, ev_node **ret)
{
    PS_TRY(ev_new_node(c, &unique_ops, kid->expr, &kid->grid, kid->type, ret));
    ((unique_node *)*ret)->strict = strict;
    ev_add_kid(*ret, kid);
    return PS_OK;
}

/* ---- the end of a query with delayed names -------------------------------------------------------------- */

static ps_status
cleanup_open(ev_node *n)
{
    ev_node *kid = n->kids[0];
    ev_ctx *c = n->c;
    size_t flagged = 0;
    PS_TRY(ev_open(kid));
    PS_TRY(ev_take_series(n, kid, false));
    for (size_t i = 0; i < n->n_series; i++)
        flagged += n->series[i].drop_name;
    if (flagged == 0)
        return PS_OK;
    n->distinct = false;
    n->series = ps_arena_array(ev_arena(c), n->n_series, sizeof *n->series);
    if (n->series == NULL)
        return ev_no_memory(c);
    for (size_t i = 0; i < n->n_series; i++) {
        n->series[i].labels = kid->series[i].labels;
        if (kid->series[i].drop_name)
            PS_TRY(ev_labels_drop_name(c, n->series[i].labels, &n->series[i].labels));
    }
    return PS_OK;
}

static ps_status
cleanup_next(ev_node *n, ev_batch **ret)
{
    return ev_next(n->kids[0], ret);
}

static const ev_node_ops cleanup_ops = {"cleanup", sizeof(ev_node), cleanup_open, cleanup_next,
                                        NULL,      EV_CHECK,        NULL};

ps_status
ev_build_cleanup(ev_ctx *c, ev_node *kid, ev_node **ret)
{
    ev_node *n;
    PS_TRY(ev_new_node(c, &cleanup_ops, kid->expr, &kid->grid, kid->type, &n));
    ev_add_kid(n, kid);
    return ev_build_unique(c, n, false, ret);
}
