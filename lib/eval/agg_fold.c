/*
 * agg_fold.c - sum, avg, min, max, count, group, stddev, stdvar: input rows fold into accumulators.
 *
 * The input is pulled batch by batch and never held; each row is added to the accumulators of its group
 * by a loop over runs of steps at which it has floats. So values meet in the order of the series at
 * every step, as in Prometheus.
 *
 * Memory: groups x steps x (8 bytes for each accumulator: sum 2, avg, stddev and stdvar 3, min, max and
 * count 1, group none) and a bit; for sums and averages of histograms what agg_hist.c says on top.
 */
#include "lib/eval/agg.h"

typedef struct fold_node {
    ev_node base;
    agg_groups groups;
    const agg_kind *kind;
    double *parts[3];
    size_t part_bytes;
    uint64_t *has; /* floats, histograms that are counted: [groups][n_words] */
    size_t n_words, has_bytes;
    agg_hists *hists; /* NULL until the first one that is summed */
    bool pulled;
    int64_t held;
    agg_output output;
} fold_node;

static agg_cells
cells_at(const fold_node *f, size_t group, size_t step)
{
    size_t at = group * f->base.grid.n + step;
    agg_cells cells = {NULL, NULL, NULL};
    if (f->parts[0] != NULL)
        cells.a = f->parts[0] + at;
    if (f->parts[1] != NULL)
        cells.b = f->parts[1] + at;
    if (f->parts[2] != NULL)
        cells.n = f->parts[2] + at;
    return cells;
}

static ps_status
fold_open(ev_node *n)
{
    fold_node *f = (fold_node *)n;
    PS_TRY(ev_open(n->kids[0]));
    PS_TRY(ev_agg_group(n->c, n->expr, n->kids[0], PS_STR(""), &f->groups));
    n->series = f->groups.series;
    n->n_series = f->groups.n;
    n->distinct = true;
    f->kind = ev_agg_kind_of(n->expr->aggregate.op);
    return PS_OK;
}

static ps_status
new_accumulators(fold_node *f)
{
    ev_ctx *c = f->base.c;
    size_t n_cells, bits;
    f->n_words = (f->base.grid.n + 63) / 64;
    if (!ps_mul_size(f->groups.n, f->base.grid.n, &n_cells) ||
        !ps_mul_size(n_cells + 1, sizeof(double), &f->part_bytes) ||
        !ps_mul_size(f->groups.n, f->n_words, &bits))
        return ev_no_memory(c);
    for (unsigned i = 0; i < f->kind->n_parts; i++) {
        f->parts[i] = ps_alloc_new(ev_alloc(c), f->part_bytes);
        if (f->parts[i] == NULL)
            return ev_no_memory(c);
        double first = i == 0 ? f->kind->a0 : 0;
        for (size_t k = 0; k < n_cells; k++)
            f->parts[i][k] = first;
    }
    f->has_bytes = (bits + 1) * sizeof(uint64_t);
    f->has = ps_alloc_array(ev_alloc(c), bits + 1, sizeof(uint64_t));
    return f->has == NULL ? ev_no_memory(c) : PS_OK;
}

/* Adds a row that has nothing but floats; counts the cells that had nothing before. */
static void
fold_floats(fold_node *f, size_t group, const double *v, const uint64_t *has)
{
    size_t n_steps = f->base.grid.n;
    if (f->kind->add != NULL) {
        for (size_t s = ev_agg_next_set(has, 0, n_steps); s < n_steps;) {
            size_t end = ev_agg_next_clear(has, s, n_steps);
            f->kind->add(cells_at(f, group, s), v + s, end - s);
            s = ev_agg_next_set(has, end, n_steps);
        }
    }
    uint64_t *all = f->has + group * f->n_words;
    for (size_t w = 0; w < f->n_words; w++) {
        f->held += __builtin_popcountll(has[w] & ~all[w]);
        all[w] |= has[w];
    }
}

/* What becomes of a histogram: it is counted, summed, or ignored with a note. */
static ps_status
fold_histogram(fold_node *f, size_t series, size_t step, const hst_hist *h)
{
    ev_node *n = &f->base;
    size_t group = f->groups.of[series];
    uint64_t *has = f->has + group * f->n_words;
    switch (n->expr->aggregate.op) {
    case PQL_COUNT:
        f->kind->add(cells_at(f, group, step), NULL, 1);
        f->held += !ev_has(has, step);
        ev_set(has, step);
        return PS_OK;
    case PQL_GROUP:
        f->held += !ev_has(has, step);
        ev_set(has, step);
        return PS_OK;
    case PQL_SUM:
    case PQL_AVG:
        if (f->hists == NULL)
            PS_TRY(ev_agg_hists_new(n->c, n->expr, f->groups.n * n->grid.n, &f->hists));
        return ev_agg_hists_add(f->hists, group * n->grid.n + step, h,
                                n->kids[0]->series[series].labels, ev_has(has, step));
    default:
        ev_agg_ignored_histogram(n->c, n->expr);
        return PS_OK;
    }
}

/* A row with histograms is taken step by step. */
static ps_status
fold_mixed(fold_node *f, size_t series, const ev_row *row)
{
    size_t n_steps = f->base.grid.n, group = f->groups.of[series];
    uint64_t *all = f->has + group * f->n_words;
    for (size_t s = ev_agg_next_set(row->has, 0, n_steps); s < n_steps;
         s = ev_agg_next_set(row->has, s + 1, n_steps)) {
        if (row->h[s] != NULL) {
            PS_TRY(fold_histogram(f, series, s, row->h[s]));
            continue;
        }
        if (f->kind->add != NULL)
            f->kind->add(cells_at(f, group, s), row->v + s, 1);
        f->held += !ev_has(all, s);
        ev_set(all, s);
    }
    return PS_OK;
}

static ps_status
fold_pull(fold_node *f)
{
    ev_node *kid = f->base.kids[0];
    PS_TRY(new_accumulators(f));
    for (;;) {
        ev_batch *b;
        PS_TRY(ev_next(kid, &b));
        if (b == NULL)
            return PS_OK;
        int64_t before = f->held;
        for (size_t i = 0; i < b->n; i++) {
            if (b->h[i] == NULL) {
                fold_floats(f, f->groups.of[b->first + i], b->v + i * b->n_steps,
                            b->has + i * b->n_words);
                continue;
            }
            ev_row row = ev_batch_row(b, i);
            PS_TRY(fold_mixed(f, b->first + i, &row));
        }
        PS_TRY(ev_hold(f->base.c, f->held - before));
    }
}

static ps_status
finish_histograms(fold_node *f, ev_batch *out, size_t i)
{
    size_t n_steps = f->base.grid.n, group = out->first + i;
    for (size_t s = 0; s < n_steps; s++) {
        const hst_hist *h;
        bool any;
        uint64_t *has = out->has + i * out->n_words;
        PS_TRY(ev_agg_hists_finish(f->hists, group * n_steps + s, ev_has(has, s), &out->arena, &any,
                                   &h));
        if (!any)
            continue;
        ev_unset(has, s);
        if (h == NULL)
            continue;
        PS_TRY(ev_batch_hists(out, f->base.c, i));
        ev_set(has, s);
        out->h[i][s] = h;
    }
    return PS_OK;
}

static void
fold_release(fold_node *f)
{
    const ps_alloc *alloc = ev_alloc(f->base.c);
    for (unsigned i = 0; i < 3; i++) {
        if (f->parts[i] != NULL)
            ps_alloc_free(alloc, f->parts[i], f->part_bytes);
        f->parts[i] = NULL;
    }
    if (f->has != NULL)
        ps_alloc_free(alloc, f->has, f->has_bytes);
    f->has = NULL;
    ev_agg_hists_free(f->hists);
    f->hists = NULL;
    ev_release(f->base.c, f->held);
    f->held = 0;
}

static ps_status
fold_next(ev_node *n, ev_batch **ret)
{
    fold_node *f = (fold_node *)n;
    if (!f->pulled) {
        f->pulled = true;
        PS_TRY(fold_pull(f));
    }
    PS_TRY(ev_agg_output_next(n, &f->output, ret));
    ev_batch *out = *ret;
    if (out == NULL) {
        fold_release(f);
        return PS_OK;
    }
    for (size_t i = 0; i < out->n; i++) {
        size_t group = out->first + i;
        memcpy(out->has + i * out->n_words, f->has + group * f->n_words,
               f->n_words * sizeof(uint64_t));
        f->kind->finish(cells_at(f, group, 0), out->v + i * out->n_steps, n->grid.n);
        if (f->hists != NULL)
            PS_TRY(finish_histograms(f, out, i));
    }
    return PS_OK;
}

static void
fold_close(ev_node *n)
{
    fold_node *f = (fold_node *)n;
    fold_release(f);
    ev_agg_output_done(n, &f->output);
}

/* Groups while series are assigned; then accumulators and a batch. */
static uint64_t
fold_holds(const ev_node *n, size_t steps)
{
    const fold_node *f = (const fold_node *)n;
    uint64_t groups = f->groups.n, cells = ev_times(groups, steps), words = (steps + 63) / 64;
    uint64_t sums = ev_times(cells, (uint64_t)f->kind->n_parts * sizeof(double));
    uint64_t run = ev_plus(ev_plus(sums, ev_times(groups, words * sizeof(uint64_t))),
                           ev_batch_bytes(groups, steps));
    uint64_t opening = ev_groups_bytes(groups);
    return run > opening ? run : opening;
}

const ev_node_ops ev_agg_fold_ops = {"aggregation", sizeof(fold_node), fold_open, fold_next,
                                     fold_close,    EV_FOLD,           fold_holds};
