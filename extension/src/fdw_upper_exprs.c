/*
 * fdw_upper_exprs.c - what the expressions of an aggregation depend on: which can be evaluated by the
 * node, and when; which aggregates are among those that it knows; which keys are steady.
 */
#include "fdw_upper.h"

#include "access/transam.h"
#include "catalog/dependency.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"

/* ---- expressions -------------------------------------------------------------------------- */

/* Can an expression be evaluated by the node, and at what level? */
bool
upper_level_of(const upper_query *q, Node *expr, upper_level *ret)
{
    Bitmapset *attrs = NULL;
    int member = -1;
    bool series = false, time = false;

    if (contain_volatile_functions(expr) || contain_subplans(expr) ||
        expression_returns_set(expr) || contain_agg_clause(expr))
        return false;
    pull_varattnos(expr, q->relid, &attrs);
    *ret = UPPER_NOTHING;
    while ((member = bms_next_member(attrs, member)) >= 0) {
        AttrNumber attno = member + FirstLowInvalidHeapAttributeNumber;

        if (attno <= 0)
            return false;
        time |= attno == SAMPLES_TIME;
        series |= attno != SAMPLES_TIME && attno != SAMPLES_VALUE;
        if (attno == SAMPLES_VALUE)
            *ret = UPPER_ROW;
    }
    if (time && series)
        *ret = UPPER_ROW;
    else if (*ret != UPPER_ROW)
        *ret = time ? UPPER_TIME : series ? UPPER_SERIES : UPPER_NOTHING;
    return true;
}

/* Only ordinary columns, so that the node's own slot has all that it needs. */
bool
upper_only_columns(Index relid, List *exprs)
{
    Bitmapset *attrs = NULL;

    pull_varattnos((Node *)exprs, relid, &attrs);
    return bms_next_member(attrs, -1) < 0 ||
           bms_next_member(attrs, -1) > 0 - FirstLowInvalidHeapAttributeNumber;
}

AttrNumber
upper_plain_column(const upper_query *q, Node *expr)
{
    return IsA(expr, Var) && ((Var *)expr)->varno == (int)q->relid ? ((Var *)expr)->varattno : 0;
}

bool
upper_add_key(upper_query *q, Node *expr, const SortGroupClause *clause)
{
    upper_level level;
    Oid left, right;

    if (!upper_level_of(q, expr, &level) || level == UPPER_ROW)
        return false;
    if (level == UPPER_NOTHING)
        return true; /* the same in all rows: it divides nothing */
    if (!clause->hashable || !get_op_hash_functions(clause->eqop, &left, &right))
        return false;
    q->key_exprs = lappend(q->key_exprs, expr);
    q->key_equals = lappend_oid(q->key_equals, clause->eqop);
    return true;
}

/* Is it a function of our public schema or of TimescaleDB's? */
static bool
is_named(Oid funcid, const char *wanted)
{
    char *name = get_func_name(funcid);
    Oid extension;

    if (name == NULL || strcmp(name, wanted) != 0)
        return false;
    name = get_namespace_name(get_func_namespace(funcid));
    if (name != NULL && strcmp(name, "prom_api") == 0)
        return true;
    extension = getExtensionOfObject(ProcedureRelationId, funcid);
    name = OidIsValid(extension) ? get_extension_name(extension) : NULL;
    return name != NULL && strcmp(name, "timescaledb") == 0;
}

static bool
takes_value_and_time(const upper_query *q, const Aggref *agg)
{
    return list_length(agg->args) == 2 &&
           upper_plain_column(q, (Node *)linitial_node(TargetEntry, agg->args)->expr) ==
               SAMPLES_VALUE &&
           upper_plain_column(q, (Node *)lsecond_node(TargetEntry, agg->args)->expr) ==
               SAMPLES_TIME;
}

/* The aggregate's oid, or what stands for it. */
Oid
upper_agg_func(const upper_query *q, const Aggref *agg)
{
    if (agg->aggfnoid >= FirstUnpinnedObjectId && takes_value_and_time(q, agg)) {
        if (is_named(agg->aggfnoid, "first"))
            return UPPER_FUNC_FIRST;
        if (is_named(agg->aggfnoid, "last"))
            return UPPER_FUNC_LAST;
    }
    return agg->aggfnoid;
}

/* The argument that must be evaluated for each sample; NULL: none, a column is taken as it stands. */
Node *
upper_agg_arg(const upper_query *q, const Aggref *agg)
{
    Node *arg = agg->args == NIL ? NULL : (Node *)linitial_node(TargetEntry, agg->args)->expr;
    AttrNumber column = arg == NULL ? 0 : upper_plain_column(q, arg);

    if (agg->aggfnoid == F_COUNT_ANY && column > 0)
        return NULL; /* no column has nulls */
    return column == SAMPLES_VALUE || column == SAMPLES_TIME ? NULL : arg;
}

static bool
add_agg(upper_query *q, Aggref *agg)
{
    upper_acc acc;
    upper_level level;
    Node *arg = upper_agg_arg(q, agg);

    if (!upper_acc_of(upper_agg_func(q, agg), &acc) || agg->aggsplit != AGGSPLIT_SIMPLE ||
        agg->aggdistinct != NIL || agg->aggorder != NIL || agg->agglevelsup != 0 ||
        list_length(agg->args) > (acc == ACC_FIRST || acc == ACC_LAST ? 2 : 1))
        return false;
    if (agg->aggfilter != NULL && !upper_level_of(q, (Node *)agg->aggfilter, &level))
        return false;
    if (arg != NULL &&
        (!upper_level_of(q, arg, &level) || acc == ACC_MIN_TIME || acc == ACC_MAX_TIME))
        return false;
    q->aggs = list_append_unique(q->aggs, agg);
    return true;
}

/* Collects the aggregates of an expression; true: it needs what groups do not have. */
bool
upper_unfit(Node *node, upper_query *q)
{
    if (node == NULL || list_member(q->key_exprs, node))
        return false;
    if (IsA(node, Aggref))
        return !add_agg(q, (Aggref *)node);
    if (IsA(node, Var) || IsA(node, PlaceHolderVar) || IsA(node, GroupingFunc))
        return true;
    return expression_tree_walker(node, upper_unfit, q);
}

/* ---- steady keys -------------------------------------------------------------------------- */

/* Does the function cut time into buckets that are as wide as its first argument says? */
static bool
is_bucketing(const FuncExpr *call)
{
    Oid type;

    if (call->funcresulttype != TIMESTAMPTZOID || list_length(call->args) < 2 ||
        exprType(lsecond(call->args)) != TIMESTAMPTZOID)
        return false;
    type = exprType(linitial(call->args));
    if (call->funcid == F_DATE_BIN_INTERVAL_TIMESTAMPTZ_TIMESTAMPTZ ||
        call->funcid == F_DATE_TRUNC_TEXT_TIMESTAMPTZ)
        return true;
    if (type != INTERVALOID || !is_named(call->funcid, "time_bucket"))
        return false;
    /* the form with a zone follows its changes of the clock */
    if (list_length(call->args) > 2)
        type = exprType(lthird(call->args));
    return list_length(call->args) <= 3 && (type == INTERVALOID || type == TIMESTAMPTZOID);
}

typedef struct steady_walk {
    const upper_query *q;
    FuncExpr *call;
} steady_walk;

/* Finds the one call through which an expression sees time; true: there is another way. */
static bool
unsteady(Node *node, steady_walk *walk)
{
    if (node == NULL)
        return false;
    if (IsA(node, Var))
        return true;
    if (IsA(node, FuncExpr) && is_bucketing((FuncExpr *)node)) {
        FuncExpr *call = (FuncExpr *)node;
        List *others = list_copy(call->args);

        others = list_delete_nth_cell(others, 1);
        if (upper_plain_column(walk->q, lsecond(call->args)) == SAMPLES_TIME &&
            !contain_var_clause((Node *)others) &&
            (walk->call == NULL || equal(walk->call, call))) {
            walk->call = call;
            return false;
        }
    }
    return expression_tree_walker(node, unsteady, walk);
}

FuncExpr *
upper_steady_call(const upper_query *q, Node *expr)
{
    steady_walk walk = {.q = q};

    return unsteady(expr, &walk) ? NULL : walk.call;
}
