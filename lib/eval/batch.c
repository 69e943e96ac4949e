/*
 * batch.c - rows of cells: batches that stream through nodes, matrices for nodes that need the whole.
 *
 * Cells of a row lie side by side, so loops over steps are loops over plain arrays. Presence is a bit
 * per cell; bits beyond n_steps are 0, so words can be counted and combined as they are. Histograms are
 * pointers beside the values, only in rows that have any.
 */
#include "lib/eval/query.h"

enum { BATCH_CELLS = 64 * 1024 };

size_t
ev_batch_rows(size_t n_steps)
{
    size_t rows = n_steps == 0 ? BATCH_CELLS : BATCH_CELLS / n_steps;
    return rows == 0 ? 1 : rows;
}

/* Arrays of n rows; all or nothing. */
static ps_status
alloc_cells(ev_ctx *c, size_t rows, size_t n_steps, double **v, uint64_t **has,
            const hst_hist ****h)
{
    const ps_alloc *a = ev_alloc(c);
    size_t cells, words, n_words = (n_steps + 63) / 64;
    *v = NULL;
    *has = NULL;
    *h = NULL;
    if (!ps_mul_size(rows, n_steps, &cells) || !ps_mul_size(rows, n_words, &words) ||
        cells > SIZE_MAX / 16)
        return ev_no_memory(c);
    *v = ps_alloc_new(a, (cells + 1) * sizeof **v);
    *has = ps_alloc_array(a, words + 1, sizeof **has);
    *h = ps_alloc_array(a, rows + 1, sizeof **h);
    if (*v != NULL && *has != NULL && *h != NULL)
        return PS_OK;
    if (*v != NULL)
        ps_alloc_free(a, *v, (cells + 1) * sizeof **v);
    if (*has != NULL)
        ps_alloc_free(a, *has, (words + 1) * sizeof **has);
    if (*h != NULL)
        ps_alloc_free(a, *h, (rows + 1) * sizeof **h);
    *v = NULL;
    *has = NULL;
    *h = NULL;
    return ev_no_memory(c);
}

static void
free_cells(ev_ctx *c, size_t rows, size_t n_steps, double *v, uint64_t *has, const hst_hist ***h)
{
    const ps_alloc *a = ev_alloc(c);
    if (v == NULL)
        return;
    ps_alloc_free(a, v, (rows * n_steps + 1) * sizeof *v);
    ps_alloc_free(a, has, (rows * ((n_steps + 63) / 64) + 1) * sizeof *has);
    ps_alloc_free(a, h, (rows + 1) * sizeof *h);
}

ps_status
ev_batch_init(ev_batch *b, ev_ctx *c, size_t rows, size_t n_steps)
{
    memset(b, 0, sizeof *b);
    b->cap = rows;
    b->n_steps = n_steps;
    b->n_words = (n_steps + 63) / 64;
    ps_arena_init(&b->arena, ev_alloc(c), 0);
    return alloc_cells(c, rows, n_steps, &b->v, &b->has, &b->h);
}

void
ev_batch_done(ev_batch *b, ev_ctx *c)
{
    if (b->v == NULL)
        return;
    free_cells(c, b->cap, b->n_steps, b->v, b->has, b->h);
    ps_arena_done(&b->arena);
    b->v = NULL;
    b->n = b->cap = 0;
}

void
ev_batch_clear(ev_batch *b, size_t first, size_t n)
{
    b->first = first;
    b->n = n;
    memset(b->has, 0, n * b->n_words * sizeof *b->has);
    memset(b->h, 0, n * sizeof *b->h);
    ps_arena_reset(&b->arena);
}

ev_row
ev_batch_row(ev_batch *b, size_t i)
{
    return (ev_row){b->v + i * b->n_steps, b->has + i * b->n_words, b->h[i], &b->arena};
}

ps_status
ev_row_hists(ev_ctx *c, ev_row *row, size_t n_steps)
{
    if (row->h != NULL)
        return PS_OK;
    row->h = ps_arena_array(row->arena, n_steps, sizeof *row->h);
    return row->h == NULL ? ev_no_memory(c) : PS_OK;
}

ps_status
ev_batch_hists(ev_batch *b, ev_ctx *c, size_t i)
{
    ev_row row = ev_batch_row(b, i);
    PS_TRY(ev_row_hists(c, &row, b->n_steps));
    b->h[i] = row.h;
    return PS_OK;
}

/* ---- matrices ---------------------------------------------------------------------------------- */

ev_row
ev_matrix_row(ev_matrix *m, size_t i)
{
    return (ev_row){m->v + i * m->n_steps, m->has + i * m->n_words, m->h[i], &m->arena};
}

/* Histograms of a batch die with it. One that stands in several cells in a row is copied once. */
static ps_status
copy_hists(ev_ctx *c, ev_matrix *m, size_t i, const ev_row *from, int64_t *ret_weight)
{
    ev_row row = ev_matrix_row(m, i);
    PS_TRY(ev_row_hists(c, &row, m->n_steps));
    m->h[i] = row.h;
    const hst_hist *last = NULL, *copy = NULL;
    for (size_t s = 0; s < m->n_steps; s++) {
        if (!ev_has(from->has, s) || from->h[s] == NULL)
            continue;
        if (from->h[s] != last) {
            last = from->h[s];
            if (hst_copy(&m->arena, last, &copy) != PS_OK)
                return ev_no_memory(c);
        }
        row.h[s] = copy;
        *ret_weight += (int64_t)hst_weight(copy) - 1;
    }
    return PS_OK;
}

/* *ret_points: the samples of the batch. Its node holds them until the next one is pulled. */
static ps_status
take_batch(ev_matrix *m, ev_ctx *c, ev_batch *b, int64_t *ret_points)
{
    int64_t points = 0;
    memcpy(m->v + b->first * m->n_steps, b->v, b->n * m->n_steps * sizeof *m->v);
    memcpy(m->has + b->first * m->n_words, b->has, b->n * m->n_words * sizeof *m->has);
    for (size_t w = 0; w < b->n * m->n_words; w++)
        points += __builtin_popcountll(b->has[w]);
    for (size_t i = 0; i < b->n; i++)
        if (b->h[i] != NULL) {
            ev_row from = ev_batch_row(b, i);
            PS_TRY(copy_hists(c, m, b->first + i, &from, &points));
        }
    *ret_points = points;
    return PS_OK;
}

ps_status
ev_matrix_pull(ev_node *n, ev_matrix *ret)
{
    ev_ctx *c = n->c;
    ev_matrix m = {.n = n->n_series, .n_steps = n->grid.n, .n_words = (n->grid.n + 63) / 64};
    ps_arena_init(&m.arena, ev_alloc(c), 0);
    ps_status status = alloc_cells(c, m.n, m.n_steps, &m.v, &m.has, &m.h);
    int64_t points = 0;
    while (status == PS_OK) {
        ev_batch *b;
        status = ev_next(n, &b);
        if (status != PS_OK)
            break;
        m.held += points;
        status = ev_hold(c, points);
        if (status != PS_OK || b == NULL)
            break;
        status = take_batch(&m, c, b, &points);
    }
    if (status != PS_OK) {
        ev_matrix_done(&m, c);
        memset(&m, 0, sizeof m);
    }
    *ret = m;
    return status;
}

void
ev_matrix_done(ev_matrix *m, ev_ctx *c)
{
    if (m->v == NULL)
        return;
    free_cells(c, m->n, m->n_steps, m->v, m->has, m->h);
    ps_arena_done(&m->arena);
    ev_release(c, m->held);
    memset(m, 0, sizeof *m);
}
