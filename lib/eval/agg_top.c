/*
 * agg_top.c - topk, bottomk: the k largest or smallest floats of each group at each step.
 *
 * Every step of a group has a heap of at most k entries with the least welcome one on top; rows are played
 * against the heaps as they come in, so the input is never held. Heaps work as those of Go's
 * container/heap, since that decides which of equal values stay. Which series come out depends on values:
 * so everything happens when the node is opened. An instant query gets its groups one after the other, as
 * they were seen first, and the values of each in order; otherwise series keep the order of the input.
 *
 * Memory: for each group and step min(k, size of the group) x 12 bytes and 4 more; then 12 for each point
 * of the result.
 */
#include "lib/eval/agg.h"

#include <math.h>

typedef struct top_entry {
    double v;
    uint32_t series;
} top_entry;

typedef struct top_node {
    ev_node base;
    agg_groups groups;
    agg_param param;
    bool largest; /* topk */
    double *v;    /* heaps: group by group, [steps][cap] */
    uint32_t *series;
    uint32_t *n; /* [groups][steps] entries of each heap */
    size_t *first;
    uint32_t *cap; /* of each heap of a group */
    size_t n_cells, n_heaps;
    uint32_t *seen; /* groups in the order in which anything came of them */
    size_t n_seen;
    uint8_t *is_seen;
    agg_points points;
    int64_t held;
    agg_output output;
} top_node;

typedef struct heap {
    double *v;
    uint32_t *series;
    bool largest;
} heap;

static inline bool
worse(bool largest, double a, double b)
{
    return isnan(a) || (largest ? a < b : a > b);
}

static inline void
heap_swap(const heap *h, size_t i, size_t k)
{
    double v = h->v[i];
    uint32_t s = h->series[i];
    h->v[i] = h->v[k];
    h->series[i] = h->series[k];
    h->v[k] = v;
    h->series[k] = s;
}

static void
heap_up(const heap *h, size_t at)
{
    while (at > 0) {
        size_t parent = (at - 1) / 2;
        if (!worse(h->largest, h->v[at], h->v[parent]))
            return;
        heap_swap(h, at, parent);
        at = parent;
    }
}

static void
heap_down(const heap *h, size_t at, size_t n)
{
    for (;;) {
        size_t kid = 2 * at + 1;
        if (kid >= n)
            return;
        if (kid + 1 < n && worse(h->largest, h->v[kid + 1], h->v[kid]))
            kid++;
        if (!worse(h->largest, h->v[kid], h->v[at]))
            return;
        heap_swap(h, at, kid);
        at = kid;
    }
}

/* ---- in --------------------------------------------------------------------------------------------- */

static ps_status
new_heaps(top_node *t)
{
    ev_ctx *c = t->base.c;
    size_t n_groups = t->groups.n, n_steps = t->base.grid.n;
    t->first = ps_arena_array(ev_arena(c), n_groups + 1, sizeof *t->first);
    t->cap = ps_arena_array(ev_arena(c), n_groups + 1, sizeof *t->cap);
    t->seen = ps_arena_array(ev_arena(c), n_groups + 1, sizeof *t->seen);
    t->is_seen = ps_arena_array(ev_arena(c), n_groups + 1, sizeof *t->is_seen);
    if (t->first == NULL || t->cap == NULL || t->seen == NULL || t->is_seen == NULL)
        return ev_no_memory(c);
    for (size_t g = 0; g < n_groups; g++) {
        uint32_t size = t->groups.sizes[g];
        t->cap[g] = t->param.max < size ? (uint32_t)t->param.max : size;
        t->first[g] = t->n_cells;
        size_t more;
        if (!ps_mul_size(t->cap[g], n_steps, &more) || !ps_add_size(t->n_cells, more, &t->n_cells))
            return ev_no_memory(c);
    }
    if (!ps_mul_size(n_groups, n_steps, &t->n_heaps))
        return ev_no_memory(c);
    t->v = ps_alloc_array(ev_alloc(c), t->n_cells + 1, sizeof *t->v);
    t->series = ps_alloc_array(ev_alloc(c), t->n_cells + 1, sizeof *t->series);
    t->n = ps_alloc_array(ev_alloc(c), t->n_heaps + 1, sizeof *t->n);
    if (t->v == NULL || t->series == NULL || t->n == NULL)
        return ev_no_memory(c);
    return PS_OK;
}

static heap
heap_of(const top_node *t, size_t group, size_t step)
{
    size_t at = t->first[group] + step * t->cap[group];
    return (heap){t->v + at, t->series + at, t->largest};
}

static void
top_add(top_node *t, size_t group, size_t step, double v, uint32_t series)
{
    heap h = heap_of(t, group, step);
    uint32_t *n = &t->n[group * t->base.grid.n + step];
    double k = t->param.at[step];
    if ((double)*n + 1 <= k) {
        h.v[*n] = v;
        h.series[*n] = series;
        heap_up(&h, *n);
        (*n)++;
        t->held++;
        return;
    }
    if (*n == 0)
        return;
    bool better = t->largest ? h.v[0] < v : h.v[0] > v;
    if (!better && !(isnan(h.v[0]) && !isnan(v)))
        return;
    h.v[0] = v;
    h.series[0] = series;
    heap_down(&h, 0, *n);
}

static ps_status
top_pull(top_node *t)
{
    ev_node *kid = t->base.kids[0];
    size_t n_steps = t->base.grid.n;
    for (;;) {
        ev_batch *b;
        PS_TRY(ev_next(kid, &b));
        if (b == NULL)
            return PS_OK;
        int64_t before = t->held;
        for (size_t i = 0; i < b->n; i++) {
            size_t series = b->first + i, group = t->groups.of[series];
            ev_row row = ev_batch_row(b, i);
            if (!t->is_seen[group] && ev_agg_next_set(row.has, 0, n_steps) < n_steps) {
                t->is_seen[group] = 1;
                t->seen[t->n_seen++] = (uint32_t)group;
            }
            for (size_t s = ev_agg_next_set(row.has, 0, n_steps); s < n_steps;
                 s = ev_agg_next_set(row.has, s + 1, n_steps)) {
                if (row.h == NULL || row.h[s] == NULL)
                    top_add(t, group, s, row.v[s], (uint32_t)series);
                else if (t->param.at[s] >= 1)
                    ev_agg_ignored_histogram(t->base.c, t->base.expr);
            }
        }
        PS_TRY(ev_hold(t->base.c, t->held - before));
    }
}

/* ---- out -------------------------------------------------------------------------------------------- */

static bool
ranks_before(const void *arg, uint32_t a, uint32_t b)
{
    const heap *h = arg;
    return worse(h->largest, h->v[b], h->v[a]);
}

/* Rows of an instant query: group by group, the entries of each in their order. row_of[series] = row. */
static ps_status
rows_by_rank(top_node *t, uint32_t *row_of, size_t *ret_n)
{
    ev_ctx *c = t->base.c;
    size_t n = 0, most = 0;
    for (size_t g = 0; g < t->groups.n; g++)
        most = t->n[g] > most ? t->n[g] : most;
    uint32_t *order = ps_alloc_array(ev_alloc(c), most + 1, 2 * sizeof *order);
    if (order == NULL)
        return ev_no_memory(c);
    for (size_t k = 0; k < t->n_seen; k++) {
        size_t g = t->seen[k];
        heap h = heap_of(t, g, 0);
        for (uint32_t i = 0; i < t->n[g]; i++)
            order[i] = i;
        ev_agg_sort(order, t->n[g], ranks_before, &h, order + most + 1);
        for (uint32_t i = 0; i < t->n[g]; i++)
            row_of[h.series[order[i]]] = (uint32_t)n++;
    }
    ps_alloc_free(ev_alloc(c), order, (most + 1) * 2 * sizeof *order);
    *ret_n = n;
    return PS_OK;
}

/* Rows of the series that were chosen at some step, in the order of the input. */
static size_t
rows_by_series(top_node *t, uint32_t *row_of)
{
    size_t n = 0, n_steps = t->base.grid.n;
    for (size_t i = 0; i < t->n_heaps; i++) {
        heap h = heap_of(t, i / n_steps, i % n_steps);
        for (uint32_t k = 0; k < t->n[i]; k++)
            row_of[h.series[k]] = 0;
    }
    for (size_t i = 0; i < t->base.kids[0]->n_series; i++) {
        if (row_of[i] != UINT32_MAX)
            row_of[i] = (uint32_t)n++;
    }
    return n;
}

static ps_status
top_rows(top_node *t, const uint32_t *row_of, size_t n_rows)
{
    ev_node *n = &t->base;
    size_t n_steps = n->grid.n;
    n->series = ps_arena_array(ev_arena(n->c), n_rows + 1, sizeof *n->series);
    if (n->series == NULL)
        return ev_no_memory(n->c);
    n->n_series = n_rows;
    n->distinct = n->kids[0]->distinct;
    for (size_t i = 0; i < n->kids[0]->n_series; i++) {
        if (row_of[i] != UINT32_MAX)
            n->series[row_of[i]] = n->kids[0]->series[i];
    }
    PS_TRY(ev_agg_points_new(n->c, n_rows, (size_t)t->held, &t->points));
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < t->n_heaps; i++) {
            heap h = heap_of(t, i / n_steps, i % n_steps);
            for (uint32_t k = 0; k < t->n[i]; k++) {
                if (pass == 0)
                    ev_agg_points_count(&t->points, row_of[h.series[k]], 1);
                else
                    ev_agg_points_add(&t->points, row_of[h.series[k]], (uint32_t)(i % n_steps),
                                      h.v[k]);
            }
        }
        if (pass == 0)
            ev_agg_points_counted(&t->points);
    }
    return PS_OK;
}

static void
free_heaps(top_node *t)
{
    const ps_alloc *alloc = ev_alloc(t->base.c);
    if (t->v != NULL)
        ps_alloc_free(alloc, t->v, (t->n_cells + 1) * sizeof *t->v);
    if (t->series != NULL)
        ps_alloc_free(alloc, t->series, (t->n_cells + 1) * sizeof *t->series);
    if (t->n != NULL)
        ps_alloc_free(alloc, t->n, (t->n_heaps + 1) * sizeof *t->n);
    t->v = NULL;
    t->series = NULL;
    t->n = NULL;
}

/* ---- node --------------------------------------------------------------------------------------------- */

/* The entries of all heaps of a step. A parameter that nobody knows may be any number. */
static uint64_t
entries_of_step(const top_node *t)
{
    uint64_t entries = 0;
    for (size_t g = 0; g < t->groups.n; g++)
        entries += t->param.max < t->groups.sizes[g] ? (uint64_t)t->param.max : t->groups.sizes[g];
    return entries;
}

/* In a rehearsal: any series may come out, at a step as many as there are entries. */
static void
expect_all(top_node *t)
{
    ev_node *n = &t->base, *kid = n->kids[0];
    n->series = kid->series;
    n->n_series = kid->n_series;
    n->distinct = kid->distinct;
    ev_expect_series(n, entries_of_step(t));
}

/* Heaps and the points that become of them; then a batch. */
static uint64_t
top_holds(const ev_node *n, size_t steps)
{
    const top_node *t = (const top_node *)n;
    uint64_t entries = entries_of_step(t), points = ev_times(entries, steps);
    uint64_t heaps = ev_plus(ev_times(points, 12), ev_times(ev_times(t->groups.n, steps), 4));
    uint64_t result = ev_plus(ev_times(points, 12), ev_times(entries, 8));
    uint64_t batch = ev_batch_bytes(entries, steps);
    return ev_plus(result, heaps > batch ? heaps : batch);
}

static ps_status
top_open(ev_node *n)
{
    top_node *t = (top_node *)n;
    t->largest = n->expr->aggregate.op == PQL_TOPK;
    PS_TRY(ev_agg_param_open(n, &t->param));
    ev_node *kid = n->kids[0];
    PS_TRY(ev_open(kid));
    bool nothing;
    PS_TRY(ev_agg_check_k(n->c, &t->param, &nothing));
    if (nothing)
        return ev_agg_drain(kid);
    PS_TRY(ev_agg_group(n->c, n->expr, kid, PS_STR(""), &t->groups));
    if (ev_rehearses(n->c)) {
        expect_all(t);
        return PS_OK;
    }
    PS_TRY(new_heaps(t));
    PS_TRY(top_pull(t));
    uint32_t *row_of = ps_arena_array(ev_arena(n->c), kid->n_series + 1, sizeof *row_of);
    if (row_of == NULL)
        return ev_no_memory(n->c);
    memset(row_of, 0xff, kid->n_series * sizeof *row_of);
    size_t n_rows = 0;
    if (n->grid.n == 1)
        PS_TRY(rows_by_rank(t, row_of, &n_rows));
    else
        n_rows = rows_by_series(t, row_of);
    PS_TRY(top_rows(t, row_of, n_rows));
    free_heaps(t);
    return PS_OK;
}

static ps_status
top_next(ev_node *n, ev_batch **ret)
{
    top_node *t = (top_node *)n;
    PS_TRY(ev_agg_output_next(n, &t->output, ret));
    if (*ret != NULL)
        ev_agg_points_write(&t->points, *ret);
    return PS_OK;
}

static void
top_close(ev_node *n)
{
    top_node *t = (top_node *)n;
    free_heaps(t);
    ev_agg_points_free(n->c, &t->points);
    ev_agg_output_done(n, &t->output);
    ev_release(n->c, t->held);
    t->held = 0;
}

const ev_node_ops ev_agg_top_ops = {
    "largest or smallest", sizeof(top_node), top_open, top_next, top_close, EV_GATHER, top_holds};
