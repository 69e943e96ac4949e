/*
 * agg_count_values.c - count_values: how often each value occurs, one series for each value.
 *
 * A result series is a group and a text; a point of it is a result series and a step. Both are found in a
 * hash table that numbers pairs in order of first sight: (group, bits of the float or number of the
 * histogram's text) -> result series, (result series, step) -> count. Which series come out depends on
 * values, so everything happens when the node is opened.
 *
 * Memory: some 40 bytes for each point of the result (28 of them only until the node is open), some 40
 * and the labels for each of its series; the input is not held.
 */
#include "lib/eval/agg.h"

#include <math.h>

/* ---- pairs of numbers -> 0, 1, 2, ... --------------------------------------------------------------- */

typedef struct pair {
    uint64_t a, b;
} pair;

typedef struct pair_table {
    pair *pairs;     /* [cap] in order of first sight */
    uint32_t *slots; /* [2 * cap]: number of the pair + 1, 0 = free */
    size_t n, cap;
    uint64_t seed;
} pair_table;

static size_t
slot_of(const pair_table *t, pair p)
{
    size_t mask = 2 * t->cap - 1;
    size_t at = ps_hash64((ps_str){(const char *)&p, sizeof p}, t->seed) & mask;
    while (t->slots[at] != 0) {
        const pair *q = &t->pairs[t->slots[at] - 1];
        if (q->a == p.a && q->b == p.b)
            break;
        at = (at + 1) & mask;
    }
    return at;
}

static void
pairs_free(const ps_alloc *alloc, pair_table *t)
{
    if (t->pairs != NULL)
        ps_alloc_free(alloc, t->pairs, t->cap * sizeof *t->pairs);
    if (t->slots != NULL)
        ps_alloc_free(alloc, t->slots, 2 * t->cap * sizeof *t->slots);
    t->pairs = NULL;
    t->slots = NULL;
    t->n = t->cap = 0;
}

static bool
pairs_grow(const ps_alloc *alloc, pair_table *t)
{
    pair_table wider = {.cap = t->cap == 0 ? 64 : 2 * t->cap, .seed = t->seed};
    if (wider.cap > UINT32_MAX / 2)
        return false;
    wider.pairs = ps_alloc_array(alloc, wider.cap, sizeof *wider.pairs);
    wider.slots = ps_alloc_array(alloc, 2 * wider.cap, sizeof *wider.slots);
    if (wider.pairs == NULL || wider.slots == NULL) {
        pairs_free(alloc, &wider);
        return false;
    }
    for (; wider.n < t->n; wider.n++) {
        wider.pairs[wider.n] = t->pairs[wider.n];
        wider.slots[slot_of(&wider, t->pairs[wider.n])] = (uint32_t)wider.n + 1;
    }
    pairs_free(alloc, t);
    *t = wider;
    return true;
}

static bool
pairs_number(const ps_alloc *alloc, pair_table *t, pair p, uint32_t *ret)
{
    if (t->n == t->cap && !pairs_grow(alloc, t))
        return false;
    size_t at = slot_of(t, p);
    if (t->slots[at] == 0) {
        t->pairs[t->n++] = p;
        t->slots[at] = (uint32_t)t->n;
    }
    *ret = t->slots[at] - 1;
    return true;
}

/* ---- node ---------------------------------------------------------------------------------------------- */

enum { FLOAT = 0, HISTOGRAM = 1 };

typedef struct cv_node {
    ev_node base;
    agg_groups groups; /* without the label that gets the value */
    ps_str label;
    bool label_dropped; /* without (label): values do not tell groups apart */
    pair_table outs;    /* (2 * group + kind, bits or number of the text) */
    pair_table cells;   /* (number in outs, step) */
    uint32_t *counts;   /* [n_counts], by number in cells */
    size_t n_counts;
    ev_groups *texts; /* of histograms, as label sets of one label */
    ps_buf text;
    agg_points points;
    int64_t held;
    agg_output output;
} cv_node;

static ps_status
check_label(cv_node *t)
{
    const pql_expr *e = t->base.expr;
    t->label = pql_unwrap(e->aggregate.param)->text;
    if (t->label.len == 0 || !ps_utf8_valid(t->label)) {
        pql_quote(&t->text, t->label);
        ps_str quoted = ps_buf_str(&t->text);
        return ev_fail(t->base.c, PS_EINVAL, "invalid label name %.*s", (int)quoted.len,
                       quoted.ptr);
    }
    for (size_t i = 0; e->aggregate.without && i < e->aggregate.n_labels; i++)
        t->label_dropped |= ps_str_eq(e->aggregate.labels[i], t->label);
    t->label_dropped |= e->aggregate.without && ps_str_eq_c(t->label, MDL_METRIC_NAME);
    return PS_OK;
}

/* The number of a histogram's text. */
static ps_status
text_number(cv_node *t, const hst_hist *h, uint64_t *ret)
{
    ev_ctx *c = t->base.c;
    ps_buf_clear(&t->text);
    hst_format(&t->text, h);
    if (t->text.failed)
        return ev_no_memory(c);
    if (t->texts == NULL)
        PS_TRY(ev_groups_new(c, 16, &t->texts));
    mdl_label label = {t->label, ps_buf_str(&t->text)};
    uint32_t number;
    if (!ev_groups_find(t->texts, (mdl_labels){&label, 1}, &number)) {
        mdl_label *kept = ps_arena_new(ev_arena(c), sizeof *kept);
        if (kept == NULL || ps_arena_dup(ev_arena(c), label.value, &label.value) != PS_OK)
            return ev_no_memory(c);
        *kept = label;
        PS_TRY(ev_groups_add(t->texts, (mdl_labels){kept, 1}, &number, NULL));
    }
    *ret = number;
    return PS_OK;
}

static ps_status
count_cell(cv_node *t, uint32_t out, size_t step)
{
    ev_ctx *c = t->base.c;
    uint32_t cell;
    size_t had = t->cells.n, cap = t->cells.cap;
    if (!pairs_number(ev_alloc(c), &t->cells, (pair){out, step}, &cell))
        return ev_no_memory(c);
    if (t->cells.cap != cap) {
        uint32_t *wider =
            ev_alloc(c)->realloc(ev_alloc(c)->self, t->counts, t->n_counts * sizeof *wider,
                                 t->cells.cap * sizeof *wider);
        if (wider == NULL)
            return ev_no_memory(c);
        t->counts = wider;
        t->n_counts = t->cells.cap;
    }
    if (t->cells.n > had) {
        t->counts[cell] = 0;
        t->held++;
    }
    t->counts[cell]++;
    return PS_OK;
}

static ps_status
count_row(cv_node *t, size_t group, const ev_row *row)
{
    ev_ctx *c = t->base.c;
    size_t n_steps = t->base.grid.n;
    pair last = {UINT64_MAX, 0};
    uint32_t out = 0;
    for (size_t s = ev_agg_next_set(row->has, 0, n_steps); s < n_steps;
         s = ev_agg_next_set(row->has, s + 1, n_steps)) {
        pair key = {2 * group + FLOAT, 0};
        if (t->label_dropped)
            ;
        else if (row->h != NULL && row->h[s] != NULL) {
            key.a = 2 * group + HISTOGRAM;
            PS_TRY(text_number(t, row->h[s], &key.b));
        } else {
            key.b = isnan(row->v[s]) ? MDL_NORMAL_NAN_BITS : ps_bits_of(row->v[s]);
        }
        if (key.a != last.a || key.b != last.b) {
            if (!pairs_number(ev_alloc(c), &t->outs, key, &out))
                return ev_no_memory(c);
            last = key;
        }
        PS_TRY(count_cell(t, out, s));
    }
    return PS_OK;
}

static ps_status
cv_pull(cv_node *t)
{
    for (;;) {
        ev_batch *b;
        PS_TRY(ev_next(t->base.kids[0], &b));
        if (b == NULL)
            return PS_OK;
        int64_t before = t->held;
        for (size_t i = 0; i < b->n; i++) {
            ev_row row = ev_batch_row(b, i);
            PS_TRY(count_row(t, t->groups.of[b->first + i], &row));
        }
        PS_TRY(ev_hold(t->base.c, t->held - before));
    }
}

/* The labels of a result series: those of its group, and the value. */
static ps_status
out_labels(cv_node *t, pair key, mdl_labels *ret)
{
    ev_ctx *c = t->base.c;
    mdl_labels group = t->groups.series[key.a / 2].labels;
    if (t->label_dropped) {
        *ret = group;
        return PS_OK;
    }
    ps_str value;
    if (key.a % 2 == HISTOGRAM) {
        value = ev_groups_labels(t->texts, (uint32_t)key.b).items[0].value;
    } else {
        char text[PS_DOUBLE_PLAIN_TEXT];
        size_t len = ps_format_double_plain(text, ps_double_of(key.b));
        if (ps_arena_dup(ev_arena(c), (ps_str){text, len}, &value) != PS_OK)
            return ev_no_memory(c);
    }
    return ev_labels_with(c, group, t->label, value, ret);
}

static ps_status
cv_results(cv_node *t)
{
    ev_node *n = &t->base;
    n->series = ps_arena_array(ev_arena(n->c), t->outs.n + 1, sizeof *n->series);
    if (n->series == NULL)
        return ev_no_memory(n->c);
    n->n_series = t->outs.n;
    n->distinct = true;
    for (size_t i = 0; i < t->outs.n; i++)
        PS_TRY(out_labels(t, t->outs.pairs[i], &n->series[i].labels));
    PS_TRY(ev_agg_points_new(n->c, t->outs.n, t->cells.n, &t->points));
    for (size_t i = 0; i < t->cells.n; i++)
        ev_agg_points_count(&t->points, t->cells.pairs[i].a, 1);
    ev_agg_points_counted(&t->points);
    for (size_t i = 0; i < t->cells.n; i++)
        ev_agg_points_add(&t->points, t->cells.pairs[i].a, (uint32_t)t->cells.pairs[i].b,
                          t->counts[i]);
    return PS_OK;
}

static void
free_tables(cv_node *t)
{
    const ps_alloc *alloc = ev_alloc(t->base.c);
    if (t->counts != NULL)
        ps_alloc_free(alloc, t->counts, t->n_counts * sizeof *t->counts);
    t->counts = NULL;
    t->n_counts = 0;
    pairs_free(alloc, &t->outs);
    pairs_free(alloc, &t->cells);
    ev_groups_free(t->texts);
    t->texts = NULL;
    if (t->text.alloc.realloc != NULL)
        ps_buf_done(&t->text);
}

static ps_status
cv_open(ev_node *n)
{
    cv_node *t = (cv_node *)n;
    ps_buf_init(&t->text, ev_alloc(n->c));
    t->outs.seed = t->cells.seed = (uintptr_t)n;
    PS_TRY(check_label(t));
    PS_TRY(ev_open(n->kids[0]));
    PS_TRY(ev_agg_group(n->c, n->expr, n->kids[0], t->label, &t->groups));
    if (ev_rehearses(n->c)) { /* values are not known: as many as series */
        n->series = t->groups.series;
        n->n_series = t->groups.n;
        ev_expect_series(n, n->kids[0]->n_series);
        return PS_OK;
    }
    PS_TRY(cv_pull(t));
    PS_TRY(cv_results(t));
    free_tables(t);
    return PS_OK;
}

static ps_status
cv_next(ev_node *n, ev_batch **ret)
{
    cv_node *t = (cv_node *)n;
    PS_TRY(ev_agg_output_next(n, &t->output, ret));
    if (*ret != NULL)
        ev_agg_points_write(&t->points, *ret);
    return PS_OK;
}

static void
cv_close(ev_node *n)
{
    cv_node *t = (cv_node *)n;
    free_tables(t);
    ev_agg_points_free(n->c, &t->points);
    ev_agg_output_done(n, &t->output);
    ev_release(n->c, t->held);
    t->held = 0;
}

/* A guess, since values are not known: each series has one of its own, which stays. Then a number and a
 * slot for each value and for each point (both tables at most twice as large as needed), and the points. */
static uint64_t
cv_holds(const ev_node *n, size_t steps)
{
    uint64_t values = n->kids[0]->n_series, points = ev_times(values, steps);
    return ev_plus(ev_times(values, 36), ev_times(points, 48));
}

const ev_node_ops ev_agg_count_values_ops = {"count_values", sizeof(cv_node), cv_open, cv_next,
                                             cv_close,       EV_GATHER,       cv_holds};
