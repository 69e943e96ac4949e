/*
 * agg_output.c - how aggregations hand out what they have: rows batch by batch, rows that are mostly empty,
 * series in an order.
 *
 * Points of sparse rows are kept as (step, value) one row after the other: 12 bytes for each point and 8
 * for each row.
 */
#include "lib/eval/agg.h"

ps_status
ev_agg_output_next(ev_node *n, agg_output *o, ev_batch **ret)
{
    *ret = NULL;
    if (o->next >= n->n_series)
        return PS_OK;
    if (!o->ready) {
        size_t rows = ev_batch_rows(n->grid.n);
        if (rows > n->n_series)
            rows = n->n_series;
        PS_TRY(ev_batch_init(&o->batch, n->c, rows, n->grid.n));
        o->ready = true;
    }
    size_t rows = n->n_series - o->next;
    if (rows > o->batch.cap)
        rows = o->batch.cap;
    ev_batch_clear(&o->batch, o->next, rows);
    o->next += rows;
    *ret = &o->batch;
    return PS_OK;
}

void
ev_agg_output_done(ev_node *n, agg_output *o)
{
    if (o->ready)
        ev_batch_done(&o->batch, n->c);
    o->ready = false;
}

/* ---- sparse rows ------------------------------------------------------------------------------------- */

ps_status
ev_agg_points_new(ev_ctx *c, size_t n_rows, size_t n_points, agg_points *ret)
{
    const ps_alloc *alloc = ev_alloc(c);
    *ret = (agg_points){.n_rows = n_rows, .n_points = n_points};
    ret->from = ps_alloc_array(alloc, n_rows + 2, sizeof *ret->from);
    ret->step = ps_alloc_array(alloc, n_points + 1, sizeof *ret->step);
    ret->v = ps_alloc_array(alloc, n_points + 1, sizeof *ret->v);
    if (ret->from != NULL && ret->step != NULL && ret->v != NULL)
        return PS_OK;
    ev_agg_points_free(c, ret);
    return ev_no_memory(c);
}

void
ev_agg_points_free(ev_ctx *c, agg_points *p)
{
    const ps_alloc *alloc = ev_alloc(c);
    if (p->from != NULL)
        ps_alloc_free(alloc, p->from, (p->n_rows + 2) * sizeof *p->from);
    if (p->step != NULL)
        ps_alloc_free(alloc, p->step, (p->n_points + 1) * sizeof *p->step);
    if (p->v != NULL)
        ps_alloc_free(alloc, p->v, (p->n_points + 1) * sizeof *p->v);
    *p = (agg_points){0};
}

/* While rows are counted, from[r + 2] holds the number of points of row r; once counted, from[r + 1] is
 * where the next one of row r goes, and so in the end where row r + 1 begins. */
void
ev_agg_points_count(agg_points *p, size_t row, size_t n)
{
    p->from[row + 2] += n;
}

void
ev_agg_points_counted(agg_points *p)
{
    for (size_t i = 2; i < p->n_rows + 2; i++)
        p->from[i] += p->from[i - 1];
}

void
ev_agg_points_add(agg_points *p, size_t row, uint32_t step, double v)
{
    size_t at = p->from[row + 1]++;
    p->step[at] = step;
    p->v[at] = v;
}

void
ev_agg_points_write(const agg_points *p, ev_batch *out)
{
    for (size_t i = 0; i < out->n; i++) {
        double *v = out->v + i * out->n_steps;
        uint64_t *has = out->has + i * out->n_words;
        for (size_t at = p->from[out->first + i]; at < p->from[out->first + i + 1]; at++) {
            v[p->step[at]] = p->v[at];
            ev_set(has, p->step[at]);
        }
    }
}

/* ---- order --------------------------------------------------------------------------------------------- */

static void
sort_few(uint32_t *items, size_t n, agg_before before, const void *arg)
{
    for (size_t i = 1; i < n; i++) {
        for (size_t k = i; k > 0 && before(arg, items[k], items[k - 1]); k--) {
            uint32_t t = items[k];
            items[k] = items[k - 1];
            items[k - 1] = t;
        }
    }
}

/* Merges the sorted halves [0, half) and [half, n) of `from` into `to`. */
static void
merge(const uint32_t *from, size_t half, size_t n, uint32_t *to, agg_before before, const void *arg)
{
    size_t a = 0, b = half;
    for (size_t i = 0; i < n; i++) {
        bool take_b = a == half || (b < n && before(arg, from[b], from[a]));
        to[i] = take_b ? from[b++] : from[a++];
    }
}

void
ev_agg_sort(uint32_t *items, size_t n, agg_before before, const void *arg, uint32_t *scratch)
{
    enum { FEW = 12 };
    for (size_t i = 0; i < n; i += FEW)
        sort_few(items + i, n - i < FEW ? n - i : FEW, before, arg);
    for (size_t run = FEW; run < n; run *= 2) {
        for (size_t i = 0; i < n; i += 2 * run) {
            size_t len = n - i < 2 * run ? n - i : 2 * run;
            merge(items + i, len < run ? len : run, len, scratch + i, before, arg);
        }
        memcpy(items, scratch, n * sizeof *items);
    }
}
