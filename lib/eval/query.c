/*
 * query.c - one evaluation from beginning to end: prepare, build, select, pull, word the notes.
 */
#include "lib/eval/plan.h"

enum { DEFAULT_LOOKBACK_MS = 5 * 60 * 1000, DEFAULT_SUBQUERY_STEP_MS = 60 * 1000 };
#define DEFAULT_MAX_SAMPLES UINT64_C(50000000)

static void
run_serially(void *self, size_t n, ev_task_fn fn, void *arg)
{
    (void)self;
    for (size_t i = 0; i < n; i++)
        fn(arg, i, 0);
}

const ev_executor ev_serial = {NULL, 1, run_serially};

/* ---- making ------------------------------------------------------------------------------------------ */

static void
fill_defaults(ev_options *o)
{
    if (o->lookback_ms <= 0)
        o->lookback_ms = DEFAULT_LOOKBACK_MS;
    if (o->subquery_step_ms <= 0)
        o->subquery_step_ms = DEFAULT_SUBQUERY_STEP_MS;
    if (o->max_samples == 0)
        o->max_samples = DEFAULT_MAX_SAMPLES;
}

/* Times that leave room for offsets and ranges to be added. */
static bool
is_sane_time(int64_t t_ms)
{
    return t_ms > -(INT64_MAX / 4) && t_ms < INT64_MAX / 4;
}

static ps_status
set_grid(ev_query *q)
{
    ev_ctx *c = &q->ctx;
    if (!is_sane_time(q->start_ms) || !is_sane_time(q->end_ms))
        return ev_fail(c, PS_EINVAL, "time out of range");
    q->range = q->step_ms != 0 || q->start_ms != q->end_ms;
    q->grid = (ev_grid){q->start_ms, 0, 1};
    if (!q->range)
        return PS_OK;
    if (q->step_ms <= 0)
        return ev_fail(c, PS_EINVAL, "zero or negative query resolution step");
    if (q->end_ms < q->start_ms) {
        q->grid.n = 0;
        return PS_OK;
    }
    uint64_t steps = (uint64_t)(q->end_ms - q->start_ms) / (uint64_t)q->step_ms + 1;
    if (steps > q->options.max_samples)
        return ev_fail(c, PS_ELIMIT,
                       "query processing would load too many samples into memory in "
                       "query execution");
    q->grid.n = (size_t)steps;
    q->grid.step_ms = q->start_ms != q->end_ms ? q->step_ms : 0;
    return PS_OK;
}

static ps_status
prepare(ev_query *q)
{
    ev_ctx *c = &q->ctx;
    pql_error error = {0};
    pql_type type = q->expr->type;
    PS_TRY(set_grid(q));
    if (q->range && type != PQL_SCALAR && type != PQL_VECTOR)
        return ev_fail(c, PS_EINVAL,
                       "invalid expression type \"%s\" for range query, must be Scalar or instant "
                       "Vector",
                       pql_type_text(type));
    ps_status status = pql_prepare(&q->arena, q->expr, q->start_ms, q->end_ms, q->step_ms, &error);
    if (status == PS_ENOMEM)
        return ev_no_memory(c);
    if (status != PS_OK)
        return ev_fail(c, status, "%s", error.text);
    if (q->options.per_step_stats) {
        q->counts.n_steps = q->grid.n;
        q->counts.per_step = ps_arena_array(&q->arena, q->grid.n + 1, sizeof(uint64_t));
        if (q->counts.per_step == NULL)
            return ev_no_memory(c);
    }
    return PS_OK;
}

ev_query *
ev_query_init(const ev_env *env, const ev_options *options)
{
    ev_query *q = ps_alloc_array(&env->alloc, 1, sizeof *q);
    if (q == NULL)
        return NULL;
    q->env = *env;
    if (options != NULL)
        q->options = *options;
    fill_defaults(&q->options);
    ev_budget_init(&q->budget, &env->alloc, q->options.max_bytes);
    q->alloc = ev_budget_alloc(&q->budget);
    ps_alloc for_arena = ev_budget_arena_alloc(&q->budget);
    ps_arena_init(&q->arena, &for_arena, 0);
    ev_notes_init(&q->notes, &for_arena);
    ev_ctx_init(&q->ctx, q, &q->notes);
    q->ctx.counts = &q->counts;
    return q;
}

ps_status
ev_query_new(const ev_env *env, const ev_options *options, pql_expr *expr, ps_str text,
             int64_t start_ms, int64_t end_ms, int64_t step_ms, ev_query **ret)
{
    ev_query *q = *ret = ev_query_init(env, options);
    if (q == NULL)
        return PS_ENOMEM;
    q->expr = expr;
    q->text = text;
    q->start_ms = start_ms;
    q->end_ms = end_ms;
    q->step_ms = step_ms;
    return prepare(q);
}

ps_str
ev_query_error(const ev_query *q)
{
    if (q == NULL || q->ctx.failed == PS_OK)
        return PS_STR("");
    if (q->ctx.error.failed || q->ctx.error.len == 0) /* no memory for the text, either */
        return PS_STR("out of memory");
    return ps_buf_str(&q->ctx.error);
}

static void
close_nodes(ev_query *q)
{
    for (ev_node *n = q->last_made; n != NULL; n = n->made_before)
        ev_close(n);
    q->last_made = NULL;
}

void
ev_query_free(ev_query *q)
{
    if (q == NULL)
        return;
    close_nodes(q);
    ev_ctx_done(&q->ctx);
    ev_notes_done(&q->notes);
    ps_arena_done(&q->arena);
    ps_alloc under = q->env.alloc;
    ps_alloc_free(&under, q, sizeof *q);
}

/* ---- running ------------------------------------------------------------------------------------------- */

ps_status
ev_select_all(ev_query *q)
{
    ev_ctx *c = &q->ctx;
    ps_err err = {.offset = -1};
    if (q->n_selections == 0)
        return PS_OK;
    q->lists = ps_arena_array(&q->arena, q->n_selections, sizeof *q->lists);
    if (q->lists == NULL)
        return ev_no_memory(c);
    ps_status status =
        q->env.source.select(q->env.source.self, q->selections, q->n_selections, q->lists, &err);
    return status == PS_OK ? PS_OK : ev_source_failed(c, status, &err);
}

ps_status
ev_query_build(ev_query *q, const pql_expr *e, ev_counts *inner)
{
    ev_ctx *c = &q->ctx;
    ev_node *root;
    if (e->kind == PQL_SUBQUERY)
        PS_TRY(ev_build_subquery(c, e, &q->grid, inner, &root));
    else
        PS_TRY(ev_build(c, e, &q->grid, &root));
    if (q->options.delayed_names)
        PS_TRY(ev_build_cleanup(c, root, &root));
    q->root = root;
    return PS_OK;
}

static ps_status
run_nodes(ev_query *q, const pql_expr *e)
{
    ev_counts inner = {0};
    bool subquery = e->kind == PQL_SUBQUERY;
    PS_TRY(ev_query_build(q, e, &inner));
    PS_TRY(ev_select_all(q));
    PS_TRY(ev_open(q->root));
    PS_TRY(ev_collect(q, q->root, q->range || subquery));
    if (subquery)
        ev_count(&q->counts, 0, inner.total);
    return PS_OK;
}

static void
fill_stats(ev_query *q)
{
    ev_stats *s = &q->result.stats;
    s->total_samples = q->counts.total;
    s->peak_samples = (uint64_t)atomic_load(&q->peak_held);
    s->samples_read = atomic_load(&q->samples_read);
    s->peak_bytes = atomic_load(&q->budget.peak);
    s->per_step = q->counts.per_step;
    s->n_steps = q->counts.n_steps;
}

ps_status
ev_query_run_now(ev_query *q)
{
    const pql_expr *e = pql_unwrap(q->expr);
    ev_result *r = &q->result;
    PS_TRY(ev_poll(&q->ctx));
    r->type = q->range ? PQL_MATRIX : e->type;
    if (e->kind == PQL_TEXT)
        r->text = e->text;
    else if (e->kind == PQL_RANGE)
        PS_TRY(ev_raw_range(q, e));
    else
        PS_TRY(run_nodes(q, e));
    close_nodes(q);
    PS_TRY(ev_notes_texts(&q->ctx, &r->warnings, &r->n_warnings, &r->infos, &r->n_infos));
    fill_stats(q);
    return PS_OK;
}

ps_status
ev_query_once(ev_query *q)
{
    if (q->ctx.failed != PS_OK)
        return q->ctx.failed;
    if (q->ran)
        return ev_fail(&q->ctx, PS_EINTERNAL, "a query runs once");
    q->ran = true;
    return PS_OK;
}

/* First failures have a text; these may not. */
ps_status
ev_query_worded(ev_query *q, ps_status status)
{
    if (status == PS_OK)
        return PS_OK;
    return status == PS_ENOMEM ? ev_no_memory(&q->ctx)
                               : ev_fail(&q->ctx, status, "%s", ps_status_name(status));
}

ps_status
ev_query_run(ev_query *q, const ev_result **ret)
{
    *ret = NULL;
    PS_TRY(ev_query_once(q));
    PS_TRY(ev_query_worded(q, ev_query_run_now(q)));
    *ret = &q->result;
    return PS_OK;
}
