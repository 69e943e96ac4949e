/*
 * result.c - rows become the result: series with their points, in the query's arena.
 *
 * Points of a batch lie in one allocation, and rows that have every step share the times, so a result
 * of 50 000 series costs a few allocations. Range queries are sorted by labels (most are already);
 * instant ones keep their order.
 */
#include "lib/eval/plan.h"

typedef struct result_rows {
    ev_query *q;
    const ev_grid *grid;
    ev_result_series *series;
    size_t n;
    int64_t *times; /* of all steps */
    /* points of the last batch: held by its node until the next is pulled, by the result then */
    int64_t pending;
} result_rows;

static ps_status
add_hists(result_rows *r, const ev_row *row, ev_result_series *s)
{
    ev_ctx *c = &r->q->ctx;
    const hst_hist **h = ps_arena_array(ev_arena(c), s->n, sizeof *h);
    const hst_hist *last = NULL, *copy = NULL;
    int64_t weight = 0;
    size_t at = 0;
    if (h == NULL)
        return ev_no_memory(c);
    for (size_t step = 0; step < r->grid->n; step++) {
        if (!ev_has(row->has, step))
            continue;
        if (row->h[step] != NULL) {
            if (row->h[step] != last) {
                last = row->h[step];
                if (hst_copy(ev_arena(c), last, &copy) != PS_OK)
                    return ev_no_memory(c);
            }
            h[at] = copy;
            weight += (int64_t)hst_weight(copy) - 1;
        }
        at++;
    }
    s->h = h;
    r->pending += weight;
    return PS_OK;
}

/* Points of a row that lacks steps. Returns how many were written. */
static size_t
pack_row(const result_rows *r, const ev_row *row, int64_t *t, double *v)
{
    size_t n = 0;
    for (size_t w = 0; w < (r->grid->n + 63) / 64; w++)
        for (uint64_t bits = row->has[w]; bits != 0; bits &= bits - 1) {
            size_t step = w * 64 + (size_t)__builtin_ctzll(bits);
            t[n] = r->times[step];
            v[n++] = row->v[step];
        }
    return n;
}

static ps_status
add_batch(result_rows *r, ev_node *root, ev_batch *b)
{
    ev_ctx *c = &r->q->ctx;
    size_t points = 0, sparse = 0, n_steps = r->grid->n;
    for (size_t i = 0; i < b->n; i++) {
        size_t n = 0;
        for (size_t w = 0; w < b->n_words; w++)
            n += (size_t)__builtin_popcountll(b->has[i * b->n_words + w]);
        points += n;
        sparse += n == n_steps ? 0 : n;
    }
    r->pending = (int64_t)points;
    double *v = ps_arena_new(ev_arena(c), (points + 1) * sizeof *v);
    int64_t *t = ps_arena_new(ev_arena(c), (sparse + 1) * sizeof *t);
    if (v == NULL || t == NULL)
        return ev_no_memory(c);
    for (size_t i = 0; i < b->n; i++) {
        ev_row row = ev_batch_row(b, i);
        size_t n = 0;
        for (size_t w = 0; w < b->n_words; w++)
            n += (size_t)__builtin_popcountll(row.has[w]);
        if (n == 0)
            continue;
        ev_result_series *s = &r->series[r->n++];
        *s = (ev_result_series){root->series[b->first + i].labels, n, r->times, v, NULL};
        if (n == n_steps)
            memcpy(v, row.v, n * sizeof *v);
        else {
            s->t_ms = t;
            t += pack_row(r, &row, t, v);
        }
        v += n;
        if (row.h != NULL)
            PS_TRY(add_hists(r, &row, s));
    }
    return PS_OK;
}

/* Merge sort by labels, from runs of one up; nothing to do where they stand in order. */
ps_status
ev_sort_result(ev_ctx *c, ev_result_series *s, size_t n)
{
    bool sorted = true;
    for (size_t i = 1; i < n && sorted; i++)
        sorted = mdl_labels_cmp(s[i - 1].labels, s[i].labels) <= 0;
    if (sorted)
        return PS_OK;
    ev_result_series *other = ps_alloc_array(ev_alloc(c), n, sizeof *other), *from = s, *to;
    if (other == NULL)
        return ev_no_memory(c);
    to = other;
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t lo = 0; lo < n; lo += 2 * width) {
            size_t mid = lo + width < n ? lo + width : n;
            size_t hi = lo + 2 * width < n ? lo + 2 * width : n, a = lo, b = mid;
            for (size_t i = lo; i < hi; i++)
                to[i] = b == hi || (a < mid && mdl_labels_cmp(from[a].labels, from[b].labels) <= 0)
                            ? from[a++]
                            : from[b++];
        }
        ev_result_series *swap = from;
        from = to;
        to = swap;
    }
    if (from != s)
        memcpy(s, from, n * sizeof *s);
    ps_alloc_free(ev_alloc(c), other, n * sizeof *other);
    return PS_OK;
}

ps_status
ev_collect(ev_query *q, ev_node *root, bool sort)
{
    ev_ctx *c = &q->ctx;
    result_rows r = {.q = q, .grid = &root->grid};
    r.series = ps_arena_new(ev_arena(c), (root->n_series + 1) * sizeof *r.series);
    r.times = ps_arena_new(ev_arena(c), (root->grid.n + 1) * sizeof *r.times);
    if (r.series == NULL || r.times == NULL)
        return ev_no_memory(c);
    for (size_t i = 0; i < root->grid.n; i++)
        r.times[i] = root->grid.start_ms + (int64_t)i * root->grid.step_ms;
    for (;;) {
        ev_batch *b;
        PS_TRY(ev_next(root, &b));
        PS_TRY(ev_hold(c, r.pending));
        if (b == NULL)
            break;
        PS_TRY(add_batch(&r, root, b));
    }
    if (sort)
        PS_TRY(ev_sort_result(c, r.series, r.n));
    q->result.series = r.series;
    q->result.n = r.n;
    return PS_OK;
}
