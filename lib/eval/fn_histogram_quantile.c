/*
 * fn_histogram_quantile.c - histogram_quantile, histogram_quantiles, histogram_fraction.
 *
 * A gather node: the buckets of a classic histogram are series that differ in le alone, and they lie
 * anywhere among the others. So all rows are pulled when the node is opened; then series are put into
 * groups by their labels without le, each with its buckets in ascending order, and a native histogram
 * if there is one with just these labels. After that output rows are made batch by batch. Memory: the
 * whole input, counted, plus one batch.
 *
 * histogram_quantiles has one output row for each group and each quantile that occurs at any step.
 */
#include <math.h>

#include "lib/eval/fn_histogram.h"

enum { NO_ROW = UINT32_MAX };

typedef struct member { /* a bucket: a row of the matrix */
    double bound;
    uint32_t row, group;
} member;

typedef struct group {
    mdl_labels labels;
    uint32_t first, n; /* members */
    uint32_t native;   /* row of the matrix, or NO_ROW */
} group;

typedef struct variant { /* what is asked of every group */
    const double *q;     /* per step; fraction: the lower limit */
    bool one_value;      /* only steps where q is `value` */
    double value;
    ps_str text;
} variant;

typedef struct hq_node {
    ev_node node;
    const pql_expr *of;                     /* the vector argument, */
    const pql_expr *scalar_at[EV_MAX_KIDS]; /* the scalar ones: what annotations are about */
    const double *upper;
    bool delayed;
    ps_str label; /* histogram_quantiles */
    ev_matrix matrix;
    ev_batch batch;
    member *members;
    size_t n_members;
    group *groups;
    size_t n_groups;
    variant *variants;
    size_t n_variants;
    ev_bucket *scratch;
    size_t next;
    bool no_memory; /* for the text of an annotation */
} hq_node;

static bool
is_fraction(const hq_node *n)
{
    return n->node.expr->call.fn->id == PQL_FN_HISTOGRAM_FRACTION;
}

static bool
is_many(const hq_node *n)
{
    return n->node.expr->call.fn->id == PQL_FN_HISTOGRAM_QUANTILES;
}

/* ---- annotations ------------------------------------------------------------------------------- */

/* The metric's name is in the texts only as long as series still have it. */
static ps_str
name_of(const hq_node *n, mdl_labels labels)
{
    return n->delayed ? ev_metric_name(labels) : (ps_str){0};
}

static void
annotate(hq_node *n, bool info, const char *text, const ps_str *value, mdl_labels labels)
{
    ev_ctx *c = n->node.c;
    ps_str name = name_of(n, labels);
    ps_buf buf;
    ps_buf_init(&buf, ev_alloc(c));
    ps_buf_add_c(&buf, text);
    if (value != NULL)
        pql_quote(&buf, *value);
    if (name.len > 0) {
        ps_buf_add_c(&buf, " for metric name ");
        pql_quote(&buf, name);
    }
    if (buf.failed)
        n->no_memory = true;
    else if (info)
        ev_info(c, n->of, "%.*s", (int)buf.len, buf.ptr);
    else
        ev_warn(c, n->of, "%.*s", (int)buf.len, buf.ptr);
    ps_buf_done(&buf);
}

static void
check_quantile(ev_ctx *c, const pql_expr *at, const double *q, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if ((q[i] >= 0 && q[i] <= 1) || (i > 0 && ps_bits_of(q[i]) == ps_bits_of(q[i - 1])))
            continue;
        char text[PS_DOUBLE_TEXT];
        ps_format_double_go(text, q[i]);
        ev_warn(c, at, "quantile value should be between 0 and 1, got %s", text);
    }
}

/* ---- grouping ------------------------------------------------------------------------------------ */

static void
kinds_of(const ev_row *row, const ev_matrix *m, bool *floats, bool *hists)
{
    *floats = *hists = false;
    for (size_t w = 0; w < m->n_words; w++) {
        if (row->h == NULL) {
            *floats |= row->has[w] != 0;
            continue;
        }
        for (uint64_t bits = row->has[w]; bits != 0; bits &= bits - 1) {
            size_t step = w * 64 + (size_t)__builtin_ctzll(bits);
            *(row->h[step] != NULL ? hists : floats) = true;
        }
    }
}

static ps_status
take_row(hq_node *n, ev_groups *groups, uint32_t row, uint32_t *native)
{
    static const ps_str le = {"le", 2};
    ev_ctx *c = n->node.c;
    ev_row cells = ev_matrix_row(&n->matrix, row);
    mdl_labels labels = n->node.kids[0]->series[row].labels;
    bool floats, hists;
    uint32_t g;
    kinds_of(&cells, &n->matrix, &floats, &hists);
    if (ev_rehearses(c)) {
        floats = mdl_labels_get(labels, le).len > 0;
        hists = !floats;
    }
    if (floats) {
        double bound;
        ps_str text = mdl_labels_get(labels, le);
        if (ps_parse_double(text, &bound) != PS_OK || isnan(bound)) {
            annotate(n, false, "bucket label \"le\" is missing or has a malformed value of ", &text,
                     labels);
        } else {
            mdl_labels without;
            PS_TRY(ev_labels_without(c, labels, &le, 1, &without));
            PS_TRY(ev_groups_add(groups, without, &g, NULL));
            n->members[n->n_members++] = (member){bound, row, g};
        }
    }
    if (hists) {
        PS_TRY(ev_groups_add(groups, labels, &g, NULL));
        native[g] = row;
    }
    return PS_OK;
}

static bool
comes_before(const member *a, const member *b)
{
    return a->group != b->group   ? a->group < b->group
           : a->bound != b->bound ? a->bound < b->bound
                                  : a->row < b->row;
}

/* Merge sort: bottom up, between two arrays of n members. Returns the one that holds the result. */
static member *
sort_members(member *from, member *to, size_t n)
{
    for (size_t run = 1; run < n; run *= 2) {
        for (size_t i = 0; i < n; i += 2 * run) {
            size_t middle = i + run < n ? i + run : n, end = i + 2 * run < n ? i + 2 * run : n;
            size_t a = i, b = middle;
            for (size_t k = i; k < end; k++) {
                bool left = a < middle && (b == end || !comes_before(&from[b], &from[a]));
                to[k] = left ? from[a++] : from[b++];
            }
        }
        member *t = from;
        from = to;
        to = t;
    }
    return from;
}

static ps_status
fill_groups(hq_node *n, const ev_groups *groups, const uint32_t *native)
{
    ps_arena *arena = ev_arena(n->node.c);
    size_t most = 0;
    n->n_groups = ev_groups_n(groups);
    n->groups = ps_arena_array(arena, n->n_groups + 1, sizeof *n->groups);
    if (n->groups == NULL)
        return ev_no_memory(n->node.c);
    for (uint32_t i = 0; i < n->n_groups; i++)
        n->groups[i] = (group){.labels = ev_groups_labels(groups, i), .native = native[i]};
    for (size_t i = n->n_members; i > 0; i--) {
        group *g = &n->groups[n->members[i - 1].group];
        g->first = (uint32_t)(i - 1);
        g->n++;
        most = g->n > most ? g->n : most;
    }
    n->scratch = ps_arena_new(arena, (most + 1) * sizeof *n->scratch);
    return n->scratch == NULL ? ev_no_memory(n->node.c) : PS_OK;
}

static ps_status
make_groups(hq_node *n)
{
    ev_ctx *c = n->node.c;
    ps_arena *arena = ev_arena(c);
    size_t rows = n->matrix.n;
    if (rows >= NO_ROW / 2)
        return ev_fail(c, PS_ELIMIT, "too many series for %s", n->node.expr->call.fn->name);
    /* A row can be in two groups: with and without its le. */
    member *spare = ps_arena_array(arena, rows + 1, sizeof *spare);
    uint32_t *native = ps_arena_new(arena, (2 * rows + 1) * sizeof *native);
    n->members = ps_arena_array(arena, rows + 1, sizeof *n->members);
    if (spare == NULL || native == NULL || n->members == NULL)
        return ev_no_memory(c);
    memset(native, 0xFF, (2 * rows + 1) * sizeof *native);
    ev_groups *groups;
    PS_TRY(ev_groups_new(c, rows / 8, &groups));
    ps_status status = PS_OK;
    for (uint32_t i = 0; i < rows && status == PS_OK; i++)
        status = take_row(n, groups, i, native);
    if (status == PS_OK) {
        n->members = sort_members(n->members, spare, n->n_members);
        status = fill_groups(n, groups, native);
    }
    ev_groups_free(groups);
    return status == PS_OK && n->no_memory ? ev_no_memory(c) : status;
}

/* ---- what is asked: quantiles ---------------------------------------------------------------------- */

static bool
same_value(double a, double b)
{
    return a == b || (isnan(a) && isnan(b));
}

/* As the values of le and quantile labels are written: 0.5, 1.0, +Inf. */
static ps_status
number_label(ev_ctx *c, double v, ps_str *ret)
{
    char text[PS_DOUBLE_TEXT + 2];
    size_t len = ps_format_double_go(text, v == 0 ? 0 : v);
    bool plain = isfinite(v);
    for (size_t i = 0; i < len; i++)
        plain &= text[i] != '.' && text[i] != 'e';
    if (plain) {
        memcpy(text + len, ".0", 2);
        len += 2;
    }
    return ps_arena_dup(ev_arena(c), (ps_str){text, len}, ret) == PS_OK ? PS_OK : ev_no_memory(c);
}

/* Variants of one argument: usually one; one for each value if it differs from step to step. */
static ps_status
add_variants(hq_node *n, const double *q, size_t *cap)
{
    ev_ctx *c = n->node.c;
    size_t first = n->n_variants, steps = n->node.grid.n;
    for (size_t i = 0; i < steps; i++) {
        size_t k = first;
        while (k < n->n_variants && !same_value(n->variants[k].value, q[i]))
            k++;
        if (k < n->n_variants)
            continue;
        if (n->n_variants == *cap) {
            variant *more = ps_arena_array(ev_arena(c), 2 * *cap, sizeof *more);
            if (more == NULL)
                return ev_no_memory(c);
            memcpy(more, n->variants, n->n_variants * sizeof *more);
            n->variants = more;
            *cap *= 2;
        }
        variant *v = &n->variants[n->n_variants++];
        *v = (variant){.q = q, .one_value = true, .value = q[i]};
        PS_TRY(number_label(c, q[i], &v->text));
    }
    return PS_OK;
}

static ps_status
open_scalars(hq_node *n)
{
    ev_node *node = &n->node;
    size_t cap = 16;
    n->variants = ps_arena_array(ev_arena(node->c), cap, sizeof *n->variants);
    if (n->variants == NULL)
        return ev_no_memory(node->c);
    for (size_t i = 1; i < node->n_kids; i++) {
        const double *v;
        PS_TRY(ev_scalar_values(node->kids[i], &v));
        if (!is_fraction(n))
            check_quantile(node->c, n->scalar_at[i], v, node->grid.n);
        if (is_many(n))
            PS_TRY(add_variants(n, v, &cap));
        else if (i == 1)
            n->variants[n->n_variants++] = (variant){.q = v};
        else
            n->upper = v;
    }
    return PS_OK;
}

static ps_status
make_series(hq_node *n)
{
    ev_node *node = &n->node;
    if (!ps_mul_size(n->n_groups, n->n_variants, &node->n_series))
        return ev_no_memory(node->c);
    node->series = ps_arena_array(ev_arena(node->c), node->n_series + 1, sizeof *node->series);
    if (node->series == NULL)
        return ev_no_memory(node->c);
    for (size_t i = 0; i < node->n_series; i++) {
        ev_series *s = &node->series[i];
        s->labels = n->groups[i % n->n_groups].labels;
        PS_TRY(ev_series_drop_name(node->c, s));
        if (is_many(n))
            PS_TRY(ev_labels_with(node->c, s->labels, n->label, n->variants[i / n->n_groups].text,
                                  &s->labels));
    }
    return PS_OK;
}

static ps_status
hq_open(ev_node *node)
{
    hq_node *n = (hq_node *)node;
    n->delayed = ev_query_options(node->c)->delayed_names;
    PS_TRY(open_scalars(n));
    PS_TRY(ev_open(node->kids[0]));
    PS_TRY(ev_matrix_pull(node->kids[0], &n->matrix));
    PS_TRY(make_groups(n));
    PS_TRY(make_series(n));
    return ev_batch_init(&n->batch, node->c, ev_batch_rows(node->grid.n), node->grid.n);
}

/* ---- values ------------------------------------------------------------------------------------------ */

static double
of_native(hq_node *n, const group *g, const hst_hist *h, const variant *v, size_t step)
{
    hst_quantile_notes notes = {0};
    double result = is_fraction(n) ? hst_fraction(h, v->q[step], n->upper[step], &notes)
                                   : hst_quantile(h, v->q[step], &notes);
    if (notes.result_is_nan)
        annotate(n, true, "input to histogram_quantile has NaN observations, result is NaN", NULL,
                 g->labels);
    if (notes.skewed)
        annotate(n, true,
                 "input to histogram_quantile has NaN observations, result is skewed higher", NULL,
                 g->labels);
    if (notes.excluded)
        annotate(n, true,
                 "input to histogram_fraction has NaN observations, which are excluded from all "
                 "fractions",
                 NULL, g->labels);
    return result;
}

static double
of_classic(hq_node *n, const group *g, size_t n_buckets, const variant *v, size_t step)
{
    if (is_fraction(n))
        return ev_classic_fraction(v->q[step], n->upper[step], n->scratch, n_buckets);
    ev_forced forced;
    double result = ev_classic_quantile(v->q[step], n->scratch, n_buckets, &forced);
    if (forced.forced)
        ev_note_monotonicity(n->node.c, n->of, name_of(n, g->labels),
                             n->node.grid.start_ms + (int64_t)step * n->node.grid.step_ms,
                             forced.from_bucket, forced.to_bucket, forced.max_diff);
    return result;
}

static size_t
buckets_at(hq_node *n, const group *g, size_t step)
{
    const ev_matrix *m = &n->matrix;
    size_t k = 0;
    for (uint32_t i = 0; i < g->n; i++) {
        const member *b = &n->members[g->first + i];
        if (!ev_has(m->has + b->row * m->n_words, step) ||
            (m->h[b->row] != NULL && m->h[b->row][step] != NULL))
            continue;
        n->scratch[k++] = (ev_bucket){b->bound, m->v[b->row * m->n_steps + step]};
    }
    return k;
}

static void
fill_row(hq_node *n, const group *g, const variant *v, ev_row *out)
{
    const ev_matrix *m = &n->matrix;
    for (size_t step = 0; step < m->n_steps; step++) {
        if (v->one_value && !same_value(v->q[step], v->value))
            continue;
        const hst_hist *h = NULL;
        if (g->native != NO_ROW && ev_has(m->has + g->native * m->n_words, step))
            h = m->h[g->native][step];
        size_t n_buckets = buckets_at(n, g, step);
        if (h != NULL && n_buckets > 0) {
            annotate(n, false, "vector contains a mix of classic and native histograms", NULL,
                     g->labels);
            continue;
        }
        if (h == NULL && n_buckets == 0)
            continue;
        out->v[step] =
            h != NULL ? of_native(n, g, h, v, step) : of_classic(n, g, n_buckets, v, step);
        ev_set(out->has, step);
    }
}

static ps_status
hq_next(ev_node *node, ev_batch **ret)
{
    hq_node *n = (hq_node *)node;
    size_t rows = node->n_series - n->next;
    if (rows == 0) {
        ev_matrix_done(&n->matrix, node->c);
        return PS_OK;
    }
    if (rows > n->batch.cap)
        rows = n->batch.cap;
    ev_batch_clear(&n->batch, n->next, rows);
    for (size_t i = 0; i < rows; i++) {
        size_t at = n->next + i;
        ev_row out = ev_batch_row(&n->batch, i);
        if (i % 64 == 63)
            PS_TRY(ev_poll(node->c));
        fill_row(n, &n->groups[at % n->n_groups], &n->variants[at / n->n_groups], &out);
    }
    if (n->no_memory)
        return ev_no_memory(node->c);
    n->next += rows;
    *ret = &n->batch;
    return PS_OK;
}

static void
hq_close(ev_node *node)
{
    hq_node *n = (hq_node *)node;
    ev_matrix_done(&n->matrix, node->c);
    ev_batch_done(&n->batch, node->c);
}

/* The whole input and a batch. */
static uint64_t
hq_holds(const ev_node *node, size_t steps)
{
    return ev_plus(ev_cell_bytes(node->kids[0]->n_series, steps),
                   ev_cell_bytes(ev_batch_rows(steps), steps));
}

static const ev_node_ops hq_ops = {
    .name = "histogram quantiles",
    .bytes = sizeof(hq_node),
    .open = hq_open,
    .next = hq_next,
    .close = hq_close,
    .kind = EV_GATHER,
    .holds = hq_holds,
};

/* ---- building ------------------------------------------------------------------------------------------ */

ps_status
ev_build_histogram_quantile(ev_ctx *c, const pql_expr *e, const ev_grid *grid, ev_node **ret)
{
    ev_node *node;
    PS_TRY(ev_new_node(c, &hq_ops, e, grid, PQL_VECTOR, &node));
    hq_node *n = (hq_node *)node;
    /* The vector is the first kid, scalars follow in order. */
    size_t vector = 0;
    while (e->call.args[vector]->type != PQL_VECTOR)
        vector++;
    n->of = pql_unwrap(e->call.args[vector]);
    ev_node *kid;
    PS_TRY(ev_build(c, e->call.args[vector], grid, &kid));
    ev_add_kid(node, kid);
    for (size_t i = 0; i < e->call.n_args; i++) {
        const pql_expr *arg = e->call.args[i];
        if (arg->type == PQL_STRING) {
            n->label = pql_unwrap(arg)->text;
        } else if (i != vector) {
            PS_TRY(ev_build(c, arg, grid, &kid));
            n->scalar_at[node->n_kids] = pql_unwrap(arg);
            ev_add_kid(node, kid);
        }
    }
    return ev_build_unique(c, node, false, ret);
}
