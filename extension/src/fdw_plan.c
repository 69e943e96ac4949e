/*
 * fdw_plan.c - size, paths and plan of a scan.
 *
 * Paths: one that reads all that the table's own quals ask for; and for each set of other relations
 * that gives conditions (series_id = x.series_id, time >= x.start, ...) or asks for series by what they
 * are (val(node_id) = x.name) one parameterised by them, so that a nested loop may read a few series
 * instead of everything.
 *
 * Costs, in units of roughly two microseconds: what a scan costs before its first block, per series
 * loaded, per block opened, per sample decoded, per row handed to the executor.
 */
#include "fdw.h"

#include <math.h>

#include "nodes/makefuncs.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/paths.h"
#include "optimizer/planmain.h"
#include "optimizer/restrictinfo.h"
#include "utils/selfuncs.h"

#define COST_SCAN 100.0  /* statements for the directory and the series */
#define COST_RESCAN 15.0 /* the same when the directory is kept */
#define COST_SERIES 0.2
#define COST_BLOCK 20.0
#define COST_BLOCK_AGAIN 0.5 /* a block that a nested loop has kept open */
#define COST_SAMPLE 0.001

enum { MAX_PAIRED = 4 }; /* other relations that are tried in pairs */

/* ---- size --------------------------------------------------------------------------------- */

/* What share of a metric's series the conditions on series_id let through. */
static double
series_cond_fraction(PlannerInfo *root, const fdw_quals *quals, double n_series)
{
    double fraction = 1;
    ListCell *kind, *value;

    forboth(kind, quals->cond_kinds, value, quals->cond_values)
    {
        double n = 1;

        if (lfirst_int(kind) == FDW_SERIES_ANY)
            n = compat_array_length(root, lfirst(value));
        else if (lfirst_int(kind) != FDW_SERIES_EQ)
            continue;
        fraction = Min(fraction, n / n_series);
    }
    return fraction;
}

void
fdw_get_rel_size(PlannerInfo *root, RelOptInfo *rel, Oid table)
{
    fdw_rel *info = palloc0(sizeof(*info));
    fdw_quals *quals = &info->quals;

    fdw_classify(root, rel, rel->baserestrictinfo, quals);
    fdw_estimate_rel(root, quals,
                     fdw_shape_of_histograms(table) ? BLK_KIND_FLOAT : BLK_KIND_HISTOGRAM,
                     &info->estimate);
    info->series_fraction =
        series_cond_fraction(root, quals, info->estimate.series) * info->estimate.series_passing *
        clauselist_selectivity(root, info->estimate.untried, rel->relid, JOIN_INNER, NULL);
    /* who asks for labels expects to find something: at least a series */
    info->series_fraction = Max(info->series_fraction, Min(1, 1 / info->estimate.series));
    info->row_fraction =
        clauselist_selectivity(root, quals->row_quals, rel->relid, JOIN_INNER, NULL);
    rel->fdw_private = info;
    rel->tuples = info->estimate.samples;
    rel->rows = clamp_row_est(info->estimate.samples * info->series_fraction * info->row_fraction);
}

const fdw_estimate *
fdw_estimate_of(const RelOptInfo *rel)
{
    const fdw_rel *info = rel->fdw_private;

    if (rel->fdwroutine == NULL || rel->fdwroutine->GetForeignRelSize != fdw_get_rel_size)
        return NULL;
    return info == NULL ? NULL : &info->estimate;
}

/* ---- costs -------------------------------------------------------------------------------- */

typedef struct path_size {
    double series_fraction; /* of the metrics' series */
    double loaded_fraction; /* of the metrics' series rows, before the series-level quals */
    double time_fraction;   /* of the samples within the rel's own bounds */
    double row_fraction;
    bool rescanned;
} path_size;

/* What conditions of a join say of time, as a share of what the rel's own bounds leave. */
static double
time_cond_fraction(const fdw_quals *quals, const fdw_estimate *estimate)
{
    int bounds = 0;
    ListCell *kind;

    foreach (kind, quals->cond_kinds) {
        if (lfirst_int(kind) == FDW_TIME_EQ)
            return Min(estimate->series / estimate->samples, 1);
        if (lfirst_int(kind) >= FDW_TIME_LT)
            bounds++;
    }
    return bounds == 0 ? 1 : bounds == 1 ? DEFAULT_INEQ_SEL : DEFAULT_RANGE_INEQ_SEL;
}

static bool
has_time_cond(const fdw_quals *quals)
{
    ListCell *kind;

    foreach (kind, quals->cond_kinds) {
        if (lfirst_int(kind) >= FDW_TIME_LT)
            return true;
    }
    return false;
}

static void
path_cost(PlannerInfo *root, RelOptInfo *rel, const path_size *size, double *ret_rows,
          Cost *ret_startup, Cost *ret_total)
{
    const fdw_rel *info = rel->fdw_private;
    const fdw_estimate *e = &info->estimate;
    double decoded = clamp_row_est(e->samples * size->series_fraction * size->time_fraction);
    double rows = clamp_row_est(decoded * size->row_fraction);
    double loaded = clamp_row_est(e->series * size->loaded_fraction);
    double hit = 1 - pow(1 - Min(size->series_fraction, 1), Max(e->series_per_block, 1));
    double blocks = clamp_row_est(e->blocks * size->time_fraction * hit);
    QualCost series_cost, row_cost;
    Cost startup, run;

    cost_qual_eval(&series_cost, info->quals.series_quals, root);
    cost_qual_eval(&row_cost, info->quals.row_quals, root);
    startup = (size->rescanned ? COST_RESCAN : COST_SCAN) * e->metrics;
    startup += loaded * (COST_SERIES + series_cost.per_tuple) + series_cost.startup;
    startup += row_cost.startup + rel->reltarget->cost.startup;
    run = blocks * (size->rescanned ? COST_BLOCK_AGAIN : COST_BLOCK) + decoded * COST_SAMPLE;
    run += decoded * (cpu_tuple_cost + row_cost.per_tuple) + rows * rel->reltarget->cost.per_tuple;
    *ret_rows = rows;
    *ret_startup = startup;
    *ret_total = startup + run;
}

void
fdw_upper_cost(PlannerInfo *root, RelOptInfo *rel, Cost *ret)
{
    const fdw_rel *info = rel->fdw_private;
    path_size size = {
        .series_fraction = info->series_fraction,
        .loaded_fraction = series_cond_fraction(root, &info->quals, info->estimate.series),
        .time_fraction = 1,
        .row_fraction = info->row_fraction,
    };
    double rows;
    Cost startup;

    path_cost(root, rel, &size, &rows, &startup, ret);
    /* rows are not handed out; what is done with each sample costs a small part of that */
    *ret -= info->estimate.samples * info->series_fraction * cpu_tuple_cost;
    *ret -= rows * rel->reltarget->cost.per_tuple;
}

void
fdw_newest_cost(PlannerInfo *root, RelOptInfo *rel, Cost *ret)
{
    const fdw_estimate *e = &((const fdw_rel *)rel->fdw_private)->estimate;
    double series = Max(e->series, 1);
    double blocks = Min(e->blocks, 2 * series / Max(e->series_per_block, 1) + e->metrics);

    fdw_upper_cost(root, rel, ret);
    *ret = Min(*ret, COST_SCAN * e->metrics + series * COST_SERIES + blocks * COST_BLOCK);
}

/* ---- paths -------------------------------------------------------------------------------- */

static void
add_plain_path(PlannerInfo *root, RelOptInfo *rel)
{
    const fdw_rel *info = rel->fdw_private;
    path_size size = {
        .series_fraction = info->series_fraction,
        .loaded_fraction = series_cond_fraction(root, &info->quals, info->estimate.series),
        .time_fraction = 1,
        .row_fraction = info->row_fraction,
    };
    double rows;
    Cost startup, total;

    path_cost(root, rel, &size, &rows, &startup, &total);
    add_path(rel, (Path *)compat_foreignscan_path(root, rel, rel->rows, startup, total, NIL,
                                                  rel->lateral_relids, NIL));
}

static void
add_param_path(PlannerInfo *root, RelOptInfo *rel, Relids outer)
{
    const fdw_rel *info = rel->fdw_private;
    ParamPathInfo *param = get_baserel_parampathinfo(root, rel, outer);
    double n_series = info->estimate.series;
    fdw_quals quals;
    double rows;
    Cost startup, total;

    fdw_classify(root, rel, param->ppi_clauses, &quals);

    double given = series_cond_fraction(root, &quals, n_series);
    path_size size = {
        .series_fraction =
            Max(info->series_fraction * given *
                    clauselist_selectivity(root, quals.series_quals, rel->relid, JOIN_INNER, NULL),
                1e-12),
        .loaded_fraction = Min(given, series_cond_fraction(root, &info->quals, n_series)),
        .time_fraction = time_cond_fraction(&quals, &info->estimate),
        .row_fraction = info->row_fraction *
                        clauselist_selectivity(root, quals.row_quals, rel->relid, JOIN_INNER, NULL),
        /* other bounds of time, another directory */
        .rescanned = !has_time_cond(&quals),
    };

    path_cost(root, rel, &size, &rows, &startup, &total);
    rows = Min(rows, rel->rows);
    param->ppi_rows = rows;
    add_path(rel,
             (Path *)compat_foreignscan_path(root, rel, rows, startup, total, NIL, outer, NIL));
}

/* Remembers the other relations that a usable join clause needs. */
static List *
collect_outer(PlannerInfo *root, RelOptInfo *rel, RestrictInfo *rinfo, List *outers)
{
    Relids outer;
    ListCell *cell;
    fdw_cond cond;

    if (!join_clause_is_movable_to(rinfo, rel) ||
        !(fdw_match_cond(root, rel->relid, rinfo->clause, &cond) ||
          fdw_is_series_level(rel->relid, rinfo->clause)))
        return outers;
    outer = bms_del_member(bms_union(rinfo->clause_relids, rel->lateral_relids), rel->relid);
    if (bms_is_empty(outer))
        return outers;
    foreach (cell, outers) {
        if (bms_equal(lfirst(cell), outer))
            return outers;
    }
    return lappend(outers, outer);
}

static bool
is_column(PlannerInfo *root, RelOptInfo *rel, EquivalenceClass *ec, EquivalenceMember *em,
          void *arg)
{
    Expr *expr = em->em_expr;

    if (IsA(expr, RelabelType))
        expr = ((RelabelType *)expr)->arg;
    return IsA(expr, Var) && ((Var *)expr)->varno == (int)rel->relid &&
           ((Var *)expr)->varattno == *(AttrNumber *)arg;
}

/* Series from one relation and times from another: both together ask for less than each alone. */
static List *
with_pairs(List *outers)
{
    List *all = list_copy(outers);

    for (int i = 0; list_length(outers) <= MAX_PAIRED && i < list_length(outers); i++) {
        for (int k = i + 1; k < list_length(outers); k++) {
            Relids both = bms_union(list_nth(outers, i), list_nth(outers, k));
            bool known = false;
            ListCell *cell;

            foreach (cell, all)
                known |= bms_equal(lfirst(cell), both);
            if (!known)
                all = lappend(all, both);
        }
    }
    return all;
}

/* val(node_id) = x.name and the like: a few rows of x ask for a few series. */
static bool
is_series_expression(PlannerInfo *root, RelOptInfo *rel, EquivalenceClass *ec,
                     EquivalenceMember *em, void *arg)
{
    return !is_column(root, rel, ec, em, &(AttrNumber){SAMPLES_SERIES}) &&
           !is_column(root, rel, ec, em, &(AttrNumber){SAMPLES_METRIC}) &&
           fdw_is_series_level(rel->relid, em->em_expr);
}

void
fdw_get_paths(PlannerInfo *root, RelOptInfo *rel, Oid table)
{
    static const AttrNumber columns[] = {SAMPLES_SERIES, SAMPLES_METRIC, SAMPLES_TIME};
    List *outers = NIL;
    ListCell *cell;

    add_plain_path(root, rel);
    foreach (cell, rel->joininfo)
        outers = collect_outer(root, rel, lfirst(cell), outers);
    for (int i = 0; rel->has_eclass_joins && i < (int)lengthof(columns); i++) {
        AttrNumber column = columns[i];
        List *clauses = generate_implied_equalities_for_column(root, rel, is_column, &column,
                                                               rel->lateral_referencers);

        foreach (cell, clauses)
            outers = collect_outer(root, rel, lfirst(cell), outers);
    }
    if (rel->has_eclass_joins) {
        List *clauses = generate_implied_equalities_for_column(root, rel, is_series_expression,
                                                               NULL, rel->lateral_referencers);

        foreach (cell, clauses)
            outers = collect_outer(root, rel, lfirst(cell), outers);
    }
    foreach (cell, with_pairs(outers))
        add_param_path(root, rel, lfirst(cell));
}

/* ---- plan --------------------------------------------------------------------------------- */

/* Columns that somebody looks at; the target list may name more (a physical one names all). */
static List *
needed_columns(RelOptInfo *rel, List *row_quals)
{
    Bitmapset *used = NULL;
    List *attrs = NIL;
    bool whole_row;

    pull_varattnos((Node *)rel->reltarget->exprs, rel->relid, &used);
    pull_varattnos((Node *)row_quals, rel->relid, &used);
    whole_row = bms_is_member(0 - FirstLowInvalidHeapAttributeNumber, used);
    for (AttrNumber attno = 1; attno <= HISTOGRAMS_NATTS; attno++) {
        if (whole_row || bms_is_member(attno - FirstLowInvalidHeapAttributeNumber, used))
            attrs = lappend_int(attrs, attno);
    }
    return attrs;
}

ForeignScan *
fdw_get_plan(PlannerInfo *root, RelOptInfo *rel, Oid table, ForeignPath *path, List *tlist,
             List *clauses, Plan *outer_plan)
{
    fdw_quals quals;

    if (IS_UPPER_REL(rel))
        return fdw_upper_plan(root, rel, tlist);
    fdw_classify(root, rel, clauses, &quals);

    List *private =
        list_make4(quals.cond_kinds, quals.cond_types, needed_columns(rel, quals.row_quals),
                   makeInteger(list_length(quals.series_quals)));
    List *exprs = list_concat_copy(quals.cond_values, quals.series_quals);
    List *recheck = list_concat_copy(quals.conds, quals.series_quals);

    return make_foreignscan(tlist, quals.row_quals, rel->relid, exprs, private, NIL, recheck,
                            outer_plan);
}
