/*
 * info.c - info(v, {matchers}): labels of info metrics are added to the series of v.
 *
 * The info series are read when the node is opened, since the labels of the result depend on which of them
 * are there; the series of v then stream, in place if each has one row in the result. Matchers of
 * the second argument choose the info metrics (__name__) and the labels to add. An @ and the offsets of
 * the first selector in v say when the info series are looked at.
 *
 * Memory: see info_plan.c, and one batch.
 */
#include "lib/eval/info.h"

/* ---- the info series: which, and when ------------------------------------------------------------------ */

/* Finds the first selector below e in order of evaluation and the time that governs it: offsets add up
 * outward from the selector to the first @. */
static bool
find_anchor(const pql_expr *e, pql_when *ret)
{
    const pql_when *own = NULL;
    pql_expr *kids[64];
    if (e->kind == PQL_SELECTOR || e->kind == PQL_RANGE) {
        const pql_expr *s = e->kind == PQL_RANGE ? e->range.selector : e;
        *ret = s->selector.when;
        return true;
    }
    if (e->kind == PQL_AGGREGATE && find_anchor(e->aggregate.of, ret))
        return true;
    if (e->kind == PQL_SUBQUERY)
        own = &e->subquery.when;
    size_t n = pql_children(e, kids, PS_ARRAY_LEN(kids));
    n = n < PS_ARRAY_LEN(kids) ? n : PS_ARRAY_LEN(kids);
    bool found = false;
    for (size_t i = 0; i < n && !found; i++)
        found = find_anchor(kids[i], ret);
    if (found && own != NULL && ret->at == PQL_AT_NONE) {
        ret->offset_ms += own->offset_ms;
        ret->has_offset |= own->has_offset;
        ret->at = own->at;
        ret->at_ms = own->at_ms;
    }
    return found;
}

/* Is there a matcher that says what the name is, not only what it is not? */
static bool
names_a_metric(const mdl_matcher *m, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (ps_str_eq(m[i].name, PS_STR(MDL_METRIC_NAME)) &&
            (m[i].type == MDL_MATCH_EQ || m[i].type == MDL_MATCH_RE))
            return true;
    return false;
}

/* Matchers of the info series: those of the second argument, and a name if they ask for none. */
static ps_status
info_matchers(ev_ctx *c, const pql_expr *e, mdl_matcher **ret, size_t *ret_n)
{
    const mdl_matcher *given = NULL;
    size_t n_given = 0, n_names = 0, n = 0;
    if (e->call.n_args > 1) {
        const pql_expr *s = pql_unwrap(e->call.args[1]);
        given = s->selector.matchers;
        n_given = s->selector.n_matchers;
    }
    mdl_matcher *m = ps_arena_array(ev_arena(c), n_given + 1, sizeof *m);
    if (m == NULL)
        return ev_no_memory(c);
    for (size_t i = 0; i < n_given; i++) {
        n_names += ps_str_eq(given[i].name, PS_STR(MDL_METRIC_NAME));
        m[n++] = given[i];
    }
    mdl_matcher any = {MDL_MATCH_RE, PS_STR(MDL_METRIC_NAME), PS_STR(".+_info")};
    mdl_matcher target = {MDL_MATCH_EQ, PS_STR(MDL_METRIC_NAME), PS_STR("target_info")};
    if (!names_a_metric(given, n_given))
        m[n++] = n_names > 0 ? any : target;
    *ret = m;
    *ret_n = n;
    return PS_OK;
}

/* Sorts matchers by what they are for. */
static ps_status
take_matchers(ev_info_node *n, const mdl_matcher *m, size_t n_m)
{
    ev_ctx *c = n->node.c;
    ps_err err;
    ps_str *names = ps_arena_array(ev_arena(c), n_m + 1, sizeof *names);
    n->name_matchers = ps_arena_array(ev_arena(c), n_m + 1, sizeof *n->name_matchers);
    if (names == NULL || n->name_matchers == NULL)
        return ev_no_memory(c);
    n->data_names = names;
    n->may_miss = true;
    for (size_t i = 0; i < n_m; i++) {
        re_matcher *re;
        ps_status status = re_matcher_new(ev_alloc(c), &m[i], &re, &err);
        if (status == PS_ENOMEM)
            return ev_no_memory(c);
        if (status != PS_OK)
            return ev_fail(c, status, "%s", err.text);
        if (ps_str_eq(m[i].name, PS_STR(MDL_METRIC_NAME))) {
            n->name_matchers[n->n_name_matchers++] = re;
            continue;
        }
        names[n->n_data_names++] = m[i].name;
        n->may_miss &= re_matcher_matches_empty(re);
        re_matcher_free(re);
    }
    n->may_miss |= ev_rehearses(c); /* no info series is seen then */
    return PS_OK;
}

/* ---- running ---------------------------------------------------------------------------------------------- */

static ps_status
check_clash(ev_info_node *n)
{
    ev_ctx *c = n->node.c;
    uint64_t met = 0;
    for (size_t w = 0; n->clash != NULL && w < n->n_words; w++)
        met |= n->clash[w] & n->any_base[w];
    if (PS_LIKELY(met == 0))
        return PS_OK;
    const ev_series *infos = n->node.kids[1]->series;
    ps_buf text;
    ps_buf_init(&text, ev_alloc(c));
    ps_buf_add_c(&text, "found duplicate series for info metric: existing ");
    ev_labels_text(&text, infos[n->clash_of[0]].labels);
    ps_buf_addf(&text, " @ %lld, new ", (long long)n->clash_ms);
    ev_labels_text(&text, infos[n->clash_of[1]].labels);
    ps_buf_addf(&text, " @ %lld", (long long)n->clash_ms);
    ps_status status = text.failed ? ev_no_memory(c) : ev_fail_str(c, PS_EINVAL, ps_buf_str(&text));
    ps_buf_done(&text);
    return status;
}

static void
note_bases(ev_info_node *n, const ev_batch *b)
{
    for (size_t i = 0; n->clash != NULL && i < b->n; i++)
        for (size_t w = 0; w < b->n_words; w++)
            n->any_base[w] |= b->has[i * b->n_words + w];
}

/* Keeps the cells at the steps of a row. */
static ps_status
mask(ev_info_node *n, const ev_info_row *r, uint64_t *has)
{
    uint64_t any = 0;
    for (size_t w = 0; w < n->n_words; w++) {
        if (r->at != NULL)
            has[w] &= r->at[w];
        any |= has[w];
    }
    if (r->conflict.len == 0 || any == 0)
        return PS_OK;
    PS_TRY(check_clash(n));
    return ev_fail(n->node.c, PS_EINVAL, "conflicting label: %.*s", (int)r->conflict.len,
                   r->conflict.ptr);
}

/* Rows of the result from the batch that is there, as many as fit; their number in *ret. */
static ps_status
run_batch(ev_info_node *n, size_t *ret)
{
    size_t rows = 0, end = n->in->first + n->in->n, n_steps = n->node.grid.n;
    while (n->at + rows < n->n_rows && rows < n->out.cap && n->rows[n->at + rows].base < end)
        rows++;
    ev_batch_clear(&n->out, n->at, rows);
    for (size_t i = 0; i < rows; i++) {
        const ev_info_row *r = &n->rows[n->at + i];
        ev_row from = ev_batch_row(n->in, r->base - n->in->first);
        ev_row to = ev_batch_row(&n->out, i);
        memcpy(to.v, from.v, n_steps * sizeof *to.v);
        memcpy(to.has, from.has, n->n_words * sizeof *to.has);
        PS_TRY(mask(n, r, to.has));
        if (from.h == NULL)
            continue;
        PS_TRY(ev_batch_hists(&n->out, n->node.c, i));
        memcpy(n->out.h[i], from.h, n_steps * sizeof *from.h);
    }
    n->at += rows;
    *ret = rows;
    return PS_OK;
}

static ps_status
next_in_place(ev_info_node *n, ev_batch **ret)
{
    ev_batch *b;
    PS_TRY(ev_next(n->node.kids[0], &b));
    if (b == NULL)
        return check_clash(n);
    note_bases(n, b);
    for (size_t i = 0; i < b->n; i++)
        PS_TRY(mask(n, &n->rows[b->first + i], b->has + i * b->n_words));
    *ret = b;
    return PS_OK;
}

static ps_status
info_next(ev_node *node, ev_batch **ret)
{
    ev_info_node *n = (ev_info_node *)node;
    *ret = NULL;
    if (n->in_place)
        return next_in_place(n, ret);
    for (;;) {
        size_t rows = 0;
        if (n->in != NULL)
            PS_TRY(run_batch(n, &rows));
        if (rows > 0) {
            *ret = &n->out;
            return PS_OK;
        }
        PS_TRY(ev_next(node->kids[0], &n->in));
        if (n->in == NULL)
            return check_clash(n);
        note_bases(n, n->in);
    }
}

static ps_status
info_open(ev_node *node)
{
    ev_info_node *n = (ev_info_node *)node;
    mdl_matcher *matchers;
    size_t n_matchers;
    PS_TRY(info_matchers(node->c, node->expr, &matchers, &n_matchers));
    PS_TRY(take_matchers(n, matchers, n_matchers));
    PS_TRY(ev_open(node->kids[0]));
    PS_TRY(ev_open(node->kids[1]));
    PS_TRY(ev_info_plan(n));
    n->any_base = ps_arena_array(ev_arena(node->c), n->n_words + 1, sizeof *n->any_base);
    if (n->any_base == NULL)
        return ev_no_memory(node->c);
    if (n->in_place)
        return PS_OK;
    size_t rows = ev_batch_rows(node->grid.n);
    return ev_batch_init(&n->out, node->c, rows < n->n_rows ? rows : n->n_rows + 1, node->grid.n);
}

static void
info_close(ev_node *node)
{
    ev_info_node *n = (ev_info_node *)node;
    const ps_alloc *a = ev_alloc(node->c);
    for (size_t i = 0; i < n->n_name_matchers; i++)
        re_matcher_free(n->name_matchers[i]);
    ev_groups_free(n->classes);
    ev_matrix_done(&n->infos, node->c);
    ev_batch_done(&n->out, node->c);
    if (n->combos != NULL)
        ps_alloc_free(a, n->combos, n->cap_combos * sizeof *n->combos);
    if (n->rows != NULL)
        ps_alloc_free(a, n->rows, n->cap_rows * sizeof *n->rows);
    if (n->series != NULL)
        ps_alloc_free(a, n->series, n->cap_series * sizeof *n->series);
}

/* The info series while it is opened, then rows of the result and, unless these are changed in place, a
 * batch. */
static uint64_t
info_holds(const ev_node *node, size_t steps)
{
    const ev_info_node *n = (const ev_info_node *)node;
    uint64_t infos = ev_cell_bytes(node->kids[1]->n_series, steps);
    uint64_t classes = ev_groups_bytes(node->kids[1]->n_series);
    uint64_t rows = ev_times(n->cap_rows, sizeof *n->rows + sizeof *n->series);
    return ev_plus(classes, infos > rows ? infos : rows);
}

static const ev_node_ops info_ops = {"info",    sizeof(ev_info_node), info_open,
                                     info_next, info_close,           EV_JOIN,
                                     info_holds};

ps_status
ev_build_info(ev_ctx *c, const pql_expr *e, const ev_grid *grid, ev_node **ret)
{
    ev_node *node, *kid;
    mdl_matcher *matchers;
    size_t n_matchers;
    PS_TRY(ev_new_node(c, &info_ops, e, grid, PQL_VECTOR, &node));
    PS_TRY(ev_build(c, e->call.args[0], grid, &kid));
    ev_add_kid(node, kid);
    PS_TRY(info_matchers(c, e, &matchers, &n_matchers));
    pql_expr *selector = ps_arena_array(ev_arena(c), 1, sizeof *selector);
    if (selector == NULL)
        return ev_no_memory(c);
    *selector = (pql_expr){.kind = PQL_SELECTOR, .type = PQL_VECTOR, .from = e->from, .to = e->to};
    selector->selector.matchers = matchers; /* for whoever prints it */
    selector->selector.n_matchers = n_matchers;
    find_anchor(e->call.args[0], &selector->selector.when);
    PS_TRY(ev_build_selector(c, selector, matchers, n_matchers, EV_TIMES, grid, &kid));
    ev_add_kid(node, kid);
    return ev_build_unique(c, node, false, ret);
}
