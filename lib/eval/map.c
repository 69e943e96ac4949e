/*
 * map.c - functions that change each cell of an instant vector where it stands, with scalar parameters;
 * and timestamp(), which is one unless it stands on a bare selector.
 *
 * Memory: none but the parameters; batches of the kid are changed in place.
 */
#include "lib/eval/plan.h"

typedef struct map_node {
    ev_node n; /* kids: the vector, then the parameters */
    const ev_map_function *fn;
    ev_map_call call;
} map_node;

static ps_status
map_open(ev_node *n)
{
    map_node *m = (map_node *)n;
    PS_TRY(ev_open(n->kids[0]));
    PS_TRY(ev_param_values(n, 1, &m->call.params));
    PS_TRY(ev_take_series(n, n->kids[0], !m->fn->keeps_name));
    m->call.c = n->c;
    m->call.call = n->expr;
    m->call.grid = n->grid;
    m->call.n_params = n->n_kids - 1;
    m->call.series = n->kids[0]->series;
    return PS_OK;
}

static ps_status
map_next(ev_node *n, ev_batch **ret)
{
    map_node *m = (map_node *)n;
    PS_TRY(ev_next(n->kids[0], ret));
    return *ret == NULL ? PS_OK : m->fn->run(&m->call, *ret);
}

/* Its parameters, which are in the arena. */
static uint64_t
map_holds(const ev_node *n, size_t steps)
{
    return ev_times(n->n_kids - 1, ev_times(steps - 1, sizeof(double)));
}

static const ev_node_ops map_ops = {"function", sizeof(map_node), map_open, map_next,
                                    NULL,       EV_MAP,           map_holds};

ps_status
ev_build_map(ev_ctx *c, const pql_expr *e, const ev_map_function *fn, const ev_grid *grid,
             ev_node **ret)
{
    ev_node *n, *kid = NULL;
    PS_TRY(ev_new_node(c, &map_ops, e, grid, PQL_VECTOR, &n));
    ((map_node *)n)->fn = fn;
    for (size_t i = 0; i < e->call.n_args && kid == NULL; i++)
        if (e->call.args[i]->type == PQL_VECTOR)
            PS_TRY(ev_build(c, e->call.args[i], grid, &kid));
    if (kid == NULL) /* hour() is hour(vector(time())) */
        PS_TRY(ev_build_time(c, e, PQL_VECTOR, grid, &kid));
    ev_add_kid(n, kid);
    for (size_t i = 0; i < e->call.n_args; i++) {
        if (e->call.args[i]->type != PQL_SCALAR)
            continue;
        PS_TRY(ev_build(c, e->call.args[i], grid, &kid));
        ev_add_kid(n, kid);
    }
    if (fn->keeps_name || ev_query_options(c)->delayed_names)
        *ret = n;
    else
        PS_TRY(ev_build_unique(c, n, false, ret));
    return PS_OK;
}

/* ---- timestamp() ------------------------------------------------------------------------------------ */

/* Of an expression: the time of the step. */
static ps_status
step_times(const ev_map_call *call, ev_batch *b)
{
    for (size_t i = 0; i < b->n; i++) {
        double *v = b->v + i * b->n_steps;
        for (size_t s = 0; s < b->n_steps; s++)
            v[s] = (double)(call->grid.start_ms + (int64_t)s * call->grid.step_ms) / 1000;
        b->h[i] = NULL;
    }
    return PS_OK;
}

/* Start timestamps are known of bare selectors only. */
static ps_status
no_cells(const ev_map_call *call, ev_batch *b)
{
    (void)call;
    memset(b->has, 0, b->n * b->n_words * sizeof *b->has);
    memset(b->h, 0, b->n * sizeof *b->h);
    return PS_OK;
}

static const ev_map_function timestamp_of_expression = {PQL_FN_TIMESTAMP, step_times, false};
static const ev_map_function no_start_timestamp = {PQL_FN_START_TIMESTAMP, no_cells, false};

ps_status
ev_build_timestamp(ev_ctx *c, const pql_expr *e, const ev_grid *grid, ev_node **ret)
{
    bool start = e->call.fn->id == PQL_FN_START_TIMESTAMP;
    const pql_expr *arg = pql_unwrap(e->call.args[0]);
    ev_node *n;
    if (arg->kind != PQL_SELECTOR || (start && !ev_query_options(c)->start_timestamps))
        return ev_build_map(c, e, start ? &no_start_timestamp : &timestamp_of_expression, grid,
                            ret);
    /* Beside an @ t Prometheus looks for the newest sample up to t among those selected for t - offset:
     * both windows count. */
    int64_t offset_ms = arg->selector.when.at != PQL_AT_NONE ? arg->selector.when.offset_ms : 0;
    if (offset_ms < 0) {
        pql_expr *at = ps_arena_array(ev_arena(c), 1, sizeof *at);
        if (at == NULL)
            return ev_no_memory(c);
        *at = *arg;
        at->selector.when.offset_ms = 0;
        arg = at;
    }
    PS_TRY(ev_build_selector(c, arg, arg->selector.matchers, arg->selector.n_matchers,
                             start ? EV_STARTS : EV_TIMES, grid, &n));
    ev_leaf *l = (ev_leaf *)n;
    int64_t both_ms = l->lookback_ms - (offset_ms < 0 ? -offset_ms : offset_ms);
    l->lookback_ms = both_ms > 0 ? both_ms : 0;
    l->divisor = 1000;
    l->float_times = false;
    if (ev_query_options(c)->delayed_names)
        *ret = n;
    else
        PS_TRY(ev_build_unique(c, n, false, ret));
    return PS_OK;
}
