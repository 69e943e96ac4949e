/*
 * agg_hist.c - sum and avg of native histograms: one running sum for each cell (group and step).
 *
 * A cell that sees floats and histograms has no result and warns; one that sees exponential and custom
 * buckets has none either, warns when it happens, and takes no notice of anything that comes later.
 *
 * Memory: groups x steps x 16 bytes, plus for each cell with histograms its sum and compensation (about
 * twice such a histogram) in one arena.
 */
#include "lib/eval/agg.h"

typedef struct hist_cell {
    hst_sum *sum; /* NULL: floats came first, or nothing came */
    bool any;     /* a histogram came */
    bool broken;  /* kinds met that cannot be added */
    bool mixed;   /* broken, with floats before */
    bool reset, not_reset;
} hist_cell;

struct agg_hists {
    ev_ctx *c;
    const pql_expr *e;
    bool mean;
    size_t n_cells;
    hist_cell *cells;
    ps_arena arena;
    int64_t held;
};

ps_status
ev_agg_hists_new(ev_ctx *c, const pql_expr *e, size_t n_cells, agg_hists **ret)
{
    agg_hists *s = ps_alloc_new(ev_alloc(c), sizeof *s);
    if (s == NULL)
        return ev_no_memory(c);
    *s = (agg_hists){.c = c, .e = e, .mean = e->aggregate.op == PQL_AVG, .n_cells = n_cells};
    ps_arena_init(&s->arena, ev_alloc(c), 0);
    s->cells = ps_alloc_array(ev_alloc(c), n_cells + 1, sizeof *s->cells);
    if (s->cells == NULL) {
        ev_agg_hists_free(s);
        return ev_no_memory(c);
    }
    *ret = s;
    return PS_OK;
}

void
ev_agg_hists_free(agg_hists *s)
{
    if (s == NULL)
        return;
    ev_release(s->c, s->held);
    ps_arena_done(&s->arena);
    if (s->cells != NULL)
        ps_alloc_free(ev_alloc(s->c), s->cells, (s->n_cells + 1) * sizeof *s->cells);
    ps_alloc_free(ev_alloc(s->c), s, sizeof *s);
}

static ps_status
first_of_cell(agg_hists *s, hist_cell *cell, const hst_hist *h)
{
    int64_t weight = (int64_t)hst_weight(h);
    s->held += weight;
    PS_TRY(ev_hold(s->c, weight));
    return hst_sum_new(&s->arena, h, &cell->sum) == PS_OK ? PS_OK : ev_no_memory(s->c);
}

static ps_status
next_of_cell(agg_hists *s, hist_cell *cell, const hst_hist *h, mdl_labels of, bool had_float)
{
    const pql_expr *input = pql_unwrap(s->e->aggregate.of);
    hst_notes notes = {0};
    ps_status status =
        s->mean ? hst_mean_add(cell->sum, h, &notes) : hst_sum_add(cell->sum, h, &notes);
    if (notes.bounds_reconciled)
        ev_info(s->c, input, "mismatched custom buckets were reconciled during aggregation");
    if (status != PS_EINVAL)
        return status == PS_OK ? PS_OK : ev_no_memory(s->c);
    cell->broken = true;
    cell->mixed = had_float;
    ps_buf name;
    ps_buf_init(&name, ev_alloc(s->c));
    pql_quote(&name, ev_metric_name(of));
    ps_str quoted = ps_buf_str(&name);
    ev_warn(s->c, input,
            "vector contains a mix of histograms with exponential and custom buckets schemas for "
            "metric name %.*s",
            (int)quoted.len, quoted.ptr);
    ps_buf_done(&name);
    return PS_OK;
}

ps_status
ev_agg_hists_add(agg_hists *s, size_t at, const hst_hist *h, mdl_labels of, bool had_float)
{
    hist_cell *cell = &s->cells[at];
    if (cell->broken)
        return PS_OK;
    bool first = !cell->any && !had_float;
    cell->any = true;
    if (!first && cell->sum == NULL)
        return PS_OK;
    cell->reset |= h->hint == HST_RESET;
    cell->not_reset |= h->hint == HST_NOT_RESET;
    return first ? first_of_cell(s, cell, h) : next_of_cell(s, cell, h, of, had_float);
}

ps_status
ev_agg_hists_finish(agg_hists *s, size_t at, bool has_float, ps_arena *arena, bool *ret_any,
                    const hst_hist **ret)
{
    const hist_cell *cell = &s->cells[at];
    const pql_expr *input = pql_unwrap(s->e->aggregate.of);
    *ret_any = cell->any;
    *ret = NULL;
    if (!cell->any)
        return PS_OK;
    if (cell->broken ? cell->mixed : has_float)
        ev_warn(s->c, input, "encountered a mix of histograms and floats for aggregation");
    if (cell->broken || has_float)
        return PS_OK;
    ps_status status =
        s->mean ? hst_mean_value(cell->sum, arena, ret) : hst_sum_value(cell->sum, arena, ret);
    if (status != PS_OK)
        return ev_no_memory(s->c);
    if (cell->reset && cell->not_reset)
        ev_warn(s->c, input, "conflicting counter resets during histogram aggregation");
    return PS_OK;
}
