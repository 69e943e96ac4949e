/*
 * explain.c - what a query would do, and what it did.
 *
 * Which series a node gives follows from the label sets below it, long before any sample is read: so a
 * plan is found by a rehearsal. A second query of the same expression builds the same nodes, cut to one
 * step; the source says which series there are and what reading them takes, but hands out no sample;
 * opening the root then makes every label set that the run will make. What nodes hold over all steps is a
 * matter of multiplication, which each of them knows (`holds`).
 *
 * The run itself is an ordinary one, whose nodes are watched (node.c). Both trees have the same shape: the
 * plan is made from the first and walked beside the second. Nodes that only look after label sets
 * (EV_CHECK) are part of what they stand on; numbers are not shown.
 *
 * Memory: the plan is in the query's arena; the rehearsal has a budget of its own, gone when it ends.
 */
#include "lib/eval/plan.h"

enum { MAX_TEXT = 2000 };

typedef struct plan_node {
    ev_plan_node p;
    size_t wrapped;   /* EV_CHECK nodes above the one that it is about */
    size_t selection; /* of a leaf */
} plan_node;

typedef struct explaining {
    ev_query *q;         /* the one that is asked, whose arena holds the plan */
    ev_query *rehearsal; /* NULL: it is over */
    ev_plan *plan;
} explaining;

/* ---- figures ---------------------------------------------------------------------------------------- */

uint64_t
ev_times(uint64_t a, uint64_t b)
{
    uint64_t product;
    return __builtin_mul_overflow(a, b, &product) ? UINT64_MAX : product;
}

uint64_t
ev_plus(uint64_t a, uint64_t b)
{
    uint64_t sum;
    return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

uint64_t
ev_cell_bytes(uint64_t rows, uint64_t steps)
{
    uint64_t row = ev_plus(ev_times(steps, sizeof(double)), (steps + 63) / 64 * sizeof(uint64_t));
    return ev_times(rows, ev_plus(row, sizeof(void *)));
}

uint64_t
ev_batch_bytes(uint64_t series, uint64_t steps)
{
    uint64_t rows = ev_batch_rows((size_t)steps);
    return ev_cell_bytes(rows < series ? rows : series, steps);
}

double
ev_expected_samples(int64_t from_ms, int64_t to_ms, int64_t t_min_ms, int64_t t_max_ms,
                    int64_t n_series, int64_t n_samples)
{
    double n = (double)n_samples / (double)n_series;
    double span = (double)t_max_ms - (double)t_min_ms;
    double from = (double)(from_ms > t_min_ms ? from_ms : t_min_ms);
    double to = (double)(to_ms < t_max_ms ? to_ms : t_max_ms);
    double ends = (from_ms <= t_min_ms) + (to_ms >= t_max_ms);
    if (to < from)
        return 0;
    if (n <= 1 || span <= 0)
        return n;
    double distance = span / (n - 1);
    double expected = (to - from) / distance + ends / 2;
    return expected < n ? expected : n;
}

bool
ev_rehearses(const ev_ctx *c)
{
    return c->q->rehearses;
}

void
ev_expect_series(ev_node *n, uint64_t series)
{
    if (n->profile != NULL)
        n->profile->expect = series;
}

size_t
ev_rehearsed_steps(const ev_node *n)
{
    return n->profile->steps;
}

static void
add_reading(ev_reading *sum, const ev_reading *r)
{
    sum->series += r->series;
    sum->blocks += r->blocks;
    sum->samples += r->samples;
    sum->bytes += r->bytes;
}

static int64_t
now_ns(const ev_query *q)
{
    return q->env.now != NULL ? q->env.now(q->env.now_self) : 0;
}

/* ---- the tree --------------------------------------------------------------------------------------- */

static const char *
kind_name(ev_kind kind)
{
    static const char *const names[] = {"leaf", "map",  "fold",   "gather",
                                        "join", "grid", "scalar", "check"};
    return names[kind];
}

static const ev_node *
unwrapped(const ev_node *n, size_t *ret_wrapped)
{
    for (*ret_wrapped = 0; n->ops->kind == EV_CHECK; (*ret_wrapped)++)
        n = n->kids[0];
    return n;
}

static bool
is_shown(const ev_node *n)
{
    return n->expr->kind != PQL_NUMBER;
}

/* The text of a part, in the arena of the query; what is too long ends in dots. */
static ps_status
part_text(ev_query *q, const pql_expr *e, ps_str *ret)
{
    ps_buf text;
    ps_buf_init(&text, &q->alloc);
    if (!ps_buf_reserve(&text, MAX_TEXT))
        return ev_no_memory(&q->ctx);
    text.max = MAX_TEXT;
    pql_print(&text, e);
    bool cut = text.failed;
    text.failed = false;
    text.max = 0;
    if (cut)
        text.len = ps_utf8_prefix(ps_buf_str(&text), text.len);
    if (cut)
        ps_buf_add_c(&text, "...");
    ps_status status = text.failed ? PS_ENOMEM : ps_arena_dup(&q->arena, ps_buf_str(&text), ret);
    ps_buf_done(&text);
    return status == PS_OK ? PS_OK : ev_no_memory(&q->ctx);
}

static void
describe_reading(const explaining *x, plan_node *p, size_t selection)
{
    const ev_selection *s = &x->rehearsal->selections[selection];
    p->selection = selection;
    p->p.reads = true;
    p->p.newest_only = s->newest_only;
    p->p.from_ms = s->from_ms;
    p->p.to_ms = s->to_ms;
    p->p.estimated_reading = x->rehearsal->readings[selection];
}

static ps_status
new_plan_node(const explaining *x, const pql_expr *e, size_t n_kids, plan_node **ret)
{
    ps_arena *arena = &x->q->arena;
    plan_node *p = ps_arena_array(arena, 1, sizeof *p);
    if (p == NULL)
        return ev_no_memory(&x->q->ctx);
    p->p.kids = ps_arena_array(arena, n_kids + 1, sizeof(*p->p.kids));
    if (p->p.kids == NULL)
        return ev_no_memory(&x->q->ctx);
    *ret = p;
    return part_text(x->q, e, &p->p.text);
}

/* Where a node passes on what is below it, there are no more than there. */
static uint64_t
expected_series(const ev_node *n, const plan_node *p)
{
    uint64_t series = n->n_series;
    if (n->profile->expect != UINT64_MAX)
        return n->profile->expect;
    if (n->ops->kind == EV_LEAF)
        return p->p.estimated_reading.series < series ? p->p.estimated_reading.series : series;
    bool passes = n->ops->kind == EV_MAP || n->ops->kind == EV_FOLD || n->ops->kind == EV_GRID;
    if (n->type != PQL_VECTOR || !passes || p->p.n_kids == 0)
        return series;
    uint64_t below = p->p.kids[0]->estimated.series;
    return below < series ? below : series;
}

static uint64_t
expected_bytes(const ev_node *n)
{
    bool holds = n->ops->holds != NULL && n->profile->steps > 0;
    return ev_plus(n->profile->arena, holds ? n->ops->holds(n, n->profile->steps) : 0);
}

/* Of an opened, rehearsed node and all below it. */
static ps_status
describe(const explaining *x, const ev_node *n, ev_plan_node **ret)
{
    const ev_node *outer = n;
    size_t wrapped;
    plan_node *p;
    n = unwrapped(n, &wrapped);
    PS_TRY(new_plan_node(x, n->expr, n->n_kids, &p));
    p->wrapped = wrapped;
    p->p.kind = kind_name(n->ops->kind);
    p->p.what = n->ops->name;
    p->p.n_steps = n->profile->steps;
    if (n->ops->kind == EV_LEAF) {
        const ev_leaf *l = (const ev_leaf *)n;
        p->p.what = l->fn != NULL ? "function over ranges" : n->ops->name;
        describe_reading(x, p, l->selection);
    }
    for (size_t i = 0; i < n->n_kids; i++)
        if (is_shown(n->kids[i]))
            PS_TRY(describe(x, n->kids[i], &p->p.kids[p->p.n_kids++]));
    p->p.estimated.series = expected_series(n, p);
    if (outer->n_series < n->n_series && outer->n_series < p->p.estimated.series)
        p->p.estimated.series = outer->n_series;
    for (size_t i = 0; i <= wrapped; i++, outer = outer->kids[0])
        p->p.estimated.bytes = ev_plus(p->p.estimated.bytes, expected_bytes(outer));
    x->plan->estimated_bytes = ev_plus(x->plan->estimated_bytes, p->p.estimated.bytes);
    *ret = &p->p;
    return PS_OK;
}

/* ---- rehearsing ------------------------------------------------------------------------------------- */

static ps_status
read_nothing(void *self, const ev_series_list *list, size_t series, size_t worker, ev_samples *into,
             ps_err *err)
{
    (void)self;
    (void)list;
    (void)series;
    (void)worker;
    (void)into;
    (void)err;
    return PS_OK;
}

static ps_status
estimate(ev_query *r)
{
    ps_err err = {.offset = -1};
    const ev_source *source = &r->env.source;
    r->lists = ps_arena_array(&r->arena, r->n_selections + 1, sizeof *r->lists);
    r->readings = ps_arena_array(&r->arena, r->n_selections + 1, sizeof *r->readings);
    if (r->lists == NULL || r->readings == NULL)
        return ev_no_memory(&r->ctx);
    if (r->n_selections == 0)
        return PS_OK;
    ps_status status =
        source->estimate(source->self, r->selections, r->n_selections, r->lists, r->readings, &err);
    return status == PS_OK ? PS_OK : ev_source_failed(&r->ctx, status, &err);
}

/* A range selector as the whole query has no node: its samples are copied as they are. */
static ps_status
rehearse_raw(explaining *x, const pql_expr *e)
{
    const uint64_t per_series = sizeof(ev_result_series) + 2 * 16; /* room for two more points */
    plan_node *p;
    ev_query *r = x->rehearsal;
    size_t selection;
    ev_selection wanted = ev_raw_selection(r, e);
    PS_TRY(ev_select(&r->ctx, &wanted, &selection));
    PS_TRY(estimate(r));
    PS_TRY(new_plan_node(x, e, 0, &p));
    p->p.kind = kind_name(EV_LEAF);
    p->p.what = "range selector";
    p->p.n_steps = 1;
    describe_reading(x, p, selection);
    const ev_reading *reading = &p->p.estimated_reading;
    p->p.estimated = (ev_figures){.series = reading->series,
                                  .bytes = ev_plus(ev_times(reading->samples, 16),
                                                   ev_times(r->lists[selection].n, per_series))};
    x->plan->estimated_bytes = p->p.estimated.bytes;
    x->plan->root = &p->p;
    return PS_OK;
}

/* The nodes are shaped before they are opened: what depends on steps comes from `holds`. */
static ps_status
rehearse_nodes(explaining *x, const pql_expr *e)
{
    ev_query *r = x->rehearsal;
    ev_counts inner = {0};
    PS_TRY(ev_query_build(r, e, &inner));
    for (ev_node *n = r->last_made; n != NULL; n = n->made_before)
        n->grid.n = n->grid.n > 1 ? 1 : n->grid.n;
    PS_TRY(estimate(r));
    PS_TRY(ev_open(r->root));
    PS_TRY(describe(x, r->root, &x->plan->root));
    const ev_plan_node *root = x->plan->root;
    uint64_t points = ev_times(root->n_steps, sizeof(double));
    x->plan->estimated_bytes =
        ev_plus(x->plan->estimated_bytes,
                ev_times(root->estimated.series, ev_plus(points, sizeof(ev_result_series))));
    return PS_OK;
}

static ps_status
rehearse_text(explaining *x, const pql_expr *e)
{
    plan_node *p;
    PS_TRY(new_plan_node(x, e, 0, &p));
    p->p.kind = kind_name(EV_SCALAR);
    p->p.what = "text";
    p->p.n_steps = 1;
    x->plan->root = &p->p;
    return PS_OK;
}

static ps_status
rehearse(explaining *x)
{
    ev_query *q = x->q, *r;
    ev_env env = q->env;
    const pql_expr *e = pql_unwrap(q->expr);
    env.source.read = read_nothing;
    r = x->rehearsal = ev_query_init(&env, &q->options);
    if (r == NULL)
        return ev_no_memory(&q->ctx);
    r->expr = q->expr;
    r->text = q->text;
    r->start_ms = q->start_ms;
    r->end_ms = q->end_ms;
    r->step_ms = q->step_ms;
    r->grid = q->grid;
    r->range = q->range;
    r->options.per_step_stats = false;
    r->explained = r->rehearses = true;
    ps_status status = e->kind == PQL_TEXT    ? rehearse_text(x, e)
                       : e->kind == PQL_RANGE ? rehearse_raw(x, e)
                                              : rehearse_nodes(x, e);
    for (size_t i = 0; status == PS_OK && i < r->n_selections; i++)
        add_reading(&x->plan->estimated_reading, &r->readings[i]);
    if (r->ctx.failed != PS_OK)
        status = ev_fail_str(&q->ctx, r->ctx.failed, ev_query_error(r));
    ev_query_free(r);
    x->rehearsal = NULL;
    return status;
}

/* ---- what it really was ------------------------------------------------------------------------------ */

static void
take_reading(const explaining *x, plan_node *p, const ev_profile *of)
{
    const ev_source *source = &x->q->env.source;
    ev_reading *r = &p->p.actual_reading;
    if (source->taken != NULL)
        source->taken(source->self, &x->q->lists[p->selection], r);
    r->series = of->read_series;
    r->samples = of->read_samples;
}

static void
take_figures(const explaining *x, plan_node *p, const ev_node *n)
{
    ev_figures *f = &p->p.actual;
    const ev_profile *of = n->profile;
    f->series = of->series;
    f->points = of->points;
    f->total_ns = f->self_ns = of->total_ns;
    for (size_t i = 0; i <= p->wrapped; i++) {
        n = i > 0 ? n->kids[0] : n;
        f->bytes += (uint64_t)atomic_load(&n->profile->peak) + n->profile->arena;
    }
    if (p->p.reads)
        take_reading(x, p, n->profile);
    for (size_t i = 0, k = 0; i < n->n_kids; i++) {
        if (!is_shown(n->kids[i]))
            continue;
        plan_node *kid = (plan_node *)p->p.kids[k++];
        take_figures(x, kid, n->kids[i]);
        f->self_ns -= kid->p.actual.total_ns;
    }
}

static void
take_raw(const explaining *x, plan_node *p, size_t arena_before)
{
    const ev_result *r = &x->q->result;
    ev_profile of = {.read_samples = atomic_load(&x->q->samples_read), .read_series = r->n};
    take_reading(x, p, &of);
    p->p.actual =
        (ev_figures){.series = r->n, .bytes = ps_arena_carved(&x->q->arena) - arena_before};
    for (size_t i = 0; i < r->n; i++)
        p->p.actual.points += r->series[i].n;
    p->p.actual.total_ns = p->p.actual.self_ns = x->plan->running_ns;
}

static ps_status
run(explaining *x)
{
    ev_query *q = x->q;
    const ev_source *source = &q->env.source;
    ev_plan *plan = x->plan;
    int64_t from = now_ns(q);
    size_t arena_before = ps_arena_carved(&q->arena);
    q->explained = true;
    PS_TRY(ev_query_run_now(q));
    plan->running_ns = now_ns(q) - from;
    plan->analyzed = true;
    plan->result = &q->result;
    plan->actual_bytes = q->result.stats.peak_bytes;
    if (q->root != NULL)
        take_figures(x, (plan_node *)plan->root, q->root);
    else if (plan->root->reads)
        take_raw(x, (plan_node *)plan->root, arena_before);
    for (size_t i = 0; i < q->n_selections; i++) {
        ev_reading r = {0};
        if (source->taken != NULL)
            source->taken(source->self, &q->lists[i], &r);
        add_reading(&plan->actual_reading, &r);
    }
    plan->actual_reading.samples = q->result.stats.samples_read;
    return PS_OK;
}

static ps_status
explain(explaining *x, bool analyze)
{
    ev_query *q = x->q;
    int64_t from = now_ns(q);
    PS_TRY(ev_poll(&q->ctx));
    x->plan = ps_arena_array(&q->arena, 1, sizeof *x->plan);
    if (x->plan == NULL)
        return ev_no_memory(&q->ctx);
    PS_TRY(rehearse(x));
    x->plan->estimating_ns = now_ns(q) - from;
    return analyze ? run(x) : PS_OK;
}

ps_status
ev_query_explain(ev_query *q, bool analyze, const ev_plan **ret)
{
    explaining x = {.q = q};
    *ret = NULL;
    PS_TRY(ev_query_once(q));
    if (q->env.source.estimate == NULL)
        return ev_fail(&q->ctx, PS_EUNSUPPORTED, "this source of samples cannot estimate");
    PS_TRY(ev_query_worded(q, explain(&x, analyze)));
    *ret = x.plan;
    return PS_OK;
}
