/*
 * prepare.c - what is known only when a query is asked becomes numbers in the tree: durations that
 * are computed, @ start() and @ end(), calls of start(), end(), range() and step().
 *
 * Durations are seconds while they are computed and are cut to milliseconds at the end. Of several
 * faults the one of the outermost node is reported. Expressions stay beside their numbers, so that a
 * tree still prints as it was written and can be prepared again for another time; calls do not stay.
 */
#include "lib/promql/internal.h"

#include <math.h>

typedef struct moment {
    ps_arena *arena;
    int64_t start_ms, end_ms;
    double step, range; /* seconds */
    pql_error *error;
} moment;

/* Messages name the place by its bytes, as Prometheus does: that of a call is that of its arguments. */
static void
place_of(const pql_expr *e, uint32_t *ret_from, uint32_t *ret_to)
{
    uint32_t unused;
    *ret_from = e->from;
    *ret_to = e->to;
    if (e->kind == PQL_DURATION && e->duration.lhs != NULL)
        place_of(e->duration.lhs, ret_from, &unused);
    if (e->kind == PQL_DURATION && e->duration.rhs != NULL)
        place_of(e->duration.rhs, &unused, ret_to);
}

static ps_status
fail(const moment *m, const pql_expr *e, const char *what)
{
    uint32_t from, to;
    place_of(e, &from, &to);
    ps_buf text;
    ps_alloc alloc = ps_arena_as_alloc(m->arena);
    ps_buf_init(&text, &alloc);
    ps_buf_addf(&text, "%u:%u: %s", (unsigned)from, (unsigned)to, what);
    if (text.failed) {
        pql_set_error(m->error, from, to, PS_STR("not enough memory to prepare the query"));
        return PS_ENOMEM;
    }
    pql_set_error(m->error, from, to, ps_buf_str(&text));
    return PS_EINVAL;
}

/* ---- durations --------------------------------------------------------------------------------- */

static double
lesser(double a, double b)
{
    return isnan(a) || a < b ? a : b;
}

static double
greater(double a, double b)
{
    return isnan(a) || a > b ? a : b;
}

static ps_status
compute(const moment *m, const pql_expr *e, double *ret)
{
    double lhs = 0, rhs = 0;
    if (e->kind == PQL_NUMBER) {
        *ret = e->number.value;
        return PS_OK;
    }
    if (e->duration.lhs != NULL)
        PS_TRY(compute(m, e->duration.lhs, &lhs));
    if (e->duration.rhs != NULL)
        PS_TRY(compute(m, e->duration.rhs, &rhs));
    switch (e->duration.op) {
    case PQL_DUR_STEP:
        *ret = m->step;
        return PS_OK;
    case PQL_DUR_RANGE:
        *ret = m->range;
        return PS_OK;
    case PQL_DUR_MIN_OF:
        *ret = lesser(lhs, rhs);
        return PS_OK;
    case PQL_DUR_MAX_OF:
        *ret = greater(lhs, rhs);
        return PS_OK;
    case PQL_ADD:
        *ret = lhs + rhs;
        return PS_OK;
    case PQL_SUB:
        *ret = lhs - rhs;
        return PS_OK;
    case PQL_MUL:
        *ret = lhs * rhs;
        return PS_OK;
    case PQL_DIV:
        *ret = lhs / rhs;
        return rhs == 0 ? fail(m, e, "division by zero") : PS_OK;
    case PQL_MOD:
        *ret = fmod(lhs, rhs);
        return rhs == 0 ? fail(m, e, "modulo by zero") : PS_OK;
    default:
        *ret = pow(lhs, rhs);
        return PS_OK;
    }
}

/* Leaves *ms alone if there is nothing to compute. */
static ps_status
compute_ms(const moment *m, const pql_expr *e, bool any_sign, int64_t *ms)
{
    double seconds;
    if (e == NULL)
        return PS_OK;
    PS_TRY(compute(m, e, &seconds));
    if (isnan(seconds) || isinf(seconds))
        return fail(m, e, "duration is NaN or infinite");
    if (seconds <= 0 && !any_sign)
        return fail(m, e, "duration must be greater than 0");
    if (pql_seconds_out_of_range(seconds))
        return fail(m, e, "duration is out of range");
    *ms = (int64_t)(seconds * 1000);
    return PS_OK;
}

static ps_status
prepare_when(const moment *m, pql_when *when)
{
    if (when->at == PQL_AT_START)
        when->at_ms = m->start_ms;
    if (when->at == PQL_AT_END)
        when->at_ms = m->end_ms;
    return compute_ms(m, when->offset_expr, true, &when->offset_ms);
}

/* ---- the tree ---------------------------------------------------------------------------------- */

static void
become_number(pql_expr *e, double value)
{
    e->kind = PQL_NUMBER;
    e->type = PQL_SCALAR;
    e->number.value = value;
    e->number.duration = false;
}

static void
prepare_call(const moment *m, pql_expr *e)
{
    switch (e->call.fn->id) {
    case PQL_FN_START:
        become_number(e, (double)m->start_ms / 1000);
        break;
    case PQL_FN_END:
        become_number(e, (double)m->end_ms / 1000);
        break;
    case PQL_FN_RANGE:
        become_number(e, m->range);
        break;
    case PQL_FN_STEP:
        become_number(e, m->start_ms == m->end_ms ? 0 : m->step);
        break;
    default:
        break;
    }
}

static ps_status
prepare(const moment *m, pql_expr *e)
{
    switch (e->kind) {
    case PQL_SELECTOR:
        return prepare_when(m, &e->selector.when);
    case PQL_RANGE:
        PS_TRY(compute_ms(m, e->range.range_expr, false, &e->range.range_ms));
        return prepare(m, e->range.selector);
    case PQL_SUBQUERY:
        PS_TRY(prepare_when(m, &e->subquery.when));
        PS_TRY(compute_ms(m, e->subquery.step_expr, false, &e->subquery.step_ms));
        PS_TRY(compute_ms(m, e->subquery.range_expr, false, &e->subquery.range_ms));
        return prepare(m, e->subquery.of);
    case PQL_CALL:
        for (size_t i = 0; i < e->call.n_args; i++)
            PS_TRY(prepare(m, e->call.args[i]));
        prepare_call(m, e);
        return PS_OK;
    case PQL_AGGREGATE:
        if (e->aggregate.param != NULL)
            PS_TRY(prepare(m, e->aggregate.param));
        return prepare(m, e->aggregate.of);
    case PQL_BINARY:
        PS_TRY(prepare(m, e->binary.lhs));
        return prepare(m, e->binary.rhs);
    case PQL_UNARY:
        return prepare(m, e->unary.of);
    case PQL_PAREN:
        return prepare(m, e->paren);
    case PQL_NUMBER:
    case PQL_TEXT:
    case PQL_DURATION:
        return PS_OK;
    }
    return PS_OK;
}

ps_status
pql_prepare(ps_arena *arena, pql_expr *expr, int64_t start_ms, int64_t end_ms, int64_t step_ms,
            pql_error *error)
{
    int64_t range_ms;
    memset(error, 0, sizeof *error);
    if (__builtin_sub_overflow(end_ms, start_ms, &range_ms))
        range_ms = INT64_MAX;
    moment m = {
        .arena = arena,
        .start_ms = start_ms,
        .end_ms = end_ms,
        .step = pql_seconds_of(step_ms),
        .range = pql_seconds_of(range_ms),
        .error = error,
    };
    return prepare(&m, expr);
}
