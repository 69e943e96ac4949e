/*
 * agg_quantile.c - quantile: a quantile of the floats of each group at each step.
 *
 * All values of a step are needed at once, so the input is held, turned around: the values of one group
 * and step lie side by side. Two neighbours in order are looked for by partitioning, nothing is sorted.
 *
 * Memory: input series x steps x 8 bytes, groups x steps x 4 bytes.
 */
#include "lib/eval/agg.h"

#include <math.h>

typedef struct quantile_node {
    ev_node base;
    agg_groups groups;
    agg_param param;
    double *v;     /* group by group, [steps][size of the group] */
    uint32_t *n;   /* [groups][steps] */
    size_t *first; /* [groups] where the values of a group begin */
    size_t n_values, n_cells;
    bool pulled;
    int64_t held;
    agg_output output;
} quantile_node;

/* ---- quantile of numbers ---------------------------------------------------------------------------- */

static inline void
swap(double *v, size_t i, size_t k)
{
    double t = v[i];
    v[i] = v[k];
    v[k] = t;
}

/* Moves things around so that v[k] is the one that would be there in order, with none larger before it
 * and none smaller behind it. No NaN. The pivot is picked at random: no order of input is a bad one. */
static void
put_in_place(double *v, size_t n, size_t k)
{
    uint64_t random = UINT64_C(0x9e3779b97f4a7c15) ^ n;
    size_t from = 0, to = n - 1;
    while (from < to) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        double pivot =
            v[from + random % (to - from)]; /* never the last: so both parts are smaller */
        size_t i = from - 1, j = to + 1;
        for (;;) {
            do
                i++;
            while (v[i] < pivot);
            do
                j--;
            while (v[j] > pivot);
            if (i >= j)
                break;
            swap(v, i, j);
        }
        if (k <= j)
            to = j;
        else
            from = j + 1;
    }
}

/* NaN counts as the smallest. v is moved around. */
static double
quantile_of(double q, double *v, size_t n)
{
    if (isnan(q))
        return NAN;
    if (q < 0)
        return -INFINITY;
    if (q > 1)
        return INFINITY;
    size_t n_nan = 0;
    for (size_t i = 0; i < n; i++) {
        if (isnan(v[i]))
            swap(v, i, n_nan++);
    }
    double rank = q * (double)(n - 1), whole = floor(rank), weight = rank - whole;
    size_t lower = (size_t)whole, upper = lower + 1 < n ? lower + 1 : n - 1;
    if (lower < n_nan)
        return NAN;
    put_in_place(v + n_nan, n - n_nan, lower - n_nan);
    double above = v[lower];
    for (size_t i = lower + 1; i < n && upper > lower; i++) {
        if (i == lower + 1 || v[i] < above)
            above = v[i];
    }
    return v[lower] * (1 - weight) + above * weight;
}

/* ---- node --------------------------------------------------------------------------------------------- */

static void
warn_quantile(ev_node *n, double got)
{
    char text[PS_DOUBLE_TEXT];
    ps_format_double_go(text, got);
    ev_warn(n->c, pql_unwrap(n->expr->aggregate.param),
            "quantile value should be between 0 and 1, got %s", text);
}

static ps_status
quantile_open(ev_node *n)
{
    quantile_node *t = (quantile_node *)n;
    PS_TRY(ev_agg_param_open(n, &t->param));
    PS_TRY(ev_open(n->kids[0]));
    PS_TRY(ev_agg_group(n->c, n->expr, n->kids[0], PS_STR(""), &t->groups));
    n->series = t->groups.series;
    n->n_series = t->groups.n;
    n->distinct = true;
    if (t->param.any_nan)
        warn_quantile(n, NAN);
    if (t->param.max > 1)
        warn_quantile(n, t->param.max);
    if (t->param.min < 0)
        warn_quantile(n, t->param.min);
    return PS_OK;
}

static ps_status
new_values(quantile_node *t)
{
    ev_ctx *c = t->base.c;
    size_t n_steps = t->base.grid.n, n_input = t->base.kids[0]->n_series;
    t->first = ps_arena_array(ev_arena(c), t->groups.n + 1, sizeof *t->first);
    if (t->first == NULL || !ps_mul_size(n_input, n_steps, &t->n_values) ||
        !ps_mul_size(t->groups.n, n_steps, &t->n_cells))
        return ev_no_memory(c);
    for (size_t g = 0; g < t->groups.n; g++)
        t->first[g + 1] = t->first[g] + t->groups.sizes[g] * n_steps;
    t->v = ps_alloc_array(ev_alloc(c), t->n_values + 1, sizeof *t->v);
    t->n = ps_alloc_array(ev_alloc(c), t->n_cells + 1, sizeof *t->n);
    if (t->v == NULL || t->n == NULL)
        return ev_no_memory(c);
    return PS_OK;
}

static ps_status
quantile_pull(quantile_node *t)
{
    PS_TRY(new_values(t));
    size_t n_steps = t->base.grid.n;
    for (;;) {
        ev_batch *b;
        PS_TRY(ev_next(t->base.kids[0], &b));
        if (b == NULL)
            return PS_OK;
        int64_t before = t->held;
        for (size_t i = 0; i < b->n; i++) {
            size_t g = t->groups.of[b->first + i], size = t->groups.sizes[g];
            double *v = t->v + t->first[g];
            uint32_t *n = t->n + g * n_steps;
            ev_row row = ev_batch_row(b, i);
            for (size_t s = ev_agg_next_set(row.has, 0, n_steps); s < n_steps;
                 s = ev_agg_next_set(row.has, s + 1, n_steps)) {
                if (row.h != NULL && row.h[s] != NULL) {
                    ev_agg_ignored_histogram(t->base.c, t->base.expr);
                    continue;
                }
                v[s * size + n[s]++] = row.v[s];
                t->held++;
            }
        }
        PS_TRY(ev_hold(t->base.c, t->held - before));
    }
}

static void
quantile_release(quantile_node *t)
{
    const ps_alloc *alloc = ev_alloc(t->base.c);
    if (t->v != NULL)
        ps_alloc_free(alloc, t->v, (t->n_values + 1) * sizeof *t->v);
    if (t->n != NULL)
        ps_alloc_free(alloc, t->n, (t->n_cells + 1) * sizeof *t->n);
    t->v = NULL;
    t->n = NULL;
    ev_release(t->base.c, t->held);
    t->held = 0;
}

static ps_status
quantile_next(ev_node *n, ev_batch **ret)
{
    quantile_node *t = (quantile_node *)n;
    if (!t->pulled) {
        t->pulled = true;
        PS_TRY(quantile_pull(t));
    }
    PS_TRY(ev_agg_output_next(n, &t->output, ret));
    if (*ret == NULL) {
        quantile_release(t);
        return PS_OK;
    }
    for (size_t i = 0; i < (*ret)->n; i++) {
        size_t g = (*ret)->first + i, size = t->groups.sizes[g];
        ev_row row = ev_batch_row(*ret, i);
        for (size_t s = 0; s < n->grid.n; s++) {
            uint32_t n_values = t->n[g * n->grid.n + s];
            if (n_values == 0)
                continue;
            row.v[s] = quantile_of(t->param.at[s], t->v + t->first[g] + s * size, n_values);
            ev_set(row.has, s);
        }
        PS_TRY(ev_poll(n->c));
    }
    return PS_OK;
}

static void
quantile_close(ev_node *n)
{
    quantile_node *t = (quantile_node *)n;
    quantile_release(t);
    ev_agg_output_done(n, &t->output);
}

static uint64_t
quantile_holds(const ev_node *n, size_t steps)
{
    uint64_t values = ev_times(n->kids[0]->n_series, ev_times(steps, sizeof(double)));
    uint64_t counts = ev_times(n->n_series, ev_times(steps, sizeof(uint32_t)));
    return ev_plus(ev_plus(values, counts), ev_batch_bytes(n->n_series, steps));
}

const ev_node_ops ev_agg_quantile_ops = {"quantile",    sizeof(quantile_node), quantile_open,
                                         quantile_next, quantile_close,        EV_GATHER,
                                         quantile_holds};
