/*
 * fdw_quals.c - what a scan is to read.
 *
 * While planning: a clause "metric_id = x", "series_id = ANY (x)", "time >= x" and so on, where x has
 * no column of this table and is not volatile, becomes a condition: x is evaluated when execution
 * starts (so now() - interval '1 hour' and parameters work) and the condition decides what is read.
 * The match is exact, so that the executor need not test it again. A clause over nothing but
 * series-level columns is set aside to be evaluated once per series.
 *
 * While executing: conditions and their values are folded into one fdw_want. Sample times are whole
 * milliseconds, so bounds in microseconds are rounded to the nearest millisecond inside.
 *
 * A clause that row security or a security barrier wants evaluated late is left to the executor
 * unless it is leakproof.
 */
#include "fdw.h"

#include "access/stratnum.h"
#include "catalog/pg_type.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/restrictinfo.h"
#include "utils/date.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

/* ---- planning ----------------------------------------------------------------------------- */

/* Column of this table that node is, 0 if it is none of those that conditions are about. */
static AttrNumber
column_of(Index relid, Node *node)
{
    if (IsA(node, RelabelType))
        node = (Node *)((RelabelType *)node)->arg;
    if (!IsA(node, Var))
        return 0;

    Var *var = (Var *)node;

    if (var->varno != (int)relid || var->varlevelsup != 0)
        return 0;
    if (var->varattno == SAMPLES_METRIC || var->varattno == SAMPLES_SERIES ||
        var->varattno == SAMPLES_TIME)
        return var->varattno;
    return 0;
}

/* Btree strategy of an operator on the column and the type of its right side; 0: none. */
static int
strategy_of(AttrNumber column, Oid opno, Oid *ret_right)
{
    Oid column_type = column == SAMPLES_METRIC ? INT4OID
                      : column == SAMPLES_TIME ? TIMESTAMPTZOID
                                               : INT8OID;
    Oid family = lookup_type_cache(column_type, TYPECACHE_BTREE_OPFAMILY)->btree_opf;
    int strategy;
    Oid left;

    if (!op_in_opfamily(opno, family))
        return 0;
    get_op_opfamily_properties(opno, family, false, &strategy, &left, ret_right);
    return left == column_type ? strategy : 0;
}

static bool
usable_type(AttrNumber column, Oid type)
{
    if (column == SAMPLES_TIME)
        return type == TIMESTAMPTZOID || type == TIMESTAMPOID || type == DATEOID;
    return type == INT2OID || type == INT4OID || type == INT8OID;
}

static bool
kind_of(AttrNumber column, int strategy, bool any, fdw_cond_kind *ret)
{
    static const fdw_cond_kind time_kinds[BTMaxStrategyNumber + 1] = {
        [BTLessStrategyNumber] = FDW_TIME_LT,    [BTLessEqualStrategyNumber] = FDW_TIME_LE,
        [BTEqualStrategyNumber] = FDW_TIME_EQ,   [BTGreaterEqualStrategyNumber] = FDW_TIME_GE,
        [BTGreaterStrategyNumber] = FDW_TIME_GT,
    };

    if (strategy == 0)
        return false;
    if (column == SAMPLES_TIME) {
        *ret = time_kinds[strategy];
        return !any;
    }
    if (strategy != BTEqualStrategyNumber)
        return false;
    if (column == SAMPLES_METRIC)
        *ret = any ? FDW_METRIC_ANY : FDW_METRIC_EQ;
    else
        *ret = any ? FDW_SERIES_ANY : FDW_SERIES_EQ;
    return true;
}

static bool
usable_value(PlannerInfo *root, Index relid, Node *value)
{
    return !bms_is_member(relid, pull_varnos(root, value)) && !contain_volatile_functions(value);
}

static bool
match_op(PlannerInfo *root, Index relid, OpExpr *op, fdw_cond *ret)
{
    Oid opno = op->opno;

    if (list_length(op->args) != 2)
        return false;

    Node *left = linitial(op->args);
    Node *right = lsecond(op->args);
    AttrNumber column = column_of(relid, left);

    if (column == 0) {
        column = column_of(relid, right);
        opno = get_commutator(opno);
        right = left;
    }
    if (column == 0 || !OidIsValid(opno))
        return false;
    if (!kind_of(column, strategy_of(column, opno, &ret->type), false, &ret->kind))
        return false;
    ret->value = (Expr *)right;
    return usable_type(column, ret->type) && usable_value(root, relid, right);
}

static bool
match_any(PlannerInfo *root, Index relid, ScalarArrayOpExpr *op, fdw_cond *ret)
{
    if (!op->useOr || list_length(op->args) != 2)
        return false;

    Node *right = lsecond(op->args);
    AttrNumber column = column_of(relid, linitial(op->args));

    if (column == 0)
        return false;
    if (!kind_of(column, strategy_of(column, op->opno, &ret->type), true, &ret->kind))
        return false;
    ret->value = (Expr *)right;
    return usable_type(column, ret->type) && usable_value(root, relid, right);
}

bool
fdw_match_cond(PlannerInfo *root, Index relid, Expr *clause, fdw_cond *ret)
{
    fdw_cond cond = {0};
    bool matched = false;

    if (IsA(clause, OpExpr))
        matched = match_op(root, relid, (OpExpr *)clause, &cond);
    else if (IsA(clause, ScalarArrayOpExpr))
        matched = match_any(root, relid, (ScalarArrayOpExpr *)clause, &cond);
    if (matched)
        *ret = cond;
    return matched;
}

bool
fdw_is_series_level(Index relid, Expr *clause)
{
    Bitmapset *attrs = NULL;
    int member = -1;

    pull_varattnos((Node *)clause, relid, &attrs);
    if (bms_is_empty(attrs))
        return false;
    while ((member = bms_next_member(attrs, member)) >= 0) {
        AttrNumber attno = member + FirstLowInvalidHeapAttributeNumber;

        if (attno != SAMPLES_METRIC && attno != SAMPLES_SERIES && attno != SAMPLES_LABELS)
            return false;
    }
    return !contain_volatile_functions((Node *)clause);
}

void
fdw_classify(PlannerInfo *root, RelOptInfo *rel, List *rinfos, fdw_quals *ret)
{
    ListCell *cell;

    memset(ret, 0, sizeof(*ret));
    foreach (cell, rinfos) {
        RestrictInfo *rinfo = lfirst_node(RestrictInfo, cell);
        fdw_cond cond;

        if (rinfo->pseudoconstant)
            continue;
        if (!restriction_is_securely_promotable(rinfo, rel)) {
            ret->row_quals = lappend(ret->row_quals, rinfo->clause);
        } else if (fdw_match_cond(root, rel->relid, rinfo->clause, &cond)) {
            ret->conds = lappend(ret->conds, rinfo->clause);
            ret->cond_kinds = lappend_int(ret->cond_kinds, cond.kind);
            ret->cond_types = lappend_oid(ret->cond_types, cond.type);
            ret->cond_values = lappend(ret->cond_values, cond.value);
        } else if (fdw_is_series_level(rel->relid, rinfo->clause)) {
            ret->series_quals = lappend(ret->series_quals, rinfo->clause);
        } else {
            ret->row_quals = lappend(ret->row_quals, rinfo->clause);
        }
    }
}

/* ---- executing ---------------------------------------------------------------------------- */

void
fdw_want_init(fdw_want *want)
{
    *want = (fdw_want){
        .from_ms = MDL_TIME_MIN_MS,
        .to_ms = MDL_TIME_MAX_MS,
        .all_metrics = true,
        .all_series = true,
    };
}

static int64
integer_of(Oid type, Datum value)
{
    if (type == INT2OID)
        return DatumGetInt16(value);
    if (type == INT4OID)
        return DatumGetInt32(value);
    return DatumGetInt64(value);
}

static TimestampTz
timestamptz_of(Oid type, Datum value)
{
    TimestampTz ts = 0;
    int overflow = 0;

    if (type == TIMESTAMPTZOID)
        return DatumGetTimestampTz(value);
    if (type == DATEOID)
        ts = date2timestamptz_opt_overflow(DatumGetDateADT(value), &overflow);
    else
        ts = timestamp2timestamptz_opt_overflow(DatumGetTimestamp(value), &overflow);
    if (overflow > 0)
        return DT_NOEND;
    if (overflow < 0)
        return DT_NOBEGIN;
    return ts;
}

static int
compare_int64(const void *a, const void *b)
{
    int64 x = *(const int64 *)a, y = *(const int64 *)b;

    return (x > y) - (x < y);
}

static int
sort_unique(int64 *values, int n)
{
    int kept = 0;

    qsort(values, n, sizeof(*values), compare_int64);
    for (int i = 0; i < n; i++) {
        if (kept == 0 || values[kept - 1] != values[i])
            values[kept++] = values[i];
    }
    return kept;
}

/* The elements of an array that are not NULL, sorted, each once. */
static int
integers_of(Oid type, Datum value, int64 **ret)
{
    ArrayType *array = DatumGetArrayTypeP(value);
    int16 len;
    bool byval;
    char align;
    Datum *elements;
    bool *nulls;
    int n, kept = 0;

    if (ARR_ELEMTYPE(array) != type)
        elog(ERROR, "an array of another type than planned");
    get_typlenbyvalalign(type, &len, &byval, &align);
    deconstruct_array(array, type, len, byval, align, &elements, &nulls, &n);
    *ret = palloc(sizeof(int64) * Max(n, 1));
    for (int i = 0; i < n; i++) {
        if (!nulls[i])
            (*ret)[kept++] = integer_of(type, elements[i]);
    }
    return sort_unique(*ret, kept);
}

/* Keeps of `have` what is also in `with`; both sorted. */
static int
intersect(int64 *have, int n_have, const int64 *with, int n_with)
{
    int kept = 0;

    for (int i = 0, k = 0; i < n_have; i++) {
        while (k < n_with && with[k] < have[i])
            k++;
        if (k < n_with && with[k] == have[i])
            have[kept++] = have[i];
    }
    return kept;
}

static void
narrow_set(bool *all, int64 **set, int *n, int64 *with, int n_with, bool *nothing)
{
    if (*all) {
        *all = false;
        *set = with;
        *n = n_with;
    } else {
        *n = intersect(*set, *n, with, n_with);
    }
    if (*n == 0)
        *nothing = true;
}

static void
narrow_time(fdw_want *want, fdw_cond_kind kind, TimestampTz ts)
{
    /* one step outside, so that adding or taking 1 below cannot wrap */
    int64 lowest = MDL_TIME_MIN_MS - 1, highest = MDL_TIME_MAX_MS + 1;
    int64 floor_ms = Min(Max(bridge_timestamptz_floor_ms(ts), lowest), highest);
    int64 ceil_ms = Min(Max(bridge_timestamptz_ceil_ms(ts), lowest), highest);

    if (kind == FDW_TIME_GT)
        want->from_ms = Max(want->from_ms, floor_ms + 1);
    if (kind == FDW_TIME_GE || kind == FDW_TIME_EQ)
        want->from_ms = Max(want->from_ms, ceil_ms);
    if (kind == FDW_TIME_LT)
        want->to_ms = Min(want->to_ms, ceil_ms - 1);
    if (kind == FDW_TIME_LE || kind == FDW_TIME_EQ)
        want->to_ms = Min(want->to_ms, floor_ms);
    if (want->from_ms > want->to_ms)
        want->nothing = true;
}

void
fdw_want_narrow(fdw_want *want, fdw_cond_kind kind, Oid type, Datum value, bool isnull)
{
    int64 *set = NULL;
    int n = 0;

    if (isnull) {
        want->nothing = true;
        return;
    }
    if (kind == FDW_METRIC_EQ || kind == FDW_SERIES_EQ) {
        set = palloc(sizeof(int64));
        set[n++] = integer_of(type, value);
    } else if (kind == FDW_METRIC_ANY || kind == FDW_SERIES_ANY) {
        n = integers_of(type, value, &set);
    }
    if (kind == FDW_METRIC_EQ || kind == FDW_METRIC_ANY)
        narrow_set(&want->all_metrics, &want->metrics, &want->n_metrics, set, n, &want->nothing);
    else if (kind == FDW_SERIES_EQ || kind == FDW_SERIES_ANY)
        narrow_set(&want->all_series, &want->series, &want->n_series, set, n, &want->nothing);
    else
        narrow_time(want, kind, timestamptz_of(type, value));
}
