/*
 * matchers_index.c - lets label matchers use the index on series.labels.
 *
 * The planner asks a support function what a condition means for an index. `labels ? ('k' == 'v')`
 * means `labels && _prom_ext.tag_ids('k' == 'v')`, an array overlap that GIN knows; the ids are looked
 * up when the scan starts, not when it is planned. `labels @> json` and eq(labels, json) with a
 * constant json mean one overlap a pair. Negative matchers cannot use the index; regular expressions could, but the planner
 * has no idea how many ids one stands for, and a probe for each of a million ids is worse than looking
 * at the series of one metric. Conditions are declared lossy, so that the operator itself has the last
 * word on each row.
 */
#include "catalog.h"
#include "matchers.h"

#include "access/stratnum.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "nodes/supportnodes.h"
#include "optimizer/optimizer.h"
#include "parser/parse_func.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"

static Oid
our_function(const char *name, int n_args, const Oid *args)
{
    return LookupFuncName(list_make2(makeString("_prom_ext"), makeString(pstrdup(name))), n_args,
                          args, true);
}

static Node *
overlap(Node *labels, Oid function, List *args)
{
    Expr *ids = (Expr *)makeFuncExpr(function, INT4ARRAYOID, args, InvalidOid, InvalidOid,
                                     COERCE_EXPLICIT_CALL);

    return (Node *)make_opclause(OID_ARRAY_OVERLAP_OP, BOOLOID, false, (Expr *)labels, ids,
                                 InvalidOid, InvalidOid);
}

static Node *
text_const(const JsonbValue *v)
{
    text *t = cstring_to_text_with_len(v->val.string.val, v->val.string.len);

    return (Node *)makeConst(TEXTOID, -1, DEFAULT_COLLATION_OID, -1, PointerGetDatum(t), false,
                             false);
}

/* One overlap for each pair whose value is a string; other pairs are left to the operator. */
static List *
json_conditions(Node *labels, Datum json_datum)
{
    const Oid arg_types[2] = {TEXTOID, TEXTOID};
    Oid function = our_function("label_ids", 2, arg_types);
    Jsonb *json = DatumGetJsonbP(json_datum);
    List *conditions = NIL;
    JsonbIteratorToken token;
    JsonbIterator *it;
    JsonbValue v, key = {0};

    if (!OidIsValid(function) || !JB_ROOT_IS_OBJECT(json))
        return NIL;
    it = JsonbIteratorInit(&json->root);
    while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE) {
        if (token == WJB_KEY)
            key = v;
        if (token != WJB_VALUE || v.type != jbvString ||
            ps_str_eq((ps_str){key.val.string.val, key.val.string.len}, PS_STR(MDL_METRIC_NAME)))
            continue;
        conditions = lappend(conditions, overlap(labels, function,
                                                 list_make2(text_const(&key), text_const(&v))));
    }
    return conditions;
}

static List *
index_conditions(SupportRequestIndexCondition *request)
{
    List *args = is_opclause(request->node)     ? ((OpExpr *)request->node)->args
                 : is_funcclause(request->node) ? ((FuncExpr *)request->node)->args
                                                : NIL;

    if (list_length(args) != 2 || request->indexarg != 0 ||
        get_op_opfamily_strategy(OID_ARRAY_OVERLAP_OP, request->opfamily) == InvalidStrategy)
        return NIL;
    Node *labels = linitial(args), *right = lsecond(args);

    if (IsA(labels, RelabelType)) /* int4[] as prom_api.label_array */
        labels = (Node *)((RelabelType *)labels)->arg;
    Oid type = exprType(right);

    if (!is_pseudo_constant_for_index(request->root, right, request->index))
        return NIL;
    request->lossy = true;
    if (type == JSONBOID) {
        if (!IsA(right, Const) || ((Const *)right)->constisnull)
            return NIL;
        return json_conditions(labels, ((Const *)right)->constvalue);
    }
    Oid function = our_function("tag_ids", 1, &type);
    return OidIsValid(function) ? list_make1(overlap(labels, function, list_make1(right))) : NIL;
}

PG_FUNCTION_INFO_V1(matchers_support);
Datum
matchers_support(PG_FUNCTION_ARGS)
{
    Node *request = (Node *)PG_GETARG_POINTER(0);

    if (IsA(request, SupportRequestIndexCondition))
        PG_RETURN_POINTER(index_conditions((SupportRequestIndexCondition *)request));
    if (IsA(request, SupportRequestSelectivity)) {
        matchers_function_share((SupportRequestSelectivity *)request);
        PG_RETURN_POINTER(request);
    }
    PG_RETURN_POINTER(NULL);
}
