/*
 * fdw_upper_plan.c - which aggregations this wrapper computes itself, their path and their plan.
 *
 * Wanted are: one samples table and nothing else below GROUP BY; quals of which none must wait for
 * another (row security, security barriers); keys over series-level columns or over time; aggregates
 * of upper_acc_of without DISTINCT or ORDER BY. What stands in the target list and in HAVING around
 * keys and aggregates is computed by the executor from the groups. Everything else is left to the
 * ordinary plan over the scan.
 */
#include "fdw_upper.h"

#include <math.h>

#include "access/sysattr.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/planmain.h"
#include "optimizer/restrictinfo.h"
#include "optimizer/tlist.h"
#include "parser/parsetree.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/selfuncs.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#define PREFERENCE 0.9
#define UNKNOWN_BUCKETS 200.0

static bool enable_pushdown = true;

void
fdw_upper_define_settings(void)
{
    DefineCustomBoolVariable("promscale.enable_aggregate_pushdown",
                             "Lets scans of samples compute aggregates themselves.", NULL,
                             &enable_pushdown, true, PGC_USERSET, GUC_EXPLAIN, NULL, NULL, NULL);
}

/* ---- path --------------------------------------------------------------------------------- */

static bool
quals_fit(RelOptInfo *rel, const fdw_quals *quals)
{
    ListCell *cell;

    foreach (cell, rel->baserestrictinfo) {
        RestrictInfo *rinfo = lfirst_node(RestrictInfo, cell);

        if (rinfo->pseudoconstant || !restriction_is_securely_promotable(rinfo, rel))
            return false;
    }
    return upper_only_columns(rel->relid, quals->row_quals);
}

static bool
query_fits(PlannerInfo *root, List *key_clauses, upper_query *q)
{
    ListCell *cell;

    foreach (cell, key_clauses) {
        SortGroupClause *clause = lfirst_node(SortGroupClause, cell);
        TargetEntry *entry = get_sortgroupclause_tle(clause, root->processed_tlist);

        if (!upper_add_key(q, (Node *)entry->expr, clause))
            return false;
    }
    foreach (cell, q->target->exprs) {
        if (upper_unfit(lfirst(cell), q))
            return false;
    }
    return !upper_unfit((Node *)q->having, q);
}

/* Is each series' newest sample enough for keys and aggregates? */
static upper_walk
walk_of(const upper_query *q)
{
    ListCell *cell;
    upper_level level;

    if (q->quals.row_quals != NIL)
        return UPPER_ALL;
    foreach (cell, q->key_exprs) {
        if (upper_level_of(q, lfirst(cell), &level) && level == UPPER_TIME)
            return UPPER_ALL;
    }
    foreach (cell, q->aggs) {
        Aggref *agg = lfirst_node(Aggref, cell);

        if (upper_agg_func(q, agg) != UPPER_FUNC_LAST && agg->aggfnoid != F_MAX_TIMESTAMPTZ)
            return UPPER_ALL;
        if (agg->aggfilter != NULL)
            return UPPER_ALL;
    }
    return q->key_exprs == NIL && q->aggs != NIL ? UPPER_NEWEST_ALONE : UPPER_NEWEST;
}

static bool
is_newest_first(const SortGroupClause *clause)
{
    return clause->sortop == lookup_type_cache(TIMESTAMPTZOID, TYPECACHE_GT_OPR)->gt_opr;
}

/*
 * SELECT DISTINCT ON (series_id) ... ORDER BY series_id, time DESC: the newest row of each series,
 * whatever else is selected. Other series-level columns may stand beside series_id.
 */
static bool
newest_rows_fit(PlannerInfo *root, const upper_query *q)
{
    List *distinct = root->parse->distinctClause, *order = root->parse->sortClause;
    bool by_series = false;
    ListCell *cell;
    upper_level level;

    if (q->quals.row_quals != NIL || contain_volatile_functions((Node *)q->target->exprs) ||
        !upper_only_columns(q->relid, q->target->exprs) ||
        list_length(order) <= list_length(distinct))
        return false;
    foreach (cell, distinct) {
        SortGroupClause *clause = lfirst_node(SortGroupClause, cell);
        Node *expr = (Node *)get_sortgroupclause_tle(clause, root->processed_tlist)->expr;

        if (!upper_level_of(q, expr, &level) || (level != UPPER_SERIES && level != UPPER_NOTHING))
            return false;
        by_series |= upper_plain_column(q, expr) == SAMPLES_SERIES;
    }
    /* the parser has put the expressions of DISTINCT ON first in ORDER BY */
    SortGroupClause *next = list_nth(order, list_length(distinct));
    Node *expr = (Node *)get_sortgroupclause_tle(next, root->processed_tlist)->expr;

    return by_series && upper_plain_column(q, expr) == SAMPLES_TIME && is_newest_first(next);
}

/* How many buckets of a steady key there are in the range, if that is known; else as many as times. */
static double
count_buckets(PlannerInfo *root, const fdw_rel *info, const upper_query *q, Node *key,
              double n_times)
{
    FuncExpr *call = upper_steady_call(q, key);
    Node *width;
    double width_ms = 0;

    if (call == NULL)
        return n_times;
    width = estimate_expression_value(root, linitial(call->args));
    if (IsA(width, Const) && !((Const *)width)->constisnull &&
        ((Const *)width)->consttype == INTERVALOID) {
        const Interval *interval = DatumGetIntervalP(((Const *)width)->constvalue);

        width_ms = (interval->month * 30.0 + interval->day) * MDL_DAY_MS + interval->time / 1000.0;
    } else if (exprType(width) == TEXTOID) {
        width_ms = USECS_PER_HOUR / 1000; /* of date_trunc; hours, say */
    }
    if (width_ms <= 0 || info->estimate.range_ms <= 0)
        return Min(n_times, UNKNOWN_BUCKETS);
    return Min(n_times, ceil(info->estimate.range_ms / width_ms) + 1);
}

/* As many groups as the key values allow, and not more than the series do. */
static double
count_groups(PlannerInfo *root, RelOptInfo *rel, const upper_query *q)
{
    const fdw_rel *info = rel->fdw_private;
    double series = Max(info->estimate.series * info->series_fraction, 1);
    List *of_series = NIL, *of_time = NIL;
    double groups = 1;
    bool each_series = false;
    ListCell *cell;

    if (!q->grouped)
        return 1;
    if (q->walk == UPPER_NEWEST_ROWS)
        return clamp_row_est(series);
    foreach (cell, q->key_exprs) {
        upper_level level;

        upper_level_of(q, lfirst(cell), &level);
        if (level == UPPER_TIME)
            of_time = lappend(of_time, lfirst(cell));
        else
            of_series = lappend(of_series, lfirst(cell));
        each_series |= upper_plain_column(q, lfirst(cell)) == SAMPLES_SERIES;
    }
    if (of_series != NIL)
        groups = each_series
                     ? series
                     : Min(series, estimate_num_groups(root, of_series, rel->rows, NULL, NULL));
    if (of_time != NIL) {
        double n_times = estimate_num_groups(root, of_time, rel->rows, NULL, NULL);
        double buckets = 1;

        foreach (cell, of_time)
            buckets = Max(buckets, count_buckets(root, info, q, lfirst(cell), n_times));
        groups *= buckets;
    }
    return clamp_row_est(Min(groups, rel->rows));
}

static void
add_upper_path(PlannerInfo *root, RelOptInfo *rel, RelOptInfo *grouped, upper_query *q)
{
    double groups = count_groups(root, rel, q);
    double bytes = groups * (64 + sizeof(upper_state) * list_length(q->aggs));
    double passes = ceil(bytes / get_hash_memory_limit());
    double rows = groups;
    QualCost having;
    Cost startup, total;

    (q->walk == UPPER_ALL ? fdw_upper_cost : fdw_newest_cost)(root, rel, &startup);
    /* where there is little to read the two plans cost the same but for a hair: then this one */
    startup =
        startup * PREFERENCE * Max(passes, 1) + groups * cpu_operator_cost * list_length(q->aggs);
    total = startup + groups * cpu_tuple_cost;
    if (q->having != NIL) {
        cost_qual_eval(&having, q->having, root);
        startup += having.startup;
        total += having.startup + groups * having.per_tuple;
        rows = clamp_row_est(groups * clauselist_selectivity(root, q->having, 0, JOIN_INNER, NULL));
    }
    startup += q->target->cost.startup;
    total += q->target->cost.startup + rows * q->target->cost.per_tuple;
    add_path(grouped,
             (Path *)compat_foreign_upper_path(root, grouped, q->target, rows, startup, total));
}

/* SELECT DISTINCT: keys without aggregates, or newest rows. */
static bool
distinct_fits(PlannerInfo *root, upper_query *q)
{
    q->grouped = true;
    q->target = root->upper_targets[UPPERREL_DISTINCT];
    if (root->parse->hasTargetSRFs)
        return false;
    if (root->parse->hasDistinctOn) {
        q->walk = UPPER_NEWEST_ROWS;
        return newest_rows_fit(root, q);
    }
    if (!query_fits(root, root->parse->distinctClause, q))
        return false;
    q->walk = walk_of(q);
    return true;
}

static bool
grouping_fits(PlannerInfo *root, RelOptInfo *grouped, const GroupPathExtraData *extra,
              upper_query *q)
{
    q->grouped = root->parse->groupClause != NIL;
    q->target = grouped->reltarget;
    q->having = (List *)extra->havingQual;
    if (root->parse->groupingSets != NIL || !query_fits(root, root->parse->groupClause, q))
        return false;
    q->walk = walk_of(q);
    return true;
}

void
fdw_upper_paths(PlannerInfo *root, UpperRelationKind stage, RelOptInfo *input, RelOptInfo *output,
                void *extra)
{
    upper_query *q;
    bool fits;

    if (!enable_pushdown || (stage != UPPERREL_GROUP_AGG && stage != UPPERREL_DISTINCT) ||
        output->fdw_private != NULL || input->reloptkind != RELOPT_BASEREL ||
        input->fdw_private == NULL || !bms_is_empty(input->lateral_relids) ||
        !fdw_shape_fits(planner_rt_fetch(input->relid, root)->relid))
        return;
    q = palloc0(sizeof(*q));
    q->relid = input->relid;
    fdw_classify(root, input, input->baserestrictinfo, &q->quals);
    if (!quals_fit(input, &q->quals))
        return;
    fits =
        stage == UPPERREL_DISTINCT ? distinct_fits(root, q) : grouping_fits(root, output, extra, q);
    if (!fits)
        return;
    output->fdw_private = q;
    add_upper_path(root, input, output, q);
}

/* ---- plan --------------------------------------------------------------------------------- */

/* Columns in relabelings that do nothing: see fdw_upper.h. */
static Node *
wrap_columns(Node *node, void *context)
{
    if (node == NULL)
        return NULL;
    if (IsA(node, Var)) {
        Var *var = (Var *)node;

        return (Node *)makeRelabelType(copyObject((Expr *)var), var->vartype, var->vartypmod,
                                       var->varcollid, COERCE_IMPLICIT_CAST);
    }
    return expression_tree_mutator(node, wrap_columns, context);
}

static List *
add_expr(List *exprs, Node *expr)
{
    return lappend(exprs, wrap_columns(expr, NULL));
}

static List *
table_columns(Index relid)
{
    static const struct {
        Oid type;
        const char *name;
    } columns[SAMPLES_NATTS] = {{INT4OID, "metric_id"},
                                {TIMESTAMPTZOID, "time"},
                                {FLOAT8OID, "value"},
                                {INT8OID, "series_id"},
                                {INT4ARRAYOID, "labels"}};
    List *tlist = NIL;

    for (int i = 0; i < SAMPLES_NATTS; i++) {
        Var *var = makeVar(relid, i + 1, columns[i].type, -1, InvalidOid, 0);

        tlist =
            lappend(tlist, makeTargetEntry((Expr *)var, i + 1, pstrdup(columns[i].name), false));
    }
    return tlist;
}

static int
add_column(List **tlist, Node *expr)
{
    int attno = list_length(*tlist) + 1;

    *tlist = lappend(*tlist, makeTargetEntry((Expr *)expr, attno, NULL, false));
    return attno;
}

/* Appends the keys' expressions and columns; returns their members for fdw_private. */
static List *
plan_keys(const upper_query *q, List **exprs, List **tlist)
{
    List *members = NIL;
    ListCell *cell;

    foreach (cell, q->key_exprs) {
        Node *expr = lfirst(cell);
        FuncExpr *call = NULL;
        upper_level level = UPPER_NOTHING;
        int attno = upper_plain_column(q, expr);

        upper_level_of(q, expr, &level);
        if (level == UPPER_TIME)
            call = upper_steady_call(q, expr);
        if (attno == 0)
            attno = add_column(tlist, expr);
        members = lappend(members, list_make3_int(level, attno, call != NULL));
        *exprs = add_expr(*exprs, expr);
        if (call != NULL) {
            *exprs = add_expr(*exprs, (Node *)call);
            *exprs = add_expr(*exprs, linitial(call->args));
        }
    }
    return members;
}

static List *
plan_aggs(const upper_query *q, List **exprs, List **tlist)
{
    List *members = NIL;
    ListCell *cell;

    foreach (cell, q->aggs) {
        Aggref *agg = lfirst_node(Aggref, cell);
        Node *arg = upper_agg_arg(q, agg);
        upper_level filter = UPPER_NOTHING;

        if (agg->aggfilter != NULL) {
            upper_level_of(q, (Node *)agg->aggfilter, &filter);
            *exprs = add_expr(*exprs, (Node *)agg->aggfilter);
        }
        if (arg != NULL)
            *exprs = add_expr(*exprs, arg);
        members = lappend(members, list_make5_int((int)upper_agg_func(q, agg),
                                                  add_column(tlist, (Node *)agg), arg != NULL,
                                                  agg->aggfilter != NULL, filter));
    }
    return members;
}

/* Columns whose data must be read. */
static List *
needed_columns(const upper_query *q, List *exprs)
{
    Bitmapset *used = NULL;
    List *attrs = NIL;
    ListCell *cell;

    pull_varattnos((Node *)exprs, q->relid, &used);
    if (q->walk == UPPER_NEWEST_ROWS)
        pull_varattnos((Node *)q->target->exprs, q->relid, &used);
    foreach (cell, q->aggs) {
        Aggref *agg = lfirst_node(Aggref, cell);

        if (agg->aggfnoid != F_COUNT_ANY && upper_agg_arg(q, agg) == NULL)
            pull_varattnos((Node *)agg->args, q->relid, &used);
    }
    for (AttrNumber attno = 1; attno <= SAMPLES_NATTS; attno++) {
        if (bms_is_member(attno - FirstLowInvalidHeapAttributeNumber, used))
            attrs = lappend_int(attrs, attno);
    }
    return attrs;
}

ForeignScan *
fdw_upper_plan(PlannerInfo *root, RelOptInfo *rel, List *tlist)
{
    const upper_query *q = rel->fdw_private;
    const fdw_quals *quals = &q->quals;
    List *scan_tlist = table_columns(q->relid);
    List *exprs = NIL, *all, *keys, *aggs, *private;
    ListCell *cell;

    foreach (cell, quals->row_quals)
        exprs = add_expr(exprs, lfirst(cell));
    keys = plan_keys(q, &exprs, &scan_tlist);
    aggs = plan_aggs(q, &exprs, &scan_tlist);
    all = list_copy(quals->cond_values);
    foreach (cell, quals->series_quals)
        all = add_expr(all, lfirst(cell));
    private = list_make4(quals->cond_kinds, quals->cond_types, needed_columns(q, exprs),
                         makeInteger(list_length(quals->series_quals)));
    private = lappend(private, makeInteger(list_length(quals->row_quals)));
    private = lappend(private, makeInteger(q->grouped));
    private = lappend(private, keys);
    private = lappend(private, q->key_equals);
    private = lappend(private, aggs);
    private = lappend(private, makeInteger(q->walk));
    return make_foreignscan(tlist, q->having, 0, list_concat(all, exprs), private, scan_tlist,
                            list_concat(list_concat_copy(quals->conds, quals->series_quals),
                                        quals->row_quals),
                            NULL);
}
