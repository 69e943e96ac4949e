/*
 * fdw_upper_begin.c - makes the node that aggregates from its plan, and shows it in EXPLAIN.
 */
#include "fdw_upper.h"

#include "executor/executor.h"
#include "nodes/nodeFuncs.h"
#include "utils/memutils.h"

/* ---- making the node ---------------------------------------------------------------------- */

typedef struct cursor { /* over fdw_exprs */
    ForeignScanState *node;
    List *exprs;
    int next;
} cursor;

static Expr *
take(cursor *c, ExprState **ret_state)
{
    Expr *expr = list_nth(c->exprs, c->next++);

    *ret_state = ExecInitExpr(expr, &c->node->ss.ps);
    return expr;
}

static void
init_keys(upper_node *u, ForeignScan *plan, cursor *c)
{
    List *members = list_nth(plan->fdw_private, FDW_PRIVATE_KEYS);
    List *equals = list_nth(plan->fdw_private, FDW_PRIVATE_EQUALS);
    int n = list_length(members);
    Oid *ops[2], *types[2], *collations[2];
    int counts[2] = {0};

    for (int i = 0; i < 2; i++) {
        ops[i] = palloc(sizeof(Oid) * Max(n, 1));
        types[i] = palloc(sizeof(Oid) * Max(n, 1));
        collations[i] = palloc(sizeof(Oid) * Max(n, 1));
    }
    u->n_keys = n;
    u->keys = palloc0(sizeof(upper_key) * Max(n, 1));
    u->times.keys = palloc0(sizeof(upper_times_key) * Max(n, 1));
    u->values = palloc0(sizeof(Datum) * Max(n, 1));
    u->nulls = palloc0(sizeof(bool) * Max(n, 1));
    u->times.values = palloc0(sizeof(Datum) * Max(n, 1));
    u->times.nulls = palloc0(sizeof(bool) * Max(n, 1));
    for (int i = 0; i < n; i++) {
        List *member = list_nth(members, i);
        bool of_time = list_nth_int(member, KEY_LEVEL) == UPPER_TIME;
        ExprState *state;
        Expr *expr = take(c, &state);
        int k = counts[of_time]++;

        u->keys[i] = (upper_key){.attno = list_nth_int(member, KEY_ATTNO),
                                 .of_time = of_time,
                                 .expr = state};
        ops[of_time][k] = list_nth_oid(equals, i);
        types[of_time][k] = exprType((Node *)expr);
        collations[of_time][k] = exprCollation((Node *)expr);
        if (!of_time)
            continue;
        u->times.keys[k].expr = state;
        if (list_nth_int(member, KEY_STEADY)) {
            take(c, &u->times.keys[k].call);
            expr = take(c, &u->times.keys[k].width);
            u->times.keys[k].width_type = exprType((Node *)expr);
        }
    }
    u->n_series_keys = counts[0];
    u->n_time_keys = u->times.n_keys = counts[1];
    upper_keys_init(&u->series_keys, counts[0], ops[0], types[0], collations[0], u->context);
    upper_keys_init(&u->times.distinct, counts[1], ops[1], types[1], collations[1], u->context);
    u->times.context = u->context;
}

static bool
row_level(upper_level level)
{
    return level == UPPER_TIME || level == UPPER_ROW;
}

static int
find_input(const upper_node *u, const upper_input *input)
{
    for (int i = 0; i < u->n_inputs; i++) {
        if (u->inputs[i].acc == input->acc && equal(u->inputs[i].filter, input->filter) &&
            equal(u->inputs[i].arg, input->arg))
            return i;
    }
    return u->n_inputs;
}

static void
init_aggs(upper_node *u, ForeignScan *plan, cursor *c)
{
    List *members = list_nth(plan->fdw_private, FDW_PRIVATE_AGGS);
    int n = list_length(members);

    u->n_aggs = n;
    u->agg_funcs = palloc(sizeof(Oid) * Max(n, 1));
    u->agg_attnos = palloc(sizeof(int) * Max(n, 1));
    u->agg_inputs = palloc(sizeof(int) * Max(n, 1));
    u->inputs = palloc0(sizeof(upper_input) * Max(n, 1));
    for (int i = 0; i < n; i++) {
        List *member = list_nth(members, i);
        upper_input input = {0};

        u->agg_funcs[i] = (Oid)list_nth_int(member, AGG_FUNC);
        u->agg_attnos[i] = list_nth_int(member, AGG_ATTNO);
        if (!upper_acc_of(u->agg_funcs[i], &input.acc))
            elog(ERROR, "aggregate %u is none that can be computed here", u->agg_funcs[i]);
        if (list_nth_int(member, AGG_FILTER)) {
            input.filter = take(c, &input.filter_state);
            input.per_sample |= row_level(list_nth_int(member, AGG_FILTER_LEVEL));
        }
        if (list_nth_int(member, AGG_ARG)) {
            input.arg = take(c, &input.arg_state);
            input.per_sample = true;
        }
        u->agg_inputs[i] = find_input(u, &input);
        if (u->agg_inputs[i] == u->n_inputs)
            u->inputs[u->n_inputs++] = input;
    }
}

void
fdw_upper_begin(ForeignScanState *node, int eflags)
{
    ForeignScan *plan = castNode(ForeignScan, node->ss.ps.plan);
    TupleDesc desc = node->ss.ss_ScanTupleSlot->tts_tupleDescriptor;
    fdw_scan *scan = fdw_scan_new(node, desc, eflags);
    MemoryContext old = MemoryContextSwitchTo(scan->context);
    upper_node *u = palloc0(sizeof(*u));
    cursor c = {.node = node, .exprs = plan->fdw_exprs};

    u->scan = scan;
    u->context = AllocSetContextCreate(scan->context, "promscale groups", ALLOCSET_DEFAULT_SIZES);
    u->econtext = scan->econtext;
    u->grouped = fdw_private_int(plan, FDW_PRIVATE_GROUPED) != 0;
    u->out = ExecInitExtraTupleSlot(node->ss.ps.state, desc, &TTSOpsVirtual);
    u->n_row_quals = fdw_private_int(plan, FDW_PRIVATE_ROW);
    c.next = scan->n_conds + scan->n_series_quals;
    if (u->n_row_quals > 0)
        u->row_quals =
            ExecInitQual(list_truncate(list_copy_tail(plan->fdw_exprs, c.next), u->n_row_quals),
                         &node->ss.ps);
    c.next += u->n_row_quals;
    init_keys(u, plan, &c);
    init_aggs(u, plan, &c);
    u->times.econtext = u->econtext;
    u->times.slot = scan->slot;
    u->walk = fdw_private_int(plan, FDW_PRIVATE_WALK);
    if (u->walk != UPPER_ALL)
        u->newest = fdw_newest_new(scan, u->walk == UPPER_NEWEST_ALONE);
    if (u->n_series_keys > 0 && u->n_time_keys > 0)
        u->groups_of_pairs = upper_map_create(u->context, 1024, NULL);
    MemoryContextSwitchTo(old);
    node->fdw_state = u;
}

/* ---- EXPLAIN ------------------------------------------------------------------------------ */

static void
show_columns(ForeignScanState *node, ExplainState *es, const char *label, List *members, int which)
{
    ForeignScan *plan = castNode(ForeignScan, node->ss.ps.plan);
    List *texts = NIL;
    ListCell *cell;

    foreach (cell, members) {
        int attno = list_nth_int(lfirst(cell), which);
        TargetEntry *entry = list_nth(plan->fdw_scan_tlist, attno - 1);

        texts = lappend(texts, fdw_explain_exprs(node, es, (Node *)entry->expr));
    }
    if (texts != NIL)
        ExplainPropertyList(label, texts, es);
}

void
fdw_upper_explain(ForeignScanState *node, ExplainState *es)
{
    ForeignScan *plan = castNode(ForeignScan, node->ss.ps.plan);
    upper_node *u = node->fdw_state;

    if (u == NULL)
        return;
    show_columns(node, es, "Aggregate", list_nth(plan->fdw_private, FDW_PRIVATE_AGGS), AGG_ATTNO);
    show_columns(node, es, "Group Key", list_nth(plan->fdw_private, FDW_PRIVATE_KEYS), KEY_ATTNO);
    if (u->walk != UPPER_ALL)
        ExplainPropertyText("Newest Samples",
                            u->walk == UPPER_NEWEST_ALONE ? "of all series" : "of each series", es);
    fdw_explain_scan(node, u->scan, es);
    fdw_explain_quals(node, es, "Sample Filter", u->scan->n_conds + u->scan->n_series_quals,
                      u->n_row_quals);
    if (es->analyze && u->n_passes > 1)
        ExplainPropertyInteger("Passes", NULL, u->n_passes, es);
}
