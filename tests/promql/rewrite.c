/*
 * rewrite.c - a query pinned to a time: then its result must not depend on when it is asked.
 */
#include "tests/promql/run.h"

enum { MAX_CHILDREN = 64 };

static bool
depends_on_time(pql_fn fn)
{
    switch (fn) {
    case PQL_FN_DAYS_IN_MONTH:
    case PQL_FN_DAY_OF_MONTH:
    case PQL_FN_DAY_OF_WEEK:
    case PQL_FN_DAY_OF_YEAR:
    case PQL_FN_HOUR:
    case PQL_FN_MINUTE:
    case PQL_FN_MONTH:
    case PQL_FN_YEAR:
    case PQL_FN_PREDICT_LINEAR:
    case PQL_FN_TIME:
    case PQL_FN_TIMESTAMP:
    case PQL_FN_START:
    case PQL_FN_END:
    case PQL_FN_RANGE:
    case PQL_FN_STEP:
        return true;
    default:
        return false;
    }
}

static void
pin(pql_when *when, int64_t t_ms)
{
    if (when->at == PQL_AT_TIME)
        return;
    when->at = PQL_AT_TIME;
    when->at_ms = t_ms;
}

static bool
walk(pql_expr *e, int64_t t_ms, bool pinned)
{
    if (e->kind == PQL_SELECTOR && !pinned)
        pin(&e->selector.when, t_ms);
    if (e->kind == PQL_SUBQUERY) {
        if (!pinned)
            pin(&e->subquery.when, t_ms);
        pinned = true;
    }
    if (e->kind == PQL_CALL && depends_on_time(e->call.fn->id))
        return false;
    pql_expr *children[MAX_CHILDREN];
    size_t n = pql_children(e, children, MAX_CHILDREN);
    if (n > MAX_CHILDREN)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (!walk(children[i], t_ms, pinned))
            return false;
    }
    return true;
}

bool
rewrite_at(ps_str text, int64_t t_ms, ps_buf *out)
{
    ps_arena arena;
    pql_expr *expr;
    pql_error error;
    ps_arena_init(&arena, &ps_malloc, 0);
    bool ok =
        pql_parse(&arena, text, &run_language, &expr, &error) == PS_OK && walk(expr, t_ms, false);
    if (ok)
        pql_print(out, expr);
    ps_arena_done(&arena);
    return ok;
}
