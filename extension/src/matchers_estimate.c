/*
 * matchers_estimate.c - what share of rows a label matcher lets through, where the planner asks for a
 * table with statistics: _prom_catalog.series and the views over it. (Of samples fdw_estimate.c tells.)
 *
 * Where it is about the series of one metric (prom_series.<metric>), the matcher is tried on some of
 * them. Otherwise `labels ? ('k' == 'v')` is taken for `labels && ids` with the ids of this moment, of
 * which the statistics of array elements tell; that is PostgreSQL's own estimate, which respects who may
 * read them. A negative matcher lets the rest through. For a regular expression there is only a guess:
 * to resolve it would take a look at all values of the key.
 */
#include "catalog.h"
#include "matchers.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_language.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/plancat.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#define EQUAL_GUESS 0.005 /* for values that are not known yet */
#define REGEX_GUESS 0.05

matcher_kind
matchers_kind(Oid function)
{
    static const struct {
        const char *symbol;
        matcher_kind kind;
    } known[] = {
        {"matchers_equal", MATCHER_EQUAL},       {"matchers_not_equal", MATCHER_NOT_EQUAL},
        {"matchers_regex", MATCHER_REGEX},       {"matchers_not_regex", MATCHER_NOT_REGEX},
        {"matchers_contains", MATCHER_CONTAINS}, {"matchers_eq_json", MATCHER_CONTAINS},
    };
    HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
    matcher_kind kind = MATCHER_NONE;

    if (!HeapTupleIsValid(tuple))
        return MATCHER_NONE;
    if (((Form_pg_proc)GETSTRUCT(tuple))->prolang == ClanguageId) {
        bool isnull;
        Datum source = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_prosrc, &isnull);
        char *symbol = TextDatumGetCString(source);

        for (size_t i = 0; i < lengthof(known); i++) {
            if (strcmp(symbol, known[i].symbol) == 0)
                kind = known[i].kind;
        }
    }
    ReleaseSysCache(tuple);
    return kind;
}

/* Rows that have an id of each array; the arrays are taken to be independent. */
static double
share_of(PlannerInfo *root, Node *labels, List *arrays, int var_relid)
{
    double share = 1;
    ListCell *cell;

    foreach (cell, arrays) {
        Const *ids = makeConst(INT4ARRAYOID, -1, InvalidOid, -1, PointerGetDatum(lfirst(cell)),
                               false, false);

        share *= restriction_selectivity(root, OID_ARRAY_OVERLAP_OP, list_make2(labels, ids),
                                         InvalidOid, var_relid);
    }
    return share;
}

/* The metric whose series a scan of the series table is about; 0 if it is none or of several. */
static int32
metric_of(PlannerInfo *root, Node *labels, int var_relid)
{
    Var *var = (Var *)labels;
    ListCell *cell;

    if (!IsA(labels, Var) || var->varlevelsup != 0 ||
        (var_relid != 0 && var_relid != (int)var->varno))
        return 0;

    RelOptInfo *rel = find_base_rel(root, var->varno);
    RangeTblEntry *rte = planner_rt_fetch(var->varno, root);
    Oid schema = get_namespace_oid("_prom_catalog", true);

    if (rte->rtekind != RTE_RELATION || rte->relid != get_relname_relid("series", schema))
        return 0;
    foreach (cell, rel->baserestrictinfo) {
        OpExpr *op = (OpExpr *)lfirst_node(RestrictInfo, cell)->clause;

        if (!IsA(op, OpExpr) || get_opcode(op->opno) != F_INT4EQ)
            continue;

        Var *left = linitial(op->args);
        Const *right = lsecond(op->args);

        if (IsA(left, Var) && left->varattno == get_attnum(rte->relid, "metric_id") &&
            IsA(right, Const) && !right->constisnull)
            return DatumGetInt32(right->constvalue);
    }
    return 0;
}

static double
matcher_share(PlannerInfo *root, Oid function, List *args, int var_relid)
{
    matcher_kind kind = matchers_kind(function);
    bool negative = kind == MATCHER_NOT_EQUAL || kind == MATCHER_NOT_REGEX;
    double share = kind == MATCHER_REGEX || kind == MATCHER_NOT_REGEX ? REGEX_GUESS : EQUAL_GUESS;

    if (list_length(args) == 2 && ActiveSnapshotSet()) {
        Node *labels = linitial(args);
        Node *right = estimate_expression_value(root, lsecond(args));

        while (IsA(labels, CoerceToDomain) || IsA(labels, RelabelType)) {
            labels = IsA(labels, RelabelType) ? (Node *)((RelabelType *)labels)->arg
                                              : (Node *)((CoerceToDomain *)labels)->arg;
        }
        if (IsA(right, Const) && !((Const *)right)->constisnull) {
            Datum value = ((Const *)right)->constvalue;
            int32 metric_id = metric_of(root, labels, var_relid);
            double tried =
                metric_id > 0 ? matchers_try(root, metric_id, function, (Const *)right) : -1;

            if (tried >= 0)
                return tried;
            if (kind == MATCHER_EQUAL || kind == MATCHER_NOT_EQUAL)
                share = share_of(root, labels, matchers_ids_of_tag(value), var_relid);
            else if (kind == MATCHER_CONTAINS)
                share = share_of(root, labels, matchers_ids_of_json(value), var_relid);
        }
    }
    return negative ? 1 - share : share;
}

/* RESTRICT of the operators. */
PG_FUNCTION_INFO_V1(matchers_restrict);
Datum
matchers_restrict(PG_FUNCTION_ARGS)
{
    PlannerInfo *root = (PlannerInfo *)PG_GETARG_POINTER(0);
    Oid operator= PG_GETARG_OID(1);
    List *args = (List *)PG_GETARG_POINTER(2);
    int var_relid = PG_GETARG_INT32(3);
    double share = matcher_share(root, get_opcode(operator), args, var_relid);

    PG_RETURN_FLOAT8(Min(Max(share, 0), 1));
}

void
matchers_function_share(SupportRequestSelectivity *request)
{
    double share = EQUAL_GUESS;

    if (!request->is_join)
        share = matcher_share(request->root, request->funcid, request->args, request->varRelid);
    request->selectivity = Min(Max(share, 0), 1);
}
