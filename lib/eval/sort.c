/*
 * sort.c - sort, sort_desc, sort_by_label, sort_by_label_desc: the order of an instant vector.
 *
 * Sorting one step needs all of its values at once: the input is held (ev_matrix) and its rows handed out in
 * another order. With several steps there is no order to give (the result is sorted by labels anyhow): rows
 * pass through, with a warning. The two that sort by value let floats pass only.
 *
 * Labels are compared in natural order: runs of digits as numbers, everything else as bytes.
 */
#include "lib/eval/agg.h"

#include <math.h>

typedef struct sort_node {
    ev_node base;
    bool by_value, down;
    ps_str *labels;
    size_t n_labels;
    ev_matrix input; /* one step; otherwise nothing */
    bool holds_input;
    uint32_t *row_of; /* row of the output -> row of the input */
    agg_output output;
} sort_node;

extern const ev_node_ops ev_sort_ops;

ps_status
ev_build_sort(ev_ctx *c, const pql_expr *e, const ev_grid *grid, ev_node **ret)
{
    PS_TRY(ev_new_node(c, &ev_sort_ops, e, grid, PQL_VECTOR, ret));
    sort_node *s = (sort_node *)*ret;
    pql_fn fn = e->call.fn->id;
    s->by_value = fn == PQL_FN_SORT || fn == PQL_FN_SORT_DESC;
    s->down = fn == PQL_FN_SORT_DESC || fn == PQL_FN_SORT_BY_LABEL_DESC;
    s->labels = ps_arena_array(ev_arena(c), e->call.n_args, sizeof *s->labels);
    if (s->labels == NULL)
        return ev_no_memory(c);
    for (size_t i = 1; i < e->call.n_args; i++)
        s->labels[s->n_labels++] = pql_unwrap(e->call.args[i])->text;
    ev_node *kid;
    PS_TRY(ev_build(c, pql_unwrap(e->call.args[0]), grid, &kid));
    ev_add_kid(*ret, kid);
    return PS_OK;
}

/* ---- orders ------------------------------------------------------------------------------------------ */

static inline bool
is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* The run of digits, or of anything else, that begins at `at`. */
static ps_str
chunk_at(ps_str s, size_t at)
{
    size_t end = at;
    bool digits = is_digit(s.ptr[at]);
    while (end < s.len && is_digit(s.ptr[end]) == digits)
        end++;
    return (ps_str){s.ptr + at, end - at};
}

/*
 * Does a come before b (they differ)? Not quite an order: two that differ in leading zeros only come before
 * each other, and "" and anything else come before each other in neither direction. That is how Prometheus
 * sorts, and with few series it shows. A number beyond 64 bits is text.
 */
static bool
natural_before(ps_str a, ps_str b)
{
    size_t i = 0, k = 0;
    while (i < a.len && k < b.len) {
        ps_str x = chunk_at(a, i), y = chunk_at(b, k);
        int64_t m, n;
        if (is_digit(x.ptr[0]) && is_digit(y.ptr[0]) && ps_parse_i64(x, &m) == PS_OK &&
            ps_parse_i64(y, &n) == PS_OK) {
            if (m != n)
                return m < n;
        } else if (!ps_str_eq(x, y)) {
            return ps_str_cmp(x, y) < 0;
        }
        i += x.len;
        k += y.len;
        if (i == a.len)
            return true;
    }
    return false;
}

static bool
labels_before(const void *arg, uint32_t a, uint32_t b)
{
    const sort_node *s = arg;
    mdl_labels x = s->base.kids[0]->series[a].labels, y = s->base.kids[0]->series[b].labels;
    for (size_t i = 0; i < s->n_labels; i++) {
        ps_str u = mdl_labels_get(x, s->labels[i]), v = mdl_labels_get(y, s->labels[i]);
        if (!ps_str_eq(u, v))
            return natural_before(u, v) != s->down;
    }
    int order = mdl_labels_cmp(x, y);
    return s->down ? order > 0 : order < 0;
}

/* NaN is last either way. */
static bool
value_before(const void *arg, uint32_t a, uint32_t b)
{
    const sort_node *s = arg;
    double x = s->input.v[a], y = s->input.v[b];
    return isnan(y) || (s->down ? x > y : x < y);
}

/* ---- node ---------------------------------------------------------------------------------------------- */

static bool
passes(const sort_node *s, size_t i)
{
    return (s->input.has[i] & 1) != 0 &&
           !(s->by_value && s->input.h[i] != NULL && s->input.h[i][0] != NULL);
}

static ps_status
sort_rows(sort_node *s)
{
    ev_node *n = &s->base, *kid = n->kids[0];
    if (ev_rehearses(n->c)) {
        n->series = kid->series;
        n->n_series = kid->n_series;
        return PS_OK;
    }
    s->holds_input = true;
    PS_TRY(ev_matrix_pull(kid, &s->input));
    uint32_t *rows = ps_arena_array(ev_arena(n->c), kid->n_series + 1, 2 * sizeof *rows);
    n->series = ps_arena_array(ev_arena(n->c), kid->n_series + 1, sizeof *n->series);
    if (rows == NULL || n->series == NULL)
        return ev_no_memory(n->c);
    for (size_t i = 0; i < kid->n_series; i++) {
        if (passes(s, i))
            rows[n->n_series++] = (uint32_t)i;
    }
    ev_agg_sort(rows, n->n_series, s->by_value ? value_before : labels_before, s,
                rows + kid->n_series + 1);
    for (size_t i = 0; i < n->n_series; i++)
        n->series[i] = kid->series[rows[i]];
    s->row_of = rows;
    return PS_OK;
}

static ps_status
sort_open(ev_node *n)
{
    sort_node *s = (sort_node *)n;
    PS_TRY(ev_open(n->kids[0]));
    n->distinct = n->kids[0]->distinct;
    if (n->grid.step_ms == 0)
        return sort_rows(s);
    ev_warn(n->c, n->expr,
            "sort is ineffective for range queries since results are always ordered by labels");
    n->series = n->kids[0]->series;
    n->n_series = n->kids[0]->n_series;
    return PS_OK;
}

static ps_status
pass_through(sort_node *s, ev_batch **ret)
{
    PS_TRY(ev_next(s->base.kids[0], ret));
    ev_batch *b = *ret;
    for (size_t i = 0; b != NULL && s->by_value && i < b->n; i++) {
        ev_row row = ev_batch_row(b, i);
        for (size_t step = 0; row.h != NULL && step < b->n_steps; step++) {
            if (ev_has(row.has, step) && row.h[step] != NULL)
                ev_unset(row.has, step);
        }
    }
    return PS_OK;
}

static ps_status
sort_next(ev_node *n, ev_batch **ret)
{
    sort_node *s = (sort_node *)n;
    if (!s->holds_input)
        return pass_through(s, ret);
    PS_TRY(ev_agg_output_next(n, &s->output, ret));
    ev_batch *b = *ret;
    for (size_t i = 0; b != NULL && i < b->n; i++) {
        size_t from = s->row_of[b->first + i];
        ev_set(b->has + i * b->n_words, 0);
        b->v[i] = s->input.v[from];
        if (s->input.h[from] != NULL && s->input.h[from][0] != NULL) {
            PS_TRY(ev_batch_hists(b, n->c, i));
            b->h[i][0] = s->input.h[from][0];
        }
    }
    return PS_OK;
}

static void
sort_close(ev_node *n)
{
    sort_node *s = (sort_node *)n;
    if (s->holds_input)
        ev_matrix_done(&s->input, n->c);
    s->holds_input = false;
    ev_agg_output_done(n, &s->output);
}

static uint64_t
sort_holds(const ev_node *n, size_t steps)
{
    uint64_t series = n->kids[0]->n_series;
    if (n->grid.step_ms != 0)
        return 0;
    return ev_plus(ev_plus(ev_cell_bytes(series, steps), ev_batch_bytes(series, steps)),
                   ev_times(series, 2 * sizeof(uint32_t) + sizeof(ev_series)));
}

const ev_node_ops ev_sort_ops = {"sort",     sizeof(sort_node), sort_open, sort_next,
                                 sort_close, EV_GATHER,         sort_holds};
