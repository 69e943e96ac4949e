/*
 * fdw_sample.c - what share of a metric's series passes the quals on series, for the planner.
 *
 * The quals are tried on some of the metric's series: all of them if they are few; some that lived in the time in
 * question, where a metric has many and it is known who lived; otherwise the first
 * in the order of the index on (metric_id, tenant_id, digest), which is as good as drawn at random.
 * What few or none of these pass is then counted by the index on labels, if the planner thinks that
 * cheap: that tells a label of three series from one of none.
 *
 * Only quals that cannot do harm are tried while planning: those made of label matchers, val, and
 * functions of PostgreSQL's that are known never to fail or to tell anything (leakproof). Others, and
 * those whose values are not known yet (parameters of generic plans, joins), are left to the planner's
 * defaults. A regular expression is not resolved as execution would do it, which looks at all values of
 * the key: it is tried on the values that the sample has, and stands in the qual as the ids found.
 *
 * Nothing of this enters the plan: matchers are resolved when execution starts. All reading is SQL as
 * the calling user, so an estimate tells nothing of what row security hides.
 *
 * Memory: everything dies with a context of its own.
 */
#include "fdw.h"

#include "catalog.h"
#include "matchers.h"

#include "access/htup_details.h"
#include "catalog/pg_language.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

enum {
    SAMPLE_ROWS = 500, /* LIMIT in the statement */
    REGEX_ROWS = 200,  /* of them, if there is a regular expression */
    SURE_HITS = 10,    /* fewer are counted by index */
    NEEDED = 3,        /* labels that the statement which counts can ask for at once */
};
#define COUNT_COST 2500.0 /* that the planner may see in that statement */

typedef struct sample {
    int32 metric_id;
    int n;
    int64 *ids;
    Datum *labels; /* int4[], detoasted */
    bool all;      /* there are no others */
    bool regex;    /* a regular expression was met: the first REGEX_ROWS count */
} sample;

/* ---- which quals may be tried -------------------------------------------------------------- */

static bool
harmful_function(Oid function, void *context)
{
    static const char *const known[] = {"labels_val", "labels_set"};
    bool isnull, harmful = true;

    /* these fail on no int4[], and tell nothing but what is there */
    if (function == F_ARRAYOVERLAP || function == F_ARRAYCONTAINS || function == F_ARRAY_EQ)
        return false;
    if (matchers_kind(function) != MATCHER_NONE)
        return false;

    HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));

    if (!HeapTupleIsValid(tuple))
        return true;

    Form_pg_proc proc = (Form_pg_proc)GETSTRUCT(tuple);

    if (function < FirstNormalObjectId)
        harmful = !proc->proleakproof;
    for (size_t i = 0; proc->prolang == ClanguageId && i < lengthof(known); i++) {
        Datum source = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_prosrc, &isnull);

        if (strcmp(TextDatumGetCString(source), known[i]) == 0)
            harmful = false;
    }
    ReleaseSysCache(tuple);
    return harmful;
}

/* Is there anything in it that cannot be tried? */
static bool
harmful(Node *node, void *context)
{
    if (node == NULL)
        return false;
    switch (nodeTag(node)) {
    case T_Var:
    case T_Const:
    case T_List:
    case T_OpExpr:
    case T_FuncExpr:
    case T_NullIfExpr:
    case T_DistinctExpr:
    case T_ScalarArrayOpExpr:
    case T_BoolExpr:
    case T_NullTest:
    case T_BooleanTest:
    case T_CoalesceExpr:
    case T_RelabelType:
    case T_ArrayExpr:
        break;
    case T_CoerceToDomain:
        if (DomainHasConstraints(((CoerceToDomain *)node)->resulttype))
            return true;
        break;
    case T_SubscriptingRef:
        if (((SubscriptingRef *)node)->refassgnexpr != NULL ||
            ((SubscriptingRef *)node)->refcontainertype != INT4ARRAYOID)
            return true;
        break;
    default:
        return true;
    }
    if (check_functions_in_node(node, harmful_function, NULL))
        return true;
    return expression_tree_walker(node, harmful, context);
}

/* ---- the sample ----------------------------------------------------------------------------- */

/* Those by id come in order of it, and the first ones would be the oldest. Always the same way. */
static void
shuffle(sample *s)
{
    for (int i = s->n - 1; i > 0; i--) {
        int with = hash_bytes_uint32((uint32)s->ids[i]) % (uint32)(i + 1);
        int64 id = s->ids[i];
        Datum labels = s->labels[i];

        s->ids[i] = s->ids[with];
        s->labels[i] = s->labels[with];
        s->ids[with] = id;
        s->labels[with] = labels;
    }
}

static void
draw(sample *s, int32 metric_id, const fdw_living *living)
{
    Datum value = living != NULL ? PointerGetDatum(living->ids) : Int32GetDatum(metric_id);
    uint64 n = fdw_spi_run(living != NULL ? FDW_STMT_SERIES_BY_ID : FDW_STMT_EST_SAMPLE, &value, 0);
    SPITupleTable *rows = SPI_tuptable;
    const int labels = living != NULL ? 3 : 2;

    *s = (sample){.metric_id = metric_id, .n = (int)n};
    s->all = living != NULL ? living->all : n < SAMPLE_ROWS;
    s->ids = palloc(sizeof(int64) * Max(n, 1));
    s->labels = palloc(sizeof(Datum) * Max(n, 1));
    for (uint64 i = 0; i < n; i++) {
        bool isnull;

        s->ids[i] = DatumGetInt64(SPI_getbinval(rows->vals[i], rows->tupdesc, 1, &isnull));
        s->labels[i] = PointerGetDatum(
            DatumGetArrayTypePCopy(SPI_getbinval(rows->vals[i], rows->tupdesc, labels, &isnull)));
    }
    SPI_freetuptable(rows);
    if (living != NULL)
        shuffle(s);
}

static int32
label_at(Datum labels, int32 position)
{
    ArrayType *array = DatumGetArrayTypeP(labels);

    if (ARR_NDIM(array) != 1 || ARR_HASNULL(array) || position < 1 || position > ARR_DIMS(array)[0])
        return 0;
    return ((int32 *)ARR_DATA_PTR(array))[position - 1];
}

static int
compare_int32(const void *a, const void *b)
{
    int32 x = *(const int32 *)a, y = *(const int32 *)b;

    return (x > y) - (x < y);
}

/* The different ids that the first rows have at a position, as int4[]. */
static Datum
ids_at(const sample *s, int32 position)
{
    int32 *ids = palloc(sizeof(int32) * REGEX_ROWS);
    int n = 0, kept = 0;

    for (int i = 0; i < Min(s->n, REGEX_ROWS); i++) {
        int32 id = label_at(s->labels[i], position);

        if (id != 0)
            ids[n++] = id;
    }
    qsort(ids, n, sizeof(*ids), compare_int32);
    for (int i = 0; i < n; i++) {
        if (kept == 0 || ids[kept - 1] != ids[i])
            ids[kept++] = ids[i];
    }
    return PointerGetDatum(catalog_make_int4_array(ids, kept));
}

/* ---- regular expressions -------------------------------------------------------------------- */

static Datum
int4_array_of_result(uint64 n)
{
    int32 *ids = palloc(sizeof(int32) * Max(n, 1));

    for (uint64 i = 0; i < n; i++)
        ids[i] = DatumGetInt32(catalog_value(i, 1));
    return PointerGetDatum(catalog_make_int4_array(ids, (int)n));
}

/* Of the ids that the sample has for the key those whose value matches. */
static Datum
regex_ids(const sample *s, Datum key, Datum pattern)
{
    ps_digest digest = ps_digest_of(catalog_str(key));
    pg_uuid_t uuid = catalog_uuid(&digest);
    Datum where[3] = {Int32GetDatum(s->metric_id), UUIDPGetDatum(&uuid), key};
    Datum ids;

    if (fdw_spi_run(FDW_STMT_EST_POSITION, where, 1) == 1)
        ids = ids_at(s, DatumGetInt32(catalog_value(0, 1)));
    else
        ids = PointerGetDatum(construct_empty_array(INT4OID));
    SPI_freetuptable(SPI_tuptable);

    Datum values[2] = {ids, pattern};
    uint64 n = fdw_spi_run(FDW_STMT_EST_REGEX, values, 0);
    Datum matching = int4_array_of_result(n);

    SPI_freetuptable(SPI_tuptable);
    return matching;
}

/* The array below what makes it a prom_api.label_array. */
static Node *
bare(Node *labels)
{
    if (IsA(labels, CoerceToDomain))
        labels = (Node *)((CoerceToDomain *)labels)->arg;
    if (IsA(labels, RelabelType))
        labels = (Node *)((RelabelType *)labels)->arg;
    return labels;
}

/* A copy of a qual in which ids stand for regular expressions; NULL arguments stay as they are, for
 * the operator to complain of. */
static Node *
resolve_regex(Node *node, void *context)
{
    sample *s = context;

    if (node == NULL)
        return NULL;
    matcher_kind kind = MATCHER_NONE;
    List *args = NIL;

    if (IsA(node, OpExpr)) {
        kind = matchers_kind(((OpExpr *)node)->opfuncid);
        args = ((OpExpr *)node)->args;
    } else if (IsA(node, FuncExpr)) {
        kind = matchers_kind(((FuncExpr *)node)->funcid);
        args = ((FuncExpr *)node)->args;
    }
    if (kind != MATCHER_REGEX && kind != MATCHER_NOT_REGEX)
        return expression_tree_mutator(node, resolve_regex, context);

    Const *right = lsecond(args);

    if (!IsA(right, Const) || right->constisnull)
        return (Node *)copyObject(node);

    HeapTupleHeader tag = DatumGetHeapTupleHeader(right->constvalue);
    bool no_key, no_pattern;
    Datum key = GetAttributeByNum(tag, 1, &no_key);
    Datum pattern = GetAttributeByNum(tag, 2, &no_pattern);

    if (no_key || no_pattern)
        return (Node *)copyObject(node);
    key = PointerGetDatum(PG_DETOAST_DATUM_PACKED(key));
    s->regex = true;

    Const *ids =
        makeConst(INT4ARRAYOID, -1, InvalidOid, -1, regex_ids(s, key, pattern), false, false);
    Expr *overlap =
        make_opclause(OID_ARRAY_OVERLAP_OP, BOOLOID, false, (Expr *)bare(linitial(args)),
                      (Expr *)ids, InvalidOid, InvalidOid);

    return kind == MATCHER_NOT_REGEX ? (Node *)make_notclause(overlap) : (Node *)overlap;
}

/* ---- trying --------------------------------------------------------------------------------- */

static TupleTableSlot *
series_slot(void)
{
    TupleDesc desc = CreateTemplateTupleDesc(SAMPLES_NATTS);

    TupleDescInitEntry(desc, SAMPLES_METRIC, "metric_id", INT4OID, -1, 0);
    TupleDescInitEntry(desc, SAMPLES_TIME, "time", TIMESTAMPTZOID, -1, 0);
    TupleDescInitEntry(desc, SAMPLES_VALUE, "value", FLOAT8OID, -1, 0);
    TupleDescInitEntry(desc, SAMPLES_SERIES, "series_id", INT8OID, -1, 0);
    TupleDescInitEntry(desc, SAMPLES_LABELS, "labels", INT4ARRAYOID, -1, 0);
    return MakeSingleTupleTableSlot(desc, &TTSOpsVirtual);
}

/* How many of the first n series pass. */
static int
count_passing(const sample *s, int n, List *quals)
{
    EState *estate = CreateExecutorState();
    ExprContext *econtext = GetPerTupleExprContext(estate);
    TupleTableSlot *slot = series_slot();
    ExprState *state = ExecPrepareQual(quals, estate);
    int passing = 0;

    memset(slot->tts_isnull, true, sizeof(bool) * SAMPLES_NATTS);
    slot->tts_isnull[SAMPLES_METRIC - 1] = false;
    slot->tts_isnull[SAMPLES_SERIES - 1] = false;
    slot->tts_isnull[SAMPLES_LABELS - 1] = false;
    econtext->ecxt_scantuple = slot;
    for (int i = 0; i < n; i++) {
        ExecClearTuple(slot);
        slot->tts_values[SAMPLES_METRIC - 1] = Int32GetDatum(s->metric_id);
        slot->tts_values[SAMPLES_SERIES - 1] = Int64GetDatum(s->ids[i]);
        slot->tts_values[SAMPLES_LABELS - 1] = s->labels[i];
        ExecStoreVirtualTuple(slot);
        passing += ExecQual(state, econtext);
        ResetExprContext(econtext);
    }
    ExecDropSingleTupleTableSlot(slot);
    FreeExecutorState(estate);
    return passing;
}

/* ---- counting by index ----------------------------------------------------------------------- */

/* The ids one of which a series must have to pass the qual, as a list of int4[]. */
static List *
needed_ids(Node *qual)
{
    List *args = NIL;
    Oid function = InvalidOid;

    if (IsA(qual, OpExpr)) {
        args = ((OpExpr *)qual)->args;
        function = ((OpExpr *)qual)->opfuncid;
    } else if (IsA(qual, FuncExpr)) {
        args = ((FuncExpr *)qual)->args;
        function = ((FuncExpr *)qual)->funcid;
    }
    if (list_length(args) != 2)
        return NIL;

    Const *right = lsecond(args);

    if (!IsA(right, Const) || right->constisnull)
        return NIL;
    switch (matchers_kind(function)) {
    case MATCHER_EQUAL:
        return matchers_ids_of_tag(right->constvalue);
    case MATCHER_CONTAINS:
        return matchers_ids_of_json(right->constvalue);
    default:
        break;
    }
    if (function == F_ARRAYOVERLAP && exprType((Node *)right) == INT4ARRAYOID)
        return list_make1(DatumGetPointer(right->constvalue)); /* labels ? matcher('{...}') */
    if (function == F_ARRAYCONTAINS && exprType((Node *)right) == INT4ARRAYOID) {
        ArrayType *array = DatumGetArrayTypeP(right->constvalue);
        const int32 *ids = (int32 *)ARR_DATA_PTR(array);
        List *needed = NIL;

        if (ARR_NDIM(array) != 1 || ARR_HASNULL(array))
            return NIL;
        for (int i = 0; i < Min(ARR_DIMS(array)[0], NEEDED); i++)
            needed = lappend(needed, catalog_make_int4_array(&(int32){ids[i]}, 1));
        return needed; /* labels @> matcher('{...}') */
    }
    /* labels[2] = 7, also below NULLIF */
    if (function == F_INT4EQ && pull_var_clause(linitial(args), 0) != NIL)
        return list_make1(catalog_make_int4_array(&(int32){DatumGetInt32(right->constvalue)}, 1));
    return NIL;
}

/* At most how many series pass, by the index on labels; -1 if that cannot be said cheaply. */
static double
count_by_index(const sample *s, List *quals)
{
    Datum values[1 + NEEDED] = {Int32GetDatum(s->metric_id)};
    List *needed = NIL;
    bool isnull;
    ListCell *cell;

    foreach (cell, quals)
        needed = list_concat(needed, needed_ids(lfirst(cell)));
    if (needed == NIL)
        return -1;
    for (int i = 0; i < NEEDED; i++)
        values[1 + i] = PointerGetDatum(list_nth(needed, Min(i, list_length(needed) - 1)));
    if (fdw_spi_cost(FDW_STMT_EST_MATCH, values, NULL) > COUNT_COST)
        return -1;
    fdw_spi_run(FDW_STMT_EST_MATCH, values, 1);

    double n =
        DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));

    SPI_freetuptable(SPI_tuptable);
    return n;
}

/* ---- all of it -------------------------------------------------------------------------------- */

static double
fraction_of(int32 metric_id, double n_series, const fdw_living *living, List *quals)
{
    sample s;
    List *resolved;
    int n, passing;

    draw(&s, metric_id, living);
    if (s.n == 0)
        return 1;
    resolved = (List *)resolve_regex((Node *)quals, &s);
    n = s.regex ? Min(s.n, REGEX_ROWS) : s.n;
    passing = count_passing(&s, n, resolved);
    if (passing >= SURE_HITS || (n == s.n && s.all))
        return (double)passing / n;

    double sampled = (passing + 0.5) / n;
    double counted = count_by_index(&s, quals);

    return counted >= 0 ? Min(counted / Max(n_series, 1), sampled * 3) : sampled;
}

double
fdw_sample_fraction(PlannerInfo *root, int32 metric_id, double n_series, const fdw_living *living,
                    List *quals, List **ret_untried)
{
    List *tried = NIL;
    ListCell *cell;
    MemoryContext outer = CurrentMemoryContext;
    MemoryContext own = AllocSetContextCreate(outer, "promscale estimate", ALLOCSET_DEFAULT_SIZES);
    double fraction = 1;

    *ret_untried = NIL;
    foreach (cell, quals) {
        MemoryContextSwitchTo(own);

        Node *qual = estimate_expression_value(root, lfirst(cell));
        bool left = harmful(qual, NULL);

        if (!left)
            tried = lappend(tried, qual);
        MemoryContextSwitchTo(outer);
        if (left)
            *ret_untried = lappend(*ret_untried, lfirst(cell));
    }
    MemoryContextSwitchTo(own);
    if (tried != NIL)
        fraction = fraction_of(metric_id, n_series, living, tried);
    MemoryContextSwitchTo(outer);
    MemoryContextDelete(own);
    return fraction;
}

double
matchers_try(PlannerInfo *root, int32 metric_id, Oid matcher, Const *right)
{
    Var *labels = makeVar(1, SAMPLES_LABELS, INT4ARRAYOID, -1, InvalidOid, 0);
    FuncExpr *call = makeFuncExpr(matcher, BOOLOID, list_make2(labels, right), InvalidOid,
                                  InvalidOid, COERCE_EXPLICIT_CALL);
    List *untried;
    double fraction;

    fdw_spi_begin(NULL);
    fraction = fdw_sample_fraction(root, metric_id, fdw_series_of_metric(metric_id), NULL,
                                   list_make1(call), &untried);
    fdw_spi_end();
    return untried == NIL ? fraction : -1;
}
